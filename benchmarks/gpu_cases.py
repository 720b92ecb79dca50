"""What gpu_suite.py runs: problems on a device, float64 references by plain torch, contenders.

Every contender has its best form: edges sorted and formats made before the clock starts, int32
columns for cuSPARSE. Making them is a case of its own, ``build``. (opt: torch_geometric,
torch_scatter)
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from benchmarks import graphs
from benchmarks.entry import Call, Entry, Outputs, Prepared
from benchmarks.passes import passes
from graphkit import Csr, Graph, ops, scatter
from graphkit.errors import BackendError, need

HEADS, SLOPE = 4, 0.2
# of the largest value: float32 sums in another order; what rounding the output costs in bfloat16
TOLERANCES = {"float32": 1e-4, "bfloat16": 8e-3, "float64": 1e-11}
# twice the largest second-level cache of today's GPUs
FLUSHED = 2**28


# torch says this of its CSR and CSC tensors, ours and those inside EdgeIndex
warnings.filterwarnings("ignore", "Sparse (invariant checks|CS[CR] tensor support)", UserWarning)


# -- the device ------------------------------------------------------------------------------------


def once(call: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """What ``call`` returns, and the seconds that the device took for it.

    The device is kept waiting while the host launches, so that launching is not what is timed.
    """
    if device.type != "cuda":
        began = time.perf_counter()
        out = call()
        return out, time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(1_000_000)
    start.record()
    out = call()
    end.record()
    end.synchronize()
    return out, start.elapsed_time(end) / 1e3


def seconds(device: torch.device) -> Callable[[Callable[[], Any]], float]:
    """:func:`once` for calls whose results nobody needs."""
    return lambda call: once(call, device)[1]


def free_bytes(device: torch.device) -> int | None:
    """The device's memory that this process could have; None on the CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def spare(device: torch.device, size: float) -> None:
    """Raise :class:`BackendError` unless ``size`` bytes of the device's memory are free."""
    free = free_bytes(device)
    if free is not None and free < size:
        raise BackendError(
            f"This case needs about {size / 1e9:.0f} GB of the device's memory, "
            f"but {free / 1e9:.0f} GB are free."
        )


@dataclass
class Notes:
    """What is known of one contender's calls beside the times that ``contest`` keeps."""

    peak_mb: float | None = None
    warm: list[float] = field(default_factory=list)


def timed(call: Call, device: torch.device, notes: Notes) -> Prepared:
    """``call`` with the second-level cache flushed, which is timed, and once more as it is then."""
    flush = torch.empty(FLUSHED if device.type == "cuda" else 1, dtype=torch.uint8, device=device)
    took = [0.0]

    def run() -> Outputs:
        if notes.peak_mb is None and device.type == "cuda":
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            call()
            notes.peak_mb = (torch.cuda.max_memory_allocated() - before) / 1e6
        flush.zero_()
        took[0] = once(call, device)[1]
        out, warm = once(call, device)
        notes.warm.append(warm)
        return out

    return Prepared(run, seconds=lambda: took[0])


# -- problems --------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def drawn(name: str, device: torch.device, shrink: int) -> tuple[Tensor, int]:
    return graphs.on_device(name, device, shrink)


@lru_cache(maxsize=1)
def built(name: str, device: torch.device, shrink: int) -> Graph:
    return Graph.from_edge_index(*drawn(name, device, shrink))


def random(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: int) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, dtype=dtype, device=device, generator=generator)


