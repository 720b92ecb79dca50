from __future__ import annotations

import dataclasses
import importlib
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch_geometric.data import Data

from graphkit import data as data_sets
from graphkit.errors import ConfigError, DataError, DirectionWarning, StoreError
from graphkit.graph import Graph
from graphkit.metrics import accuracy
from graphkit.nn import MODELS, Precomputed, build_model
from graphkit.recipes import PRESETS, node, predict
from graphkit.recipes.report import result

# the package's attribute of this name is the function
MODULE = importlib.import_module("graphkit.recipes.node")
FILES = ["config.json", "curves.png", "curves.svg", "environment.json", "metrics.jsonl"]
Digests = Callable[[str], dict[str, str]]
QUICK = dict(epochs=8, hidden=16, quiet=True)


@pytest.mark.usefixtures("drawn")
def test_digits_are_learnt_and_the_folder_tells_all(capsys: pytest.CaptureFixture[str]) -> None:
    record = node(epochs=60, seeds="0,2")
    assert record.test_mean > 0.9 and record.test_std is not None
    assert record.seeds == [0, 2] and record.data == "digits"
    run = Path(record.run)
    weights = ["weights-seed0.safetensors", "weights-seed2.safetensors"]
    assert sorted(p.name for p in run.iterdir() if p.name != ".lock") == [
        *FILES,
        "result.json",
        *weights,
    ]
    assert [p.name for p in Path("runs").iterdir()] == [run.name]

    config = json.loads((run / "config.json").read_text())
    assert config["recipe"] == "node"
    assert config["options"]["epochs"] == 60 and config["options"]["lr"] == 0.01
    assert config["options"]["device"] in ("cpu", "cuda")
    told = json.loads((run / "result.json").read_text())
    assert told == json.loads(json.dumps(result(record)))
    assert told["test_mean"] == record.test_mean and not {"beside"} & told["rows"][0].keys()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == sum(row.epochs for row in record.rows)
    best = [e for e in lines if e["seed"] == 2 and e["epoch"] == record.rows[1].best_epoch]
    assert best[0]["val_score"] == record.rows[1].val

    text = capsys.readouterr().out
    for part in ("predicted peak memory: ", " ± ", record.run, "graphkit train node --seeds 0,2"):
        assert part in text


def test_the_saved_weights_give_the_recorded_score() -> None:
    row = node(**QUICK).rows[0]
    digits = data_sets.load("digits")
    model = build_model("gcn", 64, 16, 10)
    run = next(Path("runs").iterdir())
    model.load_state_dict(load_file(run / "weights-seed0.safetensors"))
    model.eval()
    out = model(digits.x, Graph.from_edge_index(digits.edge_index, 1797))
    assert accuracy(out[digits.test_mask], digits.y[digits.test_mask]) == row.test


def test_same_seed_same_bits_and_the_rest_of_the_program_undisturbed(digests: Digests) -> None:
    torch.manual_seed(1), random.seed(1)
    expected = torch.rand(1), random.random()
    torch.manual_seed(1), random.seed(1)
    first = node(**QUICK, seeds="0-1")
    assert (torch.rand(1), random.random()) == expected
    second = node(**QUICK, seeds="1,0")
    assert digests(first.run).keys() == digests(second.run).keys()
    for name in ("weights-seed0.safetensors", "weights-seed1.safetensors"):
        assert digests(first.run)[name] == digests(second.run)[name]
    third = node(**QUICK, seeds="0-1")
    assert digests(first.run) == digests(third.run)
    assert len(set(digests(first.run).values())) == 3


def test_own_data_in_a_few_lines(own: Data, capsys: pytest.CaptureFixture[str]) -> None:
    record = node(data=own, seeds=range(6), epochs=40, out=Path("mine"))
    assert record.data == "custom" and record.run == "mine"
    assert record.test_mean > 0.8
    assert [row.split for row in record.rows] == [0, 1, 2, 3, 0, 1]
    text = capsys.readouterr().out
    assert "custom: 90 nodes" in text and "repeat:" not in text
    config = json.loads(Path("mine/config.json").read_text())
    assert config["options"]["seeds"] == "0,1,2,3,4,5" and config["command"] is None


def test_a_seed_trains_on_its_own_split(own: Data, digests: Digests) -> None:
    alone = own.clone()
    for part in ("train_mask", "val_mask", "test_mask"):
        alone[part] = own[part][:, 3]
    by_seed, by_mask = node(data=own, seeds=3, **QUICK), node(data=alone, seeds=3, **QUICK)
    assert by_mask.rows[0].split is None
    assert digests(by_seed.run) == digests(by_mask.run)


def test_splits_that_are_drawn(own: Data, digests: Digests) -> None:
    record = node(seeds="0-2", num_splits=2, **QUICK)
    assert [row.split for row in record.rows] == [0, 1, 0]
    second = node(data=data_sets.load("digits", seed=1), seeds=1, **QUICK)
    name = "weights-seed1.safetensors"
    assert digests(second.run)[name] == digests(record.run)[name]
    assert predict(record.run, seed=1, quiet=True)["test"] == record.rows[1].test
    with pytest.raises(ConfigError, match="num_splits is 3, but it is for data sets given by name"):
        node(data=own, num_splits=3, **QUICK)


