"""Graphs in text tables and in Matlab's files. (opt: scipy)

Facebook100 and snap-patents of LINKX, arxiv-year from OGB's tables, MUSAE's Twitch, SNAP's edge
lists, METIS.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import DataError
from ..raw import Raw
from .matlab import read_mat
from .ogb import features, numbers
from .pairs import AGAIN, both_ways, check_pairs, merged, single, sized, tensor, whole

# what LINKX makes of a year: fifths of the nodes
YEAR_CLASSES = 5


def read_edge_list(
    files: Mapping[str, bytes], undirected: bool = False, weighted: bool = False
) -> Raw:
    """A SNAP edge list: lines ``a b``, or ``a b weight``; comments begin with ``#``.

    Node numbers that occur are renumbered from 0 in their order, as PyG does with SNAP's Wiki-Vote,
    so no node is without an edge. Edges are ordered by source, then target; repeated ones are
    merged and their weights added to edge_attr float32 [E]. ``undirected`` adds the reverses.
    """
    (name,) = files
    rows = _whole_table(name, files[name], 3 if weighted else 2)
    if (rows[:, :2] < 0).any():
        raise DataError(f"{name}: node numbers must not be negative. {AGAIN}")
    ids, index = np.unique(rows[:, :2], return_inverse=True)
    pairs = index.reshape(-1, 2).T
    weight = rows[:, 2].astype(np.float64) if weighted else None
    if undirected:
        pairs = np.concatenate([pairs, pairs[::-1]], axis=1)
        weight = None if weight is None else np.concatenate([weight, weight])
    pairs, weight = merged(pairs, len(ids), weight)
    tensors = {"edge_index": tensor(pairs)}
    if weight is not None:
        tensors["edge_attr"] = tensor(weight.astype(np.float32))
    return Raw(tensors, {"num_nodes": len(ids)})


def read_metis(files: Mapping[str, bytes]) -> Raw:
    """An unweighted METIS graph: its counts, then one line per node with its neighbours from 1.

    Edges go both ways, ordered by source, then target.
    """
    (name,) = files
    lines = [line for line in _text(name, files[name]).split("\n") if not line.startswith("%")]
    header = "".join(lines[:1]).split()
    if len(header) not in (2, 3) or not all(cell.isdigit() for cell in header):
        raise DataError(
            f"{name}: the header must be two numbers, got {' '.join(header)[:80]!r}. {AGAIN}"
        )
    num_nodes, num_edges = int(header[0]), int(header[1])
    if int("".join(header[2:]) or 0):
        raise DataError(
            f"{name}: its format is {header[2]}, but only 0, a graph without weights, is read. "
            "Write it without weights."
        )
    body = lines[1 : num_nodes + 1]
    if len(body) < num_nodes or "".join(lines[num_nodes + 1 :]).strip():
        raise DataError(
            f"{name}: the header promises {num_nodes} lines of neighbours, got "
            f"{len(lines) - 1 - (not lines[-1])}. {AGAIN}"
        )
    cells = [line.split() for line in body]
    try:
        dst = np.array([cell for row in cells for cell in row], dtype=np.int64) - 1
    except (ValueError, OverflowError) as error:
        raise DataError(f"{name}: not a table of whole numbers ({error}). {AGAIN}") from error
    src = np.repeat(np.arange(num_nodes), [len(row) for row in cells])
    pairs = check_pairs(name, np.stack([src, dst]), num_nodes)
    edge_index = both_ways(pairs, num_nodes)
    if not len(dst) == edge_index.shape[1] == 2 * num_edges:
        raise DataError(
            f"{name}: the header promises {num_edges} edges, each in two lines, got {len(dst)} "
            f"entries of {edge_index.shape[1] // 2} edges. {AGAIN}"
        )
    return Raw({"edge_index": tensor(edge_index)}, {"num_nodes": num_nodes})


def read_facebook100(files: Mapping[str, bytes]) -> Raw:
    """One university of Facebook100: friendships ``A``, ``local_info`` of seven columns.

    As in PyG's LINKXDataset: y is column 1 (gender) less one, -1 where it is missing, and x is each
    of the other columns one-hot over the values that occur, 0 for missing being one of them.
    """
    (name,) = files
    mat = read_mat(name, files[name], ("A", "local_info"))
    info = whole(name, "local_info", np.asarray(mat["local_info"]), (None, 7))
    edges = _sparse(name, "A", mat["A"], len(info), len(info)).tocsr().tocoo()
    columns = [np.unique(info[:, column], return_inverse=True) for column in (0, 2, 3, 4, 5, 6)]
    x = [np.eye(len(values), dtype=np.float32)[which.reshape(-1)] for values, which in columns]
    return Raw(
        {
            "x": tensor(np.concatenate(x, axis=1)),
            "y": tensor(info[:, 1] - 1),
            "edge_index": tensor(np.stack([edges.row, edges.col]).astype(np.int64)),
        }
    )


def read_musae_twitch(files: Mapping[str, bytes]) -> Raw:
    """Streamers of one language: ``*_edges.csv``, ``*_features.json``, ``*_target.csv``.

    As LINKX prepares them: x float32 [N, F] marks the features of each node, without those that no
    node has; y is 1 for mature content. A friendship goes both ways, by source, then target.
    """
    parts = {name.rsplit("_", 1)[-1]: name for name in files}
    target, marks, edges = (parts[key] for key in ("target.csv", "features.json", "edges.csv"))
    y = _mature(target, _text(target, files[target]))
    pairs = _whole_table(edges, files[edges], 2, delimiter=",", skip=1).T
    check_pairs(edges, pairs, len(y))
    x = _marked(marks, files[marks], len(y))
    return Raw(
        {"x": tensor(x), "y": tensor(y), "edge_index": tensor(both_ways(pairs, len(y)))},
    )


def read_snap_patents(files: Mapping[str, bytes]) -> Raw:
    """snap-patents of LINKX: citations in the order of the file, y a fifth of the years granted."""
    (name,) = files
    mat = read_mat(name, files[name], ("edge_index", "node_feat", "num_nodes", "years"))
    num_nodes = int(whole(name, "num_nodes", np.asarray(mat["num_nodes"]), (1, 1))[0, 0])
    pairs = whole(name, "edge_index", np.asarray(mat["edge_index"]), (2, None))
    years = np.asarray(mat["years"]).reshape(-1)
    x = _sparse(name, "node_feat", mat["node_feat"], num_nodes, None).tocsr()
    x.data = single(x.data)
    return Raw(
        {
            # by rows, because a matrix by columns becomes an array by columns, and then a copy
            "x": tensor(x.toarray()),
            "y": tensor(_fifths(name, sized(name, "years", years, (num_nodes,)))),
            "edge_index": tensor(check_pairs(name, pairs, num_nodes)),
        }
    )


def read_arxiv_year(files: Mapping[str, bytes]) -> Raw:
    """The graph of ogbn-arxiv from OGB's raw tables, y a fifth of the years of publication."""
    num_nodes = int(numbers(files, "raw/num-node-list.csv.gz", 1)[0, 0])
    year, edges = "raw/node_year.csv.gz", "raw/edge.csv.gz"
    pairs = check_pairs(edges, numbers(files, edges, width=2).T, num_nodes)
    return Raw(
        {
            "x": features(files, "raw/node-feat.csv.gz", num_nodes).float(),
            "y": tensor(_fifths(year, numbers(files, year, num_nodes)[:, 0])),
            "edge_index": tensor(pairs),
        }
    )


