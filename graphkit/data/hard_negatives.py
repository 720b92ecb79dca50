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
from ..ops.random import random_words
from ..ops.sample_plan import distinct, read_pairs
from ..structure import is_symmetric
from .splits import check_seed

_OP = "heart_negatives"
# scores of nodes that are held at once, some 100 bytes each
_ROOM = 2**21


class _Rows(NamedTuple):
    """Nodes of rows and their values: offsets ``[R + 1]``, nodes and values ``[E]``."""

    ptr: Tensor
    node: Tensor
    value: Tensor

    def pick(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The place in ``rows``, node and value of everything in the rows that are picked."""
        place, slot = _slots(self.ptr, rows)
        return place, self.node[slot], self.value[slot]


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

    Cost: pushes and neighbours of neighbours for each node that is an end, a sort of what has a
    score for each end of a positive; with features, of all nodes. Memory beside the result: some
    200 MB, or what one end needs. Deterministic.

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
        asked = _Asked(end[at], partner[at], place, taken, size, seed)
        out[at] = asked.hardest(scores, out.size(1))
    fixed = end.unsqueeze(1).expand_as(out)
    first, last = torch.stack([fixed, out], dim=2).view(2, -1, out.size(1), 2)
    return torch.cat([first, last.flip(2)], dim=1)


def _slots(ptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Every slot of ``rows [R]``, and the place in ``rows`` that it is of."""
    length = ptr.diff()[rows]
    place = torch.repeat_interleave(length)
    before = length.cumsum(0) - length
    return place, torch.arange(len(place), device=ptr.device) + (ptr[rows] - before)[place]


def _begin(ordered: Tensor, count: int) -> Tensor:
    """Where each of the rows 0 to ``count`` begins among rising row numbers, ``[count + 1]``."""
    return torch.searchsorted(ordered, torch.arange(count + 1, device=ordered.device))


def _sorted_by(*columns: Tensor) -> Tensor:
    """The order by the first column, equals by the second, and so on."""
    order = torch.arange(len(columns[0]), device=columns[0].device)
    for column in reversed(columns):
        order = order[torch.sort(column[order], stable=True).indices]
    return order


def _is_first(*columns: Tensor) -> Tensor:
    """Where any of sorted columns changes, bool."""
    changed = torch.ones_like(columns[0], dtype=torch.bool)
    changed[1:] = torch.stack([column[1:] != column[:-1] for column in columns]).any(dim=0)
    return changed


def _taken(keys: Tensor, known: Tensor | None, size: int, device: torch.device) -> Tensor:
    """Pairs that are no negatives, ``end * N + other`` in rising order."""
    if known is None:
        return keys
    first, last = read_pairs("known", known, size, size, device, of=_OP)
    return distinct(torch.cat([keys, first * size + last, last * size + first]))


def _contains(ordered: Tensor, wanted: Tensor) -> Tensor:
    """Whether each of ``wanted`` is one of the numbers ``ordered``, which rise."""
    if not len(ordered):
        return torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(ordered, wanted).clamp_(max=len(ordered) - 1)
    return ordered[place] == wanted


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
    row, slot = _slots(near.ptr, ends)
    middle = near.node[slot]
    # neither end of a pair counts as their common neighbour, where self-loops bring it in
    row, middle = row[middle != ends[row]], middle[middle != ends[row]]
    step, slot = _slots(near.ptr, middle)
    keep = near.node[slot] != middle[step]
    step, node = step[keep], near.node[slot[keep]]
    keys, order = torch.sort(row[step] * size + node, stable=True)
    keys, counts = torch.unique_consecutive(keys, return_counts=True)
    ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    value = segment_reduce(near.value[middle][step][order], ptr)
    return _Rows(_begin(keys // max(1, size), len(ends)), keys % max(1, size), value)


def _pagerank(walker: Walker, ends: Tensor, alpha: float, eps: float) -> _Rows:
    found, mass = ppr(walker, ends, alpha=alpha, eps=eps, top_k=walker.num_nodes)
    return _Rows(found.by_dst.indptr, found.by_dst.indices.long(), mass)


def _similarity(x: Tensor, ends: Tensor) -> _Rows:
    size = len(x)
    cosine = (x[ends] @ x.t()).flatten()
    node = torch.arange(size, device=x.device).repeat(len(ends))
    return _Rows(torch.arange(len(ends) + 1, device=x.device) * size, node, cosine)


class _Asked(NamedTuple):
    """Ends of positives ``[R]``, their partners, the place of their scores; what is no negative."""

    end: Tensor
    partner: Tensor
    place: Tensor
    taken: Tensor
    size: int
    seed: int

    def hardest(self, scores: list[_Rows], count: int) -> Tensor:
        """``count`` nodes of each end, ``[R, count]``."""
        ranked = [self._ranked(rows) for rows in scores]
        row, node, rank = (torch.cat(column) for column in zip(*ranked, strict=True))
        # of a node's ranks the smallest
        order = _sorted_by(row, node, rank)
        order = order[_is_first(row[order], node[order])]
        order = order[_sorted_by(row[order], rank[order], self._words(row, node)[order])]
        row, node = row[order], node[order]
        begin = _begin(row, len(self.end))
        position = torch.arange(len(row), device=row.device) - begin[row]
        out = torch.empty(len(self.end), count, dtype=torch.int64, device=row.device)
        kept = position < count
        out[row[kept], position[kept]] = node[kept]
        short = (begin.diff() < count).nonzero().flatten()
        if len(short):
            out[short] = self._filled(out[short], begin.diff()[short], short)
        return out

    def _words(self, row: Tensor, node: Tensor) -> Tensor:
        """A random word of each end and node."""
        return random_words(torch.tensor(self.seed), self.end[row] * self.size + node)

    def _ranked(self, rows: _Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Row, node and rank of what has a positive score and may be a negative."""
        row, node, value = rows.pick(self.place)
        # what rounding makes of equal sums in another order is equal again
        value = value.float()
        is_end = (node == self.end[row]) | (node == self.partner[row])
        keep = (value > 0) & ~is_end & ~_contains(self.taken, self.end[row] * self.size + node)
        row, node, value = row[keep], node[keep], value[keep]
        order = _sorted_by(row, -value)
        row, node, value = row[order], node[order], value[order]
        # equals have the place of the first of them
        place = torch.arange(len(row), device=row.device)
        best = torch.where(_is_first(row, value), place, 0).cummax(dim=0).values
        return row, node, best - _begin(row, len(self.end))[row]

    def _filled(self, out: Tensor, have: Tensor, rows: Tensor) -> Tensor:
        """``out [S, count]`` of some rows, of which the first ``have [S]`` are there: the rest."""
        nodes, have = torch.arange(self.size, device=out.device), have.unsqueeze(1)
        place = torch.arange(out.size(1), device=out.device)
        there = place < have
        is_open = torch.ones(len(rows), self.size, dtype=torch.bool, device=out.device)
        is_open.scatter_(1, torch.stack([self.end[rows], self.partner[rows]], dim=1), False)
        is_open[there.nonzero()[:, 0], out[there]] = False
        heads = torch.arange(self.size + 1, device=out.device) * self.size
        row, slot = _slots(torch.searchsorted(self.taken, heads), self.end[rows])
        is_open[row, self.taken[slot] % self.size] = False
        total = have.squeeze(1) + is_open.sum(dim=1)
        few = (total < out.size(1)).nonzero().flatten()
        if len(few):
            raise DataError(
                f"{_OP}: node {int(self.end[rows[few[0]]])} has {int(total[few[0]])} nodes that it "
                f"may be paired with, but {out.size(1)} are needed. Ask for fewer negatives."
            )
        words = self._words(rows.unsqueeze(1), nodes).masked_fill(~is_open, 2**63 - 1)
        drawn = torch.sort(words, dim=1, stable=True).indices
        return torch.where(there, out, drawn.gather(1, (place - have).clamp(min=0)))
