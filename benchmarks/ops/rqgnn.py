"""An epoch of training of RQGNN with the published settings, batches made anew as in every epoch.

Molecules with atoms one-hot: 70 % of AIDS and of Tox21_HSE, eight batches of 512 of ogbg-molhiv.
All contenders train the same model, whose filters are frozen as in the official code, on the same
batches in the same order, and read the quadratic form x^T L x of each graph; in one more case the
filters are trained. Before a contender is timed, its logits of the first batch, with the same
weights and without dropout, and the gradient of the first map are compared with dense matrices in
float64, one graph after the other.

``PyG`` makes batches as its loader does and has the edge form and the pooling in scatters, one
ChebConv for each filter. ``official`` is the way of the official code: dense matrices of every
graph for x^T L x and a block-diagonal matrix in scipy's lists of lists, made again in every epoch;
in the model a dense matrix of graphs and nodes and a loop over graphs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from scipy.sparse import csgraph
from torch import Tensor, nn
from torch.nn.functional import dropout, leaky_relu, one_hot
from torch_geometric.data import Batch, Data
from torch_geometric.nn import ChebConv, global_add_pool
from torch_geometric.utils import degree

from benchmarks import graphs
from benchmarks.entry import Outputs, Prepared
from benchmarks.passes import alone
from graphkit import Graph
from graphkit.data import GraphSet
from graphkit.nn import RQGNN, ClassBalancedFocalLoss
from graphkit.structure import rayleigh_quotient
from graphkit.testing import dense_adjacency

TITLE = "RQGNN, an epoch of training"
BASELINE = "graphkit"
TESTS = ("tests/nn/test_rqgnn.py", "-k", "formula or one_by_one")
TOLERANCE = 1e-4

GRAPHS_IN_BATCH, RATE, DROPOUT = 512, 5e-3, 0.4
MOST_BATCHES = {"ogbg-molhiv": 8}
SLOPE = 0.01


def cases(quick: bool) -> list[dict[str, Any]]:
    chosen = [("aids", "frozen")]
    if not quick:
        chosen += [("tox21-hse", "frozen"), ("tox21-hse", "trained"), ("ogbg-molhiv", "frozen")]
    return [{"data": data, "filters": filters} for data, filters in chosen]


def entrants(data: str, filters: str) -> list[str]:
    # nothing of the official code's filters is trained
    return [name for name in CONTENDERS if filters == "frozen" or name != "official"]


@dataclass(frozen=True)
class Problem:
    """Graphs with one-hot x, their classes, and the numbers of those of each batch."""

    graphs: GraphSet
    y: Tensor
    batches: list[Tensor]
    train_filters: bool

    def model(self) -> RQGNN:
        """With the same weights in every call."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return RQGNN(
                self.graphs.num_features,
                dropout=DROPOUT,
                train_filters=self.train_filters,
                rq_mode="energy",
            )

    def loss(self) -> ClassBalancedFocalLoss:
        return ClassBalancedFocalLoss(self.y[torch.cat(self.batches)].bincount(minlength=2))


def problem(data: str, filters: str) -> Problem:
    found = graphs.whole_graphs(data)
    x = found.x
    if not x.is_floating_point():
        # of the columns of a molecule the first is the atom
        x = one_hot(torch.unique(x[:, 0], return_inverse=True)[1]).float()
    y = (found.y.view(len(found), -1)[:, 0] > 0).long()
    rarer = 0 if int(y.sum()) * 2 > len(y) else 1
    y = (y == rarer).long()
    kept = GraphSet({**found.tensors, "x": x}, found.name, 2, found.levels)
    random = torch.Generator().manual_seed(0)
    train = torch.randperm(len(kept), generator=random)[: int(0.7 * len(kept))]
    batches = list(train.split(GRAPHS_IN_BATCH))[: MOST_BATCHES.get(data)]
    return Problem(kept, y, batches, filters == "trained")


