"""Tables that are read in chunks: arrays, memory maps, npy files, iterators."""

# pyright: strict

from __future__ import annotations

import itertools
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError, StoreError

Read = Callable[[int], Iterator[Tensor]]

_UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_LEAST = 2**24
# numpy's that torch can do little with
_WIDER = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64}


@dataclass(frozen=True)
class Table:
    """Rows that come in chunks; of a table of edges the second dimension is what comes in chunks.

    ``count``: how many there are, None if that is known at the end only. ``width``: the shape of
    one. ``again``: may be read more than once. ``read(n)``: chunks of at most ``n`` of them.
    """

    label: str
    dtype: torch.dtype
    count: int | None
    width: tuple[int, ...]
    again: bool
    read: Read

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.width, dtype=np.int64))

    def chunks(self, nbytes: int) -> Iterator[Tensor]:
        """All rows, in chunks of about ``nbytes``, after a check of each chunk's shape and dtype.

        Raises :class:`DataError` for a chunk unlike the first, or another number of rows.
        """
        rows, axis = 0, self.axis
        for chunk in self.read(max(1, nbytes // max(1, self.row_bytes))):
            width = tuple(chunk.shape[:axis] + chunk.shape[axis + 1 :])
            if chunk.dtype != self.dtype or width != self.width:
                raise DataError(
                    f"{self.label}: the chunk at row {rows} is {chunk.dtype} with rows of "
                    f"{list(width)}, but the first is {self.dtype} with rows of "
                    f"{list(self.width)}. Give chunks of one dtype and width."
                )
            rows += chunk.size(axis)
            yield chunk
        if self.count is not None and rows != self.count:
            raise DataError(
                f"{self.label} has {rows} rows, but {self.count} are expected: one for each."
            )

    axis: int = 0


def table(label: str, given: Any, axis: int = 0, count: int | None = None) -> Table:
    """``given`` as a :class:`Table`: a tensor, an array, the path of an npy file, or an iterable of
    such chunks. ``count``: how many rows an iterable has, where that is known.

    Raises:
        StoreError: the file cannot be read.
        DataError: it is no npy file of numbers, or the first chunk is of no kind that is known.
    """
    if isinstance(given, Table):
        return given
    if isinstance(given, (str, os.PathLike)):
        return _npy(label, Path(cast(Any, given)), axis)
    if isinstance(given, np.memmap):
        return _of_array(label, cast(Any, given), axis, _forget(cast(Any, given)))
    if isinstance(given, (Tensor, np.ndarray)):
        return _of_array(label, cast(Any, given), axis, lambda: None)
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise DataError(
            f"{label} is a {type(given).__name__}, but a tensor, an array, the path of an npy file "  # pyright: ignore[reportUnknownArgumentType]
            "or an iterable of chunks is expected."
        )
    return _of_chunks(label, cast(Iterable[Any], given), axis, count)


def parse_bytes(text: str | int, label: str = "memory", least: int = _LEAST) -> int:
    """Bytes of ``text``, such as ``"1GB"`` (2**30), ``"512MB"`` or a number.

    Raises :class:`ConfigError` for anything else, and for less than ``least``, 16 MB.
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(text))
    unit = found[2].upper().replace("IB", "B") if found else ""
    if found is None or unit not in _UNITS:
        raise ConfigError(f"{label} is {text!r}, but bytes such as 512MB or 4GB are expected.")
    nbytes = int(float(found[1]) * _UNITS[unit])
    if nbytes < least:
        raise ConfigError(f"{label} is {text!r}, but {least >> 20}MB at least are needed.")
    return nbytes


def as_tensor(label: str, chunk: Any) -> Tensor:
    """A chunk as a dense tensor in the memory of the host."""
    if isinstance(chunk, Tensor):
        if chunk.layout != torch.strided:
            raise DataError(f"{label} has layout {chunk.layout}. Pass dense tensors.")
        return chunk.detach().cpu()
    array: Any = np.asarray(chunk)
    if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8 or array.dtype == np.uint64:
        raise DataError(
            f"{label} is {array.dtype}, but numbers of at most 64 bits are expected. Encode them."
        )
    native = _WIDER.get(array.dtype.newbyteorder("="), array.dtype.newbyteorder("="))
    # writable and in one piece, as torch wants it
    return torch.from_numpy(np.array(array, dtype=native, order="C"))  # pyright: ignore[reportUnknownMemberType]


def _of_array(label: str, given: Any, axis: int, forget: Callable[[], None]) -> Table:
    if given.ndim <= axis:
        raise DataError(
            f"{label} has shape {list(given.shape)}, but {axis + 1} dimensions at least are "
            "expected."
        )
    count = given.shape[axis]

    def read(step: int) -> Iterator[Tensor]:
        for start in range(0, count, step):
            place = (slice(None),) * axis + (slice(start, min(start + step, count)),)
            yield as_tensor(label, given[place])
            forget()

    none = as_tensor(label, given[(slice(None),) * axis + (slice(0, 0),)])
    width = tuple(given.shape[:axis]) + tuple(given.shape[axis + 1 :])
    return Table(label, none.dtype, count, width, True, read, axis)


def _forget(given: Any) -> Callable[[], None]:
    """What lets go of the pages of a memory map, which else count as this process's memory."""
    pages: Any = getattr(given, "_mmap", None)
    # the changes of a private map would be lost
    if given.mode == "c" or not hasattr(pages, "madvise") or not hasattr(mmap, "MADV_DONTNEED"):
        return lambda: None
    return lambda: pages.madvise(mmap.MADV_DONTNEED)


def _npy(label: str, path: Path, axis: int) -> Table:
    try:
        given: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise StoreError(
            f"{label}: {path} cannot be read: {error.strerror or error}. Check what it is and who "
            "may read it."
        ) from error
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{label}: {path} is not an npy file of numbers ({error}). Pickled objects are never "
            "read: write plain arrays."
        ) from error
    return _of_array(label, given, axis, _forget(given))


def _of_chunks(label: str, given: Iterable[Any], axis: int, count: int | None) -> Table:
    chunks = iter(given)
    try:
        first = as_tensor(label, next(chunks))
    except StopIteration:
        raise DataError(
            f"{label} is an iterable without a chunk, so that its dtype is not known. Give one "
            "chunk without rows."
        ) from None
    if first.dim() <= axis:
        raise DataError(
            f"{label}: a chunk has shape {list(first.shape)}, but {axis + 1} dimensions at least "
            "are expected."
        )

    def read(step: int) -> Iterator[Tensor]:
        for chunk in itertools.chain([first], chunks):
            yield from torch.split(as_tensor(label, chunk), step, axis)

    width = tuple(first.shape[:axis] + first.shape[axis + 1 :])
    return Table(label, first.dtype, count, width, False, read, axis)
