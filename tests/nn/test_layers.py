"""Every layer: its promises, PyG's numbers with PyG's weights, and the errors of bad input."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric import nn as pyg
from torch_geometric.data import Data

import graphkit as gk
from graphkit import ConfigError, Graph, GraphError
from graphkit import nn as gnn
from graphkit.testing import CHECKED_NODES, check_layer


def mlp(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 6), nn.ReLU(), nn.Linear(6, 4))


def bern(*args: Any, **options: Any) -> nn.Module:
    """With a filter of its own: at first it lets everything pass."""
    layer = gnn.BernConv(*args, **options)
    nn.init.uniform_(layer.theta, 0.2, 2.0)
    return layer


class BothParts(nn.Module):
    """MagNetConv with the features in both parts and both parts of the result side by side."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.conv = gnn.MagNetConv(8, 4, **options)

    def reset_parameters(self) -> None:
        self.conv.reset_parameters()

    def forward(self, x: Any, edge_index: Any, edge_weight: Any = None, *, edge_mask: Any = None):
        return torch.cat(self.conv(x, x, edge_index, edge_weight, edge_mask=edge_mask), dim=1)


LAYERS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "gcn": (lambda: gnn.GCNConv(8, 4), {}),
    "gcn-improved": (lambda: gnn.GCNConv(8, 4, improved=True, bias=False), {}),
    "gcn-plain": (lambda: gnn.GCNConv(8, 4, normalize=False), {}),
    "gcn-no-loops": (lambda: gnn.GCNConv(8, 4, add_self_loops=False), {}),
    "sage": (lambda: gnn.SAGEConv(8, 4), {"bipartite": True}),
    "sage-wider": (lambda: gnn.SAGEConv((8, 8), 12, "sum", root_weight=False), {"bipartite": True}),
    "sage-max": (
        lambda: gnn.SAGEConv(8, 4, aggr="max", project=True, normalize=True),
        {"bipartite": True},
    ),
    "gin": (lambda: gnn.GINConv(mlp(), 0.3, train_eps=True), {"in_channels": 8, "bipartite": True}),
    "gine": (
        lambda: gnn.GINEConv(mlp(), edge_dim=3),
        {"in_channels": 8, "edge_dim": 3, "bipartite": True},
    ),
    "gat": (lambda: gnn.GATConv(8, 4, heads=2), {"bipartite": True}),
    "gat-edges": (
        lambda: gnn.GATConv(8, 4, 2, concat=False, edge_dim=3, residual=True),
        {"edge_dim": 3, "bipartite": True},
    ),
    "gatv2": (lambda: gnn.GATv2Conv(8, 4, heads=2), {"bipartite": True}),
    "gatv2-edges": (
        lambda: gnn.GATv2Conv(8, 4, 2, edge_dim=3, share_weights=True, add_self_loops=False),
        {"edge_dim": 3},
    ),
    "acm": (lambda: gnn.ACMConv(8, 4), {}),
    "acmii": (lambda: gnn.ACMConv(8, 4, "acmii", norm="sym", layer_norm=True, bias=True), {}),
    "acm-structure": (
        lambda: gnn.ACMConv(8, 4, layer_norm=True, structure_nodes=CHECKED_NODES),
        {"node_parameters": ["structure"]},
    ),
    "acm-sgc": (lambda: gnn.ACMSGC(8, 4, hops=2), {"in_channels": 8}),
    "acmgcn": (lambda: gnn.ACMGCN(8, 6, 4), {"in_channels": 8}),
    "acmgcn++": (
        lambda: gnn.ACMGCN(
            *(8, 6, 4),
            variant="acmii",
            layer_norm=True,
            structure_nodes=CHECKED_NODES,
            residual=True,
        ),
        {"in_channels": 8, "node_parameters": ["convs.0.structure", "convs.1.structure"]},
    ),
    "acm-snowball": (lambda: gnn.ACMSnowball(8, 6, 4, num_layers=3), {"in_channels": 8}),
    "dir-gcn": (lambda: gnn.DirGCNConv(8, 4), {}),
    "dir-gcn-out": (lambda: gnn.DirGCNConv(8, 12, alpha=1.0, root_weight=True), {}),
    "dir-gcn-learnt": (lambda: gnn.DirGCNConv(8, 4, learn_alpha=True, bias=False), {}),
    "dir-sage": (lambda: gnn.DirSAGEConv(8, 4, alpha=0.3), {}),
    "dir-gat": (lambda: gnn.DirGATConv(8, 4, heads=2), {}),
    "dir-gnn": (lambda: gnn.DirGNN(8, 6, 4, normalize=True), {}),
    "magnet-conv": (lambda: BothParts(q=0.2), {"in_channels": 8}),
    "magnet-real": (lambda: BothParts(K=3, q=0.0, bias=False), {"in_channels": 8}),
    "magnet": (lambda: gnn.MagNet(8, 6, 4, K=2, q=0.1), {"compile_backend": None}),
    "digcn-conv": (lambda: gnn.DiGCNConv(8, 4), {}),
    "digcn": (lambda: gnn.DiGCN(8, 6, 4, num_layers=3), {"compile_backend": None}),
    "digcn-block": (lambda: gnn.DiGCNBlock(8, 4, k=3), {}),
    "digcn-ib": (
        lambda: gnn.DiGCNIB(8, 6, 4, num_layers=2, fusion="cat"),
        {"compile_backend": None},
    ),
    "dgcn-conv": (lambda: gnn.DGCNConv(8, 4), {}),
    "dgcn": (lambda: gnn.DGCN(8, 6, 4), {"compile_backend": None}),
    "cheb": (lambda: gnn.ChebConv(8, 4, 3), {}),
    "cheb-rw": (lambda: gnn.ChebConv(8, 12, 4, "rw", bias=False), {}),
    "cheb-filters": (lambda: gnn.ChebFilters(8, 2, 3), {}),
    "bern": (lambda: bern(8, 4, 3), {}),
    "bern-wider": (lambda: bern(8, 12, 4, bias=False), {}),
    "stack": (lambda: gnn.Stack([gnn.GCNConv(8, 6), gnn.SAGEConv(6, 4)]), {"in_channels": 8}),
}


