"""The kernels for GPUs on CPU tensors, under triton's interpreter: `test_triton.py` runs this file.

What the ops promise everywhere is in `test_ops.py`, which the same run takes parts of. Here is what
GPUs add: launches with caps, rows in parts, strides, and offsets that 32 bits cannot hold.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from ways import seeded

import graphkit.scatter as gs
from graphkit import ConfigError, Graph, GraphError
from graphkit.ops import scatter as scatter_ops
from graphkit.ops.attention import attention_reference
from graphkit.ops.extreme import spmm_extreme_reference
from graphkit.ops.segment import segment_extreme_reference
from graphkit.ops.triton import KERNELS, load, use_shapes
from graphkit.testing import zoo

ranges, csr = load("ranges"), load("csr")
# sums are in another order than the reference's; storage rounds
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-9}


def of_lengths(*lengths: int) -> Graph:
    """A graph whose rows have these lengths, edges in no order, and one source without any."""
    dst = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    generator = seeded(3)
    dst = dst[torch.randperm(len(dst), generator=generator)]
    # most edges come from two sources, so that rows are long both ways
    src = torch.randint(9, (len(dst),), generator=generator).clamp(max=4) // 2 * 2
    return Graph.from_edge_index(torch.stack([src, dst]), num_src=7, num_dst=len(lengths))


GRAPHS = dict(zoo()) | {"lengths": of_lengths(0, 1, 4, 5, 11, 0, 3)}
# the interpreter takes its time: each graph in one dtype, each dtype on one graph
CASES = pytest.mark.parametrize(
    ("name", "dtype", "cut"),
    [(name, torch.float32, "whole") for name in ("empty", "edgeless", "wide-bipartite", "lengths")]
    + [("multi-edges", dtype, "whole") for dtype in (torch.float16, torch.float64)]
    + [("lengths", dtype, "parts") for dtype in (torch.float32, torch.bfloat16)]
    + [("edgeless", torch.float32, "parts")],
    indirect=["cut"],
)


@pytest.fixture
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As launched; or long rows in parts of 3 slots, few columns, one program or two."""
    if request.param == "parts":
        for name, value in {"HUB": 5, "CHUNK": 3, "CAP": 2, "ELEMENTS": 256, "COLUMNS": 8}.items():
            monkeypatch.setattr(ranges, name, value)
    return request.param


def values(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    drawn = torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)
    return drawn.to(dtype) if dtype.is_floating_point else (drawn * 40).to(torch.int64).to(dtype)


def numbers(count: int, *shape: int, seed: int = 5) -> Tensor:
    return torch.randint(count, shape, generator=seeded(seed))


def close(got: Tensor, want: Tensor) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape and got.is_contiguous()
    got, want = got.cpu(), want.cpu()
    if not want.is_floating_point():
        assert torch.equal(got, want)
        return
    finite = want.double()[want.isfinite()]
    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    tolerance = TOLERANCE[want.dtype] * scale
    torch.testing.assert_close(got.double(), want.double(), atol=tolerance, rtol=0, equal_nan=True)


def both(op: str, *inputs: Any) -> None:
    """The kernel against the reference, which is the CPU's wherever the kernel runs."""
    kernel, reference = kernels()[op]
    got = kernel(*inputs)
    with torch.device("cpu"):
        want = reference(*(t.cpu() if isinstance(t, Tensor) else t for t in inputs))
    for a, b in zip(
        *(t if isinstance(t, (tuple, list)) else (t,) for t in (got, want)), strict=True
    ):
        close(a, b)


@functools.cache
def kernels() -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    return {op._name: (getattr(load(f), name), reference) for op, reference, f, name in KERNELS}


def wide(graph: Graph) -> tuple[Tensor | None, ...]:
    """The parts of a graph with columns and edges in 64 bits."""
    return tuple(None if t is None else t.long() for t in graph.parts())


