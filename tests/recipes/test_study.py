"""Trials that are kept, drawn and ranked; no training here."""

from __future__ import annotations

import math
import shutil
import sqlite3
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit.errors import StoreError
from graphkit.recipes import node
from graphkit.recipes.space import Space, read_space
from graphkit.recipes.study import Study, Trial

optuna = pytest.importorskip("optuna")

SPACE = read_space("lr=1e-4..1 log; dropout=0:0.8:0.1; hidden=16,32,64; norm=null,batch_norm", node)
SMALL = read_space("lr=0.1,0.2,0.3; hidden=4..5; norm=null,batch_norm", node)


def opened(path: Path, space: Space = SPACE, sampler: str = "tpe", seed: int = 0) -> Study:
    return Study(path, space, higher=True, sampler=sampler, seed=seed)


def scored(number: int, options: Any) -> Trial:
    """The best is lr 0.01, dropout 0.3, hidden 64; every seventh fails, every fifth is pruned."""
    value = 0.9 - 0.1 * abs(math.log10(options["lr"]) + 2) - abs(options.get("dropout", 0.3) - 0.3)
    value += 0.01 * (options["hidden"] == 64)
    if number % 7 == 6:
        return Trial(number, "failed", options, (), 0.5, "Training diverged: the loss is nan.")
    if number % 5 == 4:
        return Trial(number, "pruned", options, (value,), 1.0)
    return Trial(number, "complete", options, (value - 0.01, value + 0.02), 2.0)


def search(study: Study, goal: int) -> list[Trial]:
    while len(study.trials) < goal and (drawn := study.draw()) is not None:
        study.add(drawn, scored(len(study.trials), study.space.values(drawn)))
    return study.trials


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_what_is_tried_depends_on_the_finished_trials_alone(tmp_path: Path, sampler: str) -> None:
    """Stopped after some of them, and after points that were drawn for nothing."""
    space = SPACE if sampler != "grid" else SMALL
    with opened(tmp_path / "whole.db", space, sampler) as study:
        whole = list(search(study, 12))
    stopped: list[Trial] = []
    for goal in (1, 6, 11, 12):
        with opened(tmp_path / "stopped.db", space, sampler) as study:
            assert study.trials == stopped
            assert study.draw() == study.draw()
            stopped = list(search(study, goal))
    assert stopped == whole
    with opened(tmp_path / "other.db", space, sampler, seed=1) as study:
        assert search(study, 12) != whole


def test_tpe_learns_and_random_does_not(tmp_path: Path) -> None:
    means = {}
    for sampler in ("tpe", "random"):
        with opened(tmp_path / f"{sampler}.db", sampler=sampler) as study:
            late = [t for t in search(study, 40)[20:] if t.state == "complete"]
            means[sampler] = statistics.mean(trial.val_mean or 0 for trial in late)
    assert means["tpe"] > means["random"] + 0.05


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_every_point_of_a_small_space_is_tried_once(tmp_path: Path, sampler: str) -> None:
    with opened(tmp_path / "study.db", SMALL, sampler) as study:
        tried = [tuple(trial.options.values()) for trial in search(study, 99)]
        assert study.draw() is None
    assert len(tried) == len(set(tried)) == SMALL.size == 12


def test_trials_come_back_as_they_were(tmp_path: Path) -> None:
    # a name that an address could not hold
    path = tmp_path / "a b?c#d%41;é" / "study.db"
    path.parent.mkdir()
    with opened(path) as study:
        trials = list(search(study, 15))
    assert [p.name for p in path.parent.iterdir()] == ["study.db"]
    with opened(path) as study:
        assert study.trials == trials
        assert [type(t.options["norm"]) for t in trials] == [
            type(t.options["norm"]) for t in study.trials
        ]
    with sqlite3.connect(path) as base:
        assert base.execute("select count(*) from trials").fetchone() == (15,)
    base.close()


