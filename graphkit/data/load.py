"""Data set names to PyG's objects, checked against their cards. (opt: torch_geometric)"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, DataError, StoreError, nearest
from ..store import load_tensors, save_tensors
from .assemble import MASKS, PARTS, assemble, counts, part_sizes
from .cards import Card, Split, card, cards
from .check import check as check_data
from .describe import class_numbers, describe
from .hyper_tables import is_hypergraph, read_hypergraph
from .links import random_link_split, time_split
from .obtain import obtain
from .raw import Files, Raw
from .readers import READERS, SPLIT_READERS, read_masks
from .splits import balanced_split, per_class_split, random_split
from .tables import read_folder

# part of the key of processed files: raise it when a reader changes what it returns
READERS_VERSION = 1

# kinds of data whose splits are masks that a seed draws
_MASKED = ("node", "graph", "hypergraph")

_log = logging.getLogger(__name__)


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the data sets: the argument, else ``$GRAPHKIT_DATA``, else the user's cache."""
    chosen = root or os.environ.get("GRAPHKIT_DATA")
    if chosen:
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "graphkit"


def cache_root() -> Path:
    """The folder of what can be made again: ``$XDG_CACHE_HOME/graphkit``, or below ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "graphkit"


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    seed: int = 0,
    num_splits: int = 1,
    check: bool = True,
    cache: bool = True,
    download: bool = True,
    allow_nonfinite: bool = False,
) -> Any:
    """A data set by name, the same as PyG's class gives, with one of its splits.

    A path instead of a name reads a folder or file of your own: :func:`read_folder`, or
    :func:`read_hypergraph` for a json file or a folder with a table ``members``.

    A graph with labelled nodes is PyG's Data: x float32 [N, F], y int64 [N], edge_index int64
    [2, E]; train_mask, val_mask, test_mask bool [N], or [N, S] for a split of S columns; ``name``
    str and ``num_classes`` int from the card. Other kinds of data are HeteroData, HyperGraphData,
    TemporalData, a :class:`GraphSet`, or Data with ``split_edge`` for links; what they hold is
    listed in :mod:`graphkit.data.assemble`.

    Args:
        root: folder with the layout of PyG's data sets, see :func:`data_root`.
        split: a name in the card's splits; the card's default split if not given.
        seed: draws the split where the card says it is random; without effect on published splits.
        num_splits: of masks that are drawn, draw so many, the columns of ``[N, S]``; column i is
            the split that ``seed + i`` draws.
        check: compare counts with the card and run :func:`graphkit.data.check`. The sha256 of every
            file is verified in any case, before it is parsed.
        cache: keep the processed form below :func:`cache_root`, and read it where it is there. It
            carries a checksum, and a key made of the card's digests.
        download: fetch what is not there, where the card says from where.
        allow_nonfinite: of a path, accept NaN and Inf in x.

    Raises:
        DataError: unknown name or split, files missing or changed, or content unlike the card.
        StoreError: a file cannot be read or fetched, or the processed form is damaged.
    """
    if is_path(name):
        if root is not None or split is not None or num_splits != 1:
            raise ConfigError(
                f"load: {name!r} is a path, for which root, split and num_splits have no meaning. "
                "Leave them out; splits are columns or files of the folder."
            )
        read = read_hypergraph if is_hypergraph(name) else read_folder
        return read(name, seed=seed, allow_nonfinite=allow_nonfinite)
    this = card(name)
    place, chosen = data_root(root), _split_name(this, split)
    _check_num_splits(this, chosen, num_splits)
    seeds = range(seed, seed + num_splits)
    return _load(this, chosen, place, seeds, check, cache, download)


def is_path(name: str) -> bool:
    """Does ``name`` stand for a file or folder: has it a separator, or is it there, and no card?"""
    if "/" in name or os.sep in name:
        return True
    known = {this.name for this in cards()} if Path(name).exists() else {name.lower()}
    return name.lower() not in known


def available(root: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """One row per card: its main fields, and ``present``: do the default split's files exist?"""
    folder = data_root(root)
    return [
        {
            "name": this.name,
            "task": this.task,
            "kind": this.kind,
            **{key: _total(this.counts.get(key)) for key in ("nodes", "edges", "features")},
            "classes": this.counts.get("classes"),
            "default_split": this.default_split,
            "present": not _missing(_paths(this, _split(this, this.default_split), folder)),
        }
        for this in cards()
    ]


