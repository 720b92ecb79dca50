"""HeaRT's negatives against a reference that holds all scores of all nodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from torch import Tensor
from torch_geometric.utils import to_undirected

from graphkit import ConfigError, DataError, Graph, GraphError
from graphkit.data import hard_negatives, heart_negatives
from graphkit.ops.random import random_bits
from graphkit.testing import dense_adjacency


def scattered(num_nodes: int, num_edges: int, seed: int = 0) -> Graph:
    """Undirected, with loops and parallel edges, the last node alone."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(max(1, num_nodes - 1), (2, num_edges), generator=generator)
    return Graph.from_edge_index(torch.cat([edge_index, edge_index.flip(0)], 1), num_nodes)


def scores_of(graph: Graph, x: Tensor | None) -> list[Tensor]:
    """Resource allocation, PageRank, cosine: of all ends and nodes, float32 [N, N]."""
    steps = dense_adjacency(graph)
    near = (steps > 0).double()
    own = torch.eye(len(near)).bool()
    size = near.sum(1)
    common = (near[:, None] * near[None] * torch.where(size > 0, 1 / size, 0)).masked_fill(
        own[:, None] | own[None], 0
    )
    degree = steps.sum(1, keepdim=True)
    walk = torch.where(degree > 0, steps / degree, 0)
    reach = torch.linalg.inv(torch.eye(len(walk)).double() - 0.85 * walk)
    # what is out of reach is 0, whatever an inverse is rounded to
    rank = torch.where(reach > 1e-12, reach * torch.where(degree > 0, 0.15, 1.0).t(), 0)
    found = [common.sum(2), rank]
    if x is not None:
        rows = x.double() / x.double().norm(dim=1, keepdim=True).clamp(min=1e-12)
        found.append(rows @ rows.t())
    return [score.float() for score in found]


def reference(
    graph: Graph,
    positives: Tensor,
    x: Tensor | None,
    half: int,
    known: Tensor | None,
    allow_edges: bool,
    seed: int,
) -> list[list[list[int]]]:
    """One end of one positive after the other, by scipy's ranks over all nodes."""
    num_nodes, scores = graph.num_src, scores_of(graph, x)
    linked = torch.zeros(num_nodes, num_nodes).bool()
    if not allow_edges:
        linked = dense_adjacency(graph) > 0
    if known is not None:
        linked[known[0], known[1]] = linked[known[1], known[0]] = True
    words = random_bits(torch.tensor(seed), torch.arange(num_nodes**2)).view(num_nodes, num_nodes)

    def hardest(end: int, partner: int) -> list[int]:
        may = ~linked[end]
        may[[end, partner]] = False
        best = torch.full((num_nodes,), torch.inf)
        for score in scores:
            scored = may & (score[end] > 0)
            if scored.any():
                ranks = torch.from_numpy(rankdata(-score[end][scored].numpy(), method="min"))
                best[scored] = torch.minimum(best[scored], ranks.float())
        order = sorted(may.nonzero().flatten().tolist(), key=lambda v: (best[v], words[end, v]))
        return order[:half]

    return [
        [[a, u] for u in hardest(a, b)] + [[u, b] for u in hardest(b, a)]
        for a, b in positives.tolist()
    ]


@settings(max_examples=40)
@given(
    num_nodes=st.integers(8, 20),
    num_edges=st.integers(0, 25),
    seed=st.integers(0, 10**6),
    features=st.booleans(),
    allow_edges=st.booleans(),
    more=st.booleans(),
)
def test_negatives_are_those_of_all_scores(
    num_nodes: int, num_edges: int, seed: int, features: bool, allow_edges: bool, more: bool
) -> None:
    graph = scattered(num_nodes, num_edges, seed)
    generator = torch.Generator().manual_seed(seed)
    positives = torch.randint(num_nodes, (6, 2), generator=generator)
    x = (torch.rand(num_nodes, 4, generator=generator) < 0.4).float() if features else None
    known = torch.randint(num_nodes, (2, 5), generator=generator) if more else None
    options: dict[str, Any] = {"known": known, "allow_edges": allow_edges, "seed": seed}
    half = 4
    want = reference(graph, positives, x, half, **options)
    if min(map(len, want)) < 2 * half:
        with pytest.raises(DataError, match="may be paired with"):
            heart_negatives(graph, positives, x, num_negatives=2 * half, eps=1e-13, **options)
        return
    got = heart_negatives(graph, positives, x, num_negatives=2 * half, eps=1e-13, **options)
    assert got.tolist() == want


@pytest.fixture(scope="module")
def middling() -> tuple[Graph, Tensor, Tensor]:
    graph = scattered(300, 700)
    positives = torch.randint(300, (80, 2), generator=torch.Generator().manual_seed(1))
    x = torch.randn(300, 16, generator=torch.Generator().manual_seed(2))
    return graph, positives, x


