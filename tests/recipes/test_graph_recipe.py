from __future__ import annotations

import copy
import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import (
    Digests,
    changed,
    check_resumed,
    check_same_bits,
    count_tests,
)
from torch import Tensor
from torch_geometric import nn as pyg
from torch_geometric.data import Batch, Data

from graphkit.cli import main
from graphkit.data import GraphSet
from graphkit.errors import ConfigError, DataError
from graphkit.graph import Graph
from graphkit.recipes import graph
from graphkit.recipes.graph import ATOMS, BONDS, batches, read_graphs
from graphkit.recipes.graphnet import Categories, graph_net

# the package's attribute of this name is the function
MODULE = importlib.import_module("graphkit.recipes.graph")
QUICK: dict[str, Any] = dict(hidden=8, num_layers=2, epochs=4, quiet=True)


def molecules(graphs: GraphSet) -> GraphSet:
    """The same with categories of OGB's widths on nodes and edges."""
    atoms = [torch.randint(0, top, (int(graphs.node_ptr[-1]),)) for top in ATOMS]
    bonds = [torch.randint(0, top, (int(graphs.edge_ptr[-1]),)) for top in BONDS]
    return changed(graphs, x=torch.stack(atoms, 1), edge_attr=torch.stack(bonds, 1))


@pytest.mark.parametrize("options", [{}, {"model": "gcn", "pool": "sum"}, {"virtual_node": True}])
def test_whole_graphs_are_learnt(rings: GraphSet, options: dict[str, Any]) -> None:
    options = {**QUICK, "hidden": 16, "epochs": 25, "dropout": 0.0, "lr": 0.01, **options}
    record = graph(data=rings, seeds="0-1", **options)
    assert (record.task, record.data, record.metric) == ("graph", "custom", "accuracy")
    assert record.test_mean > 0.9 and [row.split for row in record.rows] == [0, 1]
    config = json.loads((Path(record.run) / "config.json").read_text())
    assert config["recipe"] == "graph" and config["options"]["batch_size"] == 32


def test_same_seed_same_bits_and_the_rest_of_the_program_undisturbed(
    rings: GraphSet, digests: Digests
) -> None:
    check_same_bits(graph, digests, data=rings, **QUICK)


@pytest.mark.parametrize("epoch", [1, 6])
def test_a_stopped_run_goes_on_with_the_same_bits(
    rings: GraphSet, epoch: int, digests: Digests
) -> None:
    check_resumed(graph, digests, epoch, data=rings, batch_size=4, **QUICK)


def test_the_test_graphs_are_scored_once_per_seed(
    rings: GraphSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = count_tests(MODULE, monkeypatch)
    graph(data=rings, seeds="0-3", **QUICK)
    assert scored == [(0, 0), (1, 1), (2, 2), (3, 0)]


def test_labels_of_test_graphs_change_nothing_before(rings: GraphSet, digests: Digests) -> None:
    first = graph(data=rings, **QUICK)
    test = rings.test_mask[:, 0]
    second = graph(data=changed(rings, y=torch.where(test, 1 - rings.y, rings.y)), **QUICK)
    assert digests(first.run) == digests(second.run)
    assert first.test_mean == pytest.approx(1 - second.test_mean)


@given(st.integers(1, 60), st.integers(2, 9))
def test_batches_are_all_graphs_in_order_and_none_is_alone(count: int, size: int) -> None:
    found = batches(torch.arange(count), size)
    assert torch.equal(torch.cat(found), torch.arange(count))
    assert all(2 <= len(part) <= size + 1 for part in found) or count == 1


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 8))
@settings(max_examples=25)
def test_categories_are_summed(sizes: list[int], rows: int) -> None:
    encoder = Categories(sizes, 4)
    columns = torch.stack([torch.randint(0, size, (rows,)) for size in sizes], dim=1)
    tables = encoder.weight.split(sizes)
    expected = sum(table[columns[:, number]] for number, table in enumerate(tables))
    torch.testing.assert_close(encoder(columns), expected)


def test_categories_are_ogbs_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("ogb") is None:
        pytest.skip("ogb is not installed")
    # which ogb would ask for its newest version
    monkeypatch.setitem(sys.modules, "outdated", None)
    from ogb.graphproppred.mol_encoder import AtomEncoder
    from ogb.utils.features import get_atom_feature_dims, get_bond_feature_dims

    assert list(ATOMS) == get_atom_feature_dims() and list(BONDS) == get_bond_feature_dims()
    theirs, ours = AtomEncoder(8), Categories(ATOMS, 8)
    with torch.no_grad():
        ours.weight.copy_(torch.cat(list(theirs.parameters())))
    x = torch.stack([torch.randint(0, size, (20,)) for size in ATOMS], dim=1)
    torch.testing.assert_close(ours(x), theirs(x))


