"""Deep networks of generalised aggregation: GENConv, residual blocks, ResGCN+ (DeeperGCN)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ..errors import ConfigError, GraphError, nearest
from ..graph import Adj, Graph
from ..ops import dropout, gather, relu_dropout, segment_reduce, segment_softmax, spmm
from ..ops.check import check_edges, check_values
from .inputs import Channels, Features, edge_vector, read_input
from .linear import linear, reset

_AGGREGATIONS = ("softmax", "softmax_sg", "powermean", "power", "add", "sum", "mean", "max", "min")
_NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
_BLOCKS = ("res+", "res", "dense", "plain")

# exponentials lie from exp(_TOP) down: sums have room above, and what is 120 below still counts
_TOP, _LOW = 40.0, -80.0


class _MessageNorm(nn.Module):
    """Messages of the length of the node's own features, times a factor."""

    def __init__(self, learn_scale: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(1), requires_grad=learn_scale)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return functional.normalize(message, dim=-1) * length * self.scale


class GENConv(nn.Module):
    r"""Generalised aggregation, `DeeperGCN: all you need to train deeper GCNs
    <https://arxiv.org/abs/2006.07739>`_.

    .. math::
        x'_i = \mathrm{MLP}\big(x_i + \mathrm{aggr}_{j \in N(i)}\, m_{ji}\big), \qquad
        m_{ji} = \mathrm{ReLU}(x_j + e_{ji}) + \epsilon

    with, for each channel, :math:`\mathrm{softmax}: \sum_j m_j e^{t m_j} / \sum_j e^{t m_j}` and
    :math:`\mathrm{powermean}: \big(\frac{1}{|N(i)|} \sum_j m_j^p\big)^{1/p}`.

    Args:
        in_channels: Features of each node, a pair for sources and destinations, or -1; mapped
            linearly to ``out_channels`` where they differ.
        out_channels: Features of each output row.
        aggr: ``softmax``, ``powermean`` (or ``power``), ``add`` (or ``sum``), ``mean``, ``max`` or
            ``min``; ``softmax_sg`` is a softmax whose weights have no gradient.
        t: (Initial) inverse temperature of the softmax.
        learn_t: Learn it.
        p: (Initial) power of the power mean, not 0.
        learn_p: Learn it.
        msg_norm: Give the aggregated message the length of the node's own features.
        learn_msg_scale: Learn a factor of that length.
        norm: ``batch`` or ``layer`` behind every hidden layer of the MLP, or None.
        num_layers: Linear maps of the MLP.
        expansion: Width of its hidden layers, in multiples of ``out_channels``.
        eps: :math:`\epsilon`.
        bias: Learn additive biases.
        edge_dim: Width of ``edge_attr``, mapped linearly to ``out_channels`` where it differs.

    Shapes: ``x [N, in]`` or ``([num_src, in], [num_dst, in] or None)``, ``edge_index [2, E]`` or
    Graph, ``edge_attr [E, edge_dim]``; returns ``[num_dst, out]``. ``edge_mask [E]`` multiplies
    every edge's term of the sum, mean or maximum, not its weight in the softmax.

    Parameters are named as in PyG (``lin_src``, ``lin_dst``, ``lin_edge``, ``mlp``, ``msg_norm``,
    ``aggr_module.t``). Without ``edge_attr`` a message depends on its source alone: the softmax is
    one product of twice the width over exponentials of nodes, nothing has a row for each edge.
    These are relative to the largest of the channel in the graph, and messages that lie below it by
    more than ``120 / t`` have all the same weight. Powers are relative to it too; PyG cuts messages
    and means of powers at 1e-4 and 100 instead. A node without neighbours gets the MLP of its own
    features.
    """

    def __init__(
        self,
        in_channels: Channels,
        out_channels: int,
        aggr: str = "softmax",
        t: float = 1.0,
        learn_t: bool = False,
        p: float = 1.0,
        learn_p: bool = False,
        msg_norm: bool = False,
        learn_msg_scale: bool = False,
        norm: str | None = "batch",
        num_layers: int = 2,
        expansion: int = 2,
        eps: float = 1e-7,
        bias: bool = False,
        edge_dim: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, known in (("aggr", aggr, _AGGREGATIONS), ("norm", norm, _NORMS)):
            if not (value is None and name == "norm") and str(value) not in known:
                raise ConfigError(
                    f"GENConv: unknown {name} {value!r}. {nearest(str(value), known)}"
                )
        if p == 0:
            raise ConfigError("GENConv: p is 0, but a power mean needs another number.")
        if num_layers < 1 or expansion < 1:
            raise ConfigError(
                f"GENConv: num_layers={num_layers} and expansion={expansion} must both be at least "
                "1."
            )
        src, dst = in_channels if isinstance(in_channels, tuple) else (in_channels, in_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.aggr = {"power": "powermean", "sum": "add"}.get(aggr, aggr)
        self.initial = {"softmax": t, "softmax_sg": t, "powermean": p}.get(self.aggr, 1.0)
        self.eps = eps
        self.edge_dim = edge_dim
        # PyG's checkpoints name what is learnt aggr_module.t
        self.aggr_module = nn.Module()
        for name, learnt in (("t", learn_t), ("p", learn_p)):
            if learnt and self.aggr == {"t": "softmax", "p": "powermean"}[name]:
                self.aggr_module.register_parameter(name, nn.Parameter(torch.empty(1)))
        self.lin_src = self.lin_dst = self.lin_edge = None
        if src != out_channels:
            self.lin_src = linear(src, out_channels, bias=bias, glorot=False)
        if edge_dim is not None and edge_dim != out_channels:
            self.lin_edge = linear(edge_dim, out_channels, bias=bias, glorot=False)
        if dst != out_channels:
            self.lin_dst = linear(dst, out_channels, bias=bias, glorot=False)
        inner = [expansion * out_channels] * (num_layers - 1)
        self.mlp = _mlp([out_channels, *inner, out_channels], norm, bias)
        self.msg_norm = _MessageNorm(learn_msg_scale) if msg_norm else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in (self.lin_src, self.lin_dst, self.lin_edge, self.mlp, self.msg_norm):
            if module is not None:
                reset(module)
        for exponent in self.aggr_module.parameters():
            nn.init.constant_(exponent, self.initial)

    def forward(
        self,
        x: Features,
        edge_index: Adj,
        edge_attr: Tensor | None = None,
        size: tuple[int, int] | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        x_src, x_dst, graph = read_input("GENConv", x, edge_index, self.in_channels, size)
        edge_mask = edge_vector("GENConv", "edge_mask", edge_mask, graph)
        if self.msg_norm is not None and x_dst is None:
            raise GraphError("GENConv: x = (x_src, None), but its msg_norm needs x_dst as well.")
        h = x_src if self.lin_src is None else self.lin_src(x_src)
        if edge_attr is None:
            out = self._of_nodes(graph, h.relu() + self.eps, edge_mask)
        else:
            message = gather(graph, h, "src") + self._edges(graph, edge_attr, h)
            out = self._of_edges(graph, message.relu() + self.eps, edge_mask)
        out = out.to(h.dtype)
        if self.msg_norm is not None:
            out = self.msg_norm(x_dst, out)
        if x_dst is not None:
            out = out + (x_dst if self.lin_dst is None else self.lin_dst(x_dst))
        return self.mlp(out)

    def _edges(self, graph: Graph, edge_attr: Tensor, h: Tensor) -> Tensor:
        check_edges("GENConv", "edge_attr", edge_attr, graph)
        width = self.out_channels if self.edge_dim is None else self.edge_dim
        if edge_attr.dim() != 2 or edge_attr.size(1) != width:
            raise GraphError(
                f"GENConv: edge_attr has shape {list(edge_attr.shape)}, but [E, {width}] is "
                "expected. Build the layer with the edge_dim it has."
            )
        return edge_attr if self.lin_edge is None else self.lin_edge(edge_attr)

    def _exponent(self) -> Any:
        """``t`` or ``p``: what is learnt, or the number."""
        return getattr(self.aggr_module, "p" if self.aggr == "powermean" else "t", self.initial)

    def _of_nodes(self, graph: Graph, m: Tensor, mask: Tensor | None) -> Tensor:
        """The aggregation of messages ``m [num_src, F]``, each the same for all edges of a node."""
        if self.aggr in ("softmax", "softmax_sg"):
            # a half has too few digits for weights
            m = m.to(torch.promote_types(m.dtype, torch.float32))
            z = m * self._exponent()
            z = (z - _largest(z) + _TOP).clamp(min=_LOW).exp()
            z = z.detach() if self.aggr == "softmax_sg" else z
            if mask is None:
                top, total = spmm(graph, torch.cat([z * m, z], dim=1)).chunk(2, dim=1)
            else:
                top, total = spmm(graph, z * m, mask), spmm(graph, z)
            return top / torch.where(total == 0, 1, total)
        if self.aggr == "powermean":
            m = m.to(torch.promote_types(m.dtype, torch.float32))
            unit = self._unit(m)
            return self._root(spmm(graph, self._powers(m, unit), mask, reduce="mean"), unit)
        return spmm(graph, m, mask, reduce="sum" if self.aggr == "add" else self.aggr)  # pyright: ignore[reportArgumentType]

    def _of_edges(self, graph: Graph, m: Tensor, mask: Tensor | None) -> Tensor:
        """The same for messages ``[E, F]`` that edges have a part in."""
        factor = 1 if mask is None else mask.unsqueeze(1).to(m.dtype)
        if self.aggr in ("softmax", "softmax_sg"):
            alpha = segment_softmax(m * self._exponent(), graph.by_dst)
            alpha = alpha.detach() if self.aggr == "softmax_sg" else alpha
            return segment_reduce(alpha * m * factor, graph.by_dst)
        if self.aggr == "powermean":
            unit = self._unit(m)
            powers = self._powers(m, unit) * factor
            return self._root(segment_reduce(powers, graph.by_dst, "mean"), unit)
        reduce: Any = "sum" if self.aggr == "add" else self.aggr
        return segment_reduce(m * factor, graph.by_dst, reduce)

    def _unit(self, m: Tensor) -> Tensor:
        """What each channel is measured in, so that no power overflows."""
        unit = _largest(m) if self.initial > 0 else -_largest(-m)
        return torch.where(unit == 0, 1, unit)

    def _powers(self, m: Tensor, unit: Tensor) -> Tensor:
        p = self._exponent()
        return m / unit if isinstance(p, float) and p == 1 else (m / unit) ** p

    def _root(self, mean: Tensor, unit: Tensor) -> Tensor:
        p = self._exponent()
        if isinstance(p, float) and p == 1:
            return mean * unit
        # the root of 0, which nodes without neighbours have, has no finite slope
        none = mean <= 0
        return torch.where(none, 0, torch.where(none, 1, mean) ** (1 / p) * unit)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, aggr={self.aggr}"


def _mlp(widths: list[int], norm: str | None, bias: bool) -> nn.Sequential:
    """As many modules as PyG's has, whose checkpoints count them."""
    modules: list[nn.Module] = []
    for number, width in enumerate(widths[1:-1]):
        modules.append(nn.Linear(widths[number], width, bias=bias))
        if norm is not None:
            modules.append(_NORMS[norm](width))
        modules += [nn.ReLU(), nn.Dropout(0.0)]
    return nn.Sequential(*modules, nn.Linear(widths[-2], widths[-1], bias=bias))


def _largest(values: Tensor) -> Tensor:
    """The largest of each column, as a constant; 1 where there are no rows."""
    if values.size(0) == 0:
        return values.new_ones(values.size(1))
    return values.detach().amax(dim=0)


class DeepGCNLayer(nn.Module):
    r"""A skip connection around a convolution, `DeeperGCN: all you need to train deeper GCNs
    <https://arxiv.org/abs/2006.07739>`_ and `DeepGCNs: can GCNs go as deep as CNNs?
    <https://arxiv.org/abs/1904.03751>`_.

    ``res+`` is norm, activation, dropout, convolution, and the sum with the input; ``res``,
    ``dense`` and ``plain`` are convolution, norm, activation, then the sum with the input, the
    concatenation behind it or neither, then dropout.

    Args:
        conv: Called as ``conv(h, edge_index, ...)``.
        norm: Normalisation, or None.
        act: Activation, or None.
        block: ``res+``, ``res``, ``dense`` or ``plain``.
        dropout: Probability.
        ckpt_grad: Keep nothing of the convolution for the gradient but compute it again.

    Shapes: ``x [N, F]``, ``edge_index [2, E]`` or Graph, and what else the convolution takes;
    returns ``[N, F]``, for ``dense`` ``[N, F + out]``.
    """

    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module | None = None,
        act: nn.Module | None = None,
        block: str = "res+",
        dropout: float = 0.0,
        ckpt_grad: bool = False,
    ) -> None:
        super().__init__()
        if block not in _BLOCKS:
            raise ConfigError(f"DeepGCNLayer: unknown block {block!r}. {nearest(block, _BLOCKS)}")
        self.conv = conv
        self.norm = norm
        self.act = act
        self.block = block
        self.dropout = dropout
        self.ckpt_grad = ckpt_grad

    def reset_parameters(self) -> None:
        for module in (self.conv, self.norm):
            if module is not None:
                reset(module)

    def forward(self, x: Tensor, edge_index: Adj, *args: Any, **kwargs: Any) -> Tensor:
        # the norm may come first, and tells of bad features in words of its own
        check_values("DeepGCNLayer", "x", x, getattr(edge_index, "device", x.device))
        if self.block == "res+":
            h = dropout(self._normed(x), self.dropout, self.training)
            return x + self._convolved(h, edge_index, *args, **kwargs)
        h = self._normed(self._convolved(x, edge_index, *args, **kwargs))
        if self.block == "res":
            h = x + h
        elif self.block == "dense":
            h = torch.cat([x, h], dim=-1)
        return dropout(h, self.dropout, self.training)

    def _normed(self, h: Tensor) -> Tensor:
        h = h if self.norm is None else self.norm(h)
        return h if self.act is None else self.act(h)

    def _convolved(self, h: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.ckpt_grad and h.requires_grad:
            return checkpoint(self.conv, h, *args, use_reentrant=False, **kwargs)
        return self.conv(h, *args, **kwargs)

    def extra_repr(self) -> str:
        return f"block={self.block}"


class DeeperGCN(nn.Module):
    """ResGCN+: a linear map, pre-activation residual blocks of :class:`GENConv`, a linear map.

    Args:
        in_channels: Features of each node.
        hidden_channels: Features in all layers.
        out_channels: Number of classes.
        num_layers: Number of :class:`GENConv` layers. The first stands without norm and residual.
        dropout: Probability, in front of every layer and of both maps.
        norm: ``layer`` or ``batch``, in the blocks and in the layers' MLPs.
        drop_input: Drop the features too.
        aggr, t, learn_t, p, learn_p, msg_norm, learn_msg_scale: As in :class:`GENConv`.
        mlp_layers: Linear maps of the MLP of each layer.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns logits ``[N, out]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 28,
        dropout: float = 0.5,
        norm: str = "layer",
        drop_input: bool = True,
        aggr: str = "softmax",
        t: float = 1.0,
        learn_t: bool = True,
        p: float = 1.0,
        learn_p: bool = False,
        msg_norm: bool = False,
        learn_msg_scale: bool = False,
        mlp_layers: int = 2,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.dropout = dropout
        self.drop_input = drop_input
        widths = [in_channels, hidden_channels, out_channels]
        self.lins = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.convs = nn.ModuleList()
        for number in range(num_layers):
            conv = GENConv(
                hidden_channels,
                hidden_channels,
                aggr,
                t,
                learn_t,
                p,
                learn_p,
                msg_norm,
                learn_msg_scale,
                norm,
                mlp_layers,
            )
            if number:
                conv = DeepGCNLayer(conv, _NORMS[norm](hidden_channels), nn.ReLU(), dropout=dropout)
            self.convs.append(conv)
        self.norm = _NORMS[norm](hidden_channels)

    def reset_parameters(self) -> None:
        for child in self.children():
            reset(child)

    def forward(self, x: Tensor, edge_index: Adj) -> Tensor:
        x, _, graph = read_input("DeeperGCN", x, edge_index, self.in_channels)
        x = dropout(x, self.dropout, self.training and self.drop_input)
        first, last = self.lins
        x = first(x)
        for conv in self.convs:
            x = conv(x, graph)
        return last(relu_dropout(self.norm(x), self.dropout, self.training))
