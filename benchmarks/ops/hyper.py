"""One layer of a hypergraph, forward and backward: HGNN, HGNN+ and AllSetTransformer.

All map features of a width to as many, with the gradients of x and of all parameters. What each
contender prepares before the clock starts is what a user keeps from step to step: the sorted
hypergraph, incidences in an order, sparse matrices. PyG's ``HypergraphConv`` is HGNN+, whose two
products and one map are those of HGNN with other scales, and is compared with the formula of that.
AllSetTransformer (8 heads, MLPs of two maps) is beside what its official code does: keys and values
of all nodes, gathered for each incidence, a softmax by scatter, a sum by scatter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch_geometric.utils import softmax

from benchmarks import graphs
from benchmarks.entry import Call, Outputs, Prepared
from benchmarks.passes import alone, passes
from graphkit.nn import AllSetConv, HGNNConv, HGNNPConv
from graphkit.structure import as_hypergraph

TITLE = "Layers of a hypergraph, float32, forward+backward"
BASELINE = "graphkit"
TESTS = ("tests/nn/test_hypergraph_layers.py", "-k", "dense or number or weight or incidence")
HEADS, SLOPE = 8, 0.2
LAYERS: dict[str, Callable[[int], Any]] = {
    "HGNN": lambda width: HGNNConv(width, width),
    "HGNN+": lambda width: HGNNPConv(width, width, bias=False),
    "AllSetTransformer": lambda width: AllSetConv(width, width, heads=HEADS),
}


def tolerance(layer: str, **_: Any) -> float:
    """Of the largest value. A sum in front of a ReLU that rounds to the other side of 0 changes
    the gradients of AllSetTransformer."""
    return 5e-3 if layer == "AllSetTransformer" else 1e-4


TOLERANCE = tolerance


def cases(quick: bool) -> list[dict[str, Any]]:
    names, width = (("drawn",), 32) if quick else (("walmart-trips", "drawn"), 128)
    return [{"graph": name, "layer": layer, "width": width} for name in names for layer in LAYERS]


def entrants(layer: str, **_: Any) -> list[str]:
    ours = [name for name in CONTENDERS if name.startswith("graphkit")]
    if layer == "AllSetTransformer":
        return [*ours, "torch, scatter", "torch, scatter, sorted", "PyG softmax by ptr, sorted"]
    theirs = ["torch.sparse.mm"]
    if layer == "HGNN+":
        theirs += ["PyG HypergraphConv", "PyG HypergraphConv, sorted by node"]
        theirs += ["PyG HypergraphConv, sorted by hyperedge"]
    return [*ours, *theirs]


@dataclass(frozen=True)
class Problem:
    index: Tensor
    num_nodes: int
    num_edges: int
    x: Tensor
    dy: Tensor
    name: str

    def layer(self) -> nn.Module:
        torch.manual_seed(2)
        return LAYERS[self.name](self.x.size(1))

    def scales(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Of the nodes in front, of hyperedges, of nodes behind."""
        node, edge = (
            torch.bincount(ends, minlength=count).to(dtype)
            for ends, count in zip(self.index, (self.num_nodes, self.num_edges), strict=True)
        )
        inverse = torch.where(edge > 0, edge.reciprocal(), 0)
        if self.name == "HGNN":
            root = torch.where(node > 0, node.rsqrt(), 0)
            return root, inverse, root
        return torch.ones_like(node), inverse, torch.where(node > 0, node.reciprocal(), 0)


def problem(graph: str, layer: str, width: int) -> Problem:
    index, num_nodes, num_edges = graphs.hypergraph(graph)
    generator = torch.Generator().manual_seed(1)
    x, dy = (torch.randn(num_nodes, width, generator=generator) for _ in range(2))
    return Problem(index, num_nodes, num_edges, x, dy, layer)


def _call(p: Problem, layer: nn.Module, function: Callable[[Tensor], Tensor]) -> Call:
    parameters = [value for _, value in sorted(layer.named_parameters())]
    return passes(function, [p.x.to(parameters[0].dtype)], p.dy.to(parameters[0].dtype), parameters)


# -- the reference ---------------------------------------------------------------------------------


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, turned: Tensor, x: Tensor) -> Tensor:
        ctx.turned = turned
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> Any:
        return None, None, ctx.turned @ dy[0]


def _by_matrices(p: Problem, dtype: torch.dtype) -> Callable[[Any, Tensor], Tensor]:
    """HGNN's or HGNN+'s formula with two sparse matrices of torch, and the transpose of each."""
    front, middle, behind = p.scales(dtype)
    node, edge = p.index

    def sides(rows: Tensor, columns: Tensor, value: Tensor, shape: tuple[int, int]) -> Any:
        one = torch.sparse_coo_tensor(torch.stack([rows, columns]), value, shape)
        return one.to_sparse_csr(), one.t().to_sparse_csr()

    up = sides(edge, node, middle[edge] * front[node], (p.num_edges, p.num_nodes))
    down = sides(node, edge, behind[node], (p.num_nodes, p.num_edges))

    def formula(layer: Any, x: Tensor) -> Tensor:
        h: Any = _Product.apply(*up, layer.lin(x))
        return _Product.apply(*down, h)  # pyright: ignore[reportReturnType]

    return formula


