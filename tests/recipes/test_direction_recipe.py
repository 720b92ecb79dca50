from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import Digests, check_resumed, check_same_bits, count_tests, make_cliques
from torch import nn
from torch_geometric.data import Data

from graphkit import metrics
from graphkit.cli import main
from graphkit.data import LINK_TASKS
from graphkit.errors import ConfigError, DataError, StoreError
from graphkit.graph import Graph
from graphkit.recipes import direction, predict
from graphkit.recipes.direction import PairNet, divide, read_whole
from graphkit.store import load_tensors, save_tensors

# the package's attribute of this name is the function
MODULE = importlib.import_module("graphkit.recipes.direction")
CPU = torch.device("cpu")
QUICK: dict[str, Any] = dict(hidden=16, epochs=6, quiet=True)
NET: dict[str, Any] = dict(
    num_layers=2, dropout=0.0, norm=None, drop_input=False, num_nodes=9, model_options={}
)
OPTIONS: dict[str, Any] = dict(
    num_val=0.05, num_test=0.15, keep_connected=True, undirected=False, amp=None
)


def make_ranks() -> Data:
    """Sixty nodes, edges from lower to higher ones, and a tenth of them back too."""
    src, dst = torch.combinations(torch.arange(60))[::5].t()
    rank = torch.randperm(60)
    edges = torch.stack([rank[src], rank[dst]])
    x = torch.empty(60, 2)
    x[rank] = torch.stack([torch.linspace(-1, 1, 60), torch.randn(60)], dim=1)
    return Data(x=x, edge_index=torch.cat([edges, edges[:, ::10].flip(0)], dim=1))


@pytest.fixture
def ranks() -> Data:
    return make_ranks()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 12), st.integers(2, 3), st.integers(0, 2**31))
def test_a_pair_is_a_linear_map_of_both_vectors(
    num_nodes: int, count: int, classes: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model = PairNet("mlp", 4, 5, classes, **NET).double()
    pairs = torch.randint(0, num_nodes, (2, count))
    h = torch.randn(num_nodes, 5, dtype=torch.float64)
    expected = model.head(torch.cat([h[pairs[0]], h[pairs[1]]], dim=1)).float()
    out = model.classify(h, Graph.from_edge_index(pairs, num_nodes))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(
    ("model", "options", "width"),
    [
        *(
            ("magnet", {}, 10),
            ("dgcn", {}, 15),
            ("dir-gcn", {}, 5),
            ("dir-sage", {"jk": "cat"}, 10),
        ),
        *(("digcn", {}, 5), ("digcn-ib", {}, 5), ("gcn", {}, 5), ("mlp", {}, 5)),
    ],
)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_what_is_read_is_what_a_classifier_would_read(
    model: str, options: dict[str, Any], width: int, num_layers: int
) -> None:
    """MagNet's both parts, for one; of models without a classifier, the last layer."""
    net = PairNet(model, 3, 5, 2, **{**NET, "num_layers": num_layers, "model_options": options})
    h = net(torch.randn(9, 3), Graph.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 4]]), 9))
    assert h.shape == (9, width if num_layers == 2 else 5)
    assert net.head.in_features == 2 * h.size(1)
    if num_layers == 2 and model in ("magnet", "dgcn", "dir-gcn", "dir-sage"):
        assert not any(type(part) is nn.Linear for part in net.encoder.children())


