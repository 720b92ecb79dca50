"""How the neighbourhoods of two nodes overlap, hop by hop: BUDDY's counts, estimated and exact.

`Graph neural networks for link prediction with subgraph sketching
<https://openreview.net/forum?id=m1oqEOAozQU>`_ (Chamberlain et al., ICLR 2023). Of a pair (u, v)
every node has two classes: its hops from u and its hops from v, each 1 to k, or 0 if it is farther
than k. An end itself is of class 1, as if every node had a self-loop; so two ends that an edge
joins count among the nodes of class (1, 1). A table of counts ``[k + 1, k + 1]`` has at ``[i, j]``
the number of nodes of classes i and j: the paper's A[i, j], and B[i] in row and column 0. What is
far from both ends is not counted, ``[0, 0]`` is 0. The table of (v, u) is the transposed one.

Shapes: N nodes, B pairs, k hops, P permutations, M registers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError
from ..graph import Adj, Graph
from ..ops import spmm
from ..ops.check import check_square
from ..ops.random import as_word, random_word, random_words, shift_right
from ..ops.sample_plan import read_pairs
from .heuristics import num_neighbors, read_scored

# minima are whole numbers whose bits are those of positive floats, neither tiny nor infinite:
# they are in the same order, so that the product of floats propagates them
_LEAST, _SPAN = 0x00800000, 0x7F800000 - 0x00800000
# bits of a hash that a register looks at: enough for 2**32 nodes and more
_RANK_BITS = 32
# numbers that are held at once beside the sketches, 8 bytes each and a few times
_ROOM = 2**22
# what tells the hashes of minima from those of registers
_OF_MINIMA, _OF_REGISTERS = 0x6D696E, 0x686C6C


@dataclass(frozen=True, eq=False)
class Sketches:
    """What :func:`sketch_neighborhoods` keeps of the nodes within 1 to k hops of each node.

    ``minima`` int32 ``[k, N, P]``: the smallest hash of each of P functions. ``registers`` uint8
    ``[k, N, M]``: of HyperLogLog. ``sizes`` float32 ``[k, N]``: how many nodes the registers say
    there are.
    """

    minima: Tensor
    registers: Tensor
    sizes: Tensor

    @property
    def hops(self) -> int:
        return self.sizes.size(0)

    @property
    def num_nodes(self) -> int:
        return self.sizes.size(1)


@torch.no_grad()
def sketch_neighborhoods(
    graph: Graph,
    *,
    hops: int = 2,
    permutations: int = 128,
    precision: int = 8,
    seed: int = 0,
) -> Sketches:
    """Sketches of each node's neighbourhoods, from which :func:`estimated_counts` are read.

    A neighbourhood is what leads to a node along at most so many edges, the node itself included:
    its sketches are the smallest and largest of those of its in-neighbours one hop less far. Both
    are of hashes of the nodes' numbers: the same for a seed on any number of threads.

    Args:
        graph: square; of an undirected graph both directions are in it.
        hops: k, at least 1; 2 in the paper, and 3.
        permutations: of MinHash; an estimated overlap J has a deviation of
            ``sqrt(J * (1 - J) / permutations)``.
        precision: 2**precision registers of HyperLogLog, 4 to 16; an estimated size has a relative
            deviation of about ``1.04 / sqrt(2**precision)``, and less for few nodes.
        seed: another one has other hashes.

    The published defaults. Memory: ``hops * (4 * permutations + 2**precision)`` bytes for each
    node, 1.5 KB for the defaults, and for some time twice that of one hop. Cost: two products of
    these widths for each hop. No gradient.

    Raises :class:`GraphError` for two kinds of nodes, :class:`ConfigError` for numbers out of
    range.
    """
    check_square("sketch_neighborhoods", graph)
    if hops < 1 or permutations < 1 or not 4 <= precision <= 16:
        raise ConfigError(
            f"sketch_neighborhoods: hops={hops}, permutations={permutations} and precision="
            f"{precision}, but at least one hop and permutation and a precision from 4 to 16 are "
            "expected. The paper has 2, 128 and 8."
        )
    nodes, registers = torch.arange(graph.num_src, device=graph.device), 1 << precision
    minima = torch.empty(hops, len(nodes), permutations, dtype=torch.int32, device=graph.device)
    largest = torch.empty(hops, len(nodes), registers, dtype=torch.uint8, device=graph.device)
    low, high = _hashes(nodes, permutations, seed), _ranks(nodes, precision, seed)
    receives = (graph.in_degree() > 0).unsqueeze(1)
    for hop in range(hops):
        near = spmm(graph, low.view(torch.float32), reduce="min").view(torch.int32)
        # a node that nothing leads to has 0 there, which is no hash
        low = torch.where(receives, torch.minimum(low, near), low)
        # whole numbers up to 256 are exact in bfloat16
        near = spmm(graph, high.to(torch.bfloat16), reduce="max").to(torch.uint8)
        high = torch.maximum(high, near)
        minima[hop], largest[hop] = low, high
    rows = largest.view(-1, registers).split(max(1, _ROOM // registers))
    sizes = torch.cat([_sizes(some) for some in rows]) if largest.numel() else nodes[:0].float()
    return Sketches(minima, largest, sizes.view(hops, -1))


def _hashes(nodes: Tensor, permutations: int, seed: int) -> Tensor:
    """A hash of each node by each function, int32 ``[N, permutations]``."""
    functions = torch.arange(permutations, device=nodes.device)
    seeds = random_words(as_word(random_word(seed, _OF_MINIMA), nodes.device), functions)
    parts = list[Tensor]()
    for some in nodes.split(max(1, _ROOM // permutations)):
        bits = shift_right(random_words(seeds, some.unsqueeze(1)), 32)
        parts.append((_LEAST + (bits * _SPAN >> 32)).to(torch.int32))
    return torch.cat(parts)


def _ranks(nodes: Tensor, precision: int, seed: int) -> Tensor:
    """HyperLogLog's registers of each node alone, uint8 ``[N, 2**precision]``."""
    words = random_words(as_word(random_word(seed, _OF_REGISTERS), nodes.device), nodes)
    rest = shift_right(words, 64 - _RANK_BITS)
    # how many bits a whole number has is the exponent of its float
    length = torch.frexp(rest.to(torch.float64)).exponent
    out = torch.zeros(len(nodes), 1 << precision, dtype=torch.uint8, device=nodes.device)
    register = words & ((1 << precision) - 1)
    rank = (_RANK_BITS + 1 - length).to(torch.uint8)
    return out.scatter_(1, register.unsqueeze(1), rank.unsqueeze(1))


