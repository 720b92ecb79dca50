"""PyG's edge lists, plain and ``EdgeIndex``, and graphs, both ways. (opt: torch_geometric)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from ..errors import GraphError
from ..graph import Graph, check_edge_index
from .attributed import Attributed, attributed


def from_edge_index(
    edge_index: Tensor,
    num_nodes: int | None = None,
    *,
    num_src: int | None = None,
    num_dst: int | None = None,
) -> Graph:
    """The graph of ``edge_index [2, E]``: :meth:`graphkit.Graph.from_edge_index` by another name.

    Raises :class:`GraphError` as that does, and for an ``EdgeIndex``, which says more.
    """
    if isinstance(edge_index, EdgeIndex):
        raise GraphError(
            "from_edge_index got an EdgeIndex, but a plain tensor is expected. Use "
            "from_pyg_edge_index, which keeps its size and order, or pass edge_index.as_tensor()."
        )
    return Graph.from_edge_index(edge_index, num_nodes, num_src=num_src, num_dst=num_dst)


def to_edge_index(graph: Graph, dtype: torch.dtype = torch.int64) -> Tensor:
    """``edge_index [2, E]`` in the caller's edge order, in int64 or int32.

    The number of nodes is not part of it: pass ``graph.num_src`` along where the last nodes may
    have no edge.
    """
    if dtype not in (torch.int32, torch.int64):
        raise GraphError(f"to_edge_index: dtype is {dtype}, but torch.int64 or int32 is expected.")
    return graph.edge_index().to(dtype)


def from_pyg_edge_index(edge_index: EdgeIndex) -> Attributed:
    """The graph of a PyG ``EdgeIndex``; what else it says is kept in ``whole["edge_index"]``.

    That is ``sparse_size``, ``sort_order``, ``is_undirected``, and ``dtype`` if it is not int64. A
    size left open becomes the largest index plus one: of both rows if both are open.

    Raises :class:`GraphError` for another type, and if what it says is not so.
    """
    if not isinstance(edge_index, EdgeIndex):
        raise GraphError(
            f"from_pyg_edge_index got a {type(edge_index).__name__}, but an EdgeIndex is expected. "
            "Use from_edge_index for a plain tensor."
        )
    _validate(edge_index)
    num_src, num_dst = edge_index.sparse_size()
    graph = Graph.from_edge_index(plain(edge_index), num_src=num_src, num_dst=num_dst)
    return Attributed(graph, whole={"edge_index": form_of(edge_index)})


def to_pyg_edge_index(
    source: Graph | Attributed, *, sort_order: str | None = None, is_undirected: bool = False
) -> EdgeIndex:
    """The ``EdgeIndex`` of a graph, or the one that :func:`from_pyg_edge_index` was given.

    For a bare Graph its sizes are set, and ``sort_order`` ("row" or "col") and ``is_undirected``
    are checked. Its caches are filled again on demand.

    Raises :class:`GraphError` if what is claimed of the edges is not so.
    """
    item = attributed(source, "to_pyg_edge_index")
    form = item.whole.get("edge_index")
    if form is None or "sparse_size" not in form:
        size = (item.graph.num_src, item.graph.num_dst)
        known = {"sparse_size": size, "sort_order": sort_order, "is_undirected": is_undirected}
        form = {**(form or {}), **known}
    elif sort_order is not None or is_undirected:
        raise GraphError(
            "to_pyg_edge_index got sort_order or is_undirected, but whole['edge_index'] says them "
            "already. Pass the bare graph to set them anew."
        )
    out = shaped(item.graph, form)
    assert isinstance(out, EdgeIndex)
    return out


def plain(edge_index: Tensor) -> Tensor:
    """The tensor inside an ``EdgeIndex``; any other comes back as it is."""
    return edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


def form_of(edge_index: Tensor) -> dict[str, Any]:
    """What ``edge_index`` says that a Graph does not hold; empty for a plain int64 tensor."""
    form: dict[str, Any] = {}
    if edge_index.dtype != torch.int64:
        form["dtype"] = edge_index.dtype
    if isinstance(edge_index, EdgeIndex):
        form["sparse_size"] = tuple(edge_index.sparse_size())
        form["sort_order"] = edge_index.sort_order
        form["is_undirected"] = edge_index.is_undirected
    return form


def shaped(graph: Graph, form: Mapping[str, Any] | None) -> Tensor:
    """The edges of ``graph`` as the tensor or ``EdgeIndex`` that ``form`` describes."""
    form = form or {}
    edge_index = to_edge_index(graph, form.get("dtype", torch.int64))
    return dressed(edge_index, form)


def dressed(edge_index: Tensor, form: Mapping[str, Any]) -> Tensor:
    """``edge_index`` as an ``EdgeIndex`` if ``form`` says it was one."""
    if "sparse_size" not in form:
        return edge_index
    try:
        out: Any = EdgeIndex(  # pyright: ignore[reportCallIssue]
            edge_index,
            sparse_size=form["sparse_size"],
            sort_order=form["sort_order"],
            is_undirected=form["is_undirected"],
        )
    except ValueError as error:
        raise GraphError(f"The edges cannot be an EdgeIndex: {error}.") from None
    return _validate(out)


def edges_in(store: Mapping[str, Any], where: str) -> Tensor:
    """The ``edge_index`` of a PyG store; :class:`GraphError` if there is none."""
    edge_index = store.get("edge_index")
    if edge_index is None:
        held = ", ".join(sorted(store)) or "nothing"
        raise GraphError(
            f"{where} has no edge_index, but one is needed (it holds: {held}). Turn adj_t into one "
            "with torch_geometric.utils.to_edge_index, or set an empty one of shape [2, 0]."
        )
    check_edge_index(plain(edge_index) if isinstance(edge_index, Tensor) else edge_index)
    return edge_index


def _validate(edge_index: EdgeIndex) -> EdgeIndex:
    try:
        # a second object, because PyG caches in the first the sizes that it works out
        EdgeIndex(edge_index).validate()
    except ValueError as error:
        raise GraphError(
            f"The EdgeIndex contradicts its edges: {error}. "
            "Correct its sparse_size, sort_order or is_undirected."
        ) from None
    return edge_index
