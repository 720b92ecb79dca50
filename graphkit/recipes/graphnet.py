"""Whole-graph models by name: over categories or numbers, to outputs for each graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError
from ..graph import Graph, row_ids
from ..nn import (
    MLP,
    OCGIN,
    RQGNN,
    AttentionPooling,
    BernConv,
    ChebConv,
    DeepSVDDLoss,
    GATConv,
    GCNConv,
    GINConv,
    GINEConv,
)
from ..nn.linear import glorot_
from ..ops import gather, segment_reduce
from ..structure import rayleigh_quotient

Columns = int | Sequence[int]
"""The width of rows of numbers, or how many categories each column of integers has."""

Pool = Literal["mean", "sum", "attention"]


@dataclass(frozen=True)
class Frame:
    """What every model is told: columns of nodes and edges (None: none), widths, options."""

    model: str
    node: Columns
    edge: Columns | None
    hidden: int
    num_layers: int
    out: int
    dropout: float
    pool: Pool
    virtual_node: bool


class Categories(nn.Module):
    """The sum of a learnt vector for each column: ``[n, columns]`` int64 to ``[n, width]``."""

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(sum(sizes), width))
        for block in self.weight.data.split(list(sizes)):
            glorot_(block)
        begin = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("begin", begin, persistent=False)

    def forward(self, columns: Tensor) -> Tensor:
        rows = columns + self.get_buffer("begin")
        return functional.embedding_bag(rows, self.weight, mode="sum")


class EdgeGCN(nn.Module):
    r"""Graph convolution with a vector on every edge, as in OGB's examples for molecules.

    .. math::
        x'_i = \sum_{j \in N(i)} \frac{\mathrm{ReLU}(h_j + e_{ji})}{\sqrt{d_i d_j}} +
        \frac{\mathrm{ReLU}(h_i + r)}{d_i}, \qquad h = X W + b

    with :math:`d` the in-degree plus one and a learnt root :math:`r`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin = nn.Linear(width, width)
        self.root = nn.Parameter(torch.randn(1, width))

    def forward(self, x: Tensor, graph: Graph, edge: Tensor) -> Tensor:
        h = self.lin(x)
        degree = graph.in_degree().float().unsqueeze(1) + 1
        scale = degree.rsqrt()
        message = (gather(graph, h, "src") + edge).relu() * gather(graph, scale, "src")
        own = (h + self.root).relu() / degree
        return scale * segment_reduce(message, graph.by_dst) + own


class GraphNet(nn.Module):
    """Convolutions with batch norm and dropout, pooling, and a linear head: ``[G, out]``.

    Args:
        frame: what x and edge_attr hold, widths, number of convolutions, dropout behind every one
            of them. ``pool`` is the ``mean`` or ``sum`` of the nodes of a graph, or ``attention``:
            a mean weighed by a softmax over the nodes of an MLP's numbers. ``virtual_node`` gives
            each graph one more node, joined to all others, whose state is sent to them before every
            convolution but is not pooled (Gilmer et al., arXiv:1704.01212).
        conv: makes a convolution, called with the nodes' vectors and the graph, and with the edges'
            vectors where ``takes_edges``.
        takes_edges: have the convolutions vectors of edges? They are not read otherwise.
    """

    def __init__(
        self, frame: Frame, conv: Callable[[], nn.Module], *, takes_edges: bool = False
    ) -> None:
        super().__init__()
        hidden, edge = frame.hidden, frame.edge if takes_edges else None
        self.pool: Pool = frame.pool
        self.nodes = _encoder(frame.node, hidden)
        layers, virtual = range(frame.num_layers), frame.virtual_node
        between = range(frame.num_layers - 1 if virtual else 0)
        self.edges = nn.ModuleList(_encoder(edge, hidden) for _ in layers if edge is not None)
        self.convs = nn.ModuleList(conv() for _ in layers)
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in layers)
        self.start = nn.Parameter(torch.zeros(1, hidden)) if virtual else None
        widths = [hidden, 2 * hidden, hidden]
        self.updates = nn.ModuleList(MLP(widths, plain_last=False) for _ in between)
        self.drop = nn.Dropout(frame.dropout)
        attention = AttentionPooling(MLP([hidden, hidden, 1])) if self.pool == "attention" else None
        self.attention = attention
        self.head = nn.Linear(hidden, frame.out)

    def forward(
        self,
        x: Tensor,
        graph: Graph,
        edge_attr: Tensor | None,
        ptr: Tensor,
        rq: Tensor | None = None,
    ) -> Tensor:
        """The outputs of the graphs whose nodes begin at ``ptr [G + 1]``."""
        h, last = self.nodes(x), len(self.convs) - 1
        number = row_ids(ptr, x.size(0))
        state = None if self.start is None else self.start.expand(len(ptr) - 1, -1)
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = h if state is None else h + state[number]
            edge = (self.edges[layer](edge_attr),) if len(self.edges) else ()
            after = norm(conv(h, graph, *edge))
            if layer < last:
                after = after.relu()
                if state is not None:
                    state = self.drop(self.updates[layer](segment_reduce(h, ptr) + state))
            h = self.drop(after)
        if self.attention is not None:
            return self.head(self.attention(h, ptr=ptr))
        return self.head(segment_reduce(h, ptr, "sum" if self.pool == "sum" else "mean"))


