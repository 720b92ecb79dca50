"""The calls that are timed: a function forward alone, or with its gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .entry import Call, Outputs

PASSES = ("forward", "forward+backward")


def passes(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    dy: Tensor | None,
    parameters: Sequence[Tensor] = (),
) -> Call:
    """A call that returns ``function(*inputs)`` and the gradients of ``inputs`` and ``parameters``.

    ``dy`` is the gradient of the result; without one there are none.
    """

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (function(*inputs),)

    def both() -> tuple[Tensor, ...]:
        leaves = [value.detach().requires_grad_() for value in inputs]
        out = function(*leaves)
        return out.detach(), *torch.autograd.grad(out, [*leaves, *parameters], dy)

    return forward if dy is None else both


def alone(call: Call) -> Call:
    """``call`` with one thread: what the others are worth."""

    def one() -> Outputs:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return call()
        finally:
            torch.set_num_threads(before)

    return one
