"""PyG's layers as they are and under ``use_in_pyg``: the same results and gradients."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch_geometric
from torch import Tensor
from torch_geometric import nn as pyg
from torch_geometric.nn import aggr
from torch_geometric.utils import scatter, segment, softmax, spmm

from graphkit import GraphError
from graphkit.interop import pyg_functions, use_in_pyg

N, E = 60, 400
AT_IMPORT = {"scatter": scatter, "segment": segment, "softmax": softmax, "spmm": spmm}


@pytest.fixture(params=[1, 1 << 14], ids=["fused", "small"], autouse=True)
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test with messages put off, and with all of them made."""
    monkeypatch.setattr(pyg_functions, "_FEW", request.param)
    yield
    assert pyg_functions._uses == 0 and torch_geometric.utils.scatter is AT_IMPORT["scatter"]


def edges(sort: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    # the last nodes get no edges
    found = torch.randint(N - 4, (2, E), generator=generator)
    return found[:, found[1].argsort(stable=True)] if sort else found


def features(width: int = 8, rows: int = N) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(5)).double()


def both_ways(
    call: Callable[[Tensor], Tensor], x: Tensor, parameters: Any = (), again: bool = True
) -> None:
    """Results, gradients and, with ``again``, second derivatives."""
    found = []
    for own in (False, True):
        leaf = x.clone().requires_grad_()
        leaves = [leaf, *parameters]
        with use_in_pyg() if own else torch.enable_grad():
            torch.manual_seed(0)
            y = call(leaf)
            grads = torch.autograd.grad(y.sin().sum(), leaves, allow_unused=True, create_graph=True)
            twice = [g for g in grads if g is not None and g.requires_grad]
            more: Any = ()
            if again and twice:
                total = torch.stack([g.square().sum() for g in twice]).sum()
                more = torch.autograd.grad(total, leaf, allow_unused=True)
        with torch.no_grad(), use_in_pyg() if own else torch.no_grad():
            torch.manual_seed(0)
            torch.testing.assert_close(call(leaf), y.detach())
        found.append((y, *grads, *more))
    for want, got in zip(*found, strict=True):
        assert (want is None) == (got is None)
        if want is not None:
            torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-7)


LAYERS: dict[str, Callable[[], torch.nn.Module]] = {
    "GCN": lambda: pyg.GCNConv(8, 6),
    "SAGE": lambda: pyg.SAGEConv(8, 6),
    "SAGE sum": lambda: pyg.SAGEConv(8, 6, aggr="sum"),
    "SAGE project": lambda: pyg.SAGEConv(8, 6, project=True),
    "GIN": lambda: pyg.GINConv(torch.nn.Linear(8, 6)),
    "GAT": lambda: pyg.GATConv(8, 6, heads=3),
    "GAT without concat": lambda: pyg.GATConv(8, 6, heads=3, concat=False),
    "GATv2": lambda: pyg.GATv2Conv(8, 6, heads=2),
    "Transformer": lambda: pyg.TransformerConv(8, 6, heads=2),
    "GraphConv": lambda: pyg.GraphConv(8, 6),
    "Cheb": lambda: pyg.ChebConv(8, 6, K=3),
    "TAG": lambda: pyg.TAGConv(8, 6),
    "SG": lambda: pyg.SGConv(8, 6, K=2),
    "APPNP": lambda: pyg.APPNP(3, 0.1),
    "Gated": lambda: pyg.GatedGraphConv(8, 2),
    "Edge": lambda: pyg.EdgeConv(torch.nn.Linear(16, 6), aggr="mean"),
    "PNA": lambda: pyg.PNAConv(
        8, 6, ["mean", "std", "sum"], ["identity", "amplification"], torch.arange(20)
    ),
    "GEN": lambda: pyg.GENConv(8, 6),
    "RGCN": lambda: _Typed(),
    "to sources": lambda: pyg.GraphConv(8, 6, flow="target_to_source"),
    "decomposed": lambda: pyg.GCNConv(8, 6, decomposed_layers=2),
}


class _Typed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.RGCNConv(8, 6, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index, torch.arange(E) % 3)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    torch.manual_seed(1)
    layer = LAYERS[name]().double()
    for edge_index in (edges(), edges(sort=True)):
        both_ways(lambda x, e=edge_index: layer(x, e), features(), list(layer.parameters()))


