"""A graph without some of its edges: rows keep their order, and nothing is sorted again."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ..errors import GraphError
from ..graph import Csr, Graph, row_ids
from ..ops.intersect import check_pairs, read_label_index


def kept_slots_reference(
    ptr: Tensor, idx: Tensor, eid: Tensor | None, keep: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    stays = keep if eid is None else keep.index_select(0, eid)
    before = torch.zeros(len(stays) + 1, dtype=torch.int64, device=ptr.device)
    torch.cumsum(stays, 0, out=before[1:])
    if eid is None:
        return before[ptr], idx[stays], idx.new_empty(0)
    # what is left is numbered anew, in the caller's order
    number = (keep.cumsum(0) - 1).to(eid.dtype)
    return before[ptr], idx[stays], number.index_select(0, eid[stays])


kept_slots_op = torch.library.custom_op(
    "graphkit::kept_slots", kept_slots_reference, mutates_args=()
)
"""Offsets, columns and edge numbers (empty where there were none) of the edges to ``keep``."""


@kept_slots_op.register_fake
def _(ptr: Tensor, idx: Tensor, eid: Tensor | None, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    size = cast(Any, torch.library.get_ctx()).new_dynamic_size()
    numbers = idx.new_empty(0) if eid is None else eid.new_empty(size)
    return torch.empty_like(ptr), idx.new_empty(size), numbers


def edge_subgraph(graph: Graph, keep: Tensor) -> Graph:
    """The graph of the edges that ``keep`` names, on the same nodes.

    ``keep [E]`` is bool, in the caller's edge order. The edges that are left are numbered in that
    order, so that tensors of edges become ``w[keep]``. A side that ``graph`` lacks is not made.

    Cost: some passes over the edges; nothing is sorted.

    Raises :class:`GraphError` for a mask of another shape, dtype or device.
    """
    # isinstance guards against lists and arrays, which callers do pass whatever the annotation
    is_mask = isinstance(keep, Tensor) and keep.dtype == torch.bool  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_mask or keep.shape != (graph.num_edges,) or keep.device != graph.device:
        got = type(keep).__name__
        if isinstance(keep, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            got = f"{keep.dtype} {list(keep.shape)} on {keep.device}"
        raise GraphError(
            f"edge_subgraph: keep is {got}, but torch.bool [{graph.num_edges}] on {graph.device} "
            "is expected: for each edge whether it stays."
        )
    by_src = None if graph.by_src is None else _kept(graph.by_src, keep)
    return Graph(_kept(graph.by_dst, keep), by_src, graph.num_dst, graph.num_src)


def _kept(side: Csr, keep: Tensor) -> Csr:
    ptr, idx, eid = torch.ops.graphkit.kept_slots(side.indptr, side.indices, side.eid, keep)
    return Csr(ptr, idx, None if side.eid is None else eid)


def without_edges(graph: Graph, edge_label_index: Tensor) -> Graph:
    """The graph without the edges that join a pair of ``edge_label_index``, in either direction.

    All of several parallel edges go, and a pair without an edge, or one that repeats, changes
    nothing. This is how NCN hides the links of a batch while it learns to predict them
    (`paper <https://arxiv.org/abs/2302.00890>`_). Its official code builds the graph again from the
    links that are left, where a link that was listed twice stays.

    ``graph``: square. ``edge_label_index [2, P]``: int64 or int32. The edges that are left keep
    their order, as in :func:`edge_subgraph`.

    Cost: the edges of the pairs' ends are looked up among the sorted pairs, and all are copied.

    Raises :class:`GraphError` for a graph with two kinds of nodes, or pairs of another shape, dtype
    or device, or out of range.
    """
    pairs = read_label_index("without_edges", graph, edge_label_index)
    check_pairs(pairs, graph.num_dst)
    slots = _joining(graph.by_dst, pairs)
    keep = torch.ones(graph.num_edges, dtype=torch.bool, device=graph.device)
    edges = slots if graph.by_dst.eid is None else graph.by_dst.eid.index_select(0, slots)
    return edge_subgraph(graph, keep.index_fill_(0, edges.to(torch.int64), False))


def _joining(rows: Csr, pairs: Tensor) -> Tensor:
    """The slots whose row and column are a pair, either way round."""
    num_nodes = rows.num_rows
    keys = torch.sort(torch.cat([pairs[0] * num_nodes + pairs[1], pairs[1] * num_nodes + pairs[0]]))
    is_end = torch.zeros(num_nodes, dtype=torch.bool, device=pairs.device)
    is_end[pairs.flatten()] = True
    ends = is_end.nonzero().squeeze(1)
    # of a large graph a batch has few of the rows
    row, slot = slots_of(rows.indptr, ends)
    wanted = ends[row] * num_nodes + rows.indices[slot]
    place = torch.searchsorted(keys.values, wanted).clamp_(max=max(0, len(keys.values) - 1))
    return slot[keys.values[place] == wanted]


def slots_of(ptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The slots of the ``rows [n]``, one row after the other: which of ``rows``, the slot.

    Two int64 tensors, as long as the rows together; ``ptr`` are the offsets of all rows.
    """
    length = ptr[rows + 1] - ptr[rows]
    own = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(length, 0, out=own[1:])
    which = row_ids(own, int(own[-1]))
    shift = ptr[rows] - own[:-1]
    return which, torch.arange(len(which), device=rows.device) + shift[which]