def _fifths(name: str, years: np.ndarray) -> np.ndarray:
    """The class int64 of each year by LINKX's rule, -1 where it is not a number.

    Class k holds the years from the quantile k/5 on up to below the quantile (k + 1)/5.
    """
    if years.dtype.kind not in "iuf" or not np.isfinite(years).any():
        raise DataError(f"{name}: years must be numbers, got {years.dtype}. {AGAIN}")
    years = years.astype(np.float64)
    cuts = np.nanquantile(years, np.arange(1, YEAR_CLASSES) / YEAR_CLASSES)
    return np.where(np.isnan(years), -1, np.searchsorted(cuts, years, side="right"))


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not a text of numbers ({error}). {AGAIN}") from error


def _whole_table(
    name: str, data: bytes, columns: int, delimiter: str | None = None, skip: int = 0
) -> np.ndarray:
    """The whole numbers int64 [lines, ``columns``] in a text, after ``skip`` lines of header."""
    text = io.StringIO(_text(name, data))
    try:
        with warnings.catch_warnings():
            # numpy warns of an empty text, and of 1.5 where it reads 1
            warnings.simplefilter("error")
            rows = np.loadtxt(text, np.int64, delimiter=delimiter, skiprows=skip, ndmin=2)
    except (ValueError, OverflowError, Warning) as error:
        raise DataError(f"{name}: not a table of whole numbers ({error}). {AGAIN}") from error
    if rows.shape[1] != columns:
        raise DataError(f"{name}: expected {columns} columns, got {rows.shape[1]}. {AGAIN}")
    return rows


def _sparse(name: str, what: str, value: Any, rows: int, columns: int | None) -> Any:
    """``value`` if it is a scipy matrix of that size with indices in range."""
    from scipy.sparse import issparse

    if not issparse(value):
        kind = type(value).__name__
        raise DataError(f"{name}: {what} must be a sparse matrix, got {kind}. {AGAIN}")
    sized(name, what, value, (rows, columns))
    try:
        value.check_format(full_check=True)
    except ValueError as error:
        raise DataError(f"{name}: {what} is no sparse matrix ({error}). {AGAIN}") from error
    return value


def _mature(name: str, text: str) -> np.ndarray:
    """The labels int64 [N] by node, from lines of which the first of each node counts."""
    rows = {}
    try:
        for row in csv.DictReader(io.StringIO(text)):
            rows.setdefault(int(row["new_id"]), ("False", "True").index(row["mature"]))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(
            f"{name}: expected the columns new_id, a number, and mature, True or False "
            f"({error!r}). {AGAIN}"
        ) from error
    if not rows or sorted(rows) != list(range(len(rows))):
        raise DataError(f"{name}: new_id must number the {len(rows)} nodes from 0. {AGAIN}")
    return np.array([rows[node] for node in range(len(rows))], dtype=np.int64)


def _marked(name: str, data: bytes, num_nodes: int) -> np.ndarray:
    """x float32 [N, F] from JSON of feature numbers by node, without columns of zeros."""
    try:
        lists = {int(node): list(map(int, cells)) for node, cells in json.loads(data).items()}
        row = np.repeat(np.array(list(lists), np.int64), [len(cells) for cells in lists.values()])
        column = np.array([cell for cells in lists.values() for cell in cells], dtype=np.int64)
    # json and Unicode errors are ValueErrors
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{name}: not lists of numbers by node ({error}). {AGAIN}") from error
    if len(row) and not 0 <= row.min() <= row.max() < num_nodes:
        raise DataError(f"{name}: nodes must lie in 0 .. {num_nodes - 1}. {AGAIN}")
    used, where = np.unique(column, return_inverse=True)
    x = np.zeros((num_nodes, len(used)), dtype=np.float32)
    x[row, where.reshape(-1)] = 1.0
    return x
