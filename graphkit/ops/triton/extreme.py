"""The largest or smallest slot of each row on GPUs, and its gradients. (opt: triton)

A message is rounded to the dtype of the values, so that the winners are found again by comparing.
The gradient goes first to shares, one for each row: what comes in over the number of winners. Then
each source adds up the shares of the edges that it won, in their order.
"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..cpu.native import rows as dense_rows
from .csr import other_side
from .ranges import (
    JOINS,
    PARTS,
    Rows,
    acc_of,
    checked,
    columns_of,
    launch,
    numbers_of,
    ranges_of,
    rows_of,
    shape_of,
    slots_of,
)

_COUNTS = ["count", "groups", "total"]


@triton.jit
def weights_of(w_ptr, edge, is_slot, head, w_heads, ACC: tl.constexpr):
    place = edge * w_heads + head % w_heads
    return tl.load(w_ptr + place, mask=is_slot, other=0).to(ACC)[:, :, None]


@triton.jit
def messages_of(value, w_ptr, edge, is_slot, head, w_heads, ACC: tl.constexpr):
    """``value``, times the edges' weights if there are any, rounded to its dtype."""
    message = value.to(ACC)
    if w_ptr is not None:
        w = weights_of(w_ptr, edge, is_slot, head, w_heads, ACC)
        message = (message * w).to(value.dtype).to(ACC)
    return message


@triton.jit
def attain(message, best):
    return (message == best) | ((message != message) & (best != best))


