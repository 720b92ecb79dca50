"""Times the contenders of a benchmark against each other: python benchmarks/run.py NAME [--quick]

NAME is a file below benchmarks/ (spmm), or the path of one of your own. README.md says how the
figures come about and how an entry is written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

# the checkout that holds this file is what is measured, whatever is installed
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine, memory, peer, show
from benchmarks.bandwidth import bandwidth
from benchmarks.entry import FOLDER, Entry, exit_code, find, read
from benchmarks.measure import Contest, contest, ratio, spread
from graphkit.errors import ConfigError, GraphkitError, StoreError, nearest, need

# rounds that are timed, and before them rounds that are not
ROUNDS, WARMUP = 15, 2
QUICK_ROUNDS, QUICK_WARMUP = 4, 1
# cores in use by others from which on a figure is not to be trusted
BUSY = 0.15


@dataclass(frozen=True)
class Settings:
    """What was asked for, and what holds for every row of the run."""

    entry: Entry
    cases: Sequence[Mapping[str, Any]]
    quick: bool
    rounds: int
    out: Path
    shared: Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; 0, or 1 if a contender was wrong or failed.

    Raises:
        ConfigError: unknown benchmark or option value.
        GraphkitError: the benchmark's tests fail, so that nothing is measured.
        StoreError: the results or the plot cannot be written.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(words)
    console = Console(file=sys.stderr if options.json else sys.stdout)
    if options.redraw:
        _redraw(console, options)
        return 0
    began, before = time.monotonic(), torch.get_num_threads()
    try:
        peer.interpreter = options.dgl
        torch.set_num_threads(options.threads or before)
        settings = _settings(options)
        rows = _measure(settings, console, options)
    finally:
        torch.set_num_threads(before)
        peer.interpreter = None
    show.tables(console, rows)
    if options.plot:
        _written(options.plot, lambda: show.plot(rows, options.plot, settings.entry.title))
    _conclude(console, settings, rows, options, time.monotonic() - began)
    return int(any(row["status"] in ("wrong", "failed") for row in rows))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. See python benchmarks/run.py --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(allow_abbrev=False, prog="run.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="the benchmark")
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument("--only", metavar="KEY=VALUE,...", help="cases that have these values")
    parser.add_argument("--json", action="store_true", help="rows on standard output, alone")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append to this results file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the run (svg, png, pdf)")
    parser.add_argument("--redraw", action="store_true", help="draw the newest kept run, no more")
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads of torch")
    parser.add_argument("--rounds", type=_positive, metavar="N", help=f"[{ROUNDS}]")
    parser.add_argument("--dgl", metavar="PYTHON", help="another Python, which has DGL")
    parser.add_argument("--skip-tests", action="store_true", help="noted in every row")
    parser.add_argument("--skip-memory", action="store_true", help="times alone, much sooner")
    return parser


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _results(entry: Entry, options: argparse.Namespace) -> Path:
    return options.out or FOLDER / "results" / f"{entry.name}.jsonl"


def _redraw(console: Console, options: argparse.Namespace) -> None:
    if options.plot is None:
        raise ConfigError("--redraw needs a file to draw to. Add --plot FILE.")
    entry = read(find(options.name))
    rows = show.last_run(_results(entry, options))
    show.tables(console, rows)
    _written(options.plot, lambda: show.plot(rows, options.plot, entry.title))
    _say(console, [f"Plot of the run of {rows[0]['run']}: {os.path.relpath(options.plot)}"])


def _settings(options: argparse.Namespace) -> Settings:
    entry = read(find(options.name))
    out = _results(entry, options)
    for path in filter(None, (out, options.plot)):
        if not path.parent.is_dir():
            raise StoreError(f"{path} cannot be written: its folder is not there. Make it first.")
    shared = {
        "benchmark": entry.name,
        "run": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": command(entry, options),
        "quick": options.quick,
        "load_start": machine.load(),
        "machine": machine.describe(),
    }
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    return Settings(entry, _cases(entry, options), options.quick, rounds, out, shared)


def _cases(entry: Entry, options: argparse.Namespace) -> Sequence[Mapping[str, Any]]:
    """The cases of the entry, or those of them that ``--only`` asks for."""
    cases = entry.cases(options.quick)
    for wanted in (options.only or "").split(",") if options.only else ():
        key, _, value = wanted.partition("=")
        known = sorted({str(case[key]) for case in entry.cases(options.quick) if key in case})
        if not known:
            raise ConfigError(
                f"--only is {options.only!r}, but no case has {key!r}. {nearest(key, cases[0])}"
            )
        cases = [case for case in cases if str(case.get(key)) == value]
        if not cases:
            raise ConfigError(
                f"--only is {options.only!r}, which fits no case: {key} is {', '.join(known)}."
            )
    return cases


def command(entry: Entry, options: argparse.Namespace) -> str:
    """The command that repeats the run, without where its results and plot went."""
    words = ["python", "benchmarks/run.py", entry.name]
    words += [
        f"--{name}"
        for name in ("quick", "skip-tests", "skip-memory")
        if vars(options)[name.replace("-", "_")]
    ]
    for name in ("only", "threads", "rounds"):
        words += [f"--{name}", str(vars(options)[name])] if vars(options)[name] else []
    # of that Python its place is nobody's business
    words += ["--dgl", "PYTHON"] if options.dgl else []
    return shlex.join(words)


def _measure(
    settings: Settings, console: Console, options: argparse.Namespace
) -> list[dict[str, Any]]:
    entry, cases = settings.entry, settings.cases
    rows: list[dict[str, Any]] = []
    warmup = QUICK_WARMUP if settings.quick else WARMUP
    warmup = warmup if entry.warmup is None else entry.warmup
    with _progress(console, len(cases)) as tell:
        watched = (
            [] if options.skip_memory else [len(cases) - 1] if settings.quick else range(len(cases))
        )
        tell("memory" if options.skip_tests else "tests and memory")
        state, peaks = _before(settings, cases, options.skip_tests, watched)
        tell("bandwidth of this machine")
        shared = {**settings.shared, "tests": state, **bandwidth()}
        for number, params in enumerate(cases):
            label = " ".join(f"{key}={value}" for key, value in params.items())
            others = machine.Others()
            results = contest(
                entry,
                params,
                settings.rounds,
                warmup,
                lambda text, at=label: tell(f"{at}: {text}"),
            )
            shared |= {"others_cores": others.cores(), "load_end": machine.load()}
            new = [
                {**shared, **figures(entry, params, name, results), **peaks[name][number]}
                for name in results
            ]
            _written(settings.out, lambda lines=new: _append(settings.out, lines))
            if options.json:
                print(*(json.dumps(row, allow_nan=False) for row in new), sep="\n", flush=True)
            rows += new
            tell(label, done=True)
    return rows


def _before(
    settings: Settings,
    cases: Sequence[Mapping[str, Any]],
    skip_tests: bool,
    watched: Sequence[int],
) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """How the tests went, and each contender's peaks in the cases ``watched``: neither is timed, so
    two run at a time."""
    entry, threads = settings.entry, torch.get_num_threads()
    peaks = {name: [memory.NONE] * len(cases) for name in entry.contenders}

    def watch(name: str) -> None:
        entered = [at for at in watched if name in entry.names(cases[at])]
        if entered:
            found = memory.peaks(entry, name, [cases[at] for at in entered], threads)
            for at, one in zip(entered, found, strict=True):
                peaks[name][at] = one

    with ThreadPoolExecutor(2) as pool:
        tests = None if skip_tests else pool.submit(run_tests, entry)
        jobs = [pool.submit(watch, name) for name in entry.contenders]
        try:
            state = "skipped by --skip-tests" if tests is None else tests.result()
        except GraphkitError:
            pool.shutdown(cancel_futures=True)
            raise
        for job in jobs:
            job.result()
    return state, peaks


def figures(
    entry: Entry, params: Mapping[str, Any], name: str, results: Mapping[str, Contest]
) -> dict[str, Any]:
    """What a row says of the contender ``name``: times are None unless its status is ok.

    ``gbps`` are the bytes of the entry's formula over the median time.
    """
    mine, base = results[name], results.get(entry.baseline, Contest(status="absent"))
    row: dict[str, Any] = {
        "case": dict(params),
        "contender": name,
        "process": mine.process,
        "status": mine.status,
        "reason": mine.reason,
        "error": mine.error,
        "rounds": len(mine.seconds),
        **dict.fromkeys(("median_ms", "p10_ms", "p90_ms", "gbps")),
        "baseline": entry.baseline,
        **dict.fromkeys(("ratio", "ratio_p10", "ratio_p90")),
    }
    if mine.status != "ok":
        return row
    times = spread(mine.seconds)
    row |= {f"{key}_ms": round(1e3 * getattr(times, key), 4) for key in ("median", "p10", "p90")}
    moved = None if entry.bytes_moved is None else entry.bytes_moved(**params)
    if moved is not None:
        row["gbps"] = round(moved / times.median / 1e9, 2)
    if base.status == "ok":
        against = ratio(mine.seconds, base.seconds)
        row["ratio"] = round(against.median, 4)
        row |= {f"ratio_{key}": round(getattr(against, key), 4) for key in ("p10", "p90")}
    return row


def run_tests(entry: Entry) -> str:
    """``passed``, after the entry's tests were green in a process of their own.

    Raises:
        BackendError: pytest is not installed.
        GraphkitError: they were not green.
    """
    need("pytest", "test")
    words = [sys.executable, "-m", "pytest", *entry.tests, "-x", "-q", "-p", "no:cacheprovider"]
    environment = memory.child_environment()
    done = subprocess.run(words, cwd=FOLDER.parent, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        raise GraphkitError(
            f"The tests of the benchmark {entry.name!r} are not green (exit code "
            f"{done.returncode}): {(last or ['no test ran'])[0]}. What is not correct is not "
            f"timed; see python -m pytest {shlex.join(entry.tests)}"
        )
    return "passed"


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[Any]:
    bar = Progress(
        BarColumn(20),
        TextColumn("{task.completed}/{task.total} cases  {task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=total)

        def tell(text: str, done: bool = False) -> None:
            bar.update(task, description=text, advance=int(done))
            if done and not console.is_terminal:
                print(f"done: {text}", file=console.file, flush=True)

        yield tell


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    lines = [json.dumps(row, allow_nan=False) + "\n" for row in rows]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(lines)


def _written(path: Path, write: Any) -> None:
    try:
        write()
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be written: {error}.") from error


def _conclude(
    console: Console,
    settings: Settings,
    rows: Sequence[Mapping[str, Any]],
    options: argparse.Namespace,
    seconds: float,
) -> None:
    last, good = rows[-1], sum(row["status"] == "ok" for row in rows)
    found = settings.shared["machine"]
    lines = [
        *show.reasons(rows),
        f"{good} figures of {settings.entry.name} in {seconds:.0f} s: {settings.rounds} "
        f"interleaved rounds, ratios to {settings.entry.baseline!r}, tests {last['tests']}.",
        *show.processes(rows),
        f"{found['cpu']}, {found['threads']} threads, allocator {found['allocator']}, huge pages "
        f"{found['huge_pages']}; copy {last['copy_gbps']} GB/s, gather of 512 B rows "
        f"{last['gather_512b_gbps']} GB/s, load {last['load_start']} to {last['load_end']}.",
    ]
    most = max((row["others_cores"] or 0 for row in rows), default=0)
    if most > BUSY:
        lines.append(
            f"Warning: others used up to {most} cores meanwhile. Trust the ratios a little, the "
            "times not at all; measure again on a quiet machine."
        )
    lines.append(f"Rows: {os.path.relpath(settings.out)}")
    lines += [f"Plot: {os.path.relpath(options.plot)}"] if options.plot else []
    again = f"python benchmarks/run.py {settings.entry.name}"
    lines.append(
        f"Next: all cases with {again}"
        if settings.quick
        else "Next: commit the rows"
        + ("." if options.plot else f", or draw them: {again} --plot FILE")
    )
    _say(console, lines)


def _say(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)


if __name__ == "__main__":
    sys.exit(exit_code(main, "cases"))
