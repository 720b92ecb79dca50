"""Convolutions of hypergraphs as functions of sets: UniGNN, UniGCNII, AllSet, ED-HNN."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError, nearest
from ..graph import Adj
from ..ops import dropout, relu_dropout, segment_reduce
from .hypergraph import Incidences, read_hypergraph
from .inputs import check_features
from .linear import glorot_, linear, reset
from .propagate import check_share
from .sparse import SparseRows, apart, mapped, times

Aggregation = Literal["mean", "sum"]
_MODES = ("gcn", "gat", "gin", "sage")


def _check_aggr(layer: str, aggr: str) -> None:
    if aggr not in ("mean", "sum"):
        raise ConfigError(f"{layer}: aggr is {aggr!r}, but 'mean' or 'sum' is expected.")


def _to_nodes(over: Incidences, h: Tensor, aggr: Aggregation) -> Tensor:
    return over.to_nodes(h, left=over.degree(-1.0) if aggr == "mean" else None)


def _to_edges(over: Incidences, x: Tensor, aggr: Aggregation) -> Tensor:
    return over.to_edges(x, left=None if aggr == "mean" else torch.ones_like(over.size()))


class UniConv(nn.Module):
    r"""Graph convolutions carried over to hypergraphs, `UniGNN: a unified framework for graph and
    hypergraph neural networks <https://arxiv.org/abs/2105.00956>`_.

    With :math:`h_e` the mean of the members' :math:`x_v \Theta`, :math:`d_v` the summed weights
    :math:`w_e` of a node's hyperedges and :math:`\bar d_e` the mean of :math:`d_v` over members,

    - ``gcn``: :math:`x'_v = d_v^{-1/2} \sum_{e \ni v} w_e \bar d_e^{-1/2} h_e`
    - ``gat``: :math:`x'_v = \sum_{e \ni v} \alpha_{ve} h_e`, with :math:`\alpha_{ve}` the softmax
      over a node's hyperedges of :math:`\mathrm{LeakyReLU}(a^\top h_e)`, exponentials times
      :math:`w_e`
    - ``gin``: :math:`x'_v = (1 + \epsilon) x_v \Theta + \sum_{e \ni v} w_e h_e`
    - ``sage``: :math:`x'_v = x_v \Theta + \sum_{e \ni v} w_e h_e`, or the mean over hyperedges

    and an additive bias.

    Args:
        in_channels: Features of each node, or -1 to read them off the first input.
        out_channels: Features of each output row (of each head).
        mode: ``gcn``, ``gat``, ``gin`` or ``sage``.
        heads: Attention heads, side by side in the output; of ``gat`` alone.
        eps: :math:`\epsilon` of ``gin``, at first.
        train_eps: Learn it.
        aggr: ``sum`` or ``mean``, of ``sage`` alone.
        negative_slope: Of the LeakyReLU.
        dropout: Share of the attention coefficients dropped in training.
        bias: Learn an additive bias.

    Shapes: as :class:`HGNNConv`; returns ``[N, heads * out]``.

    Scores of ``gat`` do not depend on the node, as in the published implementations; the paper's
    formula has a term of it. DHG cuts them to 0.001 to 5, and puts :math:`1 + \epsilon` on the sum.
    """

    takes_sparse = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mode: Literal["gcn", "gat", "gin", "sage"] = "gcn",
        heads: int = 1,
        eps: float = 0.0,
        train_eps: bool = False,
        aggr: Aggregation = "sum",
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if mode not in _MODES:
            raise ConfigError(f"UniConv: unknown mode {mode!r}. {nearest(str(mode), _MODES)}")
        if heads < 1 or (heads > 1 and mode != "gat"):
            raise ConfigError(
                f"UniConv: heads is {heads} for mode {mode!r}, but only 'gat' has more than one."
            )
        _check_aggr("UniConv", aggr)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mode = mode
        self.heads = heads
        self.initial_eps = eps
        self.aggr: Aggregation = aggr
        self.negative_slope = negative_slope
        self.dropout = check_share("UniConv", "dropout", dropout)
        self.lin = linear(in_channels, heads * out_channels, bias=False, glorot=True)
        self.att = nn.Parameter(torch.empty(heads, out_channels)) if mode == "gat" else None
        start = torch.tensor(float(eps))
        if train_eps and mode == "gin":
            self.eps = nn.Parameter(start)
        else:
            self.register_buffer("eps", start, persistent=mode == "gin")
        self.bias = nn.Parameter(torch.empty(heads * out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()
        if self.att is not None:
            glorot_(self.att)
        self.eps.data.fill_(self.initial_eps)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor | SparseRows,
        hyperedge_index: Adj,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        given = hyperedge_index, hyperedge_weight, num_edges, edge_mask, self.in_channels
        x, over = read_hypergraph("UniConv", x, *given)
        own = mapped(x, self.lin)
        h = over.to_edges(own)
        if self.mode == "gcn":
            out = over.to_nodes(h, left=over.degree(-0.5), right=over.mean_degree(-0.5))
        elif self.att is not None:
            h = h.view(-1, self.heads, self.out_channels)
            drop = self.dropout if self.training else 0.0
            score, slope = (h * self.att).sum(-1), self.negative_slope
            out = over.attend(h, score, to="nodes", slope=slope, drop=drop).flatten(1)
        elif self.mode == "gin":
            out = over.to_nodes(h) + (1 + self.eps.to(own.dtype)) * own
        else:
            out = _to_nodes(over, h, self.aggr) + own
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        heads = f", heads={self.heads}" if self.mode == "gat" else ""
        return f"{self.in_channels}, {self.out_channels}, mode={self.mode!r}{heads}"


class UniGCNIIConv(nn.Module):
    r"""One layer of UniGCNII, `UniGNN <https://arxiv.org/abs/2105.00956>`_: GCNII on hypergraphs.

    .. math::
        X' = \big((1 - \alpha) P X + \alpha X^{(0)}\big)\big((1 - \beta) I + \beta \Theta\big),
        \qquad \beta = \log(\theta / \ell + 1)

    with :math:`P` the operator of :class:`UniConv`'s ``gcn``. The ReLU of the paper's layer is left
    to what stands behind.

    Args:
        channels: Features of each node, before and behind the layer.
        alpha: Share of the initial features :math:`X^{(0)}`; with 1 the hypergraph counts for
            nothing.
        theta: Strength :math:`\theta` of the map, lambda in the paper.
        layer: Number :math:`\ell` of the layer, from 1.

    Shapes: ``x [N, channels]``, ``x_0 [N, channels]``, the others as :class:`HGNNConv`; returns
    ``[N, channels]``.
    """

    def __init__(
        self, channels: int, alpha: float = 0.1, theta: float = 0.5, layer: int = 1
    ) -> None:
        super().__init__()
        if theta <= 0 or layer < 1:
            raise ConfigError(
                f"UniGCNIIConv: theta is {theta} and layer {layer}, but a number above 0 and one "
                "from 1 on are expected."
            )
        self.in_channels = channels
        self.alpha = check_share("UniGCNIIConv", "alpha", alpha)
        self.beta = math.log(theta / layer + 1)
        self.lin = nn.Linear(channels, channels, bias=False)

    def reset_parameters(self) -> None:
        self.lin.reset_parameters()

    def forward(
        self,
        x: Tensor,
        x_0: Tensor,
        hyperedge_index: Adj,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        given = hyperedge_index, hyperedge_weight, num_edges, edge_mask, self.in_channels
        x, over = read_hypergraph("UniGCNIIConv", x, *given)
        check_features("UniGCNIIConv", "x_0", x_0, self.in_channels)
        left = (1 - self.alpha) * over.degree(-0.5)
        h = over.to_nodes(over.to_edges(x), left=left, right=over.mean_degree(-0.5))
        h = torch.add(h, x_0, alpha=self.alpha)
        return torch.addmm(h, h, self.lin.weight.t(), beta=1 - self.beta, alpha=self.beta)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, alpha={self.alpha}, beta={self.beta:.4f}"


class SetMLP(nn.Module):
    """Linear maps with ReLU, then LayerNorm, then dropout between: the MLPs of AllSet and ED-HNN.

    Args:
        in_channels, hidden_channels, out_channels: Widths.
        num_layers: Number of maps; with 0 it is the identity.
        dropout: Probability.
        norm: Whether there are LayerNorms.
        norm_input: Whether one stands before the first map.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        dropout: float = 0.0,
        norm: bool = True,
        norm_input: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 0 or not isinstance(num_layers, int):
            raise ConfigError(f"SetMLP: num_layers is {num_layers}, but at least 0 is expected.")
        inner = [hidden_channels] * (num_layers - 1)
        widths = [in_channels, *inner, *[out_channels] * (num_layers > 0)]
        self.in_channels = in_channels
        self.dropout = dropout
        self.lins = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        self.norms = nn.ModuleList(
            nn.LayerNorm(width)
            if num_layers and (norm_input if number == 0 else norm)
            else nn.Identity()
            for number, width in enumerate(widths[: max(num_layers, 1)])
        )

    def reset_parameters(self) -> None:
        for module in (*self.lins, *self.norms):
            reset(module)

    def forward(self, x: Tensor | SparseRows) -> Tensor:
        h: Any = x if isinstance(self.norms[0], nn.Identity) else self.norms[0](apart(x)[1])
        for number, lin in enumerate(self.lins):
            if number:
                h = dropout(self.norms[number](h.relu()), self.dropout, self.training)
            h = mapped(h, lin)
        return apart(h)[1]


