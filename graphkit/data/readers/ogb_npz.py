"""OGB's raw arrays of a graph too large for tables: ogbn-papers100M."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch

from ...errors import DataError
from ..raw import Files, Raw
from .ogb import check_range, labels, masks

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# of a member of a zip file, in bytes, without its name and extra field
_LOCAL_HEADER = 30


def read_ogb_npz(files: Files) -> Raw:
    """One graph with labelled nodes from ``raw/data.npz`` and ``raw/node-label.npz``.

    x float32 [N, F], edge_index int64 [2, E], node_year [N, 1], y int64 [N] with -1 where there is
    no label (OGB: float32 [N, 1] with NaN), masks bool [N]. Arrays that the npz keeps unpacked are
    mapped from the disk, not read: the tensors are a private view, and writing to them leaves the
    file as it is.
    """
    name = "raw/data.npz"
    arrays = _npz(files.path(name), name)
    sizes = [arrays.pop(key, np.empty(0)) for key in ("num_nodes_list", "num_edges_list")]
    edge = arrays.pop("edge_index", np.empty(0))
    if any(size.shape != (1,) or size.dtype.kind != "i" for size in sizes):
        raise DataError(
            f"{name}: num_nodes_list and num_edges_list of one graph are expected. Fetch it again."
        )
    num_nodes, num_edges = (int(size[0]) for size in sizes)
    if edge.shape != (2, num_edges) or edge.dtype.kind != "i":
        raise DataError(
            f"{name}: edge_index must be integers of shape [2, {num_edges}], got {edge.dtype} of "
            f"{list(edge.shape)}. Fetch the file again."
        )
    for row in edge:
        check_range(row, num_nodes, f"{name}, edge_index")
    tensors = {"edge_index": torch.from_numpy(edge.astype(np.int64, copy=False))}
    for key, value in arrays.items():
        _check_rows(value, {"node": num_nodes, "edge": num_edges}, f"{name}, {key}")
        kind = np.int64 if value.dtype.kind == "i" else np.float32
        as_pyg = {"node_feat": "x", "edge_feat": "edge_attr"}.get(key, key)
        tensors[as_pyg] = torch.from_numpy(value.astype(kind, copy=False))
    name = "raw/node-label.npz"
    label = _npz(files.path(name), name).get("node_label", np.empty(0))
    _check_rows(label, {"node": num_nodes, "edge": num_edges}, f"{name}, node_label")
    tensors["y"] = labels(label.reshape(num_nodes, -1), name)
    return Raw({**tensors, **masks(files, num_nodes)}, {"num_nodes": num_nodes})


def _check_rows(value: np.ndarray, rows: dict[str, int], where: str) -> None:
    kind = where.split(", ")[1].partition("_")[0]
    if kind not in rows or value.dtype.kind not in "if" or value.shape[:1] != (rows[kind],):
        raise DataError(
            f"{where}: numbers of nodes [{rows['node']}, ...] or of edges [{rows['edge']}, ...] "
            f"are expected, got {value.dtype} of {list(value.shape)}. Fetch the file again."
        )


def _npz(path: Path, name: str) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                member.filename.removesuffix(".npy"): _array(archive, member, path)
                for member in archive.infolist()
            }
    # a broken zip, a damaged header or a pickled array each raise their own type
    except Exception as error:
        raise DataError(f"{name}: not an npz of numbers ({error}). Fetch it again.") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """An array of an npz, mapped from the disk where it is not packed."""
    with archive.open(member) as file:
        shape, columns_first, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        if member.compress_type != zipfile.ZIP_STORED or dtype.hasobject or 0 in shape:
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
        start = file.tell()
    with path.open("rb") as whole:
        whole.seek(member.header_offset)
        header = whole.read(_LOCAL_HEADER)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    offset = member.header_offset + _LOCAL_HEADER + lengths + start
    order = "F" if columns_first else "C"
    # "c": torch wants memory it may write to, and the file must stay as it is
    return np.memmap(path, dtype, mode="c", offset=offset, shape=shape, order=order)
