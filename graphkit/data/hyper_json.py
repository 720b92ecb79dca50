"""A user's hypergraph as a json file: lists of members, or the Hypergraph Interchange Format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, GraphError
from ..store import atomic
from ..structure import from_members
from .assemble import MASKS, PARTS
from .columns import content
from .targets import Targets, from_texts, unlabelled

_LISTS = ("hyperedges", "weights", "num_nodes", "x", "y", "split")


def read_json(place: Path, labelled: bool | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a HyperGraphData is made of, and the names of nodes and hyperedges where they have some.

    Raises :class:`DataError` for content of another form; incidences are checked later.
    """
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
        key: unless_numbers(np.array([str(one) for one in of], dtype=object))
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


def write_json(data: Any, path: Path) -> None:
    """The Hypergraph Interchange Format, with x, y and split as attributes of nodes."""
    columns = node_columns(data)
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
    names, weight = names_of_hyperedges(data), getattr(data, "hyperedge_weight", None)
    edges = [{"edge": name} for name in names]
    if weight is not None:
        edges = [{"edge": n, "weight": w} for n, w in zip(names, weight.tolist(), strict=True)]
    pairs = zip(*data.edge_index.tolist(), strict=True)
    incidences = [{"node": columns["id"][v], "edge": names[e]} for v, e in pairs]
    found = {"network-type": "undirected", "nodes": nodes, "edges": edges}
    with atomic(path) as side:
        side.write_text(json.dumps({**found, "incidences": incidences}), encoding="utf-8")


def node_columns(data: Any) -> dict[str, list[Any]]:
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


def names_of_hyperedges(data: Any) -> list[str]:
    """Their names, or else their numbers as texts."""
    names = getattr(data, "hyperedge_names", None)
    count = getattr(data, "num_hyperedges", None)
    if count is None:
        count = int(data.edge_index[1].max()) + 1
    return names or [str(number) for number in range(count)]


def unless_numbers(names: np.ndarray) -> list[str] | None:
    """``names`` as a list; None if they are 0, 1, 2, ..."""
    return None if list(names) == [str(at) for at in range(len(names))] else names.tolist()
