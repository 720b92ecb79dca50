from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from graphkit.errors import ConfigError
from graphkit.graph import Graph
from graphkit.recipes.loop import Epoch, Inputs, _stalled, evaluate, fit

TRAIN, VAL, TEST = torch.arange(40), torch.arange(40, 80), torch.arange(80, 120)


class Linear(nn.Module):
    """A model in the shape of all others: it ignores the graph."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        return self.lin(self.dropout(x))


@pytest.fixture
def inputs() -> Inputs:
    y = torch.randint(0, 3, (120,))
    x = torch.randn(3, 4)[y] + 0.7 * torch.randn(120, 4)
    return Inputs(x, Graph.from_edge_index(torch.zeros(2, 0, dtype=torch.long), 120), y)


OPTIONS = dict(epochs=60, patience=0, lr=0.05, weight_decay=0.0)


def test_fit_learns_and_keeps_the_weights_of_the_selected_epoch(inputs: Inputs) -> None:
    model = Linear()
    before = evaluate(model, inputs, VAL)[1]
    best, history = fit(model, inputs, TRAIN, VAL, **OPTIONS)
    assert best.val_score > max(before, 0.8)
    assert [e.epoch for e in history] == list(range(1, 61))
    assert evaluate(model, inputs, VAL) == (best.val_loss, best.val_score)


def test_the_best_score_wins_and_ties_go_to_the_lower_loss(inputs: Inputs) -> None:
    best, history = fit(Linear(0.5), inputs, TRAIN, VAL, **OPTIONS)
    assert best == min(history, key=lambda e: (-e.val_score, e.val_loss, e.epoch))


def test_the_lowest_loss_wins_if_asked(inputs: Inputs) -> None:
    options = {**OPTIONS, "lr": 0.5}
    best, history = fit(Linear(0.5), inputs, TRAIN, VAL, **options, select="loss")
    assert best == min(history, key=lambda e: e.val_loss)
    assert best.epoch < len(history)


def test_fit_never_reads_a_test_label(inputs: Inputs) -> None:
    """A class that does not exist makes any loss over the test rows fail."""
    inputs.y[TEST] = 1000
    fit(Linear(), inputs, TRAIN, VAL, **OPTIONS)
    with pytest.raises(IndexError):
        evaluate(Linear(), inputs, TEST)


def test_same_seed_same_bits(inputs: Inputs) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        model = Linear(0.5)
        runs.append((fit(model, inputs, TRAIN, VAL, **OPTIONS), model.lin.weight))
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])


def test_progress_sees_every_epoch(inputs: Inputs) -> None:
    seen: list[Epoch] = []
    _, history = fit(Linear(), inputs, TRAIN, VAL, **OPTIONS, progress=seen.append)
    assert seen == history


def test_bf16_learns_too(inputs: Inputs) -> None:
    best, history = fit(Linear(), inputs, TRAIN, VAL, **OPTIONS, amp="bf16")
    assert best.val_score > 0.8
    assert history != fit(Linear(), inputs, TRAIN, VAL, **OPTIONS)[1]


def test_divergence_is_an_error(inputs: Inputs) -> None:
    inputs.x.mul_(3e38)
    with pytest.raises(ConfigError, match="diverged: the loss is (nan|inf). Lower lr"):
        fit(Linear(), inputs, TRAIN, VAL, **OPTIONS)


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 6))
def test_the_window_rule_is_that_of_kipf_and_welling(losses: list[int], patience: int) -> None:
    """Their code, with epoch counting from 0: epoch > w and cost[-1] > mean(cost[-(w+1):-1])."""
    history = [Epoch(i + 1, 0.0, float(loss), 0.0) for i, loss in enumerate(losses)]
    window = losses[-(patience + 1) : -1]
    expected = len(losses) - 1 > patience and losses[-1] > sum(window) / len(window)
    assert _stalled(history, patience) == expected


def test_patience_zero_never_stops() -> None:
    assert not _stalled([Epoch(i, 0.0, float(i), 0.0) for i in range(100)], 0)


def test_stopping_early_ends_the_history(inputs: Inputs) -> None:
    options = {**OPTIONS, "epochs": 3000, "patience": 5, "lr": 0.3}
    _, history = fit(Linear(), inputs, TRAIN, VAL, **options)
    assert 7 <= len(history) < 3000
    assert not any(_stalled(history[:n], 5) for n in range(len(history)))
