"""Directed layers: their dense formulas, what they are on undirected graphs, and their errors."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric import nn as pyg
from torch_geometric.utils import to_undirected

from graphkit import ConfigError, DirectionWarning, Graph, GraphError
from graphkit import nn as gnn
from graphkit.structure import pagerank
from graphkit.testing import dense_adjacency, graphs

DIRECTED = ("dgcn", "digcn", "digcn-ib", "dir-gat", "dir-gcn", "dir-sage", "magnet")
ALPHAS = (0.0, 0.3, 0.5, 1.0)
Case = tuple[Tensor, Tensor, Graph, Tensor]

# drawn graphs may be symmetric by chance
pytestmark = pytest.mark.filterwarnings("ignore:.*every edge of the graph has its reverse")


@pytest.fixture
def case() -> Case:
    """Features, edges with a loop, parallel ones, some with their reverse, isolated ends; the
    graph, and A, whose entry (u, v) counts the edges from u to v."""
    edges = torch.randint(12, (2, 30))
    edges = torch.cat([edges, edges[:, :4], edges[:, 4:9].flip(0), torch.tensor([[3], [3]])], 1)
    graph = Graph.from_edge_index(edges, 14)
    return torch.randn(14, 6).double(), edges, graph, dense_adjacency(graph).t()


def root_of(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, degree.pow(-0.5), 0)


def gcn_matrix(matrix: Tensor) -> Tensor:
    """A symmetric matrix with loops for nodes that have none, normalised as in GCN."""
    matrix = matrix + torch.diag((matrix.diagonal() == 0).double())
    return root_of(matrix.sum(1))[:, None] * matrix * root_of(matrix.sum(1))


def apply(lin: nn.Linear, x: Tensor) -> Tensor:
    return x @ lin.weight.t() + (0 if lin.bias is None else lin.bias)


# -- Dir-GNN ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [3, 9])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_dir_gcn_equals_its_formula(alpha: float, width: int, case: Case) -> None:
    x, edges, graph, _ = case
    w = torch.rand(edges.size(1)).double() + 0.1
    layer = gnn.DirGCNConv(6, width, alpha, root_weight=True).double()
    for weight in (None, w):
        counts = dense_adjacency(graph, weight).t()
        both = root_of(counts.sum(1))[:, None] * counts * root_of(counts.sum(0))
        want = apply(layer.lin_root, x)  # pyright: ignore[reportArgumentType]
        for share, lin, matrix in (
            (alpha, layer.lin_out, both),
            (1 - alpha, layer.lin_in, both.t()),
        ):
            assert (lin is None) == (share == 0)
            want = want if lin is None else want + share * apply(lin, matrix @ x)
        torch.testing.assert_close(layer(x, graph, weight), want)
        with torch.no_grad():
            torch.testing.assert_close(layer(x, edges, weight), want)


@pytest.mark.parametrize("width", [3, 9])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_dir_sage_equals_its_formula(alpha: float, width: int, case: Case) -> None:
    x, _, graph, counts = case
    layer = gnn.DirSAGEConv(6, width, alpha).double()
    want = apply(layer.lin_root, x)  # pyright: ignore[reportArgumentType]
    ways = ((alpha, layer.lin_out, counts), (1 - alpha, layer.lin_in, counts.t()))
    for share, lin, matrix in ways:
        mean = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
        want = want if lin is None else want + share * apply(lin, mean @ x)
    torch.testing.assert_close(layer(x, graph), want)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_dir_gat_equals_its_formula(alpha: float, case: Case) -> None:
    x, _, graph, counts = case
    layer = gnn.DirGATConv(6, 3, alpha, heads=2).double()
    want = torch.zeros(14, 6).double()
    # row i of counts.t() holds what leads to i; each node sees itself once
    no_loops = counts - torch.diag(counts.diagonal()) + torch.eye(14).double()
    ways = ((alpha, layer.conv_out, no_loops), (1 - alpha, layer.conv_in, no_loops.t()))
    for share, conv, matrix in ways:
        if conv is None:
            continue
        h = (x @ conv.lin.weight.t()).view(14, 2, 3)  # pyright: ignore
        score = (h * conv.att_dst).sum(-1)[:, None] + (h * conv.att_src).sum(-1)[None]
        score = nn.functional.leaky_relu(score, 0.2).exp() * matrix[:, :, None]
        mixed = torch.einsum("ijh,jhc->ihc", score / score.sum(1, keepdim=True), h)
        want = want + share * (mixed.reshape(14, 6) + conv.bias)
    torch.testing.assert_close(layer(x, graph), want)


@pytest.mark.parametrize("layer", [gnn.DirGCNConv, gnn.DirSAGEConv, gnn.DirGATConv])
def test_alpha_of_one_reads_out_neighbours(layer: Any) -> None:
    # 0 -> 1 -> 2: node 1 sees 2 along its out-edge and 0 along its in-edge
    path = torch.tensor([[0, 1], [1, 2]])
    for alpha, seen in ((1.0, 2), (0.0, 0)):
        x = torch.randn(3, 4, requires_grad=True)
        layer(4, 2, alpha)(x, path)[1].sum().backward()
        reached = {i for i in (0, 2) if x.grad[i].abs().sum() > 0}  # pyright: ignore
        assert reached == {seen}


@settings(max_examples=25)
@given(graphs(bipartite=False), st.sampled_from(ALPHAS))
def test_on_a_symmetric_graph_dir_layers_are_the_undirected_ones(
    graph: Graph, alpha: float
) -> None:
    edges = graph.edge_index()
    both = Graph.from_edge_index(torch.cat([edges, edges.flip(0)], 1), graph.num_dst)
    x = torch.randn(graph.num_dst, 5, generator=torch.Generator().manual_seed(1)).double()
    for directed, plain in (
        (gnn.DirGCNConv(5, 3, alpha), gnn.GCNConv(5, 3, add_self_loops=False)),
        (gnn.DirSAGEConv(5, 3, alpha), gnn.SAGEConv(5, 3)),
        (gnn.DirGATConv(5, 3, alpha), gnn.GATConv(5, 3)),
    ):
        directed, plain = directed.double(), plain.double()
        for side in ("out", "in"):
            tied = getattr(directed, f"lin_{side}", None) or getattr(directed, f"conv_{side}", None)
            if isinstance(tied, gnn.GATConv):
                tied.load_state_dict(plain.state_dict())
            elif tied is not None:
                of = plain.lin_l if isinstance(plain, gnn.SAGEConv) else plain.lin
                bias = plain.bias if isinstance(plain, gnn.GCNConv) else of.bias
                tied.load_state_dict({"weight": of.weight, "bias": bias})
        if isinstance(plain, gnn.SAGEConv):
            directed.lin_root.weight.data = plain.lin_r.weight.data
            nn.init.zeros_(directed.lin_root.bias)
        torch.testing.assert_close(directed(x, both), plain(x, both))


@pytest.mark.parametrize("layer", [gnn.DirGCNConv, gnn.DirSAGEConv, gnn.DirGATConv])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_turning_all_edges_around_swaps_the_directions(
    layer: Any, alpha: float, case: Case
) -> None:
    x, edges, _, _ = case
    one, other = layer(6, 4, alpha).double(), layer(6, 4, 1 - alpha).double()
    swap = {"lin_out": "lin_in", "lin_in": "lin_out", "conv_out": "conv_in", "conv_in": "conv_out"}
    state = one.state_dict()
    names = {name: name.split(".") for name in state}
    other.load_state_dict(
        {
            ".".join([swap.get(parts[0], parts[0]), *parts[1:]]): state[n]
            for n, parts in names.items()
        }
    )
    torch.testing.assert_close(one(x, edges), other(x, edges.flip(0)))


@pytest.mark.parametrize("conv", ["gcn", "sage", "gat"])
@pytest.mark.parametrize("jk", ["max", "cat", "none"])
@pytest.mark.parametrize("normalize", [False, True])
def test_dir_gnn_equals_its_layers(conv: Any, jk: Any, normalize: bool, case: Case) -> None:
    x, edges, graph, _ = case
    model = gnn.DirGNN(6, 8, 3, 3, conv=conv, jk=jk, normalize=normalize).double()
    h, seen = x, []
    for number, layer in enumerate(model.convs):
        h = layer(h, graph)
        if number < 2 or jk != "none":
            h = h.relu()
            h = h / h.norm(dim=1, keepdim=True).clamp(min=1e-12) if normalize else h
        seen.append(h)
    if jk == "max":
        h = torch.stack(seen).amax(0)
    h = torch.cat(seen, 1) if jk == "cat" else h
    want = h if jk == "none" else apply(model.lin, h)  # pyright: ignore[reportArgumentType]
    assert want.shape == (14, 3)
    torch.testing.assert_close(model(x, edges), want)
    encoder = gnn.DirGNN(6, 8, None, 3, conv=conv, jk=jk, normalize=normalize)
    assert encoder.double()(x, graph).shape == (14, encoder.out_channels)
    assert encoder.out_channels == (24 if jk == "cat" else 8)


def test_a_learnt_alpha_is_one_number_for_all_layers(case: Case) -> None:
    x, _, graph, _ = case
    model = gnn.DirGNN(6, 8, 3, 3, alpha=0.3, learn_alpha=True).double()
    assert [name for name, _ in model.named_parameters() if "alpha" in name] == ["convs.0.alpha"]
    fixed = gnn.DirGNN(6, 8, 3, 3, alpha=0.3).double()
    state = {k: v for k, v in model.state_dict().items() if "alpha" not in k}
    fixed.load_state_dict(state)
    torch.testing.assert_close(model(x, graph), fixed(x, graph), rtol=1e-6, atol=1e-6)
    torch.optim.SGD(model.parameters(), lr=1.0).zero_grad()
    model(x, graph).square().sum().backward()
    alpha = model.convs[0].alpha
    assert alpha.grad is not None and float(alpha.grad) != 0
    with torch.no_grad():
        alpha.fill_(0.9)
    assert all(conv.alpha is alpha for conv in model.convs)
    model.reset_parameters()
    assert abs(alpha.item() - 0.3) < 1e-6


# -- MagNet ----------------------------------------------------------------------------------------


def magnetic(counts: Tensor, q: float) -> Tensor:
    """The matrix -D^-1/2 A_s D^-1/2 exp(i Theta), complex128."""
    even = (counts + counts.t()) / 2
    there = (counts > 0).double()
    angle = 2 * math.pi * q * (there - there.t())
    scale = root_of(even.sum(1))
    return -torch.polar(scale[:, None] * even * scale, angle)


def operator_of(layer: gnn.MagNetConv, graph: Graph) -> Tensor:
    """The matrix of a layer with K = 1, read off by unit vectors."""
    size = graph.num_dst
    with torch.no_grad():
        layer.weight[0].zero_()
        layer.weight[1].copy_(torch.eye(size))
    eye, zero = torch.eye(size).double(), torch.zeros(size, size).double()
    return torch.complex(*layer.double()(eye, zero, graph))


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("q", [0.0, 0.1, 0.25])
def test_magnet_equals_its_complex_formula(order: int, q: float, case: Case) -> None:
    x, edges, graph, _ = case
    imag = torch.randn(14, 6).double()
    layer = gnn.MagNetConv(6, 4, K=order, q=q).double()
    nn.init.normal_(layer.bias)  # pyright: ignore[reportArgumentType]
    for w in (None, torch.rand(edges.size(1)).double() + 0.1):
        matrix = magnetic(dense_adjacency(graph, w).t(), q)
        z = torch.complex(x, imag)
        terms = [z, matrix @ z]
        for _ in range(order - 1):
            terms.append(2 * matrix @ terms[-1] - terms[-2])
        want = sum(t @ k.to(z.dtype) for t, k in zip(terms, layer.weight, strict=False))
        want = want + layer.bias * (1 + 1j)
        torch.testing.assert_close(torch.complex(*layer(x, imag, graph, w)), want)
        torch.testing.assert_close(torch.complex(*layer(x, imag, edges, w)), want)


def test_magnet_without_charge_is_the_real_chebyshev_form() -> None:
    # no edge has its reverse, so that A + A^T is the undirected graph
    edges = torch.randint(12, (2, 40))
    edges = torch.unique(edges.sort(0).values, dim=1)
    edges = edges[:, edges[0] != edges[1]]
    layer, peer = gnn.MagNetConv(5, 3, K=3, q=0.0), pyg.ChebConv(5, 3, 4)
    for number, lin in enumerate(peer.lins):
        lin.weight.data = layer.weight.data[number].t().contiguous()
    x, zero = torch.randn(12, 5), torch.zeros(12, 5)
    real, imag = layer(x, zero, edges)
    torch.testing.assert_close(real, peer(x, to_undirected(edges)), atol=1e-5, rtol=1e-5)
    assert not imag.any()


@settings(max_examples=40)
@given(graphs(bipartite=False), st.sampled_from([0.0, 0.1, 0.25]))
def test_the_magnetic_laplacian_is_hermitian_with_eigenvalues_from_0_to_2(
    graph: Graph, q: float
) -> None:
    if not graph.num_dst:
        return
    layer = gnn.MagNetConv(graph.num_dst, graph.num_dst, q=q, bias=False)
    matrix = operator_of(layer, graph) + torch.eye(graph.num_dst)
    torch.testing.assert_close(matrix, matrix.mH)
    values = torch.linalg.eigvalsh(matrix)
    assert values.min() > -1e-12 and values.max() < 2 + 1e-12
    if q == 0:
        assert not matrix.imag.any()


def test_the_charge_is_seen_on_cycles_and_not_on_trees() -> None:
    def values(edges: list[tuple[int, int]], q: float) -> Tensor:
        graph = Graph.from_edge_index(torch.tensor(edges).t(), 5)
        return torch.linalg.eigvalsh(operator_of(gnn.MagNetConv(5, 5, q=q, bias=False), graph))

    cycle, tree = [(0, 1), (1, 2), (2, 0)], [(0, 1), (2, 1), (1, 3), (4, 3)]
    assert (values(cycle, 0.1) - values(cycle, 0.2)).abs().max() > 0.1
    torch.testing.assert_close(values(tree, 0.1), values(tree, 0.25))
    both = cycle + [(b, a) for a, b in cycle]
    torch.testing.assert_close(values(both, 0.0), values(both, 0.25))


def test_magnet_equals_its_layers(case: Case) -> None:
    x, edges, graph, _ = case
    model = gnn.MagNet(6, 5, 3, num_layers=3, K=2, q=0.15, dropout=0.0).double()
    z = torch.complex(x, x)
    for conv in model.convs:
        z = torch.complex(*conv(z.real.contiguous(), z.imag.contiguous(), graph))
        z = z * (z.real >= 0)
    both = torch.cat([z.real, z.imag], 1)
    torch.testing.assert_close(model(x, edges), apply(model.lin, both))  # pyright: ignore
    encoder = gnn.MagNet(6, 5, None, num_layers=3, K=2, q=0.15).double()
    encoder.load_state_dict({k: v for k, v in model.state_dict().items() if "lin" not in k})
    torch.testing.assert_close(encoder(x, graph), both)
    assert encoder.out_channels == 10


# -- DiGCN and DGCN --------------------------------------------------------------------------------


def digcn_matrices(counts: Tensor, graph: Graph, alpha: float, k: int) -> list[Tensor]:
    """The operators of orders 1 to k."""
    loops = counts + torch.eye(14).double()
    step = loops / loops.sum(1, keepdim=True)
    root = pagerank(graph, alpha).sqrt()
    found = [(root[:, None] * step / root + (root[:, None] * step / root).t()) / 2]
    for order in range(2, k + 1):
        steps = torch.linalg.matrix_power(step, order - 1)
        meeting, parting = steps @ steps.t(), steps.t() @ steps
        found.append(torch.where((meeting > 0) & (parting > 0), (meeting + parting) / 2, 0))
    return [root_of(m.sum(1))[:, None] * m * root_of(m.sum(1)) for m in found]


@pytest.mark.parametrize("width", [3, 9])
def test_digcn_equals_its_formula(width: int, case: Case) -> None:
    x, edges, graph, counts = case
    layer = gnn.DiGCNConv(6, width, alpha=0.2).double()
    nn.init.normal_(layer.bias)  # pyright: ignore[reportArgumentType]
    want = digcn_matrices(counts, graph, 0.2, 1)[0] @ x @ layer.lin.weight.t() + layer.bias
    for given_ in (edges, graph, graph):
        torch.testing.assert_close(layer(x, given_), want, atol=1e-9, rtol=1e-7)
    model = gnn.DiGCN(6, 5, 3).double().eval()
    torch.testing.assert_close(
        model(x, edges), model.convs[1](model.convs[0](x, graph).relu(), graph)
    )


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("fusion", ["sum", "cat"])
def test_the_inception_block_equals_its_formula(k: int, fusion: Any, case: Case) -> None:
    x, edges, graph, counts = case
    block = gnn.DiGCNBlock(6, 4, k=k, fusion=fusion).double()
    nn.init.normal_(block.bias)
    parts = [apply(block.lin, x)]
    matrices = digcn_matrices(counts, graph, 0.1, k)
    for matrix, lin, bias in zip(matrices, block.lins, block.bias, strict=True):
        parts.append(matrix @ x @ lin.weight.t() + bias)
    want = sum(parts) if fusion == "sum" else apply(block.lin_cat, torch.cat(parts, 1))  # pyright: ignore
    for given_ in (edges, graph, graph):
        torch.testing.assert_close(block(x, given_), want, atol=1e-9, rtol=1e-7)
    model = gnn.DiGCNIB(6, 8, 3, num_layers=3, k=k, fusion=fusion).double().eval()
    h = x
    for one in model.convs:
        h = one(h, graph)
    assert torch.equal(model(x, graph), h)


def test_digcn_ib_drops_every_branch_and_what_they_add_up_to() -> None:
    graph = Graph.from_edge_index(torch.randint(50, (2, 200)), 50)
    block = gnn.DiGCNBlock(4, 64, dropout=0.6)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(block.lin.bias)
    nn.init.constant_(block.bias, 10.0)
    values = block(torch.zeros(50, 4), graph).detach() * 0.4
    # each of the branches 1, 10, 10 is there with probability 0.4
    found, counts = torch.unique(values.round(), return_counts=True)
    assert found.tolist() == [0, 1, 10, 11, 20, 21]
    want = torch.tensor([0.216, 0.144, 0.288, 0.192, 0.096, 0.064])
    assert (counts / counts.sum() - want).abs().max() < 0.03
    model = gnn.DiGCNIB(4, 64, 3, num_layers=2, dropout=0.6)
    seen: list[Tensor] = []
    model.convs[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(torch.randn(50, 4), graph)
    assert 0.55 < float((seen[0] == 0).float().mean()) < 0.7


@pytest.mark.parametrize("swapped", [False, True])
def test_dgcn_equals_its_formula(swapped: bool, case: Case) -> None:
    x, edges, graph, counts = case
    layer = gnn.DGCNConv(6, 4, swapped_degrees=swapped).double()
    nn.init.normal_(layer.bias)  # pyright: ignore[reportArgumentType]
    out, into = (counts.sum(axis).clamp(min=1) for axis in (1, 0))
    first, second = (into, out) if swapped else (out, into)
    union = ((counts + counts.t()) > 0).double()
    matrices = union, counts.t() @ (counts / first[:, None]), (counts / second) @ counts.t()
    h = x @ layer.lin.weight.t()
    want = torch.cat([gcn_matrix(m) @ h + layer.bias for m in matrices], 1)
    torch.testing.assert_close(layer(x, edges), want)
    torch.testing.assert_close(layer(x, graph), want)
    model = gnn.DGCN(6, 4, 3, dropout=0.0, swapped_degrees=swapped).double()
    h = x
    for conv in model.convs:
        h = conv(h, graph).relu()
    torch.testing.assert_close(model(x, edges), apply(model.lin, h))  # pyright: ignore
    assert gnn.DGCN(6, 4, None).out_channels == 12


# -- all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIRECTED)
def test_models_see_the_direction(name: str, case: Case) -> None:
    x, edges, _, _ = case
    model = gnn.build_model(name, 6, 8, 3).double().eval()
    assert (model(x, edges) - model(x, edges.flip(0))).abs().max() > 1e-3


@pytest.mark.parametrize("name", DIRECTED)
def test_models_warn_once_of_a_graph_without_direction(name: str) -> None:
    edges = to_undirected(torch.stack([torch.arange(9), torch.randint(9, (9,)) % 4 + 10]))
    x, model = torch.randn(14, 6), gnn.build_model(name, 6, 8, 3)
    for given_ in (edges, Graph.from_edge_index(edges, 14)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                model(x, given_)
        assert [one.category for one in caught] == [DirectionWarning]
    plain = Graph.from_edge_index(edges[:, 1:], 14)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x, plain)


def test_weights_may_hold_the_direction() -> None:
    edges = to_undirected(torch.randint(10, (2, 30)))
    w = torch.rand(edges.size(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gnn.DirGCNConv(6, 3)(torch.randn(10, 6), edges, w)
        gnn.MagNet(6, 8, 3)(torch.randn(10, 6), edges, w)
        gnn.DirGNN(6, 8, 3)(torch.randn(10, 6), edges, w)


@pytest.mark.parametrize("name", DIRECTED)
def test_models_of_one_class_and_of_one_layer(name: str, case: Case) -> None:
    x, edges, graph, _ = case
    for num_layers in (1, 3):
        model = gnn.build_model(name, 6, 8, 1, num_layers=num_layers).double()
        loss = nn.functional.cross_entropy(model(x, graph), torch.zeros(14, dtype=torch.int64))
        loss.backward()
        assert loss.item() == 0 and all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", DIRECTED)
def test_isolated_nodes_are_finite(name: str) -> None:
    model = gnn.build_model(name, 6, 8, 3)
    for edges in (torch.empty(2, 0, dtype=torch.int64), torch.tensor([[2], [2]])):
        out = model(torch.randn(5, 6), edges)
        assert out.shape == (5, 3) and out.isfinite().all()
    assert model(torch.randn(0, 6), torch.empty(2, 0, dtype=torch.int64)).shape == (0, 3)


class _Products(TorchDispatchMode):
    """Notes the columns of the side that every product runs over, and how wide it is."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.graphkit.coo_to_csr.default, "no graph is made"
        if func is torch.ops.graphkit.spmm.default:
            self.found.append((args[1].data_ptr(), args[6][0].numel()))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("layer", "widths"),
    [
        (lambda: gnn.DirGCNConv(8, 4), [4, 4]),
        (lambda: gnn.DirGCNConv(8, 32), [8, 8]),
        (lambda: gnn.DirGCNConv(8, 4, alpha=1.0), [4]),
        (lambda: gnn.DirSAGEConv(8, 4), [4, 4]),
        (lambda: gnn.DirSAGEConv(8, 32), [8, 8]),
        (lambda: gnn.DiGCNConv(8, 4), [4, 4]),
        (lambda: gnn.DiGCNConv(8, 32), [8, 8]),
        (lambda: gnn.MagNet(8, 4, 3, num_layers=1), [8, 8, 8, 8]),
        (lambda: gnn.MagNet(8, 4, 3, num_layers=1, q=0.0), [8, 8]),
    ],
)
def test_products_over_both_sides_of_the_one_graph(layer: Any, widths: list[int]) -> None:
    graph = Graph.from_edge_index(torch.randint(20, (2, 90)), 20)
    module, x = layer(), torch.randn(20, 8)
    with torch.no_grad():
        module(x, graph)
        with _Products() as products:
            module(x, graph)
    sides = {graph.by_dst.indices.data_ptr(), graph.by_src.indices.data_ptr()}  # pyright: ignore
    assert [width for _, width in products.found] == widths
    assert {side for side, _ in products.found} <= sides
    assert len(widths) == 1 or {side for side, _ in products.found} == sides


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: gnn.DirGCNConv(3, 4, alpha=1.5), "DirGCNConv: alpha is 1.5"),
        (lambda: gnn.DirSAGEConv(3, 4, alpha=-0.1), "DirSAGEConv: alpha is -0.1"),
        (lambda: gnn.DirGATConv(3, 4, alpha=float("nan")), "DirGATConv: alpha is nan"),
        (lambda: gnn.DirGCNConv(3, 4, alpha=True), "alpha is True"),
        (lambda: gnn.DirGNN(3, 4, 2, conv="gatv2"), "unknown conv 'gatv2'. Did you mean 'gat'"),  # pyright: ignore
        (lambda: gnn.DirGNN(3, 4, 2, jk="mx"), "unknown jk 'mx'. Did you mean 'max'"),  # pyright: ignore
        (lambda: gnn.MagNetConv(3, 4, q=0.3), "q is 0.3, but a number from 0 to 0.25"),
        (lambda: gnn.MagNetConv(3, 4, q=-0.1), "q is -0.1"),
        (lambda: gnn.MagNetConv(3, 4, K=0), "K is 0, but a whole number from 1 on"),
        (lambda: gnn.MagNetConv(-1, 4), "in_channels=-1"),
        (lambda: gnn.DiGCNConv(3, 4, alpha=0), "alpha is 0, but a number above 0"),
        (lambda: gnn.DiGCNConv(3, 4, alpha=1.1), "alpha is 1.1"),
        (lambda: gnn.DiGCNBlock(3, 4, k=0), "k is 0, but a whole number from 1 on"),
        (lambda: gnn.DiGCNBlock(3, 4, fusion="mean"), "unknown fusion 'mean'"),  # pyright: ignore
        (lambda: gnn.DiGCNBlock(-1, 4), "in_channels=-1"),
        (lambda: gnn.build_model("magnet", 3, 4, 2, norm="batch_norm"), "'magnet' has no norm"),
        (lambda: gnn.build_model("dirgcn", 3, 4, 2), "Did you mean 'dir-gcn'"),
    ],
)
def test_bad_options(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


X, E = torch.ones(4, 3), torch.tensor([[0, 1], [1, 2]])
HALF = Graph.from_edge_index(E, 4, transpose=False)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gnn.DirGCNConv(3, 2)(X, HALF), GraphError, "DirGCNConv needs .*transpose=True"),
        (lambda: gnn.MagNetConv(3, 2)(X, X, HALF), GraphError, "MagNetConv needs"),
        (lambda: gnn.DGCNConv(3, 2)((X, X), E), GraphError, "defined on one set of nodes"),  # pyright: ignore
        (lambda: gnn.DirGCNConv(5, 2)(X, E), GraphError, r"\[N, 5\] .*in_channels=3"),
        (lambda: gnn.MagNetConv(3, 2)(X, X[:2], E), GraphError, r"x_imag has shape \[2, 3\]"),
        (lambda: gnn.MagNetConv(3, 2)(X, X[:, :2], E), GraphError, "x_imag has shape"),
        (lambda: gnn.DirGCNConv(3, 2)(X, E, torch.ones(3)), GraphError, "edge_weight"),
        (lambda: gnn.DirSAGEConv(3, 2)(X, E, edge_mask=torch.ones(3)), GraphError, "edge_mask"),
        (
            lambda: gnn.DirGNN(3, 4, 2, conv="sage")(X, E, torch.ones(2)),
            ConfigError,
            "edge_weight is for conv='gcn', but conv is 'sage'",
        ),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_lazy_widths_are_read_off_the_first_input() -> None:
    for layer in (gnn.DirGCNConv, gnn.DirSAGEConv, gnn.DirGATConv, gnn.DiGCNConv, gnn.DGCNConv):
        built = layer(-1, 4)
        with torch.no_grad():
            first = built(X, E)
        assert first.size(0) == 4
        again = copy.deepcopy(built)
        torch.testing.assert_close(again(X, E), first)
        built.reset_parameters()
