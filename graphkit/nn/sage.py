"""GraphSAGE convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as apply_linear

from ..errors import ConfigError, nearest
from ..graph import Adj
from ..ops import spmm
from ..ops.spmm import Reduce
from .inputs import Channels, Features, edge_vector, read_input, with_first_rows
from .linear import aggregate_first, is_built, linear, reset

_AGGREGATIONS: dict[str, Reduce] = {
    "mean": "mean",
    "sum": "sum",
    "add": "sum",
    "max": "max",
    "min": "min",
}


class SAGEConv(nn.Module):
    r"""GraphSAGE, `Inductive representation learning on large graphs
    <https://arxiv.org/abs/1706.02216>`_.

    .. math::
        x'_i = W_1\, \mathrm{aggr}_{j \in N(i)} x_j + W_2 x_i + b

    Args:
        in_channels: Features of each node, a pair for sources and destinations, or -1.
        out_channels: Features of each output row.
        aggr: ``mean``, ``sum`` (or ``add``), ``max`` or ``min``.
        normalize: Scale each output row to unit length.
        root_weight: Include the :math:`W_2` term.
        project: Put a linear layer and a ReLU on the sources first.
        bias: Learn an additive bias.

    Shapes: ``x [N, in]`` or ``([num_src, in], [num_dst, in] or None)``, ``edge_index [2, E]`` or
    Graph; returns ``[num_dst, out]``. ``edge_mask [E]`` multiplies every edge's message.

    Parameters are named as in PyG (``lin_l``, ``lin_r``, ``lin``). Linear aggregations run after
    :math:`W_1` where that moves fewer bytes, which only reorders the arithmetic. ``max`` and
    ``min`` split the gradient evenly among equals. PyG's ``lstm`` and lists of aggregations are
    not offered.
    """

    def __init__(
        self,
        in_channels: Channels,
        out_channels: int,
        aggr: str = "mean",
        normalize: bool = False,
        root_weight: bool = True,
        project: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if str(aggr) not in _AGGREGATIONS:
            raise ConfigError(
                f"SAGEConv: unknown aggr {aggr!r}. {nearest(str(aggr), _AGGREGATIONS)}"
            )
        src, dst = in_channels if isinstance(in_channels, tuple) else (in_channels, in_channels)
        if project and src < 0:
            raise ConfigError("SAGEConv: project=True needs in_channels to be given, but got -1.")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.aggr = aggr
        self.normalize = normalize
        self.root_weight = root_weight
        self.project = project
        if project:
            self.lin = linear(src, src, glorot=False)
        self.lin_l = linear(src, out_channels, bias=bias, glorot=False)
        if root_weight:
            self.lin_r = linear(dst, out_channels, bias=False, glorot=False)

    def reset_parameters(self) -> None:
        for module in self.children():
            reset(module)

    def forward(
        self,
        x: Features,
        edge_index: Adj,
        size: tuple[int, int] | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        x_src, x_dst, graph = read_input("SAGEConv", x, edge_index, self.in_channels, size)
        if self.root_weight:
            x_src, x_dst = with_first_rows(x_src, x_dst)
        if self.project:
            x_src = self.lin(x_src).relu()
        edge_mask = edge_vector("SAGEConv", "edge_mask", edge_mask, graph)
        reduce = _AGGREGATIONS[self.aggr]
        if reduce in ("mean", "sum") and not aggregate_first(x_src, self.lin_l, graph):
            h = spmm(graph, apply_linear(x_src, self.lin_l.weight), edge_mask, reduce=reduce)
            out = h if self.lin_l.bias is None else h + self.lin_l.bias
        else:
            out = self.lin_l(spmm(graph, x_src, edge_mask, reduce=reduce))
        if self.root_weight and x_dst is not None:
            if is_built(self.lin_r):
                # one pass less than a sum behind the map; in place unless a hook has seen it, or
                # autocast has to cast, which it does not for ops in place
                weight = self.lin_r.weight
                is_seen = self.lin_l._forward_hooks or not out.dtype == x_dst.dtype == weight.dtype
                out = (torch.addmm if is_seen else Tensor.addmm_)(out, x_dst, weight.t())
            else:
                out = out + self.lin_r(x_dst)
        return torch.nn.functional.normalize(out, dim=-1) if self.normalize else out

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, aggr={self.aggr}"
