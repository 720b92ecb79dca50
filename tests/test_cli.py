from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from benchmarks import machine
from graphkit import cli
from graphkit.errors import ConfigError

QUICK = ["--epochs", "4", "--hidden", "16"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAPHKIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def graphkit(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*argv: str) -> tuple[int, str, str]:
        code = cli.main(argv)
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def python(*argv: str) -> subprocess.CompletedProcess[str]:
    """In the checkout, so that it is found where it is not installed."""
    line, root = [sys.executable, *argv], Path(__file__).parents[1]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=root)


def runs() -> list[Path]:
    return sorted(Path("runs").iterdir())


def test_train_alone_trains_the_default(graphkit: Any) -> None:
    code, out, err = graphkit("train", *QUICK)
    assert (code, err) == (0, "")
    assert "digits: 1,797 nodes" in out and "gcn on digits" in out
    assert "repeat:      graphkit train node --hidden 16 --epochs 4\n" in out
    assert f"run folder:  {runs()[0]}\n" in out


def test_json_is_the_only_line_on_standard_output(graphkit: Any) -> None:
    code, out, err = graphkit("train", "--json", "--seeds", "0-1", *QUICK)
    assert code == 0
    assert out.count("\n") == 1
    result = json.loads(out)
    assert list(result) == [
        "task", "data", "model", "metric", "test_mean", "test_std", "val_mean", "seeds",
        "seconds", "peak_mb", "run",
    ]  # fmt: skip
    assert 0 <= result["test_std"] < result["test_mean"] <= 1 and result["seeds"] == [0, 1]
    assert result["peak_mb"] > 50 and Path(result["run"]).is_dir()
    assert "predicted peak memory" in err and "repeat:" in err


def test_a_preset_gives_defaults_that_options_override(graphkit: Any) -> None:
    code, out, _ = graphkit("train", "mlp-digits", "--weight_decay=0.1", "--no-compile", *QUICK)
    assert code == 0
    assert "mlp on digits" in out
    command = "graphkit train mlp-digits --hidden 16 --weight-decay 0.1 --epochs 4"
    assert f"repeat:      {command}\n" in out
    options = json.loads((runs()[0] / "config.json").read_text())["options"]
    assert options["weight_decay"] == 0.1 and options["model"] == "mlp"


