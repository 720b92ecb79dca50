from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_graphs import MASKS, arrays, as_numpy, assert_equal, graphs, lay, one_column, toml
from torch_geometric.datasets import HeterophilousGraphDataset
from torch_geometric.utils import to_undirected

from graphkit.data.tables import read_folder
from graphkit.errors import DataError


@settings(max_examples=40)
@given(graphs(), st.booleans())
def test_arrays_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory,
    graph: tuple[dict[str, Any], list[Any] | None],
    packed: bool,
) -> None:
    wanted, _ = graph
    arrays = as_numpy(wanted)
    folder = tmp_path_factory.mktemp("arrays")
    if packed:
        np.savez(folder / "g.npz", **arrays)
    else:
        lay(folder, None, None, **{f"{name}__npy": array for name, array in arrays.items()})
    data = read_folder(folder / "g.npz" if packed else folder)
    assert_equal(data, wanted)
    assert data.name == ("g" if packed else folder.name)


@settings(max_examples=25)
@given(graphs())
def test_arrays_as_csv_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, graph: tuple[dict[str, Any], list[Any] | None]
) -> None:
    wanted, _ = graph
    folder = tmp_path_factory.mktemp("arrays")
    for name, array in as_numpy(one_column(wanted)).items():
        rows = array.T if name == "edge_index" else array
        frame = pd.DataFrame(rows.astype(int) if rows.dtype == bool else rows)
        if name == "y" and rows.dtype.kind == "i":
            frame = frame.mask(frame < 0).astype("Int64")
        frame.to_csv(folder / f"{name}.csv", index=False, header=False)
    assert_equal(read_folder(folder), one_column(wanted))


@pytest.mark.parametrize(
    ("task", "y", "wanted"),
    [
        (None, np.array([0, 2, 1, -1], dtype=np.int8), [0, 2, 1, -1]),
        (None, np.array([[0], [2], [1], [-1]]), [0, 2, 1, -1]),
        (None, np.array(["b", "a", "b", ""]), [1, 0, 1, -1]),
        (None, np.array([[0, 1]] * 4), [[0, 1]] * 4),
        (None, np.array([True, False, True, True]), [[1], [0], [1], [1]]),
        (None, np.array([0.5, 1, 2, 3]), [0.5, 1, 2, 3]),
        ("node-classification", np.array([0.0, 2, 1, np.nan]), [0, 2, 1, -1]),
        ("node-regression", np.array([3, 2, 1, 0]), [[3], [2], [1], [0]]),
    ],
)
def test_what_arrays_of_labels_become(
    tmp_path: Path, task: str | None, y: np.ndarray, wanted: list[Any]
) -> None:
    files = {"graph__toml": f'task = "{task}"'} if task else {}
    data = read_folder(arrays(tmp_path, y__npy=y, **files))
    assert data.y.tolist() == wanted
    assert data.y.dtype == (torch.int64 if isinstance(wanted[0], int) else torch.float32)


BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no y": ({"y__npy": None}, "has no y, only edge_index, test_mask, train_mask, val_mask, x."),
    "one mask": ({"val_mask__npy": None}, "has train_mask, but not all of train_mask, val_mask"),
    "pickle": ({"x__npy": np.array([{}])}, "x.npy is not a npy file of plain arrays (Object arr"),
    "damaged": ({"x__npy": b"\x93NUMPY"}, "x.npy is not a npy file of plain arrays ("),
    "empty": ({"x__npy": b""}, "x.npy is empty: 0 bytes"),
    "npy and csv": ({"x": "1\n2\n3\n4\n"}, "has x.npy and x.csv, but only one of them"),
    "columns": (toml('[columns]\nid = "a"'), "graph.toml has [columns], but these arrays have"),
    "text x": ({"x__npy": np.array(["a"] * 4)}, "x.npy is <U1, but numbers are expected"),
    "flat x": ({"x__npy": np.ones(4)}, "x must have shape [num_nodes, num_features], got [4]"),
    "missing x": ({"x__npy": np.full((4, 1), np.nan)}, "x has 4 values that are NaN or Inf"),
    "float edges": (
        {"edge_index__npy": np.zeros((2, 1))},
        "edge_index.npy is float64, but whole numbers are expected: the rows of x, from 0",
    ),
    "fractions as edges": (
        {"edge_index__npy": None, "edge_index": "0,1\n1,0.5\n"},
        "edge_index.csv is float64, but whole numbers are expected",
    ),
    "header": (
        {"edge_index__npy": None, "edge_index": "source,target\n1,0\n"},
        "edge_index.csv, line 1, column '0': 'source' is not a number.",
    ),
    "ragged": (
        {"edge_index__npy": None, "edge_index": "0,1\n1\n"},
        "edge_index.csv, line 2: 1 fields, but the first line has 2",
    ),
    "turned edges": (
        {"edge_index__npy": np.array([[0, 1], [1, 2], [2, 3]])},
        "edge_index has shape [3, 2], but [2, E] is expected. Did you transpose it",
    ),
    "edges beyond": (
        {"edge_index__npy": np.array([[0], [4]])},
        "edge_index[1, 0] = 4, but the graph has 4 nodes",
    ),
    "edge weights": (
        {"edge_weight__npy": np.ones(3)},
        "edge_weight.npy has shape [3], but one row for each of the 2 edges is expected",
    ),
    "mask of numbers": (
        {"val_mask__npy": np.array([1, 2])},
        "val_mask.npy must hold True and False, or 1 and 0, one for each node.",
    ),
    "mask length": ({"val_mask__npy": np.ones(3, bool)}, "val_mask must have shape [4] or [4, "),
    "y shape": (
        {"y__npy": np.zeros((4, 1, 1))},
        "y.npy is float64 of shape [4, 1, 1], but numbers or texts [N] or [N, T] are expected",
    ),
    "y length": (
        {"y__npy": np.zeros(3, int)},
        "y must have shape [4] or [4, T], a row for each row of x, got [3]",
    ),
    "y beyond 0 and 1": (
        {"y__npy": np.array([[0, 2]] * 4)},
        "y.npy has 2 columns of whole numbers beyond 0 and 1. Save classes in one column",
    ),
    "y as float": ({"y__npy": np.array([0.0, 1, 2, 1])}, "Use y.long(), or y.view(-1, 1) if these"),
    "y of two columns": (
        {"y__npy": np.zeros((4, 2)), **toml('task = "node-classification"')},
        "y.npy has 2 columns, but classes stand in one",
    ),
    "y of fractions": (
        {"y__npy": np.array([0.5, 1, 2, 1]), **toml('task = "node-classification"')},
        "y.npy has fractions, but classes are whole numbers from 0",
    ),
    "text in y": (
        {"y__npy": None, "y": "1\n0\nx\n1\n"},
        "y.csv, line 3, column 0: 'x' is not a number, as other labels are",
    ),
    "text in an array of labels": (
        {"y__npy": np.array(["1", "0", "x", "1"])},
        "y.npy, row 2, column 0: 'x' is not a number, as other labels are",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    files, fragment = BAD_ARRAYS[case]
    folder = arrays(tmp_path, **files)
    with pytest.raises(DataError, match=re.escape(fragment)) as raised:
        read_folder(folder)
    assert str(raised.value).startswith(str(folder))


def packed(path: Path, **changed: Any) -> Path:
    files = {
        "x": np.ones((3, 1)),
        "y": np.array([0, 1, 0]),
        "edge_index": np.array([[0], [1]]),
        **{name: np.arange(3) == k for k, name in enumerate(MASKS)},
    }
    np.savez(
        path, **{name: value for name, value in (files | changed).items() if value is not None}
    )
    return path


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        ({"train": np.ones(3)}, "has an array 'train'. Did you mean 'train_mask'? Known: edge"),
        ({"edges": np.ones((1, 2), int)}, "has 'edges' beside 'edge_index'. Leave one of them"),
        ({"x": None}, "has no x, only edge_index, test_mask"),
        ({"y": np.array([{}, {}, {}])}, "not a npz file of plain arrays (Object arrays cannot be"),
        ({"y": np.array([1j, 0, 0])}, "g.npz, array 'y' is complex128 of shape [3], but numbers"),
    ],
)
def test_bad_npz_are_refused_with_the_reason(
    tmp_path: Path, changed: dict[str, Any], fragment: str
) -> None:
    with pytest.raises(DataError, match=re.escape(fragment)):
        read_folder(packed(tmp_path / "g.npz", **changed))


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (None, None),
        (np.full(4, -1), None),
        (np.full(4, ""), "node-regression"),
        ("nan\n" * 4, None),
    ],
)
def test_arrays_to_predict_need_no_labels(tmp_path: Path, y: Any, task: str | None) -> None:
    files = {"y__npy": None, "y": y} if isinstance(y, str) else {"y__npy": y}
    files |= toml(f'task = "{task}"') if task else {}
    masks = dict.fromkeys((f"{name}__npy" for name in MASKS), None)
    data = read_folder(arrays(tmp_path, **files, **masks), labelled=False)
    wanted = {
        "x": torch.arange(4)[:, None] * 0.5,
        "edge_index": torch.tensor([[0, 1], [1, 2]]),
        "y": torch.full((4,), -1),
    }
    assert_equal(data, wanted)
    if not isinstance(y, str):
        given = {} if y is None else {"y": y}
        np.savez(tmp_path / "g.npz", x=data.x.numpy(), edge_index=data.edge_index.numpy(), **given)
        assert_equal(read_folder(tmp_path / "g.npz", labelled=False), wanted)


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        ({"x": None}, "has no x, only edge_index, test_mask, train_mask, val_mask. Add it: x and "),
        ({"x": np.array(1.0)}, "x must have shape [num_nodes, num_features], got [1]"),
        ({"val_mask": None}, "has train_mask, but not all of train_mask, val_mask, test_mask"),
    ],
)
def test_arrays_to_predict_are_checked_too(
    tmp_path: Path, changed: dict[str, Any], fragment: str
) -> None:
    path = packed(tmp_path / "g.npz", **{"y": None, **changed})
    with pytest.raises(DataError, match=re.escape(fragment)):
        read_folder(path, labelled=False)
    whole = packed(tmp_path / "g.npz", y=None)
    assert read_folder(whole, labelled=False).train_mask.tolist() == [True, False, False]
    with pytest.raises(DataError, match="has no y, .* Add it: x, edge_index and y are needed"):
        read_folder(whole)


