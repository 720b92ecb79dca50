"""Finished runs of several models on several sets compared: ranks, differences. (opt: scipy)"""

# annotations are evaluated here: the command line takes its types from them
import itertools
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..errors import ConfigError, StoreError, nearest
from ..metrics import LOWER_IS_BETTER
from ..store import atomic
from . import plots, report
from .presets import PRESETS

# resamples of sets and seeds behind an interval
RESAMPLES = 10_000
# what must be the same for seeds to be pairs
_SAME = ("split", "num_splits", "anomaly", "metric")
_SAME += ("setting", "hide", "train_per_class", "val_per_class", "nodes")


@dataclass(frozen=True)
class Ran:
    """A finished run: its data, the model as it is called here, and scores by metric and seed."""

    data: str
    model: str
    scores: Mapping[str, Mapping[int, float]]
    same: Mapping[str, Any]
    path: str


@dataclass(frozen=True)
class Standing:
    """How one model stands by one metric; scores are in percent, errors in their unit.

    ``means`` has the mean of each set over its seeds. ``rank`` is the mean rank, 1 the best, over
    the seeds of each set and the sets that all models have, None if there is none. ``difference``
    is the reference's score less this model's, over the sets that both have, ``low`` and ``high``
    the ends of its interval; ``loses`` are the sets where the reference's mean is worse, in
    ``clearly`` those of them whose own interval over seeds is all on that side.
    """

    metric: str
    model: str
    means: Mapping[str, tuple[float, float | None, int]]
    rank: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    loses: tuple[str, ...] = ()
    clearly: tuple[str, ...] = ()


def compare(
    runs: "str | Path | Sequence[str | Path]",
    *,
    metrics: str = "f1,rocauc",
    reference: str = "rqgnn",
    out: str | None = None,
    quiet: bool = False,
) -> list[Standing]:
    """Compare models over data sets and seeds: mean ranks, and differences to one in pairs.

    Takes run folders, searches of graphkit tune (their best run counts), and folders that hold such
    folders, as graphkit reproduce leaves them. Runs of a preset are called by its name without the
    data set, others by their model. A score is that of the epochs which its own validation score
    chose, where a run kept these; no test score chooses anything.

    Models are ranked anew on every seed of every set that all of them have; equal scores share a
    rank. The reference is compared with each other model seed by seed, so that both had the same
    split. The interval is of 95 %, by resampling sets and, within each, seeds, 10,000 times: it
    says what other sets and seeds of this kind would have given. Sets where the reference is worse
    are listed.

    Args:
        runs: folders of runs, of searches, or of several of them
        metrics: metrics to compare by, such as f1,rocauc
        reference: the model that the others are compared with
        out: file to write the tables to, .md; the figures go to .json beside it
        quiet: print nothing

    Raises:
        ConfigError: there are no such runs, two of one model and set, runs with other splits, or no
            run of the reference.
        StoreError: a run is damaged, or the file cannot be written.
    """
    names = [name for name in metrics.replace(" ", "").split(",") if name]
    target = None if out is None else Path(out)
    if target is not None and target.suffix != ".md":
        raise ConfigError(f"out is {out!r}, but a file that ends in .md is expected.")
    folders = [runs] if isinstance(runs, (str, Path)) else list(runs)
    found = [ran for folder in folders for ran in read_runs(Path(folder))]
    _check(found, folders)
    models = list(dict.fromkeys(ran.model for ran in found))
    if reference not in models:
        raise ConfigError(f"reference is {reference!r}. {nearest(reference, models)}")
    standings = [one for name in names for one in _standings(found, name, reference)]
    if not standings:
        held = sorted({name for ran in found for name in ran.scores})
        raise ConfigError(f"metrics is {metrics!r}, but the runs have {', '.join(held)}.")
    text = markdown(standings, reference)
    if target is not None:
        with atomic(target) as side:
            side.write_text(text, encoding="utf-8")
        with atomic(target.with_suffix(".json")) as side:
            rows = [asdict(one) for one in standings]
            side.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    console = Console(quiet=quiet)
    plots.say(console, text)
    count = f"{len(found)} runs of {len(models)} models on {len({r.data for r in found})} sets"
    where = "" if target is None else f"; written to {target} and {target.with_suffix('.json')}"
    plots.say(console, f"{count}{where}")
    return standings


