"""pandas edge lists and graphs, both ways. (opt: pandas)"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import GraphError, need
from ..graph import Graph
from .attributed import Attributed, attributed, check_square


def from_pandas(
    frame: Any,
    source: Hashable = "source",
    target: Hashable = "target",
    *,
    nodes: Sequence[Hashable] | None = None,
) -> Attributed:
    """The graph whose edges are the rows of a pandas ``DataFrame``, in their order.

    The columns ``source`` and ``target`` hold node names of any hashable type. ``nodes`` lists all
    of them in order, with those that have no edge; without it they stand in order of appearance,
    row by row, source before target. Other columns become edge columns: tensors of the same dtype
    where torch has it, else the pandas array. ``frame.attrs`` becomes ``whole``. The index is not
    kept: ``frame.reset_index()`` makes it a column.

    Raises :class:`GraphError` for missing or repeated columns, for a row without a name, and for a
    name that is not in ``nodes``.
    """
    need("pandas")
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise GraphError(
            f"from_pandas got a {type(frame).__name__}, but a pandas DataFrame is expected. "
            "Build one with pandas.DataFrame(...)."
        )
    _check_columns(frame, source, target)
    ends = [frame[source], frame[target]]
    shared = ends[0].dtype == ends[1].dtype
    if not shared:
        ends = [end.astype(object) for end in ends]
    for name, end in zip((source, target), ends, strict=True):
        if end.isna().any():
            row = int(np.flatnonzero(end.isna().to_numpy())[0])
            raise GraphError(
                f"from_pandas: row {row} has no node name in column {name!r}. "
                "Drop such rows with frame.dropna(subset=[...])."
            )
    # row by row, so that both names of the first row come first
    order = np.arange(2 * len(frame)).reshape(2, -1).T.reshape(-1)
    stacked = pd.concat(ends, ignore_index=True).take(order).array
    if nodes is None:
        codes, found = pd.factorize(stacked)
        names = _names(found, shared)
    else:
        codes, names = _positions(stacked, nodes), nodes
    edge_index = torch.from_numpy(codes.astype(np.int64)).reshape(-1, 2).t().contiguous()
    others = [name for name in frame.columns if name not in (source, target)]
    return Attributed(
        Graph.from_edge_index(edge_index, len(names)),
        edge={name: _column(frame[name]) for name in others},
        whole=dict(frame.attrs),
        names=None if _is_range(names) else names,
    )


def to_pandas(
    item: Graph | Attributed, source: Hashable = "source", target: Hashable = "target"
) -> Any:
    """The ``DataFrame`` with one row for each edge: ``source``, ``target``, the edge columns.

    It is what :func:`from_pandas` read, with the columns in that order and a new index. Names that
    came in columns of two different dtypes come back as pandas infers them. An edge list has no
    place for the rest: ``names`` (to pass as ``nodes``), ``keys``, and the nodes' columns stay
    behind in ``item``, and an undirected graph gives a row for each direction.

    Raises :class:`GraphError` for a bipartite graph, for an edge column called like ``source`` or
    ``target``, and for a tensor that is not one number per edge or has a dtype numpy lacks.
    """
    need("pandas")
    import pandas as pd

    item = attributed(item, "to_pandas")
    check_square(item, "to_pandas")
    src, dst = item.graph.edge_index().cpu().numpy()
    columns: dict[Hashable, Any] = {source: _take(item.names, src), target: _take(item.names, dst)}
    for name, column in item.edge.items():
        if name in columns:
            raise GraphError(
                f"to_pandas: an edge column is called {name!r}, like the column of nodes. "
                "Pass other names as source and target."
            )
        columns[name] = _array(name, column)
    frame = pd.DataFrame(columns)
    frame.attrs.update(item.whole)
    return frame


def _check_columns(frame: Any, source: Hashable, target: Hashable) -> None:
    if source == target:
        raise GraphError(f"source and target are both {source!r}, but two columns are expected.")
    if not frame.columns.is_unique:
        twice = list(frame.columns[frame.columns.duplicated()])
        raise GraphError(f"from_pandas: columns {twice} appear more than once. Rename them.")
    for name in (source, target):
        if name not in frame.columns:
            raise GraphError(
                f"from_pandas: there is no column {name!r}, only {list(frame.columns)}. "
                "Pass source=... and target=... to name the columns of the nodes."
            )


def _names(found: Any, shared: bool) -> Any:
    """The distinct names as pandas holds them, or as a tuple if they come from two dtypes."""
    if not shared:
        return tuple(found)
    return np.asarray(found) if isinstance(found.dtype, np.dtype) else found


def _positions(names: Any, nodes: Sequence[Hashable]) -> np.ndarray:
    """Where in ``nodes`` each of ``names`` stands."""
    position = {name: i for i, name in enumerate(nodes)}
    try:
        return np.array([position[name] for name in names], dtype=np.int64)
    except KeyError as error:
        raise GraphError(
            f"from_pandas: the node {error.args[0]!r} is not among the {len(position)} in nodes. "
            "Add it, or leave nodes out."
        ) from None


def _is_range(names: Sequence[Hashable]) -> bool:
    if isinstance(names, np.ndarray) and names.dtype == np.int64:
        return bool((names == np.arange(len(names))).all())
    # names of any other dtype stay, so that it comes back
    if hasattr(names, "dtype"):
        return False
    return all(type(name) is int and name == i for i, name in enumerate(names))


def _column(series: Any) -> Any:
    """A tensor if torch has the dtype, else the array inside."""
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biufc":
        try:
            return torch.from_numpy(series.to_numpy(copy=True))
        # long double
        except TypeError:
            pass
    return series.array


def _take(names: Sequence[Hashable] | None, index: np.ndarray) -> Any:
    if names is None:
        return index
    if hasattr(names, "take"):
        return names.take(index)  # pyright: ignore[reportAttributeAccessIssue]
    return [names[i] for i in index.tolist()]


def _array(name: Hashable, column: Any) -> Any:
    if not isinstance(column, Tensor):
        return _objects(column) if isinstance(column, (list, tuple)) else column
    if column.dim() != 1:
        raise GraphError(
            f"to_pandas: the edge column {name!r} has shape {list(column.shape)}, but one number "
            "for each edge is expected. Split it into columns."
        )
    try:
        return column.detach().cpu().numpy()
    except TypeError:
        raise GraphError(
            f"to_pandas: the edge column {name!r} has dtype {column.dtype}, which numpy does not "
            "have. Convert it with .float()."
        ) from None


def _objects(values: Sequence[Any]) -> np.ndarray:
    """``values`` as they are: pandas would make numbers of some and rows of tuples."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array
