"""Dropout on GPUs, with the bits of the definition in ``ops/random.py``. (opt: triton)"""

# where triton is not installed, its name leads to this folder; kernels are triton's own language
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dropout import relu_dropout_backward_reference, scale_of
from ..random import keep_below
from .ranges import acc_of, bits_of_float, factor_of, launch

BLOCK = 1024
"""Elements of a program, an even number: two share a random word."""


@triton.jit
def words_of(seed, counter):
    """:func:`random_words` of a seed and counters, as uint64."""
    z = seed.to(tl.uint64) + (counter + 1).to(tl.uint64) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


@triton.jit(do_not_specialize=["count", "below", "scale_bits", "total"])
def dropout_kernel(
    x_ptr,
    seed_ptr,
    out_ptr,
    count,
    below,
    scale_bits,
    total,
    RELU: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``out[k] = scale x[k]`` where 32 random bits are ``below``, else 0."""
    seed = tl.load(seed_ptr)
    scale = factor_of(scale_bits, ACC)
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        word = words_of(seed, work * (BLOCK // 2) + tl.arange(0, BLOCK // 2).to(tl.int64))
        bits = tl.interleave(word >> 32, word & 0xFFFFFFFF).to(tl.int64)
        place = work * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        is_in = place < count
        value = tl.load(x_ptr + place, mask=is_in, other=0).to(ACC)
        is_kept = bits < below
        if RELU:
            # not value > 0: nan stays, as in torch's relu
            is_kept = is_kept & ((value > 0) | (value != value))
        tl.store(out_ptr + place, tl.where(is_kept, value * scale, 0.0), mask=is_in)


@triton.jit(do_not_specialize=["count", "scale_bits", "total"])
def relu_dropout_backward_kernel(
    dy_ptr,
    y_ptr,
    out_ptr,
    count,
    scale_bits,
    total,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``out[k] = scale dy[k]`` unless ``y[k]`` is 0 or less."""
    scale = factor_of(scale_bits, ACC)
    for work in range(tl.program_id(0).to(tl.int64), total, tl.num_programs(0)):
        place = work * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
        is_in = place < count
        y = tl.load(y_ptr + place, mask=is_in, other=0).to(ACC)
        dy = tl.load(dy_ptr + place, mask=is_in, other=0).to(ACC)
        tl.store(out_ptr + place, tl.where(y <= 0, 0.0, dy * scale), mask=is_in)


def dropout(x: Tensor, seed: Tensor, p: float, relu: bool) -> Tensor:
    """``graphkit::dropout``, as ``ops/dropout.py`` defines it; the seed is read on the device."""
    x = x.contiguous()
    out = torch.empty_like(x)
    launch(
        dropout_kernel,
        triton.cdiv(x.numel(), BLOCK),
        *(x, seed, out, x.numel(), keep_below(p), bits_of_float(scale_of(p))),
        RELU=relu,
        ACC=acc_of(x.dtype),
        BLOCK=BLOCK,
    )
    return out


def relu_dropout_backward(dy: Tensor, y: Tensor, scale: float) -> Tensor:
    if dy.dtype != y.dtype:
        return relu_dropout_backward_reference(dy, y, scale)
    dy, y = dy.contiguous(), y.contiguous()
    out = torch.empty_like(dy)
    launch(
        relu_dropout_backward_kernel,
        triton.cdiv(dy.numel(), BLOCK),
        *(dy, y, out, dy.numel(), bits_of_float(scale)),
        ACC=acc_of(dy.dtype),
        BLOCK=BLOCK,
    )
    return out
