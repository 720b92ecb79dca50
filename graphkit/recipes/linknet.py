"""Networks that score pairs of nodes, by the names that the recipe ``link`` knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import ConfigError
from ..graph import Graph
from ..nn import BUDDY, MLP, NCNCPredictor, NCNEncoder, NCNPredictor, build_model
from ..nn.linear import glorot_
from ..nn.ncn import Second
from ..nn.ncn_encoder import Conv
from ..structure import HEURISTICS as SCORES
from ..structure import (
    estimated_counts,
    personalized_pagerank,
    sketch_neighborhoods,
    with_normalized,
)
from ..structure.directed import once

# the models whose dropout can leave the learnt vectors whole, as OGB's examples do
ENCODERS = ("gcn", "sage", "gat", "gatv2", "gin", "mlp")
HEURISTICS = {
    "cn": SCORES["common-neighbors"],
    "aa": SCORES["adamic-adar"],
    "ra": SCORES["resource-allocation"],
    "katz": SCORES["katz"],
    # on Cora hits differ by half a point from those at a tenth of it, which takes 2.4 times as long
    "ppr": partial(personalized_pagerank, eps=1e-5),
}
"""Models without weights: what scores pairs [2, B] of a graph."""
BY_NEIGHBORS = ("ncn", "ncnc")
"""Models that look at the neighbours of both ends, among which a training edge would show."""

Decoder = Literal["mlp", "dot"]
Builders = Mapping[str, Callable[..., nn.Module]]


class PairModel(nn.Module):
    """What scores pairs: ``h = forward(x, graph)``, then ``score(h, pairs, graph)``.

    All but ``predictor`` is the encoder, which may have a learning rate of its own. ``is_logit``:
    are scores logits of a link? ``is_joint``: are links and pairs without one scored in one call in
    training? A batch norm that sees one kind alone takes away what tells it from the other.
    ``at_once``: so many pairs are scored in one call, None for a batch of the run.
    """

    is_logit = is_joint = True
    at_once: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.encoder_lr: float | None = None
        self.predictor: nn.Module | None = None

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The parameters and their learning rates, the predictor's last."""
        last = [] if self.predictor is None else list(self.predictor.parameters())
        own = {id(p) for p in last}
        first = [p for p in self.parameters() if id(p) not in own]
        rate = {} if self.encoder_lr is None else {"lr": self.encoder_lr}
        return [{"params": first, **rate}, {"params": last}]

    def at_rate(self, encoder_lr: float | None) -> PairModel:
        """Itself, with this learning rate of the encoder, None for that of the run.

        With 0 there are no gradients, and the weights stay as they are.
        """
        self.encoder_lr = encoder_lr
        for p in self.parameter_groups(0.0)[0]["params"]:
            p.requires_grad_(encoder_lr != 0)
        return self


def _vectors(num_nodes: int, in_channels: int | None, width: int) -> nn.Embedding | None:
    """A learnt vector for each node where there are no features."""
    if in_channels is not None:
        return None
    vectors = nn.Embedding(num_nodes, width)
    glorot_(vectors.weight)
    return vectors


