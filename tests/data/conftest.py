from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def local_root() -> Path:
    """The folder of real raw files, read-only by agreement; skips where there is none."""
    value = os.environ.get("GRAPHKIT_DATA")
    if not value or not Path(value).is_dir():
        pytest.skip("GRAPHKIT_DATA does not name a folder of raw data sets")
    return Path(value)


class Hostile:
    """Pickles to a call of os.system that would create ``canary``."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[bytes, Path]:
    """A pickle that runs a command when loaded without care, and the file it would create."""
    canary = tmp_path / "canary"
    return pickle.dumps(Hostile(canary)), canary