@pytest.mark.parametrize(
    ("y", "wanted"),
    [
        ("1\n\n0\n\n", [1, -1, 0, -1]),
        ("\nb\r\n\r\na\r\n", [-1, 1, -1, 0]),
        ("b\na\nb\n\n\n\n", [1, 0, 1, -1]),
        ('b\na\n""\na', [1, 0, -1, 0]),
        ('"a\n\n,b"\n\nc\nc\n', [0, -1, 1, 1]),
        ("0,1\n1,1\n,1\n1,0\n\n", [[0, 1], [1, 1], [np.nan, 1], [1, 0]]),
    ],
)
def test_an_empty_line_is_a_node_without_a_label(tmp_path: Path, y: str, wanted: Any) -> None:
    masks = dict.fromkeys((f"{name}__npy" for name in MASKS), None)
    folder = arrays(tmp_path, y__npy=None, y=y.encode(), **masks)
    np.testing.assert_array_equal(read_folder(folder, labelled=False).y, wanted)


LENGTHS: dict[str, tuple[dict[str, Any], str]] = {
    "y short": ({"y": np.zeros(2, int)}, "y must have shape [3] or [3, T], a row for each"),
    "y long": ({"y": np.arange(40) % 3}, "a row for each row of x, got [40]. Use -1 for nodes"),
    "masks short": (
        {name: np.arange(2) == k for k, name in enumerate(MASKS)},
        "train_mask must have shape [3] or [3, num_splits], got [2]. Give one entry per node",
    ),
    "masks long": (
        {name: np.arange(40) % 3 == k for k, name in enumerate(MASKS)},
        "train_mask must have shape [3] or [3, num_splits], got [40]",
    ),
    "masks overlap": (
        {name: np.arange(3) <= k for k, name in enumerate(MASKS)},
        "train_mask and val_mask share 1 nodes, for example node 0.",
    ),
    "splits": (
        {"val_mask": np.ones((3, 2), bool)},
        "val_mask has shape [3, 2] but train_mask has [3]. Give the masks the same splits",
    ),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_labels_and_masks_of_other_nodes_are_refused_alike(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """To train on, to predict, and before a split is drawn; but links do not read them."""
    changed, fragment = LENGTHS[case]
    unsplit = {} if "masks" in case or case == "splits" else dict.fromkeys(MASKS)
    path = packed(tmp_path / "g.npz", **unsplit, **changed)
    for labelled in (True, False):
        with pytest.raises(DataError, match=f"^{re.escape(str(path))}: .*{re.escape(fragment)}"):
            read_folder(path, labelled=labelled)
    assert not caplog.records
    data = read_folder(path, labelled=None)
    assert data.y.tolist() == [-1] * 3 and "train_mask" not in data


def test_a_file_of_labels_with_too_few_lines(tmp_path: Path) -> None:
    folder = arrays(tmp_path, y__npy=None, y="a\nb\na\n")
    with pytest.raises(DataError, match=r"y must have shape \[4\] or \[4, T\].* got \[3\]"):
        read_folder(folder, labelled=False)


def test_unread_labels_may_hold_anything(tmp_path: Path) -> None:
    folder = arrays(tmp_path, y__npy=None, y="1,7\n", val_mask__npy=np.array([{}]))
    assert read_folder(folder, labelled=None).y.tolist() == [-1] * 4


def test_nothing_pickled_is_run(tmp_path: Path, hostile: tuple[bytes, Path]) -> None:
    pickled, canary = hostile
    for name in ("g.npz", "folder/x.npy"):
        path = tmp_path / name
        arrays(path.parent) if "/" in name else None
        path.write_bytes(pickled)
        with pytest.raises(DataError, match="Pickled objects are never read"):
            read_folder(path if path.suffix == ".npz" else path.parent)
    assert not canary.exists()


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "g.npz")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="is not a npz file of plain arrays"):
        read_folder(path)


def test_an_npz_of_platonov_equals_pygs(local_data: Path, tmp_path: Path) -> None:
    raw = local_data / "HeterophilousGraphDataset" / "minesweeper" / "raw" / "minesweeper.npz"
    if not raw.is_file():
        pytest.skip("GRAPHKIT_DATA has no minesweeper.npz")
    home = tmp_path / "minesweeper" / "raw"
    home.mkdir(parents=True)
    (home / raw.name).symlink_to(raw)
    theirs: Any = HeterophilousGraphDataset(str(tmp_path), "Minesweeper")[0]
    ours = read_folder(raw)
    ours.edge_index = to_undirected(ours.edge_index)
    assert_equal(ours, {name: theirs[name] for name in theirs.keys()})
