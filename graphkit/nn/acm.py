"""Adaptive channel mixing for graphs of any homophily: layer, ACM-GCN(+, ++), SGC, Snowball."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError, GraphError, nearest
from ..graph import Adj, Graph, as_graph
from ..ops import dropout, mix_channels, relu_dropout, spmm
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
from .sparse import SparseRows, apart, dropped, mapped, sparse_if_few

_VARIANTS = ("acm", "acmii")
_NORMS = ("rw", "sym")
Variant = Literal["acm", "acmii"]
Filter = Literal["rw", "sym"]


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

    with :math:`\hat A = (D + I)^{-1}(A + I)`. ACMII applies the ReLU before the filters. The
    structure channel of ACM-GCN+ is a fourth one, :math:`H_A = \mathrm{ReLU}(A W_A)`, which has a
    row of parameters for each node: the layer then knows the nodes it was built for and no others.

    Args:
        in_channels: Features of each node.
        out_channels: Features of each output row.
        variant: ``acm`` or ``acmii``.
        norm: ``rw`` for the row-normalised filter, ``sym`` for the symmetric one.
        layer_norm: Normalise each channel inside the mixing (ACM-GCN+); the official code for
            small graphs means to and never does, as it asks for the model by another name.
        temperature: :math:`T`; the number of channels by default.
        scale_output: Multiply the output by 3, as the official code does where there are three
            channels and the paper does not: uniform weights then give the plain sum of the
            channels. Without effect beside a structure channel.
        final_relu: Apply the outer ReLU. The official code leaves it out in the last layer, where
            it would take the negative logits from ACMII; in ACM it changes nothing.
        bias: Learn an additive bias in front of the channels (the paper has none).
        structure_nodes: The number of nodes that the structure channel is for; None: no such
            channel, and no parameters for it.
        hops: Apply the low-pass filter so often, as ACM-SGC does; the high-pass one stays of one
            hop, as in the official code.
        channel_relu: Cut ACM's channels off at 0; ACM-SGC does not. The structure channel is cut
            off in any case, and ACMII in front of its filters.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns
    ``[N, out]``, with ``return_weights`` also the mixing weights ``[N, 3]`` (low, high, identity),
    ``[N, 4]`` with a structure channel. ``edge_mask [E]`` multiplies every edge's message.

    With ``whole``, the rows of :meth:`of_whole` of the destinations, ``x`` may be a pair of sources
    and destinations: the filters then compare a destination with its sources. On a sampled block
    the neighbours that were drawn count for all. The structure channel needs the rows of the
    sources, which say what nodes they are.

    Both filters are one product over the concatenated channels: the high-pass channel is
    ``h - filter(h)`` and its matrix never exists. The filters read edges in their direction; make
    the graph undirected for the published setting. In the structure channel :math:`A` has no
    normalisation and no loops but the graph's own, as in the official code.

    Raises :class:`GraphError` where a structure channel is given a graph of another number of
    nodes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        variant: Variant = "acm",
        norm: Filter = "rw",
        layer_norm: bool = False,
        temperature: float | None = None,
        scale_output: bool = False,
        final_relu: bool = True,
        bias: bool = False,
        structure_nodes: int | None = None,
        hops: int = 1,
        channel_relu: bool = True,
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
        for name, value in (("structure_nodes", structure_nodes), ("hops", hops)):
            if value is not None and (isinstance(value, bool) or value < 1):
                raise ConfigError(
                    f"ACMConv: {name} is {value!r}, but a whole number, at least 1, is expected."
                )
        if temperature is not None and not temperature > 0:
            raise ConfigError(
                f"ACMConv: temperature is {temperature!r}, but a number above 0 is expected."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.variant = variant
        self.norm = norm
        self.temperature = temperature
        self.scale_output = scale_output
        self.final_relu = final_relu
        self.structure_nodes = structure_nodes
        self.hops = hops
        self.channel_relu = channel_relu
        count = 3 if structure_nodes is None else 4
        self.lin = nn.Linear(in_channels, 3 * out_channels, bias=bias)
        self.att = nn.Parameter(torch.empty(count, out_channels))
        self.mix = nn.Parameter(torch.empty(count, count))
        self.structure = None
        if structure_nodes is not None:
            self.structure = nn.Parameter(torch.empty(structure_nodes, out_channels))
        self.norms = None
        if layer_norm:
            self.norms = nn.ModuleList(nn.LayerNorm(out_channels) for _ in range(count))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.out_channels)
        for parameter in self.lin.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        if self.structure is not None:
            nn.init.uniform_(self.structure, -bound, bound)
        nn.init.uniform_(self.att, -1, 1)
        nn.init.uniform_(self.mix, -1 / math.sqrt(len(self.mix)), 1 / math.sqrt(len(self.mix)))
        for norm in self.norms or ():
            reset(norm)

    def of_whole(self, graph: Graph) -> Tensor:
        """The in-degree of each node, ``[N, 1]``, for sampled blocks; with a structure channel
        ``[N, 2]``, its number behind it."""
        degree = graph.in_degree().float().unsqueeze(1)
        if self.structure is None:
            return degree
        self._check_nodes(graph.num_dst)
        # float32 has the whole numbers up to 2 ** 24 alone
        number = torch.arange(graph.num_dst, device=degree.device, dtype=torch.float64)
        return torch.stack([degree.squeeze(1).double(), number], dim=1)

    def forward(
        self,
        x: Features | SparseRows,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        return_weights: bool = False,
        *,
        edge_mask: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> Any:
        # the first is what a model makes of its features, if they are sparse
        rows, given = apart(x)
        if whole is None:
            one_set_of_nodes("ACMConv", given)
        x, x_dst, graph = read_input("ACMConv", given, edge_index, self.in_channels)
        edge_weight = edge_vector("ACMConv", "edge_weight", edge_weight, graph)
        edge_mask = edge_vector("ACMConv", "edge_mask", edge_mask, graph)
        h = self._channels(x if rows is None else rows)
        if whole is None:
            both, rest = _parts(h, self.out_channels)
            low, structure = self._filtered(graph, both, edge_weight, edge_mask)
        else:
            assert x_dst is not None
            if edge_weight is not None or self.norm != "rw" or self.hops > 1:
                raise ConfigError(
                    "ACMConv: whole is for graphs without edge_weight, for norm='rw' and hops=1, "
                    f"but norm is {self.norm!r} and hops is {self.hops}."
                )
            # without memory (meta tensors) all addresses are one
            is_block = x_dst.data_ptr() == x.data_ptr() and graph.num_dst <= len(x)
            h_dst = h[: graph.num_dst] if is_block else self._channels(x_dst)
            low, structure = self._filtered_block(graph, h, h_dst, edge_mask, whole)
            rest = h_dst[:, self.out_channels :]
        out, weights = self._mixed(low, rest, structure)
        return (out, weights) if return_weights else out

    def _channels(self, x: Tensor | SparseRows) -> Tensor:
        """The inputs of the low-pass, the high-pass and the identity channel side by side."""
        h = mapped(x, self.lin)
        return h.relu() if self.variant == "acmii" else h

    def _filtered(
        self, graph: Graph, h: Tensor, edge_weight: Tensor | None, edge_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """What the filter makes of ``h``, and the structure channel before its ReLU."""
        weight = edge_weight
        if edge_mask is not None:
            weight = edge_mask if edge_weight is None else edge_weight * edge_mask
        degree = weighted_in_degree(graph, edge_weight, h.dtype) + 1
        scales: dict[str, Any] = {"diagonal": torch.ones_like(degree)}
        if self.norm == "rw":
            scales["left"] = degree.reciprocal()
        else:
            scales["left"] = scales["right"] = degree.rsqrt()
        low = spmm(graph, h, weight, **scales)
        if self.hops > 1:
            far, high = low.chunk(2, dim=1)
            for _ in range(self.hops - 1):
                far = spmm(graph, far, weight, **scales)
            low = torch.cat([far, high], dim=1)
        if self.structure is None:
            return low, None
        self._check_nodes(graph.num_dst)
        return low, spmm(graph, self.structure.to(h.dtype), weight)

    def _filtered_block(
        self,
        graph: Graph,
        h: Tensor,
        h_dst: Tensor,
        edge_mask: Tensor | None,
        whole: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """The same on a sampled block, of which ``whole`` knows the rest."""
        width, columns = 2 * self.out_channels, 1 if self.structure is None else 2
        share = sampled_share("ACMConv", graph, whole, columns)
        scale = (whole[: graph.num_dst, 0] + 1).reciprocal()
        low = spmm(graph, h[:, :width], edge_mask, left=scale * share)
        low = torch.addcmul(low, h_dst[:, :width], scale.to(h.dtype).unsqueeze(1))
        if self.structure is None:
            return low, None
        if len(whole) != graph.num_src:
            raise GraphError(
                f"ACMConv: whole has {len(whole)} rows, but the structure channel needs one for "
                f"each of the {graph.num_src} sources of the block: they say what nodes these are."
            )
        rows = self.structure.to(h.dtype)[whole[:, 1].long()]
        return low, spmm(graph, rows, edge_mask, left=share)

    def _mixed(self, low: Tensor, rest: Tensor, structure: Tensor | None) -> tuple[Tensor, Tensor]:
        att, shift, eps = self.att, None, None
        if self.norms is not None:
            # what a norm does behind its statistics is a linear map, like the product behind it
            att = torch.stack([norm.weight for norm in self.norms]) * self.att  # pyright: ignore
            shift = (torch.stack([norm.bias for norm in self.norms]) * self.att).sum(1)  # pyright: ignore
            eps = self.norms[0].eps
        return mix_channels(
            low,
            rest,
            att,
            self.mix / (self.temperature or len(self.mix)),
            structure=structure,
            shift=shift,
            eps=eps,  # pyright: ignore[reportArgumentType]
            relu=self.channel_relu and self.variant == "acm",
            final_relu=self.final_relu,
            scale=3.0 if self.scale_output and structure is None else 1.0,
        )

    def _check_nodes(self, num_nodes: int) -> None:
        if num_nodes != self.structure_nodes:
            raise GraphError(
                f"ACMConv: the structure channel has a row of parameters for each of "
                f"{self.structure_nodes} nodes, but the graph has {num_nodes}: it knows no others. "
                f"Give that graph, or build the layer with structure_nodes={num_nodes} and train "
                "it, or leave structure_nodes out."
            )

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, {self.variant}, norm={self.norm}"
        more = {"structure_nodes": self.structure_nodes}
        more["hops"] = self.hops if self.hops > 1 else None
        named = [f"{name}={value}" for name, value in more.items() if value is not None]
        return ", ".join([text, *named])


class _Parts(torch.autograd.Function):
    """What is filtered of the three channels, and what is not: two views that overlap.

    Torch would fill and add up two gradients of all three.
    """

    @staticmethod
    def forward(h: Tensor, width: int) -> tuple[Tensor, Tensor]:
        return h[:, : 2 * width], h[:, width:]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.width = inputs[1]

    @staticmethod
    def backward(ctx: Any, both: Tensor, rest: Tensor) -> Any:
        low, high = both.chunk(2, dim=1)
        high_too, own = rest.chunk(2, dim=1)
        if torch.is_grad_enabled():
            return torch.cat([low, high + high_too, own], dim=1), None
        out = low.new_empty(len(low), 3 * ctx.width)
        to_low, to_high, to_own = out.chunk(3, dim=1)
        to_low.copy_(low)
        torch.add(high, high_too, out=to_high)
        to_own.copy_(own)
        return out, None


def _parts(h: Tensor, width: int) -> tuple[Tensor, Tensor]:
    if torch.compiler.is_compiling() or not h.requires_grad:
        return h[:, : 2 * width], h[:, width:]
    return _Parts.apply(h, width)  # pyright: ignore[reportReturnType]


class _Model(nn.Module):
    """Layers that mix channels, over a graph or over sampled blocks, one for each layer."""

    convs: nn.ModuleList
    dropout: float
    # whether the features may be told by what is not 0 in them
    takes_sparse = True

    def reset_parameters(self) -> None:
        for child in self.children():
            reset(child)

    def of_whole(self, graph: Graph) -> Tensor | None:
        """What the layers need to know of the whole graph on sampled blocks."""
        return self.convs[0].of_whole(graph)  # pyright: ignore[reportCallIssue]

    def layer(self, number: int, x: Tensor, block: Graph, whole: Tensor | None) -> Tensor:
        """Layer ``number`` on a block; ``x`` and ``whole`` are of its sources."""

        def conv(x: Tensor) -> Tensor:
            return self.convs[number]((x, x[: block.num_dst]), block, whole=whole)

        return self._step(number, x, conv, block.num_dst)

    def forward(
        self,
        x: Tensor,
        edge_index: Adj | Sequence[Graph],
        edge_weight: Tensor | None = None,
        return_weights: bool = False,
        *,
        whole: Tensor | None = None,
    ) -> Any:
        if isinstance(edge_index, Sequence):
            if return_weights:
                raise ConfigError(
                    f"{type(self).__name__}: return_weights is for a graph, but blocks were given. "
                    "Call the model on the whole graph."
                )
            return over_blocks(self, x, edge_index, whole)
        num_nodes, seen = x.size(0), []
        graph = as_graph(edge_index, num_nodes, num_nodes)
        h = sparse_if_few(x) if self.takes_sparse else x
        for number in range(len(self.convs)):
            conv = partial(self._conv, number, graph, edge_weight, seen)
            h = self._step(number, h, conv, num_nodes)
        return (h, seen) if return_weights else h

    def _conv(
        self,
        number: int,
        graph: Graph,
        edge_weight: Tensor | None,
        seen: list[Tensor],
        x: Tensor | SparseRows,
    ) -> Tensor:
        out, weights = self.convs[number](x, graph, edge_weight, return_weights=True)
        seen.append(weights)
        return out

    def _step(self, number: int, x: Any, conv: Callable[[Any], Tensor], num_dst: int) -> Tensor:
        """What the next layer takes, or the logits; ``conv`` is layer ``number``."""
        raise NotImplementedError


class ACMGCN(_Model):
    r"""ACM-GCN, ACMII-GCN, and with more options ACM-GCN+ and ++: :class:`ACMConv` layers with
    dropout on every input.

    ACM-GCN+ is ``layer_norm=True``, optionally with ``structure_nodes``; ACM-GCN++ has
    ``residual`` besides: :math:`\mathrm{ReLU}(X W_X + b)`, with dropout, joins what goes into the
    second layer, once, as in the official code.

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
        structure_nodes: As in :class:`ACMConv`, for every layer.
        residual: Let the features join the input of the second layer.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns logits ``[N, out]``, with
    ``return_weights`` also a list of the mixing weights of each layer. Of a list of blocks, one for
    each layer, with ``x`` and ``whole`` (:meth:`of_whole`) of the sources of the first: the logits
    of the last one's destinations.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 2,
        dropout: float = 0.5,
        variant: Variant = "acm",
        norm: Filter = "rw",
        layer_norm: bool = False,
        scale_output: bool = True,
        structure_nodes: int | None = None,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        if residual and num_layers < 2:
            raise ConfigError(
                f"ACMGCN: residual joins the input of the second layer, but num_layers is "
                f"{num_layers}. Give it two layers, or leave residual out."
            )
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
                structure_nodes=structure_nodes,
            )
            for layer in range(num_layers)
        )
        self.residual = nn.Linear(in_channels, hidden_channels) if residual else None

    def _step(self, number: int, x: Any, conv: Callable[[Any], Tensor], num_dst: int) -> Tensor:
        x = dropped(x, self.dropout, self.training) if number == 0 else x
        out = conv(x)
        if number == len(self.convs) - 1:
            return out
        out = dropout(out, self.dropout, self.training)
        if number == 0 and self.residual is not None:
            own = mapped(x if isinstance(x, SparseRows) else x[:num_dst], self.residual)
            out = out + relu_dropout(own, self.dropout, self.training)
        return out


