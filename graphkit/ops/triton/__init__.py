"""Kernels for GPUs: importing this registers them with their ops. (opt: triton)

The files of this folder import triton, and are imported by the first call on a GPU; where triton is
not installed, the ops' references serve. ``load("rows")`` imports a file by hand.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import torch

from ...errors import need
from ...graph import coo_to_csr_op, coo_to_csr_reference
from ..attention import (
    attention_backward_op,
    attention_backward_reference,
    attention_op,
    attention_reference,
)
from ..dropout import (
    dropout_op,
    dropout_reference,
    relu_dropout_backward_op,
    relu_dropout_backward_reference,
)
from ..extreme import (
    spmm_extreme_backward_op,
    spmm_extreme_backward_reference,
    spmm_extreme_op,
    spmm_extreme_reference,
    spmm_extreme_weights_op,
    spmm_extreme_weights_reference,
)
from ..intersect import (
    common_neighbors_op,
    common_neighbors_reference,
    intersect_op,
    intersect_reference,
)
from ..scatter import (
    csr_best_op,
    csr_best_reference,
    csr_reduce_op,
    csr_reduce_reference,
    csr_spread_op,
    csr_spread_reference,
    scatter_best_op,
    scatter_best_reference,
    scatter_pick_op,
    scatter_pick_reference,
    scatter_put_op,
    scatter_put_reference,
    scatter_reduce_op,
    scatter_reduce_reference,
)
from ..sddmm import sddmm_op, sddmm_reference
from ..segment import (
    gather_op,
    gather_reference,
    segment_extreme_op,
    segment_extreme_reference,
    segment_reduce_op,
    segment_reduce_reference,
    segment_share_op,
    segment_share_reference,
    segment_softmax_backward_op,
    segment_softmax_backward_reference,
    segment_softmax_op,
    segment_softmax_reference,
)
from ..spmm import spmm_op, spmm_reference

_BY_FILE: dict[str, tuple[tuple[Any, Callable[..., Any]], ...]] = {
    "csr": ((coo_to_csr_op, coo_to_csr_reference),),
    "spmm": ((spmm_op, spmm_reference),),
    "extreme": (
        (spmm_extreme_op, spmm_extreme_reference),
        (spmm_extreme_backward_op, spmm_extreme_backward_reference),
        (spmm_extreme_weights_op, spmm_extreme_weights_reference),
        (segment_extreme_op, segment_extreme_reference),
        (segment_share_op, segment_share_reference),
    ),
    "sddmm": ((sddmm_op, sddmm_reference),),
    "segment": (
        (gather_op, gather_reference),
        (segment_reduce_op, segment_reduce_reference),
        (segment_softmax_op, segment_softmax_reference),
        (segment_softmax_backward_op, segment_softmax_backward_reference),
    ),
    "attention": (
        (attention_op, attention_reference),
        (attention_backward_op, attention_backward_reference),
    ),
    "scatter": (
        (scatter_reduce_op, scatter_reduce_reference),
        (scatter_best_op, scatter_best_reference),
        (scatter_pick_op, scatter_pick_reference),
        (scatter_put_op, scatter_put_reference),
        (csr_reduce_op, csr_reduce_reference),
        (csr_best_op, csr_best_reference),
        (csr_spread_op, csr_spread_reference),
    ),
    "intersect": (
        (common_neighbors_op, common_neighbors_reference),
        (intersect_op, intersect_reference),
    ),
    "dropout": (
        (dropout_op, dropout_reference),
        (relu_dropout_backward_op, relu_dropout_backward_reference),
    ),
}
KERNELS = tuple(
    (op, reference, file, op._name) for file, ops in _BY_FILE.items() for op, reference in ops
)
"""Ops, their references, and where their kernels are: file and function of the op's name."""

PUBLIC = (
    "coo_to_csr",
    "spmm",
    "sddmm",
    "gather",
    "segment_reduce",
    "segment_softmax",
    "gat_attention",
    "gatv2_attention",
    "intersect",
    "common_neighbors",
    "dropout",
    "relu_dropout",
)
"""The public ops that they serve."""


def load(name: str) -> ModuleType:
    """The file ``name`` of this folder; :class:`BackendError` where triton is not installed."""
    need("triton")
    return importlib.import_module(f"{__name__}.{name}")


@functools.cache
def present() -> bool:
    return importlib.util.find_spec("triton") is not None


def serves() -> str:
    """What serves the ops that have a kernel, in words."""
    return "triton" if present() else "torch reference"


def _register(op: Any, reference: Callable[..., Any], file: str, name: str) -> None:
    def kernel(*arguments: Any) -> Any:
        if not present():
            return reference(*arguments)
        run = getattr(load(file), name)
        device = next(a for a in arguments if isinstance(a, torch.Tensor)).device
        # triton launches on the current device, whichever the tensors are on
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return run(*arguments)

    op.register_kernel("cuda")(kernel)


for _kernel in KERNELS:
    _register(*_kernel)
