"""GraphSAINT, Cluster-GCN and shaDow batches: what is in them, their weights, the same ones."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import GCNConv, global_mean_pool

from graphkit import ConfigError, Graph, GraphError, ops
from graphkit.data import (
    ClusterData,
    ClusterLoader,
    GraphSAINTEdgeSampler,
    GraphSAINTNodeSampler,
    GraphSAINTRandomWalkSampler,
    GraphSAINTSampler,
    ShaDowKHopSampler,
    subgraphs,
)
from graphkit.errors import StoreError
from graphkit.testing import graphs


def small(num_nodes: int = 60, num_edges: int = 400, seed: int = 0) -> Data:
    random = torch.Generator().manual_seed(seed)
    return Data(
        x=torch.randn(num_nodes, 8, generator=random),
        edge_index=torch.randint(num_nodes, (2, num_edges), generator=random),
        edge_attr=torch.arange(num_edges, dtype=torch.float32).unsqueeze(1),
        y=torch.arange(num_nodes),
        train_mask=torch.arange(num_nodes) % 2 == 0,
        name="a graph",
        num_nodes=num_nodes,
    )


def node_sampler(data: Data, budget: int = 20, **options: Any) -> GraphSAINTSampler:
    return GraphSAINTNodeSampler(data, budget, **options)


def edge_sampler(data: Data, budget: int = 12, **options: Any) -> GraphSAINTSampler:
    return GraphSAINTEdgeSampler(data, budget, **options)


def walk_sampler(data: Data, budget: int = 8, **options: Any) -> GraphSAINTSampler:
    return GraphSAINTRandomWalkSampler(data, budget, 3, **options)


Saint = Callable[..., GraphSAINTSampler]
SAINTS: list[Saint] = [node_sampler, edge_sampler, walk_sampler]
each_saint = pytest.mark.parametrize("saint", SAINTS, ids=lambda f: f.__name__)


def cluster_loader(data: Data, **options: Any) -> ClusterLoader:
    return ClusterLoader(ClusterData(data, 7, log=False), batch_size=2, **options)


def shadow(data: Data, **options: Any) -> ShaDowKHopSampler:
    return ShaDowKHopSampler(data, 2, 3, batch_size=9, **options)


def saint_loader(data: Data, **options: Any) -> GraphSAINTSampler:
    options.pop("shuffle", None)
    return walk_sampler(data, num_steps=5, sample_coverage=3, log=False, **options)


LOADERS: list[Callable[..., Any]] = [saint_loader, cluster_loader, shadow]
each_loader = pytest.mark.parametrize("make", LOADERS, ids=lambda f: f.__name__)


def check_subgraph(data: Data, batch: Any) -> None:
    """Its nodes once, all edges among them, and what belongs to both."""
    assert len(batch.n_id.unique()) == len(batch.n_id) == batch.num_nodes
    inside = torch.isin(data.edge_index, batch.n_id).all(0).nonzero().flatten()
    assert torch.equal(batch.e_id.sort().values, inside)
    check_rows(data, batch)
    assert torch.equal(batch.y, data.y[batch.n_id])


def check_rows(data: Data, batch: Any) -> None:
    assert torch.equal(batch.n_id[batch.edge_index], data.edge_index[:, batch.e_id])
    assert torch.equal(batch.x, data.x[batch.n_id])
    assert torch.equal(batch.edge_attr, data.edge_attr[batch.e_id])
    assert torch.equal(batch.train_mask, data.train_mask[batch.n_id])
    assert batch.name == "a graph"
    # by destination
    assert (batch.edge_index[1].diff() >= 0).all()


# -- induced subgraphs -----------------------------------------------------------------------------


@settings(max_examples=60)
@given(graphs(bipartite=False), st.sets(st.integers(0, 7)))
def test_induced_subgraphs_are_dense_slices(graph: Graph, chosen: set[int]) -> None:
    """What all batches here are cut with: a sampler of no hop that takes all edges among seeds."""
    nodes = torch.tensor(sorted(n for n in chosen if n < graph.num_dst), dtype=torch.int64)
    found = ops.Sampler(graph, [0], subgraph_type="induced")(nodes)
    assert isinstance(found, ops.Sampled)
    src, dst = graph.edge_index()
    dense = torch.zeros(graph.num_dst, graph.num_dst).index_put_(
        (dst, src), torch.ones(len(src)), accumulate=True
    )
    mine = torch.zeros(len(nodes), len(nodes)).index_put_(
        (found.col, found.row), torch.ones(len(found.row)), accumulate=True
    )
    assert torch.equal(found.n_id, nodes) and torch.equal(mine, dense[nodes][:, nodes])
    assert torch.equal(nodes[found.row], src[found.e_id])
    assert torch.equal(nodes[found.col], dst[found.e_id])


# -- GraphSAINT ------------------------------------------------------------------------------------


@each_saint
def test_saint_batches(saint: Saint) -> None:
    data = small()
    loader = saint(data, num_steps=4, sample_coverage=5, log=False, seed=1)
    batches: list[Any] = list(loader)
    assert len(batches) == len(loader) == 4
    for batch in batches:
        check_subgraph(data, batch)
        assert (batch.n_id.diff() > 0).all()
        assert torch.equal(batch.node_norm, loader.node_norm[batch.n_id])
        assert torch.equal(batch.edge_norm, loader.edge_norm[batch.e_id])
        assert batch.node_norm.dtype == batch.edge_norm.dtype == torch.float32
    assert not torch.equal(batches[0].n_id, batches[1].n_id)
    plain: Any = next(iter(saint(data, seed=1)))
    assert "node_norm" not in plain and "edge_norm" not in plain


def uneven() -> Data:
    """Hubs, an isolated node, loops, parallel edges and edges in both directions."""
    ends = [(0, j) for j in range(1, 6)] + [(j, 0) for j in range(1, 4)]
    ends += [(6, 7), (6, 7), (7, 6), (8, 8), (8, 9), (9, 10), (5, 10), (10, 4), (2, 3)]
    return Data(edge_index=torch.tensor(ends).t().contiguous(), num_nodes=12)


KEYS, OF_A_KEY = 1000, 100
DRAWS = KEYS * OF_A_KEY


def drawn(loader: GraphSAINTSampler) -> tuple[Tensor, Tensor]:
    """Which nodes and edges each of many subgraphs has, ``[DRAWS, N]`` and ``[DRAWS, E]``.

    The draws of a budget are the first ones of a larger budget, so that a key's draws of a large
    one are those of many subgraphs. A subgraph has the edges among its nodes.
    """
    wide = copy.copy(loader)
    wide.budget = OF_A_KEY * loader.budget
    nodes = torch.zeros(DRAWS, loader.graph.num_dst, dtype=torch.float64)
    each = torch.arange(OF_A_KEY)
    for at in range(KEYS):
        key = ops.Key(3, 0, at)
        mine, found = loader.sample_nodes(key), wide.sample_nodes(key)
        # of edges the sources come first, of walks all nodes of the first one
        sides = 2 if isinstance(loader, GraphSAINTEdgeSampler) else 1
        found = found.view(sides, OF_A_KEY, -1)
        assert torch.equal(found[:, 0].flatten(), mine)
        row = (at * OF_A_KEY + each).view(1, -1, 1).expand_as(found)
        nodes[row.flatten(), found.flatten()] = 1
    src, dst = loader.graph.edge_index()
    return nodes, nodes[:, src] * nodes[:, dst]


def within_4_sigma(counts: Tensor, share: Tensor) -> bool:
    # where next to nothing or next to all is drawn the deviation is no measure
    deviation = (share * (1 - share) / DRAWS).sqrt() + 0.25 / DRAWS
    return bool(((counts - share).abs() <= 4 * deviation).all())


@pytest.mark.parametrize("saint", [node_sampler, edge_sampler], ids=lambda f: f.__name__)
@pytest.mark.parametrize("budget", [1, 4])
def test_exact_probabilities_are_those_of_the_draws(saint: Saint, budget: int) -> None:
    loader = saint(uneven(), budget)
    node, edge = loader.probabilities()
    assert node.dtype == edge.dtype == torch.float64
    nodes, edges = drawn(loader)
    assert within_4_sigma(nodes.mean(0), node) and within_4_sigma(edges.mean(0), edge)
    # nothing comes up that cannot, and what must does
    assert (nodes[:, node == 0] == 0).all() and float(node[11]) == 0


def test_an_edge_that_is_all_there_is() -> None:
    for saint in (node_sampler, edge_sampler):
        node, edge = saint(
            Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2), 3
        ).probabilities()
        want = [1.0, 0.0] if saint is node_sampler else [1.0, 1.0]
        assert node.tolist() == want and edge.tolist() == [want[1]]
        node, edge = saint(
            Data(edge_index=torch.tensor([[0], [0]]), num_nodes=1), 3
        ).probabilities()
        assert node.tolist() == edge.tolist() == [1.0]


def test_edges_are_drawn_by_the_degrees_of_their_ends() -> None:
    path = Data(edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=4)
    node, edge = GraphSAINTEdgeSampler(path, 1).probabilities()
    # 1 / 1 + 1 / 2, and 1 / 2 + 1 / 2
    assert edge.tolist() == pytest.approx([1.5 / 4, 1 / 4, 1.5 / 4])
    assert node.tolist() == pytest.approx([1.5 / 4, 2.5 / 4, 2.5 / 4, 1.5 / 4])


def test_a_node_that_all_edges_touch() -> None:
    """Its probability is 1: sums of rounded shares may be more, which has no logarithm."""
    for count in (9, 11, 100):
        ends = torch.stack([torch.zeros(count, dtype=torch.int64), torch.arange(count) + 1])
        data = Data(edge_index=ends, num_nodes=count + 1)
        node, edge = GraphSAINTEdgeSampler(data, 3).probabilities()
        want = 1 - (1 - 1 / count) ** 3
        assert float(node[0]) == 1.0
        assert node[1:].tolist() == edge.tolist() == pytest.approx([want] * count)


def chances(data: Data, budget: int, length: int) -> tuple[Tensor, Tensor]:
    """Of walks from uniform nodes: the exact probabilities of each node and each edge.

    A walk that avoids some nodes is one of the chain that ends in them.
    """
    count = data.num_nodes or 0
    src, dst = data.edge_index
    step = torch.zeros(count, count, dtype=torch.float64)
    step.index_put_((src, dst), torch.ones(len(src)).double(), accumulate=True)
    # who cannot go on stays
    step += torch.diag((step.sum(1) == 0).double())
    step /= step.sum(1, keepdim=True)

    def neither(*ends: int) -> float:
        free = torch.ones(count, dtype=torch.float64)
        free[list(ends)] = 0
        present = free / count
        for _ in range(length):
            present = present @ step * free
        return float(present.sum()) ** budget

    node = torch.tensor([1 - neither(at) for at in range(count)], dtype=torch.float64)
    both = [
        node[u] + node[v] - (1 - neither(u, v))
        for u, v in zip(src.tolist(), dst.tolist(), strict=True)
    ]
    return node, torch.stack(both)


@pytest.mark.parametrize("budget", [1, 4])
def test_walks_visit_with_their_exact_probabilities(budget: int) -> None:
    node, edge = chances(uneven(), budget, 3)
    nodes, edges = drawn(walk_sampler(uneven(), budget))
    assert within_4_sigma(nodes.mean(0), node) and within_4_sigma(edges.mean(0), edge)


@pytest.mark.parametrize(
    ("saint", "coverage"),
    [(node_sampler, "exact"), (edge_sampler, "exact"), *((saint, 1500) for saint in SAINTS)],
)
def test_norms_leave_no_bias(saint: Saint, coverage: Any) -> None:
    """Of the loss, and of what arrives at each node."""
    data = small(14, 70)
    loader = saint(data, 5, sample_coverage=coverage, log=False)
    nodes, edges = drawn(loader)
    reachable = nodes.any(0)
    assert int(reachable.sum()) >= 13
    # estimates are off as the mean of as many subgraphs as they are of
    of_norms = 0.0 if coverage == "exact" else float(nodes.sum(1).mean()) / (coverage * 14)
    share = (1 / DRAWS + of_norms) ** 0.5
    random = torch.Generator().manual_seed(5)
    loss = torch.rand(14, generator=random).double()
    sums = (nodes * torch.where(reachable, loader.node_norm, 0).double()) @ loss
    mean = float(loss[reachable].sum() / 14)
    assert abs(float(sums.mean()) - mean) < 4 * float(sums.std()) * share
    x = torch.randn(14, generator=random).double()
    src, dst = data.edge_index
    messages = edges * torch.where(loader.edge_norm.isfinite(), loader.edge_norm, 0) * x[src]
    arrived = torch.zeros(DRAWS, 14).double().index_add_(1, dst, messages)
    whole = torch.zeros(14).double().index_add_(0, dst, x[src])
    # given that the node itself is there
    error = arrived - nodes * whole
    assert (error.mean(0).abs() <= 4 * error.std(0) * share + 1e-12).all()


@each_saint
def test_estimated_norms(saint: Saint) -> None:
    data = small(14, 70)
    loader = saint(data, 5, sample_coverage=1000, log=False)
    nodes, edges = drawn(loader)
    for norm, want in (
        (1 / (14 * loader.node_norm.double()), nodes.mean(0)),
        (nodes.mean(0)[data.edge_index[1]] / loader.edge_norm.double(), edges.mean(0)),
    ):
        # both are estimates, the norms from some 2,000 subgraphs
        deviation = (want * (1 - want) * (1 / DRAWS + 1 / 1500)).sqrt()
        assert ((norm - want).abs() <= 5 * deviation + 1e-3).all()
    assert (loader.edge_norm >= 1).all()


@each_saint
def test_what_never_came_up_counts_as_once(saint: Saint) -> None:
    data = uneven()
    loader = saint(data, 1, sample_coverage=1, log=False)
    assert loader.node_norm.isfinite().all() and loader.edge_norm.isfinite().all()
    # the isolated node, of 64 subgraphs or a multiple
    if saint is not walk_sampler:
        rounds = float(loader.node_norm[11]) * 12 / 64
        assert rounds >= 0.99 and rounds == pytest.approx(round(rounds), abs=1e-4)


def test_norms_do_not_depend_on_seed_or_threads() -> None:
    before = torch.get_num_threads()
    found = []
    for threads, seed in ((1, 0), (3, 5)):
        torch.set_num_threads(threads)
        found.append(walk_sampler(small(), sample_coverage=4, seed=seed, log=False))
    torch.set_num_threads(before)
    assert torch.equal(found[0].node_norm, found[1].node_norm)
    assert torch.equal(found[0].edge_norm, found[1].edge_norm)


def test_norms_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(data: Data, budget: int = 8, coverage: int = 4) -> GraphSAINTSampler:
        return walk_sampler(
            data, budget, sample_coverage=coverage, save_dir=tmp_path / "norms", log=False
        )

    first = make(small())
    (file,) = (tmp_path / "norms").iterdir()
    assert file.name == "graphsaintrandomwalksampler.safetensors"
    calls: list[int] = []
    estimate = GraphSAINTSampler._estimate
    monkeypatch.setattr(
        GraphSAINTSampler, "_estimate", lambda *args: (calls.append(1), estimate(*args))[1]
    )
    again = make(small())
    assert not calls and torch.equal(again.node_norm, first.node_norm)
    assert torch.equal(again.edge_norm, first.edge_norm)
    # another graph, budget or coverage is another estimate
    for count, args in enumerate(((small(seed=1),), (small(), 9), (small(), 8, 5)), 1):
        make(*args)
        assert len(calls) == count
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(StoreError, match="safetensors"):
        make(small())


def test_an_estimate_shows_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphkit.data.progress.SHOW_AFTER", 0.0)
    monkeypatch.setattr("graphkit.data.progress.LINE_EVERY", 0.0)
    walk_sampler(small(), sample_coverage=20)
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == (
        "GraphSAINTRandomWalkSampler: estimating norms: 1,200 of 1,200 nodes (100%)"
    )
    walk_sampler(small(), sample_coverage=20, log=False)
    assert capsys.readouterr().err == ""
    # on a terminal a bar that counts
    monkeypatch.setattr("graphkit.data.progress.STEP_EVERY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    walk_sampler(small(), sample_coverage=20)
    assert "/1200" in capsys.readouterr().err


def test_training_on_saint_batches() -> None:
    """As in PyG's example: messages and loss carry the norms."""
    data = small()
    conv = GCNConv(8, 2, normalize=False)
    loader = walk_sampler(data, sample_coverage=10, num_steps=3, log=False, seed=0)
    for batch in loader:
        out = conv(batch.x, batch.edge_index, batch.edge_norm)
        loss = torch.nn.functional.cross_entropy(out, batch.y % 2, reduction="none")
        (loss * batch.node_norm)[batch.train_mask].sum().backward()
    assert conv.lin.weight.grad is not None and conv.lin.weight.grad.isfinite().all()


