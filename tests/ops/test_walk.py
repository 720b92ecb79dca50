"""Walks, visits and pushes: laws, the same bits everywhere, probabilities, bad input."""

from __future__ import annotations

import sys
from dataclasses import replace
from math import sqrt
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from ways import SETS, WAYS, served

from graphkit import ConfigError, Csr, Graph, GraphError, ops
from graphkit.testing import dense_adjacency, graphs

module = sys.modules["graphkit.ops.walk"]


def random_graph(num_nodes: int = 300, num_edges: int = 3000, seed: int = 0) -> Graph:
    """Unordered rows with parallel edges, loops and dead ends; the first nodes have most edges."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.rand(2, num_edges, generator=generator) ** 3 * num_nodes
    return Graph.from_edge_index(ends.long(), num_nodes)


def weights_of(graph: Graph, seed: int = 0) -> Tensor:
    """Some are 0, some rows' are all."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(graph.num_edges, generator=generator)
    weight[torch.rand(graph.num_edges, generator=generator) < 0.3] = 0
    weight[graph.edge_index()[0] % 17 == 3] = 0
    return weight


OPTIONS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "weighted": {"edge_weight": True},
    "node2vec": {"p": 0.25, "q": 4.0},
    "far": {"p": 4, "q": 0.25},
    "weighted node2vec": {"edge_weight": True, "p": 0.5, "q": 2.0},
    # so much prefers steps back, or away from them, that most draws are refused
    "back": {"p": 1e-6},
    "weighted back": {"p": 1e-9, "q": 1e6, "edge_weight": True},
    "away": {"p": 1e300, "q": 1e300},
}


def options_of(name: str, graph: Graph) -> dict[str, Any]:
    given = dict(OPTIONS[name])
    if given.get("edge_weight"):
        given["edge_weight"] = weights_of(graph)
    return given


# -- laws ------------------------------------------------------------------------------------------


def check_walks(graph: Graph, nodes: Tensor, edges: Tensor, weight: Tensor | None) -> None:
    src, dst = graph.edge_index()
    before, after = nodes[:, :-1], nodes[:, 1:]
    moved = edges >= 0
    assert torch.equal(src[edges[moved]], before[moved])
    assert torch.equal(dst[edges[moved]], after[moved])
    assert torch.equal(before[~moved], after[~moved])
    usable = torch.ones(graph.num_edges) if weight is None else weight
    assert bool((usable[edges[moved]] > 0).all())
    # a walk stays only where there is no way on
    has_way = torch.zeros(graph.num_src).index_add_(0, src, (usable > 0).float()) > 0
    assert torch.equal(moved, has_way[before])


@pytest.mark.parametrize("name", OPTIONS)
def test_every_step_is_an_edge(by: str, name: str) -> None:
    graph = random_graph()
    options = options_of(name, graph)
    start = torch.arange(300).repeat(2)
    nodes, edges = ops.random_walk(graph, start, 12, (1, 2, 3), return_eid=True, **options)
    assert nodes.shape == (600, 13) and edges.shape == (600, 12)
    assert nodes.dtype == edges.dtype == torch.int64
    assert torch.equal(nodes[:, 0], start) and (edges < 0).any() and (edges >= 0).any()
    check_walks(graph, nodes, edges, options.get("edge_weight"))
    assert torch.equal(nodes, ops.random_walk(graph, start, 12, (1, 2, 3), **options))
    # equal starts walk apart
    assert not torch.equal(nodes[:300], nodes[300:])


@settings(max_examples=60)
@given(graphs(bipartite=False), st.sampled_from(sorted(OPTIONS)), st.integers(0, 9))
def test_laws_on_any_graph(graph: Graph, name: str, length: int) -> None:
    options = options_of(name, graph)
    start = torch.arange(graph.num_src)
    found: list[tuple[Tensor, Tensor]] = []
    for way in WAYS:
        with served(way):
            found.append(ops.random_walk(graph, start, length, return_eid=True, **options))
    check_walks(graph, *found[0], options.get("edge_weight"))
    for nodes, edges in found[1:]:
        assert torch.equal(found[0][0], nodes) and torch.equal(found[0][1], edges)


# -- the same bits ---------------------------------------------------------------------------------


