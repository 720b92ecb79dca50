"""Deep models: layers against dense formulas in float64 and against PyG, and what depth does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies
from test_layers import agree, twins
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric import nn as pyg
from torch_geometric.data import Data
from torch_geometric.transforms import SIGN
from torch_geometric.utils import to_undirected

from graphkit import ConfigError, Graph, GraphError
from graphkit import nn as gnn
from graphkit.testing import check_layer, dense_adjacency, graphs

FEW = settings(max_examples=25)


def of_graphs(test: Callable[..., None]) -> Callable[..., None]:
    return FEW(given(graphs(max_nodes=6, bipartite=False))(test))


class OfItself(nn.Module):
    """GCN2Conv whose initial features are those of the layer before."""

    in_channels = 8

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.conv = gnn.GCN2Conv(8, 0.2, 0.5, 2, **options)

    def reset_parameters(self) -> None:
        self.conv.reset_parameters()

    def forward(
        self, x: Any, edge_index: Any, edge_weight: Any = None, *, edge_mask: Any = None
    ) -> Tensor:
        return self.conv(x, x, edge_index, edge_weight, edge_mask=edge_mask)


LAYERS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "sgc": (lambda: gnn.SGConv(8, 4, 2), {}),
    "sgc-wider": (lambda: gnn.SGConv(8, 12, 2, add_self_loops=False, bias=False), {}),
    "appnp": (lambda: gnn.APPNP(2, 0.2), {"in_channels": 8}),
    "appnp-plain": (lambda: gnn.APPNP(2, 0.2, normalize=False), {"in_channels": 8}),
    "adaptive": (lambda: gnn.AdaptivePropagation(8, 2), {"in_channels": 8}),
    "gcn2": (OfItself, {}),
    "gcn2-two-maps": (lambda: OfItself(shared_weights=False), {}),
    "gen": (lambda: gnn.GENConv(8, 4, learn_t=True), {"bipartite": True}),
    "gen-edges": (
        lambda: gnn.GENConv(8, 8, norm="layer", edge_dim=3, bias=True),
        {"edge_dim": 3, "bipartite": True},
    ),
    "gen-power": (
        lambda: gnn.GENConv(
            8, 4, "power", p=1.5, learn_p=True, msg_norm=True, learn_msg_scale=True
        ),
        {"bipartite": True},
    ),
    "gen-max": (lambda: gnn.GENConv((8, 8), 4, "max", num_layers=1), {"bipartite": True}),
    "block": (
        lambda: gnn.DeepGCNLayer(gnn.GENConv(8, 8), nn.LayerNorm(8), nn.ReLU()),
        {"in_channels": 8},
    ),
    "block-dense": (
        lambda: gnn.DeepGCNLayer(gnn.GCNConv(8, 4), nn.LayerNorm(4), nn.ReLU(), "dense"),
        {"in_channels": 8},
    ),
    **{
        name: (
            # the time that compiling takes grows with hops and layers
            partial(gnn.build_model, name, 8, 6, 4, num_layers=2, norm=norm, **depth),
            {"in_channels": 8},
        )
        for name, norm, depth in (
            ("appnp", "batch_norm", {"hops": 2}),
            ("dagnn", None, {"hops": 2}),
            ("gcnii", None, {}),
            ("resgcn+", None, {}),
            ("sign", "batch_norm", {"hops": 2}),
            ("dgmlp", None, {"hops": 1}),
        )
    },
    "sgc-model": (partial(gnn.build_model, "sgc", 8, 6, 4), {"in_channels": 8}),
}


COMPILED = ("sgc", "appnp", "adaptive", "gcn2", "gen-edges", "gen-power")
TRACED = ("gen", "block", "gcnii", "dgmlp")


@pytest.mark.parametrize("name", LAYERS)
def test_promises(name: str, request: pytest.FixtureRequest) -> None:
    factory, options = LAYERS[name]
    # what a variant or a whole model is made of is compiled in others; it takes most of the time
    backend = "aot_eager" if name in COMPILED else "eager" if name in TRACED else None
    if request.config.getoption("--slow"):
        backend = "aot_eager"
    check_layer(factory, compile_backend=backend, **options)


# -- dense formulas --------------------------------------------------------------------------------


def normalised(graph: Graph, loops: bool = True) -> Tensor:
    """GCN's matrix in float64: one self-loop for each node that has none."""
    dense = dense_adjacency(graph)
    if loops:
        dense += torch.diag((dense.diag() == 0).double())
    scale = dense.sum(1).pow(-0.5).masked_fill(dense.sum(1) == 0, 0)
    return scale[:, None] * dense * scale


