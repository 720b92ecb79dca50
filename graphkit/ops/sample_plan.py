"""What a sampler is told, checked once: relations, fan-outs, weights and times as integers.

Everything that costs time in proportion to the edges happens here and not in a batch: checks of
values, sorting rows by time, sums of weights. The kernel and the reference read the same arrays.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, nearest
from ..graph import Graph, check_indptr, check_range, row_ids
from .random import random_word

EdgeType = tuple[str, str, str]
"""Source's type, relation, destination's type, as in PyG."""

METHODS = ("neighbor", "labor")
STRATEGIES = ("uniform", "last")
SUBGRAPHS = ("directional", "induced")

# bits of the largest weight of a row: their sum over all edges fits in 62
_WEIGHT_BITS = 31


class Key(NamedTuple):
    """What randomness is a function of; whole numbers from 0 to 2**63 - 1."""

    seed: int = 0
    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, eq=False)
class Relation:
    """The in-edges of one relation; ``src`` and ``dst`` number the types of its ends."""

    src: int
    dst: int
    ptr: Tensor
    idx: Tensor
    eid: Tensor | None
    time: Tensor | None
    sums: Tensor | None
    weight: Tensor | None


@dataclass(frozen=True, eq=False)
class Plan:
    """A sampler's options, all of them valid. ``fanout[hop][relation]``; -1 is all."""

    types: tuple[str, ...]
    names: tuple[EdgeType, ...]
    num_nodes: tuple[int, ...]
    relations: tuple[Relation, ...]
    fanout: tuple[tuple[int, ...], ...]
    is_hetero: bool
    replace: bool
    labor: bool
    layer_dependency: bool
    disjoint: bool
    induced: bool
    last: bool
    node_time: tuple[Tensor | None, ...]
    is_temporal: bool
    is_float_time: bool
    device: torch.device

    @property
    def hops(self) -> int:
        return len(self.fanout)


ONE_TYPE = ("node",)
_ONE_RELATION: tuple[EdgeType] = (("node", "to", "node"),)


def plan(
    graph: Graph | Mapping[EdgeType, Graph],
    fanout: Sequence[int] | Mapping[EdgeType, Sequence[int]],
    *,
    replace: bool,
    method: str,
    layer_dependency: bool,
    edge_weight: Tensor | Mapping[EdgeType, Tensor] | None,
    node_time: Tensor | Mapping[str, Tensor | None] | None,
    edge_time: Tensor | Mapping[EdgeType, Tensor | None] | None,
    temporal_strategy: str,
    disjoint: bool,
    subgraph_type: str,
) -> Plan:
    """Read and check the options of :class:`graphkit.ops.Sampler`."""
    _known("method", method, METHODS)
    _known("temporal_strategy", temporal_strategy, STRATEGIES)
    _known("subgraph_type", subgraph_type, SUBGRAPHS)
    is_hetero = isinstance(graph, Mapping)
    graphs = _graphs(graph)
    types, num_nodes = _types(graphs, is_hetero)
    names = tuple(graphs)
    hops = _fanout(fanout, names, is_hetero)
    is_temporal = node_time is not None or edge_time is not None
    if node_time is not None and edge_time is not None:
        raise ConfigError(
            "sample: got node_time and edge_time, but one of them says when an edge came to be. "
            "Pass edge_time = node_time[source] or leave node_time out."
        )
    if temporal_strategy == "last" and not is_temporal:
        raise ConfigError("sample: temporal_strategy='last' needs node_time or edge_time.")
    _exclude(method, layer_dependency, replace, edge_weight, disjoint or is_temporal)
    if temporal_strategy == "last" and (replace or edge_weight is not None):
        raise ConfigError(
            "sample: temporal_strategy='last' takes the most recent edges, so replace and "
            "edge_weight have no meaning. Leave them out, or pass temporal_strategy='uniform'."
        )
    device = next(iter(graphs.values())).device
    for name, part in graphs.items():
        check_rows(f"sample: graph{_of(name, is_hetero)}", part)
    weights = _per_relation("edge_weight", edge_weight, names, is_hetero, None)
    edge_times = _per_relation("edge_time", edge_time, names, is_hetero, device)
    node_times = _node_times(node_time, types, num_nodes, is_hetero, device)
    kinds = {
        time.is_floating_point() for time in (*edge_times, *node_times.values()) if time is not None
    }
    if len(kinds) > 1:
        raise GraphError(
            "sample: some times are whole numbers and others floating-point, but they are compared "
            "with one another. Convert them to one dtype."
        )
    relations: list[Relation] = []
    for at, (name, part) in enumerate(graphs.items()):
        time = edge_times[at]
        if time is None and (of_source := node_times.get(name[0])) is not None:
            time = of_source[part.by_dst.indices.long()]
        elif time is not None:
            _check_length(f"edge_time{_of(name, is_hetero)}", time, part.num_edges, "edges", part)
            time = time if part.by_dst.eid is None else time[part.by_dst.eid.long()]
        src, dst = types.index(name[0]), types.index(name[2])
        keys = None if time is None else time_keys(time)
        where = _of(name, is_hetero)
        relations.append(_relation(part, src, dst, keys, weights[at], replace, where))
    return Plan(
        types=types,
        names=names,
        num_nodes=num_nodes,
        relations=tuple(relations),
        fanout=hops,
        is_hetero=is_hetero,
        replace=replace,
        labor=method == "labor",
        layer_dependency=layer_dependency,
        disjoint=disjoint or is_temporal,
        induced=subgraph_type == "induced",
        last=temporal_strategy == "last",
        node_time=tuple(node_times.get(name) for name in types),
        is_temporal=is_temporal,
        is_float_time=True in kinds,
        device=device,
    )


