"""Polynomials of the Laplacian against dense matrices and PyG, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric import nn as pyg
from torch_geometric.utils import get_laplacian, to_dense_adj, to_undirected

from graphkit import ConfigError, Graph, GraphError
from graphkit import nn as gnn
from graphkit.nn.spectral import (
    _summed,
    bernstein_to_chebyshev,
    chebyshev,
    clenshaw,
    polynomial,
    scaled_laplacian,
)

NODES = 9


@pytest.fixture
def edges() -> Tensor:
    """Both directions, a loop; nodes 7 and 8 have none."""
    found = to_undirected(torch.randint(7, (2, 14)), num_nodes=NODES)
    return torch.cat([found[:, found[0] != found[1]], torch.tensor([[3], [3]])], 1)


def laplacian(edges: Tensor) -> Tensor:
    """PyG's normalised Laplacian, float64."""
    index, weight = get_laplacian(edges, None, "sym", torch.float64, NODES)
    return to_dense_adj(index, edge_attr=weight, max_num_nodes=NODES)[0]


def chebyshev_of(matrix: Tensor, terms: int) -> list[Tensor]:
    found = [torch.eye(len(matrix), dtype=matrix.dtype), matrix]
    while len(found) < terms:
        found.append(2 * matrix @ found[-1] - found[-2])
    return found[:terms]


@pytest.mark.parametrize("terms", [1, 2, 3, 6])
def test_both_ways_to_add_up_are_the_dense_polynomial(terms: int, edges: Tensor) -> None:
    matrix = laplacian(edges) - torch.eye(NODES, dtype=torch.float64)
    want = chebyshev_of(matrix, terms)
    graph = Graph.from_edge_index(edges, NODES)
    operator = scaled_laplacian(graph, torch.float64)
    x = [torch.randn(NODES, 3, dtype=torch.float64) for _ in range(terms)]
    got = clenshaw(x.__getitem__, terms - 1, operator)
    torch.testing.assert_close(got, sum(t @ one for t, one in zip(want, x, strict=True)))
    for found, t in zip(chebyshev(x[0], terms, operator), want, strict=True):
        torch.testing.assert_close(found, t @ x[0])


@pytest.mark.parametrize("shape", [(4, 2, 3), (4, 5, 3), (4, 7, 3), (1, 2, 3), (4,)])
@pytest.mark.parametrize("directed", [False, True])
def test_gradients_of_the_polynomial(shape: tuple[int, ...], directed: bool, edges: Tensor) -> None:
    edges = edges[:, edges[0] <= edges[1]] if directed else edges
    operator = scaled_laplacian(Graph.from_edge_index(edges, NODES), torch.float64)
    x = torch.randn(NODES, 3, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, maps: Tensor) -> Tensor:
        return polynomial(x, maps, operator)

    assert torch.autograd.gradcheck(run, (x, maps))
    assert torch.autograd.gradgradcheck(run, (x, maps), fast_mode=True)
    for leaves in ((x, maps.detach()), (x.detach(), maps)):
        assert torch.autograd.gradcheck(run, leaves)
    torch.testing.assert_close(run(x, maps), _summed(x, maps, operator))


def test_lambda_max_of_each_graph_is_pygs(edges: Tensor) -> None:
    x, batch = torch.randn(NODES, 5), torch.tensor([0] * 7 + [1, 2])
    for normalization in ("sym", "rw", None):
        peer = pyg.ChebConv(5, 3, 4, normalization)
        layer = gnn.ChebConv(5, 3, 4, normalization)
        layer.load_state_dict(peer.state_dict())
        for bound in (1.5, torch.tensor(3.0), torch.tensor([2.0, 1.2, 4.0])):
            want = peer(x, edges, batch=batch, lambda_max=bound)
            got = layer(x, edges, batch=batch, lambda_max=bound)
            torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-4)
    with pytest.raises(GraphError, match="lambda_max has 3 entries, one for each graph"):
        layer(x, edges, lambda_max=torch.tensor([2.0, 1.2, 4.0]))
    # without edges there is no largest degree
    got = layer(x, edges[:, :0])
    torch.testing.assert_close(got, sum((-1) ** k * lin(x) for k, lin in enumerate(layer.lins)))


def bernstein_of(matrix: Tensor, theta: Tensor) -> Tensor:
    """The formula of the paper."""
    degree, eye = len(theta) - 1, torch.eye(len(matrix), dtype=matrix.dtype)
    powers = torch.linalg.matrix_power
    terms = (
        theta[k].relu() * _choose(degree, k) / 2**degree
        * powers(2 * eye - matrix, degree - k) @ powers(matrix, k)
        for k in range(degree + 1)
    )  # fmt: skip
    return torch.stack(list(terms)).sum(0)


def _choose(n: int, k: int) -> int:
    return 1 if k in (0, n) else _choose(n - 1, k - 1) + _choose(n - 1, k)


