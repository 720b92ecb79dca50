"""The homophily of data sets, as a table and as a picture. (opt: matplotlib)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .plots import MARK, TRAIN, VAL, show_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# the measures of homophily_table: how a column is headed, and what they say in a few words
MEASURES = {
    "edge": ("edge", "edges within a class"),
    "node": ("node", "a node's edges within its class"),
    "class": ("class", "edges within a class, above its size"),
    "adjusted": ("adj.", "0 for edges by chance, 1 at most"),
    "aggregation": ("agg", "nodes near their class once averaged"),
    "aggregation_modified": ("agg_M", "nodes near their class, 0 for half"),
    "distinguishability": ("DD", "differences that set nodes apart"),
    "informativeness": ("LI", "what a neighbour's class tells"),
    "effective": ("eff.", "as node, over the best 1 or 2 steps"),
}
# of the two forms of aggregation one is enough to compare sets
DRAWN = [key for key in MEASURES if key != "aggregation"]

Tables = Mapping[str, Mapping[str, float]]
"""Measures by the edges they are of: ``stored``, and ``undirected`` where these are others."""


def show(tables: Tables) -> None:
    """Print the measures of one data set, each with what it says."""
    rows = [
        {
            "homophily": "  modified" if key == "aggregation_modified" else key,
            **{form: table[key] for form, table in tables.items()},
            "": meaning,
        }
        for key, (_, meaning) in MEASURES.items()
    ]
    show_rows(rows)


def show_all(sets: Mapping[str, Tables]) -> None:
    """Print the measures of several data sets, a line for each kind of edges."""
    rows = [
        {
            "data": name if form == "stored" else "  made undirected",
            **{MEASURES[key][0]: table[key] for key in DRAWN},
        }
        for name, tables in sets.items()
        for form, table in tables.items()
    ]
    show_rows(rows)


def draw(path: Path, sets: Mapping[str, Tables]) -> None:
    """Write the measures of several data sets to ``path`` (svg, png or pdf).

    A panel for each measure, a line for each set: a dot for the edges as they are stored and, where
    they have directions, a ring for those made undirected.
    """
    # the object-oriented interface: pyplot would keep global state and choose a window system
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.6, 2.2 + 0.52 * len(sets)), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 4, sharey=True)
    for panel, key in zip(panels.flat, DRAWN, strict=True):
        _panel(
            panel, key, [{form: of[key] for form, of in tables.items()} for tables in sets.values()]
        )
    first = panels[0][0]
    first.set_yticks(range(len(sets)), list(sets))
    first.set_ylim(len(sets) - 0.4, -0.6)
    legends = [panel.get_legend_handles_labels() for panel in panels.flat]
    found = {text: mark for pair in legends for mark, text in zip(*pair, strict=True)}
    # the rings are drawn first, to lie below
    handles = dict(reversed(found.items()))
    place = {"loc": "outside lower left", "ncols": 2, "frameon": False}
    figure.legend(list(handles.values()), list(handles), **place)
    title = "Homophily: how the labels and the edges of a graph go together"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    # a plot of the same figures is the same file
    with matplotlib.rc_context({"svg.hashsalt": "graphkit"}):
        is_svg = path.suffix.lower() == ".svg"
        figure.savefig(path, dpi=160, metadata={"Date": None} if is_svg else None)


# a dot that lies in its ring: they are equal
_MARKS = {
    "undirected": ("made undirected", {"facecolors": "white", "edgecolors": VAL, "s": 52}),
    "stored": ("edges as they are stored, and the value", {"facecolors": TRAIN, "s": 22}),
}


def _panel(panel: Axes, key: str, values: Sequence[Mapping[str, float]]) -> None:
    """Draw one measure of all sets; what is not defined is a dash."""
    for at, of in enumerate(values):
        ends = [0.0, *(value for value in of.values() if value == value)]
        panel.hlines(at, min(ends), max(ends), color="#cccccc", linewidth=1.2, zorder=1)
        text = f"{of['stored']:.2f}" if of["stored"] == of["stored"] else "-"
        panel.text(1.09, at, text, va="center", fontsize=8, color=MARK)
    for order, (form, (label, look)) in enumerate(_MARKS.items(), 3):
        places = [(of[form], at) for at, of in enumerate(values) if form in of]
        places = [(value, at) for value, at in places if value == value]
        if places:
            style = {"zorder": order, "linewidths": 1.5, "clip_on": False, **look}
            panel.scatter(*zip(*places, strict=True), label=label, **style)
    panel.set_title(key.replace("_", ", "), loc="left", fontsize=10, pad=17)
    under = {"transform": panel.transAxes, "fontsize": 8, "color": "#666666", "va": "bottom"}
    panel.text(0, 1.02, MEASURES[key][1], **under)
    low = min((value for of in values for value in of.values() if value == value), default=0.0)
    panel.set_xlim(min(-0.03, low - 0.05), 1.03)
    panel.set_xticks([0, 0.5, 1] if low > -0.25 else [-0.5, 0, 0.5, 1])
    panel.axvline(0, color="#999999", linewidth=0.8, zorder=1)
    panel.grid(color="#e4e4e4", linewidth=0.8, axis="x")
    panel.set_axisbelow(True)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
