"""Negative links: never an edge, the same bits everywhere, probabilities, bad input."""

from __future__ import annotations

import pickle
import sys
from math import sqrt
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from ways import WAYS, served

from graphkit import ConfigError, Graph, GraphError, ops
from graphkit.testing import graphs

module = sys.modules["graphkit.ops.negatives"]


@pytest.fixture(params=["tries", "rest"])
def tries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As many tries as ever, or none, so that all is drawn among what is left."""
    if request.param == "rest":
        for where in ("graphkit.ops.negatives", "graphkit.ops.cpu.negatives"):
            if where in sys.modules:
                monkeypatch.setattr(f"{where}.TRIES", 0)
    return request.param


def small(seed: int = 0) -> Graph:
    """12 nodes and 50 edges, some of them parallel, some loops."""
    random = torch.Generator().manual_seed(seed)
    return Graph.from_edge_index(torch.randint(12, (2, 50), generator=random), 12)


def allowed(graph: Graph, exclude: Tensor | None = None, loops: bool = False) -> Tensor:
    """Which pairs are no edges, ``[num_src, num_dst]``."""
    free = torch.ones(graph.num_src, graph.num_dst, dtype=torch.bool)
    for pairs in (graph.edge_index(), exclude):
        if pairs is not None:
            free[pairs[0], pairs[1]] = False
    if graph.num_src == graph.num_dst and not loops:
        free.fill_diagonal_(False)
    return free


@settings(max_examples=60)
@given(graphs(max_edges=40), st.booleans(), st.booleans(), st.integers(0, 2**30))
def test_never_an_edge_of_any_graph(graph: Graph, degree: bool, loops: bool, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    ends = [
        torch.randint(max(1, n), (5,), generator=random) for n in (graph.num_src, graph.num_dst)
    ]
    exclude = torch.stack(ends)[:, : 5 if graph.num_src and graph.num_dst else 0]
    options: dict[str, Any] = {"loops": loops}
    if degree:
        options["dst_weight"] = torch.rand(graph.num_dst, generator=random) + 0.01
        options["src_weight"] = torch.rand(graph.num_src, generator=random) + 0.01
    free = allowed(graph, exclude, loops)
    sources = free.any(1).nonzero().flatten()
    results: list[list[Tensor]] = []
    for way in WAYS:
        with served(way):
            sampler = ops.NegativeSampler(graph, **options)
            drawn = [sampler(sources, (seed, 0, 0), amount=3, exclude=exclude)]
            if len(sources):
                drawn.append(sampler(20, (seed, 0, 0), exclude=exclude))
            results.append(drawn)
    assert results[0][0].shape == (len(sources), 3)
    assert free[sources.repeat_interleave(3), results[0][0].flatten()].all()
    if len(sources):
        src, dst = results[0][1]
        assert len(src) == 20 and free[src, dst].all()
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_the_same_bits_on_any_number_of_threads(by: str) -> None:
    before = torch.get_num_threads()
    graph, sources = small(), torch.arange(12).repeat(100)
    of_degree: dict[str, Any] = {"method": "degree"}
    for options in ({}, of_degree):
        found: list[Tensor] = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            sampler = ops.NegativeSampler(graph, **options)
            found += [sampler(1200, (1, 2, 3)), sampler(sources, (1, 2, 3)).t()]
        torch.set_num_threads(before)
        assert all(torch.equal(found[at], found[at % 2]) for at in range(6))


def test_pairs_are_a_function_of_the_key(by: str) -> None:
    sampler = ops.NegativeSampler(small())
    other = pickle.loads(pickle.dumps(sampler))
    first = sampler(30, ops.Key(1, 2, 3))
    assert torch.equal(first, other(30, (1, 2, 3)))
    assert torch.equal(first, ops.sample_negatives(small(), 30, (1, 2, 3)))
    # the first of many are those of few
    assert torch.equal(first[:, :9], sampler(9, (1, 2, 3)))
    for key in ((0, 2, 3), (1, 3, 2), (1, 2, 4)):
        assert not torch.equal(first, sampler(30, key))
    assert first[:, :6].tolist() == GOLDEN


# published seeds must draw the same in every later version
GOLDEN = [[3, 10, 7, 6, 7, 4], [1, 0, 3, 8, 2, 9]]


# -- probabilities ---------------------------------------------------------------------------------


def check_shares(counts: Tensor, weight: Tensor) -> None:
    """Each share within 4 sigma, and nothing where there is no weight."""
    draws, p = float(counts.sum()), weight / weight.sum()
    assert not counts[weight == 0].any()
    assert ((counts / draws - p).abs() <= 4 * (p * (1 - p) / draws).sqrt()).all()


def weights_of(graph: Graph, method: str) -> tuple[dict[str, Any], Tensor]:
    """The options, and the weight of each pair."""
    src, dst = torch.linspace(0, 3, 12).double(), torch.linspace(2, 0.1, 12).double()
    if method == "weights":
        return {"src_weight": src, "dst_weight": dst.float()}, torch.outer(src, dst)
    if method == "degree":
        ends = graph.edge_index()
        src, dst = (torch.bincount(end, minlength=12).double() ** 0.75 for end in ends)
        return {"method": "degree"}, torch.outer(src, dst)
    return {}, torch.ones(12, 12, dtype=torch.float64)


def draws_of(tries: str, config: pytest.Config) -> int:
    """What is left is drawn one by one, 0.15 ms each."""
    return 100_000 if tries == "tries" or config.getoption("--slow") else 4000


# whoever serves draws the same, as is shown above
@pytest.mark.parametrize("method", ["uniform", "degree", "weights"])
def test_probabilities_of_pairs(tries: str, method: str, pytestconfig: pytest.Config) -> None:
    graph = small()
    exclude = torch.tensor([[0, 1, 2, 2], [5, 6, 7, 7]])
    options, weight = weights_of(graph, method)
    draws = draws_of(tries, pytestconfig)
    src, dst = ops.sample_negatives(graph, draws, (1, 0, 0), exclude=exclude, **options)
    counts = torch.bincount(src * 12 + dst, minlength=144).double()
    check_shares(counts, (weight * allowed(graph, exclude)).flatten())


@pytest.mark.parametrize("method", ["uniform", "degree", "weights"])
def test_probabilities_of_destinations(
    tries: str, method: str, pytestconfig: pytest.Config
) -> None:
    graph = small()
    exclude = torch.tensor([[0, 3, 3], [5, 6, 7]])
    options, weight = weights_of(graph, method)
    amount = draws_of(tries, pytestconfig)
    found = ops.sample_negatives(graph, torch.tensor([3, 8]), (2, 0, 0), amount=amount,
                                 exclude=exclude, **options)  # fmt: skip
    free = allowed(graph, exclude)
    # the sources' own weight does not count
    row = weight.sum(0)
    for source, drawn in zip((3, 8), found, strict=True):
        check_shares(torch.bincount(drawn, minlength=12).double(), row * free[source])


def test_two_draws_are_independent(by: str) -> None:
    found = ops.sample_negatives(small(), torch.zeros(100_000, dtype=torch.int64), amount=2)
    free = int(allowed(small())[0].sum())
    p = 1 / free
    alike = float((found[:, 0] == found[:, 1]).double().mean())
    assert abs(alike - p) < 4 * sqrt(p * (1 - p) / 100_000)


# -- few or none are left --------------------------------------------------------------------------


def nearly_complete(*missing: tuple[int, int]) -> Graph:
    edges = torch.cartesian_prod(torch.arange(40), torch.arange(40))
    keys = [src * 40 + dst for src, dst in missing]
    rest = ~torch.isin(edges[:, 0] * 40 + edges[:, 1], torch.tensor(keys))
    return Graph.from_edge_index(edges[rest].t(), 40)


def test_the_last_pairs_are_found(by: str) -> None:
    graph = nearly_complete((3, 8), (3, 9), (39, 0), (5, 5))
    drawn = ops.sample_negatives(graph, 200)
    assert set(map(tuple, drawn.t().tolist())) == {(3, 8), (3, 9), (39, 0)}
    of_three = ops.sample_negatives(graph, torch.tensor([3, 39]), amount=50)
    assert set(of_three[0].tolist()) == {8, 9} and set(of_three[1].tolist()) == {0}
    only = ops.sample_negatives(graph, torch.tensor([3]), exclude=torch.tensor([[3], [8]]))
    assert only.tolist() == [[9]]
    weight = torch.ones(40)
    weight[9] = 0
    assert ops.sample_negatives(graph, torch.tensor([3]), dst_weight=weight).tolist() == [[8]]
    assert ops.sample_negatives(graph, torch.tensor([5]), loops=True).tolist() == [[5]]


def test_where_nothing_is_left(by: str) -> None:
    graph = nearly_complete((3, 8))
    with pytest.raises(GraphError, match="node 4 has an edge to every node that may be drawn"):
        ops.sample_negatives(graph, torch.tensor([3, 4]))
    weight = torch.ones(40)
    weight[8] = 0
    of_source = torch.ones(40)
    of_source[3] = 0
    options: dict[str, Any]
    for options in (
        {"exclude": torch.tensor([[3], [8]])},
        {"dst_weight": weight},
        {"src_weight": of_source},
    ):
        with pytest.raises(GraphError, match="an edge between all nodes that may be drawn"):
            ops.sample_negatives(graph, 5, **options)
    alone = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 1)
    with pytest.raises(GraphError, match="an edge between all nodes that may be drawn"):
        ops.sample_negatives(alone, 1)
    assert ops.sample_negatives(alone, 1, loops=True).tolist() == [[0], [0]]


def test_sources_and_destinations_of_two_types(by: str) -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1, 2], [0, 1, 1]]), num_src=3, num_dst=2)
    src, dst = ops.sample_negatives(graph, 100)
    assert set(zip(src.tolist(), dst.tolist(), strict=True)) == {(0, 1), (1, 0), (2, 0)}
    square = Graph.from_edge_index(torch.tensor([[0], [1]]), num_src=2, num_dst=2)
    src, dst = ops.sample_negatives(square, 100, loops=True)
    assert set(zip(src.tolist(), dst.tolist(), strict=True)) == {(0, 0), (1, 0), (1, 1)}


def test_of_nothing_nothing(by: str) -> None:
    empty = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 0)
    assert ops.sample_negatives(empty, 0).shape == (2, 0)
    none = torch.empty(0, dtype=torch.int64)
    assert ops.sample_negatives(small(), none, amount=3).shape == (0, 3)
    with pytest.raises(GraphError, match="the graph has no nodes to draw from"):
        ops.sample_negatives(empty, 1)


def test_bad_input(by: str) -> None:
    graph, one = small(), torch.tensor([1])
    weight = torch.ones(12)
    bad: list[tuple[type[Exception], Any, Any, dict[str, Any], str]] = [
        (GraphError, graph.edge_index(), 3, {}, "graph is a Tensor, but a graphkit.Graph"),
        (ConfigError, graph, 3, {"method": "degre"}, "unknown method 'degre'. Did you mean"),
        (ConfigError, graph, -1, {}, "given is -1, but a whole number of pairs"),
        (ConfigError, graph, 2.0, {}, "given is 2.0, but a whole number of pairs"),
        (ConfigError, graph, True, {}, "given is True, but a whole number of pairs"),
        (ConfigError, graph, one, {"amount": 0}, "amount is 0, but a whole number of at least 1"),
        (ConfigError, graph, one, {"amount": 1.0}, "amount is 1.0, but a whole number"),
        (ConfigError, graph, 3, {"amount": 2}, "amount is for given sources"),
        (GraphError, graph, one.float(), {}, "given has dtype torch.float32"),
        (GraphError, graph, one + 11, {}, r"given\[0\] = 12, but there are 12 nodes"),
        (GraphError, graph, one.view(1, 1), {}, r"given has shape \[1, 1\]"),
        (GraphError, graph, 3, {"exclude": one}, r"exclude has shape \[1\], but a torch.Tensor"),
        (GraphError, graph, 3, {"exclude": torch.tensor([[0], [12]])}, r"exclude\[1\]\[0\] = 12"),
        (GraphError, graph, 3, {"dst_weight": weight[1:]}, "dst_weight has 11 entries, but there"),
        (GraphError, graph, 3, {"src_weight": -weight}, r"src_weight\[0\] = -1.0, but a weight"),
        (GraphError, graph, 3, {"src_weight": weight * torch.nan}, r"src_weight\[0\] = nan, but"),
        (GraphError, graph, 3, {"src_weight": weight * 0}, "src_weight is 0 for all nodes"),
        (GraphError, graph, 3, {"src_weight": [1.0]}, "src_weight must be a one-dimensional"),
        (GraphError, graph, 3, {"dst_weight": weight.to("meta")}, "dst_weight must be .* on cpu"),
    ]
    for error, given_graph, wanted, options, message in bad:
        with pytest.raises(error, match=message):
            ops.sample_negatives(given_graph, wanted, **options)
    lonely = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 4)
    with pytest.raises(GraphError, match="src_weight is 0 for all nodes .*method='degree'"):
        ops.sample_negatives(lonely, 3, method="degree")
    for key in (3, (1, 2), (1, 2, -1)):
        with pytest.raises(ConfigError, match="sample_negatives: (key is|the batch of key is)"):
            ops.sample_negatives(graph, 3, key)  # pyright: ignore[reportArgumentType]
