"""Models of graphs with several types of nodes and relations, over sampled blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, GraphError, nearest
from ..graph import Graph
from ..ops import dropout, relu_dropout
from .acm import ACMConv
from .gat import GATConv, GATv2Conv
from .gin import GINConv
from .linear import glorot_, linear, reset
from .mlp import MLP
from .sage import SAGEConv

Relation = tuple[str, str, str]

HETERO_MODELS = ("acm-gcn", "acmii-gcn", "gat", "gatv2", "gcn", "gin", "sage")
"""The convolutions that :class:`HeteroStack` is made of, by the names the command line knows."""

# those that read a destination's own features themselves
_OWN = ("acm-gcn", "acmii-gcn", "gin", "sage")


class HeteroStack(nn.Module):
    r"""A convolution for each relation, summed where they arrive, layer after layer.

    .. math::
        h'_t = W_t h_t + \sum_{r = (s \to t)} \mathrm{conv}_r(h_s, h_t)

    as in `Modeling relational data with graph convolutional networks
    <https://arxiv.org/abs/1703.06103>`_, which is what ``gcn`` gives: the mean over the neighbours
    of each relation. The term of the node itself is left out where the convolutions have one of
    their own (SAGE, GIN, ACM). In front, every type has a linear map of its features, or a learnt
    vector for each node where it has none.

    Args:
        model: one of :data:`HETERO_MODELS`.
        relations: (source type, name, destination type) of each relation.
        num_nodes: the number of nodes of each type.
        in_channels: the number of features of each type that has some.
        hidden_channels: width of all hidden layers.
        out_channels: number of outputs.
        target: the type of the nodes that outputs are for.
        num_layers: number of layers.
        dropout: probability, on the features and in front of every layer.

    Shapes: ``x`` is a dict of ``[n, in]``, ``n_id`` of ``[n]``, both of the nodes of a sampled
    neighbourhood, of which ``blocks`` are; ``whole`` are the rows ``n_id`` of :meth:`of_whole`.
    Returns ``[number of seeds, out]`` of the type ``target``.
    """

    def __init__(
        self,
        model: str,
        relations: Sequence[Relation],
        num_nodes: Mapping[str, int],
        in_channels: Mapping[str, int],
        hidden_channels: int,
        out_channels: int,
        target: str,
        num_layers: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if model not in HETERO_MODELS:
            raise ConfigError(f"Unknown model {model!r}. {nearest(model, HETERO_MODELS)}")
        if target not in num_nodes:
            raise GraphError(f"target is {target!r}. {nearest(target, num_nodes)}")
        if not any(relation[2] == target for relation in relations):
            raise GraphError(
                f"No relation leads to nodes of the type {target!r}. Add reverse edges."
            )
        self.model = model
        self.relations: list[Relation] = [(a, b, c) for a, b, c in relations]
        self.types = list(num_nodes)
        self.target = target
        self.dropout = dropout
        self.num_layers = num_layers
        width = hidden_channels
        # a name of a type may hold what the name of a module cannot
        self.maps = nn.ModuleDict()
        self.vectors = nn.ModuleDict()
        for number, kind in enumerate(self.types):
            if kind in in_channels:
                self.maps[str(number)] = linear(in_channels[kind], width, bias=True, glorot=True)
            else:
                self.vectors[str(number)] = nn.Embedding(num_nodes[kind], width)
        self.convs = nn.ModuleList()
        self.roots = nn.ModuleList()
        for layer in range(num_layers):
            is_last = layer == num_layers - 1
            out = out_channels if is_last else width
            arriving = self._arriving(is_last)
            reached = {self.relations[number][2] for number in arriving}
            convs = {str(number): _conv(model, width, out, is_last) for number in arriving}
            self.convs.append(nn.ModuleDict(convs))
            root = nn.ModuleDict()
            for number, kind in enumerate(self.types):
                is_needed = kind == target or not is_last
                if is_needed and (model not in _OWN or kind not in reached):
                    root[str(number)] = linear(width, out, bias=True, glorot=True)
            self.roots.append(root)
        self.reset_parameters()

    def _arriving(self, is_last: bool) -> list[int]:
        """The relations that a layer needs: of the last one those that lead to the target."""
        pairs = enumerate(self.relations)
        return [number for number, (_, _, dst) in pairs if not is_last or dst == self.target]

    def reset_parameters(self) -> None:
        for embedding in self.vectors.values():
            glorot_(embedding.weight)  # pyright: ignore[reportArgumentType]
        for group in (self.maps, *self.convs, *self.roots):
            for module in group.values():  # pyright: ignore[reportCallIssue]
                reset(module)

    def of_whole(self, graphs: Mapping[Relation, Graph]) -> dict[str, Tensor] | None:
        """What the layers need to know of the whole graph: for each type ``[N, relations]``."""
        convs: Any = self.convs[0]
        columns: dict[str, list[Tensor]] = {}
        for number, relation in enumerate(self.relations):
            # where there is one layer alone, it needs no relations to other types
            conv = convs[str(number)] if str(number) in convs else None
            if conv is not None and hasattr(conv, "of_whole"):
                columns.setdefault(relation[2], []).append(conv.of_whole(graphs[relation]))
        return {kind: torch.cat(parts, dim=1) for kind, parts in columns.items()} or None

    def embed(
        self, x: Mapping[str, Tensor], n_id: Mapping[str, Tensor], only: str | None = None
    ) -> dict[str, Tensor]:
        """The input of the first layer for the nodes ``n_id``, whose features are ``x``."""
        found: dict[str, Tensor] = {}
        for number, kind in enumerate(self.types):
            if only not in (None, kind):
                continue
            if str(number) in self.vectors:
                found[kind] = self.vectors[str(number)](n_id[kind])
            else:
                given = dropout(x[kind], self.dropout, self.training)
                found[kind] = self.maps[str(number)](given)
        return found

    def layer(
        self,
        number: int,
        h: Mapping[str, Tensor],
        blocks: Mapping[Relation, Graph],
        whole: Mapping[str, Tensor] | None,
        only: str | None = None,
    ) -> dict[str, Tensor]:
        """Layer ``number``: the first destinations of each type; ``only``: of one type."""
        h = {kind: relu_dropout(rows, self.dropout, self.training) for kind, rows in h.items()}
        sums: dict[str, Tensor] = {}
        seen = dict.fromkeys(self.types, 0)
        convs: Any = self.convs[number]
        for at, relation in enumerate(self.relations):
            src, _, dst = relation
            column = seen[dst]
            seen[dst] += 1
            if str(at) not in convs or only not in (None, dst):
                continue
            block = blocks[relation]
            pair = h[src][: block.num_src], h[dst][: block.num_dst]
            known: dict[str, Tensor] = {}
            if whole is not None:
                known["whole"] = whole[dst][: block.num_dst, column : column + 1]
            part = convs[str(at)](pair, block, **known)
            sums[dst] = part if dst not in sums else sums[dst] + part
        roots: Any = self.roots[number]
        for at, kind in enumerate(self.types):
            if str(at) not in roots or only not in (None, kind):
                continue
            rows = h[kind] if kind not in sums else h[kind][: len(sums[kind])]
            own = roots[str(at)](rows)
            sums[kind] = own if kind not in sums else sums[kind] + own
        return sums

    def forward(
        self,
        x: Mapping[str, Tensor],
        blocks: Sequence[Mapping[Relation, Graph]],
        n_id: Mapping[str, Tensor],
        whole: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        if len(blocks) != self.num_layers:
            raise GraphError(
                f"HeteroStack: got {len(blocks)} blocks for {self.num_layers} layers. Sample with "
                "one fanout for each layer."
            )
        h = self.embed(x, n_id)
        for number, block in enumerate(blocks):
            h = self.layer(number, h, block, whole)
        return h[self.target]


def _conv(model: str, width: int, out: int, is_last: bool) -> nn.Module:
    if model in ("gat", "gatv2"):
        conv = GATConv if model == "gat" else GATv2Conv
        if is_last:
            return conv((width, width), out, add_self_loops=False)
        if width % 8:
            raise ConfigError(
                f"{conv.__name__}: hidden width {width} is not a multiple of its 8 heads."
            )
        return conv((width, width), width // 8, heads=8, add_self_loops=False)
    if model == "gin":
        return GINConv(MLP([width, max(out, 16), out]), train_eps=True)
    if model in ("acm-gcn", "acmii-gcn"):
        variant = "acm" if model == "acm-gcn" else "acmii"
        return ACMConv(width, out, variant, scale_output=True, final_relu=not is_last)
    return SAGEConv((width, width), out, root_weight=model == "sage")
