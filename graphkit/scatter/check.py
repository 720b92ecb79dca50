"""What the functions ask of their tensors, and how an index is spread over the values."""

# pyright: strict

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, nearest
from ..ops.scatter import DTYPES, largest, shared

_DTYPES = frozenset(DTYPES)


def prepare(
    op: str, src: Tensor, index: Tensor, dim: int, out: Tensor | None, dim_size: int | None
) -> tuple[Tensor, int, int]:
    """The index (``[E]`` where all share it, else shaped like ``src``), ``dim`` and the rows."""
    # the usual case goes by with few looks: small inputs take a few microseconds in all
    if (
        isinstance(src, Tensor)  # pyright: ignore[reportUnnecessaryIsInstance]
        and isinstance(index, Tensor)  # pyright: ignore[reportUnnecessaryIsInstance]
        and index.dtype is torch.int64
        and src.layout is torch.strided
        and src.dtype in _DTYPES
        and index.dim() == 1
        and -src.dim() <= dim < src.dim()
        and index.size(0) == src.size(dim)
        and index.device == src.device
    ):
        dim = dim + src.dim() if dim < 0 else dim
    else:
        check_pair(op, src, index)
        dim = check_dim(op, src, dim)
        index = broadcast(op, src, index, dim)
    if out is not None:
        return index, dim, check_out(op, src, out, dim, None)
    if dim_size is None:
        return index, dim, max(0, largest(index) + 1)
    return index, dim, check_count(op, dim_size)


def check_count(op: str, dim_size: Any) -> int:
    if not isinstance(dim_size, (int, torch.SymInt)) or dim_size < 0:
        raise GraphError(f"{op}: dim_size is {dim_size!r}, but a number of rows is expected.")
    return dim_size  # pyright: ignore[reportReturnType]


def check_values(op: str, src: Any, name: str = "src") -> None:
    if not isinstance(src, Tensor):
        raise GraphError(
            f"{op}: {name} is a {type(src).__name__}, but a torch.Tensor is expected. "
            f"Pass torch.as_tensor({name})."
        )
    if src.layout != torch.strided:
        raise GraphError(
            f"{op}: {name} has layout {src.layout}, but a dense tensor is expected. "
            f"Pass {name}.to_dense()."
        )
    if src.dtype not in _DTYPES:
        raise GraphError(
            f"{op}: {name} has dtype {src.dtype}, but floating-point or whole numbers are "
            f"expected. Pass {name}.float() or {name}.int()."
        )


def check_floating(op: str, src: Any) -> None:
    check_values(op, src)
    if not src.is_floating_point():
        raise GraphError(
            f"{op}: src has dtype {src.dtype}, but floating-point values are expected. "
            "Pass src.float()."
        )


def check_pair(op: str, src: Any, index: Any, name: str = "index") -> None:
    """Values and an index (or offsets) that may be used together."""
    check_values(op, src)
    if not isinstance(index, Tensor):
        raise GraphError(
            f"{op}: {name} is a {type(index).__name__}, but a torch.Tensor is expected. "
            f"Pass torch.as_tensor({name})."
        )
    if index.dtype is not torch.int64 or index.layout != torch.strided:
        raise GraphError(
            f"{op}: {name} has dtype {index.dtype} and layout {index.layout}, but a dense tensor "
            f"of dtype torch.int64 is expected. Pass {name}.long()."
        )
    if index.device != src.device:
        raise GraphError(
            f"{op}: {name} is on {index.device} but src is on {src.device}. "
            f"Pass {name}.to({str(src.device)!r})."
        )
    if index.dim() == 0 or index.dim() > max(src.dim(), 1):
        raise GraphError(
            f"{op}: {name} has shape {list(index.shape)} and src {list(src.shape)}, but {name} "
            "needs at least one dimension and at most those of src."
        )


def check_dim(op: str, src: Tensor, dim: Any) -> int:
    dims = src.dim()
    if not isinstance(dim, int) or not -dims <= dim < dims:
        valid = f"{-dims} to {dims - 1}" if dims else "none, as src is a single number"
        raise GraphError(
            f"{op}: dim is {dim!r}, but src has shape {list(src.shape)} (valid: {valid})."
        )
    return dim + dims if dim < 0 else dim


def broadcast(op: str, src: Tensor, index: Tensor, dim: int) -> Tensor:
    """``index`` shaped like ``src`` as torch_scatter does it, then ``[E]`` where all share it."""
    given = index
    if index.dim() == 1:
        index = index.view(*[1] * dim, -1)
    index = index.view(*index.shape, *[1] * (src.dim() - index.dim()))
    if any(size not in (1, want) for size, want in zip(index.shape, src.shape, strict=True)):
        raise GraphError(
            f"{op}: index has shape {list(given.shape)} and src {list(src.shape)}, which do not "
            f"fit along dim {dim}. Pass an index [{src.size(dim)}], or one shaped like src."
        )
    return shared(index.expand(src.shape), dim)


def check_out(op: str, src: Tensor, out: Any, dim: int, size: int | None) -> int:
    """``out`` as ``src`` with any size (or ``size``) along ``dim``, which is returned."""
    check_values(op, out, "out")
    rows = out.size(dim) if 0 <= dim < out.dim() else -1
    want = [*src.shape[:dim], rows if size is None else size, *src.shape[dim + 1 :]]
    if list(out.shape) != want:
        want[dim] = "rows" if size is None else size  # pyright: ignore
        raise GraphError(
            f"{op}: out has shape {list(out.shape)}, but [{', '.join(map(str, want))}] is expected "
            f"for src of shape {list(src.shape)}."
        )
    if out.dtype != src.dtype or out.device != src.device:
        raise GraphError(
            f"{op}: out is {out.dtype} on {out.device}, but src is {src.dtype} on {src.device}. "
            "Pass an out of its dtype and device."
        )
    return rows


def check_reduce(op: str, reduce: Any, known: tuple[str, ...]) -> None:
    if reduce not in known:
        raise ConfigError(f"{op}: unknown reduce {reduce!r}. {nearest(str(reduce), known)}")
