from __future__ import annotations

import itertools
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from graphkit import metrics
from graphkit.errors import ConfigError, DataError
from graphkit.metrics import accuracy

# ogb asks the network for its newest version when it is imported
os.environ["OUTDATED_IGNORE"] = "1"

classes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(classes)
def test_accuracy_is_the_share_of_equal_classes(pairs: list[tuple[int, int]]) -> None:
    pred, y = torch.tensor([p for p, _ in pairs]), torch.tensor([t for _, t in pairs])
    expected = sum(p == t for p, t in pairs) / len(pairs)
    assert accuracy(pred, y) == expected
    scores = torch.nn.functional.one_hot(pred, 5).float()
    assert accuracy(scores, y) == expected
    order = torch.randperm(len(pairs))
    assert accuracy(pred[order], y[order]) == expected


def test_accuracy_of_one_class_counts_every_row() -> None:
    assert accuracy(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long)) == 1.0


@pytest.mark.parametrize(
    ("pred", "y", "part"),
    [
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), r"\[3, 2\] and \[2\]"),
        (torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.long), r"\[3, 1\]"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "no rows"),
        (torch.tensor([[0.0, torch.nan]]), torch.tensor([1]), "NaN"),
    ],
)
def test_accuracy_refuses_what_has_no_score(pred: torch.Tensor, y: torch.Tensor, part: str) -> None:
    with pytest.raises(DataError, match=part):
        accuracy(pred, y)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_binary_scores_equal_scikit_learn() -> None:
    y, score = torch.randint(0, 2, (200,)), torch.randn(200)
    logits = torch.stack([-score / 2, score / 2], dim=1)
    for ours, theirs in (
        (metrics.rocauc, roc_auc_score),
        (metrics.average_precision, average_precision_score),
    ):
        expected = theirs(y.numpy(), score.double().numpy())
        assert ours(score, y) == pytest.approx(expected, abs=1e-12)
        assert ours(logits, y) == pytest.approx(expected, abs=1e-12)
        assert ours(score[:, None], y[:, None]) == pytest.approx(expected, abs=1e-12)
    expected = f1_score(y.numpy(), (score > 0).numpy(), average="macro")
    assert metrics.f1(logits, y) == pytest.approx(expected, abs=1e-12)


def test_several_labels_are_averaged_over_those_with_both_values() -> None:
    """As OGB's evaluator, which also leaves out what is not known."""
    y = torch.randint(0, 2, (100, 4)).double()
    y[torch.rand(100, 4) < 0.2] = float("nan")
    y[:, 2] = 1.0
    pred = torch.randn(100, 4)
    from ogb.graphproppred import Evaluator

    ogb = Evaluator("ogbg-molpcba")
    ogb.num_tasks = 4
    given = {"y_true": y.numpy(), "y_pred": pred.double().numpy()}
    assert metrics.average_precision(pred, y) == pytest.approx(ogb.eval(given)["ap"], abs=1e-12)
    one = metrics.rocauc(pred[:, [0, 1, 3]], y[:, [0, 1, 3]])
    assert metrics.rocauc(pred, y) == pytest.approx(one, abs=1e-12)


def test_f1_of_labels_leaves_out_what_is_not_known() -> None:
    y = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, float("nan")], [0.0, 1.0]])
    pred = torch.tensor([[1.0, 1.0], [2.0, -1.0], [-1.0, 5.0], [-3.0, -2.0]])
    # one of two found with one false alarm; one of two found with none
    assert metrics.f1(pred, y) == pytest.approx((1 / 2 + 2 / 3) / 2)
    full = torch.randint(0, 2, (50, 3))
    out = torch.randn(50, 3)
    expected = f1_score(full.numpy(), (out > 0).numpy(), average="macro")
    assert metrics.f1(out, full) == pytest.approx(expected, abs=1e-12)


def test_many_classes_are_each_scored_against_the_rest() -> None:
    y, pred = torch.randint(0, 4, (300,)), torch.randn(300, 4)
    pred = pred.softmax(dim=1).double()
    expected = roc_auc_score(y.numpy(), pred.numpy(), multi_class="ovr")
    assert metrics.rocauc(pred, y) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=6))
def test_precision_at_the_rate_is_its_mean_over_all_orders_of_equals(
    rows: list[tuple[int, bool]],
) -> None:
    count = sum(label for _, label in rows)
    if count in (0, len(rows)):
        return
    found = []
    for order in itertools.permutations(rows):
        ranked = sorted(order, key=lambda row: -row[0])
        found.append(sum(label for _, label in ranked[:count]) / count)
    score = torch.tensor([score for score, _ in rows]).float()
    y = torch.tensor([int(label) for _, label in rows])
    expected = pytest.approx(sum(found) / len(found), abs=1e-9)
    assert metrics.precision_at_rate(score, y) == expected
    assert metrics.precision_at_rate(torch.stack([-score, score], dim=1), y) == expected


def test_scores_that_are_all_equal_have_the_precision_of_the_rate() -> None:
    y = torch.arange(40) % 8 == 0
    assert metrics.precision_at_rate(torch.zeros(40), y.long()) == pytest.approx(1 / 8)
    assert metrics.precision_at_rate(y.float(), y.long()) == 1
    with pytest.raises(DataError, match="precision@rate: no label has both"):
        metrics.precision_at_rate(torch.zeros(40), torch.zeros(40, dtype=torch.long))


