"""networkx's four classes come back equal: names, keys, attributes of any kind, and order."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interop_laws import assert_same_attributed, assert_same_graph, same
from torch_geometric.utils import from_networkx as pyg_from_networkx
from torch_geometric.utils import to_networkx as pyg_to_networkx

from graphkit import BackendError, Graph, GraphError
from graphkit.interop import MISSING, Attributed, from_networkx, to_data, to_networkx
from graphkit.testing import graphs

CLASSES = (nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph)
EXAMPLES = settings(max_examples=50)

NAMES = st.one_of(
    st.integers(-3, 20), st.text("ab", max_size=2), st.tuples(st.integers(0, 2), st.booleans())
)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.complex_numbers(allow_nan=False),
    st.text(max_size=2),
    st.none(),
    st.lists(st.floats(0, 1), max_size=2),
    st.tuples(st.integers(), st.text(max_size=1)),
    st.sampled_from([np.float32(0.1), np.int8(3), np.uint16(9), np.str_("s")]),
)
# columns of one kind, so that tensors come up as often as objects
PURE = st.sampled_from([(True, False), (1, 2), (0.5, 2.0), (1j, 2.0 + 0j), ([1, 2], [3, 4])])


@st.composite
def attributes(draw: Any, count: int) -> list[dict[Any, Any]]:
    """``count`` dicts: some names in all of them with values of one kind, others here and there."""
    rows = [draw(st.dictionaries(st.sampled_from(["a", "b", 7]), VALUES)) for _ in range(count)]
    for name in draw(st.lists(st.sampled_from(["w", "x", ("t", 1)]), unique=True, max_size=2)):
        pool = draw(PURE)
        for row in rows:
            row[name] = draw(st.sampled_from(pool))
    return rows


@st.composite
def networks(draw: Any, classes: tuple[type, ...] = CLASSES) -> Any:
    g = draw(st.sampled_from(classes))(**draw(st.fixed_dictionaries({}, optional={"day": VALUES})))
    names = draw(st.lists(NAMES, unique=True, max_size=5))
    if draw(st.booleans()):
        names = list(range(len(names)))
    g.add_nodes_from(zip(names, draw(attributes(len(names))), strict=True))
    if names:
        ends = st.tuples(st.sampled_from(names), st.sampled_from(names))
        pairs = draw(st.lists(ends, max_size=8))
        for (src, dst), values in zip(pairs, draw(attributes(len(pairs))), strict=True):
            # keys of the caller's beside networkx's own 0, 1, ...
            key = {"key": draw(st.sampled_from(["k", 1, ("p", 2)]))} if draw(st.booleans()) else {}
            end = g.add_edge(src, dst, **(key if g.is_multigraph() else {}))
            (g.edges[src, dst, end] if g.is_multigraph() else g.edges[src, dst]).update(values)
    for name in draw(st.lists(st.sampled_from(names), max_size=1)) if names else ():
        g.remove_node(name)
    return g


def edges(g: Any) -> list[Any]:
    return list(g.edges(keys=True, data=True) if g.is_multigraph() else g.edges(data=True))


def assert_same_network(got: Any, want: Any) -> None:
    assert type(got) is type(want)
    assert same(list(got.nodes(data=True)), list(want.nodes(data=True)))
    assert same(edges(got), edges(want))
    assert same(got.graph, want.graph)


@EXAMPLES
@given(networks())
def test_a_network_comes_back_equal(g: Any) -> None:
    item = from_networkx(g)
    again = to_networkx(item)
    assert_same_network(again, g)
    order = {name: list(near) for name, near in again.adjacency()}
    assert order == {name: list(near) for name, near in g.copy().adjacency()}
    once = from_networkx(again)
    assert_same_attributed(from_networkx(to_networkx(once)), once)
    if g.is_directed():
        assert_same_attributed(once, item)


@EXAMPLES
@given(networks())
def test_edges_are_those_of_the_directed_form(g: Any) -> None:
    item = from_networkx(g)
    names = list(g) if item.names is None else item.names
    assert list(names) == list(g)
    src, dst = item.graph.edge_index().tolist()
    both = g.to_directed() if item.directed else nx.MultiDiGraph(g.to_directed())
    listed = sorted(((names[a], names[b]) for a, b in zip(src, dst, strict=True)), key=repr)
    assert listed == sorted(((a, b) for a, b, *_ in both.edges), key=repr)
    assert (item.keys is not None) == g.is_multigraph()
    assert item.directed == g.is_directed()


@EXAMPLES
@given(graphs(bipartite=False))
def test_a_graph_comes_back_ordered_by_source(graph: Graph) -> None:
    item = from_networkx(to_networkx(graph, multigraph=True))
    assert item.graph.num_dst == graph.num_dst and item.names is None
    weight = torch.arange(graph.num_edges)
    back = from_networkx(to_networkx(Attributed(graph, edge={"i": weight}), multigraph=True))
    assert_same_graph(back.graph, item.graph)
    if graph.num_edges:
        order = torch.as_tensor(back.edge["i"])
        assert torch.equal(back.graph.edge_index(), graph.edge_index()[:, order])
        assert torch.equal(order.sort().values, weight)


DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
    torch.float32, torch.float64, torch.complex64, torch.complex128, torch.uint16,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 2)])
def test_tensor_columns_keep_their_dtype_and_shape(dtype: torch.dtype, shape: tuple) -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)
    column = torch.arange(12).reshape(3, 2, 2).to(dtype)
    column = column[(..., *[0] * (3 - len(shape)))]
    item = Attributed(graph, {"x": column}, {"w": column}, whole={"anything": column})
    g = to_networkx(item)
    assert_same_attributed(from_networkx(g), item)
    assert g.nodes[1]["x"] == column[1].tolist()


@given(networks((nx.Graph, nx.DiGraph, nx.MultiDiGraph)))
@settings(max_examples=40)
def test_edges_agree_with_pyg(g: Any) -> None:
    for _, _, values in g.edges(data=True):
        values.clear()
    for _, values in g.nodes(data=True):
        values.clear()
    g.graph.clear()
    theirs: Any = pyg_from_networkx(g)
    ours = to_data(from_networkx(g))
    assert torch.equal(ours.edge_index, theirs.edge_index) and ours.num_nodes == theirs.num_nodes


def test_attributes_agree_with_pyg() -> None:
    g = nx.karate_club_graph()
    theirs: Any = pyg_from_networkx(g)
    item = from_networkx(g)
    ours: Any = to_data(replace(item, whole={}))
    assert torch.equal(ours.edge_index, theirs.edge_index)
    assert same(ours.weight, theirs.weight) and list(ours.club) == theirs.club
    assert nx.utils.graphs_equal(to_networkx(item), g)
    back = pyg_to_networkx(theirs, edge_attrs=["weight"])
    bare = to_networkx(Attributed(item.graph, edge={"weight": item.edge["weight"]}))
    assert nx.utils.graphs_equal(back, bare)


def test_what_becomes_a_tensor_and_what_stays() -> None:
    g = nx.Graph()
    g.add_node("u", size=1, name="first", rank=1.5, some=True, mixed=1, np=np.float64(0.5))
    g.add_node("v", size=2, name="second", rank=2.5, mixed=1.0, np=np.float64(2.5))
    g.add_edge("u", "v", w=0.5)
    node = from_networkx(g).node
    assert same(node["size"], torch.tensor([1, 2]))
    assert same(node["rank"], torch.tensor([1.5, 2.5], dtype=torch.float64))
    assert same(node["np"], torch.tensor([0.5, 2.5], dtype=torch.float64))
    assert node["name"] == ("first", "second")
    assert node["some"] == (True, MISSING)
    assert same(node["mixed"], (1, 1.0))
    assert from_networkx(g).edge["w"].tolist() == [0.5, 0.5]


def test_views_and_frozen_graphs_are_read() -> None:
    g = nx.MultiGraph([(0, 1), (1, 2), (1, 2), (3, 1)])
    view = g.subgraph([3, 2, 1])
    assert_same_network(to_networkx(from_networkx(view)), nx.MultiGraph(view))
    assert_same_network(to_networkx(from_networkx(nx.freeze(g))), nx.MultiGraph(g))


BOTH = torch.tensor([[0, 1, 1], [1, 0, 1]])
PAIR = Attributed(Graph.from_edge_index(BOTH, 2), directed=False)
WIDE = Graph.from_edge_index(BOTH, num_src=2, num_dst=3)


def test_an_undirected_graph_by_hand() -> None:
    item = replace(PAIR, edge={"w": torch.tensor([float("nan"), float("nan"), 2])})
    g = to_networkx(item)
    assert type(g) is nx.Graph and list(g.edges) == [(0, 1), (1, 1)]
    double = replace(PAIR, graph=Graph.from_edge_index(torch.cat([BOTH, BOTH], 1), 2))
    assert list(to_networkx(double, multigraph=True).edges) == [
        (0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: from_networkx([(0, 1)]), r"got a list, but a networkx graph is expected"),
        (lambda: to_networkx(WIDE), r"to_networkx: the graph is bipartite \(2 sources, 3"),
        (
            lambda: to_networkx(Graph.from_edge_index(BOTH[:, [0, 0, 1]], 2)),
            r"has 3 edges, but networkx keeps 2.*are parallel. Pass multigraph=True\.",
        ),
        (
            lambda: to_networkx(
                Attributed(Graph.from_edge_index(BOTH[:, [0, 0]], 2), keys=("k", "k"))
            ),
            r"have the same key. Pass multigraph=True and replace keys by None",
        ),
        (
            lambda: to_networkx(replace(PAIR, graph=Graph.from_edge_index(BOTH[:, [0, 2]], 2))),
            r"undirected, but 1 edges lead to a later node and 0 to an earlier",
        ),
        (
            lambda: to_networkx(replace(PAIR, edge={"w": torch.tensor([1, 2, 3])})),
            r"undirected, but 'w' differs between the two directions",
        ),
        (lambda: to_networkx(replace(PAIR, keys=(0, 1, 0))), r"but 'keys' differs between"),
        (
            lambda: to_networkx(replace(PAIR, edge={"w": (np.ones(2), np.ones(2), 0)})),
            r"but 'w' differs between",
        ),
        (
            lambda: to_networkx(replace(PAIR, node={"x": torch.ones(2).bfloat16()})),
            r"column 'x' has dtype torch.bfloat16, which numpy",
        ),
    ],
)
def test_what_cannot_be_converted(call: Any, match: str) -> None:
    with pytest.raises(GraphError, match=match):
        call()


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    g = nx.Graph()
    monkeypatch.setitem(sys.modules, "networkx", None)
    for call in (lambda: from_networkx(g), lambda: to_networkx(PAIR)):
        with pytest.raises(BackendError, match="'networkx'.*pip install networkx"):
            call()
