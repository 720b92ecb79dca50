from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch_geometric.data import Data
from torch_geometric.data.hypergraph_data import HyperGraphData

from graphkit import data as data_sets
from graphkit.cli import main
from graphkit.errors import ConfigError, DataError, StoreError
from graphkit.graph import Graph
from graphkit.nn import build_model
from graphkit.recipes import node, plots, predict
from graphkit.store import load_tensors, save_tensors

QUICK: dict[str, Any] = dict(epochs=12, hidden=16, quiet=True)


@pytest.fixture
def run(own: Data) -> str:
    return node(data=own, seeds="0-2", **QUICK, out="a run/ü").run


def test_every_format_holds_what_the_model_computes(own: Data, run: str) -> None:
    told = {
        ending: predict(run, data=own, seed=1, out=f"out dir/p{ending}", quiet=True)
        for ending in (".parquet", ".csv", ".npy")
    }
    model = build_model("gcn", 3, 16, 3)
    weights, about = load_tensors(Path(run) / "weights-seed1.safetensors")
    assert (about["model"], about["widths"], about["seed"]) == ("gcn", [3, 16, 3], 1)
    model.load_state_dict(weights)
    with torch.no_grad():
        out = model.eval()(own.x, Graph.from_edge_index(own.edge_index, 90))
    table = pd.read_parquet("out dir/p.parquet")
    names = ["node", "part", "label", "prediction"]
    assert list(table.columns) == [*names, "probability0", "probability1", "probability2"]
    assert (table["prediction"] == out.argmax(1).numpy()).all()
    assert (table["label"] == own.y.numpy()).all()
    expected = out.softmax(1).numpy()
    assert np.array_equal(table.iloc[:, 4:].to_numpy(), expected)
    assert np.array_equal(np.load("out dir/p.npy"), expected)
    pd.testing.assert_frame_equal(pd.read_csv("out dir/p.csv"), table, check_dtype=False, rtol=1e-6)
    for part in ("train", "val", "test"):
        rows = own[f"{part}_mask"][:, 1].numpy()
        assert (table["part"] == part).to_numpy().tolist() == rows.tolist()
    record = json.loads((Path(run) / "result.json").read_text())
    assert {t["test"] for t in told.values()} == {record["rows"][1]["test"]}


def test_the_best_seed_by_validation_is_the_default(own: Data, run: str) -> None:
    rows = json.loads((Path(run) / "result.json").read_text())["rows"]
    best = max(rows, key=lambda row: row["val"])["seed"]
    told = predict(run, data=own, quiet=True)
    assert told["seed"] == best
    assert told["file"] == str(Path(run) / "predictions.parquet") and Path(told["file"]).is_file()


