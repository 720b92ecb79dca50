"""Writing packs: stored batches, their rows one batch after the other, in bounded memory.

The rows of all batches are brought together by one sweep over the table. First it is noted for each
slab of the table which of its rows go where (16 bytes a row, on disk); then slab after slab is read
in one piece and its rows written to their places. All files have their full length from the
beginning and are written at fixed places, so that what is done twice is done to the same bytes: a
journal says which parts are on the disk, and who goes on after a kill begins at the first that is
not.
"""

# pyright: strict

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xxhash
from torch import Tensor

from .. import errors
from ..errors import ConfigError, GraphkitError, StoreError
from ..ops import take_rows
from . import plan
from .build import alone, check_room
from .demand import (
    Cost,
    Demand,
    Shared,
    Table,
    as_way,
    count_nodes,
    disk_of_segments,
    measure,
    place_hottest,
    segments_of,
    shared_of,
)
from .direct import PAGE, DirectFile, Disk, probe, room
from .engines import Bytes, Engine, Words
from .files import atomic, sync
from .journal import JOURNAL, Desk, PlacedFile
from .layout import STORE, read_record, row_bytes, write_record
from .packs import (
    CACHE,
    FORMAT,
    INDEX,
    PACKS,
    ROW_SUM,
    SAMPLES,
    TABLES,
    VERSION,
    Layout,
    Way,
    padded,
    part_sum,
    row_sums,
    signed,
)
from .plan import Prediction
from .reader import FeatureFile
from .samples import STEP, WORK, Draw, Samples
from .sealed import digest, save_tensors

PLAN, SPILL, SUMS = "plan.json", "spill.bin", "sums.bin"
# of a row in the spill: its id, and the place that it goes to
_NOTE = 16
# beside the tables of nodes and the slab: buffers, lists of one batch
_LEAST = 8 << 20

Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Wish:
    """What is to be packed, and within which limits.

    ``recipe``: what the samples are a function of, as JSON holds it. ``draw(first, count)``: the
    sampled neighbourhoods of so many batches. ``memory``: the bytes that packing may use.
    ``cache``: rows of the device's cache and of the memory's. ``disk``: bytes that all files may
    take. ``way``: how rows will be read; None takes the fastest. ``dtype``: of the rows, where it
    is narrower than the table's. ``speed``: of the disk; None measures it.
    """

    features: FeatureFile
    recipe: dict[str, Any]
    draw: Draw
    num_batches: int
    hops: int
    has_edge_ids: bool
    seed: int
    memory: int
    cache: tuple[int, int]
    disk: int | None
    way: Way | None
    dtype: torch.dtype
    epochs: int
    train_seconds: float
    speed: Disk | None
    writer: str


def build(path: Path, wish: Wish, show: Show, engine: Engine | None = None) -> list[Prediction]:
    """Pack to the folder ``path``, or go on where a killed process stopped; what was predicted.

    Raises:
        ConfigError: the memory or the disk that was given is too small; the message says how much
            is needed.
        StoreError: something else is at ``path``, another process packs to it, the disk is full, or
            the table was changed.
    """
    path = Path(os.path.abspath(path))
    recipe = _identity(wish)
    if path.exists() or path.is_symlink():
        _check_same(path, recipe)
        return _read_plan(path)
    name = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    folder = path.parent / f"{path.name}.packing-{name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path):
            if path.exists():
                _check_same(path, recipe)
                return _read_plan(path)
            folder.mkdir(exist_ok=True)
            if not (folder / STORE).exists():
                _run(folder, path, wish, recipe, show, engine)
            return _publish(folder, path)
    except GraphkitError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. Choose another place."
        ) from error


