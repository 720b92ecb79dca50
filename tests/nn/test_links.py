"""Decoders, GAE and BUDDY against their formulas."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GAE as PygGAE
from torch_geometric.utils import to_undirected

from graphkit import ConfigError, Graph, GraphError
from graphkit import nn as gnn
from graphkit.structure import (
    estimated_counts,
    exact_counts,
    sketch_neighborhoods,
    with_normalized,
)
from graphkit.testing import dense_adjacency


def scattered(num_nodes: int = 40, num_edges: int = 80) -> Graph:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(num_nodes, (2, num_edges), generator=generator)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    return Graph.from_edge_index(to_undirected(edge_index), num_nodes)


def some_pairs(count: int = 30, num_nodes: int = 40) -> Tensor:
    return torch.randint(num_nodes, (2, count), generator=torch.Generator().manual_seed(1))


def decoders() -> dict[str, nn.Module]:
    return {"dot": gnn.DotDecoder(), "hadamard": gnn.HadamardDecoder(6, 5, 3, 0.5)}


@pytest.mark.parametrize("name", ["dot", "hadamard"])
def test_decoders_are_their_formulas(name: str) -> None:
    decoder, z, pairs = decoders()[name].double().eval(), torch.randn(40, 6).double(), some_pairs()
    product = z[pairs[0]] * z[pairs[1]]
    want = product.sum(1) if name == "dot" else product
    if name == "hadamard":
        lins = [m for m in decoder.modules() if isinstance(m, nn.Linear)]
        assert [lin.weight.shape[0] for lin in lins] == [5, 5, 1]
        for lin in lins[:-1]:
            want = (want @ lin.weight.t() + lin.bias).relu()
        want = (want @ lins[-1].weight.t() + lins[-1].bias).squeeze(1)
    torch.testing.assert_close(decoder(z, pairs), want)
    # a link and its reverse
    assert torch.equal(decoder(z, pairs), decoder(z, pairs.flip(0)))
    assert decoder(z, pairs[:, :0]).shape == (0,)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: decoder(z, pairs[:, :5]), z, fast_mode=True)
    with pytest.raises(GraphError, match=r"shape \[30, 2\], but \[2, B\]"):
        decoder(z, pairs.t())


@pytest.mark.parametrize("model", ["mlp", "gcn", "sage"])
@pytest.mark.parametrize("decoder", ["dot", "hadamard"])
def test_gae_is_its_encoder_and_its_decoder(model: str, decoder: str) -> None:
    graph, pairs, x = scattered(), some_pairs(), torch.randn(40, 8)
    encoder = gnn.build_model(model, 8, 16, 6)
    gae = gnn.GAE(encoder, None if decoder == "dot" else decoders()[decoder]).eval()
    z = gae.encode(x, graph)
    torch.testing.assert_close(z, encoder(x, graph))
    torch.testing.assert_close(gae(x, graph, pairs), gae.decode(z, pairs))
    torch.testing.assert_close(gae(x, graph.edge_index(), pairs), gae.decode(z, pairs))
    before = copy.deepcopy(gae.state_dict())
    gae.reset_parameters()
    changed = [
        name for name, value in gae.state_dict().items() if not torch.equal(value, before[name])
    ]
    assert any(name.startswith("encoder.") for name in changed)


def test_the_loss_of_gae_is_that_of_pyg() -> None:
    # PyG's sigmoid is 0 and 1 in float32 before ours needs one
    z, positive, negative = torch.randn(40, 6).double(), some_pairs(20), some_pairs(30).flip(1)
    ours, theirs = gnn.GAE(nn.Identity()), PygGAE(nn.Identity())
    got, want = ours.loss(z, positive, negative), theirs.recon_loss(z, positive, negative)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    # where a sigmoid is 0 the loss goes on
    assert float(ours.loss(100 * z, positive, negative)) > 100
    target = torch.cat([torch.ones(20), torch.zeros(20)]).double()
    logits = torch.cat([ours.decode(z, positive), ours.decode(z, negative[:, :20])])
    by_torch = 2 * F.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(ours.loss(z, positive, negative[:, :20]), by_torch)


def test_gae_learns_which_nodes_are_joined() -> None:
    # two cliques: what an encoder needs to tell is which of them a node is in
    own = torch.arange(20).view(2, 10)
    edge_index = torch.cat([torch.cartesian_prod(part, part) for part in own]).t()
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    graph, x = Graph.from_edge_index(edge_index, 20), torch.eye(20)
    absent = torch.cartesian_prod(*own).t()
    gae = gnn.GAE(gnn.build_model("gcn", 20, 16, 8, dropout=0.0))
    optimizer = torch.optim.Adam(gae.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        gae.loss(gae.encode(x, graph), edge_index, absent).backward()
        optimizer.step()
    z = gae.encode(x, graph).detach()
    assert float(gae.decode(z, edge_index).min()) > float(gae.decode(z, absent).max())


PREDICTORS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one hop": {"hops": 1},
    "three hops": {"hops": 3},
    "near": {"near": True},
    "in order": {"symmetric": False},
    "planes": {"planes": 2, "near": True},
}


def given(name: str) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A predictor with running statistics of its own, and what it takes, in float64."""
    options = PREDICTORS[name]
    predictor = gnn.BUDDYPredictor(6, **options).double()
    graph, pairs = scattered(), some_pairs()
    counts = exact_counts(graph, pairs, hops=options.get("hops", 2))
    counts = with_normalized(counts, graph, pairs) if "planes" in options else counts
    z = torch.randn(40, 6).double()
    predictor(z, counts, pairs)
    return predictor.eval(), z, counts.double(), pairs


