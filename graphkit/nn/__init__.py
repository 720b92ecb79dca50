"""Layers and models. They are plain modules that stand in PyG models wherever PyG's own do."""

from __future__ import annotations

from .acm import ACMGCN, ACMSGC, ACMConv, ACMSnowball
from .buddy import BUDDY, BUDDYPredictor
from .decoders import GAE, DotDecoder, HadamardDecoder
from .decoupled import HopMLP, Precomputed, ResMLP, hops, node_smoothing, smooth, stationary
from .digcn import DGCN, DGCNConv, DiGCN, DiGCNBlock, DiGCNConv, DiGCNIB
from .directed import DirGATConv, DirGCNConv, DirGNN, DirSAGEConv
from .distill import (
    distillation_loss,
    hyperedge_divergence,
    hyperedge_entropy,
    hyperedge_reliability,
    sample_hyperedges,
    soft_divergence,
)
from .gat import GATConv, GATv2Conv
from .gcn import GCNConv
from .gcn2 import GCNII, GCN2Conv
from .gen import DeeperGCN, DeepGCNLayer, GENConv
from .gin import GINConv, GINEConv
from .hetero import HETERO_MODELS, HeteroStack
from .hypergraph import HGNNConv, HGNNPConv, HNHNConv, HyperGCNConv
from .hypermodels import HYPER_MODELS, HyperStack
from .hyperset import AllSetConv, EDHNNConv, UniConv, UniGCNIIConv
from .losses import ClassBalancedFocalLoss, DeepSVDDLoss
from .magnet import MagNet, MagNetConv
from .mlp import MLP
from .models import MODELS, Stack, build_model, own_options
from .ncn import NCNCPredictor, NCNPredictor
from .ncn_encoder import NCNEncoder
from .ocgin import OCGIN
from .pooling import AttentionPooling, RQPooling
from .propagate import APPNP, AdaptivePropagation, PropagatedMLP, SGConv
from .rqgnn import RQGNN
from .sage import SAGEConv
from .spectral import BernConv, ChebConv, ChebFilters
from .vq import (
    CodeUsage,
    GraphTokenizer,
    Tokens,
    VectorQuantize,
    code_affinity,
    code_divergence,
    code_usage,
    edge_error,
)

__all__ = [
    "ACMConv",
    "ACMGCN",
    "ACMSGC",
    "ACMSnowball",
    "APPNP",
    "AdaptivePropagation",
    "AllSetConv",
    "AttentionPooling",
    "BUDDY",
    "BUDDYPredictor",
    "BernConv",
    "ChebConv",
    "ChebFilters",
    "ClassBalancedFocalLoss",
    "CodeUsage",
    "DGCN",
    "DGCNConv",
    "DeepGCNLayer",
    "DeepSVDDLoss",
    "DeeperGCN",
    "DiGCN",
    "DiGCNBlock",
    "DiGCNConv",
    "DiGCNIB",
    "DirGATConv",
    "DirGCNConv",
    "DirGNN",
    "DirSAGEConv",
    "DotDecoder",
    "EDHNNConv",
    "GAE",
    "GATConv",
    "GATv2Conv",
    "GCN2Conv",
    "GCNConv",
    "GCNII",
    "GENConv",
    "GINConv",
    "GINEConv",
    "GraphTokenizer",
    "HETERO_MODELS",
    "HGNNConv",
    "HGNNPConv",
    "HNHNConv",
    "HYPER_MODELS",
    "HadamardDecoder",
    "HeteroStack",
    "HopMLP",
    "HyperGCNConv",
    "HyperStack",
    "MLP",
    "MODELS",
    "MagNet",
    "MagNetConv",
    "NCNCPredictor",
    "NCNEncoder",
    "NCNPredictor",
    "OCGIN",
    "Precomputed",
    "PropagatedMLP",
    "RQGNN",
    "RQPooling",
    "ResMLP",
    "SAGEConv",
    "SGConv",
    "Stack",
    "Tokens",
    "UniConv",
    "UniGCNIIConv",
    "VectorQuantize",
    "build_model",
    "code_affinity",
    "code_divergence",
    "code_usage",
    "distillation_loss",
    "edge_error",
    "hops",
    "hyperedge_divergence",
    "hyperedge_entropy",
    "hyperedge_reliability",
    "node_smoothing",
    "own_options",
    "sample_hyperedges",
    "smooth",
    "soft_divergence",
    "stationary",
]
