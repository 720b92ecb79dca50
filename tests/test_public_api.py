"""The public names, by hand: a change here is a change to somebody's program."""

from __future__ import annotations

import importlib
import inspect

import pytest

PUBLIC = {
    "graphkit": [
        "Adj", "BackendError", "ConfigError", "Csr", "DataError", "Graph", "GraphError",
        "GraphkitError", "StoreError", "as_graph", "data", "interop", "metrics", "nn", "ops",
        "recipes", "structure", "testing",
    ],
    "graphkit.ops": ["backends", "gather", "sddmm", "segment_reduce", "segment_softmax", "spmm"],
    "graphkit.nn": [
        "ACMConv", "ACMGCN", "GATConv", "GATv2Conv", "GCNConv", "GINConv", "GINEConv", "MLP",
        "MODELS", "SAGEConv", "Stack", "build_model",
    ],
    "graphkit.structure": ["gcn_scales", "has_self_loop", "self_loop_mask", "weighted_in_degree"],
    "graphkit.testing": ["check_layer", "dense_adjacency", "graphs", "zoo"],
    "graphkit.data": [
        "Baseline", "Card", "Split", "available", "card", "cards", "check", "data_root", "info",
        "load", "per_class_split", "random_split",
    ],
    "graphkit.recipes": ["PRESETS", "RECIPES", "Preset", "Record", "Row", "node"],
    "graphkit.interop": ["MessagePassingLayer", "as_message_passing"],
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
