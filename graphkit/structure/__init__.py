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
from .smoothness import dirichlet_energy, mad_gap
from .subgraph import edge_subgraph, without_edges

__all__ = [
    "TwoSides",
    "adjusted_homophily",
    "aggregation_homophily",
    "class_homophily",
    "digcn_operator",
    "directed_scales",
    "dirichlet_energy",
    "diversification_distinguishability",
    "edge_counts",
    "edge_homophily",
    "edge_subgraph",
    "effective_homophily",
    "gcn_scales",
    "has_self_loop",
    "homophily_table",
    "is_symmetric",
    "label_informativeness",
    "mad_gap",
    "node_homophily",
    "pagerank",
    "partition",
    "product_homophily",
    "proximity",
    "self_loop_mask",
    "weighted_in_degree",
    "without_edges",
]
