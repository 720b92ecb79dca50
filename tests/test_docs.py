"""What the README and the docs show runs, and the README's figures are the committed ones."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

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


def test_ci_runs_the_readmes_own_test_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    command = text.split("<!-- tests -->")[1].split("```")[1].removeprefix("bash").strip()
    assert "pip install -e" in command and command.endswith("python -m pytest -n 2")
    assert "<!-- tests -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_readmes_table_is_the_committed_figures() -> None:
    accuracy = runpy.run_path(str(ROOT / "benchmarks" / "accuracy.py"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split("<!-- accuracy -->")[1].split("<!-- /accuracy -->")[0].strip()
    assert shown == accuracy["table"]()


def test_local_links_lead_somewhere() -> None:
    for page in ROOT.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (ROOT / link).exists(), f"{page.name} links to {link}"


def test_the_readmes_map_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for cell in re.findall(r"`((?:graphkit|datasets)/[^`]*)`", text):
        folder, brace, rest = cell.partition("{")
        names, _, tail = rest.partition("}")
        for name in names.split(",") if brace else [""]:
            pattern = (folder + name + tail).rstrip("/")
            assert list(ROOT.glob(pattern)), f"README's map names {cell}, but there is no {pattern}"
