"""Anomalies among graphs: the rarer class, two chosen epochs, scores of every graph."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small_sets import Digests, changed, check_resumed, ring
from torch import Tensor

from graphkit import metrics
from graphkit.cli import main
from graphkit.data import GraphSet, random_split
from graphkit.errors import ConfigError, DataError
from graphkit.graph import Graph
from graphkit.recipes import graph, predict
from graphkit.recipes.graph import anomalies, batches, outputs, read_graphs, with_quotients
from graphkit.recipes.graphnet import GRAPH_MODELS, OneClass, graph_net
from graphkit.store import load_tensors

QUICK: dict[str, Any] = dict(hidden=8, num_layers=2, epochs=4, quiet=True, anomaly=True)
SCORES = ("f1", "rocauc", "ap", "precision@rate")


@pytest.fixture
def rare() -> GraphSet:
    """Eighty rings, of which a quarter have chords and the label 0; two splits."""
    graphs = [ring(5 + number % 3, number % 4 == 1) for number in range(80)]
    for number, one in enumerate(graphs):
        one.y = torch.tensor([int(number % 4 != 1)])
        one.edge_attr = torch.rand(one.num_edges, 2)
    out = GraphSet.from_list(graphs)
    parts = [random_split(out.y, seed=seed, stratified=True) for seed in range(2)]
    masks = dict(
        zip(("train_mask", "val_mask", "test_mask"), zip(*parts, strict=True), strict=True)
    )
    stacked = {name: torch.stack(columns, dim=1) for name, columns in masks.items()}
    return GraphSet({**out.tensors, **stacked}, num_classes=2)


@pytest.mark.parametrize("model", ["rqgnn", "gin"])
def test_anomalies_are_learnt_and_both_epochs_are_told(rare: GraphSet, model: str) -> None:
    options: dict[str, Any] = {**QUICK, "epochs": 15, "lr": 0.02, "dropout": 0.0}
    record = graph(data=rare, model=model, seeds="0-1", select="latest", out="run", **options)
    assert (record.metric, record.rows[1].split) == ("f1", 1) and record.test_mean > 0.9
    history = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    for row in record.rows:
        assert set(row.checkpoints) == {"f1", "rocauc"}
        epochs = [line for line in history if line["seed"] == row.seed]
        for by, held in row.checkpoints.items():
            assert set(held) == {"epoch", "val", *SCORES}
            found = [e["val_score"] if by == "f1" else e["others"]["rocauc"] for e in epochs]
            # of equal scores the later one
            last = max(range(len(found)), key=lambda at: (found[at], at))
            assert (held["epoch"], held["val"]) == (last + 1, found[last])
        assert row.test == row.checkpoints["f1"]["f1"]
        assert row.best_epoch == row.checkpoints["f1"]["epoch"]


def test_the_scores_of_every_graph_give_the_figures_of_the_run(rare: GraphSet) -> None:
    record = graph(data=rare, model="rqgnn", seeds="0-1", out="run", **{**QUICK, "epochs": 9})
    for row in record.rows:
        table = pd.read_csv(f"run/scores-seed{row.seed}.csv")
        assert list(table.columns) == ["graph", "part", "label", "score", "score_rocauc"]
        for part in ("val", "test"):
            mask = getattr(rare, f"{part}_mask")[:, row.seed]
            assert set(table["graph"][table["part"] == part]) == set(
                mask.nonzero().view(-1).tolist()
            )
        y = torch.tensor(table["label"].to_numpy())
        assert torch.equal(y, 1 - rare.y[torch.tensor(table["graph"].to_numpy())])
        test = torch.tensor((table["part"] == "test").to_numpy())
        for column, by in (("score", "f1"), ("score_rocauc", "rocauc")):
            score = torch.tensor(table[column].to_numpy())
            for name in SCORES:
                two = torch.stack([1 - score, score], dim=1) if name == "f1" else score
                found = metrics.score(name)(two[test], y[test])
                assert found == pytest.approx(row.checkpoints[by][name], abs=1e-9)


@pytest.mark.parametrize("model", ["rqgnn", "ocgin"])
def test_a_stopped_run_goes_on_with_the_same_bits_and_scores(
    rare: GraphSet, model: str, digests: Digests
) -> None:
    check_resumed(graph, digests, 6, data=rare, model=model, batch_size=8, **QUICK)
    kept = [json.loads(Path(f"{run}/result.json").read_text())["rows"] for run in ("whole", "run")]
    assert [row["checkpoints"] for row in kept[0]] == [row["checkpoints"] for row in kept[1]]
    for seed in (0, 1):
        name = f"scores-seed{seed}.csv"
        assert Path("whole", name).read_bytes() == Path("run", name).read_bytes()


@pytest.mark.parametrize("options", [{"model": "rqgnn"}, {"model": "ocgin"}, {"model": "gin"}])
def test_predictions_are_those_of_the_run(rare: GraphSet, options: dict[str, Any]) -> None:
    record = graph(data=rare, seeds="0-1", out="run", **QUICK, **options)
    for row in record.rows:
        told = predict("run", data=rare, seed=row.seed, out="p.csv", quiet=True)
        assert (told["test"], told["metric"], told["rows"]) == (row.test, "f1", 80)
        table, scores = pd.read_csv("p.csv"), pd.read_csv(f"run/scores-seed{row.seed}.csv")
        assert table["label"].tolist() == (1 - rare.y).tolist()
        found = table.set_index("graph").loc[scores["graph"], "probability1"].to_numpy()
        assert found == pytest.approx(scores["score"].to_numpy(), abs=1e-6)


def test_two_classes_without_anomalies_are_told_whole_too(rare: GraphSet) -> None:
    record = graph(data=rare, out="run", **{**QUICK, "anomaly": False})
    (row,) = record.rows
    assert record.metric == "accuracy" and set(row.checkpoints) == {"accuracy"}
    assert set(row.checkpoints["accuracy"]) == {"epoch", "val", "accuracy", *SCORES}
    size = rare.node_ptr.diff().float().unsqueeze(1)
    record = graph(data=changed(rare, y=size), out="sizes", **{**QUICK, "anomaly": False})
    assert not record.rows[0].checkpoints
    with Path("sizes/scores-seed0.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["graph", "part", "label", "score"]
    assert {float(row["label"]) for row in rows} == {5.0, 6.0, 7.0}


def masks(*columns: list[int]) -> dict[str, Tensor]:
    """Masks of the parts 0, 1 and 2 of each column."""
    part = torch.tensor(columns).t()
    return {name: part == k for k, name in enumerate(("train", "val", "test"))}


def test_the_rarer_class_is_the_anomaly() -> None:
    parts = masks([0, 0, 1, 1, 2, 2, 0])
    for y, expected, rare in (
        ([1, 0, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 0, 0], 1),
        ([1, 0, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 1, 0], 0),
        # of two that are as large the one called 1
        ([1, 0, 0, 1, 1, 0, -1], [1, 0, 0, 1, 1, 0, -1], 1),
    ):
        for labels in (torch.tensor(y), torch.tensor(y).unsqueeze(1)):
            found, which = anomalies(labels, parts)
            assert (found.tolist(), which) == (expected, rare)
        nan = torch.tensor(y).float()
        assert anomalies(nan.where(nan >= 0, torch.nan), parts)[0].tolist() == expected


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 1, 2, 0, 1, 2, 0]), "have the labels 0, 1, 2. Give y of 0 and 1"),
        (torch.tensor([-1, 1, 1, 1, 1, 1, 1]), "have the labels 1. Give y of 0 and 1, and -1"),
        (torch.tensor([0.5, 1, 0, 0, 1, 0, 1]), "the labels 0, 0.5, 1. Give y"),
        (torch.full((7,), torch.nan), "the labels of no graph. Give y"),
        (torch.zeros(7, 2), "have 2 labels each. Give y of 0 and 1"),
        (torch.tensor([1, 0, 0, 0, 1, 0, 0]), "val_mask of split 0 has no anomaly, but 2 of the"),
        (torch.tensor([1, 0, 1, 0, 1, 0, 0]), "test_mask of split 1 has no anomaly, but 1 of the"),
        (
            torch.tensor([1, 0, 1, 0, 1, 1, 0, 0, 0]),
            "test_mask of split 1 has no normal graph, but",
        ),
    ],
)
def test_what_holds_no_anomalies_is_refused(y: Tensor, message: str) -> None:
    columns = [0, 0, 1, 1, 2, 2, 0], [0, 0, 1, 1, 0, 2, 0]
    if len(y) == 9:
        columns = [0, 0, 1, 1, 2, 0, 2, 0, 0], [0, 0, 1, 1, 2, 2, 0, 0, 0]
    with pytest.raises(DataError, match=message):
        anomalies(y, masks(*columns))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"model": "ocgin", "loss": "focal"},
            ConfigError,
            "loss is 'focal', but ocgin has its own",
        ),
        ({"model": "ocgin", "anomaly": False, "data": 3}, ConfigError, "but there are 3 outputs"),
        ({"model": "rqgnn", "pool": "sum"}, ConfigError, "weighs nodes by Rayleigh quotients and"),
        ({"model": "ocgin", "virtual_node": True}, ConfigError, "sums up the nodes of every layer"),
        ({"model": "gat", "hidden": 12}, ConfigError, "12, which is not a multiple of its 8 heads"),
        ({"model": "gat", "model_options": "K=3"}, ConfigError, "gat has no option 'K'"),
        ({"model_options": "K=3"}, ConfigError, "gin has no option 'K'.*no options of its own"),
        ({"num_splits": 3}, ConfigError, "num_splits is 3, but it is for data sets given by name"),
        ({"loss": "hinge"}, ConfigError, "loss is 'hinge', but auto or plain or balanced or focal"),
        ({"beta": 1.0}, ConfigError, "beta is 1.0, but from 0 to below 1"),
        ({"gamma": -1}, ConfigError, "gamma is -1, but 0 or more"),
        ({"anomaly": 1}, ConfigError, "anomaly is 1, but True or False"),
        ({"metric": "rmse"}, ConfigError, "metric is 'rmse', but the labels are classes"),
    ],
)
def test_what_is_refused_before_anything_is_written(
    rare: GraphSet, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    if options.get("data") == 3:
        options = {**options, "data": changed(rare, y=torch.arange(80) % 3)}
    with pytest.raises(error, match=message):
        graph(**{**QUICK, "data": rare, **options})
    assert not Path("runs").exists()


def test_nan_features_and_parts_without_anomalies_are_refused(rare: GraphSet) -> None:
    x = torch.rand(int(rare.node_ptr[-1]), 3)
    x[4, 1] = torch.nan
    with pytest.raises(DataError, match=r"x\[\d+, 1\] .*nan"):
        graph(data=changed(rare, x=x), **QUICK)
    number = torch.arange(80)
    # every fourth graph from the second on is an anomaly
    train = number % 4 == 0
    parts = dict(
        train_mask=train, val_mask=~train & (number < 40), test_mask=~train & (number > 39)
    )
    with pytest.raises(
        DataError, match="train_mask of split 0 has no anomaly, but 20 of the other"
    ):
        graph(data=changed(rare, **parts), **QUICK)
    tensors = {**rare.tensors, "node_ptr": torch.cat([torch.zeros(1).long(), rare.node_ptr])}
    tensors["edge_ptr"] = torch.cat([torch.zeros(1).long(), rare.edge_ptr])
    for name in ("y", "train_mask", "val_mask", "test_mask"):
        tensors[name] = torch.cat([tensors[name][:1], tensors[name]])
    with pytest.raises(DataError, match="graph 0 has no nodes, but every graph needs a node"):
        graph(data=GraphSet(tensors), **QUICK)


def test_edge_features_are_left_out_on_request(rare: GraphSet, digests: Digests) -> None:
    bare = graph(data=changed(rare, edge_attr=None), **QUICK)
    without = graph(data=rare, edge_features=False, **QUICK)
    held = [load_tensors(Path(run.run) / "weights-seed0.safetensors") for run in (bare, without)]
    for name, value in held[0][0].items():
        assert torch.equal(value, held[1][0][name])
    assert held[1][1]["edges"] is False and held[1][1]["net"]["edge"] is None
    curves = [digests(run.run)["metrics.jsonl"] for run in (bare, without)]
    assert curves[0] == curves[1]
    assert curves[0] != digests(graph(data=rare, **QUICK).run)["metrics.jsonl"]
    assert predict(without.run, data=rare, quiet=True)["test"] == without.test_mean


def test_one_class_learns_from_normal_graphs_alone(rare: GraphSet, digests: Digests) -> None:
    """Features of the anomalies in training change nothing of what is learnt."""
    x = torch.rand(int(rare.node_ptr[-1]), 3)
    whole, _ = read_graphs(changed(rare, x=x), None, anomaly=True)
    rows = whole.split(0)[1]
    odd = rows["train"][whole.y[rows["train"]] == 1]
    other = x.clone()
    for number in odd.tolist():
        other[rare.node_ptr[number] : rare.node_ptr[number + 1]] += 5
    first, second = (
        graph(data=changed(rare, x=some), model="ocgin", **QUICK) for some in (x, other)
    )
    assert digests(first.run) == digests(second.run)
    assert first.test_mean == second.test_mean


def test_the_threshold_leaves_the_rate_of_normal_graphs_outside(rare: GraphSet) -> None:
    whole, _ = read_graphs(rare, None, anomaly=True)
    model: Any = graph_net("ocgin", whole.node, None, 8, 2, 2, **about()).eval()
    assert isinstance(model, OneClass)
    batch: Any = whole.graphs.batch(range(80))
    joined = Graph.from_edge_index(batch.edge_index, len(batch.x))
    model.net.fit_centre([model.embed(batch.x, joined, batch.ptr)])

    def out() -> Tensor:
        with torch.no_grad():
            return model(batch.x, joined, None, batch.ptr)

    plain = out()[:, 1]
    for _ in range(2):
        # outputs are distances over the threshold, of which a second fit makes the same
        model.fit_threshold(out(), 0.2)
        threshold = torch.quantile(plain, 0.8)
        torch.testing.assert_close(model.threshold, threshold)
        assert torch.equal(out().argmax(dim=1) == 1, out()[:, 1] > 1)
    y = torch.arange(80) % 2
    expected = plain[y == 0].mean()
    torch.testing.assert_close(model.loss(out(), y), expected)


def about(**more: Any) -> dict[str, Any]:
    return {"dropout": 0.5, "pool": "mean", "virtual_node": False, **more}


@pytest.mark.parametrize("model", GRAPH_MODELS)
@pytest.mark.parametrize("numbers", [True, False])
def test_every_model_sees_a_graph_alone_as_in_a_batch_in_any_order(
    rare: GraphSet, model: str, numbers: bool
) -> None:
    count = int(rare.node_ptr[-1])
    x = torch.rand(count, 3) if numbers else torch.randint(0, 4, (count, 2))
    whole, _ = read_graphs(changed(rare, x=x, edge_attr=None), None, anomaly=True)
    net: Any = graph_net(model, whole.node, None, 8, 2, 2, **about()).double()

    def of(batch: Any, order: Tensor | None = None) -> Tensor:
        x, edge_index = batch.x, batch.edge_index
        if order is not None:
            x, edge_index = x[order], order.argsort()[edge_index]
        x = x.double() if x.is_floating_point() else x
        return net(x, Graph.from_edge_index(edge_index, len(x)), None, batch.ptr)

    batch: Any = whole.graphs.batch(range(6))
    if model == "ocgin":
        joined = Graph.from_edge_index(batch.edge_index, len(batch.x))
        x = batch.x.double() if numbers else batch.x
        net.net.fit_centre([net.embed(x, joined, batch.ptr)])
    # norms that are not those they start with
    net.train()
    of(batch)
    net.eval()
    out = of(batch)
    assert out.shape == (6, 2) and out.isfinite().all()
    for number in range(6):
        one = whole.graphs.batch([number])
        torch.testing.assert_close(of(one)[0], out[number])
        torch.testing.assert_close(of(one, torch.randperm(len(one.x)))[0], out[number])


@pytest.mark.parametrize("model", GRAPH_MODELS)
def test_graphs_without_edges_are_scored_and_learnt_from(model: str) -> None:
    graphs = [ring(4, number % 2 == 0) for number in range(24)]
    for number, one in enumerate(graphs):
        one.y = torch.tensor([int(number % 3 == 0)])
        if number % 4 == 0:
            one.edge_index = torch.empty(2, 0, dtype=torch.int64)
    out = GraphSet.from_list(graphs)
    parts = random_split(out.y, seed=0, stratified=True)
    named = dict(zip(("train_mask", "val_mask", "test_mask"), parts, strict=True))
    record = graph(data=GraphSet({**out.tensors, **named}), model=model, **QUICK)
    assert 0 <= record.test_mean <= 1
    table = pd.read_csv(Path(record.run) / "scores-seed0.csv")
    assert table["score"].between(0, 1).all()


def test_quotients_are_computed_once_and_are_those_of_each_batch(rare: GraphSet) -> None:
    for mode in ("quotient", "energy"):
        whole, _ = read_graphs(rare, None, anomaly=True)
        net: Any = graph_net(
            "rqgnn", whole.node, None, 8, 2, 2, **about(), model_options={"rq_mode": mode}
        ).eval()
        once = with_quotients(whole, net, 7)
        assert once.graphs.rq.shape == (80, sum(whole.node))  # pyright: ignore[reportArgumentType]
        options = {"batch_size": 9, "amp": None}
        graph_id = torch.randperm(80)
        first, second = (outputs(net, one, graph_id, options) for one in (once, whole))
        torch.testing.assert_close(first, second)
    gin = graph_net("gin", whole.node, None, 8, 2, 2, **about())
    assert with_quotients(whole, gin, 7) is whole


def test_attention_weighs_the_nodes_by_a_softmax(rare: GraphSet) -> None:
    whole, _ = read_graphs(rare, None)
    net: Any = graph_net("gcn", whole.node, None, 8, 2, 2, **about(pool="attention")).eval()
    batch: Any = whole.graphs.batch(range(5))
    joined = Graph.from_edge_index(batch.edge_index, len(batch.x))
    held: dict[str, Tensor] = {}
    net.attention.register_forward_hook(lambda m, args, out: held.update(h=args[0], out=out))
    net(batch.x, joined, None, batch.ptr)
    for number, (a, b) in enumerate(zip(batch.ptr[:-1], batch.ptr[1:], strict=True)):
        h = held["h"][a:b]
        expected = (net.attention.gate_nn(h).softmax(dim=0) * h).sum(dim=0)
        torch.testing.assert_close(held["out"][number], expected)


def test_a_single_graph_left_over_joins_the_batch_before() -> None:
    assert [len(part) for part in batches(torch.arange(9), 4)] == [4, 5]


def test_anomalies_on_real_data(local_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--root", str(local_data), "--epochs", "3", "--hidden", "8"]
    assert main(["train", "rqgnn-aids", "--seeds", "0", *words, "--out", "aids"]) == 0
    text = capsys.readouterr().out
    assert "anomalies: class 0 of the data, now class 1; 280 of training (20.0 %)" in text
    assert "edge_attr is not used" in text and "loss: focal" in text
    config = json.loads(Path("aids/config.json").read_text())["options"]
    assert (config["split"], config["num_splits"], config["metric"]) == ("anomaly", 10, "f1")
    test = json.loads(Path("aids/result.json").read_text())["test_mean"]
    assert main(["predict", "aids", "--out", "p.csv"]) == 0
    assert f"test f1: {test:.4f}" in capsys.readouterr().out
    table = pd.read_csv("p.csv")
    assert (table["label"] == 1).sum() == 400
    with pytest.raises(DataError, match="the labels 0, 1, 2, 3, .... Give y of 0 and 1"):
        graph(data="enzymes", root=str(local_data), **QUICK)
