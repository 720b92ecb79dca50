"""Graph in, per-node scales, parts, measures or another graph out."""

# pyright: strict

from __future__ import annotations

from .normalize import gcn_scales, has_self_loop, self_loop_mask, weighted_in_degree
from .partition import partition
from .smoothness import dirichlet_energy, mad_gap

__all__ = [
    "dirichlet_energy",
    "gcn_scales",
    "has_self_loop",
    "mad_gap",
    "partition",
    "self_loop_mask",
    "weighted_in_degree",
]
