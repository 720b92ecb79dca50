"""Runs that are stopped at any moment go on and end with the same bits."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from graphkit.checkpoint import load_state
from graphkit.cli import main
from graphkit.errors import ConfigError, StoreError
from graphkit.recipes import node, plots, runs

ROOT = Path(__file__).parents[2]
Digests = Callable[[str], dict[str, str]]
OPTIONS: dict[str, Any] = dict(model="acm-gcn", seeds="0-1", epochs=30, hidden=16, quiet=True)

# a process that has loaded all there is to load, and forks one that trains for each line it gets
NURSERY = """
import os, sys
from graphkit.recipes import node, runs
node(epochs=1, quiet=True, out="warm")
runs.INTERVAL = 0.0
print("ready", flush=True)
for line in sys.stdin:
    out, resume = (None, "run") if line.strip() == "resume" else ("run", None)
    child = os.fork()
    if child == 0:
        print(f"child {os.getpid()}", flush=True)
        options = dict(model="acm-gcn", seeds="0-1", epochs=30, hidden=16, quiet=True)
        node(**options, out=out, resume=resume)
        os._exit(0)
    print("end", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and SIGKILL")
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(
    digests: Digests, request: pytest.FixtureRequest
) -> None:
    """8 kills (100 with --slow), each resumed; every finished run has the bits of a whole one."""
    kills = 100 if request.config.getoption("--slow") else 8
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes: Any = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    draw = random.Random(0)
    with subprocess.Popen([sys.executable, "-c", NURSERY], **pipes) as nursery:
        assert nursery.stdin and nursery.stdout

        def start(word: str) -> int:
            nursery.stdin.write(f"{word}\n")  # pyright: ignore[reportOptionalMemberAccess]
            nursery.stdin.flush()  # pyright: ignore[reportOptionalMemberAccess]
            return int(nursery.stdout.readline().split()[1])  # pyright: ignore[reportOptionalMemberAccess]

        def end() -> int:
            return int(nursery.stdout.readline().split()[1])  # pyright: ignore[reportOptionalMemberAccess]

        assert nursery.stdout.readline() == "ready\n"
        began = time.monotonic()
        start("new")
        assert end() == 0
        length = time.monotonic() - began
        whole, killed, resumed = digests("run"), 0, 0
        assert len(whole) == 3
        Path("run").rename("whole")
        while killed < kills or Path("run").exists():
            # a kill before the folder was complete leaves nothing to resume
            fresh = not Path("run/config.json").exists()
            if fresh and Path("run").exists():
                Path("run").rename(f"stillborn-{time.monotonic_ns()}")
            child = start("new" if fresh else "resume")
            resumed += not fresh
            if killed < kills:
                time.sleep(draw.uniform(0, 0.6 * length))
                # it may have come to its end before
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            code = end()
            killed += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL)
            # a kill may also come after the last file and before the end of the process
            is_whole = Path("run/result.json").exists()
            is_whole &= not Path("run/checkpoint.safetensors").exists()
            assert is_whole or code != 0
            if is_whole:
                assert digests("run") == whole
                Path("run").rename(f"finished-{killed}-{time.monotonic_ns()}")
        nursery.stdin.close()
    assert resumed >= kills // 2