# each class in one form through AOTAutograd, which takes most of the time; models and variants,
# which are made of the same ops, are traced whole all the same
COMPILED = (
    *("gcn", "sage-max", "gin", "gine", "gat-edges", "gatv2-edges", "acm", "acm-structure"),
    *("dir-gcn-learnt", "dir-sage", "magnet-conv", "digcn-conv", "dgcn-conv", "stack"),
)


@pytest.mark.parametrize("name", LAYERS)
def test_promises(name: str, request: pytest.FixtureRequest) -> None:
    factory, options = LAYERS[name]
    thorough = name in COMPILED or request.config.getoption("--slow")
    check_layer(factory, **{"compile_backend": "aot_eager" if thorough else "eager", **options})


# twenty seconds of a C++ compiler; the ops, all in one function, are compiled so in every run
@pytest.mark.slow
# torch 2.6 says this of its own options
@pytest.mark.filterwarnings("ignore:Skipping serialization:UserWarning")
def test_compiled_by_inductor() -> None:
    import shutil

    if not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("torch's Inductor needs a C++ compiler, none is on the path")
    torch.compiler.reset()
    model = gnn.Stack([gnn.GCNConv(8, 6), gnn.GATConv(6, 4)])
    x, edge_index = torch.randn(9, 8), torch.randint(9, (2, 30))
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    parameters = list(model.parameters())
    got, want = (run(x, edge_index) for run in (compiled, model))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), parameters) for out in (got, want)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


# -- check_layer itself must be able to fail -------------------------------------------------------