@CASES
def test_spmm(name: str, dtype: torch.dtype, cut: str) -> None:
    graph = GRAPHS[name]
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
    graph = GRAPHS[name]
    a = values(graph.num_dst, 2, 5, dtype=dtype)
    b = values(graph.num_src, 2, 5, dtype=dtype, seed=1)
    both("sddmm", *graph.parts(), a, b)
    both("sddmm", *wide(graph), a[:, :1], b[:, 1:])


@CASES
def test_segments(name: str, dtype: torch.dtype, cut: str) -> None:
    rows = GRAPHS[name].by_dst
    v, x = values(rows.num_edges, 3, dtype=dtype), values(rows.num_rows, 3, dtype=dtype)
    for eid in (rows.eid, None):
        both("gather", rows.indptr, eid, x, rows.num_edges)
        both("segment_reduce", rows.indptr, eid, v, True)
        both("segment_softmax", rows.indptr, eid, v)
        both("segment_softmax_backward", rows.indptr, eid, v, v.flip(0))


def attention_inputs(
    graph: Graph, second: bool, loops: bool, p: float, dtype: Any, channels: int = 5
) -> list[Any]:
    acc, n = torch.promote_types(dtype, torch.float32), min(graph.num_src, graph.num_dst)

    def some(*shape: int) -> Tensor:
        return values(*shape, dtype=acc, seed=len(shape) + shape[0])

    scores: list[Tensor | None] = [some(graph.num_src, 2), some(graph.num_dst, 2)]
    scores += [some(graph.num_edges, 2), some(n, 2) if loops else None]
    h, right, att = (
        values(*shape, channels, dtype=dtype, seed=seed)
        for *shape, seed in ((graph.num_src, 2, 0), (graph.num_dst, 2, 8), (2, 9))
    )
    pair = [right, att]
    given = [*[None] * 4, *pair] if second else [*scores, None, None]
    seed = torch.tensor(11) if p else None
    return [*graph.parts(), h, *given, loops, 0.2, p, seed]


@CASES
def test_attention(name: str, dtype: torch.dtype, cut: str) -> None:
    graph = GRAPHS[name]
    for second, loops, p in ((False, True, 0.4), (False, False, 0.0), (True, True, 0.4)):
        given = attention_inputs(graph, second, loops, p, dtype)
        both("attention", *given)
        _, top, total = attention_reference(*given)
        dy = values(graph.num_dst, 2, 5, dtype=dtype, seed=3)
        both("attention_backward", *given, top, total, dy)


@pytest.mark.parametrize("cut", ["parts"], indirect=True)
def test_attention_of_heads_wider_than_a_tile(cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load("attention"), "WIDEST", 4)
    graph = GRAPHS["lengths"]
    for second, loops in ((False, False), (True, True)):
        both("attention", *attention_inputs(graph, second, loops, 0.4, torch.float32, 9))


def test_attention_of_extreme_scores() -> None:
    """Rows without edges, with none that counts, of scores that overflow, and with a nan."""
    ends = torch.tensor([[0, 1, 2, 0, 1, 2, 0], [1, 1, 2, 3, 3, 3, 4]])
    graph = Graph.from_edge_index(ends, num_src=5, num_dst=5)
    edge = torch.tensor([-torch.inf, -torch.inf, 3.0, 1e30, 1e30, -1e30, torch.nan]).unsqueeze(1)
    h, src = values(5, 1, 3), torch.zeros(5, 1)
    for loops in (False, True):
        rest = (h, src, None, edge, None, None, None, loops, 1.0, 0.0, None)
        got, want = (form(*graph.parts(), *rest)[0] for form in kernels()["attention"])
        close(got, want)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("relu", [False, True])