def double(module: nn.Module) -> Any:
    return copy.deepcopy(module).double().eval()


def features(graph: Graph, width: int = 3, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(graph.num_src, width, generator=generator, dtype=torch.float64)


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


@of_graphs
def test_sgc_equals_its_formula(graph: Graph) -> None:
    x = features(graph)
    for hops, out, loops in ((0, 2, True), (1, 5, False), (3, 2, True), (3, 5, True)):
        layer = double(gnn.SGConv(3, out, hops, add_self_loops=loops))
        power = torch.linalg.matrix_power(normalised(graph, loops), hops)
        close(layer(x, graph), layer.lin(power @ x))


@of_graphs
def test_appnp_equals_its_formula(graph: Graph) -> None:
    x, matrix = features(graph), normalised(graph)
    for hops in (0, 1, 4):
        want = x
        for _ in range(hops):
            want = 0.7 * matrix @ want + 0.3 * x
        close(gnn.APPNP(hops, 0.3)(x, graph), want)
    want = 0.7 * dense_adjacency(graph) @ x + 0.3 * x
    close(gnn.APPNP(1, 0.3, normalize=False)(x, graph), want)


@of_graphs
def test_adaptive_propagation_equals_the_stacked_formula(graph: Graph) -> None:
    """The official code's: all hops side by side; one channel and one node are no exception."""
    for width, hops in ((3, 0), (3, 4), (1, 2)):
        x, matrix = features(graph, width), normalised(graph)
        layer = double(gnn.AdaptivePropagation(width, hops))
        powers = [torch.linalg.matrix_power(matrix, k) @ x for k in range(hops + 1)]
        stacked = torch.stack(powers, dim=1)
        close(layer(x, graph), (layer.proj(stacked).sigmoid() * stacked).sum(1))
        # open gates leave the plain sum
        nn.init.zeros_(layer.proj.weight), nn.init.constant_(layer.proj.bias, 1e3)
        close(layer(x, graph), stacked.sum(1))


@of_graphs
def test_gcn2_equals_its_formula(graph: Graph) -> None:
    x, x_0, matrix = features(graph), features(graph, seed=6), normalised(graph)
    for shared in (True, False):
        layer = double(gnn.GCN2Conv(3, 0.2, 0.5, 2, shared_weights=shared))
        beta = torch.log(torch.tensor(0.5 / 2 + 1, dtype=torch.float64))
        first, second = 0.8 * matrix @ x, 0.2 * x_0
        maps = [layer.weight1, layer.weight1 if shared else layer.weight2]
        maps = [(1 - beta) * torch.eye(3).double() + beta * weight for weight in maps]
        close(layer(x, x_0, graph), first @ maps[0] + second @ maps[1])


def aggregated(graph: Graph, m: Tensor, how: str, t: float, p: float) -> Tensor:
    """Of messages of sources, destination by destination."""
    src, dst = graph.edge_index()
    out = torch.zeros(graph.num_dst, m.size(1), dtype=torch.float64)
    for i in dst.unique().tolist():
        own = m[src[dst == i]]
        if how.startswith("softmax"):
            out[i] = ((t * own).softmax(0) * own).sum(0)
        elif how == "powermean":
            out[i] = (own**p).mean(0) ** (1 / p)
        else:
            out[i] = {"add": own.sum, "mean": own.mean, "max": own.amax, "min": own.amin}[how](0)
    return out


@FEW
@given(graphs(max_nodes=6), strategies.sampled_from([0.5, 4.0, -2.0]))
def test_gen_equals_its_formula(graph: Graph, exponent: float) -> None:
    x = features(graph)
    x_dst = features(graph.t(), seed=6)
    for how in ("softmax", "softmax_sg", "powermean", "add", "mean", "max", "min"):
        layer = double(gnn.GENConv(3, 3, how, t=exponent, p=exponent, norm=None, eps=1e-3))
        want = aggregated(graph, x.relu() + 1e-3, how, exponent, exponent)
        close(layer((x, x_dst), graph), layer.mlp(want + x_dst))


def test_gen_with_edges_and_a_mask_equals_its_formula() -> None:
    """A multigraph of messages is a graph with a source for each edge."""
    edge_index = torch.randint(7, (2, 30))
    x, edge_attr = torch.randn(7, 3).double(), torch.randn(30, 3).double()
    mask = torch.rand(30).double()
    apart = Graph.from_edge_index(torch.stack([torch.arange(30), edge_index[1]]), 30)
    for how in ("softmax", "powermean", "add", "mean", "max"):
        layer = double(gnn.GENConv(3, 3, how, t=2.0, p=2.0, norm=None))
        messages = (x[edge_index[0]] + edge_attr).relu() + 1e-7
        want = aggregated(apart, messages, how, 2.0, 2.0)[:7]
        close(layer(x, edge_index, edge_attr), layer.mlp(want + x))
        # without features of edges a mask means the same as with features of 0
        masked = [layer(x, edge_index, e, edge_mask=mask) for e in (None, 0 * edge_attr)]
        close(*masked)


def test_softmax_of_messages_far_apart() -> None:
    """Weights far below the largest of the graph: exact down to 120 / t, finite below."""
    edge_index = torch.tensor([[0, 1, 2, 3, 4], [5, 6, 6, 7, 7]])
    values = torch.tensor([1000.0, 900.0, 899.0, 10.0, 1.0])
    x = torch.cat([values, torch.zeros(3)]).unsqueeze(1).expand(-1, 2).contiguous()
    layer = gnn.GENConv(2, 2, norm=None, num_layers=1)
    nn.init.eye_(layer.mlp[0].weight)
    got = layer(x.requires_grad_(), edge_index)
    sharp = torch.tensor([900.0, 899.0]).softmax(0) @ torch.tensor([900.0, 899.0])
    torch.testing.assert_close(got[5:, 0], torch.stack([torch.tensor(1e3), sharp, got[7, 0]]))
    torch.testing.assert_close(got[7, 0], torch.tensor(5.5))
    got.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@of_graphs
def test_hops_and_their_limit(graph: Graph) -> None:
    edge_index = to_undirected(graph.edge_index(), num_nodes=graph.num_src)
    graph = Graph.from_edge_index(edge_index, graph.num_src)
    x, matrix = features(graph), normalised(graph)
    powers = [torch.linalg.matrix_power(matrix, k) @ x for k in range(4)]
    close(gnn.hops(x, graph, 3), torch.cat(powers, dim=1))
    close(gnn.smooth(x, graph, 3), powers[3])
    limit = gnn.stationary(x, graph)
    close(limit, torch.linalg.matrix_power(matrix, 4096) @ x)
    close(gnn.smooth(limit, graph, 1), limit)


@of_graphs
def test_node_smoothing_equals_its_formula(graph: Graph) -> None:
    x, limit = features(graph), gnn.stationary(features(graph), graph)
    powers = [torch.linalg.matrix_power(normalised(graph), k) @ x for k in range(4)]
    levels = [cosine_similarity(h, x) * (1 - cosine_similarity(h, limit, dim=1)) for h in powers]
    stacked, levels = torch.stack(powers, dim=1), torch.stack(levels, dim=1)
    torch.testing.assert_close(levels[:, 0], 1 - cosine_similarity(x, limit))
    for temperature in (1e-3, 0.1, 1.0):
        weights = (levels / temperature).softmax(1)
        got = gnn.node_smoothing(x, graph, 3, temperature)
        close(got, (weights.unsqueeze(2) * stacked).sum(1))
    # equal weights are the mean
    got = gnn.node_smoothing(x, graph, 3, 1e12)
    torch.testing.assert_close(got, stacked.mean(1), atol=1e-9, rtol=1e-9)
    close(gnn.node_smoothing(x, graph, 0, 0.1), x)


def test_smoothing_levels_vanish_with_depth() -> None:
    edge_index = to_undirected(torch.stack([torch.arange(19), torch.arange(1, 20)]))
    graph, x = Graph.from_edge_index(edge_index, 20), torch.rand(20, 5).double()
    limit = gnn.stationary(x, graph)
    levels = [1 - cosine_similarity(gnn.smooth(x, graph, k), limit) for k in (0, 10, 100, 1000)]
    means = [float(level.mean()) for level in levels]
    assert means == sorted(means, reverse=True) and means[-1] < 1e-6


@of_graphs
def test_components(graph: Graph) -> None:
    import networkx

    from graphkit.ops.components import components

    peer = networkx.Graph()
    peer.add_nodes_from(range(graph.num_src))
    peer.add_edges_from(graph.edge_index().t().tolist())
    want = torch.empty(graph.num_src, dtype=torch.int64)
    for nodes in networkx.connected_components(peer):
        want[list(nodes)] = min(nodes)
    assert torch.equal(components(graph), want)


# -- PyG's numbers ---------------------------------------------------------------------------------

PAIRS: dict[str, tuple[type, type, tuple, dict[str, Any]]] = {
    "sgc": (gnn.SGConv, pyg.SGConv, (16, 8), {"K": 3}),
    "sgc-wider": (gnn.SGConv, pyg.SGConv, (16, 24), {"K": 2, "add_self_loops": False}),
    "appnp": (gnn.APPNP, pyg.APPNP, (4, 0.1), {}),
    "appnp-plain": (gnn.APPNP, pyg.APPNP, (1, 0.1), {"normalize": False}),
    "gen": (gnn.GENConv, pyg.GENConv, (16, 8), {"learn_t": True, "t": 0.7}),
    # between 1e-4 and 100, where PyG does not cut
    "gen-power": (
        gnn.GENConv,
        pyg.GENConv,
        (16, 16),
        {"aggr": "power", "p": 1.5, "learn_p": True, "eps": 0.1},
    ),
    "gen-mean": (gnn.GENConv, pyg.GENConv, (16, 16), {"aggr": "mean", "norm": "layer"}),
    "gen-norm": (
        gnn.GENConv,
        pyg.GENConv,
        (16, 8),
        {"msg_norm": True, "learn_msg_scale": True, "bias": True, "num_layers": 1},
    ),
}


@pytest.fixture(scope="module")
def small() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(40, (2, 160), generator=generator)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    return torch.randn(43, 16, generator=generator), edge_index


@pytest.mark.parametrize("name", PAIRS)
def test_equals_pyg(name: str, small: tuple[Tensor, Tensor]) -> None:
    x, edge_index = small
    if name == "gen-power":
        # the mean of no messages is cut as well
        edge_index = torch.cat([edge_index, torch.arange(43).expand(2, -1)], dim=1)
    agree(*twins(*PAIRS[name]), x, edge_index)


@pytest.mark.parametrize("name", ["sgc", "appnp"])
def test_equals_pyg_with_edge_weights(name: str, small: tuple[Tensor, Tensor]) -> None:
    x, edge_index = small
    agree(*twins(*PAIRS[name]), x, edge_index, edge_weight=torch.rand(edge_index.size(1)) + 0.1)


@pytest.mark.parametrize("aggr", ["softmax", "add", "max"])
def test_gen_equals_pyg_with_edge_features(aggr: str, small: tuple[Tensor, Tensor]) -> None:
    x, edge_index = small
    pair = twins(gnn.GENConv, pyg.GENConv, (16, 8), {"edge_dim": 3, "aggr": aggr})
    agree(*pair, x, edge_index, edge_attr=torch.randn(edge_index.size(1), 3))


@pytest.mark.parametrize("shared", [True, False])
def test_gcn2_equals_pyg(shared: bool, small: tuple[Tensor, Tensor]) -> None:
    x, edge_index = small
    options = {"theta": 0.5, "layer": 3, "shared_weights": shared}
    layer, peer = twins(gnn.GCN2Conv, pyg.GCN2Conv, (16, 0.1), options)

    class At(nn.Module):
        def __init__(self, conv: Any) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, ends: Any, edge_index: Any, edge_weight: Any = None) -> Tensor:
            return self.conv(ends[:, :16], ends[:, 16:], edge_index, edge_weight)

    both = torch.cat([x, torch.randn_like(x)], dim=1)
    agree(At(layer), At(peer), both, edge_index)
    weight = torch.rand(edge_index.size(1)) + 0.1
    agree(At(layer), At(peer), both, edge_index, edge_weight=weight)


