"""The options of a recipe: of the right type, in range, and under their canonical names."""

from __future__ import annotations

import inspect
import operator
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import jsonargparse
import torch

from ..data import LINK_TASKS, card, data_root, is_path
from ..errors import ConfigError, nearest
from ..nn import HYPER_MODELS, MODELS, own_options
from . import memory, report
from .graphnet import GRAPH_MODELS
from .linknet import LINK_MODELS, Builders

# what a student of the recipe distill learns
METHODS = ("glnn", "vqgraph", "lighthgnn", "lighthgnn+")

# a batch of one graph has no spread for a batch norm
_COUNTS = {"hidden": 1, "num_layers": 1, "epochs": 1, "patience": 0, "batch_size": 2}
_COUNTS |= {"num_splits": 1, "min_epochs": 0}
_COUNTS |= {"heart": 0}
_COUNTS |= {"train_per_class": 0, "val_per_class": 1, "num_codes": 1, "code_channels": 0}
_COUNTS |= {"teacher_hidden": 1, "teacher_layers": 1, "teacher_epochs": 1, "teacher_patience": 0}
_COUNTS |= {"student_batch": 0, "edge_samples": -1}
_COUNTS |= {"chunk": 1, "prefetch": 0, "prefetch_threads": 1}
_NUMBERS = {
    "lr": (lambda x: 0 < x < float("inf"), "a number above 0"),
    "weight_decay": (lambda x: 0 <= x < float("inf"), "0 or more"),
    "dropout": (lambda x: 0 <= x < 1, "from 0 to below 1"),
    "prefetch_mb": (lambda x: 0 < x < float("inf"), "a number above 0"),
    "clip": (lambda x: 0 <= x < float("inf"), "0 or more"),
    "num_val": (lambda x: 0 < x < 1, "between 0 and 1"),
    "num_test": (lambda x: 0 < x < 1, "between 0 and 1"),
    "val_negatives": (lambda x: 0 < x < float("inf"), "a number above 0"),
    "beta": (lambda x: 0 <= x < 1, "from 0 to below 1"),
    "gamma": (lambda x: 0 <= x < float("inf"), "0 or more"),
    "encoder_lr": (lambda x: 0 <= x < float("inf"), "0 or more"),
    "hide": (lambda x: 0 < x < 1, "between 0 and 1"),
    "lam": (lambda x: 0 <= x <= 1, "from 0 to 1"),
    "tau": (lambda x: 0 < x < float("inf"), "a number above 0"),
    "noise": (lambda x: 0 <= x < float("inf"), "0 or more"),
    "token_weight": (lambda x: 0 <= x < float("inf"), "0 or more"),
    "token_tau": (lambda x: 0 < x < float("inf"), "a number above 0"),
    "teacher_lr": (lambda x: 0 < x < float("inf"), "a number above 0"),
    "teacher_weight_decay": (lambda x: 0 <= x < float("inf"), "0 or more"),
    "teacher_dropout": (lambda x: 0 <= x < 1, "from 0 to below 1"),
}
# numbers that may be left out
_UNSET = ("encoder_lr",)
_CHOICES = {
    "amp": (None, "bf16"),
    "select": ("score", "loss", "latest"),
    "norm": (None, "batch_norm"),
    "pool": ("mean", "sum", "attention"),
    "loss": ("auto", "plain", "balanced", "focal"),
    "method": ("neighbor", "labor"),
    "optimizer": ("adam", "adamw"),
    "stop": ("mean", "best"),
    "task": tuple(LINK_TASKS),
    "features": (None, "own", "degree"),
    "targets": ("auto", "keep", "remove"),
    "negatives": ("pairs", "targets"),
    "nodes": ("auto", "largest", "all"),
    "student_norm": ("auto", "none", "batch_norm"),
    "setting": ("transductive", "production"),
    "divergence": ("correct", "official"),
    "recon": ("official", "paper"),
    "token_metric": ("cosine", "euclidean"),
    "singletons": ("auto", "all", "isolated", "none"),
}
_SWITCHES = ("compile", "undirected", "row_normalize", "allow_nonfinite", "quiet")
_SWITCHES += (
    "anomaly",
    "edge_features",
    "drop_input",
    "virtual_node",
    "keep_connected",
    "drop_last",
    "resplit",
    "valid_edges",
    "test_chosen",
)
_PATH = (str, os.PathLike)
_TEXTS = {"split": str, "root": _PATH, "out": _PATH, "resume": _PATH, "submission": _PATH}
_TEXTS |= {"start": _PATH, "teacher_run": _PATH, "teacher": str, "widths": str}


@dataclass(frozen=True)
class Settled:
    """The plain ``options`` of a run, its seeds and device, and the command that repeats it."""

    options: dict[str, Any]
    seeds: list[int]
    device: torch.device
    command: str | None


def builders(recipe: str) -> Builders:
    """The builders of the models of ``recipe``, whose keyword-only parameters are their options."""
    of = {"link": LINK_MODELS, "graph": GRAPH_MODELS, "hyper": HYPER_MODELS}
    # whatever a student learns, it is an MLP
    of["distill"] = dict.fromkeys(METHODS, MODELS["mlp"])
    return of.get(recipe, MODELS)


