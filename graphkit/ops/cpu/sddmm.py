"""The native products behind ``graphkit::sddmm``."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from torch import Tensor

from ..sddmm import sddmm_op, sddmm_reference
from . import native

SERVED = ("sddmm",)


@sddmm_op.register_kernel("cpu")
def _sddmm(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    a_DHC: Tensor,
    b_SHC: Tensor,
) -> Tensor:
    code = native.DTYPES.get(a_DHC.dtype)
    if code is None:
        return sddmm_reference(ptr, idx, eid, tptr, tidx, teid, a_DHC, b_SHC)
    a, b = native.rows(a_DHC), native.rows(b_SHC)
    out = a.new_empty(idx.numel(), a.size(1))
    native.kernels.sddmm(
        native.side(ptr, idx, eid),
        a.data_ptr(),
        a.stride(0),
        b.data_ptr(),
        b.stride(0),
        b.size(0),
        out.data_ptr(),
        a.size(1),
        a.size(2),
        code,
        native.threads(),
    )
    return out
