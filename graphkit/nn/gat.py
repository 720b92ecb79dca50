"""Attention convolutions: GAT and GATv2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, GraphError, nearest
from ..graph import Adj, Graph
from ..ops import gat_attention, gather, gatv2_attention, segment_reduce, spmm
from ..ops.attention import softmax_with_loop
from ..ops.check import check_edges
from ..structure.normalize import self_loop_mask
from .inputs import Channels, Features, edge_vector, read_input
from .linear import glorot_, linear, reset
from .sparse import SparseRows, apart, mapped

_FILLS = ("mean", "add", "sum", "max", "min")


class GATConv(nn.Module):
    r"""Graph attention, `Graph attention networks <https://arxiv.org/abs/1710.10903>`_.

    .. math::
        x'_i = \sum_{j \in N(i) \cup \{i\}} \alpha_{ij} \Theta x_j, \qquad
        \alpha_{ij} = \mathrm{softmax}_j\, \mathrm{LeakyReLU}\big(
        a_s^\top \Theta x_j + a_d^\top \Theta x_i + a_e^\top \Theta_e e_{ji}\big)

    Args:
        in_channels: Features of each node, a pair for sources and destinations, or -1.
        out_channels: Features of each head.
        heads: Number of attention heads.
        concat: Concatenate the heads; otherwise average them.
        negative_slope: Slope of the LeakyReLU for negative scores.
        dropout: Probability of dropping an attention coefficient.
        add_self_loops: Let every node attend to itself once, whatever loops the graph has.
        edge_dim: Width of ``edge_attr``.
        fill_value: ``edge_attr`` of the added self-loops: a number, a tensor ``[edge_dim]``, or
            ``mean``, ``add``, ``max``, ``min`` over the node's other edges.
        bias: Learn an additive bias.
        residual: Add a linear map of the destination's features.

    Shapes: ``x [N, in]`` or ``([num_src, in], [num_dst, in] or None)``, ``edge_index [2, E]`` or
    Graph, ``edge_attr [E, edge_dim]``; returns ``[num_dst, heads * out]`` (``[num_dst, out]`` for
    ``concat=False``). With ``return_attention_weights`` also PyG's pair ``(edge_index, alpha)`` in
    which self-loops come last. ``edge_mask [E]`` multiplies every edge's message.

    Parameters are named as in PyG. The self-loop is a term of its own, no edges are made.
    """

    # whether models may tell it sparse features by what is not 0 in them
    takes_sparse = True

    def __init__(
        self,
        in_channels: Channels,
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        edge_dim: int | None = None,
        fill_value: float | Tensor | str = "mean",
        bias: bool = True,
        residual: bool = False,
    ) -> None:
        super().__init__()
        _check_fill("GATConv", fill_value)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.concat = concat
        self.negative_slope = negative_slope
        self.dropout = dropout
        self.add_self_loops = add_self_loops
        self.edge_dim = edge_dim
        self.fill_value = fill_value
        width = heads * out_channels
        self.lin = self.lin_src = self.lin_dst = None
        if isinstance(in_channels, tuple):
            self.lin_src = linear(in_channels[0], width, bias=False, glorot=True)
            self.lin_dst = linear(in_channels[1], width, bias=False, glorot=True)
        else:
            self.lin = linear(in_channels, width, bias=False, glorot=True)
        self.att_src = nn.Parameter(torch.empty(1, heads, out_channels))
        self.att_dst = nn.Parameter(torch.empty(1, heads, out_channels))
        self.lin_edge = self.att_edge = None
        if edge_dim is not None:
            self.lin_edge = linear(edge_dim, width, bias=False, glorot=True)
            self.att_edge = nn.Parameter(torch.empty(1, heads, out_channels))
        self.res, self.bias = _residual_and_bias(self, residual, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset(self, self.att_src, self.att_dst, self.att_edge)

    def forward(
        self,
        x: Features | SparseRows,
        edge_index: Adj,
        edge_attr: Tensor | None = None,
        size: tuple[int, int] | None = None,
        return_attention_weights: bool | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Any:
        rows, dense = apart(x)
        x_src, x_dst, graph = read_input("GATConv", dense, edge_index, self.in_channels, size)
        shape = (-1, self.heads, self.out_channels)
        lin = self.lin or self.lin_src
        assert lin is not None, "one of both is there"
        h_src = mapped(rows or x_src, lin).view(shape)
        h_dst = h_src if self.lin is not None and x_dst is x_src else None
        if h_dst is None and x_dst is not None:
            h_dst = (self.lin or self.lin_dst)(x_dst).view(shape)  # pyright: ignore[reportOptionalCall]

        score_src, score_dst = _node_scores(self, h_src, h_dst)
        count = min(graph.num_src, graph.num_dst) if self.add_self_loops else None
        edge, edge_loop = _edge_and_loop_features(self, graph, edge_attr, count, scores=True)
        if edge_mask is None and return_attention_weights is None:
            out = gat_attention(
                graph,
                h_src,
                score_src,
                score_dst,
                edge,
                edge_loop,
                loops=self.add_self_loops,
                negative_slope=self.negative_slope,
                dropout=self.dropout if self.training else 0.0,
            )
            return _finish(self, x_dst, out)
        score = gather(graph, score_src, "src")
        loop = None if count is None else score_src[:count]
        if score_dst is not None:
            score = score + gather(graph, score_dst, "dst")
            loop = None if loop is None else loop + score_dst[:count]
        score = score if edge is None else score + edge
        loop = loop if loop is None or edge_loop is None else loop + edge_loop
        score = functional.leaky_relu(score, self.negative_slope)
        loop = None if loop is None else functional.leaky_relu(loop, self.negative_slope)
        return _attend(self, graph, x_dst, h_src, score, loop, edge_mask, return_attention_weights)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, heads={self.heads}"


class GATv2Conv(nn.Module):
    r"""Graph attention whose ranking of neighbours depends on the node, `How attentive are graph
    attention networks? <https://arxiv.org/abs/2105.14491>`_.

    .. math::
        x'_i = \sum_{j \in N(i) \cup \{i\}} \alpha_{ij} \Theta_l x_j, \qquad
        \alpha_{ij} = \mathrm{softmax}_j\, a^\top \mathrm{LeakyReLU}\big(
        \Theta_l x_j + \Theta_r x_i + \Theta_e e_{ji}\big)

    Arguments, shapes and results as :class:`GATConv`, and ``share_weights`` to use one map for
    both ends. Parameters are named as in PyG.
    """

    def __init__(
        self,
        in_channels: Channels,
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        edge_dim: int | None = None,
        fill_value: float | Tensor | str = "mean",
        bias: bool = True,
        share_weights: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        _check_fill("GATv2Conv", fill_value)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.concat = concat
        self.negative_slope = negative_slope
        self.dropout = dropout
        self.add_self_loops = add_self_loops
        self.edge_dim = edge_dim
        self.fill_value = fill_value
        self.share_weights = share_weights
        width = heads * out_channels
        src, dst = in_channels if isinstance(in_channels, tuple) else (in_channels, in_channels)
        self.lin_l = linear(src, width, bias=bias, glorot=True)
        self.lin_r = self.lin_l if share_weights else linear(dst, width, bias=bias, glorot=True)
        self.att = nn.Parameter(torch.empty(1, heads, out_channels))
        self.lin_edge = None
        if edge_dim is not None:
            self.lin_edge = linear(edge_dim, width, bias=False, glorot=True)
        self.res, self.bias = _residual_and_bias(self, residual, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _reset(self, self.att)

    def forward(
        self,
        x: Features,
        edge_index: Adj,
        edge_attr: Tensor | None = None,
        return_attention_weights: bool | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Any:
        if isinstance(x, (tuple, list)) and x[1] is None:
            raise GraphError("GATv2Conv: x = (x_src, None), but its scores need x_dst as well.")
        x_src, x_dst, graph = read_input("GATv2Conv", x, edge_index, self.in_channels)
        assert x_dst is not None, "read_input invents no None"
        shape = (-1, self.heads, self.out_channels)
        h_src = self.lin_l(x_src).view(shape)
        shared = self.share_weights and x_dst is x_src
        h_dst = h_src if shared else self.lin_r(x_dst).view(shape)
        if edge_mask is None and return_attention_weights is None and edge_attr is None:
            out = gatv2_attention(
                graph,
                h_src,
                h_dst,
                self.att.squeeze(0),
                loops=self.add_self_loops,
                negative_slope=self.negative_slope,
                dropout=self.dropout if self.training else 0.0,
            )
            return _finish(self, x_dst, out)
        score = gather(graph, h_src, "src") + gather(graph, h_dst, "dst")
        loop = None
        if self.add_self_loops:
            count = min(graph.num_src, graph.num_dst)
            loop = h_src[:count] + h_dst[:count]
        edge, edge_loop = _edge_and_loop_features(
            self, graph, edge_attr, None if loop is None else loop.size(0)
        )
        score = score if edge is None else score + edge
        if loop is not None and edge_loop is not None:
            loop = loop + edge_loop
        score = (functional.leaky_relu(score, self.negative_slope) * self.att).sum(-1)
        if loop is not None:
            loop = (functional.leaky_relu(loop, self.negative_slope) * self.att).sum(-1)
        return _attend(self, graph, x_dst, h_src, score, loop, edge_mask, return_attention_weights)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, heads={self.heads}"


def _node_scores(
    layer: GATConv, h_src: Tensor, h_dst: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """``<a_s, h>`` of the sources and ``<a_d, h>`` of the destinations, ``[N, H]``."""
    if h_dst is not h_src:
        score_src = (h_src * layer.att_src).sum(-1)
        return score_src, None if h_dst is None else (h_dst * layer.att_dst).sum(-1)
    # one product with a matrix that is diagonal in the heads reads h once
    att = torch.cat([layer.att_src, layer.att_dst]).to(h_src.dtype)
    spread = torch.eye(layer.heads, dtype=att.dtype, device=att.device)
    spread = torch.einsum("ahc,hg->hcag", att, spread).flatten(0, 1).flatten(1)
    both = h_src.flatten(1) @ spread
    return both[:, : layer.heads], both[:, layer.heads :]


def _finish(layer: GATConv | GATv2Conv, x_dst: Tensor | None, out: Tensor) -> Tensor:
    """What follows the weighted sum: heads, residual, bias."""
    # added to before it is flattened: a gradient through a view that was overwritten takes copies
    shape = out.shape[1:] if layer.concat else (layer.out_channels,)
    out = out if layer.concat else out.mean(1)
    if layer.res is not None and x_dst is not None:
        out = _added(out, layer.res(x_dst).view(-1, *shape))
    if layer.bias is not None:
        out = _added(out, layer.bias.view(shape))
    return out.flatten(1)


def _added(out: Tensor, term: Tensor) -> Tensor:
    # no gradient needs the sum of messages again, so that it may be overwritten
    return out.add_(term) if out.dtype == term.dtype else out + term


def _attend(
    layer: GATConv | GATv2Conv,
    graph: Graph,
    x_dst: Tensor | None,
    h_src: Tensor,
    score: Tensor,
    loop: Tensor | None,
    edge_mask: Tensor | None,
    return_weights: bool | None,
) -> Any:
    """The shared second half: softmax, dropout, weighted sum, heads, residual, bias."""
    alpha, alpha_loop, _, _ = softmax_with_loop(graph, score, loop)
    alpha = functional.dropout(alpha, layer.dropout, layer.training)
    edge_mask = edge_vector(type(layer).__name__, "edge_mask", edge_mask, graph)
    weight = alpha if edge_mask is None else alpha * edge_mask.unsqueeze(1)
    out = spmm(graph, h_src, weight)
    if alpha_loop is not None:
        alpha_loop = functional.dropout(alpha_loop, layer.dropout, layer.training)
        own = alpha_loop.to(out.dtype).unsqueeze(-1) * h_src[: alpha_loop.size(0)]
        rest = out.size(0) - own.size(0)
        out = out + (own if rest == 0 else functional.pad(own, (0, 0, 0, 0, 0, rest)))
    out = _finish(layer, x_dst, out)
    # PyG returns the weights whenever the argument is not None, even for False
    if return_weights is None:
        return out
    return out, _with_loops(graph, alpha, alpha_loop)


def _edge_and_loop_features(
    layer: GATConv | GATv2Conv,
    graph: Graph,
    edge_attr: Tensor | None,
    num_loops: int | None,
    scores: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """Mapped features ``[E, H, C]`` of the edges and ``[n, H, C]`` of the added self-loops, or
    GAT's scores of them, ``[E, H]`` and ``[n, H]``."""
    if edge_attr is None or layer.lin_edge is None:
        if edge_attr is not None:
            raise GraphError(
                f"{type(layer).__name__} got edge_attr but was built without edge_dim. "
                f"Build it with edge_dim={edge_attr.size(-1) if edge_attr.dim() > 1 else 1}."
            )
        return None, None
    check_edges(type(layer).__name__, "edge_attr", edge_attr, graph)
    attr = edge_attr.unsqueeze(1) if edge_attr.dim() == 1 else edge_attr
    if attr.dim() != 2 or attr.size(1) != layer.edge_dim:
        raise GraphError(
            f"{type(layer).__name__}: edge_attr has shape {list(edge_attr.shape)}, but [E, "
            f"{layer.edge_dim}] is expected. Build the layer with edge_dim={attr.size(-1)}."
        )
    shape = (-1, layer.heads, layer.out_channels)

    def mapped(features: Tensor) -> Tensor:
        each = layer.lin_edge(features).view(shape)  # pyright: ignore[reportOptionalCall]
        return (each * layer.att_edge).sum(-1) if scores else each

    if num_loops is None:
        return mapped(attr), None
    return mapped(attr), mapped(_loop_fill(graph, attr, layer.fill_value)[:num_loops])


