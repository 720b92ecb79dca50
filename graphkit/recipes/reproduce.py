"""Tables of published figures beside ours: the presets that are rows of one table, run in turn."""

# annotations are evaluated here: the command line takes its types from them
import json
import math
import re
import statistics
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from ..data import available, card
from ..errors import ConfigError, StoreError, nearest
from ..metrics import LOWER_IS_BETTER
from ..store import atomic
from . import plots, report
from .presets import PRESETS, Preset

TABLES = tuple(dict.fromkeys(preset.table for preset in PRESETS.values() if preset.table))
PUBLISHED = re.compile(r"^([0-9.]+)(?: ± ([0-9.]+))?$")


@dataclass(frozen=True)
class Line:
    """One row of a table. Scores are in percent, errors in the unit of the labels.

    ``difference`` is ours less the published figure in pooled standard deviations, the root of the
    mean of both variances; None where one of them is not known. ``ours`` is None where the row was
    not run, and ``why`` says why. ``also`` has, by other scores that chose epochs of their own, the
    mean and deviation of that score there, ``beside`` those of further scores of the test part.
    """

    preset: str
    data: str
    model: str
    metric: str = ""
    ours: float | None = None
    ours_std: float | None = None
    published: float | None = None
    published_std: float | None = None
    difference: float | None = None
    seeds: int = 0
    seconds: float | None = None
    source: str = ""
    why: str = ""
    run: str = ""
    also: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    beside: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


def reproduce(
    table: str,
    *,
    seeds: str | None = None,
    only: str | None = None,
    root: str | None = None,
    out: str | None = None,
    quiet: bool = False,
) -> list[Line]:
    """Run the presets of a table of published figures, and put ours beside them.

    Every epoch is chosen by validation. Rows whose data are not here say so. A table that is
    stopped goes on where it was when the same command is given again; finished rows are kept, those
    that ``only`` leaves out too.

    Args:
        table: name of the table
        seeds: seeds to run instead of the presets' own, such as 0-9; on ready-made splits, seed i
            takes split i
        only: run only the presets whose names have this in them
        root: folder of downloaded data sets
        out: folder of the table and its runs (default: runs/reproduce-TABLE)
        quiet: print nothing

    Raises:
        ConfigError: there is no such table, or no preset of it has ``only`` in its name.
        StoreError: a row was run with other options in this folder, or it cannot be written.
    """
    if table not in TABLES:
        raise ConfigError(f"Unknown table {table!r}. {nearest(table, TABLES)}")
    chosen = [p for p in PRESETS.values() if p.table == table and (only or "") in p.name]
    if not chosen:
        raise ConfigError(f"only is {only!r}, which no preset of the table {table!r} has in it.")
    if seeds is not None:
        report.parse_seeds(seeds)
    folder = Path(out or f"runs/reproduce-{table}")
    console = Console(quiet=quiet)
    here = {row["name"] for row in available(root) if row["present"]}
    others, lines = _others(folder, {p.name for p in chosen}), list[Line]()
    for number, preset in enumerate(chosen, 1):
        plots.say(console, f"row {number} of {len(chosen)}: {preset.name}")
        if card(preset.values["data"]).name in here:
            path, options = folder / preset.name, {} if seeds is None else {"seeds": seeds}
            for name in filter(preset.values.__contains__, ("start", "teacher_run")):
                # another row of the table
                options[name] = str((folder / preset.values[name]).absolute())
            wanted = {**preset.values, **options}
            begin = partial(preset, **options, root=root, out=str(path), quiet=quiet)
            lines.append(_line(preset, run_in(path, preset.recipe, wanted, begin, quiet)))
        else:
            why = f"no data here: graphkit data get {preset.values['data']}"
            plots.say(console, why)
            lines.append(_blank(preset, why))
        # rows that are there are of use before the last one is
        _write(folder, table, [*others, *lines])
    _show(console, table, lines)
    kept = f"table:       {folder / 'table.md'} and table.json, runs beside them"
    plots.say(console, f"{kept}\ntry next:    graphkit train {chosen[0].name} --help")
    return lines


def run_in(
    path: Path,
    recipe: Callable[..., report.Record],
    wanted: Mapping[str, Any],
    begin: Callable[[], Any],
    quiet: bool,
) -> Mapping[str, Any]:
    """The result of a run in ``path``: as it lies there, gone on with, or begun by ``begin``.

    Raises:
        StoreError: a run with other options than ``wanted`` lies there.
    """
    if (path / "config.json").is_file():
        config = report.read_config(path)
        for name, value in wanted.items():
            if name in ("data", "model_options"):
                continue
            if report.word(config["options"].get(name)) != report.word(value):
                raise StoreError(
                    f"{path} holds a run with {name} {config['options'].get(name)!r}, but "
                    f"{value!r} is asked for now. Give another --out, or remove that folder."
                )
        stopped = not (path / report.RESULT).is_file() or (path / report.CHECKPOINT).is_file()
        if stopped:
            again = {name: config.get(name) for name in ("command", "note")}
            recipe(**{**config["options"], **again, "quiet": quiet, "resume": str(path)})
    else:
        begin()
    return report.read_json(path / report.RESULT)


