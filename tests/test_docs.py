"""What the README and the docs show runs, and the figures there are the committed ones."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import graphkit as gk

    monkeypatch.chdir(tmp_path)
    digits = gk.data.load("digits")
    names = {"x": digits.x, "edge_index": digits.edge_index, "y": digits.y, "torch": torch}
    names |= {part: digits[f"{part}_mask"] for part in ("train", "val", "test")}
    code = blocks("README.md", "python")
    assert len(code) == 4
    for block in code:
        exec(block.replace('seeds="0-4"', 'seeds="0-1", epochs=5'), names)
        assert block.count("\n") < 20
    assert names["out"].shape == (1797, 10)
    assert names["record"].test_mean > 0.9


def test_the_docs_layer_keeps_its_promises() -> None:
    exec(blocks("docs/layers.md", "python")[-1], {})


def test_the_docs_links_are_scored() -> None:
    names: dict[str, torch.Tensor] = {}
    (code,) = [one for one in blocks("docs/layers.md", "python") if "NCNC" in one]
    exec(code, names)
    assert names["logits"].shape == (4,)


def test_the_docs_graphs_are_scored() -> None:
    names: dict[str, torch.Tensor] = {}
    (code,) = [one for one in blocks("docs/layers.md", "python") if "RQGNN" in one]
    exec(code, names)
    assert names["scores"].shape == (8,)


def test_the_docs_hypergraphs_are_made() -> None:
    names: dict[str, Any] = {}
    for code in blocks("docs/hypergraphs.md", "python"):
        exec(code, names)
    assert names["x"].shape == (2, 8) and names["data"].x.shape == (1000, 11)
    assert names["said"].startswith("Features: 11 structural ones")
    assert names["out"].shape == (4, 8)


def test_the_docs_store_is_written_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in blocks("docs/out-of-core.md", "python"):
        exec(code, names)
    assert names["batch"].x.dtype == torch.bfloat16 and names["batch"].batch_size == 256


def test_ci_runs_the_readmes_own_test_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    command = text.split("<!-- tests -->")[1].split("```")[1].removeprefix("bash").strip()
    assert "pip install -e" in command and command.endswith("python -m pytest -n 2")
    assert "<!-- tests -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_table_of_accuracies_is_the_committed_figures() -> None:
    accuracy = runpy.run_path(str(ROOT / "benchmarks" / "accuracy.py"))
    text = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
    shown = text.split("<!-- accuracy -->")[1].split("<!-- /accuracy -->")[0].strip()
    assert shown == accuracy["table"]()


def test_the_page_of_published_figures_is_that_of_the_kept_ones() -> None:
    reproduction = runpy.run_path(str(ROOT / "benchmarks" / "reproduction.py"))
    shown = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert shown == reproduction["page"]()


def test_a_table_is_kept_without_the_places_of_its_runs(tmp_path: Path) -> None:
    reproduction = runpy.run_path(str(ROOT / "benchmarks" / "reproduction.py"))
    reproduction["keep"].__globals__["RESULTS"] = tmp_path / "kept"
    row = {"preset": "dagnn-cora", "ours": 84.25, "ours_std": 0.5, "difference": -0.3, "seeds": 10}
    row |= {"seconds": 61.4, "source": "Liu", "why": "", "run": str(tmp_path / "dagnn-cora")}
    blank = row | {"preset": "dagnn-pubmed", "ours": None, "why": "no data here", "run": ""}

    def keep(machine: str, *rows: dict[str, Any]) -> str:
        """A folder in which ``rows`` were run on ``machine``, kept; the page then."""
        about = {"cpu": machine, "threads": 1, "torch": "2", "commit": "0123456789"}
        content = {"table": "dagnn", "rows": rows, "environment": about}
        (tmp_path / "table.json").write_text(json.dumps(content), encoding="utf-8")
        assert str(tmp_path) not in reproduction["keep"](tmp_path).read_text(encoding="utf-8")
        return reproduction["page"]()

    text = keep("one", row, blank)
    line = "| `dagnn-cora` | cora | dagnn | 84.25 ± 0.50 | 84.4 ± 0.5 | -0.30 | 10 | 61 |"
    assert line in text and "- one, threads: 1, torch 2, commit `0123456`\n" in text
    assert "| `dagnn-citeseer` | citeseer | dagnn | not run | 73.3 ± 0.6 |  |  |  |" in text
    # another row on another machine; the first one was not run there
    again = keep("two", row | {"ours": None}, row | {"preset": "dagnn-citeseer", "ours": 73.0})
    assert line in again and "no data here" in again
    assert "- one, threads: 1, torch 2, commit `0123456`: `dagnn-cora`\n" in again
    assert "- two, threads: 1, torch 2, commit `0123456`: `dagnn-citeseer`\n" in again
    # run again, it is replaced
    assert (
        "84.50 ± 0.50" in keep("two", row | {"ours": 84.5}) and line not in reproduction["page"]()
    )


def test_local_links_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_readmes_map_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for cell in re.findall(r"`((?:graphkit|datasets)/[^`]*)`", text):
        folder, brace, rest = cell.partition("{")
        names, _, tail = rest.partition("}")
        for name in names.split(",") if brace else [""]:
            pattern = (folder + name + tail).rstrip("/")
            assert list(ROOT.glob(pattern)), f"README's map names {cell}, but there is no {pattern}"
