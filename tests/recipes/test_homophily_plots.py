"""The picture and the tables of homophily."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphkit.recipes import homophily
from graphkit.structure import homophily_table

NAN = float("nan")


def table(value: float) -> dict[str, float]:
    return {key: value for key in homophily.MEASURES}


SETS = {
    "papers": {"stored": table(0.75)},
    "pages": {"stored": table(0.1), "undirected": table(0.25)},
    "one-class": {"stored": table(NAN)},
    "apart": {"stored": {**table(0.0), "adjusted": -0.6}},
}


def test_a_picture_of_every_kind(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg", "one.png", "one.pdf"):
        homophily.draw(tmp_path / name, SETS)
        assert (tmp_path / name).stat().st_size > 5000
    # the same figures are the same file
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_every_mark_is_at_its_value(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    panel = Figure().subplots()
    homophily._panel(
        panel, "adjusted", [{f: t["adjusted"] for f, t in s.items()} for s in SETS.values()]
    )
    marks = {str(c.get_label()): c.get_offsets().tolist() for c in panel.collections}
    ring, dot = (label for label, _ in homophily._MARKS.values())
    assert marks[ring] == [[0.25, 1.0]]
    # what is not defined has no mark, but a dash
    assert marks[dot] == [[0.75, 0.0], [0.1, 1.0], [-0.6, 3.0]]
    written = [text.get_text() for text in panel.texts]
    assert written[:4] == ["0.75", "0.10", "-", "-0.60"]
    assert panel.get_xlim()[0] < -0.6 and panel.get_xlim()[1] > 1


def test_one_set_of_one_class_is_drawn(tmp_path: Path) -> None:
    homophily.draw(tmp_path / "one.svg", {"one-class": SETS["one-class"]})
    assert (tmp_path / "one.svg").exists()


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    homophily.show_all(SETS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0][:4] == ["data", "edge", "node", "class"] and "LI" in lines[0]
    assert ["pages", *["0.100"] * 8] in lines and ["made", "undirected", *["0.250"] * 8] in lines
    assert ["one-class", *["-"] * 8] in lines
    homophily.show(SETS["pages"])
    out = capsys.readouterr().out
    # on a narrow terminal too nothing is cut off
    assert out.split()[:3] == ["homophily", "stored", "undirected"] and "…" not in out
    line = next(line for line in out.splitlines() if "informativeness" in line)
    assert line.split()[:3] == ["informativeness", "0.100", "0.250"] and "neighbour" in line
    homophily.show(SETS["papers"])
    assert "undirected" not in capsys.readouterr().out


def test_every_measure_is_explained() -> None:
    import torch

    found = homophily_table(torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 1]))
    assert list(found) == list(homophily.MEASURES)
