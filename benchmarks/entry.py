"""What a benchmark entry is, how its file is found and read, and how a command ends."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from graphkit.errors import ConfigError, GraphkitError, nearest

FOLDER = Path(__file__).resolve().parent

Outputs = tuple[Tensor, ...]
Call = Callable[[], Outputs]
Params = Mapping[str, Any]


def exit_code(main: Callable[[], int], kept: str = "") -> int:
    """What a command of this folder returns to the shell; errors and Ctrl-C are one line."""
    try:
        return main()
    except GraphkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        told = f" The {kept} that were finished are kept." if kept else ""
        print(f"Interrupted.{told}", file=sys.stderr)
        return 130


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Prepared:
    """A contender of which more must be known than the call that is timed.

    ``check`` is called in its place, untimed, for what is compared: where chance decides the
    results, or where they come in another order. ``want`` is what they are compared with in place
    of the reference. ``seconds`` gives the time of the last call where another process made it,
    ``about`` says which, and ``close`` ends it.
    """

    call: Call
    check: Call | None = None
    want: Outputs | None = None
    seconds: Callable[[], float] | None = None
    about: Mapping[str, Any] | None = None
    close: Callable[[], None] = _nothing


_NEEDED = ("TITLE", "BASELINE", "TESTS", "TOLERANCE", "CONTENDERS", "cases", "problem", "reference")


@dataclass(frozen=True)
class Entry:
    """One benchmark file, read: the fields are its names, which README.md explains."""

    name: str
    path: Path
    title: str
    baseline: str
    tests: tuple[str, ...]
    tolerance: float | Callable[..., float]
    contenders: Mapping[str, Callable[[Any], Call | Prepared]]
    cases: Callable[[bool], list[Params]]
    problem: Callable[..., Any]
    reference: Callable[[Any], Outputs]
    bytes_moved: Callable[..., int | None] | None
    entrants: Callable[..., Sequence[str]] | None = None
    warmup: int | None = None

    def names(self, params: Params) -> list[str]:
        """The contenders of the case ``params``, in the order of ``contenders``."""
        if self.entrants is None:
            return list(self.contenders)
        chosen = set(self.entrants(**params))
        return [name for name in self.contenders if name in chosen]

    def allowed(self, params: Params) -> float:
        """How far off the reference an output may be in the case ``params``."""
        return self.tolerance(**params) if callable(self.tolerance) else self.tolerance

    def prepare(self, name: str, problem: Any) -> Prepared:
        """The contender ``name``, ready to be called."""
        made = self.contenders[name](problem)
        return made if isinstance(made, Prepared) else Prepared(made)


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
        entrants=found.get("entrants"),
        warmup=found.get("WARMUP"),
    )
