"""The benchmark harness: statistics, interleaving, refusal of what is wrong, rows, entries."""

from __future__ import annotations

import json
import re
import runpy
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import machine, memory, run, show
from benchmarks.bandwidth import bandwidth
from benchmarks.entry import Entry, Prepared, read
from benchmarks.measure import Contest, contest, deviation, order, ratio, spread
from graphkit.errors import BackendError, ConfigError, GraphkitError, StoreError

ROOT = Path(__file__).parent.parent
SECONDS = st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30)


# -- statistics ------------------------------------------------------------------------------------


def test_spread_of_known_values() -> None:
    got = spread([11.0, *range(1, 11)])
    assert (got.p10, got.median, got.p90) == (2.0, 6.0, 10.0)


@given(SECONDS)
def test_spread_is_that_of_the_standard_library(values: list[float]) -> None:
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    got = spread(values)
    assert [got.p10, got.median, got.p90] == pytest.approx([deciles[0], deciles[4], deciles[8]])


def test_the_ratio_is_of_medians_and_its_percentiles_are_of_rounds() -> None:
    got = ratio([2.0, 6.0, 30.0], [1.0, 2.0, 10.0])
    assert got.median == 3.0
    assert (got.p10, got.p90) == pytest.approx((2.2, 3.0))


@given(SECONDS, st.floats(0.01, 100))
def test_a_slow_round_does_not_move_the_ratio(baseline: list[float], times: float) -> None:
    got = ratio([times * value for value in baseline], baseline)
    assert [got.median, got.p10, got.p90] == pytest.approx([times] * 3)


def test_each_round_begins_one_further_on() -> None:
    rounds = [order("ABC", number) for number in range(4)]
    assert ["".join(names) for names in rounds] == ["ABC", "BCA", "CAB", "ABC"]


def test_deviation() -> None:
    want = (torch.tensor([3.0, -4.0], dtype=torch.float64),)
    assert deviation((torch.tensor([3.0, -4.0]),), want) == 0
    assert deviation((torch.tensor([3.0, -3.0]),), want) == 0.25
    for wrong in ((), (torch.zeros(3),), (torch.tensor([3.0, torch.nan]),), (want[0], want[0])):
        assert deviation(wrong, want) == float("inf")


# -- contests --------------------------------------------------------------------------------------


def entry(**contenders: Any) -> Entry:
    """An entry that doubles ``x``; ``base`` does it right."""

    def base(x: torch.Tensor) -> Any:
        return lambda: (2 * x,)

    return Entry(
        name="double",
        path=Path("double.py"),
        title="Twice x",
        baseline="base",
        tests=(),
        tolerance=1e-6,
        contenders={"base": base, **contenders},
        cases=lambda quick: [{"size": 3}],
        problem=lambda size: torch.arange(1.0, size + 1),
        reference=lambda x: (2 * x.double(),),
        bytes_moved=lambda size: 8_000_000 * size,
    )


def test_rounds_are_interleaved_after_one_check_of_each() -> None:
    log: list[str] = []

    def noting(name: str) -> Any:
        return lambda x: lambda: (log.append(name), (2 * x,))[1]

    results = contest(entry(base=noting("A"), b=noting("B"), c=noting("C")), {"size": 3}, 3, 1)
    assert "".join(log) == "ABC" + "ABC" + "BCA" + "CAB" + "ABC"
    assert all(len(result.seconds) == 3 for result in results.values())


def later_wrong(x: torch.Tensor) -> Any:
    calls: list[int] = []

    def call() -> Any:
        calls.append(1)
        return (2 * x,) if len(calls) < 4 else (2.1 * x,)

    return call


def fails_later(x: torch.Tensor) -> Any:
    calls: list[int] = []

    def call() -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of luck\nat length")
        return (2 * x,)

    return call


def absent(x: torch.Tensor) -> Any:
    raise BackendError("This needs the package 'x'.")


