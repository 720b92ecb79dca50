"""What a search shows: its progress, its table, its pictures. (opt: matplotlib)"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from ..metrics import LOWER_IS_BETTER
from .plots import MARK, TRAIN, VAL, clock, say
from .report import word
from .space import Dimension
from .study import Study, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALE = "#aaaaaa"
# a table on a console holds so many trials; the file has all
SHOWN = 10
_WIDE = 4


class Progress:
    """A bar on a terminal, and a line for each finished trial."""

    def __init__(self, console: Console, trials: int, seeds: int, metric: str) -> None:
        self.console, self.trials, self.seeds, self.metric = console, trials, seeds, metric
        self.spent: list[float] = []
        self.began = time.perf_counter()
        self.bar = Bar(
            BarColumn(12),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=1.0)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def at(self, number: int, seed: int, best: Trial | None) -> None:
        """Show that trial ``number`` is at its ``seed``-th seed, both counted from 0."""
        self.began = time.perf_counter() if seed == 0 else self.began
        done = number + seed / self.seeds
        at = f"trial {number}  seed {min(seed + 1, self.seeds)}/{self.seeds}"
        text = f"{number} of {self.trials} trials done  {at}"
        if best is not None:
            text += f"  best {score(best, self.metric)}"
        if self.spent:
            left = sum(self.spent) / len(self.spent) * (self.trials - done)
            text += f"  ETA {clock(left)}"
        self.bar.update(self.task, completed=done / self.trials, description=text)

    def finish(self, trial: Trial, is_best: bool) -> None:
        """Say how a trial did."""
        self.spent.append(time.perf_counter() - self.began)
        told = f"validation {score(trial, self.metric)}"
        if trial.state == "pruned":
            told += f" after {len(trial.val)} of {self.seeds} seeds, pruned"
        if trial.state == "failed":
            told = f"failed: {trial.reason}"
        line = f"trial {trial.number}: {told}  ({trial.seconds:.1f} s)  {written(trial.options)}"
        say(self.console, line + ("  best so far" if is_best else ""))


def written(options: Mapping[str, Any]) -> str:
    """Options side by side, numbers in six digits."""
    return "  ".join(f"{name} {_short(value)}" for name, value in options.items())


def score(trial: Trial, metric: str) -> str:
    """The validation score, mean ± standard deviation: in per cent unless it is an error."""
    if trial.val_mean is None:
        return "-"
    return spread(trial.val_mean, trial.val_std, metric)


def spread(mean: float, std: float | None, metric: str) -> str:
    """``mean ± std`` in the unit of ``metric``."""
    scale, digits = (1, 4) if metric in LOWER_IS_BETTER else (100, 2)
    text = f"{scale * mean:.{digits}f}"
    return text if std is None else f"{text} ± {scale * std:.{digits}f}"


def rows(study: Study, metric: str) -> list[dict[str, str]]:
    """The table of a study: complete trials by rank, then pruned and failed ones as tried."""
    ranked = study.ranked()
    rest = [trial for trial in study.trials if trial.state != "complete"]
    rest.sort(key=lambda trial: trial.state == "failed")
    unit = "" if metric in LOWER_IS_BETTER else ", %"
    found = []
    for place, trial in enumerate([*ranked, *rest]):
        row = {"rank": str(place + 1) if place < len(ranked) else "", "trial": str(trial.number)}
        row |= {name: _short(value) for name, value in trial.options.items()}
        row[f"validation {metric}{unit}"] = score(trial, metric)
        row |= {"seeds": str(len(trial.val)), "seconds": f"{trial.seconds:.1f}"}
        row["state"] = f"failed: {trial.reason}" if trial.state == "failed" else trial.state
        found.append(row)
    return found


def markdown(table: Sequence[Mapping[str, str]]) -> str:
    """``table`` as Markdown."""
    if not table:
        return ""
    lines = [list(table[0]), ["---"] * len(table[0]), *(list(row.values()) for row in table)]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def show(console: Console, title: str, table: Sequence[Mapping[str, str]]) -> None:
    """Print the first rows of ``table``."""
    shown = Table(box=SIMPLE_HEAD, show_edge=False)
    for name in table[0]:
        shown.add_column(name, justify="left" if name == "state" else "right")
    for row in table[:SHOWN]:
        shown.add_row(*row.values())
    console.print(f"\n{title}\n", style="bold", markup=False)
    console.print(shown)
    if len(table) > SHOWN:
        say(console, f"and {len(table) - SHOWN} more trials")


def history(folder: Path, study: Study, *, title: str, metric: str) -> None:
    """Write ``history.svg`` and ``history.png``: the score of each trial, and the best so far."""
    figure = _figure(9.6, 4.0)
    panel = figure.subplots()
    done = [trial for trial in study.trials if trial.state == "complete"]
    for trial in done:
        if trial.val_std is not None:
            mean = fmean(trial.val)
            bar = [mean - trial.val_std, mean + trial.val_std]
            panel.plot([trial.number] * 2, bar, color=TRAIN, linewidth=1.0, alpha=0.25)
    _points(panel, done, [trial.number for trial in done], TRAIN, "complete")
    pruned = [trial for trial in study.trials if trial.state == "pruned"]
    _points(panel, pruned, [trial.number for trial in pruned], PALE, "pruned")
    failed = [trial.number for trial in study.trials if trial.state == "failed"]
    if failed:
        below = panel.get_xaxis_transform()
        style = dict(marker="x", color=MARK, s=26, linewidths=1.2, clip_on=False)
        panel.scatter(failed, [0.02] * len(failed), transform=below, label="failed", **style)
    best: list[float] = []
    better = max if study.higher else min
    for trial in done:
        best.append(better([*best[-1:], trial.val_mean or 0.0]))
    if done:
        steps = [trial.number for trial in done] + [len(study.trials) - 1]
        label = "best so far"
        panel.step(steps, [*best, best[-1]], where="post", color=VAL, linewidth=1.6, label=label)
        _mark(panel, study.ranked()[0].number, study.ranked()[0])
    panel.set(title="Validation score of each trial", xlabel="trial", ylabel=metric)
    panel.set_xlim(-0.5, max(1, len(study.trials)) - 0.5)
    panel.xaxis.get_major_locator().set_params(integer=True)
    _finish(panel, metric)
    # beside the points, which may be anywhere
    panel.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _write(figure, folder, "history", title)


def slices(folder: Path, study: Study, *, title: str, metric: str) -> None:
    """Write ``slices.svg`` and ``slices.png``: scores against each option that was searched.

    Under the name of an option is its share in the variance of the scores, where that is known.
    Values that were chosen from stand side by side, the trials of each from left to right.
    """
    shares = study.importances()
    searched = study.space.dimensions
    columns = min(_WIDE, len(searched))
    lines = math.ceil(len(searched) / columns)
    figure = _figure(max(4.8, 3.0 * columns + 0.6), 3.2 * lines + 0.4)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten().tolist()
    done = [trial for trial in study.trials if trial.state == "complete"]
    pruned = [trial for trial in study.trials if trial.state == "pruned"]
    best = study.ranked()[:1]
    for number, (panel, one) in enumerate(zip(panels, searched, strict=False)):
        places = _axis(panel, one, study.trials)
        for trials, color, label in ((pruned, PALE, "pruned"), (done, TRAIN, "complete")):
            _points(panel, trials, [places[t.number] for t in trials], color, label)
        for trial in best:
            _mark(panel, places[trial.number], trial)
        share = f"\n{100 * shares[one.name]:.0f} % of the variance" if one.name in shares else ""
        panel.set_title(f"{one.name.rpartition('.')[2]}{share}")
        if number % columns == 0:
            panel.set_ylabel(f"validation {metric}")
        _finish(panel, metric)
    for panel in panels[len(searched) :]:
        panel.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
    _write(figure, folder, "slices", title)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    return figure


def _points(
    panel: Axes, trials: Sequence[Trial], places: Sequence[float], color: str, label: str
) -> None:
    if not trials:
        return
    hollow = color == PALE
    style: dict[str, Any] = dict(s=22, label=label, linewidths=1.0, zorder=3)
    style |= dict(facecolors="white" if hollow else color, edgecolors=color if hollow else "white")
    panel.scatter(places, [fmean(trial.val) for trial in trials], **style)


def _mark(panel: Axes, place: float, trial: Trial) -> None:
    style: dict[str, Any] = dict(color=VAL, edgecolors=MARK, linewidths=1.0, zorder=5)
    panel.scatter([place], [fmean(trial.val)], s=60, marker="D", label="best", **style)


def _axis(panel: Axes, one: Dimension, trials: Sequence[Trial]) -> dict[int, float]:
    """Set the values of ``one`` up as the axis; where the trials are on it."""
    values = {trial.number: trial.options[one.name] for trial in trials}
    if not one.choices:
        panel.set_xscale("log" if one.log else "linear")
        return values
    names = [word(value) for value in one.choices]
    panel.set_xticks(range(len(names)), [_short(value) for value in one.choices])
    panel.set_xlim(-0.6, len(names) - 0.4)
    if sum(map(len, names)) > 24:
        panel.tick_params(axis="x", rotation=60)
    shift = {number: 0.6 * (number + 0.5) / len(trials) - 0.3 for number in values}
    return {number: names.index(word(value)) + shift[number] for number, value in values.items()}


def _finish(panel: Axes, metric: str) -> None:
    if metric not in LOWER_IS_BETTER:
        panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    panel.grid(color="#e4e4e4", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _write(figure: Any, folder: Path, name: str, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.savefig(folder / f"{name}.png", dpi=160)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else word(value)
