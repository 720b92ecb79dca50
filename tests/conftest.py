from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# read when torch loads its threads: two test processes would spin for the same cores
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from hypothesis import HealthCheck, settings

# examples are derandomised so that a red run is red again; deadlines would time the machine
settings.register_profile(
    "graphkit",
    max_examples=50,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("thorough", settings.get_profile("graphkit"), max_examples=200)

# laws of ops and layers hold on every device: what they make is then made there
if device := os.environ.get("GRAPHKIT_TEST_DEVICE"):
    torch.set_default_device(device)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("thorough" if config.getoption("--slow") else "graphkit")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # "2/8" is the second of eight processes that share the tests out
    if share := os.environ.get("GRAPHKIT_TEST_SHARE"):
        number, count = map(int, share.split("/"))
        items[:] = items[number - 1 :: count]
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish() -> None:
    # what was imported stays: a full collection would look through all of it, every time
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Processed data of the tests stays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of hosts lead nowhere, so that no test depends on what the network holds today."""
    resolve = socket.getaddrinfo

    def local(host: Any, *args: Any, **options: Any) -> Any:
        if host in (None, "localhost", "127.0.0.1", "::1", b"localhost", b"127.0.0.1"):
            return resolve(host, *args, **options)
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is not for tests")

    monkeypatch.setattr(socket, "getaddrinfo", local)


@pytest.fixture(scope="session")
def local_data() -> Path:
    """The folder of real data sets that GRAPHKIT_DATA names; tests that need it skip without."""
    root = Path(os.environ.get("GRAPHKIT_DATA", ""))
    if not (root / "Planetoid").is_dir():
        pytest.skip("GRAPHKIT_DATA names no folder with Planetoid/: real-data tests left out")
    return root
