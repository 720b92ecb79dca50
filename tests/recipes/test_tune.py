"""graphkit tune: ranked by validation alone, and it survives being stopped at any moment."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from graphkit.cli import main
from graphkit.errors import BackendError, ConfigError, StoreError
from graphkit.nn import MLP, MODELS
from graphkit.recipes import PRESETS, Tuned, node, plots, report, runs, study, study_plots, tune

pytest.importorskip("optuna")

ROOT = Path(__file__).parents[2]
SPACE = "lr=1e-3..0.3 log; dropout=0:0.8:0.2"
OPTIONS: dict[str, Any] = dict(model="gcn", seeds="0-2", epochs=8, hidden=8)
Digests = Callable[[str], dict[str, str]]


def nothing(*_: Any, **__: Any) -> None:
    pass


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than these trainings."""
    if "drawn" not in request.fixturenames:
        leave_undrawn(monkeypatch)


def leave_undrawn(patch: pytest.MonkeyPatch) -> None:
    for owner, name in ((plots, "curves"), (study_plots, "history"), (study_plots, "slices")):
        patch.setattr(owner, name, nothing)


def searched(folder: str) -> list[dict[str, Any]]:
    """The trials of a search without their seconds."""
    table = json.loads(Path(folder, "table.json").read_text())
    return [{k: v for k, v in trial.items() if k != "seconds"} for trial in table["trials"]]


def best(folder: str) -> dict[str, Any]:
    kept = json.loads(Path(folder, "table.json").read_text())["best"]
    return {name: value for name, value in kept.items() if name not in ("run", "command")}


def test_the_command_line_searches_and_its_last_word_repeats_the_best(
    drawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "mlp-digits", "--space", "lr=0.001..0.1 log; hidden=8,16", "--trials", "4"]
    assert main([*words, "--seeds", "0-1", "--epochs", "4", "--out", "found", "--json"]) == 0
    out, err = capsys.readouterr()
    told, table = json.loads(out), json.loads(Path("found/table.json").read_text())
    assert out.count("\n") == 1 and told["trials"] == {"complete": 4, "pruned": 0, "failed": 0}
    assert "mlp on digits, 2 seeds in each trial, ranked by validation accuracy" in err
    assert "  lr = 0.001..0.1 log\n  hidden = 8, 16\n" in err
    assert (
        "4 trials in 0:0" in err and "go on:       graphkit tune --resume found --trials 8" in err
    )
    command = told["command"]
    assert f"repeat best: {command}\n" in err and command == table["best"]["command"]
    assert command.startswith("graphkit train mlp-digits --seeds 0-1 --hidden ")
    # exactly, as the same seeds give the same bits
    assert main([*shlex.split(command)[1:], "--out", "again"]) == 0
    result = json.loads(Path("again/result.json").read_text())
    for name in ("val_mean", "val_std", "test_mean", "test_std"):
        assert result[name] == told[name] == table["best"][name]
    assert told["val_mean"] == max(trial["val_mean"] for trial in table["trials"])
    assert sorted(path.name for path in Path("found").iterdir() if path.name != ".lock") == [
        "environment.json", "history.png", "history.svg", "slices.png", "slices.svg",
        "study.db", "study.json", "table.json", "table.md", "trials",
    ]  # fmt: skip
    lines = Path("found/table.md").read_text().splitlines()
    assert lines[0] == "# tune mlp-digits: mlp on digits, 2 seeds"
    assert (
        lines[2]
        == "| rank | trial | lr | hidden | validation accuracy, % | seeds | seconds | state |"
    )
    assert [line.split(" | ")[0] for line in lines[4:8]] == ["| 1", "| 2", "| 3", "| 4"]
    assert lines[-1] == f"Repeat the best: `{command}`"