def test_bad_data_is_refused_before_anything_is_written(own: Data) -> None:
    own.train_mask = None
    with pytest.raises(DataError, match="train_mask"):
        node(data=own)
    assert not Path("runs").exists()


def test_the_test_nodes_are_scored_once_per_seed(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    make = MODULE.problem

    def spy(*args: Any, **options: Any) -> Any:
        made = make(*args, **options)

        def test() -> float:
            scored.append(made.split)
            return made.test()

        return dataclasses.replace(made, test=test)

    monkeypatch.setattr(MODULE, "problem", spy)
    node(data=own, seeds="0-2", **QUICK)
    assert scored == [0, 1, 2]


def test_undirected_and_row_normalize(own: Data, capsys: pytest.CaptureFixture[str]) -> None:
    cpu = torch.device("cpu")
    own.edge_index = torch.tensor([[0, 1, 3], [1, 2, 3]])
    own.x[5] = 0
    plain = MODULE.read_nodes(own, cpu, False, False)
    assert plain.graph.num_edges == 3 and torch.equal(plain.x, own.x)
    both = MODULE.read_nodes(own, cpu, True, True)
    assert both.graph.num_edges == 5
    sums = both.x.abs().sum(dim=1)
    assert sums[5] == 0 and torch.allclose(sums[sums > 0], torch.ones(()))
    own.edge_attr = torch.ones(3, 1)
    node(data=own, undirected=True, epochs=2)
    text = capsys.readouterr().out
    assert "5 edges (made undirected)" in text and "edge_attr are not used" in text


@pytest.mark.parametrize("name", [name for name in MODELS if name != "gcn"])
def test_every_model_trains(own: Data, name: str) -> None:
    # one linear map has further to go in as many steps
    lr = 0.1 if name == "sgc" else 0.01
    record = node(data=own, model=name, epochs=30, hidden=16, quiet=True, patience=0, lr=lr)
    assert record.model == name
    assert record.rows[0].epochs == 30 and record.val_mean > 0.5


def test_a_directed_model_warns_once_of_what_was_made_undirected(own: Data) -> None:
    options = dict(data=own, model="dir-gcn", model_options="jk=cat,alpha=0.3", **QUICK)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        node(**options, seeds="0-1")
        assert not caught
        node(**options, seeds="0-1", undirected=True)
    assert [one.category for one in caught] == [DirectionWarning]


def test_one_class_is_learnt_at_once(own: Data) -> None:
    own.y = torch.zeros_like(own.y)
    record = node(data=own, model="magnet", **QUICK)
    assert record.test_mean == 1


@pytest.mark.parametrize("name", ["dagnn", "gcnii", "dgmlp"])
def test_a_class_without_training_nodes_is_an_output_all_the_same(own: Data, name: str) -> None:
    own.y[own.train_mask[:, 0]] %= 2
    assert int(own.y.max()) == 2
    record = node(data=own, model=name, **QUICK)
    told = predict(record.run, data=own, quiet=True)
    assert 0 < record.test_mean < 1 and told["test"] == record.test_mean
    assert load_file(Path(record.run) / "weights-seed0.safetensors")


@pytest.mark.parametrize("name", ["sgc", "sign", "dgmlp"])
def test_propagation_without_parameters_is_done_once(
    own: Data, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For each seed and for the forecast of memory; predict, which does it anew, agrees."""
    calls, do = [0], Precomputed.precompute

    def count(self: Precomputed, x: torch.Tensor, edge_index: Any) -> torch.Tensor:
        calls[0] += 1
        return do(self, x, edge_index)

    monkeypatch.setattr(Precomputed, "precompute", count)
    record = node(data=own, model=name, epochs=20, hidden=16, seeds="0-1")
    assert calls == [3]
    assert "predicted peak memory: unknown" not in capsys.readouterr().out
    told = predict(record.run, data=own, seed=1, quiet=True)
    assert told["test"] == record.rows[1].test


def test_bf16(own: Data, digests: Digests) -> None:
    plain, half = node(data=own, **QUICK), node(data=own, **QUICK, amp="bf16")
    assert digests(plain.run) != digests(half.run)


@pytest.mark.slow
def test_compiled_runs_learn_the_same(own: Data) -> None:
    plain = node(data=own, seeds="0-3", epochs=20, quiet=True, dropout=0.0)
    fast = node(data=own, seeds="0-3", epochs=20, quiet=True, dropout=0.0, compile=True)
    assert abs(plain.test_mean - fast.test_mean) < 0.1


def test_an_existing_folder_is_refused_before_training(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "problem", lambda *args, **options: pytest.fail("trained"))
    Path("there").mkdir()
    with pytest.raises(StoreError, match="'there' exists already"):
        node(data=own, out="there", **QUICK)


def test_quiet_is_silent(own: Data, capsys: pytest.CaptureFixture[str]) -> None:
    node(data=own, **QUICK)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_presets_reach_their_papers_protocol(local_data: Path) -> None:
    record = PRESETS["gcn-cora"](root=str(local_data), seeds="0-1", quiet=True)
    assert record.test_mean > 0.79
    record = PRESETS["acm-texas"](root=str(local_data), seeds="0-1", quiet=True)
    assert [row.split for row in record.rows] == [0, 1]
    assert record.test_mean > 0.7
