"""Layers and models of hypergraphs: worked numbers, dense formulas, laws, bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.nn import HypergraphConv

from graphkit import ConfigError, Graph, GraphError
from graphkit import nn as gnn
from graphkit.structure import (
    add_singletons,
    as_hypergraph,
    clique_expansion,
    hyperedges_of_pairs,
    to_hyperedge_index,
)
from graphkit.testing import check_layer

# e0 = {0, 1, 2}, e1 = {1, 2, 3}
TOY = torch.tensor([[0, 1, 2, 1, 2, 3], [0, 0, 0, 1, 1, 1]])
TOY_X = torch.tensor([[1.0], [2.0], [3.0], [4.0]])


def identity(layer: nn.Module) -> nn.Module:
    for name, parameter in layer.named_parameters():
        if name.endswith("weight"):
            parameter.data.fill_(1.0)
    return layer


def projected(layer: gnn.HyperGCNConv) -> gnn.HyperGCNConv:
    layer.projection.fill_(1.0)
    return layer


@pytest.mark.parametrize(
    "layer, want",
    [
        (gnn.HGNNConv(1, 1, bias=False), "1.511845 2.845178 2.845178 2.511845"),
        (gnn.HGNNPConv(1, 1, bias=False), "2 2.5 2.5 3"),
        (gnn.UniConv(1, 1, bias=False), "1.549193 2.738613 2.738613 2.323790"),
        (gnn.UniConv(1, 1, "gin", eps=0.5, bias=False), "3.5 8 9.5 9"),
        (gnn.UniConv(1, 1, "sage", bias=False), "3 7 8 7"),
        (gnn.HNHNConv(1, 1, nonlinear=False, bias=False), "1.878680 2.5 2.5 3.121320"),
        (
            projected(gnn.HyperGCNConv(1, 1, bias=False)),
            "1.445154 2.559440 2.702297 3.245154",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_worked_numbers(layer: nn.Module, want: str) -> None:
    out = identity(layer)(TOY_X, TOY).flatten()
    torch.testing.assert_close(out, torch.tensor([*map(float, want.split())]), atol=2e-6, rtol=0)


def test_weights_act_in_messages_and_not_so_in_pyg() -> None:
    weight = torch.tensor([1.0, 2.0])
    ours = identity(gnn.HGNNPConv(1, 1, bias=False))
    theirs = identity(HypergraphConv(1, 1, bias=False))
    want = torch.tensor([2, 8 / 3, 8 / 3, 3])
    torch.testing.assert_close(ours(TOY_X, TOY, weight).flatten(), want)
    want = torch.tensor([2, 5 / 3, 5 / 3, 1.5])
    torch.testing.assert_close(theirs(TOY_X, TOY, weight).flatten(), want)


def test_hgnn_plus_is_pygs_layer_without_weights() -> None:
    x, index = torch.randn(9, 5), to_hyperedge_index(some_hypergraph())
    ours, theirs = gnn.HGNNPConv(5, 3, bias=False), HypergraphConv(5, 3, bias=False)
    theirs.lin.weight.data.copy_(ours.lin.weight.data)
    torch.testing.assert_close(ours(x, index, None, 7), theirs(x, index, num_edges=7))


def some_hypergraph(seed: int = 0) -> Graph:
    """Nine nodes, the last in none; seven hyperedges, of which 2 has one member and 6 none."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(9, 7, generator=generator) < 0.45
    dense[:, 2] = dense[:, 6] = dense[8] = False
    dense[3, 2] = dense[0, 0] = dense[1, 0] = True
    return as_hypergraph(dense.nonzero().t(), 9, 7)


def incidence(hypergraph: Graph) -> Tensor:
    out = torch.zeros(hypergraph.num_dst, hypergraph.num_src, dtype=torch.float64)
    return out.index_put_(tuple(to_hyperedge_index(hypergraph)), torch.tensor(1.0, dtype=out.dtype))


def power(value: Tensor, exponent: float) -> Tensor:
    return torch.where(value == 0, 0, value.clamp(min=1e-300) ** exponent)


def softmax_over(score: Tensor, there: Tensor, weight: Tensor | None = None) -> Tensor:
    """``[R, S]``: for each row the softmax of ``score [S]`` over what is ``there``."""
    each = there * score.exp() * (1 if weight is None else weight)
    return each / each.sum(1, keepdim=True).clamp(min=1e-300)


