"""Graph in, per-node scales, parts, measures or another graph out."""

# pyright: strict

from __future__ import annotations

from .directed import (
    TwoSides,
    digcn_operator,
    directed_scales,
    edge_counts,
    is_symmetric,
    pagerank,
    proximity,
)
from .normalize import gcn_scales, has_self_loop, self_loop_mask, weighted_in_degree
from .partition import partition
from .smoothness import dirichlet_energy, mad_gap

__all__ = [
    "TwoSides",
    "digcn_operator",
    "directed_scales",
    "edge_counts",
    "gcn_scales",
    "has_self_loop",
    "is_symmetric",
    "pagerank",
    "partition",
    "proximity",
    "dirichlet_energy",
    "gcn_scales",
    "has_self_loop",
    "mad_gap",
    "partition",
    "self_loop_mask",
    "weighted_in_degree",
]
