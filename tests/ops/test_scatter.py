"""``graphkit.scatter``: held to loops in float64, gradcheck, and torch_scatter where it is."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from ways import INTERPRETED

import graphkit.scatter as gs
from graphkit import ConfigError, GraphError
from graphkit.ops import scatter as ops
from graphkit.ops.cpu import native

OPS = (
    ops.scatter_reduce_op,
    ops.scatter_best_op,
    ops.scatter_pick_op,
    ops.scatter_put_op,
    ops.csr_reduce_op,
    ops.csr_best_op,
    ops.csr_spread_op,
)
REDUCES = ("sum", "mul", "mean", "min", "max")
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}


WAYS = ("triton",) if INTERPRETED else ("kernel", "op", "reference")


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kernel called at once; through the custom op; plain torch. Or the kernels for GPUs."""
    if INTERPRETED:
        monkeypatch.setattr(ops, "native", None)
        yield request.param
        return
    if request.param != "reference" and native.kernels is None:
        pytest.skip("the native kernels are not built, or switched off")
    with ExitStack() as stack:
        if request.param != "kernel":
            monkeypatch.setattr(ops, "native", None)
        if request.param == "reference" and native.kernels is not None:
            for op in OPS:
                stack.enter_context(op.set_kernel_enabled("cpu", False))
        yield request.param


def values(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return drawn.to(dtype) if dtype.is_floating_point else (drawn * 40).to(torch.int64).to(dtype)


def factors(src: Tensor) -> Tensor:
    """Values whose products fit, however many there are."""
    if not src.dtype.is_floating_point:
        return src.sign() + (src == 0)
    return 1 + src / 1000


def numbers(rows: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(rows, shape, generator=torch.Generator().manual_seed(seed))


def by_loop(
    src: Tensor, index: Tensor, dim: int, rows: int, reduce: str, rounding: str = "floor"
) -> tuple[Tensor, Tensor]:
    """What comes out in each place, and the place of the value that won, one number at a time."""
    dim = dim + src.dim() if dim < 0 else dim
    if index.dim() == 1:
        index = index.view(*[1] * dim, -1)
    index = index.view(*index.shape, *[1] * (src.dim() - index.dim())).expand(src.shape)
    shape = (*src.shape[:dim], rows, *src.shape[dim + 1 :])
    kind = torch.float64 if src.is_floating_point() else torch.int64
    found: dict[Any, list[tuple[float, int]]] = {}
    for place in itertools.product(*map(range, src.shape)):
        to = (*place[:dim], int(index[place]), *place[dim + 1 :])
        found.setdefault(to, []).append((src[place].item(), place[dim]))
    out = torch.full(shape, 1 if reduce == "mul" else 0, dtype=kind)
    arg = torch.full(shape, src.size(dim))
    for to, entries in found.items():
        row = torch.tensor([value for value, _ in entries], dtype=kind)
        if reduce in ("min", "max"):
            best = (min if reduce == "min" else max)(value for value, _ in entries)
            out[to], arg[to] = best, next(at for value, at in entries if value == best)
        elif reduce == "mul":
            out[to] = row.prod()
        else:
            total = row.sum()
            out[to] = total if reduce == "sum" else _mean(total, len(entries), src.dtype, rounding)
    return out.to(src.dtype), arg


def _mean(total: Tensor, count: int, dtype: torch.dtype, rounding: str) -> Tensor:
    if dtype.is_floating_point:
        return total / count
    return total.to(dtype).to(torch.int64).div(count, rounding_mode=rounding)


def same(got: Tensor, want: Tensor) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape
    if not got.dtype.is_floating_point:
        assert torch.equal(got, want)
        return
    scale = max(1.0, float(want.double().abs().max())) if want.numel() else 1.0
    tolerance = TOLERANCE[got.dtype] * scale
    torch.testing.assert_close(got.double(), want.double(), atol=tolerance, rtol=0)


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS + WHOLE)
@pytest.mark.parametrize("reduce", REDUCES)
def test_every_dtype(reduce: str, dtype: torch.dtype) -> None:
    src, index = values(11, 3, dtype=dtype), numbers(5, 11)
    if reduce == "mul" and dtype in WHOLE:
        src %= 3  # products that fit
    want, arg = by_loop(src, index, 0, 6, reduce)
    got = getattr(gs, f"scatter_{reduce}")(src, index, 0, None, 6)
    if reduce in ("min", "max"):
        assert torch.equal(got[1], arg)
        got = got[0]
    same(got, want)
    assert torch.equal(gs.scatter(src, index, 0, dim_size=6, reduce=reduce), got)
    src = src[index.sort(stable=True).indices]
    index = index.sort().values
    ptr = torch.searchsorted(index, torch.arange(7))
    want, arg = by_loop(src, index, 0, 6, reduce)
    same(gs.scatter(src, index, 0, dim_size=6, reduce=reduce), want)
    if reduce == "mul":
        return
    # of whole numbers, as in torch_scatter: scatter_mean rounds down, segment_mean towards 0
    want, _ = by_loop(src, index, 0, 6, reduce, "trunc")
    coo = getattr(gs, f"segment_{reduce}_coo")(src, index, None, 6)
    csr = getattr(gs, f"segment_{reduce}_csr")(src, ptr)
    if reduce in ("min", "max"):
        assert torch.equal(coo[1], arg) and torch.equal(csr[1], arg)
        coo, csr = coo[0], csr[0]
    same(coo, want)
    same(csr, want)
    assert torch.equal(gs.segment_coo(src, index, dim_size=6, reduce=reduce), coo)
    assert torch.equal(gs.segment_csr(src, ptr, reduce=reduce), csr)


@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_every_dim_and_shape_of_the_index(dim: int, reduce: str) -> None:
    src = values(4, 5, 6)
    size = src.size(dim)
    shapes = [(size,), (4, 5, 6)]
    shapes += [(4, 1, 1), (1, 5, 1), (1, 1, 6), (4, 5, 1), (1, 5, 6), (4, 5), (1, 5), (4, 1)]
    at = dim % 3
    for shape in shapes:
        if len(shape) > 1 and (len(shape) <= at or shape[at] != size):
            continue
        index = numbers(4, *shape)
        want, _ = by_loop(src, index, dim, 4, reduce)
        same(gs.scatter(src, index, dim, dim_size=4, reduce=reduce), want)
        assert gs.scatter(src, index, dim, reduce=reduce).size(dim) == int(index.max()) + 1
    # an index expanded by hand, and values that stand apart
    index = numbers(4, size).view(*[-1 if d == at else 1 for d in range(3)]).expand(4, 5, 6)
    apart = values(6, 5, 4).permute(2, 1, 0)
    want, _ = by_loop(apart, index, dim, 4, reduce)
    same(gs.scatter(apart, index, dim, dim_size=4, reduce=reduce), want)


@given(st.data())
def test_any_shape(way: str, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    dim = data.draw(st.integers(0, len(shape) - 1))
    rows = data.draw(st.integers(1, 4))
    reduce = data.draw(st.sampled_from(REDUCES))
    dtype = data.draw(st.sampled_from((torch.float32, torch.int8, torch.bfloat16)))
    full = data.draw(st.booleans())
    src = values(*shape, dtype=dtype)
    if reduce == "mul" and dtype in WHOLE:
        src %= 3
    index = numbers(rows, *(shape if full else [shape[dim]]))
    want, _ = by_loop(src, index, dim, rows, reduce)
    same(gs.scatter(src, index, dim, dim_size=rows, reduce=reduce), want)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9, 16, 33, 64, 100, 257])
