"""Ranks over sets and seeds, and differences in pairs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit.cli import main
from graphkit.errors import ConfigError, StoreError
from graphkit.recipes import compare, report
from graphkit.recipes.compare import mean_ranks, paired_interval

Scores = dict[int, tuple[float, float]]


def run(path: Path, data: str, model: str, scores: Scores, target: str = "graph", **options: Any):
    """A finished run with macro-F1 and, of the epochs that it chose, AUC, by seed."""
    rows = [
        report.Row(
            *(seed, seed, 3, 9, 0.5, f1, 1.0),
            checkpoints={
                "f1": {"epoch": 3, "val": 0.5, "f1": f1, "rocauc": 0.0, "ap": f1 / 2},
                "rocauc": {"epoch": 4, "val": 0.5, "f1": 0.0, "rocauc": auc, "ap": 0.0},
            },
        )
        for seed, (f1, auc) in scores.items()
    ]
    path.mkdir(parents=True)
    record = report.record("graph", data, model, "f1", rows, 1.0, 1.0, path)
    kept = {"split": "anomaly", "num_splits": 9, "anomaly": True, "metric": "f1", **options}
    config = {"recipe": "graph", "options": {"data": data, **kept}}
    config["command"] = f"graphkit train {target} --data {data}"
    (path / "config.json").write_text(json.dumps(config))
    content = {name: value for name, value in vars(record).items() if name != "rows"}
    content["rows"] = [vars(row) for row in rows]
    (path / "result.json").write_text(json.dumps(content))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for data, ours, theirs in (("aids", 0.9, 0.8), ("bzr", 0.6, 0.7)):
        ends = {0: (ours, 0.9), 1: (ours + 0.02, 0.8)}
        run(folder / f"rqgnn-{data}", data, "rqgnn", ends, f"rqgnn-{data}")
        ends = {0: (theirs, 0.9), 1: (theirs, 0.7)}
        run(folder / f"gin-{data}-anomaly", data, "gin", ends, f"gin-{data}-anomaly")
    run(folder / "alone", "aids", "gcn", {0: (0.1, 0.5)})
    return folder


def test_models_are_ranked_and_compared_in_pairs(runs: Path) -> None:
    found = {(one.metric, one.model): one for one in compare(str(runs), quiet=True)}
    f1, auc = found["f1", "gin"], found["rocauc", "gin"]
    assert f1.means["aids"] == (80.0, 0.0, 2) and auc.means["bzr"][0] == pytest.approx(80.0)
    # on the one set and seed that all three have
    assert [found["f1", m].rank for m in ("rqgnn", "gin", "gcn")] == [1, 2, 3]
    assert [found["rocauc", m].rank for m in ("rqgnn", "gin", "gcn")] == [1.5, 1.5, 3]
    assert f1.difference == pytest.approx(((10 + 12) / 2 + (-10 - 8) / 2) / 2) and f1.pairs == 4
    assert auc.difference == pytest.approx(5) and not auc.loses
    assert (f1.loses, f1.clearly) == (("bzr",), ("bzr",))
    assert f1.low is not None and f1.high is not None and f1.low < 1 < f1.high
    assert found["f1", "rqgnn"].difference is None
    assert found["f1", "gcn"].pairs == 1 and found["f1", "gcn"].difference == pytest.approx(80)
    # what the run's own epochs score where no epochs were chosen by it
    (gin,) = [one for one in compare(runs, metrics="ap", quiet=True) if one.model == "gin"]
    assert gin.means["aids"][0] == pytest.approx(40)


def test_the_command_writes_tables(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = runs.parent / "table.md"
    assert main(["compare", str(runs / "rqgnn-bzr"), str(runs / "gin-bzr-anomaly")]) == 0
    assert main(["compare", str(runs), "--metrics", "f1", "--out", str(out)]) == 0
    shown, text = capsys.readouterr().out, out.read_text()
    assert "5 runs of 3 models on 2 sets" in shown and text in shown
    assert "| rqgnn | 91.00 ± 1.41 | 61.00 ± 1.41 | 1.00 |" in text
    assert "- rqgnn is worse than gin on bzr (clearly)." in text
    assert [row["model"] for row in json.loads(out.with_suffix(".json").read_text())] == [
        "rqgnn",
        "gin",
        "gcn",
    ]


def test_of_a_search_the_best_run_counts(runs: Path) -> None:
    study = runs.parent / "study"
    run(study / "trials" / "3", "bzr", "cheb", {0: (0.65, 0.5), 1: (0.65, 0.5)})
    (study / "study.json").write_text("{}")
    (study / "table.json").write_text(json.dumps({"best": {"run": "elsewhere/trials/3"}}))
    found = compare([runs, study], metrics="f1", quiet=True)
    (cheb,) = [one for one in found if one.model == "cheb"]
    assert cheb.means == {"bzr": (65.0, 0.0, 2)} and cheb.rank is None
    (study / "table.json").write_text(json.dumps({"best": None}))
    assert "cheb" not in {one.model for one in compare([runs, study], quiet=True)}


def test_runs_that_are_no_pairs_are_refused(runs: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    run(again, "bzr", "rqgnn", {0: (0.5, 0.5)})
    run(other, "bzr", "bern", {0: (0.5, 0.5)}, split="random")
    for folders, error, message in (
        ([runs, again], ConfigError, "are both rqgnn on bzr. Give one of them"),
        ([runs, other], ConfigError, "has split 'anomaly' and .*other 'random'.* are no pairs"),
        ([tmp_path / "nothing"], StoreError, "nothing' is no folder"),
        ([], ConfigError, "There is no finished run in"),
    ):
        with pytest.raises(error, match=message):
            compare(folders, quiet=True)
    with pytest.raises(ConfigError, match="reference is 'rgnn'. Did you mean 'rqgnn'"):
        compare(runs, reference="rgnn", quiet=True)
    with pytest.raises(ConfigError, match="metrics is 'auc', but the runs have ap, f1, rocauc"):
        compare(runs, metrics="auc", quiet=True)
    with pytest.raises(ConfigError, match="out is 'x.csv', but a file that ends in .md"):
        compare(runs, out="x.csv", quiet=True)
    # what is not finished does not count
    (runs / "alone" / "result.json").unlink()
    assert "gcn" not in {one.model for one in compare(runs, quiet=True)}


numbers = st.lists(st.integers(0, 3), min_size=2, max_size=4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(numbers, min_size=2, max_size=3), min_size=1, max_size=3))
def test_mean_ranks_are_those_of_every_pair_of_models(sets: list[list[list[int]]]) -> None:
    """A model's rank is 1, and 1 for each that beats it, and a half for each that equals it."""
    count = min(len(of) for of in sets)
    table = {
        f"m{k}": {
            f"d{place}": {seed: float(value) for seed, value in enumerate(of[k])}
            for place, of in enumerate(sets)
        }
        for k in range(count)
    }
    expected = dict.fromkeys(table, 0.0)
    for of in sets:
        seeds = range(min(len(of[k]) for k in range(count)))
        for one, other in itertools.product(range(count), repeat=2):
            for seed in seeds:
                a, b = of[one][seed], of[other][seed]
                beaten = 0.0 if one == other else float(b > a) + 0.5 * (b == a)
                expected[f"m{one}"] += beaten / len(seeds) / len(sets)
    expected = {model: 1 + value for model, value in expected.items()}
    assert mean_ranks(table) == pytest.approx(expected)
    flipped = {
        model: {data: {s: -v for s, v in of.items()} for data, of in held.items()}
        for model, held in table.items()
    }
    assert mean_ranks(flipped, higher=False) == pytest.approx(expected)


def test_the_interval_is_that_of_sets_and_of_seeds_within_them() -> None:
    draw = np.random.default_rng(1)
    sets = [draw.normal(place, 0.5, size=10) for place in draw.normal(3, 2, size=8)]
    low, high = paired_interval(sets)
    means = np.array([values.mean() for values in sets])
    within = np.mean([values.var() / len(values) for values in sets])
    # the variance of a mean of sets that are drawn, each with its seeds drawn
    std = np.sqrt((means.var() + within) / len(sets))
    assert high - low == pytest.approx(2 * 1.96 * std, rel=0.05)
    assert (low + high) / 2 == pytest.approx(means.mean(), abs=0.15)
    back = paired_interval([-values for values in sets])
    assert back == pytest.approx((-high, -low), abs=0.1)
    assert paired_interval([np.array([2.5])]) == (2.5, 2.5)
    assert paired_interval(sets) == (low, high)
