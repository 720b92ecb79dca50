from __future__ import annotations

import importlib
import json
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, SAGEConv

from graphkit.errors import ConfigError, StoreError
from graphkit.graph import Graph
from graphkit.nn import GCNConv as OurConv
from graphkit.nn import Stack, build_model
from graphkit.recipes import PRESETS, leaderboard, node, plots, report
from graphkit.recipes.graph import ATOMS, BONDS
from graphkit.recipes.graphnet import graph_net
from graphkit.recipes.linknet import LinkNet

# the package's attribute of this name is the function
NODE = importlib.import_module("graphkit.recipes.node")
CPU = torch.device("cpu")
QUICK: dict[str, Any] = dict(epochs=3, hidden=8, quiet=True)


def record(*scores: float, data: str = "ogbg-molhiv", first: int = 0) -> report.Record:
    rows = [
        report.Row(first + number, None, 5, 9, score - 0.01 * number, score, 1.0)
        for number, score in enumerate(scores)
    ]
    about = ("graph", data, "gin", "rocauc")
    return report.record(*about, rows, 1.5, 20.0, Path("runs/a"), 1_885_506)


def table(text: str) -> dict[str, str]:
    """The rows of the form by their names."""
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("| ")]
    return dict(line.split(" | ", 1) for line in lines)


def values(text: str) -> dict[str, Any]:
    return json.loads(text.partition("```json\n")[2].partition("```")[0])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
@settings(max_examples=25)
def test_scores_are_means_with_the_unbiased_standard_deviation(scores: list[float]) -> None:
    found = leaderboard.entry(record(*scores), CPU)
    val = [score - 0.01 * number for number, score in enumerate(scores)]
    for name, all_of in (("Test", scores), ("Validation", val)):
        mean, std = map(float, found[f"{name} rocauc"].split(" ± "))
        # four decimals of numbers that were added in another order
        assert mean == pytest.approx(statistics.mean(all_of), abs=5.1e-5)
        assert std == pytest.approx(statistics.stdev(all_of), abs=5.1e-5)


def test_the_form_holds_what_the_rules_ask_for(tmp_path: Path) -> None:
    found = record(*(0.7 + 0.01 * number for number in range(10)))
    options = {"lr": 0.001, "data": "ogbg-molhiv"}
    leaderboard.write(tmp_path / "new" / "form.md", found, CPU, options, "graphkit train x")
    text = (tmp_path / "new" / "form.md").read_text(encoding="utf-8")
    rows = table(text)
    assert rows["Dataset"] == "ogbg-molhiv" and rows["Method"] == "gin"
    assert rows["Test rocauc"] == "0.7450 ± 0.0303"
    assert rows["Validation rocauc"] == "0.7000 ± 0.0000"
    assert rows["#Params"] == "1,885,506" and rows["External data"] == "No"
    assert rows["Hardware"] == leaderboard.hardware(CPU) and rows["Hardware"].endswith("(CPU)")
    assert rows["Seeds"] == "10 (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)"
    open_ones = [name for name, value in rows.items() if value.startswith(leaderboard.OPEN)]
    for name in ("Tuned hyper-parameters", "Contact", "Code", "Paper", "Official"):
        assert sum(row.startswith(name) for row in open_ones) == 1
    assert "The seeds are those that OGB asks for." in text and "`graphkit train x`" in text
    kept = values(text)
    assert kept["test_mean"] == found.test_mean and kept["val_std"] == found.val_std
    assert [row["test"] for row in kept["rows"]] == [row.test for row in found.rows]
    assert kept["num_params"] == 1_885_506 and kept["options"] == options
    assert "runs/a" not in text


@pytest.mark.parametrize(
    ("found", "part"),
    [
        (record(0.5, 0.6), "the 10 seeds 0 to 9, this run has 2"),
        (record(*[0.5] * 10, first=1), "the 10 seeds 0 to 9, this run has 10"),
        (record(*[0.5] * 4, data="ogbn-papers100M"), "the 3 seeds 0 to 2, this run has 4"),
        (record(*[0.5] * 10), None),
        (record(*[0.5] * 3, data="ogbn-papers100M"), None),
    ],
)
def test_other_seeds_are_not_for_submission(found: report.Record, part: str | None) -> None:
    lack = leaderboard.missing(found)
    assert (lack is None) == (part is None)
    assert part is None or part in str(lack)
    told = "\n".join(leaderboard.lines(found, CPU))
    assert told.startswith("OGB leaderboard:") and ("not for submission" in told) == bool(part)


def test_only_ogbs_sets_with_several_seeds_are_told() -> None:
    assert leaderboard.lines(record(0.5), CPU) == []
    assert leaderboard.lines(record(0.5, 0.6, data="mutag"), CPU) == []
    assert "unknown (one seed)" in leaderboard.entry(record(0.5), CPU)["Test rocauc"]


