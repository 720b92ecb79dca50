from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphkit.errors import GraphError
from graphkit.ops import rows as module
from graphkit.ops import take_rows
from graphkit.ops.cpu import native

DTYPES = (
    torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64, torch.complex64,
)  # fmt: skip


@pytest.fixture(params=["native", "reference"])
def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "reference":
        monkeypatch.setattr(module, "native", None)
    elif module.native is None:
        pytest.skip("the native kernels were not built or are switched off")
    return request.param


def table(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    return torch.randint(0, 256, (rows, width * dtype.itemsize), dtype=torch.uint8).view(dtype)


def bits(t: Tensor) -> Tensor:
    return t.contiguous().view(torch.uint8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(served: str, dtype: torch.dtype) -> None:
    x = torch.randint(0, 2, (50, 7)).to(dtype) if dtype == torch.bool else table(50, 7, dtype)
    index = torch.randint(0, 50, (33,))
    for at in (index, index.int()):
        assert torch.equal(bits(take_rows(x, at)), bits(x[index]))
    assert torch.equal(bits(take_rows(x[:, 0], index)), bits(x[:, 0][index]))


@given(
    width=st.integers(0, 300),
    count=st.integers(0, 200),
    skip=st.integers(0, 9),
    begin=st.integers(0, 5),
)
def test_any_width_stride_and_place(
    served: str, width: int, count: int, skip: int, begin: int
) -> None:
    """Rows that stand apart, in x and in out, from any address on; nothing around is touched."""
    generator = torch.Generator().manual_seed(width * 1000 + count)
    whole = torch.randint(
        0, 256, (40, begin + width + skip), dtype=torch.uint8, generator=generator
    )
    x = whole[:, begin : begin + width]
    index = torch.randint(0, 40, (count,), generator=generator)
    room = torch.full((count, width + skip + begin), 77, dtype=torch.uint8)
    want = room.clone()
    want[:, begin : begin + width] = x[index]
    out = room[:, begin : begin + width]
    assert take_rows(x, index, out) is out
    assert torch.equal(room, want)
    assert torch.equal(take_rows(x, index), x[index])


@pytest.mark.parametrize("width", [1, 3, 8, 16, 64, 100, 128, 1023, 1024, 1100, 5000])
@pytest.mark.parametrize("offset", [0, 1])
def test_large_results_are_streamed_and_whole(each_way: Any, width: int, offset: int) -> None:
    """Past 4 MiB lines go past the caches, whatever a row's length and where out begins."""
    x = torch.randn(500, width)
    count = (1_200_000 // width) // 64 * 64 + 37
    index = torch.randint(0, 500, (count,))
    room = torch.zeros(count * width + 16)
    out = room[offset : offset + count * width].view(count, width)
    want = x[index]

    def call() -> bool:
        out.zero_()
        take_rows(x, index, out)
        return torch.equal(out, want) and not room[offset + count * width :].any()

    assert all(each_way(call).values())


def test_other_layouts(served: str) -> None:
    x = torch.randn(6, 4, 5, 3)
    index = torch.tensor([5, 0, 0])
    for some in (x, x.transpose(1, 2), x[:, ::2], x[::2], x.flip(0), x[:1].expand(6, 4, 5, 3)):
        at = index.clamp(max=len(some) - 1)
        assert torch.equal(take_rows(some, at), some[at])
    z = torch.randn(6, 3, dtype=torch.complex64).conj()
    assert torch.equal(take_rows(z, index), z[index])
    assert take_rows(x, index[:0]).shape == (0, 4, 5, 3)
    assert take_rows(x[:0], index[:0]).shape == (0, 4, 5, 3)
    assert torch.equal(take_rows(x, torch.arange(6)[::2]), x[::2])
    out = torch.empty(len(index), 3, dtype=torch.complex64).conj()
    assert torch.equal(take_rows(z, index, out), z[index])
    out = torch.empty(3, 5, 4, 3).transpose(1, 2)
    assert torch.equal(take_rows(x, index, out), x[index])


def test_gradient_flows_without_out(served: str) -> None:
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([4, 1, 1])
    assert torch.autograd.gradcheck(lambda t: take_rows(t, index), (x,))
    with pytest.raises(GraphError, match="does not flow through out"):
        take_rows(x, index, torch.empty(3, 3, dtype=torch.float64))
    with torch.no_grad():
        assert torch.equal(take_rows(x, index), x[index])


X = torch.zeros(4, 3)
INDEX = torch.tensor([0, 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, torch.tensor([0, 4])), r"index\[1\] = 4, but x has 4 rows \(valid: 0 to 3\)"),
        ((X, torch.tensor([0, 1, -1])), r"index\[2\] = -1, but x has 4 rows"),
        ((X[:0], torch.tensor([0])), "but x has 0 rows .valid: none"),
        ((X, torch.tensor([True, False])), "index has dtype torch.bool.*mask.nonzero"),
        ((X, torch.tensor([0.0])), "index has dtype torch.float32.*index.long"),
        ((X, torch.tensor([[0]])), r"index has shape \[1, 1\]"),
        ((X, [0]), "index has list"),
        ((torch.tensor(1.0), INDEX), r"x has shape \[\], but a dense tensor"),
        ((X.to_sparse(), INDEX), "but a dense tensor"),
        (([[1.0]], INDEX), "x has list"),
        ((X, INDEX.to("meta")), "index is on meta but x is on cpu"),
        ((X, INDEX, torch.zeros(3, 3)), r"out is torch.float32 \[3, 3\].*\[2, 3\] on cpu"),
        ((X, INDEX, torch.zeros(2, 3).double()), "out is torch.float64"),
        ((X, INDEX, torch.zeros(2, 3).requires_grad_()), "out needs a gradient"),
        ((X, INDEX, X[:2]), "out shares memory with x"),
        ((X, INDEX, "here"), "out is str"),
    ],
)
def test_bad_input(served: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        take_rows(*arguments)


def test_nothing_is_written_where_the_index_is_bad(served: str) -> None:
    out = torch.full((2, 3), 5.0)
    with pytest.raises(GraphError):
        take_rows(X, torch.tensor([0, 9]), out)
    assert bool((out == 5).all())


def test_a_thread_may_work_alone() -> None:
    """And other threads keep the number that torch was told."""
    if native.kernels is None:
        pytest.skip("the native kernels were not built or are switched off")
    before, found = torch.get_num_threads(), {}

    def work(name: str, alone: bool) -> None:
        if alone:
            native.work_alone()
        found[name] = torch.get_num_threads()

    try:
        torch.set_num_threads(3)
        for name, alone in (("alone", True), ("as told", False)):
            thread = threading.Thread(target=work, args=(name, alone))
            thread.start()
            thread.join()
        assert found == {"alone": 1, "as told": 3} and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_rows_that_are_read_may_overlap() -> None:
    base = torch.arange(1000.0)
    x = base.as_strided((320, 9), (3, 1))
    index = torch.randint(320, (500,))
    assert torch.equal(take_rows(x, index), torch.stack([base[3 * i : 3 * i + 9] for i in index]))
