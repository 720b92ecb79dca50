"""What goes through the stages of a loader: a batch, which every stage replaces by a fuller one."""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from ..graph import Csr, Graph
from ..ops import Key

EdgeType = tuple[str, str, str]

# the fields that hold tensors
_CONTENT = ("seeds", "n_id", "e_id", "blocks", "x", "y", "edge_attr", "extra")


def _no_timings() -> dict[str, float]:
    return {}


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """One batch of a loader; a stage returns a new one with :func:`dataclasses.replace`.

    ``number`` counts the batches of an epoch from 0, and ``key`` (seed, epoch, number) is what its
    random numbers are made of. ``seeds`` are node ids; ``n_id`` the nodes of the first block's
    sources, the seeds first; ``blocks`` one bipartite Graph for each layer. ``e_id``: the numbers
    that the edges of the first block have in the graph, in its order; a later block has the first
    ``num_edges`` of them. ``x`` are the features of ``n_id``, ``y`` the labels of ``seeds``,
    ``edge_attr`` the features of ``e_id``. Of a graph with several relations all of these are dicts
    by type of node or, for edges, by relation, and so is each block. ``extra`` holds what further
    columns were fetched, by name. ``timings`` are seconds spent on the batch: ``sample``,
    ``gather``, ``copy``, and ``wait``, the time for which the consumer waited.
    """

    number: int
    key: Key
    seeds: Tensor | dict[str, Tensor]
    n_id: Tensor | dict[str, Tensor] | None = None
    blocks: list[Graph] | list[dict[EdgeType, Graph]] | None = None
    x: Any = None
    y: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timings: Mapping[str, float] = field(default_factory=_no_timings)
    e_id: Tensor | dict[EdgeType, Tensor] | None = None
    edge_attr: Any = None

    @cached_property
    def nbytes(self) -> int:
        """The bytes of all its tensors, memory that they share counted once."""
        storages: dict[int, int] = {}

        def note(t: Tensor) -> Tensor:
            storage = t.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return t

        self.mapped(note)
        return sum(storages.values())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """This batch with all its tensors on ``device``."""

        return self.mapped(lambda t: t.to(device, non_blocking=non_blocking))

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """This batch with ``function`` applied to all its tensors."""
        return replace(self, **{name: mapped(getattr(self, name), function) for name in _CONTENT})

    def timed(self, name: str, seconds: float) -> Batch:
        """This batch with ``seconds`` more spent on ``name``."""
        total = self.timings.get(name, 0.0) + seconds
        return replace(self, timings={**self.timings, name: total})

    def __repr__(self) -> str:
        layers = "not sampled" if self.blocks is None else f"{len(self.blocks)} blocks"
        return f"Batch({self.number}, {self.num_seeds} seeds, {layers})"

    @property
    def num_seeds(self) -> int:
        """The number of seeds, of all types together."""
        parts = self.seeds.values() if isinstance(self.seeds, dict) else (self.seeds,)
        return sum(len(part) for part in parts)


def mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``value``, with ``function`` applied to every tensor in its dicts, lists and graphs."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        pairs = cast(Mapping[Any, Any], value).items()
        return {key: mapped(inner, function) for key, inner in pairs}
    if isinstance(value, (list, tuple)):
        return [mapped(inner, function) for inner in cast(list[Any], value)]
    if isinstance(value, Graph):
        by_dst = mapped(value.by_dst, function)
        return Graph(by_dst, mapped(value.by_src, function), value.num_dst, value.num_src)
    if isinstance(value, Csr):
        eid = mapped(value.eid, function)
        return Csr(function(value.indptr), function(value.indices), eid)
    return value
