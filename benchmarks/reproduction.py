"""Tables of published figures: keep what `graphkit reproduce` measured, and write the docs' page.

graphkit reproduce dagnn --out runs/dagnn            run a table
python benchmarks/reproduction.py runs/dagnn         keep its figures, write docs/reproduction.md
python benchmarks/reproduction.py                    write the page from the kept figures
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphkit.recipes.presets import PRESETS
from graphkit.recipes.reproduce import TABLES
from graphkit.store import atomic

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "reproduction"
PAGE = ROOT / "docs" / "reproduction.md"

HEAD = """\
# Published figures, run again

`graphkit reproduce TABLE` trains the presets of a table and puts its figures beside the published
ones. Ours are means ± unbiased standard deviations over the presets' splits or seeds, of the epoch
that the validation nodes or graphs choose; the settings are the published ones, which most authors
searched by test accuracy, or the recipe's own where no figure is published, and in `rqgnn-tuned`
those of searches by validation. Scores are in percent, errors in the unit of the labels. The
difference is counted in pooled standard deviations: the root of the mean of both variances. Rows
without a figure were not run: their data was not there, or the table was stopped; of those for
which nothing is published there is no row at all. Seconds are those of the clock, mostly with
other work beside. Written by `python benchmarks/reproduction.py` from the files in
[benchmarks/results/reproduction](../benchmarks/results/reproduction).
"""


def keep(folder: Path) -> Path:
    """The rows measured in ``folder``, without the places of their runs, among the kept ones.

    Each has the machine and commit of its run. Rows kept before stay unless they were run again.
    """
    content = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    path = RESULTS / f"{content['table']}.json"
    rows = {row["preset"]: row for row in _kept(path)}
    for row in content["rows"]:
        ran = Path(row.pop("run") or ".") / "environment.json"
        if row["ours"] is None:
            rows.setdefault(row["preset"], row)
            continue
        own = json.loads(ran.read_text(encoding="utf-8")) if ran.is_file() else {}
        rows[row["preset"]] = row | {"environment": own or content["environment"]}
    order = list(PRESETS)
    chosen = sorted(rows.values(), key=lambda row: order.index(row["preset"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as side:
        table = {"table": content["table"], "rows": chosen}
        side.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def _kept(path: Path) -> list[dict[str, Any]]:
    """The rows of presets that are in the kept table ``path``."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["preset"] in PRESETS]


def page() -> str:
    """The page of all kept tables, in the order of the command line's."""
    parts = [HEAD]
    for name in TABLES:
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts.append(_section(json.loads(path.read_text(encoding="utf-8"))))
    return "\n".join(parts)


def _section(content: Mapping[str, Any]) -> str:
    kept = {row["preset"]: row for row in content["rows"]}
    # scores that chose epochs of their own, which not all tables have
    others = list(dict.fromkeys(name for row in kept.values() for name in row.get("also", ())))
    heads = ["preset", "data", "model", "ours", *others]
    heads += ["published", "difference", "seeds", "seconds"]
    lines = [f"## {content['table']}\n", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for preset in PRESETS.values():
        if preset.table != content["table"]:
            continue
        row = kept.get(preset.name, {"ours": None, "why": "not run"})
        if row["ours"] is None and not preset.published:
            continue
        ours = _figure(row["ours"], row.get("ours_std")) if row["ours"] is not None else row["why"]
        gap = row.get("difference")
        cells = (f"`{preset.name}`", preset.values["data"], preset.values["model"], ours)
        also = row.get("also", {})
        cells += tuple(_figure(*also[name]) if name in also else "" for name in others)
        cells += (preset.published or "-", "" if gap is None else f"{gap:+.2f}")
        measured = row["ours"] is not None
        cells += (str(row["seeds"]), f"{row['seconds']:.0f}") if measured else ("", "")
        lines.append(f"| {' | '.join(cells)} |")
    sources = dict.fromkeys(row["source"] for row in kept.values() if row["source"])
    lines += ["", *(f"Published: {source}.  " for source in sources)]
    ran: dict[str, list[str]] = {}
    for row in kept.values():
        if row["ours"] is not None:
            machine = row["environment"]
            about = f"{machine['cpu']}, threads: {machine['threads']}, torch {machine['torch']}"
            ran.setdefault(f"{about}, commit `{machine['commit'][:7]}`", []).append(row["preset"])
    lines.append(f"`graphkit reproduce {content['table']}`, run on")
    for about, presets in ran.items():
        which = "" if len(ran) == 1 else ": " + ", ".join(f"`{name}`" for name in presets)
        lines.append(f"- {about}{which}")
    return "\n".join([*lines, ""])


def _figure(mean: float, std: float | None) -> str:
    return f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="folders of graphkit reproduce")
    for folder in parser.parse_args().folders:
        print(f"kept:  {keep(folder).relative_to(ROOT)}")
    with atomic(PAGE) as side:
        side.write_text(page(), encoding="utf-8")
    print(f"wrote: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
