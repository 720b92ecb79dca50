"""Common neighbours of many pairs of nodes: their number, their score, their names.

The graph is made symmetric. Half of the pairs are edges of it, half are drawn, as when a predictor
of links is trained. ``benchmarks/graphs.py`` says what the graphs are. (opt: torch_sparse)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from benchmarks import graphs
from benchmarks.entry import Call
from benchmarks.passes import alone
from graphkit import Graph, ops
from graphkit.errors import need

TITLE = "Common neighbours of pairs"
BASELINE = "graphkit"
TESTS = ("tests/ops", "-k", "intersect or common_neighbors")
TOLERANCE = 1e-5
NUM_PAIRS = 65_536


def cases(quick: bool) -> list[dict[str, Any]]:
    chosen = [("arxiv", found) for found in ("count", "adamic_adar", "nodes")]
    if not quick:
        chosen += [(name, found) for name in graphs.REAL for _, found in chosen[:3]]
    return [{"graph": name, "found": found, "pairs": NUM_PAIRS} for name, found in chosen]


@dataclass(frozen=True)
class Problem:
    """``edge_index`` holds both directions of every edge once, and no loops."""

    edge_index: Tensor
    num_nodes: int
    pairs: Tensor
    found: str

    def matrix(self, dtype: type) -> scipy.sparse.csr_array:
        src, dst = self.edge_index.numpy()
        shape = (self.num_nodes, self.num_nodes)
        made = scipy.sparse.csr_array((np.ones(src.size, dtype), (dst, src)), shape=shape)
        made.sort_indices()
        return made

    def weights(self) -> Tensor:
        """1 / log of the degree, float64."""
        degree = torch.bincount(self.edge_index[1], minlength=self.num_nodes)
        return torch.where(degree > 1, degree.double().log().reciprocal(), 0)


def problem(graph: str, found: str, pairs: int) -> Problem:
    edge_index, num_nodes = graphs.graph(graph)
    keys = torch.cat([edge_index[0] * num_nodes + edge_index[1], edge_index[1] * num_nodes])
    keys[edge_index.size(1) :] += edge_index[0]
    keys = torch.unique(keys)
    both = torch.stack([keys // num_nodes, keys % num_nodes])
    both = both[:, both[0] != both[1]]
    random = torch.Generator().manual_seed(1)
    half = torch.randint(both.size(1), (pairs // 2,), generator=random)
    drawn = torch.randint(num_nodes, (2, pairs - pairs // 2), generator=random)
    chosen = torch.cat([both[:, half], drawn], dim=1)
    mixed = chosen[:, torch.randperm(pairs, generator=random)].contiguous()
    order = torch.randperm(both.size(1), generator=random)
    return Problem(both[:, order].contiguous(), num_nodes, mixed, found)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """Pair by pair by NumPy's intersection of sorted lists, in float64."""
    matrix, weights = p.matrix(np.float64), p.weights().numpy()
    ptr, idx = matrix.indptr, matrix.indices
    lists = [
        np.intersect1d(idx[ptr[u] : ptr[u + 1]], idx[ptr[v] : ptr[v + 1]], assume_unique=True)
        for u, v in p.pairs.t().tolist()
    ]
    count = torch.tensor([len(nodes) for nodes in lists], dtype=torch.float64)
    if p.found == "count":
        return (count,)
    if p.found == "adamic_adar":
        return (torch.tensor([weights[nodes].sum() for nodes in lists]),)
    return count, torch.from_numpy(np.concatenate(lists)).double()


def bytes_moved(graph: str, found: str, pairs: int) -> int:
    """The lists of both ends of every pair, int32."""
    p = problem(graph, found, pairs)
    degree = torch.bincount(p.edge_index[1], minlength=p.num_nodes)
    return 4 * int(degree[p.pairs].sum())


