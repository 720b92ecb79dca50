"""Pairs of nodes that a user wants scored: read from a file, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.arrays import open_npy
from ..data.check_kinds import pair_key
from ..data.columns import Csv, NodeIndex, Parquet
from ..errors import ConfigError, DataError
from .links import Joined

FORMATS = (".csv", ".parquet", ".npy")
ENDS = ("source", "target")
_NUMBERED = "The data gives its nodes no ids: call them by their rows, from 0"


def check_format(path: Path) -> Path:
    """``path``; :class:`ConfigError` if it does not end as a file of pairs."""
    if path.suffix not in FORMATS:
        raise ConfigError(
            f"pairs is {str(path)!r}, but a file ending in one of {', '.join(FORMATS)} is expected."
        )
    return path


def read_pair_file(
    path: Path, num_nodes: int, index: NodeIndex | None, ends: tuple[str, str] = ENDS
) -> Tensor:
    """The pairs in a file, int64 [n, 2]: rows of nodes.

    A csv or parquet file has columns source and target, or ``ends``, with the ids of ``index``;
    without one, and in an npy file [n, 2], nodes are numbered from 0.

    Raises:
        StoreError: the file cannot be read.
        DataError: it is malformed, or names a node that is not there.
    """
    if path.suffix == ".npy":
        values = open_npy(path)
        if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "iu":
            raise DataError(
                f"{path} is {values.dtype} of shape {list(values.shape)}, but whole numbers "
                "[n, 2] are expected: the source and target of each pair. Save it so."
            )
        return _rows(values, num_nodes, lambda row, column: f"{path}[{row}, {column}]")
    table = Csv(path) if path.suffix == ".csv" else Parquet(path)
    names = ends if set(ends) <= set(table.names) else ENDS
    missing = [name for name in names if name not in table.names]
    if missing:
        known = dict.fromkeys([" and ".join(ENDS), " and ".join(ends)])
        raise DataError(
            f"{path} has no column {missing[0]!r}, only {', '.join(table.names[:12])}. Call the "
            f"columns {', or '.join(known)}."
        )
    if index is not None:
        texts, _ = table.read(names, [])
        rows = [index.rows(table, name, texts[name]) for name in names]
        return torch.from_numpy(np.stack(rows, axis=1))
    _, values = table.read([], names, remedy=f"{_NUMBERED} to {num_nodes - 1}.", flags=False)
    return _rows(
        values,
        num_nodes,
        lambda row, column: f"{path}, {table.place(row)}, column {names[column]!r}",
    )


def _rows(values: np.ndarray, num_nodes: int, at: Callable[[int, int], str]) -> Tensor:
    """``values`` [n, 2] as int64, if all of them are numbers of nodes."""
    fits = np.isfinite(values) & (values == np.trunc(values))
    bad = np.argwhere(~(fits & (values >= 0) & (values < num_nodes)))
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"{at(row, column)}: {values[row, column]:.15g} is no node, but a whole number from 0 "
            f"to {num_nodes - 1} is expected. Leave out such pairs; {len(bad)} entries are so."
        )
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))


def known(pairs: Tensor, links: Joined) -> tuple[np.ndarray, np.ndarray]:
    """The part of each of ``pairs [n, 2]``, "" for none, and its label: 1, 0, or -1 for not known.

    Where messages go both ways along every edge, a pair that is in no part is what its reverse is.
    """
    edges, size = links.graph.edge_index().t(), links.graph.num_dst
    forward, backward = (edges[:, a] * size + edges[:, 1 - a] for a in (0, 1))
    directed = not torch.equal(forward.sort().values, backward.sort().values)
    groups = [("", 1, edges)]
    groups += [(part, 0, held.view(-1, 2)) for part, held in links.negative.items()]
    groups += [(part, 1, held) for part, held in links.positive.items()]
    pairs = pairs.to(edges.device)
    parts, labels = np.full(len(pairs), "", dtype=object), np.full(len(pairs), -1)
    # what comes later counts: a link is one, whatever it was drawn as, and a pair that is held out
    # is what the table of those says, whatever its reverse is
    passes = [(group, True) for group in groups]
    if not directed:
        passes = [(group, False) for group in groups] + passes[1:]
    for (part, label, held), ordered in passes:
        wanted, there = (pair_key(of, size, ordered) for of in (pairs, held))
        found = torch.isin(wanted, there).cpu().numpy()
        parts[found], labels[found] = part, label
    return parts, labels
