"""Neighbourhoods of seed nodes, drawn over several hops.

Every draw is a function of a key (seed, epoch, batch), the hop, the relation, the node and the
number of the draw: the same batch for any number of threads, in any order, native or not. What is
checked once is in ``sample_plan.py``, the draws in plain torch in ``sample_reference.py``; here is
what users call.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, nearest
from ..graph import Csr, Graph, row_ids
from .sample_plan import (
    EdgeType,
    Key,
    Plan,
    check_relation,
    check_time,
    plan,
    read_ids,
    read_key,
    read_pairs,
    time_keys,
)
from .sample_reference import MOST, Found, Run, Seeds, reference

_NO_KEY = Key()


native: Callable[[Plan], Run] | None = None
"""Makes the kernel's run, where kernels were built."""


def register_native(make: Callable[[Plan], Run]) -> None:
    """Let the kernel serve graphs on the CPU (``ops/cpu/sample.py``)."""
    global native
    native = make


# --- what is returned ---


def _square(side: Csr, num_dst: int, num_src: int) -> Graph:
    """The graph of all nodes, those of the last hop without in-edges."""
    rest = side.indptr[-1:].expand(num_dst - side.num_rows)
    return Graph(Csr(torch.cat([side.indptr, rest]), side.indices), None, num_dst, num_src)


def _block(side: Csr, num_dst: int, num_src: int, num_edges: int, transpose: bool) -> Graph:
    """The first destinations, whose in-edges and their sources come first as well."""
    by_dst = Csr(side.indptr[: num_dst + 1], side.indices[:num_edges])
    if not transpose:
        return Graph(by_dst, None, num_dst, num_src)
    turned = torch.stack([row_ids(by_dst.indptr, num_edges), by_dst.indices.long()])
    by_src = torch.ops.graphkit.coo_to_csr(turned, num_dst, num_src, False)[:3]
    return Graph(by_dst, Csr(*by_src), num_dst, num_src)


@dataclass(frozen=True, eq=False, repr=False)
class Sampled:
    """The sampled neighbourhood of a batch of seeds.

    ``n_id [n]`` int64: the node of each local number, the seeds first, then new ones in the order
    of discovery, hop by hop. ``by_dst``: the sampled in-edges of the nodes that drew, which come
    first, among local numbers (of all nodes, for induced subgraphs). ``e_id [e]`` int64: the number
    of each edge in the graph, so that ``edge_attr[e_id]`` has the order of ``by_dst``.
    ``batch [n]``: the seed of each node's tree, where trees are disjoint. ``num_sampled_nodes``
    (the seeds first) and ``num_sampled_edges`` are PyG's counts of each hop; the edges' are None
    for induced subgraphs, which cannot be trimmed. The tensors hold memory of the kernel, given
    back when they are gone: they can be written to, not resized in place.
    """

    n_id: Tensor
    e_id: Tensor
    by_dst: Csr
    batch: Tensor | None
    num_sampled_nodes: list[int]
    num_sampled_edges: list[int] | None

    @property
    def graph(self) -> Graph:
        """All edges as a square graph of all nodes, without ``by_src``."""
        return _square(self.by_dst, len(self.n_id), len(self.n_id))

    @property
    def row(self) -> Tensor:
        """The local source of each edge, int64: PyG's ``edge_index[0]``."""
        return self.by_dst.indices.long()

    @property
    def col(self) -> Tensor:
        """The local destination of each edge, int64: PyG's ``edge_index[1]``."""
        return self.by_dst.row_ids()

    def blocks(self, *, transpose: bool = False) -> list[Graph]:
        """The bipartite graph of each layer, the first layer's first.

        Layer ``i`` of ``L`` takes the nodes of ``L - i`` hops to those of one hop less, and block
        ``i`` has only the edges for that: ``x = layer(x, block)`` with ``x[:block.num_dst]`` as the
        destinations. Blocks share the memory of ``by_dst``; edge tensors in its order are cut to
        ``[:block.num_edges]``. ``transpose`` sorts each by source as well, which gradients with
        respect to features need.
        """
        nodes = self.num_sampled_nodes
        return _layers(self.by_dst, nodes, nodes, self.num_sampled_edges, transpose)

    def __repr__(self) -> str:
        return f"Sampled(nodes={self.num_sampled_nodes}, edges={self.num_sampled_edges})"