class Broken(gnn.GCNConv):
    """A layer with one broken promise."""

    def __init__(self, how: str) -> None:
        super().__init__(8, 4)
        self.how = how

    def reset_parameters(self) -> None:
        if getattr(self, "how", "") != "does not reset":
            super().reset_parameters()

    def forward(self, x: Any, edge_index: Any, edge_weight: Any = None, *, edge_mask: Any = None):
        if self.how == "ignores the mask":
            edge_mask = None if edge_mask is None else edge_mask.detach()
        if self.how == "reads edges in its own order" and edge_weight is not None:
            edge_weight = edge_weight.sort().values
        if self.how == "detaches":
            return super().forward(x, edge_index, edge_weight, edge_mask=edge_mask) + (
                self.lin(x).detach() * 0.1
            )
        out = super().forward(x, edge_index, edge_weight, edge_mask=edge_mask)
        if self.how == "knows node numbers":
            return out + torch.arange(out.size(0)).unsqueeze(1)
        if self.how == "looks across graphs":
            return out - out.mean(0)
        if self.how == "breaks the compiled graph":
            return out if float(out.detach().sum()) > 1e9 else out * 1
        if self.how == "nan without edges" and isinstance(edge_index, Tensor):
            return out / min(edge_index.size(1), 1)
        return out


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("ignores the mask", "does not require grad|unused|have been used|edge masks"),
        ("reads edges in its own order", "edge order"),
        ("detaches", "Jacobian mismatch"),
        ("knows node numbers", "node order"),
        ("looks across graphs", "union of graphs"),
        ("breaks the compiled graph", "Data-dependent|data-dependent|item|Unsupported"),
        ("does not reset", "reset_parameters draws new"),
        ("nan without edges", "finite output without edges|division by zero"),
    ],
)
def test_check_layer_catches(how: str, message: str) -> None:
    check_layer(Broken("not at all"), compile_backend=None, pyg=False)
    with pytest.raises(Exception, match=message):
        check_layer(Broken(how), pyg=False)


def test_check_layer_needs_a_width() -> None:
    with pytest.raises(ConfigError, match="pass in_channels"):
        check_layer(nn.Identity())


def test_check_layer_works_where_the_layer_is() -> None:
    """Whatever it makes is made there: on the default device of here nothing has a value."""
    layer = gnn.SAGEConv(8, 4)
    with torch.device("meta"):
        check_layer(layer, bipartite=True)


# -- PyG's numbers ---------------------------------------------------------------------------------

PAIRS: dict[str, tuple[type, type, tuple, dict[str, Any]]] = {
    "gcn": (gnn.GCNConv, pyg.GCNConv, (16, 8), {}),
    "gcn-improved": (gnn.GCNConv, pyg.GCNConv, (16, 8), {"improved": True}),
    "gcn-no-loops": (gnn.GCNConv, pyg.GCNConv, (16, 8), {"add_self_loops": False}),
    "gcn-plain": (gnn.GCNConv, pyg.GCNConv, (16, 8), {"normalize": False, "bias": False}),
    "sage": (gnn.SAGEConv, pyg.SAGEConv, (16, 8), {}),
    "sage-sum": (gnn.SAGEConv, pyg.SAGEConv, (16, 24), {"aggr": "sum", "normalize": True}),
    "sage-add": (gnn.SAGEConv, pyg.SAGEConv, (16, 8), {"aggr": "add", "root_weight": False}),
    "sage-max": (gnn.SAGEConv, pyg.SAGEConv, (16, 8), {"aggr": "max", "project": True}),
    "sage-min": (gnn.SAGEConv, pyg.SAGEConv, (16, 8), {"aggr": "min", "bias": False}),
    "gat": (gnn.GATConv, pyg.GATConv, (16, 4), {"heads": 2}),
    "gat-mean": (gnn.GATConv, pyg.GATConv, (16, 4), {"heads": 3, "concat": False, "bias": False}),
    "gat-no-loops": (gnn.GATConv, pyg.GATConv, (16, 4), {"add_self_loops": False}),
    "gat-residual": (gnn.GATConv, pyg.GATConv, (16, 4), {"heads": 2, "residual": True}),
    "gatv2": (gnn.GATv2Conv, pyg.GATv2Conv, (16, 4), {"heads": 2}),
    "gatv2-shared": (gnn.GATv2Conv, pyg.GATv2Conv, (16, 4), {"share_weights": True}),
    "gatv2-residual": (gnn.GATv2Conv, pyg.GATv2Conv, (16, 4), {"heads": 2, "residual": True}),
    "cheb": (gnn.ChebConv, pyg.ChebConv, (16, 8, 4), {}),
    "cheb-wider": (gnn.ChebConv, pyg.ChebConv, (16, 24, 3), {"bias": False}),
    "cheb-rw": (gnn.ChebConv, pyg.ChebConv, (16, 8, 3), {"normalization": "rw"}),
    "cheb-unnormalised": (gnn.ChebConv, pyg.ChebConv, (16, 8, 3), {"normalization": None}),
    "cheb-map": (gnn.ChebConv, pyg.ChebConv, (16, 8, 1), {}),
}
FILLS = ["mean", "add", "max", "min", 0.5]
EDGE_PAIRS = {
    f"{ours.__name__}-{fill}": (
        ours,
        theirs,
        (16, 4),
        {"heads": 2, "edge_dim": 3, "fill_value": fill},
    )
    for ours, theirs in ((gnn.GATConv, pyg.GATConv), (gnn.GATv2Conv, pyg.GATv2Conv))
    for fill in FILLS
}


