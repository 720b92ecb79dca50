"""The native passes behind ``graphkit::dropout`` and the backward of ReLU and dropout in one."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import torch
from torch import Tensor

from ..dropout import (
    dropout_op,
    dropout_reference,
    relu_dropout_backward_op,
    relu_dropout_backward_reference,
    scale_of,
)
from ..random import keep_below
from . import native

SERVED = ("dropout", "relu_dropout")


@dropout_op.register_kernel("cpu")
def _dropout(x: Tensor, seed: Tensor, p: float, relu: bool) -> Tensor:
    code = native.DTYPES.get(x.dtype)
    if code is None:
        return dropout_reference(x, seed, p, relu)
    x = x.contiguous()
    out = torch.empty_like(x)
    native.kernels.dropout(
        x.data_ptr(),
        out.data_ptr(),
        x.numel(),
        int(seed) % 2**64,
        keep_below(p),
        scale_of(p),
        relu,
        code,
        native.threads(),
    )
    return out


@relu_dropout_backward_op.register_kernel("cpu")
def _relu_dropout_backward(dy: Tensor, y: Tensor, scale: float) -> Tensor:
    code = native.DTYPES.get(dy.dtype)
    if code is None or y.dtype != dy.dtype:
        return relu_dropout_backward_reference(dy, y, scale)
    dy, y = dy.contiguous(), y.contiguous()
    out = torch.empty_like(dy)
    native.kernels.relu_dropout_backward(
        dy.data_ptr(),
        y.data_ptr(),
        out.data_ptr(),
        dy.numel(),
        scale,
        code,
        native.threads(),
    )
    return out
