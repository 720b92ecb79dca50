"""What the tests of the converters share: equality, and generated columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric import EdgeIndex

from graphkit import Graph
from graphkit.interop import Attributed

EDGE_FORM = ("sparse_size", "sort_order", "is_undirected")


def assert_same_graph(got: Graph, want: Graph) -> None:
    """Equal in every array, so also in the order of edges."""
    assert (got.num_src, got.num_dst) == (want.num_src, want.num_dst)
    for a, b in zip(got.parts(), want.parts(), strict=True):
        assert (a is None) == (b is None)
        assert a is None or (torch.equal(a, b) and a.dtype == b.dtype)


def same(a: Any, b: Any) -> bool:
    """Equality of type, dtype and content, in which NaN equals itself."""
    if type(a) is not type(b):
        return False
    if isinstance(a, EdgeIndex):
        form = all(getattr(a, f"_{key}") == getattr(b, f"_{key}") for key in EDGE_FORM)
        return form and same(a.as_tensor(), b.as_tensor())
    if isinstance(a, Tensor):
        a, b = a.numpy(), b.numpy()
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or a == b or (a != a and b != b)


def assert_same_attributed(got: Attributed, want: Attributed) -> None:
    assert_same_graph(got.graph, want.graph)
    for part in ("node", "edge", "src", "whole", "keys", "directed"):
        assert same(getattr(got, part), getattr(want, part)), part
    assert same(_listed(got.names), _listed(want.names))


def _listed(names: Any) -> Any:
    return None if names is None else list(names)


WEIGHT_DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float32, torch.float64, torch.complex64, torch.complex128,
)  # fmt: skip


@st.composite
def weights(draw: Any, count: int) -> Tensor:
    """One number for each of ``count`` edges, zeros among them, in any dtype scipy has."""
    dtype = draw(st.sampled_from(WEIGHT_DTYPES))
    values = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    return torch.tensor(values).to(dtype)


def columns(prefix: str, count: int) -> st.SearchStrategy[dict[str, Any]]:
    """Tensors and lists with one entry for each of ``count`` nodes or edges."""
    column = st.sampled_from(
        (
            torch.arange(count).float(),
            torch.arange(3 * count, dtype=torch.int32).reshape(count, 3),
            torch.arange(count) % 2 == 0,
            [f"{prefix}-{i}" for i in range(count)],
        )
    )
    names = st.sampled_from([f"{prefix}_{letter}" for letter in "abc"])
    return st.dictionaries(names, column, max_size=3)
