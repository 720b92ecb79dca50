"""What lies in a folder of packs, and reading it: stored batches, and the rows that they need.

``samples.bin`` holds the sampled neighbourhood of each batch, ``index.bin`` where each of its rows
is found, ``cache.bin`` the rows that stay in memory, ``packs.bin`` those of one batch after the
other, each part at a multiple of a page. ``tables.safetensors`` holds offsets, counts and
checksums of all parts and carries its own; ``store.json`` is written last.

A batch's rows are numbered: those below ``cache`` lie in the cache, in the order of their ids;
those from there on in the batch's pack, in the order of theirs; and those after its pack in the
rows that the batches of a segment share.
"""

# pyright: strict

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from ..errors import StoreError
from .direct import PAGE
from .engines import Bytes, Words
from .layout import STORE, Array, read_record
from .sealed import digest, load_tensors

FORMAT, VERSION = "graphkit packs", 1
SAMPLES, INDEX, CACHE, PACKS, TABLES = (
    "samples.bin", "index.bin", "cache.bin", "packs.bin", "tables.safetensors",
)  # fmt: skip
Way = Literal["rows", "blocks", "packs", "segments"]
WAYS = ("rows", "blocks", "packs", "segments")
# of a row that several batches share, behind its bytes
ROW_SUM = 8
# blocks of the features that are looked at when packs are opened
_PROBES = 16


@dataclass(frozen=True)
class Layout:
    """The content of ``store.json``.

    ``recipe``: all that the content is a function of. ``features``: the table, as its store
    describes it, and ``source`` its folder, relative to this one. ``way``: how rows that are in no
    cache are read. ``dtype``: of the rows here. ``cache``: rows in the device's cache, and in that
    of the memory. ``segment``: batches that share rows. ``room``: bytes that the rows of one batch
    need while they are read. ``files``: lengths. ``tables``: checksum of the tables. ``about``:
    predictions and what was measured.
    """

    writer: str
    recipe: dict[str, Any]
    features: Array
    source: str
    way: str
    dtype: str
    num_batches: int
    has_edge_ids: bool
    wide_ids: bool
    cache: tuple[int, ...]
    segment: int
    room: int
    files: dict[str, int]
    tables: str
    about: dict[str, Any]


class Record(NamedTuple):
    """A sampled neighbourhood: local columns of its edges by destination, and its nodes' ids.

    ``nodes``, ``edges``: how many each hop brought, the seeds first.
    """

    n_id: Words
    indptr: Words
    indices: NDArray[np.int32]
    e_id: Words | None
    nodes: Words
    edges: Words


def padded(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE


def part_sum(file: str, number: int, data: Any, part: int = 0) -> int:
    """The checksum of a part of a file, which knows its place, as an int64."""
    state = xxhash.xxh3_64(f"{file}:{number}:{part}:".encode())
    state.update(data)
    return signed(state.intdigest())


def signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


_STEP = 0x9E3779B97F4A7C15


def row_sums(rows: Bytes, place: Words) -> NDArray[np.uint64]:
    """A checksum of each row of ``rows [n, bytes]`` at ``place [n]``: linear, with odd factors."""
    width = -(-rows.shape[1] // 8)
    if rows.shape[1] % 8 or not rows.flags.c_contiguous:
        whole = np.zeros((len(rows), 8 * width), dtype=np.uint8)
        whole[:, : rows.shape[1]] = rows
        rows = whole
    factors = _mixed(np.arange(width, dtype=np.uint64)) | np.uint64(1)
    words: Any = cast(Any, rows).view(np.uint64)
    sums: Any = words @ factors
    return _mixed(sums + _mixed(place.astype(np.uint64)))


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # splitmix64, as in ops/random.py
    z = (words + np.uint64(1)) * np.uint64(_STEP)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def written(record: Record, wide_ids: bool) -> bytes:
    """A record as it lies in the file, filled up to a page."""
    kind = np.int64 if wide_ids else np.int32
    parts = [record.n_id.astype(kind), record.indptr.astype(np.int32), record.indices]
    parts += [] if record.e_id is None else [record.e_id]
    data = b"".join(_filled(part.tobytes(), 8) for part in parts)
    return _filled(data, PAGE)


def _filled(data: bytes, step: int) -> bytes:
    return data + bytes(-len(data) % step)


def unwritten(
    data: Bytes, nodes: Words, edges: Words, wide_ids: bool, has_edge_ids: bool
) -> Record:
    """The record that :func:`written` wrote."""
    n, e = int(nodes.sum()), int(edges.sum())
    # nodes of the last hop drew nothing
    rows = n - int(nodes[-1])
    at = 0

    def take(kind: Any, count: int) -> Any:
        nonlocal at
        part: Any = cast(Any, data[at : at + count * np.dtype(kind).itemsize]).view(kind)
        at += -(-part.nbytes // 8) * 8
        return part

    n_id = take(np.int64 if wide_ids else np.int32, n)
    indptr, indices = take(np.int32, rows + 1), take(np.int32, e)
    e_id = take(np.int64, e) if has_edge_ids else None
    return Record(n_id, indptr, indices, e_id, nodes, edges)


def row_ranges(ids: Words, stride: int, row: int, size: int) -> tuple[Words, Words]:
    """The pages that each row of a file covers."""
    begin = ids * stride // PAGE * PAGE
    end = np.minimum(-(-(ids * stride + row) // PAGE) * PAGE, padded(size))
    return begin, end


def block_ranges(first: Words, row: int, size: int) -> tuple[Words, Words]:
    """The pages that rows at the rising bytes ``first`` cover, each once, neighbours together."""
    begin = first // PAGE
    end = np.minimum(-(-(first + row) // PAGE), padded(size) // PAGE)
    if len(begin) == 0:
        return begin, end
    # where a row begins beyond all that the rows before it cover
    heads = np.concatenate([[True], begin[1:] > end[:-1]])
    last = np.append(np.flatnonzero(heads)[1:] - 1, len(begin) - 1)
    return begin[heads] * PAGE, end[last] * PAGE


@dataclass(frozen=True)
class Stored:
    """The parts of a folder of packs that are small: its description and its tables."""

    path: Path
    layout: Layout
    tables: dict[str, Tensor]

    @property
    def hops(self) -> int:
        return self.tables["edges"].size(1)


def open_stored(path: str | os.PathLike[str]) -> Stored:
    """The description of the packs in the folder ``path``, checked.

    Raises:
        StoreError: there are no finished packs, they are of another version, or a file is not what
            was written; the message names the file or the field.
    """
    path = Path(path)
    layout = read_record(path / STORE, Layout, FORMAT, VERSION)
    for file, length in layout.files.items():
        try:
            found = (path / file).stat().st_size
        except OSError as error:
            raise StoreError(
                f"{path / file} cannot be read: {error.strerror}. Restore it, or pack again."
            ) from error
        if found != length:
            raise StoreError(
                f"{path / file} has {found} bytes, but {STORE} says {length}. It was cut short or "
                "replaced: restore it, or pack again."
            )
    tables, _ = load_tensors(path / TABLES)
    if digest(tables) != layout.tables:
        raise StoreError(
            f"{path / TABLES} does not belong to {STORE}. Restore both, or pack again."
        )
    return Stored(path, layout, tables)


def ids_sum(ids: Words) -> int:
    """The checksum of the ids of a batch's nodes."""
    return signed(xxhash.xxh3_64_intdigest(memoryview(cast(Any, np.ascontiguousarray(ids)))))
