"""The peak memory of one contender, in a process of its own: a peak never falls within one.

python -m benchmarks.memory FILE CONTENDER THREADS CASES prints one JSON object for each case. The
problem is built and the contender prepared and called once; then what it does not hold of the
problem is let go, free heap goes back to the system, Linux is told to forget the peak so far
(clear_refs), and the second call is watched. A case that cannot be run there prints nulls.
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

NONE: dict[str, Any] = {"peak_mb": None, "call_mb": None, "beside_mb": None}


def peaks(
    entry: Entry, contender: str, cases: Sequence[Mapping[str, Any]], threads: int
) -> list[dict[str, Any]]:
    """For each of ``cases`` the peak of the process, and what of it the call added, in MB.

    ``beside_mb`` is what of the peak stands beside the imports and the problem: what the call added
    and what was prepared for it. All are None where the contender is absent or fails, or where no
    peak can be reset (outside Linux).
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


def settled() -> int:
    """The bytes that this process holds once free heap went back to the system."""
    gc.collect()
    # elsewhere than in glibc, free heap stays resident and the next call may use it unseen
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    return resident()


def watch(call: Call, empty: int) -> dict[str, float | None]:
    """``peak_mb`` of this process during ``call``, and what of it came with the call and since the
    process held ``empty`` bytes.
    """
    before = settled()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return dict(NONE)
    kept = call()
    most = peak(torch.device("cpu"))
    del kept
    found = {"peak_mb": most, "call_mb": most - before, "beside_mb": most - empty}
    return {name: round(max(0, size) / MB, 1) for name, size in found.items()}


def observed(entry: Entry, contender: str, params: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of one case, of which nothing is left afterwards."""
    problem = entry.problem(**params)
    empty = settled()
    call = entry.prepare(contender, problem).call
    call()
    before = settled()
    del problem
    # what the contender has no use for is there neither in its peak nor in what that is beside
    return watch(call, empty - (before - settled()))


def main() -> None:
    path, contender, threads, cases = sys.argv[1:]
    torch.set_num_threads(int(threads))
    entry = read(Path(path))
    for params in json.loads(cases):
        try:
            figures = observed(entry, contender, params)
        except Exception:
            # why it cannot be run is told where it is timed
            figures = NONE
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
