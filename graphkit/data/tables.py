"""A user's own graph, read by its path. (opt: pandas, torch_geometric)

Three forms: a folder of tables ``nodes``, ``edges`` and maybe ``splits``, each csv or parquet; an
npz; a folder of arrays called like PyG's tensors. Beside tables and arrays may lie ``graph.toml``,
whose keys are ``undirected``, ``task`` and ``[columns]`` with the names that columns have.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, nearest
from .arrays import NAMES, is_arrays, open_npy, read_arrays, read_npz
from .check import check, check_inputs
from .columns import Csv, NodeIndex, Parquet, Table, content, open_table
from .graphs import MASKS
from .readers.pairs import single
from .targets import TASKS, drawn_split, from_texts, unlabelled

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

if TYPE_CHECKING:
    from torch_geometric.data import Data

_log = logging.getLogger(__name__)

_WORDS = ("train", "val", "test")
_KEYS = {"undirected": bool, "task": str, "columns": dict}
_LISTS = ("label", "split", "features")
_COLUMNS = {
    **dict.fromkeys(("id", "source", "target", "weight", "node", "hyperedge"), str),
    **dict.fromkeys(_LISTS, list),
}


@dataclass(frozen=True)
class Settings:
    """The content of graph.toml; ``columns`` has a list of names for each of ``_LISTS``."""

    undirected: bool = False
    task: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


def read_folder(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    allow_nonfinite: bool = False,
    labelled: bool | None = True,
) -> Data:
    """A graph of yours from a folder or an npz, as :func:`graphkit.data.check` wants it.

    x float32 [N, F]; y int64 [N] of classes, -1 where not known, or float32 [N, T] of values or of
    labels 0 and 1, NaN where not known; edge_index int64 [2, E]; train_mask, val_mask, test_mask
    bool [N] or [N, S]; maybe edge_weight float32 [E] and edge_attr float32 [E, D]. ``name`` is that
    of the folder or file; ``num_classes`` is there for classes, ``class_names`` if they were
    renumbered. Nodes and edges keep their order.

    Args:
        path: see docs/own-data.md for what may lie there.
        seed: draws a split of 60, 20 and 20 per cent where the data brings none.
        allow_nonfinite: accept NaN and Inf in x; what is missing in the file becomes NaN.
        labelled: False is for data to predict: without labels y is -1 everywhere, and masks may
            be empty. None leaves labels and masks unread, whatever they hold: y is -1 everywhere.

    Raises:
        DataError: the content is malformed; the message names file, line and column.
        StoreError: a file cannot be read.
        BackendError: pandas, or pyarrow for parquet, is not installed.
    """
    from torch_geometric.data import Data

    place = Path(path).expanduser()
    parts, undirected = _read(place, allow_nonfinite, labelled)
    try:
        data = check_inputs(Data(**parts), allow_nonfinite=allow_nonfinite)
        if labelled and MASKS[0] not in parts:
            for name, mask in zip(MASKS, drawn_split(parts["y"], seed, place), strict=True):
                data[name] = mask
        data = check(data, allow_nonfinite=True) if labelled else data
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    if undirected:
        _add_reverses(data)
    data.name = place.stem if place.is_file() else place.resolve().name
    if not parts["y"].is_floating_point():
        names = parts.get("class_names")
        data.num_classes = int(parts["y"].max()) + 1 if names is None else len(names)
    return data


def read_rows(path: Path) -> tuple[Tensor, np.ndarray | None]:
    """Features alone, float32 [N, F], from an npy, csv or parquet file; and the ids of the rows.

    The columns of a table are read as those of nodes: a column id names the rows, labels and parts
    of a split are passed over, and x0, x1, ... are the features if they are there, else all others.

    Raises:
        StoreError: the file cannot be read.
        DataError: it is malformed, has no rows, or holds what is no finite number.
    """
    if path.suffix == ".npy":
        array, ids = open_npy(path), None
        if array.ndim != 2 or array.dtype.kind not in "iubf" or not array.size:
            raise DataError(
                f"{path} is {array.dtype} of shape {list(array.shape)}, but numbers [N, F] are "
                "expected: a row of features for each prediction. Save it so."
            )
        values = single(array)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = bad[0].tolist()
            raise DataError(
                f"{path}[{row}, {column}] is {values[row, column]} in float32, but a finite number "
                f"is expected. Fill it in; {len(bad)} values are so."
            )
    else:
        table = Csv(path) if path.suffix == ".csv" else Parquet(path)
        name = _id_name(table, {})
        named = [name] if name else []
        aside = [*named, *_label_names(table, None, None), *_split_names(table, None, False)]
        features = _feature_names(table, None, aside, bare=False)
        remedy = "Encode texts as numbers, as in the data of the run."
        texts, numbers = table.read(named, features, remedy)
        check_columns(table, features, numbers, "Fill it in")
        values, ids = single(numbers), texts[name] if name else None
    return torch.from_numpy(np.ascontiguousarray(values)), ids


def node_index(path: str | os.PathLike[str]) -> NodeIndex | None:
    """The rows of nodes by the ids that a folder of tables gives them; None where it gives none."""
    place = Path(path).expanduser()
    nodes = open_table(place, "nodes") if place.is_dir() else None
    name = _id_name(nodes, read_settings(place / "graph.toml").columns) if nodes else None
    if nodes is None or name is None:
        return None
    ids = nodes.read([name], [])[0][name]
    return NodeIndex(nodes, ids, len(ids))


def end_columns(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The columns of ``edges`` that name the nodes of an edge, in a folder of tables of yours."""
    place = Path(path).expanduser()
    return _ends(read_settings(place / "graph.toml").columns if place.is_dir() else {})


