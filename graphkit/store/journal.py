"""A folder that is being written over several runs: files written at places, and a journal.

A line of the journal says that a part is on the disk. It is written after that part was synced, so
that a process which is killed at any moment leaves a journal that is true; a torn last line is
taken as not written.
"""

# pyright: strict

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GraphkitError, StoreError
from .build import FULL, room_told

JOURNAL = "journal.jsonl"


class Desk:
    """The folder ``folder`` of what will be at ``path``.

    ``needed``: bytes that are known to be needed, for messages. Errors of a full disk say how much
    is needed and free, and that the folder can be gone on with.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder, self.path, self.needed = folder, path, 0
        self.lines = self._read_journal()
        self._files: list[PlacedFile] = []

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()

    def sync(self) -> None:
        """Have the disk hold all files."""
        for file in self._files:
            file.sync()

    def done(self, phase: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["phase"] == phase]

    @contextmanager
    def writing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, GraphkitError) or error.errno not in FULL:
                raise
            raise StoreError(
                f"{self.path} cannot be written: {error.strerror}. "
                f"{room_told(self.path, self.needed)} What was packed so far is in "
                f"{self.folder.name}: make room, or raise the limit of file sizes, and pack again "
                "to go on with it."
            ) from error

    def open(self, name: str, size: int | None = None) -> PlacedFile:
        file = PlacedFile(self, name, size)
        self._files.append(file)
        return file

    def _read_journal(self) -> list[dict[str, Any]]:
        file = self.folder / JOURNAL
        if not file.exists():
            return []
        found: list[dict[str, Any]] = []
        text = file.read_bytes()
        whole = 0
        for line in text.splitlines(keepends=True):
            try:
                if not line.endswith(b"\n"):
                    break
                found.append(json.loads(line))
            except ValueError:
                break
            whole += len(line)
        # a line that was being written is not there
        if whole < len(text):
            os.truncate(file, whole)
        return found

    def note(self, phase: str, **facts: Any) -> None:
        """Journal that a part of a phase is on the disk."""
        line = {"phase": phase, **facts}
        with self.writing(), (self.folder / JOURNAL).open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)


class PlacedFile:
    """A file that is written at places; no room on the disk is told as such."""

    def __init__(self, desk: Desk, name: str, size: int | None = None) -> None:
        self.desk, self.path = desk, desk.folder / name
        with desk.writing():
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if size is not None:
                os.ftruncate(self.fd, size)
                if size and hasattr(os, "posix_fallocate"):
                    # a disk that fills up says so here, and not when its cache is written back
                    os.posix_fallocate(self.fd, 0, size)

    def write(self, data: Any, at: int) -> None:
        view = memoryview(data).cast("B")
        with self.desk.writing():
            done = 0
            while done < len(view):
                done += os.pwrite(self.fd, view[done:], at + done)

    def sync(self) -> None:
        with self.desk.writing():
            os.fdatasync(self.fd) if hasattr(os, "fdatasync") else os.fsync(self.fd)

    def read(self, at: int, count: int, kind: Any) -> Any:
        data = bytearray(count * np.dtype(kind).itemsize)
        done = 0
        while done < len(data):
            got = os.preadv(self.fd, [memoryview(data)[done:]], at + done)
            if got == 0:
                raise StoreError(f"{self.path} is truncated at byte {at + done}. Pack again.")
            done += got
        return np.frombuffer(data, kind)

    def close(self) -> None:
        os.close(self.fd)
