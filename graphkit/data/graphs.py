"""A set of graphs as one block of tensors. (opt: torch_geometric)"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import DataError, GraphError
from ..graph import check_edge_index

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data

MASKS = ("train_mask", "val_mask", "test_mask")
_POINTERS = ("node_ptr", "edge_ptr")
_USUAL = ("x", "pos", "edge_attr", "y", *MASKS)
# where PyG's Data reads its number of nodes off; without these it has to be told
_COUNTED = ("x", "pos")


class GraphSet(Dataset):
    """Many graphs, held as a few tensors: ``graphs[i]`` is PyG's Data of graph i.

    A slice, a mask or numbers give another GraphSet; ``graphs[graphs.train_mask]`` is the training
    part. ``graphs.batch(ids)`` is PyG's Batch in a few index operations, without a Data for each
    graph. PyG's DataLoader takes a GraphSet as it is; the fast way to the same batches is::

        torch.utils.data.DataLoader(range(len(graphs)), 64, shuffle=True, collate_fn=graphs.batch)

    Attributes:
        node_ptr, edge_ptr: int64 [G + 1], where the nodes and edges of each graph begin.
        edge_index: int64 [2, E], numbered from 0 within each graph.
        x, pos, edge_attr, y: as in Data; x, pos of nodes, edge_attr of edges, y [G] or [G, T] of
            graphs. None where there is none.
        train_mask, val_mask, test_mask: bool [G] or [G, S], where there is a split.
        levels: for each other tensor whether its rows are "node", "edge" or "graph" rows. By name
            they are edges for ``edge_...``, graphs for y and the masks, else nodes.

    Raises :class:`DataError` for tensors whose lengths do not fit together.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        name: str = "",
        num_classes: int | None = None,
        levels: Mapping[str, str] | None = None,
    ) -> None:
        self.tensors = dict(tensors)
        self.name, self.num_classes = name, num_classes
        self.levels = {
            key: (levels or {}).get(key, _usual_level(key))
            for key in self.tensors
            if key not in (*_POINTERS, "edge_index")
        }
        _check_lengths(self.tensors, self.levels)

    @staticmethod
    def from_list(
        graphs: Iterable[Data],
        name: str = "",
        num_classes: int | None = None,
        *,
        exclude_keys: Sequence[str] = (),
    ) -> GraphSet:
        """The set of PyG's Data objects, which must have the same attributes, all tensors.

        Numbers become tensors [G]; of other tensors the first dimension counts the nodes, the
        edges, or is 1. ``exclude_keys`` are left out. Raises :class:`DataError` for anything else.
        """
        return _from_list(list(graphs), name, num_classes, exclude_keys)

    def __getattr__(self, key: str) -> Any:
        tensors = self.__dict__.get("tensors", {})
        if key in tensors:
            return tensors[key]
        if key in _USUAL and tensors:
            return None
        raise AttributeError(f"GraphSet has no {key!r}; it has {', '.join(tensors)}.")

    @property
    def num_features(self) -> int:
        """Columns of x; 0 without x."""
        return _width(self.x)

    @property
    def num_node_features(self) -> int:
        """PyG's other name of :attr:`num_features`."""
        return _width(self.x)

    @property
    def num_edge_features(self) -> int:
        """Columns of edge_attr; 0 without edge_attr."""
        return _width(self.edge_attr)

    @property
    def device(self) -> torch.device:
        return self.tensors["edge_index"].device

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GraphSet:
        """This set on ``device``."""
        moved = {
            key: value.to(device, non_blocking=non_blocking) for key, value in self.tensors.items()
        }
        return GraphSet(moved, self.name, self.num_classes, self.levels)

    def __len__(self) -> int:
        return len(self.tensors["node_ptr"]) - 1

    def __iter__(self) -> Iterator[Data]:
        return (self._data(number) for number in range(len(self)))

    def __getitem__(self, which: Any) -> Any:
        number = _one_number(which)
        if number is None:
            return self._subset(self._numbers(which))
        if not -len(self) <= number < len(self):
            raise IndexError(f"GraphSet holds {len(self)} graphs, got number {number}.")
        return self._data(number % len(self))

    def batch(self, graph_id: Tensor | Sequence[int] | slice) -> Batch:
        """PyG's Batch of the graphs ``graph_id``, equal to ``Batch.from_data_list`` of them.

        Raises :class:`DataError` if there are none, IndexError for a number outside the set.
        """
        from torch_geometric.data import Batch

        part = self._subset(self._numbers(graph_id))
        if not len(part):
            raise DataError("GraphSet.batch: got no graph numbers, but a batch needs at least one.")
        node_ptr, edge_ptr = part.tensors["node_ptr"], part.tensors["edge_ptr"]
        num_nodes, graph = node_ptr.diff(), torch.arange(len(part) + 1, device=self.device)
        edges, total = part.tensors["edge_index"], part.tensors["edge_index"].size(1)
        offset = torch.repeat_interleave(node_ptr[:-1], edge_ptr.diff(), output_size=total)
        rest = {key: part.tensors[key] for key in part.levels if key not in MASKS}
        out: Any = Batch(edge_index=edges + offset, **rest)
        if not any(key in rest for key in _COUNTED):
            out._num_nodes, out.num_nodes = num_nodes.tolist(), int(node_ptr[-1])
        out.batch = torch.repeat_interleave(graph[:-1], num_nodes, output_size=int(node_ptr[-1]))
        out.ptr = node_ptr
        # with these, batch[i] and to_data_list take the batch apart again
        begin = {"node": node_ptr, "edge": edge_ptr, "graph": graph}
        out._num_graphs = len(part)
        out._slice_dict = {"edge_index": edge_ptr, **{k: begin[part.levels[k]] for k in rest}}
        out._inc_dict = {
            "edge_index": node_ptr[:-1],
            **dict.fromkeys(rest, graph.new_zeros(len(part))),
        }
        return out

    def _numbers(self, which: Any) -> Tensor:
        """Graph numbers from 0, of a slice, a mask, or numbers that may count from the end."""
        if isinstance(which, slice):
            # numpy's range may run backwards and be empty, torch's may not
            return torch.from_numpy(np.arange(*which.indices(len(self)), dtype=np.int64)).to(
                self.device
            )
        numbers = _index_tensor(which).to(self.device)
        if numbers.dtype == torch.bool:
            if numbers.shape != (len(self),):
                raise DataError(
                    f"GraphSet: a mask must have shape [{len(self)}], got {list(numbers.shape)}. "
                    "Take one column of masks with several splits."
                )
            return numbers.nonzero().view(-1)
        outside = (numbers < -len(self)) | (numbers >= len(self))
        if outside.any():
            raise IndexError(
                f"GraphSet holds {len(self)} graphs, got number {int(numbers[outside][0])}."
            )
        return torch.where(numbers < 0, numbers + len(self), numbers)

    def _data(self, number: int) -> Data:
        from torch_geometric.data import Data

        first, last = self.tensors["node_ptr"][number : number + 2].tolist()
        start, end = self.tensors["edge_ptr"][number : number + 2].tolist()
        spans = {
            "node": slice(first, last),
            "edge": slice(start, end),
            "graph": slice(number, number + 1),
        }
        kept = {
            key: self.tensors[key][spans[level]]
            for key, level in self.levels.items()
            if key not in MASKS
        }
        out = Data(edge_index=self.tensors["edge_index"][:, start:end], **kept)
        if not any(key in kept for key in _COUNTED):
            out.num_nodes = last - first
        return out

    def _subset(self, graph_id: Tensor) -> GraphSet:
        nodes, node_ptr = _spans(self.tensors["node_ptr"], graph_id)
        edges, edge_ptr = _spans(self.tensors["edge_ptr"], graph_id)
        rows = {"node": nodes, "edge": edges, "graph": graph_id}
        out = {
            "node_ptr": node_ptr,
            "edge_ptr": edge_ptr,
            "edge_index": self.tensors["edge_index"][:, edges],
        }
        out |= {key: self.tensors[key][rows[level]] for key, level in self.levels.items()}
        return GraphSet(out, self.name, self.num_classes, self.levels)

    def __repr__(self) -> str:
        return f"GraphSet({self.name!r}, {len(self)} graphs)"


