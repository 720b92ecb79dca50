"""The full-batch training loop: fit on the training rows, choose by the validation rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..graph import Graph
from ..metrics import accuracy


@dataclass(frozen=True)
class Epoch:
    """What one epoch scored; ``epoch`` counts from 1, losses are mean cross-entropies in nats."""

    epoch: int
    train_loss: float
    val_loss: float
    val_score: float


@dataclass(frozen=True)
class Inputs:
    """Features ``x [N, F]``, graph and labels ``y [N]`` of all nodes, on one device."""

    x: Tensor
    graph: Graph
    y: Tensor


# callers may have switched gradients off
@torch.enable_grad()
def fit(
    model: nn.Module,
    inputs: Inputs,
    train_id: Tensor,
    val_id: Tensor,
    *,
    epochs: int,
    patience: int,
    lr: float,
    weight_decay: float,
    select: Literal["score", "loss"] = "score",
    amp: Literal["bf16"] | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> tuple[Epoch, list[Epoch]]:
    """The selected epoch and all epochs; ``model`` is left with the selected epoch's weights.

    The test rows are not an argument, so nothing here can look at them. Training stops early when
    the validation loss exceeds the mean of the ``patience`` validation losses before it, as in the
    code of Kipf and Welling (2017); ``patience=0`` never stops early.

    Raises:
        ConfigError: the loss became NaN or infinite.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
    history: list[Epoch] = []
    best, best_rank = None, ()
    for number in range(1, epochs + 1):
        model.train()
        optimizer.zero_grad()
        loss = _forward(model, inputs, train_id, amp)[0]
        loss.backward()
        optimizer.step()
        train_loss = _finite(loss)
        # the backward graph holds every activation: drop it before the validation pass
        del loss
        val_loss, val_score = evaluate(model, inputs, val_id, amp=amp)
        now = Epoch(number, train_loss, val_loss, val_score)
        history.append(now)
        by_score = (now.val_score, -now.val_loss)
        rank = by_score if select == "score" else by_score[1:]
        if best is None or rank > best_rank:
            best, best_rank = now, rank
            for name, value in model.state_dict().items():
                kept[name].copy_(value)
        if progress is not None:
            progress(now)
        if _stalled(history, patience):
            break
    assert best is not None, "epochs is at least 1"
    model.load_state_dict(kept)
    return best, history


@torch.no_grad()
def evaluate(
    model: nn.Module, inputs: Inputs, row_id: Tensor, *, amp: Literal["bf16"] | None = None
) -> tuple[float, float]:
    """The mean cross-entropy (nats) and the accuracy (fraction) of the rows ``row_id``.

    Raises:
        ConfigError: the loss is NaN or infinite.
    """
    model.eval()
    loss, logits = _forward(model, inputs, row_id, amp)
    return _finite(loss), accuracy(logits, inputs.y[row_id])


def _finite(loss: Tensor) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise ConfigError(f"Training diverged: the loss is {value}. Lower lr or scale x.")
    return value


def _forward(
    model: nn.Module, inputs: Inputs, row_id: Tensor, amp: Literal["bf16"] | None
) -> tuple[Tensor, Tensor]:
    with torch.autocast(inputs.x.device.type, dtype=torch.bfloat16, enabled=amp == "bf16"):
        logits = model(inputs.x, inputs.graph)[row_id].float()
        return F.cross_entropy(logits, inputs.y[row_id]), logits


def _stalled(history: list[Epoch], patience: int) -> bool:
    if patience == 0 or len(history) < patience + 2:
        return False
    before = history[-patience - 1 : -1]
    return history[-1].val_loss > sum(e.val_loss for e in before) / patience
