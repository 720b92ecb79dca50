"""Rayleigh quotients against dense matrices, eigenvalues and SciPy, and what they promise."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csgraph
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.utils import to_undirected

from graphkit import ConfigError, Graph, GraphError
from graphkit.structure import rayleigh, rayleigh_quotient
from graphkit.testing import dense_adjacency, graphs


def random_edges(num_nodes: int, num_edges: int, seed: int = 0) -> Tensor:
    """Both directions of random links, no loops."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(num_nodes, (2, num_edges), generator=generator)
    return to_undirected(edges[:, edges[0] != edges[1]], num_nodes=num_nodes)


def laplacian(graph: Graph, w: Tensor | None = None) -> Tensor:
    """Of the mean of both directions without loops, float64; 0 on the diagonal without edges."""
    dense = dense_adjacency(graph, w)
    dense = (dense + dense.t()) / 2
    dense = dense - dense.diag().diag()
    degree = dense.sum(1)
    root = torch.where(degree > 0, degree.clamp(min=1e-30).rsqrt(), 0)
    return (degree > 0).double().diag() - root[:, None] * dense * root


@settings(max_examples=40)
@given(graphs(bipartite=False), st.booleans())
def test_it_is_the_dense_form(graph: Graph, weighted: bool) -> None:
    x = torch.randn(graph.num_src, 3, dtype=torch.float64)
    w = torch.rand(graph.num_edges, dtype=torch.float64) + 0.1 if weighted else None
    form = (x.t() @ laplacian(graph, w) @ x).diag()[None]
    size = x.square().sum(0)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        given_w = None if w is None else w.to(dtype)
        got = rayleigh_quotient(x.to(dtype), graph, mode="energy", edge_weight=given_w)
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), form, atol=tolerance * 50, rtol=tolerance)
        got = rayleigh_quotient(x.to(dtype), graph, edge_weight=given_w).double()
        want = torch.where(size > 0, form / size.clamp(min=1e-30), 0)
        torch.testing.assert_close(got, want, atol=tolerance * 50, rtol=tolerance)
        # the law that names the method
        assert bool((got >= 0).all()) and bool((got <= 2 + 1e-6).all())


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_mean_of_eigenvalues_and_the_area_above_the_energy(seed: int) -> None:
    graph = Graph.from_edge_index(random_edges(12, 14, seed), 12)
    x = torch.randn(12, 4, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(laplacian(graph))
    power = (vectors.t() @ x).square()
    got = rayleigh_quotient(x, graph)[0]
    torch.testing.assert_close(got, (values[:, None] * power).sum(0) / power.sum(0))
    # the curve is a step at each eigenvalue, from 0 on
    accumulated = torch.cat([torch.zeros(1, 4), power.cumsum(0) / power.sum(0)])
    steps = torch.cat([values[:1], values.diff()])
    area = (steps[:, None] * (1 - accumulated[:-1])).sum(0)
    torch.testing.assert_close(got, area, atol=1e-12, rtol=1e-9)


def test_the_smoothest_signal_has_nothing_to_rounding() -> None:
    edges = torch.cat([random_edges(40, 60), to_undirected(torch.stack([torch.arange(39)] * 2))], 1)
    path = torch.stack([torch.arange(39), torch.arange(1, 40)])
    graph = Graph.from_edge_index(torch.cat([edges, path, path.flip(0)], 1), 40)
    loops = torch.diagonal(dense_adjacency(graph))
    root = (graph.in_degree() - loops).sqrt()[:, None]
    # far below the 1e-7 that x (x - Ax) would leave, and never negative
    for dtype, most in ((torch.float32, 1e-12), (torch.float64, 1e-28)):
        got = rayleigh_quotient(root.to(dtype) * torch.tensor([[1.0, -3e4]], dtype=dtype), graph)
        assert bool((got >= 0).all()) and bool((got < most).all())


@pytest.mark.parametrize("length", [2, 4, 10])
def test_alternating_signs_on_an_even_cycle_are_two(length: int) -> None:
    node = torch.arange(length)
    ring = torch.stack([node, (node + 1) % length])
    signs = (1.0 - 2 * (node % 2))[:, None]
    for edges in (ring, torch.cat([ring, ring.flip(0)], 1)):
        torch.testing.assert_close(rayleigh_quotient(signs, edges), torch.tensor([[2.0]]))
    assert rayleigh_quotient(torch.ones(length, 1), ring).item() == 0


def test_it_is_scipys_and_so_the_official_energy() -> None:
    edges = random_edges(15, 20)
    matrix = scipy.sparse.coo_array((torch.ones(edges.size(1)), edges.numpy()), shape=(18, 18))
    x = torch.randn(18, 3, dtype=torch.float64)
    want = torch.from_numpy(csgraph.laplacian(matrix, normed=True) @ x.numpy())
    got = rayleigh_quotient(x, Graph.from_edge_index(edges, 18), mode="energy")
    torch.testing.assert_close(got[0], (x * want).sum(0))


def test_what_it_does_not_depend_on() -> None:
    edges = random_edges(20, 40)
    x = torch.randn(23, 4, dtype=torch.float64)
    want = rayleigh_quotient(x, Graph.from_edge_index(edges, 23))
    for factor in (1e-3, -7.0, 1e9):
        torch.testing.assert_close(rayleigh_quotient(factor * x, edges), want)
    place = torch.randperm(23)
    moved = torch.empty_like(x)
    moved[place] = x
    torch.testing.assert_close(rayleigh_quotient(moved, place[edges]), want)
    order = torch.randperm(edges.size(1))
    torch.testing.assert_close(rayleigh_quotient(x, edges[:, order]), want)
    # either direction of a link is enough, and loops say nothing
    one_way = edges[:, edges[0] < edges[1]]
    torch.testing.assert_close(rayleigh_quotient(x, one_way), want)
    loops = torch.tensor([[2, 2, 22], [2, 2, 22]])
    torch.testing.assert_close(rayleigh_quotient(x, torch.cat([loops, edges], 1)), want)
    weights = torch.full((edges.size(1) + 3,), 0.5, dtype=torch.float64)
    looped = rayleigh_quotient(x, torch.cat([loops, edges], 1), edge_weight=weights)
    torch.testing.assert_close(looped, want)
    # columns are apart from each other
    torch.testing.assert_close(rayleigh_quotient(x[:, 1:2], edges), want[:, 1:2])
    one_sided = Graph.from_edge_index(edges, 23, transpose=False)
    torch.testing.assert_close(rayleigh_quotient(x, one_sided), want)


def some_graphs() -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor, Tensor]:
    """Graphs of 5, 0, 1, 3 (without edges) and 7 nodes, and all of them as one."""
    random = torch.Generator().manual_seed(3)
    parts = []
    for number, (nodes, links) in enumerate(((5, 6), (0, 0), (1, 0), (3, 0), (7, 9))):
        x = torch.randn(nodes, 4, generator=random, dtype=torch.float64)
        parts.append((x, random_edges(max(nodes, 1), links, number) if links else EMPTY))
    ptr = torch.tensor([0, *(len(x) for x, _ in parts)]).cumsum(0)
    edges = torch.cat([e + at for (_, e), at in zip(parts, ptr.tolist(), strict=False)], 1)
    return parts, torch.cat([x for x, _ in parts]), edges, ptr


