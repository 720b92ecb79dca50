"""The native sort of edges and search for loops: exactly what their references give."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from graphkit import Graph, GraphError
from graphkit.graph import coo_to_csr_reference, row_ids, row_ids_reference
from graphkit.ops import loops
from graphkit.ops.cpu import native
from graphkit.structure import gcn_scales, has_self_loop, self_loop_mask
from graphkit.testing import graphs, zoo

pytestmark = pytest.mark.skipif(
    native.kernels is None, reason="the native kernels are not built, or switched off"
)
SETS = native.kernels.instruction_sets() if native.kernels is not None else []
ZOO = dict(zoo())
SORT = torch.ops.graphkit.coo_to_csr


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.kernels.instruction_set()
    assert native.kernels.choose(request.param)
    yield request.param
    native.kernels.choose(before)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def random_edges(num_src: int, num_dst: int, num_edges: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_edges)
    ends = [torch.randint(n, (num_edges,), generator=generator) for n in (num_src, num_dst)]
    return torch.stack(ends)


def check(edge_index: Tensor, num_src: int, num_dst: int, transpose: bool = True) -> None:
    got = SORT(edge_index, num_src, num_dst, transpose)
    want = coo_to_csr_reference(edge_index, num_src, num_dst, transpose)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


def with_hub(edge_index: Tensor) -> Tensor:
    """Three edges of four at destination 7."""
    at_hub = torch.arange(edge_index.size(1)) % 4 > 0
    return torch.stack([edge_index[0], edge_index[1].masked_fill(at_hub, 7)])


@functools.cache
def large() -> dict[str, tuple[Tensor, int, int]]:
    """What takes each way through the sort: one pass, ranges of rows, a range with a hub."""
    plain = random_edges(9000, 5000, 80_000)
    by_dst = plain[:, plain[1].sort(stable=True).indices]
    return {
        "ranges": (plain, 9000, 5000),
        "int32": (plain.int(), 9000, 5000),
        "hub": (with_hub(plain), 9000, 5000),
        "sorted by destination": (by_dst, 9000, 5000),
        "sorted by source": (by_dst.flip(0), 5000, 9000),
        "few rows": (random_edges(3, 700, 80_000), 3, 700),
        "many rows": (random_edges(400_000, 300_000, 40_000), 400_000, 300_000),
        "one edge": (random_edges(5, 5, 1), 5, 5),
        "rows without edges at both ends": (plain + 100, 9200, 5200),
    }


@functools.cache
def sorted_by_torch(name: str) -> tuple[Tensor, ...]:
    return coo_to_csr_reference(*large()[name], True)


@pytest.mark.parametrize("name", large())
def test_many_edges(name: str, instruction_set: str, threads: int) -> None:
    for a, b in zip(SORT(*large()[name], True), sorted_by_torch(name), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name: str, instruction_set: str) -> None:
    graph = ZOO[name]
    for transpose in (True, False):
        check(graph.edge_index(), graph.num_src, graph.num_dst, transpose)
        check(graph.edge_index().int(), graph.num_src, graph.num_dst, transpose)


@given(graphs())
def test_any_graph(graph: Graph) -> None:
    check(graph.edge_index(), graph.num_src, graph.num_dst)


def test_strided_edges(instruction_set: str) -> None:
    edges = random_edges(50, 50, 300)
    check(edges.t().contiguous().t(), 50, 50)
    check(edges[:, ::3], 50, 50)
    check(torch.cat([edges, edges])[1:3], 50, 50)
    check(edges[:1].expand(2, -1), 50, 50)


def sorted_side(rows: Tensor, columns: Tensor, num_rows: int, wide: bool) -> list[Tensor]:
    """The kernel itself, with columns and edge numbers of the width that is asked for."""
    dtype = torch.int64 if wide else torch.int32
    out = [torch.full((num_rows + 1,), -1)]
    out += [torch.full(rows.shape, -1, dtype=dtype) for _ in range(2)]
    args = native.kernels.CsrArgs(
        rows.data_ptr(), columns.data_ptr(), True, wide, wide, False, rows.numel(), num_rows, 2
    )
    scratch = torch.empty(native.kernels.csr_scratch(args), dtype=torch.uint8)
    assert scratch.numel() <= 3 * rows.numel() * 16
    native.kernels.csr(args, *(t.data_ptr() for t in (*out, scratch)))
    return out


@pytest.mark.parametrize("num_edges", [300, 80_000])
def test_wide_columns_and_edge_numbers(num_edges: int, instruction_set: str) -> None:
    src, dst = random_edges(9000, 5000, num_edges)
    far = src + 2**33
    ptr, idx, eid = sorted_side(dst, far, 5000, wide=True)
    order = torch.sort(dst, stable=True).indices
    assert torch.equal(eid, order) and torch.equal(idx, far[order])
    narrow = sorted_side(dst, src, 5000, wide=False)
    assert torch.equal(ptr, narrow[0]) and torch.equal(eid, narrow[2].long())


@pytest.mark.parametrize("num_edges", [5, 80_000])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("bad", [-1, 100, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("row", [0, 1])
def test_ends_out_of_range(row: int, bad: int, dtype: torch.dtype, num_edges: int) -> None:
    edges = random_edges(100, 100, num_edges).to(dtype)
    edges[row, [3, 4]] = bad
    side = "sources" if row == 0 else "destinations"
    message = rf"edge_index\[{row}, 3\] = {bad}, but the graph has 100 {side}"
    with pytest.raises(GraphError, match=message):
        SORT(edges, 100, 100, True)


def test_edges_in_order_need_no_numbers() -> None:
    edges, *sizes = large()["sorted by destination"]
    graph = Graph.from_edge_index(edges, num_src=sizes[0], num_dst=sizes[1])
    assert graph.by_dst.eid is None
    assert graph.by_src is not None and graph.by_src.eid is not None
    # the last edge alone breaks the order
    edges = edges.clone()
    edges[1, -1] = 0
    graph = Graph.from_edge_index(edges, num_src=sizes[0], num_dst=sizes[1])
    assert graph.by_dst.eid is not None


def test_opcheck() -> None:
    edges, *sizes = large()["ranges"]
    torch.library.opcheck(SORT.default, (edges, *sizes, True))
    torch.library.opcheck(SORT.default, (edges, *sizes, False))
    rows = ZOO["self-loops"].by_dst
    mask, count = torch.ops.graphkit.self_loop_mask, torch.ops.graphkit.count_self_loops
    torch.library.opcheck(count.default, (rows.indptr, rows.indices))
    for eid in (None, rows.eid, torch.arange(rows.num_edges).flip(0)):
        torch.library.opcheck(mask.default, (rows.indptr, rows.indices, eid))


def test_the_other_side_of_a_csr_and_strided_arrays() -> None:
    edges, *sizes = large()["ranges"]
    graph = Graph.from_edge_index(edges, num_src=sizes[0], num_dst=sizes[1])

    def apart(t: Tensor) -> Tensor:
        return torch.stack([t, t], 1)[:, 0]

    rows = graph.by_dst
    assert rows.eid is not None
    again = Graph.from_csr(apart(rows.indptr), apart(rows.indices), apart(rows.eid), num_src=9000)
    for a, b in zip(graph.parts(), again.parts(), strict=True):
        assert a is not None and b is not None and b.is_contiguous() and torch.equal(a, b)


# -- the rows of slots -----------------------------------------------------------------------------


def check_rows(ptr: Tensor, num_edges: int) -> None:
    want = torch.repeat_interleave(torch.arange(ptr.numel() - 1), ptr.diff())
    assert torch.equal(row_ids(ptr, num_edges), want)
    assert torch.equal(row_ids_reference(ptr, num_edges), want)


@pytest.mark.parametrize("name", ZOO)
def test_rows_of_the_zoo(name: str, instruction_set: str) -> None:
    for side in (ZOO[name].by_dst, ZOO[name].by_src):
        check_rows(side.indptr, side.num_edges)
        check_rows(torch.stack([side.indptr, side.indptr], 1)[:, 0], side.num_edges)


def test_rows_over_several_blocks(instruction_set: str, threads: int) -> None:
    """With a hub that fills some of them, and empty rows at both ends of them."""
    size = torch.randint(0, 9, (90_000,))
    size[[0, 1, 500, -1]] = torch.tensor([0, 400_000, 0, 0])
    check_rows(torch.cat([torch.zeros(1, dtype=torch.int64), size.cumsum(0)]), int(size.sum()))


def test_rows_of_offsets_that_do_not_fit() -> None:
    """They are refused."""
    for ptr in ([0, 2, 4], [1, 2, 3]):
        with pytest.raises(RuntimeError):
            row_ids(torch.tensor(ptr), 3)
    torch.library.opcheck(torch.ops.graphkit.row_ids.default, (torch.tensor([0, 2, 2, 3]), 3))


# -- self-loops ------------------------------------------------------------------------------------


def check_loops(graph: Graph) -> None:
    src, dst = graph.edge_index()
    count = torch.zeros(graph.num_dst, dtype=torch.int64).index_add_(0, dst, (src == dst).long())
    assert torch.equal(loops.count_self_loops(graph.by_dst), count)
    rows = graph.by_dst
    assert torch.equal(loops.count_self_loops_reference(rows.indptr, rows.indices), count)
    assert torch.equal(has_self_loop(graph), count > 0)
    assert torch.equal(self_loop_mask(graph), src == dst)
    got = loops.self_loop_mask_reference(rows.indptr, rows.indices, rows.eid)
    assert torch.equal(got, src == dst)


@pytest.mark.parametrize("name", ZOO)
def test_loops_of_the_zoo(name: str, instruction_set: str) -> None:
    check_loops(ZOO[name])


@given(graphs(), st.booleans())
def test_loops_of_any_graph(graph: Graph, turned: bool) -> None:
    check_loops(graph.t() if turned else graph)


def test_loops_of_a_hub_and_of_wide_columns(instruction_set: str, threads: int) -> None:
    edges = with_hub(random_edges(40, 40, 100_000))
    graph = Graph.from_edge_index(edges, 40)
    check_loops(graph)
    rows = graph.by_dst
    wide = torch.ops.graphkit.count_self_loops(rows.indptr, rows.indices.long())
    assert torch.equal(wide, loops.count_self_loops(rows))


def test_scales_of_gcn_by_their_formula() -> None:
    graph = ZOO["self-loops"]
    scale, diagonal = gcn_scales(graph, improved=True)
    assert diagonal is not None and diagonal.tolist() == [0, 0, 2]
    torch.testing.assert_close(scale, torch.tensor([2.0, 2.0, 2.0]).pow(-0.5))