def test_dropout_has_the_bits_of_the_definition(
    dtype: torch.dtype, relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "CAP", 2)
    run, reference = kernels()["dropout"]
    back, back_reference = kernels()["relu_dropout_backward"]
    # where a GPU rounds to bfloat16 the interpreter cuts bits off
    exact = {"rtol": 2**-7 if dtype == torch.bfloat16 else 0, "atol": 0, "equal_nan": True}
    for size in (0, 1, 2, 17, 5 * 1024 + 33):
        x, dy = values(size, dtype=dtype), values(size, dtype=dtype, seed=1)
        x[2:3], dy[:1] = torch.nan, torch.inf
        for p, seed in ((0.5, 7), (0.1, 2**63 - 2), (1e-12, 3), (1.0, 5)):
            given = torch.tensor(seed), p, relu
            y = run(x, *given)
            assert y.dtype == dtype
            torch.testing.assert_close(y, reference(x, *given), **exact)
            got, want = (form(dy, y, 1 / 0.7) for form in (back, back_reference))
            torch.testing.assert_close(got, want, **exact)
    x = values(40, 6, dtype=dtype)[::2, 1:4]
    both("dropout", x, torch.tensor(3), 0.4, relu)
    both("relu_dropout_backward", x, x.flip(0), 2.0)


@pytest.mark.parametrize("name", ["multi-edges", "self-loops", "isolated-ends", "random"])
def test_common_neighbors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "CAP", 1)
    side, num_nodes = GRAPHS[name].by_dst, GRAPHS[name].num_dst
    pairs = numbers(num_nodes, 2, 150 if name == "random" else 9)
    for score in ("count", "adamic_adar", "resource_allocation"):
        both("common_neighbors", side.indptr, side.indices, pairs, score)
    both("common_neighbors", side.indptr, side.indices.long(), pairs[:, ::2].int(), "count")
    both("common_neighbors", side.indptr, side.indices, pairs[:, :0], "count")
    few = pairs[:, :70]
    for given, ends, differences in (
        (few, True, True),
        (few, False, False),
        (few[:, :0], True, True),
    ):
        both("intersect", side.indptr, side.indices, given, ends, differences)
    both("intersect", side.indptr, side.indices.long(), few[:, ::2], False, True)


def with_ties(x: Tensor) -> Tensor:
    """Few values, so that there are equals, and a nan."""
    x = (2 * x).round().clamp(-2, 2)
    if x.numel():
        x.view(-1)[0] = torch.nan
    return x


@CASES
def test_extremes(name: str, dtype: torch.dtype, cut: str) -> None:
    graph = GRAPHS[name]
    x = with_ties(values(graph.num_src, 2, 9, dtype=dtype))
    w = with_ties(values(graph.num_edges, 2, dtype=dtype, seed=1)).nan_to_num()
    dy = values(graph.num_dst, 2, 9, dtype=dtype, seed=2)
    sides, shared = graph.parts(), w[:, :1]
    for weights, minimum in ((None, False), (w, True), (shared, True)):
        both("spmm_extreme", *sides, x, weights, minimum, weights is not shared)
    for weights in (None, w):
        _, won, tied = spmm_extreme_reference(*sides, x, weights, True, True)
        both("spmm_extreme_backward", *sides, dy, None, weights, None, won, tied, graph.num_src)
    out, _, _ = spmm_extreme_reference(*sides, x, shared, True, False)
    both("spmm_extreme_backward", *sides, dy, x, shared, out, None, None, graph.num_src)
    both("spmm_extreme_weights", *sides[:3], dy, x, shared, out)
    if cut == "parts":
        return
    lean = *sides[:3], None, None, None
    _, won, tied = spmm_extreme_reference(*lean, x, w, True, True)
    both("spmm_extreme_backward", *lean, dy, None, w, None, won, tied, graph.num_src)


