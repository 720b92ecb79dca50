"""Mixed channels: the formula in float64, gradients, and the same bits on every instruction set."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from graphkit import GraphError, ops
from graphkit.ops.mix import mix_backward_reference, mix_reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}
# three and four channels; ACM, ACMII, ACM-SGC; with a norm and without
FORMS: dict[str, dict[str, Any]] = {
    "acm": {},
    "acm, normed": {"eps": 1e-5, "shift": True},
    "acmii": {"relu": False},
    "acmii, normed": {"relu": False, "eps": 1e-3, "shift": True, "structure": True},
    "sgc": {"relu": False, "final_relu": False, "scale": 3.0},
    "structure": {"structure": True, "scale": 0.5},
}


def problem(rows: int, width: int, form: str, dtype: torch.dtype = torch.float64, seed: int = 0):
    """Arguments by position and by name."""
    options = dict(FORMS[form])
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    has_structure = options.pop("structure", False)
    count = 4 if has_structure else 3
    low, rest = draw(rows, 2 * width).to(dtype), draw(rows, 2 * width).to(dtype)
    acc = torch.promote_types(dtype, torch.float32)
    att, mix = draw(count, width).to(acc), draw(count, count).to(acc)
    if has_structure:
        options["structure"] = draw(rows, width).to(dtype)
    if options.get("shift"):
        options["shift"] = draw(count).to(acc)
    return (low, rest, att, mix), options


def exact(args: tuple[Tensor, ...], options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The formula in float64."""
    low, rest, att, mix = (t.double() for t in args)
    width = att.size(1)
    structure, shift = options.get("structure"), options.get("shift")
    channels = [low[:, :width], rest[:, :width] - low[:, width:], rest[:, width:]]
    if options.get("relu", True):
        channels = [c.clamp(min=0) for c in channels]
    if structure is not None:
        channels.append(structure.double().clamp(min=0))
    gates = []
    for k, c in enumerate(channels):
        if options.get("eps") is not None:
            spread = c.var(1, correction=0, keepdim=True) + options["eps"]
            c = (c - c.mean(1, keepdim=True)) / spread.sqrt()
        gates.append(1 / (1 + (-(c @ att[k]) - (0 if shift is None else shift[k])).exp()))
    alpha = (torch.stack(gates, 1) @ mix).softmax(1)
    out = torch.einsum("nk,knf->nf", alpha, torch.stack(channels))
    out = out.clamp(min=0) if options.get("final_relu", True) else out
    return options.get("scale", 1.0) * out, alpha


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_the_formula(backend: str, form: str, dtype: torch.dtype) -> None:
    # ends of vectors, of the rows that are worked on at once, and of a task
    for rows, width in ((1, 1), (16, 5), (35, 64), (530, 7), (9, 131), (33, 16)):
        args, options = problem(rows, width, form, dtype)
        out, weights = ops.mix_channels(*args, **options)
        want, alpha = exact(args, options)
        assert out.dtype == dtype and weights.dtype == torch.promote_types(dtype, torch.float32)
        close = {"atol": TOLERANCE[dtype] * max(1.0, float(want.abs().max())), "rtol": 1e-2}
        torch.testing.assert_close(out.double(), want, **close)
        torch.testing.assert_close(weights.double(), alpha, atol=1e-5, rtol=1e-4)
        assert torch.allclose(weights.sum(1), torch.ones((), dtype=weights.dtype))
        assert (weights > 0).all()


def leaves(args: tuple[Tensor, ...], options: dict[str, Any]) -> tuple[list[Tensor], Any]:
    """All tensors as leaves, and the function of them."""
    named = {name: value for name, value in options.items() if isinstance(value, Tensor)}
    given = [t.detach().clone().requires_grad_() for t in (*args, *named.values())]

    def run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        more = dict(zip(named, tensors[4:], strict=True))
        return ops.mix_channels(*tensors[:4], **{**options, **more})

    return given, run


