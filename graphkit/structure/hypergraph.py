"""Hypergraphs as bipartite graphs: built, joined, cut down, expanded to graphs.

A hypergraph is a :class:`Graph` whose destinations are nodes and whose sources are hyperedges; its
edges are the incidences, and ``spmm(h, spmm(h.t(), x))`` is HGNN up to scales. Weights of
hyperedges ``[M]`` stay outside, as weights of edges do. PyG's ``hyperedge_index [2, nnz]`` names in
row 0 the node and in row 1 the hyperedge of each incidence.
"""

# torch.unique has no types
# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import index as whole
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError
from ..graph import (
    Adj,
    Csr,
    Graph,
    as_graph,
    check_edge_index,
    check_range,
    has_values,
    missing_transpose,
)
from .subgraph import slots_of

# numbers that an expansion holds at once, beside its result
_CHUNK = 1 << 22
_MORE_NODES = "Pass a larger num_nodes, or drop the member."
_MORE_EDGES = "Pass a larger num_edges, or drop the member."


def as_hypergraph(
    hyperedge_index: Adj, num_nodes: int | None = None, num_edges: int | None = None
) -> Graph:
    """``hyperedge_index`` as a Graph of ``num_nodes`` destinations and ``num_edges`` sources.

    Free for a Graph, whose sizes are compared where they are given. PyG's tensor ``[2, nnz]``,
    int64 or int32, is checked and sorted (linear in the incidences), so convert once where a
    hypergraph is used more than once. What is left open becomes the largest number plus one; pass
    ``num_edges`` where the last hyperedges have no member, and inside ``torch.compile``, where it
    cannot be read off.

    Raises :class:`GraphError` for a wrong shape or dtype, and for numbers out of range.
    """
    if isinstance(hyperedge_index, Graph):
        for what, given, has in (
            ("nodes", num_nodes, hyperedge_index.num_dst),
            ("hyperedges", num_edges, hyperedge_index.num_src),
        ):
            if given is not None and given != has:
                raise GraphError(
                    f"{given} {what} are expected, but the hypergraph has {has} (its destinations "
                    "are nodes, its sources hyperedges). Pass num_nodes and num_edges when "
                    "building it."
                )
        return hyperedge_index
    check_edge_index(hyperedge_index)
    node, hyperedge = hyperedge_index[0], hyperedge_index[1]
    num_nodes = _most(node) if num_nodes is None else num_nodes
    num_edges = _most(hyperedge) if num_edges is None else num_edges
    turned = hyperedge_index.flip(0)
    if not has_values(hyperedge_index):
        return as_graph(turned, num_edges, num_nodes, True)
    try:
        return as_graph(turned, num_edges, num_nodes, True)
    except GraphError:
        # the same check, in the words of hypergraphs
        check_range(node, num_nodes, "hyperedge_index[0]", "nodes", _MORE_NODES)
        check_range(hyperedge, num_edges, "hyperedge_index[1]", "hyperedges", _MORE_EDGES)
        raise


def _most(number: Tensor) -> int:
    return max(0, int(number.max()) + 1) if number.numel() else 0


def to_hyperedge_index(hypergraph: Graph) -> Tensor:
    """PyG's ``hyperedge_index [2, nnz]`` int64 (nodes, hyperedges), in the caller's order."""
    return hypergraph.edge_index().flip(0)


