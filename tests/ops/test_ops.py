"""Every op against a dense float64 computation, on the zoo and on generated graphs."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from ways import seeded

from graphkit import ConfigError, Csr, Graph, GraphError, ops
from graphkit.testing import dense_adjacency, graphs, zoo

pytestmark = pytest.mark.usefixtures("backend")
ZOO = dict(zoo())
REDUCES = ("sum", "mean", "max", "min")
# storage rounds to half a unit in the last place; sums are kept in float32, so the rest is small
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7}


def values(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def close(got: Tensor, want: Tensor, dtype: torch.dtype | None = None) -> None:
    dtype = dtype or got.dtype
    assert got.dtype == dtype and got.shape == want.shape
    scale = max(1.0, float(want.abs().max())) if want.numel() else 1.0
    tolerance = TOLERANCE[dtype] * scale
    torch.testing.assert_close(got.double(), want.double(), atol=tolerance, rtol=0)


def dense_spmm(graph: Graph, x: Tensor, w: Tensor | None, reduce: str) -> Tensor:
    """One destination at a time, in float64. x: [S, F], w: [E]."""
    src, dst = graph.edge_index()
    weights = torch.ones(graph.num_edges) if w is None else w
    messages = x.double()[src] * weights.double().unsqueeze(1)
    return dense_reduce(messages, dst, graph.num_dst, reduce)


def dense_reduce(messages: Tensor, rows: Tensor, num_rows: int, reduce: str) -> Tensor:
    out = torch.zeros(num_rows, messages.size(1), dtype=torch.float64)
    for row in range(num_rows):
        mine = messages[rows == row].double()
        if len(mine):
            out[row] = {
                "sum": lambda m: m.sum(0),
                "mean": lambda m: m.mean(0),
                "max": lambda m: m.amax(0),
                "min": lambda m: m.amin(0),
            }[reduce](mine)
    return out


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ZOO)
def test_spmm_on_the_zoo(name: str, weighted: bool, reduce: str, dtype: torch.dtype) -> None:
    graph = ZOO[name]
    x = values(graph.num_src, 5, dtype=dtype)
    w = values(graph.num_edges, dtype=dtype, seed=1) if weighted else None
    close(ops.spmm(graph, x, w, reduce=reduce), dense_spmm(graph, x, w, reduce), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduce", REDUCES)
def test_spmm_has_heads(reduce: str, dtype: torch.dtype) -> None:
    graph = ZOO["multi-edges"]
    x, w = values(3, 2, 4, dtype=dtype), values(graph.num_edges, 2, dtype=dtype, seed=1)
    want = [dense_spmm(graph, x[:, h], w[:, h], reduce) for h in range(2)]
    close(ops.spmm(graph, x, w, reduce=reduce), torch.stack(want, 1), dtype)
    want = [dense_spmm(graph, x[:, h], w[:, 0], reduce) for h in range(2)]
    close(ops.spmm(graph, x, w[:, 0], reduce=reduce), torch.stack(want, 1), dtype)
    close(ops.spmm(graph, x, w[:, :1], reduce=reduce), torch.stack(want, 1), dtype)


@given(graphs(), st.sampled_from(REDUCES), st.booleans(), st.integers(0, 3))
def test_spmm_on_any_graph(graph: Graph, reduce: str, weighted: bool, width: int) -> None:
    x = values(graph.num_src, width)
    w = values(graph.num_edges, seed=1) if weighted else None
    close(ops.spmm(graph, x, w, reduce=reduce), dense_spmm(graph, x, w, reduce))


@given(graphs())
def test_spmm_is_the_dense_product_and_its_own_adjoint(graph: Graph) -> None:
    x, y = values(graph.num_src, 3), values(graph.num_dst, 3, seed=1)
    w = values(graph.num_edges, seed=2)
    out = ops.spmm(graph, x, w)
    close(out, dense_adjacency(graph, w) @ x)
    close((out * y).sum(), (x * ops.spmm(graph.t(), y, w)).sum())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ZOO)
def test_sddmm_on_the_zoo(name: str, dtype: torch.dtype) -> None:
    graph = ZOO[name]
    a, b = values(graph.num_dst, 6, dtype=dtype), values(graph.num_src, 6, dtype=dtype, seed=1)
    src, dst = graph.edge_index()
    want = (a.double()[dst] * b.double()[src]).sum(1)
    close(ops.sddmm(graph, a, b), want, dtype)
    heads = ops.sddmm(graph, a.view(-1, 2, 3), b.view(-1, 2, 3))
    close(heads, (a.double()[dst] * b.double()[src]).view(-1, 2, 3).sum(2), dtype)


def test_sddmm_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = ZOO["random"]
    a, b = values(30, 2, 3), values(30, 2, 3, seed=1)
    whole = ops.sddmm(graph, a, b)
    module = importlib.import_module("graphkit.ops.sddmm")
    monkeypatch.setattr(module, "_CHUNK", 50)
    assert torch.equal(ops.sddmm(graph, a, b), whole)


@given(graphs(), st.sampled_from(list(TOLERANCE)), st.sampled_from(REDUCES))
def test_edge_ops_on_any_graph(graph: Graph, dtype: torch.dtype, reduce: str) -> None:
    src, dst = graph.edge_index()
    x, y = values(graph.num_src, 3, dtype=dtype), values(graph.num_dst, 3, dtype=dtype, seed=1)
    v = values(graph.num_edges, 3, dtype=dtype, seed=2)
    close(ops.sddmm(graph, y, x), (y.double()[dst] * x.double()[src]).sum(1), dtype)
    assert torch.equal(ops.gather(graph, x, "src"), x[src])
    assert torch.equal(ops.gather(graph, y, "dst"), y[dst])
    want = dense_reduce(v, dst, graph.num_dst, reduce)
    close(ops.segment_reduce(v, graph.by_dst, reduce), want, dtype)


@given(graphs())
def test_sddmm_is_the_weight_gradient_of_spmm(graph: Graph) -> None:
    x, y = values(graph.num_src, 2), values(graph.num_dst, 2, seed=1)
    w = values(graph.num_edges, seed=2).requires_grad_()
    (gradient,) = torch.autograd.grad((ops.spmm(graph, x, w) * y).sum(), w)
    close(gradient, ops.sddmm(graph, y, x))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ZOO)
def test_gather_on_the_zoo(name: str, dtype: torch.dtype) -> None:
    graph = ZOO[name]
    lean = Graph(graph.by_dst, None, graph.num_dst, graph.num_src)
    src, dst = graph.edge_index()
    x, y = values(graph.num_src, 2, 3, dtype=dtype), values(graph.num_dst, 4, dtype=dtype)
    for either in (graph, lean):
        assert torch.equal(ops.gather(either, x, "src"), x[src])
        assert torch.equal(ops.gather(either, y, "dst"), y[dst])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("name", ZOO)
def test_segment_reduce_on_the_zoo(name: str, reduce: str, dtype: torch.dtype) -> None:
    graph = ZOO[name]
    v = values(graph.num_edges, 3, dtype=dtype)
    src, dst = graph.edge_index()
    assert graph.by_src is not None
    for rows, index in ((graph.by_dst, dst), (graph.by_src, src)):
        want = dense_reduce(v, index, rows.num_rows, reduce)
        close(ops.segment_reduce(v, rows, reduce), want, dtype)
    slots = graph.by_dst.row_ids()
    want = dense_reduce(v, slots, graph.num_dst, reduce)
    close(ops.segment_reduce(v, graph.by_dst.indptr, reduce), want, dtype)
    close(ops.segment_reduce(v, graph.by_dst.indptr.int(), reduce), want, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ZOO)
def test_segment_softmax_on_the_zoo(name: str, dtype: torch.dtype) -> None:
    graph = ZOO[name]
    v = values(graph.num_edges, 2, dtype=dtype) * 4
    dst = graph.edge_index()[1]
    want = torch.zeros(v.shape, dtype=torch.float64)
    for row in dst.unique():
        want[dst == row] = v.double()[dst == row].softmax(0)
    close(ops.segment_softmax(v, graph.by_dst), want, dtype)


@given(graphs(), st.floats(-300, 300))
def test_softmax_rows_sum_to_one_and_shifts_do_nothing(graph: Graph, shift: float) -> None:
    v = values(graph.num_edges, 2)
    y = ops.segment_softmax(v, graph.by_dst)
    sums = ops.segment_reduce(y, graph.by_dst)
    close(sums, (graph.in_degree() > 0).double().unsqueeze(1).expand(-1, 2))
    torch.testing.assert_close(ops.segment_softmax(v + shift, graph.by_dst), y)


def test_softmax_of_extremes() -> None:
    ptr = torch.tensor([0, 2, 4, 6])
    v = torch.tensor([[-1e30], [1e30], [-torch.inf], [-torch.inf], [-torch.inf], [0.0]])
    y = ops.segment_softmax(v, ptr)
    assert y.flatten().tolist() == [0, 1, 0, 0, 0, 1]


def test_values_may_be_one_dimensional_or_empty() -> None:
    ptr = torch.tensor([0, 2, 2, 5])
    v = values(5)
    close(ops.segment_reduce(v, ptr), torch.stack([v[:2].sum(), v[:0].sum(), v[2:].sum()]))
    assert ops.segment_softmax(v, ptr).shape == (5,)
    assert ops.segment_reduce(values(5, 0), ptr, "max").shape == (3, 0)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_extremes_split_their_gradient_among_equals_as_torch_does(kind: str) -> None:
    graph = ZOO["random"]
    src, dst = graph.edge_index()
    # no zeros: where the largest value is 0, torch also pays the zero it started from
    x = torch.randint(1, 4, (30, 4), generator=seeded(5)).double()
    w = torch.randint(1, 3, (200, 1), generator=seeded(6)).double()

    def gradients(run: Callable[..., Tensor]) -> list[Tensor]:
        leaves = x.clone().requires_grad_(), w.clone().requires_grad_()
        return list(torch.autograd.grad((run(*leaves) * values(30, 4, seed=7)).sum(), leaves))

    def plain(x: Tensor, w: Tensor) -> Tensor:
        at = dst.unsqueeze(1).expand(-1, 4)
        zeros = torch.zeros(30, 4, dtype=torch.float64)
        return zeros.scatter_reduce(0, at, x[src] * w, "a" + kind, include_self=False)

    want = gradients(plain)
    for got in (
        gradients(lambda x, w: ops.spmm(graph, x, w, reduce=kind)),
        gradients(lambda x, w: ops.segment_reduce(x[src] * w, graph.by_dst, kind)),
    ):
        torch.testing.assert_close(got, want)


def test_means_of_a_hub_beyond_float16() -> None:
    """70,000 edges at one node: more than float16 can count."""
    num_edges = 70_000
    edges = torch.stack([torch.arange(num_edges) % 100, torch.zeros(num_edges, dtype=torch.int64)])
    graph = Graph.from_edge_index(edges, 100)
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.ones(100, 1, dtype=dtype, requires_grad=True)
        out = ops.spmm(graph, x, reduce="mean")
        out[0].sum().backward()
        assert out[0].item() == 1 and x.grad is not None
        assert abs(x.grad.double().sum().item() - 1) < 0.01
    v = torch.ones(num_edges, 1, dtype=torch.bfloat16, requires_grad=True)
    ops.segment_reduce(v, graph.by_dst, "mean").sum().backward()
    assert v.grad is not None and (v.grad > 0).all()


@pytest.mark.parametrize("reduce", ["max", "min"])
def test_extremes_keep_nan_and_infinities(reduce: str) -> None:
    graph = Graph.from_edge_index(torch.tensor([[0, 1, 2, 0], [0, 0, 1, 1]]), 3)
    x = torch.tensor([[1.0], [torch.nan], [-torch.inf]], requires_grad=True)
    out = ops.spmm(graph, x, reduce=reduce)
    assert out[0].isnan() and out[1] == (1.0 if reduce == "max" else -torch.inf) and out[2] == 0
    out[:2].sum().backward()
    want = [1.0, 1.0, 0.0] if reduce == "max" else [0.0, 1.0, 1.0]  # nan wins over all
    assert x.grad is not None and x.grad.flatten().tolist() == want


# -- derivatives -----------------------------------------------------------------------------------

GRAD_GRAPHS = {n: ZOO[n] for n in ("edgeless", "self-loops", "multi-edges", "isolated-ends")}
# gradcheck calls for every number of every input, and the zoo's has 50 sources
GRAD_GRAPHS["wide-bipartite"] = Graph.from_edge_index(
    torch.tensor([[7, 3, 2, 8, 0], [0, 1, 0, 2, 0]]), num_src=9, num_dst=3
)


def differentiable(graph: Graph) -> dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]]:
    x, y = values(graph.num_src, 2, 2), values(graph.num_dst, 2, 2, seed=1)
    w, v = values(graph.num_edges, 2, seed=2), values(graph.num_edges, 3, seed=3)
    cases = {
        "sddmm": (lambda a, b: ops.sddmm(graph, a, b), (y, x)),
        "gather-src": (lambda x: ops.gather(graph, x, "src"), (x,)),
        "gather-dst": (lambda y: ops.gather(graph, y, "dst"), (y,)),
        "softmax": (lambda v: ops.segment_softmax(v, graph.by_dst), (v,)),
    }
    for reduce in REDUCES:
        cases |= {
            f"spmm-{reduce}": (lambda x, r=reduce: ops.spmm(graph, x, reduce=r), (x,)),
            f"spmm-{reduce}-w": (lambda x, w, r=reduce: ops.spmm(graph, x, w, reduce=r), (x, w)),
            f"segment-{reduce}": (
                lambda v, r=reduce: ops.segment_reduce(v, graph.by_dst, r),
                (v,),
            ),
        }
    return cases


OPS = list(differentiable(ZOO["self-loops"]))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", GRAD_GRAPHS)
def test_gradients(name: str, op: str) -> None:
    run, tensors = differentiable(GRAD_GRAPHS[name])[op]
    leaves = tuple(t.requires_grad_() for t in tensors)
    assert gradcheck(run, leaves)
    assert gradgradcheck(run, leaves)


@given(graphs(max_nodes=5, max_edges=8), st.sampled_from(OPS))
def test_gradients_on_any_graph(graph: Graph, op: str) -> None:
    run, tensors = differentiable(graph)[op]
    assert gradcheck(run, tuple(t.requires_grad_() for t in tensors))


@pytest.mark.parametrize("reduce", REDUCES)
def test_bfloat16_gradients_are_close_to_float64(reduce: str) -> None:
    graph = ZOO["random"]

    def gradients(dtype: torch.dtype) -> list[Tensor]:
        # the same numbers in both, so that max and min choose the same edges
        x = values(30, 4).bfloat16().to(dtype).requires_grad_()
        w = values(200, seed=1).bfloat16().to(dtype).requires_grad_()
        out = ops.spmm(graph, x, w, reduce=reduce)
        return list(torch.autograd.grad(out.double().square().sum(), (x, w)))

    for got, want in zip(gradients(torch.bfloat16), gradients(torch.float64), strict=True):
        assert got.dtype == torch.bfloat16
        assert (got.double() - want).abs().max() < 0.03 * want.abs().max()


# -- the contract with torch -----------------------------------------------------------------------


def op_calls() -> dict[str, tuple]:
    graph = ZOO["multi-edges"]
    lean = Graph.from_edge_index(graph.edge_index(), 3, transpose=False)
    x, w = values(3, 2, 2).requires_grad_(), values(6, 2, seed=1).requires_grad_()
    ptr, eid, v = graph.by_dst.indptr, graph.by_dst.eid, values(6, 3).requires_grad_()
    return {
        "spmm": (*graph.parts(), x, w, False),
        "spmm ": (*graph.parts(), x, None, True),
        "spmm  ": (*lean.parts(), x.detach(), None, False),
        "sddmm": (*graph.parts(), x, values(3, 2, 2, seed=2).requires_grad_()),
        "spmm_extreme": (*graph.parts(), x, w, False, True),
        "spmm_extreme ": (*graph.parts(), x, None, True, False),
        "gather": (ptr, eid, values(3, 3).requires_grad_(), 6),
        "segment_reduce": (ptr, eid, v, True),
        "segment_extreme": (ptr, eid, v, True),
        "segment_softmax": (ptr, eid, v),
    }


@pytest.mark.parametrize("op", op_calls())
def test_opcheck(op: str) -> None:
    torch.library.opcheck(getattr(torch.ops.graphkit, op.strip()).default, op_calls()[op])


def everything(graph: Graph, x: Tensor, w: Tensor) -> Tensor:
    """All ops in one function, as a layer might use them."""
    score = ops.sddmm(graph, x, x) + ops.gather(graph, x, "src").sum(1)
    alpha = ops.segment_softmax(score, graph.by_dst)
    out = ops.spmm(graph, x, alpha) + ops.spmm(graph, x, w, reduce="mean")
    out = out + ops.spmm(graph, x, w, reduce="max") + ops.segment_reduce(w, graph.by_dst)[:, None]
    return out + ops.segment_reduce(ops.gather(graph, x, "dst"), graph.by_dst, "min")


# torch 2.6 says this of its own options
@pytest.mark.filterwarnings("ignore:Skipping serialization:UserWarning")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", id="inductor")])
def test_compiles_without_a_break_or_recompilation(backend: str) -> None:
    if backend == "inductor":
        require_a_compiler()
    torch.compiler.reset()
    compiled = torch.compile(everything, fullgraph=True, dynamic=True, backend=backend)
    counter = torch._dynamo.utils.counters
    counter.clear()
    for seed, num_nodes in enumerate((6, 11, 20) if backend == "aot_eager" else (6, 11)):
        generator = seeded(seed)
        edge_index = torch.randint(num_nodes, (2, 3 * num_nodes), generator=generator)
        graph = Graph.from_edge_index(edge_index, num_nodes)
        leaves = values(num_nodes, 4, seed=seed), values(3 * num_nodes, seed=seed + 9)
        got, want = (
            run(graph, *(t.requires_grad_() for t in leaves)) for run in (compiled, everything)
        )
        torch.testing.assert_close(got, want)
        gradients = [torch.autograd.grad(out.square().sum(), leaves) for out in (got, want)]
        torch.testing.assert_close(*gradients)
    assert counter["stats"]["unique_graphs"] == 1


def require_a_compiler() -> None:
    import shutil

    if not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("torch's Inductor needs a C++ compiler, none is on the path")


@pytest.mark.parametrize("op", OPS)
def test_the_same_bits_for_any_number_of_threads(op: str) -> None:
    generator = seeded(0)
    graph = Graph.from_edge_index(torch.randint(2000, (2, 30_000), generator=generator), 2000)
    before = torch.get_num_threads()

    def run() -> list[Tensor]:
        forward, tensors = differentiable(graph)[op]
        leaves = tuple(t.float().requires_grad_() for t in tensors)
        out = forward(*leaves)
        return [out, *torch.autograd.grad(out.square().sum(), leaves)]

    try:
        torch.set_num_threads(1)
        one = run()
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(one, run(), strict=True))
    finally:
        torch.set_num_threads(before)


def test_backends_name_every_op() -> None:
    table = ops.backends()
    assert {"spmm", "sddmm", "gather", "segment_reduce", "segment_softmax"} < set(table)
    assert all(set(row) == {"cpu", "cuda"} for row in table.values())


# -- bad input -------------------------------------------------------------------------------------

GRAPH = ZOO["wide-bipartite"]
LEAN = Graph.from_edge_index(GRAPH.edge_index(), num_src=50, num_dst=3, transpose=False)
X, Y, W = torch.ones(50, 2), torch.ones(3, 2), torch.ones(5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ops.spmm(GRAPH, X[:9]),
            GraphError,
            "spmm: x has 9 rows but .* 50 sources.*num_src",
        ),
        (lambda: ops.spmm(GRAPH, X[:, 0]), GraphError, r"x has shape \[50\], .*unsqueeze"),
        (lambda: ops.spmm(GRAPH, X.long()), GraphError, r"dtype torch.int64.*Pass x.float\(\)"),
        (lambda: ops.spmm(GRAPH, X.to_sparse()), GraphError, r"sparse_coo.*x.to_dense\(\)"),
        (
            lambda: ops.spmm(GRAPH, X.to("meta")),
            GraphError,
            r"x is on meta but the graph is on c",
        ),
        (lambda: ops.spmm(GRAPH, X, W[:4]), GraphError, r"w has shape \[4\], but the graph has 5"),
        (lambda: ops.spmm(GRAPH, X, W.long()), GraphError, r"spmm: w has dtype torch.int64"),
        (lambda: ops.spmm(GRAPH, X, torch.ones(5, 3)), GraphError, r"w has shape \[5, 3\]"),
        (lambda: ops.spmm(GRAPH, X, reduce="sun"), ConfigError, "'sun'. Did you mean 'sum'"),
        (lambda: ops.sddmm(GRAPH, X, X), GraphError, "sddmm: a has 50 rows but .* 3 destinations"),
        (lambda: ops.sddmm(GRAPH, Y, X[:, :1]), GraphError, "their rows must agree"),
        (lambda: ops.gather(GRAPH, X, "source"), ConfigError, "side 'source'. .*Known: dst, src"),
        (lambda: ops.gather(GRAPH, X, "dst"), GraphError, "gather: x has 50 rows but .* 3 dest"),
        (lambda: ops.segment_reduce(W[:2], GRAPH.by_dst), GraphError, "the rows hold 5 edges"),
        (lambda: ops.segment_reduce(W, torch.tensor([0, 4])), GraphError, "ends at 4.*end at 5"),
        (lambda: ops.segment_reduce(W, torch.tensor([0, 9, 5])), GraphError, "falls after"),
        (lambda: ops.segment_reduce(W, torch.tensor([0.0])), GraphError, "rows is torch.float32"),
        (lambda: ops.segment_reduce(W, GRAPH.by_dst, "avg"), ConfigError, "reduce 'avg'"),
        (lambda: ops.segment_softmax(W.int(), GRAPH.by_dst), GraphError, "values has dtype"),
        (
            lambda: ops.spmm(LEAN, X.requires_grad_()),
            GraphError,
            "gradient of spmm.*transpose=True",
        ),
    ],
)
def test_bad_input(call: Callable[[], Tensor], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_graph_without_transpose_serves_inference() -> None:
    with torch.no_grad():
        x = torch.ones(50, 2, requires_grad=True)
        assert torch.equal(ops.spmm(LEAN, x), ops.spmm(GRAPH, x))
    ops.spmm(LEAN, torch.ones(50, 2, requires_grad=True), reduce="max").sum().backward()
    w = torch.ones(5, requires_grad=True)
    ops.spmm(LEAN, torch.ones(50, 2), w).sum().backward()
    assert w.grad is not None and w.grad.tolist() == [2.0] * 5


def test_rows_may_be_any_csr() -> None:
    rows = Csr(torch.tensor([0, 1, 3]), torch.zeros(3, dtype=torch.int32), torch.tensor([2, 0, 1]))
    v = torch.tensor([[1.0], [2.0], [4.0]])
    assert ops.segment_reduce(v, rows).flatten().tolist() == [4.0, 3.0]
