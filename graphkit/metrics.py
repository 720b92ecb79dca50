"""Scores of predictions against labels, as fractions in [0, 1]. Imports torch only."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import DataError


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
    if y.numel() == 0:
        raise DataError("accuracy: there are no rows to score. Check that the mask selects nodes.")
    if pred.dim() == 2:
        if torch.isnan(pred).any():
            raise DataError(
                "accuracy: the scores contain NaN. The model diverged: lower the learning rate."
            )
        pred = pred.argmax(dim=1)
    return (pred == y).sum().item() / y.numel()