def from_members(
    members: Mapping[Any, Iterable[Any]] | Iterable[Iterable[Any]], num_nodes: int | None = None
) -> Graph:
    """The hypergraph of lists of members: for each hyperedge the numbers of its nodes.

    ``members``: a list, or a dict whose values stand in the order of its keys; each entry a list,
    tuple, set or one-dimensional tensor of whole numbers. A node named twice in one hyperedge is a
    member once; incidences are in the order of hyperedges, then nodes. Hyperedges may have one
    member or none, and nodes may be in none. ``num_nodes``: by default the largest number plus one.

    Raises :class:`GraphError` without a hyperedge, for members that are no whole numbers, and for
    numbers out of range.
    """
    lists: list[Any] = list(members.values() if isinstance(members, Mapping) else members)
    if not lists:
        raise GraphError(
            "from_members: there is no hyperedge in members, but at least one is expected. For "
            "nodes alone pass a list with an empty hyperedge, [[]]."
        )
    flat: list[int] = []
    sizes: list[int] = []
    for at, one in enumerate(lists):
        before = len(flat)
        try:
            flat.extend(map(whole, one.tolist() if isinstance(one, Tensor) else one))
        except TypeError:
            raise GraphError(
                f"from_members: members[{at}] is {one!r:.60}, but a list of node numbers (whole "
                "numbers from 0) is expected. Number the nodes first."
            ) from None
        sizes.append(len(flat) - before)
    try:
        node = torch.tensor(flat, dtype=torch.int64)
    except (OverflowError, RuntimeError, ValueError):
        raise GraphError(
            f"from_members: {max(flat, key=abs)} is no node number: they are below 2**63."
        ) from None
    count = _most(node) if num_nodes is None else num_nodes
    check_range(node, count, "members", "nodes", _MORE_NODES)
    hyperedge = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return _of_pairs(node, hyperedge, count, len(sizes))


def from_incidence(incidence: Tensor) -> Graph:
    """The hypergraph of an incidence matrix ``[N, M]``, dense or sparse: what is not 0 is a member.

    Incidences are in the order of hyperedges, then nodes. Values are not kept;
    ``graphkit.interop.from_torch_sparse(matrix, rows="destination")`` gives them beside the same
    graph, and ``to_torch_sparse(hypergraph, rows="destination")`` is the way back.

    Raises :class:`GraphError` for anything but a matrix with at least one column.
    """
    # isinstance guards against lists and arrays, which callers do pass whatever the annotation
    is_tensor = isinstance(incidence, Tensor)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_tensor or incidence.dim() != 2 or incidence.size(1) == 0:
        got = f"shape {list(incidence.shape)}" if is_tensor else type(incidence).__name__
        raise GraphError(
            f"from_incidence got {got}, but a tensor [N, M] with a row for each node and a column "
            "for each of at least one hyperedge is expected."
        )
    if incidence.layout == torch.strided:
        node, hyperedge = incidence.nonzero(as_tuple=True)
    else:
        entries = incidence.detach().to_sparse_coo().coalesce()
        node, hyperedge = entries.indices()[:, entries.values() != 0]
    return _of_pairs(node, hyperedge, incidence.size(0), incidence.size(1))


