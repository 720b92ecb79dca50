"""Graphs without some edges: equal to those built of the edges that are left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.library import opcheck

from graphkit import Csr, Graph, GraphError
from graphkit.structure import edge_subgraph, without_edges
from graphkit.testing import graphs, zoo


def same_side(got: Csr | None, want: Csr | None) -> None:
    assert got is not None and want is not None
    assert torch.equal(got.indptr, want.indptr)
    assert torch.equal(got.indices, want.indices) and got.indices.dtype == want.indices.dtype
    number = torch.arange(got.num_edges)
    eids = [number if side.eid is None else side.eid.long() for side in (got, want)]
    assert torch.equal(*eids)


def same(got: Graph, want: Graph) -> None:
    same_side(got.by_dst, want.by_dst)
    same_side(got.by_src, want.by_src)
    assert (got.num_dst, got.num_src) == (want.num_dst, want.num_src)


@pytest.mark.parametrize("name", [name for name, _ in zoo()])
def test_is_the_graph_of_the_edges_left(name: str) -> None:
    graph = dict(zoo())[name]
    edge_index = graph.edge_index()
    for keep in (torch.rand(graph.num_edges) < 0.5, torch.ones(graph.num_edges).bool()):
        left = edge_index[:, keep]
        want = Graph.from_edge_index(left, num_src=graph.num_src, num_dst=graph.num_dst)
        same(edge_subgraph(graph, keep), want)


def test_a_side_that_is_not_there_is_not_made() -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1, 2], [2, 1, 0]]), 3, transpose=False)
    left = edge_subgraph(graph, torch.tensor([True, False, True]))
    assert left.by_src is None and left.edge_index().tolist() == [[0, 2], [2, 0]]


@settings(max_examples=60)
@given(graphs(bipartite=False), st.data())
def test_edges_of_pairs_are_gone_in_both_directions(graph: Graph, data: Any) -> None:
    node = st.integers(0, max(0, graph.num_dst - 1))
    most = 6 if graph.num_dst else 0
    drawn = data.draw(st.lists(st.tuples(node, node), max_size=most))
    pairs = torch.tensor(drawn, dtype=torch.int64).reshape(-1, 2).t()
    left = without_edges(graph, pairs)
    gone = {frozenset(pair) for pair in drawn}
    edge_index = graph.edge_index()
    stays = [frozenset(edge) not in gone for edge in edge_index.t().tolist()]
    keep = torch.tensor(stays, dtype=torch.bool)
    same(left, Graph.from_edge_index(edge_index[:, keep], graph.num_dst))


def test_the_links_of_a_batch_are_hidden() -> None:
    ends = torch.tensor([[0, 0, 0, 1, 1], [1, 2, 3, 2, 4]])
    graph = Graph.from_edge_index(torch.cat([ends, ends.flip(0)], 1), 5)
    batch = torch.tensor([[2, 0, 2], [0, 1, 0]], dtype=torch.int32)
    left = without_edges(graph, batch)
    for u, v in batch.t().tolist():
        ptr, idx = left.by_dst.indptr, left.by_dst.indices
        assert u not in idx[ptr[v] : ptr[v + 1]] and v not in idx[ptr[u] : ptr[u + 1]]
    assert left.num_edges == 6
    assert without_edges(graph, batch[:, :0]).num_edges == graph.num_edges


def test_the_op_is_one() -> None:
    graph = dict(zoo())["random"]
    keep = torch.rand(graph.num_edges) < 0.5
    for eid in (graph.by_dst.eid, None):
        rows = graph.by_dst.indptr, graph.by_dst.indices, eid, keep
        opcheck(torch.ops.graphkit.kept_slots.default, rows)


def test_bad_input() -> None:
    graph = dict(zoo())["random"]
    keep = torch.ones(graph.num_edges, dtype=torch.bool)
    bad_masks: list[tuple[Any, str]] = [
        (keep[1:], r"keep is torch.bool \[199\] on cpu, but torch.bool \[200\] on cpu is expected"),
        (keep.float(), "keep is torch.float32"),
        (keep.tolist(), "keep is list, but"),
        (keep.to("meta"), "on meta, but"),
    ]
    for mask, message in bad_masks:
        with pytest.raises(GraphError, match=message):
            edge_subgraph(graph, mask)
    pairs = torch.tensor([[0, 1], [2, 30]])
    two_kinds = Graph.from_edge_index(torch.tensor([[0], [0]]), num_src=3, num_dst=2)
    bad_pairs: list[tuple[Any, Tensor, str]] = [
        (graph, pairs, r"edge_label_index\[1, 1\] = 30, but the graph has 30 nodes"),
        (graph, -pairs, r"edge_label_index\[0, 1\] = -1"),
        (graph, pairs[:, :1].t(), r"has shape \[1, 2\], but a tensor \[2, P\]"),
        (graph, pairs.float(), "has dtype torch.float32, but torch.int64"),
        (two_kinds, pairs, "without_edges: the graph has 3 sources and 2 destinations"),
        (graph.edge_index(), pairs, "graph is a Tensor, but a graphkit.Graph is expected"),
    ]
    for given_graph, some, message in bad_pairs:
        with pytest.raises(GraphError, match=message):
            without_edges(given_graph, some)