def _run(
    folder: Path,
    path: Path,
    wish: Wish,
    recipe: dict[str, Any],
    show: Show,
    engine: Engine | None,
) -> None:
    try:
        _Build(folder, path, wish, recipe, show, engine).run()
    except ConfigError:
        # with these limits nobody can go on with it
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _identity(wish: Wish) -> dict[str, Any]:
    """All that the bytes are a function of."""
    array = wish.features.file.array
    return {
        **wish.recipe,
        "seed": wish.seed,
        "features": [array.dtype, list(array.shape), array.stride, array.sums],
        "block": wish.features.file.block,
        "num_batches": wish.num_batches,
        "edge_ids": wish.has_edge_ids,
        "memory": wish.memory,
        "cache": list(wish.cache),
        "disk": wish.disk,
        "way": wish.way,
        "dtype": str(wish.dtype).removeprefix("torch."),
        "epochs": wish.epochs,
        "train_seconds": wish.train_seconds,
    }


def _check_same(path: Path, recipe: dict[str, Any]) -> None:
    found = read_record(path / STORE, Layout, FORMAT, VERSION).recipe
    for name in recipe:
        if found.get(name) != recipe[name]:
            raise StoreError(
                f"{path} holds packs of {name} {found.get(name)!r}, but {recipe[name]!r} was asked "
                "for. Choose another place, or remove it."
            )


def _read_plan(path: Path) -> list[Prediction]:
    try:
        rows = json.loads((path / PLAN).read_text(encoding="utf-8"))["predictions"]
        return [Prediction(**row) for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path / PLAN} is damaged ({error}). Restore it, or pack again.") from (
            error
        )


def _publish(folder: Path, path: Path) -> list[Prediction]:
    """Give finished packs their name; what was only needed to make them goes."""
    # and what was being written to the side when a process was killed
    for file in (*(folder / name for name in (JOURNAL, WORK, SPILL, SUMS)), *folder.glob(".*.tmp")):
        file.unlink(missing_ok=True)
    sync(folder)
    os.rename(folder, path)
    sync(path.parent)
    return _read_plan(path)


