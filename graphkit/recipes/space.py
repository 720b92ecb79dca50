"""What graphkit tune searches: the grammar of spaces, and the grids that papers published.

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
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from ..errors import ConfigError, StoreError, nearest
from .report import word

# they say what is measured and how it is kept; scores of two of them cannot be compared
_FIXED = ("data", "split", "metric", "seeds", "root", "out", "device", "submission")
_FIXED += ("allow_nonfinite", "quiet", "resume", "command", "note")
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
        return all(_is_number(value) for value in self.choices)

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
        return kind(low, high, **({"step": self.step} if self.step else {"log": self.log}))

    def value(self, drawn: Any) -> Any:
        """What the option becomes when Optuna drew ``drawn``: no 0.30000000000000004."""
        if not self.step:
            return drawn
        return min(self.choices, key=lambda value: abs(value - drawn))

    def __str__(self) -> str:
        """The entry that :func:`parse` reads as this dimension."""
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
        sizes = [_count(one) for one in self.dimensions]
        return None if None in sizes else math.prod(filter(None, sizes))

    def distributions(self) -> dict[str, Any]:
        """What Optuna draws each option from."""
        return {one.name: one.distribution() for one in self.dimensions}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The value of each option when Optuna drew ``drawn``."""
        return {one.name: one.value(drawn[one.name]) for one in self.dimensions}

    def points(self, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
        """The points of a space with an end that have these numbers."""
        lists = [_listed(one) for one in self.dimensions]
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
    space: str | Path | Mapping[str, Any], recipe: Callable[..., Any], origin: str = ""
) -> Space:
    """The space that a text, a file that holds one, or a mapping describes.

    A mapping has the name of an option, and either a text such as ``"1e-6..1e-2 log"`` or its
    values. Only options of ``recipe`` may be named, with values of their type.

    Raises:
        ConfigError: an entry is none, names no option, or has a value that does not fit.
        StoreError: the file cannot be read.
    """
    if isinstance(space, Mapping):
        found = {name: _dimension(name, given, recipe) for name, given in space.items()}
        if not found:
            raise ConfigError("space is empty. Give options and their values.")
        return Space(tuple(found.values()), origin)
    text = str(space)
    # an entry has =, so a text without is the name of a file
    if "=" not in text:
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise StoreError(
                f"space is {str(space)!r}, which holds no =, and no such file can be read: {why}. "
                "Give entries such as 'lr=0.01,0.05; dropout=0:0.9:0.1', or a file of them."
            ) from error
    lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())
    entries = [entry for line in lines for entry in line.split(";") if entry.strip()]
    if not entries:
        raise ConfigError("space is empty. Give entries such as lr=0.01,0.05; dropout=0:0.9:0.1")
    found: dict[str, Dimension] = {}
    for entry in entries:
        name, equals, given = (part.strip() for part in entry.partition("="))
        name = name.replace("-", "_")
        if not equals or not name:
            raise ConfigError(f"space: {entry.strip()!r} is not OPTION=VALUES, such as lr=0.01,0.1")
        if name in found:
            raise ConfigError(f"space: {name} is there twice. Give one entry with all its values.")
        found[name] = _dimension(name, given, recipe)
    return Space(tuple(found.values()), origin)


def usual_space(model: str, recipe: Callable[..., Any]) -> Space:
    """The space of ``model`` where none is given: the published one, or else our own.

    Options that ``recipe`` does not have are left out.
    """
    text, origin = SPACES.get(model, (USUAL, "graphkit's own, no published one is known here"))
    known = inspect.signature(recipe).parameters
    entries = [entry for entry in text.split(";") if _option(entry) in known]
    return read_space(";".join(entries), recipe, origin)


def _option(entry: str) -> str:
    """The option of the recipe that an entry of a space is about."""
    return entry.partition("=")[0].partition(".")[0].strip()


def _dimension(name: str, given: Any, recipe: Callable[..., Any]) -> Dimension:
    kinds = _kinds_of(name, recipe)
    if not isinstance(given, str):
        return _chosen(name, _sequence(name, given))
    if match := _STEPS.fullmatch(given.strip()):
        return _stepped(name, match, kinds)
    if match := _RANGE.fullmatch(given.strip()):
        low, high = (_value(name, text, kinds) for text in match.groups()[:2])
        if not _is_number(low) or not _is_number(high):
            raise ConfigError(f"space: {name} is no number, so {given!r} is no range of it.")
        if not low < high or (match[3] and low <= 0):
            above = ", the first above 0" if match[3] else ""
            raise ConfigError(f"space: {name} is {given!r}, but LOW..HIGH rises{above}.")
        if isinstance(low, int) != isinstance(high, int):
            low, high = float(low), float(high)
        return Dimension(name, low=low, high=high, log=bool(match[3]))
    words = [text.strip() for text in given.split("|" if "|" in given else ",")]
    return _chosen(name, [_value(name, text, kinds) for text in words])


