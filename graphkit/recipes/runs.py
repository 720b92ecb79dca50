"""One run of a recipe: its seeds one after another, kept so that it survives being stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

import torch
from rich.console import Console
from torch import Tensor, nn

from ..checkpoint import load_state, random_state, save_state, set_random_state
from ..errors import ConfigError
from . import leaderboard, memory, plots, report
from .loop import Epoch, Problem, Training
from .staged import Staged
from .steady import Patient, Steady, deferred

# seconds between two checkpoints: a kill loses at most these, writing takes milliseconds
INTERVAL = 20.0

# what must be equal for the bits to be equal
_SAME = ("graphkit", "commit", "python", "torch", "numpy", "cpu", "device", "threads")


@dataclass(frozen=True)
class Job:
    """What a recipe hands over, once its options are settled and its data is read.

    ``build`` makes a new model, ``problem(model, seed)`` what it is to learn, ``announce(console,
    model)`` says what is about to happen. ``about`` is kept beside the weights for ``graphkit
    predict``; ``work`` are the multiply-adds of the widest layer; ``data_digest`` tells other data;
    ``submission`` is the file for OGB's form, ``pictures(folder)`` draws what is the recipe's own;
    ``loss`` is what pictures call the loss, where the metric does not say it; ``on_board``: is the
    score that of OGB's leaderboard, where there is one for the data? ``stages(seed)`` are the
    trainings of a seed, where it takes several, which then ``build`` and ``problem`` do not make;
    ``all_epochs`` is how many these have together at most, and ``weights`` says which of the last
    one's are kept for ``graphkit predict``.
    """

    task: str
    title: str
    metric: str
    options: Mapping[str, Any]
    seeds: Sequence[int]
    device: torch.device
    work: int
    data_digest: str
    build: Callable[[], nn.Module]
    problem: Callable[[nn.Module, int], Problem]
    announce: Callable[[Console, nn.Module], None]
    higher: bool = True
    about: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None
    note: str | None = None
    quiet: bool = False
    defects: Sequence[str] = ()
    submission: str | None = None
    on_board: bool = True
    closing: Callable[[report.Record], Sequence[str]] = lambda record: ()
    pictures: Callable[[Path], None] = lambda folder: None
    loss: str | None = None
    stages: Callable[[int], tuple[Staged, Problem]] | None = None
    all_epochs: int | None = None
    weights: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = lambda kept: kept


@dataclass(frozen=True)
class Watch:
    """Who looks on while recipes run, as ``graphkit tune`` does.

    ``begun(job)`` is called before anything is written, ``finished(row)`` after each seed, and for
    the finished seeds of a run that goes on. What they raise ends the run, and its state is kept.
    ``draws(record)`` says whether pictures of a run are wanted.
    """

    begun: Callable[[Job], None] = lambda job: None
    finished: Callable[[report.Row], None] = lambda row: None
    draws: Callable[[report.Record], bool] = lambda record: True


_NOBODY = Watch()
_WATCH: ContextVar[Watch] = ContextVar("watch", default=_NOBODY)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Inside, ``watch`` looks on at every run of this thread."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


@dataclass
class _Progress:
    """How far a run is: finished seeds, their histories, seconds of work so far."""

    rows: list[report.Row]
    histories: dict[int, list[Epoch]]
    seconds: float = 0.0
    num_params: int | None = None


def carry_out(job: Job, out: str | None, resume: str | None) -> report.Record:
    """The record of ``job``, run in a new folder, or in the folder ``resume`` from where it was.

    A run that is killed at any moment goes on from its last checkpoint and ends with the same bits
    as one that was not. Ctrl-C and SIGTERM let the epoch finish, keep it, and raise
    KeyboardInterrupt with the command that goes on; the second one stops at once.

    Raises:
        StoreError: the run folder exists or cannot be written, or there is nothing to resume.
        ConfigError: the machine, a version or the data differ from those of the run to resume, or
            training diverged.
    """
    _WATCH.get().begun(job)
    console = Console(file=cast(IO[str], Steady(sys.stdout)), quiet=job.quiet)
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    # the data may be a path
    data = Path(job.options["data"]).stem
    name = f"{job.task}-{data}-{job.options['model']}-{stamp}"
    memory.reset_peak(job.device)
    if job.submission is not None:
        leaderboard.check_target(job.submission, job.options["data"])
    with ExitStack() as late:
        folder = late.enter_context(report.RunFolder(out, name, resume))
        late.enter_context(memory.threads(job.work))
        so_far, state = _begin(job, folder)
        with memory.seeded(job.seeds[0], job.device):
            model = job.build().to(job.device)
            so_far.num_params = sum(p.numel() for p in model.parameters())
            # to predict the memory takes as long as some epochs
            if not job.quiet:
                job.announce(console, model)
            for defect in job.defects:
                plots.say(console, f"known defect: {defect}")
            del model
        if resume is not None:
            plots.say(console, _resuming(so_far, state, folder))
        patient = late.enter_context(Patient(console))
        try:
            _seeds(job, folder, so_far, state, console, patient)
        except KeyboardInterrupt as error:
            late.enter_context(deferred(deliver=False))
            raise _interrupted(job, folder, so_far, error) from None
        # until all is written: a Ctrl-C must not take away what is finished
        late.enter_context(deferred())
        record = _deliver(job, folder, so_far, finished=True)
        # as long as there is a checkpoint, a run whose form cannot be written can be resumed
        if job.submission is not None:
            leaderboard.write(job.submission, record, job.device, job.options, job.command)
        folder.checkpoint.unlink(missing_ok=True)
    lines = leaderboard.lines(record, job.device) if job.on_board else []
    lines += report.beside(record)
    lines += [job.note] if job.note else []
    lines += [f"peak memory: {record.peak_mb:,.0f} MB", f"run folder:  {record.run}"]
    plots.show(console, record, [*lines, *job.closing(record)])
    plots.seconds_table(console, so_far.histories)
    return record


def _begin(job: Job, folder: report.RunFolder) -> tuple[_Progress, dict[str, Any] | None]:
    """Write the start of a new run, or read how far the one to resume was."""
    environment = memory.environment(job.device)
    if not folder.resumed:
        about = {"command": job.command, "note": job.note, "data_digest": job.data_digest}
        # the configuration last: with it a run has begun, and can be resumed
        folder.write("environment.json", environment)
        folder.write_config(job.task, job.options, **about)
        return _Progress([], {}), None
    kept = folder.read("environment.json")
    for name in unlike(kept, environment):
        raise ConfigError(
            f"--resume: the run in {str(folder.path)!r} had {name} {kept.get(name)!r}, here it "
            f"is {environment[name]!r}, and the result would not be the same. Resume it where "
            "it began, or start a new run."
        )
    config = report.read_config(folder.path, own_data=True)
    began = {**config["options"], "recipe": config["recipe"]}
    now = {**report.kept_options(job.options), "recipe": job.task}
    for name in sorted({*began, *now} - {"root"}):
        if began.get(name) != now.get(name):
            raise ConfigError(
                f"--resume: the run in {str(folder.path)!r} began with {name} "
                f"{began.get(name)!r}, got {now.get(name)!r}. Give the same, or start a new run."
            )
    if config.get("data_digest") != job.data_digest:
        raise ConfigError(
            f"--resume: the run in {str(folder.path)!r} was trained on other data. "
            "Give the same data, or start a new run."
        )
    if not folder.checkpoint.is_file():
        return _Progress([], {}), None
    state = load_state(folder.checkpoint)
    rows = [report.Row(*values) for values in state["rows"]]
    histories = {
        seed: [Epoch(*values) for values in epochs] for seed, epochs in state["histories"].items()
    }
    return _Progress(rows, histories, state["seconds"]), state.get("current")


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs between two environments, and may change the bits of a result."""
    return [name for name in _SAME if one.get(name) != other.get(name)]


