"""A user's own hypergraph, read by its path and written. (opt: pandas)

Two forms: a folder of tables ``nodes``, ``members`` (one row for each incidence) and maybe
``hyperedges`` and ``splits``, each csv or parquet; or a json file, either in the Hypergraph
Interchange Format or as lists of members.
"""

from __future__ import annotations

import csv
import json
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
from ..structure import from_members
from .assemble import MASKS, PARTS, assemble
from .check_kinds import check_hypergraph
from .columns import NodeIndex, Table, content, find, open_table
from .raw import Raw
from .tables import check_columns, need_columns, node_parts, read_settings
from .targets import Targets, drawn_split, from_texts, unlabelled

_log = logging.getLogger(__name__)

_SUFFIXES = (".csv", ".parquet")
_LISTS = ("hyperedges", "weights", "num_nodes", "x", "y", "split")


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
        parts, names = _from_json(place, labelled)
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
    (_write_json if place.suffix == ".json" else _write_tables)(data, place)


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


# --- tables ---


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
    return parts, {key: _unless_numbers(of) for key, of in names.items()}


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


def _unless_numbers(names: np.ndarray) -> list[str] | None:
    return None if list(names) == [str(at) for at in range(len(names))] else names.tolist()


def _write_tables(data: Any, place: Path) -> None:
    nodes = _node_columns(data)
    x = getattr(data, "x", None)
    features = [] if x is None else [f"x{k}" for k in range(x.size(1))]
    rows = zip(*nodes.values(), strict=True)
    values = [[]] * len(next(iter(nodes.values()))) if x is None else x.tolist()
    _write_csv(
        place / "nodes.csv",
        [*nodes, *features],
        ([*row, *of] for row, of in zip(rows, values, strict=True)),
    )
    names = _hyperedge_names(data)
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


def _node_columns(data: Any) -> dict[str, list[Any]]:
    """Columns id, y or y0, ..., and split or split0, ... of every node."""
    count = data["num_nodes"] if "num_nodes" in data else len(data.x)
    names = getattr(data, "node_names", None)
    columns: dict[str, list[Any]] = {"id": names or [str(node) for node in range(count)]}
    y = getattr(data, "y", None)
    if y is not None and y.is_floating_point():
        table = y.reshape(count, -1).t().tolist()
        columns |= {f"y{k}": ["" if v != v else v for v in of] for k, of in enumerate(table)}
    elif y is not None:
        words = getattr(data, "class_names", None)
        columns["y"] = ["" if c < 0 else words[c] if words else c for c in y.tolist()]
    if getattr(data, MASKS[0], None) is not None:
        masks = torch.stack([data[mask].reshape(count, -1) for mask in MASKS])
        for k, of in enumerate(masks.unbind(2)):
            chosen = (of * torch.arange(1, 4)[:, None]).sum(0).tolist()
            name = "split" if masks.size(2) == 1 else f"split{k}"
            columns[name] = [("", *PARTS)[at] for at in chosen]
    return columns


def _hyperedge_names(data: Any) -> list[str]:
    names = getattr(data, "hyperedge_names", None)
    count = getattr(data, "num_hyperedges", None)
    if count is None:
        count = int(data.edge_index[1].max()) + 1
    return names or [str(number) for number in range(count)]


# --- json ---


