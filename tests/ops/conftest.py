from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._library.custom_ops import CustomOpDef
from ways import INTERPRETED, WAYS, look_through_once, served

from graphkit import graph, ops
from graphkit.ops.cpu import native

SETS = native.kernels.instruction_sets() if native.kernels is not None else ["baseline"]


def _native_ops() -> list[CustomOpDef]:
    """The ops of the package that a kernel for the CPU was registered with."""
    inside = (graph.__name__, f"{ops.__name__}.")
    modules = [module for name, module in sys.modules.items() if name.startswith(inside)]
    found = {id(op): op for m in modules for op in vars(m).values() if isinstance(op, CustomOpDef)}
    return [op for op in found.values() if "cpu" in op._backend_fns]


if INTERPRETED:
    for op, *_ in ops.triton.KERNELS:
        op.register_kernel("cpu")(op._backend_fns["cuda"])
    look_through_once()


# so do tests on a GPU, where a kernel is whatever the device has
ELSEWHERE = INTERPRETED or torch.get_default_device().type != "cpu"


@pytest.fixture(params=["triton"] if ELSEWHERE else ["native", "reference"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test of the ops runs on the kernels and on torch alone."""
    if ELSEWHERE:
        yield request.param
        return
    served = _native_ops()
    if request.param == "native" and not served:
        pytest.skip("the native kernels were not built or are switched off")
    with contextlib.ExitStack() as stack:
        if request.param == "reference":
            for op in served:
                stack.enter_context(op.set_kernel_enabled("cpu", False))
        yield request.param


@pytest.fixture(params=["torch", "baseline", "avx2", "avx512"])
def by(request: pytest.FixtureRequest) -> Iterator[str]:
    """Ops that are no custom ops on their references and on each instruction set."""
    if request.param not in WAYS:
        pytest.skip(f"this machine or build offers no {request.param} kernels")
    with served(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that the build and this machine offer, in turn."""
    if native.kernels is None:
        pytest.skip("the native kernels were not built or are switched off")
    before = native.kernels.instruction_set()
    assert native.kernels.choose(request.param)
    yield request.param
    native.kernels.choose(before)


@pytest.fixture
def each_way() -> Any:
    """A function that runs a call on every instruction set with 1, 2 and 3 threads."""
    if native.kernels is None:
        pytest.skip("the native kernels were not built or are switched off")
    before, threads = native.kernels.instruction_set(), torch.get_num_threads()

    def run(call: Any) -> dict[tuple[str, int], Any]:
        found = {}
        for name in native.kernels.instruction_sets():
            native.kernels.choose(name)
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                found[name, count] = call()
        return found

    yield run
    native.kernels.choose(before)
    torch.set_num_threads(threads)
