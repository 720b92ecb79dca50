"""The native maximum and minimum of messages: both ways back, equals, nan, bits, hubs, layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from graphkit import Csr, Graph, ops
from graphkit.ops.cpu import native
from graphkit.ops.extreme import (
    spmm_extreme_backward_reference,
    spmm_extreme_reference,
    spmm_extreme_weights_reference,
)
from graphkit.testing import graphs, zoo

if native.kernels is None:
    pytest.skip("the native kernels were not built or are off", allow_module_level=True)

ZOO = dict(zoo())
SETS = tuple(native.kernels.instruction_sets())
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
# sums of the reference stand in another order
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-6}
WIDTHS = (0, 1, 3, 7, 8, 16, 17, 33, 64, 100, 129, 257, 300)


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    chosen, threads = native.kernels.instruction_set(), torch.get_num_threads()
    yield
    native.kernels.choose(chosen)
    torch.set_num_threads(threads)


def values(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Few different numbers, zero among them: most rows have equals."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=generator).to(dtype) / 2


def any_values(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def close(got: Tensor, want: Tensor) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape
    finite = want.double().nan_to_num()
    scale = max(1.0, float(finite.abs().max())) if want.numel() else 1.0
    bound = TOLERANCE[got.dtype] * scale
    torch.testing.assert_close(got, want, atol=bound, rtol=0, equal_nan=True)


def wide_indices(graph: Graph) -> Graph:
    """The same graph with int64 columns and edge numbers."""

    def widen(side: Csr) -> Csr:
        eid = torch.arange(side.num_edges) if side.eid is None else side.eid.long()
        return Csr(side.indptr, side.indices.long(), eid)

    assert graph.by_src is not None
    return Graph(widen(graph.by_dst), widen(graph.by_src), graph.num_dst, graph.num_src)


def hubs() -> Graph:
    """A destination and a source whose edges fill more than two pieces."""
    generator = torch.Generator().manual_seed(3)
    edges = torch.randint(0, 60, (2, 70_000), generator=generator)
    edges[1, ::2] = 7
    edges[0, 1::2] = 9
    return Graph.from_edge_index(edges, 60)


def every(graph: Graph, x: Tensor, w: Tensor | None, minimum: bool, by: str) -> list[Tensor]:
    """All that the ops give, native or by the references, with the winners and without."""
    run = torch.ops.graphkit
    forward: Callable[..., tuple[Tensor, Tensor, Tensor]] = run.spmm_extreme
    backward: Callable[..., Tensor] = run.spmm_extreme_backward
    weights: Callable[..., Tensor] = run.spmm_extreme_weights
    if by == "reference":
        forward, backward = spmm_extreme_reference, spmm_extreme_backward_reference
        weights = spmm_extreme_weights_reference
    parts = graph.parts()
    out, won, tied = forward(*parts, x, w, minimum, True)
    dy = any_values(*out.shape, seed=5).to(x.dtype)
    count = graph.num_src
    found = [
        *(out, won, tied, forward(*parts, x, w, minimum, False)[0]),
        backward(*parts, dy, None, w, None, won, tied, count),
        backward(*parts, dy, x, w, out, None, None, count),
    ]
    return found if w is None else [*found, weights(*parts[:3], dy, x, w, out)]


def agree(graph: Graph, x: Tensor, w: Tensor | None, minimum: bool) -> None:
    native_ones, references = (every(graph, x, w, minimum, by) for by in ("native", "reference"))
    for got, want in zip(native_ones, references, strict=True):
        if got.dtype in (torch.uint8, torch.bool):
            assert torch.equal(got, want)
        else:
            close(got, want)


def weights_of(graph: Graph, heads: int, dtype: torch.dtype) -> Tensor | None:
    return values(graph.num_edges, heads, dtype=dtype, seed=2) if heads else None


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [0, 1, 2])
def test_on_the_zoo(heads: int, dtype: torch.dtype, name: str) -> None:
    native.kernels.choose(name)
    for turn, graph in enumerate(ZOO.values()):
        x = values(graph.num_src, 2, 5, dtype=dtype)
        agree(graph, x, weights_of(graph, heads, dtype), (turn + heads) % 2 == 1)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_any_width(width: int, dtype: torch.dtype, name: str) -> None:
    native.kernels.choose(name)
    graph = ZOO["random"]
    agree(graph, values(30, 1, width, dtype=dtype), weights_of(graph, 1, dtype), False)
    agree(graph, any_values(30, 2, width, dtype=dtype), None, True)


@settings(max_examples=40)
@given(graphs(), st.integers(1, 40), st.sampled_from(SETS), st.sampled_from((0, 1, 2)))
def test_on_any_graph(graph: Graph, width: int, name: str, heads: int) -> None:
    native.kernels.choose(name)
    x = values(graph.num_src, 2, width)
    given_graph = wide_indices(graph) if width % 3 == 0 else graph
    agree(given_graph, x, weights_of(graph, heads, x.dtype), width % 2 == 0)


@pytest.mark.parametrize("name", SETS)
def test_products_of_bfloat16_are_rounded_before_they_are_compared(name: str) -> None:
    native.kernels.choose(name)
    graph = ZOO["random"]
    x = any_values(30, 1, 40, dtype=torch.bfloat16).round(decimals=1)
    w = any_values(200, 1, dtype=torch.bfloat16, seed=1).round(decimals=1)
    agree(graph, x, w, False)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("minimum", [False, True])
def test_nan_wins_and_infinities_stay(minimum: bool, name: str) -> None:
    native.kernels.choose(name)
    graph = ZOO["random"]
    x = values(30, 1, 37)
    x[::5, 0, ::3] = torch.nan
    x[1::5, 0, ::2] = torch.inf
    x[2::5, 0, ::2] = -torch.inf
    agree(graph, x, None, minimum)
    agree(graph, x.abs(), values(200, 1, seed=1).abs() + 1, minimum)


def test_winners_are_one_bit_for_each_channel() -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1, 1], [0, 0, 0]]), 2)
    x = torch.zeros(2, 1, 10)
    x[0, 0, :3] = 1
    x[1, 0, 3:9] = 1
    _, won, tied = torch.ops.graphkit.spmm_extreme(*graph.parts(), x, None, False, True)
    assert won.squeeze(1).tolist() == [[0b00000111, 0b10], [0b11111000, 0b11], [0b11111000, 0b11]]
    assert tied.tolist() == [True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_bits_everywhere(weighted: bool, dtype: torch.dtype) -> None:
    graph = hubs()
    x = any_values(60, 1, 21, dtype=dtype)
    w = any_values(70_000, 1, dtype=dtype, seed=1) if weighted else None
    first: list[Tensor] = []
    for name in SETS:
        for threads in (1, 2, 3) if name == SETS[-1] else (2,):
            native.kernels.choose(name)
            torch.set_num_threads(threads)
            found = every(graph, x, w, False, "native")
            first = first or found
            assert all(torch.equal(a, b) for a, b in zip(first, found, strict=True))


def test_hubs_against_the_reference() -> None:
    graph = hubs()
    agree(graph, values(60, 1, 9), weights_of(graph, 1, torch.float64), True)


@pytest.mark.parametrize("keep", [False, True])
def test_strided_values(keep: bool) -> None:
    graph = ZOO["random"]
    x = values(30, 40)[:, 3:27].unsqueeze(1).requires_grad_()
    gradients: list[Tensor] = []
    for each in (x, x.detach().clone().requires_grad_()):
        out = torch.ops.graphkit.spmm_extreme(*graph.parts(), each, None, False, keep)[0]
        # the gradient of a sum is one number everywhere, without strides
        gradients += torch.autograd.grad(out.sum(), each)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("keep", [False, True])
def test_gradients(keep: bool, name: str) -> None:
    native.kernels.choose(name)
    for graph in (ZOO["multi-edges"], ZOO["edgeless"]):
        x = any_values(graph.num_src, 2, 3).requires_grad_()
        w = any_values(graph.num_edges, 2, seed=1).requires_grad_()

        def run(x: Tensor, w: Tensor, graph: Graph = graph) -> Tensor:
            return torch.ops.graphkit.spmm_extreme(*graph.parts(), x, w, False, keep)[0]

        assert gradcheck(run, (x, w))
        # by steps in torch, whatever the instruction set
        assert name != SETS[-1] or gradgradcheck(run, (x, w))


def test_the_public_function_keeps_winners_only_for_a_gradient() -> None:
    graph, x = ZOO["random"], any_values(30, 4)
    lean = Graph(graph.by_dst, None, graph.num_dst, graph.num_src)
    crowd = Graph.from_edge_index(torch.zeros(2, 100, dtype=torch.int64), 1)
    seen: list[bool] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is torch.ops.graphkit.spmm_extreme.default:
                seen.append(args[9])
            return func(*args, **(kwargs or {}))

    with Watch():
        ops.spmm(graph, x, reduce="max")
        ops.spmm(graph, x.requires_grad_(), reduce="max")
        ops.spmm(lean, x, reduce="max")
        ops.spmm(crowd, any_values(1, 4).requires_grad_(), reduce="max")
        with torch.no_grad():
            ops.spmm(graph, x, reduce="max")
    assert seen == [False, True, False, False, False]


def test_the_two_ways_back_agree_on_the_public_function() -> None:
    graph = ZOO["random"]
    lean = Graph(graph.by_dst, None, graph.num_dst, graph.num_src)
    found = []
    for each in (graph, lean):
        x = any_values(30, 4).requires_grad_()
        found.append(torch.autograd.grad(ops.spmm(each, x, reduce="min").square().sum(), x)[0])
    close(*found)


@pytest.mark.parametrize("op", ["spmm_extreme", "spmm_extreme_backward", "spmm_extreme_weights"])
@pytest.mark.parametrize("keep", [False, True])
def test_opcheck(keep: bool, op: str) -> None:
    graph = ZOO["multi-edges"]
    parts = graph.parts()
    x, w = any_values(3, 2, 2), any_values(6, 2, seed=1)
    out, won, tied = torch.ops.graphkit.spmm_extreme(*parts, x, w, False, True)
    dy = any_values(*out.shape, seed=2).requires_grad_()
    way = (None, w, None, won, tied) if keep else (x, w, out, None, None)
    arguments = {
        "spmm_extreme": (*parts, x.clone().requires_grad_(), w, False, keep),
        "spmm_extreme_backward": (*parts, dy, *way, 3),
        "spmm_extreme_weights": (*parts[:3], dy, x, w, out),
    }
    torch.library.opcheck(getattr(torch.ops.graphkit, op).default, arguments[op])


def test_float16_goes_to_the_reference() -> None:
    graph = ZOO["multi-edges"]
    x, w = values(3, 1, 4, dtype=torch.float16), values(6, 1, dtype=torch.float16, seed=1)
    ones, others = (every(graph, x, w, False, by) for by in ("native", "reference"))
    assert all(torch.equal(a, b) for a, b in zip(ones, others, strict=True))
