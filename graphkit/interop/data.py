"""PyG's ``Data`` and ``HyperGraphData`` and graphs, both ways. (opt: torch_geometric)"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.hypergraph_data import HyperGraphData

from ..errors import GraphError
from ..graph import Graph
from .attributed import Attributed, attributed, check_square
from .edges import dressed, edges_in, form_of, plain, shaped


def from_data(data: Data) -> Attributed:
    """The graph of a PyG ``Data``, its node and edge columns, and in ``whole`` all the rest.

    PyG's ``is_node_attr`` and ``is_edge_attr`` say what is a column; one whose entries do not run
    along the first dimension (``edge_label_index``) stays in ``whole``. Values are not copied. The
    kind of an ``EdgeIndex`` or int32 ``edge_index`` is kept in ``whole["edge_index"]``.

    Raises :class:`GraphError` for another type, without an ``edge_index``, and for a bad one.
    """
    if not isinstance(data, Data) or isinstance(data, HyperGraphData):
        raise GraphError(
            f"from_data got a {type(data).__name__}, but a torch_geometric.data.Data is expected. "
            "Use from_hypergraph_data or from_hetero_data for those."
        )
    store = data.to_dict()
    edge_index = edges_in(store, "Data")
    count = told_nodes(data.node_stores[0])
    graph = Graph.from_edge_index(plain(edge_index), count)
    # a copy, because asking PyG for the level of an attribute caches the answer in the store
    probe = copy.copy(data)
    probe.num_nodes = graph.num_dst
    parts: dict[str, dict[str, Any]] = {"node": {}, "edge": {}, "whole": {}}
    for key, value in store.items():
        if key != "edge_index":
            parts[_level(probe, key, value)][key] = value
    if form := form_of(edge_index):
        parts["whole"]["edge_index"] = form
    return Attributed(graph, parts["node"], parts["edge"], whole=parts["whole"])


def to_data(source: Graph | Attributed) -> Data:
    """The PyG ``Data`` of a graph: every column and every attribute under its own name.

    ``num_nodes`` is written where PyG would have to guess it. Names and keys stay behind in
    ``source``: row i of the columns is node ``names[i]``. A subclass of ``Data`` that was read
    comes back as ``Data``.

    Raises :class:`GraphError` for a bipartite graph, for a name used twice or that is not a
    string, and if ``whole["num_nodes"]`` is not the graph's.
    """
    item = attributed(source, "to_data")
    check_square(item, "to_data")
    whole = dict(item.whole)
    edge_index = shaped(item.graph, whole.pop("edge_index", None))
    data = Data()
    _fill(data, "to_data", item.node, {"edge_index": edge_index}, item.edge, whole)
    tell_nodes(data.node_stores[0], item.graph.num_dst, "to_data")
    return data


def from_hypergraph_data(data: HyperGraphData) -> Attributed:
    """The bipartite graph of a PyG ``HyperGraphData``: from hyperedges to nodes.

    Each membership is an edge. ``node`` are the columns of nodes, ``src`` those of hyperedges
    (``edge_attr`` first of all), ``edge`` those with one entry for each membership. Where nodes and
    hyperedges are equally many, a name with "edge" in it belongs to hyperedges. Their number is
    ``num_hyperedges`` if set, else read off ``edge_attr`` and ``edge_index``.

    Raises :class:`GraphError` for another type, without an ``edge_index``, and for a bad one.
    """
    if not isinstance(data, HyperGraphData):
        raise GraphError(
            f"from_hypergraph_data got a {type(data).__name__}, but a "
            "torch_geometric.data.HyperGraphData is expected."
        )
    store = data.to_dict()
    edge_index = edges_in(store, "HyperGraphData")
    # PyG would take the number of columns of an EdgeIndex, the hyperedges, for that of nodes
    probe = copy.copy(data)
    probe["edge_index"] = plain(edge_index)
    num_nodes = told_nodes(probe.node_stores[0])
    if num_nodes is None:
        num_nodes = form_of(edge_index).get("sparse_size", (None, None))[0]
    num_hyperedges = _hyperedges(store)
    # the members are given as (node, hyperedge), and messages go from hyperedges to nodes
    edges = plain(edge_index).flip(0)
    graph = Graph.from_edge_index(edges, num_src=num_hyperedges, num_dst=num_nodes)
    parts: dict[str, dict[str, Any]] = {"node": {}, "edge": {}, "src": {}, "whole": {}}
    for key, value in store.items():
        if key != "edge_index":
            parts[_hyper_level(graph, key, value)][key] = value
    if form := form_of(edge_index):
        parts["whole"]["edge_index"] = form
    return Attributed(graph, parts["node"], parts["edge"], parts["src"], parts["whole"])


def to_hypergraph_data(source: Graph | Attributed) -> HyperGraphData:
    """The PyG ``HyperGraphData`` of a bipartite graph from hyperedges to nodes.

    ``num_nodes`` and ``num_hyperedges`` are written where they could only be guessed. PyG itself
    takes no notice of the latter.

    Raises :class:`GraphError` for a name used twice or not a string, and for a contradicting count.
    """
    item = attributed(source, "to_hypergraph_data")
    whole = dict(item.whole)
    form = whole.pop("edge_index", None) or {}
    edges = shaped(item.graph, {k: v for k, v in form.items() if k == "dtype"}).flip(0)
    data = HyperGraphData()
    edge_index = {"edge_index": dressed(edges, form)}
    _fill(data, "to_hypergraph_data", item.node, edge_index, item.src, item.edge, whole)
    store = data.node_stores[0]
    tell_nodes(store, item.graph.num_dst, "to_hypergraph_data")
    known = whole.get("num_hyperedges")
    if known is not None and known != item.graph.num_src:
        raise _contradiction("to_hypergraph_data", "num_hyperedges", known, item.graph.num_src)
    if _hyperedges(data.to_dict()) != item.graph.num_src:
        store["num_hyperedges"] = item.graph.num_src
    return data


def told_nodes(store: Any) -> int | None:
    """The number of nodes that a PyG store tells, or None if PyG would have to guess."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        count = store.num_nodes
    # PyG says by a warning that it guessed
    guessed = any(issubclass(warning.category, UserWarning) for warning in said)
    return None if count is None or guessed else int(count)


