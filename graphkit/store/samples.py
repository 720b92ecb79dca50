"""The sampled neighbourhoods of an epoch on disk: drawn once, read as often as they are counted."""

# pyright: strict

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from .build import check_room
from .engines import Words
from .journal import Desk
from .packs import SAMPLES, Record, ids_sum, part_sum, written

WORK = "work.bin"
# batches that are drawn together at most, and bytes after which they are journaled
_GROUP, STEP = 64, 64 << 20

Draw = Callable[[int, int], list[Record]]


class Samples:
    """The samples of ``count`` batches below ``desk``, written as far as they are not there yet.

    ``table [count, 3 + 2 * hops + 1]``: where a batch begins, the checksums of its record and of
    its ids, and the nodes and edges of each hop. ``end``: the length of the file. ``held``: bytes
    of samples that may be in memory at once.
    """

    def __init__(
        self,
        desk: Desk,
        draw: Draw,
        count: int,
        hops: int,
        wide_ids: bool,
        held: int,
        show: Callable[[int, int], None],
    ) -> None:
        self.desk, self.count, self.hops, self.wide_ids = desk, count, hops, wide_ids
        self.width = 3 + hops + 1 + hops
        self.file, self._work = desk.open(SAMPLES), desk.open(WORK, 8 * self.width * count)
        done = desk.done("samples")
        first, self.end = (done[-1]["to"], done[-1]["end"]) if done else (0, 0)
        self._write(draw, first, held, show)
        with desk.writing():
            os.ftruncate(self.file.fd, self.end)
        self.table = self._work.read(0, self.width * count, np.int64).reshape(count, self.width)
        self.sizes: Words = self.table[:, 3 : 4 + hops].sum(1)

    def _write(self, draw: Draw, first: int, held: int, show: Callable[[int, int], None]) -> None:
        group, pending = 1, 0
        while first < self.count:
            drawn = draw(first, min(group, self.count - first))
            begun = self.end
            data = [written(record, self.wide_ids) for record in drawn]
            if first == 0:
                # the batches are alike; what is known exactly is checked later
                self.desk.needed = len(data[0]) * self.count
                check_room(self.desk.path, self.desk.needed)
            rows = [
                self._put(number, record, part)
                for number, (record, part) in enumerate(zip(drawn, data, strict=True), first)
            ]
            self._work.write(np.array(rows, dtype=np.int64), 8 * self.width * first)
            first += len(drawn)
            pending += self.end - begun
            each = max(1, (self.end - begun) // len(drawn))
            group = max(1, min(_GROUP, held // each))
            if pending >= STEP or first == self.count:
                self.file.sync()
                self._work.sync()
                self.desk.note("samples", to=first, end=self.end)
                pending = 0
            show(first, self.count)

    def _put(self, number: int, record: Record, data: bytes) -> list[int]:
        self.file.write(data, self.end)
        sums = [part_sum(SAMPLES, number, data), ids_sum(record.n_id.astype(np.int64))]
        row = [self.end, *sums, *record.nodes.tolist(), *record.edges.tolist()]
        self.end += len(data)
        return row

    def ids_of(self, number: int) -> Words:
        """The ids of the nodes of a batch, as they were sampled."""
        kind = np.int64 if self.wide_ids else np.int32
        return self.file.read(int(self.table[number, 0]), int(self.sizes[number]), kind)

    def ids(self) -> Iterator[Words]:
        """Those of every batch."""
        return map(self.ids_of, range(self.count))
