"""Graphs of a user's own, as folders of files: written here, read by several tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import strategies as st
from torch_geometric.data import Data

MASKS = ("train_mask", "val_mask", "test_mask")
WORDS = np.array(["", "train", "val", "test"], dtype=object)
NODES = "id,a,b,y,split\nn1,1,2.5,red,train\nn2,3,4,blue,val\nn3,5,-6e-1,red,test\nn4,7,8,,\n"
EDGES = "source,target\nn1,n2\nn2,n3\nn4,n1\n"


def lay(folder: Path, nodes: Any = NODES, edges: Any = EDGES, **others: Any) -> Path:
    """A folder of files from texts, bytes and arrays; a name without an ending is a csv table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {"nodes": nodes, "edges": edges, **others}.items():
        path = folder / (name.replace("__", ".") if "__" in name else f"{name}.csv")
        if isinstance(value, np.ndarray):
            np.save(path, value)
        elif isinstance(value, pd.DataFrame) and path.suffix == ".parquet":
            pytest.importorskip("pyarrow", reason="writing parquet needs pyarrow")
            value.to_parquet(path)
        elif isinstance(value, pd.DataFrame):
            value.to_csv(path, index=False)
        elif value is not None:
            path.write_bytes(value if isinstance(value, bytes) else value.encode())
    return folder


def assert_equal(got: Data, want: dict[str, Any]) -> None:
    """The same tensors of the same dtype, NaN equal to NaN, and nothing else."""
    named = {"name", "num_classes", "class_names"}
    assert set(got.keys()) - named == {name for name, value in want.items() if value is not None}
    for name, value in want.items():
        if value is not None:
            torch.testing.assert_close(got[name], value, rtol=0, atol=0, equal_nan=True)


IDS = {
    "text": lambda n: [f"node {i}" for i in range(n)],
    "odd text": lambda n: [f' "{i}",\n\r ü' for i in range(n)],
    "missing": lambda n: ["NA", "nan", "null", "None", "0", "00", "True", "1e5", "-", "#"][:n],
    "whole": lambda n: [10**15 + 7 * i for i in range(n)],
    "negative": lambda n: [-i for i in range(n)],
}


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any] | None]:
    """The tensors of a random graph, and the ids of its nodes."""
    n = draw(st.integers(4, 10))
    seed = draw(st.integers(0, 2**32 - 1))
    gen = torch.Generator().manual_seed(seed)
    edges = draw(st.integers(1, 20))
    splits = draw(st.sampled_from([1, 1, 3]))
    words = torch.randint(0, 4, (n, splits), generator=gen)
    words[:3] = torch.tensor([1, 2, 3])[:, None]
    kind = draw(st.sampled_from(["classes", "labels", "values"]))
    if kind == "classes":
        y = torch.randint(-1, 3, (n,), generator=gen)
        # each class is there, so that its number stays
        y[:3] = torch.arange(3)
    else:
        width = draw(st.integers(2, 3)) if kind == "labels" else draw(st.integers(1, 3))
        y = torch.randn(n, width, generator=gen)
        y = (y > 0).float() if kind == "labels" else y
        y[torch.rand(n, width, generator=gen) < 0.3] = torch.nan
        y[:3, 0] = torch.tensor([0.0, 1.0, 1.0 if kind == "labels" else 0.5])
    unknown = y < 0 if kind == "classes" else y.isnan().all(dim=1)
    words[unknown] = 0
    wanted: dict[str, Any] = {
        "x": torch.randn(n, draw(st.integers(1, 4)), generator=gen),
        "edge_index": torch.randint(0, n, (2, edges), generator=gen),
        "y": y,
        **{name: words == part for part, name in enumerate(MASKS, 1)},
        "edge_weight": torch.randn(edges, generator=gen) if draw(st.booleans()) else None,
        "edge_attr": torch.randn(edges, 2, generator=gen) if draw(st.booleans()) else None,
    }
    if splits == 1 and draw(st.booleans()):
        wanted |= {name: wanted[name][:, 0] for name in MASKS}
    kinds = draw(st.sampled_from([*IDS, None]))
    return wanted, IDS[kinds](n) if kinds else None


def frames(wanted: dict[str, Any], ids: Sequence[Any] | None) -> dict[str, pd.DataFrame]:
    """The tables of a graph."""
    y, n = wanted["y"], len(wanted["x"])
    names = pd.Series(range(n) if ids is None else ids)
    nodes = pd.DataFrame({f"f {k}": column for k, column in enumerate(wanted["x"].t().numpy())})
    if ids is not None:
        nodes.insert(0, "id", names)
    for k, column in enumerate(y.reshape(n, -1).t()):
        values = pd.Series(column.numpy())
        if not y.is_floating_point():
            values = values.astype("Int64").mask(values < 0)
        nodes["y" if y.dim() == 1 else f"y{k}"] = values
    source, target = (names.take(row).reset_index(drop=True) for row in wanted["edge_index"])
    edges = pd.DataFrame({"source": source, "target": target})
    if wanted["edge_weight"] is not None:
        edges["weight"] = wanted["edge_weight"].numpy()
    if wanted["edge_attr"] is not None:
        edges[["e0", "e1"]] = wanted["edge_attr"].numpy()
    masks = torch.stack([wanted[name].reshape(n, -1) for name in MASKS])
    words = WORDS[(masks * torch.tensor([1, 2, 3]).view(3, 1, 1)).sum(dim=0).numpy()]
    splits = pd.DataFrame({"id": names})
    for k, column in enumerate(words.T):
        splits[f"split{k}" if words.shape[1] > 1 else "split"] = column
    return {"nodes": nodes, "edges": edges, "splits": splits}


def one_column(wanted: dict[str, Any]) -> dict[str, Any]:
    """A table of one split says [N], not [N, 1]."""
    narrow = {name: wanted[name].reshape(len(wanted["x"]), -1) for name in MASKS}
    return wanted | {
        name: mask[:, 0] if mask.size(1) == 1 else mask for name, mask in narrow.items()
    }


def as_numpy(wanted: dict[str, Any]) -> dict[str, Any]:
    """The tensors that are there, as numpy's."""
    return {name: value.numpy() for name, value in wanted.items() if value is not None}


def arrays(folder: Path, **changed: Any) -> Path:
    """A folder of arrays of four nodes; None leaves one out."""
    node = np.arange(4)
    files = {
        "x__npy": node[:, None] * 0.5,
        "edge_index__npy": np.array([[0, 1], [1, 2]]),
        "y__npy": np.array([0, 1, 0, 1]),
        **{f"{name}__npy": node == k for k, name in enumerate(MASKS)},
    }
    kept = {name: value for name, value in (files | changed).items() if value is not None}
    return lay(folder, None, None, **kept)


def toml(text: str) -> dict[str, Any]:
    """The settings of a folder, for :func:`lay`."""
    return {"graph__toml": text}
