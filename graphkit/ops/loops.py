"""The loops of a graph: edges that lead from a node to itself."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

import torch
from torch import Tensor

from ..graph import Csr, row_ids


def count_self_loops_reference(ptr: Tensor, idx: Tensor) -> Tensor:
    loops = idx == row_ids(ptr, idx.size(0))
    return torch.cat([loops.new_zeros(1, dtype=torch.int64), loops.cumsum(0)])[ptr].diff()


count_self_loops_op = torch.library.custom_op(
    "graphkit::count_self_loops", count_self_loops_reference, mutates_args=()
)


@count_self_loops_op.register_fake
def _(ptr: Tensor, idx: Tensor) -> Tensor:
    return ptr.new_empty(ptr.size(0) - 1, dtype=torch.int64)


def self_loop_mask_reference(ptr: Tensor, idx: Tensor, eid: Tensor | None) -> Tensor:
    loops = idx == row_ids(ptr, idx.size(0))
    return loops if eid is None else torch.empty_like(loops).index_copy_(0, eid.long(), loops)


self_loop_mask_op = torch.library.custom_op(
    "graphkit::self_loop_mask", self_loop_mask_reference, mutates_args=()
)


@self_loop_mask_op.register_fake
def _(ptr: Tensor, idx: Tensor, eid: Tensor | None) -> Tensor:
    return idx.new_empty(idx.size(0), dtype=torch.bool)


def count_self_loops(rows: Csr) -> Tensor:
    """How many slots of each row have the row's own number as column, int64 ``[R]``."""
    return torch.ops.graphkit.count_self_loops(rows.indptr, rows.indices)


def self_loop_mask(rows: Csr) -> Tensor:
    """Which edges are such slots, bool ``[E]`` in the caller's edge order."""
    return torch.ops.graphkit.self_loop_mask(rows.indptr, rows.indices, rows.eid)
