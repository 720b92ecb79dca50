"""Scores of pairs of nodes without anything learnt: the baselines of link prediction.

Every function takes a graph, whose undirected edges are there in both directions, and pairs
``[2, B]`` as PyG's ``edge_label_index``, and returns float32 ``[B]``: the higher, the likelier a
link. Pairs are worked on in parts, so that memory beside the pairs is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..errors import ConfigError
from ..graph import Adj, Graph, check_edge_index
from ..ops import Walker, ppr, spmm
from ..ops import common_neighbors as scored
from ..ops.check import check_square
from ..ops.intersect import Score, neighborhoods
from ..ops.sample_plan import read_pairs
from .directed import once
from .normalize import has_self_loop

# pairs that are scored at once
_PAIRS = 2**18
# numbers of nodes and starts that are held at once, 8 to 16 bytes each and a few times
_ROOM = 2**24


def read_scored(op: str, graph: Adj, pairs: Tensor) -> tuple[Graph, Tensor]:
    """Both, checked: a square graph and pairs of its nodes, int64 ``[2, B]``.

    A tensor ``edge_index`` becomes a graph of as many nodes as it and the pairs name.
    """
    if isinstance(graph, Tensor):
        check_edge_index(graph)
        # what is no tensor of pairs is refused below
        named = [int(ids.max()) + 1 for ids in (graph, pairs) if getattr(ids, "numel", int)()]
        graph = Graph.from_edge_index(graph, max(named, default=0))
    check_square(op, graph)
    size = graph.num_src, graph.num_dst
    return graph, read_pairs("edge_label_index", pairs, *size, graph.device, of=op)


def _by_neighbors(op: str, graph: Adj, pairs: Tensor, score: Score) -> Tensor:
    graph, pairs = read_scored(op, graph, pairs)
    return torch.cat([scored(graph, some, score) for some in pairs.split(_PAIRS, dim=1)])


def common_neighbors(graph: Adj, edge_label_index: Tensor) -> Tensor:
    r"""How many neighbours both ends of a pair have: :math:`|N(u) \cap N(v)|`, float32 ``[B]``.

    ``graph``: a square :class:`Graph`, or an ``edge_index`` of as many nodes as it and the pairs
    name; :math:`N` is the set of in-neighbours, in which parallel edges count once.
    ``edge_label_index [2, B]``. The ends themselves do not count; see
    :func:`graphkit.ops.common_neighbors`, which this is. So are the next two.

    Raises :class:`GraphError` for a graph with two kinds of nodes and for pairs of another shape,
    dtype or device, or out of range.
    """
    return _by_neighbors("common_neighbors", graph, edge_label_index, "count")


def adamic_adar(graph: Adj, edge_label_index: Tensor) -> Tensor:
    r""":math:`\sum_{w \in N(u) \cap N(v)} 1 / \log |N(w)|`, float32 ``[B]``.

    `Friends and neighbors on the web <https://doi.org/10.1016/S0378-8733(03)00009-1>`_. Arguments
    and errors as :func:`common_neighbors`. A neighbour whose logarithm is 0 adds nothing.
    """
    return _by_neighbors("adamic_adar", graph, edge_label_index, "adamic_adar")


def resource_allocation(graph: Adj, edge_label_index: Tensor) -> Tensor:
    r""":math:`\sum_{w \in N(u) \cap N(v)} 1 / |N(w)|`, float32 ``[B]``.

    `Predicting missing links via local information <https://arxiv.org/abs/0901.0553>`_. Arguments
    and errors as :func:`common_neighbors`.
    """
    return _by_neighbors("resource_allocation", graph, edge_label_index, "resource_allocation")


def num_neighbors(graph: Graph) -> Tensor:
    """How many different in-neighbours each node has beside itself, int64 ``[N]``."""

    def count() -> Tensor:
        ptr, _ = neighborhoods(graph.by_dst.indptr, graph.by_dst.indices)
        return ptr.diff() - has_self_loop(graph).long()

    return once(graph, "num_neighbors", count)


def jaccard(graph: Adj, edge_label_index: Tensor) -> Tensor:
    r""":math:`|N(u) \cap N(v)|\, /\, |N(u) \cup N(v)|`, float32 ``[B]``; 0 where both are empty.

    Arguments and errors as :func:`common_neighbors`. A node is not its own neighbour here, whatever
    self-loops there are.
    """
    graph, pairs = read_scored("jaccard", graph, edge_label_index)
    degree, scores = num_neighbors(graph), list[Tensor]()
    for some in pairs.split(_PAIRS, dim=1):
        both = scored(graph, some)
        either = degree[some].sum(dim=0) - both
        scores.append(torch.where(either > 0, both / either, 0))
    return torch.cat(scores)


def katz(graph: Adj, edge_label_index: Tensor, *, beta: float = 0.005, length: int = 3) -> Tensor:
    r"""Katz's index of walks up to a length: :math:`\sum_{l=1}^{L} \beta^l (A^l)_{uv}`.

    :math:`(A^l)_{uv}` counts the walks of l edges from u to v, along the edges and each parallel
    one apart. `A new status index derived from sociometric analysis
    <https://doi.org/10.1007/BF02289026>`_; the sum over all l is what the paper has.

    Args:
        graph: square, or an ``edge_index``, as in :func:`common_neighbors`.
        edge_label_index: ``[2, B]``.
        beta: above 0. A sum of finitely many terms is finite for every beta, so none is refused.
            Below one over the largest eigenvalue of A, and surely below one over the largest
            degree, it comes to the sum over all l as ``length`` grows. From there on long walks
            weigh more than short ones.
        length: of the longest walks, at least 1.

    Returns float32 ``[B]``; sums are in float64. Cost: ``length`` products of as many columns as
    there are different first ends, or last ends if these are fewer, in parts of 2**24 numbers.
    Deterministic; no gradient.

    Raises :class:`GraphError` as :func:`common_neighbors`, :class:`ConfigError` for a ``beta`` or
    ``length`` out of range.
    """
    graph, pairs = read_scored("katz", graph, edge_label_index)
    if not 0 < beta < float("inf") or length < 1:
        raise ConfigError(
            f"katz: beta={beta} and length={length}, but a number above 0 and walks of at least "
            "one edge are expected. 0.005 and 3 are usual."
        )
    first, last = pairs
    if graph.by_src is not None and len(first.unique()) > len(last.unique()):
        # the same walks, counted from their other ends
        graph, first, last = graph.t(), last, first
    scores = torch.zeros(len(first), dtype=torch.float64, device=first.device)
    for starts, column, at in _by_start(first, max(1, _ROOM // max(1, graph.num_src))):
        walks = scores.new_zeros(graph.num_src, len(starts))
        walks[starts, torch.arange(len(starts), device=starts.device)] = 1
        for _ in range(length):
            walks = beta * spmm(graph, walks)
            scores[at] += walks[last[at], column]
    return scores.float()


def personalized_pagerank(
    graph: Adj, edge_label_index: Tensor, *, alpha: float = 0.15, eps: float = 1e-7
) -> Tensor:
    r"""How easily walks with restarts lead from each end to the other: :math:`\pi_u(v) + \pi_v(u)`.

    :math:`\pi_u(v)` is the probability that a walk from u, which ends before each step with
    probability ``alpha``, ends in v. It is found by pushing (:func:`graphkit.ops.ppr`), which
    misses at most ``eps`` times the degree of v in an undirected graph.

    ``graph``: square and with ``by_src``, or an ``edge_index``, as in :func:`common_neighbors`.
    ``edge_label_index [2, B]``. Returns float32 ``[B]``, the same for (u, v) and (v, u). Cost: at
    most ``1 / (alpha * eps)`` edges for each node that is an end. Deterministic; no gradient.

    Raises :class:`GraphError` and :class:`ConfigError` as :func:`graphkit.ops.ppr`.
    """
    graph, pairs = read_scored("personalized_pagerank", graph, edge_label_index)
    first, last = torch.cat([pairs, pairs.flip(0)], dim=1)
    scores = torch.zeros(len(first), device=first.device)
    walker = Walker(graph)
    for starts, row, at in _by_start(first, max(1, _ROOM // max(1, graph.num_src))):
        found, mass = ppr(walker, starts, alpha=alpha, eps=eps, top_k=graph.num_src)
        side = found.by_dst
        keys, order = torch.sort(side.row_ids() * graph.num_src + side.indices)
        wanted = row * graph.num_src + last[at]
        # every start keeps some of its own mass, so that there is a key
        place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        scores[at] = torch.where(keys[place] == wanted, mass[order][place], 0)
    return scores.view(2, -1).sum(dim=0)


def _by_start(first: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The different ``first [B]`` in parts of ``most``: themselves; and the pairs that begin with
    them, as the place of the beginning in the part and the number of the pair."""
    starts, place = torch.unique(first, return_inverse=True)
    ordered, pair = torch.sort(place, stable=True)
    for begin in range(0, len(starts), most):
        part = starts[begin : begin + most]
        ends = torch.searchsorted(ordered, ordered.new_tensor([begin, begin + len(part)]))
        low, high = ends.tolist()
        yield part, ordered[low:high] - begin, pair[low:high]


HEURISTICS: dict[str, Callable[[Adj, Tensor], Tensor]] = {
    "adamic-adar": adamic_adar,
    "common-neighbors": common_neighbors,
    "jaccard": jaccard,
    "katz": katz,
    "ppr": personalized_pagerank,
    "resource-allocation": resource_allocation,
}
"""The scores of this file by name, each called with a graph and pairs."""
