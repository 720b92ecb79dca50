"""Neighbourhoods of seed nodes, drawn over several hops.

Every draw is a function of a key (seed, epoch, batch), the hop, the relation, the node and the
number of the draw: the same batch for any number of threads, in any order, native or not. What is
checked once is in ``sample_plan.py``; here are the reference in plain torch and what users call.
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
from .random import below, random_word, random_words, shift_right
from .sample_plan import (
    EdgeType,
    Key,
    Plan,
    Relation,
    check_time,
    plan,
    time_keys,
)

_MOST = 2**31 - 2
TOO_MANY_DRAWS = (
    "sample: a hop draws more than 2**31 - 2 edges of one relation with replacement. Pass fewer "
    "seeds or a smaller fanout."
)
_NO_KEY = Key()


@dataclass(frozen=True, eq=False)
class Seeds:
    """Checked seeds of each type, the tree of the first of each, the time of every tree."""

    ids: list[Tensor]
    first: list[int]
    time: Tensor | None
    key: int


@dataclass(frozen=True, eq=False)
class Found:
    """What a run returns. Of each type: ids, trees, how many are new in each hop, seeds first.
    Of each relation: offsets, columns, edge ids, how many in each hop."""

    ids: list[Tensor]
    trees: list[Tensor | None]
    num_nodes: list[list[int]]
    edges: list[tuple[Tensor, Tensor, Tensor]]
    num_edges: list[list[int]]


Run = Callable[[Seeds], Found]


# --- the reference ---


def _row_of_slots(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For rows of so many entries: the row of each entry, and its number inside the row."""
    row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    return row, torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]


def _spans(of: Relation, ids: Tensor, trees: Tensor | None, seeds: Seeds) -> tuple[Tensor, Tensor]:
    """The slots of nodes that may be taken: those not later than the time of their tree."""
    begin, end = of.ptr[ids], of.ptr[ids + 1]
    if of.time is None or seeds.time is None or trees is None:
        return begin, end
    now, low, high = seeds.time[trees], begin, end
    while bool((open := low < high).any()):
        middle = (low + high) // 2
        early = of.time[middle.clamp(max=len(of.time) - 1)] <= now
        low = torch.where(open & early, middle + 1, low)
        high = torch.where(open & ~early, middle, high)
    return begin, low


def _drawn_anew(k: int, has_any: Tensor) -> Tensor:
    """The number of draws with replacement for each row."""
    if k * int(has_any.sum()) > _MOST:
        raise GraphError(TOO_MANY_DRAWS)
    return torch.where(has_any, k, 0)


def _floyd(size: Tensor, k: int, words: Tensor) -> Tensor:
    """Of each ``size`` (> k) neighbours ``k`` different ones, ``[rows, k]``: Floyd's draws.

    Of the first ``i + 1`` one is drawn, and the last of them where that is taken.
    """
    picks = torch.full((len(size), k), -1, device=size.device)
    for j in range(k):
        last = size - k + j
        drawn = below(random_words(words, torch.tensor(j)), last + 1)
        taken = (picks[:, :j] == drawn.unsqueeze(1)).any(1)
        picks[:, j] = torch.where(taken, last, drawn)
    return picks


def _exponential(words: Tensor) -> Tensor:
    """-log of a uniform number in (0, 1), by operations that round alike everywhere."""
    unit = (shift_right(words, 12).to(torch.float64) + 0.5) * 2.0**-52
    bits = unit.view(torch.int64)
    exponent = (bits >> 52) - 1023
    m = ((bits & (2**52 - 1)) | (1023 << 52)).view(torch.float64)
    large = m > 1.4142135623730951
    m, exponent = torch.where(large, m * 0.5, m), exponent + large.to(torch.int64)
    # log m = 2 artanh s
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    total = torch.full_like(s, 1.0 / 23.0)
    for odd in range(21, 0, -2):
        total = total * z + 1.0 / odd
    return -(2.0 * s * total + exponent.to(torch.float64) * 0.6931471805599453)


