"""Values reduced by the row of each on GPUs: the ops of ``ops/scatter.py``. (opt: triton)

An index is sorted, unless it is sorted already, and rows are added up in the order of the values:
the bits do not depend on the launch. An index for all batches and columns is sorted once, and the
batches are read where they are, as further columns. One with batches or columns of its own becomes
one index of as many rows as the result has numbers, or has lists of numbers that share their rows.

``atomic()`` of ``graphkit.scatter`` asks for sums of floats without a sort: atomic additions, in
any order. Whole numbers are added up in 64 bits and wrap as their dtype does.
"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..scatter import (
    around,
    atomics,
    check_products,
    check_ptr,
    check_rows,
    divided,
    shared,
)
from .csr import in_order, order_of
from .ranges import (
    JOINS,
    PARTS,
    acc_of,
    batches_of,
    capturing,
    launch,
    numbers_of,
    ranges_of,
    rows_of,
    shape_of,
    slots_of,
    sums_in,
)
from .segment import spread

_WHOLE = -(2**63), 2**63 - 1

BLOCK = 1024
"""Numbers of a program that goes over no rows."""
# sizes that differ from batch to batch compile nothing anew
_COUNTS = ["count", "groups", "v_batch", "out_batch", "total"]


@triton.jit(do_not_specialize=_COUNTS)
def reduce_kernel(
    ptr_ptr,
    part_ptr,
    eid_ptr,
    v_ptr,
    partial_ptr,
    out_ptr,
    count,
    groups,
    width,
    inner,
    v_batch,
    out_batch,
    total,
    PRODUCT: tl.constexpr,
    MEAN: tl.constexpr,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """Sum, mean or product of the values of each row; a product takes one slot at a time."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        column = (work // groups) * BLOCK + tl.arange(0, BLOCK)
        is_column = column < width
        number, row, length, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        of_value = batches_of(column, inner, v_batch)
        y = tl.full((ROWS, SLOTS, BLOCK), 1 if PRODUCT else 0, ACC)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            is_read = is_slot[:, :, None] & is_column[None, None, :]
            if WHAT == 2:
                place = slot[:, :, None] * width + column[None, None, :]
                value = tl.load(partial_ptr + place, mask=is_read, other=0)
            else:
                edge = numbers_of(eid_ptr, slot, is_slot)
                place = edge[:, :, None] * inner + of_value[None, None, :]
                value = tl.load(v_ptr + place, mask=is_read, other=0).to(ACC)
            if PRODUCT:
                y = y * tl.where(is_read, value, 1)
            else:
                y += value
        # one slot at a time has nothing to join
        out = tl.sum(y, 1)
        is_out = is_in[:, None] & is_column[None, :]
        if WHAT == 1:
            tl.store(partial_ptr + number[:, None] * width + column[None, :], out, mask=is_out)
        else:
            if MEAN:
                out = out / tl.maximum(length, 1).to(ACC)[:, None]
            to = row[:, None] * inner + batches_of(column, inner, out_batch)[None, :]
            tl.store(out_ptr + to, out, mask=is_out)