@pytest.mark.parametrize("block", ["res+", "res", "dense", "plain"])
def test_blocks_equal_pyg(block: str, small: tuple[Tensor, Tensor]) -> None:
    x, edge_index = small
    conv, norm = pyg.GCNConv(16, 16), nn.LayerNorm(16)
    peer = pyg.DeepGCNLayer(conv, norm, nn.ReLU(), block)
    for ckpt_grad in (False, True):
        layer = gnn.DeepGCNLayer(gnn.GCNConv(16, 16), nn.LayerNorm(16), nn.ReLU(), block)
        layer.load_state_dict(peer.state_dict())
        layer.ckpt_grad = ckpt_grad
        agree(layer, peer, x, edge_index)
    # PyG's own layers stand in it too
    own = gnn.DeepGCNLayer(conv, norm, nn.ReLU(), block)
    torch.testing.assert_close(own(x, edge_index), peer(x, edge_index))


# torch says this of PyG's own use of sparse tensors
@pytest.mark.filterwarnings("ignore:Sparse :UserWarning")
def test_hops_equal_pygs_transform(small: tuple[Tensor, Tensor]) -> None:
    x, edge_index = small
    edge_index = to_undirected(edge_index, num_nodes=43)
    data = SIGN(3)(Data(x=x, edge_index=edge_index))
    want = torch.cat([x, data.x1, data.x2, data.x3], dim=1)
    got = gnn.hops(x, edge_index, 3, add_self_loops=False)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["SGConv", "APPNP", "GCN2Conv", "GENConv", "DeepGCNLayer"])
