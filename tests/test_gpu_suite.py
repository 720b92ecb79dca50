"""The suite for a GPU, end to end on the CPU, and what it does where a stage goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_cases, gpu_suite, graphs
from graphkit.errors import BackendError, ConfigError, need

ROOT = Path(__file__).parent.parent
CPU = ["--device", "cpu", "--tiny"]


def run(out: Path, *words: str) -> dict[str, Any]:
    code = gpu_suite.main(["--out", str(out), *CPU, *words])
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    found["code"] = code
    return found


def test_the_whole_suite_under_the_interpreter(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    # of a GPU's time; a machine that is busy takes longer over the interpreter
    monkeypatch.setattr(gpu_suite, "BUDGETS", dict.fromkeys(gpu_suite.STAGES, 400))
    found = run(tmp_path)
    stages = found["stages"]
    assert list(stages) == list(gpu_suite.STAGES) and found["code"] == 0
    for name, stage in stages.items():
        assert (stage["status"], stage["reason"]) == ("done", None), name
        for row in stage["rows"]:
            assert row.get("status", "ok") in ("ok", "absent"), row
    assert stages["tests"]["rows"][0]["passed"] >= 3
    assert {row["op"] for row in stages["timings"]["rows"]} == set(gpu_cases.OPS)
    assert all(row["differ"] == 0 for row in stages["bits"]["rows"])
    assert stages["distributed"]["rows"][0]["backend"] == "gloo"
    # nothing that the interpreter took counts as measured
    assert {row["verdict"] for row in found["targets"]} == {"not measured"}
    assert list(json.loads((tmp_path / "shapes.json").read_text(encoding="utf-8"))) == ["cpu"]
    said = capfd.readouterr().out
    assert "10 stages in" in said and "Next: commit the results" in said
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"results.json", "shapes.json", "tests-1.txt"}


GONE_WRONG = {
    "bandwidth": ("os._exit(7)", "ended", "exit code 7"),
    "beyond": ("time.sleep(60)", "ended", "no end after 9 s"),
    "models": ("run.add(status='wrong', reason='off'); run.add(contender='PyG')", "done", ""),
}


def test_stages_that_go_wrong_keep_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In processes of their own: one may crash, or never end, and the others do not notice."""
    script = tmp_path / "suite.py"
    stages = "".join(
        f"def {name}(run):\n    run.add(n=1); {body}\n" for name, (body, *_) in GONE_WRONG.items()
    )
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import os, time\n"
        "from benchmarks import gpu_suite\n"
        f"{stages}"
        f"gpu_suite.STAGES = {{name: globals()[name] for name in {list(GONE_WRONG)!r}}}\n"
        "sys.exit(gpu_suite.main())\n"
    )
    monkeypatch.setattr(gpu_suite, "__file__", str(script))
    monkeypatch.setattr(gpu_suite, "STAGES", dict.fromkeys(GONE_WRONG))
    monkeypatch.setitem(gpu_suite.BUDGETS, "beyond", 8)
    monkeypatch.setattr(gpu_suite, "GRACE", 1)
    first = run(tmp_path)
    found = first["stages"]
    for name, (_, status, reason) in GONE_WRONG.items():
        stage = found[name]
        assert stage["status"] == status and reason in (stage["reason"] or ""), stage
        assert stage["rows"][0] == {"n": 1}
    said = capfd.readouterr().out
    assert "--stages bandwidth,beyond\n" in said
    assert "models       done      3 rows, 1 failed or wrong" in said
    again = run(tmp_path, "--stages", "models")
    kept = again["stages"]
    assert first["code"] == again["code"] == 1 and list(kept) == list(GONE_WRONG)
    began = {name: (kept[name]["started"], found[name]["started"]) for name in kept}
    assert {name for name, (now, before) in began.items() if now != before} == {"models"}


def fails(run: gpu_suite.Run) -> None:
    raise ValueError("no luck")


def is_late(run: gpu_suite.Run) -> None:
    run.until = 0
    run.tell("more")


@pytest.mark.parametrize(
    ("stage", "code", "status", "reason"),
    [
        (fails, 1, "failed", "ValueError: no luck"),
        (is_late, 0, "cut short", "no time left before more"),
        (lambda run: need("no_such_package"), 0, "absent", "needs the package 'no_such_package'"),
    ],
)
def test_a_stage_that_stops_says_why(
    stage: Any, code: int, status: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gpu_suite.STAGES, "bits", lambda run: (run.add(n=1), stage(run)))
    words = ["--out", str(tmp_path), *CPU, "--worker", "bits", "--limit", "60"]
    assert gpu_suite.main(words) == code
    found = json.loads((tmp_path / "bits.json").read_text(encoding="utf-8"))
    assert found["status"] == status and reason in found["reason"] and found["rows"] == [{"n": 1}]


def test_a_peer_may_fail() -> None:
    def stage(**row: str) -> dict[str, Any]:
        return {"status": "done", "rows": [row]}

    assert gpu_suite.is_bad(stage(status="wrong"))
    assert gpu_suite.is_bad(stage(status="failed", contender="graphkit, compiled"))
    assert not gpu_suite.is_bad(stage(status="failed", contender="PyG EdgeIndex"))
    assert not gpu_suite.is_bad(stage(status="absent"))
    assert gpu_suite.is_bad({"status": "ended", "rows": []})


