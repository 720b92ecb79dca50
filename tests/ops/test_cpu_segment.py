"""The native kernels of gather, reductions and softmax, held to their references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from graphkit import Graph, GraphError
from graphkit.ops import segment
from graphkit.ops.cpu import native
from graphkit.testing import graphs, zoo

pytestmark = pytest.mark.skipif(
    native.kernels is None, reason="the native kernels are not built, or switched off"
)
SETS = native.kernels.instruction_sets() if native.kernels is not None else []
ZOO = dict(zoo())
OPS = torch.ops.graphkit
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7}
WIDTHS = [0, 1, 3, 4, 8, 17, 64, 100, 257]
Offsets = tuple[Tensor, Tensor | None]


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.kernels.instruction_set()
    assert native.kernels.choose(request.param)
    yield request.param
    native.kernels.choose(before)


def values(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


Call = tuple[Any, Any, tuple[Any, ...]]
NAMES = ("gather", "sum", "mean", "max", "min", "share", "softmax", "softmax-backward")


def call(name: str, rows: Offsets, width: int, dtype: torch.dtype) -> Call:
    """An op, its reference, and what both are called with."""
    ptr, eid = rows
    num_rows, num_edges = ptr.numel() - 1, int(ptr[-1])
    x = values(num_rows, width, dtype=dtype, seed=1)
    if name == "gather":
        return OPS.gather, segment.gather_reference, (x, num_edges)
    v = values(num_edges, width, dtype=dtype)
    if name in ("sum", "mean"):
        return OPS.segment_reduce, segment.segment_reduce_reference, (v, name == "mean")
    if name in ("max", "min"):
        return OPS.segment_extreme, segment.segment_extreme_reference, (v, name == "min")
    if name == "share":
        # few different numbers, so that there are equals
        few = (v * 2).round()
        best = segment.segment_extreme_reference(ptr, eid, few, False)
        return OPS.segment_share, segment.segment_share_reference, (few, best, x)
    if name == "softmax":
        return OPS.segment_softmax, segment.segment_softmax_reference, (v * 4,)
    y = segment.segment_softmax_reference(ptr, eid, v)
    dy = values(num_edges, width, dtype=dtype, seed=2)
    backward = segment.segment_softmax_backward_reference
    return OPS.segment_softmax_backward, backward, (y, dy)


EXACT = ("gather", "max", "min")


def check(name: str, rows: Offsets, width: int, dtype: torch.dtype) -> None:
    op, reference, args = call(name, rows, width, dtype)
    got, want = op(*rows, *args), reference(*rows, *args)
    assert got.dtype == want.dtype and got.shape == want.shape
    if name in EXACT:
        assert torch.equal(got, want)
        return
    scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
    tolerance = TOLERANCE[dtype] * scale
    torch.testing.assert_close(got.double(), want.double(), atol=tolerance, rtol=0)


def offsets(graph: Graph) -> list[Offsets]:
    rows = graph.by_dst
    order = torch.randperm(rows.num_edges, generator=torch.Generator().manual_seed(3))
    return [(rows.indptr, None), (rows.indptr, rows.eid), (rows.indptr, order)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("graph", ZOO)
def test_the_zoo(graph: str, name: str, instruction_set: str) -> None:
    for rows in offsets(ZOO[graph]):
        check(name, rows, 5, torch.float32)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES)
def test_any_width(name: str, dtype: torch.dtype, instruction_set: str) -> None:
    for width in WIDTHS:
        check(name, offsets(ZOO["random"])[1], width, dtype)


@given(graphs(), st.sampled_from(NAMES), st.sampled_from(list(TOLERANCE)), st.integers(0, 5))
def test_any_graph(graph: Graph, name: str, dtype: torch.dtype, width: int) -> None:
    for rows in offsets(graph):
        check(name, rows, width, dtype)


def long_rows() -> Offsets:
    """A hub of three pieces, rows around a piece and around the buffer of softmax, short ones."""
    lengths = [0, 33_000, 1, 16_384, 16_383, 0, 2048, 2049, 700, *[3] * 300, 0]
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    order = torch.randperm(int(ptr[-1]), generator=torch.Generator().manual_seed(4))
    return ptr, order.int()


@pytest.mark.parametrize("width", [1, 9])
@pytest.mark.parametrize("name", NAMES)
def test_long_rows(name: str, width: int, instruction_set: str) -> None:
    check(name, long_rows(), width, torch.float64)


@pytest.mark.parametrize(("width", "dtype"), [(1, torch.float32), (9, torch.bfloat16)])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_everywhere(name: str, width: int, dtype: torch.dtype) -> None:
    rows = long_rows()
    op, _, args = call(name, rows, width, dtype)
    threads, chosen = torch.get_num_threads(), native.kernels.instruction_set()
    results = []
    try:
        for instruction_set in SETS:
            native.kernels.choose(instruction_set)
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                results.append(op(*rows, *args))
    finally:
        torch.set_num_threads(threads)
        native.kernels.choose(chosen)
    assert all(torch.equal(result, results[0]) for result in results)


def test_sums_follow_the_slots(instruction_set: str) -> None:
    """Numbers whose sum depends on the order of its terms."""
    ptr, eid = torch.tensor([0, 5]), torch.tensor([4, 2, 0, 1, 3])
    v = torch.tensor([[1e8], [3.0], [-1e8], [1.0], [7.0]])
    want = torch.zeros(1)
    for edge in eid:
        want = want + v[edge]
    assert torch.equal(OPS.segment_reduce(ptr, eid, v, False)[0], want)


@pytest.mark.parametrize("name", NAMES)
def test_strided_values(name: str, instruction_set: str) -> None:
    rows = offsets(ZOO["random"])[1]
    op, _, args = call(name, rows, 6, torch.float32)
    want = op(*rows, *args)

    def transposed(t: Tensor) -> Tensor:
        return t.t().contiguous().t()

    def inside(t: Tensor) -> Tensor:
        return torch.cat([t, t, t], 1)[:, t.size(1) : 2 * t.size(1)]

    for change in (transposed, inside):
        changed = tuple(change(a) if isinstance(a, Tensor) else a for a in args)
        got = op(*rows, *changed)
        assert torch.equal(got, want) and got.is_contiguous()
        torch.library.opcheck(op.default, (*rows, *changed))
    strided_ptr = torch.stack([rows[0], rows[0]], 1)[:, 0]
    assert torch.equal(op(strided_ptr, rows[1], *args), want)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16])
def test_gather_copies_anything(dtype: torch.dtype, instruction_set: str) -> None:
    rows = long_rows()
    x = (values(rows[0].numel() - 1, 3) * 9).to(dtype)
    num_edges = int(rows[0][-1])
    want = segment.gather_reference(*rows, x, num_edges)
    assert torch.equal(OPS.gather(*rows, x, num_edges), want)


@pytest.mark.parametrize("name", NAMES)
def test_float16_goes_to_the_reference(name: str) -> None:
    rows = offsets(ZOO["random"])[1]
    op, reference, args = call(name, rows, 3, torch.float16)
    assert torch.equal(op(*rows, *args), reference(*rows, *args))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_to_the_last_digits(dtype: torch.dtype, instruction_set: str) -> None:
    """Rows of x and 0: exp(x) over 1 + exp(x), down to the smallest numbers."""
    low = -103.0 if dtype == torch.float32 else -744.0
    x = torch.linspace(low, 0, 20_000, dtype=dtype)
    v = torch.stack([x, torch.zeros_like(x)], 1).reshape(-1, 1)
    y = OPS.segment_softmax(torch.arange(0, v.numel() + 1, 2), None, v).reshape(-1, 2)[:, 0]
    want = x.double().exp() / (1 + x.double().exp())
    info = torch.finfo(dtype)
    unit = info.smallest_normal * info.eps
    assert ((y.double() - want).abs() <= 3 * info.eps * want + unit).all()


def test_softmax_of_extremes(instruction_set: str) -> None:
    ptr = torch.tensor([0, 2, 4, 6, 8, 10])
    big, inf, nan = 1e30, torch.inf, torch.nan
    v = torch.tensor([-big, big, -inf, -inf, -inf, 0.0, inf, 0.0, nan, 1.0]).unsqueeze(1)
    y = OPS.segment_softmax(ptr, None, v).flatten()
    assert y[:6].tolist() == [0, 1, 0, 0, 0, 1]
    want = segment.segment_softmax_reference(ptr, None, v).flatten()
    torch.testing.assert_close(y, want, equal_nan=True)


def test_extremes_and_shares_of_nan(instruction_set: str) -> None:
    ptr = torch.tensor([0, 3, 6, 6])
    v = torch.tensor([1.0, torch.nan, 2.0, 5.0, 5.0, -torch.inf]).unsqueeze(1)
    for minimum in (False, True):
        best = OPS.segment_extreme(ptr, None, v, minimum)
        assert best[0].isnan() and best[1] == (-torch.inf if minimum else 5) and best[2] == 0
        x = torch.tensor([[1.0], [3.0], [9.0]])
        share = OPS.segment_share(ptr, None, v, best, x)
        last = [0, 0, 3] if minimum else [1.5, 1.5, 0]
        assert share.flatten().tolist() == [0, 1, 0, *last]


@pytest.mark.parametrize("ptr", [[0, 3, 2, 5], [1, 5], [0, 4], []])
@pytest.mark.parametrize("name", NAMES)
def test_offsets_that_do_not_fit(name: str, ptr: list[int]) -> None:
    op, _, args = call(name, (torch.tensor([0, 2, 2, 5]), None), 2, torch.float32)
    with pytest.raises(GraphError, match="indptr"):
        op(torch.tensor(ptr, dtype=torch.int64), None, *args)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("graph", ["edgeless", "multi-edges", "wide-bipartite"])
def test_gradients(graph: str, name: str) -> None:
    for rows in offsets(ZOO[graph])[1:]:
        op, _, args = call(name, rows, 2, torch.float64)
        constant = args[:2] if name == "share" else ()
        leaves = tuple(a for a in args[len(constant) :] if isinstance(a, Tensor))
        rest = tuple(a for a in args if not isinstance(a, Tensor))
        leaves = tuple(leaf.requires_grad_() for leaf in leaves)

        def run(*leaves: Tensor, op=op, rows=rows, constant=constant, rest=rest) -> Tensor:
            return op(*rows, *constant, *leaves, *rest)

        assert gradcheck(run, leaves)
        assert gradgradcheck(run, leaves)


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str) -> None:
    for rows in offsets(ZOO["multi-edges"])[:2]:
        op, _, args = call(name, rows, 3, torch.float64)
        args = tuple(a.requires_grad_() if isinstance(a, Tensor) else a for a in args)
        if name == "share":
            args = (*(a.detach() for a in args[:2]), *args[2:])
        torch.library.opcheck(op.default, (*rows, *args))
