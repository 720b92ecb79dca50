"""What lies in a store's folder: ``store.json``, data files, and checksums of their blocks.

A data file holds rows one after the other, each at a multiple of its stride, and ends at a
multiple of :data:`PAGE`, so that direct reads need no special case at its end. Beside ``x.bin``
lies ``x.bin.xxh3``: for every block of ``block`` bytes its checksum (xxh3, 64 bits, little endian).
A block's checksum begins with the file's name and the block's number, so that blocks that changed
places are found. ``store.json`` holds the checksum of each such list and one of itself: it says
what every byte of the store is, is the same whenever and by however many threads the store was
written, and its :func:`digest_of` names the store's content. Times of files are not kept: a copy is
as good as what was copied.
"""

# pyright: strict

from __future__ import annotations

import dataclasses
import json
import os
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import xxhash

from ..errors import StoreError
from .files import atomic

STORE, FORMAT, VERSION = "store.json", "graphkit store", 1
BLOCK, PAGE = 1 << 20, 4096
SUMS = ".xxh3"

ONE_TYPE = "node"
ONE_RELATION = ("node", "to", "node")

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}

Record = TypeVar("Record")


@dataclass(frozen=True)
class Array:
    """A data file: rows of ``dtype`` and ``shape[1:]``, the first of ``shape[0]`` at byte 0.

    ``stride``: bytes from one row to the next. ``bytes``: the length of the file. ``sums``: the
    checksum (xxh3, 64 bits, hexadecimal) of the list of its blocks' checksums.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]
    stride: int
    bytes: int
    sums: str

    @property
    def torch_dtype(self) -> torch.dtype:
        return _DTYPES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, without what fills it up to the stride."""
        return row_bytes(self.torch_dtype, self.shape)


@dataclass(frozen=True)
class Nodes:
    """The nodes of one type, and tables with a row for each."""

    count: int
    columns: dict[str, Array] = field(default_factory=dict[str, Array])


@dataclass(frozen=True)
class Edges:
    """The edges of one relation, by destination, and tables in the order of their numbers.

    ``indptr [num_dst + 1]`` int64, ``indices [E]``: the sources, ``eid [E]``: the number of each
    slot's edge, None where slots are in that order. As in :class:`graphkit.Csr`.
    """

    source: str
    relation: str
    target: str
    count: int
    indptr: Array
    indices: Array
    eid: Array | None = None
    columns: dict[str, Array] = field(default_factory=dict[str, Array])

    @property
    def name(self) -> tuple[str, str, str]:
        return self.source, self.relation, self.target