class _Build:
    """One building of packs, from wherever it stands to its end."""

    def __init__(
        self,
        folder: Path,
        path: Path,
        wish: Wish,
        recipe: dict[str, Any],
        show: Show,
        engine: Engine | None,
    ) -> None:
        self.folder, self.path, self.wish, self.recipe = folder, path, wish, recipe
        self.show, self.engine = show, engine
        array = wish.features.file.array
        self.num_nodes = array.shape[0]
        self.wide_ids = self.num_nodes > 2**31 - 1
        self.row = row_bytes(wish.dtype, array.shape)
        self.slab_rows = self._slab_rows(array.stride)
        self.slabs = -(-self.num_nodes // self.slab_rows)
        self.desk = Desk(folder, path)

    def run(self) -> None:
        wish = self.wish
        try:
            self.samples = Samples(
                self.desk,
                wish.draw,
                wish.num_batches,
                wish.hops,
                self.wide_ids,
                self.slab_rows * wish.features.file.array.stride // 4,
                lambda done, total: self.show("sampling", done, total),
            )
            self.places = count_nodes(self.samples.ids(), self.num_nodes)
            self.cache = place_hottest(self.places, *wish.cache)
            self._plan()
            self._note_rows()
            self._move_rows()
            self._finish()
        finally:
            self.desk.close()

    # --- memory, disk, journal ---

    def _slab_rows(self, stride: int) -> int:
        """Rows that are read in one piece: half of the memory that is left beside the tables."""
        # the place of every node (and the segment that it was last seen in), and what choosing
        # those of the caches takes for a moment
        is_shared = self.wish.disk is not None or self.wish.way == "segments"
        fixed = (4 + 4 * is_shared) * self.num_nodes + 48 * sum(self.wish.cache)
        # a block of checksums before the slab and behind it
        border = 2 * min(self.wish.features.file.block, padded(stride * self.num_nodes))
        least = fixed + border + 4 * stride + _LEAST
        if self.wish.memory < least:
            raise ConfigError(
                f"memory is {self.wish.memory:,} bytes, but packing {self.num_nodes:,} nodes with "
                f"{sum(self.wish.cache):,} rows in caches needs at least {least:,}. Give more, or "
                "make the cache smaller."
            )
        left = self.wish.memory - fixed - border - _LEAST // 2
        return max(1, min(left // 2 // stride, self.num_nodes))

    @property
    def chunk(self) -> int:
        """Rows that are on their way from a slab to their places at once."""
        # the row, as it is and as it is written, and its note
        each = 2 * (self.wish.features.file.array.stride + self.row + ROW_SUM) + 3 * _NOTE
        return max(1, self.slab_rows * self.wish.features.file.array.stride // each // 2)

    # --- the plan ---

    def _plan(self) -> None:
        wish, array = self.wish, self.wish.features.file.array
        self.table = Table(array.stride, array.row_bytes, array.bytes, self.row)
        index = sum(padded(4 * n) for n in self.samples.sizes.tolist())
        cache = padded(sum(self.cache) * self.row)
        common = self.samples.end + index + cache
        kept = self.folder / PLAN
        if kept.exists():
            held = json.loads(kept.read_text(encoding="utf-8"))
            self.demand = self._measured(held["segment"])
            self.way = as_way(held["way"])
        else:
            limit = None if wish.disk is None else wish.disk - common
            segment = self._segment(limit)
            self.demand = self._measured(segment)
            made = self._predict(common, cache)
            self.way = self._choose(made)
            facts = {"segment": segment, "way": self.way, "speed": self._speed}
            with self.desk.writing(), atomic(kept) as side:
                rows = [dict(p.__dict__) for p in made]
                text = json.dumps({**facts, "predictions": rows}, indent=1) + "\n"
                side.write_text(text, encoding="utf-8")
        cost = self.demand.cost[self.way]
        self.index_at = np.append(0, np.cumsum(_pages(4 * self.samples.sizes)))
        spill = _NOTE * int(self.demand.cold.sum()) if self._is_packed else 0
        self.desk.needed = index + cache + cost.disk + spill
        left = 0 if self.desk.done("index") else self.desk.needed
        check_room(self.path, left)

    @property
    def _is_packed(self) -> bool:
        return self.way in ("packs", "segments")

    def _measured(self, segment: int) -> Demand:
        return measure(
            self.samples.ids, self.samples.count, self.places, self.table, segment, self.wish.seed
        )

    def _segment(self, limit: int | None) -> int:
        """How many batches share rows, 0 for none: the fewest that fit on the disk."""
        wish = self.wish
        if wish.way not in (None, "segments"):
            return 0
        cold = [int((self.places[ids] < 0).sum()) for ids in self.samples.ids()]
        rows = sum(cold)
        if limit is None:
            if wish.way is None:
                return 0
            # half of what packs take
            limit = rows * self.row // 2
        if rows * self.row <= limit and wish.way is None:
            return 0
        # lists of a segment's rows are sorted in memory, at about 64 bytes a row
        most = max(2, wish.memory // 4 // 64 // max(1, max(cold, default=1)))
        segment = 2
        while segment < min(most, wish.num_batches):
            size = disk_of_segments(self.samples.ids, self.places, segment, self.row + ROW_SUM)
            if size <= limit:
                break
            segment *= 2
        return min(segment, most)

    def _predict(self, common: int, cache: int) -> list[Prediction]:
        wish = self.wish
        array = wish.features.file.array
        speed = wish.speed
        self._speed = None
        if speed is None:
            speed = probe(wish.features.file.path) if array.bytes else Disk(1e9, 1e5)
        self._speed = [speed.bandwidth, speed.iops]
        made = plan.predict(
            self.demand,
            speed,
            wish.epochs,
            table_bytes=array.bytes,
            cache_bytes=cache,
            common=common,
            limit=wish.disk,
            train_seconds=wish.train_seconds,
        )
        if wish.dtype != array.torch_dtype:
            # rows of the table are of another dtype
            made = [p for p in made if p.way in ("packs", "segments")]
        return made

    def _choose(self, made: list[Prediction]) -> Way:
        fitting = [p for p in made if p.fits and self.wish.way in (None, p.way)]
        if not fitting:
            least = min((p for p in made if self.wish.way in (None, p.way)), key=lambda p: p.disk)
            raise ConfigError(
                f"disk is {self.wish.disk:,} bytes, but {least.way} need "
                f"{least.disk:,}. Give more, or a larger cache, or leave the way open."
            )
        return as_way(plan.choose(fitting).way)

    # --- which row goes where ---

    def _layout_packs(self) -> None:
        """The places of all packs and shared rows in their file."""
        demand = self.demand
        in_packs = demand.alone if self.way == "segments" else demand.cold
        self.pack_rows = in_packs if self._is_packed else np.zeros_like(demand.cold)
        self.pack_at = np.append(0, np.cumsum(_pages(self.pack_rows * self.row)))
        self.shared_rows = demand.segment_rows if self.way == "segments" else np.zeros(0, np.int64)
        sizes = _pages(self.shared_rows * (self.row + ROW_SUM))
        self.shared_at = int(self.pack_at[-1]) + np.append(0, np.cumsum(sizes))
        self.packs_end = int(self.shared_at[-1])

    def _groups(self) -> Iterator[tuple[int, list[tuple[Words, Words]], Words]]:
        """Batches that share rows, one after the other: the first's number, their cold nodes, and
        those that are shared."""
        segment = self.demand.segment if self.way == "segments" else 1
        first = 0
        count = self.wish.num_batches
        for held in segments_of(self.samples.ids, count, segment, self.places):
            shared = np.empty(0, dtype=np.int64)
            if self.way == "segments":
                shared = shared_of([ids for ids, _ in held], first, self.wish.seed)
            yield first, held, shared
            first += len(held)

    def _note_rows(self) -> None:
        """Write where each row of a batch is found, and for each slab which rows go where."""
        self._layout_packs()
        batches, segments = self.wish.num_batches, len(self.shared_rows)
        self.index = self.desk.open(INDEX, int(self.index_at[-1]))
        work = self.desk.open(SUMS, 8 * (batches + self.slabs * (batches + 2)))
        # rows of each slab that go to each pack, and to the shared rows of each segment
        self.parts = np.zeros((self.slabs, batches + segments), dtype=np.int64)
        edges = np.arange(1, self.slabs, dtype=np.int64) * self.slab_rows
        if self._is_packed:
            for first, held, shared in self._groups():
                find = Shared.of(shared)
                for number, (ids, _) in enumerate(held, first):
                    self.parts[:, number] = _per_slab(ids[~find.find(ids)[0]], edges)
                if segments:
                    unit = batches + first // self.demand.segment
                    self.parts[:, unit] = _per_slab(find.ids, edges)
        self.spill_at = np.concatenate([[0], np.cumsum(self.parts.ravel())]) * _NOTE
        spill = self.desk.open(SPILL, int(self.spill_at[-1]))
        done = self.desk.done("index")
        start = done[-1]["to"] if done else 0
        pending = 0
        for first, held, shared in self._groups() if start < batches else ():
            if first + len(held) <= start:
                continue
            find = Shared.of(shared)
            sizes = self.samples.sizes
            for number, (ids, position) in enumerate(held, first):
                self._note_batch(number, int(sizes[number]), ids, position, find, work, spill)
                pending += 4 * int(sizes[number]) + _NOTE * len(ids)
            if len(shared):
                segment = first // self.demand.segment
                stride = self.row + ROW_SUM
                place = int(self.shared_at[segment]) + find.place * stride
                self._spill(spill, batches + segment, find.ids, place)
            last = first + len(held)
            if pending >= STEP or last == batches:
                for file in (self.index, work, spill):
                    file.sync()
                self.desk.note("index", to=last)
                pending = 0
            self.show("placing", last, batches)
        self.spill, self.sums = spill, work

    def _note_batch(
        self,
        number: int,
        size: int,
        ids: Words,
        position: Words,
        find: Shared,
        work: PlacedFile,
        spill: PlacedFile,
    ) -> None:
        source: Any = self.places[self.samples.ids_of(number)]
        cached = sum(self.cache)
        is_shared, place = find.find(ids)
        lone = ids[~is_shared]
        source[position[~is_shared]] = cached + np.arange(len(lone))
        source[position[is_shared]] = cached + len(lone) + place
        data = np.zeros(padded(4 * size), dtype=np.uint8)
        data[: 4 * size] = source.astype(np.int32).view(np.uint8)
        self.index.write(data, int(self.index_at[number]))
        # the whole part, as it is read
        work.write(np.array([part_sum(INDEX, number, cast(Any, data))]), 8 * number)
        if self._is_packed:
            begin = int(self.pack_at[number])
            self._spill(spill, number, lone, begin + np.arange(len(lone)) * self.row)

    def _spill(self, spill: PlacedFile, unit: int, ids: Words, place: Words) -> None:
        notes = np.stack([ids, place], 1)
        done = 0
        for slab, count in enumerate(self.parts[:, unit].tolist()):
            if count:
                at = int(self.spill_at[slab * self.parts.shape[1] + unit])
                spill.write(np.ascontiguousarray(notes[done : done + count]), at)
                done += count

    # --- the sweep over the table ---

    def _move_rows(self) -> None:
        cached = sum(self.cache)
        self.cache_file = self.desk.open(CACHE, padded(cached * self.row))
        self.packs = self.desk.open(PACKS, self.packs_end) if self._is_packed else None
        file = DirectFile(self.wish.features.file.path, engine=self.engine)
        border = 2 * self.wish.features.file.block + 8192
        array = self.wish.features.file.array
        done = {line["slab"] for line in self.desk.done("slab")}
        todo = [slab for slab in range(self.slabs) if slab not in done]
        buffer = room(min(self.slab_rows * array.stride + border, array.bytes + 8192))
        for number, slab in enumerate(todo):
            self._move_slab(file, slab, buffer)
            self.show("packing", len(done) + number + 1, self.slabs)
        file.close()

    def _move_slab(self, file: DirectFile, slab: int, buffer: Bytes) -> None:
        array = self.wish.features.file.array
        low = slab * self.slab_rows
        high = min(low + self.slab_rows, self.num_nodes)
        hot = np.flatnonzero(self.places[low:high] >= 0)
        batches = self.wish.num_batches
        sums = np.zeros(batches + 2, dtype=np.int64)
        error = 0.0
        if len(hot) or bool(self.parts[slab].any()):
            rows = self._read_slab(file, low, high, buffer, array.stride)
            error = max(self._write_cache(rows, low, hot, slab, sums), error)
            error = max(self._write_packs(rows, low, slab, sums), error)
        self.sums.write(sums, 8 * (batches + slab * (batches + 2)))
        for one in (self.cache_file, self.packs, self.sums):
            if one is not None:
                one.sync()
        self.desk.note("slab", slab=slab, error=error)

    def _read_slab(
        self, file: DirectFile, low: int, high: int, buffer: Bytes, stride: int
    ) -> Tensor:
        """The rows from ``low`` to ``high``, every block held against its checksum."""
        features = self.wish.features.file
        array, block = features.array, features.block
        begin = low * stride // block * block
        end = min(-(-high * stride // block) * block, array.bytes)
        data = file.read_bytes(begin, end - begin, buffer)
        for number in range(begin // block, -(-end // block)):
            part = data[number * block - begin : min((number + 1) * block, end) - begin]
            features.check(number, memoryview(cast(Any, part)))
        dtype = array.torch_dtype
        flat = torch.from_numpy(data[low * stride - begin :])  # pyright: ignore[reportUnknownMemberType]
        flat = flat[: len(flat) // dtype.itemsize * dtype.itemsize].view(dtype)
        width = array.row_bytes // dtype.itemsize
        return flat.as_strided((high - low, width), (stride // dtype.itemsize, 1))

    def _write_cache(self, rows: Tensor, low: int, hot: Words, slab: int, sums: Words) -> float:
        error = 0.0
        place = self.places[low + hot]
        for part in range(2):
            mine = (place >= self.cache[0]) == bool(part)
            ids, first = hot[mine], place[mine]
            state = xxhash.xxh3_64(f"{CACHE}:{part * self.slabs + slab}:0:".encode())
            for start in range(0, len(ids), self.chunk):
                some = ids[start : start + self.chunk]
                data, worst = self._rows(rows, some)
                error = max(error, worst)
                state.update(data)
                # in the order of their ids they stand together
                self.cache_file.write(data, int(first[start]) * self.row)
            sums[self.wish.num_batches + part] = signed(state.intdigest())
        return error

    def _write_packs(self, rows: Tensor, low: int, slab: int, sums: Words) -> float:
        if self.packs is None:
            return 0.0
        batches, error = self.wish.num_batches, 0.0
        for unit in np.flatnonzero(self.parts[slab]).tolist():
            count = int(self.parts[slab, unit])
            at = int(self.spill_at[slab * self.parts.shape[1] + unit])
            state = xxhash.xxh3_64(f"{PACKS}:{unit}:{slab}:".encode())
            for start in range(0, count, self.chunk):
                some = min(self.chunk, count - start)
                notes = self.spill.read(at + _NOTE * start, 2 * some, np.int64).reshape(some, 2)
                data, worst = self._rows(rows, notes[:, 0] - low)
                error = max(error, worst)
                if unit < batches:
                    state.update(data)
                    self.packs.write(data, int(notes[0, 1]))
                else:
                    self._write_shared(data, notes[:, 1])
            if unit < batches:
                sums[unit] = signed(state.intdigest())
        return error

    def _write_shared(self, data: Any, place: Words) -> None:
        """Rows to their places, each with its checksum behind it."""
        assert self.packs is not None
        raw: Any = cast(Any, np.frombuffer(data, np.uint8)).reshape(len(place), self.row)
        order = np.argsort(place, kind="stable")
        place = place[order]
        stride = self.row + ROW_SUM
        whole: Any = np.empty((len(place), stride), dtype=np.uint8)
        whole[:, : self.row] = raw[order]
        sums: Any = row_sums(np.ascontiguousarray(whole[:, : self.row]), place)
        whole[:, self.row :] = sums[:, None].view(np.uint8)
        heads = np.flatnonzero(np.diff(place) != stride) + 1
        ends = [*heads.tolist(), len(place)]
        for start, end in zip([0, *heads.tolist()], ends, strict=True):
            self.packs.write(whole[start:end], int(place[start]))

    def _rows(self, rows: Tensor, index: Words) -> tuple[Any, float]:
        """Rows as they are written, and by how much the widest of them was changed."""
        found = take_rows(rows, torch.from_numpy(np.ascontiguousarray(index)))  # pyright: ignore[reportUnknownMemberType]
        error = 0.0
        if found.dtype != self.wish.dtype:
            narrow = found.to(self.wish.dtype)
            if found.numel():
                apart = (narrow.to(found.dtype) - found).abs()
                # infinities that were there before are no error, and nor is NaN
                error = float(torch.where(narrow == found, 0, apart).nan_to_num(0, 1e999).max())
            if error == float("inf"):
                name = str(self.wish.dtype).removeprefix("torch.")
                raise errors.DataError(
                    f"{self.wish.features.file.path} holds values beyond the range of {name}. Pack "
                    "in bfloat16, or as they are."
                )
            found = narrow
        return memoryview(
            cast(Any, found.contiguous().view(torch.uint8).reshape(-1).numpy())
        ), error

    # --- the end ---

    def _finish(self) -> None:
        wish, batches, slabs = self.wish, self.wish.num_batches, self.slabs
        sums = self.sums.read(0, batches + slabs * (batches + 2), np.int64)
        of_slabs = sums[batches:].reshape(slabs, batches + 2)
        ends: Any = np.zeros((batches, 0))
        if self._is_packed:
            ends = cast(Any, np.cumsum(self.parts[:, :batches], 0)).T
        hops = wish.hops
        samples_at = np.append(self.samples.table[:, 0], self.samples.end)
        tables: dict[str, Any] = {
            "samples_at": samples_at,
            "samples_sum": self.samples.table[:, 1],
            "ids_sum": self.samples.table[:, 2],
            "nodes": self.samples.table[:, 3 : 4 + hops],
            "edges": self.samples.table[:, 4 + hops :],
            "index_at": self.index_at,
            "index_sum": sums[:batches],
            "cache_ends": self._cache_ends(),
            "cache_sums": of_slabs[:, batches:].T.ravel(),
            "pack_at": self.pack_at[:-1],
            "pack_rows": self.pack_rows,
            "pack_ends": ends,
            "pack_sums": of_slabs[:, :batches].T if self._is_packed else ends,
            "segment_at": self.shared_at[:-1] if self.way == "segments" else self.shared_rows,
            "segment_rows": self.shared_rows,
        }
        whole = {
            name: torch.from_numpy(np.ascontiguousarray(table, dtype=np.int64))  # pyright: ignore[reportUnknownMemberType]
            for name, table in tables.items()
        }
        with self.desk.writing():
            save_tensors(self.folder / TABLES, whole, {})
        array = wish.features.file.array
        files = [SAMPLES, INDEX, CACHE, *([PACKS] if self._is_packed else [])]
        errors_of = [line["error"] for line in self.desk.done("slab")]
        cost: Cost = self.demand.cost[self.way]
        layout = Layout(
            writer=wish.writer,
            recipe=self.recipe,
            features=array,
            source=Path(os.path.relpath(wish.features.file.path.parent, self.path)).as_posix(),
            way=self.way,
            dtype=str(wish.dtype).removeprefix("torch."),
            num_batches=batches,
            has_edge_ids=wish.has_edge_ids,
            wide_ids=self.wide_ids,
            cache=self.cache,
            segment=self.demand.segment if self.way == "segments" else 0,
            room=cost.room,
            files={name: (self.folder / name).stat().st_size for name in files},
            tables=digest(whole),
            about={
                "requested": self.demand.requested,
                "cold": int(self.demand.cold.sum()),
                "epoch_bytes": cost.bytes,
                "epoch_reads": cost.reads,
                "largest_error": max(errors_of, default=0.0),
            },
        )
        self.desk.sync()
        with self.desk.writing():
            write_record(self.folder / STORE, layout, FORMAT, VERSION)

    def _cache_ends(self) -> Words:
        """Rows of the cache up to the end of each slab: the device's part, then the memory's."""
        counts = np.zeros((2, self.slabs), dtype=np.int64)
        for slab in range(self.slabs):
            place = self.places[slab * self.slab_rows : (slab + 1) * self.slab_rows]
            counts[0, slab] = ((place >= 0) & (place < self.cache[0])).sum()
            counts[1, slab] = (place >= self.cache[0]).sum()
        return np.cumsum(counts.ravel())


def _pages(nbytes: Words) -> Words:
    return -(-nbytes // PAGE) * PAGE


def _per_slab(ids: Words, edges: Words) -> Words:
    """How many of the rising ``ids`` lie in each slab."""
    at = np.searchsorted(ids, edges)
    return np.diff(np.concatenate([[0], at, [len(ids)]]))
