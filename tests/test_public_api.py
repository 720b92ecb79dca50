"""The public names, by hand: a change here is a change to somebody's program."""

from __future__ import annotations

import importlib
import inspect

import pytest

PUBLIC = {
    "graphkit": [
        "Adj", "BackendError", "ConfigError", "Csr", "DataError", "DirectionWarning", "Graph",
        "GraphError", "GraphkitError", "StoreError", "as_graph", "data", "interop", "metrics", "nn",
        "ops", "recipes", "scatter", "structure", "testing", "transforms",
    ],
    "graphkit.ops": [
        "HeteroSampled",
        "Key",
        "NegativeSampler",
        "Sampled",
        "Sampler",
        "Walker",
        "backends",
        "common_neighbors",
        "compact",
        "dropout",
        "gat_attention",
        "gather",
        "gatv2_attention",
        "importance_neighbors",
        "intersect",
        "mix_channels",
        "ppr",
        "random_walk",
        "relu_dropout",
        "sample",
        "sample_negatives",
        "sddmm",
        "segment_reduce",
        "segment_softmax",
        "spmm",
        "take_rows",
    ],
    "graphkit.nn": [
        "ACMConv", "ACMGCN", "ACMSGC", "ACMSnowball", "APPNP", "AdaptivePropagation", "AllSetConv",
        "AttentionPooling", "BUDDY", "BUDDYPredictor", "BernConv", "ChebConv", "ChebFilters",
        "ClassBalancedFocalLoss", "CodeUsage", "DGCN", "DGCNConv", "DeepGCNLayer", "DeepSVDDLoss",
        "DeeperGCN", "DiGCN", "DiGCNBlock", "DiGCNConv", "DiGCNIB", "DirGATConv", "DirGCNConv",
        "DirGNN", "DirSAGEConv", "DotDecoder", "EDHNNConv", "GAE", "GATConv", "GATv2Conv",
        "GCN2Conv", "GCNConv", "GCNII", "GENConv", "GINConv", "GINEConv", "GraphTokenizer",
        "HETERO_MODELS", "HGNNConv", "HGNNPConv", "HNHNConv", "HYPER_MODELS", "HadamardDecoder",
        "HeteroStack", "HopMLP", "HyperGCNConv", "HyperStack", "MLP", "MODELS", "MagNet",
        "MagNetConv", "NCNCPredictor", "NCNEncoder", "NCNPredictor", "OCGIN", "Precomputed",
        "PropagatedMLP", "RQGNN", "RQPooling", "ResMLP", "SAGEConv", "SGConv", "Stack", "Tokens",
        "UniConv", "UniGCNIIConv", "VectorQuantize", "build_model", "code_affinity",
        "code_divergence", "code_usage", "distillation_loss", "edge_error", "hops",
        "hyperedge_divergence", "hyperedge_entropy", "hyperedge_reliability", "node_smoothing",
        "own_options", "sample_hyperedges", "smooth", "soft_divergence", "stationary",
    ],
    "graphkit.scatter": [
        "atomic", "scatter", "gather_coo", "gather_csr", "scatter_log_softmax", "scatter_logsumexp",
        "scatter_softmax", "scatter_std", "segment_coo", "segment_csr",
        *(f"scatter_{r}" for r in ("sum", "add", "mul", "mean", "min", "max")),
        *(
            f"segment_{r}_{by}"
            for r in ("sum", "add", "mean", "min", "max")
            for by in ("coo", "csr")
        ),
    ],
    "graphkit.structure": [
        "HEURISTICS", "HyperBlock", "HyperedgeSampler", "Merged", "Restricted", "SampledHyperedges",
        "Sketches", "TwoSides", "adamic_adar", "add_singletons", "adjusted_homophily",
        "aggregation_homophily", "as_hypergraph", "check_hyperedge_weight", "class_homophily",
        "clique_expansion", "common_neighbors", "digcn_operator", "directed_scales",
        "dirichlet_energy", "diversification_distinguishability", "edge_counts", "edge_homophily",
        "edge_subgraph", "effective_homophily", "estimated_counts", "exact_counts",
        "from_incidence", "from_members", "gcn_scales", "has_self_loop", "homophily_table",
        "hyperedges_of_pairs", "is_symmetric", "jaccard", "join_hypergraphs", "katz",
        "khop_hyperedges", "knn_hyperedges", "label_informativeness", "mad_gap", "merge_duplicates",
        "node_homophily", "pagerank", "partition", "personalized_pagerank", "product_homophily",
        "proximity", "rayleigh_quotient", "resource_allocation", "restrict", "self_loop_mask",
        "sketch_neighborhoods", "star_expansion", "to_hyperedge_index", "to_members",
        "weighted_in_degree", "with_normalized", "without_edges",
    ],
    "graphkit.transforms": ["RayleighQuotient"],
    "graphkit.testing": ["CHECKED_NODES", "check_layer", "dense_adjacency", "graphs", "zoo"],
    "graphkit.data": [
        "Baseline", "Batch", "Buffers", "Card", "ClusterData", "ClusterLoader", "Download",
        "GraphSAINTEdgeSampler", "GraphSAINTNodeSampler", "GraphSAINTRandomWalkSampler",
        "GraphSAINTSampler", "GraphSet", "GraphkitSampler", "HostTable", "LINK_TASKS",
        "LinkNeighborLoader", "NeighborLoader", "PackFile", "Packed", "ShaDowKHopSampler",
        "Split", "StoreFeatures", "StoreGraph", "available", "balanced_split", "cache_root",
        "card", "cards", "check", "check_directed_links", "check_events", "check_graphs",
        "check_hypergraph", "check_inputs", "check_links", "check_messages", "data_root",
        "directed_link_split", "evaluate", "fetch", "get", "heart_negatives",
        "homophily_of", "info", "is_path", "label_noise_features", "load", "open_store",
        "pack", "per_class_split", "random_link_split", "random_split", "read_folder",
        "read_hypergraph", "refuse_other_kinds", "stages", "stored", "stored_tables",
        "structural_features", "synthetic_hypergraph", "time_link_split", "time_split",
        "unpack", "with_features", "write_hypergraph", "write_store",
    ],
    "graphkit.recipes": [
        "PRESETS", "Preset", "RECIPES", "Record", "Row", "TABLES", "Tuned", "compare", "direction",
        "distill", "export", "graph", "hyper", "link", "node", "node_mini", "predict",
        "reproduce", "sweep_depth", "tune",
    ],
    "graphkit.store": [
        "FeatureFile", "Store", "atomic", "atomic_folder", "digest", "load_tensors",
        "open_store", "save_tensors",
        "sync", "writing",
    ],
    "graphkit.checkpoint": ["load_state", "random_state", "save_state", "set_random_state"],
    "graphkit.interop": [
        "Attributed", "EdgeType", "Hetero", "MISSING", "MessagePassingLayer", "as_message_passing",
        "PygFunctions", "use_in_pyg",
        *(
            f"{way}_{what}"
            for way in ("from", "to")
            for what in (
                "edge_index", "pyg_edge_index", "data", "hypergraph_data", "hetero_data",
                "torch_sparse", "sparse_tensor", "scipy", "networkx", "pandas", "dgl",
            )
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module: str) -> None:
    assert sorted(importlib.import_module(module).__all__) == sorted(PUBLIC[module])


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_resolve_and_are_documented(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in PUBLIC[module]:
        value = getattr(loaded, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{module}.{name} has no docstring"


def test_unknown_attribute() -> None:
    import graphkit

    with pytest.raises(AttributeError, match="no attribute 'grahp'"):
        graphkit.grahp  # noqa: B018
