"""Neighbour sum, mean and maximum, forward and with gradient.

On a graph of ogbn-arxiv's size at all widths; on a larger one whose rows are far apart in memory;
on three real ones; and in bfloat16. ``benchmarks/graphs.py`` says what the graphs are. Weights are
constants: the gradient is that of x. What each contender prepares before the clock starts is what
a user keeps from step to step; the edges come unsorted. (opt: torch_scatter)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.nn import SimpleConv

from benchmarks import graphs, peer
from benchmarks.entry import Call, Prepared
from benchmarks.passes import PASSES, alone, passes
from graphkit import Graph, as_graph
from graphkit.errors import BackendError, need
from graphkit.ops import cpu, spmm

TITLE = "Neighbour aggregation"
BASELINE = "graphkit"
TESTS = ("tests/ops", "-k", "spmm and (zoo or any_graph or every_width or is_its_reference)")

Reduce = Literal["sum", "mean", "max"]
NAMES = ("graph", "dtype", "reduce", "weighted", "passes", "width")
# what the large cases need at most, in GB
GRAPH_MEMORY = {"rmat": 6, "products": 12}

# torch says this of its CSR and CSC tensors, ours and those inside EdgeIndex
warnings.filterwarnings("ignore", "Sparse (invariant checks|CS[CR] tensor support)", UserWarning)


def tolerance(dtype: str, **_: Any) -> float:
    """Of the largest value: what rounding the output alone costs in bfloat16."""
    return 4e-3 if dtype == "bfloat16" else 1e-5


TOLERANCE = tolerance


def cases(quick: bool) -> list[dict[str, Any]]:
    arxiv = ("arxiv", "float32")
    if quick:
        kinds = [("sum", False), ("mean", False), ("max", False)]
        chosen = [(*arxiv, *kind, PASSES[1], 32) for kind in kinds]
        chosen += [(*arxiv, *kinds[0], PASSES[0], 32)]
        return [dict(zip(NAMES, values, strict=True)) for values in chosen]
    widths = (16, 32, 64, 128, 256)
    chosen = [(*arxiv, "sum", False, p, width) for p in PASSES for width in widths]
    kinds = [("sum", True), ("mean", False)]
    chosen += [(*arxiv, *kind, p, width) for kind in kinds for p in PASSES for width in widths[2:]]
    chosen += [(*arxiv, "max", False, p, width) for p in PASSES for width in widths[2:]]
    for name in graphs.REAL:
        chosen += [(name, "float32", "sum", False, p, w) for p in PASSES for w in widths[2:]]
        reduces = ("mean", "max")
        chosen += [(name, "float32", r, False, p, 128) for r in reduces for p in PASSES]
    chosen += [("rmat", dtype, "sum", False, PASSES[0], 128) for dtype in ("float32", "bfloat16")]
    chosen += [("products", "bfloat16", "sum", False, PASSES[0], 64)]
    return [dict(zip(NAMES, values, strict=True)) for values in chosen]


def entrants(
    graph: str, dtype: str, reduce: str, weighted: bool, passes: str, width: int
) -> list[str]:
    """Who makes a tensor of all messages stays away from large graphs, which it would not fit."""
    if dtype == "bfloat16":
        return ["graphkit", "graphkit, float32"]
    chosen = ["graphkit", "PyG EdgeIndex.matmul", "torch.sparse.mm, CSR", "DGL"]
    if graph == "rmat":
        return [*chosen, "read only, same rows", "graphkit, 1 thread"]
    if graph == "arxiv" and reduce == "sum" and not weighted:
        # what one thread takes, and what memory allows
        chosen += ["graphkit, 1 thread"]
        bounds = ["read only, same rows", "write only, new memory"]
        chosen += bounds if passes == "forward" else []
    if reduce == "max":
        # EdgeIndex has no gradient of it
        chosen.remove("PyG EdgeIndex.matmul")
    return [
        *chosen, "graphkit, from edge_index", "PyG conv, edge_index", "torch_scatter segment_csr"
    ]  # fmt: skip


@dataclass(frozen=True)
class Problem:
    edge_index: Tensor
    x: Tensor
    dy: Tensor | None
    w: Tensor | None
    reduce: Reduce

    @cached_property
    def graph(self) -> Graph:
        return Graph.from_edge_index(self.edge_index, len(self.x), transpose=self.dy is not None)

    def run(self, aggregate: Callable[[Tensor], Tensor]) -> Call:
        return passes(aggregate, [self.x], self.dy)


def problem(
    graph: str, dtype: str, reduce: Reduce, weighted: bool, passes: str, width: int
) -> Problem:
    graphs.spare(GRAPH_MEMORY.get(graph, 0))
    edge_index, num_nodes = graphs.graph(graph)
    generator = torch.Generator().manual_seed(1)
    x, dy = (torch.randn(num_nodes, width, generator=generator) for _ in range(2))
    if reduce == "max":
        x, dy = _apart(x), _where_edges_end(dy, edge_index)
    w = torch.rand(edge_index.size(1), generator=generator) if weighted else None
    kept = dy if "backward" in passes else None
    return Problem(edge_index, x.to(getattr(torch, dtype)), kept, w, reduce)


def _apart(x: Tensor) -> Tensor:
    """``x`` with the ranks in its columns as values, none of them equal or 0: contenders differ in
    who gets the gradient of equals, and PyG pays a share to the 0 it begins with."""
    return (x.argsort(0).float() + 0.25) / len(x) - 0.5


def _where_edges_end(dy: Tensor, edge_index: Tensor) -> Tensor:
    """``dy``, and 0 at nodes without edges, of whose gradient DGL gives all to the first node."""
    return dy * (torch.bincount(edge_index[1], minlength=len(dy)) > 0).unsqueeze(1)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """By SciPy, the maximum by NumPy, in float64."""
    if p.reduce == "max":
        return _largest(p)
    src, dst = p.edge_index.numpy()
    values = np.ones(src.size) if p.w is None else p.w.double().numpy()
    matrix = scipy.sparse.csr_matrix((values, (dst, src)), shape=(len(p.x), len(p.x)))
    if p.reduce == "mean":
        count = np.bincount(dst, minlength=len(p.x)).clip(min=1)
        matrix = scipy.sparse.diags_array(1 / count) @ matrix
    want = [matrix @ p.x.double().numpy()]
    if p.dy is not None:
        want.append(matrix.T @ p.dy.double().numpy())
    return tuple(map(torch.from_numpy, want))


def _largest(p: Problem) -> tuple[Tensor, ...]:
    """One column after the other, in which no two values are equal."""
    src, dst = p.edge_index[:, p.edge_index[1].argsort()].numpy()
    rows, first = np.unique(dst, return_index=True)
    # columns as rows, which are read one after the other
    x, dy = (None if t is None else t.t().double().contiguous().numpy() for t in (p.x, p.dy))
    assert x is not None
    out, dx = np.zeros_like(x), np.zeros_like(x)
    for column, values_of in enumerate(x):
        values = values_of[src]
        out[column, rows] = np.maximum.reduceat(values, first) if src.size else 0
        if dy is not None:
            won = values == out[column][dst]
            dx[column] = np.bincount(src[won], dy[column][dst[won]], minlength=x.shape[1])
    want = (out,) if dy is None else (out, dx)
    return tuple(torch.from_numpy(part).t() for part in want)


def bytes_moved(
    graph: str, dtype: str, reduce: str, weighted: bool, passes: str, width: int
) -> int:
    """A row read for each edge, outputs written once, int32 columns, int64 offsets."""
    num_edges, num_nodes = graphs.counts(graph)
    value = 2 if dtype == "bfloat16" else 4
    edge = value * width + 4 + 4 * weighted
    times = 1 + ("backward" in passes)
    return times * (num_edges * edge + num_nodes * (value * width + 8))


def prebuilt(p: Problem) -> Call:
    graph = p.graph
    return p.run(lambda x: spmm(graph, x, p.w, reduce=p.reduce))


def converting(p: Problem) -> Call:
    size = len(p.x)
    return p.run(lambda x: spmm(as_graph(p.edge_index, size, size), x, p.w, reduce=p.reduce))


def one_thread(p: Problem) -> Call:
    return alone(prebuilt(p))


def single(p: Problem) -> Call:
    """The same values, stored in float32."""
    graph, x = p.graph, p.x.float()
    return passes(lambda x: spmm(graph, x, p.w, reduce=p.reduce), [x], p.dy)


def read_only(p: Problem) -> Prepared:
    """Loads what the sum loads, in its order and with its prefetches; there is nothing to check."""
    touch = getattr(cpu.native.kernels, "touch", None)
    if touch is None:
        raise BackendError("This build of graphkit has no kernel that only reads.")
    side, x, native = p.graph.by_dst, p.x, cpu.native
    rows = native.side(side.indptr, side.indices, side.eid)
    sink = torch.zeros(1, dtype=torch.float64)

    def call() -> tuple[Tensor, ...]:
        touch(rows, x.data_ptr(), x.size(1), sink.data_ptr(), native.threads())
        return ()

    return Prepared(call, want=())


def write_only(p: Problem) -> Prepared:
    """Fills a new tensor of the result's shape: its pages are new in every call, as the result's
    are for every contender; there is nothing to check."""
    return Prepared(lambda: (torch.empty_like(p.x).zero_(),), want=(torch.zeros_like(p.x),))


def pyg_conv(p: Problem) -> Call:
    conv = SimpleConv(aggr=p.reduce)
    return p.run(lambda x: conv(x, p.edge_index, p.w))


def pyg_edge_index(p: Problem) -> Call:
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


def torch_sparse_mm(p: Problem) -> Call:
    """CSR both ways, built once: torch's own gradient would transpose in every call."""
    count = torch.bincount(p.edge_index[1], minlength=len(p.x)).clamp(min=1)
    w = torch.ones(p.edge_index.size(1)) if p.w is None else p.w
    w = w / count[p.edge_index[1]] if p.reduce == "mean" else w
    coo = torch.sparse_coo_tensor(p.edge_index.flip(0), w, (len(p.x), len(p.x)))
    adj = coo.to_sparse_csr()
    if p.reduce == "max":
        return p.run(lambda x: torch.sparse.mm(adj, x, "amax"))
    adj_t = coo.t().to_sparse_csr()
    return p.run(lambda x: _Product.apply(adj, adj_t, x))


