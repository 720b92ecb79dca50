"""The dot product of both ends of every edge, forward and with gradient.

Outputs are compared in the caller's edge order; a contender that keeps its edges sorted returns
them sorted, as its user would keep them. ``benchmarks/graphs.py`` says what the graphs are.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import scipy.sparse
import torch
from torch import Tensor

from benchmarks import graphs
from benchmarks.entry import Call, Prepared
from benchmarks.passes import PASSES, alone, passes
from graphkit import Graph
from graphkit.ops import sddmm

TITLE = "Dot products on edges, float32"
BASELINE = "graphkit"
TESTS = ("tests/ops", "-k", "sddmm")
TOLERANCE = 1e-5

# torch says this of its CSR tensors
warnings.filterwarnings("ignore", "Sparse (invariant checks|CSR tensor support)", UserWarning)


def cases(quick: bool) -> list[dict[str, Any]]:
    chosen = [("arxiv", p, width) for p in PASSES for width in ((128,) if quick else (64, 128))]
    if not quick:
        chosen += [(name, p, 128) for name in graphs.REAL for p in PASSES]
    names = ("graph", "passes", "width")
    return [dict(zip(names, values, strict=True)) for values in chosen]


def entrants(passes: str, **_: Any) -> list[str]:
    """torch's sampled product has no gradient that can be had without a dense matrix."""
    return [name for name in CONTENDERS if "sampled" not in name or passes == PASSES[0]]


@dataclass(frozen=True)
class Problem:
    edge_index: Tensor
    a: Tensor
    b: Tensor
    dy: Tensor | None


def problem(graph: str, passes: str, width: int) -> Problem:
    edge_index, num_nodes = graphs.graph(graph)
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(num_nodes, width, generator=generator) for _ in range(2))
    dy = torch.randn(edge_index.size(1), generator=generator)
    return Problem(edge_index, a, b, dy if "backward" in passes else None)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """By torch in float64, a part of the edges at a time; gradients by SciPy."""
    src, dst = p.edge_index
    a, b = p.a.double(), p.b.double()
    parts = zip(src.split(100_000), dst.split(100_000), strict=True)
    out = torch.cat([(a[i] * b[j]).sum(1) for j, i in parts])
    if p.dy is None:
        return (out,)
    values = (p.dy.double().numpy(), (dst.numpy(), src.numpy()))
    matrix = scipy.sparse.csr_matrix(values, shape=(len(a), len(b)))
    return out, torch.from_numpy(matrix @ b.numpy()), torch.from_numpy(matrix.T @ a.numpy())


def bytes_moved(graph: str, passes: str, width: int) -> int:
    """Forward a row of b for each edge, a row of a for each node; backward one sum to each side."""
    num_edges, num_nodes = graphs.counts(graph)
    row = 4 * width
    forward = num_edges * (row + 8) + num_nodes * (row + 8)
    backward = 2 * (num_edges * (row + 8) + num_nodes * (row + 8))
    return forward + ("backward" in passes) * backward


def prebuilt(p: Problem) -> Call:
    graph = Graph.from_edge_index(p.edge_index, len(p.a), transpose=p.dy is not None)
    return passes(lambda a, b: sddmm(graph, a, b), [p.a, p.b], p.dy)


def gathered(p: Problem) -> Call:
    """Both rows of every edge, then their product summed up."""
    src, dst = p.edge_index
    return passes(
        lambda a, b: (a.index_select(0, dst) * b.index_select(0, src)).sum(1), [p.a, p.b], p.dy
    )


def sampled(p: Problem) -> Prepared:
    """On a CSR matrix that was built before; its results come in the order of that matrix."""
    side = Graph.from_edge_index(p.edge_index, len(p.a), transpose=False).by_dst
    zeros, eid = torch.zeros(side.num_edges), side.eid
    size = (len(p.a), len(p.b))
    # both kinds of index must be of one dtype
    mask = torch.sparse_csr_tensor(side.indptr, side.indices.long(), zeros, size)
    b_t = p.b.t()

    def call() -> tuple[Tensor, ...]:
        return (torch.sparse.sampled_addmm(mask, p.a, b_t, beta=0.0).values(),)

    def check() -> tuple[Tensor, ...]:
        (out,) = call()
        return (out if eid is None else torch.empty_like(out).index_copy(0, eid.long(), out),)

    return Prepared(call, check)


CONTENDERS = {
    "graphkit": prebuilt,
    "graphkit, 1 thread": lambda p: alone(prebuilt(p)),
    "torch sampled_addmm, CSR": sampled,
    "torch gather, multiply, sum": gathered,
}
