"""Reading a store: rows by their numbers, graphs over mapped files, and the check of every block.

Nothing here writes. A file that is shorter than ``store.json`` says, or whose list of checksums is
another, is refused when the store is opened; a block is held against its checksum before the first
of its bytes is handed out.
"""

# pyright: strict

from __future__ import annotations

import mmap
import os
import warnings
import weakref
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, StoreError, nearest
from ..graph import Csr, Graph
from ..ops import take_rows
from ..ops.rows import check_rows_index
from .files import read_into
from .layout import (
    ONE_RELATION,
    ONE_TYPE,
    STORE,
    SUMS,
    Array,
    Edges,
    Layout,
    Nodes,
    block_sum,
    digest_of,
    read_layout,
    sums_digest,
)

Access = Literal["map", "read"]
ACCESS = ("map", "read")

# blocks looked at when a store is opened, beside the first and the last of every file
_PROBES = 2


class DataFile:
    """A data file of a store and what is known of its blocks.

    Raises :class:`StoreError` if it or its list of checksums is not what ``store.json`` says.
    """

    def __init__(self, folder: Path, array: Array, block: int) -> None:
        self.path, self.array, self.block = folder / array.file, array, block
        self.num_blocks = -(-array.bytes // block)
        self._sums = self._read_sums(folder / f"{array.file}{SUMS}")
        self.handle = _open(self.path)
        weakref.finalize(self, os.close, self.handle)
        length = os.fstat(self.handle).st_size
        if length != array.bytes:
            raise StoreError(
                f"{self.path} has {length} bytes, but {STORE} says {array.bytes}. It was cut short "
                "or replaced: restore it, or write the store again."
            )
        self._verified = np.zeros(self.num_blocks, bool)
        self._is_verified = self.num_blocks == 0

    def verify(self, numbers: Iterable[int] | None = None) -> None:
        """Hold blocks (all of them, if none are named) against their checksums, each once.

        Raises:
            StoreError: one has another; the message names the file, the block and its place.
        """
        if self._is_verified:
            return
        todo = range(self.num_blocks) if numbers is None else numbers
        room = memoryview(bytearray(min(self.block, self.array.bytes)))
        for number in todo:
            if not self._verified[number]:
                start = number * self.block
                view = room[: min(self.block, self.array.bytes - start)]
                self.read(view, start)
                self.check(number, view)
                # threads that verify the same block write the same
                self._verified[number] = True
        self._is_verified = bool(self._verified.all())

    def check(self, number: int, data: Any) -> None:
        """Hold the bytes ``data`` of a block that somebody read against its checksum.

        Raises:
            StoreError: it is another; the message names the file, the block and its place.
        """
        if block_sum(self.array.file, number, data) != int(self._sums[number]):
            start = number * self.block
            raise StoreError(
                f"{self.path}, block {number} (bytes {start} to {start + len(data) - 1}): "
                "its content does not have the checksum that was written with it. It was "
                "changed or damaged: restore the file, or write the store again."
            )

    def verify_rows(self, index: Tensor) -> None:
        """As :meth:`verify`, the blocks of the rows ``index``."""
        if self._is_verified or index.numel() == 0 or self.array.row_bytes == 0:
            return
        first = index.to(torch.int64) * self.array.stride
        last = (first + self.array.row_bytes - 1).div_(self.block, rounding_mode="floor")
        first = first.div_(self.block, rounding_mode="floor")
        touched = np.zeros(self.num_blocks, bool)
        for step in range(int((last - first).max()) + 1):
            touched[torch.minimum(first + step, last).numpy()] = True
        self.verify(np.flatnonzero(touched & ~self._verified).tolist())

    def read(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` from ``offset`` on; nothing is verified."""
        read_into(self.handle, view, offset, self.path)

    def mapped(self) -> Tensor:
        """The rows, mapped from the file: read-only, and nothing is verified."""
        if self.array.bytes == 0:
            return self.typed(torch.empty(0, dtype=torch.uint8))
        pages = mmap.mmap(self.handle, self.array.bytes, access=mmap.ACCESS_READ)
        if hasattr(pages, "madvise"):
            # rows are wanted, not what lies around them
            pages.madvise(mmap.MADV_RANDOM)
        with warnings.catch_warnings():
            # torch warns that such memory must not be written to
            warnings.simplefilter("ignore", UserWarning)
            flat = torch.frombuffer(pages, dtype=torch.uint8)
        return self.typed(flat)

    def typed(self, flat: Tensor, count: int | None = None) -> Tensor:
        """``count`` rows, all of them if None, that begin at the first of the bytes ``flat``."""
        array = self.array
        shape = (array.shape[0] if count is None else count, *array.shape[1:])
        size = array.torch_dtype.itemsize
        if 0 in shape or flat.numel() == 0:
            return torch.empty(shape, dtype=array.torch_dtype)
        steps = [1]
        for width in reversed(shape[2:]):
            steps.insert(0, steps[0] * width)
        strides = (array.stride // size, *steps[: len(shape) - 1])
        return flat[: len(flat) // size * size].view(array.torch_dtype).as_strided(shape, strides)

    def _read_sums(self, path: Path) -> np.ndarray[Any, Any]:
        handle = _open(path)
        try:
            length, expected = os.fstat(handle).st_size, 8 * self.num_blocks
            if length != expected:
                raise StoreError(
                    f"{path} has {length} bytes, but checksums of {self.num_blocks} blocks take "
                    f"{expected}. Restore it, or write the store again."
                )
            data = bytearray(length)
            read_into(handle, memoryview(data), 0, path)
        finally:
            os.close(handle)
        if sums_digest(bytes(data)) != self.array.sums:
            raise StoreError(
                f"{path}: these are not the checksums that were written with {STORE}. Restore it, "
                "or write the store again."
            )
        return np.frombuffer(data, "<u8")


class FeatureFile:
    """A table of a store: a source of rows for :func:`graphkit.data.stages.fetch`.

    ``access``: ``"map"`` reads rows out of the mapped file, ``"read"`` by system calls, one for
    neighbours that stand together, so that an error of the disk is a :class:`StoreError` where a
    mapping would end the process. ``verify``: hold a block against its checksum before the first of
    its rows is handed out, by which every block is read once as a whole. It may be pickled, and is
    then opened again.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        array: Array,
        block: int,
        access: Access = "map",
        verify: bool = True,
    ) -> None:
        if access not in ACCESS:
            raise ConfigError(f"FeatureFile: unknown access {access!r}. {nearest(access, ACCESS)}")
        self.file, self.access, self.verify = DataFile(Path(folder), array, block), access, verify
        self._args = os.fspath(folder), array, block, access, verify
        self._table = self.file.mapped() if access == "map" else None

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.file.array.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.file.array.torch_dtype

    def __len__(self) -> int:
        return self.file.array.shape[0]

    def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        """The rows ``index [n]`` (int64 or int32), in ``out`` where it is given.

        Raises:
            GraphError: ``index`` or ``out`` is of a wrong type or shape, or a number out of range.
            StoreError: the file cannot be read, or was changed or damaged.
        """
        check_rows_index(index, len(self), torch.device("cpu"), of=f"rows of {self.file.path.name}")
        if self.verify:
            self.file.verify_rows(index)
        if self._table is not None:
            return take_rows(self._table, index, out)
        unique = cast(Callable[..., tuple[Tensor, Tensor]], torch.unique)  # pyright: ignore[reportUnknownMemberType]
        wanted, places = unique(index.to(torch.int64), return_inverse=True)
        return take_rows(self._read(wanted), places, out)

    def span(self, start: int, stop: int) -> Tensor:
        """The rows from ``start`` up to ``stop``, read in one piece into memory of their own."""
        if not 0 <= start <= stop <= len(self):
            raise ConfigError(
                f"rows of {self.file.path.name}: {start} to {stop} are not a part of the "
                f"{len(self)} rows."
            )
        if self.verify:
            ends = [start * self.file.array.stride, stop * self.file.array.stride - 1]
            first, last = (end // self.file.block for end in ends)
            self.file.verify(range(first, last + 1))
        return self._read(torch.arange(start, stop))

    def _read(self, wanted: Tensor) -> Tensor:
        """The rows of distinct, rising numbers, with neighbours in one read."""
        stride = self.file.array.stride
        room = torch.empty(len(wanted) * stride, dtype=torch.uint8)
        view = memoryview(cast(Any, room.numpy()))
        breaks = (wanted.diff() != 1).nonzero().flatten() + 1
        ends = cast(list[int], [0, *breaks.tolist(), len(wanted)])  # pyright: ignore[reportUnknownMemberType]
        for start, stop in pairwise(ends):
            if start < stop:
                self.file.read(view[start * stride : stop * stride], int(wanted[start]) * stride)
        return self.file.typed(room, len(wanted))

    def __reduce__(self) -> tuple[Callable[..., FeatureFile], tuple[Any, ...]]:
        return FeatureFile, self._args

    def __repr__(self) -> str:
        shape = list(self.shape)
        return f"FeatureFile({self.file.path.name}, {shape}, {self.dtype}, {self.access!r})"


class Store:
    """A store that was opened; see :func:`open_store`.

    ``path``, ``layout`` (what ``store.json`` says) and ``digest``, the checksum that names all of
    its content.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise StoreError(
                f"{self.path} is not the folder of a store. Check the path, or write one with "
                "graphkit data store."
            )
        self.layout: Layout = read_layout(self.path / STORE)
        self.digest = digest_of(self.path / STORE)
        for array in self.layout.arrays().values():
            file = DataFile(self.path, array, self.layout.block)
            if (last := file.num_blocks - 1) >= 0:
                middle = [at * last // (_PROBES + 1) for at in range(1, _PROBES + 1)]
                file.verify(sorted({0, *middle, last}))

    @property
    def num_nodes(self) -> int | dict[str, int]:
        """The number of nodes; of each type where there are several."""
        counts = {kind: nodes.count for kind, nodes in self.layout.nodes.items()}
        return counts if self.layout.is_hetero else counts[ONE_TYPE]

    def column(
        self,
        name: str = "x",
        kind: str | None = None,
        *,
        access: Access = "map",
        verify: bool = True,
    ) -> FeatureFile:
        """The table ``name`` of the nodes, of the type ``kind`` where there are several."""
        nodes = self._nodes(kind)
        array = _pick("table", name, nodes.columns, self)
        return FeatureFile(self.path, array, self.layout.block, access, verify)

    def edge_column(
        self,
        name: str = "edge_attr",
        relation: tuple[str, str, str] | None = None,
        *,
        access: Access = "map",
        verify: bool = True,
    ) -> FeatureFile:
        """The table ``name`` of the edges, in the order of their numbers."""
        array = _pick("table of edges", name, self._edges(relation).columns, self)
        return FeatureFile(self.path, array, self.layout.block, access, verify)

    def graph(
        self, relation: tuple[str, str, str] | None = None, *, transpose: bool = False
    ) -> Graph:
        """The graph, or one relation of it, over the mapped files, which are verified first.

        Its tensors are read-only: who writes to them ends the process. ``transpose`` makes the
        other side in memory.
        """
        edges = self._edges(relation)
        num_src = self.layout.nodes[edges.source].count
        side = Csr(self._whole(edges.indptr), self._whole(edges.indices), self._eid(edges))
        if transpose:
            return Graph.from_csr(side.indptr, side.indices, side.eid, num_src=num_src)
        return Graph(side, None, side.num_rows, num_src)

    def graphs(self) -> dict[tuple[str, str, str], Graph]:
        """The graphs of all relations."""
        return {edges.name: self.graph(edges.name) for edges in self.layout.edges}

    def split(self, name: str | None = None) -> dict[str, Any]:
        """The ids of each part of a split (by type where there are several), int64 in memory.

        ``name`` may be left out where there is one split.
        """
        splits = self.layout.splits
        if name is None and len(splits) == 1:
            name = next(iter(splits))
        found: dict[str, Any] = {}
        for part, of_types in _pick("split", str(name), splits, self).items():
            ids = {kind: self._whole(array).clone() for kind, array in of_types.items()}
            found[part] = ids if self.layout.is_hetero else ids[ONE_TYPE]
        return found

    def verify(self, show: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Read all of the store, and hold every block against its checksum.

        ``show`` is told the bytes that are done and that there are.

        Raises:
            StoreError: a block was changed or damaged; the message names file and block.
        """
        arrays = self.layout.arrays().values()
        total, done = sum(array.bytes for array in arrays), 0
        for array in arrays:
            file = DataFile(self.path, array, self.layout.block)
            for number in range(file.num_blocks):
                file.verify([number])
                done += min(self.layout.block, array.bytes - number * self.layout.block)
                show(done, total)

    def _whole(self, array: Array) -> Tensor:
        file = DataFile(self.path, array, self.layout.block)
        file.verify()
        return file.mapped()

    def _eid(self, edges: Edges) -> Tensor | None:
        return None if edges.eid is None else self._whole(edges.eid)

    def _nodes(self, kind: str | None) -> Nodes:
        kind = str(self._one("type of nodes", kind, ONE_TYPE))
        return _pick("type of nodes", kind, self.layout.nodes, self)

    def _edges(self, relation: tuple[str, str, str] | None) -> Edges:
        relation = self._one("relation", relation, ONE_RELATION)
        known = {str(edges.name): edges for edges in self.layout.edges}
        return _pick("relation", str(relation), known, self)

    def _one(self, what: str, given: Any, only: Any) -> Any:
        """``given``, or the only one that there is."""
        if given is None and self.layout.is_hetero:
            raise ConfigError(f"{self.path} has several: name the {what}.")
        return only if given is None else given

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (os.fspath(self.path),)

    def __repr__(self) -> str:
        edges = sum(edges.count for edges in self.layout.edges)
        return f"Store({str(self.path)!r}, num_nodes={self.num_nodes}, num_edges={edges})"


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open the store in the folder ``path``, as :func:`graphkit.data.write_store` wrote it.

    Lengths of files, lists of checksums and some blocks of each file are checked at once, all
    others before they are used. Folders may be moved, renamed and read-only.

    Raises:
        StoreError: there is no finished store, it is of another version, or something in it is not
            what was written; the message names the file or the field.
    """
    return Store(path)


def _open(path: Path) -> int:
    if not hasattr(os, "preadv"):
        raise StoreError("Stores on disk are read by preadv, which this system does not have.")
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror or error}. Restore it, or write the store "
            "again."
        ) from error


def _pick(what: str, name: str, known: dict[str, Any], store: Store) -> Any:
    if name not in known:
        raise StoreError(f"{store.path} has no {what} {name!r}. {nearest(name, known)}")
    return known[name]
