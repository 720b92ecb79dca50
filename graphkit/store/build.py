"""Writing a store: beside its place, under a lock, and renamed when all of it is on the disk.

``name.building-*`` is what a process is writing, or was when it was killed: nobody opens it, and
the next one who writes to the same place removes it. The lock is the operating system's, so that it
is gone with its process; beside it lies who holds it, for the message to others.
"""

# pyright: strict

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import uuid
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..errors import GraphkitError, StoreError
from .files import sync
from .layout import (
    BLOCK,
    PAGE,
    STORE,
    SUMS,
    Array,
    Layout,
    block_sum,
    dtype_name,
    padded,
    row_bytes,
    sums_digest,
    write_layout,
)

# of what a write needs, kept free beside it
_SLACK = 0.05
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ArrayWriter:
    """Writes a data file from its first row to its last, and the checksums of its blocks.

    ``stride``: bytes from one row to the next, by default those of a row.
    """

    def __init__(
        self,
        folder: Path,
        file: str,
        dtype: torch.dtype,
        width: tuple[int, ...] = (),
        stride: int | None = None,
        block: int = BLOCK,
    ) -> None:
        self.folder, self.file, self.dtype, self.width, self.block = (
            folder, file, dtype, width, block,
        )  # fmt: skip
        self.row_bytes = row_bytes(dtype, (0, *width))
        self.stride = self.row_bytes if stride is None else stride
        self.rows = 0
        self._sums: list[int] = []
        # the beginning of the block that is not full yet
        self._rest = bytearray()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        self._handle = os.open(folder / file, flags, 0o666)
        # closed when this writer is gone, if an error keeps it from being closed
        self._shut = weakref.finalize(self, os.close, self._handle)

    def write(self, rows: Tensor) -> None:
        """Append rows ``[n, *width]`` of the dtype."""
        self.rows += len(rows)
        if rows.numel() == 0:
            # torch has no bytes of it
            self._put(memoryview(bytes(len(rows) * self.stride)))
            return
        whole = rows.detach().cpu().contiguous()
        # the stride of a tensor of one number may be any
        flat = whole.as_strided((whole.numel(),), (1,)).view(torch.uint8)
        raw = flat.reshape(len(rows), self.row_bytes)
        if self.stride > self.row_bytes:
            raw = torch.nn.functional.pad(raw, (0, self.stride - self.row_bytes))
        self._put(memoryview(cast(Any, raw.reshape(-1).numpy())))

    def close(self) -> Array:
        """Fill the last page, have the disk hold all, write the checksums; what was written."""
        length = padded(self.rows * self.stride)
        self._put(memoryview(bytes(length - self.rows * self.stride)))
        if self._rest:
            self._sums.append(block_sum(self.file, len(self._sums), self._rest))
        os.fsync(self._handle)
        self._shut()
        sums = np.array(self._sums, "<u8").tobytes()
        beside = self.folder / f"{self.file}{SUMS}"
        beside.write_bytes(sums)
        sync(beside)
        return Array(
            file=self.file,
            dtype=dtype_name(self.dtype),
            shape=(self.rows, *self.width),
            stride=self.stride,
            bytes=length,
            sums=sums_digest(sums),
        )

    def discard(self) -> None:
        """Remove the file: it is not wanted."""
        self._shut()
        (self.folder / self.file).unlink()

    def _put(self, data: memoryview) -> None:
        done = 0
        while done < len(data):
            done += os.write(self._handle, data[done:])
        if self._rest:
            room = self.block - len(self._rest)
            self._rest += data[:room]
            data = data[room:]
            if len(self._rest) < self.block:
                return
            self._sums.append(block_sum(self.file, len(self._sums), self._rest))
            self._rest.clear()
        whole = len(data) - len(data) % self.block
        for start in range(0, whole, self.block):
            part = data[start : start + self.block]
            self._sums.append(block_sum(self.file, len(self._sums), part))
        self._rest += data[whole:]


@contextmanager
def building(path: Path, needed: int) -> Generator[Path]:
    """A new folder beside ``path`` to write to, which :func:`finish` gives that name.

    ``needed``: the bytes that will be written, as far as they are known. What killed processes left
    is removed first, and what this one wrote if it fails.

    Raises:
        StoreError: something is at ``path``, another process is writing there, or the disk has not
            enough room, before or while it is written to.
    """
    # what follows a link, or ends in .., has no place beside it
    path = Path(os.path.abspath(path))
    refuse_existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path):
            for stale in path.parent.glob(f"{_escaped(path.name)}.building-*"):
                shutil.rmtree(stale)
            check_room(path, needed)
            folder = path.parent / f"{path.name}.building-{uuid.uuid4().hex[:12]}"
            folder.mkdir()
            try:
                yield folder
            finally:
                if folder.exists():
                    shutil.rmtree(folder, ignore_errors=True)
    except GraphkitError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise StoreError(
                f"{path} cannot be written: {error.strerror}. {room_told(path, needed)} Nothing of "
                "it is left, and no other store was touched: make room, or raise the limit of file "
                "sizes, and write it again."
            ) from error
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. Choose another place."
        ) from error


def finish(folder: Path, path: Path, layout: Layout) -> None:
    """Write ``store.json`` into a folder of :func:`building`, and give it its name."""
    path = Path(os.path.abspath(path))
    write_layout(folder / STORE, layout)
    sync(folder)
    refuse_existing(path)
    os.rename(folder, path)
    sync(path.parent)


def refuse_existing(path: Path) -> None:
    """Raise :class:`StoreError` if something is at ``path``."""
    if path.exists() or path.is_symlink():
        raise StoreError(
            f"{path} exists already, and a store is never overwritten. Choose another place, or "
            "remove it."
        )


def check_room(path: Path, needed: int) -> None:
    """Raise :class:`StoreError` unless the disk of ``path`` has room for ``needed`` bytes."""
    if needed + int(needed * _SLACK) > shutil.disk_usage(path.parent).free:
        raise StoreError(
            f"{path} would not fit on its disk. {room_told(path, needed)} Make room, or choose "
            "another place. Nothing was written."
        )


def room_told(path: Path, needed: int) -> str:
    free = shutil.disk_usage(path.parent).free
    return f"It needs {needed:,} bytes at least, of which 5 % more must be free; {free:,} are free."


@contextmanager
def alone(path: Path) -> Generator[None]:
    """Hold the lock of who writes to ``path``."""
    # the file stays: who removes it lets two processes hold two locks of one name
    lock = FileLock(path.parent / f".{path.name}.lock", blocking=False)
    beside = path.parent / f".{path.name}.writer"
    try:
        lock.acquire()  # pyright: ignore[reportUnknownMemberType]
    except Timeout as error:
        raise StoreError(
            f"{path} is being written by another process: {_holder(beside)}. Wait for it, or stop "
            "it."
        ) from error
    try:
        who = {"pid": os.getpid(), "host": socket.gethostname(), "boot": _boot()}
        beside.write_text(json.dumps(who), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            beside.unlink()
        lock.release()


def _holder(beside: Path) -> str:
    try:
        who = json.loads(beside.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']} (boot {who['boot']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "one that has only just begun"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _escaped(name: str) -> str:
    """``name`` as a pattern that matches it alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def span_of(count: int, width: tuple[int, ...], dtype: torch.dtype, stride: int | None) -> int:
    """Bytes on disk of ``count`` rows, checksums included."""
    size = padded(count * (row_bytes(dtype, (0, *width)) if stride is None else stride))
    return size + padded(8 * (size // BLOCK + 1)) + PAGE