def test_a_sampler_must_say_what_it_draws() -> None:
    class Hub(GraphSAINTSampler):
        def sample_nodes(self, key: ops.Key) -> Tensor:
            return torch.tensor([7, 3, 7])

    data = small()
    for batch in Hub(data, 3, num_steps=2, sample_coverage=1, log=False):
        check_subgraph(data, batch)
        assert batch.n_id.tolist() == [3, 7]
    with pytest.raises(ConfigError, match="GraphSAINTSampler: it does not say which nodes"):
        next(iter(GraphSAINTSampler(data, 3)))


# -- Cluster-GCN -----------------------------------------------------------------------------------


def test_parts_hold_every_node_once() -> None:
    data = small()
    parts = ClusterData(data, 7, log=False)
    assert len(parts) == 7 and repr(parts) == "ClusterData(7)"
    for part in parts:
        check_subgraph(data, part)
    nodes = torch.cat([parts[at].n_id for at in range(7)])
    assert torch.equal(nodes, parts.partition.node_perm)
    assert torch.equal(nodes.sort().values, torch.arange(60))
    assert torch.equal(parts[-1].n_id, parts[6].n_id)
    assert parts.partition.partptr.tolist()[-1] == 60


def test_batches_of_parts_have_the_edges_among_them() -> None:
    data = small()
    parts = ClusterData(data, 7, recursive=True, log=False)
    batches: list[Any] = list(ClusterLoader(parts, batch_size=3))
    assert len(batches) == 3
    for at, batch in enumerate(batches):
        check_subgraph(data, batch)
        own = [parts[part].n_id for part in range(3 * at, min(3 * at + 3, 7))]
        assert torch.equal(batch.n_id, torch.cat(own))


