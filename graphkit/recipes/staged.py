"""Several trainings one after another, of which the last is the result: kept and resumed as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .loop import Epoch, Problem, Training


@dataclass(frozen=True)
class Stage:
    """One of the trainings: ``begin()`` makes its model and starts it, when those before are done.

    ``done(training)`` is called once its weights are chosen, and after a restart once more; the
    model has them, and is in evaluation mode.
    """

    name: str
    begin: Callable[[], tuple[Training, Problem]]
    done: Callable[[Training], None] = lambda training: None


class Staged:
    """What :class:`Training` does, for ``stages`` in turn; weights and history are the last one's.

    Every stage begins with torch's global generator at ``seed``: two models of one shape begin
    with the same weights, whatever came before them.
    """

    def __init__(self, stages: Sequence[Stage], seed: int) -> None:
        self.stages, self.seed = stages, seed
        # states of the finished stages
        self.before: list[dict[str, Any]] = []
        self.past = 0
        self.training, self.problem = self._begin()

    def run(self, problem: Problem) -> Iterator[Epoch]:
        """Train on, giving each epoch, numbered through all stages, when it is complete.

        ``problem`` is what :class:`Training` would be given; each stage has its own.
        """
        while True:
            for epoch in self.training.run(self.problem):
                yield replace(epoch, epoch=self.past + epoch.epoch)
            self._leave()
            if len(self.before) == len(self.stages):
                return
            self.training, self.problem = self._begin()

    def finish(self, by: str | None = None) -> Epoch:
        """The chosen epoch of the last stage; its model is left with these weights."""
        return self.training.finish(by)

    @property
    def kept(self) -> Mapping[str, Tensor]:
        """The chosen weights of the last stage."""
        return self.training.kept

    @property
    def history(self) -> list[Epoch]:
        """The epochs of the last stage."""
        return self.training.history

    @property
    def others(self) -> dict[str, tuple[Epoch, dict[str, Tensor]]]:
        """The other scores of the last stage, and what they chose."""
        return self.training.others

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`restore` needs; ``history`` is as long as epochs were run."""
        now = self.training.state()
        history = [*range(self.past), *now["history"]]
        return {"before": self.before, "now": now, "history": history}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Bring back a :meth:`state` of the same stages."""
        for finished in state["before"]:
            self.training.restore(finished)
            self._leave()
            if len(self.before) < len(self.stages):
                self.training, self.problem = self._begin()
        if len(self.before) < len(self.stages):
            self.training.restore(state["now"])

    def _begin(self) -> tuple[Training, Problem]:
        torch.manual_seed(self.seed)
        return self.stages[len(self.before)].begin()

    def _leave(self) -> None:
        state = self.training.state()
        # no more than what it takes to finish once more
        finished = {name: state[name] for name in ("kept", "history", "best", "others")}
        self.before.append(finished)
        self.past += len(self.training.history)
        self.training.finish()
        with torch.no_grad():
            self.stages[len(self.before) - 1].done(self.training)
