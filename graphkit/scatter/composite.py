"""Functions made of the others: deviation, log-sum-exp, softmax."""

# pyright: strict

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..ops.scatter import FEW, pick, reduce, row_counts, softmax
from .check import check_floating, prepare

_SORTED = 4
"""The width from which on a softmax sorts the edges first."""


@contextmanager
def _alone_if_few(src: Tensor) -> Generator[None]:
    """One thread for torch's own steps on few values, as for ours: waking another takes longer."""
    threads = 1 if torch.compiler.is_compiling() else torch.get_num_threads()
    if threads == 1 or src.device.type != "cpu" or src.numel() > FEW:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def scatter_std(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    unbiased: bool = True,
) -> Tensor:
    """``sqrt(sum of (src - mean of its row)**2 over (n - 1 + 1e-6))`` of each row of n values.

    ``n`` stands in for ``n - 1`` without ``unbiased``; rows of one value or none get 0. Arguments,
    shapes and errors as ``scatter_sum``; ``out`` is added to before division and root, and a new
    tensor is returned, as torch_scatter does it. Twice differentiable where it is not 0.
    """
    check_floating("scatter_std", src)
    index, dim, rows = prepare("scatter_std", src, index, dim, out, dim_size)
    with _alone_if_few(src):
        count = row_counts(index, dim, rows, src.dim()).to(src.dtype)
        mean = reduce(src, index, dim, rows, "mean")
        squares = reduce((src - pick(mean, index, dim)).square(), index, dim, rows, "sum")
        if out is not None:
            squares = out.add_(squares)
        if unbiased:
            count = count.sub(1).clamp(min=1)
        return squares.div(count + 1e-6).sqrt()


def scatter_logsumexp(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    eps: float = 1e-12,
) -> Tensor:
    """``log(eps' + sum of exp(src))`` of each row, eps' being ``eps`` times exp(its largest value).

    Rows without values get 0. Arguments, shapes and errors as ``scatter_sum``; ``out`` is one more
    value of each row. A new tensor is returned. Twice differentiable.
    """
    check_floating("scatter_logsumexp", src)
    index, dim, rows = prepare("scatter_logsumexp", src, index, dim, out, dim_size)
    top = reduce(src.detach(), index, dim, rows, "top")
    empty = top == -torch.inf
    # of a row of infinite values no largest can be taken off
    top = top.masked_fill(top.isinf(), 0)
    total = reduce((src - pick(top, index, dim)).exp(), index, dim, rows, "sum")
    if out is None:
        return ((total + eps).log() + top).masked_fill(empty, 0)
    before = out.clone()
    result = (total + (out - top).exp() + eps).log() + top
    return torch.where(empty, before, result)


def scatter_softmax(
    src: Tensor, index: Tensor, dim: int = -1, dim_size: int | None = None
) -> Tensor:
    """``exp(src) / sum of exp(src) over the row``, shaped like ``src``.

    Arguments and errors as ``scatter_sum``. The largest value of each row is taken off first; a row
    that holds only -inf gets 0. Twice differentiable.
    """
    check_floating("scatter_softmax", src)
    index, dim, rows = prepare("scatter_softmax", src, index, dim, None, dim_size)
    # narrow values are not worth sorting their edges
    if index.dim() == 1 and src.numel() >= _SORTED * max(1, src.size(dim)):
        return softmax(src, index, dim, rows)
    exp = _recentred(src, index, dim, rows).exp()
    total = reduce(exp, index, dim, rows, "sum")
    tiny = torch.finfo(src.dtype).tiny
    return exp / pick(total, index, dim).clamp(min=tiny)


def _recentred(src: Tensor, index: Tensor, dim: int, rows: int) -> Tensor:
    """``src`` less the largest value of its row, unless that is infinite."""
    top = reduce(src.detach(), index, dim, rows, "top")
    return src - pick(top.masked_fill(top.isinf(), 0), index, dim)


def scatter_log_softmax(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    eps: float = 1e-12,
    dim_size: int | None = None,
) -> Tensor:
    """``src - log(sum of exp(src) over the row)``, shaped like ``src``.

    ``eps`` is added to the sum after the row's largest value was taken off. Arguments and errors as
    ``scatter_sum``. Twice differentiable.
    """
    check_floating("scatter_log_softmax", src)
    index, dim, rows = prepare("scatter_log_softmax", src, index, dim, None, dim_size)
    recentred = _recentred(src, index, dim, rows)
    total = reduce(recentred.exp(), index, dim, rows, "sum") + eps
    return recentred - pick(total.log(), index, dim)
