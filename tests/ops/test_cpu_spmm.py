"""The native product: every width, every instruction set, any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from graphkit import ConfigError, Graph, GraphError, ops
from graphkit.ops.spmm import spmm_op, spmm_reference
from graphkit.testing import dense_adjacency, graphs, zoo

ZOO = dict(zoo())
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7}
# around every number of lanes and of lines of every instruction set
WIDTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 100, 129, 257)
EACH_WAY = Callable[[Callable[[], Any]], dict[tuple[str, int], Any]]


def values(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def random_graph(num_dst: int, num_src: int, num_edges: int, seed: int = 0) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    ends = [torch.randint(n, (num_edges,), generator=generator) for n in (num_src, num_dst)]
    return Graph.from_edge_index(torch.stack(ends), num_src=num_src, num_dst=num_dst)


def scales(graph: Graph, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    named = {"left": graph.num_dst, "right": graph.num_src, "diagonal": graph.num_dst}
    if graph.num_dst != graph.num_src:
        del named["diagonal"]
    return {name: values(size, dtype=dtype, seed=i) for i, (name, size) in enumerate(named.items())}


def close(got: Tensor, want: Tensor) -> None:
    scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
    tolerance = TOLERANCE[got.dtype] * scale
    torch.testing.assert_close(got.double(), want.double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_width(instruction_set: str, dtype: torch.dtype) -> None:
    graph = random_graph(23, 31, 160)
    dense = dense_adjacency(graph)
    w = values(graph.num_edges, dtype=dtype, seed=1)
    weighted = dense_adjacency(graph, w.double())
    for width in WIDTHS:
        x = values(31, width, dtype=dtype)
        close(ops.spmm(graph, x), dense @ x.double())
        close(ops.spmm(graph, x, w), weighted @ x.double())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ZOO)
def test_scales_on_the_zoo(backend: str, name: str, dtype: torch.dtype) -> None:
    graph = ZOO[name]
    x, w = values(graph.num_src, 5, dtype=dtype), values(graph.num_edges, dtype=dtype, seed=1)
    chosen = scales(graph, dtype)
    dense = dense_adjacency(graph, w)
    if "diagonal" in chosen:
        dense = dense + torch.diag(chosen["diagonal"].double())
    dense = chosen["left"].double().unsqueeze(1) * dense * chosen["right"].double()
    close(ops.spmm(graph, x, w, **chosen), dense @ x.double())


@given(graphs(), st.booleans(), st.integers(1, 3), st.sampled_from([1, 3, 8, 20]))
def test_the_kernel_is_its_reference(graph: Graph, by_head: bool, heads: int, width: int) -> None:
    x = values(graph.num_src, heads, width)
    w = values(graph.num_edges, heads if by_head else 1, seed=1)
    chosen = scales(graph)
    given_ = (chosen["left"], chosen["right"], chosen.get("diagonal"))
    got = torch.ops.graphkit.spmm(*graph.parts(), x, w, False, *given_)
    close(got, spmm_reference(*graph.parts(), x, w, False, *given_))
    mean = torch.ops.graphkit.spmm(*graph.parts(), x, w, True)
    close(mean, spmm_reference(*graph.parts(), x, w, True))


@pytest.mark.parametrize("width", [3, 40, 200])
def test_the_same_bits_everywhere(each_way: EACH_WAY, width: int) -> None:
    graph = random_graph(700, 500, 9000)
    x, w = values(500, width), values(9000, seed=1)
    left = values(700, seed=2)
    found = each_way(lambda: ops.spmm(graph, x, w, left=left))
    want = found["baseline", 1]
    assert all(torch.equal(got, want) for got in found.values())


def test_a_hub_is_cut_the_same_way_for_any_number_of_threads(each_way: EACH_WAY) -> None:
    # three pieces and a rest in one row, exactly a piece in another, beside ordinary rows
    degree = torch.tensor([5, 3 * 16384 + 77, 0, 16384, 16383, 1])
    dst = torch.repeat_interleave(torch.arange(6), degree)
    src = torch.randint(1000, (int(degree.sum()),), generator=torch.Generator().manual_seed(0))
    graph = Graph.from_edge_index(torch.stack([src, dst]), num_src=1000, num_dst=6)
    x, w = values(1000, 19), values(graph.num_edges, seed=1)
    found = each_way(lambda: ops.spmm(graph, x, w, reduce="mean"))
    want = found["baseline", 1]
    assert all(torch.equal(got, want) for got in found.values())
    dense = dense_adjacency(graph, w) / degree.clamp(min=1).unsqueeze(1)
    close(want, dense @ x.double())
    square = Graph.from_edge_index(torch.stack([src, dst]), 1000)
    chosen = scales(square)
    dense = dense_adjacency(square) + torch.diag(chosen["diagonal"].double())
    dense = chosen["left"].double().unsqueeze(1) * dense * chosen["right"].double()
    close(ops.spmm(square, x, **chosen), dense @ x.double())


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_large_results_are_streamed_past_the_caches(each_way: EACH_WAY, dtype: torch.dtype) -> None:
    # beyond 4 MiB; 160 is a whole number of lines, 161 none
    graph = random_graph(9000, 50, 20000)
    dense = dense_adjacency(graph)
    for width in (160, 161):
        x = values(50, width, dtype=dtype)
        found = each_way(lambda x=x: ops.spmm(graph, x))
        want = found["baseline", 1]
        assert all(torch.equal(got, want) for got in found.values())
        close(want, dense @ x.double())


def test_rows_may_stand_apart(instruction_set: str) -> None:
    graph = random_graph(40, 30, 200)
    wide = values(30, 50)
    dense = dense_adjacency(graph)
    for x in (wide[:, 7:31], wide[:, ::2], wide[:1].expand(30, 50), values(50, 30).t()):
        close(ops.spmm(graph, x), dense @ x.double())


def test_columns_beyond_int32(instruction_set: str) -> None:
    graph = random_graph(40, 30, 200)
    x, w = values(30, 20), values(200, seed=1)
    ptr, idx, eid, *_ = graph.parts()
    assert eid is not None
    got = torch.ops.graphkit.spmm(
        ptr, idx.long(), eid.long(), None, None, None, x.unsqueeze(1), w.unsqueeze(1), False
    )
    assert torch.equal(got.squeeze(1), ops.spmm(graph, x, w))


def test_bfloat16_rounds_as_torch_does(instruction_set: str) -> None:
    """One edge for each node: what is read is what is written, every one of the 65,536 values."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    x = bits.view(torch.bfloat16).unsqueeze(1)
    each = torch.arange(2**16)
    graph = Graph.from_edge_index(torch.stack([each, each]), 2**16)
    got, scale = ops.spmm(graph, x), values(2**16, seed=3)
    assert torch.equal(got.isnan(), x.isnan())
    # a sum that starts from 0 turns -0 into 0
    assert torch.equal(got[~x.isnan()], x[~x.isnan()] + 0)
    got, want = ops.spmm(graph, x, left=scale), x.float() * scale.unsqueeze(1)
    assert torch.equal(got.nan_to_num(), want.bfloat16().nan_to_num())


