"""RQGNN: anomalies among graphs by their Rayleigh quotients and Chebyshev filters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError, nearest
from ..graph import Adj, batch_offsets
from ..ops import dropout, segment_reduce
from ..structure.rayleigh import RAYLEIGH_MODES, RayleighMode, rayleigh_quotient
from .inputs import check_features, read_input
from .linear import batch_normed, reset
from .pooling import RQPooling, leaky, members
from .propagate import check_share
from .spectral import ChebFilters, check_widths


class RQGNN(nn.Module):
    r"""Two classes of graphs, of which one is rare, `Rayleigh quotient graph neural networks for
    graph-level anomaly detection <https://arxiv.org/abs/2310.02861>`_.

    .. math::
        H &= \phi_2\big(\mathrm{filters}(\phi_2(X))\big), \qquad h_G = \sum_{i \in G} \langle h_i,
        \mathrm{MLP}(r_G) \rangle \, h_i \\
        z_G &= \mathrm{Linear}\big(\mathrm{dropout}(\mathrm{norm}(h_G \Vert \phi(W_6 (W_5 r_G + b_5)
        + b_6)))\big)

    with :math:`\phi_2` two linear maps with a LeakyReLU of slope 0.01 behind each,
    :class:`ChebFilters`, :class:`RQPooling` and the Rayleigh quotients :math:`r_G` of the features.

    Args:
        in_channels: Features of each node, one-hot atoms in the paper.
        hidden_channels: Width of everything behind the filters.
        out_channels: Number of classes.
        width: Number of filters.
        depth: Terms of each filter.
        dropout: Probability, before the last map.
        batch_norm: Normalise the vectors of graphs. In training a batch of one graph goes by the
            running mean and variance.
        train_filters: Train the filters; the official code leaves them as drawn.
        use_rql: Have the branch of Rayleigh quotients, whose vector stands beside the pooled one.
        use_pooling: Weigh nodes by :class:`RQPooling`; otherwise take their mean.
        rq_mode: What :func:`graphkit.structure.rayleigh_quotient` computes where ``rq`` is not
            given: ``quotient``, the paper's, or ``energy``, the official code's.

    Shapes: ``x [N, in]``, ``edge_index [2, E]`` or Graph, ``batch [N]`` or ``ptr [B + 1]`` (one
    graph if neither is given), ``rq [B, in]`` or None to compute it, which is better done once for
    each graph (:class:`graphkit.transforms.RayleighQuotient`); returns logits ``[B, out]``. A graph
    without nodes has the vector 0 before the norm.

    The paper trains with :class:`ClassBalancedFocalLoss`, whose two logits are two binary
    decisions, and scores by ``logits.softmax(1)[:, 1]``.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 64,
        out_channels: int = 2,
        width: int = 4,
        depth: int = 6,
        dropout: float = 0.4,
        batch_norm: bool = True,
        train_filters: bool = True,
        use_rql: bool = True,
        use_pooling: bool = True,
        rq_mode: RayleighMode = "quotient",
    ) -> None:
        super().__init__()
        check_widths("RQGNN", in_channels, hidden_channels, out_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.dropout = check_share("RQGNN", "dropout", dropout)
        if self.dropout == 1:
            raise ConfigError("RQGNN: dropout=1.0, but 0 <= dropout < 1 is expected.")
        if rq_mode not in RAYLEIGH_MODES:
            known = nearest(str(rq_mode), RAYLEIGH_MODES)
            raise ConfigError(f"RQGNN: unknown mode {rq_mode!r}. {known}")
        self.rq_mode: RayleighMode = rq_mode
        hidden = hidden_channels
        self.before = _linears(in_channels, in_channels, in_channels)
        self.filters = ChebFilters(in_channels, width, depth, train_filters)
        self.behind = _linears(width * in_channels, hidden, hidden)
        self.pool = RQPooling(hidden, in_channels) if use_pooling else None
        self.rql = _linears(in_channels, hidden, hidden) if use_rql else None
        pooled = hidden * (1 + use_rql)
        self.norm = nn.BatchNorm1d(pooled) if batch_norm else nn.Identity()
        self.head = nn.Linear(pooled, out_channels)

    def reset_parameters(self) -> None:
        for module in self.children():
            reset(module)

    def forward(
        self,
        x: Tensor,
        edge_index: Adj,
        batch: Tensor | None = None,
        rq: Tensor | None = None,
        *,
        ptr: Tensor | None = None,
    ) -> Tensor:
        x, _, graph = read_input("RQGNN", x, edge_index, self.in_channels, transpose=True)
        count = None if rq is None else rq.size(0)
        ptr = batch_offsets("RQGNN", x.size(0), batch, ptr, graph.device, count)
        if rq is None and (self.rql is not None or self.pool is not None):
            rq = rayleigh_quotient(x, graph, ptr=ptr, mode=self.rq_mode)
        if rq is not None:
            check_features("RQGNN", "rq", rq, self.in_channels)
        h = x
        for lin in self.before:
            h = leaky(lin(h))
        first, second = self.behind
        h = leaky(self.filters(h, graph, lin=first))
        h = leaky(second(h))
        if self.pool is None or rq is None:
            vectors = [segment_reduce(h, ptr, "mean")]
        else:
            vectors = [self.pool.pooled(h, rq, members(ptr, h.size(0)))]
        if self.rql is not None and rq is not None:
            one, two = self.rql
            vectors.append(leaky(two(one(rq))))
        z = torch.cat(vectors, dim=1) if len(vectors) > 1 else vectors[0]
        z = dropout(batch_normed(self.norm, z), self.dropout, self.training)
        return self.head(z)


def _linears(*widths: int) -> nn.ModuleList:
    return nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
