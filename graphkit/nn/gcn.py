"""Graph convolution (Kipf and Welling)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..graph import Adj, Graph
from ..ops import spmm
from ..structure.normalize import gcn_scales
from .inputs import edge_vector, one_set_of_nodes, read_input
from .linear import aggregate_first, linear


class GCNConv(nn.Module):
    r"""Graph convolution, `Semi-supervised classification with graph convolutional networks
    <https://arxiv.org/abs/1609.02907>`_.

    .. math::
        X' = \hat D^{-1/2} \hat A \hat D^{-1/2} X \Theta + b, \qquad \hat A = A + I

    with :math:`\hat D` the in-degrees of :math:`\hat A` (sums of ``edge_weight`` if given).

    Args:
        in_channels: Features of each node, or -1 to read them off the first input.
        out_channels: Features of each output row.
        improved: Use :math:`A + 2I`.
        cached: Keep the normalisation of the first graph for all later calls. For training on one
            fixed graph; another graph after that gives wrong results.
        add_self_loops: Add the diagonal; on by default exactly if ``normalize``.
        normalize: Apply the normalisation; otherwise the plain weighted sum is used.
        bias: Learn an additive bias.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns
    ``[N, out]``. ``edge_mask [E]`` multiplies every edge's message after normalisation.

    Parameters are named as in PyG (``lin.weight``, ``bias``). Self-loops are a term on the
    diagonal, no edges are made. The sum over neighbours comes before :math:`\Theta` where that
    moves fewer bytes. PyG ignores ``improved`` where no ``edge_weight`` is given and keeps one of
    several parallel self-loops; here both do what the formula says.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        improved: bool = False,
        cached: bool = False,
        add_self_loops: bool | None = None,
        normalize: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if add_self_loops and not normalize:
            raise ConfigError(
                "GCNConv: add_self_loops=True needs normalize=True. Add the loops to edge_index "
                "yourself, or leave normalize on."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.improved = improved
        self.cached = cached
        self.add_self_loops = normalize if add_self_loops is None else add_self_loops
        self.normalize = normalize
        self.lin = linear(in_channels, out_channels, bias=False, glorot=True)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self._cache: tuple[Tensor, Tensor | None] | None = None

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        one_set_of_nodes("GCNConv", x)
        x, _, graph = read_input("GCNConv", x, edge_index, self.in_channels)
        edge_weight = edge_vector("GCNConv", "edge_weight", edge_weight, graph)
        edge_mask = edge_vector("GCNConv", "edge_mask", edge_mask, graph)
        if aggregate_first(x, self.lin):
            out = self.lin(self._propagate(graph, x, edge_weight, edge_mask))
        else:
            out = self._propagate(graph, self.lin(x), edge_weight, edge_mask)
        return out if self.bias is None else out + self.bias

    def _propagate(
        self, graph: Graph, h: Tensor, edge_weight: Tensor | None, edge_mask: Tensor | None
    ) -> Tensor:
        weight = edge_weight
        if edge_mask is not None:
            weight = edge_mask if edge_weight is None else edge_weight * edge_mask
        if not self.normalize:
            return spmm(graph, h, weight)
        dtype = torch.promote_types(h.dtype, torch.float32)
        scale, diagonal = self._scales(graph, edge_weight, dtype)
        return spmm(graph, h, weight, left=scale, right=scale, diagonal=diagonal)

    def _scales(
        self, graph: Graph, edge_weight: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        if self._cache is None:
            scales = gcn_scales(
                graph,
                edge_weight,
                improved=self.improved,
                add_self_loops=self.add_self_loops,
                dtype=dtype,
            )
            if not self.cached:
                return scales
            self._cache = scales
        return self._cache

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"