def twins(ours: type, theirs: type, args: tuple, options: dict[str, Any]) -> tuple[Any, Any]:
    """Our layer and PyG's with PyG's weights, loaded through its checkpoint, and seeded bias."""
    peer = theirs(*args, **options)
    for parameter in peer.parameters():
        nn.init.normal_(parameter, std=0.3)
    layer = ours(*args, **options)
    layer.load_state_dict(peer.state_dict())
    return layer, peer


def agree(layer: Any, peer: Any, x: Any, edge_index: Tensor, **edges: Tensor) -> None:
    """Outputs, and gradients of inputs, edge tensors and parameters, are those of PyG in float64:
    to 1e-5 relative, or eight times what PyG's own are off in float32 where they cancel: whose
    rounding does better there is up to the processor."""

    def run(module: Any, adjacency: Any, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        module = copy.deepcopy(module).to(dtype)
        nodes = x if isinstance(x, tuple) else (x,)
        given = [t.detach().to(dtype) for t in (*nodes, *edges.values())]
        leaves = [t.clone().requires_grad_() for t in given]
        inputs = leaves[0] if not isinstance(x, tuple) else tuple(leaves[: len(nodes)])
        keywords = dict(zip(edges, leaves[len(nodes) :], strict=True))
        out = module(inputs, adjacency, **keywords)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        grads = torch.autograd.grad((out * weight).sum(), (*leaves, *module.parameters()))
        return [out.detach(), *grads]

    sizes = (x[0].size(0), x[1].size(0)) if isinstance(x, tuple) else (x.size(0), x.size(0))
    graph = Graph.from_edge_index(edge_index, num_src=sizes[0], num_dst=sizes[1])
    want, theirs = run(peer, edge_index, torch.float64), run(peer, edge_index)
    for adjacency in (edge_index, graph):
        for got, other, exact in zip(run(layer, adjacency), theirs, want, strict=True):
            allowed = 1e-5 * max(1.0, float(exact.abs().max()))
            allowed = max(allowed, 8 * float((other - exact).abs().max()))
            assert (got - exact).abs().max() <= allowed


@pytest.fixture(scope="module")
def real() -> tuple[Tensor, Tensor]:
    """Digits: a real graph that is always there, with features squeezed to 16 columns."""
    data = gk.data.load("digits")
    return data.x @ torch.randn(64, 16, generator=torch.Generator().manual_seed(0)), data.edge_index


# without edge weights PyG's improved=True has no effect; with weights it is compared below
@pytest.mark.parametrize("name", [name for name in PAIRS if name != "gcn-improved"])
def test_equals_pyg_on_a_real_graph(name: str, real: tuple[Tensor, Tensor]) -> None:
    agree(*twins(*PAIRS[name]), *real)


@pytest.mark.parametrize(
    "name",
    [
        *("gcn", "gcn-improved", "gcn-no-loops", "gcn-plain"),
        *("cheb", "cheb-wider", "cheb-rw", "cheb-unnormalised"),
    ],
)
def test_equals_pyg_with_edge_weights(name: str, real: tuple[Tensor, Tensor]) -> None:
    x, edge_index = real
    loops = torch.tensor([[3, 8], [3, 8]])
    edge_index = torch.cat([loops, edge_index], 1)
    agree(*twins(*PAIRS[name]), x, edge_index, edge_weight=torch.rand(edge_index.size(1)) + 0.1)


@pytest.mark.parametrize("name", EDGE_PAIRS)
def test_equals_pyg_with_edge_features(name: str, real: tuple[Tensor, Tensor]) -> None:
    x, edge_index = real
    edge_index = torch.cat([torch.tensor([[3, 8], [3, 8]]), edge_index], 1)
    agree(*twins(*EDGE_PAIRS[name]), x, edge_index, edge_attr=torch.randn(edge_index.size(1), 3))


@pytest.mark.parametrize("edge_dim", [None, 3])
def test_gin_equals_pyg(edge_dim: int | None, real: tuple[Tensor, Tensor]) -> None:
    x, edge_index = real
    agree(*twins(gnn.GINConv, pyg.GINConv, (mlp(16),), {"train_eps": True}), x, edge_index)
    options = {"edge_dim": edge_dim, "eps": 0.2}
    edge_attr = torch.randn(edge_index.size(1), edge_dim or 16)
    pair = twins(gnn.GINEConv, pyg.GINEConv, (mlp(16),), options)
    agree(*pair, x, edge_index, edge_attr=edge_attr)


@pytest.mark.parametrize("name", ["cora", "citeseer", "texas", "wisconsin", "chameleon", "actor"])
def test_equals_pyg_on_local_data(name: str, local_data: Any) -> None:
    data = gk.data.load(name, local_data)
    x = data.x @ torch.randn(data.x.size(1), 16) / data.x.size(1) ** 0.5
    for case in ("gcn", "sage", "gat", "gatv2"):
        agree(*twins(*PAIRS[case]), x, data.edge_index)
    pair = twins(gnn.GINConv, pyg.GINConv, (mlp(16),), {"train_eps": True})
    agree(*pair, x, data.edge_index)
    # raw features are full of ties, among which the gradient of max and min is split; one is added
    # because torch, and so PyG, pays a share to the zero it starts from where the result is 0
    raw = data.x[:, :60] + 1
    for aggr in ("max", "min"):
        agree(*twins(gnn.SAGEConv, pyg.SAGEConv, (60, 8), {"aggr": aggr}), raw, data.edge_index)


@pytest.mark.parametrize("name", ["sage", "sage-sum", "sage-max", "gat", "gat-no-loops", "gatv2"])
def test_equals_pyg_on_bipartite_graphs(name: str) -> None:
    ours, theirs, (_, out), options = PAIRS[name]
    pair = twins(ours, theirs, ((16, 7), out), options)
    for num_src, num_dst in ((30, 12), (12, 30)):
        ends = torch.randint(num_src, (80,)), torch.randint(num_dst, (80,))
        agree(*pair, (torch.randn(num_src, 16), torch.randn(num_dst, 7)), torch.stack(ends))


def test_attention_weights_equal_pygs(real: tuple[Tensor, Tensor]) -> None:
    x, edge_index = real
    edge_index = torch.cat([torch.tensor([[3, 8], [3, 8]]), edge_index], 1)
    for name in ("gat", "gatv2", "gat-no-loops"):
        layer, peer = twins(*PAIRS[name])
        _, (got_index, got) = layer(x, edge_index, return_attention_weights=True)
        _, (want_index, want) = peer(x, edge_index, return_attention_weights=True)
        assert torch.equal(got_index, want_index)
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)


