"""What is written about nodes as what is to be learnt: classes, labels of 0 and 1, or values."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .columns import MISSING
from .readers.pairs import single
from .splits import Masks, random_split

TASKS = ("node-classification", "node-multilabel", "node-regression")
"""The words of a card that also fit a user's own data."""

_log = logging.getLogger(__name__)

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_SAY = 'Say which in graph.toml: task = "node-classification" or "node-regression".'

At = Callable[[int, int], str]


@dataclass(frozen=True)
class Targets:
    """``y`` int64 [N] of classes, -1 where not known, or float32 [N, T], NaN where not known.

    ``class_names[c]`` is how class ``c`` was written, None if that was its number or there are
    no classes.
    """

    y: Tensor
    class_names: list[str] | None = None


def unlabelled(count: int) -> Targets:
    """The targets of ``count`` nodes of which no label is known."""
    return Targets(torch.full((count,), -1))


def drawn_split(y: Tensor, seed: int, place: object, quiet: bool = False) -> Masks:
    """A random split of the labelled nodes, stratified where no class is too rare for that.

    Train, val and test have 60, 20 and 20 per cent of them, which is logged unless ``quiet``.
    """
    level = logging.DEBUG if quiet else logging.WARNING
    say = "%s brings no split: 60/20/20 per cent of it are drawn from seed %d"
    _log.log(level, say, place, seed)
    if y.is_floating_point():
        known = ~y.isnan().reshape(len(y), -1).all(dim=1)
        return random_split(known.long() - 1, seed=seed)
    try:
        return random_split(y, seed=seed, stratified=True)
    except DataError as error:
        _log.log(level, "%s: the split is not stratified: %s", place, error)
        return random_split(y, seed=seed)


def from_texts(texts: np.ndarray, task: str | None, at: At, labelled: bool = True) -> Targets:
    """The targets in ``texts``, object [N, T]; without ``task`` their content tells what they are.

    One column of texts or of whole numbers holds classes, which are numbered in their sorted order;
    several columns of 0 and 1 hold labels; numbers of which one has a fraction are values.
    ``at(row, column)`` names a place for the messages of :class:`DataError`. Without any label
    they are :func:`unlabelled`, or, if the data must be ``labelled``, an error.
    """
    known = ~np.isin(texts, MISSING)
    if not labelled and not known.any():
        return unlabelled(len(texts))
    if not known.any():
        raise DataError(f"{at(0, 0)}: no row has a label. Fill in those that are known.")
    task = task or _guess(texts, known, at)
    if task == "node-classification":
        if texts.shape[1] > 1:
            raise DataError(
                f"{at(0, 1)}: a second column of labels, but classes stand in one. Merge the "
                "columns, or set another task in graph.toml."
            )
        return _classes(texts[:, 0], known[:, 0], at)
    values = _values(texts, known, at)
    if task == "node-multilabel":
        wrong = np.argwhere(known & (values != 0) & (values != 1))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise DataError(
                f"{at(row, column)}: {texts[row, column]!r} is no label: 0, 1 or nothing for "
                "unknown is expected. Correct it, or set another task in graph.toml."
            )
    return Targets(torch.from_numpy(single(values)))