def test_negatives_keep_their_promises(middling: tuple[Graph, Tensor, Tensor]) -> None:
    graph, positives, x = middling
    held = torch.stack([torch.arange(150), torch.arange(150) + 150])
    for some in (x, None):
        found = heart_negatives(graph, positives, some, num_negatives=100, known=held)
        assert found.shape == (80, 100, 2) and found.dtype == torch.int64
        # the first half has the first end, the second half the last
        assert bool((found[:, :50, 0] == positives[:, None, 0]).all())
        assert bool((found[:, 50:, 1] == positives[:, None, 1]).all())
        linked = dense_adjacency(graph) > 0
        linked[held[0], held[1]] = linked[held[1], held[0]] = True
        first, last = found.flatten(0, 1).t()
        assert not bool(linked[first, last].any()) and not bool((first == last).any())
        for (a, b), pairs in zip(positives.tolist(), found.tolist(), strict=True):
            drawn = [[u for _, u in pairs[:50]], [u for u, _ in pairs[50:]]]
            assert all(len(set(nodes)) == 50 for nodes in drawn)
            assert b not in drawn[0] and a not in drawn[1]


def test_negatives_are_a_function_of_the_seed(
    middling: tuple[Graph, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, positives, x = middling
    want, threads = heart_negatives(graph, positives, x, num_negatives=100), torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        assert torch.equal(heart_negatives(graph, positives, x, num_negatives=100), want)
    torch.set_num_threads(threads)
    # memory is bounded by parts, which change nothing
    monkeypatch.setattr(hard_negatives, "_ROOM", 1)
    assert torch.equal(heart_negatives(graph, positives, x, num_negatives=100), want)
    monkeypatch.undo()
    # a positive's own are the same among any others: nothing is overwritten
    alone = heart_negatives(graph, positives[7:8], x, num_negatives=100)
    assert torch.equal(alone, want[7:8])
    twice = heart_negatives(graph, positives.repeat(2, 1), x, num_negatives=100)
    assert torch.equal(twice, want.repeat(2, 1, 1))
    turned = heart_negatives(graph, positives.flip(1), x, num_negatives=100)
    assert torch.equal(turned, want.roll(50, dims=1).flip(2))
    other = heart_negatives(graph, positives, num_negatives=280, seed=1)
    assert not torch.equal(other, heart_negatives(graph, positives, num_negatives=280))


def test_hard_ones_come_first() -> None:
    """A star of two hubs: what shares neighbours with an end is harder than what is far away."""
    hub = torch.tensor([[0] * 5 + [1] * 5, [2, 3, 4, 5, 6, 2, 3, 4, 5, 6]])
    graph = Graph.from_edge_index(to_undirected(hub), 40)
    found = heart_negatives(graph, torch.tensor([[2, 39]]), num_negatives=8)
    # 3, 4, 5 and 6 have both hubs in common with 2; the other end has nothing but chance
    assert set(found[0, :4, 1].tolist()) == {3, 4, 5, 6}
    x = torch.zeros(40, 3)
    x[[2, 30, 31], 0], x[3:30, 1] = 1, 1
    alike = heart_negatives(graph, torch.tensor([[2, 39]]), x, num_negatives=12)
    # equals of the first rank in one score or another
    assert set(alike[0, :6, 1].tolist()) == {3, 4, 5, 6, 30, 31}


def test_nothing_is_asked_for() -> None:
    graph = scattered(20, 30)
    none = torch.empty(0, 2, dtype=torch.int64)
    assert heart_negatives(graph, none, num_negatives=6).shape == (0, 6, 2)


def test_bad_input_is_refused() -> None:
    graph, one = scattered(20, 30), torch.tensor([[0, 1]])
    with pytest.raises(DataError, match="has directions"):
        heart_negatives(Graph.from_edge_index(one.t(), 20), one)
    with pytest.raises(DataError, match=r"node \d+ has \d+ nodes that it may be paired with"):
        heart_negatives(graph, one, num_negatives=40)
    for number in (0, 7):
        with pytest.raises(ConfigError, match=f"num_negatives is {number}, but an even"):
            heart_negatives(graph, one, num_negatives=number)
    with pytest.raises(ConfigError, match="seed must lie"):
        heart_negatives(graph, one, seed=-1)
    with pytest.raises(ConfigError, match="alpha is 2"):
        heart_negatives(graph, one, num_negatives=4, alpha=2)
    with pytest.raises(GraphError, match=r"x has 19 rows"):
        heart_negatives(graph, one, torch.ones(19, 2), num_negatives=4)
    of_pairs: dict[str, Any] = {
        r"\[2, m\]": torch.zeros(3, 4, dtype=torch.int64),
        "there are 20 nodes": torch.tensor([[0, 20]]),
        "list": [[0, 1]],
    }
    for part, bad in of_pairs.items():
        with pytest.raises(GraphError, match=part):
            heart_negatives(graph, bad, num_negatives=4)
    with pytest.raises(GraphError, match="known"):
        heart_negatives(graph, one, num_negatives=4, known=torch.tensor([[0], [20]]))
