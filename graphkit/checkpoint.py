"""The state of a training on disk: one file, whole or not at all, with a checksum."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import StoreError
from .store import load_tensors, save_tensors

__all__ = ["load_state", "random_state", "save_state", "set_random_state"]

VERSION = 1


def save_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write nested dicts, lists and tuples of tensors, numbers, text and None to ``path``.

    A reader finds the old file or the new one, at whatever moment this process dies.

    Raises:
        StoreError: the place cannot be written, or the disk is full.
    """
    tensors: dict[str, Tensor] = {}
    tree = _pack(dict(state), tensors)
    save_tensors(path, tensors, {"checkpoint": VERSION, "tree": tree})


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What :func:`save_state` wrote, bit for bit, with its tensors on the CPU.

    Raises:
        StoreError: the file is absent, damaged, of another version, or no checkpoint of graphkit.
    """
    tensors, meta = load_tensors(path)
    if meta.get("checkpoint") != VERSION:
        found = meta.get("checkpoint", "none")
        raise StoreError(
            f"{path} is no checkpoint that this version reads: its version is {found}, expected "
            f"{VERSION}. Resume with the graphkit that wrote it."
        )
    return _unpack(meta["tree"], tensors)


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of the generators of Python, NumPy and torch, for :func:`set_random_state`."""
    name, keys, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.random.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Bring back what :func:`random_state` returned."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    # a copy: the file's mapping is not memory of the generator's own
    torch.random.set_rng_state(state["torch"].clone())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].clone(), device)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON can hold it, its tensors put aside under the number they get."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value
        return {"tensor": key}
    if isinstance(value, Mapping):
        return {"dict": [[key, _pack(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_pack(inner, tensors) for inner in value]}
    assert value is None or isinstance(value, (bool, int, float, str)), f"{type(value)} in a state"
    return value


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "dict":
        return {key: _unpack(part, tensors) for key, part in inner}
    parts = [_unpack(part, tensors) for part in inner]
    return parts if kind == "list" else tuple(parts)