def test_the_command_line_predicts(capsys: pytest.CaptureFixture[str]) -> None:
    record = node(epochs=20, quiet=True, out="run")
    assert main(["predict", "run", "--out", "p.csv"]) == 0
    text = capsys.readouterr().out
    assert "gcn of seed 0 on digits: 1,797 predictions in p.csv" in text
    assert f"test accuracy: {record.test_mean:.4f}" in text
    assert "next: pandas.read_csv('p.csv')" in text
    assert main(["predict", "run", "--data", "digits", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["test"] == record.test_mean and "predictions in run" in err


def test_classes_are_compared_by_name(tmp_path: Path) -> None:
    """Two folders whose classes sort differently; one whose classes are unknown to the run."""

    def write(name: str, classes: str, split: bool = True) -> str:
        folder = tmp_path / name
        folder.mkdir()
        parts = ["train", "val", "test"]
        rows = [
            f"{i},{i % 2},{classes[i % 2] if classes else ''}" + f",{parts[i // 2 % 3]}" * split
            for i in range(24)
        ]
        head = "id,a,y,split\n" if split else "id,a,y\n"
        (folder / "nodes.csv").write_text(head + "\n".join(rows) + "\n")
        (folder / "edges.csv").write_text("source,target\n0,2\n1,3\n")
        return str(folder)

    node(data=write("papers", "bp"), model="mlp", epochs=80, hidden=16, quiet=True, out="run")
    told = {
        name: predict("run", data=write(name, classes, split), out=f"{name}.csv", quiet=True)
        for name, classes, split in (
            *(("same", "bp", True), ("swapped", "pb", True), ("others", "xy", True)),
            ("unlabelled", "", False),
        )
    }
    scores = {name: record["test"] for name, record in told.items()}
    assert scores == {"same": 1.0, "swapped": 0.0, "others": None, "unlabelled": None}
    table = pd.read_csv("unlabelled.csv")
    assert set(table["class"]) == {"b", "p"} and "label" not in table and len(table) == 24
    assert table["id"].tolist() == list(range(24)) and list(table.columns[:3]) == [
        *("node", "id", "part")
    ]


def test_labels_and_values_have_a_column_each(own: Data) -> None:
    """Those of a run in bfloat16 too: the test score is that of the run."""
    labels = torch.stack([own.y == 0, own.y > 0], dim=1).float()
    for name, y in (("probability", labels), ("value", torch.randn(90, 2))):
        y[:, 1][own.y == 2] = torch.nan
        own.y, classes = y, own.y
        record = node(data=own, amp="bf16", out=name, **QUICK)
        told = predict(name, data=own, out=f"{name}.csv", quiet=True)
        assert told["test"] == record.test_mean and told["metric"] == record.metric
        table, columns = pd.read_csv(f"{name}.csv"), [f"{name}0", f"{name}1"]
        assert list(table.columns) == ["node", "part", "label0", "label1", *columns]
        np.testing.assert_allclose(table[["label0", "label1"]], y, rtol=1e-6)
        own.y = classes


def test_unlabelled_arrays_are_predicted(own: Data, run: str, tmp_path: Path) -> None:
    """As an npz, and as a folder whose csv or npy of labels holds none; classes known to some."""
    predict(run, data=own, out="own.npy", quiet=True)
    arrays = {"x": own["x"].numpy(), "edge_index": own["edge_index"].numpy()}
    np.savez(tmp_path / "bare.npz", **arrays)
    places = [str(tmp_path / "bare.npz")]
    for name, y in (("csv", "nan\n" * 90), ("texts", np.full(90, "")), ("none", None)):
        folder = tmp_path / name
        folder.mkdir()
        for key, value in arrays.items():
            np.save(folder / f"{key}.npy", value)
        if isinstance(y, str):
            (folder / "y.csv").write_text(y)
        elif y is not None:
            np.save(folder / "y.npy", y)
        places.append(str(folder))
    for place in places:
        assert predict(run, data=place, out="p.npy", quiet=True)["test"] is None
        assert np.array_equal(np.load("p.npy"), np.load("own.npy"))
        predict(run, data=place, out="p.csv", quiet=True)
        assert "label" not in Path("p.csv").read_text()
    half = np.where(np.arange(90) < 9, -1, own["y"].numpy())
    np.savez(tmp_path / "half.npz", **arrays, y=half)
    predict(run, data=str(tmp_path / "half.npz"), out="half.csv", quiet=True)
    label = pd.read_csv("half.csv", dtype=str, keep_default_na=False)["label"]
    assert label.tolist() == [""] * 9 + [str(c) for c in half[9:]]


def test_data_without_labels_or_masks(own: Data, run: str) -> None:
    bare = Data(x=own.x, edge_index=own.edge_index)
    assert predict(run, data=bare, out="bare.npy", quiet=True)["test"] is None
    predict(run, data=own, out="own.npy", quiet=True)
    assert np.array_equal(np.load("bare.npy"), np.load("own.npy")) and "y" not in bare


def test_other_kinds_of_data_are_refused(own: Data, run: str) -> None:
    pairs = HyperGraphData(x=own.x, edge_index=own.edge_index % 90)
    with pytest.raises(DataError, match="A HyperGraphData is not one graph of nodes and edges"):
        predict(run, data=pairs)
    with pytest.raises(DataError, match="mutag is for graph-classification"):
        predict(run, data="mutag")


def test_runs_without_a_result(own: Data, run: str) -> None:
    result = Path(run) / "result.json"
    for content in ("{}", "[]", '{"rows": [], "metric": 3, "rows": [{}]}'):
        result.write_text(content)
        with pytest.raises(StoreError, match="is not the result of a run"):
            predict(run, data=own)
    result.unlink()
    with pytest.raises(ConfigError, match="No seed .* is finished. Go on with it: graphkit train"):
        predict(run, data=own)


def test_labels_of_another_kind_are_predicted_without_a_score(own: Data, run: str) -> None:
    own.y = own.y + 5
    told = predict(run, data=own, quiet=True)
    assert told["test"] is None and told["rows"] == 90


def test_what_cannot_be_predicted(own: Data, run: str) -> None:
    with pytest.raises(ConfigError, match=r"seed is 9, but .* holds the seeds 0, 1, 2"):
        predict(run, data=own, seed=9)
    with pytest.raises(ConfigError, match=r"out is 'p.txt', but a file ending in one of .parquet"):
        predict(run, data=own, out="p.txt")
    with pytest.raises(ConfigError, match="only Python can give again"):
        predict(run)
    with pytest.raises(StoreError, match="nowhere.*cannot be read"):
        predict("nowhere")
    own.x = own.x[:, :2]
    with pytest.raises(DataError, match="weights expect 3 features .* but the data has 2"):
        predict(run, data=own)
    assert not list(Path(run).glob("predictions*"))


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch canary",)


def test_weights_that_are_not_the_runs(own: Data, run: str) -> None:
    path = Path(run) / "weights-seed0.safetensors"
    whole = path.read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(StoreError, match=message):
            predict(run, data=own, seed=0)
        assert not list(Path(run).glob("*predictions*")) and not Path("canary").exists()

    path.write_bytes(pickle.dumps(Hostile()))
    refused("is a pickle or a zip archive")
    torch.save({"a": Hostile()}, path)
    refused("is a pickle or a zip archive")
    path.write_bytes(whole[:-3])
    refused("weights-seed0.safetensors is damaged")
    flipped = bytearray(whole)
    flipped[-5] ^= 4
    path.write_bytes(flipped)
    refused("does not have the checksum")
    save_file({"w": torch.ones(2)}, path)
    refused("carries no checksum")
    weights, about = load_tensors(Path(run) / "weights-seed1.safetensors")
    save_tensors(path, {name: value[:1] for name, value in weights.items()}, about)
    refused("does not hold the weights of a node model")
    save_tensors(path, weights, {})
    refused("does not hold the weights of a node model")
    path.unlink()
    refused("weights-seed0.safetensors cannot be read: No such file")


def test_a_read_only_place(own: Data, run: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        predict(run, data=own, out=str(tmp_path / "file" / "p.csv"))


def test_other_data_of_the_same_width(run: str, own: Data) -> None:
    """A run moved elsewhere, applied to nodes it has never seen."""
    shutil.move(run, "moved")
    new = own.subgraph(torch.arange(60))
    told = predict("moved", data=new, out="p.npy", quiet=True)
    assert told["rows"] == 60 and told["test"] is not None
    assert np.load("p.npy").shape == (60, 3)


def test_digits_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    record = node(epochs=5, quiet=True, out="run", model="mlp")
    assert predict("run", quiet=True)["test"] == record.test_mean
    assert capsys.readouterr() == ("", "")
    assert data_sets.load("digits").num_nodes == len(pd.read_parquet("run/predictions.parquet"))


def tables(folder: Path, nodes: int = 60, labels: bool = True, split: str = "") -> str:
    """A folder of three groups; ``split`` is the word of each node in turn."""
    folder.mkdir(exist_ok=True)
    group = np.arange(nodes) % 3
    frame = pd.DataFrame({"id": [f"n{i}" for i in range(nodes)], "a": group, "b": group == 2})
    if labels:
        frame["y"] = group
    if split:
        frame["split"] = [split.split()[i % len(split.split())] for i in range(nodes)]
    frame.to_csv(folder / "nodes.csv", index=False)
    ends = {"source": frame["id"][:-3], "target": frame["id"][3:].to_numpy()}
    pd.DataFrame(ends).to_csv(folder / "edges.csv", index=False)
    return str(folder)


def parts(file: str) -> set[str]:
    return set(pd.read_csv(file, keep_default_na=False)["part"])


def test_a_drawn_split_is_of_the_data_of_the_run_alone(tmp_path: Path) -> None:
    """Wherever that lies; drawn from anything else it would hold nodes trained on."""
    own, moved = tables(tmp_path / "own"), str(tmp_path / "moved")
    test = node(data=own, **QUICK, out="run").test_mean
    shutil.copytree(own, moved)
    for data in (None, own, moved, f"{tmp_path}/own/../moved", "own/../moved/"):
        told = predict("run", data=data, out="p.csv", quiet=True)
        assert (told["test"], told["notes"]) == (test, [])
        assert parts("p.csv") == {"train", "val", "test"}
    for change in ({"nodes": 61}, {"labels": False}):
        tables(tmp_path / "own", **change)
        tables(tmp_path / "moved", **change)
        for data in (None, "own/../own"):
            told = predict("run", data=data, out="p.csv", quiet=True)
            (note,) = told["notes"]
            assert "own is not as it was in the run, and a split drawn" in note
            assert told["test"] is None and parts("p.csv") == {""}
        told = predict("run", data=moved, out="p.csv", quiet=True)
        assert told["test"] is None and told["notes"] == [] and parts("p.csv") == {""}


def test_a_split_of_the_users_own_is_taken_at_its_word(tmp_path: Path) -> None:
    own = tables(tmp_path / "own", split="train val test")
    node(data=own, **QUICK, out="run")
    tables(tmp_path / "own", nodes=30, split="test val train")
    told = predict("run", out="p.csv", quiet=True)
    assert told["test"] is not None and told["notes"] == []
    assert parts("p.csv") == {"train", "val", "test"}


def test_the_command_line_says_why_there_is_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node(data=tables(tmp_path / "own"), **QUICK, out="run")
    tables(tmp_path / "own", nodes=61)
    assert main(["predict", "run"]) == 0
    text = capsys.readouterr().out
    assert "\nno part and no test score: " in text and "\ntest accuracy" not in text


def test_nodes_without_a_label_are_not_scored(own: Data, run: str) -> None:
    predict(run, data=own, seed=0, out="all.csv", quiet=True)
    table = pd.read_csv("all.csv")
    test = table[table["part"] == "test"]
    known = test[test["node"] % 2 == 0]
    own.y = torch.where(torch.arange(90) % 2 == 0, own.y, -1)
    told = predict(run, data=own, seed=0, quiet=True)
    assert told["test"] == (known["label"] == known["prediction"]).mean()


def test_one_mask_alone_is_enough(own: Data, run: str) -> None:
    expected = predict(run, data=own, seed=1, quiet=True)["test"]
    del own.train_mask, own.val_mask
    told = predict(run, data=own, seed=1, out="p.csv", quiet=True)
    assert told["test"] == expected and parts("p.csv") == {"", "test"}


def test_a_killed_run_predicts_with_its_finished_seeds(own: Data) -> None:
    options: dict[str, Any] = {**QUICK, "seeds": "0-2", "metric": "f1"}
    record = node(data=own, **options, out="whole")
    seen: list[int] = []

    def kill(*args: Any) -> None:
        seen.append(1)
        if len(seen) > 26:
            raise SystemExit

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(plots.Progress, "__call__", kill)
        node(data=own, **options, out="run")
    assert Path("run/checkpoint.safetensors").is_file() and not Path("run/result.json").exists()
    best = max(record.rows[:2], key=lambda row: row.val)
    told = predict("run", data=own, quiet=True)
    assert (told["seed"], told["test"]) == (best.seed, best.test)
    (note,) = told["notes"]
    resume = "Go on with it: graphkit train --resume run"
    assert note == f"the run is not finished, only its seeds 0, 1. {resume}"
    with pytest.raises(ConfigError, match="seed is 2, but run holds the seeds 0, 1"):
        predict("run", data=own, seed=2)
    save_tensors("run/checkpoint.safetensors", {}, {"checkpoint": 1, "tree": {"dict": []}})
    with pytest.raises(StoreError, match=r"run/checkpoint.safetensors is not the checkpoint of"):
        predict("run", data=own)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("result", {"rows": []}, "is not the result of a run: .*0 seeds"),
        ("result", {"rows": [{"seed": 0, "val": None}]}, "is not the result of a run: TypeError"),
        ("result", {"metric": ["a"]}, "is not the result of a run: .*metric"),
        ("config", {"data": 5}, "config.json is damaged: data is 5, but text is expected. Rest"),
        ("config", {"data": None}, "damaged: data is None, but text is expected"),
        ("config", {"metric": 1}, "damaged: metric is 1, but text is expected"),
        ("config", {"amp": "bf17"}, "damaged: amp is 'bf17', but bf16 or None is expected"),
        ("config", {"undirected": "no"}, "damaged: undirected is 'no', but True or False"),
    ],
)
def test_damaged_run_folders(
    own: Data, run: str, name: str, change: dict[str, Any], message: str
) -> None:
    path = Path(run) / f"{name}.json"
    content = json.loads(path.read_text())
    (content["options"] if name == "config" else content).update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=message):
        predict(run, data=own)