@dataclass(frozen=True, eq=False, repr=False)
class HeteroSampled:
    """As :class:`Sampled`, of a graph with several relations: everything by type or by relation."""

    n_id: dict[str, Tensor]
    e_id: dict[EdgeType, Tensor]
    by_dst: dict[EdgeType, Csr]
    batch: dict[str, Tensor] | None
    num_sampled_nodes: dict[str, list[int]]
    num_sampled_edges: dict[EdgeType, list[int]] | None

    @property
    def graph(self) -> dict[EdgeType, Graph]:
        """As :attr:`Sampled.graph`."""
        sizes = {kind: len(ids) for kind, ids in self.n_id.items()}
        return {
            name: _square(side, sizes[name[2]], sizes[name[0]])
            for name, side in self.by_dst.items()
        }

    @property
    def row(self) -> dict[EdgeType, Tensor]:
        """As :attr:`Sampled.row`."""
        return {name: side.indices.long() for name, side in self.by_dst.items()}

    @property
    def col(self) -> dict[EdgeType, Tensor]:
        """As :attr:`Sampled.col`."""
        return {name: side.row_ids() for name, side in self.by_dst.items()}

    def blocks(self, *, transpose: bool = False) -> list[dict[EdgeType, Graph]]:
        """As :meth:`Sampled.blocks`: for each layer the block of every relation."""
        of = self.num_sampled_nodes
        lists = {
            name: _layers(
                side,
                of[name[2]],
                of[name[0]],
                None if self.num_sampled_edges is None else self.num_sampled_edges[name],
                transpose,
            )
            for name, side in self.by_dst.items()
        }
        layers = len(next(iter(of.values()))) - 1
        return [{name: parts[at] for name, parts in lists.items()} for at in range(layers)]

    def __repr__(self) -> str:
        return f"HeteroSampled(nodes={self.num_sampled_nodes}, edges={self.num_sampled_edges})"


def _layers(
    side: Csr, dst: list[int], src: list[int], edges: list[int] | None, transpose: bool
) -> list[Graph]:
    hops = len(dst) - 1
    if edges is None:
        whole = _block(side, sum(dst), sum(src), side.num_edges, transpose)
        return [whole] * hops
    return [
        _block(side, sum(dst[:left]), sum(src[: left + 1]), sum(edges[:left]), transpose)
        for left in range(hops, 0, -1)
    ]


# --- what is called ---


def _run_of(p: Plan) -> Run:
    is_native = native is not None and p.device.type == "cpu"
    return cast(Callable[[Plan], Run], native if is_native else reference)(p)


