"""Products of the ends of edges on GPUs. (opt: triton)"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..cpu.native import rows as dense_rows
from .ranges import (
    PARTS,
    acc_of,
    bits_of_float,
    factor_of,
    launch,
    leaky,
    numbers_of,
    ranges_of,
    rows_of,
    shape_of,
    slots_of,
)


@triton.jit(do_not_specialize=["count", "groups", "slope_bits", "total"])
def sddmm_kernel(
    ptr_ptr,
    part_ptr,
    idx_ptr,
    eid_ptr,
    a_ptr,
    b_ptr,
    att_ptr,
    out_ptr,
    count,
    groups,
    heads,
    channels,
    a_stride,
    b_stride,
    slope_bits,
    total,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``out[e, h] = <a[i, h], b[j, h]>``, one head of some rows at a time.

    With ``att``, GATv2's score ``<att[h], LeakyReLU(a[i, h] + b[j, h])>``.
    """
    slope = factor_of(slope_bits, ACC)
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        head = work // groups
        _, row, _, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            source = numbers_of(idx_ptr, slot, is_slot)
            dot = tl.zeros((ROWS, SLOTS, BLOCK), ACC)
            for first in range(0, channels, BLOCK):
                inner = first + tl.arange(0, BLOCK)
                is_column = inner < channels
                column = head * channels + inner
                mine = row[:, None] * a_stride + column[None, :]
                a = tl.load(a_ptr + mine, mask=is_in[:, None] & is_column[None, :], other=0)
                place = source[:, :, None] * b_stride + column[None, None, :]
                is_read = is_slot[:, :, None] & is_column[None, None, :]
                b = tl.load(b_ptr + place, mask=is_read, other=0)
                if att_ptr is None:
                    dot += a.to(ACC)[:, None, :] * b.to(ACC)
                else:
                    att = tl.load(att_ptr + column, mask=is_column, other=0).to(ACC)
                    dot += leaky(a.to(ACC)[:, None, :] + b.to(ACC), slope) * att[None, None, :]
            place = numbers_of(eid_ptr, slot, is_slot) * heads + head
            tl.store(out_ptr + place, tl.sum(dot, 2), mask=is_slot)


def sddmm(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    a_DHC: Tensor,
    b_SHC: Tensor,
) -> Tensor:
    """``graphkit::sddmm``, as ``ops/sddmm.py`` defines it."""
    return _products(ptr, idx, eid, a_DHC, b_SHC, a_DHC.dtype)


def pair_scores(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    a_DHC: Tensor,
    b_SHC: Tensor,
    att: Tensor,
    slope: float,
) -> Tensor:
    """GATv2's scores of edges, ``[E, H]``, in the dtype of ``att [H, C]``."""
    return _products(ptr, idx, eid, a_DHC, b_SHC, att.dtype, att.contiguous(), slope)


def _products(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    a_DHC: Tensor,
    b_SHC: Tensor,
    dtype: torch.dtype,
    att: Tensor | None = None,
    slope: float = 0.0,
) -> Tensor:
    a, b = dense_rows(a_DHC), dense_rows(b_SHC)
    heads, channels = a.size(1), a.size(2)
    out = a.new_empty(idx.numel(), heads, dtype=dtype)
    if out.numel() == 0:
        return out
    rows, shape = rows_of(ptr, idx.numel()), shape_of(channels)
    for what, count in rows.passes(PARTS):
        groups = triton.cdiv(count, shape.ROWS)
        launch(
            sddmm_kernel,
            groups * heads,
            *(rows.ptr, rows.part, idx, eid, a, b, att, out),
            *(count, groups, heads, channels, a.stride(0), b.stride(0), bits_of_float(slope)),
            ACC=acc_of(a.dtype),
            WHAT=what,
            **shape._asdict(),
            **rows.constants(),
        )
    return out