@triton.jit
def bits_of(won_ptr, edge, head, inner, is_read, heads, num_bytes):
    """Whether channels ``inner`` of the edges won."""
    place = (edge * heads + head)[:, :, None] * num_bytes + (inner // 8)[None, None, :]
    byte = tl.load(won_ptr + place, mask=is_read, other=0).to(tl.int32)
    return (byte >> (inner % 8).to(tl.int32)[None, None, :]) & 1 == 1


@triton.jit(do_not_specialize=_COUNTS)
def best_kernel(
    ptr_ptr,
    part_ptr,
    idx_ptr,
    eid_ptr,
    x_ptr,
    w_ptr,
    partial_ptr,
    out_ptr,
    count,
    groups,
    tiles,
    heads,
    channels,
    width,
    x_stride,
    w_heads,
    total,
    MINIMUM: tl.constexpr,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """The largest message of each row, nan if there is one; 0 for empty rows."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        head, inner, is_column, column = columns_of(work // groups, tiles, channels, BLOCK)
        number, row, length, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        best = tl.full((ROWS, SLOTS, BLOCK), -float("inf"), ACC)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            is_read = is_slot[:, :, None] & is_column[None, None, :]
            if WHAT == 2:
                place = slot[:, :, None] * width + column[None, None, :]
                value = tl.load(partial_ptr + place, mask=is_read, other=-float("inf"))
            else:
                source = numbers_of(idx_ptr, slot, is_slot)
                edge = numbers_of(eid_ptr, slot, is_slot)
                place = source[:, :, None] * x_stride + column[None, None, :]
                value = tl.load(x_ptr + place, mask=is_read, other=0)
                value = messages_of(value, w_ptr, edge, is_slot, head, w_heads, ACC)
                value = -value if MINIMUM else value
                value = tl.where(is_read, value, -float("inf"))
            best = tl.maximum(best, value, propagate_nan=tl.PropagateNan.ALL)
        is_nan = tl.max((best != best).to(tl.int32), 1) > 0
        out = tl.max(best, 1)
        out = tl.where(is_nan, float("nan"), out)
        is_out = is_in[:, None] & is_column[None, :]
        if WHAT == 1:
            to = number[:, None] * width + column[None, :]
            tl.store(partial_ptr + to, out, mask=is_out)
        else:
            out = -out if MINIMUM else out
            out = tl.where(length[:, None] > 0, out, 0.0)
            to = row[:, None] * width + column[None, :]
            tl.store(out_ptr + to, out, mask=is_out)


@triton.jit(do_not_specialize=_COUNTS)
def winners_kernel(
    ptr_ptr,
    part_ptr,
    idx_ptr,
    eid_ptr,
    x_ptr,
    w_ptr,
    best_ptr,
    won_ptr,
    tied_ptr,
    dy_ptr,
    partial_ptr,
    share_ptr,
    count,
    groups,
    tiles,
    heads,
    channels,
    width,
    x_stride,
    w_heads,
    num_bytes,
    total,
    BITS: tl.constexpr,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """Who won: counted over each row, for ``share = dy / winners``, or noted with who is tied.

    Winners are read from ``won`` where ``BITS``, and else are who attains ``best``.
    """
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        head, inner, is_column, column = columns_of(work // groups, tiles, channels, BLOCK)
        number, row, _, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        is_one = is_in[:, None] & is_column[None, :]
        here = row[:, None] * width + column[None, :]
        if WHAT != 2 and not BITS:
            best = tl.load(best_ptr + here, mask=is_one, other=0).to(ACC)
        winners = tl.zeros((ROWS, SLOTS, BLOCK), tl.int32)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            is_read = is_slot[:, :, None] & is_column[None, None, :]
            if WHAT == 2:
                place = slot[:, :, None] * width + column[None, None, :]
                winners += tl.load(partial_ptr + place, mask=is_read, other=0)
            else:
                edge = numbers_of(eid_ptr, slot, is_slot)
                if BITS:
                    won = bits_of(won_ptr, edge, head, inner, is_read, heads, num_bytes)
                else:
                    source = numbers_of(idx_ptr, slot, is_slot)
                    place = source[:, :, None] * x_stride + column[None, None, :]
                    value = tl.load(x_ptr + place, mask=is_read, other=0)
                    value = messages_of(value, w_ptr, edge, is_slot, head, w_heads, ACC)
                    won = attain(value, best[:, None, :]) & is_read
                winners += won.to(tl.int32)
                if tied_ptr is not None:
                    bits = won.to(tl.int32) << (inner % 8).to(tl.int32)[None, None, :]
                    bits = tl.sum(tl.reshape(bits, (ROWS, SLOTS, BLOCK // 8, 8)), 3)
                    byte = (work // groups % tiles) * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
                    place = (edge * heads + head)[:, :, None] * num_bytes + byte[None, None, :]
                    is_byte = is_slot[:, :, None] & (byte < num_bytes)[None, None, :]
                    tl.store(won_ptr + place, bits.to(tl.uint8), mask=is_byte)
        sums = tl.sum(winners, 1)
        if WHAT == 1:
            to = number[:, None] * width + column[None, :]
            tl.store(partial_ptr + to, sums, mask=is_one)
        elif tied_ptr is not None:
            # several programs may say so of one row, and all say the same
            is_tied = is_in & (tl.max(sums, 1) > 1)
            tl.store(tied_ptr + row, tl.full((ROWS,), 1, tl.uint8), mask=is_tied)
        else:
            share = tl.load(dy_ptr + here, mask=is_one, other=0).to(ACC)
            tl.store(share_ptr + here, share / tl.maximum(sums, 1).to(ACC), mask=is_one)


@triton.jit(do_not_specialize=_COUNTS)
def to_sources_kernel(
    ptr_ptr,
    part_ptr,
    idx_ptr,
    eid_ptr,
    share_ptr,
    x_ptr,
    w_ptr,
    best_ptr,
    won_ptr,
    partial_ptr,
    out_ptr,
    count,
    groups,
    tiles,
    heads,
    channels,
    width,
    x_stride,
    w_heads,
    num_bytes,
    total,
    BITS: tl.constexpr,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``dx[j] = sum of w[e] share[i]`` over the edges of ``j`` that won: rows are sources."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        head, inner, is_column, column = columns_of(work // groups, tiles, channels, BLOCK)
        number, row, _, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        is_one = is_in[:, None] & is_column[None, :]
        if WHAT != 2 and not BITS:
            mine = row[:, None] * x_stride + column[None, :]
            mine = tl.load(x_ptr + mine, mask=is_one, other=0)[:, None, :]
        y = tl.zeros((ROWS, SLOTS, BLOCK), ACC)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            is_read = is_slot[:, :, None] & is_column[None, None, :]
            if WHAT == 2:
                place = slot[:, :, None] * width + column[None, None, :]
                y += tl.load(partial_ptr + place, mask=is_read, other=0)
            else:
                to = numbers_of(idx_ptr, slot, is_slot)
                edge = numbers_of(eid_ptr, slot, is_slot)
                place = to[:, :, None] * width + column[None, None, :]
                if BITS:
                    won = bits_of(won_ptr, edge, head, inner, is_read, heads, num_bytes)
                else:
                    best = tl.load(best_ptr + place, mask=is_read, other=0).to(ACC)
                    value = messages_of(mine, w_ptr, edge, is_slot, head, w_heads, ACC)
                    won = attain(value, best) & is_read
                paid = tl.load(share_ptr + place, mask=won, other=0).to(ACC)
                if w_ptr is not None:
                    paid = paid * weights_of(w_ptr, edge, is_slot, head, w_heads, ACC)
                # a weight that did not win may be infinite or nan
                y += tl.where(won, paid, 0.0)
        out = tl.sum(y, 1)
        if WHAT == 1:
            to = number[:, None] * width + column[None, :]
            tl.store(partial_ptr + to, out, mask=is_one)
        else:
            to = row[:, None] * width + column[None, :]
            tl.store(out_ptr + to, out, mask=is_one)


@triton.jit(do_not_specialize=_COUNTS)
def to_edges_kernel(
    ptr_ptr,
    part_ptr,
    idx_ptr,
    eid_ptr,
    share_ptr,
    x_ptr,
    w_ptr,
    best_ptr,
    out_ptr,
    count,
    groups,
    width,
    span,
    x_stride,
    w_heads,
    total,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``dw[e] = sum of share[i] x[j]`` over the ``span`` columns of a weight that the edge won.

    Without weights, the share of each column itself.
    """
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        head = work // groups
        _, row, _, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            source = numbers_of(idx_ptr, slot, is_slot)
            edge = numbers_of(eid_ptr, slot, is_slot)
            dot = tl.zeros((ROWS, SLOTS, BLOCK), ACC)
            for first in range(0, span, BLOCK):
                inner = first + tl.arange(0, BLOCK)
                is_column = inner < span
                column = head * span + inner
                is_one = is_in[:, None] & is_column[None, :]
                is_read = is_slot[:, :, None] & is_column[None, None, :]
                here = row[:, None] * width + column[None, :]
                best = tl.load(best_ptr + here, mask=is_one, other=0).to(ACC)[:, None, :]
                share = tl.load(share_ptr + here, mask=is_one, other=0).to(ACC)[:, None, :]
                place = source[:, :, None] * x_stride + column[None, None, :]
                x = tl.load(x_ptr + place, mask=is_read, other=0)
                value = messages_of(x, w_ptr, edge, is_slot, head, w_heads, ACC)
                won = attain(value, best) & is_read
                if w_ptr is None:
                    place = edge[:, :, None] * width + column[None, None, :]
                    paid = tl.where(won, tl.broadcast_to(share, (ROWS, SLOTS, BLOCK)), 0.0)
                    tl.store(out_ptr + place, paid, mask=is_read)
                else:
                    dot += tl.where(won, share * x.to(ACC), 0.0)
            if w_ptr is not None:
                tl.store(out_ptr + edge * w_heads + head, tl.sum(dot, 2), mask=is_slot)


def _launch(
    kernel: Any,
    rows: Rows,
    like_NHC: Tensor,
    tensors: Any,
    sizes: Any,
    *over: int,
    **constants: Any,
) -> None:
    """Heads, tiles of channels and groups of rows; ``like`` has the shape of what comes out."""
    heads, channels = like_NHC.size(1), like_NHC.size(2)
    sizes = (heads, channels, heads * channels, *sizes)
    # bits of eight channels make a byte
    shape = shape_of(max(8, channels))
    tiles = triton.cdiv(channels, shape.BLOCK)
    for what, count in rows.passes(*over):
        groups = triton.cdiv(count, shape.ROWS)
        launch(
            kernel,
            groups * tiles * heads,
            *(rows.ptr, rows.part, *tensors, count, groups, tiles, *sizes),
            ACC=acc_of(like_NHC.dtype),
            WHAT=what,
            **shape._asdict(),
            **rows.constants(),
            **constants,
        )


def _weights(w: Tensor | None) -> int:
    return 1 if w is None else w.size(1)


def best_of_rows(
    rows: Rows, idx: Tensor | None, eid: Tensor | None, x: Tensor, w: Tensor | None, minimum: bool
) -> Tensor:
    """The extreme of each row's messages; slot ``s`` reads row ``idx[s]`` of ``x``."""
    out = x.new_empty(rows.num_rows, x.size(1), x.size(2))
    if out.numel():
        partial = rows.partial(x, x.size(1) * x.size(2))
        tensors = idx, eid, x, w, partial, out
        sizes = x.stride(0), _weights(w)
        _launch(best_kernel, rows, out, tensors, sizes, PARTS, JOINS, MINIMUM=minimum)
    return out


def shares(
    rows: Rows,
    idx: Tensor | None,
    eid: Tensor | None,
    x: Tensor | None,
    w: Tensor | None,
    best: Tensor | None,
    won: Tensor | None,
    dy: Tensor,
) -> Tensor:
    """``dy`` over the number of winners of each row."""
    share, x_stride = torch.empty_like(dy), 0 if x is None else x.stride(0)
    if dy.numel():
        partial = rows.partial(dy, dy.size(1) * dy.size(2), torch.int32)
        tensors = idx, eid, x, w, best, won, None, dy, partial, share
        sizes = x_stride, _weights(w), 0 if won is None else won.size(2)
        over = PARTS, JOINS
        _launch(winners_kernel, rows, dy, tensors, sizes, *over, BITS=won is not None)
    return share


def to_edges(
    rows: Rows,
    idx: Tensor | None,
    eid: Tensor | None,
    share: Tensor,
    x: Tensor,
    w: Tensor | None,
    best: Tensor,
    out: Tensor,
) -> Tensor:
    """What the weights, or without any the slots themselves, get of the shares: ``out``."""
    width, w_heads = share.size(1) * share.size(2), _weights(w)
    if out.numel() == 0:
        return out
    if width == 0:
        return out.zero_()
    shape = shape_of(width // w_heads)
    for what, count in rows.passes(PARTS):
        groups = triton.cdiv(count, shape.ROWS)
        launch(
            to_edges_kernel,
            groups * w_heads,
            *(rows.ptr, rows.part, idx, eid, share, x, w, best, out),
            *(count, groups, width, width // w_heads, x.stride(0), w_heads),
            ACC=acc_of(x.dtype),
            WHAT=what,
            **shape._asdict(),
            **rows.constants(),
        )
    return out


def spmm_extreme(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    x_SHC: Tensor,
    w_EH: Tensor | None,
    minimum: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``graphkit::spmm_extreme``, as ``ops/extreme.py`` defines it and all that follows."""
    x, w = dense_rows(x_SHC), None if w_EH is None else w_EH.contiguous()
    rows = rows_of(ptr, idx.numel())
    out = best_of_rows(rows, idx, eid, x, w, minimum)
    if not keep:
        empty = x.new_empty(0, dtype=torch.uint8)
        return out, empty, empty.to(torch.bool, copy=True)
    num_bytes = (x.size(2) + 7) // 8
    won = x.new_empty(idx.numel(), x.size(1), num_bytes, dtype=torch.uint8)
    tied = x.new_zeros(rows.num_rows, dtype=torch.uint8)
    if won.numel():
        partial = rows.partial(x, x.size(1) * x.size(2), torch.int32)
        tensors = idx, eid, x, w, out, won, tied, None, partial, None
        sizes = x.stride(0), _weights(w), num_bytes
        _launch(winners_kernel, rows, out, tensors, sizes, PARTS, JOINS, BITS=False)
    return out, won, tied.view(torch.bool)


def spmm_extreme_backward(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    dy_DHC: Tensor,
    x_SHC: Tensor | None,
    w_EH: Tensor | None,
    out_DHC: Tensor | None,
    won_EHB: Tensor | None,
    tied_D: Tensor | None,
    num_src: int,
) -> Tensor:
    dy, w = dy_DHC.contiguous(), None if w_EH is None else w_EH.contiguous()
    x = None if x_SHC is None else dense_rows(x_SHC)
    best = None if out_DHC is None else out_DHC.contiguous()
    dx = dy.new_empty(num_src, dy.size(1), dy.size(2))
    if dx.numel() == 0:
        return dx
    if tptr is None or tidx is None:
        # sums follow the edges of each source, which this sorts out on every call
        tptr, tidx, teid = other_side(ptr, idx, eid, num_src)
    share = shares(rows_of(ptr, idx.numel()), idx, eid, x, w, best, won_EHB, dy)
    rows = rows_of(tptr, idx.numel())
    partial = rows.partial(dy, dy.size(1) * dy.size(2))
    tensors = tidx, teid, share, x, w, best, won_EHB, partial, dx
    x_stride, num_bytes = 0 if x is None else x.stride(0), 0 if won_EHB is None else won_EHB.size(2)
    sizes = x_stride, _weights(w), num_bytes
    _launch(to_sources_kernel, rows, dx, tensors, sizes, PARTS, JOINS, BITS=won_EHB is not None)
    return dx


def spmm_extreme_weights(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    dy_DHC: Tensor,
    x_SHC: Tensor,
    w_EH: Tensor,
    out_DHC: Tensor,
) -> Tensor:
    dy, x, w, best = dy_DHC.contiguous(), dense_rows(x_SHC), w_EH.contiguous(), out_DHC.contiguous()
    rows = rows_of(ptr, idx.numel())
    share = shares(rows, idx, eid, x, w, best, None, dy)
    return to_edges(rows, idx, eid, share, x, w, best, torch.empty_like(w))


def segment_extreme(ptr: Tensor, eid: Tensor | None, v_EK: Tensor, minimum: bool) -> Tensor:
    """The extreme of rows of ``v``, which the edges' numbers are the columns of."""
    rows = rows_of(checked(ptr, eid, v_EK.size(0)), v_EK.size(0))
    return best_of_rows(rows, eid, None, dense_rows(v_EK.unsqueeze(1)), None, minimum).squeeze(1)


def segment_share(
    ptr: Tensor, eid: Tensor | None, v_EK: Tensor, best_RK: Tensor, x_RK: Tensor
) -> Tensor:
    rows = rows_of(checked(ptr, eid, v_EK.size(0)), v_EK.size(0))
    v, best, x = (
        t.unsqueeze(1) for t in (dense_rows(v_EK), best_RK.contiguous(), x_RK.contiguous())
    )
    share = shares(rows, eid, None, v, None, best, None, x)
    out = x.new_empty(v_EK.shape)
    # slots read and write by their edges' numbers
    return to_edges(rows, eid, eid, share, v, None, best, out)
