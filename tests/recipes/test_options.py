from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from graphkit.errors import ConfigError, DataError
from graphkit.nn import MLP, MODELS, build_model
from graphkit.recipes import PRESETS, node, predict

# the package's attribute of this name is the function
MODULE = importlib.import_module("graphkit.recipes.node")
Digests = Callable[[str], dict[str, str]]
QUICK = dict(epochs=8, hidden=16, quiet=True)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"model": "gnc"}, "Unknown model 'gnc'. Did you mean 'g"),
        ({"model": 3}, "model is 3, but one of acm-gcn, "),
        ({"hidden": 8.0}, "hidden is 8.0, but a whole number, at least 1, is expected"),
        ({"epochs": True}, "epochs is True, but a whole number"),
        ({"lr": "fast"}, "lr is 'fast', but a number above 0"),
        ({"compile": "no"}, "compile is 'no', but True or False"),
        ({"split": 1}, "split is 1, but text or None"),
        ({"hidden": 0}, "hidden is 0, but at least 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": -1}, "patience is -1"),
        ({"lr": 0.0}, "lr is 0.0, but a number above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"weight_decay": -1e-3}, "weight_decay is -0.001, but 0 or more"),
        ({"dropout": 1.0}, "dropout is 1.0, but from 0 to below 1"),
        ({"amp": "fp16"}, "amp is 'fp16', but bf16 or None"),
        ({"select": "test"}, "select is 'test', but score or loss"),
        ({"seeds": "0-"}, "seeds is '0-'"),
        ({"device": "tpu"}, "Unknown device 'tpu'"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        node(**options)
    assert not Path("runs").exists()


def test_names_are_canonical_and_the_configuration_is_resolved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = node(data="Digits", model="GCN", device=torch.device("cpu"), epochs=8)
    assert (record.data, record.model) == ("digits", "gcn")
    options = json.loads((Path(record.run) / "config.json").read_text())["options"]
    named = {"data": "digits", "model": "gcn", "device": "cpu", "root": None, "split": "per-class"}
    assert {name: options[name] for name in named} == named
    assert "graphkit train node --device cpu --epochs 8\n" in capsys.readouterr().out


def test_the_root_of_the_environment_is_written_down(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHKIT_DATA", "some where")
    monkeypatch.setattr(MODULE, "load", lambda *args, **options: own)
    config = json.loads((Path(node(data="Cora", **QUICK).run) / "config.json").read_text())
    folder = str(Path("some where").absolute())
    assert config["options"]["root"] == folder and config["options"]["split"] == "public"
    assert config["command"].endswith(f" --data cora --hidden 16 --epochs 8 --root '{folder}'")


def test_gradients_that_the_caller_switched_off(own: Data, digests: Digests) -> None:
    plain = node(data=own, **QUICK)
    with torch.no_grad():
        assert digests(node(data=own, **QUICK).run) == digests(plain.run)


def test_the_next_try_keeps_the_values_of_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    PRESETS["mlp-digits"](seeds="0-1", epochs=8)
    command = "graphkit train mlp-digits --seeds 0-1 --epochs 8 --model acm-gcn\n"
    assert f"try next:    {command}" in capsys.readouterr().out


def test_own_data_has_no_root_or_split_and_nan_on_request(own: Data) -> None:
    for name in ("root", "split"):
        with pytest.raises(ConfigError, match=f"{name} is 'a'.* data is a Data. Leave {name} out"):
            node(data=own, **{name: "a"})
    own.x[own.test_mask[:, 0].nonzero()[0], 0] = float("inf")
    with pytest.raises(DataError, match="allow_nonfinite"):
        node(data=own, **QUICK)
    own.edge_index = own.edge_index[:, :0]
    with pytest.raises(ConfigError, match="diverged"):
        node(data=own, allow_nonfinite=True, **QUICK)


def tuned(widths: list[int], dropout: float, norm: Any, drop_input: bool, *, hops: int = 2,
          alpha: float | None = None, how: Literal["a", "b"] = "a") -> nn.Module:  # fmt: skip
    built.append((hops, alpha, how))
    return MLP(widths)


built: list[tuple[Any, ...]] = []


@pytest.fixture
def tuned_model(monkeypatch: pytest.MonkeyPatch) -> None:
    built.clear()
    monkeypatch.setitem(MODELS, "tuned", tuned)


def test_a_model_has_options_of_its_own(tuned_model: None) -> None:
    record = node(model="tuned", model_options="hops=5, alpha=1e-1", **QUICK, out="run")
    assert built[0] == (5, 0.1, "a")
    options = json.loads(Path("run/config.json").read_text())["options"]
    assert options["model_options"] == "alpha=0.1,hops=5"
    same = node(model="tuned", model_options={"alpha": 0.1, "hops": 5}, **QUICK)
    assert same.test_mean == record.test_mean and built[-1] == (5, 0.1, "a")
    # the weights say what they were built with
    built.clear()
    predict("run", quiet=True)
    assert built == [(5, 0.1, "a")]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("hop=3", "tuned has no option 'hop'. Did you mean 'hops'"),
        ("hops=few", "hops of tuned is 'few', but int is expected"),
        ("how=c", "how of tuned is 'c', but "),
        ("hops", "model_options is 'hops', but text such as"),
        ("hops=1,hops=2", "model_options is 'hops=1,hops=2', but text such as"),
        (3, "model_options is 3, but text such as"),
        ({"num_nodes": 3}, "tuned has no option 'num_nodes'"),
    ],
)
def test_options_a_model_does_not_take(tuned_model: None, given: Any, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        node(model="tuned", model_options=given, **QUICK)
    assert not Path("runs").exists()


def test_models_without_options_say_so() -> None:
    with pytest.raises(ConfigError, match="gcn has no option 'hops'. It has no options of its own"):
        node(model="gcn", model_options="hops=3", **QUICK)
    with pytest.raises(ConfigError, match="Model 'gcn': unknown option 'hops'"):
        build_model("gcn", 3, 4, 2, hops=3)


def test_adamw_decays_what_adam_does_not() -> None:
    scores = [
        node(**QUICK, optimizer=name, weight_decay=0.5).val_mean for name in ("adam", "adamw")
    ]
    again = node(**QUICK, optimizer="adamw", weight_decay=0.5).val_mean
    assert scores[0] != scores[1] and scores[1] == again