def test_missing_destination_features_equal_pygs() -> None:
    edge_index = torch.stack([torch.randint(9, (20,)), torch.randint(4, (20,))])
    x = torch.randn(9, 16)
    for name in ("sage", "gat-no-loops"):
        layer, peer = twins(*PAIRS[name])
        got, want = (m((x, None), edge_index, size=(9, 4)) for m in (layer, peer))
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)
    graph = Graph.from_edge_index(edge_index, num_src=9, num_dst=4)
    torch.testing.assert_close(layer((x, None), graph), want, atol=1e-6, rtol=1e-5)


def test_lazy_widths_are_read_off_the_first_input() -> None:
    edge_index = torch.randint(6, (2, 20))
    for layer, attribute in (
        (gnn.GCNConv(-1, 4), "lin"),
        (gnn.SAGEConv((-1, -1), 4), "lin_r"),
        (gnn.GATConv(-1, 4), "lin"),
        (gnn.GATv2Conv((-1, -1), 4), "lin_l"),
    ):
        with torch.no_grad():
            assert layer(torch.randn(6, 5), edge_index).shape == (6, 4)
        assert getattr(layer, attribute).weight.shape == (4, 5)
        assert float(getattr(layer, attribute).weight.detach().abs().sum()) > 0
        layer.reset_parameters()


