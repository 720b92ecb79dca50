"""ROC and precision-recall curves of a run, and where the energy of graphs lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import average_precision_score
from small_sets import changed, make_rings

from graphkit.cli import main
from graphkit.errors import ConfigError, DataError
from graphkit.graph import Graph
from graphkit.recipes import graph, graph_plots
from graphkit.recipes.energy import accumulated_energy, draw, energies_of, energy, grid
from graphkit.recipes.graph import read_graphs
from graphkit.structure import rayleigh_quotient

CURVES = graph_plots.roc_curve_at, graph_plots.precision_at
rows = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30)


@given(rows)
def test_the_area_below_the_steps_of_precision_is_average_precision(
    pairs: list[tuple[bool, int]],
) -> None:
    label = np.array([float(one) for one, _ in pairs])
    score = np.array([float(one) for _, one in pairs])
    if not 0 < label.mean() < 1:
        return
    # the shares that can be found, each of which is as wide as the others
    grid = np.arange(1, label.sum() + 1) / label.sum()
    found = graph_plots.precision_at(label, score, grid).mean()
    assert found == pytest.approx(average_precision_score(label, score), abs=1e-12)


@given(st.lists(st.booleans(), min_size=2, max_size=30))
def test_the_curve_is_what_is_found_above_each_of_the_others(labels: list[bool]) -> None:
    label = np.array(labels, dtype=float)
    if not 0 < label.mean() < 1:
        return
    score = np.random.default_rng(0).permutation(len(label)).astype(float)
    negative = np.sort(score[label == 0])[::-1]
    for number in range(len(negative) + 1):
        bar = negative[number] if number < len(negative) else -1
        share = np.array([number / len(negative)])
        found = graph_plots.roc_curve_at(label, score, share)
        assert found[0] == pytest.approx((score[label == 1] > bar).mean())


def scores_file(path: Path, rows: list[str]) -> None:
    path.write_text("\n".join(["graph,part,label,score,score_rocauc", *rows]) + "\n")


@pytest.mark.usefixtures("drawn")
def test_curves_are_of_the_test_graphs_of_all_seeds(tmp_path: Path, monkeypatch: Any) -> None:
    scores_file(tmp_path / "scores-seed0.csv", ["3,val,1,0.1,0.2", "4,test,1,0.9,0.8"])
    # a part of one class has no curve, and graphs without a label are in none
    assert graph_plots.read_scores(tmp_path / "scores-seed0.csv") == {}
    for seed in (0, 2):
        lines = ["3,val,1,0.1,0.2", "4,test,1,0.9,0.8", f"5,test,0,0.{seed}5,0.6"]
        scores_file(tmp_path / f"scores-seed{seed}.csv", [*lines, "6,test,-1,0.5,0.5"])
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        graph_plots, "roc_figure", lambda folder, curves, **about: seen.update(curves, **about)
    )
    graph_plots.of_run(tmp_path, [0, 1, 2], title="t", metric="f1")
    assert [len(seen[name]) for name in ("score", "score_rocauc")] == [2, 2]
    label, score = seen["score"][1]
    assert label.tolist() == [1, 0] and score.tolist() == [0.9, 0.25]
    (tmp_path / "scores-seed2.csv").write_text("graph,part,label,score0,score1\n1,test,1,0.1,0.9\n")
    assert graph_plots.read_scores(tmp_path / "scores-seed2.csv") == {}


def test_the_figure_has_a_line_and_a_band_for_each_choice(tmp_path: Path, monkeypatch: Any) -> None:
    from matplotlib.figure import Figure

    kept: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: Any, **options: Any) -> None:
        kept.append(self)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    draw = np.random.default_rng(0)
    seeds = [(draw.integers(0, 2, 30).astype(float), draw.random(30)) for _ in range(3)]
    graph_plots.roc_figure(tmp_path, {"score": seeds}, title="t", metric="f1")
    assert all((tmp_path / f"roc.{kind}").stat().st_size > 5000 for kind in ("png", "svg"))
    for panel, of in zip(kept[0].axes, CURVES, strict=True):
        line = panel.lines[0]
        x = np.asarray(line.get_xdata())
        expected = np.mean([of(*one, x) for one in seeds], axis=0)
        np.testing.assert_allclose(np.asarray(line.get_ydata()), expected)
        assert len(panel.collections) == 1
    assert kept[0].legends[0].get_texts()[0].get_text() == "epochs chosen by f1"


@pytest.mark.usefixtures("drawn")
def test_a_run_draws_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = graph(data=make_rings(), hidden=8, num_layers=1, epochs=2, quiet=True, out="run").run
    assert (Path(run) / "roc.png").is_file() and (Path(run) / "scores-seed0.csv").is_file()


def random_graph(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve nodes, some without edges, with loops and parallel edges; three columns."""
    draw = torch.Generator().manual_seed(seed)
    edge = torch.randint(0, 9, (2, 14), generator=draw)
    edge = torch.cat([edge, edge.flip(0)], dim=1)
    return torch.randn(12, 3, generator=draw, dtype=torch.float64), edge


