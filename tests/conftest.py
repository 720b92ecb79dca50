from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# examples are derandomised so that a red run is red again; deadlines would time the machine
settings.register_profile(
    "graphkit",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("graphkit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def local_data() -> Path:
    """The folder of real data sets that GRAPHKIT_DATA names; tests that need it skip without."""
    root = Path(os.environ.get("GRAPHKIT_DATA", ""))
    if not (root / "Planetoid").is_dir():
        pytest.skip("GRAPHKIT_DATA names no folder with Planetoid/: real-data tests left out")
    return root
