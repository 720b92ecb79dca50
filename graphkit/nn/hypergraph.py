"""Spectral and two-step convolutions of hypergraphs: HGNN, HGNN+, HyperGCN, HNHN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError
from ..graph import Adj, Graph, has_values
from ..ops import dropout, gat_attention, gather, segment_reduce, segment_softmax, spmm
from ..ops.check import check_values
from ..structure.directed import once
from ..structure.hypergraph import as_hypergraph, check_hyperedge_weight
from ..structure.normalize import inverse_root
from .inputs import check_features, edge_vector, refuse_to_be_ignored
from .linear import linear
from .sparse import SparseRows, apart, mapped


@dataclass(frozen=True)
class Incidences:
    """A hypergraph as layers read it: two products, and the scales that normalise them.

    ``graph`` leads from hyperedges to nodes. ``weight [M]`` multiplies what hyperedges send, as if
    each were there so many times; ``mask [nnz]`` what passes along incidences, either way. Scales
    are in ``dtype``; those of a hypergraph without weights are computed once.
    """

    graph: Graph
    weight: Tensor | None
    mask: Tensor | None
    dtype: torch.dtype

    def _once(self, key: tuple[Any, ...], make: Callable[[], Tensor]) -> Tensor:
        if self.weight is not None:
            return make()
        return once(self.graph, ("hyper", *key, self.dtype), make)

    def _sum(self, of_edges: Tensor | None) -> Tensor:
        """For each node the sum over its hyperedges of weight times ``of_edges [M]``."""
        if of_edges is None and self.weight is None:
            return self.graph.in_degree().to(self.dtype)
        weight = None if self.weight is None else self.weight.to(self.dtype)
        both = weight if of_edges is None else of_edges if weight is None else weight * of_edges
        assert both is not None, "one of both is there"
        return spmm(self.graph, both.unsqueeze(1)).squeeze(1)

    def degree(self, exponent: float = 1.0) -> Tensor:
        """Summed weights of each node's hyperedges to a power, ``[N]``; 0 where the sum is 0."""
        return self._once(("degree", exponent), lambda: _power(self._sum(None), exponent))

    def size(self, exponent: float = 1.0) -> Tensor:
        """Members of each hyperedge to a power, ``[M]``; 0 where there are none."""
        key = "hyper-size", exponent, self.dtype
        return once(
            self.graph, key, lambda: _power(self.graph.out_degree().to(self.dtype), exponent)
        )

    def mean_degree(self, exponent: float = 1.0) -> Tensor:
        """The mean degree of each hyperedge's members to a power, ``[M]``."""

        def make() -> Tensor:
            total = spmm(self.graph.t(), self.degree().unsqueeze(1)).squeeze(1)
            return _power(total * self.size(-1.0), exponent)

        return self._once(("mean-degree", exponent), make)

    def degree_sum(self, inner: float, exponent: float) -> Tensor:
        """The sum over each hyperedge's members of degrees to ``inner``, to a power, ``[M]``."""

        def make() -> Tensor:
            total = spmm(self.graph.t(), self.degree(inner).unsqueeze(1)).squeeze(1)
            return _power(total, exponent)

        return self._once(("degree-sum", inner, exponent), make)

    def size_sum(self, inner: float, exponent: float) -> Tensor:
        """The sum over each node's hyperedges of sizes to ``inner``, to a power, ``[N]``."""
        key = "size-sum", inner, exponent
        return self._once(key, lambda: _power(self._sum(self.size(inner)), exponent))

    def to_edges(
        self, x: Tensor, left: Tensor | None = None, right: Tensor | None = None
    ) -> Tensor:
        """``left * sum over members of right * x``, ``[M, ...]``; ``left`` defaults to the mean."""
        left = self.size(-1.0) if left is None else left
        return spmm(self.graph.t(), x, self.mask, left=left, right=right)

    def to_nodes(
        self, h: Tensor, left: Tensor | None = None, right: Tensor | None = None
    ) -> Tensor:
        """``left * sum over hyperedges of weight * right * h``, ``[N, ...]``."""
        if self.weight is not None:
            weight = self.weight.to(self.dtype)
            right = weight if right is None else right * weight
        return spmm(self.graph, h, self.mask, left=left, right=right)

    def attend(
        self, h: Tensor, score: Tensor, *, to: str, slope: float = 0.2, drop: float = 0.0
    ) -> Tensor:
        """``sum of softmax(LeakyReLU(score)) * h`` over members or hyperedges, for each head.

        ``h [S, H, C]`` and ``score [S, H]`` are of what sends; ``to`` is ``nodes`` or ``edges``.
        Weights of hyperedges multiply the exponentials.
        """
        graph = self.graph if to == "nodes" else self.graph.t()
        weight = self.weight if to == "nodes" else None
        if weight is not None:
            # with a slope of 1 the kernel takes the scores as they are
            score, slope = functional.leaky_relu(score.to(self.dtype), slope), 1.0
            least = torch.finfo(self.dtype).tiny
            score = score + weight.to(self.dtype).clamp(min=least).log().unsqueeze(1)
        if self.mask is None:
            out = gat_attention(graph, h, score, negative_slope=slope, dropout=drop)
        else:
            each = functional.leaky_relu(gather(graph, score, "src"), slope)
            alpha = dropout(segment_softmax(each, graph.by_dst), drop)
            out = spmm(graph, h, alpha * self.mask.unsqueeze(1))
        if weight is None:
            return out
        # hyperedges of weight 0 alone are none
        return out * (self.degree() > 0).to(out.dtype).view(-1, 1, 1)