@pytest.mark.parametrize("kind", ["max", "min"])
def test_layers_of_extremes(kind: str) -> None:
    # no 0 among the results: PyG loses gradient there
    layer = pyg.SAGEConv(8, 6, aggr=kind).double()
    edge_index = torch.cat([edges(), torch.arange(N).expand(2, -1)], 1)
    both_ways(lambda x: layer(x, edge_index), features(), list(layer.parameters()))


def test_layers_of_two_kinds_of_nodes_and_weights() -> None:
    torch.manual_seed(1)
    edge_index = torch.stack([edges()[0] % 20, edges()[1]])
    w = torch.rand(E).double().requires_grad_()
    y = features(8, 20)
    sage, conv = pyg.SAGEConv((8, 8), 6).double(), pyg.GraphConv((8, 8), 6).double()
    gat = pyg.GATConv((8, 8), 6, add_self_loops=False).double()
    both_ways(lambda x: sage((y, x), edge_index), features())
    both_ways(lambda x: conv((y * 2, x), edge_index, w), features(), [w])
    both_ways(lambda x: gat((x[:20], x), edge_index), features())
    gcn = pyg.GCNConv(8, 6, cached=False).double()
    both_ways(lambda x: gcn(x, edges(), w), features(), [w, *gcn.parameters()])


AGGREGATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "sum": aggr.SumAggregation,
    "mean": aggr.MeanAggregation,
    "max": aggr.MaxAggregation,
    "min": aggr.MinAggregation,
    "mul": aggr.MulAggregation,
    "var": aggr.VarAggregation,
    "std": aggr.StdAggregation,
    "softmax": lambda: aggr.SoftmaxAggregation(learn=True),
    "power mean": aggr.PowerMeanAggregation,
    "multi": lambda: aggr.MultiAggregation(["sum", "mean", "std"]),
    "attentional": lambda: aggr.AttentionalAggregation(torch.nn.Linear(8, 1)),
    "median": aggr.MedianAggregation,
}


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_aggregations(name: str) -> None:
    torch.manual_seed(1)
    module = AGGREGATIONS[name]().double()
    x = features().abs() + 0.1
    # no empty row, where PyG's extremes lose gradient
    index = torch.cat([torch.arange(7), edges()[0, : N - 7] % 7]).sort().values
    both_ways(lambda x: module(x, index, dim_size=7), x)
    if name not in ("mul", "median"):
        ptr = torch.searchsorted(index, torch.arange(8))
        # PyG's own has no second derivative there
        both_ways(lambda x: module(x, index, ptr=ptr), x, again=False)
    if name not in ("median", "attentional", "multi"):
        both_ways(lambda x: module(x.t(), index, dim_size=7, dim=1), x)


def test_models_train_the_same() -> None:
    for make in (pyg.GCN, pyg.GIN, pyg.GAT, pyg.GraphSAGE):
        losses = []
        for own in (False, True):
            torch.manual_seed(2)
            model = make(8, 16, 2, 4).double()
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            with use_in_pyg() if own else torch.enable_grad():
                for _ in range(5):
                    optimizer.zero_grad()
                    loss = model(features(), edges()).log_softmax(1)[:, 0].square().mean()
                    loss.backward()
                    optimizer.step()
                losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.filterwarnings("ignore:Sparse (CSR|invariant):UserWarning")
def test_sparse_matrices() -> None:
    edge_index = edges(sort=True)
    w = torch.rand(E, dtype=torch.float64)
    coo = torch.sparse_coo_tensor(edge_index.flip(0), w, (N, N)).coalesce()
    csr = coo.to_sparse_csr()
    for reduce in ("sum", "mean", "max", "min"):
        found = []
        for own in (False, True):
            x = features().requires_grad_(reduce == "sum")
            with use_in_pyg() if own else torch.enable_grad():
                y = torch_geometric.utils.spmm(csr, x, reduce)
                y = y + torch_geometric.utils.spmm(csr, x, reduce)
            found.append((y, *(torch.autograd.grad(y.sin().sum(), x) if reduce == "sum" else ())))
        for want, got in zip(*found, strict=True):
            torch.testing.assert_close(got, want)
    layer = pyg.GCNConv(8, 6).double()
    both_ways(lambda x: layer(x, csr.to_sparse_csr()), features())


# -- in place and back -----------------------------------------------------------------------------


