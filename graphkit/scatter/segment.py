"""Values that stand in the order of their rows: offsets (csr) and sorted indices (coo)."""

# pyright: strict

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import GraphError
from ..ops.scatter import (
    best,
    csr_best,
    csr_reduce,
    csr_spread,
    divided,
    pick,
    row_counts,
    shared,
)
from ..ops.scatter import reduce as reduced
from .check import check_dim, check_out, check_pair, check_reduce, prepare
from .reduce import joined

_REDUCES = ("sum", "add", "mean", "min", "max")


# -- offsets ---------------------------------------------------------------------------------------


def _offsets(op: str, src: Tensor, indptr: Tensor) -> Tensor:
    """``indptr`` as the kernels take it: ``[R + 1]``, or with the batches of ``src``."""
    check_pair(op, src, indptr, "indptr")
    dim = indptr.dim() - 1
    check_dim(op, src, dim)
    if indptr.size(-1) == 0:
        raise GraphError(
            f"{op}: indptr has shape {list(indptr.shape)}, but it needs one entry more than there "
            "are rows, the first of them 0."
        )
    if dim == 0:
        return indptr
    if any(a not in (1, b) for a, b in zip(indptr.shape[:-1], src.shape[:dim], strict=True)):
        raise GraphError(
            f"{op}: indptr has shape {list(indptr.shape)} and src {list(src.shape)}, but all "
            "dimensions of indptr before its last must be 1 or those of src."
        )
    return indptr.expand(*src.shape[:dim], indptr.size(-1))


def _csr(
    op: str, src: Tensor, indptr: Tensor, out: Tensor | None, reduce: str
) -> tuple[Tensor, Tensor | None]:
    ptr, arg = _offsets(op, src, indptr), None
    if out is not None:
        check_out(op, src, out, ptr.dim() - 1, ptr.size(-1) - 1)
    if reduce in ("min", "max"):
        value, arg = csr_best(src, ptr, reduce == "min")
    else:
        value = csr_reduce(src, ptr, "sum" if reduce == "add" else reduce)
    return value if out is None else out.copy_(value), arg


