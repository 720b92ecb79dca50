"""Common neighbours against Python sets, scipy and networkx, by torch and every instruction set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.library import opcheck
from ways import INTERPRETED

from graphkit import ConfigError, Csr, Graph, GraphError, ops
from graphkit.ops.cpu import native
from graphkit.ops.intersect import common_neighbors_reference, intersect_reference
from graphkit.testing import graphs, zoo

SETS = native.kernels.instruction_sets() if native.kernels is not None else []
SQUARE = {name: graph for name, graph in zoo() if graph.num_src == graph.num_dst}
SCORES = ("count", "adamic_adar", "resource_allocation")


@pytest.fixture(
    params=["triton"] if INTERPRETED else ["torch", "baseline", "avx2", "avx512"],
)
def by(request: pytest.FixtureRequest) -> Iterator[str]:
    """What serves the op: an instruction set, ``torch`` for the reference, the GPUs' kernels."""
    name = request.param
    if name in ("torch", "triton"):
        yield name
        return
    if name not in SETS:
        pytest.skip(f"this machine or build offers no {name} kernels")
    before = native.kernels.instruction_set()
    native.kernels.choose(name)
    yield name
    native.kernels.choose(before)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random_graph(num_nodes: int, num_edges: int, seed: int = 0) -> Graph:
    """Unordered rows with parallel edges and loops; the first nodes have the most edges."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.rand(2, num_edges, generator=generator) ** 3 * num_nodes
    return Graph.from_edge_index(ends.long(), num_nodes)


def random_pairs(num_nodes: int, count: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(2, count, generator=generator) ** 2 * num_nodes).long()


def with_int64_columns(graph: Graph) -> Graph:
    side = graph.by_dst
    wide = Csr(side.indptr, side.indices.long(), side.eid)
    return Graph(wide, None, graph.num_dst, graph.num_src)


def sets_of(by: str, graph: Graph, pairs: Tensor, ends: bool = True) -> tuple[Tensor, ...]:
    form: Any = intersect_reference if by == "torch" else torch.ops.graphkit.intersect
    return form(graph.by_dst.indptr, graph.by_dst.indices, pairs, ends, True)


def scores_of(by: str, graph: Graph, pairs: Tensor, score: str) -> Tensor:
    form: Any = common_neighbors_reference if by == "torch" else torch.ops.graphkit.common_neighbors
    return form(graph.by_dst.indptr, graph.by_dst.indices, pairs, score)


def neighborhoods(graph: Graph) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in range(graph.num_dst)]
    for source, target in graph.edge_index().t().tolist():
        found[target].add(source)
    return found


def rows(ptr: Tensor, nodes: Tensor) -> list[list[int]]:
    return [part.tolist() for part in torch.tensor_split(nodes, ptr[1:-1])] if len(ptr) > 1 else []


def check(by: str, graph: Graph, pairs: Tensor) -> None:
    """Everything against sets of Python."""
    of = neighborhoods(graph)
    for ends in (True, False):
        got = sets_of(by, graph, pairs, ends)
        want: list[list[list[int]]] = [[], [], []]
        for u, v in pairs.t().tolist():
            out = set() if ends else {u, v}
            for rows_of_set, nodes in zip(
                want, (of[u] & of[v], of[u] - of[v], of[v] - of[u]), strict=True
            ):
                rows_of_set.append(sorted(nodes - out))
        for at in range(3):
            assert got[2 * at + 1].dtype == graph.by_dst.indices.dtype
            assert rows(got[2 * at], got[2 * at + 1]) == want[at]
        form: Any = intersect_reference if by == "torch" else torch.ops.graphkit.intersect
        alone = form(graph.by_dst.indptr, graph.by_dst.indices, pairs, ends, False)
        assert torch.equal(alone[0], got[0]) and torch.equal(alone[1], got[1])
        assert all(t.numel() == 0 for t in alone[2:])
    size = torch.tensor([len(nodes) for nodes in of], dtype=torch.float64)
    weights = {
        "count": torch.ones_like(size),
        "adamic_adar": torch.where(size > 1, 1 / size.log(), 0),
        "resource_allocation": torch.where(size > 0, 1 / size, 0),
    }
    for score, weight in weights.items():
        common = [sorted(of[u] & of[v] - {u, v}) for u, v in pairs.t().tolist()]
        sums = [weight[nodes].sum() for nodes in common]
        want_scores = torch.tensor(sums, dtype=torch.float64).float()
        torch.testing.assert_close(scores_of(by, graph, pairs, score), want_scores)


def all_pairs(graph: Graph) -> Tensor:
    nodes = torch.arange(graph.num_dst)
    return torch.cartesian_prod(nodes, nodes).t() if len(nodes) else nodes.new_empty(2, 0)


def shuffled(pairs: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return pairs[:, torch.randperm(pairs.size(1), generator=generator)]


@pytest.mark.parametrize("name", SQUARE)
def test_pairs_of_the_zoo(by: str, name: str) -> None:
    check(by, SQUARE[name], shuffled(all_pairs(SQUARE[name]))[:, :400])


@settings(max_examples=40)
@given(graphs(bipartite=False, max_edges=40), st.integers(0, 2**20))
def test_any_graph(graph: Graph, seed: int) -> None:
    pairs = shuffled(all_pairs(graph), seed)[:, :20]
    for by in ("torch", *SETS):
        if by != "torch":
            native.kernels.choose(by)
        check(by, graph, pairs)
    if SETS:
        native.kernels.choose(SETS[-1])


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("shape", [(50, 3000), (3000, 20000), (700, 20000)])
def test_lists_of_all_lengths(by: str, shape: tuple[int, int], wide: bool) -> None:
    graph = random_graph(*shape)
    graph = with_int64_columns(graph) if wide else graph
    check(by, graph, random_pairs(shape[0], 150))


def test_many_pairs_of_one_first_end(by: str) -> None:
    graph = random_graph(400, 12000)
    hub, second = graph.in_degree().topk(2).indices
    others = random_pairs(400, 560)[0]
    pairs = torch.stack([hub.repeat(560), others])
    pairs[0, 200:400] = second
    pairs[0, 300:304] = 399
    check(by, graph, pairs)


def test_hubs_against_all(by: str) -> None:
    count = 18_000
    first = torch.stack([torch.arange(2, count), torch.zeros(count - 2, dtype=torch.int64)])
    second = torch.stack([torch.arange(3, count, 7), torch.ones(len(range(3, count, 7))).long()])
    few = torch.stack([torch.tensor([3, 5000, 17_994, 17_999]), torch.full((4,), 2)])
    # in no order, so that rows of this length are sorted too
    edges = torch.cat([first, second, few], 1)
    edges = edges[:, torch.randperm(edges.size(1), generator=torch.Generator().manual_seed(0))]
    check(by, Graph.from_edge_index(edges, count), torch.tensor([[0, 1, 2, 0, 0], [1, 0, 0, 0, 9]]))


def test_order_of_edges_and_parallel_edges_change_nothing(by: str) -> None:
    graph, pairs = random_graph(200, 4000), random_pairs(200, 500)
    edges = torch.unique(graph.edge_index().flip(0), dim=1).flip(0)
    ordered = Graph.from_edge_index(edges, 200)
    assert ordered.by_dst.eid is None
    for got, want in zip(sets_of(by, graph, pairs), sets_of(by, ordered, pairs), strict=True):
        assert torch.equal(got, want)
    for score in SCORES:
        assert torch.equal(scores_of(by, graph, pairs, score), scores_of(by, ordered, pairs, score))


@pytest.mark.skipif(not SETS, reason="no native kernels in this build")
def test_the_same_bits_on_every_set_and_any_threads() -> None:
    graph, pairs = random_graph(2000, 60000), random_pairs(2000, 3000)
    found: list[list[Tensor]] = []
    before = native.kernels.instruction_set()
    for name in SETS:
        native.kernels.choose(name)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results = [*sets_of(name, graph, pairs)]
            found.append(results + [scores_of(name, graph, pairs, score) for score in SCORES])
    native.kernels.choose(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_scores_are_those_of_networkx() -> None:
    graph = nx.gnm_random_graph(60, 300, seed=1)
    edges = torch.tensor(list(graph.edges)).t()
    ours = Graph.from_edge_index(torch.cat([edges, edges.flip(0)], 1), 60)
    pairs = [(u, v) for u in range(60) for v in range(60) if u != v]
    index = torch.tensor(pairs).t()
    peers = {
        "count": [(u, v, len(list(nx.common_neighbors(graph, u, v)))) for u, v in pairs],
        "adamic_adar": nx.adamic_adar_index(graph, pairs),
        "resource_allocation": nx.resource_allocation_index(graph, pairs),
    }
    for score, peer in peers.items():
        want = torch.tensor([float(value) for _, _, value in peer])
        torch.testing.assert_close(ops.common_neighbors(ours, index, score), want)  # pyright: ignore[reportArgumentType]


def test_neighbours_are_sources_of_edges() -> None:
    # 0 and 1 both receive from 2 and 3; 4 receives from them
    graph = Graph.from_edge_index(torch.tensor([[2, 3, 3, 2, 0, 1], [0, 0, 1, 1, 4, 4]]), 5)
    assert rows_of(ops.intersect(graph, torch.tensor([[0], [1]]))) == [[2, 3]]
    # 2 and 3 have no neighbour of their own: no formula holds for them
    for score, want in (("count", 2.0), ("adamic_adar", 0.0), ("resource_allocation", 0.0)):
        assert ops.common_neighbors(graph, torch.tensor([[0], [1]]), score).tolist() == [want]  # pyright: ignore[reportArgumentType]


def rows_of(graph: Any) -> list[list[int]]:
    return rows(graph.by_dst.indptr, graph.by_dst.indices)


def test_differences_and_ends_of_a_linked_pair() -> None:
    # a triangle with a tail, both directions
    edges = torch.tensor([[0, 0, 1, 2], [1, 2, 2, 3]])
    graph = Graph.from_edge_index(torch.cat([edges, edges.flip(0)], 1), 4)
    pair = torch.tensor([[1], [2]])
    whole = ops.intersect(graph, pair, differences=True)
    assert isinstance(whole, tuple) and [rows_of(g) for g in whole] == [[[0]], [[2]], [[1, 3]]]
    bare = ops.intersect(graph, pair, differences=True, ends=False)
    assert isinstance(bare, tuple) and [rows_of(g) for g in bare] == [[[0]], [[]], [[3]]]


def test_the_result_is_a_graph_that_pools_with_gradients() -> None:
    graph, pairs = random_graph(40, 400), random_pairs(40, 60)
    of = neighborhoods(graph)
    x = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)
    found = ops.intersect(graph, pairs, differences=True)
    assert isinstance(found, tuple)
    for result, pick in zip(
        found,
        (lambda a, b: a & b, lambda a, b: a - b, lambda a, b: b - a),
        strict=True,
    ):
        assert (result.num_dst, result.num_src) == (60, 40) and result.by_src is not None
        want = torch.stack([x[sorted(pick(of[u], of[v]))].sum(0) for u, v in pairs.t().tolist()])
        got = ops.spmm(result, x)
        torch.testing.assert_close(got, want)
        weight = torch.randn(60, 3, dtype=torch.float64)
        (got_dx,) = torch.autograd.grad((got * weight).sum(), x)
        (want_dx,) = torch.autograd.grad((want * weight).sum(), x)
        torch.testing.assert_close(got_dx, want_dx)
        again = Graph.from_edge_index(result.edge_index(), num_src=40, num_dst=60)
        assert again.by_src is not None and result.by_dst.eid is None
        for side, other in ((result.by_dst, again.by_dst), (result.by_src, again.by_src)):
            assert torch.equal(side.indptr, other.indptr)
            assert torch.equal(side.indices, other.indices)
        assert torch.equal(result.by_src.row_ids(), result.edge_index()[0][result.by_src.eid])
    lean = ops.intersect(graph, pairs, transpose=False)
    assert isinstance(lean, Graph) and lean.by_src is None


def test_strided_and_int32_pairs(by: str) -> None:
    graph, pairs = random_graph(50, 600), random_pairs(50, 40)
    spread = torch.stack([pairs, pairs], 2).permute(2, 0, 1)[0]
    wide = torch.zeros(2, 80, dtype=torch.int64)
    wide[:, ::2] = pairs
    for view in (spread, wide[:, ::2], pairs.t().contiguous().t()):
        check(by, graph, view)
    want = ops.common_neighbors(graph, pairs)
    assert torch.equal(ops.common_neighbors(graph, pairs.int()), want)


@pytest.mark.parametrize("differences", [False, True])
def test_ops_keep_torchs_rules(differences: bool) -> None:
    side, pairs = random_graph(20, 100).by_dst, random_pairs(20, 12)
    arrays = side.indptr, side.indices, pairs
    opcheck(torch.ops.graphkit.intersect.default, (*arrays, True, differences))
    opcheck(torch.ops.graphkit.common_neighbors.default, (*arrays, "adamic_adar"))


def test_compiles_whole() -> None:
    graph, pairs = random_graph(20, 100), random_pairs(20, 12)

    def pooled(x: Tensor, pairs: Tensor) -> Tensor:
        found = ops.intersect(graph, pairs)
        assert isinstance(found, Graph)
        return ops.spmm(found, x) * ops.common_neighbors(graph, pairs).unsqueeze(1)

    x = torch.randn(20, 3)
    compiled = torch.compile(pooled, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, pairs), pooled(x, pairs))


def test_bad_input(by: str) -> None:
    graph, pairs = random_graph(10, 40), random_pairs(10, 5)
    with pytest.raises(ConfigError, match="unknown score 'counts'. Did you mean 'count'"):
        ops.common_neighbors(graph, pairs, "counts")  # pyright: ignore[reportArgumentType]
    two_kinds = Graph.from_edge_index(torch.tensor([[0], [0]]), num_src=3, num_dst=2)
    high, low = pairs.clone(), pairs.clone()
    high[1, 3], low[0, 2] = 10, -1
    bad: list[tuple[Any, Any, str]] = [
        (two_kinds, pairs, "3 sources and 2 destinations, but one set of nodes"),
        (graph.edge_index(), pairs, "graph is a Tensor, but a graphkit.Graph is expected"),
        (graph, pairs.t(), r"has shape \[5, 2\], but a tensor \[2, P\]"),
        (graph, [[0], [1]], r"edge_label_index is no tensor, but a tensor \[2, P\]"),
        (graph, pairs.float(), "has dtype torch.float32, but torch.int64"),
        (graph, pairs.to("meta"), "is on meta but the graph is on cpu"),
        (graph, high, r"edge_label_index\[1, 3\] = 10, but the graph has 10 nodes"),
        (graph, low, r"edge_label_index\[0, 2\] = -1, but the graph has 10 nodes"),
    ]
    for bad_graph, bad_pairs, message in bad:
        for op in (ops.intersect, ops.common_neighbors):
            with pytest.raises(GraphError, match=message):
                op(bad_graph, bad_pairs)
    with pytest.raises(GraphError, match="has 10 nodes"):
        sets_of(by, graph, high)
    with pytest.raises(GraphError, match="has 10 nodes"):
        scores_of(by, graph, low, "count")
