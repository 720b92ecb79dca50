"""Hypergraphs against naive Python sets and dense formulas."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphkit import ConfigError, Graph, GraphError
from graphkit.ops import spmm
from graphkit.structure import (
    add_singletons,
    as_hypergraph,
    check_hyperedge_weight,
    clique_expansion,
    from_incidence,
    from_members,
    hyperedges_of_pairs,
    join_hypergraphs,
    khop_hyperedges,
    knn_hyperedges,
    merge_duplicates,
    restrict,
    star_expansion,
    to_hyperedge_index,
    to_members,
)
from graphkit.testing import graphs


@st.composite
def lists(draw: Any) -> tuple[int, list[list[int]]]:
    """Nodes, and members of at least one hyperedge; empty ones, repetitions, nodes in none."""
    count = draw(st.integers(0, 7))
    member = st.lists(st.integers(0, max(0, count - 1)), max_size=4 if count else 0)
    return count, draw(st.lists(member, min_size=1, max_size=7))


def sets(members: list[list[int]]) -> list[list[int]]:
    return [sorted(set(one)) for one in members]


def dense(h: Graph) -> Tensor:
    """H of [N, M] in float64."""
    node, hyperedge = to_hyperedge_index(h)
    out = torch.zeros(h.num_dst, h.num_src, dtype=torch.float64)
    return out.index_put_((node, hyperedge), torch.ones(len(node), dtype=torch.float64), True)


def operator(h: Graph, weight: Tensor, symmetric: bool) -> Tensor:
    """HGNN's matrix, or HGNN+'s; inverses of 0 are 0."""
    incidence = dense(h)
    degree, size = incidence @ weight.double(), incidence.sum(0)
    left = degree.pow(-0.5 if symmetric else -1).nan_to_num(posinf=0)
    right = left if symmetric else torch.ones_like(left)
    middle = weight.double() * size.pow(-1).nan_to_num(posinf=0)
    return left[:, None] * (incidence * middle) @ incidence.t() * right


@pytest.mark.filterwarnings("ignore:Sparse (CSR|invariant):UserWarning")
@given(lists())
def test_round_trips(given_: tuple[int, list[list[int]]]) -> None:
    count, members = given_
    h = from_members(members, count)
    assert (h.num_dst, h.num_src) == (count, len(members))
    assert to_members(h) == sets(members)
    assert to_members(from_members(dict(enumerate(members)), count)) == sets(members)
    again = as_hypergraph(to_hyperedge_index(h), count, len(members))
    assert torch.equal(to_hyperedge_index(again), to_hyperedge_index(h))
    incidence = dense(h)
    for matrix in (incidence, incidence.to_sparse_coo(), incidence.to_sparse_csr()):
        assert torch.equal(to_hyperedge_index(from_incidence(matrix)), to_hyperedge_index(h))


def test_members_come_in_any_form() -> None:
    h = from_members([(2, 0), {1}, torch.tensor([3, 3]), range(2)])
    assert to_members(h) == [[0, 2], [1], [3], [0, 1]]
    assert h.num_dst == 4 and h.in_degree().tolist() == [2, 2, 1, 1]


def test_a_sparse_zero_is_no_member() -> None:
    index, value = torch.tensor([[0, 1], [0, 0]]), torch.tensor([0.0, 2.0])
    matrix = torch.sparse_coo_tensor(index, value, (2, 1), check_invariants=True)
    assert to_members(from_incidence(matrix)) == [[1]]


def test_a_graph_passes_through() -> None:
    h = from_members([[0, 1], [2]])
    assert as_hypergraph(h) is h and as_hypergraph(h, 3, 2) is h
    for sizes, message in ((4, None), "4 nodes are"), ((None, 3), "3 hyperedges are expected"):
        with pytest.raises(GraphError, match=message):
            as_hypergraph(h, *sizes)


def test_compiles_without_a_break() -> None:
    h = from_members([[0, 1, 2], [1, 2, 3], []], 5)
    x = torch.randn(5, 3, requires_grad=True)

    def step(x: Tensor, index: Tensor) -> Tensor:
        graph = as_hypergraph(index, x.size(0), 3)
        return spmm(graph, spmm(graph.t(), x))

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    got = compiled(x, to_hyperedge_index(h))
    assert torch.equal(got, step(x, to_hyperedge_index(h)))
    got.sum().backward()
    with pytest.raises(GraphError, match="but the graph has 3 sources"):
        compiled(x[:4], to_hyperedge_index(h) + 2)


def test_the_two_hyperedges_of_the_worked_example() -> None:
    h = from_members([[0, 1, 2], [1, 2, 3]])
    x = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    one = torch.ones(2)
    want = torch.tensor([1.511845, 2.845178, 2.845178, 2.511845], dtype=torch.float64)
    torch.testing.assert_close(operator(h, one, True) @ x, want, atol=1e-6, rtol=0)
    mean = spmm(h, spmm(h.t(), x[:, None], reduce="mean"), reduce="mean").squeeze(1)
    assert mean.tolist() == [2, 2.5, 2.5, 3]


@given(graphs(bipartite=False))
def test_pairs_are_half_a_lazy_graph_convolution(graph: Graph) -> None:
    """With hyperedges of size 2 HGNN's matrix is (I + D^-1/2 A D^-1/2) / 2, HGNN+'s the same with
    D^-1 A; a hyperedge for each node more, and it is D'^-1/2 ((D + A) / 2 + I) D'^-1/2."""
    src, dst = graph.edge_index()
    between = {frozenset(pair) for pair in zip(src.tolist(), dst.tolist(), strict=True)}
    pairs = sorted(sorted(pair) for pair in between if len(pair) == 2)
    loops = sorted(sorted(pair) for pair in between if len(pair) == 1)
    found = hyperedges_of_pairs(graph)
    assert to_members(found) == sorted(pairs + loops)
    if not pairs:
        return
    h = from_members(pairs, graph.num_dst)
    adjacency = torch.zeros(graph.num_dst, graph.num_dst, dtype=torch.float64)
    for a, b in pairs:
        adjacency[a, b] = adjacency[b, a] = 1
    degree = adjacency.sum(1)
    root, whole = (degree.pow(p).nan_to_num(posinf=0) for p in (-0.5, -1))
    here = torch.diag((degree > 0).double())
    one = torch.ones(h.num_src)
    near = root[:, None] * adjacency * root
    torch.testing.assert_close(operator(h, one, True), (here + near) / 2)
    torch.testing.assert_close(operator(h, one, False), (here + whole[:, None] * adjacency) / 2)
    own = add_singletons(h)
    root = (degree + 1).pow(-0.5)
    want = root[:, None] * ((torch.diag(degree) + adjacency) / 2 + torch.eye(len(degree))) * root
    torch.testing.assert_close(operator(own, torch.ones(own.num_src), True), want)


@given(lists(), st.data())
def test_merged_hyperedges_propagate_as_before(
    given_: tuple[int, list[list[int]]], data: Any
) -> None:
    count, members = given_
    h = from_members(members, count)
    drawn = data.draw(st.lists(st.integers(0, 9), min_size=h.num_src, max_size=h.num_src))
    weight = torch.tensor(drawn, dtype=torch.float64)
    merged = merge_duplicates(h, weight)
    alike: dict[tuple[int, ...], list[int]] = {}
    for at, one in enumerate(sets(members)):
        alike.setdefault(tuple(one), []).append(at)
    assert to_members(merged.hypergraph) == [list(one) for one in alike]
    number = [0] * len(members)
    for group, at in enumerate(alike.values()):
        for one in at:
            number[one] = group
    assert merged.number.tolist() == number
    for how, of in (("sum", sum), ("mean", lambda w: sum(w) / len(w)), ("max", max)):
        want = [of([drawn[i] for i in at]) for at in alike.values()]
        got = merge_duplicates(h, weight, reduce=how).weight  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))
    for symmetric in (True, False):
        before = operator(h, weight, symmetric)
        torch.testing.assert_close(operator(merged.hypergraph, merged.weight, symmetric), before)


def test_a_repeated_incidence_does_not_set_hyperedges_apart() -> None:
    index = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 1, 1, 1]])
    merged = merge_duplicates(as_hypergraph(index))
    assert to_members(merged.hypergraph) == [[0, 1]] and merged.weight.tolist() == [2]


@given(lists())
def test_singletons(given_: tuple[int, list[list[int]]]) -> None:
    count, members = given_
    h = from_members(members, count)
    own = {one[0] for one in sets(members) if len(one) == 1}
    inside = {node for one in members for node in one}
    for isolated_only, has in ((False, own), (True, inside)):
        more = add_singletons(h, isolated_only=isolated_only)
        added = [[node] for node in range(count) if node not in has]
        assert to_members(more) == sets(members) + added
        assert torch.equal(to_hyperedge_index(more)[:, : h.num_edges], to_hyperedge_index(h))
        again = add_singletons(more, isolated_only=isolated_only)
        assert again.num_src == more.num_src


@given(lists(), st.data())
def test_restricted_to_some_nodes(given_: tuple[int, list[list[int]]], data: Any) -> None:
    count, members = given_
    h = from_members(members, count)
    seen = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    for least in (0, 1, 2):
        left = restrict(h, torch.tensor(seen, dtype=torch.bool), min_size=least)
        nodes = [node for node in range(count) if seen[node]]
        cut = [[node for node in one if seen[node]] for one in sets(members)]
        kept = [at for at, one in enumerate(cut) if len(one) >= least]
        assert left.node_id.tolist() == nodes and left.hyperedge_id.tolist() == kept
        assert to_members(left.hypergraph) == [[nodes.index(n) for n in cut[at]] for at in kept]
        # the maps lead back to the incidences of the whole
        node, hyperedge = to_hyperedge_index(left.hypergraph)
        there = torch.stack([left.node_id[node], left.hyperedge_id[hyperedge]])
        assert torch.equal(there, to_hyperedge_index(h)[:, left.incidence_id])


@given(lists(), st.integers(1, 5))
def test_clique_expansion_counts_common_hyperedges(
    given_: tuple[int, list[list[int]]], chunk: int
) -> None:
    count, members = given_
    h = from_members(members, count)
    weight = torch.arange(1.0, 1 + h.num_src)
    counted: Counter[tuple[int, int]] = Counter()
    weighed: Counter[tuple[int, int]] = Counter()
    for one, w in zip(sets(members), weight.tolist(), strict=True):
        for a, b in combinations(one, 2):
            for pair in ((a, b), (b, a)):
                counted[pair] += 1
                weighed[pair] += int(w)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphkit.structure.hypergraph._CHUNK", chunk)
        for given_weight, want in ((None, counted), (weight, weighed)):
            graph, value = clique_expansion(h, given_weight)
            pairs = [(a, b) for a, b in graph.edge_index().t().tolist()]
            assert dict(zip(pairs, value.tolist(), strict=True)) == want
            assert pairs == sorted(want, key=lambda pair: pair[::-1])
    product = dense(h) * weight @ dense(h).t()
    product.fill_diagonal_(0)
    assert [product[a, b] for a, b in pairs] == value.tolist()


@given(lists())
def test_star_expansion(given_: tuple[int, list[list[int]]]) -> None:
    count, members = given_
    h = from_members(members, count)
    star = star_expansion(h)
    assert star.num_dst == star.num_src == count + len(members)
    node, hyperedge = to_hyperedge_index(h)
    ends = torch.stack([count + hyperedge, node])
    assert torch.equal(star.edge_index(), torch.cat([ends, ends.flip(0)], dim=1))


@given(graphs(bipartite=False), st.integers(1, 3), st.integers(1, 5))
def test_neighbourhoods_as_hyperedges(graph: Graph, k: int, chunk: int) -> None:
    leads = torch.eye(graph.num_dst, dtype=torch.float64)
    src, dst = graph.edge_index()
    leads[dst, src] = 1
    reach = torch.linalg.matrix_power(leads, k) > 0 if graph.num_dst else leads > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphkit.structure.hypergraph._CHUNK", chunk)
        h = khop_hyperedges(graph, k)
    assert h.num_src == h.num_dst == graph.num_dst
    assert to_members(h) == [row.nonzero().view(-1).tolist() for row in reach]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_nearest_by_features(metric: Any, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphkit.structure.hypergraph._CHUNK", chunk)
    # whole numbers, so that some are equally far and nothing is rounded
    x = torch.randint(-3, 4, (40, 3)).float()
    point = torch.nn.functional.normalize(x.double()) if metric == "cosine" else x.double()
    square = point.square().sum(1)
    distance = square - 2 * point @ point.t()
    h = knn_hyperedges(x, 4, metric=metric)
    for node, members in enumerate(to_members(h)):
        others = sorted((float(distance[node, at]), at) for at in range(40) if at != node)
        assert members == sorted([node] + [at for _, at in others[:4]])


def test_families_stand_one_after_the_other() -> None:
    a, b = from_members([[0, 1], []], 4), from_members([[3], [0, 2]], 4)
    joined = join_hypergraphs(a, b, a)
    assert to_members(joined) == [[0, 1], [], [3], [0, 2], [0, 1], []]
    parts = [to_hyperedge_index(one)[0] for one in (a, b, a)]
    assert torch.equal(to_hyperedge_index(joined)[0], torch.cat(parts))


SMALL = from_members([[0, 1], [2]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_members([]), "no hyperedge in members"),
        (lambda: from_members({}), "no hyperedge in members"),
        (lambda: from_members([[0], [1, [2]]]), r"members\[1\] is \[1, \[2\]\], but a list of"),
        (lambda: from_members([[0], 1]), r"members\[1\] is 1, but"),  # pyright: ignore[reportArgumentType]
        (lambda: from_members([["a"]]), r"members\[0\] is \['a'\], but"),
        (lambda: from_members([[0.5]]), r"members\[0\] is \[0.5\], but"),
        (lambda: from_members([[2**70]]), "is no node number"),
        (lambda: from_members([[0, 3]], 3), r"members\[1\] = 3, but the graph has 3 nodes"),
        (lambda: from_members([[0, -1]]), r"members\[1\] = -1, but"),
        (lambda: from_incidence(torch.zeros(3, 0)), "at least one hyperedge is expected"),
        (lambda: from_incidence(torch.zeros(3)), r"got shape \[3\], but a tensor \[N, M\]"),
        (lambda: from_incidence([[1, 0]]), "got list, but"),  # pyright: ignore[reportArgumentType]
        (lambda: as_hypergraph([[0], [0]]), "is a list, but a torch.Tensor"),  # pyright: ignore[reportArgumentType]
        (lambda: as_hypergraph(torch.tensor([[0, 5], [0, 1]]), 3), r"hyperedge_index\[0, 1\] = 5"),
        (lambda: as_hypergraph(torch.tensor([[0], [2]]), 3, 2), "= 2, but the graph has 2 hypered"),
        (lambda: as_hypergraph(torch.tensor([[0], [-2]]), 3), r"hyperedge_index\[1, 0\] = -2"),
        (lambda: as_hypergraph(torch.zeros(3, 4).long()), r"has shape \[3, 4\], but"),
        (lambda: check_hyperedge_weight(torch.ones(3), SMALL), r"but floating-point \[2\] is exp"),
        (lambda: check_hyperedge_weight(torch.ones(2).long(), SMALL), "torch.int64"),
        (lambda: check_hyperedge_weight(torch.tensor([1.0, -2]), SMALL), r"\[1\] = -2.0, but wei"),
        (lambda: check_hyperedge_weight(torch.tensor([torch.nan, 1]), SMALL), r"\[0\] = nan"),
        (lambda: merge_duplicates(SMALL, torch.tensor([-1.0, 1])), r"\[0\] = -1.0"),
        (lambda: clique_expansion(SMALL, torch.tensor([-1.0, 1])), r"\[0\] = -1.0"),
        (lambda: restrict(SMALL, torch.ones(3)), "observed is torch.float32"),
        (lambda: restrict(SMALL, torch.ones(2).bool()), r"but torch.bool \[3\] is expected"),
        (lambda: restrict(SMALL, [True] * 3), "observed is list"),  # pyright: ignore[reportArgumentType]
        (lambda: join_hypergraphs(), "hypergraphs of no nodes"),
        (lambda: join_hypergraphs(SMALL, from_members([[3]])), r"hypergraphs of \[3, 4\] nodes"),
        (lambda: khop_hyperedges(SMALL), "has 2 sources and 3 destinations"),
        (lambda: hyperedges_of_pairs(SMALL), "Is it a hypergraph already"),
        (lambda: knn_hyperedges(torch.tensor([[1.0], [torch.inf]]), 1), "of finite numbers"),
        (lambda: knn_hyperedges(torch.ones(3), 1), r"dense tensor \[N, F\]"),
        (lambda: to_members(Graph(SMALL.by_dst, None, 3, 2)), "sorted by source as well"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: merge_duplicates(SMALL, reduce="min"), "reduce is 'min'"),  # pyright: ignore[reportArgumentType]
        (lambda: khop_hyperedges(Graph.from_edge_index(torch.zeros(2, 0).long(), 2), 0), "k is 0"),
        (lambda: knn_hyperedges(torch.ones(3, 1), 3), "k is 3, but 1 to 2 others"),
        (lambda: knn_hyperedges(torch.ones(3, 1), 1, metric="l1"), "metric is 'l1'"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_bad_options(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