def test_cached_gcn_keeps_its_first_normalisation() -> None:
    x, edge_index = torch.randn(6, 4), torch.randint(6, (2, 20))
    cached = gnn.GCNConv(4, 3, cached=True)
    first = cached(x, edge_index)
    assert torch.equal(cached(x, edge_index), first)
    cached.reset_parameters()
    assert cached._cache is None


def test_mlp_equals_pyg() -> None:
    for norm, act_first in (("batch_norm", False), ("batch_norm", True), (None, False)):
        peer = pyg.MLP([16, 8, 4], dropout=0.5, norm=norm, act_first=act_first)
        layer = gnn.MLP([16, 8, 4], dropout=0.5, norm=norm, act_first=act_first)
        x = torch.randn(10, 16)
        # statistics of a batch in training
        peer(x)
        layer.load_state_dict(peer.state_dict())
        torch.testing.assert_close(layer.eval()(x), peer.eval()(x))
    named = gnn.MLP(in_channels=16, hidden_channels=8, out_channels=4, num_layers=3)
    assert named.channel_list == [16, 8, 8, 4]
    assert gnn.MLP([-1, 4], norm=None)(torch.randn(2, 3)).shape == (2, 4)
    last = gnn.MLP([3, 5, 5], plain_last=False)
    last.reset_parameters()
    assert (last(torch.randn(4, 3)) >= 0).all()


@pytest.mark.parametrize(
    "name", ["GCNConv", "SAGEConv", "GATConv", "GATv2Conv", "GINConv", "GINEConv", "ChebConv"]
)
def test_constructors_take_pygs_arguments(name: str) -> None:
    def arguments(layer: type) -> list[str]:
        return [p for p in inspect.signature(layer).parameters if p != "kwargs"]

    assert arguments(getattr(gnn, name)) == arguments(getattr(pyg, name))


def test_edge_weights_may_be_a_column() -> None:
    x, edge_index, w = torch.randn(6, 4), torch.randint(6, (2, 20)), torch.rand(20)
    for layer in (gnn.GCNConv(4, 3), gnn.ACMConv(4, 3)):
        assert torch.equal(layer(x, edge_index, w.unsqueeze(1)), layer(x, edge_index, w))


def test_a_hub_beyond_float16() -> None:
    num_edges = 70_000
    edges = torch.stack([torch.arange(num_edges) % 99 + 1, torch.zeros(num_edges).long()])
    x = torch.randn(100, 8)
    for layer in (gnn.GCNConv(8, 4), gnn.ACMConv(8, 4)):
        want = layer(x, edges)
        got = layer.half()(x.half(), edges)
        assert (got[0].float() - want[0]).abs().max() < 0.05 * want[0].abs().max()


# -- models, and the errors ------------------------------------------------------------------------


@pytest.mark.parametrize("name", gnn.MODELS)
def test_every_model_learns_and_resets(name: str) -> None:
    # as many features as nodes: of those one linear map can tell any labels
    x, edge_index = torch.randn(20, 20), torch.randint(20, (2, 60))
    y = torch.randint(3, (20,))
    model = gnn.build_model(name, 20, 16, 3, dropout=0.0)
    graph = gk.as_graph(edge_index, 20, 20)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x, graph), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    model.reset_parameters()
    assert model(x, graph).shape == (20, 3)


