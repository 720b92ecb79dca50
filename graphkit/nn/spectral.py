"""Polynomials of the graph Laplacian: layers of ChebNet and BernNet, RQGNN's filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, GraphError, nearest
from ..graph import Adj, Graph, has_values
from ..ops import spmm
from ..ops.loops import count_self_loops
from ..structure.directed import once
from ..structure.normalize import inverse_root, self_loop_mask, weighted_in_degree
from .inputs import edge_vector, one_set_of_nodes, read_input
from .linear import glorot_, linear

Normalization = Literal["sym", "rw"]
_NORMALIZATIONS = ("sym", "rw")

Operator = Callable[[Tensor, float], Tensor]
"""``operator(x, factor)``: a new tensor, ``factor`` times the product with ``x [N, F]``."""


def clenshaw(term: Callable[[int], Tensor], degree: int, operator: Operator) -> Tensor:
    """The sum of ``T_k(operator) term(k)`` for k from 0 to ``degree``, which is how many products
    it takes, with Chebyshev's polynomials and no more than three results alive."""
    after, after_that = term(degree), None
    for k in range(degree - 1, -1, -1):
        here = operator(after, 2.0 if k else 1.0)
        # what is returned is no view, so that the caller may go on in its memory
        here = here.add_(term(k)) if k else here + term(k)
        if after_that is not None:
            here = here.sub_(after_that)
        after, after_that = here, after
    return after


def chebyshev(x: Tensor, terms: int, operator: Operator) -> Iterator[Tensor]:
    """``T_k(operator) x`` for so many k from 0 on, of which two are kept."""
    before, here = None, x
    yield x
    for _ in range(1, terms):
        after = operator(here, 1.0 if before is None else 2.0)
        if before is not None:
            after = after.sub_(before)
        before, here = here, after
        yield here


@dataclass(frozen=True)
class Product:
    """The operator ``left (A + diagonal) right + rest`` of a graph and numbers of nodes."""

    graph: Graph
    weight: Tensor | None
    left: Tensor
    right: Tensor
    diagonal: Tensor | None
    rest: Tensor | None

    def __call__(self, x: Tensor, factor: float) -> Tensor:
        left = self.left if factor == 1 else factor * self.left
        out = spmm(self.graph, x, self.weight, left=left, right=self.right, diagonal=self.diagonal)
        if self.rest is None:
            return out
        return out.add_((factor * self.rest).to(x.dtype).unsqueeze(1) * x)

    def t(self) -> Product:
        return replace(self, graph=self.graph.t(), left=self.right, right=self.left)

    @property
    def is_constant(self) -> bool:
        numbers = (self.weight, self.left, self.right, self.rest)
        return not any(number is not None and number.requires_grad for number in numbers)


def polynomial(x: Tensor, maps: Tensor, operator: Product) -> Tensor:
    """The sum over k of ``T_k(operator) x maps[k].t()``, for ``maps [K, H, F]``, or of ``maps[k]
    T_k(operator) x`` for numbers ``[K]``; with products of the narrower width."""
    plain = (
        torch.compiler.is_compiling()
        or not operator.is_constant
        or torch.is_autocast_enabled(x.device.type)
    )
    return _summed(x, maps, operator) if plain else _Polynomial.apply(x, maps, operator)  # pyright: ignore[reportReturnType]


def _summed(x: Tensor, maps: Tensor, operator: Operator) -> Tensor:
    weights = maps.unbind(0)
    if maps.dim() == 1 or maps.size(1) < x.size(1):
        return clenshaw(lambda k: _plus(None, x, _turned(weights[k])), len(weights) - 1, operator)
    out = None
    for term, weight in zip(chebyshev(x, len(weights), operator), weights, strict=True):
        out = _plus(out, term, _turned(weight))
    assert out is not None, "there is a term"
    return out


def _turned(weight: Tensor) -> Tensor:
    return weight.t() if weight.dim() else weight