class Sampler:
    """Draws the neighbourhoods of many batches from one graph: :func:`sample`, prepared once.

    The arguments and errors are those of :func:`sample`. What takes time in proportion to the
    edges (checking weights and times, sorting rows by time) is done here, so that a batch costs
    what it draws. Calls from several threads at once run side by side, each with a working space
    of its own: 8 bytes for each node of the graph (beyond 2**25 nodes, and for disjoint trees, only
    for those sampled); :meth:`many` has one for each thread. The memory of batches that nobody
    holds any more is used again, that of two calls at most. It can be pickled, for workers that are
    started afresh.
    """

    def __init__(
        self,
        graph: Graph | Mapping[EdgeType, Graph],
        fanout: Sequence[int] | Mapping[EdgeType, Sequence[int]],
        *,
        replace: bool = False,
        method: Literal["neighbor", "labor"] = "neighbor",
        layer_dependency: bool = False,
        edge_weight: Tensor | Mapping[EdgeType, Tensor] | None = None,
        node_time: Tensor | Mapping[str, Tensor | None] | None = None,
        edge_time: Tensor | Mapping[EdgeType, Tensor | None] | None = None,
        temporal_strategy: Literal["uniform", "last"] = "uniform",
        disjoint: bool = False,
        subgraph_type: Literal["directional", "induced"] = "directional",
    ) -> None:
        self.plan = plan(
            graph,
            fanout,
            replace=replace,
            method=method,
            layer_dependency=layer_dependency,
            edge_weight=edge_weight,
            node_time=node_time,
            edge_time=edge_time,
            temporal_strategy=temporal_strategy,
            disjoint=disjoint,
            subgraph_type=subgraph_type,
        )
        self._run = _run_of(self.plan)

    def __getstate__(self) -> Plan:
        # what runs the plan is made anew, by whatever serves the other process
        return self.plan

    def __setstate__(self, state: Plan) -> None:
        self.plan, self._run = state, _run_of(state)

    def __call__(
        self,
        seeds: Tensor | Mapping[str, Tensor],
        key: Key | tuple[int, int, int] = _NO_KEY,
        *,
        seed_time: Tensor | Mapping[str, Tensor] | None = None,
        exclude: Tensor | Mapping[EdgeType, Tensor] | None = None,
    ) -> Sampled | HeteroSampled:
        """The neighbourhood of ``seeds``; the arguments are those of :func:`sample`."""
        given = _read_seeds(self.plan, seeds, key, seed_time, exclude)
        return _wrap(self.plan, self._run([given])[0])

    def check_seeds(self, seeds: Tensor | Mapping[str, Tensor]) -> None:
        """Raise :class:`GraphError` as a call with any of these ``seeds`` does."""
        _read_ids(self.plan, _by_type(self.plan, "seeds", seeds))

    def many(
        self,
        seeds: Sequence[Tensor | Mapping[str, Tensor]],
        keys: Sequence[Key | tuple[int, int, int]],
        *,
        seed_time: Sequence[Tensor | Mapping[str, Tensor] | None] | None = None,
        exclude: Sequence[Tensor | Mapping[EdgeType, Tensor] | None] | None = None,
    ) -> list[Sampled] | list[HeteroSampled]:
        """Several batches, shared out to as many threads as torch has: the same as one by one.

        All arguments have an entry for each batch. Raises :class:`ConfigError` if there are not as
        many of each, and what a call with one of the batches raises.
        """
        none = [None] * len(seeds)
        lists = {"keys": keys, "seed_time": none if seed_time is None else seed_time,
                 "exclude": none if exclude is None else exclude}  # fmt: skip
        for name, given in lists.items():
            if len(given) != len(seeds):
                raise ConfigError(
                    f"sample: {name} has {len(given)} entries, but there are {len(seeds)} batches "
                    "of seeds. It needs one for each."
                )
        asked = [
            _read_seeds(self.plan, *batch) for batch in zip(seeds, *lists.values(), strict=True)
        ]
        return cast(Any, [_wrap(self.plan, found) for found in self._run(asked)])


