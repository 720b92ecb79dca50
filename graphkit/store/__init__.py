"""Bytes on disk: files that appear whole or not at all, sealed tensors, whole graphs in stores."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .files import atomic, atomic_folder, sync, writing

if TYPE_CHECKING:
    from .reader import FeatureFile, Store, open_store
    from .sealed import digest, load_tensors, save_tensors

# these need safetensors and xxhash, which a file that is only written whole does not
_LATER = {
    "FeatureFile": "reader",
    "Store": "reader",
    "digest": "sealed",
    "load_tensors": "sealed",
    "open_store": "reader",
    "save_tensors": "sealed",
}

__all__ = [
    "FeatureFile",
    "Store",
    "atomic",
    "atomic_folder",
    "digest",
    "load_tensors",
    "open_store",
    "save_tensors",
    "sync",
    "writing",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