class RQNet(nn.Module):
    """:class:`graphkit.nn.RQGNN` on one-hot categories, or on numbers as they are."""

    def __init__(self, frame: Frame, **options: Any) -> None:
        super().__init__()
        _fixed_readout(frame, "weighs nodes by Rayleigh quotients")
        self.sizes = frame.node
        about = width_of(frame.node), frame.hidden, frame.out
        self.net = RQGNN(*about, dropout=frame.dropout, **options)

    def forward(
        self,
        x: Tensor,
        graph: Graph,
        edge_attr: Tensor | None,
        ptr: Tensor,
        rq: Tensor | None = None,
    ) -> Tensor:
        """The outputs of the graphs; ``rq`` is what :meth:`quotients` returns, for all of them."""
        x = one_hot(x, self.sizes, self.net.head.weight.dtype)
        return self.net(x, graph, rq=rq, ptr=ptr)

    def quotients(self, x: Tensor, graph: Graph, ptr: Tensor) -> Tensor:
        """The Rayleigh quotients of the columns of each graph, which no training changes."""
        x = one_hot(x, self.sizes, self.net.head.weight.dtype)
        return rayleigh_quotient(x, graph, mode=self.net.rq_mode, ptr=ptr)


class OneClass(nn.Module):
    """:class:`graphkit.nn.OCGIN` as a model of two classes: ``[G, 2]``, 1 and distance / threshold.

    So class 1, the anomaly, is predicted beyond the threshold, which :meth:`fit_threshold` sets.
    Training sees normal graphs alone, and labels only to leave the others out.
    """

    def __init__(self, frame: Frame, *, batch_norm: bool) -> None:
        super().__init__()
        _fixed_readout(frame, "sums up the nodes of every layer")
        if frame.out != 2:
            raise ConfigError(
                f"Model {frame.model!r} tells anomalies from normal graphs, but there are "
                f"{frame.out} outputs. Give data of two classes, and anomaly=True."
            )
        self.sizes, self.criterion = frame.node, DeepSVDDLoss()
        self.net = OCGIN(width_of(frame.node), frame.hidden, frame.num_layers, batch_norm)
        self.register_buffer("threshold", torch.ones(()))

    def forward(
        self,
        x: Tensor,
        graph: Graph,
        edge_attr: Tensor | None,
        ptr: Tensor,
        rq: Tensor | None = None,
    ) -> Tensor:
        threshold = self.get_buffer("threshold")
        distance = self.net(one_hot(x, self.sizes, threshold.dtype), graph, ptr=ptr) / threshold
        return torch.stack([torch.ones_like(distance), distance], dim=1)

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """The mean distance of the normal graphs among those with outputs ``out [G, 2]``."""
        return self.criterion(out[y == 0, 1].float() * self.get_buffer("threshold"))

    def embed(self, x: Tensor, graph: Graph, ptr: Tensor) -> Tensor:
        """The vectors whose mean over normal graphs is the centre, before training."""
        dtype = self.get_buffer("threshold").dtype
        return self.net.embed(one_hot(x, self.sizes, dtype), graph, ptr=ptr)

    @torch.no_grad()
    def fit_threshold(self, out: Tensor, rate: float) -> None:
        """Have the share ``rate`` of the normal graphs with outputs ``out [G, 2]`` beyond it."""
        threshold = self.get_buffer("threshold")
        ratio = torch.quantile(out[:, 1].float(), 1 - rate).clamp(min=torch.finfo().tiny)
        threshold.copy_(ratio * threshold)


