"""What the graphs of a run score: all metrics of two classes, and a file with a line for each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import metrics
from ..store import atomic
from .task import Task, two_classes

# what is told of two classes, and which of these choose epochs of anomalies
OF_TWO = ("f1", "rocauc", "ap", "precision@rate")
CHOOSING = ("f1", "rocauc")
PARTS = ("val", "test")


class Held:
    """Outputs of the graphs of validation and test, by the score that chose the weights.

    They are taken when they are first asked for, by ``outputs(graph_id)``, so that the weights must
    be there by then. ``rows`` are the graphs of each part, ``y`` the labels of all.
    """

    def __init__(
        self,
        outputs: Callable[[Tensor], Tensor],
        rows: Mapping[str, Tensor],
        y: Tensor,
        task: Task,
    ) -> None:
        self.outputs, self.rows, self.y, self.task = outputs, rows, y, task
        self.held: dict[str, dict[str, Tensor]] = {}

    def test(self) -> float:
        """The test score of the weights that the task's metric chose."""
        return self.task.score(self._look(self.task.metric), self.y[self.rows["test"]])

    def scores(self, by: str) -> dict[str, float]:
        """All test scores of the weights that the score ``by`` chose, of a task of two classes."""
        return scores_of(self.task, self._look(by), self.y[self.rows["test"]])

    def write(self, seed: int, folder: Path) -> None:
        """Write ``scores-seedN.csv``."""
        rows = {part: self.rows[part] for part in PARTS}
        write_scores(folder / f"scores-seed{seed}.csv", rows, self.y, self.held, self.task)

    def _look(self, by: str) -> Tensor:
        if by not in self.held:
            self.held[by] = {part: self.outputs(self.rows[part]) for part in PARTS}
        return self.held[by]["test"]


def others_of(task: Task, out: Tensor, y: Tensor) -> dict[str, float]:
    """The scores beside the task's metric that choose epochs of anomalies."""
    names = (name for name in CHOOSING if name != task.metric)
    return {name: metrics.score(name)(out.float(), y) for name in names}


def scores_of(task: Task, out: Tensor, y: Tensor) -> dict[str, float]:
    """All scores of a task of two classes, by name; none for another task, or for one class."""
    pair = two_classes(task, out, y)
    if pair is None or len(pair[1].unique()) < 2:
        return {}
    rest = {name: metrics.score(name)(*pair) for name in OF_TWO if name != task.metric}
    return {task.metric: task.score(out, y), **rest}


def write_scores(
    path: Path,
    rows: Mapping[str, Tensor],
    y: Tensor,
    held: Mapping[str, Mapping[str, Tensor]],
    task: Task,
) -> None:
    """Write what each graph of ``rows`` scores, one line for each: its number, part, label, score.

    Of two classes the score is the probability of class 1; else there is one for each class, a
    probability for each label, or a value. Where ``held`` has outputs of several weights, columns
    behind those of the first are called by what chose theirs.
    """
    columns: dict[str, list[Any]] = {"graph": [], "part": []}
    for part, graph_id in rows.items():
        columns["graph"] += graph_id.tolist()
        columns["part"] += [part] * len(graph_id)
    label = y[torch.cat(list(rows.values()))]
    columns |= _numbered("label", label.reshape(len(label), -1).tolist())
    for number, (by, out) in enumerate(held.items()):
        values = torch.cat([out[part] for part in rows]).double()
        if task.kind == "classes":
            values = values.softmax(dim=1)
            values = values[:, 1:] if task.width == 2 else values
        elif task.kind == "labels":
            values = values.sigmoid()
        columns |= _numbered("score" if number == 0 else f"score_{by}", values.tolist())
    with atomic(path) as side, side.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _numbered(name: str, rows: list[list[float]]) -> dict[str, list[float]]:
    """The columns of ``rows``, called by ``name`` if there is one, else with numbers behind it."""
    columns = list(map(list, zip(*rows, strict=True)))
    return {name if len(columns) == 1 else f"{name}{n}": col for n, col in enumerate(columns)}
