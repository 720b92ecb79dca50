"""Attributed and Hetero refuse what does not fit, and importing the room stays light."""

from __future__ import annotations

import ast
import copy
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import torch

import graphkit as gk
from graphkit import GraphError, interop
from graphkit.interop import MISSING, Attributed, Hetero

PATH = gk.Graph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 3)
WIDE = gk.Graph.from_edge_index(torch.tensor([[0, 4], [1, 2]]), num_src=5, num_dst=3)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"node": {"x": torch.ones(2)}}, r"node\['x'\] has 2 entries, but 3 .* into whole"),
        ({"edge": {"w": [1, 2, 3]}}, r"edge\['w'\] has 3 entries, but 2 are expected"),
        ({"node": {"x": torch.tensor(1.0)}}, r"node\['x'\] has no entries, but 3 are expected"),
        ({"node": {"x": 7}}, r"node\['x'\] has no entries"),
        ({"keys": (0,)}, r"keys has 1 entries, but 2 are expected"),
        ({"names": ("a", "b")}, r"names has 2 entries, but 3 are expected"),
        ({"names": ("a", "b", "a")}, r"3 entries, but only 2 of them differ. Give each node"),
        ({"names": ("a", [], "b")}, r"names holds a value that cannot be hashed"),
    ],
)
def test_columns_that_do_not_fit(parts: dict, match: str) -> None:
    with pytest.raises(GraphError, match=match):
        Attributed(PATH, **parts)


def test_the_sides_of_a_bipartite_graph_have_columns_of_their_own() -> None:
    item = Attributed(WIDE, node={"x": torch.ones(3)}, src={"h": torch.ones(5)})
    with pytest.raises(GraphError, match=r"src\['h'\] has 3 entries, but 5"):
        replace(item, src={"h": torch.ones(3)})
    with pytest.raises(FrozenInstanceError):
        item.directed = False  # pyright: ignore[reportAttributeAccessIssue]


def test_repr_names_the_columns_but_not_their_content() -> None:
    item = Attributed(PATH, {"x": torch.ones(3)}, names="abc", directed=False)
    assert repr(item) == f"Attributed({PATH!r}, node=['x'], names=..., directed=False)"
    kinds = Hetero({("a", "to", "b"): WIDE}, {"a": 5, "b": 3})
    assert repr(kinds) == "Hetero(num_nodes={'a': 5, 'b': 3}, num_edges={('a', 'to', 'b'): 2})"


def test_hetero_sizes_must_agree() -> None:
    with pytest.raises(GraphError, match=r"has 3 nodes of type 'b', but num_nodes\['b'\] is 4"):
        Hetero({("a", "to", "b"): WIDE}, {"a": 5, "b": 4})
    with pytest.raises(GraphError, match=r"node\['c'\] is given, but the node types are \['a'"):
        Hetero({("a", "to", "b"): WIDE}, {"a": 5, "b": 3}, node={"c": {}})


def test_missing_is_one_object() -> None:
    assert repr(MISSING) == "MISSING"
    assert copy.deepcopy(MISSING) is MISSING


def test_the_formats_are_imported_on_use() -> None:
    """PyG itself may load some of them, so this reads what the room's files import at their top."""
    assert interop.__file__ is not None
    for path in Path(interop.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            else:
                names = {node.module} if isinstance(node, ast.ImportFrom) and not node.level else ()
            assert {"pandas", "networkx", "scipy", "dgl", "torch_sparse"}.isdisjoint(names), path
