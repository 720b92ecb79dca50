"""The linear map of a layer, forward and with gradients: MKL, oneDNN, and bfloat16.

Full-batch SAGE spends most of its time here. torch's own ``linear`` runs on MKL in float32; under
``torch.autocast``, which ``graphkit train --amp bf16`` is, in bfloat16 on oneDNN, casts included.
oneDNN in float32 is called as Inductor calls it; its gradients are products of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks.entry import Call
from benchmarks.passes import PASSES, passes
from graphkit.errors import BackendError

TITLE = "Linear map, 256 to 256"
BASELINE = "torch, float32"
TESTS = ("tests/nn", "-k", "MLP")
NUM_ROWS, WIDTH = 169_343, 256
# what bfloat16 has of the largest value; float32 is well below it
TOLERANCE = 2e-2


def cases(quick: bool) -> list[dict[str, Any]]:
    rows = NUM_ROWS // 4 if quick else NUM_ROWS
    return [{"passes": p, "rows": rows, "width": WIDTH} for p in PASSES]


@dataclass(frozen=True)
class Problem:
    inputs: list[Tensor]
    dy: Tensor | None


def problem(passes: str, rows: int, width: int) -> Problem:
    generator = torch.Generator().manual_seed(1)
    shapes = [(rows, width), (width, width), (width,)]
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    dy = torch.randn(rows, width, generator=generator)
    return Problem(inputs, dy if "backward" in passes else None)


def reference(p: Problem) -> tuple[Tensor, ...]:
    x, w, b = (value.double() for value in p.inputs)
    out = x @ w.t() + b
    if p.dy is None:
        return (out,)
    dy = p.dy.double()
    return out, dy @ w, dy.t() @ x, dy.sum(0)


def bytes_moved(passes: str, rows: int, width: int) -> int:
    """Rows read and written once; backward dy is read, x too, and dx written."""
    return 4 * rows * width * (5 if "backward" in passes else 2)


def by_mkl(p: Problem) -> Call:
    return passes(linear, p.inputs, p.dy)


def by_bfloat16(p: Problem) -> Call:
    def cast(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return linear(x, w, b).float()

    return passes(cast, p.inputs, p.dy)


class _OneDnn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, product: Callable[..., Tensor], x: Tensor, w: Tensor, b: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.product = product
        return product(x, w, b, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *dys: Tensor) -> Any:
        (x, w), (dy,) = ctx.saved_tensors, dys
        dx = ctx.product(dy, w.t().contiguous(), None, "none", [], "")
        dw = ctx.product(dy.t(), x.t(), None, "none", [], "")
        return None, dx, dw, dy.sum(0)


def by_onednn(p: Problem) -> Call:
    product: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if product is None:
        raise BackendError("This torch has no oneDNN.")
    return passes(lambda *inputs: _OneDnn.apply(product, *inputs), p.inputs, p.dy)  # pyright: ignore


CONTENDERS = {
    "torch, float32": by_mkl,
    "oneDNN, float32": by_onednn,
    "torch under autocast, bfloat16": by_bfloat16,
}
