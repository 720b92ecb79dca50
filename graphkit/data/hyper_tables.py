"""A user's own hypergraph, read by its path and written. (opt: pandas)

Two forms: a folder of tables ``nodes``, ``members`` (one row for each incidence) and maybe
``hyperedges`` and ``splits``, each csv or parquet; or a json file, either in the Hypergraph
Interchange Format or as lists of members.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, GraphError
from ..store import atomic
from .assemble import MASKS, assemble
from .check_kinds import check_hypergraph
from .columns import NodeIndex, Table, find, open_table
from .hyper_json import names_of_hyperedges, node_columns, read_json, unless_numbers, write_json
from .raw import Raw
from .tables import check_columns, need_columns, node_parts, read_settings
from .targets import drawn_split

_log = logging.getLogger(__name__)

_SUFFIXES = (".csv", ".parquet")


def is_hypergraph(path: str | os.PathLike[str]) -> bool:
    """Does ``path`` lead to a hypergraph: a json file, or a folder with a table ``members``?"""
    place = Path(path).expanduser()
    if place.is_dir():
        return find(place, "members", _SUFFIXES) is not None
    return place.suffix == ".json" and place.is_file()


def read_hypergraph(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    allow_nonfinite: bool = False,
    labelled: bool | None = True,
) -> Any:
    """A hypergraph of yours as PyG's ``HyperGraphData``, as :func:`check_hypergraph` wants it.

    edge_index int64 [2, I], row 0 nodes, row 1 hyperedges, sorted by hyperedge, then node, each
    pair once (repetitions are counted in a warning); y and masks as from :func:`read_folder`; x
    float32 [N, F] where the files have features; hyperedge_weight float32 [M] where they have
    weights. ``num_hyperedges``, ``name``, and ``num_classes``, ``class_names``, ``node_names``,
    ``hyperedge_names`` where they have a meaning, are plain attributes. The arguments are those of
    :func:`read_folder`.

    Raises:
        DataError: the content is malformed; the message names the file.
        StoreError: a file cannot be read.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        parts, names = _from_tables(place, allow_nonfinite, labelled)
    else:
        parts, names = read_json(place, labelled)
    name = place.stem if place.is_file() else place.resolve().name
    try:
        return _assembled(parts, names, name, seed, labelled, allow_nonfinite)
    except (DataError, GraphError) as error:
        raise DataError(f"{place}: {error}") from None


def write_hypergraph(data: Any, path: str | os.PathLike[str]) -> None:
    """Write PyG's ``HyperGraphData`` to a json file, or as csv tables into another folder.

    :func:`read_hypergraph` gives the same incidences, weights, features, masks and classes, the
    latter numbered anew if some are empty. Raises what :func:`check_hypergraph` does, and
    :class:`StoreError` if a file cannot be written.
    """
    check_hypergraph(data)
    place = Path(path).expanduser()
    (write_json if place.suffix == ".json" else _write_tables)(data, place)


def _assembled(
    parts: dict[str, Any],
    names: Mapping[str, Any],
    name: str,
    seed: int,
    labelled: bool | None,
    allow_nonfinite: bool,
) -> Any:
    pair = torch.unique(parts["hyperedge_index"].flip(0), dim=1)
    repeated = parts["hyperedge_index"].size(1) - pair.size(1)
    if repeated:
        _log.warning("%s: %d incidences repeat another one; each counts once", name, repeated)
    parts["hyperedge_index"] = pair.flip(0)
    y: Tensor = parts["y"]
    if labelled and MASKS[0] not in parts:
        parts |= dict(zip(MASKS, drawn_split(y, seed, name), strict=True))
    class_names = parts.pop("class_names", None)
    count = None
    if not y.is_floating_point():
        count = int(y.max()) + 1 if class_names is None else len(class_names)
    meta = {"num_nodes": len(y), "num_hyperedges": parts.pop("num_hyperedges")}
    data = assemble("hypergraph", Raw(parts, meta), name, count)
    more = {"class_names": class_names, **names}
    vars(data).update({key: value for key, value in more.items() if value is not None})
    return check_hypergraph(data, labelled=bool(labelled), allow_nonfinite=allow_nonfinite)


