"""Graphs for link prediction: MATLAB files with one sparse matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...errors import DataError
from ..raw import Raw
from .matlab import read_mat

MATRIX = "net"


def read_sparse_mat(files: Mapping[str, bytes]) -> Raw:
    """SEAL's sets: edge_index int64 of the square sparse matrix ``net``, ordered by row, column.

    Its values must be ones, as in every one of these sets.
    """
    (name,) = files
    found = read_mat(name, files[name], (MATRIX,))[MATRIX]
    shape = found.shape
    if not hasattr(found, "tocoo") or len(shape) != 2 or shape[0] != shape[1]:
        kind = "a sparse" if hasattr(found, "tocoo") else "a dense"
        raise DataError(
            f"{name}: expected a square sparse matrix {MATRIX!r}, got {kind} one of shape "
            f"{list(shape)}. Fetch the file again."
        )
    matrix: Any = found.tocoo()
    if matrix.dtype.kind not in "fiub" or not (matrix.data == 1).all():
        raise DataError(
            f"{name}: {MATRIX!r} must hold ones, got values of {matrix.dtype}. "
            "Fetch the file again."
        )
    row, column = np.asarray(matrix.row, np.int64), np.asarray(matrix.col, np.int64)
    pair = torch.unique(torch.from_numpy(row * shape[0] + column))
    edge_index = torch.stack([pair // shape[0], pair % shape[0]])
    return Raw({"edge_index": edge_index}, {"num_nodes": int(shape[0])})
