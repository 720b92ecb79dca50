"""Planetoid, geom-gcn and digits. (opt: sklearn)

Readers take the verified bytes of a set's files and return named tensors, equal to those of PyG's
class of the set. Nothing here touches the disk.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..raw import Raw, unpickle

# 5, 8, 10 and 15 were compared over ten seeds: a two-layer GCN is best and steadiest at 5
DIGITS_NEIGHBOURS = 5

PLANETOID_NUM_VAL = 500


def _dense(value: Any) -> np.ndarray:
    """A float32 matrix from an array, or from what :func:`unpickle` makes of a csr matrix."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float32)
    out = np.zeros(value._shape, dtype=np.float32)
    src = np.repeat(np.arange(len(out)), np.diff(value.indptr))
    np.add.at(out, (src, value.indices), value.data)
    return out


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))


def read_planetoid(files: Mapping[str, bytes]) -> Raw:
    """Cora, CiteSeer: the eight ``ind.<name>.*`` files, with the public split.

    Test nodes without a row in ``tx`` (15 in CiteSeer) get zero features and label 0, as in PyG.
    Edges are without self-loops and duplicates, ordered by target, then source.
    """
    part = {name.split(".", 2)[2]: (data, name) for name, data in files.items()}
    test_id = np.array(part["test.index"][0].split(), dtype="S").astype(np.int64)
    tx, allx, ty, ally, y = (
        _dense(unpickle(*part[key])) for key in ("tx", "allx", "ty", "ally", "y")
    )
    known_id = np.sort(test_id)
    first = known_id[0]

    def all_rows(head: np.ndarray, tail: np.ndarray) -> np.ndarray:
        padded = np.zeros((known_id[-1] - first + 1, tail.shape[1]), dtype=tail.dtype)
        padded[known_id - first] = tail
        out = np.concatenate([head, padded])
        out[test_id] = out[known_id]
        return out

    x, label = all_rows(allx, tx), all_rows(ally, ty).argmax(axis=1)
    graph = unpickle(*part["graph"])
    edges = np.array([(src, dst) for src in graph for dst in graph[src]], dtype=np.int64)
    edges = edges[edges[:, 0] != edges[:, 1]]
    edge_index = np.unique(edges[:, ::-1], axis=0)[:, ::-1].T
    node = np.arange(len(x))
    return Raw(
        {
            "x": _tensor(x),
            "y": _tensor(label),
            "edge_index": _tensor(edge_index),
            "train_mask": _tensor(node < len(y)),
            "val_mask": _tensor((node >= len(y)) & (node < len(y) + PLANETOID_NUM_VAL)),
            "test_mask": _tensor(np.isin(node, test_id)),
        }
    )


def _rows(data: bytes) -> list[list[str]]:
    """The tab-separated cells of a geom-gcn table, without its header line."""
    return [line.split("\t") for line in data.decode("ascii").splitlines()[1:]]


def _geom_gcn(files: Mapping[str, bytes], features: Callable[[list[str]], np.ndarray]) -> Raw:
    node, feature, label = zip(*_rows(files["out1_node_feature_label.txt"]), strict=True)
    order = np.argsort(np.array(node, dtype=np.int64))
    edges = np.array(_rows(files["out1_graph_edges.txt"]), dtype=np.int64)
    return Raw(
        {
            "x": _tensor(features(list(feature))[order]),
            "y": _tensor(np.array(label, dtype=np.int64)[order]),
            "edge_index": _tensor(np.unique(edges, axis=0).T),
        }
    )


def read_geom_gcn(files: Mapping[str, bytes]) -> Raw:
    """Texas, Wisconsin, Chameleon: directed edges ordered by source, then target, no duplicates."""

    def dense(cells: list[str]) -> np.ndarray:
        values = np.fromstring(",".join(cells), dtype=np.float32, sep=",")
        return values.reshape(len(cells), -1)

    return _geom_gcn(files, dense)


def read_geom_gcn_sparse(files: Mapping[str, bytes]) -> Raw:
    """Actor ("film" upstream): as :func:`read_geom_gcn`, features given as columns set to 1."""

    def one_hot(cells: list[str]) -> np.ndarray:
        column = [np.array(cell.split(","), dtype=np.int64) for cell in cells]
        out = np.zeros((len(cells), max(c.max() for c in column) + 1), dtype=np.float32)
        for row, c in zip(out, column, strict=True):
            row[c] = 1.0
        return out

    return _geom_gcn(files, one_hot)


def read_digits(files: Mapping[str, bytes]) -> Raw:
    """scikit-learn's 1,797 handwritten digits as a symmetrised nearest-neighbour graph; no files.

    Neighbours by Euclidean distance of the pixels, equal distances by lower node number; edges are
    ordered by source, then target. Pixels 0..16 are scaled to [0, 1].
    """
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    pixel = np.asarray(digits.data, dtype=np.float64)
    # pixels are integers, so these squared distances are exact and ties are real ties: a
    # neighbour search that breaks them by thread or chunk would give another graph per machine
    square = (pixel**2).sum(axis=1)
    distance = square[:, None] + square[None, :] - 2.0 * (pixel @ pixel.T)
    np.fill_diagonal(distance, np.inf)
    node = np.arange(len(pixel))
    rank = distance * len(pixel) + node
    near = np.argpartition(rank, DIGITS_NEIGHBOURS, axis=1)[:, :DIGITS_NEIGHBOURS]
    src, dst = np.repeat(node, DIGITS_NEIGHBOURS), near.reshape(-1)
    edges = np.stack([np.concatenate([src, dst]), np.concatenate([dst, src])], axis=1)
    return Raw(
        {
            "x": _tensor((pixel / 16.0).astype(np.float32)),
            "y": _tensor(np.asarray(digits.target, dtype=np.int64)),
            "edge_index": _tensor(np.unique(edges, axis=0).T),
        }
    )


def read_masks(files: Iterable[tuple[str, bytes]]) -> dict[str, Tensor]:
    """Train, validation and test masks bool [N, S] from S geom-gcn ``npz`` files, in that order."""
    columns: dict[str, list[np.ndarray]] = {"train_mask": [], "val_mask": [], "test_mask": []}
    for name, data in files:
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                for key, column in columns.items():
                    column.append(arrays[key].astype(bool))
        # a broken zip, a missing key or a pickled array each raise their own type
        except Exception as error:
            raise DataError(
                f"{name}: not an npz of train_mask, val_mask and test_mask ({error}). "
                "Fetch the file again."
            ) from error
    return {key: _tensor(np.stack(column, axis=1)) for key, column in columns.items()}
