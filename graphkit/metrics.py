"""Scores of predictions against labels. (opt: sklearn)

Accuracy, ROC-AUC, AP, F1, precision at the rate, Hits@K and MRR are fractions in [0, 1]; RMSE and
MAE have the unit of the labels, and lower is better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .errors import ConfigError, DataError, nearest

LOWER_IS_BETTER = ("rmse", "mae")


def accuracy(pred: Tensor, y: Tensor) -> float:
    """The fraction of rows whose predicted class equals the label.

    Args:
        pred: scores ``[N, C]`` (the largest wins, the first one on a tie) or class numbers ``[N]``.
        y: the true class numbers, ``[N]``.

    Raises:
        DataError: no rows, shapes that do not fit, or scores that are NaN (an ``argmax`` would
            quietly turn them into a class).
    """
    if y.dim() != 1 or pred.dim() not in (1, 2) or pred.size(0) != y.size(0):
        raise DataError(
            f"accuracy: expected pred [N, C] or [N] and y [N], got {list(pred.shape)} and "
            f"{list(y.shape)}. Select the same rows of both."
        )
    _check("accuracy", pred, y)
    if pred.dim() == 2:
        pred = pred.argmax(dim=1)
    return (pred == y).sum().item() / y.numel()


def rocauc(pred: Tensor, y: Tensor) -> float:
    """The area under the ROC curve, by scikit-learn.

    Args:
        pred: scores, higher for the positive class: ``[N]`` or ``[N, T]`` for T binary labels;
            ``[N, C]`` for classes (two: the score of the second above the first; more: each
            class against the rest, averaged).
        y: ``[N]`` class numbers, or ``[N, T]`` of 0, 1 and NaN where a label is missing; the mean
            over the labels that have both values, as OGB takes it.

    Raises:
        DataError: no rows, shapes that do not fit, NaN scores, or no label with both values.
    """
    from sklearn.metrics import roc_auc_score

    return _over_labels("rocauc", roc_auc_score, pred, y)


def average_precision(pred: Tensor, y: Tensor) -> float:
    """The average precision, by scikit-learn; arguments and errors as :func:`rocauc`."""
    from sklearn.metrics import average_precision_score

    return _over_labels("ap", average_precision_score, pred, y)


def f1(pred: Tensor, y: Tensor) -> float:
    """The F1 score, averaged over the classes (macro), by scikit-learn.

    Args:
        pred: scores ``[N, C]``, or class numbers ``[N]``; with ``y [N, T]`` logits ``[N, T]``, of
            which those above 0 count as 1.
        y: class numbers ``[N]``, or ``[N, T]`` of 0, 1 and NaN where a label is missing; the mean
            over the labels that have both values.
    """
    from sklearn.metrics import f1_score

    _check("f1", pred, y)
    if y.dim() == 2 or y.is_floating_point():
        return _over_labels("f1", lambda label, one: f1_score(label, one > 0), pred, y)
    chosen = pred.argmax(dim=1) if pred.dim() == 2 else pred
    return float(f1_score(y.cpu(), chosen.cpu(), average="macro", zero_division=0.0))  # pyright: ignore[reportArgumentType]


def precision_at_rate(pred: Tensor, y: Tensor) -> float:
    """The share of positive rows among the k highest scores, k the number of positive rows.

    A list as long as there are anomalies: precision and recall of its end are the same number. Of
    equal scores at that end the expected share is taken, as if they were in random order, so that
    scores that are all equal give the rate of the positive rows. Arguments and errors as
    :func:`rocauc`.
    """

    def of(label: Any, one: Any) -> float:
        label, one = torch.from_numpy(label), torch.from_numpy(one)
        count = int(label.sum())
        bar = one.topk(count).values[-1]
        above, level = one > bar, one == bar
        free = count - above.sum()
        return float((label[above].sum() + free * label[level].mean()) / count)

    return _over_labels("precision@rate", of, pred, y)


def rmse(pred: Tensor, y: Tensor) -> float:
    """The root of the mean squared error; ``pred`` and ``y`` ``[N]``, ``[N, 1]`` or ``[N, T]``."""
    _check("rmse", pred, y)
    return _error(pred, y).square().mean().sqrt().item()


def mae(pred: Tensor, y: Tensor) -> float:
    """The mean absolute error; ``pred`` and ``y`` ``[N]``, ``[N, 1]`` or ``[N, T]``."""
    _check("mae", pred, y)
    return _error(pred, y).abs().mean().item()


def hits_at(pos: Tensor, neg: Tensor, k: int) -> float:
    """The fraction of true links that score above the k-th highest score of no links.

    Of no links that all share it is OGB's. Of those of its own, a link that as many as k score as
    high as is no hit, where OGB takes the middle of its ranks.

    Args:
        pos: scores ``[P]`` of true links.
        neg: scores ``[M]`` of no links that all share, or ``[P, M]`` of those that each is compared
            with; with fewer than ``k`` of them every true link is a hit.

    Raises :class:`DataError` as :func:`mrr`, :class:`ConfigError` for ``k`` below 1.
    """
    _check_links("hits", pos, neg, 1 if neg.dim() == 1 else 2)
    if k < 1:
        raise ConfigError(f"hits_at: k is {k}, but at least 1 is expected.")
    if neg.size(-1) < k:
        return 1.0
    return (pos > neg.topk(k).values[..., -1]).double().mean().item()


def mrr(pos: Tensor, neg: Tensor) -> float:
    """The mean reciprocal rank of each true link among no links of its own (OGB).

    Args:
        pos: scores ``[P]`` of true links.
        neg: scores ``[P, K]`` of the no links that each is compared with; between the best and the
            worst rank that equal scores allow, the middle is taken.

    Raises :class:`DataError` for scores that are NaN (of which any comparison is false, so that
    they would rank well), that are none, or have other shapes.
    """
    _check_links("mrr", pos, neg, 2)
    above = (neg > pos.view(-1, 1)).sum(dim=1)
    level = (neg >= pos.view(-1, 1)).sum(dim=1)
    return (1 / (0.5 * (above + level) + 1)).double().mean().item()


def tie_fraction(pos: Tensor, neg: Tensor) -> float:
    """The fraction of true links that score exactly as some no link they are compared with.

    The rank of such a link depends on how equals are counted: hits and the reciprocal rank of a
    scorer with many ties, such as common neighbours, say little about the order it gives.

    Args:
        pos: scores ``[P]`` of true links.
        neg: scores ``[M]`` of no links that all share, or ``[P, K]`` of their own.

    Raises :class:`DataError` as :func:`mrr`.
    """
    _check_links("tie_fraction", pos, neg, 1 if neg.dim() == 1 else 2)
    equal = torch.isin(pos, neg) if neg.dim() == 1 else (neg == pos.view(-1, 1)).any(dim=1)
    return equal.double().mean().item()


SCORES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": accuracy,
    "rocauc": rocauc,
    "ap": average_precision,
    "f1": f1,
    "precision@rate": precision_at_rate,
    "rmse": rmse,
    "mae": mae,
}
"""Scores of a prediction and a label for each row, by name."""


def score(name: str) -> Callable[[Tensor, Tensor], float]:
    """The function of a name; :class:`ConfigError` offers the nearest if there is none."""
    if name not in SCORES:
        raise ConfigError(f"Unknown metric {name!r}. {nearest(name, SCORES)}")
    return SCORES[name]


def _check(name: str, pred: Tensor, y: Tensor) -> None:
    if y.numel() == 0 or pred.numel() == 0:
        raise DataError(f"{name}: there are no rows to score. Check that the mask selects nodes.")
    if pred.is_floating_point() and torch.isnan(pred).any():
        raise DataError(
            f"{name}: the scores contain NaN. The model diverged: lower the learning rate."
        )


def _check_links(name: str, pos: Tensor, neg: Tensor, dims: int) -> None:
    _check(name, pos, neg)
    _check(name, neg, pos)
    if pos.dim() == 1 and neg.dim() == dims and (dims == 1 or len(pos) == len(neg)):
        return
    want = "[P] and [M]" if dims == 1 else "[P] and [P, K]"
    swapped = pos.dim() == dims and neg.dim() == 1 and dims == 2
    hint = "Are they swapped?" if swapped else "Use view to give them this shape."
    raise DataError(
        f"{name}: scores of links and of no links {want} are expected, got {list(pos.shape)} and "
        f"{list(neg.shape)}. {hint}"
    )


def _error(pred: Tensor, y: Tensor) -> Tensor:
    if pred.numel() != y.numel():
        raise DataError(
            f"expected as many predictions as labels, got {list(pred.shape)} and {list(y.shape)}. "
            "Select the same rows of both."
        )
    error = pred.double().view(-1) - y.double().view(-1)
    return error[~error.isnan()]


def _over_labels(name: str, function: Callable[..., object], pred: Tensor, y: Tensor) -> float:
    _check(name, pred, y)
    if y.dim() == 1 and pred.dim() == 2:
        if pred.size(1) == 2:
            pred = (pred[:, 1] - pred[:, 0]).unsqueeze(1)
        elif pred.size(1) > 2:
            y = torch.nn.functional.one_hot(y, pred.size(1))
    pred, y = pred.reshape(len(pred), -1), y.reshape(len(y), -1)
    if pred.shape != y.shape:
        raise DataError(
            f"{name}: expected a score for each label, got {list(pred.shape)} for "
            f"{list(y.shape)}. Select the same rows of both."
        )
    scores = []
    for one, label in zip(pred.t().double().cpu(), y.t().double().cpu(), strict=True):
        known = ~label.isnan()
        if 0 < label[known].mean() < 1:
            scores.append(float(function(label[known].numpy(), one[known].numpy())))  # pyright: ignore[reportArgumentType]
    if not scores:
        raise DataError(
            f"{name}: no label has both a positive and a negative row. "
            "Score more rows, or use another metric."
        )
    return sum(scores) / len(scores)
