"""Whole models of hypergraphs, by the names the command line knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError
from ..graph import Adj, Graph
from ..ops import dropout, relu_dropout
from ..structure.directed import once
from ..structure.hypergraph import clique_expansion
from ..structure.subgraph import edge_subgraph
from .gat import GATConv
from .gcn import GCNConv
from .hypergraph import HGNNConv, HGNNPConv, HNHNConv, HyperGCNConv, read_hypergraph
from .hyperset import Aggregation, AllSetConv, EDHNNConv, SetMLP, UniConv, UniGCNIIConv
from .linear import batch_normed, reset
from .mlp import MLP
from .sparse import SparseRows, dropped, mapped, sparse_if_few

_ACTIVATIONS = {"relu": functional.relu, "elu": functional.elu}


class HyperStack(nn.Module):
    """Convolutions of a hypergraph one after another, with what their models have around them.

    Args:
        convs: Called as ``conv(x, hypergraph, hyperedge_weight)``, or ``conv(x, x_0, hypergraph,
            hyperedge_weight)`` if there is a ``lin_in``, whose output is ``x_0``.
        dropout: Probability behind every activation.
        input_dropout: Probability on the features.
        lin_in: A linear map of the features, with a ReLU behind.
        head: What maps the output of the last convolution, activated and dropped, to the result;
            without it that output is the result.
        act: ``relu`` or ``elu``.
        norms: Behind the activations between the convolutions, or none.
        expand: ``features``: the edges that HyperGCN's first convolution chooses by the input are
            those of all. ``clique``: convolutions are of graphs, over any two nodes with a
            hyperedge in common, once; weights of hyperedges then only say, by 0, which are there.
        lin_decay: For :meth:`parameter_groups`, the decay of what is no convolution, where it is
            not that of the convolutions.

    Shapes: as :class:`HGNNConv`; a tensor is sorted once for all layers.
    """

    def __init__(
        self,
        convs: Iterable[nn.Module],
        *,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        lin_in: nn.Linear | None = None,
        head: nn.Module | None = None,
        act: str = "relu",
        norms: Iterable[nn.Module] = (),
        expand: Literal["features", "clique"] | None = None,
        lin_decay: float | None = None,
    ) -> None:
        super().__init__()
        self.lin_in = lin_in
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(norms)
        self.head = head
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.act = act
        self.expand = expand
        self.lin_decay = lin_decay

    def reset_parameters(self) -> None:
        for module in (self.lin_in, *self.convs, *self.norms, self.head):
            if module is not None:
                reset(module)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """What an optimizer takes: all with ``weight_decay``, or both maps with their own."""
        if self.lin_decay is None:
            return [{"params": list(self.parameters()), "weight_decay": weight_decay}]
        inner = list(self.convs.parameters())
        known = set(map(id, inner))
        outer = [one for one in self.parameters() if id(one) not in known]
        return [
            {"params": inner, "weight_decay": weight_decay},
            {"params": outer, "weight_decay": self.lin_decay},
        ]

    def forward(
        self,
        x: Tensor,
        hyperedge_index: Adj,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
    ) -> Tensor:
        given = hyperedge_index, hyperedge_weight, num_edges
        _, over = read_hypergraph("HyperStack", x, *given)
        graph, shared = over.graph, dict[str, Any]()
        first = self.lin_in or self.convs[0]
        h = x
        if isinstance(first, nn.Linear) or getattr(first, "takes_sparse", False):
            h = sparse_if_few(x)
        taken: tuple[Any, ...] = graph, hyperedge_weight
        if self.expand == "features":
            shared["expansion"] = self.convs[0].expand(x, *taken)  # pyright: ignore[reportCallIssue]
        elif self.expand == "clique":
            taken = (clique_graph(graph, hyperedge_weight),)
        h = dropped(h, self.input_dropout, self.training)
        if self.lin_in is not None:
            h = mapped(h, self.lin_in).relu()
            taken = (h, *taken)
            h = dropout(h, self.dropout, self.training)
        for number, conv in enumerate(self.convs):
            if number:
                h = self._between(number, h)
            h = conv(h, *taken, **shared)
        if self.head is None:
            return h
        return self.head(self._between(len(self.convs), h))

    def _between(self, number: int, h: Tensor) -> Tensor:
        """What stands before convolution ``number``."""
        if not self.norms and self.act == "relu":
            return relu_dropout(h, self.dropout, self.training)
        h = _ACTIVATIONS[self.act](h)
        if number <= len(self.norms):
            h = batch_normed(self.norms[number - 1], h)
        return dropout(h, self.dropout, self.training)


def clique_graph(hypergraph: Graph, hyperedge_weight: Tensor | None = None) -> Graph:
    """Any two nodes with a hyperedge in common, joined once each way; kept with the hypergraph."""
    if hyperedge_weight is None:
        return once(hypergraph, "clique", lambda: clique_expansion(hypergraph)[0])
    graph, weight = clique_expansion(hypergraph, hyperedge_weight)
    return edge_subgraph(graph, weight > 0)


class HyperMLP(MLP):
    """:class:`MLP` called as the models of hypergraphs are, which it ignores."""

    def forward(
        self,
        x: Tensor | SparseRows,
        hyperedge_index: Adj | None = None,
        hyperedge_weight: Tensor | None = None,
        num_edges: int | None = None,
    ) -> Tensor:
        return super().forward(x, hyperedge_index)


Build = Callable[..., nn.Module]


def _norms(widths: list[int], norm: str | None) -> list[nn.Module]:
    return [nn.BatchNorm1d(width) for width in widths[1:-1]] if norm else []


def _plain(layer: Callable[[int, int], nn.Module], act: str = "relu") -> Build:
    """Convolutions alone, without options of their own."""

    def build(
        widths: list[int], dropout: float, norm: str | None = None, drop_input: bool = False
    ) -> HyperStack:
        convs = map(layer, widths[:-1], widths[1:])
        return _stacked(convs, widths, dropout, norm, drop_input, act=act)

    return build


def _stacked(
    convs: Iterable[nn.Module],
    widths: list[int],
    dropout: float,
    norm: str | None,
    drop_input: bool,
    **options: Any,
) -> HyperStack:
    first = dropout if drop_input else 0.0
    norms = _norms(widths, norm)
    return HyperStack(convs, dropout=dropout, input_dropout=first, norms=norms, **options)


def _hypergcn(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = False,
    *,
    mediators: bool = True,
    fast: bool = True,
    projection_seed: int = 0,
) -> HyperStack:
    convs = [
        HyperGCNConv(*pair, mediators, projection_seed + number)
        for number, pair in enumerate(zip(widths[:-1], widths[1:], strict=True))
    ]
    expand = "features" if fast else None
    return _stacked(convs, widths, dropout, norm, drop_input, expand=expand)


def _hnhn(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = False,
    *,
    alpha: float = -1.5,
    beta: float = -0.5,
    nonlinear: bool = True,
) -> HyperStack:
    hidden = widths[1] if len(widths) > 2 else None
    convs = [
        HNHNConv(a, b, hidden, alpha, beta, nonlinear)
        for a, b in zip(widths[:-1], widths[1:], strict=True)
    ]
    return _stacked(convs, widths, dropout, norm, drop_input)


def _in_heads(name: str, width: int, heads: int) -> int:
    if heads < 1 or width % heads:
        raise ConfigError(f"Model {name!r}: hidden width {width} is no multiple of {heads} heads.")
    return width // heads


def _unigat(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = False,
    *,
    heads: int = 8,
    attention_dropout: float = 0.0,
) -> HyperStack:
    convs: list[nn.Module] = []
    for a, b in zip(widths[:-2], widths[1:-1], strict=True):
        each = _in_heads("unigat", b, heads)
        convs.append(UniConv(a, each, "gat", heads, dropout=attention_dropout))
    convs.append(UniConv(widths[-2], widths[-1], "gat", dropout=attention_dropout))
    return _stacked(convs, widths, dropout, norm, drop_input, act="elu")


def _unisage(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = False,
    *,
    aggr: Aggregation = "sum",
) -> HyperStack:
    convs = (UniConv(a, b, "sage", aggr=aggr) for a, b in zip(widths[:-1], widths[1:], strict=True))
    return _stacked(convs, widths, dropout, norm, drop_input)


def _cegat(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = False,
    *,
    heads: int = 8,
) -> HyperStack:
    convs = [
        GATConv(a, _in_heads("cegat", b, heads), heads)
        for a, b in zip(widths[:-2], widths[1:-1], strict=True)
    ]
    convs.append(GATConv(widths[-2], widths[-1]))
    return _stacked(convs, widths, dropout, norm, drop_input, act="elu", expand="clique")


def _cegcn(
    widths: list[int], dropout: float, norm: str | None = None, drop_input: bool = False
) -> HyperStack:
    convs = map(GCNConv, widths[:-1], widths[1:])
    return _stacked(convs, widths, dropout, norm, drop_input, expand="clique")


def _depth(name: str, widths: list[int], norm: str | None) -> tuple[int, int]:
    """The hidden width and how many convolutions, of models with maps at their ends."""
    if norm is not None:
        raise ConfigError(
            f"Model {name!r} has no batch_norm, but norm={norm!r} was asked for. Leave it at None."
        )
    return widths[1], len(widths) - 1


def _unigcnii(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = False,
    *,
    alpha: float = 0.1,
    theta: float = 0.5,
    lin_decay: float | None = None,
) -> HyperStack:
    hidden, depth = _depth("unigcnii", widths, norm)
    return HyperStack(
        [UniGCNIIConv(hidden, alpha, theta, number) for number in range(1, depth + 1)],
        dropout=dropout,
        input_dropout=dropout if drop_input else 0.0,
        lin_in=nn.Linear(widths[0], hidden),
        head=nn.Linear(hidden, widths[-1]),
        lin_decay=lin_decay,
    )


def _of_sets(
    convs: Iterable[nn.Module],
    widths: list[int],
    dropout: float,
    drop_input: bool,
    input_dropout: float,
    head: tuple[int, int],
) -> HyperStack:
    """Functions of sets with an MLP of hidden width and depth ``head`` behind."""
    hidden = head[0] or widths[1]
    return HyperStack(
        convs,
        dropout=dropout,
        input_dropout=dropout if drop_input else input_dropout,
        head=SetMLP(widths[1], hidden, widths[-1], head[1], dropout),
    )


def _alldeepsets(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = False,
    *,
    mlp_layers: int = 2,
    aggr: Aggregation = "mean",
    head_hidden: int = 0,
    head_layers: int = 1,
    input_dropout: float = 0.2,
) -> HyperStack:
    hidden, depth = _depth("alldeepsets", widths, norm)
    convs = (
        AllSetConv(width, hidden, "deepsets", 1, mlp_layers, aggr, dropout)
        for width in [widths[0], *[hidden] * (depth - 1)]
    )
    return _of_sets(convs, widths, dropout, drop_input, input_dropout, (head_hidden, head_layers))


def _allsettransformer(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = False,
    *,
    heads: int = 4,
    mlp_layers: int = 2,
    head_hidden: int = 0,
    head_layers: int = 1,
    input_dropout: float = 0.2,
) -> HyperStack:
    hidden, depth = _depth("allsettransformer", widths, norm)
    _in_heads("allsettransformer", hidden, heads)
    convs = (
        AllSetConv(width, hidden, "transformer", heads, mlp_layers, dropout=dropout)
        for width in [widths[0], *[hidden] * (depth - 1)]
    )
    return _of_sets(convs, widths, dropout, drop_input, input_dropout, (head_hidden, head_layers))


def _edhnn(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    phi: int = 0,
    rho: int = 0,
    psi: int = 1,
    alpha: float = 0.0,
    aggr: Aggregation = "mean",
    layer_norm: bool = True,
    head_hidden: int = 0,
    head_layers: int = 1,
) -> HyperStack:
    hidden, depth = _depth("edhnn", widths, norm)
    conv = EDHNNConv(hidden, phi, rho, psi, alpha, aggr, dropout, layer_norm)
    return HyperStack(
        # one layer, again and again
        [conv] * depth,
        dropout=dropout,
        input_dropout=dropout if drop_input else 0.0,
        lin_in=nn.Linear(widths[0], hidden),
        head=SetMLP(hidden, head_hidden or hidden, widths[-1], head_layers, dropout, layer_norm),
    )


def _mlp(
    widths: list[int], dropout: float, norm: str | None = None, drop_input: bool = False
) -> HyperMLP:
    # its input is never dropped
    return HyperMLP(widths, dropout=dropout, norm=norm)


HYPER_MODELS: dict[str, Build] = {
    "alldeepsets": _alldeepsets,
    "allsettransformer": _allsettransformer,
    "cegat": _cegat,
    "cegcn": _cegcn,
    "edhnn": _edhnn,
    "hgnn": _plain(HGNNConv),
    "hgnn+": _plain(HGNNPConv),
    "hnhn": _hnhn,
    "hypergcn": _hypergcn,
    "mlp": _mlp,
    "unigat": _unigat,
    "unigcn": _plain(partial(UniConv, mode="gcn")),
    "unigcnii": _unigcnii,
    "unigin": _plain(partial(UniConv, mode="gin", train_eps=True)),
    "unisage": _unisage,
}
"""Models of hypergraphs by name, built as those of ``MODELS`` and called as ``model(x,
hyperedge_index_or_hypergraph)``. The number of layers is that of convolutions; ``unigcnii`` and
``edhnn`` have a map at both ends, the models of sets an MLP behind."""
