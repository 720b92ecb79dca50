"""The native copy behind ``graphkit.ops.take_rows``."""

# pyright: strict

from __future__ import annotations

from torch import Tensor

from ..rows import register_native
from . import native

SERVED = ("take_rows",)


def take(x: Tensor, index: Tensor, out: Tensor, is_new: bool) -> None:
    """Copy ``x[index]`` to ``out``; both have dense rows, and the index was checked.

    ``is_new``: nothing was written to the memory of ``out`` yet."""
    size = x.element_size()
    index = index.contiguous()
    native.kernels.take_rows(
        x.data_ptr(),
        index.data_ptr(),
        index.element_size() == 8,
        out.data_ptr(),
        len(index),
        x.shape[1:].numel() * size,
        x.stride(0) * size,
        out.stride(0) * size,
        is_new,
        native.threads(),
    )


register_native(take)
