from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.data import Data, TemporalData
from torch_geometric.data.hypergraph_data import HyperGraphData

from graphkit.data.check_kinds import check_events, check_hypergraph, check_links
from graphkit.data.links import random_link_split
from graphkit.errors import DataError


@pytest.fixture
def links():
    ring = torch.stack([torch.arange(30), torch.arange(1, 31) % 30])
    edge_index = torch.cat([ring, ring.flip(0)], dim=1)
    messages, split = random_link_split(edge_index, 30, fractions=(0.6, 0.2, 0.2), seed=0)
    return Data(edge_index=messages, num_nodes=30, split_edge=split)


def test_good_links_pass(links):
    assert check_links(links) is links
    links.split_edge["train"]["edge_neg"] = links.split_edge["valid"]["edge_neg"]
    assert check_links(links) is links


def test_a_reverse_edge_leaks_only_where_edges_have_no_direction(links):
    split = links.split_edge
    split["test"]["edge"] = torch.cat([split["test"]["edge"], split["train"]["edge"][:1].flip(1)])
    with pytest.raises(DataError, match=r"\['test'\]\['edge'\] shares 1 pairs with edge_index"):
        check_links(links)
    links.edge_index = split["train"]["edge"].t()
    assert check_links(links) is links


def changed(data, path, value):
    out = copy.deepcopy(data)
    place = out.split_edge
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value(place.get(path[-1]))
    return out


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("other",),
            lambda _: 1,
            r"must be a dict of train, valid and test, got \['other', 'test'",
        ),
        (("test",), lambda _: 1, r"\['test'\]\['edge'\] must be a tensor .*got NoneType"),
        (("test", "edge"), lambda e: e.t(), r"\['test'\]\['edge'\] must be a tensor \[n, 2\]"),
        (("test", "edge"), lambda e: e.float(), "dtype torch.float32"),
        (("test", "edge"), lambda e: e + 29, r"\['test'\]\['edge'\]\[:, .*has 30 nodes"),
        (("valid", "edge_neg"), lambda _: None, r"\['valid'\]\['edge_neg'\] must be a tensor"),
    ],
)
def test_malformed_links(links, path, value, message):
    with pytest.raises(DataError, match=message):
        check_links(changed(links, path, value))


def test_leaks(links):
    split = links.split_edge
    for part, name, source, message in [
        ("valid", "edge", "train", r"\['valid'\]\['edge'\] shares 18 pairs with edge_index"),
        (
            "test",
            "edge",
            "valid",
            r"\['test'\]\['edge'\] shares 6 pairs with .*\['valid'\]\['edge'",
        ),
        ("test", "edge_neg", "test", r"\['edge_neg'\] shares 6 pairs with .*\['test'\]\['edge'\]"),
    ]:
        bad = changed(links, (part, name), lambda _, source=source: split[source]["edge"])
        with pytest.raises(DataError, match=message):
            check_links(bad)


def test_links_without_a_graph():
    with pytest.raises(DataError, match="data has no nodes"):
        check_links(Data(x=torch.empty(0, 1)))
    with pytest.raises(DataError, match="edge_index must be a tensor, got NoneType"):
        check_links(Data(num_nodes=3))
    edge_index = torch.tensor([[0], [5]])
    with pytest.raises(DataError, match="but the graph has 3 nodes"):
        check_links(Data(num_nodes=3, edge_index=edge_index))
    with pytest.raises(DataError, match="must be a dict of train, valid and test, got NoneType"):
        check_links(Data(num_nodes=6, edge_index=edge_index))


T = torch.tensor([1, 2, 2])


def test_good_events_pass():
    data = TemporalData(src=T, dst=T, t=T, msg=torch.ones(3, 1))
    assert check_events(data) is data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": None}, "t must be a tensor .events., got NoneType"),
        ({"src": T[:0]}, r"src must be a tensor .events., got \[0\]"),
        ({"dst": T.view(1, 3)}, r"dst must be a tensor .events., got \[1, 3\]"),
        ({"dst": T[:2]}, "dst has 2 entries but t has 3"),
        ({"msg": torch.ones(2, 1)}, "msg has 2 entries but t has 3"),
        ({"msg": torch.ones(3)}, r"msg must be floating point .* got torch.float32 of shape \[3\]"),
        ({"msg": torch.ones(3, 1).long()}, "msg must be floating point .* got torch.int64"),
        ({"src": T.float()}, "src must be int64 node numbers of 0 or more, got torch.float32"),
        ({"src": T - 2}, "src must be int64 node numbers of 0 or more, got torch.int64 from -1"),
        ({"t": T.flip(0)}, "t falls from 2 to 1 after event 1"),
    ],
)
def test_bad_events(change, message):
    with pytest.raises(DataError, match=message):
        check_events(TemporalData(**{"src": T, "dst": T, "t": T, **change}))


INDEX = torch.tensor([[0, 1, 3, 1], [0, 0, 1, 1]])


def test_good_hypergraphs_pass():
    data = HyperGraphData(x=torch.ones(4, 1), edge_index=INDEX)
    assert check_hypergraph(data) is data
    bare = HyperGraphData(edge_index=INDEX, num_nodes=4)
    assert check_hypergraph(bare) is bare


@pytest.mark.parametrize(
    ("edge_index", "message"),
    [
        (None, "edge_index must be a tensor, got NoneType"),
        (INDEX[0], r"edge_index has shape \[4\]"),
        (INDEX + 1, r"edge_index\[0, 2\] = 4, but the graph has 4 nodes"),
        (INDEX - torch.tensor([[0], [1]]), r"edge_index\[1, 0\] = -1"),
        (INDEX[:, [0, 0, 1]], "edge_index has 3 incidences but 2 different ones"),
        (INDEX * torch.tensor([[1], [2]]), "Hyperedge 1 has no member"),
        (INDEX[:, :0], "Hyperedge 0 has no member"),
    ],
)
def test_bad_hypergraphs(edge_index, message):
    with pytest.raises(DataError, match=message):
        check_hypergraph(HyperGraphData(x=torch.ones(4, 1), edge_index=edge_index))
