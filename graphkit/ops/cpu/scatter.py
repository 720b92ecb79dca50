"""The native kernels behind ``ops/scatter.py``: of its custom ops, and called at once."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import torch
from torch import Tensor

from .. import scatter as ops
from ..scatter import (
    DTYPES,
    check_ptr,
    check_rows,
    csr_best_op,
    csr_reduce_op,
    csr_spread_op,
    scatter_best_op,
    scatter_pick_op,
    scatter_put_op,
    scatter_reduce_op,
)
from . import native

SERVED = ("scatter",)

_NARROW = (torch.uint8, torch.int8, torch.int16)
_CODES = {dtype: code for code, dtype in enumerate(DTYPES) if dtype not in _NARROW}
_REDUCES = {"sum": 0, "mean": 1, "mul": 2, "top": 5}
_threads = torch.get_num_threads


def _lie(index: Tensor, dim: int, width: int) -> tuple[Tensor, int, int, int]:
    """``index`` in memory, and the strides of its batches, edges and columns."""
    if index.dim() == 1:
        return index.contiguous(), 0, 1, 0
    size = index.size(dim)
    trailing = zip(index.shape[dim + 1 :], index.stride()[dim + 1 :], strict=True)
    if all(count == 1 or stride == 0 for count, stride in trailing) and index.numel():
        for at in range(index.dim() - 1, dim, -1):
            index = index.select(at, 0)
        return index.contiguous(), size, 1, 0
    return index.contiguous(), size * width, width, 1


class _Native:
    """The kernels, on plain tensors; see ``ops.scatter.Kernels``."""

    @staticmethod
    def reduce(src: Tensor, index: Tensor, dim: int, rows: int, reduce: str) -> Tensor:
        if reduce == "mean" and not src.is_floating_point():
            total = _Native.reduce(src, index, dim, rows, "sum")
            return ops.divided(total, ops.row_counts(index, dim, rows, src.dim()))
        out = _scattered(src, index, dim, rows, _REDUCES[reduce], None)
        if reduce == "mul" and not src.is_floating_point():
            ops.check_products(out, _Native.reduce(src.double(), index, dim, rows, "mul"))
        return out

    @staticmethod
    def best(
        src: Tensor, index: Tensor, dim: int, rows: int, minimum: bool
    ) -> tuple[Tensor, Tensor]:
        shape = src.shape
        arg = src.new_empty((*shape[:dim], rows, *shape[dim + 1 :]), dtype=torch.int64)
        return _scattered(src, index, dim, rows, 3 if minimum else 4, arg), arg

    @staticmethod
    def pick(x: Tensor, index: Tensor, dim: int) -> Tensor:
        shape = x.shape
        if len(shape) == 1 and index.numel() < ops.FEW:
            with ops.in_range(index, shape[0]):
                return x.index_select(0, index)
        edges = index.size(0 if index.dim() == 1 else dim)
        out = x.new_empty((*shape[:dim], edges, *shape[dim + 1 :]))
        width = shape[dim + 1 :].numel()
        x = x.contiguous()
        lies, batch, edge, column = _lie(index, dim, width)
        good = native.kernels.scatter_pick(
            x.data_ptr(),
            lies.data_ptr(),
            batch,
            edge,
            column,
            out.data_ptr(),
            shape[:dim].numel(),
            edges,
            width,
            shape[dim],
            x.element_size(),
            _threads(),
        )
        if not good:
            check_rows(index, shape[dim])
        return out

    @staticmethod
    def put(x: Tensor, arg: Tensor, dim: int, size: int) -> Tensor:
        shape = x.shape
        out = x.new_zeros((*shape[:dim], size, *shape[dim + 1 :]))
        x, arg = x.contiguous(), arg.contiguous()
        native.kernels.scatter_put(
            x.data_ptr(),
            arg.data_ptr(),
            out.data_ptr(),
            shape[:dim].numel(),
            size,
            shape[dim + 1 :].numel(),
            shape[dim],
            x.element_size(),
            _threads(),
        )
        return out

    @staticmethod
    def csr_reduce(src: Tensor, ptr: Tensor, reduce: str) -> Tensor:
        if reduce == "mean" and not src.is_floating_point():
            total = _Native.csr_reduce(src, ptr, "sum")
            return ops.divided(total, ops.row_lengths(ptr, src.dim()), "trunc")
        return _segments(src, ptr, _REDUCES[reduce], None)

    @staticmethod
    def csr_best(src: Tensor, ptr: Tensor, minimum: bool) -> tuple[Tensor, Tensor]:
        dim = ptr.dim() - 1
        shape = (*src.shape[:dim], ptr.size(-1) - 1, *src.shape[dim + 1 :])
        arg = src.new_empty(shape, dtype=torch.int64)
        return _segments(src, ptr, 3 if minimum else 4, arg), arg

    @staticmethod
    def csr_spread(x: Tensor, ptr: Tensor, size: int) -> Tensor:
        dim, shape = ptr.dim() - 1, x.shape
        ptr = _valid(ptr, size)
        out = x.new_empty((*shape[:dim], size, *shape[dim + 1 :]))
        x = x.contiguous()
        native.kernels.segments_spread(
            x.data_ptr(),
            ptr.data_ptr(),
            ptr.size(-1) if dim else 0,
            out.data_ptr(),
            shape[:dim].numel(),
            size,
            shape[dim + 1 :].numel(),
            shape[dim],
            x.element_size(),
            _threads(),
        )
        return out

    @staticmethod
    def largest(index: Tensor) -> int:
        index = index.contiguous()
        return native.kernels.index_largest(index.data_ptr(), index.numel(), _threads())

    @staticmethod
    def offsets(index: Tensor, rows: int) -> tuple[Tensor, Tensor | None]:
        """Where the rows of ``index [E]`` begin, and its order where it is not sorted."""
        index = index.contiguous()
        ptr = index.new_empty(rows + 1)
        found = native.kernels.index_offsets(
            index.data_ptr(), index.numel(), rows, ptr.data_ptr(), _threads()
        )
        if found == 0:
            check_rows(index, rows)
        if found == 2:
            return ptr, None
        both = torch.stack([index, index])
        ptr, _, eid, *_ = torch.ops.graphkit.coo_to_csr(both, rows, rows, False)
        return ptr, eid


def _scattered(
    src: Tensor, index: Tensor, dim: int, rows: int, code: int, arg: Tensor | None
) -> Tensor:
    if src.dtype in _NARROW:
        # rare, and forms of the kernel for each would take as long to compile as those in use
        return _scattered(src.int(), index, dim, rows, code, arg).to(src.dtype)
    shape = src.shape
    out = src.new_empty((*shape[:dim], rows, *shape[dim + 1 :]))
    width = shape[dim + 1 :].numel()
    # names keep copies while the kernel reads them
    src = src.contiguous()
    lies, batch, edge, column = _lie(index, dim, width)
    good = native.kernels.scatter(
        src.data_ptr(),
        lies.data_ptr(),
        batch,
        edge,
        column,
        out.data_ptr(),
        0 if arg is None else arg.data_ptr(),
        shape[:dim].numel(),
        shape[dim],
        width,
        rows,
        code,
        _CODES[src.dtype],
        src.element_size(),
        _threads(),
    )
    if not good:
        check_rows(index, rows)
    return out


def _valid(ptr: Tensor, size: int) -> Tensor:
    ptr = ptr.contiguous()
    batches = ptr.shape[:-1].numel()
    if not native.kernels.valid_offsets(
        ptr.data_ptr(), batches, ptr.size(-1) - 1, size, _threads()
    ):
        check_ptr(ptr, size)
    return ptr


def _segments(src: Tensor, ptr: Tensor, code: int, arg: Tensor | None) -> Tensor:
    if src.dtype in _NARROW:
        return _segments(src.int(), ptr, code, arg).to(src.dtype)
    dim, shape = ptr.dim() - 1, src.shape
    ptr, rows = _valid(ptr, shape[dim]), ptr.size(-1) - 1
    out = src.new_empty((*shape[:dim], rows, *shape[dim + 1 :]))
    src = src.contiguous()
    native.kernels.segments(
        src.data_ptr(),
        ptr.data_ptr(),
        rows + 1 if dim else 0,
        out.data_ptr(),
        0 if arg is None else arg.data_ptr(),
        shape[:dim].numel(),
        shape[dim],
        shape[dim + 1 :].numel(),
        rows,
        code,
        _CODES[src.dtype],
        src.element_size(),
        _threads(),
    )
    return out


scatter_reduce_op.register_kernel("cpu")(_Native.reduce)
scatter_best_op.register_kernel("cpu")(_Native.best)
scatter_pick_op.register_kernel("cpu")(_Native.pick)
scatter_put_op.register_kernel("cpu")(_Native.put)
csr_reduce_op.register_kernel("cpu")(_Native.csr_reduce)
csr_best_op.register_kernel("cpu")(_Native.csr_best)
csr_spread_op.register_kernel("cpu")(_Native.csr_spread)
ops.register_native(_Native())