def _ends(named: Mapping[str, Any]) -> tuple[str, str]:
    return named.get("source", "source"), named.get("target", "target")


def _read(place: Path, allow_nonfinite: bool, labelled: bool | None) -> tuple[dict[str, Any], bool]:
    """What a Data is made of, and whether every edge goes both ways."""
    if not place.exists():
        raise DataError(
            f"There is no file or folder {place}. Give the path of a folder with nodes and edges, "
            "or of an npz; graphkit data list shows the data sets that have a name."
        )
    if place.is_file():
        if place.suffix != ".npz":
            raise DataError(
                f"{place} is a file, but a folder or an npz is expected. Give the folder it is in."
            )
        return read_npz(place, labelled), False
    settings = read_settings(place / "graph.toml")
    nodes, edges, splits = (open_table(place, stem) for stem in ("nodes", "edges", "splits"))
    arrays = is_arrays(place)
    if arrays and not (nodes or edges or splits):
        if settings.columns:
            raise DataError(
                f"{place / 'graph.toml'} has [columns], but these arrays have none. Remove it."
            )
        return read_arrays(place, settings.task, labelled), settings.undirected
    if nodes is None or edges is None or arrays:
        here = ", ".join(sorted(item.name for item in place.iterdir())) or "nothing"
        raise DataError(
            f"{place} must hold nodes and edges, each .csv or .parquet, or else {', '.join(NAMES)},"
            f" each .npy or .csv. It holds {here}."
        )
    parts, index = node_parts(nodes, splits, settings, allow_nonfinite, labelled)
    return parts | _edge_parts(edges, settings.columns, index), settings.undirected