def test_more_parts_than_nodes() -> None:
    parts = ClusterData(small(5, 12), 8, log=False)
    assert [part.num_nodes for part in parts] == [1] * 5 + [0] * 3
    batches: list[Any] = list(ClusterLoader(parts, batch_size=8))
    assert batches[0].num_nodes == 5 and batches[0].num_edges == 12


def test_parts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small()
    first = ClusterData(data, 4, save_dir=tmp_path, log=False)
    assert (tmp_path / "part_4" / "metis.safetensors").is_file()
    calls: list[int] = []

    def other(graph: Graph, num_parts: int, **options: Any) -> Tensor:
        calls.append(num_parts)
        return torch.arange(graph.num_dst) % num_parts

    monkeypatch.setattr(subgraphs, "partition", other)
    again = ClusterData(data, 4, save_dir=tmp_path, log=False)
    assert not calls and torch.equal(again.partition.node_perm, first.partition.node_perm)
    ClusterData(small(seed=1), 4, save_dir=tmp_path, log=False)
    ClusterData(data, 4, recursive=True, save_dir=tmp_path, filename="mine", log=False)
    assert calls == [4, 4] and (tmp_path / "part_4_recursive" / "mine").is_file()
    with pytest.raises(StoreError, match="part_4_recursive.mine.* cannot be written"):
        ClusterData(data, 4, save_dir=tmp_path / "part_4_recursive" / "mine", log=False)
    assert calls == [4, 4]


