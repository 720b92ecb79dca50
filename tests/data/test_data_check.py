from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch_geometric.data import Data, HeteroData

from graphkit.data import check, check_inputs
from graphkit.errors import DataError

N = 8


def good() -> Data:
    """A cycle of eight nodes that passes."""
    node = torch.arange(N)
    return Data(
        x=torch.randn(N, 3),
        edge_index=torch.stack([node, node.roll(1)]),
        y=node % 3,
        train_mask=node < 3,
        val_mask=(node >= 3) & (node < 5),
        test_mask=node >= 5,
    )


def columns(data: Data, num_splits: int) -> None:
    """Repeat the masks of ``data`` to ``num_splits`` columns."""
    for name in ("train_mask", "val_mask", "test_mask"):
        data[name] = data[name][:, None].repeat(1, num_splits)


def test_good_data_comes_back_itself():
    data = good()
    assert check(data) is data


def allow_int32(data):
    data.edge_index = data.edge_index.int()


def allow_no_edges(data):
    data.edge_index = torch.empty(2, 0, dtype=torch.int64)


def allow_unlabelled(data):
    data.y[7] = -1
    data.test_mask[7] = False


def allow_columns(data):
    columns(data, 4)


def allow_strided_masks(data):
    columns(data, 4)
    data.train_mask = data.train_mask.t().contiguous().t()


def allow_num_classes(data):
    data.num_classes = 3


def allow_num_classes_numpy(data):
    data.num_classes = np.int64(3)


def allow_empty_classes_that_are_declared(data):
    data.y *= 500
    data.num_classes = torch.tensor(2000)


@pytest.mark.parametrize(
    "change",
    [
        allow_int32,
        allow_no_edges,
        allow_unlabelled,
        allow_columns,
        allow_strided_masks,
        allow_num_classes,
        allow_num_classes_numpy,
        allow_empty_classes_that_are_declared,
    ],
)
def test_lawful_variants_pass(change):
    data = good()
    change(data)
    assert check(data) is data


def put(name, value):
    """A change that sets one attribute, computed from the data if ``value`` is a function."""
    return lambda data: data.__setattr__(name, value(data) if callable(value) else value)


def poke(name, position, value):
    """A change of one entry of one tensor."""
    return lambda data: data[name].__setitem__(position, value)


def in_columns(change):
    """The change, after the masks were repeated to three columns."""

    def both(data):
        columns(data, 3)
        change(data)

    return both


