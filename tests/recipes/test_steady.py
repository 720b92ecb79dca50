from __future__ import annotations

import importlib
import io
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from graphkit.recipes import node

# the package's attribute of this name is the function
MODULE = importlib.import_module("graphkit.recipes.node")
FILES = ["config.json", "curves.png", "curves.svg", "environment.json", "metrics.jsonl"]
QUICK = dict(epochs=8, hidden=16, quiet=True)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAPHKIT_DATA", raising=False)


@pytest.fixture
def own() -> Data:
    """Three groups that the graph shows and the features hint at, in four splits."""
    y = torch.arange(90) % 3
    src, dst = torch.randint(0, 90, (2, 1500))
    same = y[src] == y[dst]
    part = torch.stack([torch.randperm(90) % 3 for _ in range(4)], dim=1)
    return Data(
        x=torch.eye(3)[y] + torch.randn(90, 3),
        edge_index=torch.stack([src[same], dst[same]]),
        y=y,
        train_mask=part == 0,
        val_mask=part == 1,
        test_mask=part == 2,
    )


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """``fit`` works ``count`` times and then gets a Ctrl-C."""
    left, fit = iter(range(count)), MODULE.fit

    def interrupt(*args: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return fit(*args, **options)

    monkeypatch.setattr(MODULE, "fit", interrupt)


def test_a_run_interrupted_in_its_first_seed_leaves_nothing(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        node(data=own, out="here/run", **QUICK)
    assert list(Path("here").iterdir()) == []


def test_an_interrupted_run_keeps_the_finished_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt) as caught:
        node(seeds="0-3", out="here/run", **QUICK)
    assert str(caught.value) == (
        "Interrupted: 2 of 4 seeds are kept in here/run. The others: "
        "graphkit train node --hidden 16 --epochs 8 --seeds 2,3"
    )
    assert [path.name for path in Path("here").iterdir()] == ["run"]
    run = Path("here/run")
    result = json.loads((run / "result.json").read_text())
    assert result["interrupted"] is True and result["seeds"] == [0, 1]
    weights = ["weights-seed0.safetensors", "weights-seed1.safetensors"]
    assert sorted(p.name for p in run.iterdir()) == [*FILES, "result.json", *weights]
    assert (run / "metrics.jsonl").read_text().count("\n") == 16


def test_a_second_interrupt_waits_until_the_run_is_kept(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(1, monkeypatch)
    monkeypatch.setattr(MODULE.plots, "curves", lambda *a, **o: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="1 of 4 seeds are kept in run. The others: seeds"):
        node(data=own, seeds="0-3", out="run", **QUICK)
    assert json.loads(Path("run/result.json").read_text())["seeds"] == [0]
    assert [path.name for path in Path().iterdir()] == ["run"]


def test_an_interrupt_after_the_last_seed_keeps_all(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MODULE.plots.Progress, "finish", stop)
    with pytest.raises(KeyboardInterrupt, match="all 1 seeds are kept in run"):
        node(data=own, out="run", **QUICK)
    assert "interrupted" not in json.loads(Path("run/result.json").read_text())


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_closed_console_ends_no_training(own: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Closed())
    record = node(data=own, seeds="0-1", epochs=8)
    assert record.seeds == [0, 1] and Path(record.run).is_dir()


TRAIN = f"{sys.executable} -m graphkit train --epochs 40 --hidden 16 --seeds 0-1"


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    def run(line: str) -> tuple[int, str, str]:
        words = ["bash", "-o", "pipefail", "-c", line]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.skipif(sys.platform != "linux", reason="needs bash and /dev/full")
def test_a_console_that_fails_ends_no_training(shell: Any) -> None:
    ways = ("--out a | head -1", "--out b > /dev/full", "--out c >&- 2>&-")
    ways += ("--out d --json 2>&-", "--out e --json 2> /dev/full")
    with ThreadPoolExecutor() as pool:
        piped, full, closed, *silent = pool.map(shell, [f"{TRAIN} {way}" for way in ways])
    assert piped[0] == 0 and piped[1].startswith("digits: ") and piped[2] == ""
    told = "error: Standard output cannot be written: No space left on device.\n"
    assert full == (1, "", told) and closed[0] == 0
    assert [(code, json.loads(out)["run"]) for code, out, _ in silent] == [(0, "d"), (0, "e")]
    assert sorted(path.name for path in Path().iterdir()) == list("abcde")
    assert all(Path(name, "curves.png").is_file() for name in "abcde")


@pytest.mark.skipif(sys.platform != "linux", reason="needs bash and /dev/full")
def test_results_that_cannot_be_printed_are_one_line(shell: Any) -> None:
    for line in ("data list", "--help", "train --help"):
        code, _, err = shell(f"{sys.executable} -m graphkit {line} > /dev/full")
        assert code == 1 and err.startswith("error: Standard output") and err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_keep_the_finished_seeds(shell: Any, number: signal.Signals, code: int) -> None:
    line = [*TRAIN.split()[:-1], "0-99", "--out", "run"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout and run.stderr
        while not run.stdout.readline().startswith("seed 1: "):
            pass
        run.send_signal(number)
        err = run.communicate(timeout=60)[1]
    assert run.returncode == code
    assert [path.name for path in Path().iterdir()] == ["run"]
    result = json.loads(Path("run/result.json").read_text())
    assert result["interrupted"] and result["seeds"][:2] == [0, 1] and len(result["seeds"]) < 100
    kept = len(result["seeds"])
    assert err.startswith(f"error: Interrupted: {kept} of 100 seeds are kept in run. The others: ")
    assert f"--seeds {kept}" in err and err.count("\n") == 1
    again = subprocess.Popen(line[:-1] + ["next"], stdout=subprocess.PIPE, text=True)
    assert again.stdout and again.stdout.readline()
    again.send_signal(number)
    again.communicate(timeout=60)
    assert again.returncode == code and [path.name for path in Path().iterdir()] == ["run"]
