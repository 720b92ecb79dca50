"""Kernels for GPUs: importing this registers them with their ops. (opt: triton)

The files of this folder import triton, and are imported by the first call on a GPU; where triton is
not installed, the ops' references serve. ``load("rows")`` imports a file by hand.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import torch

from ...errors import ConfigError, need
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
    "scatter",
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


def use_shapes(path: str | os.PathLike[str] | None, gpu: str | None = None) -> int:
    """Have kernels take the shapes that ``benchmarks/gpu_suite.py`` found fastest on this GPU.

    ``path`` is the ``shapes.json`` that it wrote, which holds tables by the names of GPUs; ``gpu``
    is this one's name if not given. Returns how many shapes there are for it; None as ``path``
    takes the usual ones again. Sums of neighbours and of segments and attention read the table, by
    width, bytes of a value and mean degree.

    Nothing is read unless this is called, and no call is ever timed to choose: a shape decides in
    which order the slots of a row are added, so results with and without it may differ in the last
    bits. With the same table they are the same in every run.

    Raises :class:`ConfigError` for a file that is not such a table.
    """
    tuned: dict[str, Any] = load("ranges").tuned
    tuned.clear()
    if path is None:
        return 0
    try:
        with open(path, encoding="utf-8") as file:
            tables = json.load(file)
        name = gpu or torch.cuda.get_device_name()
        found = {key: _shape(numbers) for key, numbers in tables.get(name, {}).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"use_shapes: {path} is no table of shapes: {error}. Expected is the shapes.json of "
            "python benchmarks/gpu_suite.py --out DIR."
        ) from error
    tuned.update(found)
    return len(found)


def _shape(numbers: Any) -> Any:
    shape = load("ranges").Shape(*numbers)
    for number in shape:
        if type(number) is not int or number < 1 or number & (number - 1):
            raise ValueError(f"{list(shape)} are not powers of two")
    return shape


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
