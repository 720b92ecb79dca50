"""Engines that read many ranges of a file at once: io_uring where the kernel has it, else threads.

An engine makes one attempt at each range and says what came of it; what a short read, an
interruption or an error means is settled by :mod:`.direct`, for all of them alike.
"""

# pyright: strict

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, ConfigError, nearest

Words = NDArray[np.int64]
Bytes = NDArray[np.uint8]
EngineName = Literal["auto", "io_uring", "threads"]
ENGINES = ("auto", "io_uring", "threads")
VARIABLE = "GRAPHKIT_IO"

_THREADS = 8
_ENTRIES = 256
_SETUP, _ENTER = 425, 426
_WAIT = 1
_READ = 22
_SQES_AT = 0x10000000
_ONE_MAPPING = 1
_SQE: Any = np.dtype(
    {
        "names": ["op", "fd", "offset", "address", "length", "user"],
        "formats": ["u1", "<i4", "<i8", "<u8", "<u4", "<u8"],
        "offsets": [0, 4, 8, 16, 24, 32],
        "itemsize": 64,
    }
)
_CQE: Any = np.dtype([("user", "<u8"), ("result", "<i4"), ("flags", "<u4")])


class Engine(Protocol):
    """What reads: ``name`` is shown, ``why`` says how it came to be chosen."""

    name: str
    why: str

    def attempt(self, fd: int, offset: Words, length: Words, buffer: Bytes, at: Words) -> Words:
        """Read ``length[i]`` bytes at ``offset[i]`` of the file to ``buffer[at[i]:]``, once each.

        The number of bytes that came, 0 at the end of the file, or minus the number of the error.
        """
        ...


class Threads:
    """Reads by ``preadv`` in threads of this process, which wait without holding Python's lock."""

    name = "threads"

    def __init__(self, why: str = "asked for", threads: int = _THREADS) -> None:
        self.why = why
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def attempt(self, fd: int, offset: Words, length: Words, buffer: Bytes, at: Words) -> Words:
        view = memoryview(cast(Any, buffer))
        found = np.empty(len(offset), dtype=np.int64)
        asked = list(zip(offset.tolist(), length.tolist(), at.tolist(), strict=True))

        def work(first: int) -> None:
            for i in range(first, len(asked), step):
                begin, count, place = asked[i]
                try:
                    found[i] = os.preadv(fd, [view[place : place + count]], begin)
                except OSError as error:
                    found[i] = -(error.errno or errno.EIO)

        step = min(self._threads, len(asked))
        if step <= 1:
            step = 1
            work(0)
        else:
            for done in [self._shared().submit(work, first) for first in range(step)]:
                done.result()
        return found

    def _shared(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, "graphkit-read")
            return self._pool


