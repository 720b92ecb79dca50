"""What a teacher and its student see: the data of ``distill``, divided by seed, part of it hidden.

(opt: torch_geometric)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..data import per_class_split
from ..errors import ConfigError, DataError
from ..graph import Graph
from ..nn import HYPER_MODELS, MODELS
from ..ops.components import components
from ..store import digest
from ..structure import (
    add_singletons,
    hyperedges_of_pairs,
    join_hypergraphs,
    khop_hyperedges,
    restrict,
)
from .hyper import read_hyper
from .node import PARTS, read_nodes
from .task import split_rows

# the masks that data of one's own may lack, as a split is drawn
MASKS = tuple(f"{part}_mask" for part in PARTS)


@dataclass(frozen=True)
class Whole:
    """All nodes: features ``x [N, F]``, classes ``y [N]``, the structure of the teacher's kind.

    ``graph`` is square, or, for ``hyper``, from hyperedges to nodes, whose ``weight [M]`` may be
    given. ``masks`` are those of the data, ``node_id [N]`` their numbers there.
    """

    x: Tensor
    y: Tensor
    graph: Graph
    hyper: bool
    masks: Mapping[str, Tensor]
    node_id: Tensor
    weight: Tensor | None = None

    @property
    def over(self) -> tuple[Graph] | tuple[Graph, Tensor]:
        """What a teacher takes beside the features."""
        return (self.graph,) if self.weight is None else (self.graph, self.weight)

    def digest(self) -> str:
        """The checksum of all that a run depends on."""
        index = self.graph.edge_index()
        weight = {} if self.weight is None else {"hyperedge_weight": self.weight}
        return digest({"x": self.x, "y": self.y, "index": index, **self.masks, **weight})

    def rows(self, seed: int, options: Mapping[str, Any]) -> tuple[int | None, dict[str, Tensor]]:
        """The number of the split of ``seed``, None if it is the seed's own; nodes of each part.

        With ``train_per_class`` they are drawn by the seed, else they are the data's.
        """
        each = options["train_per_class"]
        if each:
            drawn = per_class_split(
                self.y, train_per_class=each, val_per_class=options["val_per_class"], seed=seed
            )
            parts = zip(PARTS, drawn, strict=True)
            return None, {part: mask.nonzero().squeeze(1) for part, mask in parts}
        if not self.masks:
            raise DataError(
                "The data has no split of its own. Let one be drawn, with train_per_class above 0."
            )
        return split_rows(self.masks, seed)


@dataclass(frozen=True)
class Seen:
    """What is seen in training: nodes ``node_id [n]`` of the whole, in their order.

    ``rows`` has the places of each part among them, ``test`` those that are not hidden; ``mask
    [n]`` is that of training. ``hidden`` are nodes of the whole.
    """

    x: Tensor
    y: Tensor
    graph: Graph
    rows: Mapping[str, Tensor]
    node_id: Tensor
    hidden: Tensor
    weight: Tensor | None = None
    mask: Tensor = field(init=False)

    def __post_init__(self) -> None:
        mask = torch.zeros(len(self.y), dtype=torch.bool, device=self.y.device)
        object.__setattr__(self, "mask", mask.index_fill_(0, self.rows["train"], True))

    @property
    def over(self) -> tuple[Graph] | tuple[Graph, Tensor]:
        """What a teacher takes beside the features."""
        return (self.graph,) if self.weight is None else (self.graph, self.weight)


def reads_hypergraphs(teacher: str) -> bool:
    """Is ``teacher`` a model of hypergraphs? An MLP, which is of both kinds, is one of graphs."""
    return teacher in HYPER_MODELS and teacher not in MODELS


def read_taught(data: Any, device: torch.device, options: Mapping[str, Any]) -> Whole:
    """The nodes of ``data``, prepared as ``options`` ask for, on ``device``.

    A graph for a teacher of hypergraphs becomes one: its edges, and each node with its neighbours.
    Nodes of a hypergraph get hyperedges of their own as the option ``singletons`` says.

    Raises :class:`DataError` for data without features or classes, and for a hypergraph that is to
    teach by a graph.
    """
    is_hyper, hyper = type(data).__name__ == "HyperGraphData", reads_hypergraphs(options["teacher"])
    y = getattr(data, "y", None)
    if y is None or y.dim() != 1 or y.is_floating_point():
        raise DataError(
            "distill teaches classes, y int64 [N] with one for each node, which the data does not "
            "have. Labels of which several may hold, and values, are for graphkit train node."
        )
    if is_hyper and not hyper:
        raise DataError(
            "The data is a hypergraph, but the teacher reads graphs. Name a teacher of "
            "hypergraphs, such as hgnn; cegcn and cegat read its clique expansion."
        )
    masks = {key: data[key] for key in MASKS if getattr(data, key, None) is not None}
    masks = masks if len(masks) == len(MASKS) else {}
    none = torch.zeros(len(y), dtype=torch.bool)
    stand_in = data.clone()
    stand_in.update({key: masks.get(key, none) for key in MASKS})
    if is_hyper:
        # what is set on the object itself is not cloned
        vars(stand_in)["num_hyperedges"] = getattr(data, "num_hyperedges", None)
        nodes, _ = read_hyper(stand_in, device, options)
    else:
        nodes = read_nodes(stand_in, device, options["undirected"], options["row_normalize"])
    own = {part: nodes.masks[part] for part in PARTS} if masks else {}
    about = own, torch.arange(len(y), device=device), nodes.weight
    whole = Whole(nodes.x, nodes.y, nodes.graph, is_hyper, *about)
    if options["nodes"] == "largest" and not is_hyper:
        whole = _taken(whole, _largest(nodes.graph), options)
    if hyper and not is_hyper:
        graph = join_hypergraphs(hyperedges_of_pairs(whole.graph), khop_hyperedges(whole.graph))
        whole = replace(whole, graph=graph, hyper=True)
    return whole


def observe(whole: Whole, seed: int, options: Mapping[str, Any]) -> Seen:
    """What ``seed`` lets be seen: all, or in the setting ``production`` not the hidden share.

    Hidden are test nodes, drawn by the seed; hyperedges lose them, and go with their last member.
    """
    _, rows = whole.rows(seed, options)
    none = rows["test"][:0]
    if options["setting"] == "transductive":
        node_id = torch.arange(len(whole.y), device=none.device)
        return Seen(whole.x, whole.y, whole.graph, rows, node_id, none, whole.weight)
    # another draw than that of the split, which begins with the seed itself
    draw = torch.Generator().manual_seed(seed * 2 + 1 << 20)
    test = rows["test"]
    order = test[torch.randperm(len(test), generator=draw).to(test.device)]
    count = round(options["hide"] * len(test))
    if not 0 < count < len(test):
        raise ConfigError(
            f"hide is {options['hide']}, but of {len(test)} test nodes some must be hidden and "
            "some be seen."
        )
    hidden = order[:count].sort().values
    observed = torch.ones(len(whole.y), dtype=torch.bool, device=whole.y.device)
    observed[hidden] = False
    part = _taken(whole, observed, options)
    place = observed.cumsum(0) - 1
    kept = {**rows, "test": order[count:].sort().values}
    seen = {name: place[node] for name, node in kept.items()}
    node_id = observed.nonzero().squeeze(1)
    return Seen(part.x, part.y, part.graph, seen, node_id, hidden, part.weight)


def _taken(whole: Whole, observed: Tensor, options: Mapping[str, Any]) -> Whole:
    """``whole`` among the nodes of bool ``observed [N]``."""
    weight = None
    if whole.hyper:
        left = restrict(whole.graph, observed)
        graph = left.hypergraph
        if options["singletons"] != "none":
            graph = add_singletons(graph, isolated_only=options["singletons"] == "isolated")
        if whole.weight is not None:
            kept = whole.weight[left.hyperedge_id]
            weight = torch.cat([kept, kept.new_ones(graph.num_src - len(kept))])
    else:
        src, dst = whole.graph.edge_index()
        place, stays = observed.cumsum(0) - 1, observed[src] & observed[dst]
        index = torch.stack([place[src[stays]], place[dst[stays]]])
        graph = Graph.from_edge_index(index, int(observed.sum()))
    masks = {part: mask[observed] for part, mask in whole.masks.items()}
    x, y, node_id = whole.x[observed], whole.y[observed], whole.node_id[observed]
    return Whole(x, y, graph, whole.hyper, masks, node_id, weight)


def _largest(graph: Graph) -> Tensor:
    """Bool [N]: the largest connected component; of equal ones that of the smallest node."""
    root = components(graph)
    return root == torch.bincount(root).argmax()