def _from_json(place: Path, labelled: bool | None) -> tuple[dict[str, Any], dict[str, Any]]:
    if not place.is_file():
        raise DataError(f"There is no file or folder {place}. Give the path of one.")
    try:
        found = json.loads(content(place).decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{place} is not valid JSON: {error}.") from None
    if isinstance(found, list):
        found = {"hyperedges": found}
    if isinstance(found, dict) and "incidences" in found:
        return _from_hif(found, place, labelled)
    if isinstance(found, dict) and "hyperedges" in found:
        return _from_lists(found, place, labelled)
    raise DataError(
        f"{place}: expected an object with 'hyperedges' (lists of members), or with 'incidences' "
        "(the Hypergraph Interchange Format)."
    )


def _from_lists(
    found: Mapping[str, Any], place: Path, labelled: bool | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    unknown = [key for key in found if key not in _LISTS]
    if unknown:
        raise DataError(f"{place}: unknown key {unknown[0]!r}. Known: {', '.join(_LISTS)}.")
    members, count = found["hyperedges"], found.get("num_nodes")
    if not isinstance(members, (list, dict)) or not (count is None or type(count) is int):
        raise DataError(
            f"{place}: 'hyperedges' must be a list of lists, or an object of them, and 'num_nodes' "
            "a whole number."
        )
    told = [found[key] for key in ("x", "y", "split") if found.get(key) is not None]
    if not all(isinstance(of, list) for of in told):
        raise DataError(f"{place}: 'x', 'y' and 'split' must be lists with an entry for each node.")
    if count is None and told:
        count = len(told[0])
    try:
        h = from_members(members, count)
    except GraphError as error:
        raise DataError(f"{place}: {error}") from None
    nodes: list[dict[str, Any]] = [{} for _ in range(h.num_dst)]
    for key in ("x", "y", "split"):
        values = found.get(key)
        if values is None:
            continue
        if len(values) != h.num_dst:
            raise DataError(
                f"{place}: {key!r} has {len(values)} entries, but there are {h.num_dst} nodes."
            )
        for node, value in zip(nodes, values, strict=True):
            node[key] = value
    parts = _attributes(nodes, place, labelled)
    parts |= _weights(found.get("weights"), h.num_src, place)
    parts["hyperedge_index"] = h.edge_index().flip(0)
    parts["num_hyperedges"] = h.num_src
    names = list(map(str, members)) if isinstance(members, dict) else None
    return parts, {"hyperedge_names": names}


def _from_hif(
    found: Mapping[str, Any], place: Path, labelled: bool | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    if found.get("network-type") == "directed":
        raise DataError(f"{place}: the hypergraph is directed, which is not read. Join its ends.")
    nodes, node_at = _records(found, "nodes", "node", place)
    edges, edge_at = _records(found, "edges", "edge", place)
    pairs: list[list[int]] = []
    for at, one in enumerate(_list(found, "incidences", place)):
        pair: list[int] = []
        for key, names, of in (("node", node_at, nodes), ("edge", edge_at, edges)):
            name = one.get(key) if isinstance(one, dict) else None
            if not isinstance(name, (str, int)):
                raise DataError(f"{place}: incidences[{at}] must have a 'node' and an 'edge'.")
            if name not in names:
                # what is listed is listed whole; without a list, order of appearance
                if f"{key}s" in found:
                    raise DataError(
                        f"{place}: incidences[{at}] names {name!r}, which is not among the {key}s."
                    )
                names[name] = len(names)
                of.append({})
            pair.append(names[name])
        pairs.append(pair)
    if not edges:
        raise DataError(f"{place}: there is no hyperedge, but at least one is expected.")
    parts = _attributes([one.get("attrs") or {} for one in nodes], place, labelled)
    weights = [one.get("weight") for one in edges]
    told = weights if any(w is not None for w in weights) else None
    parts |= _weights(told, len(edges), place)
    parts["hyperedge_index"] = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).t()
    parts["num_hyperedges"] = len(edges)
    names = {"node_names": node_at, "hyperedge_names": edge_at}
    return parts, {
        key: _unless_numbers(np.array([str(one) for one in of], dtype=object))
        for key, of in names.items()
    }


def _list(found: Mapping[str, Any], key: str, place: Path) -> list[Any]:
    value = found.get(key, [])
    if not isinstance(value, list):
        raise DataError(f"{place}: {key!r} must be a list, got {type(value).__name__}.")
    return value


def _records(
    found: Mapping[str, Any], plural: str, key: str, place: Path
) -> tuple[list[dict[str, Any]], dict[str | int, int]]:
    """The records of nodes or edges, and the place of each name."""
    records, names = _list(found, plural, place), {}
    for at, one in enumerate(records):
        name = one.get(key) if isinstance(one, dict) else None
        if not isinstance(name, (str, int)) or name in names:
            raise DataError(f"{place}: {plural}[{at}] must have a {key!r} of its own, got {one!r}.")
        names[name] = at
    return list(records), names


def _attributes(nodes: list[dict[str, Any]], place: Path, labelled: bool | None) -> dict[str, Any]:
    """x, y and masks of nodes, from what each of them says of itself."""
    parts: dict[str, Any] = {}
    told = [node.get("x") for node in nodes]
    if any(one is not None for one in told):
        try:
            parts["x"] = torch.tensor(told, dtype=torch.float32)
        except (TypeError, ValueError):
            parts["x"] = torch.empty(0)
        if parts["x"].dim() != 2:
            raise DataError(f"{place}: 'x' must be a list of numbers, as many for each node.")
    texts = ["" if node.get("y") is None else str(node["y"]) for node in nodes]
    targets: Targets = unlabelled(len(nodes))
    if labelled is not None and nodes:
        column = np.array(texts, dtype=object)[:, None]
        targets = from_texts(column, None, lambda row, _: f"{place}, node {row}", bool(labelled))
    parts["y"] = targets.y
    if targets.class_names is not None:
        parts["class_names"] = targets.class_names
    words = [node.get("split") or "" for node in nodes]
    if any(words) and labelled is not None:
        wrong = next((at for at, word in enumerate(words) if word not in ("", *PARTS)), None)
        if wrong is not None:
            raise DataError(
                f"{place}: node {wrong} is in the part {words[wrong]!r}, but train, val, test or "
                "none is expected."
            )
        for part, mask in zip(PARTS, MASKS, strict=True):
            parts[mask] = torch.tensor([word == part for word in words])
    return parts


def _weights(weights: Any, count: int, place: Path) -> dict[str, Tensor]:
    if weights is None:
        return {}
    fits = isinstance(weights, list) and all(type(w) in (int, float) for w in weights)
    if not fits or len(weights) != count:
        raise DataError(f"{place}: expected a weight for each of {count} hyperedges, all numbers.")
    return {"hyperedge_weight": torch.tensor(weights, dtype=torch.float32)}


def _write_json(data: Any, path: Path) -> None:
    """The Hypergraph Interchange Format, with x, y and split as attributes of nodes."""
    columns = _node_columns(data)
    if any(name not in ("id", "y", "split") for name in columns):
        raise DataError(
            f"{path}: json holds one class and one split of each node, but there are columns "
            f"{', '.join(columns)}. Write tables: give the path of a folder."
        )
    x = getattr(data, "x", None)
    values = None if x is None else x.tolist()
    nodes: list[dict[str, Any]] = []
    for at, name in enumerate(columns["id"]):
        attrs = {key: columns[key][at] for key in ("y", "split") if key in columns}
        attrs = {key: value for key, value in attrs.items() if value != ""}
        nodes.append(
            {"node": name, "attrs": attrs if values is None else {**attrs, "x": values[at]}}
        )
    names, weight = _hyperedge_names(data), getattr(data, "hyperedge_weight", None)
    edges = [{"edge": name} for name in names]
    if weight is not None:
        edges = [{"edge": n, "weight": w} for n, w in zip(names, weight.tolist(), strict=True)]
    pairs = zip(*data.edge_index.tolist(), strict=True)
    incidences = [{"node": columns["id"][v], "edge": names[e]} for v, e in pairs]
    found = {"network-type": "undirected", "nodes": nodes, "edges": edges}
    with atomic(path) as side:
        side.write_text(json.dumps({**found, "incidences": incidences}), encoding="utf-8")