def _usual_level(key: str) -> str:
    return "edge" if key.startswith("edge_") else "graph" if key in ("y", *MASKS) else "node"


def _width(value: Tensor | None) -> int:
    return 0 if value is None else value.size(1) if value.dim() > 1 else 1


def _one_number(which: Any) -> int | None:
    """``which`` as a number if it is one, also numpy's, or a tensor's without dimensions."""
    if getattr(which, "ndim", 0) or isinstance(which, slice):
        return None
    try:
        return operator.index(which)
    except TypeError:
        return None


def _index_tensor(which: Any) -> Tensor:
    try:
        numbers = which if isinstance(which, Tensor) else torch.from_numpy(np.asarray(which))
    except (TypeError, ValueError):
        numbers = torch.empty(0, 0, 0)
    if numbers.dtype == torch.bool:
        return numbers
    if not numbers.numel() and numbers.dim() == 1:
        return numbers.long()
    if numbers.dim() != 1 or numbers.is_floating_point() or numbers.is_complex():
        raise DataError(
            f"GraphSet takes a number, a slice, a mask or numbers of one dimension, got {which!r}. "
            "Use x, y or edge_index for tensors of the whole set."
        )
    return numbers.long()


def _spans(ptr: Tensor, graph_id: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the graphs ``graph_id`` in the order asked for, and where each begins."""
    size = ptr.diff()[graph_id]
    begin = torch.cat([size.new_zeros(1), size.cumsum(0)])
    total = int(begin[-1])
    shift = torch.repeat_interleave(ptr[graph_id] - begin[:-1], size, output_size=total)
    return torch.arange(total, device=ptr.device) + shift, begin


def _check_lengths(tensors: Mapping[str, Tensor], levels: Mapping[str, str]) -> None:
    for key in (*_POINTERS, "edge_index"):
        if key not in tensors:
            raise DataError(f"GraphSet: {key} is missing, got {', '.join(tensors)}. Give it.")
    counts = {}
    for key, level in zip(_POINTERS, ("node", "edge"), strict=True):
        ptr = tensors[key]
        if ptr.dim() != 1 or not len(ptr) or ptr.dtype != torch.int64:
            raise DataError(
                f"GraphSet: {key} must be int64 of shape [graphs + 1], got {ptr.dtype} of shape "
                f"{list(ptr.shape)}."
            )
        falls = (ptr.diff() < 0).nonzero()
        if ptr[0] != 0 or len(falls):
            place = int(falls[0]) + 1 if len(falls) else 0
            raise DataError(
                f"GraphSet: {key} must start at 0 and never fall, got {key}[{place}] = "
                f"{int(ptr[place])}."
            )
        counts[level] = int(ptr[-1])
    counts["graph"] = len(tensors["node_ptr"]) - 1
    if len(tensors["edge_ptr"]) != len(tensors["node_ptr"]):
        raise DataError(
            f"GraphSet: node_ptr tells of {counts['graph']} graphs and edge_ptr of "
            f"{len(tensors['edge_ptr']) - 1}. Give both one entry per graph and one more."
        )
    if tensors["edge_index"].shape != (2, counts["edge"]):
        raise DataError(
            f"GraphSet: edge_index has shape {list(tensors['edge_index'].shape)}, but edge_ptr "
            f"asks for [2, {counts['edge']}]."
        )
    for key, level in levels.items():
        value = tensors[key]
        if not value.dim() or len(value) != counts[level]:
            raise DataError(
                f"GraphSet: {key} has shape {list(value.shape)}, but there are {counts[level]} "
                f"{level}s. Give one row per {level}, or say in levels what the rows are."
            )


def _from_list(
    graphs: list[Any], name: str, num_classes: int | None, exclude_keys: Sequence[str]
) -> GraphSet:
    from torch_geometric.data import Data

    if not graphs:
        raise DataError("GraphSet.from_list: the list is empty. Give at least one graph.")
    for number, graph in enumerate(graphs):
        if not isinstance(graph, Data):
            raise DataError(
                f"GraphSet.from_list: graph {number} is a {type(graph).__name__}, but a "
                "torch_geometric.data.Data is expected."
            )
    left_out = {"num_nodes", "edge_index", *exclude_keys}
    # PyG gives the keys in the order of a set
    keys = sorted(key for key in graphs[0].keys() if key not in left_out)
    for number, graph in enumerate(graphs):
        _check_keys(number, graph, keys, left_out)
    sizes = {
        "node": [graph.num_nodes for graph in graphs],
        "edge": [graph.edge_index.size(1) for graph in graphs],
        "graph": [1] * len(graphs),
    }
    tensors, levels = {}, {}
    for key in keys:
        values = [_value(number, key, graph[key]) for number, graph in enumerate(graphs)]
        levels[key] = _found_level(key, values, sizes)
        tensors[key] = torch.cat(values)
    tensors["edge_index"] = torch.cat([graph.edge_index.long() for graph in graphs], dim=1)
    device = tensors["edge_index"].device
    for key, level in zip(_POINTERS, ("node", "edge"), strict=True):
        tensors[key] = torch.tensor([0, *sizes[level]], device=device).cumsum(0)
    return GraphSet(tensors, name, num_classes, levels)


def _check_keys(number: int, graph: Data, keys: list[str], left_out: set[str]) -> None:
    where = f"GraphSet.from_list: graph {number}"
    try:
        if graph.edge_index is None:
            raise GraphError("has no edge_index. Set one, [2, 0] if there are no edges.")
        check_edge_index(graph.edge_index)
    except GraphError as error:
        raise DataError(f"{where}: {error}") from None
    found = {key for key in graph.keys() if key not in left_out}
    if found != set(keys):
        raise DataError(
            f"{where} has {', '.join(sorted(found)) or 'no attributes'}, but graph 0 has "
            f"{', '.join(sorted(keys)) or 'none'}. Give all graphs the same, or pass exclude_keys."
        )


def _value(number: int, key: str, value: Any) -> Tensor:
    """The attribute as a tensor with at least one dimension."""
    if "index" in key or "batch" in key or key in ("face", "ptr"):
        raise DataError(
            f"GraphSet.from_list: PyG renumbers {key!r} in a batch, which a GraphSet does for "
            "edge_index alone. Rename it, or pass exclude_keys."
        )
    if isinstance(value, (bool, int, float)):
        return torch.tensor([value])
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        kind = value.layout if isinstance(value, Tensor) else type(value).__name__
        raise DataError(
            f"GraphSet.from_list: {key} of graph {number} is {kind}, but a dense tensor or a "
            f"number is expected. Convert it, or pass exclude_keys=[{key!r}]."
        )
    return value.view(1) if not value.dim() else value


def _found_level(key: str, values: list[Tensor], sizes: Mapping[str, list[int]]) -> str:
    """What the rows of an attribute are, by their number; where two fit, the name decides."""
    first = values[0]
    for number, value in enumerate(values):
        if (value.dtype, value.shape[1:]) != (first.dtype, first.shape[1:]):
            raise DataError(
                f"GraphSet.from_list: {key} of graph {number} is {value.dtype} of shape "
                f"{list(value.shape)}, but of graph 0 it is {first.dtype} of shape "
                f"{list(first.shape)}. Give them one dtype and the same columns."
            )
    found = [len(value) for value in values]
    for level in (_usual_level(key), "node", "edge", "graph"):
        if found == sizes[level]:
            return level
    odd = next(k for k, n in enumerate(found) if n != sizes[_usual_level(key)][k])
    raise DataError(
        f"GraphSet.from_list: {key} of graph {odd} has shape {list(values[odd].shape)}, which is "
        f"a row neither for each of its {sizes['node'][odd]} nodes, nor of its "
        f"{sizes['edge'][odd]} edges, nor one for the graph. Use {key}.view(1, -1) for one row."
    )
