"""DGL's graphs and graphs, both ways. (opt: dgl)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import BackendError, GraphError
from ..graph import Graph
from .attributed import Attributed, EdgeType, Hetero, attributed, check_square, hetero

_NODE, _EDGE = "_N", "_E"


def from_dgl(g: Any) -> Attributed | Hetero:
    """The graph of a ``dgl.DGLGraph``: a Hetero if it names types, else an Attributed.

    Edges are in the order of their ids. Values are not copied. int32 ids are noted in
    ``whole["edge_index"]`` (``edge[type]["edge_index"]``).

    Raises :class:`BackendError` where DGL cannot be imported, :class:`GraphError` for another type
    and for a block, whose two sides share a name.
    """
    dgl = _dgl()
    if not isinstance(g, dgl.DGLGraph) or g.is_block:
        raise GraphError(
            f"from_dgl got a {type(g).__name__}, but a dgl.DGLGraph that is no block is expected. "
            "Turn a block into a graph with dgl.block_to_graph."
        )
    form = {} if g.idtype == torch.int64 else {"edge_index": {"dtype": g.idtype}}
    if g.canonical_etypes == [(_NODE, _EDGE, _NODE)]:
        graph = _graph(g, (_NODE, _EDGE, _NODE))
        return Attributed(graph, dict(g.ndata), dict(g.edata), whole=form)
    kinds = list(g.canonical_etypes)
    return Hetero(
        {kind: _graph(g, kind) for kind in kinds},
        {kind: g.num_nodes(kind) for kind in g.ntypes},
        {kind: dict(g.nodes[kind].data) for kind in g.ntypes},
        {kind: {**g.edges[kind].data, **form} for kind in kinds},
    )


def to_dgl(source: Graph | Attributed | Hetero | Mapping[EdgeType, Graph]) -> Any:
    """The ``dgl.DGLGraph`` of a graph or of graphs by edge type, with their columns.

    Names and keys stay behind in ``source``: node i is ``names[i]``.

    Raises :class:`BackendError` where DGL cannot be imported; :class:`GraphError` for a column that
    is not a tensor, for attributes of the whole graph, which DGL has no place for, for a bipartite
    graph that is not in a dict by edge type, and for an empty dict.
    """
    dgl = _dgl()
    if isinstance(source, (Hetero, Mapping)):
        item = hetero(source, "to_dgl")
        whole = item.whole
        num_nodes, node, edge, graphs = item.num_nodes, item.node, item.edge, item.graphs
    else:
        plain = attributed(source, "to_dgl")
        check_square(plain, "to_dgl")
        whole, kind = plain.whole, (_NODE, _EDGE, _NODE)
        form = {"edge_index": whole["edge_index"]} if "edge_index" in whole else {}
        num_nodes, graphs = {_NODE: plain.graph.num_dst}, {kind: plain.graph}
        node, edge = {_NODE: plain.node}, {kind: {**plain.edge, **form}}
    if lost := set(whole) - {"num_nodes", "edge_index"}:
        raise GraphError(
            f"to_dgl: DGL has no place for attributes of the whole graph, but there are "
            f"{sorted(map(str, lost))}. Drop them with dataclasses.replace(..., whole={{}})."
        )
    if not graphs:
        raise GraphError(
            "to_dgl got no edge type, but a DGLGraph has at least one. "
            "Add an edge type without edges between the types of nodes."
        )
    ends = {kind: tuple(graph.edge_index()) for kind, graph in graphs.items()}
    g = dgl.heterograph(ends, num_nodes_dict=dict(num_nodes), idtype=_idtype(edge))
    for kind, columns in node.items():
        for name, column in _tensors(columns, num_nodes[kind]):
            g.nodes[kind].data[name] = column
    for kind, columns in edge.items():
        for name, column in _tensors(columns, graphs[kind].num_edges):
            g.edges[kind].data[name] = column
    return g


def _dgl() -> Any:
    """The package. DGL 2 imports compiled parts made for one version of torch each."""
    try:
        import dgl  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:
        raise BackendError(
            f"DGL cannot be imported beside torch {torch.__version__}: {error}. "
            "Install the last version not tied to one torch (Python 3.11 at most) with: "
            "pip install dgl==1.1.3"
        ) from error
    return dgl


def _graph(g: Any, kind: EdgeType) -> Graph:
    # DGL's own order="eid" fails for graphs that are held in compressed form only
    src, dst, edge_id = g.edges(form="all", order=None, etype=kind)
    edge_index = torch.stack([src, dst])[:, edge_id.argsort()]
    sizes = (g.num_nodes(kind[0]), g.num_nodes(kind[2]))
    return Graph.from_edge_index(edge_index, num_src=sizes[0], num_dst=sizes[1])


def _idtype(edge: Mapping[EdgeType, Mapping[str, Any]]) -> torch.dtype:
    """int32 if every edge type was read in it."""
    dtypes = {columns.get("edge_index", {}).get("dtype", torch.int64) for columns in edge.values()}
    return dtypes.pop() if len(dtypes) == 1 else torch.int64


def _tensors(columns: Mapping[str, Any], count: int) -> list[tuple[str, Tensor]]:
    """The columns but for what only PyG needs; :class:`GraphError` where DGL cannot hold one."""
    kept = [(name, c) for name, c in columns.items() if name not in ("num_nodes", "edge_index")]
    for name, column in kept:
        if not isinstance(name, str):
            raise GraphError(f"to_dgl: the column {name!r} is not named by a string. Rename it.")
        if not isinstance(column, Tensor) or column.dim() == 0 or column.size(0) != count:
            shape = f" of shape {list(column.shape)}" if isinstance(column, Tensor) else ""
            raise GraphError(
                f"to_dgl: the column {name!r} is a {type(column).__name__}{shape}, but DGL holds "
                f"tensors [{count}, ...] only. Convert or drop it with dataclasses.replace."
            )
    return kept
