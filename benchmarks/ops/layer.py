"""Whole layers and training steps: from a plain edge_index, and full-batch steps of GCN and SAGE.

``GCNConv from edge_index``: one layer of width 64 that gets the edges anew each step, as in
mini-batches; everything made of them is timed. ``GCN step`` and ``SAGE step``: forward, loss,
backward and Adam of two (three) layers, 128 features to 40 classes, dropout 0.5. There each
contender keeps from step to step what its user keeps: the sorted graph, the normalised edges.
Steps are checked on a twin of the model without dropout: loss and all gradients.
``beside_mb`` is the peak beside imports and data. (opt: torch_sparse)
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from benchmarks import graphs
from benchmarks.entry import Call, Prepared
from benchmarks.passes import alone, passes
from graphkit import Graph
from graphkit.errors import need
from graphkit.nn import GCNConv, build_model

TITLE = "Layers and training steps, float32"
BASELINE = "graphkit"
TESTS = ("tests/nn", "-k", "GCNConv or SAGEConv")

CONVERTED = "GCNConv from edge_index"
STEPS = {"GCN step": 2, "SAGE step": 3}
IN, OUT = 128, 40

# torch says this of its CSR tensors
warnings.filterwarnings("ignore", "Sparse (invariant checks|CSR tensor support)", UserWarning)


def cases(quick: bool) -> list[dict[str, Any]]:
    if quick:
        shown = {CONVERTED: 64, "GCN step": 32}
        return [{"graph": "arxiv", "what": what, "width": width} for what, width in shown.items()]
    names = ("arxiv", *graphs.REAL)
    widths = {CONVERTED: 64, **dict.fromkeys(STEPS, 256)}
    return [
        {"graph": name, "what": what, "width": width}
        for name in names
        for what, width in widths.items()
    ]


def tolerance(what: str, **_: Any) -> float:
    """Of the largest value. In a step a sum before a ReLU that rounds to the other side of 0 takes
    a node out of a gradient or into it. Traced on arxiv and Coauthor Physics: where one to six of
    the sums (about 1e-7 in float64) do so, ours or PyG's, errors are up to 2.5e-3, and within 2e-6
    of a float64 reference that is given the signs of the float32 sums."""
    return 1e-4 if what == CONVERTED else 5e-3


TOLERANCE = tolerance


def entrants(what: str, **_: Any) -> list[str]:
    if what == CONVERTED:
        return ["graphkit", "graphkit, Graph", "PyG, edge_index"]
    return [name for name in CONTENDERS if name != "graphkit, Graph"]


@dataclass(frozen=True)
class Problem:
    edge_index: Tensor
    x: Tensor
    y: Tensor
    what: str
    width: int

    def ours(self, dropout: float = 0.5) -> nn.Module:
        """The graphkit model or layer, with the weights that all contenders begin with."""
        torch.manual_seed(2)
        if self.what == CONVERTED:
            return GCNConv(self.width, self.width)
        name = self.what.split()[0].lower()
        layers = STEPS[self.what]
        return build_model(
            name, IN, self.width, OUT, num_layers=layers, dropout=dropout, drop_input=False
        )

    def theirs(self, **options: Any) -> nn.Module:
        """PyG's model with the weights of ours; ``options`` are those of its GCNConv."""
        if self.what.startswith("GCN"):
            made = torch_geometric.nn.GCN(
                IN, self.width, STEPS[self.what], OUT, dropout=0.5, **options
            )
        else:
            made = torch_geometric.nn.GraphSAGE(IN, self.width, STEPS[self.what], OUT, dropout=0.5)
        made.load_state_dict(self.ours().state_dict())
        return made


def problem(graph: str, what: str, width: int) -> Problem:
    edge_index, num_nodes = graphs.graph(graph)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(num_nodes, width if what == CONVERTED else IN, generator=generator)
    y = torch.randint(OUT, (num_nodes,), generator=generator)
    return Problem(edge_index, x, y, what, width)


# -- the reference ---------------------------------------------------------------------------------


def reference(p: Problem) -> tuple[Tensor, ...]:
    """The formulas in float64, with a sparse matrix of torch; parameters in the order of names."""
    model = p.ours(dropout=0.0).double()
    named = dict(sorted(model.named_parameters()))
    matrix = _matrix(p)
    turned = matrix.t().to_sparse_csr()

    def aggregate(x: Tensor) -> Tensor:
        return _Product.apply(matrix, turned, x)  # pyright: ignore[reportReturnType]

    if p.what == CONVERTED:
        weight, bias = named["lin.weight"], named["bias"]
        dy = _direction(p).double()
        layer = [bias, weight]
        return passes(lambda x: aggregate(x @ weight.t()) + bias, [p.x.double()], dy, layer)()
    x = p.x.double()
    for layer in range(STEPS[p.what]):
        x = x.relu() if layer else x
        if p.what.startswith("GCN"):
            conv = f"convs.{layer}."
            x = aggregate(x @ named[f"{conv}lin.weight"].t()) + named[f"{conv}bias"]
        else:
            left, right = (named[f"convs.{layer}.lin_{side}.weight"] for side in "lr")
            bias = named[f"convs.{layer}.lin_l.bias"]
            x = aggregate(x) @ left.t() + bias + x @ right.t()
    loss = cross_entropy(x, p.y)
    return loss.detach(), *torch.autograd.grad(loss, list(named.values()))


