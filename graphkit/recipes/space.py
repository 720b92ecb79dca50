"""What graphkit tune searches: the grammar of spaces, and published grids. (opt: optuna)

A space names options of a recipe and what each may be, one entry after another, parted by ``;`` or
by lines, and ``#`` begins a comment:

    lr = 0.01, 0.05, 0.1              one of these; parted by | where a value holds a comma itself
    dropout = 0:0.9:0.1               0, 0.1, 0.2, ... 0.9
    hidden = 16..256                  anything from 16 to 256, whole where the option is
    weight_decay = 1e-6..1e-2 log     anything between, evenly in its logarithm
    model_options.hops = 5:20:5       an option of the model
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from ..errors import ConfigError, StoreError, nearest
from ..nn import own_options
from .options import builders, typed
from .report import word

# they say what is measured and how it is kept; scores of two of them cannot be compared
_FIXED = ("data", "split", "num_splits", "anomaly", "metric", "seeds", "root", "out", "device")
_FIXED += ("submission", "allow_nonfinite", "quiet", "resume", "command", "note")
_OF_MODEL = "model_options"
_ACM = (
    "lr = {lr}; weight_decay = 0, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2; "
    "dropout = 0:0.9:0.1"
)
_LUAN = "the grid of the authors' code, Luan et al. 2022, arXiv:2210.07606"
_DIR = (
    "model_options.alpha = 0.0, 0.5, 1.0; lr = 0.005, 0.01; hidden = 32, 128, 256; "
    "num_layers = 4:6:1; model_options.jk = max, cat; model_options.normalize = true, false; "
    "dropout = 0.0, 0.2"
)
_ROSSI = (
    "alpha as Rossi et al. 2023 tuned it, arXiv:2305.10498, and the values of the settings they "
    "published"
)
USUAL = (
    "lr = 1e-3..1e-1 log; weight_decay = 1e-6..1e-2 log; dropout = 0:0.8:0.1; "
    "hidden = 16, 32, 64, 128"
)
"""The space of a model that has none of its own."""
SPACES = {
    **{name: (_ACM.format(lr="0.01, 0.05, 0.1"), _LUAN) for name in ("acm-gcn", "acmii-gcn")},
    **{name: (_DIR, _ROSSI) for name in ("dir-gcn", "dir-sage", "dir-gat")},
    "magnet": (
        "lr = 1e-3, 5e-3, 1e-2; hidden = 16, 32, 64; model_options.q = 0:0.25:0.05",
        "the grid of the authors' code, Zhang et al. 2021, arXiv:2102.11391",
    ),
    "dgcn": (
        "hidden = 5, 15, 20",
        "the grid for DGCN in the code of MagNet, Zhang et al. 2021, arXiv:2102.11391",
    ),
    "dagnn": (
        "weight_decay = 0, 5e-5, 5e-4, 5e-3, 2e-2; model_options.hops = 5, 10, 16, 20; "
        "dropout = 0.2, 0.5, 0.8",
        "the values of the settings that Liu et al. 2020 published, arXiv:2007.09296",
    ),
    "dgmlp": (
        "model_options.temperature = 0.05, 0.1, 0.5, 1.0; model_options.hops = 5:20:5; "
        "num_layers = 2:8:1; " + USUAL,
        "temperature, hops and layers in the ranges of the paper, Zhang et al., arXiv:2108.00955; "
        "the rest is graphkit's own",
    ),
}
"""By model: what its authors searched, as :func:`read_space` reads it, and where they say so."""

_OF_GRAPHS = (
    "lr = 1e-3..2e-2 log; weight_decay = 1e-6..1e-2 log; dropout = 0:0.6:0.1; hidden = 32, 64, 128"
)
_ORIGIN = "graphkit's own, around the one setting that Dong et al. 2024 published, arXiv:2310.02861"
GRAPH_SPACES = {
    "rqgnn": (
        f"{_OF_GRAPHS}; model_options.width = 2:5:1; model_options.depth = 3:7:1; "
        "gamma = 0.0, 0.5, 1.0, 1.5, 2.0",
        _ORIGIN,
    ),
    "ocgin": (
        "lr = 1e-4..1e-2 log; weight_decay = 1e-6..1e-2 log; hidden = 16, 32, 64; "
        "num_layers = 2:5:1",
        "graphkit's own",
    ),
}
"""The same for models of whole graphs; :data:`GRAPH_USUAL` for others."""
GRAPH_USUAL = (
    f"{_OF_GRAPHS}; num_layers = 2:5:1; pool = mean, sum, attention; loss = plain, balanced, focal"
)

# a point of a grid is found by its number; more are no grid that anybody walks through
LARGEST_GRID = 100_000

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_STEPS = re.compile(rf"({_NUMBER})\s*:\s*({_NUMBER})\s*:\s*({_NUMBER})")
_RANGE = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})(\s+log)?")


@dataclass(frozen=True)
class Dimension:
    """One option and what it may be: one of ``choices``, or between ``low`` and ``high``.

    ``step`` parts ``choices`` that are evenly spaced numbers, 0 for others.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float = 0

    @property
    def ends(self) -> tuple[Any, Any]:
        """The first and the last value."""
        return (self.choices[0], self.choices[-1]) if self.choices else (self.low, self.high)

    @property
    def numeric(self) -> bool:
        """Are all values numbers?"""
        return not any(isinstance(v, (bool, str)) or v is None for v in self.choices)

    @property
    def size(self) -> int | None:
        """How many values it has, None without end."""
        if self.choices:
            return len(self.choices)
        return int(self.high - self.low) + 1 if isinstance(self.low, int) else None

    def distribution(self) -> Any:
        """What Optuna draws from."""
        from optuna import distributions

        if self.choices and not self.step:
            return distributions.CategoricalDistribution(self.choices)
        low, high = self.ends
        kind = distributions.FloatDistribution
        if isinstance(low, int) and isinstance(high, int):
            kind = distributions.IntDistribution
        # without steps it is None for floats and 1 for whole numbers
        steps: dict[str, Any] = {"step": self.step} if self.step else {"log": self.log}
        return kind(low, high, **steps)

    def value(self, drawn: Any) -> Any:
        """What the option becomes when Optuna drew ``drawn``: no 0.30000000000000004."""
        if not self.step:
            return drawn
        return min(self.choices, key=lambda value: abs(value - drawn))

    def __str__(self) -> str:
        """The entry that :func:`read_space` reads as this dimension."""
        if not self.choices:
            text = f"{word(self.low)}..{word(self.high)}{' log' if self.log else ''}"
        elif self.step:
            text = ":".join(word(value) for value in (*self.ends, self.step))
        else:
            words = [word(value) for value in self.choices]
            text = (" | " if any("," in text for text in words) else ", ").join(words)
        return f"{self.name} = {text}"


