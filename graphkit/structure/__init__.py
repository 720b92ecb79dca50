"""Graph in; per-node scales, parts, measures, scores of pairs or another graph out."""

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
from .heuristics import (
    HEURISTICS,
    adamic_adar,
    common_neighbors,
    jaccard,
    katz,
    personalized_pagerank,
    resource_allocation,
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
from .rayleigh import rayleigh_quotient
from .sketches import (
    Sketches,
    estimated_counts,
    exact_counts,
    sketch_neighborhoods,
    with_normalized,
)
from .smoothness import dirichlet_energy, mad_gap
from .subgraph import edge_subgraph, without_edges

__all__ = [
    "HEURISTICS",
    "Sketches",
    "TwoSides",
    "adamic_adar",
    "adjusted_homophily",
    "aggregation_homophily",
    "class_homophily",
    "common_neighbors",
    "digcn_operator",
    "directed_scales",
    "dirichlet_energy",
    "diversification_distinguishability",
    "edge_counts",
    "edge_homophily",
    "edge_subgraph",
    "effective_homophily",
    "estimated_counts",
    "exact_counts",
    "gcn_scales",
    "has_self_loop",
    "homophily_table",
    "is_symmetric",
    "jaccard",
    "katz",
    "label_informativeness",
    "mad_gap",
    "node_homophily",
    "pagerank",
    "partition",
    "personalized_pagerank",
    "product_homophily",
    "proximity",
    "rayleigh_quotient",
    "resource_allocation",
    "self_loop_mask",
    "sketch_neighborhoods",
    "weighted_in_degree",
    "with_normalized",
    "without_edges",
]
