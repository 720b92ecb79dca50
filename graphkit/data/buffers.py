"""Memory of the host that is used again: page faults on new memory cost more than filling it."""

# pyright: strict

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor

# below this a new tensor costs nothing
_LEAST = 1 << 18
# buffers that wait for their next use; what comes back beyond is let go
_MOST = 8
_LINE = 64


class Buffers:
    """Tensors in memory that goes back here when the last one of them is gone.

    A tensor from here is like any other: whoever holds it, or a view of it, or a graph of autograd
    that saved it, keeps its memory from being used again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[np.ndarray[Any, Any]] = []
        # what comes back does so at any moment, also while this thread holds the lock
        self._returned: deque[np.ndarray[Any, Any]] = deque()

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor."""
        count = int(np.prod(shape, dtype=np.int64))
        nbytes = count * dtype.itemsize
        if nbytes < _LEAST:
            return torch.empty(shape, dtype=dtype)
        base = self._take(nbytes)
        # of this view of the memory the tensor holds the only reference
        view = base[:nbytes]
        weakref.finalize(view, self._returned.append, base).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)  # pyright: ignore[reportUnknownMemberType]

    def _take(self, nbytes: int) -> np.ndarray[Any, Any]:
        with self._lock:
            while self._returned:
                self._free.append(self._returned.popleft())
            del self._free[:-_MOST]
            fitting = [at for at, base in enumerate(self._free) if nbytes <= base.size < 4 * nbytes]
            if fitting:
                return self._free.pop(min(fitting, key=lambda at: self._free[at].size))
        # batches differ by a few percent in size
        room = np.empty(nbytes + nbytes // 8 + _LINE, dtype=np.uint8)
        skip = -room.ctypes.data % _LINE
        return room[skip:]
