"""Training of NCN and NCNC and the scores of all links that are held out, with published settings.

An epoch on Cora, whose links are divided 70, 10 and 20 %, and four of the 43 batches of an epoch on
ogbl-ddi. The links of a batch are removed from the graph; as many pairs without one are drawn
before. Before a contender is timed, it scores the first batch with the same weights and without
dropout: its logits and the gradient of the first map are compared with dense formulas in float64.
``torch`` is the way of the official code: matrices of torch_sparse, whose rows are searched for
each other's numbers, and features as they are. (opt: torch_sparse)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import graphs
from benchmarks.entry import Outputs, Prepared
from benchmarks.passes import alone
from graphkit import Graph
from graphkit.data import load, random_link_split
from graphkit.errors import need
from graphkit.nn import NCNCPredictor, NCNEncoder, NCNPredictor
from graphkit.structure import without_edges

TITLE = "NCN and NCNC, training steps and the scores of validation and test"
BASELINE = "graphkit"
TESTS = ("tests/nn/test_ncn.py", "-k", "dense or micro or depth")
TOLERANCE = 1e-4

SCORED = 8192
CORA: dict[str, Any] = dict(
    **dict(conv="puregcn", x_dropout=0.7, tail_dropout=0.3, dropout=0.05, jk=True),
    **dict(width=256, batch=1152, batches=None, edge_dropout=0.4, predictor_dropout=0.05),
    **dict(tail_act=True, two_layer=False, rates=(0.0043, 0.0024)),
)
DDI: dict[str, Any] = dict(
    **dict(conv="puresum", x_dropout=0.0, tail_dropout=0.0, dropout=0.4, jk=False),
    **dict(width=224, batch=24576, batches=4, edge_dropout=0.0, predictor_dropout=0.6),
    **dict(tail_act=False, two_layer=True, rates=(0.0021, 0.0018)),
)
SETTINGS = {"cora": CORA, "ogbl-ddi": DDI}
CALIBRATION = {"scale": 4.3, "offset": 2.8, "pt": 0.75, "alpha": 1.0}


def cases(quick: bool) -> list[dict[str, Any]]:
    chosen = [("cora", "ncn"), ("cora", "ncnc")]
    if not quick:
        chosen += [("ogbl-ddi", "ncn")]
    return [{"graph": graph, "model": model} for graph, model in chosen]


@dataclass(frozen=True)
class Problem:
    """``edge_index`` holds both directions of the training links, sorted by destination; pairs are
    [2, n]. ``x`` are features, or None where every node has a learnt vector."""

    model: str
    set: dict[str, Any]
    num_nodes: int
    x: Tensor | None
    edge_index: Tensor
    batches: list[tuple[Tensor, Tensor]]
    held_out: Tensor

    def ours(self) -> tuple[NCNEncoder, NCNPredictor]:
        """Modules, with the same weights in every call."""
        s = self.set
        names = ("x_dropout", "tail_dropout", "dropout", "jk")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            channels = None if self.x is None else self.x.size(1)
            encoder = NCNEncoder(
                channels,
                s["width"],
                1,
                s["conv"],
                num_embeddings=self.num_nodes if self.x is None else None,
                residual=not s["jk"],
                **{name: s[name] for name in names},
            )
            kind = NCNCPredictor if self.model == "ncnc" else NCNPredictor
            predictor = kind(
                s["width"],
                dropout=s["predictor_dropout"],
                edge_dropout=s["edge_dropout"],
                use_xlin=True,
                tail_act=s["tail_act"],
                two_layer=s["two_layer"],
                **(CALIBRATION if self.model == "ncnc" else {}),
            )
        return encoder, predictor


def problem(graph: str, model: str) -> Problem:
    edge_index, num_nodes = graphs.graph(graph)
    data: Any = load(graph, download=False)
    if graph == "cora":
        split = random_link_split(edge_index, num_nodes, fractions=(0.7, 0.1, 0.2), seed=0)[1]
    else:
        split = data.split_edge
    links = split["train"]["edge"].t()
    random = torch.Generator().manual_seed(1)
    order = torch.randperm(links.size(1), generator=random)
    absent = torch.randint(num_nodes, (2, 2 * len(order)), generator=random)
    absent = absent[:, absent[0] != absent[1]][:, : len(order)]
    settings = SETTINGS[graph]
    size = settings["batch"]
    # the last batch, which is smaller, is left out
    count = len(order) // size * size
    halves = links[:, order[:count]].split(size, 1), absent[:, :count].split(size, 1)
    both = torch.cat([links, links.flip(0)], 1)
    both = both[:, (both[1] * num_nodes + both[0]).argsort()].contiguous()
    parts = [split[part][kind] for part in ("valid", "test") for kind in ("edge", "edge_neg")]
    return Problem(
        model,
        settings,
        num_nodes,
        getattr(data, "x", None),
        both,
        list(zip(*halves, strict=True))[: settings["batches"]],
        torch.cat(parts).t().contiguous(),
    )


# -- the reference ---------------------------------------------------------------------------------


def reference(p: Problem) -> Outputs:
    """The first batch by dense matrices, without dropout."""
    encoder, predictor = (module.double() for module in p.ours())
    pairs, absent = p.batches[0]
    adj = torch.zeros(p.num_nodes, p.num_nodes, dtype=torch.float64)
    adj[p.edge_index[1], p.edge_index[0]] = 1
    adj[pairs[0], pairs[1]] = adj[pairs[1], pairs[0]] = 0
    h = _dense_encoder(p, encoder, adj)
    logits = [_dense_logits(p, predictor, h, adj, some) for some in (pairs, absent)]
    _loss(*logits).backward()
    return *(logit.detach() for logit in logits), _first(encoder)


def _dense_encoder(p: Problem, encoder: NCNEncoder, adj: Tensor) -> Tensor:
    if p.x is None:
        assert encoder.vectors is not None
        return adj @ encoder.vectors.weight + encoder.vectors.weight
    assert encoder.lin is not None and encoder.jk is not None
    h = encoder.lin(p.x.double())
    scale = (adj.sum(1) + 1).rsqrt().unsqueeze(1)
    return encoder.jk * (scale * (adj @ (scale * h) + scale * h))


def _dense_logits(
    p: Problem, predictor: Any, h: Tensor, adj: Tensor, pairs: Tensor, depth: int | None = None
) -> Tensor:
    depth = int(p.model == "ncnc") if depth is None else depth
    first, second = adj[pairs[0]], adj[pairs[1]]
    weight = first * second
    if depth:
        for mine, other, end in ((first, second, pairs[1]), (second, first, pairs[0])):
            row, node = (mine * (1 - other)).nonzero().unbind(1)
            # a link of the pair itself is none of its neighbours
            away = (node != pairs[0][row]) & (node != pairs[1][row])
            row, node = row[away], node[away]
            with torch.no_grad():
                inner = [
                    _dense_logits(p, predictor, h, adj, some, 0)
                    for some in torch.stack([end[row], node]).split(4096, 1)
                ]
            weight = weight.index_put((row, node), _calibrated(torch.cat(inner)), accumulate=True)
    c = weight @ (h + _blocked(predictor.xlin, h))
    product = h[pairs[0]] * h[pairs[1]]
    both = predictor.beta * _blocked(predictor.xcnlin, c) + _blocked(predictor.xijlin, product)
    return _blocked(predictor.lin, both).squeeze(1)


def _blocked(block: Any, x: Tensor) -> Tensor:
    for lin, norm in zip(block.lins, block.norms, strict=True):
        x = norm(lin(x)).relu()
    return x if block.tail is None else block.tail(x)


def _calibrated(logit: Tensor) -> Tensor:
    p = (CALIBRATION["scale"] * (logit - CALIBRATION["offset"])).sigmoid()
    return CALIBRATION["alpha"] * CALIBRATION["pt"] * p / (CALIBRATION["pt"] * p + 1 - p)


def _loss(positive: Tensor, negative: Tensor) -> Tensor:
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def _first(encoder: NCNEncoder) -> Tensor:
    """The gradient of the first map, or of the learnt vectors."""
    table: Any = encoder.lin or encoder.vectors
    return table.weight.grad


# -- the contenders --------------------------------------------------------------------------------

# vectors of nodes of a graph, and logits of pairs of it
Encode = Callable[[Any], Tensor]
Predict = Callable[[Tensor, Any, Tensor], Tensor]


def _trained(
    p: Problem,
    modules: Sequence[nn.Module],
    whole: Any,
    without: Callable[[Tensor], Any],
    encode: Encode,
    predict: Predict,
) -> Prepared:
    """Steps on all batches, then the scores of what is held out."""
    groups = [
        {"params": list(module.parameters()), "lr": rate}
        for module, rate in zip(modules, p.set["rates"], strict=True)
    ]
    optimizer = torch.optim.Adam(groups)
    began = [copy.deepcopy(module.state_dict()) for module in modules]

    def mode(training: bool) -> None:
        for module in modules:
            module.train(training)

    def logits(pairs: Tensor, absent: Tensor) -> list[Tensor]:
        graph = without(pairs)
        h = encode(graph)
        return [predict(h, graph, some) for some in (pairs, absent)]

    def run() -> Outputs:
        mode(True)
        for pairs, absent in p.batches:
            optimizer.zero_grad()
            _loss(*logits(pairs, absent)).backward()
            optimizer.step()
        mode(False)
        with torch.no_grad():
            h = encode(whole)
            return tuple(predict(h, whole, some) for some in p.held_out.split(SCORED, 1))

    def check() -> Outputs:
        for module, weights in zip(modules, began, strict=True):
            module.load_state_dict(weights)
            module.zero_grad()
        mode(False)
        found = logits(*p.batches[0])
        _loss(*found).backward()
        encoder: Any = modules[0]
        return *(logit.detach() for logit in found), _first(encoder)

    return Prepared(run, check)


def graphkit(p: Problem) -> Prepared:
    encoder, predictor = p.ours()
    graph = Graph.from_edge_index(p.edge_index, p.num_nodes)
    return _trained(
        p,
        (encoder, predictor),
        graph,
        lambda pairs: without_edges(graph, pairs),
        lambda graph: encoder(p.x, graph),
        predictor,
    )


def one_thread(p: Problem) -> Prepared:
    made = graphkit(p)
    return Prepared(alone(made.call), made.check)


def torch_sparse(p: Problem) -> Prepared:
    """The same weights in the steps of the official code."""
    need("torch_sparse")
    encoder, predictor = p.ours()
    size = p.num_nodes
    key = p.edge_index[1] * size + p.edge_index[0]

    def matrix(edges: Tensor) -> Any:
        from torch_sparse import SparseTensor  # pyright: ignore[reportMissingImports]

        return SparseTensor(
            row=edges[1], col=edges[0], sparse_sizes=(size, size), is_sorted=True, trust_data=True
        )

    def without(pairs: Tensor) -> Any:
        gone = torch.cat([pairs[0] * size + pairs[1], pairs[1] * size + pairs[0]])
        return matrix(p.edge_index[:, ~torch.isin(key, gone)])

    def encode(adj: Any) -> Tensor:
        training, s = encoder.training, p.set
        if p.x is None:
            assert encoder.vectors is not None
            h = F.dropout(encoder.vectors.weight, s["dropout"], training)
            return adj.matmul(h) + h
        assert encoder.lin is not None and encoder.jk is not None
        h = encoder.lin(F.dropout(p.x, s["x_dropout"], training))
        h = F.dropout(h, s["dropout"], training)
        scale = (adj.sum(1) + 1).rsqrt().unsqueeze(1)
        h = scale * h
        h = scale * (adj.matmul(h) + h)
        return encoder.jk * F.dropout(h, s["tail_dropout"], training)

    def predict(h: Tensor, adj: Any, pairs: Tensor) -> Tensor:
        kept = adj
        if predictor.training and p.set["edge_dropout"]:
            keep = torch.rand(adj.nnz()) >= p.set["edge_dropout"]
            row, col, _ = adj.coo()
            kept = matrix(torch.stack([col, row])[:, keep])
        return _searched(p, predictor, h, kept, pairs, int(p.model == "ncnc"))

    modules = (encoder, predictor)
    return _trained(p, modules, matrix(p.edge_index), without, encode, predict)


def _searched(p: Problem, predictor: Any, h: Tensor, adj: Any, pairs: Tensor, depth: int) -> Tensor:
    """The logits: rows of both ends are selected, and their numbers searched for each other."""
    from torch_sparse import SparseTensor  # pyright: ignore[reportMissingImports]

    size, count = p.num_nodes, pairs.size(1)
    mine, other = (_numbers(adj, end, size) for end in pairs)
    place = torch.searchsorted(mine, other).clamp_(max=max(0, len(mine) - 1))
    hit = mine[place] == other if len(mine) else torch.zeros_like(other, dtype=torch.bool)
    mapped = h + _stock(p, predictor, predictor.xlin, h)

    def pooled(numbers: Tensor, weight: Tensor | None) -> Tensor:
        row = torch.div(numbers, size, rounding_mode="floor")
        sets = SparseTensor(
            row=row, col=numbers % size, value=weight, sparse_sizes=(count, size),
            is_sorted=True, trust_data=True,
        )  # fmt: skip
        return sets.matmul(mapped)

    c = pooled(other[hit], None)
    if depth:
        alone = torch.ones_like(mine, dtype=torch.bool)
        alone[place[hit]] = False
        for numbers, end in ((mine[alone], pairs[1]), (other[~hit], pairs[0])):
            row, node = torch.div(numbers, size, rounding_mode="floor"), numbers % size
            away = (node != pairs[0][row]) & (node != pairs[1][row])
            asked = torch.stack([end[row[away]], node[away]])
            training = predictor.training
            predictor.eval()
            with torch.no_grad():
                inner = _searched(p, predictor, h, adj, asked, 0)
            predictor.train(training)
            c = c + pooled(numbers[away], _calibrated(inner))
    product = h[pairs[0]] * h[pairs[1]]
    both = predictor.beta * _stock(p, predictor, predictor.xcnlin, c)
    both = both + _stock(p, predictor, predictor.xijlin, product)
    return _stock(p, predictor, predictor.lin, both).squeeze(1)


def _numbers(adj: Any, nodes: Tensor, size: int) -> Tensor:
    pair, node, _ = adj[nodes].coo()
    return pair * size + node


def _stock(p: Problem, predictor: Any, block: Any, x: Tensor) -> Tensor:
    for lin, norm in zip(block.lins, block.norms, strict=True):
        x = F.dropout(norm(lin(x)), p.set["predictor_dropout"], predictor.training).relu()
    return x if block.tail is None else block.tail(x)


CONTENDERS = {
    "graphkit": graphkit,
    "graphkit, 1 thread": one_thread,
    "torch_sparse, as the official code": torch_sparse,
}
