"""Measures of over-smoothing against their definitions as dense matrices."""

from __future__ import annotations

import math

import networkx
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch_geometric.utils import to_undirected

from graphkit import ConfigError, Graph, GraphError
from graphkit.structure import dirichlet_energy, mad_gap
from graphkit.testing import dense_adjacency, graphs


def undirected(graph: Graph) -> Graph:
    edge_index = to_undirected(graph.edge_index(), num_nodes=graph.num_src)
    keep = edge_index[0] != edge_index[1]
    return Graph.from_edge_index(edge_index[:, keep], graph.num_src)


@settings(max_examples=30)
@given(graphs(bipartite=False))
def test_the_energy_is_the_sum_over_edges(graph: Graph) -> None:
    graph = undirected(graph)
    x, dense = torch.randn(graph.num_src, 3), dense_adjacency(graph)
    rows = x.double() / (dense.sum(1) + 1).sqrt()[:, None]
    want = 0.5 * float((dense * torch.cdist(rows, rows).square()).sum())
    assert dirichlet_energy(graph, x) == pytest.approx(want, abs=1e-9)
    size = float(x.double().square().sum())
    relative = dirichlet_energy(graph, x, relative=True)
    assert relative == pytest.approx(want / size if size else 0.0, abs=1e-9)
    assert relative == pytest.approx(dirichlet_energy(graph, 1024 * x, relative=True), abs=1e-9)


def test_the_energy_of_the_smoothest_features_is_zero() -> None:
    graph = undirected(Graph.from_edge_index(torch.randint(20, (2, 60)), 25))
    root = (graph.in_degree() + 1).double().sqrt()[:, None]
    assert dirichlet_energy(graph, root * torch.randn(1, 4)) == pytest.approx(0, abs=1e-12)
    assert dirichlet_energy(graph, torch.zeros(25, 4), relative=True) == 0
    assert dirichlet_energy(graph, torch.randn(25, 4), relative=True) > 0.1


def by_paths(graph: Graph, x: Tensor, near: int, far: int) -> float:
    """The paper's masks from all shortest paths."""
    peer = networkx.Graph()
    peer.add_nodes_from(range(graph.num_src))
    peer.add_edges_from(graph.edge_index().t().tolist())
    length = torch.full((graph.num_src, graph.num_src), torch.inf)
    for i, lengths in networkx.all_pairs_shortest_path_length(peer):
        for j, hops in lengths.items():
            length[i, j] = hops
    x = torch.nn.functional.normalize(x.double(), dim=1)
    distance = 1 - x @ x.t()
    means = []
    for mask in (length >= far, (length > 0) & (length <= near)):
        mask = mask & (distance > 1e-12)
        rows = (distance * mask).sum(1) / mask.sum(1)
        means.append(float(rows[mask.any(1)].mean()))
    return means[0] - means[1]


@settings(max_examples=30)
@given(graphs(max_nodes=9, max_edges=9, bipartite=False))
def test_the_gap_of_all_nodes_is_the_papers(graph: Graph) -> None:
    x = torch.randn(graph.num_src, 3)
    for near, far in ((3, 8), (1, 2), (1, 3)):
        got, want = mad_gap(graph, x, near=near, far=far), by_paths(graph, x, near, far)
        assert math.isnan(want) if math.isnan(got) else got == pytest.approx(want, abs=1e-9)


def test_the_gap_of_some_nodes() -> None:
    ring = torch.stack([torch.arange(400), (torch.arange(400) + 1) % 400])
    graph, angle = Graph.from_edge_index(ring, 400), torch.arange(400) * (2 * math.pi / 400)
    x = torch.stack([angle.cos(), angle.sin()], dim=1) + 0.1 * torch.randn(400, 2)
    whole = mad_gap(graph, x, samples=400)
    some = [mad_gap(graph, x, samples=100, seed=seed) for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    assert all(gap == pytest.approx(whole, abs=0.05) for gap in some) and whole > 0.9
    # more than one block of columns changes nothing
    assert mad_gap(graph, x, samples=10**6) == whole
    smooth = torch.ones(400, 2) + 1e-3 * torch.randn(400, 2)
    assert abs(mad_gap(graph, smooth)) < 1e-5


def test_there_may_be_no_remote_nodes() -> None:
    pair = Graph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 2)
    assert math.isnan(mad_gap(pair, torch.randn(2, 3)))


def test_bad_input() -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 3)
    two = Graph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), num_src=4, num_dst=3)
    x = torch.randn(3, 2)
    for near, far, samples in ((3, 3, 5), (0, 4, 5), (1, 2, 0)):
        with pytest.raises(ConfigError, match="near < far"):
            mad_gap(graph, x, near=near, far=far, samples=samples)
    with pytest.raises(GraphError, match="one set of nodes"):
        mad_gap(two, torch.randn(4, 2))
    with pytest.raises(GraphError, match="one set of nodes"):
        dirichlet_energy(two, torch.randn(4, 2))
    with pytest.raises(GraphError, match="2 rows"):
        dirichlet_energy(graph, x[:2])
