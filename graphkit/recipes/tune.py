"""``graphkit tune``: search the options of a recipe by validation scores. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
import inspect
import json
import operator
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from rich.console import Console

from ..errors import ConfigError, StoreError, nearest, need
from . import memory, report, runs, study_plots
from .options import pairs_of
from .presets import Preset
from .space import Dimension, Space, read_space, usual_space
from .steady import Steady, deferred
from .study import Study, Trial

if TYPE_CHECKING:
    Recipe = Callable[..., report.Record]

SETTINGS = "study.json"
TRIALS = 50
# what tune has its own of, or what is of one run
_OWN = ("out", "quiet", "resume", "command", "note", "submission")


@dataclass(frozen=True)
class Tuned:
    """What a search found: the ``best`` options, their scores, and the folder of their run.

    ``test_mean`` is the test score of the best trial alone, ``trials`` are all in their order.
    """

    recipe: str
    data: str
    model: str
    metric: str
    best: dict[str, Any]
    val_mean: float
    val_std: float | None
    test_mean: float
    test_std: float | None
    trials: tuple[Trial, ...]
    command: str | None
    run: str
    folder: str

    def to_json(self) -> str:
        """One line of JSON, with numbers of trials in place of the trials."""
        counts = {
            state: sum(trial.state == state for trial in self.trials)
            for state in ("complete", "pruned", "failed")
        }
        return json.dumps({**asdict(self), "trials": counts}, allow_nan=False)


@dataclass(frozen=True)
class _Plan:
    """What is searched: ``call`` is the recipe, or the preset, ``options`` are those given."""

    call: "Recipe"
    options: Mapping[str, Any]
    space: Space
    trials: int
    sampler: str
    prune: str
    search_seed: int

    @property
    def recipe(self) -> "Recipe":
        return self.call.recipe if isinstance(self.call, Preset) else self.call

    @property
    def target(self) -> str:
        return self.call.name if isinstance(self.call, Preset) else self.call.__name__

    def chosen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a trial with these ``values``; those of the model become one option."""
        plain = {name: value for name, value in values.items() if "." not in name}
        own = {name.partition(".")[2]: values[name] for name in values if "." in name}
        options = {**self.options, **plain}
        if own:
            own = {**pairs_of(_base(self.call, options)["model_options"]), **own}
            words = (f"{name}={report.word(value)}" for name, value in own.items())
            options["model_options"] = ",".join(words)
        return options


