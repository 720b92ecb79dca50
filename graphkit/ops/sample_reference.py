"""What a run of the sampler takes and returns, and the reference: sampling in plain torch.

The kernel (``cpu/kernels/sample.cpp``) makes the same draws to the same bits.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..errors import GraphError
from .random import as_word, below, random_word, random_words, shift_right
from .sample_plan import Plan, Relation, distinct

MOST = 2**31 - 2
"""The most nodes of a batch, whose local numbers are int32."""
TOO_MANY_DRAWS = (
    "sample: a hop draws more than 2**31 - 2 edges of one relation with replacement. Pass fewer "
    "seeds or a smaller fanout."
)


@dataclass(frozen=True, eq=False)
class Seeds:
    """Checked seeds of each type, the tree of the first of each, the time of every tree; of each
    relation the pairs ``[2, m]`` between which no edge is taken, or an empty list."""

    ids: list[Tensor]
    first: list[int]
    time: Tensor | None
    key: int
    gone: list[Tensor | None]


@dataclass(frozen=True, eq=False)
class Found:
    """What a batch has. Of each type: ids, trees, how many are new in each hop, seeds first.
    Of each relation: offsets, columns, edge ids, how many in each hop."""

    ids: list[Tensor]
    trees: list[Tensor | None]
    num_nodes: list[list[int]]
    edges: list[tuple[Tensor, Tensor, Tensor]]
    num_edges: list[list[int]]


Run = Callable[[Sequence[Seeds]], list[Found]]


def _row_of_slots(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For rows of so many entries: the row of each entry, and its number inside the row."""
    row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    return row, torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]


def _spans(of: Relation, ids: Tensor, trees: Tensor | None, seeds: Seeds) -> tuple[Tensor, Tensor]:
    """The slots of nodes that may be taken: those not later than the time of their tree."""
    begin, end = of.ptr[ids], of.ptr[ids + 1]
    if of.time is None or seeds.time is None or trees is None:
        return begin, end
    now, low, high = seeds.time[trees], begin, end
    while bool((open := low < high).any()):
        middle = (low + high) // 2
        early = of.time[middle.clamp(max=len(of.time) - 1)] <= now
        low = torch.where(open & early, middle + 1, low)
        high = torch.where(open & ~early, middle, high)
    return begin, low


def _drawn_anew(k: int, has_any: Tensor) -> Tensor:
    """The number of draws with replacement for each row."""
    if k * int(has_any.sum()) > MOST:
        raise GraphError(TOO_MANY_DRAWS)
    return torch.where(has_any, k, 0)


def _floyd(size: Tensor, k: int, words: Tensor) -> Tensor:
    """Of each ``size`` (> k) neighbours ``k`` different ones, ``[rows, k]``: Floyd's draws.

    Of the first ``i + 1`` one is drawn, and the last of them where that is taken.
    """
    picks = torch.full((len(size), k), -1, device=size.device)
    for j in range(k):
        last = size - k + j
        drawn = below(random_words(words, torch.tensor(j)), last + 1)
        taken = (picks[:, :j] == drawn.unsqueeze(1)).any(1)
        picks[:, j] = torch.where(taken, last, drawn)
    return picks


def _without(of: Relation, pairs: Tensor, num_src: int) -> Relation:
    """The relation without the edges between such pairs. It is copied whole, which the kernel
    does with the rows in question alone."""
    keys, rows = distinct(pairs[1] * num_src + pairs[0]), distinct(pairs[1])
    begin = of.ptr[rows]
    row, offset = _row_of_slots(of.ptr[rows + 1] - begin)
    slot = begin[row] + offset
    is_gone = torch.isin(rows[row] * num_src + of.idx[slot].long(), keys)
    kept = torch.ones(len(of.idx), dtype=torch.bool, device=of.idx.device)
    kept[slot[is_gone]] = False
    left = torch.zeros_like(of.ptr)
    torch.cumsum(of.ptr.diff().scatter_add(0, rows[row], -is_gone.long()), 0, out=left[1:])
    sums = None
    if of.sums is not None:
        sums = torch.zeros(int(left[-1]) + 1, dtype=torch.int64, device=left.device)
        torch.cumsum(of.sums.diff()[kept], 0, out=sums[1:])
    return Relation(
        src=of.src,
        dst=of.dst,
        ptr=left,
        idx=of.idx[kept],
        eid=kept.nonzero().flatten() if of.eid is None else of.eid[kept],
        time=None if of.time is None else of.time[kept],
        sums=sums,
        weight=None if of.weight is None else of.weight[kept],
    )


