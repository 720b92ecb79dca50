"""NCN and NCNC against dense formulas in float64, the paper's parameter counts and small cases."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm

from graphkit import ConfigError, Graph, GraphError, ops
from graphkit import nn as gnn
from graphkit.nn import ncn, sparse
from graphkit.nn.ncn_encoder import Conv
from graphkit.structure import without_edges
from graphkit.testing import check_layer, dense_adjacency, graphs

H = 4


def both_ways(edges: list[tuple[int, int]], num_nodes: int) -> Graph:
    ends = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()
    return Graph.from_edge_index(torch.cat([ends, ends.flip(0)], 1), num_nodes)


def friends(num_nodes: int = 9, seed: int = 0) -> Graph:
    """A dense undirected graph with an isolated last node."""
    random = torch.Generator().manual_seed(seed)
    there = (torch.rand(num_nodes, num_nodes, generator=random) < 0.45).triu(1)
    there[:, -1] = False
    return both_ways([(int(a), int(b)) for a, b in there.nonzero()], num_nodes)


def all_pairs(num_nodes: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(num_nodes), torch.arange(num_nodes)).t()


TOY = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 4)]


def predictor(kind: type[gnn.NCNPredictor] = gnn.NCNPredictor, **options: Any) -> Any:
    """With every weight drawn anew, so that none is 0 or 1 by its initialisation."""
    model = kind(H, **options).double()
    for p in model.parameters():
        nn.init.normal_(p, std=0.7)
    return model


def ncnc(**options: Any) -> Any:
    return predictor(
        gnn.NCNCPredictor, **({"scale": 1.3, "offset": 0.4, "alpha": 0.8, "pt": 0.6} | options)
    )


# -- dense formulas --------------------------------------------------------------------------------


def dense_block(block: Any, x: Tensor) -> Tensor:
    for lin, norm in zip(block.lins, block.norms, strict=True):
        x = x @ lin.weight.t() + lin.bias
        if isinstance(norm, nn.LayerNorm):
            x = layer_norm(x, x.shape[-1:], norm.weight, norm.bias)
        x = x.relu()
    return x if block.tail is None else x @ block.tail.weight.t() + block.tail.bias


def dense_logits(model: Any, h: Tensor, graph: Graph, depth: int, quirks: bool = False) -> Tensor:
    """The logits of all pairs [N, N], by a weight of each node for each of them, [N, N, N]."""
    a = (dense_adjacency(graph) > 0).double()
    pools = h if model.xlin is None else h + dense_block(model.xlin, h)
    product = h[:, None] * h[None]
    mine, yours = a[:, None, :], a[None, :, :]
    weight = mine * yours
    if depth:
        inner = dense_logits(model, pools if quirks else h, graph, depth - 1, quirks).detach()
        p = torch.sigmoid(model.scale * (inner - model.offset))
        t: Any = model.pt
        if model.ptlin is not None:
            t = dense_block(model.ptlin, product).sigmoid()
        # of u and the other end: inner[j, u] for neighbours of i
        at_j, at_i = p[None, :, :], p[:, None, :]
        of_mine, of_yours = (model.alpha * t * q / (t * q + 1 - q) for q in (at_j, at_i))
        weight = weight + mine * (1 - yours) * of_mine + yours * (1 - mine) * of_yours
    node = torch.arange(len(h))
    allowed = (node != node[:, None, None]) & (node != node[None, :, None])
    apart = torch.ones_like(weight) if quirks else allowed.double()
    out = dense_block(model.xijlin, product)
    out = out + model.beta * dense_block(model.xcnlin, (weight * apart) @ pools)
    if model.second == "difference":
        rest = (mine * (1 - yours) + yours * (1 - mine)) * allowed
        out = out + model.second_beta * dense_block(model.second_lin, rest @ pools)
    if model.second == "two_hop":
        two = ((a @ a) > 0).double()
        rest = (mine * two[None] + two[:, None] * yours) * allowed
        out = out + model.second_beta * dense_block(model.second_lin, rest @ pools)
    return dense_block(model.lin, out).squeeze(-1)


def options_of(**more: Any) -> dict[str, Any]:
    return {"use_xlin": True, "tail_act": True} | more


MODELS: dict[str, tuple[Callable[[], Any], int]] = {
    "ncn": (lambda: predictor(), 0),
    "ncn-xlin": (lambda: predictor(**options_of()), 0),
    "ncn-two-layer": (lambda: predictor(use_xlin=True, two_layer=True, layer_norm=False), 0),
    "ncn-2": (lambda: predictor(second="two_hop", use_xlin=True), 0),
    "ncn-diff": (lambda: predictor(second="difference"), 0),
    "ncnc": (lambda: ncnc(**options_of()), 1),
    "ncnc-plain": (lambda: ncnc(layer_norm=False, two_layer=True), 1),
    "ncnc2": (lambda: ncnc(depth=2, **options_of()), 2),
    "ncnc3": (lambda: ncnc(depth=3), 3),
    "ncnc-learns-pt": (lambda: ncnc(learn_pt=True, **options_of()), 1),
}


def agree_with_dense(model: Any, graph: Graph, depth: int, quirks: bool = False) -> None:
    """Forward and gradients, of all pairs."""
    pairs = all_pairs(graph.num_dst)
    h = torch.randn(graph.num_dst, H, dtype=torch.float64, requires_grad=True)
    got = model(h, graph, pairs)
    want = dense_logits(model, h, graph, depth, quirks)[pairs[0], pairs[1]]
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    dy = torch.randn_like(got)
    leaves = [h, *model.parameters()]
    ours, theirs = (
        torch.autograd.grad(out, leaves, dy, allow_unused=True, materialize_grads=True)
        for out in (got, want)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_is_the_dense_formula(name: str) -> None:
    build, depth = MODELS[name]
    agree_with_dense(build(), friends(), depth)


@settings(max_examples=25)
@given(graphs(max_nodes=5, bipartite=False))
def test_any_graph(graph: Graph) -> None:
    # directed, with loops, parallel edges, and nodes without an edge
    agree_with_dense(predictor(second="two_hop"), graph, 0)
    agree_with_dense(ncnc(use_xlin=True), graph, 1)


@pytest.mark.parametrize("depth", [1, 2])
def test_official_quirks(depth: int) -> None:
    model = ncnc(depth=depth, official_quirks=True, **options_of())
    agree_with_dense(model, friends(), depth, quirks=True)


def test_gradcheck() -> None:
    model, graph, pairs = predictor(**options_of()), friends(6), all_pairs(6)
    h = torch.randn(6, H, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: model(h, graph, pairs), (h,), fast_mode=True)


# -- what the paper says ---------------------------------------------------------------------------


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_parameters_of_the_leaderboard() -> None:
    # OGB's entries of NCN, ogbl-ppa and ogbl-ddi
    encoder = gnn.NCNEncoder(None, 64, 3, "gcn", num_embeddings=58, residual=True)
    assert count(encoder, gnn.NCNPredictor(64, tail_act=True)) == 33538
    encoder = gnn.NCNEncoder(None, 224, 1, "puresum", num_embeddings=4268, residual=True)
    assert count(encoder, gnn.NCNPredictor(224, use_xlin=True, two_layer=True)) == 1412098


def asked_of(graph: Graph, pair: tuple[int, int], **options: Any) -> tuple[list[int], set[Any]]:
    """The common neighbours of a pair, and the links that NCNC asks about for it."""
    model, asked, pooled = ncnc(**options), set(), []
    ends = torch.tensor(pair).view(2, 1)

    class Seen(gnn.NCNCPredictor):
        def _of_distinct(self, h: Tensor, graph: Graph, pairs: Tensor, depth: int) -> Tensor:
            asked.update(map(tuple, pairs.t().tolist()))
            return super()._of_distinct(h, graph, pairs, depth)

        def _in_parts(
            self, h: Tensor, graph: Graph, pairs: Tensor, depth: int, training: bool
        ) -> Tensor:
            if self.official_quirks:
                asked.update(map(tuple, pairs.t().tolist()))
            return super()._in_parts(h, graph, pairs, depth, training)

        def _decided(self, h: Tensor, pairs: Tensor, common: Any, *more: Any) -> Tensor:
            if torch.equal(pairs, ends) and common.weight is not None:
                pooled.extend(common.node[common.weight == 1].tolist())
            return super()._decided(h, pairs, common, *more)

    model.__class__ = Seen
    model(torch.randn(5, H, dtype=torch.float64), graph, ends)
    return pooled, asked


def test_the_sets_of_a_small_graph() -> None:
    graph = both_ways(TOY, 5)
    assert asked_of(graph, (2, 3)) == ([0], {(3, 1)})
    assert asked_of(graph, (2, 4)) == ([1], {(4, 0)})
    assert asked_of(graph, (3, 4)) == ([], {(4, 0), (3, 1)})
    hidden = without_edges(graph, torch.tensor([[0], [1]]))
    assert asked_of(hidden, (0, 1)) == ([2], {(1, 3), (0, 4)})
    # with their link in sight the ends are not among the sets, but officially they are
    assert asked_of(graph, (0, 1)) == ([2], {(1, 3), (0, 4)})
    quirky = asked_of(graph, (0, 1), official_quirks=True)
    assert quirky == ([2], {(1, 3), (0, 4), (1, 1), (0, 0)})


def test_calibration() -> None:
    none = torch.empty(0)
    for logit, given_values, want in (
        (3.0, (4.3, 2.8, 0.75, 1.0), 0.639298),
        (1.0, (5.3, 0.5, 0.5, 0.3), 0.262858),
    ):
        scale, offset, pt, alpha = given_values
        model = gnn.NCNCPredictor(H, scale=scale, offset=offset, pt=pt, alpha=alpha)
        logits = torch.tensor([logit], dtype=torch.float64)
        assert round(float(model._probability(logits, none, none, none)), 6) == want
        p = 1 / (1 + math.exp(-scale * (logit - offset)))
        exact = alpha * pt * p / (pt * p + 1 - p)
        got = float(model._probability(logits, none, none, none))
        assert math.isclose(got, exact, rel_tol=1e-12)


def test_completion_of_depth_0_is_ncn() -> None:
    graph, pairs = friends(), all_pairs(9)
    about = options_of(dropout=0.3, edge_dropout=0.2)
    plain, model = gnn.NCNPredictor(H, **about), gnn.NCNCPredictor(H, depth=0, **about)
    model.load_state_dict(plain.state_dict())
    h = torch.randn(9, H)
    for training in (True, False):
        outs = []
        for one in (plain.train(training), model.train(training)):
            torch.manual_seed(3)
            outs.append(one(h, graph, pairs))
        assert torch.equal(*outs)


def test_probabilities_of_0_and_1() -> None:
    graph, pairs = friends(), all_pairs(9)
    h = torch.randn(9, H, dtype=torch.float64)
    plain = predictor(**options_of())

    def same_weights(**options: Any) -> Tensor:
        model = ncnc(**options_of(**options))
        model.load_state_dict(plain.state_dict())
        return model(h, graph, pairs)

    for depth in (1, 2):
        for nothing in ({"alpha": 0.0}, {"offset": math.inf}):
            got = same_weights(depth=depth, **nothing)
            torch.testing.assert_close(got, plain(h, graph, pairs))
    # every neighbour of either end counts as one of both
    a = dense_adjacency(graph)
    either = ((a[:, None] + a[None]) > 0).double()
    node = torch.arange(9)
    either = either * ((node != node[:, None, None]) & (node != node[None, :, None]))
    x = h + dense_block(plain.xlin, h)
    out = dense_block(plain.xijlin, h[:, None] * h[None])
    out = out + plain.beta * dense_block(plain.xcnlin, either @ x)
    want = dense_block(plain.lin, out).flatten()
    for pt in (0.01, 1.0, 3.0):
        got = same_weights(offset=-math.inf, alpha=1.0, pt=pt)
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("edges", [[], [(0, 1), (2, 3), (4, 5)]])
def test_without_common_neighbours_the_product_decides(edges: list[tuple[int, int]]) -> None:
    graph, model = both_ways(edges, 6), predictor(**options_of())
    h, pairs = torch.randn(6, H, dtype=torch.float64), all_pairs(6)[:, [1, 2, 3, 8, 15, 22]]
    z = h[pairs[0]] * h[pairs[1]]
    nothing = dense_block(model.xcnlin, torch.zeros(1, H, dtype=torch.float64))
    want = dense_block(model.lin, model.beta * nothing + dense_block(model.xijlin, z))
    torch.testing.assert_close(model(h, graph, pairs), want.squeeze(1))
    with torch.no_grad():
        model.beta.zero_()
    product = model.lin(model.xijlin(z, False), False).squeeze(1)
    assert torch.equal(model(h, graph, pairs), product)


@pytest.mark.parametrize("name", MODELS)
def test_the_order_of_the_ends_and_names_of_nodes_do_not_count(name: str) -> None:
    model, graph, pairs = MODELS[name][0](), friends(), all_pairs(9)
    h = torch.randn(9, H, dtype=torch.float64)
    out = model(h, graph, pairs)
    torch.testing.assert_close(model(h, graph, pairs.flip(0)), out)
    place = torch.randperm(9)
    moved = torch.empty_like(h)
    moved[place] = h
    edge_index = place[graph.edge_index()]
    torch.testing.assert_close(model(moved, edge_index, place[pairs]), out)


def test_common_neighbours_are_counted_as_by_the_square() -> None:
    graph, pairs = friends(), all_pairs(9)
    square = dense_adjacency(graph).matrix_power(2)
    sets: Any = ops.intersect(graph, pairs, differences=True)
    counts = [ops.spmm(s, torch.ones(9, 1, dtype=torch.float64)).squeeze(1) for s in sets]
    torch.testing.assert_close(counts[0], square[pairs[0], pairs[1]])
    torch.testing.assert_close(counts[0] + counts[1], graph.in_degree()[pairs[0]].double())
    torch.testing.assert_close(counts[0] + counts[2], graph.in_degree()[pairs[1]].double())


# -- how it is computed ----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2])
def test_parts_change_nothing(depth: int) -> None:
    graph, pairs = friends(), all_pairs(9)
    h = torch.randn(9, H, dtype=torch.float64)
    whole = ncnc(depth=depth, **options_of())
    for size in (1, 7, 1000):
        parts = copy.deepcopy(whole)
        parts.split_size = size
        torch.testing.assert_close(parts(h, graph, pairs), whole(h, graph, pairs))


def test_dropout_leaves_probabilities_alone() -> None:
    # with a block that ends on 0 the logit would be its bias: what is dropped is in the blocks only
    graph, pairs = friends(), all_pairs(9)
    h = torch.randn(9, H, dtype=torch.float64)
    model = ncnc(dropout=0.5, **options_of()).train()
    seen = []
    real = model._probability

    def probability(inner: Tensor, *more: Any) -> Tensor:
        seen.append(inner)
        return real(inner, *more)

    model._probability = probability
    first, second = (model(h, graph, pairs) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(seen[0], seen[1]) and not seen[0].requires_grad
    model.eval()(h, graph, pairs)
    assert torch.equal(seen[0], seen[2])


def test_what_is_the_same_for_many_rows_is_computed_once() -> None:
    # the block of rows that are 0 but for some, with and without dropout
    block, factor = ncn._Block(H, (False, True), 0.4, H), torch.tensor(0.7)
    rows, x, out = torch.tensor([1, 4]), torch.randn(2, H), torch.randn(6, H)
    full = torch.zeros(6, H).index_copy(0, rows, x)
    want = out + factor * block(full, False)
    torch.testing.assert_close(block.added(out, factor, x, rows, False), want)
    with torch.no_grad():
        torch.testing.assert_close(block.added(out.clone(), factor, x, rows, False), want)
    for seed in range(3):
        torch.manual_seed(seed)
        want = out + factor * block(full, True)
        torch.manual_seed(seed)
        torch.testing.assert_close(block.added(out, factor, x, rows, True), want)


def test_neighbours_are_dropped_in_training_alone() -> None:
    graph, pairs = friends(), all_pairs(9)
    h = torch.randn(9, H, dtype=torch.float64)
    empty = both_ways([], 9)
    for model in (predictor(edge_dropout=1.0), ncnc(edge_dropout=1.0)):
        torch.testing.assert_close(model.train()(h, graph, pairs), model(h, empty, pairs))
        assert not torch.allclose(model.eval()(h, graph, pairs), model(h, empty, pairs))
    # each is kept with the same probability
    model = predictor(edge_dropout=0.3)
    kept = torch.stack([model._thinned(graph).in_degree() for _ in range(600)]).double().mean(0)
    degree = graph.in_degree()
    error = (0.3 * 0.7 * degree / 600).sqrt()
    assert bool(((kept - 0.7 * degree).abs() <= 5 * error).all())


def test_some_neighbours_count_for_all() -> None:
    # 4,000 pairs with sets of 7 nodes, one of 2 and an empty one, of which 3 are drawn
    times, size, degree = 4000, 7, 3
    row = torch.arange(times).repeat_interleave(size)
    node = torch.arange(size).repeat(times)
    row = torch.cat([row, torch.tensor([times, times])])
    node = torch.cat([node, torch.tensor([5, 6])])
    sets = Graph.from_edge_index(torch.stack([node, row]), num_src=size, num_dst=times + 2)
    drawn = ncn._drawn(sets, degree)
    assert drawn.weight is not None and drawn.pair.size(0) == times * degree + 2
    total = torch.zeros(times + 2, dtype=torch.float64).index_add(0, drawn.pair, drawn.weight)
    want = torch.tensor([7.0] * times + [2.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(total, want)
    assert drawn.node[-2:].tolist() == [5, 6] and drawn.weight[-2:].tolist() == [1, 1]
    mean = torch.zeros(size, dtype=torch.float64)
    mean.index_add_(0, drawn.node[:-2], drawn.weight[:-2]).div_(times)
    # k draws with the weight n / k each: 1 on average, with a variance of (n - 1) / k
    assert float((mean - 1).abs().max()) < 5 * math.sqrt((size - 1) / degree / times)
    # with replacement: some are drawn twice
    first = drawn.node[:-2].view(times, degree)
    assert bool((first[:, 0] == first[:, 1]).any())
    torch.manual_seed(1)
    again = ncn._drawn(sets, degree)
    torch.manual_seed(1)
    assert torch.equal(ncn._drawn(sets, degree).node, again.node)
    assert not torch.equal(drawn.node, again.node)
    assert ncn._drawn(sets, size).node.tolist() == sets.by_dst.indices.tolist()


def test_drawing_is_asked_for_in_training_and_evaluation_apart() -> None:
    graph, pairs = friends(), all_pairs(9)
    h = torch.randn(9, H, dtype=torch.float64)
    model = ncnc(train_degree=1, **options_of())
    exact = copy.deepcopy(model)
    exact.train_degree = -1
    assert not torch.allclose(model.train()(h, graph, pairs), exact.train()(h, graph, pairs))
    assert torch.equal(model.eval()(h, graph, pairs), exact.eval()(h, graph, pairs))
    model.test_degree = 1
    assert not torch.allclose(model(h, graph, pairs), exact(h, graph, pairs))
    model.test_degree = 9
    torch.testing.assert_close(model(h, graph, pairs), exact(h, graph, pairs))


@pytest.mark.parametrize(
    ("kind", "training", "backend"),
    [
        (gnn.NCNPredictor, True, "eager"),
        pytest.param(gnn.NCNPredictor, True, "aot_eager", marks=pytest.mark.slow),
        pytest.param(gnn.NCNCPredictor, False, "aot_eager", marks=pytest.mark.slow),
    ],
)
def test_compiles_whole(kind: type[gnn.NCNPredictor], training: bool, backend: str) -> None:
    torch.compiler.reset()
    # all neighbours or none, as both draw them by generators of their own
    model = kind(H, layer_norm=False, edge_dropout=float(training)).train(training)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    graph, pairs = friends(), all_pairs(9)
    results = []
    for run in (model, compiled):
        h = torch.linspace(-1, 1, 9 * H).view(9, H).requires_grad_()
        out = run(h, graph, pairs)
        results.append([out, *torch.autograd.grad(out.square().sum(), (h, *model.parameters()))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", [gnn.NCNPredictor, gnn.NCNCPredictor])
def test_dtypes(kind: type[gnn.NCNPredictor]) -> None:
    graph, pairs = friends(), all_pairs(9)
    model, h = kind(H, use_xlin=True), torch.randn(9, H)
    out = model(h, graph, pairs)
    assert out.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        low = model(h, graph, pairs)
    assert float((low.float() - out).detach().abs().max()) < 0.1
    low.float().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and bool(p.grad.isfinite().all()), name
    wide = copy.deepcopy(model).double()(h.double(), graph, pairs)
    torch.testing.assert_close(wide.float(), out, rtol=1e-4, atol=1e-5)


def test_no_pairs_equal_ends_and_isolated_nodes() -> None:
    h = torch.randn(9, H, dtype=torch.float64, requires_grad=True)
    for build, _ in MODELS.values():
        model = build()
        none = model(h, friends(), all_pairs(9)[:, :0])
        assert none.shape == (0,)
        none.sum().backward()
        same = torch.tensor([[3, 8], [3, 8]])
        assert bool(model(h, friends(), same).isfinite().all())
        assert bool(model(h, both_ways([], 9), same).isfinite().all())


def test_state() -> None:
    graph, pairs = friends(), all_pairs(9)
    h = torch.randn(9, H)
    for model in (gnn.NCNPredictor(H, second="difference"), gnn.NCNCPredictor(H, learn_pt=True)):
        out = model(h, graph, pairs)
        twin = copy.deepcopy(model)
        assert torch.equal(twin(h, graph.edge_index(), pairs.int()), out)
        twin.reset_parameters()
        assert not torch.equal(twin(h, graph, pairs), out)
        twin.load_state_dict(model.state_dict())
        assert torch.equal(twin(h, graph, pairs), out)
        assert "edge_dropout=0" in repr(model)


def test_bad_input() -> None:
    graph, h = friends(), torch.randn(9, H)
    pairs = torch.tensor([[0, 1], [2, 9]])
    bad: list[tuple[Any, Any, Any, str]] = [
        (h, graph, pairs, r"edge_label_index\[1, 1\] = 9, but the graph has 9 nodes"),
        (h, graph, -pairs, r"edge_label_index\[0, 1\] = -1"),
        (h, graph, torch.zeros(3, 2).long(), r"has shape \[3, 2\], but a tensor \[2, P\]"),
        (h, graph, pairs.float(), "has dtype torch.float32, but torch.int64"),
        (h, graph, pairs.to("meta"), "is on meta but the graph is on cpu"),
        (h[:, 1:], graph, pairs, r"h has shape \[9, 3\], but \[N, 4\] is expected"),
        (h.long(), graph, pairs, "h has dtype torch.int64, but a floating-point"),
        (h[1:], graph, pairs, "x has 8 source rows but the graph has 9 sources"),
        (h, graph.edge_index() + 1, pairs, "but the graph has 9"),
    ]
    for kind in (gnn.NCNPredictor, gnn.NCNCPredictor):
        model = kind(H)
        for some_h, some_graph, some_pairs, message in bad:
            with pytest.raises(GraphError, match=message):
                model(some_h, some_graph, some_pairs)


def test_bad_options() -> None:
    for options, message in (
        ({"second": "two_hops"}, "unknown second 'two_hops'. Did you mean 'two_hop'"),
        ({"dropout": 1.5}, "NCNPredictor: dropout is 1.5, but a number from 0 to 1"),
        ({"edge_dropout": -0.1}, "edge_dropout is -0.1"),
    ):
        with pytest.raises(ConfigError, match=message):
            gnn.NCNPredictor(H, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="hidden_channels is 0, but at least 1"):
        gnn.NCNPredictor(0)
    for options, message in (
        ({"depth": -1}, "NCNCPredictor: depth is -1, but a whole number"),
        ({"train_degree": 0}, "train_degree is 0, but a whole number above 0"),
        ({"split_size": 2.5}, "split_size is 2.5"),
        ({"scale": 0.0}, "scale is 0.0 and offset"),
        ({"offset": math.nan}, "offset nan"),
        ({"pt": 0.0}, "pt is 0.0 and alpha"),
        ({"alpha": -1.0}, "alpha -1.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            gnn.NCNCPredictor(H, **options)  # pyright: ignore[reportArgumentType]


# -- the encoder -----------------------------------------------------------------------------------

CONVS: tuple[Conv, ...] = (
    "puregcn",
    "gcn",
    "puresum",
    "puremean",
    "puremax",
    "sage",
    "gin",
    "max",
    "none",
)


def dense_encoded(model: Any, x: Tensor, graph: Graph) -> Tensor:
    """The encoder in evaluation, by dense matrices."""
    a = dense_adjacency(graph)
    loops = a + torch.eye(len(a))
    scale = loops.sum(1).pow(-0.5)
    symmetric = scale[:, None] * loops * scale
    mean = a / a.sum(1, keepdim=True).clamp(min=1)

    def largest(h: Tensor) -> Tensor:
        some = torch.where(a[:, :, None] > 0, h[None], -torch.inf).amax(1)
        return torch.where(a.sum(1, keepdim=True) > 0, some, 0.0)

    products: dict[str, Callable[[Tensor], Tensor]] = {
        **dict.fromkeys(("puregcn", "gcn"), lambda h: symmetric @ h),
        **dict.fromkeys(("puresum", "gin"), lambda h: a @ h),
        **dict.fromkeys(("puremean", "sage"), lambda h: mean @ h),
        **dict.fromkeys(("puremax", "max"), largest),
    }
    h = x if model.lin is None else x @ model.lin.weight.t() + model.lin.bias
    out = torch.zeros(())
    for number in range(model.num_layers):
        if model.conv.startswith("pure"):
            after = products[model.conv](h)
        else:
            conv = model.convs[number]
            after = products[model.conv](h @ conv.lin.weight.t()) + conv.bias
            if number < len(model.norms):
                norm = model.norms[number]
                after = layer_norm(after, after.shape[-1:], norm.weight, norm.bias).relu()
        h = after + h if model.residual and after.shape == h.shape else after
        if model.jk is not None:
            out = out + model.jk[number] * h
    return h if model.jk is None or model.num_layers == 0 else out


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_encoder_is_the_dense_formula(conv: Conv, layers: int) -> None:
    graph = friends()
    for width, more in ((5, {}), (6, {"residual": True, "jk": True})):
        model = gnn.NCNEncoder(width, 6, layers, conv, **more).double()
        for p in model.parameters():
            nn.init.normal_(p)
        x = torch.randn(9, width, dtype=torch.float64)
        torch.testing.assert_close(model(x, graph), dense_encoded(model, x, graph))


@pytest.mark.parametrize("conv", CONVS)
def test_encoder_promises(conv: Conv) -> None:
    model = gnn.NCNEncoder(5, 4, 2, conv, residual=True, jk=True)
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            # a row of 0 would be at the edge of ReLU, where there is no gradient
            nn.init.normal_(p)
    check_layer(model, compile_backend=None)


@pytest.mark.slow
@pytest.mark.parametrize("conv", ["puregcn", "sage", "max"])
def test_encoder_compiles(conv: Conv) -> None:
    check_layer(gnn.NCNEncoder(5, 4, 1, conv, layer_norm=False, jk=True))


def test_learnt_vectors() -> None:
    model, graph = gnn.NCNEncoder(None, 6, 2, num_embeddings=10), friends()
    assert model.vectors is not None
    weight = model.vectors.weight
    torch.testing.assert_close(weight.t() @ weight, torch.eye(6))
    ids = torch.arange(9)
    out = model(None, graph)
    assert torch.equal(model(ids, graph), out)
    assert torch.equal(model(None, graph.edge_index(), 9), out)
    assert model(None, graph.edge_index()).shape == (10, 6)
    kinds = torch.tensor([1, 1, 0, 9, 2, 2, 2, 3, 1])
    twin = copy.deepcopy(model)
    assert twin.vectors is not None
    with torch.no_grad():
        twin.vectors.weight[:9] = embedding(kinds, weight)
    assert torch.equal(model(kinds, graph), twin(None, graph))


def test_bags_of_words_are_read_by_what_is_not_0(monkeypatch: pytest.MonkeyPatch) -> None:
    x, graph = torch.zeros(9, 40), friends()
    x[torch.arange(9), torch.arange(9) * 4] = 1.5
    seen: list[Any] = []
    real = sparse.times

    def times(x: Any, weight: Tensor) -> Tensor:
        seen.append(x)
        return real(x, weight)

    monkeypatch.setattr(sparse, "times", times)
    for conv in ("puregcn", "gcn", "sage", "none"):
        model = gnn.NCNEncoder(40, 6, 1, conv, edge_dropout=0.2, x_dropout=0.2)
        seen.clear()
        out = model.eval()(x, graph)
        assert isinstance(seen[0], sparse.SparseRows)
        torch.testing.assert_close(out, model(x + x.new_zeros(()).requires_grad_(), graph))
        model.train()(x, graph).sum().backward()


@pytest.mark.parametrize("conv", ["puresum", "puremean", "gin", "sage"])
def test_edge_dropout_keeps_the_expectation(conv: Conv) -> None:
    torch.manual_seed(2)
    model, graph = gnn.NCNEncoder(H, H, 1, conv, edge_dropout=0.4, layer_norm=False), friends()
    x = torch.randn(9, H)
    if conv in ("gin", "sage"):
        # an activation has no expectation of its own: the convolution alone
        runs = [model.convs[0](x, *model._thinned(graph, x)) for _ in range(500)]
        want = model.convs[0](x, graph, None)
    else:
        runs = [model.train()(x, graph) for _ in range(500)]
        want = model.eval()(x, graph)
    drawn = torch.stack(runs).detach()
    error = drawn.std(0) / math.sqrt(500) + 1e-6
    assert bool(((drawn.mean(0) - want).abs() <= 5 * error).all())
    assert not torch.equal(drawn[0], drawn[1])


def test_a_dropped_edge_is_no_maximum() -> None:
    graph, x = friends(), -torch.rand(9, H) - 1
    model = gnn.NCNEncoder(H, H, 1, "puremax", edge_dropout=0.5)
    h = model.lin(x) if model.lin is not None else x
    with torch.no_grad():
        h.copy_(x)
        assert model.lin is not None
        model.lin.weight.copy_(torch.eye(H))
        model.lin.bias.zero_()
    out = model.train()(x, graph).detach()
    for node in range(9):
        mine = x[dense_adjacency(graph)[node] > 0] * 2
        for channel in range(H):
            # the number of a neighbour, scaled, or 0 where none is left
            value = out[node, channel]
            assert bool(((mine[:, channel] - value).abs() < 1e-5).any()) or float(value) == 0


def test_what_is_dropped_where() -> None:
    graph, x = friends(), torch.randn(9, 5)
    for name, nothing in (("x_dropout", False), ("tail_dropout", True), ("dropout", True)):
        every: dict[str, Any] = {name: 1.0}
        model = gnn.NCNEncoder(5, 6, 2, **every).train()
        out = model(x, graph)
        assert bool((out == 0).all()) == nothing
        with torch.no_grad():
            assert model.lin is not None
            model.lin.bias.zero_()
        assert bool((model(x, graph) == 0).all())
        assert bool((model.eval()(x, graph) != 0).any())
    # a convolution with weights ends its block with dropout only where it is alone
    for layers, nothing in ((1, True), (2, False)):
        model = gnn.NCNEncoder(5, 6, layers, "gcn", dropout=1.0, tail_dropout=1.0).train()
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                nn.init.ones_(p)
        assert bool((model(x, graph) == 0).all()) == nothing


def test_bad_encoders() -> None:
    graph, build = friends(), cast("Any", gnn.NCNEncoder)
    for args, options, message in (
        ((5, 4, 1, "puregnc"), {}, "unknown conv 'puregnc'. Did you mean 'puregcn'"),
        ((None, 4), {}, "in_channels is None and num_embeddings None, but one of them"),
        ((5, 4), {"num_embeddings": 3}, "in_channels is 5 and num_embeddings 3"),
        ((0, 4), {}, "in_channels is 0, but at least 1"),
        ((5, -1), {}, "hidden_channels is -1"),
        ((5, 4, -1), {}, "layers is -1"),
        ((5, 4), {"x_dropout": 2.0}, "x_dropout is 2.0, but a number from 0 to 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(*args, **options)
    with pytest.raises(GraphError, match=r"x is None, but features \[N, 5\]"):
        gnn.NCNEncoder(5, 4)(None, graph)
    table = gnn.NCNEncoder(None, 4, num_embeddings=8)
    with pytest.raises(GraphError, match="there are 9 nodes, but 8 learnt vectors"):
        table(None, graph)
    for x in (torch.randn(9, 4), torch.randn(9), torch.zeros(9, 1).long(), [1, 2]):
        with pytest.raises(GraphError, match=r"but int64 \[N\] is expected"):
            table(x, graph)  # pyright: ignore[reportArgumentType]
    with pytest.raises(GraphError, match="the graph has 9"):
        table(torch.zeros(7).long(), graph)
    for wrong in (8, -1):
        with pytest.raises(GraphError, match=rf"x\[3\] = {wrong}, but there are 8 learnt vectors"):
            table(torch.tensor([0, 0, 0, wrong, 0, 0, 0, 0, 0]), graph)
