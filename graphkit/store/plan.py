"""Which way of reading rows is the fastest: exact counts, and the measured speed of the disk."""

# pyright: strict

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any

from .demand import Demand
from .direct import PAGE, Disk
from .packs import WAYS

NAMES = {
    "rows": "cold rows one after the other",
    "blocks": "pages of a batch's cold rows, each once",
    "packs": "one read for each batch",
    "segments": "packs, beside rows that batches share",
}
# above this share of rows in a cache there is little left to gain
_HIGH = 0.97


@dataclass(frozen=True)
class Prediction:
    """One way of reading, for one epoch and for a training.

    ``bytes``, ``reads``: of an epoch, exact. ``disk``: bytes that it takes beside the features.
    ``seconds``: of an epoch's reading; ``packing``: once, before; ``total``: all epochs and the
    packing, where reading and training overlap. ``break_even``: the epoch after which it has paid
    for its packing, against the best way that needs none; None if never. ``fits``: within the
    limits of disk and memory.
    """

    way: str
    hit_rate: float
    bytes: int
    reads: int
    disk: int
    seconds: float
    packing: float
    total: float
    break_even: int | None
    fits: bool

    def row(self) -> dict[str, Any]:
        """The row of a table, in words."""
        never = "-" if self.way in WAYS[:2] else "never"
        return {
            "way": self.way,
            "hits": f"{100 * self.hit_rate:.1f} %",
            "bytes": told(self.bytes),
            "reads": f"{self.reads:,}",
            "disk": told(self.disk) if self.fits else f"over: {told(self.disk)}",
            "epoch s": f"{self.seconds:.3g}",
            "pack s": f"{self.packing:.3g}",
            "pays at": never if self.break_even is None else f"{self.break_even}",
        }


def predict(
    demand: Demand,
    disk: Disk,
    epochs: int,
    *,
    table_bytes: int,
    cache_bytes: int,
    common: int,
    limit: int | None = None,
    train_seconds: float = 0.0,
) -> list[Prediction]:
    """What each way costs. ``table_bytes``: of the features, which packing reads once.

    ``common``: bytes on disk that all ways have (samples, cache). ``limit``: bytes on disk that
    there may be. ``train_seconds``: of an epoch without reading, beside which reading runs. Writing
    is taken to be as fast as reading.
    """
    made: list[Prediction] = []
    cold = int(demand.cold.sum())
    for way, cost in demand.cost.items():
        seconds = max(cost.bytes / disk.bandwidth, cost.reads / disk.iops)
        is_packed = way in WAYS[2:]
        moved = table_bytes + cache_bytes + cost.disk + 2 * 16 * cold
        # a cache alone is read row by row, in one sweep too
        packing = moved / disk.bandwidth if is_packed else cache_bytes / disk.bandwidth
        total = packing + epochs * max(seconds, train_seconds)
        fits = limit is None or common + cost.disk <= limit
        made.append(
            Prediction(
                way=way,
                hit_rate=demand.hit_rate,
                bytes=cost.bytes,
                reads=cost.reads,
                disk=common + cost.disk,
                seconds=seconds,
                packing=packing,
                total=total,
                break_even=None,
                fits=fits,
            )
        )
    plain = min((p for p in made if p.way in WAYS[:2]), key=lambda p: p.total)
    return [_with_break_even(p, plain, train_seconds) for p in made]


def _with_break_even(one: Prediction, plain: Prediction, train_seconds: float) -> Prediction:
    if one.way in WAYS[:2]:
        return one
    gain = max(plain.seconds, train_seconds) - max(one.seconds, train_seconds)
    extra = one.packing - plain.packing
    after = ceil(extra / gain) if gain > 0 else None
    return replace(one, break_even=None if after is None else max(after, 1))


def choose(predictions: list[Prediction]) -> Prediction:
    """The way that ends first among those that fit; of equal ones the simplest."""
    return min((p for p in predictions if p.fits), key=lambda p: p.total)


def reason(chosen: Prediction, predictions: list[Prediction], row: int, epochs: int) -> str:
    """Why it was chosen, in one sentence for the user."""
    best = {p.way: p for p in predictions}
    if chosen.way in WAYS[2:]:
        plain = min((best["rows"], best["blocks"]), key=lambda p: p.total)
        times = plain.total / chosen.total if chosen.total else inf
        return f"Packing pays: {epochs} epochs end {times:.1f} times as soon as without."
    causes: list[str] = []
    if not any(p.fits for p in predictions if p.way in WAYS[2:]):
        causes.append("packs do not fit on the disk that was given")
    if chosen.hit_rate > _HIGH:
        causes.append(f"the cache holds {100 * chosen.hit_rate:.1f} % of what is asked for")
    if row >= PAGE:
        causes.append(f"rows of {row} bytes fill whole pages")
    packed = [p.break_even for p in predictions if p.way in WAYS[2:] and p.break_even is not None]
    if packed and min(packed) > epochs:
        causes.append(f"it would pay after {min(packed)} epochs, and {epochs} are planned")
    if not causes:
        causes.append("reading pages out of the table is as fast")
    return f"Packing is not worth it: {'; '.join(causes)}."


def told(nbytes: float) -> str:
    """A number of bytes in words."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{int(nbytes)} B"