# -- shaDow ----------------------------------------------------------------------------------------


def ball(data: Data, root: int, depth: int) -> set[int]:
    """The nodes with a path to the root of so many edges at most."""
    found = {root}
    src, dst = data.edge_index.tolist()
    for _ in range(depth):
        found |= {a for a, b in zip(src, dst, strict=True) if b in found}
    return found


@pytest.mark.parametrize("neighbors", [2, -1])
def test_shadow_batches(neighbors: int) -> None:
    data = small(60, 150)
    roots = torch.tensor([5, 0, 5, 59])
    loader = ShaDowKHopSampler(data, 2, neighbors, roots, batch_size=3, seed=0)
    batches: list[Any] = list(loader)
    assert [len(batch.root_n_id) for batch in batches] == [3, 1] and len(loader) == 2
    for batch, mine in zip(batches, (roots[:3], roots[3:]), strict=True):
        check_rows(data, batch)
        assert torch.equal(batch.n_id[batch.root_n_id], mine)
        assert torch.equal(batch.y, data.y[mine]) and torch.equal(batch.root_n_id, batch.ptr[:-1])
        assert torch.equal(torch.bincount(batch.batch), batch.ptr.diff())
        assert (batch.batch.diff() >= 0).all()
        # no edge leaves its subgraph, which has all edges among its nodes
        assert torch.equal(*batch.batch[batch.edge_index])
        for at, root in enumerate(mine.tolist()):
            nodes = batch.n_id[batch.batch == at]
            inside = torch.isin(data.edge_index, nodes).all(0).nonzero().flatten()
            edges = batch.e_id[batch.batch[batch.edge_index[0]] == at]
            assert torch.equal(edges.sort().values, inside)
            assert len(nodes.unique()) == len(nodes)
            around = ball(data, root, 2)
            assert set(nodes.tolist()) <= around and len(nodes) <= 1 + 2 + 4 or neighbors == -1
            assert neighbors == 2 or set(nodes.tolist()) == around


