"""The native passes behind ``graphkit::mix`` and its gradient."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..mix import mix_backward_op, mix_backward_reference, mix_op, mix_reference
from . import native

SERVED = ("mix_channels",)


class _Read:
    """What both passes read, in memory as the kernels take it; it has to outlive their calls."""

    def __init__(self, given: tuple[Any, ...], how: tuple[Any, ...]) -> None:
        low, rest, structure, att, shift, mix = given
        self.low, self.rest = native.rows(low), native.rows(rest)
        self.structure = None if structure is None else structure.contiguous()
        self.att, self.mix = att.contiguous(), mix.contiguous()
        self.shift = None if shift is None else shift.contiguous()
        self.args = native.kernels.MixArgs(
            self.low.data_ptr(),
            self.low.stride(0),
            self.rest.data_ptr(),
            self.rest.stride(0),
            native.address(self.structure),
            self.att.data_ptr(),
            native.address(self.shift),
            self.mix.data_ptr(),
            *how,
            low.size(0),
            att.size(1),
            native.DTYPES[low.dtype],
            native.threads(),
        )


@mix_op.register_kernel("cpu")
def _mix(
    low: Tensor,
    rest: Tensor,
    structure: Tensor | None,
    att: Tensor,
    shift: Tensor | None,
    mix: Tensor,
    eps: float,
    relu: bool,
    final_relu: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    given, how = (low, rest, structure, att, shift, mix), (eps, relu, final_relu, scale)
    if low.dtype not in native.DTYPES:
        return mix_reference(*given, *how)
    read = _Read(given, how)
    out = low.new_empty(low.size(0), att.size(1))
    weights = att.new_empty(low.size(0), att.size(0))
    gates = torch.empty_like(weights)
    native.kernels.mix(read.args, out.data_ptr(), weights.data_ptr(), gates.data_ptr())
    return out, weights, gates


@mix_backward_op.register_kernel("cpu")
def _mix_backward(
    dy: Tensor,
    dweights: Tensor | None,
    low: Tensor,
    rest: Tensor,
    structure: Tensor | None,
    att: Tensor,
    shift: Tensor | None,
    mix: Tensor,
    weights: Tensor,
    gates: Tensor,
    eps: float,
    relu: bool,
    final_relu: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    given, how = (low, rest, structure, att, shift, mix), (eps, relu, final_relu, scale)
    if low.dtype not in native.DTYPES:
        return mix_backward_reference(dy, dweights, *given, weights, gates, *how)
    read = _Read(given, how)
    dy = native.rows(dy.to(low.dtype))
    dweights = None if dweights is None else dweights.contiguous()
    weights, gates = weights.contiguous(), gates.contiguous()
    dlow, drest = low.new_empty(low.shape), low.new_empty(low.shape)
    dstructure = low.new_empty(0 if structure is None else structure.shape)
    datt, dshift, dmix = (
        att.new_empty(att.shape),
        att.new_empty(att.size(0)),
        mix.new_empty(mix.shape),
    )
    native.kernels.mix_backward(
        read.args,
        dy.data_ptr(),
        dy.stride(0),
        native.address(dweights),
        weights.data_ptr(),
        gates.data_ptr(),
        dlow.data_ptr(),
        drest.data_ptr(),
        0 if structure is None else dstructure.data_ptr(),
        datt.data_ptr(),
        dshift.data_ptr(),
        dmix.data_ptr(),
    )
    return dlow, drest, dstructure, datt, dshift, dmix
