"""Files that appear whole or not at all: written to the side, synced, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import GraphkitError, StoreError


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A sibling of ``path`` to write to, which takes its name when the block ends well.

    A reader, or a machine that loses power, sees the old file or the new one. Folders above
    ``path`` are made. When the block raises, the sibling is removed and ``path`` is as before.

    Raises:
        StoreError: the place cannot be written, or the disk is full.
    """
    path = Path(path)
    side = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # made here and not by the writer, so that it has the mode that the umask gives
            side.write_bytes(b"")
            yield side
            sync(side)
            os.replace(side, path)
            sync(path.parent)
    except BaseException:
        with suppress(OSError):
            side.unlink()
        raise


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A sibling folder of ``path`` to fill, which takes its name when the block ends well.

    ``path`` must not exist. A reader, or a machine that loses power, sees the whole folder or none.
    Folders above ``path`` are made. When the block raises, the sibling is removed.

    Raises:
        StoreError: ``path`` exists, the place cannot be written, or the disk is full.
    """
    path = Path(path)
    side = path.parent / f".{path.name}.{os.getpid()}.tmp"
    with writing(path):
        if path.exists() or path.is_symlink():
            raise StoreError(f"{path} exists already. Choose another place, or remove it.")
        path.parent.mkdir(parents=True, exist_ok=True)
        side.mkdir()
        try:
            yield side
            for inside in (*sorted(side.rglob("*")), side):
                sync(inside)
            os.rename(side, path)
        except BaseException:
            shutil.rmtree(side, ignore_errors=True)
            raise
        sync(path.parent)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, what the operating system refuses is a :class:`StoreError` that names ``path``."""
    try:
        yield
    except GraphkitError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. "
            "Free the disk, or choose another place."
        ) from error


def read_into(handle: int, view: memoryview, offset: int, path: Path) -> None:
    """Fill ``view`` with bytes of an open file from ``offset`` on, in as many reads as it takes.

    Raises:
        StoreError: the file ends before, or the system cannot read it; it names the place.
    """
    done = 0
    while done < len(view):
        try:
            count = os.preadv(handle, [view[done:]], offset + done)
        except InterruptedError:
            continue
        except OSError as error:
            raise StoreError(
                f"{path} cannot be read at byte {offset + done}: {error.strerror or error}. Check "
                "the disk, and restore the file."
            ) from error
        if count == 0:
            raise StoreError(
                f"{path} is truncated: {len(view)} bytes from byte {offset} on are expected, but "
                f"there are {done}. Restore the file, or write it again."
            )
        done += count


def sync(path: Path) -> None:
    """Have the disk hold what was written to ``path``, a file or a folder."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
