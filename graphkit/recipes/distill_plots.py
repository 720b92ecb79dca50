"""Teacher, student and MLP of a run of ``distill``; usage of codes. (opt: matplotlib)"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from .plots import MARK, SERIES
from .report import read_json

# a student so many points below the best one counts as good
WITHIN = 0.5
WHO = {"mlp": "MLP", "teacher": "teacher", "student": "student"}

Told = Sequence[Mapping[str, Any]]


def read_told(folder: Path, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """The ``distill-seedN.json`` of the finished seeds."""
    paths = (folder / f"distill-seed{seed}.json" for seed in seeds)
    return [read_json(path) for path in paths if path.is_file()]


def _figure(values: Sequence[float]) -> str:
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}"


def table(told: Told) -> list[str]:
    """A line for each of teacher, student and MLP: accuracy in percent, parameters, latency."""
    lines = []
    for who, name in reversed(WHO.items()):
        own = [one[who] for one in told]
        if not own:
            continue
        scores = [f"test {_figure([100 * one['test'] for one in own])}"]
        scores += [
            f"{part} {_figure([100 * one[part] for one in own])}"
            for part in ("observed", "hidden")
            if part in own[0]
        ]
        ms = fmean([one["ms"] for one in own])
        lines.append(f"{name + ':':<12} {', '.join(scores)}; all nodes in {ms:.2f} ms")
    if told:
        speed = fmean([one["teacher"]["ms"] / one["student"]["ms"] for one in told])
        threads = told[0]["threads"]
        words = f"{speed:.1f} times the student's time, full batch, {threads} threads"
        lines.append(f"{'latency:':<12} the teacher takes {words}")
    return lines


def by_width(told: Told, hidden: int) -> dict[int, dict[str, float]]:
    """By width of a student: mean validation and test accuracy in percent, latency."""
    widths = {hidden: "student"}
    widths |= {int(n[8:]): n for n in (told[0] if told else ()) if n.startswith("student-")}
    return {
        width: {
            "val": fmean([100 * one[widths[width]]["val"] for one in told]),
            "test": fmean([100 * one[widths[width]]["test"] for one in told]),
            "ms": fmean([one[widths[width]]["ms"] for one in told]),
        }
        for width in sorted(widths)
    }


def narrowest(found: Mapping[int, Mapping[str, float]]) -> int:
    """The smallest width whose validation accuracy is within :data:`WITHIN` points of the best."""
    best = max(one["val"] for one in found.values())
    return min(width for width, one in found.items() if one["val"] >= best - WITHIN)


def of_run(folder: Path, *, seeds: Iterable[int], title: str) -> None:
    """Write ``distill`` and, where there are codes, ``codes``, each as png and svg."""
    told = read_told(folder, seeds)
    if told:
        accuracies(folder, told, title=title)
    if told and "codes" in told[0]:
        usage(folder, told, title=title)


def accuracies(folder: Path, told: Told, *, title: str) -> None:
    """Write ``distill.png`` and ``distill.svg``: accuracy of every seed, and latency.

    Lines join what is of one seed, as its three trainings have one split.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.0), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    places = range(len(WHO))
    for one in told:
        scores = [100 * one[who]["test"] for who in WHO]
        left.plot(places, scores, color="#bbbbbb", linewidth=0.8, zorder=1)
        left.scatter(places, scores, color=SERIES[: len(WHO)], s=18, alpha=0.6, zorder=2)
    for place, who in zip(places, WHO, strict=True):
        mean = fmean([100 * one[who]["test"] for one in told])
        left.hlines(mean, place - 0.25, place + 0.25, color=MARK, linewidth=2, zorder=3)
        words = f"{mean:.1f}"
        left.annotate(words, (place + 0.27, mean), va="center", fontsize=9, color=MARK)
    left.set(title="Test accuracy, seed by seed", ylabel="%")
    left.set_xticks(places, list(WHO.values()))
    left.set_xlim(-0.5, len(WHO) - 0.4)
    times = [fmean([one[who]["ms"] for one in told]) for who in WHO]
    right.barh(list(WHO.values()), times, color=SERIES[: len(WHO)])
    for place, ms in zip(places, times, strict=True):
        right.annotate(f" {ms:.2f}", (ms, place), va="center", fontsize=9, color=MARK)
    right.set(title="All nodes at once", xlabel=f"ms, {told[0]['threads']} threads")
    right.margins(x=0.18)
    for panel in (left, right):
        panel.grid(color="#e4e4e4", linewidth=0.8, axis="y" if panel is left else "x")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    count = f", {len(told)} seeds" if len(told) > 1 else ""
    figure.suptitle(f"Teacher and student on {title}{count}", x=0.01, ha="left", fontweight="bold")
    figure.savefig(folder / "distill.png", dpi=160)
    figure.savefig(folder / "distill.svg", metadata={"Date": None})


def usage(folder: Path, told: Told, *, title: str) -> None:
    """Write ``codes.png`` and ``codes.svg``: by how many nodes codes were chosen, most first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for number, one in enumerate(told):
        counts = one["codes"]["counts"]
        color = SERIES[number % len(SERIES)]
        panel.plot(range(1, len(counts) + 1), counts, color=color, linewidth=1.2, alpha=0.8)
    codes = told[0]["codes"]["of"]
    share = fmean([100 * one["codes"]["share"] for one in told])
    perplexity = fmean([one["codes"]["perplexity"] for one in told])
    panel.set(xlabel=f"codes in use, of {codes:,}", ylabel="nodes of the code")
    panel.set_xscale("log")
    panel.set_yscale("log")
    words = f"{share:.1f} % in use, perplexity {perplexity:.0f}"
    panel.set_title(f"{title}: {words}", loc="left", fontweight="bold")
    panel.grid(color="#e4e4e4", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "codes.png", dpi=160)
    figure.savefig(folder / "codes.svg", metadata={"Date": None})