def everywhere(call: Any) -> None:
    """What ``call`` returns, a tuple of tensors, is the same however it is served."""
    with served("torch"):
        want = call()
    for way in SETS:
        with served(way):
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                for a, b in zip(want, call(), strict=True):
                    assert a.dtype == b.dtype and torch.equal(a, b), (way, threads)


def wide(graph: Graph) -> Graph:
    sides = [
        Csr(s.indptr, s.indices.long(), None if s.eid is None else s.eid.long())
        for s in (graph.by_dst, graph.by_src)
        if s is not None
    ]
    return Graph(sides[0], sides[1], graph.num_dst, graph.num_src)


@pytest.mark.parametrize("name", OPTIONS)
def test_walks_have_the_same_bits_everywhere(name: str) -> None:
    graph = random_graph()
    options = options_of(name, graph)
    start = torch.arange(1000) * 7 % 300
    for some in (graph, wide(graph)):
        walker = ops.Walker(some, **options)
        everywhere(lambda walker=walker: walker(start, 20, (5, 0, 1), return_eid=True))
    assert torch.equal(
        ops.random_walk(graph, start, 5, **options),
        ops.random_walk(graph, start.int(), 5, **options),
    )


def test_a_walk_is_a_function_of_its_key_number_and_start(by: str) -> None:
    walker = ops.Walker(random_graph())
    start = torch.arange(50)
    nodes = walker(start, 8, ops.Key(1, 2, 3))
    assert torch.equal(nodes[:20], walker(start[:20], 8, (1, 2, 3)))
    assert torch.equal(nodes[:, :4], walker(start, 3, (1, 2, 3)))
    other = start.clone()
    other[7] = 99
    changed = (walker(other, 8, (1, 2, 3)) != nodes).any(1)
    assert changed.nonzero().flatten().tolist() == [7]
    for key in ((0, 2, 3), (1, 3, 2), (1, 2, 4)):
        assert not torch.equal(nodes, walker(start, 8, key))


