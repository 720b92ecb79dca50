"""Graphs in numpy's npz archives: as pairs of nodes, and as CSR matrices. (opt: scipy)"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import DataError
from ..raw import Raw
from .pairs import AGAIN, both_ways, check_pairs, single, sized, tensor, whole

_PARTS = ("train", "val", "test")
_PAIRS = ("node_features", "node_labels", "edges", *(f"{part}_masks" for part in _PARTS))
_CSR = ("data", "indices", "indptr", "shape")


def read_pairs_npz(files: Mapping[str, bytes], directed: bool = False) -> Raw:
    """Heterophilous graphs of Platonov et al.: features, labels, edges [E, 2], masks [S, N].

    As in PyG's HeterophilousGraphDataset every edge goes both ways, ordered by source, then target;
    with ``directed`` the edges are those of the file in its order.
    """
    name, part = _arrays(files, _PAIRS)
    x = sized(name, "node_features", part["node_features"], (None, None))
    if x.dtype.kind not in "fiub":
        raise DataError(f"{name}: node_features must be numbers, got {x.dtype}. {AGAIN}")
    num_nodes = len(x)
    y = whole(name, "node_labels", part["node_labels"], (num_nodes,))
    pairs = whole(name, "edges", part["edges"], (None, 2)).T
    check_pairs(name, pairs, num_nodes)
    masks = {}
    for each in _PARTS:
        mask = sized(name, f"{each}_masks", part[f"{each}_masks"], (None, num_nodes))
        masks[f"{each}_mask"] = tensor(mask.astype(bool).T)
    edge_index = pairs if directed else both_ways(pairs, num_nodes)
    return Raw(
        {
            "x": tensor(single(x)),
            "y": tensor(y),
            "edge_index": tensor(edge_index),
            **masks,
        }
    )


def read_csr_npz(
    files: Mapping[str, bytes], undirected: bool = True, self_loops: bool = False
) -> Raw:
    """Amazon, Coauthor, CitationFull: CSR adjacency ``adj_*``, features ``attr_*``, ``labels``.

    As in PyG: positive features become 1, self-loops are dropped, and every edge goes both ways,
    ordered by source, then target. Without ``undirected`` the edges keep the order of the file;
    ``self_loops`` keeps those. x is absent where the file has no ``attr_*``.
    """
    wanted = [f"{kind}_{key}" for kind in ("adj", "attr") for key in _CSR]
    name, part = _arrays(files, ("labels", *wanted[:4]), tuple(wanted[4:]))
    y = whole(name, "labels", part["labels"], (None,))
    adjacency = _csr(name, part, "adj", len(y))
    if adjacency.shape[1] != len(y):
        raise DataError(
            f"{name}: adj_shape is {list(adjacency.shape)}, but there are {len(y)} labels. {AGAIN}"
        )
    edges = adjacency.tocoo()
    pairs = np.stack([edges.row, edges.col]).astype(np.int64)
    if not self_loops:
        pairs = pairs[:, pairs[0] != pairs[1]]
    if undirected:
        pairs = both_ways(pairs, len(y))
    tensors = {"y": tensor(y), "edge_index": tensor(pairs)}
    if any(key in part for key in wanted[4:]):
        tensors["x"] = tensor(_ones(name, part, len(y)))
    return Raw(tensors, {"num_nodes": len(y)})


def _arrays(
    files: Mapping[str, bytes], required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[str, dict[str, np.ndarray]]:
    """The name of the only file, and those of its arrays that are asked for."""
    (name,) = files
    data = files[name]
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            found = set(archive.files)
            part = {key: archive[key] for key in (*required, *optional) if key in found}
    # a broken zip, a bare array and a pickled one each raise their own type
    except Exception as error:
        raise DataError(f"{name}: not an npz of plain arrays ({error}). {AGAIN}") from error
    missing = [key for key in required if key not in part]
    if missing:
        raise DataError(
            f"{name}: {', '.join(missing)} missing, the arrays in it are "
            f"{', '.join(sorted(found)) or 'none'}. {AGAIN}"
        )
    return name, part


def _csr(name: str, part: Mapping[str, np.ndarray], kind: str, num_rows: int) -> Any:
    """The scipy matrix of ``num_rows`` rows in the arrays ``<kind>_data`` and so on."""
    from scipy.sparse import csr_array

    try:
        value, indices, indptr, shape = (part[f"{kind}_{key}"] for key in _CSR)
    except KeyError as error:
        raise DataError(f"{name}: {error.args[0]} is missing. {AGAIN}") from None
    size = whole(name, f"{kind}_shape", shape, (2,)).tolist()
    if size[0] != num_rows:
        raise DataError(f"{name}: {kind}_shape is {size}, but there are {num_rows} labels. {AGAIN}")
    indices = whole(name, f"{kind}_indices", indices, (None,))
    indptr = whole(name, f"{kind}_indptr", indptr, (num_rows + 1,))
    if value.dtype.kind not in "fiub":
        raise DataError(f"{name}: {kind}_data must be numbers, got {value.dtype}. {AGAIN}")
    try:
        matrix = csr_array((value, indices, indptr), shape=tuple(size))
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{name}: {kind}_* is no CSR matrix ({error}). {AGAIN}") from error
    return matrix


def _ones(name: str, part: Mapping[str, np.ndarray], num_rows: int) -> np.ndarray:
    """The features, float32 [N, F], those above 0 set to 1."""
    matrix = _csr(name, part, "attr", num_rows)
    # before it is dense: Coauthor Physics has 290 million entries, of which 0.4 % are not zero
    matrix.sum_duplicates()
    matrix.data = single(matrix.data)
    matrix.data[matrix.data > 0] = 1
    try:
        return matrix.toarray()
    # numpy has one type for more than there is, and another for more than can be counted
    except (MemoryError, ValueError) as error:
        raise DataError(f"{name}: attr_shape {list(matrix.shape)} is too large. {AGAIN}") from error