def _exponential(words: Tensor) -> Tensor:
    """-log of a uniform number in (0, 1), by operations that round alike everywhere."""
    unit = (shift_right(words, 12).to(torch.float64) + 0.5) * 2.0**-52
    bits = unit.view(torch.int64)
    exponent = (bits >> 52) - 1023
    m = ((bits & (2**52 - 1)) | (1023 << 52)).view(torch.float64)
    large = m > 1.4142135623730951
    m, exponent = torch.where(large, m * 0.5, m), exponent + large.to(torch.int64)
    # log m = 2 artanh s
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    total = torch.full_like(s, 1.0 / 23.0)
    for odd in range(21, 0, -2):
        total = total * z + 1.0 / odd
    return -(2.0 * s * total + exponent.to(torch.float64) * 0.6931471805599453)


def _draw(
    plan: Plan, of: Relation, k: int, word: int, ids: Tensor, trees: Tensor | None, seeds: Seeds
) -> tuple[Tensor, Tensor]:
    """The slots drawn for nodes ``ids``, row by row: how many of each row, and all of them."""
    begin, end = _spans(of, ids, trees, seeds)
    size = end - begin
    if k == 0:
        return torch.zeros_like(size), size.new_empty(0)
    if k > 0 and plan.last:
        begin = torch.maximum(begin, end - k)
    if k < 0 or plan.last:
        row, offset = _row_of_slots(end - begin)
        return end - begin, begin[row] + offset
    seed = as_word(word, ids.device)
    if plan.labor:
        row, offset = _row_of_slots(size)
        slot = begin[row] + offset
        bound = (k / size.clamp(min=k).to(torch.float64) * 2.0**53).to(torch.int64)
        number = shift_right(random_words(seed, of.idx[slot].long()), 11)
        kept = (number < bound[row]) | (size[row] <= k)
        return torch.bincount(row[kept], minlength=len(ids)), slot[kept]
    words = random_words(seed, ids)
    if trees is not None:
        words = random_words(words, trees)
    if of.sums is not None:
        total = of.sums[end] - of.sums[begin]
        counts = _drawn_anew(k, total > 0)
        row, number = _row_of_slots(counts)
        drawn = of.sums[begin][row] + below(random_words(words[row], number), total[row])
        return counts, torch.searchsorted(of.sums, drawn, right=True) - 1
    if of.weight is not None:
        row, offset = _row_of_slots(size)
        slot = begin[row] + offset
        kept = of.weight[slot] > 0
        row, offset, slot = row[kept], offset[kept], slot[kept]
        arrival = _exponential(random_words(words[row], offset)) / of.weight[slot]
        order = torch.sort(arrival, stable=True).indices
        order = order[torch.sort(row[order], stable=True).indices]
        counts = torch.bincount(row, minlength=len(ids))
        first = order[_row_of_slots(counts)[1] < k]
        return counts.clamp(max=k), slot[first]
    if plan.replace:
        counts = _drawn_anew(k, size > 0)
        row, number = _row_of_slots(counts)
        return counts, begin[row] + below(random_words(words[row], number), size[row])
    counts = size.clamp(max=k)
    row, offset = _row_of_slots(counts)
    more = size > k
    picks = _floyd(size[more], k, words[more])
    offset[more[row]] = picks.flatten()
    return counts, begin[row] + offset