class OgbGcn(pyg.MessagePassing):
    """The convolution of OGB's molecules, by its formula on PyG's message passing."""

    def __init__(self, ours: Any) -> None:
        super().__init__(aggr="add")
        self.ours = ours

    def forward(self, x: Tensor, edge_index: Tensor, edge: Tensor) -> Tensor:
        h = self.ours.lin(x)
        degree = torch.bincount(edge_index[1], minlength=len(x)).double() + 1
        norm = (degree[edge_index[0]] * degree[edge_index[1]]).pow(-0.5)
        own = (h + self.ours.root).relu() / degree.unsqueeze(1)
        return self.propagate(edge_index, x=h, edge=edge, norm=norm) + own

    def message(self, x_j: Tensor, edge: Tensor, norm: Tensor) -> Tensor:
        return norm.unsqueeze(1) * (x_j + edge).relu()


def reference(model: Any, kind: str, batch: Any) -> Tensor:
    """The outputs by PyG's layers and pools, with the weights of ``model``, without dropout."""
    # pyright takes the modules of PyG's pools for the functions
    add, mean = (getattr(pyg, f"global_{name}_pool") for name in ("add", "mean"))
    h, count = model.nodes(batch.x), len(batch.ptr) - 1
    state = None if model.start is None else model.start.expand(count, -1)
    for layer, conv in enumerate(model.convs):
        h = h if state is None else h + state[batch.batch]
        edge = (model.edges[layer](batch.edge_attr),) if len(model.edges) else ()
        if kind == "gcn":
            theirs: Any = OgbGcn(conv) if edge else pyg.GCNConv(8, 8).double()
        else:
            kin = pyg.GINEConv if edge else pyg.GINConv
            # PyG draws the weights of the network that it is given anew
            theirs = kin(copy.deepcopy(conv.nn), train_eps=True).double()
        if not isinstance(theirs, OgbGcn):
            theirs.load_state_dict(conv.state_dict())
        after = model.norms[layer](theirs(h, batch.edge_index, *edge))
        if layer < len(model.convs) - 1:
            after = after.relu()
            if state is not None:
                total = add(h, batch.batch)
                state = model.updates[layer](total + state)
        h = after
    pooled = (mean if model.pool == "mean" else add)(h, batch.batch)
    return model.head(pooled)


@pytest.mark.parametrize("kind", ["gin", "gcn"])
@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("virtual", [True, False])
def test_the_model_is_that_of_ogbs_example(
    rings: GraphSet, kind: str, edges: bool, virtual: bool
) -> None:
    graphs = molecules(rings)
    batch: Any = graphs.batch(torch.randperm(60)[:7])
    about: dict[str, Any] = dict(dropout=0.5, pool="sum" if edges else "mean", virtual_node=virtual)
    model = graph_net(kind, ATOMS, BONDS if edges else None, 8, 3, 2, **about).double()
    assert (model.start is None) != virtual
    if model.start is not None:
        torch.nn.init.normal_(model.start)
    model.eval()
    joined = Graph.from_edge_index(batch.edge_index, len(batch.x))
    out = model(batch.x, joined, batch.edge_attr, batch.ptr)
    torch.testing.assert_close(out, reference(model, kind, batch))


@pytest.mark.parametrize("kind", ["gin", "gcn"])
def test_a_graph_is_the_same_alone_and_with_its_nodes_in_any_order(
    rings: GraphSet, kind: str
) -> None:
    graphs = molecules(rings)
    about: dict[str, Any] = dict(dropout=0.5, pool="mean", virtual_node=True)
    model = graph_net(kind, ATOMS, BONDS, 8, 3, 2, **about).double().eval()

    def outputs(batch: Any) -> Tensor:
        joined = Graph.from_edge_index(batch.edge_index, len(batch.x))
        return model(batch.x, joined, batch.edge_attr, batch.ptr)

    whole = outputs(graphs.batch(range(5)))
    for number in range(5):
        torch.testing.assert_close(outputs(graphs.batch([number]))[0], whole[number])
        one = graphs[number]
        order = torch.randperm(one.num_nodes)
        new = Data(x=one.x[order], edge_index=order.argsort()[one.edge_index])
        new.edge_attr = one.edge_attr
        torch.testing.assert_close(outputs(Batch.from_data_list([new]))[0], whole[number])


def test_what_nodes_and_edges_hold(rings: GraphSet) -> None:
    bare, task = read_graphs(rings, None)
    assert (bare.node, bare.edge, task.kind) == ([5], None, "classes")
    assert set(bare.graphs.x.view(-1).tolist()) == {2, 4}
    nodes, edges = int(rings.node_ptr[-1]), int(rings.edge_ptr[-1])
    numbers = changed(rings, x=torch.rand(nodes, 3), edge_attr=torch.rand(edges))
    assert read_graphs(numbers, None)[0].node == 3 and read_graphs(numbers, None)[0].edge == 1
    categories = molecules(rings)
    found = read_graphs(categories, None)[0]
    assert found.node == (categories.x.amax(0) + 1).tolist()
    categories.name = "ogbg-molhiv"
    found = read_graphs(categories, "rocauc")
    assert (found[0].node, found[0].edge) == (list(ATOMS), list(BONDS))
    assert (found[1].kind, found[1].width, found[0].y.shape) == ("labels", 1, (60, 1))
    categories.tensors["x"][0, 0] = 200
    assert read_graphs(categories, None)[0].node[0] == 201  # pyright: ignore[reportIndexIssue]