def _seeds(
    job: Job,
    folder: report.RunFolder,
    so_far: _Progress,
    state: dict[str, Any] | None,
    console: Console,
    patient: Patient,
) -> None:
    """Run the seeds that are not finished, the first of them from ``state``."""
    began = time.perf_counter() - so_far.seconds
    epochs = job.options["epochs"] if job.all_epochs is None else job.all_epochs
    with plots.Progress(console, job.seeds, epochs) as progress:
        for row in so_far.rows:
            progress.finish(row, silent=True)
            _WATCH.get().finished(row)
        for seed in job.seeds[len(so_far.rows) :]:
            with memory.seeded(seed, job.device):
                training, problem = _prepare(job, seed)
                spent = _restore(training, state, job.device)
                started = time.perf_counter() - spent
                last = time.monotonic()
                for epoch in training.run(problem):
                    progress(epoch)
                    if patient.asked or time.monotonic() - last >= INTERVAL:
                        so_far.seconds = time.perf_counter() - began
                        current = training.state() | {
                            "seed": seed,
                            "seconds": time.perf_counter() - started,
                            "random": random_state(job.device),
                        }
                        _save(folder, so_far, current)
                        last = time.monotonic()
                    patient.obey()
                row = _finish(training, problem, seed, started, job.metric)
            state = None
            # a seed is kept whole or not at all
            with deferred():
                problem.keep(folder.path)
                kept = job.weights(training.kept)
                folder.write_weights(seed, kept, {**job.about, "seed": seed})
                so_far.rows.append(row)
                so_far.histories[seed] = training.history
                so_far.seconds = time.perf_counter() - began
                folder.write_metrics(so_far.histories)
                _save(folder, so_far, None)
            progress.finish(row)
            _WATCH.get().finished(row)
            if seed != job.seeds[-1]:
                patient.obey()


