"""graphkit: graph learning on PyTorch.

What it needs is torch alone, and that too loads on first use, with the sub-packages: the command
line settles first what torch reads from the environment when it is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    BackendError,
    ConfigError,
    DataError,
    DirectionWarning,
    GraphError,
    GraphkitError,
    StoreError,
)

if TYPE_CHECKING:
    from . import data, interop, metrics, nn, ops, recipes, scatter, structure, testing, transforms
    from .graph import Adj, Csr, Graph, as_graph

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
    "transforms",
)

_OF_GRAPH = ("Adj", "Csr", "Graph", "as_graph")

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
    "transforms",
]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _OF_GRAPH:
        globals()[name] = getattr(importlib.import_module(f"{__name__}.graph"), name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES, *_OF_GRAPH})
