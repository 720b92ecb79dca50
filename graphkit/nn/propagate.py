"""Propagation over K hops: SGC's layer, APPNP, and DAGNN's adaptive sum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as apply_linear

from ..errors import ConfigError
from ..graph import Adj, Graph
from ..ops import dropout, spmm
from ..structure.normalize import gcn_scales
from .inputs import edge_vector, one_set_of_nodes, read_input
from .linear import aggregate_first, linear, reset
from .mlp import MLP
from .sparse import dropped, sparse_if_few

Hop = partial[Tensor]
"""A product that takes the features ``[N, F]`` and nothing else."""

Scales = tuple[Tensor, Tensor | None]
"""What ``gcn_scales`` returns."""


def check_hops(layer: str, hops: int, name: str = "K") -> int:
    """``hops`` if it is a whole number of at least 0, else a :class:`ConfigError`."""
    if isinstance(hops, bool) or not isinstance(hops, int) or hops < 0:
        raise ConfigError(
            f"{layer}: {name} is {hops!r}, but a whole number of hops is expected; with 0 nothing "
            "is propagated."
        )
    return hops


def check_share(layer: str, name: str, value: float) -> float:
    """``value`` if it lies from 0 to 1, else a :class:`ConfigError`."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f"{layer}: {name} is {value!r}, but a number from 0 to 1 is expected.")
    return value


def hop_of(
    layer: Any,
    graph: Graph,
    dtype: torch.dtype,
    edge_weight: Tensor | None = None,
    edge_mask: Tensor | None = None,
    factor: float = 1.0,
    scales: Scales | None = None,
) -> Hop:
    """One product with ``factor`` times the (normalised) adjacency, for use in every hop.

    ``layer`` says by its attributes whether to ``normalize`` and ``add_self_loops``, and whether
    the scales of its first graph are ``cached``. They are computed once, unless they are given, and
    no edge is weighted that the caller did not weight.
    """
    name = type(layer).__name__
    edge_weight = edge_vector(name, "edge_weight", edge_weight, graph)
    edge_mask = edge_vector(name, "edge_mask", edge_mask, graph)
    weight = edge_weight
    if edge_mask is not None:
        weight = edge_mask if edge_weight is None else edge_weight * edge_mask
    dtype = torch.promote_types(dtype, torch.float32)
    if not layer.normalize:
        left = None
        if factor != 1:
            left = torch.full((graph.num_dst,), factor, dtype=dtype, device=graph.device)
        return partial(spmm, graph, w=weight, left=left, right=None, diagonal=None)
    scales = scales or layer._cache
    if scales is None:
        loops = layer.add_self_loops
        scales = gcn_scales(graph, edge_weight, add_self_loops=loops, dtype=dtype)
    if layer.cached:
        layer._cache = scales
    right, diagonal = scales
    left = right if factor == 1 else factor * right
    return partial(spmm, graph, w=weight, left=left, right=right, diagonal=diagonal)


class SGConv(nn.Module):
    r"""Simple graph convolution, `Simplifying graph convolutional networks
    <https://arxiv.org/abs/1902.07153>`_.

    .. math::
        X' = \big(\hat D^{-1/2} \hat A \hat D^{-1/2}\big)^K X \Theta + b, \qquad \hat A = A + I

    Args:
        in_channels: Features of each node, or -1 to read them off the first input.
        out_channels: Features of each output row.
        K: Number of hops; 0 is the linear map alone.
        cached: Keep the propagated features of the first call for all later ones. For training on
            one fixed graph; other features or another graph after that give wrong results.
        add_self_loops: Add the diagonal.
        bias: Learn an additive bias.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns
    ``[N, out]``. ``edge_mask [E]`` multiplies every edge's message in every hop.

    Parameters are named as in PyG (``lin.weight``, ``lin.bias``). A hop is one product with scales
    of nodes, computed once; the hops come behind :math:`\Theta` where that moves fewer bytes.
    """

    normalize = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        K: int = 1,
        cached: bool = False,
        add_self_loops: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.K = check_hops("SGConv", K)
        self.cached = cached
        self.add_self_loops = add_self_loops
        self.lin = linear(in_channels, out_channels, bias=bias, glorot=False)
        self._cache: Scales | None = None
        self._cached_x: Tensor | None = None

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()
        self._cache = self._cached_x = None

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        if self._cached_x is not None:
            return self.lin(self._cached_x)
        one_set_of_nodes("SGConv", x)
        x, _, graph = read_input("SGConv", x, edge_index, self.in_channels)
        hop = hop_of(self, graph, x.dtype, edge_weight, edge_mask)
        first = self.cached or aggregate_first(x, self.lin, graph)
        h = x if first else apply_linear(x, self.lin.weight)
        for _ in range(self.K):
            h = hop(h)
        if self.cached:
            self._cached_x = h.detach()
        if first:
            return self.lin(h)
        return h if self.lin.bias is None else h + self.lin.bias

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, K={self.K}"


