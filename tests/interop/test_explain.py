"""graphkit's layers in the parts of PyG that look for MessagePassing."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch_geometric.datasets import ExplainerDataset
from torch_geometric.datasets.graph_generator import BAGraph
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import GCNConv as PyGGCNConv
from torch_geometric.nn import SAGEConv as PyGSAGEConv
from torch_geometric.nn import to_hetero
from torch_geometric.utils import k_hop_subgraph

import graphkit as gk
from graphkit import ConfigError
from graphkit import nn as gnn
from graphkit.interop import MessagePassingLayer, as_message_passing


class Net(nn.Module):
    """A user's own PyG-style model."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    # no annotations: as strings they stop torch.fx before torch 2.7 inside PyG's to_hetero
    def forward(self, x, edge_index):
        return self.second(self.first(x, edge_index).relu(), edge_index)


def explainer(model: nn.Module, epochs: int = 100) -> Explainer:
    return Explainer(
        model,
        GNNExplainer(epochs=epochs, lr=0.05),
        explanation_type="model",
        edge_mask_type="object",
        model_config={
            "mode": "multiclass_classification",
            "task_level": "node",
            "return_type": "raw",
        },
    )


WIDTHS = ((4, 24), (24, 24), (24, 4))


class PyGStack(nn.Module):
    """The same network from PyG's own layers."""

    def __init__(self, model: gnn.Stack) -> None:
        super().__init__()
        self.convs = nn.ModuleList(PyGSAGEConv(a, b, "sum") for a, b in WIDTHS)
        self.convs.load_state_dict(model.convs.state_dict())

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        for conv in self.convs[:2]:
            x = conv(x, edge_index).relu()
        return self.convs[2](x, edge_index)