def _gin(frame: Frame) -> GraphNet:
    width = frame.hidden
    layer = GINConv if frame.edge is None else GINEConv

    def conv() -> nn.Module:
        return layer(MLP([width, 2 * width, width]), train_eps=True)

    return GraphNet(frame, conv, takes_edges=True)


def _gcn(frame: Frame) -> GraphNet:
    width, edges = frame.hidden, frame.edge is not None
    conv = (lambda: EdgeGCN(width)) if edges else (lambda: GCNConv(width, width))
    return GraphNet(frame, conv, takes_edges=True)


def _gat(frame: Frame, *, heads: int = 8) -> GraphNet:
    width = frame.hidden
    if heads < 1 or width % heads:
        raise ConfigError(f"gat: hidden is {width}, which is not a multiple of its {heads} heads.")
    return GraphNet(frame, lambda: GATConv(width, width // heads, heads))


def _cheb(frame: Frame, *, K: int = 3) -> GraphNet:
    return GraphNet(frame, lambda: ChebConv(frame.hidden, frame.hidden, K))


def _bern(frame: Frame, *, K: int = 10) -> GraphNet:
    return GraphNet(frame, lambda: BernConv(frame.hidden, frame.hidden, K))


def _rqgnn(
    frame: Frame,
    *,
    width: int = 4,
    depth: int = 6,
    batch_norm: bool = True,
    train_filters: bool = True,
    use_rql: bool = True,
    use_pooling: bool = True,
    rq_mode: Literal["quotient", "energy"] = "quotient",
) -> RQNet:
    options = dict(width=width, depth=depth, batch_norm=batch_norm, train_filters=train_filters)
    return RQNet(frame, **options, use_rql=use_rql, use_pooling=use_pooling, rq_mode=rq_mode)


def _ocgin(frame: Frame, *, batch_norm: bool = True) -> OneClass:
    return OneClass(frame, batch_norm=batch_norm)


GRAPH_MODELS: dict[str, Callable[..., nn.Module]] = {
    "bern": _bern,
    "cheb": _cheb,
    "gat": _gat,
    "gcn": _gcn,
    "gin": _gin,
    "ocgin": _ocgin,
    "rqgnn": _rqgnn,
}
"""Model name to a function of a :class:`Frame`; what else it takes, by keyword alone, are the
model's own options. All are called as ``model(x, graph, edge_attr, ptr, rq)``."""

# those whose convolutions read vectors of edges
WITH_EDGES = ("gcn", "gin")


def graph_net(
    model: str,
    node: Columns,
    edge: Columns | None,
    hidden: int,
    num_layers: int,
    out: int,
    *,
    dropout: float,
    pool: Pool,
    virtual_node: bool,
    model_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The model of a name, as runs keep it beside their weights.

    Raises :class:`ConfigError` for options that do not go together.
    """
    widths = hidden, num_layers, out
    frame = Frame(model, node, edge, *widths, dropout, pool, virtual_node)
    return GRAPH_MODELS[model](frame, **(model_options or {}))


def width_of(columns: Columns) -> int:
    """The width of what :func:`one_hot` returns."""
    return columns if isinstance(columns, int) else sum(columns)


def one_hot(x: Tensor, columns: Columns, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers as they are; categories [N, columns] as a 1 for each, beside each other."""
    if isinstance(columns, int):
        return x
    begin = torch.tensor([0, *columns[:-1]], device=x.device).cumsum(0)
    return x.new_zeros(len(x), sum(columns), dtype=dtype).scatter_(1, x + begin, 1.0)


def _fixed_readout(frame: Frame, how: str) -> None:
    if frame.pool != "mean" or frame.virtual_node:
        raise ConfigError(
            f"Model {frame.model!r} {how} and has no virtual node, but pool={frame.pool!r} and "
            f"virtual_node={frame.virtual_node} were asked for. Leave them at 'mean' and False."
        )


def _encoder(columns: Columns, width: int) -> nn.Module:
    return nn.Linear(columns, width) if isinstance(columns, int) else Categories(columns, width)