def test_weights_with_a_forged_description(own: Data, run: str) -> None:
    path = Path(run) / "weights-seed0.safetensors"
    weights, about = load_tensors(path)
    task = about["task"]
    for change in (
        {"class_names": ["a"]},
        {"class_names": 5},
        {"class_names": [1, 2, 3]},
        {"model": ["gcn"]},
        {"widths": [3, 16]},
        {"task": {**task, "width": 7}},
        {"task": {**task, "kind": "foo"}},
        {"task": {**task, "kind": ["classes"]}},
        {"task": {**task, "metric": "mae"}},
        {"task": 5},
    ):
        save_tensors(path, weights, {**about, **change})
        with pytest.raises(StoreError, match="does not hold the weights of a node model"):
            predict(run, data=own, seed=0)
    name = min(weights)
    bad = {**weights, name: torch.full_like(weights[name], torch.nan)}
    save_tensors(path, bad, about)
    with pytest.raises(StoreError, match=f"is of no use: {name} holds values that are NaN or Inf"):
        predict(run, data=own, seed=0)
    assert not list(Path(run).glob("*predictions*"))


def test_class_names_that_name_too_few_are_not_kept(own: Data) -> None:
    own.class_names = ["a"]
    node(data=own, **QUICK, out="run")
    assert "class" not in pd.read_parquet(predict("run", data=own, quiet=True)["file"])


def test_no_data_is_not_that_of_the_run(own: Data, run: str) -> None:
    with pytest.raises(ConfigError, match="data is '', but the name or the path of a data set"):
        predict(run, data="")
    with pytest.raises(ConfigError, match="data is '', but the name or the path of a data set"):
        node(data="", quiet=True)
    with pytest.raises(DataError, match=r"y must have shape \[90\] or \[90, T\]"):
        predict(run, data=Data(x=own.x, edge_index=own.edge_index, y=torch.zeros(5).long()))
