"""Pairs of nodes without an edge between them, drawn at random: negative links.

Every draw is a function of a key, the number of the pair and the number of the try: the same pairs
for any number of threads, native or not.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, nearest
from ..graph import Graph, row_ids
from .random import as_word, below, random_word, random_words
from .sample_plan import Key, distinct, read_ids, read_key, read_pairs

METHODS = ("uniform", "degree")
TRIES = 64
"""So often a pair is drawn anew if it is an edge, before it is drawn among what is left."""

_NO_KEY = Key()
_OP = "sample_negatives"
# what these words are of, beside the hops of the sampler under the same key
_OF_NEGATIVES = 2**62
# so that sums over all nodes fit in 62 bits
_WEIGHT_BITS = 31


@dataclass(frozen=True, eq=False)
class Pairs:
    """What pairs are drawn from: rows of sources, whose destinations rise, and sums of weights,
    whole numbers before each node, None where all weigh the same."""

    num_src: int
    num_dst: int
    ptr: Tensor
    idx: Tensor
    src_sums: Tensor | None
    dst_sums: Tensor | None
    loops: bool


Run = Callable[[Pairs, int, Tensor | None, int, Tensor], tuple[Tensor, Tensor]]
"""Sources and destinations of so many pairs, the destination -1 where no try gave one; after the
word, the sources if they are given, their number and the sorted keys that count as edges."""

native: Run | None = None
"""What the kernels do, where they were built."""


def register_native(run: Run) -> None:
    """Let the kernel serve graphs on the CPU (``ops/cpu/negatives.py``)."""
    global native
    native = run


# --- the reference ---


def _drawn(words: Tensor, sums: Tensor | None, count: int) -> Tensor:
    if sums is None:
        return below(words, torch.tensor(count, device=words.device))
    return torch.searchsorted(sums, below(words, sums[-1]), right=True) - 1


def _is_edge(of: Pairs, src: Tensor, dst: Tensor) -> Tensor:
    low, last = of.ptr[src], of.ptr[src + 1]
    high = last
    while bool((open := low < high).any()):
        middle = (low + high) // 2
        less = of.idx[middle.clamp(max=len(of.idx) - 1)] < dst
        low = torch.where(open & less, middle + 1, low)
        high = torch.where(open & ~less, middle, high)
    found = torch.zeros_like(low, dtype=torch.bool)
    inside = low < last
    found[inside] = of.idx[low[inside]] == dst[inside]
    return found


def reference(
    of: Pairs, word: int, given: Tensor | None, count: int, excluded: Tensor
) -> tuple[Tensor, Tensor]:
    """What the kernel does, in plain torch and to the same bits."""
    device = of.ptr.device
    pending = torch.arange(count, device=device)
    src = torch.zeros_like(pending) if given is None else given
    dst = torch.full_like(pending, -1)
    words = random_words(as_word(word, device), pending)
    for attempt in range(TRIES):
        u = src[pending]
        if given is None:
            numbers = random_words(words, torch.tensor(2 * attempt, device=device))
            u = _drawn(numbers, of.src_sums, of.num_src)
        numbers = random_words(words, torch.tensor(2 * attempt + 1, device=device))
        v = _drawn(numbers, of.dst_sums, of.num_dst)
        wrong = _is_edge(of, u, v) | torch.isin(u * of.num_dst + v, excluded)
        if not of.loops:
            wrong |= u == v
        if given is None:
            src[pending[~wrong]] = u[~wrong]
        dst[pending[~wrong]] = v[~wrong]
        pending, words = pending[wrong], words[wrong]
        if not len(pending):
            break
    return src, dst


# --- what tries did not find is drawn among all that is left ---


def _keys(of: Pairs, excluded: Tensor) -> Tensor:
    """Every pair that may not be drawn, once, in rising order."""
    keys = [row_ids(of.ptr, len(of.idx)) * of.num_dst + of.idx.long(), excluded]
    if not of.loops:
        both = min(of.num_src, of.num_dst)
        keys.append(torch.arange(both, device=of.ptr.device) * (of.num_dst + 1))
    return distinct(torch.cat(keys))


def _rest_of(of: Pairs, src: int, excluded: Tensor, word: int) -> int:
    """A destination among those left to ``src``, -1 if there is none."""
    ends = torch.tensor([src, src + 1], device=of.ptr.device) * of.num_dst
    first, last = (int(at) for at in torch.searchsorted(excluded, ends))
    parts = [of.idx[of.ptr[src] : of.ptr[src + 1]].long(), excluded[first:last] - src * of.num_dst]
    if not of.loops and src < of.num_dst:
        parts.append(torch.full((1,), src, device=of.ptr.device))
    taken = distinct(torch.cat(parts))
    key = as_word(word, of.ptr.device)
    if of.dst_sums is None:
        left = of.num_dst - len(taken)
        if left == 0:
            return -1
        number = below(key, torch.tensor(left, device=key.device))
        before = taken - torch.arange(len(taken), device=taken.device)
        return int(number + torch.searchsorted(before, number, right=True))
    weight = of.dst_sums.diff()[taken]
    left = of.dst_sums[-1] - weight.sum()
    if int(left) == 0:
        return -1
    number = below(key, left)
    before = of.dst_sums[taken] - (weight.cumsum(0) - weight)
    number = number + weight[before <= number].sum()
    return int(torch.searchsorted(of.dst_sums, number, right=True)) - 1


def _finish(
    of: Pairs, word: int, given: Tensor | None, src: Tensor, dst: Tensor, excluded: Tensor
) -> None:
    """Draw what no try gave: a source by how much is left to it, a destination among that."""
    pending = cast(list[int], cast(Any, (dst < 0).nonzero().flatten()).tolist())
    sums = None
    if given is None and pending:
        keys = _keys(of, excluded)
        weight = torch.ones(of.num_dst, dtype=torch.float64, device=of.ptr.device)
        if of.dst_sums is not None:
            weight = of.dst_sums.diff().double()
        left = weight.sum().expand(of.num_src).clone()
        left.index_add_(0, keys // of.num_dst, -weight[keys % of.num_dst])
        if of.src_sums is not None:
            left *= of.src_sums.diff()
        if not bool((left > 0).any()):
            raise GraphError(
                f"{_OP}: the graph has an edge between all nodes that may be drawn, so there is no "
                "negative. Draw from a graph with fewer edges, or weigh more nodes above 0."
            )
        sums = _sums(left)
    for at in pending:
        mine = random_word(word, at)
        if sums is not None:
            numbers = as_word(random_word(mine, 2 * TRIES), of.ptr.device)
            src[at] = _drawn(numbers, sums, of.num_src)
        u = int(src[at])
        v = _rest_of(of, u, excluded, random_word(mine, 2 * TRIES + 1))
        if v < 0:
            raise GraphError(
                f"{_OP}: node {u} has an edge to every node that may be drawn, so it has no "
                "negative. Leave it out, or have both ends drawn by passing a number of pairs."
            )
        dst[at] = v


# --- what is called ---


class NegativeSampler:
    """Draws negative links of one graph: :func:`sample_negatives`, prepared once.

    The arguments and errors are those of :func:`sample_negatives`. The edges are sorted here, into
    4 bytes for each (8 from 2**31 nodes on) and 8 for each node. It can be pickled.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        method: Literal["uniform", "degree"] = "uniform",
        src_weight: Tensor | None = None,
        dst_weight: Tensor | None = None,
        loops: bool = False,
    ) -> None:
        # isinstance guards against tensors, which callers do pass whatever the annotation
        if not isinstance(graph, Graph):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise GraphError(
                f"{_OP}: graph is a {type(graph).__name__}, but a graphkit.Graph is expected. "
                "Pass graphkit.Graph.from_edge_index(edge_index, num_nodes)."
            )
        if method not in METHODS:
            raise ConfigError(f"{_OP}: unknown method {method!r}. {nearest(str(method), METHODS)}")
        side = graph.by_dst
        # sorted by source from the order of destinations: those of each row rise
        turned = torch.stack([side.row_ids(), side.indices.long()])
        ptr, idx, _, *_ = torch.ops.graphkit.coo_to_csr(turned, graph.num_dst, graph.num_src, False)
        sums: list[Tensor | None] = []
        for name, weight, count, degree in (
            ("src_weight", src_weight, graph.num_src, ptr.diff()),
            ("dst_weight", dst_weight, graph.num_dst, side.indptr.diff()),
        ):
            if weight is None and method == "degree":
                weight = degree.double() ** 0.75
            sums.append(None if weight is None else _read_weight(name, weight, count, ptr.device))
        square = graph.num_src == graph.num_dst
        self.of = Pairs(
            graph.num_src, graph.num_dst, ptr, idx, sums[0], sums[1], loops or not square
        )

    def __call__(
        self,
        given: int | Tensor,
        key: Key | tuple[int, int, int] = _NO_KEY,
        *,
        amount: int = 1,
        exclude: Tensor | None = None,
    ) -> Tensor:
        """Negative links; the arguments are those of :func:`sample_negatives`."""
        of, device = self.of, self.of.ptr.device
        word = random_word(read_key(key, of=_OP), _OF_NEGATIVES)
        if not _is_number(amount) or amount < 1:
            raise ConfigError(
                f"{_OP}: amount is {amount!r}, but a whole number of at least 1 is expected."
            )
        if isinstance(given, Tensor):
            sources = read_ids("given", given, of.num_src, device, of=_OP)
            count = len(sources) * amount
            sources = sources.repeat_interleave(amount)
        else:
            if not _is_number(given) or given < 0:
                raise ConfigError(
                    f"{_OP}: given is {given!r}, but a whole number of pairs of at least 0, or a "
                    "torch.Tensor of sources, is expected."
                )
            if amount != 1:
                raise ConfigError(
                    f"{_OP}: amount is for given sources. Pass as many pairs as you want as given."
                )
            sources, count = None, given
        if count and not (of.num_src and of.num_dst):
            raise GraphError(f"{_OP}: the graph has no nodes to draw from.")
        excluded = of.ptr.new_empty(0)
        if exclude is not None:
            src, dst = read_pairs("exclude", exclude, of.num_src, of.num_dst, device, of=_OP)
            excluded = distinct(src * of.num_dst + dst)
        is_native = native is not None and device.type == "cpu"
        run = native if native is not None and is_native else reference
        src, dst = run(of, word, sources, count, excluded)
        _finish(of, word, sources, src, dst, excluded)
        return torch.stack([src, dst]) if sources is None else dst.view(-1, amount)