def to_members(hypergraph: Graph) -> list[list[int]]:
    """The members of each hyperedge, as lists; the inverse of :func:`from_members`."""
    side = _by_hyperedge("to_members", hypergraph)
    bounds, flat = side.indptr.tolist(), side.indices.tolist()
    return [flat[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


def check_hyperedge_weight(hyperedge_weight: Tensor, hypergraph: Graph) -> Tensor:
    """``hyperedge_weight [M]`` itself, if it is one number of at least 0 for each hyperedge.

    Values are not looked at inside ``torch.compile``. Raises :class:`GraphError`.
    """
    weight = hyperedge_weight
    is_tensor = isinstance(weight, Tensor)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_tensor or weight.shape != (hypergraph.num_src,) or not weight.is_floating_point():
        got = f"{weight.dtype} {list(weight.shape)}" if is_tensor else type(weight).__name__
        raise GraphError(
            f"hyperedge_weight is {got}, but floating-point [{hypergraph.num_src}] is expected: a "
            "number for each hyperedge. Pass num_edges if the last ones have no member."
        )
    if weight.device != hypergraph.device:
        raise GraphError(
            f"hyperedge_weight is on {weight.device} but the hypergraph on {hypergraph.device}. "
            "Move one of them."
        )
    if has_values(weight) and not bool((weight >= 0).all() & weight.isfinite().all()):
        at = int((~((weight >= 0) & weight.isfinite())).nonzero()[0])
        raise GraphError(
            f"hyperedge_weight[{at}] = {float(weight[at])}, but weights are finite and at least 0. "
            "Use weights of 0 for hyperedges that are to be left out."
        )
    return weight


def join_hypergraphs(*hypergraphs: Graph) -> Graph:
    """All hyperedges of several hypergraphs of the same nodes, one family after the other.

    Hyperedge ``e`` of the second one gets the number ``e`` plus the count of the first, and so on;
    ``torch.cat`` joins what is known of hyperedges, and of incidences. Raises :class:`GraphError`
    for none, and for different numbers of nodes.
    """
    sizes = [one.num_dst for one in hypergraphs]
    if len(set(sizes)) != 1:
        raise GraphError(
            f"join_hypergraphs: got hypergraphs of {sizes or 'no'} nodes, but at least one, and "
            "the same nodes in all, are expected. Pass num_nodes when building them."
        )
    parts: list[Tensor] = []
    before = 0
    for one in hypergraphs:
        shift = torch.tensor([[0], [before]], device=one.device)
        parts.append(to_hyperedge_index(one) + shift)
        before += one.num_src
    return as_hypergraph(torch.cat(parts, dim=1), sizes[0], before)


def add_singletons(hypergraph: Graph, *, isolated_only: bool = False) -> Graph:
    """``hypergraph`` and a hyperedge of its own for each node that has none of size 1 yet.

    ``isolated_only``: only for nodes in no hyperedge. New hyperedges and incidences come last, in
    the order of nodes: a weight ``[M]`` goes on with ones, ``pad(weight, (0, added), value=1.0)``.
    Adding them once more changes nothing.
    """
    if isolated_only:
        has = hypergraph.in_degree() > 0
    else:
        side = _by_hyperedge("add_singletons", hypergraph)
        first = side.indptr[:-1][side.degree() == 1]
        has = torch.zeros(hypergraph.num_dst, dtype=torch.bool, device=hypergraph.device)
        has[side.indices[first].to(torch.int64)] = True
    node = (~has).nonzero().squeeze(1)
    own = torch.stack([node, hypergraph.num_src + torch.arange(len(node), device=node.device)])
    return as_hypergraph(
        torch.cat([to_hyperedge_index(hypergraph), own], dim=1),
        hypergraph.num_dst,
        hypergraph.num_src + len(node),
    )


class Merged(NamedTuple):
    """``hypergraph`` of M' different hyperedges, ``weight [M']``, and ``number [M]`` int64: which
    of them each of the M hyperedges became."""

    hypergraph: Graph
    weight: Tensor
    number: Tensor


def merge_duplicates(
    hypergraph: Graph,
    hyperedge_weight: Tensor | None = None,
    *,
    reduce: Literal["sum", "mean", "max"] = "sum",
) -> Merged:
    """``hypergraph`` with each set of members once, in the order of their first appearance.

    ``reduce`` says how the weights of equal hyperedges (ones if not given) join. With ``"sum"``
    every propagation that is linear in the weights stays what it was; DHG takes the mean. Members
    that are listed twice count once; hyperedges without members are equal to each other.

    Cost: a sort of the hyperedges of each size. Raises :class:`GraphError` for a bad weight and
    :class:`ConfigError` for another ``reduce``.
    """
    if reduce not in ("sum", "mean", "max"):
        raise ConfigError(f"reduce is {reduce!r}, but 'sum', 'mean' or 'max' is expected.")
    count, device = hypergraph.num_src, hypergraph.device
    if hyperedge_weight is None:
        hyperedge_weight = torch.ones(count, device=device)
    weight = check_hyperedge_weight(hyperedge_weight, hypergraph)
    # in the order of hyperedges, then nodes, each pair once
    node, hyperedge = to_hyperedge_index(hypergraph)
    plain = _of_pairs(node, hyperedge, hypergraph.num_dst, count)
    side = _by_hyperedge("merge_duplicates", plain)
    size = side.degree()
    number = torch.empty(count, dtype=torch.int64, device=device)
    groups = 0
    for length in size.unique().tolist():
        rows = (size == length).nonzero().squeeze(1)
        sets = side.indices[side.indptr[rows, None] + torch.arange(length, device=device)]
        if length:
            different, group = torch.unique(sets, dim=0, return_inverse=True)
        else:
            # torch cannot tell rows without columns apart
            different, group = sets[:1], torch.zeros_like(rows)
        number[rows] = groups + group
        groups += len(different)
    number, first = _by_appearance(number, groups)
    merged = torch.zeros(groups, dtype=weight.dtype, device=device)
    merged = merged.scatter_reduce(
        0, number, weight, "amax" if reduce == "max" else reduce, include_self=False
    )
    which, slot = slots_of(side.indptr, first)
    left = _of_pairs(side.indices[slot].to(torch.int64), which, hypergraph.num_dst, groups)
    return Merged(left, merged, number)


def _by_appearance(number: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """``number`` anew, so that groups rise with their first entry, and where that stands."""
    first = torch.full((groups,), len(number), device=number.device)
    first = first.scatter_reduce(0, number, torch.arange(len(number), device=number.device), "amin")
    first, order = torch.sort(first)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(groups, device=number.device)
    return rank[number], first


class Restricted(NamedTuple):
    """``hypergraph`` of what is left; ``node_id [N']``, ``hyperedge_id [M']`` and ``incidence_id``
    say which nodes, hyperedges and incidences of the whole these are. All int64 and rising."""

    hypergraph: Graph
    node_id: Tensor
    hyperedge_id: Tensor
    incidence_id: Tensor


def restrict(hypergraph: Graph, observed: Tensor, *, min_size: int = 1) -> Restricted:
    """``hypergraph`` among the ``observed`` nodes: hyperedges lose the other members.

    ``observed``: bool ``[N]``. Hyperedges with fewer than ``min_size`` members left are dropped
    (LightHGNN's production setting keeps all that have one); nodes and hyperedges are numbered
    anew in their order. Raises :class:`GraphError` for another mask.
    """
    is_mask = isinstance(observed, Tensor) and observed.dtype == torch.bool  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_mask or observed.shape != (hypergraph.num_dst,):
        got = type(observed).__name__
        if isinstance(observed, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            got = f"{observed.dtype} {list(observed.shape)}"
        raise GraphError(
            f"restrict: observed is {got}, but torch.bool [{hypergraph.num_dst}] is expected: "
            "for each node whether it is there."
        )
    node, hyperedge = to_hyperedge_index(hypergraph)
    stays = observed[node]
    left = torch.bincount(hyperedge[stays], minlength=hypergraph.num_src)
    kept = left >= min_size
    incidence_id = (stays & kept[hyperedge]).nonzero().squeeze(1)
    new_node, new_edge = observed.cumsum(0) - 1, kept.cumsum(0) - 1
    index = torch.stack([new_node[node[incidence_id]], new_edge[hyperedge[incidence_id]]])
    node_id, hyperedge_id = observed.nonzero().squeeze(1), kept.nonzero().squeeze(1)
    return Restricted(
        as_hypergraph(index, len(node_id), len(hyperedge_id)), node_id, hyperedge_id, incidence_id
    )


def clique_expansion(
    hypergraph: Graph, hyperedge_weight: Tensor | None = None
) -> tuple[Graph, Tensor]:
    """The graph that joins any two nodes with a hyperedge in common, and the weight of its edges.

    A square Graph with every edge in both directions and none from a node to itself, sorted by
    destination; beside it for each edge the sum of the weights of these hyperedges, ``[E]``: their
    number if no weights are given. It is ``H W H^T`` without its diagonal.

    Cost: the squares of the hyperedges' sizes in time; in memory the edges, and a bounded part.
    """
    side = _by_hyperedge("clique_expansion", hypergraph)
    if hyperedge_weight is not None:
        check_hyperedge_weight(hyperedge_weight, hypergraph)
    return _product(hypergraph.by_dst, side, hyperedge_weight, hypergraph.num_dst)


def star_expansion(hypergraph: Graph) -> Graph:
    """The square graph of N nodes and M hyperedges (number ``N + e``), joined both ways.

    Edge ``i`` is incidence ``i`` from hyperedge to node, edge ``nnz + i`` its reverse.
    """
    node, hyperedge = to_hyperedge_index(hypergraph)
    ends = torch.stack([hyperedge + hypergraph.num_dst, node])
    return Graph.from_edge_index(
        torch.cat([ends, ends.flip(0)], dim=1), hypergraph.num_dst + hypergraph.num_src
    )


def khop_hyperedges(graph: Graph, k: int = 1) -> Graph:
    """A hyperedge for each node ``v`` of a graph: ``v`` and all from which ``k`` steps lead to it.

    Raises :class:`GraphError` for a bipartite graph and :class:`ConfigError` for ``k`` below 1.
    """
    count = _square("khop_hyperedges", graph)
    if k < 1:
        raise ConfigError(f"khop_hyperedges: k is {k}, but at least 1 step is expected.")
    own = torch.arange(count, device=graph.device)
    src, dst = graph.edge_index()
    near = _of_pairs(torch.cat([src, own]), torch.cat([dst, own]), count, count)
    step = reach = _by_hyperedge("khop_hyperedges", near)
    for _ in range(k - 1):
        found, _ = _product(reach, step, None, count, diagonal=True)
        reach = found.by_dst
    return _of_pairs(reach.indices.to(torch.int64), reach.row_ids(), count, count)


def hyperedges_of_pairs(graph: Graph) -> Graph:
    """A hyperedge of size 2 for each pair of nodes that an edge joins, whatever its direction.

    Each pair once, in the order of its smaller node, then the other. A node that is joined to
    itself gets a hyperedge of its own. Raises :class:`GraphError` for a bipartite graph.
    """
    count = _square("hyperedges_of_pairs", graph)
    ends = graph.edge_index()
    pair = torch.unique(ends.amin(0) * count + ends.amax(0))
    number = torch.arange(len(pair), device=graph.device)
    low, high = pair // max(count, 1), pair % max(count, 1)
    return _of_pairs(torch.cat([low, high]), number.repeat(2), count, len(pair))


def knn_hyperedges(
    x: Tensor, k: int, *, metric: Literal["euclidean", "cosine"] = "euclidean"
) -> Graph:
    """A hyperedge for each row of ``x [N, F]``: its node and the ``k`` others that are nearest.

    Exact, in float64; of equally distant ones those with the smaller numbers are taken. DHG counts
    the node itself among the ``k``.

    Cost: all distances in time, a bounded part of them in memory. Raises :class:`GraphError` for
    another shape or values that are not finite, :class:`ConfigError` for ``k`` outside 1 to N - 1.
    """
    is_matrix = isinstance(x, Tensor) and x.dim() == 2 and x.layout == torch.strided  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_matrix or not bool(x.isfinite().all()):
        raise GraphError(
            "knn_hyperedges: x must be a dense tensor [N, F] of finite numbers, which it is not. "
            "Nodes without features have no nearest ones."
        )
    if metric not in ("euclidean", "cosine"):
        raise ConfigError(f"metric is {metric!r}, but 'euclidean' or 'cosine' is expected.")
    count = len(x)
    if not 1 <= k < count:
        raise ConfigError(
            f"knn_hyperedges: k is {k}, but 1 to {count - 1} others can be near one of {count}."
        )
    point = x.detach().to(torch.float64)
    if metric == "cosine":
        point = torch.nn.functional.normalize(point)
    square = point.square().sum(1)
    nodes: list[Tensor] = []
    rows = max(1, _CHUNK // count)
    for start in range(0, count, rows):
        some = torch.arange(start, min(start + rows, count), device=x.device)
        distance = torch.addmm(square, point[some], point.t(), alpha=-2)
        distance[some - start, some] = torch.inf
        furthest = distance.kthvalue(k, dim=1, keepdim=True).values
        near = distance < furthest
        # as many of those at the border as there is room for
        border = distance == furthest
        room = k - near.sum(1, keepdim=True)
        near |= border & (border.cumsum(1) <= room)
        nodes.append(near.nonzero()[:, 1])
    own = torch.arange(count, device=x.device)
    hyperedge = torch.cat([own, own.repeat_interleave(k)])
    return _of_pairs(torch.cat([own, *nodes]), hyperedge, count, count)


def _of_pairs(node: Tensor, hyperedge: Tensor, num_nodes: int, num_edges: int) -> Graph:
    """The hypergraph of incidences that are in range, sorted by hyperedge, then node, each once."""
    key = torch.unique(hyperedge * num_nodes + node)
    width = max(num_nodes, 1)
    return as_hypergraph(torch.stack([key % width, key // width]), num_nodes, num_edges)


def _by_hyperedge(what: str, hypergraph: Graph) -> Csr:
    if hypergraph.by_src is None:
        raise GraphError(missing_transpose(what))
    return hypergraph.by_src


def _square(what: str, graph: Graph) -> int:
    if graph.num_src != graph.num_dst:
        raise GraphError(
            f"{what} takes a graph of one set of nodes, but this one has {graph.num_src} sources "
            f"and {graph.num_dst} destinations. Is it a hypergraph already?"
        )
    return graph.num_dst


def _product(
    left: Csr, right: Csr, weight: Tensor | None, num_columns: int, *, diagonal: bool = False
) -> tuple[Graph, Tensor]:
    """Rows of ``left``, each the union of rows of ``right``; for each number the sum of ``weight``
    (of the rows of ``right``, ones if None) over the ways to it. A bounded part at a time."""
    device = left.indptr.device
    length = right.degree()
    dtype = torch.float32 if weight is None else weight.dtype
    # how many numbers come before each row of the left, repetitions counted
    work = torch.zeros(left.num_edges + 1, dtype=torch.int64, device=device)
    torch.cumsum(length[left.indices.to(torch.int64)], 0, out=work[1:])
    before = work[left.indptr]
    sources: list[Tensor] = []
    rows: list[Tensor] = []
    sums: list[Tensor] = []
    start = 0
    while start < left.num_rows:
        stop = int(torch.searchsorted(before, before[start] + _CHUNK, right=True)) - 1
        stop = min(max(stop, start + 1), left.num_rows)
        slots = torch.arange(int(left.indptr[start]), int(left.indptr[stop]), device=device)
        middle = left.indices[slots].to(torch.int64)
        which, slot = slots_of(right.indptr, middle)
        row = torch.searchsorted(left.indptr, slots, right=True)[which] - 1
        column = right.indices[slot].to(torch.int64)
        if not diagonal:
            apart = row != column
            row, column, which = row[apart], column[apart], which[apart]
        key = row * num_columns + column
        value = None if weight is None else weight.detach()[middle][which]
        key, total = _summed(key, value, start * num_columns, stop * num_columns, dtype)
        sums.append(total)
        rows.append(key // num_columns)
        sources.append(key % num_columns)
        start = stop
    none = torch.empty(0, dtype=torch.int64, device=device)
    ends = torch.stack([torch.cat([none, *sources]), torch.cat([none, *rows])])
    graph = Graph.from_edge_index(ends, num_src=num_columns, num_dst=left.num_rows)
    return graph, torch.cat([torch.empty(0, dtype=dtype, device=device), *sums])


def _summed(
    key: Tensor, value: Tensor | None, low: int, high: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The different numbers in ``key``, which lie in ``low`` to ``high - 1``, and for each the sum
    of its ``value`` (how often it is there, without)."""
    if high - low <= 4 * len(key):
        # a place for every number: no sort, and not much more memory
        key = key - low
        total = torch.bincount(key, value, minlength=high - low)
        there = torch.bincount(key, minlength=high - low).nonzero().squeeze(1)
        return there + low, total[there].to(dtype)
    key, place, count = torch.unique(key, return_inverse=True, return_counts=True)
    if value is None:
        return key, count.to(dtype)
    return key, torch.zeros(len(key), dtype=dtype, device=key.device).index_add_(0, place, value)
