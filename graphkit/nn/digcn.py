"""DiGCN, DiGCN-IB and DGCN: proximities of first and higher order of a directed graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ConfigError, nearest
from ..graph import Adj, Graph
from ..ops import dropout, relu_dropout, spmm
from ..ops.loops import count_self_loops
from ..structure.directed import TwoSides, digcn_operator, edge_counts, once, proximity
from ..structure.normalize import inverse_root
from .directed import read_directed
from .inputs import edge_vector
from .linear import GlorotLinear, aggregate_first, linear, reset
from .sparse import SparseRows, apart, dropped, mapped, sparse_if_few

_FUSIONS = ("sum", "cat")


class DiGCNConv(nn.Module):
    r"""Digraph convolution, `Digraph inception convolutional networks
    <https://papers.nips.cc/paper/2020/hash/cffb6e2288a630c2a787a64ccc67097c-Abstract.html>`_.

    .. math::
        X' = d^{-1/2} \Delta d^{-1/2} X \Theta + b, \qquad \Delta = \tfrac12 \big(\Pi^{1/2} \tilde P
        \Pi^{-1/2} + \Pi^{-1/2} \tilde P^\top \Pi^{1/2}\big)

    with :math:`\tilde P = \tilde D^{-1} (A + I)` the random walk along the edges, :math:`\Pi` its
    personalised PageRank on the diagonal, and d the row sums of :math:`\Delta`.

    Args:
        in_channels: Features of each node, or -1 to read them off the first input.
        out_channels: Features of each output row.
        alpha: Probability of a restart, above 0 and at most 1.
        bias: Learn an additive bias.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns ``[N, out]``. ``edge_mask [E]``
    multiplies every edge's message, not the node's own.

    PageRank is found by power iteration on the sparse matrix, to 1e-10 in the sum of all errors
    (:func:`graphkit.structure.pagerank`), and once for each Graph: called with a tensor, the layer
    computes it anew. The operator is four scales of nodes on the two sides of the graph. The paper
    leaves out d, which is in the official code. The latter finds PageRank by dense eigenvectors,
    and keeps the operator as a second graph with weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, alpha: float = 0.1, bias: bool = True
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.alpha = _restart("DiGCNConv", alpha)
        self.lin = linear(in_channels, out_channels, bias=False, glorot=True)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, x: Tensor | SparseRows, edge_index: Adj, *, edge_mask: Tensor | None = None
    ) -> Tensor:
        rows, dense = apart(x)
        x, graph = read_directed("DiGCNConv", dense, edge_index, self.in_channels)
        edge_mask = edge_vector("DiGCNConv", "edge_mask", edge_mask, graph)
        operator = _first_order(graph, self.alpha, x.dtype)
        if rows is None and aggregate_first(x, self.lin, graph):
            out = self.lin(operator.apply(graph, x, edge_mask))
        else:
            out = operator.apply(graph, mapped(rows or x, self.lin), edge_mask)
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, alpha={self.alpha:g}"


class _Layers(nn.Module):
    """Layers one after another on a directed graph, with ``_between`` in front of all but one."""

    def __init__(self, convs: Sequence[Any], dropout: float, drop_input: bool) -> None:
        super().__init__()
        self.in_channels, self.out_channels = convs[0].in_channels, convs[-1].out_channels
        self.dropout, self.drop_input = dropout, drop_input
        self.convs = nn.ModuleList(convs)

    def reset_parameters(self) -> None:
        for conv in self.convs:
            reset(conv)

    def forward(self, x: Tensor, edge_index: Adj) -> Tensor:
        x, graph = read_directed(type(self).__name__, x, edge_index, self.in_channels)
        h = dropped(sparse_if_few(x), self.dropout, self.training and self.drop_input)
        for number, conv in enumerate(self.convs):
            h = self._between(h) if number else h
            h = conv(h, graph)
        return h

    def _between(self, h: Tensor) -> Tensor:
        raise NotImplementedError


