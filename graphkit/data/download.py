"""Files from the web: checked, resumable, and under their name only when complete."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ..errors import DataError, StoreError
from ..store.files import sync, writing
from .progress import Meter
from .web import (
    CHUNK,
    PATIENT,
    Answer,
    Changed,
    Lasting,
    Passing,
    Patience,
    ask,
    check_address,
    reach,
)

if TYPE_CHECKING:
    from hashlib import _Hash

# free bytes that a download leaves on the disk
MARGIN = 64 << 20
# an attempt that gets so much farther counts as progress, and the pauses begin anew
STEP = 1 << 20
# how much of a body is looked at for the marks of a web page
PAGE_BYTES = 256

_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
_SHA256 = re.compile("[0-9a-f]{64}")


def fetch(
    url: str,
    target: str | os.PathLike[str],
    *,
    sha256: str | None,
    size: int | None = None,
    progress: bool = True,
    label: str = "",
    patience: Patience = PATIENT,
) -> Path:
    """``target``, after the file at ``url`` was downloaded to it; one that is there is checked.

    Bytes go to ``<target>.part``, which a broken download leaves behind for the next call to go on
    with, and which is renamed when it is complete, verified and synced. Of several processes that
    fetch one target, one downloads and the others wait.

    Args:
        sha256: 64 hexadecimal digits in lower case, or None where the content is not known.
        size: its bytes, if known; compared with what the server says before anything is written.
        progress: show a bar or, where stderr is no terminal, lines, after two seconds.
        label: what they call the file; its name if empty.
        patience: how long to wait. A host that does not answer within ``patience.connect`` seconds
            counts as no network and is not tried again.

    Raises:
        DataError: the address or a redirect is unsafe, or the content is not the expected one:
            another sha256 or size, or a web page. Wrong bytes are removed.
        StoreError: no network, a server's error that lasts, a broken connection, a full disk.
    """
    target = Path(target)
    job = _Job(url, target, sha256, size, patience, Meter(label or target.name, not progress))
    check_address(url)
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise DataError(
            f"sha256 of {url} is {sha256!r}, but 64 hexadecimal digits in lower case are expected."
        )
    if _there(job):
        return target
    # before a folder is made
    if not job.kept():
        _reach(job)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(job), closing(job.meter):
        if not _there(job):
            _persist(job)
    return target


@dataclass(frozen=True)
class _Job:
    url: str
    target: Path
    sha256: str | None
    size: int | None
    patience: Patience
    meter: Meter

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def note(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    def kept(self) -> int:
        """The bytes of an earlier attempt."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def failure(self, what: object) -> StoreError:
        kept = self.kept()
        state = f"{kept} bytes are kept in {self.part}" if kept else "Nothing was written"
        again = "call again to go on" if kept else "check the address and the network"
        return StoreError(
            f"{self.url} cannot be downloaded: {what}. {state}: {again}, or place the file by hand "
            f"at {self.target}."
        )


@dataclass(frozen=True)
class _Note:
    """What the server said of the part: where it is from, the file's version and full size."""

    url: str
    validator: str | None
    size: int | None


def _reach(job: _Job) -> None:
    try:
        reach(job.url, job.patience.connect)
    except Lasting as error:
        raise job.failure(error) from error


def _digest(path: Path) -> _Hash:
    """The running sha256 of the file at ``path``."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest


def _there(job: _Job) -> bool:
    """Is the target there? :class:`DataError` if it is another file than expected."""
    if not job.target.exists():
        return False
    try:
        with open(job.target, "rb") as file:
            size = os.fstat(file.fileno()).st_size
        sha256 = _digest(job.target).hexdigest() if job.sha256 else None
    except OSError as error:
        raise StoreError(
            f"{job.target} cannot be read: {error.strerror or error}. Remove it, and fetch again."
        ) from error
    for what, expected, got in (("size", job.size, size), ("sha256", job.sha256, sha256)):
        if expected is not None and got != expected:
            raise DataError(
                f"{job.target} is there already with {what} {got}, expected {expected}. It is "
                f"damaged or another version: remove it, and fetch it again from {job.url}."
            )
    return True


@contextmanager
def _locked(job: _Job) -> Iterator[None]:
    """Holds the target's lock, which ends with the process that holds it."""
    path = job.target.with_name(f".{job.target.name}.lock")
    lock = FileLock(path)
    with writing(path):
        try:
            lock.acquire(timeout=1)
        except Timeout:
            job.meter.line(f"waiting for another process that downloads {job.target}")
            lock.acquire()
    try:
        yield
        # whoever still waits for the lock that is removed here finds the target and writes nothing
        with suppress(OSError):
            path.unlink()
    finally:
        lock.release()