def _draw(
    plan: Plan, of: Relation, k: int, word: int, ids: Tensor, trees: Tensor | None, seeds: Seeds
) -> tuple[Tensor, Tensor]:
    """The slots drawn for nodes ``ids``, row by row: how many of each row, and all of them."""
    begin, end = _spans(of, ids, trees, seeds)
    size = end - begin
    if k == 0:
        return torch.zeros_like(size), size.new_empty(0)
    if k > 0 and plan.last:
        begin = torch.maximum(begin, end - k)
    if k < 0 or plan.last:
        row, offset = _row_of_slots(end - begin)
        return end - begin, begin[row] + offset
    signed = torch.tensor(word - 2**64 if word >= 2**63 else word, device=ids.device)
    if plan.labor:
        row, offset = _row_of_slots(size)
        slot = begin[row] + offset
        bound = (k / size.clamp(min=k).to(torch.float64) * 2.0**53).to(torch.int64)
        number = shift_right(random_words(signed, of.idx[slot].long()), 11)
        kept = (number < bound[row]) | (size[row] <= k)
        return torch.bincount(row[kept], minlength=len(ids)), slot[kept]
    words = random_words(signed, ids)
    if trees is not None:
        words = random_words(words, trees)
    if of.sums is not None:
        total = of.sums[end] - of.sums[begin]
        counts = _drawn_anew(k, total > 0)
        row, number = _row_of_slots(counts)
        drawn = of.sums[begin][row] + below(random_words(words[row], number), total[row])
        return counts, torch.searchsorted(of.sums, drawn, right=True) - 1
    if of.weight is not None:
        row, offset = _row_of_slots(size)
        slot = begin[row] + offset
        kept = of.weight[slot] > 0
        row, offset, slot = row[kept], offset[kept], slot[kept]
        arrival = _exponential(random_words(words[row], offset)) / of.weight[slot]
        order = torch.sort(arrival, stable=True).indices
        order = order[torch.sort(row[order], stable=True).indices]
        counts = torch.bincount(row, minlength=len(ids))
        first = order[_row_of_slots(counts)[1] < k]
        return counts.clamp(max=k), slot[first]
    if plan.replace:
        counts = _drawn_anew(k, size > 0)
        row, number = _row_of_slots(counts)
        return counts, begin[row] + below(random_words(words[row], number), size[row])
    counts = size.clamp(max=k)
    row, offset = _row_of_slots(counts)
    more = size > k
    picks = _floyd(size[more], k, words[more])
    offset[more[row]] = picks.flatten()
    return counts, begin[row] + offset


def _number(known: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Local numbers of ``found`` after ``known`` ones, and where in ``found`` each new one is."""
    keys = torch.cat([known, found])
    ordered, order = torch.sort(keys, stable=True)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    group = is_first.cumsum(0) - 1
    # a stable sort leaves the earliest of equals first
    first = torch.empty_like(order).index_copy_(0, order, order[is_first][group])
    position = torch.arange(len(keys), device=keys.device)
    is_new = (first == position) & (position >= len(known))
    number = torch.where(is_new, len(known) + is_new.cumsum(0) - 1, position)
    return number[first][len(known) :], is_new[len(known) :].nonzero().flatten()


def reference(plan: Plan) -> Run:
    """What the kernel does, in plain torch and to the same bits."""

    def key_of(ids: Tensor, trees: Tensor | None, kind: int) -> Tensor:
        return ids if trees is None else trees * plan.num_nodes[kind] + ids

    def run(seeds: Seeds) -> Found:
        ids = list(seeds.ids)
        trees: list[Tensor | None] = [None] * len(ids)
        if plan.disjoint:
            trees = [
                torch.arange(len(some), device=some.device) + first
                for some, first in zip(ids, seeds.first, strict=True)
            ]
        num_nodes = [[len(some)] for some in ids]
        none = torch.empty(0, dtype=torch.int64, device=plan.device)
        parts = [([none], [none], [none]) for _ in plan.relations]
        num_edges: list[list[int]] = [[] for _ in plan.relations]
        for hop in range(plan.hops):
            frontier = [(sum(counts[:hop]), sum(counts[: hop + 1])) for counts in num_nodes]
            for at, of in enumerate(plan.relations):
                first, last = frontier[of.dst]
                k = plan.fanout[hop][at]
                layer = 0xFFFF if plan.layer_dependency else hop
                which = of.src if plan.labor else at
                word = random_word(seeds.key, which << 16 | layer)
                of_dst = trees[of.dst]
                of_rows = None if of_dst is None else of_dst[first:last]
                counts, slots = _draw(plan, of, k, word, ids[of.dst][first:last], of_rows, seeds)
                found = of.idx[slots].long()
                of_found = None if of_rows is None else torch.repeat_interleave(of_rows, counts)
                known = key_of(ids[of.src], trees[of.src], of.src)
                local, new = _number(known, key_of(found, of_found, of.src))
                ids[of.src] = torch.cat([ids[of.src], found[new]])
                if of_found is not None:
                    trees[of.src] = torch.cat([cast(Tensor, trees[of.src]), of_found[new]])
                for part, piece in zip(parts[at], (counts, local, slots), strict=True):
                    part.append(piece)
                num_edges[at].append(len(slots))
            for kind, some in enumerate(ids):
                num_nodes[kind].append(len(some) - sum(num_nodes[kind]))
        edges: list[tuple[Tensor, Tensor, Tensor]] = []
        for at, of in enumerate(plan.relations):
            if plan.induced:
                counts, local, slots = among(of, ids, trees, seeds)
            else:
                counts, local, slots = (torch.cat(part) for part in parts[at])
            ptr = torch.zeros(len(counts) + 1, dtype=torch.int64, device=plan.device)
            torch.cumsum(counts, 0, out=ptr[1:])
            eid = slots if of.eid is None else of.eid[slots].long()
            edges.append((ptr, local.to(torch.int32), eid))
        return Found(ids, trees, num_nodes, edges, num_edges)

    def among(
        of: Relation, ids: list[Tensor], trees: list[Tensor | None], seeds: Seeds
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, local sources and slots of all edges among the nodes that were found."""
        begin, end = _spans(of, ids[of.dst], trees[of.dst], seeds)
        row, offset = _row_of_slots(end - begin)
        slot = begin[row] + offset
        of_dst = trees[of.dst]
        wanted = key_of(of.idx[slot].long(), None if of_dst is None else of_dst[row], of.src)
        known = key_of(ids[of.src], trees[of.src], of.src)
        local, _ = _number(known, wanted)
        kept = local < len(known)
        return torch.bincount(row[kept], minlength=len(begin)), local[kept], slot[kept]

    return run


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
    for induced subgraphs, which cannot be trimmed.
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
    for those sampled). It can be pickled, for workers that are started afresh.
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
    ) -> Sampled | HeteroSampled:
        """The neighbourhood of ``seeds``; the arguments are those of :func:`sample`."""
        given = _read_seeds(self.plan, seeds, key, seed_time)
        return _wrap(self.plan, self._run(given))


