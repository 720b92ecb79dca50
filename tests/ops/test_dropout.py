"""Dropout: what is kept, how often, and that torch and every instruction set draw the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from graphkit import ConfigError, GraphError, ops
from graphkit.ops.cpu import native
from graphkit.ops.dropout import dropout_reference, relu_dropout_backward_reference, scale_of
from graphkit.ops.random import keep_below, random_bits, random_bits_of_elements, random_words

SETS = native.kernels.instruction_sets() if native.kernels is not None else []
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
# ends of vectors and of tasks
SIZES = (0, 1, 2, 3, 17, 100, 257, 65535, 65536 + 33)
SEED = torch.tensor(2024)
Form = Callable[..., Tensor]


@pytest.fixture(params=["torch", "baseline", "avx2", "avx512"])
def by(request: pytest.FixtureRequest) -> Iterator[str]:
    """What serves the op: an instruction set, or ``torch`` for the reference."""
    name = request.param
    if name == "torch":
        yield name
        return
    if name not in SETS:
        pytest.skip(f"this machine or build offers no {name} kernels")
    before = native.kernels.instruction_set()
    native.kernels.choose(name)
    yield name
    native.kernels.choose(before)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def values(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def drop(by: str, x: Tensor, p: float, relu: bool, seed: Tensor = SEED) -> Tensor:
    if by == "torch":
        return dropout_reference(x, seed, p, relu)
    return torch.ops.graphkit.dropout(x, seed, p, relu)


def kept(by: str, count: int, p: float, seed: int) -> np.ndarray:
    return drop(by, torch.ones(count), p, False, torch.tensor(seed)).ne(0).numpy()


def test_the_words_are_splitmix64() -> None:
    def splitmix(state: int, steps: int) -> list[int]:
        out, mask = [], 2**64 - 1
        for _ in range(steps):
            state = (state + 0x9E3779B97F4A7C15) & mask
            z = state
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            out.append(z ^ (z >> 31))
        return out

    for seed in (0, 1234567, 2**63 - 2):
        want = splitmix(seed, 50)
        words = random_words(torch.tensor(seed), torch.arange(50))
        assert [word % 2**64 for word in words.tolist()] == want
        assert random_bits(torch.tensor(seed), torch.arange(50)).tolist() == [w >> 32 for w in want]
        halves = [half for w in want for half in (w >> 32, w % 2**32)]
        assert random_bits_of_elements(torch.tensor(seed), 99).tolist() == halves[:99]
    # the published first outputs after the seed 1234567
    assert splitmix(1234567, 2) == [6457827717110365317, 3203168211198807973]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_every_set_has_the_bits_of_the_definition(
    by: str, size: int, dtype: torch.dtype, relu: bool
) -> None:
    x = values(size, dtype=dtype)
    for p, seed in ((0.5, 7), (0.1, 2**63 - 2), (1e-12, 3), (1.0, 5)):
        below = random_bits_of_elements(torch.tensor(seed), size) < keep_below(p)
        whole = (x.relu() if relu else x).to(torch.promote_types(dtype, torch.float32))
        want = torch.where(below, whole * scale_of(p), 0).to(dtype)
        got = drop(by, x, p, relu, torch.tensor(seed))
        assert got.dtype == dtype and torch.equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_the_backward_of_both_needs_the_result_alone(
    by: str, size: int, dtype: torch.dtype
) -> None:
    x, dy = values(size, dtype=dtype), values(size, dtype=dtype, seed=1)
    y = drop(by, x, 0.25, True)
    want = torch.where(y > 0, dy.to(torch.promote_types(dtype, torch.float32)) / 0.75, 0).to(dtype)
    form = relu_dropout_backward_reference
    form = form if by == "torch" else torch.ops.graphkit.relu_dropout_backward
    got = form(dy, y, scale_of(0.25))
    torch.testing.assert_close(got, want)
    assert torch.equal(got, relu_dropout_backward_reference(dy, y, scale_of(0.25)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_for_any_threads(by: str, dtype: torch.dtype) -> None:
    x, found = values(5 * 65536 + 33, dtype=dtype), list[Tensor]()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y = drop(by, x, 0.4, True)
        found.append(torch.cat([y, torch.ops.graphkit.relu_dropout_backward(x, y, 2.0)]))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.75, 0.999])
def test_the_kept_share_is_one_less_p(by: str, p: float) -> None:
    count = 400_000
    for seed in (0, 1, 2**40):
        off = kept(by, count, p, seed).sum() - (1 - p) * count
        assert abs(off) < 5 * np.sqrt(count * p * (1 - p))


@pytest.mark.parametrize("lag", [1, 2, 3, 8, 16, 256, 1000])
def test_elements_near_each_other_are_independent(by: str, lag: int) -> None:
    # the four cases of an element and the one `lag` behind it: neighbours, and rows of a matrix
    for p in (0.5, 0.2):
        mask = kept(by, 300_000, p, seed=11)
        for start in (0, 1):
            # disjoint pairs, so that the test's own assumption holds
            left = mask[start : len(mask) - lag : 2 * lag] if lag > 1 else mask[start:-1:2]
            right = mask[start + lag :: 2 * lag] if lag > 1 else mask[start + 1 :: 2]
            size = min(len(left), len(right))
            table = np.histogram2d(left[:size], right[:size], bins=2)[0]
            share = np.array([p, 1 - p])
            assert stats.chisquare(table.ravel(), np.outer(share, share).ravel() * size)[1] > 1e-4


def test_seeds_near_each_other_are_independent(by: str) -> None:
    first = kept(by, 200_000, 0.5, 100)
    for seed in (101, 102, 356, 100 + 2**32):
        table = np.histogram2d(first, kept(by, 200_000, 0.5, seed), bins=2)[0]
        assert stats.chisquare(table.ravel())[1] > 1e-4
    assert np.array_equal(first, kept(by, 200_000, 0.5, 100))


def test_bytes_of_the_bits_are_uniform() -> None:
    for seed in (0, 1, 99):
        bits = random_bits_of_elements(torch.tensor(seed), 200_000)
        for shift in (0, 8, 16, 24):
            counts = np.bincount((bits >> shift & 255).numpy(), minlength=256)
            assert stats.chisquare(counts)[1] > 1e-4


@given(st.lists(st.integers(0, 5), max_size=4), st.floats(0, 1), st.booleans())
def test_any_shape_and_probability(shape: list[int], p: float, relu: bool) -> None:
    x = values(*shape)
    form = ops.relu_dropout if relu else ops.dropout
    y = form(x, p)
    whole = x.relu() if relu else x
    assert y.shape == x.shape and y.dtype == x.dtype
    if p < 1:
        torch.testing.assert_close(y[y != 0], (whole / (1 - p))[y != 0])
    else:
        assert not y.any()


@pytest.mark.parametrize("form", [ops.dropout, ops.relu_dropout])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_identities(form: Form, dtype: torch.dtype) -> None:
    x = values(40, 3, dtype=dtype)
    whole = x if form is ops.dropout else x.relu()
    assert torch.equal(form(x, 0.7, training=False), whole)
    assert torch.equal(form(x, 0.0), whole)
    assert not form(x, 1.0).any()
    assert (ops.dropout(x, 0.0) is x) and (ops.dropout(x, 0.5, False) is x)
    torch.manual_seed(3)
    first, second = form(x, 0.5), form(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(form(x, 0.5), first) and not torch.equal(first, second)
    assert first.dtype == dtype


def test_both_draw_alike() -> None:
    x = values(50, 7)
    torch.manual_seed(1)
    y = ops.dropout(x.relu(), 0.4)
    torch.manual_seed(1)
    assert torch.equal(ops.relu_dropout(x, 0.4), y)


def test_strided_input_counts_in_row_major_order(by: str) -> None:
    x = values(33, 9)
    for view in (x.t(), x[::2, 1::2], x[:, :1].expand(33, 5)):
        assert torch.equal(drop(by, view, 0.5, True), drop(by, view.contiguous(), 0.5, True))
        assert drop(by, view, 0.5, False).is_contiguous()


def test_nan_and_infinity(by: str) -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0]).repeat(64)
    below = random_bits_of_elements(SEED, 256) < keep_below(0.5)
    assert below.any() and not below.all()
    want = torch.where(below, x.relu() * 2, 0)
    assert torch.equal(drop(by, x, 0.5, True).nan_to_num(5), want.nan_to_num(5))
    assert not drop(by, x, 0.5, False)[~below].any()
    y, dy = drop(by, x, 0.5, True), torch.ones(256)
    form = relu_dropout_backward_reference
    form = form if by == "torch" else torch.ops.graphkit.relu_dropout_backward
    assert torch.equal(form(dy, y, 2.0), torch.where(y <= 0, 0.0, 2.0))


@pytest.mark.parametrize("form", [ops.dropout, ops.relu_dropout])
def test_gradients(form: Form) -> None:
    x = values(5, 7, dtype=torch.float64).requires_grad_()

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return form(x, 0.3)

    assert gradcheck(run, (x,)) and gradgradcheck(run, (x,))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ops_keep_torchs_rules(dtype: torch.dtype, relu: bool) -> None:
    x = values(6, 5, dtype=dtype).requires_grad_()
    opcheck(torch.ops.graphkit.dropout.default, (x, SEED, 0.5, relu))
    y = drop("torch", x.detach(), 0.5, True)
    dy = values(6, 5, dtype=dtype, seed=1).requires_grad_()
    opcheck(torch.ops.graphkit.relu_dropout_backward.default, (dy, y, 2.0))


@pytest.mark.parametrize("form", [ops.dropout, ops.relu_dropout])
def test_compiles_whole_and_under_autocast(form: Form) -> None:
    def run(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return form(x @ x.t(), 0.5)

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    x = values(9, 4).requires_grad_()
    torch.manual_seed(5)
    want = run(x)
    (gradient,) = torch.autograd.grad(want.sum(), x)
    torch.manual_seed(5)
    got = compiled(x)
    assert got.dtype == torch.bfloat16 and torch.equal(got, want)
    assert torch.equal(torch.autograd.grad(got.sum(), x)[0], gradient)


@pytest.mark.parametrize("form", [ops.dropout, ops.relu_dropout])
def test_bad_input(form: Form) -> None:
    x = values(3)
    for p in (-0.1, 1.1, float("nan"), "0.5", None):
        with pytest.raises(ConfigError, match=r"p is .*, but a number from 0 to 1 is expected"):
            form(x, p)
    with pytest.raises(GraphError, match=r"has dtype torch.int64, .* Pass x.float\(\)"):
        form(torch.arange(3), 0.5)
    with pytest.raises(GraphError, match="is a list, but a torch.Tensor is expected"):
        form([1.0], 0.5)
