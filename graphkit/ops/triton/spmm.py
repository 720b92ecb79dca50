"""Sums of rows on GPUs: ``graphkit::spmm``, and what ``segment_reduce`` is. (opt: triton)"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..cpu.native import rows as dense_rows
from .ranges import (
    JOINS,
    PARTS,
    acc_of,
    launch,
    numbers_of,
    ranges_of,
    rows_of,
    shape_of,
    slots_of,
)

_COUNTS = ["count", "groups", "total"]


# counts that differ from batch to batch compile nothing anew
@triton.jit(do_not_specialize=_COUNTS)
def sum_rows_kernel(
    ptr_ptr,
    part_ptr,
    idx_ptr,
    eid_ptr,
    x_ptr,
    w_ptr,
    left_ptr,
    right_ptr,
    diagonal_ptr,
    partial_ptr,
    out_ptr,
    count,
    groups,
    width,
    channels,
    x_stride,
    w_heads,
    total,
    MEAN: tl.constexpr,
    WEIGHTS: tl.constexpr,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``out[i] = left[i] (sum of w[e] right[j] x[j], + diagonal[i] right[i] x[i])``.

    ``WEIGHTS`` is 0, 1 for one weight of each edge, or 2 for one of each head. Sums of parts are
    kept in ``partial``.
    """
    # all rows of one tile, then of the next: the tile's columns stay in the cache
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        column = (work // groups) * BLOCK + tl.arange(0, BLOCK)
        is_column = column < width
        number, row, length, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        y = tl.zeros((ROWS, SLOTS, BLOCK), ACC)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            is_read = is_slot[:, :, None] & is_column[None, None, :]
            if WHAT == 2:
                place = slot[:, :, None] * width + column[None, None, :]
                y += tl.load(partial_ptr + place, mask=is_read, other=0)
            else:
                source = numbers_of(idx_ptr, slot, is_slot)
                place = source[:, :, None] * x_stride + column[None, None, :]
                value = tl.load(x_ptr + place, mask=is_read, other=0).to(ACC)
                if right_ptr is not None:
                    scale = tl.load(right_ptr + source, mask=is_slot, other=0)
                    value = value * scale[:, :, None]
                if WEIGHTS == 1:
                    edge = numbers_of(eid_ptr, slot, is_slot)
                    w = tl.load(w_ptr + edge, mask=is_slot, other=0).to(ACC)
                    value = value * w[:, :, None]
                if WEIGHTS == 2:
                    edge = numbers_of(eid_ptr, slot, is_slot)
                    place = edge[:, :, None] * w_heads + (column // channels)[None, None, :]
                    value = value * tl.load(w_ptr + place, mask=is_read, other=0).to(ACC)
                y += value
        out = tl.sum(y, 1)
        is_out = is_in[:, None] & is_column[None, :]
        if WHAT == 1:
            tl.store(partial_ptr + number[:, None] * width + column[None, :], out, mask=is_out)
        else:
            if MEAN:
                out = out / tl.maximum(length, 1).to(ACC)[:, None]
            if diagonal_ptr is not None:
                own = row[:, None] * x_stride + column[None, :]
                own = tl.load(x_ptr + own, mask=is_out, other=0).to(ACC)
                if right_ptr is not None:
                    own = own * tl.load(right_ptr + row, mask=is_in, other=0)[:, None]
                out += own * tl.load(diagonal_ptr + row, mask=is_in, other=0)[:, None]
            if left_ptr is not None:
                out = out * tl.load(left_ptr + row, mask=is_in, other=0)[:, None]
            tl.store(out_ptr + row[:, None] * width + column[None, :], out, mask=is_out)


def sum_rows(
    ptr: Tensor,
    idx: Tensor | None,
    eid: Tensor | None,
    x_SHC: Tensor,
    w_EH: Tensor | None,
    mean: bool,
    left: Tensor | None,
    right: Tensor | None,
    diagonal: Tensor | None,
    num_slots: int,
) -> Tensor:
    """The sum of each row's slots; slot ``s`` reads row ``idx[s]`` of ``x``, row ``s`` without."""
    x, w = dense_rows(x_SHC), None if w_EH is None else w_EH.contiguous()
    out = x.new_empty(ptr.numel() - 1, x.size(1), x.size(2))
    width = x.size(1) * x.size(2)
    if out.numel() == 0:
        return out
    rows = rows_of(ptr, num_slots)
    name = "stream" if idx is None else "sum"
    partial, shape = rows.partial(x, width), rows.tuned(name, width, x, shape_of(width))
    for what, count in rows.passes(PARTS, JOINS):
        groups = triton.cdiv(count, shape.ROWS)
        # what has been summed up once is only joined
        read = (None, None, None) if what == JOINS else (idx, eid, w)
        weights = 0 if read[2] is None else read[2].size(1)
        launch(
            sum_rows_kernel,
            groups * triton.cdiv(width, shape.BLOCK),
            *(rows.ptr, rows.part, *read[:2], x, read[2], left, right, diagonal, partial, out),
            *(count, groups, width, x.size(2), x.stride(0), weights),
            MEAN=mean,
            WEIGHTS=min(weights, 2),
            ACC=acc_of(x.dtype),
            WHAT=what,
            **shape._asdict(),
            **rows.constants(),
        )
    return out


def spmm(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    x_SHC: Tensor,
    w_EH: Tensor | None,
    mean: bool,
    left: Tensor | None = None,
    right: Tensor | None = None,
    diagonal: Tensor | None = None,
) -> Tensor:
    """``graphkit::spmm``, as ``ops/spmm.py`` defines it."""
    return sum_rows(ptr, idx, eid, x_SHC, w_EH, mean, left, right, diagonal, idx.numel())