def test_constructors_take_pygs_arguments(name: str) -> None:
    import inspect

    def arguments(layer: type) -> list[str]:
        return [p for p in inspect.signature(layer).parameters if p != "kwargs"]

    assert arguments(getattr(gnn, name)) == arguments(getattr(pyg, name))


def test_edges_are_dropped_anew_in_every_hop() -> None:
    """On average over many copies it is the product: no hop misses what the one before did."""
    edge_index, copies = to_undirected(torch.randint(12, (2, 40))), 4000
    many = (edge_index.unsqueeze(1) + 12 * torch.arange(copies)[:, None]).flatten(1)
    graph, x = Graph.from_edge_index(many, 12 * copies), torch.rand(12, 4).repeat(copies, 1)
    for options in ({}, {"normalize": False}):
        layer, plain = gnn.APPNP(2, 0.1, 0.5, **options), gnn.APPNP(2, 0.1, **options)
        mean = layer(x, graph).view(copies, 12, 4).mean(0)
        torch.testing.assert_close(mean, plain(x, graph)[:12], atol=0.02, rtol=0.05)
        assert torch.equal(layer.eval()(x, graph), plain(x, graph))


def test_what_is_cached(small: tuple[Tensor, Tensor]) -> None:
    x, edge_index = small
    other = edge_index[:, :50]
    layers: list[tuple[Any, tuple[Tensor, ...]]] = [
        (gnn.SGConv(16, 3, 2, cached=True), (x,)),
        (gnn.APPNP(2, 0.1, cached=True), (x,)),
        (gnn.AdaptivePropagation(16, 2, cached=True), (x,)),
        (gnn.GCN2Conv(16, 0.1, cached=True), (x, x)),
    ]
    for layer, features in layers:
        first = layer(*features, edge_index)
        assert torch.equal(layer(*features, edge_index), first)
        kept = layer(*features, other)
        layer.reset_parameters()
        state = copy.deepcopy(layer.state_dict())
        fresh = layer(*features, other)
        layer.load_state_dict(state)
        assert not torch.allclose(kept, fresh)


