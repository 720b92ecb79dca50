from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_sets import make_cliques, make_rings
from torch_geometric.data import Data

from graphkit.data import GraphSet
from graphkit.recipes import graph_plots, link_plots, plots


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go to a folder of the test's own, and no data folder is set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAPHKIT_DATA", raising=False)


def nothing(*_: Any, **__: Any) -> None:
    pass


@pytest.fixture
def drawn() -> None:
    """For a test that looks at the pictures of a run."""


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than most of these trainings, and have tests of their own."""
    if "drawn" not in request.fixturenames:
        of_runs = (plots, "curves"), (plots, "breakdown")
        for owner, name in (*of_runs, (link_plots, "score_figure"), (graph_plots, "of_run")):
            monkeypatch.setattr(owner, name, nothing)


@pytest.fixture
def cliques() -> Data:
    return make_cliques()


@pytest.fixture
def rings() -> GraphSet:
    return make_rings()


@pytest.fixture
def own() -> Data:
    """Three groups that the graph shows and the features hint at, in four splits."""
    y = torch.arange(90) % 3
    src, dst = torch.randint(0, 90, (2, 1500))
    same = y[src] == y[dst]
    part = torch.stack([torch.randperm(90) % 3 for _ in range(4)], dim=1)
    return Data(
        x=torch.eye(3)[y] + torch.randn(90, 3),
        edge_index=torch.stack([src[same], dst[same]]),
        y=y,
        train_mask=part == 0,
        val_mask=part == 1,
        test_mask=part == 2,
    )


@pytest.fixture
def digests() -> Callable[[str], dict[str, str]]:
    """The sha256 of the weights and metrics of a run."""

    def of(run: str) -> dict[str, str]:
        kept = [p for p in Path(run).iterdir() if p.suffix in (".safetensors", ".jsonl")]
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}

    return of