def test_the_command_and_the_configuration_repeat_the_run(graphkit: Any) -> None:
    graphkit("train", "--lr", "0.02", "--row-normalize", "--out", "first run", *QUICK)
    config = json.loads(Path("first run/config.json").read_text())
    words = shlex.split(config["command"])
    assert words[:2] == ["graphkit", "train"] and "first run" not in words
    assert graphkit(*words[1:], "--out", "second")[0] == 0
    assert graphkit("train", "--config", "first run/config.json", "--out", "third")[0] == 0
    assert graphkit("train", "--config=first run", "--out", "fourth", "--epochs", "5")[0] == 0
    first, *same, longer = (
        (Path(run) / "metrics.jsonl").read_text()
        for run in ("first run", "second", "third", "fourth")
    )
    assert same == [first, first]
    assert longer.startswith(first) and longer.count("\n") == 5
    one, other = (load_file(f"{run}/weights-seed0.safetensors") for run in ("first run", "third"))
    assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize(
    ("argv", "code", "part"),
    [
        (["trian"], 2, "Unknown command 'trian'. Did you mean 'train'?"),
        (["train", "--epohs", "3"], 2, "Unknown option --epohs. Did you mean --epochs?"),
        (["train", "--zzz"], 2, "Unknown option --zzz. See graphkit train --help."),
        (["predict", "r", "--zzzqqq", "1"], 2, "option --zzzqqq. See graphkit predict --help."),
        (["data", "list", "--zzzqqq"], 2, "option --zzzqqq. See graphkit data list --help."),
        (["predict", "r", "--seed", "abc"], 2, "--seed is 'abc', but a whole number is expected."),
        (["predict", "r", "--seed", "1.5"], 2, "--seed is '1.5', but a whole number is expected."),
        (["train", "--data", ""], 2, "data is '', but the name or the path of a data set is"),
        (["train", "gcn-coar"], 2, "Unknown recipe or preset 'gcn-coar'. Did you mean 'gcn-cora'?"),
        (["train", "--data", "digit"], 2, "Unknown data set 'digit'. Did you mean 'digits'?"),
        (["train", "--model", "sgae"], 2, "Unknown model 'sgae'. Did you mean 'sage'?"),
        (["train", "--hidden", "x"], 2, "--hidden is 'x', but a whole number is expected."),
        (["train", "--lr", "fast"], 2, "--lr is 'fast', but a number is expected."),
        (["train", "--amp", "fp16"], 2, "--amp is 'fp16', but bf16 is expected."),
        (["train", "--select", "best"], 2, "score or loss is expected."),
        (["train", "--seeds", "x"], 2, "seeds is 'x'"),
        (["train", "--dropout", "2"], 2, "dropout is 2.0"),
        (["train", "--out"], 2, "--out"),
        (["train", "--json", "gcn-digits"], 2, "comes right after the word train"),
        (["train", "--device", "cuda:99"], 1, "Device 'cuda:99' is not there"),
        (["train", "--out", "."], 1, "exists already"),
        (["train", "--config", "nowhere"], 1, "nowhere cannot be read"),
        (["train", "node", "--config", "list.json"], 2, "is not the config.json"),
        (["train", "--config", "text.json"], 2, "text.json is not JSON"),
        (["train", "node", "--config", "odd.json"], 2, "only one of them"),
        (["train", "--config", "odd.json"], 2, "epohs"),
        (["train", "--config", "wrong.json"], 2, "--hidden is 'x', but a whole number"),
        (["train", "--config", "own.json"], 2, "Repeat it from Python"),
        (["train", "gcn-cora"], 1, "cora: "),
        (["data"], 2, "unknown action ''"),
        (["data", "lits"], 2, "Did you mean 'list'?"),
        (["data", "info", "coar"], 2, "Did you mean 'cora'?"),
        (["data", "info"], 2, "name"),
        (["info", "more"], 2, "Unknown argument 'more'.\n"),
        (["data", "list", "more"], 2, "Unknown argument 'more'.\n"),
        (
            ["train", "--compile=maybe"],
            2,
            "--compile takes no value, got 'maybe'. Use --compile",
        ),
    ],
)
def test_mistakes_are_one_line(graphkit: Any, argv: list[str], code: int, part: str) -> None:
    Path("list.json").write_text("[1]")
    Path("text.json").write_text("recipe: node")
    for name, options in (
        ("odd", {"epohs": 1}), ("wrong", {"hidden": "x"}), ("own", {"data": "custom"})
    ):  # fmt: skip
        Path(f"{name}.json").write_text(json.dumps({"recipe": "node", "options": options}))
    found, out, err = graphkit(*argv)
    assert (found, out) == (code, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert part in err


def test_a_traceback_on_request(graphkit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHKIT_TRACEBACK", "1")
    with pytest.raises(ConfigError, match="Unknown command"):
        graphkit("trian")


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (KeyboardInterrupt(), 130, "Interrupted"),
        (MemoryError("40 GB"), 1, "Out of memory: 40 GB. Try a smaller --hidden"),
        (RuntimeError("can't allocate memory: 9 bytes"), 1, "Out of memory: can't allocate"),
    ],
)
def test_other_ends(
    graphkit: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, part: str
) -> None:
    def fail(**options: Any) -> None:
        raise error

    monkeypatch.setitem(cli.RECIPES, "node", fail)
    monkeypatch.setattr(cli, "_recipe_parser", lambda target, recipe: cli._Parser("x"))
    monkeypatch.setattr(cli._Parser, "read", lambda self, argv: {"json": False})
    found, out, err = graphkit("train")
    assert (found, out) == (code, "") and err.startswith("error: ") and part in err


def test_help_lists_options_recipes_and_presets(graphkit: Any) -> None:
    code, out, err = graphkit("train", "--help")
    assert (code, err) == (0, "")
    for part in ("--weight-decay X", "[0.0005]", "{score,loss}", "--no-undirected", "gcn-cora"):
        assert part in out
    assert "published 81.5" in out and "Full-batch node classification" in out
    # of a table of many rows, a line for each model
    assert "acmii++-DATA" in out and "acmii-gcn++, table acm: cornell, wisconsin, texas" in out
    assert "--command" not in out
    assert graphkit()[1] == graphkit("--help")[1] != ""


