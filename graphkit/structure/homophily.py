r"""How labels and edges go together: measures of homophily, linear in the edges.

All of them take ``edge_index [2, E]`` (int64 or int32, row 0 sources, row 1 targets) or a square
:class:`Graph`, and ``y [N]``, the class number of each node. The neighbours of a node are the
sources of its edges, what a layer sums up; the other direction is ``edge_index.flip(0)`` or
``graph.t()``. Edges are taken as they are: parallel ones count as often as they occur, self-loops
count, and no direction is added. :func:`homophily_table` has the graphs that papers use.

Nodes with y = -1 have no label: they and their edges are left out, as if they were not there. A
measure that is not defined, such as that of a graph without edges or of one class, is NaN. Sums are
of whole numbers or in float64. Memory: some tensors of E, and those of nodes times classes where it
says so.

Raises :class:`GraphError` if edges or labels are malformed or do not fit each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, nearest
from ..graph import Adj, Graph, check_edge_index, check_range
from ..ops import spmm

_NAN = float("nan")
# rows that are worked on at once, and classes
_ROWS, _CLASSES = 2**16, 16
# sums of two and a half million numbers in float64 are off by a tenth of it
_TIE = 1e-12
_VARIANTS = ("given", "undirected", "published")

Variant = Literal["given", "undirected", "published"]


def edge_homophily(edge_index: Adj, y: Tensor) -> float:
    r"""The share of edges that join equal classes, `H2GCN <https://arxiv.org/abs/2006.11468>`_.

    .. math:: H_{edge} = |\{(u, v) \in E : y_u = y_v\}| \; / \; |E|

    PyG's ``homophily(method="edge")``. NaN without edges. What classes of unequal size give by
    chance is far from 0: :func:`adjusted_homophily` is not.
    """
    return _edge(_read("edge_homophily", edge_index, y))


def node_homophily(edge_index: Adj, y: Tensor, edge_weight: Tensor | None = None) -> float:
    r"""The mean share of a node's neighbours that have its class, `Geom-GCN
    <https://arxiv.org/abs/2002.05287>`_.

    .. math::
        H_{node} = \frac{1}{|V'|} \sum_{v \in V'}
        \frac{\sum_{u \in N(v)} w_{uv} [y_u = y_v]}{\sum_{u \in N(v)} w_{uv}}

    over the nodes :math:`V'` whose weights sum to more than 0. ``edge_weight [E]``, at least 0
    (1 if not given), makes it the weighted homophily of `Dir-GNN
    <https://arxiv.org/abs/2305.10498>`_. NaN without edges.

    PyG's ``homophily(method="node")`` counts nodes without neighbours as 0 and divides by all.
    """
    return _node(_read("node_homophily", edge_index, y, edge_weight))


def class_homophily(edge_index: Adj, y: Tensor) -> float:
    r"""Homophily above that of random edges, class by class, `LINKX
    <https://arxiv.org/abs/2110.14446>`_.

    .. math::
        H_{class} = \frac{1}{C - 1} \sum_k \Big[ h_k - \frac{n_k}{N} \Big]_+, \quad
        h_k = \frac{|\{(u, v) \in E : y_u = y_v = k\}|}{|\{(u, v) \in E : y_v = k\}|}

    with :math:`n_k` nodes of class k; :math:`h_k = 0` if none has a neighbour. PyG's
    ``homophily(method="edge_insensitive")``: C is the largest class number plus one. NaN without
    edges or with one class.
    """
    return _by_class(_read("class_homophily", edge_index, y))


def adjusted_homophily(edge_index: Adj, y: Tensor) -> float:
    r"""Edge homophily, 0 for what degrees give by chance and 1 at most, `Platonov et al.
    <https://arxiv.org/abs/2209.06177>`_.

    .. math:: h_{adj} = \frac{H_{edge} - \sum_k a_k b_k}{1 - \sum_k a_k b_k}

    where :math:`a_k` is the share of edges that leave class k and :math:`b_k` of those that arrive
    there. It is below 0 where equal classes are joined less often than by chance. If every edge
    goes both ways, :math:`a_k = b_k = \sum_{v: y_v = k} d_v / 2|E|` as in the paper, which has
    undirected graphs only; with directions it is Newman's assortativity of a directed graph. NaN
    without edges, or if one class has them all.
    """
    return _adjusted(_read("adjusted_homophily", edge_index, y))


def label_informativeness(edge_index: Adj, y: Tensor) -> float:
    r"""How much a neighbour's class tells of a node's own, `Platonov et al.
    <https://arxiv.org/abs/2209.06177>`_.

    .. math:: LI = I(y_u; y_v) \; / \; H(y_v)

    for an edge :math:`(u, v)` drawn uniformly (the paper's :math:`LI_{edge}`): mutual information
    over entropy, 0 if classes of neighbours are independent, 1 if one follows from the other,
    whether they are equal or not. On directed graphs it is what sources tell of targets. NaN
    without edges, or if one class receives them all.
    """
    return _informativeness(_read("label_informativeness", edge_index, y))


def aggregation_homophily(
    edge_index: Adj, y: Tensor, *, modified: bool = False, self_loops: bool = True
) -> float:
    r"""The share of nodes that aggregated labels put with their own class, `ACM
    <https://arxiv.org/abs/2210.07606>`_.

    .. math::
        H_{agg} = \frac{1}{N} \Big|\Big\{v : \operatorname*{mean}_{u: y_u = y_v} S_{vu} \ge
        \operatorname*{mean}_{u: y_u \ne y_v} S_{vu} \Big\}\Big|, \quad
        S = (\hat A Z)(\hat A Z)^\top

    with Z the labels one-hot and :math:`\hat A = (D + I)^{-1}(A + I)`, or :math:`D^{-1} A` without
    ``self_loops`` (rows without edges are 0); stored self-loops count besides. The first mean has v
    itself. An empty mean is 0. ``modified``: :math:`[2 H_{agg} - 1]_+`. NaN without nodes.

    S is not formed: nodes times classes in memory and time, besides the edges. Means that differ
    by less than 1e-12 of their size are equal. The authors' code for synthetic graphs compares
    class means by argmax over the classes, which is another measure.
    """
    return _aggregation(_read("aggregation_homophily", edge_index, y), modified, self_loops)


def diversification_distinguishability(
    edge_index: Adj, y: Tensor, *, self_loops: bool = True
) -> float:
    r"""The share of nodes that the high-pass filter tells from other classes, `ACM
    <https://arxiv.org/abs/2210.07606>`_.

    .. math::
        DD = \frac{1}{N} \Big|\Big\{v : \operatorname*{mean}_{u: y_u = y_v} S_{vu} \ge 0 \ge
        \operatorname*{mean}_{u: y_u \ne y_v} S_{vu} \Big\}\Big|, \quad
        S = ((I - \hat A) Z)((I - \hat A) Z)^\top

    with :math:`\hat A`, Z, means, memory and what counts as 0 as in :func:`aggregation_homophily`.
    It is 1 for two classes, whatever the edges.
    """
    name = "diversification_distinguishability"
    return _distinguishability(_read(name, edge_index, y), self_loops)


def product_homophily(edge_index: Adj, y: Tensor, *, k: int = 2) -> dict[str, float]:
    r"""The homophily of neighbours over up to ``k`` steps along or against the edges.

    For every product S of at most k factors from :math:`\{A, A^\top\}`, with :math:`A_{uv} = 1` for
    an edge from u to v, the weighted homophily of `Dir-GNN <https://arxiv.org/abs/2305.10498>`_:

    .. math:: h(S) = \frac{1}{|V'|} \sum_{u \in V'} \frac{\sum_v S_{uv} [y_u = y_v]}{\sum_v S_{uv}}

    over the nodes :math:`V'` whose rows are not empty. Keys are written ``A``, ``A^T``, ``AA``,
    ``AA^T``, ...; where the same edges stand in the same order both ways, only ``A``, ``AA``, ...
    are there, which all others equal. NaN if S is empty.

    ``k``: 1 to 8. No product is formed: 2 to 2^(k+1) sums over the edges, of nodes times classes.

    Raises :class:`ConfigError` for another ``k``.
    """
    _check_steps("product_homophily", k)
    return _products(_read("product_homophily", edge_index, y), k)


def effective_homophily(edge_index: Adj, y: Tensor, *, k: int = 2) -> float:
    r"""The homophily that directed layers can reach: the largest of :func:`product_homophily`.

    Of a graph that was made undirected it is the paper's measure for undirected graphs: where that
    one is smaller, the directions are worth keeping. NaN without edges.
    """
    _check_steps("effective_homophily", k)
    return _largest(_products(_read("effective_homophily", edge_index, y), k))


def homophily_table(
    edge_index: Adj, y: Tensor, *, variant: Variant = "given", k: int = 2
) -> dict[str, float]:
    """All measures by name: edge, node, class, adjusted, aggregation, aggregation_modified,
    distinguishability, informativeness, effective.

    Args:
        variant: ``given`` takes the edges as they are. ``undirected`` takes every edge both ways,
            parallel ones once. ``published`` has the four measures that ACM's table of data sets
            prints for the sets of WebKB, Wikipedia and Actor, each on its own graph, as was found
            by computing them again: edge on the directed edges without self-loops and one loop for
            each node; node and class on the directed edges without loops, neighbours being the
            targets; aggregation_modified on the undirected graph with its loops. Of the citation
            graphs that table prints edge, node and class as ``given``.
        k: Steps of :func:`effective_homophily`.

    Raises :class:`ConfigError` for an unknown ``variant`` or another ``k`` than 1 to 8.
    """
    if variant not in _VARIANTS:
        raise ConfigError(
            f"homophily_table: unknown variant {variant!r}. {nearest(str(variant), _VARIANTS)}"
        )
    _check_steps("homophily_table", k)
    read = _read("homophily_table", edge_index, y)
    if variant == "published":
        return _published(read)
    read = _undirected(read) if variant == "undirected" else read
    aggregation = _aggregation(read, False, True)
    return {
        "edge": _edge(read),
        "node": _node(read),
        "class": _by_class(read),
        "adjusted": _adjusted(read),
        "aggregation": aggregation,
        "aggregation_modified": _above_half(aggregation),
        "distinguishability": _distinguishability(read, True),
        "informativeness": _informativeness(read),
        "effective": _largest(_products(read, k)),
    }


@dataclass(frozen=True)
class _Labelled:
    """Edges between labelled nodes, which are numbered anew, as are the classes that occur."""

    edge_index: Tensor
    y: Tensor
    num_classes: int
    """The largest class number plus one, which may be more than occur."""
    weight: Tensor | None = None

    @property
    def src(self) -> Tensor:
        return self.edge_index[0]

    @property
    def dst(self) -> Tensor:
        return self.edge_index[1]

    @property
    def num_nodes(self) -> int:
        return self.y.size(0)

    @cached_property
    def sizes(self) -> Tensor:
        """How many nodes each class has that occurs, int64 ``[K]``."""
        return torch.bincount(self.y)

    @cached_property
    def joint(self) -> list[list[int]]:
        """How many edges lead to the class of the row from the class of the column."""
        count = len(self.sizes)
        pair = self.y[self.dst] * count + self.y[self.src]
        return torch.bincount(pair, minlength=count * count).view(count, count).tolist()

    @cached_property
    def counts(self) -> Tensor:
        """How many neighbours of each class each node has, int64 ``[N, K]``."""
        shape = self.num_nodes, len(self.sizes)
        place = self.dst * shape[1] + self.y[self.src]
        return torch.bincount(place, minlength=shape[0] * shape[1]).view(shape)


def _edge(read: _Labelled) -> float:
    same = int((read.y[read.src] == read.y[read.dst]).sum())
    return _ratio(same, read.src.numel())


def _node(read: _Labelled) -> float:
    same = (read.y[read.src] == read.y[read.dst]).double()
    weight = torch.ones_like(same) if read.weight is None else read.weight
    return _mean_share(_sums(read, same * weight), _sums(read, weight))


def _by_class(read: _Labelled) -> float:
    if read.num_classes < 2 or not read.src.numel():
        return _NAN
    total = 0.0
    for label, (row, size) in enumerate(zip(read.joint, read.sizes.tolist(), strict=True)):
        received = sum(row)
        share = row[label] / received if received else 0.0
        total += max(0.0, share - size / read.num_nodes)
    return total / (read.num_classes - 1)


def _adjusted(read: _Labelled) -> float:
    edges = read.src.numel()
    same = sum(row[label] for label, row in enumerate(read.joint))
    chance = sum(sum(row) * sum(column) for row, column in _crossed(read))
    # whole numbers: a graph whose edges are all of one class divides by 0 exactly
    return _ratio(same * edges - chance, edges * edges - chance)


def _informativeness(read: _Labelled) -> float:
    if not read.src.numel():
        return _NAN
    pair = torch.tensor(read.joint, dtype=torch.float64) / read.src.numel()
    to, of = pair.sum(1), pair.sum(0)
    entropy = -float(torch.special.xlogy(to, to).sum())
    # one class that receives all edges has the entropy -0
    if not entropy > 0:
        return _NAN
    chance = torch.where(pair > 0, to[:, None] * of, 1.0)
    ratio = torch.where(pair > 0, pair / chance, 1.0)
    return max(0.0, float(torch.special.xlogy(pair, ratio).sum())) / entropy


def _aggregation(read: _Labelled, modified: bool, self_loops: bool) -> float:
    if not read.num_nodes:
        return _NAN
    hits = 0
    for same, other, size in _similarities(read, self_loops, high=False):
        hits += int((same - other >= -_TIE * size).sum())
    found = hits / read.num_nodes
    return _above_half(found) if modified else found


def _above_half(value: float) -> float:
    return value if value != value else max(0.0, 2 * value - 1)


def _distinguishability(read: _Labelled, self_loops: bool) -> float:
    if not read.num_nodes:
        return _NAN
    hits = 0
    for same, other, size in _similarities(read, self_loops, high=True):
        hits += int(((same >= -_TIE * size) & (other <= _TIE * size)).sum())
    return hits / read.num_nodes


def _similarities(
    read: _Labelled, self_loops: bool, high: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The two means of S of each node, and of what size the terms are; some rows at a time.

    The mean of S over a class is the product of a row with the mean row of the class.
    """
    count = len(read.sizes)
    sums = torch.zeros(2, count, count, dtype=torch.float64, device=read.y.device)
    for y, rows in _filtered(read, self_loops, high):
        # a product, whose order of sums does not depend on threads or atomics
        of_class = torch.nn.functional.one_hot(y, count).double().t()
        sums[0] += of_class @ rows
        sums[1] += of_class @ rows.abs()
    size = read.sizes.double()[:, None]
    own = sums / size
    rest = (sums.sum(1, keepdim=True) - sums) / (read.num_nodes - size).clamp(min=1)
    if count == 1:
        rest.zero_()
    for y, rows in _filtered(read, self_loops, high):
        scale = (rows.abs() * (own[1] + rest[1])[y]).sum(1)
        yield (rows * own[0][y]).sum(1), (rows * rest[0][y]).sum(1), scale


def _filtered(read: _Labelled, self_loops: bool, high: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels and rows of the filtered labels, some rows at a time: quotients of whole numbers."""
    for y, counts in zip(read.y.split(_ROWS), read.counts.split(_ROWS), strict=True):
        own = torch.nn.functional.one_hot(y, counts.size(1))
        rows = counts + own if self_loops else counts
        degree = rows.sum(1, keepdim=True)
        if high:
            # an empty row of the filter leaves the label
            rows = own * degree.clamp(min=1) - rows
        yield y, rows.double() / degree.clamp(min=1)


def _products(read: _Labelled, k: int) -> dict[str, float]:
    num_nodes = read.num_nodes
    graph = Graph.from_edge_index(read.edge_index, num_nodes)
    steps = {"A^T": graph, "A": graph.t()}
    if _same_both_ways(graph):
        steps = {"A": graph}
    words = ["".join(word) for size in range(1, k + 1) for word in product("AT", repeat=size)]
    words = [word.replace("T", "A^T") for word in words if len(steps) == 2 or "T" not in word]
    count = len(read.sizes)
    same = {
        word: torch.zeros(num_nodes, dtype=torch.float64, device=read.y.device) for word in words
    }
    whole = {word: same[word].clone() for word in words}
    for first in range(0, count, _CLASSES):
        last = min(count, first + _CLASSES)
        mine = ((read.y >= first) & (read.y < last)).nonzero().flatten()
        column = (read.y[mine] - first)[:, None]
        labels = torch.zeros(num_nodes, last - first, dtype=torch.float64, device=read.y.device)
        labels[mine] = labels[mine].scatter_(1, column, 1.0)
        level = {"": labels}
        for _ in range(k):
            # the factor that stands first is applied last
            level = {
                name + word: spmm(step, x)
                for word, x in level.items()
                for name, step in steps.items()
            }
            for word, x in level.items():
                same[word][mine] = x[mine].gather(1, column).flatten()
                whole[word] += x.sum(1)
    return {word: _mean_share(same[word], whole[word]) for word in words}


def _same_both_ways(graph: Graph) -> bool:
    """Whether each node's sources are its targets, as they stand; if it is so in another order,
    this is missed, which costs time and changes nothing."""
    fwd, bwd = graph.by_dst, graph.by_src
    return (
        bwd is not None
        and torch.equal(fwd.indptr, bwd.indptr)
        and torch.equal(fwd.indices, bwd.indices)
    )


def _published(read: _Labelled) -> dict[str, float]:
    bare = read.edge_index[:, read.src != read.dst]
    loops = torch.arange(read.num_nodes, device=read.y.device).expand(2, -1)
    turned = _between(read, bare.flip(0))
    return {
        "edge": _edge(_between(read, torch.cat([bare, loops], dim=1))),
        "node": _node(turned),
        "class": _by_class(turned),
        "aggregation_modified": _aggregation(_undirected(read), True, True),
    }


def _between(read: _Labelled, edge_index: Tensor) -> _Labelled:
    """The same nodes with other edges."""
    return _Labelled(edge_index, read.y, read.num_classes)


def _undirected(read: _Labelled) -> _Labelled:
    """The edges and their reverses, each once."""
    count = max(1, read.num_nodes)
    both = [read.src * count + read.dst, read.dst * count + read.src]
    key = torch.cat(both).unique()
    return _between(read, torch.stack([key // count, key % count]))


def _largest(values: dict[str, float]) -> float:
    return max((value for value in values.values() if value == value), default=_NAN)


def _crossed(read: _Labelled) -> Iterator[tuple[list[int], tuple[int, ...]]]:
    """Row and column of each class in ``joint``."""
    return zip(read.joint, zip(*read.joint, strict=True), strict=True)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else _NAN


def _mean_share(part: Tensor, whole: Tensor) -> float:
    """The mean of part / whole over the rows where there is a whole."""
    has = whole > 0
    return float((part[has] / whole[has]).mean()) if bool(has.any()) else _NAN


def _sums(read: _Labelled, values: Tensor) -> Tensor:
    """``values [E]`` summed at the targets, float64 ``[N]``."""
    return torch.bincount(read.dst, weights=values, minlength=read.num_nodes)


def _read(name: str, edge_index: Adj, y: Any, edge_weight: Any = None) -> _Labelled:
    _check_labels(name, y)
    num_nodes = y.size(0)
    ends = _ends(name, edge_index, num_nodes)
    _check_device(name, "y", y, ends)
    if y.numel() and int(y.min()) < -1:
        at = int((y < -1).nonzero()[0])
        raise GraphError(
            f"{name}: y[{at}] = {int(y[at])}, but classes are numbered from 0, and -1 stands for "
            "no label."
        )
    weight = None if edge_weight is None else _weight(name, edge_weight, ends[0])
    is_labelled = y >= 0
    num_classes = int(y.max()) + 1 if num_nodes else 0
    if not bool(is_labelled.all()):
        keep = is_labelled[ends[0]] & is_labelled[ends[1]]
        ends = (is_labelled.cumsum(0) - 1)[ends[:, keep]]
        weight = None if weight is None else weight[keep]
        y = y[is_labelled]
    # numbers that no node has take no memory
    y = torch.unique(y, return_inverse=True)[1]
    return _Labelled(ends, y, num_classes, weight)


def _check_labels(name: str, y: Any) -> None:
    if not isinstance(y, Tensor):
        raise GraphError(
            f"{name}: y is a {type(y).__name__}, but a torch.Tensor [N] of class numbers is "
            "expected. Wrap it with torch.as_tensor(...)."
        )
    if y.dim() != 1:
        is_column = y.dim() == 2 and y.size(1) == 1
        hint = "Pass y.view(-1)." if is_column else "Give every node one class."
        raise GraphError(
            f"{name}: y has shape {list(y.shape)}, but [N] is expected, one class number for each "
            f"node. {hint}"
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise GraphError(
            f"{name}: y has dtype {y.dtype}, but class numbers of an integer dtype are expected. "
            "Convert them with y.long(), and put -1 where there is no label."
        )


def _ends(name: str, edge_index: Adj, num_nodes: int) -> Tensor:
    """Sources and targets, int64 ``[2, E]``."""
    if isinstance(edge_index, Graph):
        sides = {"sources": edge_index.num_src, "destinations": edge_index.num_dst}
        for side, count in sides.items():
            if count != num_nodes:
                raise GraphError(
                    f"{name}: y has {num_nodes} labels, but the graph has {count} {side}. It needs "
                    "one set of nodes, and a label for each of them."
                )
        return edge_index.edge_index()
    check_edge_index(edge_index)
    for row, side in enumerate(("sources", "destinations")):
        check_range(edge_index[row], num_nodes, f"edge_index[{row}]", side)
    return edge_index.long()


def _weight(name: str, weight: Any, src: Tensor) -> Tensor:
    if not isinstance(weight, Tensor) or weight.shape != src.shape:
        got = list(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise GraphError(
            f"{name}: edge_weight is {got}, but a tensor of shape {list(src.shape)} is expected, "
            "one weight for each column of edge_index."
        )
    _check_device(name, "edge_weight", weight, src)
    weight = weight.detach().double()
    bad = ~(weight >= 0) | weight.isinf()
    if bool(bad.any()):
        at = int(bad.nonzero()[0])
        raise GraphError(
            f"{name}: edge_weight[{at}] = {float(weight[at])}, but weights must be finite and at "
            "least 0."
        )
    return weight


def _check_device(name: str, what: str, value: Tensor, edges: Tensor) -> None:
    if value.device != edges.device:
        raise GraphError(
            f"{name}: {what} is on {value.device} and the edges are on {edges.device}. "
            f"Move them together: {what}.to({str(edges.device)!r})."
        )


def _check_steps(name: str, k: Any) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= 8:
        raise ConfigError(f"{name}: k is {k!r}, but a whole number from 1 to 8 is expected.")
