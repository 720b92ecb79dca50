"""Training steps of GraphSAGE on sampled neighbourhoods: three layers of 256, dropout 0.5, Adam.

A call trains on the same batches of 1024 seeds, fan-outs 15, 10, 5, sampled anew by each loader; an
epoch of ogbn-products' 196,615 training nodes has 193 of them. Chance decides the sample, so that a
twin without dropout is checked: the outputs of a batch's seeds against the formulas in float64 on
the edges that were sampled for it. What is watched for memory holds of the problem what the
contender holds: ours has built its graph, and lets go of the ``edge_index``, as a training does.
``beside_mb`` is the peak beside imports and data.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader as PyGNeighborLoader

from benchmarks import graphs
from benchmarks.entry import Prepared
from graphkit import Graph, ops
from graphkit.data import Batch, NeighborLoader, stages
from graphkit.errors import need
from graphkit.nn import build_model

TITLE = "Mini-batch steps of GraphSAGE, batches of 1024"
BASELINE = "graphkit"
TESTS = ("tests/recipes/test_node_mini.py",)
TOLERANCE = 1e-5
BATCH, FANOUT, HIDDEN, IN, OUT = 1024, [15, 10, 5], 256, 100, 47
NUM_BATCHES = {"arxiv": 6, "products": 10}
# a call takes minutes, and the one that is checked has warmed what there is
WARMUP = 0
ONE_LINE = "PyG model, our NeighborLoader"
# GB
GRAPH_MEMORY = {"products": 14}


def cases(quick: bool) -> list[dict[str, Any]]:
    names = ("arxiv",) if quick else ("arxiv", "products")
    return [{"graph": name, "hidden": HIDDEN} for name in names]


def entrants(graph: str, hidden: int) -> list[str]:
    # a minute a round there
    return [name for name in CONTENDERS if graph != "products" or name != ONE_LINE]


@dataclass(frozen=True)
class Problem:
    edge_index: Tensor
    x: Tensor
    y: Tensor
    seeds: Tensor
    hidden: int

    def ours(self) -> nn.Module:
        """The model, with the weights that all contenders begin with."""
        torch.manual_seed(2)
        kept = {"num_layers": len(FANOUT), "dropout": 0.5, "drop_input": False}
        return build_model("sage", IN, self.hidden, OUT, **kept)

    def theirs(self) -> nn.Module:
        made = torch_geometric.nn.GraphSAGE(IN, self.hidden, len(FANOUT), OUT, dropout=0.5)
        made.load_state_dict(self.ours().state_dict())
        return made

    def data(self) -> Data:
        return Data(x=self.x, y=self.y, edge_index=self.edge_index)


def problem(graph: str, hidden: int) -> Problem:
    graphs.spare(GRAPH_MEMORY.get(graph, 0))
    edge_index, num_nodes = graphs.graph(graph)
    random = torch.Generator().manual_seed(1)
    x = torch.randn(num_nodes, IN, generator=random)
    y = torch.randint(OUT, (num_nodes,), generator=random)
    seeds = torch.randperm(num_nodes, generator=random)[: BATCH * NUM_BATCHES[graph]]
    # no other case has this graph, and its ids alone are 2 GB
    graphs.forget()
    return Problem(edge_index, x, y, seeds, hidden)


def reference(p: Problem) -> tuple[Tensor, ...]:
    """What :func:`_steps` makes of the outputs for one batch where they are right."""
    return (torch.ones(min(BATCH, len(p.seeds)), OUT, dtype=torch.float64),)


def _formulas(p: Problem, n_id: Tensor, edge_index: Tensor, count: int) -> Tensor:
    """The outputs of the first ``count`` nodes in float64, over all sampled edges."""
    named = {name: value.detach().double() for name, value in p.ours().named_parameters()}
    src, dst = edge_index
    x = p.x[n_id].double()
    share = torch.bincount(dst, minlength=len(x)).clamp(min=1).double().reciprocal()[dst]
    size = (len(x), len(x))
    mean = torch.sparse_coo_tensor(torch.stack([dst, src]), share, size).to_sparse_csr()
    for layer in range(len(FANOUT)):
        x = x.relu() if layer else x
        conv = f"convs.{layer}."
        x = (
            (mean @ x) @ named[f"{conv}lin_l.weight"].t()
            + named[f"{conv}lin_l.bias"]
            + x @ named[f"{conv}lin_r.weight"].t()
        )
    return x[:count]


def _steps(
    p: Problem,
    model: nn.Module,
    batches: Callable[[], Iterable[Any]],
    forward: Callable[[nn.Module, Any], tuple[Tensor, Tensor]],
    sampled: Callable[[Any], tuple[Tensor, Tensor]],
) -> Prepared:
    """Steps on ``batches``; ``forward`` gives the outputs and labels of a batch's seeds,
    ``sampled`` its nodes and edges."""
    first = next(iter(batches()))
    with torch.no_grad():
        out, y = forward(copy.deepcopy(model).eval(), first)
    want = _formulas(p, *sampled(first), len(y))
    # the sample is the contender's own: what is compared is how far it is from its formulas
    judged = 1 + (out.double() - want) / want.abs().max()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    model.train()

    def call() -> tuple[Tensor, ...]:
        losses = []
        for batch in batches():
            optimizer.zero_grad()
            loss = cross_entropy(*forward(model, batch))
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return (torch.stack(losses),)

    return Prepared(call, lambda: (judged,))


def _staged(p: Problem, transpose: bool) -> Callable[[], Iterator[Batch]]:
    """Passes of our stages, with one thread that makes one batch ahead; they hold no edge_index."""
    graph = Graph.from_edge_index(p.edge_index, len(p.x), transpose=False)
    sampler, seeds, x, y = ops.Sampler(graph, FANOUT), p.seeds, p.x, p.y

    def batches() -> Iterator[Batch]:
        made = stages.seeds(seeds, BATCH, shuffle=False)
        made = stages.sample(made, sampler, transpose=transpose)
        return stages.prefetch(stages.fetch(made, x, y), depth=1)

    return batches


def ours(p: Problem) -> Prepared:
    """Our stages and blocks."""

    def sampled(batch: Any) -> tuple[Tensor, Tensor]:
        return batch.n_id, batch.blocks[0].edge_index()

    def forward(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return model(batch.x, batch.blocks), batch.y

    return _steps(p, p.ours(), _staged(p, transpose=True), forward, sampled)


def _loaded(p: Problem, model: nn.Module, loader: Any) -> Prepared:
    def forward(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        size = batch.batch_size
        return model(batch.x, batch.edge_index)[:size], batch.y[:size]

    return _steps(p, model, lambda: loader, forward, lambda b: (b.n_id, b.edge_index))


def pyg(p: Problem) -> Prepared:
    """PyG's loader on torch_sparse and its model, as its examples are; layers are not trimmed,
    because torch_sparse does not say how many nodes a hop has."""
    need("torch_sparse")
    with warnings.catch_warnings():
        # it would rather have pyg-lib, which is not to be had everywhere
        warnings.simplefilter("ignore")
        loader = PyGNeighborLoader(p.data(), FANOUT, input_nodes=p.seeds, batch_size=BATCH)
    return _loaded(p, p.theirs(), loader)


def one_line(p: Problem) -> Prepared:
    """PyG's model and loop with our NeighborLoader, which says what can be trimmed."""
    loader = NeighborLoader(p.data(), FANOUT, input_nodes=p.seeds, batch_size=BATCH, seed=0)

    def forward(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        size = batch.batch_size
        counts = batch.num_sampled_nodes, batch.num_sampled_edges
        out = model(
            batch.x,
            batch.edge_index,
            num_sampled_nodes_per_hop=counts[0],
            num_sampled_edges_per_hop=counts[1],
        )
        return out[:size], batch.y[:size]

    return _steps(p, p.theirs(), lambda: loader, forward, lambda b: (b.n_id, b.edge_index))


def all_but_sums(p: Problem) -> Prepared:
    """What a step costs however neighbours are summed up: our batches, and for as many rows as each
    layer has destinations the matrix products, by torch, forward and back, our dropout, and Adam;
    no sums, no loss, no autograd. Gradients are the outputs, whose size they have."""
    batches = _staged(p, transpose=False)
    model: Any = p.ours()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    last = len(FANOUT) - 1

    @torch.no_grad()
    def call() -> tuple[Tensor, ...]:
        batch: Any
        for batch in batches():
            x, kept = batch.x, list[tuple[Tensor, Tensor]]()
            for conv, block in zip(model.convs, batch.blocks, strict=True):
                x = x[: block.num_dst]
                y = torch.addmm(conv.lin_l.bias, x, conv.lin_l.weight.t())
                y.addmm_(x, conv.lin_r.weight.t())
                y = ops.relu_dropout(y) if len(kept) < last else y
                kept.append((x, y))
                x = y
            for at in range(last, -1, -1):
                conv, (x, y) = model.convs[at], kept.pop()
                dy = torch.ops.graphkit.relu_dropout_backward(y, y, 2.0) if at < last else y
                conv.lin_l.bias.grad = dy.sum(0)
                for lin in (conv.lin_l, conv.lin_r):
                    lin.weight.grad = dy.t() @ x
                if at:
                    (dy @ conv.lin_l.weight).addmm_(dy, conv.lin_r.weight)
            optimizer.step()
        return (torch.ones(()),)

    right = reference(p)
    return Prepared(call, lambda: right)


def maps_alone(p: Problem) -> Prepared:
    """Only the matrix products of these steps, forward and back, by torch, for as many rows as each
    layer has destinations, without features, sums or an optimizer."""
    graph = Graph.from_edge_index(p.edge_index, len(p.x), transpose=False)
    sampled = stages.sample(stages.seeds(p.seeds, BATCH, shuffle=False), ops.Sampler(graph, FANOUT))
    rows = [[block.num_dst for block in batch.blocks] for batch in sampled]
    widths = [IN, *[p.hidden] * (len(FANOUT) - 1), OUT]
    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    weights = [torch.randn(b, a) for a, b in pairs]
    inputs = [
        torch.randn(max(counts[layer] for counts in rows), a) for layer, (a, _) in enumerate(pairs)
    ]

    def call() -> tuple[Tensor, ...]:
        for counts in rows:
            for layer, (count, weight) in enumerate(zip(counts, weights, strict=True)):
                x = inputs[layer][:count]
                # two maps in each layer; the first one's inputs are data and get no gradient
                for _ in range(2):
                    y = x @ weight.t()
                    y.t() @ x
                    if layer:
                        y @ weight
        return (torch.ones(()),)

    right = reference(p)
    return Prepared(call, lambda: right)


CONTENDERS = {
    "graphkit": ours,
    "all but the sums": all_but_sums,
    "linear maps alone": maps_alone,
    ONE_LINE: one_line,
    "PyG, torch_sparse": pyg,
}
