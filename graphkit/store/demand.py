"""What stored batches ask for: how often each node, which rows no cache holds, what reading costs.

Everything here is counted, not estimated: the ids of all batches are known before the first byte of
a row is read.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..ops.random import as_word, random_word, random_words
from .direct import PAGE, pieces
from .engines import Words
from .packs import ROW_SUM, WAYS, Way, block_ranges, padded, row_ranges

Numbers = NDArray[np.int32]
# nodes that are looked at together
_PART = 1 << 22
# sets the order of shared rows apart from other random numbers
_ORDER = 0xD15C


def count_nodes(batches: Iterable[Words], num_nodes: int) -> Numbers:
    """In how many batches each node is."""
    counts = np.zeros(num_nodes, dtype=np.int32)
    for ids in batches:
        # a batch may name a seed twice, and is one batch all the same
        counts[ids] += 1
    return counts


def place_hottest(counts: Numbers, device_rows: int, memory_rows: int) -> tuple[int, int]:
    """Make of counts the place of each node in the caches, -1 for those that are in none.

    The device's cache takes the nodes that most batches want, the memory's the next ones; of equal
    ones those with the smaller id. In each they stand in the order of their ids. Nodes that no
    batch wants are in none. Returns the rows of both.
    """
    wanted = _histogram(counts)
    first, _ = _cut(wanted, device_rows)
    both, _ = _cut(wanted, device_rows + memory_rows)
    inner, outer = _chosen(counts, wanted, first), _chosen(counts, wanted, both)
    counts.fill(-1)
    counts[outer] = 0
    counts[inner] = np.arange(first, dtype=np.int32)
    rest = outer[~np.isin(outer, inner, assume_unique=True)] if first else outer
    counts[rest] = np.arange(first, both, dtype=np.int32)
    return first, both - first


def _histogram(counts: Numbers) -> Words:
    """How many nodes are in so many batches."""
    total = np.zeros(int(counts.max(initial=0)) + 1, dtype=np.int64)
    for start in range(0, len(counts), _PART):
        total += np.bincount(counts[start : start + _PART], minlength=len(total))
    return total


def _cut(wanted: Words, rows: int) -> tuple[int, int]:
    """How many of ``rows`` are filled, and the count of those of which only some are taken."""
    above = 0
    for count in range(len(wanted) - 1, 0, -1):
        if above + int(wanted[count]) > rows:
            return rows, count
        above += int(wanted[count])
    return above, 0


def _chosen(counts: Numbers, wanted: Words, rows: int) -> Words:
    """The ids of the ``rows`` nodes that most batches want, in their order."""
    _, edge = _cut(wanted, rows)
    left = rows - int(wanted[edge + 1 :].sum())
    found: list[Words] = []
    for start in range(0, len(counts), _PART):
        part = counts[start : start + _PART]
        take = part > edge
        if edge and left:
            ties = np.flatnonzero(part == edge)[:left]
            take[ties] = True
            left -= len(ties)
        found.append(np.flatnonzero(take) + start)
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def cold_of(ids: Words, places: Numbers) -> tuple[Words, Words]:
    """The nodes of a batch that no cache holds, in the order of their ids, and where they stand."""
    position = np.flatnonzero(places[ids] < 0)
    cold = ids[position].astype(np.int64)
    if len(places) > 2**31 - 1:
        order = np.argsort(cold, kind="stable")
        return cold[order], position[order]
    # both in one word: sorting those takes a fifth of the time
    words = np.sort(cold << 32 | position)
    return words >> 32, words & 0xFFFFFFFF


def shared_of(cold: list[Words], first: int, seed: int) -> Words:
    """The nodes that more than one of these batches want, in the order in which they are stored.

    Rows of the same batches are to stand together: they are sorted by the smallest numbers that
    two random orders give to their batches (min-hash), and by id. ``first``: the number of the
    first batch.
    """
    each = [np.unique(ids) for ids in cold]
    ids, count = np.unique(np.concatenate(each), return_counts=True)
    shared = ids[count > 1]
    keys = np.full((2, len(shared)), len(cold), dtype=np.int64)
    for way in range(2):
        word = random_word(random_word(_ORDER + way, seed), first)
        order = random_words(as_word(word), torch.arange(len(cold))).argsort(stable=True)
        rank = np.empty(len(cold), dtype=np.int64)
        rank[order.numpy()] = np.arange(len(cold))
        for number, wanted in enumerate(each):
            at = np.searchsorted(shared, wanted)
            at = at[shared[np.minimum(at, len(shared) - 1)] == wanted] if len(shared) else at[:0]
            keys[way, at] = np.minimum(keys[way, at], rank[number])
    return shared[np.lexsort((shared, keys[1], keys[0]))]


@dataclass(frozen=True)
class Shared:
    """Where the shared rows of a segment stand, for one who looks for ids."""

    ids: Words
    place: Words

    @classmethod
    def of(cls, stored: Words) -> Shared:
        order = np.argsort(stored, kind="stable")
        return cls(stored[order], order)

    def find(self, ids: Words) -> tuple[NDArray[np.bool_], Words]:
        """Which of ``ids`` are shared, and the places of those."""
        if len(self.ids) == 0:
            return np.zeros(len(ids), dtype=bool), np.empty(0, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        mask = self.ids[at] == ids
        return mask, self.place[at[mask]]


@dataclass
class Cost:
    """What one way of reading costs in an epoch: bytes, reads, and the largest batch's bytes."""

    bytes: int = 0
    reads: int = 0
    room: int = 0
    # what lies on the disk for it, beside the features
    disk: int = 0

    def add(self, begin: Words, end: Words) -> None:
        """Ranges that one batch reads."""
        moved = int((end - begin).sum())
        self.bytes += moved
        self.reads += len(pieces(begin, end)[0])
        self.room = max(self.room, moved)


