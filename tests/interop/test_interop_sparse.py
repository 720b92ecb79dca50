"""Sparse matrices of torch, scipy and torch_sparse: round trips, PyG's and scipy's own readings."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interop_laws import assert_same_graph, same, weights
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import ToSparseTensor
from torch_geometric.utils import from_scipy_sparse_matrix, to_scipy_sparse_matrix
from torch_geometric.utils import to_edge_index as pyg_to_edge_index

from graphkit import BackendError, ConfigError, Graph, GraphError
from graphkit.interop import (
    from_scipy,
    from_sparse_tensor,
    from_torch_sparse,
    to_scipy,
    to_sparse_tensor,
    to_torch_sparse,
)
from graphkit.testing import dense_adjacency, graphs

# torch says so once per process, at the first CSR tensor of all
pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly:UserWarning"),
]

ROWS = st.sampled_from(["source", "destination"])
EXAMPLES = settings(max_examples=50)
PARALLEL = Graph.from_edge_index(torch.tensor([[2, 0, 2], [1, 1, 1]]), 3)


def sorted_by(graph: Graph, rows: str, both: bool = False) -> Tensor:
    """The order of edges by row (and column), which is stable."""
    row, col = graph.edge_index() if rows == "source" else graph.edge_index().flip(0)
    place = row * max(graph.num_src, graph.num_dst) + col if both else row
    return place.sort(stable=True).indices


def reordered(graph: Graph, order: Tensor) -> Graph:
    edges = graph.edge_index()[:, order]
    return Graph.from_edge_index(edges, num_src=graph.num_src, num_dst=graph.num_dst)


def simple(graph: Graph) -> Graph:
    """``graph`` without parallel edges."""
    edges = graph.edge_index().unique(dim=1)
    edges = edges[:, torch.randperm(edges.size(1))]
    return Graph.from_edge_index(edges, num_src=graph.num_src, num_dst=graph.num_dst)


@EXAMPLES
@given(graphs(), ROWS, st.data())
def test_scipy_coo_keeps_everything(graph: Graph, rows: Any, data: st.DataObject) -> None:
    weight = data.draw(weights(graph.num_edges))
    matrix = to_scipy(graph, weight, "coo", rows)
    again, values = from_scipy(matrix, rows)
    assert_same_graph(again, graph)
    assert same(values, weight)


@EXAMPLES
@given(graphs(), ROWS, st.sampled_from(["csr", "csc"]), st.data())
def test_scipy_compressed_keeps_all_but_the_order(
    graph: Graph, rows: Any, format: Any, data: st.DataObject
) -> None:
    weight = data.draw(weights(graph.num_edges))
    again, values = from_scipy(to_scipy(graph, weight, format, rows), rows)
    turned = {"source": "destination", "destination": "source"}
    order = sorted_by(graph, rows if format == "csr" else turned[rows])
    assert_same_graph(again, reordered(graph, order))
    assert same(values, weight[order])


@EXAMPLES
@given(graphs(), st.sampled_from(["coo", "csr", "csc"]), st.data())
def test_scipy_matrices_come_back(graph: Graph, format: Any, data: st.DataObject) -> None:
    """Also with repeated entries and columns out of order, which scipy allows."""
    weight = data.draw(weights(graph.num_edges))
    matrix = to_scipy(graph, weight, format)
    again = to_scipy(*from_scipy(matrix), format)
    parts = ("data", "row", "col") if format == "coo" else ("data", "indices", "indptr")
    assert type(again) is type(matrix) and again.shape == matrix.shape
    for part in parts:
        assert same(getattr(again, part), getattr(matrix, part))


@pytest.mark.parametrize("format", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("flavour", ["array", "matrix"])
def test_every_scipy_format_is_read(format: str, flavour: str) -> None:
    dense = np.array([[0, 2.5, 0, 0], [1, 0, 0, 4]])
    matrix = getattr(sparse, f"{format}_{flavour}")(dense)
    graph, weight = from_scipy(matrix)
    assert (graph.num_src, graph.num_dst) == dense.shape
    assert torch.equal(dense_adjacency(graph, weight), torch.from_numpy(dense.T))
    assert sorted(weight[weight != 0].tolist()) == [1, 2.5, 4]


@given(graphs(bipartite=False), st.data())
@settings(max_examples=30)
def test_scipy_agrees_with_pyg(graph: Graph, data: st.DataObject) -> None:
    weight = data.draw(weights(graph.num_edges))
    theirs = to_scipy_sparse_matrix(graph.edge_index(), weight, graph.num_src)
    ours = to_scipy(graph, weight, "coo")
    for part in ("data", "row", "col"):
        assert (getattr(ours, part) == getattr(theirs, part)).all()
    edge_index, values = from_scipy_sparse_matrix(ours)
    again, ours_values = from_scipy(theirs)
    assert torch.equal(edge_index, again.edge_index()) and same(values, ours_values)


@EXAMPLES
@given(graphs(), st.integers(0, 2), ROWS)
def test_torch_coo_keeps_everything(graph: Graph, width: int, rows: Any) -> None:
    value = torch.arange(graph.num_edges * 2.0).reshape(-1, 2)[:, :width]
    value = value[:, 0] if width == 1 else value
    matrix = to_torch_sparse(graph, value, rows=rows)
    again, values = from_torch_sparse(matrix, rows)
    assert_same_graph(again, graph)
    assert same(values, value)
    in_order = bool((sorted_by(graph, rows, True).diff() == 1).all())
    parallel = graph.edge_index().unique(dim=1).size(1) < graph.num_edges
    assert matrix.is_coalesced() == (in_order and not parallel)


@EXAMPLES
@given(graphs(), st.sampled_from(["csr", "csc"]), ROWS, st.data())
def test_torch_compressed_keeps_all_but_the_order(
    graph: Graph, layout: Any, rows: Any, data: st.DataObject
) -> None:
    graph = simple(graph)
    value = data.draw(weights(graph.num_edges))
    matrix = to_torch_sparse(graph, value, layout, rows)
    again, values = from_torch_sparse(matrix, rows)
    turned = {"source": "destination", "destination": "source"}
    order = sorted_by(graph, rows if layout == "csr" else turned[rows], True)
    assert_same_graph(again, reordered(graph, order))
    assert same(values, value[order])


@EXAMPLES
@given(graphs(), st.sampled_from([torch.sparse_coo, torch.sparse_csr, torch.sparse_csc]))
def test_torch_matrices_come_back_as_torch_made_them(graph: Graph, layout: torch.layout) -> None:
    dense = dense_adjacency(graph)
    matrix = dense.to_sparse(layout=layout)
    read, value = from_torch_sparse(matrix, "destination")
    assert torch.equal(dense_adjacency(read, value), dense)
    name = {torch.sparse_coo: "coo", torch.sparse_csr: "csr", torch.sparse_csc: "csc"}[layout]
    again = to_torch_sparse(read, value, name, "destination")  # pyright: ignore[reportArgumentType]
    assert again.layout == layout and again.shape == matrix.shape
    assert torch.equal(again.values(), matrix.values())
    assert torch.equal(again.to_dense(), dense)


def test_torch_agrees_with_pyg() -> None:
    matrix = to_torch_sparse(PARALLEL, torch.tensor([1.0, 0.0, 3.0])).coalesce()
    for layout in (matrix, matrix.to_sparse_csr()):
        edge_index, value = pyg_to_edge_index(layout)
        graph, ours = from_torch_sparse(layout)
        assert torch.equal(edge_index, graph.edge_index()) and same(value, ours)
    assert ours.tolist() == [0.0, 4.0]


def test_values_default_to_ones() -> None:
    assert to_scipy(PARALLEL).toarray().tolist() == [[0, 1, 0], [0, 0, 0], [0, 2, 0]]
    assert to_scipy(PARALLEL, rows="destination").toarray().tolist() == [
        [0] * 3,
        [1, 0, 2],
        [0] * 3,
    ]
    assert same(to_torch_sparse(PARALLEL)._values(), torch.ones(3))


@given(graphs(), ROWS, st.sampled_from(["coo", "csr", "csc"]))
@settings(max_examples=40)
def test_one_sided_graphs_are_written_the_same(graph: Graph, rows: Any, format: Any) -> None:
    sizes = {"num_src": graph.num_src, "num_dst": graph.num_dst}
    half = Graph.from_edge_index(graph.edge_index(), **sizes, transpose=False)
    weight = torch.arange(graph.num_edges)
    got, want = (from_scipy(to_scipy(g, weight, format, rows), rows) for g in (half, graph))
    assert_same_graph(got[0], want[0])
    assert same(got[1], want[1])


def test_what_comes_from_scipy_is_a_copy() -> None:
    matrix = sparse.coo_array(np.eye(2))
    matrix.data.flags.writeable = False
    from_scipy(matrix)[1].zero_()
    assert matrix.sum() == 2
    weight = torch.ones(3, requires_grad=True)
    for format in ("coo", "csr", "csc"):
        written = to_scipy(PARALLEL, weight, format)
        written.data[:] = 7
        if format != "coo":
            written.indices[:] = 0
    assert PARALLEL.edge_index().tolist() == [[2, 0, 2], [1, 1, 1]]
    assert weight.sum() == 3


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: from_scipy(np.eye(3)), r"got a ndarray of shape \[3, 3\].*Wrap it with"),
        (lambda: from_scipy(sparse.coo_array(np.ones(3))), r"two-dimensional"),
        (lambda: from_scipy(sparse.eye(2, dtype=np.longdouble)), r"which torch does not have"),
        (lambda: to_scipy(PARALLEL, torch.ones(3, 2)), r"weight has shape \[3, 2\], but \[3\]"),
        (lambda: to_scipy(PARALLEL, torch.ones(2)), r"shape \[2\], but \[3, \.\.\.\] is expected"),
        (lambda: to_scipy(PARALLEL, torch.ones(3).bfloat16()), r"bfloat16, which numpy does not"),
        (lambda: from_torch_sparse(torch.eye(2)), r"got a Tensor of shape \[2, 2\], but a sparse"),
        (lambda: from_torch_sparse(sparse.eye(2)), r"but a sparse torch tensor is expected"),
        (lambda: from_torch_sparse(torch.ones(2, 2, 2).to_sparse()), r"shape \[2, 2, 2\], but a"),
        (
            lambda: from_torch_sparse(torch.eye(4).to_sparse_bsr((2, 2))),
            r"sparse_bsr of shape \[4, 4\], but a COO, CSR",
        ),
        (
            lambda: from_torch_sparse(torch.ones(2, 3, 3).to_sparse(layout=torch.sparse_csr)),
            r"sparse_csr of shape \[2, 3, 3\], but a COO, CSR",
        ),
        (lambda: to_torch_sparse(PARALLEL, layout="csr"), r"parallel edges \(at \(2, 1\)\).*CSR"),
        (lambda: to_torch_sparse(PARALLEL, layout="csc"), r"parallel edges \(at \(2, 1\)\).*CSC"),
        (lambda: to_torch_sparse(PARALLEL, torch.tensor(1.0)), r"shape \[\], but \[3, \.\.\.\]"),
    ],
)
def test_what_cannot_be_converted(call: Any, match: str) -> None:
    with pytest.raises(GraphError, match=match):
        call()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: to_scipy(PARALLEL, rows="src"), r"rows is 'src', but 'source' or 'destination'"),  # pyright: ignore
        (lambda: from_scipy(sparse.eye(2), "src"), r"rows is 'src'"),  # pyright: ignore
        (lambda: to_scipy(PARALLEL, format="dok"), r"format is 'dok', but 'coo', 'csr' or 'csc'"),  # pyright: ignore
        (lambda: to_torch_sparse(PARALLEL, layout="bsr"), r"layout is 'bsr', but 'coo'"),  # pyright: ignore
    ],
)
def test_unknown_options(call: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        call()


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("torch_sparse", lambda: to_sparse_tensor(PARALLEL)),
        ("torch_sparse", lambda: from_sparse_tensor(None)),
        ("scipy", lambda: to_scipy(PARALLEL)),
        ("scipy", lambda: from_scipy(None)),
    ],
)
def test_an_absent_package_is_named(
    package: str, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    name = package.replace("_", "-")
    with pytest.raises(BackendError, match=f"{package}.*Install it with: pip install {name}"):
        call()


@EXAMPLES
@given(graphs(), ROWS, st.booleans(), st.data())
def test_sparse_tensor(graph: Graph, rows: Any, valued: bool, data: st.DataObject) -> None:
    pytest.importorskip("torch_sparse")
    value = data.draw(weights(graph.num_edges)) if valued else None
    matrix = to_sparse_tensor(graph, value, rows)
    again, values = from_sparse_tensor(matrix, rows)
    order = sorted_by(graph, rows, True)
    assert_same_graph(again, reordered(graph, order))
    assert same(values, None if value is None else value[order])
    dense = dense_adjacency(graph, value)
    weighted = matrix if valued else matrix.set_value(torch.ones(graph.num_edges), layout="coo")
    theirs = weighted.to_scipy(layout="coo", dtype=torch.complex128).toarray()
    assert np.array_equal(theirs.real, (dense.T if rows == "source" else dense).numpy())
    twice = to_sparse_tensor(*from_sparse_tensor(matrix))
    assert all(map(same, twice.coo(), matrix.coo())) and twice.sizes() == matrix.sizes()


@EXAMPLES
@given(graphs(bipartite=False))
def test_sparse_tensor_is_the_one_of_pyg(graph: Graph) -> None:
    pytest.importorskip("torch_sparse")
    data = Data(edge_index=graph.edge_index(), num_nodes=graph.num_dst)
    theirs = ToSparseTensor()(data).adj_t
    ours = to_sparse_tensor(graph, rows="destination")
    assert all(map(same, ours.csr(), theirs.csr())) and ours.sizes() == theirs.sizes()
    read, values = from_sparse_tensor(theirs, rows="destination")
    assert values is None
    assert torch.equal(dense_adjacency(read), dense_adjacency(graph))


def test_sparse_tensor_of_another_type() -> None:
    pytest.importorskip("torch_sparse")
    with pytest.raises(GraphError, match="got a Tensor .*torch_sparse.SparseTensor is expected"):
        from_sparse_tensor(torch.eye(2))


def test_sparse_tensor_with_too_few_values() -> None:
    pytest.importorskip("torch_sparse")
    with pytest.raises(GraphError, match=r"to_sparse_tensor: the values have shape \[2\], but \[3"):
        to_sparse_tensor(PARALLEL, torch.ones(2))
