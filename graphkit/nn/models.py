"""Whole node-level models, by the names the command line knows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, nearest
from ..graph import Adj, Graph, as_graph
from ..ops import dropout, relu_dropout
from .acm import ACMGCN, ACMSGC, ACMSnowball, Variant
from .deep import DEEP
from .digcn import DGCN, DiGCN, DiGCNIB
from .directed import DirGNN
from .gat import GATConv, GATv2Conv
from .gcn import GCNConv
from .gin import GINConv
from .inputs import over_blocks
from .linear import batch_normed, reset
from .magnet import MagNet
from .mlp import MLP
from .sage import SAGEConv
from .sparse import dropped, sparse_if_few

_ACTIVATIONS = {"relu": functional.relu, "elu": functional.elu}


class Stack(nn.Module):
    """Convolutions one after another, with dropout on every input and an activation between.

    ``forward(x [N, in], edge_index)`` returns the last layer's output; a tensor ``edge_index`` is
    sorted once for all layers. Any layer called as ``conv(x, graph)`` fits. ``norms`` stand behind
    all layers but the last, before the activation; ``drop_input=False`` leaves x itself whole.

    Instead of a graph it takes the blocks of a sampled neighbourhood, one for each layer: ``x`` is
    then of the sources of the first, and the output of the destinations of the last. Layers that
    need to know the whole graph (GCN, GIN, ACM) read ``whole``: the rows of :meth:`of_whole` of
    those sources.
    """

    def __init__(
        self,
        convs: Iterable[nn.Module],
        *,
        dropout: float = 0.0,
        act: str = "relu",
        norms: Iterable[nn.Module] = (),
        drop_input: bool = True,
    ) -> None:
        super().__init__()
        if act not in _ACTIVATIONS:
            raise ConfigError(f"Stack: unknown act {act!r}. {nearest(act, _ACTIVATIONS)}")
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(norms)
        if len(self.norms) not in (0, len(self.convs) - 1):
            raise ConfigError(
                f"Stack: got {len(self.norms)} norms for {len(self.convs)} layers, but one behind "
                "each layer except the last is expected, or none."
            )
        self.dropout = dropout
        self.act = act
        self.drop_input = drop_input

    def reset_parameters(self) -> None:
        for module in (*self.convs, *self.norms):
            reset(module)

    def of_whole(self, graph: Graph) -> Tensor | None:
        """What the layers need to know of the whole graph on sampled blocks, ``[N, ...]``."""
        of_whole = getattr(self.convs[0], "of_whole", None)
        return None if of_whole is None else of_whole(graph)

    def layer(self, number: int, x: Tensor, block: Graph, whole: Tensor | None) -> Tensor:
        """Layer ``number`` on a block; ``x`` and ``whole`` are of its sources."""
        x = self._input(number, x)
        known = {} if whole is None else {"whole": whole}
        return self.convs[number]((x, x[: block.num_dst]), block, **known)

    def forward(
        self, x: Tensor, edge_index: Adj | Sequence[Graph], whole: Tensor | None = None
    ) -> Tensor:
        if isinstance(edge_index, Sequence):
            return over_blocks(self, x, edge_index, whole)
        graph = as_graph(edge_index, x.size(0), x.size(0))
        h = sparse_if_few(x) if getattr(self.convs[0], "takes_sparse", False) else x
        for number, conv in enumerate(self.convs):
            h = conv(self._input(number, h), graph)
        return h

    def _input(self, number: int, x: Any) -> Any:
        """What the convolution ``number`` takes: normalised, activated, dropped."""
        if number == 0:
            return dropped(x, self.dropout, self.training) if self.drop_input else x
        x = batch_normed(self.norms[number - 1], x) if self.norms else x
        if self.act == "relu":
            return relu_dropout(x, self.dropout, self.training)
        return dropout(_ACTIVATIONS[self.act](x), self.dropout, self.training)


def _stack(layer: Callable[[int, int, bool], nn.Module], act: str = "relu") -> Callable[..., Stack]:
    def build(
        widths: list[int], dropout: float, norm: str | None = None, drop_input: bool = True
    ) -> Stack:
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        convs = [layer(a, b, i == len(pairs) - 1) for i, (a, b) in enumerate(pairs)]
        norms = [nn.BatchNorm1d(width) for width in widths[1:-1]] if norm else []
        return Stack(convs, dropout=dropout, act=act, norms=norms, drop_input=drop_input)

    return build


def _attention(conv: type[GATConv] | type[GATv2Conv]) -> Callable[[int, int, bool], nn.Module]:
    def layer(in_channels: int, out_channels: int, last: bool) -> nn.Module:
        if last:
            return conv(in_channels, out_channels, heads=1)
        if out_channels % 8:
            raise ConfigError(
                f"{conv.__name__}: hidden width {out_channels} is not a multiple of its 8 heads."
            )
        return conv(in_channels, out_channels // 8, heads=8)

    return layer


def _gin(in_channels: int, out_channels: int, last: bool) -> nn.Module:
    hidden = max(out_channels, 16) if last else out_channels
    return GINConv(MLP([in_channels, hidden, out_channels]), train_eps=True)


def _mlp(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = False,
    *,
    act_first: bool = False,
) -> MLP:
    # its input is never dropped
    return MLP(widths, dropout=dropout, norm=norm, act_first=act_first)


def _acm(variant: Variant, *, plus: bool = False, residual: bool = False) -> Callable[..., ACMGCN]:
    name = f"{variant}-gcn{'++' if residual else '+' if plus else ''}"

    def build(
        widths: list[int],
        dropout: float,
        norm: str | None = None,
        drop_input: bool = True,
        *,
        filter: Literal["rw", "sym"] = "rw",
        scale_output: bool = True,
    ) -> ACMGCN:
        _no_norm(name, norm, drop_input)
        sizes = *_ends(widths), len(widths) - 1
        return ACMGCN(*sizes, dropout, variant, filter, scale_output=scale_output)

    def build_plus(
        widths: list[int],
        dropout: float,
        norm: str | None = None,
        drop_input: bool = True,
        *,
        filter: Literal["rw", "sym"] = "rw",
        layer_norm: bool = True,
        structure: bool = False,
        scale_output: bool = True,
        num_nodes: int | None = None,
    ) -> ACMGCN:
        _no_norm(name, norm, drop_input)
        if structure and num_nodes is None:
            raise ConfigError(
                f"Model {name!r}: structure needs num_nodes, the number of nodes of the graph."
            )
        sizes = *_ends(widths), len(widths) - 1
        options: dict[str, Any] = dict(layer_norm=layer_norm, scale_output=scale_output)
        options |= dict(structure_nodes=num_nodes if structure else None, residual=residual)
        return ACMGCN(*sizes, dropout, variant, filter, **options)

    return build_plus if plus or residual else build


def _acm_sgc(variant: Variant) -> Callable[..., ACMSGC]:
    def build(
        widths: list[int],
        dropout: float,
        norm: str | None = None,
        drop_input: bool = True,
        *,
        hops: int = 1,
        filter: Literal["rw", "sym"] = "rw",
        layer_norm: bool = False,
        scale_output: bool = True,
    ) -> ACMSGC:
        # one layer, whatever the number of hidden ones
        _no_norm(f"{variant}-sgc", norm, drop_input)
        ends = widths[0], widths[-1]
        return ACMSGC(*ends, hops, dropout, variant, filter, layer_norm, scale_output)

    return build


def _acm_snowball(variant: Variant) -> Callable[..., ACMSnowball]:
    def build(
        widths: list[int],
        dropout: float,
        norm: str | None = None,
        drop_input: bool = True,
        *,
        filter: Literal["rw", "sym"] = "rw",
        layer_norm: bool = False,
        scale_output: bool = True,
    ) -> ACMSnowball:
        _no_norm(f"{variant}-snowball", norm, drop_input)
        sizes = *_ends(widths), len(widths) - 1
        return ACMSnowball(*sizes, dropout, variant, filter, layer_norm, scale_output)

    return build


def _dir(conv: Literal["gcn", "sage", "gat"]) -> Callable[..., DirGNN]:
    def build(
        widths: list[int],
        dropout: float,
        norm: str | None = None,
        drop_input: bool = True,
        *,
        alpha: float = 0.5,
        learn_alpha: bool = False,
        jk: Literal["max", "cat", "none"] = "max",
        normalize: bool = False,
    ) -> DirGNN:
        _refuse_norm(f"dir-{conv}", norm)
        sizes = *_ends(widths), len(widths) - 1
        return DirGNN(*sizes, dropout, conv, alpha, learn_alpha, jk, normalize, drop_input)

    return build


def _magnet(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    K: int = 1,
    q: float = 0.25,
) -> MagNet:
    _refuse_norm("magnet", norm)
    return MagNet(*_ends(widths), len(widths) - 1, dropout, K, q, drop_input)


def _digcn(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    alpha: float = 0.1,
) -> DiGCN:
    _refuse_norm("digcn", norm)
    return DiGCN(*_ends(widths), len(widths) - 1, dropout, alpha, drop_input)


def _digcn_ib(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    alpha: float = 0.1,
    k: int = 2,
    fusion: Literal["sum", "cat"] = "sum",
) -> DiGCNIB:
    _refuse_norm("digcn-ib", norm)
    return DiGCNIB(*_ends(widths), len(widths) - 1, dropout, alpha, k, fusion, drop_input)


def _dgcn(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    swapped_degrees: bool = False,
) -> DGCN:
    _refuse_norm("dgcn", norm)
    return DGCN(*_ends(widths), len(widths) - 1, dropout, swapped_degrees, drop_input)


def _refuse_norm(name: str, norm: str | None) -> None:
    if norm is not None:
        raise ConfigError(f"Model {name!r} has no norm, but norm={norm!r} was asked for.")


def _ends(widths: list[int]) -> tuple[int, int, int]:
    """Width of the input, of what is hidden, of the output."""
    return widths[0], widths[1], widths[-1]


def _no_norm(name: str, norm: str | None, drop_input: bool) -> None:
    if norm is not None or not drop_input:
        raise ConfigError(
            f"Model {name!r} has no norm and drops its input, but norm={norm!r} and "
            f"drop_input={drop_input} were asked for. Leave them at None and True."
        )


MODELS: dict[str, Callable[..., nn.Module]] = {
    "acm-gcn": _acm("acm"),
    "acm-gcn+": _acm("acm", plus=True),
    "acm-gcn++": _acm("acm", residual=True),
    "acm-sgc": _acm_sgc("acm"),
    "acm-snowball": _acm_snowball("acm"),
    "acmii-gcn": _acm("acmii"),
    "acmii-gcn+": _acm("acmii", plus=True),
    "acmii-gcn++": _acm("acmii", residual=True),
    "acmii-sgc": _acm_sgc("acmii"),
    "acmii-snowball": _acm_snowball("acmii"),
    "dgcn": _dgcn,
    "digcn": _digcn,
    "digcn-ib": _digcn_ib,
    "dir-gat": _dir("gat"),
    "dir-gcn": _dir("gcn"),
    "dir-sage": _dir("sage"),
    "gat": _stack(_attention(GATConv), act="elu"),
    "gatv2": _stack(_attention(GATv2Conv), act="elu"),
    "gcn": _stack(lambda a, b, last: GCNConv(a, b)),
    "gin": _stack(_gin),
    "magnet": _magnet,
    "mlp": _mlp,
    "sage": _stack(lambda a, b, last: SAGEConv(a, b)),
    **DEEP,
}
"""Model name to a function of the layer widths, input to output, the dropout probability, and
optionally ``norm`` and ``drop_input`` as :func:`build_model` takes them. What else it takes, by
keyword alone, are the model's own options; ``num_nodes`` among them is filled in."""