def read_ids(
    label: str, given: Any, count: int, device: torch.device, *, of: str = "sample"
) -> Tensor:
    """Node ids as int64, each below ``count``."""
    if not isinstance(given, Tensor) or given.dim() != 1:
        shape = f"shape {list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise GraphError(f"{of}: {label} has {shape}, but a one-dimensional torch.Tensor of node "
                         "ids is expected.")  # fmt: skip
    if given.dtype not in (torch.int64, torch.int32):
        hint = "mask.nonzero().flatten()" if given.dtype == torch.bool else f"{label}.long()"
        raise GraphError(
            f"{of}: {label} has dtype {given.dtype}, but torch.int64 or torch.int32 is expected. "
            f"Pass {hint}."
        )
    if given.device != device:
        raise GraphError(
            f"{of}: {label} is on {given.device} but the graph is on {device}. "
            f"Pass {label}.to({str(device)!r})."
        )
    if given.numel():
        low, high = torch.aminmax(given)
        if int(low) < 0 or int(high) >= count:
            at = int(((given < 0) | (given >= count)).nonzero()[0])
            valid = f"valid: 0 to {count - 1}" if count else "valid: none"
            raise GraphError(
                f"{of}: {label}[{at}] = {int(given[at])}, but there are {count} nodes ({valid}). "
                "Pass a larger num_nodes when building the graph, or drop the seed."
            )
    return given.to(torch.int64).contiguous()


def read_pairs(
    label: str,
    given: Any,
    num_src: int,
    num_dst: int,
    device: torch.device,
    *,
    of: str = "sample",
) -> Tensor:
    """Pairs of source and destination, int64 ``[2, m]``."""
    if not isinstance(given, Tensor) or given.dim() != 2 or given.size(0) != 2:
        shape = f"shape {list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise GraphError(
            f"{of}: {label} has {shape}, but a torch.Tensor [2, m] of sources and destinations is "
            "expected."
        )
    ends = zip(("[0]", "[1]"), given, (num_src, num_dst), strict=True)
    return torch.stack([read_ids(label + at, ids, n, device, of=of) for at, ids, n in ends])


