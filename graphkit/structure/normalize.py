"""Degree normalisations as per-node scales: no weighted or self-looped copy of a graph is made.

A normalised product is ``left * (spmm(g, right * h) + diagonal * right * h)``: ``left`` and
``right`` scale destinations and sources, ``diagonal`` is the weight of the self-loop that the
normalisation adds to each node.
"""

# pyright: strict

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import GraphError
from ..graph import Graph
from ..ops import loops, segment_reduce


def self_loop_mask(graph: Graph) -> Tensor:
    """Which edges lead from a node to itself, bool ``[E]`` in the caller's edge order."""
    return loops.self_loop_mask(graph.by_dst)


def has_self_loop(graph: Graph) -> Tensor:
    """Which destinations have a self-loop, bool ``[num_dst]``."""
    return loops.count_self_loops(graph.by_dst) > 0


def weighted_in_degree(graph: Graph, edge_weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The sum of the weights of each destination's edges (their number without weights).

    In ``dtype``, but never below float32: a hub's degree is beyond float16.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    if edge_weight is None:
        return graph.in_degree().to(dtype)
    return segment_reduce(edge_weight.to(dtype), graph.by_dst)


def gcn_scales(
    graph: Graph,
    edge_weight: Tensor | None = None,
    *,
    improved: bool = False,
    add_self_loops: bool = True,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor | None]:
    """Kipf and Welling's symmetric normalisation: ``(scale [N], diagonal [N] or None)``.

    ``scale = (in-degree + diagonal) ** -0.5``, 0 where that degree is 0, stands on both sides.
    ``diagonal`` is 1 (2 if ``improved``) for nodes without a self-loop and 0 for the others, whose
    own loops stay; None if ``add_self_loops`` is off. Differentiable in ``edge_weight [E]``.

    PyG keeps one of several parallel self-loops, here they add up like any parallel edges.
    """
    if graph.num_src != graph.num_dst:
        raise GraphError(
            f"Symmetric normalisation needs one set of nodes, but the graph has {graph.num_src} "
            f"sources and {graph.num_dst} destinations. Use SAGEConv, GATConv or GINConv for "
            "bipartite graphs."
        )
    degree = weighted_in_degree(graph, edge_weight, dtype)
    diagonal = None
    if add_self_loops:
        fill = 2.0 if improved else 1.0
        diagonal = torch.where(has_self_loop(graph), 0.0, fill).to(degree.dtype)
        degree = degree + diagonal
    scale = inverse_root(degree).to(dtype)
    return scale, None if diagonal is None else diagonal.to(dtype)


def inverse_root(degree: Tensor) -> Tensor:
    """``degree ** -0.5``, 0 where the degree is 0."""
    # a degree of 0 is replaced before the power: its infinite derivative would reach the weights
    safe = torch.where(degree == 0, 1, degree)
    return torch.where(degree == 0, 0, safe.pow(-0.5))
