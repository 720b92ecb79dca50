"""The native draws behind ``graphkit.ops.sample_negatives``."""

# pyright: strict

from __future__ import annotations

import torch
from torch import Tensor

from ..negatives import TRIES, Pairs, register_native
from . import native

SERVED = ("sample_negatives",)


def run(
    of: Pairs, word: int, given: Tensor | None, count: int, excluded: Tensor
) -> tuple[Tensor, Tensor]:
    src = torch.empty(count, dtype=torch.int64) if given is None else given
    dst = torch.empty(count, dtype=torch.int64)
    native.kernels.sample_negatives(
        native.side(of.ptr, of.idx, None),
        of.num_dst,
        native.address(of.src_sums),
        native.address(of.dst_sums),
        of.loops,
        native.address(given),
        excluded.data_ptr(),
        len(excluded),
        word,
        count,
        TRIES,
        src.data_ptr(),
        dst.data_ptr(),
        native.threads(),
    )
    return src, dst


register_native(run)