@dataclass(frozen=True, eq=False)
class Problem:
    edge_index: Tensor
    num_nodes: int
    graph: Graph
    inputs: list[Tensor]
    dy: Tensor | None

    @property
    def device(self) -> torch.device:
        return self.edge_index.device

    def sorted_ends(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sources and destinations by destination, int64, and the offsets."""
        side = self.graph.by_dst
        return side.indices.long(), side.row_ids(), side.indptr


def chunks(count: int, width: int) -> Iterator[slice]:
    """Of edges, so that float64 messages of some take a gigabyte."""
    step = max(1, 2**27 // max(1, width))
    return (slice(at, at + step) for at in range(0, count, step))


def sums(src: Tensor, dst: Tensor, x: Tensor, num_rows: int, w: Tensor | None = None) -> Tensor:
    """``out[dst] += w x[src]`` in float64, a part of the edges at a time; ``w [E, 1]``."""
    out = x.new_zeros(num_rows, x.size(1), dtype=torch.float64)
    for part in chunks(src.numel(), x.size(1)):
        message = x[src[part]].double()
        out.index_add_(0, dst[part], message if w is None else message * w[part])
    return out


# -- references ------------------------------------------------------------------------------------


def sum_reference(p: Problem) -> Outputs:
    src, dst = p.edge_index
    out = sums(src, dst, p.inputs[0], p.num_nodes)
    return (out,) if p.dy is None else (out, sums(dst, src, p.dy, p.num_nodes))


def max_reference(p: Problem) -> Outputs:
    src, dst = p.edge_index
    x = p.inputs[0]
    out = torch.full_like(x, -torch.inf, dtype=torch.float64)
    for part in chunks(src.numel(), x.size(1)):
        at = dst[part].unsqueeze(1).expand(-1, x.size(1))
        out.scatter_reduce_(0, at, x[src[part]].double(), "amax")
    return (torch.where(out.isinf(), 0.0, out),)


def segment_reference(p: Problem) -> Outputs:
    _, dst, _ = p.sorted_ends()
    return (sums(torch.arange(len(dst), device=p.device), dst, p.inputs[0], p.num_nodes),)


def scatter_reference(p: Problem) -> Outputs:
    """As ``segment_reference``, in the order of the caller's edges."""
    dst = p.edge_index[1]
    return (sums(torch.arange(len(dst), device=p.device), dst, p.inputs[0], p.num_nodes),)


def softmax_reference(p: Problem) -> Outputs:
    _, dst, _ = p.sorted_ends()
    # values are small enough to raise to e as they are
    term = p.inputs[0].double().exp()
    total = term.new_zeros(p.num_nodes, term.size(1)).index_add_(0, dst, term)
    return (term / total[dst],)


def products_reference(p: Problem) -> Outputs:
    (src, dst), (a, b) = p.edge_index, p.inputs
    found = [
        (a[dst[part]].double() * b[src[part]].double()).sum(1)
        for part in chunks(src.numel(), a.size(1))
    ]
    return (torch.cat(found),)


def gather_reference(p: Problem) -> Outputs:
    return (p.inputs[0][p.edge_index[0]],)


def attention_reference(p: Problem) -> Outputs:
    """A head at a time; with gradients by autograd, which only small graphs have the memory for."""
    src, dst = p.edge_index
    inputs = [value.double() for value in p.inputs]

    def attend(h: Tensor, left: Tensor, right: Tensor) -> Tensor:
        heads = []
        for head in range(h.size(1)):
            term = leaky_relu(left[src, head] + right[dst, head], SLOPE).exp()
            total = term.new_zeros(p.num_nodes).index_add(0, dst, term)
            alpha = (term / total[dst]).unsqueeze(1)
            if p.dy is None:
                heads.append(sums(src, dst, h[:, head], p.num_nodes, alpha))
            else:
                zeros = h.new_zeros(p.num_nodes, h.size(2))
                heads.append(zeros.index_add(0, dst, alpha * h[src, head]))
        return torch.stack(heads, 1)

    return passes(attend, inputs, None if p.dy is None else p.dy.double())()


def build_reference(p: Problem) -> Outputs:
    return (torch.bincount(p.edge_index[1], minlength=p.num_nodes).cumsum(0).double(),)


def dropout_reference(p: Problem) -> Outputs:
    return (torch.tensor([0.5, 0.0], dtype=torch.float64, device=p.device),)


# -- contenders: functions of the inputs, made of a problem ----------------------------------------

Function = Callable[..., Tensor]


def cusparse(p: Problem) -> Function:
    """int32 CSR both ways, kept; torch's own gradient would transpose in every call."""
    made = []
    for side in (p.graph.by_dst, p.graph.by_src):
        assert side is not None
        ones = torch.ones(side.num_edges, dtype=p.inputs[0].dtype, device=p.device)
        size = (p.num_nodes, p.num_nodes)
        made.append(torch.sparse_csr_tensor(side.indptr.int(), side.indices, ones, size))
    return lambda x: _Product.apply(*made, x)  # pyright: ignore[reportReturnType]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adj: Tensor, adj_t: Tensor, x: Tensor) -> Tensor:
        ctx.adj_t = adj_t
        return adj @ x

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> Any:
        return None, None, ctx.adj_t @ dy[0]


def pyg_scatter(reduce: str, p: Problem) -> Function:
    """The messages of all edges, then scatter: what a layer called with edge_index does."""
    need("torch_geometric")
    from torch_geometric.utils import scatter

    src, dst = p.edge_index
    return lambda x: scatter(x.index_select(0, src), dst, 0, p.num_nodes, reduce)


def edge_index(p: Problem) -> Function:
    """PyG's fused product on sorted edges, caches filled."""
    need("torch_geometric")
    from torch_geometric import EdgeIndex

    make: Any = EdgeIndex
    adj, _ = make(p.edge_index, sparse_size=(p.num_nodes, p.num_nodes)).sort_by("col")
    adj.fill_cache_()
    x = p.inputs[0]
    # the ones that it keeps are float32
    ones = None if x.dtype == torch.float32 else x.new_ones(adj.size(1))
    return lambda x: adj.matmul(x, ones, transpose=True)


def torch_scatter(reduce: str, gathers: bool, p: Problem) -> Function:
    """In the order of destinations, then segments, which need no atomics."""
    need("torch_scatter")
    from torch_scatter import segment_csr  # pyright: ignore[reportMissingImports]

    src, _, ptr = p.sorted_ends()
    return lambda x: segment_csr(x.index_select(0, src) if gathers else x, ptr, reduce=reduce)


def torch_scatter_unsorted(p: Problem) -> Function:
    """Atomics."""
    need("torch_scatter")
    from torch_scatter import scatter_sum  # pyright: ignore[reportMissingImports]

    return lambda v: scatter_sum(v, p.edge_index[1], 0, dim_size=p.num_nodes)


def index_add(is_sorted: bool, p: Problem) -> Function:
    """Atomics."""
    dst = p.sorted_ends()[1] if is_sorted else p.edge_index[1]
    return lambda v: v.new_zeros(p.num_nodes, v.size(1)).index_add_(0, dst, v)


def scatter_ours(is_atomic: bool, p: Problem) -> Function:
    """The order of the sums is the edges', whatever their order; atomics are on request."""

    def call(v: Tensor) -> Tensor:
        with scatter.atomic() if is_atomic else nullcontext():
            return scatter.scatter_sum(v, p.edge_index[1], 0, dim_size=p.num_nodes)

    return call


def torch_segment_reduce(p: Problem) -> Function:
    _, _, ptr = p.sorted_ends()
    return lambda v: torch.segment_reduce(v, "sum", offsets=ptr, initial=0.0)


def pyg_softmax(by_ptr: bool, p: Problem) -> Function:
    need("torch_geometric")
    from torch_geometric.utils import softmax

    _, dst, ptr = p.sorted_ends()
    return lambda v: softmax(v, ptr=ptr) if by_ptr else softmax(v, dst, num_nodes=p.num_nodes)


def multiply_gathered(p: Problem) -> Function:
    src, dst = p.edge_index
    return lambda a, b: (a[dst] * b[src]).sum(1)


def sampled_addmm(p: Problem) -> Prepared | Function:
    """cuSPARSE's product at the places of a CSR matrix, whose values come in its order."""
    side = p.graph.by_dst
    zeros = torch.zeros(side.num_edges, dtype=p.inputs[0].dtype, device=p.device)
    size = (p.num_nodes, p.num_nodes)
    # its indices may be int32 too
    adj = torch.sparse_csr_tensor(side.indptr.int(), side.indices, zeros, size)
    order = slice(None) if side.eid is None else torch.argsort(side.eid)
    a, b = p.inputs

    def call() -> Outputs:
        return (torch.sparse.sampled_addmm(adj, a, b.t(), beta=0.0).values(),)

    return Prepared(call, lambda: (call()[0][order],))


def composed_attention(p: Problem) -> Function:
    need("torch_geometric")
    from torch_geometric.utils import scatter, softmax

    src, dst = p.edge_index

    def attend(h: Tensor, left: Tensor, right: Tensor) -> Tensor:
        score = leaky_relu(left.index_select(0, src) + right.index_select(0, dst), SLOPE)
        alpha = softmax(score, dst, num_nodes=p.num_nodes)
        return scatter(h.index_select(0, src) * alpha.unsqueeze(-1), dst, 0, p.num_nodes, "sum")

    return attend


def chance(function: Function, p: Problem) -> Prepared:
    """The share of values kept, and how far those that are kept are from twice the input."""
    x = p.inputs[0]

    def check() -> Outputs:
        y = function(x)
        kept = y != 0
        off = (y - 2 * x)[kept].abs().max().double()
        return (torch.stack([kept.double().mean(), off]),)

    return Prepared(lambda: (function(x),), check)


def ours(function: Callable[..., Tensor], p: Problem) -> Function:
    return partial(function, p.graph)


def build_ours(p: Problem) -> Prepared:
    """Both sides, as training needs them."""

    def call() -> Outputs:
        return (Graph.from_edge_index(p.edge_index, p.num_nodes).by_dst.indptr[1:],)

    return Prepared(call)


def build_edge_index(p: Problem) -> Prepared:
    need("torch_geometric")
    from torch_geometric import EdgeIndex

    make: Any = EdgeIndex

    def call() -> Outputs:
        adj, _ = make(p.edge_index, sparse_size=(p.num_nodes, p.num_nodes)).sort_by("col")
        adj.fill_cache_()
        (ptr, _), _ = adj.get_csc()
        return (ptr[1:],)

    return Prepared(call)


# -- ops -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Op:
    """``inputs`` are shapes of (nodes, edges, width); ``bytes`` are of (nodes, edges, bytes of a
    row, width): those that are compulsory, and those without any reuse of rows in the cache."""

    inputs: Callable[[int, int, int], list[tuple[int, ...]]]
    reference: Callable[[Problem], Outputs]
    bytes: Callable[[int, int, int, int], tuple[int, int]]
    contenders: Mapping[str, Callable[[Problem], Any]]
    tolerance: float | None = None


def _product_bytes(n: int, e: int, row: int, _: int) -> tuple[int, int]:
    return 2 * n * row + 4 * e + 8 * n, e * row + n * row + 4 * e + 8 * n


def _edge_bytes(n: int, e: int, row: int, _: int) -> tuple[int, int]:
    """Values of edges are read or written once, rows of nodes once."""
    size = e * row + n * row + 8 * n
    return size, size


def _build_bytes(n: int, e: int, *_: int) -> tuple[int, int]:
    """The ends are read; of each side columns, edge numbers and offsets are written."""
    size = 16 * e + 2 * (8 * e + 8 * n)
    return size, size


OURS = "graphkit"
OPS = {
    "spmm": Op(
        lambda n, e, width: [(n, width)],
        sum_reference,
        _product_bytes,
        {
            OURS: partial(ours, ops.spmm),
            "cuSPARSE, int32 CSR": cusparse,
            "PyG scatter, edge_index": partial(pyg_scatter, "sum"),
            "PyG EdgeIndex": edge_index,
            "torch_scatter segment_csr": partial(torch_scatter, "sum", True),
        },
    ),
    "spmm max": Op(
        lambda n, e, width: [(n, width)],
        max_reference,
        _product_bytes,
        {
            OURS: partial(ours, partial(ops.spmm, reduce="max")),
            "PyG scatter, edge_index": partial(pyg_scatter, "max"),
            "torch_scatter segment_csr": partial(torch_scatter, "max", True),
        },
    ),
    "segment_reduce": Op(
        lambda n, e, width: [(e, width)],
        segment_reference,
        _edge_bytes,
        {
            OURS: lambda p: lambda v: ops.segment_reduce(v, p.graph.by_dst.indptr),
            "torch index_add": partial(index_add, True),
            "torch segment_reduce": torch_segment_reduce,
            "torch_scatter segment_csr": partial(torch_scatter, "sum", False),
        },
    ),
    "scatter": Op(
        lambda n, e, width: [(e, width)],
        scatter_reference,
        lambda n, e, row, width: (
            e * row + n * row + 8 * e,
            e * row + n * row + 8 * e,
        ),
        {
            OURS: partial(scatter_ours, False),
            "graphkit, atomic": partial(scatter_ours, True),
            "torch index_add": partial(index_add, False),
            "torch_scatter scatter": torch_scatter_unsorted,
        },
    ),
    "segment_softmax": Op(
        lambda n, e, width: [(e, width)],
        softmax_reference,
        lambda n, e, row, _: (2 * e * row + 8 * n, 3 * e * row + 8 * n),
        {
            OURS: lambda p: lambda v: ops.segment_softmax(v, p.graph.by_dst.indptr),
            "PyG softmax by ptr": partial(pyg_softmax, True),
            "PyG softmax by index": partial(pyg_softmax, False),
        },
    ),
    "sddmm": Op(
        lambda n, e, width: [(n, width), (n, width)],
        products_reference,
        lambda n, e, row, width: (
            2 * n * row + e * (8 + row // width) + 8 * n,
            e * row + n * row + e * (8 + row // width) + 8 * n,
        ),
        {
            OURS: partial(ours, ops.sddmm),
            "torch gather, multiply, sum": multiply_gathered,
            "cuSPARSE sampled_addmm": sampled_addmm,
        },
    ),
    "gather": Op(
        lambda n, e, width: [(n, width)],
        gather_reference,
        _edge_bytes,
        {
            OURS: partial(ours, partial(ops.gather, side="src")),
            "torch index_select": lambda p: lambda x: x.index_select(0, p.edge_index[0]),
        },
        tolerance=0.0,
    ),
    "attention": Op(
        lambda n, e, width: [(n, HEADS, width // HEADS), (n, HEADS), (n, HEADS)],
        attention_reference,
        lambda n, e, row, width: (
            2 * n * row + 4 * e + n * (8 + 8 * HEADS),
            e * (row + 4 + 4 * HEADS) + n * (row + 8 + 4 * HEADS),
        ),
        {
            OURS: partial(ours, partial(ops.gat_attention, negative_slope=SLOPE)),
            "PyG softmax and scatter": composed_attention,
        },
    ),
    "dropout": Op(
        lambda n, e, width: [(n, width)],
        dropout_reference,
        lambda n, e, row, _: (2 * n * row, 2 * n * row),
        {
            OURS: partial(chance, ops.dropout),
            "torch dropout": partial(chance, torch.nn.functional.dropout),
        },
        tolerance=0.2,
    ),
    "build": Op(
        lambda n, e, width: [],
        build_reference,
        _build_bytes,
        {OURS: build_ours, "PyG EdgeIndex, sorted and filled": build_edge_index},
        tolerance=0.0,
    ),
}

# op, graph, dtype, width, pass: what the targets name comes first
FORWARD, BOTH = "forward", "forward+backward"
CASES = [
    ("spmm", "arxiv", "float32", 128, FORWARD),
    ("spmm", "products", "float32", 128, FORWARD),
    ("spmm", "products", "bfloat16", 128, FORWARD),
    ("segment_reduce", "products", "float32", 64, FORWARD),
    ("scatter", "products", "float32", 64, FORWARD),
    ("spmm", "reddit", "float32", 128, FORWARD),
    ("spmm", "proteins", "float32", 128, FORWARD),
    ("spmm", "road", "float32", 128, FORWARD),
    ("spmm", "rmat", "float32", 128, FORWARD),
    ("gather", "rmat", "float32", 64, FORWARD),
    ("spmm", "arxiv", "float32", 128, BOTH),
    ("spmm", "arxiv", "bfloat16", 128, FORWARD),
    ("spmm", "arxiv", "float32", 16, FORWARD),
    ("spmm max", "arxiv", "float32", 128, FORWARD),
    ("sddmm", "arxiv", "float32", 128, FORWARD),
    ("segment_softmax", "arxiv", "float32", HEADS, FORWARD),
    ("attention", "arxiv", "float32", 128, FORWARD),
    ("attention", "arxiv", "float32", 128, BOTH),
    ("dropout", "arxiv", "float32", 256, FORWARD),
    ("scatter", "arxiv", "float32", 64, BOTH),
    ("build", "arxiv", "float32", 1, FORWARD),
    ("build", "products", "float32", 1, FORWARD),
    ("segment_softmax", "products", "float32", HEADS, FORWARD),
    ("sddmm", "products", "float32", 128, FORWARD),
    ("attention", "products", "float32", 128, FORWARD),
    ("spmm", "products", "float32", 256, FORWARD),
]
NAMES = ("op", "graph", "dtype", "width", "passes")


def traffic(params: Mapping[str, Any], num_nodes: int, num_edges: int) -> tuple[int, int]:
    """Bytes that are compulsory, and those without reuse; with gradients, of both directions."""
    size = getattr(torch, params["dtype"]).itemsize
    row = params["width"] * size
    found = OPS[params["op"]].bytes(num_nodes, num_edges, row, params["width"])
    # attention's gradient reads the rows of both ends, and so twice
    times = {FORWARD: 1, BOTH: 3 if params["op"] == "attention" else 2}[params["passes"]]
    return times * found[0], times * found[1]


def entry_of(op: str, device: torch.device, shrink: int, notes: dict[str, Notes]) -> Entry:
    """The op as ``contest`` takes it: on ``device``, graphs made smaller by ``shrink``; what is
    known of the contenders' calls goes to ``notes``."""
    spec = OPS[op]

    def problem(graph: str, dtype: str, width: int, passes: str, **_: Any) -> Problem:
        num_nodes, num_edges = (size // shrink for size in graphs.LARGE[graph])
        kind = getattr(torch, dtype)
        shapes = spec.inputs(num_nodes, num_edges, width)
        values = sum(torch.Size(shape).numel() for shape in shapes)
        # inputs, the float64 reference of them all, edges, both sides and what sorting takes
        spare(device, values * (kind.itemsize + 16) + num_edges * 60)
        ends, num_nodes = drawn(graph, device, shrink)
        shapes = spec.inputs(num_nodes, ends.size(1), width)
        inputs = [random(shape, kind, device, seed) for seed, shape in enumerate(shapes)]
        dy = random(shapes[0], kind, device, 9) if passes == BOTH else None
        return Problem(ends, num_nodes, built(graph, device, shrink), inputs, dy)

    def prepare(make: Callable[[Problem], Any], name: str, p: Problem) -> Prepared:
        made = make(p)
        ready = made if isinstance(made, Prepared) else Prepared(passes(made, p.inputs, p.dy))
        notes[name] = Notes()
        measured = timed(ready.call, device, notes[name])
        return Prepared(measured.call, ready.check, seconds=measured.seconds)

    return Entry(
        name=f"gpu {op}",
        path=Path(__file__),
        title=op,
        baseline=OURS,
        tests=(),
        tolerance=lambda dtype, **_: (
            TOLERANCES[dtype] if spec.tolerance is None else spec.tolerance
        ),
        contenders={name: partial(prepare, make, name) for name, make in spec.contenders.items()},
        cases=lambda quick: [],
        problem=problem,
        reference=spec.reference,
        bytes_moved=None,
    )


# -- every op, forward and with gradients ----------------------------------------------------------


def skewed(device: torch.device, num_nodes: int, num_edges: int) -> tuple[Tensor, Graph]:
    """A graph of which a quarter of the edges end at one node, and a quarter begin at one."""
    generator = torch.Generator(device).manual_seed(2)
    ends = torch.randint(num_nodes, (2, num_edges), generator=generator, device=device)
    ends[1, : num_edges // 4] = 0
    ends[0, num_edges // 4 : num_edges // 2] = 1
    ends = ends[:, torch.randperm(num_edges, generator=generator, device=device)]
    return ends, Graph.from_edge_index(ends, num_nodes)


def every_call(ends: Tensor, graph: Graph, width: int, dtype: torch.dtype) -> dict[str, Call]:
    """A call for each op that returns its result and its gradients."""
    device, n, e = ends.device, graph.num_dst, graph.num_edges

    def some(*shape: int, seed: int = 0) -> Tensor:
        return random(shape, dtype, device, seed)

    x, y, w = some(n, width), some(n, width, seed=1), some(e, seed=2)
    v, few = some(e, width, seed=3), some(e, HEADS, seed=4)
    h, right = some(n, HEADS, width), some(n, HEADS, width, seed=5)
    left_score, right_score = some(n, HEADS, seed=6), some(n, HEADS, seed=7)
    functions: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
        "sddmm": (partial(ops.sddmm, graph), [y, x]),
        "gather src": (partial(ops.gather, graph, side="src"), [x]),
        "gather dst": (partial(ops.gather, graph, side="dst"), [x]),
        "segment_softmax": (lambda v: ops.segment_softmax(v, graph.by_dst), [few]),
        "gat_attention": (partial(ops.gat_attention, graph), [h, left_score, right_score]),
        "gatv2_attention": (partial(ops.gatv2_attention, graph), [h, right, some(HEADS, width)]),
    }
    # min is max of the other sign
    reduces: tuple[Literal["sum", "mean", "max"], ...] = ("sum", "mean", "max")
    for reduce in reduces:
        functions |= {
            f"spmm {reduce}": (partial(ops.spmm, graph, reduce=reduce), [x]),
            f"spmm {reduce}, weighted": (partial(ops.spmm, graph, reduce=reduce), [x, w]),
            f"segment_reduce {reduce}": (
                partial(ops.segment_reduce, rows=graph.by_dst, reduce=reduce),
                [v],
            ),
        }
    dst = ends[1]
    functions |= {
        f"scatter {reduce}": (
            lambda v, reduce=reduce: scatter.scatter(v, dst, 0, dim_size=n, reduce=reduce),
            [v],
        )
        for reduce in ("sum", "mean", "max", "mul")
    }
    found: dict[str, Call] = {}
    for name, (function, inputs) in functions.items():
        with torch.no_grad():
            shape = function(*inputs).shape
        found[name] = passes(function, inputs, random(tuple(shape), dtype, device, 8))

    def of_chance(function: Callable[..., Tensor]) -> Outputs:
        torch.manual_seed(5)
        return passes(function, [x], y)()

    pairs = ends[:, :: max(1, e // 4096)].contiguous()
    taken = ends[0, : max(1, e // 2)].contiguous()
    found |= {
        "dropout": lambda: of_chance(ops.dropout),
        "relu_dropout": lambda: of_chance(ops.relu_dropout),
        "common_neighbors": lambda: (ops.common_neighbors(graph, pairs, "adamic_adar"),),
        "intersect": lambda: sides(ops.intersect(graph, pairs)),
        "take_rows": lambda: (ops.take_rows(x, taken),),
        "coo_to_csr": lambda: sides(Graph.from_edge_index(ends, n)),
    }
    return found


def sides(graph: Any) -> Outputs:
    return tuple(t for t in graph.parts() if t is not None)


# -- beyond 2**31 elements -------------------------------------------------------------------------


@dataclass(frozen=True)
class Beyond:
    """Tensors of more than ``limit`` elements; of results some rows are compared, in float64."""

    device: torch.device
    limit: int

    def tall(self, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensor:
        """``[rows, 129]`` with more than ``limit`` elements."""
        return random((self.limit // 129 + 2, 129), dtype, self.device, seed)

    def sparse(self, num_nodes: int) -> Graph:
        """Few edges, half of them between the last nodes, whose rows lie behind ``limit``."""
        generator = torch.Generator(self.device).manual_seed(4)
        size = min(num_nodes, 1000)
        ends = torch.randint(size, (2, 4 * size), generator=generator, device=self.device)
        ends[:, : 2 * size] = num_nodes - 1 - ends[:, : 2 * size]
        return Graph.from_edge_index(ends, num_nodes)

    def ring(self) -> Graph:
        """More than ``limit`` edges: node ``i`` has the 16 nodes from ``i`` on as neighbours."""
        num_nodes = self.limit // 16 + 2
        idx = torch.empty(16 * num_nodes, dtype=torch.int32, device=self.device)
        step = 2**24
        for at in range(0, idx.numel(), step):
            slot = torch.arange(at, min(at + step, idx.numel()), device=self.device)
            idx[at : at + step] = (slot // 16 + slot % 16) % num_nodes
        ptr = torch.arange(0, idx.numel() + 1, 16, device=self.device)
        # as a ring's columns come in the order of its slots, edges have no numbers of their own
        return Graph(Csr(ptr, idx, None), None, num_nodes, num_nodes)

    def cases(self) -> dict[str, tuple[float, Callable[[], list[tuple[Tensor, Tensor]]]]]:
        """Bytes for each element of the limit, and a call that gives results and what is right."""
        return {
            "spmm, rows": (5, self.spmm),
            "spmm max, rows": (5, partial(self.spmm, "max")),
            "spmm, edges": (9, self.spmm_edges),
            "sddmm": (5, self.sddmm),
            "gather": (5, self.gather),
            "segment_reduce": (5, self.segment_reduce),
            "segment_reduce max": (5, partial(self.segment_reduce, "max")),
            "scatter": (9, self.scatter),
            "segment_softmax": (9, self.softmax),
            "attention": (9, self.attention),
            "dropout": (9, self.dropout),
            "common_neighbors": (5, self.common),
            "take_rows": (5, self.take_rows),
        }

    def ends_of(self, graph: Graph) -> Tensor:
        """The first and the last nodes that have edges."""
        node = graph.by_dst.degree().nonzero().squeeze(1)
        return torch.cat([node[:20], node[-20:]])

    def spmm(self, reduce: Any = "sum") -> list[tuple[Tensor, Tensor]]:
        x = self.tall()
        graph = self.sparse(len(x))
        out = ops.spmm(graph, x, reduce=reduce)
        return [(out[row], self.of_row(graph, x, row, reduce)) for row in self.ends_of(graph)]

    def of_row(self, graph: Graph, x: Tensor, row: Tensor, reduce: str) -> Tensor:
        begin, end = graph.by_dst.indptr[row], graph.by_dst.indptr[row + 1]
        messages = x[graph.by_dst.indices[begin:end].long()].double()
        return messages.sum(0) if reduce == "sum" else messages.amax(0)

    def spmm_edges(self) -> list[tuple[Tensor, Tensor]]:
        graph = self.ring()
        x = random((graph.num_src, 2), torch.bfloat16, self.device, 1)
        out = ops.spmm(graph, x)
        rows = (0, 1, graph.num_dst // 2, graph.num_dst - 1)
        near = torch.arange(16, device=self.device)
        return [(out[i], x[(i + near) % graph.num_dst].double().sum(0)) for i in rows]

    def sddmm(self) -> list[tuple[Tensor, Tensor]]:
        a = self.tall()
        graph = self.sparse(len(a))
        src, dst = graph.edge_index()
        return [(ops.sddmm(graph, a, a), (a[dst].double() * a[src].double()).sum(1))]

    def rows(self, values: Tensor) -> Tensor:
        """Offsets of rows of 100 and fewer."""
        ptr = torch.arange(0, len(values) + 100, 100, device=self.device)
        return ptr.clamp_(max=len(values))

    def gather(self) -> list[tuple[Tensor, Tensor]]:
        few = random((self.limit // 129 // 100 + 3, 129), torch.bfloat16, self.device, 2)
        ptr = torch.arange(len(few) + 1, device=self.device) * 100
        idx = torch.zeros(int(ptr[-1]), dtype=torch.int32, device=self.device)
        graph = Graph(Csr(ptr, idx, None), None, len(few), len(few))
        out = ops.gather(graph, few, "dst")
        edge = torch.cat([ptr[:-1][:9], ptr[1:][-9:] - 1])
        return [(out[edge], few[edge // 100].double())]

    def segment_reduce(self, reduce: Any = "sum") -> list[tuple[Tensor, Tensor]]:
        v = self.tall()
        ptr = self.rows(v)
        out = ops.segment_reduce(v, ptr, reduce)
        found = []
        for row in (0, len(out) // 2, max(0, len(out) - 2), len(out) - 1):
            mine = v[ptr[row] : ptr[row + 1]].double()
            want = mine.sum(0) if reduce == "sum" else mine.amax(0) if len(mine) else mine.sum(0)
            found.append((out[row], want))
        return found

    def scatter(self) -> list[tuple[Tensor, Tensor]]:
        """Rows of a hundred, whose values lie a hundredth of the whole apart."""
        v = self.tall()
        count = len(v) // 100 + 1
        index = torch.arange(len(v), device=self.device) % count
        out = scatter.scatter_sum(v, index, 0, dim_size=count)
        rows = (0, count // 2, count - 1)
        return [(out[row], v[row::count].double().sum(0)) for row in rows]

    def softmax(self) -> list[tuple[Tensor, Tensor]]:
        v = self.tall()
        ptr = self.rows(v)
        out = ops.segment_softmax(v, ptr)
        rows = (0, max(0, len(ptr) - 3), len(ptr) - 2)
        parts = [slice(int(ptr[row]), int(ptr[row + 1])) for row in rows]
        return [(out[part], v[part].double().softmax(0)) for part in parts]

    def attention(self) -> list[tuple[Tensor, Tensor]]:
        h = self.tall().unsqueeze(1)
        graph = self.sparse(len(h))
        score = random((len(h), 1), torch.float32, self.device, 3)
        out = ops.gat_attention(graph, h, score, score)
        found = []
        for row in self.ends_of(graph):
            src = graph.by_dst.indices[graph.by_dst.indptr[row] : graph.by_dst.indptr[row + 1]]
            alpha = leaky_relu(score[src.long()] + score[row], SLOPE).double().softmax(0)
            found.append((out[row, 0], (alpha * h[src.long(), 0].double()).sum(0)))
        return found

    def dropout(self) -> list[tuple[Tensor, Tensor]]:
        x = self.tall()
        y = ops.dropout(x, 0.5)
        found = []
        for part in (slice(0, 1000), slice(-1000, None)):
            kept = y[part] != 0
            found.append((y[part], torch.where(kept, 2 * x[part].double(), 0.0)))
            is_half = ((kept.double().mean() - 0.5).abs() < 0.1).double().unsqueeze(0)
            found.append((is_half, torch.ones_like(is_half)))
        return found

    def common(self) -> list[tuple[Tensor, Tensor]]:
        graph = self.ring()
        last = graph.num_dst - 40
        node = torch.arange(last, last + 4, device=self.device)
        pairs = torch.stack([node, node + 3])
        # of 16 neighbours each 13 are the other's too, and one of those is an end of the pair
        return [(ops.common_neighbors(graph, pairs), torch.full((4,), 12.0, device=self.device))]

    def take_rows(self) -> list[tuple[Tensor, Tensor]]:
        x = self.tall()
        index = torch.tensor([len(x) - 1, 0, len(x) - 2], device=self.device)
        return [(ops.take_rows(x, index), x[index].double())]
