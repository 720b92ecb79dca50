"""The message-passing kernels.

Values are stored in the dtype of the features and accumulated in float32 (float64 for float64);
edge weights are cast to the dtype of the features. Edge tensors are in the caller's edge order.
Every op has a reference in plain torch, the same gradient rules on every backend, and passes
through ``torch.compile`` whole.
"""

# pyright: strict

from __future__ import annotations

from . import cpu, triton
from . import extreme as extreme
from .attention import gat_attention, gatv2_attention
from .dropout import dropout, relu_dropout
from .intersect import common_neighbors, intersect
from .mix import mix_channels
from .negatives import NegativeSampler, sample_negatives
from .rows import take_rows
from .sample import HeteroSampled, Sampled, Sampler, sample
from .sample_plan import Key
from .sddmm import sddmm
from .segment import gather, segment_reduce, segment_softmax
from .spmm import spmm
from .walk import Walker, compact, importance_neighbors, ppr, random_walk

__all__ = [
    "HeteroSampled",
    "Key",
    "NegativeSampler",
    "Sampled",
    "Sampler",
    "Walker",
    "backends",
    "common_neighbors",
    "compact",
    "dropout",
    "gat_attention",
    "gather",
    "gatv2_attention",
    "importance_neighbors",
    "intersect",
    "mix_channels",
    "ppr",
    "random_walk",
    "relu_dropout",
    "sample",
    "sample_negatives",
    "sddmm",
    "segment_reduce",
    "segment_softmax",
    "spmm",
    "take_rows",
]


def backends() -> dict[str, dict[str, str]]:
    """Which implementation serves each op on each device, as ``graphkit info`` prints it.

    ``scatter`` stands for all that ``graphkit.scatter`` is made of."""
    ops = (name for name in __all__ if name.islower() and name != "backends")
    names = ("coo_to_csr", *ops, "scatter")
    native, gpu = cpu.native.serves(), triton.serves()
    return {
        name: {
            "cpu": native if name in cpu.SERVED else "torch reference",
            "cuda": gpu if name in triton.PUBLIC else "torch reference",
        }
        for name in names
    }
