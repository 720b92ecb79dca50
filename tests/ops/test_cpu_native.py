"""The compiled module: how it is chosen, and that forks, threads and exits do it no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from graphkit import Graph, ops
from graphkit.ops.cpu import native

ROOT = Path(__file__).resolve().parents[2]
REPORT = "import graphkit.ops as o; print(o.backends()['spmm']['cpu'])"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def built() -> None:
    if native.kernels is None:
        pytest.skip("the native kernels were not built or are switched off")


def some_graph() -> Graph:
    generator = torch.Generator().manual_seed(0)
    return Graph.from_edge_index(torch.randint(3000, (2, 40000), generator=generator), 3000)


def test_the_environment_chooses_the_instruction_set(built: None) -> None:
    for name in native.kernels.instruction_sets():
        assert run(REPORT, GRAPHKIT_SIMD=name).stdout == f"native, {name}\n"
    assert run(REPORT, GRAPHKIT_SIMD="off").stdout == "torch reference\n"
    failed = run(REPORT, GRAPHKIT_SIMD="avx1024")
    assert "GRAPHKIT_SIMD is 'avx1024', which this machine or build does not offer" in failed.stderr


def test_without_the_module_torch_serves() -> None:
    hidden = "import sys; sys.modules['graphkit.ops.cpu._kernels'] = None; "
    assert run(hidden + REPORT, GRAPHKIT_SIMD="").stdout == "torch reference\n"


class _Sums(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, graph: Graph, x: torch.Tensor) -> None:
        self.graph, self.x = graph, x

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return ops.spmm(self.graph, self.x + index)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_workers_of_a_loader(built: None, way: str) -> None:
    """The pool of threads is in use before the fork, which is what breaks careless libraries."""
    sums = _Sums(some_graph(), torch.randn(3000, 16))
    want = [sums[i] for i in range(4)]
    loader = DataLoader(sums, batch_size=None, num_workers=2, multiprocessing_context=way)
    assert all(torch.equal(a, b) for a, b in zip(loader, want, strict=True))


FORK = """
import os, torch
from graphkit import Graph, ops
graph = Graph.from_edge_index(torch.randint(3000, (2, 40000)), 3000)
x = torch.randn(3000, 16)
torch.set_num_threads(2)
want = ops.spmm(graph, x).numpy().tobytes()
child = os.fork()
if child == 0:
    # torch's own parallel work would wait for ever here: bytes are compared
    os._exit(0 if ops.spmm(graph, x).numpy().tobytes() == want else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_plain_fork(built: None) -> None:
    found = run(FORK)
    assert (found.returncode, found.stderr) == (0, "")


def test_calls_from_several_python_threads(built: None) -> None:
    graph, x = some_graph(), torch.randn(3000, 16)
    want = ops.spmm(graph, x)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: ops.spmm(graph, x), range(40)))
    assert all(torch.equal(got, want) for got in found)


def test_nothing_is_said_at_exit(built: None) -> None:
    code = """
import torch
from graphkit import Graph, ops
from graphkit.ops.cpu import native
graph = Graph.from_edge_index(torch.randint(30, (2, 90)), 30)
kept = native.side(*graph.parts()[:3]), ops.spmm(graph, torch.randn(30, 3))
"""
    found = run(code)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
