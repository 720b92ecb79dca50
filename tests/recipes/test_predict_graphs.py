from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_sets import changed, ring
from torch_geometric.data import Batch

from graphkit.cli import main
from graphkit.data import GraphSet
from graphkit.errors import ConfigError, DataError, StoreError
from graphkit.graph import Graph
from graphkit.recipes import graph, node, predict
from graphkit.recipes.graph import ATOMS
from graphkit.recipes.graphnet import graph_net
from graphkit.store import load_tensors, save_tensors

QUICK: dict[str, Any] = dict(hidden=8, num_layers=2, epochs=4, quiet=True)
PARTS = ("train", "val", "test")


def numbered(graphs: GraphSet, **more: Any) -> GraphSet:
    """The same with numbers on nodes and edges."""
    nodes, edges = int(graphs.node_ptr[-1]), int(graphs.edge_ptr[-1])
    return changed(graphs, **{"x": torch.rand(nodes, 3), "edge_attr": torch.rand(edges, 2), **more})


def labels(graphs: GraphSet) -> torch.Tensor:
    """Two labels for each graph, of which some are not known."""
    y = torch.stack([graphs.y.float(), (graphs.node_ptr.diff() > 6).float()], dim=1)
    y[::7, 0] = torch.nan
    return y


def bare(graphs: GraphSet) -> GraphSet:
    return changed(graphs, y=None, **{f"{part}_mask": None for part in PARTS})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amp": "bf16", "batch_size": 7},
        {"metric": "rocauc", "model": "gcn"},
        {"virtual_node": True, "pool": "sum", "metric": "f1"},
    ],
)
def test_the_test_score_is_that_of_the_run(rings: GraphSet, options: dict[str, Any]) -> None:
    record = graph(data=rings, seeds="0-1", out="run", **QUICK, **options)
    for row in record.rows:
        told = predict("run", data=rings, seed=row.seed, quiet=True)
        assert (told["test"], told["metric"], told["rows"]) == (row.test, record.metric, 60)


def test_every_format_holds_what_the_model_computes(rings: GraphSet) -> None:
    data = numbered(rings)
    run = graph(data=data, seeds="0-2", **QUICK).run
    for ending in (".parquet", ".csv", ".npy"):
        predict(run, data=list(data), seed=1, out=f"bare{ending}", quiet=True)
        predict(run, data=data, seed=1, out=f"p{ending}", quiet=True)
    weights, about = load_tensors(Path(run) / "weights-seed1.safetensors")
    model = graph_net(**about["net"])
    model.load_state_dict(weights)
    batch: Any = Batch.from_data_list(list(data))
    joined = Graph.from_edge_index(batch.edge_index, len(batch.x))
    with torch.no_grad():
        out = model.eval()(batch.x, joined, batch.edge_attr, batch.ptr)
    table = pd.read_parquet("p.parquet")
    columns = ["graph", "part", "label", "prediction", "probability0", "probability1"]
    assert list(table.columns) == columns and table["graph"].tolist() == list(range(60))
    assert table["prediction"].tolist() == out.argmax(dim=1).tolist()
    assert table["label"].tolist() == data.y.tolist()
    np.testing.assert_allclose(table.iloc[:, 4:].to_numpy(), out.softmax(dim=1), rtol=1e-4)
    array = np.load("p.npy")
    assert array.dtype == np.float32 and np.array_equal(array, table.iloc[:, 4:].to_numpy())
    pd.testing.assert_frame_equal(pd.read_csv("p.csv"), table, check_dtype=False, rtol=1e-6)
    for part in PARTS:
        rows = getattr(data, f"{part}_mask")[:, 1].tolist()
        assert (table["part"] == part).to_numpy().tolist() == rows
    # a list of Data brings no masks, and other batches
    assert set(pd.read_parquet("bare.parquet")["part"]) == {""}
    np.testing.assert_allclose(np.load("bare.npy"), array, rtol=1e-4)


