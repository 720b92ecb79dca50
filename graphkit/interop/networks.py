"""networkx's graphs of all four classes and graphs, both ways. (opt: networkx)"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import GraphError, need
from ..graph import Graph
from .attributed import MISSING, Attributed, attributed, check_square

# Python's own numbers, and the dtypes whose values they are
_NUMBERS = {
    bool: np.dtype(np.bool_),
    int: np.dtype(np.int64),
    float: np.dtype(np.float64),
    complex: np.dtype(np.complex128),
}
_EXACT = (torch.bool, torch.int64, torch.float64, torch.complex128)
# by names, because torch has grown the unsigned ones over time
_SHARED = frozenset(np.dtype(code) for code in "? b h i l B H I L e f d F D".split())


def from_networkx(g: Any) -> Attributed:
    """The graph of a networkx ``Graph``, ``DiGraph``, ``MultiGraph`` or ``MultiDiGraph``.

    Nodes are in the order of ``g.nodes`` and edges in that of ``g.to_directed().edges``: those of
    an undirected graph stand there once in each direction, with the same attributes (a self-loop
    once), and ``directed`` is False. ``keys`` are the keys of a multigraph.

    A column is a tensor if all nodes (edges) have the attribute, as numbers of one type or equally
    long lists of them: bool, int, float and complex become bool, int64, float64 and complex128, and
    numpy's numbers keep their dtype. Any other is a tuple of the values, with ``MISSING`` in the
    gaps.

    Raises :class:`GraphError` for another type.
    """
    need("networkx")
    import networkx as nx

    if not isinstance(g, nx.Graph):
        raise GraphError(
            f"from_networkx got a {type(g).__name__}, but a networkx graph is expected. "
            "Use from_data or from_pandas for those."
        )
    position = {name: i for i, name in enumerate(g)}
    ends: list[int] = []
    keys: list[Hashable] = []
    rows: list[Mapping[Any, Any]] = []
    for src, dst, key, values in _edges(g, position):
        ends += (src, dst)
        keys.append(key)
        rows.append(values)
    edge_index = torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).t().contiguous()
    plain = all(type(name) is int and name == i for name, i in position.items())
    return Attributed(
        Graph.from_edge_index(edge_index, len(position)),
        node=_columns([values for _, values in g.nodes(data=True)]),
        edge=_columns(rows),
        whole=dict(g.graph),
        names=None if plain else tuple(position),
        keys=tuple(keys) if g.is_multigraph() else None,
        directed=g.is_directed(),
    )


def to_networkx(source: Graph | Attributed, *, multigraph: bool | None = None) -> Any:
    """The networkx graph: undirected unless ``directed``, a multigraph if there are ``keys``.

    ``multigraph=True`` makes one without ``keys`` too and numbers parallel edges. What
    :func:`from_networkx` read comes back equal, and ordered as by networkx's own ``copy()``.
    The inverse of its rule for columns makes values of tensors: Python's numbers of bool, int64,
    float64 and complex128, numpy's of the other dtypes, and lists of them of further dimensions.
    Columns of a graph without nodes (edges) have no place in networkx.

    Raises :class:`GraphError` for a bipartite graph, for parallel edges without a multigraph, for
    a dtype that numpy does not have, and for an undirected graph whose two directions differ.
    """
    need("networkx")
    import networkx as nx

    item = attributed(source, "to_networkx")
    check_square(item, "to_networkx")
    multi = item.keys is not None if multigraph is None else multigraph
    kind = {
        (False, False): nx.Graph,
        (True, False): nx.DiGraph,
        (False, True): nx.MultiGraph,
        (True, True): nx.MultiDiGraph,
    }[item.directed, multi]
    graph = item.graph
    g = kind()
    g.graph.update(item.whole)
    names = range(graph.num_dst) if item.names is None else list(item.names)
    g.add_nodes_from(zip(names, _rows(item.node, graph.num_dst), strict=True))
    src, dst = graph.edge_index().tolist()
    kept: Sequence[int] = range(graph.num_edges)
    if not item.directed:
        _check_mirrored(item)
        kept = [i for i in kept if src[i] <= dst[i]]
    values = _rows(item.edge, graph.num_edges)
    if multi:
        keys = item.keys if item.keys is not None else [None] * graph.num_edges
        g.add_edges_from((names[src[i]], names[dst[i]], keys[i], values[i]) for i in kept)
    else:
        g.add_edges_from((names[src[i]], names[dst[i]], values[i]) for i in kept)
    if g.number_of_edges() != len(kept):
        raise GraphError(
            f"The graph has {len(kept)} edges, but networkx keeps {g.number_of_edges()} of them, "
            "because some are parallel"
            + (" and have the same key. " if multi else ". ")
            + "Pass multigraph=True"
            + (" and replace keys by None." if multi else ".")
        )
    return g


def _edges(
    g: Any, position: Mapping[Any, int]
) -> Iterator[tuple[int, int, Hashable, Mapping[Any, Any]]]:
    """Source, destination, key and attributes; undirected edges from both of their ends."""
    multi = g.is_multigraph()
    # networkx's own dict of dicts, because its views cost several times as much per edge
    neighbours = dict(g.adjacency())
    for name, src in position.items():
        for other, found in neighbours[name].items():
            dst = position[other]
            if not multi:
                yield src, dst, None, found
                continue
            for key, values in found.items():
                yield src, dst, key, values


def _columns(rows: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    """The attributes of all ``rows`` by name."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _column([row.get(name, MISSING) for row in rows]) for name in names}