def _sequence(name: str, given: Any) -> list[Any]:
    try:
        values = list(given)
    except TypeError:
        values = [given]
    for value in values:
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise ConfigError(
                f"space: {name} has the value {value!r}, but text, numbers, True, False and None "
                "are expected."
            )
    return values


def _chosen(name: str, values: list[Any]) -> Dimension:
    for number, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:number]):
            raise ConfigError(f"space: {name} has {word(value)} twice. Name each value once.")
    if len(values) < 2:
        one = f" Give it as --{name.replace('_', '-')} instead." if values else ""
        raise ConfigError(f"space: {name} has {len(values)} values, at least two are needed.{one}")
    return Dimension(name, tuple(values))


def _stepped(name: str, match: re.Match[str], kinds: Sequence[Any]) -> Dimension:
    # decimals, because sums of floats are not what was written
    low, high, step = map(Decimal, match.groups())
    if step <= 0 or not low < high:
        raise ConfigError(
            f"space: {name} is {match[0]!r}, but LOW:HIGH:STEP rises by steps above 0."
        )
    count = int((high - low) / step) + 1
    if not 2 <= count <= LARGEST_GRID:
        raise ConfigError(f"space: {name} is {match[0]!r}, which are {count} values. Give 2 to 1e5.")
    texts = [str(low + step * number) for number in range(count)]
    values = [_value(name, text, kinds) for text in texts]
    if not all(map(_is_number, values)):
        raise ConfigError(f"space: {name} is no number, so {match[0]!r} are no steps of it.")
    whole = all(isinstance(value, int) for value in values)
    if not whole:
        values = [float(value) for value in values]
    return Dimension(name, tuple(values), step=int(step) if whole else float(step))


def _kinds_of(name: str, recipe: Callable[..., Any]) -> list[Any]:
    """The types and words that the option ``name`` takes."""
    known = inspect.signature(recipe).parameters
    free = sorted(set(known) - set(_FIXED) - {_OF_MODEL})
    option, dot, own = name.partition(".")
    if option in _FIXED and option in known:
        raise ConfigError(
            f"space: {option} is not searched, because scores of different ones cannot be "
            f"compared. Give it as --{option}."
        )
    if dot:
        if option != _OF_MODEL or not own.isidentifier():
            raise ConfigError(f"space: unknown option {name!r}. Only {_OF_MODEL} has options in it.")
        if _OF_MODEL not in known:
            raise ConfigError(f"space: {recipe.__name__} has no {_OF_MODEL}. {nearest(name, free)}")
        return [NoneType, bool, int, float, str]
    if name == _OF_MODEL and name in known:
        raise ConfigError(f"space: name the option of the model, such as {_OF_MODEL}.hops=5,10")
    if name not in known:
        raise ConfigError(f"space: unknown option {name!r}. {nearest(name, free)}")
    return _kinds(known[name].annotation)


def _kinds(annotation: Any) -> list[Any]:
    """The types, and words of a Literal, that ``annotation`` is made of."""
    if isinstance(annotation, str):
        return [str]
    parts = get_args(annotation)
    if not parts or get_origin(annotation) is Literal:
        return list(parts) or [annotation]
    kinds = [kind for part in parts for kind in _kinds(part)]
    # so that null is none of the words
    return sorted(kinds, key=lambda kind: kind is not NoneType)


def _value(name: str, text: str, kinds: Sequence[Any]) -> Any:
    """``text`` as the first of ``kinds`` that it fits."""
    for kind in kinds:
        if kind is NoneType and text.lower() in ("none", "null"):
            return None
        if kind is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        # 1e3 and 5.0 are whole where a whole number is asked for
        if kind is int and re.fullmatch(_NUMBER, text):
            number = Decimal(text)
            written = re.fullmatch(r"[-+]?\d+", text) or float not in kinds
            if written and number == number.to_integral_value():
                return int(number)
        if kind is float and re.fullmatch(_NUMBER, text):
            return float(text)
        if (kind is str and text) or kind == text:
            return text
    names = {NoneType: "none", bool: "true or false", int: "a whole number", float: "a number"}
    wanted = " or ".join(names.get(kind, "text" if kind is str else str(kind)) for kind in kinds)
    raise ConfigError(f"space: {name} has the value {text!r}, but {wanted} is expected.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(one: Dimension) -> int | None:
    if one.choices:
        return len(one.choices)
    return int(one.high - one.low) + 1 if isinstance(one.low, int) else None


def _listed(one: Dimension) -> Sequence[Any]:
    return one.choices or range(int(one.low), int(one.high) + 1)