def test_shadow_reads_out_its_roots() -> None:
    data = small()
    loader = ShaDowKHopSampler(data, 2, 4, data.train_mask, batch_size=10, shuffle=True)
    assert torch.equal(loader.node_idx, torch.arange(0, 60, 2))
    conv, seen = GCNConv(8, 60), torch.zeros(0, dtype=torch.int64)
    for batch in loader:
        out = conv(batch.x, batch.edge_index)
        out = out[batch.root_n_id] + global_mean_pool(out, batch.batch)
        torch.nn.functional.cross_entropy(out, batch.y).backward()
        seen = torch.cat([seen, batch.y])
    assert torch.equal(seen.sort().values, loader.node_idx)


@each_loader
def test_ids_of_a_larger_graph_are_kept(make: Callable[..., Any]) -> None:
    """As PyG does with those that the data has: where a graph was cut from another."""
    data = small()
    plain: list[Any] = list(make(data, seed=0))
    data.n_id, data.e_id = torch.arange(60) * 3 + 1, torch.arange(400) * 2
    batches: list[Any] = list(make(data, seed=0))
    for batch, other in zip(batches, plain, strict=True):
        assert torch.equal(batch.n_id, other.n_id * 3 + 1)
        assert torch.equal(batch.e_id, other.e_id * 2)
        assert torch.equal(batch.edge_index, other.edge_index)
        assert "node_norm" not in batch or torch.equal(batch.node_norm, other.node_norm)
        assert "edge_norm" not in batch or torch.equal(batch.edge_norm, other.edge_norm)


