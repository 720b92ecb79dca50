"""Data set names to ``Data``, checked against their cards. (opt: torch_geometric)"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import DataError, StoreError, nearest
from .cards import Card, Split, card, cards
from .check import MASKS
from .check import check as check_data
from .raw import READERS, Masks, Raw, read_masks
from .splits import per_class_split

if TYPE_CHECKING:
    from torch_geometric.data import Data


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the data sets: the argument, else ``$GRAPHKIT_DATA``, else the user's cache."""
    chosen = root or os.environ.get("GRAPHKIT_DATA")
    if chosen:
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "graphkit"


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    seed: int = 0,
    check: bool = True,
) -> Data:
    """A data set by name, the same as PyG's class gives, with the masks of one split.

    x float32 [N, F], y int64 [N], edge_index int64 [2, E]; train_mask, val_mask, test_mask bool
    [N], or [N, S] for a split of S columns; ``name`` str and ``num_classes`` int from the card.

    Args:
        root: folder with the layout of PyG's data sets, see :func:`data_root`; never written to.
        split: a name in the card's splits; the card's default split if not given.
        seed: draws the split where the card says it is random; without effect on published splits.
        check: compare counts with the card and run :func:`graphkit.data.check`. The sha256 of every
            file is verified in any case, before it is parsed.

    Raises:
        DataError: unknown name or split, files missing or changed, or content unlike the card.
    """
    this = card(name)
    return _load(this, _split_name(this, split), data_root(root), seed, check)


