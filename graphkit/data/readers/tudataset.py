"""TU Dortmund's text files of many graphs, read as PyG's TUDataset does. (opt: torch_geometric)"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..raw import Raw

# one column per label value: a stray huge label would ask for more memory than there is
_MAX_WIDTH = 100_000

_REMEDY = "Fetch the files again, or correct the card."


def read_tudataset(
    files: Mapping[str, bytes],
    *,
    parts: Sequence[str] = (),
    use_node_attr: bool = False,
    use_edge_attr: bool = False,
) -> Raw:
    """One set of the TUDataset collection, or a training and a test set of it as one.

    x float32 [N, F] holds the node labels one-hot, a column for every value from the lowest to the
    highest, after the node attributes if ``use_node_attr``; edge_attr [E, D] likewise. Edges are
    without self-loops and duplicates (whose edge_attr is summed), ordered by source, then target.
    y int64 [G] numbers the sorted graph labels; graph attributes become y float32 [G] or [G, T].

    ``parts`` names the training and the test set: their labels share one numbering, and train_mask
    and test_mask say which graph is from where.
    """
    tables = _Tables(files, list(parts) or [_only_name(files)])
    nodes = _nodes(tables)
    pairs = _edges(tables, nodes)
    x = _features(tables, "node", use_node_attr, len(nodes.graph))
    edge_attr = _features(tables, "edge", use_edge_attr, len(pairs))
    edge_index, edge_attr = _simple(pairs, edge_attr, len(nodes.graph))
    num_graphs = sum(nodes.graphs)
    of_edge = nodes.graph[edge_index[0]]
    node_ptr = _pointer(nodes.graph, num_graphs)
    tensors: dict[str, Tensor | None] = {
        "node_ptr": node_ptr,
        "edge_ptr": _pointer(of_edge, num_graphs),
        "edge_index": edge_index - node_ptr[of_edge],
        "x": x,
        "edge_attr": edge_attr,
        "y": _targets(tables, num_graphs),
    }
    if len(tables.names) > 1:
        in_train = torch.arange(num_graphs) < nodes.graphs[0]
        tensors |= {"train_mask": in_train, "test_mask": ~in_train}
    return Raw({key: value for key, value in tensors.items() if value is not None})


def _only_name(files: Mapping[str, bytes]) -> str:
    found = [name[: -len("_A.txt")] for name in files if name.endswith("_A.txt")]
    if len(found) != 1:
        raise DataError(
            f"TUDataset needs one file NAME_A.txt, got {', '.join(files) or 'no files'}. "
            "List it on the card; for two sets give the option parts."
        )
    return found[0].rpartition("/")[2]


class _Tables:
    """The text tables of one or more sets by their kind, each parsed in one go."""

    def __init__(self, files: Mapping[str, bytes], names: Sequence[str]) -> None:
        self.files, self.names = files, names
        self._places = {place.rpartition("/")[2]: place for place in files}
        self._parsed: dict[str, list[np.ndarray]] = {}

    def __contains__(self, kind: str) -> bool:
        return f"{self.names[0]}_{kind}.txt" in self._places

    def read(self, kind: str, dtype: type, columns: int | None = None) -> list[np.ndarray]:
        """The table [rows, columns] of every set."""
        if kind in self._parsed:
            return self._parsed[kind]
        found = [self._parse(f"{name}_{kind}.txt", dtype, columns) for name in self.names]
        if len({table.shape[1] for table in found}) > 1:
            raise DataError(
                f"{kind}: {' and '.join(self.names)} have {[t.shape[1] for t in found]} columns, "
                "but sets that are read as one need the same. Read them one by one."
            )
        self._parsed[kind] = found
        return found

    def whole(self, kind: str, dtype: type, rows: int) -> np.ndarray:
        """The tables of all sets below one another, [rows, columns]."""
        found = np.concatenate(self.read(kind, dtype))
        if len(found) != rows:
            raise DataError(
                f"{self.names[0]}_{kind}.txt: {len(found)} rows, but {rows} are expected, one for "
                f"each {kind.partition('_')[0]}. {_REMEDY}"
            )
        return found

    def _parse(self, name: str, dtype: type, columns: int | None) -> np.ndarray:
        if name not in self._places:
            raise DataError(f"{name} is not among the files {', '.join(self.files)}. {_REMEDY}")
        data = self.files[self._places[name]]
        if not data.strip():
            raise DataError(f"{name}: the file is empty. {_REMEDY}")
        try:
            out = np.loadtxt(
                io.BytesIO(data.rstrip()),
                delimiter=",",
                dtype=dtype,
                ndmin=2,
                comments=None,
                encoding="latin1",
            )
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"{name}: not a table of {'whole ' if dtype is np.int64 else ''}numbers ({error}). "
                f"{_REMEDY}"
            ) from error
        if columns is not None and out.shape[1] != columns:
            raise DataError(
                f"{name}: {out.shape[1]} columns, but {columns} are expected. {_REMEDY}"
            )
        return out


@dataclass(frozen=True)
class _Nodes:
    """The graph of each node over all sets, and how many nodes and graphs each set has."""

    graph: Tensor
    sizes: list[int]
    graphs: list[int]


def _nodes(tables: _Tables) -> _Nodes:
    found = [table[:, 0] for table in tables.read("graph_indicator", np.int64, 1)]
    for name, graph in zip(tables.names, found, strict=True):
        fall = (np.diff(graph) < 0).nonzero()[0]
        if graph[0] < 1 or len(fall):
            row = 0 if graph[0] < 1 else int(fall[0]) + 1
            raise DataError(
                f"{name}_graph_indicator.txt: row {row + 1} is {graph[row]}, but graphs count from "
                f"1 and their nodes stand together in their order. {_REMEDY}"
            )
    graphs = [int(graph[-1]) for graph in found]
    of = _target_kind(tables)
    # without labels, ids that cannot be: there would be more graphs than nodes
    rows = [len(t) for t in tables.read(*of)] if of else [min(len(g), g[-1]) for g in found]
    for name, count, row_count in zip(tables.names, graphs, rows, strict=True):
        if count != row_count:
            raise DataError(
                f"{name}_graph_indicator.txt: the last graph is {count}, but {row_count} graphs "
                f"are expected{f', one for each row of {of[0]}' if of else ''}. {_REMEDY}"
            )
    first = np.cumsum([0, *graphs[:-1]]) - 1
    whole = np.concatenate([graph + start for graph, start in zip(found, first, strict=True)])
    return _Nodes(torch.from_numpy(whole), [len(graph) for graph in found], graphs)


def _pointer(graph: Tensor, num_graphs: int) -> Tensor:
    """Where the items of each graph begin, from the graph of each."""
    sizes = torch.bincount(graph, minlength=num_graphs)
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def _edges(tables: _Tables, nodes: _Nodes) -> Tensor:
    """Pairs of nodes [E, 2], as the files have them, counted from 0 over all sets."""
    found = tables.read("A", np.int64, 2)
    for name, pairs, size in zip(tables.names, found, nodes.sizes, strict=True):
        bad = ((pairs < 1) | (pairs > size)).any(axis=1).nonzero()[0]
        if len(bad):
            raise DataError(
                f"{name}_A.txt: row {int(bad[0]) + 1} is {pairs[bad[0]].tolist()}, but nodes count "
                f"from 1 to {size}. {_REMEDY}"
            )
    first = np.cumsum([0, *nodes.sizes[:-1]]) - 1
    whole = np.concatenate([pairs + start for pairs, start in zip(found, first, strict=True)])
    out = torch.from_numpy(whole)
    src, dst = nodes.graph[out[:, 0]], nodes.graph[out[:, 1]]
    across = (src != dst).nonzero()
    if len(across):
        row = int(across[0])
        raise DataError(
            f"{tables.names[0]}_A.txt: edge {row + 1} goes from graph {int(src[row]) + 1} to graph "
            f"{int(dst[row]) + 1}, but edges stay within a graph. {_REMEDY}"
        )
    return out


def _features(tables: _Tables, of: str, use_attributes: bool, rows: int) -> Tensor | None:
    """Attributes and one-hot labels of the nodes or edges; None where there are neither."""
    parts: list[Tensor] = []
    if f"{of}_attributes" in tables:
        if use_attributes:
            values = tables.whole(f"{of}_attributes", np.float64, rows)
            parts.append(torch.from_numpy(values).float())
        else:
            # PyG reads them and cuts them off again, so that a set without labels has no columns
            parts.append(torch.empty(rows, 0))
    if f"{of}_labels" in tables:
        label = tables.whole(f"{of}_labels", np.int64, rows)
        parts += [_one_hot(column, f"{tables.names[0]}_{of}_labels.txt") for column in label.T]
    return torch.cat(parts, dim=1) if parts else None


def _one_hot(label: np.ndarray, name: str) -> Tensor:
    low, high = int(label.min()), int(label.max())
    if high - low >= _MAX_WIDTH:
        raise DataError(
            f"{name}: labels go from {low} to {high}, but each value between becomes a column of "
            f"features, and {_MAX_WIDTH} are the most. Renumber the labels."
        )
    out = torch.zeros(len(label), high - low + 1)
    column = torch.from_numpy(label - low)
    return out.scatter_(1, column[:, None], 1.0)


def _simple(
    pairs: Tensor, edge_attr: Tensor | None, num_nodes: int
) -> tuple[Tensor, Tensor | None]:
    from torch_geometric.utils import coalesce, remove_self_loops

    edge_index, edge_attr = remove_self_loops(pairs.t(), edge_attr)
    return coalesce(edge_index, edge_attr, num_nodes)


def _target_kind(tables: _Tables) -> tuple[str, type] | None:
    kinds = (("graph_attributes", np.float64), ("graph_labels", np.int64))
    return next((kind for kind in kinds if kind[0] in tables), None)


def _targets(tables: _Tables, num_graphs: int) -> Tensor | None:
    of = _target_kind(tables)
    if of is None:
        return None
    values = torch.from_numpy(tables.whole(*of, num_graphs)).squeeze(1)
    if of[1] is np.float64:
        return values.float()
    return values.unique(return_inverse=True)[1]
