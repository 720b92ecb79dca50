"""The training loop: fit on the training part, choose by the validation part, survive."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError


class Diverged(ConfigError):
    """A loss became NaN or infinite."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch scored; ``epoch`` counts from 1, losses are means over what they are of.

    ``seconds`` says what they went to, where the recipe measures that; ``others`` are validation
    scores beside the one that chooses, the higher the better.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_score: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """What one seed is to learn, as three functions that close over its model and data.

    ``train(optimizer, epoch)`` is one epoch, the first is 0, and returns its mean loss,
    ``validate()`` the validation loss and score, ``test()`` the test score: called once, with the
    chosen weights. ``split`` is the number of the split, None where there is one. ``seconds()`` is
    what the last epoch, with its validation, spent its time on. ``others()`` are other scores of
    the validation that was last, each of which chooses weights of its own; ``scores(by)`` are all
    test scores of the weights that the score ``by`` chose. ``keep(folder)`` writes files of the
    seed, when it is finished. ``beside()`` is what else the test showed, by name.
    """

    split: int | None
    train: Callable[[torch.optim.Optimizer, int], float]
    validate: Callable[[], tuple[float, float]]
    test: Callable[[], float]
    seconds: Callable[[], Mapping[str, float]] = dict
    beside: Callable[[], Mapping[str, float]] = dict
    others: Callable[[], Mapping[str, float]] = dict
    scores: Callable[[str], Mapping[str, float]] = lambda by: {}
    keep: Callable[[Path], None] = lambda folder: None


class Training:
    """One model on its way: weights, best weights so far, optimizer, history.

    Args:
        select: keep the weights of the best validation score, or of the lowest validation loss; of
            equal scores those of the lower loss, with ``latest`` those of the later epoch.
        higher: is a higher score better?
        patience: stop when the validation loss exceeds the mean of so many before it, as in the
            code of Kipf and Welling (2017); 0 never stops early.
        stop: ``mean`` for that rule; ``best`` stops when the epoch that is kept is ``patience``
            epochs old.
        min_epochs: epochs after which stopping early is looked at first.
        optimizer: Adam, or AdamW, whose decay does not pass through its averages. A model that has
            ``parameter_groups(weight_decay)`` says itself which parameters decay how much.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        epochs: int,
        patience: int,
        lr: float,
        weight_decay: float,
        select: Literal["score", "loss", "latest"] = "score",
        min_epochs: int = 0,
        higher: bool = True,
        optimizer: Literal["adam", "adamw"] = "adam",
        stop: Literal["mean", "best"] = "mean",
    ) -> None:
        self.model = model
        self.epochs, self.patience, self.stop = epochs, patience, stop
        self.min_epochs = min_epochs
        self.select, self.higher = select, higher
        groups = getattr(model, "parameter_groups", None)
        parameters = model.parameters() if groups is None else groups(weight_decay)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
        self.optimizer = kind(parameters, lr=lr, weight_decay=weight_decay)
        self.kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.history: list[Epoch] = []
        self.best: Epoch | None = None
        # by the name of another score: the epoch that it chose, and the weights then
        self.others: dict[str, tuple[Epoch, dict[str, Tensor]]] = {}

    def run(self, problem: Problem) -> Iterator[Epoch]:
        """Train on, giving each epoch when it is complete: the moment to keep :meth:`state`.

        Raises:
            Diverged: a loss became NaN or infinite.
        """
        while len(self.history) < self.epochs and not self._stalled():
            self.model.train()
            # callers may have switched gradients off
            with torch.enable_grad():
                train_loss = finite(problem.train(self.optimizer, len(self.history)))
            self.model.eval()
            with torch.no_grad():
                val_loss, val_score = problem.validate()
            scores = train_loss, finite(val_loss), val_score
            now = Epoch(len(self.history) + 1, *scores, problem.seconds(), problem.others())
            self.history.append(now)
            if self.best is None or self._beats(self._rank(now), self._rank(self.best)):
                self.best = now
                self._copy_to(self.kept)
            for name, score in now.others.items():
                before = self.others.get(name)
                if before is None or self._beats(score, before[0].others[name]):
                    kept = _cloned(self.kept) if before is None else before[1]
                    self._copy_to(kept)
                    self.others[name] = now, kept
            yield now

    def finish(self, by: str | None = None) -> Epoch:
        """The chosen epoch; the model is left with its weights, and in evaluation mode.

        ``by`` names the other score that chose it.
        """
        assert self.best is not None, "epochs is at least 1"
        epoch, kept = (self.best, self.kept) if by is None else self.others[by]
        self.model.load_state_dict(kept)
        self.model.eval()
        return epoch

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs to go on as if nothing had happened."""
        return {
            "model": dict(self.model.state_dict()),
            "kept": self.kept,
            "optimizer": self.optimizer.state_dict(),
            "history": [astuple(epoch) for epoch in self.history],
            "best": None if self.best is None else self.best.epoch,
            "others": {name: [epoch.epoch, kept] for name, (epoch, kept) in self.others.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Bring back a :meth:`state` of a model that was built in the same way.

        Of a training that is finished, model and optimizer may be missing.
        """
        if "optimizer" in state:
            self.model.load_state_dict(state["model"])
            # the tensors of a state may be mapped from a file
            self.optimizer.load_state_dict(_cloned(state["optimizer"]))
        for name, value in state["kept"].items():
            self.kept[name].copy_(value)
        self.history = [Epoch(*values) for values in state["history"]]
        self.best = None if state["best"] is None else self.history[state["best"] - 1]
        self.others = {
            name: (self.history[epoch - 1], _cloned(kept))
            for name, (epoch, kept) in state["others"].items()
        }

    def _copy_to(self, kept: Mapping[str, Tensor]) -> None:
        for name, value in self.model.state_dict().items():
            kept[name].copy_(value)

    def _beats(self, new: Any, old: Any) -> bool:
        return new > old or (self.select == "latest" and new == old)

    def _stalled(self) -> bool:
        if len(self.history) <= self.min_epochs:
            return False
        if self.stop == "mean":
            return stalled(self.history, self.patience)
        old = 0 if self.best is None else len(self.history) - self.best.epoch
        return 0 < self.patience <= old

    def _rank(self, epoch: Epoch) -> tuple[float, ...]:
        score = epoch.val_score if self.higher else -epoch.val_score
        by_score = (score, -epoch.val_loss)
        return {"score": by_score, "loss": by_score[1:], "latest": by_score[:1]}[self.select]


def finite(loss: float | Tensor) -> float:
    """``loss`` as a number; :class:`Diverged` if it is none."""
    value = loss.item() if isinstance(loss, Tensor) else loss
    if not math.isfinite(value):
        raise Diverged(f"Training diverged: the loss is {value}. Lower lr or scale x.")
    return value


def stalled(history: list[Epoch], patience: int) -> bool:
    """Does the last validation loss exceed the mean of the ``patience`` before it?"""
    if patience == 0 or len(history) < patience + 2:
        return False
    before = history[-patience - 1 : -1]
    return history[-1].val_loss > sum(e.val_loss for e in before) / patience


def _cloned(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _cloned(inner) for key, inner in value.items()}
    return [_cloned(inner) for inner in value] if isinstance(value, list) else value
