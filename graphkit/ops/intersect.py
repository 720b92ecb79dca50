"""What the neighbourhoods of pairs of nodes have in common.

Shapes: N nodes, E edges, P pairs. A neighbourhood is the set of a node's in-neighbours: parallel
edges count once. Inside the ops three sets are numbered: what both ends of a pair have, what the
first has alone, what the second has alone.
"""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, nearest
from ..graph import Csr, Graph, check_range, row_ids
from .check import check_square

Score = Literal["count", "adamic_adar", "resource_allocation"]
_SCORES = ("count", "adamic_adar", "resource_allocation")

Sets = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Offsets and nodes of each of the three sets; the differences are empty if not asked for."""


def check_pairs(pairs: Tensor, num_nodes: int) -> None:
    """Raise :class:`GraphError` for a pair that names no node."""
    for end in range(2):
        check_range(pairs[end], num_nodes, f"edge_label_index[{end}]", "nodes")


def score_weights(degree: Tensor, score: str) -> Tensor | None:
    """What a common neighbour with so many neighbours adds, float64 ``[N]``; None where it is 1.

    A node too small for the formula (one neighbour has a logarithm of 0) adds nothing.
    """
    if score == "count":
        return None
    size = degree.to(torch.float64)
    if score == "adamic_adar":
        return torch.where(degree > 1, size.log().reciprocal(), 0)
    return torch.where(degree > 0, size.reciprocal(), 0)


def neighborhoods(ptr: Tensor, idx: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in rising order without repeats: offsets, and keys ``row * N + column`` that rise."""
    num_nodes = ptr.size(0) - 1
    keys = torch.sort(row_ids(ptr, idx.size(0)) * num_nodes + idx).values
    # the first of equals, which parallel edges are
    keys = keys[keys.diff(prepend=keys.new_full((1,), -1)) > 0]
    heads = torch.arange(num_nodes + 1, device=ptr.device) * num_nodes
    return torch.searchsorted(keys, heads), keys


