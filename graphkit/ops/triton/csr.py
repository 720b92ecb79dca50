"""Sorting by rows on GPUs: ``graphkit::coo_to_csr``, and the order of any index. (opt: triton)

The sort is torch's, a stable one of digits, by 32 bits where those hold the rows. Before it one
pass looks whether an index is in range and whether it is sorted already, and the host waits for
the answer: a bad one is refused before anything is launched with it. While a CUDA graph is made
nothing can be waited for: all is sorted then, and nothing refused.
"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...graph import check_range, index_dtype, row_ids
from .ranges import capturing, launch, lower_bound

BLOCK = 1024
"""Entries of a program."""


# counts that differ from batch to batch compile nothing anew
@triton.jit(do_not_specialize=["count", "num_rows", "total"])
def look_kernel(index_ptr, found_ptr, count, num_rows, total, BLOCK: tl.constexpr):
    """Whether an entry of each block is out of range, and whether one is less than the last."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        place = work * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        is_in = place < count
        is_next = is_in & (place > 0)
        here = tl.load(index_ptr + place, mask=is_in, other=0)
        before = tl.load(index_ptr + (place - 1), mask=is_next, other=0)
        is_bad = is_in & ((here < 0) | (here >= num_rows))
        is_less = is_next & (here < before)
        tl.store(found_ptr + work * 2, tl.max(is_bad.to(tl.int32), 0).to(tl.uint8))
        tl.store(found_ptr + (work * 2 + 1), tl.max(is_less.to(tl.int32), 0).to(tl.uint8))


@triton.jit(do_not_specialize=["count", "num_rows", "steps", "total"])
def offsets_kernel(sorted_ptr, ptr_ptr, count, num_rows, steps, total, BLOCK: tl.constexpr):
    """How many of the sorted numbers are less than each row, and than the number of rows."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        row = work * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        is_row = row <= num_rows
        first = lower_bound(sorted_ptr, row, row * 0, row * 0 + count, is_row, steps)
        tl.store(ptr_ptr + row, first, mask=is_row)


@triton.jit(do_not_specialize=["count", "total"])
def columns_kernel(order_ptr, column_ptr, idx_ptr, eid_ptr, count, total, BLOCK: tl.constexpr):
    """``idx[s] = column[order[s]]``, and the order itself in the dtype of edge numbers."""
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        slot = work * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        is_slot = slot < count
        edge = tl.load(order_ptr + slot, mask=is_slot, other=0)
        column = tl.load(column_ptr + edge, mask=is_slot, other=0)
        tl.store(idx_ptr + slot, column, mask=is_slot)
        tl.store(eid_ptr + slot, edge, mask=is_slot)


def look(index: Tensor, num_rows: int) -> Tensor:
    """Bool ``[2]``, on the device: an entry is out of range; one is less than the one before."""
    index = index.contiguous()
    blocks = triton.cdiv(index.numel(), BLOCK)
    found = index.new_empty(blocks, 2, dtype=torch.uint8)
    launch(look_kernel, blocks, index, found, index.numel(), num_rows, BLOCK=BLOCK)
    return found.view(torch.bool).any(0)


def in_order(index: Tensor, num_rows: int) -> tuple[bool, bool]:
    """Whether ``index`` is in range, and whether it is sorted."""
    if capturing(index):
        return True, False
    is_bad, falls = look(index, num_rows).tolist()
    return not is_bad, not falls


def order_of(index: Tensor, num_rows: int, is_sorted: bool) -> tuple[Tensor, Tensor | None]:
    """Where the rows of ``index [E]`` begin, and its order, or None where it is sorted."""
    ordered, order = index.contiguous(), None
    if not is_sorted:
        ordered, order = torch.sort(index.to(index_dtype(num_rows)), stable=True)
    ptr = index.new_empty(num_rows + 1, dtype=torch.int64)
    launch(
        offsets_kernel,
        triton.cdiv(num_rows + 1, BLOCK),
        *(ordered, ptr, index.numel(), num_rows, index.numel().bit_length()),
        BLOCK=BLOCK,
    )
    return ptr, order


def side_of(
    rows: Tensor, columns: Tensor, num_rows: int, num_columns: int, is_sorted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets, columns and edge numbers of the edges sorted by ``rows``."""
    ptr, order = order_of(rows, num_rows, is_sorted)
    count = rows.numel()
    if order is None:
        order = torch.arange(count, device=rows.device)
    idx = rows.new_empty(count, dtype=index_dtype(num_columns))
    eid = rows.new_empty(count, dtype=index_dtype(count))
    launch(
        columns_kernel,
        triton.cdiv(count, BLOCK),
        *(order, columns.contiguous(), idx, eid, count),
        BLOCK=BLOCK,
    )
    return ptr, idx, eid


def other_side(
    ptr: Tensor, idx: Tensor, eid: Tensor | None, num_columns: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The same edges sorted by their columns, which are in range."""
    rows = row_ids(ptr, idx.numel())
    tptr, tidx, order = side_of(idx, rows, num_columns, ptr.numel() - 1, False)
    return tptr, tidx, order if eid is None else eid.index_select(0, order)


def coo_to_csr(
    edge_index: Tensor, num_src: int, num_dst: int, transpose: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``graphkit::coo_to_csr``, as ``graph.py`` defines it."""
    src, dst = edge_index.contiguous()
    found = torch.stack([look(dst, num_dst), look(src, num_src)])
    falls = [True, True]
    if not capturing(edge_index):
        bad, falls = found.t().tolist()
        if any(bad):
            check_range(src, num_src, "edge_index[0]", "sources")
            check_range(dst, num_dst, "edge_index[1]", "destinations")
    forward = side_of(dst, src, num_dst, num_src, not falls[0])
    is_ordered = ~found[:, 1]
    if transpose:
        return *forward, *side_of(src, dst, num_src, num_dst, not falls[1]), is_ordered
    a, b, c = (src.new_empty(0, dtype=torch.int64) for _ in range(3))
    return *forward, a, b, c, is_ordered
