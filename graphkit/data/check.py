"""The doors: functions that refuse a ``Data`` or graphs that no model could learn from."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import DataError, GraphError
from ..graph import check_edge_index, check_range
from .graphs import MASKS, GraphSet

if TYPE_CHECKING:
    from torch_geometric.data import Data

TENSORS = ("x", "edge_index", "y", *MASKS)


def check(data: Data, *, allow_nonfinite: bool = False) -> Data:
    """``data`` itself if it is fit for learning on its nodes; else :class:`DataError` says why not.

    Wanted: x floating [N, F], edge_index int64 or int32 [2, E], y int64 [N] of classes with -1 for
    unlabelled, or floating [N, T] of values or 0 and 1 with NaN for unknown ([N] too, unless all of
    them are whole: those look like classes), and train_mask, val_mask, test_mask bool [N] or
    [N, S], disjoint, not empty, of nodes with a known label, all on one device.
    ``allow_nonfinite`` accepts NaN and Inf in x.
    """
    _check_tensors(data)
    x, edge_index, y, *masks = (getattr(data, name) for name in TENSORS)
    _check_x(x, allow_nonfinite)
    if len(x) != data.num_nodes:
        raise DataError(
            f"x has {len(x)} rows but data.num_nodes is {data.num_nodes}. Give every node a row, "
            "or unset num_nodes."
        )
    _check_edges(edge_index, len(x))
    _check_y(y, len(x), getattr(data, "num_classes", None))
    named: dict[str, Tensor] = dict(zip(MASKS, masks, strict=True))
    _check_masks(named, len(x))
    _check_chosen(named, y)
    return data


def check_graphs(
    graphs: GraphSet | Iterable[Data], *, allow_nonfinite: bool = False, labelled: bool = True
) -> GraphSet:
    """The set of ``graphs`` if it is fit for learning on whole graphs; else :class:`DataError`.

    Wanted: a node or more in every graph, edge_index within it, y int64 [G] of classes with -1 for
    unlabelled, or numbers [G] or [G, T] with NaN for missing. Where there are any: x [N, F] and
    edge_attr [E, D], and all of train_mask, val_mask, test_mask bool [G] or [G, S], disjoint, not
    empty. All on one device. ``allow_nonfinite`` accepts NaN and Inf in x and edge_attr.
    ``labelled=False`` is for graphs to predict: y may be missing, and masks may be empty or select
    graphs without a label.
    """
    found = _graph_set(graphs)
    _check_devices(found.tensors, "graphs")
    empty = (found.node_ptr.diff() == 0).nonzero()
    if not len(found) or len(empty):
        which = f"graph {int(empty[0])} has no nodes" if len(empty) else "there are no graphs"
        raise DataError(f"{which}, but every graph needs a node. Leave empty graphs out.")
    _check_graph_edges(found)
    for name, ptr in (("x", found.node_ptr), ("edge_attr", found.edge_ptr)):
        value = getattr(found, name)
        if value is not None:
            _check_rows(name, value, ptr, allow_nonfinite)
    known = _check_targets(found) if labelled or found.y is not None else None
    masks = {name: found.tensors[name] for name in MASKS if name in found.tensors}
    missing = [name for name in MASKS if name not in masks]
    if missing and masks:
        raise DataError(
            f"GraphSet has no {missing[0]}, but another mask. Give all of {', '.join(MASKS)}, or "
            "none; graphkit.data.random_split makes them."
        )
    _check_masks(masks, len(found), "graph")
    if labelled and known is not None:
        _check_chosen(masks, known.long() - 1, "graph")
    return found


def _graph_set(graphs: Any) -> GraphSet:
    if isinstance(graphs, GraphSet):
        return graphs
    # a Data is iterable too, over its attributes
    if not isinstance(graphs, Iterable) or hasattr(graphs, "edge_index"):
        raise DataError(
            f"graphs is one {type(graphs).__name__}, but a GraphSet or a list of "
            "torch_geometric.data.Data is expected. Put a single graph into a list."
        )
    return GraphSet.from_list(graphs)


def _check_graph_edges(graphs: GraphSet) -> None:
    edge_index, size = graphs.edge_index, graphs.node_ptr.diff()
    try:
        check_edge_index(edge_index)
    except GraphError as error:
        raise DataError(str(error)) from None
    graph = torch.repeat_interleave(graphs.edge_ptr.diff(), output_size=edge_index.size(1))
    bad = ((edge_index < 0) | (edge_index >= size[graph])).t().nonzero()
    if len(bad):
        edge, row = bad[0].tolist()
        number = int(graph[edge])
        raise DataError(
            f"edge_index[{row}, {edge - int(graphs.edge_ptr[number])}] of graph {number} is "
            f"{int(edge_index[row, edge])}, but the graph has {int(size[number])} nodes (valid: 0 "
            f"to {int(size[number]) - 1}). Number the nodes of each graph from 0."
        )


def _check_rows(name: str, value: Tensor, ptr: Tensor, allow_nonfinite: bool) -> None:
    if value.dim() != 2:
        raise DataError(
            f"{name} must have two dimensions, a row of numbers for each node or edge, got shape "
            f"{list(value.shape)}. Use {name}.view(-1, 1) for one number."
        )
    bad = (~value.isfinite()).nonzero()
    if len(bad) and not allow_nonfinite:
        row, column = bad[0].tolist()
        number = int(torch.searchsorted(ptr, row, right=True)) - 1
        first = f"{name}[{row - int(ptr[number])}, {column}] = {value[row, column].item()}"
        raise DataError(
            f"{name} has {len(bad)} values that are NaN or Inf, the first is {first} of graph "
            f"{number}. Replace them, or pass allow_nonfinite=True."
        )


def _check_targets(graphs: GraphSet) -> Tensor:
    """Bool [G]: which graphs have a label."""
    y = graphs.y
    if y is None:
        raise DataError("GraphSet has no y. Give every graph its class or its numbers in y.")
    if graphs.levels["y"] != "graph" or y.dim() > 2:
        raise DataError(
            f"y must have shape [{len(graphs)}] or [{len(graphs)}, targets], a row per graph, got "
            f"{list(y.shape)} with a row per {graphs.levels['y']}. Use one row for each graph."
        )
    if y.dim() == 1 and not y.is_floating_point():
        if y.dtype != torch.int64:
            raise DataError(f"y must be int64 class numbers, got {y.dtype}. Use y.long().")
        _check_classes(y, graphs.num_classes)
        return y >= 0
    if y.isinf().any():
        raise DataError(
            f"y has {int(y.isinf().sum())} infinite values, the first in graph "
            f"{int(y.isinf().nonzero()[0, 0])}. Use NaN for what is not known."
        )
    return ~y.isnan().view(len(graphs), -1).all(dim=1)


def check_inputs(data: Data, *, allow_nonfinite: bool = False) -> Data:
    """``data`` itself if a node model can be applied to it; else :class:`DataError` says why not.

    Of what :func:`check` wants, x and edge_index. Where there are any: y with a row for each node,
    and masks that are bool and disjoint; these may be empty or select nodes without a label.
    """
    brought = [name for name in TENSORS[2:] if getattr(data, name, None) is not None]
    _check_tensors(data, ("x", "edge_index", *brought))
    _check_x(data["x"], allow_nonfinite)
    size = len(data["x"])
    _check_edges(data["edge_index"], size)
    if "y" in brought and (data["y"].dim() not in (1, 2) or len(data["y"]) != size):
        raise DataError(
            f"y must have shape [{size}] or [{size}, T], a row for each row of x, got "
            f"{list(data['y'].shape)}. Use -1 for nodes of no known class, NaN for other labels "
            "that are not known."
        )
    _check_masks({name: data[name] for name in brought if name in MASKS}, size)
    return data


def check_finite(x: Tensor, remedy: str = "") -> None:
    """Raise :class:`DataError` naming the first of the features ``x [N, F]`` that is NaN or Inf."""
    finite = x.isfinite()
    if finite.all():
        return
    bad = (~finite).nonzero()
    node, feature = bad[0].tolist()
    raise DataError(
        f"x has {len(bad)} values that are NaN or Inf, the first is x[{node}, {feature}] = "
        f"{x[node, feature].item()}. Replace them{remedy}."
    )


def refuse_other_kinds(data: Any) -> None:
    """Raise :class:`DataError` for objects that are no graph of one kind of nodes and edges."""
    kinds = {kind.__name__ for kind in type(data).__mro__}
    other = kinds & {"HyperGraphData", "HeteroData", "TemporalData", "GraphSet"}
    if other:
        raise DataError(
            f"A {other.pop()} is not one graph of nodes and edges, which is expected: its pairs "
            "would be taken for edges. Give a torch_geometric.data.Data."
        )


def _check_tensors(data: Any, needed: tuple[str, ...] = TENSORS) -> None:
    refuse_other_kinds(data)
    found: dict[str, Tensor] = {}
    for name in needed:
        value = getattr(data, name, None)
        if value is None:
            raise DataError(
                f"{type(data).__name__} has no {name}. Set data.{name} before; "
                "graphkit.data.check lists what is needed, graphkit.data.random_split makes masks."
            )
        if not isinstance(value, Tensor):
            raise DataError(
                f"{name} must be a tensor, got {type(value).__name__}. Use torch.as_tensor({name})."
            )
        found[name] = value
    _check_devices(found, "data")


def _check_devices(tensors: Mapping[str, Tensor], of: str) -> None:
    devices: dict[str, list[str]] = {}
    for name, value in tensors.items():
        devices.setdefault(str(value.device), []).append(name)
    if len(devices) > 1:
        found = "; ".join(f"{', '.join(names)} on {device}" for device, names in devices.items())
        raise DataError(f"All tensors must be on one device, got {found}. Use {of}.to(device).")


def _check_x(x: Tensor, allow_nonfinite: bool) -> None:
    if x.layout != torch.strided:
        raise DataError(f"x must be dense, got layout {x.layout}. Use x.to_dense().")
    if x.dim() != 2:
        raise DataError(
            f"x must have shape [num_nodes, num_features], got {list(x.shape)}. "
            "Use x.view(-1, 1) for one feature per node."
        )
    if not x.is_floating_point():
        raise DataError(f"x must be floating point, got {x.dtype}. Use x.float().")
    if not len(x):
        raise DataError(f"x has shape {list(x.shape)}: no nodes. Give every node a row.")
    if not allow_nonfinite:
        check_finite(x, ", or pass allow_nonfinite=True (graphkit train: --allow-nonfinite)")


def _check_edges(edge_index: Tensor, num_nodes: int) -> None:
    try:
        check_edge_index(edge_index)
        for row in (0, 1):
            check_range(edge_index[row], num_nodes, f"edge_index[{row}]", "nodes")
    except GraphError as error:
        raise DataError(str(error)) from None


def _check_y(y: Tensor, num_nodes: int, num_classes: Any) -> None:
    if y.is_floating_point() and y.dim() in (1, 2) and len(y) == num_nodes:
        _check_values(y)
        return
    if list(y.shape) != [num_nodes]:
        remedy = "Use y.view(-1)." if y.numel() == num_nodes else "Use -1 for unlabelled nodes."
        raise DataError(
            f"y must have shape [{num_nodes}], one class per row of x, got {list(y.shape)}. "
            f"{remedy}"
        )
    if y.dtype != torch.int64:
        raise DataError(f"y must be int64 class numbers, got {y.dtype}. Use y.long().")
    _check_classes(y, num_classes)


def _check_values(y: Tensor) -> None:
    """Floating labels, [N] or [N, T]: values, or 0 and 1."""
    if y.isinf().any():
        first = y.isinf().nonzero()[0].tolist()
        raise DataError(
            f"y has {int(y.isinf().sum())} infinite values, the first is y{first}. "
            "Use NaN for what is not known."
        )
    if y.dim() == 1 and bool((y == y.trunc())[~y.isnan()].all()):
        raise DataError(
            f"y must be int64 class numbers, got {y.dtype}. Use y.long(), or y.view(-1, 1) if "
            "these are values or labels of 0 and 1."
        )


def _check_classes(y: Tensor, num_classes: Any) -> None:
    bad = (y < -1).nonzero()
    if len(bad):
        node = int(bad[0])
        raise DataError(
            f"y[{node}] = {int(y[node])}, but classes count from 0 and -1 stands for unlabelled. "
            "Renumber the classes."
        )
    highest = int(y.max())
    if num_classes is None:
        _check_gaps(y, highest)
        return
    try:
        count = operator.index(num_classes)
    except TypeError:
        raise DataError(
            f"data.num_classes is {num_classes!r}, but a whole number is expected. "
            "Correct it, or delete it to count the classes in y."
        ) from None
    if highest >= count:
        node = int(y.argmax())
        raise DataError(
            f"y[{node}] = {highest}, but there are {count} classes, 0 .. {count - 1}. "
            "Renumber the classes, or correct data.num_classes."
        )


def _check_gaps(y: Tensor, highest: int) -> None:
    """Labels that are no class numbers (years, identifiers) would make a layer of that width."""
    distinct = len(y[y >= 0].unique())
    if highest + 1 > 10 * distinct > 0:
        raise DataError(
            f"y has {distinct} distinct labels up to {highest}, but labels must be 0 .. C-1; "
            "relabel with torch.unique(y, return_inverse=True)[1], or set data.num_classes if "
            "the classes between exist."
        )


def _check_masks(masks: Mapping[str, Tensor], size: int, item: str = "node") -> None:
    """``masks`` are bool [size] or [size, S], of one shape and disjoint."""
    first = next(iter(masks), "")
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            raise DataError(
                f"{name} must be bool, got {mask.dtype}. Use {name}.bool() for 0 and 1; "
                f"{item} numbers need torch_geometric.utils.index_to_mask."
            )
        if mask.dim() not in (1, 2) or len(mask) != size:
            raise DataError(
                f"{name} must have shape [{size}] or [{size}, num_splits], "
                f"got {list(mask.shape)}. Give one entry per {item}."
            )
        if mask.shape != masks[first].shape:
            raise DataError(
                f"{name} has shape {list(mask.shape)} but {first} has {list(masks[first].shape)}. "
                "Give the masks the same splits."
            )
    for one, other in itertools.combinations(masks, 2):
        both = (masks[one] & masks[other]).reshape(size, -1).nonzero()
        if len(both):
            place, column = both[0].tolist()
            which = f" of split {column}" if masks[one].dim() > 1 and len(masks[one][0]) > 1 else ""
            raise DataError(
                f"{one} and {other} share {len(both)} {item}s, for example {item} "
                f"{place}{which}. Scores on shared {item}s are not comparable: make them disjoint."
            )


def check_types(
    features: Mapping[str, Tensor],
    num_nodes: Mapping[str, int],
    target: str,
    y: Tensor,
    masks: Mapping[str, Tensor],
    allow_nonfinite: bool = False,
) -> None:
    """Features of several types of nodes, and labels and masks of one: as :func:`check` has them.

    Raises:
        DataError: the first thing that is wrong, naming the type of nodes.
    """
    kind = target
    try:
        for kind, x in features.items():
            _check_x(x, allow_nonfinite)
            if len(x) != num_nodes[kind]:
                raise DataError(f"x has {len(x)} rows, but there are {num_nodes[kind]} nodes.")
        kind = target
        _check_y(y, num_nodes[target], None)
        _check_masks(masks, num_nodes[target])
        _check_chosen(masks, y)
    except DataError as error:
        raise DataError(f"data[{kind!r}]: {error}") from None


def _check_chosen(masks: Mapping[str, Tensor], y: Tensor, item: str = "node") -> None:
    """Every split of every mask has an item, and every chosen item a label."""
    values = y.is_floating_point()
    unknown = y.isnan().reshape(len(y), -1).all(dim=1) if values else y < 0
    for name, whole in masks.items():
        mask = whole.reshape(len(y), -1)
        empty = (~mask.any(dim=0)).nonzero()
        if len(empty) or not mask.numel():
            which = f" in split {int(empty[0])}" if mask.size(1) > 1 and len(empty) else ""
            raise DataError(f"{name} selects no {item}{which}. Give each part at least one {item}.")
        unlabelled = (mask.any(dim=1) & unknown).nonzero()
        if len(unlabelled):
            raise DataError(
                f"{name} selects {len(unlabelled)} {item}s without a label, for example {item} "
                f"{int(unlabelled[0])} with y = {'NaN' if values else -1}. "
                f"Leave unlabelled {item}s out of the masks."
            )
