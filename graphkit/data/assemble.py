"""Named tensors to PyG's objects, and what is counted in them. (opt: torch_geometric)

The names, by kind of data (S splits; all but edge_index, pointers and events may be absent):

node        x [N, F], edge_index [2, E], y [N] or [N, T], edge_attr, train_mask ... [N] or [N, S]
graph       node_ptr [G + 1], edge_ptr [G + 1], x, edge_index (from 0 in each graph), edge_attr,
            y [G] or [G, T], train_mask ... [G] or [G, S]
link        x, edge_index [2, E] (the graph that messages run on), and split_edge/PART/NAME with
            PART train, valid, test and OGB's names edge [n, 2], edge_neg, source_node, ...
temporal    src, dst, t [events], msg [events, F], and train_mask ... [events]
hypergraph  x, hyperedge_index [2, I] (row 0 nodes, row 1 hyperedges), y, train_mask ... [N] or
            [N, S]; in HyperGraphData the index is called edge_index
hetero      KEY@NODETYPE such as x@paper, and KEY@SRC@RELATION@DST such as edge_index@a@writes@p
structure   edge_index, edge_attr

``meta``: num_nodes (where x does not tell; a dict of the types without x for hetero; always for
hypergraphs), num_hyperedges.

HyperGraphData.num_nodes in PyG 2.8 reads all incidences one by one, and guesses where there are as
many hyperedges as nodes; ``data["num_nodes"]`` is the number that was stored. ``num_hyperedges``,
and ``name`` and ``num_classes`` of hypergraphs and streams of events, are plain attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .graphs import GraphSet
from .raw import Raw

PARTS = ("train", "val", "test")
MASKS = tuple(f"{part}_mask" for part in PARTS)


def assemble(kind: str, raw: Raw, name: str, num_classes: int | None) -> Any:
    """The PyG object of a kind of data, or a GraphSet; ``name`` and ``num_classes`` are set."""
    if kind == "graph":
        return GraphSet(raw.tensors, name, num_classes)
    out = _BUILD.get(kind, _data)(raw)
    # in the stores of these two they would break subgraph and slices, which expect tensors only
    plain = kind in ("hypergraph", "temporal")
    put = vars(out).__setitem__ if plain else partial(setattr, out)
    put("name", name)
    if num_classes is not None:
        put("num_classes", num_classes)
    return out


def counts(kind: str, data: Any, only: Iterable[str] | None = None) -> dict[str, Any]:
    """What is found in ``data`` of each count that a card of this kind may give.

    ``only`` names those that are wanted; whether a graph is directed takes a sort of its edges.
    """
    found = _COUNT[kind](data)
    if _COUNT[kind] is _plain and (only is None or "directed" in only):
        found["directed"] = not data.is_undirected()
    if getattr(data, "num_classes", None) is not None and kind != "hetero":
        found |= _label_counts(data.y)
    return found


def sizes(mask: Tensor) -> list[int]:
    """How many items each split selects, for a mask [N] or [N, S]."""
    return mask.reshape(len(mask), -1).sum(dim=0).tolist()


def part_sizes(kind: str, data: Any) -> dict[str, list[int]] | None:
    """The sizes of train, val and test, one for each split; None if there is no split."""
    if kind == "link":
        parts = getattr(data, "split_edge", None)
        if parts is None:
            return None
        return {
            part: [len(next(iter(parts["valid" if part == "val" else part].values())))]
            for part in PARTS
        }
    if kind == "hetero":
        masks = [next(iter(data.collect(key, True).values()), None) for key in MASKS]
    else:
        masks = [getattr(data, key, None) for key in MASKS]
    found = [mask for mask in masks if mask is not None]
    if len(found) < len(PARTS):
        return None
    return {part: sizes(mask) for part, mask in zip(PARTS, found, strict=True)}


def _data(raw: Raw) -> Any:
    from torch_geometric.data import Data

    out = Data(**raw.tensors)
    if raw.tensors.get("x") is None:
        out.num_nodes = raw.meta["num_nodes"]
    return out


def _link(raw: Raw) -> Any:
    flat = {key: value for key, value in raw.tensors.items() if not key.startswith("split_edge/")}
    out = _data(Raw(flat, raw.meta))
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in raw.tensors.items():
        if key.startswith("split_edge/"):
            _, part, name = key.split("/")
            parts.setdefault(part, {})[name] = value
    if parts:
        out.split_edge = parts
    return out


def _temporal(raw: Raw) -> Any:
    from torch_geometric.data import TemporalData

    return TemporalData(**raw.tensors)


def _hypergraph(raw: Raw) -> Any:
    # PyG 2.8 exports the class here alone
    from torch_geometric.data.hypergraph_data import HyperGraphData

    named = {"hyperedge_index": "edge_index"}
    out = HyperGraphData(**{named.get(key, key): value for key, value in raw.tensors.items()})
    out.num_nodes = raw.meta["num_nodes"]
    vars(out)["num_hyperedges"] = raw.meta["num_hyperedges"]
    return out


def _hetero(raw: Raw) -> Any:
    from torch_geometric.data import HeteroData

    out = HeteroData()
    for key, value in raw.tensors.items():
        name, *where = key.split("@")
        store: Any = tuple(where) if len(where) == 3 else where[0]
        out[store][name] = value
    for kind, count in raw.meta.get("num_nodes", {}).items():
        out[kind].num_nodes = count
    return out


def _label_counts(y: Tensor) -> dict[str, Any]:
    y = y.reshape(-1)
    if y.is_floating_point():
        return {"classes": int(y[~y.isnan()].max()) + 1}
    return {"classes": int(y.max()) + 1, "class_sizes": torch.bincount(y[y >= 0]).tolist()}


def _width(value: Tensor | None) -> int:
    return 0 if value is None else value.size(1) if value.dim() > 1 else 1


def _plain(data: Any) -> dict[str, Any]:
    return {
        "nodes": data.num_nodes,
        "edges": data.edge_index.size(1),
        "features": _width(data.x),
        "edge_features": _width(data.edge_attr),
        "targets": _width(data.y),
    }


def _graph_counts(data: GraphSet) -> dict[str, Any]:
    return {
        "graphs": len(data),
        "nodes": int(data.node_ptr[-1]),
        "edges": int(data.edge_ptr[-1]),
        "features": _width(data.x),
        "edge_features": _width(data.edge_attr),
        "targets": _width(data.y),
    }


def _temporal_counts(data: Any) -> dict[str, Any]:
    return {
        "nodes": data.num_nodes,
        "events": data.num_events,
        "features": _width(getattr(data, "msg", None)),
    }


def _hyper_counts(data: Any) -> dict[str, Any]:
    return {
        "nodes": data["num_nodes"],
        "hyperedges": data.num_hyperedges,
        "incidences": data.edge_index.size(1),
        "features": _width(data.x),
    }


def _hetero_counts(data: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "nodes": {kind: data[kind].num_nodes for kind in data.node_types},
        "edges": {"__".join(kind): data[kind].num_edges for kind in data.edge_types},
        "features": {kind: _width(data[kind].x) for kind in data.node_types if "x" in data[kind]},
    }
    for y in data.collect("y", True).values():
        found |= _label_counts(y)
    return found


_BUILD: Mapping[str, Callable[[Raw], Any]] = {
    "link": _link,
    "temporal": _temporal,
    "hypergraph": _hypergraph,
    "hetero": _hetero,
}
_COUNT: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "node": _plain,
    "link": _plain,
    "structure": _plain,
    "graph": _graph_counts,
    "temporal": _temporal_counts,
    "hypergraph": _hyper_counts,
    "hetero": _hetero_counts,
}
