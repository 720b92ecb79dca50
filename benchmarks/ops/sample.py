"""Neighbourhoods of batches of seeds over two or three hops, uniform without replacement.

A call samples all batches. Chance decides the result, so that an untimed call is judged: its edges
must be edges of the graph, none twice, and every seed must have as many as its degree and the
fan-out allow. DGL and GraphBolt draw anew for a node in every hop: how many edges a call of theirs
has is in ``process``, and ours have the bytes of the formula by 28. ``benchmarks/graphs.py`` says
what the graphs are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import graphs, peer
from benchmarks.entry import Prepared
from graphkit import Graph, ops
from graphkit.errors import need

TITLE = "Neighbour sampling, batches of 1024"
BASELINE = "graphkit, 1 thread"
TESTS = ("tests/ops/test_sample.py",)
TOLERANCE = 1e-9
BATCH = 1024
# enough of them that what a call finds in the caches does not decide
NUM_BATCHES = {"arxiv": 128, "products": 32}
# of one call of many
AT_ONCE = 8
# GB
GRAPH_MEMORY = {"products": 8}


def cases(quick: bool) -> list[dict[str, Any]]:
    names = ("arxiv",) if quick else ("arxiv", "products")
    return [{"graph": g, "fanout": fanout} for g in names for fanout in ("15-10", "10-10-10")]


Edges = tuple[Tensor, Tensor, Tensor]
"""Of one batch: source and destination (nodes of the graph) and number of each sampled edge."""


@dataclass(frozen=True)
class Problem:
    edge_index: Tensor
    num_nodes: int
    fanout: list[int]
    batches: list[Tensor]

    def degrees(self) -> Tensor:
        """How many edges each seed must get."""
        degree = torch.bincount(self.edge_index[1], minlength=self.num_nodes)
        return degree[torch.cat(self.batches)].clamp(max=self.fanout[0]).double()

    def graph(self) -> Graph:
        return Graph.from_edge_index(self.edge_index, self.num_nodes, transpose=False)

    def judged(self, sampled: Iterable[Edges]) -> tuple[Tensor, ...]:
        """What :func:`reference` is where all is well."""
        right, distinct, counts = [], [], []
        for seeds, (src, dst, edge) in zip(self.batches, sampled, strict=True):
            right.append((self.edge_index[:, edge] == torch.stack([src, dst])).all())
            distinct.append(torch.tensor(len(edge.unique()) == len(edge)))
            counts.append(torch.bincount(dst, minlength=self.num_nodes)[seeds])
        return *(torch.stack(part).double() for part in (right, distinct)), torch.cat(counts)


def problem(graph: str, fanout: str) -> Problem:
    graphs.spare(GRAPH_MEMORY.get(graph, 0))
    edge_index, num_nodes = graphs.graph(graph)
    order = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(1))
    batches = list(order[: BATCH * NUM_BATCHES[graph]].split(BATCH))
    return Problem(edge_index, num_nodes, [int(k) for k in fanout.split("-")], batches)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """Every batch's edges right and different, and as many for each seed as there must be."""
    ones = torch.ones(len(p.batches), dtype=torch.float64)
    return ones, ones, p.degrees()


def bytes_moved(graph: str, fanout: str) -> int:
    """Of each sampled edge: column and number read, both and its place in the table written."""
    p = problem(graph, fanout)
    sampler = ops.Sampler(p.graph(), p.fanout)
    return sum(len(edge) for _, _, edge in _sampled(sampler, p, map)) * (4 + 4 + 8 + 4 + 8)


def _sampled(sampler: ops.Sampler, p: Problem, run: Callable[..., Any]) -> Iterable[Edges]:
    for found in run(sampler, p.batches, _keys(p)):
        yield found.n_id[found.row], found.n_id[found.col], found.e_id


def _keys(p: Problem) -> list[ops.Key]:
    return [ops.Key(0, 0, at) for at in range(len(p.batches))]