def test_the_direction_is_learnt_and_the_folder_tells_all(
    ranks: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks.edge_attr = torch.ones(ranks.num_edges)
    record = direction(data=ranks, seeds="0-1", **{**QUICK, "epochs": 40, "quiet": False})
    assert (record.task, record.data, record.metric) == ("direction", "custom", "accuracy")
    assert record.test_mean > 0.9
    assert [row.split for row in record.rows] == [0, 1]
    config = json.loads((Path(record.run) / "config.json").read_text())
    assert config["recipe"] == "direction" and config["options"]["features"] == "own"
    text = capsys.readouterr().out
    assert "60 nodes, 390 edges, 72 of them with their reverse" in text
    assert "features: 2 of the data" in text and "direction: forward, backward" in text
    assert "left out" not in text and "edge_weight and edge_attr are not used" in text
    assert "messages along 3" in text and "predicted peak memory: " in text


@pytest.mark.parametrize("task", LINK_TASKS)
@pytest.mark.parametrize("model", ["gcn", "gat", "mlp"])
def test_every_task_with_every_kind_of_encoder(ranks: Data, task: Any, model: str) -> None:
    loops = torch.arange(9).repeat(2, 1)
    whole = torch.cat([ranks["edge_index"], loops, ranks["edge_index"][:, :5]], dim=1)
    bare = Data(edge_index=whole, num_nodes=60)
    record = direction(data=bare, task=task, model=model, metric="f1", **QUICK)
    assert record.metric == "f1" and 0 <= record.test_mean <= 1
    config = json.loads((Path(record.run) / "config.json").read_text())
    assert config["options"]["features"] == "degree"


def test_what_is_left_out_and_made_up_is_said(
    ranks: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    loops = torch.arange(9).repeat(2, 1)
    whole = torch.cat([ranks["edge_index"], loops, ranks["edge_index"][:, :5]], dim=1)
    options = {**QUICK, "epochs": 1, "quiet": False}
    direction(data=Data(edge_index=whole, num_nodes=60), undirected=True, model="sage", **options)
    text = capsys.readouterr().out
    assert "left out: 9 self-loops, 5 repeated edges" in text
    assert "features: in- and out-degree among the training edges (the data has no x)" in text
    assert "edges (made undirected)" in text
    direction(data=ranks, features="degree", **options)
    assert "in- and out-degree among the training edges\n" in capsys.readouterr().out


def test_degrees_are_those_of_the_messages_of_the_seed(ranks: Data) -> None:
    for undirected in (False, True):
        options = {**OPTIONS, "task": "direction", "undirected": undirected}
        whole = read_whole(ranks, CPU, "degree")
        first, second = (divide(whole, seed, options) for seed in (0, 1))
        again = divide(read_whole(ranks, CPU, "degree"), 0, options)
        assert torch.equal(first.x, again.x) and not torch.equal(first.x, second.x)
        src, dst = divide(whole, 0, {**options, "undirected": False}).graph.edge_index()
        ends = [torch.bincount(end, minlength=60) for end in (dst, src)]
        assert torch.equal(first.x, torch.stack(ends, dim=1).float())
        sent = set(map(tuple, first.graph.edge_index().t().tolist()))
        edges = set(zip(src.tolist(), dst.tolist(), strict=True))
        assert sent == (edges | {(b, a) for a, b in edges} if undirected else edges)


def test_every_run_is_checked(ranks: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    make = MODULE.directed_link_split

    def leaky(*args: Any, seed: int, **options: Any) -> Any:
        messages, split = make(*args, seed=seed, **options)
        # the second seed's messages run along its test edges
        held = split["test"]["edge_label_index"][:, split["test"]["edge_label"] == 0]
        return (torch.cat([messages, held], dim=1) if seed else messages), split

    monkeypatch.setattr(MODULE, "directed_link_split", leaky)
    with pytest.raises(DataError, match=r"split\['test'\] shares \d+ pairs with the messages"):
        direction(data=ranks, seeds="1", **QUICK)
    assert not Path("runs").exists()
    with pytest.raises(DataError, match=r"split\['test'\] shares \d+ pairs with the messages"):
        direction(data=ranks, seeds="0-1", **QUICK)


def test_same_seed_same_bits_and_the_rest_of_the_program_undisturbed(
    ranks: Data, digests: Digests
) -> None:
    check_same_bits(direction, digests, data=ranks, task="three-class", **QUICK)


@pytest.mark.parametrize("epoch", [1, 8])
def test_a_stopped_run_goes_on_with_the_same_bits(
    ranks: Data, epoch: int, digests: Digests
) -> None:
    check_resumed(direction, digests, epoch, data=ranks, task="existence", **QUICK)


def test_the_test_pairs_are_scored_once_per_seed(
    ranks: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = count_tests(MODULE, monkeypatch)
    direction(data=ranks, seeds="0,2", **QUICK)
    assert scored == [(0, 0), (2, 2)]


def test_the_options_of_a_run(ranks: Data, digests: Digests) -> None:
    runs: list[dict[str, Any]] = [
        *({}, {"task": "existence"}, {"features": "degree"}, {"num_test": 0.1}, {"num_val": 0.1}),
        *({"keep_connected": False}, {"undirected": True}, {"amp": "bf16"}, {"weight_decay": 0.1}),
        *({"optimizer": "adamw"}, {"model": "magnet"}, {"model": "magnet", "model_options": "q=0"}),
        *({"epochs": 60, "patience": 1}, {"epochs": 60, "patience": 1, "stop": "best"}),
        *({"norm": "batch_norm"}, {"drop_input": True}, {"num_layers": 1}, {"dropout": 0.0}),
    ]
    # directed encoders have no norm, and warn of messages both ways
    quick = {**QUICK, "model": "sage"}
    seen = [tuple(digests(direction(data=ranks, **{**quick, **o}).run).values()) for o in runs]
    assert len(set(seen)) == len(runs)


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        (
            {"task": "directions"},
            ConfigError,
            "task is 'directions', but direction or existence or",
        ),
        ({"features": "x"}, ConfigError, "features is 'x', but own or degree or None"),
        ({"num_val": 0.0}, ConfigError, "num_val is 0.0, but between 0 and 1"),
        ({"num_val": 0.5, "num_test": 0.5}, ConfigError, "with a sum below 1"),
        ({"num_test": 0.9}, DataError, "A spanning forest keeps 57 of 354 joined pairs"),
        ({"keep_connected": 1}, ConfigError, "keep_connected is 1, but True or False"),
        ({"metric": "rmse"}, ConfigError, "metric is 'rmse', but the labels are classes"),
        ({"metric": "hits@20"}, ConfigError, "Unknown metric 'hits@20'"),
        ({"model": "gnn"}, ConfigError, "Unknown model 'gnn'"),
        ({"data": "mutag"}, DataError, "mutag is for graph-classification"),
        ({"data": "ogbl-ddi"}, DataError, "ogbl-ddi comes with links to hold out.* recipe link"),
        ({"data": make_cliques()}, DataError, "data comes with links to hold out"),
        ({"data": Data(num_nodes=3)}, DataError, "no edge_index, or no nodes"),
        ({"data": "digits"}, DataError, "Every edge has its reverse.* Use task existence"),
        (
            {"data": Data(edge_index=torch.zeros(2, 4, dtype=torch.int64), num_nodes=1)},
            DataError,
            "0 pairs of nodes joined by an edge are too few",
        ),
    ],
)
def test_what_is_refused_before_anything_is_written(
    ranks: Data, options: dict[str, Any], error: type[Exception], part: str
) -> None:
    with pytest.raises(error, match=part):
        direction(**{**QUICK, "data": ranks, **options})
    assert not Path("runs").exists()


def test_features_that_are_not_there_are_no_ones_own(ranks: Data) -> None:
    with pytest.raises(ConfigError, match="features is 'own', but the data has no x. Use degree"):
        direction(data=Data(edge_index=ranks.edge_index, num_nodes=60), features="own", **QUICK)


@pytest.mark.parametrize("task", LINK_TASKS)
@pytest.mark.parametrize("options", [{}, {"features": "degree", "amp": "bf16", "metric": "rocauc"}])
def test_predictions_are_those_of_the_run(ranks: Data, task: Any, options: dict[str, Any]) -> None:
    record = direction(data=ranks, task=task, seeds="0-1", out="run", **QUICK, **options)
    names = LINK_TASKS[task]
    for row in record.rows:
        told = predict("run", data=ranks, seed=row.seed, out=f"p{row.seed}.parquet", quiet=True)
        assert (told["test"], told["metric"], told["notes"]) == (row.test, record.metric, [])
        table = pd.read_parquet(f"p{row.seed}.parquet")
        assert list(table.columns) == [
            *("source", "target", "part", "label", "prediction", "class"),
            *(f"probability{number}" for number in range(len(names))),
        ]
        assert table["class"].tolist() == [names[number] for number in table["prediction"]]
        values = table[[f"probability{number}" for number in range(len(names))]].to_numpy()
        np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-5)
        test = table[table["part"] == "test"]
        label = torch.tensor(test["label"].to_numpy())
        assert set(table["part"]) == {"val", "test"} and len(label.bincount().unique()) == 1
        if record.metric == "accuracy":
            right = metrics.accuracy(torch.tensor(test["prediction"].to_numpy()), label)
            assert right == pytest.approx(row.test)
        predict("run", data=ranks, seed=row.seed, out="p.npy", quiet=True)
        assert np.array_equal(np.load("p.npy"), values)


def test_pairs_of_the_users_own(ranks: Data) -> None:
    """All of them, in any order: the parts are those of the division, and labels what edges say."""
    run = direction(data=ranks, task="three-class", **QUICK).run
    divided = divide(read_whole(ranks, CPU, None), 0, {**OPTIONS, "task": "three-class"})
    every = torch.cartesian_prod(torch.arange(60), torch.arange(60))[torch.randperm(3600)]
    np.save("p.npy", every.numpy())
    told = predict(run, data=ranks, pairs="p.npy", out="s.parquet", quiet=True)
    table = pd.read_parquet("s.parquet")
    assert told["test"] is None and told["rows"] == 3600
    assert table[["source", "target"]].to_numpy().tolist() == every.tolist()
    rows = {pair: number for number, pair in enumerate(map(tuple, every.tolist()))}
    wanted: dict[int, tuple[str, int]] = {}
    for part, graph in divided.pairs.items():
        held = zip(graph.edge_index().t().tolist(), divided.label[part].tolist(), strict=True)
        wanted |= {rows[tuple(pair)]: (part, label) for pair, label in held}
    label = table["label"].astype(object).where(table["label"].notna(), None)
    for number, found in enumerate(zip(table["part"], label, strict=True)):
        assert found == wanted.get(number, ("", None))
    # held out or not, a pair is classified alike
    predict(run, data=ranks, out="h.parquet", quiet=True)
    held = pd.read_parquet("h.parquet")
    joined = held.merge(table, on=["source", "target"])
    assert len(joined) == len(held)
    np.testing.assert_allclose(joined["probability0_x"], joined["probability0_y"], rtol=1e-5)


def test_pairs_of_other_data(ranks: Data) -> None:
    """Messages run along all of its edges, which are what is known of it."""
    run = direction(data=ranks, task="existence", **QUICK).run
    other = Data(x=torch.rand(5, 2), edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 2]]))
    np.save("p.npy", np.array([[0, 1], [1, 2], [2, 1], [3, 4], [2, 2]]))
    told = predict(run, data=other, pairs="p.npy", out="s.csv", quiet=True)
    table = pd.read_csv("s.csv", dtype=str, keep_default_na=False)
    assert told["test"] is None and set(table["part"]) == {""}
    assert table["label"].tolist() == ["0", "0", "", "", ""]
    weights, about = load_tensors(Path(run) / "weights-seed0.safetensors")
    model = PairNet(**about["net"])
    model.load_state_dict(weights)
    pairs = torch.tensor([[0, 1, 2, 3, 2], [1, 2, 1, 4, 2]])
    with torch.no_grad():
        h = model.eval()(other.x, Graph.from_edge_index(other["edge_index"][:, :3], 5))
        expected = model.head(torch.cat([h[pairs[0]], h[pairs[1]]], dim=1)).softmax(dim=1)
    found = table[["probability0", "probability1"]].to_numpy().astype(np.float32)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
    with pytest.raises(DataError, match="custom is not the data that the run divided.* with pairs"):
        predict(run, data=other)
    wide = Data(x=torch.rand(5, 3), edge_index=other.edge_index)
    with pytest.raises(DataError, match="expect 2 features for each node, but the data has 3"):
        predict(run, data=wide, pairs="p.npy")