def dense_hgnn(layer: Any, x: Tensor, H: Tensor, M: Tensor, w: Tensor) -> Tensor:
    dv, de = H @ w, H.sum(0)
    left, right = (-0.5, -0.5) if type(layer) is gnn.HGNNConv else (-1.0, 0.0)
    h = power(dv, right)[:, None] * layer.lin(x) if right else layer.lin(x)
    return power(dv, left)[:, None] * (
        H * M @ (w[:, None] * power(de, -1)[:, None] * ((H * M).T @ h))
    )


def dense_hnhn(layer: Any, x: Tensor, H: Tensor, M: Tensor, w: Tensor) -> Tensor:
    a, b = layer.alpha, layer.beta
    dv, de = H @ w, H.sum(0)
    h = (H * M).T @ (power(dv, b)[:, None] * layer.lin_node(x))
    h = power(H.T @ power(dv, b), -1)[:, None] * h
    h = layer.lin_edge(h.relu())
    out = (H * M) @ ((w * power(de, a))[:, None] * h)
    return power(H @ (w * power(de, a)), -1)[:, None] * out


def dense_uni(layer: Any, x: Tensor, H: Tensor, M: Tensor, w: Tensor) -> Tensor:
    dv, de = H @ w, H.sum(0)
    own = x @ layer.lin.weight.T
    h = power(de, -1)[:, None] * ((H * M).T @ own)
    if layer.mode == "gcn":
        mean = power(de, -1) * (H.T @ dv)
        out = power(dv, -0.5)[:, None] * (H * M @ ((w * power(mean, -0.5))[:, None] * h))
    elif layer.mode == "gat":
        h = h.view(len(h), layer.heads, -1)
        score = nn.functional.leaky_relu((h * layer.att).sum(-1), 0.2)
        heads = [(softmax_over(score[:, k], H, w) * M) @ h[:, k] for k in range(layer.heads)]
        out = torch.cat(heads, dim=1)
    elif layer.mode == "gin":
        out = (1 + layer.eps) * own + H * M @ (w[:, None] * h)
    else:
        out = own + power(dv, -1)[:, None] * (H * M @ (w[:, None] * h))
    return out + layer.bias


def dense_unigcnii(layer: Any, x: Tensor, H: Tensor, M: Tensor, w: Tensor) -> Tensor:
    dv, de = H @ w, H.sum(0)
    h = power(de, -1)[:, None] * ((H * M).T @ x)
    mean = power(de, -1) * (H.T @ dv)
    out = power(dv, -0.5)[:, None] * (H * M @ ((w * power(mean, -0.5))[:, None] * h))
    out = (1 - layer.alpha) * out + layer.alpha * (x + 1)
    return (1 - layer.beta) * out + layer.beta * out @ layer.lin.weight.T


def dense_allset(layer: Any, x: Tensor, H: Tensor, M: Tensor, w: Tensor) -> Tensor:
    dv, de = H @ w, H.sum(0)
    if layer.mode == "deepsets":
        enc, dec, enc_e, dec_e = layer.mlps
        h = dec(power(de, -1)[:, None] * ((H * M).T @ enc(x).relu())).relu()
        return dec_e(power(dv, -1)[:, None] * (H * M @ (w[:, None] * enc_e(h).relu()))).relu()

    def pooled(pool: Any, x: Tensor, there: Tensor, mask: Tensor, w: Tensor | None) -> Tensor:
        key = pool.lin_key(x).view(len(x), pool.heads, -1)
        score = nn.functional.leaky_relu((key * pool.seed).sum(-1), 0.2)
        value = pool.lin_value(x).view_as(key)
        heads = [
            (softmax_over(score[:, k], there, w) * mask) @ value[:, k] + pool.seed[k]
            for k in range(pool.heads)
        ]
        y = pool.norm_0(torch.cat(heads, dim=1))
        return pool.norm_1(y + pool.mlp(y).relu())

    first, second = layer.pools
    h = pooled(first, x, H.T, M.T, None).relu()
    return pooled(second, h, H, M, w)