@dataclass
class Demand:
    """The rows of an epoch of stored batches, counted."""

    requested: int
    cold: Words
    segment: int
    segment_rows: Words
    # of each batch those that it has alone, for the way ``segments``
    alone: Words
    cost: dict[str, Cost] = field(default_factory=dict[str, Cost])

    @property
    def hit_rate(self) -> float:
        """The share of rows that a cache holds."""
        return 1 - int(self.cold.sum()) / self.requested if self.requested else 1.0


@dataclass(frozen=True)
class Table:
    """What of the features counts here: rows at every stride, and those of the packs."""

    stride: int
    row: int
    size: int
    packed_row: int


def segments_of(
    batches: Callable[[], Iterator[Words]], num_batches: int, segment: int, places: Numbers
) -> Iterator[list[tuple[Words, Words]]]:
    """The cold nodes of the batches of each segment, as :func:`cold_of` gives them."""
    held: list[tuple[Words, Words]] = []
    for number, ids in enumerate(batches()):
        held.append(cold_of(ids, places))
        if len(held) == segment or number == num_batches - 1:
            yield held
            held = []


def measure(
    batches: Callable[[], Iterator[Words]],
    num_batches: int,
    places: Numbers,
    table: Table,
    segment: int,
    seed: int,
) -> Demand:
    """Count what every way of reading costs; ``segment``: batches that share rows, 0 for none."""
    cost = {way: Cost() for way in (WAYS if segment else WAYS[:3])}
    requested = 0
    cold: list[int] = []
    alone: list[int] = []
    shared_rows: list[int] = []
    stride = table.packed_row + ROW_SUM

    def sized() -> Iterator[Words]:
        nonlocal requested
        for ids in batches():
            requested += len(ids)
            yield ids

    for held in segments_of(sized, num_batches, max(segment, 1), places):
        shared = np.empty(0, dtype=np.int64)
        if segment:
            shared = shared_of([ids for ids, _ in held], len(cold), seed)
        find = Shared.of(shared)
        shared_rows.append(len(shared))
        for ids, _ in held:
            cold.append(len(ids))
            cost["rows"].add(*row_ranges(ids, table.stride, table.row, table.size))
            cost["blocks"].add(*block_ranges(ids * table.stride, table.row, table.size))
            cost["packs"].add(*_pack_range(len(ids), table.packed_row))
            if not segment:
                continue
            mask, at = find.find(ids)
            m = len(ids) - int(mask.sum())
            alone.append(m)
            part = block_ranges(np.unique(at) * stride, stride, padded(len(shared) * stride))
            before = cost["segments"].bytes
            room = cost["segments"].room
            cost["segments"].add(*_pack_range(m, table.packed_row))
            cost["segments"].add(*part)
            cost["segments"].room = max(room, cost["segments"].bytes - before)
    found = Demand(requested, _words(cold), segment, _words(shared_rows), _words(alone), cost)
    cost["packs"].disk = int(_padded(found.cold * table.packed_row).sum())
    if segment:
        sizes = (found.alone * table.packed_row, found.segment_rows * stride)
        cost["segments"].disk = sum(int(_padded(part).sum()) for part in sizes)
    return found


def disk_of_segments(
    batches: Callable[[], Iterator[Words]], places: Numbers, segment: int, row: int
) -> int:
    """Bytes on disk if so many batches share rows: a row for each node of each segment, nearly.

    What pages are filled up with is not counted, nor what shared rows carry.
    """
    seen = np.full(len(places), -1, dtype=np.int32)
    total = 0
    for number, ids in enumerate(batches()):
        cold = ids[places[ids] < 0]
        new = cold[seen[cold] != number // segment]
        seen[new] = number // segment
        total += len(new)
    return total * row


def _pack_range(rows: int, row: int) -> tuple[Words, Words]:
    length = padded(rows * row)
    return (_words([0]), _words([length])) if length else (_words([]), _words([]))


def _padded(nbytes: Words) -> Words:
    return -(-nbytes // PAGE) * PAGE


def _words(values: list[int]) -> Words:
    return np.array(values, dtype=np.int64)


def as_way(name: str) -> Way:
    return WAYS[WAYS.index(cast(Way, name))]