def test_errors_of_values() -> None:
    y, pred = (
        torch.tensor([1.0, 2.0, float("nan"), 4.0]),
        torch.tensor([[2.0], [2.0], [9.0], [1.0]]),
    )
    assert metrics.mae(pred, y) == pytest.approx(4 / 3)
    assert metrics.rmse(pred, y) == pytest.approx((10 / 3) ** 0.5)


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 50))
def test_link_scores_equal_those_of_ogb(num_pos: int, num_neg: int, k: int) -> None:
    from ogb.linkproppred import Evaluator

    # few distinct values, so that scores are often equal
    pos = torch.randint(0, 9, (num_pos,)).float()
    neg = torch.randint(0, 9, (num_neg,)).float()
    ogb = Evaluator("ogbl-ddi")
    ogb.K = k
    expected = ogb.eval({"y_pred_pos": pos, "y_pred_neg": neg})[f"hits@{k}"]
    assert metrics.hits_at(pos, neg, k) == pytest.approx(expected, abs=1e-12)
    own = pos.new_tensor([metrics.hits_at(one.view(1), neg, k) for one in pos])
    assert metrics.hits_at(pos, neg.expand(num_pos, -1), k) == pytest.approx(own.mean().item())
    each = torch.randint(0, 9, (num_pos, num_neg)).float()
    expected = Evaluator("ogbl-citation2").eval({"y_pred_pos": pos, "y_pred_neg": each})
    mean = expected["mrr_list"].double().mean().item()
    assert metrics.mrr(pos, each) == pytest.approx(mean, abs=1e-6)


def test_scores_that_mean_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="no label has both a positive and a negative row"):
        metrics.rocauc(torch.randn(3), torch.ones(3))
    with pytest.raises(DataError, match=r"a score for each label, got \[3, 2\] for \[3, 1\]"):
        metrics.rocauc(torch.randn(3, 2), torch.ones(3, 1))
    for score in (*metrics.SCORES.values(), metrics.mrr):
        with pytest.raises(DataError, match="NaN"):
            score(torch.full((2, 2), float("nan")), torch.tensor([0, 1]))
        with pytest.raises(DataError, match="no rows to score"):
            score(torch.empty(0, 2), torch.empty(0, dtype=torch.long))
    with pytest.raises(DataError, match=r"as many predictions as labels, got \[3\] and \[2\]"):
        metrics.mae(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ConfigError, match="k is 0, but at least 1"):
        metrics.hits_at(torch.ones(1), torch.ones(1), 0)
    with pytest.raises(ConfigError, match="Unknown metric 'acuracy'. Did you mean 'accuracy'"):
        metrics.score("acuracy")


def test_ties_by_hand() -> None:
    pos = torch.tensor([3.0, 2.0, 1.0, 1.0])
    # 3 and both 1 are among them
    assert metrics.tie_fraction(pos, torch.tensor([1.0, 3.0, 5.0])) == 3 / 4
    own = torch.tensor([[3.0, 1.0], [1.0, 3.0], [1.0, 1.0], [0.0, 2.0]])
    assert metrics.tie_fraction(pos, own) == 2 / 4
    assert metrics.tie_fraction(pos, pos + 0.5) == 0
    # equal in bits alone: what is near is another score
    assert metrics.tie_fraction(pos, torch.nextafter(pos, torch.tensor(9.0))) == 0
    assert metrics.tie_fraction(torch.zeros(5), torch.zeros(2)) == 1


@settings(max_examples=30)
@given(st.lists(st.integers(0, 6), min_size=1), st.lists(st.integers(0, 6), min_size=1))
def test_ties_are_those_of_sets(pos: list[int], neg: list[int]) -> None:
    scores = [torch.tensor(some).float() for some in (pos, neg)]
    want = sum(one in set(neg) for one in pos) / len(pos)
    assert metrics.tie_fraction(*scores) == pytest.approx(want)
    shared = scores[1].expand(len(pos), -1)
    assert metrics.tie_fraction(scores[0], shared) == pytest.approx(want)


LINKS = {
    "hits": lambda pos, neg: metrics.hits_at(pos, neg, 1),
    "mrr": metrics.mrr,
    "tie_fraction": metrics.tie_fraction,
}


@pytest.mark.parametrize("name", LINKS)
def test_scores_of_links_that_mean_nothing_are_refused(name: str) -> None:
    score, pos = LINKS[name], torch.ones(3)
    neg = torch.ones(3) if name == "hits" else torch.ones(3, 2)
    bad = neg.clone()
    bad.view(-1)[-1] = torch.nan
    # any comparison with it is false, so that a NaN among the negatives would raise the score
    with pytest.raises(DataError, match=f"{name}: the scores contain NaN"):
        score(pos, bad)
    with pytest.raises(DataError, match=f"{name}: the scores contain NaN"):
        score(bad.view(-1)[-3:], neg)
    for empty in ((pos[:0], neg[:0]), (pos, neg[:0]), (pos[:0], neg)):
        with pytest.raises(DataError, match="no rows to score"):
            score(*empty)
    with pytest.raises(DataError, match=r"got \[3, 1\] and"):
        score(pos[:, None], neg)
    with pytest.raises(DataError, match=r"\[P\] and \[P, K\] are expected, got \[3\] and \[2, 2\]"):
        score(pos, torch.ones(2, 2))


def test_links_and_no_links_that_are_swapped_are_told() -> None:
    with pytest.raises(DataError, match="Are they swapped?"):
        metrics.mrr(torch.ones(3, 2), torch.ones(3))