# of these None as the last width leaves the classifier on top out
_WITH_CLASSIFIER = ("dgcn", "dir-gat", "dir-gcn", "dir-sage", "magnet")


def own_options(
    name: str, models: Mapping[str, Callable[..., nn.Module]] | None = None
) -> dict[str, inspect.Parameter]:
    """The options that the model ``name`` has of its own, with their types and defaults.

    It is one of ``models``, builders like those of :data:`MODELS`, which are taken if not given.
    Raises :class:`ConfigError` for an unknown name.
    """
    builder = _builder(name, MODELS if models is None else models)
    taken = inspect.signature(builder, eval_str=True).parameters
    return {
        key: value
        for key, value in taken.items()
        if value.kind is value.KEYWORD_ONLY and key != "num_nodes"
    }


def build_model(
    name: str,
    in_channels: int,
    hidden_channels: int,
    out_channels: int | None,
    *,
    num_layers: int = 2,
    dropout: float = 0.5,
    norm: str | None = None,
    drop_input: bool = True,
    num_nodes: int | None = None,
    models: Mapping[str, Callable[..., nn.Module]] | None = None,
    **options: Any,
) -> nn.Module:
    """The model ``name`` of :data:`MODELS`, called as ``model(x, edge_index_or_graph)``.

    It is one of ``models``, builders of the same form such as :data:`HYPER_MODELS`, if these are
    given.

    ``norm="batch_norm"`` puts one behind every layer but the last; ``drop_input=False`` applies
    dropout between the layers alone. ``out_channels=None`` asks for vectors of the nodes: what the
    classifier on top would read where the model has one, of width ``model.out_channels``, else a
    last layer of width ``hidden_channels``. ``options`` are the model's own (:func:`own_options`);
    ``num_nodes`` is asked for by models with weights for each node.

    Raises :class:`ConfigError` for an unknown name (the nearest is offered), an option that the
    model does not have, or impossible sizes.
    """
    models = MODELS if models is None else models
    builder = _builder(name, models)
    if out_channels is None and (num_layers < 2 or name.lower() not in _WITH_CLASSIFIER):
        out_channels = hidden_channels
    out_width = hidden_channels if out_channels is None else out_channels
    if num_layers < 1 or min(in_channels, hidden_channels, out_width) < 1:
        raise ConfigError(
            f"Model {name!r}: widths ({in_channels}, {hidden_channels}, {out_channels}) and "
            f"num_layers={num_layers} must all be at least 1."
        )
    if not 0 <= dropout < 1:
        raise ConfigError(f"Model {name!r}: dropout={dropout}, but 0 <= dropout < 1 is expected.")
    if norm not in (None, "batch_norm"):
        raise ConfigError(f"Model {name!r}: norm={norm!r}, but None or 'batch_norm' is expected.")
    known = own_options(name, models)
    for key in options:
        if key not in known:
            hint = nearest(key, known) if known else "It has no options of its own."
            raise ConfigError(f"Model {name!r}: unknown option {key!r}. {hint}")
    if "num_nodes" in inspect.signature(builder).parameters:
        options["num_nodes"] = num_nodes
    widths: list[Any] = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
    return builder(widths, dropout, norm, drop_input, **options)


def _builder(name: str, models: Mapping[str, Callable[..., nn.Module]]) -> Callable[..., nn.Module]:
    builder = models.get(name.lower())
    if builder is None:
        raise ConfigError(f"Unknown model {name!r}. {nearest(name, models)}")
    return builder
