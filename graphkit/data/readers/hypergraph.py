"""Hypergraphs: HyperGCN's pickles, AllSet's tables, Benson's lists of members. (opt: scipy)

All readers order the incidences by hyperedge, then node, each pair once. Hyperedges are numbered in
the order of the files.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..raw import Files, Raw, unpickle

# HyperGCN publishes train and test only; this share of each test part becomes validation
VAL_OF_TEST = 0.2


def read_hypergcn(files: Mapping[str, bytes]) -> Raw:
    """Co-citation and co-authorship: ``hypergraph.pickle``, ``labels.pickle``, features if there.

    x is float32 [N, F] as upstream, absent where ``features.pickle`` is. Raises
    :class:`DataError` for content of another form, or for a pickle whose sha256 is not on the card.
    """
    members = _unpickled(files, "hypergraph.pickle")
    if not isinstance(members, dict) or not all(
        isinstance(value, (list, set)) for value in members.values()
    ):
        raise DataError(
            "hypergraph.pickle: expected a dict with a list or set of node numbers for each "
            "hyperedge. Fetch the file again."
        )
    label = _whole_numbers(_unpickled(files, "labels.pickle"), "labels.pickle")
    x = None
    if "features.pickle" in files:
        x = _dense(_unpickled(files, "features.pickle"), len(label))
    size = np.fromiter(map(len, members.values()), np.int64, len(members))
    node = _whole_numbers(chain.from_iterable(members.values()), "hypergraph.pickle")
    hyperedge = np.repeat(np.arange(len(size)), size)
    return _raw(node, hyperedge, len(size), label, x, "hypergraph.pickle")


def read_hypergcn_split(files: Mapping[str, bytes], raw: Raw, seed: int) -> dict[str, Tensor]:
    """Masks bool [N, S] from S pickles of ``train`` and ``test``, in the order of ``files``.

    Training nodes are those of the files. Upstream has no validation: ``VAL_OF_TEST`` of each test
    part is drawn from ``seed``, and the rest of it is the test mask.
    """
    num_nodes = len(raw.tensors["y"])
    generator = torch.Generator().manual_seed(seed)
    columns: dict[str, list[Tensor]] = {"train_mask": [], "val_mask": [], "test_mask": []}
    for name in files:
        parts = _unpickled(files, name)
        if not isinstance(parts, dict) or not {"train", "test"} <= set(parts):
            raise DataError(f"{name}: expected a dict of train and test. Fetch the file again.")
        train, test = (
            torch.from_numpy(_ids(parts[key], num_nodes, f"{name}: {key}"))
            for key in ("train", "test")
        )
        if torch.isin(train, test).any():
            raise DataError(f"{name}: train and test share nodes. Fetch the file again.")
        test = test[torch.randperm(len(test), generator=generator)]
        num_val = round(VAL_OF_TEST * len(test))
        for key, chosen in zip(columns, (train, test[:num_val], test[num_val:]), strict=True):
            columns[key].append(torch.zeros(num_nodes, dtype=torch.bool).index_fill(0, chosen, 1))
    return {key: torch.stack(column, dim=1) for key, column in columns.items()}


def read_allset(files: Mapping[str, bytes], *, num_nodes: int) -> Raw:
    """Mushroom, NTU2012, Zoo: ``NAME.content`` (id, features, label) and ``NAME.edges``.

    The first ``num_nodes`` rows are nodes; the rows after them stand for hyperedges and hold no
    data. ``NAME.edges`` pairs a node with a hyperedge, whose numbers go on from ``num_nodes``.
    Labels are shifted so that the lowest is 0.
    """
    content, edges = _only(files, ".content"), _only(files, ".edges")
    table = _table(files[content], content, np.float32)
    if len(table) < num_nodes or (table[:, 0] != np.arange(len(table))).any():
        raise DataError(
            f"{content}: expected rows numbered 0, 1, 2, ... with at least {num_nodes} nodes, got "
            f"{len(table)} rows. Fetch the file again."
        )
    table = table[:num_nodes]
    label = table[:, -1].astype(np.int64)
    if (label != table[:, -1]).any():
        raise DataError(
            f"{content}: the last column must hold classes, whole numbers. Fetch the file again."
        )
    node, hyperedge = _table(files[edges], edges, np.int64, columns=2).T
    num_hyperedges = int(hyperedge.max(initial=num_nodes - 1)) + 1 - num_nodes
    return _raw(node, hyperedge - num_nodes, num_hyperedges, label, table[:, 1:-1], edges)


def read_benson(files: Mapping[str, bytes]) -> Raw:
    """House committees, Walmart trips: one hyperedge per line, one label per line, no features.

    Nodes and classes count from 1 in the files and from 0 here. A member that a line names twice is
    one incidence.
    """
    edges, labels = _only(files, "hyperedges-"), _only(files, "node-labels-")
    label = _table(files[labels], labels, np.int64, columns=1)[:, 0]
    lines = files[edges].split()
    size = np.array([line.count(b",") + 1 for line in lines], dtype=np.int64)
    flat = b"\n".join(lines).replace(b",", b"\n")
    node = _table(flat, edges, np.int64, columns=1)[:, 0]
    if len(node) != size.sum():
        raise DataError(f"{edges}: a line has an empty place between commas. Fetch the file again.")
    return _raw(node - 1, np.repeat(np.arange(len(size)), size), len(size), label, None, edges)


def _raw(
    node: np.ndarray,
    hyperedge: np.ndarray,
    num_hyperedges: int,
    label: np.ndarray,
    x: np.ndarray | None,
    name: str,
) -> Raw:
    """``name`` is the file of the incidences, for the message."""
    num_nodes = len(label)
    for what, index, count in (
        ("node", node, num_nodes),
        ("hyperedge", hyperedge, num_hyperedges),
    ):
        if not len(index) or index.min() < 0 or index.max() >= count:
            found = f"{index.min()} to {index.max()}" if len(index) else "none"
            raise DataError(
                f"{name}: {what} numbers, counted from 0, must lie in 0 to {count - 1}, got "
                f"{found}. Fetch the file again."
            )
    pair = torch.unique(torch.from_numpy(hyperedge * num_nodes + node))
    tensors = {
        "hyperedge_index": torch.stack([pair % num_nodes, pair // num_nodes]),
        "y": torch.from_numpy(label - label.min()),
    }
    if x is not None:
        tensors["x"] = torch.from_numpy(np.ascontiguousarray(x))
    return Raw(tensors, {"num_nodes": num_nodes, "num_hyperedges": num_hyperedges})


def _unpickled(files: Mapping[str, bytes], name: str) -> Any:
    if isinstance(files, Files) and not files.known(name):
        raise DataError(
            f"{name}: a pickle is read only where the card gives its sha256. Add it to the card."
        )
    return unpickle(files[name], name)


def _whole_numbers(values: Iterable[Any], name: str) -> np.ndarray:
    try:
        found = np.array(list(values))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name}: expected a list of whole numbers ({error}). Fetch the file again."
        ) from error
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise DataError(
            f"{name}: expected a list of whole numbers, got {found.dtype} of shape "
            f"{list(found.shape)}. Fetch the file again."
        )
    return found.astype(np.int64)


def _ids(values: Any, count: int, name: str) -> np.ndarray:
    found = _whole_numbers(values, name)
    if found.min() < 0 or found.max() >= count:
        raise DataError(
            f"{name} must be node numbers in 0 to {count - 1}, got {found.min()} to {found.max()}. "
            "Fetch the file again."
        )
    return found


def _dense(value: Any, num_rows: int) -> np.ndarray:
    """Float32 [N, F] from what :func:`unpickle` makes of a csr matrix."""
    from scipy.sparse import csr_matrix

    try:
        matrix: Any = csr_matrix((value.data, value.indices, value.indptr), shape=value._shape)
        matrix.check_format(full_check=True)
    # scipy has a type of its own for each way in which three arrays can fail to be a matrix
    except Exception as error:
        raise DataError(
            f"features.pickle: not a csr matrix ({error}). Fetch the file again."
        ) from error
    if matrix.shape[0] != num_rows or matrix.dtype.kind not in "fiub":
        raise DataError(
            f"features.pickle: expected numbers in {num_rows} rows, one per label, got "
            f"{matrix.dtype} in {matrix.shape[0]}. Fetch the file again."
        )
    return matrix.astype(np.float32).toarray()


def _only(files: Mapping[str, bytes], part: str) -> str:
    names = [name for name in files if part in name]
    if len(names) != 1:
        raise DataError(
            f"One file with {part!r} in its name is needed, got {', '.join(names) or 'none'}. "
            "Correct the card."
        )
    return names[0]


def _table(data: bytes, name: str, dtype: Any, columns: int | None = None) -> np.ndarray:
    """The numbers of a text file [rows, columns]; :class:`DataError` names it where they fail."""
    if not data.strip():
        raise DataError(f"{name}: the file is empty. Fetch the file again.")
    try:
        found = np.loadtxt(io.BytesIO(data), dtype=dtype, ndmin=2, comments=None)
    except ValueError as error:
        raise DataError(
            f"{name}: not a table of numbers ({error}). Fetch the file again."
        ) from error
    if not (np.abs(found) < 2**31).all():
        raise DataError(f"{name}: holds values of 2**31 or more, or NaN. Fetch the file again.")
    if columns is not None and found.shape[1] != columns:
        raise DataError(
            f"{name}: expected {columns} columns, got {found.shape[1]}. Fetch the file again."
        )
    return found