class LinkNet(PairModel):
    """An encoder of nodes, and an MLP on the product of two of them: ``score(h, pairs) [...]``.

    Args:
        model: the encoder, one of ``graphkit.nn.MODELS``.
        num_nodes: number of nodes, each of which has a learnt vector where ``in_channels`` is None.
        in_channels: number of features.
        hidden: width of the learnt vectors, the encoder and the predictor.
        num_layers: layers of the encoder, and of the predictor.
        dropout: probability between layers; features and learnt vectors are not dropped.
        decoder: ``mlp``, or ``dot`` for the sum over the product, as in graph autoencoders (Kipf
            and Welling 2016).
    """

    # one kind after the other, as OGB's examples do
    is_joint = False

    def __init__(
        self,
        model: str,
        num_nodes: int,
        in_channels: int | None,
        hidden: int,
        num_layers: int,
        dropout: float,
        decoder: Decoder = "mlp",
    ) -> None:
        super().__init__()
        self.vectors = _vectors(num_nodes, in_channels, hidden)
        widths = in_channels or hidden, hidden, hidden
        about: dict[str, Any] = dict(num_layers=num_layers, dropout=dropout, drop_input=False)
        self.encoder = build_model(model, *widths, **about)
        if decoder == "mlp":
            self.predictor = MLP([hidden] * num_layers + [1], dropout=dropout, norm=None)

    def forward(self, x: Tensor | None, graph: Graph) -> Tensor:
        """Vectors of the nodes, [N, hidden]."""
        return self.encoder(x if self.vectors is None else self.vectors.weight, graph)

    def score(self, h: Tensor, pairs: Tensor, graph: Graph | None = None) -> Tensor:
        """The logit of a link for each of ``pairs [..., 2]``, float32 [...]."""
        product = h[pairs[..., 0]] * h[pairs[..., 1]]
        if self.predictor is None:
            return product.float().sum(dim=-1)
        return self.predictor(product).squeeze(-1).float()


class NeighborNet(PairModel):
    """NCN or NCNC: an encoder of nodes, and a predictor that reads those that two nodes share.

    Args:
        encoder: called with features, or None where nodes have learnt vectors, and a graph.
        predictor: called with the vectors of the nodes, a graph and pairs [2, B].
        one_hot: features are one of a kind in each row: the encoder is given its number.
        neighbors: False lets the predictor see a graph without edges, so that it knows the two
            vectors alone.
    """

    def __init__(
        self,
        encoder: nn.Module,
        predictor: nn.Module,
        one_hot: bool = False,
        neighbors: bool = True,
    ) -> None:
        super().__init__()
        self.encoder, self.predictor = encoder, predictor
        self.one_hot, self.neighbors = one_hot, neighbors

    def forward(self, x: Tensor | None, graph: Graph) -> Tensor:
        """Vectors of the nodes, [N, hidden]."""
        return self.encoder(x.argmax(dim=1) if self.one_hot and x is not None else x, graph)

    def score(self, h: Tensor, pairs: Tensor, graph: Graph) -> Tensor:
        """The logit of a link for each of ``pairs [..., 2]``, float32 [...]."""
        assert self.predictor is not None
        if not self.neighbors:
            none = torch.empty(2, 0, dtype=torch.int64, device=h.device)
            graph = Graph.from_edge_index(none, graph.num_dst)
        flat = pairs.reshape(-1, 2).t()
        return self.predictor(h, graph, flat).view(pairs.shape[:-1]).float()


