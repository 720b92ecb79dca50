"""Dropout without a stored mask: what is kept is a function of a seed and the element's number."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .check import check_values
from .random import draw_seed, keep_below, random_bits_of_elements


def scale_of(p: float) -> float:
    """What the kept elements are multiplied by; 0 where none is kept."""
    return 1.0 / (1.0 - p) if p < 1.0 else 0.0


def _scaled(x: Tensor, scale: float) -> Tensor:
    return (
        x * scale if x.dtype in (torch.float32, torch.float64) else (x.float() * scale).to(x.dtype)
    )


def dropout_reference(x: Tensor, seed: Tensor, p: float, relu: bool) -> Tensor:
    kept = random_bits_of_elements(seed, x.numel()).view(x.shape) < keep_below(p)
    y = _scaled(x.relu() if relu else x, scale_of(p))
    return torch.where(kept, y, 0).contiguous()


dropout_op = torch.library.custom_op("graphkit::dropout", dropout_reference, mutates_args=())


@dropout_op.register_fake
def _(x: Tensor, seed: Tensor, p: float, relu: bool) -> Tensor:
    return x.new_empty(x.shape)


def _dropout_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, seed, ctx.p, ctx.relu = inputs
    # after a relu the output alone tells what passed: positive is what was kept
    ctx.save_for_backward(output if ctx.relu else seed)


def _dropout_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    (kept,) = ctx.saved_tensors
    if ctx.relu:
        dx = torch.ops.graphkit.relu_dropout_backward(dy, kept, scale_of(ctx.p))
    else:
        dx = torch.ops.graphkit.dropout(dy, kept, ctx.p, False)
    return dx, None, None, None


dropout_op.register_autograd(_dropout_backward, setup_context=_dropout_setup)


def relu_dropout_backward_reference(dy: Tensor, y: Tensor, scale: float) -> Tensor:
    # not y > 0: nan lets the gradient through, as in torch's relu
    return torch.where(y <= 0, 0, _scaled(dy, scale)).contiguous()


relu_dropout_backward_op = torch.library.custom_op(
    "graphkit::relu_dropout_backward", relu_dropout_backward_reference, mutates_args=()
)


@relu_dropout_backward_op.register_fake
def _(dy: Tensor, y: Tensor, scale: float) -> Tensor:
    return dy.new_empty(dy.shape)


def _gate_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, y, ctx.scale = inputs
    ctx.save_for_backward(y)


def _gate_backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
    (y,) = ctx.saved_tensors
    return torch.ops.graphkit.relu_dropout_backward(ddx, y, ctx.scale), None, None


relu_dropout_backward_op.register_autograd(_gate_backward, setup_context=_gate_setup)


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """``x / (1 - p)`` with each element set to 0 with probability ``p``; ``x`` itself if not
    ``training`` or where ``p`` is 0.

    ``x``: floating-point values of any shape. Returns the shape and dtype of ``x``, contiguous. A
    dropped element is 0 even where it was infinite or nan.

    The seed comes from torch's generator, so that ``torch.manual_seed`` rules the result; it is
    not the sequence of ``torch.nn.functional.dropout``. Element ``k`` in row-major order is kept
    or not by the seed and ``k`` alone: the same for any number of threads and on every device.

    Gradient: the same dropout of the gradient; no mask is stored. Differentiable again.
    Paper: `Dropout <https://jmlr.org/papers/v15/srivastava14a.html>`_.

    Raises :class:`ConfigError` unless ``0 <= p <= 1``, and :class:`GraphError` for another kind of
    ``x``.
    """
    _check_probability("dropout", p)
    if not training or p == 0:
        return x
    _check_values("dropout", x)
    return torch.ops.graphkit.dropout(x, draw_seed(x.device), float(p), False)


def relu_dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """``dropout(relu(x), p, training)`` in one pass, with nothing stored but the result.

    As :func:`dropout` of ``x.relu()``, and drawn alike: the same bits after the same seed.

    Gradient: ``dy / (1 - p)`` where the result is positive, 0 elsewhere. Differentiable again.

    Raises :class:`ConfigError` unless ``0 <= p <= 1``, and :class:`GraphError` for another kind of
    ``x``.
    """
    _check_probability("relu_dropout", p)
    if not training or p == 0:
        return x.relu()
    _check_values("relu_dropout", x)
    return torch.ops.graphkit.dropout(x, draw_seed(x.device), float(p), True)


def _check_probability(op: str, p: float) -> None:
    # isinstance guards against tensors and strings, which callers do pass whatever the annotation
    if not isinstance(p, (int, float)) or not 0 <= p <= 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"{op}: p is {p!r}, but a number from 0 to 1 is expected.")


def _check_values(op: str, x: Tensor) -> None:
    # what is no tensor has no device, and is refused for that
    check_values(op, "x", x, getattr(x, "device", torch.device("cpu")))