@pytest.mark.parametrize("reduce", REDUCES)
def test_many_edges(reduce: str, width: int) -> None:
    """Sizes at which the edges are sorted and shared out, against torch in float64."""
    edges, rows = (40_000 if width < 33 else 10_000), 1500 if width < 33 else 400
    src, index = values(edges, width, dtype=torch.float32), numbers(rows - 1, edges)
    if reduce == "mul":
        src = 1 + src / 100
    for order in (torch.arange(edges), index.argsort(stable=True)):
        s, i = src[order], index[order]
        full = i.unsqueeze(1).expand_as(s)
        kind = {"mul": "prod", "min": "amin", "max": "amax"}.get(reduce, reduce)
        start = torch.zeros(rows, width, dtype=torch.float64) + (reduce == "mul")
        want = start.scatter_reduce_(0, full, s.double(), kind, include_self=reduce == "mul")
        same(gs.scatter(s, i, 0, dim_size=rows, reduce=reduce), want.float())
        if reduce in ("min", "max"):
            out, arg = getattr(gs, f"scatter_{reduce}")(s, i, 0, dim_size=rows)
            assert (arg[-1] == edges).all() and (out[-1] == 0).all()
            assert (
                torch.equal(s.gather(0, arg[:-1]), out[:-1])
                and (i[arg[:-1]].T == torch.arange(rows - 1)).all()
            )


# the op's are the kernel's
@pytest.mark.parametrize("way", [way for way in WAYS if way != "op"], indirect=True)
@pytest.mark.parametrize("dtype", FLOATS + WHOLE)
@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("width", [1, 5, 24])
def test_the_same_bits_for_any_number_of_threads(
    width: int, reduce: str, dtype: torch.dtype
) -> None:
    src, index = values(20_000, width, dtype=dtype), numbers(3000, 20_000)
    src = factors(src) if reduce == "mul" else src
    ordered = index.sort().values
    ptr = torch.searchsorted(ordered, torch.arange(3001))
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(gs.scatter(src, index, 0, reduce=reduce))
        found.append(gs.scatter(src, ordered, 0, reduce=reduce))
        found.append(gs.scatter(src.t().contiguous(), index, 1, reduce=reduce))
        if reduce != "mul":
            found.append(gs.segment_csr(src, ptr, reduce=reduce))
    each = len(found) // 3
    for a, b, c in zip(found[:each], found[each : 2 * each], found[2 * each :], strict=True):
        assert torch.equal(a.view(torch.int8), b.view(torch.int8))
        assert torch.equal(a.view(torch.int8), c.view(torch.int8))


