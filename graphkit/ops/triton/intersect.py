"""Common neighbours on GPUs, counted or weighed without lists of them, or listed. (opt: triton)

Lists take two passes: one counts, and one writes from where the counts before a pair end.
"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..intersect import Sets, check_pairs, neighborhoods, score_weights
from .ranges import SLOTS, launch, lower_bound, slots_of

PAIRS = 64
"""Pairs of a program."""


@triton.jit(do_not_specialize=["num_pairs", "num_nodes", "steps", "total"])
def common_kernel(
    ptr_ptr,
    key_ptr,
    first_ptr,
    second_ptr,
    weight_ptr,
    out_ptr,
    first_of_ptr,
    num_pairs,
    num_nodes,
    steps,
    total,
    COMMON: tl.constexpr,
    ENDS: tl.constexpr,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The neighbours of one end, those of the smaller degree, are looked for in the other's row.

    Keys are ``row N + column``, rising. What is found is added up, or with ``first_of`` written
    from there on. Without ``COMMON``, it is what the first end has and the second has not.
    """
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        pair = work * ROWS + tl.arange(0, ROWS).to(tl.int64)
        is_in = pair < num_pairs
        one = tl.load(first_ptr + pair, mask=is_in, other=0).to(tl.int64)
        two = tl.load(second_ptr + pair, mask=is_in, other=0).to(tl.int64)
        begin_one = tl.load(ptr_ptr + one, mask=is_in, other=0)
        begin_two = tl.load(ptr_ptr + two, mask=is_in, other=0)
        end_one = tl.load(ptr_ptr + (one + 1), mask=is_in, other=0)
        end_two = tl.load(ptr_ptr + (two + 1), mask=is_in, other=0)
        is_swapped = COMMON & (end_one - begin_one > end_two - begin_two)
        row = tl.where(is_swapped, two, one)
        other = tl.where(is_swapped, one, two)
        begin = tl.where(is_swapped, begin_two, begin_one)
        end = tl.where(is_swapped, end_two, end_one)
        other_begin = tl.where(is_swapped, begin_one, begin_two)
        other_end = tl.where(is_swapped, end_one, end_two)
        sums = tl.zeros((ROWS, SLOTS), tl.float64)
        if first_of_ptr is not None:
            to = tl.load(first_of_ptr + pair, mask=is_in, other=0)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            node = tl.load(key_ptr + slot, mask=is_slot, other=0) - (row * num_nodes)[:, None]
            wanted = node + (other * num_nodes)[:, None]
            low = other_begin[:, None] + slot * 0
            high = other_end[:, None] + slot * 0
            low = lower_bound(key_ptr, wanted, low, high, is_slot, steps)
            is_there = is_slot & (low < other_end[:, None])
            is_found = is_there & (tl.load(key_ptr + low, mask=is_there, other=-1) == wanted)
            if not COMMON:
                is_found = is_slot & (is_found == 0)
            if not ENDS:
                is_found = is_found & (node != one[:, None]) & (node != two[:, None])
            if first_of_ptr is not None:
                place = to[:, None] + tl.cumsum(is_found.to(tl.int64), 1) - 1
                tl.store(out_ptr + place, node, mask=is_found)
                to += tl.sum(is_found.to(tl.int64), 1)
            elif weight_ptr is None:
                sums += is_found.to(tl.float64)
            else:
                sums += tl.load(weight_ptr + node, mask=is_found, other=0)
        if first_of_ptr is None:
            tl.store(out_ptr + pair, tl.sum(sums, 1), mask=is_in)


def _over_pairs(
    neighbors: tuple[Tensor, Tensor],
    ends: tuple[Tensor, Tensor],
    weights: Tensor | None,
    out: Tensor,
    first_of: Tensor | None = None,
    *,
    common: bool = True,
    with_ends: bool = False,
) -> Tensor:
    ptr, keys = neighbors
    count = ends[0].numel()
    launch(
        common_kernel,
        triton.cdiv(count, PAIRS),
        *(ptr, keys, *ends, weights, out, first_of),
        *(count, ptr.numel() - 1, keys.numel().bit_length()),
        COMMON=common,
        ENDS=with_ends,
        ROWS=PAIRS,
        SLOTS=SLOTS,
    )
    return out


def common_neighbors(ptr: Tensor, idx: Tensor, pairs: Tensor, score: str) -> Tensor:
    """``graphkit::common_neighbors``, as ``ops/intersect.py`` defines it and what follows."""
    check_pairs(pairs, ptr.numel() - 1)
    neighbors = neighborhoods(ptr, idx)
    first, second = pairs.contiguous()
    out = torch.empty(first.numel(), dtype=torch.float32, device=pairs.device)
    weights = score_weights(neighbors[0].diff(), score)
    return _over_pairs(neighbors, (first, second), weights, out)


def intersect(ptr: Tensor, idx: Tensor, pairs: Tensor, ends: bool, differences: bool) -> Sets:
    check_pairs(pairs, ptr.numel() - 1)
    neighbors = neighborhoods(ptr, idx)
    first, second = pairs.contiguous()
    sets: list[Tensor] = []
    for one, two, common in ((first, second, True), (first, second, False), (second, first, False)):
        if sets and not differences:
            sets += [ptr.new_empty(0), idx.new_empty(0)]
            continue
        how = {"common": common, "with_ends": ends}
        offsets = ptr.new_zeros(one.numel() + 1)
        _over_pairs(neighbors, (one, two), None, offsets[1:], **how)
        nodes = idx.new_empty(int(offsets.cumsum_(0)[-1]))
        sets += [offsets, _over_pairs(neighbors, (one, two), None, nodes, offsets, **how)]
    a, b, c, d, e, f = sets
    return a, b, c, d, e, f
