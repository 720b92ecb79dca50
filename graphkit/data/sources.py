"""Raw files in chunks, as :func:`graphkit.data.write_store` takes them. (opt: pandas, pyarrow)"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, StoreError, need
from .arrays import NAMES
from .cards import card
from .chunked import Table, as_tensor, table
from .columns import find
from .graphs import MASKS
from .load import is_path, load, raw_files
from .raw import Files
from .readers.ogb import PARTS, labels, masks, numbers, split_file
from .readers.ogb import table as whole_table

_SUFFIXES = (".npy", ".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".txt", ".txt.gz")
_EDGES = "edge_index"
_FROM_FILES = ("ogb-node", "ogb-npz")


def stored_tables(name: str, root: str | None = None) -> dict[str, Any]:
    """The arguments of :func:`graphkit.data.write_store` for a data set, a folder or a file.

    Read in chunks: OGB's raw files of a set with labelled nodes; a folder with ``edge_index`` and
    further tables by PyG's names, each one file in npy, parquet, csv or tsv; a file of edges alone,
    one ``source,target`` a line; an npz of arrays. Whatever else :func:`graphkit.data.load` reads
    is read into memory first.

    Raises as :func:`graphkit.data.load`.
    """
    path = Path(name)
    if not is_path(name):
        return _of_card(name, root)
    if path.is_file() and path.suffix == ".npz":
        return _named({key: npz_table(key, path) for key in _members(path)}, str(path))
    if path.is_file() and _suffix(path) in _SUFFIXES:
        return {_EDGES: file_table(_EDGES, path)}
    if path.is_dir() and find(path, _EDGES, _SUFFIXES):
        found = {key: find(path, key, _SUFFIXES) for key in NAMES}
        return _named({key: file_table(key, at) for key, at in found.items() if at}, str(path))
    return {"data": load(name, root)}


def _of_card(name: str, root: str | None) -> dict[str, Any]:
    this = card(name)
    if this.reader not in _FROM_FILES:
        return {"data": load(name, root)}
    files = raw_files(this.name, root)
    about = {"name": this.name, "num_classes": this.counts.get("classes")}
    read = _ogb_tables if this.reader == "ogb-node" else _ogb_arrays
    return {**read(files, **this.options), "about": about}


def _named(tables: Mapping[str, Table], where: str) -> dict[str, Any]:
    """Tables by PyG's names, sorted by what they are."""
    if _EDGES not in tables:
        raise DataError(f"{where} has no {_EDGES}, only {', '.join(tables) or 'nothing'}. Add it.")
    parts = {key[:-5]: _whole(tables[key]).flatten() != 0 for key in MASKS if key in tables}
    rest = {key: one for key, one in tables.items() if key not in (*MASKS, _EDGES)}
    of_edges = {key: rest.pop(key) for key in tuple(rest) if key.startswith("edge_")}
    return {
        _EDGES: tables[_EDGES],
        "columns": rest,
        "edge_columns": of_edges,
        "splits": {"masks": parts} if parts else None,
    }


def _whole(one: Table) -> Tensor:
    return torch.cat(list(one.chunks(2**24)))


def _ogb_tables(files: Files, *, inverse_edges: bool = False) -> dict[str, Any]:
    """OGB's packed csv tables of one graph."""
    lists = (numbers(files, f"raw/num-{kind}-list.csv.gz", 1) for kind in ("node", "edge"))
    sizes = [int(one[0, 0]) for one in lists]
    repeat = 2 if inverse_edges else 1
    found: dict[str, Any] = {"columns": {}, "edge_columns": {}, "num_nodes": sizes[0]}
    for name in files:
        stem = name.removeprefix("raw/").removesuffix(".csv.gz")
        if not name.startswith(("raw/node", "raw/edge")) or stem == "node-label":
            continue
        path = files.path(name)
        if stem == "edge":
            ends = _csv(_EDGES, path, sizes[1], True)
            found[_EDGES] = _repeated(ends, _both_ways) if inverse_edges else ends
            continue
        key = {"node-feat": "x", "edge-feat": "edge_attr"}.get(stem, stem)
        of_edges = stem.startswith("edge")
        one = _csv(key, path, sizes[of_edges], False, floats=stem.endswith("-feat"))
        if of_edges and repeat == 2:
            one = _repeated(one, _twice)
        found["edge_columns" if of_edges else "columns"][key] = one
    name = "raw/node-label.csv.gz"
    found["columns"]["y"] = labels(whole_table(files, name, sizes[0]), name)
    return {**found, "splits": _ogb_split(files, sizes[0])}