@pytest.mark.parametrize("dtype", FLOATS + WHOLE)
def test_the_same_bits_on_every_instruction_set(
    way: str, each_way: Any, dtype: torch.dtype
) -> None:
    if way != "kernel":
        return
    index = numbers(900, 9000)
    ordered = index.sort().values
    ptr = torch.searchsorted(ordered, torch.arange(901))

    def call() -> list[Tensor]:
        found = []
        for width in (1, 3, 18):
            src = values(9000, width, dtype=dtype)
            found.append(gs.scatter(factors(src), index, 0, reduce="mul"))
            for reduce in ("sum", "mean", "min", "max"):
                found.append(gs.scatter(src, index, 0, reduce=reduce))
                found.append(gs.segment_csr(src, ptr, reduce=reduce))
        return [t.view(torch.int8) for t in found]

    first, *rest = each_way(call).values()
    assert all(torch.equal(a, b) for other in rest for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32])
@pytest.mark.parametrize("reduce", REDUCES)
def test_many_single_numbers(reduce: str, dtype: torch.dtype) -> None:
    """So many that they are reduced in two halves; few are equal, some rows are empty."""
    edges, rows = 140_001, 500
    src, index = values(edges, dtype=dtype), numbers(rows - 1, edges)
    if reduce == "mul":
        src = factors(src)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(gs.scatter(src, index, dim_size=rows, reduce=reduce))
    assert torch.equal(*found)
    kind = {"mul": "prod", "min": "amin", "max": "amax"}.get(reduce, reduce)
    exact = src.double() if dtype.is_floating_point else src.long()
    start = torch.zeros(rows, dtype=exact.dtype) + (reduce == "mul")
    if reduce == "mean" and not dtype.is_floating_point:
        want = start.scatter_reduce_(0, index, exact, "sum")
        count = torch.bincount(index, minlength=rows).clamp(min=1)
        want = want.div(count, rounding_mode="floor")
    else:
        want = start.scatter_reduce_(0, index, exact, kind, include_self=reduce == "mul")
    same(found[0], want.to(dtype))
    if reduce in ("min", "max"):
        out, arg = getattr(gs, f"scatter_{reduce}")(src, index, dim_size=rows)
        first = torch.full((rows,), edges)
        ties = torch.where(src == out[index], torch.arange(edges), edges)
        assert torch.equal(arg, first.scatter_reduce_(0, index, ties, "amin"))
    for at in (0, edges // 2, edges - 1):
        wrong = index.clone()
        wrong[at] = rows
        with pytest.raises(GraphError, match=f"= {rows}"):
            gs.scatter(src, wrong, dim_size=rows, reduce=reduce)


def test_every_float16() -> None:
    """All of them, through every width that is loaded at once."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.float16)
    index = torch.arange(len(every))
    for width in (1, 8, 16, 20):
        src = every.unsqueeze(1).expand(-1, width).contiguous()
        for got in (
            gs.scatter_sum(src, index, 0),
            gs.scatter_max(src, index, 0)[0],
            gs.segment_sum_csr(src, torch.arange(len(every) + 1)),
        ):
            fine = ~src.isnan()
            assert torch.equal(got[fine], src[fine])
    # halves are rounded to even
    pairs = torch.tensor([[2048.0, 1.0], [2050.0, 1.0], [1.0, 2**-11], [2**-24, 2**-24]]).half()
    want = (pairs.float().sum(1)).half()
    assert torch.equal(gs.scatter_sum(pairs.flatten(), torch.arange(8) // 2), want)


def test_sums_of_whole_numbers_wrap() -> None:
    src = torch.tensor([100, 100, 3, 100], dtype=torch.int8)
    index = torch.tensor([0, 0, 1, 1])
    assert gs.scatter_sum(src, index).tolist() == [-56, 103]
    big = torch.full((3,), 2**62)
    assert gs.scatter_sum(big, torch.zeros(3, dtype=torch.int64)).tolist() == [3 * 2**62 - 2**64]


@pytest.mark.parametrize("dtype", WHOLE)
def test_products_of_whole_numbers_that_do_not_fit(dtype: torch.dtype) -> None:
    bits = torch.iinfo(dtype).bits - (dtype != torch.uint8)
    index = torch.zeros(bits, dtype=torch.int64)
    twos = torch.full((bits,), 2, dtype=dtype)
    assert gs.scatter_mul(twos[1:], index[1:]).tolist() == [2 ** (bits - 1)]
    out = torch.tensor([1], dtype=dtype)
    for call in (
        lambda: gs.scatter_mul(twos, index),
        lambda: gs.scatter_mul(twos, index, out=out),
        lambda: gs.scatter_mul(twos[1:], index[1:], out=out * 2),
    ):
        with pytest.raises(GraphError, match=rf"product at \[0\].*{dtype} ends at"):
            call()
    # nothing was written, and a factor of 0 makes any product fit
    assert out.tolist() == [1]
    assert gs.scatter_mul(torch.cat([twos, twos * 0]), torch.cat([index, index])).tolist() == [0]


def test_counts_are_exact_in_small_dtypes() -> None:
    index = torch.zeros(300, dtype=torch.int64)
    assert gs.scatter_mean(torch.ones(300, dtype=torch.uint8), index).tolist() == [0]  # 44 // 300
    ones = torch.ones(70_000, 1, dtype=torch.float16)
    assert gs.scatter_mean(ones, torch.zeros(70_000, dtype=torch.int64), 0).item() == 1


def test_equals_nan_and_infinities() -> None:
    index = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    nan, inf = torch.nan, torch.inf
    src = torch.tensor([5.0, 5.0, nan, nan, nan, -inf, -inf])
    for wide in (1, 9):
        value, arg = gs.scatter_max(src.unsqueeze(1).expand(-1, wide), index, 0, dim_size=4)
        assert value[:, -1].tolist() == [5, 0, -inf, 0] and arg[:, -1].tolist() == [0, 7, 5, 7]
        value, arg = gs.segment_min_csr(
            src.unsqueeze(1).expand(-1, wide), torch.tensor([0, 3, 5, 7, 7])
        )
        assert value[:, -1].tolist() == [5, 0, -inf, 0] and arg[:, -1].tolist() == [0, 7, 5, 7]


def test_empty() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert gs.scatter_sum(torch.empty(0, 3), none, 0).shape == (0, 3)
    assert gs.scatter_sum(torch.empty(0, 3), none, 0, dim_size=2).tolist() == [[0] * 3] * 2
    assert gs.scatter_mul(torch.empty(0, 3), none, 0, dim_size=2).tolist() == [[1] * 3] * 2
    value, arg = gs.scatter_max(torch.empty(0, 3), none, 0, dim_size=2)
    assert value.tolist() == arg.tolist() == [[0] * 3] * 2
    assert gs.scatter_sum(torch.empty(4, 0), torch.arange(4), 0).shape == (4, 0)
    assert gs.scatter_sum(torch.empty(0, 4), torch.arange(4), 1).shape == (0, 4)
    assert gs.segment_sum_csr(torch.empty(0, 3), torch.tensor([0, 0])).tolist() == [[0] * 3]
    assert gs.segment_sum_csr(torch.empty(2, 3), torch.tensor([0])).shape == (0, 3)
    assert gs.gather_csr(torch.empty(1, 3), torch.tensor([0, 0])).shape == (0, 3)
    assert gs.gather_coo(torch.ones(2, 3), none).shape == (0, 3)
    assert gs.scatter_softmax(torch.empty(0, 3), none, 0).shape == (0, 3)
    assert gs.scatter_std(torch.empty(0, 3), none, 0, dim_size=1).tolist() == [[0] * 3]
    assert gs.scatter_logsumexp(torch.empty(0, 3), none, 0, dim_size=1).tolist() == [[0] * 3]


def test_offsets_of_batches() -> None:
    src = values(2, 6, 3)
    ptr = torch.tensor([[0, 2, 2, 6], [0, 1, 5, 5]])
    for reduce in ("sum", "mean", "min", "max"):
        got = gs.segment_csr(src, ptr, reduce=reduce)
        index = torch.stack(
            [
                torch.repeat_interleave(torch.arange(4), p.diff(append=torch.tensor([6])))
                for p in ptr
            ]
        )
        want, _ = by_loop(src, index, 1, 4, reduce)
        same(got, want[:, :3])
        shared = gs.segment_csr(src, ptr[:1], reduce=reduce)
        same(shared[0], got[0])
        alone = gs.segment_csr(src[1], ptr[0], reduce=reduce)
        same(shared[1], alone)
    x = values(2, 3, 4)
    spread = gs.gather_csr(x, torch.tensor([[0, 2, 2, 6]]))
    assert torch.equal(spread, x[:, [0, 0, 2, 2, 2, 2]])
    index = torch.tensor([[0, 0, 2], [1, 1, 1]])
    assert torch.equal(gs.gather_coo(x, index)[1], x[1, [1, 1, 1]])
    assert torch.equal(gs.gather_coo(x, index[:1])[1], x[1, [0, 0, 2]])
    want, _ = by_loop(x, index, 1, 3, "sum")
    same(gs.segment_coo(x, index), want)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.float16, torch.float64])
def test_gathers_copy(dtype: torch.dtype) -> None:
    if dtype == torch.bool:
        return
    x = values(5, 3, dtype=dtype)
    ptr = torch.tensor([0, 0, 2, 3, 3, 6])
    index = torch.tensor([1, 1, 2, 4, 4, 4])
    assert torch.equal(gs.gather_csr(x, ptr), x[index])
    assert torch.equal(gs.gather_coo(x, index), x[index])
    out = torch.empty_like(x[index])
    assert gs.gather_coo(x, index, out) is out and torch.equal(out, x[index])
    assert gs.gather_csr(x, ptr, out.zero_()) is out and torch.equal(out, x[index])


def test_out() -> None:
    src, index = values(7, 2), torch.tensor([0, 2, 0, 2, 2, 3, 3])
    base = values(5, 2, seed=3)
    ordered, ptr = index.sort().values, torch.tensor([0, 2, 2, 5, 7, 7])
    total = gs.scatter_sum(src, index, 0, dim_size=5)
    for name, want in [
        ("scatter_sum", base + total),
        ("scatter_add", base + total),
        ("scatter_mul", base * gs.scatter_mul(src, index, 0, dim_size=5)),
        ("scatter_mean", (base + total) / torch.tensor([2.0, 1, 3, 2, 1]).unsqueeze(1)),
    ]:
        out = base.clone()
        assert getattr(gs, name)(src, index, 0, out) is out
        same(out, want)
    for name, better in (("min", torch.lt), ("max", torch.gt)):
        out = base.clone()
        value, arg = getattr(gs, f"scatter_{name}")(src, index, 0, dim_size=5)
        wins = better(value, base) & (arg < 7)
        got, places = getattr(gs, f"scatter_{name}")(src, index, 0, out)
        assert got is out and torch.equal(out, torch.where(wins, value, base))
        assert torch.equal(places, torch.where(wins, arg, 7))
    out = base.clone()
    assert gs.segment_coo(src, ordered, out, reduce="mean") is out
    counts = torch.tensor([2.0, 1, 3, 2, 1]).unsqueeze(1)
    same(out, (base + gs.segment_coo(src, ordered, dim_size=5)) / counts)
    for reduce in ("sum", "mean", "min", "max"):
        # offsets know every row: out is written, not added to
        assert gs.segment_csr(src, ptr, out, reduce) is out
        same(out, gs.segment_csr(src, ptr, reduce=reduce))


def test_out_with_gradients() -> None:
    src = values(6).requires_grad_()
    index = torch.tensor([0, 1, 1, 0, 2, 2])
    for name in ("scatter_sum", "scatter_mul", "scatter_mean"):
        base = values(3, seed=5).requires_grad_()
        assert gradcheck(lambda s, b, n=name: getattr(gs, n)(s, index, 0, b.clone()), (src, base))
    for name in ("scatter_min", "scatter_max"):
        base = values(3, seed=5).requires_grad_()
        assert gradcheck(
            lambda s, b, n=name: getattr(gs, n)(s, index, 0, b.clone())[0], (src, base)
        )


# -- made of the others ----------------------------------------------------------------------------


def rows_of(src: Tensor, index: Tensor, rows: int) -> list[Tensor]:
    return [src[index == r] for r in range(rows)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_composites(order: str, dtype: torch.dtype) -> None:
    src, index = values(20, 3, dtype=dtype), numbers(5, 20)
    index = index.sort().values if order == "sorted" else index
    rows = rows_of(src.double(), index, 6)
    std = torch.stack([r.std(0) if len(r) > 1 else r.new_zeros(3) for r in rows])
    torch.testing.assert_close(
        gs.scatter_std(src, index, 0, dim_size=6).double(), std, atol=1e-5, rtol=1e-5
    )
    std = torch.stack([r.std(0, correction=0) if len(r) else r.new_zeros(3) for r in rows])
    got = gs.scatter_std(src, index, 0, dim_size=6, unbiased=False)
    torch.testing.assert_close(got.double(), std, atol=1e-5, rtol=1e-5)
    log = torch.stack([r.logsumexp(0) if len(r) else r.new_zeros(3) for r in rows])
    got = gs.scatter_logsumexp(src, index, 0, dim_size=6)
    torch.testing.assert_close(got.double(), log, atol=1e-5, rtol=1e-5)
    for name, function in (("softmax", torch.softmax), ("log_softmax", torch.log_softmax)):
        want = torch.empty_like(src, dtype=torch.float64)
        for r in range(6):
            want[index == r] = function(src.double()[index == r], 0)
        scattered = getattr(gs, f"scatter_{name}")
        torch.testing.assert_close(scattered(src, index, 0).double(), want, atol=1e-5, rtol=1e-5)
        turned = scattered(src.t(), index, 1, dim_size=9).t()
        torch.testing.assert_close(turned.double(), want, atol=1e-5, rtol=1e-5)
        full = scattered(src, index.unsqueeze(1).expand_as(src).contiguous(), 0)
        torch.testing.assert_close(full.double(), want, atol=1e-5, rtol=1e-5)


def test_composites_of_infinities() -> None:
    inf = torch.inf
    src, index = (
        torch.tensor([-inf, -inf, 0.0, -inf, 1000.0, 999.0]),
        torch.tensor([0, 0, 1, 1, 2, 2]),
    )
    assert gs.scatter_softmax(src, index)[:4].tolist() == [0, 0, 1, 0]
    got = gs.scatter_logsumexp(src, index)
    assert got[1] == 0 and abs(got[2] - 1000.3133) < 1e-3 and got.isfinite().all()
    assert gs.scatter_log_softmax(src, index)[[2, 4]].isfinite().all()


def test_logsumexp_with_out() -> None:
    src, index = values(8), numbers(3, 8)
    base = values(4, seed=2)
    both, places = torch.cat([src, base]), torch.cat([index, torch.arange(4)])
    got = gs.scatter_logsumexp(src, index, out=base.clone())
    torch.testing.assert_close(got, gs.scatter_logsumexp(both, places))


# -- gradients -------------------------------------------------------------------------------------

INDEX = torch.tensor([0, 2, 0, 1, 2, 2, 5])
PTR = torch.tensor([0, 2, 2, 3, 6])
DIFFERENTIABLE = {
    **{
        f"scatter_{r}": (lambda s, r=r: gs.scatter(s, INDEX, 1, dim_size=7, reduce=r))
        for r in REDUCES
    },
    **{
        f"csr_{r}": (lambda s, r=r: gs.segment_csr(s[0], PTR, reduce=r))
        for r in ("sum", "mean", "min", "max")
    },
    **{
        f"coo_{r}": (lambda s, r=r: gs.segment_coo(s[0], INDEX.sort().values, reduce=r))
        for r in ("sum", "mean", "min", "max")
    },
    "full": lambda s: gs.scatter(s, numbers(3, 2, 7, 2), 1, reduce="sum"),
    "full_mean": lambda s: gs.scatter(s, numbers(3, 2, 7, 2), 1, reduce="mean"),
    "full_max": lambda s: gs.scatter(s, numbers(3, 2, 7, 2), 1, reduce="max"),
    "batches": lambda s: gs.segment_csr(
        s, torch.stack([PTR, PTR + 1 - (PTR == 0).long()]).clamp(max=6)
    ),
    "gather_csr": lambda s: gs.gather_csr(s[0], torch.tensor([0, 2, 2, 3, 6, 6, 7, 9])),
    "gather_coo": lambda s: gs.gather_coo(s[0], torch.tensor([0, 0, 3, 6])),
    "std": lambda s: gs.scatter_std(s, torch.tensor([0, 1, 0, 1, 2, 2, 2]), 1),
    "logsumexp": lambda s: gs.scatter_logsumexp(s, INDEX, 1),
    "softmax": lambda s: gs.scatter_softmax(s, INDEX, 1),
    "log_softmax": lambda s: gs.scatter_log_softmax(s, INDEX, 1),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name: str) -> None:
    src = values(2, 7, 2).requires_grad_()
    assert gradcheck(DIFFERENTIABLE[name], (src,))
    assert gradgradcheck(DIFFERENTIABLE[name], (src,))


def test_the_gradient_of_a_product_with_zeros() -> None:
    src = torch.tensor([2.0, 0, 3, 0, 0, 5, 7], dtype=torch.float64).requires_grad_()
    index = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    gs.scatter_mul(src, index).sum().backward()
    assert src.grad is not None and src.grad.tolist() == [0, 6, 0, 0, 0, 7, 5]


def test_the_gradient_of_a_maximum_goes_to_the_first() -> None:
    src = torch.tensor([5.0, 5, 1]).requires_grad_()
    value, arg = gs.scatter_max(src, torch.zeros(3, dtype=torch.int64))
    value.sum().backward()
    assert src.grad is not None and src.grad.tolist() == [1, 0, 0] and not arg.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_in_halves(dtype: torch.dtype) -> None:
    for reduce in REDUCES:
        src = (values(70, 3, dtype=dtype) + 3).requires_grad_()
        exact = src.detach().double().requires_grad_()
        index, dy = numbers(30, 70), values(30, 3, seed=4)
        gs.scatter(src, index, 0, dim_size=30, reduce=reduce).backward(dy.to(dtype))
        gs.scatter(exact, index, 0, dim_size=30, reduce=reduce).backward(dy)
        assert src.grad is not None and exact.grad is not None
        same(src.grad, exact.grad.to(dtype))


# -- compiled --------------------------------------------------------------------------------------


def test_opcheck(way: str) -> None:
    if way == "kernel":
        return
    src, index, ptr = values(7, 3).requires_grad_(), INDEX, torch.tensor([0, 2, 2, 7])
    run = torch.library.opcheck
    graphkit = torch.ops.graphkit
    for reduce in ("sum", "mean", "mul"):
        run(graphkit.scatter_reduce.default, (src, index, 0, 6, reduce))
    run(graphkit.scatter_best.default, (src, index, 0, 6, False))
    run(graphkit.scatter_pick.default, (src, index, 0))
    run(
        graphkit.scatter_put.default,
        (src, numbers(9, 7, 3), 0, 9),
        test_utils=("test_schema", "test_faketensor"),
    )
    run(graphkit.csr_reduce.default, (src, ptr, "mean"))
    run(graphkit.csr_best.default, (src, ptr, True))
    run(graphkit.csr_spread.default, (src[:3].detach().requires_grad_(), ptr, 7))


def test_compiled(way: str) -> None:
    if way == "reference":
        return
    index, ptr = INDEX, torch.tensor([0, 2, 2, 7])

    def body(src: Tensor) -> Tensor:
        total = gs.scatter(src, index, 0, dim_size=6, reduce="mean").sum()
        total = total + gs.scatter_max(src, index, 0, dim_size=6)[0].sum()
        total = total + gs.segment_csr(src, ptr, reduce="min").sum()
        return total + gs.scatter_softmax(src, index, 0, dim_size=6).square().sum()

    compiled = torch.compile(body, fullgraph=True, backend="aot_eager")
    for src in (values(7, 3).requires_grad_(),):
        want, got = body(src), compiled(src)
        same(got.detach(), want.detach())
        a, b = torch.autograd.grad(want, src)[0], torch.autograd.grad(got, src)[0]
        same(a, b)
    if native.kernels is not None and way == "kernel":
        with pytest.raises(GraphError, match="there are 2 rows"):
            gs.scatter_sum(values(7), index, dim_size=2)


# -- bad input -------------------------------------------------------------------------------------

X, AT = torch.ones(4, 2), torch.tensor([0, 1, 1, 0])
BAD = [
    (
        lambda: gs.scatter_sum(X, torch.tensor([0, 1, 2, 0]), 0, dim_size=2),
        r"index\[2\] = 2, but there are 2 rows \(valid: 0 to 1\)",
    ),
    (lambda: gs.scatter_max(X, torch.tensor([0, 1, -1, 0]), 0), r"index\[2\] = -1"),
    (lambda: gs.scatter_mul(X, torch.tensor([0, 1, 2, 0]), 0, torch.ones(2, 2)), r"index\[2\] = 2"),
    (
        lambda: gs.scatter_sum(X, AT.expand(2, 4).t() + 5 * torch.eye(4, 2).long(), 0, dim_size=4),
        r"index\[0, 0\] = 5",
    ),
    (lambda: gs.gather_coo(X, torch.tensor([0, 4])), r"index\[1\] = 4"),
    (lambda: gs.segment_mean_coo(X, torch.tensor([0, 0, 1, 3]), dim_size=3), r"index\[3\] = 3"),
    (lambda: gs.scatter_softmax(X, torch.tensor([0, 1, 2, 0]), 0, 2), r"= 2, but"),
    (
        lambda: gs.scatter_sum(X, AT.float(), 0),
        r"dtype torch.float32 .* torch.int64 is expected. Pass index.long\(\)",
    ),
    (lambda: gs.scatter_sum(X, AT.bool(), 0), r"dtype torch.bool"),
    (lambda: gs.scatter_sum(X.bool(), AT, 0), r"src has dtype torch.bool"),
    (lambda: gs.scatter_sum(X.to(torch.complex64), AT, 0), r"src has dtype torch.complex64"),
    (lambda: gs.scatter_sum(X.to_sparse(), AT, 0), r"layout torch.sparse_coo"),
    (lambda: gs.scatter_sum([1.0], AT, 0), r"src is a list"),
    (lambda: gs.scatter_sum(X, [0, 1], 0), r"index is a list"),
    (lambda: gs.scatter_sum(X, AT, 2), r"dim is 2, but src has shape \[4, 2\] \(valid: -2 to 1\)"),
    (lambda: gs.scatter_sum(X, AT, -3), r"dim is -3"),
    (lambda: gs.scatter_sum(X, AT, 1), r"index has shape \[4\] and src \[4, 2\]"),
    (lambda: gs.scatter_sum(X, AT[:3], 0), r"index has shape \[3\]"),
    (lambda: gs.scatter_sum(X, AT.view(4, 1, 1), 0), r"index has shape \[4, 1, 1\]"),
    (lambda: gs.scatter_sum(X, AT, 0, dim_size=-1), r"dim_size is -1"),
    (lambda: gs.scatter_sum(X, AT, 0, dim_size=2.0), r"dim_size is 2.0"),
    (
        lambda: gs.scatter_sum(X, AT, 0, torch.ones(2, 3)),
        r"out has shape \[2, 3\], but \[rows, 2\]",
    ),
    (lambda: gs.scatter_sum(X, AT, 0, torch.ones(2)), r"out has shape \[2\]"),
    (lambda: gs.scatter_sum(X, AT, 0, torch.ones(2, 2).double()), r"out is torch.float64"),
    (lambda: gs.scatter_sum(torch.tensor(1.0), AT, 0), r"valid: none|shape \[\]"),
    (lambda: gs.scatter_sum(X.to("meta"), AT, 0), r"index is on cpu but src is on meta"),
    (
        lambda: gs.segment_csr(X.to("meta"), torch.tensor([0, 4])),
        r"indptr is on cpu but src is on meta",
    ),
    (lambda: gs.segment_csr(X, torch.tensor([0, 3, 2, 4])), r"falls after position 1"),
    (lambda: gs.segment_csr(X, torch.tensor([1, 4])), r"starts at 1"),
    (lambda: gs.segment_csr(X, torch.tensor([0, 5])), r"ends at 5"),
    (lambda: gs.segment_max_csr(X, torch.tensor([0, -1, 4])), r"falls after position 0"),
    (lambda: gs.segment_csr(X, torch.tensor([0.0, 4.0])), r"indptr has dtype torch.float32"),
    (
        lambda: gs.segment_csr(X, torch.empty(0, dtype=torch.int64)),
        r"one entry more than there are rows",
    ),
    (lambda: gs.segment_csr(X, torch.zeros(3, 2, dtype=torch.int64)), r"indptr has shape \[3, 2\]"),
    (
        lambda: gs.segment_csr(X, torch.tensor([0, 4]), torch.ones(2, 2)),
        r"out has shape \[2, 2\], but \[1, 2\]",
    ),
    (
        lambda: gs.gather_csr(X, torch.tensor([0, 4])),
        r"src has 4 rows along dim 0, but indptr of shape \[2\] has 1",
    ),
    (lambda: gs.gather_csr(X[:1], torch.tensor([0, 4]), torch.ones(3, 2)), r"ends at 4, but .* 3"),
    (lambda: gs.gather_csr(X[:2], torch.tensor([0, 5, 3])), r"falls after position 1"),
    (lambda: gs.gather_coo(X, AT, torch.ones(3, 2)), r"out has shape \[3, 2\]"),
    (lambda: gs.scatter_std(X.int(), AT, 0), r"floating-point values are expected"),
    (lambda: gs.scatter_softmax(X.int(), AT, 0), r"floating-point values are expected"),
]


@pytest.mark.parametrize("at", range(len(BAD)))
def test_bad_input(at: int) -> None:
    call, message = BAD[at]
    with pytest.raises(GraphError, match=message):
        call()
    # the process goes on
    assert gs.scatter_sum(X, AT, 0).tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize("width", [1, 5, 64])
def test_large_indices_out_of_range(width: int) -> None:
    src = torch.ones(50_000, width)
    for value in (-1, 1000, 2**62):
        for at in (0, 31_234, 49_999):
            index = numbers(1000, 50_000)
            index[at] = value
            for i in (index, index.sort().values):
                for reduce in ("sum", "max"):
                    with pytest.raises(GraphError, match=f"= {value}"):
                        gs.scatter(src, i, 0, dim_size=1000, reduce=reduce)
                with pytest.raises(GraphError, match=f"= {value}"):
                    gs.gather_coo(src[:1000], i)


def test_nothing_is_written_after_an_error() -> None:
    out = torch.zeros(2, 2)
    for name in ("sum", "mul", "mean", "min", "max"):
        with pytest.raises(GraphError, match="rows"):
            getattr(gs, f"scatter_{name}")(X, torch.tensor([0, 1, 7, 0]), 0, out)
    assert not out.any()


def test_unknown_reduce() -> None:
    for call in (
        lambda: gs.scatter(X, AT, 0, reduce="summ"),
        lambda: gs.segment_csr(X, AT, reduce="mul"),
    ):
        with pytest.raises(ConfigError, match="unknown reduce"):
            call()


def test_on_meta() -> None:
    """Another device than the kernels': shapes and dtypes, nothing computed."""
    x, i, ptr = X.to("meta"), AT.to("meta"), torch.tensor([0, 4], device="meta")
    assert gs.scatter_sum(x, i, 0, dim_size=3).shape == (3, 2)
    assert gs.scatter_max(x, i, 0, dim_size=3)[1].dtype == torch.int64
    assert gs.segment_csr(x, ptr).shape == (1, 2)
    assert gs.scatter_softmax(x, i, 0, dim_size=3).shape == x.shape


# -- torch_scatter ---------------------------------------------------------------------------------


def test_signatures_of_torch_scatter() -> None:
    """Its names and argument order, written down."""
    tail = ["dim", "out", "dim_size"]
    want = {
        **{
            f"scatter_{r}": ["src", "index", *tail]
            for r in ("sum", "add", "mul", "mean", "min", "max")
        },
        "scatter": ["src", "index", *tail, "reduce"],
        "scatter_std": ["src", "index", *tail, "unbiased"],
        "scatter_logsumexp": ["src", "index", *tail, "eps"],
        "scatter_softmax": ["src", "index", "dim", "dim_size"],
        "scatter_log_softmax": ["src", "index", "dim", "eps", "dim_size"],
        "segment_csr": ["src", "indptr", "out", "reduce"],
        "segment_coo": ["src", "index", "out", "dim_size", "reduce"],
        "gather_csr": ["src", "indptr", "out"],
        "gather_coo": ["src", "index", "out"],
        **{
            f"segment_{r}_csr": ["src", "indptr", "out"]
            for r in ("sum", "add", "mean", "min", "max")
        },
        **{
            f"segment_{r}_coo": ["src", "index", "out", "dim_size"]
            for r in ("sum", "add", "mean", "min", "max")
        },
    }
    assert sorted([*want, "atomic"]) == sorted(gs.__all__)
    for name, names in want.items():
        parameters = inspect.signature(getattr(gs, name)).parameters
        assert list(parameters) == names
        if "dim" in names:
            assert parameters["dim"].default == -1


@pytest.mark.parametrize("name", [name for name in gs.__all__ if name != "atomic"])
def test_as_torch_scatter(name: str) -> None:
    torch_scatter = pytest.importorskip("torch_scatter")
    theirs, ours = getattr(torch_scatter, name), getattr(gs, name)
    dtypes = (
        FLOATS[:2]
        if name.startswith(("scatter_std", "scatter_log", "scatter_soft"))
        else FLOATS[:2] + WHOLE
    )
    for dtype in dtypes:
        src = values(4, 30, 5, dtype=dtype)
        src = factors(src) if name == "scatter_mul" else src
        index, ptr = numbers(6, 30), torch.tensor([0, 3, 3, 20, 30])
        if "csr" in name:
            x = values(4, 4, 5, dtype=dtype) if name.startswith("gather") else src
            calls = [(x, ptr.view(1, -1)), (x[0], ptr)]
        elif "coo" in name:
            x = values(4, 6, 5, dtype=dtype) if name.startswith("gather") else src
            # gradients of torch_scatter take no index that is one for all batches
            ordered = index.sort().values.expand(4, -1)
            calls = [(x, ordered), (x[0], ordered[0])]
        else:
            calls = [
                (src, index, 1),
                (src[0], index, 0),
                (src[:, :, 0], index),
                (src, numbers(6, 4, 30, 5), 1),
            ]
        for call in calls:
            found = []
            for function in (theirs, ours):
                leaf = call[0].clone().requires_grad_(dtype.is_floating_point)
                got = function(leaf, *call[1:])
                pair = list(got) if isinstance(got, tuple) else [got]
                if leaf.requires_grad:
                    dy = values(*pair[0].shape, dtype=dtype, seed=6)
                    pair += torch.autograd.grad(pair[0], leaf, dy)
                found.append(pair)
            for want, got in zip(*found, strict=True):
                # torch_scatter's gradient goes through the largest value too, which eps shifts by
                # 1e-12 of it; the deviation of a single value has the gradient nan in both
                assert torch.equal(got.isnan(), want.isnan())
                off = (got - want).detach().nan_to_num().double()
                largest = want.detach().nan_to_num().double().abs().max().clamp(min=1)
                allowed = 10 * TOLERANCE[dtype] if dtype.is_floating_point else 0
                assert got.dtype == want.dtype and off.abs().max() <= allowed * largest
