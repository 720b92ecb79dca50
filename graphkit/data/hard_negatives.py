"""Pairs without a link that are hard to tell from links: HeaRT's evaluation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..errors import ConfigError, DataError
from ..graph import Graph
from ..ops import Walker, ppr, segment_reduce
from ..ops.check import check_nodes
from ..ops.intersect import neighborhoods
from ..ops.random import random_bits
from ..ops.sample_plan import distinct, read_pairs
from ..structure import is_symmetric
from ..structure.subgraph import slots_of
from .splits import check_seed

_OP = "heart_negatives"
# scores of nodes that are held at once, some 100 bytes each
_ROOM = 2**21


class _Rows(NamedTuple):
    """Nodes of rows and their values: offsets ``[R + 1]``, nodes and values ``[E]``."""

    ptr: Tensor
    node: Tensor
    value: Tensor


def heart_negatives(
    graph: Graph,
    positives: Tensor,
    x: Tensor | None = None,
    *,
    num_negatives: int = 500,
    known: Tensor | None = None,
    allow_edges: bool = False,
    alpha: float = 0.15,
    eps: float = 1e-5,
    seed: int = 0,
) -> Tensor:
    r"""Hard negatives of every positive pair, int64 ``[P, num_negatives, 2]``.

    `Evaluating graph neural networks for link prediction: current pitfalls and new benchmarking
    <https://arxiv.org/abs/2306.10453>`_ (HeaRT, NeurIPS 2023). Of a positive (a, b) the first half
    are pairs (a, u), the second half pairs (u, b). Each end ranks the nodes by resource allocation,
    by personalised PageRank from the end, and, with features, by their cosine with its own; equals
    share the best rank. A node's rank is the smallest of these, and the nodes of smallest rank are
    taken, in that order. Nodes without a positive score fill up what is missing. Which of equals
    come first, and who fills up, is drawn: a function of ``seed``, of the end, and of the node.

    No negative pairs an end with itself, its partner, its neighbours in the graph, or whom
    ``known`` joins it to; no node is taken twice for one end.

    Args:
        graph: undirected, with both directions of every edge: those that the scores may see.
        positives: ``[P, 2]``, in the order of OGB's ``edge``.
        x: features ``[N, F]``, or None to rank by the graph alone, as for OGB's sets.
        num_negatives: of each positive, even.
        known: further links ``[2, m]``, in either direction, that are no negatives.
        allow_edges: Let edges of the graph be negatives, as HeaRT does for collab.
        alpha: Chance of a walk to end before each step.
        eps: Tolerance of the pushes (:func:`graphkit.ops.ppr`). HeaRT has 1e-7 for Cora, 1e-5 for
            collab and ddi, 5e-6 for ppa, 5e-5 for citation2.
        seed: Of what is drawn.

    Departures from the official code: there the similarities of a node are overwritten by their
    ranks, so that its next positive ranks ranks; a node without one score has the rank behind the
    last in it, so that where few nodes have that score the smallest of its ranks is the same for
    almost all; fill-up is drawn with repetition. Figures differ from those with the published
    files.

    Cost: pushes and neighbours of neighbours for each node that is an end; for each end of a
    positive a sort of what has a score and some passes over all nodes. Memory beside the result:
    some 200 MB, or what one end needs. Deterministic.

    Raises :class:`GraphError` for malformed graphs, pairs and features, :class:`DataError` for a
    graph with directions and where too few nodes are left for an end, :class:`ConfigError` for
    numbers out of range.
    """
    check_seed(seed)
    if num_negatives < 2 or num_negatives % 2:
        raise ConfigError(
            f"{_OP}: num_negatives is {num_negatives}, but an even number is expected: half of "
            "them replace either end."
        )
    if not is_symmetric(graph):
        raise DataError(
            f"{_OP}: the graph has directions, but an undirected one is expected. Add the reverse "
            "of every edge."
        )
    size = graph.num_src
    walker, device = Walker(graph), graph.device
    turned = positives.t() if isinstance(positives, Tensor) and positives.dim() == 2 else positives
    pairs = read_pairs("positives.t()", turned, size, size, device, of=_OP)
    if x is not None:
        check_nodes(_OP, "x", x, graph, "source")
        x = normalize(x.detach().double().flatten(1), dim=1)
    ptr, keys = neighborhoods(graph.by_dst.indptr, graph.by_dst.indices)
    near = _Rows(ptr, keys % max(1, size), ptr.diff().double().reciprocal())
    taken = _taken(keys[:0] if allow_edges else keys, known, size, device)
    # each end of each positive, and its partner
    end, partner = torch.cat([pairs, pairs.flip(0)], dim=1)
    out = torch.empty(len(end), num_negatives // 2, dtype=torch.int64, device=device)
    for at in _parts(end, near, size):
        ends, place = torch.unique(end[at], return_inverse=True)
        scores = [_resource_allocation(near, ends), _pagerank(walker, ends, alpha, eps)]
        if x is not None:
            scores.append(_similarity(x, ends))
        rank = _smallest_rank(scores, place, _negatives(end[at], partner[at], taken, size))
        out[at] = _first(rank, end[at], out.size(1), seed)
    fixed = end.unsqueeze(1).expand_as(out)
    first, last = torch.stack([fixed, out], dim=2).view(2, -1, out.size(1), 2)
    return torch.cat([first, last.flip(2)], dim=1)


def _taken(
    keys: Tensor, known: Tensor | None, size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Whom each end may not be paired with, of the ``keys`` that rise and ``known``: offsets
    ``[N + 1]``, nodes."""
    if known is not None:
        first, last = read_pairs("known", known, size, size, device, of=_OP)
        keys = distinct(torch.cat([keys, first * size + last, last * size + first]))
    heads = torch.arange(size + 1, device=device) * size
    return torch.searchsorted(keys, heads), keys % max(1, size)


