"""How a run mixes its channels: the figures, the picture, and what cannot be drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from graphkit import ConfigError, DataError, Graph, GraphError, StoreError
from graphkit.cli import main
from graphkit.nn import build_model
from graphkit.recipes import mixing, node, node_mini
from graphkit.store import load_tensors

QUICK: dict[str, Any] = dict(epochs=6, hidden=8, quiet=True)


def test_the_means_are_those_of_the_layers(own: Data) -> None:
    own.y[own.y == 2] = 3
    own.y[:7] = -1
    for part in ("train", "val", "test"):
        own[f"{part}_mask"][:7] = False
    options = dict(model="acm-gcn+", model_options="structure=true", seeds="0-1")
    run = node(data=own, **options, **QUICK, out="a run").run
    told = mixing.mixing(run, data=own, seed=1, quiet=True)
    weights, about = load_tensors(Path(run) / "weights-seed1.safetensors")
    model = build_model("acm-gcn+", 3, 8, about["widths"][2], structure=True, num_nodes=90).eval()
    model.load_state_dict(weights)
    _, alphas = model(own.x, Graph.from_edge_index(own.edge_index, 90), return_weights=True)
    # class 2 has no node
    assert told["classes"] == ["0", "1", "3"] and told["seed"] == 1
    assert told["channels"] == ["low-pass", "high-pass", "identity", "structure"]
    for means, alpha in zip(told["means"], alphas, strict=True):
        want = torch.stack([alpha[own.y == c].double().mean(0) for c in (0, 1, 3)])
        torch.testing.assert_close(torch.tensor(means).double(), want, atol=1e-6, rtol=1e-5)
    for file in told["files"]:
        assert Path(file).parent == Path(run) and Path(file).stat().st_size > 5000
    # the same figures are the same file
    before = Path(told["files"][1]).read_bytes()
    mixing.mixing(run, data=own, seed=1, quiet=True)
    assert Path(told["files"][1]).read_bytes() == before


def test_the_command_line(own: Data, capsys: pytest.CaptureFixture[str]) -> None:
    run = node_mini(data="digits", model="acmii-gcn", batch_size=256, **QUICK, out="run").run
    assert main(["plot", run, "--mixing"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines() if "0." in line][:2] == [
        ["1", "0"],
        ["1", "1"],
    ]
    assert "mean mixing weights of seed 0: run/mixing.png, run/mixing.svg" in out
    plain = node(data="digits", epochs=2, quiet=True, out="plain").run
    for argv, part in (
        ([run], "plot run: of a run, say what. Add --mixing."),
        (["--mixing"], "the following arguments are required: run"),
        ([plain, "--mixing"], "of the model 'gcn', which mixes no channels. Give a run of one"),
        (["nowhere", "--mixing"], "nowhere cannot be read"),
        ([run, "--mixing", "--seed", "7"], "seed is 7, but run holds the seeds 0"),
        ([run, "--mixing", "--sed", "7"], "Unknown option --sed"),
    ):
        assert main(["plot", *argv]) != 0
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1 and part in err


def test_what_has_no_classes_or_other_nodes(own: Data) -> None:
    options = dict(model="acm-gcn++", model_options="structure=true")
    run = node(data=own, **options, **QUICK, out="run").run
    with pytest.raises(ConfigError, match="only Python can give again"):
        mixing.mixing(run)
    unknown = own.clone()
    unknown.y = torch.full_like(own.y, -1)
    with pytest.raises(DataError, match="has no classes of nodes to take means over"):
        mixing.mixing(run, data=unknown)
    fewer = own.subgraph(torch.arange(80))
    with pytest.raises(GraphError, match="of 90 nodes, but the graph has 80: it knows no others"):
        mixing.mixing(run, data=fewer)
    values = own.clone()
    values.y = torch.randn(90)
    run = node(data=values, model="acm-gcn", **QUICK, out="values").run
    with pytest.raises(DataError, match="has no classes of nodes"):
        mixing.mixing(run, data=values)
    config = json.loads(Path(run, "config.json").read_text())
    Path(run, "config.json").write_text(json.dumps({**config, "recipe": "graph"}))
    with pytest.raises(ConfigError, match="of 'graph', but only models of nodes mix channels"):
        mixing.mixing(run, data=own)


def test_a_picture_of_any_number_of_classes(tmp_path: Path) -> None:
    for classes, layers, channels in ((1, 1, 3), (12, 3, 4)):
        y = torch.arange(90) % classes
        alphas = [torch.rand(90, channels).softmax(1) for _ in range(layers)]
        means = [mixing.by_class(alpha, y, range(classes)) for alpha in alphas]
        names = [f"class {c} of $many" for c in range(classes)]
        files = mixing.draw(tmp_path, means, names, "a title")
        assert all(Path(file).stat().st_size > 5000 for file in files)
    with pytest.raises(StoreError, match="cannot be written to"):
        mixing.draw(tmp_path / "nowhere", means, names, "a title")
