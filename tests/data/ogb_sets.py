"""Tiny sets in OGB's raw layouts, for the tests of their readers."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkit.data.raw import Files

PARTS = {"train": "train", "val": "valid", "test": "test"}


def table(root: Path, name: str, rows: Any, header: list[str] | None = None) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    out = io.StringIO()
    values = np.asarray(rows)
    lines = values.reshape(len(values), -1).tolist()
    csv.writer(out).writerows([*([header] if header else []), *lines])
    # a missing label is an empty cell; a line of nothing else would be no row
    text = out.getvalue() if values.size == len(values) else out.getvalue().replace("nan", "")
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def files_of(root: Path) -> Files:
    paths = {
        path.relative_to(root).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] in ("raw", "split")
    }
    return Files(paths, dict.fromkeys(paths, ""), "tiny", "nowhere")


def write_split(root: Path, count: int, rng: np.random.Generator) -> None:
    order = np.append(rng.permutation(count), [0, 0, 0])[: max(count, 3)]
    for part, ids in zip(PARTS.values(), np.array_split(order, 3), strict=True):
        table(root, f"split/time/{part}.csv.gz", ids)


def write_link(root: Path, parts: dict[str, Any], legacy: bool = False) -> None:
    (root / "split/time").mkdir(parents=True, exist_ok=True)
    for part, arrays in parts.items():
        path = root / f"split/time/{part}.pt"
        torch.save(arrays, path, _use_new_zipfile_serialization=not legacy)


def write_mag(root: Path, rng: np.random.Generator) -> None:
    nodes = {"paper": 4, "author": 3, "institution": 2}
    table(root, "raw/num-node-dict.csv.gz", [list(nodes.values())], list(nodes))
    relations = [("paper", "cites", "paper", 5), ("author", "writes", "paper", 4)]
    relations += [("author", "affiliated_with", "institution", 3)]
    table(root, "raw/triplet-type-list.csv.gz", [relation[:3] for relation in relations])
    for number, (src, name, dst, count) in enumerate(relations):
        home = f"raw/relations/{src}___{name}___{dst}"
        edge = np.stack([rng.integers(0, nodes[end], count) for end in (src, dst)], axis=1)
        table(root, f"{home}/edge.csv.gz", edge)
        table(root, f"{home}/num-edge-list.csv.gz", [count])
        table(root, f"{home}/edge_reltype.csv.gz", np.full((count, 1), number))
    table(root, "raw/node-feat/paper/node-feat.csv.gz", rng.normal(size=(4, 3)))
    table(root, "raw/node-feat/paper/node_year.csv.gz", rng.integers(2000, 2020, (4, 1)))
    table(root, "raw/nodetype-has-label.csv.gz", [["True", "False", "False"]], list(nodes))
    table(root, "raw/node-label/paper/node-label.csv.gz", rng.integers(0, 9, (4, 1)))
    table(root, "split/time/nodetype-has-split.csv.gz", [["True", "False", "False"]], list(nodes))
    for part, ids in zip(PARTS.values(), ([0, 2], [1], [3]), strict=True):
        table(root, f"split/time/paper/{part}.csv.gz", ids)


ARRAYS = {
    "num_nodes_list": np.array([4]),
    "num_edges_list": np.array([3]),
    "edge_index": np.array([[0, 1, 3], [1, 2, 0]]),
    "node_feat": np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2),
    "node_year": np.array([[2001], [2002], [2003], [2004]]),
}
LABEL = np.array([[1.0], [np.nan], [0.0], [2.0]])


def write_npz(root: Path, packed: bool = False, label: Any = LABEL, **changes: Any) -> None:
    (root / "raw").mkdir(parents=True, exist_ok=True)
    save = np.savez_compressed if packed else np.savez
    arrays = {key: value for key, value in {**ARRAYS, **changes}.items() if value is not None}
    save(root / "raw/data.npz", **arrays)
    save(root / "raw/node-label.npz", **({} if label is None else {"node_label": label}))
    for part, ids in zip(PARTS.values(), ([0], [2], [3]), strict=True):
        table(root, f"split/time/{part}.csv.gz", ids)


def write_node(root: Path) -> None:
    content = {
        **{"num-node-list": [4], "num-edge-list": [2], "edge": [[0, 1], [2, 3]]},
        **{"node-feat": [[0.5, 1], [1, 2], [2, 3.5], [3, 4]], "node-label": [[0], [1], [0], [2]]},
    }
    for name, rows in content.items():
        table(root, f"raw/{name}.csv.gz", rows)
    write_split(root, 4, np.random.default_rng(0))