def sample(
    graph: Graph | Mapping[EdgeType, Graph],
    seeds: Tensor | Mapping[str, Tensor],
    fanout: Sequence[int] | Mapping[EdgeType, Sequence[int]],
    key: Key | tuple[int, int, int] = _NO_KEY,
    *,
    seed_time: Tensor | Mapping[str, Tensor] | None = None,
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
    return Sampler(graph, fanout, **options)(seeds, key, seed_time=seed_time)


def _read_seeds(p: Plan, seeds: Any, key: Any, seed_time: Any) -> Seeds:
    by_type = _by_type(p, "seeds", seeds)
    ids: list[Tensor] = [torch.empty(0, dtype=torch.int64, device=p.device) for _ in p.types]
    first, trees = [0] * len(p.types), 0
    for kind, given in by_type.items():
        at = p.types.index(kind)
        label = f"seeds[{kind!r}]" if p.is_hetero else "seeds"
        ids[at] = _ids(p, label, given, p.num_nodes[at])
        first[at], trees = trees, trees + len(given)
    if trees > _MOST:
        raise GraphError(f"sample: {trees} seeds, but at most {_MOST} are numbered in one batch.")
    return Seeds(ids, first, _times(p, by_type, ids, seed_time), _key(key))


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


def _ids(p: Plan, label: str, given: Any, count: int) -> Tensor:
    if not isinstance(given, Tensor) or given.dim() != 1:
        shape = f"shape {list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise GraphError(f"sample: {label} has {shape}, but a one-dimensional torch.Tensor of node "
                         "ids is expected.")  # fmt: skip
    if given.dtype not in (torch.int64, torch.int32):
        hint = "mask.nonzero().flatten()" if given.dtype == torch.bool else f"{label}.long()"
        raise GraphError(
            f"sample: {label} has dtype {given.dtype}, but torch.int64 or torch.int32 is expected. "
            f"Pass {hint}."
        )
    if given.device != p.device:
        raise GraphError(
            f"sample: {label} is on {given.device} but the graph is on {p.device}. "
            f"Pass {label}.to({str(p.device)!r})."
        )
    if given.numel():
        low, high = torch.aminmax(given)
        if int(low) < 0 or int(high) >= count:
            at = int(((given < 0) | (given >= count)).nonzero()[0])
            valid = f"valid: 0 to {count - 1}" if count else "valid: none"
            raise GraphError(
                f"sample: {label}[{at}] = {int(given[at])}, but there are {count} nodes ({valid}). "
                "Pass a larger num_nodes when building the graph, or drop the seed."
            )
    return given.to(torch.int64).contiguous()


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


def _key(key: Any) -> int:
    """All of a key in one word."""
    if not isinstance(key, tuple) or len(cast(tuple[Any, ...], key)) != 3:
        raise ConfigError(
            f"sample: key is {key!r}, but three whole numbers (seed, epoch, batch) are expected, "
            "such as graphkit.ops.Key(seed=0, epoch=0, batch=0)."
        )
    word = 0
    for name, number in zip(Key._fields, cast(tuple[Any, ...], key), strict=True):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**63:
            raise ConfigError(
                f"sample: the {name} of key is {number!r}, but a whole number from 0 to 2**63 - 1 "
                "is expected."
            )
        word = random_word(word, number)
    return word


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
