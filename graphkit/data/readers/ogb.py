"""OGB's raw tables of nodes, graphs and links, never its processed files. (opt: pandas)

The readers return what ogb's own PyG classes return, order and dtype of every tensor included, but
for the labels: one class per node or graph is int64 [N], -1 where there is none, as everywhere in
graphkit. Several labels are [N, T] as in OGB: int64, or float32 with NaN where one is missing.
Numbers to predict are float32 [N, T].

Files are named as below OGB's folder of a set. Every table ``raw/node_*.csv.gz`` or
``raw/edge_*.csv.gz`` becomes a tensor of its name [N, K] or [E, K]. The split is that of the folder
``split/*``. Without a known sha256 too, a link split is read through
:func:`graphkit.data.raw.unpickle_torch`, which can run nothing.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..raw import Raw, unpickle_torch

PARTS = (("train", "train"), ("val", "valid"), ("test", "test"))
_LINK_NODES = ("edge", "edge_neg", "source_node", "target_node", "target_node_neg")


def read_ogb_node(files: Mapping[str, bytes], *, inverse_edges: bool = False) -> Raw:
    """One graph with labelled nodes: ogbn-arxiv, ogbn-products, ogbn-proteins.

    x float32 or int64 [N, F], edge_index int64 [2, E], edge_attr [E, K], y, and the masks bool [N].
    ``inverse_edges`` puts after every edge of the file the same one in the other direction, as
    OGB does for its undirected graphs.
    """
    tensors, num_nodes = _one_graph(files, inverse_edges)
    tensors["y"] = labels(table(files, "raw/node-label.csv.gz", num_nodes), "raw/node-label.csv.gz")
    return Raw({**tensors, **masks(files, num_nodes)}, {"num_nodes": num_nodes})


def read_ogb_graph(
    files: Mapping[str, bytes], *, inverse_edges: bool = False, regression: bool = False
) -> Raw:
    """Many labelled graphs: ogbg-mol*, ogbg-ppa. Atoms and bonds stay int64 categories."""
    tensors = _graphs(files, inverse_edges)
    num_graphs = len(tensors["node_ptr"]) - 1
    name = "raw/graph-label.csv.gz"
    y = table(files, name, num_graphs)
    tensors["y"] = torch.from_numpy(y.astype(np.float32)) if regression else labels(y, name)
    return Raw({**tensors, **masks(files, num_graphs)})


def read_ogb_link(files: Mapping[str, bytes], *, inverse_edges: bool = False) -> Raw:
    """The graph to pass messages on, and positive and negative edges of each part: ogbl-*.

    ``split_edge/PART/NAME`` with OGB's names: edge and edge_neg int64 [n, 2], weight and year [n],
    or source_node and target_node int64 [n], and target_node_neg int64 [n, 1000].
    """
    tensors, num_nodes = _one_graph(files, inverse_edges)
    for _, part in PARTS:
        name = split_file(files, f"{part}.pt")
        for key, value in _link_part(files[name], name, num_nodes).items():
            tensors[f"split_edge/{part}/{key}"] = value
    return Raw(tensors, {"num_nodes": num_nodes})


def table(
    files: Mapping[str, bytes], name: str, rows: int | None = None, width: int | None = None
) -> np.ndarray:
    """The numbers of a packed csv, int64 [rows, width], or float64 where one is no whole number.

    Raises:
        DataError: another shape, text, or a damaged file.
    """
    values = _frame(files, name, header=None).to_numpy()
    if values.dtype.kind not in "iuf":
        raise DataError(f"{name}: a table of numbers is expected, got text. Fetch the file again.")
    want = (len(values) if rows is None else rows, width or values.shape[1])
    if values.shape != want:
        raise DataError(
            f"{name}: {want[0]} rows of {want[1]} numbers are expected, got {values.shape[0]} of "
            f"{values.shape[1]}. It is damaged, or belongs to another set: fetch it again."
        )
    # pandas' own array is read-only, and lies by columns
    return np.array(values, np.float64 if values.dtype.kind == "f" else np.int64, order="C")


def numbers(
    files: Mapping[str, bytes], name: str, rows: int | None = None, width: int = 1
) -> np.ndarray:
    """As :func:`table`, but int64 in any case: node numbers and sizes."""
    values = table(files, name, rows, width)
    if values.dtype != np.int64:
        raise DataError(
            f"{name}: whole numbers are expected, got a fraction or a row that is too short. Fetch "
            "the file again."
        )
    return values


def features(files: Mapping[str, bytes], name: str, rows: int, repeat: int = 1) -> Tensor:
    """A table of features, int64 or float32 as in OGB, every row ``repeat`` times."""
    values = table(files, name, rows)
    if values.dtype != np.int64:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError(
                f"{name}: a value is NaN or infinite, or the end of a row is missing. Fetch the "
                "file again."
            )
    return torch.from_numpy(values if repeat == 1 else np.repeat(values, repeat, axis=0))


def labels(values: np.ndarray, name: str) -> Tensor:
    """Class numbers int64 [N] with -1 for NaN, or [N, T]; see the head of this file."""
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, dtype=bool)
    known = np.where(missing, -1, values)
    with np.errstate(invalid="ignore"):
        whole = known.astype(np.int64)
    if (whole != known).any() or (whole < 0)[~missing].any():
        raise DataError(f"{name}: classes count from 0, got another number. Fetch the file again.")
    if values.shape[1] == 1:
        return torch.from_numpy(whole[:, 0].copy())
    return torch.from_numpy(values.astype(np.float32) if missing.any() else whole)


def masks(
    files: Mapping[str, bytes], count: int, folder: str = "", kind: str = ""
) -> dict[str, Tensor]:
    """train_mask, val_mask, test_mask bool [count] from lists of numbers, below ``folder``."""
    out: dict[str, Tensor] = {}
    for part, stem in PARTS:
        name = split_file(files, f"{folder}{stem}.csv.gz")
        chosen = numbers(files, name)[:, 0]
        check_range(chosen, count, name)
        mask = torch.zeros(count, dtype=torch.bool)
        mask[torch.from_numpy(chosen)] = True
        out[f"{part}_mask{kind}"] = mask
    return out


def split_file(files: Mapping[str, bytes], name: str) -> str:
    """The one file ``split/*/name``."""
    found = [file for file in files if re.fullmatch(rf"split/[^/]+/{re.escape(name)}", file)]
    if len(found) != 1:
        raise DataError(
            f"one file split/*/{name} is expected, got {len(found)}. Correct the card's files."
        )
    return found[0]


