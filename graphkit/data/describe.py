"""What the files of a data set hold, in figures: what ``graphkit data info`` shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..structure import as_hypergraph, homophily_table, merge_duplicates
from .assemble import counts, part_sizes


def describe(kind: str, task: str, data: Any) -> dict[str, Any]:
    """Counts, the sizes of the parts, facts about the edges, and :func:`homophily_of` the labels.

    ``homophily`` is there if every node has one class, by the ``task`` of the card; of a hypergraph
    there are :func:`hyperedge_facts`.
    """
    has_edges = kind in ("node", "structure", "link")
    # whether a graph is directed comes with the other facts, unless its edges have attributes
    plain = has_edges and getattr(data, "edge_attr", None) is None
    found: dict[str, Any] = counts(kind, data, () if plain else None)
    found |= part_sizes(kind, data) or {}
    if kind == "hypergraph":
        return found | hyperedge_facts(data.edge_index, found["nodes"], found["hyperedges"])
    if not has_edges:
        return found
    facts = edge_facts(data["edge_index"], data.num_nodes)
    # PyG's word for edges with attributes: those of both directions must be equal
    found |= facts | {"directed": found.get("directed", facts["directed"])}
    if task == "node-classification" and getattr(data, "y", None) is not None:
        found["homophily"] = _tables(data["edge_index"], data["y"], facts["directed"])
    return found


def edge_facts(edge_index: Tensor, num_nodes: int) -> dict[str, Any]:
    """What is worth knowing of the edges ``[2, E]`` before a model sees them.

    Returns:
        directed: is there an edge that occurs more often than its reverse?
        reciprocal_share: of the different edges without self-loops, how many have their reverse;
            None if there are none.
        isolated_nodes: nodes without an edge to another one.
        self_loops, duplicate_edges: columns that join a node to itself, or repeat another one.
    """
    src, dst = edge_index.numpy()
    is_loop = src == dst
    key, back = src * num_nodes + dst, dst * num_nodes + src
    # np.unique hashes whole numbers, many times slower than a sort
    key.sort()
    back.sort()
    directed = not np.array_equal(key, back)
    key, back = _once(key), _once(back)
    both = len(np.intersect1d(key, back, assume_unique=True)) if directed else len(key)
    loops = len(np.unique(src[is_loop]))
    lonely = np.ones(num_nodes, dtype=bool)
    for ends in (src, dst):
        lonely[ends[~is_loop]] = False
    return {
        "directed": directed,
        "reciprocal_share": (both - loops) / (len(key) - loops) if len(key) > loops else None,
        "isolated_nodes": int(lonely.sum()),
        "self_loops": int(is_loop.sum()),
        "duplicate_edges": len(src) - len(key),
    }


def hyperedge_facts(hyperedge_index: Tensor, num_nodes: int, num_edges: int) -> dict[str, Any]:
    """What is worth knowing of the hyperedges of ``hyperedge_index [2, nnz]``.

    Returns:
        hyperedge_sizes, node_degrees: least, median, mean and largest, of all of them.
        empty_hyperedges, singletons: how many have no member, or one.
        duplicate_hyperedges: how many repeat the members of an earlier one.
        nodes_in_none, share_in_none: nodes in no hyperedge.
        distributions: of ``size`` and ``degree``, how often each value is there.
    """
    h = as_hypergraph(hyperedge_index, num_nodes, num_edges)
    size, degree = h.out_degree(), h.in_degree()
    alone = int((degree == 0).sum())
    return {
        "hyperedge_sizes": _summary(size),
        "node_degrees": _summary(degree),
        "empty_hyperedges": int((size == 0).sum()),
        "singletons": int((size == 1).sum()),
        "duplicate_hyperedges": num_edges - merge_duplicates(h).hypergraph.num_src,
        "nodes_in_none": alone,
        "share_in_none": alone / num_nodes if num_nodes else None,
        "distributions": {"size": _counted(size), "degree": _counted(degree)},
    }


def _summary(count: Tensor) -> dict[str, float]:
    if not len(count):
        return {}
    low, high = count.aminmax()
    # the lower of two in the middle, as torch has it
    middle, mean = int(count.median()), float(count.double().mean())
    return {"min": int(low), "median": middle, "mean": mean, "max": int(high)}


def _counted(count: Tensor) -> dict[int, int]:
    often = torch.bincount(count)
    return {int(value): int(often[value]) for value in often.nonzero().view(-1)}


def homophily_of(data: Any, name: str = "data") -> dict[str, dict[str, float]]:
    """:func:`graphkit.structure.homophily_table` of PyG's ``data``: of the edges as ``stored`` and,
    if they have directions, ``undirected``.

    Raises :class:`DataError`, with ``name``, unless every node has one class or none (-1 or NaN).
    """
    y, edge_index = (getattr(data, key, None) for key in ("y", "edge_index"))
    plain = isinstance(y, Tensor) and isinstance(edge_index, Tensor)
    if not plain or y.numel() != data.num_nodes or not bool((y.nan_to_num() % 1 == 0).all()):  # pyright: ignore[reportOptionalMemberAccess]
        raise DataError(
            f"{name}: homophily is of one graph whose nodes have a class each, which this is not. "
            "See graphkit data list --kind node."
        )
    return _tables(edge_index, y, edge_facts(edge_index, data.num_nodes)["directed"])  # pyright: ignore[reportArgumentType]


def class_numbers(y: Tensor) -> Tensor:
    """Classes ``[N]`` or ``[N, 1]`` as int64 ``[N]``; NaN, for one that is not known, as -1.

    PyG gives some classes as a column of floating-point numbers.
    """
    return y.view(-1).nan_to_num(-1.0).long()


def _tables(edge_index: Tensor, y: Tensor, directed: bool) -> dict[str, dict[str, float]]:
    y = class_numbers(y)
    found = {"stored": homophily_table(edge_index, y)}
    if directed:
        found["undirected"] = homophily_table(edge_index, y, variant="undirected")
    return found


def _once(key: np.ndarray) -> np.ndarray:
    """The sorted ``key`` without repetitions."""
    first = np.ones(len(key), dtype=bool)
    np.not_equal(key[1:], key[:-1], out=first[1:])
    return key[first]
