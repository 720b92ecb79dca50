"""OGB's raw tables of a graph with node and edge types: ogbn-mag."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..raw import Raw
from .ogb import (
    check_range,
    features,
    labels,
    masks,
    named_columns,
    numbers,
    split_file,
    table,
    text_rows,
)


def read_ogb_hetero(files: Mapping[str, bytes]) -> Raw:
    """One heterogeneous graph, its relations in alphabetic order, as OGB's class gives it.

    Of nodes x [N, F], node_year [N, 1], y int64 [N] and masks bool [N] where there are such; of
    edges edge_index int64 [2, E] and edge_reltype int64 [E, 1], or any other ``edge_*``.
    """
    name = "raw/num-node-dict.csv.gz"
    num_nodes = named_columns(files, name)
    if any(not isinstance(count, int) or count < 0 for count in num_nodes.values()):
        raise DataError(f"{name}: a number of nodes for each type is expected. Fetch it again.")
    tensors: dict[str, Tensor] = {}
    for triplet in text_rows(files, "raw/triplet-type-list.csv.gz", 3):
        tensors |= _edges(files, triplet, num_nodes)
    for kind in sorted(num_nodes):
        home = f"raw/node-feat/{kind}/"
        tensors |= _tables(files, home, num_nodes[kind], f"@{kind}")
    for kind in _those(files, "raw/nodetype-has-label.csv.gz", num_nodes):
        name = f"raw/node-label/{kind}/node-label.csv.gz"
        tensors[f"y@{kind}"] = labels(table(files, name, num_nodes[kind]), name)
    for kind in _those(files, split_file(files, "nodetype-has-split.csv.gz"), num_nodes):
        tensors |= masks(files, num_nodes[kind], f"{kind}/", f"@{kind}")
    return Raw(tensors, {"num_nodes": dict(sorted(num_nodes.items()))})


def _edges(
    files: Mapping[str, bytes], triplet: tuple[str, ...], num_nodes: Mapping[str, int]
) -> dict[str, Tensor]:
    home, kind = f"raw/relations/{'___'.join(triplet)}/", "@" + "@".join(triplet)
    unknown = [end for end in (triplet[0], triplet[2]) if end not in num_nodes]
    if unknown:
        raise DataError(
            f"raw/triplet-type-list.csv.gz: node type {unknown[0]!r} has no number of nodes in "
            "raw/num-node-dict.csv.gz. Fetch the files again."
        )
    count = int(numbers(files, f"{home}num-edge-list.csv.gz", 1)[0, 0])
    edge = np.ascontiguousarray(numbers(files, f"{home}edge.csv.gz", count, 2).T)
    for row, end in zip(edge, (triplet[0], triplet[2]), strict=True):
        check_range(row, num_nodes[end], f"{home}edge.csv.gz")
    return {
        f"edge_index{kind}": torch.from_numpy(edge),
        **_tables(files, home, count, kind),
    }


def _tables(files: Mapping[str, bytes], home: str, rows: int, kind: str) -> dict[str, Tensor]:
    """The features and additional tables of a folder."""
    known = {"node-feat": "x", "edge-feat": "edge_attr"}
    stems = {
        name: name.removeprefix(home).removesuffix(".csv.gz")
        for name in files
        if name.startswith(home)
    }
    return {
        known.get(stem, stem) + kind: features(files, name, rows)
        for name, stem in stems.items()
        if stem in known or stem.startswith(("node_", "edge_"))
    }


def _those(files: Mapping[str, bytes], name: str, num_nodes: Mapping[str, int]) -> list[str]:
    """The node types that a table of True and False marks."""
    marked = named_columns(files, name)
    if any(value not in (True, False) for value in marked.values()) or not marked.keys() <= set(
        num_nodes
    ):
        raise DataError(
            f"{name}: True or False for each of {', '.join(num_nodes)} is expected, got "
            f"{', '.join(f'{kind} {value}' for kind, value in marked.items())}. Fetch it again."
        )
    return [kind for kind, value in marked.items() if value]
