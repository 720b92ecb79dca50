from __future__ import annotations

import csv
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_graphs import (
    EDGES,
    IDS,
    MASKS,
    NODES,
    WORDS,
    as_numpy,
    assert_equal,
    frames,
    graphs,
    lay,
    one_column,
    toml,
)
from torch_geometric.data import Data

from graphkit.data import check, load, random_split
from graphkit.data.columns import Csv
from graphkit.data.tables import end_columns, node_index, read_folder
from graphkit.errors import DataError

DOCS = Path(__file__).parents[2] / "docs" / "own-data.md"


def test_a_small_folder_is_what_it_says(tmp_path: Path) -> None:
    data = read_folder(lay(tmp_path / "my graph"))
    assert data.x.tolist() == [[1, 2.5], [3, 4], [5, pytest.approx(-0.6)], [7, 8]]
    assert data.edge_index.tolist() == [[0, 1, 3], [1, 2, 0]]
    assert data.y.tolist() == [1, 0, 1, -1] and data.class_names == ["blue", "red"]
    assert data.num_classes == 2 and data.name == "my graph"
    assert [data[name].nonzero().tolist() for name in MASKS] == [[[0]], [[1]], [[2]]]
    assert data.x.dtype == torch.float32 and data.y.dtype == data.edge_index.dtype == torch.int64


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_come_back_as_they_were_written(
    ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=40)
    @given(graphs(), st.booleans())
    def law(graph: tuple[dict[str, Any], list[Any] | None], joined: bool) -> None:
        wanted, ids = graph
        tables = frames(wanted, ids)
        if joined:
            splits = tables.pop("splits")
            tables["nodes"] = pd.concat([tables["nodes"], splits.drop(columns="id")], axis=1)
        folder = tmp_path_factory.mktemp("tables")
        named = {f"{stem}__{ending}": frame for stem, frame in tables.items()}
        lay(folder, None, None, **named)
        assert_equal(read_folder(folder), one_column(wanted))

    law()


@settings(max_examples=25)
@given(graphs(), st.randoms(use_true_random=False))
def test_shuffled_nodes_give_the_permuted_graph(
    tmp_path_factory: pytest.TempPathFactory,
    graph: tuple[dict[str, Any], list[Any] | None],
    random: Any,
) -> None:
    wanted, ids = graph
    ids = ids or IDS["text"](len(wanted["x"]))
    order = list(range(len(ids)))
    random.shuffle(order)
    tables = frames(wanted, ids)
    tables["nodes"] = tables["nodes"].iloc[order]
    data = read_folder(lay(tmp_path_factory.mktemp("shuffled"), **tables))
    place = torch.tensor(order).argsort()
    moved = {
        name: value[torch.tensor(order)] if name in ("x", "y", *MASKS) else value
        for name, value in one_column(wanted).items()
    }
    assert_equal(data, moved | {"edge_index": place[wanted["edge_index"]]})


@settings(max_examples=200)
@given(st.text(st.sampled_from('ab,"\n\r \té1.'), max_size=20))
def test_fields_are_those_of_pythons_csv_reader(
    tmp_path_factory: pytest.TempPathFactory, body: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    text = f"a,b\nc,d\n{body}"
    path.write_bytes(text.encode())
    try:
        table = Csv(path)
    except DataError:
        return
    columns, _ = table.read(["a", "b"], [])
    rows = list(csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""), strict=True))
    assert [list(pair) for pair in zip(columns["a"], columns["b"], strict=True)] == rows[1:]


def test_nodes_are_found_by_their_ids(tmp_path: Path) -> None:
    index = node_index(lay(tmp_path / "named"))
    assert index is not None and index.names.tolist() == ["n1", "n2", "n3", "n4"]
    edges = Csv(tmp_path / "named" / "edges.csv")
    ends = np.array(["n4", "n1"], dtype=object)
    assert index.rows(edges, "source", ends).tolist() == [3, 0]
    renamed = lay(
        tmp_path / "renamed",
        NODES.replace("id,", "paper,"),
        EDGES,
        graph__toml='[columns]\nid = "paper"',
    )
    index = node_index(renamed)
    assert index is not None and index.names.tolist() == ["n1", "n2", "n3", "n4"]
    nameless = lay(tmp_path / "nameless", "a,y\n1,0\n2,1\n", "source,target\n0,1\n")
    np.savez(tmp_path / "g.npz", x=np.ones((2, 1)))
    assert node_index(nameless) is None and node_index(tmp_path / "g.npz") is None


