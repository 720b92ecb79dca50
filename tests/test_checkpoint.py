from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit.checkpoint import load_state, random_state, save_state, set_random_state
from graphkit.errors import StoreError
from graphkit.store import save_tensors

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.integers(0, 9).map(lambda n: torch.arange(n) * 0.5),
)
states = st.dictionaries(
    st.text() | st.integers(),
    st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner)
            | st.lists(inner).map(tuple)
            | st.dictionaries(st.text() | st.integers(), inner)
        ),
        max_leaves=12,
    ),
)


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=40)
@given(states)
def test_any_state_comes_back(tmp_path: Path, state: dict[object, object]) -> None:
    save_state(tmp_path / "c", state)  # pyright: ignore[reportArgumentType]
    assert equal(load_state(tmp_path / "c"), state)


def test_random_numbers_go_on(tmp_path: Path) -> None:
    def draw() -> tuple[float, ...]:
        normal = torch.randn(1).item(), np.random.standard_normal()
        return random.gauss(0, 1), np.random.random(), torch.rand(1).item(), *normal

    draw()
    save_state(tmp_path / "c", random_state(CPU))
    expected = [draw() for _ in range(3)]
    draw()
    set_random_state(load_state(tmp_path / "c"), CPU)
    assert [draw() for _ in range(3)] == expected


def test_an_optimizer_goes_on(tmp_path: Path) -> None:
    def step(weight: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        (weight.sin() * torch.arange(5.0)).sum().backward()
        optimizer.step()

    ends = []
    for stop in (False, True):
        weight = torch.ones(5, requires_grad=True)
        optimizer = torch.optim.Adam([weight])
        for number in range(6):
            if stop and number == 3:
                save_state(tmp_path / "c", {"w": weight, "o": optimizer.state_dict()})
                state = load_state(tmp_path / "c")
                weight = state["w"].clone().requires_grad_()
                optimizer = torch.optim.Adam([weight])
                optimizer.load_state_dict(state["o"])
            step(weight, optimizer)
        ends.append(weight.tolist())
    assert ends[0] == ends[1]


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {}, {"model": "gcn"})
    with pytest.raises(StoreError, match=r"a is no checkpoint .* its version is none, expected 1"):
        load_state(tmp_path / "a")
    save_tensors(tmp_path / "a", {}, {"checkpoint": 99, "tree": None})
    with pytest.raises(StoreError, match="its version is 99, expected 1. Resume with the graphkit"):
        load_state(tmp_path / "a")


# a process that has loaded all there is to load, and forks one that saves for each line it gets
NURSERY = """
import os, sys, torch
from graphkit.checkpoint import save_state
torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        number = int(line)
        while True:
            number += 1
            save_state(sys.argv[1], {"number": number, "w": torch.full((50_000,), float(number))})
            # one write: a kill must not leave half a line in the pipe
            os.write(1, f"saved {number}\\n".encode())
    print(f"child {child}", flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_kill_while_saving_leaves_a_whole_checkpoint(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """20 kills (100 with --slow) at random moments: the file is the last one told, or the next."""
    kills = 100 if request.config.getoption("--slow") else 20
    path, number = tmp_path / "c", 0
    draw = random.Random(0)
    line = [sys.executable, "-c", NURSERY, str(path)]
    pipes: Any = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with subprocess.Popen(line, **pipes) as nursery:
        assert nursery.stdin and nursery.stdout and nursery.stdout.readline() == "ready\n"
        for _ in range(kills):
            nursery.stdin.write(f"{number}\n")
            nursery.stdin.flush()
            lines = [nursery.stdout.readline(), nursery.stdout.readline()]
            child = next(int(text.split()[1]) for text in lines if text.startswith("child"))
            time.sleep(draw.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            while lines[-1] != "dead\n":
                lines.append(nursery.stdout.readline())
            told = [int(text.split()[1]) for text in lines if text.startswith("saved")]
            state = load_state(path)
            assert state["number"] in ((told[-1], told[-1] + 1) if told else (number, number + 1))
            assert (state["w"] == state["number"]).all()
            number = state["number"]
        nursery.stdin.close()
