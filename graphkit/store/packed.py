"""Reading packs: stored batches, and the rows of each from whichever place holds them."""

# pyright: strict

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator
from contextlib import contextmanager
from math import gcd
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import GraphError, StoreError
from ..ops import take_rows
from .direct import PAGE, Counts, DirectFile, room
from .engines import Bytes, Engine, Words
from .layout import row_bytes
from .packs import (
    CACHE,
    INDEX,
    PACKS,
    ROW_SUM,
    SAMPLES,
    Record,
    block_ranges,
    ids_sum,
    open_stored,
    padded,
    part_sum,
    row_ranges,
    row_sums,
    unwritten,
)
from .reader import FeatureFile

# blocks of the features that are looked at when packs are opened
_PROBES = 16


class PackFile:
    """The rows of stored batches: a source for :func:`graphkit.data.stages.fetch`.

    Args:
        path: the folder that :func:`graphkit.data.pack` wrote.
        features: the table, where its store is not where it was when it was packed.
        verify: hold every part against its checksum before the first of its bytes is used.
        direct, engine: as :class:`.direct.DirectFile`.
        rooms: batches that are read at once; each has memory of its own.
        device: where the rows of the device's cache are kept and all rows are wanted. None keeps
            both caches in memory.

    ``counts`` says what was read so far, ``needs`` how much memory the object takes. Raises
    :class:`StoreError` if a file is not what was written, or the features changed since.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        features: FeatureFile | None = None,
        *,
        verify: bool = True,
        direct: bool | None = None,
        engine: Engine | None = None,
        rooms: int = 2,
        device: torch.device | str | None = None,
    ) -> None:
        self.stored = open_stored(path)
        self.path, self.layout, tables = self.stored.path, self.stored.layout, self.stored.tables
        self.verify, self.device = verify, torch.device("cpu" if device is None else device)
        array = self.layout.features
        self.features = features if features is not None else self._find_features()
        self._check_features()
        self._tables = {name: cast(Any, table).numpy() for name, table in tables.items()}

        def opened(name: str) -> DirectFile:
            return DirectFile(self.path / name, direct=direct, engine=engine)

        self._samples, self._index, self._cache = opened(SAMPLES), opened(INDEX), opened(CACHE)
        if self.layout.way in ("packs", "segments"):
            self._cold = opened(PACKS)
        elif self.features is None:
            raise StoreError(
                f"{self.path} reads rows out of their table, which is not at "
                f"{self.path / self.layout.source}. Pass it as features."
            )
        else:
            self._cold = DirectFile(self.features.file.path, direct=direct, engine=engine)
        self.dtype: torch.dtype = getattr(torch, self.layout.dtype)
        self.row_bytes = row_bytes(self.dtype, array.shape)
        self._cached = sum(self.layout.cache)
        self._verified = np.zeros(self.layout.num_batches, dtype=bool)
        self._has_device = device is not None
        self._make_room(rooms)
        self._lock = threading.Lock()
        self.hits = self.requested = 0

    def _make_room(self, rooms: int) -> None:
        """One piece of memory for the cache and, behind it, the rows that are being read."""
        row, on_device = self.row_bytes, self.layout.cache[0]
        # rows of the device's cache stay here where none is named
        self._first = on_device if self._has_device else 0
        held = (self._cached - self._first) * row
        spare = padded(self.layout.room) + PAGE
        self._memory = room(padded(held) + rooms * spare + PAGE)
        self._rooms: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(rooms):
            self._rooms.put(padded(held) + number * spare)
        self.needs = len(self._memory)
        step = gcd(row, PAGE)
        if self.layout.way in ("rows", "blocks"):
            step = gcd(step, self.layout.features.stride)
        elif self.layout.way == "segments":
            step = gcd(step, row + ROW_SUM)
        self._step = step
        self._on_device: Tensor | None = None
        self._load_cache(held)

    def _load_cache(self, held: int) -> None:
        row, on_device = self.row_bytes, self.layout.cache[0]
        ends, sums = self._tables["cache_ends"], self._tables["cache_sums"]
        total = self._cached * row
        # the part of the device first, which then goes there
        data = self._cache.read_bytes(0, padded(total)) if total else np.empty(0, np.uint8)
        begin = 0
        for part in range(len(ends) if self.verify else 0):
            end = int(ends[part]) * row
            # of an empty part nobody made one
            if end > begin:
                found = part_sum(CACHE, part, memoryview(cast(Any, data[begin:end])))
                if found != int(sums[part]):
                    raise self._damaged(CACHE, f"part {part}", begin, end)
            begin = end
        self._check_rest(CACHE, data, total)
        self._memory[:held] = data[self._first * row : total]
        if self._first:
            rows = torch.from_numpy(cast(Any, data[: on_device * row]).copy())  # pyright: ignore[reportUnknownMemberType]
            self._on_device = rows.view(self.dtype).view(on_device, -1).to(self.device)

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.layout.features.shape)

    @property
    def num_batches(self) -> int:
        return self.layout.num_batches

    @property
    def counts(self) -> Counts:
        """What was read of rows so far; ``useful`` are the bytes of rows that no cache holds."""
        return self._cold.counts

    @property
    def told(self) -> str:
        """How files are read, in words."""
        way = "past the page cache" if self._cold.direct else f"buffered ({self._cold.why})"
        return f"{self._cold.engine.name} ({self._cold.engine.why}), {way}"

    def record(self, number: int) -> Record:
        """The sampled neighbourhood of the stored batch ``number``."""
        self._check_number(number)
        at = self._tables["samples_at"]
        begin, end = int(at[number]), int(at[number + 1])
        data = self._samples.read_bytes(begin, end - begin)
        sums = self._tables["samples_sum"]
        whole = memoryview(cast(Any, data))
        if self.verify and part_sum(SAMPLES, number, whole) != int(sums[number]):
            raise self._damaged(SAMPLES, f"batch {number}", begin, end)
        return unwritten(
            data,
            self._tables["nodes"][number],
            self._tables["edges"][number],
            self.layout.wide_ids,
            self.layout.has_edge_ids,
        )

    def rows_of(self, number: int, n_id: Tensor, out: Tensor | None = None) -> Tensor:
        """The rows of the nodes ``n_id`` of the stored batch ``number``, in their order.

        ``out``: memory for them, of the packs' dtype.

        Raises:
            GraphError: these are not the nodes of that batch.
            StoreError: a file cannot be read, or was changed or damaged.
        """
        self._check_number(number)
        ids = cast(Any, n_id.detach().cpu().to(torch.int64).contiguous()).numpy()
        if ids_sum(ids) != int(self._tables["ids_sum"][number]):
            raise GraphError(
                f"{self.path}: n_id are not the nodes of the stored batch {number}. Take them from "
                "graphkit.data.stored, or sample with the graph, options and key that were packed."
            )
        source = self._sources(number, len(ids))
        shape = (len(ids), *self.shape[1:])
        with self._room() as at:
            cold = self._read_cold(number, ids, source, at)
            found = self._gather(source, cold, shape, out)
        with self._lock:
            # once it was held against its checksum
            self._verified[number] = True
            self.requested += len(ids)
            self.hits += int((source < self._cached).sum())
        return found

    def of_batch(self, batch: Any, out: Tensor | None = None) -> Tensor:
        """The rows of a :class:`graphkit.data.Batch` with the key of a stored one."""
        seed, epoch, number = batch.key
        stored = self.layout.recipe["seed"], self.layout.recipe["epoch"]
        if (seed, epoch) != stored:
            raise GraphError(
                f"{self.path} holds the batches of seed {stored[0]}, epoch {stored[1]}, but this "
                f"one is of seed {seed}, epoch {epoch}. Take them from graphkit.data.stored."
            )
        return self.rows_of(number, batch.n_id, out)

    def _sources(self, number: int, count: int) -> NDArray[np.int32]:
        at = self._tables["index_at"]
        begin, end = int(at[number]), int(at[number + 1])
        data = self._index.read_bytes(begin, end - begin)
        sums = self._tables["index_sum"]
        is_new = self.verify and not self._verified[number]
        if is_new and part_sum(INDEX, number, memoryview(cast(Any, data))) != int(sums[number]):
            raise self._damaged(INDEX, f"batch {number}", begin, end)
        return cast(Any, data[: 4 * count]).view(np.int32)

    def _read_cold(self, number: int, ids: Words, source: NDArray[np.int32], at: int) -> Words:
        """Read the rows that no cache holds to ``at``: the place in memory of each, by number."""
        if self.layout.way in ("rows", "blocks"):
            return self._read_table(ids, source, at)
        m = int(self._tables["pack_rows"][number])
        places = at + np.arange(m, dtype=np.int64) * self.row_bytes
        if m:
            self._read_pack(number, m, at)
        if self.layout.way == "packs":
            return places
        return np.concatenate(
            [places, self._read_shared(number, source, m, at + padded(m * self.row_bytes))]
        )

    def _read_pack(self, number: int, m: int, at: int) -> None:
        begin, length = int(self._tables["pack_at"][number]), padded(m * self.row_bytes)
        buffer = self._memory[at : at + length]
        self._cold.read(_one(begin), _one(begin + length), buffer, _one(0), m * self.row_bytes)
        if not self.verify or self._verified[number]:
            return
        first = 0
        for part, last in enumerate(self._tables["pack_ends"][number].tolist()):
            end = last * self.row_bytes
            if end > first:
                found = part_sum(PACKS, number, memoryview(cast(Any, buffer[first:end])), part)
                if found != int(self._tables["pack_sums"][number, part]):
                    raise self._damaged(PACKS, f"batch {number}", begin + first, begin + end)
            first = end
        self._check_rest(PACKS, buffer, m * self.row_bytes, begin, f"batch {number}")

    def _read_shared(self, number: int, source: NDArray[np.int32], m: int, at: int) -> Words:
        """The rows of the segment that this batch wants, by the pages that they lie on."""
        segment = number // self.layout.segment
        base = int(self._tables["segment_at"][segment])
        count = int(self._tables["segment_rows"][segment])
        stride = self.row_bytes + ROW_SUM
        is_wanted = np.zeros(count, dtype=bool)
        is_wanted[source[source >= self._cached + m] - (self._cached + m)] = True
        wanted = np.flatnonzero(is_wanted)
        places = np.full(count, -1, dtype=np.int64)
        if len(wanted) == 0:
            return places
        first = wanted * stride
        begin, end = block_ranges(first, stride, padded(count * stride))
        places[wanted] = self._read_ranges(
            begin + base, end + base, first + base, at, len(wanted) * self.row_bytes
        )
        if self.verify and not self._verified[number]:
            held = self._view(torch.uint8, stride)
            rows = cast(Any, take_rows(held, self._unit(places[wanted]))).numpy()
            sums = rows[:, self.row_bytes :].copy().view(np.uint64)[:, 0]
            wrong = sums != row_sums(rows[:, : self.row_bytes].copy(), first + base)
            if bool(wrong.any()):
                bad = int(first[wrong][0]) + base
                raise self._damaged(PACKS, f"shared rows of batch {number}", bad, bad + stride)
        return places

    def _read_table(self, ids: Words, source: NDArray[np.int32], at: int) -> Words:
        """The rows of a batch out of the table of features, row by row or by blocks."""
        assert self.features is not None
        array = self.layout.features
        is_cold = source >= self._cached
        count = int(source[is_cold].max()) + 1 - self._cached if bool(is_cold.any()) else 0
        wanted = np.zeros(count, dtype=np.int64)
        wanted[source[is_cold] - self._cached] = ids[is_cold]
        if count == 0:
            return wanted
        if self.verify:
            self.features.file.verify_rows(torch.from_numpy(wanted))  # pyright: ignore[reportUnknownMemberType]
        first = wanted * array.stride
        if self.layout.way == "rows":
            begin, end = row_ranges(wanted, array.stride, self.row_bytes, array.bytes)
        else:
            begin, end = block_ranges(first, self.row_bytes, array.bytes)
        return self._read_ranges(begin, end, first, at, count * self.row_bytes)

    def _read_ranges(self, begin: Words, end: Words, first: Words, at: int, useful: int) -> Words:
        """Read ranges one behind the other to ``at``: where the bytes ``first`` then lie."""
        lengths = end - begin
        starts = np.cumsum(lengths) - lengths
        self._cold.read(begin, end, self._memory[at : at + int(lengths.sum())], starts, useful)
        if len(begin) == len(first):
            of = np.arange(len(first))
        else:
            of = np.searchsorted(begin, first, side="right") - 1
        return at + starts[of] + first - begin[of]

    def _gather(
        self, source: NDArray[np.int32], cold: Words, shape: tuple[int, ...], out: Tensor | None
    ) -> Tensor:
        numbers = source.astype(np.int64)
        is_cold = numbers >= self._cached
        place = (numbers - self._first) * self.row_bytes
        place[is_cold] = cold[numbers[is_cold] - self._cached]
        size = self.dtype.itemsize
        held = self._view(self.dtype, self.row_bytes // size)
        if self._on_device is None:
            flat = None if out is None else out.view(len(out), -1)
            return take_rows(held, self._unit(place), flat).view(shape)
        on_device = numbers < self._first
        rows = torch.empty((len(numbers), held.size(1)), dtype=self.dtype, device=self.device)
        far, near = (np.flatnonzero(mask) for mask in (on_device, ~on_device))
        moved = [torch.from_numpy(part).to(self.device) for part in (numbers[far], far, near)]  # pyright: ignore[reportUnknownMemberType]
        rows[moved[1]] = self._on_device[moved[0]]
        rows[moved[2]] = take_rows(held, self._unit(place[near])).to(self.device)
        found = rows.view(shape)
        return found if out is None else out.copy_(found)

    def _view(self, dtype: torch.dtype, width: int) -> Tensor:
        """The memory as rows that begin at every step; such rows overlap."""
        size = dtype.itemsize
        length = len(self._memory) // size
        flat = torch.from_numpy(self._memory[: length * size]).view(dtype)  # pyright: ignore[reportUnknownMemberType]
        step = self._step // size
        return flat.as_strided(((length - width) // step + 1, width), (step, 1))

    def _unit(self, place: Words) -> Tensor:
        return torch.from_numpy(place // self._step)  # pyright: ignore[reportUnknownMemberType]

    @contextmanager
    def _room(self) -> Generator[int]:
        at = self._rooms.get()
        try:
            yield at
        finally:
            self._rooms.put(at)

    def _find_features(self) -> FeatureFile | None:
        folder = self.path / self.layout.source
        if not (folder / self.layout.features.file).is_file():
            return None
        return FeatureFile(folder, self.layout.features, self.layout.recipe["block"], verify=False)

    def _check_features(self) -> None:
        """Refuse a table that is another than the one that was packed."""
        if self.features is None:
            return
        found, packed = self.features.file.array, self.layout.features
        for name in ("dtype", "shape", "stride", "bytes", "sums"):
            if getattr(found, name) != getattr(packed, name):
                raise StoreError(
                    f"{self.path} was packed of another table: {self.features.file.path} has "
                    f"{name} {getattr(found, name)!r}, but {getattr(packed, name)!r} was packed. "
                    "Pass that table, or pack again."
                )
        blocks = self.features.file.num_blocks
        draw = np.random.default_rng(0).integers(0, max(blocks, 1), _PROBES).tolist()
        if blocks:
            self.features.file.verify(sorted({0, blocks - 1, *draw}))

    def _check_number(self, number: int) -> None:
        if not 0 <= number < self.num_batches:
            raise GraphError(
                f"{self.path} has no batch {number}, but those from 0 to {self.num_batches - 1}."
            )

    def _check_rest(
        self, file: str, data: Bytes, used: int, begin: int = 0, what: str = "its end"
    ) -> None:
        if self.verify and bool(data[used:].any()):
            raise self._damaged(file, what, begin + used, begin + len(data))

    def _damaged(self, file: str, what: str, begin: int, end: int) -> StoreError:
        return StoreError(
            f"{self.path / file}, {what} (bytes {begin} to {end - 1}): its content does not have "
            "the checksum that was written with it. It was changed or damaged: restore the file, "
            "or pack again."
        )

    def close(self) -> None:
        """Give the files back."""
        for file in (self._samples, self._index, self._cache, self._cold):
            file.close()


def _one(value: int) -> Words:
    return np.array([value], dtype=np.int64)