# -- the same batches ------------------------------------------------------------------------------


def same(a: list[Any], b: list[Any]) -> bool:
    names = ("n_id", "e_id", "edge_index", "x", "y")
    return len(a) == len(b) and all(
        torch.equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in names
    )


@each_loader
def test_batches_are_a_function_of_seed_and_epoch(make: Callable[..., Any]) -> None:
    data = small()
    loader = make(data, seed=3, shuffle=True)
    first, second = list(loader), list(loader)
    assert not same(first, second) and loader.epoch == 2
    again = make(data, seed=3, shuffle=True)
    assert same(first, list(again)) and same(second, list(again))
    # the epoch of a run that goes on, and passes that overlap
    again.epoch = 0
    one, other = iter(again), iter(again)
    pairs = [(next(one), next(other)) for _ in first]
    assert same([a for a, _ in pairs], first) and same([b for _, b in pairs], second)
    assert not same(first, list(make(data, seed=4, shuffle=True)))
    torch.manual_seed(0)
    drawn = make(data, shuffle=True)
    torch.manual_seed(0)
    assert drawn.seed == make(data).seed and drawn.seed != make(data).seed


@each_loader
def test_batches_are_the_same_with_workers(make: Callable[..., Any]) -> None:
    data = small()
    loader = make(data, seed=3, shuffle=True, num_workers=2)
    alone = make(data, seed=3, shuffle=True)
    for _ in range(2):
        assert same(list(loader), list(alone))


@each_loader
def test_loaders_can_be_pickled(make: Callable[..., Any]) -> None:
    loader = make(small(), seed=3)
    assert same(list(pickle.loads(pickle.dumps(loader))), list(loader))


