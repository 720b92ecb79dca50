"""How much alike the features of neighbours are: measures of over-smoothing, linear in edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..errors import ConfigError
from ..graph import Graph
from ..ops import spmm
from ..ops.check import check_nodes, check_square
from ..ops.random import random_words
from .normalize import gcn_scales


def dirichlet_energy(graph: Graph, x: Tensor, *, relative: bool = False) -> float:
    r"""How much ``x [N, F]`` changes along the edges of an undirected graph.

    .. math::
        E(X) = \mathrm{tr}(X^\top (I - \hat A) X) = \frac12 \sum_{(i, j) \in E}
        \Big\| \frac{x_i}{\sqrt{d_i + 1}} - \frac{x_j}{\sqrt{d_j + 1}} \Big\|^2

    with :math:`\hat A` the normalised adjacency of GCN and the sum over both directions of every
    edge; `A note on over-smoothing for graph neural networks <https://arxiv.org/abs/2006.13318>`_.
    It is 0 exactly where all rows of a component are one vector times :math:`\sqrt{d_i + 1}`.

    ``relative`` divides by :math:`\|X\|^2`: from 0 to below 2, whatever the scale of ``x``, 0 for
    features of 0. In float64. Cost: one product.

    Raises :class:`GraphError` for rows that do not fit and for two kinds of nodes.
    """
    check_nodes("dirichlet_energy", "x", x, graph, "source")
    x = x.detach().double().flatten(1)
    scale, diagonal = gcn_scales(graph, dtype=torch.float64)
    near = spmm(graph, x, left=scale, right=scale, diagonal=diagonal)
    size = float(x.square().sum())
    # what rounding leaves of nothing may be negative
    energy = max(float((x * (x - near)).sum()), 0.0)
    if not relative:
        return energy
    return energy / size if size > 0 else 0.0


def mad_gap(
    graph: Graph,
    x: Tensor,
    *,
    near: int = 3,
    far: int = 8,
    samples: int = 256,
    seed: int = 0,
) -> float:
    """How much less alike remote nodes are than near ones: MADGap, about 0 if over-smoothed.

    The mean cosine distance ``1 - cos(x_i, x_j)`` to nodes at least ``far`` hops away, less that to
    nodes 1 to ``near`` hops away; `Measuring and relieving the over-smoothing problem for graph
    neural networks from the topological view <https://arxiv.org/abs/1909.03211>`_. Hops go along
    edges in either direction, and a node that cannot be reached is remote. As in the paper each
    node's pairs are averaged first, distances of 0 not counted, and then the nodes that have any.

    Args:
        graph: square.
        x: ``[N, F]``, such as the outputs of a model.
        near: hops up to which nodes are near.
        far: hops from which on they are remote, more than ``near``.
        samples: nodes whose pairs are measured, or all if there are not so many. Those whose random
            word, a function of ``seed`` and the node's number, is smallest.
        seed: another one takes other nodes.

    Returns the gap, from -2 to 2; nan where no node that was drawn has a remote and where none has
    a near one. Cost: ``far`` products of width ``samples``, and ``samples x N`` cosines.

    Raises :class:`GraphError` for rows that do not fit and for two kinds of nodes, and
    :class:`ConfigError` for numbers out of range.
    """
    check_nodes("mad_gap", "x", x, graph, "source")
    check_square("mad_gap", graph)
    if not 1 <= near < far or samples < 1:
        raise ConfigError(
            f"mad_gap: near={near}, far={far} and samples={samples}, but 1 <= near < far and at "
            "least one sample are expected."
        )
    x = normalize(x.detach().double().flatten(1), dim=1)
    means = {"near": x.new_zeros(2), "far": x.new_zeros(2)}
    for nodes in _drawn(graph.num_dst, samples, seed, x.device).split(64):
        distance = 1 - x @ x[nodes].t()
        within = _within(graph, nodes, far - 1)
        for name, among in (("near", within[near] & ~within[0]), ("far", ~within[-1])):
            means[name] += _sum_of_means(distance, among)
    near_mean, far_mean = (float(total / count) for total, count in means.values())
    return far_mean - near_mean


def _drawn(num_nodes: int, samples: int, seed: int, device: torch.device) -> Tensor:
    """So many nodes, or all, in rising order."""
    number = torch.arange(num_nodes, device=device)
    if samples >= num_nodes:
        return number
    words = random_words(torch.tensor(seed, device=device), number)
    return words.argsort(stable=True)[:samples].sort().values


def _within(graph: Graph, nodes: Tensor, hops: int) -> list[Tensor]:
    """For 0 to ``hops``: who is within so many hops of each of the nodes, bool ``[N, nodes]``."""
    reached = torch.zeros(graph.num_dst, len(nodes), device=nodes.device)
    reached[nodes, torch.arange(len(nodes), device=nodes.device)] = 1
    found = [reached > 0]
    for _ in range(hops):
        # along edges and against them
        reached = reached + spmm(graph, reached) + spmm(graph.t(), reached)
        found.append(reached > 0)
        reached = found[-1].float()
    return found


def _sum_of_means(distance: Tensor, among: Tensor) -> Tensor:
    """Of columns the sum of their means over what is ``among`` them and not 0, and their number."""
    among = among & (distance > 1e-12)
    count = among.sum(dim=0)
    sums = torch.where(among, distance, 0).sum(dim=0)
    return torch.stack([(sums / count.clamp(min=1)).sum(), (count > 0).sum()])
