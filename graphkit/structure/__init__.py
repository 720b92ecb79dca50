"""Graph in, per-node scales, parts or another graph out."""

# pyright: strict

from __future__ import annotations

from .normalize import gcn_scales, has_self_loop, self_loop_mask, weighted_in_degree
from .partition import partition

__all__ = ["gcn_scales", "has_self_loop", "partition", "self_loop_mask", "weighted_in_degree"]
