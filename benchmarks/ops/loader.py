"""Loaders of sampled neighbourhoods as users run them: a loop over all batches, features gathered.

A call is one pass over the seeds. An untimed pass is judged as the samplers of ``sample.py`` are,
and by its rows of features. Worker processes are started before the first pass and stay. What
bounds the contenders: PyG's loop with a sampler that has its results ready; sampling alone, a call
for each batch by one thread or eight batches in a call by two; and the rows of features alone,
written to memory that is there already.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader as PyGNeighborLoader
from torch_geometric.loader import NodeLoader
from torch_geometric.sampler import NodeSamplerInput

from benchmarks import graphs
from benchmarks.entry import Prepared
from graphkit import Graph, ops
from graphkit.data import Batch, Buffers, GraphkitSampler, NeighborLoader, stages
from graphkit.errors import need

TITLE = "Loaders of neighbourhoods, batches of 1024"
BASELINE = "graphkit NeighborLoader"
TESTS = ("tests/data/test_data_loaders.py",)
TOLERANCE = 1e-9
BATCH = 1024
# the call that is checked has started the workers
WARMUP = 1
ROWS_ALONE = "rows of features alone"
# of three hops of a large graph few: PyG takes 0.8 s for each
NUM_BATCHES = {("products", 3): 6}
MANY = 24
# of one call of many
AT_ONCE = 8
# GB
GRAPH_MEMORY = {"products": 10}


def cases(quick: bool) -> list[dict[str, Any]]:
    names = ("arxiv",) if quick else ("arxiv", "products")
    fanouts = ("15-10",) if quick else ("15-10", "10-10-10")
    widths = (0, 128)
    return [
        {"graph": g, "features": n, "fanout": f} for g in names for n in widths for f in fanouts
    ]


def entrants(graph: str, features: int, fanout: str) -> list[str]:
    return [name for name in CONTENDERS if features or name != ROWS_ALONE]


@dataclass(frozen=True)
class Problem:
    data: Data
    fanout: list[int]
    seeds: Tensor

    def options(self) -> dict[str, Any]:
        return {"input_nodes": self.seeds, "batch_size": BATCH}


def problem(graph: str, features: int, fanout: str) -> Problem:
    graphs.spare(GRAPH_MEMORY.get(graph, 0))
    edge_index, num_nodes = graphs.graph(graph)
    random = torch.Generator().manual_seed(1)
    hops = [int(k) for k in fanout.split("-")]
    count = BATCH * NUM_BATCHES.get((graph, len(hops)), MANY)
    seeds = torch.randperm(num_nodes, generator=random)[:count]
    data = Data(edge_index=edge_index, num_nodes=num_nodes)
    if features:
        data.x = torch.randn(num_nodes, features, generator=random)
    return Problem(data, hops, seeds)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """Every batch's edges and features right, and as many for each seed as there must be."""
    degree = torch.bincount(p.data.edge_index[1], minlength=p.data.num_nodes)
    ones = torch.ones(len(p.seeds.split(BATCH)), dtype=torch.float64)
    return ones, ones, degree[p.seeds].clamp(max=p.fanout[0]).double()


def _judged(p: Problem, batches: Iterable[Any]) -> tuple[Tensor, ...]:
    right, features, counts = [], [], []
    for batch in batches:
        ends = batch.n_id[batch.edge_index]
        right.append((p.data.edge_index[:, batch.e_id] == ends).all())
        x = None if p.data.x is None else p.data.x[batch.n_id]
        features.append(torch.tensor(x is None or torch.equal(batch.x, x)))
        degree = torch.bincount(batch.edge_index[1], minlength=batch.num_nodes)
        counts.append(degree[: batch.batch_size])
    return *(torch.stack(part).double() for part in (right, features)), torch.cat(counts)


def _prepared(p: Problem, loader: Any) -> Prepared:
    # a batch is dropped before the next, as when a model has been trained on it
    def run() -> tuple[Tensor, ...]:
        return (torch.tensor([batch.num_edges for batch in loader]),)

    def close() -> None:
        # what persistent workers hang on
        loader._iterator = None

    return Prepared(run, lambda: _judged(p, loader), close=close)


def ours(p: Problem) -> Prepared:
    return _prepared(p, NeighborLoader(p.data, p.fanout, seed=0, **p.options()))