@dataclass(frozen=True)
class Layout:
    """The content of ``store.json``.

    ``splits``: ids of nodes by name of the split, part and type of nodes. A graph without types has
    the one type ``node`` and the relation ``node``, ``to``, ``node``. ``about``: what JSON holds
    besides, such as the name of the data set.
    """

    writer: str
    block: int
    is_hetero: bool
    nodes: dict[str, Nodes]
    edges: tuple[Edges, ...]
    splits: dict[str, dict[str, dict[str, Array]]]
    about: dict[str, Any]

    def arrays(self) -> dict[str, Array]:
        """All data files by their names."""
        found = [a for nodes in self.nodes.values() for a in nodes.columns.values()]
        for edges in self.edges:
            found += [edges.indptr, edges.indices, *edges.columns.values()]
            found += [] if edges.eid is None else [edges.eid]
        for parts in self.splits.values():
            found += [a for of_types in parts.values() for a in of_types.values()]
        return {array.file: array for array in found}


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype in ``store.json``; :class:`StoreError` for one that no store holds."""
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise StoreError(f"A store holds no {name}, but {', '.join(_DTYPES)}. Convert it.")
    return name


def row_bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    count = dtype.itemsize
    for size in shape[1:]:
        count *= size
    return count


def padded(nbytes: int) -> int:
    """The length of a file with ``nbytes`` of content."""
    return -(-nbytes // PAGE) * PAGE


def block_sum(file: str, number: int, data: Any) -> int:
    """The checksum of block ``number`` of the file called ``file``."""
    state = xxhash.xxh3_64(f"{file}:{number}:".encode())
    state.update(data)
    return state.intdigest()


def sums_digest(data: bytes) -> str:
    """The checksum of a list of checksums."""
    return xxhash.xxh3_64(data).hexdigest()


def write_layout(path: Path, layout: Layout) -> None:
    """Write ``store.json`` to ``path``, whole or not at all."""
    write_record(path, layout, FORMAT, VERSION)


def read_layout(path: Path) -> Layout:
    """The content of the ``store.json`` at ``path``.

    Raises:
        StoreError: there is none, it is damaged, of a version or byte order that is not read here,
            or a field is missing, of a wrong type, or does not go with another; it is named.
    """
    layout = read_record(path, Layout, FORMAT, VERSION)
    _check(path, layout)
    return layout


def write_record(path: Path, record: Any, format: str, version: int) -> None:
    """Write a dataclass to ``path`` as JSON that carries its checksum, whole or not at all."""
    head = {"format": format, "version": version, "endian": sys.byteorder}
    with atomic(path) as side:
        side.write_text(_sealed(head | _plain(record)), encoding="utf-8")


def read_record(path: Path, kind: type[Record], format: str, version: int) -> Record:
    """The dataclass that :func:`write_record` wrote; :class:`StoreError` as :func:`read_layout`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(
            f"{path.parent} is not a finished {format}: it has no {path.name}, which is written "
            "last. Check the path, or write it again."
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        content: Any = json.loads(data.decode("utf-8"))
        known = content["format"], content["version"], content["endian"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{path} is damaged or was not written by graphkit ({type(error).__name__}: {error}). "
            "Restore it, or write the store again."
        ) from error
    for name, found, expected in zip(
        ("format", "version", "endian"), known, (format, version, sys.byteorder), strict=True
    ):
        if found != expected:
            raise StoreError(
                f"{path}: {name} is {found!r}, but this graphkit reads {expected!r}. Read it with "
                "the graphkit that wrote it, or write it again."
            )
    seal = content.pop("xxh3_128", None)
    if data != _sealed(content).encode():
        raise StoreError(
            f"{path} is damaged: its content does not have the checksum {seal!r} that was written "
            "with it (field xxh3_128). Restore it, or write the store again."
        )
    for name in ("format", "version", "endian"):
        del content[name]
    return _read(kind, content, path, "")


def digest_of(path: Path) -> str:
    """The checksum (xxh3, 128 bits) of a file that :func:`write_record` wrote."""
    return xxhash.xxh3_128(path.read_bytes()).hexdigest()


def _sealed(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    seal = xxhash.xxh3_128(text.encode()).hexdigest()
    return json.dumps({**content, "xxh3_128": seal}, indent=1, sort_keys=True) + "\n"


def _plain(record: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(record)))


def _read(kind: Any, value: Any, path: Path, where: str) -> Any:
    """``value`` as JSON gave it, as the type ``kind``: a dataclass, or what its fields are."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is types.UnionType:
        return None if value is None else _read(args[0], value, path, where)
    if dataclasses.is_dataclass(kind):
        _expect(isinstance(value, dict), path, where, "an object", value)
        hints = typing.get_type_hints(cast(Any, kind))
        strange = sorted(value.keys() - hints.keys())
        missing = sorted(hints.keys() - value.keys())
        if strange or missing:
            name = f"{where}.{(missing or strange)[0]}".lstrip(".")
            raise StoreError(
                f"{path}: the field {name!r} is {'missing' if missing else 'unknown'}. Restore the "
                "file, or write the store again."
            )
        return cast(Any, kind)(
            **{
                name: _read(hint, value[name], path, f"{where}.{name}".lstrip("."))
                for name, hint in hints.items()
            }
        )
    if origin is dict:
        _expect(isinstance(value, dict), path, where, "an object", value)
        return {
            name: _read(args[1], inner, path, f"{where}.{name}") for name, inner in value.items()
        }
    if origin is tuple:
        _expect(isinstance(value, list), path, where, "a list", value)
        return tuple(
            _read(args[0], inner, path, f"{where}[{at}]") for at, inner in enumerate(value)
        )
    wanted = {int: "a whole number from 0 on", str: "a text", bool: "true or false"}
    fits = type(value) is kind and not (kind is int and value < 0)
    _expect(fits, path, where, wanted[kind], value)
    return value


def _expect(fits: bool, path: Path, field: str, expected: str, found: Any) -> None:
    if not fits:
        raise StoreError(
            f"{path}: {field} is {found!r}, but {expected} is expected. Restore the file, or write "
            "the store again."
        )


def _check(path: Path, layout: Layout) -> None:
    """Fields that must go together."""
    _expect(layout.block >= PAGE, path, "block", f"at least {PAGE}", layout.block)
    for file, array in layout.arrays().items():
        plain = file == os.path.basename(file) and file not in ("", ".", "..") and "\\" not in file
        _expect(plain, path, "file", "the name of a file in the store", file)
        _expect(array.dtype in _DTYPES, path, f"{file}: dtype", ", ".join(_DTYPES), array.dtype)
        _expect(len(array.shape) > 0, path, f"{file}: shape", "rows", array.shape)
        size, least = array.torch_dtype.itemsize, array.row_bytes
        fits = array.stride >= least and array.stride % size == 0
        _expect(fits, path, f"{file}: stride", f"{least} or more", array.stride)
        length = padded(array.shape[0] * array.stride)
        _expect(array.bytes == length, path, f"{file}: bytes", str(length), array.bytes)
    for kind, nodes in layout.nodes.items():
        for name, array in nodes.columns.items():
            where = f"nodes.{kind}.columns.{name}.shape"
            _expect(array.shape[0] == nodes.count, path, where, f"{nodes.count} rows", array.shape)
    for at, edges in enumerate(layout.edges):
        where = f"edges[{at}]"
        for end in (edges.source, edges.target):
            _expect(end in layout.nodes, path, where, "types of nodes that are there", end)
        rows = {"indptr": (edges.indptr, layout.nodes[edges.target].count + 1)}
        rows |= {"indices": (edges.indices, edges.count)}
        rows |= {} if edges.eid is None else {"eid": (edges.eid, edges.count)}
        for name, (array, count) in rows.items():
            kinds = ("int64",) if name == "indptr" else ("int64", "int32")
            place = f"{where}.{name}"
            _expect(array.shape == (count,), path, f"{place}.shape", f"[{count}]", array.shape)
            _expect(array.dtype in kinds, path, f"{place}.dtype", " or ".join(kinds), array.dtype)
        for name, array in edges.columns.items():
            place = f"{where}.columns.{name}.shape"
            _expect(array.shape[0] == edges.count, path, place, f"{edges.count} rows", array.shape)
