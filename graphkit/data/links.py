"""Seeded splits of edges for link prediction, and of events by time. (opt: scipy)"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError, nearest
from ..graph import check_edge_index, check_range
from .splits import check_seed, random_split

_TIMES = (torch.int64, torch.int32, torch.float64, torch.float32)

SplitEdge = dict[str, dict[str, Tensor]]

LINK_TASKS = {
    "direction": ("forward", "backward"),
    "existence": ("link", "no link"),
    "three-class": ("forward", "backward", "no link"),
}
"""What may be asked about an ordered pair of nodes of a directed graph, and the classes."""


def random_link_split(
    edge_index: Tensor,
    num_nodes: int,
    *,
    fractions: tuple[float, float, float] = (0.85, 0.05, 0.1),
    negatives: tuple[float, float] = (1.0, 1.0),
    seed: int,
) -> tuple[Tensor, SplitEdge]:
    """The edges that messages run on, int64 [2, E'], and OGB's ``split_edge`` of all edges.

    ``split_edge[part]["edge"]`` int64 [n, 2] for the parts train, valid and test, and
    ``["edge_neg"]`` [m, 2] for valid and test: pairs that are no edge and no self-loop, all
    different, uniform among such pairs; ``negatives`` says how many for each edge of valid and of
    test. Messages run on training edges alone, ordered by source, then target. Self-loops are left
    out, parallel edges count once.

    Where every edge is there in both directions, both go to the same part: ``edge`` and
    ``edge_neg`` hold each pair once, smaller number first, and the messages run both ways.
    Otherwise edges are directed. Time and memory are linear in nodes and edges, up to sorting.

    Raises :class:`GraphError` for a malformed edge_index, :class:`ConfigError` for fractions,
    negatives or a seed out of range, :class:`DataError` where a part would be empty or non-edges
    are too few.
    """
    src, dst, undirected = _once(edge_index, num_nodes)[:3]
    parts = _parts(len(src), fractions, seed)
    return _divided(edge_index.device, src, dst, num_nodes, undirected, parts, negatives, seed)


def time_link_split(
    edge_index: Tensor,
    time: Tensor,
    num_nodes: int,
    *,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    negatives: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> tuple[Tensor, SplitEdge]:
    """As :func:`random_link_split`, but the last edges by ``time [E]`` are held out.

    Two nodes that are joined several times count once, at the first of these times, so that what is
    held out are new links. The borders are quantiles of the times (:func:`time_split`): links of
    equal time stay together. ``seed`` draws the negatives alone.

    Raises as :func:`random_link_split`, and :class:`DataError` for times of another number or
    dtype.
    """
    src, dst, undirected, place = _once(edge_index, num_nodes)
    if time.shape != edge_index.shape[1:]:
        raise DataError(
            f"time has shape {list(time.shape)}, but one for each of the {edge_index.size(1)} edges"
            " is expected. Give every edge its time."
        )
    check_seed(seed)
    if not len(src):
        raise DataError(
            "0 edges without self-loops are too few to be divided by time. Give a graph with edges."
        )
    each = time.cpu()
    # edges left out have no place: they are put behind the last one
    first = torch.zeros(len(src) + 1, dtype=each.dtype)
    first.scatter_reduce_(0, place, each, "amin", include_self=False)
    parts = [mask.nonzero().view(-1) for mask in time_split(first[:-1], fractions=fractions)]
    return _divided(edge_index.device, src, dst, num_nodes, undirected, parts, negatives, seed)


def _once(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, Tensor, bool, Tensor]:
    """The edges each once, ``src, dst [P]``; do all go both ways; and which one each was, ``[E]``.

    Where all go both ways, an edge and its reverse are one, from the smaller number to the larger.
    A self-loop is left out: it is number P.
    """
    check_edge_index(edge_index)
    for row in (0, 1):
        check_range(edge_index[row], num_nodes, f"edge_index[{row}]", "nodes")
    src, dst = edge_index.cpu().long()
    key = src * num_nodes + dst
    pair = torch.unique(key[src != dst])
    size = max(num_nodes, 1)
    undirected = torch.equal(pair, torch.sort(pair % size * num_nodes + pair // size).values)
    if undirected:
        key = torch.minimum(src, dst) * num_nodes + torch.maximum(src, dst)
        pair = pair[pair // size < pair % size]
    place = torch.searchsorted(pair, key).masked_fill_(src == dst, len(pair))
    return pair // size, pair % size, undirected, place


def _divided(
    device: torch.device,
    src: Tensor,
    dst: Tensor,
    num_nodes: int,
    undirected: bool,
    parts: Sequence[Tensor],
    negatives: tuple[float, float],
    seed: int,
) -> tuple[Tensor, SplitEdge]:
    """Messages and ``split_edge`` of the edges ``src, dst`` whose numbers ``parts`` hold."""
    if len(negatives) != 2 or not all(0 < each < math.inf for each in negatives):
        raise ConfigError(
            f"negatives is {negatives}, but two numbers above 0 are expected: how many for each "
            "edge of valid and of test."
        )
    generator = torch.Generator().manual_seed(seed)
    held = zip(parts[1:], negatives, strict=True)
    sizes = [max(1, round(each * len(part))) for part, each in held]
    total = num_nodes * (num_nodes - 1) // (2 if undirected else 1)
    present = torch.sort(_rank(src, dst, num_nodes, undirected)).values
    absent = _absent(present, total, sum(sizes), generator)
    apart = _pairs(absent, num_nodes, undirected).split(sizes)
    edge = torch.stack([src, dst], dim=1)
    split: SplitEdge = {
        "train": {"edge": edge[parts[0]]},
        "valid": {"edge": edge[parts[1]], "edge_neg": apart[0]},
        "test": {"edge": edge[parts[2]], "edge_neg": apart[1]},
    }
    messages = split["train"]["edge"].t()
    if undirected:
        messages = torch.cat([messages, messages.flip(0)], dim=1)
    order = torch.argsort(messages[0] * num_nodes + messages[1])
    placed = {part: {k: v.to(device) for k, v in of.items()} for part, of in split.items()}
    return messages[:, order].contiguous().to(device), placed


def directed_link_split(
    edge_index: Tensor,
    num_nodes: int,
    *,
    task: str = "direction",
    num_val: float = 0.05,
    num_test: float = 0.15,
    keep_connected: bool = True,
    seed: int,
) -> tuple[Tensor, SplitEdge]:
    """The edges that messages run on, int64 [2, E'], and the pairs of nodes to be classified.

    ``split[part]`` of train, val and test holds PyG's ``edge_label_index`` int64 [2, n] and
    ``edge_label`` int64 [n], the place of the class in ``LINK_TASKS[task]``:

    - direction: each one-way edge (u, v) as forward, and (v, u) as backward.
    - existence: every edge as a link, so that two nodes joined both ways are two of them, and as
      many pairs that no edge joins in either direction.
    - three-class: what direction has, and one such pair for each one-way edge.

    What is divided are pairs of nodes, whatever direction their edges have: of two nodes all that
    is known is in one part. Messages run on the training pairs alone, ordered by source, then
    target, so no direction of a held-out pair is among them. ``num_val`` and ``num_test`` are
    fractions of the joined pairs. With ``keep_connected`` a random spanning forest stays in
    training, and no component falls apart. Classes are equally large in every part. Pairs that no
    edge joins are uniform among those, all different, in one order or the other. Self-loops are
    left out, parallel edges count once.

    The division is a function of the edges and the seed: it is the same for all tasks. Two nodes
    that are joined both ways have no direction: held out, they are asked about by existence alone.

    The protocol of Zhang et al. (MagNet: A Neural Network for Directed Graphs, NeurIPS 2021). The
    official code always keeps the same spanning tree, not a random one. Time and memory are linear
    in nodes and edges, up to sorting.

    Raises :class:`GraphError` for a malformed edge_index; :class:`ConfigError` for an unknown task,
    and for fractions or a seed out of range; :class:`DataError` where all edges go both ways and
    directions are asked for, where a part would be empty, where the forest leaves too few pairs to
    hold out, and where too few pairs have no edge.
    """
    if task not in LINK_TASKS:
        raise ConfigError(f"Unknown task {task!r}. {nearest(task, LINK_TASKS)}")
    if not (0 < num_val < 1 and 0 < num_test < 1 and num_val + num_test < 1):
        raise ConfigError(
            f"num_val and num_test are {num_val} and {num_test}, but two numbers above 0 with a "
            "sum below 1 are expected."
        )
    check_seed(seed)
    src, dst, both = _joined(edge_index, num_nodes)
    if task != "existence" and len(src) and bool(both.all()):
        raise DataError(
            "Every edge has its reverse: a symmetric graph has no direction to tell. "
            "Use task existence, or load the graph with its directions."
        )
    generator = torch.Generator().manual_seed(seed)
    sizes = round(num_val * len(src)), round(num_test * len(src))
    if not all(sizes) or sum(sizes) >= len(src):
        raise DataError(
            f"{len(src)} pairs of nodes joined by an edge are too few to hold out {sizes[0]} for "
            f"validation and {sizes[1]} for the test. Change num_val and num_test."
        )
    kept = torch.zeros(len(src), dtype=torch.bool)
    if keep_connected:
        kept = _spanning_forest(src, dst, num_nodes, generator)
    order = torch.randperm(len(src), generator=generator)
    held = order[~kept[order]][: sum(sizes)]
    if len(held) < sum(sizes):
        raise DataError(
            f"A spanning forest keeps {int(kept.sum())} of {len(src)} joined pairs of nodes in "
            f"training, but {sum(sizes)} are to be held out. Lower num_val and num_test, or do "
            "without keep_connected."
        )
    train = torch.ones(len(src), dtype=torch.bool).index_fill_(0, held, False)
    parts = {
        "train": train.nonzero().view(-1),
        "val": held[: sizes[0]].sort().values,
        "test": held[sizes[0] :].sort().values,
    }
    split = {name: _asked(src[of], dst[of], both[of], task) for name, of in parts.items()}
    for name, of in split.items():
        if not len(of["edge_label"]):
            raise DataError(
                f"{int((~both).sum())} of {len(src)} joined pairs of nodes have an edge in one "
                f"direction alone, and none of these is in {name}. Change num_val and num_test, or "
                "the seed."
            )
    if task != "direction":
        _add_absent(split, src, dst, num_nodes, len(LINK_TASKS[task]) - 1, generator)
    messages = torch.stack([src, dst])[:, train]
    messages = torch.cat([messages, messages[:, both[train]].flip(0)], dim=1)
    messages = messages[:, torch.argsort(messages[0] * num_nodes + messages[1])]
    device = edge_index.device
    placed = {part: {k: v.to(device) for k, v in of.items()} for part, of in split.items()}
    return messages.to(device), placed


def directed_link_label(pairs: Tensor, edge_index: Tensor, num_nodes: int, task: str) -> Tensor:
    """The class of each of ``pairs [2, n]`` by all edges, int64 [n]: see ``LINK_TASKS``.

    It is -1 where the task has none: for nodes that are joined both ways and asked for a direction,
    for nodes that are not joined, for the reverse of a one-way edge and asked for existence, and
    for a node and itself.
    """
    key = edge_index[0] * num_nodes + edge_index[1]
    forward = torch.isin(pairs[0] * num_nodes + pairs[1], key)
    backward = torch.isin(pairs[1] * num_nodes + pairs[0], key)
    label = torch.full_like(pairs[0], -1)
    if task == "existence":
        label[forward] = 0
    else:
        label[forward & ~backward] = 0
        label[backward & ~forward] = 1
    if task != "direction":
        label[~forward & ~backward] = len(LINK_TASKS[task]) - 1
    return label.masked_fill_(pairs[0] == pairs[1], -1)


def time_split(t: Tensor, *, fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)) -> Tensor:
    """Bool [3, E]: the events of train, val and test, in the order of their times ``t [E]``.

    The borders are the quantiles of ``t``, as in PyG's ``TemporalData.train_val_test_split``, so
    events of equal time stay together. PyG 2.8 rounds the borders to float32, which moves events
    over them where times are seconds since 1970.

    Raises :class:`ConfigError` for fractions that do not sum to one, :class:`DataError` where a
    part would be empty.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or not math.isclose(sum(fractions), 1):
        raise ConfigError(
            f"fractions of a split by time must be three positive numbers with sum 1, "
            f"got {fractions}."
        )
    if t.dim() != 1 or not len(t) or t.dtype not in _TIMES:
        raise DataError(
            f"t must be int64, int32, float64 or float32 of shape [events], got {t.dtype} of shape "
            f"{list(t.shape)}. Give each event one time."
        )
    _, val, test = fractions
    # in PyG's order of operations, because a rounding error could move an event over the border
    borders = np.quantile(t.cpu().numpy(), [1.0 - val - test, 1.0 - test])
    border = torch.from_numpy(borders).to(t.device)
    masks = torch.stack([t <= border[0], (t > border[0]) & (t <= border[1]), t > border[1]])
    sizes = masks.sum(dim=1).tolist()
    if not all(sizes):
        raise DataError(
            f"{len(t)} events split by time into {fractions} give parts of {sizes} events, and "
            "none may be empty. Use other fractions."
        )
    return masks


def _joined(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of different nodes that an edge joins, each once, in the order of their nodes.

    ``src`` and ``dst`` [P] are the ends of the edge, or, where ``both [P]`` says that there is one
    in either direction, the smaller and the larger number.
    """
    check_edge_index(edge_index)
    for row in (0, 1):
        check_range(edge_index[row], num_nodes, f"edge_index[{row}]", "nodes")
    src, dst = edge_index.cpu().long()
    key = torch.minimum(src, dst) * num_nodes + torch.maximum(src, dst)
    pair = torch.unique(key[src != dst])
    up, down = torch.isin(pair, key[src < dst]), torch.isin(pair, key[src > dst])
    low, high = pair // max(num_nodes, 1), pair % max(num_nodes, 1)
    return torch.where(up, low, high), torch.where(up, high, low), up & down


def _spanning_forest(
    src: Tensor, dst: Tensor, num_nodes: int, generator: torch.Generator
) -> Tensor:
    """Bool [P]: the pairs of a spanning forest, drawn by giving all pairs random weights."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    # all different, and none 0, which would be no edge
    weight = torch.randperm(len(src), generator=generator) + 1
    ends = src.int().numpy(), dst.int().numpy()
    graph = csr_array((weight.double().numpy(), ends), shape=(num_nodes, num_nodes))
    chosen = torch.from_numpy(minimum_spanning_tree(graph).data).long()
    return torch.isin(weight, chosen)


def _asked(src: Tensor, dst: Tensor, both: Tensor, task: str) -> dict[str, Tensor]:
    """The joined pairs that a task asks about, in the orders in which it does, and their labels."""
    edges = torch.stack([src, dst])
    one_way, two_way = edges[:, ~both], edges[:, both]
    if task == "existence":
        asked = torch.cat([one_way, two_way, two_way.flip(0)], dim=1)
        return {"edge_label_index": asked, "edge_label": torch.zeros_like(asked[0])}
    label = torch.zeros_like(one_way[0])
    return {
        "edge_label_index": torch.cat([one_way, one_way.flip(0)], dim=1),
        "edge_label": torch.cat([label, label + 1]),
    }


def _add_absent(
    split: SplitEdge,
    src: Tensor,
    dst: Tensor,
    num_nodes: int,
    label: int,
    generator: torch.Generator,
) -> None:
    """Add to each part pairs that no edge joins, as many as it has pairs of class 0."""
    sizes = [int((of["edge_label"] == 0).sum()) for of in split.values()]
    total = num_nodes * (num_nodes - 1) // 2
    if total - len(src) < sum(sizes):
        raise DataError(
            f"{sum(sizes)} pairs of nodes without an edge are needed, as many as there are edges "
            f"to tell them from, but the graph has {total - len(src)}. Use task direction."
        )
    rank = _rank(torch.minimum(src, dst), torch.maximum(src, dst), num_nodes, True)
    absent = _absent(rank.sort().values, total, sum(sizes), generator)
    pairs = _pairs(absent, num_nodes, True).t()
    turned = torch.randint(2, (sum(sizes),), generator=generator).bool()
    pairs = torch.where(turned, pairs.flip(0), pairs)
    for of, more in zip(split.values(), pairs.split(sizes, dim=1), strict=True):
        of["edge_label_index"] = torch.cat([of["edge_label_index"], more], dim=1)
        of["edge_label"] = torch.cat([of["edge_label"], torch.full_like(more[0], label)])


def _parts(num_edges: int, fractions: tuple[float, float, float], seed: int) -> list[Tensor]:
    """The numbers of the edges of train, val and test."""
    try:
        masks = random_split(num_edges, fractions=fractions, seed=seed)
    except DataError:
        raise DataError(
            f"{num_edges} edges without self-loops and duplicates are too few for parts of "
            f"{fractions}: one would be empty. Use other fractions."
        ) from None
    return [mask.nonzero().view(-1) for mask in masks]


def _rank(src: Tensor, dst: Tensor, num_nodes: int, undirected: bool) -> Tensor:
    """The place of each pair among all pairs without self-loops; undirected needs src < dst."""
    if undirected:
        return dst * (dst - 1) // 2 + src
    return src * (num_nodes - 1) + dst - (dst > src).long()


def _pairs(rank: Tensor, num_nodes: int, undirected: bool) -> Tensor:
    """The pairs [n, 2] at the places ``rank``: the inverse of :func:`_rank`."""
    if undirected:
        node = torch.arange(num_nodes)
        dst = torch.searchsorted(node * (node - 1) // 2, rank, right=True) - 1
        return torch.stack([rank - dst * (dst - 1) // 2, dst], dim=1)
    src, dst = rank // (num_nodes - 1), rank % (num_nodes - 1)
    return torch.stack([src, dst + (dst >= src).long()], dim=1)


def _absent(present: Tensor, total: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different numbers below ``total`` that are not in the sorted ``present``."""
    free = total - len(present)
    if free < count:
        raise DataError(
            f"{count} pairs without an edge are needed as negatives, but the graph has {free}. "
            "Use smaller fractions of validation and test."
        )
    chosen = _distinct(free, count, generator)
    # the chosen-th absent number lies behind all present ones with so few absent before them
    gaps = present - torch.arange(len(present))
    return chosen + torch.searchsorted(gaps, chosen, right=True)


def _distinct(bound: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different numbers below ``bound`` in random order."""
    if bound <= 4 * count:
        return torch.randperm(bound, generator=generator)[:count]
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:
        more = torch.randint(bound, (2 * count,), generator=generator)
        found = torch.unique(torch.cat([found, more]))
    return found[torch.randperm(len(found), generator=generator)[:count]]
