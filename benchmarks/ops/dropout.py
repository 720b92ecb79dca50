"""relu and dropout of a hidden layer, forward and with gradient.

Chance decides the result, so that an untimed call of the same kind is checked: every value must be
0 or the scaled one, the share of those kept must be right, and the gradient must flow through
exactly those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.entry import Prepared
from benchmarks.passes import PASSES, alone, passes
from graphkit import ops

TITLE = "relu and dropout, float32"
BASELINE = "graphkit"
TESTS = ("tests/ops", "-k", "dropout")
NUM_ROWS, P = 150_000, 0.5


def tolerance(rows: int, width: int, **_: Any) -> float:
    """Six standard deviations of the share of positive values that are kept."""
    return 6 / (rows * width / 2) ** 0.5


TOLERANCE = tolerance


def cases(quick: bool) -> list[dict[str, Any]]:
    rows = NUM_ROWS // 3 if quick else NUM_ROWS
    return [{"passes": p, "rows": rows, "width": 256} for p in PASSES]


@dataclass(frozen=True)
class Problem:
    x: Tensor
    dy: Tensor | None

    def prepared(self, function: Callable[[Tensor], Tensor]) -> Prepared:
        call = passes(function, [self.x], self.dy)
        return Prepared(call, lambda: self._judged(*call()))

    def _judged(self, y: Tensor, dx: Tensor | None = None) -> tuple[Tensor, ...]:
        """What :func:`reference` is where all is well, whatever was dropped."""
        passed = y != 0
        scaled = self.x.relu() / (1 - P)
        share = passed.sum().double() / (self.x > 0).sum()
        found = (share.reshape(1), torch.where(passed, y, scaled))
        if dx is None or self.dy is None:
            return found
        # 0 where the gradient is right, on both kinds of values
        off = torch.where(passed, dx - self.dy / (1 - P), dx)
        return *found, 1 + off


def problem(passes: str, rows: int, width: int) -> Problem:
    generator = torch.Generator().manual_seed(1)
    x, dy = (torch.randn(rows, width, generator=generator) for _ in range(2))
    return Problem(x, dy if "backward" in passes else None)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """The share that is kept, every value as if it were kept, and a right gradient."""
    share = torch.full((1,), 1 - P, dtype=torch.float64)
    want = (share, p.x.double().clamp(min=0) / (1 - P))
    return want if p.dy is None else (*want, torch.ones_like(p.x, dtype=torch.float64))


def bytes_moved(passes: str, rows: int, width: int) -> int:
    """x read and y written; backward dy and y read and dx written."""
    return rows * width * 4 * (5 if "backward" in passes else 2)


def fused(p: Problem) -> Prepared:
    return p.prepared(lambda x: ops.relu_dropout(x, P))


def apart(p: Problem) -> Prepared:
    """Two functions; without gradient the second one in place."""
    return p.prepared(lambda x: functional.dropout(x.relu(), P, inplace=p.dy is None))


def one_thread(p: Problem) -> Prepared:
    ready = fused(p)
    return Prepared(alone(ready.call), ready.check)


CONTENDERS = {
    "graphkit": fused,
    "graphkit, 1 thread": one_thread,
    "torch relu, dropout": apart,
}
