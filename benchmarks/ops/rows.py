"""Rows of a table at random, as features are fetched for a batch.

The nodes of one batch of ogbn-products' size, three hops from 1,024 seeds, are some 300,000 of 2.4
million, each once and in no order. The result is written to memory that is there already. ``read
only`` loads the same rows in the same order and writes nothing: what memory allows for the half of
the work. (opt: _kernels)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import graphs
from benchmarks.entry import Call, Prepared
from benchmarks.passes import alone
from graphkit.errors import BackendError
from graphkit.ops import cpu, take_rows

TITLE = "Random rows of a table"
BASELINE = "graphkit"
TESTS = ("tests/ops/test_rows.py",)
# copies are exact
TOLERANCE = 0.0
NUM_ROWS, NUM_TAKEN = 2_400_000, 300_000


def cases(quick: bool) -> list[dict[str, Any]]:
    if quick:
        return [{"dtype": "float32", "width": 100, "rows": NUM_ROWS // 10}]
    chosen = [("float32", width) for width in (16, 50, 64, 100, 128, 256)]
    chosen += [("float16", 100), ("bfloat16", 128), ("int64", 1)]
    return [{"dtype": dtype, "width": width, "rows": NUM_ROWS} for dtype, width in chosen]


def entrants(dtype: str, width: int, rows: int) -> list[str]:
    some = ["graphkit", "graphkit, 1 thread", "graphkit, new result", "torch.index_select"]
    # numpy has no bfloat16
    some += [] if dtype == "bfloat16" else ["numpy.take"]
    return some + (["read only, same rows"] if dtype == "float32" else [])


@dataclass(frozen=True)
class Problem:
    x: Tensor
    index: Tensor
    out: Tensor


def problem(dtype: str, width: int, rows: int) -> Problem:
    kind = getattr(torch, dtype)
    graphs.spare(2 * rows * width * kind.itemsize / 1e9)
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(-128, 128, (rows, width), dtype=torch.int8, generator=generator).to(kind)
    index = torch.randperm(rows, generator=generator)[: NUM_TAKEN * rows // NUM_ROWS]
    return Problem(x, index, torch.zeros(len(index), width, dtype=kind))


def reference(p: Problem) -> tuple[Tensor, ...]:
    return (p.x[p.index].double(),)


def bytes_moved(dtype: str, width: int, rows: int) -> int:
    """Rows read and written, and their numbers."""
    taken = NUM_TAKEN * rows // NUM_ROWS
    return taken * (2 * width * getattr(torch, dtype).itemsize + 8)


def ours(p: Problem) -> Call:
    return lambda: (take_rows(p.x, p.index, p.out),)


def one_thread(p: Problem) -> Call:
    return alone(ours(p))


def anew(p: Problem) -> Call:
    return lambda: (take_rows(p.x, p.index),)


def by_torch(p: Problem) -> Call:
    return lambda: (torch.index_select(p.x, 0, p.index, out=p.out),)


def by_numpy(p: Problem) -> Call:
    x, index, out = (np.asarray(t) for t in (p.x, p.index, p.out))

    def call() -> tuple[Tensor, ...]:
        # any other mode than the default takes out as it is, without a copy in between
        np.take(x, index, axis=0, out=out, mode="clip")
        return (p.out,)

    return call


def read_only(p: Problem) -> Prepared:
    touch = getattr(cpu.native.kernels, "touch", None)
    if touch is None:
        raise BackendError("This build of graphkit has no kernel that only reads.")
    native, ptr = cpu.native, torch.arange(len(p.index) + 1)
    rows = native.side(ptr, p.index, None)
    sink = torch.zeros(1, dtype=torch.float64)

    def call() -> tuple[Tensor, ...]:
        touch(rows, p.x.data_ptr(), p.x.size(1), sink.data_ptr(), native.threads())
        # held for as long as the addresses are
        return () if len(ptr) else ()

    return Prepared(call, want=())


CONTENDERS = {
    "graphkit": ours,
    "graphkit, 1 thread": one_thread,
    "graphkit, new result": anew,
    "torch.index_select": by_torch,
    "numpy.take": by_numpy,
    "read only, same rows": read_only,
}