def distinct(numbers: Tensor) -> Tensor:
    """The different ones of numbers from 0 on, in rising order."""
    ordered = torch.sort(numbers).values
    return ordered[ordered.diff(prepend=ordered.new_full((1,), -1)) > 0]


def read_key(key: Any, *, of: str = "sample") -> int:
    """All of a key in one word."""
    if not isinstance(key, tuple) or len(cast(tuple[Any, ...], key)) != 3:
        raise ConfigError(
            f"{of}: key is {key!r}, but three whole numbers (seed, epoch, batch) are expected, "
            "such as graphkit.ops.Key(seed=0, epoch=0, batch=0)."
        )
    word = 0
    for name, number in zip(Key._fields, cast(tuple[Any, ...], key), strict=True):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**63:
            raise ConfigError(
                f"{of}: the {name} of key is {number!r}, but a whole number from 0 to 2**63 - 1 "
                "is expected."
            )
        word = random_word(word, number)
    return word


def time_keys(time: Tensor) -> Tensor:
    """Whole numbers in the order of the times, which may be floating-point."""
    if not time.is_floating_point():
        return time.to(torch.int64)
    # + 0.0 makes one zero of both; the bits of negative numbers fall as the numbers rise
    bits = (time.to(torch.float64) + 0.0).view(torch.int64)
    return torch.where(bits < 0, bits ^ (2**63 - 1), bits)


def check_time(name: str, time: Tensor, device: torch.device) -> None:
    """Raise :class:`GraphError` for times elsewhere, or that lose what they are compared by."""
    # isinstance guards against lists and arrays, which callers do pass whatever the annotation
    if not isinstance(time, Tensor) or time.dim() != 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(f"sample: {name} is not a one-dimensional torch.Tensor, but must be one.")
    if time.dtype not in (torch.int64, torch.int32, torch.float64):
        raise GraphError(
            f"sample: {name} has dtype {time.dtype}, which cannot tell seconds apart, but "
            "torch.int64 or torch.float64 is expected. Read the times anew: what was rounded "
            "cannot be brought back."
        )
    if time.device != device:
        raise GraphError(
            f"sample: {name} is on {time.device} but the graph is on {device}. "
            f"Pass {name}.to({str(device)!r})."
        )
    if time.is_floating_point() and bool(time.isnan().any()):
        first = int(time.isnan().nonzero()[0])
        raise GraphError(f"sample: {name}[{first}] is nan, but every time must be a number.")


def _known(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"sample: unknown {option} {value!r}. {nearest(str(value), known)}")


def _exclude(
    method: str, layer_dependency: bool, replace: bool, edge_weight: Any, disjoint: bool
) -> None:
    if method == "labor":
        for option, is_set in (
            ("replace", replace),
            ("edge_weight", edge_weight is not None),
            ("disjoint or times", disjoint),
        ):
            if is_set:
                raise ConfigError(
                    f"sample: method='labor' does not go with {option}: its draws are shared by "
                    "all seeds and their edges. Pass method='neighbor'."
                )
    elif layer_dependency:
        raise ConfigError("sample: layer_dependency is an option of method='labor'.")


def _of(name: EdgeType, is_hetero: bool) -> str:
    return f"[{name!r}]" if is_hetero else ""


def _graphs(graph: Any) -> dict[EdgeType, Graph]:
    given: dict[Any, Any] = dict(graph) if isinstance(graph, Mapping) else {_ONE_RELATION[0]: graph}  # pyright: ignore[reportUnknownArgumentType]
    if not given:
        raise GraphError(
            "sample: the dict of graphs is empty, but one relation at least is needed."
        )
    for name, part in given.items():
        if not (isinstance(name, tuple) and len(name) == 3):  # pyright: ignore[reportUnknownArgumentType]
            raise GraphError(
                f"sample: a graph has the key {name!r}, but (source type, relation, destination "
                "type) is expected."
            )
        if not isinstance(part, Graph):
            raise GraphError(
                f"sample: graph is a {type(part).__name__}, but a graphkit.Graph is expected. "
                "Pass graphkit.Graph.from_edge_index(edge_index, num_nodes)."
            )
    devices = {part.device for part in given.values()}
    if len(devices) > 1:
        raise GraphError(f"sample: the graphs are on {sorted(map(str, devices))}, not on one.")
    return given


