"""ACM's layer and models: the formulas in float64, its corners, blocks, and the errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.utils import to_undirected

import graphkit as gk
from graphkit import ConfigError, Graph, GraphError
from graphkit import nn as gnn
from graphkit.ops import Sampler
from graphkit.testing import dense_adjacency, graphs

NAMES = [name for name in gnn.MODELS if name.startswith("acm")]


@pytest.fixture
def case() -> tuple[Tensor, Graph]:
    """Features, and an undirected graph with a loop, parallel edges, and two nodes without any."""
    edge_index = to_undirected(
        torch.randint(10, (2, 30), generator=torch.Generator().manual_seed(0))
    )
    more = torch.tensor([[3, 0, 1, 0, 1], [3, 1, 0, 1, 0]])
    return torch.randn(12, 8), Graph.from_edge_index(torch.cat([edge_index, more], 1), 12)


def low_pass(graph: Graph, norm: str) -> Tensor:
    adjacency = dense_adjacency(graph) + torch.eye(graph.num_dst).double()
    degree = adjacency.sum(1)
    if norm == "rw":
        return adjacency / degree[:, None]
    return adjacency / (degree[:, None] * degree).sqrt()


def formula(layer: gnn.ACMConv, x: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
    """The layer's output and weights as the paper writes them, with dense matrices."""
    layer, eye = layer.double(), torch.eye(graph.num_dst).double()
    filter = low_pass(graph, layer.norm)
    matrices = torch.linalg.matrix_power(filter, layer.hops), eye - filter, eye
    channels = []
    for matrix, weight in zip(matrices, layer.lin.weight.chunk(3), strict=True):
        h = x.double() @ weight.t()
        h = matrix @ (h.relu() if layer.variant == "acmii" else h)
        channels.append(h.relu() if layer.variant == "acm" and layer.channel_relu else h)
    if layer.structure is not None:
        channels.append((dense_adjacency(graph) @ layer.structure).relu())
    seen = channels
    if layer.norms is not None:
        seen = [norm(h) for norm, h in zip(layer.norms, channels, strict=True)]
    scores = [(h @ vector).sigmoid() for h, vector in zip(seen, layer.att, strict=True)]
    temperature = layer.temperature or len(channels)
    weights = (torch.stack(scores, 1) @ layer.mix / temperature).softmax(1)
    out = sum(weights[:, k : k + 1] * h for k, h in enumerate(channels))
    assert isinstance(out, Tensor)
    out = out.relu() if layer.final_relu else out
    return (3 if layer.scale_output and len(channels) == 3 else 1) * out, weights


def like(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-5)


