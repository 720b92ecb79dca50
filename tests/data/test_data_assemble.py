from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.data import Data, HeteroData, TemporalData
from torch_geometric.data.hypergraph_data import HyperGraphData

from graphkit.data.assemble import assemble, counts, part_sizes
from graphkit.data.graphs import GraphSet
from graphkit.data.raw import Raw

EDGES = torch.tensor([[0, 1, 2, 0], [1, 0, 0, 2]])
MASKS = {
    "train_mask": torch.tensor([True, False, False]),
    "val_mask": torch.tensor([False, True, False]),
    "test_mask": torch.tensor([False, False, True]),
}
ONE_EACH = {"train": [1], "val": [1], "test": [1]}


def build(kind, tensors, num_classes=None, **meta):
    return assemble(kind, Raw(tensors, meta), "toy", num_classes)


def test_nodes():
    y = torch.tensor([0, 1, -1])
    data = build("node", {"x": torch.ones(3, 2), "y": y, "edge_index": EDGES, **MASKS}, 2)
    assert type(data) is Data and (data.name, data.num_classes) == ("toy", 2)
    assert counts("node", data) == {
        **{"nodes": 3, "edges": 4, "features": 2, "edge_features": 0, "targets": 1},
        **{"directed": False, "classes": 2, "class_sizes": [1, 1]},
    }
    assert part_sizes("node", data) == ONE_EACH


def test_splits_of_several_columns():
    masks = {key: torch.stack([mask, mask.flip(0)], dim=1) for key, mask in MASKS.items()}
    data = build("node", {"edge_index": EDGES, **masks}, num_nodes=3)
    assert part_sizes("node", data) == {"train": [1, 1], "val": [1, 1], "test": [1, 1]}


def test_a_structure_counts_the_nodes_it_is_told():
    data = build("structure", {"edge_index": EDGES}, num_nodes=9)
    found = counts("structure", data)
    assert (found["nodes"], found["features"], data.num_nodes) == (9, 0, 9)
    assert part_sizes("structure", data) is None


def test_links():
    parts = {
        f"split_edge/{part}/edge": EDGES.t()[:n]
        for part, n in zip(("train", "valid", "test"), (2, 1, 1), strict=True)
    }
    parts["split_edge/valid/edge_neg"] = torch.tensor([[1, 2]])
    data = build("link", {"edge_index": EDGES, **parts}, num_nodes=3)
    assert type(data) is Data and list(data.split_edge) == ["train", "valid", "test"]
    assert list(data.split_edge["valid"]) == ["edge", "edge_neg"]
    assert part_sizes("link", data) == {"train": [2], "val": [1], "test": [1]}
    assert data.to("cpu").split_edge["train"]["edge"].tolist() == [[0, 1], [1, 0]]
    assert part_sizes("link", build("link", {"edge_index": EDGES}, num_nodes=3)) is None


def test_events_can_be_sliced_and_copied():
    """PyG slices every stored value, so a stored name would break it."""
    t = torch.tensor([1, 2, 3])
    data = build("temporal", {"src": t, "dst": t + 1, "t": t, "msg": torch.ones(3, 2), **MASKS})
    assert type(data) is TemporalData and data.name == "toy"
    assert counts("temporal", data) == {"nodes": 5, "events": 3, "features": 2}
    assert part_sizes("temporal", data) == ONE_EACH
    assert data[data.val_mask].t.tolist() == [2] and data[:2].name == "toy"
    assert copy.copy(data).name == data.clone().name == "toy"
    bare = build("temporal", {"src": t, "dst": t, "t": t})
    assert counts("temporal", bare)["features"] == 0 and part_sizes("temporal", bare) is None


def hypergraph(num_nodes, index):
    y = torch.arange(num_nodes) % 2
    meta = {"num_nodes": num_nodes, "num_hyperedges": int(index[1].max()) + 1}
    return build("hypergraph", {"hyperedge_index": index, "y": y}, 2, **meta)


def test_a_hypergraph_with_as_many_hyperedges_as_nodes_keeps_its_isolated_nodes():
    index = torch.tensor([[0, 1, 0, 2, 1, 2], [0, 0, 1, 1, 2, 3]])
    data = hypergraph(4, index)
    assert type(data) is HyperGraphData and torch.equal(data.edge_index, index)
    assert counts("hypergraph", data) == {
        **{"nodes": 4, "hyperedges": 4, "incidences": 6, "features": 0},
        **{"classes": 2, "class_sizes": [2, 2]},
    }
    # the guess that counts has to pass by: PyG takes the last node for absent
    assert data.num_nodes == 3


def test_a_hypergraph_can_be_cut():
    """PyG's subgraph asks every stored value for its size, so a stored name would break it."""
    data = hypergraph(5, torch.tensor([[0, 1, 2, 1, 3], [0, 0, 0, 1, 1]]))
    assert (data.num_hyperedges, data.num_edges, data.num_nodes) == (2, 2, 5)
    part = data.subgraph(torch.tensor([0, 1, 2]))
    assert part.edge_index.tolist() == [[0, 1, 2], [0, 0, 0]] and part.y.tolist() == [0, 1, 0]
    assert part.name == "toy" and part.num_classes == 2


def test_heterogeneous_graphs():
    tensors = {
        "y@paper": torch.tensor([0, 1, 0]),
        "edge_index@author@writes@paper": torch.tensor([[0, 3], [1, 2]]),
        "x@venue": torch.ones(2, 7),
        **{f"{key}@paper": mask for key, mask in MASKS.items()},
    }
    data = build("hetero", tensors, 2, num_nodes={"paper": 3, "author": 4})
    assert type(data) is HeteroData and data.name == "toy" and data.num_classes == 2
    assert part_sizes("hetero", data) == ONE_EACH
    assert data.node_types == ["paper", "venue", "author"]
    assert counts("hetero", data) == {
        **{"nodes": {"paper": 3, "venue": 2, "author": 4}, "edges": {"author__writes__paper": 2}},
        **{"features": {"venue": 7}, "classes": 2, "class_sizes": [2, 1]},
    }


def test_asking_for_the_parts_of_a_heterogeneous_graph_adds_no_node_type():
    data = build("hetero", {"x@a": torch.ones(2, 1)})
    assert part_sizes("hetero", data) is None and data.node_types == ["a"]


@pytest.mark.parametrize("num_classes", [None, 2])
def test_graphs(num_classes):
    tensors = {
        "node_ptr": torch.tensor([0, 2, 3]),
        "edge_ptr": torch.tensor([0, 2, 2]),
        "edge_index": torch.tensor([[0, 1], [1, 0]]),
        "y": torch.tensor([0, 1]),
    }
    data = build("graph", tensors, num_classes)
    assert type(data) is GraphSet and (data.name, data.num_classes) == ("toy", num_classes)
    found = counts("graph", data)
    assert (found["graphs"], found["nodes"], found["edges"], found["features"]) == (2, 3, 2, 0)
    assert found.get("class_sizes") == (None if num_classes is None else [1, 1])