def test_every_module_that_holds_a_name() -> None:
    before = types.ModuleType("imported_before")
    vars(before).update(own_name=softmax, scatter=scatter)
    sys.modules["imported_before"] = before
    holders = [
        m
        for m in list(sys.modules.values())
        if getattr(m, "__name__", "").startswith("torch_geometric")
    ]
    held: dict[tuple[str, str], Any] = {}
    for module in holders:
        for name, value in list(vars(module).items()):
            if any(value is function for function in AT_IMPORT.values()):
                held[module.__name__, name] = value
    assert len(held) > 60
    try:
        with use_in_pyg():
            from torch_geometric.utils import softmax as after

            assert before.own_name is after is pyg_functions._softmax
            assert before.scatter is pyg_functions._scatter
            for module, name in held:
                assert getattr(sys.modules[module], name).__module__ == pyg_functions.__name__
            vars(before)["later"] = torch_geometric.utils.segment
        assert before.own_name is softmax and before.scatter is scatter and before.later is segment
        for (module, name), value in held.items():
            assert getattr(sys.modules[module], name) is value
    finally:
        del sys.modules["imported_before"]


def test_nested_and_by_hand() -> None:
    one = use_in_pyg()
    with use_in_pyg():
        assert torch_geometric.utils.scatter is pyg_functions._scatter
    assert torch_geometric.utils.scatter is pyg_functions._scatter
    one.restore()
    one.restore()
    assert torch_geometric.utils.scatter is scatter
    with pytest.raises(ZeroDivisionError), use_in_pyg():
        1 / 0  # noqa: B018
    assert torch_geometric.utils.scatter is scatter


def test_the_functions() -> None:
    index = torch.tensor([0, 1, 1, 3, 0])
    ptr = torch.tensor([0, 2, 2, 5])
    x = features(3, 5)
    calls: list[Callable[[], Tensor]] = [
        *(
            lambda r=r: torch_geometric.utils.scatter(x, index, 0, 5, r)
            for r in ("sum", "add", "mean", "max", "min", "mul")
        ),
        lambda: torch_geometric.utils.scatter(x.t(), index, -1),
        lambda: torch_geometric.utils.scatter((x * 9).long(), index),
        lambda: torch_geometric.utils.scatter((x > 0), index, reduce="any"),
        *(
            lambda r=r: torch_geometric.utils.segment(x, ptr, r)
            for r in ("sum", "mean", "max", "min")
        ),
        lambda: torch_geometric.utils.softmax(x, index),
        lambda: torch_geometric.utils.softmax(x, index, num_nodes=9),
        lambda: torch_geometric.utils.softmax(x, ptr=ptr),
        lambda: torch_geometric.utils.softmax(x.t(), index, dim=1),
        lambda: torch_geometric.utils.softmax(x[:, 0], index),
        lambda: torch_geometric.nn.global_mean_pool(x, index.sort().values),
    ]
    for call in calls:
        want = call()
        with use_in_pyg():
            got = call()
        torch.testing.assert_close(got, want)


def test_errors() -> None:
    with use_in_pyg():
        for index in (torch.tensor([0, 5]), torch.tensor([-1, 0])):
            with pytest.raises(GraphError, match="index"):
                torch_geometric.utils.scatter(torch.ones(2, 3), index, dim_size=3)
            with pytest.raises(ValueError, match="index|range"):
                pyg.GINConv(torch.nn.Identity())(torch.ones(3, 2), torch.stack([index, index]))
        with pytest.raises(ValueError, match="one-dimensional"):
            torch_geometric.utils.scatter(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.long))
        with pytest.raises(ValueError, match="invalid `reduce`"):
            torch_geometric.utils.scatter(torch.ones(2), torch.tensor([0, 1]), reduce="what")


def test_compiled_as_before() -> None:
    layer = pyg.SAGEConv(8, 6).double()
    want = layer(features(), edges())
    with use_in_pyg():
        got = torch.compile(layer, backend="eager")(features(), edges())
    torch.testing.assert_close(got, want)


# -- orders and messages ---------------------------------------------------------------------------


def test_orders_follow_changes_in_place_and_end_with_their_tensors() -> None:
    index, x = torch.tensor([0, 1, 1, 0]), features(2, 4)
    with use_in_pyg():
        for _ in range(2):
            torch.testing.assert_close(
                torch_geometric.utils.softmax(x, index)[0], softmax_of(x[[0, 3]])
            )
        assert len(pyg_functions._orders.held) == 1
        index[3] = 1
        torch.testing.assert_close(
            torch_geometric.utils.softmax(x, index)[0], torch.ones(2).double()
        )
        view = torch.stack([index, index])[0]
        torch_geometric.utils.softmax(x, view)
        held = len(pyg_functions._orders.held)
        del view
        gc.collect()
        assert len(pyg_functions._orders.held) == held - 1
        with torch.inference_mode():
            fresh = torch.tensor([0, 1, 1, 0])
            torch_geometric.utils.softmax(x, fresh)
            fresh[3] = 1
            assert torch_geometric.utils.softmax(x, fresh)[0, 0] == 1
    assert not pyg_functions._orders.held


