"""Bytes on disk: files that appear whole or not at all, and tensors that carry their checksum."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .files import atomic, atomic_folder, sync, writing

if TYPE_CHECKING:
    from .sealed import digest, load_tensors, save_tensors

__all__ = ["atomic", "atomic_folder", "digest", "load_tensors", "save_tensors", "sync", "writing"]


def __getattr__(name: str) -> Any:
    # these need safetensors and xxhash, which a file that is only written whole does not
    if name in ("digest", "load_tensors", "save_tensors"):
        return getattr(importlib.import_module(f"{__name__}.sealed"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
