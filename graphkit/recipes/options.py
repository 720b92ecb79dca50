"""The options of a recipe: of the right type, in range, and under their canonical names."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from numbers import Real
from typing import Any

from ..data import card, data_root
from ..errors import ConfigError, nearest
from ..nn import MODELS

_COUNTS = {"hidden": 1, "num_layers": 1, "epochs": 1, "patience": 0}
_NUMBERS = {
    "lr": (lambda x: 0 < x < float("inf"), "a number above 0"),
    "weight_decay": (lambda x: 0 <= x < float("inf"), "0 or more"),
    "dropout": (lambda x: 0 <= x < 1, "from 0 to below 1"),
}
_CHOICES = {"amp": (None, "bf16"), "select": ("score", "loss")}
_SWITCHES = ("compile", "undirected", "row_normalize", "allow_nonfinite", "quiet")


def settle(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` as plain values; :class:`ConfigError` for the first one that is out of place."""
    kept = dict(options)
    kept["model"] = _model(options["model"])
    # also a torch.device
    kept["device"] = str(options["device"])
    for name, low in _COUNTS.items():
        kept[name] = _whole(name, options[name], low)
    for name, (fits, wanted) in _NUMBERS.items():
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, Real) or not fits(value):
            raise _unlike(name, value, wanted)
        kept[name] = float(value)
    for name, choices in _CHOICES.items():
        if options[name] not in choices:
            words = ["None" if choice is None else choice for choice in choices]
            raise _unlike(name, options[name], " or ".join(sorted(words, key="None".__eq__)))
    for name in _SWITCHES:
        if not isinstance(options[name], bool):
            raise _unlike(name, options[name], "True or False")
    for name, kinds in (("split", str), ("root", (str, os.PathLike)), ("out", (str, os.PathLike))):
        if options[name] is not None and not isinstance(options[name], kinds):
            raise _unlike(name, options[name], "text or None")
        if options[name] is not None and name != "out" and not isinstance(options["data"], str):
            raise ConfigError(
                f"{name} is {str(options[name])!r}, but it is for data sets given by name, and "
                f"data is a {type(options['data']).__name__}. Leave {name} out."
            )
    return kept


def locate(data: str, root: str | os.PathLike[str] | None, split: str | None) -> dict[str, Any]:
    """The name, folder and split that a data set is read by; ``root`` is None if it is embedded."""
    this = card(data)
    folder = str(data_root(root).absolute()) if this.files else None
    return {"data": this.name, "root": folder, "split": (split or this.default_split).lower()}


def _model(model: Any) -> str:
    if not isinstance(model, str):
        raise _unlike("model", model, f"one of {', '.join(MODELS)}")
    if model.lower() not in MODELS:
        raise ConfigError(f"Unknown model {model!r}. {nearest(model, MODELS)}")
    return model.lower()


def _whole(name: str, value: Any, low: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise _unlike(name, value, f"a whole number, at least {low},")
    if number < low:
        raise _unlike(name, value, f"at least {low}")
    return number


def _unlike(name: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"{name} is {value!r}, but {wanted} is expected.")
