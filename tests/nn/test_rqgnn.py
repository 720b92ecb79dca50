"""RQGNN, its pooling and loss, attention pooling and OCGIN, against their formulas."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, leaky_relu, one_hot
from torch_geometric.data import Batch, Data
from torch_geometric.nn import AttentionalAggregation
from torch_geometric.utils import to_undirected

from graphkit import ConfigError, Graph, GraphError
from graphkit import nn as gnn
from graphkit.structure import rayleigh_quotient
from graphkit.testing import dense_adjacency
from graphkit.transforms import RayleighQuotient

WIDTH = 5
SIZES = (6, 1, 9, 3, 0, 4)


def random_graph(nodes: int, seed: int) -> Data:
    """One-hot features; the graphs of one and three nodes have no edges."""
    random = torch.Generator().manual_seed(seed)
    edges = torch.empty(2, 0, dtype=torch.int64)
    if nodes > 3:
        edges = torch.randint(nodes, (2, 2 * nodes), generator=random)
        edges = to_undirected(edges[:, edges[0] != edges[1]], num_nodes=nodes)
    x = one_hot(torch.randint(WIDTH - 1, (nodes,), generator=random), WIDTH).float()
    return Data(x=x, edge_index=edges, num_nodes=nodes)


@pytest.fixture
def batch() -> Any:
    return Batch.from_data_list([random_graph(n, seed) for seed, n in enumerate(SIZES)])


# -- pooling ---------------------------------------------------------------------------------------


def test_pooling_is_its_formula(batch: Any) -> None:
    pool = gnn.RQPooling(4, WIDTH).double()
    h = torch.randn(sum(SIZES), 4, dtype=torch.float64)
    rq = torch.rand(len(SIZES), WIDTH, dtype=torch.float64)
    one, two = pool.lins
    m = leaky_relu(two(leaky_relu(one(rq), 0.01)), 0.01)
    rows = h.split(SIZES)
    want = torch.stack([(part @ m[g]) @ part for g, part in enumerate(rows)])
    torch.testing.assert_close(pool(h, rq, ptr=batch.ptr), want)
    torch.testing.assert_close(pool(h, rq, batch.batch), want)
    apart = [pool(part, rq[g : g + 1]) for g, part in enumerate(rows)]
    torch.testing.assert_close(torch.cat(apart), want)
    assert bool((want[4] == 0).all())
    leaves = h.requires_grad_(), rq.requires_grad_()
    assert torch.autograd.gradcheck(lambda h, rq: pool(h, rq, ptr=batch.ptr), leaves)


@pytest.mark.parametrize("gate", [1, 3])
@pytest.mark.parametrize("mapped", [True, False])
def test_attention_pooling_is_pygs(gate: int, mapped: bool, batch: Any) -> None:
    def build(kind: type) -> Any:
        return kind(nn.Linear(3, gate), nn.Linear(3, 3) if mapped else None)

    peer, pool = build(AttentionalAggregation), build(gnn.AttentionPooling)
    pool.load_state_dict(peer.state_dict())
    x = torch.randn(sum(SIZES), 3, requires_grad=True)
    want = peer(x, ptr=batch.ptr)
    torch.testing.assert_close(pool(x, ptr=batch.ptr), want)
    got = pool(x, batch.batch, num_graphs=len(SIZES))
    torch.testing.assert_close(got, want)
    first, second = (torch.autograd.grad(out.square().sum(), x)[0] for out in (got, want))
    torch.testing.assert_close(first, second)
    assert bool((got[4] == 0).all())
    before = pool.gate_nn.weight.clone()
    pool.reset_parameters()
    assert not torch.equal(before, pool.gate_nn.weight)


# -- the model -------------------------------------------------------------------------------------


def model_of(**options: Any) -> gnn.RQGNN:
    return gnn.RQGNN(WIDTH, 8, width=3, depth=4, **options)


def by_formula(model: gnn.RQGNN, batch: Any, rq: Tensor) -> Tensor:
    """The logits in float64, graph by graph, from matrices; without dropout."""

    def act(x: Tensor) -> Tensor:
        return leaky_relu(x, 0.01)

    model = copy.deepcopy(model).double()
    rq, vectors = rq.double(), []
    for g in range(len(SIZES)):
        data = random_graph(SIZES[g], g)
        h = data.x.double()
        adjacency = dense_adjacency(Graph.from_edge_index(data.edge_index, len(h)))
        root = torch.where(adjacency.sum(1) > 0, adjacency.sum(1).clamp(min=1).rsqrt(), 0)
        shifted = -root[:, None] * adjacency * root
        for lin in model.before:
            h = act(lin(h))
        basis = [h, shifted @ h]
        while len(basis) < 4:
            basis.append(2 * shifted @ basis[-1] - basis[-2])
        maps = model.filters._tensor("weight")
        filtered = [sum(t @ w for t, w in zip(basis, one, strict=True)) for one in maps]
        h = torch.cat(filtered, dim=1) + model.filters._tensor("bias")
        for lin in model.behind:
            h = act(lin(h))
        if model.pool is None:
            vector = h.mean(0) if len(h) else h.new_zeros(8)
        else:
            m = rq[g]
            for lin in model.pool.lins:
                m = act(lin(m))
            vector = (h @ m) @ h
        if model.rql is not None:
            one, two = model.rql
            vector = torch.cat([vector, act(two(one(rq[g])))])
        vectors.append(vector)
    z = torch.stack(vectors)
    return model.head(model.norm(z))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_norm": False},
        {"use_rql": False},
        {"use_pooling": False},
        {"use_rql": False, "use_pooling": False},
        {"rq_mode": "energy", "train_filters": False},
    ],
    ids=str,
)
def test_the_model_is_its_formula(options: dict[str, Any], training: bool, batch: Any) -> None:
    model = model_of(dropout=0.0, **options).train(training)
    mode = options.get("rq_mode", "quotient")
    rq = rayleigh_quotient(batch.x, batch.edge_index, ptr=batch.ptr, mode=mode)
    want = by_formula(model, batch, rq).float()
    for given in (
        {"batch": batch.batch, "rq": rq},
        {"ptr": batch.ptr, "rq": rq},
        {"ptr": batch.ptr},
    ):
        twin = copy.deepcopy(model)
        got = twin(batch.x, batch.edge_index, **given)
        torch.testing.assert_close(got, want, atol=2e-4, rtol=2e-4)
    graph = Graph.from_edge_index(batch.edge_index, len(batch.x))
    assert torch.equal(copy.deepcopy(model)(batch.x, graph, ptr=batch.ptr), got)


def test_the_numbers_of_parameters_are_the_official_ones() -> None:
    frozen = gnn.RQGNN(54, train_filters=False)
    assert sum(p.numel() for p in frozen.parameters()) == 39_862
    filters = 4 * (6 * 54 * 54 + 54)
    assert sum(p.numel() for p in gnn.RQGNN(54).parameters()) == 39_862 + filters


def test_a_batch_is_its_graphs_one_by_one(batch: Any) -> None:
    model = model_of().eval()
    nn.init.normal_(model.norm.running_mean)
    apart = [model(d.x, d.edge_index) for d in (random_graph(n, s) for s, n in enumerate(SIZES))]
    torch.testing.assert_close(
        model(batch.x, batch.edge_index, ptr=batch.ptr), torch.cat(apart), atol=1e-5, rtol=1e-5
    )


def test_a_batch_of_one_graph_goes_by_the_running_statistics() -> None:
    data = random_graph(6, 0)
    model = model_of(dropout=0.0).train()
    nn.init.normal_(model.norm.running_mean)
    alone = model(data.x, data.edge_index)
    assert torch.equal(alone, model.eval()(data.x, data.edge_index))
    alone.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_every_filter_learns_unless_frozen(batch: Any) -> None:
    for train in (True, False):
        model = model_of(train_filters=train)
        frozen = model.filters._tensor("weight").clone()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        model(batch.x, batch.edge_index, ptr=batch.ptr).square().sum().backward()
        optimizer.step()
        if train:
            gradient = model.filters._tensor("weight").grad
            assert gradient is not None and bool((gradient.abs().amax((2, 3)) > 0).all())
        assert torch.equal(frozen, model.filters._tensor("weight")) != train


def test_order_of_nodes_and_edges_does_not_matter(batch: Any) -> None:
    model = model_of().eval()
    want = model(batch.x, batch.edge_index, ptr=batch.ptr)
    # nodes change places within their graphs
    place = torch.cat(
        [torch.randperm(n) + at for n, at in zip(SIZES, batch.ptr.tolist(), strict=False)]
    )
    x = torch.empty_like(batch.x)
    x[place] = batch.x
    edges = place[batch.edge_index][:, torch.randperm(batch.edge_index.size(1))]
    torch.testing.assert_close(model(x, edges, ptr=batch.ptr), want, atol=1e-5, rtol=1e-5)


def test_gradients_of_everything(batch: Any) -> None:
    model = model_of(dropout=0.0).double()
    names = [name for name, _ in model.named_parameters()]
    graph = Graph.from_edge_index(batch.edge_index, len(batch.x))

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(model, given, (x, graph), {"ptr": batch.ptr})

    x = torch.randn(len(batch.x), WIDTH, dtype=torch.float64, requires_grad=True)
    leaves = x, *(p.detach().clone().requires_grad_() for p in model.parameters())
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_nan_stays_in_its_graph(batch: Any) -> None:
    model = model_of().eval()
    want = model(batch.x, batch.edge_index, ptr=batch.ptr)
    batch.x[8, 1] = torch.nan
    got = model(batch.x, batch.edge_index, ptr=batch.ptr)
    assert got.isnan().any(1).tolist() == [False, False, True, False, False, False]
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(got[others], want[others])


def test_state_reset_and_autocast(batch: Any) -> None:
    model = model_of().eval()
    twin = model_of().eval()
    twin.load_state_dict(model.state_dict())
    rq = rayleigh_quotient(batch.x, batch.edge_index, ptr=batch.ptr)
    given: dict[str, Any] = {"ptr": batch.ptr, "rq": rq}
    want = model(batch.x, batch.edge_index, **given)
    assert torch.equal(twin(batch.x, batch.edge_index, **given), want)
    twin.reset_parameters()
    assert all(
        not torch.equal(p, q) or not p.dim() > 1
        for p, q in zip(model.parameters(), twin.parameters(), strict=True)
    )
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch.x, batch.edge_index, **given)
    torch.testing.assert_close(half.float(), want, atol=0.1, rtol=0.1)


@torch.no_grad()
def test_compiled(batch: Any) -> None:
    model = gnn.RQGNN(WIDTH, 8, width=2, depth=2, batch_norm=False).eval()
    rq = rayleigh_quotient(batch.x, batch.edge_index, ptr=batch.ptr)
    given: dict[str, Any] = {"ptr": batch.ptr, "rq": rq}
    want = model(batch.x, batch.edge_index, **given)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    got = compiled(batch.x, batch.edge_index, **given)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def rings_and_stars(count: int, seed: int) -> tuple[Any, Tensor]:
    """Rings, and one star for three of them: the same features, other edges."""
    random = torch.Generator().manual_seed(seed)
    found, y = [], torch.arange(count) % 4 == 3
    for star in y.tolist():
        nodes = int(torch.randint(6, 12, (1,), generator=random))
        node = torch.arange(nodes)
        other = torch.zeros(nodes, dtype=torch.int64) if star else (node + 1) % nodes
        links = torch.stack([node, other])[:, int(star) :]
        x = one_hot(torch.randint(3, (nodes,), generator=random), 3).float()
        found.append(Data(x=x, edge_index=torch.cat([links, links.flip(0)], 1)))
    return Batch.from_data_list([RayleighQuotient()(d) for d in found]), y.long()


def test_it_tells_stars_from_rings() -> None:
    train, y = rings_and_stars(80, 0)
    model = gnn.RQGNN(3, 16, dropout=0.1)
    loss = gnn.ClassBalancedFocalLoss(y.bincount())
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        loss(model(train.x, train.edge_index, rq=train.rq, ptr=train.ptr), y).backward()
        optimizer.step()
    test, y = rings_and_stars(60, 1)
    with torch.no_grad():
        scores = model.eval()(test.x, test.edge_index, test.batch, test.rq).softmax(1)[:, 1]
    assert roc_auc_score(y, scores) > 0.95


# -- the loss --------------------------------------------------------------------------------------


def test_without_focus_and_weights_it_is_two_binary_losses() -> None:
    logits, y = torch.randn(20, 2, dtype=torch.float64), torch.randint(2, (20,))
    target = one_hot(y, 2).double()
    want = binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
    for beta in (0.0, 1e-12):
        loss = gnn.ClassBalancedFocalLoss([900, 30], beta=beta, gamma=0.0)
        torch.testing.assert_close(loss(logits, y), want)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_loss_is_its_formula(classes: int) -> None:
    counts = [5000, 30, 1, 0][:classes]
    beta, gamma = 0.99, 1.5
    logits = torch.randn(30, classes, dtype=torch.float64, requires_grad=True)
    y = torch.randint(classes, (30,))
    raw = [(1 - beta) / (1 - beta**n) if n else 0.0 for n in counts]
    weight = torch.tensor(raw, dtype=torch.float64) * classes / sum(raw)
    p, total = logits.detach().sigmoid(), 0.0
    for i, label in enumerate(y.tolist()):
        for c in range(classes):
            q = p[i, c] if c == label else 1 - p[i, c]
            total += float(weight[label] * (1 - q) ** gamma * -q.log())
    loss = gnn.ClassBalancedFocalLoss(counts, beta, gamma)
    torch.testing.assert_close(loss.get_buffer("weight").double(), weight, atol=1e-6, rtol=1e-6)
    assert float(loss(logits, y).detach()) == pytest.approx(total / 30, rel=1e-6)
    # a float32 buffer of weights does not take part
    assert torch.autograd.gradcheck(lambda z: loss(z, y), logits)


def test_the_published_weights_hardly_differ() -> None:
    weight = gnn.ClassBalancedFocalLoss([17_800, 1_600]).get_buffer("weight")
    torch.testing.assert_close(weight, torch.tensor([0.89, 1.11]), atol=0.005, rtol=0)


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_the_loss_is_stable(gamma: float) -> None:
    loss = gnn.ClassBalancedFocalLoss([10, 10], gamma=gamma)
    for size in (88.0, 200.0, 1e4):
        logits = torch.tensor([[size, -size], [-size, size]], requires_grad=True)
        right, wrong = loss(logits, torch.tensor([0, 1])), loss(logits, torch.tensor([1, 0]))
        assert right.item() == pytest.approx(0, abs=1e-30)
        assert wrong.item() == pytest.approx(2 * size, rel=1e-6)
        (gradient,) = torch.autograd.grad(wrong, logits)
        torch.testing.assert_close(gradient.abs(), torch.full((2, 2), 0.5))
    assert float(loss(torch.empty(0, 2), torch.empty(0, dtype=torch.int64))) == 0


# -- one class -------------------------------------------------------------------------------------


def test_distances_are_to_the_mean_of_the_vectors(batch: Any) -> None:
    model = gnn.OCGIN(WIDTH, 6, num_layers=3, batch_norm=False).eval()
    given: dict[str, Any] = {"ptr": batch.ptr}
    with pytest.raises(ConfigError, match="no centre yet"):
        model(batch.x, batch.edge_index, **given)
    z = model.embed(batch.x, batch.edge_index, **given)
    assert z.shape == (len(SIZES), 18) and bool((z[4] == 0).all())
    model.fit_centre([z[:2], z[2:]], eps=0.0)
    want = (z - z.mean(0)).square().sum(1)
    torch.testing.assert_close(model(batch.x, batch.edge_index, **given), want)
    got = model(batch.x, batch.edge_index, batch.batch, num_graphs=len(SIZES))
    torch.testing.assert_close(got, want)
    apart = [model(d.x, d.edge_index) for d in (random_graph(n, s) for s, n in enumerate(SIZES))]
    torch.testing.assert_close(torch.cat(apart), want)
    model.fit_centre([z])
    centre = model.get_buffer("centre")
    least = 0.1 * z.mean(0).square().mean().sqrt()
    assert bool((centre.abs() >= 0.999 * least).all()) and bool((z.mean(0).abs() < least).any())
    with pytest.raises(GraphError, match="at least one graph"):
        model.fit_centre([])


def test_nothing_in_it_has_a_bias() -> None:
    for batch_norm in (True, False):
        model = gnn.OCGIN(WIDTH, 6, batch_norm=batch_norm).eval()
        assert not any("bias" in name for name, _ in model.named_parameters())
        nothing = model.embed(torch.zeros(4, WIDTH), torch.tensor([[0], [1]]))
        assert bool((nothing == 0).all())
        model.fit_centre([nothing + 1])
        kept = copy.deepcopy(model.state_dict())
        model.reset_parameters()
        assert bool(model.get_buffer("centre").isnan().all())
        model.load_state_dict(kept)
        assert bool((model.get_buffer("centre") == 1).all())


def test_it_learns_rings_and_scores_stars_higher() -> None:
    train, y = rings_and_stars(80, 0)
    keep = (y == 0).nonzero().view(-1)
    rings = Batch.from_data_list([train[int(i)] for i in keep])
    model, loss = gnn.OCGIN(3, 16, 3), gnn.DeepSVDDLoss()
    given: dict[str, Any] = {"ptr": rings.ptr}
    model.fit_centre([model.embed(rings.x, rings.edge_index, **given)])
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.003), []
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(model(rings.x, rings.edge_index, **given))
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.5 * losses[0]
    test, y = rings_and_stars(60, 1)
    with torch.no_grad():
        scores = model.eval()(test.x, test.edge_index, ptr=test.ptr)
    assert roc_auc_score(y, scores) > 0.9


def test_the_soft_boundary() -> None:
    d = torch.arange(1.0, 11.0, requires_grad=True)
    assert gnn.DeepSVDDLoss()(d).item() == 5.5
    loss = gnn.DeepSVDDLoss(nu=0.2)
    assert loss(d).item() == pytest.approx(5.5 / 0.2)
    loss.fit(d)
    radius2 = float(loss.get_buffer("radius2"))
    # so many lie outside
    assert int((d > radius2).sum()) == 2
    outside = (d - radius2).relu().sum().item()
    assert loss(d).item() == pytest.approx(radius2 + outside / (0.2 * 10))
    (gradient,) = torch.autograd.grad(loss(d), d)
    assert gradient.tolist() == pytest.approx([0.0] * 8 + [0.5] * 2)
    assert float(gnn.DeepSVDDLoss()(torch.empty(0))) == 0


# -- bad input -------------------------------------------------------------------------------------

X, E = torch.ones(4, 3), torch.tensor([[0, 1], [1, 0]])
R, B = torch.ones(2, 3), torch.tensor([0, 0, 1, 1])
Y = torch.tensor([0, 1])
FOCAL = gnn.ClassBalancedFocalLoss([3, 4])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gnn.RQGNN(0), ConfigError, "a width is 0"),
        (lambda: gnn.RQGNN(3, dropout=1.0), ConfigError, "dropout=1.0"),
        (lambda: gnn.RQGNN(3, dropout=-1), ConfigError, "dropout is -1"),
        (lambda: gnn.RQGNN(3, depth=0), ConfigError, "depth is 0"),
        (lambda: gnn.RQGNN(3, rq_mode="ratio"), ConfigError, "unknown mode 'ratio'"),
        (lambda: gnn.RQGNN(5)(X, E, B), GraphError, r"x has shape \[4, 3\], but \[N, 5\]"),
        (lambda: gnn.RQGNN(3)(X, E, B, R[:, :2]), GraphError, r"rq has shape \[2, 2\]"),
        (lambda: gnn.RQGNN(3)(X, E, B, R[:1]), GraphError, "ends with 1, .* at most 0"),
        (lambda: gnn.RQGNN(3)(X, E, rq=R, ptr=torch.tensor([0, 4])), GraphError, "3 are expected"),
        (lambda: gnn.RQGNN(3)(X, E, B[:3]), GraphError, "batch has 3 entries, but .* 4 nodes"),
        (lambda: gnn.RQPooling(3, 3)(X, R, B.flip(0)), GraphError, "Sort the nodes"),
        (lambda: gnn.RQPooling(4, 3)(X, R, B), GraphError, r"h has shape \[4, 3\]"),
        (lambda: gnn.RQPooling(3, 4)(X, R, B), GraphError, r"rq has shape \[2, 3\]"),
        (lambda: gnn.RQPooling(3, 3)(X, R), GraphError, "got no batch and no ptr"),
        (
            lambda: gnn.AttentionPooling(nn.Linear(3, 2))(X, B),
            GraphError,
            r"gate_nn returned \[4, 2\]",
        ),
        (lambda: gnn.OCGIN(3, num_layers=0), ConfigError, "num_layers is 0"),
        (lambda: gnn.OCGIN(5).embed(X, E), GraphError, r"x has shape \[4, 3\]"),
        (lambda: gnn.ClassBalancedFocalLoss([3]), ConfigError, "at least two classes"),
        (lambda: gnn.ClassBalancedFocalLoss([0, 0]), ConfigError, "at least two classes"),
        (lambda: gnn.ClassBalancedFocalLoss([3, -1]), ConfigError, "at least two classes"),
        (lambda: gnn.ClassBalancedFocalLoss([3, 4], beta=1.0), ConfigError, "beta=1.0"),
        (lambda: gnn.ClassBalancedFocalLoss([3, 4], gamma=-1), ConfigError, "gamma=-1"),
        (
            lambda: gnn.ClassBalancedFocalLoss([3, 4], gamma=math.nan),
            ConfigError,
            "gamma=nan",
        ),
        (lambda: FOCAL(torch.ones(2, 3), Y), GraphError, r"but \[B, 2\] and \[B\]"),
        (lambda: FOCAL(torch.ones(3, 2), Y), GraphError, r"y \[2\]"),
        (lambda: FOCAL(torch.ones(2, 2), Y.float()), GraphError, "y is torch.float32"),
        (lambda: FOCAL(torch.ones(2, 2), Y + 1), GraphError, "holds 2, but classes are 0 to 1"),
        (lambda: gnn.DeepSVDDLoss(0.0), ConfigError, "nu is 0.0"),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