def reference(p: Problem) -> Outputs:
    """Logits of the first batch and the gradient of the first map, graph by graph."""
    model: Any = p.model().eval().double()
    ids, vectors = p.batches[0], []
    for number in ids.tolist():
        data: Any = p.graphs[number]
        h = data.x.double()
        adjacency = dense_adjacency(Graph.from_edge_index(data.edge_index, len(h)))
        root = torch.where(adjacency.sum(1) > 0, adjacency.sum(1).clamp(min=1).rsqrt(), 0)
        shifted = -root[:, None] * adjacency * root
        laplacian = shifted + (adjacency.sum(1) > 0).double().diag()
        rq = (h.t() @ laplacian @ h).diag()
        for lin in model.before:
            h = leaky_relu(lin(h), SLOPE)
        basis = [h, shifted @ h]
        while len(basis) < model.filters.depth:
            basis.append(2 * shifted @ basis[-1] - basis[-2])
        maps = model.filters.weight
        filtered = [sum(t @ w for t, w in zip(basis, one, strict=True)) for one in maps]
        h = torch.cat(filtered, dim=1) + model.filters.bias
        for lin in model.behind:
            h = leaky_relu(lin(h), SLOPE)
        m = _mapped(model.pool.lins, rq)
        vectors.append(torch.cat([(h @ m) @ h, _branch(model, rq)]))
    logits = model.head(model.norm(torch.stack(vectors)))
    p.loss()(logits, p.y[ids]).backward()
    return logits.detach(), model.before[0].weight.grad


def _mapped(lins: Any, rq: Tensor) -> Tensor:
    for lin in lins:
        rq = leaky_relu(lin(rq), SLOPE)
    return rq


def _branch(model: Any, rq: Tensor) -> Tensor:
    one, two = model.rql
    return leaky_relu(two(one(rq)), SLOPE)


# -- the contenders --------------------------------------------------------------------------------


def _trained(
    p: Problem,
    modules: Sequence[nn.Module],
    first: nn.Linear,
    batch: Callable[[Tensor], Any],
    logits: Callable[[Any], Tensor],
) -> Prepared:
    """Steps on all batches; ``first`` is the first map."""
    loss = p.loss()
    optimizer = torch.optim.Adam([w for module in modules for w in module.parameters()], RATE)
    began = [copy.deepcopy(module.state_dict()) for module in modules]

    def mode(training: bool) -> None:
        for module in modules:
            module.train(training)

    def run() -> Outputs:
        mode(True)
        total = torch.zeros(())
        for ids in p.batches:
            optimizer.zero_grad()
            value = loss(logits(batch(ids)), p.y[ids])
            value.backward()
            optimizer.step()
            total += value.detach()
        return (total,)

    def check() -> Outputs:
        for module, weights in zip(modules, began, strict=True):
            module.load_state_dict(weights)
            module.zero_grad()
        mode(False)
        found = logits(batch(p.batches[0]))
        loss(found, p.y[p.batches[0]]).backward()
        gradient = first.weight.grad
        assert gradient is not None, "the first map is trained"
        return found.detach(), gradient.clone()

    return Prepared(run, check)


def graphkit(p: Problem) -> Prepared:
    model = p.model()
    begin = torch.repeat_interleave(p.graphs.node_ptr[:-1], p.graphs.edge_ptr.diff())
    edges, ptr = p.graphs.edge_index + begin, p.graphs.node_ptr
    rq = rayleigh_quotient(p.graphs.x, edges, ptr=ptr, mode="energy")
    known = GraphSet(
        {**p.graphs.tensors, "rq": rq}, p.graphs.name, 2, {**p.graphs.levels, "rq": "graph"}
    )

    def logits(batch: Any) -> Tensor:
        return model(batch.x, batch.edge_index, rq=batch.rq, ptr=batch.ptr)

    first: Any = model.before[0]
    return _trained(p, (model,), first, known.batch, logits)


def one_thread(p: Problem) -> Prepared:
    made = graphkit(p)
    return Prepared(alone(made.call), made.check)