class DiGCN(_Layers):
    """DiGCN: :class:`DiGCNConv` layers, with ReLU and dropout between.

    Args:
        in_channels: Features of each node.
        hidden_channels: Features of every hidden layer.
        out_channels: Number of classes.
        num_layers: Number of layers.
        dropout: Probability behind every hidden layer.
        alpha: As in :class:`DiGCNConv`.
        drop_input: Also drop features (the official code does not).

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns logits ``[N, out]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 2,
        dropout: float = 0.5,
        alpha: float = 0.1,
        drop_input: bool = False,
    ) -> None:
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        super().__init__([DiGCNConv(a, b, alpha) for a, b in pairs], dropout, drop_input)

    def _between(self, h: Tensor) -> Tensor:
        return relu_dropout(h, self.dropout, self.training)


class DiGCNBlock(nn.Module):
    r"""Inception block of DiGCN-IB, `Digraph inception convolutional networks
    <https://papers.nips.cc/paper/2020/hash/cffb6e2288a630c2a787a64ccc67097c-Abstract.html>`_.

    .. math::
        Z_0 = X \Theta_0 + b_0, \qquad Z_1 = d^{-1/2} \Delta d^{-1/2} X \Theta_1 + b_1, \qquad
        Z_k = W_k^{-1/2} P^{(k)} W_k^{-1/2} X \Theta_k + b_k

    added up, or side by side under one more linear map. :math:`Z_1` is a :class:`DiGCNConv`,
    :math:`P^{(k)}` the proximity of order k and :math:`W_k` its row sums
    (:func:`graphkit.structure.proximity`).

    Args:
        in_channels: Features of each node.
        out_channels: Features of each output row.
        alpha: Probability of a restart, above 0 and at most 1.
        k: Highest order, at least 1.
        fusion: ``sum`` or ``cat``.
        dropout: Probability of dropping numbers of each :math:`Z`.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns ``[N, out]``.

    The operators are computed once for each Graph; called with a tensor, the block computes them
    anew. Orders from 2 on are graphs of their own, whose edges are no edges of the given one, so
    that the block has no ``edge_mask``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        alpha: float = 0.1,
        k: int = 2,
        fusion: Literal["sum", "cat"] = "sum",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 1:
            raise ConfigError(
                f"DiGCNBlock: in_channels={in_channels} and out_channels={out_channels} must both "
                "be at least 1; they cannot be read off the input."
            )
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ConfigError(f"DiGCNBlock: k is {k!r}, but a whole number from 1 on is expected.")
        if fusion not in _FUSIONS:
            raise ConfigError(
                f"DiGCNBlock: unknown fusion {fusion!r}. {nearest(str(fusion), _FUSIONS)}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.alpha = _restart("DiGCNBlock", alpha)
        self.k, self.fusion, self.dropout = k, fusion, dropout
        self.lin = nn.Linear(in_channels, out_channels)
        self.lins = nn.ModuleList(
            GlorotLinear(in_channels, out_channels, bias=False) for _ in range(k)
        )
        self.bias = nn.Parameter(torch.empty(k, out_channels))
        self.lin_cat = nn.Linear((k + 1) * out_channels, out_channels) if fusion == "cat" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.children():
            reset(module)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor | SparseRows, edge_index: Adj) -> Tensor:
        rows, dense = apart(x)
        x, graph = read_directed("DiGCNBlock", dense, edge_index, self.in_channels)
        parts = [mapped(rows or x, self.lin)]
        for order, (lin, bias) in enumerate(zip(self.lins, self.bias, strict=True), start=1):
            h = mapped(rows or x, lin)
            if order == 1:
                out = _first_order(graph, self.alpha, h.dtype).apply(graph, h)
            else:
                pairs, values, scale = _higher_order(graph, order, h.dtype)
                out = spmm(pairs, h, values, left=scale, right=scale)
            parts.append(out + bias.to(out.dtype))
        parts = [dropout(part, self.dropout, self.training) for part in parts]
        if self.lin_cat is not None:
            return self.lin_cat(torch.cat(parts, dim=1))
        return reduce(torch.add, parts)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, k={self.k}, fusion={self.fusion}"


