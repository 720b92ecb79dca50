"""Scores of pairs against dense matrices in float64 and networkx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch_geometric.utils import to_undirected

from graphkit import ConfigError, Graph, GraphError, ops
from graphkit.structure import (
    HEURISTICS,
    adamic_adar,
    common_neighbors,
    heuristics,
    jaccard,
    katz,
    personalized_pagerank,
    resource_allocation,
)
from graphkit.testing import dense_adjacency, graphs

FEW = settings(max_examples=25)


def plain(num_nodes: int = 40, num_edges: int = 110, seed: int = 0) -> Graph:
    """Undirected, without loops and parallel edges."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(num_nodes - 1, (2, num_edges), generator=generator)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    return Graph.from_edge_index(to_undirected(edge_index), num_nodes)


def all_pairs(num_nodes: int) -> Tensor:
    return torch.cartesian_prod(*2 * [torch.arange(num_nodes)]).t().contiguous().view(2, -1)


def peer_of(graph: Graph) -> Any:
    peer = nx.Graph()
    peer.add_nodes_from(range(graph.num_src))
    peer.add_edges_from(graph.edge_index().t().tolist())
    return peer


def dense(name: str, graph: Graph) -> Tensor:
    """The scores of all pairs, float64 [N, N], from the matrix of neighbours."""
    near = (dense_adjacency(graph) > 0).double()
    size = near.sum(1)
    weight = {
        "common-neighbors": torch.ones_like(size),
        "adamic-adar": torch.where(size > 1, 1 / size.log(), 0),
        "resource-allocation": torch.where(size > 0, 1 / size, 0),
    }
    if name in weight:
        # the ends themselves do not count: w at [u, v, w] is neither u nor v
        own = torch.eye(len(near)).bool()
        common = near[:, None] * near[None] * weight[name]
        return common.masked_fill(own[:, None] | own[None], 0).sum(2)
    if name == "jaccard":
        near = near - near.diag().diag()
        both = near @ near.t()
        either = near.sum(1)[:, None] + near.sum(1)[None] - both
        return torch.where(either > 0, both / either, 0)
    steps = dense_adjacency(graph).t()
    if name == "katz":
        return sum(torch.linalg.matrix_power(0.005 * steps, hops) for hops in (1, 2, 3))
    degree = steps.sum(1, keepdim=True)
    walk = torch.where(degree > 0, steps / degree, 0)
    # a walk ends where it is, before a step or where there is none
    ends = torch.where(degree > 0, 0.15, 1.0)
    reach = torch.linalg.inv(torch.eye(len(walk)).double() - 0.85 * walk)
    rank = reach * ends.t()
    return rank + rank.t()


@pytest.mark.parametrize("name", HEURISTICS)
@FEW
@given(graph=graphs(bipartite=False))
def test_a_score_is_that_of_the_matrices(name: str, graph: Graph) -> None:
    pairs = all_pairs(graph.num_src)
    got = HEURISTICS[name](graph, pairs)
    assert got.shape == (pairs.size(1),) and got.dtype == torch.float32
    want = dense(name, graph).flatten() if graph.num_src else torch.empty(0).double()
    tolerance = 1e-5 if name == "ppr" else 1e-6
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", HEURISTICS)
def test_undirected_pairs_have_no_first_end(name: str) -> None:
    pairs = all_pairs(40)
    score = HEURISTICS[name]
    torch.testing.assert_close(score(plain(), pairs), score(plain(), pairs.flip(0)))


@pytest.mark.parametrize("name", HEURISTICS)
def test_numbers_of_nodes_mean_nothing(name: str) -> None:
    graph, pairs = plain(), all_pairs(40)
    place = torch.randperm(40)
    moved = Graph.from_edge_index(place[graph.edge_index()], 40)
    got = HEURISTICS[name](moved, place[pairs])
    torch.testing.assert_close(got, HEURISTICS[name](graph, pairs))


PEERS = {
    jaccard: nx.jaccard_coefficient,
    adamic_adar: nx.adamic_adar_index,
    resource_allocation: nx.resource_allocation_index,
}


@pytest.mark.parametrize("ours", PEERS)
def test_scores_are_those_of_networkx(ours: Callable[..., Tensor]) -> None:
    graph, peer = plain(), peer_of(plain())
    # networkx has no score of a node and itself
    pairs = all_pairs(40)
    pairs = pairs[:, pairs[0] != pairs[1]]
    found = PEERS[ours](peer, pairs.t().tolist())
    want = torch.tensor([score for _, _, score in found], dtype=torch.float64)
    torch.testing.assert_close(ours(graph, pairs).double(), want, rtol=1e-6, atol=1e-7)