def softmax_of(rows: Tensor) -> Tensor:
    return rows.softmax(0)[0]


class _Own(pyg.MessagePassing):
    """A layer of somebody else, whose message is what it is given."""

    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__(aggr="sum")
        self.what = what

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x)

    def message(self, x_j: Tensor) -> Tensor:
        return self.what(x_j)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *dy: Tensor) -> Any:
        return dy[0] * 2


def _in_place(x_j: Tensor) -> Tensor:
    y = x_j * 1.0
    y *= 3
    y[:, 0] = 0
    return y


MESSAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda m: m,
    "weights": lambda m: torch.arange(E).double().view(-1, 1) * m,
    "weights behind": lambda m: m * torch.arange(E).double().view(-1, 1),
    "weights twice": lambda m: m * torch.arange(E).double().view(-1, 1) * torch.ones(E, 1).double(),
    "number": lambda m: 2 * m,
    "row": lambda m: m * torch.arange(8).double(),
    "twice": lambda m: m + m,
    "square": lambda m: m * m,
    "slices": lambda m: torch.cat([m[:, :4], m[:, 4:]], dim=-1),
    "relu": lambda m: m.relu(),
    "in place": _in_place,
    "mul in place": lambda m: m.mul_(2) if not m.requires_grad else m.clone().mul_(2),
    "a function of autograd": lambda m: _Doubled.apply(m),
    "linear": lambda m: torch.nn.functional.linear(m, torch.ones(8, 8).double()),
    "looked at": lambda m: m if m.shape == (E, 8) and m.dtype == torch.float64 else m[:0],
    "matrix": lambda m: m @ torch.ones(8, 3).double(),
    "einsum": lambda m: torch.einsum("ef,f->ef", m, torch.ones(8).double()),
    "unbound": lambda m: torch.stack(m.unbind(1), 1),
    "detached": lambda m: m.detach() + m,
}


@pytest.mark.parametrize("name", MESSAGES)
def test_what_may_be_done_with_a_message(name: str) -> None:
    layer = _Own(MESSAGES[name])
    both_ways(lambda x: layer(x, edges()), features())


def test_messages_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of GCN, GIN, SAGE and GAT, where there is something to be saved."""
    monkeypatch.setattr(pyg_functions, "_FEW", 32)
    made: list[int] = []
    now = pyg_functions._Message.now
    monkeypatch.setattr(pyg_functions._Message, "now", lambda self: made.append(1) or now(self))
    with use_in_pyg():
        for name in ("GCN", "GIN", "SAGE"):
            LAYERS[name]().double()(features(), edges())
        assert not made
        conv = pyg.GATConv(8, 40, heads=1).double()
        monkeypatch.setattr(pyg_functions, "_FEW", E * 8)
        conv(features(), edges())
    assert not made


def test_features_that_change_under_their_messages() -> None:
    x = features()

    def message(m: Tensor) -> Tensor:
        x.add_(1)
        return m.relu()

    with use_in_pyg():
        if pyg_functions._FEW == 1:
            with pytest.raises(GraphError, match="changed in place"):
                _Own(message)(x, edges())


def test_hooks_and_explainers_see_messages() -> None:
    seen: list[Tensor] = []
    layer = pyg.GCNConv(8, 6).double()
    layer.register_message_forward_hook(lambda module, inputs, output: seen.append(output.sum()))
    want = layer(features(), edges())
    with use_in_pyg():
        torch.testing.assert_close(layer(features(), edges()), want)
    torch.testing.assert_close(seen[1], seen[0])
    from torch_geometric.explain import Explainer, GNNExplainer

    results = []
    for own in (False, True):
        torch.manual_seed(0)
        model = pyg.GCN(8, 8, 2, 3).double()
        with use_in_pyg() if own else torch.enable_grad():
            explainer = Explainer(
                model,
                GNNExplainer(epochs=3),
                explanation_type="model",
                edge_mask_type="object",
                model_config=dict(
                    mode="multiclass_classification", task_level="node", return_type="raw"
                ),
            )
            results.append(explainer(features(), edges(), index=3).edge_mask)
    torch.testing.assert_close(results[1], results[0], atol=1e-6, rtol=1e-5)