class StudyFolder(report.RunFolder):
    """The folder of a search, kept as :class:`report.RunFolder` keeps that of a run."""

    CONFIG, VERB = SETTINGS, "tune"

    def worth_keeping(self) -> bool:
        begun = any(self.path.glob(f"trials/*/{report.CHECKPOINT}"))
        return begun or (self.path / "table.json").is_file()

    def trial(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.path / "trials" / str(number)

    def tidy(self, *kept: int) -> None:
        """Remove the folders of all trials but ``kept``: their weights would fill the disk."""
        for path in self.path.glob("trials/*"):
            if path.name not in map(str, kept):
                shutil.rmtree(path, ignore_errors=True)


class _Hopeless(Exception):
    """The trial is pruned."""


class _Seen(Exception):
    """A run is known, and is not to begin."""

    def __init__(self, job: runs.Job) -> None:
        self.job = job


def tune(
    recipe: "Callable[..., report.Record]",
    *,
    space: "str | Path | Mapping[str, Any] | None" = None,
    trials: int | None = None,
    sampler: Literal["tpe", "random", "grid"] = "tpe",
    prune: Literal["median", "none"] = "median",
    search_seed: int = 0,
    out: str | None = None,
    quiet: bool = False,
    resume: "str | None" = None,
    **options: Any,
) -> Tuned:
    """Search options of a recipe with Optuna, ranked by the mean validation score alone.

    Each trial runs the recipe with all its seeds, and the best one's test score is shown once, at
    the end. The folder has the study (study.db, of Optuna), the table of trials (table.md and
    table.json), pictures (history and slices, .png and .svg) and the run folder of the best trial;
    those of the others are removed, and with them their weights and test scores. The same options
    and seeds give the same trials on the same machine.

    A search that is stopped, by Ctrl-C, SIGTERM or a kill, goes on with graphkit tune --resume, in
    the middle of the trial it was at; --trials then asks for more. A trial that diverges, runs out
    of memory or has options that do not go together is noted as failed, and the search goes on.

    Args:
        recipe: recipe or preset whose options are searched
        space: what is searched: entries such as "lr=0.01,0.05; dropout=0:0.9:0.1; hidden=16..256;
            weight_decay=1e-6..1e-2 log; model_options.hops=5,10", or a file of them; the published
            space of the model if not given, without the options that are
        trials: trials to run, those before a resume counted (default: 50; with grid all points)
        sampler: tpe learns from the trials before, random does not, grid takes every point once
        prune: median stops a trial whose mean after two or more seeds is worse than the median of
            the complete trials, once there are five, over the same seeds
        search_seed: seed of the sampler; seeds are those of the trainings
        out: folder to make; must not exist (default: runs/tune-DATA-MODEL-TIME)
        quiet: print nothing
        resume: folder of a search that was stopped, to go on in with the options it began with
        options: options of the recipe, the same in all trials

    Raises:
        ConfigError: an option or an entry of the space is unknown or out of place, or no trial
            came to its end.
        DataError: the data set is unknown or malformed, or lacks a split.
        StoreError: the folder exists or cannot be written, or there is no search to resume.
        BackendError: optuna is not installed, or the device is not there.
    """
    need("optuna", "tune")
    if resume is None:
        plan = _planned(recipe, space, options, trials, sampler, prune, search_seed)
    else:
        asked = {"space": space, "sampler": sampler, "prune": prune, "search_seed": search_seed}
        usual = report.defaults(tune)
        given = {name: value for name, value in asked.items() if value != usual[name]}
        given |= {"out": out, **options}
        plan = _kept(recipe, Path(resume), given, trials)
    job = _looked(plan)
    console = Console(file=cast(IO[str], Steady(sys.stdout)), quiet=quiet)
    data = Path(job.options["data"]).stem
    name = f"tune-{data}-{job.options['model']}-{datetime.now():%Y%m%d-%H%M%S}"
    with StudyFolder(out, name, resume) as folder:
        elsewhere = _begin(folder, plan, job, console)
        facts: dict[str, Any] = dict(higher=job.higher, sampler=plan.sampler, seed=plan.search_seed)
        with Study(folder.path / "study.db", plan.space, **facts) as study:
            if elsewhere:
                shutil.rmtree(folder.trial(len(study.trials)), ignore_errors=True)
            try:
                _search(folder, plan, job, study, console)
            except KeyboardInterrupt as error:
                with deferred(deliver=False):
                    raise _interrupted(folder, plan, job, study, error) from None
            # until all is written: a Ctrl-C must not take away what is finished
            with deferred():
                _write(folder, plan, job, study, pictures=True)
                tuned = _best(folder, plan, job, study)
                _write(folder, plan, job, study, tuned)
            _tell(console, folder, plan, job, study, tuned)
    return tuned


def _planned(
    call: "Recipe",
    space: Any,
    options: Mapping[str, Any],
    trials: int | None,
    sampler: str,
    prune: str,
    search_seed: int,
) -> _Plan:
    """What is to be searched, checked as far as it can be without data."""
    for name, value, known in (
        ("sampler", sampler, ("tpe", "random", "grid")),
        ("prune", prune, ("median", "none")),
    ):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}, but {' or '.join(known)} is expected.")
    seed = _whole("search_seed", search_seed, 0)
    plan = _Plan(call, options, Space(()), 0, sampler, prune, seed)
    known = [name for name in inspect.signature(plan.recipe).parameters if name not in _OWN]
    for name in options:
        if name not in known:
            raise ConfigError(f"{plan.target}: unknown option {name!r}. {nearest(name, known)}")
    found = _space(plan, space)
    size = found.size
    if sampler == "grid" and size is None:
        endless = next(one.name for one in found.dimensions if one.size is None)
        raise ConfigError(
            f"sampler grid: {endless} has no end of values. Name them, or give steps such as "
            f"{endless}=0.1:0.9:0.2."
        )
    goal = TRIALS if sampler != "grid" or size is None else size
    if trials is not None:
        goal = _whole("trials", trials, 1)
    return replace(plan, space=found, trials=goal if size is None else min(goal, size))


def _space(plan: _Plan, space: Any) -> Space:
    """The space that is given, or the one of the model without the options that are."""
    model = str(_base(plan.call, plan.options)["model"]).lower()
    if space is not None:
        found = read_space(space, plan.recipe, model)
        for one in found.dimensions:
            if one.name in plan.options:
                raise ConfigError(
                    f"{one.name} is given, {report.word(plan.options[one.name])}, and searched "
                    "too. Leave it out, or take it out of the space."
                )
        return found
    found = usual_space(model, plan.recipe)
    given = [*plan.options]
    given += [f"model_options.{name}" for name in pairs_of(plan.options.get("model_options", ""))]
    left = found.without(given)
    if not left.dimensions:
        raise ConfigError(
            f"All that is searched of {model} by itself is given: {found}. Leave out one of these, "
            "or say with --space what else to search."
        )
    return left