def _matrix(p: Problem) -> Tensor:
    """The mean over in-neighbours; for GCN the symmetric normalisation with self-loops."""
    size = len(p.x)
    src, dst = p.edge_index
    if "SAGE" in p.what:
        value = torch.bincount(dst, minlength=size).double().reciprocal()[dst]
    else:
        # an entry of the diagonal is a self-loop, of which every node has one
        src, dst = src[src != dst], dst[src != dst]
        every = torch.arange(size)
        src, dst = torch.cat([src, every]), torch.cat([dst, every])
        scale = torch.bincount(dst, minlength=size).double().rsqrt()
        value = scale[src] * scale[dst]
    return torch.sparse_coo_tensor(torch.stack([dst, src]), value, (size, size)).to_sparse_csr()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, turned: Tensor, x: Tensor) -> Tensor:
        ctx.turned = turned
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> Any:
        return None, None, ctx.turned @ dy[0]


def _direction(p: Problem) -> Tensor:
    return torch.randn(p.x.shape, generator=torch.Generator().manual_seed(3))


# -- the contenders --------------------------------------------------------------------------------


def _gradients(model: nn.Module, loss: Tensor) -> tuple[Tensor, ...]:
    named = dict(sorted(model.named_parameters()))
    return loss.detach(), *torch.autograd.grad(loss, list(named.values()))


def _step(p: Problem, model: nn.Module, forward: Callable[[nn.Module], Tensor]) -> Prepared:
    """A training step of ``model``; what is checked is a twin that drops nothing."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def call() -> tuple[Tensor, ...]:
        optimizer.zero_grad()
        loss = cross_entropy(forward(model), p.y)
        loss.backward()
        optimizer.step()
        return (loss.detach(),)

    return Prepared(call, lambda: _gradients(twin, cross_entropy(forward(twin), p.y)))


def _layer(p: Problem, layer: nn.Module, edges: Tensor | Graph) -> Call:
    parameters = [value for _, value in sorted(layer.named_parameters())]
    return passes(lambda x: layer(x, edges), [p.x], _direction(p), parameters)


def prebuilt(p: Problem) -> Call | Prepared:
    """Steps on a Graph that is built once; the layer on edge_index, as its peers."""
    if p.what == CONVERTED:
        return _layer(p, p.ours(), p.edge_index)
    graph = Graph.from_edge_index(p.edge_index, len(p.x))
    return _step(p, p.ours(), lambda model: model(p.x, graph))


def given_graph(p: Problem) -> Call:
    """The layer on a Graph: what is left without the conversion."""
    return _layer(p, p.ours(), Graph.from_edge_index(p.edge_index, len(p.x)))


def one_thread(p: Problem) -> Prepared:
    ready = prebuilt(p)
    assert isinstance(ready, Prepared)
    return Prepared(alone(ready.call), ready.check)


def pyg_edge_index(p: Problem) -> Call | Prepared:
    """With the normalised edges cached in the layers of a step."""
    if p.what == CONVERTED:
        theirs = torch_geometric.nn.GCNConv(p.width, p.width)
        theirs.load_state_dict(p.ours().state_dict())
        return _layer(p, theirs, p.edge_index)
    model = p.theirs(cached=True)
    return _step(p, model, lambda model: model(p.x, p.edge_index))


def pyg_csr(p: Problem) -> Prepared:
    """On torch's CSR matrix, normalised beforehand for GCN."""
    size = len(p.x)
    edge_index: Any = p.edge_index
    value: Any = torch.ones(p.edge_index.size(1))
    if p.what.startswith("GCN"):
        edge_index, value = gcn_norm(edge_index, None, size)
    coo = torch.sparse_coo_tensor(edge_index.flip(0), value, (size, size))
    adj_t = coo.to_sparse_csr()
    model = p.theirs(normalize=False)
    return _step(p, model, lambda model: model(p.x, adj_t))


def pyg_sparse_tensor(p: Problem) -> Prepared:
    """On torch_sparse's matrix, with its transpose cached, normalised beforehand for GCN."""
    need("torch_sparse")
    from torch_sparse import SparseTensor  # pyright: ignore[reportMissingImports]

    src, dst = p.edge_index
    size = len(p.x)
    adj_t: Any = SparseTensor(row=dst, col=src, sparse_sizes=(size, size))
    if p.what.startswith("GCN"):
        adj_t = gcn_norm(adj_t)
    adj_t.fill_cache_()
    model = p.theirs(normalize=False)
    return _step(p, model, lambda model: model(p.x, adj_t))


CONTENDERS = {
    "graphkit": prebuilt,
    "graphkit, Graph": given_graph,
    "graphkit, 1 thread": one_thread,
    "PyG, edge_index": pyg_edge_index,
    "PyG, torch CSR": pyg_csr,
    "PyG, SparseTensor": pyg_sparse_tensor,
}
