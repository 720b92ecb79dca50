"""A user's graph as arrays: an npz, or a folder of npy and csv files called like PyG's tensors."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, nearest
from .columns import Csv, content, find
from .graphs import MASKS
from .readers.pairs import single
from .targets import Targets, from_array, from_texts, unlabelled

NAMES = ("x", "edge_index", "y", *MASKS, "edge_weight", "edge_attr")
_SUFFIXES = (".npy", ".csv")
_LABELS = ("y", *MASKS)
# the names of Platonov et al., whose edges and masks lie the other way round
_OTHER = {
    **{"node_features": "x", "node_labels": "y", "edges": "edge_index"},
    **{f"{mask}s": mask for mask in MASKS},
}
_TURNED = ("edges", *(f"{mask}s" for mask in MASKS))


def read_npz(path: Path, labelled: bool | None = True) -> dict[str, Any]:
    """What a Data is made of, by PyG's names, from an npz with those of :data:`NAMES`.

    Or with node_features, node_labels, edges [E, 2] and train_masks [S, N], ...; x, edge_index and,
    if the data must be ``labelled``, y are needed, of the masks all or none. ``labelled`` None
    leaves y and the masks unread.

    Raises:
        StoreError: the file cannot be read.
        DataError: it is damaged or pickled, or an array is missing, unknown or of a wrong kind.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, value in _open_npz(path).items():
        if labelled is None and _OTHER.get(name, name) in _LABELS:
            continue
        if name not in NAMES and name not in _OTHER:
            raise DataError(f"{path} has an array {name!r}. {nearest(name, [*NAMES, *_OTHER])}")
        kept = _OTHER.get(name, name)
        if kept in arrays:
            raise DataError(f"{path} has {name!r} beside {kept!r}. Leave one of them out.")
        arrays[kept] = value.T if name in _TURNED else value
    where = {name: f"{path}, array {name!r}" for name in NAMES}
    _need_arrays(arrays, str(path), labelled)
    y = arrays.get("y")
    targets = None if y is None else from_array(y, None, where["y"], bool(labelled))
    return _parts(arrays, targets, where)


def is_arrays(folder: Path) -> bool:
    """Does the folder hold the file of an array?"""
    return any(find(folder, name, _SUFFIXES) for name in NAMES)


def read_arrays(folder: Path, task: str | None, labelled: bool | None = True) -> dict[str, Any]:
    """As :func:`read_npz`, from one file for each array: ``x.npy`` or ``x.csv``, and so on.

    A csv file has no header and one line for each node or edge, so that edge_index.csv holds
    ``source,target``; an empty line of y.csv is a label that is not known. ``task`` says what y is,
    where its content does not.
    """
    names = NAMES if labelled is not None else [name for name in NAMES if name not in _LABELS]
    found = {name: path for name in names if (path := find(folder, name, _SUFFIXES))}
    tables = {
        name: Csv(path, header=False, blanks=name == "y")
        for name, path in found.items()
        if path.suffix != ".npy"
    }
    arrays = {name: open_npy(path) for name, path in found.items() if name not in tables}
    for name, table in tables.items():
        if name != "y":
            arrays[name] = _squeezed(name, table.read([], table.names)[1])
    _need_arrays(found, str(folder), labelled)
    targets = None
    if "y" in tables:
        targets = _targets(tables["y"], task, bool(labelled), len(arrays["x"]))
    elif "y" in found:
        targets = from_array(arrays["y"], task, str(found["y"]), bool(labelled))
    return _parts(arrays, targets, {name: str(path) for name, path in found.items()})


