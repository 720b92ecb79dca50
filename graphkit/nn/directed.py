"""Dir-GNN: one aggregation along the edges and one against them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as apply_linear
from torch.nn.functional import normalize as unit_rows

from ..errors import ConfigError, GraphError, nearest
from ..graph import Adj, Graph, missing_transpose
from ..ops import relu_dropout, spmm
from ..structure.directed import directed_scales, once, warn_if_symmetric
from .gat import GATConv
from .inputs import Features, edge_vector, one_set_of_nodes, read_input
from .linear import aggregate_first, is_built, linear, reset
from .sparse import SparseRows, apart, dropped, mapped, sparse_if_few

Share = float | nn.Parameter
_CONVS = ("gcn", "sage", "gat")
_JUMPS = ("max", "cat", "none")


def read_directed(
    layer: str, x: Features, edge_index: Adj, in_channels: int = -1, weighted: bool = False
) -> tuple[Tensor, Graph]:
    """``(x, graph)``, checked; the graph has both sides. Warns once of one without direction."""
    one_set_of_nodes(layer, x)
    x, _, graph = read_input(layer, x, edge_index, in_channels, transpose=True)
    if graph.by_src is None:
        raise GraphError(missing_transpose(layer))
    if not weighted:
        warn_if_symmetric(layer, edge_index, graph)
    return x, graph


def edge_factors(
    layer: str, edge_weight: Tensor | None, edge_mask: Tensor | None, graph: Graph
) -> tuple[Tensor | None, Tensor | None]:
    """``edge_weight [E]``, and it times ``edge_mask [E]``; None where there is nothing to apply."""
    edge_weight = edge_vector(layer, "edge_weight", edge_weight, graph)
    edge_mask = edge_vector(layer, "edge_mask", edge_mask, graph)
    if edge_weight is None or edge_mask is None:
        return edge_weight, edge_mask if edge_weight is None else edge_weight
    return edge_weight, edge_weight * edge_mask


class DirGCNConv(nn.Module):
    r"""Directed graph convolution, `Edge directionality improves learning on heterophilic graphs
    <https://arxiv.org/abs/2305.10498>`_.

    .. math::
        X' = \alpha (S X \Theta_{out} + b_{out}) + (1 - \alpha) (S^\top X \Theta_{in} + b_{in}),
        \qquad S = D_{out}^{-1/2} A D_{in}^{-1/2}

    where :math:`A_{uv}` counts the edges from u to v (the sum of ``edge_weight`` if given) and
    factors of degrees of 0 are 0: row u of :math:`S X` gathers the **out**-neighbours of u, so that
    ``alpha=1`` reads those alone.

    Args:
        in_channels: Features of each node, or -1 to read them off the first input.
        out_channels: Features of each output row.
        alpha: Share of the out-neighbours, from 0 to 1. A direction whose share is 0 has no
            parameters and costs nothing.
        learn_alpha: Make ``alpha`` a parameter, which training may take beyond 0 and 1.
        bias: Learn an additive bias for each direction.
        root_weight: Add a linear map of the node itself (the paper has none).

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns
    ``[N, out]``. ``edge_mask [E]`` multiplies every edge's message after normalisation.

    No self-loops are added. Both products read the one graph, whose two sides they need; the sums
    over neighbours come before the maps where that moves fewer bytes. PyG's
    ``DirGNNConv(GCNConv(...))`` is another layer: it takes the in-degrees of each direction for
    both ends. The official code keeps the :math:`S` of the first graph for all later ones.

    Warns of a graph whose edges all have their reverse, once for each graph, unless
    ``edge_weight`` is given.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        alpha: float = 0.5,
        learn_alpha: bool = False,
        bias: bool = True,
        root_weight: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.alpha, self.start = _share("DirGCNConv", alpha, learn_alpha)
        self.lin_out, self.lin_in = _two_maps(self.alpha, in_channels, out_channels, bias)
        self.lin_root = None
        if root_weight:
            self.lin_root = linear(in_channels, out_channels, bias=False, glorot=False)

    def reset_parameters(self) -> None:
        _reset(self)

    def forward(
        self,
        x: Tensor | SparseRows,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        rows, dense = apart(x)
        x, graph = read_directed(
            "DirGCNConv", dense, edge_index, self.in_channels, edge_weight is not None
        )
        edge_weight, w = edge_factors("DirGCNConv", edge_weight, edge_mask, graph)
        dtype = torch.promote_types(x.dtype, torch.float32)
        if edge_weight is None:
            key = "directed_scales", dtype
            out, into = once(graph, key, lambda: directed_scales(graph, dtype=dtype))
        else:
            out, into = directed_scales(graph, edge_weight, dtype=dtype)
        ways = (
            (self.lin_out, graph.t(), self.alpha, out, into),
            (self.lin_in, graph, 1 - self.alpha, into, out),
        )
        return _sum_of_ways(rows or x, w, ways, self.lin_root)  # pyright: ignore[reportArgumentType]

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, {_told(self.alpha)}"


class DirSAGEConv(nn.Module):
    r"""Directed GraphSAGE, `Edge directionality improves learning on heterophilic graphs
    <https://arxiv.org/abs/2305.10498>`_.

    .. math::
        x'_i = W x_i + b + (1 - \alpha) \big(W_{in}\, \mathrm{mean}_{j \to i} x_j + b_{in}\big) +
        \alpha \big(W_{out}\, \mathrm{mean}_{i \to j} x_j + b_{out}\big)

    Arguments as :class:`DirGCNConv`; ``root_weight`` is the :math:`W` term, on by default. Shapes:
    ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns ``[N, out]``. ``edge_mask [E]``
    multiplies every edge's message.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        alpha: float = 0.5,
        learn_alpha: bool = False,
        bias: bool = True,
        root_weight: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.alpha, self.start = _share("DirSAGEConv", alpha, learn_alpha)
        self.lin_out, self.lin_in = _two_maps(self.alpha, in_channels, out_channels, bias)
        self.lin_root = None
        if root_weight:
            self.lin_root = linear(in_channels, out_channels, bias=bias, glorot=False)

    def reset_parameters(self) -> None:
        _reset(self)

    def forward(
        self, x: Tensor | SparseRows, edge_index: Adj, *, edge_mask: Tensor | None = None
    ) -> Tensor:
        rows, dense = apart(x)
        x, graph = read_directed("DirSAGEConv", dense, edge_index, self.in_channels)
        edge_mask = edge_vector("DirSAGEConv", "edge_mask", edge_mask, graph)
        dtype = torch.promote_types(x.dtype, torch.float32)

        def means() -> tuple[Tensor, Tensor]:
            degrees = graph.out_degree(), graph.in_degree()
            out, into = (degree.clamp(min=1).to(dtype).reciprocal() for degree in degrees)
            return out, into

        out, into = once(graph, ("directed_means", dtype), means)
        ways = (
            (self.lin_out, graph.t(), self.alpha, out, None),
            (self.lin_in, graph, 1 - self.alpha, into, None),
        )
        return _sum_of_ways(rows or x, edge_mask, ways, self.lin_root)  # pyright: ignore[reportArgumentType]

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, {_told(self.alpha)}"


class DirGATConv(nn.Module):
    r"""Directed graph attention, `Edge directionality improves learning on heterophilic graphs
    <https://arxiv.org/abs/2305.10498>`_.

    .. math::
        X' = (1 - \alpha)\, \mathrm{GAT}_{in}(X, E) + \alpha\, \mathrm{GAT}_{out}(X, E^\top)

    Args:
        in_channels: Features of each node, or -1 to read them off the first input.
        out_channels: Features of each head.
        alpha: Share of the out-neighbours, as in :class:`DirGCNConv`.
        learn_alpha: As in :class:`DirGCNConv`.
        heads: Number of attention heads; the paper has one.
        dropout: Probability of dropping an attention coefficient.
        add_self_loops: Let every node attend to itself in both directions, as the authors do and
            PyG's ``DirGNNConv`` does not.
        bias: Learn an additive bias for each direction.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph; returns ``[N, heads * out]``.
    ``edge_mask [E]`` multiplies every edge's message.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        alpha: float = 0.5,
        learn_alpha: bool = False,
        heads: int = 1,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.alpha, self.start = _share("DirGATConv", alpha, learn_alpha)
        self.conv_out, self.conv_in = (
            GATConv(
                in_channels,
                out_channels,
                heads,
                dropout=dropout,
                add_self_loops=add_self_loops,
                bias=bias,
            )
            if is_read
            else None
            for is_read in _directions(self.alpha)
        )

    def reset_parameters(self) -> None:
        _reset(self)

    def forward(self, x: Tensor, edge_index: Adj, *, edge_mask: Tensor | None = None) -> Tensor:
        x, graph = read_directed("DirGATConv", x, edge_index, self.in_channels)
        parts: list[Tensor] = []
        if self.conv_out is not None:
            parts.append(self.alpha * self.conv_out(x, graph.t(), edge_mask=edge_mask))
        if self.conv_in is not None:
            parts.append((1 - self.alpha) * self.conv_in(x, graph, edge_mask=edge_mask))
        return reduce(torch.add, parts)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, {_told(self.alpha)}"


class DirGNN(nn.Module):
    """Dir-GNN: directed convolutions, and a classifier on what all of them saw.

    Every convolution is followed by ReLU, dropout and, with ``normalize``, a scaling of each row to
    unit length. ``jk`` joins the results of all layers before the linear classifier.

    Args:
        in_channels: Features of each node.
        hidden_channels: Features of every hidden layer.
        out_channels: Number of classes; None leaves the classifier out.
        num_layers: Number of convolutions.
        dropout: Probability behind every layer.
        conv: ``gcn``, ``sage`` or ``gat``.
        alpha: Share of the out-neighbours, in all layers.
        learn_alpha: Learn it, one number for all layers.
        jk: ``max``, ``cat`` or ``none``, where the last convolution gives the result.
        normalize: Scale the rows of every layer but the last result to unit length.
        drop_input: Also drop features (the official code does not).

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]`` for ``gcn``; returns
    logits ``[N, out]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int | None,
        num_layers: int = 2,
        dropout: float = 0.0,
        conv: Literal["gcn", "sage", "gat"] = "gcn",
        alpha: float = 0.5,
        learn_alpha: bool = False,
        jk: Literal["max", "cat", "none"] | None = "max",
        normalize: bool = False,
        drop_input: bool = False,
    ) -> None:
        super().__init__()
        jk = jk or "none"
        for name, value, known in (("conv", conv, _CONVS), ("jk", jk, _JUMPS)):
            if value not in known:
                raise ConfigError(f"DirGNN: unknown {name} {value!r}. {nearest(str(value), known)}")
        layer = {"gcn": DirGCNConv, "sage": DirSAGEConv, "gat": DirGATConv}[conv]
        self.in_channels = in_channels
        self.conv, self.jk = conv, jk
        self.dropout, self.normalize, self.drop_input = dropout, normalize, drop_input
        widths = [in_channels, *[hidden_channels] * num_layers]
        if jk == "none" and out_channels is not None:
            widths[-1] = out_channels
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.convs = nn.ModuleList(layer(a, b, alpha, learn_alpha) for a, b in pairs)
        if learn_alpha:
            for other in self.convs:
                other.alpha = self.convs[0].alpha
        joined = num_layers * hidden_channels if jk == "cat" else widths[-1]
        self.lin = None
        if jk != "none" and out_channels is not None:
            self.lin = nn.Linear(joined, out_channels)
        self.out_channels = joined if out_channels is None else out_channels

    def reset_parameters(self) -> None:
        for module in self.children():
            reset(module)

    def forward(self, x: Tensor, edge_index: Adj, edge_weight: Tensor | None = None) -> Tensor:
        if edge_weight is not None and self.conv != "gcn":
            raise ConfigError(
                f"DirGNN: edge_weight is for conv='gcn', but conv is {self.conv!r}. Leave it out."
            )
        weights = () if edge_weight is None else (edge_weight,)
        x, graph = read_directed("DirGNN", x, edge_index, self.in_channels, bool(weights))
        h = x if self.conv == "gat" else sparse_if_few(x)
        h = dropped(h, self.dropout, self.training and self.drop_input)
        seen: list[Tensor] = []
        for number, conv in enumerate(self.convs):
            x = conv(h if number == 0 else x, graph, *weights)
            if self.jk != "none" or number < len(self.convs) - 1:
                x = relu_dropout(x, self.dropout, self.training)
                x = unit_rows(x, dim=1) if self.normalize else x
            seen.append(x)
        if self.jk == "none":
            return x
        x = reduce(torch.maximum, seen) if self.jk == "max" else torch.cat(seen, dim=1)
        return x if self.lin is None else self.lin(x)


def _share(layer: str, alpha: float, learn: bool) -> tuple[Share, float]:
    """The share of the out-neighbours as layers keep it, and what a reset returns to."""
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
        raise ConfigError(f"{layer}: alpha is {alpha!r}, but a number from 0 to 1 is expected.")
    return (nn.Parameter(torch.tensor(float(alpha))) if learn else float(alpha)), float(alpha)


def _told(alpha: Share) -> str:
    return f"alpha={alpha.item() if isinstance(alpha, Tensor) else alpha:g}"


def _directions(alpha: Share) -> tuple[bool, bool]:
    """Whether out-neighbours are read, and whether in-neighbours are."""
    is_learnt = isinstance(alpha, Tensor)
    return is_learnt or alpha > 0, is_learnt or alpha < 1


def _two_maps(
    alpha: Share, in_channels: int, out_channels: int, bias: bool
) -> tuple[nn.Linear | None, nn.Linear | None]:
    out, into = (
        linear(in_channels, out_channels, bias=bias, glorot=False) if is_read else None
        for is_read in _directions(alpha)
    )
    return out, into


def _reset(layer: DirGCNConv | DirSAGEConv | DirGATConv) -> None:
    for module in layer.children():
        reset(module)
    if isinstance(layer.alpha, Tensor):
        nn.init.constant_(layer.alpha, layer.start)


def _sum_of_ways(
    x: Tensor | SparseRows,
    w: Tensor | None,
    ways: Sequence[tuple[nn.Linear | None, Graph, Share, Tensor, Tensor | None]],
    root: nn.Linear | None,
) -> Tensor:
    """The sum of ``share * (left * (edges of graph) * right * x @ weight.t() + bias)`` of the ways
    (map, graph, share, left, right), and of ``root`` of x itself."""
    out, bias = None, None
    for lin, graph, share, left, right in ways:
        if lin is None:
            continue
        if isinstance(x, Tensor) and not is_built(lin):
            lin(x[:0])
        # shares are among the scales, so that no pass over the results is needed
        left = left * share
        if isinstance(x, Tensor) and aggregate_first(x, lin, graph):
            part = apply_linear(spmm(graph, x, w, left=left, right=right), lin.weight)
        else:
            part = spmm(graph, mapped(x, lin, bias=False), w, left=left, right=right)
        out = part if out is None else out.add_(part)
        if lin.bias is not None:
            bias = share * lin.bias if bias is None else bias + share * lin.bias
    assert out is not None, "one of the shares is not 0"
    if root is not None:
        out = out.add_(mapped(x, root))
    return out if bias is None else out.add_(bias)
