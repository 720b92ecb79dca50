"""Graph in, per-node scales, parts or another graph out."""

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
    "self_loop_mask",
    "weighted_in_degree",
]