@pytest.fixture(scope="module")
def ba_shapes() -> tuple[gnn.Stack, Tensor, Tensor, Tensor, Tensor]:
    """A network that knows the houses of BA-shapes, and the edges that make up the houses."""
    torch.manual_seed(0)
    data = ExplainerDataset(BAGraph(120, 3), "house", num_motifs=30)[0]
    x = torch.ones(data.num_nodes, 4)
    graph = gk.as_graph(data.edge_index, data.num_nodes, data.num_nodes)
    model = gnn.Stack(gnn.SAGEConv(a, b, "sum") for a, b in WIDTHS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)
    for _ in range(400):
        loss = nn.functional.cross_entropy(model(x, graph), data.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (model(x, graph).argmax(1) == data.y).float().mean()
    assert right > 0.95, "the model must know the motif before it can explain it"
    return model.eval(), x, data.edge_index, data.y, data.edge_mask > 0


def test_the_explainer_ranks_the_planted_motif_top(ba_shapes: tuple) -> None:
    """The motif's edges outrank the others nearby, exactly as with PyG's own layers."""
    model, x, edge_index, y, motif = ba_shapes
    ours, theirs = as_message_passing(model), PyGStack(model).eval()
    torch.testing.assert_close(ours(x, edge_index), model(x, edge_index))
    ranks = []
    for node in (y > 0).nonzero().flatten()[::30].tolist():
        masks = []
        for network in (ours, theirs):
            torch.manual_seed(node)
            masks.append(explainer(network)(x, edge_index, index=node).edge_mask)
        torch.testing.assert_close(masks[0], masks[1], atol=1e-3, rtol=0)
        near = k_hop_subgraph(node, 3, edge_index)[3]
        ranks.append(roc_auc_score(motif[near].numpy(), masks[0][near].numpy()))
    assert sum(ranks) / len(ranks) > 0.8


def test_an_unwrapped_layer_is_not_silently_ignored(ba_shapes: tuple) -> None:
    model, x, edge_index, _, _ = ba_shapes
    with pytest.raises(ConfigError, match="SAGEConv is inside .*as_message_passing"):
        explainer(model, epochs=2)(x, edge_index, index=130)


def test_an_unwrapped_layer_beside_pygs_is_not_silently_ignored() -> None:
    """PyG would explain the layers that it knows, and nobody would notice the others."""
    x, edge_index = torch.randn(20, 5), torch.randint(20, (2, 70))
    model = Net(PyGGCNConv(5, 8), gnn.GCNConv(8, 3))
    with pytest.raises(ConfigError, match="GCNConv is inside a model whose edges PyG explains"):
        explainer(model, epochs=2)(x, edge_index, index=4)
    assert explainer(as_message_passing(model), epochs=2)(x, edge_index, index=4).edge_mask.any()
    features_only = Explainer(
        model,
        GNNExplainer(epochs=2),
        explanation_type="model",
        node_mask_type="attributes",
        model_config={
            "mode": "multiclass_classification",
            "task_level": "node",
            "return_type": "raw",
        },
    )
    assert features_only(x, edge_index, index=4).node_mask.any()


@pytest.mark.parametrize(
    "conv",
    [
        lambda a, b: gnn.GCNConv(a, b),
        lambda a, b: gnn.SAGEConv(a, b, aggr="max"),
        lambda a, b: gnn.GATConv(a, b),
        lambda a, b: gnn.GATv2Conv(a, b),
        lambda a, b: gnn.GINConv(nn.Linear(a, b)),
        lambda a, b: gnn.ACMConv(a, b),
    ],
)
def test_every_layer_gives_edge_masks_a_gradient(conv) -> None:
    x, edge_index = torch.randn(20, 5), torch.randint(20, (2, 70))
    model = as_message_passing(Net(conv(5, 8), conv(8, 3)))
    mask = explainer(model, epochs=3)(x, edge_index, index=4).edge_mask
    assert mask is not None and int((mask > 0).sum()) > 0


def test_wrapping_a_model_copies_its_shape_and_shares_its_weights() -> None:
    model = Net(gnn.GCNConv(4, 8), PyGGCNConv(8, 2))
    wrapped = as_message_passing(model)
    assert isinstance(wrapped.first, MessagePassingLayer)
    assert isinstance(wrapped.second, PyGGCNConv)
    assert isinstance(model.first, gnn.GCNConv), "the original is left as it was"
    assert wrapped.first.layer.lin.weight is model.first.lin.weight
    assert "first.layer.lin.weight" in wrapped.state_dict()
    again = as_message_passing(wrapped.first)
    assert isinstance(again, MessagePassingLayer)


def test_nothing_to_wrap() -> None:
    with pytest.raises(ConfigError, match="Linear holds no layer whose forward takes edge_mask"):
        as_message_passing(nn.Linear(2, 2))


def test_outside_the_explainer_a_wrapped_layer_has_no_mask() -> None:
    layer = as_message_passing(gnn.GCNConv(4, 2))
    layer.explain = True
    with pytest.raises(ConfigError, match="without an edge mask"):
        layer(torch.ones(3, 4), torch.tensor([[0], [1]]))


def test_to_hetero_learns() -> None:
    metadata = (["paper", "author"], [("paper", "by", "author"), ("author", "wrote", "paper")])
    model = Net(gnn.SAGEConv((-1, -1), 8), gnn.GATConv((-1, -1), 3, add_self_loops=False))
    lifted = to_hetero(as_message_passing(model), metadata)
    x = {"paper": torch.randn(7, 5), "author": torch.randn(4, 3)}
    edges = torch.stack([torch.randint(7, (12,)), torch.randint(4, (12,))])
    out = lifted(x, dict(zip(metadata[1], (edges, edges.flip(0)), strict=True)))
    assert {kind: tuple(v.shape) for kind, v in out.items()} == {"paper": (7, 3), "author": (4, 3)}
    out["paper"].sum().backward()
    assert all(p.grad is not None for name, p in lifted.named_parameters() if "wrote" in name)
