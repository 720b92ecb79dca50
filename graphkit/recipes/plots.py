"""What a run shows: progress, the result table, the learning curves. (opt: matplotlib)"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from ..metrics import LOWER_IS_BETTER
from .loop import Epoch
from .report import Record, Row, checkpoint_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN, VAL, MARK = "#4477aa", "#cc6633", "#333333"
# what the seconds of an epoch go to, and of these what other threads do
PARTS = {
    "wait": "#bbbbbb",
    "forward": "#4477aa",
    "backward": "#223f66",
    "evaluate": "#ccbb44",
    "sample": "#228833",
    "gather": "#66ccaa",
    "copy": "#aa3377",
}
AHEAD = ("sample", "gather", "copy")
# lines of several models, told apart in any kind of sight
SERIES = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#777777")


class Progress:
    """Shows each epoch it is called with: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self, console: Console, seeds: Sequence[int], epochs: int) -> None:
        self.console = console
        self.seeds = seeds
        self.epochs = epochs
        self.finished: list[int] = []
        # the last epoch of the current seed, of all its trainings
        self.last = 0
        self.began = self.told = time.monotonic()
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

    def __call__(self, epoch: Epoch) -> None:
        now, self.last = time.monotonic(), epoch.epoch
        done, left = self._epochs(epoch.epoch)
        text = (
            f"seed {len(self.finished) + 1}/{len(self.seeds)}  epoch {epoch.epoch}/{self.epochs}  "
            f"loss {epoch.train_loss:.4f}  validation {epoch.val_score:.4f}  "
            f"ETA {clock((now - self.began) / done * left)}"
        )
        self.bar.update(self.task, completed=done / (done + left), description=text)
        # the longer a run lasts, the rarer its lines: a log is read afterwards
        if not self.console.is_terminal and now - self.told >= max(2, (now - self.began) / 20):
            self.told = now
            say(self.console, text)

    def finish(self, row: Row, silent: bool = False) -> None:
        """Close the current seed and, if there are more, say how it did."""
        self.finished.append(self.last or row.epochs)
        self.last = 0
        if len(self.seeds) > 1 and not silent:
            say(
                self.console,
                f"seed {row.seed}: validation {row.val:.4f}  test {row.test:.4f}  "
                f"(epoch {row.best_epoch} of {row.epochs}, {row.seconds:.1f} s)",
            )

    def _epochs(self, current: int) -> tuple[int, int]:
        """Epochs done and epochs left, taking finished seeds as the measure for those to come."""
        before = sum(self.finished)
        later = len(self.seeds) - len(self.finished) - 1
        usual = before / len(self.finished) if self.finished else self.epochs
        return before + current, round(max(usual - current, 0) + later * usual)