@given(st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_the_area_above_the_curve_is_the_rayleigh_quotient(seed: int) -> None:
    x, edge_index = random_graph(seed)
    joined = Graph.from_edge_index(edge_index, 12)
    grid = torch.linspace(0, 2, 40_001, dtype=torch.float64)
    for column in range(3):
        share = accumulated_energy(x[:, column : column + 1], joined, grid)
        assert share[-1] == pytest.approx(1) and bool((share.diff() >= -1e-12).all())
        area = (1 - share[:-1]).mean() * 2
        expected = rayleigh_quotient(x, joined)[0, column]
        assert area.item() == pytest.approx(expected.item(), abs=1e-4)
    # all columns together are weighed by their energies
    share = accumulated_energy(x, joined, grid)
    form = rayleigh_quotient(x, joined, mode="energy").sum()
    area = (1 - share[:-1]).mean() * 2
    assert area.item() == pytest.approx((form / x.square().sum()).item(), abs=1e-4)


def test_energies_that_are_known() -> None:
    node = torch.arange(6)
    edge = torch.stack([node, (node + 1) % 6])
    ring = Graph.from_edge_index(torch.cat([edge, edge.flip(0)], dim=1), 6)
    flat = accumulated_energy(torch.ones(6, 1), ring, grid())
    assert torch.allclose(flat, torch.ones_like(flat))
    turning = accumulated_energy((-1.0) ** node.unsqueeze(1), ring, grid())
    assert torch.allclose(turning, (grid() >= 2 - 1e-12).double())
    assert bool((accumulated_energy(torch.zeros(6, 2), ring, grid()) == 1).all())
    bare = Graph.from_edge_index(torch.empty(2, 0, dtype=torch.int64), 3)
    assert torch.allclose(
        accumulated_energy(torch.rand(3, 2), bare, grid()), torch.ones(len(grid())).double()
    )


def test_classes_are_sampled_and_all_quotients_are_theirs(tmp_path: Path) -> None:
    whole, _ = read_graphs(make_rings(), None, anomaly=True)
    found = energies_of(whole, 7, 0, Console(quiet=True))
    assert [tuple(found.curves[label].shape) for label in (0, 1)] == [(7, len(grid()))] * 2
    assert [len(found.quotients[label]) for label in (0, 1)] == [30, 30] and found.skipped == 0
    # a ring's only feature is its degree, which all nodes share
    assert found.quotients[0].abs().max() < 1e-9
    numbers = changed(make_rings(), x=torch.rand(int(whole.graphs.node_ptr[-1]), 2))
    whole, _ = read_graphs(numbers, None, anomaly=True)
    found = energies_of(whole, 50, 0, Console(quiet=True))
    for label in (0, 1):
        area = 2 * (1 - found.curves[label][:, :-1]).mean(dim=1)
        torch.testing.assert_close(
            area.sort().values, found.quotients[label].sort().values, atol=0.006, rtol=0
        )
    for name in ("one.svg", "two.svg", "one.png"):
        draw(tmp_path / name, found, title="t")
        assert (tmp_path / name).stat().st_size > 5000
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_the_command_draws_and_says_what(
    local_data: Path, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["plot", "energy", "mutag", "--root", str(local_data), "--graphs", "5"]
    assert main([*words, "--out", "e.png"]) == 0
    out = capsys.readouterr().out
    assert "anomalies" in out and "63" in out and "125" in out and Path("e.png").is_file()
    assert "graphkit train graph --data mutag --model rqgnn --anomaly" in out
    assert main([*words, "--out", "no/e.png"]) == 1 and main([*words, "--graphs", "0"]) == 2
    assert "graphs is 0, but at least 1" in capsys.readouterr().err
    with pytest.raises(DataError, match="digits is for node-classification"):
        energy("digits")
    with pytest.raises(ConfigError, match="graphs is -1"):
        energy("mutag", graphs=-1)
