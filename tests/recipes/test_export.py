from __future__ import annotations

import importlib.util
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.data.hypergraph_data import HyperGraphData

from graphkit.cli import main
from graphkit.data import progress
from graphkit.errors import BackendError, ConfigError, DataError, StoreError
from graphkit.nn import build_model
from graphkit.recipes import (
    distill,
    export,
    hyper,
    latency,
    link,
    node,
    predict,
    report,
    runs,
    student,
)
from graphkit.store import load_tensors, save_tensors

QUICK: dict[str, Any] = dict(epochs=12, hidden=16, quiet=True)
ROOT = Path(__file__).parents[2]
FILES = ["README.md", "model.json", "model.pt2", "model.safetensors"]


def groups(y: torch.Tensor | None = None) -> Any:
    """Ninety nodes of three classes that the features hint at, most of these 0."""
    generator = torch.Generator().manual_seed(7)
    label = torch.arange(90) % 3
    x = 4 * torch.eye(3)[label] + torch.randn(90, 3, generator=generator)
    x = torch.cat([x, torch.zeros(90, 9)], dim=1)
    part = torch.randperm(90, generator=generator) % 3
    masks = {f"{name}_mask": part == k for k, name in enumerate(("train", "val", "test"))}
    edges = torch.randint(90, (2, 200), generator=generator)
    return Data(x=x, edge_index=edges, y=label if y is None else y, **masks)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two seeds whose recipe scales rows, and what it exports to."""
    folder = tmp_path_factory.mktemp("whole")
    options: dict[str, Any] = dict(model="mlp", norm="batch_norm", row_normalize=True, seeds="0-1")
    with runs.watched(runs.Watch(draws=lambda record: False)):
        node(data=groups(), **options, **QUICK, out=str(folder / "a run/ü"))
    export(str(folder / "a run/ü"), seed=1, quiet=True)
    return folder


@pytest.fixture
def run(whole: Path) -> str:
    """A copy of that run, in the folder of the test."""
    shutil.copytree(whole / "a run", "a run")
    return "a run/ü"


def rows_of(text: str) -> Any:
    """The model in the file ``model.pt2`` of the folder ``text``."""
    return torch.export.load(f"{text}/model.pt2").module()


def test_a_fresh_process_needs_torch_alone(run: str) -> None:
    """The lines of the folder's README, where nothing of ours can be imported."""
    folder = Path(run) / "export"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    data, text = groups(), (folder / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(list(filter(None, code.splitlines()))) == 4
    code = code.replace("torch.zeros(3, 12)", "torch.tensor(json.load(sys.stdin))")
    code = code.replace("softmax(dim=1)", "softmax(dim=1).tolist()")
    absent = ("graphkit", "torch_geometric", "safetensors", "scipy", "pandas", "onnx", "sklearn")
    head = f"import json, sys\nsys.modules |= dict.fromkeys({absent!r})\n"
    shutil.copytree(folder, "elsewhere")
    done = subprocess.run(
        [sys.executable, "-c", head + code],
        input=json.dumps(data.x.tolist()),
        capture_output=True,
        text=True,
        timeout=120,
        cwd="elsewhere",
    )
    assert done.returncode == 0, done.stderr
    predict(run, data=data, seed=1, out="run.npy", quiet=True)
    np.testing.assert_allclose(json.loads(done.stdout), np.load("run.npy"), rtol=1e-5, atol=1e-7)


def test_the_program_is_the_model_on_raw_rows(run: str) -> None:
    weights, about = load_tensors(Path(run) / "weights-seed1.safetensors")
    model = build_model("mlp", 12, 16, 3, norm="batch_norm").eval()
    model.load_state_dict(weights)
    program, x = rows_of(f"{run}/export"), groups().x
    for size in (1, 2, 3, 90):
        raw = x[:size]
        assert torch.equal(program(raw), model(raw / raw.abs().sum(1, keepdim=True)))
    assert torch.equal(program(torch.zeros(1, 12)), model(torch.zeros(1, 12)))
    kept, beside = load_tensors(Path(run) / "export/model.safetensors")
    assert kept.keys() == weights.keys() and beside == about | {
        **{"row_normalize": True, "recipe": "node"}
    }
    assert all(torch.equal(kept[name], weights[name]) for name in kept)


def test_what_is_said_of_the_model(run: str) -> None:
    about = json.loads(Path(run, "export/model.json").read_text(encoding="utf-8"))
    config = json.loads(Path(run, "config.json").read_text(encoding="utf-8"))
    assert about["model"] == {"name": "mlp", "widths": [12, 16, 3]}
    assert about["input"] == {"name": "x", "dtype": "float32", "shape": ["rows", 12]}
    assert about["source"] == {
        **{"run": "ü", "recipe": "node", "seed": 1, "data": "custom"},
        "data_digest": config["data_digest"],
    }
    assert about["preprocessing"] == ["row_normalize"] and about["task"]["kind"] == "classes"
    assert about["differences"] == {"torch, model.pt2": 0.0}
    assert about["files"].keys() == set(FILES) - {"model.json"}
    assert about["seal"] == student.seal(about) != student.seal(about | {"class_names": ["a"]})
    # nothing of the machine that wrote it
    for path in Path(run, "export").iterdir():
        assert str(ROOT).encode() not in path.read_bytes()


@pytest.mark.parametrize("ending", [".npy", ".csv", ".parquet"])
def test_rows_of_every_format_are_served(run: str, ending: str) -> None:
    """By the run and by what was exported alike, in batches of any size."""
    data, file = groups(), f"rows{ending}"
    frame = pd.DataFrame(data.x.numpy(), columns=[f"x{k}" for k in range(12)])
    frame.insert(0, "y", "not a number")
    frame.insert(0, "id", [f"n{k}" for k in range(90)])
    if ending == ".npy":
        np.save(file, data.x.double().numpy())
    elif ending == ".csv":
        frame.to_csv(file, index=False)
    else:
        # x10 does not stand between x1 and x2
        frame.sort_index(axis=1).to_parquet(file)
    predict(run, data=data, seed=1, out="whole.csv", quiet=True)
    want = pd.read_csv("whole.csv")
    places = {f"{run}/export": {}, run: {"seed": 1}}
    for place, more in places.items():
        for size in (1, 7, 4096):
            told = predict(place, rows=file, batch_size=size, out="p.csv", quiet=True, **more)
            assert (told["rows"], told["seed"], told["data"]) == (90, 1, file)
            got = pd.read_csv("p.csv")
            ids = [] if ending == ".npy" else ["id"]
            probabilities = [f"probability{k}" for k in range(3)]
            assert list(got.columns) == ["row", *ids, "prediction", *probabilities]
            assert not ids or got["id"].tolist() == frame["id"].tolist()
            assert (got["prediction"] == want["prediction"]).all()
            np.testing.assert_allclose(got[probabilities], want[probabilities], rtol=1e-4)


def test_what_takes_long_says_how_far_it_is(
    run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SHOW_AFTER", 0.0)
    np.save("rows.npy", groups().x.numpy())
    for quiet, said in ((False, "predict: 30 of 90 rows (33%)\n"), (True, "")):
        predict(run, rows="rows.npy", batch_size=30, out="p.npy", quiet=quiet)
        assert capsys.readouterr().err == said


def test_classes_keep_their_names_and_whole_numbers_are_features(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    lines = [f"{k},{k % 2},{'bp'[k % 2]},{'train val test'.split()[k // 2 % 3]}" for k in range(24)]
    (folder / "nodes.csv").write_text("id,a,y,split\n" + "\n".join(lines) + "\n")
    (folder / "edges.csv").write_text("source,target\n0,2\n")
    node(data=str(folder), model="mlp", epochs=80, hidden=16, quiet=True, out="run")
    export("run", out="given/place", quiet=True)
    assert "The classes are, in this order: b, p." in Path("given/place/README.md").read_text()
    predict("given/place", rows=str(folder / "nodes.csv"), quiet=True)
    table = pd.read_parquet("given/place/predictions.parquet")
    assert table["class"].tolist() == ["b", "p"] * 12 and table["id"].tolist()[-1] == "23"
    np.save("rows.npy", np.array([[1], [0]]))
    predict("given/place", rows="rows.npy", out="p.csv", quiet=True)
    assert pd.read_csv("p.csv")["class"].tolist() == ["p", "b"]
    # where the run lay is not told to who gets the folder
    assert json.loads(Path("given/place/model.json").read_text())["source"]["data"] == "papers"
    assert str(tmp_path).encode() not in b"".join(
        p.read_bytes() for p in Path("given").rglob("*.*")
    )


@pytest.mark.parametrize(("kind", "call"), [("probability", ".sigmoid()"), ("value", "")])
def test_labels_and_values(kind: str, call: str) -> None:
    y = torch.arange(90) % 3
    binary = torch.stack([y == 0, y > 0], dim=1).float()
    data = groups(binary if call else binary + torch.arange(90)[:, None])
    node(data=data, model="mlp", amp="bf16", **QUICK, out="run")
    told = export("run", quiet=True)
    assert told["notes"] == ["the run computed in bfloat16, the exported model in float32"]
    assert f"print(model(rows){call})" in Path("run/export/README.md").read_text()
    np.save("rows.npy", data.x.numpy())
    predict("run/export", rows="rows.npy", out="p.csv", quiet=True)
    table = pd.read_csv("p.csv")
    assert list(table.columns) == ["row", f"{kind}0", f"{kind}1"]
    out = rows_of("run/export")(data.x)
    np.testing.assert_allclose(table.iloc[:, 1:], out.sigmoid() if call else out, rtol=1e-5)


def test_onnxruntime_computes_the_same(run: str) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    onnxruntime = pytest.importorskip("onnxruntime")
    told = export(run, out="with onnx", onnx=True, seed=1, quiet=True)
    assert told["files"] == sorted([*FILES, "model.onnx"])
    assert 0 <= told["differences"]["onnxruntime, model.onnx"] < 1e-5
    session = onnxruntime.InferenceSession("with onnx/model.onnx")
    x, program = groups().x, rows_of("with onnx")
    for size in (1, 2, 90):
        (got,) = session.run(None, {"x": x[:size].numpy()})
        np.testing.assert_allclose(got, program(x[:size]), rtol=1e-4, atol=1e-5)
    assert str(ROOT).encode() not in Path("with onnx/model.onnx").read_bytes()
    assert "`model.onnx` is the same for onnxruntime" in Path("with onnx/README.md").read_text()
    # its file is under the checksums too
    Path("with onnx/model.onnx").write_bytes(b"")
    with pytest.raises(StoreError, match=r"model\.onnx is damaged"):
        student.of_export(Path("with onnx"))


def reseal(folder: Path, **changes: Any) -> None:
    """Make the description of ``folder`` fit its files again, as who forges one can."""
    about = json.loads((folder / "model.json").read_text(encoding="utf-8")) | changes
    about["files"] = {name: student.fingerprint(folder / name) for name in about["files"]}
    about["seal"] = student.seal(about)
    (folder / "model.json").write_text(json.dumps(about), encoding="utf-8")


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("open('canary', 'w')",)


def test_a_program_is_never_opened(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it holds, as torch.export.load would unpickle it."""
    folder = Path(run) / "export"
    np.save("rows.npy", groups().x.numpy())
    predict(str(folder), rows="rows.npy", out="a.npy", quiet=True)
    (folder / "model.pt2").write_bytes(pickle.dumps(Hostile()))
    reseal(folder)
    monkeypatch.setattr(torch.export, "load", None)
    predict(str(folder), rows="rows.npy", out="b.npy", quiet=True)
    assert np.array_equal(np.load("a.npy"), np.load("b.npy")) and not Path("canary").exists()
    (folder / "model.safetensors").write_bytes(pickle.dumps(Hostile()))
    reseal(folder)
    with pytest.raises(StoreError, match="is a pickle or a zip archive"):
        predict(str(folder), rows="rows.npy", quiet=True)
    assert not Path("canary").exists()


def flip(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 4]) + content[-8:]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [flip, lambda content: content[:-40], lambda _: b"", None])
def test_a_damaged_export_is_refused(
    run: str, name: str, harm: Callable[[bytes], bytes] | None
) -> None:
    path = Path(run) / "export" / name
    np.save("rows.npy", groups().x.numpy())
    if harm is None:
        path.unlink()
    else:
        path.write_bytes(harm(path.read_bytes()))
    # without a description it is no export, but some folder
    message = re.escape(name) if harm or name != "model.json" else r"config\.json cannot be read"
    with pytest.raises(StoreError, match=message):
        predict(str(path.parent), rows="rows.npy", out="p.npy", quiet=True)
    assert not Path("p.npy").exists()


def test_forged_descriptions(run: str) -> None:
    folder, rows = Path(run) / "export", "rows.npy"
    np.save(rows, groups().x.numpy())
    path = folder / "model.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"custom"', '"others"'), encoding="utf-8")
    with pytest.raises(StoreError, match=r"model\.json is damaged: its content does not have"):
        predict(str(folder), rows=rows)
    for content in ("[]", '{"format": "graphkit export, version 9"}'):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(StoreError, match="'graphkit export, version 1' is expected"):
            predict(str(folder), rows=rows)
    path.write_text(text, encoding="utf-8")
    weights, about = load_tensors(folder / "model.safetensors")
    changes: list[dict[str, Any]] = [{"widths": [12, 9, 3]}, {"model": "gcn"}, {"task": {}}]
    for change in changes:
        save_tensors(folder / "model.safetensors", weights, about | change)
        reseal(folder)
        with pytest.raises(StoreError, match="does not hold the weights of a model of rows"):
            predict(str(folder), rows=rows)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 11)), "expects 12 features in each row, but the rows have 11"),
        (np.zeros(12), r"float64 of shape \[12\], but numbers \[N, F\] are expected"),
        (np.zeros((0, 12)), r"shape \[0, 12\], but numbers \[N, F\] are expected"),
        (np.full((2, 12), "a"), "but numbers .* are expected"),
        (np.zeros((2, 12), np.complex64), "complex64 of shape"),
        (np.array([[None] * 12]), "Pickled objects are never read"),
        (np.where(np.eye(12) > 0, np.nan, 0), r"rows.npy\[0, 0\] is nan .* 12 values are so"),
        (np.full((2, 12), 1e300), "is inf in float32, but a finite number"),
    ],
)
def test_rows_that_cannot_be_served(run: str, array: np.ndarray, message: str) -> None:
    np.save("rows.npy", array, allow_pickle=True)
    for place in (run, f"{run}/export"):
        with pytest.raises(DataError, match=message):
            predict(place, rows="rows.npy", out="p.npy", quiet=True)
    assert not Path("p.npy").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x0,x1\n1,2\n", "expects 12 features in each row, but the rows have 2"),
        ("x0,x1\n1,blue\n", "line 2, column 'x1': 'blue' is not a number. Encode texts"),
        ("x0,x1\n1,\n", "line 2, column 'x1': nothing, but a number is expected. Fill it in"),
        ("x0,x1\n1\n", "line 2: 1 fields, but the first line has 2"),
        ("id,y\n1,2\n", "has no column of features"),
    ],
)
def test_tables_that_cannot_be_served(run: str, text: str, message: str) -> None:
    Path("rows.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        predict(f"{run}/export", rows="rows.csv", out="p.npy", quiet=True)


def test_options_of_rows(run: str) -> None:
    np.save("rows.npy", groups().x.numpy())
    done = f"{run}/export"
    cases: list[tuple[str, dict[str, Any], str]] = [
        (done, {}, "is an exported model, which predicts rows of features. Name a file"),
        (done, {"rows": "rows.npy", "seed": 1}, "of one seed. Leave seed out"),
        (run, {"rows": "rows.npy", "data": "cora"}, "so leave data out"),
        (run, {"rows": "rows.npy", "top": 3}, "so leave top out"),
        (run, {"rows": "rows.txt"}, "rows is 'rows.txt', but a file ending in one of"),
        (run, {"rows": "rows.npy", "batch_size": 0}, "batch_size is 0, but at least 1"),
        (run, {"rows": "rows.npy", "out": "rows.npy"}, "which holds the rows. Give another file"),
        (run, {"rows": "rows.npy", "seed": 5}, "seed is 5, but .* holds the seeds 0, 1"),
    ]
    for place, options, message in cases:
        with pytest.raises(ConfigError, match=message):
            predict(place, quiet=True, **options)
    with pytest.raises(StoreError, match=r"none\.npy cannot be read"):
        predict(run, rows="none.npy", quiet=True)


def test_models_that_need_a_graph_are_refused(own: Data) -> None:
    node(data=own, **QUICK, out="nodes")
    np.save("rows.npy", own["x"].numpy())
    for call in (lambda: export("nodes"), lambda: predict("nodes", rows="rows.npy")):
        with pytest.raises(ConfigError, match="the model 'gcn', which needs the graph .* distill"):
            call()
    link(data=own, epochs=2, hidden=16, quiet=True, out="links")
    with pytest.raises(ConfigError, match="links is a run of 'link', whose predictions are not of"):
        export("links")
    with pytest.raises(StoreError, match="nowhere.*cannot be read"):
        export("nowhere")
    assert not list(Path("nodes").glob("*export*")) and not list(Path("links").glob("*export*"))


def test_the_mlp_of_a_hypergraph_run() -> None:
    plain = groups()
    parts = {key: plain[key] for key in ("x", "y", "train_mask", "val_mask", "test_mask")}
    index = torch.stack([torch.arange(90), torch.arange(90) % 30])
    data = HyperGraphData(edge_index=index, **parts)
    hyper(data=data, model="mlp", **QUICK, out="mlp")
    np.save("rows.npy", plain.x.numpy())
    export("mlp", quiet=True)
    predict("mlp", data=data, out="run.npy", quiet=True)
    predict("mlp/export", rows="rows.npy", out="served.npy", quiet=True)
    np.testing.assert_allclose(np.load("served.npy"), np.load("run.npy"), rtol=1e-4, atol=1e-6)
    hyper(data=data, model="hgnn", **QUICK, out="hgnn")
    with pytest.raises(ConfigError, match="the model 'hgnn', which needs the graph"):
        export("hgnn")


def test_what_a_graph_network_taught_leaves_home() -> None:
    plain = groups()
    data = Data(x=plain.x, edge_index=plain.edge_index, y=plain.y)
    few: dict[str, Any] = dict(train_per_class=5, val_per_class=5, nodes="all", hidden=8, epochs=6)
    few |= dict(teacher_hidden=8, teacher_epochs=6, student_batch=0, student_norm="batch_norm")
    distill(data=data, model="glnn", teacher="gcn", row_normalize=True, quiet=True, **few, out="s")
    about = export("s", quiet=True)
    assert about["differences"] == {"torch, model.pt2": 0.0}
    assert json.loads(Path("s/export/model.json").read_text())["source"]["recipe"] == "distill"
    np.save("rows.npy", plain.x.numpy())
    predict("s", data=data, out="run.npy", quiet=True)
    for place in ("s", "s/export"):
        predict(place, rows="rows.npy", out="served.npy", quiet=True)
        np.testing.assert_allclose(np.load("served.npy"), np.load("run.npy"), rtol=1e-4, atol=1e-6)


def test_places_and_what_is_missing(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="export exists already. Choose another place, or remove"):
        export(run)
    Path("file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        export(run, out="file/x")
    with pytest.raises(ConfigError, match=r"seed is 9, but .* holds the seeds 0, 1"):
        export(run, seed=9, out="x")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    with pytest.raises(BackendError, match=r"'onnxscript', .* pip install \"graphkit\[onnx\]\""):
        export(run, out="x", onnx=True)
    assert not Path("x").exists()


def test_what_ends_early_leaves_nothing(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, and a program that does not compute what the model does."""
    before = sorted(Path(run).parent.rglob("*"))

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(student, "fingerprint", stopped)
        with pytest.raises(KeyboardInterrupt):
            export(run, out=f"{run}/second", quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(student.Rows, "forward", lambda self, x: self.model(x) + torch.rand(()))
        with pytest.raises(
            BackendError, match=r"model\.pt2 computes something else .* off outputs"
        ):
            export(run, out=f"{run}/second", quiet=True)
    assert sorted(Path(run).parent.rglob("*")) == before


def test_the_folder_of_an_export_that_was_killed_does_not_hinder_the_run(run: str) -> None:
    (Path(run) / ".export.1.tmp").mkdir()
    (Path(run) / ".export.1.tmp/model.pt2").write_text("")
    (Path(run) / report.RESULT).unlink()
    with report.RunFolder(None, "", resume=run):
        assert not (Path(run) / ".export.1.tmp").exists()


# -- latency ---------------------------------------------------------------------------------------


def test_calls_are_timed_and_summed_up() -> None:
    """By a clock that goes on by a second with each look, and a call that takes ten."""
    now, seen = [0.0], list[int]()

    def clock() -> float:
        now[0] += 1
        return now[0]

    def call(x: torch.Tensor) -> None:
        seen.append(len(x))
        now[0] += 10

    few = latency.timed(call, torch.zeros(3, 2), 0.0, clock)
    # ten more are not counted, and the clock is not looked at before the hundredth
    assert few == [11.0] * 100 and len(seen) == 110
    many = latency.timed(call, torch.zeros(3, 2), 100 * 12 + 50 * 13 + 1.5, clock)
    assert len(many) == 151
    rows = latency.measure(
        {"one": call, "two": call}, 2, batches=(3, 5), seconds=0.0, quiet=True, clock=clock
    )
    assert [(row["served by"], row["batch"]) for row in rows] == [
        *(("one", 3), ("two", 3), ("one", 5), ("two", 5))
    ]
    assert {row["rows_per_s"] for row in rows} == {3 / 11, 5 / 11}
    spent = [0.001 * k for k in range(1, 102)]
    found = latency.summary("one", 4, spent)
    assert found["p50_ms"] == pytest.approx(51) and found["p99_ms"] == pytest.approx(100)
    assert found["rows_per_s"] == pytest.approx(4 * 101 / sum(spent))


@pytest.mark.usefixtures("drawn")
def test_the_command_line_exports_and_serves(
    run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = latency.measure

    def quickly(calls: Any, width: int, quiet: bool) -> Any:
        return measure(calls, width, seconds=0.0, batches=(1, 16), quiet=quiet)

    monkeypatch.setattr(latency, "measure", quickly)
    assert main(["export", run, "--out", "served", "--latency"]) == 0
    out, err = capsys.readouterr()
    assert "torch, model.pt2: at most 0 off the model of the run, on drawn rows" in out
    assert "rows a second" in out and "torch's threads: " in out and err == ""
    assert "next:   graphkit predict served --rows FILE\n" in out
    kept = json.loads(Path("served/latency.json").read_text())
    assert kept["threads"] == torch.get_num_threads() and kept["widths"] == [12, 16, 3]
    assert [row["batch"] for row in kept["rows"]] == [1, 16]
    assert Path("served/latency.png").read_bytes().startswith(b"\x89PNG")
    for number in ("a", "b"):
        Path(number).mkdir()
        latency.draw(Path(number), kept["rows"], "a title")
    assert Path("a/latency.svg").read_bytes() == Path("b/latency.svg").read_bytes()
    np.save("rows.npy", groups().x.numpy())
    assert main(["predict", "served", "--rows", "rows.npy", "--out", "p.csv"]) == 0
    assert "on rows.npy: 90 predictions in p.csv" in capsys.readouterr().out
    assert main(["predict", "served", "--rows", "rows.npy", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["file"] == "served/predictions.parquet" and "90 predictions" in err
    assert main(["export", run, "--json"]) == 1
    assert "export exists already" in capsys.readouterr().err
    assert main(["export", run, "--json", "--out", "again"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == FILES