def _sizes(registers: Tensor) -> Tensor:
    r"""How many nodes the registers ``[R, M]`` have seen, float32 ``[R]``.

    Ertl's estimate (`New cardinality estimation algorithms for HyperLogLog sketches
    <https://arxiv.org/abs/1702.01284>`_), with :math:`C_0` the registers that are still 0:

    .. math::
        \frac{M^2 / (2 \ln 2)}{M \sigma(C_0 / M) + \sum_{r > 0} 2^{-r}}, \qquad
        \sigma(x) = x + \sum_{i \ge 1} 2^{i - 1} x^{2^i}

    It needs no table of biases, as the official code does, and serves all sizes alike.
    """
    count = registers.size(1)
    share = torch.ldexp(
        torch.ones(_RANK_BITS + 2, dtype=torch.float64, device=registers.device),
        -torch.arange(_RANK_BITS + 2, device=registers.device),
    )
    share[0] = 0
    # sums of powers of two that float64 holds all: they have no order
    total = share[registers.int()].sum(dim=1)
    power = (registers == 0).sum(dim=1).double() / count
    sigma, factor = power.clone(), 1.0
    # from the largest power below 1 on, (1 - 1 / M), until what is left is below rounding
    for _ in range(count.bit_length() + 6):
        power = power.square()
        sigma += factor * power
        factor *= 2
    return (count * count / (2 * math.log(2)) / (count * sigma + total)).float()


