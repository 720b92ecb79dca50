"""The peak memory of one contender, in a process of its own: a peak never falls within one.

python -m benchmarks.memory FILE CONTENDER THREADS CASES prints one JSON object for each case. The
problem is built and the contender prepared and called once; then free heap goes back to the system,
Linux is told to forget the peak so far (clear_refs), and the second call is watched.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from graphkit.recipes.memory import MB, peak, resident

from .entry import FOLDER, Call, Entry, read

NONE = {"peak_mb": None, "call_mb": None}


def peaks(
    entry: Entry, contender: str, cases: Sequence[Mapping[str, Any]], threads: int
) -> list[dict[str, Any]]:
    """For each of ``cases`` the peak of the process and what of it the call added, in MB.

    Both are None where the contender is absent or fails, or where no peak can be reset (outside
    Linux).
    """
    words = [str(entry.path), contender, str(threads), json.dumps([dict(c) for c in cases])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *words],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"peak_mb"')]
    return found + [NONE] * (len(cases) - len(found))


def child_environment() -> dict[str, str]:
    """The environment of a process that imports graphkit and benchmarks from this checkout."""
    paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def watch(call: Call) -> dict[str, float | None]:
    """``peak_mb`` of this process during ``call`` and ``call_mb``, what the call added to it."""
    gc.collect()
    # elsewhere than in glibc, free heap stays resident and the call may use it unseen
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return dict(NONE)
    before = resident()
    kept = call()
    most = peak(torch.device("cpu"))
    del kept
    return {"peak_mb": round(most / MB, 1), "call_mb": round(max(0, most - before) / MB, 1)}


def main() -> None:
    path, contender, threads, cases = sys.argv[1:]
    torch.set_num_threads(int(threads))
    entry = read(Path(path))
    for params in json.loads(cases):
        call = entry.contenders[contender](entry.problem(**params))
        call()
        print(json.dumps(watch(call)), flush=True)


if __name__ == "__main__":
    main()
