from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix, csr_matrix, load_npz, save_npz

from graphkit.data import card, cards, load
from graphkit.data.readers.hetero import read_star, read_star_split
from graphkit.errors import DataError

STAR = [this.name for this in cards() if this.reader == "star"]


def rows(path):
    return np.array([list(map(int, line.split())) for line in path.read_text().splitlines()])


@pytest.mark.parametrize("name", STAR)
def test_equal_to_a_naive_reading(name, local_root):
    this = card(name)
    folder, target = local_root / this.path, this.options["target"]
    letters = this.options["types"]
    data = load(name, local_root)
    label = np.load(folder / "labels.npy").astype(int)
    assert data[target].y.tolist() == (label - label.min()).tolist()
    assert set(data.node_types) == set(letters) and data.node_types[0] == target
    for kind in set(letters) - {target}:
        pairs = rows(folder / f"{letters[target]}{letters[kind]}.txt")
        there, back = data[target, "to", kind], data[kind, "to", target]
        assert there.edge_index.t().tolist() == pairs.tolist()
        assert torch.equal(back.edge_index, there.edge_index.flip(0))
    for kind, letter in letters.items():
        file = folder / f"{letter}_feat.npz"
        assert file.exists() == ("x" in data[kind])
        if file.exists():
            dense = load_npz(file).toarray().astype(np.float32)
            assert torch.equal(data[kind].x, torch.from_numpy(dense))
    data.validate()


@pytest.mark.parametrize("name", STAR)
def test_the_upstream_splits_by_name(name, local_root):
    this = card(name)
    folder, target = local_root / this.path, this.options["target"]
    assert list(this.splits) == ["per-class-20", "per-class-40", "per-class-60"]
    for split, number in zip(this.splits, (20, 40, 60), strict=True):
        data = load(name, local_root, split=split)
        for part in ("train", "val", "test"):
            chosen = data[target][f"{part}_mask"].nonzero().view(-1)
            assert chosen.tolist() == sorted(set(np.load(folder / f"{part}_{number}.npy").tolist()))


@pytest.mark.parametrize(
    ("name", "path"),
    [("imdb-meow", "mam"), ("imdb-meow", "mdm"), ("imdb-meow", "mkm"), ("freebase-heco", "mdm")],
)
def test_meta_paths_upstream_are_products_of_the_edges(name, path, local_root):
    """What is not read can be had from what is: pairs, and in MEOW their numbers of paths."""
    this = card(name)
    data = load(name, local_root)
    kind = {letter: kind for kind, letter in this.options["types"].items()}[path[1]]
    src, dst = data["movie", "to", kind].edge_index.numpy()
    shape = (data["movie"].num_nodes, data[kind].num_nodes)
    incidence = csr_matrix((np.ones(len(src)), (src, dst)), shape=shape)
    product = (incidence @ incidence.T).tocsr()
    upstream = load_npz(local_root / this.path / f"{path}.npz").tocsr()
    if name == "freebase-heco":
        product = product.astype(bool)
    assert (product != upstream).nnz == 0


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(matrix):
    buffer = io.BytesIO()
    save_npz(buffer, matrix)
    return buffer.getvalue()


BROKEN = coo_matrix(np.eye(3))
BROKEN.row = np.array([0, 1, 7])

FILES = {
    "labels.npy": npy(np.array([2.0, 1.0, 2.0])),
    "p_feat.npz": npz(csr_matrix(np.arange(6).reshape(3, 2))),
    "pa.txt": b"0\t1\n2\t0\n2\t3\n",
}
TYPES = {"target": "paper", "types": {"paper": "p", "author": "a"}}


def test_a_small_star():
    raw = read_star(FILES, **TYPES)
    assert list(raw.tensors) == [
        "y@paper",
        "x@paper",
        "edge_index@paper@to@author",
        "edge_index@author@to@paper",
    ]
    assert raw.tensors["y@paper"].tolist() == [1, 0, 1] and raw.meta == {"num_nodes": {"author": 4}}
    assert raw.tensors["x@paper"].tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"labels.npy": b""}, "labels.npy: not a plain npy array"),
        ({"labels.npy": FILES["labels.npy"][:-8]}, "labels.npy: not a plain npy array"),
        ({"labels.npy": FILES["p_feat.npz"]}, "labels.npy: not an array of numbers"),
        ({"labels.npy": npy(np.array(["a"]))}, "labels.npy: not an array of numbers"),
        ({"labels.npy": npy(np.eye(2))}, r"expected one whole number per paper, got float64 of sh"),
        ({"labels.npy": npy(np.array([0.5]))}, "expected one whole number per paper"),
        ({"labels.npy": npy(np.array([np.nan]))}, "expected one whole number per paper"),
        ({"labels.npy": npy(np.arange(2))}, "p_feat.npz: 3 rows, but labels.npy has 2"),
        ({"p_feat.npz": FILES["p_feat.npz"][:-30]}, "p_feat.npz: not a sparse matrix of scipy"),
        ({"p_feat.npz": FILES["labels.npy"]}, "p_feat.npz: not a sparse matrix of scipy"),
        ({"p_feat.npz": npz(BROKEN)}, "p_feat.npz: not a sparse matrix of scipy"),
        ({"pa.txt": b""}, "pa.txt: expected two columns.*but the file is empty"),
        ({"pa.txt": b"0 1 2\n"}, "pa.txt: expected two columns.*but 3 columns"),
        ({"pa.txt": b"0 1\n2\n"}, "pa.txt: expected two columns"),
        ({"pa.txt": b"0 x\n"}, "pa.txt: expected two columns"),
        ({"pa.txt": b"0 -1\n"}, "pa.txt: expected two columns.*lowest number -1"),
        ({"pa.txt": b"3 0\n"}, r"pa.txt: numbers up to \[3, 0\], but there are 3 of type paper"),
    ],
)
def test_damaged_files(files, message):
    with pytest.raises(DataError, match=message):
        read_star({**FILES, **files}, **TYPES)


def test_hostile_arrays_do_not_run(hostile):
    data, canary = hostile
    array = np.empty(1, dtype=object)
    array[0] = canary
    for bad in (data, npy(array)):
        with pytest.raises(DataError, match=r"labels\.npy: not a plain npy array"):
            read_star({**FILES, "labels.npy": bad}, **TYPES)
    with pytest.raises(DataError, match=r"p_feat\.npz: not a sparse matrix"):
        read_star({**FILES, "p_feat.npz": data}, **TYPES)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (np.array([0.0]), "train_1.npy: expected a list of node numbers, got float64"),
        (np.array([[0]]), "train_1.npy: expected a list of node numbers, got int64 of shape"),
        (np.array([], dtype=int), r"train_1.npy: expected a list of node numbers, .* \[0\]"),
        (np.array([3]), "train_1.npy: node numbers must lie in 0 to 2, got 3 to 3"),
        (np.array([-1]), "train_1.npy: node numbers must lie in 0 to 2, got -1 to -1"),
    ],
)
def test_damaged_splits(chosen, message):
    files = {"train_1.npy": npy(chosen), "val_1.npy": npy(np.array([1]))}
    with pytest.raises(DataError, match=message):
        read_star_split(files, read_star(FILES, **TYPES), 0)
