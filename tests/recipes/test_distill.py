"""The recipe distill: what students learn, what stays hidden, what a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_sets import Digests, check_resumed
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.hypergraph_data import HyperGraphData

from graphkit.cli import main
from graphkit.errors import ConfigError, DataError, StoreError
from graphkit.nn import MLP
from graphkit.recipes import Preset, distill, distill_plots, node, predict, reproduce
from graphkit.recipes.distill import settings
from graphkit.recipes.lesson import milliseconds
from graphkit.recipes.report import defaults
from graphkit.recipes.teaching import observe, read_taught
from graphkit.store import load_tensors

QUICK: dict[str, Any] = dict(train_per_class=5, val_per_class=5, nodes="all", quiet=True)
QUICK |= dict(hidden=8, epochs=6, teacher_hidden=8, teacher_epochs=6, student_batch=0)
READ: dict[str, Any] = dict(undirected=False, row_normalize=False, singletons="isolated")
CODES: dict[str, Any] = dict(model="vqgraph", num_codes=8, code_channels=6)


def make_groups(num_nodes: int = 90) -> Data:
    """Three groups that the graph shows and the features hint at, and three nodes apart."""
    y = torch.arange(num_nodes) % 3
    src, dst = torch.randint(0, num_nodes - 3, (2, 600))
    same = y[src] == y[dst]
    pairs = torch.stack([src[same], dst[same]])
    return Data(
        x=2 * torch.eye(3)[y] + torch.randn(num_nodes, 3),
        edge_index=torch.cat([pairs, pairs.flip(0)], dim=1),
        y=y,
    )


def make_hypergraph() -> HyperGraphData:
    """The same groups: thirty hyperedges of four nodes of one group, the last node in none."""
    torch.manual_seed(0)
    y = torch.arange(91) % 3
    members = [torch.randperm(30)[:4] * 3 + number % 3 for number in range(30)]
    index = torch.stack([torch.cat(members), torch.arange(30).repeat_interleave(4)])
    data = HyperGraphData(x=2 * torch.eye(3)[y] + torch.randn(91, 3), edge_index=index, y=y)
    data.num_nodes = 91
    vars(data)["num_hyperedges"] = 30
    return data


@pytest.fixture
def groups() -> Data:
    torch.manual_seed(0)
    return make_groups()


def told(run: str, seed: int = 0) -> dict[str, Any]:
    return json.loads((Path(run) / f"distill-seed{seed}.json").read_text())


def weights(run: str, seed: int = 0, whose: str = "weights") -> dict[str, Tensor]:
    return load_tensors(Path(run) / f"{whose}-seed{seed}.safetensors")[0]


def test_a_run_tells_of_all_three(groups: Data, capsys: pytest.CaptureFixture[str]) -> None:
    record = distill(data=groups, seeds="0-1", **{**QUICK, "quiet": False})
    assert (record.task, record.model, record.metric) == ("distill", "glnn", "accuracy")
    for row in record.rows:
        found = told(record.run, row.seed)
        assert found["student"]["test"] == row.test and found["student"]["val"] == row.val
        assert row.beside == {who: found[who]["test"] for who in ("teacher", "mlp")}
        assert row.split is None and row.epochs <= 6
        assert all(found[who]["ms"] > 0 for who in ("teacher", "mlp", "student"))
    text = capsys.readouterr().out
    assert "90 nodes" in text and "15 training, 15 validation, 60 test" in text
    assert "teacher sage:" in text and "predicted peak memory: " in text
    assert "test too, %: teacher" in text and "latency:     the teacher takes" in text
    # each of the three trainings in turn
    assert len(Path(record.run, "metrics.jsonl").read_text().splitlines()) <= 12


def test_the_student_is_an_mlp_of_the_recipe_node(groups: Data) -> None:
    """In the form of its weights: export and predict read both."""
    record = distill(data=groups, **QUICK)
    kept, about = load_tensors(Path(record.run) / "weights-seed0.safetensors")
    masks = torch.arange(90) % 5
    parts = {"train_mask": masks < 2, "val_mask": masks == 2, "test_mask": masks > 2}
    groups.update(parts)
    plain = node(data=groups, model="mlp", hidden=8, epochs=2, quiet=True)
    other, of_node = load_tensors(Path(plain.run) / "weights-seed0.safetensors")
    assert list(kept) == list(other) and [v.shape for v in kept.values()] == [
        v.shape for v in other.values()
    ]
    assert {name: about[name] for name in of_node if name not in ("dropout", "norm")} == {
        name: of_node[name] for name in of_node if name not in ("dropout", "norm")
    }


@pytest.mark.parametrize("batch", [0, 7])
def test_without_a_weight_codes_change_nothing(groups: Data, batch: int) -> None:
    """GLNN taught by the tokenizer, to the bit; with a weight they do."""
    quick = {**QUICK, "student_batch": batch, "data": groups}
    alone = distill(**{**quick, **CODES, "token_weight": 0.0})
    # a run of an object can be taught from where its data is given again
    kept = Path(alone.run)
    glnn = distill(**quick, teacher_run=str(kept), out="glnn")
    for name, value in weights(alone.run).items():
        assert value.equal(weights(glnn.run)[name])
    for name, value in weights(alone.run, whose="teacher").items():
        assert value.equal(weights(glnn.run, whose="teacher")[name])
    coded = distill(**{**quick, **CODES}, teacher_run=str(kept), out="coded")
    assert not all(v.equal(weights(glnn.run)[name]) for name, v in weights(coded.run).items())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"teacher": "gcn", "lam": 0.3, "tau": 2.0, "divergence": "official"},
        {**CODES, "recon": "paper", "edge_samples": 10, "student_batch": 8},
        {**CODES, "teacher": "sage", "token_metric": "euclidean", "test_chosen": True},
        {"model": "lighthgnn", "teacher": "hgnn+"},
        {"model": "lighthgnn+", "setting": "production", "hide": 0.5},
        {"setting": "production", "teacher": "appnp"},
    ],
)
def test_every_method_learns(groups: Data, options: dict[str, Any]) -> None:
    longer = {**QUICK, "epochs": 60, "teacher_epochs": 60, "lr": 0.05, "weight_decay": 0.0}
    record = distill(data=groups, **{**longer, "dropout": 0.0, **options})
    found = told(record.run)
    # chance is a third; codes of six numbers are too few for a good teacher
    coded = options.get("model") == "vqgraph"
    assert found["teacher"]["test"] > (0.5 if coded else 0.85)
    assert found["student"]["test"] > (0.5 if coded else 0.7)
    assert ("codes" in found) == coded
    production = options.get("setting") == "production"
    assert ("hidden" in record.rows[0].beside) == production
    assert bool(record.rows[0].checkpoints) == bool(options.get("test_chosen"))


def test_the_share_of_hidden_nodes_makes_the_score() -> None:
    """The mean of both accuracies, weighed by how many nodes each is of."""
    record = distill(data=make_hypergraph(), **QUICK, model="lighthgnn", setting="production")
    row = record.rows[0]
    hidden = round(0.9 * 61)
    mean = (hidden * row.beside["hidden"] + (61 - hidden) * row.beside["observed"]) / 61
    assert row.test == pytest.approx(mean)


@pytest.mark.parametrize("hyper", [False, True])
def test_what_is_hidden_is_not_seen(groups: Data, hyper: bool) -> None:
    """Neither rows nor edges of hidden nodes; train and validation are all there."""
    data: Any = make_hypergraph() if hyper else groups
    options = {**QUICK, **READ, "setting": "production", "hide": 0.4}
    options |= dict(teacher="hgnn" if hyper else "gcn")
    whole = read_taught(data, torch.device("cpu"), options)
    seen = observe(whole, 3, options)
    split, rows = whole.rows(3, options)
    assert split is None and len(seen.hidden) == round(0.4 * len(rows["test"]))
    assert set(seen.hidden.tolist()) <= set(rows["test"].tolist())
    assert not set(seen.hidden.tolist()) & set(seen.node_id.tolist())
    for part in ("train", "val"):
        assert seen.node_id[seen.rows[part]].equal(rows[part])
    assert seen.x.equal(whole.x[seen.node_id]) and seen.y.equal(whole.y[seen.node_id])
    assert seen.mask.nonzero().view(-1).equal(seen.rows["train"].sort().values)
    src, dst = whole.graph.edge_index()
    stays = torch.isin(dst, seen.node_id)
    if not hyper:
        stays &= torch.isin(src, seen.node_id)
        pairs = torch.stack([seen.node_id[i] for i in seen.graph.edge_index()])
        want = torch.stack([src[stays], dst[stays]])
        assert set(map(tuple, pairs.t().tolist())) == set(map(tuple, want.t().tolist()))
    else:
        of_seen = seen.node_id[seen.graph.edge_index()[1]]
        # hyperedges that were no node's own have lost their hidden members alone
        whole_degree, degree = whole.graph.in_degree()[seen.node_id], seen.graph.in_degree()
        assert degree.equal(whole_degree) and len(of_seen) == int(stays.sum())
        assert (degree > 0).all()
    # another seed hides others; the same seed the same ones
    assert observe(whole, 3, options).hidden.equal(seen.hidden)
    assert not observe(whole, 4, options).hidden.equal(seen.hidden)


def test_the_largest_component_alone(groups: Data) -> None:
    options = {**QUICK, **READ, "setting": "transductive"}
    options |= dict(nodes="largest", teacher="gcn")
    whole = read_taught(groups, torch.device("cpu"), options)
    # the groups are not joined; the largest of the three is one of them
    assert len({int(label) for label in whole.y}) == 1
    assert whole.x.equal(groups["x"][whole.node_id])


@pytest.mark.parametrize("epoch", [3, 12, 20, 27])
def test_stopped_runs_end_with_the_same_bits(groups: Data, digests: Digests, epoch: int) -> None:
    """Stopped in each of the trainings, at the end of one, and in the next seed."""
    options = {**QUICK, **CODES, "widths": "4", "student_batch": 8}
    check_resumed(distill, digests, epoch, data=groups, **options)


def test_widths_and_the_narrowest(groups: Data, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**QUICK, "quiet": False}
    record = distill(data=groups, widths="2,4,8", **options)
    found = told(record.run)
    assert {"student-2", "student-4", "student"} <= set(found) and "student-8" not in found
    assert found["student-2"]["params"] < found["student-4"]["params"] < found["student"]["params"]
    text = capsys.readouterr().out
    assert "narrowest:   " in text and "width      2: validation" in text
    values = {64: {"val": 80.0}, 32: {"val": 79.6}, 16: {"val": 79.4}}
    assert distill_plots.narrowest(values) == 32


def test_pictures(groups: Data, drawn: None) -> None:
    record = distill(data=groups, seeds="0-1", **QUICK, **CODES)
    for name in ("distill", "codes", "curves"):
        for kind in ("png", "svg"):
            assert (Path(record.run) / f"{name}.{kind}").stat().st_size > 2000


def test_predictions_need_no_graph(groups: Data, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    src, dst = groups["edge_index"]
    pd.DataFrame({"source": src, "target": dst}).to_csv(folder / "edges.csv", index=False)
    table = pd.DataFrame(groups["x"].numpy(), columns=["a", "b", "c"])
    table.insert(0, "id", np.arange(90))
    table.assign(y=groups["y"].numpy()).to_csv(folder / "nodes.csv", index=False)
    record = distill(data=str(folder), seeds="1-2", **QUICK)
    row = max(record.rows, key=lambda row: row.val)
    done = predict(record.run, out="p.csv", quiet=True)
    assert done["seed"] == row.seed and done["test"] == pytest.approx(row.test)
    found = pd.read_csv("p.csv")
    assert found["part"].value_counts().to_dict() == {"train": 15, "val": 15, "test": 60}
    # other features of the same width, another graph
    other = Data(x=groups["x"] + 1, edge_index=torch.empty(2, 0).long(), y=groups["y"])
    other = predict(record.run, data=other, out="q.csv", quiet=True)
    assert other["test"] is None and other["rows"] == 90
    narrow = Data(x=groups["x"][:, :2], edge_index=groups["edge_index"], y=groups["y"])
    with pytest.raises(DataError, match="expect 3 features"):
        predict(record.run, data=narrow, quiet=True)


def test_a_run_of_node_teaches(groups: Data) -> None:
    masks = torch.arange(90) % 5
    groups.update({"train_mask": masks < 2, "val_mask": masks == 2, "test_mask": masks > 2})
    taught = node(data=groups, model="gcn", hidden=8, epochs=20, seeds="0-1", quiet=True)
    quick = {name: QUICK[name] for name in ("hidden", "epochs", "quiet")}
    record = distill(data=groups, teacher_run=taught.run, seeds="1", **quick)
    found = told(record.run, 1)
    assert found["teacher"]["test"] == pytest.approx(taught.rows[1].test)
    assert found["teacher"]["epoch"] is None
    with pytest.raises(ConfigError, match=r"has the seeds \[0, 1\], but \[5\]"):
        distill(data=groups, teacher_run=taught.run, seeds="5", **quick)
    with pytest.raises(ConfigError, match="saw all nodes"):
        distill(data=groups, teacher_run=taught.run, setting="production", **quick)
    narrow = groups.clone()
    narrow.x = narrow["x"][:, :2]
    with pytest.raises(ConfigError, match="maps 3 features to 3 classes, but the data has 2"):
        distill(data=narrow, teacher_run=taught.run, **quick)
    Path(taught.run, "result.json").unlink()
    with pytest.raises(StoreError, match="is not finished"):
        distill(data=groups, teacher_run=taught.run, **quick)


def test_what_is_left_open_is_as_published() -> None:
    given = dict(defaults(distill))
    on_graphs = settings(given, None)
    assert (on_graphs["data"], on_graphs["teacher"], on_graphs["val_per_class"]) == (
        *("cora", "sage"),
        30,
    )
    assert on_graphs["command"] == "graphkit train distill --data cora"
    light = settings({**given, "data": "zoo", "model": "lighthgnn", "lr": 0.5}, None)
    assert (light["teacher"], light["student_norm"], light["hide"]) == ("hgnn", "batch_norm", 0.9)
    assert light["lr"] == 0.5 and light["epochs"] == 200
    assert settings({**given, "model": "vqgraph"}, None)["teacher"] == "gcn"


def test_a_table_shows_teacher_and_mlp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And a row that another row's teacher teaches."""
    import importlib

    module = importlib.import_module("graphkit.recipes.reproduce")
    quick = {**QUICK, "data": "digits", "seeds": "0-1", "model": "glnn"}
    del quick["quiet"]
    shown = ("teacher", "mlp")
    rows = (
        Preset("base", distill, quick, table="small", shown=shown),
        Preset("next", distill, {**quick, "teacher_run": "base"}, table="small", shown=shown),
    )
    monkeypatch.setattr(module, "PRESETS", {preset.name: preset for preset in rows})
    monkeypatch.setattr(module, "TABLES", ("small",))
    base, after = reproduce("small", out="here", quiet=True)
    assert base.beside["teacher"] == after.beside["teacher"] and base.ours == after.ours
    assert "| preset | ours | teacher | mlp | published |" in Path("here/table.md").read_text()