def test_bom_line_ends_spaces_and_unicode(tmp_path: Path) -> None:
    nodes = b"\xef\xbb\xbf" + NODES.replace("n1", "Zo\u00eb 1").replace("\n", "\r\n").encode()
    plain = read_folder(lay(tmp_path / "plain"))
    data = read_folder(lay(tmp_path / "ü b" / "中 文", nodes, EDGES.replace("n1", "Zo\u00eb 1")))
    assert data.name == "中 文"
    assert_equal(data, {name: plain[name] for name in ("x", "edge_index", "y", *MASKS)})


def test_flags_and_missing_flags_are_numbers(tmp_path: Path) -> None:
    nodes = "x0,x1,note,y,split\nTrue,,a,0,train\nFalse,True,b,1,val\nTrue,False,c,0,test\n"
    edges = "source,target\n0,1\n2,0\n"
    data = read_folder(lay(tmp_path, nodes, edges), allow_nonfinite=True)
    wanted = torch.tensor([[1, torch.nan], [0, 1], [1, 0]])
    torch.testing.assert_close(data.x, wanted, equal_nan=True)
    frame = pd.DataFrame({"x0": [True, False, True], "y": [0, 1, 0], "split": WORDS[1:]})
    data = read_folder(lay(tmp_path / "p", None, edges, nodes__parquet=frame))
    assert data.x.tolist() == [[1], [0], [1]]


def test_numbered_features_stand_in_the_order_of_their_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = ",".join(f"x{k}" for k in range(11, -1, -1))
    rows = "".join(
        f"{','.join(map(str, range(11, -1, -1)))},{word},{c}\n"
        for word, c in (("train", "a"), ("val", "b"), ("test", "c"))
    )
    data = read_folder(lay(tmp_path, f"{head},split,y\n{rows}", "source,target\n0,1\n"))
    assert data.x.tolist() == [list(range(12))] * 3 and not caplog.records


def test_unused_columns_are_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toml = '[columns]\nfeatures = ["b"]'
    data = read_folder(lay(tmp_path, graph__toml=toml))
    assert data.x.size(1) == 1 and "columns not used: a" in caplog.text


def test_graph_toml_names_columns_task_and_direction(tmp_path: Path) -> None:
    nodes = "key,title,age,grade,part\n1,A,30,2.0,train\n2,B,40,3.0,val\n3,C,50,5.0,test\n"
    edges = "from,to,how,far\n1,2,0.5,9\n2,1,1.5,11\n2,3,4,7\n"
    toml = """undirected = true
    task = "node-regression"
    [columns]
    id = "key"
    source = "from"
    target = "to"
    weight = "how"
    label = "grade"
    split = ["part"]
    features = ["age"]"""
    data = read_folder(lay(tmp_path, nodes, edges, graph__toml=toml))
    assert data.x.tolist() == [[30], [40], [50]] and data.y.tolist() == [[2], [3], [5]]
    assert data.edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert data.edge_weight.tolist() == [1, 1, 4, 4]
    assert data.edge_attr.tolist() == [[10], [10], [7], [7]]
    assert "num_classes" not in data