def sample(
    graph: Graph | Mapping[EdgeType, Graph],
    seeds: Tensor | Mapping[str, Tensor],
    fanout: Sequence[int] | Mapping[EdgeType, Sequence[int]],
    key: Key | tuple[int, int, int] = _NO_KEY,
    *,
    seed_time: Tensor | Mapping[str, Tensor] | None = None,
    exclude: Tensor | Mapping[EdgeType, Tensor] | None = None,
    **options: Any,
) -> Sampled | HeteroSampled:
    r"""A neighbourhood of seed nodes over several hops, drawn along their in-edges.

    In each hop every node that the hop before discovered draws from its in-edges; the sources that
    are new are numbered in the order of discovery. Each node draws once, as in PyG.

    ``graph``: square, or a dict from (source type, relation, destination type) to Graphs.
    ``seeds``: node ids, int64 or int32, or a dict of them by type. They keep their order and their
    repetitions; edges lead to the first of equal ones, and equal ones draw alike.
    ``fanout``: how many in-edges in each hop, -1 for all, 0 for none; of a dict of graphs one list
    for all relations or a dict of lists.
    ``key``: (seed, epoch, batch), whole numbers; equal keys draw the same.
    ``exclude``: pairs of source and destination ``[2, m]``, of a dict of graphs a dict by relation:
    no edge between them is taken in this call, parallel ones included. What is drawn is what would
    be drawn from the graph without these edges (to the same bits but for weights with ``replace``,
    which stay whole numbers of the largest of all).

    Options:

    - ``replace``: edges may repeat. Without it every edge occurs once, and all where there are no
      more than the fan-out.
    - ``edge_weight [E]``, in the order of ``edge_index``: with ``replace`` edges are drawn in
      proportion to it; without, one after the other in proportion to it among those that are left
      (`paper <https://doi.org/10.1016/j.ipl.2005.11.003>`_). Edges of weight 0 are taken only by a
      fan-out of -1. With ``replace`` weights are told apart to 2**-31 of the largest among the
      node's edges (coarser in graphs of 2**31 edges or more), and smaller ones count as that much.
      With times the largest may lie in the future: edges before it whose weights are that small are
      drawn alike. Without ``replace`` there is no such limit.
    - ``method="labor"``: LABOR-0 (`paper <https://arxiv.org/abs/2210.13339>`_): a source ``t`` has
      one uniform number :math:`r_t` in a hop, and each of its edges to a node of degree ``d`` is
      taken iff :math:`r_t < k / d`. The number of edges varies and is ``k`` on average, and fewer
      nodes are needed. The mean over neighbours, weighted by inverse probabilities, has the
      variance :math:`(1/k - 1/d)` times the mean square of the values: for values whose mean is 0
      that is :math:`(d - 1) / d` of what ``k`` different neighbours give, and any other mean ``m``
      adds :math:`(1/k - 1/d) m^2`, because the number of edges varies.
      ``layer_dependency``: :math:`r_t` is the same in all hops.
    - ``edge_time [E]`` or ``node_time [N]`` (then an edge has the time of its source), int64, int32
      or float64: only edges not later than the time of the seed, ``seed_time [S]``, by default the
      seed's ``node_time``. ``temporal_strategy="last"`` takes the most recent edges, of equal ones
      the last in the order of the graph. Times need no order; in dicts None marks what is timeless.
    - ``disjoint``: every seed has a tree of its own, which shares no node with the others; always
      so with times.
    - ``subgraph_type="induced"``: all edges among the nodes that were found.

    Cost: linear in what is drawn; weights without ``replace``, and LABOR, read every edge of the
    nodes that draw. To sample more than once prepare a :class:`Sampler`. Deterministic; no
    gradient.

    Raises :class:`GraphError` for malformed graphs, seeds, weights and times, and
    :class:`ConfigError` for options with unknown or contradictory values, before anything is drawn.
    """
    return Sampler(graph, fanout, **options)(seeds, key, seed_time=seed_time, exclude=exclude)


def _read_seeds(p: Plan, seeds: Any, key: Any, seed_time: Any, exclude: Any) -> Seeds:
    by_type = _by_type(p, "seeds", seeds)
    ids = _read_ids(p, by_type)
    first, trees = [0] * len(p.types), 0
    for kind, given in by_type.items():
        first[p.types.index(kind)], trees = trees, trees + len(given)
    if trees > MOST:
        raise GraphError(f"sample: {trees} seeds, but at most {MOST} are numbered in one batch.")
    times = _times(p, by_type, ids, seed_time)
    return Seeds(ids, first, times, read_key(key), _pairs(p, exclude))


def _read_ids(p: Plan, seeds: Mapping[str, Any]) -> list[Tensor]:
    """The seeds of each type, checked; none of those that are not named."""
    ids: list[Tensor] = [torch.empty(0, dtype=torch.int64, device=p.device) for _ in p.types]
    for kind, given in seeds.items():
        at = p.types.index(kind)
        label = f"seeds[{kind!r}]" if p.is_hetero else "seeds"
        ids[at] = read_ids(label, given, p.num_nodes[at], p.device)
    return ids