def _pair(found: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
    value, arg = found
    assert arg is not None
    return value, arg


def segment_sum_csr(src: Tensor, indptr: Tensor, out: Tensor | None = None) -> Tensor:
    """``out[.., r, ..] = sum of src[.., e, ..] for e from indptr[r] to indptr[r + 1]``.

    ``src``: any shape. ``indptr [.., R + 1]`` int64: the last of its dimensions is the one that is
    reduced, those before are 1 or those of ``src``. It starts at 0 and never falls; values behind
    its end belong to no row. Returns the shape of ``src`` with R rows; rows without values get 0.
    ``out`` is overwritten and returned.

    Gradient: that of each row, at its values. In float32 (float64 for float64). Deterministic.

    Raises :class:`GraphError` for wrong types, dtypes, shapes, devices and offsets.
    """
    return _csr("segment_sum_csr", src, indptr, out, "sum")[0]


def segment_add_csr(src: Tensor, indptr: Tensor, out: Tensor | None = None) -> Tensor:
    """:func:`segment_sum_csr` by another name."""
    return _csr("segment_add_csr", src, indptr, out, "sum")[0]


def segment_mean_csr(src: Tensor, indptr: Tensor, out: Tensor | None = None) -> Tensor:
    """The mean of each row, whole numbers rounded towards 0; see :func:`segment_sum_csr`."""
    return _csr("segment_mean_csr", src, indptr, out, "mean")[0]


def segment_min_csr(
    src: Tensor, indptr: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The smallest value of each row and its place in ``src``, as in ``scatter_min``."""
    return _pair(_csr("segment_min_csr", src, indptr, out, "min"))


def segment_max_csr(
    src: Tensor, indptr: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The largest value of each row and its place in ``src``, as in ``scatter_max``."""
    return _pair(_csr("segment_max_csr", src, indptr, out, "max"))


def segment_csr(
    src: Tensor, indptr: Tensor, out: Tensor | None = None, reduce: str = "sum"
) -> Tensor:
    """:func:`segment_sum_csr`, or the function that ``reduce`` names: ``sum`` or ``add``, ``mean``,
    ``min``, ``max``, of which the places are left out.

    Raises :class:`ConfigError` for an unknown ``reduce``, and what they raise.
    """
    check_reduce("segment_csr", reduce, _REDUCES)
    return _csr("segment_csr", src, indptr, out, reduce)[0]


def gather_csr(src: Tensor, indptr: Tensor, out: Tensor | None = None) -> Tensor:
    """``out[.., e, ..] = src[.., r, ..] for e from indptr[r] to indptr[r + 1]``.

    ``src`` has R rows where ``indptr [.., R + 1]`` says; all batches end at the same place, the
    size of the result. ``out`` is overwritten and returned. Gradient: :func:`segment_sum_csr`.

    Raises :class:`GraphError` as that does.
    """
    ptr = _offsets("gather_csr", src, indptr)
    dim = ptr.dim() - 1
    if src.size(dim) != ptr.size(-1) - 1:
        raise GraphError(
            f"gather_csr: src has {src.size(dim)} rows along dim {dim}, but indptr of shape "
            f"{list(indptr.shape)} has {ptr.size(-1) - 1}."
        )
    if out is not None:
        size = check_out("gather_csr", src, out, dim, None)
    else:
        size = max(0, int(ptr.flatten()[-1])) if ptr.numel() else 0
    if ptr.numel() and not torch.compiler.is_compiling() and not ptr.is_meta:
        ends = ptr[..., -1]
        if bool((ends != size).any()):
            raise GraphError(
                f"gather_csr: indptr ends at {int(ends.flatten()[0])}, but all of its batches "
                f"must end at {size}, the size of the result."
            )
    value = csr_spread(src, ptr, size)
    return value if out is None else out.copy_(value)


# -- sorted indices --------------------------------------------------------------------------------


def _coo(
    op: str,
    src: Tensor,
    index: Tensor,
    out: Tensor | None,
    dim_size: int | None,
    reduce: str,
) -> tuple[Tensor, Tensor | None]:
    check_pair(op, src, index)
    index, dim, rows = prepare(op, src, index, index.dim() - 1, out, dim_size)
    if reduce in ("min", "max"):
        value, arg = best(src, index, dim, rows, reduce == "min")
        return (
            (value, arg) if out is None else joined(out, value, arg, src.size(dim), reduce == "min")
        )
    if out is None and (reduce != "mean" or src.is_floating_point()):
        return reduced(src, index, dim, rows, "mean" if reduce == "mean" else "sum"), None
    total = reduced(src, index, dim, rows, "sum")
    total = total if out is None else out.add_(total)
    if reduce == "mean":
        # whole numbers as by offsets, not as in scatter_mean
        total.copy_(divided(total, row_counts(index, dim, rows, src.dim()), "trunc"))
    return total, None


def segment_sum_coo(
    src: Tensor, index: Tensor, out: Tensor | None = None, dim_size: int | None = None
) -> Tensor:
    """The sum of each row of a sorted ``index``, along the last of its dimensions.

    As ``scatter_sum``, with ``dim = index.dim() - 1``: ``index [.., E]``, those before the last
    1 or those of ``src``. ``out`` is added to. An index that is not sorted is served as well.
    """
    return _coo("segment_sum_coo", src, index, out, dim_size, "sum")[0]


def segment_add_coo(
    src: Tensor, index: Tensor, out: Tensor | None = None, dim_size: int | None = None
) -> Tensor:
    """:func:`segment_sum_coo` by another name."""
    return _coo("segment_add_coo", src, index, out, dim_size, "sum")[0]


def segment_mean_coo(
    src: Tensor, index: Tensor, out: Tensor | None = None, dim_size: int | None = None
) -> Tensor:
    """The mean of each row, whole numbers rounded towards 0; see :func:`segment_sum_coo`."""
    return _coo("segment_mean_coo", src, index, out, dim_size, "mean")[0]


def segment_min_coo(
    src: Tensor, index: Tensor, out: Tensor | None = None, dim_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """The smallest value of each row and its place, as in ``scatter_min``."""
    return _pair(_coo("segment_min_coo", src, index, out, dim_size, "min"))


def segment_max_coo(
    src: Tensor, index: Tensor, out: Tensor | None = None, dim_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """The largest value of each row and its place, as in ``scatter_max``."""
    return _pair(_coo("segment_max_coo", src, index, out, dim_size, "max"))


def segment_coo(
    src: Tensor,
    index: Tensor,
    out: Tensor | None = None,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> Tensor:
    """:func:`segment_sum_coo`, or the function that ``reduce`` names: ``sum`` or ``add``, ``mean``,
    ``min``, ``max``, of which the places are left out.

    Raises :class:`ConfigError` for an unknown ``reduce``, and what they raise.
    """
    check_reduce("segment_coo", reduce, _REDUCES)
    return _coo("segment_coo", src, index, out, dim_size, reduce)[0]


def gather_coo(src: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """``out[.., e, ..] = src[.., index[.., e], ..]``, along the last dimension of ``index``.

    ``src``: any shape with R rows; ``index [.., E]`` int64, dimensions before the last 1 or those
    of ``src``, sorted or not. ``out`` is overwritten and returned. Gradient:
    :func:`segment_sum_coo`.

    Raises :class:`GraphError` for wrong types, dtypes, shapes, devices, and an index that is
    negative or beyond the rows.
    """
    check_pair("gather_coo", src, index)
    dim = check_dim("gather_coo", src, index.dim() - 1)
    size = index.size(-1)
    if dim:
        if any(a not in (1, b) for a, b in zip(index.shape[:-1], src.shape[:dim], strict=True)):
            raise GraphError(
                f"gather_coo: index has shape {list(index.shape)} and src {list(src.shape)}, but "
                "all dimensions of index before its last must be 1 or those of src."
            )
        index = index.view(*index.shape, *[1] * (src.dim() - index.dim()))
        index = shared(index.expand(*src.shape[:dim], size, *src.shape[dim + 1 :]), dim)
    if out is not None:
        check_out("gather_coo", src, out, dim, size)
    value = pick(src, index, dim)
    return value if out is None else out.copy_(value)