@pytest.fixture
def arxiv(own: Data, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A preset's options on tiny data under the name of ogbn-arxiv."""
    monkeypatch.setattr(NODE, "load", lambda *args, **options: own)
    return {**QUICK, "seeds": "0-1", "submission": "forms/form.md"}


def test_a_run_of_a_preset_writes_its_form(
    arxiv: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = PRESETS["gcn-ogbn-arxiv"](**{**arxiv, "quiet": False})
    rows = table(Path("forms/form.md").read_text(encoding="utf-8"))
    assert rows["Dataset"] == "ogbn-arxiv" and rows["Method"] == "gcn"
    assert rows["Test accuracy"] == f"{found.test_mean:.4f} ± {found.test_std:.4f}"
    model = build_model("gcn", 3, 8, 3, num_layers=3, norm="batch_norm")
    weights = sum(p.numel() for p in model.parameters())
    assert rows["#Params"] == f"{weights:,}" and found.num_params == weights
    text = capsys.readouterr().out
    assert f"Test accuracy:       {rows['Test accuracy']}" in text and "has 2: not for" in text
    assert "published: 71.74 ± 0.29" in text and "--submission" not in text
    result = json.loads((Path(found.run) / "result.json").read_text())
    assert result["num_params"] == weights and result["val_std"] == found.val_std


def test_a_form_is_never_overwritten_nor_trained_for(
    arxiv: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NODE, "problem", lambda *args, **options: pytest.fail("trained"))
    Path("forms").mkdir()
    Path("forms/form.md").write_text("by hand")
    with pytest.raises(StoreError, match="'forms/form.md' exists already.*another --submission"):
        node(data="ogbn-arxiv", **arxiv)
    with pytest.raises(ConfigError, match="data set 'digits' has no OGB leaderboard"):
        node(data="digits", **{**QUICK, "submission": "form.md"})
    assert Path("forms/form.md").read_text() == "by hand" and not Path("runs").exists()


def test_a_resumed_run_writes_the_form_too(arxiv: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        show = plots.Progress.__call__

        def stop(self: plots.Progress, now: Any) -> None:
            show(self, now)
            signal.raise_signal(signal.SIGINT)

        patch.setattr(plots.Progress, "__call__", stop)
        node(data="ogbn-arxiv", **arxiv, out="run")
    assert not Path("forms").exists()
    config = json.loads(Path("run/config.json").read_text())
    found = node(**config["options"], resume="run")
    rows = table(Path("forms/form.md").read_text(encoding="utf-8"))
    assert rows["Test accuracy"] == f"{found.test_mean:.4f} ± {found.test_std:.4f}"


def weights_of(name: str) -> int:
    """The parameters of a preset's model, on the sizes of its data set."""
    values = PRESETS[name].values
    kept = {key: values[key] for key in ("hidden", "num_layers", "dropout")}
    if values["data"] == "ogbl-ddi":
        model: nn.Module = LinkNet(values["model"], 4267, None, **kept)
    elif values["data"] == "ogbg-molhiv":
        about: dict[str, Any] = dict(pool="mean", virtual_node=values["virtual_node"])
        model = graph_net(values["model"], ATOMS, BONDS, out=1, **kept, **about)
    else:
        hidden = kept.pop("hidden")
        widths = {"ogbn-arxiv": (128, hidden, 40), "ogbn-products": (100, hidden, 47)}
        kept["norm"] = values.get("norm")
        model = build_model(values["model"], *widths[values["data"]], **kept)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("gcn-ogbl-ddi", 1_289_985),
        ("sage-ogbl-ddi", 1_421_057),
        ("sage-ogbn-arxiv", 218_664),
        ("gcn-ogbn-products", 103_727),
        ("sage-ogbn-products", 206_895),
        # ogb has one more category of atoms since, of width 300
        ("gin-ogbg-molhiv", 1_885_206 + 300),
        ("gcn-ogbg-molhiv", 527_701 + 300),
        ("gin-virtual-ogbg-molhiv", 3_336_306 + 300),
    ],
)
def test_presets_have_as_many_parameters_as_the_leaderboard_says(name: str, weights: int) -> None:
    assert weights_of(name) == weights


@pytest.mark.parametrize(("name", "layer"), [("gcn", GCNConv), ("sage", SAGEConv)])
def test_the_model_of_the_nodes_is_that_of_ogbs_example(name: str, layer: Any) -> None:
    """Batch norm between PyG's layers, under the same weights and statistics."""
    model = build_model(name, 5, 8, 3, num_layers=3, norm="batch_norm", drop_input=False)
    x, edge_index = torch.randn(20, 5), torch.randint(0, 20, (2, 60))
    model.train()(x, edge_index)
    model.eval()
    h: Tensor = x
    for number, widths in enumerate(((5, 8), (8, 8), (8, 3))):
        theirs = layer(*widths)
        theirs.load_state_dict(model.get_submodule(f"convs.{number}").state_dict())
        h = theirs(h, edge_index)
        h = model.get_submodule(f"norms.{number}")(h).relu() if number < 2 else h
    graph = Graph.from_edge_index(edge_index, 20)
    torch.testing.assert_close(model(x, graph), h)


def test_dropout_leaves_the_input_whole_if_asked() -> None:
    x, edge_index = torch.randn(20, 5), torch.randint(0, 20, (2, 60))
    kept: dict[str, Any] = dict(num_layers=1, dropout=0.5)
    for name in ("gcn", "sage", "gat", "gin", "mlp"):
        model = build_model(name, 5, 8, 3, **kept, drop_input=False).train()
        torch.testing.assert_close(model(x, edge_index), model(x, edge_index))
    dropping = build_model("gcn", 5, 8, 3, **kept).train()
    assert not torch.equal(dropping(x, edge_index), dropping(x, edge_index))


def test_norms_that_a_model_cannot_have() -> None:
    with pytest.raises(ConfigError, match="norm='layer', but None or 'batch_norm'"):
        build_model("gcn", 5, 8, 3, norm="layer")
    with pytest.raises(ConfigError, match="'acm-gcn' has no norm and drops its input"):
        build_model("acm-gcn", 5, 8, 3, norm="batch_norm")
    with pytest.raises(ConfigError, match="got 2 norms for 2 layers"):
        Stack([OurConv(3, 3), OurConv(3, 3)], norms=[nn.Identity(), nn.Identity()])
    with pytest.raises(ConfigError, match="norm is 'layer', but batch_norm or None"):
        node(norm="layer")  # pyright: ignore[reportArgumentType]