def _loop_fill(graph: Graph, attr: Tensor, fill: float | Tensor | str) -> Tensor:
    if not isinstance(fill, str):
        value = torch.as_tensor(fill, dtype=attr.dtype, device=attr.device)
        return value.expand(graph.num_dst, attr.size(1))
    is_loop = self_loop_mask(graph).unsqueeze(1)
    if fill in ("max", "min"):
        worst = -torch.inf if fill == "max" else torch.inf
        out = segment_reduce(attr.masked_fill(is_loop, worst), graph.by_dst, fill)
        return out.masked_fill(out == worst, 0)
    total = segment_reduce(attr.masked_fill(is_loop, 0), graph.by_dst)
    if fill in ("add", "sum"):
        return total
    count = segment_reduce((~is_loop).to(attr.dtype), graph.by_dst)
    return total / count.clamp(min=1)


def _with_loops(graph: Graph, alpha: Tensor, alpha_loop: Tensor | None) -> tuple[Tensor, Tensor]:
    edge_index = graph.edge_index()
    if alpha_loop is None:
        return edge_index, alpha
    keep = edge_index[0] != edge_index[1]
    loops = torch.arange(alpha_loop.size(0), device=edge_index.device).expand(2, -1)
    return torch.cat([edge_index[:, keep], loops], 1), torch.cat([alpha[keep], alpha_loop])


def _residual_and_bias(
    layer: GATConv | GATv2Conv, residual: bool, bias: bool
) -> tuple[nn.Linear | None, nn.Parameter | None]:
    width = layer.out_channels * (layer.heads if layer.concat else 1)
    dst = layer.in_channels[1] if isinstance(layer.in_channels, tuple) else layer.in_channels
    return (
        linear(dst, width, bias=False, glorot=True) if residual else None,
        nn.Parameter(torch.empty(width)) if bias else None,
    )


def _reset(layer: GATConv | GATv2Conv, *attention: Tensor | None) -> None:
    for module in layer.children():
        reset(module)
    for vector in attention:
        if vector is not None:
            glorot_(vector)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _check_fill(layer: str, fill: float | Tensor | str) -> None:
    if isinstance(fill, str) and fill not in _FILLS:
        raise ConfigError(f"{layer}: unknown fill_value {fill!r}. {nearest(fill, _FILLS)}")