def read_hypergraph(
    layer: str,
    x: Any,
    hyperedge_index: Adj,
    hyperedge_weight: Tensor | None,
    num_edges: int | None,
    edge_mask: Tensor | None = None,
    in_channels: int = -1,
) -> tuple[Any, Incidences]:
    """``x`` (a tensor, or :class:`SparseRows`) and what it is multiplied with, checked."""
    refuse_to_be_ignored(layer)
    dense = apart(x)[1]
    check_features(layer, "x", dense, in_channels)
    graph = as_hypergraph(hyperedge_index, dense.size(0), num_edges)
    check_values(layer, "x", dense, graph.device)
    if hyperedge_weight is not None:
        check_hyperedge_weight(hyperedge_weight, graph)
    mask = edge_vector(layer, "edge_mask", edge_mask, graph)
    dtype = torch.promote_types(dense.dtype, torch.float32)
    return x, Incidences(graph, hyperedge_weight, mask, dtype)


def _power(value: Tensor, exponent: float) -> Tensor:
    if exponent == 1:
        return value
    # 0 is replaced before the power: its infinite derivative would reach the weights
    safe = torch.where(value == 0, 1, value)
    return torch.where(value == 0, 0, safe.pow(exponent))


class HGNNConv(nn.Module):
    r"""Hypergraph convolution, `Hypergraph neural networks <https://arxiv.org/abs/1809.09401>`_.

    .. math::
        X' = D_v^{-1/2} H W D_e^{-1} H^\top D_v^{-1/2} (X \Theta + b)

    with :math:`H` the incidences, :math:`W` the weights of hyperedges, :math:`D_v` the summed
    weights of each node's hyperedges, :math:`D_e` the sizes of hyperedges. Where these are 0, so is
    the inverse: nodes in no hyperedge get 0.

    Args:
        in_channels: Features of each node, or -1 to read them off the first input.
        out_channels: Features of each output row.
        bias: Learn the additive bias :math:`b`, which stands before the propagation.

    Shapes: ``x [N, in]``; ``hyperedge_index [2, nnz]``, PyG's, whose row 0 are nodes and row 1
    hyperedges, or a Graph of :func:`graphkit.structure.as_hypergraph`; ``hyperedge_weight [M]``, at
    least 0; ``num_edges``: how many hyperedges, where the last ones may be empty (needed inside
    ``torch.compile`` for a tensor). Returns ``[N, out]``. ``edge_mask [nnz]`` multiplies what
    passes along each incidence, either way.

    Weights of all hyperedges times one number change nothing. In PyG's ``HypergraphConv``, which
    is HGNN+ by default, weights stand in :math:`D_v` alone; without weights they agree.
    """

    takes_sparse = True
    # of nodes on either side of the propagation
    _left, _right = -0.5, -0.5

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.lin = linear(in_channels, out_channels, bias=bias, glorot=True)

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()

    def forward(
        self,
        x: Tensor | SparseRows,
        hyperedge_index: Adj,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        given = hyperedge_index, hyperedge_weight, num_edges, edge_mask, self.in_channels
        x, over = read_hypergraph(type(self).__name__, x, *given)
        right = over.degree(self._right) if self._right else None
        h = over.to_edges(mapped(x, self.lin), right=right)
        return over.to_nodes(h, left=over.degree(self._left))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


class HGNNPConv(HGNNConv):
    r"""Means over members, then over hyperedges (HGNN+), `HGNN+: General hypergraph neural networks
    <https://doi.org/10.1109/TPAMI.2022.3182052>`_.

    .. math::
        X' = D_v^{-1} H W D_e^{-1} H^\top (X \Theta + b)

    Arguments, shapes and symbols as :class:`HGNNConv`. The rows of the operator sum to 1, or to 0
    for nodes in no hyperedge. PyG's ``HypergraphConv`` without weights and bias is this layer
    without its bias.
    """

    _left, _right = -1.0, 0.0


class HNHNConv(nn.Module):
    r"""Convolution with a non-linearity on hyperedges, `HNHN: Hypergraph networks with hyperedge
    neurons <https://arxiv.org/abs/2006.12278>`_.

    .. math::
        X_e = \sigma\big(D_{e,\beta}^{-1} H^\top D_v^\beta (X \Theta_1 + b_1)\big), \qquad
        X' = D_{v,\alpha}^{-1} H W D_e^\alpha (X_e \Theta_2 + b_2)

    with :math:`D_{e,\beta}` the sum of :math:`d_v^\beta` over members and :math:`D_{v,\alpha}` that
    of :math:`w_e |e|^\alpha` over hyperedges. The paper's activation of nodes is left to what
    stands behind the layer, as everywhere here.

    Args:
        in_channels: Features of each node, or -1 to read them off the first input.
        out_channels: Features of each output row.
        hidden_channels: Features of each hyperedge; ``out_channels`` if not given.
        alpha: Power of the sizes; below 0 large hyperedges count for less.
        beta: Power of the degrees; below 0 nodes of many hyperedges count for less.
        nonlinear: Whether :math:`\sigma` is the ReLU, or nothing.
        bias: Learn both additive biases.

    Shapes: as :class:`HGNNConv`. With ``alpha = beta = 0``, the identity for :math:`\sigma` and for
    one of the maps it is HGNN+.
    """

    takes_sparse = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        alpha: float = -1.5,
        beta: float = -0.5,
        nonlinear: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        hidden = out_channels if hidden_channels is None else hidden_channels
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.alpha = alpha
        self.beta = beta
        self.nonlinear = nonlinear
        self.lin_node = linear(in_channels, hidden, bias=bias, glorot=False)
        self.lin_edge = linear(hidden, out_channels, bias=bias, glorot=False)

    def reset_parameters(self) -> None:
        self.lin_node.reset_parameters()
        self.lin_edge.reset_parameters()

    def forward(
        self,
        x: Tensor | SparseRows,
        hyperedge_index: Adj,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        given = hyperedge_index, hyperedge_weight, num_edges, edge_mask, self.in_channels
        x, over = read_hypergraph("HNHNConv", x, *given)
        left, right = over.degree_sum(self.beta, -1.0), over.degree(self.beta)
        h = over.to_edges(mapped(x, self.lin_node), left=left, right=right)
        h = self.lin_edge(h.relu() if self.nonlinear else h)
        left, right = over.size_sum(self.alpha, -1.0), over.size(self.alpha)
        return over.to_nodes(h, left=left, right=right)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, alpha={self.alpha}, beta={self.beta}"


class Expansion(NamedTuple):
    """A graph on the nodes, every edge in both directions, and the weight of each, ``[E]``."""

    graph: Graph
    weight: Tensor


class HyperGCNConv(nn.Module):
    r"""Graph convolution over the extreme members of each hyperedge, `HyperGCN: A new method of
    training graph convolutional networks on hypergraphs <https://arxiv.org/abs/1809.02589>`_.

    .. math::
        X' = \tilde D^{-1/2} (A + I) \tilde D^{-1/2} (X \Theta + b)

    with :math:`A` the sum over hyperedges of the edges among the two members :math:`s, i` whose
    features have the largest and the smallest product with a fixed vector :math:`r`: the edge
    :math:`(s, i)` of weight :math:`w_e / |e|`; with ``mediators`` also :math:`(s, m)` and
    :math:`(i, m)` for all other members, each of weight :math:`w_e / (2 |e| - 3)`. Hyperedges of
    one member add none.

    Args:
        in_channels: Features of each node.
        out_channels: Features of each output row.
        mediators: Whether the other members are joined to the extreme ones.
        seed: Of the generator that draws :math:`r`, standard normal.
        bias: Learn the additive bias :math:`b`.

    Shapes: as :class:`HGNNConv`, without ``edge_mask``. ``expansion``: what :meth:`expand` returned
    for this hypergraph, in place of one of ``x`` itself. One of the input features for all layers
    is what the paper calls FastHyperGCN.

    :math:`r` is a buffer, drawn once: a layer is a function of its input. The official code draws
    it for every graph it makes, common ports uniformly from 0 to 1. Among equal products
    the smallest number is :math:`s` and the largest :math:`i`. The choice has no gradient.
    """

    takes_sparse = True
    projection: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mediators: bool = True,
        seed: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise ConfigError(
                f"HyperGCNConv: in_channels is {in_channels}, but at least 1 is expected: its "
                "fixed vector is as wide as the features."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mediators = mediators
        self.lin = linear(in_channels, out_channels, bias=bias, glorot=True)
        drawn = torch.randn(
            in_channels, generator=torch.Generator().manual_seed(seed), device="cpu"
        )
        self.register_buffer("projection", drawn.to(torch.get_default_device()))

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()

    def expand(
        self,
        x: Tensor | SparseRows,
        hyperedge_index: Adj,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
    ) -> Expansion:
        """The weighted edges that the features ``x`` choose."""
        given = hyperedge_index, hyperedge_weight, num_edges, None, self.in_channels
        x, over = read_hypergraph("HyperGCNConv", x, *given)
        value = torch.mv(apart(x)[1].detach().to(over.dtype), self.projection.to(over.dtype))
        return _expand(value, over, self.mediators)

    def forward(
        self,
        x: Tensor | SparseRows,
        hyperedge_index: Adj,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        expansion: Expansion | None = None,
    ) -> Tensor:
        if expansion is None:
            expansion = self.expand(x, hyperedge_index, hyperedge_weight, num_edges)
        graph, weight = expansion
        dense = apart(x)[1]
        check_features("HyperGCNConv", "x", dense, self.in_channels)
        check_values("HyperGCNConv", "x", dense, graph.device)
        degree = segment_reduce(weight, graph.by_dst) + 1
        scale, own = inverse_root(degree), torch.ones_like(degree)
        h = mapped(x, self.lin)
        return spmm(graph, h, weight, left=scale, right=scale, diagonal=own)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, mediators={self.mediators}"


def _expand(value: Tensor, over: Incidences, mediators: bool) -> Expansion:
    """The edges among members whose ``value [N]`` is extreme."""
    side, count = over.graph.t().by_dst, over.graph.num_dst
    size, row, node = side.degree(), side.row_ids(), side.indices.to(torch.int64)
    each = value[node]
    top = segment_reduce(each, side.indptr, "max")[row]
    low = segment_reduce(each, side.indptr, "min")[row]
    none = torch.full_like(size, count)
    large = none.scatter_reduce(0, row, torch.where(each == top, node, count), "amin")
    small = (none * 0 - 1).scatter_reduce(0, row, torch.where(each == low, node, -1), "amax")
    # hyperedges without members have neither; their edges are left out below
    large, small = large.clamp(max=max(count - 1, 0)), small.clamp(min=0)
    ends, there = [torch.stack([large, small])], [(size > 1) & (large != small)]
    of = [torch.arange(size.size(0), device=size.device)]
    if mediators:
        between = (node != large[row]) & (node != small[row])
        for extreme in (large, small):
            ends.append(torch.stack([extreme[row], node]))
            there.append(between)
            of.append(row)
    pair, keep, hyperedge = torch.cat(ends, 1), torch.cat(there), torch.cat(of)
    share = (2 * size - 3 if mediators else size).clamp(min=1).to(over.dtype).reciprocal()
    share = share if over.weight is None else share * over.weight.to(over.dtype)
    if has_values(keep):
        pair, hyperedge = pair[:, keep], hyperedge[keep]
        weight = share[hyperedge]
    else:
        # no sizes that depend on values: what is not there has no weight
        weight = torch.where(keep, share[hyperedge], 0)
    pair = torch.cat([pair, pair.flip(0)], 1)
    return Expansion(Graph.from_edge_index(pair, count), torch.cat([weight, weight]))