class DiGCNIB(_Layers):
    """DiGCN-IB: inception blocks one after another, with nothing but dropout between.

    Args:
        in_channels: Features of each node.
        hidden_channels: Features of every hidden block.
        out_channels: Number of classes.
        num_layers: Number of blocks.
        dropout: Probability on each branch of every block, and again on what they add up to in
            all blocks but the last.
        alpha: As in :class:`DiGCNBlock`.
        k: As in :class:`DiGCNBlock`.
        fusion: As in :class:`DiGCNBlock`.
        drop_input: Also drop features (the official code does not).

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns logits ``[N, out]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 3,
        dropout: float = 0.6,
        alpha: float = 0.1,
        k: int = 2,
        fusion: Literal["sum", "cat"] = "sum",
        drop_input: bool = False,
    ) -> None:
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        super().__init__(
            [DiGCNBlock(a, b, alpha, k, fusion, dropout) for a, b in pairs], dropout, drop_input
        )

    def _between(self, h: Tensor) -> Tensor:
        return dropout(h, self.dropout, self.training)


class DGCNConv(nn.Module):
    r"""First- and second-order proximity convolution, `Directed graph convolutional network
    <https://arxiv.org/abs/2004.13970>`_.

    .. math::
        X' = [\hat A_F X W, \hat A_{in} X W, \hat A_{out} X W] + b

    with :math:`A_F` an edge wherever A has one in either direction, :math:`A_{in} = A^\top
    D_{out}^{-1} A` (common predecessors, which count less the more successors they have) and
    :math:`A_{out} = A D_{in}^{-1} A^\top`, each normalised as in GCN, with a self-loop of 1 for
    nodes that have none.

    Args:
        in_channels: Features of each node, or -1 to read them off the first input.
        out_channels: Features of each of the three blocks.
        bias: Learn an additive bias, shared by the blocks as the weights are.
        swapped_degrees: Divide by :math:`D_{in}` in :math:`A_{in}` and by :math:`D_{out}` in
            :math:`A_{out}`, as released helpers do by mistaking one degree for the other.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns ``[N, 3 * out]``. ``edge_mask
    [E]`` multiplies what an edge carries, in each product that reads it.

    The second orders are two products one after the other and are never made as matrices, whose
    entries are as many as the squares of the degrees; their row sums are the degrees. The original
    has learnt factors before the last two blocks, which the released code leaves out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        swapped_degrees: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.swapped_degrees = swapped_degrees
        self.lin = linear(in_channels, out_channels, bias=False, glorot=True)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, x: Tensor | SparseRows, edge_index: Adj, *, edge_mask: Tensor | None = None
    ) -> Tensor:
        rows, dense = apart(x)
        x, graph = read_directed("DGCNConv", dense, edge_index, self.in_channels)
        w = edge_vector("DGCNConv", "edge_mask", edge_mask, graph)
        h = mapped(rows or x, self.lin)
        dtype = torch.promote_types(h.dtype, torch.float32)
        swapped, turned = self.swapped_degrees, graph.t()

        def union() -> _Union:
            return _union(graph, dtype)

        def second(one: Graph, name: str) -> Tensor:
            key = "dgcn", name, swapped, dtype
            by = once(graph, key, lambda: _second_order(one, swapped, dtype))
            middle = spmm(one.t(), h, w, left=by.middle, right=by.scale)
            out = spmm(one, middle, w, left=by.scale)
            return torch.addcmul(out, h, by.own.to(h.dtype).unsqueeze(1))

        by = once(graph, ("dgcn", "union", dtype), union)
        each = by.weight if w is None else by.weight * w
        first = spmm(graph, h, each, left=by.scale, right=by.scale, diagonal=by.diagonal)
        first = first.add_(spmm(turned, h, each, left=by.scale, right=by.scale))
        out = torch.cat([first, second(graph, "in"), second(turned, "out")], dim=1)
        return out if self.bias is None else out + self.bias.repeat(3)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


