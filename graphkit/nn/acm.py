"""Adaptive channel mixing for graphs of any homophily."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError, nearest
from ..graph import Adj, Graph, as_graph
from ..ops import dropout, spmm
from ..structure.normalize import weighted_in_degree
from .inputs import (
    Features,
    edge_vector,
    one_set_of_nodes,
    over_blocks,
    read_input,
    sampled_share,
)
from .linear import reset

_VARIANTS = ("acm", "acmii")
_NORMS = ("rw", "sym")


class ACMConv(nn.Module):
    r"""Adaptive channel mixing, `Revisiting heterophily for graph neural networks
    <https://arxiv.org/abs/2210.07606>`_.

    A low-pass channel, a high-pass channel and an identity channel, mixed for each node:

    .. math::
        H_L &= \mathrm{ReLU}(\hat A X W_L), \quad H_H = \mathrm{ReLU}((I - \hat A) X W_H), \quad
        H_I = \mathrm{ReLU}(X W_I) \\
        [\alpha_L, \alpha_H, \alpha_I] &= \mathrm{softmax}\big([\sigma(H_L w_L),
        \sigma(H_H w_H), \sigma(H_I w_I)]\, W_{mix} / T\big) \\
        X' &= \mathrm{ReLU}(\alpha_L H_L + \alpha_H H_H + \alpha_I H_I)

    with :math:`\hat A = (D + I)^{-1}(A + I)`. ACMII applies the ReLU before the filters.

    Args:
        in_channels: Features of each node.
        out_channels: Features of each output row.
        variant: ``acm`` or ``acmii``.
        norm: ``rw`` for the row-normalised filter, ``sym`` for the symmetric one.
        layer_norm: Normalise each channel inside the mixing (ACM-GCN+).
        temperature: :math:`T`; the number of channels by default.
        scale_output: Multiply the output by the number of channels, as the official code does and
            the paper does not: uniform weights then give the plain sum of the channels.
        final_relu: Apply the outer ReLU. The official code leaves it out in the last layer, where
            it would take the negative logits from ACMII; in ACM it changes nothing.
        bias: Learn an additive bias in front of the channels (the paper has none).

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns
    ``[N, out]``, with ``return_weights`` also the mixing weights ``[N, 3]`` (low, high, identity).
    ``edge_mask [E]`` multiplies every edge's message.

    With ``whole``, the rows of :meth:`of_whole` of the destinations, ``x`` may be a pair of sources
    and destinations: the filters then compare a destination with its sources. On a sampled block
    the neighbours that were drawn count for all.

    Both filters are one product over the concatenated channels: the high-pass channel is
    ``h - filter(h)`` and its matrix never exists. The filters read edges in their direction; make
    the graph undirected for the published setting.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        variant: Literal["acm", "acmii"] = "acm",
        norm: Literal["rw", "sym"] = "rw",
        layer_norm: bool = False,
        temperature: float | None = None,
        scale_output: bool = False,
        final_relu: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        for name, value, known in (("variant", variant, _VARIANTS), ("norm", norm, _NORMS)):
            if value not in known:
                raise ConfigError(
                    f"ACMConv: unknown {name} {value!r}. {nearest(str(value), known)}"
                )
        if in_channels < 1 or out_channels < 1:
            raise ConfigError(
                f"ACMConv: in_channels={in_channels} and out_channels={out_channels} must both be "
                "at least 1; they cannot be read off the input."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.variant = variant
        self.norm = norm
        self.temperature = temperature
        self.scale_output = scale_output
        self.final_relu = final_relu
        self.lin = nn.Linear(in_channels, 3 * out_channels, bias=bias)
        self.att = nn.Parameter(torch.empty(3, out_channels))
        self.mix = nn.Parameter(torch.empty(3, 3))
        self.norms = None
        if layer_norm:
            self.norms = nn.ModuleList(nn.LayerNorm(out_channels) for _ in range(3))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.out_channels)
        for parameter in self.lin.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        nn.init.uniform_(self.att, -1, 1)
        nn.init.uniform_(self.mix, -1 / math.sqrt(3), 1 / math.sqrt(3))
        for norm in self.norms or ():
            reset(norm)

    def of_whole(self, graph: Graph) -> Tensor:
        """The in-degree of each node, ``[N, 1]``, for sampled blocks."""
        return graph.in_degree().float().unsqueeze(1)

    def forward(
        self,
        x: Features,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        return_weights: bool = False,
        *,
        edge_mask: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> Any:
        if whole is None:
            one_set_of_nodes("ACMConv", x)
        x, x_dst, graph = read_input("ACMConv", x, edge_index, self.in_channels)
        edge_weight = edge_vector("ACMConv", "edge_weight", edge_weight, graph)
        edge_mask = edge_vector("ACMConv", "edge_mask", edge_mask, graph)
        parts = [2 * self.out_channels, self.out_channels]
        if whole is None:
            both, own = self._channels(x).split(parts, dim=1)
            low = self._low_pass(graph, both, edge_weight, edge_mask)
        else:
            assert x_dst is not None
            if edge_weight is not None or self.norm != "rw":
                raise ConfigError(
                    "ACMConv: whole is for graphs without edge_weight and for norm='rw', but norm "
                    f"is {self.norm!r}."
                )
            h = self._channels(x)
            # without memory (meta tensors) all addresses are one
            is_block = x_dst.data_ptr() == x.data_ptr() and graph.num_dst <= len(x)
            h_dst = h[: graph.num_dst] if is_block else self._channels(x_dst)
            both, own = h_dst.split(parts, dim=1)
            share = sampled_share("ACMConv", graph, whole, 1)
            scale = (whole[: graph.num_dst, 0] + 1).reciprocal()
            low = spmm(graph, h[:, : parts[0]].contiguous(), edge_mask, left=scale * share)
            low = torch.addcmul(low, both, scale.to(both.dtype).unsqueeze(1))
        low, high = low.chunk(2, dim=1)
        high = both[:, self.out_channels :] - high
        if self.variant == "acm":
            low, high, own = low.relu(), high.relu(), own.relu()
        weights = self._mixing_weights([low, high, own])
        w_low, w_high, w_own = weights.to(low.dtype).split(1, dim=1)
        out = w_low * low + w_high * high + w_own * own
        out = out.relu() if self.final_relu else out
        out = 3 * out if self.scale_output else out
        return (out, weights) if return_weights else out

    def _channels(self, x: Tensor) -> Tensor:
        """The inputs of the low-pass, the high-pass and the identity channel side by side."""
        h = self.lin(x)
        return h.relu() if self.variant == "acmii" else h

    def _low_pass(
        self, graph: Graph, h: Tensor, edge_weight: Tensor | None, edge_mask: Tensor | None
    ) -> Tensor:
        weight = edge_weight
        if edge_mask is not None:
            weight = edge_mask if edge_weight is None else edge_weight * edge_mask
        degree = weighted_in_degree(graph, edge_weight, h.dtype) + 1
        ones = torch.ones_like(degree)
        if self.norm == "rw":
            return spmm(graph, h, weight, left=degree.reciprocal(), diagonal=ones)
        scale = degree.rsqrt()
        return spmm(graph, h, weight, left=scale, right=scale, diagonal=ones)

    def _mixing_weights(self, channels: list[Tensor]) -> Tensor:
        if self.norms is not None:
            channels = [norm(h) for norm, h in zip(self.norms, channels, strict=True)]
        pairs = zip(channels, self.att, strict=True)
        scores = torch.stack([h @ vector.to(h.dtype) for h, vector in pairs], dim=1).sigmoid()
        return (scores @ self.mix.to(scores.dtype) / (self.temperature or 3.0)).softmax(dim=1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, {self.variant}, norm={self.norm}"


class ACMGCN(nn.Module):
    """ACM-GCN or ACMII-GCN: :class:`ACMConv` layers with dropout on every input.

    Args:
        in_channels: Features of each node.
        hidden_channels: Features of every hidden layer.
        out_channels: Number of classes.
        num_layers: Number of layers.
        dropout: Probability, on the features and behind every hidden layer.
        variant: ``acm`` or ``acmii``.
        norm: ``rw`` or ``sym``.
        layer_norm: As in :class:`ACMConv`.
        scale_output: As in :class:`ACMConv`; on, as in the official code.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns logits ``[N, out]``. Of a list of
    blocks, one for each layer, with ``x`` and ``whole`` (:meth:`of_whole`) of the sources of the
    first: the logits of the last one's destinations.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 2,
        dropout: float = 0.5,
        variant: Literal["acm", "acmii"] = "acm",
        norm: Literal["rw", "sym"] = "rw",
        layer_norm: bool = False,
        scale_output: bool = True,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        self.convs = nn.ModuleList(
            ACMConv(
                widths[layer],
                widths[layer + 1],
                variant,
                norm,
                layer_norm,
                scale_output=scale_output,
                final_relu=layer < num_layers - 1,
            )
            for layer in range(num_layers)
        )

    def reset_parameters(self) -> None:
        for conv in self.convs:
            reset(conv)

    def of_whole(self, graph: Graph) -> Tensor | None:
        """What the layers need to know of the whole graph on sampled blocks, ``[N, 1]``."""
        return self.convs[0].of_whole(graph)  # pyright: ignore[reportCallIssue]

    def layer(self, number: int, x: Tensor, block: Graph, whole: Tensor | None) -> Tensor:
        """Layer ``number`` on a block; ``x`` and ``whole`` are of its sources."""
        x = dropout(x, self.dropout, self.training)
        return self.convs[number]((x, x[: block.num_dst]), block, whole=whole)

    def forward(
        self,
        x: Tensor,
        edge_index: Adj | Sequence[Graph],
        edge_weight: Tensor | None = None,
        *,
        whole: Tensor | None = None,
    ) -> Tensor:
        if isinstance(edge_index, Sequence):
            return over_blocks(self, x, edge_index, whole)
        graph = as_graph(edge_index, x.size(0), x.size(0))
        for conv in self.convs:
            x = dropout(x, self.dropout, self.training)
            x = conv(x, graph, edge_weight)
        return x
