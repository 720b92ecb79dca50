"""Neural common neighbour predictors of links: NCN, its variants, and NCNC.

Shapes: N nodes, B pairs, h features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, logsigmoid

from ..errors import ConfigError, nearest
from ..graph import Adj, Csr, Graph, as_graph
from ..ops import relu_dropout, spmm
from ..ops.check import check_values
from ..ops.intersect import read_label_index
from ..structure.subgraph import edge_subgraph
from .inputs import check_features
from .linear import reset
from .ncn_sets import Sets, drawn, find_sets, joined, listed, some_of, two_hops
from .propagate import check_hops, check_share

Second = Literal["none", "two_hop", "difference"]
_SECONDS = ("none", "two_hop", "difference")


class _Block(nn.Module):
    """Linear maps, each followed by layer norm where ``norms`` says so, dropout and ReLU.

    ``tail`` is the width of a last map, behind which nothing follows; None for no such map.
    """

    def __init__(
        self, channels: int, norms: Sequence[bool], dropout: float, tail: int | None = None
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.lins = nn.ModuleList(nn.Linear(channels, channels) for _ in norms)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) if n else nn.Identity() for n in norms)
        self.tail = None if tail is None else nn.Linear(channels, tail)

    def forward(self, x: Tensor, training: bool) -> Tensor:
        return self._behind_first(self.lins[0](x), training)

    def _behind_first(self, x: Tensor, training: bool) -> Tensor:
        x = self._activated(self.norms[0](x), training)
        for lin, norm in zip(self.lins[1:], self.norms[1:], strict=True):
            x = self._activated(norm(lin(x)), training)
        return x if self.tail is None else self.tail(x)

    def _activated(self, x: Tensor, training: bool) -> Tensor:
        # x is a result of this block, which nobody else holds unless for a gradient
        if torch.is_grad_enabled() or training:
            return relu_dropout(x, self.dropout, training)
        return x.relu_()

    def added(self, out: Tensor, factor: Tensor, x: Tensor, rows: Tensor, training: bool) -> Tensor:
        """``out`` and ``factor`` times the block of rows that are 0, but for ``x`` at ``rows``.

        What is the same for all rows of 0 is computed once: up to the first dropout, or all.
        Where gradients are off ``out`` is overwritten.
        """
        nothing = x.new_zeros(1, x.size(1))
        if training and self.dropout > 0:
            first = self.lins[0]
            same, mine = first(nothing), first(x)
            mapped = same.expand(len(out), -1).index_copy(0, rows, mine)
            return torch.addcmul(out, factor, self._behind_first(mapped, training))
        same, mine = self(nothing, training), self(x, training)
        more, rest = factor * same, (factor * (mine - same)).to(out.dtype)
        out = out + more if torch.is_grad_enabled() else out.add_(more)
        return out.index_add(0, rows, rest) if out.requires_grad else out.index_add_(0, rows, rest)


class NCNPredictor(nn.Module):
    r"""Neural common neighbour (NCN), `Neural common neighbor with completion for link prediction
    <https://arxiv.org/abs/2302.00890>`_: logits of links by the vectors of both ends and those of
    the nodes that both have as neighbours.

    .. math::
        x_u = h_u + \mathrm{xlin}(h_u), \qquad c_{ij} = \sum_{u \in N(i) \cap N(j)} x_u, \qquad
        \mathrm{logit}_{ij} = \mathrm{lin}\big(\beta\, \mathrm{xcnlin}(c_{ij})
        + \mathrm{xijlin}(h_i \odot h_j)\big)

    The four blocks are linear maps of width ``hidden_channels`` with layer norm, dropout and ReLU
    between them: two maps in ``xlin`` and ``xcnlin``, one in ``xijlin``, one or two in ``lin``,
    behind which a last map gives the logit.

    Args:
        hidden_channels: Features of each node, and width of all blocks.
        dropout: Probability, in the blocks.
        edge_dropout: Probability that a node misses one of its neighbours, in training.
        layer_norm: Have layer norms in the blocks.
        use_xlin: Map the vectors that are pooled; otherwise :math:`x_u = h_u`.
        tail_act: ``xcnlin`` and ``xijlin`` end with their activation, not with another map.
        two_layer: ``lin`` has two hidden layers.
        beta: What :math:`\beta`, which is learnt, begins with.
        second: What is pooled apart too, with a block and a factor of its own that are added to
            those of the common neighbours. ``two_hop`` (NCN-2): :math:`N(i) \cap N_2(j)` and
            :math:`N_2(i) \cap N(j)` together, :math:`N_2` being the nodes that two steps lead to.
            ``difference`` (NCN-diff): the nodes that one end alone has as neighbours.

    Shapes: ``h [N, hidden]``, ``edge_index [2, E]`` or Graph, ``edge_label_index [2, B]`` int64 or
    int32; returns logits ``[B]``, which do not depend on the order of the two ends. :math:`N` is
    the set of in-neighbours: give both directions of an undirected edge. The ends of a pair
    themselves are not among its sets; they may be equal. A Graph is not sorted on every call.

    Raises :class:`GraphError` for pairs or vectors of another shape, dtype or device, or out of
    range.

    ``xlin`` runs on the nodes that are pooled, and what is the same for all pairs without common
    neighbours is computed once; the results are those of the formula. Neighbours are dropped once
    for the call, each direction of an edge on its own, and not scaled up, as in the official code.
    """

    def __init__(
        self,
        hidden_channels: int,
        *,
        dropout: float = 0.0,
        edge_dropout: float = 0.0,
        layer_norm: bool = True,
        use_xlin: bool = False,
        tail_act: bool = False,
        two_layer: bool = False,
        beta: float = 1.0,
        second: Second = "none",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if second not in _SECONDS:
            raise ConfigError(
                f"{name}: unknown second {second!r}. {nearest(str(second), _SECONDS)}"
            )
        if not isinstance(hidden_channels, int) or hidden_channels < 1:
            raise ConfigError(
                f"{name}: hidden_channels is {hidden_channels!r}, but at least 1 is expected."
            )
        check_share(name, "dropout", dropout)
        self.hidden_channels = hidden_channels
        self.edge_dropout = check_share(name, "edge_dropout", edge_dropout)
        self.first_beta = float(beta)
        self.second = second
        width, norm = hidden_channels, layer_norm
        tail = None if tail_act else width
        self.xlin = _Block(width, (False, norm), dropout) if use_xlin else None
        self.xcnlin = _Block(width, (False, norm), dropout, tail)
        self.xijlin = _Block(width, (norm,), dropout, tail)
        self.lin = _Block(width, (norm,) * (2 if two_layer else 1), dropout, 1)
        self.beta = nn.Parameter(torch.empty(()))
        self.second_lin = self.second_beta = None
        if second != "none":
            self.second_lin = _Block(width, (False, norm), dropout, tail)
            self.second_beta = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for block in self.children():
            reset(block)
        for beta in (self.beta, self.second_beta):
            if beta is not None:
                nn.init.constant_(beta, self.first_beta)

    def forward(self, h: Tensor, edge_index: Adj, edge_label_index: Tensor) -> Tensor:
        name = type(self).__name__
        check_features(name, "h", h, self.hidden_channels)
        graph = as_graph(edge_index, h.size(0), h.size(0), transpose=False)
        check_values(name, "h", h, graph.device)
        pairs = read_label_index(name, graph, edge_label_index)
        return self._logits(h, self._thinned(graph), pairs)

    def _thinned(self, graph: Graph) -> Graph:
        """The rows in which neighbours are looked up, in training without some of them."""
        rows = Graph(
            Csr(graph.by_dst.indptr, graph.by_dst.indices), None, graph.num_dst, graph.num_src
        )
        if not (self.training and self.edge_dropout):
            return rows
        keep = torch.rand(graph.num_edges, device=graph.device) >= self.edge_dropout
        return edge_subgraph(rows, keep)

    def _logits(self, h: Tensor, graph: Graph, pairs: Tensor) -> Tensor:
        if self.second == "difference":
            common, first, other = (listed(s) for s in find_sets(graph, pairs, differences=True))
            also = joined(first, other)
        else:
            common = listed(find_sets(graph, pairs)[0])
            also = two_hops(graph, pairs) if self.second == "two_hop" else None
        return self._decided(h, pairs, common, also, self.training)

    def _decided(
        self,
        h: Tensor,
        pairs: Tensor,
        common: Sets,
        also: Sets | None,
        training: bool,
        x: Tensor | None = None,
    ) -> Tensor:
        """Logits by the sets of nodes; ``x [N, h]`` is what is pooled, where that is known."""
        out = self.xijlin(_product(h, pairs), training)
        out = self._with_pooled(out, self.beta, self.xcnlin, h, common, training, x)
        if also is not None and self.second_lin is not None and self.second_beta is not None:
            out = self._with_pooled(out, self.second_beta, self.second_lin, h, also, training, x)
        return self.lin(out, training).squeeze(1)

    def _with_pooled(
        self,
        out: Tensor,
        factor: Tensor,
        block: _Block,
        h: Tensor,
        sets: Sets,
        training: bool,
        x: Tensor | None,
    ) -> Tensor:
        """``out [B, h]`` and ``factor`` times ``block`` of the sums over the sets."""
        count = out.size(0)
        node, nodes = sets.node, None
        if x is None and self.xlin is not None:
            node, nodes = some_of(node, h.size(0), 0.75)
        if x is None:
            x = self._mapped(h if nodes is None else h.index_select(0, nodes), training)
        pair, rows = some_of(sets.pair, count, 0.5)
        if torch.compiler.is_compiling():
            # how many there are is not known yet, but the dtype of edge numbers depends on it
            torch._check(node.size(0) < 2**31)  # pyright: ignore[reportPrivateUsage]
        graph = Graph.from_edge_index(
            torch.stack([node, pair]),
            num_src=x.size(0),
            num_dst=count if rows is None else len(rows),
            transpose=torch.is_grad_enabled(),
        )
        c = spmm(graph, x, sets.weight)
        if rows is None:
            return torch.addcmul(out, factor, block(c, training))
        return block.added(out, factor, c, rows, training)

    def _mapped(self, h: Tensor, training: bool) -> Tensor:
        """What is pooled of the vectors ``h``."""
        return h if self.xlin is None else h + self.xlin(h, training)

    def extra_repr(self) -> str:
        more = "" if self.second == "none" else f", second={self.second!r}"
        return f"{self.hidden_channels}, edge_dropout={self.edge_dropout}{more}"


class NCNCPredictor(NCNPredictor):
    r"""Neural common neighbour with completion (NCNC), `Neural common neighbor with completion for
    link prediction <https://arxiv.org/abs/2302.00890>`_: NCN, where a node that one end alone has
    as neighbour counts by the probability that the other end has it too.

    With :math:`f_0` that of :class:`NCNPredictor`, and the same weights at every depth,

    .. math::
        f_k: \quad c_{ij} = \sum_{u \in N(i) \cap N(j)} x_u
        + \sum_{u \in N(i) \setminus N(j)} P(f_{k-1}(j, u))\, x_u
        + \sum_{u \in N(j) \setminus N(i)} P(f_{k-1}(i, u))\, x_u, \qquad
        P(y) = \frac{\alpha\, t\, p}{t\, p + 1 - p}, \quad p = \sigma(s (y - o))

    Args:
        hidden_channels, dropout, edge_dropout, layer_norm, use_xlin, tail_act, two_layer, beta: As
            in :class:`NCNPredictor`.
        depth: How often links are completed before the last look at them; with 0 this is NCN.
        scale: :math:`s`.
        offset: :math:`o`, a logit; with minus infinity every probability is :math:`\alpha`.
        pt: :math:`t`, above 0.
        alpha: :math:`\alpha`; with 0 this is NCN.
        learn_pt: :math:`t` is :math:`\sigma` of a perceptron of :math:`h_i \odot h_j`, and not
            ``pt``.
        train_degree: Of each difference of neighbours that is larger, so many nodes are drawn, with
            replacement, and count for all: the sum is right on average. -1 for all nodes.
        test_degree: The same where the module is not in training.
        split_size: Most pairs whose probabilities are computed at once, which bounds memory and
            changes no result; -1 for all.
        official_quirks: Do as the official code does: vectors go into the inner calls mapped by
            ``xlin`` (which maps them again), neighbours are dropped once more there, dropout is
            active there in training, and the ends of a pair count among the nodes.

    Shapes and errors as in :class:`NCNPredictor`. Logits do not depend on the order of the two ends
    unless nodes are drawn; torch's generator rules the draw.

    Probabilities are constants to the gradient. They are those of the predictor in evaluation, of
    the vectors as they are, and each two nodes are asked about once in a call.
    """

    def __init__(
        self,
        hidden_channels: int,
        *,
        dropout: float = 0.0,
        edge_dropout: float = 0.0,
        layer_norm: bool = True,
        use_xlin: bool = False,
        tail_act: bool = False,
        two_layer: bool = False,
        beta: float = 1.0,
        depth: int = 1,
        scale: float = 5.0,
        offset: float = 3.0,
        pt: float = 0.5,
        alpha: float = 1.0,
        learn_pt: bool = False,
        train_degree: int = -1,
        test_degree: int = -1,
        split_size: int = -1,
        official_quirks: bool = False,
    ) -> None:
        _check_calibration(scale, offset, pt, alpha)
        for name, value in (
            ("train_degree", train_degree),
            ("test_degree", test_degree),
            ("split_size", split_size),
        ):
            if not isinstance(value, int) or (value < 1 and value != -1):
                raise ConfigError(
                    f"NCNCPredictor: {name} is {value!r}, but a whole number above 0 is expected, "
                    "or -1 for no limit."
                )
        super().__init__(
            hidden_channels,
            dropout=dropout,
            edge_dropout=edge_dropout,
            layer_norm=layer_norm,
            use_xlin=use_xlin,
            tail_act=tail_act,
            two_layer=two_layer,
            beta=beta,
        )
        self.depth = check_hops("NCNCPredictor", depth, "depth")
        self.scale, self.offset, self.pt, self.alpha = scale, offset, pt, alpha
        self.train_degree, self.test_degree = train_degree, test_degree
        self.split_size = split_size
        self.official_quirks = official_quirks
        self.ptlin = None
        if learn_pt:
            self.ptlin = _Block(hidden_channels, (False,), 0.0, 1)

    def _logits(self, h: Tensor, graph: Graph, pairs: Tensor) -> Tensor:
        return self._completed(h, graph, pairs, self.depth, self.training)

    def _completed(
        self,
        h: Tensor,
        graph: Graph,
        pairs: Tensor,
        depth: int,
        training: bool,
    ) -> Tensor:
        """The logits of completion ``depth``."""
        if depth == 0:
            common = find_sets(graph, pairs, ends=self.official_quirks)[0]
            return self._decided(h, pairs, listed(common), None, training)
        found = find_sets(graph, pairs, differences=True, ends=self.official_quirks)
        degree = self.train_degree if self.training else self.test_degree
        common, (first, other) = listed(found[0]), (drawn(s, degree) for s in found[1:])
        soft = joined(first, other)
        ends = torch.cat([pairs[1][first.pair], pairs[0][other.pair]])
        asked = torch.stack([ends, soft.node])
        x = None
        if self.official_quirks:
            x = self._mapped(h, training)
            inner = self._in_parts(x, self._thinned(graph), asked, depth - 1, training)
        else:
            inner = self._of_distinct(h, graph, asked, depth - 1)
        weight = self._probability(inner, h, pairs, soft.pair)
        if soft.weight is not None:
            weight = weight * soft.weight.to(weight.dtype)
        pooled = joined(common, soft._replace(weight=weight))
        return self._decided(h, pairs, pooled, None, training, x)

    def _of_distinct(self, h: Tensor, graph: Graph, asked: Tensor, depth: int) -> Tensor:
        """Logits without dropout; of the same two nodes once, whichever of them comes first."""
        if torch.compiler.is_compiling():
            return self._in_parts(h, graph, asked, depth, False)
        low, high = torch.aminmax(asked, dim=0)
        keys, place = torch.unique(low * graph.num_dst + high, return_inverse=True)
        nodes = max(1, graph.num_dst)
        pairs = torch.stack([keys // nodes, keys % nodes])
        return self._in_parts(h, graph, pairs, depth, False)[place]

    @torch.no_grad()
    def _in_parts(
        self, h: Tensor, graph: Graph, pairs: Tensor, depth: int, training: bool
    ) -> Tensor:
        if self.split_size < 0:
            return self._completed(h, graph, pairs, depth, training)
        parts = pairs.split(self.split_size, dim=1)
        return torch.cat([self._completed(h, graph, part, depth, training) for part in parts])

    def _probability(self, logit: Tensor, h: Tensor, pairs: Tensor, pair: Tensor) -> Tensor:
        """P of the inner logits, of which each belongs to the pair ``pair`` of ``pairs``."""
        # t p / (t p + 1 - p) is the logistic function once more, of its argument plus log(t)
        logit = self.scale * (
            logit.to(torch.promote_types(logit.dtype, torch.float32)) - self.offset
        )
        if self.ptlin is None:
            return self.alpha * (logit + math.log(self.pt)).sigmoid()
        log_pt = logsigmoid(self.ptlin(_product(h, pairs), False).squeeze(1))
        return self.alpha * (logit + log_pt.to(logit.dtype)[pair]).sigmoid()

    def extra_repr(self) -> str:
        given = ("depth", "scale", "offset", "pt", "alpha")
        return ", ".join([super().extra_repr(), *(f"{n}={getattr(self, n)}" for n in given)])


def _check_calibration(scale: float, offset: float, pt: float, alpha: float) -> None:
    if not (scale > 0 and math.isfinite(scale)) or math.isnan(offset):
        raise ConfigError(
            f"NCNCPredictor: scale is {scale!r} and offset {offset!r}, but a finite number above 0 "
            "and a number are expected."
        )
    if not (pt > 0 and math.isfinite(pt)) or not (alpha >= 0 and math.isfinite(alpha)):
        raise ConfigError(
            f"NCNCPredictor: pt is {pt!r} and alpha {alpha!r}, but a finite number above 0 and one "
            "from 0 on are expected."
        )


def _product(h: Tensor, pairs: Tensor) -> Tensor:
    """``h_i * h_j`` of the pairs, ``[B, h]``."""
    # the gradient of embedding is faster than those of index_select and of gather here
    first, second = embedding(pairs[0], h), embedding(pairs[1], h)
    return first * second if torch.is_grad_enabled() else first.mul_(second)
