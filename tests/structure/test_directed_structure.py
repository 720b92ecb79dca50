"""Directed operators: each equal to its dense formula, PageRank's laws, what is kept and warned."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphkit import ConfigError, DirectionWarning, Graph, GraphError
from graphkit.ops import spmm
from graphkit.structure import (
    digcn_operator,
    directed,
    directed_scales,
    edge_counts,
    is_symmetric,
    pagerank,
    proximity,
)
from graphkit.testing import dense_adjacency, graphs

some, squares = settings(max_examples=30), graphs(bipartite=False)


def adjacency(graph: Graph, w: Tensor | None = None) -> Tensor:
    """The matrix A of the formulas, whose entry (u, v) counts the edges from u to v."""
    return dense_adjacency(graph, w).t()


def walk(graph: Graph) -> Tensor:
    """The random walk on A + I."""
    one = adjacency(graph) + torch.eye(graph.num_dst).double()
    return one / one.sum(1, keepdim=True)


@some
@given(squares)
def test_counts_of_edges_and_of_their_reverses(graph: Graph) -> None:
    counts, (src, dst) = adjacency(graph), graph.edge_index()
    same, reverse = edge_counts(graph)
    assert torch.equal(same.double(), counts[src, dst])
    assert torch.equal(reverse.double(), counts[dst, src])
    assert is_symmetric(graph) == torch.equal(counts, counts.t())


@some
@given(squares)
def test_a_graph_and_its_reverse_are_symmetric(graph: Graph) -> None:
    edges = graph.edge_index()
    edges = torch.cat([edges, edges.flip(0)], 1)
    order = torch.randperm(edges.size(1), generator=torch.Generator().manual_seed(0))
    assert is_symmetric(Graph.from_edge_index(edges[:, order], graph.num_dst))


@some
@given(squares, st.booleans())
def test_dir_gnns_matrix(graph: Graph, is_weighted: bool) -> None:
    random = torch.Generator().manual_seed(1)
    w = torch.rand(graph.num_edges, generator=random).double() if is_weighted else None
    counts = adjacency(graph, w)
    factors = [counts.sum(axis).pow(-0.5) for axis in (1, 0)]
    factors = [torch.where(f.isinf(), 0, f) for f in factors]
    want = factors[0][:, None] * counts * factors[1]
    out, into = directed_scales(graph, w, dtype=torch.float64)
    x = torch.randn(graph.num_dst, 3, generator=random).double()
    torch.testing.assert_close(spmm(graph.t(), x, w, left=out, right=into), want @ x)
    torch.testing.assert_close(spmm(graph, x, w, left=into, right=out), want.t() @ x)
    if want.numel():
        assert torch.linalg.matrix_norm(want, 2) <= 1 + 1e-12


@some
@given(squares, st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_pagerank_is_the_perron_vector_of_the_matrix_with_an_auxiliary_node(
    graph: Graph, alpha: float
) -> None:
    rank, size = pagerank(graph, alpha), graph.num_dst
    assert rank.dtype == torch.float64 and rank.shape == (size,)
    if size == 0:
        return
    assert (rank > 0).all()
    assert abs(float(rank.sum()) - 1) < 1e-12
    matrix = torch.zeros(size + 1, size + 1).double()
    matrix[:size, :size] = (1 - alpha) * walk(graph)
    matrix[:size, size], matrix[size, :size] = alpha, 1 / size
    # the auxiliary node has alpha / (1 + alpha) of the mass
    whole = torch.cat([rank, torch.tensor([alpha], dtype=torch.float64)]) / (1 + alpha)
    assert float((whole @ matrix - whole).abs().sum()) < 1e-10


def test_pagerank_is_as_near_as_it_was_told() -> None:
    # a chain, on which the walk forgets where it began as slowly as can be
    chain = torch.stack([torch.arange(60), torch.arange(1, 61)])
    graph = Graph.from_edge_index(chain, 61)
    exact = pagerank(graph, 0.05, tol=1e-14)
    for tol in (1e-2, 1e-5, 1e-9):
        assert float((pagerank(graph, 0.05, tol=tol) - exact).abs().sum()) < tol


@some
@given(squares, st.sampled_from([0.1, 0.9]))
def test_digcns_operator(graph: Graph, alpha: float) -> None:
    root, step = pagerank(graph, alpha).sqrt(), walk(graph)
    plain = (root[:, None] * step / root + (root[:, None] * step / root).t()) / 2
    degree = plain.sum(1)
    want = plain / (degree[:, None] * degree).sqrt()
    operator = digcn_operator(graph, alpha, dtype=torch.float64)
    got = operator.apply(graph, torch.eye(graph.num_dst).double())
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(got, got.t())


@some
@given(squares)
def test_digcn_without_memory_is_the_mean_of_both_walks(graph: Graph) -> None:
    both = (walk(graph) + walk(graph).t()) / 2
    want = both / (both.sum(1)[:, None] * both.sum(1)).sqrt()
    operator = digcn_operator(graph, 1.0, dtype=torch.float64)
    torch.testing.assert_close(operator.apply(graph, torch.eye(graph.num_dst).double()), want)


@some
@given(squares, st.integers(2, 4))
def test_proximity(graph: Graph, order: int) -> None:
    size = graph.num_dst
    step = torch.linalg.matrix_power(walk(graph), order - 1)
    meeting, parting = step @ step.t(), step.t() @ step
    both = (meeting > 0) & (parting > 0)
    want = torch.where(both, (meeting + parting) / 2, 0)
    pairs, values, scale = proximity(graph, order)
    assert (values > 0).all() and is_symmetric(pairs)
    torch.testing.assert_close(dense_adjacency(pairs, values), want)
    torch.testing.assert_close(scale, want.sum(1).rsqrt())
    assert (want.diagonal() > 0).all() and pairs.num_edges == int(both.sum())
    assert size == pairs.num_src


# -- what is kept, and the warning -----------------------------------------------------------------

RING = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
BOTH_WAYS = torch.cat([RING, RING.flip(0)], 1)


def told(what: str, given: Any, graph: Graph) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        directed.warn_if_symmetric(what, given, graph)
    assert all(issubclass(one.category, DirectionWarning) for one in caught)
    return len(caught)


def test_a_symmetric_graph_is_told_of_once() -> None:
    graph = Graph.from_edge_index(BOTH_WAYS, 4)
    assert [told("This", graph, graph) for _ in range(3)] == [1, 0, 0]
    # a layer that is given the tensor makes a graph of it each time
    made = [Graph.from_edge_index(BOTH_WAYS, 4) for _ in range(3)]
    assert [told("This", BOTH_WAYS, one) for one in made] == [1, 0, 0]
    with pytest.warns(DirectionWarning, match="This: every edge .* such as gcn"):
        again = Graph.from_edge_index(BOTH_WAYS, 4)
        directed.warn_if_symmetric("This", again, again)


def test_nothing_is_told_of_a_directed_graph_or_one_without_edges() -> None:
    for edges in (RING, RING[:, :0]):
        graph = Graph.from_edge_index(edges, 4)
        assert told("This", graph, graph) == 0


def test_what_is_kept_is_made_once_and_goes_with_its_graph() -> None:
    calls: list[int] = []
    graph, other = (Graph.from_edge_index(RING, 4) for _ in range(2))
    for one in (graph, other, graph, other):
        directed.once(one, "test", lambda: calls.append(1))
    assert len(calls) == 2
    gc.collect()
    before = len(directed._KEPT)
    # no cycle holds it
    del graph, one
    assert len(directed._KEPT) == before - 1
    directed.once(other, "test", lambda: calls.append(1))
    assert len(calls) == 2


def test_what_was_made_in_inference_mode_serves_training() -> None:
    graph, x = Graph.from_edge_index(RING, 4), torch.randn(4, 2, requires_grad=True)
    with torch.inference_mode():
        directed.once(graph, "test", lambda: torch.ones(4))
    (x * directed.once(graph, "test", lambda: torch.zeros(4)).unsqueeze(1)).sum().backward()
    assert torch.equal(x.grad, torch.ones(4, 2))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: pagerank(g, 0.0), ConfigError, "alpha=0.0 .*0 < alpha <= 1"),
        (lambda g: pagerank(g, 1.5), ConfigError, "alpha=1.5"),
        (lambda g: pagerank(g, tol=0), ConfigError, "tol=0"),
        (lambda g: digcn_operator(g, -1), ConfigError, "alpha=-1"),
        (lambda g: proximity(g, 1), ConfigError, "order is 1, but 2 or more"),
    ],
)
def test_bad_options(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(Graph.from_edge_index(RING, 4))


def test_bad_graphs() -> None:
    wide = Graph.from_edge_index(torch.tensor([[5], [0]]), num_src=6, num_dst=2)
    for call in (edge_counts, directed_scales, pagerank, digcn_operator, proximity):
        with pytest.raises(GraphError, match="6 sources and 2 destinations"):
            call(wide)
    half = Graph.from_edge_index(RING, 4, transpose=False)
    for call in (is_symmetric, directed_scales, digcn_operator):
        with pytest.raises(GraphError, match="transpose=True"):
            call(half)
