"""A run's figures for people: tables and a plot. (opt: matplotlib)"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from graphkit.errors import StoreError

Row = Mapping[str, Any]

# Paul Tol's bright scheme, which colour-blind readers can tell apart
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """``rows`` by all of their case but its last parameter, which is the axis of tables and plots.

    The names of the groups are the values of these parameters; yes and no become the name or
    nothing.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        words = []
        for name, value in list(row["case"].items())[:-1]:
            words += [name] if value is True else [] if value is False else [str(value)]
        found.setdefault(", ".join(words), []).append(row)
    return found


def cell(row: Row) -> str:
    """What a table says of ``row``: median ms, times the baseline, and the percentiles below."""
    if row["status"] != "ok":
        return row["status"]
    times = "" if row["ratio"] is None else f" {row['ratio']:.2f}x"
    return f"{_ms(row['median_ms'])}{times}\n{_ms(row['p10_ms'])}-{_ms(row['p90_ms'])}"


def tables(console: Console, rows: Sequence[Row]) -> None:
    """Print a table for each group: a line for each contender, a column for each axis value."""
    for name, group in groups(rows).items():
        axis = list(group[0]["case"])[-1]
        values = list(dict.fromkeys(row["case"][axis] for row in group))
        cells = {(row["contender"], row["case"][axis]): cell(row) for row in group}
        added = {row["contender"]: row["call_mb"] for row in group if row["call_mb"] is not None}
        table = Table(box=SIMPLE_HEAD, title=name, title_justify="left", padding=(0, 1, 0, 0))
        table.add_column("ms, times baseline;\np10-p90 below")
        for value in values:
            table.add_column(f"{axis} {value}", justify="right")
        table.add_column("adds MB\nat last", justify="right")
        for contender in dict.fromkeys(row["contender"] for row in group):
            most = f"{added[contender]:,.0f}" if contender in added else "-"
            line = (cells.get((contender, value), "-") for value in values)
            table.add_row(contender, *line, most)
        console.print(table)


def reasons(rows: Sequence[Row]) -> list[str]:
    """One line for each contender without a figure: how it ended, why, and in how many cases."""
    count: dict[tuple[str, str, str], int] = {}
    for row in rows:
        if row["status"] != "ok":
            key = (row["contender"], row["status"], row["reason"])
            count[key] = count.get(key, 0) + 1
    return [f"{n}: {status} in {cases} cases. {why}" for (n, status, why), cases in count.items()]


def processes(rows: Sequence[Row]) -> list[str]:
    """One line for each contender that another process ran: what it was, its bandwidth, and its
    ratios as they would be if its process had had the bandwidth of ours."""
    lines: dict[str, str] = {}
    level: dict[str, list[float]] = {}
    for row in rows:
        if about := row.get("process"):
            name = row["contender"]
            parts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about.items())
            lines[name] = f"{name} ran in turn with the others in a process of its own: {parts}."
            if row["ratio"] is not None and "gather_512b_gbps" in about:
                times = about["gather_512b_gbps"] / row["gather_512b_gbps"]
                level.setdefault(name, []).append(row["ratio"] * times)
    for name, ratios in level.items():
        span = " to ".join(dict.fromkeys(f"{ratio:.2f}x" for ratio in (min(ratios), max(ratios))))
        lines[name] += f" By the bandwidth of gathers its ratios are {span}."
    return list(lines.values())


def last_run(path: Path) -> list[Row]:
    """The rows of the newest run kept in ``path``.

    Raises:
        StoreError: there is no such file, or it holds no rows.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}. Measure first.") from error
    if not rows:
        raise StoreError(f"{path} holds no rows. Measure first.")
    # files of other kinds have no runs
    return [row for row in rows if row.get("run") == rows[-1].get("run")]


def plot(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a panel for each group to ``path`` (svg, png, pdf): medians, a band from p10 to p90."""
    found = groups([row for row in rows if row["status"] == "ok"])
    # a panel that is alone gets the room of two
    figure, panels = sheet(len(found), 3.4 if len(found) > 1 else 6.8)
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    colors = {name: COLORS[at % len(COLORS)] for at, name in enumerate(contenders)}
    for panel, (name, group) in zip(panels, found.items(), strict=False):
        _panel(panel, group, colors)
        panel.set_title(name, loc="left", fontsize=10)
    finish(figure, panels, path, f"{title}\n{conditions(rows[-1])}")


def sheet(count: int, width: float = 3.4) -> tuple[Any, list[Any]]:
    """A figure and ``count`` panels of so many inches, at most three in a line."""
    # the object-oriented interface: pyplot would keep global state and choose a window system
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, count) or 1
    lines = -(-count // columns) or 1
    figure = Figure(figsize=(0.8 + width * columns, 1.3 + 2.9 * lines), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels[:count]


def finish(figure: Any, panels: Sequence[Any], path: Path, title: str) -> None:
    """Give ``figure`` its title and one legend for all panels, and write it to ``path``."""
    import matplotlib

    shown = [panel.get_legend_handles_labels() for panel in panels]
    handles = {text: line for pair in shown for line, text in zip(*pair, strict=True)}
    # handles and gaps take about 0.7 inches, and twelve letters one
    inches = 0.7 + max(map(len, handles), default=0) / 12
    columns = max(1, int(figure.get_figwidth() / inches))
    # the legend takes no room from the panels
    figure.set_figheight(figure.get_figheight() + 0.24 * -(-len(handles) // columns))
    place = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    figure.legend(list(handles.values()), list(handles), **place)
    wide = int(figure.get_figwidth() * 12)
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, wide)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)
    # a plot of the same figures is the same file
    with matplotlib.rc_context({"svg.hashsalt": "graphkit"}):
        kind = path.suffix.lower()
        figure.savefig(path, dpi=160, metadata={"Date": None} if kind == ".svg" else None)


def _panel(panel: Any, group: Sequence[Row], colors: Mapping[str, str]) -> None:
    axis = list(group[0]["case"])[-1]
    values = list(dict.fromkeys(row["case"][axis] for row in group))
    for number, (name, color) in enumerate(colors.items()):
        # more contenders than colours: the second round is dashed
        again = number >= len(COLORS)
        mine = [row for row in group if row["contender"] == name]
        if not mine:
            continue
        median, low, high = ([row[f"{key}_ms"] for row in mine] for key in ("median", "p10", "p90"))
        style = {"color": color, "label": name}
        if len(values) == 1:
            error = [[median[0] - low[0]], [high[0] - median[0]]]
            hatch = "//" if again else None
            panel.bar([number], median, yerr=error, ecolor="#333333", hatch=hatch, **style)
        else:
            at = [values.index(row["case"][axis]) for row in mine]
            marks = {"marker": "s", "linestyle": "--"} if again else {"marker": "o"}
            panel.plot(at, median, linewidth=1.6, markersize=4, **marks, **style)
            panel.fill_between(at, low, high, color=color, alpha=0.18, linewidth=0)
    if len(values) == 1:
        panel.set_xticks([])
        panel.set(xlabel=f"{axis} {values[0]}", ylabel="ms")
    else:
        panel.set_xticks(range(len(values)), [str(value) for value in values])
        panel.set(xlabel=axis, ylabel="ms", yscale="log")
    panel.grid(color="#e4e4e4", linewidth=0.8, axis="y")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def conditions(row: Row) -> str:
    """The conditions of ``row`` in one line."""
    machine = row["machine"]
    return (
        f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}, allocator "
        f"{machine['allocator']}, others used {row['others_cores']} cores, {row['run']}"
    )


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