@pytest.mark.parametrize("name", gnn.MODELS)
def test_models_have_as_many_layers_as_asked(name: str) -> None:
    # ++ joins the features in front of the second layer, and ACM-SGC is one layer by its definition
    for num_layers in (2, 3) if name.endswith("++") else (1, 3):
        model: Any = gnn.build_model(name, 6, 16, 3, num_layers=num_layers)
        head = getattr(model, "head", model)
        if name == "sgc":
            assert isinstance(head, nn.Linear)  # whatever is asked for
        elif name == "sign":
            # the maps of the hops, side by side, are the first of several
            assert bool(len(head.maps)) + len(head.mlp.lins) == num_layers
        else:
            want = 1 if name.endswith("-sgc") else num_layers
            assert len(getattr(head, "convs", None) or head.lins) == want


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: gnn.build_model("gcnn", 3, 4, 2), ConfigError, "'gcnn'. Did you mean 'gcn'"),
        (lambda: gnn.build_model("gcn", 3, 4, 2, num_layers=0), ConfigError, "num_layers=0"),
        (lambda: gnn.build_model("gcn", 3, 4, 2, dropout=1.5), ConfigError, "dropout=1.5"),
        (lambda: gnn.build_model("gat", 3, 12, 2), ConfigError, "12 is not a multiple of its 8"),
        (lambda: gnn.SAGEConv(3, 4, aggr="men"), ConfigError, "Did you mean 'mean'"),
        (lambda: gnn.SAGEConv(-1, 4, project=True), ConfigError, "project=True needs in_channels"),
        (lambda: gnn.GCNConv(3, 4, add_self_loops=True, normalize=False), ConfigError, "normalize"),
        (lambda: gnn.GATConv(3, 4, fill_value="meen"), ConfigError, "Did you mean 'mean'"),
        (lambda: gnn.ACMConv(3, 4, "acm2"), ConfigError, "unknown variant 'acm2'"),
        (lambda: gnn.ACMConv(3, 4, norm="row"), ConfigError, "unknown norm 'row'"),
        (lambda: gnn.SAGEConv(3, 4, aggr=["mean"]), ConfigError, "unknown aggr"),
        (lambda: gnn.ACMConv(-1, 4), ConfigError, "in_channels=-1"),
        (lambda: gnn.MLP([3, 4], norm="layer_norm"), ConfigError, "unknown norm 'layer_norm'"),
        (lambda: gnn.MLP([3, 4], dropout=[0.5]), ConfigError, "a number from 0 to 1"),
        (lambda: gnn.MLP([3]), ConfigError, "at least two widths"),
        (lambda: gnn.MLP(in_channels=3), ConfigError, "in_channels, out_channels and num_layers"),
        (lambda: gnn.MLP([3, 4], act="rely"), ConfigError, "Did you mean 'relu'"),
        (lambda: gnn.GINEConv(nn.ReLU(), edge_dim=3), ConfigError, "ReLU has neither in_features"),
        (lambda: gnn.Stack([], act="elo"), ConfigError, "Did you mean 'elu'"),
    ],
)
def test_bad_options(build: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


X, E = torch.ones(4, 3), torch.tensor([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gnn.GCNConv(5, 2)(X, E), r"x has shape \[4, 3\], but \[N, 5\] .*in_channels=3"),
        (lambda: gnn.GCNConv(3, 2)((X, X), E), "defined on one set of nodes, but x is a pair"),
        (lambda: gnn.GCNConv(3, 2)(X[:2], E), r"edge_index\[1, 1\] = 2, but .* 2 destinations"),
        (lambda: gnn.GCNConv(3, 2)(X.long(), E), "GCNConv: x has dtype torch.int64"),
        (lambda: gnn.SAGEConv(3, 2)((X, None), E), r"Pass size=\(num_src, num_dst\), or a Graph"),
        (lambda: gnn.SAGEConv((3, 2), 2)((X, X), E), r"x\[1\] has shape \[4, 3\], but \[N, 2\]"),
        (lambda: gnn.SAGEConv(3, 2)(X.to("meta"), gk.as_graph(E, 4, 4)), "x is on meta but"),
        (lambda: gnn.GATConv(3, 2)(X, E, torch.ones(2, 1)), "built without edge_dim"),
        (lambda: gnn.GATConv(3, 2, edge_dim=1)(X, E, torch.ones(3, 1)), "the graph has 2 edges"),
        (lambda: gnn.GATv2Conv(3, 2)((X, None), E), "its scores need x_dst"),
        (lambda: gnn.GINEConv(mlp(3))(X, E), "needs edge_attr"),
        (lambda: gnn.GINEConv(mlp(3))(X, E, torch.ones(2, 5)), "widths must agree"),
        (lambda: gnn.ACMConv(3, 2)((X, X), E), "ACMConv is defined on one set"),
        (lambda: gnn.GCNConv(3, 2)(X.numpy(), E), "GCNConv: x is a ndarray"),
        (lambda: gnn.GCNConv(3, 2)(X, E, torch.ones(2, 2)), r"edge_weight has shape \[2, 2\]"),
        (lambda: gnn.GATConv(3, 2)(X, E, edge_mask=torch.ones(3)), "edge_mask has shape"),
        (lambda: gnn.GATConv(3, 2, edge_dim=3)(X, E, torch.ones(2, 2)), r"but \[E, 3\] is"),
        (lambda: gnn.SAGEConv(3, 2)(X, E, size=(9, 4)), r"size is \(9, 4\), but x has 4"),
        (
            lambda: gk.structure.gcn_scales(Graph.from_edge_index(E, num_src=5, num_dst=4)),
            "5 sources and 4 destinations",
        ),
    ],
)
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        call()