FORMS: dict[str, dict[str, Any]] = {
    "acm": {},
    "official": {"scale_output": True, "final_relu": False},
    "sym": {"norm": "sym"},
    "acmii": {"variant": "acmii"},
    "acmii-official": {"variant": "acmii", "scale_output": True, "final_relu": False},
    "acmii-sym": {"variant": "acmii", "norm": "sym"},
    "plus": {"layer_norm": True},
    "plus-structure": {"layer_norm": True, "structure_nodes": 12, "scale_output": True},
    "acmii-structure": {"variant": "acmii", "structure_nodes": 12, "norm": "sym"},
    "sgc": {"hops": 3, "channel_relu": False, "final_relu": False, "scale_output": True},
    "acmii-sgc": {"variant": "acmii", "hops": 2, "channel_relu": False, "final_relu": False},
    "warm": {"temperature": 0.5},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_layer_is_its_formula(form: str, case: tuple[Tensor, Graph]) -> None:
    x, graph = case
    layer = gnn.ACMConv(8, 5, **FORMS[form])
    for norm in layer.norms or ():
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    out, alpha = layer(x, graph, return_weights=True)
    torch.testing.assert_close(alpha.sum(1), torch.ones(12))
    assert (alpha > 0).all() and alpha.shape == (12, 4 if layer.structure is not None else 3)
    like((out, alpha), formula(layer, x, graph))


@settings(deadline=None, max_examples=25)
@given(graphs(bipartite=False))
def test_the_formula_on_any_graph(graph: Graph) -> None:
    x = torch.randn(graph.num_dst, 4)
    for form in ("acm", "acmii-sym", "sgc"):
        layer = gnn.ACMConv(4, 3, **FORMS[form])
        like(layer(x, graph, return_weights=True), formula(layer, x, graph))


def only(layer: gnn.ACMConv, channel: int) -> gnn.ACMConv:
    """The layer with all weight on one channel."""
    with torch.no_grad():
        layer.temperature = 1e-4
        layer.att.zero_()
        layer.mix.zero_()
        layer.mix[:, channel] = 1
    return layer


@pytest.mark.parametrize("norm", ["rw", "sym"])
def test_the_corners_of_the_mixing(norm: Any, case: tuple[Tensor, Graph]) -> None:
    """(1, 0, 0) is GCN's filter, (0, 1, 0) the high-pass one, (0, 0, 1) a layer of an MLP."""
    x, graph = case
    matrix, eye = low_pass(graph, norm), torch.eye(12).double()
    layer = gnn.ACMConv(8, 4, norm=norm)
    weights = [w.t().double() for w in layer.lin.weight.detach().chunk(3)]
    for channel, filter in enumerate((matrix, eye - matrix, eye)):
        out, alpha = only(layer, channel)(x, graph, return_weights=True)
        want = (filter @ x.double() @ weights[channel]).relu()
        torch.testing.assert_close(out.double(), want, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alpha, torch.eye(3)[channel].expand(12, 3))
    with torch.no_grad():
        layer.mix.zero_()
    assert torch.allclose(layer(x, graph, return_weights=True)[1], torch.tensor(1 / 3))


def test_gcn_without_loops_of_its_own_is_the_symmetric_corner(case: tuple[Tensor, Graph]) -> None:
    x, _ = case
    edge_index = to_undirected(torch.randint(6, (2, 20)) + torch.tensor([[0], [6]]))
    layer = only(gnn.ACMConv(8, 4, norm="sym"), 0)
    conv = gnn.GCNConv(8, 4, bias=False)
    with torch.no_grad():
        conv.lin.weight.copy_(layer.lin.weight[:4])
    torch.testing.assert_close(layer(x, edge_index), conv(x, edge_index).relu())


def test_low_and_high_pass_make_the_whole(case: tuple[Tensor, Graph]) -> None:
    x, graph = case
    layer = gnn.ACMConv(8, 4, "acmii", final_relu=False)
    with torch.no_grad():
        layer.lin.weight[4:8] = layer.lin.weight[:4]
        low, high = (only(layer, k)(x, graph) for k in (0, 1))
        torch.testing.assert_close(low + high, (x @ layer.lin.weight[:4].t()).relu())


def test_the_high_pass_of_a_constant_signal_is_zero(case: tuple[Tensor, Graph]) -> None:
    _, graph = case
    assert only(gnn.ACMConv(8, 4), 1)(torch.ones(12, 8), graph).abs().max() < 1e-5


def test_only_acmii_has_negative_logits() -> None:
    x, edge_index = torch.randn(30, 8), torch.randint(30, (2, 90))
    assert (gnn.ACMGCN(8, 6, 4, variant="acmii")(x, edge_index) < 0).any()
    assert (gnn.ACMGCN(8, 6, 4, variant="acm")(x, edge_index) >= 0).all()


def test_what_is_not_used_has_no_parameters() -> None:
    names = {name for name, _ in gnn.ACMConv(8, 4).named_parameters()}
    assert names == {"lin.weight", "att", "mix"}
    names |= {"structure"}
    layer = gnn.ACMConv(8, 4, structure_nodes=7)
    assert {name for name, _ in layer.named_parameters()} == names
    assert layer.structure is not None and layer.structure.shape == (7, 4)
    assert layer.att.shape == (4, 4) and layer.mix.shape == (4, 4)


def test_the_norm_is_seen_by_the_gates_alone(case: tuple[Tensor, Graph]) -> None:
    x, graph = case
    plain, normed = gnn.ACMConv(8, 4), gnn.ACMConv(8, 4, layer_norm=True)
    normed.load_state_dict(plain.state_dict(), strict=False)
    (a, wa), (b, wb) = (layer(x, graph, return_weights=True) for layer in (plain, normed))
    assert not torch.allclose(wa, wb) and not torch.allclose(a, b)
    # a node's channels all 0 have nothing to be told apart by: every gate sees the norm's shift
    _, weights = normed(torch.zeros(12, 8), graph, return_weights=True)
    assert torch.allclose(weights, weights[:1])


# -- models ----------------------------------------------------------------------------------------


def build(name: str, width: int = 8, **options: Any) -> Any:
    plus = {"structure": True, "num_nodes": 12} if "+" in name else {}
    return gnn.build_model(name, width, 6, 3, **{**plus, **options})


@pytest.mark.parametrize("name", NAMES)
def test_models_tell_their_weights(name: str, case: tuple[Tensor, Graph]) -> None:
    x, graph = case
    model = build(name).eval()
    out, weights = model(x, graph, return_weights=True)
    assert torch.equal(out, model(x, graph)) and len(weights) == len(model.convs)
    for alpha in weights:
        assert alpha.shape == (12, 4 if "+" in name else 3)
        assert torch.allclose(alpha.sum(1), torch.ones(12))


def test_models_are_their_layers(case: tuple[Tensor, Graph]) -> None:
    x, graph = case
    plain, more = build("acm-gcn").eval(), build("acmii-gcn++").eval()
    first, last = plain.convs
    torch.testing.assert_close(plain(x, graph), last(first(x, graph), graph))
    first, last = more.convs
    hidden = first(x, graph) + more.residual(x).relu()
    torch.testing.assert_close(more(x, graph), last(hidden, graph))
    assert (first.norms, last.norms) != (None, None) and last.structure is not None
    snowball = build("acm-snowball", num_layers=3).eval()
    first, second, last = snowball.convs
    one = first(x, graph)
    two = second(torch.cat([x, one], 1), graph)
    want = last(torch.cat([x, one, two], 1), graph)
    torch.testing.assert_close(snowball(x, graph), want)
    sgc = build("acmii-sgc", hops=2).eval()
    assert len(sgc.convs) == 1 and sgc.convs[0].hops == 2
    torch.testing.assert_close(sgc(x, graph), sgc.convs[0](x, graph))


@pytest.mark.parametrize("name", NAMES)
def test_models_drop_what_the_official_code_drops(name: str, case: tuple[Tensor, Graph]) -> None:
    """In training, with all dropped, the first layer sees zeros, and so do all others."""
    x, graph = case
    model = build(name, dropout=0.999).train()
    torch.manual_seed(1)
    dropped = model(x + 100, graph)
    assert dropped.isfinite().all()
    model.eval()
    assert not torch.allclose(model(x + 100, graph), dropped)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_all_neighbours_give_the_full_forward(
    name: str, case: tuple[Tensor, Graph]
) -> None:
    x, graph = case
    model = build(name).double().eval()
    layers = len(model.convs)
    x = x.double()
    whole = model.of_whole(graph)
    seeds = torch.tensor([7, 3, 11, 0])
    found = Sampler(graph, [-1] * layers)(seeds)
    out = model(x[found.n_id], found.blocks(transpose=True), whole=whole[found.n_id])
    want = model(x, graph)[seeds]
    torch.testing.assert_close(out, want, rtol=1e-6, atol=1e-6)
    parameters = list(model.parameters())
    got, want = (torch.autograd.grad(o.square().sum(), parameters) for o in (out, want))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    h = x
    for number in range(layers):
        h = model.layer(number, h, graph, whole)
    torch.testing.assert_close(h, model(x, graph), rtol=1e-6, atol=1e-6)


def test_the_structure_channel_of_a_sample_is_unbiased(case: tuple[Tensor, Graph]) -> None:
    _, graph = case
    layer = gnn.ACMConv(8, 4, "acmii", structure_nodes=12, final_relu=False).double()
    assert layer.structure is not None
    with torch.no_grad():
        # no ReLU cuts anything off, and the other channels are silent
        layer.structure.abs_()
        layer.lin.weight.zero_()
    only(layer, 3)
    x, whole = torch.zeros(12, 8).double(), layer.of_whole(graph)
    seeds, sampler = torch.arange(12), Sampler(graph, [2])
    outs = []
    for number in range(400):
        found = sampler(seeds, (0, number, 0))
        block = found.blocks()[0]
        pair = x[found.n_id], x[found.n_id][:12]
        with torch.no_grad():
            outs.append(layer(pair, block, whole=whole[found.n_id]))
    mean, want = torch.stack(outs).mean(0), dense_adjacency(graph) @ layer.structure.detach()
    spread = torch.stack(outs).std(0) / 20 + 1e-9
    assert ((mean - want).abs() / spread).max() < 5


@pytest.mark.parametrize("name", ["acm-gcn++", "acmii-snowball"])
def test_models_learn_what_only_the_structure_tells(name: str) -> None:
    """On a ring with labels by turns a low-pass filter sees nothing: the others have to."""
    ring = torch.arange(12)
    graph = Graph.from_edge_index(to_undirected(torch.stack([ring, (ring + 1) % 12])), 12)
    x, y = torch.eye(12)[:, :8], ring % 2
    torch.manual_seed(0)
    model = build(name, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(model(x, graph), y).backward()
        optimizer.step()
    assert (model(x, graph).argmax(1) == y).all()


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gnn.ACMConv(3, 4, structure_nodes=0), "structure_nodes is 0, but a whole number"),
        (lambda: gnn.ACMConv(3, 4, hops=0), "hops is 0, but a whole number, at least 1"),
        (lambda: gnn.ACMSGC(3, 4, hops=0), "hops is 0"),
        (lambda: gnn.ACMConv(3, 4, temperature=0.0), "temperature is 0.0, but a number above 0"),
        (lambda: gnn.ACMGCN(3, 4, 2, 1, residual=True), "num_layers is 1. Give it two layers"),
        (
            lambda: gnn.build_model("acm-gcn+", 3, 4, 2, structure=True),
            "'acm-gcn.': structure needs num_nodes",
        ),
        (lambda: gnn.build_model("acm-gcn", 3, 4, 2, structure=True), "unknown option 'structure'"),
        (
            lambda: gnn.build_model("acm-sgc", 3, 4, 2, norm="batch_norm"),
            "'acm-sgc' has no norm and drops its input",
        ),
    ],
)
def test_bad_options(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_another_number_of_nodes_than_trained() -> None:
    layer = gnn.ACMConv(3, 2, structure_nodes=5)
    model = gnn.ACMGCN(3, 4, 2, structure_nodes=5)
    edges = torch.tensor([[0, 1], [1, 2]])
    message = "of 5 nodes, but the graph has 4: it knows no others.*structure_nodes=4 and train"
    for call in (
        lambda: layer(torch.ones(4, 3), edges),
        lambda: model(torch.ones(4, 3), edges),
        lambda: layer.of_whole(gk.as_graph(edges, 4, 4)),
    ):
        with pytest.raises(GraphError, match=message):
            call()
    block = Graph.from_edge_index(edges, num_src=4, num_dst=3)
    pair = torch.ones(4, 3), torch.ones(3, 3)
    with pytest.raises(GraphError, match=r"whole has shape \[4, 1\], but \[4, 2\]"):
        layer(pair, block, whole=torch.ones(4, 1))
    with pytest.raises(GraphError, match="one for each of the 4 sources"):
        layer(pair, block, whole=torch.ones(3, 2))


def test_more_hops_are_for_whole_graphs() -> None:
    block = Graph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), num_src=4, num_dst=3)
    pair = torch.ones(4, 3), torch.ones(3, 3)
    for layer in (gnn.ACMConv(3, 2, hops=2), gnn.ACMConv(3, 2, norm="sym")):
        with pytest.raises(ConfigError, match="for norm='rw' and hops=1, but norm is"):
            layer(pair, block, whole=torch.ones(4, 1))
    with pytest.raises(ConfigError, match="return_weights is for a graph, but blocks were given"):
        gnn.ACMSGC(3, 2)(torch.ones(4, 3), [block], return_weights=True)