def test_the_weights_of_the_best_alone_stay(own: Data) -> None:
    seen: set[int] = set()
    add = study.Study.add

    def spy(self: study.Study, drawn: Any, trial: study.Trial) -> None:
        add(self, drawn, trial)
        seen.add(len(list(Path("found/trials").iterdir())))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study.Study, "add", spy)
        found = tune(node, data=own, space=SPACE, trials=6, out="found", quiet=True, **OPTIONS)
    assert seen <= {1, 2}
    assert [str(path) for path in Path("found/trials").iterdir()] == [found.run]
    assert len(list(Path(found.run).glob("*.safetensors"))) == 3


@pytest.mark.parametrize("number", [0, 1])
def test_the_ranking_does_not_see_test_scores(
    own: Data, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other test scores, the same search; and no file holds one of a trial but the best."""
    draw, finish = random.Random(number), runs._finish
    given: list[float] = []

    def shuffled(*args: Any) -> report.Row:
        given.append(draw.random())
        return dataclasses.replace(finish(*args), test=given[-1])

    options = dict(data=own, space=SPACE, trials=7, prune="none", quiet=True, **OPTIONS)
    plain = tune(node, out="plain", **options)
    monkeypatch.setattr(runs, "_finish", shuffled)
    found = tune(node, out="found", **options)
    assert searched("found") == searched("plain")
    assert (found.best, found.val_mean) == (plain.best, plain.val_mean)
    first = 3 * int(Path(found.run).name)
    chosen, others = given[first : first + 3], given[:first] + given[first + 3 :]
    assert found.test_mean == pytest.approx(sum(chosen) / 3) and found.test_mean != plain.test_mean
    content = b"".join(path.read_bytes() for path in Path("found").rglob("*") if path.is_file())
    assert all(repr(score)[:10].encode() in content for score in chosen)
    assert not any(repr(score)[:10].encode() in content for score in others)


class Killed(BaseException):
    """What stands for SIGKILL: nothing catches it."""


def killed_at_epoch(epoch: int, patch: pytest.MonkeyPatch) -> None:
    seen, show = [0], plots.Progress.__call__

    def stop(self: plots.Progress, now: Any) -> None:
        show(self, now)
        seen[0] += 1
        if seen[0] == epoch:
            raise Killed

    patch.setattr(plots.Progress, "__call__", stop)
    patch.setattr(runs, "INTERVAL", 0.0)


def killed_around(
    owner: Any, name: str, count: int, after: bool, patch: pytest.MonkeyPatch, by: Any = Killed
) -> None:
    seen, call = [0], getattr(owner, name)

    def stop(*args: Any, **options: Any) -> Any:
        seen[0] += 1
        if seen[0] == count and not after:
            raise by
        result = call(*args, **options)
        if seen[0] == count:
            raise by
        return result

    patch.setattr(owner, name, stop)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Any, dict[str, str]]:
    """What a search that is not stopped finds, the bits of its best run with it."""
    folder = tmp_path_factory.mktemp("whole") / "found"
    with pytest.MonkeyPatch.context() as patch:
        leave_undrawn(patch)
        found = tune(node, space=SPACE, trials=8, out=str(folder), quiet=True, **OPTIONS)
    assert {trial.state for trial in found.trials} == {"complete", "pruned"}
    return searched(str(folder)), best(str(folder)), bits(found.run)


def bits(run: str) -> dict[str, str]:
    import hashlib

    kept = [p for p in Path(run).iterdir() if p.suffix in (".safetensors", ".jsonl")]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


STOPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "in the second seed of a trial": lambda patch: killed_at_epoch(24 + 12, patch),
    "in a trial that may be pruned": lambda patch: killed_at_epoch(24 * 5 + 12, patch),
    "before a trial is kept": lambda patch: killed_around(study.Study, "add", 3, False, patch),
    "after a trial is kept": lambda patch: killed_around(study.Study, "add", 3, True, patch),
    "before the last table": lambda patch: killed_around(study_plots, "slices", 1, True, patch),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_killed_search_tries_what_a_whole_one_does(
    stop: Callable[[pytest.MonkeyPatch], None], whole: tuple[Any, Any, Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        stop(patch)
        tune(node, space=SPACE, trials=8, out="found", quiet=True, **OPTIONS)
    found = tune(node, resume="found", quiet=True)
    assert (searched("found"), best("found"), bits(found.run)) == whole


NURSERY = """
import os, sys
from graphkit.recipes import node, plots, runs, study_plots, tune
runs.INTERVAL = 0.0
plots.curves = study_plots.history = study_plots.slices = lambda *_, **__: None
options = dict(model="gcn", seeds="0-2", epochs=8, hidden=8)
space = "lr=1e-3..0.3 log; dropout=0:0.8:0.2"
tune(node, space=space, trials=1, out="warm", quiet=True, **options)
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        print(f"child {os.getpid()}", flush=True)
        if line.strip() == "resume":
            tune(node, resume="found", quiet=True)
        else:
            tune(node, space=space, trials=8, out="found", quiet=True, **options)
        os._exit(0)
    print("end", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and SIGKILL")
def test_a_search_killed_at_any_moment(
    request: pytest.FixtureRequest, whole: tuple[Any, Any, Any]
) -> None:
    """2 kills (40 with --slow) of one search after another, which all end as a whole one does."""
    kills = 40 if request.config.getoption("--slow") else 2
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes: Any = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    draw, killed = random.Random(0), 0
    with subprocess.Popen([sys.executable, "-c", NURSERY], **pipes) as nursery:
        assert nursery.stdin and nursery.stdout
        assert nursery.stdout.readline() == "ready\n"
        while killed < kills or Path("found").exists():
            fresh = not Path("found/study.json").exists()
            if fresh and Path("found").exists():
                Path("found").rename(f"stillborn-{time.monotonic_ns()}")
            nursery.stdin.write("new\n" if fresh else "resume\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline().split()[1])
            if killed < kills:
                time.sleep(draw.uniform(0.1, 1.5))
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            code = int(nursery.stdout.readline().split()[1])
            killed += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL)
            if code == 0:
                assert (searched("found"), best("found")) == whole[:2]
                Path("found").rename(f"finished-{time.monotonic_ns()}")
        nursery.stdin.close()


def interrupted_at(epoch: int, patch: pytest.MonkeyPatch) -> None:
    seen, show = [0], plots.Progress.__call__

    def send(self: plots.Progress, now: Any) -> None:
        show(self, now)
        seen[0] += 1
        if seen[0] == epoch:
            signal.raise_signal(signal.SIGINT)

    patch.setattr(plots.Progress, "__call__", send)


def test_ctrl_c_leaves_a_search_to_go_on_with(
    capsys: pytest.CaptureFixture[str], whole: tuple[Any, Any, Any]
) -> None:
    words = ["tune", "node", "--space", SPACE, "--trials", "3", "--out", "found"]
    words += ["--model", "gcn", "--seeds", "0-2", "--epochs", "8", "--hidden", "8"]
    with pytest.MonkeyPatch.context() as patch:
        interrupted_at(24 + 12, patch)
        assert main(words) == 130
    told = "Interrupted: 1 of 3 trials are finished. To go on: graphkit tune --resume found"
    out, err = capsys.readouterr()
    assert err.endswith(f"error: {told}\n") and "trial 0: validation " in out
    table = json.loads(Path("found/table.json").read_text())
    assert len(table["trials"]) == 1 and table["best"] is None
    assert "test" not in Path("found/table.md").read_text()
    assert main(["tune", "--resume", "found", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "resuming after 1 trials" in err and json.loads(out)["trials"]["complete"] == 3
    # and more of them
    assert main(["tune", "--resume", "found", "--trials", "8", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (searched("found"), best("found")) == whole[:2]
    assert main(["tune", "--resume", "found"]) == 0
    assert (searched("found"), best("found")) == whole[:2]


def test_nothing_is_kept_of_a_search_that_is_stopped_at_once(own: Data) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match="nothing"):
        killed_around(runs, "_prepare", 1, False, patch, KeyboardInterrupt)
        tune(node, data=own, space=SPACE, trials=3, out="found", quiet=True, **OPTIONS)
    assert not Path("found").exists()


@pytest.fixture
def stopped(own: Data) -> Data:
    """The data of a search in the folder ``found`` that was stopped in its third trial."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted_at(24 * 2 + 12, patch)
        tune(node, data=own, space=SPACE, trials=4, out="found", quiet=True, **OPTIONS)
    return own


def test_own_data_is_given_again(stopped: Data) -> None:
    with pytest.raises(ConfigError, match="searched on data of your own. Resume it from Python"):
        tune(node, resume="found", quiet=True)
    kept = stopped.x.clone()
    stopped.x[0, 0] += 1
    with pytest.raises(ConfigError, match="the search in 'found' is on other data"):
        tune(node, resume="found", data=stopped, quiet=True)
    stopped.x = kept
    found = tune(node, resume="found", data=stopped, quiet=True)
    assert len(found.trials) == 4 and found.command is None


def test_a_search_goes_on_elsewhere_and_says_so(
    stopped: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trial under way begins anew, as its bits would be of two machines."""
    path, before = Path("found/environment.json"), searched("found")
    environment = json.loads(path.read_text())
    path.write_text(json.dumps({**environment, "cpu": "abacus"}))
    begun: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        prepare = runs._prepare
        patch.setattr(runs, "_prepare", lambda *args: begun.append(args[1]) or prepare(*args))
        tune(node, resume="found", data=stopped)
    assert "The search began elsewhere (cpu 'abacus', now " in capsys.readouterr().out
    assert begun == [0, 1, 2, 0, 1, 2]
    # what is better may have come after
    kept, was = ([{**trial, "rank": 0} for trial in rows] for rows in (searched("found"), before))
    assert kept[:2] == was
    assert json.loads(path.read_text()) == environment


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"lr": 0.1}, "takes the options that the search began with, got lr too"),
        ({"space": "lr=1,2"}, "takes the options that the search began with, got space too"),
        ({"recipe": PRESETS["gcn-digits"]}, "found searched node, got gcn-digits"),
        ({"trials": 0}, "trials is 0, but a whole number, at least 1, is expected"),
    ],
)
def test_other_options_are_refused(stopped: Data, options: dict[str, Any], part: str) -> None:
    given: dict[str, Any] = {"recipe": node, "resume": "found", "data": stopped, **options}
    with pytest.raises(ConfigError, match=part):
        tune(given.pop("recipe"), **given)


def test_what_is_no_search_is_named(own: Data, tmp_path: Path) -> None:
    node(data=own, **OPTIONS, out="run", quiet=True)
    with pytest.raises(StoreError, match="'run' is not the folder of a search"):
        tune(node, resume="run")
    for content in ("[]", "{}", '{"target": 1}'):
        Path("run/study.json").write_text(content)
        with pytest.raises(StoreError, match="study.json is not what graphkit tune wrote"):
            tune(node, resume="run")
    with pytest.raises(StoreError, match=r"exists already.*graphkit tune --resume goes on"):
        tune(node, data=own, space=SPACE, out="run", **OPTIONS)


def test_a_trial_that_diverges_is_noted_and_the_search_goes_on(own: Data) -> None:
    options = dict(data=own, space="lr=0.01,1e30,0.02", out="found", quiet=True, **OPTIONS)
    found = tune(node, **options)
    states = {trial.options["lr"]: trial for trial in found.trials}
    assert states[0.01].state == states[0.02].state == "complete" and found.best["lr"] < 1
    assert states[1e30].state == "failed"
    assert states[1e30].reason.startswith("Training diverged: the loss is")
    assert "| failed: Training diverged" in Path("found/table.md").read_text().splitlines()[-5]


def test_a_trial_without_memory_is_noted(own: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = runs._prepare

    def greedy(job: runs.Job, seed: int) -> Any:
        if job.options["hidden"] == 9:
            raise MemoryError("9 GB")
        return prepare(job, seed)

    monkeypatch.setattr(runs, "_prepare", greedy)
    options = {name: value for name, value in OPTIONS.items() if name != "hidden"}
    found = tune(node, data=own, space={"hidden": [8, 9]}, quiet=True, **options)
    (failed,) = [trial for trial in found.trials if trial.state == "failed"]
    assert failed.options == {"hidden": 9} and failed.reason == "Out of memory: 9 GB"


def test_a_search_without_any_result_says_why(own: Data) -> None:
    with pytest.raises(ConfigError, match="No trial of found came to its end. .* diverged"):
        tune(node, data=own, space="lr=1e29,1e30", out="found", quiet=True, **OPTIONS)
    assert [trial["state"] for trial in searched("found")] == ["failed", "failed"]


def test_an_error_of_another_kind_ends_the_search(
    own: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_prepare", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size|size mismatch"):
        tune(node, data=own, space="lr=0.1,0.2", out="found", quiet=True, **OPTIONS)
    assert not Path("found").exists()


def test_errors_are_better_when_they_are_lower(own: Data) -> None:
    own.y = own.x[:, 0] + 0.1 * torch.randn(90)
    options = dict(data=own, space="lr=0.001,0.05", trials=2, quiet=True, **OPTIONS)
    found = tune(node, out="found", **options)
    first, second = (trial.val_mean for trial in found.trials)
    assert first and second and first != second
    assert found.metric == "mae" and found.val_mean == min(first, second)
    assert "| rank | trial | lr | validation mae |" in Path("found/table.md").read_text()


def test_all_points_of_a_grid(own: Data) -> None:
    options = dict(data=own, sampler="grid", prune="none", quiet=True, **OPTIONS)
    space = "lr=0.01,0.1; dropout=0:0.4:0.2"
    found = tune(node, space=space, **options)
    assert len(found.trials) == 6 and {len(trial.val) for trial in found.trials} == {3}
    assert {t.options["dropout"] for t in found.trials} == {0.0, 0.2, 0.4}
    with pytest.raises(ConfigError, match="sampler grid: lr has no end of values"):
        tune(node, space="lr=0.01..0.1; dropout=0,0.5", **options)


def test_own_options_of_a_model_are_searched(own: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(widths: list[int], dropout: float, norm: Any, drop_input: bool, *, hops: int = 2,
             alpha: float = 0.1) -> nn.Module:  # fmt: skip
        built.append((hops, alpha))
        return MLP(widths)

    built: list[tuple[int, float]] = []
    monkeypatch.setitem(MODELS, "deep", deep)
    options = dict(model="deep", seeds="0", epochs=2, model_options="alpha=0.5", quiet=True)
    found = tune(node, space="model_options.hops=5:15:5", out="found", **options)
    assert set(built) == {(5, 0.5), (10, 0.5), (15, 0.5)}
    hops = found.best["model_options.hops"]
    words = shlex.split(found.command or "")
    assert words[words.index("--model-options") + 1] == f"alpha=0.5,hops={hops}"
    with pytest.raises(ConfigError, match="deep has no option 'hop' of its own"):
        tune(node, space="model_options.hop=5,10", **options)


def test_a_preset_has_its_models_space_and_what_is_given_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options of a preset are searched, those given beside it are not."""
    values = {**PRESETS["acm-texas"].values, "data": "digits", "epochs": 3, "seeds": "0-1"}
    del values["split"]
    preset = dataclasses.replace(PRESETS["acm-texas"], name="acm-digits", values=values)
    monkeypatch.setitem(PRESETS, "acm-digits", preset)
    words = ["tune", "acm-digits", "--lr", "0.05", "--trials", "2", "--out", "found"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "searched (the grid of the authors' code, Luan et al. 2022, arXiv:2210.07606):" in out
    assert "weight_decay = 0.0, 5e-06, 1e-05, " in out and "  lr = " not in out
    assert "2 trials by tpe of 90 points" in out
    command = json.loads(Path("found/table.json").read_text())["best"]["command"]
    assert command.startswith("graphkit train acm-digits ") and "--lr" not in command
    assert json.loads(Path("found/study.json").read_text())["options"] == {"lr": 0.05}


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["--space", "droput=0,0.5"], 2, "node has no option 'droput'. Did you mean 'dropout'?"),
        (["--space", "dropout=0.1,0.5,2"], 2, "dropout is 2.0, but from 0 to below 1 is expected"),
        (["--space", "dropout=-1,0.5"], 2, "dropout is -1.0, but"),
        (["--space", "hidden=0..5"], 2, "hidden is 0, but at least 1"),
        (["--space", "model=gcn,gnn,sage"], 2, "Unknown model 'gnn'"),
        (["--space", "lr=0.1,0.2", "--lr", "0.3"], 2, "lr is given, 0.3, and searched too"),
        (["--space", "seeds=0,1"], 2, "seeds is not searched"),
        (["--space", "lr=0.1,0.2", "--data", "digit"], 2, "Unknown data set 'digit'"),
        (["--space", "lr=0.1,0.2", "--sampler", "best"], 2, "tpe or random or grid is expected"),
        (["--space", "lr=0.1,0.2", "--prune", "all"], 2, "--prune is 'all', but"),
        (["--space", "lr=0.1,0.2", "--trials", "0"], 2, "trials is 0, but a whole number"),
        (["--space", "lr=0.1,0.2", "--search-seed", "-1"], 2, "search_seed is -1, but a whole"),
        (["--space", "no.txt"], 1, "space is 'no.txt', which holds no ="),
        (["--hiden", "3"], 2, "Unknown option --hiden. Did you mean --hidden?"),
        (["--submission", "x.csv"], 2, "Unknown option --submission"),
        (["mlp-digits"], 2, "Unknown argument 'mlp-digits'. A recipe or preset comes right after"),
        (["--resume", "nowhere"], 1, "'nowhere' is not the folder of a search"),
        (["--lr", "1", "--weight-decay", "0", "--dropout", "0", "--hidden", "8"], 2,
         "All that is searched of gcn by itself is given"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_nothing_is_written(
    words: list[str], code: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = [] if words[0] == "--resume" else ["node"]
    assert main(["tune", *target, *words]) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and part in err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"sampler": "best"}, "sampler is 'best', but tpe or random or grid is expected"),
        ({"prune": None}, "prune is None, but median or none is expected"),
        ({"trials": 2.5}, "trials is 2.5, but a whole number"),
        ({"epohs": 3}, "node: unknown option 'epohs'. Did you mean 'epochs'"),
        ({"command": "x"}, "node: unknown option 'command'"),
    ],
)
def test_mistakes_in_python(options: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        tune(node, **{"space": "lr=0.1,0.2", **options})


def test_without_optuna_the_command_to_install_it_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BackendError, match="'optuna', which is not installed"):
        tune(node)
    assert main(["tune"]) == 1
    assert 'pip install "graphkit[tune]"' in capsys.readouterr().err
    # nothing else needs it
    code = "import sys; sys.modules['optuna'] = None; import graphkit.recipes, graphkit.cli"
    line = [sys.executable, "-c", code]
    assert subprocess.run(line, cwd=ROOT, timeout=120).returncode == 0


def test_the_help_has_the_options_of_tune_and_of_the_recipe(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["tune", "acm-texas", "--help"]) == 0
    out = capsys.readouterr().out
    for word in ("--space", "--trials", "--sampler {tpe,random,grid}", "--lr X", "[0.05]"):
        assert word in out
    assert "--submission" not in out and out.count("--quiet") == 1


def test_pictures(drawn: None, own: Data) -> None:
    space = "lr=1e-9,0.01,0.02,0.05,0.1,1e30; weight_decay=1e-6..1e-3 log; norm=null,batch_norm"
    found = tune(node, data=own, space=space, trials=16, sampler="random", out="found", quiet=True,
                 **OPTIONS)  # fmt: skip
    assert {trial.state for trial in found.trials} == {"complete", "pruned", "failed"}
    for name in ("history", "slices"):
        svg = ElementTree.parse(f"found/{name}.svg").getroot()
        assert len(list(svg.iter("{http://www.w3.org/2000/svg}path"))) > 20
        assert Path(f"found/{name}.png").stat().st_size > 10_000
    assert isinstance(found, Tuned)
