"""Random walks, and the nodes that matter most to a seed by where walks from it lead.

Every draw is a function of a key (seed, epoch, batch), the start and number of the walk and the
step, and masses are whole numbers: the same bits for any number of threads, native or not. Here are
the references in plain torch and what users call.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError
from ..graph import Csr, Graph, missing_transpose, row_ids
from .random import as_word, below, random_words, shift_right
from .sample_plan import Key, check_rows, read_ids, read_key, read_weights, whole_weights

# steps that are drawn and may be refused, before a step is drawn from all
TRIES = 16
# all mass of a push
MASS = 2**60
# numbers that the reference of pushes has under way at a time, about: 512 MB
ROOM = 2**26
_CHANCE = 2**53
_NO_KEY = Key()


@dataclass(frozen=True, eq=False)
class Way:
    """Where a step may go: rows are nodes, columns their targets, which rise for node2vec.

    ``sums [E + 1]``: whole-number weights before each slot, or None.
    """

    ptr: Tensor
    idx: Tensor
    eid: Tensor | None
    sums: Tensor | None


@dataclass(frozen=True, eq=False)
class Ways:
    """The ways of each step, in turn. ``weight`` and ``chance`` of the three kinds of a step of
    node2vec, which has one way: back, to a neighbour of the last node, farther."""

    sides: tuple[Way, ...]
    second: bool
    weight: tuple[float, float, float]
    chance: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Starts:
    """Of each walk the start and the number that tells it from others there; and how walks end:
    in a node without a way on they stay, or end, as they do after a turn through all ways with
    chance ``stop``, of 2**53."""

    node: Tensor
    number: Tensor
    length: int
    word: int
    ends: bool
    stop: int


Walk = Callable[[Ways, Starts, bool], tuple[Tensor, Tensor | None]]
Push = Callable[[Csr, Tensor, int, int, int], tuple[Tensor, Tensor, Tensor]]


# --- the references ---


def _draw(ways: Way, at: Tensor, words: Tensor) -> Tensor:
    """A slot of each row ``at``, -1 where there is none."""
    begin, end = ways.ptr[at], ways.ptr[at + 1]
    if ways.sums is None:
        return torch.where(end > begin, begin + below(words, end - begin), -1)
    low = ways.sums[begin]
    total = ways.sums[end] - low
    drawn = torch.searchsorted(ways.sums, low + below(words, total), right=True) - 1
    return torch.where(total > 0, drawn, -1)


def _kind(ways: Way, keys: Tensor, to: Tensor, last: Tensor) -> Tensor:
    """0: back to ``last``, 1: to a node with an edge to it, 2: farther."""
    wanted = to * (ways.ptr.numel() - 1) + last
    place = torch.searchsorted(keys, wanted).clamp_(max=max(0, len(keys) - 1))
    return torch.where(to == last, 0, torch.where(keys[place] == wanted, 1, 2))


def _draw_second(of: Ways, keys: Tensor, at: Tensor, last: Tensor, words: Tensor) -> Tensor:
    ways = of.sides[0]
    slot = _draw(ways, at, words)
    chances = torch.tensor(of.chance, device=at.device)
    left = (slot >= 0).nonzero().flatten()
    for attempt in range(TRIES):
        mine = words[left]
        drawn = _draw(ways, at[left], random_words(mine, torch.tensor(2 * attempt)))
        number = shift_right(random_words(mine, torch.tensor(2 * attempt + 1)), 11)
        kept = number < chances[_kind(ways, keys, ways.idx[drawn].long(), last[left])]
        slot[left[kept]] = drawn[kept]
        left = left[~kept]
    slot[left] = _draw_from_all(of, keys, at[left], last[left], words[left])
    return slot


def _draw_from_all(of: Ways, keys: Tensor, at: Tensor, last: Tensor, words: Tensor) -> Tensor:
    ways = of.sides[0]
    size = ways.ptr[at + 1] - ways.ptr[at]
    row = torch.repeat_interleave(torch.arange(len(at), device=at.device), size)
    slots = torch.arange(len(row), device=at.device) - (size.cumsum(0) - size - ways.ptr[at])[row]
    kind = _kind(ways, keys, ways.idx[slots].long(), last[row])
    weight = torch.ones_like(row) if ways.sums is None else ways.sums.diff()[slots]
    total = weight.new_zeros(len(at) * 3).index_add_(0, row * 3 + kind, weight).view(-1, 3)
    share = total.to(torch.float64)
    back = share[:, 0] * of.weight[0]
    near = back + share[:, 1]
    number = shift_right(random_words(words, torch.tensor(2 * TRIES)), 11).to(torch.float64)
    number = number * 2.0**-53 * (near + share[:, 2] * of.weight[2])
    chosen = torch.where(number < back, 0, torch.where(number < near, 1, 2))
    # what is rounded up may reach the end
    past = (chosen == 2) & (total[:, 2] == 0)
    chosen = torch.where(past, (total[:, 1] > 0).long(), chosen)
    drawn = below(
        random_words(words, torch.tensor(2 * TRIES + 1)),
        total.gather(1, chosen.unsqueeze(1)).flatten(),
    )
    # sums over all rows may wrap around, which their differences undo
    weight = torch.where(kind == chosen[row], weight, 0)
    sums = weight.cumsum(0)
    first = size.cumsum(0) - size
    before = torch.where(first > 0, sums[(first - 1).clamp(min=0)], 0)
    passed = sums - before[row] > drawn[row]
    # the first slot of each row that passes what was drawn
    at_slot = torch.full_like(at, len(ways.idx))
    return at_slot.scatter_reduce_(0, row[passed], slots[passed], "amin")


def walk_reference(ways: Ways, starts: Starts, edges: bool) -> tuple[Tensor, Tensor | None]:
    """The nodes of each walk, ``[walks, length + 1]``, and its edges, ``[walks, length]``."""
    at, device = starts.node, starts.node.device
    words = random_words(random_words(as_word(starts.word), at), starts.number)
    keys, first = at, ways.sides[0]
    if ways.second:
        keys = row_ids(first.ptr, len(first.idx)) * (first.ptr.numel() - 1) + first.idx
    nodes, taken = [at], list[Tensor]()
    # a walk that is over stands nowhere, -1
    place, last = at, torch.full_like(at, -1)
    for step in range(starts.length):
        side = ways.sides[step % len(ways.sides)]
        own = random_words(words, torch.tensor(step))
        slot = torch.full_like(at, -1)
        second = (last >= 0) & (place >= 0) & ways.second
        plain = (place >= 0) & ~second
        slot[plain] = _draw(side, place[plain], own[plain])
        if bool(second.any()):
            slot[second] = _draw_second(ways, keys, place[second], last[second], own[second])
        moved = slot >= 0
        following = torch.full_like(at, -1) if starts.ends else place.clone()
        following[moved] = side.idx[slot[moved]].long()
        nodes.append(following)
        edge = slot.clone()
        if side.eid is not None:
            edge[moved] = side.eid[slot[moved]].long()
        taken.append(edge)
        last, place = place, following
        if starts.ends and (step + 1) % len(ways.sides) == 0:
            number = shift_right(random_words(own, torch.tensor(2 * TRIES + 2)), 11)
            place = torch.where(number < starts.stop, -1, following)
    none = torch.empty(len(at), 0, dtype=torch.int64, device=device)
    return torch.stack(nodes, 1), (torch.stack(taken, 1) if taken else none) if edges else None


def push_reference(
    of: Csr, seeds: Tensor, alpha: int, least: int, top: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each seed the nodes with most mass, their masses, and how many there are."""
    num_nodes, device = of.num_rows, seeds.device
    # every seed has a place for all nodes and edges
    most = max(1, ROOM // max(1, num_nodes + of.num_edges))
    if len(seeds) > most:
        pieces = [seeds[at : at + most] for at in range(0, len(seeds), most)]
        parts = [push_reference(of, some, alpha, least, top) for some in pieces]
        node, mass, count = (torch.cat(found) for found in zip(*parts, strict=True))
        return node, mass, count
    degree, rows = of.degree(), of.row_ids()
    kept = torch.zeros(len(seeds), num_nodes, dtype=torch.int64, device=device)
    moving = kept.scatter(1, seeds.unsqueeze(1), MASS)
    front = moving > 0
    while bool(front.any()):
        amount = torch.where(front, moving, 0)
        rest = amount - below(as_word(alpha), amount)
        share = rest // degree.clamp(min=1) * (degree > 0)
        kept += amount - share * degree
        moving = (moving - amount).index_add_(1, of.indices.long(), share[:, rows])
        front = moving // degree.clamp(min=1) >= least
    mass, node = torch.sort(kept, dim=1, descending=True, stable=True)
    return node[:, :top], mass[:, :top], (mass[:, :top] > 0).sum(1)


native_walk: Walk | None = None
native_push: Push | None = None


def register_native(walk: Walk, push: Push) -> None:
    """Let the kernels serve graphs on the CPU (``ops/cpu/walk.py``)."""
    global native_walk, native_push
    native_walk, native_push = walk, push


# --- what is called ---


class Walker:
    """Random walks from many batches of nodes: :func:`random_walk`, prepared once.

    What takes time in proportion to the edges is done here: checks, sums of weights, and for
    node2vec a copy of the edges sorted by their targets where they are not.
    """

    def __init__(
        self,
        graph: Graph | Sequence[Graph],
        *,
        p: float = 1.0,
        q: float = 1.0,
        edge_weight: Tensor | Sequence[Tensor | None] | None = None,
    ) -> None:
        graphs = list(graph) if isinstance(graph, (list, tuple)) else [cast(Graph, graph)]
        sides = _walked("random_walk", graphs)
        given = list(edge_weight) if isinstance(edge_weight, (list, tuple)) else [edge_weight]
        if edge_weight is None:
            given = [None] * len(graphs)
        if len(given) != len(graphs):
            raise GraphError(
                f"random_walk: edge_weight is for {len(given)} graphs, but the path has "
                f"{len(graphs)}. Pass a list with a tensor or None for each."
            )
        weights = (_inverse("p", p), 1.0, _inverse("q", q))
        second = weights != (1.0, 1.0, 1.0)
        if second and len(graphs) > 1:
            raise ConfigError(
                "random_walk: p and q compare a node with the one before, which on a path of "
                "several graphs is of another kind. Leave them out."
            )
        if second and not _rises(sides[0]):
            sides = [_sorted(graphs[0])]
        # one width of columns for all
        dtype = torch.int64 if any(side.indices.dtype == torch.int64 for side in sides) else None
        ways: list[Way] = []
        for part, side, weight in zip(graphs, sides, given, strict=True):
            sums = None if weight is None else _sums(part, side, cast(Tensor, weight))
            eid = None if side.eid is None else side.eid.contiguous()
            idx = side.indices.contiguous() if dtype is None else side.indices.to(dtype)
            ways.append(Way(side.indptr.contiguous(), idx.contiguous(), eid, sums))
        top = max(weights)
        back, near, far = (int(weight / top * _CHANCE) for weight in weights)
        self.ways = Ways(tuple(ways), second, weights, (back, near, far))
        self.num_nodes, self.device = graphs[0].num_src, graphs[0].device
        # where a walk on a metapath stayed, the next graph would not know its node
        self.ends = isinstance(graph, (list, tuple))

    @overload
    def __call__(
        self,
        start: Tensor,
        walk_length: int,
        key: Key | tuple[int, int, int] = ...,
        *,
        return_eid: Literal[False] = ...,
    ) -> Tensor: ...
    @overload
    def __call__(
        self,
        start: Tensor,
        walk_length: int,
        key: Key | tuple[int, int, int] = ...,
        *,
        return_eid: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...
    def __call__(
        self,
        start: Tensor,
        walk_length: int,
        key: Key | tuple[int, int, int] = _NO_KEY,
        *,
        return_eid: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Walks from ``start``; the arguments are those of :func:`random_walk`."""
        start = read_ids("start", start, self.num_nodes, self.device, of="random_walk")
        _whole("random_walk", "walk_length", walk_length, 0)
        number = torch.arange(len(start), device=self.device)
        word = read_key(key, of="random_walk")
        found = self.run(Starts(start, number, walk_length, word, self.ends, 0), return_eid)
        return cast(tuple[Tensor, Tensor], found) if return_eid else found[0]

    def run(self, starts: Starts, edges: bool) -> tuple[Tensor, Tensor | None]:
        """Walks that were checked."""
        is_native = native_walk is not None and self.device.type == "cpu"
        return cast(Walk, native_walk if is_native else walk_reference)(self.ways, starts, edges)


@overload
def random_walk(
    graph: Graph | Sequence[Graph],
    start: Tensor,
    walk_length: int,
    key: Key | tuple[int, int, int] = ...,
    *,
    p: float = ...,
    q: float = ...,
    edge_weight: Tensor | Sequence[Tensor | None] | None = ...,
    return_eid: Literal[False] = ...,
) -> Tensor: ...
@overload
def random_walk(
    graph: Graph | Sequence[Graph],
    start: Tensor,
    walk_length: int,
    key: Key | tuple[int, int, int] = ...,
    *,
    p: float = ...,
    q: float = ...,
    edge_weight: Tensor | Sequence[Tensor | None] | None = ...,
    return_eid: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def random_walk(
    graph: Graph | Sequence[Graph],
    start: Tensor,
    walk_length: int,
    key: Key | tuple[int, int, int] = _NO_KEY,
    *,
    p: float = 1.0,
    q: float = 1.0,
    edge_weight: Tensor | Sequence[Tensor | None] | None = None,
    return_eid: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Random walks along the edges, from source to destination, as ``torch_cluster`` walks.

    From node ``v``, reached from ``t``, a walk takes each edge to a node ``x`` in proportion to

    - its weight, ``edge_weight [E]`` in the order of ``edge_index`` (1 without), times
    - ``1 / p`` if ``x`` is ``t``; 1 if there is an edge from ``x`` to ``t``; ``1 / q`` otherwise:
      node2vec (`paper <https://arxiv.org/abs/1607.00653>`_). The first step has no such factor.

    Parallel edges are ways of their own. In a node without out-edges, or whose edges all have
    weight 0, the walk stays. ``graph.t()`` walks against the edges.

    ``graph``: square, with ``by_src``; or a list of graphs, a metapath: step ``t`` goes along graph
    ``t`` modulo their number, whose sources are the destinations of the one before; there a walk
    without a way on ends, -1 from there, and ``edge_weight`` is a list as well. ``start [n]``: node
    ids, int64 or int32. ``key``: (seed, epoch, batch); walk ``i`` is a function of it, of ``i`` and
    of ``start[i]``. Weights are told apart to 2**-31 of the largest among a node's edges, and
    smaller ones count as that much.

    Returns the nodes, int64 ``[n, walk_length + 1]``, the starts first; with ``return_eid`` the
    number of each edge walked as well, int64 ``[n, walk_length]``, -1 where a walk stayed.

    Cost: a step is a draw; with ``p`` or ``q`` up to 16 draws, each with a search of a row, and
    then a pass over all edges of the node. To walk more than once prepare a :class:`Walker`.
    Deterministic; no gradient.

    Raises :class:`GraphError` for a graph without ``by_src``, a path that does not come back to
    where it starts (such as one graph with two kinds of nodes), and malformed starts and weights,
    and :class:`ConfigError` for ``p`` or ``q`` that are not positive or on a metapath, a negative
    ``walk_length`` and a malformed key.
    """
    walker = Walker(graph, p=p, q=q, edge_weight=edge_weight)
    return walker(start, walk_length, key, return_eid=cast(Literal[True], return_eid))


def importance_neighbors(
    graph: Graph | Sequence[Graph] | Walker,
    seeds: Tensor,
    num_neighbors: int,
    key: Key | tuple[int, int, int] = _NO_KEY,
    *,
    num_walks: int = 50,
    walk_length: int = 10,
    termination_prob: float = 0.15,
) -> tuple[Graph, Tensor]:
    r"""The nodes that random walks from each seed visit most often: PinSAGE's neighbourhoods.

    ``num_walks`` walks from each seed end after every step with ``termination_prob``, after
    ``walk_length`` steps, or where there is no way on; every node that a step reaches counts, the
    seed itself included when a walk comes back. On a metapath, such as from items to users and
    back, a step is the whole path, and what lies between does not count
    (`paper <https://arxiv.org/abs/1806.01973>`_). A seed's neighbours are the ``num_neighbors``
    nodes with most visits, of equals the lower ones; their weights are the visits, divided by their
    sum.

    ``graph`` and edge weights: as in :func:`random_walk`, or a prepared :class:`Walker` without
    ``p`` and ``q``. The walks of a seed are a function of ``key`` and the seed alone.

    Returns the bipartite :class:`Graph` whose destination ``i`` is ``seeds[i]`` and whose sources
    are all nodes, without ``by_src``, and float32 weights ``[E]`` in its order, the largest of each
    seed first. A seed whose walks lead nowhere has no neighbour. :func:`compact` makes a block of
    it, whose sources are the seeds of the next hop.

    Cost: all steps, and sorting them. Deterministic; no gradient.

    Raises :class:`GraphError` as :func:`random_walk`, and :class:`ConfigError` for numbers that are
    not positive and a ``termination_prob`` outside 0 to 1.

    Several hops, the first layer's block last::

        for _ in range(layers):
            found, weight = ops.importance_neighbors(walker, seeds, 10, key)
            block, seeds = ops.compact(found, seeds)
    """
    op = "importance_neighbors"
    for name, value in (("num_neighbors", num_neighbors), ("num_walks", num_walks),
                        ("walk_length", walk_length)):  # fmt: skip
        _whole(op, name, value, 1)
    if not _is_number(termination_prob) or not 0 <= termination_prob <= 1:
        raise ConfigError(
            f"{op}: termination_prob is {termination_prob!r}, but a probability is expected."
        )
    walker = graph if isinstance(graph, Walker) else Walker(graph)
    if walker.ways.second:
        raise ConfigError(
            f"{op}: the Walker has p or q, but walks with restart are of the first order. Prepare "
            "one without."
        )
    seeds = read_ids("seeds", seeds, walker.num_nodes, walker.device, of=op)
    number = torch.arange(num_walks, device=seeds.device).repeat(len(seeds))
    stop, word, turn = (
        round(termination_prob * _CHANCE),
        read_key(key, of=op),
        len(walker.ways.sides),
    )
    starts = Starts(
        seeds.repeat_interleave(num_walks), number, walk_length * turn, word, True, stop
    )
    visits = walker.run(starts, False)[0][:, turn::turn].reshape(
        len(seeds), num_walks * walk_length
    )
    row = torch.arange(len(seeds), device=seeds.device).unsqueeze(1).expand_as(visits)
    keys = (row * walker.num_nodes + visits)[visits >= 0]
    keys, counts = _counted(keys)
    # by row, the most visited first; both sorts leave the lower of equals first
    order = torch.sort(counts, descending=True, stable=True).indices
    row = keys[order] // max(1, walker.num_nodes)
    order = order[torch.sort(row, stable=True).indices]
    sizes = torch.bincount(keys // max(1, walker.num_nodes), minlength=len(seeds))
    place = torch.arange(len(order), device=seeds.device)
    place = place - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    order = order[place < num_neighbors]
    found = _neighborhoods(sizes.clamp(max=num_neighbors), keys[order] % max(1, walker.num_nodes),
                           walker.num_nodes)  # fmt: skip
    weight, rows = counts[order].to(torch.float32), found.by_dst.row_ids()
    total = weight.new_zeros(len(seeds)).index_add_(0, rows, weight)
    return found, weight / total[rows]


def ppr(
    graph: Graph | Walker,
    seeds: Tensor,
    *,
    alpha: float = 0.15,
    eps: float = 1e-4,
    top_k: int = 32,
) -> tuple[Graph, Tensor]:
    r"""Approximate personalised PageRank of each seed by pushing, without chance.

    :math:`\pi_s(v)` is the probability that a walk from ``s``, which ends before each step with
    probability ``alpha``, ends in ``v``; in a node without out-edges it ends. A node that holds at
    least ``eps`` times its out-degree of the mass under way keeps ``alpha`` of it and passes the
    rest on along its edges, in rounds, until there is none; the seed is the first (`paper
    <https://doi.org/10.1109/FOCS.2006.44>`_). Then
    :math:`0 \le \pi_s(v) - p_s(v) \le \epsilon \sum_u d_u \pi_u(v)`, which in undirected graphs is
    :math:`\epsilon d_v`. Mass is counted in units of 2**-60, and what does not divide stays.

    ``graph``: square, with ``by_src``; edges are followed from source to destination, parallel
    ones each; or a :class:`Walker` of it, whose checks of all edges are then made once for many
    calls. ``seeds [n]``: node ids. ``top_k``: how many nodes are returned for each seed.

    Returns the bipartite :class:`Graph` whose destination ``i`` is ``seeds[i]`` and whose sources
    are all nodes, without ``by_src``, and :math:`p_s(v)`, float32 ``[E]`` in its order: the largest
    first, of equals the lower node. These are PPRGo's neighbourhoods
    (`paper <https://arxiv.org/abs/2007.01570>`_) and those of shaDow.

    Cost: at most ``1 / (alpha * eps)`` edges for a seed beside its own; every thread has a working
    space of 49 bytes for each node of the graph. Deterministic; no gradient.

    Raises :class:`GraphError` as :func:`random_walk`, and :class:`ConfigError` unless ``alpha``
    lies between 0 and 1, ``eps`` between 2**-60 and 1, their product is at least 2**-60, and
    ``top_k`` is positive, and for a Walker with weights, ``p``, ``q`` or a metapath.
    """
    if isinstance(graph, Walker):
        first, *others = graph.ways.sides
        if graph.ways.second or others or first.sums is not None:
            raise ConfigError(
                "ppr: the Walker has weights, p, q or a metapath, but pushes follow all edges of "
                "one graph alike. Prepare one without."
            )
        side = Csr(first.ptr, first.idx)
        num_nodes, device = graph.num_nodes, graph.device
    else:
        (side,) = _walked("ppr", [graph])
        side = Csr(side.indptr.contiguous(), side.indices.contiguous())
        num_nodes, device = graph.num_src, graph.device
    if not _is_number(alpha) or not 2.0**-64 <= alpha < 1:
        raise ConfigError(f"ppr: alpha is {alpha!r}, but a number between 0 and 1 is expected.")
    if not _is_number(eps) or not 2.0**-60 <= eps <= 1:
        raise ConfigError(f"ppr: eps is {eps!r}, but a number from 2**-60 to 1 is expected.")
    _whole("ppr", "top_k", top_k, 1)
    seeds = read_ids("seeds", seeds, num_nodes, device, of="ppr")
    kept, least = int(alpha * 2**64), max(1, round(eps * MASS))
    # what a push keeps at least: where it is nothing, pushes would never end
    smallest = kept * least >> 64
    if smallest == 0:
        raise ConfigError(
            f"ppr: alpha * eps is {alpha * eps!r}, but at least 2**-60 is expected, as a seed "
            "costs up to 1 / (alpha * eps) edges. Pass a larger eps."
        )
    top = min(top_k, num_nodes, MASS // smallest + 1)
    is_native = native_push is not None and seeds.device.type == "cpu"
    push = cast(Push, native_push if is_native else push_reference)
    node, mass, count = push(side, seeds, kept, least, top)
    is_there = torch.arange(node.size(1), device=seeds.device) < count.unsqueeze(1)
    found = _neighborhoods(count, node[is_there], num_nodes)
    return found, (mass[is_there].to(torch.float64) / MASS).to(torch.float32)


def compact(graph: Graph, seeds: Tensor) -> tuple[Graph, Tensor]:
    """The block of a bipartite graph from all nodes to ``seeds``: without nodes that no edge needs.

    Returns the :class:`Graph` with the same edges among local sources, without ``by_src``, and
    their nodes, int64 ``[num_src]``: the seeds first, in their order, then the others, rising. So
    ``x = x[n_id]`` are its sources and ``x[:block.num_dst]`` its destinations.

    Raises :class:`GraphError` unless there is a seed for each destination.
    """
    # isinstance guards against tensors, which layers take but this does not
    if not isinstance(graph, Graph):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(f"compact: graph is a {type(graph).__name__}, but a Graph is expected.")
    seeds = read_ids("seeds", seeds, graph.num_src, graph.device, of="compact")
    if len(seeds) != graph.num_dst:
        raise GraphError(
            f"compact: there are {len(seeds)} seeds, but the graph has {graph.num_dst} "
            "destinations. Pass those it was made for."
        )
    side = graph.by_dst
    nodes = _counted(side.indices.long())[0]
    n_id = torch.cat([seeds, nodes[~torch.isin(nodes, seeds)]])
    # of equal seeds the first stands for all
    ordered, order = torch.sort(n_id, stable=True)
    local = order[torch.searchsorted(ordered, side.indices.long())].to(torch.int32)
    return Graph(Csr(side.indptr, local, side.eid), None, graph.num_dst, len(n_id)), n_id


def _counted(values: Tensor) -> tuple[Tensor, Tensor]:
    """The different values, rising, and how often each occurs."""
    values = torch.sort(values).values
    is_first = torch.ones_like(values, dtype=torch.bool)
    is_first[1:] = values[1:] != values[:-1]
    first = is_first.nonzero().flatten()
    return values[first], torch.cat([first, first.new_full((1,), len(values))]).diff()


def _neighborhoods(sizes: Tensor, nodes: Tensor, num_nodes: int) -> Graph:
    return Graph.from_csr(
        torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), nodes, num_src=num_nodes, transpose=False
    )


def _walked(op: str, graphs: list[Any]) -> list[Csr]:
    """The sides that are walked along, in turn."""
    sides: list[Csr] = []
    if not graphs:
        raise GraphError(f"{op}: the list of graphs is empty, but a path has one at least.")
    for at, graph in enumerate(graphs):
        which = f"graph[{at}]" if len(graphs) > 1 else "graph"
        if not isinstance(graph, Graph):
            raise GraphError(
                f"{op}: {which} is a {type(graph).__name__}, but a graphkit.Graph is expected. "
                "Pass graphkit.Graph.from_edge_index(edge_index, num_nodes)."
            )
        after = graphs[(at + 1) % len(graphs)]
        if isinstance(after, Graph) and graph.num_dst != after.num_src:
            raise GraphError(
                f"{op}: {which} has {graph.num_dst} destinations and the next step starts from "
                f"{after.num_src} sources, but they are expected to be one set of nodes, so that a "
                "walk can go on."
            )
        if graph.device != graphs[0].device:
            raise GraphError(f"{op}: {which} is on {graph.device}, not on {graphs[0].device}.")
        if graph.by_src is None:
            raise GraphError(missing_transpose(f"{op}, which follows edges from their sources,"))
        check_rows(f"{op}: {which}.by_src", graph.t())
        sides.append(graph.by_src)
    return sides


def _sums(graph: Graph, side: Csr, weight: Tensor) -> Tensor:
    """Whole-number weights before each slot."""
    weight = read_weights("random_walk: edge_weight", weight, graph)
    weight = weight if side.eid is None else weight[side.eid.long()]
    sums = torch.zeros(len(weight) + 1, dtype=torch.int64, device=graph.device)
    torch.cumsum(whole_weights(side.indptr, weight)[0], 0, out=sums[1:])
    return sums


def _rises(side: Csr) -> bool:
    """Whether no row's columns fall."""
    falls = side.indices.diff() < 0
    heads = side.indptr[1:-1]
    heads = heads[(heads > 0) & (heads < side.num_edges)]
    falls[heads - 1] = False
    return not bool(falls.any())


def _sorted(graph: Graph) -> Csr:
    """The side of the sources, with rising columns in each row."""
    # sorting by row is stable, so that edges in the order of their targets stay in it
    targets, order = graph.by_dst.row_ids(), graph.by_dst.eid
    edges = torch.stack([targets, graph.by_dst.indices.long()])
    ptr, idx, eid = torch.ops.graphkit.coo_to_csr(edges, graph.num_dst, graph.num_src, False)[:3]
    return Csr(ptr, idx, eid if order is None else order[eid.long()])


def _inverse(name: str, value: Any) -> float:
    # times the weights of a row, 2**62 at most, its inverse must stay a number
    if not _is_number(value) or not 1e-280 <= value <= 1e308:
        raise ConfigError(
            f"random_walk: {name} is {value!r}, but a positive number (1e-280 to 1e308) is "
            "expected. 1 leaves steps as they are."
        )
    return 1.0 / value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(op: str, name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise ConfigError(
            f"{op}: {name} is {value!r}, but a whole number from {least} to 2**31 - 1 is expected."
        )
