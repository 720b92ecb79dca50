"""The native sort behind ``graphkit::coo_to_csr``, and the native search for self-loops."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...graph import check_range, coo_to_csr_op, index_dtype, row_ids_op, row_ids_reference
from ..loops import count_self_loops_op, self_loop_mask_op
from . import native

SERVED = ("coo_to_csr",)


@coo_to_csr_op.register_kernel("cpu")
def _coo_to_csr(
    edge_index: Tensor, num_src: int, num_dst: int, transpose: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    kernels = native.kernels
    src, dst = (ends.contiguous() for ends in edge_index)
    found = kernels.check_edges(
        src.data_ptr(),
        dst.data_ptr(),
        src.dtype == torch.int64,
        src.numel(),
        num_src,
        num_dst,
        native.threads(),
    )
    if found & kernels.OUT_OF_RANGE:
        check_range(src, num_src, "edge_index[0]", "sources")
        check_range(dst, num_dst, "edge_index[1]", "destinations")
    by_dst, by_src = bool(found & kernels.SORTED_BY_DST), bool(found & kernels.SORTED_BY_SRC)
    in_order = torch.tensor([by_dst, by_src])
    forward = _side(dst, src, num_dst, num_src, by_dst)
    if transpose:
        return *forward, *_side(src, dst, num_src, num_dst, by_src), in_order
    a, b, c = (src.new_empty(0, dtype=torch.int64) for _ in range(3))
    return *forward, a, b, c, in_order


def _side(
    rows: Tensor, columns: Tensor, num_rows: int, num_columns: int, in_order: bool
) -> tuple[Tensor, Tensor, Tensor]:
    num_edges = rows.numel()
    ptr = rows.new_empty(num_rows + 1, dtype=torch.int64)
    idx = rows.new_empty(num_edges, dtype=index_dtype(num_columns))
    eid = rows.new_empty(num_edges, dtype=index_dtype(num_edges))
    args: Any = native.kernels.CsrArgs(
        rows.data_ptr(),
        columns.data_ptr(),
        rows.dtype == torch.int64,
        idx.dtype == torch.int64,
        eid.dtype == torch.int64,
        in_order,
        num_edges,
        num_rows,
        native.threads(),
    )
    scratch = rows.new_empty(native.kernels.csr_scratch(args), dtype=torch.uint8)
    native.kernels.csr(args, ptr.data_ptr(), idx.data_ptr(), eid.data_ptr(), scratch.data_ptr())
    return ptr, idx, eid


@count_self_loops_op.register_kernel("cpu")
def _count_self_loops(ptr: Tensor, idx: Tensor) -> Tensor:
    count = ptr.new_empty(ptr.numel() - 1)
    side = native.side(ptr, idx, None)
    native.kernels.self_loops(side, count.data_ptr(), 0, idx.numel(), native.threads())
    return count


@self_loop_mask_op.register_kernel("cpu")
def _self_loop_mask(ptr: Tensor, idx: Tensor, eid: Tensor | None) -> Tensor:
    mask = idx.new_empty(idx.numel(), dtype=torch.bool)
    side = native.side(ptr, idx, eid)
    native.kernels.self_loops(side, 0, mask.data_ptr(), idx.numel(), native.threads())
    return mask


@row_ids_op.register_kernel("cpu")
def _row_ids(indptr: Tensor, num_edges: int) -> Tensor:
    if indptr.dtype != torch.int64 or not indptr.is_contiguous() or not indptr.numel():
        return row_ids_reference(indptr, num_edges)
    out = indptr.new_empty(num_edges)
    rows, threads = indptr.numel() - 1, native.threads()
    if not native.kernels.row_ids(indptr.data_ptr(), rows, num_edges, out.data_ptr(), threads):
        # offsets that do not fit are refused in torch's words
        return row_ids_reference(indptr, num_edges)
    return out