class SketchNet(PairModel):
    """BUDDY: propagated features, and how the neighbourhoods of two nodes overlap, by sketches.

    Features are propagated once for each graph that they are given with, and sketches made once for
    each graph; learnt vectors are propagated in each step.
    The nodes are encoded all together, so that batch norm is over all of them.

    Args:
        num_nodes: number of nodes, each of which has a learnt vector where ``in_channels`` is None.
        in_channels: number of features.
        hidden: width of the vectors of nodes.
        hops: hops of the neighbourhoods that are counted.
        normalized: read the counts divided by the degrees of both ends, too.
        about: what else :class:`graphkit.nn.BUDDY` takes.
        sketches: what else :func:`graphkit.structure.sketch_neighborhoods` takes.
    """

    def __init__(
        self,
        num_nodes: int,
        in_channels: int | None,
        hidden: int,
        hops: int,
        normalized: bool,
        about: Mapping[str, Any],
        sketches: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.vectors = _vectors(num_nodes, in_channels, hidden)
        net = BUDDY(in_channels or hidden, hidden, hops, planes=1 + normalized, **about)
        self.encoder, self.predictor = net.encoder, net.predictor
        self.normalized, self.sketches = normalized, {"hops": hops, **sketches}
        self.rows_key = "buddy", in_channels, about["K"]
        self.sketches_key = "buddy", *sorted(self.sketches.items())

    def forward(self, x: Tensor | None, graph: Graph) -> Tensor:
        """Vectors of the nodes, [N, hidden]."""
        if self.vectors is not None:
            return self.encoder(self.vectors.weight, graph)
        assert x is not None
        return self.encoder(self._rows(x, graph))

    def _rows(self, x: Tensor, graph: Graph) -> Tensor:
        """``x`` propagated, kept as long as both are there and ``x`` is as it was."""
        if x.is_inference():
            # it does not say whether it changed
            return self.encoder.precompute(x, graph)
        kept: Any = once(graph, self.rows_key, WeakTensorKeyDictionary)
        version, rows = kept.get(x, (None, None))
        if rows is None or version != x._version:
            # what was made in inference mode could not take part in training later
            with torch.inference_mode(False), torch.no_grad():
                rows = self.encoder.precompute(x, graph)
            kept[x] = x._version, rows
        return rows

    def score(self, h: Tensor, pairs: Tensor, graph: Graph) -> Tensor:
        """The logit of a link for each of ``pairs [..., 2]``, float32 [...]."""
        assert self.predictor is not None
        flat = pairs.reshape(-1, 2).t()
        made = once(graph, self.sketches_key, lambda: sketch_neighborhoods(graph, **self.sketches))
        counts = estimated_counts(made, flat)
        if self.normalized:
            counts = with_normalized(counts, graph, flat)
        return self.predictor(h, counts, flat).view(pairs.shape[:-1]).float()


class Heuristic(PairModel):
    """A score of pairs by the graph alone, without weights; ``name`` is one of ``HEURISTICS``."""

    is_logit = False
    # they bound their memory themselves, and katz and ppr start from each end once in a call
    at_once = 2**22

    def __init__(self, name: str) -> None:
        super().__init__()
        self.of = HEURISTICS[name]

    def forward(self, x: Tensor | None, graph: Graph) -> Tensor:
        """Nothing: no vectors are needed."""
        return torch.empty(graph.num_dst, 0, device=graph.device)

    def score(self, h: Tensor, pairs: Tensor, graph: Graph) -> Tensor:
        """The score of each of ``pairs [..., 2]``, float32 [...]."""
        return self.of(graph, pairs.reshape(-1, 2).t()).view(pairs.shape[:-1])


def link_net(
    model: str,
    num_nodes: int,
    in_channels: int | None,
    hidden: int,
    num_layers: int,
    dropout: float,
    model_options: Mapping[str, Any] | None = None,
) -> Any:
    """The model ``model`` of :data:`LINK_MODELS` for a graph of such nodes."""
    sizes = num_nodes, in_channels, hidden, num_layers, dropout
    return LINK_MODELS[model](*sizes, **(model_options or {}))


def _encoder(name: str) -> Callable[..., LinkNet]:
    def build(
        num_nodes: int,
        in_channels: int | None,
        hidden: int,
        num_layers: int,
        dropout: float,
        *,
        decoder: Decoder = "mlp",
    ) -> LinkNet:
        return LinkNet(name, num_nodes, in_channels, hidden, num_layers, dropout, decoder)

    return build


def _gae(
    num_nodes: int,
    in_channels: int | None,
    hidden: int,
    num_layers: int,
    dropout: float,
    *,
    encoder: Literal["gcn", "sage", "gat", "gatv2", "gin", "mlp"] = "gcn",
    decoder: Decoder = "dot",
) -> LinkNet:
    return LinkNet(encoder, num_nodes, in_channels, hidden, num_layers, dropout, decoder)


def _ncn(
    num_nodes: int,
    in_channels: int | None,
    hidden: int,
    num_layers: int,
    dropout: float,
    *,
    conv: Conv = "puregcn",
    x_dropout: float = 0.0,
    tail_dropout: float = 0.0,
    edge_dropout: float = 0.0,
    layer_norm: bool = True,
    residual: bool = False,
    jk: bool = False,
    one_hot: bool = False,
    predictor_dropout: float = 0.0,
    predictor_edge_dropout: float = 0.0,
    predictor_norm: bool = True,
    use_xlin: bool = False,
    tail_act: bool = False,
    two_layer: bool = False,
    beta: float = 1.0,
    second: Second = "none",
    neighbors: bool = True,
) -> NeighborNet:
    return _neighbor_net(NCNPredictor, locals())


def _ncnc(
    num_nodes: int,
    in_channels: int | None,
    hidden: int,
    num_layers: int,
    dropout: float,
    *,
    conv: Conv = "puregcn",
    x_dropout: float = 0.0,
    tail_dropout: float = 0.0,
    edge_dropout: float = 0.0,
    layer_norm: bool = True,
    residual: bool = False,
    jk: bool = False,
    one_hot: bool = False,
    predictor_dropout: float = 0.0,
    predictor_edge_dropout: float = 0.0,
    predictor_norm: bool = True,
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
) -> NeighborNet:
    return _neighbor_net(NCNCPredictor, locals())


_OF_ENCODER = ("conv", "x_dropout", "tail_dropout", "edge_dropout", "layer_norm", "residual", "jk")
# what has other names beside those of the encoder
_OF_BOTH = {"dropout": "predictor_dropout", "edge_dropout": "predictor_edge_dropout"}
_OF_BOTH |= {"layer_norm": "predictor_norm"}
_OF_NET = ("num_nodes", "in_channels", "hidden", "num_layers", "dropout", "one_hot", "neighbors")


def _neighbor_net(kind: type[NCNPredictor], given: Mapping[str, Any]) -> NeighborNet:
    """The encoder and a predictor of this ``kind``, by the parameters of the builders above."""
    width, one_hot = given["in_channels"], given["one_hot"]
    if one_hot and width is None:
        raise ConfigError("one_hot is for nodes with features, and these have none. Leave it out.")
    has_vectors = one_hot or width is None
    encoder = NCNEncoder(
        None if has_vectors else width,
        given["hidden"],
        given["num_layers"],
        num_embeddings=(width if one_hot else given["num_nodes"]) if has_vectors else None,
        dropout=given["dropout"],
        **{name: given[name] for name in _OF_ENCODER},
    )
    aside = {*_OF_ENCODER, *_OF_BOTH.values(), *_OF_NET}
    options = {name: value for name, value in given.items() if name not in aside}
    options |= {name: given[own] for name, own in _OF_BOTH.items()}
    predictor = kind(given["hidden"], **options)
    return NeighborNet(encoder, predictor, one_hot, given.get("neighbors", True))


def _buddy(
    num_nodes: int,
    in_channels: int | None,
    hidden: int,
    num_layers: int,
    dropout: float,
    *,
    hops: int = 2,
    K: int = 0,
    count_dropout: float = 0.5,
    normalized: bool = False,
    near: bool = False,
    permutations: int = 128,
    precision: int = 8,
) -> SketchNet:
    # its layers are not stacked: K says how far features are propagated
    about = dict(K=K, dropout=dropout, count_dropout=count_dropout, near=near)
    made = dict(permutations=permutations, precision=precision)
    return SketchNet(num_nodes, in_channels, hidden, hops, normalized, about, made)


def _heuristic(name: str) -> Callable[..., Heuristic]:
    def build(
        num_nodes: int, in_channels: int | None, hidden: int, num_layers: int, dropout: float
    ) -> Heuristic:
        return Heuristic(name)

    return build


LINK_MODELS: Builders = {
    **{name: _encoder(name) for name in ENCODERS},
    "gae": _gae,
    "buddy": _buddy,
    "ncn": _ncn,
    "ncnc": _ncnc,
    **{name: _heuristic(name) for name in HEURISTICS},
}
"""Model name to a function of the number of nodes, the number of features or None, the hidden
width, the number of layers and the dropout probability. What else it takes, by keyword alone, are
the model's own options."""