@pytest.mark.parametrize(
    ("prepare", "status", "reason"),
    [
        (lambda x: lambda: (2.1 * x,), "wrong", "off by 5.0e-02 of the largest value, 1e-06"),
        (lambda x: lambda: (x / 0,), "wrong", "off by inf"),
        (lambda x: lambda: (2 * x, x), "wrong", "off by inf"),
        (later_wrong, "wrong", "off by 5.0e-02"),
        (fails_later, "failed", "RuntimeError: out of luck"),
        (lambda x: x.nothing, "failed", "AttributeError: .*nothing"),
        (absent, "absent", "This needs the package 'x'."),
    ],
)
def test_who_is_wrong_fails_or_is_absent_has_no_figure(
    prepare: Any, status: str, reason: str
) -> None:
    arena = entry(other=prepare)
    results = contest(arena, {"size": 3}, rounds=3, warmup=0)
    assert results["base"].status == "ok" and len(results["base"].seconds) == 3
    assert results["other"].status == status and results["other"].seconds == []
    row = run.figures(arena, {"size": 3}, "other", results)
    assert row["status"] == status and row["rounds"] == 0
    with_figure = ("median_ms", "p10_ms", "p90_ms", "gbps", "ratio", "ratio_p10", "ratio_p90")
    assert [row[name] for name in with_figure] == [None] * 7
    assert re.search(reason, row["reason"])


def test_figures_of_known_times() -> None:
    results = {
        "base": Contest(seconds=[0.001, 0.002, 0.010], error=0.0),
        "other": Contest(seconds=[0.002, 0.006, 0.030], error=1e-9),
    }
    row = run.figures(entry(other=absent), {"size": 3}, "other", results)
    assert (row["median_ms"], row["p10_ms"], row["p90_ms"]) == (6.0, 2.8, 25.2)
    assert (row["ratio"], row["ratio_p10"], row["ratio_p90"]) == (3.0, 2.2, 3.0)
    assert (row["gbps"], row["rounds"], row["baseline"]) == (4.0, 3, "base")
    results["base"].stop("wrong", "off")
    row = run.figures(entry(other=absent), {"size": 3}, "other", results)
    assert row["median_ms"] == 6.0 and row["ratio"] is None


def test_the_check_of_a_contender_stands_in_for_its_call() -> None:
    """Chance decides what the call returns; what is compared is the check, before and after."""
    log: list[str] = []

    def prepared(*factors: float) -> Any:
        left = iter(factors)

        def ready(x: torch.Tensor) -> Prepared:
            return Prepared(lambda: (log.append("call"), (x,))[1], lambda: (next(left) * x,))

        return ready

    results = contest(
        entry(base=prepared(2, 2), b=prepared(3), c=prepared(2, 3)), {"size": 3}, 2, 0
    )
    assert [result.status for result in results.values()] == ["ok", "wrong", "wrong"]
    assert len(log) == 3 + 2 * 2


def test_a_contender_may_have_a_reference_of_its_own() -> None:
    nothing = Prepared(lambda: (), want=())
    assert contest(entry(b=lambda x: nothing), {"size": 3}, 1, 0)["b"].status == "ok"
    something = Prepared(lambda: (torch.zeros(1),), want=())
    assert contest(entry(b=lambda x: something), {"size": 3}, 1, 0)["b"].status == "wrong"


def test_a_contender_of_another_process_tells_its_time_and_is_closed() -> None:
    log: list[str] = []

    def elsewhere(x: torch.Tensor) -> Prepared:
        return Prepared(
            lambda: (),
            check=lambda: (2 * x,),
            seconds=lambda: 7.0,
            about={"dgl": "2"},
            close=lambda: log.append("closed"),
        )

    results = contest(entry(b=elsewhere), {"size": 3}, rounds=3, warmup=0)
    assert results["b"].seconds == [7.0] * 3 and log == ["closed"]
    row = run.figures(entry(b=elsewhere), {"size": 3}, "b", results)
    assert row["process"] == {"dgl": "2"} and row["median_ms"] == 7000
    assert run.figures(entry(b=elsewhere), {"size": 3}, "base", results)["process"] is None
    line = "b ran in turn with the others in a process of its own: dgl 2."
    assert show.processes([{**row, "contender": "b"}]) == [line]
    faster = {"process": {"dgl": "2", "gather_512b_gbps": 30}, "gather_512b_gbps": 20, "ratio": 2.0}
    line = f"{line[:-1]}, gather 512b gbps 30. By the bandwidth of gathers its ratios are 3.00x."
    assert show.processes([{**row, **faster, "contender": "b"}]) == [line]


