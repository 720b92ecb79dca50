"""Any number of edges to rows by destination, in bounded memory and in the order they came in.

Edges that fit are sorted at once. Others are dealt out to files by ranges of destinations, and each
file is then a smaller problem of the same kind; one destination alone is in order as it is.
"""

# pyright: strict

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import GraphError
from ..graph import Graph, index_dtype
from .build import ArrayWriter
from .layout import BLOCK, Array

# bytes of memory for an edge and for a row that are sorted
EDGE_BYTES, ROW_BYTES = 96, 32
# files that are open at once
_PARTS = 128

Records = np.ndarray[Any, np.dtype[Any]]
Show = Callable[[int], None]


def check_edges(label: str, edges: Tensor, first: int, num_src: int, num_dst: int) -> None:
    """Raise :class:`GraphError` for an end out of range; ``first`` is the number of edge 0."""
    for row, (count, side) in enumerate(((num_src, "sources"), (num_dst, "destinations"))):
        ends = edges[row]
        if ends.numel() == 0:
            continue
        low, high = torch.aminmax(ends)
        if int(low) < 0 or int(high) >= count:
            at = int(((ends < 0) | (ends >= count)).nonzero()[0])
            raise GraphError(
                f"{label}[{row}, {first + at}] = {int(ends[at])}, but there are {count} {side} "
                f"(valid: {f'0 to {count - 1}' if count else 'none'}). Pass a larger num_nodes, or "
                "drop the edge."
            )