def test_katz_of_long_walks_adds_up_to_the_centrality_of_networkx() -> None:
    graph, peer = plain(), peer_of(plain())
    # below one over the largest degree, so that the series ends
    beta = 0.9 / float(graph.in_degree().max())
    scores = katz(graph, all_pairs(40), beta=beta, length=200).view(40, 40).double()
    want = nx.katz_centrality_numpy(peer, alpha=beta, beta=1.0, normalized=False)
    got = 1 + scores.sum(0)
    torch.testing.assert_close(got, torch.tensor(list(want.values())).double(), rtol=1e-5, atol=0)


def test_katz_of_one_edge_is_the_edge() -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 0, 1], [1, 1, 2]]), 3)
    pairs = torch.tensor([[0, 0, 1, 2], [1, 2, 2, 0]])
    # two parallel edges from 0 to 1, then one to 2
    assert katz(graph, pairs, beta=0.5, length=1).tolist() == [1.0, 0.0, 0.5, 0.0]
    assert katz(graph, pairs, beta=0.5, length=2).tolist() == [1.0, 0.5, 0.5, 0.0]
    # beyond one over the largest eigenvalue the sum of few terms is a number as well
    joined = Graph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 2)
    pair = torch.tensor([[0], [1]])
    assert katz(joined, pair, beta=2.0, length=3).item() == 2 + 8


def test_katz_is_the_same_from_either_end_and_without_the_other_side() -> None:
    graph = plain()
    few = torch.stack([torch.arange(40), torch.full((40,), 7)])
    there = Graph.from_edge_index(graph.edge_index(), 40, transpose=False)
    torch.testing.assert_close(katz(graph, few), katz(there, few))


@pytest.mark.parametrize("name", HEURISTICS)
def test_parts_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, pairs = plain(), all_pairs(40)[:, torch.randperm(1600)]
    want = HEURISTICS[name](graph, pairs)
    monkeypatch.setattr(heuristics, "_PAIRS", 7)
    monkeypatch.setattr(heuristics, "_ROOM", 3 * 40)
    torch.testing.assert_close(HEURISTICS[name](graph, pairs), want, rtol=0, atol=0)


@pytest.mark.parametrize("name", HEURISTICS)
def test_edges_serve_as_a_graph_and_no_pairs_have_no_scores(name: str) -> None:
    graph, score = plain(), HEURISTICS[name]
    pairs = torch.tensor([[0, 3, 39], [5, 3, 1]])
    # the last node has no edge: it is known by the pair that names it
    assert torch.equal(score(graph.edge_index(), pairs), score(graph, pairs))
    assert score(graph, pairs[:, :0]).shape == (0,)
    empty = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 0)
    assert score(empty, pairs[:, :0]).shape == (0,)


def test_the_counts_are_those_of_the_op() -> None:
    graph, pairs = plain(), all_pairs(40)
    assert torch.equal(common_neighbors(graph, pairs), ops.common_neighbors(graph, pairs))


def test_a_push_misses_no_more_than_its_tolerance() -> None:
    graph, pairs = plain(), all_pairs(40)
    want, degree = dense("ppr", graph).flatten(), graph.in_degree()[pairs].sum(0)
    for eps in (1e-2, 1e-3, 1e-5):
        short = want - personalized_pagerank(graph, pairs, eps=eps).double()
        assert bool((short > -1e-6).all()) and bool((short <= eps * degree + 1e-6).all())


@pytest.mark.parametrize("name", HEURISTICS)
def test_bad_input_is_refused(name: str) -> None:
    graph, score = plain(), HEURISTICS[name]
    pairs: dict[str, Any] = {
        r"shape \[3, 2\]": torch.zeros(3, 2, dtype=torch.int64),
        "has list": [[0], [1]],
        "dtype torch.float32": torch.zeros(2, 1),
        r"\[1\]\[0\] = 40": torch.tensor([[0], [40]]),
        r"\[0\]\[0\] = -1": torch.tensor([[-1], [0]]),
    }
    for part, bad in pairs.items():
        with pytest.raises(GraphError, match=part):
            score(graph, bad)
    good = torch.tensor([[0], [1]])
    with pytest.raises(GraphError, match="3 sources and 2 destinations"):
        score(Graph.from_edge_index(good, num_src=3, num_dst=2), good)
    with pytest.raises(GraphError, match="graph is a str"):
        score("karate", good)  # pyright: ignore[reportArgumentType]
    with pytest.raises(GraphError, match="float32"):
        score(torch.zeros(2, 3), good)


def test_numbers_out_of_range_are_refused() -> None:
    good = torch.tensor([[0], [1]])
    for options in ({"beta": 0.0}, {"beta": float("nan")}, {"length": 0}):
        with pytest.raises(ConfigError, match="katz: beta="):
            katz(plain(), good, **options)
    with pytest.raises(ConfigError, match="alpha is 1"):
        personalized_pagerank(plain(), good, alpha=1)
