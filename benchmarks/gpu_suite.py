"""One command for a GPU: python benchmarks/gpu_suite.py --out DIR

Runs the laws on it, tries what only a GPU can show, times the ops against their peers, tunes, and
says which targets were met. ``--device cpu --tiny`` runs the same code under triton's interpreter.
README.md says what the stages are. (opt: torch_geometric, torch_scatter, triton, pytest)
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

# the checkout that holds this file is what runs, whatever is installed
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks import gpu_cases as cases
from benchmarks.bandwidth import bandwidth
from benchmarks.entry import Entry, Outputs, Prepared, exit_code
from benchmarks.measure import Contest, contest, deviation, ratio, spread
from graphkit import Graph, __version__, ops
from graphkit.errors import BackendError, ConfigError, GraphkitError, nearest, need
from graphkit.nn import GATv2Conv, GCNConv, SAGEConv, Stack
from graphkit.ops import triton
from graphkit.store import atomic

ROOT = Path(__file__).resolve().parents[1]
# seconds for everything, and what of it a stage may take at most
LIMIT = 520
BUDGETS = {
    "environment": 15,
    "bandwidth": 20,
    "tests": 140,
    "beyond": 50,
    "bits": 60,
    "timings": 120,
    "models": 55,
    "tuning": 50,
    "distributed": 30,
    "host": 25,
}
# a stage is asked to stop, and ended so many seconds later
GRACE = 10
ROUNDS = 50
RUNS = 20
TESTS = (
    "tests/ops/triton_cases.py",
    "tests/ops/test_ops.py",
    "tests/nn/test_layers.py::test_promises",
)
# under the interpreter the whole of them takes many minutes
TINY_TESTS = (
    *("tests/ops/triton_cases.py", "tests/ops/test_ops.py", "-k"),
    "tuned_shapes or beyond_its_range or softmax_of_extremes",
)


class Late(Exception):
    """A stage's time is up: what it has done so far counts."""


@dataclass
class Run:
    """One stage at work: its options, and its rows, which are on disk as soon as they are there."""

    stage: str
    out: Path
    device: torch.device
    tiny: bool
    until: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        return self.out / f"{self.stage}.json"

    @property
    def shrink(self) -> int:
        return 65536 if self.tiny else 1

    def left(self) -> float:
        return self.until - time.monotonic()

    def tell(self, text: str) -> None:
        """Say what comes next; :class:`Late` if there is no time for it."""
        if self.left() <= 0:
            raise Late(f"before {text}")
        print(f"  {time.monotonic() - self.began:4.0f} s  {self.stage}: {text}", flush=True)

    def add(self, **row: Any) -> None:
        self.rows.append(row)
        self.save("running", None)

    def save(self, status: str, reason: str | None) -> None:
        took = round(time.monotonic() - self.began, 1)
        write(self.path, {"status": status, "reason": reason, "seconds": took, "rows": self.rows})

    @contextlib.contextmanager
    def recorded(self, **row: Any) -> Iterator[dict[str, Any]]:
        """A row that says how what happens inside went; one that fails does not stop the others."""
        row |= {"status": "ok", "reason": None}
        try:
            yield row
        except Late:
            raise
        except BackendError as error:
            row |= {"status": "absent", "reason": str(error)}
        except Exception as error:
            lines = str(error).splitlines() or [""]
            row |= {"status": "failed", "reason": f"{type(error).__name__}: {lines[0]}"}
            traceback.print_exc()
        self.add(**row)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def once(self, call: Callable[[], Any]) -> float:
        return cases.once(call, self.device)[1]

    def memory(self, call: Callable[[], Any]) -> float | None:
        """MB that ``call`` had at its peak, with what was there before; None on the CPU."""
        if self.device.type != "cuda":
            call()
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        call()
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)


def write(path: Path, found: Any) -> None:
    text = json.dumps(found, indent=1, allow_nan=False)
    with atomic(path) as side:
        side.write_text(text + "\n", encoding="utf-8")


# -- stages ----------------------------------------------------------------------------------------


def environment(run: Run) -> None:
    """What this is: GPU, driver, versions; and the rest of the machine where graphkit's own
    dependencies are installed."""
    run.tell("versions")
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "graphkit": __version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    for name in ("triton", "numpy", "torch_geometric", "torch_scatter", "pytest"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    if run.device.type == "cuda":
        of = torch.cuda.get_device_properties(run.device)
        found |= {
            "gpu": of.name,
            "memory_gb": round(of.total_memory / 1e9, 1),
            "multiprocessors": of.multi_processor_count,
            "l2_mb": round(getattr(of, "L2_cache_size", 0) / 1e6, 1),
            "capability": f"{of.major}.{of.minor}",
            "driver": driver(),
        }
    found["serves"] = {name: row["cuda"] for name, row in ops.backends().items()}
    with run.recorded(**found) as row:
        from benchmarks import machine

        # its own entries win over ours: they are read the same way everywhere
        row["machine"] = machine.describe()


def driver() -> str | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=10)
        return (done.stdout.splitlines() or [None])[0]
    return None


