from __future__ import annotations

import importlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from graphkit.cli import main
from graphkit.errors import ConfigError, StoreError
from graphkit.recipes import Preset, node, plots, sweep_depth

# the package's attribute of this name is the function
MODULE = importlib.import_module("graphkit.recipes.sweep")
QUICK: dict[str, Any] = dict(epochs=4, hidden=16, seeds="0-1", quiet=True)


def test_depth_is_hops_or_layers(capsys: pytest.CaptureFixture[str]) -> None:
    points = sweep_depth(models="sgc,gcn", depths="4,2", **{**QUICK, "quiet": False})
    assert [(p.model, p.depth) for p in points] == [("sgc", 2), ("sgc", 4), ("gcn", 2), ("gcn", 4)]
    folder = Path("runs/sweep-depth-digits")
    for point in points:
        config = json.loads((Path(point.run) / "config.json").read_text())["options"]
        hops = f"hops={point.depth}" if point.model == "sgc" else ""
        layers = 2 if point.model == "sgc" else point.depth
        assert (config["model_options"], config["num_layers"]) == (hops, layers)
        kept = json.loads((Path(point.run) / "result.json").read_text())
        assert point.score == 100 * kept["test_mean"] and point.std == 100 * kept["test_std"]
        assert 0 < (point.energy or 0) < 2 and point.gap is not None and abs(point.gap) < 2
    written = json.loads((folder / "depth.json").read_text())
    assert [row["depth"] for row in written["points"]] == [2, 4, 2, 4]
    assert written["features"]["energy"] > 0 and written["data"] == "digits"
    table = (folder / "depth.md").read_text()
    assert "| model | 2 | 4 |" in table and f"| sgc | {points[0].score:.2f} ± " in table
    assert (folder / "depth.png").stat().st_size > 20_000 and (folder / "depth.svg").is_file()
    text = capsys.readouterr().out
    for part in ("gcn, depth 4 (4 of 4): ", "table:       runs/sweep-depth-digits/depth.md", "try"):
        assert part in text


def test_the_settings_are_those_of_the_preset_and_of_who_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = dict(data="digits", model="appnp", lr=0.5, dropout=0.1, model_options="alpha=0.3")
    preset = Preset("appnp-digits", node, values)
    other = Preset("appnp-other", node, {**values, "split": "another", "lr": 0.7})
    monkeypatch.setattr(MODULE, "PRESETS", {p.name: p for p in (other, preset)})
    (point,) = sweep_depth(models="appnp", depths=[3], dropout=0.2, **QUICK)
    options = json.loads((Path(point.run) / "config.json").read_text())["options"]
    assert (options["lr"], options["dropout"], options["epochs"]) == (0.5, 0.2, 4)
    assert options["model_options"] == "alpha=0.3,edge_dropout=0.0,hops=3"


def test_a_stopped_sweep_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = dict(models="sgc", depths="2,3", **QUICK)
    whole = sweep_depth(**options, out="whole")
    show, seen = plots.Progress.__call__, [0]

    def stop(self: plots.Progress, now: Any) -> None:
        show(self, now)
        seen[0] += 1
        if seen[0] == 10:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(plots.Progress, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            sweep_depth(**options, out="here")
    assert Path("here/sgc-2/result.json").is_file() and not Path("here/depth.png").exists()
    again = sweep_depth(**options, out="here")
    figures = [[(p.score, p.energy, p.gap) for p in points] for points in (whole, again)]
    assert figures[0] == figures[1]
    with pytest.raises(StoreError, match="sgc-2 holds a run with lr 0.01, but 0.5 is asked for"):
        sweep_depth(**options, out="here", lr=0.5)


def test_a_model_that_diverges_leaves_a_gap() -> None:
    points = sweep_depth(models="gcn,sgc", depths="2", out="here", lr=1e30, **QUICK)
    assert points[0].score is None and "diverged" in points[0].why
    table = Path("here/depth.md").read_text()
    assert "| gcn | - |" in table and "gcn, depth 2: Training diverged" in table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(models="gcn,dagn"), "Unknown model 'dagn'. Did you mean 'dagnn'"),
        (dict(models="gcn,gcn"), "different models are expected"),
        (dict(depths="2,x"), "depths is '2,x'"),
        (dict(depths="0,2"), "depths is '0,2'"),
        (dict(depths="2,2"), "depths is '2,2'"),
        (dict(seeds="a"), "seeds is 'a'"),
        (dict(lr=-1.0), "lr is -1.0"),
    ],
)
def test_bad_options_are_told_first(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep_depth(**options)
    assert not Path("runs").exists()


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "dept"]) == 2
    assert "Did you mean 'depth'" in capsys.readouterr().err
    assert main(["sweep", "depth", "--help"]) == 0
    assert "--depths" in capsys.readouterr().out
    words = ["--models", "sgc", "--depths", "1", "--epochs", "2", "--seeds", "0", "--out", "o"]
    assert main(["sweep", "depth", *words, "--quiet"]) == 0
    assert capsys.readouterr().out == "" and Path("o/depth.png").is_file()
