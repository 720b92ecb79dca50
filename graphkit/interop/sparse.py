"""Sparse matrices and graphs, both ways. (opt: scipy, torch_sparse)

A matrix does not say whether its rows are sources or destinations, so every function here takes
``rows``. With ``"source"``, the default and PyG's rule for ``edge_index``, entry (i, j) is the edge
from i to j. With ``"destination"``, as in PyG's ``adj_t`` and in products ``A @ x``, it is the edge
from j to i. Explicit zeros are edges, and so is each of several entries at one place.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, need
from ..graph import Graph, row_ids

Rows = Literal["source", "destination"]
Layout = Literal["coo", "csr", "csc"]


def from_torch_sparse(matrix: Tensor, rows: Rows = "source") -> tuple[Graph, Tensor]:
    """The graph of a torch COO, CSR or CSC tensor, and its values ``[E, ...]``, in stored order.

    An uncoalesced COO tensor keeps all of its entries apart. Raises :class:`GraphError` for a
    dense tensor, for batches, and for another number of sparse dimensions than two.
    """
    if not isinstance(matrix, Tensor) or matrix.layout == torch.strided:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(
            f"from_torch_sparse got a {_kind(matrix)}, but a sparse torch tensor is expected. "
            "Pass matrix.to_sparse(), or an edge_index to from_edge_index."
        )
    if matrix.layout not in _LAYOUTS.values() or matrix.sparse_dim() != 2 or _is_batch(matrix):
        raise GraphError(
            f"from_torch_sparse got {matrix.layout} of shape {list(matrix.shape)}, but a COO, CSR "
            "or CSC tensor with two sparse dimensions is expected. Convert it with to_sparse_coo()."
        )
    if matrix.layout == torch.sparse_coo:
        coalesced = matrix.is_coalesced()
        index = matrix.indices() if coalesced else matrix._indices()
        value = matrix.values() if coalesced else matrix._values()
        row, col = index[0], index[1]
    elif matrix.layout == torch.sparse_csr:
        col, value = matrix.col_indices().to(torch.int64), matrix.values()
        row = row_ids(matrix.crow_indices(), col.numel())
    else:
        row, value = matrix.row_indices().to(torch.int64), matrix.values()
        col = row_ids(matrix.ccol_indices(), row.numel())
    return _graph(row, col, (matrix.size(0), matrix.size(1)), rows), value


def to_torch_sparse(
    graph: Graph, value: Tensor | None = None, layout: Layout = "coo", rows: Rows = "source"
) -> Tensor:
    """The torch sparse tensor with one entry for each edge; indices are int64.

    ``value [E, ...]`` defaults to ones in float32. COO keeps the order of edges, and is marked as
    coalesced where it is. CSR and CSC sort the edges and hold no two at one place.

    Raises :class:`GraphError` for parallel edges in CSR or CSC, and for a value of another length.
    """
    value = _value("to_torch_sparse", graph, value)
    row, col = _ends(graph, rows)
    size = (graph.num_src, graph.num_dst) if rows == "source" else (graph.num_dst, graph.num_src)
    shape = (*size, *value.shape[1:])
    if layout == "coo":
        place = row * size[1] + col
        coalesced = bool((place.diff() > 0).all())
        index = torch.stack([row, col])
        return torch.sparse_coo_tensor(
            index, value, shape, is_coalesced=coalesced, check_invariants=True
        )
    if layout not in _LAYOUTS:
        raise ConfigError(f"layout is {layout!r}, but 'coo', 'csr' or 'csc' is expected.")
    major, minor = (row, col) if layout == "csr" else (col, row)
    num_major, num_minor = size if layout == "csr" else (size[1], size[0])
    place = major * num_minor + minor
    place, order = torch.sort(place, stable=True)
    if bool((place.diff() == 0).any()):
        twice = int(place[:-1][place.diff() == 0][0])
        at = (twice // num_minor, twice % num_minor)
        raise GraphError(
            f"The graph has parallel edges (at {at if layout == 'csr' else at[::-1]}), but torch's "
            f"{layout.upper()} holds one entry for each place. "
            "Use layout='coo', or to_torch_sparse(...).coalesce() to add them up first."
        )
    ptr = torch.zeros(num_major + 1, dtype=torch.int64, device=graph.device)
    torch.cumsum(torch.bincount(major, minlength=num_major), 0, out=ptr[1:])
    build = torch.sparse_csr_tensor if layout == "csr" else torch.sparse_csc_tensor
    return build(ptr, minor[order], value[order], shape, check_invariants=True)


def from_scipy(matrix: Any, rows: Rows = "source") -> tuple[Graph, Tensor]:
    """The graph of a scipy sparse matrix or array of any format, and its weights ``[E]``.

    The edges are in the order of ``matrix.tocoo()`` and the weights a copy in the matrix's dtype.
    Explicit zeros and repeated entries stay, where scipy's format has them (DIA has no zeros).

    Raises :class:`GraphError` for anything but a two-dimensional sparse matrix, and for a dtype
    that torch does not have (long double, object).
    """
    need("scipy")
    from scipy import sparse

    if not sparse.issparse(matrix) or matrix.ndim != 2:
        raise GraphError(
            f"from_scipy got a {_kind(matrix)}, but a two-dimensional scipy sparse matrix is "
            "expected. Wrap it with scipy.sparse.coo_array(...)."
        )
    coo = matrix.tocoo()
    try:
        weight = torch.from_numpy(np.array(coo.data))
    except TypeError:
        raise GraphError(
            f"from_scipy got a matrix of dtype {matrix.dtype}, which torch does not have. "
            "Convert it with matrix.astype('float64')."
        ) from None
    row, col = (torch.from_numpy(np.array(index)) for index in (coo.row, coo.col))
    return _graph(row, col, matrix.shape, rows), weight


def to_scipy(
    graph: Graph, weight: Tensor | None = None, format: Layout = "csr", rows: Rows = "source"
) -> Any:
    """The scipy sparse array (``csr_array``, ``coo_array``, ``csc_array``) of a graph.

    ``weight [E]`` defaults to ones in float32; its gradient stays behind. COO keeps the order of
    edges; CSR and CSC group them by row or column and keep the order within. Parallel edges stay
    apart in all three: scipy adds them up in products, or on ``sum_duplicates()``.

    Raises :class:`GraphError` for a weight of another shape, or in a dtype numpy does not have.
    """
    need("scipy")
    from scipy import sparse

    weight = _value("to_scipy", graph, weight)
    if weight.dim() != 1:
        raise GraphError(
            f"to_scipy: weight has shape {list(weight.shape)}, but [{graph.num_edges}] is "
            "expected: scipy holds one number for each entry. Pass one column, weight[:, 0]."
        )
    try:
        data = weight.detach().cpu().numpy()
    except TypeError:
        raise GraphError(
            f"to_scipy: weight has dtype {weight.dtype}, which numpy does not have. "
            "Convert it with weight.float()."
        ) from None
    row, col = _ends(graph, rows)
    shape = (graph.num_src, graph.num_dst) if rows == "source" else (graph.num_dst, graph.num_src)
    if format == "coo":
        ends = (row.cpu().numpy(), col.cpu().numpy())
        return sparse.coo_array((data.copy(), ends), shape=shape)
    if format not in _LAYOUTS:
        raise ConfigError(f"format is {format!r}, but 'coo', 'csr' or 'csc' is expected.")
    # not scipy's own tocsr, which adds parallel edges up
    side = graph.by_src if (format == "csr") == (rows == "source") else graph.by_dst
    if side is None:
        side = Graph.from_edge_index(
            graph.edge_index().flip(0),
            num_src=graph.num_dst,
            num_dst=graph.num_src,
            transpose=False,
        ).by_dst
    eid = slice(None) if side.eid is None else side.eid.cpu().numpy()
    build = sparse.csr_array if format == "csr" else sparse.csc_array
    parts = (data[eid], side.indices.cpu().numpy(), side.indptr.cpu().numpy())
    return build(parts, shape=shape, copy=True)


def from_sparse_tensor(matrix: Any, rows: Rows = "source") -> tuple[Graph, Tensor | None]:
    """The graph of a ``torch_sparse.SparseTensor``, and its values ``[E, ...]`` or None.

    For PyG's ``adj_t`` pass ``rows="destination"``. Raises :class:`BackendError` without the
    package and :class:`GraphError` for another type.
    """
    need("torch_sparse")
    from torch_sparse import SparseTensor  # pyright: ignore[reportMissingImports]

    if not isinstance(matrix, SparseTensor):
        raise GraphError(
            f"from_sparse_tensor got a {_kind(matrix)}, but a torch_sparse.SparseTensor is "
            "expected. Use from_torch_sparse for torch's own sparse tensors."
        )
    row, col, value = matrix.coo()
    return _graph(row, col, (matrix.size(0), matrix.size(1)), rows), value


def to_sparse_tensor(graph: Graph, value: Tensor | None = None, rows: Rows = "source") -> Any:
    """The ``torch_sparse.SparseTensor`` of a graph; ``rows="destination"`` gives PyG's ``adj_t``.

    It sorts the edges by row, then column; parallel edges keep their order and stay apart.
    ``value [E, ...]`` None stays None. Raises :class:`BackendError` without the package.
    """
    need("torch_sparse")
    from torch_sparse import SparseTensor  # pyright: ignore[reportMissingImports]

    row, col = _ends(graph, rows)
    size = (graph.num_src, graph.num_dst) if rows == "source" else (graph.num_dst, graph.num_src)
    # sorted here, because the package's own sort may swap parallel edges
    order = torch.sort(row * size[1] + col, stable=True).indices
    if value is not None:
        value = _value("to_sparse_tensor", graph, value)[order]
    return SparseTensor(
        row=row[order], col=col[order], value=value, sparse_sizes=size, is_sorted=True
    )


_LAYOUTS = {"coo": torch.sparse_coo, "csr": torch.sparse_csr, "csc": torch.sparse_csc}


def _is_batch(matrix: Tensor) -> bool:
    return matrix.dim() != matrix.sparse_dim() + matrix.dense_dim()


def _graph(row: Tensor, col: Tensor, size: tuple[int, int], rows: Rows) -> Graph:
    _check_rows(rows)
    if rows == "source":
        return Graph.from_edge_index(torch.stack([row, col]), num_src=size[0], num_dst=size[1])
    return Graph.from_edge_index(torch.stack([col, row]), num_src=size[1], num_dst=size[0])


def _ends(graph: Graph, rows: Rows) -> tuple[Tensor, Tensor]:
    """Row and column of each edge."""
    _check_rows(rows)
    src, dst = graph.edge_index()
    return (src, dst) if rows == "source" else (dst, src)


def _check_rows(rows: str) -> None:
    if rows not in ("source", "destination"):
        raise ConfigError(f"rows is {rows!r}, but 'source' or 'destination' is expected.")


def _value(call: str, graph: Graph, value: Tensor | None) -> Tensor:
    if value is None:
        return torch.ones(graph.num_edges, device=graph.device)
    if value.dim() == 0 or value.size(0) != graph.num_edges:
        raise GraphError(
            f"{call}: the values have shape {list(value.shape)}, but [{graph.num_edges}, ...] is "
            "expected: one for each edge."
        )
    return value


def _kind(value: Any) -> str:
    """The type of ``value``, and its shape where it has one."""
    shape = getattr(value, "shape", None)
    return type(value).__name__ + ("" if shape is None else f" of shape {list(shape)}")
