"""The native search behind ``graphkit::intersect`` and ``graphkit::common_neighbors``."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..intersect import (
    Sets,
    check_pairs,
    common_neighbors_op,
    intersect_op,
    score_weights,
)
from . import native

SERVED = ("intersect", "common_neighbors")


def _neighborhoods(ptr: Tensor, idx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns that rise strictly inside rows, and where each row begins and ends."""
    ptr, idx = ptr.contiguous(), idx.contiguous()
    side, begin = native.side(ptr, idx, None), ptr[:-1]
    if native.kernels.rows_rise(side, native.threads()):
        return idx, begin, ptr[1:]
    columns, end = torch.empty_like(idx), torch.empty_like(begin)
    native.kernels.sort_rows(side, columns.data_ptr(), end.data_ptr(), native.threads())
    return columns, begin, end


def _addresses(idx: Tensor, begin: Tensor, end: Tensor) -> Any:
    """The tensors must outlive it."""
    return native.kernels.Neighbors(
        idx.data_ptr(),
        begin.data_ptr(),
        end.data_ptr(),
        idx.dtype == torch.int64,
        begin.numel(),
        idx.numel(),
    )


@intersect_op.register_kernel("cpu")
def _intersect(ptr: Tensor, idx: Tensor, pairs: Tensor, ends: bool, differences: bool) -> Sets:
    check_pairs(pairs, ptr.numel() - 1)
    pairs, rows = pairs.contiguous(), _neighborhoods(ptr, idx)
    neighbors, count = _addresses(*rows), pairs.size(1)
    sizes = [count + 1] * 3 if differences else [count + 1, 0, 0]
    offsets = [ptr.new_empty(size) for size in sizes]
    where = [array.data_ptr() if array.numel() else 0 for array in offsets]
    native.kernels.intersect_count(
        neighbors, pairs.data_ptr(), count, ends, *where, native.threads()
    )
    nodes = [idx.new_empty(int(array[-1]) if array.numel() else 0) for array in offsets]
    native.kernels.intersect_fill(
        neighbors,
        pairs.data_ptr(),
        count,
        ends,
        *where,
        *(array.data_ptr() for array in nodes),
        native.threads(),
    )
    return offsets[0], nodes[0], offsets[1], nodes[1], offsets[2], nodes[2]


@common_neighbors_op.register_kernel("cpu")
def _common_neighbors(ptr: Tensor, idx: Tensor, pairs: Tensor, score: str) -> Tensor:
    check_pairs(pairs, ptr.numel() - 1)
    pairs, rows = pairs.contiguous(), _neighborhoods(ptr, idx)
    weights = score_weights(rows[2] - rows[1], score)
    out = torch.empty(pairs.size(1), dtype=torch.float32)
    native.kernels.intersect_score(
        _addresses(*rows),
        pairs.data_ptr(),
        pairs.size(1),
        native.address(weights),
        out.data_ptr(),
        native.threads(),
    )
    return out
