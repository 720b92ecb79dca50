"""Streams of timed edges: tables of numbers, one event per line."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import torch

from ...errors import DataError
from ..raw import Raw


def read_events(files: Mapping[str, bytes], *, delimiter: str | None = None) -> Raw:
    """src, dst, t int64 [events] and msg float32 [events, F] from lines ``src dst [msg ...] t``.

    Bitcoin-OTC and CollegeMsg. Nodes are counted from the lowest number in the file, as in PyG's
    BitcoinOTC, and times are seconds since 1970, cut to whole ones. Events are in the order of
    their times, those of equal time as in the file. ``delimiter`` stands between the columns; None
    is white space.
    """
    (name,) = files
    table = _table(files[name], name, delimiter)
    ends = table[:, :2]
    wrong = ((ends % 1 != 0) | (ends < 0)).any(axis=1)
    if wrong.any():
        line = int(wrong.argmax()) + 1
        raise DataError(
            f"{name}: the first two columns must be node numbers of 0 or more, got "
            f"{ends[line - 1].tolist()} in line {line}. Fetch the file again."
        )
    table = table[np.argsort(table[:, -1], kind="stable")]
    node = torch.from_numpy(table[:, :2].astype(np.int64))
    node = node - node.min()
    tensors = {
        "src": node[:, 0].contiguous(),
        "dst": node[:, 1].contiguous(),
        "t": torch.from_numpy(table[:, -1].astype(np.int64)),
    }
    if table.shape[1] > 3:
        tensors["msg"] = torch.from_numpy(np.ascontiguousarray(table[:, 2:-1], np.float32))
    return Raw(tensors)


def _table(data: bytes, name: str, delimiter: str | None) -> np.ndarray:
    try:
        if not data.strip():
            raise ValueError("the file is empty")
        table = np.loadtxt(io.BytesIO(data), delimiter=delimiter, ndmin=2, comments=None)
    except ValueError as error:
        raise DataError(
            f"{name}: not a table of numbers ({error}). Fetch the file again."
        ) from error
    if table.shape[1] < 3 or not (np.abs(table) < 2**53).all():
        raise DataError(
            f"{name}: expected lines of source, target, values and time, all below 2**53, got "
            f"{table.shape[1]} columns up to {np.abs(table).max()}. Fetch the file again."
        )
    return table