def test_an_order_of_the_users_own() -> None:
    data = small()
    parts = ClusterData(data, 7, log=False)
    loader = ClusterLoader(parts, batch_size=2, sampler=[6, 2, 4], seed=0)
    batches: list[Any] = list(loader)
    assert torch.equal(batches[0].n_id, torch.cat([parts[6].n_id, parts[2].n_id]))
    assert torch.equal(batches[1].n_id, parts[4].n_id)
    order = {tuple(batch.n_id.tolist()) for batch in ClusterLoader(parts, shuffle=True, seed=1)}
    assert order == {tuple(part.n_id.tolist()) for part in parts}


# -- bad input -------------------------------------------------------------------------------------

EDGELESS = Data(x=torch.ones(3, 1), edge_index=torch.empty(2, 0, dtype=torch.int64))


def with_norm() -> Data:
    data = small()
    data.node_norm = torch.ones(60)
    return data


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: node_sampler(HeteroData()), GraphError, "data is a HeteroData, but a torch_geom"),
    (lambda: edge_sampler(Data(x=torch.ones(3, 1))), GraphError, "has no edge_index"),
    (lambda: walk_sampler(EDGELESS), GraphError, "RandomWalkSampler: the graph has no edges"),
    (lambda: node_sampler(Data(edge_index=torch.tensor([[0], [9]]), num_nodes=3)), GraphError,
     "= 9, but the graph has 3"),
    (lambda: node_sampler(with_norm()), GraphError, "has a node_norm already"),
    (lambda: node_sampler(small(), 0), ConfigError, "NodeSampler: batch_size is 0, but a whole"),
    (lambda: edge_sampler(small(), -5), ConfigError, "batch_size is -5"),
    (lambda: edge_sampler(small(), 2.5), ConfigError, "batch_size is 2.5"),
    (lambda: GraphSAINTRandomWalkSampler(small(), 5, 0), ConfigError, "walk_length is 0"),
    (lambda: node_sampler(small(), num_steps=0), ConfigError, "num_steps is 0"),
    (lambda: node_sampler(small(), sample_coverage=-1), ConfigError, "sample_coverage is -1"),
    (lambda: node_sampler(small(), sample_coverage="all"), ConfigError, "sample_coverage is 'all'"),
    (lambda: walk_sampler(small(), sample_coverage="exact"), ConfigError, "there is no formula"),
    (lambda: node_sampler(small(), seed=-1), ConfigError, "the seed of key is -1"),
    (lambda: node_sampler(small(), persistent_workers=True), ConfigError, "persistent_workers"),
    (lambda: ClusterData(EDGELESS, 0), ConfigError, "num_parts is 0"),
    (lambda: ClusterData(Data(x=torch.ones(3, 1)), 2), GraphError, "ClusterData: the data has no"),
    (lambda: ClusterData(small(), 2, keep_inter_cluster_edges=True), ConfigError, "ClusterLoader"),
    (lambda: ClusterData(small(), 2, log=False)[2], IndexError, "no part 2 of 2"),
    (lambda: ClusterLoader(small()), ConfigError, "but graphkit.data.ClusterData is expected"),
    (lambda: ShaDowKHopSampler(small(), 0, 3), ConfigError, "depth is 0"),
    (lambda: ShaDowKHopSampler(small(), 2, -2), ConfigError, "= -2, but a number of neighbours"),
    (lambda: ShaDowKHopSampler(small(), 2, 3, torch.tensor([60])), GraphError,
     r"node_idx\[0\] = 60, but there are 60 nodes"),
    (lambda: ShaDowKHopSampler(small(), 2, 3, torch.ones(59).bool()), GraphError,
     r"a mask of shape \[59\], but \[60\]"),
    (lambda: ShaDowKHopSampler(small(), 2, 3, torch.ones(3)), GraphError, "node_idx has dtype"),
    (lambda: ShaDowKHopSampler(small(), 2, 3, shuffle=True, sampler=[0]), ValueError, "sampler"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_graph_without_edges_in_parts_and_trees() -> None:
    parts = ClusterData(EDGELESS, 2, log=False)
    assert sorted(part.num_nodes for part in parts) == [1, 2]
    batch: Any = next(iter(ShaDowKHopSampler(EDGELESS, 2, 3, batch_size=3)))
    assert batch.num_nodes == 3 and batch.num_edges == 0 and batch.ptr.tolist() == [0, 1, 2, 3]
