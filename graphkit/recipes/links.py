"""Links to be told apart: read, divided, and the pairs without one. (opt: torch_geometric)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data import (
    Card,
    card,
    check_links,
    is_path,
    load,
    random_link_split,
    read_folder,
    refuse_other_kinds,
)
from ..data.check import check_finite
from ..errors import DataError
from ..graph import Graph, check_edge_index
from ..store import digest

if TYPE_CHECKING:
    from torch_geometric.data import Data

PARTS = {"train": "train", "val": "valid", "test": "test"}
KINDS = ("link", "node", "structure")


class NonEdges:
    """The ordered pairs of different nodes that ``edges [n, 2]`` join in neither direction.

    The k-th of them is found by a binary search among the edges, so that a draw is uniform without
    rejections, and ``free`` is how many there are. Raises :class:`DataError` if there are none.
    """

    def __init__(self, edges: Tensor, num_nodes: int) -> None:
        src, dst = edges.unbind(1)
        loops = torch.arange(num_nodes, device=edges.device) * (num_nodes + 1)
        taken = torch.cat([src * num_nodes + dst, dst * num_nodes + src, loops]).unique()
        self.num_nodes, self.free = num_nodes, num_nodes * num_nodes - len(taken)
        if not self.free:
            raise DataError(
                f"The training edges join all pairs of the {num_nodes} nodes, and a pair without "
                "an edge is needed to train. Hold out more edges."
            )
        self._before = taken - torch.arange(len(taken), device=edges.device)

    def pairs(self, number: Tensor) -> Tensor:
        """The pairs [n, 2] of the numbers 0 to ``free - 1`` in ``number [n]``."""
        key = number + torch.searchsorted(self._before, number, right=True)
        return torch.stack([key // self.num_nodes, key % self.num_nodes], dim=1)

    def draw(self, count: int) -> Tensor:
        """``count`` pairs [count, 2], drawn uniformly and independently."""
        return self.pairs(torch.randint(self.free, (count,), device=self._before.device))


@dataclass(frozen=True)
class Joined:
    """A graph to send messages along, features x [N, F] or None, and the pairs of each part.

    ``positive`` [n, 2] of train, val and test; ``negative`` of val and test [m, 2], or [n, K, 2]
    where each positive has K of its own.
    """

    x: Tensor | None
    graph: Graph
    positive: Mapping[str, Tensor]
    negative: Mapping[str, Tensor]


@dataclass(frozen=True)
class Links(Joined):
    """A graph of training edges, and the pairs to be told apart; ``absent`` are drawn in training.

    None of these is an edge of training, in either direction.
    """

    absent: NonEdges


def link_card(data: str) -> Card | None:
    """The card of a data set of one graph, None for a path; :class:`DataError` for another kind."""
    if is_path(data):
        return None
    named = card(data)
    if named.kind not in KINDS:
        raise DataError(
            f"{named.name} is for {named.task}, but links are predicted in one graph. "
            "See graphkit data list for one."
        )
    return named


def find_links(data: str | Data, root: str | None, split: str | None) -> Data:
    """The graph that ``data`` names or is, not yet divided; :class:`DataError` if it is none."""
    if not isinstance(data, str):
        return check_links(data) if hasattr(data, "split_edge") else data
    if link_card(data) is None and root is None and split is None:
        # links are learnt without labels and masks
        return read_folder(data, labelled=None)
    return load(data, root, split=split)


def read_links(data: Data, device: torch.device, undirected: bool) -> Links:
    """The training graph of ``data`` and the pairs of each part, on ``device``.

    Without ``split_edge`` the edges are divided by ``graphkit.data.random_link_split``; if
    ``undirected``, with their reverses, so that both directions of a link are in one part.
    """
    edge_index, x, num_nodes = check_graph(data)
    parts = getattr(data, "split_edge", None)
    if parts is None:
        whole = both_ways(edge_index) if undirected else edge_index
        edge_index, parts = random_link_split(whole, num_nodes, seed=0)
        # messages of such a division run both ways already
        undirected = False
    pairs = {name: _pairs(parts, part) for name, part in PARTS.items()}
    positive = {name: of[0].to(device) for name, of in pairs.items()}
    negative = {name: of[1].to(device) for name, of in pairs.items() if of[1] is not None}
    for name in ("val", "test"):
        if name not in negative:
            raise DataError(
                f"split_edge[{PARTS[name]!r}] has no edge_neg, the pairs to rank the links among. "
                "graphkit.data.random_link_split draws them."
            )
    edges = edge_index.to(device).long()
    return Links(
        None if x is None else x.float().to(device),
        Graph.from_edge_index(both_ways(edges) if undirected else edges, num_nodes),
        positive,
        negative,
        NonEdges(torch.cat([edges.t(), positive["train"]]), num_nodes),
    )


def read_joined(data: Data, device: torch.device, undirected: bool) -> Joined:
    """All edges of ``data`` to send messages along, none held out, on ``device``.

    As where edges are divided, self-loops are left out and parallel edges count once.
    """
    edge_index, x, num_nodes = check_graph(data)
    edges = edge_index[:, edge_index[0] != edge_index[1]].long()
    edges = (both_ways(edges) if undirected else edges.unique(dim=1)).to(device)
    graph = Graph.from_edge_index(edges, num_nodes)
    return Joined(None if x is None else x.float().to(device), graph, {}, {})


def both_ways(edge_index: Tensor) -> Tensor:
    """The edges [2, E] and their reverses, each once, ordered by source, then target."""
    return torch.cat([edge_index, edge_index.flip(0)], dim=1).unique(dim=1)


def check_graph(data: Data) -> tuple[Tensor, Tensor | None, int]:
    """The edges, the features if there are any, and the number of nodes of ``data``."""
    refuse_other_kinds(data)
    num_nodes = getattr(data, "num_nodes", None) or 0
    edge_index, x = (getattr(data, key, None) for key in ("edge_index", "x"))
    if edge_index is None or not num_nodes:
        raise DataError("data has no edge_index, or no nodes. Set data.edge_index and data.x.")
    if x is not None and (x.dim() != 2 or len(x) != num_nodes):
        raise DataError(
            f"x has shape {list(x.shape)}, but [{num_nodes}, num_features] is expected. "
            "Give every node a row of features, or leave x out."
        )
    if x is not None:
        check_finite(x)
    check_edge_index(edge_index)
    return edge_index, x, num_nodes


def _pairs(parts: Mapping[str, Mapping[str, Tensor]], part: str) -> tuple[Tensor, Tensor | None]:
    """The positives [n, 2] of a part in OGB's names, and its negatives [m, 2] or [n, K, 2]."""
    of = parts[part]
    if "edge" in of:
        negative = of.get("edge_neg")
        return of["edge"].long(), None if negative is None else negative.long()
    if "source_node" not in of:
        raise DataError(
            f"split_edge[{part!r}] holds {', '.join(of)}, but edge, or source_node and "
            "target_node, are expected. Edges with relations are not learnt by this recipe."
        )
    source, target = of["source_node"].long(), of["target_node"].long()
    positive = torch.stack([source, target], dim=1)
    if "target_node_neg" not in of:
        return positive, None
    others = of["target_node_neg"].long()
    return positive, torch.stack([source.unsqueeze(1).expand_as(others), others], dim=2)


def links_digest(links: Joined) -> str:
    """The checksum of all that a run on ``links`` depends on."""
    tensors = {f"positive/{name}": pairs for name, pairs in links.positive.items()}
    tensors |= {f"negative/{name}": pairs for name, pairs in links.negative.items()}
    tensors |= {} if links.x is None else {"x": links.x}
    return digest({**tensors, "edge_index": links.graph.edge_index()})
