"""Ranges of files: what comes is what the file holds, whatever reads it and goes wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit.errors import BackendError, ConfigError, StoreError
from graphkit.store import engines
from graphkit.store.direct import PAGE, PIECE, DirectFile, alignment, pieces, probe, room
from graphkit.store.engines import Bytes, Engine, Threads, Uring, Words, find_engine

SIZE = 3 * PIECE + 1234


def has_uring() -> bool:
    try:
        Uring()
    except OSError:
        return False
    return True


NAMES = ["threads", pytest.param("io_uring", marks=pytest.mark.skipif(
    not has_uring(), reason="this kernel gives no io_uring"))]  # fmt: skip


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bytes]:
    path = tmp_path_factory.mktemp("direct") / "of bytes ü"
    data = np.random.default_rng(0).integers(0, 256, SIZE).astype(np.uint8)
    data.tofile(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path, data


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return find_engine(request.param)


@pytest.mark.parametrize("direct", [None, False])
def test_any_bytes_are_those_of_the_file(
    content: tuple[Path, Bytes], engine: Engine, direct: bool | None
) -> None:
    path, data = content
    file = DirectFile(path, direct=direct, engine=engine)

    @given(st.integers(0, SIZE), st.integers(0, SIZE))
    def held(first: int, second: int) -> None:
        begin, end = sorted((first, second))
        assert bytes(file.read_bytes(begin, end - begin)) == data[begin:end].tobytes()

    held()


def test_many_blocks_in_one_call(content: tuple[Path, Bytes], engine: Engine) -> None:
    """More of them than a ring has places, in any order, with repetitions and one long range."""
    path, data = content
    file = DirectFile(path, engine=engine)
    begin = np.random.default_rng(1).integers(0, SIZE // PAGE + 1, 2000).astype(np.int64) * PAGE
    begin[0], end = 0, np.minimum(begin + PAGE, -(-SIZE // PAGE) * PAGE)
    end[0] = 2 * PIECE + PAGE
    at = np.concatenate([[0], np.cumsum(end - begin)[:-1]])
    buffer = room(int((end - begin).sum()))
    file.read(begin, end, buffer, at)
    for first, last, place in zip(begin, end, at, strict=True):
        want = data[first:last]
        assert np.array_equal(buffer[place : place + len(want)], want)
    assert file.counts.reads == 2000 + 2
    wanted = np.minimum(end, SIZE) - begin
    assert file.counts.device == int((-(-wanted // file.align) * file.align).sum())


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 100))), st.integers(1, 30))
def test_pieces_cover_each_range_once(ranges: list[tuple[int, int]], limit: int) -> None:
    begin = np.array([first for first, _ in ranges], dtype=np.int64)
    end = begin + np.array([length for _, length in ranges], dtype=np.int64)
    first, last = pieces(begin, end, limit)
    assert ((last - first) <= limit).all()
    want = [at for a, b in zip(begin, end, strict=True) for at in range(a, b)]
    assert [at for a, b in zip(first, last, strict=True) for at in range(a, b)] == want


class Faulty:
    """An engine of which some attempts end otherwise: that many bytes, or minus an error."""

    name, why = "faulty", "a test"

    def __init__(self, inner: Engine, faults: list[int | None]) -> None:
        self.inner, self.faults = inner, faults

    def attempt(self, fd: int, offset: Words, length: Words, buffer: Bytes, at: Words) -> Words:
        got = self.inner.attempt(fd, offset, length, buffer, at)
        for i in range(len(got)):
            fault = self.faults.pop(0) if self.faults else None
            if fault is not None:
                # what the attempt did not bring is not there
                kept = max(0, min(fault, int(got[i])))
                buffer[at[i] + kept : at[i] + length[i]] = 0xAA
                got[i] = min(fault, int(got[i]))
        return got


FAULTS = [None, -errno.EINTR, -errno.EAGAIN, 512, 1536, 4096, 4097, 100_000]


@given(st.lists(st.sampled_from(FAULTS), max_size=8))
def test_short_reads_and_interruptions_change_nothing(
    content: tuple[Path, Bytes], faults: list[int | None]
) -> None:
    path, data = content
    for direct in (None, False):
        file = DirectFile(path, direct=direct, engine=Faulty(Threads(threads=2), list(faults)))
        # a read that brings less than a block brings no more the next time: see below
        begin, end = 8192, SIZE
        assert bytes(file.read_bytes(begin, end - begin)) == data[begin:end].tobytes()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (0, "is truncated: at byte 8,192 4,096 bytes are expected, got 0"),
        (-errno.EIO, "cannot be read at byte 8,192: Input/output error"),
    ],
)
def test_what_cannot_be_read_is_told(
    content: tuple[Path, Bytes], engine: Engine, fault: int, said: str
) -> None:
    path, _ = content
    file = DirectFile(path, engine=Faulty(engine, [fault] * 3))
    with pytest.raises(StoreError, match=said) as caught:
        file.read_bytes(8192, 4096)
    assert str(path) in str(caught.value)


def test_what_is_interrupted_for_ever_ends(content: tuple[Path, Bytes]) -> None:
    file = DirectFile(content[0], engine=Faulty(Threads(threads=1), [-errno.EAGAIN] * 10_000))
    with pytest.raises(StoreError, match="temporarily unavailable"):
        file.read_bytes(0, 10)


def test_a_file_that_became_shorter_is_truncated(tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"x" * 4 * PAGE)
    file = DirectFile(path, engine=engine)
    os.truncate(path, 2 * PAGE + 100)
    with pytest.raises(StoreError, match="truncated: at byte 4,096 12,288 bytes .* got 4,196"):
        file.read_bytes(PAGE, 3 * PAGE)
    with pytest.raises(StoreError, match="truncated: at byte 16,384 1 bytes are expected, got 0"):
        file.read_bytes(4 * PAGE, 1)
    with pytest.raises(StoreError, match="No such file"):
        DirectFile(tmp_path / "nothing")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no tmpfs at /dev/shm")
def test_where_the_page_cache_cannot_be_passed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    """Refused at the opening, or by the first read: the same bytes by way of the page cache."""
    path = tmp_path_factory.mktemp("refused") / "f"
    path.write_bytes(b"ab" * PAGE)
    refusal = OSError(errno.EINVAL, "Invalid argument")
    opened, read = os.open, os.preadv

    def no_open(name: object, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT:
            raise refusal
        return opened(name, flags, *rest)  # type: ignore[arg-type]

    def no_read(fd: int, *rest: object) -> int:
        import fcntl

        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            raise refusal
        return read(fd, *rest)  # type: ignore[arg-type]

    for name, function in (("open", no_open), ("preadv", no_read)):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, function)
            file = DirectFile(path, engine=engine)
            assert not file.direct and "refuses" in file.why
            assert bytes(file.read_bytes(3, 5)) == b"babab"
            with pytest.raises(StoreError, match="cannot be read past the page cache"):
                DirectFile(path, direct=True, engine=engine)


def test_the_engine_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_made", {})
    monkeypatch.setenv(engines.VARIABLE, "threads")
    assert find_engine().name == "threads"
    monkeypatch.setenv(engines.VARIABLE, "thread")
    with pytest.raises(ConfigError, match="Did you mean 'threads'"):
        find_engine()
    monkeypatch.setenv(engines.VARIABLE, "auto")
    monkeypatch.setattr(engines, "_call", lambda *_: -errno.EPERM)
    assert find_engine().name == "threads"
    assert find_engine().why == "no io_uring (the kernel says: Operation not permitted)"
    with pytest.raises(BackendError, match="ask for threads"):
        find_engine("io_uring")


def test_device_bytes_are_those_of_the_system(content: tuple[Path, Bytes], engine: Engine) -> None:
    """Counted in code and by the kernel: each direct read moves what was asked, no more."""
    path, _ = content
    file = DirectFile(path, engine=engine)
    if not file.direct or not Path("/proc/self/io").exists():
        pytest.skip("no direct reads, or no /proc/self/io")

    def moved() -> int:
        rows = Path("/proc/self/io").read_text().splitlines()
        return int(dict(row.split(": ") for row in rows)["read_bytes"])

    begin = np.arange(100, dtype=np.int64) * 7 * PAGE
    buffer = room(100 * PAGE)
    before = moved()
    file.read(begin, begin + PAGE, buffer, np.arange(100) * PAGE)
    assert moved() - before == file.counts.device == 100 * PAGE


def test_threads_read_side_by_side(content: tuple[Path, Bytes], engine: Engine) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path, data = content
    file = DirectFile(path, engine=engine)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda at: file.read_bytes(at * 1000, 5000), range(200)))
    for at, part in enumerate(parts):
        assert np.array_equal(part, data[at * 1000 : at * 1000 + 5000])


def test_the_probe_measures_and_alignment_is_a_power_of_two(content: tuple[Path, Bytes]) -> None:
    disk = probe(content[0], 0.02)
    assert disk.bandwidth > 0 and disk.iops > 0
    file = DirectFile(content[0])
    align = alignment(content[0], file.fd)
    assert 512 <= align <= PAGE and align & (align - 1) == 0
    file.close()
