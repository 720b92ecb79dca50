"""DGL's graphs, where the package is there, and the error where it is not."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interop_laws import assert_same_attributed, assert_same_graph, same, weights

from graphkit import BackendError, Graph, GraphError
from graphkit.interop import Attributed, Hetero, from_dgl, to_dgl
from graphkit.testing import graphs

EXAMPLES = settings(max_examples=40)
PATH = Graph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 3)
WIDE = Graph.from_edge_index(torch.tensor([[0, 4], [1, 2]]), num_src=5, num_dst=3)


@EXAMPLES
@given(graphs(bipartite=False), st.booleans(), st.data())
def test_a_homogeneous_graph(graph: Graph, small: bool, data: st.DataObject) -> None:
    dgl = pytest.importorskip("dgl")
    form = {"edge_index": {"dtype": torch.int32}} if small else {}
    edge = {"w": data.draw(weights(graph.num_edges))} if graph.num_edges else {}
    node = {"x": torch.ones(graph.num_dst, 2)} if graph.num_dst else {}
    item = Attributed(graph, node, edge, whole=form)
    g = to_dgl(item)
    assert g.is_homogeneous and g.idtype == (torch.int32 if small else torch.int64)
    assert_same_attributed(from_dgl(g), item)
    src, dst = graph.edge_index()
    theirs = dgl.graph((src, dst), num_nodes=graph.num_dst)
    assert_same_graph(from_dgl(theirs).graph, graph)


@EXAMPLES
@given(graphs(), graphs())
def test_a_heterogeneous_graph(first: Graph, second: Graph) -> None:
    pytest.importorskip("dgl")
    kinds = {("a", "to", "b"): first, ("c", "to", "d"): second}
    counts = {"a": first.num_src, "b": first.num_dst, "c": second.num_src, "d": second.num_dst}
    node = {kind: {"x": torch.ones(count)} if count else {} for kind, count in counts.items()}
    edge = {kind: {"w": torch.arange(g.num_edges)} for kind, g in kinds.items() if g.num_edges}
    item = Hetero(kinds, counts, node, edge)
    again = from_dgl(to_dgl(item))
    assert isinstance(again, Hetero)
    assert dict(again.num_nodes) == counts
    for kind, graph in kinds.items():
        assert_same_graph(again.graphs[kind], graph)
        assert same(dict(again.edge[kind]), edge.get(kind, {}))
    assert same(dict(again.node), node)
    bare = from_dgl(to_dgl(kinds))
    assert isinstance(bare, Hetero) and dict(bare.num_nodes) == counts


def test_one_named_type_keeps_its_name() -> None:
    pytest.importorskip("dgl")
    again = from_dgl(to_dgl({("user", "knows", "user"): PATH}))
    assert isinstance(again, Hetero) and list(again.graphs) == [("user", "knows", "user")]


def test_edges_built_in_parts_keep_their_ids() -> None:
    dgl = pytest.importorskip("dgl")
    g = dgl.graph(([2, 0], [1, 1]), num_nodes=4)
    g = dgl.add_edges(g, [1], [0]).formats("csc")
    item = from_dgl(g)
    assert isinstance(item, Attributed)
    assert item.graph.edge_index().tolist() == [[2, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: from_dgl(PATH), r"got a Graph, but a dgl.DGLGraph that is no block"),
        (lambda: from_dgl(_block()), r"got a DGLBlock, but a .*dgl\.block_to_graph"),
        (lambda: to_dgl({}), r"to_dgl got no edge type, but a DGLGraph has at least one"),
        (lambda: to_dgl(WIDE), r"to_dgl: the graph is bipartite \(5 sources"),
        (lambda: to_dgl(Attributed(PATH, {"x": ["a", "b", "c"]})), r"'x' is a list, but DGL holds"),
        (lambda: to_dgl(Attributed(PATH, whole={"y": 1})), r"whole graph, but there are \['y'\]"),
        (lambda: to_dgl(Attributed(PATH, {7: torch.ones(3)})), r"7 is not named by a string"),
        (
            lambda: to_dgl(Hetero({("a", "to", "a"): PATH}, {"a": 3}, {"a": {"m": torch.ones(2)}})),
            r"'m' is a Tensor of shape \[2\], but DGL holds tensors \[3, \.\.\.\]",
        ),
    ],
)
def test_what_cannot_be_converted(call: Any, match: str) -> None:
    pytest.importorskip("dgl")
    with pytest.raises(GraphError, match=match):
        call()


def test_what_pyg_notes_is_no_obstacle() -> None:
    pytest.importorskip("dgl")
    item = Attributed(PATH, {"x": torch.ones(3)}, whole={"num_nodes": 3})
    again = from_dgl(to_dgl(item))
    assert isinstance(again, Attributed)
    assert_same_attributed(again, replace(item, whole={}))


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dgl", None)
    for call in (lambda: from_dgl(None), lambda: to_dgl(PATH)):
        with pytest.raises(BackendError, match=r"DGL cannot be imported.*pip install dgl==1\.1\.3"):
            call()


def test_a_package_built_for_another_torch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dgl").mkdir()
    (tmp_path / "dgl" / "__init__.py").write_text("raise FileNotFoundError('no graphbolt here')")
    monkeypatch.delitem(sys.modules, "dgl", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for call in (lambda: from_dgl(None), lambda: to_dgl(PATH)):
        with pytest.raises(BackendError, match=r"beside torch .*: no graphbolt here\. Install"):
            call()


def _block() -> Any:
    dgl = pytest.importorskip("dgl")
    return dgl.to_block(dgl.graph(([0, 1], [1, 2])), [2])
