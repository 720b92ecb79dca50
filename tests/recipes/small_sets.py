"""Data sets of seconds for links and whole graphs, and the laws that their recipes share."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from graphkit.data import GraphSet, random_link_split
from graphkit.recipes import plots

Digests = Callable[[str], dict[str, str]]
Recipe = Callable[..., Any]


def make_cliques() -> Data:
    """Four groups of 15 nodes, each joined to all of its group; a seventh of the links held out."""
    group = torch.arange(60) // 15
    whole = (group.unsqueeze(0) == group.unsqueeze(1)).fill_diagonal_(False).nonzero().t()
    edge_index, parts = random_link_split(whole, 60, seed=0)
    data = Data(edge_index=edge_index, num_nodes=60)
    data.split_edge = parts
    return data


def ring(nodes: int, chords: bool) -> Data:
    """A cycle, with a chord over every second node or without."""
    node = torch.arange(nodes)
    edge = torch.stack([node, (node + 1) % nodes])
    if chords:
        edge = torch.cat([edge, torch.stack([node, (node + 2) % nodes])], dim=1)
    return Data(edge_index=torch.cat([edge, edge.flip(0)], dim=1), num_nodes=nodes)


def make_rings() -> GraphSet:
    """Sixty rings in three splits; the class is whether there are chords."""
    graphs = [ring(5 + number % 4, number % 2 == 1) for number in range(60)]
    for number, one in enumerate(graphs):
        one.y = torch.tensor([number % 2])
    out = GraphSet.from_list(graphs)
    part = torch.stack([torch.randperm(60) % 3 for _ in range(3)], dim=1)
    masks = {f"{name}_mask": part == number for number, name in enumerate(("train", "val", "test"))}
    return GraphSet({**out.tensors, **masks}, num_classes=2)


def changed(graphs: GraphSet, **tensors: Any) -> GraphSet:
    kept = {**graphs.tensors, **tensors}
    return GraphSet({key: value for key, value in kept.items() if value is not None})


def check_same_bits(recipe: Recipe, digests: Digests, **options: Any) -> None:
    """Two runs of two seeds are equal to the bit, and the generator of the program as it was."""
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = recipe(**options, seeds="0-1")
    assert torch.rand(1) == expected
    second = recipe(**options, seeds="0-1")
    assert digests(first.run) == digests(second.run)
    assert len(set(digests(first.run).values())) == 3


def check_resumed(recipe: Recipe, digests: Digests, epoch: int, **options: Any) -> None:
    """A run stopped after ``epoch`` and resumed ends with the bits of one that was not."""
    options = {**options, "seeds": "0-1"}
    recipe(**options, out="whole")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        left, show = iter(range(epoch - 1)), plots.Progress.__call__

        def stop(self: plots.Progress, now: Any) -> None:
            show(self, now)
            if next(left, None) is None:
                signal.raise_signal(signal.SIGINT)

        patch.setattr(plots.Progress, "__call__", stop)
        recipe(**options, out="run")
    recipe(**options, resume="run")
    assert digests("run") == digests("whole")


def count_tests(module: Any, patch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """A list that grows by seed and number of the split whenever the test part is scored."""
    scored: list[tuple[int, int | None]] = []
    make = module.problem

    def spy(model: Any, seed: int, **options: Any) -> Any:
        made = make(model, seed, **options)

        def test() -> float:
            scored.append((seed, made.split))
            return made.test()

        return dataclasses.replace(made, test=test)

    patch.setattr(module, "problem", spy)
    return scored
