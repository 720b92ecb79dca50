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

TASKS = {
    "node-classification": "node",
    "node-multilabel": "node",
    "node-regression": "node",
    "graph-classification": "graph",
    "graph-multilabel": "graph",
    "graph-regression": "graph",
    "link-prediction": "link",
    "temporal-link-prediction": "temporal",
    "hypergraph-classification": "hypergraph",
    "hetero-classification": "hetero",
    "structure": "structure",
}
"""Every task, and the kind of data it is posed on; a structure is a graph without a task."""

METRICS = (
    *("accuracy", "rocauc", "ap", "f1", "rmse", "mae"),
    *("hits@20", "hits@50", "hits@100", "mrr"),
    "none",
)


@dataclass(frozen=True)
class Split:
    """One way to divide the nodes, graphs or edges; a size is one number, or one per column.

    With ``train_per_class`` or ``fractions`` (of train, val and test) it is drawn from a seed; with
    ``files`` it is read from them, one column each; with none it comes with the raw data. A test
    fraction of 0 keeps the test part of the raw data; ``stratified`` gives every part the classes
    in proportion, ``balanced`` the training part as many nodes of each class. ``within`` names the
    part of the raw data that is divided, "" all of it.
    """

    train: int | tuple[int, ...]
    val: int | tuple[int, ...]
    test: int | tuple[int, ...]
    train_per_class: int | None
    val_per_class: int | None
    fractions: tuple[float, float, float] | None
    path: str
    files: Mapping[str, str]
    stratified: bool = False
    balanced: bool = False
    within: str = ""


@dataclass(frozen=True)
class Download:
    """One file of the network: it is the raw file ``file``, or an archive.

    Of an archive the member ``unpack`` + rest is unpacked for every raw file that is called
    ``below`` + rest. ``size`` in bytes and ``sha256`` are 0 and "" where they are not known.
    """

    url: str
    file: str
    unpack: str | None
    below: str
    size: int
    sha256: str


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
    maps their names (below it, with "/") to sha256, "" where that is not known. ``options`` are
    given to the reader. ``counts`` must be found in the data; ``edges`` counts the columns of
    edge_index.
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
    counts: Mapping[str, Any]
    options: Mapping[str, Any]
    defects: tuple[str, ...]
    files: Mapping[str, str]
    downloads: tuple[Download, ...]
    splits: Mapping[str, Split]
    baselines: tuple[Baseline, ...]

    @property
    def kind(self) -> str:
        """The kind of data: node, graph, link, temporal, hypergraph, hetero or structure."""
        return TASKS[self.task]


Kind = type | tuple[type, ...]

_TEXT = ("title", "task", "reader", "path", "licence", "source", "citation", "metric")
_CARD: dict[str, Kind] = {
    **dict.fromkeys(_TEXT, str),
    **{"default_split": str, "counts": dict, "defects": list},
    **{"splits": dict, "files": dict, "baselines": list},
}
_CARD_OPTIONS: dict[str, Kind] = {"options": dict, "downloads": list}
_NODES: dict[str, Kind] = {"nodes": int, "edges": int, "features": int, "directed": bool}
_LABELS: dict[str, Kind] = {"classes": int, "targets": int}
_TYPED: dict[str, Kind] = {"nodes": dict, "edges": dict, "features": dict}
# for each kind, the counts a card must give and those it may give
_COUNTS: dict[str, tuple[dict[str, Kind], dict[str, Kind]]] = {
    "node": (_NODES, {**_LABELS, "edge_features": int, "class_sizes": list}),
    "graph": (
        {"graphs": int},
        {
            **{"nodes": int, "edges": int, "features": int, "edge_features": int},
            **{**_LABELS, "class_sizes": list},
        },
    ),
    "link": ({"nodes": int, "edges": int, "features": int}, {"edge_features": int}),
    "temporal": ({"nodes": int, "events": int, "features": int}, {}),
    "hypergraph": (
        {"nodes": int, "hyperedges": int, "incidences": int, "features": int, "classes": int},
        {"class_sizes": list},
    ),
    "hetero": (_TYPED, {"classes": int, "class_sizes": list}),
    "structure": ({"nodes": int, "edges": int, "directed": bool}, {"edge_features": int}),
}
_SIZES = ("train", "val", "test")
_SPLIT: dict[str, Kind] = dict.fromkeys(_SIZES, (int, list))
_SPLIT_OPTIONS: dict[str, Kind] = {
    **{"train_per_class": int, "val_per_class": int, "fractions": list, "stratified": bool},
    **{"balanced": bool, "within": str, "path": str, "files": dict},
}
_DOWNLOAD_OPTIONS: dict[str, Kind] = {
    **dict.fromkeys(("file", "unpack", "below", "sha256"), str),
    "size": int,
}
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
    top = _fields(where, "", table, _CARD, _CARD_OPTIONS)
    _one_of(where, "task", top["task"], TASKS)
    _one_of(where, "metric", top["metric"], METRICS)
    _folder(where, "path", top["path"])
    required, optional = _COUNTS[TASKS[top["task"]]]
    top["counts"] = _fields(where, "counts.", top["counts"], required, optional)
    splits = {key: _split(where, f"splits.{key}.", value) for key, value in top["splits"].items()}
    if splits or top["default_split"]:
        _one_of(where, "default_split", top["default_split"], splits)
    top["files"] = _files(where, "files", top["files"])
    top["defects"] = tuple(_typed(where, "defects", item, str) for item in top["defects"])
    rows = [_fields(where, "baselines.", row, _BASELINE) for row in top["baselines"]]
    for row in rows:
        _one_of(where, "baselines.split", row["split"], splits)
    top["baselines"] = tuple(Baseline(**row) for row in rows)
    known = [*top["files"], *(file for split in splits.values() for file in split.files)]
    top["downloads"] = tuple(_download(where, row, known) for row in top.get("downloads", []))
    return Card(name=name, **{"options": {}, **top, "splits": splits})


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
        if not re.fullmatch(r"[\w][\w.\-]*(/[\w][\w.\-]*)*", name):
            raise DataError(
                f"{where}: field {field!r} has {name!r}, which is not a file name below the "
                "folder, written with '/'."
            )
        _sha256(where, f"{field}.{name}", _typed(where, f"{field}.{name}", digest, str))
    return dict(table)