def check_rows(where: str, graph: Graph) -> None:
    """Graphs put together by hand: a bad index would make a kernel read or write elsewhere."""
    side = graph.by_dst
    arrays = {"indptr": side.indptr, "indices": side.indices, "eid": side.eid}
    try:
        for name, array in arrays.items():
            kinds = (torch.int64,) if name == "indptr" else (torch.int64, torch.int32)
            if array is not None and (array.dim() != 1 or array.dtype not in kinds):
                raise GraphError(
                    f"{name} is {array.dtype} of shape {list(array.shape)}, but a one-dimensional "
                    f"tensor of {' or '.join(map(str, kinds))} is expected."
                )
        if side.num_rows != graph.num_dst:
            raise GraphError(
                f"indptr has {side.indptr.numel()} entries, but {graph.num_dst} destinations need "
                f"{graph.num_dst + 1}."
            )
        check_indptr(side.indptr, side.num_edges)
        check_range(side.indices, graph.num_src, "indices", "sources")
        if side.eid is not None and side.eid.numel() != side.num_edges:
            raise GraphError(f"eid has {side.eid.numel()} entries, not {side.num_edges}.")
    except GraphError as error:
        raise GraphError(
            f"{where}: {error} Graph.from_csr and Graph.from_edge_index check what they build."
        ) from None


