"""Draws what share of the machine's bandwidth the figures reach: python benchmarks/roofline.py

A panel for each results file, a point for each figure of its newest run that has a formula of
bytes: bytes moved against gigabytes per second. Lines are what the same process got from a large
copy and from a gather of random rows of 512 bytes, reads and writes counted. Points may lie above
them: rows that the cache serves count as moved. Packages are set a few percent apart along the
axis of bytes, so that none hides another. (opt: matplotlib)
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

# the checkout that holds this file is what is shown, whatever is installed
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.entry import FOLDER, exit_code
from benchmarks.show import COLORS, Row, conditions, finish, last_run, sheet
from graphkit.errors import ConfigError, StoreError

OUT = Path("roofline.svg")
# shapes and colours tell the families apart, each alone
_MARKERS = "os^Dv*Pd"
_CEILINGS = {"copy_gbps": ("copy", "-", "bottom"), "gather_512b_gbps": ("gather", "--", "top")}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. See graphkit plot bench --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line: draw the plot and say where it is.

    Raises:
        ConfigError: unknown option.
        StoreError: a file cannot be read or written, or holds no figures with bytes.
    """
    about = (__doc__ or "").splitlines()[0].partition(":")[0]
    parser = _Parser(allow_abbrev=False, prog="graphkit plot bench", description=about + ".")
    results = "results files [all of benchmarks/results/ that have such figures]"
    parser.add_argument("files", nargs="*", type=Path, metavar="FILES", help=results)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="svg, png or pdf")
    options = parser.parse_args(argv)
    runs = {path.stem: _points(path) for path in options.files}
    for name, rows in runs.items():
        if not rows:
            raise StoreError(f"{name} holds no figures with bytes. Give another results file.")
    if not options.files:
        runs = {path.stem: _points(path) for path in sorted((FOLDER / "results").glob("*.jsonl"))}
        runs = {name: rows for name, rows in runs.items() if rows}
    if not runs:
        raise StoreError("There are no figures to draw. Measure first: graphkit bench spmm --quick")
    try:
        draw(runs, options.out)
    except (OSError, ValueError) as error:
        raise StoreError(f"{options.out} cannot be written: {error}.") from error
    count = sum(len(rows) for rows in runs.values())
    print(f"{count} figures of {', '.join(runs)}, the newest run of each.")
    print(f"Plot: {os.path.relpath(options.out)}")
    print("Next: graphkit bench NAME measures on this machine.")
    return 0


def _points(path: Path) -> list[Row]:
    """The figures of the newest run in ``path`` that have a bandwidth. Who only writes the result
    moves less than the entry's formula says."""
    rows = [row for row in last_run(path) if row.get("gbps")]
    return [row for row in rows if not row["contender"].startswith("write only")]


def family(contender: str) -> str:
    """The package that a contender is of."""
    found = re.match(r"read only|\w+", contender)
    return found[0] if found else contender


def draw(runs: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Write the plot of ``runs``, rows by the name of their benchmark, to ``path``."""
    figure, panels = sheet(len(runs), 6.0 if len(runs) == 1 else 4.4)
    rows = [row for group in runs.values() for row in group]
    families = list(dict.fromkeys(family(row["contender"]) for row in rows))
    for panel, (name, group) in zip(panels, runs.items(), strict=True):
        points(panel, group, families)
        panel.set_title(name, loc="left", fontsize=10)
    places = dict.fromkeys(conditions(group[-1]) for group in runs.values())
    title = "\n".join(["Bandwidth reached, by bytes moved", *places])
    finish(figure, panels, path, title)


def points(panel: Any, group: Sequence[Row], families: Sequence[str]) -> None:
    """Draw the figures ``group`` and their ceilings on ``panel``."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for at, name in enumerate(families):
        mine = [row for row in group if family(row["contender"]) == name]
        if mine:
            aside = 1.05 ** (at - len(families) // 2)
            panel.plot(
                [aside * row["gbps"] * row["median_ms"] for row in mine],
                [row["gbps"] for row in mine],
                linestyle="",
                marker=_MARKERS[at % len(_MARKERS)],
                markersize=6,
                color=COLORS[at % len(COLORS)],
                markeredgecolor="#333333",
                markeredgewidth=0.4,
                label=name,
                # ours lie on top of the others
                zorder=4 if name == "graphkit" else 3,
            )
    for field, (word, style, side) in _CEILINGS.items():
        value = group[-1][field]
        panel.axhline(value, color="#333333", linewidth=1, linestyle=style, zorder=2)
        at = panel.get_yaxis_transform()
        text = {"va": side, "ha": "left", "fontsize": 8, "clip_on": False, "transform": at}
        panel.text(1.02, value, f"{word}\n{value:g}", **text)
    panel.set(xscale="log", yscale="log", xlabel="MB moved", ylabel="GB/s")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(NullFormatter())
    panel.grid(color="#e4e4e4", linewidth=0.8, which="major")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    sys.exit(exit_code(main))