def sample_negatives(
    graph: Graph,
    given: int | Tensor,
    key: Key | tuple[int, int, int] = _NO_KEY,
    *,
    amount: int = 1,
    exclude: Tensor | None = None,
    **options: Any,
) -> Tensor:
    r"""Pairs of source and destination that no edge of the graph leads from and to.

    A pair :math:`(u, v)` is drawn with probability proportional to :math:`w_u w'_v` among all pairs
    that are not edges (with given sources: :math:`v` in proportion to :math:`w'_v` among the nodes
    to which :math:`u` has no edge). A pair that is an edge is drawn anew; after 64 tries it is
    drawn among what is left, which reads the row, or for pairs the graph, once. Pairs may repeat.

    ``graph``: square or bipartite; both directions of an undirected graph are in it.
    ``given``: how many pairs, or sources (``[n]``, int64 or int32).
    ``key``: as of :func:`sample`, whose draws under the same key are others.
    ``amount``: how many destinations for each given source.
    ``exclude [2, m]``: pairs that count as edges, such as the positive links.
    Returns int64 ``[2, given]``, or the destinations ``[n, amount]`` of the given sources: what PyG
    calls binary and triplet.

    Options:

    - ``method``: ``"uniform"``, or ``"degree"``: sources weigh their out-degree and destinations
      their in-degree, to the power of 0.75 (`paper <https://arxiv.org/abs/1310.4546>`_).
    - ``src_weight [num_src]``, ``dst_weight [num_dst]``: weights in place of the method's, finite
      and at least 0; they are told apart to 2**-31 of the largest.
    - ``loops``: whether a node may be paired with itself, which only makes sense where sources and
      destinations are of different types; graphs that are not square always may.

    Cost: sorting the edges, and for each try the logarithm of the source's degree. To draw more
    than once prepare a :class:`NegativeSampler`. Deterministic; no gradient.

    Raises :class:`GraphError` for malformed graphs, sources, pairs or weights, and where nothing is
    left to draw: a given source with an edge to every node, or a complete graph.
    :class:`ConfigError` for an unknown method or numbers out of range.
    """
    return NegativeSampler(graph, **options)(given, key, amount=amount, exclude=exclude)