def read_settings(path: Path) -> Settings:
    """What a ``graph.toml`` says, the defaults where there is none."""
    if not path.exists():
        return Settings()
    try:
        table = tomllib.loads(content(path).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from None
    _check_keys(path, "", table, _KEYS)
    task = table.get("task")
    if task is not None and task not in TASKS:
        raise DataError(f"{path}: task is {task!r}. {nearest(task, TASKS)}")
    columns = dict(table.get("columns", {}))
    for key in _LISTS:
        if isinstance(columns.get(key), str):
            columns[key] = [columns[key]]
    _check_keys(path, "columns.", columns, _COLUMNS)
    return Settings(table.get("undirected", False), task, columns)


def _check_keys(path: Path, prefix: str, table: Mapping[str, Any], known: dict[str, type]) -> None:
    for key, value in table.items():
        if key not in known:
            raise DataError(f"{path}: unknown key {prefix + key!r}. {nearest(key, known)}")
        names = [value] if known[key] is not list else value
        inner = str if known[key] is list else known[key]
        fits = isinstance(names, list) and names and all(type(name) is inner for name in names)
        if not fits:
            wanted = "a list of names" if known[key] is list else known[key].__name__
            raise DataError(f"{path}: {prefix + key!r} must be {wanted}, got {value!r}.")


def node_parts(
    nodes: Table,
    splits: Table | None,
    settings: Settings,
    allow_nonfinite: bool,
    labelled: bool | None,
    bare: bool = False,
) -> tuple[dict[str, Any], NodeIndex]:
    """What tables say of nodes: x, y, masks, class_names; and their rows by id.

    x is left out where ``bare`` nodes, those without a column of features, are allowed.
    """
    named, unread = settings.columns, labelled is None
    splits = None if unread else splits
    id_name = _id_name(nodes, named)
    labels = _label_names(nodes, named.get("label"), labelled)
    needed = "split" in named and splits is None
    words = _split_names(nodes, named.get("split"), required=needed)
    if words and splits is not None:
        raise DataError(
            f"{nodes.path} has a column {words[0]!r}, and there is {splits.path.name} too. Leave "
            "one of them out."
        )
    ids = [id_name] if id_name else []
    texts = ids if unread else [*ids, *labels, *words]
    features = _feature_names(nodes, named.get("features"), [*ids, *labels, *words], bare)
    need_columns(nodes, [*texts, *features])
    text, values = nodes.read(texts, features)
    if not allow_nonfinite:
        remedy = "Fill it in, or pass allow_nonfinite=True to keep it as NaN"
        check_columns(nodes, features, values, remedy)
    index = NodeIndex(nodes, text[id_name] if id_name else None, len(values))
    targets = unlabelled(len(values))
    if labels and not unread:
        targets = from_texts(
            np.stack([text[name] for name in labels], axis=1),
            settings.task,
            lambda row, column: f"{nodes.path}, {nodes.place(row)}, column {labels[column]!r}",
            bool(labelled),
        )
    parts: dict[str, Any] = {"x": torch.from_numpy(single(values))} if features else {}
    parts["y"] = targets.y
    if targets.class_names is not None:
        parts["class_names"] = targets.class_names
    if splits is not None:
        parts |= _split_parts(splits, named, index)
    elif words and not unread:
        parts |= _masks(nodes, [text[name] for name in words], words, np.arange(len(values)), index)
    return parts, index


def _id_name(nodes: Table, named: Mapping[str, Any]) -> str | None:
    return named.get("id") or ("id" if "id" in nodes.names else None)


def _label_names(nodes: Table, named: list[str] | None, labelled: bool | None) -> list[str]:
    """``y``, or ``y0``, ``y1``, ... by number, or those that begin with ``y_``."""
    if named and (labelled or any(name in nodes.names for name in named)):
        return named
    kinds = [
        [name for name in nodes.names if name == "y"],
        _numbered(nodes.names, "y"),
        [name for name in nodes.names if name.startswith("y_")],
    ]
    found = [kind for kind in kinds if kind]
    if labelled is None or not (found or labelled):
        return [name for kind in found for name in kind]
    if len(found) != 1:
        both = f"{found[0][0]!r} and {found[1][0]!r}" if found else "none"
        raise DataError(
            f"{nodes.path}: the labels stand in a column y, or in y0, y1, ..., or in y_NAME, ..., "
            f"one of the three, but there are {both} among {_listed(nodes.names)}. "
            "Rename them, or set label under [columns] in graph.toml."
        )
    return found[0]


def _split_names(table: Table, named: list[str] | None, required: bool) -> list[str]:
    if named and (required or any(name in table.names for name in named)):
        return named
    found = ["split"] if "split" in table.names else _numbered(table.names, "split")
    return found or (["split"] if required else [])


def _feature_names(
    nodes: Table, named: list[str] | None, others: Sequence[str], bare: bool
) -> list[str]:
    """The features listed; else ``x0``, ``x1``, ... if they are there; else all that is left."""
    left = [name for name in nodes.names if name not in others]
    numbered = _numbered(left, "x")
    counted = numbered == [f"x{k}" for k in range(len(numbered))]
    chosen = named or (numbered if counted else []) or left
    if not chosen and not bare:
        raise DataError(
            f"{nodes.path} has no column of features, only {_listed(nodes.names)}. Add one, such "
            "as the number of neighbours of each node."
        )
    unused = [name for name in left if name not in chosen]
    if unused:
        _log.warning("%s: columns not used: %s", nodes.path, _listed(unused))
    return chosen


def _numbered(names: Sequence[str], prefix: str) -> list[str]:
    found = [name for name in names if re.fullmatch(f"{prefix}(0|[1-9][0-9]*)", name)]
    return sorted(found, key=lambda name: int(name[len(prefix) :]))


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more


def need_columns(table: Table, names: Sequence[str]) -> None:
    """Raise :class:`DataError` for a column that is not there, or asked for twice."""
    for name in names:
        if name not in table.names:
            raise DataError(
                f"{table.path} has no column {name!r}, only {_listed(table.names)}. Columns are "
                "separated by commas; other names are given under [columns] in graph.toml."
            )
        if names.count(name) > 1:
            raise DataError(
                f"{table.path}: the column {name!r} is asked for twice. Correct [columns] in "
                "graph.toml."
            )


def check_columns(table: Table, names: Sequence[str], values: np.ndarray, remedy: str) -> None:
    """Raise :class:`DataError` for the first of ``values [R, K]`` that is no number."""
    bad = np.argwhere(~np.isfinite(single(values)))
    if len(bad):
        row, column = bad[0].tolist()
        value = values[row, column]
        found = "nothing" if np.isnan(value) else f"{value:g}, more than float32 holds"
        raise DataError(
            f"{table.path}, {table.place(row)}, column {names[column]!r}: {found}, but a number is "
            f"expected. {remedy}; {len(bad)} values are so."
        )


def _edge_parts(edges: Table, named: Mapping[str, Any], index: NodeIndex) -> dict[str, Tensor]:
    ends = _ends(named)
    weight = named.get("weight") or ("weight" if "weight" in edges.names else None)
    first = [weight] if weight else []
    values_of = [*first, *(name for name in edges.names if name not in (*ends, *first))]
    need_columns(edges, [*ends, *values_of])
    text, values = edges.read(ends, values_of)
    check_columns(edges, values_of, values, "Fill it in")
    rows = [index.rows(edges, name, text[name]) for name in ends]
    parts = {"edge_index": torch.from_numpy(np.stack(rows))}
    numbers = torch.from_numpy(single(values))
    if weight:
        parts["edge_weight"] = numbers[:, 0].contiguous()
    if len(values_of) > len(first):
        parts["edge_attr"] = numbers[:, len(first) :].contiguous()
    return parts


def _split_parts(splits: Table, named: Mapping[str, Any], index: NodeIndex) -> dict[str, Tensor]:
    id_name = named.get("id", "id")
    words = _split_names(splits, named.get("split"), required=True)
    need_columns(splits, [id_name, *words])
    text, _ = splits.read([id_name, *words], [])
    rows = index.rows(splits, id_name, text[id_name])
    if len(np.unique(rows)) < len(rows):
        seen, first = np.unique(rows, return_index=True)
        row = int(np.setdiff1d(np.arange(len(rows)), first)[0])
        raise DataError(
            f"{splits.path}, {splits.place(row)}: the node {text[id_name][row]!r} was there "
            "before. Give every node one row, with a column split0, split1, ... for each split."
        )
    return _masks(splits, [text[name] for name in words], words, rows, index)


def _masks(
    table: Table, columns: list[np.ndarray], names: list[str], rows: np.ndarray, index: NodeIndex
) -> dict[str, Tensor]:
    """The masks [N] or [N, S] of columns of words, whose entries belong to the nodes ``rows``."""
    words = np.stack(columns, axis=1)
    wrong = np.argwhere(~np.isin(words, ("", *_WORDS)))
    if len(wrong):
        row, column = wrong[0].tolist()
        word = str(words[row, column])
        raise DataError(
            f"{table.path}, {table.place(row)}, column {names[column]!r}: unknown part {word!r}; "
            f"empty is for none. {nearest(word, _WORDS)}"
        )
    masks: dict[str, Tensor] = {}
    for word, name in zip(_WORDS, MASKS, strict=True):
        mask = np.zeros((index.size, len(names)), dtype=bool)
        mask[rows] = words == word
        masks[name] = torch.from_numpy(mask[:, 0].copy() if len(names) == 1 else mask)
    return masks


def _add_reverses(data: Data) -> None:
    """Every edge of ``data`` both ways and once; numbers of merged edges are their mean."""
    from torch_geometric.utils import to_undirected

    names = [name for name in ("edge_weight", "edge_attr") if name in data]
    numbers = [data[name] for name in names]
    data.edge_index, values = to_undirected(data["edge_index"], numbers, data.num_nodes, "mean")
    for name, value in zip(names, values, strict=True):
        data[name] = value