@pytest.mark.parametrize("form", FORMS)
def test_gradients(backend: str, form: str) -> None:
    given, run = leaves(*problem(3, 4, form))
    assert gradcheck(run, given, fast_mode=True)
    assert gradgradcheck(run, given, fast_mode=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_the_reference(form: str, dtype: torch.dtype) -> None:
    args, options = problem(700, 33, form, dtype)
    given, run = leaves(args, options)
    out, weights = run(*given)
    random = torch.Generator().manual_seed(1)
    dy = torch.randn(out.shape, generator=random).to(dtype)
    dw = torch.randn(weights.shape, generator=random).to(weights.dtype)
    got = torch.autograd.grad((out, weights), given, (dy, dw))
    low, rest, att, mix = (t.double() for t in args)
    more = {name: options[name].double() for name in ("structure", "shift") if name in options}
    how = (options.get("eps", -1.0), options.get("relu", True), options.get("final_relu", True))
    inputs = low, rest, more.get("structure"), att, more.get("shift"), mix
    scale = options.get("scale", 1.0)
    _, alpha, gates = mix_reference(*inputs, *how, scale)
    found = mix_backward_reference(dy.double(), dw.double(), *inputs, alpha, gates, *how, scale)
    names = ("low", "rest", "structure", "att", "shift", "mix")
    want = dict(zip(names, found, strict=True))
    given_by_name = [name for name in options if name in more]
    for name, grad in zip(("low", "rest", "att", "mix", *given_by_name), got, strict=True):
        scale = max(1.0, float(want[name].abs().max()))
        worst = float((grad.double() - want[name]).abs().max())
        # a sum that rounds to the other side of 0 takes a number out of a gradient
        limit = {torch.float32: 1e-4, torch.float64: 1e-11, torch.bfloat16: 0.05}[dtype]
        assert worst <= limit * scale, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_the_same_bits_everywhere(each_way: Any, form: str, dtype: torch.dtype) -> None:
    args, options = problem(1300, 37, form, dtype)

    def call() -> list[Tensor]:
        given, run = leaves(args, options)
        out, weights = run(*given)
        slopes = torch.ones_like(out), torch.ones_like(weights).cumsum(0)
        return [out, weights, *torch.autograd.grad((out, weights), given, slopes)]

    found = list(each_way(call).values())
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 40), st.integers(1, 70), st.sampled_from(list(FORMS)))
def test_any_size(rows: int, width: int, form: str) -> None:
    args, options = problem(rows, width, form)
    given, run = leaves(args, options)
    out, weights = run(*given)
    assert out.shape == (rows, width) and weights.shape == (rows, args[3].size(0))
    if rows:
        want, alpha = exact(args, options)
        torch.testing.assert_close(out, want, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(weights, alpha, atol=1e-10, rtol=1e-10)
    grads = torch.autograd.grad(out.sum() + weights[:, :1].sum(), given)
    assert all(g.isfinite().all() for g in grads)


def test_rows_that_stand_apart(backend: str) -> None:
    (low, rest, att, mix), options = problem(20, 6, "structure", torch.float32)
    h = torch.randn(20, 18)
    want = ops.mix_channels(low, h[:, 6:].contiguous(), att, mix, **options)
    got = ops.mix_channels(low, h[:, 6:], att, mix, **options)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def test_nan_is_passed_on_and_stays_in_its_row(backend: str) -> None:
    (low, rest, att, mix), options = problem(20, 6, "acm", torch.float32)
    low[3, 2] = torch.nan
    out, weights = ops.mix_channels(low, rest, att, mix, **options)
    assert out[3].isnan().all() and weights[3].isnan().all()
    good = torch.arange(20) != 3
    assert out[good].isfinite().all() and weights[good].isfinite().all()


def test_large_scores_saturate(backend: str) -> None:
    (low, rest, att, mix), options = problem(20, 6, "sgc", torch.float32)
    out, weights = ops.mix_channels(1e20 * low, rest, 1e10 * att, mix, **options)
    assert weights.isfinite().all() and torch.allclose(weights.sum(1), torch.ones(()))


@pytest.mark.parametrize("form", ["acm", "acmii, normed"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_ops_keep_torchs_rules(form: str, dtype: torch.dtype) -> None:
    (low, rest, att, mix), options = problem(5, 3, form, dtype)
    shift, structure = options.get("shift"), options.get("structure")
    given = [low, rest, structure, att, shift, mix]
    given = [None if t is None else t.requires_grad_() for t in given]
    how = options.get("eps", -1.0), options.get("relu", True), options.get("final_relu", True), 2.0
    opcheck(torch.ops.graphkit.mix.default, (*given, *how))
    plain = [None if t is None else t.detach() for t in given]
    _, weights, gates = torch.ops.graphkit.mix(*plain, *how)
    dy = torch.randn(5, 3).to(dtype)
    opcheck(torch.ops.graphkit.mix_backward.default, (dy, None, *plain, weights, gates, *how))


def test_compiles_whole_and_under_autocast() -> None:
    def run(x: Tensor, att: Tensor, mix: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            h = x @ x.t()
            return ops.mix_channels(h[:, :6], h[:, 3:], att, mix)[0]

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    (_, _, att, mix), _ = problem(9, 3, "acm", torch.float32)
    x = torch.randn(9, 4, requires_grad=True)
    want, got = run(x, att, mix), compiled(x, att, mix)
    assert got.dtype == torch.bfloat16 and torch.equal(got, want)
    grads = [torch.autograd.grad(out.float().sum(), x)[0] for out in (got, want)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": torch.ones(4, 5)}, r"low has shape \[4, 5\], but \[4, 6\] is expected"),
        ({"rest": torch.ones(3, 6)}, r"rest has shape \[3, 6\], but \[4, 6\] is expected"),
        ({"mix": torch.ones(4, 4)}, "for 4 nodes and 3 channels of 3 features"),
        ({"structure": torch.ones(4, 3)}, r"att has shape \[3, 3\], but \[4, 3\] is expected"),
        ({"shift": torch.ones(2)}, r"shift has shape \[2\], but \[3\]"),
        ({"low": torch.ones(4, 6).long()}, r"low has dtype torch.int64, .* Pass low.float\(\)"),
    ],
)
def test_bad_input(change: dict[str, Tensor], message: str) -> None:
    given = {"low": torch.ones(4, 6), "rest": torch.ones(4, 6)}
    given |= {"att": torch.ones(3, 3), "mix": torch.ones(3, 3)}
    with pytest.raises(GraphError, match=message):
        ops.mix_channels(**{**given, **change})