def staged(p: Problem) -> Prepared:
    """Our own loader: blocks instead of an edge_index, made by as many threads as torch has; one
    memory for the rows of all passes."""
    graph = Graph.from_edge_index(p.data.edge_index, p.data.num_nodes, transpose=False)
    sampler, threads, memory = ops.Sampler(graph, p.fanout), torch.get_num_threads(), Buffers()

    def batches() -> Iterator[Batch]:
        made = stages.sample(stages.seeds(p.seeds, BATCH, shuffle=False), sampler)
        made = stages.fetch(made, p.data.x, buffers=memory)
        return stages.prefetch(made, depth=2 * threads, threads=threads)

    def as_pyg() -> Iterator[Data]:
        size = p.data.num_nodes or 0
        code, order = (p.data.edge_index[0] * size + p.data.edge_index[1]).sort()
        for batch in batches():
            assert isinstance(batch.n_id, Tensor) and isinstance(batch.seeds, Tensor)
            edge_index = batch.blocks[0].edge_index()
            src, dst = batch.n_id[edge_index]
            place = torch.searchsorted(code, src * size + dst).clamp(max=len(code) - 1)
            found = Data(batch.x, edge_index, n_id=batch.n_id, e_id=order[place])
            found.num_nodes, found.batch_size = len(batch.n_id), len(batch.seeds)
            yield found

    return Prepared(
        lambda: (torch.tensor([batch.blocks[0].num_edges for batch in batches()]),),
        lambda: _judged(p, as_pyg()),
    )


def node_loader(p: Problem) -> Prepared:
    """PyG's own loop, with only the sampler exchanged."""
    sampler = GraphkitSampler(p.data, p.fanout, seed=0)
    return _prepared(p, NodeLoader(p.data, sampler, **p.options()))


def _drawn(p: Problem) -> tuple[Any, list[Any]]:
    """A sampler, and what it draws for the batches of a pass."""
    sampler = GraphkitSampler(p.data, p.fanout, seed=0)
    parts = torch.arange(len(p.seeds)).split(BATCH)
    return sampler, [
        sampler.sample_from_nodes(NodeSamplerInput(at, p.seeds[at], None)) for at in parts
    ]


def python_alone(p: Problem) -> Prepared:
    """PyG's own loop, with a sampler that has drawn every batch before."""
    sampler, drawn = _drawn(p)
    sampler.sample_from_nodes = lambda index: drawn[int(index.input_id[0]) // BATCH]
    return _prepared(p, NodeLoader(p.data, sampler, **p.options()))


def sampled_alone(at_once: int) -> Callable[[Problem], Prepared]:
    """Neighbourhoods alone: a call for each batch by one thread, or of several by all threads."""

    def prepare(p: Problem) -> Prepared:
        graph = Graph.from_edge_index(p.data.edge_index, p.data.num_nodes, transpose=False)
        sampler, parts = ops.Sampler(graph, p.fanout), list(p.seeds.split(BATCH))
        keys = [ops.Key(0, 0, at) for at in range(len(parts))]

        def drawn() -> Iterator[Any]:
            for at in range(0, len(parts), at_once):
                yield from sampler.many(parts[at : at + at_once], keys[at : at + at_once])

        def judged() -> Iterator[Data]:
            for found, seeds in zip(drawn(), parts, strict=True):
                edge_index = torch.stack([found.row, found.col])
                x = None if p.data.x is None else p.data.x[found.n_id]
                batch = Data(x, edge_index, n_id=found.n_id, e_id=found.e_id)
                batch.num_nodes, batch.batch_size = len(found.n_id), len(seeds)
                yield batch

        return Prepared(
            lambda: (torch.tensor([len(found.e_id) for found in drawn()]),),
            lambda: _judged(p, judged()),
        )

    return prepare


def rows_alone(p: Problem) -> Prepared:
    """The features of every batch's nodes, by our gather; the nodes are drawn before."""
    nodes, x = [found.node for found in _drawn(p)[1]], p.data.x
    assert x is not None
    memory = torch.zeros(max(map(len, nodes)), x.size(1))

    def rows(n_id: Tensor) -> Tensor:
        return ops.take_rows(x, n_id, memory[: len(n_id)])

    def judged() -> tuple[Tensor, ...]:
        right = [torch.equal(rows(n_id), x[n_id]) for n_id in nodes]
        return torch.ones(len(right)), torch.tensor(right).double(), reference(p)[2]

    return Prepared(lambda: (torch.tensor([len(rows(n_id)) for n_id in nodes]),), judged)


def pyg(workers: int) -> Callable[[Problem], Prepared]:
    """PyG's loader on torch_sparse, as it is without pyg-lib."""

    def prepare(p: Problem) -> Prepared:
        need("torch_sparse")
        options = p.options() | {"num_workers": workers, "persistent_workers": workers > 0}
        with warnings.catch_warnings():
            # it would rather have pyg-lib, which is not to be had everywhere
            warnings.simplefilter("ignore")
            loader = PyGNeighborLoader(p.data, p.fanout, **options)
        return _prepared(p, loader)

    return prepare


CONTENDERS = {
    "graphkit NeighborLoader": ours,
    "graphkit stages": staged,
    "PyG NodeLoader, our sampler": node_loader,
    "PyG NodeLoader, sampled before": python_alone,
    "sampling alone, 1 thread": sampled_alone(1),
    "sampling alone": sampled_alone(AT_ONCE),
    ROWS_ALONE: rows_alone,
    "PyG NeighborLoader, 0 workers": pyg(0),
    "PyG NeighborLoader, 1 workers": pyg(1),
    "PyG NeighborLoader, 2 workers": pyg(2),
}