class _Ring:
    """One io_uring: two rings of memory that are shared with the kernel."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        params = np.zeros(30, dtype=np.uint32)
        fd = _call(_SETUP, _ENTRIES, params.ctypes.data)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        weakref.finalize(self, os.close, fd).atexit = False
        self.fd = fd
        if not int(params[5]) & _ONE_MAPPING:
            raise OSError(errno.ENOSYS, "io_uring of a kernel before 5.4")
        sq, cq = params[10:20].tolist(), params[20:30].tolist()
        entries, completions = int(params[0]), int(params[1])
        size = max(sq[6] + 4 * entries, cq[5] + 16 * completions)
        rings = mmap.mmap(fd, size)
        sqes = mmap.mmap(fd, 64 * entries, offset=_SQES_AT)

        def words(at: int, count: int = 1) -> NDArray[np.uint32]:
            return np.frombuffer(rings, np.uint32, count, at)

        self.entries = entries
        self.sqes: Any = np.frombuffer(sqes, _SQE, entries)
        self.cqes: Any = np.frombuffer(rings, _CQE, completions, cq[5])
        self.tail = words(sq[1])
        self.done_head, self.done_tail = words(cq[0]), words(cq[1])
        # a request lies in the slot of its own number
        words(sq[6], entries)[:] = np.arange(entries, dtype=np.uint32)
        self._fence = threading.Lock()

    def attempt(self, fd: int, offset: Words, length: Words, address: Words) -> Words:
        found = np.full(len(offset), -errno.EAGAIN, dtype=np.int64)
        sent = flying = 0
        try:
            while sent < len(offset) or flying:
                count = min(self.entries - flying, len(offset) - sent)
                if count:
                    self._fill(fd, offset, length, address, sent, count)
                taken = self._enter(count, max(1, (flying + count) // 2))
                sent, flying = sent + taken, flying + taken
                flying -= self._reap(found)
        finally:
            # the kernel must not write to memory that was given back
            while flying:
                self._enter(0, 1)
                flying -= self._reap(found)
        return found

    def _fill(
        self, fd: int, offset: Words, length: Words, address: Words, sent: int, n: int
    ) -> None:
        part = slice(sent, sent + n)
        tail = int(self.tail[0])
        made: Any = np.zeros(n, dtype=_SQE)
        made["op"], made["fd"] = _READ, fd
        made["offset"], made["length"], made["address"] = offset[part], length[part], address[part]
        made["user"] = np.arange(sent, sent + n, dtype=np.uint64)
        self.sqes[(tail + np.arange(n)) % self.entries] = made

    def _enter(self, count: int, wanted: int) -> int:
        """Hand over the next ``count`` requests and wait for ``wanted``: how many were taken."""
        with self._fence:
            self.tail[0] += np.uint32(count)
        taken = _call(_ENTER, self.fd, count, wanted, _WAIT, 0, 0)
        if taken < 0 and -taken not in (errno.EINTR, errno.EAGAIN, errno.EBUSY):
            self.tail[0] -= np.uint32(count)
            raise OSError(-taken, os.strerror(-taken))
        taken = max(taken, 0)
        if taken < count:
            # those that were not looked at are filled in anew
            self.tail[0] -= np.uint32(count - taken)
        return taken

    def _reap(self, found: Words) -> int:
        # the lock keeps the processor from reading what is completed before how much is
        with self._fence:
            head, tail = int(self.done_head[0]), int(self.done_tail[0])
        count = (tail - head) % 2**32
        if count:
            done = self.cqes[(head + np.arange(count)) % len(self.cqes)]
            found[done["user"].astype(np.int64)] = done["result"]
            with self._fence:
                self.done_head[0] = np.uint32(tail % 2**32)
        return count


class Uring:
    """Reads by io_uring, with a ring for each thread that asks: one system call for many ranges."""

    name = "io_uring"

    def __init__(self, why: str = "asked for") -> None:
        self.why = why
        self._local = threading.local()
        # so that a refusal shows here
        self._ring()

    def attempt(self, fd: int, offset: Words, length: Words, buffer: Bytes, at: Words) -> Words:
        return self._ring().attempt(fd, offset, length, at + buffer.ctypes.data)

    def _ring(self) -> _Ring:
        ring: _Ring | None = getattr(self._local, "ring", None)
        if ring is None or ring.pid != os.getpid():
            ring = self._local.ring = _Ring()
        return ring


def _call(number: int, *args: int) -> int:
    """A system call, whose errors come back as negative numbers."""
    whole = [ctypes.c_long(arg) for arg in args]
    result = int(_libc().syscall(ctypes.c_long(number), *whole))
    return -ctypes.get_errno() if result < 0 else result


@functools.cache
def _libc() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


_made: dict[str, Engine] = {}
_making = threading.Lock()


def find_engine(name: EngineName = "auto") -> Engine:
    """The engine called ``name``; ``auto`` is what ``GRAPHKIT_IO`` names, else the fastest.

    Raises:
        ConfigError: there is none of that name.
        BackendError: io_uring was asked for, but the system does not let us have it.
    """
    asked = str(name)
    if asked == "auto":
        asked = os.environ.get(VARIABLE, "auto")
    if asked not in ENGINES:
        raise ConfigError(f"Unknown reading engine {asked!r}. {nearest(asked, ENGINES)}")
    with _making:
        if asked not in _made:
            _made[asked] = _make(asked)
        return _made[asked]


def _make(asked: str) -> Engine:
    if asked == "threads":
        return Threads()
    refusal = "not Linux"
    if sys.platform == "linux":
        try:
            return Uring("asked for" if asked == "io_uring" else "the kernel has it")
        except OSError as error:
            refusal = f"the kernel says: {error.strerror}"
    if asked == "io_uring":
        raise BackendError(
            f"io_uring cannot be had here ({refusal}). Leave the choice to graphkit, or ask for "
            f"threads ({VARIABLE}=threads)."
        )
    return Threads(f"no io_uring ({refusal})")