def from_array(y: np.ndarray, task: str | None, where: str, labelled: bool = True) -> Targets:
    """The targets in numpy's ``y``, [N] or [N, T]; without ``task`` the dtype tells what they are.

    Classes are int64 [N] or [N, 1], and stay the numbers they are. ``where`` names the array for
    the messages of :class:`DataError`; ``labelled`` is as for :func:`from_texts`.
    """
    if y.ndim not in (1, 2) or not y.size or y.dtype.kind not in "iubfU":
        raise DataError(
            f"{where} is {y.dtype} of shape {list(y.shape)}, but numbers or texts [N] or [N, T] "
            "are expected. Save one row for each node."
        )
    columns = y.reshape(len(y), -1)
    if y.dtype.kind == "U":
        at = f"{where}, row {{}}, column {{}}".format
        return from_texts(columns.astype(object), task, at, labelled)
    alone = columns.shape[1] == 1
    if task == "node-classification" or (task is None and alone and y.dtype.kind in "iu"):
        return Targets(torch.from_numpy(_numbers_of_classes(columns, where)))
    if y.dtype.kind in "iu" and task is None and not np.isin(columns, (0, 1)).all():
        raise DataError(
            f"{where} has {columns.shape[1]} columns of whole numbers beyond 0 and 1. Save classes "
            "in one column, or values as floating point."
        )
    # [N] of floating point is left for the check, which knows what looks like classes
    shaped = y if task is None and y.dtype.kind == "f" else columns
    return Targets(torch.from_numpy(single(shaped)))


def _guess(texts: np.ndarray, known: np.ndarray, at: At) -> str:
    """The task that the known labels pose; :class:`DataError` where they could be two things."""
    alone = texts.shape[1] == 1
    found = texts[known].tolist()
    numeric = [bool(_NUMBER.fullmatch(text)) for text in found]
    if alone and (not any(numeric) or all(_WHOLE.fullmatch(text) for text in found)):
        return "node-classification"
    values = _values(texts, known, at)[known]
    if not alone and bool(((values == 0) | (values == 1)).all()):
        return "node-multilabel"
    if bool((values != np.trunc(values)).any()):
        return "node-regression"
    what = "whole numbers written as decimals" if alone else "whole numbers beyond 0 and 1"
    remedy = _SAY if alone else 'If they are values, set task = "node-regression" in graph.toml.'
    raise DataError(f"{at(0, 0)}: the labels are {what}, which may be classes or values. {remedy}")


def _classes(texts: np.ndarray, known: np.ndarray, at: At) -> Targets:
    keys: list[int] | list[str] = [str(text) for text in texts[known]]
    if all(_NUMBER.fullmatch(key) and float(key).is_integer() for key in keys):
        keys = [int(key) if _WHOLE.fullmatch(key) else int(float(key)) for key in keys]
        if min(keys) < 0:
            row = int(np.flatnonzero(known)[keys.index(min(keys))])
            raise DataError(
                f"{at(row, 0)}: class {min(keys)} is below 0. Leave the label of unlabelled nodes "
                "empty, and give other classes names or numbers from 0."
            )
    order = sorted(set(keys))
    number = {key: c for c, key in enumerate(order)}
    y = torch.full((len(texts),), -1)
    y[torch.from_numpy(known)] = torch.tensor([number[key] for key in keys])
    return Targets(y, [str(key) for key in order])


def _values(texts: np.ndarray, known: np.ndarray, at: At) -> np.ndarray:
    """``texts`` as float64 [N, T], NaN where not known."""
    found = texts[known].tolist()
    wrong = next((i for i, text in enumerate(found) if not _NUMBER.fullmatch(text)), None)
    if wrong is not None:
        row, column = np.argwhere(known)[wrong].tolist()
        raise DataError(
            f"{at(row, column)}: {found[wrong]!r} is not a number, as other labels are. Leave "
            'unknown labels empty; for names of classes set task = "node-classification" in '
            "graph.toml."
        )
    values = np.full(texts.shape, np.nan)
    values[known] = [float(text) for text in found]
    return values


def _numbers_of_classes(columns: np.ndarray, where: str) -> np.ndarray:
    """``columns`` [N, 1] as int64 [N], NaN as -1."""
    if columns.shape[1] > 1:
        raise DataError(f"{where} has {columns.shape[1]} columns, but classes stand in one.")
    y = columns[:, 0]
    if y.dtype.kind == "f":
        y = np.where(np.isnan(y), -1, y)
        if (y != np.trunc(y)).any() or np.isinf(y).any():
            raise DataError(f"{where} has fractions, but classes are whole numbers from 0.")
    return y.astype(np.int64)
