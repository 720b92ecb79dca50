"""Mini-batches for a model, and its exact output for all nodes, layer by layer in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Batch
from ..data.buffers import Buffers
from ..data.stages import fetch, move, prefetch, sample, seeds
from ..graph import Graph
from ..nn import HeteroStack
from ..ops import Sampler

Relation = tuple[str, str, str]


@dataclass(frozen=True)
class Loading:
    """How batches come to the device: depth, bytes (None: any) and threads of ``prefetch``."""

    device: torch.device
    depth: int = 2
    max_bytes: int | None = None
    threads: int = 1
    buffers: Buffers = field(default_factory=Buffers)

    def batches(
        self,
        ids: Iterator[Batch],
        sampler: Sampler,
        x: Any,
        y: Any = None,
        whole: Any = None,
        transpose: bool = False,
    ) -> Iterator[Batch]:
        """The batches of seeds ``ids``, sampled, with their rows, ready on the device."""
        columns = {} if whole is None else {"whole": whole}
        pin = self.device.type == "cuda"
        found = sample(ids, sampler, transpose=transpose)
        found = fetch(found, x, y, pin_memory=pin, buffers=self.buffers, **columns)
        found = move(found, self.device)
        limits = {"depth": self.depth, "max_bytes": self.max_bytes, "threads": self.threads}
        return prefetch(found, **limits)


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """The outputs of the seeds of a batch."""
    whole = batch.extra.get("whole")
    if isinstance(model, HeteroStack):
        return model(batch.x, batch.blocks, batch.n_id, whole)
    return model(batch.x, batch.blocks, whole=whole)


@torch.no_grad()
def layerwise(
    model: Any,
    x: Any,
    graph: Graph | Mapping[Relation, Graph],
    loading: Loading,
    *,
    chunk: int,
    whole: Any = None,
    num_nodes: Mapping[str, int] | None = None,
    at_once: bool = False,
) -> Tensor:
    """The output of ``model`` for every node (of its target type), ``[N, out]`` beside ``x``.

    One layer after the other over all nodes, in chunks of ``chunk`` destinations with all their
    in-edges: exact, each edge once for each layer, and no more on the device than a chunk takes.
    ``x``, ``graph`` and the results of the layers lie where they are, features possibly larger than
    the device's memory. ``at_once``: a layer is one chunk and no rows are gathered, where all this
    lies on the device.

    With the device meta, and the model there, this is a rehearsal for who counts the memory: of
    each layer the first chunk is worked on, and the result is uninitialised.
    """
    if at_once:
        return _at_once(model, x, graph, loading, whole, num_nodes)
    # all in-edges of one hop
    sampler = Sampler(graph, [-1])
    if not isinstance(model, HeteroStack):
        h = x
        for number in range(len(model.convs)):
            h = _over_all(
                len(h),
                lambda ids, h=h: loading.batches(ids, sampler, h, whole=whole),
                lambda b, number=number: model.layer(
                    number, b.x, b.blocks[0], b.extra.get("whole")
                ),
                chunk,
            )
        return h
    assert num_nodes is not None
    h = _embedded(model, x, loading, chunk, num_nodes)
    for number in range(model.num_layers):
        is_last = number == model.num_layers - 1
        kinds = [model.target] if is_last else list(num_nodes)
        found = {
            kind: _over_all(
                num_nodes[kind],
                lambda ids, h=h: loading.batches(ids, sampler, h, whole=whole),
                lambda b, kind=kind, number=number: model.layer(
                    number, b.x, b.blocks[0], b.extra.get("whole"), only=kind
                )[kind],
                chunk,
                kind,
            )
            for kind in kinds
        }
        h = _of_one_width(found)
    return h[model.target]


def _at_once(
    model: Any,
    x: Any,
    graph: Graph | Mapping[Relation, Graph],
    loading: Loading,
    whole: Any,
    num_nodes: Mapping[str, int] | None,
) -> Tensor:
    """Each layer over the whole graph, which is a block of all nodes."""
    h, layers = x, len(model.convs)
    if num_nodes is not None:
        place = loading.device
        all_id = {kind: torch.arange(n, device=place) for kind, n in num_nodes.items()}
        h = model.embed(x, all_id)
    for number in range(layers):
        h = model.layer(number, h, graph, whole)
    return h if num_nodes is None else h[model.target]


def _embedded(
    model: HeteroStack, x: Any, loading: Loading, chunk: int, num_nodes: Mapping[str, int]
) -> dict[str, Tensor]:
    """The input of the first layer, for all nodes of all types."""
    found: dict[str, Tensor] = {}
    for kind, count in num_nodes.items():
        # no neighbours: the rows of the seeds alone

        def rows(ids: Iterator[Batch]) -> Iterator[Batch]:
            return prefetch(move(fetch(ids, x), loading.device), depth=loading.depth)

        def embed(b: Batch, kind: str = kind) -> Tensor:
            assert isinstance(b.seeds, dict)
            return model.embed(b.x, b.seeds, only=kind)[kind]

        found[kind] = _over_all(count, rows, embed, chunk, kind)
    return _of_one_width(found)


def _of_one_width(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """Types without nodes, for which nothing ran, have as many columns as the others."""
    width = max(some.size(1) for some in rows.values())
    return {kind: some if len(some) else some.new_empty(0, width) for kind, some in rows.items()}


def _over_all(
    count: int, batches: Any, function: Any, chunk: int, kind: str | None = None
) -> Tensor:
    """``function`` of all nodes, chunk by chunk, in the memory of the host."""
    out: Tensor | None = None
    all_id = torch.arange(count)
    for batch in batches(seeds(all_id, chunk, shuffle=False, kind=kind)):
        part = function(batch)
        if out is None:
            out = torch.empty((count, *part.shape[1:]), dtype=part.dtype)
        if part.is_meta:
            break
        first = batch.number * chunk
        out[first : first + len(part)] = part
    return torch.empty(0, 0) if out is None else out