def stop_at(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C while the ``epoch``-th epoch of the run is shown."""
    seen, show = [0], plots.Progress.__call__

    def send(self: plots.Progress, now: Any) -> None:
        show(self, now)
        seen[0] += 1
        if seen[0] == epoch:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(plots.Progress, "__call__", send)


@pytest.mark.parametrize("epoch", [1, 17, 45])
def test_a_stopped_run_goes_on_with_the_same_bits(own: Data, epoch: int, digests: Digests) -> None:
    options: dict[str, Any] = {**OPTIONS, "data": own}
    whole = node(**options, out="whole")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(epoch, patch)
        node(**options, out="run")
    record = node(**options, resume="run")
    assert digests("run") == digests("whole")
    first, second = (
        [dataclasses.replace(row, seconds=0.0) for row in run.rows] for run in (whole, record)
    )
    assert first == second
    assert sorted(p.name for p in Path("run").iterdir() if p.name != ".lock") == sorted(
        p.name for p in Path("whole").iterdir() if p.name != ".lock"
    )
    with pytest.raises(StoreError, match="is finished: there is nothing to resume"):
        node(**options, resume="run")


@pytest.fixture
def stopped(own: Data, monkeypatch: pytest.MonkeyPatch) -> Data:
    """The data of a run in the folder ``run`` that was stopped after five epochs."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(5, patch)
        node(data=own, **OPTIONS, out="run")
    return own


def test_another_machine_version_or_thread_count_is_refused(stopped: Data) -> None:
    path = Path("run/environment.json")
    environment = json.loads(path.read_text())
    for name, value in {"threads": 7, "torch": "1.0", "cpu": "abacus", "device": "cuda"}.items():
        path.write_text(json.dumps({**environment, name: value}))
        with pytest.raises(ConfigError, match=f"had {name} {value!r}, here it is"):
            node(data=stopped, **OPTIONS, resume="run")
    path.write_text(json.dumps(environment))
    node(data=stopped, **OPTIONS, resume="run")


def test_other_data_is_refused(stopped: Data) -> None:
    stopped.x[0, 0] += 1
    with pytest.raises(ConfigError, match="was trained on other data"):
        node(data=stopped, **OPTIONS, resume="run")


@pytest.mark.parametrize("name", ["seeds", "lr", "hidden", "model"])
def test_other_options_are_refused(stopped: Data, name: str) -> None:
    other = {"seeds": "7", "lr": 0.5, "hidden": 8, "model": "gcn"}[name]
    with pytest.raises(ConfigError, match=f"began with {name} .*, got '?{other}'?"):
        node(data=stopped, **{**OPTIONS, name: other}, resume="run")


def test_a_run_that_was_killed_at_its_very_start_begins_again(
    own: Data, digests: Digests, stopped: Data
) -> None:
    Path("run/checkpoint.safetensors").unlink()
    node(data=own, **OPTIONS, resume="run")
    node(data=own, **OPTIONS, out="whole")
    assert digests("run") == digests("whole")


def test_a_damaged_checkpoint_is_named(stopped: Data) -> None:
    """100 flipped bits, half of them in its header, and 50 cuts."""
    path = Path("run/checkpoint.safetensors")
    whole = path.read_bytes()
    bits = [torch.randint(0, 8 * size, (50,)) for size in (len(whole), 1000)]
    damaged = [whole[:end] for end in torch.randint(0, len(whole), (50,)).tolist()]
    for number in torch.cat(bits).tolist():
        bad = bytearray(whole)
        bad[number // 8] ^= 1 << number % 8
        damaged.append(bytes(bad))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"run/checkpoint\.safetensors"):
            load_state(path)
    with pytest.raises(StoreError, match=r"run/checkpoint\.safetensors"):
        node(data=stopped, **OPTIONS, resume="run")
    path.write_bytes(whole)
    node(data=stopped, **OPTIONS, resume="run")


def test_checkpoints_come_by_the_clock(own: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = runs.save_state

    def spy(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        current = load_state(path)["current"]
        saved.append(0 if current is None else len(current["history"]))

    monkeypatch.setattr(runs, "save_state", spy)
    monkeypatch.setattr(runs, "INTERVAL", 0.0)
    node(data=own, **{**OPTIONS, "epochs": 3})
    assert saved == [1, 2, 3, 0, 1, 2, 3, 0]
    saved.clear()
    monkeypatch.setattr(runs, "INTERVAL", 1e9)
    node(data=own, **{**OPTIONS, "epochs": 3})
    assert saved == [0, 0]


def test_the_command_line_resumes(digests: Digests, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "mlp-digits", "--seeds", "0-1", "--epochs", "12", "--hidden", "16", "--out"]
    assert main([*words, "whole"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_at(15, patch)
        assert main([*words, "run"]) == 130
    told = "Interrupted: 1 of 2 seeds are finished. To go on: graphkit train --resume run"
    assert capsys.readouterr().err.endswith(f"error: {told}\n")
    assert main(["train", "--resume", "run", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["seeds"] == [0, 1]
    assert "resuming run: 1 seeds finished, seed 1 after epoch 3" in err
    assert "graphkit train mlp-digits --seeds 0-1 --hidden 16 --epochs 12" in err
    assert digests("run") == digests("whole")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ('{"options": {}}', "is not the config.json of a run folder"),
        ("[]", "is not the config.json of a run folder"),
        ('{"recipe": "node", "options": {"epohs": 1}}', "Did you mean 'epochs'"),
        ('{"recipe": "nod", "options": {}}', "unknown recipe 'nod'"),
    ],
)
def test_a_malformed_configuration_is_one_line(
    content: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad").mkdir()
    Path("bad/config.json").write_text(content)
    assert main(["train", "--resume", "bad"]) == 2
    err = capsys.readouterr().err
    assert part in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--resume", "nowhere"], "nowhere cannot be read"),
        (["--resume", "run", "--lr", "1"], "--resume takes the options that the run began with"),
        (["gcn-cora", "--resume", "run"], "--resume takes the options that the run began with"),
    ],
)
def test_mistakes_with_resume(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) in (1, 2)
    assert part in capsys.readouterr().err