@pytest.mark.parametrize(
    ("task", "labels", "wanted", "names"),
    [
        (None, ["10", "9", "", "+9"], [1, 0, -1, 0], ["9", "10"]),
        (None, ["b", "a", "nan", "B"], [2, 1, -1, 0], ["B", "a", "b"]),
        ("node-classification", ["2.0", "1", "", "1e0"], [1, 0, -1, 0], ["1", "2"]),
        ("node-classification", ["2.5", "NA", "", "3"], [0, 2, -1, 1], ["2.5", "3", "NA"]),
        ("node-regression", ["3", "1", "2", "1"], [[3], [1], [2], [1]], None),
        ("node-multilabel", ["1", "0", "1.0", "0"], [[1], [0], [1], [0]], None),
        (None, ["3.5", "1", "2", "1"], [[3.5], [1], [2], [1]], None),
    ],
)
def test_what_labels_become(
    tmp_path: Path, task: str | None, labels: list[str], wanted: list[Any], names: list[str] | None
) -> None:
    parts = ["train", "val", "", "test"]
    rows = "".join(
        f"{k},{y},{part}\n" for k, (y, part) in enumerate(zip(labels, parts, strict=True))
    )
    toml = f'task = "{task}"' if task else ""
    files = {"graph__toml": toml} if task else {}
    folder = lay(tmp_path, f"a,y,split\n{rows}", "source,target\n0,1\n", **files)
    data = read_folder(folder)
    assert data.y.tolist() == wanted and getattr(data, "class_names", None) == names


def test_a_split_is_drawn_where_there_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = ["", *"aabbaabbabab" * 4]
    nodes = "a,y\n" + "".join(f"{k},{y}\n" for k, y in enumerate(labels))
    folder = lay(tmp_path, nodes, "source,target\n0,1\n")
    first, again, other = read_folder(folder), read_folder(folder), read_folder(folder, seed=1)
    masks = random_split(first.y, seed=0, stratified=True)
    for name, mask in zip(MASKS, masks, strict=True):
        assert first[name].equal(mask) and again[name].equal(mask)
    assert not other.train_mask.equal(first.train_mask)
    assert "60/20/20" in caplog.text and str(folder) in caplog.text


def test_a_rare_class_is_split_as_it_falls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = "a,y\n" + "".join(f"{k},{'rare' if k == 3 else 'often'}\n" for k in range(10))
    data = read_folder(lay(tmp_path, nodes, "source,target\n0,1\n"))
    assert [int(data[name].sum()) for name in MASKS] == [6, 2, 2]
    assert "not stratified: class 1 has 1 labelled nodes" in caplog.text


def test_nodes_without_any_value_are_in_no_part(tmp_path: Path) -> None:
    labels = [".5,1", ",", ",2", "3,", ",", "1,2", "2,1", "4,4"]
    nodes = "a,y0,y1\n" + "".join(f"{k},{y}\n" for k, y in enumerate(labels))
    data = read_folder(lay(tmp_path, nodes, "source,target\n0,1\n"))
    split = data.train_mask | data.val_mask | data.test_mask
    assert split.tolist() == [True, False, True, True, False, True, True, True]


def test_an_index_that_pandas_kept_is_no_feature(tmp_path: Path) -> None:
    nodes = pd.DataFrame({"a": range(6), "y": list("ababab"), "split": [*WORDS[1:], *WORDS[1:]]})
    edges = pd.DataFrame({"source": [0], "target": [1]})
    lay(tmp_path, None, None, nodes__parquet=nodes.iloc[[0, 2, 4]], edges__parquet=edges)
    assert read_folder(tmp_path).x.tolist() == [[0], [2], [4]]


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DOCS.read_text(encoding="utf-8")
    files = re.findall(r"^```\{code-block\} \w+\n:caption: (.*?)\n(.*?)^```$", text, re.M | re.S)
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert len(files) == 3
    for name, content in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with redirect_stdout(out):
        exec(code, {"read_folder": read_folder})
    shown = "\n".join(line[2:] for line in code.splitlines() if line.startswith("# "))
    assert out.getvalue().strip() == shown