def test_the_help_of_predict_says_what_is_written(graphkit: Any) -> None:
    code, out, err = graphkit("predict", "--help")
    assert (code, err) == (0, "")
    for part in ("--seed N", "source, target, part, label", "the predicted class", "RUN"):
        assert part in out


def test_data_list_and_info(graphkit: Any) -> None:
    code, out, _ = graphkit("data", "list")
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert code == 0
    assert lines["digits"][1:4] == ["node", "1,797", "12.6k"] and lines["digits"][-1] == "yes"
    assert "chameleon-filtered-directed" in lines
    assert lines["cora"][-1] == "no"
    assert f"1 of them here; looked in {Path('cache/graphkit').absolute()}." in out
    table = graphkit("data", "list", "--kind", "graph")[1]
    names = {line.split()[0] for line in table.splitlines() if line.split()}
    assert "mutag" in names and "cora" not in names
    code, _, err = graphkit("data", "list", "--kind", "grpah")
    assert code == 2 and "Did you mean 'graph'" in err
    assert "graphkit data info NAME" in out and "graphkit train --data NAME" in out
    code, out, _ = graphkit("data", "info", "digits")
    assert code == 0 and "12,618" in out and "reciprocal share: 100.0 % of the edges" in out
    assert "informativeness" in out and "what a neighbour's class tells" in out
    assert "graphkit plot homophily digits NAME" in out
    assert "not on this machine" in graphkit("data", "info", "cora", "--root", "none")[1]


def test_own_data_is_trained_on_and_predicted(graphkit: Any) -> None:
    folder = Path("my data")
    folder.mkdir()
    rows = [f"n{i},{i % 3},{(i * 7) % 5},{'abc'[i % 3]}" for i in range(60)]
    (folder / "nodes.csv").write_text("id,x0,x1,y\n" + "\n".join(rows) + "\n")
    edges = [f"n{i},n{(i + 3) % 60}" for i in range(60)]
    (folder / "edges.csv").write_text("source,target\n" + "\n".join(edges) + "\n")
    (folder / "graph.toml").write_text("undirected = true\n")
    words = ["train", "--data", "./my data", "--epochs", "60", "--out", "run"]
    code, out, err = graphkit(*words)
    assert code == 0, err
    assert "60 nodes, 120 edges, 2 features, 3 classes" in out and "gcn on my data" in out
    assert f"--data '{folder.absolute()}'" in out
    assert json.loads(Path("run/result.json").read_text())["test_mean"] > 0.9
    code, out, err = graphkit("predict", "run", "--json")
    assert code == 0 and json.loads(out)["test"] > 0.9 and json.loads(out)["rows"] == 60
    code, _, err = graphkit("train", "--config", "run", "--out", "again")
    assert code == 0, err
    pair = [Path(name, "weights-seed0.safetensors").read_bytes() for name in ("run", "again")]
    assert pair[0] == pair[1]


def test_the_defects_of_a_card_are_told(graphkit: Any) -> None:
    out = graphkit("train", "--epochs", "1")[1]
    assert "known defect: " in out


def test_data_get(graphkit: Any) -> None:
    code, out, _ = graphkit("data", "get", "digits")
    assert code == 0 and "digits is here, checked against its card" in out
    code, _, err = graphkit("data", "get", "ogbn-arxiv", "--root", "none")
    assert code == 1 and err.startswith("error: ogbn-arxiv: ") and err.count("\n") == 1
    assert "arxiv.zip" in err and not Path("none").exists()


def test_bench_runs_the_harness_of_a_checkout(
    graphkit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, _, err = graphkit("bench", "spmn")
    assert code == 2 and "Did you mean 'spmm'" in err
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "graphkit" / "cli.py"))
    code, _, err = graphkit("bench", "spmm")
    assert code == 1 and "Clone the repository" in err


