"""torch_scatter's functions, with nothing to build: ``import graphkit.scatter as torch_scatter``.

Names, argument order, broadcasting, ``out``, ``dim_size``, dtypes (bool excepted), results and
gradients are torch_scatter's. Where they differ:

- Bad input raises a :class:`graphkit.GraphError` (a ValueError) before anything is written.
- float16 and bfloat16 are added up in float32, and counts are exact in every dtype.
- A row whose largest value is -inf has -inf, not 0.
- Products of whole numbers that do not fit their dtype are bad input; sums wrap, as there.
- The gradient of a product is right where a value is 0, and second derivatives are everywhere but
  there.

On the CPU graphkit's kernels serve them, on GPUs those in triton where it is installed, elsewhere
torch. Results are the same for any number of threads and from run to run, on GPUs because an index
is sorted on every call; :func:`atomic` asks for sums there in any order instead. An index that is
sorted is found to be so, which on GPUs the host waits for.
"""

# pyright: strict

from __future__ import annotations

from ..ops.scatter import atomic
from .composite import scatter_log_softmax, scatter_logsumexp, scatter_softmax, scatter_std
from .reduce import (
    scatter,
    scatter_add,
    scatter_max,
    scatter_mean,
    scatter_min,
    scatter_mul,
    scatter_sum,
)
from .segment import (
    gather_coo,
    gather_csr,
    segment_add_coo,
    segment_add_csr,
    segment_coo,
    segment_csr,
    segment_max_coo,
    segment_max_csr,
    segment_mean_coo,
    segment_mean_csr,
    segment_min_coo,
    segment_min_csr,
    segment_sum_coo,
    segment_sum_csr,
)

__all__ = [
    "atomic",
    "gather_coo",
    "gather_csr",
    "scatter",
    "scatter_add",
    "scatter_log_softmax",
    "scatter_logsumexp",
    "scatter_max",
    "scatter_mean",
    "scatter_min",
    "scatter_mul",
    "scatter_softmax",
    "scatter_std",
    "scatter_sum",
    "segment_add_coo",
    "segment_add_csr",
    "segment_coo",
    "segment_csr",
    "segment_max_coo",
    "segment_max_csr",
    "segment_mean_coo",
    "segment_mean_csr",
    "segment_min_coo",
    "segment_min_csr",
    "segment_sum_coo",
    "segment_sum_csr",
]
