"""Packing the features of an epoch's batches: the problems of ``gather.py``.

A call samples the epoch and writes its packs, synced. ``row by row`` reads each cold row by itself,
directly, and writes it behind the one before (what DiskGNN calls primitive packing); its samples
are drawn before. Judged by an untimed reading of what was written.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.entry import Outputs, Prepared
from benchmarks.ops import gather
from graphkit.data import stages, stored

TITLE = "Packing an epoch, batches of 1024"
BASELINE = "graphkit"
TESTS = ("tests/store/test_packs.py",)
TOLERANCE = gather.TOLERANCE
WARMUP = 0
Problem = gather.Problem


def cases(quick: bool) -> list[dict[str, Any]]:
    return gather.cases(quick)


def problem(graph: str, width: int) -> Problem:
    return gather.problem(graph, width)


def reference(p: Problem) -> Outputs:
    return gather.reference(p)


def ours(way: str) -> Callable[[Problem], Prepared]:
    def prepared(p: Problem) -> Prepared:
        names = (f"{way} {number}" for number in itertools.count())
        made: list[Path] = []

        def call() -> Outputs:
            if made:
                shutil.rmtree(made.pop())
            packs = p.packed(way, next(names))
            made.append(packs.path)
            return ()

        def check() -> Outputs:
            call()
            packs = p.packed(way, made[0].name)
            rows = (batch.x for batch in stages.fetch(stored(packs), packs))
            return (gather.sums(rows),)

        return Prepared(call, check)

    return prepared


def row_by_row(p: Problem) -> Prepared:
    packs, out = p.packed("rows"), p.folder / "row by row"

    def call() -> Outputs:
        with out.open("wb") as file:
            for batch in stages.fetch(stored(packs), packs):
                file.write(memoryview(batch.x.numpy()))
            file.flush()
            os.fsync(file.fileno())
        return ()

    def check() -> Outputs:
        call()
        data = torch.from_file(str(out), size=out.stat().st_size // 4).view(-1, p.x.size(1))
        sizes = [len(batch.n_id) for batch in stored(packs)]
        return (gather.sums(data.split(sizes)),)

    return Prepared(call, check)


CONTENDERS = {
    "graphkit": ours("packs"),
    "graphkit, shared rows": ours("segments"),
    "row by row": row_by_row,
}
