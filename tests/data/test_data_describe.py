"""What data info shows of a data set's edges and labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.utils import is_undirected, to_undirected

from graphkit import Graph, structure
from graphkit.data import homophily_of, info, load
from graphkit.data.describe import edge_facts
from graphkit.errors import DataError
from graphkit.testing import graphs


@settings(max_examples=80)
@given(graphs(max_nodes=7, max_edges=18, bipartite=False))
def test_facts_of_any_edges(graph: Graph) -> None:
    edge_index, num_nodes = graph.edge_index(), graph.num_dst
    kept = edge_index.clone()
    facts = edge_facts(edge_index, num_nodes)
    assert torch.equal(edge_index, kept)
    pairs = [tuple(pair) for pair in edge_index.t().tolist()]
    apart = {(u, v) for u, v in pairs if u != v}
    joined = {node for pair in apart for node in pair}
    assert facts["directed"] is not is_undirected(edge_index, num_nodes=num_nodes)
    assert facts["self_loops"] == sum(u == v for u, v in pairs)
    assert facts["duplicate_edges"] == len(pairs) - len(set(pairs))
    assert facts["isolated_nodes"] == num_nodes - len(joined)
    both = [(v, u) in apart for u, v in apart]
    assert facts["reciprocal_share"] == (sum(both) / len(both) if both else None)


def test_duplicates_make_edges_directed_only_if_their_reverses_are_fewer() -> None:
    edges = torch.tensor([[0, 1, 0], [1, 0, 1]])
    facts = edge_facts(edges, 2)
    assert facts["directed"] and facts["reciprocal_share"] == 1.0
    assert not edge_facts(torch.cat([edges, edges.flip(0)], 1), 2)["directed"]


def test_info_has_the_measures(tmp_path: Any) -> None:
    found, data = info("digits", tmp_path)["found"], load("digits")
    assert found["reciprocal_share"] == 1.0 and found["duplicate_edges"] == 0
    # edges without directions have one table
    assert found["homophily"] == {"stored": structure.homophily_table(data.edge_index, data.y)}


def graph(y: Any, edge_index: Tensor | None = None) -> Data:
    edge_index = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 3]]) if edge_index is None else edge_index
    return Data(edge_index=edge_index, y=y, num_nodes=4)


def test_directed_edges_have_two_tables() -> None:
    data = graph(torch.tensor([0, 1, 0, 1]))
    found = homophily_of(data)
    both = to_undirected(data["edge_index"])
    assert found["stored"] == structure.homophily_table(data["edge_index"], data["y"])
    assert found["undirected"] == structure.homophily_table(both, data["y"])
    assert list(homophily_of(graph(data["y"], both))) == ["stored"]


def test_classes_as_pyg_gives_them() -> None:
    want = homophily_of(graph(torch.tensor([0, 1, -1, 1])))
    for y in (torch.tensor([0.0, 1.0, float("nan"), 1.0]), torch.tensor([[0], [1], [-1], [1]])):
        assert repr(homophily_of(graph(y))) == repr(want)


@pytest.mark.parametrize(
    "data",
    [
        graph(None),
        graph(torch.ones(4, 2).long()),
        graph(torch.tensor([0.5, 1.0, 2.0, 1.0])),
        HeteroData(),
    ],
)
def test_homophily_needs_a_class_of_each_node(data: Any) -> None:
    with pytest.raises(
        DataError, match="papers: homophily is of one graph whose nodes have a clas"
    ):
        homophily_of(data, "papers")


def test_other_tasks_have_no_homophily(local_root: Any) -> None:
    found = info("wiki-vote", local_root)["found"]
    assert found["directed"] and 0 < found["reciprocal_share"] < 1 and "homophily" not in found
    assert "reciprocal_share" not in info("mutag", local_root)["found"]


def test_directions_are_not_lost_without_a_word(local_root: Any) -> None:
    found = info("chameleon", local_root)["found"]
    assert found["directed"] and 0.2 < found["reciprocal_share"] < 0.35
    assert set(found["homophily"]) == {"stored", "undirected"}
