from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphkit.errors import DataError
from graphkit.metrics import accuracy

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
