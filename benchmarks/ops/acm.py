"""One ACM-GCN layer, forward and backward, beside what it consists of and beside stock operations.

``its products`` is what the layer cannot do without: its linear map, the gradients of its weights
and of its input, and the product over neighbours of twice its width and back; not the mixing. Its
time is what the layer's is to be held against: 1.15 times it is the aim. ``GCNConv`` is our own
layer of the same widths, for the ratio; both are checked against references of their own.

The peers compute the same formulas from the same weights by one concatenated product: PyG's
messages along ``edge_index`` with normalised weights kept from step to step, or torch's CSR matrix.
Features and sizes are those of ogbn-arxiv (128 to 64), and of Chameleon (2,325 to 64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import to_undirected

from benchmarks import graphs
from benchmarks.entry import Call, Prepared
from benchmarks.passes import alone, passes
from graphkit import Graph
from graphkit.nn import ACMConv, GCNConv
from graphkit.ops import spmm

TITLE = "An ACM-GCN layer, forward and backward, float32"
BASELINE = "graphkit"
TESTS = ("tests/nn/test_acm.py", "-k", "formula or promises")
# of the largest value
TOLERANCE = 1e-4
# sums nearer to 0 may round to the other side of it, where ReLU has another slope
KINK = 1e-5

WIDTHS = {"arxiv": 128, "chameleon": 2325}


def cases(quick: bool) -> list[dict[str, Any]]:
    widths = (64,) if quick else (16, 64)
    return [{"graph": name, "width": width} for name in WIDTHS for width in widths]


@dataclass(frozen=True)
class Problem:
    graph: Graph
    edge_index: Tensor
    x: Tensor
    dy: Tensor
    layer: ACMConv

    @property
    def parameters(self) -> list[Tensor]:
        return [value for _, value in sorted(self.layer.named_parameters())]


def problem(graph: str, width: int) -> Problem:
    edge_index, num_nodes = graphs.graph(graph)
    if graph != "arxiv":
        edge_index = to_undirected(edge_index, num_nodes=num_nodes)
    random = torch.Generator().manual_seed(1)
    x = torch.randn(num_nodes, WIDTHS[graph], generator=random)
    dy = torch.randn(num_nodes, width, generator=random)
    torch.manual_seed(2)
    layer = ACMConv(WIDTHS[graph], width)
    p = Problem(Graph.from_edge_index(edge_index, num_nodes), edge_index, x, dy, layer)
    # a few rows have such sums: nothing is asked of their gradients, by any contender
    dy[_nearest_to_0(p) < KINK] = 0
    return p


@torch.no_grad()
def _nearest_to_0(p: Problem) -> Tensor:
    """The least size of what each row's ReLUs are given, in float64."""
    width = p.layer.out_channels
    h = p.x.double() @ p.layer.lin.weight.double().t()
    smooth = _matrix(p, torch.float64) @ h[:, : 2 * width].contiguous()
    high = h[:, width : 2 * width] - smooth[:, width:]
    return torch.cat([smooth[:, :width], high, h[:, 2 * width :]], dim=1).abs().amin(dim=1)


# -- the reference ---------------------------------------------------------------------------------


def formula(x: Tensor, weights: list[Tensor], low_pass: Callable[[Tensor], Tensor]) -> Tensor:
    """ACM's formulas by torch's own operations, over one product of both filtered channels."""
    att, lin, mix = weights
    width = att.size(1)
    h = x @ lin.t()
    smooth = low_pass(h[:, : 2 * width])
    low, high = smooth[:, :width].relu(), (h[:, width : 2 * width] - smooth[:, width:]).relu()
    own = h[:, 2 * width :].relu()
    scores = torch.stack([low @ att[0], high @ att[1], own @ att[2]], dim=1).sigmoid()
    a = (scores @ mix / 3).softmax(dim=1)
    return (a[:, :1] * low + a[:, 1:2] * high + a[:, 2:] * own).relu()


