"""What a model is to predict for each row: its loss, its metric, the width of its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from .. import metrics
from ..errors import ConfigError

_FITTING = {
    "classes": ("accuracy", "rocauc", "ap", "f1", "precision@rate"),
    "labels": ("rocauc", "ap", "f1", "precision@rate"),
    "values": ("rmse", "mae"),
}


def split_rows(masks: Mapping[str, Tensor], seed: int) -> tuple[int | None, dict[str, Tensor]]:
    """The split of masks [N] or [N, S] that ``seed`` uses (None if S is 1), and its rows."""
    columns = {part: mask.reshape(len(mask), -1) for part, mask in masks.items()}
    count = columns["train"].size(1)
    rows = {part: mask[:, seed % count].nonzero().squeeze(1) for part, mask in columns.items()}
    return seed % count if count > 1 else None, rows


@dataclass(frozen=True)
class Task:
    """Classes of which one holds, labels of which any may hold (NaN: not known), or values.

    ``width`` is the number of outputs for each row.
    """

    kind: Literal["classes", "labels", "values"]
    width: int
    metric: str

    @property
    def higher(self) -> bool:
        """Is a higher score better?"""
        return self.metric not in metrics.LOWER_IS_BETTER

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """The mean loss in float32: cross-entropy in nats, or the squared error of values."""
        out = out.float()
        if self.kind == "classes":
            return F.cross_entropy(out, y)
        y = y.reshape(out.shape).float()
        known = ~y.isnan()
        if self.kind == "labels":
            each = F.binary_cross_entropy_with_logits(out, y.nan_to_num(), reduction="none")
        else:
            each = (out - y.nan_to_num()).square()
        return (each * known).sum() / known.sum().clamp(min=1)

    def score(self, out: Tensor, y: Tensor) -> float:
        """The metric of the outputs ``out`` of rows with the labels ``y``."""
        return metrics.score(self.metric)(out.float(), y)


def class_names(names: Any, count: int) -> list[str] | None:
    """``names`` if they are texts that name ``count`` classes or more, else None."""
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if texts and len(names) >= count else None


def read_task(about: Mapping[str, Any], width: int) -> Task:
    """The task that is kept beside weights of ``width`` outputs; ValueError for another width."""
    kept = about["task"]
    if kept["width"] != width:
        raise ValueError(f"the task has {kept['width']} outputs, the model {width}")
    return _task(kept["kind"], width, kept["metric"])


def task_of(y: Tensor, metric: str | None, num_classes: int | None = None) -> Task:
    """The task that labels ``y`` pose: classes for int64 [N], else labels or values [N, T].

    Floating labels that are all 0, 1 or NaN are binary labels. ``metric`` None is accuracy, rocauc
    or mae.

    Raises:
        ConfigError: an unknown metric, or one for another kind of labels.
    """
    if metric is not None:
        metrics.score(metric)
    if not y.is_floating_point() and y.dim() == 1:
        width = num_classes if num_classes is not None else int(y.max()) + 1
        return _task("classes", width, metric or "accuracy")
    width = 1 if y.dim() == 1 else y.size(1)
    values = y[~y.isnan()] if y.is_floating_point() else y
    binary = bool(((values == 0) | (values == 1)).all())
    if binary and metric not in metrics.LOWER_IS_BETTER:
        return _task("labels", width, metric or "rocauc")
    return _task("values", width, metric or "mae")


def _task(kind: Literal["classes", "labels", "values"], width: int, metric: str) -> Task:
    fitting = _FITTING[kind]
    if metric not in fitting:
        raise ConfigError(
            f"metric is {metric!r}, but the labels are {kind}: {' or '.join(fitting)} is expected."
        )
    return Task(kind, width, metric)
