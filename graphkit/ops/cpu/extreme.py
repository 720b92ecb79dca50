"""The native kernels behind ``graphkit::spmm_extreme`` and its gradients."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import torch
from torch import Tensor

from ..extreme import (
    spmm_extreme_backward_op,
    spmm_extreme_backward_reference,
    spmm_extreme_op,
    spmm_extreme_reference,
    spmm_extreme_weights_op,
    spmm_extreme_weights_reference,
)
from ..spmm import accumulator
from . import native

SERVED = ()
"""``spmm`` names the public op that these serve."""


@spmm_extreme_op.register_kernel("cpu")
def _extreme(
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
    code = native.DTYPES.get(x_SHC.dtype)
    if code is None:
        return spmm_extreme_reference(ptr, idx, eid, tptr, tidx, teid, x_SHC, w_EH, minimum, keep)
    x, w = native.rows(x_SHC), None if w_EH is None else w_EH.contiguous()
    heads, channels = x.size(1), x.size(2)
    out = x.new_empty(ptr.numel() - 1, heads, channels)
    bits = (idx.numel(), heads, (channels + 7) // 8) if keep else (0,)
    won = x.new_empty(bits, dtype=torch.uint8)
    tied = x.new_zeros(ptr.numel() - 1 if keep else 0, dtype=torch.bool)
    native.kernels.extreme(
        native.side(ptr, idx, eid),
        x.data_ptr(),
        x.stride(0),
        native.address(w),
        1 if w is None else w.size(1),
        out.data_ptr(),
        won.data_ptr() if keep else 0,
        tied.data_ptr() if keep else 0,
        heads,
        channels,
        minimum,
        code,
        native.threads(),
    )
    return out, won, tied


@spmm_extreme_backward_op.register_kernel("cpu")
def _backward(
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
    code = native.DTYPES.get(dy_DHC.dtype)
    if code is None:
        return spmm_extreme_backward_reference(
            *(ptr, idx, eid, tptr, tidx, teid),
            *(dy_DHC, x_SHC, w_EH, out_DHC, won_EHB, tied_D, num_src),
        )
    side, dy = native.side(ptr, idx, eid), dy_DHC.contiguous()
    w = None if w_EH is None else w_EH.contiguous()
    weights = native.address(w), 1 if w is None else w.size(1)
    if won_EHB is not None:
        assert tptr is not None and tidx is not None and tied_D is not None
        place = share = None
        # most rows have no equals and are read where they are
        if num_tied := int(tied_D.sum()):
            place = torch.where(tied_D, tied_D.cumsum(0) - 1, -1)
            share = dy.new_empty(num_tied, *dy.shape[1:])
        dx = dy.new_empty(num_src, dy.size(1), dy.size(2))
        native.kernels.extreme_to_sources(
            side,
            native.side(tptr, tidx, teid),
            dy.data_ptr(),
            *weights,
            won_EHB.data_ptr(),
            native.address(place),
            native.address(share),
            0 if share is None else share.size(0),
            dx.data_ptr(),
            dy.size(1),
            dy.size(2),
            code,
            native.threads(),
        )
        return dx
    assert x_SHC is not None and out_DHC is not None
    x, out = native.rows(x_SHC), out_DHC.contiguous()
    dx = dy.new_zeros(num_src, dy.size(1), dy.size(2), dtype=accumulator(dy.dtype))
    native.kernels.extreme_scatter(
        side,
        dy.data_ptr(),
        x.data_ptr(),
        x.stride(0),
        *weights,
        out.data_ptr(),
        dx.data_ptr(),
        dy.size(1),
        dy.size(2),
        code,
        native.threads(),
    )
    return dx.to(dy.dtype)


@spmm_extreme_weights_op.register_kernel("cpu")
def _weights(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    dy_DHC: Tensor,
    x_SHC: Tensor,
    w_EH: Tensor,
    out_DHC: Tensor,
) -> Tensor:
    code = native.DTYPES.get(dy_DHC.dtype)
    if code is None:
        return spmm_extreme_weights_reference(ptr, idx, eid, dy_DHC, x_SHC, w_EH, out_DHC)
    dy, x, w = dy_DHC.contiguous(), native.rows(x_SHC), w_EH.contiguous()
    out, dw = out_DHC.contiguous(), torch.empty_like(w)
    native.kernels.extreme_weights(
        native.side(ptr, idx, eid),
        dy.data_ptr(),
        x.data_ptr(),
        x.stride(0),
        w.data_ptr(),
        w.size(1),
        out.data_ptr(),
        dw.data_ptr(),
        dy.size(1),
        dy.size(2),
        code,
        native.threads(),
    )
    return dw
