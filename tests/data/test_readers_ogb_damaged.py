"""Damaged and hostile files in OGB's raw layouts."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ogb_sets import PARTS, files_of, table, write_link, write_mag, write_node, write_npz

from graphkit.data.readers.ogb import read_ogb_link, read_ogb_node
from graphkit.data.readers.ogb_hetero import read_ogb_hetero
from graphkit.data.readers.ogb_npz import read_ogb_npz
from graphkit.errors import DataError


def gz(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


DAMAGED = {
    "text": ("raw/edge.csv.gz", gz("a,b\nc,d\n"), "table of numbers is expected, got text"),
    "columns": ("raw/edge.csv.gz", gz("0,1,2\n2,3,1\n"), "2 rows of 2 numbers .* got 2 of 3"),
    "short row": ("raw/edge.csv.gz", gz("0,1\n2\n"), "whole numbers are expected"),
    "long row": ("raw/edge.csv.gz", gz("0,1\n2,3,4\n"), "not a gzip of comma-separated rows"),
    "rows": ("raw/edge.csv.gz", gz("0,1\n"), "2 rows of 2 numbers are expected, got 1 of 2"),
    "below": ("raw/edge.csv.gz", gz("0,-1\n2,3\n"), "number -1 lies outside"),
    "above": ("raw/edge.csv.gz", gz("0,1\n2,4\n"), "number 4 lies outside"),
    "huge": ("raw/edge.csv.gz", gz("0,1\n2,9223372036854775807\n"), "number .* lies outside"),
    "larger": ("raw/edge.csv.gz", gz(f"0,1\n2,{2**64 - 1}\n"), "whole numbers are expected"),
    "text by size": ("raw/edge.csv.gz", gz(f"0,1\n2,{10**30}\n"), "of numbers is expected"),
    "fraction": ("raw/edge.csv.gz", gz("0,1\n2,2.5\n"), "whole numbers are expected"),
    "plain": ("raw/edge.csv.gz", b"0,1\n2,3\n", "not a gzip"),
    "cut": ("raw/edge.csv.gz", gz("0,1\n2,3\n")[:-9], "not a gzip"),
    "empty": ("raw/edge.csv.gz", b"", "not a gzip"),
    "no rows": ("raw/edge.csv.gz", gz(""), "not a gzip of comma-separated rows"),
    "bytes": ("raw/edge.csv.gz", gzip.compress(b"\xff\xfe\x00"), "not a gzip|table of numbers"),
    "sizes": ("raw/num-node-list.csv.gz", gz("4\n2\n"), "2 and 1 sizes"),
    "size below": ("raw/num-node-list.csv.gz", gz("-4\n"), "1 and 1 sizes, or one below 0"),
    "nodes": ("raw/node-feat.csv.gz", gz("1,2\n"), "4 rows of 2 numbers are expected, got 1 of 2"),
    "nan": ("raw/node-feat.csv.gz", gz("1,2\n1,\n1,2\n1,2\n"), "a value is NaN or infinite"),
    "inf": ("raw/node-feat.csv.gz", gz("1,2\n1,1e300\n1,2\n1,2\n"), "a value is NaN or infinite"),
    "label": ("raw/node-label.csv.gz", gz("0\n1.5\n0\n2\n"), "classes count from 0"),
    "label inf": ("raw/node-label.csv.gz", gz("0\ninf\n0\n2\n"), "classes count from 0"),
    "label below": ("raw/node-label.csv.gz", gz("0\n-3\n0\n2\n"), "classes count from 0"),
    "labels": ("raw/node-label.csv.gz", gz("0\n1\n"), "4 rows of 1 numbers are expected, got 2"),
    "split": ("split/time/valid.csv.gz", gz("4\n"), "number 4 lies outside"),
    "two columns": ("split/time/valid.csv.gz", gz("1,2\n"), "1 rows of 1 numbers"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_table_names_itself(case, tmp_path):
    name, content, message = DAMAGED[case]
    write_node(tmp_path)
    assert read_ogb_node(files_of(tmp_path)).tensors["y"].tolist() == [0, 1, 0, 2]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*: .*{message}"):
        read_ogb_node(files_of(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raw/edge.csv.gz", "raw/edge.csv.gz is not among the files"),
        ("raw/node-label.csv.gz", "raw/node-label.csv.gz is not among the files"),
        ("split/time/test.csv.gz", r"one file split/\*/test.csv.gz is expected, got 0"),
    ],
)
def test_a_missing_table_is_named(name, message, tmp_path):
    write_node(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=message):
        read_ogb_node(files_of(tmp_path))


def test_two_splits_and_two_graphs_are_one_too_many(tmp_path):
    write_node(tmp_path)
    table(tmp_path, "split/random/test.csv.gz", [0])
    with pytest.raises(DataError, match="expected, got 2"):
        read_ogb_node(files_of(tmp_path))
    for name, rows in (("num-node-list", [2, 2]), ("num-edge-list", [1, 1])):
        table(tmp_path, f"raw/{name}.csv.gz", rows)
    table(tmp_path, "raw/edge.csv.gz", [[0, 1], [1, 0]])
    with pytest.raises(DataError, match="one graph is expected, got 2"):
        read_ogb_node(files_of(tmp_path))


EDGE = np.array([[0, 1]])
WRONG = {
    "no dict": (EDGE, "a dict of arrays is expected, got ndarray"),
    "no array": ({"edge": [[0, 1]]}, "got list under 'edge'"),
    "objects": ({"edge": np.array([[None, 1]])}, "got object under 'edge'"),
    "texts": ({"edge": np.array([["a", "b"]])}, "got <U1 under 'edge'"),
    "fractions": ({"edge": np.array([[0.0, 1.0]])}, "got float64 under 'edge'"),
    "key": ({"a/b": EDGE}, "got int64 under 'a/b'"),
    "number": ({3: EDGE}, "got int64 under 3"),
    "outside": ({"edge": EDGE, "edge_neg": EDGE + 4}, ", edge_neg: number 4 lies outside"),
    "below": ({"source_node": EDGE - 1}, ", source_node: number -1 lies outside"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_link_split_of_another_form_is_refused(case, tmp_path):
    content, message = WRONG[case]
    write_node(tmp_path)
    write_link(tmp_path, {"train": {"edge": EDGE}, "valid": content, "test": {"edge": EDGE}})
    with pytest.raises(DataError, match=rf"split/time/valid\.pt.*{message}"):
        read_ogb_link(files_of(tmp_path))


class Trap:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.canary}'",)


def hostile_files(canary: Path) -> Iterator[bytes]:
    """A pickle that runs a command, in every form that a .pt file has had."""
    yield pickle.dumps(Trap(canary))
    for modern in (False, True):
        out = io.BytesIO()
        torch.save({"edge": Trap(canary)}, out, _use_new_zipfile_serialization=modern)
        yield out.getvalue()


def test_a_hostile_link_split_does_not_run(tmp_path):
    write_node(tmp_path)
    for content in hostile_files(tmp_path / "canary"):
        for part in PARTS.values():
            (tmp_path / f"split/time/{part}.pt").write_bytes(content)
        with pytest.raises(DataError, match=r"split/time/train\.pt: the pickle asks for"):
            read_ogb_link(files_of(tmp_path))
    assert not (tmp_path / "canary").exists()


NPZ = {
    "object": ({"node_feat": np.array([[Path()]] * 4)}, "data.npz: not an npz of numbers"),
    "edges": ({"edge_index": np.zeros((2, 5), dtype=int)}, r"edge_index must be .*\[2, 3\], got"),
    "float edges": ({"edge_index": np.zeros((2, 3))}, "got float64"),
    "no edges": ({"edge_index": None}, "edge_index must be"),
    "outside": ({"edge_index": np.full((2, 3), 4)}, "edge_index: number 4 lies outside"),
    "no sizes": ({"num_nodes_list": None}, "num_nodes_list and num_edges_list of one graph"),
    "graphs": ({"num_edges_list": np.array([1, 2])}, "of one graph are expected"),
    "rows": ({"node_feat": np.zeros((3, 2))}, r"data.npz, node_feat: numbers of nodes \[4, ...\]"),
    "texts": ({"node_year": np.array(["a"] * 4)}, "node_year: numbers of nodes"),
    "name": ({"colour": np.zeros(4)}, "data.npz, colour: numbers of nodes"),
    "label": ({"label": np.zeros((3, 1))}, "node-label.npz, node_label: numbers"),
    "no label": ({"label": None}, "node-label.npz, node_label: numbers"),
    "label below": ({"label": np.full((4, 1), -2)}, "node-label.npz: classes count from 0"),
}


@pytest.mark.parametrize("case", NPZ)
def test_an_npz_of_another_form_is_refused(case, tmp_path):
    changes, message = NPZ[case]
    write_npz(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        read_ogb_npz(files_of(tmp_path))


def test_a_damaged_or_hostile_npz(tmp_path):
    write_npz(tmp_path)
    path = tmp_path / "raw/data.npz"
    whole = path.read_bytes()
    trapped = io.BytesIO()
    with zipfile.ZipFile(trapped, "w") as archive:
        archive.writestr("edge_index.npy", pickle.dumps(Trap(tmp_path / "canary")))
    for content in (b"", whole[:100], whole[:-40], b"PK" + whole[2:60], trapped.getvalue()):
        path.write_bytes(content)
        with pytest.raises(DataError, match="raw/data.npz: not an npz of numbers"):
            read_ogb_npz(files_of(tmp_path))
    assert not (tmp_path / "canary").exists()


HETERO = {
    "types": ("raw/triplet-type-list.csv.gz", gz("paper,by,robot\n"), "node type 'robot' has no"),
    "names": ("raw/triplet-type-list.csv.gz", gz("paper,by\n"), "3 names in each row"),
    "dict": ("raw/num-node-dict.csv.gz", gz("paper,author\n1,2\n3,4\n"), "a line of names and one"),
    "no number": ("raw/num-node-dict.csv.gz", gz("paper,author\n1,b\n"), "a number of nodes for"),
    "flags": ("raw/nodetype-has-label.csv.gz", gz("paper\nmaybe\n"), "True or False for each"),
    "flagged": ("raw/nodetype-has-label.csv.gz", gz("robot\nTrue\n"), "True or False for each"),
    "edge": (
        "raw/relations/author___writes___paper/edge.csv.gz",
        gz("0,0\n0,0\n0,0\n3,0\n"),
        "number 3 lies outside",
    ),
    "split": ("split/time/paper/test.csv.gz", gz("9\n"), "number 9 lies outside"),
}


@pytest.mark.parametrize("case", HETERO)
def test_a_damaged_heterogeneous_set_names_the_file(case, tmp_path):
    name, content, message = HETERO[case]
    write_mag(tmp_path, np.random.default_rng(0))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        read_ogb_hetero(files_of(tmp_path))
