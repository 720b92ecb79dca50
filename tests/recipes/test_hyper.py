"""The recipe of hypergraphs: what it reads, what it adds, what a run leaves, bad input."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file
from small_sets import check_resumed, check_same_bits, count_tests
from torch_geometric.data.hypergraph_data import HyperGraphData

from graphkit.cli import main
from graphkit.data import read_hypergraph, write_hypergraph
from graphkit.errors import ConfigError, DataError, StoreError
from graphkit.metrics import accuracy
from graphkit.nn import HYPER_MODELS, build_model
from graphkit.recipes import hyper, predict, tune
from graphkit.recipes.hyper import read_hyper, settle_singletons
from graphkit.structure import as_hypergraph

NODE = importlib.import_module("graphkit.recipes.node")
Digests = Callable[[str], dict[str, str]]
QUICK: dict[str, Any] = dict(epochs=6, hidden=16, quiet=True)


def make_clubs() -> HyperGraphData:
    """Ninety nodes of three groups; 60 hyperedges of four of a group, and node 89 in none."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    edges = torch.arange(60).repeat_interleave(4)
    node = torch.stack(
        [torch.randperm(29, generator=generator)[:4] * 3 + int(e) % 3 for e in range(60)]
    )
    part = torch.stack([torch.randperm(90, generator=generator) % 3 for _ in range(3)], dim=1)
    data = HyperGraphData(
        x=torch.eye(3)[y] + torch.randn(90, 3, generator=generator),
        edge_index=torch.stack([node.flatten(), edges]),
        y=y,
        train_mask=part == 0,
        val_mask=part == 1,
        test_mask=part == 2,
    )
    data.num_nodes = 90
    return data


@pytest.fixture
def clubs() -> HyperGraphData:
    return make_clubs()


def changed(data: HyperGraphData, **values: Any) -> HyperGraphData:
    for name, value in values.items():
        data[name] = value
    return data


def test_groups_are_learnt_and_the_run_predicts(
    clubs: HyperGraphData, capsys: pytest.CaptureFixture[str]
) -> None:
    record = hyper(data=clubs, epochs=60, seeds="0-1", out="run")
    text = capsys.readouterr().out
    members = clubs.edge_index.size(1)
    assert "90 nodes, 150 hyperedges of" in text and "90 of them added for single nodes" in text
    assert f"{members + 90:,} members" in text
    assert record.test_mean > 0.75 and [row.split for row in record.rows] == [0, 1]
    config = json.loads(Path("run/config.json").read_text())
    assert config["recipe"] == "hyper" and config["options"]["singletons"] == "all"
    # the weights are those of the score, on the hypergraph with its singletons
    model = build_model("hgnn", 3, 64, 3, models=HYPER_MODELS)
    model.load_state_dict(load_file("run/weights-seed1.safetensors"))
    nodes, added, _ = read_hyper(clubs, torch.device("cpu"), config["options"])
    assert added == 90
    out = model.eval()(nodes.x, nodes.graph)
    held = clubs.test_mask[:, 1]
    assert accuracy(out[held], clubs.y[held]) == record.rows[1].test
    told = predict("run", data=clubs, seed=1, out="p.npy", quiet=True)
    assert told["test"] == record.rows[1].test and told["rows"] == 90
    torch.testing.assert_close(torch.from_numpy(np.load("p.npy")), out.softmax(1))


@pytest.mark.parametrize("model", HYPER_MODELS)
def test_every_model_runs_and_predicts(clubs: HyperGraphData, model: str) -> None:
    options = dict(model=model, out="run", seeds="0", singletons="isolated")
    record = hyper(data=clubs, **{**QUICK, "epochs": 2}, **options)  # pyright: ignore
    assert predict("run", data=clubs, quiet=True)["test"] == record.test_mean


def test_same_bits_and_resumed_runs(clubs: HyperGraphData, digests: Digests) -> None:
    check_same_bits(hyper, digests, data=clubs, model="allsettransformer", **QUICK)
    check_resumed(hyper, digests, 3, data=clubs, model="edhnn", **QUICK)


