"""Sets of nodes that pairs of nodes pool: found, joined, drawn from.

Shapes: N nodes, B pairs, S nodes in the sets of all pairs together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..graph import Csr, Graph, row_ids
from ..ops import intersect
from ..ops.random import below, draw_seed, random_words
from ..structure.subgraph import slots_of


class Sets(NamedTuple):
    """What is pooled: int64 ``pair [S]`` and ``node [S]``, and a weight of each or None."""

    pair: Tensor
    node: Tensor
    weight: Tensor | None = None


def find_sets(
    graph: Graph, pairs: Tensor, differences: bool = False, ends: bool = False
) -> tuple[Graph, ...]:
    found: Any = intersect(graph, pairs, differences=differences, ends=ends, transpose=False)
    return found if differences else (found,)


def listed(sets: Graph) -> Sets:
    return Sets(sets.by_dst.row_ids(), sets.by_dst.indices.to(torch.int64))


def joined(one: Sets, other: Sets) -> Sets:
    """Both lists as one; the weight of what has none is 1."""
    weight = None
    if one.weight is not None or other.weight is not None:
        like = one.weight if other.weight is None else other.weight
        assert like is not None
        weight = torch.cat(
            [like.new_ones(s.node.size(0)) if s.weight is None else s.weight for s in (one, other)]
        )
    return Sets(torch.cat([one.pair, other.pair]), torch.cat([one.node, other.node]), weight)


def drawn(sets: Graph, degree: int) -> Sets:
    """The sets, of those larger than ``degree`` so many nodes with the weight of all."""
    if degree < 0:
        return listed(sets)
    rows = sets.by_dst
    length = rows.degree()
    ptr = torch.zeros_like(rows.indptr)
    torch.cumsum(length.clamp(max=degree), 0, out=ptr[1:])
    pair = row_ids(ptr, int(ptr[-1]))
    size, first = length[pair], rows.indptr[pair]
    number = torch.arange(len(pair), device=pair.device)
    draw = below(random_words(draw_seed(pair.device), number), size)
    slot = first + torch.where(size > degree, draw, number - ptr[pair])
    weight = (size / size.clamp(max=degree)).to(torch.float64)
    return Sets(pair, rows.indices[slot].to(torch.int64), weight)


def two_hops(graph: Graph, pairs: Tensor) -> Sets:
    """Neighbours of one end that two steps lead to from the other, without the ends."""
    num_nodes = graph.num_dst
    ends = torch.unique(pairs)
    one = graph.by_dst
    which, slot = slots_of(one.indptr, ends)
    between, slot = slots_of(one.indptr, one.indices[slot].to(torch.int64))
    # int64 keys by row and column, in order and each once
    keys = torch.unique(ends[which][between] * num_nodes + one.indices[slot])
    heads = torch.arange(1, num_nodes + 1, device=keys.device) * num_nodes
    # node v has its neighbours in row v, and what two steps lead to in row N + v
    ptr = torch.cat([one.indptr, one.indptr[-1] + torch.searchsorted(keys, heads)])
    columns = torch.cat([one.indices, (keys % max(1, num_nodes)).to(one.indices.dtype)])
    both = Graph(Csr(ptr, columns), None, 2 * num_nodes, 2 * num_nodes)
    shift = torch.tensor([[0], [num_nodes]], device=pairs.device)
    found = [listed(find_sets(both, pairs + s)[0]) for s in (shift, shift.flip(0))]
    sets = joined(*found)
    is_end = (pairs[:, sets.pair] == sets.node).any(0)
    return Sets(sets.pair[~is_end], sets.node[~is_end])


def some_of(index: Tensor, count: int, most: float) -> tuple[Tensor, Tensor | None]:
    """``index`` among the numbers that it holds, and these; as it is if they are so many of all."""
    if torch.compiler.is_compiling():
        return index, None
    seen = torch.zeros(count, dtype=torch.bool, device=index.device)
    seen[index] = True
    which = seen.nonzero().squeeze(1)
    if len(which) > most * count:
        return index, None
    return (seen.cumsum(0) - 1)[index], which
