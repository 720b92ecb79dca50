"""Data sets by name, their cards, seeded splits, the checks of a user's own data, and loaders."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import need
from ..store.packed import PackFile
from ..store.reader import open_store
from . import stages
from .archive import unpack
from .batch import Batch
from .buffers import Buffers
from .cards import Baseline, Card, Download, Split, card, cards
from .check import check, check_graphs, check_inputs, refuse_other_kinds
from .check_kinds import (
    check_directed_links,
    check_events,
    check_hypergraph,
    check_links,
    check_messages,
)
from .describe import homophily_of
from .download import fetch
from .evaluate import evaluate
from .features import label_noise_features, structural_features, with_features
from .graphs import GraphSet
from .hard_negatives import heart_negatives
from .host import HostTable
from .hyper_tables import read_hypergraph, write_hypergraph
from .links import (
    LINK_TASKS,
    directed_link_split,
    random_link_split,
    time_link_split,
    time_split,
)
from .load import available, cache_root, data_root, get, info, is_path, load
from .pack import Packed, pack, stored
from .sources import stored_tables
from .splits import balanced_split, per_class_split, random_split
from .synthetic import synthetic_hypergraph
from .tables import read_folder
from .write import write_store

if TYPE_CHECKING:
    from .pyg import GraphkitSampler, LinkNeighborLoader, NeighborLoader
    from .pyg_store import StoreFeatures, StoreGraph
    from .subgraphs import (
        ClusterData,
        ClusterLoader,
        GraphSAINTEdgeSampler,
        GraphSAINTNodeSampler,
        GraphSAINTRandomWalkSampler,
        GraphSAINTSampler,
        ShaDowKHopSampler,
    )

# the only names that need PyG as soon as they are looked at, and where they are
_OF_PYG = {
    "ClusterData": "subgraphs",
    "ClusterLoader": "subgraphs",
    "GraphSAINTEdgeSampler": "subgraphs",
    "GraphSAINTNodeSampler": "subgraphs",
    "GraphSAINTRandomWalkSampler": "subgraphs",
    "GraphSAINTSampler": "subgraphs",
    "GraphkitSampler": "pyg",
    "LinkNeighborLoader": "pyg",
    "NeighborLoader": "pyg",
    "ShaDowKHopSampler": "subgraphs",
    "StoreFeatures": "pyg_store",
    "StoreGraph": "pyg_store",
}

__all__ = [
    "Baseline",
    "Batch",
    "Buffers",
    "Card",
    "ClusterData",
    "ClusterLoader",
    "Download",
    "GraphSAINTEdgeSampler",
    "GraphSAINTNodeSampler",
    "GraphSAINTRandomWalkSampler",
    "GraphSAINTSampler",
    "GraphSet",
    "GraphkitSampler",
    "HostTable",
    "LINK_TASKS",
    "LinkNeighborLoader",
    "NeighborLoader",
    "PackFile",
    "Packed",
    "ShaDowKHopSampler",
    "Split",
    "StoreFeatures",
    "StoreGraph",
    "available",
    "balanced_split",
    "cache_root",
    "card",
    "cards",
    "check",
    "check_directed_links",
    "check_events",
    "check_graphs",
    "check_hypergraph",
    "check_inputs",
    "check_links",
    "check_messages",
    "data_root",
    "directed_link_split",
    "evaluate",
    "fetch",
    "get",
    "heart_negatives",
    "homophily_of",
    "info",
    "is_path",
    "label_noise_features",
    "load",
    "open_store",
    "pack",
    "per_class_split",
    "random_link_split",
    "random_split",
    "read_folder",
    "read_hypergraph",
    "refuse_other_kinds",
    "stages",
    "stored",
    "stored_tables",
    "structural_features",
    "synthetic_hypergraph",
    "time_link_split",
    "time_split",
    "unpack",
    "with_features",
    "write_hypergraph",
    "write_store",
]


def __getattr__(name: str) -> Any:
    if name in _OF_PYG:
        need("torch_geometric")
        return getattr(importlib.import_module(f"{__name__}.{_OF_PYG[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
