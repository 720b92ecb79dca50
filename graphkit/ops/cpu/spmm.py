"""The native product behind ``graphkit::spmm``."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from torch import Tensor

from ..spmm import spmm_op, spmm_reference
from . import native

SERVED = ("spmm",)


@spmm_op.register_kernel("cpu")
def _spmm(
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
    code = native.DTYPES.get(x_SHC.dtype)
    if code is None:
        return spmm_reference(
            ptr, idx, eid, tptr, tidx, teid, x_SHC, w_EH, mean, left, right, diagonal
        )
    x, w = native.rows(x_SHC), None if w_EH is None else w_EH.contiguous()
    out = x.new_empty(ptr.numel() - 1, x.size(1), x.size(2))
    native.kernels.spmm(
        native.side(ptr, idx, eid),
        x.data_ptr(),
        x.stride(0),
        native.address(w),
        1 if w is None else w.size(1),
        native.address(left),
        native.address(right),
        native.address(diagonal),
        out.data_ptr(),
        x.size(1),
        x.size(2),
        mean,
        code,
        native.threads(),
    )
    return out
