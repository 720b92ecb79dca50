"""Between nodes and edges on GPUs: gather, sums, softmax of rows. (opt: triton)"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from ..cpu.native import rows as dense_rows
from .ranges import (
    AGAIN,
    JOINS,
    PARTS,
    Rows,
    acc_of,
    batches_of,
    checked,
    launch,
    numbers_of,
    ranges_of,
    rows_of,
    shape_of,
    slots_of,
)
from .spmm import sum_rows

_COUNTS = ["count", "groups", "total"]


@triton.jit(do_not_specialize=[*_COUNTS, "x_batch", "out_batch"])
def spread_kernel(
    ptr_ptr,
    part_ptr,
    eid_ptr,
    x_ptr,
    out_ptr,
    count,
    groups,
    width,
    inner,
    x_stride,
    x_batch,
    out_batch,
    total,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``out[b, e] = x[b, row of e]``."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        column = (work // groups) * BLOCK + tl.arange(0, BLOCK)
        is_column = column < width
        _, row, _, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        place = row[:, None] * x_stride + batches_of(column, inner, x_batch)[None, :]
        value = tl.load(x_ptr + place, mask=is_in[:, None] & is_column[None, :], other=0)
        value = tl.broadcast_to(value[:, None, :], (ROWS, SLOTS, BLOCK))
        of_out = batches_of(column, inner, out_batch)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            edge = numbers_of(eid_ptr, slot, is_slot)
            to = edge[:, :, None] * inner + of_out[None, None, :]
            tl.store(out_ptr + to, value, mask=is_slot[:, :, None] & is_column[None, None, :])


def spread(ptr: Tensor, eid: Tensor | None, x_BRK: Tensor, out_BEK: Tensor) -> Tensor:
    """The values of each row at all of its places, of every batch; ``out`` is returned."""
    batches, size, inner = out_BEK.shape
    if out_BEK.numel() == 0:
        return out_BEK
    width, (x_batch, x_stride, _) = batches * inner, x_BRK.stride()
    rows, shape = rows_of(ptr, size), shape_of(width)
    for what, count in rows.passes(PARTS):
        groups = triton.cdiv(count, shape.ROWS)
        launch(
            spread_kernel,
            groups * triton.cdiv(width, shape.BLOCK),
            *(rows.ptr, rows.part, eid, x_BRK, out_BEK),
            *(count, groups, width, inner, x_stride, x_batch, size * inner),
            WHAT=what,
            **shape._asdict(),
            **rows.constants(),
        )
    return out_BEK


def gather(ptr: Tensor, eid: Tensor | None, x_RK: Tensor, num_edges: int) -> Tensor:
    """``graphkit::gather``, as ``ops/segment.py`` defines it and all that follows."""
    x, out = dense_rows(x_RK), x_RK.new_empty(num_edges, x_RK.size(1))
    if out.numel():
        spread(checked(ptr, eid, num_edges), eid, x.unsqueeze(0), out.unsqueeze(0))
    return out


def segment_reduce(ptr: Tensor, eid: Tensor | None, v_EK: Tensor, mean: bool) -> Tensor:
    """A sum of rows of ``v``, which the edges' numbers are the columns of."""
    ptr, num_slots = checked(ptr, eid, v_EK.size(0)), v_EK.size(0)
    v = v_EK.unsqueeze(1)
    return sum_rows(ptr, eid, None, v, None, mean, None, None, None, num_slots).squeeze(1)


@triton.jit
def exp_less(value, top):
    """``exp(value - top)``; a row of -inf alone has no top that could be subtracted."""
    return tl.exp(value - tl.where(top == -float("inf"), 0.0, top))


