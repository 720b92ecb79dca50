"""The compiled module, and tensors as it takes them: addresses, sizes and codes. (opt: _kernels)

``GRAPHKIT_SIMD`` chooses the instruction set (baseline, avx2, avx512; the best by default), or
``off`` for torch alone.
"""

# pyright: strict

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from ...errors import BackendError, nearest

# torch is imported first: both then share one OpenMP runtime, and so one pool of threads
try:
    from . import _kernels as found  # pyright: ignore

    kernels: Any = found  # pyright: ignore[reportUnknownVariableType]
except ImportError:
    kernels = None

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
"""The dtypes of values that kernels take, and their codes."""


def _choose() -> None:
    """Use the instruction set that the environment asks for."""
    global kernels
    asked = os.environ.get("GRAPHKIT_SIMD", "")
    if asked == "off":
        kernels = None
    elif asked and kernels is not None and not kernels.choose(asked):
        offered = (*kernels.instruction_sets(), "off")
        raise BackendError(
            f"GRAPHKIT_SIMD is {asked!r}, which this machine or build does not offer. "
            f"{nearest(asked, offered)}"
        )


_choose()


def serves() -> str:
    """What serves the ops that have a kernel, in words."""
    if kernels is None:
        return "torch reference"
    threads = "" if kernels.threaded() else ", one thread"
    return f"native, {kernels.instruction_set()}{threads}"


def threads() -> int:
    """The threads that torch was told to use."""
    return torch.get_num_threads()


def work_alone() -> None:
    """Let the calling thread do its work alone, torch's as well: no pool of threads of its own."""
    # torch sets the number when a thread first asks for it
    torch.get_num_threads()
    if kernels is not None:
        kernels.work_alone()


def address(t: Tensor | None) -> int:
    """Where the elements of ``t`` begin, 0 for None."""
    return 0 if t is None else t.data_ptr()


def side(ptr: Tensor, idx: Tensor, eid: Tensor | None) -> Any:
    """One side of a graph; the tensors must outlive it."""
    wide = eid is not None and eid.dtype == torch.int64
    return kernels.Side(
        ptr.data_ptr(),
        idx.data_ptr(),
        address(eid),
        idx.dtype == torch.int64,
        wide,
        ptr.numel() - 1,
    )


def rows(x: Tensor) -> Tensor:
    """``x [N, ...]`` with dense rows, which may stand apart; a copy only where it must be."""
    expected = 1
    for size, stride in zip(reversed(x.shape[1:]), reversed(x.stride()[1:]), strict=True):
        if size != 1 and stride != expected:
            return x.contiguous()
        expected *= size
    return x if x.size(0) <= 1 or x.stride(0) >= expected else x.contiguous()