def read_runs(folder: Path) -> Iterator[Ran]:
    """The finished runs in ``folder``, or below it; of a search the best one."""
    if not folder.is_dir():
        raise StoreError(f"{str(folder)!r} is no folder. Give one of graphkit train.")
    if (folder / "study.json").is_file():
        table = report.read_json(folder / "table.json")
        if table.get("best"):
            yield _ran(folder / "trials" / Path(table["best"]["run"]).name)
    elif (folder / "config.json").is_file():
        if report.is_finished(folder):
            yield _ran(folder)
    else:
        for below in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from read_runs(below)


def _ran(path: Path) -> Ran:
    record, config = report.read_record(path), report.read_config(path, own_data=True)
    scores: dict[str, dict[int, float]] = {}
    for row in record.rows:
        scores.setdefault(record.metric, {})[row.seed] = row.test
        for name, value in row.checkpoints.get(record.metric, {}).items():
            if name not in ("epoch", "val"):
                scores.setdefault(name, {})[row.seed] = value
        # of the epoch that the score itself chose, where there is one
        for name, held in row.checkpoints.items():
            scores.setdefault(name, {})[row.seed] = held[name]
    data = Path(record.data).stem
    words = shlex.split(config.get("command") or "")
    target = words[2] if len(words) > 2 else ""
    model = record.model
    if target in PRESETS:
        model = target.replace(f"-{data}", "").removesuffix("-anomaly")
    same = {name: config["options"].get(name) for name in _SAME}
    return Ran(data, model, scores, same, str(path))


def _check(found: Sequence[Ran], folders: Iterable[Any]) -> None:
    """Raise unless the runs can be compared."""
    if not found:
        names = ", ".join(map(str, folders))
        raise ConfigError(f"There is no finished run in {names}. Give folders of graphkit train.")
    for one, other in itertools.combinations(found, 2):
        if one.data != other.data:
            continue
        if one.model == other.model:
            raise ConfigError(
                f"{one.path} and {other.path} are both {one.model} on {one.data}. Give one of them."
            )
        for name in _SAME:
            if one.same[name] != other.same[name]:
                raise ConfigError(
                    f"{one.path} has {name} {one.same[name]!r} and {other.path} "
                    f"{other.same[name]!r}: their scores are no pairs. Give runs of one protocol."
                )


def _standings(found: Sequence[Ran], metric: str, reference: str) -> list[Standing]:
    """All models by one metric, the best rank first; none where no run has it."""
    scale = 1 if metric in LOWER_IS_BETTER else 100
    table: dict[str, dict[str, dict[int, float]]] = {}
    for ran in found:
        if metric in ran.scores:
            held = {seed: scale * value for seed, value in ran.scores[metric].items()}
            table.setdefault(ran.model, {})[ran.data] = held
    if not table:
        return []
    ranks = mean_ranks(table, higher=metric not in LOWER_IS_BETTER)
    out = []
    for model, sets in table.items():
        means = {data: _mean(list(held.values())) for data, held in sets.items()}
        about: dict[str, Any] = {}
        if model != reference and reference in table:
            sign = -1 if metric in LOWER_IS_BETTER else 1
            about = _against(table[reference], sets, sign)
        out.append(Standing(metric, model, means, ranks.get(model), **about))
    return sorted(out, key=lambda one: (one.rank is None, one.rank or 0, one.model))


def _mean(values: Sequence[float]) -> tuple[float, float | None, int]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), std, len(values)


def mean_ranks(
    table: Mapping[str, Mapping[str, Mapping[int, float]]], *, higher: bool = True
) -> dict[str, float]:
    """The mean rank of each model, 1 the best: over seeds within each set, then over sets.

    ``table`` has scores by model, set and seed. Sets and seeds that a model lacks are left out for
    all; equal scores share the mean of their ranks. Empty where no set has all models.
    """
    # half a second, which every other command would wait for
    from scipy.stats import rankdata

    models, of_sets = list(table), list[Any]()
    for data in filter(lambda data: all(data in sets for sets in table.values()), table[models[0]]):
        seeds = set.intersection(*(set(table[model][data]) for model in models))
        if seeds:
            scores = np.array([[table[model][data][s] for s in sorted(seeds)] for model in models])
            of_sets.append(rankdata(-scores if higher else scores, axis=0).mean(axis=1))
    if not of_sets:
        return {}
    return dict(zip(models, np.mean(of_sets, axis=0).tolist(), strict=True))


