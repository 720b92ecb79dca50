"""What a benchmark entry is, and how its file is found and read."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from graphkit.errors import ConfigError, nearest

FOLDER = Path(__file__).resolve().parent

Outputs = tuple[Tensor, ...]
Call = Callable[[], Outputs]
Params = Mapping[str, Any]

_NEEDED = ("TITLE", "BASELINE", "TESTS", "TOLERANCE", "CONTENDERS", "cases", "problem", "reference")


@dataclass(frozen=True)
class Entry:
    """One benchmark file, read: the fields are its names, which README.md explains."""

    name: str
    path: Path
    title: str
    baseline: str
    tests: tuple[str, ...]
    tolerance: float
    contenders: Mapping[str, Callable[[Any], Call]]
    cases: Callable[[bool], list[Params]]
    problem: Callable[..., Any]
    reference: Callable[[Any], Outputs]
    bytes_moved: Callable[..., int] | None


def find(name: str) -> Path:
    """The file of the entry ``name``, or ``name`` itself where it is the path of a file.

    Raises:
        ConfigError: there is no such entry.
    """
    if name.endswith(".py") and Path(name).is_file():
        return Path(name).resolve()
    known = {path.stem: path for path in sorted(FOLDER.glob("*/*.py"))}
    if name not in known:
        raise ConfigError(f"Unknown benchmark {name!r}. {nearest(name, known)}")
    return known[name]


def read(path: Path) -> Entry:
    """The entry that the file ``path`` defines.

    Raises:
        ConfigError: a name that every entry has is missing, or the baseline is no contender.
    """
    module_name = f"benchmark_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # a dataclass looks its own module up
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    found = vars(module)
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise ConfigError(
            f"The benchmark {path.name} lacks {', '.join(missing)}. "
            "benchmarks/README.md lists what an entry defines."
        )
    if found["BASELINE"] not in found["CONTENDERS"]:
        raise ConfigError(
            f"The benchmark {path.name} has the baseline {found['BASELINE']!r}, which is none of "
            f"its contenders. {nearest(found['BASELINE'], found['CONTENDERS'])}"
        )
    return Entry(
        name=path.stem,
        path=path,
        title=found["TITLE"],
        baseline=found["BASELINE"],
        tests=tuple(found["TESTS"]),
        tolerance=found["TOLERANCE"],
        contenders=found["CONTENDERS"],
        cases=found["cases"],
        problem=found["problem"],
        reference=found["reference"],
        bytes_moved=found.get("bytes_moved"),
    )