def _open_npz(path: Path) -> dict[str, np.ndarray]:
    data = content(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    # a broken zip, a bare array and a pickled one each raise their own type
    except Exception as error:
        raise _unreadable(path, "npz", error) from error


def open_npy(path: Path) -> np.ndarray:
    """The array of an npy file.

    Raises:
        StoreError: the file cannot be read.
        DataError: it is damaged or pickled.
    """
    data = content(path)
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:
        raise _unreadable(path, "npy", error) from error


def _unreadable(path: Path, kind: str, error: Exception) -> DataError:
    return DataError(
        f"{path} is not a {kind} file of plain arrays ({error}). Pickled objects are never read: "
        "write arrays of numbers or fixed-width texts again."
    )


def _squeezed(name: str, values: np.ndarray) -> np.ndarray:
    """Numbers of a csv file in the shape that PyG gives them."""
    if name == "edge_index":
        whole = bool((np.isfinite(values) & (values == np.trunc(values))).all())
        return values.T.astype(np.int64) if whole else values.T
    return values[:, 0] if name != "x" and values.shape[1] == 1 else values


def _targets(text: Csv, task: str | None, labelled: bool, num_nodes: int) -> Targets:
    """What the columns of a csv file without a header say of the nodes."""
    texts, _ = text.read(text.names, [])
    stacked = np.stack([texts[name] for name in text.names], axis=1)
    # an editor may have left empty lines behind the last node
    if not np.any(stacked[num_nodes:]):
        stacked = stacked[:num_nodes]

    def at(row: int, column: int) -> str:
        return f"{text.path}, {text.place(row)}, column {column}"

    return from_texts(stacked, task, at, labelled)


def _need_arrays(here: Iterable[str], home: str, labelled: bool | None) -> None:
    """Raise :class:`DataError` for a missing array that the others have no meaning without."""
    here = sorted(here)
    needed = ["x", "edge_index", *(["y"] if labelled else [])]
    for name in needed:
        if name not in here:
            raise DataError(
                f"{home} has no {name}, only {', '.join(here) or 'nothing'}. Add it: "
                f"{', '.join(needed[:-1])} and {needed[-1]} are needed."
            )
    masks = [name for name in MASKS if name in here]
    if masks and len(masks) < len(MASKS):
        raise DataError(
            f"{home} has {masks[0]}, but not all of {', '.join(MASKS)}. Give all of them, or none "
            "for a random split."
        )


def _parts(
    arrays: Mapping[str, np.ndarray], targets: Targets | None, where: Mapping[str, str]
) -> dict[str, Any]:
    """Tensors of the dtypes that are wanted; shapes that concern nodes are left to the check."""
    x = _floats(arrays["x"], where["x"])
    targets = targets or unlabelled(len(x))
    parts: dict[str, Any] = {"x": x, "y": targets.y}
    parts["edge_index"] = _edges(arrays["edge_index"], where["edge_index"])
    for name in ("edge_weight", "edge_attr"):
        if name in arrays:
            parts[name] = _of_edges(arrays[name], parts["edge_index"], where[name])
    parts |= {name: _mask(arrays[name], where[name]) for name in MASKS if name in arrays}
    return parts if targets.class_names is None else parts | {"class_names": targets.class_names}


def _floats(array: np.ndarray, where: str) -> Tensor:
    if array.dtype.kind not in "iubf":
        raise DataError(f"{where} is {array.dtype}, but numbers are expected. Encode them.")
    return torch.from_numpy(np.ascontiguousarray(single(array)))


def _edges(array: np.ndarray, where: str) -> Tensor:
    if array.dtype.kind not in "iu":
        raise DataError(
            f"{where} is {array.dtype}, but whole numbers are expected: the rows of x, from 0. "
            "Number the nodes."
        )
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))


def _of_edges(array: np.ndarray, edge_index: Tensor, where: str) -> Tensor:
    values = _floats(array, where)
    if values.dim() not in (1, 2) or len(values) != edge_index.size(-1):
        raise DataError(
            f"{where} has shape {list(values.shape)}, but one row for each of the "
            f"{edge_index.size(-1)} edges is expected. Give every edge one."
        )
    return values


def _mask(array: np.ndarray, where: str) -> Tensor:
    if array.dtype.kind not in "iubf" or not np.isin(array, (0, 1)).all():
        raise DataError(
            f"{where} must hold True and False, or 1 and 0, one for each node. Node numbers need "
            "torch_geometric.utils.index_to_mask."
        )
    return torch.from_numpy(np.ascontiguousarray(array, dtype=bool))