EMPTY = torch.empty(2, 0, dtype=torch.int64)


@pytest.mark.parametrize("mode", ["quotient", "energy"])
def test_a_batch_is_its_graphs_one_by_one(mode: Any) -> None:
    parts, x, edges, ptr = some_graphs()
    want = torch.cat([rayleigh_quotient(a, e, mode=mode) for a, e in parts])
    torch.testing.assert_close(rayleigh_quotient(x, edges, ptr=ptr, mode=mode), want)
    batch = torch.repeat_interleave(torch.arange(5), ptr.diff())
    torch.testing.assert_close(rayleigh_quotient(x, edges, batch, mode), want)
    assert bool((want[1:4] == 0).all()) and bool((want[[0, 4]] > 0).all())


def test_it_runs_in_chunks_of_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    _, x, edges, ptr = some_graphs()
    w = torch.rand(edges.size(1), dtype=torch.float64)
    want = [rayleigh_quotient(x, edges, ptr=ptr, edge_weight=weight) for weight in (None, w)]
    for size in (1, 12, 20):
        monkeypatch.setattr(rayleigh, "_CHUNK", size)
        got = [rayleigh_quotient(x, edges, ptr=ptr, edge_weight=weight) for weight in (None, w)]
        torch.testing.assert_close(got, want)


class _Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, Tensor):
                self.numbers = max(self.numbers, t.numel())
        return out


def test_nothing_has_a_row_for_each_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rayleigh, "_CHUNK", 2**11)
    graph = Graph.from_edge_index(torch.randint(60, (2, 5000)), 60)
    x = torch.randint(2, (60, 32)).requires_grad_(False)
    with _Largest() as largest:
        rayleigh_quotient(x, graph)
    assert largest.numbers <= graph.num_edges


