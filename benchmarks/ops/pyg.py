"""Training steps of PyG's own models, as they are and under ``use_in_pyg()``, with no other change.

Forward, loss, backward and Adam of two layers on a graph of ogbn-arxiv's size, from a plain
edge_index that no layer caches; 128 features to 40 classes, no dropout, four heads for GAT. What
bounds the gain: the same steps with sums over neighbours that cost nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.nn import MessagePassing

from benchmarks import graphs
from benchmarks.entry import Prepared
from benchmarks.passes import alone
from graphkit.interop import use_in_pyg

TITLE = "PyG's models under use_in_pyg, float32"
BASELINE = "PyG under use_in_pyg"
TESTS = ("tests/interop/test_pyg_functions.py", "-k", "layers or train")
# of the largest value; a sum before a ReLU may round to the other side of 0, see layer.py
TOLERANCE = 5e-3

MODELS = ("GCN", "GraphSAGE", "GIN", "GAT")
IN, OUT = 128, 40
# of the reference, which makes messages in float64, at width 256
MEMORY = 24


def cases(quick: bool) -> list[dict[str, Any]]:
    widths, names = ((32,), ("GCN",)) if quick else ((64, 256), MODELS)
    return [{"graph": "arxiv", "model": name, "width": w} for name in names for w in widths]


@dataclass(frozen=True)
class Problem:
    edge_index: Tensor
    x: Tensor
    y: Tensor
    model: str
    width: int

    def made(self) -> nn.Module:
        torch.manual_seed(2)
        options = {"heads": 4} if self.model == "GAT" else {}
        return getattr(torch_geometric.nn, self.model)(IN, self.width, 2, OUT, **options)


def problem(graph: str, model: str, width: int) -> Problem:
    graphs.spare(MEMORY * width / 256)
    edge_index, num_nodes = graphs.graph(graph)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(num_nodes, IN, generator=generator)
    y = torch.randint(OUT, (num_nodes,), generator=generator)
    return Problem(edge_index, x, y, model, width)


def _gradients(p: Problem, model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    loss = cross_entropy(model(x, p.edge_index), p.y)
    return loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))


def reference(p: Problem) -> tuple[Tensor, ...]:
    """PyG's own functions in float64: they are what is to be reproduced."""
    return _gradients(p, p.made().double(), p.x.double())


def as_it_is(p: Problem) -> Prepared:
    model = p.made()
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def call() -> tuple[Tensor, ...]:
        optimizer.zero_grad()
        loss = cross_entropy(model(p.x, p.edge_index), p.y)
        loss.backward()
        optimizer.step()
        return (loss.detach(),)

    return Prepared(call, lambda: _gradients(p, twin, p.x))


def under_graphkit(p: Problem) -> Prepared:
    """Entered anew for each step, which is timed as well: PyG as it is must not see it."""
    ready = as_it_is(p)
    assert ready.check is not None
    check = ready.check

    def call() -> tuple[Tensor, ...]:
        with use_in_pyg():
            return tuple(ready.call())

    def checked() -> tuple[Tensor, ...]:
        with use_in_pyg():
            return tuple(check())

    return Prepared(call, checked)


def one_thread(p: Problem) -> Prepared:
    ready = under_graphkit(p)
    return Prepared(alone(ready.call), ready.check)


def all_but_sums(p: Problem) -> Prepared:
    """The model's linear maps, norms, loss and Adam: layers hand on what they would have summed."""
    model = p.made()
    for layer in model.modules():
        if isinstance(layer, MessagePassing):
            layer.propagate = _handed_on
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    nothing = torch.empty(2, 0, dtype=torch.int64)

    def call() -> tuple[Tensor, ...]:
        optimizer.zero_grad()
        loss = cross_entropy(model(p.x, nothing), p.y)
        loss.backward()
        optimizer.step()
        return (loss.detach(),)

    # it computes something else, so that there is nothing to compare but the model it is made of
    return Prepared(call, lambda: _gradients(p, p.made(), p.x))


def _handed_on(edge_index: Tensor, x: Any, **_: Any) -> Tensor:
    return x[0] if isinstance(x, tuple) else x


def entrants(graph: str, model: str, width: int) -> list[str]:
    # a sum of GAT's is no sum of what its layer hands over
    return [name for name in CONTENDERS if model != "GAT" or name != BOUND]


BOUND = "all but the sums"
CONTENDERS = {
    "PyG under use_in_pyg": under_graphkit,
    "PyG under use_in_pyg, 1 thread": one_thread,
    BOUND: all_but_sums,
    "PyG": as_it_is,
}