def reference(p: Problem) -> Outputs:
    """The formulas in float64, with sparse matrices of torch, or with what is scattered."""
    layer = p.layer().double()
    if p.name == "AllSetTransformer":
        return _call(p, layer, lambda x: _all_set(layer, x, *_halves(p, False), _scattered))()
    formula = _by_matrices(p, torch.float64)
    return _call(p, layer, lambda x: formula(layer, x))()


# -- the contenders --------------------------------------------------------------------------------


def prebuilt(p: Problem) -> Call:
    """On a Graph that is built once."""
    layer, hypergraph = p.layer(), as_hypergraph(p.index, p.num_nodes, p.num_edges)
    return _call(p, layer, lambda x: layer(x, hypergraph))


def given_index(p: Problem) -> Call:
    """On hyperedge_index, sorted anew in every call."""
    layer = p.layer()
    return _call(p, layer, lambda x: layer(x, p.index, None, p.num_edges))


def by_matrices(p: Problem) -> Call:
    layer, formula = p.layer(), _by_matrices(p, torch.float32)
    return _call(p, layer, lambda x: formula(layer, x))


def _pyg(p: Problem, by: int | None) -> Call:
    index = p.index if by is None else p.index[:, p.index[by].argsort(stable=True)].contiguous()
    theirs = torch_geometric.nn.HypergraphConv(p.x.size(1), p.x.size(1), bias=False)
    theirs.load_state_dict(p.layer().state_dict())
    return _call(p, theirs, lambda x: theirs(x, index, num_edges=p.num_edges))


Half = tuple[Tensor, Tensor, Tensor, int]


def _halves(p: Problem, in_order: bool) -> tuple[Half, Half]:
    """From, to, offsets of what stands sorted, and the rows of the result; up and down."""
    found: list[Half] = []
    for to, count in ((1, p.num_edges), (0, p.num_nodes)):
        index = p.index[:, p.index[to].argsort(stable=True)] if in_order else p.index
        ptr = torch.zeros(count + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(index[to], minlength=count), 0, out=ptr[1:])
        found.append((index[1 - to].contiguous(), index[to].contiguous(), ptr, count))
    return found[0], found[1]


def _scattered(score: Tensor, half: Half) -> Tensor:
    _, to, _, count = half
    at = to.unsqueeze(1).expand_as(score)
    top = score.detach().new_zeros(count, score.size(1))
    top.scatter_reduce_(0, at, score.detach(), "amax", include_self=False)
    term = (score - top[to]).exp()
    total = torch.zeros_like(top).scatter_add(0, at, term)
    return term / total[to]


def _by_ptr(score: Tensor, half: Half) -> Tensor:
    return softmax(score, ptr=half[2])


def _all_set(
    layer: Any, x: Tensor, up: Half, down: Half, weigh: Callable[[Tensor, Half], Tensor]
) -> Tensor:
    """AllSetTransformer's layer as its official code computes it."""
    for number, (pool, half) in enumerate(zip(layer.pools, (up, down), strict=True)):
        source, to, _, count = half
        key = pool.lin_key(x).view(len(x), *pool.seed.shape)
        score = (key * pool.seed).sum(-1)
        value = pool.lin_value(x).view_as(key)
        alpha = weigh(leaky_relu(score[source], SLOPE), half)
        message = value[source] * alpha.unsqueeze(-1)
        out = message.new_zeros(count, *message.shape[1:]).index_add_(0, to, message) + pool.seed
        y = pool.norm_0(out.flatten(1))
        x = pool.norm_1(y + pool.mlp(y).relu())
        x = x.relu() if number == 0 else x
    return x


def _plain(p: Problem, in_order: bool, weigh: Callable[[Tensor, Half], Tensor]) -> Call:
    layer, halves = p.layer(), _halves(p, in_order)
    return _call(p, layer, lambda x: _all_set(layer, x, *halves, weigh))


CONTENDERS: dict[str, Callable[[Problem], Call | Prepared]] = {
    "graphkit": prebuilt,
    "graphkit, hyperedge_index": given_index,
    "graphkit, 1 thread": lambda p: alone(prebuilt(p)),
    "torch.sparse.mm": by_matrices,
    "PyG HypergraphConv": lambda p: _pyg(p, None),
    "PyG HypergraphConv, sorted by node": lambda p: _pyg(p, 0),
    "PyG HypergraphConv, sorted by hyperedge": lambda p: _pyg(p, 1),
    "torch, scatter": lambda p: _plain(p, False, _scattered),
    "torch, scatter, sorted": lambda p: _plain(p, True, _scattered),
    "PyG softmax by ptr, sorted": lambda p: _plain(p, True, _by_ptr),
}
