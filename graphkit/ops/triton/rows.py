"""Rows of a table that a GPU reads itself, out of the host's memory in lines of 128 bytes.

A warp that loads 128 bytes from an address that is no multiple of 128 asks for two lines. So the
columns of a row are shifted by its distance from such an address, and every load after the first
takes one whole line (`PyTorch-Direct <https://arxiv.org/abs/2101.07956>`_). (opt: triton)
"""

# where triton is not installed, its name leads to this folder
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LINE = 128
# below it the shift costs more than the lines that it saves
SHIFTED_FROM = 256


@triton.jit
def take_rows_kernel(
    x_ptr,
    index_ptr,
    out_ptr,
    num_taken,
    width,
    x_stride,
    out_stride,
    begin_skew,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    WORDS: tl.constexpr,
    SHIFT: tl.constexpr,
):
    """``ROWS`` rows of ``width`` words, ``WORDS`` to a line; the table begins ``begin_skew`` words
    behind one."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    is_row = row < num_taken
    # offsets pass 2**31 in tables of 8 GB
    source = tl.load(index_ptr + row, mask=is_row, other=0).to(tl.int64) * x_stride
    target = row * out_stride
    skew = (source + begin_skew) % WORDS if SHIFT else source * 0
    for first in range(0, width + (WORDS if SHIFT else 0), BLOCK):
        column = first + tl.arange(0, BLOCK)[None, :] - skew[:, None]
        is_in = is_row[:, None] & (column >= 0) & (column < width)
        value = tl.load(x_ptr + source[:, None] + column, mask=is_in, other=0)
        tl.store(out_ptr + target[:, None] + column, value, mask=is_in)


def words(*tensors: Tensor) -> torch.dtype:
    """The widest integers of at most 4 bytes that rows, strides and addresses are multiples of."""
    for kind in (torch.int32, torch.int16):
        size = kind.itemsize
        if all(
            t.data_ptr() % size == 0
            and (t.stride(0) * t.element_size()) % size == 0
            and (t.shape[1:].numel() * t.element_size()) % size == 0
            for t in tensors
        ):
            return kind
    return torch.uint8


def as_words(t: Tensor, kind: torch.dtype) -> tuple[Tensor, int, int]:
    """A flat view of the words of ``t`` from its first on, a row's length and the rows' stride."""
    size = t.element_size()
    width = t.shape[1:].numel() * size // kind.itemsize
    stride = t.stride(0) * size // kind.itemsize
    flat = t.as_strided((max(0, (len(t) - 1) * t.stride(0) + t.shape[1:].numel()),), (1,))
    return flat.view(torch.uint8).view(kind), width, stride


def shape_of(width: int, nbytes: int) -> dict[str, Any]:
    """How many rows and words a program takes at once, and whether it shifts."""
    block = min(256, triton.next_power_of_2(max(1, width)))
    return {"ROWS": max(1, 256 // block), "BLOCK": block, "SHIFT": nbytes >= SHIFTED_FROM}


def take_rows(x: Tensor, index: Tensor, out: Tensor) -> None:
    """Copy ``x[index]`` to ``out``, both with dense rows; the numbers were checked.

    ``index`` and ``out`` are on the GPU, and ``x`` is there or in page-locked memory of the host.
    """
    if out.numel() == 0:
        return
    kind = words(x, out)
    flat, width, x_stride = as_words(x, kind)
    to, _, out_stride = as_words(out, kind)
    how = shape_of(width, width * kind.itemsize)
    skew = x.data_ptr() % LINE // kind.itemsize
    grid = (triton.cdiv(len(index), how["ROWS"]),)
    take_rows_kernel[grid](
        flat, index, to, len(index), width, x_stride, out_stride, skew,
        WORDS=LINE // kind.itemsize, **how,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
