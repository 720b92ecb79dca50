from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch_geometric.data import Data

from graphkit.recipes import node, plots, steady
from graphkit.recipes.loop import Epoch

ROOT = Path(__file__).parents[2]
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


@pytest.mark.usefixtures("drawn")
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


TRAIN = "train --epochs 40 --hidden 16 --seeds 0-1"

# a process that has loaded all there is to load, and forks one for each command line it gets; who
# has the place None finds that stream closed, as Python does when it starts
NURSERY = """
import json, os, sys
from graphkit import __main__
from graphkit.recipes import node
node(epochs=1, quiet=True, out="warm")
print("ready", flush=True)
for asked in sys.stdin:
    folder, line, *places = json.loads(asked)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.close(number)
            if places[number - 1] is None:
                setattr(sys, name, None)
            else:
                assert os.open(places[number - 1], os.O_WRONLY | os.O_CREAT) == number
        sys.argv = ["graphkit", *line.split()]
        sys.exit(__main__.start())
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin and process.stdout
        self.asks, self.tells = process.stdin, process.stdout

    def start(self, line: str, out: str | None, err: str | None) -> int:
        self.asks.write(json.dumps([os.getcwd(), line, out, err]) + "\n")
        self.asks.flush()
        return int(self.tells.readline())

    def end(self) -> int:
        return int(self.tells.readline())

    def run(self, line: str, out: str | None, err: str | None) -> int:
        self.start(line, out, err)
        return self.end()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes: Any = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    line, folder = [sys.executable, "-c", NURSERY], tmp_path_factory.mktemp("nursery")
    with subprocess.Popen(line, cwd=folder, **pipes) as process:
        assert process.stdin and process.stdout and process.stdout.readline() == "ready\n"
        yield Nursery(process)
        process.stdin.close()


def shell(line: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """A whole process: of such things as Python itself does with its streams."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["bash", "-c", f"{sys.executable} -m graphkit {line}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork, bash and /dev/full")
def test_a_console_that_fails_ends_no_training(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo("pipe")
    nursery.start(f"{TRAIN} --out a", "pipe", "a.err")
    with open("pipe") as pipe:
        assert pipe.readline().startswith("digits: ")
    assert nursery.end() == 0 and Path("a.err").read_text() == ""
    assert nursery.run(f"{TRAIN} --out b", "/dev/full", "b.err") == 1
    told = "error: Standard output cannot be written: No space left on device.\n"
    assert Path("b.err").read_text() == told
    assert shell(f"{TRAIN} --out c >&- 2>&-", monkeypatch) == (0, "", "")
    for name, err in (("d", None), ("e", "/dev/full")):
        assert nursery.run(f"{TRAIN} --out {name} --json", f"{name}.out", err) == 0
        assert json.loads(Path(f"{name}.out").read_text())["run"] == name
    assert sorted(path.name for path in Path().iterdir() if path.is_dir()) == list("abcde")
    assert all(Path(name, "curves.png").is_file() for name in "abcde")


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork, bash and /dev/full")
def test_results_that_cannot_be_printed_are_one_line(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [shell("data list > /dev/full", monkeypatch)]
    for number, line in enumerate(("data list", "--help", "train --help")):
        code = nursery.run(line, "/dev/full", f"{number}.err")
        found.append((code, "", Path(f"{number}.err").read_text()))
    for code, _, err in found:
        assert code == 1 and err.startswith("error: Standard output") and err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork, and such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_keep_the_finished_seeds(
    nursery: Nursery, number: signal.Signals, code: int
) -> None:
    os.mkfifo("pipe")
    child = nursery.start(f"{TRAIN.removesuffix('0-1')}0-99 --out run", "pipe", "err")
    with open("pipe") as pipe:
        assert any(line.startswith("seed 1: ") for line in pipe)
        os.kill(child, number)
        pipe.read()
    assert nursery.end() == code
    assert [path.name for path in Path().iterdir() if path.is_dir()] == ["run"]
    result, err = json.loads(Path("run/result.json").read_text()), Path("err").read_text()
    assert result["interrupted"] and result["seeds"][:2] == [0, 1] and len(result["seeds"]) < 100
    kept = len(result["seeds"])
    told = f"error: Interrupted: {kept} of 100 seeds are finished. To go on: "
    assert err.endswith(f"{told}graphkit train --resume run\n") and err.count("error") == 1