def test_these_walks_are_for_ever(by: str) -> None:
    """Seeds that were published must draw the same in every later version."""
    at = torch.arange(600)
    graph = Graph.from_edge_index(torch.stack([(at * at // 7 + 17 * at) % 53, at % 53]), 53)
    weight = (at % 7 + 1).float()
    start = torch.tensor([3, 20])
    drawn: dict[str, dict[str, Any]] = {
        "plain": {}, "weighted": {"edge_weight": weight}, "node2vec": {"p": 0.5, "q": 3.0},
    }  # fmt: skip
    for name, options in drawn.items():
        nodes = ops.random_walk(graph, start, 4, (7, 1, 0), **options)
        assert nodes.flatten().tolist() == GOLDEN[name], name


GOLDEN: dict[str, list[int]] = {
    "plain": [3, 19, 42, 51, 52, 20, 28, 9, 46, 34],
    "weighted": [3, 19, 18, 20, 12, 20, 28, 31, 14, 25],
    "node2vec": [3, 19, 22, 11, 19, 20, 12, 12, 28, 41],
}


def test_rows_need_no_order_for_node2vec() -> None:
    """Edges in any order give the same walks, once the columns of rows rise."""
    graph = random_graph()
    order = torch.randperm(graph.num_edges, generator=torch.Generator().manual_seed(1))
    edge_index = graph.edge_index()
    ordered = edge_index[:, torch.sort(edge_index[0] * 300 + edge_index[1], stable=True).indices]
    start = torch.arange(300)
    want = ops.random_walk(Graph.from_edge_index(ordered, 300), start, 9, p=0.3, q=2)
    shuffled = Graph.from_edge_index(edge_index[:, order], 300)
    assert torch.equal(want, ops.random_walk(shuffled, start, 9, p=0.3, q=2))


def test_a_hub_in_rows_of_its_own(by: str) -> None:
    """Rows far longer than a block of walks, and walks that are not a whole number of blocks."""
    count = 50_000
    out = torch.stack([torch.zeros(count, dtype=torch.int64), torch.arange(count) + 1])
    graph = Graph.from_edge_index(torch.cat([out, out.flip(0)], 1), count + 1)
    nodes = ops.random_walk(graph, torch.zeros(1001, dtype=torch.int64), 2, q=2)
    assert (nodes[:, [0, 2]] == 0).all() and len(nodes[:, 1].unique()) > 950
    expected = float(nodes[:, 1].double().mean())
    assert abs(expected - (count + 1) / 2) < 4 * count / sqrt(12 * 1001)


def two_kinds() -> tuple[Graph, Graph]:
    """From 40 items to 25 users and back, along the same edges."""
    generator = torch.Generator().manual_seed(2)
    ends = torch.stack([torch.randint(size, (200,), generator=generator) for size in (39, 25)])
    there = Graph.from_edge_index(ends, num_src=40, num_dst=25)
    return there, there.t()


def test_walks_on_a_metapath() -> None:
    there, back = two_kinds()
    weight = torch.rand(200, generator=torch.Generator().manual_seed(0))
    start = torch.arange(40).repeat(5)
    assert back.by_src is not None
    mixed = (there, replace(back, by_src=replace(back.by_src, indices=back.by_src.indices.long())))
    for path in ([there, back], mixed):
        for weights in (None, [weight, None]):
            walker = ops.Walker(path, edge_weight=weights)
            everywhere(lambda walker=walker: walker(start, 7, return_eid=True))
            nodes, edges = walker(start, 7, return_eid=True)
            items, users = there.edge_index()
            for step in range(7):
                ends = (items, users) if step % 2 == 0 else (users, items)
                moved = edges[:, step] >= 0
                # a walk without a way on ends
                assert torch.equal(moved, there.out_degree()[start] > 0)
                assert (nodes[~moved, step + 1] == -1).all() and (~moved).any()
                for at, end in enumerate(ends):
                    assert torch.equal(end[edges[moved, step]], nodes[moved, step + at])
    # the steps of a path of one graph, once or twice, are those of the graph
    graph = random_graph()
    want = ops.random_walk(graph, start, 6)
    dead = (graph.out_degree()[want] == 0).cumsum(1)[:, :6] > 0
    for path in ([graph], [graph, graph]):
        nodes = ops.random_walk(path, start, 6)
        assert torch.equal(nodes[:, 1:], torch.where(dead, -1, want[:, 1:]))
        assert dead.any() and (nodes[:, 6] >= 0).any()


def test_importance_on_a_metapath(by: str) -> None:
    """Of items by items: only where whole paths lead, of which so many may be taken."""
    there, back = two_kinds()
    walks, length, stop = 5000, 3, 0.4
    seeds = torch.tensor([3, 20])
    found, weight = ops.importance_neighbors(
        [there, back], seeds, 40, num_walks=walks, walk_length=length, termination_prob=stop
    )
    assert (found.num_src, found.num_dst) == (40, 2)
    forth, home = (dense_adjacency(g).t() for g in (there, back))
    step = [a / a.sum(1, keepdim=True).clamp(min=1) for a in (forth, home)]
    step = step[0] @ step[1]
    for at, seed in enumerate(seeds.tolist()):
        want = expected_visits(step, seed, walks, length, stop)
        got = torch.zeros(40, dtype=torch.float64)
        nodes, weights = neighborhood(found, weight, at)
        got[nodes] = torch.tensor(weights, dtype=torch.float64)
        deviation = (want * length).sqrt() / want.sum() * 2
        assert ((got - want / want.sum()).abs() <= 4 * deviation).all()


# -- probabilities ---------------------------------------------------------------------------------

WALKS = 120_000


def second_order(graph: Graph, p: float, q: float, weight: Tensor | None) -> Tensor:
    """The probability of the next node given the last and the present one, ``[N, N, N]``."""
    adjacency = torch.zeros(graph.num_src, graph.num_src, dtype=torch.float64)
    src, dst = graph.edge_index()
    values = torch.ones(graph.num_edges) if weight is None else weight
    adjacency.index_put_((src, dst), values.double(), accumulate=True)
    joined = dense_adjacency(graph).t() > 0
    count = graph.num_src
    out = torch.zeros(count, count, count, dtype=torch.float64)
    for last in range(count):
        factor = torch.where(joined[:, last], 1.0, 1 / q).double()
        factor[last] = 1 / p
        out[last] = adjacency * factor
    return out / out.sum(2, keepdim=True).clamp(min=1e-30)


@pytest.mark.parametrize("name", ["uniform", "weighted", "node2vec", "far", "weighted node2vec",
                                  "back", "weighted back"])  # fmt: skip
def test_transitions_have_the_exact_probabilities(by: str, name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    edges = torch.randint(6, (2, 22), generator=generator)
    edges = torch.cat([edges, edges[:, :9].flip(0)], 1)
    graph = Graph.from_edge_index(edges, 6)
    options = dict(OPTIONS[name])
    if options.get("edge_weight"):
        options["edge_weight"] = torch.rand(graph.num_edges, generator=generator) + 0.05
    weight = options.get("edge_weight")
    start = torch.arange(6).repeat(WALKS // 6)
    nodes = ops.random_walk(graph, start, 4, (2, 0, 0), **options)
    want = second_order(graph, options.get("p", 1.0), options.get("q", 1.0), weight)
    seen = 0
    for step in (1, 2, 3):
        last, at, to = nodes[:, step - 1], nodes[:, step], nodes[:, step + 1]
        counts = torch.zeros(6, 6, 6, dtype=torch.float64)
        counts.index_put_((last, at, to), torch.ones(len(to)).double(), accumulate=True)
        total = counts.sum(2, keepdim=True)
        deviation = (total * want * (1 - want)).sqrt()
        # counts near 0 or all have no normal distribution
        assert ((counts - total * want).abs() <= 4 * deviation + 3).all()
        assert (counts[want == 0] == 0).all()
        seen += int((total * want > 100).sum())
    assert seen > 20


def test_first_steps_are_uniform_or_weighted(by: str) -> None:
    """Without a last node p and q say nothing; a star's centre with weights, some 0."""
    weight = torch.tensor([0.0, 1, 2, 3, 4, 5, 0.5, 8, 0, 1, 2])
    count = len(weight)
    star = torch.stack([torch.zeros(count, dtype=torch.int64), torch.arange(count) + 1])
    graph = Graph.from_edge_index(star, count + 1)
    for options in ({}, {"p": 9.0, "q": 0.1}):
        for some in (None, weight):
            share = (torch.ones(count) if some is None else some).double()
            share /= share.sum()
            nodes = ops.random_walk(
                graph, torch.zeros(WALKS, dtype=torch.int64), 1, edge_weight=some, **options
            )
            counts = torch.bincount(nodes[:, 1] - 1, minlength=count)
            deviation = (share * (1 - share) / WALKS).sqrt()
            assert ((counts / WALKS - share).abs() <= 4 * deviation).all()


# -- importance ------------------------------------------------------------------------------------


def expected_visits(step: Tensor, seed: int, walks: int, length: int, stop: float) -> Tensor:
    """The expected visits of each node, exactly; ``step`` has the probabilities of a step."""
    present = torch.zeros(len(step), dtype=torch.float64)
    present[seed] = 1
    total = torch.zeros_like(present)
    for _ in range(length):
        present = present @ step
        total += present
        present = present * (1 - stop)
    return walks * total


def test_importance_is_how_often_walks_visit(by: str) -> None:
    ends = torch.randint(12, (2, 30), generator=torch.Generator().manual_seed(1))
    graph = Graph.from_edge_index(torch.cat([ends, ends[:, :20].flip(0)], 1), 12)
    walks, length, stop = 20_000, 5, 0.3
    seeds = torch.tensor([4, 0, 7])
    found, weight = ops.importance_neighbors(
        graph, seeds, 12, num_walks=walks, walk_length=length, termination_prob=stop
    )
    for at, seed in enumerate(seeds.tolist()):
        mine = slice(int(found.by_dst.indptr[at]), int(found.by_dst.indptr[at + 1]))
        got = torch.zeros(12, dtype=torch.float64)
        got[found.by_dst.indices[mine].long()] = weight[mine].double()
        adjacency = dense_adjacency(graph).t()
        step = adjacency / adjacency.sum(1, keepdim=True).clamp(min=1)
        want = expected_visits(step, seed, walks, length, stop)
        # visits of one walk depend on one another; their number is at most its length
        deviation = (want * length).sqrt() / want.sum() * 2
        assert ((got - want / want.sum()).abs() <= 4 * deviation).all()


@pytest.mark.parametrize("stop", [None, 0.3, 0.85])
def test_walks_end_with_their_chance_after_every_step(by: str, stop: float | None) -> None:
    """On a path every walk visits the second node, and those that have not ended the next ones."""
    graph = Graph.from_edge_index(torch.stack([torch.arange(7), torch.arange(1, 8)]), 8)
    walks, length = 100_000, 6
    given = {} if stop is None else {"termination_prob": stop}
    found, weight = ops.importance_neighbors(
        graph, torch.tensor([0]), 8, num_walks=walks, walk_length=length, **given
    )
    visits = torch.zeros(8, dtype=torch.float64)
    visits[found.by_dst.indices.long()] = weight.double()
    assert visits[0] == 0 and visits[length + 1] == 0
    going_on = 1 - (0.15 if stop is None else stop)
    want = going_on ** torch.arange(length, dtype=torch.float64)
    deviation = (want * (1 - want) / walks).sqrt()
    got = visits[1 : length + 1] / visits[1]
    assert ((got - want).abs() <= 4 * deviation + 1e-6).all()


def test_importance_keeps_the_most_visited(by: str) -> None:
    graph = random_graph()
    seeds = torch.tensor([0, 5, 250, 5])
    every, all_weights = ops.importance_neighbors(graph, seeds, 300, (1, 0, 0))
    found, weight = ops.importance_neighbors(graph, seeds, 4, (1, 0, 0))
    assert (found.num_dst, found.num_src, found.by_src) == (4, 300, None)
    for at in range(4):
        nodes, weights = neighborhood(found, weight, at)
        of_all, of_all_weights = neighborhood(every, all_weights, at)
        # most visits first, of equals the lower node
        assert of_all == [n for _, n in sorted(zip([-w for w in of_all_weights], of_all,
                                                   strict=True))]  # fmt: skip
        assert nodes == of_all[:4] and len(set(of_all)) == len(of_all)
        assert not weights or sum(weights) == pytest.approx(1, abs=1e-6)
    assert neighborhood(found, weight, 1) == neighborhood(found, weight, 3)
    # a seed's walks do not depend on the others
    alone, alone_weight = ops.importance_neighbors(graph, torch.tensor([250]), 4, (1, 0, 0))
    assert neighborhood(alone, alone_weight, 0) == neighborhood(found, weight, 2)


def neighborhood(graph: Graph, weight: Tensor, row: int) -> tuple[list[int], list[float]]:
    begin, end = graph.by_dst.indptr[row : row + 2].tolist()
    return graph.by_dst.indices[begin:end].tolist(), weight[begin:end].tolist()


def test_importance_has_the_same_bits_everywhere() -> None:
    graph = random_graph()
    weight = weights_of(graph)
    for walker in (ops.Walker(graph), ops.Walker(graph, edge_weight=weight)):

        def call(walker: ops.Walker = walker) -> tuple[Tensor, ...]:
            found, weight = ops.importance_neighbors(walker, torch.arange(100), 7, num_walks=9)
            return found.by_dst.indptr, found.by_dst.indices, weight

        everywhere(call)


def test_walks_that_lead_nowhere(by: str) -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 4)
    found, weight = ops.importance_neighbors(graph, torch.tensor([3, 0]), 5, termination_prob=0)
    assert found.by_dst.indptr.tolist() == [0, 0, 2]
    assert found.by_dst.indices.tolist() == [1, 2] and weight.tolist() == [0.5, 0.5]
    none, weight = ops.importance_neighbors(graph, torch.tensor([], dtype=torch.int64), 5)
    assert none.num_dst == 0 and len(weight) == 0
    # a termination of 1 is one step
    found, _ = ops.importance_neighbors(graph, torch.tensor([0]), 5, termination_prob=1)
    assert found.by_dst.indices.tolist() == [1]


# -- personalised PageRank -------------------------------------------------------------------------


def exact_ppr(graph: Graph, alpha: float) -> Tensor:
    """Where walks from each node end, ``[N, N]``; in a node without out-edges they do."""
    adjacency = dense_adjacency(graph).t()
    degree = adjacency.sum(1)
    step = adjacency / degree.clamp(min=1).unsqueeze(1)
    ends = torch.where(degree > 0, alpha, 1.0).double()
    solved = torch.linalg.inv(torch.eye(len(ends)).double() - (1 - alpha) * step)
    return solved * ends


@settings(max_examples=40)
@given(
    graphs(bipartite=False),
    st.sampled_from([0.05, 0.15, 0.5, 0.9]),
    st.sampled_from([1e-12, 1e-3, 0.1, 1.0]),
)
def test_ppr_is_within_its_bound(graph: Graph, alpha: float, eps: float) -> None:
    count = graph.num_src
    exact, degree = exact_ppr(graph, alpha), graph.out_degree().clamp(min=1).double()
    bound = eps * (degree.unsqueeze(1) * exact).sum(0)
    for way in WAYS:
        with served(way):
            found, mass = ops.ppr(graph, torch.arange(count), alpha=alpha, eps=eps, top_k=99)
            got = torch.zeros(count, count, dtype=torch.float64)
            got[found.by_dst.row_ids(), found.by_dst.indices.long()] = mass.double()
            missing = exact - got
            assert (missing >= -1e-6).all() and (missing <= bound + 1e-6).all()
            assert (mass > 0).all()


def test_ppr_has_the_same_bits_everywhere() -> None:
    graph = random_graph()
    for some in (graph, wide(graph)):
        for top in (1, 7, 300):

            def call(some: Graph = some, top: int = top) -> tuple[Tensor, ...]:
                found, mass = ops.ppr(some, torch.arange(0, 300, 3), eps=1e-3, top_k=top)
                return found.by_dst.indptr, found.by_dst.indices, mass

            everywhere(call)


def test_ppr_of_a_walker_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph()
    seeds = torch.arange(0, 300, 3)

    def call(of: Any = graph) -> list[list[float]]:
        found, mass = ops.ppr(of, seeds, eps=1e-3, top_k=7)
        return [found.by_dst.indptr.tolist(), found.by_dst.indices.tolist(), mass.tolist()]

    want = call()
    assert call(ops.Walker(graph)) == want
    with served("torch"):
        for room in (1, 20 * 3300):
            monkeypatch.setattr(module, "ROOM", room)
            assert call() == want


def test_ppr_comes_to_an_end(by: str) -> None:
    """Where mass goes round in a circle, down to the last unit."""
    circle = Graph.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)
    _, mass = ops.ppr(circle, torch.tensor([0]), alpha=0.5, eps=2.0**-59)
    assert mass.tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_ppr_keeps_the_largest(by: str) -> None:
    graph = random_graph()
    seeds = torch.tensor([0, 31, 299, 31])
    every, all_mass = ops.ppr(graph, seeds, top_k=1000)
    found, mass = ops.ppr(graph, seeds, top_k=5)
    for at in range(4):
        nodes, masses = neighborhood(every, all_mass, at)
        assert masses == sorted(masses, reverse=True) and len(set(nodes)) == len(nodes)
        assert neighborhood(found, mass, at) == (nodes[:5], masses[:5])
        assert sum(masses) <= 1 + 1e-6


def test_ppr_of_a_hub_pushes_once(by: str) -> None:
    """A seed whose degree is beyond eps keeps its share and gives the rest on."""
    star = torch.stack([torch.zeros(40, dtype=torch.int64), torch.arange(40) + 1])
    found, mass = ops.ppr(Graph.from_edge_index(star, 41), torch.tensor([0]), alpha=0.25, eps=1.0)
    assert found.by_dst.indices.tolist() == [0] and mass.tolist() == [0.25]


# -- blocks ----------------------------------------------------------------------------------------


def test_compact_keeps_every_edge() -> None:
    graph = random_graph()
    for seeds in (torch.tensor([250, 3, 77, 3, 0]), torch.arange(300), torch.tensor([299])):
        found, _ = ops.importance_neighbors(graph, seeds, 6)
        block, n_id = ops.compact(found, seeds)
        assert torch.equal(n_id[: len(seeds)], seeds)
        rest = n_id[len(seeds) :]
        assert (rest.diff() > 0).all() and not torch.isin(rest, seeds).any()
        assert torch.equal(n_id[block.by_dst.indices.long()], found.by_dst.indices.long())
        assert torch.equal(block.by_dst.indptr, found.by_dst.indptr)
        assert set(n_id.tolist()) == {*seeds.tolist(), *found.by_dst.indices.tolist()}
        assert (block.num_src, block.num_dst) == (len(n_id), len(seeds))
        x = torch.rand(300, 3)
        pooled = ops.spmm(block, x[n_id])
        assert torch.equal(pooled, ops.spmm(found, x))


# -- bad input -------------------------------------------------------------------------------------

SQUARE = Graph.from_edge_index(torch.tensor([[0, 1, 2, 0], [1, 2, 0, 2]]), 3)
START = torch.tensor([0, 1])
TO_OTHERS = Graph.from_edge_index(torch.tensor([[0], [1]]), num_src=3, num_dst=5)


def broken(**changes: Any) -> Graph:
    assert SQUARE.by_src is not None
    return replace(SQUARE, by_src=replace(SQUARE.by_src, **changes))


BAD_WALKS: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((torch.ones(2, 3), START, 2), {}, GraphError, "random_walk: graph is a Tensor, but"),
    ((replace(SQUARE, num_src=4), START, 2), {}, GraphError, "3 destinations and the next step"),
    ((replace(SQUARE, by_src=None), START, 2), {}, GraphError, "Build it with transpose=True"),
    ((broken(indices=torch.tensor([0, 1, 9, 0])), START, 2), {}, GraphError, "indices.2. = 9"),
    ((broken(indptr=torch.tensor([0, 4, 2, 4])), START, 2), {}, GraphError, "falls after pos"),
    ((SQUARE, [0], 2), {}, GraphError, "start has list, but a one-dimensional"),
    ((SQUARE, torch.tensor([[0]]), 2), {}, GraphError, r"start has shape \[1, 1\]"),
    ((SQUARE, torch.tensor([0.5]), 2), {}, GraphError, "dtype torch.float32.*start.long"),
    ((SQUARE, torch.tensor([True]), 2), {}, GraphError, "nonzero"),
    ((SQUARE, torch.tensor([0, 3]), 2), {}, GraphError, r"start\[1\] = 3, but there are 3 nodes"),
    ((SQUARE, torch.tensor([-1]), 2), {}, GraphError, r"start\[0\] = -1"),
    ((SQUARE, START.to("meta"), 2), {}, GraphError, "on meta but the graph is on cpu"),
    ((SQUARE, START, -1), {}, ConfigError, "walk_length is -1, but a whole number from 0"),
    ((SQUARE, START, 2.0), {}, ConfigError, "walk_length is 2.0"),
    ((SQUARE, START, True), {}, ConfigError, "walk_length is True"),
    ((SQUARE, START, 2, 7), {}, ConfigError, "random_walk: key is 7"),
    ((SQUARE, START, 2, (0, -1, 0)), {}, ConfigError, "the epoch of key is -1"),
    ((SQUARE, START, 2), {"p": 0}, ConfigError, "p is 0, but a positive number"),
    ((SQUARE, START, 2), {"p": -1.0}, ConfigError, "p is -1.0"),
    ((SQUARE, START, 2), {"p": 1e-300}, ConfigError, "p is 1e-300"),
    ((SQUARE, START, 2), {"p": 10**400}, ConfigError, "p is 1000"),
    ((SQUARE, START, 2), {"q": float("nan")}, ConfigError, "q is nan"),
    ((SQUARE, START, 2), {"q": float("inf")}, ConfigError, "q is inf"),
    ((SQUARE, START, 2), {"q": "1"}, ConfigError, "q is '1'"),
    (([], START, 2), {}, GraphError, "the list of graphs is empty"),
    (([SQUARE, None], START, 2), {}, GraphError, r"graph\[1\] is a NoneType"),
    (([SQUARE, SQUARE.to("meta")], START, 2), {}, GraphError, r"graph\[1\] is on meta, not on cpu"),
    (([SQUARE, TO_OTHERS], START, 2), {}, GraphError,
     r"graph\[1\] has 5 destinations and the next step starts from 3"),
    (([SQUARE, SQUARE], START, 2), {"q": 2}, ConfigError, "of another kind. Leave them out"),
    (([SQUARE, SQUARE], START, 2), {"edge_weight": [None]}, GraphError, "is for 1 graphs, but the"),
    ((SQUARE, START, 2), {"edge_weight": [1.0]}, GraphError, "edge_weight is not a one-dim"),
    ((SQUARE, START, 2), {"edge_weight": torch.ones(3)}, GraphError, "3 entries, but there are 4"),
    ((SQUARE, START, 2), {"edge_weight": torch.tensor([1, 2, float("nan"), 1])}, GraphError,
     r"random_walk: edge_weight\[2\] = nan"),
    ((SQUARE, START, 2), {"edge_weight": torch.tensor([1.0, -2, 1, 1])}, GraphError,
     r"edge_weight\[1\] = -2.0, but a weight must be finite"),
    ((SQUARE, START, 2), {"edge_weight": torch.ones(4, device="meta")}, GraphError, "is on meta"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "options", "error", "message"), BAD_WALKS)
def test_bad_walks(args: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ops.random_walk(*args, **options)


BAD_NEIGHBORS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("importance_neighbors", {"num_neighbors": 0}, ConfigError, "num_neighbors is 0"),
    ("importance_neighbors", {"num_walks": 0}, ConfigError, "num_walks is 0"),
    ("importance_neighbors", {"walk_length": 0}, ConfigError, "walk_length is 0"),
    ("importance_neighbors", {"termination_prob": 1.5}, ConfigError, "termination_prob is 1.5"),
    ("importance_neighbors", {"termination_prob": float("nan")}, ConfigError, "is nan"),
    ("importance_neighbors", {"termination_prob": "0"}, ConfigError, "termination_prob is '0'"),
    ("importance_neighbors", {"graph": ops.Walker(SQUARE, p=2)}, ConfigError, "has p or q"),
    ("importance_neighbors", {"seeds": torch.tensor([3])}, GraphError, r"seeds\[0\] = 3"),
    ("importance_neighbors", {"key": None}, ConfigError, "importance_neighbors: key is None"),
    ("ppr", {"alpha": 0.0}, ConfigError, "alpha is 0.0, but a number between 0 and 1"),
    ("ppr", {"alpha": 1}, ConfigError, "alpha is 1"),
    ("ppr", {"alpha": float("nan")}, ConfigError, "alpha is nan"),
    ("ppr", {"eps": 0}, ConfigError, "eps is 0"),
    ("ppr", {"eps": 1.1}, ConfigError, "eps is 1.1"),
    ("ppr", {"eps": 2.0**-60}, ConfigError, r"alpha \* eps is 1.3\d*e-19, but at least 2\*\*-60"),
    ("ppr", {"top_k": 0}, ConfigError, "top_k is 0"),
    ("ppr", {"graph": ops.Walker(SQUARE, q=2)}, ConfigError, "the Walker has weights, p, q or a"),
    ("ppr", {"graph": ops.Walker([SQUARE] * 2)}, ConfigError, "the Walker has weights, p, q or a"),
    ("ppr", {"graph": ops.Walker(SQUARE, edge_weight=torch.ones(4))}, ConfigError, "has weights"),
    ("ppr", {"seeds": torch.tensor([-1])}, GraphError, r"ppr: seeds\[0\] = -1"),
    ("ppr", {"graph": None}, GraphError, "ppr: graph is a NoneType"),
    ("ppr", {"graph": replace(SQUARE, by_src=None)}, GraphError, "ppr, which follows edges"),
    ("compact", {"graph": None}, GraphError, "compact: graph is a NoneType"),
    ("compact", {}, GraphError, "2 seeds, but the graph has 3 destinations"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "changes", "error", "message"), BAD_NEIGHBORS)
def test_bad_neighbors(call: str, changes: Any, error: type[Exception], message: str) -> None:
    given = {"graph": SQUARE, "seeds": START, **changes}
    if call == "importance_neighbors":
        given.setdefault("num_neighbors", 3)
    with pytest.raises(error, match=message):
        getattr(ops, call)(**given)


def test_graphs_of_nothing(by: str) -> None:
    empty = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 0)
    none = torch.empty(0, dtype=torch.int64)
    assert ops.random_walk(empty, none, 3).shape == (0, 4)
    assert ops.random_walk(SQUARE, none, 3, p=2).shape == (0, 4)
    nodes, edges = ops.random_walk(SQUARE, START, 0, return_eid=True)
    assert nodes.tolist() == [[0], [1]] and edges.shape == (2, 0)
    assert ops.ppr(empty, none)[0].num_edges == 0
    edgeless = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 3)
    nodes, edges = ops.random_walk(edgeless, START, 2, p=2, q=3, return_eid=True)
    assert nodes.tolist() == [[0] * 3, [1] * 3] and edges.tolist() == [[-1, -1]] * 2
    found, mass = ops.ppr(edgeless, START)
    assert found.by_dst.indices.tolist() == [0, 1] and mass.tolist() == [1, 1]