def _parts(end: Tensor, near: _Rows, size: int) -> tuple[Tensor, ...]:
    """The ends in parts that are worked on together, equal ones beside each other."""
    # neighbours of neighbours, and a score of every node
    length = near.ptr.diff()
    beyond = segment_reduce(length[near.node].double(), near.ptr).long()
    order = torch.sort(end, stable=True).indices
    work = (beyond + size)[end[order]].cumsum(0)
    _, sizes = torch.unique_consecutive(work // _ROOM, return_counts=True)
    return order.split(sizes.tolist())


def _resource_allocation(near: _Rows, ends: Tensor) -> _Rows:
    size = len(near.ptr) - 1
    row, slot = slots_of(near.ptr, ends)
    middle = near.node[slot]
    # neither end of a pair counts as their common neighbour, where self-loops bring it in
    row, middle = row[middle != ends[row]], middle[middle != ends[row]]
    step, slot = slots_of(near.ptr, middle)
    keep = near.node[slot] != middle[step]
    step, node = step[keep], near.node[slot[keep]]
    keys, order = torch.sort(row[step] * size + node, stable=True)
    keys, counts = torch.unique_consecutive(keys, return_counts=True)
    ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    value = segment_reduce(near.value[middle][step][order], ptr)
    heads = torch.arange(len(ends) + 1, device=ends.device) * size
    return _Rows(torch.searchsorted(keys, heads), keys % max(1, size), value)


def _pagerank(walker: Walker, ends: Tensor, alpha: float, eps: float) -> _Rows:
    found, mass = ppr(walker, ends, alpha=alpha, eps=eps, top_k=walker.num_nodes)
    return _Rows(found.by_dst.indptr, found.by_dst.indices.long(), mass)


def _similarity(x: Tensor, ends: Tensor) -> _Rows:
    size = len(x)
    cosine = (x[ends] @ x.t()).flatten()
    node = torch.arange(size, device=x.device).repeat(len(ends))
    return _Rows(torch.arange(len(ends) + 1, device=x.device) * size, node, cosine)


def _negatives(end: Tensor, partner: Tensor, taken: tuple[Tensor, Tensor], size: int) -> Tensor:
    """Which nodes each end may be paired with, bool ``[R, N]``."""
    allowed = torch.ones(len(end), size, dtype=torch.bool, device=end.device)
    allowed.scatter_(1, torch.stack([end, partner], dim=1), False)
    ptr, node = taken
    row, slot = slots_of(ptr, end)
    allowed[row, node[slot]] = False
    return allowed


def _smallest_rank(scores: list[_Rows], place: Tensor, allowed: Tensor) -> Tensor:
    """Of the ranks of each node for each end the smallest, int64 ``[R, N]``, from 0 on.

    N for nodes without a positive score, N + 1 where it is not ``allowed [R, N]``. The scores of
    end r are in row ``place[r]``.
    """
    size = allowed.size(1)
    rank = torch.where(allowed, size, size + 1)
    for rows in scores:
        row, slot = slots_of(rows.ptr, place)
        # in float32, where what rounding makes of equal sums in another order is equal again
        node, value = rows.node[slot], rows.value[slot].float()
        keep = (value > 0) & allowed[row, node]
        row, node, value = row[keep], node[keep], value[keep]
        # by row, and the largest first: the bits of positive floats are in their order
        keys, order = torch.sort((row << 32) - value.view(torch.int32))
        row, node = row[order], node[order]
        number = torch.arange(len(keys), device=keys.device)
        is_first = torch.ones_like(keys, dtype=torch.bool)
        is_first[1:] = keys[1:] != keys[:-1]
        # equals have the place of the first of them, from that of the first of the row on
        best = torch.where(is_first, number, 0).cummax(dim=0).values
        begin = torch.searchsorted(row, torch.arange(len(place), device=keys.device))
        rank[row, node] = torch.minimum(rank[row, node], best - begin[row])
    return rank


def _first(rank: Tensor, end: Tensor, count: int, seed: int) -> Tensor:
    """The ``count`` nodes of smallest rank for each end, ``[R, count]``, equals as they are drawn.

    Nodes that have no score are of one rank, the last: those who fill up are drawn as well.
    """
    size = rank.size(1)
    few = ((rank <= size).sum(dim=1) < count).nonzero().flatten()
    if len(few):
        total = int((rank[few[0]] <= size).sum())
        raise DataError(
            f"{_OP}: node {int(end[few[0]])} has {total} nodes that it may be paired with, but "
            f"{count} are needed. Ask for fewer negatives."
        )
    nodes = torch.arange(size, device=rank.device)
    drawn = random_bits(torch.tensor(seed, device=rank.device), end.unsqueeze(1) * size + nodes)
    return torch.topk((rank << 32) + drawn, count, dim=1, largest=False).indices