@pytest.mark.parametrize("degree", [1, 2, 5, 10, 20])
@pytest.mark.parametrize("out", [2, 6])
def test_bern_is_the_papers_formula(degree: int, out: int, edges: Tensor) -> None:
    layer = gnn.BernConv(4, out, degree).double()
    x = torch.randn(NODES, 4, dtype=torch.float64)
    # the coefficients begin at 1, where everything passes
    torch.testing.assert_close(layer(x, edges), layer.lin(x))
    nn.init.normal_(layer.theta)
    layer.theta.data[0] = -1.0
    want = bernstein_of(laplacian(edges), layer.theta) @ x @ layer.lin.weight.t() + layer.lin.bias
    torch.testing.assert_close(layer(x, edges), want)
    layer(x, edges).square().sum().backward()
    gradient = layer.theta.grad
    assert (
        gradient is not None and gradient[0] == 0 and bool((gradient[layer.theta > 0] != 0).all())
    )


def test_bernsteins_polynomials_add_up_to_one_and_are_interpolated() -> None:
    for degree in (1, 4, 30):
        basis = bernstein_to_chebyshev(degree)
        one = torch.eye(degree + 1, dtype=torch.float64)[0]
        torch.testing.assert_close(basis.sum(0), one, atol=1e-13, rtol=0)
        # at either end one of them is 1
        signs = (-1.0) ** torch.arange(degree + 1, dtype=torch.float64)
        torch.testing.assert_close(basis @ signs, one, atol=1e-13, rtol=0)
        torch.testing.assert_close(basis.sum(1), one.flip(0), atol=1e-13, rtol=0)


@pytest.mark.parametrize("train", [True, False])
def test_filters_are_as_many_cheb_convs(train: bool, edges: Tensor) -> None:
    peers = [pyg.ChebConv(5, 5, 4) for _ in range(3)]
    layer = gnn.ChebFilters(5, width=3, depth=4, train=train)
    for number, peer in enumerate(peers):
        nn.init.normal_(peer.bias)
        for k, lin in enumerate(peer.lins):
            layer._tensor("weight").data[number, k] = lin.weight.t()
        layer._tensor("bias").data[number * 5 : number * 5 + 5] = peer.bias
    x = torch.randn(NODES, 5)
    want = torch.cat([peer(x, edges) for peer in peers], dim=1)
    torch.testing.assert_close(layer(x, edges), want, atol=1e-4, rtol=1e-4)
    for width in (2, 7):
        lin = nn.Linear(15, width)
        torch.testing.assert_close(layer(x, edges, lin=lin), lin(want), atol=1e-4, rtol=1e-4)


def test_frozen_filters_are_kept_but_not_trained(edges: Tensor) -> None:
    layer = gnn.ChebFilters(5, 2, 3, train=False)
    assert list(layer.parameters()) == [] and set(layer.state_dict()) == {"weight", "bias"}
    other, x = gnn.ChebFilters(5, 2, 3), torch.randn(NODES, 5)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x, edges), layer(x, edges))
    before = layer._tensor("weight").clone()
    layer.reset_parameters()
    assert not torch.equal(before, layer._tensor("weight"))


class _Products(TorchDispatchMode):
    """Notes how wide every product with the graph is."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.graphkit.spmm.default:
            self.found.append(args[6][0].numel())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("make", "forward", "backward"),
    [
        # all filters share the products, whatever follows them
        (lambda: gnn.ChebFilters(6, width=4, depth=5), [6] * 4, [6] * 8),
        (lambda: gnn.ChebConv(6, 3, 4), [3] * 3, [3] * 3),
        (lambda: gnn.ChebConv(6, 9, 4), [6] * 3, [9] * 3),
        (lambda: gnn.ChebConv(6, 9, 1), [], []),
        # the official code has 65 and 65
        (lambda: gnn.BernConv(6, 3, 10), [3] * 10, [3] * 10),
        (lambda: gnn.BernConv(6, 9, 10), [6] * 10, [6] * 10),
    ],
)
def test_products_are_few_and_narrow(
    make: Callable[[], nn.Module], forward: list[int], backward: list[int], edges: Tensor
) -> None:
    x = torch.randn(NODES, 6, requires_grad=True)
    with _Products() as products:
        out = make()(x, edges)
        assert products.found == forward
        out.square().sum().backward()
    assert products.found[len(forward) :] == backward


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gnn.ChebConv(3, 2, 0), ConfigError, "K is 0, but a whole number from 1 on"),
        (lambda: gnn.ChebConv(3, 2, True), ConfigError, "K is True"),
        (lambda: gnn.ChebConv(0, 2, 2), ConfigError, "a width is 0, but at least 1"),
        (lambda: gnn.ChebConv(3, 2, 2, "row"), ConfigError, "unknown normalization 'row'.*Or None"),
        (lambda: gnn.BernConv(3, 2, 0), ConfigError, "BernConv: K is 0"),
        (lambda: gnn.BernConv(3, -1), ConfigError, "a width is -1"),
        (lambda: gnn.ChebFilters(3, width=0), ConfigError, "width is 0"),
        (lambda: gnn.ChebFilters(3, depth=0), ConfigError, "depth is 0"),
        (lambda: gnn.ChebConv(5, 2, 2)(X, E), GraphError, r"x has shape \[4, 3\], but \[N, 5\]"),
        (lambda: gnn.ChebFilters(3)((X, X), E), GraphError, "one set of nodes, but x is a pair"),
        (lambda: gnn.BernConv(3, 2)(X, E, torch.ones(3)), GraphError, "the graph has 2 edges"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


X, E = torch.ones(4, 3), torch.tensor([[0, 1], [1, 2]])
