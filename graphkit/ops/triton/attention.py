"""Attention on GPUs: scores, online softmax and weighted sum in one pass. (opt: triton)

A slot's largest score so far rescales what was added up before it, so that a row is read once and
nothing has the size of the edges times the channels. The gradient is that of ``ops/attention.py``,
in steps that have a number for each edge and head, and no more.
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
from torch.nn.functional import leaky_relu

from ..attention import (
    Inputs,
    attention_backward_reference,
    attention_reference,
    score_gradients,
)
from ..cpu.native import rows as dense_rows
from ..dropout import scale_of
from ..random import keep_below
from ..spmm import accumulator
from .dropout import words_of
from .ranges import (
    ELEMENTS,
    JOINS,
    PARTS,
    SLOTS,
    acc_of,
    bits_of_float,
    columns_of,
    factor_of,
    launch,
    leaky,
    numbers_of,
    ranges_of,
    rows_of,
    shape_of,
    slots_of,
)
from .sddmm import pair_scores
from .segment import exp_less

WIDEST = 256
"""The most channels of a head that a program holds; wider heads are read in tiles."""


@triton.jit
def kept_of(term, seed_ptr, counter, below, scale):
    """``term`` after dropout, if there is any."""
    if seed_ptr is not None:
        bits = (words_of(tl.load(seed_ptr), counter) >> 32).to(tl.int64)
        term = tl.where(bits < below, term * scale, 0.0)
    return term


@triton.jit
def gat_score(src_ptr, source, mine, own_ptr, own, is_one, heads, head, slope):
    """GAT's score of edges, or of loops, that have a part of their own."""
    score = tl.load(src_ptr + source * heads + head, mask=is_one, other=0) + mine
    if own_ptr is not None:
        score += tl.load(own_ptr + own * heads + head, mask=is_one, other=0)
    return leaky(score, slope)


