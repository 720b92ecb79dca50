from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graphkit.errors import ConfigError
from graphkit.graph import Graph
from graphkit.recipes.loop import Epoch, Problem, Training, stalled
from graphkit.recipes.node import Nodes
from graphkit.recipes.node import problem as node_problem
from graphkit.recipes.task import task_of


class Linear(nn.Module):
    """A model in the shape of all others: it ignores the graph."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        return self.lin(self.dropout(x))


@pytest.fixture
def nodes() -> Nodes:
    y = torch.randint(0, 3, (120,))
    x = torch.randn(3, 4)[y] + 0.7 * torch.randn(120, 4)
    return learnable(x, y)


def learnable(x: Tensor, y: Tensor) -> Nodes:
    part = torch.arange(120) // 40
    masks = {name: part == number for number, name in enumerate(("train", "val", "test"))}
    return Nodes(x, Graph.from_edge_index(torch.zeros(2, 0, dtype=torch.long), 120), y, masks)


OPTIONS: dict[str, Any] = dict(epochs=60, patience=0, lr=0.05, weight_decay=0.0)


def problem(model: nn.Module, nodes: Nodes, amp: Any = None) -> Any:
    return node_problem(model, 0, nodes=nodes, task=task_of(nodes.y, None, 3), amp=amp)


def fit(model: nn.Module, nodes: Nodes, amp: Any = None, **options: Any) -> Training:
    training = Training(model, **{**OPTIONS, **options})
    for _ in training.run(problem(model, nodes, amp)):
        pass
    training.finish()
    return training


def test_training_learns_and_keeps_the_weights_of_the_selected_epoch(nodes: Nodes) -> None:
    model = Linear()
    before = problem(model, nodes).validate()[1]
    training = fit(model, nodes)
    best = training.best
    assert best and best.val_score > max(before, 0.8)
    assert [e.epoch for e in training.history] == list(range(1, 61))
    assert problem(model, nodes).validate() == (best.val_loss, best.val_score)


def test_the_best_score_wins_and_ties_go_to_the_lower_loss(nodes: Nodes) -> None:
    training = fit(Linear(0.5), nodes)
    assert training.best == min(training.history, key=lambda e: (-e.val_score, e.val_loss, e.epoch))


def test_the_lowest_loss_wins_if_asked(nodes: Nodes) -> None:
    training = fit(Linear(0.5), nodes, lr=0.5, select="loss")
    assert training.best == min(training.history, key=lambda e: e.val_loss)
    assert training.best and training.best.epoch < len(training.history)


def test_where_lower_is_better_the_lowest_score_wins(nodes: Nodes) -> None:
    training = fit(Linear(0.5), nodes, higher=False)
    assert training.best == min(training.history, key=lambda e: (e.val_score, e.val_loss, e.epoch))


def test_training_never_reads_a_test_label(nodes: Nodes) -> None:
    """A class that does not exist makes any loss over the test rows fail."""
    task = task_of(nodes.y, None, 3)
    nodes.y[80:] = 1000
    model = Linear()
    training = Training(model, **OPTIONS)
    whole = node_problem(model, 0, nodes=nodes, task=task, amp=None)
    assert len(list(training.run(whole))) == 60
    with pytest.raises(IndexError):
        task.loss(model(nodes.x, nodes.graph)[80:], nodes.y[80:])
    assert whole.test() == 0.0


def test_same_seed_same_bits(nodes: Nodes) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        model = Linear(0.5)
        runs.append((fit(model, nodes).history, model.lin.weight))
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])


@given(st.integers(1, 29))
@settings(max_examples=10)
def test_a_restored_training_goes_on_with_the_same_bits(at: int) -> None:
    y = torch.arange(120) % 3
    noise = torch.sin(torch.arange(480.0)).view(120, 4)
    nodes = learnable(torch.nn.functional.one_hot(y, 4) + noise, y)
    ends = []
    for stop in (None, at):
        torch.manual_seed(5)
        model = Linear(0.5)
        training = Training(model, **{**OPTIONS, "epochs": 30})
        for epoch in training.run(problem(model, nodes)):
            if epoch.epoch == stop:
                state, random = copy.deepcopy(training.state()), torch.get_rng_state()
                torch.rand(100)
                model = Linear(0.5)
                training = Training(model, **{**OPTIONS, "epochs": 30})
                training.restore(state)
                torch.set_rng_state(random)
                list(training.run(problem(model, nodes)))
                break
        ends.append((training.history, training.finish(), model.lin.weight.tolist()))
    assert ends[0] == ends[1]


def test_gradients_that_the_caller_switched_off_are_on_for_training(nodes: Nodes) -> None:
    with torch.no_grad():
        assert fit(Linear(), nodes).history[-1].val_score > 0.8


def test_bf16_learns_too(nodes: Nodes) -> None:
    training = fit(Linear(), nodes, amp="bf16")
    assert training.best and training.best.val_score > 0.8
    assert training.history != fit(Linear(), nodes).history


def test_divergence_is_an_error(nodes: Nodes) -> None:
    nodes.x.mul_(3e38)
    with pytest.raises(ConfigError, match="diverged: the loss is (nan|inf). Lower lr"):
        fit(Linear(), nodes)


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 6))
def test_the_window_rule_is_that_of_kipf_and_welling(losses: list[int], patience: int) -> None:
    """Their code, with epoch counting from 0: epoch > w and cost[-1] > mean(cost[-(w+1):-1])."""
    history = [Epoch(i + 1, 0.0, float(loss), 0.0) for i, loss in enumerate(losses)]
    window = losses[-(patience + 1) : -1]
    expected = len(losses) - 1 > patience and losses[-1] > sum(window) / len(window)
    assert stalled(history, patience) == expected


@pytest.mark.parametrize("select", ["score", "loss"])
def test_the_rule_of_the_best_epoch_stops_when_that_is_old(nodes: Nodes, select: Any) -> None:
    training = fit(Linear(0.5), nodes, stop="best", patience=7, select=select, epochs=900)
    history, best = training.history, training.best
    assert best and len(history) == best.epoch + 7 < 900
    for end in range(1, len(history)):
        keys = [(-e.val_score, e.val_loss)[select == "loss" :] for e in history[:end]]
        assert end - 1 - keys.index(min(keys)) < 7
    assert len(fit(Linear(0.5), nodes, stop="best").history) == 60


def test_patience_zero_never_stops() -> None:
    assert not stalled([Epoch(i, 0.0, float(i), 0.0) for i in range(100)], 0)


def test_stopping_early_ends_the_history(nodes: Nodes) -> None:
    history = fit(Linear(), nodes, epochs=3000, patience=5, lr=0.3).history
    assert 7 <= len(history) < 3000
    assert not any(stalled(history[:n], 5) for n in range(len(history)))


def test_a_model_says_which_of_its_parameters_decay(nodes: Nodes) -> None:
    class Grouped(Linear):
        def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
            return [
                {"params": [self.lin.weight], "weight_decay": weight_decay},
                {"params": [self.lin.bias], "weight_decay": 0.0},
            ]

    training = Training(Grouped(), **{**OPTIONS, "weight_decay": 0.5}, optimizer="adamw")
    assert isinstance(training.optimizer, torch.optim.AdamW)
    groups = training.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]


@pytest.mark.parametrize("stop", ["mean", "best"])
def test_stopping_early_may_begin_late(nodes: Nodes, stop: Any) -> None:
    options = dict(epochs=400, patience=5, lr=0.3, stop=stop)
    early, late = fit(Linear(), nodes, **options), fit(Linear(), nodes, **options, min_epochs=300)
    assert len(early.history) < 300 < len(late.history) <= 400
    if stop == "mean":
        last = next(n for n in range(301, 401) if n == 400 or stalled(late.history[:n], 5))
        assert len(late.history) == last


def scripted(model: nn.Module, scores: list[tuple[float, float, float]]) -> Any:
    """A problem whose validation loss, score and other score are given for each epoch."""
    now = iter(scores)
    seen: dict[str, float] = {}

    def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(float(epoch))
        return 1.0

    def validate() -> tuple[float, float]:
        loss, score, seen["other"] = next(now)
        return loss, score

    return Problem(None, train, validate, lambda: 0.0, others=lambda: dict(seen))


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1),
    st.sampled_from(["score", "loss", "latest"]),
    st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_each_score_keeps_the_weights_of_the_epoch_it_chose(
    rows: list[tuple[int, int, int]], select: Any, stop: int
) -> None:
    scores = [(float(loss), float(score), float(other)) for loss, score, other in rows]
    options = {**OPTIONS, "epochs": len(rows), "select": select}
    whole = Training(Linear(), **options)
    list(whole.run(scripted(whole.model, scores)))
    # stopped after some epochs and restored
    first = Training(Linear(), **{**options, "epochs": min(stop, len(rows))})
    list(first.run(scripted(first.model, scores)))
    second = Training(Linear(), **options)
    second.restore(copy.deepcopy(first.state()))
    list(second.run(scripted(second.model, scores[stop:])))
    key = {
        "score": lambda at: (scores[at][1], -scores[at][0], -at),
        "loss": lambda at: (-scores[at][0], -at),
        "latest": lambda at: (scores[at][1], at),
    }[select]
    sign = 1 if select == "latest" else -1
    epochs = range(len(rows))
    expected: dict[str | None, int] = {None: max(epochs, key=key)}
    expected["other"] = max(epochs, key=lambda at: (scores[at][2], sign * at))
    for training in (whole, second):
        for by, at in expected.items():
            assert training.finish(by).epoch == at + 1
            assert all(bool((p == at).all()) for p in training.model.parameters())