@torch.no_grad()
def estimated_counts(sketches: Sketches, edge_label_index: Tensor) -> Tensor:
    """The tables of counts of pairs, as :func:`sketch_neighborhoods` let them be estimated.

    The nodes within i hops of u and j of v are their share of the nodes within either, which is
    that of equal minima, times the number of these, which the larger registers give. Differences
    of such numbers are the counts, so that a count may be negative. In the mean over seeds they are
    the exact counts, but for up to ``1.1 / 2**precision`` of the neighbourhoods' sizes, by which
    the estimate of large sizes is off.

    ``edge_label_index [2, B]``. Returns float32 ``[B, k + 1, k + 1]``, see
    :mod:`graphkit.structure.sketches`. Cost: k x k comparisons of the sketches of both ends.
    Deterministic. The official code has the same counts in rows, but takes (1, 1) from (2, 0)
    twice, and for three hops (3, 1) from (2, 0) in the place of (1, 3).

    Raises :class:`GraphError` for pairs of another shape, dtype or device, or out of range.
    """
    count, device = sketches.num_nodes, sketches.sizes.device
    of = "estimated_counts"
    pairs = read_pairs("edge_label_index", edge_label_index, count, count, device, of=of)
    room = sketches.minima.size(2) + sketches.registers.size(2)
    tables = [_estimated(sketches, *some) for some in pairs.split(max(1, _ROOM // room), dim=1)]
    return torch.cat(tables)


def _estimated(sketches: Sketches, first: Tensor, last: Tensor) -> Tensor:
    hops = sketches.hops
    # at [i, j] the nodes within i hops of the first and j of the last, k + 1 being any number
    # in float64 their differences are exact, so that no order of ends rounds another way
    shape = len(first), hops + 2, hops + 2
    within = torch.zeros(shape, dtype=torch.float64, device=first.device)
    within[:, 1:-1, -1] = sketches.sizes[:, first].t()
    within[:, -1, 1:-1] = sketches.sizes[:, last].t()
    for i in range(hops):
        low, high = sketches.minima[i, first], sketches.registers[i, first]
        for j in range(hops):
            alike = (low == sketches.minima[j, last]).sum(dim=1) / low.size(1)
            either = _sizes(torch.maximum(high, sketches.registers[j, last]))
            within[:, i + 1, j + 1] = alike.double() * either
    counts = within.diff(dim=1).diff(dim=2).roll((1, 1), dims=(1, 2)).float()
    counts[:, 0, 0] = 0
    return counts


@torch.no_grad()
def exact_counts(graph: Adj, edge_label_index: Tensor, *, hops: int = 2) -> Tensor:
    """The tables of counts of pairs, counted: for small graphs, where it is cheap enough.

    ``graph``: square and with ``by_src``, or an ``edge_index`` of as many nodes as it and the pairs
    name. ``edge_label_index [2, B]``. ``hops``: k, at least 1. Returns float32 ``[B, k + 1, k +
    1]``, as :func:`estimated_counts`. Cost: k products of as many columns as there are ends, and N
    numbers for each pair, in parts of 2**22. Deterministic.

    Raises :class:`GraphError` for two kinds of nodes, a graph built with ``transpose=False``, and
    pairs of another shape, dtype or device, or out of range, :class:`ConfigError` for less than one
    hop.
    """
    graph, pairs = read_scored("exact_counts", graph, edge_label_index)
    if hops < 1:
        raise ConfigError(f"exact_counts: hops is {hops}, but at least 1 is expected.")
    width = hops + 1
    tables = [torch.zeros(0, width, width, device=graph.device)]
    for some in pairs.split(max(1, _ROOM // max(1, graph.num_src)), dim=1):
        nodes, place = torch.unique(some, return_inverse=True)
        classes = _classes(graph, nodes, hops)
        pair = torch.arange(some.size(1), device=graph.device)
        kind = (pair * width + classes[:, place[0]]) * width + classes[:, place[1]]
        table = torch.bincount(kind.flatten(), minlength=len(pair) * width**2).float()
        table = table.view(-1, width, width)
        table[:, 0, 0] = 0
        tables.append(table)
    return torch.cat(tables)


def _classes(graph: Graph, nodes: Tensor, hops: int) -> Tensor:
    """How many hops each node is from each of ``nodes``, int64 ``[N, nodes]``: see above."""
    # what leads to a node is found by going from it against the edges
    graph = graph.t()
    reached = torch.zeros(graph.num_src, len(nodes), device=graph.device)
    reached[nodes, torch.arange(len(nodes), device=graph.device)] = 1
    classes = torch.zeros_like(reached, dtype=torch.int64)
    for hop in range(1, hops + 1):
        reached = ((reached + spmm(graph, reached)) > 0).float()
        classes[(classes == 0) & (reached > 0)] = hop
    return classes


def with_normalized(counts: Tensor, graph: Graph, edge_label_index: Tensor) -> Tensor:
    r"""Tables of counts, and the same divided by :math:`\sqrt{d_u d_v}`: ``[B, 2, k + 1, k + 1]``.

    The official code offers both to the network. d counts a node's different neighbours; where it
    is 0 the quotients are 0. ``counts [B, k + 1, k + 1]`` of the pairs ``edge_label_index [2, B]``.

    Raises :class:`GraphError` for counts that are not of so many pairs, and as
    :func:`exact_counts`.
    """
    graph, pairs = read_scored("with_normalized", graph, edge_label_index)
    if counts.dim() != 3 or counts.size(0) != pairs.size(1):
        raise GraphError(
            f"with_normalized: counts has shape {list(counts.shape)}, but [{pairs.size(1)}, k + 1, "
            "k + 1] is expected, a table for each pair."
        )
    degree = num_neighbors(graph)[pairs].double().prod(dim=0)
    scale = torch.where(degree > 0, degree.rsqrt(), 0).to(counts.dtype)
    return torch.stack([counts, counts * scale.view(-1, 1, 1)], dim=1)