def _ogb_arrays(files: Files) -> dict[str, Any]:
    """OGB's npz of a graph too large for tables."""
    path = files.path("raw/data.npz")
    known = set(_members(path))
    num_nodes = int(_whole(npz_table("num_nodes_list", path)).item())
    found: dict[str, Any] = {"columns": {}, "edge_columns": {}, "num_nodes": num_nodes}
    for key in sorted(known - {"num_nodes_list", "num_edges_list", _EDGES}):
        name = {"node_feat": "x", "edge_feat": "edge_attr"}.get(key, key)
        place = "edge_columns" if key.startswith("edge") else "columns"
        found[place][name] = npz_table(name, path, key)
    found[_EDGES] = npz_table(_EDGES, path)
    name = "raw/node-label.npz"
    y = _whole(npz_table("node_label", files.path(name))).numpy()
    found["columns"]["y"] = labels(y.reshape(num_nodes, -1), name)
    return {**found, "splits": _ogb_split(files, num_nodes)}


def _ogb_split(files: Files, num_nodes: int) -> dict[str, Any]:
    name = split_file(files, "train.csv.gz").split("/")[1]
    found = masks(files, num_nodes)
    return {name: {part: found[f"{part}_mask"] for part, _ in PARTS}}


def _repeated(one: Table, twice: Callable[[Tensor], Tensor]) -> Table:
    """Every edge twice, one after the other."""

    def read(step: int) -> Iterator[Tensor]:
        return map(twice, one.read(max(1, step // 2)))

    count = None if one.count is None else 2 * one.count
    return Table(one.label, one.dtype, count, one.width, one.again, read, one.axis)


def _both_ways(edges: Tensor) -> Tensor:
    return torch.stack([edges, edges.flip(0)], dim=2).reshape(2, -1)


def _twice(rows: Tensor) -> Tensor:
    return rows.repeat_interleave(2, 0)


def _suffix(path: Path) -> str:
    """The end of a file's name, with that of the packed one before it."""
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def file_table(key: str, path: Path) -> Table:
    """The table in one file: npy, parquet, csv or tsv; ``edge_index`` has one edge a line."""
    suffix, is_edges = _suffix(path), key == _EDGES
    if suffix == ".npy":
        return table(key, path, axis=1 if is_edges else 0)
    if suffix == ".parquet":
        return _parquet(key, path, is_edges)
    return _csv(key, path, None, is_edges, floats=key in ("x", "edge_attr", "edge_weight"))


def _csv(key: str, path: Path, count: int | None, is_edges: bool, floats: bool = False) -> Table:
    """A csv or tsv file of numbers; lines with # and one of names before the first are left out."""
    need("pandas")
    comma = "," if ".csv" in path.name else r"\s+"
    kind = np.float32 if floats else None

    def frames(step: int) -> Iterator[np.ndarray]:
        import pandas as pd

        try:
            head = pd.read_csv(path, sep=comma, header=None, comment="#", nrows=1, dtype=str)
            named = not all(map(_is_number, head.iloc[0]))
            with pd.read_csv(
                path, sep=comma, header=0 if named else None, comment="#", chunksize=step
            ) as reader:
                for frame in reader:
                    yield frame.to_numpy()
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
        # pandas' own errors are ValueErrors
        except (ValueError, OverflowError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path} is not a table of numbers ({error}). Write one row a line."
            ) from error

    def read(step: int) -> Iterator[Tensor]:
        rows = 0
        for values in frames(step):
            yield _numbers(path, rows, values, kind, is_edges)
            rows += len(values)

    first = next(read(1))
    axis = 1 if is_edges else 0
    width = (2,) if is_edges else tuple(first.shape[1:])
    return Table(key, first.dtype, count, width, True, read, axis)


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def _numbers(path: Path, row: int, values: np.ndarray, kind: Any, is_edges: bool) -> Tensor:
    """Rows of a table in the shape and dtype that a store keeps."""
    if values.dtype.kind not in "iufb":
        raise DataError(f"{path}, rows from {row} on: text among the numbers. Encode it.")
    if is_edges:
        if values.dtype.kind not in "iu" or values.shape[1] < 2:
            raise DataError(
                f"{path}, rows from {row} on: two whole numbers, source and target, are expected, "
                f"got {values.shape[1]} columns of {values.dtype}."
            )
        return as_tensor(str(path), values[:, :2].T.astype(np.int64))
    kind = kind or (np.int64 if values.dtype.kind in "iub" else np.float32)
    found = as_tensor(str(path), values.astype(kind))
    return found[:, 0] if found.dim() == 2 and found.size(1) == 1 else found


def _parquet(key: str, path: Path, is_edges: bool) -> Table:
    """A parquet file: a row's columns side by side, or one column of lists of one length."""
    need("pyarrow", "parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        count = pq.read_metadata(path).num_rows
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}.") from error
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a readable parquet file ({error}).") from error

    def read(step: int) -> Iterator[Tensor]:
        rows = 0
        try:
            for batch in pq.ParquetFile(path).iter_batches(step):
                columns = [_column(path, column) for column in batch.columns]
                values = columns[0] if len(columns) == 1 else np.column_stack(columns)
                values = values.reshape(len(batch), -1)
                kind = np.float32 if values.dtype.kind == "f" and values.itemsize > 2 else None
                kind = values.dtype if values.dtype == np.float16 else kind
                yield _numbers(path, rows, values, kind, is_edges)
                rows += len(batch)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} is damaged ({error}). Write it again.") from error

    first = next(read(1), None)
    if first is None:
        raise DataError(f"{path} has no rows. Write the file again.")
    width = (2,) if is_edges else tuple(first.shape[1:])
    return Table(key, first.dtype, count, width, True, read, 1 if is_edges else 0)


def _column(path: Path, column: Any) -> np.ndarray:
    import pyarrow as pa

    lists = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type)
    values = column.flatten() if lists else column
    if column.null_count or values.null_count:
        raise DataError(f"{path}: a value is missing. Fill it.")
    found = values.to_numpy(zero_copy_only=False)
    return found.reshape(len(column), -1) if lists else found


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is not an npz ({error}). Write it again.") from error


