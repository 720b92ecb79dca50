"""Deep graph convolutions with initial residual and identity mapping: GCNII."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..graph import Adj
from ..ops import dropout, relu_dropout
from ..structure.normalize import gcn_scales
from .inputs import edge_vector, one_set_of_nodes, read_input
from .linear import glorot_
from .propagate import Scales, check_share, hop_of
from .sparse import dropped, mapped, sparse_if_few


class GCN2Conv(nn.Module):
    r"""One layer of GCNII, `Simple and deep graph convolutional networks
    <https://arxiv.org/abs/2007.02133>`_.

    .. math::
        X' = \big((1 - \alpha) \hat P X + \alpha X^{(0)}\big)
        \big((1 - \beta) I + \beta \Theta\big), \qquad \beta = \log(\theta / \ell + 1)

    with :math:`\hat P` the normalised adjacency of GCN.

    Args:
        channels: Features of each node, before and behind the layer.
        alpha: Share of the initial features :math:`X^{(0)}`.
        theta: Strength :math:`\theta` of the map; with ``layer``, or both None for :math:`\beta=1`.
        layer: Number :math:`\ell` of the layer, from 1.
        shared_weights: One map for both terms; otherwise one for each (GCNII*).
        cached: Keep the normalisation of the first graph for all later calls.
        add_self_loops: Add the diagonal.
        normalize: Apply the normalisation; otherwise the plain weighted sum is used.

    Shapes: ``x [N, channels]``, ``x_0 [N, channels]``, ``edge_index [2, E]`` or Graph,
    ``edge_weight [E]``; returns ``[N, channels]``. ``edge_mask [E]`` multiplies every edge's
    message. ``scales`` is what ``structure.gcn_scales`` returns, where the caller has it already.

    Parameters are named as in PyG (``weight1``, ``weight2``). GCNII* is the paper's; the official
    code scales neither term of what its two maps read.
    """

    def __init__(
        self,
        channels: int,
        alpha: float,
        theta: float | None = None,
        layer: int | None = None,
        shared_weights: bool = True,
        cached: bool = False,
        add_self_loops: bool = True,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if (theta is None) != (layer is None):
            raise ConfigError(
                f"GCN2Conv: theta is {theta} and layer {layer}, but both are needed for beta = "
                "log(theta / layer + 1), or neither for beta = 1."
            )
        self.channels = channels
        self.alpha = check_share("GCN2Conv", "alpha", alpha)
        self.beta = 1.0
        if theta is not None and layer is not None:
            if theta <= 0 or layer < 1:
                raise ConfigError(
                    f"GCN2Conv: theta is {theta} and layer {layer}, but a number above 0 and one "
                    "from 1 on are expected."
                )
            self.beta = math.log(theta / layer + 1)
        self.cached = cached
        self.add_self_loops = add_self_loops
        self.normalize = normalize
        self.weight1 = nn.Parameter(torch.empty(channels, channels))
        self.weight2 = None if shared_weights else nn.Parameter(torch.empty(channels, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for weight in self.parameters():
            glorot_(weight)
        self._cache: Scales | None = None

    def forward(
        self,
        x: Tensor,
        x_0: Tensor,
        edge_index: Adj,
        edge_weight: Tensor | None = None,
        *,
        edge_mask: Tensor | None = None,
        scales: Scales | None = None,
    ) -> Tensor:
        one_set_of_nodes("GCN2Conv", x)
        x, _, graph = read_input("GCN2Conv", x, edge_index, self.channels)
        x_0, _, _ = read_input("GCN2Conv", x_0, graph, self.channels)
        h = hop_of(self, graph, x.dtype, edge_weight, edge_mask, 1 - self.alpha, scales)(x)
        if self.weight2 is None:
            return self._mapped(torch.add(h, x_0, alpha=self.alpha), self.weight1)
        return self._mapped(h, self.weight1) + self._mapped(self.alpha * x_0, self.weight2)

    def _mapped(self, h: Tensor, weight: Tensor) -> Tensor:
        return torch.addmm(h, h, weight, beta=1 - self.beta, alpha=self.beta)

    def extra_repr(self) -> str:
        return f"{self.channels}, alpha={self.alpha}, beta={self.beta:.4f}"


class GCNII(nn.Module):
    """GCNII: a linear map, :class:`GCN2Conv` layers with ReLU between, and a linear map.

    Args:
        in_channels: Features of each node.
        hidden_channels: Features in all layers.
        out_channels: Number of classes.
        num_layers: Number of :class:`GCN2Conv` layers.
        dropout: Probability, on the input of every layer and of both maps.
        alpha: As in :class:`GCN2Conv`, in all layers.
        theta: As in :class:`GCN2Conv`, lambda in the paper.
        shared_weights: As in :class:`GCN2Conv`.
        drop_input: Drop the features too.
        lin_decay: Weight decay of the two linear maps, where it is not that of the layers; for
            :meth:`parameter_groups`.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_weight [E]``; returns logits ``[N,
    out]``.

    The layers' maps begin uniform within one over the root of ``hidden_channels``, as in the
    official code.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 64,
        dropout: float = 0.5,
        alpha: float = 0.1,
        theta: float = 0.5,
        shared_weights: bool = True,
        drop_input: bool = True,
        lin_decay: float | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.dropout = dropout
        self.drop_input = drop_input
        self.lin_decay = lin_decay
        widths = [in_channels, hidden_channels, out_channels]
        self.lins = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.convs = nn.ModuleList(
            GCN2Conv(hidden_channels, alpha, theta, number, shared_weights)
            for number in range(1, num_layers + 1)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for lin in self.lins:
            lin.reset_parameters()  # pyright: ignore[reportCallIssue]
        for weight in self.convs.parameters():
            bound = 1 / math.sqrt(weight.size(1))
            nn.init.uniform_(weight, -bound, bound)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """What an optimizer takes: the layers with ``weight_decay``, the maps with their own."""
        own = weight_decay if self.lin_decay is None else self.lin_decay
        return [
            {"params": list(self.convs.parameters()), "weight_decay": weight_decay},
            {"params": list(self.lins.parameters()), "weight_decay": own},
        ]

    def forward(self, x: Tensor, edge_index: Adj, edge_weight: Tensor | None = None) -> Tensor:
        x, _, graph = read_input("GCNII", x, edge_index, self.in_channels)
        h = dropped(sparse_if_few(x), self.dropout, self.training and self.drop_input)
        first, last = self.lins
        x_0 = mapped(h, first).relu()
        x = dropout(x_0, self.dropout, self.training)
        edge_weight = edge_vector("GCNII", "edge_weight", edge_weight, graph)
        # in the dtype of the sums, as each layer would compute them
        dtype = torch.promote_types(x.dtype, torch.float32)
        scales = gcn_scales(graph, edge_weight, dtype=dtype)
        for conv in self.convs:
            x = conv(x, x_0, graph, edge_weight, scales=scales)
            x = relu_dropout(x, self.dropout, self.training)
        return last(x)