def _prepare(job: Job, seed: int) -> tuple[Training | Staged, Problem]:
    if job.stages is not None:
        return job.stages(seed)
    model = job.build().to(job.device)
    problem = job.problem(model, seed)
    if job.options.get("compile"):
        model.compile()
    names = ("epochs", "patience", "stop", "min_epochs", "select")
    names += ("optimizer", "lr", "weight_decay")
    kept = {name: job.options[name] for name in names if name in job.options}
    return Training(model, **kept, higher=job.higher), problem


def _restore(
    training: Training | Staged, state: dict[str, Any] | None, device: torch.device
) -> float:
    """Bring ``training`` to where ``state`` was; the seconds that were spent on it before."""
    if state is None:
        return 0.0
    training.restore(state)
    set_random_state(state["random"], device)
    return state["seconds"]


def _finish(
    training: Training | Staged, problem: Problem, seed: int, started: float, metric: str
) -> report.Row:
    best, checkpoints = training.finish(), dict[str, Mapping[str, float]]()
    with torch.no_grad():
        test, scores = problem.test(), problem.scores(metric)
        if scores:
            checkpoints[metric] = {"epoch": best.epoch, "val": best.val_score, **scores}
        for by in training.others:
            chosen = training.finish(by)
            about = {"epoch": chosen.epoch, "val": chosen.others[by]}
            checkpoints[by] = {**about, **problem.scores(by)}
    training.finish()
    seconds = time.perf_counter() - started
    epochs = len(training.history)
    scored = best.val_score, test, seconds, problem.beside(), checkpoints
    return report.Row(seed, problem.split, best.epoch, epochs, *scored)


def _save(folder: report.RunFolder, so_far: _Progress, current: dict[str, Any] | None) -> None:
    histories = {
        seed: [list(asdict(epoch).values()) for epoch in epochs]
        for seed, epochs in so_far.histories.items()
    }
    rows = [list(asdict(row).values()) for row in so_far.rows]
    state = {"rows": rows, "histories": histories, "seconds": so_far.seconds, "current": current}
    save_state(folder.checkpoint, state)


def _deliver(
    job: Job, folder: report.RunFolder, so_far: _Progress, finished: bool
) -> report.Record:
    """Write the record and the curves of the finished seeds."""
    most = memory.peak(job.device) / memory.MB
    about = job.task, job.options["data"], job.options["model"], job.metric
    record = report.record(
        *about, so_far.rows, so_far.seconds, most, folder.path, so_far.num_params
    )
    interrupted = {} if finished else {"interrupted": True}
    folder.write(report.RESULT, report.result(record) | interrupted)
    chosen = {row.seed: row.best_epoch for row in so_far.rows}
    if _WATCH.get().draws(record):
        about_it: dict[str, Any] = dict(title=job.title, metric=job.metric, loss=job.loss)
        plots.curves(folder.path, so_far.histories, chosen, **about_it)
        plots.breakdown(folder.path, so_far.histories, title=job.title)
        job.pictures(folder.path)
    return record


def _interrupted(
    job: Job, folder: report.RunFolder, so_far: _Progress, error: KeyboardInterrupt
) -> KeyboardInterrupt:
    """What a stopped run kept and how to go on with it, as the exception to raise."""
    if not folder.checkpoint.is_file():
        return type(error)("Interrupted before the first epoch was complete: nothing is kept.")
    if so_far.rows:
        _deliver(job, folder, so_far, finished=len(so_far.rows) == len(job.seeds))
    return type(error)(
        f"Interrupted: {len(so_far.rows)} of {len(job.seeds)} seeds are finished. To go on: "
        f"{report.resume_command(folder.path)}"
    )


def _resuming(so_far: _Progress, state: dict[str, Any] | None, folder: report.RunFolder) -> str:
    done = f"{len(so_far.rows)} seeds finished"
    if state is not None:
        done += f", seed {state['seed']} after epoch {len(state['history'])}"
    return f"resuming {folder.path}: {done}"
