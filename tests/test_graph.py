from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import torch
from hypothesis import given
from torch import Tensor

from graphkit import Csr, Graph, GraphError, GraphkitError, as_graph
from graphkit.testing import graphs, zoo

EDGES = torch.tensor([[0, 1, 2, 2, 3, 3, 1], [1, 0, 1, 3, 3, 1, 1]])


def sides(graph: Graph) -> list[Tensor]:
    return [t for t in graph.parts() if t is not None]


@given(graphs())
def test_edges_keep_the_callers_order(graph: Graph) -> None:
    edge_index = graph.edge_index()
    again = Graph.from_edge_index(edge_index, num_src=graph.num_src, num_dst=graph.num_dst)
    assert all(torch.equal(a, b) for a, b in zip(sides(graph), sides(again), strict=True))
    assert torch.equal(again.edge_index(), edge_index)


@given(graphs())
def test_each_side_is_the_stable_sort_of_the_edges(graph: Graph) -> None:
    src, dst = graph.edge_index()
    assert graph.by_src is not None
    for csr, rows, columns in ((graph.by_dst, dst, src), (graph.by_src, src, dst)):
        order = torch.arange(graph.num_edges) if csr.eid is None else csr.eid.long()
        assert torch.equal(order, torch.sort(rows, stable=True).indices)
        assert torch.equal(csr.indices.long(), columns[order])
        assert torch.equal(csr.row_ids(), rows[order])
        assert torch.equal(csr.degree(), torch.bincount(rows, minlength=csr.num_rows))
        assert csr.indptr.dtype == torch.int64 and csr.indices.dtype == torch.int32


@given(graphs())
def test_transposing_twice_and_degrees(graph: Graph) -> None:
    turned = graph.t()
    assert (turned.num_src, turned.num_dst) == (graph.num_dst, graph.num_src)
    assert turned.t().by_dst is graph.by_dst and turned.t().by_src is graph.by_src
    assert torch.equal(turned.edge_index(), graph.edge_index().flip(0))
    assert torch.equal(graph.in_degree(), turned.out_degree())
    lean = Graph.from_edge_index(
        graph.edge_index(), num_src=graph.num_src, num_dst=graph.num_dst, transpose=False
    )
    assert torch.equal(lean.out_degree(), graph.out_degree())


@given(graphs())
def test_from_csr_equals_from_edge_index(graph: Graph) -> None:
    csr = graph.by_dst
    again = Graph.from_csr(csr.indptr, csr.indices, csr.eid, num_src=graph.num_src)
    assert torch.equal(again.edge_index(), graph.edge_index())
    assert all(torch.equal(a, b) for a, b in zip(sides(graph), sides(again), strict=True))


def test_sorted_edges_need_no_permutation() -> None:
    graph = Graph.from_edge_index(torch.tensor([[3, 0, 1], [0, 1, 1]]), 4)
    assert graph.by_dst.eid is None
    assert graph.by_src is not None and graph.by_src.eid is not None


def test_int32_input_and_sizes() -> None:
    graph = Graph.from_edge_index(EDGES.int())
    assert graph.num_src == graph.num_dst == 4
    assert torch.equal(graph.edge_index(), EDGES)
    assert Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64)).num_src == 0
    bipartite = Graph.from_edge_index(EDGES, num_dst=9)
    assert (bipartite.num_src, bipartite.num_dst) == (4, 9)


def test_columns_turn_int64_beyond_int32_without_allocating_them() -> None:
    edge_index = torch.empty(2, 3, dtype=torch.int64, device="meta")
    small = torch.ops.graphkit.coo_to_csr(edge_index, 2**31 - 1, 5, False)
    large = torch.ops.graphkit.coo_to_csr(edge_index, 2**31, 5, False)
    assert small[1].dtype == torch.int32 and large[1].dtype == torch.int64
    assert large[0].dtype == torch.int64
    graph = Graph.from_edge_index(
        torch.tensor([[2**31], [0]]), num_src=2**31 + 1, num_dst=1, transpose=False
    )
    assert graph.by_dst.indices.tolist() == [2**31]


def test_graph_is_frozen_and_copies() -> None:
    graph = Graph.from_edge_index(EDGES, 5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.num_src = 3  # type: ignore[misc]
    for twin in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph)), graph.to("cpu")):
        assert torch.equal(twin.edge_index(), EDGES)
    assert "num_edges=7" in repr(graph) and "num_rows=5" in repr(graph.by_dst)


def test_a_graph_moves_with_pygs_data() -> None:
    from torch_geometric.data import Data

    data = Data(x=torch.ones(5, 2), adj=Graph.from_edge_index(EDGES, 5))
    assert data.to("meta").adj.device.type == "meta"


def test_opcheck() -> None:
    for transpose in (True, False):
        torch.library.opcheck(torch.ops.graphkit.coo_to_csr.default, (EDGES, 4, 4, transpose))