class APPNP(nn.Module):
    r"""Approximate personalised propagation of predictions, `Predict then propagate: graph neural
    networks meet personalized PageRank <https://arxiv.org/abs/1810.05997>`_.

    .. math::
        X^{(k)} = (1 - \alpha)\, \hat D^{-1/2} \hat A \hat D^{-1/2} X^{(k-1)} + \alpha X^{(0)},
        \qquad X' = X^{(K)}

    Args:
        K: Number of hops; with 0 the result is ``x``.
        alpha: Probability of going back to the node's own features.
        dropout: Probability of dropping an edge, self-loops too, anew in every hop.
        cached: Keep the normalisation of the first graph for all later calls.
        add_self_loops: Add the diagonal.
        normalize: Apply the normalisation; otherwise the plain weighted sum is used.

    Shapes: ``x [N, F]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns ``[N, F]``.
    ``edge_mask [E]`` multiplies every edge's message in every hop. There are no parameters. In PyG
    an edge that one hop has dropped is missing in all later ones too.
    """

    def __init__(
        self,
        K: int,
        alpha: float,
        dropout: float = 0.0,
        cached: bool = False,
        add_self_loops: bool = True,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.K = check_hops("APPNP", K)
        self.alpha = check_share("APPNP", "alpha", alpha)
        self.dropout = check_share("APPNP", "dropout", dropout)
        self.cached = cached
        self.add_self_loops = add_self_loops
        self.normalize = normalize
        self._cache: Scales | None = None

    def reset_parameters(self) -> None:
        self._cache = None

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        one_set_of_nodes("APPNP", x)
        x, _, graph = read_input("APPNP", x, edge_index)
        hop = hop_of(self, graph, x.dtype, edge_weight, edge_mask, 1 - self.alpha)
        h = x
        for _ in range(self.K):
            one = self._thinned(hop, x) if self.training and self.dropout else hop
            h = torch.add(one(h), x, alpha=self.alpha)
        return h

    def _thinned(self, hop: Hop, x: Tensor) -> Hop:
        """``hop`` without some of its edges; what is kept is scaled up."""
        (graph,), given = hop.args, dict(hop.keywords)
        kept = dropout(x.new_ones(graph.num_edges), self.dropout)
        given["w"] = kept if given["w"] is None else given["w"] * kept
        if given["diagonal"] is not None:
            kept = dropout(torch.ones_like(given["diagonal"]), self.dropout)
            given["diagonal"] = given["diagonal"] * kept
        return partial(spmm, graph, **given)

    def extra_repr(self) -> str:
        return f"K={self.K}, alpha={self.alpha}"


class AdaptivePropagation(nn.Module):
    r"""A sum over hops that each node weighs for itself (DAGNN), `Towards deeper graph neural
    networks <https://arxiv.org/abs/2007.09296>`_.

    .. math::
        H_k = \hat A^k X, \qquad X' = \sum_{k=0}^K \sigma(H_k w + b) \odot H_k

    with :math:`\hat A` the normalised adjacency of GCN. The weights of a node's hops do not sum up
    to 1, and ``w`` and ``b`` are the same for all hops.

    Args:
        channels: Features of each node.
        K: Number of hops; with 0 the result is :math:`\sigma(X w + b) \odot X`.
        cached: Keep the normalisation of the first graph for all later calls.
        add_self_loops: Add the diagonal.

    Shapes: ``x [N, channels]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns ``[N,
    channels]``. ``edge_mask [E]`` multiplies every edge's message in every hop.

    The sum grows hop by hop. The official code stacks all hops to ``[N, K + 1, channels]`` first,
    and squeezes the result, which is wrong for one node and for one channel.
    """

    normalize = True

    def __init__(
        self, channels: int, K: int, cached: bool = False, add_self_loops: bool = True
    ) -> None:
        super().__init__()
        self.channels = channels
        self.K = check_hops("AdaptivePropagation", K)
        self.cached = cached
        self.add_self_loops = add_self_loops
        self.proj = nn.Linear(channels, 1)
        self._cache: Scales | None = None

    def reset_parameters(self) -> None:
        self.proj.reset_parameters()
        self._cache = None

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        one_set_of_nodes("AdaptivePropagation", x)
        x, _, graph = read_input("AdaptivePropagation", x, edge_index, self.channels)
        hop = hop_of(self, graph, x.dtype, edge_weight, edge_mask)
        h, out = x, self._weight(x) * x
        for _ in range(self.K):
            h = hop(h)
            out = torch.addcmul(out, self._weight(h), h)
        return out

    def _weight(self, h: Tensor) -> Tensor:
        return self.proj(h).sigmoid().to(h.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, K={self.K}"


class PropagatedMLP(nn.Module):
    """An MLP on the features of each node, whose outputs are propagated: APPNP and DAGNN.

    Args:
        widths: Of the MLP, from input to output.
        propagation: What maps ``(outputs [N, out], graph)`` to the result, such as
            :class:`APPNP` or :class:`AdaptivePropagation`.
        dropout: Probability, on the features and behind every hidden layer.
        norm: ``batch_norm`` behind every hidden layer, or None.
        drop_input: Drop the features too.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns ``[N,
    out]``.
    """

    def __init__(
        self,
        widths: Sequence[int],
        propagation: nn.Module,
        dropout: float = 0.5,
        norm: str | None = None,
        drop_input: bool = True,
    ) -> None:
        super().__init__()
        self.mlp = MLP(widths, dropout=dropout, norm=norm)
        self.propagation = propagation
        self.dropout = dropout
        self.drop_input = drop_input

    @property
    def lins(self) -> nn.ModuleList:
        return self.mlp.lins

    def reset_parameters(self) -> None:
        reset(self.mlp)
        reset(self.propagation)

    def forward(self, x: Tensor, edge_index: Adj, edge_weight: Tensor | None = None) -> Tensor:
        x, _, graph = read_input("PropagatedMLP", x, edge_index, self.mlp.channel_list[0])
        h = dropped(sparse_if_few(x), self.dropout, self.training and self.drop_input)
        return self.propagation(self.mlp(h), graph, edge_weight)