def dense_edhnn(layer: Any, x: Tensor, H: Tensor, M: Tensor, w: Tensor) -> Tensor:
    message = power(H.sum(0), -1)[:, None] * ((H * M).T @ layer.phi(x))
    if len(layer.rho.lins):
        pairs = torch.cat(
            [x[:, None].expand(-1, len(message), -1), message.expand(len(x), -1, -1)], dim=2
        )
        each = layer.rho(pairs.flatten(0, 1)).view(*pairs.shape[:2], -1)
    else:
        each = message.expand(len(x), -1, -1)
    h = power(H @ w, -1)[:, None] * ((H * M * w)[..., None] * each).sum(1)
    return layer.psi((1 - layer.alpha) * h + layer.alpha * (x + 1))


def dense_hypergcn(layer: Any, x: Tensor, H: Tensor, M: Tensor, w: Tensor) -> Tensor:
    value, A = x.detach() @ layer.projection, torch.zeros(len(x), len(x), dtype=x.dtype)
    for e in range(H.size(1)):
        members = H[:, e].nonzero().flatten().tolist()
        if len(members) < 2:
            continue
        s = max(members, key=lambda v: value[v])
        i = min(members, key=lambda v: value[v])
        others = [v for v in members if v not in (s, i)]
        pairs = [(s, i)]
        if layer.mediators:
            pairs += [(s, v) for v in others] + [(i, v) for v in others]
        share = w[e] / (2 * len(members) - 3 if layer.mediators else len(members))
        for a, b in pairs:
            A[a, b] += share
            A[b, a] += share
    A = A + torch.eye(len(x), dtype=x.dtype)
    root = power(A.sum(1), -0.5)
    return root[:, None] * A * root @ layer.lin(x)


class WithInitial(nn.Module):
    """A layer that reads initial features, of which it is given a function of its input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.in_channels = layer.in_channels

    def reset_parameters(self) -> None:
        self.layer.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        # typed errors are the layer's own to raise
        initial = x + 1 if x.layout == torch.strided else x
        return self.layer(x, initial, *args, **options)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor]]] = {
    "hgnn": (lambda: gnn.HGNNConv(6, 4), dense_hgnn),
    "hgnn+": (lambda: gnn.HGNNPConv(6, 4), dense_hgnn),
    "hnhn": (lambda: gnn.HNHNConv(6, 4, 5), dense_hnhn),
    "hypergcn": (lambda: gnn.HyperGCNConv(6, 4), dense_hypergcn),
    "hypergcn-plain": (lambda: gnn.HyperGCNConv(6, 4, mediators=False, seed=3), dense_hypergcn),
    "unigcn": (lambda: gnn.UniConv(6, 4), dense_uni),
    "unigat": (lambda: gnn.UniConv(6, 4, "gat", heads=2), dense_uni),
    "unigin": (lambda: gnn.UniConv(6, 4, "gin", eps=0.3, train_eps=True), dense_uni),
    "unisage-mean": (lambda: gnn.UniConv(6, 4, "sage", aggr="mean"), dense_uni),
    "unigcnii": (lambda: WithInitial(gnn.UniGCNIIConv(6, 0.3)), dense_unigcnii),
    "alldeepsets": (lambda: gnn.AllSetConv(6, 16, "deepsets"), dense_allset),
    "allsettransformer": (lambda: gnn.AllSetConv(6, 4, heads=2), dense_allset),
    "edhnn": (lambda: WithInitial(gnn.EDHNNConv(6, alpha=0.2)), dense_edhnn),
    "edhnn-deep": (lambda: WithInitial(gnn.EDHNNConv(6, 1, 2, 2, norm=False)), dense_edhnn),
}
# what each hyperedge does is added up, so that a weight of 2 is the hyperedge twice
WITHOUT_MASK = ("hypergcn", "hypergcn-plain")


@pytest.mark.parametrize("name", LAYERS)
def test_dense_formula(name: str) -> None:
    factory, dense = LAYERS[name]
    layer, hypergraph = factory().double().eval(), some_hypergraph()
    inner = getattr(layer, "layer", layer)
    x = torch.randn(9, 6, dtype=torch.float64)
    weight = torch.rand(7, dtype=torch.float64) + 0.1
    mask = torch.rand(hypergraph.num_edges, dtype=torch.float64)
    H = incidence(hypergraph)
    M, ones = torch.zeros_like(H), torch.ones_like(H)
    M[tuple(to_hyperedge_index(hypergraph))] = mask
    want = dense(inner, x, H, ones, torch.ones_like(weight))
    torch.testing.assert_close(layer(x, hypergraph), want)
    torch.testing.assert_close(layer(x, to_hyperedge_index(hypergraph), num_edges=7), want)
    torch.testing.assert_close(layer(x, hypergraph, weight), dense(inner, x, H, ones, weight))
    if name not in WITHOUT_MASK:
        for given in (torch.ones_like(weight), weight):
            got = layer(x, hypergraph, given, edge_mask=mask)
            torch.testing.assert_close(got, dense(inner, x, H, M, given))
        torch.testing.assert_close(
            layer(x, hypergraph, edge_mask=mask), dense(inner, x, H, M, torch.ones_like(weight))
        )


@pytest.mark.parametrize("name", LAYERS)
def test_a_weight_is_how_often_a_hyperedge_is_there(name: str) -> None:
    layer, hypergraph = LAYERS[name][0]().double().eval(), some_hypergraph()
    x = torch.randn(9, 6, dtype=torch.float64)
    node, hyperedge = to_hyperedge_index(hypergraph)
    weight = torch.tensor([2, 1, 1, 0, 3, 1, 1], dtype=torch.float64)
    times = weight.long()
    slots = torch.repeat_interleave(torch.arange(len(node)), times[hyperedge])
    copy = torch.cat([torch.arange(int(n)) for n in times[hyperedge]])
    # copies of hyperedge e have the numbers e, e + 7, e + 14
    index = torch.stack([node[slots], hyperedge[slots] + 7 * copy])
    torch.testing.assert_close(layer(x, hypergraph, weight), layer(x, index, num_edges=21))


class OnIncidences(nn.Module):
    """A layer of hypergraphs called as a layer of graphs, with as many hyperedges as nodes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.in_channels = 6

    def reset_parameters(self) -> None:
        self.layer.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(self, x: Any, edge_index: Any, *, edge_mask: Any = None) -> Tensor:
        if isinstance(edge_index, Graph):
            return self.layer(x, edge_index.t(), edge_mask=edge_mask)
        return self.layer(x, edge_index, None, x.size(0), edge_mask=edge_mask)


