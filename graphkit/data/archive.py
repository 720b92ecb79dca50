"""Archives to files: only plain members, only below one folder, only as large as agreed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ..errors import ConfigError, DataError, GraphkitError, StoreError
from ..store.files import sync, writing

CHUNK = 1 << 16
# an archive may grow to MAX_RATIO times its size, and to SMALL bytes however small it is
MAX_RATIO = 1000
SMALL = 1_000_000
MAX_MEMBERS = 1_000_000
# from so many files on, the whole disk is synced at once
MANY = 50
# what a tar may hold between two members: names, attributes, padding
TAR_HEADERS = 1 << 20

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_DRIVE = re.compile("[A-Za-z]:")
_NEVER = "Nothing was extracted; do not unpack it by other means."


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class _Member:
    """One entry as the archive states it; ``flaw`` says why it may not be extracted."""

    name: str
    size: int | None
    flaw: str | None
    open: Callable[[], _Source]


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    members: Mapping[str, str] | None = None,
    max_bytes: int,
) -> list[Path]:
    """The files extracted below ``folder``, in the order of ``members``, else of the archive.

    Reads .zip, .tar (.gz, .bz2, .xz) and plain .gz, by the end of the name; the one member of
    ``x.csv.gz`` is called ``x.csv``. The files get their names after all of them were decompressed
    and the archive's own checksums held; files of that name are replaced. Modes, owners and times
    are not kept.

    Args:
        members: name in the archive -> path below ``folder``; None takes every regular file under
            its own name. What is not asked for is neither checked nor written.
        max_bytes: the most that may be decompressed in all. In a tar this counts the members that
            are passed over too. Above 1 MB an archive may grow at most a thousandfold in any case.

    Raises:
        DataError: another kind of file, damaged, encrypted, too large, a member missing, or one
            with an unsafe name: absolute, with ``..``, a drive letter or a backslash, given twice,
            differing only by case, or not a regular file. Nothing is written.
        StoreError: the archive cannot be read or the files cannot be written.
        ConfigError: ``max_bytes`` is not a positive number.
    """
    archive, folder = Path(archive), Path(folder)
    if max_bytes <= 0:
        raise ConfigError(f"max_bytes is {max_bytes}, but a positive number of bytes is expected.")
    if members is not None:
        members = {_plain(name): _safe(archive, path) for name, path in members.items()}
    entries = _entries(archive, _budget(archive, max_bytes))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        side = Path(tempfile.mkdtemp(prefix=".unpack-", dir=folder))
    try:
        staged: dict[str, Path] = {}
        with closing(_chosen(archive, entries, members)) as chosen:
            for number, (path, member) in enumerate(chosen):
                staged[path] = _stage(archive, member, side / str(number))
        return _place(staged, folder, _order(archive, members, staged))
    finally:
        shutil.rmtree(side, ignore_errors=True)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turns what damage makes the readers raise into a :class:`DataError`."""
    try:
        yield
    except GraphkitError:
        raise
    # damaged archives raise nearly any type, from zlib.error to RecursionError
    except Exception as error:
        raise DataError(
            f"{archive} is damaged or not what its name says: {error or type(error).__name__}. "
            "Nothing was extracted: fetch the file again."
        ) from error


@dataclass
class _Budget:
    """How many bytes may still come, and what is said when more do."""

    left: int
    excess: str

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise DataError(self.excess)


def _budget(archive: Path, max_bytes: int) -> _Budget:
    try:
        packed = archive.stat().st_size
    except OSError as error:
        raise StoreError(
            f"{archive} cannot be read: {error.strerror or error}. Fetch the file again."
        ) from error
    limit = min(max_bytes, max(SMALL, MAX_RATIO * packed))
    why = f"{packed} bytes may grow {MAX_RATIO} times, or to {SMALL}"
    why = f"max_bytes is {max_bytes}" if limit == max_bytes else why
    return _Budget(
        limit,
        f"{archive} unpacks to more bytes than the limit of {limit}, because {why}. Nothing was "
        "extracted: raise the limit only if you know that this archive is so large.",
    )


