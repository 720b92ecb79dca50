"""A graph together with what its nodes and edges carry: what the converters hand over."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import Tensor

from ..errors import GraphError
from ..graph import Graph

EdgeType = tuple[str, str, str]
"""Source type, relation, destination type."""


class _Missing(Enum):
    MISSING = "missing"

    def __repr__(self) -> str:
        return self.name


# a member of an enum, because that stays one and the same object when copied or pickled
MISSING = _Missing.MISSING
"""Stands in an object column where the node or edge has no such attribute."""


@dataclass(frozen=True, eq=False, repr=False)
class Attributed:
    """A graph, its columns, and what identifies nodes and edges outside.

    A column is a tensor or any other sequence, and its first dimension runs over the nodes or the
    edges. Change one with ``dataclasses.replace``; lengths are checked again.

    ``node``: columns of the nodes (the destinations, where the graph is bipartite).
    ``edge``: columns of the edges, in the order of ``graph.edge_index()``.
    ``src``: columns of the sources of a bipartite graph: the hyperedges of a hypergraph.
    ``whole``: attributes of the graph itself.
    ``names``: the nodes' original names, or None if they are 0, 1, 2, ...
    ``keys``: what tells parallel edges apart (networkx's multigraphs), or None.
    ``directed``: False if ``graph`` holds every edge in both directions and means one.

    Raises :class:`GraphError` for a column of another length and for a repeated name.
    """

    graph: Graph
    node: Mapping[Any, Any] = field(default_factory=dict)
    edge: Mapping[Any, Any] = field(default_factory=dict)
    src: Mapping[Any, Any] = field(default_factory=dict)
    whole: Mapping[Any, Any] = field(default_factory=dict)
    names: Sequence[Hashable] | None = None
    keys: Sequence[Hashable] | None = None
    directed: bool = True

    def __post_init__(self) -> None:
        graph = self.graph
        parts = (("node", graph.num_dst), ("edge", graph.num_edges), ("src", graph.num_src))
        for part, count in parts:
            for name, column in getattr(self, part).items():
                _check_length(f"{part}[{name!r}]", column, count)
        if self.keys is not None:
            _check_length("keys", self.keys, graph.num_edges)
        if self.names is not None:
            _check_length("names", self.names, graph.num_dst)
            _check_distinct(self.names)

    def __repr__(self) -> str:
        parts = [repr(self.graph)]
        for part in ("node", "edge", "src", "whole"):
            if getattr(self, part):
                parts.append(f"{part}={sorted(map(str, getattr(self, part)))}")
        parts += [f"{part}=..." for part in ("names", "keys") if getattr(self, part) is not None]
        if not self.directed:
            parts.append("directed=False")
        return f"Attributed({', '.join(parts)})"


@dataclass(frozen=True, eq=False, repr=False)
class Hetero:
    """Graphs by edge type between nodes of several types, and what each type carries.

    ``graphs``: one graph for each (source type, relation, destination type).
    ``num_nodes``: the number of nodes of each type; it fixes the sizes of all graphs.
    ``node``, ``edge``: for each type a dict of what its store holds, columns and other values.
    ``whole``: attributes of the graph itself.

    Raises :class:`GraphError` if a graph's sizes differ from ``num_nodes``.
    """

    graphs: Mapping[EdgeType, Graph]
    num_nodes: Mapping[str, int]
    node: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    edge: Mapping[EdgeType, Mapping[str, Any]] = field(default_factory=dict)
    whole: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, graph in self.graphs.items():
            for node_type, count in ((kind[0], graph.num_src), (kind[2], graph.num_dst)):
                known = self.num_nodes.get(node_type)
                if known != count:
                    raise GraphError(
                        f"The graph {kind} has {count} nodes of type {node_type!r}, but "
                        f"num_nodes[{node_type!r}] is {known}. "
                        "Pass num_src and num_dst when building the graphs."
                    )
        for part, known in (("node", self.num_nodes), ("edge", self.graphs)):
            for kind in getattr(self, part):
                if kind not in known:
                    raise GraphError(
                        f"{part}[{kind!r}] is given, but the {part} types are {list(known)}. "
                        "Add the type's graph, or its entry in num_nodes."
                    )

    def __repr__(self) -> str:
        edges = {kind: graph.num_edges for kind, graph in self.graphs.items()}
        return f"Hetero(num_nodes={dict(self.num_nodes)}, num_edges={edges})"


def attributed(source: Graph | Attributed, call: str) -> Attributed:
    """``source`` with no columns if it is a bare Graph; ``call`` names the caller in the error."""
    if isinstance(source, Attributed):
        return source
    if isinstance(source, Graph):  # pyright: ignore[reportUnnecessaryIsInstance]
        return Attributed(source)
    raise GraphError(
        f"{call} got a {type(source).__name__}, but a graphkit.Graph or an Attributed is expected. "
        "Build one with Graph.from_edge_index or graphkit.interop.from_data."
    )


def check_square(item: Attributed, call: str) -> None:
    """Raise :class:`GraphError` unless sources and destinations are the same nodes."""
    graph = item.graph
    if graph.num_src != graph.num_dst or item.src:
        raise GraphError(
            f"{call}: the graph is bipartite ({graph.num_src} sources, {graph.num_dst} "
            "destinations), but one set of nodes is expected. Use to_scipy, to_torch_sparse, "
            "to_hetero_data or, for hyperedges as sources, to_hypergraph_data."
        )


def hetero(source: Hetero | Mapping[EdgeType, Graph], call: str) -> Hetero:
    """``source`` with its node counts read off the graphs if it is a bare dict of them."""
    if isinstance(source, Hetero):
        return source
    if not isinstance(source, Mapping):
        raise GraphError(
            f"{call} got a {type(source).__name__}, but a Hetero or a dict of graphkit.Graph by "
            "(source type, relation, destination type) is expected."
        )
    num_nodes: dict[str, int] = {}
    for kind, graph in source.items():
        num_nodes.setdefault(kind[0], graph.num_src)
        num_nodes.setdefault(kind[2], graph.num_dst)
    return Hetero(source, num_nodes)


def _check_length(what: str, column: Any, count: int) -> None:
    if isinstance(column, Tensor):
        length = column.size(0) if column.dim() else None
    else:
        length = len(column) if hasattr(column, "__len__") else None
    if length != count:
        got = "no" if length is None else str(length)
        raise GraphError(
            f"{what} has {got} entries, but {count} are expected. "
            "Put what belongs to the graph itself into whole."
        )


def _check_distinct(names: Sequence[Hashable]) -> None:
    try:
        distinct = len(set(names))
    except TypeError as error:
        raise GraphError(f"names holds a value that cannot be hashed ({error}).") from None
    if distinct != len(names):
        raise GraphError(
            f"names has {len(names)} entries, but only {distinct} of them differ. "
            "Give each node a name of its own."
        )