class ACMSGC(_Model):
    r"""ACM-SGC-k: one :class:`ACMConv` without a nonlinearity, whose low-pass filter is
    :math:`\hat A^k`; the high-pass one stays of one hop, as in the official code.

    The paper has no ACMII-SGC. Here ``acmii`` is its second option as it stands: the channels are
    cut off at 0 in front of the filters, and nothing else is.

    Args:
        in_channels: Features of each node.
        out_channels: Number of classes.
        hops: :math:`k`.
        dropout: Probability, on the features.
        variant: ``acm`` or ``acmii``.
        norm: ``rw`` or ``sym``.
        layer_norm: As in :class:`ACMConv`.
        scale_output: As in :class:`ACMConv`; on, as in the official code.

    Shapes: as in :class:`ACMGCN`. More hops than one are for whole graphs.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hops: int = 1,
        dropout: float = 0.5,
        variant: Variant = "acm",
        norm: Filter = "rw",
        layer_norm: bool = False,
        scale_output: bool = True,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        options: dict[str, Any] = dict(scale_output=scale_output, final_relu=False, hops=hops)
        conv = ACMConv(
            *(in_channels, out_channels, variant, norm, layer_norm),
            **options,
            channel_relu=False,
        )
        self.convs = nn.ModuleList([conv])

    def _step(self, number: int, x: Any, conv: Callable[[Any], Tensor], num_dst: int) -> Tensor:
        return conv(dropped(x, self.dropout, self.training))


class ACMSnowball(_Model):
    """ACM-Snowball: every :class:`ACMConv` takes the features and what all layers before it gave.

    Args:
        in_channels: Features of each node.
        hidden_channels: Features that every hidden layer adds.
        out_channels: Number of classes.
        num_layers: Number of layers, the last one included.
        dropout: Probability, on the features and behind every hidden layer.
        variant: ``acm`` or ``acmii``.
        norm: ``rw`` or ``sym``.
        layer_norm: As in :class:`ACMConv`.
        scale_output: As in :class:`ACMConv`; on, as in the official code.

    Shapes: as in :class:`ACMGCN`.
    """

    takes_sparse = False

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 2,
        dropout: float = 0.5,
        variant: Variant = "acm",
        norm: Filter = "rw",
        layer_norm: bool = False,
        scale_output: bool = True,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.convs = nn.ModuleList(
            ACMConv(
                in_channels + layer * hidden_channels,
                hidden_channels if layer < num_layers - 1 else out_channels,
                variant,
                norm,
                layer_norm,
                scale_output=scale_output,
                final_relu=layer < num_layers - 1,
            )
            for layer in range(num_layers)
        )

    def _step(self, number: int, x: Any, conv: Callable[[Any], Tensor], num_dst: int) -> Tensor:
        x = dropout(x, self.dropout, self.training) if number == 0 else x
        out = conv(x)
        if number == len(self.convs) - 1:
            return out
        return torch.cat([x[:num_dst], dropout(out, self.dropout, self.training)], dim=1)