@pytest.mark.parametrize("name", ["multi-edges", "edgeless", "self-loops"])
def test_gradients_of_a_scaled_sum(backend: str, name: str) -> None:
    graph = ZOO[name]
    x = values(graph.num_src, 2, dtype=torch.float64).requires_grad_()
    w = values(graph.num_edges, dtype=torch.float64, seed=1).requires_grad_()
    chosen = scales(graph, torch.float64)

    def product(x: Tensor, w: Tensor) -> Tensor:
        return ops.spmm(graph, x, w, **chosen)

    assert gradcheck(product, (x, w)) and gradgradcheck(product, (x, w))
    learnt = {scale: value.requires_grad_() for scale, value in chosen.items()}

    def of_scales(*given: Tensor) -> Tensor:
        return ops.spmm(graph, x, w, **dict(zip(learnt, given, strict=True)))

    assert gradcheck(of_scales, tuple(learnt.values()))


def test_opcheck(backend: str) -> None:
    graph = random_graph(6, 6, 20)
    x = values(6, 2, 3).requires_grad_()
    w = values(20, 2, seed=1).requires_grad_()
    chosen = tuple(scales(graph).values())
    torch.library.opcheck(spmm_op, (*graph.parts(), x, w, False, *chosen))
    torch.library.opcheck(spmm_op, (*graph.parts(), x, None, True))


def test_scales_that_do_not_fit() -> None:
    graph, x = random_graph(4, 4, 9), values(4, 2)
    with pytest.raises(GraphError, match=r"left has shape \[5\], but \[4\] is expected"):
        ops.spmm(graph, x, left=values(5))
    with pytest.raises(GraphError, match=r"right has shape \[4, 1\]"):
        ops.spmm(graph, x, right=values(4, 1))
    with pytest.raises(GraphError, match="diagonal needs one set of nodes"):
        ops.spmm(random_graph(4, 5, 9), values(5, 2), diagonal=values(4))
    with pytest.raises(ConfigError, match="need reduce='sum', but reduce is 'mean'"):
        ops.spmm(graph, x, reduce="mean", left=values(4))
