"""One layer on a directed graph, forward and backward: Dir-GCN, PyG's DirGNNConv, and our GCN.

All map features of a width to as many, with the gradients of x and of all parameters. What each
contender prepares before the clock starts is what a user keeps from step to step: the sorted graph,
PyG's normalised edges. PyG's ``DirGNNConv(GCNConv)`` is not Dir-GNN's layer, which no library has:
it is what its users run in its place, with the same two products and maps. It is held to its own
formula, and so is GCN, which has one product and one map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor, nn

from benchmarks import graphs
from benchmarks.entry import Call, Outputs, Prepared
from benchmarks.passes import alone, passes
from graphkit import Graph
from graphkit.nn import DirGCNConv, GCNConv

TITLE = "Layers on a directed graph, float32, forward+backward"
BASELINE = "graphkit"
TESTS = ("tests/nn", "tests/structure", "-k", "directed or dir or GCNConv")
TOLERANCE = 1e-4


def cases(quick: bool) -> list[dict[str, Any]]:
    names, widths = (("arxiv",), (32,)) if quick else (("arxiv", "rmat"), (64, 128, 256))
    return [
        {"graph": name, "width": width}
        for name in names
        for width in widths
        if name == "arxiv" or width == 64
    ]


@dataclass(frozen=True)
class Problem:
    edge_index: Tensor
    x: Tensor
    dy: Tensor

    @property
    def width(self) -> int:
        return self.x.size(1)

    def ours(self) -> DirGCNConv:
        torch.manual_seed(2)
        return DirGCNConv(self.width, self.width)

    def theirs(self, **options: Any) -> nn.Module:
        torch.manual_seed(2)
        conv = torch_geometric.nn.GCNConv(self.width, self.width, **options)
        return torch_geometric.nn.DirGNNConv(conv, root_weight=False)


def problem(graph: str, width: int) -> Problem:
    edge_index, num_nodes = graphs.graph(graph)
    generator = torch.Generator().manual_seed(1)
    x, dy = (torch.randn(num_nodes, width, generator=generator) for _ in range(2))
    return Problem(edge_index, x, dy)


# -- the references --------------------------------------------------------------------------------


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, turned: Tensor, x: Tensor) -> Tensor:
        ctx.turned = turned
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> Any:
        return None, None, ctx.turned @ dy[0]


def _products(p: Problem, left: Tensor, right: Tensor, loops: bool = False) -> Callable[..., Any]:
    """The product with ``left[u] * right[v]`` for each edge (u, v), and with its transpose."""
    size = len(p.x)
    ends = p.edge_index
    if loops:
        ends = torch.cat([ends, torch.arange(size).expand(2, -1)], 1)
    value = left[ends[0]] * right[ends[1]]
    one = torch.sparse_coo_tensor(ends, value, (size, size)).to_sparse_csr()
    other = torch.sparse_coo_tensor(ends.flip(0), value, (size, size)).to_sparse_csr()

    def product(x: Tensor, turned: bool) -> Any:
        pair = (other, one) if turned else (one, other)
        return _Product.apply(*pair, x)

    return product


def _degrees(p: Problem) -> tuple[Tensor, Tensor]:
    out, into = (torch.bincount(end, minlength=len(p.x)).double() for end in p.edge_index)
    return out, into


def _root(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, degree.rsqrt(), 0)


def _gradients(p: Problem, module: nn.Module, function: Callable[..., Tensor]) -> Outputs:
    parameters = [value for _, value in sorted(module.named_parameters())]
    return passes(function, [p.x.double()], p.dy.double(), parameters)()


def reference(p: Problem) -> Outputs:
    """Dir-GCN's formula in float64, with sparse matrices of torch."""
    layer = p.ours().double()
    out, into = _degrees(p)
    product = _products(p, _root(out), _root(into))
    lin_out, lin_in = layer.lin_out, layer.lin_in
    assert lin_out is not None and lin_in is not None

    def formula(x: Tensor) -> Tensor:
        return (lin_out(product(x, False)) + lin_in(product(x, True))) / 2

    return _gradients(p, layer, formula)


def _of_pyg(p: Problem) -> Outputs:
    """DirGNNConv's: each direction takes the degrees that arrive in it for both ends."""
    module: Any = p.theirs().double()
    out, into = (_root(degree) for degree in _degrees(p))
    sides = ((module.conv_out, _products(p, out, out), False),)
    sides += ((module.conv_in, _products(p, into, into), True),)

    def formula(x: Tensor) -> Tensor:
        halves = [product(conv.lin(x), turned) + conv.bias for conv, product, turned in sides]
        return (halves[0] + halves[1]) / 2

    return _gradients(p, module, formula)


def _of_gcn(p: Problem) -> Outputs:
    torch.manual_seed(2)
    layer = GCNConv(p.width, p.width).double()
    scale = (_degrees(p)[1] + 1).rsqrt()
    product = _products(p, scale, scale, loops=True)
    return _gradients(p, layer, lambda x: product(layer.lin(x), True) + layer.bias)


# -- the contenders --------------------------------------------------------------------------------


def _layer(p: Problem, layer: nn.Module, edges: Tensor | Graph) -> Call:
    parameters = [value for _, value in sorted(layer.named_parameters())]
    return passes(lambda x: layer(x, edges), [p.x], p.dy, parameters)


def prebuilt(p: Problem) -> Call:
    """On a Graph that is built once."""
    return _layer(p, p.ours(), Graph.from_edge_index(p.edge_index, len(p.x)))


def given_edges(p: Problem) -> Call:
    """On edge_index, sorted anew in every call."""
    return _layer(p, p.ours(), p.edge_index)


def gcn(p: Problem) -> Prepared:
    """Our GCNConv on a Graph: one product and one map."""
    torch.manual_seed(2)
    layer = GCNConv(p.width, p.width)
    graph = Graph.from_edge_index(p.edge_index, len(p.x))
    return Prepared(_layer(p, layer, graph), want=_of_gcn(p))


def pyg(p: Problem) -> Prepared:
    """With the normalised edges of both directions cached, as is only right on one graph."""
    return Prepared(_layer(p, p.theirs(cached=True), p.edge_index), want=_of_pyg(p))


def pyg_anew(p: Problem) -> Prepared:
    """As it is built by default, which normalises in every call."""
    return Prepared(_layer(p, p.theirs(), p.edge_index), want=_of_pyg(p))


CONTENDERS = {
    "graphkit": prebuilt,
    "graphkit, edge_index": given_edges,
    "graphkit, 1 thread": lambda p: alone(prebuilt(p)),
    "graphkit GCNConv": gcn,
    "PyG DirGNNConv(GCNConv), cached": pyg,
    "PyG DirGNNConv(GCNConv)": pyg_anew,
}
