from __future__ import annotations

import json
import shlex
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from graphkit.errors import ConfigError, StoreError
from graphkit.recipes import report
from graphkit.recipes.loop import Epoch

KEYS = [
    "task", "data", "model", "metric", "test_mean", "test_std", "val_mean", "seeds", "seconds",
    "peak_mb", "run",
]  # fmt: skip


def rows(*scores: float) -> list[report.Row]:
    return [report.Row(i, None, 5, 9, s / 2, s, 1.0) for i, s in enumerate(scores)]


def make(*scores: float) -> report.Record:
    return report.record("node", "d", "gcn", "accuracy", rows(*scores), 1.5, 20.0, Path("runs/a"))


def test_the_standard_deviation_is_unbiased() -> None:
    scores = (0.5, 0.75, 0.875, 0.6)
    record = make(*scores)
    assert record.test_mean == pytest.approx(statistics.mean(scores), abs=1e-12)
    assert record.test_std == pytest.approx(statistics.stdev(scores), abs=1e-12)
    assert record.val_mean == pytest.approx(statistics.mean(scores) / 2, abs=1e-12)
    assert record.seeds == [0, 1, 2, 3]


def test_one_seed_has_no_standard_deviation() -> None:
    assert make(0.5).test_std is None
    assert json.loads(make(0.5).to_json())["test_std"] is None


def test_json_is_one_line_with_the_promised_keys() -> None:
    line = make(0.5, 0.75).to_json()
    assert "\n" not in line
    assert list(json.loads(line)) == KEYS


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ("0", [0]),
        ("0-9", list(range(10))),
        ("0,3,5", [0, 3, 5]),
        ("7-7, 1-2", [7, 1, 2]),
        (4, [4]),
        ([2, 0], [2, 0]),
        (range(3), [0, 1, 2]),
        (np.int64(3), [3]),
        (np.arange(2), [0, 1]),
    ],
)
def test_parse_seeds(seeds: str | int | list[int], expected: list[int]) -> None:
    assert report.parse_seeds(seeds) == expected


@pytest.mark.parametrize(
    "seeds",
    [
        "",
        "a",
        "0-",
        "-1",
        "3-1",
        "1,1",
        "0-2,2",
        "0..9",
        [],
        -1,
        "0-99999",
        str(2**32),
        "٣",
        "9" * 5000,
        None,
        1.5,
    ],
)
def test_parse_seeds_refuses(seeds: str | int | list[int]) -> None:
    with pytest.raises(ConfigError, match="seeds"):
        report.parse_seeds(seeds)


def test_the_folder_holds_what_was_written(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with report.RunFolder(target, "unused") as run:
        run.write("result.json", {"a": 1})
        run.write_weights(3, {"w": torch.ones(2)}, {"model": "m"})
        run.write_metrics({3: [Epoch(1, 0.5, 0.25, 1.0)], 4: [Epoch(1, 0.5, 0.25, 1.0)]})
    names = ["metrics.jsonl", "result.json", "weights-seed3.safetensors"]
    assert sorted(p.name for p in target.iterdir() if p.name != ".lock") == names
    assert json.loads((target / "result.json").read_text()) == {"a": 1}
    lines = [json.loads(line) for line in (target / "metrics.jsonl").read_text().splitlines()]
    expected = {"seed": 3, "epoch": 1, "train_loss": 0.5, "val_loss": 0.25, "val_score": 1.0}
    assert lines == [expected, {**expected, "seed": 4}]
    # who may read one file of a run may read them all
    assert len({file.stat().st_mode for file in target.iterdir()}) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_before_anything_is_kept_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), report.RunFolder(tmp_path / "run", "unused") as run:
        run.write("config.json", {})
        raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["result.json", "checkpoint.safetensors"])
def test_an_exception_after_that_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RuntimeError), report.RunFolder(tmp_path / "run", "unused") as run:
        run.write(name, {})
        raise RuntimeError
    assert [p.name for p in (tmp_path / "run").iterdir() if p.name != ".lock"] == [name]


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(StoreError, match="exists already"), report.RunFolder(tmp_path / "run", "u"):
        pytest.fail("entered")
    with pytest.raises(StoreError, match="exists already"), report.RunFolder("", "u"):
        pytest.fail("entered")


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    with report.RunFolder(tmp_path / "run", "u") as first:
        first.write("config.json", {})
        with pytest.raises(StoreError, match="exists already"), report.RunFolder(first.path, "u"):
            pytest.fail("entered")
        again = report.RunFolder(None, "u", resume=first.path)
        with pytest.raises(StoreError, match="at work in another process"), again:
            pytest.fail("entered")


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no config.json"):
        report.RunFolder(None, "u", resume=tmp_path).__enter__()
    for name in ("config.json", "result.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(StoreError, match="is finished: there is nothing to resume"):
        report.RunFolder(None, "u", resume=tmp_path).__enter__()


def test_what_a_killed_process_was_writing_is_cleared(tmp_path: Path) -> None:
    for name in ("config.json", ".checkpoint.safetensors.7.tmp"):
        (tmp_path / name).write_text("{}")
    with report.RunFolder(None, "u", resume=tmp_path) as run:
        assert run.read("config.json") == {}
    assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == ["config.json"]


def test_a_place_that_cannot_be_written_is_found_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="cannot be written.*--out"),
        report.RunFolder(tmp_path / "file" / "run", "u"),
    ):
        pytest.fail("entered")


def test_default_names_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with report.RunFolder(None, "a") as first, report.RunFolder(None, "a") as second:
        first.write("result.json", {}), second.write("result.json", {})
    with report.RunFolder(None, "a") as third:
        pass
    assert [str(r.path) for r in (first, second, third)] == ["runs/a", "runs/a-2", "runs/a-3"]


def test_the_command_has_only_what_differs() -> None:
    defaults = {"data": "digits", "lr": 0.01, "on": True, "off": False, "out": None, "amp": None}
    options = {**defaults, "data": "a b", "lr": 0.1, "on": False, "off": True, "out": "x"}
    words = shlex.split(report.command("node", options, defaults))
    assert words == [
        "graphkit", "train", "node", "--data", "a b", "--lr", "0.1", "--no-on", "--off",
    ]  # fmt: skip
    assert report.command("node", defaults, defaults) == "graphkit train node"


def test_a_command_is_amended() -> None:
    command = "graphkit train node --seeds 0-9 --data 'a b'"
    assert report.amend(command, "seeds", "8,9").endswith("node --data 'a b' --seeds 8,9")
    assert report.amend(command, "root", "/c d") == f"{command} --root '/c d'"
