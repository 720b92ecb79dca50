"""Values reduced by an index: ``scatter`` and its functions."""

# pyright: strict

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.scatter import best, check_products, divided, row_counts
from ..ops.scatter import reduce as reduced
from .check import check_reduce, prepare

__all__ = [
    "scatter", "scatter_add", "scatter_max", "scatter_mean", "scatter_min", "scatter_mul",
    "scatter_sum",
]  # fmt: skip


def scatter_sum(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """``out[.., r, ..] = sum of src[.., e, ..] over all e with index[.., e, ..] = r``.

    ``src``: any shape, floating-point or whole numbers. ``index`` int64: ``[E]`` along ``dim``, or
    a shape that broadcasts to that of ``src`` (missing dimensions are added behind). Returns the
    shape of ``src`` with ``dim_size`` rows along ``dim``: those of ``out`` if it is given, which is
    added to and returned, else the largest index plus one by default. Rows without values get 0;
    sums of whole numbers wrap.

    Gradient: that of each row, at its values; as often as you like. Sums are in float32
    (float64 for float64), in an order that depends on sizes alone. Deterministic on the CPU,
    and on GPUs where triton is installed.

    Raises :class:`GraphError` for wrong types, dtypes, shapes, devices and for an index that is
    negative or beyond the rows, before ``out`` is written to.
    """
    index, dim, rows = prepare("scatter_sum", src, index, dim, out, dim_size)
    result = reduced(src, index, dim, rows, "sum")
    return result if out is None else out.add_(result)


def scatter_add(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """:func:`scatter_sum` by another name."""
    return scatter_sum(src, index, dim, out, dim_size)


def scatter_mul(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """The product of each row, 1 for a row without values; ``out`` is multiplied with.

    As :func:`scatter_sum`. Gradient: the product of the row's other values; second derivatives are
    right where no value is 0. Products of whole numbers that their dtype cannot hold raise
    :class:`GraphError`, where torch_scatter wraps.
    """
    index, dim, rows = prepare("scatter_mul", src, index, dim, out, dim_size)
    result = reduced(src, index, dim, rows, "mul")
    if out is None:
        return result
    if not src.is_floating_point():
        check_products(out, out.double() * result)
    return out.mul_(result)


def scatter_mean(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> Tensor:
    """The mean of each row, 0 for a row without values; whole numbers are rounded down.

    As :func:`scatter_sum`. ``out`` is added to before the division, as torch_scatter does it.
    """
    index, dim, rows = prepare("scatter_mean", src, index, dim, out, dim_size)
    if out is None:
        return reduced(src, index, dim, rows, "mean")
    out.add_(reduced(src, index, dim, rows, "sum"))
    return out.copy_(divided(out, row_counts(index, dim, rows, src.dim())))


def _extreme(
    op: str,
    src: Tensor,
    index: Tensor,
    dim: int,
    out: Tensor | None,
    dim_size: int | None,
    minimum: bool,
) -> tuple[Tensor, Tensor]:
    index, dim, rows = prepare(op, src, index, dim, out, dim_size)
    value, arg = best(src, index, dim, rows, minimum)
    return (value, arg) if out is None else joined(out, value, arg, src.size(dim), minimum)


def joined(
    out: Tensor, value: Tensor, arg: Tensor, none: int, minimum: bool
) -> tuple[Tensor, Tensor]:
    """``out`` with what beats it, and its places; ``none`` where what was there stays."""
    wins = (arg != none) & ((value < out) if minimum else (value > out))
    return out.copy_(torch.where(wins, value, out)), arg.masked_fill(~wins, none)


def scatter_min(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The smallest value of each row, and its place along ``dim``.

    As :func:`scatter_sum`. Of equals the first wins, a nan never does. A row without values gets 0
    and ``src.size(dim)``; with ``out``, so does a place whose old value stays. Gradient: all of it
    to the value that won.
    """
    return _extreme("scatter_min", src, index, dim, out, dim_size, True)


def scatter_max(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The largest value of each row, and its place along ``dim``; see :func:`scatter_min`."""
    return _extreme("scatter_max", src, index, dim, out, dim_size, False)


_REDUCES = ("sum", "add", "mul", "mean", "min", "max")


def scatter(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> Tensor:
    """:func:`scatter_sum`, or the function that ``reduce`` names: ``sum`` or ``add``, ``mul``,
    ``mean``, ``min``, ``max``, of which the places are left out.

    Raises :class:`ConfigError` for an unknown ``reduce``, and what they raise.
    """
    check_reduce("scatter", reduce, _REDUCES)
    if reduce in ("min", "max"):
        return _extreme("scatter", src, index, dim, out, dim_size, reduce == "min")[0]
    if reduce == "mul":
        return scatter_mul(src, index, dim, out, dim_size)
    if reduce == "mean":
        return scatter_mean(src, index, dim, out, dim_size)
    return scatter_sum(src, index, dim, out, dim_size)