def _plus(out: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
    """``out`` plus ``x`` mapped; a weight without dimensions is a number."""
    if weight.dim() == 0:
        scaled = weight.to(x.dtype) * x
        return scaled if out is None else out.add_(scaled)
    if out is None:
        return x @ weight
    # autocast has its own opinion on dtypes
    same = out.dtype == x.dtype == weight.dtype
    return out.addmm_(x, weight) if same else torch.addmm(out, x, weight)


class _Polynomial(torch.autograd.Function):
    """:func:`polynomial`, whose gradient keeps nothing but ``x``.

    With G the gradient of the result and S_k = T_k(operator.t()) G it is the sum of ``S_k maps[k]``
    for x and ``S_k.t() x`` for ``maps[k]``: as many products as forward, as wide as the result.
    Where that is wider than twice x, the terms of x are made again instead.
    """

    @staticmethod
    def forward(x: Tensor, maps: Tensor, operator: Product) -> Tensor:
        return _summed(x, maps, operator)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, maps, ctx.operator = inputs
        ctx.save_for_backward(x, maps)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, maps = ctx.saved_tensors
        of_x, of_maps, *_ = ctx.needs_input_grad
        dx, found, weights = None, [], maps.unbind(0)
        turned = ctx.operator.t()
        if maps.dim() == 3 and maps.size(1) > 2 * x.size(1):
            if of_x:
                dx = clenshaw(lambda k: dy @ weights[k], len(weights) - 1, turned)
            if of_maps:
                found = [dy.t() @ term for term in chebyshev(x, len(weights), ctx.operator)]
        else:
            terms = chebyshev(dy.contiguous(), len(weights), turned)
            for term, weight in zip(terms, weights, strict=True):
                if of_x:
                    dx = _plus(dx, term, weight)
                if of_maps:
                    found.append((term * x).sum() if maps.dim() == 1 else term.t() @ x)
        return dx, torch.stack(found) if found else None, None


def _loops(graph: Graph) -> Tensor | None:
    """How many loops each node has, int64 ``[N]``; None for a graph without."""

    def count() -> Tensor | None:
        found = count_self_loops(graph.by_dst)
        return None if has_values(found) and not bool(found.any()) else found

    # kept beside the graph: a model asks in every layer
    return once(graph, "self_loops", count)


def scaled_laplacian(
    graph: Graph,
    dtype: torch.dtype,
    edge_weight: Tensor | None = None,
    edge_mask: Tensor | None = None,
    normalization: Normalization | None = "sym",
    lambda_max: Tensor | float | None = None,
) -> Product:
    r"""The product with :math:`\hat L = 2 L / \lambda - I`, as PyG's ``ChebConv`` defines it.

    Self-loops are left out and degrees are those of sources. For the normalised Laplacians, whose
    eigenvalues end at :math:`\lambda = 2`, that is minus the normalised adjacency: one product, and
    0 for a node without edges. ``lambda_max`` is a number or one for each node.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    own, diagonal = _loops(graph), None
    weight = edge_weight if edge_mask is None else edge_mask
    if edge_weight is not None:
        weight = edge_weight = _zero_at_loops(graph, edge_weight, own)
        weight = weight if edge_mask is None else weight * edge_mask
        degree = weighted_in_degree(graph.t(), edge_weight, dtype)
    else:
        weight = None if weight is None else _zero_at_loops(graph, weight, own)
        degree = graph.out_degree() if own is None else graph.out_degree() - own
        degree = degree.to(dtype)
        if own is not None and weight is None:
            # their messages are taken back
            diagonal = -own.to(dtype)
    left = right = torch.ones_like(degree)
    if normalization == "sym":
        left = right = inverse_root(degree)
    elif normalization == "rw":
        right = torch.where(degree == 0, 0, 1 / torch.where(degree == 0, 1, degree))
    rest, share = None, 1.0
    if normalization is None or lambda_max is not None:
        if lambda_max is None:
            # torch has no largest of none
            lambda_max = 2 * degree.max() if degree.numel() else 2.0
        share = 2 / torch.as_tensor(lambda_max, dtype=dtype, device=graph.device)
        # a graph without edges, whose L is 0
        share = share.masked_fill(share.isinf(), 0)
        rest = (share * (degree if normalization is None else 1) - 1).expand(graph.num_dst)
    return Product(graph, weight, -share * left, right, diagonal, rest)


def _zero_at_loops(graph: Graph, w: Tensor, loops: Tensor | None) -> Tensor:
    return w if loops is None else torch.where(self_loop_mask(graph), 0, w)


class ChebConv(nn.Module):
    r"""Chebyshev convolution, `Convolutional neural networks on graphs with fast localized spectral
    filtering <https://arxiv.org/abs/1606.09375>`_.

    .. math::
        X' = \sum_{k=0}^{K-1} T_k(\hat L) X \Theta_k + b, \qquad \hat L = \frac{2 L}{\lambda_{max}}
        - I

    with Chebyshev's polynomials :math:`T_0 = 1, T_1(t) = t, T_k(t) = 2 t T_{k-1}(t) - T_{k-2}(t)`.

    Args:
        in_channels: Features of each node.
        out_channels: Features of each output row.
        K: Number of terms, so that the degree is ``K - 1``.
        normalization: ``sym`` for :math:`L = I - D^{-1/2} A D^{-1/2}`, ``rw`` for :math:`I - D^{-1}
            A` as PyG has it, None for :math:`D - A`.
        bias: Learn an additive bias.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns ``[N,
    out]``. ``lambda_max`` is a number, or one for each graph with ``batch [N]``; left out it is 2,
    which bounds the normalised Laplacians, and twice the largest degree for :math:`D - A`, over all
    graphs together. ``edge_mask [E]`` multiplies every edge's message.

    Parameters are named as in PyG (``lins.0.weight``, ``bias``), and so are the numbers: self-loops
    are left out, and a node without edges has 1 on the diagonal of L. Degrees are those of sources.
    Where the output is narrower than the input the sum is taken behind the maps, by Clenshaw's
    rule, so that products are as wide as the narrower one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int,
        normalization: Normalization | None = "sym",
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_terms("ChebConv", "K", K)
        check_widths("ChebConv", in_channels, out_channels)
        if normalization is not None and normalization not in _NORMALIZATIONS:
            raise ConfigError(
                f"ChebConv: unknown normalization {normalization!r}. "
                f"{nearest(str(normalization), _NORMALIZATIONS)} Or None."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.normalization: Normalization | None = normalization
        self.lins = nn.ModuleList(
            linear(in_channels, out_channels, bias=False, glorot=True) for _ in range(K)
        )
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for lin in self.lins:
            lin.reset_parameters()  # pyright: ignore[reportCallIssue]
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        lambda_max: Tensor | float | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        one_set_of_nodes("ChebConv", x)
        x, _, graph = read_input("ChebConv", x, edge_index, self.in_channels, transpose=True)
        edge_weight = edge_vector("ChebConv", "edge_weight", edge_weight, graph)
        edge_mask = edge_vector("ChebConv", "edge_mask", edge_mask, graph)
        if isinstance(lambda_max, Tensor) and lambda_max.numel() > 1:
            if batch is None:
                raise GraphError(
                    f"ChebConv: lambda_max has {lambda_max.numel()} entries, one for each graph, "
                    "but there is no batch [N] to tell the graph of each node."
                )
            lambda_max = lambda_max.reshape(-1)[batch]
        operator = scaled_laplacian(
            graph, x.dtype, edge_weight, edge_mask, self.normalization, lambda_max
        )
        maps: Any = torch.stack([lin.weight for lin in self.lins])  # pyright: ignore
        out = polynomial(x, maps, operator)
        return out if self.bias is None else out.add_(self.bias)

    def extra_repr(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, K={len(self.lins)}"
        return f"{sizes}, normalization={self.normalization!r}"


def check_terms(layer: str, name: str, terms: int, least: int = 1) -> None:
    if isinstance(terms, bool) or not isinstance(terms, int) or terms < least:
        raise ConfigError(
            f"{layer}: {name} is {terms!r}, but a whole number from {least} on is expected."
        )


def check_widths(layer: str, *widths: int) -> None:
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ConfigError(f"{layer}: a width is {width!r}, but at least 1 is expected.")


class BernConv(nn.Module):
    r"""A linear map and a polynomial in Bernstein's basis, `BernNet: learning arbitrary graph
    spectral filters via Bernstein approximation <https://arxiv.org/abs/2106.10994>`_.

    .. math::
        X' = \sum_{k=0}^K \max(\theta_k, 0) \frac{1}{2^K} \binom{K}{k} (2 I - L)^{K-k} L^k X \Theta
        + b, \qquad L = I - D^{-1/2} A D^{-1/2}

    so that :math:`\theta_k` is what the filter is about at the eigenvalue :math:`2 k / K`, and
    never below 0.

    Args:
        in_channels: Features of each node.
        out_channels: Features of each output row.
        K: Degree, at least 1.
        bias: Learn an additive bias, behind the polynomial.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns ``[N,
    out]``. ``edge_mask [E]`` multiplies every edge's message. ``theta [K + 1]`` begins at 1, where
    the polynomial is 1.

    The official code takes :math:`K (K + 3) / 2` products. Here the coefficients go over into
    Chebyshev's basis, exactly and for every K the same way, and the sum takes K products, of the
    narrower of both widths. A node without edges has 1 on the diagonal of L; self-loops are left
    out. The map is :class:`torch.nn.Linear`'s; BernNet itself filters the outputs of an MLP.
    """

    def __init__(self, in_channels: int, out_channels: int, K: int = 10, bias: bool = True) -> None:
        super().__init__()
        check_terms("BernConv", "K", K)
        check_widths("BernConv", in_channels, out_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.K = K
        self.lin = nn.Linear(in_channels, out_channels, bias=bias)
        self.theta = nn.Parameter(torch.empty(K + 1))
        self.register_buffer("basis", bernstein_to_chebyshev(K), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()
        nn.init.ones_(self.theta)

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        one_set_of_nodes("BernConv", x)
        x, _, graph = read_input("BernConv", x, edge_index, self.in_channels, transpose=True)
        edge_weight = edge_vector("BernConv", "edge_weight", edge_weight, graph)
        edge_mask = edge_vector("BernConv", "edge_mask", edge_mask, graph)
        operator = scaled_laplacian(graph, x.dtype, edge_weight, edge_mask)
        factor = self.theta.relu() @ self.get_buffer("basis").to(self.theta.dtype)
        first = self.in_channels <= self.out_channels
        h = x if first else functional.linear(x, self.lin.weight)
        h = polynomial(h, factor, operator)
        if first:
            return self.lin(h)
        return h if self.lin.bias is None else h + self.lin.bias

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, K={self.K}"


def bernstein_to_chebyshev(degree: int) -> Tensor:
    """float64 ``[degree + 1, degree + 1]``: row k has the coefficients of Bernstein's polynomial k,
    on [-1, 1], in Chebyshev's basis.

    Cosine sums over ``degree + 1`` nodes, which are exact for polynomials up to that degree.
    """
    count = degree + 1
    angle = (torch.arange(count, dtype=torch.float64) + 0.5) * math.pi / count
    upper = (1 + angle.cos()) / 2
    k = torch.arange(count, dtype=torch.float64)
    choose = torch.tensor([math.comb(degree, j) for j in range(count)], dtype=torch.float64)
    values = choose * upper[:, None] ** k * (1 - upper)[:, None] ** (degree - k)
    found = 2 / count * values.t() @ (angle[:, None] * k).cos()
    found[:, 0] /= 2
    return found


class ChebFilters(nn.Module):
    r"""Several Chebyshev filters side by side, over one basis: the wavelet branch of RQGNN,
    `Rayleigh quotient graph neural networks for graph-level anomaly detection
    <https://arxiv.org/abs/2310.02861>`_.

    .. math::
        X' = \big\Vert_{i=1}^{q} \sum_{k=0}^{K-1} T_k(L - I) X \Theta_{i,k} + b_i, \qquad
        \Theta_{i,k} \in \mathbb{R}^{F \times F}

    Args:
        in_channels: Features F of each node, of which every filter makes as many.
        width: Number of filters, q.
        depth: Number of terms of each, K.
        train: Whether the filters are parameters. Otherwise they are buffers and stay as they were
            drawn: as in the official code, where they lie in a plain list that neither optimizer
            nor ``state_dict`` sees, so that its published figures are those of random filters.

    Shapes: ``x [N, F]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns ``[N, q F]``.
    ``edge_mask [E]`` multiplies every edge's message. ``lin``, a linear map that follows, is joined
    with the filters before they meet the nodes: they are linear too, and nothing of width q F is
    then made of any node.

    The official code has q :class:`ChebConv`, each of which makes the same products with the graph.
    The Laplacian is that of :class:`ChebConv` with ``normalization="sym"``; weights are drawn as
    there.
    """

    def __init__(
        self, in_channels: int, width: int = 4, depth: int = 6, train: bool = True
    ) -> None:
        super().__init__()
        check_widths("ChebFilters", in_channels)
        check_terms("ChebFilters", "width", width)
        check_terms("ChebFilters", "depth", depth)
        self.in_channels = in_channels
        self.out_channels = width * in_channels
        self.width, self.depth, self.train_filters = width, depth, train
        for name, shape in (
            ("weight", (width, depth, in_channels, in_channels)),
            ("bias", (self.out_channels,)),
        ):
            if train:
                self.register_parameter(name, nn.Parameter(torch.empty(shape)))
            else:
                self.register_buffer(name, torch.empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        glorot_(self._tensor("weight"))
        nn.init.zeros_(self._tensor("bias"))

    def _tensor(self, name: str) -> Tensor:
        return getattr(self, name)

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
        lin: nn.Linear | None = None,
    ) -> Tensor:
        one_set_of_nodes("ChebFilters", x)
        x, _, graph = read_input("ChebFilters", x, edge_index, self.in_channels, transpose=True)
        edge_weight = edge_vector("ChebFilters", "edge_weight", edge_weight, graph)
        edge_mask = edge_vector("ChebFilters", "edge_mask", edge_mask, graph)
        operator = scaled_laplacian(graph, x.dtype, edge_weight, edge_mask)
        weight, bias = self._tensor("weight"), self._tensor("bias")
        if lin is None:
            # [K, q F, F]
            maps = weight.permute(1, 0, 3, 2).flatten(1, 2)
        else:
            after = lin.weight.unflatten(1, (self.width, self.in_channels))
            maps = torch.einsum("hqo,qkio->khi", after, weight)
            bias = functional.linear(bias, lin.weight, lin.bias)
        return polynomial(x, maps, operator).add_(bias)

    def extra_repr(self) -> str:
        sizes = f"{self.in_channels}, width={self.width}, depth={self.depth}"
        return f"{sizes}, train={self.train_filters}"
