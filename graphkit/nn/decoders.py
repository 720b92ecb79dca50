"""Scores of pairs of nodes from their vectors, and the graph autoencoder."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import GraphError
from ..graph import Adj
from .linear import reset
from .mlp import MLP


def ends_of(name: str, z: Tensor, edge_label_index: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors ``[B, C]`` of the first and of the last node of each pair ``[2, B]``."""
    if edge_label_index.dim() != 2 or edge_label_index.size(0) != 2:
        raise GraphError(
            f"{name}: edge_label_index has shape {list(edge_label_index.shape)}, but [2, B] is "
            "expected. Stack the two ends: torch.stack([first, last])."
        )
    first, last = edge_label_index
    return z.index_select(0, first), z.index_select(0, last)


class DotDecoder(nn.Module):
    r"""The dot product of the two vectors of a pair: :math:`z_u^\top z_v`.

    What GAE scores with. It has no parameters, and cannot tell a link from its reverse.

    Shapes: ``z [N, C]``, ``edge_label_index [2, B]``; returns logits ``[B]``.
    """

    def forward(self, z: Tensor, edge_label_index: Tensor) -> Tensor:
        first, last = ends_of("DotDecoder", z, edge_label_index)
        return (first * last).sum(dim=-1)


class HadamardDecoder(nn.Module):
    r"""An MLP on the product of the two vectors of a pair: :math:`\mathrm{MLP}(z_u \odot z_v)`.

    What OGB's examples score with.

    Args:
        in_channels: Width of the vectors.
        hidden_channels: Width of the hidden layers; that of the vectors if not given.
        num_layers: Linear maps, at least 1.
        dropout: Probability behind every hidden layer.

    Shapes: ``z [N, in]``, ``edge_label_index [2, B]``; returns logits ``[B]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int | None = None,
        num_layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = in_channels if hidden_channels is None else hidden_channels
        widths = [in_channels, *[hidden] * (num_layers - 1), 1]
        self.mlp = MLP(widths, dropout=dropout, norm=None)

    def reset_parameters(self) -> None:
        self.mlp.reset_parameters()

    def forward(self, z: Tensor, edge_label_index: Tensor) -> Tensor:
        first, last = ends_of("HadamardDecoder", z, edge_label_index)
        return self.mlp(first * last).squeeze(-1)


class GAE(nn.Module):
    r"""A graph autoencoder: vectors of nodes that tell which of them are joined.

    `Variational graph auto-encoders <https://arxiv.org/abs/1611.07308>`_, without the variation:

    .. math::
        Z = \mathrm{encoder}(X, A), \qquad \hat A_{uv} = \sigma(z_u^\top z_v)

    Args:
        encoder: ``(x, edge_index, ...)`` to vectors ``[N, C]``, such as a GCN of two layers (the
            paper's), GraphSAGE or an MLP of :func:`build_model`.
        decoder: ``(z, edge_label_index)`` to logits ``[B]``; a :class:`DotDecoder` if not given.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``edge_label_index [2, B]``; returns
    logits ``[B]``. More arguments, by name, go to the encoder.

    The paper weighs all N x N pairs in its loss; :meth:`loss` takes the pairs that it is given, as
    many negatives as positives for a balanced one.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = DotDecoder() if decoder is None else decoder

    def reset_parameters(self) -> None:
        reset(self.encoder)
        reset(self.decoder)

    def encode(self, x: Tensor, edge_index: Adj, **given: Any) -> Tensor:
        """The vectors of the nodes, ``[N, C]``."""
        return self.encoder(x, edge_index, **given)

    def decode(self, z: Tensor, edge_label_index: Tensor) -> Tensor:
        """The logits of pairs ``[2, B]`` of nodes with the vectors ``z [N, C]``."""
        return self.decoder(z, edge_label_index)

    def forward(self, x: Tensor, edge_index: Adj, edge_label_index: Tensor, **given: Any) -> Tensor:
        return self.decode(self.encode(x, edge_index, **given), edge_label_index)

    def loss(self, z: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        r""":math:`-\overline{\log \sigma(s)} - \overline{\log(1 - \sigma(s'))}`, the means over
        the logits of the pairs ``positive [2, P]`` and ``negative [2, M]``.

        Computed from the logits, so that nothing underflows.
        """
        present, absent = (self.decode(z, pairs) for pairs in (positive, negative))
        return F.softplus(-present).mean() + F.softplus(absent).mean()