def test_a_case_has_its_own_entrants_and_tolerance() -> None:
    made = replace(
        entry(b=lambda x: lambda: (2.1 * x,), c=absent),
        entrants=lambda size: ["b", "base"] if size > 1 else ["base"],
        tolerance=lambda size: 1e-6 if size > 3 else 0.1,
    )
    assert list(contest(made, {"size": 1}, 1, 0)) == ["base"]
    for size, status in ((2, "ok"), (4, "wrong")):
        results = contest(made, {"size": size}, 1, 0)
        assert list(results) == ["base", "b"] and results["b"].status == status


def test_a_problem_that_cannot_be_posed_is_absent_for_all() -> None:
    def nowhere(size: int) -> torch.Tensor:
        raise BackendError("No data here.")

    made = replace(entry(), problem=nowhere)
    results = contest(made, {"size": 3}, rounds=1, warmup=0)
    assert [(one.status, one.reason) for one in results.values()] == [("absent", "No data here.")]
    assert run.figures(made, {"size": 3}, "base", results)["gbps"] is None


# -- a whole run -----------------------------------------------------------------------------------

FILE = """
from __future__ import annotations

import torch

from graphkit import cli
from graphkit.errors import BackendError

TITLE, BASELINE, TOLERANCE = "Ones", "torch", 1e-6
TESTS = ({tests!r},)


def cases(quick):
    sizes = (1_000,) if quick else (1_000_000, 10_000_000)
    return [dict(kind="ones", wide=wide, size=size) for wide in (True, False) for size in sizes]


def problem(kind, wide, size):
    return torch.zeros(size)


def reference(x):
    return (torch.ones(len(x), dtype=torch.float64),)


def missing(x):
    raise BackendError("This needs the package 'nothing'.")


CONTENDERS = {{
    "torch": lambda x: lambda: (x + 1,),
    "twice": lambda x: lambda: (x + 2,),
    "missing": missing,
}}
"""
FIELDS = [
    "benchmark", "run", "command", "quick", "load_start", "machine", "tests", "copy_gbps",
    "gather_512b_gbps", "others_cores", "load_end", "case", "contender", "process", "status",
    "reason", "error", "rounds", "median_ms", "p10_ms", "p90_ms", "gbps", "baseline", "ratio",
    "ratio_p10", "ratio_p90", "peak_mb", "call_mb", "beside_mb",
]  # fmt: skip


@pytest.fixture
def ones(tmp_path: Path) -> Path:
    """The path of a small benchmark whose tests are one green test."""
    (tmp_path / "test_green.py").write_text("def test_green():\n    pass\n")
    (tmp_path / "ones.py").write_text(FILE.format(tests=str(tmp_path / "test_green.py")))
    return tmp_path / "ones.py"