def test_plot_homophily_compares_sets(graphkit: Any) -> None:
    folder = Path("my pages")
    folder.mkdir()
    (folder / "nodes.csv").write_text("id,x0,y\na,1,u\nb,2,v\nc,3,u\nd,4,v\n")
    (folder / "edges.csv").write_text("source,target\na,b\nb,c\nc,d\nd,b\n")
    code, out, err = graphkit("plot", "homophily", "digits", "./my pages", "--out", "both.svg")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["digits", "0.973"] in [line[:2] for line in lines]
    assert ["my", "pages", "0.250"] in [line[:3] for line in lines]
    assert "made undirected" in out and "2 data sets, 8 measures of each." in out
    assert "Plot: both.svg" in out and "graphkit data info NAME" in out
    assert Path("both.svg").read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("argv", "code", "part"),
    [
        (["homophliy"], 2, "unknown picture 'homophliy'. Did you mean 'homophily'"),
        (["homophily"], 2, "the following arguments are required: names"),
        (["homophily", "digitz"], 2, "Unknown data set 'digitz'. Did you mean 'digits'?"),
        (["homophily", "digits", "--oot", "x"], 2, "Unknown option --oot"),
        (["homophily", "digits", "--out", "x.docx"], 1, "x.docx cannot be written"),
        (["homophily", "digits", "--out", "no/such.svg"], 1, "no/such.svg cannot be written"),
    ],
)
def test_plots_that_cannot_be(graphkit: Any, argv: list[str], code: int, part: str) -> None:
    found, out, err = graphkit("plot", *argv)
    assert (found, out) == (code, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and part in err


def test_info_and_version(graphkit: Any) -> None:
    code, out, _ = graphkit("info")
    assert code == 0
    for part in ("torch", "threads", "spmm: cpu"):
        assert part in out
    assert graphkit("--version")[1].startswith("graphkit 0.")


def test_start_up_is_light() -> None:
    code = (
        "import sys; from graphkit.cli import main\n"
        "for argv in ([], ['train', '--help'], ['train', '--epohs', '1']):\n"
        "    main(argv)\n"
        "print(sorted({'torch_geometric', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_m_graphkit() -> None:
    done = python("-W", "error", "-m", "graphkit", "train", "--hiden", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: Unknown option --hiden. Did you mean --hidden?\n"


def test_an_exit_that_is_not_of_help_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(argv: list[str]) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(cli, "_info", leave)
    with pytest.raises(SystemExit):
        cli.main(["info"])


# -- huge pages ------------------------------------------------------------------------------------


def _huge(code: str, **environment: str) -> str:
    others = {k: v for k, v in os.environ.items() if k != cli.HUGE_PAGES}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**others, **environment},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return " ".join(found.stdout.split())


INFO = "import sys; sys.argv = ['graphkit', 'info']; from graphkit import __main__ as m; m.start()"


def test_the_command_line_asks_for_huge_pages_and_threads_that_do_not_spin() -> None:
    """Unless the environment says else; settled before torch is loaded, which reads it then."""
    unset = f"import os; os.environ.pop('OMP_WAIT_POLICY', None); {INFO}"
    found = _huge(unset)
    assert f"asked for by torch ({cli.HUGE_PAGES} = 1)" in found
    assert "passive (OMP_WAIT_POLICY)" in found
    found = _huge(INFO, OMP_WAIT_POLICY="active", **{cli.HUGE_PAGES: "0"})
    assert f"not asked for ({cli.HUGE_PAGES} = 0)" in found
    assert "active (OMP_WAIT_POLICY)" in found


def test_importing_changes_no_variable() -> None:
    code = """
import os, sys
before = dict(os.environ)
import graphkit.__main__
print("torch" in sys.modules)
import graphkit.nn, graphkit.recipes
print(before == dict(os.environ))
"""
    assert _huge(code) == "False True"


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists() or machine.huge_pages() in (None, "never"),
    reason="this system has no huge pages, or does not say how many are in use",
)
def test_torch_gets_them() -> None:
    code = """
import torch
from graphkit import __main__, cli
cli.main = lambda: torch.ones(2**25)
kept = __main__.start()
for line in open("/proc/self/smaps_rollup"):
    if line.startswith("AnonHugePages"):
        print(line.split()[1])
"""
    # of 128 MiB, in KiB
    assert int(_huge(code)) > 2**16
