"""The exceptions graphkit raises, its warning, and the two helpers that word them.

Every message says what was wrong, what was expected, what was got and what to do about it.
Each type is also a built-in type, so ``except ValueError`` keeps working.
"""

# pyright: strict

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable


class GraphkitError(Exception):
    """Any error graphkit raises on purpose."""


class GraphError(GraphkitError, ValueError):
    """A graph, or a tensor given together with one, is malformed."""


class DataError(GraphkitError, ValueError):
    """A data set, card, split or user-supplied ``Data`` is malformed or missing."""


class ConfigError(GraphkitError, ValueError):
    """An option has an unknown name or a value outside its range."""


class StoreError(GraphkitError, OSError):
    """A file or folder cannot be read, written or trusted."""


class BackendError(GraphkitError, RuntimeError):
    """A package, device or compiled kernel that the call needs is not there."""


class DirectionWarning(UserWarning):
    """A method that reads directions was given a graph that has none."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The sentence that helps after an unknown name: the nearest one, and all of them if few."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    # who mistypes a name mostly gets its letters right, and the first of them
    close.sort(key=lambda one: (one[:1] != name[:1].lower(), sorted(one) != sorted(name.lower())))
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names)}."


def need(package: str, extra: str | None = None) -> None:
    """Raise :class:`BackendError` naming the install command if ``package`` is absent."""
    if importlib.util.find_spec(package) is None:
        target = f'"graphkit[{extra}]"' if extra else package.replace("_", "-")
        raise BackendError(
            f"This needs the package {package!r}, which is not installed. "
            f"Install it with: pip install {target}"
        )
