"""Neighbour sum and mean on a random graph of ogbn-arxiv's size, forward and with gradient.

The graph is Chung-Lu's: 169,343 nodes, exactly 1,166,243 different directed edges without loops,
in random order. Expected degrees fall as powers: of the in-degrees (citations) with exponent 2.5,
up to about 9,000; of the out-degrees (references) slowly, up to about 400. Nodes have no locality.
Weights are constants: the gradient is that of x. What each contender prepares before the clock
starts is what a user keeps from step to step; the edges come unsorted. (opt: torch_scatter)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.nn import SimpleConv

from graphkit import Graph, as_graph
from graphkit.errors import need
from graphkit.ops import spmm

TITLE = "Neighbour aggregation, Chung-Lu graph of ogbn-arxiv's size, float32"
BASELINE = "graphkit"
TESTS = ("tests/ops/test_ops.py", "-k", "spmm")
TOLERANCE = 1e-5

PASSES = ("forward", "forward+backward")
NUM_NODES, NUM_EDGES = 169_343, 1_166_243
Run = Callable[[], tuple[Tensor, ...]]
Reduce = Literal["sum", "mean"]

# torch says this of its CSR and CSC tensors, ours and those inside EdgeIndex
warnings.filterwarnings("ignore", "Sparse (invariant checks|CS[CR] tensor support)", UserWarning)


def cases(quick: bool) -> list[dict[str, Any]]:
    sums = [("sum", weighted, passes) for weighted in (False, True) for passes in PASSES]
    kinds = [*sums, *(("mean", False, passes) for passes in PASSES)]
    if quick:
        kinds = [kind for kind in kinds if kind == kinds[0] or kind[2] == PASSES[1]]
    names = ("reduce", "weighted", "passes", "width")
    widths = (32,) if quick else (16, 32, 64, 128, 256)
    return [dict(zip(names, (*kind, width), strict=True)) for kind in kinds for width in widths]


@lru_cache(maxsize=1)
def chung_lu(num_nodes: int, num_edges: int) -> Tensor:
    """``edge_index [2, num_edges]``: distinct edges, ends drawn in proportion to their weights."""
    random = np.random.default_rng(0)
    rank = np.arange(num_nodes) + 0.5
    ends = [np.cumsum(random.permutation(rank**-power)) for power in (0.35, 2 / 3)]
    keys = np.empty(0, dtype=np.int64)
    while keys.size < num_edges:
        points = random.random((2, num_edges - keys.size))
        draws = [np.searchsorted(c, u * c[-1], "right") for c, u in zip(ends, points, strict=True)]
        src, dst = (np.minimum(draw, num_nodes - 1) for draw in draws)
        # sorted by hand: np.unique hashes, which takes ten times as long here
        keys = np.sort(np.append(keys, (src * num_nodes + dst)[src != dst]))
        keys = keys[np.diff(keys, prepend=-1) > 0]
    keys = random.permutation(keys)
    return torch.from_numpy(np.stack([keys // num_nodes, keys % num_nodes]))


@dataclass(frozen=True)
class Problem:
    edge_index: Tensor
    x: Tensor
    dy: Tensor
    w: Tensor | None
    reduce: Reduce
    backward: bool

    def run(self, aggregate: Callable[[Tensor], Tensor]) -> Run:
        """A call that returns the output and, where asked for, the gradient of x."""

        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return (aggregate(self.x),)

        def both() -> tuple[Tensor, ...]:
            x = self.x.detach().requires_grad_()
            out = aggregate(x)
            return out.detach(), *torch.autograd.grad(out, x, self.dy)

        return both if self.backward else forward


def problem(reduce: Reduce, weighted: bool, passes: str, width: int) -> Problem:
    edge_index = chung_lu(NUM_NODES, NUM_EDGES)
    generator = torch.Generator().manual_seed(1)
    x, dy = (torch.randn(NUM_NODES, width, generator=generator) for _ in range(2))
    w = torch.rand(NUM_EDGES, generator=generator) if weighted else None
    return Problem(edge_index, x, dy, w, reduce, "backward" in passes)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """By SciPy, in float64."""
    src, dst = p.edge_index.numpy()
    values = np.ones(src.size) if p.w is None else p.w.double().numpy()
    matrix = scipy.sparse.csr_matrix((values, (dst, src)), shape=(len(p.x), len(p.x)))
    if p.reduce == "mean":
        count = np.bincount(dst, minlength=len(p.x)).clip(min=1)
        matrix = scipy.sparse.diags_array(1 / count) @ matrix
    want = [matrix @ p.x.double().numpy()]
    if p.backward:
        want.append(matrix.T @ p.dy.double().numpy())
    return tuple(map(torch.from_numpy, want))


def bytes_moved(reduce: Reduce, weighted: bool, passes: str, width: int) -> int:
    """A row read for each edge, outputs written once, int32 columns, int64 offsets."""
    edge = 4 * width + 4 + 4 * weighted
    return (1 + ("backward" in passes)) * (NUM_EDGES * edge + NUM_NODES * (4 * width + 8))


def prebuilt(p: Problem) -> Run:
    graph = Graph.from_edge_index(p.edge_index, len(p.x))
    return p.run(lambda x: spmm(graph, x, p.w, reduce=p.reduce))


def converting(p: Problem) -> Run:
    size = len(p.x)
    return p.run(lambda x: spmm(as_graph(p.edge_index, size, size), x, p.w, reduce=p.reduce))


def pyg_conv(p: Problem) -> Run:
    conv = SimpleConv(aggr=p.reduce)
    return p.run(lambda x: conv(x, p.edge_index, p.w))


def pyg_edge_index(p: Problem) -> Run:
    """Its fused product on sorted edges, caches filled; propagate() would not use it."""
    # EdgeIndex takes Tensor's place by __new__, which the type checker does not follow
    make: Any = EdgeIndex
    adj, perm = make(p.edge_index, sparse_size=(len(p.x), len(p.x))).sort_by("col")
    adj.fill_cache_()
    w = None if p.w is None else p.w[perm]
    return p.run(lambda x: adj.matmul(x, w, reduce=p.reduce, transpose=True))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj: Tensor, adj_t: Tensor, x: Tensor) -> Tensor:
        ctx.adj_t = adj_t
        return torch.sparse.mm(adj, x, "sum")

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> Any:
        return None, None, torch.sparse.mm(ctx.adj_t, dy[0], "sum")


def torch_sparse_mm(p: Problem) -> Run:
    """CSR both ways, built once: torch's own gradient would transpose in every call."""
    count = torch.bincount(p.edge_index[1], minlength=len(p.x)).clamp(min=1)
    w = torch.ones(p.edge_index.size(1)) if p.w is None else p.w
    w = w / count[p.edge_index[1]] if p.reduce == "mean" else w
    coo = torch.sparse_coo_tensor(p.edge_index.flip(0), w, (len(p.x), len(p.x)))
    adj, adj_t = coo.to_sparse_csr(), coo.t().to_sparse_csr()
    return p.run(lambda x: _Product.apply(adj, adj_t, x))


def torch_scatter(p: Problem) -> Run:
    """Gather in order of destinations, then segments, whose gradient needs no atomics."""
    need("torch_scatter")
    from torch_scatter import segment_csr  # pyright: ignore[reportMissingImports]

    graph = Graph.from_edge_index(p.edge_index, len(p.x)).by_dst
    src, ptr = graph.indices.long(), graph.indptr
    w = None if p.w is None else p.w[graph.eid].unsqueeze(1)
    gather = (
        (lambda x: x.index_select(0, src)) if w is None else lambda x: x.index_select(0, src) * w
    )
    return p.run(lambda x: segment_csr(gather(x), ptr, reduce=p.reduce))


CONTENDERS = {
    "graphkit": prebuilt,
    "graphkit, from edge_index": converting,
    "PyG conv, edge_index": pyg_conv,
    "PyG EdgeIndex.matmul": pyg_edge_index,
    "torch.sparse.mm, CSR": torch_sparse_mm,
    "torch_scatter segment_csr": torch_scatter,
}
