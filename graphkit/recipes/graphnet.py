"""Whole-graph models: GIN and GCN over categories or numbers, with pooling and a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..graph import Graph, row_ids
from ..nn import MLP, GCNConv, GINConv, GINEConv
from ..nn.linear import glorot_
from ..ops import gather, segment_reduce

Columns = int | Sequence[int]
"""The width of rows of numbers, or how many categories each column of integers has."""


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
        model: ``gin``, or ``gcn``; with edge features GINE and :class:`EdgeGCN`.
        node: what x holds, see :data:`Columns`.
        edge: what edge_attr holds; None where there is none.
        hidden: width of all layers.
        num_layers: number of convolutions.
        out: outputs for each graph.
        dropout: probability behind every convolution.
        pool: ``mean`` or ``sum`` of the nodes of a graph.
        virtual_node: give each graph one more node, joined to all others, whose state is sent to
            them before every convolution but is not pooled (Gilmer et al., arXiv:1704.01212).
    """

    def __init__(
        self,
        model: str,
        node: Columns,
        edge: Columns | None,
        hidden: int,
        num_layers: int,
        out: int,
        *,
        dropout: float,
        pool: Literal["mean", "sum"],
        virtual_node: bool,
    ) -> None:
        super().__init__()
        self.pool: Literal["mean", "sum"] = pool
        self.nodes = _encoder(node, hidden)
        layers, between = range(num_layers), range(num_layers - 1 if virtual_node else 0)
        self.edges = nn.ModuleList(_encoder(edge, hidden) for _ in layers if edge is not None)
        self.convs = nn.ModuleList(_convolution(model, hidden, edge is not None) for _ in layers)
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in layers)
        self.start = nn.Parameter(torch.zeros(1, hidden)) if virtual_node else None
        widths = [hidden, 2 * hidden, hidden]
        self.updates = nn.ModuleList(MLP(widths, plain_last=False) for _ in between)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, out)

    def forward(self, x: Tensor, graph: Graph, edge_attr: Tensor | None, ptr: Tensor) -> Tensor:
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
        return self.head(segment_reduce(h, ptr, self.pool))


def _encoder(columns: Columns, width: int) -> nn.Module:
    return nn.Linear(columns, width) if isinstance(columns, int) else Categories(columns, width)


def _convolution(model: str, width: int, edges: bool) -> nn.Module:
    if model == "gcn":
        return EdgeGCN(width) if edges else GCNConv(width, width)
    network = MLP([width, 2 * width, width])
    return GINEConv(network, train_eps=True) if edges else GINConv(network, train_eps=True)