def settle(
    options: Mapping[str, Any], models: Iterable[str] = MODELS, recipe: str = "node"
) -> dict[str, Any]:
    """``options`` as plain values; :class:`ConfigError` for the first one that is out of place."""
    kept = dict(options)
    kept["model"] = _model(options["model"], list(models))
    # also a torch.device
    kept["device"] = str(options["device"])
    for name in filter(options.__contains__, _COUNTS):
        kept[name] = _whole(name, options[name], _COUNTS[name])
    for name in filter(options.__contains__, _NUMBERS):
        fits, wanted = _NUMBERS[name]
        value = options[name]
        if value is None and name in _UNSET:
            continue
        if isinstance(value, bool) or not isinstance(value, Real) or not fits(value):
            raise _unlike(name, value, wanted)
        kept[name] = float(value)
    for name in filter(options.__contains__, _CHOICES):
        if options[name] not in _CHOICES[name]:
            words = ["None" if choice is None else choice for choice in _CHOICES[name]]
            raise _unlike(name, options[name], " or ".join(sorted(words, key="None".__eq__)))
    for name in filter(options.__contains__, _SWITCHES):
        if not isinstance(options[name], bool):
            raise _unlike(name, options[name], "True or False")
    _check_texts(options)
    if "model_options" in options:
        given = pairs_of(options["model_options"])
        values = read_model_options(kept["model"], given, builders(recipe))
        named = {name: values[name] for name in sorted(given)}
        kept["model_options"] = ",".join(f"{k}={report.word(v)}" for k, v in named.items())
    return kept


def read_model_options(
    model: str, given: str | Mapping[str, Any], models: Builders = MODELS
) -> dict[str, Any]:
    """The own options of ``model``: those ``given``, as ``a=1,b=x`` or a mapping, and defaults.

    Raises:
        ConfigError: the model has no such option, or the value is of another type.
    """
    known, pairs = own_options(model, models), pairs_of(given)
    for name in pairs:
        if name not in known:
            hint = nearest(name, known) if known else "It has no options of its own."
            raise ConfigError(f"model_options: {model} has no option {name!r}. {hint}")
    values = {name: param.default for name, param in known.items()}
    for name, value in pairs.items():
        about = f"model_options: {name} of {model}"
        values[name] = typed(report.word(value), known[name].annotation, about)
    return values


def typed(text: str, kind: Any, about: str) -> Any:
    """``text`` as a value of the type ``kind``; :class:`ConfigError` about ``about`` if it is none.

    What stays a string as an annotation takes text.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=str if isinstance(kind, str) else kind)
    try:
        return parser.parse_args([f"--value={text}"]).value
    except (jsonargparse.ArgumentError, SystemExit):
        wanted = inspect.formatannotation(kind)
        raise ConfigError(f"{about} is {text!r}, but {wanted} is expected.") from None


def pairs_of(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """The names and values of ``a=1,b=x``; a mapping is taken as it is."""
    if isinstance(given, Mapping):
        return dict(given)
    if not isinstance(given, str):
        raise _unlike("model_options", given, "text such as hops=10,alpha=0.1, or a mapping,")
    pairs: dict[str, Any] = {}
    for part in filter(None, given.replace(" ", "").split(",")):
        name, equals, value = part.partition("=")
        if not (name and equals and value) or name in pairs:
            raise _unlike("model_options", given, "text such as hops=10,alpha=0.1")
        pairs[name] = value
    return pairs


def _check_texts(options: Mapping[str, Any]) -> None:
    for name, kinds in _TEXTS.items():
        value = options.get(name)
        if value is not None and not isinstance(value, kinds):
            raise _unlike(name, value, "text or None")
        by_name = name not in ("split", "root") or isinstance(options["data"], str)
        if value is not None and not by_name:
            raise ConfigError(
                f"{name} is {str(value)!r}, but it is for data sets given by name, and "
                f"data is a {type(options['data']).__name__}. Leave {name} out."
            )


def prepare(
    recipe: Callable[..., report.Record], given: Mapping[str, Any], models: Iterable[str]
) -> Settled:
    """The options ``given`` to ``recipe``, settled, and where and how often they are to be run.

    Raises:
        ConfigError: an option is out of place.
        BackendError: the device is not there.
    """
    options, seeds, command = (
        settle(given, models, recipe.__name__),
        given["seeds"],
        given["command"],
    )
    numbers, place = report.parse_seeds(seeds), memory.find_device(options["device"])
    options["seeds"] = (seeds if isinstance(seeds, str) else report.join(numbers)).replace(" ", "")
    named = {"data": "custom"}
    if isinstance(given["data"], str):
        named = locate(given["data"], given["root"], given["split"])
        options["data"] = named["data"]
        command = command or report.command(recipe.__name__, options, report.defaults(recipe))
        if named["root"] and (given["root"] or os.environ.get("GRAPHKIT_DATA")):
            command = report.amend(command, "root", named["root"])
    return Settled({**options, **named, "device": str(place)}, numbers, place, command)


def hints(record: report.Record, command: str | None, models: Iterable[str]) -> list[str]:
    """The lines under a result: how to use the weights, to repeat the run, what to try next."""
    if command is None:
        return []
    hint = report.amend(command, "seeds", "0-9")
    if len(record.rows) > 1:
        hint = report.amend(command, "model", next(m for m in models if m != record.model))
    predict = f"predict:     graphkit predict {shlex.quote(record.run)}"
    return [predict, f"repeat:      {command}", f"try next:    {hint}"]


def locate(data: str, root: str | os.PathLike[str] | None, split: str | None) -> dict[str, Any]:
    """The name, folder and split that a data set is read by; ``root`` is None if it needs none."""
    if not data:
        raise ConfigError("data is '', but the name or the path of a data set is expected.")
    if is_path(data):
        return {"data": str(Path(data).expanduser().absolute()), "root": root, "split": split}
    this = card(data)
    folder = str(data_root(root).absolute()) if this.files else None
    return {"data": this.name, "root": folder, "split": (split or this.default_split).lower()}


def _model(model: Any, models: list[str]) -> str:
    if not isinstance(model, str):
        raise _unlike("model", model, f"one of {', '.join(models)}")
    if model.lower() not in models:
        raise ConfigError(f"Unknown model {model!r}. {nearest(model, models)}")
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
