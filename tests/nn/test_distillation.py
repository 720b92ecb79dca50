"""Laws of what a student learns: soft labels, reliable hyperedges, codes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from graphkit import Graph
from graphkit.errors import ConfigError, GraphError
from graphkit.nn import (
    GraphTokenizer,
    VectorQuantize,
    code_affinity,
    code_divergence,
    code_usage,
    distillation_loss,
    edge_error,
    hyperedge_divergence,
    hyperedge_entropy,
    hyperedge_reliability,
    sample_hyperedges,
    soft_divergence,
)

F64 = torch.float64
P = torch.tensor([[0.7, 0.2, 0.1]], dtype=F64)


def hypergraph(members: list[list[int]], num_nodes: int) -> Graph:
    src = torch.tensor([e for e, nodes in enumerate(members) for _ in nodes])
    dst = torch.tensor([v for nodes in members for v in nodes])
    return Graph.from_edge_index(torch.stack([src, dst]), num_src=len(members), num_dst=num_nodes)


TOY = hypergraph([[0, 1, 2], [1, 2, 3], [3], []], 5)


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# the numbers of a worked example


def test_the_official_form_is_not_zero_where_both_agree() -> None:
    z = P.log()
    assert soft_divergence(z, z, divergence="official").item() == pytest.approx(6.993202, abs=1e-6)
    assert soft_divergence(z, z).item() == pytest.approx(0, abs=1e-12)


def test_where_either_form_is_least() -> None:
    """The official one flattens the teacher's distribution once more."""
    for form, best in (("official", (0.463964, 0.281408, 0.254629)), ("correct", (0.7, 0.2, 0.1))):
        z = torch.zeros(1, 3, dtype=F64, requires_grad=True)
        optimizer = torch.optim.LBFGS([z], max_iter=200, tolerance_grad=1e-10)

        def closure(form: Any = form, z: Tensor = z, by: Any = optimizer) -> Tensor:
            by.zero_grad()
            loss = soft_divergence(z, P.log(), divergence=form)
            loss.backward()
            return loss

        optimizer.step(closure)
        torch.testing.assert_close(
            z.softmax(dim=1), torch.tensor([best], dtype=F64), atol=1e-5, rtol=0
        )


def test_entropies_of_a_hyperedge() -> None:
    z = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.8, 0.2]], dtype=F64).log()
    single = hyperedge_entropy(z, hypergraph([[0], [1], [2], [0, 1, 2]], 3))
    want = [0.325083, 0.693147, 0.500402, 0.506211]
    torch.testing.assert_close(single, torch.tensor(want, dtype=F64), atol=1e-6, rtol=0)


def test_a_certain_node_has_entropy_zero() -> None:
    """Where the released code loses what its other members say."""
    z = torch.tensor([[1000.0, 0.0], [0.0, 0.0]])
    found = hyperedge_entropy(z, hypergraph([[0, 1]], 2))
    assert found.item() == pytest.approx(math.log(2) / 2)


# the soft loss


@given(st.integers(0, 1000), st.floats(0.1, 8.0))
@settings(max_examples=30, deadline=None)
def test_divergence_is_torchs_and_not_negative(seed: int, tau: float) -> None:
    s, t = logits(6, 4, seed=seed), logits(6, 4, seed=seed + 1)
    found = soft_divergence(s, t, tau)
    want = functional.kl_div(
        (s / tau).log_softmax(1), (t / tau).log_softmax(1), reduction="batchmean", log_target=True
    )
    torch.testing.assert_close(found, tau**2 * want)
    assert found >= 0
    assert soft_divergence(s, s, tau).abs() < 1e-12 * tau**2 + 1e-12


def test_gradients_reach_the_student_alone() -> None:
    s, t = logits(5, 3).requires_grad_(), logits(5, 3, seed=1).requires_grad_()
    mask = torch.tensor([True, False, True, False, False])
    y = torch.tensor([0, 1, 2, 0, 1])
    chosen = torch.ones(4, dtype=torch.bool)

    def loss(s: Tensor, form: Any = "correct") -> Tensor:
        beyond = hyperedge_divergence(s, t, TOY, chosen, 2.0, form)
        return distillation_loss(s, t, y, mask, 0.3, 2.0, form, beyond)

    for form in ("correct", "official"):
        assert torch.autograd.gradcheck(lambda s, form=form: loss(s, form), (s,))
    loss(s).backward()
    assert t.grad is None


