"""What a model is to predict for each row: its loss, its metric, the width of its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import metrics
from ..errors import ConfigError
from ..nn import ClassBalancedFocalLoss

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

    def loss(self, out: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean loss in float32: cross-entropy in nats, or the squared error of values.

        ``weight [width]`` multiplies the losses of rows of each class, or of the positive rows of
        each label.
        """
        out = out.float()
        if self.kind == "classes":
            if weight is None:
                return F.cross_entropy(out, y)
            # over the rows, not over their weights, by which a batch of one class weighs as others
            return (F.cross_entropy(out, y, reduction="none") * weight[y]).mean()
        y = y.reshape(out.shape).float()
        known = ~y.isnan()
        if self.kind == "labels":
            target = y.nan_to_num()
            each = F.binary_cross_entropy_with_logits(
                out, target, pos_weight=weight, reduction="none"
            )
        else:
            each = (out - y.nan_to_num()).square()
        return (each * known).sum() / known.sum().clamp(min=1)

    def score(self, out: Tensor, y: Tensor) -> float:
        """The metric of the outputs ``out`` of rows with the labels ``y``."""
        return metrics.score(self.metric)(out.float(), y)


def loss_of(
    task: Task, kind: Literal["plain", "balanced", "focal"], y: Tensor, beta: float, gamma: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of outputs and labels, weighed by how rare the labels ``y`` of training are.

    ``plain`` is :meth:`Task.loss`. ``balanced`` weighs a class of n of N rows by N / (n C), and
    the positive rows of a label by the number of negative ones over theirs. ``focal`` is
    :class:`graphkit.nn.ClassBalancedFocalLoss` with ``beta`` and ``gamma``.

    Raises :class:`ConfigError` for a loss that the task does not have.
    """
    if kind == "plain":
        return task.loss
    if task.kind == "values" or (kind == "focal" and task.kind != "classes"):
        fitting = "plain" if task.kind == "values" else "plain or balanced"
        raise ConfigError(
            f"loss is {kind!r}, but the labels are {task.kind}: {fitting} is expected."
        )
    if task.kind == "labels":
        y = y.reshape(len(y), task.width).float()
        positive, negative = (y == 1).sum(dim=0), (y == 0).sum(dim=0)
        ratio = negative.clamp(min=1) / positive.clamp(min=1)
        return partial(task.loss, weight=ratio)
    counts = torch.bincount(y[y >= 0], minlength=task.width)
    if kind == "focal":
        return ClassBalancedFocalLoss(counts, beta, gamma).to(y.device)
    weight = counts.sum() / (counts.clamp(min=1) * task.width)
    return partial(task.loss, weight=weight)


def two_classes(task: Task, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Logits [n, 2] and classes [n] of the rows whose class is known; None for another task."""
    if task.kind == "classes" and task.width == 2:
        known = y >= 0
        return out[known].float(), y[known]
    if task.kind == "labels" and task.width == 1:
        y, z = y.reshape(-1).float(), out.reshape(-1).float()
        known = ~y.isnan()
        return torch.stack([torch.zeros_like(z), z], dim=1)[known], y[known].long()
    return None


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
