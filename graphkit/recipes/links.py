"""Links to be told apart: read, divided, and the pairs without one. (opt: torch_geometric)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..data import (
    Card,
    card,
    check_links,
    check_messages,
    heart_negatives,
    is_path,
    load,
    random_link_split,
    read_folder,
    refuse_other_kinds,
)
from ..data.check import check_finite
from ..data.check_kinds import among, pair_key
from ..errors import ConfigError, DataError
from ..graph import Graph, check_edge_index
from ..store import digest
from ..structure import is_symmetric

if TYPE_CHECKING:
    from torch_geometric.data import Data

PARTS = {"train": "train", "val": "valid", "test": "test"}
KINDS = ("link", "node", "structure")


@dataclass(frozen=True)
class Division:
    """How links are held out, and what is known when they are scored.

    ``num_val`` and ``num_test`` are shares of the edges of a graph that comes without links to hold
    out, ``val_negatives`` the pairs without an edge for each validation link. ``resplit``: every
    seed divides anew. ``valid_edges``: validation links are messages when test links are scored.
    ``heart``: so many hard pairs for each held-out link take the place of those without an edge.
    """

    num_val: float = 0.05
    num_test: float = 0.1
    val_negatives: float = 1.0
    resplit: bool = False
    valid_edges: bool = False
    heart: int = 0

    @staticmethod
    def of(options: Mapping[str, Any]) -> Division:
        """That of the options of a run; runs from before there were such have the defaults."""
        names = [of.name for of in fields(Division)]
        return Division(**{name: options[name] for name in names if name in options})

    def divide(self, edge_index: Tensor, num_nodes: int, seed: int) -> tuple[Tensor, Any]:
        """The edges for messages and ``split_edge``, by ``graphkit.data.random_link_split``."""
        rest = 1.0 - self.num_val - self.num_test
        if rest <= 0:
            raise ConfigError(
                f"num_val and num_test are {self.num_val} and {self.num_test}, but a sum below 1 "
                "is expected. Hold out less."
            )
        return random_link_split(
            edge_index,
            num_nodes,
            # what floats make of 1 - 0.05 - 0.1 is not 0.85
            fractions=(round(rest, 12), self.num_val, self.num_test),
            negatives=(self.val_negatives, 1.0),
            seed=self.drawn(seed),
        )

    def drawn(self, seed: int) -> int:
        """The seed of what is drawn for a run's ``seed``."""
        return seed if self.resplit else 0


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

    def beside(self, links: Tensor, kind: Literal["pairs", "targets"]) -> Tensor:
        """A drawn pair for each of ``links [n, 2]``.

        By ``targets`` it begins where the link does and ends in any node, drawn uniformly: that may
        be a link too, as where OGB ranks the targets of a source.
        """
        if kind == "pairs":
            return self.draw(len(links))
        target = torch.randint(self.num_nodes, (len(links),), device=links.device)
        return torch.stack([links[:, 0], target], dim=1)


@dataclass(frozen=True)
class Joined:
    """A graph to send messages along, features x [N, F] or None, and the pairs of each part.

    ``positive`` [n, 2] of train, val and test; ``negative`` of val and test [m, 2], or [n, K, 2]
    where each positive has K of its own. ``later`` is the graph when test links are scored, where
    it is another one.
    """

    x: Tensor | None
    graph: Graph
    positive: Mapping[str, Tensor]
    negative: Mapping[str, Tensor]
    later: Graph | None = None

    def seen(self, part: str) -> Graph:
        """The graph that messages run on when the pairs of ``part`` are scored."""
        return self.later if part == "test" and self.later is not None else self.graph


@dataclass(frozen=True)
class Links(Joined):
    """A graph of training edges, and the pairs to be told apart; ``absent`` are drawn in training.

    None of these is an edge of training, in either direction.
    """

    absent: NonEdges = field(kw_only=True)


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
    """The graph that ``data`` names or is, not yet divided unless its links to hold out are fixed.

    Raises :class:`DataError` if it is none.
    """
    if not isinstance(data, str):
        return check_links(data) if hasattr(data, "split_edge") else data
    named = link_card(data)
    if named is None and root is None and split is None:
        # links are learnt without labels and masks
        return read_folder(data, labelled=None)
    found = load(data, root, split=split)
    if named is None or named.kind != "link":
        return found
    # what was drawn by the card's fractions is divided by the recipe
    which = named.splits[(split or named.default_split).lower()]
    return found if which.fractions is None else joined_again(found)


def joined_again(data: Data) -> Data:
    """``data`` with all edges that ``split_edge`` divides, and without that."""
    whole = data.clone()
    edges = torch.cat([of["edge"] for of in data.split_edge.values()]).t()
    src, dst = data["edge_index"]
    if bool((src > dst).any()) and bool((edges[0] < edges[1]).all()):
        # each link was in both directions, and is in split_edge once
        edges = both_ways(edges)
    whole.edge_index = edges
    del whole.split_edge
    return whole


