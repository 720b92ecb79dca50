"""Whatever a file holds, the readers of nodes and structures give it or raise DataError."""

from __future__ import annotations

import gzip
import io
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from graphkit.data.raw import Raw
from graphkit.data.readers import READERS
from graphkit.errors import DataError


def npz(parts: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    np.savez(out, **parts)
    return out.getvalue()


def mat(parts: dict[str, object]) -> bytes:
    out = io.BytesIO()
    savemat(out, parts)
    return out.getvalue()


EYE = np.eye(3, dtype=bool)
PAIRS = {
    "node_features": np.ones((3, 2), np.float32),
    "node_labels": np.arange(3),
    "edges": np.array([[0, 1], [1, 2]]),
    **{f"{part}_masks": EYE[[row]] for row, part in enumerate(("train", "val", "test"))},
}
CSR = {
    **{
        "adj_data": np.ones(2),
        "adj_indices": np.array([1, 2]),
        "adj_indptr": np.array([0, 1, 2, 2]),
    },
    **{"attr_data": np.ones(1), "attr_indices": [0], "attr_indptr": np.array([0, 1, 1, 1])},
    **{"adj_shape": [3, 3], "attr_shape": [3, 2], "labels": np.arange(3)},
}
FRIENDS = {"A": sp.csc_matrix(np.eye(2)), "local_info": np.ones((2, 7), np.uint16)}
PATENTS = {
    "edge_index": np.array([[0], [1]]),
    "node_feat": sp.csc_matrix(np.eye(2)),
    "num_nodes": 2,
    "years": np.array([1963.0, 1964.0]),
}
TWITCH = {
    "m_edges.csv": b"from,to\n0,1\n",
    "m_features.json": b'{"0": [3], "1": []}',
    "m_target.csv": b"id,mature,new_id\n7,True,1\n8,False,0\n",
}
ARXIV = {
    f"raw/{name}.csv.gz": gzip.compress(text)
    for name, text in {
        **{"node-feat": b"0.5\n1.5\n", "edge": b"0,1\n", "node_year": b"2001\n2002\n"},
        "num-node-list": b"2\n",
    }.items()
}
# scipy looks the type up in a table, without asking whether it is in it
UNKNOWN_TYPE = mat(FRIENDS).replace(b"\x09\0\0\0\x10\0\0\0", b"\xc8\0\0\0\x10\0\0\0")
# by reader: files that it reads, and the options of one card
GOOD: dict[str, tuple[dict[str, bytes], dict[str, bool]]] = {
    "arxiv-year": (ARXIV, {}),
    "csr-npz": ({"g.npz": npz(CSR)}, {}),
    "edge-list": ({"e.txt": b"# a comment\n0 1 2\n1 2 2\n"}, {"weighted": True}),
    "facebook100": ({"data.mat": mat(FRIENDS)}, {}),
    "metis": ({"g.graph": b"3 2\n2\n1 3\n2\n"}, {}),
    "musae-twitch": (TWITCH, {}),
    "pairs-npz": ({"g.npz": npz(PAIRS)}, {}),
    "snap-patents": ({"snap_patents.mat": mat(PATENTS)}, {}),
}


def read(reader: str, **changes: bytes) -> Raw:
    files, options = GOOD[reader]
    return READERS[reader]({**files, **changes}, **options)


@pytest.mark.parametrize("reader", GOOD)
def test_the_files_that_are_damaged_below_can_be_read(reader):
    assert read(reader).tensors["edge_index"].shape[0] == 2


OTHER = {
    "pickle": pickle.dumps([1, 2]),
    "text": b"<!doctype html>\n<p>Not found, sorry\n",
    "umlaut": "für\n".encode(),
    "empty": b"",
    "npy": npz({"x": np.ones(2)})[:-30],
    "other arrays": npz({"x": np.ones(2)}),
    "pickled arrays": npz({**{k: np.array([{}], object) for k in (*PAIRS, *CSR)}}),
    "other variables": mat({"x": np.ones(2)}),
    "other gzip": gzip.compress(b"a,b\nc\n"),
}


@pytest.mark.parametrize("content", OTHER)
@pytest.mark.parametrize("reader", GOOD)
def test_files_of_another_kind_are_refused_by_name(reader, content):
    for name in GOOD[reader][0]:
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            read(reader, **{name: OTHER[content]})


@settings(max_examples=60)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_truncated_or_altered_file_is_read_or_refused(reader, data):
    """A change of bytes may leave a valid file; it must never raise another type."""
    name = data.draw(st.sampled_from(sorted(GOOD[reader][0])))
    good = bytearray(GOOD[reader][0][name])
    if data.draw(st.booleans()):
        bad = bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    else:
        good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
        bad = bytes(good)
    try:
        found = read(reader, **{name: bad}).tensors["edge_index"]
    except DataError as error:
        assert name in str(error)
    else:
        assert found.shape[0] == 2


def no(part: dict[str, object], *keys: str) -> dict[str, object]:
    return {key: value for key, value in part.items() if key not in keys}


RANGED = "edge 1 joins 1 and 3, but the 3 nodes are numbered from 0 to 2"
DAMAGED = [
    ("pairs-npz", npz(no(PAIRS, "edges")), "edges missing, the arrays in it are node_features"),
    ("pairs-npz", npz({**PAIRS, "edges": [[0, 1], [1, 3]]}), RANGED),
    ("pairs-npz", npz({**PAIRS, "edges": [[0, 1], [-1, 2]]}), "edge 1 joins -1 and 2"),
    ("pairs-npz", npz({**PAIRS, "edges": [[0.5, 1]]}), "edges must be whole numbers, got float64"),
    ("pairs-npz", npz({**PAIRS, "edges": [0, 1]}), r"edges must have shape \[any, 2\], got \[2\]"),
    ("pairs-npz", npz({**PAIRS, "node_labels": [0]}), r"must have shape \[3\], got \[1\]"),
    ("pairs-npz", npz({**PAIRS, "val_masks": EYE[:, :2]}), r"val_masks must have shape \[any, 3\]"),
    ("pairs-npz", npz({**PAIRS, "node_features": [["a"]] * 3}), "node_features must be numbers"),
    ("csr-npz", npz(no(CSR, "labels", "adj_data")), "labels, adj_data missing"),
    ("csr-npz", npz(no(CSR, "attr_indptr")), "attr_indptr is missing"),
    ("csr-npz", npz({**CSR, "adj_indices": [1, 3]}), r"adj_\* is no CSR matrix"),
    ("csr-npz", npz({**CSR, "adj_indices": [1, -1]}), r"adj_\* is no CSR matrix"),
    ("csr-npz", npz({**CSR, "attr_indptr": [0, 9, 1, 1]}), r"attr_\* is no CSR matrix"),
    ("csr-npz", npz({**CSR, "adj_indptr": [0, 2]}), r"adj_indptr must have shape \[4\], got \[2\]"),
    (
        "csr-npz",
        npz({**CSR, "adj_shape": [3, 4]}),
        r"adj_shape is \[3, 4\], but there are 3 labels",
    ),
    (
        "csr-npz",
        npz({**CSR, "attr_shape": [2, 2]}),
        r"attr_shape is \[2, 2\], but there are 3 label",
    ),
    (
        "csr-npz",
        npz({**CSR, "attr_shape": [3, 2**60]}),
        r"attr_shape \[3, 1152921504606846976\] is",
    ),
    ("csr-npz", npz({**CSR, "attr_data": ["a"]}), "attr_data must be numbers, got <U1"),
    ("edge-list", b"0 1 2\n1 2\n", "not a table of whole numbers"),
    ("edge-list", b"0 1\n1 2\n", "expected 3 columns, got 2"),
    ("edge-list", b"0 1 1.5\n", "not a table of whole numbers"),
    ("edge-list", b"0 1 99999999999999999999\n", "not a table of whole numbers"),
    ("edge-list", b"-1 1 1\n", "node numbers must not be negative"),
    ("edge-list", b"# nothing else\n", "not a table of whole numbers"),
    ("metis", b"3 2\n2\n1 3", "promises 3 lines of neighbours, got 2"),
    ("metis", b"3 2\n2\n1 3\n2\n1\n", "promises 3 lines of neighbours, got 4"),
    ("metis", b"3 2\n2\n1 4\n2\n", "edge 2 joins 1 and 3, but the 3 nodes"),
    ("metis", b"3 2\n2\n3\n2\n", "promises 2 edges, each in two lines, got 3 entries of 2 edges"),
    ("metis", b"3 2 1\n2 9\n1 9\n\n", "its format is 1, but only 0"),
    ("metis", b"3 x\n2\n", "the header must be two numbers, got '3 x'"),
    ("metis", b"2 1\n2\na\n", "not a table of whole numbers"),
    ("facebook100", mat({**FRIENDS, "A": np.eye(2)}), "A must be a sparse matrix, got ndarray"),
    ("facebook100", mat({**FRIENDS, "local_info": np.ones((3, 7))}), r"A must have shape \[3, 3\]"),
    ("facebook100", mat({**FRIENDS, "local_info": np.ones((2, 6))}), r"local_info must have shape"),
    ("facebook100", mat(no(FRIENDS, "A")), "A missing in the Matlab file"),
    ("facebook100", mat({**FRIENDS, "A": np.array([{}], object)}), "A is of class 1"),
    ("facebook100", UNKNOWN_TYPE, r"A has elements of types \[5, 5, 200\]"),
    ("facebook100", mat(FRIENDS)[:-8], "it ends within an element"),
    ("snap-patents", mat({**PATENTS, "years": np.ones(3)}), r"years must have shape \[2\]"),
    ("snap-patents", mat({**PATENTS, "years": [np.nan] * 2}), "years must be numbers"),
    ("snap-patents", mat({**PATENTS, "edge_index": [[0], [2]]}), "edge 0 joins 0 and 2"),
    (
        "snap-patents",
        mat({**PATENTS, "num_nodes": 3}),
        r"years must have shape|node_feat must have",
    ),
]


@pytest.mark.parametrize(("reader", "data", "message"), DAMAGED)
def test_what_is_wrong_is_said(reader, data, message):
    (name,) = GOOD[reader][0]
    with pytest.raises(DataError, match=f"{name.replace('.', '[.]')}: .*{message}"):
        read(reader, **{name: data})


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m_edges.csv", b"from,to\n0,2\n", "edge 0 joins 0 and 2, but the 2 nodes"),
        ("m_edges.csv", b"from,to\n0\n", "expected 2 columns, got 1"),
        ("m_features.json", b'{"2": [3]}', "nodes must lie in 0 .. 1"),
        ("m_features.json", b'{"0": ["a"]}', "not lists of numbers by node"),
        ("m_features.json", b"[" * 100_000, "not lists of numbers by node"),
        ("m_target.csv", b"id,mature,new_id\n7,maybe,0\n", "expected the columns new_id"),
        ("m_target.csv", b"id,mature\n7,True\n", "expected the columns new_id"),
        ("m_target.csv", b"id,mature,new_id\n7,True,4\n", "new_id must number the 1 nodes from 0"),
    ],
)
def test_what_is_wrong_in_the_tables_of_twitch(name, data, message):
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        read("musae-twitch", **{name: data})


def test_edges_of_arxiv_outside_of_the_graph():
    with pytest.raises(DataError, match="raw/edge.csv.gz: edge 0 joins 0 and 2, but the 2 nodes"):
        read("arxiv-year", **{"raw/edge.csv.gz": gzip.compress(b"0,2\n")})


def test_compressed_matlab_files_are_the_same():
    out = io.BytesIO()
    savemat(out, PATENTS, do_compression=True)
    packed = read("snap-patents", **{"snap_patents.mat": out.getvalue()}).tensors
    assert len(packed) == 3
    assert all(torch.equal(packed[k], v) for k, v in read("snap-patents").tensors.items())


def test_the_first_row_of_a_streamer_counts():
    twice = TWITCH["m_target.csv"] + b"9,False,1\n"
    assert read("musae-twitch", **{"m_target.csv": twice}).tensors["y"].tolist() == [0, 1]
