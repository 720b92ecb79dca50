"""BUDDY: links told by propagated features and by how the neighbourhoods of their ends overlap."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ..errors import ConfigError, GraphError
from ..graph import Adj
from ..ops import relu_dropout
from . import decoupled
from .decoders import ends_of
from .linear import batch_normed, reset
from .propagate import check_hops


class BUDDYPredictor(nn.Module):
    r"""Logits of pairs from the vectors of their ends and their tables of counts.

    .. math::
        s_{uv} = w^\top \big[ f(W_1 (z_u \odot z_v) + b_1)\, \|\, f(W_2 c_{uv} + b_2) \big] + b,
        \qquad f = \mathrm{dropout} \circ \mathrm{ReLU} \circ \mathrm{BatchNorm}

    with c the counts of classes of nodes (:mod:`graphkit.structure.sketches`) in a row.

    Args:
        channels: Width of the vectors.
        hops: k of the tables, at least 1.
        dropout: Probability on what is made of the vectors.
        count_dropout: The same of the counts.
        planes: Tables of each pair; 2 for those of
            :func:`graphkit.structure.with_normalized`.
        near: Read all counts. Otherwise, as in the official code by default, those of nodes within
            k - 1 hops of one end and farther than k from the other are left out.
        symmetric: Read the mean of the tables of (u, v) and (v, u), so that both have one logit.
            The official code reads one end as the first.

    Shapes: ``z [N, channels]``, ``counts [B, k + 1, k + 1]`` or ``[B, planes, k + 1, k + 1]``,
    ``edge_label_index [2, B]``; returns logits ``[B]``.

    For three hops the official code leaves out (1, 3) and (3, 1) in the place of the counts of
    nodes within one hop, which looks like a mistake.
    """

    _read: Tensor

    def __init__(
        self,
        channels: int,
        hops: int = 2,
        dropout: float = 0.5,
        count_dropout: float = 0.5,
        *,
        planes: int = 1,
        near: bool = False,
        symmetric: bool = True,
    ) -> None:
        super().__init__()
        self.hops = check_hops("BUDDYPredictor", hops, "hops")
        if hops < 1:
            raise ConfigError("BUDDYPredictor: hops is 0, but tables of at least one are expected.")
        self.dropout = dropout
        self.count_dropout = count_dropout
        self.planes = planes
        self.near = near
        self.symmetric = symmetric
        # where in the table what is read stands, by rows
        read = torch.ones(hops + 1, hops + 1, dtype=torch.bool)
        read[0, 0] = False
        if not near:
            read[0, 1:hops] = read[1:hops, 0] = False
        self.register_buffer("_read", read.flatten().nonzero().flatten(), persistent=False)
        width = planes * int(read.sum())
        self.vector_lin = nn.Linear(channels, channels)
        self.vector_norm = nn.BatchNorm1d(channels)
        self.count_lin = nn.Linear(width, width)
        self.count_norm = nn.BatchNorm1d(width)
        self.lin = nn.Linear(channels + width, 1)

    def reset_parameters(self) -> None:
        for child in self.children():
            reset(child)

    def forward(self, z: Tensor, counts: Tensor, edge_label_index: Tensor) -> Tensor:
        first, last = ends_of("BUDDYPredictor", z, edge_label_index)
        v = batch_normed(self.vector_norm, self.vector_lin(first * last))
        c = self.count_lin(self._row(counts, len(first)).to(v.dtype))
        c = batch_normed(self.count_norm, c)
        v = relu_dropout(v, self.dropout, self.training)
        c = relu_dropout(c, self.count_dropout, self.training)
        return self.lin(torch.cat([v, c], dim=1)).squeeze(1)

    def _row(self, counts: Tensor, num_pairs: int) -> Tensor:
        """The counts that are read of each pair, ``[B, width]``."""
        shape = num_pairs, self.planes, self.hops + 1, self.hops + 1
        if counts.shape not in (shape, *([shape[:1] + shape[2:]] if self.planes == 1 else [])):
            raise GraphError(
                f"BUDDYPredictor: counts has shape {list(counts.shape)}, but {list(shape)} is "
                "expected: so many tables of each pair. Count for as many hops as the predictor "
                "was built for."
            )
        tables = counts.reshape(shape)
        if self.symmetric:
            tables = (tables + tables.mT) / 2
        return tables.flatten(2)[..., self._read].flatten(1)

    def extra_repr(self) -> str:
        return f"hops={self.hops}, planes={self.planes}"


class BUDDY(nn.Module):
    r"""BUDDY, `Graph neural networks for link prediction with subgraph sketching
    <https://openreview.net/forum?id=m1oqEOAozQU>`_ (ICLR 2023).

    .. math::
        z = \mathrm{MLP}(\|_{i=0}^K\, \hat A^i x), \qquad
        s_{uv} = \mathrm{predictor}(z_u \odot z_v,\, c_{uv})

    with :math:`\hat A` the normalised adjacency of GCN. Neither the propagated features nor the
    counts have parameters: both are made once, and a step costs its pairs alone::

        rows = model.precompute(x, graph)
        sketches = sketch_neighborhoods(graph)
        logits = model(rows, estimated_counts(sketches, pairs), pairs)

    Args:
        in_channels: Features of each node.
        hidden_channels: Width of the vectors of nodes.
        hops: k of the tables of counts.
        K: Hops of the features, as in SIGN; 0 is the official code's for most data sets, one hop
            alone and a linear map.
        dropout: Probability on vectors.
        count_dropout: The same on counts.
        planes, near, symmetric: As of :class:`BUDDYPredictor`.

    Shapes: ``rows`` of :meth:`precompute` ``[N, F]``, ``counts [B, k + 1, k + 1]`` or ``[B, planes,
    k + 1, k + 1]``, ``edge_label_index [2, B]``; returns logits ``[B]``.

    A training edge is an edge of its own graph and a test link is not: the counts of (1, 1) have
    both ends of a joined pair among them. The official code trains with that; to train without it,
    count in graphs from which the edges of the batch are taken.

    In training the vectors of the nodes of a batch are normalised together, each once; in the
    official code the first ends and the last ends are, each as often as it occurs.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        hops: int = 2,
        K: int = 0,
        dropout: float = 0.5,
        count_dropout: float = 0.5,
        *,
        planes: int = 1,
        near: bool = False,
        symmetric: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        width = hidden_channels
        if check_hops("BUDDY", K):
            propagation = partial(decoupled.hops, K=K)
            head: nn.Module = decoupled.HopMLP(
                in_channels, K + 1, [width, width], dropout, norm="batch_norm"
            )
        else:
            propagation, head = partial(decoupled.smooth, K=1), nn.Linear(in_channels, width)
        self.encoder = decoupled.Precomputed(in_channels, propagation, head)
        self.predictor = BUDDYPredictor(
            *(width, hops, dropout, count_dropout), planes=planes, near=near, symmetric=symmetric
        )

    def reset_parameters(self) -> None:
        reset(self.encoder)
        reset(self.predictor)

    def precompute(self, x: Tensor, edge_index: Adj) -> Tensor:
        """What the encoder reads of all nodes, ``[N, F]``: ``x [N, in]`` propagated."""
        return self.encoder.precompute(x, edge_index)

    def forward(self, rows: Tensor, counts: Tensor, edge_label_index: Tensor) -> Tensor:
        # what a batch does not name is not encoded
        nodes, place = torch.unique(edge_label_index, return_inverse=True)
        return self.predictor(self.encoder(rows[nodes]), counts, place)