def say(console: Console, text: str) -> None:
    """Print ``text`` as it is: no wrapping, no markup, so that paths and commands can be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)


def show(console: Console, record: Record, lines: Sequence[str]) -> None:
    """Print the result table of ``record`` and under it ``lines``."""
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    # errors have the unit of the labels, all other scores are fractions
    scale, digits = (1, 4) if record.metric in LOWER_IS_BETTER else (100, 2)
    splits = any(row.split is not None for row in record.rows)
    names = ["seed", *(["split"] if splits else []), "best epoch", "epochs"]
    for name in (*names, "validation", "test", "seconds"):
        table.add_column(name, justify="right")
    for row in record.rows:
        split = [str(row.split)] if splits else []
        scores = [f"{scale * row.val:.{digits}f}", f"{scale * row.test:.{digits}f}"]
        scores.append(f"{row.seconds:.1f}")
        table.add_row(str(row.seed), *split, str(row.best_epoch), str(row.epochs), *scores)
    if record.test_std is not None:
        blank = [""] * (len(names) - 1)
        mean, std = scale * record.test_mean, scale * record.test_std
        cells = [f"{scale * record.val_mean:.{digits}f}", f"{mean:.{digits}f} ± {std:.{digits}f}"]
        cells.append(f"{record.seconds:.1f}")
        table.add_section()
        table.add_row("mean", *blank, *cells, style="bold")
    unit = " in %" if scale == 100 else ""
    data = Path(record.data).name
    console.print(f"\n{record.model} on {data}, {record.metric}{unit}\n", style="bold")
    console.print(table)
    _show_checkpoints(console, record)
    say(console, "\n".join(["", *lines]))


def _show_checkpoints(console: Console, record: Record) -> None:
    """Print all test scores of the epochs that each validation score chose, where there are any."""
    found = checkpoint_scores(record.rows)
    if not found:
        return
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    table.add_column("test, epochs chosen by")
    for name in next(iter(found.values())):
        table.add_column(name, justify="right")
    for by, scores in found.items():
        cells = [
            f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")
            for mean, std in scores.values()
        ]
        table.add_row(by, *cells)
    console.print()
    console.print(table)


def show_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of ``rows``, which have the same keys."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in rows[0]:
        values = [row[name] for row in rows]
        number = any(isinstance(value, int) and not isinstance(value, bool) for value in values)
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    Console().print(table)


def show_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """Print names and values side by side, the items of a value one below the other."""
    table = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        if isinstance(value, Mapping):
            value = [f"{key.replace('_', ' ')}: {_text(item)}" for key, item in value.items()]
        lines = value if isinstance(value, (list, tuple)) else [value]
        for number, line in enumerate(lines):
            table.add_row("" if number else f"  {name.replace('_', ' ')}", Text(_text(line)))
    Console().print(Text(title, style="bold"), table)


def curves(
    folder: Path,
    histories: Mapping[int, Sequence[Epoch]],
    chosen: Mapping[int, int],
    *,
    title: str,
    metric: str,
    loss: str | None = None,
) -> None:
    """Write ``curves.svg`` and ``curves.png``: losses on the left, validation score on the right.

    Args:
        folder: where the two files go.
        histories: the epochs of each seed.
        chosen: the selected epoch of each seed, marked on both panels.
        title: the heading.
        metric: what the validation score is called.
        loss: what the loss is called (default: what belongs to the metric).
    """
    # the object-oriented interface: pyplot would keep global state and choose a window system
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.0), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _line(left, [[e.train_loss for e in h] for h in histories.values()], TRAIN, "training")
    _line(left, [[e.val_loss for e in h] for h in histories.values()], VAL, "validation")
    _line(right, [[e.val_score for e in h] for h in histories.values()], VAL, "validation")
    for seed, epoch in chosen.items():
        at = histories[seed][epoch - 1]
        first = seed == next(iter(chosen))
        label = ("selected epoch" if len(chosen) == 1 else "selected epochs") if first else None
        style = dict(color=MARK, s=28, zorder=5, edgecolors="white", linewidths=0.8)
        left.scatter([epoch], [at.val_loss], label=label, **style)
        right.scatter([epoch], [at.val_score], label=label, **style)
    error = metric in LOWER_IS_BETTER
    usual = "squared error" if error else "cross-entropy (nats)"
    left.set(title="Loss", ylabel=loss or usual)
    left.set_ylim(bottom=0)
    right.set(title=f"Validation {metric}", ylabel=metric)
    if not error:
        right.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    for panel in (left, right):
        panel.set_xlabel("epoch")
        panel.set_xlim(1, max(2, *(len(h) for h in histories.values())))
        panel.grid(color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    if len(histories) > 1:
        title += f", mean ± std of {len(histories)} seeds"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.savefig(folder / "curves.png", dpi=160)
    figure.savefig(folder / "curves.svg", metadata={"Date": None})


def depth_curves(
    folder: Path,
    points: Sequence[Mapping[str, Any]],
    features: Mapping[str, Any],
    *,
    title: str,
) -> None:
    """Write ``depth.svg`` and ``depth.png``: score, Dirichlet energy and MADGap against depth.

    Args:
        folder: where the two files go.
        points: rows with model, depth, metric, score, std, energy and gap, each None if unknown.
        features: the same of the features, of which energy and gap are drawn as lines.
        title: the heading.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.2, 4.2), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    metric = next((str(p["metric"]) for p in points if p["metric"]), "score")
    unit = "" if metric in LOWER_IS_BETTER else ", %"
    headings = {
        "score": (f"Test {metric}", f"{metric}{unit}"),
        "energy": ("Dirichlet energy of the outputs", "relative to their size"),
        "gap": ("MADGap of the outputs", "cosine distance, remote less near"),
    }
    depths = sorted({p["depth"] for p in points})
    for panel, (key, (heading, label)) in zip(panels, headings.items(), strict=True):
        for number, model in enumerate(dict.fromkeys(p["model"] for p in points)):
            own = [p for p in points if p["model"] == model and p[key] is not None]
            look: dict[str, Any] = dict(color=SERIES[number % len(SERIES)], label=model)
            look |= dict(marker="osD^vPX"[number % 7], markersize=5, linewidth=1.6)
            x, y = [p["depth"] for p in own], [p[key] for p in own]
            panel.plot(x, y, **look)
            if key == "score" and any(p["std"] for p in own):
                spread = [p["std"] or 0.0 for p in own]
                low, high = (
                    [v + sign * d for v, d in zip(y, spread, strict=True)] for sign in (-1, 1)
                )
                panel.fill_between(x, low, high, color=look["color"], alpha=0.14, linewidth=0)
        if features[key] is not None:
            panel.axhline(features[key], color=MARK, linewidth=1, linestyle=":", label="features")
        panel.set(title=heading, ylabel=label, xlabel="depth")
        panel.set_xscale("log", base=2)
        panel.set_xticks(depths, [str(depth) for depth in depths])
        panel.minorticks_off()
        panel.grid(color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    if all((p["energy"] or 0) > 0 for p in points):
        panels[1].set_yscale("log")
    # one legend for all, where it covers nothing
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside right center")
    figure.suptitle(f"{title}, from shallow to deep", x=0.01, ha="left", fontweight="bold")
    figure.savefig(folder / "depth.png", dpi=160)
    figure.savefig(folder / "depth.svg", metadata={"Date": None})


def seconds_table(console: Console, histories: Mapping[int, Sequence[Epoch]]) -> None:
    """Print what the seconds of a mean epoch went to; nothing if they were not measured."""
    mean = {name: sum(values) / len(values) for name, values in _seconds(histories).items()}
    if not mean:
        return
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    for name in ("seconds of an epoch", "mean", "share"):
        table.add_column(name, justify="left" if name.startswith("seconds") else "right")
    own = {name: value for name, value in mean.items() if name not in AHEAD}
    whole = sum(own.values()) or 1.0
    for name, value in own.items():
        table.add_row(name, f"{value:.3f}", f"{100 * value / whole:.0f} %")
    table.add_section()
    for name in filter(mean.__contains__, AHEAD):
        table.add_row(f"{name} (ahead)", f"{mean[name]:.3f}", f"{100 * mean[name] / whole:.0f} %")
    console.print()
    console.print(table)


def breakdown(folder: Path, histories: Mapping[int, Sequence[Epoch]], *, title: str) -> None:
    """Write ``breakdown.svg`` and ``breakdown.png``: what the seconds of each epoch went to.

    The mean over seeds: on the left what the training thread did, on the right what was done ahead
    of it by other threads at the same time. Nothing is written if it was not measured.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spent = _seconds(histories)
    if not spent:
        return
    figure = Figure(figsize=(9.6, 4.0), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    own = [name for name in spent if name not in AHEAD]
    groups = (("Training thread", own), ("Ahead of it, meanwhile", AHEAD))
    for panel, (heading, names) in zip(panels, groups, strict=True):
        below = torch.zeros(len(next(iter(spent.values()))), dtype=torch.float64)
        epochs = torch.arange(1, len(below) + 1)
        for name in names:
            part = torch.tensor(spent[name], dtype=torch.float64)
            look = {"color": PARTS[name], "label": name, "linewidth": 0}
            # whole epochs, without a gap where they are many
            width = 0.8 if len(below) <= 40 else 1.0
            panel.bar(epochs.tolist(), part.tolist(), width, below.tolist(), **look)
            below += part
        panel.set(title=heading, xlabel="epoch", xlim=(0.4, len(below) + 0.6))
        panel.locator_params(axis="x", integer=True)
        panel.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        # in the order in which they are stacked
        panel.legend(frameon=False, reverse=True, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    panels[0].set_ylabel("seconds")
    if len(histories) > 1:
        title = f"{title}, mean of {len(histories)} seeds"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.savefig(folder / "breakdown.png", dpi=160)
    figure.savefig(folder / "breakdown.svg", metadata={"Date": None})


def _seconds(histories: Mapping[int, Sequence[Epoch]]) -> dict[str, list[float]]:
    """By what they were spent on, the seconds of each epoch: the mean over seeds that ran it."""
    found: dict[str, list[float]] = {}
    length = max((len(epochs) for epochs in histories.values()), default=0)
    for number in range(length):
        ran = [epochs[number].seconds for epochs in histories.values() if number < len(epochs)]
        for name in ran[0]:
            values = [seconds[name] for seconds in ran]
            found.setdefault(name, []).append(sum(values) / len(values))
    return found


def _line(panel: Axes, seeds: list[list[float]], color: str, label: str) -> None:
    """The mean over seeds, with a band of one standard deviation where two or more still train."""
    length = max(len(values) for values in seeds)
    table = torch.full((len(seeds), length), float("nan"), dtype=torch.float64)
    for row, values in zip(table, seeds, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.float64)
    mean = table.nanmean(dim=0)
    epochs = torch.arange(1, length + 1).tolist()
    panel.plot(epochs, mean.tolist(), color=color, linewidth=1.6, label=label)
    if len(seeds) > 1:
        count = (~table.isnan()).sum(dim=0)
        spread = ((table - mean) ** 2).nansum(dim=0) / (count - 1).clamp(min=1)
        low, high = (mean - spread.sqrt()).tolist(), (mean + spread.sqrt()).tolist()
        panel.fill_between(epochs, low, high, color=color, alpha=0.18, linewidth=0)


def clock(seconds: float) -> str:
    """``seconds`` as people read them: 1:05, 2:00:07."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _text(value: Any) -> str:
    """``value`` as people write it: yes, 1,234, three decimals, items in a row."""
    if value is None or isinstance(value, bool):
        return "-" if value is None else "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3f}"
    return str(value)
