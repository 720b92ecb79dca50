"""Sizes of hyperedges and degrees of nodes, drawn. (opt: matplotlib)"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import StoreError
from .plots import TRAIN, VAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# the largest value is so many times the least: a logarithmic axis
_WIDE = 50
_BARS = 30


def draw(path: Path, distributions: Mapping[str, Mapping[int, int]], title: str) -> None:
    """Write the distributions of ``size`` and ``degree`` to ``path`` (svg, png or pdf).

    Each maps a value to how often it is there. Where values are many they are put together, on an
    axis with logarithms if they differ much; what is 0 is said in words. Raises
    :class:`StoreError` if the file cannot be written.
    """
    # the object-oriented interface: pyplot would keep global state and choose a window system
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _panel(left, distributions["size"], "hyperedges", "members of a hyperedge", "no member", TRAIN)
    _panel(right, distributions["degree"], "nodes", "hyperedges of a node", "in no hyperedge", VAL)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    try:
        # a plot of the same figures is the same file
        with matplotlib.rc_context({"svg.hashsalt": "graphkit"}):
            is_svg = path.suffix.lower() == ".svg"
            figure.savefig(path, dpi=160, metadata={"Date": None} if is_svg else None)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be written: {error}.") from error


def bars(counts: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where bars begin and end ``[B + 1]`` and how many values above 0 are in each ``[B]``.

    A bar for each whole number if there are few, else bars of equal width, or from one power of 2
    to the next where the largest value is many times the least. Bounds lie between numbers.
    """
    value = np.array([one for one in counts if one > 0], dtype=np.int64)
    if not len(value):
        return np.array([0.5, 1.5]), np.zeros(1, dtype=np.int64)
    low, high = int(value.min()), int(value.max())
    if high - low < _BARS:
        ends = np.arange(low, high + 2) - 0.5
    elif high > _WIDE * low:
        powers = np.arange(low.bit_length() - 1, high.bit_length() + 1)
        ends = 2.0**powers - 0.5
    else:
        step = -(-(high - low + 1) // _BARS)
        ends = np.arange(low, high + step + 1, step) - 0.5
    weights = np.array([counts[one] for one in value.tolist()])
    return ends, np.histogram(value, ends, weights=weights)[0]


def _panel(
    panel: Axes, counts: Mapping[int, int], what: str, of: str, none: str, color: str
) -> None:
    from matplotlib.ticker import MaxNLocator

    ends, often = bars(counts)
    is_wide = ends[-1] / ends[0] > _WIDE
    panel.bar(ends[:-1], often, np.diff(ends), align="edge", color=color, edgecolor="white")
    panel.set(xlabel=of, ylabel=what)
    if is_wide:
        panel.set_xscale("log", base=2)
        # an axis that begins at a half has a mark there
        panel.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else "")
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if often.max() > _WIDE * max(1, often[often > 0].min(initial=often.max())):
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:,.0f}")
    total = sum(counts.values())
    zero = counts.get(0, 0)
    said = f"{total:,} {what}" + (f", {zero:,} of them {none}" if zero else "")
    panel.set_title(said, loc="left", fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="#e4e4e4", linewidth=0.8, axis="y")
    panel.set_axisbelow(True)