@triton.jit(do_not_specialize=[*_COUNTS, "size", "none"])
def best_place_kernel(
    ptr_ptr,
    part_ptr,
    eid_ptr,
    v_ptr,
    part_best_ptr,
    part_at_ptr,
    out_ptr,
    at_ptr,
    count,
    groups,
    width,
    inner,
    v_batch,
    out_batch,
    share,
    size,
    none,
    total,
    MINIMUM: tl.constexpr,
    WORST: tl.constexpr,
    ACC: tl.constexpr,
    WHAT: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    HUB: tl.constexpr,
):
    """The largest value of each row and its place: of equals the first, and a nan never wins.

    Values have numbers below ``none``, and their places are ``number // share % size``. Without
    room for places, ``WORST`` stays in rows without values, and else 0.
    """
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        group = work % groups
        column = (work // groups) * BLOCK + tl.arange(0, BLOCK)
        is_column = column < width
        number, row, _, _, begin, end, is_in = ranges_of(
            ptr_ptr, part_ptr, group, count, WHAT, ROWS, CHUNK, HUB
        )
        of_value = batches_of(column, inner, v_batch)
        best = tl.full((ROWS, SLOTS, BLOCK), WORST, ACC)
        won = tl.zeros((ROWS, SLOTS, BLOCK), tl.int64) + none
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            is_read = is_slot[:, :, None] & is_column[None, None, :]
            if WHAT == 2:
                place = slot[:, :, None] * width + column[None, None, :]
                value = tl.load(part_best_ptr + place, mask=is_read, other=0)
                edge = tl.load(part_at_ptr + place, mask=is_read, other=0)
            else:
                edge = numbers_of(eid_ptr, slot, is_slot)[:, :, None]
                place = edge * inner + of_value[None, None, :]
                value = tl.load(v_ptr + place, mask=is_read, other=0).to(ACC)
            # what comes first in a row has the smallest number, and only more takes it away
            is_more = value < best if MINIMUM else value > best
            is_new = is_read & (value == value) & (is_more | (won == none))
            best = tl.where(is_new, value, best)
            won = tl.where(is_new, edge, won)
        top = tl.min(best, 1) if MINIMUM else tl.max(best, 1)
        first = tl.min(tl.where(best == top[:, None, :], won, none), 1)
        is_out = is_in[:, None] & is_column[None, :]
        if WHAT == 1:
            to = number[:, None] * width + column[None, :]
            tl.store(part_best_ptr + to, top, mask=is_out)
            tl.store(part_at_ptr + to, first, mask=is_out)
        else:
            to = row[:, None] * inner + batches_of(column, inner, out_batch)[None, :]
            if at_ptr is not None:
                top = tl.where(first == none, 0, top)
                place = tl.where(first == none, size, first // share % tl.maximum(size, 1))
                tl.store(at_ptr + to, place, mask=is_out)
            tl.store(out_ptr + to, top, mask=is_out)


@triton.jit(do_not_specialize=["count", "span", "size", "total"])
def put_kernel(x_ptr, at_ptr, out_ptr, count, span, size, inner, total, BLOCK: tl.constexpr):
    """``out[b, at[b, r, k], k] = x[b, r, k]``; a batch of ``x`` has ``span`` numbers."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        place = work * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        is_in = place < count
        to = tl.load(at_ptr + place, mask=is_in, other=-1)
        value = tl.load(x_ptr + place, mask=is_in, other=0)
        is_put = (to >= 0) & (to < size)
        to = (place // span * size + to) * inner + place % inner
        tl.store(out_ptr + to, value, mask=is_put)


@triton.jit(do_not_specialize=["count", "span", "num_rows", "total"])
def add_kernel(
    v_ptr, row_ptr, out_ptr, count, span, num_rows, inner, total,
    ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``out[b, row[e], k] += v[b, e, k]``, in any order; a batch of ``v`` has ``span`` numbers."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        place = work * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        is_in = place < count
        row = tl.load(row_ptr + place % span // inner, mask=is_in, other=0)
        value = tl.load(v_ptr + place, mask=is_in, other=0).to(ACC)
        to = (place // span * num_rows + row) * inner + place % inner
        tl.atomic_add(out_ptr + to, value, mask=is_in, sem="relaxed")


class Laid(NamedTuple):
    """Values as ``[B, E, K]``, whose rows all batches and columns share.

    ``keys`` are the rows ``[E]`` of the values and whether they are sorted, or None where ``ptr``
    says where they lie. The place of number ``e`` is ``e // share % size``. Results ``[B, R, K]``
    have ``shape``, less the last row along ``tail`` if there is one.
    """

    values: Tensor
    keys: tuple[Tensor, bool] | None
    ptr: Tensor | None
    num_rows: int
    share: int
    size: int
    shape: tuple[int, ...]
    tail: int | None = None

    def empty(self, dtype: torch.dtype) -> Tensor:
        batches, _, inner = self.values.shape
        return self.values.new_empty(batches, self.num_rows, inner, dtype=dtype)

    def rows(self) -> tuple[Tensor, Tensor | None]:
        """Offsets, and the values' numbers where they are not in that order."""
        if self.ptr is not None:
            return self.ptr, None
        assert self.keys is not None
        keys, is_sorted = self.keys
        return order_of(keys, self.num_rows, is_sorted)

    def done(self, out: Tensor) -> Tensor:
        """``out [B, R, K]`` in the shape of the result."""
        out = out.view(self.shape)
        if self.tail is None:
            return out
        return out.narrow(self.tail, 0, self.shape[self.tail] - 1).contiguous()


def _looked(index: Tensor, rows: int) -> bool:
    """Refuse a bad index; whether it is sorted."""
    is_good, is_sorted = in_order(index, rows)
    if not is_good:
        check_rows(index, rows)
    return is_sorted


def _by_index(src: Tensor, index: Tensor, dim: int, rows: int) -> Laid:
    is_sorted = _looked(index, rows)
    outer, size, inner = around(src.shape, dim)
    values, shape = src.contiguous(), (*src.shape[:dim], rows, *src.shape[dim + 1 :])
    if index.dim() == 1 or index.numel() == 0:
        values, keys = values.view(outer, size, inner), index.flatten()
        return Laid(values, (keys, is_sorted), None, rows, 1, size, shape)
    trailing = tuple(zip(index.shape, index.stride(), strict=True))[dim + 1 :]
    share = inner
    if all(count == 1 or stride == 0 for count, stride in trailing):
        index, share = index[(..., *[slice(1)] * len(trailing))], 1
    first = torch.arange(outer, device=index.device).view(-1, 1, 1) * rows
    keys = (index.reshape(outer, size, share) + first) * share
    keys = (keys + torch.arange(share, device=index.device)).flatten()
    num_rows = outer * rows * share
    values = values.view(1, keys.numel(), inner // share)
    return Laid(values, (keys, in_order(keys, num_rows)[1]), None, num_rows, share, size, shape)


def _by_offsets(src: Tensor, ptr: Tensor) -> Laid:
    dim = ptr.dim() - 1
    _check_offsets(ptr, src.size(dim))
    outer, size, inner = around(src.shape, dim)
    before, after = src.shape[:dim], src.shape[dim + 1 :]
    values, ptr = src.contiguous(), shared(ptr, dim)
    rows = ptr.size(-1) - 1
    if ptr.dim() == 1:
        values = values.view(outer, size, inner)
        return Laid(values, None, ptr, rows, 1, size, (*before, rows, *after))
    values, shape = values.view(1, outer * size, inner), (*before, rows + 1, *after)
    return Laid(values, None, _in_one(ptr, size), outer * (rows + 1), 1, size, shape, dim)


def _in_one(ptr: Tensor, size: int) -> Tensor:
    """The offsets of all batches in one list, each with a row more for what lies behind its last.

    What lies there is read for nothing; usually there is none of it.
    """
    ptr = ptr.reshape(-1, ptr.size(-1))
    starts = torch.arange(ptr.size(0) + 1, device=ptr.device) * size
    return torch.cat([(ptr + starts[:-1, None]).flatten(), starts[-1:]])


def _check_offsets(ptr: Tensor, size: int) -> bool:
    """Refuse bad offsets; whether all batches are known to end at ``size``."""
    if capturing(ptr):
        return False
    ends = ptr[..., -1]
    found = [(ptr[..., 0] != 0).any(), (ptr.diff(dim=-1) < 0).any()]
    found += [(ends > size).any(), (ends < size).any()]
    *wrong, is_short = torch.stack(found).tolist()
    if any(wrong):
        check_ptr(ptr, size)
    return not is_short


def _over_rows(
    kernel: Any, laid: Laid, partials: Sequence[torch.dtype], out: Sequence[Any], **how: Any
) -> Tensor:
    """Launch over rows and their parts; returns the offsets."""
    ptr, eid = laid.rows()
    batches, size, inner = laid.values.shape
    width, numbers = batches * inner, how.pop("numbers", ())
    rows, shape = rows_of(ptr, size), shape_of(width)
    if how.get("PRODUCT"):
        shape = shape._replace(SLOTS=1)
    kept = [rows.partial(laid.values, width, dtype) for dtype in partials]
    for what, count in rows.passes(PARTS, JOINS):
        groups = triton.cdiv(count, shape.ROWS)
        launch(
            kernel,
            groups * triton.cdiv(width, shape.BLOCK),
            *(rows.ptr, rows.part, eid, laid.values, *kept, *out),
            *(count, groups, width, inner, size * inner, laid.num_rows * inner, *numbers),
            ACC=acc_of(laid.values.dtype),
            WHAT=what,
            **shape._asdict(),
            **rows.constants(),
            **how,
        )
    return rows.ptr


def _reduced(laid: Laid, reduce: str) -> Tensor:
    dtype = laid.values.dtype
    if reduce == "top":
        return _best(laid, False, None)
    out = laid.empty(dtype)
    if out.numel() == 0:
        return laid.done(out)
    is_whole = not dtype.is_floating_point
    if laid.keys is not None and reduce != "mul" and not is_whole and atomics():
        return laid.done(_added(laid, laid.keys[0], reduce == "mean"))
    mean = reduce == "mean"
    how = {"PRODUCT": reduce == "mul", "MEAN": mean and not is_whole}
    ptr = _over_rows(reduce_kernel, laid, [sums_in(dtype)], [out], **how)
    if mean and is_whole:
        rounding = "trunc" if laid.keys is None else "floor"
        out = divided(out, ptr.diff().clamp_(min=1).view(1, -1, 1), rounding)
    out = laid.done(out)
    if reduce == "mul" and is_whole:
        check_products(out, _reduced(laid._replace(values=laid.values.double()), reduce))
    return out


def _added(laid: Laid, keys: Tensor, mean: bool) -> Tensor:
    """Sums or means by atomic additions."""
    values, inner = laid.values, laid.values.size(2)
    out = laid.empty(sums_in(values.dtype)).zero_()
    launch(
        add_kernel,
        triton.cdiv(values.numel(), BLOCK),
        *(values, keys, out, values.numel(), keys.numel() * inner, laid.num_rows, inner),
        ACC=acc_of(values.dtype),
        BLOCK=BLOCK,
    )
    if mean:
        count = keys.new_zeros(laid.num_rows).scatter_add_(0, keys, torch.ones_like(keys))
        out = out / count.clamp_(min=1).view(1, -1, 1)
    return out.to(values.dtype)


def _best(laid: Laid, minimum: bool, at: Tensor | None) -> Tensor:
    """The extremes, and their places in ``at``; without it -inf stands for nothing."""
    dtype = laid.values.dtype
    out = laid.empty(dtype)
    if out.numel():
        acc = sums_in(dtype)
        worst = (-torch.inf, torch.inf) if dtype.is_floating_point else _WHOLE
        numbers = laid.share, laid.size, laid.values.size(1)
        how = {"numbers": numbers, "MINIMUM": minimum, "WORST": worst[minimum]}
        _over_rows(best_place_kernel, laid, [acc, torch.int64], [out, at], **how)
    return laid.done(out)


def _best_at(laid: Laid, minimum: bool) -> tuple[Tensor, Tensor]:
    at = laid.empty(torch.int64)
    return _best(laid, minimum, at), laid.done(at)


def scatter_reduce(src: Tensor, index: Tensor, dim: int, rows: int, reduce: str) -> Tensor:
    """``graphkit::scatter_reduce``, as ``ops/scatter.py`` defines it and all that follows."""
    return _reduced(_by_index(src, index, dim, rows), reduce)


def scatter_best(
    src: Tensor, index: Tensor, dim: int, rows: int, minimum: bool
) -> tuple[Tensor, Tensor]:
    return _best_at(_by_index(src, index, dim, rows), minimum)


def scatter_pick(x: Tensor, index: Tensor, dim: int) -> Tensor:
    _looked(index, x.size(dim))
    # torch's own have an order that nothing depends on
    return x.index_select(dim, index) if index.dim() == 1 else x.gather(dim, index)


def scatter_put(x: Tensor, arg: Tensor, dim: int, size: int) -> Tensor:
    # of the rows of a column each has another place, and no place is written twice
    out = x.new_zeros((*x.shape[:dim], size, *x.shape[dim + 1 :]))
    if out.numel():
        _, rows, inner = around(x.shape, dim)
        launch(
            put_kernel,
            triton.cdiv(x.numel(), BLOCK),
            *(x.contiguous(), arg.contiguous(), out, x.numel(), rows * inner, size, inner),
            BLOCK=BLOCK,
        )
    return out


def csr_reduce(src: Tensor, ptr: Tensor, reduce: str) -> Tensor:
    return _reduced(_by_offsets(src, ptr), reduce)


def csr_best(src: Tensor, ptr: Tensor, minimum: bool) -> tuple[Tensor, Tensor]:
    return _best_at(_by_offsets(src, ptr), minimum)


def csr_spread(x: Tensor, ptr: Tensor, size: int) -> Tensor:
    dim = ptr.dim() - 1
    is_full, ptr = _check_offsets(ptr, size), shared(ptr, dim)
    shape = (*x.shape[:dim], size, *x.shape[dim + 1 :])
    outer, rows, inner = around(x.shape, dim)
    if ptr.dim() == 1:
        out = x.new_empty(outer, size, inner) if is_full else x.new_zeros(outer, size, inner)
        return spread(ptr, None, x.contiguous().view(outer, rows, inner), out).view(shape)
    # what lies behind the last row of a batch gets 0
    one = x.new_zeros((*x.shape[:dim], 1, *x.shape[dim + 1 :]))
    more = torch.cat([x, one], dim).view(1, -1, inner)
    return spread(_in_one(ptr, size), None, more, x.new_empty(1, outer * size, inner)).view(shape)