def measured_bandwidth(run: Run) -> dict[str, float]:
    # large enough that a rate is never rounded to none
    rows = 2**15 if run.tiny else 2**22
    return bandwidth(run.device, rows, cases.seconds(run.device))


def bandwidths(run: Run) -> None:
    """A copy, a gather of rows by torch, and one by our kernel where triton is."""
    run.tell("copy and gather")
    run.add(**measured_bandwidth(run))
    rows = 2**6 if run.tiny else 2**22
    for width in (32, 128, 512):
        with run.recorded(width=width) as row:
            run.tell(f"rows of {4 * width} bytes")
            table = torch.ones(rows * 32 // width, width, device=run.device)
            index = torch.randperm(len(table), device=run.device)
            call = partial(triton.load("rows").take_rows, table, index, torch.empty_like(table))
            call()
            took = statistics.median(run.once(call) for _ in range(2 if run.tiny else 9))
            row["take_rows_gbps"] = round(2 * table.nbytes / took / 1e9, 1)


def tests(run: Run) -> None:
    """The laws of ops, kernels and layers on the device, shared out to some processes."""
    need("pytest")
    need("hypothesis")
    count = 1 if run.tiny else max(1, min(8, (os.cpu_count() or 2) // 2))
    run.tell(f"pytest in {count} processes")
    words = [sys.executable, "-m", "pytest", *(TINY_TESTS if run.tiny else TESTS)]
    # a warning of a driver or of another torch is no broken law
    words += ["-vv", "-p", "no:cacheprovider", "--tb=short", "-W", "default"]
    processes = []
    for number in range(1, count + 1):
        log = run.out / f"tests-{number}.txt"
        given = {
            "GRAPHKIT_TEST_DEVICE": run.device.type,
            "GRAPHKIT_TEST_SHARE": f"{number}/{count}",
        }
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                words, cwd=ROOT, env={**os.environ, **given}, stdout=file, stderr=file
            )
        processes.append((process, log))
    while any(process.poll() is None for process, _ in processes) and run.left() > GRACE:
        time.sleep(0.5)
    failed: list[str] = []
    for process, log in processes:
        code = process.poll()
        if code is None:
            process.kill()
            process.wait()
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
        # the summary has reasons, but one that was ended has none
        bad = [line.split(" ")[1] for line in said if line.startswith(("FAILED ", "ERROR "))]
        bad = bad or [line.split(" ")[0] for line in said if "::" in line and " FAILED" in line]
        counts = {
            word.lower(): sum(f" {word} " in f"{line} " and "::" in line for line in said)
            for word in ("PASSED", "SKIPPED")
        }
        run.add(log=log.name, exit_code=code, failed=bad, **counts)
        failed += bad or ([] if code in (0, None) else [f"{log.name}: exit code {code}"])
    if failed:
        raise GraphkitError(f"{len(failed)} tests failed: {', '.join(failed[:5])}")
    if any(row["exit_code"] is None for row in run.rows):
        raise Late("all tests were through")


def beyond(run: Run) -> None:
    """One real case of each op beyond 2**31 elements."""
    if not run.tiny and run.device.type != "cuda":
        raise BackendError("Tensors beyond 2**31 elements are for a GPU. Add --tiny.")
    limit = 2**12 if run.tiny else 2**31
    work = cases.Beyond(run.device, limit)
    for name, (each, call) in work.cases().items():
        run.tell(name)
        with run.recorded(op=name, elements=limit, error=None) as row:
            cases.spare(run.device, each * limit)
            row["error"] = round(worst(call()), 6)
            if not row["error"] <= cases.TOLERANCES["bfloat16"]:
                row |= {"status": "wrong", "reason": "deviates from float64"}
    reason = "torch sorts no more than 2**31 - 1 numbers on a GPU"
    run.add(op="coo_to_csr", elements=limit, error=None, status="absent", reason=reason)


def worst(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    found = max(deviation((got,), (want.double(),)) for got, want in pairs)
    # JSON has no infinity
    return found if found < 1e9 else 1e9


def bits(run: Run) -> None:
    """Every op and its gradients again and again on a skewed graph: the same bits each time."""
    size = (20, 60) if run.tiny else (2**16, 2**20)
    ends, graph = cases.skewed(run.device, *size)
    runs = 2 if run.tiny else RUNS
    dtypes = (torch.float32,) if run.tiny else (torch.float32, torch.bfloat16)
    for dtype in dtypes:
        for name, call in cases.every_call(ends, graph, 2 if run.tiny else 32, dtype).items():
            run.tell(f"{name}, {dtype}")
            with run.recorded(op=name, dtype=str(dtype)[6:], runs=runs, differ=None) as row:
                first = call()
                again = (call() for _ in range(runs - 1))
                row["differ"] = sum(not same(first, other) for other in again)
                if row["differ"]:
                    row |= {"status": "wrong", "reason": "other bits in another run"}


def same(one: Outputs, other: Outputs) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def timings(run: Run) -> None:
    """Ops against peers, correctness first, with the bounds by formula beside every time."""
    run.tell("bandwidth")
    copy = measured_bandwidth(run)["copy_gbps"]
    chosen: list[dict[str, Any]]
    chosen = [dict(zip(cases.NAMES, values, strict=True)) for values in cases.CASES]
    if run.tiny:
        # each op once; torch's product on the CPU has no bfloat16
        wanted = {p["op"]: p for p in reversed(chosen) if p["dtype"] == "float32"}
        chosen = [{**p, "graph": "arxiv", "width": min(8, p["width"])} for p in wanted.values()]
        chosen.sort(key=lambda p: p["op"] != "spmm")
        chosen[0]["passes"] = cases.BOTH
    for params in chosen:
        notes: dict[str, cases.Notes] = {}
        entry = cases.entry_of(params["op"], run.device, run.shrink, notes)
        compete(run, entry, params, notes, copy)


def compete(
    run: Run,
    entry: Entry,
    params: dict[str, Any],
    notes: Mapping[str, cases.Notes],
    copy: float,
) -> None:
    """The contest of one case, as rows."""
    label = " ".join(str(value) for value in params.values())
    run.tell(label)
    # a round of these takes tenths of a second
    heavy = cases.graphs.LARGE.get(params.get("graph", ""), (0, 0))[1] > 2**26
    rounds = 1 if run.tiny else ROUNDS if not heavy or run.left() > BUDGETS["timings"] / 3 else 15
    results = contest(entry, params, rounds, 0 if run.tiny else 3)
    bounds: dict[str, Any] = {}
    if params.get("op") in cases.OPS and any(one.status == "ok" for one in results.values()):
        ends, num_nodes = cases.drawn(params["graph"], run.device, run.shrink)
        least, most = cases.traffic(params, num_nodes, ends.size(1))
        bounds = {
            "bytes_compulsory": least,
            "bytes_no_reuse": most,
            "bound_compulsory_ms": round(least / copy / 1e6, 4),
            "bound_no_reuse_ms": round(most / copy / 1e6, 4),
        }
    for name, result in results.items():
        row = {**params, "contender": name, **figures(result, results[entry.baseline])}
        row |= {"copy_gbps": copy, **bounds}
        if result.status == "ok":
            if bounds:
                row["gbps"] = round(bounds["bytes_no_reuse"] / row["median_ms"] / 1e6, 1)
            kept = notes.get(name)
            if kept is not None and kept.warm:
                row["peak_mb"] = None if kept.peak_mb is None else round(kept.peak_mb, 1)
                row["warm_ms"] = round(1e3 * statistics.median(kept.warm), 4)
        run.add(**row)
    if run.device.type == "cuda":
        torch.cuda.empty_cache()


def figures(mine: Contest, base: Contest) -> dict[str, Any]:
    row: dict[str, Any] = {"status": mine.status, "reason": mine.reason, "error": mine.error}
    if mine.status == "ok":
        times = spread(mine.seconds)
        row |= {"rounds": len(mine.seconds)}
        row |= {f"{k}_ms": round(1e3 * getattr(times, k), 4) for k in ("median", "p10", "p90")}
        if base.status == "ok":
            row["ratio"] = round(ratio(mine.seconds, base.seconds).median, 4)
    return row


def models(run: Run) -> None:
    """Whole layers and steps: the fused epilogue, torch.compile, launches, memory, first call."""
    with tempfile.TemporaryDirectory() as empty:
        # a first call compiles all kernels, wherever they were compiled before
        os.environ["TRITON_CACHE_DIR"] = empty
        with run.recorded(what="first step of GCN, kernels compiled", seconds=None) as row:
            run.tell("first step of GCN")
            step = gcn_step(run, "arxiv", 8 if run.tiny else 256)
            began = time.monotonic()
            step()
            finish(run)
            row["seconds"] = round(time.monotonic() - began, 2)
        for graph in ("arxiv",) if run.tiny else ("arxiv", "products"):
            with run.recorded(what="GCN, 3 x 256, full batch", graph=graph, median_ms=None) as row:
                run.tell(f"GCN on {graph}")
                step = gcn_step(run, graph, 8 if run.tiny else 256)
                step()
                took = [run.once(step) for _ in range(2 if run.tiny else 10)]
                row["median_ms"] = round(1e3 * statistics.median(took), 3)
                row["peak_mb"] = run.memory(step)
        launches(run)
        gatv2_memory(run)
        epilogue(run)


def finish(run: Run) -> None:
    if run.device.type == "cuda":
        torch.cuda.synchronize()


def gcn_step(run: Run, graph: str, width: int) -> Callable[[], None]:
    """Forward, loss and gradients of three layers on the whole graph."""
    shape = (cases.graphs.LARGE[graph][0], width)
    # three results and their gradients, inputs and what the loss takes
    cases.spare(run.device, 4 * (12 * shape[0] // run.shrink) * width)
    built = cases.built(graph, run.device, run.shrink)
    torch.manual_seed(0)
    model = Stack([GCNConv(width, width), GCNConv(width, width), GCNConv(width, 40)])
    model = model.to(run.device)
    x = cases.random((built.num_dst, width), torch.float32, run.device, 0)
    y = torch.arange(built.num_dst, device=run.device) % 40

    def step() -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(x, built), y).backward()

    return step


def launches(run: Run) -> None:
    """Kernels of one step of three SAGE layers on a batch, which is small."""
    with run.recorded(what="kernels of a step of SAGE, 3 layers", kernels=None) as row:
        run.tell("kernels of a step of SAGE")
        ends, graph = cases.skewed(run.device, *((40, 200) if run.tiny else (20_000, 100_000)))
        torch.manual_seed(0)
        model = Stack([SAGEConv(8, 8), SAGEConv(8, 8), SAGEConv(8, 8)]).to(run.device)
        x = cases.random((graph.num_dst, 8), torch.float32, run.device, 0)

        def step() -> None:
            model(x, graph).square().sum().backward()

        step()
        if run.device.type != "cuda":
            raise BackendError("Kernels are counted on a GPU alone.")
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profile:
            step()
            torch.cuda.synchronize()
        found = [e for e in profile.events() or () if e.device_type.name == "CUDA"]
        row["kernels"] = sum(not e.name.startswith(("Memcpy", "Memset")) for e in found)
        row["copies"] = len(found) - row["kernels"]


def gatv2_memory(run: Run) -> None:
    graph = "arxiv" if run.tiny else "products"
    what = "GATv2, 8 heads x 32, forward and gradients"
    with run.recorded(what=what, graph=graph, peak_mb=None) as row:
        run.tell(f"GATv2 on {graph}")
        built = cases.built(graph, run.device, run.shrink)
        width = 8 if run.tiny else 256
        torch.manual_seed(0)
        layer = GATv2Conv(width, width // 8, heads=8).to(run.device)
        x = cases.random((built.num_dst, width), torch.float32, run.device, 0)
        row["peak_mb"] = run.memory(lambda: layer(x, built).square().sum().backward())


def epilogue(run: Run) -> None:
    """A GCN layer's norm, sum, bias and ReLU: as a layer eager and compiled, and by cuSPARSE."""
    width = 8 if run.tiny else 128
    names = ("arxiv",) if run.tiny else ("arxiv", "proteins")
    notes: dict[str, cases.Notes] = {}

    def problem(graph: str, **_: Any) -> cases.Problem:
        ends, num_nodes = cases.drawn(graph, run.device, run.shrink)
        # a layer keeps loops that are there and adds those that are not
        ends = ends[:, ends[0] != ends[1]]
        built = Graph.from_edge_index(ends, num_nodes)
        x = cases.random((num_nodes, width), torch.float32, run.device, 0)
        return cases.Problem(ends, num_nodes, built, [x], None)

    def layer(p: cases.Problem) -> GCNConv:
        torch.manual_seed(0)
        made = GCNConv(width, width).to(run.device)
        nn.init.normal_(made.get_parameter("bias"))
        return made

    def reference(p: cases.Problem) -> Outputs:
        src, dst = p.edge_index
        made = layer(p).double()
        h = p.inputs[0].double() @ made.lin.weight.t()
        scale = (torch.bincount(dst, minlength=p.num_nodes) + 1).double().rsqrt().unsqueeze(1)
        h = h * scale
        out = (cases.sums(src, dst, h, p.num_nodes) + h) * scale + made.get_parameter("bias")
        return (out.relu().detach(),)

    def prepare(name: str, make: Callable[[cases.Problem], Any], p: cases.Problem) -> Prepared:
        function, notes[name] = make(p), cases.Notes()
        call = cases.passes(function, p.inputs, None)
        return cases.timed(call, run.device, notes[name])

    def eager(p: cases.Problem) -> Any:
        made = layer(p)
        return lambda x: made(x, p.graph).relu()

    def compiled(p: cases.Problem) -> Any:
        made = layer(p)
        backend = "aot_eager" if run.tiny else "inductor"
        return torch.compile(lambda x: made(x, p.graph).relu(), fullgraph=True, backend=backend)

    def cusparse(p: cases.Problem) -> Any:
        """The norms are values of the matrix, self-loops are edges: two passes behind it."""
        made = layer(p)
        loop = torch.arange(p.num_nodes, device=run.device).expand(2, -1)
        side = Graph.from_edge_index(torch.cat([p.edge_index, loop], 1), p.num_nodes).by_dst
        scale = side.degree().float().rsqrt()
        value = scale[side.row_ids()] * scale[side.indices.long()]
        size = (p.num_nodes, p.num_nodes)
        adj = torch.sparse_csr_tensor(side.indptr.int(), side.indices, value, size)
        return lambda x: (adj @ (x @ made.lin.weight.t()) + made.bias).relu()

    contenders = {cases.OURS: eager, "graphkit, compiled": compiled, "cuSPARSE, int32": cusparse}
    entry = Entry(
        name="epilogue",
        path=Path(__file__),
        title="GCN layer with ReLU",
        baseline=cases.OURS,
        tests=(),
        # TF32 is off by default
        tolerance=cases.TOLERANCES["float32"],
        contenders={name: partial(prepare, name, make) for name, make in contenders.items()},
        cases=lambda quick: [],
        problem=problem,
        reference=reference,
        bytes_moved=None,
    )
    for graph in names:
        params = {"what": "GCN layer with ReLU", "graph": graph, "width": width}
        compete(run, entry, params, notes, measured_bandwidth(run)["copy_gbps"])


def tuning(run: Run) -> None:
    """Shapes of programs for some classes of rows: the fastest, by the GPU's name."""
    need("triton")
    ranges = triton.load("ranges")
    gpu = torch.cuda.get_device_name() if run.device.type == "cuda" else "cpu"
    best: dict[str, list[int]] = {}
    # what was compiled for one graph serves the next ones
    wanted = [
        (op, graph, dtype, width)
        for op, dtype, width in (
            ("spmm", "float32", 128),
            ("spmm", "bfloat16", 128),
            ("segment_reduce", "float32", 64),
            ("attention", "float32", 128),
        )
        for graph in (("arxiv",) if run.tiny else ("arxiv", "products", "road", "proteins"))
    ]
    try:
        for op, graph, dtype, width in wanted[:1] + wanted[2:] if run.tiny else wanted:
            width = 8 if run.tiny else width
            label = f"{op} {graph} {dtype} {width}"
            run.tell(label)
            row = {"op": op, "graph": graph, "dtype": dtype, "width": width}
            with run.recorded(**row, key=None) as row:
                tune(run, ranges, row, best)
            write(run.out / "shapes.json", {gpu: best})
    finally:
        ranges.tuned.clear()


def tune(run: Run, ranges: Any, row: dict[str, Any], best: dict[str, list[int]]) -> None:
    entry = cases.entry_of(row["op"], run.device, run.shrink, {})
    problem = entry.problem(**{name: row[name] for name in ("graph", "dtype", "width")}, passes="")
    graph, x = problem.graph, problem.inputs[0]
    call = cases.passes(cases.OPS[row["op"]].contenders[cases.OURS](problem), problem.inputs, None)
    channels = x.shape[-1]
    name = {"spmm": "sum", "segment_reduce": "stream"}.get(row["op"], row["op"])
    degree = graph.by_dst.degree().double()
    row |= {"mean_degree": round(float(degree.mean()), 2), "most": int(degree.max())}
    sizes = (channels, x.element_size(), graph.num_dst, graph.num_edges)
    row["key"] = ranges.shape_key(name, *sizes)
    want, tolerance = call(), cases.TOLERANCES[row["dtype"]]
    want = tuple(out.double() for out in want)

    def took(shape: Any) -> float:
        ranges.tuned.clear()
        if shape is not None:
            ranges.tuned[row["key"]] = shape
        # another order of sums is allowed, another result is not
        if not deviation(call(), want) <= tolerance:
            raise GraphkitError(f"{shape} gives another result")
        return statistics.median(run.once(call) for _ in range(2 if run.tiny else 9))

    row["usual_ms"] = round(1e3 * took(None), 4)
    found: dict[str, float] = {}
    refused: dict[str, str] = {}
    for shape in grid(ranges, channels, run.tiny):
        if run.left() <= 0:
            break
        try:
            found[json.dumps(shape)] = round(1e3 * took(ranges.Shape(*shape)), 4)
        except Exception as error:
            # one that takes too many registers or too much shared memory is no candidate
            refused[json.dumps(shape)] = f"{type(error).__name__}: {error}"[:200]
    row |= {"tried": found, "refused": refused}
    if found:
        winner = min(found, key=lambda shape: found[shape])
        row |= {"best": json.loads(winner), "best_ms": found[winner]}
        # within that, the difference is that between two runs
        if found[winner] < 0.97 * row["usual_ms"]:
            best[row["key"]] = json.loads(winner)


def grid(ranges: Any, channels: int, tiny: bool) -> list[list[int]]:
    """Rows, slots, columns and warps: those of the usual shape, one or two of them changed."""
    rows, slots, block, warps = ranges.shape_of(channels)
    found = [
        [rows // 2, slots, block, warps],
        [rows // 2, 2 * slots, block, warps],
        [rows, slots, block, 2 * warps],
        [2 * rows, slots, block, 2 * warps],
        [rows, slots // 2, block, warps],
        [rows // 4, 2 * slots, block, warps // 2],
        [rows // 2, slots, block, warps // 2],
    ]
    found = [shape for shape in found if min(shape) >= 1]
    return found[:1] if tiny else found


def distributed(run: Run) -> None:
    """One process of torchrun: a sum over all, and a step of a layer under DDP."""
    said = run.out / "ddp.json"
    with contextlib.suppress(FileNotFoundError):
        said.unlink()
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    words += [str(Path(__file__).resolve()), "--out", str(run.out), "--device", run.device.type]
    run.tell("torchrun")
    with run.recorded(what="sum over all, and a DDP step") as row:
        done = subprocess.run(
            [*words, "--worker", "ddp"], capture_output=True, text=True, timeout=run.left()
        )
        if done.returncode or not said.exists():
            raise GraphkitError(f"torchrun failed: {(done.stderr.splitlines() or ['?'])[-1]}")
        row |= json.loads(said.read_text(encoding="utf-8"))
        said.unlink()


def ddp(out: Path, device: torch.device) -> None:
    """What ``torchrun`` runs."""
    import torch.distributed as dist

    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        if device.type == "cuda":
            torch.cuda.set_device(0)
        total = torch.arange(4.0, device=device)
        dist.all_reduce(total)
        torch.manual_seed(0)
        layer = GCNConv(8, 4).to(device)
        wrapped = nn.parallel.DistributedDataParallel(layer)
        ends, graph = cases.skewed(device, 40, 200)
        x = cases.random((40, 8), torch.float32, device, 0)
        wrapped(x, graph).square().sum().backward()
        got = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
        layer.zero_grad()
        layer(x, graph).square().sum().backward()
        want = [p.grad for p in layer.parameters() if p.grad is not None]
        if total.tolist() != [0, 1, 2, 3] or not got or not same(tuple(got), tuple(want)):
            raise GraphkitError("one process does not agree with itself")
        write(out / "ddp.json", {"backend": dist.get_backend(), "parameters": len(got)})
    finally:
        dist.destroy_process_group()


def host(run: Run) -> None:
    """Rows of a table in the host's memory: read by the device itself, and by a staged copy."""
    from graphkit.data import HostTable

    notes: dict[str, cases.Notes] = {}
    for width in (8,) if run.tiny else (100, 128, 256):
        rows, taken = (200, 50) if run.tiny else (1_000_000, 200_000)

        def problem(width: int, rows: int, taken: int) -> tuple[Tensor, Tensor]:
            table = cases.random((rows, width), torch.float32, torch.device("cpu"), 0)
            index = torch.randperm(rows, generator=torch.Generator().manual_seed(1))[:taken]
            return table, index.to(run.device)

        def prepare(mode: Any, given: tuple[Tensor, Tensor]) -> Prepared:
            table, index = given
            held = HostTable(table, run.device, mode=mode, pad=mode == "zero_copy")
            notes[mode] = cases.Notes()
            if mode == "zero_copy":
                return cases.timed(lambda: (held.rows(index),), run.device, notes[mode])

            # the host takes part in it, so that its clock counts
            def call() -> Outputs:
                out = held.rows(index)
                finish(run)
                return (out,)

            return Prepared(call)

        entry = Entry(
            name="host",
            path=Path(__file__),
            title="Rows out of the host's memory",
            baseline="zero_copy",
            tests=(),
            tolerance=0.0,
            contenders={mode: partial(prepare, mode) for mode in ("zero_copy", "staged")},
            cases=lambda quick: [],
            problem=problem,
            reference=lambda given: (given[0][given[1].cpu()].double().to(run.device),),
            bytes_moved=None,
        )
        params = {"width": width, "rows": rows, "taken": taken}
        # over the bus a row passes once
        compete(run, entry, params, notes, measured_bandwidth(run)["copy_gbps"])


STAGES: dict[str, Callable[[Run], None]] = {
    "environment": environment,
    "bandwidth": bandwidths,
    "tests": tests,
    "beyond": beyond,
    "bits": bits,
    "timings": timings,
    "models": models,
    "tuning": tuning,
    "distributed": distributed,
    "host": host,
}


# -- targets ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """``passing`` and ``good`` bound what was measured, from above where ``less``."""

    name: str
    passing: float
    good: float
    less: bool
    measure: Callable[[Mapping[str, Any]], float | None]

    def verdict(self, stages: Mapping[str, Any]) -> dict[str, Any]:
        value = self.measure(stages)
        met = None
        if value is not None:
            sign = 1 if self.less else -1
            met = next(
                (
                    w
                    for w, b in (("good", self.good), ("pass", self.passing))
                    if sign * (value - b) <= 0
                ),
                "missed",
            )
        side = "at most" if self.less else "at least"
        return {
            "target": self.name,
            "pass": f"{side} {self.passing:g}",
            "good": f"{side} {self.good:g}",
            "measured": None if value is None else round(value, 3),
            "verdict": met or "not measured",
        }


def rows_of(stages: Mapping[str, Any], stage: str, **wanted: Any) -> list[Mapping[str, Any]]:
    """Rows with figures that have the values ``wanted``."""
    rows = stages.get(stage, {}).get("rows", [])
    return [r for r in rows if all(r.get(k) == v for k, v in {"status": "ok", **wanted}.items())]


def one(stages: Mapping[str, Any], stage: str, key: str, **wanted: Any) -> float | None:
    found = [row[key] for row in rows_of(stages, stage, **wanted) if row.get(key) is not None]
    return found[0] if found else None


def of_bound(stages: Mapping[str, Any], **wanted: Any) -> float | None:
    """The time over that of the no-reuse bound."""
    rows = rows_of(stages, "timings", contender=cases.OURS, **wanted)
    return rows[0]["median_ms"] / rows[0]["bound_no_reuse_ms"] if rows else None


def mean_ratio(stage: str, contender: str, at_least: int, **wanted: Any) -> Callable[[Any], Any]:
    """The geometric mean over graphs of a contender's time over ours."""

    def measure(stages: Mapping[str, Any]) -> float | None:
        rows = rows_of(stages, stage, contender=contender, **wanted)
        found = [row["ratio"] for row in rows if row.get("ratio")]
        return statistics.geometric_mean(found) if len(found) >= at_least else None

    return measure


def seconds_over(divisor: float, key: str, **wanted: Any) -> Callable[[Any], Any]:
    def measure(stages: Mapping[str, Any]) -> float | None:
        value = one(stages, "models", key, **wanted)
        return None if value is None else value / divisor

    return measure


PLAIN = {"op": "spmm", "passes": cases.FORWARD, "width": 128}
SINGLE, HALF = {**PLAIN, "dtype": "float32"}, {**PLAIN, "dtype": "bfloat16"}
PRODUCTS = {"graph": "products"}
STREAM = {"op": "segment_reduce", "graph": "products", "dtype": "float32"}
GCN = "GCN, 3 x 256, full batch"
TARGETS = (
    Target(
        "segment sum of products' edges, float32, share of copy bandwidth",
        *(0.7, 0.85, False),
        lambda stages: (lambda bound: bound and 1 / bound)(of_bound(stages, **STREAM)),
    ),
    Target(
        "spmm float32, products, width 128: time over the no-reuse bound",
        *(21 / 15.1, 1.0, True),
        lambda stages: of_bound(stages, **SINGLE, **PRODUCTS),
    ),
    Target(
        "spmm bfloat16, products, width 128: time over the no-reuse bound",
        *(11 / 7.6, 1.0, True),
        lambda stages: of_bound(stages, **HALF, **PRODUCTS),
    ),
    Target(
        "spmm float32 against cached cuSPARSE, geometric mean of six graphs",
        *(0.9, 1.1, False),
        mean_ratio("timings", "cuSPARSE, int32 CSR", 6, **SINGLE),
    ),
    Target(
        "norm, bias and ReLU fused, against cuSPARSE",
        *(1.2, 1.5, False),
        mean_ratio("models", "cuSPARSE, int32", 1),
    ),
    Target(
        "spmm against PyG's scatter, geometric mean",
        *(3, 6, False),
        mean_ratio("timings", "PyG scatter, edge_index", 1, **SINGLE),
    ),
    Target(
        "GATv2, 8 heads x 32, products: peak memory in GB",
        *(80, 20, True),
        seconds_over(1e3, "peak_mb", what="GATv2, 8 heads x 32, forward and gradients", **PRODUCTS),
    ),
    Target(
        "kernels of a step of SAGE, 3 layers",
        *(150, 40, True),
        seconds_over(1, "kernels", what="kernels of a step of SAGE, 3 layers"),
    ),
    Target(
        "products, full-batch GCN (3 x 256), epoch in s",
        *(0.6, 0.25, True),
        seconds_over(1e3, "median_ms", what=GCN, **PRODUCTS),
    ),
    Target(
        "arxiv, full-batch GCN (3 x 256), epoch in ms",
        *(15, 6, True),
        seconds_over(1, "median_ms", what=GCN, graph="arxiv"),
    ),
    Target(
        "first step of GCN, kernels compiled, in s",
        *(60, 15, True),
        seconds_over(1, "seconds", what="first step of GCN, kernels compiled"),
    ),
    Target(
        "sums of edges: ours over atomics, width 64 (determinism tax)",
        *(1.2, 1.05, True),
        lambda stages: (lambda r: r and 1 / r)(
            one(stages, "timings", "ratio", contender="torch index_add", **STREAM)
        ),
    ),
)


# -- the run ---------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ConfigError(f"{message}. See python benchmarks/gpu_suite.py --help.")


def options_of(argv: Sequence[str] | None) -> argparse.Namespace:
    summary = (__doc__ or "").splitlines()[0]
    parser = _Parser(allow_abbrev=False, prog="gpu_suite.py", description=summary)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for all results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="[cuda]")
    parser.add_argument("--tiny", action="store_true", help="sizes that the interpreter can do")
    parser.add_argument("--stages", metavar="A,B", help=f"of {', '.join(STAGES)} [all]")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="S", help=f"[{LIMIT}]")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.chosen = list(STAGES)
    if options.stages:
        options.chosen = options.stages.split(",")
        for name in options.chosen:
            if name not in STAGES:
                raise ConfigError(f"--stages: unknown stage {name!r}. {nearest(name, STAGES)}")
    if options.device == "cpu" and not options.tiny and options.worker is None:
        raise ConfigError("--device cpu is for trying the suite: add --tiny.")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; 0, or 1 if a stage failed.

    Raises:
        ConfigError: wrong use.
        BackendError: there is no GPU.
        StoreError: the results cannot be written.
    """
    options = options_of(argv)
    device = torch.device(options.device)
    if options.worker == "ddp":
        prepare(device)
        ddp(options.out, device)
        return 0
    if options.worker:
        return work(options, device)
    # asked without starting CUDA here: each stage does so in a process of its own
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendError("There is no CUDA device. To try the suite itself: --device cpu --tiny.")
    began = time.monotonic()
    results: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/gpu_suite.py", *told(options)]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "stages": {},
    }
    path = options.out / "results.json"
    if options.stages and path.exists():
        # what is repeated takes the place of what was there
        results["stages"] = json.loads(path.read_text(encoding="utf-8"))["stages"]
    write(path, results)
    with contextlib.ExitStack() as stack:
        # where nothing is timed in earnest, two at a time
        pool = stack.enter_context(ThreadPoolExecutor(2)) if options.tiny else None
        each = (map if pool is None else pool.map)(partial(child, options, began), options.chosen)
        for name, found in zip(options.chosen, each, strict=True):
            results["stages"][name] = found
            results["seconds"] = round(time.monotonic() - began, 1)
            # tiny sizes measure nothing
            measured = {} if options.tiny else results["stages"]
            results["targets"] = [target.verdict(measured) for target in TARGETS]
            write(path, results)
            # a stage's rows are in the results now
            with contextlib.suppress(FileNotFoundError):
                (options.out / f"{name}.json").unlink()
    conclude(options, results, path)
    return int(any(is_bad(stage) for stage in results["stages"].values()))


def is_bad(stage: Mapping[str, Any]) -> bool:
    """Whether the stage, or what in it is ours, went wrong; a peer may fail."""
    mine = [row for row in stage["rows"] if "graphkit" in row.get("contender", "graphkit")]
    bad = [row for row in mine if row.get("status") in ("failed", "wrong")]
    return stage["status"] in ("failed", "ended") or bool(bad)


def told(options: argparse.Namespace) -> list[str]:
    words = ["--out", "DIR", "--device", options.device]
    words += ["--tiny"] if options.tiny else []
    return words + (["--stages", options.stages] if options.stages else [])


def child(options: argparse.Namespace, began: float, name: str) -> dict[str, Any]:
    """One stage in a process of its own: an error of CUDA's, or a kernel that never ends, is the
    end of that process and of nothing else."""
    so_far = time.monotonic() - began
    print(f"{name} ({so_far:.0f} s so far)", flush=True)
    budget = min(BUDGETS[name], options.limit - so_far)
    if budget <= GRACE / 2:
        return {"status": "no time", "reason": "the limit was reached before", "rows": []}
    words = [sys.executable, str(Path(__file__).resolve()), "--out", str(options.out)]
    words += ["--device", options.device, "--worker", name, "--limit", str(budget)]
    words += ["--tiny"] if options.tiny else []
    variables = dict(os.environ)
    if options.device == "cpu":
        variables |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    # a group of its own, so that what it started ends with it
    process = subprocess.Popen(words, env=variables, start_new_session=True)
    found: dict[str, Any] = {"status": "ended", "reason": None, "rows": []}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        code = process.wait(budget + GRACE)
        found["reason"] = f"exit code {code}"
    except subprocess.TimeoutExpired:
        found["reason"] = f"no end after {budget + GRACE:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with contextlib.suppress(FileNotFoundError):
        said = json.loads((options.out / f"{name}.json").read_text(encoding="utf-8"))
        found = {**said, **found} | {"rows": said["rows"]} if said["status"] == "running" else said
    return {**found, "started": at}


def prepare(device: torch.device) -> None:
    """On the CPU the kernels for GPUs serve, under triton's interpreter."""
    if device.type == "cuda":
        return
    if os.environ.get("TRITON_INTERPRET") == "1" and triton.present():
        for op, *_ in triton.KERNELS:
            op.register_kernel("cpu")(op._backend_fns["cuda"])


def work(options: argparse.Namespace, device: torch.device) -> int:
    name, until = options.worker, time.monotonic() + options.limit
    run = Run(name, options.out, device, options.tiny, until)
    run.save("running", None)
    try:
        prepare(device)
        STAGES[name](run)
        run.save("done", None)
    except Late as error:
        run.save("cut short", f"no time left {error}")
    except BackendError as error:
        run.save("absent", str(error))
    except Exception as error:
        traceback.print_exc()
        run.save("failed", f"{type(error).__name__}: {error}")
        return 1
    return 0


def conclude(options: argparse.Namespace, results: Mapping[str, Any], path: Path) -> None:
    print(f"\n{len(options.chosen)} stages in {results['seconds']:.0f} s")
    for name, stage in results["stages"].items():
        bad = [row for row in stage["rows"] if row.get("status") in ("failed", "wrong")]
        text = f"  {name:12} {stage['status']:9} {len(stage['rows'])} rows"
        print(text + (f", {len(bad)} failed or wrong" if bad else ""))
        for reason in filter(None, [stage["reason"], *(row["reason"] for row in bad)]):
            print(f"    {reason[:300]}")
    for row in results["targets"]:
        value = "" if row["measured"] is None else f"{row['measured']:g} "
        print(f"  {row['verdict']:12} {row['target']}: {value}(pass {row['pass']})")
    shapes = path.with_name("shapes.json")
    print(f"Results: {os.path.relpath(path)}")
    if shapes.exists():
        print(
            f'Shapes: {os.path.relpath(shapes)}; graphkit.ops.triton.use_shapes("...") takes them.'
        )
    missing = [n for n, s in results["stages"].items() if s["status"] not in ("done", "absent")]
    again = f" --stages {','.join(missing)}" if missing else ""
    what = "see the reasons above, then repeat" if missing else "commit the results, or repeat"
    print(f"Next: {what}: python benchmarks/gpu_suite.py --out DIR{again}")


if __name__ == "__main__":
    sys.exit(exit_code(main, "stages"))
