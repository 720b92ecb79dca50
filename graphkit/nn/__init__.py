"""Layers and models. They are plain modules that stand in PyG models wherever PyG's own do."""

from __future__ import annotations

from .acm import ACMGCN, ACMConv
from .gat import GATConv, GATv2Conv
from .gcn import GCNConv
from .gin import GINConv, GINEConv
from .hetero import HETERO_MODELS, HeteroStack
from .mlp import MLP
from .models import MODELS, Stack, build_model, own_options
from .sage import SAGEConv

__all__ = [
    "ACMConv",
    "ACMGCN",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "GINEConv",
    "HETERO_MODELS",
    "HeteroStack",
    "MLP",
    "MODELS",
    "SAGEConv",
    "Stack",
    "build_model",
    "own_options",
]
