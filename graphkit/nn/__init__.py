"""Layers and models. They are plain modules that stand in PyG models wherever PyG's own do."""

from __future__ import annotations

from .acm import ACMGCN, ACMConv
from .digcn import DGCN, DGCNConv, DiGCN, DiGCNBlock, DiGCNConv, DiGCNIB
from .directed import DirGATConv, DirGCNConv, DirGNN, DirSAGEConv
from .gat import GATConv, GATv2Conv
from .gcn import GCNConv
from .gin import GINConv, GINEConv
from .hetero import HETERO_MODELS, HeteroStack
from .magnet import MagNet, MagNetConv
from .mlp import MLP
from .models import MODELS, Stack, build_model, own_options
from .sage import SAGEConv

__all__ = [
    "ACMConv",
    "ACMGCN",
    "DGCN",
    "DGCNConv",
    "DiGCN",
    "DiGCNBlock",
    "DiGCNConv",
    "DiGCNIB",
    "DirGATConv",
    "DirGCNConv",
    "DirGNN",
    "DirSAGEConv",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "GINEConv",
    "HETERO_MODELS",
    "HeteroStack",
    "MLP",
    "MODELS",
    "MagNet",
    "MagNetConv",
    "SAGEConv",
    "Stack",
    "build_model",
    "own_options",
]
