"""The kernels for GPUs, without one: under triton's interpreter, and compiled ahead of time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graphkit import ops
from graphkit.ops import triton

HERE = Path(__file__).parent
# of the tests of every op, those that say what the cases of these kernels do not; gradcheck's
# many calls would take the interpreter minutes
ALSO = {
    "test_ops": (
        "heads or bfloat16_gradients or opcheck or one_dimensional or softmax_of_extremes or "
        "split_their_gradient or keep_nan or (compiles and aot)"
    ),
    "test_scatter": (
        "opcheck or compiled or empty or nan or wrap or in_halves or bad_input or with_zeros or "
        "goes_to_the_first or offsets_of_batches or (every_dtype and mean)"
    ),
    "test_intersect": "opcheck or empty or nan or bad_input or of_a_linked_pair or pools",
}


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    pytest.importorskip("triton")
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=HERE.parent.parent,
        env={**os.environ, **environment},
    )


def finished(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said[-9000:]
    return said


def interpreted(*arguments: str) -> str:
    options = ["-m", "pytest", "-p", "no:cacheprovider", "--durations=0", "--durations-min=2"]
    return finished(start(*options, *arguments, TRITON_INTERPRET="1"))


def test_the_kernels_under_the_interpreter() -> None:
    """In one process, as it takes seconds until the first of them runs."""
    files = (str(HERE / f"{name}.py") for name in ("triton_cases", *ALSO))
    chosen = " or ".join(f"({name} and ({words}))" for name, words in ALSO.items())
    print(interpreted(*files, "-k", f"triton_cases or {chosen}"))


@pytest.mark.slow
def test_the_gradients_of_scatter_under_the_interpreter() -> None:
    some = "test_gradients and (scatter_mean or scatter_mul or full_max or batches)"
    print(interpreted(str(HERE / "test_scatter.py"), "-k", some))


@pytest.mark.slow
def test_the_gradients_under_the_interpreter() -> None:
    print(interpreted(str(HERE / "test_ops.py"), "-k", "test_gradients and multi-edges"))


def test_every_kernel_compiles_for_gpus_that_are_not_here(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The table of registers and shared memory is shown by pytest's ``-s``."""
    forms = ["--all"] if request.config.getoption("--slow") else []
    process = start(str(HERE / "triton_compiled.py"), *forms, TRITON_CACHE_DIR=str(tmp_path))
    table = finished(process)
    print(table)
    assert table.splitlines()[-1].startswith("compiled ")


def test_the_table_says_who_serves() -> None:
    served = {name for name, row in ops.backends().items() if row["cuda"] == "triton"}
    assert served == (set(triton.PUBLIC) if triton.present() else set())
    # every file of kernels serves some public name
    files = {"csr": "coo_to_csr", "segment": "segment_reduce", "extreme": "spmm"}
    files["attention"] = "gat_attention"
    for file in {file for _, _, file, _ in triton.KERNELS}:
        assert files.get(file, file) in triton.PUBLIC, file


def test_without_triton_the_references_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "present", lambda: False)
    assert {row["cuda"] for row in ops.backends().values()} == {"torch reference"}
    ptr, v = torch.tensor([0, 2, 3]), torch.tensor([[1.0], [2.0], [4.0]])
    for op, _, _, name in triton.KERNELS:
        if name == "segment_reduce":
            assert op._backend_fns["cuda"](ptr, None, v, False).tolist() == [[3.0], [4.0]]


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    """The cases of these kernels, and the laws of ops and layers, with tensors of the device."""
    words = [str(HERE / "triton_cases.py"), str(HERE / "test_ops.py")]
    words += [str(HERE.parent / "nn" / "test_layers.py") + "::test_promises"]
    count = 4
    shares = [
        start(
            *("-m", "pytest", "-p", "no:cacheprovider", "-W", "default", *words),
            GRAPHKIT_TEST_DEVICE="cuda",
            GRAPHKIT_TEST_SHARE=f"{number}/{count}",
        )
        for number in range(1, count + 1)
    ]
    for process in shares:
        print(finished(process))
