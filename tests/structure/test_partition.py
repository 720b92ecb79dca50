"""Parts of graphs: every node in one, balance, few edges between, odd graphs, bad input."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphkit import BackendError, ConfigError, Graph, GraphError
from graphkit.structure import partition
from graphkit.testing import graphs


def blocks(count: int, size: int, between: int = 20) -> tuple[Graph, Tensor]:
    """Dense groups with few edges from one to another, and the group of each node."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(count * size, generator=generator)
    group = torch.arange(count).repeat_interleave(size)
    inside = torch.randint(size, (2, count * size * 6), generator=generator)
    inside = inside + torch.randint(count, (count * size * 6,), generator=generator) * size
    across = torch.randint(count * size, (2, between), generator=generator)
    edges = order[torch.cat([inside, across], 1)]
    return Graph.from_edge_index(edges, count * size), torch.empty_like(group).index_copy_(
        0, order, group
    )


@pytest.mark.parametrize("recursive", [False, True])
def test_parts_are_the_groups_of_a_graph(recursive: bool) -> None:
    graph, group = blocks(5, 40)
    part = partition(graph, 5, recursive=recursive, seed=3)
    assert part.dtype == torch.int64 and part.shape == (200,)
    assert torch.equal(torch.bincount(part), torch.full((5,), 40))
    # each part is one group
    assert len(torch.unique(part * 5 + group)) == 5
    assert torch.equal(part, partition(graph, 5, recursive=recursive, seed=3))


@settings(max_examples=60)
@given(graphs(max_nodes=12, max_edges=40, bipartite=False), st.integers(1, 14), st.booleans())
def test_parts_of_any_graph(graph: Graph, num_parts: int, recursive: bool) -> None:
    part = partition(graph, num_parts, recursive=recursive)
    assert part.shape == (graph.num_dst,) and part.dtype == torch.int64
    sizes = torch.bincount(part, minlength=num_parts)
    assert len(sizes) == num_parts and int(sizes.sum()) == graph.num_dst
    # none is empty as long as there are nodes
    assert int((sizes > 0).sum()) == min(num_parts, graph.num_dst)


def test_parts_are_balanced() -> None:
    generator = torch.Generator().manual_seed(1)
    ends = (torch.rand(2, 12_000, generator=generator) ** 2 * 2000).long()
    graph = Graph.from_edge_index(ends, 2000, transpose=False)
    for num_parts in (2, 7, 50):
        sizes = torch.bincount(partition(graph, num_parts), minlength=num_parts)
        assert int(sizes.max()) <= 1.05 * 2000 / num_parts + 1
        part = partition(graph, num_parts, recursive=True, node_weight=graph.in_degree())
        edges = torch.zeros(num_parts).index_add_(0, part, graph.in_degree().float())
        assert float(edges.max()) <= 1.2 * 12_000 / num_parts + int(graph.in_degree().max())


def test_edges_count_in_both_directions_and_as_often_as_they_occur() -> None:
    # two pairs: the thick edges stay whole, whichever way they point
    thick = torch.tensor([[0, 2], [1, 3]]).repeat_interleave(9, 1)
    thin = torch.tensor([[1, 3, 0, 0], [2, 0, 2, 0]])
    for edges in (torch.cat([thick, thin], 1), torch.cat([thin, thick.flip(0)], 1)):
        part = partition(Graph.from_edge_index(edges, 4), 2).tolist()
        assert part[0] == part[1] and part[2] == part[3] and part[0] != part[2]


def test_one_part_and_more_parts_than_nodes_need_no_metis(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = blocks(2, 5)
    monkeypatch.setitem(sys.modules, "pymetis", None)
    assert partition(graph, 1).tolist() == [0] * 10
    assert partition(graph, 10).tolist() == partition(graph, 99).tolist() == list(range(10))
    empty = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 0)
    assert partition(empty, 3).tolist() == []


def test_without_metis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError, match="'pymetis', which is not installed. Install it"):
        partition(blocks(2, 5)[0], 2)


SQUARE = Graph.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"graph": torch.ones(2, 3)}, GraphError, "graph is a Tensor, but a graphkit.Graph"),
    ({"graph": Graph.from_edge_index(torch.tensor([[0], [0]]), num_src=2, num_dst=3)}, GraphError,
     "2 sources and 3 destinations"),
    ({"num_parts": 0}, ConfigError, "num_parts is 0, but a whole number from 1"),
    ({"num_parts": -3}, ConfigError, "num_parts is -3"),
    ({"num_parts": 2.0}, ConfigError, "num_parts is 2.0"),
    ({"num_parts": True}, ConfigError, "num_parts is True"),
    ({"num_parts": 2**31}, ConfigError, "num_parts is 2147483648"),
    ({"seed": -1}, ConfigError, "seed is -1, but a whole number from 0"),
    ({"node_weight": [1, 1, 1]}, GraphError, "node_weight is list, but a torch.Tensor of whole"),
    ({"node_weight": torch.ones(3)}, GraphError, "node_weight is torch.float32"),
    ({"node_weight": torch.ones(2).long()}, GraphError, r"has shape \[2\], but \[3\] is expected"),
    ({"node_weight": torch.tensor([1, -2, 1])}, GraphError, r"node_weight\[1\] = -2"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_bad_input(changes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"partition: .*{message}"):
        partition(**{"graph": SQUARE, "num_parts": 2, **changes})
