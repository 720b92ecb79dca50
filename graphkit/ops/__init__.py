"""The message-passing kernels.

Values are stored in the dtype of the features and accumulated in float32 (float64 for float64);
edge weights are cast to the dtype of the features. Edge tensors are in the caller's edge order.
Every op has a reference in plain torch, the same gradient rules on every backend, and passes
through ``torch.compile`` whole.
"""

# pyright: strict

from __future__ import annotations

from .sddmm import sddmm
from .segment import gather, segment_reduce, segment_softmax
from .spmm import spmm

__all__ = ["backends", "gather", "sddmm", "segment_reduce", "segment_softmax", "spmm"]


def backends() -> dict[str, dict[str, str]]:
    """Which implementation serves each op on each device, as ``graphkit info`` prints it."""
    names = ("coo_to_csr", *(name for name in __all__ if name != "backends"))
    return {name: {"cpu": "torch reference", "cuda": "torch reference"} for name in names}
