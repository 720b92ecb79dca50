from __future__ import annotations

import importlib
import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest

from graphkit.cli import main
from graphkit.errors import ConfigError, StoreError
from graphkit.recipes import Preset, graph, link, node, plots, reproduce

# the package's attribute of this name is the function
MODULE = importlib.import_module("graphkit.recipes.reproduce")
QUICK = dict(data="digits", hidden=16, epochs=6, seeds="0-1")
ROWS = (
    Preset("gcn-small", node, {**QUICK, "model": "gcn"}, "90.00 ± 2.00", "somebody", "small"),
    Preset("mlp-small", node, {**QUICK, "model": "mlp"}, "80.5", "somebody", "small"),
    Preset("away", node, {**QUICK, "data": "cora", "model": "gcn"}, "81.5", "Kipf", "small"),
    Preset("other", node, {**QUICK, "model": "gcn"}, "", "", "another"),
)


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(MODULE, "PRESETS", {preset.name: preset for preset in ROWS})
    monkeypatch.setattr(MODULE, "TABLES", ("small", "another"))
    monkeypatch.setenv("GRAPHKIT_DATA", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)


def test_ours_stand_beside_the_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    gcn, mlp, away = reproduce("small", out="here")
    kept = json.loads(Path("here/gcn-small/result.json").read_text())
    assert gcn.ours == 100 * kept["test_mean"] and gcn.ours_std == 100 * kept["test_std"]
    pooled = math.sqrt((gcn.ours_std**2 + 2.0**2) / 2)
    assert gcn.difference == pytest.approx((gcn.ours - 90) / pooled)
    # a figure without a deviation is shown, and has no difference in deviations
    assert (mlp.published, mlp.published_std, mlp.difference) == (80.5, None, None)
    assert away.ours is None and away.why == "no data here: graphkit data get cora"
    written = json.loads(Path("here/table.json").read_text())
    assert [row["preset"] for row in written["rows"]] == ["gcn-small", "mlp-small", "away"]
    assert written["environment"]["torch"] and written["rows"][0]["seeds"] == 2
    table = Path("here/table.md").read_text()
    assert f"| gcn-small | {gcn.ours:.2f} ± {gcn.ours_std:.2f} | 90.00 ± 2.00 |" in table
    assert "no data here" in table and "Published: somebody." in table
    assert "table:       here/table.md" in capsys.readouterr().out


def test_finished_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    first = reproduce("small", out="here", only="gcn", quiet=True)
    before = Path("here/gcn-small/result.json").stat().st_mtime_ns
    assert reproduce("small", out="here", only="gcn", quiet=True) == first
    assert Path("here/gcn-small/result.json").stat().st_mtime_ns == before
    with pytest.raises(
        StoreError, match="gcn-small holds a run with seeds '0-1', but '0' is asked for"
    ):
        reproduce("small", seeds="0", out="here", only="gcn", quiet=True)


def test_rows_run_one_by_one_make_one_table() -> None:
    (mlp,) = reproduce("small", out="here", only="mlp", quiet=True)
    (gcn,) = reproduce("small", out="here", only="gcn", quiet=True)
    written = json.loads(Path("here/table.json").read_text())["rows"]
    assert [(row["preset"], row["ours"]) for row in written] == [
        ("gcn-small", gcn.ours),
        ("mlp-small", mlp.ours),
    ]
    Path("here/table.json").write_text('{"rows": [{"preset": "mlp-small", "colour": 3}]}')
    with pytest.raises(StoreError, match="table.json is not a table of ours"):
        reproduce("small", out="here", only="gcn", quiet=True)


def test_a_stopped_table_goes_on_and_ends_with_the_same_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = reproduce("small", out="whole", only="gcn", quiet=True)
    show, seen = plots.Progress.__call__, [0]

    def stop(self: plots.Progress, now: Any) -> None:
        show(self, now)
        seen[0] += 1
        if seen[0] == 8:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(plots.Progress, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            reproduce("small", out="here", only="gcn", quiet=True)
    (line,) = reproduce("small", out="here", only="gcn", quiet=True)
    assert (line.ours, line.ours_std) == (whole[0].ours, whole[0].ours_std)


def test_scores_that_chose_epochs_of_their_own_have_a_column(
    monkeypatch: pytest.MonkeyPatch, local_data: Path
) -> None:
    usual: dict[str, Any] = dict(data="mutag", seeds="0-1", epochs=3, hidden=8, num_layers=2)
    rows = (
        Preset("one", graph, {**usual, "model": "gin", "anomaly": True}, table="small"),
        Preset("two", graph, {**usual, "model": "gcn"}, table="small"),
    )
    monkeypatch.setattr(MODULE, "PRESETS", {preset.name: preset for preset in rows})
    one, two = reproduce("small", out="here", root=str(local_data), quiet=True)
    kept = json.loads(Path("here/one/result.json").read_text())["rows"]
    own = [100 * row["checkpoints"]["rocauc"]["rocauc"] for row in kept]
    assert one.metric == "f1" and list(one.also) == ["rocauc"] and not two.also
    assert one.also["rocauc"][0] == pytest.approx(sum(own) / 2)
    head, _, first, second = Path("here/table.md").read_text().splitlines()[:4]
    assert "| ours | rocauc | published |" in head
    assert f"| {one.also['rocauc'][0]:.2f} ± {one.also['rocauc'][1]:.2f} |" in first
    assert second.count("|") == first.count("|") == head.count("|")
    assert reproduce("small", out="here", root=str(local_data), quiet=True) == [one, two]


def test_a_row_starts_from_another_row(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = dict(data="digits", model="gae", hidden=8, num_layers=1, epochs=1, seeds="0")
    still = dict(lr=1e-12, encoder_lr=0.0, start="first")
    rows = (
        Preset("first", link, usual, table="small"),
        Preset("second", link, {**usual, **still}, table="small"),
    )
    monkeypatch.setattr(MODULE, "PRESETS", {preset.name: preset for preset in rows})
    first, second = reproduce("small", out="here", quiet=True)
    assert first.ours == second.ours
    # the same command again finds both rows finished
    assert reproduce("small", out="here", quiet=True) == [first, second]


def test_what_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="Unknown table 'smal'. Did you mean 'small'"):
        reproduce("smal")
    with pytest.raises(ConfigError, match="only is 'gat', which no preset of the table 'small'"):
        reproduce("small", only="gat")
    assert not Path("runs").exists()
    assert main(["reproduce", "smal"]) == 2
    assert "Did you mean 'small'" in capsys.readouterr().err
    assert main(["reproduce", "--help"]) == 0


def test_the_command_line_runs_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "another", "--seeds", "0"]) == 0
    out = capsys.readouterr().out
    assert "row 1 of 1: other" in out and "runs/reproduce-another/table.md" in out