# -- models ----------------------------------------------------------------------------------------


def test_the_parameters_of_dagnn_on_arxiv() -> None:
    options = dict(dropout=0.2, norm="batch_norm", drop_input=False, hops=16)
    model = gnn.build_model("dagnn", 128, 256, 40, **options)
    assert sum(p.numel() for p in model.parameters()) == 43_857


@pytest.mark.parametrize("name", ["sgc", "sign", "dgmlp"])
def test_rows_of_what_was_precomputed(name: str, small: tuple[Tensor, Tensor]) -> None:
    """Propagated once, any rows are mapped as in the whole, and dropout comes behind it."""
    x, edge_index = small
    model: Any = gnn.build_model(name, 16, 8, 3, num_layers=4, dropout=0.9)
    rows = model.precompute(x, edge_index)
    assert torch.equal(model.precompute(x, edge_index), rows)
    some = torch.tensor([4, 0, 42])
    model.eval()
    torch.testing.assert_close(model(rows[some]), model(x, edge_index)[some])
    model.train()
    torch.manual_seed(1)
    whole = model(x, edge_index)
    torch.manual_seed(1)
    assert torch.equal(model(rows), whole)
    assert not torch.allclose(model.eval()(rows), whole)


def test_sgc_is_one_map_of_its_convolution(small: tuple[Tensor, Tensor]) -> None:
    x, edge_index = small
    model: Any = gnn.build_model("sgc", 16, 8, 3, num_layers=5, dropout=0.0, hops=4)
    layer = gnn.SGConv(16, 3, 4)
    layer.lin.load_state_dict(model.head.state_dict())
    torch.testing.assert_close(model(x, edge_index), layer(x, edge_index))


