"""The compiled module: how it is chosen, and that forks, threads and exits do it no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from graphkit import BackendError, Graph, ops
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


def test_the_environment_chooses_the_instruction_set(
    built: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = native.kernels
    offered, before = kernels.instruction_sets(), kernels.instruction_set()
    # importing does the same, which is seen once
    assert run(REPORT, GRAPHKIT_SIMD=offered[0]).stdout == f"native, {offered[0]}\n"
    monkeypatch.setattr(native, "kernels", kernels)
    try:
        for name in offered:
            monkeypatch.setenv("GRAPHKIT_SIMD", name)
            native._choose()
            assert native.serves() == f"native, {name}"
        monkeypatch.setenv("GRAPHKIT_SIMD", "avx1024")
        told = "GRAPHKIT_SIMD is 'avx1024', which this machine or build does not offer"
        with pytest.raises(BackendError, match=told):
            native._choose()
        monkeypatch.setenv("GRAPHKIT_SIMD", "off")
        native._choose()
        assert native.serves() == "torch reference"
    finally:
        kernels.choose(before)


def test_without_the_module_torch_serves() -> None:
    hidden = "import sys; sys.modules['graphkit.ops.cpu._kernels'] = None; "
    assert run(hidden + REPORT, GRAPHKIT_SIMD="").stdout == "torch reference\n"


def _with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    leaves = [value.detach().requires_grad_() for value in inputs]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out.sum(), leaves)]


def every_kernel(graph: Graph) -> list[list[Tensor]]:
    """What each family of kernels makes of ``graph`` and fixed numbers."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3000, 4, 4, generator=generator)
    scores = torch.randn(3000, 4, generator=generator)
    pairs = torch.randint(3000, (2, 500), generator=generator)
    sorted_again = Graph.from_edge_index(graph.edge_index(), 3000)
    common = ops.intersect(graph, pairs)
    assert isinstance(common, Graph)
    torch.manual_seed(2)

    def softmax(scores: Tensor) -> Tensor:
        return ops.segment_softmax(ops.gather(graph, scores, "src"), graph.by_dst)

    return [
        [sorted_again.by_dst.indptr, sorted_again.by_dst.indices],
        _with_gradients(lambda x: ops.spmm(graph, x), x.flatten(1)),
        _with_gradients(lambda x: ops.spmm(graph, x, reduce="max"), x.flatten(1)),
        _with_gradients(lambda a, b: ops.sddmm(graph, a, b), x, x + 1),
        _with_gradients(
            lambda s: ops.segment_softmax(ops.gather(graph, s, "src"), graph.by_dst), scores
        ),
        _with_gradients(lambda x, s: ops.gat_attention(graph, x, s, s + 1), x, scores),
        _with_gradients(lambda x: ops.gatv2_attention(graph, x, x, x[0]), x),
        [common.by_dst.indptr, common.by_dst.indices],
        _with_gradients(lambda x: ops.relu_dropout(x, 0.5), x),
    ]


def same(found: list[list[Tensor]], want: list[list[Tensor]]) -> bool:
    pairs = zip(found, want, strict=True)
    return all(torch.equal(a, b) for f, w in pairs for a, b in zip(f, w, strict=True))


@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
def test_an_instruction_set_gives_the_same_bits(built: None, name: str) -> None:
    if name not in native.kernels.instruction_sets():
        pytest.skip(f"this machine or build has no {name}")
    graph, before = some_graph(), native.kernels.instruction_set()
    want = every_kernel(graph)
    native.kernels.choose(name)
    try:
        assert same(every_kernel(graph), want)
    finally:
        native.kernels.choose(before)


class _Everything(torch.utils.data.Dataset[list[list[Tensor]]]):
    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> list[list[Tensor]]:
        return every_kernel(self.graph)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_workers_of_a_loader(built: None, way: str) -> None:
    """The pool of threads is in use before the fork, which is what breaks careless libraries."""
    everything = _Everything(some_graph())
    want = everything[0]
    # a process that begins from nothing takes seconds
    workers = 2 if way == "fork" else 1
    loader = DataLoader(
        everything, batch_size=None, num_workers=workers, multiprocessing_context=way
    )
    assert all(same(found, want) for found in loader)


FORK = """
import os, torch
from graphkit import Graph, ops
from graphkit.ops.cpu import native
graph = Graph.from_edge_index(torch.randint(3000, (2, 40000)), 3000)
x = torch.randn(3000, 16)
torch.set_num_threads(2)
want = ops.spmm(graph, x).numpy().tobytes()
child = os.fork()
if child == 0:
    # torch's own parallel work would wait for ever here: bytes are compared
    os._exit(0 if ops.spmm(graph, x).numpy().tobytes() == want else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
# what is alive at the end
kept = native.side(*graph.parts()[:3]), ops.spmm(graph, x)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_plain_fork_and_nothing_is_said_at_exit(built: None) -> None:
    found = run(FORK)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_calls_from_several_python_threads(built: None) -> None:
    graph, x = some_graph(), torch.randn(3000, 16)
    # the seed of dropout is drawn from torch's one generator: its kernel has a test of its own
    want = [ops.spmm(graph, x), *every_kernel(graph)[1:-1]]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [ops.spmm(graph, x), *every_kernel(graph)[1:-1]], range(8)))
    assert all(torch.equal(got[0], want[0]) and same(got[1:], want[1:]) for got in found)


NO_MEMORY = """
import resource
import torch
from graphkit import Graph, ops

torch.set_num_threads(2)
# a hub of 16 pieces, each with results of its own as wide as a row
count = 16 * 16384
graph = Graph.from_edge_index(torch.zeros(2, count, dtype=torch.int64), 1)
x = torch.ones(1, 1, 2**20)
scores = torch.zeros(1, 1), torch.zeros(1, 1)
few = torch.ones(1, 8)
want = ops.spmm(graph, few)
sampler = ops.Sampler(graph, [2**26], replace=True)
works = {
    "spmm": lambda: ops.spmm(graph, x[0]),
    "gat_attention": lambda: ops.gat_attention(graph, x, *scores),
    "sample": lambda: sampler(torch.tensor([0])),
}
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
for name, work in works.items():
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, -1))
    try:
        work()
    except MemoryError:
        print(name)
    # what follows works as before
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    assert torch.equal(ops.spmm(graph, few), want)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
def test_want_of_memory_is_an_error_of_python(built: None) -> None:
    found = run(NO_MEMORY)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.split() == ["spmm", "gat_attention", "sample"]