def _sha256(where: str, field: str, digest: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}|", digest):
        raise DataError(
            f"{where}: field {field!r} must be a sha256 of 64 hexadecimal digits in lower case, or "
            f"empty where it is not known, got {digest!r}."
        )


def _download(where: str, table: Any, files: list[str]) -> Download:
    prefix = "downloads."
    found = _fields(where, prefix, table, {"url": str}, _DOWNLOAD_OPTIONS)
    if not re.match(r"https?://", found["url"]):
        raise DataError(
            f"{where}: field 'downloads.url' must begin with http:// or https://, "
            f"got {found['url']!r}."
        )
    if ("file" in found) == ("unpack" in found):
        raise DataError(
            f"{where}: the download {found['url']} needs 'file', the raw file it is, or 'unpack', "
            "the place of the raw files in the archive it is, and not both."
        )
    if "file" in found and found["file"] not in files:
        raise DataError(
            f"{where}: field 'downloads.file' is {found['file']!r}. {nearest(found['file'], files)}"
        )
    _sha256(where, f"{prefix}sha256", found.get("sha256", ""))
    return Download(**{"file": "", "unpack": None, "below": "", "size": 0, "sha256": "", **found})


def _split(where: str, prefix: str, table: Any) -> Split:
    found = _fields(where, prefix, table, _SPLIT, _SPLIT_OPTIONS)
    files = _files(where, f"{prefix}files", found.get("files", {}))
    _folder(where, f"{prefix}path", found.get("path", ""))
    sizes = [_size(where, prefix + key, found[key], len(files)) for key in _SIZES]
    fractions = found.get("fractions")
    if fractions is not None and (len(fractions) != 3 or {type(f) for f in fractions} != {float}):
        raise DataError(
            f"{where}: field '{prefix}fractions' must be three decimal numbers, got {fractions!r}."
        )
    for name in ("stratified", "balanced"):
        if found.get(name) and fractions is None:
            raise DataError(f"{where}: field '{prefix}{name}' needs '{prefix}fractions'. Add them.")
    if found.get("stratified") and found.get("balanced"):
        raise DataError(
            f"{where}: '{prefix}stratified' and '{prefix}balanced' exclude each other. Give one."
        )
    within = found.get("within", "")
    if within:
        _one_of(where, f"{prefix}within", within, _SIZES)
        if not found.get("stratified"):
            raise DataError(f"{where}: '{prefix}within' needs '{prefix}stratified'. Add it.")
    return Split(
        *sizes,
        train_per_class=found.get("train_per_class"),
        val_per_class=found.get("val_per_class"),
        fractions=None if fractions is None else (fractions[0], fractions[1], fractions[2]),
        path=found.get("path", ""),
        files=files,
        stratified=found.get("stratified", False),
        balanced=found.get("balanced", False),
        within=within,
    )


def _size(where: str, field: str, value: int | list[Any], num_files: int) -> int | tuple[int, ...]:
    if isinstance(value, int):
        return value
    if num_files and len(value) != num_files:
        raise DataError(
            f"{where}: field {field!r} lists {len(value)} sizes for {num_files} files. "
            "Give one per file, or one number if they are all equal."
        )
    return tuple(_typed(where, field, number, int) for number in value)