def check_range(node_id: np.ndarray, limit: int | np.ndarray, name: str) -> None:
    """Raise :class:`DataError` unless every number lies in 0 .. limit - 1."""
    wrong = (node_id < 0) | (node_id >= limit)
    if wrong.any():
        raise DataError(
            f"{name}: number {node_id[wrong][0]} lies outside of its graph or set of graphs. It is "
            "damaged, or belongs to another set: fetch it again."
        )


def _frame(files: Mapping[str, bytes], name: str, **options: Any) -> Any:
    import pandas

    if name not in files:
        raise DataError(f"{name} is not among the files of the set. Add it to the card.")
    packed = files[name]
    try:
        return pandas.read_csv(io.BytesIO(packed), compression="gzip", **options)
    # pandas' own errors are ValueErrors
    except (ValueError, OverflowError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{name}: not a gzip of comma-separated rows ({error}). Fetch the file again."
        ) from error


def named_columns(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """The value below each name of a table of two lines."""
    frame = _frame(files, name)
    if len(frame) != 1:
        raise DataError(f"{name}: a line of names and one of values are expected. Fetch it again.")
    return {str(key): frame[key].tolist()[0] for key in frame}


def text_rows(files: Mapping[str, bytes], name: str, width: int) -> list[tuple[str, ...]]:
    """The rows of a table of names, sorted."""
    frame = _frame(files, name, header=None, dtype=str, keep_default_na=False)
    if frame.shape[1] != width:
        raise DataError(f"{name}: {width} names in each row are expected. Fetch the file again.")
    return sorted(frame.itertuples(index=False, name=None))


def with_inverse(edge: np.ndarray) -> np.ndarray:
    """Edges [2, 2 E]: each one of [2, E], and after it the same from target to source."""
    out = np.empty((2, 2 * edge.shape[1]), dtype=edge.dtype)
    out[:, ::2], out[:, 1::2] = edge, edge[::-1]
    return out


def _graphs(files: Mapping[str, bytes], inverse_edges: bool) -> dict[str, Tensor]:
    """The tensors of all graphs end to end, with node_ptr and edge_ptr."""
    num_nodes, num_edges = (
        numbers(files, f"raw/num-{kind}-list.csv.gz")[:, 0] for kind in ("node", "edge")
    )
    name, repeat = "raw/edge.csv.gz", 2 if inverse_edges else 1
    if len(num_nodes) != len(num_edges) or min(num_nodes.min(), num_edges.min()) < 0:
        raise DataError(
            f"raw/num-node-list.csv.gz and raw/num-edge-list.csv.gz: {len(num_nodes)} and "
            f"{len(num_edges)} sizes, or one below 0. Fetch the files again."
        )
    edge = np.ascontiguousarray(numbers(files, name, int(num_edges.sum()), 2).T)
    check_range(edge, np.repeat(num_nodes, num_edges), name)
    tensors = {
        "node_ptr": _offsets(num_nodes),
        "edge_ptr": _offsets(num_edges * repeat),
        "edge_index": torch.from_numpy(with_inverse(edge) if inverse_edges else edge),
    }
    for file in files:
        at = re.fullmatch(r"raw/((node|edge)(-feat|_\w+))\.csv\.gz", file)
        if at:
            rows = (num_nodes if at[2] == "node" else num_edges).sum()
            key = {"node-feat": "x", "edge-feat": "edge_attr"}.get(at[1], at[1])
            tensors[key] = features(files, file, int(rows), repeat if at[2] == "edge" else 1)
    return tensors


def _one_graph(files: Mapping[str, bytes], inverse_edges: bool) -> tuple[dict[str, Tensor], int]:
    tensors = _graphs(files, inverse_edges)
    node_ptr, _ = tensors.pop("node_ptr"), tensors.pop("edge_ptr")
    if len(node_ptr) != 2:
        raise DataError(
            f"raw/num-node-list.csv.gz: one graph is expected, got {len(node_ptr) - 1}. The card "
            "names the wrong reader or files."
        )
    return tensors, int(node_ptr[1])


def _offsets(sizes: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)]))


def _link_part(data: bytes, name: str, num_nodes: int) -> dict[str, Tensor]:
    content = unpickle_torch(data, name)
    if not isinstance(content, dict):
        raise DataError(
            f"{name}: a dict of arrays is expected, got {type(content).__name__}. Fetch the file "
            "again."
        )
    for key, value in content.items():
        named = isinstance(key, str) and key.isidentifier()
        kinds = "i" if key in _LINK_NODES else "if"
        if not named or not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
            got = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise DataError(
                f"{name}: arrays of numbers by name are expected, got {got} under {key!r}. Fetch "
                "the file again."
            )
        if key in _LINK_NODES:
            check_range(value, num_nodes, f"{name}, {key}")
    return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in content.items()}