@pytest.mark.parametrize("kind", ["labels", "values"])
def test_labels_and_values_have_a_column_each(rings: GraphSet, kind: str) -> None:
    y = labels(rings) if kind == "labels" else rings.node_ptr.diff().float().unsqueeze(1) / 2
    y[3] = torch.nan
    masks = {f"{part}_mask": getattr(rings, f"{part}_mask").clone() for part in PARTS}
    for mask in masks.values():
        mask[3] = False
    data = changed(rings, y=y, **masks)
    record = graph(data=data, **QUICK, out="run")
    assert predict("run", data=data, out="p.csv", quiet=True)["test"] == record.test_mean
    predict("run", data=data, out="p.npy", quiet=True)
    table = pd.read_csv("p.csv")
    count, name = (2, "probability") if kind == "labels" else (1, "value")
    numbers = range(count)
    columns = [f"label{n}" for n in numbers], [f"{name}{n}" for n in numbers]
    assert list(table.columns) == ["graph", "part", *columns[0], *columns[1]]
    np.testing.assert_array_equal(table[columns[0]].to_numpy(np.float32), y.numpy())
    np.testing.assert_allclose(table[columns[1]].to_numpy(), np.load("p.npy"), rtol=1e-5)
    assert Path("p.csv").read_text().splitlines()[4].startswith("3,," + "," * count)


def test_graphs_without_labels(rings: GraphSet) -> None:
    for metric in ("accuracy", "rocauc"):
        run = graph(data=rings, metric=metric, **QUICK).run
        told = predict(run, data=bare(rings), out="bare.csv", quiet=True)
        assert told["test"] is None and "label" not in Path("bare.csv").read_text()
        half = rings.y.clone()
        half[:5] = -1
        masks = {f"{part}_mask": getattr(rings, f"{part}_mask").clone() for part in PARTS}
        for mask in masks.values():
            mask[:5] = False
        told = predict(run, data=changed(rings, y=half, **masks), out="half.csv", quiet=True)
        table = pd.read_csv("half.csv")
        found = table["label" if metric == "accuracy" else "label0"]
        assert told["test"] is not None and found[:5].isna().all()
        assert found[5:].tolist() == rings.y[5:].tolist()


def test_masks_of_graphs_without_labels_are_their_parts(rings: GraphSet) -> None:
    run = graph(data=rings, **QUICK).run
    expected = predict(run, data=rings, out="all.csv", quiet=True)
    for y in (None, torch.full((60,), -1), torch.full((60, 1), torch.nan)):
        told = predict(run, data=changed(rings, y=y), out="p.csv", quiet=True)
        assert expected["test"] is not None and told["test"] is None
        table = pd.read_csv("p.csv")
        assert table["part"].equals(pd.read_csv("all.csv")["part"]) and "label" not in table
    overlapping = changed(rings, y=None, val_mask=rings.train_mask)
    with pytest.raises(DataError, match="train_mask and val_mask share .* graphs"):
        predict(run, data=overlapping)
    half = torch.where(torch.arange(60) % 2 == 0, rings.y, -1)
    told = predict(run, data=changed(rings, y=half), out="half.csv", quiet=True)
    table = pd.read_csv("half.csv")
    seen = table[(table["part"] == "test") & table["label"].notna()]
    assert told["test"] == (seen["label"] == seen["prediction"]).mean()


def test_numbers_are_no_labels_of_0_and_1(rings: GraphSet) -> None:
    """Those of solubility, given to a run that learnt binary labels."""
    run = graph(data=rings, metric="rocauc", **QUICK).run
    y = torch.where(torch.arange(60) == 0, -0.77, 1.0).unsqueeze(1)
    told = predict(run, data=changed(rings, y=y), out="p.csv", quiet=True)
    assert told["test"] is None and "label" not in Path("p.csv").read_text()
    binary = rings.y.float().unsqueeze(1)
    told = predict(run, data=changed(rings, y=binary), out="p.csv", quiet=True)
    assert told["test"] is not None and "label0" in Path("p.csv").read_text()


@pytest.mark.parametrize("data", [5, ring(5, False)])
def test_what_is_no_set_of_graphs_is_named(rings: GraphSet, data: Any) -> None:
    run = graph(data=rings, **QUICK).run
    message = f"graphs is one {type(data).__name__}, but a GraphSet or a list of .* into a list"
    with pytest.raises(DataError, match=message):
        predict(run, data=data)
    with pytest.raises(DataError, match=message):
        graph(data=data, **QUICK)


