"""Graph convolution (Kipf and Welling)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..graph import Adj, Graph
from ..ops import spmm
from ..structure.normalize import gcn_scales
from .inputs import Features, edge_vector, one_set_of_nodes, read_input, sampled_share
from .linear import aggregate_first, linear
from .sparse import SparseRows, apart, mapped


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

    On a sampled block, whose destinations are its first sources: ``x = (x_src, x_dst)`` and
    ``whole [num_src, 3]``, the rows of :meth:`of_whole` of its sources. Degrees are then those of
    the whole graph, and the neighbours that were drawn count for all: an unbiased estimate of the
    product, and equal to it where all were drawn. (With LABOR it is too small by the chance that
    none was drawn: 5 % for a fan-out of 3, nothing from 10 on.)

    Parameters are named as in PyG (``lin.weight``, ``bias``). Self-loops are a term on the
    diagonal, no edges are made. The sum over neighbours comes before :math:`\Theta` where that
    moves fewer bytes. PyG ignores ``improved`` where no ``edge_weight`` is given and keeps one of
    several parallel self-loops; here both do what the formula says.
    """

    # whether models may tell it sparse features by what is not 0 in them
    takes_sparse = True

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

    def of_whole(self, graph: Graph) -> Tensor:
        """In-degree, scale and self-loop of each node, ``[N, 3]``, for sampled blocks."""
        scale, diagonal = self._scales(graph, None, torch.float32)
        columns = [graph.in_degree().float(), scale]
        columns.append(torch.zeros_like(scale) if diagonal is None else diagonal)
        return torch.stack(columns, dim=1)

    def forward(
        self,
        x: Features | SparseRows,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> Tensor:
        rows, dense = apart(x)
        if whole is not None:
            return self._on_block(dense, edge_index, edge_weight, edge_mask, whole)
        one_set_of_nodes("GCNConv", dense)
        x, _, graph = read_input("GCNConv", dense, edge_index, self.in_channels)
        edge_weight = edge_vector("GCNConv", "edge_weight", edge_weight, graph)
        edge_mask = edge_vector("GCNConv", "edge_mask", edge_mask, graph)
        if rows is None and aggregate_first(x, self.lin, graph):
            out = self.lin(self._propagate(graph, x, edge_weight, edge_mask))
        else:
            out = self._propagate(graph, mapped(rows or x, self.lin), edge_weight, edge_mask)
        return out if self.bias is None else out + self.bias

    def _on_block(
        self,
        x: Features,
        edge_index: Adj,
        edge_weight: Tensor | None,
        edge_mask: Tensor | None,
        whole: Tensor,
    ) -> Tensor:
        x, _, graph = read_input("GCNConv", x, edge_index, self.in_channels)
        if edge_weight is not None or not self.normalize or whole.size(0) != graph.num_src:
            raise ConfigError(
                "GCNConv: whole is for normalised graphs without edge_weight, and needs a row for "
                f"each of the {graph.num_src} sources of the block."
            )
        share = sampled_share("GCNConv", graph, whole, 3)
        w = edge_vector("GCNConv", "edge_mask", edge_mask, graph)
        _, scale, diagonal = whole.unbind(1)
        left = scale[: graph.num_dst]
        own = (left * left * diagonal[: graph.num_dst]).unsqueeze(1)
        first = aggregate_first(x, self.lin, graph)
        h = x if first else self.lin(x)
        out = spmm(graph, h, w, left=left * share, right=scale)
        out = torch.addcmul(out, h[: graph.num_dst], own.to(h.dtype))
        out = self.lin(out) if first else out
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
