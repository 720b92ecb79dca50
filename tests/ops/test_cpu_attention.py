"""Laws of fused attention: its kernels, its reference, its gradients, and the layers upon it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import graphkit.nn as gnn
from graphkit import ConfigError, Csr, Graph, GraphError
from graphkit.ops import gat_attention, gatv2_attention
from graphkit.ops.attention import attention_backward_reference, attention_reference
from graphkit.ops.cpu import native
from graphkit.ops.random import keep_below, random_bits
from graphkit.testing import graphs, zoo

SETS = [] if native.kernels is None else list(native.kernels.instruction_sets())
native_only = pytest.mark.skipif(native.kernels is None, reason="built without native kernels")
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-11, torch.bfloat16: 3e-2}
ops: Any = torch.ops.graphkit


@pytest.fixture(params=SETS or ["none"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    if not SETS:
        pytest.skip("built without native kernels")
    before = native.kernels.instruction_set()
    native.kernels.choose(request.param)
    yield request.param
    native.kernels.choose(before)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def inputs(
    graph: Graph,
    heads: int,
    channels: int,
    dtype: torch.dtype = torch.float32,
    second: bool = False,
    loops: bool = False,
    p: float = 0.0,
) -> list[Any]:
    """What the op takes, random; ``second`` for GATv2."""
    acc = torch.float64 if dtype == torch.float64 else torch.float32

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    generator = torch.Generator().manual_seed(heads * channels + graph.num_edges)
    src, dst, n = graph.num_src, graph.num_dst, min(graph.num_src, graph.num_dst)
    h = some(src, heads, channels).to(dtype)
    if second:
        right, att = some(dst, heads, channels).to(dtype), some(heads, channels).to(acc)
        scores = [None, None, None, None, right, att]
    else:
        sizes = (src, dst, graph.num_edges, n)
        scores = [some(size, heads).to(acc) for size in sizes] + [None, None]
        scores[3] = scores[3] if loops else None
    seed = torch.tensor([2**61 + 12345]) if p > 0 else None
    return [*graph.parts(), h, *scores, loops, 0.2, p, seed]


def both_ways(given: list[Any]) -> list[Tensor]:
    """Everything that forward and backward return."""
    out = ops.attention(*given)
    dy = torch.randn(out[0].shape, generator=torch.Generator().manual_seed(1)).to(out[0].dtype)
    return [*out, *ops.attention_backward(*given, *out[1:], dy)]


def in_float64(given: list[Any]) -> list[Tensor]:
    """The same by the reference, from the same numbers in float64."""
    wide = [t.double() if isinstance(t, Tensor) and t.is_floating_point() else t for t in given]
    out = attention_reference(*wide)
    dy = torch.randn(out[0].shape, generator=torch.Generator().manual_seed(1)).to(given[6].dtype)
    return [*out, *attention_backward_reference(*wide, *out[1:], dy.double())]


def assert_close(got: list[Tensor], want: list[Tensor], tolerance: float) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        if a.numel():
            assert (a.double() - b).abs().max() <= tolerance * max(1.0, float(b.abs().max()))


@native_only
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("second", [False, True], ids=["gat", "gatv2"])
def test_equals_its_reference(second: bool, dtype: torch.dtype) -> None:
    shapes = iter([(4, 32), (8, 8), (1, 1), (2, 3), (3, 17), (6, 16), (1, 100), (1, 257)] * 9)
    before = native.kernels.instruction_set()
    for _, graph in zoo():
        for loops in (False, True):
            given = inputs(graph, *next(shapes), dtype, second, loops, p=0.5 * loops)
            want = in_float64(given)
            for name in SETS:
                native.kernels.choose(name)
                assert_close(both_ways(given), want, TOLERANCE[dtype])
    native.kernels.choose(before)


def with_hubs() -> Graph:
    """A destination and a source of more edges than a piece holds, among others."""
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(900, (2, 42000), generator=generator)
    edge_index[1, :18000] = 7
    edge_index[0, 16000:36000] = 9
    return Graph.from_edge_index(edge_index[:, torch.randperm(42000, generator=generator)], 900)


@native_only
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("second", [False, True], ids=["gat", "gatv2"])
def test_same_bits_everywhere(
    second: bool, dtype: torch.dtype, threads: Callable[[int], None]
) -> None:
    hubs, small = with_hubs(), dict(zoo())["hub"]
    cases = [(hubs, 2, 3), *((small, 4, c) for c in (1, 3, 8, 16, 17, 32, 64, 100))]
    before = native.kernels.instruction_set()
    for graph, heads, channels in cases:
        given = inputs(graph, heads, channels, dtype, second, loops=True, p=0.3)
        first = None
        for name in SETS:
            native.kernels.choose(name)
            for count in (1, 2, 3):
                threads(count)
                found = both_ways(given)
                first = first or found
                assert all(torch.equal(a, b) for a, b in zip(found, first, strict=True))
        if graph is hubs:
            assert first is not None
            assert_close(first, in_float64(given), 10 * TOLERANCE[dtype])
    native.kernels.choose(before)


def by_formula(
    graph: Graph, h: Tensor, score: Callable[[int, int, int], Tensor], loops: bool
) -> Tensor:
    """Attention one destination at a time, in float64."""
    out = h.new_zeros(graph.num_dst, *h.shape[1:])
    ends = list(zip(*graph.edge_index().tolist(), strict=True))
    for i in range(graph.num_dst):
        mine = [(j, e) for e, (j, k) in enumerate(ends) if k == i and not (loops and j == i)]
        if loops and i < graph.num_src:
            mine.append((i, -1))
        if mine:
            alpha = torch.stack([score(j, i, e) for j, e in mine]).softmax(0)
            out[i] = sum(a.unsqueeze(-1) * h[j] for a, (j, _) in zip(alpha, mine, strict=True))
    return out


@settings(max_examples=15)
@given(graphs(), st.booleans(), st.booleans())
def test_equals_the_formula(graph: Graph, second: bool, loops: bool) -> None:
    given = inputs(graph, 2, 3, torch.float64, second, loops)
    h, src, dst, edge, loop, right, att = given[6:13]

    def score(j: int, i: int, e: int) -> Tensor:
        if second:
            return (torch.nn.functional.leaky_relu(h[j] + right[i], 0.2) * att).sum(-1)
        extra = edge[e] if e >= 0 else loop[i]
        return torch.nn.functional.leaky_relu(src[j] + dst[i] + extra, 0.2)

    if second:
        got = gatv2_attention(graph, h, right, att, loops=loops)
    else:
        got = gat_attention(graph, h, src, dst, edge, loop, loops=loops)
    torch.testing.assert_close(got, by_formula(graph, h, score, loops))


@pytest.mark.parametrize("second", [False, True], ids=["gat", "gatv2"])
def test_any_strides_and_wide_indices(second: bool) -> None:
    graph = dict(zoo())["random"]
    plain = inputs(graph, 4, 5, second=second, loops=True, p=0.2)
    want = both_ways(plain)

    def apart(t: Any) -> Any:
        if not isinstance(t, Tensor) or not t.is_floating_point():
            return t
        return torch.stack([t, t], -1)[..., 0]

    def wide(side: Csr) -> Csr:
        return Csr(
            side.indptr, side.indices.long(), side.eid if side.eid is None else side.eid.long()
        )

    assert graph.by_src is not None
    big = Graph(wide(graph.by_dst), wide(graph.by_src), graph.num_dst, graph.num_src)
    for parts in (graph.parts(), big.parts()):
        found = both_ways([*parts, *(apart(t) for t in plain[6:])])
        assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("second", [False, True], ids=["gat", "gatv2"])
def test_gradients(second: bool, loops: bool) -> None:
    edge_index = torch.tensor([[0, 1, 1, 2, 0, 3], [1, 1, 0, 0, 1, 0]])
    graph = Graph.from_edge_index(edge_index, num_src=4, num_dst=3)
    given = inputs(graph, 2, 2, torch.float64, second, loops, p=0.3)
    places = [i for i in range(6, 13) if given[i] is not None]

    def run(*tensors: Tensor) -> Tensor:
        called = list(given)
        for i, tensor in zip(places, tensors, strict=True):
            called[i] = tensor
        return ops.attention(*called)[0]

    leaves = [given[i].requires_grad_() for i in places]
    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("second", [False, True], ids=["gat", "gatv2"])
def test_opcheck(second: bool) -> None:
    graph = dict(zoo())["multi-edges"]
    given = inputs(graph, 2, 3, second=second, loops=True, p=0.5)
    out = ops.attention(*given)
    torch.library.opcheck(ops.attention_backward.default, (*given, *out[1:], out[0] + 1))
    for i in range(6, 13):
        given[i] = None if given[i] is None else given[i].requires_grad_()
    torch.library.opcheck(ops.attention.default, tuple(given))


def test_half_precision_and_empty_widths_go_to_the_reference() -> None:
    graph = dict(zoo())["random"]
    h, score = torch.randn(30, 2, 4), torch.randn(30, 2)
    got = gat_attention(graph, h.half(), score)
    torch.testing.assert_close(got.float(), gat_attention(graph, h, score), atol=1e-2, rtol=1e-2)
    assert gat_attention(graph, h[..., :0], score).shape == (30, 2, 0)
    assert gat_attention(graph, h[:, :0], score[:, :0]).shape == (30, 0, 4)


def test_extreme_scores() -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1, 2, 0], [0, 0, 0, 1]]), 3)
    h = torch.arange(1.0, 4.0).view(3, 1, 1)
    score = torch.tensor([[3e38], [-torch.inf], [-3e38]])
    assert gat_attention(graph, h, score).flatten().tolist() == [1, 1, 0]
    nothing = gat_attention(graph, h, torch.full((3, 1), -torch.inf))
    assert nothing.flatten().tolist() == [0, 0, 0]
    bad = gat_attention(graph, h, torch.tensor([[0.0], [torch.nan], [0.0]]))
    assert bad.flatten().isnan().tolist() == [True, False, False]


def test_dropout_is_drawn_from_torchs_generator() -> None:
    edge_index = torch.stack([torch.arange(4000), torch.zeros(4000, dtype=torch.int64)])
    graph = Graph.from_edge_index(edge_index, num_src=4000, num_dst=1)
    h, score = torch.ones(4000, 2, 1), torch.zeros(4000, 2)

    def run(p: float) -> Tensor:
        return gat_attention(graph, h, score, dropout=p).flatten()

    torch.manual_seed(5)
    first, second = run(0.25), run(0.25)
    torch.manual_seed(5)
    assert torch.equal(run(0.25), first)
    assert not torch.equal(first, second) and first[0] != first[1]
    # 4000 draws: a deviation of 0.04 is six standard deviations
    assert (first - 1).abs().max() < 0.04
    assert run(1.0).tolist() == [0, 0]


def test_random_bits_are_splitmix64() -> None:
    mask = 2**64 - 1
    for seed in (0, 1, 2**62 + 17, -5):
        for counter in (0, 1, 12345, 2**40):
            z = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & mask
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            z = (z ^ (z >> 31)) >> 32
            assert int(random_bits(seed, torch.tensor(counter))) == z
    assert [keep_below(p) for p in (0.0, 0.5, 1.0)] == [2**32, 2**31, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponential(dtype: torch.dtype, instruction_set: str) -> None:
    low, high = (-103.0, 88.7) if dtype == torch.float32 else (-745.0, 709.7)
    x = torch.linspace(low, high, 100001, dtype=torch.float64).to(dtype).double()
    x = torch.cat([x, torch.linspace(-1, 1, 50001, dtype=torch.float64).to(dtype).double()])
    out = torch.empty_like(x)
    native.kernels.exp(x.data_ptr(), out.data_ptr(), x.numel(), native.DTYPES[dtype])
    want = x.exp()
    # the distance of two neighbours at the result
    near = want.to(dtype)
    unit = (torch.nextafter(near, near.new_tensor(torch.inf)) - near).double()
    assert ((out - want).abs() / unit).max() <= 2
    edges = torch.tensor([-torch.inf, -1e30, 1e30, torch.inf, torch.nan, 0.0], dtype=torch.float64)
    out = torch.empty_like(edges)
    native.kernels.exp(edges.data_ptr(), out.data_ptr(), 6, native.DTYPES[dtype])
    assert out[:4].tolist() == [0, 0, torch.inf, torch.inf] and out[4].isnan() and out[5] == 1


@pytest.mark.parametrize("edge_dim", [None, 3])
@pytest.mark.parametrize("layer", [gnn.GATConv, gnn.GATv2Conv])
def test_layers_equal_their_steps(layer: Any, edge_dim: int | None) -> None:
    # a mask of ones changes nothing but that the layer goes step by step
    edge_index = torch.randint(20, (2, 90), generator=torch.Generator().manual_seed(0))
    for options in ({}, {"concat": False, "residual": True}, {"add_self_loops": False}):
        module = layer(5, 4, 3, edge_dim=edge_dim, **options).double()
        x = torch.randn(20, 5, dtype=torch.float64, requires_grad=True)
        edges = {} if edge_dim is None else {"edge_attr": torch.randn(90, 3, dtype=torch.float64)}
        found = []
        for mask in (None, torch.ones(90, dtype=torch.float64)):
            out = module(x, edge_index, edge_mask=mask, **edges)
            leaves = (x, *module.parameters())
            found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("second", [False, True], ids=["gat", "gatv2"])
def test_nothing_of_the_size_of_the_edges_is_kept(second: bool) -> None:
    edge_index = torch.randint(50, (2, 9000), generator=torch.Generator().manual_seed(0))
    given = inputs(Graph.from_edge_index(edge_index, 50), 2, 3, second=second)
    # scores of edges are the caller's
    given[9] = None
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    leaves = [t.requires_grad_() for t in given if isinstance(t, Tensor) and t.is_floating_point()]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = ops.attention(*given)[0]
    torch.autograd.grad(out.sum(), leaves)
    sizes = [t.numel() for t in kept if t.is_floating_point()]
    assert sizes and max(sizes) == 50 * 2 * 3


GRAPH = Graph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 2)
H, S = torch.zeros(2, 3, 4), torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gat_attention(GRAPH, H[0], S), GraphError, r"h has shape \[3, 4\]|h has 3 rows"),
        (lambda: gat_attention(GRAPH, H.flatten(1), S), GraphError, r"\[N, heads, channels\]"),
        (lambda: gat_attention(GRAPH, H, S[:1]), GraphError, r"score_src has shape \[1, 3\]"),
        (lambda: gat_attention(GRAPH, H, S, S[:, :2]), GraphError, "score_dst has shape"),
        (lambda: gat_attention(GRAPH, H, S, None, H), GraphError, "score_edge has shape"),
        (lambda: gat_attention(GRAPH, H, S, None, None, S), ConfigError, "loops is False"),
        (lambda: gat_attention(GRAPH, H, S, dropout=1.5), ConfigError, "dropout is 1.5"),
        (lambda: gat_attention(GRAPH, H, S.long()), GraphError, "score_src has dtype"),
        (lambda: gatv2_attention(GRAPH, H, H[..., :2], H[0]), GraphError, "rows must agree"),
        (lambda: gatv2_attention(GRAPH, H, H.double(), H[0]), GraphError, "rows must agree"),
        (lambda: gatv2_attention(GRAPH, H, H, S), GraphError, "att has shape"),
        (lambda: gatv2_attention(GRAPH, H, H, H[0], dropout=-1), ConfigError, "dropout is -1"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_gradients_need_the_transposed_side() -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 2, transpose=False)
    assert gat_attention(graph, H, S).shape == H.shape
    with pytest.raises(GraphError, match="transpose=True"):
        gat_attention(graph, H.clone().requires_grad_(), S)
    with pytest.raises(GraphError, match="transpose=True"):
        gatv2_attention(graph, H, H, torch.zeros(3, 4, requires_grad=True))