def test_every_key_of_graph_toml_is_in_the_docs(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    block = re.findall(r"^```toml\n(.*?)^```$", text, re.M | re.S)[-1]
    nodes = "paper,year,pages,citations,part\n1,1,2,3,train\n2,1,2,3,val\n3,1,2,3,test\n"
    edges = "citing,cited,strength\n1,2,1\n"
    data = read_folder(lay(tmp_path, nodes, edges, graph__toml=block))
    assert data.y.tolist() == [[3]] * 3 and data.x.size(1) == 2 and "edge_attr" not in data


def valued(y: torch.Tensor) -> Data:
    """A graph of four nodes with floating labels, the last in no part."""
    node = torch.arange(4)
    masks = {name: node == k for k, name in enumerate(MASKS)}
    return Data(x=torch.ones(4, 1), edge_index=torch.zeros(2, 1).long(), y=y, **masks)


@pytest.mark.parametrize(
    "y",
    [
        torch.tensor([0.5, 1, 2, torch.nan]),
        torch.tensor([0.5, 1, 2, 3], dtype=torch.float64),
        torch.tensor([[1.0], [0], [1], [torch.nan]]),
        torch.tensor([[1, torch.nan], [0, 1], [torch.nan, 1], [torch.nan, torch.nan]]),
    ],
)
def test_values_and_labels_pass_the_check(y: torch.Tensor) -> None:
    data = valued(y)
    assert check(data) is data


@pytest.mark.parametrize(
    ("y", "fragment"),
    [
        (
            [0.5, torch.nan, 2, 3],
            "val_mask selects 1 nodes without a label, for example node 1 with y = NaN. Leave",
        ),
        ([[0, 1], [torch.nan, torch.nan], [0, 0], [1, 1]], "val_mask selects 1 nodes without a"),
        ([[0.5], [torch.inf], [1], [2]], "y has 1 infinite values, the first is y[1, 0]. Use NaN"),
        ([0.0, 1, torch.nan, 2], "y must be int64 class numbers, got torch.float32. Use y.long(),"),
        ([0.5, 1, 2], "y must have shape [4], one class per row of x, got [3]"),
        ([[[0.5]]] * 4, "y must have shape [4], one class per row of x, got [4, 1, 1]"),
    ],
)
def test_values_that_fail_the_check(y: list[Any], fragment: str) -> None:
    with pytest.raises(DataError, match=re.escape(fragment)):
        check(valued(torch.tensor(y)))


def test_a_real_graph_goes_through_every_form(local_data: Path, tmp_path: Path) -> None:
    cora = load("cora", local_data)
    wanted = {name: cora[name] for name in ("x", "edge_index", "y", *MASKS)}
    wanted |= {"edge_weight": None, "edge_attr": None, "x": cora.x[:, :300]}
    tables = frames(wanted, [f"paper {i}" for i in range(len(cora.x))])
    lay(tmp_path / "csv", **tables)
    named = {f"{stem}__parquet": frame for stem, frame in tables.items()}
    lay(tmp_path / "parquet", None, None, **named)
    np.savez(tmp_path / "cora.npz", **as_numpy(wanted))
    for path in ("csv", "parquet", "cora.npz"):
        data = read_folder(tmp_path / path)
        assert_equal(data, wanted)
        assert data.num_classes == 7


@pytest.mark.parametrize(
    "nodes",
    [
        "id,a,y\nn1,1,0.0\nn2,2,1.0\n",
        "id,a,y,y0,split,y_b\nn1,1,?,7,trian,\nn2,2,!,x,,1\n",
        "id,a\nn1,1\nn2,2\n",
    ],
)
def test_labels_and_splits_can_be_left_unread(tmp_path: Path, nodes: str) -> None:
    """They are no features either."""
    folder = lay(tmp_path, nodes, "source,target\nn1,n2\n", splits="id,split\nn9,tset\n")
    data = read_folder(folder, labelled=None)
    assert data.x.tolist() == [[1], [2]] and data.y.tolist() == [-1, -1]
    assert "train_mask" not in data and data.edge_index.tolist() == [[0], [1]]


def test_nodes_to_predict_may_lack_the_labels_that_the_settings_name(tmp_path: Path) -> None:
    settings = toml('[columns]\nlabel = ["kind"]\nsource = "von"')
    edges = "von,target\nn1,n2\n"
    folder = lay(tmp_path, "id,a\nn1,1\nn2,2\n", edges, **settings)
    for labelled in (False, None):
        assert read_folder(folder, labelled=labelled).y.tolist() == [-1, -1]
    with pytest.raises(DataError, match="has no column 'kind', only id, a"):
        read_folder(folder)
    assert end_columns(folder) == ("von", "target")
    assert end_columns(tmp_path / "g.npz") == ("source", "target")
