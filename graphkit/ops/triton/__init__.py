"""Kernels for GPUs, each file imported on first use: ``load("rows")``. (opt: triton)"""

from __future__ import annotations

import importlib
from types import ModuleType

from ...errors import need


def load(name: str) -> ModuleType:
    """The file ``name`` of this folder; :class:`BackendError` where triton is not installed."""
    need("triton")
    return importlib.import_module(f"{__name__}.{name}")
