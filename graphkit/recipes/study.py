"""The trials of a search: drawn by Optuna, kept in a database that survives kills. (opt: optuna)"""

from __future__ import annotations

import random
import sqlite3
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import StoreError
from ..store import atomic
from .report import word
from .space import LARGEST_GRID, Space

State = Literal["complete", "pruned", "failed"]
# the median rule waits for so many complete trials, and for so many seeds of a trial
SETTLED, WARM = 5, 2
# a point that was tried is drawn anew so often, half of the times at random
_ATTEMPTS = 20


@dataclass(frozen=True)
class Trial:
    """One point of the space: its values, and the validation scores ``val`` of its seeds.

    ``seconds`` is the time its seeds took; ``reason`` is why it failed.
    """

    number: int
    state: State
    options: Mapping[str, Any]
    val: tuple[float, ...]
    seconds: float
    reason: str = ""

    @property
    def val_mean(self) -> float | None:
        """The mean validation score, by which complete trials are ranked; None of no seed."""
        # summed up as report.record does, so that both are the same number
        return sum(self.val) / len(self.val) if self.val else None

    @property
    def val_std(self) -> float | None:
        """The unbiased standard deviation, None of one seed."""
        return statistics.stdev(self.val) if len(self.val) > 1 else None


class Study:
    """The finished trials in the SQLite database ``path``, and what to try next.

    A trial is written when it is finished, in one transaction, and what is drawn next depends on
    the finished trials, ``seed`` and their number alone: whenever a search is stopped, it goes on
    with the trial it was at. The database is Optuna's, study ``graphkit``.

    Args:
        higher: is a higher score better?
        sampler: ``tpe`` learns from the trials before, after ten at random; ``random`` does not;
            ``grid`` takes the points of a space with an end in an order drawn once.

    Raises:
        StoreError: the database cannot be read or written.
    """

    def __init__(self, path: Path, space: Space, *, higher: bool, sampler: str, seed: int) -> None:
        self.path = path
        self.space = space
        self.higher = higher
        self.sampler = sampler
        self.seed = seed
        self._stack = ExitStack()

    def __enter__(self) -> Study:
        with ExitStack() as stack:
            stack.enter_context(_quiet())
            if not self.path.exists():
                # whole or not at all, as a kill leaves half a database otherwise
                with atomic(self.path) as side, _opened(side, self.higher):
                    pass
            self._kept = stack.enter_context(_opened(self.path, self.higher))
            kept = self._kept.get_trials(deepcopy=False)
            # where points are drawn: one that is only drawn must not reach the disk
            self._drawing = self._remembered(kept)
            try:
                self.trials = [_thawed(frozen) for frozen in kept]
            except (LookupError, TypeError) as error:
                raise StoreError(
                    f"{self.path} holds trials of another program: {error!r}. Restore it."
                ) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def draw(self) -> dict[str, Any] | None:
        """The next point to try, as Optuna writes it; None when all of them have been tried."""
        number, size = len(self.trials), self.space.size
        if size is not None and number >= size:
            return None
        if self.sampler == "grid":
            return next(self.space.points(self._order()[number : number + 1]), None)
        from optuna import samplers

        tried, drawn = {self._key(trial.options) for trial in self.trials}, {}
        for attempt in range(_ATTEMPTS):
            words = np.random.SeedSequence([self.seed, number, attempt]).generate_state(1)
            learns = self.sampler == "tpe" and attempt < _ATTEMPTS // 2
            # what was asked and never told counts for nothing, so nothing is assumed of it
            self._drawing.sampler = (
                samplers.TPESampler(seed=int(words[0]), constant_liar=False)
                if learns
                else samplers.RandomSampler(seed=int(words[0]))
            )
            drawn = self._drawing.ask(self.space.distributions()).params
            if self._key(self.space.values(drawn)) not in tried:
                return drawn
        # few are left: the first of them
        points = self.space.points(self._order()) if size is not None else iter(())
        return next((point for point in points if self._key(point) not in tried), drawn)

    def add(self, drawn: Mapping[str, Any], trial: Trial) -> None:
        """Keep a finished ``trial`` of the point ``drawn``."""
        from optuna.trial import TrialState, create_trial

        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        means = {step: sum(trial.val[:step]) / step for step in range(1, len(trial.val) + 1)}
        frozen = create_trial(
            state=states.get(trial.state, TrialState.FAIL),
            value=trial.val_mean if trial.state == "complete" else None,
            params=dict(drawn),
            distributions=self.space.distributions(),
            user_attrs={"trial": asdict(trial)},
            intermediate_values=means,
        )
        with _guarded(self.path):
            self._kept.add_trial(frozen)
        self._drawing.add_trial(frozen)
        self.trials.append(trial)

    def ranked(self) -> list[Trial]:
        """The complete trials by their mean validation score, the best first, equals as tried."""
        done = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(done, key=lambda trial: self._rank(trial.val))

    def is_best(self, val: Sequence[float]) -> bool:
        """Is the mean of these scores better than that of all complete trials?"""
        return all(self._rank(val) < self._rank(trial.val) for trial in self.ranked()[:1])

    def is_hopeless(self, val: Sequence[float]) -> bool:
        """Is the mean of the first seeds worse than the median of the same seeds of others?

        The others are the complete trials, once there are five; the first seed alone never tells.
        """
        done = [trial.val[: len(val)] for trial in self.trials if trial.state == "complete"]
        if len(val) < WARM or len(done) < SETTLED:
            return False
        return self._rank(val) > statistics.median(map(self._rank, done))

    def importances(self) -> dict[str, float]:
        """The share of each option in the variance of the scores (fANOVA: Hutter et al., 2014).

        None are known of few trials, or of equal ones.
        """
        done = [trial.val_mean for trial in self.trials if trial.state == "complete"]
        if len(done) < 10 or len(set(done)) < 2:
            return {}
        from optuna import importance

        evaluator = importance.FanovaImportanceEvaluator(seed=self.seed)
        study = self._remembered(self._kept.get_trials(deepcopy=False))
        return importance.get_param_importances(study, evaluator=evaluator)

    def _remembered(self, trials: Sequence[Any]) -> Any:
        """Optuna's study of ``trials`` in memory."""
        from optuna import create_study

        study = create_study(direction=_direction(self.higher))
        study.add_trials(trials)
        return study

    def _rank(self, val: Sequence[float]) -> float:
        mean = sum(val) / len(val)
        return -mean if self.higher else mean

    def _order(self) -> list[int]:
        """The numbers of the points in the order of this seed, of at most so many of them."""
        size = self.space.size or 0
        return random.Random(self.seed).sample(range(size), min(size, LARGEST_GRID))

    def _key(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(word(values[one.name]) for one in self.space.dimensions)


@contextmanager
def _opened(path: Path, higher: bool) -> Iterator[Any]:
    """Optuna's study in the database ``path``, which is made if it is empty."""
    from optuna import create_study
    from optuna.storages import RDBStorage

    with _guarded(path):
        # not as an address, which could not hold every path
        connect = {"creator": lambda: sqlite3.connect(path)}
        storage = RDBStorage("sqlite:///study.db", engine_kwargs=connect)
        try:
            study = create_study(
                storage=storage,
                study_name="graphkit",
                direction=_direction(higher),
                load_if_exists=True,
            )
        except BaseException:
            storage.engine.dispose()
            raise
    try:
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Inside, what the database cannot do is a StoreError."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
        why = str(error.__cause__ or error).splitlines()[0]
        raise StoreError(
            f"{path} cannot be read or written: {why}. Free the disk, or restore it."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Optuna logs warnings alone."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _direction(higher: bool) -> Literal["maximize", "minimize"]:
    return "maximize" if higher else "minimize"


def _thawed(frozen: Any) -> Trial:
    kept = frozen.user_attrs["trial"]
    return Trial(**{**kept, "val": tuple(kept["val"])})
