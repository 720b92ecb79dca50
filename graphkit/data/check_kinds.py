"""Doors for a user's own links, events and hypergraphs, beside :func:`graphkit.data.check`.
(opt: torch_geometric)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, GraphError
from ..graph import check_edge_index, check_range
from ..structure import as_hypergraph, check_hyperedge_weight
from .check import TENSORS, check, check_inputs
from .links import LINK_TASKS, directed_link_label

PARTS = ("train", "valid", "test")


def among(key: Tensor, known: Tensor) -> Tensor:
    """Which of ``key [n]`` are among ``known``, which rises: bool ``[n]``."""
    if not len(known):
        return torch.zeros_like(key, dtype=torch.bool)
    return known[torch.searchsorted(known, key).clamp_(max=len(known) - 1)] == key


def pair_key(pairs: Tensor, num_nodes: int, directed: bool) -> Tensor:
    """One number for each of ``pairs [n, 2]``; if not ``directed``, the same either way round."""
    if directed:
        return pairs[:, 0] * num_nodes + pairs[:, 1]
    return pairs.amin(dim=1) * num_nodes + pairs.amax(dim=1)


def check_links(data: Any) -> Any:
    """``data`` itself if a link predictor may be measured on it; else :class:`DataError` says why.

    Wanted: edge_index int64 or int32 [2, E], and ``split_edge`` with the parts train, valid, test,
    whose ``edge`` and ``edge_neg`` (needed in valid and test) are int64 [n, 2]. No edge of valid or
    test may be in edge_index or in an earlier part, and no negative may be a positive of any part.
    Where edge_index holds every edge in both directions, a pair and its reverse are the same.
    """
    num_nodes = _num_nodes(data)
    edge = _index(data, num_nodes, num_nodes).t().long()
    parts = getattr(data, "split_edge", None)
    if not isinstance(parts, dict) or set(parts) != set(PARTS):
        found = sorted(parts) if isinstance(parts, dict) else type(parts).__name__
        raise DataError(
            f"data.split_edge must be a dict of train, valid and test, got {found}. "
            "graphkit.data.random_link_split makes one."
        )
    directed = not _both_ways(edge, num_nodes)

    def keys(part: str, name: str) -> Tensor:
        pairs = _pairs(parts[part], f"split_edge[{part!r}][{name!r}]", name, num_nodes)
        return pair_key(pairs, num_nodes, directed)

    positive = {f"split_edge[{part!r}]['edge']": keys(part, "edge") for part in PARTS}
    messages = {"edge_index": pair_key(edge, num_nodes, directed)}
    train, valid, test = positive
    _disjoint(valid, positive[valid], messages | {train: positive[train]}, num_nodes)
    earlier = {train: positive[train], valid: positive[valid]}
    _disjoint(test, positive[test], messages | earlier, num_nodes)
    for part in PARTS:
        if part != "train" or "edge_neg" in parts[part]:
            name = f"split_edge[{part!r}]['edge_neg']"
            _disjoint(name, keys(part, "edge_neg"), positive, num_nodes)
    return data


def check_messages(edge_index: Tensor, num_nodes: int, held: Mapping[str, Tensor]) -> None:
    """Raise :class:`DataError`, with the count and the first, if a held-out link is a message.

    ``edge_index [2, E]`` are the edges that messages run on, ``held`` names links [n, 2]. Where
    messages go both ways along every edge, a link and its reverse are the same; else the reverse of
    a link is another one.
    """
    edge = edge_index.t().long()
    directed = not _both_ways(edge, num_nodes)
    # the fewer are sorted, and looked up among by the many
    key = pair_key(edge, num_nodes, directed)
    for name, pairs in held.items():
        wanted = pair_key(pairs.long(), num_nodes, directed)
        known = key[among(key, wanted.sort().values)]
        found = pairs[torch.isin(wanted, known)]
        if len(found):
            src, dst = found[0].tolist()
            raise DataError(
                f"{len(found)} of {len(pairs)} links of {name} are among the edges that messages "
                f"run on, for example {src} to {dst}: a model would see what it is asked. "
                "Remove them from edge_index."
            )


def check_directed_links(
    edge_index: Tensor,
    num_nodes: int,
    messages: Tensor,
    split: Mapping[str, Mapping[str, Tensor]],
    task: str,
) -> None:
    """Raise :class:`DataError`, which names a pair, unless a division of ``edge_index`` is sound.

    ``messages`` and ``split`` are what :func:`graphkit.data.directed_link_split` returns, for the
    same ``task``. Messages run on edges of ``edge_index``. No pair of nodes of val or test is
    joined by a message or is in an earlier part, in either order. Each label is what all edges say:
    a pair of the class "no link" has no edge in either direction. Classes are equally large.
    """
    edges = pair_key(edge_index.t().long(), num_nodes, True)
    stray = messages[:, ~torch.isin(pair_key(messages.t(), num_nodes, True), edges)]
    if stray.size(1):
        src, dst = stray[:, 0].tolist()
        raise DataError(
            f"Messages run along {stray.size(1)} edges that are not in edge_index, for example "
            f"from {src} to {dst}. Let them run along training edges."
        )
    known = {"the messages": pair_key(messages.t(), num_nodes, False)}
    for part, of in split.items():
        name, pairs, label = f"split[{part!r}]", of["edge_label_index"], of["edge_label"]
        key = pair_key(pairs.t(), num_nodes, False)
        # the training pairs are those that messages run between
        _disjoint(name, key, {} if part == "train" else known, num_nodes)
        known[name] = key
        wanted = directed_link_label(pairs, edge_index.long(), num_nodes, task)
        wrong = (wanted != label).nonzero()
        if len(wrong):
            at = int(wrong[0])
            src, dst = pairs[:, at].tolist()
            names = ("nothing to ask", *LINK_TASKS[task])
            raise DataError(
                f"{name} says of {src} and {dst} {names[int(label[at]) + 1]!r}, but by edge_index "
                f"they are {names[int(wanted[at]) + 1]!r}; {len(wrong)} pairs are so. Correct them."
            )
        sizes = torch.bincount(label, minlength=len(LINK_TASKS[task])).tolist()
        if len(set(sizes)) > 1 or not sizes[0]:
            raise DataError(
                f"{name} has {sizes} pairs of {', '.join(LINK_TASKS[task])}, but as many of each "
                "are expected, and some. Draw them so."
            )


def check_events(data: Any) -> Any:
    """``data`` itself if it is a stream of events fit for training; else :class:`DataError`.

    Wanted: src and dst int64 [events] of 0 or more, t [events] that never falls, msg floating
    [events, F] if there is one, all of one length.
    """
    src, dst, t = (_events(data, name) for name in ("src", "dst", "t"))
    msg = getattr(data, "msg", None)
    for name, value in (("src", src), ("dst", dst), ("msg", t if msg is None else msg)):
        if len(value) != len(t):
            raise DataError(
                f"{name} has {len(value)} entries but t has {len(t)}. Give every event one of each."
            )
    for name, node in (("src", src), ("dst", dst)):
        if node.dtype != torch.int64 or int(node.min()) < 0:
            raise DataError(
                f"{name} must be int64 node numbers of 0 or more, got {node.dtype} from "
                f"{node.min().item()}. Number the nodes from 0."
            )
    if msg is not None and (msg.dim() != 2 or not msg.is_floating_point()):
        raise DataError(
            f"msg must be floating point [events, F], got {msg.dtype} of shape {list(msg.shape)}. "
            "Use msg.float().view(len(msg), -1)."
        )
    falls = (t.diff() < 0).nonzero()
    if len(falls):
        event = int(falls[0])
        raise DataError(
            f"t falls from {t[event].item()} to {t[event + 1].item()} after event {event}, but "
            "events must be in the order of their times. "
            "Select them with t.argsort(stable=True)."
        )
    return data


def check_hypergraph(data: Any, *, labelled: bool = False, allow_nonfinite: bool = False) -> Any:
    """``data`` itself if it is a hypergraph to learn on; else :class:`DataError` says why not.

    Wanted: edge_index int64 or int32 [2, I], row 0 nodes, row 1 hyperedges numbered from 0, no pair
    twice. A hyperedge may be without members if ``num_hyperedges`` counts them. Where there are
    any: hyperedge_weight floating [M], finite and at least 0; x, y and masks as
    :func:`graphkit.data.check_inputs` wants them, or :func:`graphkit.data.check`, which needs y and
    masks, if they must be ``labelled``. x may be absent. ``allow_nonfinite`` accepts NaN and Inf
    in it.
    """
    # what HyperGraphData.num_nodes returns is a guess in PyG 2.8
    num_nodes = data["num_nodes"] if "num_nodes" in data else len(data.x)
    edge_index = _index(data, num_nodes, None)
    node, hyperedge = edge_index.long()
    pair = hyperedge * num_nodes + node
    if len(pair.unique()) < len(pair):
        raise DataError(
            f"edge_index has {len(pair)} incidences but {len(pair.unique())} different ones. "
            "Use torch.unique(edge_index, dim=1)."
        )
    size = torch.bincount(hyperedge)
    told = getattr(data, "num_hyperedges", None)
    if told is None and (not len(size) or not bool(size.all())):
        empty = int((size == 0).int().argmax()) if len(size) else 0
        raise DataError(
            f"Hyperedge {empty} has no member. Number the hyperedges without gaps, "
            "torch.unique(edge_index[1], return_inverse=True)[1], or set data.num_hyperedges."
        )
    count = len(size) if told is None else told
    if not max(1, len(size)) <= count:
        raise DataError(
            f"num_hyperedges is {count}, but edge_index names {len(size)} hyperedges, and a "
            "hypergraph has at least one. Correct it, or unset it."
        )
    weight = getattr(data, "hyperedge_weight", None)
    if weight is not None:
        try:
            check_hyperedge_weight(weight, as_hypergraph(edge_index, num_nodes, count))
        except GraphError as error:
            raise DataError(str(error)) from None
    _check_rows(data, num_nodes, labelled, allow_nonfinite)
    return data


def _check_rows(data: Any, num_nodes: int, labelled: bool, allow_nonfinite: bool) -> None:
    """Raise :class:`DataError` unless features, labels and masks are those of ``num_nodes``."""
    from torch_geometric.data import Data

    brought = {name: getattr(data, name, None) for name in TENSORS if name != "edge_index"}
    parts = {name: value for name, value in brought.items() if value is not None}
    if "x" in parts and len(parts["x"]) != num_nodes:
        raise DataError(
            f"x has {len(parts['x'])} rows, but there are {num_nodes} nodes. Give every node one."
        )
    parts.setdefault("x", torch.ones(num_nodes, 1))
    plain = Data(**parts, edge_index=torch.empty(2, 0, dtype=torch.int64))
    plain.num_classes = getattr(data, "num_classes", None)
    (check if labelled else check_inputs)(plain, allow_nonfinite=allow_nonfinite)


def _num_nodes(data: Any) -> int:
    count = data.num_nodes
    if not count:
        raise DataError("data has no nodes. Set data.num_nodes or data.x.")
    return count


def _events(data: Any, name: str) -> Tensor:
    value = getattr(data, name, None)
    if not isinstance(value, Tensor) or value.dim() != 1 or not len(value):
        found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise DataError(f"{name} must be a tensor [events], got {found}. Set data.{name}.")
    return value


def _index(data: Any, num_nodes: int, num_columns: int | None) -> Tensor:
    """Edge_index after a check; ``num_columns`` None takes whatever row 1 holds, from 0 on."""
    index = getattr(data, "edge_index", None)
    if not isinstance(index, Tensor):
        raise DataError(f"edge_index must be a tensor, got {type(index).__name__}. Set it.")
    try:
        check_edge_index(index)
        check_range(index[0], num_nodes, "edge_index[0]", "nodes")
        if num_columns is not None:
            check_range(index[1], num_columns, "edge_index[1]", "nodes")
        elif index.numel():
            check_range(index[1], int(index[1].max()) + 1, "edge_index[1]", "hyperedges")
    except GraphError as error:
        raise DataError(str(error)) from None
    return index


def _pairs(part: Any, where: str, name: str, num_nodes: int) -> Tensor:
    pairs = part.get(name) if isinstance(part, dict) else None
    if not isinstance(pairs, Tensor) or pairs.dim() != 2 or pairs.size(1) != 2 or not len(pairs):
        found = list(pairs.shape) if isinstance(pairs, Tensor) else type(pairs).__name__
        raise DataError(f"{where} must be a tensor [n, 2] of pairs, got {found}. Set it.")
    try:
        check_edge_index(pairs.t())
        for column in (0, 1):
            check_range(pairs[:, column], num_nodes, f"{where}[:, {column}]", "nodes")
    except GraphError as error:
        raise DataError(str(error)) from None
    return pairs.long()


def _both_ways(pairs: Tensor, num_nodes: int) -> bool:
    """Is every pair of ``pairs [n, 2]`` there in both orders?"""
    forward, backward = (pair_key(of, num_nodes, True) for of in (pairs, pairs.flip(1)))
    return torch.equal(forward.sort().values, backward.sort().values)


def _disjoint(name: str, key: Tensor, known: dict[str, Tensor], num_nodes: int) -> None:
    for other, theirs in known.items():
        both = key[torch.isin(key, theirs)]
        if len(both):
            src, dst = divmod(int(both[0]), num_nodes)
            raise DataError(
                f"{name} shares {len(both)} pairs with {other}, for example {src} and {dst}. "
                "Scores on known pairs are not comparable: remove them."
            )
