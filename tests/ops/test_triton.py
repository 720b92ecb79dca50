"""The kernels for GPUs, without one: under triton's interpreter, and compiled ahead of time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# of the tests that hold for every op, those that tell most for their time
SHARED = "spmm_on_the_zoo"


def run(*command: str, **environment: str) -> str:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=HERE.parent.parent,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def test_under_the_interpreter() -> None:
    files = [str(HERE / name) for name in ("triton_cases.py",)]
    quiet = ["-p", "no:cacheprovider", "-p", "no:randomly", "--durations=5"]
    print(run("-m", "pytest", *quiet, *files, TRITON_INTERPRET="1"))


def test_every_kernel_compiles_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    """The table has each kernel's registers and shared memory: pytest shows it with -s."""
    table = run(str(HERE / "triton_compiled.py"), TRITON_CACHE_DIR=str(tmp_path))
    print(table)
    assert table.splitlines()[-1].startswith("compiled ")