def available(root: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """One row per card: its main fields, and ``present``: do the default split's files exist?"""
    fields = ("name", "task", "nodes", "edges", "features", "classes", "default_split")
    folder = data_root(root)
    return [
        {
            **{field: getattr(this, field) for field in fields},
            "present": not _missing(_paths(this, this.splits[this.default_split], folder)),
        }
        for this in cards()
    ]


def info(name: str, root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The card as a dict, with ``location``, and ``found``: what the files hold, None if absent."""
    this = card(name)
    folder = data_root(root)
    location = str(folder / this.path) if this.files else "embedded in scikit-learn"
    there = not _missing(_paths(this, this.splits[this.default_split], folder))
    found = _found(_load(this, this.default_split, folder, 0, True)) if there else None
    return {**dataclasses.asdict(this), "location": location, "found": found}


def _load(this: Card, split: str, folder: Path, seed: int, check: bool) -> Data:
    from torch_geometric.data import Data

    files = _read(this, this.splits[split], folder)
    raw = _parse(this, {name: files[name] for name in this.files})
    masks = _masks(this, split, raw, files, seed)
    data = Data(x=raw.x, edge_index=raw.edge_index, y=raw.y, **dict(zip(MASKS, masks, strict=True)))
    data.name, data.num_classes = this.name, this.classes
    if check:
        _compare(this, split, data)
        check_data(data)
    return data


def _split_name(this: Card, split: str | None) -> str:
    chosen = (split or this.default_split).lower()
    if chosen not in this.splits:
        raise DataError(f"{this.name} has no split {split!r}. {nearest(chosen, this.splits)}")
    return chosen


def _paths(this: Card, split: Split, folder: Path) -> dict[str, Path]:
    """Where each file of the set and of the split lies, or should lie."""
    home = folder / (split.path or this.path)
    main = {name: folder / this.path / name for name in this.files}
    # PyG keeps a second copy of the raw files in the folder of such a split, and may have only that
    copy = {name: home / name for name in this.files}
    chosen = copy if _missing(main) and not _missing(copy) else main
    return {**chosen, **{name: home / name for name in split.files}}


def _missing(paths: dict[str, Path]) -> list[Path]:
    return [path for path in paths.values() if not path.is_file()]


def _read(this: Card, split: Split, folder: Path) -> dict[str, bytes]:
    """The bytes of each file, after their sha256 was found to be the card's."""
    paths = _paths(this, split, folder)
    missing = _missing(paths)
    if missing:
        more = f" and {len(missing) - 1} more files" if len(missing) > 1 else ""
        raise DataError(
            f"{this.name}: {missing[0]}{more} not found. This version downloads nothing: get the "
            f"raw files from {this.source} and lay them out as PyG does, here in "
            f"{missing[0].parent}/. If they lie elsewhere, set root= or GRAPHKIT_DATA."
        )
    digest = {**this.files, **split.files}
    return {name: _read_one(this, path, digest[name]) for name, path in paths.items()}


def _read_one(this: Card, path: Path, expected: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{this.name}: {path} cannot be read: {error}.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DataError(
            f"{this.name}: {path} has sha256 {found}, expected {expected}. It is damaged or "
            f"another version and was not parsed: replace it by the file from {this.source}."
        )
    return data


def _parse(this: Card, files: dict[str, bytes]) -> Raw:
    if this.reader not in READERS:
        raise DataError(
            f"card {this.name!r}: no reader {this.reader!r}. {nearest(this.reader, READERS)}"
        )
    try:
        return READERS[this.reader](files)
    except DataError:
        raise
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{this.name}: reader {this.reader!r} cannot make sense of the files ({error!r}). "
            "The card names the wrong reader or files."
        ) from error


def _masks(this: Card, split: str, raw: Raw, files: dict[str, bytes], seed: int) -> Masks:
    which = this.splits[split]
    if which.train_per_class is not None and isinstance(which.val, int):
        return per_class_split(
            raw.y, train_per_class=which.train_per_class, num_val=which.val, seed=seed
        )
    if which.files:
        return read_masks((name, files[name]) for name in which.files)
    if raw.masks is None:
        raise DataError(
            f"card {this.name!r}: split {split!r} has neither files nor train_per_class, and "
            f"reader {this.reader!r} brings no masks. Add one of the two."
        )
    return raw.masks


def _compare(this: Card, split: str, data: Data) -> None:
    """Raise :class:`DataError` where the counts of ``data`` differ from the card."""
    found = _counts(data)
    for field in ("nodes", "edges", "features", "classes", "directed"):
        expected = getattr(this, field)
        if found[field] != expected:
            raise DataError(_unlike(this.name, field, expected, found[field]))
    for name in MASKS:
        size = name.removesuffix("_mask")
        expected, got = getattr(this.splits[split], size), _sizes(data[name])
        columns = [expected] * len(got) if isinstance(expected, int) else list(expected)
        if got != columns:
            raise DataError(_unlike(this.name, f"splits.{split}.{size}", expected, got))


def _unlike(name: str, field: str, expected: object, got: object) -> str:
    return (
        f"{name}: {field} is {expected} in the card but {got} in the data. "
        "Correct the card if the files are right; load(..., check=False) skips this comparison."
    )


def _sizes(mask: Tensor) -> list[int]:
    """How many nodes each split selects, for a mask [N] or [N, S]."""
    return mask.reshape(len(mask), -1).sum(dim=0).tolist()


def _counts(data: Data) -> dict[str, Any]:
    x, y, edge_index = data["x"], data["y"], data["edge_index"]
    return {
        "nodes": x.size(0),
        "edges": edge_index.size(1),
        "features": x.size(1),
        "classes": int(y.max()) + 1,
        "directed": not data.is_undirected(),
    }


def _found(data: Data) -> dict[str, Any]:
    src, dst = data["edge_index"]
    y = data["y"]
    return {
        **_counts(data),
        "isolated_nodes": data["x"].size(0)
        - len(torch.cat([src, dst])[(src != dst).repeat(2)].unique()),
        "self_loops": int((src == dst).sum()),
        "duplicate_edges": len(src) - len(torch.unique(data["edge_index"], dim=1)[0]),
        # as PyG counts it: every column of edge_index, self-loops included
        "edge_homophily": float((y[src] == y[dst]).float().mean()),
        "class_sizes": torch.bincount(y[y >= 0]).tolist(),
        **{name.removesuffix("_mask"): _sizes(data[name]) for name in MASKS},
    }
