"""The native product of edge ends: its reference, equal bits everywhere, any width and layout."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from graphkit import Csr, Graph, ops
from graphkit.ops.cpu import native
from graphkit.ops.sddmm import sddmm_reference
from graphkit.testing import graphs, zoo

if native.kernels is None:
    pytest.skip("the native kernels were not built or are off", allow_module_level=True)

ZOO = dict(zoo())
SETS = tuple(native.kernels.instruction_sets())
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7}
WIDTHS = (0, 1, 3, 8, 16, 17, 31, 64, 100, 257)


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    chosen, threads = native.kernels.instruction_set(), torch.get_num_threads()
    yield
    native.kernels.choose(chosen)
    torch.set_num_threads(threads)


def values(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def close(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
    bound = TOLERANCE[got.dtype] * scale
    torch.testing.assert_close(got.double(), want.double(), atol=bound, rtol=0)


def dense(graph: Graph, a: Tensor, b: Tensor) -> Tensor:
    src, dst = graph.edge_index()
    return (a.double()[dst] * b.double()[src]).sum(-1)


def hub() -> Graph:
    """One destination with more edges than a chunk, several times over."""
    generator = torch.Generator().manual_seed(3)
    edges = torch.randint(0, 50, (2, 12_000), generator=generator)
    edges[1, ::2] = 7
    return Graph.from_edge_index(edges, 50)


def wide_indices(graph: Graph) -> Graph:
    """The same graph with int64 columns and edge numbers."""

    def widen(side: Csr) -> Csr:
        eid = torch.arange(side.num_edges) if side.eid is None else side.eid.long()
        return Csr(side.indptr, side.indices.long(), eid)

    assert graph.by_src is not None
    return Graph(widen(graph.by_dst), widen(graph.by_src), graph.num_dst, graph.num_src)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_on_the_zoo(name: str, dtype: torch.dtype) -> None:
    native.kernels.choose(name)
    for graph in ZOO.values():
        a, b = values(graph.num_dst, 2, 5, dtype=dtype), values(graph.num_src, 2, 5, dtype=dtype)
        close(ops.sddmm(graph, a, b), dense(graph, a, b))
        close(ops.sddmm(graph, a, b), sddmm_reference(*graph.parts(), a, b))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("width", WIDTHS)
def test_any_width(width: int, dtype: torch.dtype, name: str) -> None:
    native.kernels.choose(name)
    graph = ZOO["random"]
    a = values(graph.num_dst, width, dtype=dtype)
    b = values(graph.num_src, width, dtype=dtype, seed=1)
    close(ops.sddmm(graph, a, b), dense(graph, a, b))


@settings(max_examples=40)
@given(graphs(), st.integers(1, 40), st.sampled_from(SETS), st.booleans())
def test_on_any_graph(graph: Graph, width: int, name: str, wide: bool) -> None:
    native.kernels.choose(name)
    a, b = values(graph.num_dst, 2, width), values(graph.num_src, 2, width, seed=1)
    close(ops.sddmm(wide_indices(graph) if wide else graph, a, b), dense(graph, a, b))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("width", [5, 16, 57])
def test_the_same_bits_everywhere(width: int, dtype: torch.dtype) -> None:
    graph = hub()
    a, b = values(50, 2, width, dtype=dtype), values(50, 2, width, dtype=dtype, seed=1)
    results: list[Tensor] = []
    for name in SETS:
        for threads in (1, 2, 3):
            native.kernels.choose(name)
            torch.set_num_threads(threads)
            results.append(ops.sddmm(graph, a, b))
    close(results[0], dense(graph, a, b))
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("name", SETS)
def test_strided_rows(name: str) -> None:
    native.kernels.choose(name)
    graph = ZOO["random"]
    a = values(graph.num_dst, 40)[:, 3:27]
    b = values(24, graph.num_src, seed=1).t()
    close(ops.sddmm(graph, a, b), dense(graph, a, b))


def test_float16_goes_to_the_reference() -> None:
    graph = ZOO["multi-edges"]
    a, b = values(3, 1, 4, dtype=torch.float16), values(3, 1, 4, dtype=torch.float16, seed=1)
    want = sddmm_reference(*graph.parts(), a, b)
    assert torch.equal(torch.ops.graphkit.sddmm(*graph.parts(), a, b), want)


@pytest.mark.parametrize("name", SETS)
def test_gradients_and_contract(name: str) -> None:
    native.kernels.choose(name)
    graph = ZOO["multi-edges"]
    a = values(3, 2, 3, dtype=torch.float64).requires_grad_()
    b = values(3, 2, 3, dtype=torch.float64, seed=1).requires_grad_()
    assert gradcheck(lambda a, b: ops.sddmm(graph, a, b), (a, b))
    assert gradgradcheck(lambda a, b: ops.sddmm(graph, a, b), (a, b))
    torch.library.opcheck(torch.ops.graphkit.sddmm.default, (*graph.parts(), a, b))