def _expand(
    ptr: Tensor, keys: Tensor, nodes: Tensor, others: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Every neighbour of ``nodes [P]``: its pair, itself, and whether it is one of ``others``'."""
    num_nodes = ptr.size(0) - 1
    length = ptr.diff()[nodes]
    pair = torch.repeat_interleave(torch.arange(len(nodes), device=ptr.device), length)
    before = length.cumsum(0) - length
    slot = torch.arange(len(pair), device=ptr.device) - before[pair] + ptr[nodes][pair]
    node = keys[slot] % max(1, num_nodes)
    wanted = others[pair] * num_nodes + node
    place = torch.searchsorted(keys, wanted).clamp_(max=max(0, len(keys) - 1))
    return pair, node, keys[place] == wanted


def intersect_reference(
    ptr: Tensor, idx: Tensor, pairs: Tensor, ends: bool, differences: bool
) -> Sets:
    num_pairs = pairs.size(1)
    check_pairs(pairs, ptr.size(0) - 1)
    ptr, keys = neighborhoods(ptr, idx)

    def chosen(nodes: Tensor, others: Tensor, both: bool) -> tuple[Tensor, Tensor]:
        pair, node, found = _expand(ptr, keys, nodes, others)
        keep = found == both
        if not ends:
            keep &= (node != pairs[0][pair]) & (node != pairs[1][pair])
        offsets = torch.zeros(num_pairs + 1, dtype=torch.int64, device=ptr.device)
        torch.cumsum(torch.bincount(pair[keep], minlength=num_pairs), 0, out=offsets[1:])
        return offsets, node[keep].to(idx.dtype)

    degree = ptr.diff()
    swap = degree[pairs[0]] > degree[pairs[1]]
    first, second = pairs[0], pairs[1]
    common = chosen(torch.where(swap, second, first), torch.where(swap, first, second), True)
    if not differences:
        none = [torch.empty(0, dtype=t.dtype, device=t.device) for _ in range(2) for t in common]
        return *common, none[0], none[1], none[2], none[3]
    return *common, *chosen(pairs[0], pairs[1], False), *chosen(pairs[1], pairs[0], False)


intersect_op = torch.library.custom_op("graphkit::intersect", intersect_reference, mutates_args=())


@intersect_op.register_fake
def _(ptr: Tensor, idx: Tensor, pairs: Tensor, ends: bool, differences: bool) -> Sets:
    context = cast(Any, torch.library.get_ctx())
    sizes: list[Tensor] = []
    for is_asked in (True, differences, differences):
        sizes.append(ptr.new_empty(pairs.size(1) + 1 if is_asked else 0))
        sizes.append(idx.new_empty(context.new_dynamic_size() if is_asked else 0))
    a, b, c, d, e, f = sizes
    return a, b, c, d, e, f


def common_neighbors_reference(ptr: Tensor, idx: Tensor, pairs: Tensor, score: str) -> Tensor:
    offsets, nodes, *_ = intersect_reference(ptr, idx, pairs, False, False)
    weights = score_weights(neighborhoods(ptr, idx)[0].diff(), score)
    if weights is None:
        return offsets.diff().to(torch.float32)
    sums = torch.zeros(pairs.size(1), dtype=torch.float64, device=ptr.device)
    return sums.index_add_(0, row_ids(offsets, len(nodes)), weights[nodes]).to(torch.float32)


common_neighbors_op = torch.library.custom_op(
    "graphkit::common_neighbors", common_neighbors_reference, mutates_args=()
)


@common_neighbors_op.register_fake
def _(ptr: Tensor, idx: Tensor, pairs: Tensor, score: str) -> Tensor:
    return ptr.new_empty(pairs.size(1), dtype=torch.float32)


def intersect(
    graph: Graph,
    edge_label_index: Tensor,
    *,
    differences: bool = False,
    ends: bool = True,
    transpose: bool = True,
) -> Graph | tuple[Graph, Graph, Graph]:
    r"""The common neighbours of pairs of nodes, as a graph from nodes to pairs.

    For pair ``p = (u, v)`` the result has an edge to ``p`` from every node of
    :math:`N(u) \cap N(v)`, in rising order, :math:`N` being the set of in-neighbours (of an
    undirected graph: all neighbours); parallel edges count once. ``spmm(result, x)`` then pools the
    features of the common neighbours, as NCN and NCNC do
    (`paper <https://arxiv.org/abs/2302.00890>`_).

    ``graph``: square. ``edge_label_index [2, P]``: int64 or int32; a pair may repeat, and its ends
    may be equal. Returns a :class:`Graph` of ``N`` sources and ``P`` destinations; with
    ``differences`` three of them: :math:`N(u) \cap N(v)`, :math:`N(u) \setminus N(v)`,
    :math:`N(v) \setminus N(u)`. ``ends=False`` leaves ``u`` and ``v`` themselves out of the sets of
    their pair, where an edge between them or a self-loop would bring them in. ``transpose=False``
    skips ``by_src``: no gradients through the result.

    Cost: for each pair the sum of both degrees at most, the smaller one times a logarithm where the
    other is far larger. Rows that are not in rising order are sorted on every call: give the edges
    of a graph that is used often sorted by destination and source. Deterministic; no gradient.

    Raises :class:`GraphError` for a graph with two kinds of nodes, or pairs of another shape, dtype
    or device, or out of range.
    """
    pairs = read_label_index("intersect", graph, edge_label_index)
    side = graph.by_dst
    sets = torch.ops.graphkit.intersect(side.indptr, side.indices, pairs, ends, differences)
    built = [
        _graph_of_set(sets[at], sets[at + 1], pairs.size(1), graph.num_src, transpose)
        for at in range(0, 6 if differences else 2, 2)
    ]
    return (built[0], built[1], built[2]) if differences else built[0]


def _graph_of_set(ptr: Tensor, nodes: Tensor, pairs: int, num_nodes: int, transpose: bool) -> Graph:
    by_dst = Csr(ptr, nodes)
    if not transpose:
        return Graph(by_dst, None, pairs, num_nodes)
    if torch.compiler.is_compiling():
        # how many there will be is not known yet, but the dtype of edge numbers depends on it
        torch._check(nodes.size(0) < 2**31)  # pyright: ignore[reportPrivateUsage]
    # the same edges turned around: sources become the rows that are sorted
    turned = torch.stack([row_ids(ptr, nodes.size(0)), nodes])
    by_src = torch.ops.graphkit.coo_to_csr(turned, pairs, num_nodes, False)[:3]
    return Graph(by_dst, Csr(*by_src), pairs, num_nodes)


def common_neighbors(graph: Graph, edge_label_index: Tensor, score: Score = "count") -> Tensor:
    r"""A score of every pair by its common neighbours, float32 ``[P]``.

    For pair ``(u, v)`` the sum over the nodes ``w`` of :math:`N(u) \cap N(v)` other than ``u`` and
    ``v`` of

    - ``count``: 1,
    - ``adamic_adar``: :math:`1 / \log d_w` (`paper <https://doi.org/10.1016/S0378-8733(03)00009-1>`_),
    - ``resource_allocation``: :math:`1 / d_w` (`paper <https://arxiv.org/abs/0901.0553>`_),

    with :math:`N` as in :func:`intersect` and :math:`d_w = |N(w)|`. A node whose degree makes the
    formula infinite (possible in directed graphs, or where ``u = v``) adds nothing. Sums are kept
    in float64.

    Cost as :func:`intersect`, without its lists. Deterministic; no gradient.

    Raises :class:`ConfigError` for an unknown ``score``, and :class:`GraphError` as
    :func:`intersect`.
    """
    if score not in _SCORES:
        raise ConfigError(
            f"common_neighbors: unknown score {score!r}. {nearest(str(score), _SCORES)}"
        )
    pairs = read_label_index("common_neighbors", graph, edge_label_index)
    side = graph.by_dst
    return torch.ops.graphkit.common_neighbors(side.indptr, side.indices, pairs, score)


def read_label_index(op: str, graph: Graph, pairs: Tensor) -> Tensor:
    """``edge_label_index [2, P]`` as int64, checked but for the range of its values."""
    check_square(op, graph)
    # isinstance guards against lists and arrays, which callers do pass whatever the annotation
    if not isinstance(pairs, Tensor) or pairs.dim() != 2 or pairs.size(0) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]
        shape = f"has shape {list(pairs.shape)}" if isinstance(pairs, Tensor) else "is no tensor"  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(
            f"{op}: edge_label_index {shape}, but a tensor [2, P] is expected. "
            "Stack the two ends: torch.stack([first, second])."
        )
    if pairs.dtype not in (torch.int64, torch.int32):
        raise GraphError(
            f"{op}: edge_label_index has dtype {pairs.dtype}, but torch.int64 is expected. "
            "Convert it with edge_label_index.long() if its values are whole numbers."
        )
    if pairs.device != graph.device:
        raise GraphError(
            f"{op}: edge_label_index is on {pairs.device} but the graph is on {graph.device}. "
            f"Move one of them, for example edge_label_index.to({str(graph.device)!r})."
        )
    return pairs.to(torch.int64)