@pytest.mark.parametrize("name", ["appnp", "dagnn", "sgc", "sign", "dgmlp"])
def test_no_hops_are_a_plain_network(name: str, small: tuple[Tensor, Tensor]) -> None:
    """Then the graph does not matter."""
    x, edge_index = small
    model = gnn.build_model(name, 16, 8, 3, hops=0).eval()
    torch.testing.assert_close(model(x, edge_index), model(x, edge_index[:, :0]))


@pytest.mark.parametrize("name", [*gnn.MODELS])
def test_one_class_and_isolated_nodes(name: str) -> None:
    """A class alone has nothing to tell apart; nodes without neighbours count as any others."""
    # no edge has its reverse, of which directed models would warn
    x, edge_index = torch.randn(9, 4), torch.tensor([[0, 1], [1, 2]])
    model = gnn.build_model(name, 4, 8, 1, num_layers=2, dropout=0.2)
    out = model(x, edge_index)
    assert out.shape == (9, 1) and out.isfinite().all()
    cross_entropy(out, torch.zeros(9, dtype=torch.int64)).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gcnii", {"num_layers": 64}),
        ("dagnn", {"hops": 64}),
        ("resgcn+", {"num_layers": 64}),
        ("resgcn+", {"num_layers": 8, "aggr": "powermean", "learn_p": True}),
        ("dgmlp", {"num_layers": 16, "hops": 64}),
    ],
)
def test_64_layers_learn(name: str, options: dict[str, Any]) -> None:
    """On two components with noisy features: no NaN on the way, and most nodes told apart."""
    y = torch.arange(60) % 2
    same = torch.rand(60, 60) < torch.where(y[:, None] == y, 0.2, 0.0)
    graph = Graph.from_edge_index(to_undirected(same.nonzero().t()), 60)
    x = torch.randn(60, 8) + 2 * y[:, None]
    model = gnn.build_model(name, 8, 16, 2, dropout=0.1, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(16):
        loss = cross_entropy(model(x, graph), y)
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model.eval()(x, graph).argmax(1) == y).float().mean() > 0.9