def _is_number(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _sums(weight: Tensor) -> Tensor:
    """Sums before each node of weights as whole numbers: int64, no positive one becomes 0."""
    bits = min(_WEIGHT_BITS, 62 - len(weight).bit_length())
    whole = (weight / weight.max() * 2.0**bits).round().to(torch.int64)
    whole = torch.where(weight > 0, whole.clamp_(min=1), 0)
    sums = torch.zeros(len(whole) + 1, dtype=torch.int64, device=whole.device)
    torch.cumsum(whole, 0, out=sums[1:])
    return sums


def _read_weight(name: str, weight: Any, count: int, device: torch.device) -> Tensor | None:
    if not isinstance(weight, Tensor) or weight.dim() != 1 or weight.device != device:
        raise GraphError(
            f"{_OP}: {name} must be a one-dimensional torch.Tensor on {device}, as the graph is."
        )
    if len(weight) != count:
        raise GraphError(
            f"{_OP}: {name} has {len(weight)} entries, but there are {count} nodes. It needs one "
            "for each."
        )
    value = weight.to(torch.float64)
    bad = ~(value.isfinite() & (value >= 0))
    if bool(bad.any()):
        at = int(bad.nonzero()[0])
        raise GraphError(
            f"{_OP}: {name}[{at}] = {float(value[at])}, but a weight must be finite and at least 0."
        )
    if count and not bool((value > 0).any()):
        raise GraphError(
            f"{_OP}: {name} is 0 for all nodes (weights of method='degree' are those of a graph "
            "without edges), so none can be drawn. Give one a positive weight."
        )
    return _sums(value) if count else None
