"""Write a graph with its features, labels and splits as a store on disk, in bounded memory.

What can be read twice (tensors, arrays, files) is looked through before anything is written;
iterators are checked as they come. Nothing is at the place of the store before all of it is whole.
"""

# pyright: strict

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..graph import index_dtype
from ..store.build import ArrayWriter, building, finish, refuse_existing, span_of
from ..store.layout import (
    BLOCK,
    ONE_TYPE,
    Array,
    Edges,
    Layout,
    Nodes,
)
from ..store.reader import Store, open_store
from ..store.topology import TopologyWriter, record_dtype
from .chunked import Table, parse_bytes
from .contents import (
    Contents,
    Relation,
    check_finite,
    check_part,
    checked,
    contents_of,
    is_feature,
    meter,
    of_data,
)

EdgeType = tuple[str, str, str]

_CHUNK = 2**25
# the bytes that a row's stride is a multiple of, where rows are aligned
_SECTOR = 512


def write_store(
    out: str | os.PathLike[str],
    data: Any = None,
    *,
    x: Any = None,
    edge_index: Any = None,
    y: Any = None,
    edge_attr: Any = None,
    node_id: Any = None,
    columns: Mapping[str, Any] | None = None,
    edge_columns: Mapping[str, Any] | None = None,
    splits: Mapping[str, Mapping[str, Any]] | None = None,
    num_nodes: int | Mapping[str, int] | None = None,
    num_edges: int | None = None,
    memory: str | int = "1GB",
    align: bool = False,
    allow_nonfinite: bool = False,
    about: Mapping[str, Any] | None = None,
    quiet: bool = True,
) -> Store:
    """Write a store to the new folder ``out``, and open it.

    ``data``: a PyG ``Data`` or ``HeteroData``, whose tensors of nodes and edges are written, and
    whose masks become splits. Or each table by itself: ``x [N, ...]``, ``edge_index [2, E]``,
    ``y [N, ...]``, ``edge_attr [E, ...]``, ``node_id [N]``, and any others as ``columns`` and
    ``edge_columns``; each is a tensor, an array or memory map, the path of an npy file, or an
    iterable of chunks of rows (of ``edge_index``: chunks ``[2, n]``). Dtypes are those of torch,
    among them bfloat16, float16 and int8; rows have any width. In a graph with several types of
    nodes each is a dict, by type or by (source, relation, target), and ``columns`` by name has such
    dicts.

    ``splits``: by name, the ids or the mask of each part; of several types, dicts by type.
    ``num_nodes``: where no table of nodes says it; without it the largest id plus one, unless
    ``edge_index`` is an iterator. ``num_edges``, of an iterator, is checked, and saves room on the
    disk. ``about``: what JSON holds, kept as ``store.layout.about``.

    ``memory``: what the writing takes beside what was given, ``"1GB"`` or a number of bytes; the
    edges are sorted by parts on the disk where they need more. ``align``: rows begin at multiples
    of 512 bytes, unless they divide 4096, for direct reads of single rows. ``allow_nonfinite``
    accepts NaN and infinity in ``x`` and ``edge_attr``. The same input gives the same bytes.

    Raises:
        GraphError, DataError: a table has a wrong dtype, width or number of rows, an id is out of
            range, a feature is NaN or infinite: before anything is written, unless it is in an
            iterator.
        ConfigError: an option is out of range, or ``data`` stands beside tables.
        StoreError: something is at ``out``, another process writes there, or the disk is full.
    """
    budget, path = parse_bytes(memory), Path(out)
    # before much is read
    refuse_existing(path)
    tables: dict[str, Any] = {
        **{"x": x, "y": y, "node_id": node_id},
        **({} if columns is None else columns),
    }
    of_edges = {"edge_attr": edge_attr, **({} if edge_columns is None else edge_columns)}
    if data is not None:
        given = [name for name, value in (tables | of_edges).items() if value is not None]
        if given or edge_index is not None or splits is not None:
            raise ConfigError(
                f"write_store: got data beside {', '.join(given) or 'edge_index or splits'}. Pass "
                "one or the other."
            )
        tables, edge_index, of_edges, splits, num_nodes = of_data(data)
    if edge_index is None:
        raise ConfigError("write_store: edge_index is missing. Pass it, or a Data with one.")
    contents = contents_of(tables, edge_index, of_edges, splits, num_nodes, num_edges, about)
    chunk = min(_CHUNK, budget // 8)
    contents = checked(contents, chunk, allow_nonfinite, quiet)
    with building(path, _needed(contents, align, budget)) as folder:
        layout = _Writer(folder, budget, chunk, align, allow_nonfinite, quiet).write(contents)
        finish(folder, path, layout)
    return open_store(path)


def _stride(one: Table, align: bool) -> int | None:
    """Bytes from row to row, None for those of a row."""
    size = one.row_bytes
    if not align or size == 0 or 4096 % size == 0:
        return None
    return -(-size // _SECTOR) * _SECTOR


def _needed(contents: Contents, align: bool, memory: int) -> int:
    """Bytes that the disk must have, as far as they are known."""
    total = 0
    for kind, of_type in contents.columns.items():
        for one in of_type.values():
            count = one.count if one.count is not None else contents.num_nodes[kind]
            total += span_of(count or 0, one.width, one.dtype, _stride(one, align))
    for relation in contents.relations:
        src, dst = (contents.num_nodes[end] or 0 for end in (relation.name[0], relation.name[2]))
        count = relation.ends.count or 0
        total += span_of(dst + 1, (), torch.int64, None)
        for dtype in (index_dtype(src), index_dtype(count)):
            total += span_of(count, (), dtype, None)
        # dealt out, and once more where a part is too large
        total += 2 * count * record_dtype(src, dst, index_dtype(count)).itemsize
        for one in relation.columns.values():
            total += span_of(one.count or count, one.width, one.dtype, _stride(one, align))
    return total


class _Writer:
    def __init__(
        self,
        folder: Path,
        memory: int,
        chunk: int,
        align: bool,
        allow_nonfinite: bool,
        quiet: bool,
    ) -> None:
        self.folder, self.memory, self.chunk = folder, memory, chunk
        self.align, self.allow_nonfinite, self.quiet = align, allow_nonfinite, quiet
        self.files: set[str] = set()

    def write(self, contents: Contents) -> Layout:
        nodes: dict[str, Nodes] = {}
        for kind, of_type in contents.columns.items():
            prefix = (kind,) if contents.is_hetero else ()
            arrays = {name: self._table(one, *prefix, name) for name, one in of_type.items()}
            count = contents.num_nodes[kind]
            for name, array in arrays.items():
                count = array.shape[0] if count is None else count
                if array.shape[0] != count:
                    raise DataError(
                        f"{of_type[name].label} has {array.shape[0]} rows, but there are {count} "
                        "nodes. It needs one for each."
                    )
            nodes[kind] = Nodes(count or 0, arrays)
        edges = tuple(self._edges(one, nodes, contents.is_hetero) for one in contents.relations)
        counts = {kind: of_type.count for kind, of_type in nodes.items()}
        splits = {
            name: {
                part: {
                    kind: self._split(f"splits[{name!r}][{part!r}]", ids, kind, counts, name, part)
                    for kind, ids in of_types.items()
                }
                for part, of_types in parts.items()
            }
            for name, parts in contents.splits.items()
        }
        writer = f"graphkit {_version()}"
        return Layout(writer, BLOCK, contents.is_hetero, nodes, edges, splits, contents.about)

    def _edges(self, one: Relation, nodes: Mapping[str, Nodes], is_hetero: bool) -> Edges:
        prefix = one.name if is_hetero else ()
        names = [self._name(*prefix, name) for name in ("indptr", "indices", "eid")]
        src, dst = nodes[one.name[0]].count, nodes[one.name[2]].count
        topology = TopologyWriter(
            self.folder, cast(Any, tuple(names)), src, dst, self.memory, one.ends.count
        )
        label, total = one.ends.label, 2 * one.ends.count if one.ends.count else None
        # an edge takes more once it is sorted than it does here
        step = min(self.chunk, self.memory // 16)
        with meter(f"writing {label}", self.quiet, "edges read, then sorted") as show:
            count, *arrays = topology.write(
                label, one.ends.chunks(step), lambda done: show(done, total)
            )
        indptr, indices, eid = cast(Any, arrays)
        columns = {name: self._table(c, *prefix, name) for name, c in one.columns.items()}
        for name, array in columns.items():
            if array.shape[0] != count:
                raise DataError(
                    f"{one.columns[name].label} has {array.shape[0]} rows, but there are {count} "
                    "edges. It needs one for each."
                )
        return Edges(*one.name, count, indptr, indices, eid, columns)

    def _table(self, one: Table, *name: str) -> Array:
        stride = _stride(one, self.align)
        writer = ArrayWriter(self.folder, self._name(*name), one.dtype, one.width, stride)
        checked = is_feature(one) and not one.again and not self.allow_nonfinite
        with meter(f"writing {one.label}", self.quiet, "rows") as show:
            for rows in one.chunks(self.chunk):
                if checked:
                    check_finite(one.label, rows, writer.rows)
                writer.write(rows)
                show(writer.rows, one.count)
        return writer.close()

    def _split(
        self, label: str, ids: Tensor, kind: str, counts: Mapping[str, int], *name: str
    ) -> Array:
        check_part(label, kind, ids, counts)
        if ids.dtype == torch.bool:
            ids = ids.nonzero().flatten()
        prefix = (kind,) if kind != ONE_TYPE else ()
        writer = ArrayWriter(self.folder, self._name("split", *name, *prefix), torch.int64)
        writer.write(ids)
        return writer.close()

    def _name(self, *parts: str) -> str:
        """A file's name, which any system takes, from what it holds."""
        stem = ".".join(re.sub(r"[^A-Za-z0-9_-]+", "_", part)[:40] for part in parts)
        name, number = f"{stem}.bin", 2
        while name.lower() in self.files:
            name, number = f"{stem}.{number}.bin", number + 1
        self.files.add(name.lower())
        return name


def _version() -> str:
    try:
        return version("graphkit")
    except PackageNotFoundError:
        return "unknown"