@dataclass(frozen=True)
class Space:
    """The dimensions of a search; ``origin`` says whose space it is."""

    dimensions: tuple[Dimension, ...]
    origin: str = ""

    @property
    def size(self) -> int | None:
        """How many points it has, None without end."""
        sizes = [one.size for one in self.dimensions]
        return None if None in sizes else math.prod(filter(None, sizes))

    def distributions(self) -> dict[str, Any]:
        """What Optuna draws each option from."""
        return {one.name: one.distribution() for one in self.dimensions}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The value of each option when Optuna drew ``drawn``."""
        return {one.name: one.value(drawn[one.name]) for one in self.dimensions}

    def points(self, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
        """The points of a space with an end that have these numbers."""
        lists = [one.choices or range(int(one.low), int(one.high) + 1) for one in self.dimensions]
        for number in numbers:
            point = {}
            for one, values in zip(self.dimensions, lists, strict=True):
                number, place = divmod(number, len(values))
                point[one.name] = values[place]
            yield point

    def without(self, names: Sequence[str]) -> Space:
        """The space in which the options ``names`` are fixed."""
        left = tuple(one for one in self.dimensions if one.name not in names)
        return Space(left, self.origin)

    def __str__(self) -> str:
        return "; ".join(map(str, self.dimensions))


def read_space(
    space: str | Path | Mapping[str, Any],
    recipe: Callable[..., Any],
    model: str | None = None,
    origin: str = "",
) -> Space:
    """The space that a text, a file that holds one, or a mapping describes.

    A mapping has the name of an option, and either a text such as ``"1e-6..1e-2 log"`` or its
    values. Only options of ``recipe`` may be named, and own ones of ``model``, with values of
    their type.

    Raises:
        ConfigError: an entry is none, names no option, or has a value that does not fit.
        StoreError: the file cannot be read.
    """
    entries = list(space.items()) if isinstance(space, Mapping) else _entries(space)
    if not entries:
        raise ConfigError("space is empty. Give entries such as lr=0.01,0.05; dropout=0:0.9:0.1")
    if any(name == "model" for name, _ in entries):
        model = None
    found: dict[str, Dimension] = {}
    for name, given in entries:
        if name in found:
            raise ConfigError(f"space: {name} is there twice. Give one entry with all its values.")
        kind = _kind(name, recipe, model)
        found[name] = _written(name, given, kind) if isinstance(given, str) else _given(name, given)
    return Space(tuple(found.values()), origin)


def usual_space(model: str, recipe: Callable[..., Any]) -> Space:
    """The space of ``model`` where none is given: the published one, or else our own.

    Options that ``recipe`` does not have are left out.
    """
    of_graphs = recipe.__name__ == "graph"
    usual = (GRAPH_USUAL if of_graphs else USUAL), "graphkit's own, no published one is known here"
    text, origin = (GRAPH_SPACES if of_graphs else SPACES).get(model, usual)
    known = inspect.signature(recipe).parameters
    entries = [(name, given) for name, given in _entries(text) if name.partition(".")[0] in known]
    return read_space(dict(entries), recipe, model, origin)


def _entries(space: str | Path) -> list[tuple[str, str]]:
    """The names and values of a text, or of the file it names."""
    text = str(space)
    # an entry has =, so a text without is the name of a file
    if isinstance(space, Path) or "=" not in text:
        try:
            text = Path(space).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise StoreError(
                f"space is {text!r}, which holds no =, and no such file can be read: {why}. "
                "Give entries such as 'lr=0.01,0.05; dropout=0:0.9:0.1', or a file of them."
            ) from error
    found = []
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())
    for entry in (entry.strip() for line in lines for entry in line.split(";")):
        name, equals, given = (part.strip() for part in entry.partition("="))
        if entry and not (name and equals):
            raise ConfigError(f"space: {entry!r} is not OPTION=VALUES, such as lr=0.01,0.1")
        if entry:
            found.append((name.replace("-", "_"), given))
    return found


def _written(name: str, given: str, kind: Any) -> Dimension:
    if match := _STEPS.fullmatch(given):
        return _stepped(name, match, kind)
    if match := _RANGE.fullmatch(given):
        low, high = (_number(name, Decimal(text), kind) for text in match.groups()[:2])
        if not low < high or (match[3] and low <= 0):
            above = ", the first above 0" if match[3] else ""
            raise ConfigError(f"space: {name} is {given!r}, but LOW..HIGH rises{above}.")
        return Dimension(name, low=low, high=high, log=bool(match[3]))
    words = filter(None, (text.strip() for text in given.split("|" if "|" in given else ",")))
    return _given(name, [typed(text, kind, f"space: {name}") for text in words])


def _stepped(name: str, match: re.Match[str], kind: Any) -> Dimension:
    # decimals, because sums of floats are not what was written
    low, high, step = map(Decimal, match.groups())
    # of floats, as the whole part of 1e999999999 fills the memory
    size = float(step)
    count = (float(high) - float(low)) / size if size > 0 else math.inf
    if not count < LARGEST_GRID or not low + step <= high:
        raise ConfigError(
            f"space: {name} is {match[0]!r}, but LOW:HIGH:STEP rises in steps, one at least and "
            f"below {LARGEST_GRID:,}."
        )
    count = int((high - low) / step) + 1
    values = [_number(name, low + step * number, kind) for number in range(count)]
    return Dimension(name, tuple(values), step=_number(name, step, kind))


def _given(name: str, given: Any) -> Dimension:
    values = list(given) if isinstance(given, Iterable) else [given]
    for number, value in enumerate(values):
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise ConfigError(
                f"space: {name} has the value {value!r}, but text, numbers, True, False and None "
                "are expected."
            )
        if word(value) in map(word, values[:number]):
            raise ConfigError(f"space: {name} has {word(value)} twice. Name each value once.")
    if len(values) < 2:
        raise ConfigError(
            f"space: {name} has {len(values)} values, but at least two are expected. "
            f"Give a single one as the option --{name.partition('.')[0].replace('_', '-')}."
        )
    return Dimension(name, tuple(values))


def _kind(name: str, recipe: Callable[..., Any], model: str | None) -> Any:
    """The type of the option ``name``."""
    known = inspect.signature(recipe).parameters
    free = sorted(set(known) - set(_FIXED) - {_OF_MODEL})
    option, dot, own = name.partition(".")
    if option not in known or (dot and option != _OF_MODEL):
        raise ConfigError(f"space: {recipe.__name__} has no option {name!r}. {nearest(name, free)}")
    if option in _FIXED:
        raise ConfigError(
            f"space: {option} is not searched, because scores of different ones cannot be "
            f"compared. Give it as an option instead."
        )
    if option != _OF_MODEL:
        return known[name].annotation
    if model is None:
        raise ConfigError(f"space: {name} is of one model. Give one, instead of searching models.")
    options = own_options(model, builders(recipe.__name__))
    if own not in options:
        hint = nearest(own, options) if options else "It has no options of its own."
        raise ConfigError(f"space: {model} has no option {own!r} of its own. {hint}")
    return options[own].annotation


def _number(name: str, value: Decimal, kind: Any) -> float:
    """``value`` as the type ``kind`` takes it, whole or not."""
    parts = get_args(kind) or (kind,)
    if not abs(float(value)) < (math.inf if float in parts else 2**63):
        raise ConfigError(f"space: {name} has the value {value}, which no option takes.")
    if float in parts:
        return float(value)
    if int not in parts:
        raise ConfigError(f"space: {name} is no number. Name its values, parted by commas.")
    if value != value.to_integral_value():
        raise ConfigError(f"space: {name} is whole, but {value} is among its values.")
    return int(value)
