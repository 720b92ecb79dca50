"""Counts of overlapping neighbourhoods: exact ones against shortest paths, estimates within
statistical bounds of them."""

from __future__ import annotations

import math

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch_geometric.utils import to_undirected

from graphkit import ConfigError, Graph, GraphError
from graphkit.structure import (
    Sketches,
    estimated_counts,
    exact_counts,
    sketch_neighborhoods,
    sketches,
    with_normalized,
)
from graphkit.testing import graphs


def class_of(length: int | None, hops: int) -> int:
    """An end is as far from itself as its neighbours are; what is too far is of class 0."""
    return 0 if length is None or length > hops else max(1, length)


def by_paths(graph: Graph, pairs: Tensor, hops: int) -> Tensor:
    """The tables from the lengths of shortest paths to the ends, along the edges."""
    peer = nx.DiGraph()
    peer.add_nodes_from(range(graph.num_src))
    peer.add_edges_from(graph.edge_index().flip(0).t().tolist())
    paths = {node: dict(nx.single_source_shortest_path_length(peer, node)) for node in peer}
    tables = torch.zeros(pairs.size(1), hops + 1, hops + 1)
    for table, (u, v) in zip(tables, pairs.t().tolist(), strict=True):
        for node in range(graph.num_src):
            i, j = (class_of(paths[end].get(node), hops) for end in (u, v))
            table[i, j] += 1
        table[0, 0] = 0
    return tables


def all_pairs(num_nodes: int) -> Tensor:
    return torch.cartesian_prod(*2 * [torch.arange(num_nodes)]).t().contiguous().view(2, -1)


def scattered(num_nodes: int, num_edges: int, seed: int = 0) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, num_edges), generator=generator)
    return Graph.from_edge_index(to_undirected(edge_index), num_nodes)


@pytest.mark.parametrize("hops", [1, 2, 3])
@settings(max_examples=20)
@given(graph=graphs(bipartite=False))
def test_exact_counts_are_those_of_shortest_paths(hops: int, graph: Graph) -> None:
    pairs = all_pairs(graph.num_src)
    got = exact_counts(graph, pairs, hops=hops)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, by_paths(graph, pairs, hops), rtol=0, atol=0)


def test_counts_by_hand() -> None:
    """The path 0 - 1 - 2 - 3 - 4: what is near to 1 and 2."""
    edge_index = to_undirected(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]))
    graph, pair = Graph.from_edge_index(edge_index, 5), torch.tensor([[1], [2]])
    # 1 and 2 are near to both, 0 and 3 to one of them; 4 is two hops from 2 alone
    want = torch.tensor([[[0.0, 0, 1], [0, 2, 1], [0, 1, 0]]])
    assert torch.equal(exact_counts(graph, pair), want)
    assert torch.equal(exact_counts(graph, pair.flip(0)), want.mT)
    # of so few nodes the sketches miss little
    many = estimated_counts(sketch_neighborhoods(graph, permutations=4096, precision=12), pair)
    torch.testing.assert_close(many, want, rtol=0, atol=0.15)


def averaged(graph: Graph, pairs: Tensor, hops: int, seeds: int) -> tuple[Tensor, Tensor]:
    """The mean of the estimates of so many seeds, and its standard deviation."""
    found = torch.stack(
        [estimated_counts(sketch_neighborhoods(graph, hops=hops, seed=seed), pairs).double()
         for seed in range(seeds)]
    )  # fmt: skip
    return found.mean(0), found.std(0) / math.sqrt(seeds)


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_estimates_are_the_counts_in_the_mean(hops: int) -> None:
    graph = scattered(300, 500)
    pairs = torch.randint(300, (2, 150), generator=torch.Generator().manual_seed(1))
    pairs = torch.cat([pairs, graph.edge_index()[:, ::20]], 1)
    mean, deviation = averaged(graph, pairs, hops, 60)
    exact = exact_counts(graph, pairs, hops=hops).double()
    within = exact.sum((1, 2), keepdim=True)
    # two nodes seldom share a register, so that 60 seeds may not show the deviation of small sets
    deviation = torch.maximum(deviation, within / math.sqrt(2 * 256 * 60))
    # beside which the estimate of sizes itself is off
    error = ((mean - exact).abs() - 1.1 / 256 * within) / deviation
    assert float((error > 4).double().mean()) < 1e-3 and float(error.max()) < 6
    # all pairs together: a tenth of a bias would show
    total = (mean - exact).mean(0).abs()
    assert bool((total <= 0.02 * exact.mean(0) + 0.01 * within.mean()).all())


def test_the_deviation_of_estimates_is_that_of_the_theory() -> None:
    """Of an overlap J * n: n * sqrt(J (1 - J) / P), and the size's own 1.04 / sqrt(M)."""
    graph = scattered(800, 8000)
    pairs = torch.tensor([[0, 2, 4, 6], [1, 3, 5, 7]])
    exact = exact_counts(graph, pairs)[:, 1:, 1:].sum((1, 2)).double()
    either = exact_counts(graph, pairs).sum((1, 2)).double()
    seeds = 60
    found = torch.stack(
        [estimated_counts(sketch_neighborhoods(graph, seed=seed), pairs)[:, 1:, 1:].sum((1, 2))
         for seed in range(seeds)]
    ).double()  # fmt: skip
    share = exact / either
    relative = (share * (1 - share) / 128 / share**2 + 1.04**2 / 256).sqrt()
    ratio = (found.std(0) / (exact * relative)).mean()
    # the mean of four deviations, each known to 1 / sqrt(2 * seeds)
    assert abs(float(ratio) - 1) < 4 / math.sqrt(2 * seeds * 4) + 0.1


