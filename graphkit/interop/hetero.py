"""PyG's ``HeteroData`` and graphs by edge type, both ways. (opt: torch_geometric)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch_geometric.data import HeteroData

from ..errors import GraphError
from ..graph import Graph
from .attributed import EdgeType, Hetero, hetero
from .data import tell_nodes, told_nodes
from .edges import edges_in, form_of, plain, shaped


def from_hetero_data(data: HeteroData) -> Hetero:
    """The graphs of a PyG ``HeteroData`` by edge type, and the content of all its stores.

    A node type that does not tell its number of nodes gets the largest index into it plus one.
    Values are not copied. The kind of an ``EdgeIndex`` or int32 ``edge_index`` is kept in
    ``edge[type]["edge_index"]``.

    Raises :class:`GraphError` for another type, for an edge type without ``edge_index``, and for a
    bad one.
    """
    if not isinstance(data, HeteroData):
        raise GraphError(
            f"from_hetero_data got a {type(data).__name__}, but a torch_geometric.data.HeteroData "
            "is expected. Use from_data for a Data."
        )
    content: dict[Any, Any] = data.to_dict()
    whole = content.pop("_global_store")
    edges = {
        kind: edges_in(content[kind], f"HeteroData: the edge type {kind}")
        for kind in data.edge_types
    }
    told = {kind: told_nodes(store) for kind, store in data.node_items()}
    num_nodes = {kind: 0 if count is None else count for kind, count in told.items()}
    for (src, _, dst), edge_index in edges.items():
        for row, node_type in ((0, src), (1, dst)):
            if told.get(node_type) is None:
                index = plain(edge_index)[row]
                least = int(index.max()) + 1 if index.numel() else 0
                num_nodes[node_type] = max(num_nodes.get(node_type, 0), least)
    graphs = {
        kind: Graph.from_edge_index(
            plain(edge_index), num_src=num_nodes[kind[0]], num_dst=num_nodes[kind[2]]
        )
        for kind, edge_index in edges.items()
    }
    node = {kind: content[kind] for kind in data.node_types}
    edge: dict[EdgeType, dict[str, Any]] = {}
    for kind, edge_index in edges.items():
        edge[kind] = {key: value for key, value in content[kind].items() if key != "edge_index"}
        if form := form_of(edge_index):
            edge[kind]["edge_index"] = form
    return Hetero(graphs, num_nodes, node, edge, whole)


def to_hetero_data(source: Hetero | Mapping[EdgeType, Graph]) -> HeteroData:
    """The PyG ``HeteroData`` of graphs by edge type, with every store's content.

    ``num_nodes`` is written for the node types whose number PyG would have to guess.

    Raises :class:`GraphError` if ``num_nodes`` in a node store is not the graphs'.
    """
    item = hetero(source, "to_hetero_data")
    content: dict[Any, Any] = {"_global_store": dict(item.whole)}
    for kind in item.num_nodes:
        content[kind] = dict(item.node.get(kind, {}))
    for kind, graph in item.graphs.items():
        store = dict(item.edge.get(kind, {}))
        form = store.pop("edge_index", None)
        content[kind] = {"edge_index": shaped(graph, form), **store}
    data = HeteroData.from_dict(content)
    for kind, store in data.node_items():
        tell_nodes(store, item.num_nodes[kind], f"to_hetero_data: {kind!r}")
    return data