def _prepared(p: Problem, run: Callable[..., Any], close: Callable[[], None]) -> Prepared:
    sampler, keys = ops.Sampler(p.graph(), p.fanout), _keys(p)

    def edges(seeds: Tensor, key: ops.Key) -> int:
        # a batch is dropped before the next, as when a model has been trained on it
        found = sampler(seeds, key)
        assert isinstance(found, ops.Sampled)
        return len(found.e_id)

    return Prepared(
        lambda: (torch.tensor(list(run(edges, p.batches, keys))),),
        lambda: p.judged(_sampled(sampler, p, run)),
        close=close,
    )


def one_thread(p: Problem) -> Prepared:
    """A call from Python for each batch."""
    return _prepared(p, map, lambda: None)


def many(p: Problem, threads: int | None = None) -> Prepared:
    """Eight batches in a call, by as many threads as torch has, or ``threads``."""

    def groups(sampler: ops.Sampler, batches: list[Tensor], keys: list[ops.Key]) -> Iterable[Any]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        for at in range(0, len(batches), AT_ONCE):
            yield from sampler.many(batches[at : at + AT_ONCE], keys[at : at + AT_ONCE])
        torch.set_num_threads(before)

    sampler, keys = ops.Sampler(p.graph(), p.fanout), _keys(p)
    return Prepared(
        lambda: (torch.tensor([len(found.e_id) for found in groups(sampler, p.batches, keys)]),),
        lambda: p.judged(_sampled(sampler, p, groups)),
    )


def threads(p: Problem) -> Prepared:
    """A call from Python for each batch, from as many threads of Python as torch has."""
    count = torch.get_num_threads()
    pool = ThreadPoolExecutor(count)

    def shared(function: Callable[..., Any], *lists: list[Any]) -> list[Any]:
        # one task for each thread: to hand over every batch would cost as much as sampling it
        def share(first: int) -> list[Any]:
            return list(map(function, *(each[first::count] for each in lists)))

        found: list[Any] = [None] * len(lists[0])
        for first, part in enumerate(pool.map(share, range(count))):
            found[first::count] = part
        return found

    return _prepared(p, shared, pool.shutdown)


def torch_sparse(p: Problem) -> Prepared:
    """What PyG's loaders use without pyg-lib, on its own compressed form; one thread."""
    need("torch_sparse")
    __import__("torch_sparse")
    side = p.graph().by_dst
    ptr, idx = side.indptr, side.indices.long()
    eid = torch.arange(len(idx)) if side.eid is None else side.eid.long()

    def sample(seeds: Tensor) -> tuple[Tensor, ...]:
        return torch.ops.torch_sparse.neighbor_sample(ptr, idx, seeds, p.fanout, False, True)

    def judged() -> tuple[Tensor, ...]:
        drawn = map(sample, p.batches)
        return p.judged((node[row], node[col], eid[slot]) for node, row, col, slot in drawn)

    # PyG's loader looks the edges' numbers up afterwards, which is not timed here
    return Prepared(lambda: (torch.tensor([len(sample(s)[-1]) for s in p.batches]),), judged)


def dgl(p: Problem, op: str = "sample") -> Prepared:
    """NeighborSampler, called without its loader, or GraphBolt's in its loader. With int32 ids and
    two threads DGL 2.1 returns too few edges, so that ids are int64."""
    seeds = torch.cat(p.batches)
    task = {"fanout": p.fanout, "batch": BATCH}
    made = peer.prepared(op, p.num_nodes, {"edge_index": p.edge_index, "seeds": seeds}, **task)
    return Prepared(made.call, made.check, (p.degrees(),), made.seconds, made.about, made.close)


CONTENDERS = {
    "graphkit, 1 thread": one_thread,
    "graphkit": many,
    "graphkit, many, 1 thread": lambda p: many(p, 1),
    "graphkit, Python's threads": threads,
    "torch_sparse neighbor_sample": torch_sparse,
    "DGL": dgl,
    "GraphBolt": lambda p: dgl(p, "graphbolt"),
}
