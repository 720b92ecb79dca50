"""Seeded splits of edges for link prediction, and of events by time."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..graph import check_edge_index, check_range
from .splits import random_split

_TIMES = (torch.int64, torch.int32, torch.float64, torch.float32)

SplitEdge = dict[str, dict[str, Tensor]]


def random_link_split(
    edge_index: Tensor,
    num_nodes: int,
    *,
    fractions: tuple[float, float, float] = (0.85, 0.05, 0.1),
    seed: int,
) -> tuple[Tensor, SplitEdge]:
    """The edges that messages run on, int64 [2, E'], and OGB's ``split_edge`` of all edges.

    ``split_edge[part]["edge"]`` int64 [n, 2] for the parts train, valid and test, and
    ``["edge_neg"]`` [n, 2] for valid and test: as many pairs that are no edge and no self-loop,
    all different, uniform among such pairs. Messages run on training edges alone, ordered by
    source, then target. Self-loops are left out, parallel edges count once.

    Where every edge is there in both directions, both go to the same part: ``edge`` and
    ``edge_neg`` hold each pair once, smaller number first, and the messages run both ways.
    Otherwise edges are directed. Time and memory are linear in nodes and edges, up to sorting.

    Raises :class:`GraphError` for a malformed edge_index, :class:`ConfigError` for fractions or a
    seed out of range, :class:`DataError` where a part would be empty or non-edges are too few.
    """
    check_edge_index(edge_index)
    for row in (0, 1):
        check_range(edge_index[row], num_nodes, f"edge_index[{row}]", "nodes")
    src, dst = edge_index.cpu().long()
    pair = torch.unique((src * num_nodes + dst)[src != dst])
    src, dst = pair // max(num_nodes, 1), pair % max(num_nodes, 1)
    undirected = torch.equal(pair, torch.sort(dst * num_nodes + src).values)
    if undirected:
        src, dst = src[src < dst], dst[src < dst]
    rank = _rank(src, dst, num_nodes, undirected)
    parts = _parts(len(src), fractions, seed)
    generator = torch.Generator().manual_seed(seed)
    sizes = [len(parts[1]), len(parts[2])]
    total = num_nodes * (num_nodes - 1) // (2 if undirected else 1)
    absent = _absent(torch.sort(rank).values, total, sum(sizes), generator)
    negatives = _pairs(absent, num_nodes, undirected).split(sizes)
    edge = torch.stack([src, dst], dim=1)
    split: SplitEdge = {
        "train": {"edge": edge[parts[0]]},
        "valid": {"edge": edge[parts[1]], "edge_neg": negatives[0]},
        "test": {"edge": edge[parts[2]], "edge_neg": negatives[1]},
    }
    messages = split["train"]["edge"].t()
    if undirected:
        messages = torch.cat([messages, messages.flip(0)], dim=1)
    order = torch.argsort(messages[0] * num_nodes + messages[1])
    device = edge_index.device
    placed = {part: {k: v.to(device) for k, v in of.items()} for part, of in split.items()}
    return messages[:, order].contiguous().to(device), placed


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
