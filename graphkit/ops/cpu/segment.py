"""The native kernels behind ``graphkit::gather``, reductions and softmax of ``ops/segment.py``."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...graph import check_indptr
from ..segment import (
    gather_op,
    segment_extreme_op,
    segment_extreme_reference,
    segment_reduce_op,
    segment_reduce_reference,
    segment_share_op,
    segment_share_reference,
    segment_softmax_backward_op,
    segment_softmax_backward_reference,
    segment_softmax_op,
    segment_softmax_reference,
)
from . import native

SERVED = ("gather", "segment_reduce", "segment_softmax")


def _rows(ptr: Tensor, eid: Tensor | None, num_slots: int) -> tuple[Any, Tensor]:
    """The rows, and their offsets, which must outlive them; the offsets may be a caller's own."""
    ptr = ptr.contiguous()
    num_rows, threads = ptr.numel() - 1, native.threads()
    if num_rows < 0 or not native.kernels.valid_ptr(ptr.data_ptr(), num_rows, num_slots, threads):
        check_indptr(ptr, num_slots)
    return native.side(ptr, ptr, eid), ptr


def _run(
    kernel: Any,
    ptr: Tensor,
    eid: Tensor | None,
    v_EK: Tensor,
    by_row: bool,
    other: Tensor | None = None,
    third: Tensor | None = None,
    flag: bool = False,
) -> Tensor:
    """What ``kernel`` makes of ``v``, with one row for each row, or for each edge."""
    rows, ptr = _rows(ptr, eid, v_EK.size(0))
    out = v_EK.new_empty(ptr.numel() - 1 if by_row else v_EK.size(0), v_EK.size(1))
    v = native.rows(v_EK)
    # contiguous copies are kept by name while the kernel reads them
    other = None if other is None else other.contiguous()
    third = None if third is None else third.contiguous()
    kernel(
        rows,
        v.data_ptr(),
        v.stride(0),
        native.address(other),
        native.address(third),
        out.data_ptr(),
        out.size(0),
        out.size(1),
        flag,
        native.DTYPES[v.dtype],
        native.threads(),
    )
    return out


@gather_op.register_kernel("cpu")
def _gather(ptr: Tensor, eid: Tensor | None, x_RK: Tensor, num_edges: int) -> Tensor:
    rows, ptr = _rows(ptr, eid, num_edges)
    x = native.rows(x_RK)
    out = x.new_empty(num_edges, x.size(1))
    native.kernels.segment_gather(
        rows,
        x.data_ptr(),
        x.stride(0),
        out.data_ptr(),
        x.size(1),
        x.element_size(),
        native.threads(),
    )
    return out


@segment_reduce_op.register_kernel("cpu")
def _segment_reduce(ptr: Tensor, eid: Tensor | None, v_EK: Tensor, mean: bool) -> Tensor:
    if v_EK.dtype not in native.DTYPES:
        return segment_reduce_reference(ptr, eid, v_EK, mean)
    return _run(native.kernels.segment_reduce, ptr, eid, v_EK, True, flag=mean)


@segment_extreme_op.register_kernel("cpu")
def _segment_extreme(ptr: Tensor, eid: Tensor | None, v_EK: Tensor, minimum: bool) -> Tensor:
    if v_EK.dtype not in native.DTYPES:
        return segment_extreme_reference(ptr, eid, v_EK, minimum)
    return _run(native.kernels.segment_extreme, ptr, eid, v_EK, True, flag=minimum)


@segment_share_op.register_kernel("cpu")
def _segment_share(
    ptr: Tensor, eid: Tensor | None, v_EK: Tensor, best_RK: Tensor, x_RK: Tensor
) -> Tensor:
    if v_EK.dtype not in native.DTYPES or not v_EK.dtype == best_RK.dtype == x_RK.dtype:
        return segment_share_reference(ptr, eid, v_EK, best_RK, x_RK)
    return _run(native.kernels.segment_share, ptr, eid, v_EK, False, x_RK, best_RK)


@segment_softmax_op.register_kernel("cpu")
def _segment_softmax(ptr: Tensor, eid: Tensor | None, v_EK: Tensor) -> Tensor:
    if v_EK.dtype not in native.DTYPES:
        return segment_softmax_reference(ptr, eid, v_EK)
    return _run(native.kernels.segment_softmax, ptr, eid, v_EK, False)


@segment_softmax_backward_op.register_kernel("cpu")
def _segment_softmax_backward(
    ptr: Tensor, eid: Tensor | None, y_EK: Tensor, dy_EK: Tensor
) -> Tensor:
    if y_EK.dtype not in native.DTYPES or y_EK.dtype != dy_EK.dtype:
        return segment_softmax_backward_reference(ptr, eid, y_EK, dy_EK)
    return _run(native.kernels.segment_softmax_backward, ptr, eid, y_EK, False, dy_EK)
