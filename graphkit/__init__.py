"""graphkit: graph learning on PyTorch.

``import graphkit`` needs torch alone; the sub-packages load on first use.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from .errors import (
    BackendError,
    ConfigError,
    DataError,
    DirectionWarning,
    GraphError,
    GraphkitError,
    StoreError,
)
from .graph import Adj, Csr, Graph, as_graph

if TYPE_CHECKING:
    from . import data, interop, metrics, nn, ops, recipes, scatter, structure, testing

__version__ = "0.1.0"

_SUBPACKAGES = (
    "data",
    "interop",
    "metrics",
    "nn",
    "ops",
    "recipes",
    "scatter",
    "structure",
    "testing",
)

__all__ = [
    "Adj",
    "BackendError",
    "ConfigError",
    "Csr",
    "DataError",
    "DirectionWarning",
    "Graph",
    "GraphError",
    "GraphkitError",
    "StoreError",
    "as_graph",
    "data",
    "interop",
    "metrics",
    "nn",
    "ops",
    "recipes",
    "scatter",
    "structure",
    "testing",
]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES})