class _Peer(nn.Module):
    """The model with PyG's layers for filters, with the same weights."""

    def __init__(self, p: Problem) -> None:
        super().__init__()
        self.ours: Any = p.model()
        filters = self.ours.filters
        width = filters.in_channels
        convs = [ChebConv(width, width, filters.depth) for _ in range(filters.width)]
        biases = filters.bias.detach().split(width)
        for conv, maps, bias in zip(convs, filters.weight.detach(), biases, strict=True):
            weights = {f"lins.{k}.weight": one.t() for k, one in enumerate(maps)}
            conv.load_state_dict({**weights, "bias": bias})
        self.ours.filters = None
        self.convs = nn.ModuleList(convs).requires_grad_(p.train_filters)

    def nodes(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = x
        for lin in self.ours.before:
            h = leaky_relu(lin(h), SLOPE)
        h = torch.cat([conv(h, edge_index) for conv in self.convs], dim=1)
        for lin in self.ours.behind:
            h = leaky_relu(lin(h), SLOPE)
        return h

    def read_out(self, pooled: Tensor, rq: Tensor) -> Tensor:
        z = self.ours.norm(torch.cat([pooled, _branch(self.ours, rq)], dim=1))
        return self.ours.head(dropout(z, DROPOUT, self.training))


def _with_form(data: Data) -> Data:
    """With x^T L x of each column, by scatters over edges."""
    x: Any = data.x
    src, dst = data.edge_index  # pyright: ignore[reportGeneralTypeIssues]
    root = degree(dst, len(x)).rsqrt()
    z = torch.where(root.isinf(), 0, root)[:, None] * x
    change = (z[dst] - z[src]).square() / 2
    data.rq = x.new_zeros(1, x.size(1)).index_add(0, torch.zeros_like(dst), change)
    return data


def pyg(p: Problem) -> Prepared:
    model = _Peer(p)
    known = [_with_form(data) for data in p.graphs]

    def batch(ids: Tensor) -> Any:
        return Batch.from_data_list([known[number] for number in ids.tolist()])

    def logits(batch: Any) -> Tensor:
        h = model.nodes(batch.x, batch.edge_index)
        m = _mapped(model.ours.pool.lins, batch.rq)
        weight = (h * m[batch.batch]).sum(1, keepdim=True)
        return model.read_out(global_add_pool(weight * h, batch.batch, batch.num_graphs), batch.rq)

    return _trained(p, (model,), model.ours.before[0], batch, logits)


def official(p: Problem) -> Prepared:
    model = _Peer(p)
    matrices: list[tuple[Any, Any]] = []
    for data in p.graphs:
        ends: Any = data.edge_index
        size = len(data.x)  # pyright: ignore[reportArgumentType]
        ones = np.ones(ends.size(1), dtype=np.float32)
        adjacency = scipy.sparse.coo_array((ones, ends.numpy()), shape=(size, size))
        matrices.append((adjacency.tolil(), data.x.numpy()))  # pyright: ignore

    def batch(ids: Tensor) -> tuple[Tensor, ...]:
        chosen = [matrices[number] for number in ids.tolist()]
        sizes = [len(x) for _, x in chosen]
        total, at = sum(sizes), 0
        joined = scipy.sparse.lil_array((total, total), dtype=np.float32)
        owner, forms = torch.zeros(len(chosen), total), []
        for number, ((adjacency, x), size) in enumerate(zip(chosen, sizes, strict=True)):
            joined[at : at + size, at : at + size] = adjacency
            owner[number, at : at + size] = 1
            dense = csgraph.laplacian(adjacency.tocsr(), normed=True).toarray()
            forms.append(np.diag(x.T @ dense @ x))
            at += size
        edge_index = torch.from_numpy(np.stack(joined.tocoo().coords).astype(np.int64))
        x = torch.from_numpy(np.concatenate([x for _, x in chosen]))
        return x, edge_index, owner, torch.from_numpy(np.stack(forms)).float()

    def logits(batch: tuple[Tensor, ...]) -> Tensor:
        x, edge_index, owner, rq = batch
        h = model.nodes(x, edge_index)
        m, pooled = _mapped(model.ours.pool.lins, rq), []
        for number, row in enumerate(owner):
            of_graph = h[row.bool()]
            pooled.append((of_graph @ m[number]) @ of_graph)
        return model.read_out(torch.stack(pooled), rq)

    return _trained(p, (model,), model.ours.before[0], batch, logits)


CONTENDERS = {
    "graphkit": graphkit,
    "graphkit, 1 thread": one_thread,
    "PyG": pyg,
    "official": official,
}
