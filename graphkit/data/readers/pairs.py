"""Pairs of nodes from raw files: their ranges, their order, and both directions of each."""

from __future__ import annotations

import numpy as np
from torch import Tensor, from_numpy

from ...errors import DataError

AGAIN = "Fetch the file again."


def whole(name: str, what: str, array: np.ndarray, shape: tuple[int | None, ...]) -> np.ndarray:
    """``array`` as int64, if it has ``shape`` (None: any length) and holds whole numbers."""
    sized(name, what, array, shape)
    # Matlab keeps whole numbers as floating point too
    exact = array.dtype.kind == "f" and bool(
        ((np.trunc(array) == array) & (np.abs(array) < 2**53)).all()
    )
    if array.dtype.kind not in "iub" and not exact:
        raise DataError(f"{name}: {what} must be whole numbers, got {array.dtype}. {AGAIN}")
    return array.astype(np.int64)


def sized(name: str, what: str, array: np.ndarray, shape: tuple[int | None, ...]) -> np.ndarray:
    """``array`` if it has ``shape``, where None allows any length."""
    fits = [want in (None, got) for want, got in zip(shape, array.shape, strict=False)]
    if array.ndim != len(shape) or not all(fits):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise DataError(
            f"{name}: {what} must have shape [{wanted}], got {list(array.shape)}. {AGAIN}"
        )
    return array


def single(array: np.ndarray) -> np.ndarray:
    """``array`` as float32; what is too large for it becomes infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def check_pairs(name: str, pairs: np.ndarray, num_nodes: int) -> np.ndarray:
    """``pairs`` [2, E] if their nodes exist; else :class:`DataError` names the first to fail."""
    bad = ((pairs < 0) | (pairs >= num_nodes)).any(axis=0)
    if bad.any():
        edge = int(bad.argmax())
        src, dst = pairs[:, edge].tolist()
        raise DataError(
            f"{name}: edge {edge} joins {src} and {dst}, but the {num_nodes} nodes are numbered "
            f"from 0 to {num_nodes - 1}. {AGAIN}"
        )
    return pairs


def merged(
    pairs: np.ndarray, num_nodes: int, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """``pairs`` [2, E] by source, then target, each once, and the summed weights of each."""
    key = pairs[0] * num_nodes + pairs[1]
    if weight is None:
        # np.unique hashes whole numbers, 25 times slower than this on a million edges
        key.sort()
        first = np.ones(len(key), dtype=bool)
        np.not_equal(key[1:], key[:-1], out=first[1:])
        return np.stack(np.divmod(key[first], num_nodes)), None
    found, which = np.unique(key, return_inverse=True)
    total = np.bincount(which.reshape(-1), weights=weight, minlength=len(found))
    return np.stack(np.divmod(found, num_nodes)), total


def both_ways(pairs: np.ndarray, num_nodes: int) -> np.ndarray:
    """``pairs`` and their reverses [2, E], by source, then target, each once."""
    return merged(np.concatenate([pairs, pairs[::-1]], axis=1), num_nodes)[0]


def tensor(value: np.ndarray) -> Tensor:
    """``value`` as a contiguous tensor."""
    return from_numpy(np.ascontiguousarray(value))