def _types(
    graphs: Mapping[EdgeType, Graph], is_hetero: bool
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    counts: dict[str, int] = {}
    for name, part in graphs.items():
        for kind, count in ((name[0], part.num_src), (name[2], part.num_dst)):
            if counts.setdefault(kind, count) == count:
                continue
            if not is_hetero:
                raise GraphError(
                    f"sample: the graph has {part.num_src} sources and {part.num_dst} destinations,"
                    " but one set of nodes is expected. Pass a dict with the key (source type, "
                    "relation, destination type)."
                )
            raise GraphError(
                f"sample: {name!r} has {count} nodes of type {kind!r}, but a relation before it "
                f"has {counts[kind]}. Pass num_src and num_dst when building the graphs."
            )
    return tuple(counts), tuple(counts.values())


def _fanout(
    fanout: Any, names: tuple[EdgeType, ...], is_hetero: bool
) -> tuple[tuple[int, ...], ...]:
    if isinstance(fanout, Mapping):
        given: dict[Any, Any] = dict(fanout)  # pyright: ignore[reportUnknownArgumentType]
        if not is_hetero:
            raise ConfigError("sample: fanout is a dict, but the graph has no relations to name.")
        for name in given:
            check_relation("fanout", name, names)
        missing = [name for name in names if name not in given]
        if missing:
            raise ConfigError(
                f"sample: fanout lacks the relation {missing[0]!r}. Give every relation as many "
                "numbers as there are hops; 0 leaves it out of a hop."
            )
        lists = [_numbers(given[name], f"fanout[{name!r}]") for name in names]
        if len({len(numbers) for numbers in lists}) > 1:
            sizes = ", ".join(f"{name!r}: {len(n)}" for name, n in zip(names, lists, strict=True))
            raise ConfigError(
                f"sample: the lists of fanout differ in length ({sizes}), but each has one number "
                "for every hop."
            )
    else:
        lists = [_numbers(fanout, "fanout")] * len(names)
    return tuple(zip(*lists, strict=True))


def _numbers(fanout: Any, name: str) -> list[int]:
    if isinstance(fanout, (str, int)) or not isinstance(fanout, Sequence):
        raise ConfigError(f"sample: {name} is {fanout!r}, but a list with a number for each hop is "
                          "expected, such as [15, 10].")  # fmt: skip
    numbers: list[Any] = list(fanout)  # pyright: ignore[reportUnknownArgumentType]
    if not numbers:
        raise ConfigError(f"sample: {name} is empty, but one hop at least is needed: [15, 10].")
    for at, number in enumerate(numbers):
        if isinstance(number, bool) or not isinstance(number, int):
            raise ConfigError(
                f"sample: {name}[{at}] is {number!r}, but a whole number is expected."
            )
        if not -1 <= number < 2**31:
            raise ConfigError(
                f"sample: {name}[{at}] = {number}, but a number of neighbours from 0 to 2**31 - 1, "
                "or -1 for all, is expected."
            )
    return numbers


def check_relation(what: str, name: Any, names: tuple[EdgeType, ...]) -> None:
    """Raise :class:`ConfigError` for a relation that the graph does not have."""
    if name not in names:
        raise ConfigError(
            f"sample: {what} names the relation {name!r}, which the graph does not have. "
            f"{nearest(str(name), [str(known) for known in names])}"
        )


def _per_relation(
    what: str,
    given: Any,
    names: tuple[EdgeType, ...],
    is_hetero: bool,
    times_on: torch.device | None,
) -> list[Tensor | None]:
    """One tensor for each relation, or None where it has none, as only times may."""
    if given is None:
        return [None] * len(names)
    if not is_hetero:
        if isinstance(given, Mapping):
            raise GraphError(f"sample: {what} is a dict, but the graph has no relations to name.")
        if times_on is not None:
            check_time(what, given, times_on)
        return [given]
    if not isinstance(given, Mapping):
        raise GraphError(f"sample: {what} must be a dict with an entry for each relation.")
    found: dict[Any, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
    for name in found:
        check_relation(what, name, names)
    for name in names:
        if name not in found:
            raise GraphError(
                f"sample: {what} lacks the relation {name!r}. "
                + (
                    "Pass None for one without times."
                    if times_on is not None
                    else "Pass ones for equal weights."
                )
            )
        if times_on is not None and found[name] is not None:
            check_time(f"{what}[{name!r}]", found[name], times_on)
    return [found[name] for name in names]


def _node_times(
    given: Any,
    types: tuple[str, ...],
    num_nodes: tuple[int, ...],
    is_hetero: bool,
    device: torch.device,
) -> dict[str, Tensor | None]:
    if given is None:
        return {}
    if not is_hetero:
        given = {types[0]: given}
    elif not isinstance(given, Mapping):
        raise GraphError("sample: node_time must be a dict with an entry for each type of nodes.")
    found: dict[Any, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
    for name in found:
        if name not in types:
            raise ConfigError(
                f"sample: node_time names the type {name!r}, which the graph does not have. "
                f"{nearest(str(name), types)}"
            )
    for name, count in zip(types, num_nodes, strict=True):
        if name not in found:
            raise GraphError(
                f"sample: node_time lacks the type {name!r}. Pass None for one without times."
            )
        if (time := found[name]) is not None:
            label = f"node_time[{name!r}]" if is_hetero else "node_time"
            check_time(label, time, device)
            _check_length(label, time, count, "nodes", None)
    return found


def _check_length(name: str, x: Tensor, count: int, of: str, graph: Graph | None) -> None:
    if x.numel() != count:
        raise GraphError(
            f"sample: {name} has {x.numel()} entries, but there are {count} {of}. It needs one for "
            f"each{', in the order of edge_index' if graph is not None else ''}."
        )


def _relation(
    graph: Graph,
    src: int,
    dst: int,
    time: Tensor | None,
    edge_weight: Tensor | None,
    replace: bool,
    where: str,
) -> Relation:
    side = graph.by_dst
    ptr, idx, eid = side.indptr.contiguous(), side.indices.contiguous(), side.eid
    # a row has no more than all
    if len(idx) >= 2**31 and int((degree := ptr.diff()).max()) >= 2**31:
        row = int(degree.argmax())
        raise GraphError(
            f"sample: node {row} has {int(degree[row])} neighbours, but at most 2**31 - 1 can be "
            "drawn from."
        )
    if time is not None:
        order = _order_of_time(ptr, time)
        if order is not None:
            time, idx = time[order], idx[order]
            eid = order if eid is None else eid[order]
        time = time.contiguous()
    sums = weight = None
    if edge_weight is not None:
        weight = read_weights(f"sample: edge_weight{where}", edge_weight, graph)
        weight = weight.contiguous() if eid is None else weight[eid.long()]
        whole, top = whole_weights(ptr, weight)
        none = (top == 0) & (ptr.diff() > 0)
        if bool(none.any()):
            raise GraphError(
                f"sample: all edges to node {int(none.nonzero()[0])} have edge_weight{where} 0, so "
                "none can be drawn. Give one a positive weight, or leave these edges out."
            )
        if replace:
            sums, weight = torch.zeros(len(whole) + 1, dtype=torch.int64, device=ptr.device), None
            torch.cumsum(whole, 0, out=sums[1:])
    eid = None if eid is None else eid.contiguous()
    return Relation(src, dst, ptr, idx, eid, time, sums, weight)


def _order_of_time(ptr: Tensor, time: Tensor) -> Tensor | None:
    """The slots with every row in the order of time; None if they are."""
    if len(time) < 2:
        return None
    falls = time.diff() < 0
    inside = torch.ones_like(falls)
    # where a row begins, times may fall
    heads = ptr[1:-1]
    heads = heads[(heads > 0) & (heads < len(time))]
    inside[heads - 1] = False
    if not bool((falls & inside).any()):
        return None
    order = torch.sort(time, stable=True).indices
    rows = row_ids(ptr, len(time))
    return order[torch.sort(rows[order], stable=True).indices]


def read_weights(name: str, weight: Any, graph: Graph) -> Tensor:
    """Finite weights of at least 0 in the caller's order, float64."""
    if not isinstance(weight, Tensor) or weight.dim() != 1:
        raise GraphError(f"{name} is not a one-dimensional torch.Tensor, but must be one.")
    if weight.device != graph.device:
        raise GraphError(f"{name} is on {weight.device} but the graph is on {graph.device}.")
    if weight.numel() != graph.num_edges:
        raise GraphError(
            f"{name} has {weight.numel()} entries, but there are {graph.num_edges} edges. It needs "
            "one for each, in the order of edge_index."
        )
    value = weight.to(torch.float64)
    bad = ~(value.isfinite() & (value >= 0))
    if bool(bad.any()):
        at = int(bad.nonzero()[0])
        raise GraphError(
            f"{name}[{at}] = {float(value[at])}, but a weight must be finite and at least 0. Leave "
            "out edges that must not be taken, or give them 0."
        )
    return value


def whole_weights(ptr: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights as whole numbers, whose sums are exact in any order: int64 in the order of slots;
    and the largest weight of each row.

    The largest of a row becomes 2**31, no positive one becomes 0. Times do not count here: the
    sums serve every time, so a large weight in the future makes those before it coarse.
    """
    rows = row_ids(ptr, len(weight))
    top = torch.zeros(len(ptr) - 1, dtype=torch.float64, device=ptr.device)
    top.scatter_reduce_(0, rows, weight, "amax")
    bits = min(_WEIGHT_BITS, 62 - max(1, len(weight)).bit_length())
    whole = (weight / top[rows] * 2.0**bits).round().clamp_(min=1)
    # in a row of zeros they are no numbers
    return torch.where(weight > 0, whole, 0).to(torch.int64), top