class WithoutMask(OnIncidences):
    def forward(self, x: Any, edge_index: Any) -> Tensor:
        if isinstance(edge_index, Graph):
            return self.layer(x, edge_index.t())
        return self.layer(x, edge_index, None, x.size(0))


# each class in one form through AOTAutograd; what is made of the same ops is traced whole
COMPILED = ("hgnn", "hypergcn", "unigat", "allsettransformer")
# other forms of these classes
FORMS = ("hgnn+", "hypergcn-plain", "unigcn", "unigin", "unisage-mean", "edhnn")


@pytest.mark.parametrize("name", LAYERS)
def test_promises(name: str, request: pytest.FixtureRequest) -> None:
    """Order of incidences, names of nodes and hyperedges, gradients, state, compilation, PyG."""
    wrapped = WithoutMask if name in WITHOUT_MASK else OnIncidences
    slow = request.config.getoption("--slow")
    backend = "aot_eager" if slow or name in COMPILED else None if name in FORMS else "eager"
    torch.manual_seed(0)
    check_layer(lambda: wrapped(LAYERS[name][0]()), compile_backend=backend)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_weights(name: str) -> None:
    layer, hypergraph = LAYERS[name][0]().double().eval(), some_hypergraph()
    x = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    weight = (torch.rand(7, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: layer(x, hypergraph, w), (x, weight), fast_mode=True
    )


def test_hyperedges_of_two_members_are_a_lazy_graph() -> None:
    edge_index = torch.tensor([[0, 0, 1, 2, 3], [1, 2, 2, 3, 4]])
    graph = Graph.from_edge_index(torch.cat([edge_index, edge_index.flip(0)], 1), 5)
    pairs = hyperedges_of_pairs(graph)
    A = torch.zeros(5, 5).index_put_(tuple(graph.edge_index()), torch.tensor(1.0))
    D, eye, x = torch.diag(A.sum(1)), torch.eye(5), torch.eye(5)
    hgnn, plus = (identity_map(kind) for kind in (gnn.HGNNConv, gnn.HGNNPConv))
    root = D.inverse().sqrt()
    torch.testing.assert_close(hgnn(x, pairs), (eye + root @ A @ root) / 2)
    torch.testing.assert_close(plus(x, pairs), (eye + D.inverse() @ A) / 2)
    root = (D + eye).inverse().sqrt()
    want = root @ ((D + A) / 2 + eye) @ root
    torch.testing.assert_close(hgnn(x, add_singletons(pairs)), want)


def identity_map(kind: Any) -> nn.Module:
    layer = kind(5, 5, bias=False)
    layer.lin.weight.data = torch.eye(5)
    return layer


@pytest.mark.parametrize("kind", [gnn.HGNNConv, gnn.HGNNPConv])
def test_one_factor_on_all_weights_changes_nothing(kind: Any) -> None:
    layer, hypergraph, x = kind(6, 4), some_hypergraph(), torch.randn(9, 6)
    weight = torch.rand(7) + 0.1
    torch.testing.assert_close(layer(x, hypergraph, 7 * weight), layer(x, hypergraph, weight))


def test_hgnn_plus_keeps_constants_and_is_hnhn_of_no_powers() -> None:
    hypergraph, x = some_hypergraph(), torch.randn(9, 5)
    plus = identity_map(gnn.HGNNPConv)
    constant = plus(torch.ones(9, 5), hypergraph, torch.rand(7) + 0.1)
    there = (hypergraph.in_degree() > 0).float()
    torch.testing.assert_close(constant, there[:, None].expand(-1, 5))
    assert 0 < int(there.sum()) < 9
    hnhn = gnn.HNHNConv(5, 5, alpha=0.0, beta=0.0, nonlinear=False, bias=False)
    hnhn.lin_node.weight.data = hnhn.lin_edge.weight.data = torch.eye(5)
    torch.testing.assert_close(hnhn(x, hypergraph), plus(x, hypergraph))


def test_unigcnii_of_initial_features_alone_ignores_the_hypergraph() -> None:
    layer, x = gnn.UniGCNIIConv(6, alpha=1.0), torch.randn(9, 6)
    one, other = (layer(x, x, some_hypergraph(seed)) for seed in (0, 1))
    assert torch.equal(one, other)


def test_what_belongs_to_a_hypergraph_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkit.nn import hypergraph as module

    made: list[Any] = []
    power = module._power
    monkeypatch.setattr(module, "_power", lambda *args: made.append(args) or power(*args))
    layer, hypergraph, x = gnn.HGNNConv(6, 4), some_hypergraph(), torch.randn(9, 6)
    first = layer(x, hypergraph)
    count = len(made)
    assert count and torch.equal(layer(x, hypergraph), first) and len(made) == count
    layer(x, hypergraph, torch.rand(7))
    assert len(made) > count


NO_EDGE_ROWS = ("hgnn", "hnhn", "unigcn", "unigin", "unigcnii", "unigat", "alldeepsets", "edhnn")


@pytest.mark.parametrize("name", [*NO_EDGE_ROWS, "allsettransformer"])
def test_nothing_is_made_for_each_incidence(name: str) -> None:
    """Forward and backward, beside single numbers for each head."""
    hypergraph = as_hypergraph(torch.randint(40, (2, 997)), 40, 40)
    layer, x = LAYERS[name][0](), torch.randn(40, 6, requires_grad=True)
    layer(x, hypergraph)

    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            out = func(*args, **(kwargs or {}))
            for one in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(one, Tensor) and one.dim() > 1 and 997 in one.shape:
                    self.largest = max(self.largest, one.numel() // 997)
            return out

    with Watch() as watch:
        layer(x, hypergraph).square().sum().backward()
    assert watch.largest <= 2


def test_hypergcn_chooses_once_or_for_each_layer() -> None:
    hypergraph, x = some_hypergraph(), torch.randn(9, 6)
    build: Any = gnn.HYPER_MODELS["hypergcn"]
    fast, slow = build([6, 5, 3], 0.0).eval(), build([6, 5, 3], 0.0, fast=False).eval()
    slow.load_state_dict(fast.state_dict())
    first, second = fast.convs
    edges = first.expand(x, hypergraph)
    h = first(x, hypergraph).relu()
    torch.testing.assert_close(fast(x, hypergraph), second(h, hypergraph, expansion=edges))
    torch.testing.assert_close(slow(x, hypergraph), second(h, hypergraph))
    twin = build([6, 5, 3], 0.0, projection_seed=1)
    assert not torch.equal(twin.convs[0].projection, first.projection)
    assert torch.equal(build([6, 5, 3], 0.0).convs[0].projection, first.projection)


@pytest.mark.parametrize("name", gnn.HYPER_MODELS)
def test_models(name: str) -> None:
    torch.manual_seed(0)
    hypergraph, x = some_hypergraph(), torch.randn(9, 6)
    model: Any = gnn.HYPER_MODELS[name]([6, 8, 8, 3], 0.5)
    weight = torch.tensor([2, 1, 1, 0, 3, 1, 1.0])
    model.train()
    out = model(x, hypergraph, weight)
    out.square().sum().backward()
    assert out.shape == (9, 3) and bool(out.isfinite().all())
    used = [p for p in model.parameters() if p.grad is not None and bool((p.grad != 0).any())]
    assert len(used) > 1
    model.eval()
    want = model(x, hypergraph)
    got = model(x, to_hyperedge_index(hypergraph), num_edges=7)
    torch.testing.assert_close(got, want)
    ones = model(x, hypergraph, torch.ones(7))
    torch.testing.assert_close(ones, want)
    # features most of which are 0 are mapped by what is not 0
    few = torch.zeros(9, 60)
    few[torch.arange(9), torch.randint(60, (9,))] = 1.0
    wide = gnn.HYPER_MODELS[name]([60, 8, 3], 0.5).eval()
    torch.testing.assert_close(wide(few, hypergraph), wide(few.requires_grad_(), hypergraph))
    model.reset_parameters()
    assert not torch.equal(model(x, hypergraph), want)


def test_expanded_models_are_graph_models_on_the_clique_expansion() -> None:
    hypergraph, x = some_hypergraph(), torch.randn(9, 6)
    model: Any = gnn.HYPER_MODELS["cegcn"]([6, 5, 3], 0.0)
    graph, weight = clique_expansion(hypergraph)
    torch.testing.assert_close(model(x, hypergraph), gnn.Stack(model.convs)(x, graph))
    # a hyperedge of weight 0 joins nobody
    some = torch.tensor([1, 0, 1, 1, 1, 0, 1.0])
    kept = some[to_hyperedge_index(hypergraph)[1]] > 0
    rest = as_hypergraph(to_hyperedge_index(hypergraph)[:, kept], 9, 7)
    torch.testing.assert_close(model(x, hypergraph, some), model(x, rest))
    assert graph.num_edges > clique_expansion(rest)[0].num_edges and len(weight) == graph.num_edges


def test_maps_at_the_ends_decay_by_themselves() -> None:
    model: Any = gnn.HYPER_MODELS["unigcnii"]([6, 8, 8, 3], 0.5, lin_decay=5e-4)
    inner, outer = model.parameter_groups(0.01)
    assert (inner["weight_decay"], outer["weight_decay"]) == (0.01, 5e-4)
    assert len(inner["params"]) == 3 and len(outer["params"]) == 4
    plain: Any = gnn.HYPER_MODELS["hgnn"]([6, 8, 3], 0.5)
    (every,) = plain.parameter_groups(0.01)
    assert len(every["params"]) == 4 and every["weight_decay"] == 0.01


def test_edhnn_repeats_one_layer() -> None:
    hypergraph, x = some_hypergraph(), torch.randn(9, 6)
    once, model = (
        gnn.build_model("edhnn", 6, 8, 3, num_layers=depth, models=gnn.HYPER_MODELS).eval()
        for depth in (1, 3)
    )
    model.load_state_dict(once.state_dict())
    h = initial = model.lin_in(x).relu()  # pyright: ignore[reportCallIssue]
    for _ in range(3):
        h = model.convs[0](h, initial, hypergraph).relu()  # pyright: ignore
    torch.testing.assert_close(model(x, hypergraph), model.head(h))  # pyright: ignore


@pytest.mark.parametrize("name", ["unigcnii", "alldeepsets", "allsettransformer", "edhnn"])
def test_one_layer_has_the_hidden_width(name: str) -> None:
    model: Any = gnn.build_model(name, 6, 8, 3, num_layers=1, models=gnn.HYPER_MODELS)
    out = getattr(model.convs[0], "out_channels", model.convs[0].in_channels)
    assert out == 8 and len(model.convs) == 1
    assert "hidden_channels" not in gnn.own_options(name, gnn.HYPER_MODELS)
    with pytest.raises(ConfigError, match="name no hidden one"):
        gnn.HYPER_MODELS[name]([6, 3], 0.5)


def test_dropout_of_attention() -> None:
    layer, hypergraph = gnn.UniConv(6, 4, "gat", dropout=0.5), some_hypergraph()
    x = torch.randn(9, 6)
    assert not torch.equal(layer(x, hypergraph), layer(x, hypergraph))
    layer.eval()
    assert torch.equal(layer(x, hypergraph), layer(x, hypergraph))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(hyperedge_index=TOY + 1), r"hyperedge_index\[0, 5\] = 4"),
        (dict(hyperedge_index=-TOY), "hyperedge_index"),
        (dict(num_edges=1), r"hyperedge_index\[1, 3\] = 1, but the graph has 1 hyperedges"),
        (dict(hyperedge_index=as_hypergraph(TOY), num_edges=3), "3 hyperedges are expected"),
        (dict(x=torch.ones(5, 6), hyperedge_index=as_hypergraph(TOY)), "5 nodes are expected"),
        (dict(hyperedge_index=TOY.float()), "dtype"),
        (dict(hyperedge_index=TOY.t()), r"\[2, E\] is expected"),
        (dict(x=torch.ones(4, 5)), r"\[N, 6\] is expected"),
        (dict(x=torch.ones(4, 6, dtype=torch.int64)), "floating-point"),
        (dict(hyperedge_weight=torch.tensor([1.0, -1.0])), r"hyperedge_weight\[1\] = -1"),
        (dict(hyperedge_weight=torch.tensor([1.0, torch.nan])), "finite"),
        (dict(hyperedge_weight=torch.ones(3)), r"\[2\] is expected"),
        (dict(edge_mask=torch.ones(5)), "edge_mask"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["hgnn", "unigat", "allsettransformer"])
def test_bad_input(name: str, options: dict[str, Any], message: str) -> None:
    given = {"x": torch.randn(4, 6), "hyperedge_index": TOY, **options}
    with pytest.raises(GraphError, match=message):
        LAYERS[name][0]()(given.pop("x"), given.pop("hyperedge_index"), **given)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: gnn.UniConv(6, 4, "gan"), "unknown mode 'gan'"),  # pyright: ignore
        (lambda: gnn.UniConv(6, 4, "gcn", heads=2), "heads is 2"),
        (lambda: gnn.UniConv(6, 4, "sage", aggr="max"), "'mean' or 'sum'"),  # pyright: ignore
        (lambda: gnn.UniConv(6, 4, "gat", dropout=2.0), "from 0 to 1"),
        (lambda: gnn.UniGCNIIConv(6, alpha=1.5), "alpha is 1.5"),
        (lambda: gnn.UniGCNIIConv(6, layer=0), "layer 0"),
        (lambda: gnn.AllSetConv(6, 4, "sets"), "mode is 'sets'"),  # pyright: ignore
        (lambda: gnn.AllSetConv(6, 4, heads=3), "3 heads"),
        (lambda: gnn.AllSetConv(6, 4, "deepsets", heads=2), "2 heads"),
        (lambda: gnn.EDHNNConv(6, phi=-1), "num_layers is -1"),
        (lambda: gnn.EDHNNConv(6, alpha=-0.1), "alpha is -0.1"),
        (lambda: gnn.HyperGCNConv(-1, 4), "at least 1"),
        (lambda: gnn.HYPER_MODELS["unigat"]([6, 9, 3], 0.5), "no multiple of 8 heads"),
        (lambda: gnn.HYPER_MODELS["edhnn"]([6, 9, 3], 0.5, "batch_norm"), "no batch_norm"),
    ],
)
def test_bad_options(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