def npz_table(label: str, path: Path, key: str | None = None) -> Table:
    """The array ``key`` of an npz, unpacked as it is read: never more than a chunk of it."""
    member, axis = f"{key or label}.npy", 1 if label == _EDGES else 0
    with _opened(path, member) as (file, info):
        shape, columns_first, dtype = _header(path, member, file)
        is_packed = info.compress_type != zipfile.ZIP_STORED
    pairs = label == _EDGES and columns_first and len(shape) == 2
    if columns_first and len(shape) > 1 and not pairs:
        raise DataError(f"{path}, {member}: lies column by column. Write it with order='C'.")
    if len(shape) <= axis or dtype.hasobject or (axis and shape[0] != 2):
        raise DataError(f"{path}, {member}: {dtype} of shape {list(shape)}. Numbers are expected.")
    width = shape[:1] if pairs else shape[1 + axis :]
    row = int(np.prod(width, dtype=np.int64)) * dtype.itemsize

    def lane(number: int, step: int) -> Iterator[np.ndarray]:
        """One row of what comes in chunks, or all of it."""
        with _opened(path, member) as (file, _):
            _header(path, member, file)
            _skip(file, number * shape[axis] * row)
            for start in range(0, shape[axis], step):
                count = min(step, shape[axis] - start)
                data = file.read(count * row)
                if len(data) < count * row:
                    raise DataError(f"{path}, {member}: ends early. Fetch the file again.")
                yield np.frombuffer(data, dtype).reshape(count, *width)

    def read(step: int) -> Iterator[Any]:
        if pairs:
            return (chunk.T for chunk in lane(0, step))
        if not axis:
            return lane(0, step)
        # sources and targets lie one after the other
        return map(np.stack, zip(lane(0, step), lane(1, step), strict=True))

    def tensors(step: int) -> Iterator[Tensor]:
        return (as_tensor(label, chunk) for chunk in read(step))

    none = as_tensor(label, np.empty(0, dtype))
    whole = (*shape[:axis], *shape[axis + 1 :])
    # what is packed is unpacked once
    return Table(label, none.dtype, shape[axis], whole, not is_packed, tensors, axis)


@contextmanager
def _opened(path: Path, member: str) -> Iterator[tuple[Any, zipfile.ZipInfo]]:
    """A member of a zip file and what the file says of it."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file, archive.getinfo(member)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path}, {member}: not there or damaged ({error}).") from error


def _header(path: Path, member: str, file: Any) -> tuple[Any, bool, np.dtype]:
    try:
        read = {(1, 0): np.lib.format.read_array_header_1_0}
        read[2, 0] = np.lib.format.read_array_header_2_0
        return read[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}, {member}: not an array of numbers ({error}).") from error


def _skip(file: Any, count: int) -> None:
    while count > 0 and (data := file.read(min(count, 2**24))):
        count -= len(data)
