from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from graphkit.data import HostTable, host
from graphkit.data.host import padded
from graphkit.data.stages import fetch, seeds
from graphkit.errors import BackendError, ConfigError, GraphError

INDEX = torch.tensor([4, 0, 4, 2])


@pytest.mark.parametrize("mode", ["auto", "zero_copy", "staged"])
@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.float64])
def test_without_a_gpu_the_values_are_the_same(mode: Any, pad: bool, dtype: torch.dtype) -> None:
    for shape in ((5, 7), (5,), (5, 2, 3), (5, 0)):
        x = torch.randn(shape).to(dtype)
        table = HostTable(x, "cpu", mode=mode, pad=pad)
        assert table.shape == x.shape
        assert torch.equal(table.rows(INDEX), x[INDEX])
        out = torch.empty(4, *shape[1:], dtype=dtype)
        assert table.rows(INDEX.int(), out) is out and torch.equal(out, x[INDEX])


@pytest.mark.parametrize("shape", [(5, 7), (5, 32), (3, 100), (9,), (4, 2, 3, 2), (0, 4)])
def test_padded_rows_begin_lines(shape: tuple[int, ...]) -> None:
    for dtype in (torch.uint8, torch.float16, torch.float32, torch.float64):
        x = (100 * torch.rand(shape)).to(dtype)
        found = padded(x)
        assert torch.equal(found, x) and found.data_ptr() % 128 == 0
        assert found.stride(0) * found.element_size() % 128 == 0


def test_it_is_a_source_of_a_loader() -> None:
    x = torch.randn(50, 3)
    for batch in fetch(seeds(torch.arange(50), 20), HostTable(x, "cpu")):
        assert torch.equal(batch.x, x[batch.seeds])


def test_bad_tables() -> None:
    with pytest.raises(GraphError, match="x is a list, but a tensor"):
        HostTable([1.0], "cpu")  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="x is on meta"):
        HostTable(torch.ones(2, 2, device="meta"), "cpu")
    with pytest.raises(ConfigError, match="unknown mode 'uva'.*zero_copy"):
        HostTable(torch.ones(2, 2), "cpu", mode="uva")  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=r"index\[0\] = 2, but x has 2 rows"):
        HostTable(torch.ones(2, 2), "cpu").rows(torch.tensor([2]))
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="no CUDA device"):
            HostTable(torch.ones(2, 2), "cuda", mode="staged")


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["zero_copy", "staged"])
@pytest.mark.parametrize("pad", [False, True])
def test_on_a_gpu(mode: Any, pad: bool) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.bool, torch.int64):
        for width in (1, 3, 64, 100, 257):
            x = torch.randn(1000, width).to(dtype)
            index = torch.randint(0, 1000, (500,))
            table = HostTable(x, "cuda", mode=mode, pad=pad)
            for at in (index, index.cuda(), index.int()):
                assert torch.equal(table.rows(at).cpu(), x[index])
            with pytest.raises(GraphError, match="but x has 1000 rows"):
                table.rows(torch.tensor([1000]).cuda())


# --- the kernel, without a GPU ---


def run(code: str, **environment: str) -> str:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


INTERPRETED = """
import torch
from graphkit.data.host import padded
from graphkit.ops.triton import load
rows = load("rows")
torch.manual_seed(0)
count = 0
for dtype in (torch.float32, torch.bool, torch.float16, torch.float64):
    for width in (1, 63, 64, 100, 300):
        for skip in (0, 1):
            whole = torch.randint(0, 2 if dtype == torch.bool else 99, (20, width + skip)).to(dtype)
            for x in (whole[:, skip:], padded(whole[:, skip:])):
                index = torch.randint(0, 20, (7,))
                for at in (index, index.int()):
                    out = torch.empty(7, width, dtype=dtype)
                    rows.take_rows(x, at, out)
                    assert torch.equal(out, x[index]), (dtype, width, skip)
                    count += 1
# what lies around the result is left as it was
room = torch.full((7, 20), 5.0)
x = torch.randn(20, 10)
rows.take_rows(x, index, room[:, 3:13])
assert torch.equal(room[:, 3:13], x[index])
assert bool((room[:, :3] == 5).all()) and bool((room[:, 13:] == 5).all())
# offsets past 2**31, in memory that is never touched but for some pages
far = torch.empty(3 * 2**30 + 1000, dtype=torch.uint8)
x = far.as_strided((4, 300), (2**30 + 1, 1))
x[3] = torch.arange(300, dtype=torch.uint8)
out = torch.empty(1, 300, dtype=torch.uint8)
rows.take_rows(x, torch.tensor([3], dtype=torch.int32), out)
assert torch.equal(out, x[3:])
print("equal", count)
"""


def test_the_kernel_under_the_interpreter() -> None:
    assert run(INTERPRETED, TRITON_INTERPRET="1") == "equal 160\n"


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from graphkit.ops.triton import load
rows = load("rows")
names = rows.take_rows_kernel.arg_names
forms = (("i32", "i64", 4), ("u8", "i32", 1), ("i16", "i64", 2))
for capability, kinds, widths in ((80, forms, (100, 3, 1)), (90, forms[:1], (100,))):
    for kind, index, size in kinds:
        for width in widths:
            constants = {**rows.shape_of(width, width * size), "WORDS": 128 // size}
            types = dict(x_ptr=f"*{kind}", index_ptr=f"*{index}", out_ptr=f"*{kind}")
            # a table's stride and length pass 2**31
            wide = ("num_taken", "width", "x_stride", "out_stride", "begin_skew")
            types |= dict.fromkeys(wide, "i64")
            signature = {name: types.get(name, "constexpr") for name in names}
            source = ASTSource(fn=rows.take_rows_kernel, signature=signature, constexprs=constants)
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
            assert made.asm["cubin"] and f"sm_{capability}" in made.asm["ptx"]
print("compiled")
"""


def test_the_kernel_compiles_for_gpus_that_are_not_here() -> None:
    assert run(COMPILED) == "compiled\n"


def test_memory_stays_locked_while_one_table_is_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a runtime that only writes down what it is asked: no GPU is needed."""
    asked: list[str] = []

    class Runtime:
        def cudaHostRegister(self, place: int, size: int, flags: int) -> int:
            asked.append("lock")
            return 0

        def cudaHostUnregister(self, place: int) -> int:
            asked.append("unlock")
            return 0

    class Owner:
        pin: Any = None

    monkeypatch.setattr(torch.cuda, "cudart", Runtime)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda self: bool(asked))
    x = torch.ones(4, 3)
    first, second = Owner(), Owner()
    assert host._locked(first, x) is x
    part = x[1:]
    assert host._locked(second, part) is part
    first.pin = None
    assert asked == ["lock"]
    second.pin = None
    assert asked == ["lock", "unlock"]
