from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from graphkit.recipes import plots, report
from graphkit.recipes.loop import Epoch

pytestmark = pytest.mark.usefixtures("drawn")


def history(length: int, offset: float = 0.0) -> list[Epoch]:
    return [Epoch(i, 2 / i, 2.5 / i, min(1.0, 0.5 + offset + i / 50)) for i in range(1, length + 1)]


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.parametrize("lengths", [(1,), (20,), (20, 7, 12)])
def test_curves_are_drawn(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    histories = {seed: history(n, seed / 100) for seed, n in enumerate(lengths)}
    chosen = {seed: n for seed, n in enumerate(lengths)}
    plots.curves(tmp_path, histories, chosen, title="gcn on digits", metric="accuracy")
    width, height = png_size(tmp_path / "curves.png")
    assert width > 1400 and height > 500
    svg = ElementTree.parse(tmp_path / "curves.svg").getroot()
    assert svg.tag.endswith("svg")
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}path"))) > 20


def test_curves_use_no_global_figure(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom graphkit.recipes import plots, loop\n"
        "assert 'matplotlib' not in sys.modules and 'torch_geometric' not in sys.modules\n"
        "h = {0: [loop.Epoch(1, 1.0, 1.0, 0.5), loop.Epoch(2, 0.5, 0.6, 0.7)]}\n"
        "plots.curves(Path(sys.argv[1]), h, {0: 2}, title='t', metric='accuracy')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    line = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=root)
    assert done.returncode == 0, done.stderr


def test_plain_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(plots.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with plots.Progress(Console(file=out), [0, 1], 100) as progress:
        for epoch in history(10):
            now[0] += 0.5
            progress(epoch)
        progress.finish(report.Row(0, None, 10, 10, 0.5, 0.25, 5.0))
        now[0] += 0.5
        progress(history(1)[0])
    lines = out.getvalue().strip().splitlines()
    assert [line.split("  ")[1] for line in lines[:2]] == ["epoch 4/100", "epoch 8/100"]
    assert lines[0].startswith("seed 1/2  epoch 4/100  loss 0.5000  validation 0.5800  ETA 1:38")
    assert lines[2] == "seed 0: validation 0.5000  test 0.2500  (epoch 10 of 10, 5.0 s)"
    assert len(lines) == 3


def test_long_runs_speak_less(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(plots.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with plots.Progress(Console(file=out), [0], 5000) as progress:
        for epoch in history(3600):
            now[0] += 1.0
            progress(epoch)
    assert 60 < len(out.getvalue().splitlines()) < 150


def test_terminal_progress_is_a_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with plots.Progress(console, [0], 50) as progress:
        for epoch in history(50):
            progress(epoch)
        progress.bar.refresh()
    assert "epoch 50/50" in out.getvalue() and "━" in out.getvalue()


def test_the_table_shows_every_seed_and_the_mean() -> None:
    rows = [report.Row(0, 3, 5, 9, 0.5, 0.25, 1.0), report.Row(1, 4, 6, 8, 0.7, 0.75, 1.0)]
    record = report.record("node", "d", "gcn", "accuracy", rows, 2.0, 9.0, Path("runs/a"))
    out = io.StringIO()
    plots.show(Console(file=out, width=100), record, ["[not markup] " + "x" * 200])
    text = out.getvalue()
    assert "50.00 ± 35.36" in text and "60.00" in text
    assert "split" in text and " 3 " in text
    assert "[not markup] " + "x" * 200 in text


def test_the_table_of_one_seed_has_no_mean() -> None:
    rows = [report.Row(0, None, 5, 9, 0.5, 0.25, 1.0)]
    record = report.record("node", "d", "gcn", "accuracy", rows, 2.0, 9.0, Path("runs/a"))
    out = io.StringIO()
    plots.show(Console(file=out, width=100), record, [])
    assert "25.00" in out.getvalue()
    assert "±" not in out.getvalue() and "split" not in out.getvalue()


def test_pairs_and_rows(capsys: pytest.CaptureFixture[str]) -> None:
    plots.show_pairs("title", {"a_b": {"x_y": 1234, "z": (True, None)}, "c": 0.5, "d": ["p", "q"]})
    plots.show_rows([{"name": "n", "nodes": 12345, "here": False}])
    text = capsys.readouterr().out
    for part in ("title", "a b", "x y: 1,234", "z: yes, -", "0.500", "12,345", "no"):
        assert part in text