def test_data_with_a_graph_trains_like_its_edge_index(real: tuple[Tensor, Tensor]) -> None:
    x, edge_index = real
    data = Data(x=x, edge_index=edge_index, adj=gk.Graph.from_edge_index(edge_index, x.size(0)))
    layer = gnn.GCNConv(16, 4)
    torch.testing.assert_close(layer(data.x, data.adj), layer(data.x, data.edge_index))


class _Products(TorchDispatchMode):
    """Notes how many edges every product has, and how wide it is."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.graphkit.spmm.default:
            self.found.append((args[1].numel(), args[6][0].numel()))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("layer", "widths"),
    [
        # before the map or behind it, whichever moves fewer bytes; no edges for self-loops
        (lambda: gnn.GCNConv(8, 4), [4]),
        (lambda: gnn.GCNConv(8, 64), [8]),
        (lambda: gnn.SAGEConv(8, 4), [4]),
        (lambda: gnn.SAGEConv(8, 64), [8]),
        # both filtered channels of ACM at once
        (lambda: gnn.ACMConv(8, 4), [8]),
        (lambda: gnn.ACMConv(8, 4, "acmii"), [8]),
        # further hops of the low-pass channel alone, and the structure channel by itself
        (lambda: gnn.ACMConv(8, 4, hops=3), [8, 4, 4]),
        (lambda: gnn.ACMConv(8, 4, structure_nodes=20), [8, 4]),
    ],
)
def test_one_product_of_the_smaller_width(layer: Any, widths: list[int]) -> None:
    edge_index = torch.randint(20, (2, 90), generator=torch.Generator().manual_seed(0))
    with _Products() as products, torch.no_grad():
        layer()(torch.randn(20, 8), edge_index)
    assert products.found == [(90, width) for width in widths]


@pytest.mark.parametrize("grad", [False, True])
def test_of_many_sources_the_few_sums_are_mapped(grad: bool) -> None:
    random = torch.Generator().manual_seed(0)
    edge_index = torch.stack([torch.randint(n, (30,), generator=random) for n in (400, 5)])
    block = gk.Graph.from_edge_index(edge_index, num_src=400, num_dst=5)
    x = torch.randn(400, 8, requires_grad=grad)
    # among as many sources as destinations the map would come first
    with _Products() as products:
        gnn.SAGEConv(8, 6)((x, x[:5]), block)
    assert products.found[0] == (30, 8)
