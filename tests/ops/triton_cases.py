"""The kernels for GPUs on CPU tensors, under triton's interpreter: `test_triton.py` runs this file.

What the ops promise everywhere is in `test_ops.py`, which the same run takes parts of. Here is what
GPUs add: launches with caps, rows in parts, strides, and offsets that 32 bits cannot hold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from graphkit import Graph
from graphkit.ops.extreme import spmm_extreme_reference
from graphkit.ops.segment import segment_extreme_reference
from graphkit.ops.triton import load
from graphkit.testing import zoo

ZOO = dict(zoo())
ranges = load("ranges")
# sums are in another order than the reference's; storage rounds
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-9}
_GRAPHS = ("empty", "edgeless", "multi-edges", "wide-bipartite", "random")
# every graph in float32, every dtype on two graphs: the interpreter takes its time
CASES = pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, torch.float32) for name in _GRAPHS]
    + [("multi-edges", dtype) for dtype in TOLERANCE if dtype != torch.float32]
    + [("random", torch.bfloat16)],
)


@pytest.fixture(params=["whole", "parts"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As launched, and with rows in parts of 3 slots, few columns and one or two programs."""
    if request.param == "parts":
        for name, value in {"HUB": 5, "CHUNK": 3, "CAP": 2, "ELEMENTS": 256, "COLUMNS": 8}.items():
            monkeypatch.setattr(ranges, name, value)
    yield request.param


def values(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def close(got: Tensor, want: Tensor) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape and got.is_contiguous()
    if not want.is_floating_point():
        assert torch.equal(got, want)
        return
    finite = want.double()[want.isfinite()]
    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    tolerance = TOLERANCE[want.dtype] * scale
    torch.testing.assert_close(
        got.double(), want.double(), atol=tolerance, rtol=0, equal_nan=True
    )


def both(op: str, *inputs: Any) -> None:
    """The kernel against the reference, in float64 where that says more."""
    found = next(k for k in _kernels() if k[0] == op)
    got, want = found[1](*inputs), found[2](*inputs)
    for a, b in zip(*(t if isinstance(t, tuple) else (t,) for t in (got, want)), strict=True):
        close(a, b)


@functools.cache
def _kernels() -> list[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    from graphkit.ops.triton import KERNELS

    return [(op._name, getattr(load(f), name), reference) for op, reference, f, name in KERNELS]


def wide(graph: Graph) -> tuple[Tensor | None, ...]:
    """The parts of a graph with columns and edges in 64 bits."""
    return tuple(None if t is None else t.long() for t in graph.parts())


@CASES
def test_spmm(name: str, dtype: torch.dtype, cut: str) -> None:
    graph = ZOO[name]
    x = values(graph.num_src, 2, 3, dtype=dtype)
    w = values(graph.num_edges, 2, dtype=dtype, seed=1)
    both("spmm", *graph.parts(), x, w, False)
    both("spmm", *wide(graph), x, w[:, :1], True)
    acc = torch.promote_types(dtype, torch.float32)
    left, right = (values(n, dtype=acc) for n in (graph.num_dst, graph.num_src))
    diagonal = left.flip(0) if graph.num_src == graph.num_dst else None
    both("spmm", *graph.parts(), x, None, False, left, right, diagonal)


@CASES
def test_sddmm(name: str, dtype: torch.dtype, cut: str) -> None:
    graph = ZOO[name]
    a = values(graph.num_dst, 2, 5, dtype=dtype)
    b = values(graph.num_src, 2, 5, dtype=dtype, seed=1)
    both("sddmm", *graph.parts(), a, b)
    both("sddmm", *wide(graph), a[:, :1], b[:, 1:])


@CASES
def test_segments(name: str, dtype: torch.dtype, cut: str) -> None:
    rows = ZOO[name].by_dst
    v, x = values(rows.num_edges, 3, dtype=dtype), values(rows.num_rows, 3, dtype=dtype)
    for eid in (rows.eid, None):
        both("gather", rows.indptr, eid, x, rows.num_edges)
        both("segment_reduce", rows.indptr, eid, v, True)
        both("segment_softmax", rows.indptr, eid, v)
        both("segment_softmax_backward", rows.indptr, eid, v, v.flip(0))


def with_ties(x: Tensor) -> Tensor:
    """Few values, so that there are equals, and a nan."""
    x = (2 * x).round().clamp(-2, 2)
    if x.numel():
        x.view(-1)[0] = torch.nan
    return x


@CASES
def test_extremes(name: str, dtype: torch.dtype, cut: str) -> None:
    graph = ZOO[name]
    x = with_ties(values(graph.num_src, 2, 9, dtype=dtype))
    w = with_ties(values(graph.num_edges, 2, dtype=dtype, seed=1)).nan_to_num()
    dy = values(graph.num_dst, 2, 9, dtype=dtype, seed=2)
    sides = graph.parts()
    for weights in (None, w, w[:, :1]):
        for minimum in (False, True):
            both("spmm_extreme", *sides, x, weights, minimum, True)
        out, won, tied = spmm_extreme_reference(*sides, x, weights, True, True)
        for given in ((None, weights, None, won, tied), (x, weights, out, None, None)):
            both("spmm_extreme_backward", *sides, dy, *given, graph.num_src)
        if weights is not None:
            both("spmm_extreme_weights", *sides[:3], dy, x, weights, out)


@CASES
def test_extremes_of_segments(name: str, dtype: torch.dtype, cut: str) -> None:
    rows = ZOO[name].by_dst
    v = with_ties(values(rows.num_edges, 3, dtype=dtype))
    for eid in (rows.eid, None):
        both("segment_extreme", rows.indptr, eid, v, True)
        best = segment_extreme_reference(rows.indptr, eid, v, False)
        both("segment_share", rows.indptr, eid, v, best, values(rows.num_rows, 3, dtype=dtype))