def test_weights_of_something_else_are_refused(ranks: Data) -> None:
    run = direction(data=ranks, **QUICK).run
    path = Path(run) / "weights-seed0.safetensors"
    weights, about = load_tensors(path)
    for wrong in (
        {**about, "net": {**about["net"], "hidden": 9}},
        {**about, "net": {**about["net"], "classes": 3}},
        {**about, "class_names": ["link", "no link"]},
        {key: value for key, value in about.items() if key != "class_names"},
    ):
        save_tensors(path, weights, wrong)
        with pytest.raises(StoreError, match="does not hold the weights of a direction model"):
            predict(run, data=ranks)


def test_by_the_command_line(
    ranks: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    nodes = pd.DataFrame({"id": [f"n {number}" for number in range(60)]})
    for column in (0, 1):
        nodes[f"x{column}"] = ranks["x"][:, column].numpy()
    nodes.to_csv(own / "nodes.csv", index=False)
    names = nodes["id"].to_numpy()[ranks["edge_index"].numpy()]
    pd.DataFrame(names.T, columns=["source", "target"]).to_csv(own / "edges.csv", index=False)
    words = ["--task", "three-class", "--epochs", "3", "--hidden", "8", "--out", "run"]
    assert main(["train", "direction", "--data", str(own), *words]) == 0
    text = capsys.readouterr().out
    repeat = f"graphkit train direction --data {own} --task three-class --hidden 8 --epochs 3\n"
    assert f"repeat:      {repeat}" in text and "predict:     graphkit predict run\n" in text
    assert main(["predict", "run", "--out", "p.csv"]) == 0
    record = json.loads(Path("run/result.json").read_text())
    assert f"test accuracy: {record['test_mean']:.4f}" in capsys.readouterr().out
    table = pd.read_csv("p.csv")
    assert set(table["source"]) <= set(nodes["id"])
    table[["target", "source"]].head(7).to_csv("mine.csv", index=False)
    assert main(["predict", "run", "--pairs", "mine.csv", "--out", "s.csv"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("s.csv"), table.head(7), rtol=1e-5)


def test_directed_citations(local_data: Path) -> None:
    """All tasks on one division, of the sizes of the protocol."""
    from graphkit.data import load

    if not (local_data / "CitationFull" / "cora_ml").is_dir():
        pytest.skip("GRAPHKIT_DATA holds no CitationFull/cora_ml")
    whole = read_whole(load("cora-ml-directed", local_data), CPU, "degree")
    found = {task: divide(whole, 0, {**OPTIONS, "task": task}) for task in LINK_TASKS}
    assert len({divided.graph.num_edges for divided in found.values()}) == 1
    sizes = {
        task: [len(divided.label[part]) for part in ("train", "val", "test")]
        for task, divided in found.items()
    }
    assert sum(sizes["existence"]) == 2 * 8416
    assert 2 * sum(sizes["three-class"]) == 3 * sum(sizes["direction"])