class AttentionPool(nn.Module):
    r"""Pooling by multi-head attention with a learned seed, from members to a set.

    For each head :math:`o = \sum_u \mathrm{softmax}_u(\mathrm{LeakyReLU}(q^\top K x_u)) V x_u + q`;
    then with heads side by side :math:`y = LN(o)` and
    :math:`LN(y + \mathrm{ReLU}(\mathrm{MLP}(y)))`. In a set without members :math:`o = q`.

    The scores are :math:`x_u` times :math:`K^\top q`, so that keys are not made.
    """

    def __init__(
        self, in_channels: int, out_channels: int, heads: int, num_layers: int, slope: float = 0.2
    ) -> None:
        super().__init__()
        self.heads = heads
        self.slope = slope
        self.lin_key = nn.Linear(in_channels, out_channels)
        self.lin_value = nn.Linear(in_channels, out_channels)
        self.seed = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.mlp = SetMLP(out_channels, out_channels, out_channels, num_layers, norm=False)
        self.norm_0 = nn.LayerNorm(out_channels)
        self.norm_1 = nn.LayerNorm(out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.children():
            reset(module)
        glorot_(self.lin_key.weight)
        glorot_(self.lin_value.weight)
        glorot_(self.seed)

    def forward(self, x: Tensor | SparseRows, over: Incidences, to: str) -> Tensor:
        query = self.seed.unsqueeze(-1)
        key = self.lin_key.weight.view(self.heads, -1, self.lin_key.in_features)
        score = times(x, (key * query).sum(1).t())
        score = score + (self.lin_key.bias.view_as(self.seed) * self.seed).sum(1)
        h = mapped(x, self.lin_value).view(-1, *self.seed.shape)
        out = over.attend(h, score, to=to, slope=self.slope) + self.seed
        y = self.norm_0(out.flatten(1))
        return self.norm_1(y + self.mlp(y).relu())


class AllSetConv(nn.Module):
    r"""Two functions of sets, from nodes to hyperedges and back, `You are AllSet: a multiset
    function framework for hypergraph neural networks <https://arxiv.org/abs/2106.13264>`_.

    ``deepsets`` (AllDeepSets), with :math:`A` the mean or the sum, of hyperedges weighted:

    .. math::
        f(S) = \mathrm{ReLU}\big(\mathrm{MLP}_2\big(A_{u \in S}
        \mathrm{Drop}(\mathrm{ReLU}(\mathrm{MLP}_1(x_u)))\big)\big)

    ``transformer`` (AllSetTransformer): :class:`AttentionPool`, with weights of hyperedges on the
    exponentials of their scores. In both
    :math:`X_e = \mathrm{Drop}(\mathrm{ReLU}(f_1(X)))` and :math:`X' = f_2(X_e)`, with functions of
    their own; the ReLU and dropout of :math:`X'` are left to what stands behind.

    Args:
        in_channels: Features of each node.
        out_channels: Features of hyperedges and of each output row; a multiple of ``heads``.
        mode: ``transformer`` or ``deepsets``.
        heads: Of ``transformer`` alone.
        num_layers: Maps in each MLP.
        aggr: ``mean`` or ``sum``, of ``deepsets`` alone.
        dropout: Probability, in the MLPs of ``deepsets`` and on hyperedges.
        norm: LayerNorm in the MLPs of ``deepsets``, before their first map too.

    Shapes: as :class:`HGNNConv`. The official code shifts the numbers of hyperedges in the caller's
    data at each call and needs every node in a hyperedge; nothing of that is needed here.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mode: Literal["transformer", "deepsets"] = "transformer",
        heads: int = 1,
        num_layers: int = 2,
        aggr: Aggregation = "mean",
        dropout: float = 0.0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        if mode not in ("transformer", "deepsets"):
            raise ConfigError(
                f"AllSetConv: mode is {mode!r}, but 'transformer' or 'deepsets' is expected."
            )
        _check_aggr("AllSetConv", aggr)
        if heads < 1 or out_channels % heads or (heads > 1 and mode == "deepsets"):
            raise ConfigError(
                f"AllSetConv: {heads} heads do not fit mode {mode!r} and out_channels="
                f"{out_channels}. Only 'transformer' has heads, each of out_channels / heads."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.mode = mode
        self.aggr: Aggregation = aggr
        self.dropout = check_share("AllSetConv", "dropout", dropout)
        # attention takes sparse features; the norm in front of an MLP is of all of them
        self.takes_sparse = mode == "transformer" or not norm
        if mode == "transformer":
            self.pools = nn.ModuleList(
                AttentionPool(width, out_channels, heads, num_layers)
                for width in (in_channels, out_channels)
            )
        else:
            self.mlps = nn.ModuleList(
                SetMLP(width, out_channels, out_channels, num_layers, dropout, norm, norm)
                for width in (in_channels, out_channels, out_channels, out_channels)
            )

    def reset_parameters(self) -> None:
        for module in self.pools if self.mode == "transformer" else self.mlps:
            reset(module)

    def forward(
        self,
        x: Tensor | SparseRows,
        hyperedge_index: Adj,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        given = hyperedge_index, hyperedge_weight, num_edges, edge_mask, self.in_channels
        x, over = read_hypergraph("AllSetConv", x, *given)
        if self.mode == "transformer":
            first, second = self.pools
            h = relu_dropout(first(x, over, "edges"), self.dropout, self.training)
            return second(h, over, "nodes")
        enc, dec, enc_e, dec_e = self.mlps
        h = relu_dropout(enc(x), self.dropout, self.training)
        h = relu_dropout(dec(_to_edges(over, h, self.aggr)), self.dropout, self.training)
        h = relu_dropout(enc_e(h), self.dropout, self.training)
        return dec_e(_to_nodes(over, h, self.aggr)).relu()

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, mode={self.mode!r}"


class EDHNNConv(nn.Module):
    r"""Equivariant diffusion on hypergraphs, `Equivariant hypergraph diffusion neural operators
    <https://arxiv.org/abs/2207.06680>`_.

    .. math::
        m_e = A_{v \in e}\, \phi(x_v), \quad
        \hat x_v = A_{e \ni v}\, \rho\big([x_v \,\|\, m_e]\big), \quad
        x'_v = \psi\big((1 - \alpha) \hat x_v + \alpha x^{(0)}_v\big)

    with :math:`A` the mean or the sum, of hyperedges weighted, and MLPs :math:`\phi, \rho, \psi`.
    The activation of :math:`x'` is left to what stands behind.

    Args:
        channels: Features of each node, before and behind the layer.
        phi, rho, psi: Maps in each MLP; 0 for the identity, and for :math:`\rho = m_e`.
        alpha: Share of the initial features :math:`X^{(0)}`.
        aggr: ``mean`` or ``sum``.
        dropout: Probability, in the MLPs.
        norm: LayerNorm in the MLPs, before their first map too.

    Shapes: ``x [N, channels]``, ``x_0 [N, channels]``, the others as :class:`HGNNConv`; returns
    ``[N, channels]``. With ``rho=0`` nothing is made for each incidence; otherwise
    ``[nnz, 2 * channels]`` is.
    """

    def __init__(
        self,
        channels: int,
        phi: int = 0,
        rho: int = 0,
        psi: int = 1,
        alpha: float = 0.0,
        aggr: Aggregation = "mean",
        dropout: float = 0.0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        _check_aggr("EDHNNConv", aggr)
        self.in_channels = channels
        self.alpha = check_share("EDHNNConv", "alpha", alpha)
        self.aggr: Aggregation = aggr
        rest = dropout, norm, norm
        self.phi = SetMLP(channels, channels, channels, phi, *rest)
        self.rho = SetMLP(2 * channels, channels, channels, rho, *rest)
        self.psi = SetMLP(channels, channels, channels, psi, *rest)

    def reset_parameters(self) -> None:
        for module in (self.phi, self.rho, self.psi):
            reset(module)

    def forward(
        self,
        x: Tensor,
        x_0: Tensor,
        hyperedge_index: Adj,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
        *,
        edge_mask: Tensor | None = None,
    ) -> Tensor:
        given = hyperedge_index, hyperedge_weight, num_edges, edge_mask, self.in_channels
        x, over = read_hypergraph("EDHNNConv", x, *given)
        check_features("EDHNNConv", "x_0", x_0, self.in_channels)
        message = _to_edges(over, self.phi(x), self.aggr)
        if len(self.rho.lins):
            h = self._from_pairs(over, x, message)
        else:
            h = _to_nodes(over, message, self.aggr)
        return self.psi(h if self.alpha == 0 else torch.lerp(h, x_0.to(h.dtype), self.alpha))

    def _from_pairs(self, over: Incidences, x: Tensor, message: Tensor) -> Tensor:
        side = over.graph.by_dst
        row, column = side.row_ids(), side.indices.to(torch.int64)
        h = self.rho(torch.cat([x[row], message[column]], dim=1))
        factor = None if over.weight is None else over.weight.to(over.dtype)[column]
        if over.mask is not None:
            slots = over.mask if side.eid is None else over.mask[side.eid.to(torch.int64)]
            factor = slots if factor is None else factor * slots
        h = h if factor is None else h * factor.to(h.dtype).unsqueeze(1)
        out = segment_reduce(h, side.indptr)
        return out * over.degree(-1.0).to(out.dtype).unsqueeze(1) if self.aggr == "mean" else out

    def extra_repr(self) -> str:
        depths = (len(mlp.lins) for mlp in (self.phi, self.rho, self.psi))
        return f"{self.in_channels}, depths=({', '.join(map(str, depths))}), alpha={self.alpha}"