def _against(
    own: Mapping[str, Mapping[int, float]], other: Mapping[str, Mapping[int, float]], sign: int
) -> dict[str, Any]:
    """Fields of :class:`Standing` about the reference ``own`` less another model."""
    pairs: dict[str, np.ndarray] = {}
    for data in (name for name in own if name in other):
        seeds = sorted(set(own[data]) & set(other[data]))
        if seeds:
            pairs[data] = np.array([own[data][s] - other[data][s] for s in seeds])
    if not pairs:
        return {}
    low, high = paired_interval(list(pairs.values()))
    loses = [data for data, values in pairs.items() if sign * values.mean() < 0]
    # of one seed there is no interval
    clearly = [
        data
        for data in loses
        if len(pairs[data]) > 1 and max(sign * end for end in paired_interval([pairs[data]])) < 0
    ]
    return {
        "difference": float(np.mean([values.mean() for values in pairs.values()])),
        "low": low,
        "high": high,
        "pairs": sum(map(len, pairs.values())),
        "loses": tuple(loses),
        "clearly": tuple(clearly),
    }


def paired_interval(
    differences: Sequence[np.ndarray], *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The interval of the mean over sets of the mean difference of seeds, by resampling both.

    ``differences`` has an array of each set, [seeds]. Sets are drawn with replacement, and within
    each that is drawn, seeds; the interval holds the middle ``level`` of the means.
    """
    draw = np.random.default_rng(seed)
    of_seeds = np.empty((RESAMPLES, len(differences)))
    for place, values in enumerate(differences):
        chosen = draw.integers(len(values), size=(RESAMPLES, len(values)))
        of_seeds[:, place] = values[chosen].mean(axis=1)
    total = np.zeros(RESAMPLES)
    for _ in differences:
        # rows in another order each time: a set that is drawn twice has other seeds
        rows = draw.permutation(RESAMPLES)
        total += of_seeds[rows, draw.integers(len(differences), size=RESAMPLES)]
    low, high = np.quantile(total / len(differences), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def markdown(standings: Sequence[Standing], reference: str) -> str:
    """The tables of all metrics, and in words where the reference loses."""
    parts: list[str] = []
    for metric in dict.fromkeys(one.metric for one in standings):
        own = [one for one in standings if one.metric == metric]
        sets = list(dict.fromkeys(data for one in own for data in one.means))
        unit = "" if metric in LOWER_IS_BETTER else ", %"
        heads = ["model", *sets, "mean rank", f"{reference} less it", "95 % interval", "pairs"]
        parts += [f"## {metric}{unit}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for one in own:
            cells = [one.model, *(_figure(one.means.get(data)) for data in sets)]
            cells.append("-" if one.rank is None else f"{one.rank:.2f}")
            if one.difference is None:
                cells += ["", "", ""]
            else:
                cells += [f"{one.difference:+.2f}", f"{one.low:+.2f} to {one.high:+.2f}"]
                cells.append(str(one.pairs))
            parts.append(f"| {' | '.join(cells)} |")
        parts += ["", *_losses(own, reference), ""]
    return "\n".join(parts)


def _losses(own: Sequence[Standing], reference: str) -> list[str]:
    lines = []
    for one in (one for one in own if one.loses):
        names = ", ".join(f"{d} (clearly)" if d in one.clearly else d for d in one.loses)
        lines.append(f"- {reference} is worse than {one.model} on {names}.")
    return lines or [f"{reference} is worse than none of them on any set."]


def _figure(of: tuple[float, float | None, int] | None) -> str:
    if of is None:
        return "-"
    return f"{of[0]:.2f}" + ("" if of[1] is None else f" ± {of[1]:.2f}")