def test_the_parts_of_the_loss() -> None:
    s, t = logits(5, 3), logits(5, 3, seed=1)
    y, mask = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 0, 1, 0, 0]).bool()
    hard, soft = functional.cross_entropy(s[mask], y[mask]), soft_divergence(s, t)
    torch.testing.assert_close(distillation_loss(s, t, y, mask, 1.0), hard)
    torch.testing.assert_close(distillation_loss(s, t, y, mask), soft)
    mixed = distillation_loss(s, t, y, mask, 0.25, beyond=torch.tensor(2.0, dtype=F64))
    torch.testing.assert_close(mixed, 0.25 * hard + 0.75 * (soft + 2.0))
    # no labels at all
    assert distillation_loss(s, t, y, ~mask & mask, 1.0).item() == 0


# hyperedges


def dense_hyperedge(s: Tensor, t: Tensor, chosen: list[int], tau: float) -> Tensor:
    members = [[0, 1, 2], [1, 2, 3], [3]]
    total = []
    for e in chosen:
        q, p = (z[members[e]].div(tau).softmax(1).mean(0) for z in (s, t))
        total.append((p * (p.log() - q.log())).sum())
    return tau**2 * torch.stack(total).mean()


def test_hyperedges_equal_the_dense_formula() -> None:
    s, t = logits(5, 3), logits(5, 3, seed=1)
    chosen = torch.tensor([True, False, True, True])
    found = hyperedge_divergence(s, t, TOY, chosen, 1.5)
    torch.testing.assert_close(found, dense_hyperedge(s, t, [0, 2], 1.5))
    q, p = (z[[0, 1, 2]].softmax(1).mean(0) / 2 for z in (s, t))
    official = hyperedge_divergence(s, t, TOY, torch.tensor([1, 0, 0, 0]).bool(), 2.0, "official")
    torch.testing.assert_close(official, (p.exp() * (p - q.log())).sum())


def test_singletons_are_the_soft_loss() -> None:
    s, t = logits(4, 3), logits(4, 3, seed=1)
    alone = hypergraph([[0], [1], [2], [3]], 4)
    everything = torch.ones(4, dtype=torch.bool)
    for tau in (1.0, 3.0):
        found = hyperedge_divergence(s, t, alone, everything, tau)
        torch.testing.assert_close(found, soft_divergence(s, t, tau))
        assert hyperedge_divergence(t, t, TOY_4, torch.ones(2).bool(), tau).abs() < 1e-12
    assert hyperedge_divergence(t, t, alone, everything, divergence="official") > 1


TOY_4 = hypergraph([[0, 1, 2], [1, 2, 3]], 4)


def test_nothing_chosen_is_zero() -> None:
    s = logits(5, 3).requires_grad_()
    for chosen in (torch.zeros(4).bool(), torch.tensor([0, 0, 0, 1]).bool()):
        loss = hyperedge_divergence(s, s + 1, TOY, chosen)
        assert loss.item() == 0
        loss.backward()
    assert s.grad is not None and s.grad.abs().sum() == 0