def test_latency_is_a_median() -> None:
    calls: list[int] = []
    assert milliseconds(lambda: calls.append(0), most=5) >= 0
    assert len(calls) == 8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "glnm"}, ConfigError, "Did you mean 'glnn'"),
        ({"teacher": "hgmn"}, ConfigError, "hgnn"),
        ({"model": "vqgraph", "teacher": "gat"}, ConfigError, "gcn or sage"),
        ({"model": "lighthgnn", "teacher": "gcn"}, ConfigError, "learns from a model of hyper"),
        ({"model": "lighthgnn+", "student_batch": 8}, ConfigError, "whole hyperedges"),
        ({"widths": "8,x"}, ConfigError, "16,32,64"),
        ({"lam": 1.5}, ConfigError, "from 0 to 1"),
        ({"tau": 0.0}, ConfigError, "a number above 0"),
        ({"setting": "inductive"}, ConfigError, "transductive or production"),
        ({"setting": "production", "hide": 0.001}, ConfigError, "some must be hidden"),
        ({"train_per_class": 40}, DataError, "Lower train_per_class"),
        ({"train_per_class": 0}, DataError, "Data has no train_mask"),
        ({"metric": "f1"}, ConfigError, "compared by accuracy"),
        ({"teacher_options": "hops=3"}, ConfigError, "no option 'hops'"),
        ({"teacher_run": "nowhere"}, StoreError, "nowhere"),
        ({"data": "mutag"}, DataError, "nodes of one graph or hypergraph"),
    ],
)
def test_bad_options(groups: Data, options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        distill(**{**QUICK, "data": groups, **options})
    assert not list(Path().glob("runs/*"))


def test_bad_data(groups: Data) -> None:
    values = groups.clone()
    values.y = torch.randn(90)
    with pytest.raises(DataError, match="teaches classes"):
        distill(data=values, **QUICK)
    bare = groups.clone()
    bare.x = None
    with pytest.raises(DataError, match="no node features"):
        distill(data=bare, **QUICK)
    with pytest.raises(DataError, match="no split of its own"):
        distill(data=make_hypergraph(), **{**QUICK, "train_per_class": 0})
    with pytest.raises(DataError, match="is a hypergraph, but the teacher reads graphs"):
        distill(data=make_hypergraph(), teacher="gcn", **QUICK)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = "train distill --data digits --nodes all --epochs 2 --teacher-epochs 2 --json"
    assert main([*words.split(), "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"] == "glnn"
    assert "repeat:      graphkit train distill --data digits --nodes all --epochs 2" in err
    about = load_tensors(Path("run/weights-seed0.safetensors"))[1]
    assert isinstance(about["widths"], list) and about["model"] == "mlp"
    assert MLP([about["widths"][0], about["widths"][1], about["widths"][2]], norm=None)
