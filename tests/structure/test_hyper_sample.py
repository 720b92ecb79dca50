"""Mini-batches of hypergraphs: sets by hand, and the full pass where everything is drawn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphkit import ConfigError, Graph, GraphError
from graphkit.ops import spmm
from graphkit.structure import (
    HyperedgeSampler,
    as_hypergraph,
    from_members,
    to_hyperedge_index,
    to_members,
)


def random(num_nodes: int = 40, num_edges: int = 30, seed: int = 0) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(num_nodes, num_edges, generator=generator) < 0.15
    return as_hypergraph(there.nonzero().t(), num_nodes, num_edges)


def passed(x: Tensor, blocks: list[Any]) -> Tensor:
    """HGNN+ without weights: means over members, then over hyperedges."""
    for to_edges, to_nodes in blocks:
        x = spmm(to_nodes, spmm(to_edges, x, reduce="mean"), reduce="mean")
    return x


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(0, 20))
def test_all_drawn_is_the_full_pass(layers: int, seed: int) -> None:
    h = random(seed=seed)
    x = torch.randn(40, 3, dtype=torch.float64)
    seeds = torch.randperm(40)[:5]
    found = HyperedgeSampler(h, [-1] * layers)(seeds)
    whole = [(h.t(), h)] * layers
    torch.testing.assert_close(passed(x[found.n_id], found.blocks), passed(x, whole)[seeds])
    # HGNN, with the degrees of the whole
    scale = h.in_degree().double().pow(-0.5).nan_to_num(posinf=0)[:, None]

    def hgnn(x: Tensor, scale: Tensor, blocks: list[Any]) -> Tensor:
        for to_edges, to_nodes in blocks:
            sent = spmm(to_edges, scale[: len(x)] * x, reduce="mean")
            x = scale[: to_nodes.num_dst] * spmm(to_nodes, sent)
        return x

    got = hgnn(x[found.n_id], scale[found.n_id], found.blocks)
    torch.testing.assert_close(got, hgnn(x, scale, whole)[seeds])


def test_gradients_are_those_of_the_full_pass() -> None:
    h = random()
    x = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)
    seeds = torch.tensor([3, 1, 8])
    found = HyperedgeSampler(h, [-1, -1])(seeds, transpose=True)
    (got,) = torch.autograd.grad(passed(x[found.n_id], found.blocks).square().sum(), x)
    (want,) = torch.autograd.grad(passed(x, [(h.t(), h)] * 2)[seeds].square().sum(), x)
    torch.testing.assert_close(got, want)


@given(st.integers(0, 30), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2]))
def test_no_more_than_asked_for_and_all_of_it_real(
    batch: int, of_node: int, of_edge: int, layers: int
) -> None:
    h = random()
    members = to_members(h)
    pairs = to_hyperedge_index(h).t()
    seeds = torch.tensor([5, 0, 17])
    found = HyperedgeSampler(h, [(of_node, of_edge)] * layers)(seeds, (1, 2, batch))
    assert found.n_id[:3].tolist() == [5, 0, 17] and len(found.blocks) == layers
    assert len(found.n_id.unique()) == len(found.n_id)
    assert found.blocks[-1].to_nodes.num_dst == 3
    assert found.blocks[0].to_edges.num_src == len(found.n_id)
    assert found.blocks[0].to_nodes.num_src == len(found.hyperedge_id)
    for block in found.blocks:
        for graph, most, ids, dst_first in (
            (block.to_edges, of_edge, found.to_edges_id, True),
            (block.to_nodes, of_node, found.to_nodes_id, False),
        ):
            src, dst = graph.edge_index()
            node, edge = (src, dst) if dst_first else (dst, src)
            node, edge = found.n_id[node], found.hyperedge_id[edge]
            there = torch.stack([node, edge], dim=1)
            assert torch.equal(there, pairs[ids[: graph.num_edges]])
            assert len(there.unique(dim=0)) == len(there)
            whole = [len(members[e]) for e in found.hyperedge_id[: graph.num_dst].tolist()]
            if not dst_first:
                whole = h.in_degree()[found.n_id[: graph.num_dst]].tolist()
            assert graph.in_degree().tolist() == [min(most, n) for n in whole]


def test_the_key_alone_decides() -> None:
    h = random()
    seeds = torch.arange(10)
    sampler = HyperedgeSampler(h, [2, (1, 3)])

    def drawn(*key: int) -> tuple[list[int], list[int]]:
        found = sampler(seeds, (key[0], key[1], key[2]))
        return found.n_id.tolist(), found.to_edges_id.tolist()

    assert drawn(0, 1, 2) == drawn(0, 1, 2)
    assert len({str(drawn(*key)) for key in ((0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3))}) == 4


def test_every_member_is_drawn_alike() -> None:
    """One of four members, 2,000 times: each within four deviations of a quarter."""
    sampler = HyperedgeSampler(from_members([[0, 1, 2, 3]]), [(-1, 1)])
    counted = Counter(
        int(sampler(torch.tensor([0]), (0, 0, batch)).to_edges_id[0]) for batch in range(2000)
    )
    assert sorted(counted) == [0, 1, 2, 3]
    assert all(abs(count - 500) < 4 * (2000 * 3 / 16) ** 0.5 for count in counted.values())


def test_nodes_in_none_and_no_seeds() -> None:
    h = from_members([[0, 1], []], 3)
    found = HyperedgeSampler(h, [-1])(torch.tensor([2]))
    assert found.n_id.tolist() == [2] and not len(found.hyperedge_id)
    assert passed(torch.ones(1, 2), found.blocks).tolist() == [[0, 0]]
    assert "nodes=1, hyperedges=0, layers=1" in repr(found)
    none = HyperedgeSampler(h, [-1])(torch.empty(0, dtype=torch.int64))
    assert passed(torch.ones(0, 2), none.blocks).shape == (0, 2)


@pytest.mark.parametrize(
    ("fanout", "message"),
    [
        ([], "fanout is empty"),
        ([-2], "fanout has -2"),
        ([0.5], "fanout has 0.5"),
        ([(1, 2, 3)], r"fanout has \(1, 2, 3\)"),
        ([(1, 0.5)], r"fanout has \(1, 0.5\)"),
    ],
)
def test_bad_fanouts(fanout: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HyperedgeSampler(random(), fanout)


def test_bad_seeds() -> None:
    sampler = HyperedgeSampler(random(), [1])
    with pytest.raises(GraphError, match="seeds is a list"):
        sampler([0])  # pyright: ignore[reportArgumentType]
    with pytest.raises(GraphError, match="40"):
        sampler(torch.tensor([40]))
    one_sided = Graph(random().by_dst, None, 40, 30)
    with pytest.raises(GraphError, match="sorted by source as well"):
        HyperedgeSampler(one_sided, [1])
