"""The machine a run uses: its device, random numbers, threads and memory. (opt: resource)"""

from __future__ import annotations

import copy
import os
import platform
import random
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .. import __version__
from ..errors import BackendError, ConfigError, nearest
from ..graph import Graph

MB = 10**6
# multiply-adds of the widest layer; below it a second thread was measured to gain under 20 %
WORK_PER_THREAD = 100_000_000


@dataclass(frozen=True)
class Prediction:
    """Bytes: what the process (or the CUDA device) holds now, and what training adds to it."""

    held: int
    step: int
    device: str

    def __str__(self) -> str:
        where = "process" if self.device == "cpu" else "model and data"
        total = (self.held + self.step) / MB
        return f"{total:,.0f} MB ({where} {self.held / MB:,.0f} MB + step {self.step / MB:,.0f} MB)"


class _LiveBytes(TorchDispatchMode):
    """Adds up the storages that ops create while active and subtracts those that die.

    Only those of ``device`` and of the meta device, which stands for it.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            # a view or an in-place result lives in the storage of an argument
            if isinstance(leaf, Tensor) and _key(leaf) not in given:
                self._add(leaf)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = _key(tensor)
        if key in self._known or tensor.device.type not in ("meta", self.device):
            return
        self._known.add(key)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._remove, key, storage.nbytes()).atexit = False

    def _remove(self, key: int, nbytes: int) -> None:
        self._known.discard(key)
        self.live -= nbytes


def find_device(name: str) -> torch.device:
    """The device ``name``; ``auto`` is the first CUDA device if there is one, else the CPU.

    Raises:
        ConfigError: there is no such kind of device.
        BackendError: this machine, or this build of torch, does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdecimal():
        raise ConfigError(f"Unknown device {name!r}. {nearest(name, ('auto', 'cpu', 'cuda'))}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"Device {name!r} is not there: torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices. Use device auto or cpu."
        )
    return torch.device(name)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit, machine, device and threads of this process, for ``environment.json``."""
    packages = ("torch", "torch_geometric", "numpy")
    return {
        "python": platform.python_version(),
        "graphkit": __version__,
        "commit": _commit(),
        **{name: _version(name) for name in packages},
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }


def is_lack(error: BaseException) -> bool:
    """Does ``error`` tell of a lack of memory?"""
    # on the CPU torch tells of it by a plain RuntimeError
    lack = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return lack or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


@contextmanager
def threads(work: int) -> Iterator[None]:
    """Inside, torch uses a thread per ``WORK_PER_THREAD`` of ``work``, never more than before.

    Threads that meet at a barrier many times a millisecond gain nothing on a small graph, and
    where other processes use the cores they make an epoch 20 times slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, work // WORK_PER_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, the generators of Python, NumPy and torch start from ``seed``; after, as before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@torch.enable_grad()
def predict(
    model: nn.Module,
    x: Tensor,
    graph: Graph,
    y: Tensor,
    train_id: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    weight: Tensor | None = None,
) -> Prediction | None:
    """The peak that training ``model`` will reach, or None if one of its ops has no shape function.

    Forward and backward run once on the meta device, which computes shapes and no values, while
    the living storages are added up: gradients are among them, Adam's two moments and the copy of
    the best weights are added. Memory that an op uses inside and allocator slack are not seen.
    ``weight``, of the hyperedges of a hypergraph, is what the model takes behind ``graph``.
    """
    place = x.device
    x, y, row_id, graph = x.to("meta"), y.to("meta"), train_id.to("meta"), graph.to("meta")
    more = () if weight is None else (weight.to("meta"),)
    return predict_step(
        model, lambda shapes: loss(shapes(x, graph, *more)[row_id].float(), y[row_id]), place
    )


@torch.enable_grad()
def predict_step(
    model: nn.Module, step: Callable[[nn.Module], Tensor], place: torch.device
) -> Prediction | None:
    """As :func:`predict`, of ``step(model)``, which is given the model on the meta device and
    returns the loss there."""
    peak = most_bytes(model, lambda shapes: step(shapes).backward(), place)
    if peak is None:
        return None
    weights = sum(p.nbytes for p in model.parameters())
    held = torch.cuda.memory_allocated(place) if place.type == "cuda" else resident()
    return Prediction(held, peak + 3 * weights, place.type)


def most_bytes(
    model: nn.Module, work: Callable[[nn.Module], Any], place: torch.device
) -> int | None:
    """The most bytes that tensors of ``work(model)`` take at once on ``place``; None if one of its
    ops has no shape function. ``work`` is given the model in training on the meta device."""
    shapes = copy.deepcopy(model).to("meta").train()
    tracker = _LiveBytes(place.type)
    try:
        with tracker:
            work(shapes)
    except (NotImplementedError, RuntimeError):
        return None
    return tracker.peak


def resident() -> int:
    """The bytes that this process holds now, or its peak so far where only that is known."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak(torch.device("cpu"))


def peak(device: torch.device) -> int:
    """The peak bytes so far: of the process since it began, or of a CUDA device since its reset.

    0 where the operating system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # not ru_maxrss: on Linux that begins with the memory of the process that started this one
    with suppress(OSError, StopIteration), open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def reset_peak(device: torch.device) -> None:
    """Start :func:`peak` of a CUDA device anew; that of a process cannot be."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that graphkit runs from; else None.

    ``-dirty`` is appended if the package or its cards were edited since.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        line = ["git", "-C", str(root), *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=10, check=True).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        edited = git("status", "--porcelain", "--", "graphkit", "datasets")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if edited else commit


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
