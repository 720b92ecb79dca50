"""PyG's edge lists and data objects come back as they were, and graphs come back through them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interop_laws import assert_same_attributed, assert_same_graph, columns, same
from torch_geometric import EdgeIndex
from torch_geometric.data import Data, HeteroData
from torch_geometric.data.hypergraph_data import HyperGraphData
from torch_geometric.datasets import Planetoid

from graphkit import Graph, GraphError
from graphkit.interop import (
    Attributed,
    from_data,
    from_edge_index,
    from_hetero_data,
    from_hypergraph_data,
    from_pyg_edge_index,
    to_data,
    to_edge_index,
    to_hetero_data,
    to_hypergraph_data,
    to_pyg_edge_index,
)
from graphkit.testing import graphs

EXAMPLES = settings(max_examples=50)
PATH = torch.tensor([[0, 1], [1, 2]])


@EXAMPLES
@given(graphs(), st.sampled_from([torch.int32, torch.int64]))
def test_edge_index(graph: Graph, dtype: torch.dtype) -> None:
    edge_index = to_edge_index(graph, dtype)
    again = from_edge_index(edge_index, num_src=graph.num_src, num_dst=graph.num_dst)
    assert_same_graph(again, graph)
    assert same(to_edge_index(again, dtype), edge_index)


@st.composite
def edge_indices(draw: Any, bipartite: bool = True) -> EdgeIndex:
    """EdgeIndex objects with every kind of claim that is true of them."""
    graph = draw(graphs(bipartite=bipartite and draw(st.booleans())))
    edges = graph.edge_index().to(draw(st.sampled_from([torch.int32, torch.int64])))
    order, undirected = draw(st.sampled_from(["row", "col", None])), False
    if graph.num_src == graph.num_dst and draw(st.booleans()):
        edges, undirected = torch.cat([edges, edges.flip(0)], 1), True
    if order is not None:
        row = edges[0 if order == "row" else 1]
        edges = edges[:, row.sort(stable=True).indices]
    size = draw(st.sampled_from([(None, None), (1, None), (None, 1), (1, 1)]))
    known = (graph.num_src, graph.num_dst)
    sizes = tuple(n if given_ else None for n, given_ in zip(known, size, strict=True))
    return EdgeIndex(edges, sparse_size=sizes, sort_order=order, is_undirected=undirected)  # pyright: ignore


@EXAMPLES
@given(edge_indices())
def test_an_edge_index_object_comes_back_with_all_it_says(edge_index: EdgeIndex) -> None:
    before = edge_index.sparse_size()
    item = from_pyg_edge_index(edge_index)
    assert edge_index.sparse_size() == before, "PyG caches sizes it is asked for in the object"
    assert same(to_pyg_edge_index(item), edge_index)
    assert_same_attributed(from_pyg_edge_index(to_pyg_edge_index(item)), item)
    for got, said in zip((item.graph.num_src, item.graph.num_dst), before, strict=True):
        assert said is None or got == said


@EXAMPLES
@given(graphs())
def test_a_graph_comes_back_through_an_edge_index_object(graph: Graph) -> None:
    edge_index = to_pyg_edge_index(graph)
    assert edge_index.sparse_size() == (graph.num_src, graph.num_dst)
    assert_same_graph(from_pyg_edge_index(edge_index).graph, graph)


@st.composite
def datas(draw: Any) -> Data:
    """Data objects with columns of both levels, other attributes, and told or guessed sizes."""
    if draw(st.booleans()):
        edge_index: Any = draw(edge_indices(bipartite=False))
        least = max([0, *(int(end.max()) + 1 for end in edge_index.as_tensor() if end.numel())])
        count = max([least, *(size for size in edge_index.sparse_size() if size is not None)])
    else:
        graph = draw(graphs(bipartite=False))
        edge_index, count = graph.edge_index(), graph.num_src
    data = Data(edge_index=edge_index)
    parts = (columns("node", count), columns("edge", edge_index.size(1)), columns("z", 37))
    for part in parts:
        data.update(draw(part))
    data.update(draw(st.fixed_dictionaries({}, optional=WHOLE)))
    if draw(st.booleans()):
        data.x = torch.arange(2.0 * count).reshape(count, 2)
        if draw(st.booleans()):
            data.num_nodes = count
    else:
        data.num_nodes = count
    return data


WHOLE: Any = {
    "y": st.just(torch.tensor(2.5)),
    "title": st.just("a graph"),
    "edge_label_index": st.just(torch.tensor([[0], [0]])),
    "of_both": st.just({"a": [1, None]}),
}


@EXAMPLES
@given(datas())
def test_data_comes_back_with_every_attribute(data: Data) -> None:
    before = copy.deepcopy(data.to_dict())
    item = from_data(data)
    assert same(data.to_dict(), before), "the reader's object is left as it was"
    assert item.graph.num_dst == data.num_nodes
    again = to_data(item)
    assert type(again) is Data and same(again.to_dict(), before)
    assert_same_attributed(from_data(again), item)


@EXAMPLES
@given(datas())
def test_columns_are_what_pyg_says(data: Data) -> None:
    item = from_data(data)
    for key in data.to_dict():
        if key not in ("edge_index", "edge_label_index"):
            assert (key in item.node) == data.is_node_attr(key)
            assert (key in item.edge) == data.is_edge_attr(key)


@EXAMPLES
@given(graphs(bipartite=False))
def test_a_graph_comes_back_through_data(graph: Graph) -> None:
    data = to_data(graph)
    assert data.num_nodes == graph.num_dst
    assert_same_graph(from_data(data).graph, graph)


def test_as_many_edges_as_nodes() -> None:
    """PyG goes by the name; either way everything comes back."""
    ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
    data = Data(torch.ones(3, 1), ring, torch.ones(3, 2), y=torch.arange(3), weight=torch.ones(3))
    item = from_data(data)
    assert set(item.node) == {"x", "y", "weight"} and set(item.edge) == {"edge_attr"}
    assert same(to_data(item).to_dict(), data.to_dict())


def test_a_guessed_number_of_nodes_is_written_down() -> None:
    data = to_data(from_data(Data(edge_index=PATH)))
    assert data.to_dict().keys() == {"edge_index", "num_nodes"} and data.num_nodes == 3


def test_columns_share_memory_with_the_data() -> None:
    data = Data(torch.ones(3, 1), PATH)
    assert from_data(data).node["x"] is data.x
    assert to_data(from_data(data)).x is data.x


def test_planetoid_comes_back(local_data: Path, tmp_path: Path) -> None:
    (tmp_path / "Cora").mkdir()
    raw = local_data / "Planetoid" / "Cora" / "raw"
    (tmp_path / "Cora" / "raw").symlink_to(raw)
    data: Any = Planetoid(str(tmp_path), "Cora")[0]
    item = from_data(data)
    assert set(item.node) == {"x", "y", "train_mask", "val_mask", "test_mask"}
    assert same(to_data(item).to_dict(), data.to_dict())


@st.composite
def hypergraphs(draw: Any) -> HyperGraphData:
    graph = draw(graphs())
    data = HyperGraphData(edge_index=graph.edge_index().flip(0))
    data.update(draw(columns("node", graph.num_dst)))
    data.update(draw(columns("hyperedge", graph.num_src)))
    data.update(draw(columns("member_of_edge", graph.num_edges)))
    if draw(st.booleans()):
        data.x = torch.arange(2.0 * graph.num_dst).reshape(graph.num_dst, 2)
    else:
        data["num_nodes"] = graph.num_dst
    if draw(st.booleans()):
        data.edge_attr = torch.arange(3.0 * graph.num_src).reshape(graph.num_src, 3)
    else:
        data["num_hyperedges"] = graph.num_src
    return data


@EXAMPLES
@given(hypergraphs())
def test_hypergraphs_come_back(data: HyperGraphData) -> None:
    """With isolated nodes and hyperedges at the end, too."""
    before = copy.deepcopy(data.to_dict())
    item = from_hypergraph_data(data)
    again = to_hypergraph_data(item)
    assert type(again) is HyperGraphData and same(again.to_dict(), before)
    assert same(data.to_dict(), before)
    assert_same_attributed(from_hypergraph_data(again), item)


@EXAMPLES
@given(graphs())
def test_a_graph_comes_back_through_a_hypergraph(graph: Graph) -> None:
    assert_same_graph(from_hypergraph_data(to_hypergraph_data(graph)).graph, graph)


def test_the_hypergraph_of_pygs_documentation() -> None:
    """Five nodes, the hyperedges {0, 1, 2} and {1, 2, 3, 4}."""
    edge_index = torch.tensor([[0, 1, 2, 1, 2, 3, 4], [0, 0, 0, 1, 1, 1, 1]])
    data = HyperGraphData(torch.ones(5, 2), edge_index, torch.ones(2, 3), y=torch.ones(7))
    item = from_hypergraph_data(data)
    assert (item.graph.num_dst, item.graph.num_src) == (5, 2)
    assert item.graph.in_degree().tolist() == [1, 2, 2, 1, 1]
    assert (set(item.node), set(item.src), set(item.edge)) == ({"x"}, {"edge_attr"}, {"y"})
    sized = HyperGraphData(
        edge_index=EdgeIndex(edge_index, sparse_size=(6, 3), sort_order="col")  # pyright: ignore
    )
    item = from_hypergraph_data(sized)
    assert (item.graph.num_dst, item.graph.num_src) == (6, 3)
    assert same(to_hypergraph_data(item).to_dict(), sized.to_dict())
    open_rows = HyperGraphData(edge_index=EdgeIndex(edge_index, sparse_size=(None, 9)))  # pyright: ignore
    item = from_hypergraph_data(open_rows)
    assert (item.graph.num_dst, item.graph.num_src) == (5, 9)


KINDS = (("a", "to", "b"), ("b", "back", "a"), ("a", "likes", "a"))


@st.composite
def heteros(draw: Any) -> HeteroData:
    """Node types with and without edges, columns, and attributes at every level."""
    counts = {kind: draw(st.integers(0, 5)) for kind in ("a", "b", "lonely")}
    data = HeteroData(draw(st.fixed_dictionaries({}, optional={"title": st.just("t")})))
    for kind, count in counts.items():
        store = data[kind]
        store.update(draw(columns("node", count)))
        if draw(st.booleans()):
            store.x = torch.ones(count, 2)
        else:
            store.num_nodes = count
    for kind in draw(st.lists(st.sampled_from(KINDS), unique=True)):
        src, dst = counts[kind[0]], counts[kind[2]]
        size = draw(st.integers(0, 6)) if src and dst else 0
        edges = torch.stack([torch.randint(max(n, 1), (size,)) for n in (src, dst)])
        if draw(st.booleans()):
            edges = EdgeIndex(edges.int(), sparse_size=(src, dst))  # pyright: ignore
        data[kind].edge_index = edges
        data[kind].update(draw(columns("edge", size)))
    return data


@EXAMPLES
@given(heteros())
def test_hetero_data_comes_back(data: HeteroData) -> None:
    before = copy.deepcopy(data.to_dict())
    item = from_hetero_data(data)
    assert dict(item.num_nodes) == {kind: data[kind].num_nodes for kind in data.node_types}
    again = to_hetero_data(item)
    assert same(again.to_dict(), before) and same(data.to_dict(), before)
    assert again.metadata() == data.metadata()


@EXAMPLES
@given(graphs(), graphs())
def test_a_dict_of_graphs_comes_back(first: Graph, second: Graph) -> None:
    kinds = {("a", "to", "b"): first, ("c", "to", "d"): second}
    item = from_hetero_data(to_hetero_data(kinds))
    for kind, graph in kinds.items():
        assert_same_graph(item.graphs[kind], graph)


def test_node_types_that_only_edges_name() -> None:
    data = HeteroData()
    data["a", "to", "b"].edge_index = PATH
    item = from_hetero_data(data)
    assert dict(item.num_nodes) == {"a": 2, "b": 3}
    again = to_hetero_data(item)
    assert again["b"].num_nodes == 3, "what was guessed is written down"


def test_a_node_type_may_be_called_like_a_relation() -> None:
    graph = Graph.from_edge_index(PATH, 3)
    data = to_hetero_data({("user", "group", "user"): graph, ("user", "in", "group"): graph})
    assert data.node_types == ["user", "group"]
    assert data.get_node_store("group").num_nodes == 3


HYPER = Attributed(Graph.from_edge_index(PATH, num_src=4, num_dst=3), src={"h": torch.ones(4)})
SQUARE = Attributed(Graph.from_edge_index(PATH, 3), {"w": torch.ones(3)}, {"w": torch.ones(2)})
CLAIM = {"sparse_size": (3, 3), "sort_order": "row", "is_undirected": True}


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: from_data(HeteroData()), r"got a HeteroData, but a .*Data is expected"),
        (lambda: from_data(HyperGraphData()), r"got a HyperGraphData.*Use from_hypergraph_data"),
        (lambda: from_data(Data(x=torch.ones(3))), r"Data has no edge_index.*\(it holds: x\)"),
        (lambda: from_data(Data(edge_index=[[0], [1]])), r"edge_index is a list"),
        (lambda: from_data(Data(edge_index=PATH, num_nodes=2)), r"edge_index\[1, 1\] = 2, but"),
        (lambda: to_data(HYPER), r"to_data: the graph is bipartite \(4 sources, 3 dest"),
        (lambda: to_data(SQUARE), r"the name 'w' is used twice"),
        (lambda: to_data(replace(SQUARE, edge={}, node={7: "abc"})), r"7 has a int as its name"),
        (lambda: to_data(replace(SQUARE, edge={}, whole={"num_nodes": 5})), r"given as 5.* has 3"),
        (lambda: to_data(replace(SQUARE, edge={}, whole={"edge_index": CLAIM})), r"contradicts"),
        (lambda: to_data(PATH), r"to_data got a Tensor, but a graphkit.Graph or an Attributed"),
        (lambda: from_hypergraph_data(Data()), r"got a Data, but a .*HyperGraphData is expected"),
        (
            lambda: to_hypergraph_data(replace(HYPER, whole={"num_hyperedges": 2})),
            r"num_hyperedges is given as 2, but the graph has 4",
        ),
        (lambda: from_hetero_data(Data()), r"got a Data, but a .*HeteroData is expected"),
        (
            lambda: from_hetero_data(HeteroData(a__to__b={"edge_attr": PATH})),
            r"edge type \('a', 'to', 'b'\) has no edge_index.*holds: edge_attr",
        ),
        (lambda: to_hetero_data([PATH]), r"got a list, but a Hetero or a dict"),
        (
            lambda: to_hetero_data({("a", "to", "b"): HYPER.graph, ("b", "to", "b"): HYPER.graph}),
            r"has 4 nodes of type 'b', but num_nodes\['b'\] is 3",
        ),
        (lambda: from_edge_index(EdgeIndex(PATH)), r"got an EdgeIndex.*from_pyg_edge_index"),
        (lambda: from_pyg_edge_index(PATH), r"got a Tensor, but an EdgeIndex"),
        (lambda: from_pyg_edge_index(EdgeIndex(PATH, sparse_size=(2, 2))), r"contradicts its"),
        (lambda: to_pyg_edge_index(SQUARE, sort_order="col", is_undirected=True), r"contradicts"),
        (lambda: to_pyg_edge_index(HYPER.graph, is_undirected=True), r"cannot be an EdgeIndex"),
        (lambda: to_pyg_edge_index(SQUARE, sort_order="up"), r"cannot be an EdgeIndex: 'up'"),
        (
            lambda: to_pyg_edge_index(from_pyg_edge_index(EdgeIndex(PATH)), sort_order="row"),
            r"whole\['edge_index'\] says them already",
        ),
        (lambda: to_edge_index(SQUARE.graph, torch.int16), r"dtype is torch.int16, but"),
    ],
)
def test_what_cannot_be_converted(call: Any, match: str) -> None:
    with pytest.raises(GraphError, match=match):
        call()