@dataclass(frozen=True)
class _Counted:
    """A stream whose bytes are paid from a budget as they come, whatever any header says."""

    stream: _Source
    budget: _Budget

    def read(self, size: int = CHUNK) -> bytes:
        data = self.stream.read(size)
        self.budget.take(len(data))
        return data


def _entries(archive: Path, budget: _Budget) -> Iterator[_Member]:
    """The members in the archive's order; each can be opened until the next one is asked for."""
    name = archive.name.lower()
    for end, reader in _READERS.items():
        if name.endswith(end):
            return reader(archive, budget)
    raise DataError(
        f"{archive} has a name that ends in none of {', '.join(_READERS)}. Rename it to what it is."
    )


def _zip_entries(archive: Path, budget: _Budget) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if not info.is_dir():
                source = partial(_zip_open, file, info, budget)
                yield _Member(info.filename, info.file_size, _zip_flaw(info), source)


def _zip_open(file: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> _Source:
    # before a byte is written, where the archive says so itself
    if info.file_size > budget.left:
        raise DataError(budget.excess)
    return _Counted(file.open(info), budget)


def _zip_flaw(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 0x1:
        return "is encrypted. Nothing was extracted: unpack it by hand with its password."
    # zero where the archive was not made on Unix
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return f"is a link or a device. {_NEVER}"
    # zipfile cuts a name at its zero, and turns backslashes into slashes on Windows
    if re.search(r"[\\\0]", info.orig_filename):
        return f"has a backslash or a zero in its name. {_NEVER}"
    return None


class _Header(tarfile.TarInfo):
    """A header that a damaged archive cannot end with: tarfile takes one for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise ValueError(f"a header that is none ({error})") from error


def _tar_entries(
    opened: Callable[[Path], Any], archive: Path, budget: _Budget
) -> Iterator[_Member]:
    # what is paid for so far, and a bounded number of bytes around it
    grant = _Budget(TAR_HEADERS, budget.excess)
    with opened(archive) as plain:
        stream: Any = _Counted(plain, grant)
        # read in one pass: a seek would decompress uncounted bytes
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK, tarinfo=_Header) as tar:
            for number, info in enumerate(tar):
                if number >= MAX_MEMBERS:
                    raise DataError(f"{archive} has more than {MAX_MEMBERS} members. {_NEVER}")
                if info.size < 0:
                    raise ValueError(f"member {info.name!r} has {info.size} bytes")
                budget.take(info.size)
                grant.left = TAR_HEADERS + info.size
                if not info.isdir():
                    source: Any = partial(tar.extractfile, info)
                    yield _Member(info.name, info.size, _tar_flaw(info), source)
        # the checksum of the compression stands at the very end
        grant.left = TAR_HEADERS + budget.left
        while stream.read():
            pass


def _tar_flaw(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return f"is a link to {info.linkname!r}. {_NEVER}"
    if not info.isreg():
        return f"is a device or a pipe. {_NEVER}"
    return f"is a file with holes. {_NEVER}" if info.issparse() else None


def _gz_entries(archive: Path, budget: _Budget) -> Iterator[_Member]:
    # gzip takes nothing at all for the packed form of nothing
    if not archive.stat().st_size:
        raise EOFError("it is empty")
    with gzip.open(archive) as file:
        yield _Member(archive.name[:-3], None, None, lambda: _Counted(file, budget))


_READERS: dict[str, Callable[[Path, _Budget], Iterator[_Member]]] = {
    ".zip": _zip_entries,
    ".tar": partial(_tar_entries, partial(open, mode="rb")),
    **dict.fromkeys((".tar.gz", ".tgz"), partial(_tar_entries, gzip.open)),
    **dict.fromkeys((".tar.bz2", ".tbz2"), partial(_tar_entries, bz2.open)),
    **dict.fromkeys((".tar.xz", ".txz"), partial(_tar_entries, lzma.open)),
    ".gz": _gz_entries,
}


def _chosen(
    archive: Path, entries: Iterator[_Member], members: Mapping[str, str] | None
) -> Generator[tuple[str, _Member]]:
    """Each wanted member, checked, and its path below the folder."""
    names = _Names(archive)
    while True:
        with _reading(archive):
            member = next(entries, None)
        if member is None:
            return
        if members is not None and _plain(member.name) not in members:
            continue
        name = _safe(archive, member.name)
        if member.flaw:
            raise DataError(f"{archive}: member {member.name!r} {member.flaw}")
        path = name if members is None else members[name]
        names.add(path, member.name)
        yield path, member


def _plain(name: str) -> str:
    """``name`` without the ``./`` that many tars begin their names with."""
    return PurePosixPath(name).as_posix()


def _safe(archive: Path, name: str) -> str:
    """``name`` in its plain form, if it is that of a file below a folder on any machine."""
    path = PurePosixPath(name)
    if (
        not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or any(_DRIVE.match(part) for part in path.parts)
        or _UNPRINTABLE.search(name)
    ):
        raise DataError(
            f"{archive}: {name!r} is not the name of a file below a folder, written with '/' and "
            f"without '..'. {_NEVER}"
        )
    return path.as_posix()


class _Names:
    """The paths taken so far, as a file system sees them that knows no case."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.files: dict[str, str] = {}
        self.folders: dict[str, str] = {}

    def add(self, path: str, member: str) -> None:
        """Take ``path``; :class:`DataError` if it, or a file or folder on its way, is taken."""
        folded = PurePosixPath(unicodedata.normalize("NFC", path).casefold())
        file, above = str(folded), [str(folder) for folder in folded.parents[:-1]]
        other = self.files.get(file) or self.folders.get(file)
        for folder in above:
            other = other or self.files.get(folder)
        if other:
            raise DataError(
                f"{self.archive}: members {other!r} and {member!r} would be one file, as they are "
                f"twice the same, differ by case only, or one is a folder of the other. {_NEVER}"
            )
        self.files[file] = member
        self.folders.update(dict.fromkeys(above, member))


def _stage(archive: Path, member: _Member, path: Path) -> Path:
    """``path``, after the whole content of ``member`` was written to it."""
    with writing(path), open(path, "xb") as file:
        with _reading(archive):
            source = member.open()
        while data := _read(archive, source):
            file.write(data)
        done = file.tell()
    if member.size not in (None, done):
        raise DataError(
            f"{archive} is damaged: member {member.name!r} has {done} bytes, expected "
            f"{member.size}. Nothing was extracted: fetch the file again."
        )
    return path


def _read(archive: Path, source: _Source) -> bytes:
    with _reading(archive):
        return source.read(CHUNK)


def _order(
    archive: Path, members: Mapping[str, str] | None, staged: Mapping[str, Path]
) -> list[str]:
    """The paths in the order to return them; :class:`DataError` if a member is not there."""
    if members is None:
        return list(staged)
    missing = [name for name, path in members.items() if path not in staged]
    if missing:
        raise DataError(
            f"{archive} has no member {missing[0]!r}, and lacks {len(missing)} of the "
            f"{len(members)} wanted. Nothing was extracted: it is another archive than expected, "
            "or the names are wrong."
        )
    return list(members.values())


def _place(staged: Mapping[str, Path], folder: Path, order: Iterable[str]) -> list[Path]:
    """Sync the staged files and rename them to their paths below ``folder``."""
    placed = [folder / path for path in order]
    _sync_all(staged.values())
    for path, source in staged.items():
        with writing(folder / path):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, folder / path)
    _sync_all({path.parent for path in placed} | {folder})
    return placed


def _sync_all(paths: Collection[Path]) -> None:
    # one by one, 5,000 small files took 28 s on an ext4 disk, and 2,000 together 0.1 s
    if len(paths) > MANY and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        with writing(path):
            sync(path)
