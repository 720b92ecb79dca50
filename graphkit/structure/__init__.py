"""Graph in, per-node scales, parts, measures or another graph out."""

# pyright: strict

from __future__ import annotations

from .homophily import (
    adjusted_homophily,
    aggregation_homophily,
    class_homophily,
    diversification_distinguishability,
    edge_homophily,
    effective_homophily,
    homophily_table,
    label_informativeness,
    node_homophily,
    product_homophily,
)
from .normalize import gcn_scales, has_self_loop, self_loop_mask, weighted_in_degree
from .partition import partition

__all__ = [
    "adjusted_homophily",
    "aggregation_homophily",
    "class_homophily",
    "diversification_distinguishability",
    "edge_homophily",
    "effective_homophily",
    "gcn_scales",
    "has_self_loop",
    "homophily_table",
    "label_informativeness",
    "node_homophily",
    "partition",
    "product_homophily",
    "self_loop_mask",
    "weighted_in_degree",
]