def test_optuna_reads_the_database(tmp_path: Path) -> None:
    with opened(tmp_path / "study.db") as study:
        search(study, 12)
        best = study.ranked()[0]
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    theirs = optuna.load_study(study_name="graphkit", storage=storage)
    assert theirs.best_trial.number == best.number and theirs.best_value == best.val_mean
    assert [t.state.name for t in theirs.trials[4:7]] == ["PRUNED", "COMPLETE", "FAIL"]
    storage.engine.dispose()


@given(st.lists(st.tuples(st.sampled_from(["complete", "pruned", "failed"]),
       st.lists(st.floats(0, 1), min_size=1, max_size=3)), max_size=8), st.booleans())  # fmt: skip
def test_the_ranking_is_that_of_the_means(drawn: Any, higher: bool) -> None:
    study = Study(Path("none"), SPACE, higher=higher, sampler="tpe", seed=0)
    study.trials = [Trial(i, state, {}, tuple(val), 0.0) for i, (state, val) in enumerate(drawn)]
    ranked = study.ranked()
    assert {t.number for t in ranked} == {t.number for t in study.trials if t.state == "complete"}
    for one, other in zip(ranked, ranked[1:], strict=False):
        first, second = statistics.fmean(one.val), statistics.fmean(other.val)
        assert first == pytest.approx(second) or (first > second) == higher
        assert one.val_mean != other.val_mean or one.number < other.number


@pytest.mark.parametrize("higher", [True, False])
def test_the_median_rule(higher: bool) -> None:
    study = Study(Path("none"), SPACE, higher=higher, sampler="tpe", seed=0)
    table = [(0.5, 0.7, 0.9), (0.6, 0.6, 0.0), (0.9, 0.1, 0.6), (0.8, 0.8, 0.8), (0.4, 0.2, 0.2)]
    study.trials = [Trial(i, "complete", {}, val, 0.0) for i, val in enumerate(table[:4])]
    study.trials.append(Trial(9, "pruned", {}, (1.0, 1.0), 0.0))
    # four complete trials are too few
    assert not study.is_hopeless((0.0, 0.0)) and not study.is_hopeless((1.0, 1.0))
    study.trials.append(Trial(10, "complete", {}, table[4], 0.0))
    # means of two seeds: 0.6, 0.6, 0.5, 0.8, 0.3, the median is 0.6
    assert study.is_hopeless((0.5, 0.6)) == higher
    assert study.is_hopeless((0.7, 0.6)) == (not higher)
    assert not study.is_hopeless((0.5, 0.7))
    # the first seed alone never tells
    assert not study.is_hopeless((0.0,)) and not study.is_hopeless((1.0,))


def test_importances_find_what_matters(tmp_path: Path) -> None:
    with opened(tmp_path / "study.db", sampler="random") as study:
        search(study, 10)
        assert study.importances() == {}
        search(study, 40)
        shares = study.importances()
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == set(SPACE.distributions())
    assert min(shares["lr"], shares["dropout"]) > max(shares["norm"], shares["hidden"])


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with opened(path) as study:
        search(study, 3)
    whole = path.read_bytes()
    for content in (b"no database", whole[:5000], whole[:100] + bytes(4000) + whole[4100:]):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"study\.db cannot be read or written: "):
            with opened(path):
                pass


def test_another_programs_study_is_refused(tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    theirs = optuna.create_study(study_name="graphkit", storage=storage)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    storage.engine.dispose()
    with pytest.raises(StoreError, match="holds trials of another program: KeyError"):
        with opened(tmp_path / "study.db"):
            pass


def test_a_database_that_is_gone_or_full_ends_the_search(tmp_path: Path) -> None:
    with opened(tmp_path / "study.db") as study:
        search(study, 2)
        drawn = study.draw()
        assert drawn is not None
        with sqlite3.connect(tmp_path / "study.db") as base:
            base.execute("drop table trial_params")
        base.close()
        with pytest.raises(StoreError, match="cannot be read or written"):
            study.add(drawn, scored(2, study.space.values(drawn)))
        assert len(study.trials) == 2


def test_the_log_of_optuna_is_as_before(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    with opened(tmp_path / "study.db"):
        assert optuna.logging.get_verbosity() == optuna.logging.WARNING
    assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shutil.rmtree(tmp_path)
