"""Models that need the features of a row alone: taken from a run or an exported folder, applied."""

# pyright: strict

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data.progress import Meter
from ..errors import ConfigError, DataError, StoreError
from ..nn import MLP
from ..store import load_tensors
from .node import scaled_rows
from .predictions import Source, node_model
from .report import read_json
from .task import Task

ABOUT, WEIGHTS = "model.json", "model.safetensors"
"""What every exported folder holds: its description, and the weights beside what they are."""
FORMAT = "graphkit export, version 1"
# recipes whose runs predict nodes
_OF_NODES = ("node", "node_mini", "hyper", "distill")


class Rows(nn.Module):
    """``model`` of raw features ``x [N, F]``: what the recipe did to each row is done here."""

    def __init__(self, model: nn.Module, row_normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.row_normalize = row_normalize

    def forward(self, x: Tensor) -> Tensor:
        return self.model(scaled_rows(x) if self.row_normalize else x)


@dataclass(frozen=True)
class Student:
    """A model of rows, with its weights, in evaluation; ``about`` is what was kept beside them."""

    rows: Rows
    about: Mapping[str, Any]

    @property
    def width(self) -> int:
        """The number of features of a row."""
        return int(self.about["widths"][0])

    @property
    def task(self) -> Task:
        """What the outputs are."""
        return Task(**self.about["task"])

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes, if they have any."""
        return self.about.get("class_names")


def check_recipe(folder: Path, recipe: str) -> None:
    """Raise :class:`ConfigError` for a run in ``folder`` that does not predict nodes."""
    if recipe not in _OF_NODES:
        raise ConfigError(
            f"{folder} is a run of {recipe!r}, whose predictions are not of single rows of "
            "features. Give a run of graphkit train node --model mlp."
        )


def of_run(source: Source) -> Student:
    """The model of a finished run.

    Raises:
        ConfigError: the model needs a graph.
        StoreError: the weights are absent, damaged or foreign.
    """
    name = source.options["model"]
    model, about = source.weights(partial(_model, recipe=source.recipe))
    if not isinstance(model, MLP):
        raise ConfigError(
            f"{source.folder} is a run of the model {name!r}, which needs the graph for every "
            "prediction. Teach an MLP what it knows, with graphkit train distill --teacher-run "
            f"{source.folder}, or train one, with graphkit train node --model mlp, and give that "
            "run."
        )
    return Student(Rows(model, source.options.get("row_normalize", False)).eval(), about)


def _model(about: Mapping[str, Any], recipe: str) -> nn.Module:
    """The model of a run of ``recipe``; that of distill is kept as a run of node keeps it."""
    return node_model(about, "node" if recipe == "distill" else recipe)


def is_export(folder: Path) -> bool:
    """Is ``folder`` one that ``graphkit export`` wrote?"""
    return (folder / ABOUT).is_file() and not (folder / "config.json").exists()


def of_export(folder: Path) -> tuple[Student, dict[str, Any]]:
    """The model of an exported folder and its description, after the checksum of every file.

    The weights are read from safetensors. ``model.pt2`` is compared with its checksum and never
    opened: ``torch.export.load`` unpickles what such a file asks for.

    Raises:
        StoreError: a file is absent, damaged, cut short, or was not written by graphkit.
    """
    kept = read_about(folder)
    for name, wanted in kept["files"].items():
        path = folder / name
        found = fingerprint(path)
        if found != wanted:
            raise StoreError(
                f"{path} is damaged: {found['bytes']:,} bytes of another content than the "
                f"{wanted['bytes']:,} that {ABOUT} tells of. Restore it, or export the run again."
            )
    weights, about = load_tensors(folder / WEIGHTS)
    try:
        model = _model(about, about["recipe"])
        model.load_state_dict(weights)
        rows = Rows(model, about["row_normalize"])
    # a forged description fails in many ways
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(
            f"{folder / WEIGHTS} does not hold the weights of a model of rows ({error}). Give a "
            "folder as graphkit export wrote it."
        ) from error
    return Student(rows.eval(), about), kept


def read_about(folder: Path) -> dict[str, Any]:
    """The content of ``model.json`` in ``folder``; :class:`StoreError` if it is not whole."""
    path = folder / ABOUT
    found = read_json(path)
    kept = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    if kept.get("format") != FORMAT:
        raise StoreError(
            f"{path} says format {kept.get('format')!r}, but {FORMAT!r} is expected. Give a folder "
            "that this version of graphkit export wrote."
        )
    if kept.get("seal") != seal(kept):
        raise StoreError(
            f"{path} is damaged: its content does not have the checksum that was written with it. "
            "Restore it, or export the run again."
        )
    return kept


def seal(about: Mapping[str, Any]) -> str:
    """The sha256 of a description, whatever seal it has."""
    rest = {name: value for name, value in about.items() if name != "seal"}
    text = json.dumps(rest, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file; :class:`StoreError` if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}. Restore it, or export the run again."
        ) from error
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def serve(
    student: Student, x: Tensor, batch_size: int, device: torch.device, quiet: bool = False
) -> Tensor:
    """The outputs ``[N, C]``, on the CPU, of rows ``x [N, F]``, so many at a time.

    Raises:
        ConfigError: ``batch_size`` is below 1.
        DataError: the rows have another width than the model expects.
    """
    if isinstance(batch_size, bool) or batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size!r}, but at least 1 is expected.")
    if x.size(1) != student.width:
        raise DataError(
            f"The model expects {student.width} features in each row, but the rows have "
            f"{x.size(1)}. Give rows with the features of the run, in its order."
        )
    rows, meter = student.rows.to(device), Meter("predict", quiet, unit="rows")
    out = torch.empty(len(x), student.task.width)
    try:
        with torch.no_grad():
            for start in range(0, len(x), batch_size):
                batch = x[start : start + batch_size]
                out[start : start + len(batch)] = rows(batch.to(device)).cpu()
                meter.show(start + len(batch), len(x))
    finally:
        meter.close()
    return out
