"""Scores by OGB's own evaluators, behind a check of what they are given. (opt: ogb)"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, nearest, need
from .cards import card

_LABELS = ("y_true", "y_pred")
_LINKS = ("y_pred_pos", "y_pred_neg")


def evaluate(name: str, **given: Tensor | np.ndarray) -> dict[str, float]:
    """The scores of predictions on an OGB set, the same numbers as ogb's ``Evaluator`` gives.

    Args:
        name: a set of OGB such as ``ogbn-arxiv``; it decides on the metric and on what is given.
        given: tensors or numpy arrays by the names that OGB uses.

            - acc: y_true, y_pred integers [N] or [N, 1], class numbers.
            - rocauc of nodes and graphs, ap: y_true [N, T] of 0, 1 and NaN where there is no label,
              y_pred scores [N, T]; both may be [N] where T is 1.
            - rmse: y_true, y_pred as before, any numbers.
            - hits@K, rocauc of links: y_pred_pos [n], y_pred_neg [m], scores.
            - mrr: y_pred_pos [n], y_pred_neg [n, m], scores, m negatives for each positive.

    Returns:
        The metric by OGB's name; for mrr the means ``hits@1``, ``hits@3``, ``hits@10``, ``mrr``.

    Raises:
        DataError: unknown set, or inputs on which ogb would fail or give a meaningless score: NaN
            scores (its MRR of them is perfect), fewer than K negatives (its hits@K is then 1),
            shapes or labels that do not fit, positives and negatives exchanged where their shapes
            or sizes show it.
        BackendError: ogb is not installed.
    """
    evaluator = _evaluator(name)
    metric = evaluator.eval_metric
    if name.startswith("ogbl-"):
        inputs = _named(name, given, _LINKS)
        _check_links(name, metric, *inputs)
        scores = evaluator.eval(dict(zip(_LINKS, inputs, strict=True)))
    else:
        inputs = _columns(name, evaluator.num_tasks, *_named(name, given, _LABELS))
        _check_labels(name, metric, *inputs)
        scores = evaluator.eval(dict(zip(_LABELS, inputs, strict=True)))
    return {
        key.removesuffix("_list"): float(value.mean() if isinstance(value, Tensor) else value)
        for key, value in scores.items()
    }


def _evaluator(name: str) -> Any:
    rooms = _rooms()
    tables = {key: Path(room.__file__).with_name("master.csv") for key, room in rooms.items()}
    known = [
        entry
        for table in tables.values()
        for entry in table.read_text(encoding="utf-8").splitlines()[0].split(",")[1:]
    ]
    # scores sequences of words, not tensors
    known.remove("ogbg-code2")
    if name not in known:
        raise DataError(f"evaluate: unknown set {name!r}. {nearest(name, known)}")
    return rooms[name[:4]].Evaluator(name)


def _rooms() -> dict[str, Any]:
    need("ogb")
    # on import ogb asks the network for its newest version by this package, if it can
    block = "outdated" not in sys.modules
    if block:
        sys.modules["outdated"] = None  # pyright: ignore[reportArgumentType]
    try:
        from ogb import graphproppred, linkproppred, nodeproppred
    finally:
        if block:
            del sys.modules["outdated"]
    return {"ogbn": nodeproppred, "ogbl": linkproppred, "ogbg": graphproppred}


def _named(name: str, given: dict[str, Any], wanted: tuple[str, str]) -> tuple[Tensor, Tensor]:
    if set(given) != set(wanted):
        raise DataError(
            f"evaluate: {name} needs {wanted[0]} and {wanted[1]}, got "
            f"{', '.join(given) or 'nothing'}. Give these two by name."
        )
    first, second = (_tensor(key, given[key]) for key in wanted)
    return first, second


def _tensor(key: str, value: Any) -> Tensor:
    numeric = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    if not numeric and (not isinstance(value, Tensor) or value.is_complex()):
        kind = value.dtype if isinstance(value, (Tensor, np.ndarray)) else type(value).__name__
        raise DataError(
            f"evaluate: {key} must be a tensor or numpy array of real numbers, got {kind}. Use "
            f"torch.as_tensor({key})."
        )
    # a copy of an array, because torch warns of one that is read-only
    out = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
    # numpy has no bfloat16, and ogb's sums would be in half precision
    return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out


def _columns(name: str, width: int, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """Both as [N, width] on the CPU."""
    true, pred = (
        y.cpu().view(-1, 1) if y.dim() == 1 and width == 1 else y.cpu() for y in (y_true, y_pred)
    )
    if true.shape != pred.shape or true.dim() != 2 or true.size(1) != width or not len(true):
        raise DataError(
            f"evaluate: y_true and y_pred of {name} must have shape [N, {width}] with N > 0, got "
            f"{list(y_true.shape)} and {list(y_pred.shape)}. Select the same rows of both."
        )
    return true, pred


def _check_labels(name: str, metric: str, y_true: Tensor, y_pred: Tensor) -> None:
    if metric == "acc":
        _check_classes(y_true, y_pred)
        return
    _check_finite("y_pred", y_pred)
    labelled = ~y_true.isnan()
    if metric == "rmse":
        _check_finite("y_true", y_true[labelled])
        if not labelled.any(dim=0).all():
            raise DataError(f"evaluate: a column of y_true of {name} has no label. Select others.")
        return
    known = y_true[labelled]
    wrong = known[(known != 0) & (known != 1)]
    if len(wrong):
        raise DataError(
            f"evaluate: labels of {name} are 0, 1, or NaN where there is none, got "
            f"{wrong[0].item()}. Do not fill missing labels."
        )
    if not ((y_true == 1).any(dim=0) & (y_true == 0).any(dim=0)).any():
        raise DataError(
            f"evaluate: {metric} needs a column with both 0 and 1 in y_true, and there is none "
            f"in {len(y_true)} rows. Score more rows at once."
        )


def _check_classes(y_true: Tensor, y_pred: Tensor) -> None:
    for key, value in zip(_LABELS, (y_true, y_pred), strict=True):
        if value.is_floating_point() or value.dtype == torch.bool:
            raise DataError(
                f"evaluate: {key} must be class numbers, integers, got {value.dtype}. Use "
                "scores.argmax(dim=1) for scores of classes."
            )
    if (y_true < 0).any():
        raise DataError(
            f"evaluate: {int((y_true < 0).sum())} rows of y_true are below 0, which stands for "
            "unlabelled. Select the labelled rows of both."
        )


def _check_links(name: str, metric: str, pos: Tensor, neg: Tensor) -> None:
    dims = 2 if metric == "mrr" else 1
    fits = pos.dim() == 1 and neg.dim() == dims and pos.numel() and neg.numel()
    count = int(metric.partition("@")[2] or 0)
    hint = " They look swapped." if _swapped(name, count, pos, neg) else ""
    if not fits or (dims == 2 and len(pos) != len(neg)):
        want = "[n] and [n, m]" if dims == 2 else "[n] and [m]"
        raise DataError(
            f"evaluate: y_pred_pos and y_pred_neg of {name} must have shape {want}, not empty, got "
            f"{list(pos.shape)} and {list(neg.shape)}. Use view to give them this shape.{hint}"
        )
    for key, value in zip(_LINKS, (pos, neg), strict=True):
        _check_finite(key, value)
    if len(neg) < count:
        raise DataError(
            f"evaluate: {metric} needs at least {count} negative scores, got {len(neg)}. Give all "
            f"the negative edges of the split at once.{hint}"
        )
    if hint:
        raise DataError(
            f"evaluate: y_pred_neg of {name} has {len(neg)} scores, as many as a part of the split "
            f"has positive edges, and y_pred_pos {len(pos)}, as many as none has.{hint} Exchange "
            "them."
        )


def _swapped(name: str, count: int, pos: Tensor, neg: Tensor) -> bool:
    """Whether positives and negatives are exchanged, as far as shapes and sizes can tell.

    Scores alone cannot: those of a bad model look the same.
    """
    if count == 0:
        return pos.dim() == 2 and neg.dim() == 1
    num_pos, num_neg = pos.numel(), neg.numel()
    if 0 < num_neg < count <= num_pos:
        return True
    try:
        parts = card(name).splits.values()
    except DataError:
        return False
    sizes = {size for part in parts for size in (part.train, part.val, part.test)}
    return num_neg in sizes and num_pos not in sizes


def _check_finite(key: str, value: Tensor) -> None:
    bad = int((~value.isfinite()).sum())
    if bad:
        raise DataError(
            f"evaluate: {key} has {bad} values of {value.numel()} that are NaN or infinite. The "
            "model diverged: lower the learning rate."
        )
