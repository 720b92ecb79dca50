from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from graphkit import metrics
from graphkit.cli import main
from graphkit.errors import ConfigError, DataError, StoreError
from graphkit.graph import Graph
from graphkit.recipes import link, predict, predictions
from graphkit.recipes.linknet import LinkNet, link_net
from graphkit.recipes.links import read_links
from graphkit.recipes.pairs import known
from graphkit.store import load_tensors, save_tensors

CPU = torch.device("cpu")
QUICK: dict[str, Any] = dict(hidden=16, epochs=6, batch_size=128, quiet=True)


@pytest.fixture
def featured(cliques: Data) -> Data:
    cliques.x = torch.eye(4)[torch.arange(60) // 15] + 0.1 * torch.randn(60, 4)
    return cliques


def by_hand(run: str, data: Data, seed: int, pairs: torch.Tensor) -> np.ndarray:
    """The scores of pairs by the model itself, put together from what the file says."""
    weights, about = load_tensors(Path(run) / f"weights-seed{seed}.safetensors")
    model = link_net(**about["net"])
    model.load_state_dict(weights)
    with torch.no_grad():
        h = model.eval()(data.x, Graph.from_edge_index(data["edge_index"], 60))
        return model.score(h, pairs).sigmoid().numpy()


def write(folder: Path, edges: torch.Tensor, named: bool, labels: bool = False) -> str:
    """A folder of tables of 60 nodes, which have names or not."""
    folder.mkdir()
    group = np.arange(60) // 15
    nodes = pd.DataFrame({"a": group * 1.0, "b": np.arange(60) % 2})
    if named:
        nodes.insert(0, "id", [f"n {number}, ü" for number in range(60)])
    if labels:
        nodes["y"] = group
    nodes.to_csv(folder / "nodes.csv", index=False)
    names = nodes["id"].to_numpy() if named else np.arange(60)
    ends = pd.DataFrame(names[edges.numpy()].T, columns=["source", "target"])
    ends.to_csv(folder / "edges.csv", index=False)
    return str(folder)


@pytest.mark.parametrize("options", [{}, {"amp": "bf16"}, {"metric": "hits@7"}, {"model": "gat"}])
def test_the_test_score_is_that_of_the_run(cliques: Data, options: dict[str, Any]) -> None:
    record = link(data=cliques, seeds="0-1", out="run", **{**QUICK, **options})
    for row in record.rows:
        told = predict("run", data=cliques, seed=row.seed, quiet=True)
        assert (told["test"], told["metric"]) == (row.test, record.metric)


def test_every_format_holds_what_the_model_computes(featured: Data) -> None:
    run = link(data=featured, seeds="0-1", **QUICK).run
    for ending in (".parquet", ".csv", ".npy"):
        told = predict(run, data=featured, seed=1, out=f"out/p{ending}", quiet=True)
        assert told["rows"] == 126
    table = pd.read_parquet("out/p.parquet")
    assert list(table.columns) == ["source", "target", "part", "label", "score"]
    kinds = ["int64", "int64", "int64", "float32"]
    assert [str(kind) for kind in table.dtypes.drop("part")] == kinds
    held = [
        (part, label, pair)
        for part, where in (("val", "valid"), ("test", "test"))
        for label, key in ((1, "edge"), (0, "edge_neg"))
        for pair in featured.split_edge[where][key].tolist()
    ]
    ends = table[["source", "target"]].to_numpy().tolist()
    assert list(zip(table["part"], table["label"], ends, strict=True)) == held
    pairs = torch.tensor([pair for _, _, pair in held])
    expected = by_hand(run, featured, 1, pairs)
    np.testing.assert_allclose(table["score"], expected, rtol=1e-5)
    array = np.load("out/p.npy")
    assert array.dtype == np.float32 and np.array_equal(array, table["score"])
    pd.testing.assert_frame_equal(
        pd.read_csv("out/p.csv"), table, check_dtype=False, rtol=1e-6, check_exact=False
    )
    record = json.loads((Path(run) / "result.json").read_text())
    test = table[table["part"] == "test"]
    y, logit = torch.tensor(test["label"].to_numpy()), torch.tensor(test["score"].to_numpy())
    assert metrics.rocauc(logit, y) == pytest.approx(record["rows"][1]["test"], abs=1e-3)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npy"])
def test_pairs_of_the_users_own_are_scored_in_their_order(featured: Data, ending: str) -> None:
    run = link(data=featured, **QUICK).run
    links = read_links(featured, CPU, False)
    told = [(links.positive[part][0], part, 1) for part in ("train", "val", "test")]
    told += [(links.negative[part][0], part, 0) for part in ("val", "test")]
    # links go both ways in this graph
    told += [(pair.flip(0), part, label) for pair, part, label in told]
    told.append((torch.tensor([3, 3]), "", None))
    pairs = torch.stack([pair for pair, _, _ in told])
    frame = pd.DataFrame({"target": pairs[:, 1], "more": 0.5, "source": pairs[:, 0]})
    if ending == ".npy":
        np.save("p.npy", np.asfortranarray(pairs.numpy().astype(np.uint16)))
    elif ending == ".csv":
        frame.to_csv("p.csv", index=False)
    else:
        frame.to_parquet("p.parquet")
    record = predict(run, data=featured, pairs=f"p{ending}", out="s.parquet", quiet=True)
    assert record["test"] is None and record["rows"] == len(told)
    table = pd.read_parquet("s.parquet")
    assert table[["source", "target"]].to_numpy().tolist() == pairs.tolist()
    assert table["part"].tolist() == [part for _, part, _ in told]
    assert table["label"].astype(object).where(table["label"].notna(), None).tolist() == [
        label for _, _, label in told
    ]
    np.testing.assert_allclose(table["score"], by_hand(run, featured, 0, pairs), rtol=1e-5)


def test_in_a_directed_graph_a_pair_is_not_its_reverse(featured: Data) -> None:
    one_way = torch.cat([of["edge"] for of in featured.split_edge.values()]).t()
    data = Data(x=featured.x, edge_index=one_way, num_nodes=60)
    run = link(data=data, **QUICK).run
    pair = read_links(data, CPU, False).positive["test"][:1]
    np.save("p.npy", torch.cat([pair, pair.flip(1)]).numpy())
    predict(run, data=data, pairs="p.npy", out="s.csv", quiet=True)
    table = pd.read_csv("s.csv", dtype=str, keep_default_na=False)
    assert table[["part", "label"]].to_numpy().tolist() == [["test", "1"], ["", ""]]


def test_nodes_are_called_as_the_users_own_data_calls_them(
    cliques: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables without labels, a run by the command line, and the same graph without names."""
    edges = cliques["edge_index"]
    named = write(tmp_path / "named", edges, named=True)
    plain = write(tmp_path / "plain", edges, named=False, labels=True)
    words = ["--epochs", "3", "--hidden", "8", "--out"]
    assert main(["train", "link", "--data", named, *words, "run"]) == 0
    assert main(["train", "link", "--data", plain, *words, "plainrun"]) == 0
    # the line under the result of train names the command
    assert "predict:     graphkit predict run\n" in capsys.readouterr().out
    assert main(["predict", "run", "--out", "p.csv"]) == 0
    text = capsys.readouterr().out
    record = json.loads(Path("run/result.json").read_text())
    assert f"sage of seed 0 on {named}: " in text and "next: pandas.read_csv('p.csv')" in text
    assert f"test rocauc: {record['test_mean']:.4f}" in text
    assert predict("plainrun", out="q.csv", quiet=True)["test"] == record["test_mean"]
    table, numbers = pd.read_csv("p.csv"), pd.read_csv("q.csv")
    assert table["source"].tolist() == [f"n {number}, ü" for number in numbers["source"]]
    assert table["score"].tolist() == numbers["score"].tolist()
    table.head(5).to_csv("mine.csv", index=False)
    assert main(["predict", "run", "--pairs", "mine.csv", "--out", "s.csv"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("s.csv"), table.head(5), rtol=1e-5)
    pd.DataFrame({"source": ["n 1, ü"], "target": ["n 60, ü"]}).to_csv("bad.csv", index=False)
    with pytest.raises(DataError, match=r"bad.csv, line 2, column 'target': the node 'n 60, ü' is"):
        predict("run", pairs="bad.csv")


def test_data_of_the_users_own_that_changed_is_not_scored(cliques: Data, tmp_path: Path) -> None:
    """Divided anew, links that were trained on would count as held out."""
    edges = cliques["edge_index"]
    own = write(tmp_path / "own", edges, named=False)
    link(data=own, **QUICK, out="run")
    moved = str(tmp_path / "moved")
    shutil.copytree(own, moved)
    scored = predict("run", quiet=True)["test"]
    assert scored == predict("run", data=moved, quiet=True)["test"]
    shutil.rmtree(own)
    write(Path(own), edges[:, 2:], named=False)
    told = predict("run", out="p.csv", quiet=True)
    table = pd.read_csv("p.csv", keep_default_na=False)
    (note,) = told["notes"]
    assert note.startswith(f"no part and no test score: {own} is not the data that the run divided")
    assert told["test"] is None and set(table["part"]) == {""} and set(table["label"]) == {0, 1}
    np.save("p.npy", edges[:, 2:].t().numpy())
    predict("run", pairs="p.npy", out="s.parquet", quiet=True)
    table = pd.read_parquet("s.parquet")
    assert set(table["part"]) == {""} and set(table["label"]) == {1}
    predict("run", data=moved, pairs="p.npy", out="t.parquet", quiet=True)
    assert set(pd.read_parquet("t.parquet")["part"]) == {"train", "val", "test"}


def test_nearly_the_same_data_is_not_scored(tmp_path: Path, featured: Data) -> None:
    """A copy of the folder, and an object, both less one edge."""
    edges = featured["edge_index"]
    run = link(data=write(tmp_path / "own", edges, named=True), **QUICK).run
    near = write(tmp_path / "near", edges[:, 1:], named=True)
    whole = Data(x=featured.x, edge_index=edges)
    second = link(data=whole, **QUICK).run
    assert predict(second, data=whole, quiet=True)["test"] is not None
    fewer = Data(x=featured.x, edge_index=edges[:, 1:])
    for folder, data in ((run, near), (second, fewer)):
        told = predict(folder, data=data, out="p.csv", quiet=True)
        assert told["test"] is None and len(told["notes"]) == 1
        assert set(pd.read_csv("p.csv", keep_default_na=False)["part"]) == {""}


@pytest.mark.parametrize("nodes", [3, 10])
def test_pairs_of_other_data_are_scored_where_it_cannot_be_divided(
    featured: Data, nodes: int
) -> None:
    """One edge, and all there can be."""
    run = link(data=featured, **QUICK).run
    there = torch.eye(nodes) == 0
    edges = there.nonzero().t()[:, : 1 if nodes == 3 else None]
    other = Data(x=torch.rand(nodes, 4), edge_index=edges)
    np.save("p.npy", np.array([[0, 1], [2, 0]]))
    predict(run, data=other, pairs="p.npy", out="s.csv", quiet=True)
    table = pd.read_csv("s.csv", dtype=str, keep_default_na=False)
    assert table["part"].tolist() == ["", ""]
    assert table["label"].tolist() == ["1", "" if nodes == 3 else "1"]
    with pytest.raises(DataError, match="too few for parts|pairs without an edge are needed"):
        predict(run, data=other)


@pytest.mark.parametrize("undirected", [False, True])
def test_parallel_edges_and_self_loops_change_no_scores(featured: Data, undirected: bool) -> None:
    whole = Data(x=featured.x, edge_index=featured.edge_index)
    run = link(data=whole, undirected=undirected, **QUICK).run
    edges = featured["edge_index"][:, :300]
    loops = torch.arange(60).repeat(2, 1)
    np.save("p.npy", edges[:, :20].t().numpy())
    scores = []
    for more in (edges[:, :0], edges[:, :100], loops):
        other = Data(x=featured.x, edge_index=torch.cat([more, edges], dim=1))
        predict(run, data=other, pairs="p.npy", out="s.npy", quiet=True)
        scores.append(np.load("s.npy").tolist())
    assert scores[0] == scores[1] == scores[2]


@settings(max_examples=40)
@given(st.integers(6, 12), st.booleans(), st.integers(0, 2**32 - 1))
def test_own_pairs_are_what_the_table_of_held_out_pairs_says(
    num_nodes: int, undirected: bool, seed: int
) -> None:
    """Whatever division; made both ways, no negative is an edge or the reverse of one."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, num_nodes, (2, 5 * num_nodes), generator=generator)
    data = Data(edge_index=edges, num_nodes=num_nodes)
    try:
        links = read_links(data, CPU, undirected)
    except DataError:
        reject()
    joined = {tuple(pair) for pair in edges.t().tolist()}
    joined |= {(b, a) for a, b in joined} if undirected else set()
    for part, label, of in (
        *((part, 1, links.positive[part]) for part in ("train", "val", "test")),
        *((part, 0, links.negative[part]) for part in ("val", "test")),
    ):
        found, labels = known(of, links)
        assert set(found) == {part} and set(labels) == {label}
        assert all((pair in joined) == label for pair in map(tuple, of.tolist()))
    messages = set(map(tuple, links.graph.edge_index().t().tolist()))
    reverse = {(b, a) for a, b in messages}
    assert messages <= joined and (messages == reverse or not undirected)


def test_a_negative_of_the_users_own_split_may_be_the_reverse_of_an_edge(featured: Data) -> None:
    """Then the pair is what the table says, and its reverse is a link."""
    parts = {part: dict(of) for part, of in featured.split_edge.items()}
    messages = parts["train"]["edge"].t()
    parts["test"]["edge_neg"] = messages.t()[:4].flip(1)
    data: Any = Data(x=featured.x, edge_index=messages)
    data.split_edge = parts
    run = link(data=data, undirected=True, **QUICK).run
    predict(run, data=data, out="p.csv", quiet=True)
    predict(run, data=data, pairs="p.csv", out="s.csv", quiet=True)
    first, second = pd.read_csv("p.csv"), pd.read_csv("s.csv")
    pd.testing.assert_frame_equal(second, first, rtol=1e-5)


def test_features_that_are_no_numbers_are_refused(featured: Data) -> None:
    run = link(data=featured, **QUICK).run
    featured.x[7, 2] = torch.nan
    message = r"x has 1 values that are NaN or Inf, the first is x\[7, 2\] = nan. Replace them\.$"
    np.save("p.npy", np.array([[0, 1]]))
    for pairs in (None, "p.npy"):
        with pytest.raises(DataError, match=message):
            predict(run, data=featured, pairs=pairs)
    with pytest.raises(DataError, match=message):
        link(data=featured, **QUICK)


def test_labels_are_not_read(cliques: Data, tmp_path: Path) -> None:
    """Those that could be two things neither."""
    own = write(tmp_path / "own", cliques["edge_index"], named=True, labels=True)
    nodes = pd.read_csv(tmp_path / "own" / "nodes.csv")
    record = link(data=own, **QUICK, out="run")
    for y in (nodes["y"].astype(float), nodes["y"] > 1, None):
        changed = nodes.drop(columns="y") if y is None else nodes.assign(y=y)
        changed.to_csv(tmp_path / "own" / "nodes.csv", index=False)
        assert predict("run", quiet=True)["test"] == record.test_mean
        assert link(data=own, **QUICK).test_mean == record.test_mean


def test_the_columns_of_pairs_may_be_called_as_in_the_edges(cliques: Data, tmp_path: Path) -> None:
    own = write(tmp_path / "own", cliques["edge_index"], named=True)
    edges = pd.read_csv(tmp_path / "own" / "edges.csv").rename(columns={"source": "von"})
    edges.to_csv(tmp_path / "own" / "edges.csv", index=False)
    (tmp_path / "own" / "graph.toml").write_text('[columns]\nsource = "von"\n')
    link(data=own, **QUICK, out="run")
    edges.head(9).to_csv("von.csv", index=False)
    edges.head(9).rename(columns={"von": "source"}).to_csv("source.csv", index=False)
    for name in ("von", "source"):
        predict("run", pairs=f"{name}.csv", out=f"{name}.parquet", quiet=True)
    first, second = (pd.read_parquet(f"{name}.parquet") for name in ("von", "source"))
    pd.testing.assert_frame_equal(first, second)
    assert first["source"].tolist() == edges["von"].head(9).tolist()
    edges.rename(columns={"von": "from"}).to_csv("from.csv", index=False)
    message = "has no column 'source', only from, target. Call the columns source and target, or v"
    with pytest.raises(DataError, match=message):
        predict("run", pairs="from.csv")


def test_the_file_of_pairs_is_not_overwritten(cliques: Data) -> None:
    run = link(data=cliques, **QUICK).run
    predict(run, data=cliques, quiet=True)
    pairs = f"{run}/predictions.parquet"
    before = Path(pairs).read_bytes()
    for out in (None, f"./{run}/../{Path(run).name}/predictions.parquet"):
        with pytest.raises(ConfigError, match="out is .*, which holds the pairs. Give another fi"):
            predict(run, data=cliques, pairs=pairs, out=out)
    assert Path(pairs).read_bytes() == before


def test_other_data_with_the_same_features(featured: Data) -> None:
    run = link(data=featured, **QUICK, metric="hits@20").run
    other = Data(x=torch.rand(30, 4), edge_index=torch.randint(0, 30, (2, 120)))
    told = predict(run, data=other, quiet=True)
    links = read_links(other, CPU, False)
    held = [len(links.positive[part]) for part in ("val", "test")]
    # these are too few pairs for the metric of the run
    assert held[1] < 20 and told["test"] is None and told["rows"] == 2 * sum(held)
    other.x = torch.rand(30, 5)
    with pytest.raises(DataError, match=r"expect 4 features .* the data has 5 features .*Give dat"):
        predict(run, data=other)
    bare = Data(edge_index=other.edge_index, num_nodes=30)
    with pytest.raises(DataError, match="expect 4 features for each node, but the data has no fea"):
        predict(run, data=bare)


def test_learnt_vectors_know_their_nodes_alone(cliques: Data) -> None:
    run = link(data=cliques, **QUICK).run
    more = cliques.clone()
    more.num_nodes = 61
    with pytest.raises(DataError, match="learnt vector for each of 60 nodes, but the data has 61"):
        predict(run, data=more)
    more.num_nodes, more.x = 60, torch.rand(60, 2)
    with pytest.raises(DataError, match="expect no features, but the data has 2 features"):
        predict(run, data=more)
    more.x = torch.rand(60)
    with pytest.raises(DataError, match=r"x has shape \[60\], but \[60, num_features\]"):
        predict(run, data=more)
    with pytest.raises(DataError, match="mutag is for graph-classification"):
        predict(run, data="mutag")
    with pytest.raises(ConfigError, match="only Python can give again"):
        predict(run)
    assert not list(Path(run).glob("predictions*"))


def test_pairs_that_cannot_be_scored(cliques: Data) -> None:
    run = link(data=cliques, **QUICK).run
    cases: list[tuple[str, Any, type[Exception], str]] = [
        ("p.txt", "", ConfigError, "pairs is 'p.txt', but a file ending in one of .csv, .parquet,"),
        ("a.npy", np.ones((3, 2)), DataError, r"a.npy is float64 of shape \[3, 2\], but whole"),
        ("b.npy", np.ones((2, 3), int), DataError, r"b.npy is int64 of shape \[2, 3\], but whole"),
        ("c.npy", np.array([[1, 2], [60, -1]]), DataError, r"c.npy\[1, 0\]: 60 is no node.*to 59"),
        ("d.npy", np.array([[1, {}]]), DataError, "Pickled objects are never read"),
        ("e.csv", "a,b\n1,2\n", DataError, "e.csv has no column 'source', only a, b. Call the"),
        ("f.csv", "source,target\n1,2\n1,0.5\n", DataError, "line 3, column 'target': 0.5 is no"),
        (
            "g.csv",
            "source,target\n,2\n-1,3\n",
            DataError,
            "'source': nan is no .* 2 entries are so",
        ),
        (
            "h.csv",
            "source,target\nx,2\n",
            DataError,
            "line 2, column 'source': 'x' is not a number. The data gives .* rows, from 0 to 59.$",
        ),
        ("k.csv", "source,target\nTrue,False\n", DataError, "'True' is not a number. The data"),
        ("l.csv", "source,target\n1,2\n,True\n", DataError, "line 3, column 'target': 'True' is"),
        (
            "m.parquet",
            pd.DataFrame({"source": [True], "target": [1]}),
            DataError,
            "column 'source': bool is not a type of numbers. The data gives its nodes no ids",
        ),
        ("i.csv", "source,target\n", DataError, "i.csv has a header and no rows"),
        ("j.parquet", "PAR1", DataError, "j.parquet"),
    ]
    for name, content, error, message in cases:
        if isinstance(content, str):
            Path(name).write_text(content)
        elif isinstance(content, pd.DataFrame):
            content.to_parquet(name)
        else:
            np.save(name, content)
        with pytest.raises(error, match=message):
            predict(run, data=cliques, pairs=name)
    with pytest.raises(StoreError, match="absent.csv cannot be read: No such file"):
        predict(run, data=cliques, pairs="absent.csv")
    assert not list(Path(run).glob("*predictions*"))


def test_weights_that_are_not_of_links(cliques: Data) -> None:
    run = link(data=cliques, **QUICK).run
    path = Path(run) / "weights-seed0.safetensors"
    weights, about = load_tensors(path)
    net = about["net"]
    for wrong in (
        {"model": "gcn", "widths": [3, 16, 3]},
        {"net": {**net, "out": 2}},
        {"net": {**net, "model": "nothing"}},
        {"net": {**net, "hidden": 17}},
        {"net": None},
    ):
        save_tensors(path, weights, wrong)
        with pytest.raises(StoreError, match="does not hold the weights of a link model"):
            predict(run, data=cliques)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StoreError, match="weights-seed0.safetensors is damaged"):
        predict(run, data=cliques)


def test_each_link_among_negatives_of_its_own(cliques: Data) -> None:
    """The form of ogbl-citation2, whose pairs are a row each in the table."""
    parts: dict[str, Any] = {}
    for part, of in cliques.split_edge.items():
        source, target = of["edge"].t()
        other = torch.randint(0, 60, (len(source), 8))
        parts[part] = {"source_node": source, "target_node": target, "target_node_neg": other}
    data = Data(edge_index=cliques.edge_index, num_nodes=60)
    data.split_edge = parts
    links, model = read_links(data, CPU, False), LinkNet("gcn", 60, None, 16, 2, 0.0).eval()
    options = {**QUICK, "amp": None, "metric": "mrr", "clip": 0.0}
    problem = importlib.import_module("graphkit.recipes.link").problem
    with torch.no_grad():
        found = predictions._held_out(model, links, options, None)
        assert found.test == problem(model, 0, links=links, options=options).test()
    assert len(found.values) == (21 + 42) * 9
    rows = (found.columns["part"] == "test") & (found.columns["label"] == 0)
    expected = parts["test"]["target_node_neg"].view(-1).tolist()
    assert found.columns["target"][rows].tolist() == expected


def test_ogbs_drugs_come_back(local_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (local_data / "ogb" / "ogbl_ddi").is_dir():
        pytest.skip("GRAPHKIT_DATA holds no ogb/ogbl_ddi")
    options: dict[str, Any] = dict(hidden=4, epochs=1, batch_size=2**20, model="mlp", quiet=True)
    record = link(data="ogbl-ddi", root=str(local_data), out="run", **options)
    told = predict("run", out="p.npy", quiet=True)
    assert told["test"] == record.test_mean and record.metric == "hits@20"
    assert told["rows"] == 2 * 133_489 + 101_882 + 95_599