@triton.jit(
    do_not_specialize=[
        "count",
        "groups",
        "num_edges",
        "num_loops",
        "slope_bits",
        "below",
        "scale_bits",
        "total",
    ]
)
def attention_kernel(
    ptr_ptr,
    part_ptr,
    idx_ptr,
    eid_ptr,
    h_ptr,
    src_ptr,
    dst_ptr,
    edge_ptr,
    loop_ptr,
    right_ptr,
    att_ptr,
    seed_ptr,
    part_top_ptr,
    part_sum_ptr,
    partial_ptr,
    top_ptr,
    total_ptr,
    out_ptr,
    count,
    groups,
    tiles,
    num_edges,
    num_loops,
    heads,
    channels,
    h_stride,
    right_stride,
    width,
    slope_bits,
    below,
    scale_bits,
    total,
    LOOPS: tl.constexpr,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``out[i] = sum of softmax(score[e]) h[j]``, one head of some rows at a time.

    Each tile of a head finds the softmax by itself, and all find the same; with ``att`` there is
    one, because the scores need all channels.
    """
    slope = factor_of(slope_bits, ACC)
    scale = factor_of(scale_bits, ACC)
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        head, _, is_column, column = columns_of(work // groups, tiles, channels, BLOCK)
        number, row, _, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        is_one = is_in[:, None] & is_column[None, :]
        is_told = is_in & (number * 0 + work // groups % tiles == 0)
        if att_ptr is not None:
            att = tl.load(att_ptr + column, mask=is_column, other=0).to(ACC)
            here = row[:, None] * right_stride + column[None, :]
            right = tl.load(right_ptr + here, mask=is_one, other=0).to(ACC)
        mine = tl.zeros((ROWS,), ACC)
        if dst_ptr is not None:
            mine = tl.load(dst_ptr + row * heads + head, mask=is_in, other=0)
        tops = tl.full((ROWS, SLOTS), -float("inf"), ACC)
        sums = tl.zeros((ROWS, SLOTS), ACC)
        y = tl.zeros((ROWS, SLOTS, BLOCK), ACC)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            is_read = is_slot[:, :, None] & is_column[None, None, :]
            if WHAT == 2:
                place = slot * heads + head
                score = tl.load(part_top_ptr + place, mask=is_slot, other=-float("inf"))
                more = tl.load(part_sum_ptr + place, mask=is_slot, other=0)
                place = slot[:, :, None] * width + column[None, None, :]
                value = tl.load(partial_ptr + place, mask=is_read, other=0)
                higher = tl.maximum(tops, score)
                term = exp_less(score, higher)
                kept = term
                term = term * more
            else:
                source = numbers_of(idx_ptr, slot, is_slot)
                edge = numbers_of(eid_ptr, slot, is_slot)
                place = source[:, :, None] * h_stride + column[None, None, :]
                value = tl.load(h_ptr + place, mask=is_read, other=0).to(ACC)
                if att_ptr is not None:
                    pair = leaky(value + right[:, None, :], slope)
                    score = tl.sum(pair * att[None, None, :], 2)
                else:
                    score = gat_score(
                        src_ptr, source, mine[:, None], edge_ptr, edge, is_slot, heads, head, slope
                    )
                is_used = is_slot
                if LOOPS:
                    is_used = is_used & (source != row[:, None])
                score = tl.where(is_used, score, -float("inf"))
                higher = tl.maximum(tops, score)
                term = exp_less(score, higher)
                kept = kept_of(term, seed_ptr, edge * heads + head, below, scale)
            before = exp_less(tops, higher)
            sums = sums * before + term
            y = y * before[:, :, None] + kept[:, :, None] * value
            tops = higher
        top = tl.max(tops, 1)
        before = exp_less(tops, top[:, None])
        sums_of_row = tl.sum(sums * before, 1)
        out = tl.sum(y * before[:, :, None], 1)
        if WHAT == 1:
            place = number * heads + head
            tl.store(part_top_ptr + place, top, mask=is_told)
            tl.store(part_sum_ptr + place, sums_of_row, mask=is_told)
            tl.store(partial_ptr + number[:, None] * width + column[None, :], out, mask=is_one)
        else:
            if LOOPS:
                has_loop = is_in & (row < num_loops)
                is_read = has_loop[:, None] & is_column[None, :]
                place = row[:, None] * h_stride + column[None, :]
                value = tl.load(h_ptr + place, mask=is_read, other=0).to(ACC)
                if att_ptr is not None:
                    own = tl.sum(leaky(value + right, slope) * att[None, :], 1)
                else:
                    own = gat_score(src_ptr, row, mine, loop_ptr, row, has_loop, heads, head, slope)
                own = tl.where(has_loop, own, -float("inf"))
                higher = tl.maximum(top, own)
                before = exp_less(top, higher)
                term = exp_less(own, higher)
                sums_of_row = sums_of_row * before + term
                counter = (row + num_edges) * heads + head
                term = kept_of(term, seed_ptr, counter, below, scale)
                out = out * before[:, None] + term[:, None] * value
                top = higher
            place = row * heads + head
            top = tl.where(top == -float("inf"), 0.0, top)
            tl.store(top_ptr + place, top, mask=is_told)
            tl.store(total_ptr + place, sums_of_row, mask=is_told)
            out = out / tl.where(sums_of_row == 0.0, 1.0, sums_of_row)[:, None]
            tl.store(out_ptr + row[:, None] * width + column[None, :], out, mask=is_one)


@triton.jit(do_not_specialize=["count", "groups", "slope_bits", "total"])
def pair_sums_kernel(
    ptr_ptr,
    part_ptr,
    idx_ptr,
    eid_ptr,
    mine_ptr,
    other_ptr,
    w_ptr,
    partial_ptr,
    out_ptr,
    count,
    groups,
    tiles,
    heads,
    channels,
    mine_stride,
    other_stride,
    width,
    slope_bits,
    total,
    SLOPES: tl.constexpr,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """``out[i] = sum of w[e] f(mine[i] + other[j])``: the LeakyReLU, or with ``SLOPES`` its own."""
    slope = factor_of(slope_bits, ACC)
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        head, inner, is_column, column = columns_of(work // groups, tiles, channels, BLOCK)
        number, row, _, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        is_one = is_in[:, None] & is_column[None, :]
        if WHAT != 2:
            here = row[:, None] * mine_stride + column[None, :]
            mine = tl.load(mine_ptr + here, mask=is_one, other=0).to(ACC)
        y = tl.zeros((ROWS, SLOTS, BLOCK), ACC)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            is_read = is_slot[:, :, None] & is_column[None, None, :]
            if WHAT == 2:
                place = slot[:, :, None] * width + column[None, None, :]
                y += tl.load(partial_ptr + place, mask=is_read, other=0)
            else:
                other = numbers_of(idx_ptr, slot, is_slot)
                place = other[:, :, None] * other_stride + column[None, None, :]
                pair = tl.load(other_ptr + place, mask=is_read, other=0).to(ACC)
                pair = pair + mine[:, None, :]
                edge = numbers_of(eid_ptr, slot, is_slot)
                w = tl.load(w_ptr + edge * heads + head, mask=is_slot, other=0)[:, :, None]
                if SLOPES:
                    y += tl.where(pair > 0, w, w * slope)
                else:
                    y += w * leaky(pair, slope)
        out = tl.sum(y, 1)
        if WHAT == 1:
            tl.store(partial_ptr + number[:, None] * width + column[None, :], out, mask=is_one)
        else:
            tl.store(out_ptr + row[:, None] * width + column[None, :], out, mask=is_one)


def attention(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    """``graphkit::attention``, as ``ops/attention.py`` defines it."""
    given = Inputs(*inputs)
    num_rows, (_, heads, channels) = given.ptr.numel() - 1, given.h.shape
    if num_rows * heads * channels == 0:
        return attention_reference(*inputs)
    if channels > WIDEST and given.att is not None:
        given, _, _ = scored(given)
    h, right = dense_rows(given.h), None if given.right is None else dense_rows(given.right)
    scores = [
        None if t is None else t.contiguous()
        for t in (given.src, given.dst, given.edge, given.loop)
    ]
    att = None if given.att is None else given.att.contiguous()
    out = h.new_empty(num_rows, heads, channels)
    top = h.new_empty(num_rows, heads, dtype=accumulator(h.dtype))
    total = torch.empty_like(top)
    rows = rows_of(given.ptr, given.idx.numel())
    block = max(2, triton.next_power_of_2(min(channels, WIDEST)))
    tiles = triton.cdiv(channels, block)
    partial = (rows.partial(h, heads), rows.partial(h, heads), rows.partial(h, heads * channels))
    shape = shape_of(channels)._replace(BLOCK=block, ROWS=max(1, ELEMENTS // (SLOTS * block * 2)))
    shape = rows.tuned("attention", channels, h, shape._replace(ROWS=min(32, shape.ROWS)))
    # a program holds all channels, whatever was tuned
    shape = shape._replace(BLOCK=block)
    for what, count in rows.passes(PARTS, JOINS):
        groups = triton.cdiv(count, shape.ROWS)
        launch(
            attention_kernel,
            groups * tiles * heads,
            *(rows.ptr, rows.part, given.idx, given.eid, h, *scores, right, att, given.seed),
            *(*partial, top, total, out, count, groups, tiles, given.idx.numel(), given.num_loops),
            *(heads, channels, h.stride(0), 0 if right is None else right.stride(0)),
            *(heads * channels, bits_of_float(given.slope)),
            *(keep_below(given.p), bits_of_float(scale_of(given.p))),
            LOOPS=given.loops,
            ACC=acc_of(h.dtype),
            WHAT=what,
            **shape._asdict(),
            **rows.constants(),
        )
    return out, top, total


def scored(given: Inputs) -> tuple[Inputs, Tensor | None, Tensor | None]:
    """GATv2 with its scores as those of edges, under a LeakyReLU that does nothing.

    And what the score of loops is made of, before and after its own LeakyReLU.
    """
    assert given.att is not None and given.right is not None
    h, right, n, slope = dense_rows(given.h), dense_rows(given.right), given.num_loops, given.slope
    acc = accumulator(h.dtype)
    att = given.att.to(acc)
    own = bent = None
    if given.loops:
        own = right[:n].to(acc) + h[:n].to(acc)
        bent = leaky_relu(own, slope)
    plain = given._replace(
        src=torch.zeros(h.shape[:2], dtype=acc, device=h.device),
        edge=pair_scores(given.ptr, given.idx, given.eid, right, h, att, slope),
        loop=None if bent is None else (bent * att).sum(-1),
        right=None,
        att=None,
        slope=1.0,
    )
    return plain, own, bent


def pair_sums(
    side: tuple[Tensor, Tensor, Tensor | None],
    mine: Tensor,
    other: Tensor,
    w: Tensor,
    slope: float,
    slopes: bool,
) -> Tensor:
    """``out[i] = sum of w[e] f(mine[i] + other[j])`` over the slots of each row, ``[R, H, C]``."""
    ptr, idx, eid = side
    heads, channels = mine.size(1), mine.size(2)
    out = w.new_empty(mine.shape)
    if out.numel() == 0:
        return out
    rows, shape, width = rows_of(ptr, idx.numel()), shape_of(channels), heads * channels
    partial, tiles = rows.partial(w, width), triton.cdiv(channels, shape.BLOCK)
    for what, count in rows.passes(PARTS, JOINS):
        groups = triton.cdiv(count, shape.ROWS)
        launch(
            pair_sums_kernel,
            groups * tiles * heads,
            *(rows.ptr, rows.part, idx, eid, mine, other, w, partial, out, count, groups, tiles),
            *(heads, channels, mine.stride(0), other.stride(0), width, bits_of_float(slope)),
            SLOPES=slopes,
            ACC=acc_of(w.dtype),
            WHAT=what,
            **shape._asdict(),
            **rows.constants(),
        )
    return out


def attention_backward(*inputs: Any) -> list[Tensor]:
    *first, top, total, dy = inputs
    given = Inputs(*first)
    if given.att is None or given.right is None or given.tptr is None or given.tidx is None:
        # all of it has a number for each edge and head at most
        return attention_backward_reference(*inputs)
    h, right, n, slope = dense_rows(given.h), dense_rows(given.right), given.num_loops, given.slope
    att = given.att.to(top.dtype)
    plain, own, bent = scored(given)
    d_edge, d_loop, dh = score_gradients(plain, top, total, dy.to(top.dtype))
    d_edge = d_edge.contiguous()
    fwd, bwd = (given.ptr, given.idx, given.eid), (given.tptr, given.tidx, given.teid)
    d_att = pair_sums(fwd, right, h, d_edge, slope, False).sum(0)
    d_right = pair_sums(fwd, right, h, d_edge, slope, True) * att
    dh = dh + pair_sums(bwd, h, right, d_edge, slope, True) * att
    if own is not None and bent is not None and d_loop is not None:
        d_loop = d_loop.unsqueeze(-1)
        d_att = d_att + (d_loop * bent).sum(0)
        d_own = torch.where(own > 0, d_loop, d_loop * slope) * att
        d_right[:n] += d_own
        dh[:n] += d_own
    none = [top.new_empty(0) for _ in range(4)]
    return [
        dh.to(given.h.dtype),
        *none,
        d_right.to(given.right.dtype),
        d_att.to(given.att.dtype),
    ]