def info(name: str, root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The card as a dict, with ``location``, and ``found``: what the files hold, None if absent.

    Of a path there is no card: ``name``, ``location`` and ``found`` alone.
    """
    if is_path(name):
        data = load(name)
        is_hyper, classes = is_hypergraph(name), not data.y.is_floating_point()
        task = "node-classification" if classes else "node-regression"
        told = describe("hypergraph" if is_hyper else "node", task, data)
        return {"name": data.name, "location": str(Path(name).expanduser()), "found": told}
    this = card(name)
    folder = data_root(root)
    location = str(folder / this.path) if this.files else "embedded in scikit-learn"
    there = not _missing(_paths(this, _split(this, this.default_split), folder))
    found = None
    if there:
        data = _load(this, this.default_split, folder, range(1), True, True, False)
        found = describe(this.kind, this.task, data)
    return {**dataclasses.asdict(this), "location": location, "found": found}


def get(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that all raw files of a set are in, after they were fetched and checked.

    Raises:
        DataError: files that no download brings are missing, or content is unlike the card.
        StoreError: no network, no room, or files that cannot be read.
    """
    this = card(name)
    folder = data_root(root)
    for split in this.splits or ("",):
        which = _split(this, split)
        obtain(this, _paths(this, which, folder), {**this.files, **which.files})
        _need(this, _files(this, which, folder), [*this.files, *which.files])
        _load(this, split, folder, range(1), True, True, False)
    return folder / this.path


def raw_files(
    name: str, root: str | os.PathLike[str] | None = None, *, download: bool = True
) -> Files:
    """The raw files of a set and of its default split, fetched if they are not there.

    Raises as :func:`load`.
    """
    this = card(name)
    which, folder = _split(this, this.default_split), data_root(root)
    files, needed = _files(this, which, folder), [*this.files, *which.files]
    if download:
        obtain(this, _paths(this, which, folder), {**this.files, **which.files})
    _need(this, files, needed)
    return files


def processed_path(this: Card) -> Path:
    """Where the processed form of a set is kept: another card, reader or version, another file."""
    about = [READERS_VERSION, this.reader, this.options, this.files, this.counts]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return cache_root() / "processed" / f"{this.name}-{key}.safetensors"


def _load(
    this: Card, split: str, folder: Path, seeds: range, check: bool, cache: bool, download: bool
) -> Any:
    which = _split(this, split)
    files = _files(this, which, folder)
    kept = processed_path(this)
    raw = _processed(kept, files, this) if cache and this.files else None
    fresh = raw is None
    needed = [*(this.files if fresh else ()), *which.files]
    if download:
        paths = _paths(this, which, folder)
        obtain(this, {name: paths[name] for name in needed}, {**this.files, **which.files})
    _need(this, files, needed)
    if raw is None:
        raw = _parse(this, files)
    drawn = [_drawn(this, split, raw, files, seed) for seed in seeds]
    if len(drawn) > 1:
        drawn[0] = {key: torch.stack([one[key] for one in drawn], dim=1) for key in drawn[0]}
    tensors = {**raw.tensors, **drawn[0]}
    data = assemble(this.kind, Raw(tensors, raw.meta), this.name, this.counts.get("classes"))
    if fresh and check:
        # a split that is drawn leaves only the training edges of a graph for link prediction
        whole = assemble("link", raw, this.name, None) if this.kind == "link" else data
        _compare_counts(this, whole)
        if this.kind == "node" and "x" in tensors:
            check_data(data)
        if cache and this.files:
            _keep(kept, raw, files, this)
    if check:
        _compare_split(this, split, data)
    return data


def _files(this: Card, which: Split, folder: Path) -> Files:
    digests = {**this.files, **which.files}
    return Files(_paths(this, which, folder), digests, this.name, this.source)


def _processed(path: Path, files: Files, this: Card) -> Raw | None:
    """The processed form, or None where there is none, or the files of unknown digest changed."""
    if not path.is_file():
        return None
    try:
        tensors, meta = load_tensors(path)
    except StoreError as error:
        raise StoreError(
            f"{this.name}: {error} It is the processed form: remove it, and it is made again."
        ) from error
    stamps = files.stamps(this.files)
    if any(meta["stamps"].get(name) != stamp for name, stamp in stamps.items()):
        return None
    return Raw(tensors, meta["raw"])


def _keep(path: Path, raw: Raw, files: Files, this: Card) -> None:
    try:
        save_tensors(path, raw.tensors, {"raw": raw.meta, "stamps": files.stamps(this.files)})
    except StoreError as error:
        _log.warning("%s: the processed form was not kept. %s", this.name, error)


def _split(this: Card, name: str) -> Split:
    """The split ``name``, or for a set without splits one that adds nothing."""
    return this.splits[name] if name else Split(0, 0, 0, None, None, None, "", {})


def _total(count: Any) -> Any:
    return sum(count.values()) if isinstance(count, Mapping) else count


def _check_num_splits(this: Card, split: str, num_splits: int) -> None:
    if isinstance(num_splits, bool) or not isinstance(num_splits, int) or num_splits < 1:
        raise ConfigError(
            f"num_splits is {num_splits!r}, but a whole number from 1 on is expected."
        )
    which = _split(this, split)
    is_drawn = which.fractions is not None or which.train_per_class is not None
    if num_splits > 1 and (this.kind not in _MASKED or which.files or not is_drawn):
        raise ConfigError(
            f"{this.name}: num_splits is {num_splits}, but split {split!r} is not one of nodes or "
            "graphs that is drawn. Leave num_splits at 1; seed i trains on column i of published "
            "splits."
        )


def _split_name(this: Card, split: str | None) -> str:
    chosen = (split or this.default_split).lower()
    if chosen not in this.splits and (split or this.splits):
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


def _need(this: Card, files: Files, names: list[str]) -> None:
    missing = [path for path in files.where(names) if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more files" if len(missing) > 1 else ""
        raise DataError(
            f"{this.name}: {missing[0]}{more} not found. Get the raw files from {this.source} and "
            f"lay them out as PyG does, here in {missing[0].parent}/. If they lie elsewhere, set "
            "root= or GRAPHKIT_DATA."
        )


def _parse(this: Card, files: Files) -> Raw:
    if this.reader not in READERS:
        raise DataError(
            f"card {this.name!r}: no reader {this.reader!r}. {nearest(this.reader, READERS)}"
        )
    try:
        return READERS[this.reader](files.only(this.files), **this.options)
    except DataError as error:
        # readers know the file, not the set
        known = str(error).startswith(f"{this.name}: ")
        raise error if known else DataError(f"{this.name}: {error}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{this.name}: reader {this.reader!r} cannot make sense of the files ({error!r}). "
            "The card names the wrong reader or files."
        ) from error


def _drawn(this: Card, split: str, raw: Raw, files: Files, seed: int) -> dict[str, Tensor]:
    """The tensors of a split that is drawn, or read from files of its own; else none."""
    if not split:
        return {}
    which = this.splits[split]
    if which.files and this.reader in SPLIT_READERS:
        return SPLIT_READERS[this.reader](files.only(which.files), raw, seed)
    if which.files:
        return read_masks((name, files[name]) for name in which.files)
    if which.fractions is not None:
        return _by_fractions(this, which, which.fractions, raw, seed)
    if which.train_per_class is not None and isinstance(which.val, int):
        masks = per_class_split(
            raw.tensors["y"],
            train_per_class=which.train_per_class,
            num_val=which.val if which.val_per_class is None else None,
            val_per_class=which.val_per_class,
            seed=seed,
        )
        return dict(zip(MASKS, masks, strict=True))
    if not any(part in key for key in raw.tensors for part in ("train_mask", "split_edge/train")):
        raise DataError(
            f"card {this.name!r}: split {split!r} has neither files nor train_per_class nor "
            f"fractions, and reader {this.reader!r} brings no split. Add one of them."
        )
    return {}


def _by_fractions(
    this: Card, which: Split, fractions: tuple[float, float, float], raw: Raw, seed: int
) -> dict[str, Tensor]:
    if this.kind == "link":
        edge_index, parts = random_link_split(
            raw.tensors["edge_index"], raw.meta["num_nodes"], fractions=fractions, seed=seed
        )
        flat = {
            f"split_edge/{part}/{key}": value
            for part, of in parts.items()
            for key, value in of.items()
        }
        return {"edge_index": edge_index, **flat}
    if this.kind == "temporal":
        return dict(zip(MASKS, time_split(raw.tensors["t"], fractions=fractions), strict=True))
    if which.balanced:
        masks = balanced_split(raw.tensors["y"], fractions=fractions, seed=seed)
        return dict(zip(MASKS, masks, strict=True))
    masks = random_split(
        _items(this, which, raw),
        fractions=fractions,
        seed=seed,
        stratified=which.stratified,
        test_mask=None if fractions[2] else raw.tensors.get("test_mask"),
    )
    return dict(zip(MASKS, masks, strict=True))


def _items(this: Card, which: Split, raw: Raw) -> Tensor | int:
    """What is divided: its class numbers, or how many items there are if they have no one class."""
    y = raw.tensors.get("y")
    if y is None:
        return raw.meta["num_nodes"]
    if this.task.endswith("classification") and y.numel() == len(y):
        label = class_numbers(y)
        # what is left out counts as unlabelled
        return label.where(raw.tensors[f"{which.within}_mask"], -1) if which.within else label
    return len(y)


def _compare_counts(this: Card, data: Any) -> None:
    """Raise :class:`DataError` where the counts of ``data`` differ from the card."""
    found = counts(this.kind, data, this.counts)
    for field, expected in this.counts.items():
        if found.get(field) != expected:
            raise DataError(_unlike(this.name, field, expected, found.get(field)))


def _compare_split(this: Card, split: str, data: Any) -> None:
    if not split:
        return
    found = part_sizes(this.kind, data) or {}
    for part in PARTS:
        expected, got = getattr(this.splits[split], part), found.get(part, [])
        columns = [expected] * len(got) if isinstance(expected, int) else list(expected)
        if got != columns or not got:
            raise DataError(_unlike(this.name, f"splits.{split}.{part}", expected, got))


def _unlike(name: str, field: str, expected: object, got: object) -> str:
    return (
        f"{name}: {field} is {expected} in the card but {got} in the data. "
        "Correct the card if the files are right; load(..., check=False) skips this comparison."
    )
