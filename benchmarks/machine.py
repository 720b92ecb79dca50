"""The machine a figure was measured on: what it is, what it can do, and who else was using it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from graphkit.ops.cpu import native
from graphkit.recipes.memory import environment

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
PACKAGES = ("torch_scatter", "torch_sparse", "pyg_lib", "scipy")
_ALLOCATION = ("LD_PRELOAD", "MALLOC_", "GLIBC_TUNABLES", HUGE_PAGES)
_THREADING = ("OMP_", "GOMP_", "KMP_", "MKL_")
_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def describe() -> dict[str, Any]:
    """Versions, commit, processor, threads, and the settings of allocator and thread pools."""
    found = environment(torch.device("cpu"))
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    found["kernels"] = native.serves()
    found["cores"] = os.cpu_count()
    found["allocator"] = allocator(os.environ)
    found["huge_pages"] = huge_pages()
    found["pools"] = _settings(os.environ, _THREADING)
    return found


def allocator(variables: Mapping[str, str]) -> str:
    """``stock``, or the variables that change how memory is allocated, with their values."""
    # torch takes 0 as if it were not set
    off = variables.get(HUGE_PAGES) == "0"
    chosen = {k: v for k, v in variables.items() if not (off and k == HUGE_PAGES)}
    return _settings(chosen, _ALLOCATION) or "stock"


def _settings(variables: Mapping[str, str], prefixes: tuple[str, ...]) -> str:
    chosen = {name: value for name, value in variables.items() if name.startswith(prefixes)}
    # of a library its name counts, not where it lies
    names = {name: re.sub(r"[^\s:=]*/", "", value) for name, value in chosen.items()}
    return " ".join(f"{name}={value}" for name, value in sorted(names.items()))


def huge_pages() -> str | None:
    """Linux's mode of transparent huge pages: always, madvise or never; None elsewhere."""
    try:
        return _MODE.read_text(encoding="ascii").split("[")[1].split("]")[0]
    except (OSError, IndexError):
        return None


def load() -> float | None:
    """The 1-minute load average, which counts this process too; None where there is none."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


class Others:
    """How many cores everybody else used, steal included, since this was made."""

    def __init__(self) -> None:
        self.began = self._now()

    def cores(self) -> float | None:
        """The mean number of cores so far; None outside Linux."""
        if self.began is None or (now := self._now()) is None:
            return None
        wall, busy, own = (b - a for a, b in zip(self.began, now, strict=True))
        return round(max(0.0, (busy - own) / wall), 2) if wall > 0 else None

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds: of the clock, of all cores at work, of this process and those it has ended."""
        try:
            with open("/proc/stat", encoding="ascii") as file:
                ticks = [int(word) for word in file.readline().split()[1:9]]
        except OSError:
            return None
        user, nice, system, _idle, _wait, irq, softirq, steal = ticks
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        mine = os.times()
        own = mine.user + mine.system + mine.children_user + mine.children_system
        return time.monotonic(), busy, own