def _persist(job: _Job) -> None:
    """Attempts until one succeeds or the pauses are used up."""
    pauses, attempts, best = list(job.patience.pauses), 0, job.kept()
    while True:
        attempts += 1
        try:
            with writing(job.part):
                return _attempt(job)
        except Lasting as error:
            raise job.failure(error) from error
        except Passing as error:
            if isinstance(error, Changed):
                job.discard()
            if job.kept() >= best + STEP:
                pauses, best = list(job.patience.pauses), job.kept()
            if error.wait > job.patience.asked:
                raise job.failure(f"{error} and asks to wait {error.wait:.0f} s") from error
            if not pauses:
                raise job.failure(f"{error}, the last of {attempts} attempts") from error
            time.sleep(max(error.wait, pauses.pop(0)))


def _attempt(job: _Job) -> None:
    """One request, which goes on where the part ends if that is safe."""
    note = _note(job)
    have = job.kept() if note else 0
    if note and have and have == note.size:
        return _finish(job, _digest(job.part), resumed=True)
    reach(job.url, job.patience.connect)
    with ask(job.url, have, note.validator if note else None, job.patience) as answer:
        if answer.start and note and not _continues(note, answer):
            raise Changed("the file at the server changed while it was downloaded")
        _receive(job, answer)


def _note(job: _Job) -> _Note | None:
    """The note of a part that may be continued."""
    try:
        note = _Note(**json.loads(job.note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    # without both, the rest of another version could be joined to the part unseen
    known = note.validator or job.sha256
    whole = job.size is None or note.size == job.size
    fits = note.size is None or job.kept() <= note.size
    return note if note.url == job.url and known and whole and fits else None


def _continues(note: _Note, answer: Answer) -> bool:
    """Is the answer the rest of the very file that ``note`` is about?"""
    same = answer.validator is None or answer.validator == note.validator
    return same and answer.total == note.size


def _receive(job: _Job, answer: Answer) -> None:
    """Append the answer's body to the part, or begin it, and finish if it is complete."""
    head = b""
    while not answer.start and len(head) < PAGE_BYTES and (data := next(answer.pieces, b"")):
        head += data
    _check_content(job, answer, head)
    total = job.size if answer.total is None else answer.total
    _check_room(job, (total or 0) - answer.start)
    if not answer.start:
        job.discard()
        note = _Note(job.url, answer.validator, total)
        job.note.write_text(json.dumps(asdict(note)), encoding="utf-8")
    digest = _digest(job.part) if answer.start else hashlib.sha256()
    done = answer.start
    with open(job.part, "ab" if done else "wb") as file:
        while data := head or next(answer.pieces, b""):
            head = b""
            done += len(data)
            _check_length(job, done, total)
            file.write(data)
            digest.update(data)
            job.meter.show(done, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise Passing(f"the body was cut short at {done} of {total} bytes")
    _finish(job, digest, resumed=answer.start > 0)


def _check_content(job: _Job, answer: Answer, head: bytes) -> None:
    """Raise :class:`DataError` where the answer cannot be the file, before a byte is written."""
    name = job.target.name.lower()
    page = answer.type.lower().startswith("text/html") or _PAGE.match(head)
    if page and not name.endswith((".html", ".htm")):
        raise DataError(
            f"{job.url} answers with a web page, expected the file {job.target.name}. It may ask "
            f"for a log-in or a click: open it in a browser, and place the file at {job.target}."
        )
    # a file that is itself packed is often announced like one packed on the way
    if answer.packing and not name.endswith((".gz", ".tgz")):
        raise DataError(
            f"{job.url} answers with {answer.packing} packing, expected the file as it is. "
            f"Nothing was written: place the file by hand at {job.target}."
        )
    if answer.total is not None and job.size not in (None, answer.total):
        raise DataError(
            f"{job.url} has {answer.total} bytes, expected {job.size}. Nothing was written: the "
            "server has another version than the expected one, so correct the one or the other."
        )


def _check_room(job: _Job, needed: int) -> None:
    """Raise :class:`StoreError` unless ``needed`` bytes, and a margin, are free on the disk."""
    free = shutil.disk_usage(job.target.parent).free
    if needed + MARGIN > free:
        raise StoreError(
            f"{job.target} needs {needed} bytes more and {MARGIN} to spare, but {free} are free on "
            f"the disk. Free some, or choose another place; {job.kept()} bytes are kept."
        )


def _check_length(job: _Job, done: int, total: int | None) -> None:
    if total is None:
        _check_room(job, 0)
    elif done > total:
        job.discard()
        raise DataError(
            f"{job.url} sends more than the {total} bytes expected. What came was removed: the "
            "server has another version than the expected one."
        )


def _finish(job: _Job, digest: _Hash, resumed: bool) -> None:
    """Give the part the target's name, if its sha256 is the expected one."""
    found = digest.hexdigest()
    if job.sha256 not in (None, found):
        # a part may have been damaged on the disk, or joined from two versions
        if resumed:
            raise Changed("the part and the rest do not make the expected file")
        job.discard()
        raise DataError(
            f"{job.url} has sha256 {found}, expected {job.sha256}. It was removed: fetch it again, "
            "and if the sha256 stays, the server has another version than the expected one."
        )
    sync(job.part)
    os.replace(job.part, job.target)
    sync(job.target.parent)
    job.note.unlink(missing_ok=True)