@triton.jit(do_not_specialize=_COUNTS)
def softmax_kernel(
    ptr_ptr,
    part_ptr,
    eid_ptr,
    v_ptr,
    top_ptr,
    sum_ptr,
    row_top_ptr,
    row_sum_ptr,
    out_ptr,
    count,
    groups,
    width,
    v_stride,
    total,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``out[e] = exp(v[e] - top) / (sum of such)`` over each row.

    Largest values and sums, of parts and of the rows that they make up, have an entry for each
    part: those of a row are at its first.
    """
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        column = (work // groups) * BLOCK + tl.arange(0, BLOCK)
        is_column = column < width
        number, row, _, first, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        longest = tl.max(end - begin, 0)
        is_one = is_in[:, None] & is_column[None, :]
        if WHAT == 3:
            at_row = first[:, None] * width + column[None, :]
            top = tl.load(row_top_ptr + at_row, mask=is_one, other=0)
            y = tl.load(row_sum_ptr + at_row, mask=is_one, other=1)
        else:
            tops = tl.full((ROWS, SLOTS, BLOCK), -float("inf"), ACC)
            sums = tl.zeros((ROWS, SLOTS, BLOCK), ACC)
            for at in range(0, longest, SLOTS):
                slot, is_slot = slots_of(begin, end, at, SLOTS)
                is_read = is_slot[:, :, None] & is_column[None, None, :]
                if WHAT == 2:
                    place = slot[:, :, None] * width + column[None, None, :]
                    value = tl.load(top_ptr + place, mask=is_read, other=-float("inf"))
                    more = tl.load(sum_ptr + place, mask=is_read, other=0)
                else:
                    edge = numbers_of(eid_ptr, slot, is_slot)
                    place = edge[:, :, None] * v_stride + column[None, None, :]
                    value = tl.load(v_ptr + place, mask=is_read, other=-float("inf")).to(ACC)
                    more = tl.full((ROWS, SLOTS, BLOCK), 1.0, ACC)
                higher = tl.maximum(tops, value)
                sums = sums * exp_less(tops, higher) + more * exp_less(value, higher)
                tops = higher
            top = tl.max(tops, 1)
            y = tl.sum(sums * exp_less(tops, top[:, None, :]), 1)
        if WHAT == 1:
            here = number[:, None] * width + column[None, :]
            tl.store(top_ptr + here, top, mask=is_one)
            tl.store(sum_ptr + here, y, mask=is_one)
        elif WHAT == 2:
            here = number[:, None] * width + column[None, :]
            tl.store(row_top_ptr + here, top, mask=is_one)
            tl.store(row_sum_ptr + here, y, mask=is_one)
        else:
            # only where all is -inf the sum is 0, and the result
            y = tl.where(y == 0.0, 1.0, y)
            for at in range(0, longest, SLOTS):
                slot, is_slot = slots_of(begin, end, at, SLOTS)
                is_read = is_slot[:, :, None] & is_column[None, None, :]
                edge = numbers_of(eid_ptr, slot, is_slot)
                place = edge[:, :, None] * v_stride + column[None, None, :]
                value = tl.load(v_ptr + place, mask=is_read, other=-float("inf")).to(ACC)
                value = exp_less(value, top[:, None, :]) / y[:, None, :]
                place = edge[:, :, None] * width + column[None, None, :]
                tl.store(out_ptr + place, value, mask=is_read)


@triton.jit(do_not_specialize=_COUNTS)
def softmax_backward_kernel(
    ptr_ptr,
    part_ptr,
    eid_ptr,
    y_ptr,
    dy_ptr,
    dot_ptr,
    row_dot_ptr,
    out_ptr,
    count,
    groups,
    width,
    y_stride,
    dy_stride,
    total,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``out[e] = y[e] (dy[e] - sum of y dy over the row)``."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        column = (work // groups) * BLOCK + tl.arange(0, BLOCK)
        is_column = column < width
        number, row, _, first, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        longest = tl.max(end - begin, 0)
        is_one = is_in[:, None] & is_column[None, :]
        if WHAT == 3:
            at_row = first[:, None] * width + column[None, :]
            dot = tl.load(row_dot_ptr + at_row, mask=is_one, other=0)
        else:
            dots = tl.zeros((ROWS, SLOTS, BLOCK), ACC)
            for at in range(0, longest, SLOTS):
                slot, is_slot = slots_of(begin, end, at, SLOTS)
                is_read = is_slot[:, :, None] & is_column[None, None, :]
                if WHAT == 2:
                    place = slot[:, :, None] * width + column[None, None, :]
                    dots += tl.load(dot_ptr + place, mask=is_read, other=0)
                else:
                    edge = numbers_of(eid_ptr, slot, is_slot)
                    place = edge[:, :, None] * y_stride + column[None, None, :]
                    y = tl.load(y_ptr + place, mask=is_read, other=0).to(ACC)
                    place = edge[:, :, None] * dy_stride + column[None, None, :]
                    dots += y * tl.load(dy_ptr + place, mask=is_read, other=0).to(ACC)
            dot = tl.sum(dots, 1)
        here = number[:, None] * width + column[None, :]
        if WHAT == 1:
            tl.store(dot_ptr + here, dot, mask=is_one)
        elif WHAT == 2:
            tl.store(row_dot_ptr + here, dot, mask=is_one)
        else:
            for at in range(0, longest, SLOTS):
                slot, is_slot = slots_of(begin, end, at, SLOTS)
                is_read = is_slot[:, :, None] & is_column[None, None, :]
                edge = numbers_of(eid_ptr, slot, is_slot)
                place = edge[:, :, None] * y_stride + column[None, None, :]
                y = tl.load(y_ptr + place, mask=is_read, other=0).to(ACC)
                place = edge[:, :, None] * dy_stride + column[None, None, :]
                dy = tl.load(dy_ptr + place, mask=is_read, other=0).to(ACC)
                place = edge[:, :, None] * width + column[None, None, :]
                tl.store(out_ptr + place, y * (dy - dot[:, None, :]), mask=is_read)


def _in_rows(kernel: Any, rows: Rows, v: Tensor, *arguments: Any) -> None:
    """Rows by themselves; of long ones the parts, what they make up, and the parts again."""
    shape = shape_of(v.size(1))
    for what, count in rows.passes(PARTS, JOINS, AGAIN):
        groups = triton.cdiv(count, shape.ROWS)
        tensors = [a for a in arguments if not isinstance(a, int)]
        strides = [a for a in arguments if isinstance(a, int)]
        launch(
            kernel,
            groups * triton.cdiv(v.size(1), shape.BLOCK),
            *(rows.ptr, rows.part, *tensors, count, groups, v.size(1), *strides),
            ACC=acc_of(v.dtype),
            WHAT=what,
            **shape._asdict(),
            **rows.constants(),
        )


def segment_softmax(ptr: Tensor, eid: Tensor | None, v_EK: Tensor) -> Tensor:
    ptr, v = checked(ptr, eid, v_EK.size(0)), dense_rows(v_EK)
    out = v.new_empty(v.shape)
    if out.numel():
        rows = rows_of(ptr, v.size(0))
        kept = [rows.partial(v, v.size(1)) for _ in range(4)]
        _in_rows(softmax_kernel, rows, v, eid, v, *kept, out, v.stride(0))
    return out


def segment_softmax_backward(
    ptr: Tensor, eid: Tensor | None, y_EK: Tensor, dy_EK: Tensor
) -> Tensor:
    y, dy = dense_rows(y_EK), dense_rows(dy_EK)
    out = y.new_empty(y.shape)
    if out.numel():
        rows = rows_of(ptr, y.size(0))
        kept = [rows.partial(y, y.size(1)) for _ in range(2)]
        strides = y.stride(0), dy.stride(0)
        _in_rows(softmax_backward_kernel, rows, y, eid, y, dy, *kept, out, *strides)
    return out