def test_graphs_of_another_kind_are_refused(rings: GraphSet) -> None:
    counted = graph(data=rings, **QUICK).run
    held = graph(data=numbered(rings), **QUICK).run
    nodes, edges = int(rings.node_ptr[-1]), int(rings.edge_ptr[-1])
    sizes = list(ATOMS)
    atoms = torch.stack([torch.randint(0, size, (nodes,)) for size in sizes], dim=1)
    kinds = graph(data=changed(rings, x=atoms), **QUICK).run
    top = int(atoms[:, 1].max())
    stranger = atoms.clone()
    stranger[7, 1] = top + 1
    cases: list[tuple[str, Any, str]] = [
        (counted, numbered(rings), "tell nodes apart by in-degrees, but the graphs have x. Give"),
        (counted, changed(rings, edge_attr=torch.rand(edges, 2)), "expect none as edge_attr, but"),
        (held, rings, "tell nodes apart by x, but the graphs have no x"),
        (held, numbered(rings, x=torch.rand(nodes, 4)), "3 columns of numbers as x, .* have 4 col"),
        (held, numbered(rings, edge_attr=None), "2 columns of numbers as edge_attr, .* have none"),
        (held, changed(rings, x=atoms), "3 columns of numbers as x, .* 9 columns of categories"),
        (kinds, changed(rings, x=atoms[:, :2]), "9 columns of categories as x, .* have 2 columns"),
        (
            kinds,
            changed(rings, x=stranger),
            rf"x\[7, 1\] is {top + 1}, but the .* 0 to {top} there",
        ),
        (kinds, changed(rings, x=-atoms), r"x\[\d+, \d\] is -\d+, but the weights know the cat"),
        (kinds, [], "the list is empty"),
        (kinds, "digits", "digits is for node-classification.*whole graphs"),
        (kinds, "./folder", "./folder is a path.*this recipe learns whole graphs"),
    ]
    for run, data, message in cases:
        with pytest.raises(DataError, match=message):
            predict(run, data=data)
    star = ring(9, False)
    spokes = torch.stack([torch.arange(1, 9), torch.zeros(8, dtype=torch.int64)])
    star.edge_index = torch.cat([spokes, spokes.flip(0)], dim=1)
    with pytest.raises(DataError, match=r"in-degree\[0, 0\] is 8, but the weights .* 0 to 4 there"):
        predict(counted, data=[star])
    with pytest.raises(ConfigError, match="only Python can give again"):
        predict(counted)
    assert not any(list(Path(run).glob("*predictions*")) for run in (counted, held, kinds))


def test_weights_that_are_not_of_graphs(rings: GraphSet, own: Any) -> None:
    run = graph(data=rings, **QUICK).run
    path = Path(run) / "weights-seed0.safetensors"
    weights, about = load_tensors(path)
    other = load_tensors(Path(node(data=own, epochs=1, quiet=True).run) / path.name)
    net = about["net"]
    for tensors, wrong in (
        other,
        (other[0], about),
        (weights, {**about, "task": None}),
        (weights, {**about, "task": {**about["task"], "width": 5}}),
        (weights, {**about, "net": {**net, "hidden": 9}}),
        (weights, {**about, "net": {**net, "model": "nothing", "node": -1}}),
    ):
        save_tensors(path, tensors, wrong)
        with pytest.raises(StoreError, match="does not hold the weights of a graph model"):
            predict(run, data=rings)
    with pytest.raises(
        ConfigError, match="pairs is for runs of link and direction, but .* a run of 'graph'"
    ):
        predict(run, data=rings, pairs="p.csv")
    config = json.loads((Path(run) / "config.json").read_text())
    (Path(run) / "config.json").write_text(json.dumps({**config, "recipe": "temporal"}))
    with pytest.raises(ConfigError, match="run of 'temporal', but predict knows node, no"):
        predict(run, data=rings)


def test_mutag_and_ogbs_molecules_come_back(
    local_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (local_data / "ogb" / "ogbg_molfreesolv").is_dir():
        pytest.skip("GRAPHKIT_DATA holds no ogb/ogbg_molfreesolv")
    words = ["--root", str(local_data), "--epochs", "2", "--hidden", "8", "--num-layers", "2"]
    for name, rows, metric in (("mutag", 188, "accuracy"), ("ogbg-molfreesolv", 642, "rmse")):
        assert main(["train", "graph", "--data", name, *words, "--out", name]) == 0
        assert f"predict:     graphkit predict {name}\n" in capsys.readouterr().out
        assert main(["predict", name, "--out", "p.csv"]) == 0
        test = json.loads((Path(name) / "result.json").read_text())["test_mean"]
        text = capsys.readouterr().out
        assert f"gin of seed 0 on {name}: {rows} predictions in p.csv" in text
        assert f"test {metric}: {test:.4f}" in text and "pandas.read_csv('p.csv')" in text
        assert predict(name, data=name.upper(), quiet=True)["test"] == test
