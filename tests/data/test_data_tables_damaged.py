from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from own_graphs import EDGES, NODES, WORDS, lay, toml

from graphkit.data.tables import read_folder
from graphkit.errors import BackendError, DataError, StoreError


def edges_frame() -> pd.DataFrame:
    return pd.DataFrame({"source": ["n1"], "target": ["n2"]})


def nodes_frame(**columns: Any) -> pd.DataFrame:
    part = list(WORDS[[1, 2, 3]])
    return pd.DataFrame({"id": list("abc"), "y": [0, 1, 0], "split": part, "a": 1.0} | columns)


BAD_TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "short row": (
        {"edges": EDGES + "n1\n"},
        "edges.csv, line 5: 1 fields, but the first line has 2. Give every row",
    ),
    "long row": ({"edges": "source,target\nn1,n2,n3\n"}, "line 2: 3 fields, but the first line"),
    "blank line": ({"edges": "source,target\n\nn1,n2\n"}, "edges.csv, line 2: 0 fields"),
    "line after line breaks in quotes": (
        {"nodes": NODES.replace("n1", '"n\n\n1"') + "short\n"},
        "nodes.csv, line 8: 1 fields, but the first line has 5",
    ),
    "open quote": (
        {"edges": 'source,target\n"n1,n2\nn3,n1\n'},
        "edges.csv, line 2: not a row of csv (unexpected end of data)",
    ),
    "no column": (
        {"edges": "source;target\nn1;n2\n"},
        "edges.csv has no column 'source', only source;target. Columns are separated by commas",
    ),
    "column without a name": (
        {"edges": ",source,target\n0,n1,n2\n"},
        "edges.csv: column 1 of 3 has no name. Name it, or leave it out: pandas writes its row",
    ),
    "column twice": (
        {"nodes": NODES.replace("a,b", "a,a")},
        "nodes.csv: two columns are called 'a'. Rename",
    ),
    "no features": (
        {"nodes": "id,y,split\nn1,1,train\n"},
        "nodes.csv has no column of features, only id, y, split. Add one",
    ),
    "no labels": (
        {"nodes": "id,a\nn1,1\n"},
        "or in y_NAME, ..., one of the three, but there are none among id, a. Rename them",
    ),
    "two kinds of labels": (
        {"nodes": "id,a,y,y_1\nn1,1,0,1\n"},
        "but there are 'y' and 'y_1' among id, a, y, y_1",
    ),
    "id twice": (
        {"nodes": NODES.replace("n3", "n1")},
        "nodes.csv, line 4: the id 'n1' was there before, in line 2. Give every node one row",
    ),
    "no id": ({"nodes": NODES.replace("n3", "")}, "nodes.csv, line 4: no id. Give every node"),
    "unknown node": (
        {"edges": EDGES + "n2,n9\n"},
        "edges.csv, line 5, column 'target': the node 'n9' is not in nodes.csv. Add it there",
    ),
    "unknown row": (
        {"nodes": "a,y\n1,0\n2,1\n", "edges": "source,target\n0,2\n"},
        "column 'target': the node '2' is not in nodes.csv, which has no column id, so that its 2 "
        "rows count from 0",
    ),
    "text feature": (
        {"nodes": NODES.replace("2.5", "two")},
        "nodes.csv, line 2, column 'b': 'two' is not a number. Encode texts as numbers",
    ),
    "missing feature": (
        {"nodes": NODES.replace(",4,", ",,").replace(",8,", ",nan,")},
        "nodes.csv, line 3, column 'b': nothing, but a number is expected. Fill it in, or pass "
        "allow_nonfinite=True to keep it as NaN; 2 values are so.",
    ),
    "infinite feature": ({"nodes": NODES.replace(",4,", ",-inf,")}, "column 'b': -inf, more than"),
    "huge feature": ({"nodes": NODES.replace(",4,", ",1e300,")}, "'b': 1e+300, more than float32"),
    "missing weight": (
        {"edges": "source,target,weight\nn1,n2,\n"},
        "edges.csv, line 2, column 'weight': nothing, but a number is expected. Fill it in;",
    ),
    "text on an edge": (
        {"edges": "source,target,kind\nn1,n2,friend\n"},
        "edges.csv, line 2, column 'kind': 'friend' is not a number. Encode",
    ),
    "empty file": ({"nodes": b""}, "nodes.csv is empty: 0 bytes. Write the file again"),
    "blank file": ({"nodes": "\n\r\n"}, "nodes.csv is empty: nothing but line ends"),
    "header only": ({"edges": "source,target\n"}, "edges.csv has a header and no rows. Write"),
    "unknown word": (
        {"nodes": NODES.replace(",val", ",valid")},
        "nodes.csv, line 3, column 'split': unknown part 'valid'; empty is for none. Did you mean "
        "'val'? Known: test, train, val.",
    ),
    "csv and parquet": (
        {"edges__parquet": edges_frame()},
        "has edges.csv and edges.parquet, but only one of them can be meant. Remove",
    ),
    "binary": ({"nodes": NODES.encode() + b"\0"}, "nodes.csv, line 6: a zero byte, so this is not"),
    "latin-1": (
        {"nodes": NODES.replace("red", "ros\u00e9").encode("latin-1")},
        "nodes.csv, line 2: byte 0xe9 is not UTF-8. Save the file in the encoding UTF-8",
    ),
    "utf-16": ({"nodes": NODES.encode("utf-16")}, "nodes.csv, line 1: byte 0xff is not UTF-8"),
    "no nodes": ({"nodes": None}, "must hold nodes and edges, each .csv or .parquet, or else x, "),
    "both layouts": ({"x__npy": np.ones((4, 1))}, "must hold nodes and edges, each .csv or"),
    "split twice": (
        {"splits": "id,split\nn1,train\n"},
        "nodes.csv has a column 'split', and there is splits.csv too. Leave one of them out",
    ),
    "class below 0": (
        {"nodes": NODES.replace("red", "1").replace("blue", "-1")},
        "nodes.csv, line 3, column 'y': class -1 is below 0. Leave the label of unlabelled nodes",
    ),
    "no label at all": (
        {"nodes": NODES.replace("red", "").replace("blue", "nan")},
        "nodes.csv, line 2, column 'y': no row has a label. Fill in",
    ),
    "numbers and a text": (
        {"nodes": NODES.replace("red", "1").replace("blue", "n/a")},
        "nodes.csv, line 3, column 'y': 'n/a' is not a number, as other labels are. Leave unknown",
    ),
    "classes or values": (
        {"nodes": NODES.replace("red", "1.0").replace("blue", "0.0")},
        "the labels are whole numbers written as decimals, which may be classes or values. Say "
        'which in graph.toml: task = "node-classification" or "node-regression".',
    ),
    "several columns of whole numbers": (
        {"nodes": "a,y0,y1\n1,2,0\n", "edges": "source,target\n0,0\n"},
        "line 2, column 'y0': the labels are whole numbers beyond 0 and 1, which may be",
    ),
    "no label of 0 and 1": (
        {
            "nodes": "a,y0,y1\n1,0,0\n1,1,2\n",
            "edges": "source,target\n0,0\n",
            **toml('task = "node-multilabel"'),
        },
        "nodes.csv, line 3, column 'y1': '2' is no label: 0, 1 or nothing for unknown is expected",
    ),
    "two columns of classes": (
        {
            "nodes": "a,y0,y1\n1,0,0\n1,1,2\n",
            "edges": "source,target\n0,0\n",
            **toml('task = "node-classification"'),
        },
        "column 'y1': a second column of labels, but classes stand in one. Merge",
    ),
    "unlabelled in a part": (
        {"nodes": NODES.replace("8,,", "8,,test")},
        ": test_mask selects 1 nodes without a label, for example node 3 with y = -1",
    ),
    "infinite value": (
        {"nodes": NODES.replace("red", "1e99").replace("blue", "0.5")},
        ": y has 2 infinite values, the first is y[0, 0]. Use NaN for what is not known",
    ),
    "unknown key": (
        toml("undirectd = true"),
        "graph.toml: unknown key 'undirectd'. Did you mean 'undirected'? Known: columns, task",
    ),
    "unknown column key": (
        toml('[columns]\nsorce = "a"'),
        "graph.toml: unknown key 'columns.sorce'. Did you mean 'source'?",
    ),
    "wrong type of key": (toml("undirected = 1"), "'undirected' must be bool, got 1."),
    "wrong type of list": (
        toml("[columns]\nfeatures = [1]"),
        "graph.toml: 'columns.features' must be a list of names, got [1].",
    ),
    "unknown task": (toml('task = "regression"'), "task is 'regression'. Did you mean 'node-regr"),
    "no toml": (toml("undirected: true"), "graph.toml is not valid TOML"),
    "named column is not there": (
        toml('[columns]\nid = "key"'),
        "nodes.csv has no column 'key', only id, a, b, y, split.",
    ),
    "named split is not there": (
        toml('[columns]\nsplit = "part"'),
        "nodes.csv has no column 'part', only id, a, b, y, split.",
    ),
    "column named twice": (
        toml('[columns]\nfeatures = ["a", "a"]'),
        "nodes.csv: the column 'a' is asked for twice. Correct [columns] in graph.toml",
    ),
    "damaged parquet": (
        {"nodes": None, "nodes__parquet": b"PAR1 and nothing of it PAR1"},
        "nodes.parquet is not a readable parquet file (",
    ),
    "empty parquet": (
        {"edges": None, "edges__parquet": edges_frame().iloc[:0]},
        "edges.parquet has columns and no rows. Write the file again",
    ),
    "text feature in parquet": (
        {"nodes": None, "nodes__parquet": nodes_frame(a=list("abc"))},
        "string is not a type of numbers. Encode texts as numbers",
    ),
    "missing feature in parquet": (
        {"nodes": None, "nodes__parquet": nodes_frame(a=[1.0, None, 2.0])},
        "nodes.parquet, row 1, column 'a': nothing, but a number is expected",
    ),
    "lists in parquet": (
        {"nodes": None, "nodes__parquet": nodes_frame(id=[[1], [2], [3]])},
        "nodes.parquet, column 'id': list<",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    files, fragment = BAD_TABLES[case]
    folder = lay(tmp_path, **files)
    with pytest.raises(DataError, match=re.escape(fragment)) as raised:
        read_folder(folder)
    assert str(raised.value).startswith(str(folder))


UNSPLIT = NODES.replace(",split", ",c").replace(",train", ",1").replace(",val", ",1")
UNSPLIT = UNSPLIT.replace(",test", ",1").replace("8,,", "8,,1")


@pytest.mark.parametrize(
    ("splits", "fragment"),
    [
        ("id,fold\nn1,1\n", "splits.csv has no column 'split', only id, fold."),
        ("split\ntrain\n", "splits.csv has no column 'id', only split."),
        ("id,split\nn7,test\n", "splits.csv, line 2, column 'id': the node 'n7' is not in nodes"),
        (
            "id,split\nn1,test\nn2,val\nn1,train\n",
            "splits.csv, line 4: the node 'n1' was there before. Give every node one row",
        ),
        ("id,split0,split1\nn1,test,x\n", "splits.csv, line 2, column 'split1': unknown part 'x'"),
        ("id,split\nn1,test\nn2,val\n", "train_mask selects no node."),
    ],
)
def test_bad_splits_are_refused_with_the_reason(tmp_path: Path, splits: str, fragment: str) -> None:
    with pytest.raises(DataError, match=re.escape(fragment)):
        read_folder(lay(tmp_path, UNSPLIT, splits=splits))


def test_a_path_that_is_not_there_or_another_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file or folder .*none. Give the path"):
        read_folder(tmp_path / "none")
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="a.csv is a file, but a folder or an npz is expected"):
        read_folder(tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="each .npy or .csv. It holds nothing."):
        read_folder(tmp_path / "empty")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    folder = lay(tmp_path, edges=None)
    (folder / "edges.csv").mkdir()
    with pytest.raises(StoreError, match=r"edges.csv cannot be read: Is a directory. Check what"):
        read_folder(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all files")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    folder = lay(tmp_path)
    (folder / "edges.csv").chmod(0)
    with pytest.raises(StoreError, match="edges.csv cannot be read: Permission denied"):
        read_folder(folder)


def test_parquet_without_pyarrow_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lay(tmp_path, edges=None, edges__parquet=edges_frame())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyarrow" else 1)
    with pytest.raises(BackendError, match=r'pip install "graphkit\[parquet\]"'):
        read_folder(folder)
