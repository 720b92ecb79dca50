"""pandas edge lists come back with their dtypes, and graphs come back through them."""

from __future__ import annotations

import sys
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interop_laws import assert_same_attributed, assert_same_graph, same

from graphkit import BackendError, Graph, GraphError
from graphkit.interop import Attributed, from_networkx, from_pandas, to_networkx, to_pandas
from graphkit.testing import graphs

EXAMPLES = settings(max_examples=50)

NAMES = {
    "int64": st.integers(-5, 5),
    "int32": st.integers(0, 5),
    "uint8": st.integers(0, 5),
    "float64": st.sampled_from([0.5, 1.0, -2.0]),
    "bool": st.booleans(),
    "str": st.sampled_from(["a", "b", "c"]),
    "category": st.sampled_from(["a", "b"]),
    "datetime64[ns]": st.sampled_from([pd.Timestamp("2020-01-01"), pd.Timestamp("2021-01-01")]),
    "Int64": st.integers(0, 4),
    "object": st.one_of(
        st.integers(0, 3), st.sampled_from(["a", "b"]), st.tuples(st.integers(0, 2), st.just("t"))
    ),
}
COLUMNS = {
    "bool": st.booleans(),
    "int8": st.integers(-9, 9),
    "uint16": st.integers(0, 9),
    "int64": st.integers(-(2**60), 2**60),
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "complex128": st.complex_numbers(allow_nan=False),
    "str": st.sampled_from(["a", "b"]),
    "category": st.sampled_from(["a", "b"]),
    "datetime64[ns]": st.just(pd.Timestamp("2020-01-01")),
    "Int64": st.one_of(st.integers(0, 4), st.just(pd.NA)),
    "object": st.one_of(st.integers(0, 3), st.none(), st.tuples(st.text(max_size=1))),
}


def series(values: list[Any], dtype: str) -> pd.Series:
    if dtype == "object":
        array = np.empty(len(values), dtype=object)
        array[:] = [*values, None][:-1]
        return pd.Series(array, dtype=object)
    return pd.Series(values, dtype=dtype)


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    """Edge lists with names and further columns of any dtype."""
    count = draw(st.integers(0, 7))

    def column(kinds: dict[str, Any], dtype: str) -> pd.Series:
        return series(draw(st.lists(kinds[dtype], min_size=count, max_size=count)), dtype)

    kind = draw(st.sampled_from(sorted(NAMES)))
    source, target = column(NAMES, kind), column(NAMES, kind)
    if kind == "category":
        kinds = pd.CategoricalDtype(["a", "b", "c"])
        source, target = source.astype(kinds), target.astype(kinds)
    found: dict[Any, pd.Series] = {"source": source, "target": target}
    for i, dtype in enumerate(draw(st.lists(st.sampled_from(sorted(COLUMNS)), max_size=3))):
        found[draw(st.sampled_from([f"c{i}", i, ("c", i)]))] = column(COLUMNS, dtype)
    frame = pd.concat(found.values(), axis=1)
    frame.columns = pd.Index(list(found), tupleize_cols=False)
    frame.attrs.update(draw(st.fixed_dictionaries({}, optional={"made": st.just("today")})))
    return frame


@EXAMPLES
@given(frames())
def test_an_edge_list_comes_back_equal(frame: pd.DataFrame) -> None:
    item = from_pandas(frame)
    again = to_pandas(item)
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    assert again.attrs == frame.attrs
    twice = from_pandas(
        again, nodes=item.names if item.names is not None else range(item.graph.num_dst)
    )
    assert_same_graph(twice.graph, item.graph)


@EXAMPLES
@given(frames())
def test_nodes_are_those_of_networkx(frame: pd.DataFrame) -> None:
    item = from_pandas(frame)
    g = nx.from_pandas_edgelist(frame, create_using=nx.MultiDiGraph)
    assert (list(range(len(g))) if item.names is None else list(item.names)) == list(g)
    assert item.graph.num_edges == g.number_of_edges()


