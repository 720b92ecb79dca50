"""What methods for directed graphs need to know of a graph, computed once for each Graph.

Nothing here makes a graph undirected. A product with the matrix A of a graph (``A[u, v]`` counts
the edges from u to v) gathers a node's out-neighbours and is a product over ``graph.t()``; that
with its transpose gathers in-neighbours and is one over ``graph``. Both share the graph's memory.
"""

# torch annotates its library decorators with bare callables

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import ConfigError, DirectionWarning, GraphError
from ..graph import Adj, Graph, missing_transpose, row_ids
from ..ops import segment_reduce, spmm
from ..ops.check import check_square
from .normalize import inverse_root, weighted_in_degree

T = TypeVar("T")
Kept = MutableMapping[Tensor, dict[Hashable, Any]]

# by the columns of the side that stands first, weakly: what is kept goes when the graph goes
_KEPT = cast(Kept, WeakTensorKeyDictionary())


def once(graph: Graph, key: Hashable, make: Callable[[], T]) -> T:
    """``make()``, which depends on ``graph`` and ``key`` alone, called once for each Graph.

    The result must not hold the graph's own tensors, or it would keep them alive. Inside
    ``torch.compile`` nothing is kept.
    """
    if torch.compiler.is_compiling():
        return make()
    kept = _kept(graph)
    if key not in kept:
        # what was made in inference mode could not take part in training later
        with torch.inference_mode(False), torch.no_grad():
            kept[key] = make()
    return kept[key]


def _kept(graph: Graph) -> dict[Hashable, Any]:
    return _KEPT.setdefault(graph.by_dst.indices, {})


def is_symmetric(graph: Graph) -> bool:
    """Whether every edge has its reverse, as often as it is there itself.

    Cost: one comparison of the degrees for most directed graphs, else that of sorting the edges.

    Raises :class:`GraphError` for a graph built with ``transpose=False``.
    """
    one, other = graph.by_dst, graph.by_src
    if other is None:
        raise GraphError(missing_transpose("is_symmetric"))
    if graph.num_src != graph.num_dst or not torch.equal(one.indptr, other.indptr):
        return False
    if torch.equal(one.indices, other.indices):
        return True
    first, second = (
        torch.sort(side.row_ids() * graph.num_src + side.indices).values for side in (one, other)
    )
    return torch.equal(first, second)


def warn_if_symmetric(what: str, given: Adj, graph: Graph) -> None:
    """Warn with :class:`DirectionWarning` that ``graph`` has no direction for ``what`` to read.

    Looks once at each Graph, and once at each tensor ``given`` that a graph was made of.
    """
    if torch.compiler.is_compiling() or graph.device.type == "meta":
        return
    kept = _kept(graph)
    if "told" in kept:
        return
    kept["told"] = True
    if isinstance(given, Tensor):
        of_tensor = _KEPT.setdefault(given, {})
        if "told" in of_tensor:
            return
        of_tensor["told"] = True
    if graph.num_edges and is_symmetric(graph):
        warnings.warn(
            f"{what}: every edge of the graph has its reverse, so that it has no direction to "
            "read. Load the directed edges, or use a model for undirected graphs, such as gcn.",
            DirectionWarning,
            # the line that called the layer or model: torch has two frames between
            stacklevel=6,
        )


def edge_counts(graph: Graph) -> tuple[Tensor, Tensor]:
    """How many edges have the ends of each edge, and how many lead the other way: int64 ``[E]``.

    In the caller's edge order. A self-loop is its own reverse.
    """
    check_square("edge_counts", graph)
    src, dst = graph.edge_index()
    keys = src * graph.num_src + dst
    ordered = torch.sort(keys).values

    def count(wanted: Tensor) -> Tensor:
        ends = (torch.searchsorted(ordered, wanted, right=right) for right in (True, False))
        return next(ends) - next(ends)

    return count(keys), count(dst * graph.num_src + src)