def tell_nodes(store: Any, count: int, call: str) -> None:
    """Write ``num_nodes`` into a PyG store unless it tells the right number already."""
    if "num_nodes" in store and store["num_nodes"] != count:
        raise _contradiction(call, "num_nodes", store["num_nodes"], count)
    if told_nodes(store) != count:
        store["num_nodes"] = count


def _level(probe: Data, key: str, value: Any) -> str:
    if isinstance(value, (Tensor, np.ndarray)) and probe.__cat_dim__(key, value) != 0:
        return "whole"
    if probe.is_node_attr(key):
        return "node"
    return "edge" if probe.is_edge_attr(key) else "whole"


def _hyper_level(graph: Graph, key: str, value: Any) -> str:
    if isinstance(value, (Tensor, np.ndarray)):
        # PyG's rule: what is called an index has its entries along the last dimension
        length = value.shape[0] if value.ndim and "index" not in key else None
    else:
        length = len(value) if isinstance(value, (list, tuple)) else None
    if length is None:
        return "whole"
    of_edges = "edge" in key
    if length == graph.num_dst and not (of_edges and length == graph.num_src):
        return "node"
    if length == graph.num_src:
        return "src"
    return "edge" if length == graph.num_edges else "whole"


def _hyperedges(store: Mapping[str, Any]) -> int:
    """The number of hyperedges that the attributes of a ``HyperGraphData`` tell."""
    if (known := store.get("num_hyperedges")) is not None:
        return int(known)
    edge_index = store["edge_index"]
    size = form_of(edge_index).get("sparse_size", (None, None))[1]
    if size is not None:
        return size
    last = plain(edge_index)[1]
    least = int(last.max()) + 1 if last.numel() else 0
    edge_attr = store.get("edge_attr")
    if isinstance(edge_attr, (Tensor, np.ndarray)) and edge_attr.ndim:
        return max(least, int(edge_attr.shape[0]))
    return least


def _fill(data: Data, call: str, *parts: Mapping[Any, Any]) -> None:
    for part in parts:
        for key, value in part.items():
            if not isinstance(key, str):
                raise GraphError(
                    f"{call}: the attribute {key!r} has a {type(key).__name__} as its name, but "
                    "PyG takes strings. Rename it."
                )
            if key in data:
                raise GraphError(
                    f"{call}: the name {key!r} is used twice, but a PyG Data has one place for "
                    "each name. Rename the column of the nodes, of the edges, or of the graph."
                )
            data[key] = value


def _contradiction(call: str, what: str, known: Any, count: int) -> GraphError:
    return GraphError(
        f"{call}: {what} is given as {known}, but the graph has {count}. "
        f"Remove {what!r} from the attributes, and it is written anew."
    )
