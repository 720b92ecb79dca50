"""``python -m graphkit`` and the command ``graphkit``: the command line in a process of its own."""

from __future__ import annotations

import importlib
import os
import sys

# what torch and its threads read from the environment when they are loaded, so that it is settled
# before they are. Page faults of 4 KiB outweigh most of the work on large tensors. Threads that
# spin while they wait for each other take the cores from those that make batches ahead.
SETTINGS = {"THP_MEM_ALLOC_ENABLE": "1", "OMP_WAIT_POLICY": "passive"}


def start() -> int:
    """:func:`graphkit.cli.main` with :data:`SETTINGS`, where the environment does not say else."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    return importlib.import_module("graphkit.cli").main()


if __name__ == "__main__":
    sys.exit(start())