def _normalised(p: Problem, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Edges with a self-loop for each node, and the weight of each: one over the in-degree."""
    every = torch.arange(len(p.x))
    edge_index = torch.cat([p.edge_index, torch.stack([every, every])], dim=1)
    degree = torch.bincount(edge_index[1], minlength=len(p.x)).to(dtype)
    return edge_index, degree.reciprocal()[edge_index[1]]


def _matrix(p: Problem, dtype: torch.dtype) -> Tensor:
    edge_index, weight = _normalised(p, dtype)
    size = (len(p.x), len(p.x))
    return torch.sparse_coo_tensor(edge_index.flip(0), weight, size).to_sparse_csr()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, turned: Tensor, x: Tensor) -> Tensor:
        ctx.turned = turned
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> Any:
        return None, None, ctx.turned @ dy[0]


def reference(p: Problem) -> tuple[Tensor, ...]:
    matrix = _matrix(p, torch.float64)
    turned = matrix.t().to_sparse_csr()

    def run(x: Tensor) -> Tensor:
        return formula(x, weights, lambda h: _Product.apply(matrix, turned, h))  # pyright: ignore

    weights = [value.detach().double().requires_grad_() for value in p.parameters]
    return passes(run, [p.x.double()], p.dy.double(), weights)()


# -- the contenders --------------------------------------------------------------------------------


def ours(p: Problem) -> Call:
    return passes(lambda x: p.layer(x, p.graph), [p.x], p.dy, p.parameters)


def one_thread(p: Problem) -> Call:
    return alone(ours(p))


def products(p: Problem) -> Prepared:
    """Three products of dense matrices and two over neighbours, on what was made beforehand."""
    width, weight = p.layer.out_channels, p.layer.lin.weight.detach()
    scale, ones = (p.graph.in_degree() + 1.0).reciprocal(), torch.ones(len(p.x))
    random = torch.Generator().manual_seed(3)
    dh, both = (torch.randn(len(p.x), n * width, generator=random) for n in (3, 2))
    turned = p.graph.t()

    def call() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (
                p.x @ weight.t(),
                dh.t() @ p.x,
                dh @ weight,
                spmm(p.graph, both, left=scale, diagonal=ones),
                spmm(turned, both, right=scale, diagonal=ones),
            )

    matrix = _matrix(p, torch.float64)
    x, back, wide = p.x.double(), dh.double(), both.double()
    want = x @ weight.double().t(), back.t() @ x, back @ weight.double(), matrix @ wide
    return Prepared(call, want=(*want, matrix.t().to_sparse_csr() @ wide))


def gcn(p: Problem) -> Prepared:
    """Our GCNConv of the same widths."""
    torch.manual_seed(2)
    conv = GCNConv(p.x.size(1), p.layer.out_channels)
    named = dict(sorted(conv.named_parameters()))
    call = passes(lambda x: conv(x, p.graph), [p.x], p.dy, list(named.values()))
    src, dst = p.edge_index
    loops = torch.bincount(dst[src == dst], minlength=len(p.x)) > 0
    every = torch.arange(len(p.x))[~loops]
    edges = torch.stack([torch.cat([dst, every]), torch.cat([src, every])])
    scale = torch.bincount(edges[0], minlength=len(p.x)).double().rsqrt()
    size = (len(p.x), len(p.x))
    value = scale[edges[0]] * scale[edges[1]]
    matrix = torch.sparse_coo_tensor(edges, value, size).to_sparse_csr()
    bias, weight = (value.detach().double().requires_grad_() for value in named.values())
    turned = matrix.t().to_sparse_csr()

    def exact(x: Tensor) -> Tensor:
        return _Product.apply(matrix, turned, x @ weight.t()) + bias  # pyright: ignore

    want = passes(exact, [p.x.double()], p.dy.double(), [bias, weight])()
    return Prepared(call, want=want)


class _Sum(MessagePassing):
    """The weighted sum over neighbours by PyG's messages."""

    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x, weight=weight)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return weight.unsqueeze(1) * x_j


def _stock(p: Problem, low_pass: Callable[[Tensor], Tensor]) -> Call:
    weights = [nn.Parameter(value.detach().clone()) for value in p.parameters]
    return passes(lambda x: formula(x, weights, low_pass), [p.x], p.dy, weights)


def pyg_edge_index(p: Problem) -> Call:
    """PyG's messages along edge_index, its weights normalised beforehand."""
    edge_index, weight = _normalised(p, torch.float32)
    total = _Sum()
    return _stock(p, lambda h: total(h, edge_index, weight))


def torch_csr(p: Problem) -> Call:
    """torch's CSR matrix and its transpose, normalised beforehand."""
    matrix = _matrix(p, torch.float32)
    turned = matrix.t().to_sparse_csr()
    return _stock(p, lambda h: _Product.apply(matrix, turned, h))  # pyright: ignore


CONTENDERS = {
    "graphkit": ours,
    "graphkit, 1 thread": one_thread,
    "its products": products,
    "GCNConv": gcn,
    "PyG, edge_index": pyg_edge_index,
    "torch CSR": torch_csr,
}