def _by_type(p: Plan, what: str, given: Any) -> dict[str, Any]:
    if not p.is_hetero:
        if isinstance(given, Mapping):
            raise GraphError(f"sample: {what} is a dict, but the graph has one type of nodes.")
        return {p.types[0]: given}
    if not isinstance(given, Mapping):
        raise GraphError(
            f"sample: {what} is a {type(given).__name__}, but a dict from types of nodes to "
            "tensors is expected, as the graph is one."
        )
    found: dict[Any, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
    for kind in found:
        if kind not in p.types:
            raise GraphError(
                f"sample: {what} names the type {kind!r}, which no relation has. "
                f"{nearest(str(kind), p.types)}"
            )
    return found


def _pairs(p: Plan, given: Any) -> list[Tensor | None]:
    """The pairs between which no edge is taken, of each relation."""
    if given is None:
        return []
    if not p.is_hetero:
        if isinstance(given, Mapping):
            raise GraphError("sample: exclude is a dict, but the graph has no relations to name.")
        given = {p.names[0]: given}
    elif not isinstance(given, Mapping):
        raise GraphError(
            f"sample: exclude is a {type(given).__name__}, but a dict from relations to tensors is "
            "expected, as the graph is one."
        )
    found: dict[Any, Any] = dict(given)  # pyright: ignore[reportUnknownArgumentType]
    for name in found:
        check_relation("exclude", name, p.names)
    pairs: list[Tensor | None] = []
    for name, of in zip(p.names, p.relations, strict=True):
        label = f"exclude[{name!r}]" if p.is_hetero else "exclude"
        some = found.get(name)
        if some is not None:
            some = read_pairs(label, some, p.num_nodes[of.src], p.num_nodes[of.dst], p.device)
        pairs.append(some)
    return pairs


def _times(p: Plan, by_type: dict[str, Any], ids: list[Tensor], given: Any) -> Tensor | None:
    """The time of every tree, in the order of the trees."""
    if not p.is_temporal:
        if given is not None:
            raise ConfigError("sample: seed_time is of no use without node_time or edge_time.")
        return None
    found = {} if given is None else _by_type(p, "seed_time", given)
    parts: list[Tensor] = []
    for kind in by_type:
        at = p.types.index(kind)
        label = f"seed_time[{kind!r}]" if p.is_hetero else "seed_time"
        time = found.get(kind)
        if time is None:
            of_nodes = p.node_time[at]
            if of_nodes is None:
                raise GraphError(
                    f"sample: {label} is missing, and these seeds have no node_time to take its "
                    "place. Pass the time of every seed."
                )
            time = of_nodes[ids[at]]
        check_time(label, time, p.device)
        if len(time) != len(ids[at]):
            raise GraphError(
                f"sample: {label} has {len(time)} entries, but there are {len(ids[at])} seeds. "
                "It needs one for each."
            )
        if time.is_floating_point() != p.is_float_time:
            kinds = ("whole numbers", "floating-point")
            raise GraphError(
                f"sample: {label} has dtype {time.dtype}, but the times of the graph are "
                f"{kinds[p.is_float_time]}. Convert it to theirs."
            )
        parts.append(time_keys(time))
    return torch.cat(parts).contiguous() if parts else None


def _wrap(p: Plan, found: Found) -> Sampled | HeteroSampled:
    sides = [Csr(ptr, idx) for ptr, idx, _ in found.edges]
    if not p.is_hetero:
        edges = None if p.induced else found.num_edges[0]
        return Sampled(
            found.ids[0], found.edges[0][2], sides[0], found.trees[0], found.num_nodes[0], edges
        )
    return HeteroSampled(
        dict(zip(p.types, found.ids, strict=True)),
        {name: edges[2] for name, edges in zip(p.names, found.edges, strict=True)},
        dict(zip(p.names, sides, strict=True)),
        dict(zip(p.types, cast(list[Tensor], found.trees), strict=True)) if p.disjoint else None,
        dict(zip(p.types, found.num_nodes, strict=True)),
        None if p.induced else dict(zip(p.names, found.num_edges, strict=True)),
    )
