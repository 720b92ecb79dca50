"""The softmax of scores over the edges that arrive at each node, forward and with gradient.

Four heads. Who keeps edges sorted gets the scores sorted; all outputs are compared in the caller's
edge order. ``benchmarks/graphs.py`` says what the graphs are. (opt: torch_scatter)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import softmax

from benchmarks import graphs
from benchmarks.entry import Call, Prepared
from benchmarks.passes import PASSES, alone, passes
from graphkit import Graph
from graphkit.errors import need
from graphkit.graph import Csr
from graphkit.ops import segment_softmax

TITLE = "Softmax over incoming edges, float32"
BASELINE = "graphkit"
TESTS = ("tests/ops", "-k", "softmax")
TOLERANCE = 1e-5


def cases(quick: bool) -> list[dict[str, Any]]:
    chosen = [(name, p, 4) for name in ("arxiv", *graphs.REAL) for p in PASSES]
    names = ("graph", "passes", "heads")
    return [dict(zip(names, values, strict=True)) for values in chosen[: 2 if quick else None]]


@dataclass(frozen=True)
class Problem:
    side: Csr
    index: Tensor
    scores: Tensor
    dy: Tensor | None

    def sorted(self, function: Callable[[Tensor], Tensor]) -> Prepared:
        """The call of ``function`` on scores sorted by destination, checked unsorted."""
        order = self.order()
        dy = None if self.dy is None else self.dy[order]
        call = passes(function, [self.scores[order]], dy)
        back = torch.empty_like(order).index_copy(0, order, torch.arange(len(order)))
        return Prepared(call, lambda: tuple(value[back] for value in call()))

    def order(self) -> Tensor:
        """The caller's edge number of each slot."""
        eid = self.side.eid
        return torch.arange(self.side.num_edges) if eid is None else eid.long()


def problem(graph: str, passes: str, heads: int) -> Problem:
    edge_index, num_nodes = graphs.graph(graph)
    side = Graph.from_edge_index(edge_index, num_nodes, transpose=False).by_dst
    generator = torch.Generator().manual_seed(1)
    size = (edge_index.size(1), heads)
    scores, dy = (torch.randn(size, generator=generator) for _ in range(2))
    return Problem(side, edge_index[1], scores, dy if "backward" in passes else None)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """By sums of NumPy over sorted edges, in float64; the scores are small enough to raise to e."""
    order, ptr = p.order().numpy(), p.side.indptr.numpy()
    length = np.diff(ptr)
    first = ptr[:-1][length > 0]

    def spread(values: np.ndarray) -> np.ndarray:
        """The sum over each row, in each of its slots."""
        return np.repeat(np.add.reduceat(values, first), length[length > 0], axis=0)

    term = np.exp(p.scores.double().numpy()[order])
    y = term / spread(term)
    found = [y]
    if p.dy is not None:
        dy = p.dy.double().numpy()[order]
        found.append(y * (dy - spread(y * dy)))
    want = [np.empty_like(values) for values in found]
    for unsorted, values in zip(want, found, strict=True):
        unsorted[order] = values
    return tuple(map(torch.from_numpy, want))


def bytes_moved(graph: str, passes: str, heads: int) -> int:
    """Scores read, results written; backward two values read for one that is written."""
    num_edges, num_nodes = graphs.counts(graph)
    return num_edges * heads * 4 * (5 if "backward" in passes else 2) + num_nodes * 8


def unsorted(p: Problem) -> Call:
    return passes(lambda scores: segment_softmax(scores, p.side), [p.scores], p.dy)


def by_ptr(p: Problem) -> Prepared:
    return p.sorted(lambda scores: segment_softmax(scores, p.side.indptr))


def pyg_index(p: Problem) -> Call:
    nodes = p.side.num_rows
    return passes(lambda scores: softmax(scores, p.index, num_nodes=nodes), [p.scores], p.dy)


def pyg_ptr(p: Problem) -> Prepared:
    ptr = p.side.indptr
    return p.sorted(lambda scores: softmax(scores, ptr=ptr))


def torch_scatter(p: Problem) -> Call:
    need("torch_scatter")
    from torch_scatter import scatter_softmax  # pyright: ignore[reportMissingImports]

    nodes = p.side.num_rows
    return passes(
        lambda scores: scatter_softmax(scores, p.index, dim=0, dim_size=nodes), [p.scores], p.dy
    )


CONTENDERS = {
    "graphkit": unsorted,
    "graphkit, 1 thread": lambda p: alone(unsorted(p)),
    "graphkit, sorted edges": by_ptr,
    "PyG softmax, index": pyg_index,
    "PyG softmax, ptr, sorted edges": pyg_ptr,
    "torch_scatter scatter_softmax": torch_scatter,
}
