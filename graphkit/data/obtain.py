"""The raw files of a set from the network, as its card says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError, StoreError
from .archive import unpack
from .cards import Card, Download
from .download import fetch

# what an archive may hold for each of its bytes, and at least: text packs 20 to 1 at most
_GROWTH, _LEAST = 50, 64 * 2**20


def obtain(this: Card, paths: Mapping[str, Path], digests: Mapping[str, str]) -> None:
    """Download what is not there of the files ``paths``; those that no download brings stay away.

    Raises:
        DataError: what came is not the file that the card describes.
        StoreError: no network, or no room; what came so far is kept for the next call.
    """
    missing = {name: path for name, path in paths.items() if not path.is_file()}
    for one in this.downloads:
        try:
            if one.unpack is None:
                if one.file in missing:
                    sha256 = one.sha256 or digests[one.file] or None
                    _fetch(this, one, missing.pop(one.file), sha256)
                continue
            wanted = {n: p for n, p in missing.items() if n.startswith(one.below)}
            if wanted:
                _archive(this, one, wanted)
                missing = {name: path for name, path in missing.items() if name not in wanted}
        except (DataError, StoreError) as error:
            raise type(error)(f"{this.name}: {error}") from error


def _fetch(this: Card, one: Download, target: Path, sha256: str | None) -> None:
    fetch(
        one.url, target, sha256=sha256, size=one.size or None, label=f"{this.name}: {target.name}"
    )


def _archive(this: Card, one: Download, wanted: Mapping[str, Path]) -> None:
    """Unpack the files ``wanted``, which all lie below one folder, and remove the archive."""
    assert one.unpack is not None
    name, path = next(iter(wanted.items()))
    folder = path.parents[name.count("/")]
    archive = folder / one.url.rsplit("/", 1)[-1]
    _fetch(this, one, archive, one.sha256 or None)
    members = {one.unpack + name[len(one.below) :]: name for name in wanted}
    size = archive.stat().st_size
    unpack(archive, folder, members=members, max_bytes=max(_LEAST, _GROWTH * size))
    archive.unlink()