def read_links(
    data: Data,
    device: torch.device,
    undirected: bool,
    division: Division = Division(),
    seed: int = 0,
    by_time: bool = False,
) -> Links:
    """The training graph of ``data`` and the pairs of each part, on ``device``.

    Without ``split_edge`` the edges are divided as ``division`` and ``seed`` say; if
    ``undirected``, with their reverses, so that both directions of a link are in one part. No
    held-out link is among the messages, which is checked; where parts are ``by_time``, a link that
    was one before may be, and is counted. With ``division.heart`` the pairs to rank links among are
    :func:`graphkit.data.heart_negatives`, which look at features where links are divided here.

    Raises :class:`DataError` for such links, pairs out of range, and what cannot be divided;
    :class:`ConfigError` where links are to be divided anew that come divided.
    """
    edge_index, x, num_nodes = check_graph(data)
    parts = getattr(data, "split_edge", None)
    brought = parts is not None
    if parts is None:
        whole = both_ways(edge_index) if undirected else edge_index
        edge_index, parts = division.divide(whole, num_nodes, seed)
        # messages of such a division run both ways already
        undirected = False
    elif division.resplit:
        raise ConfigError(
            f"{getattr(data, 'name', 'data')} comes with the links to hold out, which are not "
            "divided anew. Leave resplit out, or give data without split_edge."
        )
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
    messages = both_ways(edges) if undirected else edges
    for group in (positive, negative):
        for name, some in group.items():
            _check_ends(some, num_nodes, name)
    graph, later = Graph.from_edge_index(messages, num_nodes), None
    if division.valid_edges:
        known = torch.cat([messages, positive["val"].t()], dim=1)
        # a link runs both ways where the others do
        known = both_ways(known) if is_symmetric(graph) else known.unique(dim=1)
        later = Graph.from_edge_index(known, num_nodes)
    links = Links(
        None if x is None else x.float().to(device),
        graph,
        positive,
        negative,
        later,
        absent=NonEdges(torch.cat([edges.t(), positive["train"]]), num_nodes),
    )
    if division.heart:
        # as for OGB's sets, whose features are left out of it
        x = None if brought else links.x
        links = replace(links, negative=_hard(links, x, division, seed, by_time))
    if not by_time:
        # a graph's edges are sorted once for all that is asked of it
        for names in [("val", "test")] if later is None else [("val",), ("test",)]:
            sent = links.seen(names[0]).edge_index()
            check_messages(sent, num_nodes, {name: positive[name] for name in names})
    return links


def _hard(
    links: Links, x: Tensor | None, division: Division, seed: int, by_time: bool
) -> dict[str, Tensor]:
    """HeaRT's pairs for each held-out link ``[n, heart, 2]``, hard by the graph of its part.

    As there, none is a link that was known before: an edge of that graph, or a validation link when
    test links are scored; where parts are ``by_time``, links recur, and only an end's partner is
    left out.
    """
    known = {"val": None, "test": None if by_time else links.positive["val"].t()}
    return {
        part: heart_negatives(
            links.seen(part),
            links.positive[part],
            x,
            num_negatives=division.heart,
            known=earlier,
            allow_edges=by_time,
            seed=division.drawn(seed),
        )
        for part, earlier in known.items()
    }


def is_by_time(data: str | Data, split: str | None) -> bool:
    """Are the links of the data set ``data`` held out by time, so that earlier ones may recur?"""
    named = link_card(data) if isinstance(data, str) else None
    return named is not None and named.kind == "link" and (split or named.default_split) == "time"


def count_oddities(links: Joined) -> dict[str, int]:
    """How many pairs are what they should not be, or are not usually; only what there is.

    Negatives that are links of any part or messages, in either direction, training links that
    repeat others, held-out links that are messages in either direction, and links of a node to
    itself.
    """
    num_nodes = links.graph.num_dst

    def count(pairs: Tensor, known: Tensor) -> int:
        # a thousand negatives for each link are many
        parts = pairs.reshape(-1, 2).split(2**24)
        return sum(int(among(pair_key(part, num_nodes, False), known).sum()) for part in parts)

    groups = [links.graph.edge_index().t(), *links.positive.values()]
    sent, *positive = (pair_key(pairs, num_nodes, False) for pairs in groups)
    sent, train = sent.unique(), links.positive["train"]
    every = torch.cat([sent, *positive]).unique()
    found = {
        "negatives that are links": sum(count(of, every) for of in links.negative.values()),
        "training links that repeat others": len(train) - len(train.unique(dim=0)),
        "held-out links that are messages, in either direction": sum(
            count(links.positive[name], sent) for name in ("val", "test")
        ),
        "links of a node to itself": sum(
            int((pairs[:, 0] == pairs[:, 1]).sum()) for pairs in links.positive.values()
        ),
    }
    return {what: count for what, count in found.items() if count}


def _check_ends(pairs: Tensor, num_nodes: int, part: str) -> None:
    wrong = ((pairs < 0) | (pairs >= num_nodes)).any(dim=-1)
    if bool(wrong.any()):
        raise DataError(
            f"{int(wrong.sum())} pairs of {part} name nodes outside 0 to {num_nodes - 1}, the "
            f"first is {pairs[wrong][0].tolist()}. Correct them, or set data.num_nodes."
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
    if links.later is not None:
        tensors["later"] = links.later.edge_index()
    return digest({**tensors, "edge_index": links.graph.edge_index()})