def test_a_run_writes_rows_table_and_plot(ones: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = ones.parent / "rows.jsonl", ones.parent / "plot.svg"
    words = ["--rounds", "2", "--threads", "1", "--out", str(out), "--plot", str(plot)]
    before = torch.get_num_threads()
    assert run.main([str(ones), *words, "--json"]) == 1
    assert torch.get_num_threads() == before
    said = capsys.readouterr()
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [json.loads(line) for line in said.out.splitlines()] == rows
    assert len(rows) == 4 * 3 and all(list(row) == FIELDS for row in rows)
    assert {row["contender"]: row["status"] for row in rows} == {
        "torch": "ok", "twice": "wrong", "missing": "absent",
    }  # fmt: skip
    assert rows[0]["command"] == "python benchmarks/run.py ones --threads 1 --rounds 2"
    assert (rows[0]["tests"], rows[0]["rounds"], rows[0]["ratio"]) == ("passed", 2, 1.0)
    assert rows[0]["machine"]["threads"] == 1 and rows[0]["machine"]["torch"] == torch.__version__
    assert {"commit", "cpu", "cores", "allocator", "huge_pages", "pools"} < set(rows[0]["machine"])
    assert rows[0]["copy_gbps"] > 0 and rows[0]["gather_512b_gbps"] > 0
    if rows[0]["call_mb"] is not None:
        # x + 1 makes one tensor
        assert rows[0]["call_mb"] == pytest.approx(4, abs=3)
        assert rows[3]["call_mb"] == pytest.approx(40, abs=3)
        # and keeps nothing beside it
        assert rows[3]["beside_mb"] == pytest.approx(40, abs=4)
    assert rows[-1]["peak_mb"] is None and "'nothing'" in rows[-1]["reason"]
    for part in ("ones, wide", "size 1000000", "wrong", "Next: commit the rows."):
        assert part in said.err
    assert "missing: absent in 4 cases. This needs the package 'nothing'." in said.err
    assert "<svg" in plot.read_text(encoding="utf-8")


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes for peaks: each takes seconds to start."""
    monkeypatch.setattr(
        memory, "peaks", lambda entry, name, cases, threads: [memory.NONE] * len(cases)
    )


@pytest.mark.usefixtures("no_memory")
def test_red_tests_stop_a_run_before_anything_is_written(ones: Path) -> None:
    green = ones.with_name("test_green.py")
    green.write_text("def test_red():\n    assert 1 == 2\n")
    out = ones.with_name("rows.jsonl")
    with pytest.raises(GraphkitError, match=r"'ones' are not green .exit code 1.*FAILED.*test_red"):
        run.main([str(ones), "--out", str(out)])
    assert not out.exists()
    green.write_text("")
    with pytest.raises(GraphkitError, match="exit code 5.*no test ran"):
        run.run_tests(read(ones))


@pytest.mark.usefixtures("no_memory")
def test_skipped_tests_are_noted(ones: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ones.with_name("rows.jsonl")
    assert run.main([str(ones), "--quick", "--skip-tests", "--out", str(out)]) == 1
    row = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    assert row["tests"] == "skipped by --skip-tests" and "--skip-tests" in row["command"]
    assert row["quick"] is True
    assert "tests skipped by --skip-tests" in capsys.readouterr().out


def test_skipped_memory_is_null(ones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peaks", lambda *_: pytest.fail("memory was watched"))
    out = ones.with_name("rows.jsonl")
    run.main([str(ones), "--quick", "--skip-tests", "--skip-memory", "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert rows and all(row["peak_mb"] is None and row["call_mb"] is None for row in rows)
    assert "--skip-memory" in rows[0]["command"]


def test_a_plot_of_the_same_figures_is_the_same_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.svg", "b.svg"):
        assert run.main(["spmm", "--redraw", "--plot", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    said = capsys.readouterr().out
    assert "EdgeIndex" in said and "Plot of the run of 20" in said


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["spm"], ConfigError, "Unknown benchmark 'spm'. Did you mean 'spmm'"),
        ([], ConfigError, "Unknown benchmark ''. Known: .*spmm"),
        (["spmm", "--rounds", "0"], ConfigError, "--rounds.*'0' is not a whole number above 0"),
        (["spmm", "--dgl"], ConfigError, "argument --dgl: expected one argument"),
        (["spmm", "--only", "wid=3"], ConfigError, "no case has 'wid'. Did you mean 'width'"),
        (["spmm", "--only", "width=3"], ConfigError, "fits no case: width is 128, 16, 256, 32, 64"),
        (["spmm", "--redraw"], ConfigError, "--redraw needs a file .*Add --plot FILE"),
        (["spmm", "--redraw", "--plot", "x.svg", "--out", "no"], StoreError, "no cannot be read"),
        (["spmm", "--fast"], ConfigError, "unrecognized arguments: --fast.*--help"),
        (["spmm", "--out", "no/x.jsonl"], StoreError, "no/x.jsonl cannot be written: its folder"),
        (["spmm", "--plot", "no/x.svg"], StoreError, "no/x.svg cannot be written: its folder"),
    ],
)
def test_wrong_use(
    words: list[str],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        run.main(words)


def test_an_entry_must_be_whole(ones: Path) -> None:
    text = ones.read_text(encoding="utf-8")
    ones.write_text(text.replace("def reference", "def other").replace("TITLE, ", "X, "))
    with pytest.raises(ConfigError, match="ones.py lacks TITLE, reference. .*README.md"):
        read(ones)
    ones.write_text(text.replace('"torch", 1e-6', '"torhc", 1e-6'))
    with pytest.raises(ConfigError, match="baseline 'torhc', which is none.*Did you mean 'torch'"):
        read(ones)


def test_the_entry_in_the_readme_runs(tmp_path: Path) -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "add.py").write_text(text.split("```python\n")[1].split("```")[0])
    example = read(tmp_path / "add.py")
    results = contest(example, example.cases(True)[0], rounds=1, warmup=0)
    assert [result.status for result in results.values()] == ["ok", "ok"]
    assert example.bytes_moved is not None and example.bytes_moved(size=2) == 16


def test_the_script_can_be_called_from_a_command_line() -> None:
    """As ``graphkit bench`` does it."""
    with pytest.raises(ConfigError, match="Unknown benchmark 'nope'"):
        runpy.run_path(str(ROOT / "benchmarks" / "run.py"))["main"](["nope"])


# -- the machine -----------------------------------------------------------------------------------


def test_allocator_names_settings_without_places() -> None:
    assert machine.allocator({"HOME": "/root", "OMP_NUM_THREADS": "2"}) == "stock"
    assert machine.allocator({"THP_MEM_ALLOC_ENABLE": "0"}) == "stock"
    assert machine.allocator({"THP_MEM_ALLOC_ENABLE": "1"}) == "THP_MEM_ALLOC_ENABLE=1"
    variables = {"MALLOC_ARENA_MAX": "1", "LD_PRELOAD": "/a/libx.so.2:/b/liby.so"}
    assert machine.allocator(variables) == "LD_PRELOAD=libx.so.2:liby.so MALLOC_ARENA_MAX=1"


def test_own_work_is_not_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([(10.0, 100.0, 5.0), (14.0, 107.0, 9.0)])
    monkeypatch.setattr(machine.Others, "_now", lambda self: next(moments))
    assert machine.Others().cores() == 0.75


def test_bandwidth_is_that_of_reads_and_writes() -> None:
    assert all(value > 0 for value in bandwidth().values())


# -- memory ----------------------------------------------------------------------------------------


def test_figures_of_memory_go_on_behind_a_case_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ones.py").write_text(FILE.format(tests=""))
    cases = [{"kind": "ones", "wide": True, "size": size} for size in (-1, 1000)]
    words = [str(tmp_path / "ones.py"), "torch", "1", json.dumps(cases)]
    monkeypatch.setattr(sys, "argv", ["memory", *words])
    before = torch.get_num_threads()
    try:
        memory.main()
    finally:
        torch.set_num_threads(before)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == memory.NONE and set(second) == set(first)


def test_what_a_contender_does_not_hold_of_its_problem_is_not_in_its_peak() -> None:
    size = 64 * 2**20

    def problem(size: int) -> list[torch.Tensor]:
        return [torch.ones(size, dtype=torch.uint8), torch.ones(3)]

    def light(x: list[torch.Tensor]) -> Any:
        return lambda small=x[1]: (2 * small,)

    def heavy(x: list[torch.Tensor]) -> Any:
        return lambda: (2 * x[1],)

    of = replace(entry(light=light, heavy=heavy), problem=problem)
    small, large = (memory.observed(of, name, {"size": size}) for name in ("light", "heavy"))
    if small["peak_mb"] is None or large["peak_mb"] is None:
        pytest.skip("no peak can be reset here")
    assert 55 < large["peak_mb"] - small["peak_mb"] < 80
    # beside the data that are still held there is nothing
    assert small["beside_mb"] is not None and small["beside_mb"] < 10


def test_committed_rows_have_the_stated_fields() -> None:
    rows = show.last_run(ROOT / "benchmarks" / "results" / "spmm.jsonl")
    # what rows of older runs lack
    new = {"process", "beside_mb"}
    assert rows and all(list(row) == [name for name in FIELDS if name in row] for row in rows)
    assert all(set(FIELDS) - set(row) <= new for row in rows)
    assert {row["status"] for row in rows} <= {"ok", "absent"}
    # or left out on purpose, which the rows then say
    assert all(row["tests"] in ("passed", "skipped by --skip-tests") for row in rows)