def _from_tables(
    place: Path, allow_nonfinite: bool, labelled: bool | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a HyperGraphData is made of, and the names of nodes and hyperedges."""
    settings = read_settings(place / "graph.toml")
    stems = ("nodes", "members", "hyperedges", "splits", "edges")
    nodes, members, hyperedges, splits, edges = (open_table(place, stem) for stem in stems)
    if nodes is None or members is None or edges is not None:
        here = ", ".join(sorted(item.name for item in place.iterdir())) or "nothing"
        raise DataError(
            f"{place} must hold nodes and members, each .csv or .parquet, and no edges, to be a "
            f"hypergraph. It holds {here}."
        )
    named = settings.columns
    parts, index = node_parts(nodes, splits, settings, allow_nonfinite, labelled, bare=True)
    ends = named.get("node", "node"), named.get("hyperedge", "hyperedge")
    need_columns(members, ends)
    text, _ = members.read(ends, [])
    node = index.rows(members, ends[0], text[ends[0]])
    if hyperedges is None:
        hyperedge, hyperedge_names = _numbered(members, ends[1], text[ends[1]])
    else:
        known, weight = _hyperedges(hyperedges, named)
        hyperedge, hyperedge_names = known.rows(members, ends[1], text[ends[1]]), known.names
        if weight is not None:
            parts["hyperedge_weight"] = weight
    parts["hyperedge_index"] = torch.from_numpy(np.stack([node, hyperedge]))
    parts["num_hyperedges"] = len(hyperedge_names)
    names = {"node_names": index.names, "hyperedge_names": hyperedge_names}
    return parts, {key: unless_numbers(of) for key, of in names.items()}


def _hyperedges(table: Table, named: Mapping[str, Any]) -> tuple[NodeIndex, Tensor | None]:
    """The hyperedges by id, and their weights where there are some."""
    need_columns(table, ["id"])
    weight = named.get("weight") or ("weight" if "weight" in table.names else None)
    columns = [weight] if weight else []
    need_columns(table, columns)
    text, values = table.read(["id"], columns)
    check_columns(table, columns, values, "Fill it in")
    index = NodeIndex(table, text["id"], len(values), "hyperedge")
    return index, torch.from_numpy(values[:, 0].astype(np.float32)) if weight else None


def _numbered(members: Table, column: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hyperedges in the order of their first row."""
    import pandas as pd

    if (ids == "").any():
        row = int((ids == "").argmax())
        raise DataError(f"{members.path}, {members.place(row)}: no {column}. Give every row one.")
    number, names = pd.factorize(ids)
    return number.astype(np.int64), np.asarray(names, dtype=object)


def _write_tables(data: Any, place: Path) -> None:
    nodes = node_columns(data)
    x = getattr(data, "x", None)
    features = [] if x is None else [f"x{k}" for k in range(x.size(1))]
    rows = zip(*nodes.values(), strict=True)
    values = [[]] * len(next(iter(nodes.values()))) if x is None else x.tolist()
    _write_csv(
        place / "nodes.csv",
        [*nodes, *features],
        ([*row, *of] for row, of in zip(rows, values, strict=True)),
    )
    names = names_of_hyperedges(data)
    weight = getattr(data, "hyperedge_weight", None)
    lists = [names] if weight is None else [names, weight.tolist()]
    header = ["id"] if weight is None else ["id", "weight"]
    _write_csv(place / "hyperedges.csv", header, zip(*lists, strict=True))
    node, hyperedge = data.edge_index.tolist()
    ids = nodes["id"]
    pairs = ((ids[v], names[e]) for v, e in zip(node, hyperedge, strict=True))
    _write_csv(place / "members.csv", ["node", "hyperedge"], pairs)


def _write_csv(path: Path, header: list[str], rows: Any) -> None:
    with atomic(path) as side, side.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
