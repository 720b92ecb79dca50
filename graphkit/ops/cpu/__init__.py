"""Native kernels for the CPU: importing this registers them with their ops, where they were built.

``kernels/`` holds the C++ that is compiled once for each instruction set, ``bind/`` what Python
calls. Whatever a kernel does not take (float16) goes to the op's reference.
"""

from __future__ import annotations

from . import native

SERVED: tuple[str, ...] = ()
"""The public ops that a kernel serves."""

if native.kernels is not None:
    from . import (
        attention,
        csr,
        dropout,
        extreme,
        intersect,
        negatives,
        rows,
        sample,
        sddmm,
        segment,
        spmm,
        walk,
    )

    families = (
        attention,
        csr,
        dropout,
        extreme,
        intersect,
        negatives,
        rows,
        sample,
        sddmm,
        segment,
        spmm,
        walk,
    )
    SERVED = tuple(name for family in families for name in family.SERVED)

__all__ = ["SERVED", "native"]