def _line(preset: Preset, record: Mapping[str, Any]) -> Line:
    scale = 1 if record["metric"] in LOWER_IS_BETTER else 100
    ours, std = scale * record["test_mean"], record["test_std"]
    std = None if std is None else scale * std
    published, published_std = _published(preset)
    difference = None
    if None not in (published, published_std, std):
        pooled = math.sqrt((std**2 + published_std**2) / 2)  # pyright: ignore[reportOperatorIssue,reportOptionalOperand]
        difference = (ours - published) / pooled if pooled else None  # pyright: ignore[reportOperatorIssue]
    return Line(
        **_named(preset),
        metric=record["metric"],
        ours=ours,
        ours_std=std,
        published=published,
        published_std=published_std,
        difference=difference,
        seeds=len(record["seeds"]),
        seconds=record["seconds"],
        source=preset.source,
        run=record["run"],
        also=_also(record),
        beside={name: _beside(record, name) for name in preset.shown},
    )


def _beside(record: Mapping[str, Any], name: str) -> list[float | None]:
    values = [100 * row["beside"][name] for row in record["rows"]]
    return [statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None]


def _also(record: Mapping[str, Any]) -> dict[str, list[float | None]]:
    found = report.checkpoint_scores([report.Row(**row) for row in record["rows"]])
    return {
        by: [None if value is None else 100 * value for value in scores[by]]
        for by, scores in found.items()
        if by != record["metric"]
    }


def _blank(preset: Preset, why: str) -> Line:
    published, std = _published(preset)
    about = dict(published=published, published_std=std, source=preset.source, why=why)
    return Line(**_named(preset), **about)  # pyright: ignore[reportArgumentType]


def _named(preset: Preset) -> dict[str, str]:
    return {"preset": preset.name, "data": preset.values["data"], "model": preset.values["model"]}


def _published(preset: Preset) -> tuple[float | None, float | None]:
    found = PUBLISHED.match(preset.published)
    if found is None:
        return None, None
    return float(found[1]), None if found[2] is None else float(found[2])


def _others(folder: Path, names: Container[str]) -> list[Line]:
    """The finished rows of the table in ``folder``, but those of ``names`` and of no preset."""
    path = folder / "table.json"
    if not path.is_file():
        return []
    try:
        found = [Line(**row) for row in report.read_json(path)["rows"]]
    except (LookupError, TypeError) as error:
        raise StoreError(f"{path} is not a table of ours: {error!r}. Remove it.") from error
    found = [line for line in found if line.ours is not None and line.preset in PRESETS]
    return [line for line in found if line.preset not in names]


def _write(folder: Path, table: str, lines: Sequence[Line]) -> None:
    """Write ``table.json`` and ``table.md``, with the machine of the last run."""
    machine, order = {}, list(PRESETS)
    for line in reversed(lines):
        if line.run and (Path(line.run) / "environment.json").is_file():
            machine = report.read_json(Path(line.run) / "environment.json")
            break
    lines = sorted(lines, key=lambda line: order.index(line.preset))
    folder.mkdir(parents=True, exist_ok=True)
    content = {"table": table, "rows": [asdict(line) for line in lines], "environment": machine}
    with atomic(folder / "table.json") as side:
        side.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    rows = _table(lines)
    text = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
    text += [f"| {' | '.join(row.values())} |" for row in rows]
    sources = dict.fromkeys(line.source for line in lines if line.source)
    text += ["", *(f"Published: {source}." for source in sources)]
    text += [f"Machine: {machine['cpu']}, {machine['threads']} threads."] if machine else []
    with atomic(folder / "table.md") as side:
        side.write_text("\n".join(text) + "\n", encoding="utf-8")


def _table(lines: Sequence[Line]) -> list[dict[str, str]]:
    """The rows as text, with the same columns; other scores are of epochs that these chose."""
    others = dict.fromkeys(name for line in lines for name in (*line.beside, *line.also))
    return [_cells(line, list(others)) for line in lines]


def _cells(line: Line, others: Sequence[str] = ()) -> dict[str, str]:
    """A row as text; the difference is in pooled standard deviations."""
    found = {**line.beside, **line.also}
    return {
        "preset": line.preset,
        "ours": _figure(line.ours, line.ours_std) or line.why,
        **{name: _figure(*found.get(name, (None, None))) for name in others},
        "published": _figure(line.published, line.published_std) or "-",
        "difference, std": "" if line.difference is None else f"{line.difference:+.2f}",
        "seeds": str(line.seeds or ""),
        "seconds": "" if line.seconds is None else f"{line.seconds:.0f}",
    }


def _figure(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")


def _show(console: Console, table: str, lines: Sequence[Line]) -> None:
    console.print(f"\n{table}: ours and published", style="bold")
    if not console.quiet:
        plots.show_rows(_table(lines))


def listing() -> str:
    """The tables and how many rows each has, for the help of the command line."""
    counts = {t: sum(p.table == t for p in PRESETS.values()) for t in TABLES}
    return "\n".join(["tables:", *(f"  {name:<16}{count} rows" for name, count in counts.items())])
