"""Ops that are no custom ops (sampling, negatives, walks), on torch and on each instruction set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import graphkit.ops  # noqa: F401  (loads the modules that are named below)
from graphkit.ops.cpu import native

# under triton's interpreter its kernels take CPU tensors: test_triton.py starts such a run
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SETS = native.kernels.instruction_sets() if native.kernels is not None else []
WAYS = ("torch", *SETS)
# of each module the names under which kernels are registered
KERNELS = {"sample": ["native"], "negatives": ["native"], "walk": ["native_walk", "native_push"]}


@contextmanager
def served(by: str) -> Iterator[None]:
    """What is made and called inside is served by an instruction set, or ``torch``: references."""
    with pytest.MonkeyPatch.context() as patch:
        if by == "torch":
            for name, kernels in KERNELS.items():
                for kernel in kernels:
                    # the package's attribute of that name may be the function
                    patch.setattr(sys.modules[f"graphkit.ops.{name}"], kernel, None)
            yield
            return
        before = native.kernels.instruction_set()
        assert native.kernels.choose(by)
        try:
            yield
        finally:
            native.kernels.choose(before)


def look_through_once() -> None:
    """Of triton's interpreter, which looks through its whole language for every call of a function
    in a kernel, a third of its time: that each module of it is prepared once, and stays so."""
    interpreter: Any = pytest.importorskip("triton.runtime.interpreter")
    prepare, language = interpreter._patch_lang, sys.modules["triton.language"]
    prepared: dict[frozenset[int], Any] = {}

    class Kept:
        def restore(self) -> None:
            pass

    def once(function: Any) -> Kept:
        modules = (language, language.core)
        names = [m for m in modules if any(v is m for v in function.__globals__.values())]
        key = frozenset(map(id, names))
        if key not in prepared:
            prepared[key] = prepare(function)
        return Kept()

    interpreter._patch_lang = once


def seeded(seed: int) -> torch.Generator:
    """Of the device that the tests run on: a generator of another one cannot fill its tensors."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)