def _number(known: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Local numbers of ``found`` after ``known`` ones, and where in ``found`` each new one is."""
    keys = torch.cat([known, found])
    ordered, order = torch.sort(keys, stable=True)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    group = is_first.cumsum(0) - 1
    # a stable sort leaves the earliest of equals first
    first = torch.empty_like(order).index_copy_(0, order, order[is_first][group])
    position = torch.arange(len(keys), device=keys.device)
    is_new = (first == position) & (position >= len(known))
    number = torch.where(is_new, len(known) + is_new.cumsum(0) - 1, position)
    return number[first][len(known) :], is_new[len(known) :].nonzero().flatten()


def reference(plan: Plan) -> Run:
    """What the kernel does, in plain torch and to the same bits."""

    def key_of(ids: Tensor, trees: Tensor | None, kind: int) -> Tensor:
        return ids if trees is None else trees * plan.num_nodes[kind] + ids

    def one(seeds: Seeds) -> Found:
        # the caller's seeds are not to lie below what is returned
        ids = [some.clone() for some in seeds.ids]
        relations = [
            of if pairs is None else _without(of, pairs, plan.num_nodes[of.src])
            for of, pairs in zip(plan.relations, seeds.gone, strict=True)
        ] if seeds.gone else plan.relations  # fmt: skip
        trees: list[Tensor | None] = [None] * len(ids)
        if plan.disjoint:
            trees = [
                torch.arange(len(some), device=some.device) + first
                for some, first in zip(ids, seeds.first, strict=True)
            ]
        num_nodes = [[len(some)] for some in ids]
        none = torch.empty(0, dtype=torch.int64, device=plan.device)
        parts = [([none], [none], [none]) for _ in plan.relations]
        num_edges: list[list[int]] = [[] for _ in plan.relations]
        for hop in range(plan.hops):
            frontier = [(sum(counts[:hop]), sum(counts[: hop + 1])) for counts in num_nodes]
            for at, of in enumerate(relations):
                first, last = frontier[of.dst]
                k = plan.fanout[hop][at]
                layer = 0xFFFF if plan.layer_dependency else hop
                which = of.src if plan.labor else at
                word = random_word(seeds.key, which << 16 | layer)
                of_dst = trees[of.dst]
                of_rows = None if of_dst is None else of_dst[first:last]
                counts, slots = _draw(plan, of, k, word, ids[of.dst][first:last], of_rows, seeds)
                found = of.idx[slots].long()
                of_found = None if of_rows is None else torch.repeat_interleave(of_rows, counts)
                known = key_of(ids[of.src], trees[of.src], of.src)
                local, new = _number(known, key_of(found, of_found, of.src))
                ids[of.src] = torch.cat([ids[of.src], found[new]])
                if of_found is not None:
                    trees[of.src] = torch.cat([cast(Tensor, trees[of.src]), of_found[new]])
                for part, piece in zip(parts[at], (counts, local, slots), strict=True):
                    part.append(piece)
                num_edges[at].append(len(slots))
            for kind, some in enumerate(ids):
                num_nodes[kind].append(len(some) - sum(num_nodes[kind]))
        edges: list[tuple[Tensor, Tensor, Tensor]] = []
        for at, of in enumerate(relations):
            if plan.induced:
                counts, local, slots = among(of, ids, trees, seeds)
            else:
                counts, local, slots = (torch.cat(part) for part in parts[at])
            ptr = torch.zeros(len(counts) + 1, dtype=torch.int64, device=plan.device)
            torch.cumsum(counts, 0, out=ptr[1:])
            eid = slots if of.eid is None else of.eid[slots].long()
            edges.append((ptr, local.to(torch.int32), eid))
        return Found(ids, trees, num_nodes, edges, num_edges)

    def among(
        of: Relation, ids: list[Tensor], trees: list[Tensor | None], seeds: Seeds
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, local sources and slots of all edges among the nodes that were found."""
        begin, end = _spans(of, ids[of.dst], trees[of.dst], seeds)
        row, offset = _row_of_slots(end - begin)
        slot = begin[row] + offset
        of_dst = trees[of.dst]
        wanted = key_of(of.idx[slot].long(), None if of_dst is None else of_dst[row], of.src)
        known = key_of(ids[of.src], trees[of.src], of.src)
        local, _ = _number(known, wanted)
        kept = local < len(known)
        return torch.bincount(row[kept], minlength=len(begin)), local[kept], slot[kept]

    return lambda batches: [one(seeds) for seeds in batches]