BAD = {
    "x missing": (put("x", None), "Data has no x. Set data.x"),
    "x is a list": (put("x", [1.0] * N), "x must be a tensor, got list"),
    "x sparse": (put("x", lambda d: d.x.to_sparse()), "layout torch.sparse_coo. Use x.to_dense()"),
    "x 1-D": (put("x", torch.randn(N)), "[num_nodes, num_features], got [8]. Use x.view(-1, 1)"),
    "x integer": (put("x", torch.ones(N, 2).long()), "floating point, got torch.int64"),
    "x without rows": (put("x", torch.empty(0, 3)), "x has shape [0, 3]: no nodes"),
    "x rows": (put("num_nodes", 9), "x has 8 rows but data.num_nodes is 9"),
    "x nan": (
        poke("x", (slice(5, 7), 1), float("nan")),
        "x has 2 values that are NaN or Inf, the first is x[5, 1] = nan. Replace them, or pass "
        "allow_nonfinite=True (graphkit train: --allow-nonfinite)",
    ),
    "x inf": (
        poke("x", (0, 2), float("inf")),
        "x has 1 values that are NaN or Inf, the first is x[0",
    ),
    "edges missing": (put("edge_index", None), "has no edge_index"),
    "edges transposed": (
        put("edge_index", lambda d: d.edge_index.t()),
        "shape [8, 2], but [2, E] is expected. Did you transpose it",
    ),
    "edges wrong shape": (
        put("edge_index", torch.zeros(3, 5).long()),
        "shape [3, 5], but [2, E] is expected",
    ),
    "edges 0-dim": (put("edge_index", torch.tensor(1)), "shape [], but [2, E] is expected"),
    "edges sparse": (
        put("edge_index", torch.eye(N).to_sparse()),
        "layout torch.sparse_coo, but a dense tensor [2, E] is expected",
    ),
    "edges float": (
        put("edge_index", lambda d: d.edge_index.float()),
        "dtype torch.float32, but torch.int64",
    ),
    "edges int16": (
        put("edge_index", lambda d: d.edge_index.short()),
        "dtype torch.int16, but torch.int64",
    ),
    "edges beyond": (
        poke("edge_index", (1, 4), 9),
        "edge_index[1, 4] = 9, but the graph has 8 nodes",
    ),
    "edges negative": (
        poke("edge_index", (0, slice(2, 4)), -1),
        "edge_index[0, 2] = -1, but the graph has 8 nodes (valid: 0 to 7)",
    ),
    "y missing": (put("y", None), "has no y"),
    "y length": (put("y", torch.zeros(7).long()), "y must have shape [8]"),
    "y column": (put("y", lambda d: d.y[:, None]), "got [8, 1]. Use y.view(-1)"),
    "y float": (put("y", lambda d: d.y.float()), "int64 class numbers, got torch.float32"),
    "y negative": (poke("y", 6, -2), "y[6] = -2, but classes count from 0"),
    "y beyond": (put("num_classes", 2), "y[2] = 2, but there are 2 classes, 0 .. 1"),
    "y beyond numpy": (put("num_classes", np.int64(2)), "y[2] = 2, but there are 2 classes"),
    "y beyond tensor": (put("num_classes", torch.tensor(2)), "y[2] = 2, but there are 2 classes"),
    "num_classes": (put("num_classes", 3.0), "data.num_classes is 3.0, but a whole number"),
    "y of identifiers": (
        lambda d: d.y.mul_(500_000),
        "y has 3 distinct labels up to 1000000, but labels must be 0 .. C-1; relabel with "
        "torch.unique(y, return_inverse=True)[1]",
    ),
    "mask missing": (put("val_mask", None), "has no val_mask"),
    "mask integer": (
        put("val_mask", lambda d: d.val_mask.long()),
        "val_mask must be bool, got torch.int64",
    ),
    "mask length": (put("val_mask", torch.ones(7).bool()), "[8] or [8, num_splits], got [7]"),
    "mask 0-dim": (put("val_mask", torch.tensor(True)), "[8] or [8, num_splits], got []"),
    "mask columns differ": (
        put("val_mask", lambda d: d.val_mask[:, None]),
        "val_mask has shape [8, 1] but train_mask has [8]",
    ),
    "mask empty": (put("test_mask", torch.zeros(N).bool()), "test_mask selects no node."),
    "mask empty in one split": (
        in_columns(poke("test_mask", (slice(None), 1), False)),
        "test_mask selects no node in split 1",
    ),
    "mask without columns": (
        lambda data: columns(data, 0),
        "train_mask selects no node.",
    ),
    "mask of unlabelled": (
        poke("y", slice(5, 7), -1),
        "test_mask selects 2 nodes without a label, for example node 5",
    ),
    "masks overlap": (
        poke("train_mask", slice(3, 5), True),
        "train_mask and val_mask share 2 nodes, for example node 3.",
    ),
    "masks overlap in one split": (
        in_columns(poke("val_mask", (6, 2), True)),
        "val_mask and test_mask share 1 nodes, for example node 6 of split 2",
    ),
    "devices": (
        put("y", lambda d: d.y.to("meta")),
        "x, edge_index, train_mask, val_mask, test_mask on cpu; y on meta",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_refused_with_the_reason(case):
    change, fragment = BAD[case]
    data = good()
    change(data)
    with pytest.raises(DataError, match=re.escape(fragment)):
        check(data)


TO_PREDICT = {
    "y short": (put("y", torch.zeros(5).long()), "y must have shape [8] or [8, T], a row for each"),
    "y long": (put("y", torch.zeros(40, 2)), "a row for each row of x, got [40, 2]. Use -1 for"),
    "y 0-dim": (put("y", torch.tensor(1)), "y must have shape [8] or [8, T]"),
    "y 3-dim": (put("y", torch.zeros(8, 1, 1)), "got [8, 1, 1]"),
    "y is a list": (put("y", [0] * N), "y must be a tensor, got list"),
    **{name: BAD[name] for name in BAD if name.startswith(("x ", "edges", "masks"))},
    **{f"mask {name}": BAD[f"mask {name}"] for name in ("integer", "length", "columns differ")},
}


@pytest.mark.parametrize("case", [name for name in TO_PREDICT if name != "x rows"])
def test_bad_data_to_predict_is_refused_with_the_reason(case):
    change, fragment = TO_PREDICT[case]
    data = good()
    change(data)
    with pytest.raises(DataError, match=re.escape(fragment)):
        check_inputs(data)


@pytest.mark.parametrize(
    "change",
    [
        put("y", None),
        put("y", torch.full((N,), -1)),
        put("test_mask", None),
        put("test_mask", torch.zeros(N).bool()),
        poke("y", slice(5, 7), -1),
    ],
)
def test_data_to_predict_may_lack_labels_and_masks(change):
    data = good()
    change(data)
    assert check_inputs(data) is data
    with pytest.raises(DataError, match="has no|selects no node|without a label"):
        check(data)


def test_nonfinite_features_can_be_allowed():
    data = good()
    data.x[0, 0] = float("nan")
    assert check(data, allow_nonfinite=True) is data


@pytest.mark.parametrize("other", [HeteroData(), {"x": 1}, None])
def test_what_is_no_data_is_named(other):
    with pytest.raises(DataError, match=rf"{type(other).__name__} (has no x|is not one graph)"):
        check(other)