def test_the_same_bits_for_any_number_of_threads() -> None:
    parts = [random_edges(100, 1500, seed) + 100 * seed for seed in range(3)]
    x, ptr = torch.randn(300, 40), torch.tensor([0, 100, 200, 300])
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(rayleigh_quotient(x, torch.cat(parts, 1), ptr=ptr))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("mode", ["quotient", "energy"])
def test_gradients(mode: Any) -> None:
    loop = torch.tensor([[2], [2]])
    # one way alone, parallel edges, a loop, an isolated node
    edges = torch.cat([torch.randint(4, (2, 8)), loop, torch.randint(4, 7, (2, 6))], 1)
    graph, ptr = Graph.from_edge_index(edges, 8), torch.tensor([0, 4, 4, 8])
    x = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    w = (torch.rand(15, dtype=torch.float64) + 0.2).requires_grad_()

    def of(x: Tensor, w: Tensor | None = None) -> Tensor:
        return rayleigh_quotient(x, graph, mode=mode, ptr=ptr, edge_weight=w)

    assert torch.autograd.gradcheck(of, x)
    assert torch.autograd.gradgradcheck(of, x)
    assert torch.autograd.gradcheck(of, (x, w))
    assert torch.autograd.gradcheck(lambda x: of(x, w.detach()), x)


def test_whole_numbers_and_halves() -> None:
    _, _, edges, ptr = some_graphs()
    x = torch.nn.functional.one_hot(torch.randint(3, (16,)), 4)
    want = rayleigh_quotient(x.double(), edges, ptr=ptr)
    for given_x in (x, x.bool(), x.to(torch.uint8)):
        got = rayleigh_quotient(given_x, edges, ptr=ptr)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), want, atol=1e-6, rtol=1e-6)
    got = rayleigh_quotient(x.bfloat16(), edges, ptr=ptr)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), want, atol=1e-2, rtol=1e-2)
    # the last column is 0 everywhere
    assert bool((want[:, 3] == 0).all())


def test_nan_stays_in_its_graph_and_column() -> None:
    _, x, edges, ptr = some_graphs()
    x[12, 1] = torch.nan
    x[6, 2] = torch.nan
    found = rayleigh_quotient(x, edges, ptr=ptr).isnan()
    assert found.nonzero().tolist() == [[3, 2], [4, 1]]


def test_compiled() -> None:
    _, x, edges, ptr = some_graphs()
    torch.compiler.reset()
    compiled = torch.compile(rayleigh_quotient, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, edges, ptr=ptr), rayleigh_quotient(x, edges, ptr=ptr))


X, E = torch.ones(4, 3), torch.tensor([[0, 1], [1, 2]])
ONE_SIDED = Graph.from_edge_index(E, 4, transpose=False)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rayleigh_quotient(X, E, mode="ratio"), ConfigError, "unknown mode 'ratio'"),
        (lambda: rayleigh_quotient(X[0], E), GraphError, r"shape \[3\], but a tensor \[N, F\]"),
        (lambda: rayleigh_quotient(X.numpy(), E), GraphError, r"a tensor \[N, F\]"),
        (lambda: rayleigh_quotient(X[:2], E), GraphError, "2 destinations"),
        (lambda: rayleigh_quotient(X, E, edge_weight=torch.ones(3)), GraphError, "2 edges"),
        (
            lambda: rayleigh_quotient(X.clone().requires_grad_(), ONE_SIDED),
            GraphError,
            "transpose=False",
        ),
        (
            lambda: rayleigh_quotient(X, ONE_SIDED, edge_weight=torch.ones(2)),
            GraphError,
            "transpose=False",
        ),
        (
            lambda: rayleigh_quotient(X, E, ptr=torch.tensor([0, 2, 4])),
            GraphError,
            "from node 1 to 2 leads from graph 0 to 1",
        ),
        (
            lambda: rayleigh_quotient(X, E, torch.zeros(4).long(), ptr=torch.tensor([0, 4])),
            GraphError,
            "both batch and ptr",
        ),
        (lambda: rayleigh_quotient(X, E, torch.tensor([0, 4])), GraphError, "2 entries, .*ptr="),
        (
            lambda: rayleigh_quotient(X, E, torch.tensor([0, 1, 0, 1])),
            GraphError,
            "stand together. Sort",
        ),
        (
            lambda: rayleigh_quotient(X, E, torch.tensor([-1, 0, 0, 1])),
            GraphError,
            "begins with -1",
        ),
        (lambda: rayleigh_quotient(X, E, torch.zeros(4)), GraphError, "batch is torch.float32 of"),
        (lambda: rayleigh_quotient(X, E, [0, 0, 0, 0]), GraphError, "batch is list, but int64"),
        (lambda: rayleigh_quotient(X, E, ptr=torch.tensor([0, 3])), GraphError, "ends at 3"),
        (
            lambda: rayleigh_quotient(X, E, ptr=torch.tensor([0, 3, 2, 4])),
            GraphError,
            "falls after",
        ),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