def test_the_test_part_is_scored_once(
    clubs: HyperGraphData, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = count_tests(NODE, monkeypatch)
    hyper(data=clubs, seeds="0-1,4", **QUICK)
    assert scored == [(0, 0), (1, 1), (4, 1)]


def test_singletons() -> None:
    assert [settle_singletons("auto", m) for m in ("hgnn", "hypergcn", "mlp")] == [
        "all",
        "none",
        "none",
    ]
    assert settle_singletons("isolated", "mlp") == "isolated"
    data, options = make_clubs(), {"row_normalize": True, "features": "own", "noise": 1.0}
    place = torch.device("cpu")
    for asked, count in (("none", 0), ("isolated", None), ("all", 90)):
        nodes, added, _ = read_hyper(data, place, {**options, "singletons": asked})
        alone = as_hypergraph(data.edge_index, 90, 60).in_degree() == 0
        assert added == (int(alone.sum()) if count is None else count)
        assert nodes.graph.num_src == 60 + added
        assert asked == "none" or int(nodes.graph.in_degree().min()) > 0
    torch.testing.assert_close(nodes.x.abs().sum(1), torch.ones(90))  # pyright: ignore


def test_weights_of_hyperedges_are_used_and_kept(clubs: HyperGraphData) -> None:
    plain = hyper(data=clubs, out="plain", **QUICK)
    some = changed(make_clubs(), hyperedge_weight=torch.rand(60))
    weighted = hyper(data=some, out="weighted", **QUICK)
    kept = [json.loads(Path(run, "config.json").read_text()) for run in ("plain", "weighted")]
    assert kept[0]["data_digest"] != kept[1]["data_digest"]
    assert predict("weighted", data=some, quiet=True)["test"] == weighted.test_mean
    lines = [Path(run, "metrics.jsonl").read_text() for run in (plain.run, weighted.run)]
    assert lines[0] != lines[1]
    ones = hyper(data=changed(make_clubs(), hyperedge_weight=torch.ones(60)), out="ones", **QUICK)
    assert ones.rows[0].val == plain.rows[0].val


def test_other_hypergraphs_are_predicted_without_labels(clubs: HyperGraphData) -> None:
    hyper(data=clubs, out="run", **QUICK)
    bare = HyperGraphData(x=clubs.x[:50], edge_index=clubs.edge_index[:, clubs.edge_index[0] < 50])
    bare.edge_index = torch.stack(
        [bare.edge_index[0], torch.unique(bare.edge_index[1], return_inverse=True)[1]]
    )
    bare.num_nodes = 50
    told = predict("run", data=bare, quiet=True)
    assert told["rows"] == 50 and told["test"] is None
    wide = changed(bare, x=torch.randn(50, 4))
    with pytest.raises(DataError, match="expect 3 features .* has 4"):
        predict("run", data=wide, quiet=True)


def test_features_for_those_without(
    clubs: HyperGraphData, capsys: pytest.CaptureFixture[str]
) -> None:
    """Structural ones are said aloud; those made of labels are said so on the record too."""
    del clubs.x
    loud = {**QUICK, "quiet": False}
    hyper(data=clubs, out="run", **loud)
    text = capsys.readouterr().out
    assert "11 structural ones" in text and "label-derived" not in text
    assert predict("run", data=clubs, quiet=True)["rows"] == 90
    with pytest.raises(DataError, match="own are asked for"):
        hyper(data=clubs, features="own", **QUICK)
    record = hyper(data=clubs, features="label-noise", noise=0.1, epochs=60, hidden=16)
    text = capsys.readouterr().out
    # once before the training, once under the result
    assert text.count("label-derived") == 2 and record.test_mean > 0.9


def test_files_of_ones_own(clubs: HyperGraphData, digests: Digests) -> None:
    """A path is read as the object is; without a split one is drawn, for predict too."""
    clubs.train_mask, clubs.val_mask = clubs.train_mask[:, 0], clubs.val_mask[:, 0]
    clubs.test_mask = clubs.test_mask[:, 0]
    write_hypergraph(clubs, "clubs")
    by_path = hyper(data="./clubs", **QUICK)
    again = hyper(data=read_hypergraph("clubs"), **QUICK)
    assert digests(by_path.run) == digests(again.run)
    assert predict(by_path.run, quiet=True)["test"] == by_path.test_mean
    told = pandas.read_csv("clubs/nodes.csv")
    told.drop(columns="split").to_csv("clubs/nodes.csv", index=False)
    record = hyper(data="./clubs", out="drawn", **QUICK)
    assert predict("drawn", quiet=True)["test"] == record.test_mean


def test_tune(clubs: HyperGraphData) -> None:
    pytest.importorskip("optuna")
    space = "lr=0.01,0.1; model_options.alpha=0.1,0.5"
    options = dict(data=clubs, model="unigcnii", epochs=3, hidden=8)
    tuned = tune(hyper, space=space, sampler="grid", trials=2, quiet=True, **options)  # pyright: ignore
    assert len(tuned.trials) == 2


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(x=torch.full((90, 3), torch.nan)), "x"),
        (dict(y=torch.arange(80)), "y"),
        (dict(edge_index=torch.tensor([[0, 99], [0, 0]])), "edge_index"),
        (dict(edge_index=torch.tensor([[0, 0], [0, 0]])), "incidences"),
        (dict(hyperedge_weight=-torch.ones(60)), r"hyperedge_weight\[0\] = -1"),
        (dict(hyperedge_weight=torch.ones(3)), r"\[60\] is expected"),
        (dict(train_mask=None), "train_mask"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_data(clubs: HyperGraphData, values: dict[str, Any], message: str) -> None:
    for name, value in values.items():
        if value is None:
            del clubs[name]
        else:
            clubs[name] = value
    with pytest.raises(DataError, match=message):
        hyper(data=clubs, **QUICK)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(model="gcn"), "Unknown model 'gcn'"),
        (dict(features="degree"), "features is 'degree'"),
        (dict(noise=-1.0), "noise is -1.0"),
        (dict(singletons="some"), "singletons is 'some'"),
        (dict(num_splits=2), "num_splits is 2"),
        (dict(model="unigat", hidden=12), "no multiple of 8 heads"),
        (dict(model_options="heads=2"), "hgnn has no option 'heads'"),
        (dict(model="edhnn", norm="batch_norm"), "no batch_norm"),
    ],
    ids=str,
)
def test_bad_options(clubs: HyperGraphData, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hyper(data=clubs, **{**QUICK, **options})


def test_data_of_other_kinds_are_refused() -> None:
    with pytest.raises(DataError, match="cora is for .* nodes of one hypergraph"):
        hyper(data="cora", **QUICK)


def test_another_hypergraph_cannot_go_on(clubs: HyperGraphData) -> None:
    with pytest.raises(StoreError):
        hyper(data=clubs, resume="nothing", **QUICK)


def test_the_command_line_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "hyper", "--help"])
    assert "--singletons" in capsys.readouterr().out
