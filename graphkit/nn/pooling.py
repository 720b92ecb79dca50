"""From the nodes of a graph to one vector: weighted by Rayleigh quotients, and by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import GraphError
from ..graph import Csr, Graph, batch_offsets, index_dtype, row_ids
from ..ops import sddmm, segment_reduce, segment_softmax, spmm
from .inputs import check_features
from .linear import reset


def members(ptr: Tensor, num_nodes: int) -> Graph:
    """Nodes as sources, the graphs that they belong to as destinations: nothing is sorted."""
    node = torch.arange(num_nodes + 1, device=ptr.device)
    by_dst = Csr(ptr, node[:-1].to(index_dtype(num_nodes)))
    by_src = Csr(node, row_ids(ptr, num_nodes).to(index_dtype(ptr.size(0) - 1)))
    return Graph(by_dst, by_src, ptr.size(0) - 1, num_nodes)


def leaky(x: Tensor) -> Tensor:
    """The activation of RQGNN everywhere, in the memory of ``x``, which a map has made."""
    return functional.leaky_relu_(x, 0.01)


class RQPooling(nn.Module):
    r"""A sum over the nodes of each graph, weighed by its Rayleigh quotients (RQGNN), `Rayleigh
    quotient graph neural networks for graph-level anomaly detection
    <https://arxiv.org/abs/2310.02861>`_.

    .. math::
        x_G = \sum_{i \in G} \langle h_i, m_G \rangle \, h_i, \qquad
        m_G = \phi(W_2 \, \phi(W_1 r_G + b_1) + b_2)

    with the LeakyReLU :math:`\phi` of slope 0.01. The weights are products as they are: no softmax,
    and they may be negative.

    Args:
        hidden_channels: Features of each node.
        rq_channels: Rayleigh quotients of each graph.

    Shapes: ``h [N, hidden]``, ``rq [B, rq_channels]``, ``batch [N]`` or ``ptr [B + 1]`` (one graph
    if neither is given); returns ``[B, hidden]``, 0 for a graph without nodes. No array of graphs
    and nodes is made, and no ``[N, hidden]`` of weighted nodes.
    """

    def __init__(self, hidden_channels: int, rq_channels: int) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.rq_channels = rq_channels
        widths = [rq_channels, hidden_channels, hidden_channels]
        self.lins = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))

    def reset_parameters(self) -> None:
        for lin in self.lins:
            reset(lin)

    def forward(
        self,
        h: Tensor,
        rq: Tensor,
        batch: Tensor | None = None,
        *,
        ptr: Tensor | None = None,
    ) -> Tensor:
        check_features("RQPooling", "h", h, self.hidden_channels)
        check_features("RQPooling", "rq", rq, self.rq_channels)
        ptr = batch_offsets("RQPooling", h.size(0), batch, ptr, h.device, rq.size(0))
        return self.pooled(h, rq, members(ptr, h.size(0)))

    def pooled(self, h: Tensor, rq: Tensor, graphs: Graph) -> Tensor:
        """As :meth:`forward`, for what :func:`members` returns."""
        m = rq
        for lin in self.lins:
            m = leaky(lin(m))
        return spmm(graphs, h, sddmm(graphs, m.to(h.dtype), h))

    def extra_repr(self) -> str:
        return f"{self.hidden_channels}, rq_channels={self.rq_channels}"


class AttentionPooling(nn.Module):
    r"""A mean over the nodes of each graph, weighed by a softmax, `Graph matching networks
    <https://arxiv.org/abs/1904.12787>`_ and `Gated graph sequence neural networks
    <https://arxiv.org/abs/1511.05493>`_.

    .. math::
        x_G = \sum_{i \in G} \mathrm{softmax}_{i \in G}\big(g(h_i)\big) \odot f(h_i)

    Args:
        gate_nn: The network :math:`g`, to one number for each node, or one for each feature.
        nn: The network :math:`f`; None for the features themselves.

    Shapes: ``x [N, F]``, ``batch [N]`` or ``ptr [B + 1]`` (one graph if neither is given),
    ``num_graphs`` where the last ones of ``batch`` may have no nodes; returns ``[B, F']``, 0 for a
    graph without nodes. Parameters are named as in PyG's ``AttentionalAggregation``.
    """

    def __init__(self, gate_nn: nn.Module, nn: nn.Module | None = None) -> None:
        super().__init__()
        self.gate_nn = gate_nn
        self.nn = nn

    def reset_parameters(self) -> None:
        reset(self.gate_nn)
        if self.nn is not None:
            reset(self.nn)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | None = None,
        *,
        ptr: Tensor | None = None,
        num_graphs: int | None = None,
    ) -> Tensor:
        check_features("AttentionPooling", "x", x, -1)
        ptr = batch_offsets("AttentionPooling", x.size(0), batch, ptr, x.device, num_graphs)
        value = x if self.nn is None else self.nn(x)
        gate = self.gate_nn(x)
        if gate.dim() != 2 or gate.size(1) not in (1, value.size(1)):
            raise GraphError(
                f"AttentionPooling: gate_nn returned {list(gate.shape)}, but [N, 1] or [N, "
                f"{value.size(1)}] is expected."
            )
        weight = segment_softmax(gate, ptr).to(value.dtype)
        if weight.size(1) == 1:
            return spmm(members(ptr, x.size(0)), value, weight)
        return segment_reduce(weight * value, ptr)
