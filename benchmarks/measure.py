"""Timing that is fair: checked first, interleaved, and summed up by order statistics."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from graphkit.errors import BackendError

from .entry import Entry, Outputs, Prepared


@dataclass(frozen=True)
class Spread:
    """The median of some values, and the values that a tenth of them lie below and above."""

    median: float
    p10: float
    p90: float


@dataclass
class Contest:
    """One contender in one case: ``status`` is ok, absent, failed or wrong; the rest follows it.

    ``error`` is the largest deviation from the reference over the reference's largest value,
    ``seconds`` one time for each round, ``process`` says who ran it where it was not this process.
    """

    status: str = "ok"
    reason: str | None = None
    error: float | None = None
    seconds: list[float] = field(default_factory=list)
    process: Mapping[str, Any] | None = None

    def stop(self, status: str, reason: str) -> None:
        """Take the contender out of the contest, without figures."""
        self.status, self.reason, self.seconds = status, reason, []


def spread(values: Sequence[float]) -> Spread:
    """The median and the 10th and 90th percentile of ``values``, linear between neighbours."""
    p10, median, p90 = np.percentile(values, (10, 50, 90)).tolist()
    return Spread(median, p10, p90)


def ratio(seconds: Sequence[float], baseline: Sequence[float]) -> Spread:
    """The ratio of the two medians; its percentiles are those of the ratios of each round.

    Both run in every round, so that what slows a round slows both.
    """
    rounds = spread([a / b for a, b in zip(seconds, baseline, strict=True)])
    return Spread(spread(seconds).median / spread(baseline).median, rounds.p10, rounds.p90)


def order(names: Sequence[str], number: int) -> list[str]:
    """``names`` as round ``number`` runs them: each round begins one further on."""
    at = number % len(names)
    return [*names[at:], *names[:at]]


def deviation(got: Outputs, want: Outputs) -> float:
    """The largest ``|got - want| / max |want|`` of all outputs; inf for other shapes or nan."""
    if len(got) != len(want):
        return float("inf")
    worst = 0.0
    for mine, reference in zip(got, want, strict=True):
        if mine.shape != reference.shape or not bool(mine.isfinite().all()):
            return float("inf")
        if reference.numel():
            scale = float(reference.abs().max()) or 1.0
            worst = max(worst, float((mine.double() - reference).abs().max()) / scale)
    return worst


def contest(
    entry: Entry,
    params: Mapping[str, Any],
    rounds: int,
    warmup: int,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Contest]:
    """Every contender's checked result in the case ``params``; ``tell`` hears what is going on.

    A contender is compared with the float64 reference before the first round and, by the output of
    its last round, after it. One that is absent, fails or is wrong has no times; a problem that
    this machine cannot pose has no contenders.
    """
    tell("reference")
    results = {name: Contest() for name in entry.names(params)}
    try:
        problem = entry.problem(**params)
    except BackendError as error:
        for result in results.values():
            result.stop("absent", str(error))
        return results
    want, tolerance = entry.reference(problem), entry.allowed(params)
    ready: dict[str, Prepared] = {}
    try:
        for name, result in results.items():
            tell(f"check {name}")
            with _recorded(result):
                ready[name] = entry.prepare(name, problem)
                result.process = ready[name].about
                _check(result, ready[name], ready[name].call(), want, tolerance)
        racing = {name: one for name, one in ready.items() if results[name].status == "ok"}
        for name, out in _race(racing, results, rounds, warmup, tell).items():
            with _recorded(results[name]):
                _check(results[name], ready[name], out, want, tolerance)
    finally:
        for one in ready.values():
            one.close()
    return results


def _race(
    ready: Mapping[str, Prepared],
    results: Mapping[str, Contest],
    rounds: int,
    warmup: int,
    tell: Callable[[str], None],
) -> dict[str, Outputs]:
    """The last outputs of those that came through; their times go to ``results``."""
    last: dict[str, Outputs] = {}
    names = list(ready)
    gc.collect()
    # a collection in the middle of a call would be charged to whoever runs then
    gc.disable()
    try:
        for number in range(-warmup, rounds):
            tell(f"round {number + 1}/{rounds}" if number >= 0 else "warm-up")
            for name in order(names, number + warmup) if names else ():
                if results[name].status != "ok":
                    continue
                # what the last round returned is freed before, not during, the next call
                last.pop(name, None)
                with _recorded(results[name]):
                    out, took = _timed(ready[name])
                    if number >= 0:
                        results[name].seconds.append(took)
                    if number == rounds - 1:
                        last[name] = out
                    del out
    finally:
        gc.enable()
    return last


def _timed(one: Prepared) -> tuple[Outputs, float]:
    # on a virtual machine a thread that sleeps takes milliseconds to begin, whoever calls
    awake = torch.zeros(2**18)
    for _ in range(16):
        awake.add_(1)
    began = time.perf_counter()
    out = one.call()
    took = time.perf_counter() - began
    return out, took if one.seconds is None else one.seconds()


@contextmanager
def _recorded(result: Contest) -> Iterator[None]:
    """Inside, an exception becomes the contender's status; an absent package is no failure."""
    try:
        yield
    except BackendError as error:
        result.stop("absent", str(error))
    except Exception as error:
        lines = str(error).splitlines() or [""]
        result.stop("failed", f"{type(error).__name__}: {lines[0]}")


def _check(result: Contest, one: Prepared, got: Outputs, want: Outputs, tolerance: float) -> None:
    if one.check is not None:
        got = one.check()
    with torch.no_grad():
        error = deviation(got, want if one.want is None else one.want)
    if not error <= tolerance:
        result.stop("wrong", f"off by {error:.1e} of the largest value, {tolerance:.0e} is allowed")
    result.error = error if np.isfinite(error) else None