def test_as_graph() -> None:
    graph = Graph.from_edge_index(EDGES, 5)
    assert as_graph(graph, 5, 5) is graph
    assert as_graph(EDGES, 6, 5).num_src == 6
    with torch.no_grad():
        assert as_graph(EDGES, 5, 5).by_src is None


@pytest.mark.parametrize(
    ("edge_index", "message"),
    [
        (torch.tensor([[0, 9], [1, 0]]), r"edge_index\[0, 1\] = 9, but the graph has 5 sources"),
        (torch.tensor([[0, 1], [1, -2]]), r"edge_index\[1, 1\] = -2, .* \(valid: 0 to 4\)"),
        (EDGES.float(), r"dtype torch.float32, but torch.int64 or torch.int32 .* edge_index.long"),
        (EDGES.short(), "dtype torch.int16"),
        (EDGES.bool(), "dtype torch.bool"),
        (EDGES.t(), r"shape \[7, 2\], but \[2, E\] is expected. Did you transpose it"),
        (torch.tensor(3), r"shape \[\], but \[2, E\] is expected"),
        (torch.arange(4), r"shape \[4\]"),
        (EDGES.to_sparse(), "layout torch.sparse_coo, but a dense tensor"),
        ([[0], [1]], r"is a list, but a torch.Tensor \[2, E\]"),
    ],
)
def test_bad_edge_index(edge_index: Tensor, message: str) -> None:
    with pytest.raises(GraphError, match=message) as info:
        Graph.from_edge_index(edge_index, 5)
    assert isinstance(info.value, ValueError) and isinstance(info.value, GraphkitError)


def test_bad_sizes() -> None:
    with pytest.raises(GraphError, match="num_nodes=4 together with num_src=3"):
        Graph.from_edge_index(EDGES, 4, num_src=3)
    with pytest.raises(GraphError, match=r"num_src = -1, but a graph has at least 0 nodes"):
        Graph.from_edge_index(EDGES, -1)
    with pytest.raises(GraphError, match=r"\[0, 4\] = 3, but the graph has 3 sources.*larger num_"):
        Graph.from_edge_index(EDGES, 3)
    with pytest.raises(GraphError, match=r"\[0, 0\] = -5, but the graph has 0 .* \(valid: none\)"):
        Graph.from_edge_index(torch.tensor([[-5], [-5]]))
    with pytest.raises(GraphError, match="num_src is 6.0, but a whole number is expected"):
        Graph.from_edge_index(EDGES, 6.0)  # type: ignore[arg-type]
    graph = Graph.from_edge_index(EDGES, 5)
    with pytest.raises(GraphError, match="x has 4 source rows but the graph has 5 sources"):
        as_graph(graph, 4, 5)
    with pytest.raises(GraphError, match="x has 7 destination rows but the graph has 5 dest"):
        as_graph(graph, 5, 7)


@pytest.mark.parametrize(
    ("indptr", "indices", "eid", "message"),
    [
        ([0, 2, 1, 3], [0, 1, 2], None, "falls after position 1"),
        ([1, 2, 3], [0, 1, 2], None, "starts at 1"),
        ([0, 1, 2], [0, 1, 2], None, "ends at 2.* end at 3"),
        ([], [], None, "indptr is empty"),
        ([0, 3], [0, 1, 7], None, r"indices\[2\] = 7, but the graph has 3 sources"),
        ([0, 3], [0, 1, 2], [0, 1], "eid has 2 entries, but there are 3 edges"),
        ([0, 3], [0, 1, 2], [0, 1, 1], "eid names an edge twice"),
        ([0, 3], [0, 1, 2], [0, 1, 3], r"eid\[2\] = 3, but the graph has 3 edges"),
    ],
)
def test_bad_csr(indptr: list, indices: list, eid: list | None, message: str) -> None:
    arrays = [torch.tensor(v, dtype=torch.int64) for v in (indptr, indices)]
    with pytest.raises(GraphError, match=message):
        Graph.from_csr(*arrays, None if eid is None else torch.tensor(eid), num_src=3)


def test_bad_csr_dtype_and_device() -> None:
    ptr, idx = torch.tensor([0, 1]), torch.tensor([0])
    with pytest.raises(GraphError, match="indices is torch.float32 of shape"):
        Graph.from_csr(ptr, idx.float())
    with pytest.raises(
        GraphError, match=r"indices is on meta and indptr on cpu.*indices.to\('cpu'"
    ):
        Graph.from_csr(ptr, idx.to("meta"))


def test_missing_transpose_says_the_remedy() -> None:
    lean = Graph.from_edge_index(EDGES, 5, transpose=False)
    with pytest.raises(GraphError, match="Build it with transpose=True"):
        lean.t()


def test_zoo_is_valid() -> None:
    names = [name for name, _ in zoo()]
    assert len(names) == len(set(names)) >= 10
    assert all(isinstance(graph.by_dst, Csr) for _, graph in zoo())
