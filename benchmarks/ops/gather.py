"""Features of stored batches read from disk: an epoch of them, samples the same for all.

The table lies on the disk that holds the folder for temporary files (``TMPDIR``), a tenth of it is
cached, and what is read past the cache is cold: our reads go past the page cache, and the pages of
the memory map are dropped before each call. ``rows one by one`` is how Ginex and GraphBolt read:
the pages of each row, directly. ``in memory`` is the whole table in memory, what no disk can beat.
An untimed epoch is judged by the sums of each batch's columns.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import graphs
from benchmarks.entry import Outputs, Prepared
from graphkit import Graph
from graphkit.data import Batch, PackFile, pack, stages, stored, write_store
from graphkit.store.reader import Store

TITLE = "Rows of stored batches from disk, batches of 1024"
BASELINE = "packs"
TESTS = ("tests/store/test_packs.py",)
# sums of float32 rows in float64
TOLERANCE = 1e-9
BATCH, FANOUT, NUM_BATCHES = 1024, [15, 10, 5], 24
SHARE = 0.1
# an epoch takes seconds
WARMUP = 1
# GB
GRAPH_MEMORY = {"products": 12}


def cases(quick: bool) -> list[dict[str, Any]]:
    if quick:
        return [{"graph": "arxiv", "width": 128}]
    return [{"graph": "products", "width": width} for width in (128, 100, 16, 384, 1024)]


@dataclass(frozen=True)
class Problem:
    x: Tensor
    seeds: Tensor
    graph: Graph
    store: Store
    folder: Path

    def packed(self, way: Any, name: str = "") -> PackFile:
        """Packs of this problem, made where they are not there yet."""
        out, row = self.folder / (name or way), 4 * self.x.size(1)
        held = int(SHARE * len(self.x)) * row
        given: dict[str, Any] = dict(batch_size=BATCH, memory=max(2 * held, 2**28), cache=held)
        pack(self.store.column("x"), self.graph, self.seeds, FANOUT, out, way=way, **given)
        return PackFile(out, verify=False)


def problem(graph: str, width: int) -> Problem:
    edge_index, num_nodes = graphs.graph(graph)
    size = 4 * width * num_nodes / 1e9
    graphs.spare(GRAPH_MEMORY.get(graph, 0) + 2 * size)
    random = torch.Generator().manual_seed(1)
    x = torch.randn(num_nodes, width, generator=random)
    seeds = torch.randperm(num_nodes, generator=random)[: BATCH * NUM_BATCHES]
    folder = Path(tempfile.mkdtemp(prefix="graphkit-gather-"))
    store = write_store(folder / "store", x=x, edge_index=edge_index)
    weakref.finalize(store, shutil.rmtree, folder, True)
    return Problem(x, seeds, store.graph(), store, folder)


def reference(p: Problem) -> Outputs:
    packs = p.packed("blocks")
    return (sums(p.x[batch.n_id] for batch in stored(packs)),)


def sums(rows: Iterable[Tensor]) -> Tensor:
    """The sums of the columns of each batch."""
    return torch.stack([x.double().sum(0) for x in rows])


def of_epochs(epoch: Callable[[], Iterable[Tensor]]) -> Prepared:
    def call() -> Outputs:
        return (deque(epoch(), maxlen=1).pop(),)

    return Prepared(call, lambda: (sums(epoch()),))


def by_packs(way: str) -> Callable[[Problem], Prepared]:
    def prepared(p: Problem) -> Prepared:
        packs = p.packed(way)
        return of_epochs(lambda: (batch.x for batch in stages.fetch(stored(packs), packs)))

    return prepared


def by_map(p: Problem) -> Prepared:
    packs, path = p.packed("blocks"), p.store.column("x").file.path

    def epoch() -> Iterable[Tensor]:
        with path.open("rb") as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        table = np.memmap(path, np.float32, "r", shape=tuple(p.x.shape))
        for batch in stored(packs):
            yield torch.from_numpy(table[np.asarray(batch.n_id)])

    return of_epochs(epoch)


def in_memory(p: Problem) -> Prepared:
    packs = p.packed("blocks")

    def rows(batch: Batch) -> Tensor:
        return batch.x

    return of_epochs(lambda: map(rows, stages.fetch(stored(packs), p.x)))


CONTENDERS = {
    "packs": by_packs("packs"),
    "packs with shared rows": by_packs("segments"),
    "pages once a batch": by_packs("blocks"),
    "rows one by one": by_packs("rows"),
    "numpy.memmap": by_map,
    "in memory": in_memory,
}
