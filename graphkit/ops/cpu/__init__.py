"""Native kernels for the CPU: importing this registers them with their ops, where they were built.

``kernels/`` holds the C++ that is compiled once for each instruction set, ``bind/`` what Python
calls. Whatever a kernel does not take (float16) goes to the op's reference.
"""

from __future__ import annotations

from importlib import import_module

from . import native

_FAMILIES = (
    "attention",
    "csr",
    "dropout",
    "extreme",
    "intersect",
    "mix",
    "negatives",
    "rows",
    "sample",
    "scatter",
    "sddmm",
    "segment",
    "spmm",
    "walk",
)
_loaded = _FAMILIES if native.kernels is not None else ()

SERVED: tuple[str, ...] = tuple(
    name for family in _loaded for name in import_module(f".{family}", __name__).SERVED
)
"""The public ops that a kernel serves."""

__all__ = ["SERVED", "native"]