def _kept(call: "Recipe", folder: Path, given: Mapping[str, Any], trials: int | None) -> _Plan:
    """The plan of the search in ``folder``, with another number of trials if one is given."""
    settings = read_settings(folder)
    own = settings["options"].get("data") == "custom"
    for name, value in given.items():
        if value is not None and not (name == "data" and own):
            raise ConfigError(
                f"--resume takes the options that the search began with, got {name} too. "
                "Leave it out, or start a new search."
            )
    if own and given.get("data") is None:
        raise ConfigError(f"{folder} searched on data of your own. Resume it from Python with it.")
    space = Space(tuple(_dimension(one) for one in settings["space"]), settings["origin"])
    options = {**settings["options"], **({"data": given["data"]} if own else {})}
    rest = [settings[name] for name in ("trials", "sampler", "prune", "search_seed")]
    plan = _Plan(call, options, space, *rest)
    if plan.target != settings["target"]:
        raise ConfigError(
            f"--resume: {folder} searched {settings['target']}, got {plan.target}. Give the same."
        )
    goal = plan.trials if trials is None else _whole("trials", trials, 1)
    return replace(plan, trials=goal if space.size is None else min(goal, space.size))


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of the search in ``folder``; StoreError if there is none."""
    path = folder / SETTINGS
    if not path.is_file():
        raise StoreError(
            f"{str(folder)!r} is not the folder of a search: it holds no {SETTINGS}. "
            "Give the folder that graphkit tune named."
        )
    settings = report.read_json(path)
    names = ("target", "options", "space", "origin", "trials", "sampler", "prune", "search_seed")
    missing = [name for name in names if name not in settings] if isinstance(settings, dict) else []
    if missing or not isinstance(settings, dict):
        raise StoreError(f"{path} is not what graphkit tune wrote. Restore it.")
    return settings


def _dimension(kept: Mapping[str, Any]) -> Dimension:
    return Dimension(**{**kept, "choices": tuple(kept["choices"])})


def _looked(plan: _Plan) -> runs.Job:
    """The run that the recipe would begin, after a look at the ends of the space.

    The recipe itself checks data and each option so, before anything is written or trained. What
    goes together with what is seen by the trials.
    """
    dimensions = plan.space.dimensions
    low = {one.name: min(one.ends) if one.numeric else one.ends[0] for one in dimensions}
    high = {one.name: max(one.ends) if one.numeric else one.ends[1] for one in dimensions}
    corners = [low, high]
    for one in dimensions:
        if not one.numeric:
            corners += [{**low, one.name: value} for value in one.choices[1:-1]]
        elif one.choices:
            low[one.name], high[one.name] = min(one.choices), max(one.choices)
    return [_look(plan, corner) for corner in corners][0]


def _look(plan: _Plan, values: Mapping[str, Any]) -> runs.Job:
    def begun(job: runs.Job) -> None:
        raise _Seen(job)

    try:
        with runs.watched(runs.Watch(begun=begun)):
            plan.call(**plan.chosen(values), quiet=True)
    except _Seen as seen:
        return seen.job
    raise AssertionError(f"{plan.target} ran without a job")


def _begin(folder: StudyFolder, plan: _Plan, job: runs.Job, console: Console) -> bool:
    """Write the start of a new search; was one to resume begun on another machine, or software?"""
    now, path = memory.environment(job.device), folder.path / "environment.json"
    now["optuna"] = metadata.version("optuna")
    digest, other = job.data_digest, []
    if folder.resumed:
        if read_settings(folder.path).get("data_digest") != digest:
            raise ConfigError(
                f"--resume: the search in {str(folder.path)!r} is on other data. "
                "Give the same data, or start a new search."
            )
        before = folder.read(path.name)
        other = runs.unlike(before, now)
        other += [name for name in ("optuna",) if before.get(name) != now[name]]
        if other:
            # trials are measured one by one: those that are there count, bits are another matter
            told = ", ".join(f"{name} {before.get(name)!r}, now {now[name]!r}" for name in other)
            study_plots.say(
                console,
                f"The search began elsewhere ({told}): its trials are kept, the one that was under "
                "way begins anew, and the same options may give other last digits here.",
            )
    # the settings last: with them a search has begun, and can be resumed
    folder.write(path.name, now)
    options = {
        name: "custom" if name == "data" and not isinstance(value, str) else _plain(value)
        for name, value in plan.options.items()
    }
    settings = {"target": plan.target, "options": options, "origin": plan.space.origin}
    settings |= {"space": [asdict(one) for one in plan.space.dimensions]}
    settings |= {name: getattr(plan, name) for name in ("trials", "sampler", "prune")}
    settings |= {"search_seed": plan.search_seed, "data_digest": digest}
    folder.write(SETTINGS, settings)
    origin = f" ({plan.space.origin})" if plan.space.origin else ""
    size = plan.space.size
    for line in (
        f"{job.title}, {len(job.seeds)} seeds in each trial, ranked by validation {job.metric}",
        f"searched{origin}:",
        *(f"  {one}" for one in plan.space.dimensions),
        f"{plan.trials} trials by {plan.sampler}" + (f" of {size:,} points" if size else ""),
        f"folder: {folder.path}",
        *(f"known defect: {defect}" for defect in job.defects),
    ):
        study_plots.say(console, line)
    return bool(other)


def _search(
    folder: StudyFolder, plan: _Plan, job: runs.Job, study: Study, console: Console
) -> None:
    """Run the trials that are not finished."""
    if study.trials:
        study_plots.say(console, f"resuming after {len(study.trials)} trials")
    sizes = plan.trials, len(job.seeds), job.metric
    with study_plots.Progress(console, *sizes) as progress:
        while len(study.trials) < plan.trials and (drawn := study.draw()) is not None:
            number = len(study.trials)
            best = study.ranked()[:1]
            folder.tidy(number, *(trial.number for trial in best))
            trial = _run(plan, job, study, plan.space.values(drawn), folder.trial(number), progress)
            # a trial is kept whole or not at all
            with deferred():
                study.add(drawn, trial)
                best = study.ranked()[:1]
                folder.tidy(*(trial.number for trial in best))
                _write(folder, plan, job, study)
            progress.finish(trial, trial in best)


def _run(
    plan: _Plan,
    job: runs.Job,
    study: Study,
    values: Mapping[str, Any],
    path: Path,
    progress: study_plots.Progress,
) -> Trial:
    """Run one trial in ``path``, or go on with it; only its validation scores are looked at."""
    number, best = len(study.trials), next(iter(study.ranked()), None)
    val: list[float] = []
    seconds: list[float] = []

    def finished(row: report.Row) -> None:
        val.append(row.val)
        seconds.append(row.seconds)
        progress.at(number, len(val), best)
        if plan.prune == "median" and len(val) < len(job.seeds) and study.is_hopeless(val):
            raise _Hopeless

    def draws(record: report.Record) -> bool:
        # those of the others are removed at once
        return study.is_best([row.val for row in record.rows])

    began = time.perf_counter()
    progress.at(number, 0, best)
    try:
        with runs.watched(runs.Watch(finished=finished, draws=draws)):
            record = _trained(plan.call, plan.chosen(values), path)
    except _Hopeless:
        return Trial(number, "pruned", values, tuple(val), round(sum(seconds), 3))
    except (ConfigError, MemoryError, RuntimeError) as error:
        lack = memory.is_lack(error)
        if not lack and not isinstance(error, ConfigError):
            raise
        reason = " ".join(f"{'Out of memory: ' if lack else ''}{error}".split())
        spent = round(time.perf_counter() - began, 3)
        return Trial(number, "failed", values, tuple(val), spent, reason)
    scores = tuple(row.val for row in record.rows)
    return Trial(number, "complete", values, scores, record.seconds)


def _trained(call: "Recipe", options: Mapping[str, Any], path: Path) -> report.Record:
    if report.is_finished(path):
        # killed after its end and before that was noted
        return report.read_record(path)
    if (path / "config.json").is_file():
        return call(**options, resume=str(path), quiet=True)
    shutil.rmtree(path, ignore_errors=True)
    return call(**options, out=str(path), quiet=True)


def _write(
    folder: StudyFolder,
    plan: _Plan,
    job: runs.Job,
    study: Study,
    tuned: Tuned | None = None,
    pictures: bool = False,
) -> None:
    """Write the table of the trials, whose only test score is that of the best one at the end."""
    ranks = {trial.number: rank for rank, trial in enumerate(study.ranked(), start=1)}
    listed = [
        {
            "rank": ranks.get(trial.number),
            **asdict(trial),
            "val_mean": trial.val_mean,
            "val_std": trial.val_std,
        }
        for trial in study.trials
    ]
    about: dict[str, Any] = dict(target=plan.target, title=job.title, metric=job.metric)
    about |= dict(seeds=report.join(job.seeds), space=str(plan.space), best=None)
    if tuned is not None:
        skipped = ("trials", "recipe", "data", "model", "metric", "folder")
        about["best"] = {k: v for k, v in asdict(tuned).items() if k not in skipped}
    folder.write("table.json", {**about, "trials": listed})
    text = f"# {_title(plan, job)}\n\n{study_plots.markdown(study_plots.rows(study, job.metric))}"
    if tuned is not None:
        text += f"\n{' '.join(_verdict(tuned))}\n\nRepeat the best: `{tuned.command}`\n"
    folder.write_text("table.md", text)
    if pictures and study.trials:
        about_it = dict(title=_title(plan, job), metric=job.metric)
        study_plots.history(folder.path, study, **about_it)
        study_plots.slices(folder.path, study, **about_it)


def _best(folder: StudyFolder, plan: _Plan, job: runs.Job, study: Study) -> Tuned:
    """The best trial, and the first look at its test score."""
    ranked = study.ranked()
    if not ranked:
        last = study.trials[-1].reason
        raise ConfigError(f"No trial of {folder.path} came to its end. The last one: {last}")
    best = ranked[0]
    path = folder.trial(best.number)
    record = report.read_record(path)
    return Tuned(
        recipe=plan.recipe.__name__,
        data=record.data,
        model=record.model,
        metric=record.metric,
        best=dict(best.options),
        val_mean=record.val_mean,
        val_std=record.val_std,
        test_mean=record.test_mean,
        test_std=record.test_std,
        trials=tuple(study.trials),
        command=report.read_config(path, own_data=True).get("command"),
        run=str(path),
        folder=str(folder.path),
    )


def _tell(
    console: Console,
    folder: StudyFolder,
    plan: _Plan,
    job: runs.Job,
    study: Study,
    tuned: Tuned,
) -> None:
    """Print what was done, where it is, and the command that repeats the best."""
    study_plots.show(console, _title(plan, job), study_plots.rows(study, job.metric))
    counts = json.loads(tuned.to_json())["trials"]
    done = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    seconds = sum(trial.seconds for trial in study.trials)
    place = folder.path
    note = report.read_config(Path(tuned.run), own_data=True).get("note")
    lines = [
        "",
        f"{len(study.trials)} trials in {study_plots.clock(seconds)}: {done}",
        *_verdict(tuned),
        *([note] if note else []),
        f"table:       {place / 'table.md'}, table.json",
        f"pictures:    {place / 'history.png'}, slices.png",
        f"best run:    {tuned.run} (the weights of the other trials are removed)",
    ]
    if tuned.command:
        lines.append(f"repeat best: {tuned.command}")
    if plan.space.size is None or plan.space.size > len(study.trials):
        more = f"{report.resume_command(place, 'tune')} --trials {2 * len(study.trials)}"
        lines.append(f"go on:       {more}")
    for line in lines:
        study_plots.say(console, line)


def _verdict(tuned: Tuned) -> list[str]:
    best = study_plots.written(tuned.best)
    val = study_plots.spread(tuned.val_mean, tuned.val_std, tuned.metric)
    test = study_plots.spread(tuned.test_mean, tuned.test_std, tuned.metric)
    number = Path(tuned.run).name
    return [
        f"best by validation: trial {number}, {best}.",
        f"Validation {tuned.metric} {val}, test {test} (looked at for this trial alone).",
    ]


def _title(plan: _Plan, job: runs.Job) -> str:
    seeds = f"{len(job.seeds)} seeds" if len(job.seeds) > 1 else f"seed {job.seeds[0]}"
    name = f"{plan.target}: " if isinstance(plan.call, Preset) else ""
    return f"tune {name}{job.title}, {seeds}"


def _interrupted(
    folder: StudyFolder, plan: _Plan, job: runs.Job, study: Study, error: KeyboardInterrupt
) -> KeyboardInterrupt:
    """What a stopped search kept and how to go on with it, as the exception to raise."""
    if not folder.worth_keeping():
        return type(error)("Interrupted before the first trial began: nothing is kept.")
    _write(folder, plan, job, study, pictures=True)
    return type(error)(
        f"Interrupted: {len(study.trials)} of {plan.trials} trials are finished. To go on: "
        f"{report.resume_command(folder.path, 'tune')}"
    )


def _base(call: "Recipe", options: Mapping[str, Any]) -> dict[str, Any]:
    """All options where those of the space are not set."""
    if isinstance(call, Preset):
        return {**report.defaults(call.recipe), **call.values, **options}
    return {**report.defaults(call), **options}


def _plain(value: Any) -> Any:
    """``value`` as JSON holds it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return report.join([operator.index(one) for one in value])
    return str(value)


def _whole(name: str, value: Any, low: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}, but a whole number, at least {low}, is expected.")
    return number