@CASES
def test_extremes_of_segments(name: str, dtype: torch.dtype, cut: str) -> None:
    rows = GRAPHS[name].by_dst
    v = with_ties(values(rows.num_edges, 3, dtype=dtype))
    for eid in (rows.eid, None):
        both("segment_extreme", rows.indptr, eid, v, True)
        best = segment_extreme_reference(rows.indptr, eid, v, False)
        both("segment_share", rows.indptr, eid, v, best, values(rows.num_rows, 3, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_coo_to_csr(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csr, "BLOCK", 8)
    monkeypatch.setattr(ranges, "CAP", 2)
    edges = torch.stack([numbers(9, 50), numbers(20, 50, seed=6)]).to(dtype)
    by_dst = edges[:, edges[1].argsort(stable=True)]
    for given in (edges, by_dst, by_dst.flip(0), edges[:, ::3], edges.t().contiguous().t()):
        both("coo_to_csr", given, 20, 20, True)
    both("coo_to_csr", by_dst.flip(0), 20, 9, False)
    for sizes in ((0, 0), (3, 0), (1, 4)):
        both("coo_to_csr", edges[:, :0], *sizes, True)
    for value, message in ((20, r"edge_index\[1, 31\] = 20"), (-1, r"edge_index\[1, 31\] = -1")):
        wrong = edges.clone()
        wrong[1, 31] = value
        with pytest.raises(GraphError, match=message):
            kernels()["coo_to_csr"][0](wrong, 9, 20, True)
        both("coo_to_csr", edges, 9, 20, False)


SCATTERED = pytest.mark.parametrize(
    ("dtype", "cut"),
    [(torch.float32, "parts"), (torch.uint8, "parts"), (torch.int64, "whole")]
    + [(torch.bfloat16, "whole"), (torch.float64, "whole")],
    indirect=["cut"],
)


def indexes(shape: tuple[int, ...], dim: int, rows: int) -> dict[str, Tensor]:
    """For all, sorted, one for each number, and one for each batch that its columns share."""
    shared = numbers(rows, shape[dim]).clamp(max=rows - 2)
    full = numbers(rows, *shape)
    return {
        "shared": shared,
        "sorted": shared.sort().values,
        "full": full,
        "batches": full[(..., *[slice(1)] * (len(shape) - dim - 1))].expand(shape),
    }


@SCATTERED
def test_scatter(dtype: torch.dtype, cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long rows, and none at the end; all kinds of index before, behind and between batches."""
    monkeypatch.setattr(load("scatter"), "BLOCK", 16)
    for shape, dim in (((23, 2), 0), ((2, 11, 2), 1), ((2, 13), 1)):
        src = values(*shape, dtype=dtype)
        near = 1 + src / 100 if dtype.is_floating_point else (1 + (src % 7 == 0)).to(dtype)
        tied = with_ties(src) if dtype.is_floating_point else src % 4
        for kind, index in indexes(shape, dim, 4).items():
            for reduce in ("sum", "mean") if kind == "shared" else ("mean",):
                both("scatter_reduce", src, index, dim, 4, reduce)
            both("scatter_reduce", near, index, dim, 4, "mul")
            for minimum in (False, True) if kind == "shared" else (True,):
                both("scatter_best", tied, index, dim, 4, minimum)
            if dtype.is_floating_point and kind != "sorted":
                both("scatter_reduce", tied, index, dim, 4, "top")
            if kind in ("sorted", "batches"):
                continue
            rows = values(*shape[:dim], 4, *shape[dim + 1 :], dtype=dtype)
            both("scatter_pick", rows, index, dim)
            _, at = scatter_ops.scatter_best_reference(tied, index, dim, 4, False)
            both("scatter_put", rows, at, dim, shape[dim])


@SCATTERED
def test_segments_of_batches(dtype: torch.dtype, cut: str) -> None:
    """Offsets for all, for each batch, and values behind the last."""
    for ptr in ([0, 0, 9, 10, 12], [[0, 4, 4, 11], [0, 1, 9, 9]], [[0, 7, 10]] * 2):
        given = torch.tensor(ptr)
        if ptr == [[0, 7, 10]] * 2:
            given = given[:1].expand(2, 3)
        shape = (*given.shape[:-1], 12, 3)
        src = values(*shape, dtype=dtype)
        both("csr_reduce", src, given, "mean")
        both("csr_best", src, given, True)
        rows = values(*given.shape[:-1], given.size(-1) - 1, 3, dtype=dtype)
        both("csr_spread", rows, given, 12)
    both("csr_spread", values(2, 2, dtype=dtype), torch.tensor([0, 5, 12]), 12)


def test_products_of_whole_numbers_that_do_not_fit() -> None:
    scatter = load("scatter").scatter_reduce
    src, index = torch.full((7,), 2, dtype=torch.int8), torch.zeros(7, dtype=torch.int64)
    both("scatter_reduce", src[1:], index[1:], 0, 1, "mul")
    with pytest.raises(GraphError, match=r"product at \[0\] is 128, but torch.int8 ends at 127"):
        scatter(src, index, 0, 1, "mul")


def test_extremes_of_whole_numbers_at_their_ends() -> None:
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.int64):
        ends = torch.iinfo(dtype)
        src = torch.tensor([ends.max, ends.min, ends.min, ends.max, 0], dtype=dtype)
        for minimum in (False, True):
            both("scatter_best", src, torch.tensor([0, 1, 1, 2, 4]), 0, 6, minimum)


def test_a_sorted_index_is_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csr, "BLOCK", 4)
    index = torch.tensor([0, 0, 2, 2, 2, 5, 7, 7, 7])
    assert csr.in_order(index, 8) == (True, True) and csr.in_order(index, 7) == (False, True)
    assert csr.order_of(index, 8, True)[1] is None
    monkeypatch.setattr(scatter_ops, "native", None)
    assert scatter_ops.offsets(index, 8)[1] is None
    assert scatter_ops.offsets(index.flip(0), 8)[1] is not None
    for at in range(1, 9):
        # a fall is seen wherever blocks meet
        swapped = index.clone()
        swapped[at - 1] = 8
        assert csr.in_order(swapped, 9) == (True, at == 9)
    ptr, order = csr.order_of(index.flip(0), 8, False)
    assert ptr.tolist() == [0, 2, 2, 5, 5, 5, 6, 6, 9]
    assert order is not None and order.tolist() == [7, 8, 4, 5, 6, 3, 0, 1, 2]


def test_atomic_sums_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scatter = load("scatter")
    monkeypatch.setattr(scatter, "BLOCK", 16)
    monkeypatch.setattr(ranges, "CAP", 2)
    run, asked = scatter._added, []
    monkeypatch.setattr(scatter, "_added", lambda *given: asked.append(0) or run(*given))
    src = values(2, 11, 3, dtype=torch.float16)
    sorts = kernels()["scatter_reduce"][0](src, numbers(4, 11), 1, 5, "sum")
    with gs.atomic():
        for index in indexes(src.shape, 1, 5).values():
            for reduce in ("sum", "mean"):
                both("scatter_reduce", src, index, 1, 5, reduce)
        assert len(asked) == 8
        both("scatter_reduce", src.long(), numbers(4, 11), 1, 5, "sum")
        both("scatter_reduce", src, numbers(4, 11), 1, 5, "mul")
        with pytest.raises(GraphError, match="there are 3 rows"):
            kernels()["scatter_reduce"][0](src, numbers(4, 11), 1, 3, "sum")
        torch.use_deterministic_algorithms(True)
        try:
            again = kernels()["scatter_reduce"][0](src, numbers(4, 11), 1, 5, "sum")
        finally:
            torch.use_deterministic_algorithms(False)
        assert torch.equal(again, sorts)
    kernels()["scatter_reduce"][0](src, numbers(4, 11), 1, 5, "sum")
    assert len(asked) == 8


# -- what kernels for GPUs are known to get wrong --------------------------------------------------


def test_widths_that_are_no_multiple_of_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "COLUMNS", 8)
    graph = GRAPHS["multi-edges"]
    for width in (1, 7, 8, 9, 17):
        x, w = values(3, 1, width), values(6, 1, seed=1)
        both("spmm", *graph.parts(), x, w, False)
        both("spmm_extreme", *graph.parts(), x, w, False, True)
        both("sddmm", *graph.parts(), x, x)
    for shape in ((3, 1, 0), (3, 0, 4)):
        assert kernels()["spmm"][0](*graph.parts(), torch.ones(shape), None, False).shape == shape


def test_inputs_that_are_not_contiguous() -> None:
    """Rows apart, columns apart, an offset, one row expanded to all."""
    graph, room = GRAPHS["lengths"], values(20, 4, 6)
    for x in (room[3:10, :2], room[:7].mT, room[0].expand(7, 4, 6), room[:14:2, 1:, ::2]):
        w = values(graph.num_edges, 2, x.size(1)).select(1, 1)
        dy = values(x.size(1), x.size(2), 7).permute(2, 0, 1)
        both("spmm", *graph.parts(), x, w, False)
        both("sddmm", *graph.parts(), dy, x)
        both("spmm_extreme", *graph.parts(), x, w[:, :1], True, True)
        out, won, tied = spmm_extreme_reference(*graph.parts(), x, w, False, True)
        both("spmm_extreme_backward", *graph.parts(), dy, x, w, out, None, None, 7)
        both("spmm_extreme_backward", *graph.parts(), dy, None, w, None, won, tied, 7)
    rows, v = graph.by_dst, values(5, graph.num_edges).t()
    for op in ("segment_reduce", "segment_extreme"):
        both(op, rows.indptr, rows.eid, v, True)
    both("segment_softmax", rows.indptr, rows.eid, v)
    both("segment_softmax_backward", rows.indptr, rows.eid, v, v[:1].expand_as(v))
    both("gather", rows.indptr, rows.eid, room[:7, 0, ::2], rows.num_edges)
    both("segment_reduce", torch.tensor([0, 9, 2, 9, 5])[::2], None, v[:5], False)


def test_offsets_that_32_bits_cannot_hold() -> None:
    """In memory that is never touched but for some pages."""
    far = torch.empty(2**31 + 1000, dtype=torch.bfloat16)
    x = far.as_strided((3, 1, 8), (2**30, 8, 1))
    x[:] = values(3, 1, 8, dtype=torch.bfloat16)
    graph = Graph.from_edge_index(torch.tensor([[2, 1, 2], [0, 0, 1]]), num_src=3, num_dst=2)
    assert graph.by_src is not None
    w = values(3, 1, dtype=torch.bfloat16)
    both("spmm", *graph.parts(), x, w, False)
    both("spmm_extreme", *graph.parts(), x, w, False, True)
    both("sddmm", *graph.parts(), x[1:], x)
    both("gather", graph.by_src.indptr, graph.by_src.eid, x[:, 0], 3)
    both("segment_softmax", torch.tensor([0, 1, 3]), None, x[:, 0])


def test_batches_that_32_bits_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins beyond them."""
    monkeypatch.setattr(ranges, "HUB", 2**40)
    src = torch.empty(2, 2**31 + 8, dtype=torch.int8)
    src[:, :3] = torch.tensor([[1, 7, -2], [5, -3, 9]])
    ptr = torch.tensor([0, 1, 3]).expand(2, 3)
    assert kernels()["csr_reduce"][0](src, ptr, "sum").tolist() == [[1, 5], [5, 6]]
    best, at = kernels()["csr_best"][0](src, ptr, False)
    assert best.tolist() == [[1, 7], [5, 9]] and at.tolist() == [[0, 1], [0, 2]]


def test_the_same_bits_wherever_a_row_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is cut by its length alone, and no launch has a say in the order of its sum."""
    monkeypatch.setattr(ranges, "HUB", 6)
    monkeypatch.setattr(ranges, "CHUNK", 5)
    long, x = torch.randperm(50)[:23], values(50, 1, 3)
    found, scattered = [], []
    for before, cap in ((0, 2**20), (1, 1), (4, 2), (13, 3)):
        monkeypatch.setattr(ranges, "CAP", cap)
        idx = torch.cat([torch.arange(before), long])
        ptr = torch.tensor([0, before, before + 23])
        sums = kernels()["spmm"][0](ptr, idx, None, None, None, None, x, None, False)
        found.append(sums[1])
        index = torch.arange(before + 23).ge(before).long().flip(0)
        sums = kernels()["scatter_reduce"][0](x[idx].flip(0), index, 0, 2, "sum")
        scattered.append(sums[1])
        both("spmm", ptr, idx, None, None, None, None, x, None, False)
    for rows in (found, scattered):
        assert all(torch.equal(one, rows[0]) for one in rows)


def test_parts_of_rows_never_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the least lengths that are cut, beginning at every distance from a chunk."""
    monkeypatch.setattr(ranges, "CHUNK", 4)
    for hub in (4, 7):
        monkeypatch.setattr(ranges, "HUB", hub)
        for first in range(5):
            lengths = torch.tensor([first, hub, hub, 0, 0, hub + 1, 3, 2 * hub, 1, 17, 0])
            ptr = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
            part = ranges.rows_of(ptr, int(ptr[-1])).part
            assert part is not None
            got = part[part >= 0].bincount(minlength=len(lengths))
            assert torch.equal(got, torch.where(lengths >= hub, lengths // 4, 0))


def test_sums_of_float16_beyond_its_range() -> None:
    """Half of it is 100,000, more than float16 holds."""
    v = torch.full((2000, 1), 100.0, dtype=torch.float16)
    v[1000:], v[0] = -100, 4
    assert kernels()["segment_reduce"][0](torch.tensor([0, 2000]), None, v, False).item() == -96


# -- shapes that were tuned ------------------------------------------------------------------------


@pytest.fixture
def usual() -> Iterator[None]:
    yield
    use_shapes(None)


@pytest.mark.usefixtures("usual")
def test_tuned_shapes_are_taken_once_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, taken = GRAPHS["random"], []
    x = values(30, 1, 3)
    given = attention_inputs(graph, False, True, 0.0, torch.float32)
    keys = [
        ranges.shape_key(*of, 4, graph.num_dst, graph.num_edges)
        for of in (("sum", 3), ("attention", 5), ("stream", 3))
    ]
    shapes = [2, 8, 2, 1], [4, 2, 2, 2], [1, 2, 4, 8]
    path = tmp_path / "shapes.json"
    path.write_text(json.dumps({"this GPU": dict(zip(keys, shapes, strict=True))}))
    for module in (load("spmm"), load("attention")):
        run = module.launch

        def noting(*arguments: Any, run: Any = run, **constants: Any) -> None:
            taken.append([constants[name] for name in ranges.Shape._fields])
            run(*arguments, **constants)

        monkeypatch.setattr(module, "launch", noting)
    assert use_shapes(path, "another GPU") == 0
    both("spmm", *graph.parts(), x, None, False)
    assert use_shapes(path, "this GPU") == 3
    both("spmm", *graph.parts(), x, None, False)
    both("segment_reduce", graph.by_dst.indptr, None, values(graph.num_edges, 3), False)
    both("attention", *given)
    # all channels stay in one program: two columns would not hold the five; references may follow
    assert taken[:4] == [[32, 4, 4, 4], shapes[0], shapes[2], [4, 2, 8, 2]]


@pytest.mark.usefixtures("usual")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no table of shapes: Expecting property"),
        ("[]", "is no table of shapes: .*gpu_suite.py --out DIR"),
        ('{"this": {"k": [3, 4, 4, 4]}}', r"\[3, 4, 4, 4\] are not powers of two"),
        ('{"this": {"k": [4, 4, 4, 4, 4]}}', "takes from"),
        ('{"this": {"k": [4, 4, 4, true]}}', "are not powers of two"),
    ],
)
def test_a_table_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "shapes.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        use_shapes(path, "this")
    with pytest.raises(ConfigError, match="no-such.json is no table"):
        use_shapes(tmp_path / "no-such.json", "this")