def test_gcnii_has_weight_decays_of_its_own() -> None:
    model: Any = gnn.build_model("gcnii", 4, 8, 3, num_layers=2, lin_decay=5e-4)
    convs, lins = model.parameter_groups(0.01)
    assert convs["weight_decay"] == 0.01 and lins["weight_decay"] == 5e-4
    parts = {id(p) for group in (convs, lins) for p in group["params"]}
    assert parts == {id(p) for p in model.parameters()}
    assert {id(p) for p in model.convs.parameters()} == {id(p) for p in convs["params"]}
    alone: Any = gnn.build_model("gcnii", 4, 8, 3)
    assert [group["weight_decay"] for group in alone.parameter_groups(0.3)] == [0.3, 0.3]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: gnn.SGConv(3, 2, -1), "SGConv: K is -1, but a whole number of hops"),
        (lambda: gnn.APPNP(2.5, 0.1), "APPNP: K is 2.5"),
        (lambda: gnn.APPNP(2, 1.5), "APPNP: alpha is 1.5, but a number from 0 to 1"),
        (lambda: gnn.APPNP(2, 0.1, dropout=-1), "APPNP: dropout is -1"),
        (lambda: gnn.AdaptivePropagation(3, True), "K is True"),
        (lambda: gnn.GCN2Conv(3, 1.5), "GCN2Conv: alpha is 1.5"),
        (lambda: gnn.GCN2Conv(3, 0.1, theta=0.5), "theta is 0.5 and layer None, but both"),
        (lambda: gnn.GCN2Conv(3, 0.1, 0.5, 0), "theta is 0.5 and layer 0, but a number above 0"),
        (lambda: gnn.GENConv(3, 2, "softmx"), "unknown aggr 'softmx'. Did you mean 'softmax'"),
        (lambda: gnn.GENConv(3, 2, norm="instance"), "unknown norm 'instance'"),
        (lambda: gnn.GENConv(3, 2, p=0), "p is 0"),
        (lambda: gnn.GENConv(3, 2, num_layers=0), "num_layers=0"),
        (lambda: gnn.DeepGCNLayer(nn.Identity(), block="rse"), "unknown block 'rse'. Did you mean"),
        (lambda: gnn.node_smoothing(X, E, 2, 0.0), "temperature is 0.0, but it must be above 0"),
        (lambda: gnn.build_model("dgmlp", 3, 4, 2, temperature=-1.0), "dgmlp: temperature is -1.0"),
        (lambda: gnn.build_model("dagnn", 3, 4, 2, hops=-2), "dagnn: hops is -2"),
        (lambda: gnn.build_model("appnp", 3, 4, 2, alpha=-0.1), "APPNP: alpha is -0.1"),
        (lambda: gnn.build_model("gcnii", 3, 4, 2, alpha=float("nan")), "GCN2Conv: alpha is nan"),
        (lambda: gnn.build_model("gcnii", 3, 4, 2, norm="batch_norm"), "'gcnii' has no norm"),
        (lambda: gnn.build_model("sgc", 3, 4, 2, norm="batch_norm"), "'sgc' has no norm"),
    ],
)
def test_bad_options(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


X, E = torch.ones(4, 3), torch.tensor([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gnn.APPNP(2, 0.1)((X, X), E), "APPNP is defined on one set of nodes"),
        (lambda: gnn.SGConv(5, 2)(X, E), r"SGConv: x has shape \[4, 3\], but \[N, 5\]"),
        (lambda: gnn.GCN2Conv(3, 0.1)(X, X[:2], E), "GCN2Conv|2 source rows|4 source"),
        (lambda: gnn.GENConv(3, 2, edge_dim=2)(X, E, torch.ones(2, 3)), r"but \[E, 2\] is"),
        (lambda: gnn.GENConv(3, 3, msg_norm=True)((X, None), E, size=(4, 4)), "needs x_dst"),
        (lambda: gnn.build_model("dagnn", 5, 4, 2)(X, E), r"x has shape \[4, 3\]"),
        (lambda: gnn.build_model("sgc", 5, 4, 2)(X, E), r"x has shape \[4, 3\]"),
        (lambda: gnn.build_model("gcnii", 3, 4, 2)(X, [E, E]), "edge_index is a list"),
        (lambda: gnn.smooth((X, X), E, 2), "smooth is defined on one set of nodes"),
    ],
)
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        call()


class Products(TorchDispatchMode):
    """Notes the width of every product, and whether its edges have weights."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []
        self.weighted = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.graphkit.spmm.default:
            self.widths.append(args[6][0].numel())
            self.weighted |= args[7] is not None
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("layer", "widths"),
    [
        # before the map or behind it, whichever moves fewer bytes
        (lambda: gnn.SGConv(16, 3, 4), [3] * 4),
        (lambda: gnn.SGConv(16, 24, 4), [16] * 4),
        (lambda: gnn.APPNP(5, 0.1), [16] * 5),
        (lambda: gnn.AdaptivePropagation(16, 5), [16] * 5),
        # softmax: numerators and denominators at once
        (lambda: gnn.GENConv(16, 16), [32]),
        (lambda: gnn.build_model("dgmlp", 16, 8, 3, hops=6), [16] * 6),
        (lambda: gnn.build_model("gcnii", 16, 8, 3, num_layers=7), [8] * 7),
    ],
)
def test_a_hop_is_one_product_without_weights(
    layer: Any, widths: list[int], small: tuple[Tensor, Tensor]
) -> None:
    with Products() as products, torch.no_grad():
        layer()(*small)
    assert products.widths == widths and not products.weighted
