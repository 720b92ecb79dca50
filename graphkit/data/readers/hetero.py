"""Heterogeneous graphs in the layout of HeCo and MEOW: a target type and types around it.
(opt: scipy)
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..raw import Raw

_PARTS = ("train", "val", "test")


def read_star(files: Mapping[str, bytes], *, target: str, types: Mapping[str, str]) -> Raw:
    """ACM, Freebase, IMDB: ``labels.npy``, and ``AB.txt``, ``A_feat.npz`` by letters of types.

    ``types`` gives the letter of each node type; every type but ``target`` has edges with it, in
    ``AB.txt`` with the target's letter first. They become ``(target, "to", type)`` in the order of
    the file, and ``(type, "to", target)``, the same turned around. x float32 is as in the files,
    absent where there is none. y int64 of the target is shifted so that the lowest class is 0.

    The meta-path matrices beside these files are products of the edges, and the neighbour lists
    repeat them; neither is read.
    """
    label = _array(files, "labels.npy")
    if label.ndim != 1 or not len(label) or not (np.abs(label) < 2**31).all() or (label % 1).any():
        raise DataError(
            f"labels.npy: expected one whole number per {target}, got {label.dtype} of shape "
            f"{list(label.shape)}. Fetch the file again."
        )
    label = label.astype(np.int64)
    tensors = {f"y@{target}": torch.from_numpy(label - label.min())}
    count = {target: len(label)}
    for kind, letter in types.items():
        name = f"{letter}_feat.npz"
        if name in files:
            tensors[f"x@{kind}"] = _features(files[name], name)
            count[kind] = _agreed(name, len(tensors[f"x@{kind}"]), count.get(kind))
    for kind, letter in types.items():
        if kind == target:
            continue
        name = f"{types[target]}{letter}.txt"
        edge_index = _pairs(files[name], name)
        most = edge_index.max(dim=1).values + 1
        count.setdefault(kind, int(most[1]))
        if most[0] > count[target] or most[1] > count[kind]:
            raise DataError(
                f"{name}: numbers up to {(most - 1).tolist()}, but there are {count[target]} of "
                f"type {target} and {count[kind]} of type {kind}. Fetch the file again."
            )
        tensors[f"edge_index@{target}@to@{kind}"] = edge_index
        tensors[f"edge_index@{kind}@to@{target}"] = edge_index.flip(0)
    bare = {kind: number for kind, number in count.items() if f"x@{kind}" not in tensors}
    return Raw(tensors, {"num_nodes": bare})


def read_star_split(files: Mapping[str, bytes], raw: Raw, seed: int) -> dict[str, Tensor]:
    """Masks bool [N] of the target type from ``train_*.npy``, ``val_*.npy`` and ``test_*.npy``.

    The files hold node numbers; one that stands twice counts once. ``seed`` is without effect.
    """
    (target,) = (key.partition("@")[2] for key in raw.tensors if key.startswith("y@"))
    num_nodes = len(raw.tensors[f"y@{target}"])
    masks: dict[str, Tensor] = {}
    for part in _PARTS:
        (name,) = (name for name in files if name.startswith(f"{part}_"))
        chosen = _array(files, name)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not len(chosen):
            raise DataError(
                f"{name}: expected a list of node numbers, got {chosen.dtype} of shape "
                f"{list(chosen.shape)}. Fetch the file again."
            )
        if chosen.min() < 0 or chosen.max() >= num_nodes:
            raise DataError(
                f"{name}: node numbers must lie in 0 to {num_nodes - 1}, got {chosen.min()} to "
                f"{chosen.max()}. Fetch the file again."
            )
        mask = torch.zeros(num_nodes, dtype=torch.bool)
        mask[torch.from_numpy(chosen.astype(np.int64))] = True
        masks[f"{part}_mask@{target}"] = mask
    return masks


def _agreed(name: str, found: int, expected: int | None) -> int:
    if expected is not None and found != expected:
        raise DataError(
            f"{name}: {found} rows, but labels.npy has {expected}. Fetch the files again."
        )
    return found


def _array(files: Mapping[str, bytes], name: str) -> np.ndarray:
    try:
        found = np.load(io.BytesIO(files[name]), allow_pickle=False)
    # a truncated header, a pickled array and a zip each raise their own type
    except Exception as error:
        raise DataError(
            f"{name}: not a plain npy array ({error}). Fetch the file again."
        ) from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise DataError(f"{name}: not an array of numbers. Fetch the file again.")
    return found


def _features(data: bytes, name: str) -> Tensor:
    """Float32 [N, F] of a scipy npz."""
    from scipy.sparse import load_npz

    try:
        matrix: Any = load_npz(io.BytesIO(data)).tocsr()
        matrix.check_format(full_check=True)
        dense = matrix.astype(np.float32).toarray()
    # a broken zip, a missing key and impossible indices each raise their own type
    except Exception as error:
        raise DataError(
            f"{name}: not a sparse matrix of scipy ({error}). Fetch the file again."
        ) from error
    return torch.from_numpy(dense)


def _pairs(data: bytes, name: str) -> Tensor:
    """Edge_index int64 [2, E] of a table of two columns."""
    try:
        if not data.strip():
            raise ValueError("the file is empty")
        table = np.loadtxt(io.BytesIO(data), dtype=np.int64, ndmin=2, comments=None)
        if table.shape[1] != 2 or table.min() < 0:
            raise ValueError(f"{table.shape[1]} columns, lowest number {table.min()}")
    except ValueError as error:
        raise DataError(
            f"{name}: expected two columns of node numbers of 0 or more, but {error}. "
            "Fetch the file again."
        ) from error
    return torch.from_numpy(np.ascontiguousarray(table.T))