def torch_scatter(p: Problem) -> Call:
    """Gather in order of destinations, then segments, whose gradient needs no atomics."""
    need("torch_scatter")
    from torch_scatter import segment_csr  # pyright: ignore[reportMissingImports]

    graph = p.graph.by_dst
    src, ptr = graph.indices.long(), graph.indptr
    w = None
    if p.w is not None:
        w = (p.w if graph.eid is None else p.w[graph.eid]).unsqueeze(1)
    gather = (
        (lambda x: x.index_select(0, src)) if w is None else lambda x: x.index_select(0, src) * w
    )
    return p.run(lambda x: segment_csr(gather(x), ptr, reduce=p.reduce))


def dgl_spmm(p: Problem) -> Prepared:
    """copy_u or u_mul_e, on int32 ids with both of its formats made before."""
    arrays = {"edge_index": p.edge_index, "x": p.x, "dy": p.dy, "w": p.w}
    return peer.prepared("spmm", len(p.x), arrays, reduce=p.reduce)


CONTENDERS = {
    "graphkit": prebuilt,
    "graphkit, from edge_index": converting,
    "graphkit, 1 thread": one_thread,
    "graphkit, float32": single,
    "read only, same rows": read_only,
    "write only, new memory": write_only,
    "PyG conv, edge_index": pyg_conv,
    "PyG EdgeIndex.matmul": pyg_edge_index,
    "torch.sparse.mm, CSR": torch_sparse_mm,
    "torch_scatter segment_csr": torch_scatter,
    "DGL": dgl_spmm,
}
