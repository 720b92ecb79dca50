"""Random walks from many nodes: uniform, and node2vec's with p = 0.5 and q = 2.

The graph is made symmetric. Chance decides the result, so that an untimed call is judged: every
step must be an edge, and the nodes that walks reach must be as a whole where chance would have
them: the mean degree after the first step. ``benchmarks/graphs.py`` says what the graphs are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import graphs
from benchmarks.entry import Prepared
from graphkit import Graph, ops

TITLE = "Random walks"
BASELINE = "graphkit"
TESTS = ("tests/ops/test_walk.py",)
TOLERANCE = 0.02
NUM_WALKS, LENGTH = 100_000, 20
# GB
GRAPH_MEMORY = {"products": 12}


def cases(quick: bool) -> list[dict[str, Any]]:
    names = ("arxiv",) if quick else ("arxiv", "products")
    return [{"graph": name, "walk": walk} for name in names for walk in ("uniform", "node2vec")]


@dataclass(frozen=True)
class Problem:
    """``edge_index`` holds both directions of every edge once."""

    edge_index: Tensor
    num_nodes: int
    start: Tensor
    p: float
    q: float

    def degree(self) -> Tensor:
        return torch.bincount(self.edge_index[0], minlength=self.num_nodes).double()

    def judged(self, nodes: Tensor) -> tuple[Tensor, ...]:
        """What :func:`reference` is where all is well."""
        order = torch.sort(self.edge_index[0] * self.num_nodes + self.edge_index[1]).values
        steps = (nodes[:, :-1] * self.num_nodes + nodes[:, 1:]).flatten()
        place = torch.searchsorted(order, steps).clamp_(max=len(order) - 1)
        stayed = (nodes[:, :-1] == nodes[:, 1:]).flatten() & (
            self.degree()[nodes[:, :-1].flatten()] == 0
        )
        right = ((order[place] == steps) | stayed).double().mean()
        return right, self.degree().log1p()[nodes[:, 1]].mean()


def problem(graph: str, walk: str) -> Problem:
    graphs.spare(GRAPH_MEMORY.get(graph, 0))
    edge_index, num_nodes = graphs.graph(graph)
    src, dst = torch.cat([edge_index, edge_index.flip(0)], 1)
    keys = torch.unique(src * num_nodes + dst)
    start = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(1))
    start = start.repeat(NUM_WALKS // num_nodes + 1)[:NUM_WALKS]
    p, q = (1.0, 1.0) if walk == "uniform" else (0.5, 2.0)
    return Problem(torch.stack([keys // num_nodes, keys % num_nodes]), num_nodes, start, p, q)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """Every step an edge, and the mean over neighbours of the logarithm of their degree."""
    degree = p.degree()
    sums = torch.zeros(p.num_nodes).double()
    sums.index_add_(0, p.edge_index[0], degree.log1p()[p.edge_index[1]])
    return torch.ones((), dtype=torch.float64), torch.where(
        degree > 0, sums / degree.clamp(min=1), 0
    )[p.start].mean()


def bytes_moved(graph: str, walk: str) -> int:
    """Of each step: two offsets and a column read, a node written."""
    return NUM_WALKS * LENGTH * (16 + 4 + 8)


def _prepared(p: Problem, call: Callable[[], Tensor]) -> Prepared:
    return Prepared(lambda: (call()[:, -1],), lambda: p.judged(call()))


def ours(p: Problem) -> Prepared:
    """A prepared Walker on as many threads as torch has."""
    walker = ops.Walker(Graph.from_edge_index(p.edge_index, p.num_nodes), p=p.p, q=p.q)
    return _prepared(p, lambda: walker(p.start, LENGTH, (0, 0, 0)))


def one_thread(p: Problem) -> Prepared:
    made, count = ours(p), torch.get_num_threads()

    def call() -> tuple[Tensor, ...]:
        torch.set_num_threads(1)
        try:
            return made.call()
        finally:
            torch.set_num_threads(count)

    return Prepared(call, made.check)


def in_numpy(p: Problem) -> Prepared:
    """All walks step by step in numpy, on sorted edges; a step that is refused is drawn again."""
    src, dst = (end.numpy() for end in p.edge_index)
    keys = src * p.num_nodes + dst
    ptr = np.searchsorted(src, np.arange(p.num_nodes + 1))
    start = p.start.numpy()
    top = max(1 / p.p, 1.0, 1 / p.q)

    def draw(random: np.random.Generator, at: Any) -> Any:
        size = ptr[at + 1] - ptr[at]
        slot = ptr[at] + (random.random(len(at)) * size).astype(np.int64)
        return np.where(size > 0, dst[np.minimum(slot, len(dst) - 1)], at)

    def call() -> Tensor:
        random = np.random.default_rng(0)
        nodes = np.empty((len(start), LENGTH + 1), np.int64)
        nodes[:, 0] = start
        for step in range(LENGTH):
            at = nodes[:, step]
            to = draw(random, at)
            left = np.flatnonzero(ptr[at + 1] > ptr[at]) if p.p != 1 and step else []
            while len(left):
                last, drawn = nodes[left, step - 1], to[left]
                wanted = drawn * p.num_nodes + last
                place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
                bias = np.where(keys[place] == wanted, 1.0, 1 / p.q)
                bias = np.where(drawn == last, 1 / p.p, bias)
                left = left[random.random(len(left)) * top >= bias]
                to[left] = draw(random, at[left])
            nodes[:, step + 1] = to
        return torch.from_numpy(nodes)

    return _prepared(p, call)


CONTENDERS = {"graphkit": ours, "graphkit, 1 thread": one_thread, "numpy": in_numpy}
