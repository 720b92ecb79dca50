"""Common neighbours on GPUs, counted or weighed without lists of them. (opt: triton)"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..intersect import check_pairs, neighborhoods, score_weights
from .ranges import SLOTS, launch, slots_of

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
    num_pairs,
    num_nodes,
    steps,
    total,
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """The neighbours of one end, those of the smaller degree, are looked for in the other's row.

    Keys are ``row N + column``, rising.
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
        is_swapped = end_one - begin_one > end_two - begin_two
        row = tl.where(is_swapped, two, one)
        other = tl.where(is_swapped, one, two)
        begin = tl.where(is_swapped, begin_two, begin_one)
        end = tl.where(is_swapped, end_two, end_one)
        other_begin = tl.where(is_swapped, begin_one, begin_two)
        other_end = tl.where(is_swapped, end_one, end_two)
        sums = tl.zeros((ROWS, SLOTS), tl.float64)
        for at in range(0, tl.max(end - begin, 0), SLOTS):
            slot, is_slot = slots_of(begin, end, at, SLOTS)
            node = tl.load(key_ptr + slot, mask=is_slot, other=0) - (row * num_nodes)[:, None]
            wanted = node + (other * num_nodes)[:, None]
            low = other_begin[:, None] + slot * 0
            high = other_end[:, None] + slot * 0
            # the first key that is not less
            for _ in range(steps):
                is_open = is_slot & (low < high)
                middle = (low + high) // 2
                is_less = tl.load(key_ptr + middle, mask=is_open, other=0) < wanted
                low = tl.where(is_open & is_less, middle + 1, low)
                high = tl.where(is_open & (is_less == 0), middle, high)
            is_there = is_slot & (low < other_end[:, None])
            is_common = is_there & (tl.load(key_ptr + low, mask=is_there, other=-1) == wanted)
            is_common = is_common & (node != one[:, None]) & (node != two[:, None])
            if weight_ptr is None:
                sums += is_common.to(tl.float64)
            else:
                sums += tl.load(weight_ptr + node, mask=is_common, other=0)
        tl.store(out_ptr + pair, tl.sum(sums, 1), mask=is_in)


def common_neighbors(ptr: Tensor, idx: Tensor, pairs: Tensor, score: str) -> Tensor:
    """``graphkit::common_neighbors``, as ``ops/intersect.py`` defines it."""
    num_nodes = ptr.numel() - 1
    check_pairs(pairs, num_nodes)
    ptr, keys = neighborhoods(ptr, idx)
    pairs = pairs.contiguous()
    out = torch.empty(pairs.size(1), dtype=torch.float32, device=pairs.device)
    launch(
        common_kernel,
        triton.cdiv(pairs.size(1), PAIRS),
        *(ptr, keys, pairs[0], pairs[1], score_weights(ptr.diff(), score), out),
        *(pairs.size(1), num_nodes, keys.numel().bit_length()),
        ROWS=PAIRS,
        SLOTS=SLOTS,
    )
    return out