@EXAMPLES
@given(graphs(bipartite=False), st.data())
def test_a_graph_comes_back(graph: Graph, data: st.DataObject) -> None:
    """In the order of edges; nodes without any are named by ``nodes``."""
    named = graph.num_dst > 0 and data.draw(st.booleans())
    names = [f"n{i}" for i in range(graph.num_dst)] if named else None
    item = Attributed(graph, edge={"w": torch.randn(graph.num_edges)}, names=names)
    nodes = range(graph.num_dst) if names is None else names
    again = from_pandas(to_pandas(item, "u", "v"), "u", "v", nodes=nodes)
    assert_same_attributed(again, item)


def test_columns_of_two_dtypes() -> None:
    """A bipartite edge list: numbers on one side, strings on the other, and they stay apart."""
    frame = pd.DataFrame({"source": [1, 2, 1], "target": ["a", "b", "1"], "w": [1, 0, 2]})
    item = from_pandas(frame)
    assert item.names == (1, "a", 2, "b", "1")
    assert same(item.edge["w"], torch.tensor([1, 0, 2]))
    pd.testing.assert_frame_equal(to_pandas(item), frame)
    exact = pd.DataFrame({"source": [2**53 + 1], "target": [2.0**53]})
    assert from_pandas(exact).names == (2**53 + 1, 2.0**53)


def test_numpy_and_pandas_columns_go_on_to_networkx() -> None:
    frame = pd.DataFrame(
        {"source": ["a", "b"], "target": ["b", "c"], "kind": ["x", "y"], "w": [1, 2]}
    )
    g = to_networkx(from_pandas(frame))
    assert list(g.edges(data=True)) == [
        ("a", "b", {"kind": "x", "w": 1}),
        ("b", "c", {"kind": "y", "w": 2}),
    ]
    frame_again = to_pandas(from_networkx(g))
    pd.testing.assert_frame_equal(frame_again, frame, check_dtype=False)


def test_the_readers_frame_is_left_alone() -> None:
    frame = pd.DataFrame({"source": [0, 1], "target": [1, 0], "w": [1.0, 2.0]})
    from_pandas(frame).edge["w"].zero_()
    assert frame["w"].tolist() == [1.0, 2.0]


LOOPS = pd.DataFrame({"source": ["a", None], "target": ["a", "b"]})
GRAPH = Graph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 2)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: from_pandas([(0, 1)]), r"got a list, but a pandas DataFrame is expected"),
        (lambda: from_pandas(LOOPS), r"row 1 has no node name in column 'source'"),
        (lambda: from_pandas(LOOPS, "u"), r"no column 'u', only \['source', 'target'\]"),
        (lambda: from_pandas(LOOPS, "source", "source"), r"are both 'source', but two"),
        (
            lambda: from_pandas(pd.concat([LOOPS, LOOPS], axis=1)),
            r"columns \['source', 'target'\] appear more than once",
        ),
        (lambda: from_pandas(LOOPS[:1], nodes=["b"]), r"'a' is not among the 1 in nodes"),
        (lambda: from_pandas(LOOPS[:1], nodes=["a", "a"]), r"2 entries, but only 1 of them differ"),
        (
            lambda: to_pandas(
                Graph.from_edge_index(torch.zeros(2, 1, dtype=int), num_src=2, num_dst=3)
            ),
            r"to_pandas: the graph is bipartite \(2 sources",
        ),
        (
            lambda: to_pandas(Attributed(GRAPH, edge={"source": torch.ones(2)})),
            r"an edge column is called 'source', like the column of nodes",
        ),
        (
            lambda: to_pandas(Attributed(GRAPH, edge={"f": torch.ones(2, 3)})),
            r"'f' has shape \[2, 3\], but one number",
        ),
        (
            lambda: to_pandas(Attributed(GRAPH, edge={"f": torch.ones(2).bfloat16()})),
            r"'f' has dtype torch.bfloat16, which numpy does not",
        ),
    ],
)
def test_what_cannot_be_converted(call: Any, match: str) -> None:
    with pytest.raises(GraphError, match=match):
        call()


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for call in (lambda: from_pandas(LOOPS), lambda: to_pandas(GRAPH)):
        with pytest.raises(BackendError, match="'pandas'.*pip install pandas"):
            call()
