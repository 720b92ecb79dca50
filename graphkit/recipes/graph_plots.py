"""Pictures of a run of ``graph``: ROC and precision-recall curves. (opt: matplotlib, sklearn)"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .plots import MARK, TRAIN, VAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# the shares of graphs at which the curves of several seeds are read
GRID = np.linspace(0, 1, 201)

Scored = tuple[np.ndarray, np.ndarray]
"""Labels 0 and 1 of graphs, and their scores."""


def of_run(folder: Path, seeds: Iterable[int], *, title: str, metric: str) -> None:
    """:func:`roc_figure` of the test graphs in the ``scores-seedN.csv`` of a run.

    Nothing is drawn for other tasks than two classes, and of seeds that are not finished.
    """
    found: dict[str, list[Scored]] = {}
    for seed in seeds:
        path = folder / f"scores-seed{seed}.csv"
        if path.is_file():
            for name, scored in read_scores(path).items():
                found.setdefault(name, []).append(scored)
    if found:
        roc_figure(folder, found, title=title, metric=metric)


def read_scores(path: Path) -> dict[str, Scored]:
    """The labels and scores of the test graphs in a ``scores-seedN.csv``, by column.

    Empty unless the labels are 0 and 1 and both are there.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "test"]
    names = [name for name in (rows[0] if rows else ()) if name.startswith("score")]
    if "label" not in (rows[0] if rows else ()) or "score" not in names:
        return {}
    rows = [row for row in rows if row["label"] not in ("-1", "nan")]
    label = np.array([float(row["label"]) for row in rows])
    if set(label.tolist()) != {0.0, 1.0}:
        return {}
    return {name: (label, np.array([float(row[name]) for row in rows])) for name in names}


def roc_curve_at(label: np.ndarray, score: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The share of positives found at each share of negatives found, between points by lines."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(label, score, drop_intermediate=False)
    # of points at one place the highest, which is the last one
    return np.interp(grid, *_last_of_each(false, true))


def precision_at(label: np.ndarray, score: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The precision of the shortest list that finds each share of the positives.

    No lines between points: between two recalls, precision is that of the next one, as average
    precision counts it, whose area under the steps is.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(label, score)
    precision, recall = precision[::-1][1:], recall[::-1][1:]
    # of lists that find as many the shortest one, which comes first
    recall, first = np.unique(recall, return_index=True)
    # a share such as 2/3 is found by the list of 2 of 3
    at = np.searchsorted(recall, grid - 1e-9)
    return precision[first][np.clip(at, 0, len(first) - 1)]


def roc_figure(
    folder: Path, curves: Mapping[str, Sequence[Scored]], *, title: str, metric: str
) -> None:
    """Write ``roc.svg`` and ``roc.png``: ROC and precision-recall curves, means over seeds.

    Args:
        folder: where the two files go.
        curves: by column of the scores files, labels and scores of each seed; bands are one
            standard deviation where there are two seeds or more.
        title: the heading.
        metric: what chose the epochs of the first column.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.8), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    seeds = next(iter(curves.values()))
    for (name, scored), color in zip(curves.items(), (TRAIN, VAL), strict=False):
        label = f"epochs chosen by {name.removeprefix('score').removeprefix('_') or metric}"
        _band(left, np.stack([roc_curve_at(*one, GRID) for one in scored]), color, label)
        _band(right, np.stack([precision_at(*one, GRID[1:]) for one in scored]), color, label)
    rate = float(np.mean([label.mean() for label, _ in seeds]))
    chance = f"by chance ({100 * rate:.1f} % of class 1)"
    left.plot([0, 1], [0, 1], color=MARK, linewidth=1, linestyle=":", label=chance)
    right.axhline(rate, color=MARK, linewidth=1, linestyle=":")
    left.set(title="ROC", xlabel="class 0 taken for class 1", ylabel="class 1 found")
    right.set(title="Precision and recall", xlabel="class 1 found", ylabel="precision")
    for panel in (left, right):
        panel.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        panel.grid(color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    # one legend for both, where it covers nothing
    figure.legend(
        *left.get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower left"
    )
    if len(seeds) > 1:
        title += f", mean ± std of {len(seeds)} seeds"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.savefig(folder / "roc.png", dpi=160)
    figure.savefig(folder / "roc.svg", metadata={"Date": None})


def _band(panel: Axes, lines: np.ndarray, color: str, label: str) -> None:
    """The mean of ``lines [seeds, points]`` with a band of one standard deviation."""
    x, mean = GRID[-lines.shape[1] :], lines.mean(axis=0)
    panel.plot(x, mean, color=color, linewidth=1.6, label=label)
    if len(lines) > 1:
        std = lines.std(axis=0, ddof=1)
        low, high = (mean - std).clip(0, 1), (mean + std).clip(0, 1)
        panel.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


def _last_of_each(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last y of each x of a rising line."""
    last = np.append(np.diff(x) > 0, True)
    return x[last], y[last]
