"""The native attention behind ``graphkit::attention`` and its gradient."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..attention import (
    Inputs,
    attention_backward_op,
    attention_backward_reference,
    attention_op,
    attention_reference,
)
from ..random import keep_below
from ..spmm import accumulator
from . import native

SERVED = ("gat_attention", "gatv2_attention")


def _dense(given: Inputs) -> Inputs:
    """``given`` as the kernels read it; the copies that this may take live as long as it does."""

    def flat(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.contiguous()

    return given._replace(
        h=native.rows(given.h),
        src=flat(given.src),
        dst=flat(given.dst),
        edge=flat(given.edge),
        loop=flat(given.loop),
        right=None if given.right is None else native.rows(given.right),
        att=flat(given.att),
    )


def _call(given: Inputs) -> Any:
    """What both directions take of the inputs."""
    right = given.right
    call = native.kernels.Attention(
        native.side(given.ptr, given.idx, given.eid),
        given.h.data_ptr(),
        given.h.stride(0),
        native.address(given.src),
        native.address(given.dst),
        native.address(given.edge),
        native.address(given.loop),
        native.address(right),
        0 if right is None else right.stride(0),
        native.address(given.att),
        given.h.size(1),
        given.h.size(2),
        given.num_loops,
        given.slope,
        native.DTYPES[given.h.dtype],
        native.threads(),
    )
    if given.seed is not None:
        scale = 1 / (1 - given.p) if given.p < 1 else 0.0
        call.drop(int(given.seed), keep_below(given.p), scale)
    return call


@attention_op.register_kernel("cpu")
def _attention(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    given = Inputs(*inputs)
    h = given.h
    if h.dtype not in native.DTYPES or h.size(1) * h.size(2) == 0:
        return attention_reference(*inputs)
    given = _dense(given)
    rows, heads = given.ptr.numel() - 1, h.size(1)
    out = h.new_empty(rows, heads, h.size(2))
    top = h.new_empty(rows, heads, dtype=accumulator(h.dtype))
    total = torch.empty_like(top)
    native.kernels.attention(_call(given), out.data_ptr(), top.data_ptr(), total.data_ptr())
    return out, top, total


@attention_backward_op.register_kernel("cpu")
def _backward(*inputs: Any) -> list[Tensor]:
    *first, top, total, dy = inputs
    given = Inputs(*first)
    h, by_src = given.h, given.graph.by_src
    if h.dtype not in native.DTYPES or h.size(1) * h.size(2) == 0 or by_src is None:
        return attention_backward_reference(*inputs)
    given, dy = _dense(given), native.rows(dy.to(h.dtype))
    wanted = (h, given.src, given.dst, given.edge, given.loop, given.right, given.att)
    grads = [None if t is None else t.new_empty(t.shape) for t in wanted]
    edge = grads[3]
    if edge is not None and given.loops:
        # the graph's own self-loops count for nothing and are passed over
        edge.zero_()
    records = top.new_empty(top.size(0), 4, top.size(1))
    native.kernels.attention_backward(
        _call(given),
        native.side(by_src.indptr, by_src.indices, by_src.eid),
        top.data_ptr(),
        total.data_ptr(),
        dy.data_ptr(),
        dy.stride(0),
        records.data_ptr(),
        *(native.address(grad) for grad in grads),
    )
    return [top.new_empty(0) if grad is None else grad for grad in grads]