class DGCN(nn.Module):
    """DGCN: :class:`DGCNConv` layers with ReLU, and a linear classifier.

    Args:
        in_channels: Features of each node.
        hidden_channels: Features of each of the three blocks of every convolution.
        out_channels: Number of classes; None leaves the classifier out, and gives ``[N, 3 *
            hidden]``.
        num_layers: Number of convolutions.
        dropout: Probability in front of the classifier.
        swapped_degrees: As in :class:`DGCNConv`.
        drop_input: Also drop features (the official code does not).

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns logits ``[N, out]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int | None,
        num_layers: int = 2,
        dropout: float = 0.5,
        swapped_degrees: bool = False,
        drop_input: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = 3 * hidden_channels if out_channels is None else out_channels
        self.dropout, self.drop_input = dropout, drop_input
        widths = [in_channels, *[3 * hidden_channels] * (num_layers - 1)]
        self.convs = nn.ModuleList(
            DGCNConv(width, hidden_channels, swapped_degrees=swapped_degrees) for width in widths
        )
        self.lin = None if out_channels is None else nn.Linear(3 * hidden_channels, out_channels)

    def reset_parameters(self) -> None:
        for module in self.children():
            reset(module)

    def forward(self, x: Tensor, edge_index: Adj) -> Tensor:
        x, graph = read_directed("DGCN", x, edge_index, self.in_channels)
        h = dropped(sparse_if_few(x), self.dropout, self.training and self.drop_input)
        for conv in self.convs:
            h = conv(h, graph).relu()
        return h if self.lin is None else self.lin(dropout(h, self.dropout, self.training))


def _restart(layer: str, alpha: float) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha <= 1:
        raise ConfigError(
            f"{layer}: alpha is {alpha!r}, but a number above 0 and at most 1 is expected."
        )
    return float(alpha)


def _first_order(graph: Graph, alpha: float, dtype: torch.dtype) -> TwoSides:
    dtype = torch.promote_types(dtype, torch.float32)
    return once(graph, ("digcn", alpha, dtype), lambda: digcn_operator(graph, alpha, dtype=dtype))


def _higher_order(graph: Graph, order: int, dtype: torch.dtype) -> tuple[Graph, Tensor, Tensor]:
    dtype = torch.promote_types(dtype, torch.float32)

    def make() -> tuple[Graph, Tensor, Tensor]:
        pairs, values, scale = proximity(graph, order)
        return pairs, values.to(dtype), scale.to(dtype)

    return once(graph, ("proximity", order, dtype), make)


class _Union(NamedTuple):
    """Of :math:`A_F`: what each edge adds, and the scales and self-loops of nodes."""

    weight: Tensor
    scale: Tensor
    diagonal: Tensor


def _union(graph: Graph, dtype: torch.dtype) -> _Union:
    # both sides are added up, so that a pair of nodes finds each edge between them once
    same, reverse = edge_counts(graph)
    weight = (same + reverse).to(dtype).reciprocal()
    diagonal = (count_self_loops(graph.by_dst) == 0).to(dtype)
    one = torch.ones(graph.num_dst, 1, dtype=dtype, device=graph.device)
    degree = (spmm(graph, one, weight) + spmm(graph.t(), one, weight)).squeeze(1) + diagonal
    return _Union(weight, inverse_root(degree), diagonal)


class _SecondOrder(NamedTuple):
    """Scales of :math:`\\hat A_{in}` (or of the other one, if the graph is turned around): of its
    rows and columns, of the nodes in the middle, and the part of a node in itself."""

    scale: Tensor
    middle: Tensor
    own: Tensor


def _second_order(graph: Graph, swapped: bool, dtype: torch.dtype) -> _SecondOrder:
    degrees = (graph.in_degree(), graph.out_degree())
    into, out = (degree.to(dtype) for degree in degrees)
    lone = into == 0
    middle = (into if swapped else out).clamp(min=1).reciprocal()
    degree = into
    if swapped:
        degree = spmm(graph, (middle * out).unsqueeze(1)).squeeze(1)
    scale = inverse_root(torch.where(lone, 1, degree))
    return _SecondOrder(scale, middle, lone.to(dtype))
