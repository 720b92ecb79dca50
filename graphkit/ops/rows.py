"""Rows of a table by their numbers, such as the features of the nodes of a batch."""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import GraphError

Take = Callable[[Tensor, Tensor, Tensor, bool], None]


def _reference(x: Tensor, index: Tensor, out: Tensor) -> None:
    # index_select would refuse an out that is not dense
    out.copy_(x.index_select(0, index))


native: Take | None = None
"""The kernel, where it was built."""


def register_native(take: Take) -> None:
    """Let the kernel serve tables on the CPU (``ops/cpu/rows.py``)."""
    global native
    native = take


def take_rows(x: Tensor, index: Tensor, out: Tensor | None = None) -> Tensor:
    """``x[index]``: the rows ``index [n]`` (int64 or int32) of ``x [N, ...]``, of any dtype.

    ``out [n, ...]``, of the dtype and device of ``x``, is written to and returned; it may be
    page-locked. On the CPU rows are fetched ahead of their use, and a large ``out`` is written past
    the caches; the rows of ``x`` and of ``out`` may stand apart, those of ``x`` may overlap, but
    each must be dense (``x`` is copied otherwise). On other devices this is ``index_select``.

    Gradient: with respect to ``x``, by ``index_select``, where ``out`` is not given. Cost: two
    times the result. Deterministic.

    Raises :class:`GraphError` for wrong types, shapes, devices and for numbers that are negative or
    beyond the table, before anything is written.
    """
    _check(x, index)
    if torch.is_grad_enabled() and x.requires_grad:
        if out is not None:
            raise GraphError(
                "take_rows: x needs a gradient, which does not flow through out. Leave out away, "
                "or pass x.detach()."
            )
        return x.index_select(0, index)
    is_new = out is None
    if out is None:
        out = torch.empty((len(index), *x.shape[1:]), dtype=x.dtype, device=x.device)
    else:
        _check_out(x, index, out)
    on_cpu = x.device.type == "cpu"
    # a conjugate or negative view is not what its bytes say
    is_plain = not (out.is_conj() or out.is_neg())
    if on_cpu and native is not None and is_plain and _has_dense_rows(out):
        dense = x.resolve_conj().resolve_neg()
        # rows that are only read may overlap
        whole = _has_dense_rows(dense, overlap=True)
        native(dense if whole else dense.contiguous(), index, out, is_new)
    else:
        _reference(x, index, out)
    return out


def _check(x: Any, index: Any) -> None:
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.dim() == 0:
        what = f"shape {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise GraphError(f"take_rows: x has {what}, but a dense tensor [N, ...] is expected.")
    check_rows_index(index, len(x), x.device)


def check_rows_index(index: Any, count: int, device: torch.device, of: str = "take_rows") -> None:
    """Raise :class:`GraphError` unless ``index`` are numbers of rows of a table of ``count``."""
    if not isinstance(index, Tensor) or index.dim() != 1:
        what = f"shape {list(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
        raise GraphError(f"{of}: index has {what}, but a tensor [n] of row numbers is expected.")
    if index.dtype not in (torch.int64, torch.int32):
        hint = "mask.nonzero().flatten()" if index.dtype == torch.bool else "index.long()"
        raise GraphError(
            f"{of}: index has dtype {index.dtype}, but torch.int64 or torch.int32 is "
            f"expected. Pass {hint}."
        )
    if index.device != device:
        raise GraphError(
            f"{of}: index is on {index.device} but x is on {device}. Pass "
            f"index.to({str(device)!r})."
        )
    if index.numel() == 0:
        return
    low, high = torch.aminmax(index)
    if int(low) < 0 or int(high) >= count:
        at = int(((index < 0) | (index >= count)).nonzero()[0])
        valid = f"valid: 0 to {count - 1}" if count else "valid: none"
        raise GraphError(
            f"{of}: index[{at}] = {int(index[at])}, but x has {count} rows ({valid}). "
            "Pass the table of the graph that the numbers are of."
        )


def _check_out(x: Tensor, index: Tensor, out: Any) -> None:
    want = [len(index), *x.shape[1:]]
    fits = isinstance(out, Tensor) and list(out.shape) == want
    if not fits or out.dtype != x.dtype or out.device != x.device:
        got = type(out).__name__
        if isinstance(out, Tensor):
            got = f"{out.dtype} {list(out.shape)} on {out.device}"
        raise GraphError(
            f"take_rows: out is {got}, but {x.dtype} {want} on {x.device} is expected. A longer "
            "buffer is cut to size by out[:len(index)]."
        )
    # of a tensor that is empty, or of one in memory of another size, nothing overlaps
    if out.numel() and out.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
        raise GraphError("take_rows: out shares memory with x. Pass a buffer of its own.")
    if out.requires_grad:
        raise GraphError("take_rows: out needs a gradient. Pass a buffer that does not.")


def _has_dense_rows(t: Tensor, overlap: bool = False) -> bool:
    """Whether each row lies in one piece, and no two rows overlap unless they may."""
    expected = 1
    for size, stride in zip(reversed(t.shape[1:]), reversed(t.stride()[1:]), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return overlap or t.size(0) <= 1 or t.stride(0) >= expected