class Mean(nn.Module):
    """Two products over the hypergraph and a map."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = logits(4, 3, seed=7)

    def forward(self, x: Tensor, h: Graph) -> Tensor:
        from graphkit.ops import spmm

        return spmm(h, spmm(h.t(), x @ self.weight, reduce="mean"))


def test_reliability_lies_between_its_ends() -> None:
    x = logits(5, 4, seed=3)
    draw = torch.Generator().manual_seed(0)
    rho = hyperedge_reliability(Mean(), x, TOY, draw)
    assert rho.shape == (4,) and rho.min() == 0 and rho.max() == 1
    # nobody asks what an empty hyperedge says
    assert rho[3] == 1
    # the most sensitive one, by hand
    draw = torch.Generator().manual_seed(0)
    shaken = x * (1 + torch.randn(x.shape, generator=draw, dtype=F64))
    delta = hyperedge_entropy(Mean()(shaken, TOY), TOY) - hyperedge_entropy(Mean()(x, TOY), TOY)
    torch.testing.assert_close(rho, 1 - delta.abs() / delta.abs().max())


def test_without_noise_all_are_reliable() -> None:
    x = logits(5, 4)
    assert hyperedge_reliability(Mean(), x, TOY, noise=0.0).eq(1).all()
    # nor does a teacher waver that does not look
    assert hyperedge_reliability(lambda x, h: x.new_zeros(5, 3), x, TOY).eq(1).all()


def test_draws_average_the_entropies() -> None:
    x = logits(5, 4)
    one, many = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    rho = hyperedge_reliability(Mean(), x, TOY, many, draws=2)
    plain = hyperedge_entropy(Mean()(x, TOY), TOY)
    noisy = torch.zeros(4, dtype=F64)
    for _ in range(2):
        shaken = x * (1 + torch.randn(x.shape, generator=one, dtype=F64))
        noisy += hyperedge_entropy(Mean()(shaken, TOY), TOY) / 2
    delta = (noisy - plain).abs()
    torch.testing.assert_close(rho, 1 - delta / delta.max())


def test_hyperedges_are_drawn_by_their_reliability() -> None:
    rho = torch.tensor([0.0, 0.25, 1.0]).repeat(4000)
    found = sample_hyperedges(rho, torch.Generator().manual_seed(0)).view(-1, 3).float().mean(0)
    assert found[0] == 0 and found[2] == 1
    # five standard deviations of 4,000 draws
    assert abs(found[1].item() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)


# codes


def test_an_average_moves_a_code() -> None:
    vq = VectorQuantize(2, 2, decay=0.8)
    vq.codebook.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))  # pyright: ignore[reportCallIssue]
    vq(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
    want = torch.tensor([[0.92, 0.16], [0.0, -1.0]])
    torch.testing.assert_close(vq.get_buffer("codebook"), want)


def test_quantised_rows_are_codes_and_let_gradients_through() -> None:
    torch.manual_seed(0)
    vq = VectorQuantize(6, 4).eval()
    h = torch.randn(9, 4, requires_grad=True)
    q, index, commit, affinity = vq(h)
    torch.testing.assert_close(q, vq.get_buffer("codebook")[index])
    assert index.equal(functional.cosine_similarity(h[:, None], vq.codebook[None], 2).argmax(1))  # pyright: ignore[reportIndexIssue, reportArgumentType]
    assert affinity.shape == (9, 6) and not affinity.requires_grad
    weight = torch.randn(9, 4)
    (grad,) = torch.autograd.grad((q * weight).sum(), h)
    torch.testing.assert_close(grad, weight)
    torch.testing.assert_close(commit, 0.25 * (q.detach() - h).square().mean())
    # nothing is learnt in evaluation
    assert vq.get_buffer("usage").sum() == 0


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_ends_of_the_decay(metric: Any) -> None:
    torch.manual_seed(1)
    h = torch.randn(12, 3)
    kept = VectorQuantize(20, 3, decay=1.0, metric=metric)
    before = kept.get_buffer("codebook").clone()
    kept(h)
    torch.testing.assert_close(kept.get_buffer("codebook"), before, atol=1e-7, rtol=0)
    new = VectorQuantize(20, 3, decay=0.0, metric=metric)
    index = new(h)[1]
    for code in index.unique():
        rows = h[index == code]
        mean = functional.normalize(rows, dim=1).mean(0) if metric == "cosine" else rows.mean(0)
        mean = functional.normalize(mean, dim=0) if metric == "cosine" else mean
        torch.testing.assert_close(new.get_buffer("codebook")[code], mean)


def test_dead_codes_become_rows() -> None:
    torch.manual_seed(0)
    vq = VectorQuantize(8, 3, dead_threshold=0.1)
    h = functional.normalize(torch.tensor([[1.0, 0.2, 0.1]]), dim=1).expand(5, 3)
    index = vq(h)[1]
    dead = torch.arange(8) != index[0]
    torch.testing.assert_close(vq.get_buffer("codebook")[dead], h[:1].expand(7, 3))


def test_order_of_codes_changes_no_loss() -> None:
    torch.manual_seed(0)
    h, student = torch.randn(7, 4, dtype=F64), torch.randn(7, 4, dtype=F64)
    codes, order = torch.randn(5, 4, dtype=F64), torch.randperm(5)
    for metric in ("cosine", "euclidean"):
        of = [
            code_divergence(code_affinity(student, c, metric), code_affinity(h, c, metric), 0.5)
            for c in (codes, codes[order])
        ]
        torch.testing.assert_close(of[0], of[1])
    official = code_divergence(
        code_affinity(h, codes), code_affinity(h, codes), 4.0, divergence="official"
    )
    assert code_divergence(code_affinity(h, codes), code_affinity(h, codes), 4.0).abs() < 1e-10
    assert official > 1


def test_code_usage() -> None:
    found = code_usage(torch.tensor([0, 0, 2, 2]), 8)
    assert found.counts.tolist() == [2, 0, 2, 0, 0, 0, 0, 0]
    assert found.share == 0.25 and found.perplexity == pytest.approx(2)
    assert code_usage(torch.arange(8), 8).perplexity == pytest.approx(8)


# the tokenizer


def ring(n: int) -> Graph:
    node = torch.arange(n)
    pairs = torch.stack([node, (node + 1) % n])
    return Graph.from_edge_index(torch.cat([pairs, pairs.flip(0)], dim=1), n)


def test_edges_by_every_pair() -> None:
    torch.manual_seed(0)
    graph, edge = ring(6), torch.randn(6, 3, dtype=F64)
    a = torch.zeros(6, 6, dtype=F64)
    src, dst = graph.edge_index()
    a[dst, src] = 1
    gram = edge @ edge.t()
    scaled = (gram - gram.min()) / (gram.max() - gram.min())
    torch.testing.assert_close(edge_error(edge, graph), (a - scaled).square().mean().sqrt())
    paper = edge_error(edge, graph, "paper")
    torch.testing.assert_close(paper, (a - gram.sigmoid()).square().mean())


def test_edges_by_samples() -> None:
    """Where vectors tell all edges, samples of any size are free of error."""
    src, dst = torch.cartesian_prod(torch.arange(8), torch.arange(8)).t()
    same = src % 2 == dst % 2
    graph = Graph.from_edge_index(torch.stack([src, dst])[:, same], 8)
    other = Graph.from_edge_index(torch.stack([src, dst])[:, ~same], 8)
    edge = torch.tensor([[1.0], [-1.0]], dtype=F64).repeat(4, 1) * 10
    for recon in ("official", "paper"):
        assert edge_error(edge, graph, recon, 5) < 1e-9  # pyright: ignore[reportArgumentType]
        wrong = edge_error(edge, other, recon, 100)  # pyright: ignore[reportArgumentType]
        assert wrong == pytest.approx(1, abs=1e-6)
    none = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 3)
    assert edge_error(torch.ones(3, 2), none, edge_samples=4) == 0


def test_equal_products_are_no_nan() -> None:
    edge = torch.ones(6, 2, requires_grad=True)
    loss = edge_error(edge, ring(6))
    loss.backward()
    assert loss.isfinite() and edge.grad is not None and edge.grad.isfinite().all()


@pytest.mark.parametrize("conv", ["gcn", "sage"])
@pytest.mark.parametrize("recon", ["official", "paper"])
def test_the_tokenizer_learns(conv: Any, recon: Any) -> None:
    torch.manual_seed(0)
    graph, y = ring(30), torch.arange(30) // 10
    x = functional.one_hot(y, 12).float() + 0.1 * torch.rand(30, 12)
    model = GraphTokenizer(12, 8, 3, num_codes=16, conv=conv, dropout=0.0, recon=recon)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        tokens = model.tokens(x, graph)
        loss = functional.cross_entropy(tokens.logits, y) + model.auxiliary(tokens, x, graph)
        loss.backward()
        optimizer.step()
    model.eval()
    out = model(x, graph)
    assert (out.argmax(1) == y).float().mean() > 0.9
    assert all(p.grad is not None for p in model.parameters())
    # an edge_index will do, and nodes may stand in any order
    order = torch.randperm(30)
    place = order.argsort()
    torch.testing.assert_close(model(x[order], place[graph.edge_index()]), out[order])


# bad input


def test_bad_input() -> None:
    s = logits(5, 3)
    with pytest.raises(GraphError, match=r"\[5, 3\] and the teacher's \[5, 2\]"):
        soft_divergence(s, s[:, :2])
    with pytest.raises(GraphError, match="a place for each row"):
        distillation_loss(s, s, torch.zeros(4).long(), torch.zeros(4).bool(), 0.5)
    with pytest.raises(ConfigError, match="lam is 1.5"):
        distillation_loss(s, s, torch.zeros(5).long(), torch.zeros(5).bool(), 1.5)
    with pytest.raises(ConfigError, match="tau is 0"):
        soft_divergence(s, s, 0)
    with pytest.raises(ConfigError, match="correct or official"):
        soft_divergence(s, s, 1.0, "offical")  # pyright: ignore[reportArgumentType]
    with pytest.raises(GraphError, match="bool \\[M\\]"):
        hyperedge_divergence(s, s, TOY, torch.ones(3).bool())
    with pytest.raises(GraphError, match=r"logits have shape \[4, 3\], but \[5, C\]"):
        hyperedge_reliability(lambda x, h: x.new_zeros(4, 3), logits(5, 4), TOY)
    with pytest.raises(ConfigError, match="noise=-1"):
        hyperedge_reliability(Mean(), logits(5, 4), TOY, noise=-1.0)
    with pytest.raises(ConfigError, match="num_codes=0"):
        VectorQuantize(0, 3)
    with pytest.raises(GraphError, match=r"\[N, 3\] is expected"):
        VectorQuantize(4, 3)(torch.ones(2, 5))
    with pytest.raises(ConfigError, match="gcn or sage"):
        GraphTokenizer(3, 4, 2, conv="gat")  # pyright: ignore[reportArgumentType]
