"""The door: one function that refuses a ``Data`` no node classifier could learn from."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import DataError, GraphError
from ..graph import check_edge_index, check_range

if TYPE_CHECKING:
    from torch_geometric.data import Data

MASKS = ("train_mask", "val_mask", "test_mask")
TENSORS = ("x", "edge_index", "y", *MASKS)


def check(data: Data, *, allow_nonfinite: bool = False) -> Data:
    """``data`` itself if it is fit for node classification; else :class:`DataError` says why not.

    Wanted: x floating [N, F], edge_index int64 or int32 [2, E], y int64 [N] with -1 for unlabelled,
    and train_mask, val_mask, test_mask bool [N] or [N, S], disjoint, not empty, all on one device.
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
    _check_masks(masks, y)
    return data


def _check_tensors(data: Any) -> None:
    devices: dict[str, list[str]] = {}
    for name in TENSORS:
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
        devices.setdefault(str(value.device), []).append(name)
    if len(devices) > 1:
        found = "; ".join(f"{', '.join(names)} on {device}" for device, names in devices.items())
        raise DataError(f"All tensors must be on one device, got {found}. Use data.to(device).")


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
    finite = x.isfinite()
    if not allow_nonfinite and not finite.all():
        bad = (~finite).nonzero()
        node, feature = bad[0].tolist()
        raise DataError(
            f"x has {len(bad)} values that are NaN or Inf, the first is x[{node}, {feature}] = "
            f"{x[node, feature].item()}. Replace them, or pass allow_nonfinite=True "
            "(graphkit train: --allow-nonfinite)."
        )


def _check_edges(edge_index: Tensor, num_nodes: int) -> None:
    try:
        check_edge_index(edge_index)
        for row in (0, 1):
            check_range(edge_index[row], num_nodes, f"edge_index[{row}]", "nodes")
    except GraphError as error:
        raise DataError(str(error)) from None


def _check_y(y: Tensor, num_nodes: int, num_classes: Any) -> None:
    if list(y.shape) != [num_nodes]:
        remedy = "Use y.view(-1)." if y.numel() == num_nodes else "Use -1 for unlabelled nodes."
        raise DataError(
            f"y must have shape [{num_nodes}], one class per row of x, got {list(y.shape)}. "
            f"{remedy}"
        )
    if y.dtype != torch.int64:
        raise DataError(f"y must be int64 class numbers, got {y.dtype}. Use y.long().")
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


def _check_masks(masks: list[Tensor], y: Tensor) -> None:
    for name, mask in zip(MASKS, masks, strict=True):
        if mask.dtype != torch.bool:
            raise DataError(
                f"{name} must be bool, got {mask.dtype}. Use {name}.bool() for 0 and 1; "
                "node numbers need torch_geometric.utils.index_to_mask."
            )
        if mask.dim() not in (1, 2) or len(mask) != len(y):
            raise DataError(
                f"{name} must have shape [{len(y)}] or [{len(y)}, num_splits], "
                f"got {list(mask.shape)}. Give one entry per node."
            )
        if mask.shape != masks[0].shape:
            raise DataError(
                f"{name} has shape {list(mask.shape)} but {MASKS[0]} has {list(masks[0].shape)}. "
                "Give the masks the same splits."
            )
        _check_mask_content(name, mask.reshape(len(y), -1), y)
    _check_overlap([mask.reshape(len(y), -1) for mask in masks])


def _check_mask_content(name: str, mask: Tensor, y: Tensor) -> None:
    """``mask`` [N, S]: every split has a node, and every chosen node a label."""
    empty = (~mask.any(dim=0)).nonzero()
    if len(empty) or not mask.numel():
        which = f" in split {int(empty[0])}" if mask.size(1) > 1 and len(empty) else ""
        raise DataError(f"{name} selects no node{which}. Give each part at least one node.")
    unlabelled = (mask.any(dim=1) & (y < 0)).nonzero()
    if len(unlabelled):
        raise DataError(
            f"{name} selects {len(unlabelled)} nodes without a label, for example node "
            f"{int(unlabelled[0])} with y = -1. Leave unlabelled nodes out of the masks."
        )


def _check_overlap(masks: list[Tensor]) -> None:
    for first, second in ((0, 1), (0, 2), (1, 2)):
        both = (masks[first] & masks[second]).nonzero()
        if len(both):
            node, column = both[0].tolist()
            which = f" of split {column}" if masks[first].size(1) > 1 else ""
            raise DataError(
                f"{MASKS[first]} and {MASKS[second]} share {len(both)} nodes, for example node "
                f"{node}{which}. Scores on shared nodes are not comparable: make them disjoint."
            )
