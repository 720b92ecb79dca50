from __future__ import annotations

import io
import pickle
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.neighbors import NearestNeighbors

from graphkit.data.raw import unpickle
from graphkit.data.readers.classic import (
    DIGITS_NEIGHBOURS,
    read_digits,
    read_masks,
    read_planetoid,
)
from graphkit.errors import DataError


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_survive(protocol):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    out = unpickle(pickle.dumps(array, protocol=protocol), "f")
    assert np.array_equal(out, array) and out.dtype == array.dtype


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_lists_and_dicts_survive(protocol):
    graph = defaultdict(list, {0: [1, 2], 1: [0]})
    assert unpickle(pickle.dumps(graph, protocol=protocol), "f") == graph


def test_a_csr_matrix_comes_back_as_a_namespace():
    matrix = csr_matrix(np.eye(3, dtype=np.float32))
    out = unpickle(pickle.dumps(matrix), "f")
    assert type(out).__name__ == "SimpleNamespace" and out._shape == (3, 3)
    assert np.array_equal(out.indices, matrix.indices)


def test_a_hostile_pickle_is_refused_and_does_not_run(hostile):
    data, canary = hostile
    with pytest.raises(DataError, match=r"bad\.x: the pickle asks for (posix|nt|os)\.system"):
        unpickle(data, "bad.x")
    assert not canary.exists()
    # the canary is a real one
    pickle.loads(data)
    assert canary.exists()


def call(module: str, name: str, argument: str) -> bytes:
    """A pickle that would call ``module.name(argument)``."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("__builtin__", "getattr"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("scipy.sparse.csr", "np.load"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("functools", "partial"),
    ],
)
def test_no_other_function_can_be_named(module, name):
    with pytest.raises(DataError, match=f"the pickle asks for {module}.{name}"):
        unpickle(call(module, name, "1"), "f")


def test_a_pickle_cannot_change_a_class_of_this_process():
    # GLOBAL csr_matrix, then BUILD with a slot state: sets an attribute on a mutable class
    state = pickle.dumps((None, {"toarray": 1}), protocol=2)[2:-1]
    with pytest.raises(DataError, match="not a readable pickle"):
        unpickle(b"\x80\x02cscipy.sparse.csr\ncsr_matrix\n" + state + b"b.", "f")


@pytest.mark.parametrize("data", [b"", b"\x80\x02", b"not a pickle", pickle.dumps([1, 2])[:-3]])
def test_a_damaged_pickle_is_a_data_error(data):
    with pytest.raises(DataError, match="^f: not a readable pickle"):
        unpickle(data, "f")


def test_a_hostile_planetoid_part_does_not_run(hostile):
    data, canary = hostile
    names = ("x", "tx", "allx", "y", "ty", "ally", "graph")
    files = {f"ind.cora.{name}": data for name in names} | {"ind.cora.test.index": b"3\n"}
    with pytest.raises(DataError, match=r"ind\.cora\.tx: the pickle asks for"):
        read_planetoid(files)
    assert not canary.exists()


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, allow_pickle=True, **arrays)
    return out.getvalue()


def stacked(files):
    masks = read_masks(files)
    return masks["train_mask"], masks["val_mask"], masks["test_mask"]


def test_masks_are_stacked_in_order():
    one = np.eye(3, dtype=np.uint8)
    parts = {"train_mask": one[0], "val_mask": one[1], "test_mask": one[2]}
    flipped = {"train_mask": one[2], "val_mask": one[1], "test_mask": one[0]}
    train, val, test = stacked([("a", npz(**parts)), ("b", npz(**flipped))])
    assert train.dtype == torch.bool
    assert train.tolist() == [[True, False], [False, False], [False, True]]
    assert val.tolist() == [[False, False], [True, True], [False, False]]
    assert torch.equal(test, train.flip(1))


def test_masks_that_hide_a_pickle_are_refused(hostile):
    _, canary = hostile
    trap = np.array([HostileEntry(str(canary))], dtype=object)
    with pytest.raises(DataError, match=r"s\.npz: not an npz of train_mask.*allow_pickle"):
        read_masks([("s.npz", npz(train_mask=trap, val_mask=trap, test_mask=trap))])
    with pytest.raises(DataError, match="not an npz"):
        read_masks([("s.npz", pickle.dumps(HostileEntry(str(canary))))])
    with pytest.raises(DataError, match="val_mask"):
        read_masks([("s.npz", npz(train_mask=np.ones(2)))])
    assert not canary.exists()


class HostileEntry:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_digits_are_the_nearest_neighbours_in_both_directions():
    raw = SimpleNamespace(**read_digits({}).tensors)
    src, dst = raw.edge_index.numpy()
    linked = np.zeros((len(raw.x), len(raw.x)), dtype=bool)
    linked[src, dst] = True
    assert np.array_equal(linked, linked.T) and not linked.diagonal().any()
    x = raw.x.double().numpy()
    search = NearestNeighbors(n_neighbors=DIGITS_NEIGHBOURS + 1, algorithm="brute").fit(x)
    radius = search.kneighbors(x)[0][:, -1]
    # without the matrix product, whose rounding would blur ties
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(raw.x.double(), raw.x.double(), compute_mode=exact).numpy()
    # every closer node is a neighbour; every neighbour is within one of the two radii
    closer = distance < radius[:, None] - 1e-9
    np.fill_diagonal(closer, False)
    assert linked[closer].all()
    assert (distance[src, dst] <= np.maximum(radius[src], radius[dst]) + 1e-9).all()


def test_digits_are_real_and_scaled():
    raw = SimpleNamespace(**read_digits({}).tensors)
    assert (raw.x.dtype, raw.y.dtype, raw.edge_index.dtype) == (
        torch.float32,
        torch.int64,
        torch.int64,
    )
    assert float(raw.x.min()) == 0.0 and float(raw.x.max()) == 1.0
    assert torch.bincount(raw.y).min() > 170
