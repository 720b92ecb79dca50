"""Bytes on disk: files that appear whole or not at all, and tensors that carry their checksum."""

from __future__ import annotations

from .files import atomic, sync, writing
from .sealed import digest, load_tensors, save_tensors

__all__ = ["atomic", "digest", "load_tensors", "save_tensors", "sync", "writing"]