def directed_scales(
    graph: Graph, edge_weight: Tensor | None = None, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    r"""Out-degrees and in-degrees to the power of -1/2, 0 where a degree is 0: two ``[N]``.

    The scales of Dir-GNN's :math:`S = D_{out}^{-1/2} A D_{in}^{-1/2}`, whose product with x is
    ``spmm(graph.t(), x, left=out, right=in)``, and that of its transpose ``spmm(graph, x, left=in,
    right=out)``. Differentiable in ``edge_weight [E]``.

    Raises :class:`GraphError` for a graph of two sets of nodes, or built with ``transpose=False``.
    """
    check_square("directed_scales", graph)
    out, into = (
        inverse_root(weighted_in_degree(side, edge_weight, dtype)).to(dtype)
        for side in (graph.t(), graph)
    )
    return out, into


# -- personalised PageRank, DiGCN ------------------------------------------------------------------


def pagerank_reference(
    ptr: Tensor, idx: Tensor, out_degree: Tensor, alpha: float, tol: float
) -> Tensor:
    num_nodes = ptr.size(0) - 1
    share = (out_degree.to(torch.float64) + 1).reciprocal()
    if num_nodes == 0:
        return share
    one = torch.ones_like(share)
    rank = one / num_nodes
    # a step shrinks every distance by 1 - alpha; so many are enough if nothing is rounded
    enough = 1 if alpha == 1 else math.ceil(math.log(alpha * tol / 2) / math.log1p(-alpha))
    for _ in range(max(1, enough)):
        # each node sends its rank along its edges and to itself
        given = (None, None, None, None, rank.view(-1, 1, 1), None, False, None, share, one)
        moved = torch.ops.graphkit.spmm(ptr, idx, *given).view(-1)
        after = (1 - alpha) * moved + alpha / num_nodes
        change = float((after - rank).abs().sum())
        rank = after
        # the steps that are left would add up to less than tol
        if change * (1 - alpha) <= alpha * tol:
            break
    return rank / rank.sum()


pagerank_op = torch.library.custom_op("graphkit::pagerank", pagerank_reference, mutates_args=())


@pagerank_op.register_fake
def _(ptr: Tensor, idx: Tensor, out_degree: Tensor, alpha: float, tol: float) -> Tensor:
    return out_degree.new_empty(out_degree.size(0), dtype=torch.float64)


def pagerank(graph: Graph, alpha: float = 0.1, *, tol: float = 1e-10) -> Tensor:
    r"""The stationary distribution of a random walk with restarts, float64 ``[N]``.

    The walk goes along the edges of :math:`\tilde A = A + I`, each with the same chance, and
    restarts with probability ``alpha`` at a random node. All entries are positive, their sum is 1,
    and that of the errors' absolute values is below ``tol``, or what float64 can do. It equals the
    first N entries of the left Perron vector of DiGCN's matrix with an auxiliary node, scaled to
    sum 1, and so no matrix is made.

    Cost: at most :math:`\log(tol\,\alpha / 2) / \log(1 - \alpha)` products with the graph, of width
    1: 247 for the defaults.

    Raises :class:`ConfigError` for ``alpha`` outside (0, 1] or ``tol`` that is not positive, and
    :class:`GraphError` for a graph of two sets of nodes.
    """
    if not 0 < alpha <= 1 or not tol > 0:
        raise ConfigError(
            f"pagerank: alpha={alpha} and tol={tol}, but 0 < alpha <= 1 and tol above 0 are "
            "expected."
        )
    check_square("pagerank", graph)
    side = graph.by_dst
    return torch.ops.graphkit.pagerank(
        side.indptr, side.indices, graph.out_degree(), float(alpha), float(tol)
    )


class TwoSides(NamedTuple):
    """Scales ``[N]`` of an operator that reads both sides of a graph.

    It is ``spmm(graph.t(), x, left=out_left, right=out_right, diagonal=diagonal)`` plus
    ``spmm(graph, x, left=in_left, right=in_right, diagonal=diagonal)``.
    """

    out_left: Tensor
    out_right: Tensor
    in_left: Tensor
    in_right: Tensor
    diagonal: Tensor

    def apply(self, graph: Graph, x: Tensor, w: Tensor | None = None) -> Tensor:
        """The operator applied to ``x [N, F]``; ``w [E]`` multiplies what edges carry."""
        out = spmm(
            graph.t(), x, w, left=self.out_left, right=self.out_right, diagonal=self.diagonal
        )
        return out.add_(
            spmm(graph, x, w, left=self.in_left, right=self.in_right, diagonal=self.diagonal)
        )


def digcn_operator(
    graph: Graph, alpha: float = 0.1, *, tol: float = 1e-10, dtype: torch.dtype = torch.float32
) -> TwoSides:
    r"""DiGCN's first-order operator, as scales of nodes: no second graph is made.

    .. math::
        \Delta = \tfrac12 \big(\Pi^{1/2} \tilde P \Pi^{-1/2} + \Pi^{-1/2} \tilde P^\top \Pi^{1/2}
        \big), \qquad \tilde P = \tilde D^{-1} (A + I)

    with :math:`\Pi` the :func:`pagerank` on the diagonal, then :math:`d^{-1/2} \Delta d^{-1/2}`
    with d the row sums of :math:`\Delta`: a step that is in the official code and not in the paper.

    Raises as :func:`pagerank` does, and :class:`GraphError` for a graph built with
    ``transpose=False``.
    """
    rank = pagerank(graph, alpha, tol=tol)
    root, share = rank.sqrt(), (graph.out_degree() + 1).to(torch.float64).reciprocal()
    one = torch.ones_like(rank)
    plain = TwoSides(root * share / 2, 1 / root, 0.5 / root, root * share, one)
    scale = plain.apply(graph, one.unsqueeze(1)).squeeze(1).rsqrt()
    sides = (side * scale for side in plain[:4])
    return TwoSides(*(side.to(dtype) for side in (*sides, one)))


class _Matrix(NamedTuple):
    """A sparse square matrix by rows: offsets, columns that rise in every row, values float64."""

    ptr: Tensor
    columns: Tensor
    values: Tensor

    @staticmethod
    def of(keys: Tensor, values: Tensor, size: int) -> _Matrix:
        """The matrix with ``values`` at ``keys``, which are ``row * size + column`` and rise."""
        heads = torch.arange(size + 1, device=keys.device) * size
        return _Matrix(torch.searchsorted(keys, heads), keys % max(1, size), values)

    @property
    def rows(self) -> Tensor:
        return row_ids(self.ptr, self.columns.size(0))

    def t(self) -> _Matrix:
        size = self.ptr.size(0) - 1
        keys, order = torch.sort(self.columns * size + self.rows)
        return _Matrix.of(keys, self.values[order], size)

    def work(self, other: _Matrix) -> Tensor:
        """How many products of numbers the rows up to each one take in ``self @ other``."""
        work = other.ptr.diff()[self.columns]
        return torch.cat([work.new_zeros(1), work.cumsum(0)])[self.ptr]

    def times(self, other: _Matrix, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Keys, which rise, and values of the rows from ``first`` to before ``last`` of ``self @
        other``. The sums are in the same order on every call."""
        size = self.ptr.size(0) - 1
        some = slice(int(self.ptr[first]), int(self.ptr[last]))
        middle, length = self.columns[some], other.ptr.diff()[self.columns[some]]
        pair = torch.repeat_interleave(length)
        slot = torch.arange(len(pair), device=pair.device) - (length.cumsum(0) - length)[pair]
        slot = slot + other.ptr[middle][pair]
        keys = (self.rows[some] * size)[pair] + other.columns[slot]
        keys, order = torch.sort(keys, stable=True)
        values = (self.values[some][pair] * other.values[slot])[order]
        keys, counts = torch.unique_consecutive(keys, return_counts=True)
        ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return keys, segment_reduce(values, ptr)


# products of numbers that are held at once, some 40 bytes each
_AT_ONCE = 2**22


def _stretches(work: Tensor) -> list[tuple[int, int]]:
    """First and last of the rows that are worked on together, of the ``work`` up to each one."""
    size, total = work.size(0) - 1, int(work[-1])
    marks = torch.arange(0, total + 1, _AT_ONCE, device=work.device)
    ends = torch.searchsorted(work, marks).clamp_(max=size)
    bounds = torch.unique(torch.cat([ends, ends.new_tensor([0, size])])).tolist()
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def proximity_reference(ptr: Tensor, idx: Tensor, order: int) -> tuple[Tensor, Tensor]:
    size = ptr.size(0) - 1
    own = torch.arange(size, device=ptr.device)
    src, dst = torch.cat([idx.long(), own]), torch.cat([row_ids(ptr, idx.size(0)), own])
    keys, counts = torch.unique(src * size + dst, return_counts=True)
    step = _Matrix.of(keys, counts.to(torch.float64), size)
    degree = torch.bincount(src, minlength=size)
    step = step._replace(values=step.values / degree[step.rows])
    steps = step
    for _ in range(order - 2):
        steps = _Matrix.of(*steps.times(step, 0, size), size)
    turned = steps.t()
    found: list[Tensor] = []
    sums: list[Tensor] = []
    # both products by rows, so that what is in one of them alone is never held for all
    for first, last in _stretches(steps.work(turned) + turned.work(steps)):
        meeting, there = steps.times(turned, first, last)
        parting, other = turned.times(steps, first, last)
        place = torch.searchsorted(parting, meeting).clamp_(max=max(0, parting.size(0) - 1))
        both = parting[place] == meeting
        found.append(meeting[both])
        sums.append((there[both] + other[place[both]]) / 2)
    keys = torch.cat([own[:0], *found])
    index = torch.stack([keys // max(1, size), keys % max(1, size)])
    return index, torch.cat([step.values[:0], *sums])


proximity_op = torch.library.custom_op("graphkit::proximity", proximity_reference, mutates_args=())
"""The positions, int64 ``[2, U]``, and float64 values ``[U]`` of the proximity of an order."""


@proximity_op.register_fake
def _(ptr: Tensor, idx: Tensor, order: int) -> tuple[Tensor, Tensor]:
    count = cast(Any, torch.library.get_ctx()).new_dynamic_size()
    return ptr.new_empty(2, count), ptr.new_empty(count, dtype=torch.float64)


def proximity(graph: Graph, order: int = 2) -> tuple[Graph, Tensor, Tensor]:
    r"""DiGCN's proximity of an order k of at least 2: a symmetric graph, weights, scales.

    .. math::
        P^{(k)} = \tfrac12 \big(\tilde P^{k-1} (\tilde P^\top)^{k-1} +
        (\tilde P^\top)^{k-1} \tilde P^{k-1} \big)

    where both terms have an entry, 0 elsewhere: pairs of nodes that meet after k - 1 steps and are
    reached from one node by k - 1 steps. Returns the graph of these pairs, their values float64
    ``[U]``, and the row sums to the power of -1/2, float64 ``[N]``: the operator is ``spmm(pairs,
    x, values, left=scale, right=scale)``.

    Cost: for k = 2, :math:`\sum_v d_{in}(v)^2 + d_{out}(v)^2` products of numbers, and memory for
    the result and 170 MB. Deterministic.

    Raises :class:`ConfigError` for an order below 2, :class:`GraphError` for a graph of two sets of
    nodes.
    """
    if order < 2:
        raise ConfigError(
            f"proximity: order is {order}, but 2 or more is expected. The first order is "
            "digcn_operator."
        )
    check_square("proximity", graph)
    index, values = torch.ops.graphkit.proximity(graph.by_dst.indptr, graph.by_dst.indices, order)
    if torch.compiler.is_compiling():
        # how many there will be is not known yet, but the dtype of edge numbers depends on it
        torch._check(values.size(0) < 2**31)  # pyright: ignore[reportPrivateUsage]
    pairs = Graph.from_edge_index(index, graph.num_src)
    return pairs, values, weighted_in_degree(pairs, values, torch.float64).rsqrt()