@pytest.mark.parametrize("size", [1, 10, 100, 300, 1000, 20000])
@pytest.mark.parametrize("precision", [4, 8])
def test_sizes_of_all_magnitudes(size: int, precision: int) -> None:
    """Many sets, each of other nodes: the mean of the estimates, 4 deviations around it."""
    count = max(20, 60000 // size)
    ranks = torch.cat(
        [sketches._ranks(part, precision, 3) for part in torch.arange(count * size).split(2**16)]
    )
    sets = ranks.view(count, size, -1).amax(1)
    found = sketches._sizes(sets).double()
    bias = 1.2 / 2**precision * size
    spread = found.std() / math.sqrt(count) + 1e-6 * size
    assert abs(float(found.mean()) - size) < 4 * float(spread) + bias
    assert float(found.std()) < 1.3 * 1.04 / math.sqrt(2**precision) * size + 1e-6


def test_sketches_are_smallest_and_largest_of_their_neighbourhoods() -> None:
    graph = scattered(50, 70)
    made = sketch_neighborhoods(graph, permutations=16, precision=5, hops=3, seed=9)
    assert (made.hops, made.num_nodes) == (3, 50)
    nodes = torch.arange(50)
    low, high = sketches._hashes(nodes, 16, 9), sketches._ranks(nodes, 5, 9)
    reached = torch.eye(50).bool()
    for hop in range(3):
        src, dst = graph.edge_index()
        step = torch.eye(50).bool()
        step[dst, src] = True
        reached = (step.float() @ reached.float()) > 0
        for node in range(50):
            assert torch.equal(made.minima[hop, node], low[reached[node]].amin(0))
            assert torch.equal(made.registers[hop, node], high[reached[node]].amax(0))
    assert int(low.min()) >= 2**23 and int(low.max()) < 0x7F800000


def same(one: Sketches, other: Sketches) -> bool:
    parts = ("minima", "registers", "sizes")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in parts)


def test_sketches_are_a_function_of_the_seed() -> None:
    graph = scattered(400, 900)
    want, threads = sketch_neighborhoods(graph), torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        assert same(sketch_neighborhoods(graph), want)
    torch.set_num_threads(threads)
    assert not same(sketch_neighborhoods(graph, seed=1), want)
    order = torch.randperm(graph.num_edges)
    mixed = Graph.from_edge_index(graph.edge_index()[:, order], 400)
    assert same(sketch_neighborhoods(mixed), want)
    twice = Graph.from_edge_index(torch.cat(2 * [graph.edge_index()], 1), 400, transpose=False)
    assert same(sketch_neighborhoods(twice), want)


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, pairs = scattered(30, 45), all_pairs(30)
    made = sketch_neighborhoods(graph)
    want, exact = estimated_counts(made, pairs), exact_counts(graph, pairs)
    # a table of (v, u) is that of (u, v), turned
    assert torch.equal(want.view(30, 30, 3, 3).transpose(0, 1).flatten(0, 1), want.mT)
    monkeypatch.setattr(sketches, "_ROOM", 2000)
    assert same(sketch_neighborhoods(graph), made)
    assert torch.equal(estimated_counts(made, pairs), want)
    assert torch.equal(exact_counts(graph, pairs), exact)


def test_nothing_to_count() -> None:
    empty = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 0)
    none = torch.empty(2, 0, dtype=torch.int64)
    assert estimated_counts(sketch_neighborhoods(empty), none).shape == (0, 3, 3)
    assert exact_counts(empty, none, hops=3).shape == (0, 4, 4)
    lonely = Graph.from_edge_index(none, 2)
    found = estimated_counts(sketch_neighborhoods(lonely), torch.tensor([[0, 0], [1, 0]]))
    # each end alone is near to itself, and far from the other
    want = torch.tensor([[[0.0, 1, 0], [1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 0]]])
    torch.testing.assert_close(found, want, rtol=0, atol=0.01)


def test_normalised_counts() -> None:
    edge_index = torch.tensor([[0, 1, 1, 1, 2], [1, 0, 0, 2, 1]])
    graph = Graph.from_edge_index(edge_index, 4)
    pairs = torch.tensor([[0, 1, 3], [1, 1, 0]])
    counts = exact_counts(graph, pairs)
    got = with_normalized(counts, graph, pairs)
    assert torch.equal(got[:, 0], counts)
    # different neighbours: 1, 2, 1 and none
    scale = torch.tensor([2**-0.5, 0.5, 0.0])
    torch.testing.assert_close(got[:, 1], counts * scale[:, None, None])


def test_bad_input_is_refused() -> None:
    graph, pairs = scattered(5, 9), torch.tensor([[0], [1]])
    for options in ({"hops": 0}, {"permutations": 0}, {"precision": 3}, {"precision": 17}):
        with pytest.raises(ConfigError, match="at least one hop and permutation"):
            sketch_neighborhoods(graph, **options)
    with pytest.raises(ConfigError, match="hops is 0"):
        exact_counts(graph, pairs, hops=0)
    two = Graph.from_edge_index(pairs, num_src=3, num_dst=2)
    for call in (lambda: sketch_neighborhoods(two), lambda: exact_counts(two, pairs)):
        with pytest.raises(GraphError, match="3 sources and 2 destinations"):
            call()
    made = sketch_neighborhoods(graph)
    of_pairs = {
        "= 5, but there are 5 nodes": torch.tensor([[0], [5]]),
        r"\[2, m\]": torch.zeros(3, 1, dtype=torch.int64),
    }
    for part, bad in of_pairs.items():
        with pytest.raises(GraphError, match=part):
            estimated_counts(made, bad)
    with pytest.raises(GraphError, match=r"\[1, 3, 3\], but \[2, k"):
        with_normalized(exact_counts(graph, pairs), graph, pairs.repeat(1, 2))
