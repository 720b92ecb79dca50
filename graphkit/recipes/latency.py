"""How long a model takes for a batch of rows: measured, as a table, drawn. (opt: matplotlib)"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.progress import Meter
from . import plots

BATCHES = (1, 8, 64, 512, 4096)
"""Rows of a call."""
# calls behind a figure: a p99 of fewer would be their maximum; many small ones are soon enough
_LEAST, _MOST = 100, 5000
# calls before, in which allocators and caches find their state
_WARM = 10

Call = Callable[[Tensor], Any]


def timed(call: Call, x: Tensor, seconds: float, clock: Callable[[], float]) -> list[float]:
    """The seconds of each of so many calls ``call(x)`` that they take ``seconds`` together.

    At least 100 calls and at most 5,000, behind ten that are not counted.
    """
    for _ in range(_WARM):
        call(x)
    found: list[float] = []
    began = clock()
    while len(found) < _LEAST or (len(found) < _MOST and clock() - began < seconds):
        start = clock()
        call(x)
        found.append(clock() - start)
    return found


def summary(by: str, batch: int, spent: Sequence[float]) -> dict[str, Any]:
    """What calls of ``batch`` rows that took ``spent`` seconds say of what serves them."""
    p50, p99 = (1e3 * float(value) for value in np.percentile(spent, (50, 99)))
    row: dict[str, Any] = {"served by": by, "batch": batch, "calls": len(spent)}
    return row | {"p50_ms": p50, "p99_ms": p99, "rows_per_s": batch * len(spent) / sum(spent)}


def measure(
    calls: Mapping[str, Call],
    width: int,
    *,
    seconds: float = 1.0,
    batches: Sequence[int] = BATCHES,
    quiet: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """A row for each batch size and each of ``calls``, what serves rows of ``width`` features.

    Rows have ``served by``, ``batch``, ``calls``, ``p50_ms``, ``p99_ms`` and ``rows_per_s``, which
    is over all calls. The features are drawn from a normal distribution; ``seconds`` are what a row
    takes.
    """
    generator = torch.Generator().manual_seed(0)
    found: list[dict[str, Any]] = []
    meter = Meter("latency", quiet, unit="figures")
    try:
        for batch in batches:
            x = torch.randn(batch, width, generator=generator)
            for name, call in calls.items():
                with torch.inference_mode():
                    found.append(summary(name, batch, timed(call, x, seconds, clock)))
                meter.show(len(found), len(batches) * len(calls))
    finally:
        meter.close()
    return found


def draw(folder: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Write ``latency.png`` and ``latency.svg``: milliseconds and rows a second by batch size."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.0), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    names = dict.fromkeys(str(row["served by"]) for row in rows)
    for name, color in zip(names, plots.SERIES, strict=False):
        own = [row for row in rows if row["served by"] == name]
        batch = [row["batch"] for row in own]
        look: dict[str, Any] = dict(color=color, linewidth=1.6, marker="o", markersize=4)
        left.plot(batch, [row["p50_ms"] for row in own], label=f"{name}, p50", **look)
        look |= dict(linewidth=1.0, linestyle="--", markersize=2.5)
        left.plot(batch, [row["p99_ms"] for row in own], label=f"{name}, p99", **look)
        look |= dict(linewidth=1.6, linestyle="-", markersize=4)
        right.plot(batch, [row["rows_per_s"] for row in own], label=name, **look)
    left.set(title="Time of a call", ylabel="milliseconds")
    right.set(title="Throughput", ylabel="rows a second")
    batches = sorted({int(row["batch"]) for row in rows})
    for panel in (left, right):
        panel.set(xscale="log", yscale="log", xlabel="rows of a call")
        panel.set_xticks(batches, [f"{batch:,}" for batch in batches])
        panel.minorticks_off()
        panel.grid(color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.savefig(folder / "latency.png", dpi=160)
    # else the identifiers in the file are drawn anew each time
    with matplotlib.rc_context({"svg.hashsalt": "graphkit"}):
        figure.savefig(folder / "latency.svg", metadata={"Date": None})
