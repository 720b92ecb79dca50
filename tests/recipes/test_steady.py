from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torch_geometric.data import Data

from graphkit.recipes import node, plots, steady
from graphkit.recipes.loop import Epoch

FILES = ["config.json", "curves.png", "curves.svg", "environment.json", "metrics.jsonl"]
QUICK = dict(epochs=8, hidden=16, quiet=True)


def signal_at(epoch: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGINT) -> None:
    """The run gets a signal when its ``epoch``-th epoch of all seeds is shown."""
    left, show, sent = iter(range(epoch - 1)), plots.Progress.__call__, []

    def send(self: plots.Progress, now: Epoch) -> None:
        show(self, now)
        if next(left, None) is None and not sent:
            sent.append(number)
            signal.raise_signal(number)

    monkeypatch.setattr(plots.Progress, "__call__", send)


def test_a_run_stopped_in_its_first_seed_keeps_its_epochs(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_at(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt) as caught:
        node(data=own, out="here/run", **QUICK)
    assert str(caught.value) == (
        "Interrupted: 0 of 1 seeds are finished. To go on: graphkit train --resume here/run"
    )
    kept = {"checkpoint.safetensors", "config.json", "environment.json"}
    assert {p.name for p in Path("here/run").iterdir() if p.name != ".lock"} == kept


def test_a_stopped_run_delivers_its_finished_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    signal_at(19, monkeypatch)
    with pytest.raises(KeyboardInterrupt, match="2 of 4 seeds are finished"):
        node(seeds="0-3", out="here/run", **QUICK)
    assert [path.name for path in Path("here").iterdir()] == ["run"]
    run = Path("here/run")
    result = json.loads((run / "result.json").read_text())
    assert result["interrupted"] is True and result["seeds"] == [0, 1]
    more = ["result.json", "weights-seed0.safetensors", "weights-seed1.safetensors"]
    assert sorted(p.name for p in run.iterdir() if p.name != ".lock") == [
        "checkpoint.safetensors",
        *FILES,
        *more,
    ]
    assert (run / "metrics.jsonl").read_text().count("\n") == 16


def test_a_second_signal_stops_at_once(own: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: plots.Progress, now: Epoch) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("went on")

    monkeypatch.setattr(plots.Progress, "__call__", twice)
    with pytest.raises(steady.Terminated, match="before the first epoch was complete"):
        node(data=own, out="here/run", **QUICK)
    assert list(Path("here").iterdir()) == []


def test_a_signal_while_results_are_written_takes_nothing_away(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_at(9, monkeypatch)
    monkeypatch.setattr(plots, "curves", lambda *a, **o: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="1 of 4 seeds are finished"):
        node(data=own, seeds="0-3", out="run", **QUICK)
    assert json.loads(Path("run/result.json").read_text())["seeds"] == [0]


def test_a_signal_in_the_last_epoch_ends_the_run_as_usual(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        plots.Progress, "finish", lambda *a, **o: signal.raise_signal(signal.SIGINT)
    )
    record = node(data=own, out="run", **QUICK)
    assert record.seeds == [0] and not Path("run/checkpoint.safetensors").exists()
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
    told = f"error: Interrupted: {kept} of 100 seeds are finished. To go on: "
    assert err.endswith(f"{told}graphkit train --resume run\n") and err.count("error") == 1
