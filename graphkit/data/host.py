"""A table in the host's memory whose rows are asked for on a device. (opt: triton)"""

# pyright: strict

from __future__ import annotations

import importlib.util
import threading
import weakref
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..errors import BackendError, ConfigError, GraphError, nearest
from ..ops import take_rows, triton

Mode = Literal["auto", "zero_copy", "staged"]
_MODES = ("auto", "zero_copy", "staged")
_LINE = 128


class HostTable:
    """A table ``x [N, ...]`` that stays in the host's memory, whose rows arrive on ``device``.

        x = HostTable(x, "cuda")
        rows = x.rows(index)

    ``zero_copy``: a kernel on the GPU reads the rows out of page-locked memory itself, line by line
    (`PyTorch-Direct <https://arxiv.org/abs/2101.07956>`_): no thread of the host takes part.
    ``staged``: the rows are gathered into page-locked memory and copied from there. ``auto`` is
    zero_copy where triton is installed. On the CPU both are :func:`graphkit.ops.take_rows`, with
    the same values.

    Args:
        x: the table, on the CPU. It is page-locked where it lies if the driver allows it, and must
            then not be resized; otherwise a page-locked copy is made.
        device: where the rows are wanted.
        mode: ``auto``, ``zero_copy`` or ``staged``.
        pad: copy the table to rows that begin every 128 bytes, which needs more memory and lets the
            GPU read as few lines as possible.

    Raises :class:`GraphError` for another ``x``, :class:`ConfigError` for an unknown mode, and
    :class:`BackendError` where the device or triton is not there.
    """

    def __init__(
        self, x: Tensor, device: torch.device | str, *, mode: Mode = "auto", pad: bool = False
    ) -> None:
        if not isinstance(x, Tensor) or x.device.type != "cpu" or x.dim() == 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            what = f"on {x.device}" if isinstance(x, Tensor) else f"a {type(x).__name__}"  # pyright: ignore[reportUnnecessaryIsInstance]
            raise GraphError(
                f"HostTable: x is {what}, but a tensor [N, ...] on the CPU is expected."
            )
        if mode not in _MODES:
            raise ConfigError(f"HostTable: unknown mode {mode!r}. {nearest(str(mode), _MODES)}")
        self.device = torch.device(device)
        if self.device == torch.device("cuda") and torch.cuda.is_available():
            # with its number, as tensors have it
            self.device = torch.device("cuda", torch.cuda.current_device())
        has_triton = importlib.util.find_spec("triton") is not None
        if mode == "zero_copy" and self.device.type == "cuda" and not has_triton:
            raise BackendError(
                "HostTable: zero_copy needs the package 'triton', which is not installed. "
                "Use mode='staged', or: pip install triton"
            )
        self.mode = ("zero_copy" if has_triton else "staged") if mode == "auto" else mode
        # of a conjugate or negative view the bytes are read
        x = x.detach().resolve_conj().resolve_neg()
        self.x = padded(x) if pad else x.contiguous()
        if self.device.type == "cuda":
            if not torch.cuda.is_available():
                raise BackendError("HostTable: there is no CUDA device. Use device='cpu'.")
            self.x = _locked(self, self.x)
        self._staging = threading.local()

    @property
    def shape(self) -> torch.Size:
        return self.x.shape

    def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        """The rows ``index`` (int64 or int32, on the CPU or on the device), on the device.

        Raises :class:`GraphError` as :func:`graphkit.ops.take_rows` does, before anything is read.
        """
        if self.device.type == "cpu":
            return take_rows(self.x, index, out)
        wanted = [len(index), *self.x.shape[1:]]
        if out is not None and (
            list(out.shape) != wanted
            or (out.dtype, out.device) != (self.x.dtype, self.device)
            or not out.is_contiguous()
        ):
            raise GraphError(
                f"HostTable: out is {out.dtype} {list(out.shape)} on {out.device}, but contiguous "
                f"{self.x.dtype} {wanted} on {self.device} is expected. A longer buffer is cut to "
                "size by out[:len(index)]."
            )
        # events and kernels belong to the current device
        with torch.cuda.device(self.device):
            return self._on_device(index, out)

    def _on_device(self, index: Tensor, out: Tensor | None) -> Tensor:
        if self.mode == "staged":
            return self._staged(index, out)
        index = index.to(self.device)
        # the checks of take_rows, on a table of that many rows and no width
        take_rows(torch.empty((len(self.x), 0), device=self.device), index)
        if out is None:
            shape = (len(index), *self.x.shape[1:])
            out = torch.empty(shape, dtype=self.x.dtype, device=self.device)
        triton.load("rows").take_rows(self.x, index.contiguous(), out)
        return out

    def _staged(self, index: Tensor, out: Tensor | None) -> Tensor:
        """By way of page-locked memory, which each thread uses again once its copy is done."""
        kept: Any = self._staging
        shape = (len(index), *self.x.shape[1:])
        room: Tensor | None = getattr(kept, "room", None)
        if room is None or len(room) < len(index):
            size = (len(index) + len(index) // 8, *self.x.shape[1:])
            room = kept.room = torch.empty(size, dtype=self.x.dtype, pin_memory=True)
        elif hasattr(kept, "done"):
            kept.done.synchronize()
        part = take_rows(self.x, index.cpu(), room[: len(index)])
        if out is None:
            out = torch.empty(shape, dtype=self.x.dtype, device=self.device)
        out.copy_(part, non_blocking=True)
        kept.done = torch.cuda.Event()
        kept.done.record()
        return out


def padded(x: Tensor) -> Tensor:
    """A copy of ``x`` whose rows begin at multiples of 128 bytes."""
    size, width = x.element_size(), x.shape[1:].numel()
    step = -(-width * size // _LINE) * _LINE // size
    room = torch.empty(len(x) * step + _LINE // size, dtype=x.dtype)
    skip = -room.data_ptr() % _LINE // size
    inner = [1]
    for count in reversed(x.shape[2:]):
        inner.insert(0, inner[0] * count)
    return room[skip:].as_strided(x.shape, (step, *inner[: x.dim() - 1])).copy_(x)


class _Pin:
    """A storage that is page-locked where it lies, for all tables over it."""

    def __init__(self, runtime: Any, storage: torch.UntypedStorage) -> None:
        # the storage is held until then: memory must not be freed while it is registered
        weakref.finalize(self, _unlock, runtime, storage)


_pins: weakref.WeakValueDictionary[int, _Pin] = weakref.WeakValueDictionary()


def _locked(owner: Any, x: Tensor) -> Tensor:
    """``x`` in page-locked memory: where it lies, or a copy."""
    storage = x.untyped_storage()
    pin = _pins.get(storage.data_ptr())
    if pin is None:
        if x.is_pinned() or x.numel() == 0:
            return x
        runtime = cast(Any, torch.cuda.cudart)()
        if int(runtime.cudaHostRegister(storage.data_ptr(), storage.nbytes(), 0)) != 0:
            return torch.empty_like(x, pin_memory=True).copy_(x)
        pin = _pins[storage.data_ptr()] = _Pin(runtime, storage)
    owner.pin = pin
    return x


def _unlock(runtime: Any, storage: torch.UntypedStorage) -> None:
    runtime.cudaHostUnregister(storage.data_ptr())