def test_values_labels_and_numbers_as_features(rings: GraphSet, digests: Digests) -> None:
    size = rings.node_ptr.diff().float()
    labels = torch.stack([rings.y.float(), (size > 6).float(), torch.full((60,), torch.nan)], 1)
    labels[::7, 0] = torch.nan
    nodes, edges = int(rings.node_ptr[-1]), int(rings.edge_ptr[-1])
    numbers = changed(rings, x=torch.rand(nodes, 3), edge_attr=torch.rand(edges, 2), y=labels)
    record = graph(data=numbers, **{**QUICK, "epochs": 20, "dropout": 0.0, "lr": 0.01})
    assert record.metric == "rocauc" and record.test_mean > 0.6
    values = changed(rings, y=size.unsqueeze(1))
    quick: dict[str, Any] = {
        **QUICK,
        "metric": "rmse",
        "epochs": 60,
        "dropout": 0.0,
        "lr": 0.02,
        "pool": "sum",
    }
    record = graph(data=values, **quick)
    assert record.metric == "rmse" and record.test_mean < 0.8 * size.std()
    assert digests(record.run) != digests(graph(data=values, **quick, amp="bf16").run)


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"model": "sage"}, ConfigError, "Unknown model 'sage'.*gat, gcn, gin, ocgin, rqgnn"),
        ({"batch_size": 1}, ConfigError, "batch_size is 1, but at least 2"),
        ({"pool": "max"}, ConfigError, "pool is 'max', but mean or sum or attention"),
        ({"virtual_node": 1}, ConfigError, "virtual_node is 1, but True or False"),
        ({"metric": "rmse"}, ConfigError, "metric is 'rmse', but the labels are classes"),
        ({"submission": 3}, ConfigError, "submission is 3, but text or None"),
        ({"split": "x"}, ConfigError, "split is 'x', but it is for data sets given by name"),
        ({"data": "digits"}, DataError, "digits is for node-classification.*whole graphs"),
        ({"data": []}, DataError, "the list is empty"),
    ],
)
def test_what_is_refused_before_anything_is_written(
    rings: GraphSet, options: dict[str, Any], error: type[Exception], part: str
) -> None:
    with pytest.raises(error, match=part):
        graph(**{**QUICK, "data": rings, **options})
    assert not Path("runs").exists()


def test_graphs_that_cannot_be_learnt_are_refused(rings: GraphSet) -> None:
    bare = changed(rings, train_mask=None, val_mask=None, test_mask=None)
    with pytest.raises(DataError, match="no train_mask.*random_split"):
        graph(data=bare, **QUICK)
    negative = changed(rings, x=torch.full((int(rings.node_ptr[-1]), 1), -2))
    with pytest.raises(DataError, match="x holds the integer -2, but integers are categories"):
        graph(data=negative, **QUICK)
    masks = torch.arange(60) == 0, torch.arange(60) == 1, torch.arange(60) > 1
    few = dict(zip(("train_mask", "val_mask", "test_mask"), masks, strict=True))
    with pytest.raises(DataError, match="train_mask selects 1 graph, but at least 2"):
        graph(data=changed(rings, **few), **QUICK)


def test_mutag_and_ogbs_molecules(local_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (local_data / "ogb" / "ogbg_molbace").is_dir():
        pytest.skip("GRAPHKIT_DATA holds no ogb/ogbg_molbace")
    words = ["--root", str(local_data), "--json", "--dropout", "0", "--epochs"]
    assert main(["train", "gin-mutag", "--seeds", "0-1", *words, "8"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["val_mean"] > 0.7 and "188 graphs, 3,371 nodes" in err
    quick = [*words, "3", "--hidden", "16", "--num-layers", "2", "--lr", "0.01"]
    assert main(["train", "graph", "--data", "ogbg-molfreesolv", *quick]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    # the standard deviation of the test targets is 4.2
    assert record["metric"] == "rmse" and record["test_mean"] < 5
    assert main(["train", "graph", "--model", "gcn", "--data", "ogbg-molbace", *quick]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["metric"] == "rocauc" and json.loads(out)["test_mean"] > 0.55
    assert "1,513 graphs" in err and "1 labels" in err


def test_the_loss_is_of_the_training_graphs_alone(rings: GraphSet) -> None:
    """The first epoch's loss with lr 0 and no dropout is the mean over the graphs, not batches."""
    whole, task = read_graphs(rings, None)
    about: dict[str, Any] = dict(dropout=0.0, pool="mean", virtual_node=False)
    model = graph_net("gcn", whole.node, None, 8, 2, 2, **about).eval()
    options = {"batch_size": 3, "amp": None}
    problem = MODULE.problem(model, 1, whole=whole, task=task, options=options)
    mean = problem.train(torch.optim.SGD(model.parameters(), lr=0.0), 0)
    rows = whole.split(1)[1]["train"]
    batch: Any = whole.graphs.batch(rows)
    joined = Graph.from_edge_index(batch.edge_index, len(batch.x))
    out = model(batch.x, joined, None, batch.ptr)
    assert mean == pytest.approx(task.loss(out, whole.y[rows]).item(), rel=1e-4)