def prebuilt(p: Problem) -> Call:
    """On edges sorted by both ends, as a loader of links would keep them."""
    key = p.edge_index[1] * p.num_nodes + p.edge_index[0]
    graph = Graph.from_edge_index(p.edge_index[:, key.argsort()], p.num_nodes, transpose=False)
    found: Any = p.found
    if found != "nodes":
        return lambda: (ops.common_neighbors(graph, p.pairs, found),)

    def nodes() -> tuple[Tensor, ...]:
        common = ops.intersect(graph, p.pairs, transpose=False)
        assert isinstance(common, Graph)
        return common.by_dst.degree(), common.by_dst.indices

    return nodes


def scipy_product(p: Problem) -> Call:
    """The elementwise product of two selections of rows, ids of int32."""
    matrix = p.matrix(np.float32)
    u, v = p.pairs.numpy()
    weights = p.weights().numpy()

    def call() -> tuple[Tensor, ...]:
        both = matrix[u].multiply(matrix[v])
        if p.found == "count":
            return (torch.from_numpy(np.asarray(both.sum(axis=1)).ravel()),)
        if p.found == "adamic_adar":
            return (torch.from_numpy(both @ weights),)
        return torch.from_numpy(np.diff(both.indptr)), torch.from_numpy(both.indices)

    return call


def _searched(p: Problem) -> Callable[[], tuple[Tensor, Tensor]]:
    """A call for pair and node of every common neighbour."""
    size = p.num_nodes
    keys = (p.edge_index[1] * size + p.edge_index[0]).sort().values
    column = keys % size
    ptr = torch.searchsorted(keys, torch.arange(size + 1) * size)
    degree = ptr.diff()

    def call() -> tuple[Tensor, Tensor]:
        # the shorter list of each pair is looked up in the longer one
        short = degree[p.pairs].argmin(0)
        u, v = p.pairs.gather(0, torch.stack([short, 1 - short]))
        length = degree[u]
        pair = torch.repeat_interleave(torch.arange(len(u)), length)
        slot = torch.arange(len(pair)) + (ptr[u] - length.cumsum(0) + length)[pair]
        node = column[slot]
        wanted = v[pair] * size + node
        place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        hit = keys[place] == wanted
        return pair[hit], node[hit]

    return call


def torch_search(p: Problem) -> Call:
    """Every neighbour of the end with fewer, searched for among the sorted keys of all edges."""
    search, weights, count = _searched(p), p.weights().float(), p.pairs.size(1)

    def call() -> tuple[Tensor, ...]:
        pair, node = search()
        if p.found == "adamic_adar":
            return (torch.zeros(count).index_add_(0, pair, weights[node]),)
        number = torch.bincount(pair, minlength=count)
        return (number,) if p.found == "count" else (number, node)

    return call


def torch_sparse_search(p: Problem) -> Call:
    """As NCN's authors do it: the rows of both ends selected from a SparseTensor, their entries
    numbered by pair and node, and the shorter list of numbers searched for in the longer one."""
    need("torch_sparse")
    from torch_sparse import SparseTensor  # pyright: ignore[reportMissingImports]

    size, count, weights = p.num_nodes, p.pairs.size(1), p.weights().float()
    adj: Any = SparseTensor(row=p.edge_index[1], col=p.edge_index[0], sparse_sizes=(size, size))
    adj.storage.rowptr()

    def keys(nodes: Tensor) -> Tensor:
        pair, node, _ = adj[nodes].coo()
        return pair * size + node

    def call() -> tuple[Tensor, ...]:
        few, many = sorted((keys(p.pairs[0]), keys(p.pairs[1])), key=len)
        place = torch.searchsorted(many, few).clamp_(max=len(many) - 1)
        found = few[many[place] == few]
        pair, node = torch.div(found, size, rounding_mode="floor"), found % size
        if p.found == "adamic_adar":
            return (torch.zeros(count).index_add_(0, pair, weights[node]),)
        number = torch.bincount(pair, minlength=count)
        return (number,) if p.found == "count" else (number, node)

    return call


CONTENDERS = {
    "graphkit": prebuilt,
    "graphkit, 1 thread": lambda p: alone(prebuilt(p)),
    "scipy, rows multiplied": scipy_product,
    "torch searchsorted": torch_search,
    "torch_sparse, NCN's search": torch_sparse_search,
}