class TopologyWriter:
    """Writes ``indptr``, ``indices`` and ``eid`` of one relation.

    ``names`` are those of the three files. ``memory``: bytes that sorting may take. ``num_edges``,
    where it is known, only saves room beside the store.
    """

    def __init__(
        self,
        folder: Path,
        names: tuple[str, str, str],
        num_src: int,
        num_dst: int,
        memory: int,
        num_edges: int | None = None,
        block: int = BLOCK,
    ) -> None:
        self.folder, self.names, self.memory, self.block = folder, names, memory, block
        self.num_src, self.num_dst, self.num_edges = num_src, num_dst, num_edges
        known = index_dtype(num_edges) if num_edges is not None else torch.int64
        self.record = record_dtype(num_src, num_dst, known)
        self._numbers = itertools.count()

    def write(
        self, label: str, chunks: Iterable[Tensor], show: Show = lambda done: None
    ) -> tuple[int, Array, Array, Array | None]:
        """The number of edges and the files of ``chunks``, integers [2, n] each.

        ``show`` is told the edges that are done, first when they are read, then when they are
        written. Raises :class:`GraphError` for an end out of range; ``label`` is what it is of.
        """
        count, held = 0, list[Records]()
        incoming = self._records(label, chunks, show)
        for records in incoming:
            held.append(records)
            count += len(records)
            if not self._fits(count, self.num_dst):
                break
        else:
            whole = np.concatenate(held) if held else np.empty(0, self.record)
            held.clear()
            self._open(count)
            self._sort(whole, 0, self.num_dst)
            return count, *self._close()
        # freed as they are dealt out
        first = (held.pop(0) for _ in range(len(held)))
        parts = self._deal(itertools.chain(first, incoming), 0, self.num_dst, self.num_edges)
        count = sum(part[3] for part in parts)
        self._open(count)
        for part in parts:
            self._place(*part)
            show(count + self._written)
        return count, *self._close()

    def _records(self, label: str, chunks: Iterable[Tensor], show: Show) -> Iterator[Records]:
        first = 0
        for edges in chunks:
            check_edges(label, edges, first, self.num_src, self.num_dst)
            records = np.empty(edges.size(1), self.record)
            records["src"], records["dst"] = edges[0].numpy(), edges[1].numpy()
            records["eid"] = np.arange(first, first + len(records))
            first += len(records)
            show(first)
            yield records

    def _fits(self, count: int, rows: int) -> bool:
        return count * EDGE_BYTES + rows * ROW_BYTES <= self.memory

    def _deal(
        self, records: Iterable[Records], low: int, high: int, count: int | None
    ) -> list[tuple[Path, int, int, int]]:
        """Files of the edges by ranges of their destinations from ``low`` to ``high``."""
        room = (_PARTS if count is None else count) * EDGE_BYTES + (high - low) * ROW_BYTES
        wanted = _PARTS if count is None else min(_PARTS, 2 * room // self.memory + 2)
        width = -(-(high - low) // wanted)
        bounds = [*range(low, high, width), high]
        paths = [self.folder / f"edges.{next(self._numbers)}.spill" for _ in bounds[1:]]
        counts = [0] * len(paths)
        files = [path.open("wb", buffering=0) for path in paths]
        try:
            for given in records:
                part = ((given["dst"] - low) // width).astype(np.uint8)
                ordered = given[np.argsort(part, kind="stable")]
                ends = np.bincount(part, minlength=len(paths)).cumsum().tolist()
                for at, (start, stop) in enumerate(itertools.pairwise([0, *ends])):
                    if start < stop:
                        _write_all(files[at], ordered[start:stop])
                        counts[at] += stop - start
        finally:
            for file in files:
                file.close()
        return list(zip(paths, bounds[:-1], bounds[1:], counts, strict=True))

    def _place(self, path: Path, low: int, high: int, count: int) -> None:
        """Write the rows from ``low`` to ``high``, whose edges are in the file, and remove it."""
        if self._fits(count, high - low):
            records = np.fromfile(path, self.record)
            path.unlink()
            self._sort(records, low, high)
        elif high - low == 1:
            self._indptr.write(torch.tensor([self._written]))
            for records in self._pieces(path):
                self._append(records["src"], records["eid"])
            path.unlink()
        else:
            parts = self._deal(self._pieces(path), low, high, count)
            path.unlink()
            for part in parts:
                self._place(*part)

    def _pieces(self, path: Path) -> Iterator[Records]:
        step = max(1, self.memory // EDGE_BYTES)
        with path.open("rb") as file:
            while len(records := np.fromfile(file, self.record, step)):
                yield records

    def _sort(self, records: Records, low: int, high: int) -> None:
        ends = np.stack([records["src"].astype(np.int64), records["dst"].astype(np.int64) - low])
        graph = Graph.from_edge_index(
            torch.from_numpy(ends),  # pyright: ignore[reportUnknownMemberType]
            num_src=self.num_src,
            num_dst=high - low,
            transpose=False,
        )
        side = graph.by_dst
        self._indptr.write(side.indptr[:-1] + self._written)
        eid = records["eid"]
        self._append(side.indices.numpy(), eid if side.eid is None else eid[side.eid.numpy()])

    def _append(self, indices: Records, eid: Records) -> None:
        here = np.arange(self._written, self._written + len(eid))
        self._in_order = self._in_order and bool((eid == here).all())
        for writer, values in ((self._indices, indices), (self._eid, eid)):
            given: Tensor = torch.from_numpy(np.ascontiguousarray(values))  # pyright: ignore[reportUnknownMemberType]
            writer.write(given.to(writer.dtype))
        self._written += len(eid)

    def _open(self, count: int) -> None:
        indptr, indices, eid = self.names
        self._indptr = ArrayWriter(self.folder, indptr, torch.int64, block=self.block)
        kinds = index_dtype(self.num_src), index_dtype(count)
        self._indices = ArrayWriter(self.folder, indices, kinds[0], block=self.block)
        self._eid = ArrayWriter(self.folder, eid, kinds[1], block=self.block)
        self._written, self._in_order = 0, True

    def _close(self) -> tuple[Array, Array, Array | None]:
        self._indptr.write(torch.tensor([self._written]))
        indptr, indices = self._indptr.close(), self._indices.close()
        if self._in_order:
            self._eid.discard()
            return indptr, indices, None
        return indptr, indices, self._eid.close()


def record_dtype(num_src: int, num_dst: int, eid: torch.dtype) -> np.dtype[Any]:
    """How an edge lies in the files beside a store."""
    kinds = {"dst": index_dtype(num_dst), "src": index_dtype(num_src), "eid": eid}
    return np.dtype([(name, f"i{kind.itemsize}") for name, kind in kinds.items()])


def _write_all(file: Any, records: Records) -> None:
    view, done = memoryview(cast(Any, records).view(np.uint8)), 0
    while done < len(view):
        done += file.write(view[done:])