def test_it_needs_torch_triton_and_numpy_alone() -> None:
    """None in sys.modules is how Python spells a package that cannot be imported."""
    absent = (
        "torch_geometric", "scipy", "sklearn", "pandas", "pyarrow", "rich", "requests", "xxhash",
        "safetensors", "networkx", "ogb", "pymetis", "jsonargparse", "matplotlib", "pytest",
        "hypothesis", "docstring_parser",
    )  # fmt: skip
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from benchmarks import gpu_suite as suite, graphs\n"
        "import torch, pathlib, tempfile, time\n"
        "graphs.on_device('rmat', torch.device('cpu'), 65536)\n"
        "suite.write(pathlib.Path(tempfile.mkdtemp()) / 'x.json', {})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--out", "x", *CPU, "--stages", "bitz"], ConfigError, "'bitz'. Did you mean 'bits'"),
        (["--out", "x", "--device", "cpu"], ConfigError, "--device cpu .*add --tiny"),
        ([], ConfigError, "required: --out.*--help"),
    ],
)
def test_wrong_use(words: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gpu_suite.main(words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_it_says_how_to_try_it(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no CUDA device.*--device cpu --tiny"):
        gpu_suite.main(["--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


# -- the device ------------------------------------------------------------------------------------


def test_the_time_of_a_call_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for CUDA's events: the device waits before the first, the host after the last."""
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("event")

        def synchronize(self) -> None:
            log.append("host waits")

        def elapsed_time(self, other: Any) -> float:
            return 2.5

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: log.append("device waits"))
    call = lambda: log.append("call") or 7  # noqa: E731
    assert gpu_cases.once(call, torch.device("cuda")) == (7, 0.0025)
    assert log == ["device waits", "event", "call", "event", "host waits"]


def test_memory_that_is_short_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10e9, 140e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5e9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3e9)
    gpu_cases.spare(torch.device("cuda"), 12e9)
    with pytest.raises(BackendError, match="about 13 GB of the device's memory, but 12 GB"):
        gpu_cases.spare(torch.device("cuda"), 13e9)


# -- verdicts --------------------------------------------------------------------------------------


def stages(**of_products: float) -> dict[str, Any]:
    plain = {"op": "spmm", "dtype": "float32", "width": 128, "passes": "forward", "status": "ok"}
    rows = [
        {**plain, "graph": name, "contender": contender, "ratio": ratio}
        for name in graphs.LARGE
        for contender, ratio in (("cuSPARSE, int32 CSR", 1.2), ("PyG scatter, edge_index", 4.0))
    ]
    rows.append({**plain, "graph": "products", "contender": "graphkit", **of_products})
    return {"timings": {"rows": rows}}


def test_verdicts_of_known_figures() -> None:
    found = stages(median_ms=12.0, bound_no_reuse_ms=10.0)
    verdicts = {t.name: t.verdict(found) for t in gpu_suite.TARGETS}
    by_word = {name: (one["measured"], one["verdict"]) for name, one in verdicts.items()}
    assert by_word["spmm float32, products, width 128: time over the no-reuse bound"] == (
        *(1.2, "pass"),
    )
    cusparse = "spmm float32 against cached cuSPARSE, geometric mean of six graphs"
    assert by_word[cusparse] == (1.2, "good")
    assert by_word["spmm against PyG's scatter, geometric mean"] == (4.0, "pass")
    # five graphs of six are no mean of six
    found["timings"]["rows"] = [r for r in found["timings"]["rows"] if r["graph"] != "road"]
    others = {t.name: t.verdict(found) for t in gpu_suite.TARGETS}
    assert others[cusparse]["verdict"] == "not measured"
    slow = stages(median_ms=20.0, bound_no_reuse_ms=10.0)
    assert [t.verdict(slow)["verdict"] for t in gpu_suite.TARGETS].count("missed") == 1
    assert {t.verdict({})["verdict"] for t in gpu_suite.TARGETS} == {"not measured"}


def test_bytes_by_formula() -> None:
    """Those of the table in which the bounds for ogbn-products were written down."""
    params = {"op": "spmm", "dtype": "float32", "width": 128, "passes": "forward"}
    least, most = gpu_cases.traffic(params, 2_449_029, 123_718_280)
    assert least / 4.3e12 == pytest.approx(0.70e-3, rel=0.02)
    assert most / 4.3e12 == pytest.approx(15.1e-3, rel=0.01)
    both = gpu_cases.traffic({**params, "passes": "forward+backward"}, 2_449_029, 123_718_280)
    assert both == (2 * least, 2 * most)


@pytest.mark.parametrize("name", graphs.LARGE)
def test_graphs_that_are_drawn_on_a_device(name: str) -> None:
    ends, num_nodes = graphs.on_device(name, torch.device("cpu"), 4096)
    assert ends.dtype == torch.int64 and ends.min() >= 0 and ends.max() < num_nodes
    again, _ = graphs.on_device(name, torch.device("cpu"), 4096)
    assert torch.equal(ends, again)
    degree = torch.bincount(ends[1], minlength=num_nodes)
    if name == "road":
        assert degree.max() == 4 and torch.equal(degree, torch.bincount(ends[0]))
    else:
        assert ends.size(1) == max(64, graphs.LARGE[name][1] // 4096)
        assert degree.max() > 4 * degree.float().mean()
