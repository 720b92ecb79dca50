"""Data set cards: what a data set is, where its files lie, and what must be found in them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

TASKS = ("node-classification",)
METRICS = ("accuracy",)


@dataclass(frozen=True)
class Split:
    """One way to divide the nodes; a size is one number, or one per column of the masks.

    With ``train_per_class`` it is drawn from a seed; with ``files`` it is read from them, one
    column each; with neither it comes with the raw data.
    """

    train: int | tuple[int, ...]
    val: int | tuple[int, ...]
    test: int | tuple[int, ...]
    train_per_class: int | None
    path: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Baseline:
    """A published result on a split of this data set, in per cent."""

    method: str
    split: str
    value: float
    reference: str


@dataclass(frozen=True)
class Card:
    """The content of ``datasets/<name>.toml``.

    ``path`` is the folder of the raw files below the data root, "" for an embedded set; ``files``
    maps their names to sha256. ``edges`` counts the columns of edge_index.
    """

    name: str
    title: str
    task: str
    reader: str
    path: str
    licence: str
    source: str
    citation: str
    metric: str
    default_split: str
    nodes: int
    edges: int
    features: int
    classes: int
    directed: bool
    defects: tuple[str, ...]
    files: Mapping[str, str]
    splits: Mapping[str, Split]
    baselines: tuple[Baseline, ...]


Kind = type | tuple[type, ...]

_TEXT = ("title", "task", "reader", "path", "licence", "source", "citation", "metric")
_CARD: dict[str, Kind] = {
    **dict.fromkeys(_TEXT, str),
    **{"default_split": str, "counts": dict, "defects": list},
    **{"splits": dict, "files": dict, "baselines": list},
}
_COUNTS: dict[str, Kind] = {
    **dict.fromkeys(("nodes", "edges", "features", "classes"), int),
    "directed": bool,
}
_SIZES = ("train", "val", "test")
_SPLIT: dict[str, Kind] = dict.fromkeys(_SIZES, (int, list))
_SPLIT_OPTIONS: dict[str, Kind] = {"train_per_class": int, "path": str, "files": dict}
_BASELINE: dict[str, Kind] = {
    "method": str,
    "split": str,
    "value": (float, int),
    "reference": str,
}


def cards_folder() -> Path:
    """The folder of the cards: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    places = (package / "datasets", package.parent / "datasets")
    for folder in places:
        if folder.is_dir():
            return folder
    raise DataError(
        f"The data set cards are neither in {places[0]} nor in {places[1]}. "
        "Install graphkit again, or use a complete checkout."
    )


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.toml"))


def card(name: str, folder: Path | None = None) -> Card:
    """The card of a data set, by its name in any case; ``folder`` is where the cards are."""
    folder = folder or cards_folder()
    known = _names(folder)
    if name.lower() not in known:
        raise DataError(f"Unknown data set {name!r}. {nearest(name, known)}")
    path = folder / f"{name.lower()}.toml"
    try:
        return parse(path.stem, tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"card {path.stem!r}: {path} is not valid TOML: {error}.") from error


def cards(folder: Path | None = None) -> list[Card]:
    """Every card, by name."""
    folder = folder or cards_folder()
    return [card(name, folder) for name in _names(folder)]


def parse(name: str, table: Mapping[str, Any]) -> Card:
    """The card in a parsed TOML table; :class:`DataError` names the card and field at fault."""
    where = f"card {name!r}"
    top = _fields(where, "", table, _CARD)
    counts = _fields(where, "counts.", top.pop("counts"), _COUNTS)
    _one_of(where, "task", top["task"], TASKS)
    _one_of(where, "metric", top["metric"], METRICS)
    _folder(where, "path", top["path"])
    splits = {key: _split(where, f"splits.{key}.", value) for key, value in top["splits"].items()}
    _one_of(where, "default_split", top["default_split"], splits)
    files = _files(where, "files", top["files"])
    defects = tuple(_typed(where, "defects", item, str) for item in top["defects"])
    rows = [_fields(where, "baselines.", row, _BASELINE) for row in top["baselines"]]
    for row in rows:
        _one_of(where, "baselines.split", row["split"], splits)
    baselines = tuple(Baseline(**row) for row in rows)
    top.update(defects=defects, files=files, splits=splits, baselines=baselines)
    return Card(name=name, **top, **counts)


def _fields(
    where: str,
    prefix: str,
    table: Any,
    required: dict[str, Kind],
    optional: dict[str, Kind] | None = None,
) -> dict[str, Any]:
    """The table's fields after a check of their names and types; ``prefix`` is where they stand."""
    known = {**required, **(optional or {})}
    _typed(where, prefix.rstrip("."), table, dict)
    for key in table:
        if key not in known:
            raise DataError(f"{where}: unknown field {prefix + key!r}. {nearest(key, known)}")
    for key in required:
        if key not in table:
            raise DataError(f"{where}: field {prefix + key!r} is missing. Add it to the card.")
    return {key: _typed(where, prefix + key, value, known[key]) for key, value in table.items()}


def _typed(where: str, field: str, value: Any, kind: Kind) -> Any:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    # exact types: bool passes for int under isinstance
    if type(value) not in kinds:
        expected = " or ".join(k.__name__ for k in kinds)
        raise DataError(
            f"{where}: field {field!r} must be {expected}, got {type(value).__name__} {value!r}."
        )
    return value


def _one_of(where: str, field: str, value: str, known: Mapping[str, Any] | tuple[str, ...]) -> None:
    if value not in known:
        raise DataError(f"{where}: field {field!r} is {value!r}. {nearest(value, known)}")


def _folder(where: str, field: str, value: str) -> None:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value:
        raise DataError(
            f"{where}: field {field!r} must be a folder below the data root, written with '/', "
            f"got {value!r}."
        )


def _files(where: str, field: str, table: Mapping[str, Any]) -> dict[str, str]:
    for name, digest in table.items():
        if not re.fullmatch(r"[A-Za-z0-9][\w.\-]*", name):
            raise DataError(
                f"{where}: field {field!r} has {name!r}, which is not a bare file name."
            )
        if not re.fullmatch(r"[0-9a-f]{64}", _typed(where, f"{field}.{name}", digest, str)):
            raise DataError(
                f"{where}: field '{field}.{name}' must be a sha256 of 64 hexadecimal digits in "
                f"lower case, got {digest!r}."
            )
    return dict(table)


def _split(where: str, prefix: str, table: Any) -> Split:
    found = _fields(where, prefix, table, _SPLIT, _SPLIT_OPTIONS)
    files = _files(where, f"{prefix}files", found.get("files", {}))
    _folder(where, f"{prefix}path", found.get("path", ""))
    train, val, test = (_size(where, prefix + key, found[key], len(files)) for key in _SIZES)
    return Split(train, val, test, found.get("train_per_class"), found.get("path", ""), files)


def _size(where: str, field: str, value: int | list[Any], num_files: int) -> int | tuple[int, ...]:
    if isinstance(value, int):
        return value
    if len(value) != num_files:
        raise DataError(
            f"{where}: field {field!r} lists {len(value)} sizes for {num_files} files. "
            "Give one per file, or one number if they are all equal."
        )
    return tuple(_typed(where, field, number, int) for number in value)
