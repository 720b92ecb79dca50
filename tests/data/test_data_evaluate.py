from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ogb import graphproppred, linkproppred, nodeproppred

from graphkit.data.evaluate import evaluate
from graphkit.errors import BackendError, DataError

NAN = float("nan")


def draws(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labelled(seed: int, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels of 0, 1 and NaN, both classes in column 0, and scores."""
    y = (draws(seed, rows, columns) > 0).double()
    y[draws(seed + 1, rows, columns) > 1.5] = NAN
    y[:2, 0] = torch.tensor([0.0, 1.0])
    return y, draws(seed + 2, rows, columns)


def agree(room: ModuleType, name: str, y_true: torch.Tensor, y_pred: torch.Tensor) -> None:
    theirs = room.Evaluator(name).eval({"y_true": y_true, "y_pred": y_pred})
    ours = evaluate(name, y_true=y_true, y_pred=y_pred)
    assert ours == theirs == evaluate(name, y_true=y_true.numpy(), y_pred=y_pred.numpy())
    if y_true.size(1) == 1:
        assert evaluate(name, y_true=y_true.view(-1), y_pred=y_pred.view(-1)) == theirs


@given(seed=st.integers(0, 10**6), rows=st.integers(2, 40))
@settings(max_examples=15)
def test_scores_of_one_column_are_those_of_ogb(seed, rows):
    y, pred = labelled(seed, rows, 1)
    agree(nodeproppred, "ogbn-arxiv", (y > 0).long(), (pred > 0).long())
    agree(graphproppred, "ogbg-molhiv", y.nan_to_num().long(), pred)
    agree(graphproppred, "ogbg-molesol", y * 3.5, pred.double())


def test_scores_of_many_columns_are_those_of_ogb():
    y, pred = labelled(0, 30, 128)
    agree(nodeproppred, "ogbn-proteins", y[:, :112].nan_to_num().long(), pred[:, :112])
    agree(graphproppred, "ogbg-molpcba", y, pred)


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 30), more=st.integers(0, 50))
@settings(max_examples=20)
def test_link_scores_are_those_of_ogb(seed, rows, more):
    # rounded, so that positives and negatives are often equal
    pos, neg = (draws(seed, rows) * 3).round(), (draws(seed + 1, 100 + more) * 3).round()
    for name in ("ogbl-ddi", "ogbl-collab", "ogbl-ppa"):
        theirs = linkproppred.Evaluator(name).eval({"y_pred_pos": pos, "y_pred_neg": neg})
        assert evaluate(name, y_pred_pos=pos, y_pred_neg=neg) == theirs
        assert evaluate(name, y_pred_pos=pos.numpy(), y_pred_neg=neg.numpy()) == theirs
    many = (draws(seed + 2, rows, 7) * 3).round()
    theirs = linkproppred.Evaluator("ogbl-citation2").eval({"y_pred_pos": pos, "y_pred_neg": many})
    ours = evaluate("ogbl-citation2", y_pred_pos=pos, y_pred_neg=many)
    assert ours == {key.removesuffix("_list"): value.mean() for key, value in theirs.items()}


def test_numpy_gives_an_mrr_too():
    """ogb's own numpy branch calls a method that numpy arrays do not have."""
    pos, neg = np.array([3.0, 1.0]), np.array([[1.0, 2.0], [1.0, 5.0]])
    found = evaluate("ogbl-citation2", y_pred_pos=pos, y_pred_neg=neg)
    # the second positive shares the places 2 and 3 with its equal
    assert found == pytest.approx(
        {"mrr": (1 + 1 / 2.5) / 2, "hits@1": 0.5, "hits@3": 1.0, "hits@10": 1.0}
    )


def test_half_precision_scores_are_read():
    y, pred = torch.tensor([0, 1, 1, 0]), torch.tensor([0.1, 0.9, 0.2, 0.3])
    expected = {"rocauc": 0.75}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert evaluate("ogbg-molhiv", y_true=y, y_pred=pred.to(dtype)) == expected


ONE, TWO = torch.ones(4), torch.tensor([0.0, 1.0, 0.0, 1.0])
CLASS = torch.tensor([0, 1, 2, 0])
BAD = torch.tensor([0.0, NAN, 0.0, float("inf")])
NODE = {
    "no set": ("ogbn-arxif", {}, "unknown set 'ogbn-arxif'. Did you mean 'ogbn-arxiv'"),
    "words": ("ogbg-code2", {}, "unknown set 'ogbg-code2'"),
    "missing": ("ogbn-arxiv", {"y_true": CLASS}, "needs y_true and y_pred, got y_true"),
    "none": ("ogbn-arxiv", {}, "needs y_true and y_pred, got nothing"),
    "links' names": (
        "ogbg-molhiv",
        {"y_pred_pos": ONE, "y_pred_neg": ONE},
        "needs y_true and y_pred, got y_pred_pos, y_pred_neg",
    ),
    "list": ("ogbn-arxiv", {"y_true": CLASS, "y_pred": [0, 1]}, "y_pred must be .* got list"),
    "texts": ("ogbn-arxiv", {"y_true": np.array(["a"]), "y_pred": CLASS}, "y_true must be .*<U1"),
    "complex": ("ogbg-molesol", {"y_true": ONE, "y_pred": ONE * 1j}, "got torch.complex64"),
    "shapes": ("ogbn-arxiv", {"y_true": CLASS, "y_pred": CLASS[:3]}, r"got \[4\] and \[3\]"),
    "columns": (
        "ogbn-proteins",
        {"y_true": torch.zeros(3, 111), "y_pred": torch.zeros(3, 111)},
        r"shape \[N, 112\] with N > 0, got \[3, 111\]",
    ),
    "empty": ("ogbg-molesol", {"y_true": ONE[:0], "y_pred": ONE[:0]}, r"N > 0, got \[0\]"),
    "scores": ("ogbn-arxiv", {"y_true": CLASS, "y_pred": ONE}, "y_pred must be class numbers"),
    "true scores": ("ogbn-mag", {"y_true": ONE, "y_pred": CLASS}, "y_true must be class numbers"),
    "unlabelled": ("ogbn-arxiv", {"y_true": CLASS - 1, "y_pred": CLASS}, "2 rows of y_true are"),
    "nan": ("ogbg-molhiv", {"y_true": TWO, "y_pred": BAD}, "y_pred has 2 values of 4 that are NaN"),
    "labels": (
        "ogbg-molhiv",
        {"y_true": CLASS, "y_pred": ONE},
        "labels .* are 0, 1, or NaN.*got 2",
    ),
    "one class": ("ogbg-molhiv", {"y_true": ONE, "y_pred": TWO}, "rocauc needs a column with both"),
    "infinite": ("ogbg-molesol", {"y_true": 1 / TWO, "y_pred": ONE}, "y_true has 2 values"),
    "no label": (
        "ogbg-molesol",
        {"y_true": ONE * NAN, "y_pred": ONE},
        "column of y_true .* has no",
    ),
}
MANY = torch.zeros(20)
LINK = {
    "nan": ("ogbl-ddi", BAD, MANY, "y_pred_pos has 2 values of 4"),
    "nan neg": ("ogbl-ddi", ONE, MANY / 0, "y_pred_neg has 20 values of 20"),
    "few": ("ogbl-ddi", ONE, MANY[:19], "hits@20 needs at least 20 negative scores, got 19"),
    "shape": ("ogbl-ddi", ONE[:, None], MANY, r"shape \[n\] and \[m\], not empty, got \[4, 1\]"),
    "empty": ("ogbl-ddi", ONE[:0], MANY, "not empty"),
    "mrr flat": ("ogbl-citation2", ONE, MANY, r"shape \[n\] and \[n, m\]"),
    "mrr swapped": ("ogbl-citation2", MANY.view(4, 5), ONE, "look swapped"),
    "few swapped": ("ogbl-ddi", MANY, ONE, "got 4. .* look swapped"),
    "sizes swapped": (
        "ogbl-collab",
        torch.zeros(100_000),
        torch.zeros(46_329),
        "46329 scores, as many as a part .* and y_pred_pos 100000, as many as none has",
    ),
    "no dimension": ("ogbl-ddi", MANY[0], MANY, r"shape \[n\] and \[m\], not empty, got \[\]"),
    "mrr rows": ("ogbl-citation2", ONE, MANY.view(5, 4), r"got \[4\] and \[5, 4\]"),
}


@pytest.mark.parametrize("case", NODE)
def test_inputs_of_labels_that_are_refused(case):
    name, inputs, message = NODE[case]
    with pytest.raises(DataError, match=message):
        evaluate(name, **inputs)


@pytest.mark.parametrize("case", LINK)
def test_inputs_of_links_that_are_refused(case):
    name, pos, neg, message = LINK[case]
    with pytest.raises(DataError, match=message):
        evaluate(name, y_pred_pos=pos, y_pred_neg=neg)


def test_sizes_that_tell_nothing_are_taken():
    """As many negatives as a part has positives, and as many positives; a set without a card."""
    for pos, neg in ((46_329, 60_084), (46_329, 100_000), (999, 100_000), (999, 60_083)):
        scores = {"y_pred_pos": torch.ones(pos), "y_pred_neg": torch.zeros(neg)}
        assert evaluate("ogbl-collab", **scores) == {"hits@50": 1.0}
    same = {"y_pred_pos": torch.ones(30), "y_pred_neg": torch.zeros(20)}
    assert evaluate("ogbl-vessel", **same) == {"rocauc": 1.0}


def test_nan_would_be_a_perfect_mrr_for_ogb():
    """Why scores are checked here at all."""
    inputs = {"y_pred_pos": ONE * NAN, "y_pred_neg": torch.ones(4, 5)}
    assert linkproppred.Evaluator("ogbl-citation2").eval(inputs)["mrr_list"].tolist() == [1.0] * 4
    with pytest.raises(DataError, match="NaN"):
        evaluate("ogbl-citation2", **inputs)


def test_without_ogb(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "ogb" else find(n))
    with pytest.raises(BackendError, match="pip install ogb"):
        evaluate("ogbn-arxiv", y_true=CLASS, y_pred=CLASS)


def test_ogb_does_not_ask_the_network_for_its_newest_version(monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] in ("ogb", "outdated")]:
        monkeypatch.delitem(sys.modules, module)
    assert evaluate("ogbn-arxiv", y_true=CLASS, y_pred=CLASS) == {"acc": 1.0}
    assert sys.modules["ogb.version"].check_outdated is None and "outdated" not in sys.modules
