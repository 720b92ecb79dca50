"""Ranges of files, read past the page cache where the file system allows, and counted.

What is asked is rounded to blocks, because direct I/O moves whole ones. Short reads are gone on
with, interruptions tried again; an end of the file before its time and every other refusal are a
:class:`StoreError` that names file and place.
"""

# pyright: strict

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..errors import BackendError, StoreError
from .engines import Bytes, Engine, Words, find_engine

# what packs and their parts begin at a multiple of
PAGE = 4096
# a longer range is read in pieces, several at once
PIECE = 1 << 20
_AGAIN = (errno.EINTR, errno.EAGAIN, errno.EBUSY)
_TRIES = 200


@dataclass
class Counts:
    """What was read: bytes that were wanted, bytes that were moved, and in how many reads."""

    useful: int = 0
    device: int = 0
    reads: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.useful - other.useful, self.device - other.device, self.reads - other.reads
        )


def room(nbytes: int) -> Bytes:
    """Uninitialised memory that begins at a multiple of :data:`PAGE`."""
    base = np.empty(nbytes + PAGE, dtype=np.uint8)
    skip = -base.ctypes.data % PAGE
    return base[skip : skip + nbytes]


def pieces(begin: Words, end: Words, limit: int = PIECE) -> tuple[Words, Words]:
    """Ranges cut into parts of at most ``limit`` bytes, in their order."""
    count = np.maximum(-(-(end - begin) // limit), 1)
    if int(count.sum()) == len(begin):
        return begin, end
    of = np.repeat(np.arange(len(begin)), count)
    number = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    first = begin[of] + number * limit
    return first, np.minimum(first + limit, end[of])


class DirectFile:
    """A file that is read by ranges.

    Args:
        path: the file.
        direct: past the page cache (O_DIRECT). None does so where the file system lets us, found by
            opening and one read; True raises :class:`StoreError` where it does not.
        engine: what reads, by default :func:`find_engine`'s.

    ``align``: what offsets, lengths and addresses of direct reads must divide by; ``counts``: all
    that was read so far. Several threads may read at once. Raises :class:`StoreError` if the file
    cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        direct: bool | None = None,
        engine: Engine | None = None,
    ) -> None:
        if not hasattr(os, "preadv"):
            raise BackendError("Reading at a place of a file needs preadv, which Linux has.")
        self.path = Path(path)
        self.engine = find_engine() if engine is None else engine
        self.counts = Counts()
        self._lock = threading.Lock()
        self.fd, self.direct, self.why = _open(self.path, direct)
        self.size = os.fstat(self.fd).st_size
        self.align = alignment(self.path, self.fd) if self.direct else 1

    def close(self) -> None:
        """Give the file back; reading raises then."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()

    def read(
        self, begin: Words, end: Words, buffer: Bytes, at: Words, useful: int | None = None
    ) -> None:
        """Read the ranges ``[begin, end)`` of the file to ``buffer[at:]``.

        Where :attr:`direct`, all three must be multiples of :attr:`align`, and ``buffer`` be made
        by :func:`room`; an ``end`` beyond the file's is what rounding makes of it.
        """
        if len(begin) == 0:
            return
        first, last = pieces(begin, end)
        if len(first) != len(begin):
            count = np.maximum(-(-(end - begin) // PIECE), 1)
            at = np.repeat(at - begin, count) + first
        need = np.minimum(last, self.size) - first
        if bool((need <= 0).any()):
            place = int(first[need <= 0][0])
            raise self._short(place, int((last - first)[need <= 0][0]), 0)
        self._read_all(first, last - first, need, buffer, at)
        moved = int(np.minimum(last - first, -(-need // self.align) * self.align).sum())
        with self._lock:
            self.counts.reads += len(first)
            self.counts.device += moved
            self.counts.useful += moved if useful is None else useful

    def read_bytes(self, begin: int, length: int, buffer: Bytes | None = None) -> Bytes:
        """The bytes at ``begin``, as a view of an aligned ``buffer`` that is large enough."""
        if length == 0:
            return np.empty(0, dtype=np.uint8)
        if begin + length > self.size:
            raise self._short(begin, length, max(0, self.size - begin))
        first = begin // self.align * self.align
        last = -(-(begin + length) // self.align) * self.align
        if buffer is None or len(buffer) < last - first:
            buffer = room(last - first)
        self.read(_one(first), _one(last), buffer, _one(0), length)
        return buffer[begin - first : begin - first + length]

    def _read_all(
        self, offset: Words, length: Words, need: Words, buffer: Bytes, at: Words
    ) -> None:
        done = np.zeros(len(offset), dtype=np.int64)
        todo = np.arange(len(offset))
        tries = 0
        while len(todo):
            # what is gone on with begins at a block
            held = done[todo] // self.align * self.align
            got = self.engine.attempt(
                self.fd, offset[todo] + held, length[todo] - held, buffer, at[todo] + held
            )
            bad = got < 0
            again = bad & np.isin(-got, _AGAIN)
            if bool((bad & ~again).any()):
                which = int(np.flatnonzero(bad & ~again)[0])
                raise self._refused(int(offset[todo[which]]), -int(got[which]))
            reached = np.where(bad, done[todo], held + got)
            stuck = ~bad & (reached <= done[todo])
            if bool(stuck.any()):
                which = todo[int(np.flatnonzero(stuck)[0])]
                raise self._short(int(offset[which]), int(need[which]), int(done[which]))
            done[todo] = reached
            if bool(again.any()):
                tries += 1
                if tries > _TRIES:
                    which = int(np.flatnonzero(again)[0])
                    raise self._refused(int(offset[todo[which]]), -int(got[which]))
                time.sleep(0 if tries < 10 else 0.001)
            todo = todo[done[todo] < need[todo]]

    def _short(self, place: int, expected: int, got: int) -> StoreError:
        return StoreError(
            f"{self.path} is truncated: at byte {place:,} {expected:,} bytes are expected, got "
            f"{got:,}. Restore the file or make it again."
        )

    def _refused(self, place: int, number: int) -> StoreError:
        return StoreError(
            f"{self.path} cannot be read at byte {place:,}: {os.strerror(number)}. Look at the "
            "disk, and restore the file if it is damaged."
        )


def _one(value: int) -> Words:
    return np.array([value], dtype=np.int64)


def _open(path: Path, direct: bool | None) -> tuple[int, bool, str]:
    """The descriptor, whether it reads past the page cache, and why (not)."""
    flag = getattr(os, "O_DIRECT", 0)
    base = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
    try:
        if direct is not False and flag:
            try:
                fd = os.open(path, base | flag)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                why = "the file system refuses it"
            else:
                if _answers(fd, path):
                    return fd, True, "O_DIRECT"
                os.close(fd)
                why = "the file system refuses such reads"
        else:
            why = "not asked for" if flag else "the system has no O_DIRECT"
        if direct:
            raise StoreError(f"{path} cannot be read past the page cache: {why}. Pass direct=None.")
        fd = os.open(path, base)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    if hasattr(os, "posix_fadvise"):
        # nothing is read that was not asked for
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    return fd, False, why


def _answers(fd: int, path: Path) -> bool:
    """Whether one direct read is served."""
    if os.fstat(fd).st_size == 0:
        return True
    try:
        os.preadv(fd, [memoryview(cast(Any, room(alignment(path, fd))))], 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def alignment(path: Path, fd: int) -> int:
    """What direct reads of a file must divide by: as the kernel says (6.1), else its disk's logical
    block, else 4096."""
    told = _statx(fd)
    if told:
        return told
    device = os.fstat(fd).st_dev
    base = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for folder in (base, base / ".."):
        try:
            return int((folder / "queue" / "logical_block_size").read_text())
        except (OSError, ValueError):
            continue
    return PAGE


def _statx(fd: int) -> int:
    """The alignment of memory and offset that statx knows, 0 if it does not."""
    if sys.platform != "linux":
        return 0
    library = ctypes.CDLL(None)
    answer = ctypes.create_string_buffer(256)
    empty_path, dioalign = 0x1000, 0x2000
    try:
        if library.statx(fd, b"", empty_path, dioalign, answer) != 0:
            return 0
    except AttributeError:
        return 0
    mask, memory, offset = (struct.unpack_from("<I", answer, at)[0] for at in (0x00, 0x98, 0x9C))
    return max(memory, offset) if mask & dioalign else 0


@dataclass(frozen=True)
class Disk:
    """What a disk gives: bytes in a second one after the other, and reads of 4 KiB anywhere."""

    bandwidth: float
    iops: float


def probe(path: str | os.PathLike[str], seconds: float = 2.0) -> Disk:
    """Measure the disk that holds ``path`` by reading it: half of the time each way.

    Past the page cache where that can be; what is measured of other file systems is memory.
    """
    file = DirectFile(path)
    try:
        return Disk(_rate(file, seconds / 2, False), _rate(file, seconds / 2, True))
    finally:
        file.close()


def _rate(file: DirectFile, seconds: float, scattered: bool) -> float:
    step = PAGE if scattered else 8 * PIECE
    whole = -(-file.size // PAGE) * PAGE
    if whole == 0:
        raise StoreError(f"{file.path} is empty: there is nothing to measure. Give another file.")
    blocks = max(1, file.size // step)
    count = min(256 if scattered else 1, blocks)
    buffer = room(count * step)
    draw = np.random.default_rng(0)
    at = np.arange(count, dtype=np.int64) * step
    done = turn = 0
    began = time.perf_counter()
    while True:
        block = draw.integers(0, blocks, count) if scattered else np.array([turn % blocks])
        begin = block.astype(np.int64) * step
        file.read(begin, np.minimum(begin + step, whole), buffer, at)
        done += count if scattered else min(step, whole)
        turn += 1
        spent = time.perf_counter() - began
        if spent >= seconds:
            return done / spent