def read(counts: Tensor, hops: int, near: bool, symmetric: bool) -> Tensor:
    """The counts that the network reads, one by one."""
    tables = counts.view(len(counts), -1, hops + 1, hops + 1)
    row = []
    for plane in range(tables.size(1)):
        for i in range(hops + 1):
            for j in range(hops + 1):
                far_from_one = 0 in (i, j)
                if (i, j) == (0, 0) or (far_from_one and not near and max(i, j) < hops):
                    continue
                one, other = tables[:, plane, i, j], tables[:, plane, j, i]
                row.append((one + other) / 2 if symmetric else one)
    return torch.stack(row, 1)


@pytest.mark.parametrize("name", PREDICTORS)
def test_the_predictor_is_its_formula(name: str) -> None:
    predictor, z, counts, pairs = given(name)
    options = {"hops": 2, "near": False, "symmetric": True} | PREDICTORS[name]
    options.pop("planes", None)
    parts = []
    for lin, norm, value in (
        (predictor.vector_lin, predictor.vector_norm, z[pairs[0]] * z[pairs[1]]),
        (predictor.count_lin, predictor.count_norm, read(counts, **options)),
    ):
        value = value @ lin.weight.t() + lin.bias
        value = (value - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        parts.append((value * norm.weight + norm.bias).relu())
    want = torch.cat(parts, 1) @ predictor.lin.weight.t() + predictor.lin.bias
    torch.testing.assert_close(predictor(z, counts, pairs), want.squeeze(1))


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_link_and_its_reverse_have_one_logit(name: str) -> None:
    predictor, z, counts, pairs = given(name)
    ahead, back = predictor(z, counts, pairs), predictor(z, counts.mT, pairs.flip(0))
    assert torch.allclose(ahead, back, rtol=1e-12, atol=1e-12) == (name != "in order")


def test_gradients_of_the_predictor() -> None:
    predictor, z, counts, pairs = given("plain")
    z.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: predictor(z, counts[:5], pairs[:, :5]), z, fast_mode=True
    )


def test_tables_of_other_hops_are_refused() -> None:
    predictor, z, counts, pairs = given("plain")
    for bad in (counts[:, :2, :2], counts[:3], counts[:, None].expand(-1, 2, -1, -1)):
        with pytest.raises(GraphError, match=r"but \[30, 1, 3, 3\] is expected"):
            predictor(z, bad, pairs)
    with pytest.raises(ConfigError, match="hops is 0"):
        gnn.BUDDYPredictor(6, hops=0)
    with pytest.raises(ConfigError, match="K is -1"):
        gnn.BUDDY(6, 4, K=-1)


@pytest.mark.parametrize("hops_of_x", [0, 2])
def test_buddy_is_its_formula(hops_of_x: int) -> None:
    graph, pairs, x = scattered(), some_pairs(), torch.randn(40, 8).double()
    model = gnn.BUDDY(8, 6, K=hops_of_x).double().eval()
    counts = estimated_counts(sketch_neighborhoods(graph), pairs).double()
    rows = model.precompute(x, graph)
    adjacency = dense_adjacency(graph) + torch.eye(40).double()
    root = adjacency.sum(1).rsqrt()
    step = root[:, None] * adjacency * root
    powers = range(hops_of_x + 1) if hops_of_x else (1,)
    want = torch.cat([torch.linalg.matrix_power(step, power) @ x for power in powers], 1)
    torch.testing.assert_close(rows, want)
    z = model.encoder(rows)
    assert z.shape == (40, 6)
    torch.testing.assert_close(model(rows, counts, pairs), model.predictor(z, counts, pairs))
    # nodes by other numbers
    place = torch.randperm(40)
    moved = torch.empty_like(x)
    moved[place] = x
    renamed = Graph.from_edge_index(place[graph.edge_index()], 40)
    again = model(model.precompute(moved, renamed), counts, place[pairs])
    torch.testing.assert_close(again, model(rows, counts, pairs))


@pytest.mark.parametrize("count", [1, 30])
def test_buddy_trains_on_batches_of_any_size(count: int) -> None:
    graph, pairs = scattered(), some_pairs(count)
    model = gnn.BUDDY(8, 6, K=1)
    before = copy.deepcopy(model.state_dict())
    rows = model.precompute(torch.randn(40, 8), graph)
    loss = model(rows, exact_counts(graph, pairs), pairs).square().sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
    model.reset_parameters()
    names = ("predictor.lin.weight", "predictor.count_lin.weight", "encoder.head.mlp.lins.0.weight")
    for name in names:
        assert not torch.equal(model.state_dict()[name], before[name]), name
    fresh = gnn.BUDDY(8, 6, K=1)
    fresh.load_state_dict(before)


def test_counts_alone_tell_what_features_do_not() -> None:
    """Nodes of a ring with chords look alike: a common neighbour is all there is to see."""
    at = torch.arange(60)
    ring = torch.stack([at, (at + 1) % 60])
    chord = torch.stack([at, (at + 2) % 60])
    graph = Graph.from_edge_index(to_undirected(torch.cat([ring, chord], 1)), 60)
    positive, negative = torch.stack([at, (at + 3) % 60]), torch.stack([at, (at + 20) % 60])
    pairs = torch.cat([positive, negative], 1)
    y = torch.cat([torch.ones(60), torch.zeros(60)])
    counts = estimated_counts(sketch_neighborhoods(graph), pairs)
    model = gnn.BUDDY(4, 8, dropout=0.0, count_dropout=0.0)
    rows = model.precompute(torch.ones(60, 4), graph)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(rows, counts, pairs), y).backward()
        optimizer.step()
    logits = model.eval()(rows, counts, pairs).detach()
    assert float(logits[:60].min()) > float(logits[60:].max())