def _column(values: list[Any]) -> Tensor | tuple[Any, ...]:
    kinds = {_kind(value) for value in values}
    kind = kinds.pop()
    if kinds or kind is None:
        return tuple(values)
    try:
        return torch.from_numpy(np.array(values, dtype=kind[0]))
    # an int of more than 64 bits
    except OverflowError:
        return tuple(values)


def _kind(value: Any) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
    """The dtype and the shape of a number or of nested lists of them; None for all else."""
    if type(value) is list:
        kinds = {_kind(entry) for entry in value}
        inner = kinds.pop() if len(kinds) == 1 else None
        return None if inner is None else (inner[0], (len(value), *inner[1]))
    if isinstance(value, np.generic):
        return (value.dtype, ()) if value.dtype in _SHARED else None
    dtype = _NUMBERS.get(type(value))
    return None if dtype is None else (dtype, ())


def _rows(columns: Mapping[Any, Any], count: int) -> list[dict[Any, Any]]:
    """The inverse of :func:`_columns`."""
    rows: list[dict[Any, Any]] = [{} for _ in range(count)]
    for name, column in columns.items():
        for row, value in zip(rows, _values(name, column), strict=True):
            if value is not MISSING:
                row[name] = value
    return rows


def _values(name: Any, column: Any) -> Sequence[Any]:
    if not isinstance(column, Tensor):
        return column
    column = column.detach().cpu()
    if column.dtype in _EXACT:
        return column.tolist()
    try:
        return _listed(column.numpy())
    except TypeError:
        raise GraphError(
            f"The column {name!r} has dtype {column.dtype}, which numpy and so networkx do not "
            "have. Convert it with .float()."
        ) from None


def _listed(array: np.ndarray) -> list[Any]:
    return list(array) if array.ndim == 1 else [_listed(row) for row in array]


def _check_mirrored(item: Attributed) -> None:
    """Raise unless every edge has its reverse, with the same attributes and key."""
    src, dst = item.graph.edge_index()
    count = item.graph.num_dst
    there, back = (src < dst).nonzero().flatten(), (src > dst).nonzero().flatten()
    # parallel edges are paired in their order of appearance
    place = src[there] * count + dst[there]
    mirror = dst[back] * count + src[back]
    place, order = torch.sort(place, stable=True)
    mirror, reverse = torch.sort(mirror, stable=True)
    if not torch.equal(place, mirror):
        raise GraphError(
            f"The graph is said to be undirected, but {len(place)} edges lead to a later node and "
            f"{len(mirror)} to an earlier one, or not back between the same nodes. "
            "Add the missing directions, or replace directed by True."
        )
    there, back = there[order], back[reverse]
    columns = dict(item.edge) | ({} if item.keys is None else {"keys": item.keys})
    for name, column in columns.items():
        if not _agree(column, there, back):
            raise GraphError(
                f"The graph is said to be undirected, but {name!r} differs between the two "
                "directions of an edge. Make them equal, or replace directed by True."
            )


def _agree(column: Any, there: Tensor, back: Tensor) -> bool:
    if isinstance(column, Tensor):
        a, b = column[there], column[back]
        return bool(((a == b) | ((a != a) & (b != b))).all())
    pairs = zip(there.tolist(), back.tolist(), strict=True)
    return all(_is_same(column[i], column[j]) for i, j in pairs)


def _is_same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    try:
        return bool(a == b) or bool(a != a and b != b)
    # arrays compare entry by entry and have no truth of their own
    except (ValueError, RuntimeError):
        return False
