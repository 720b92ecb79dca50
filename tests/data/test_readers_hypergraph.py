from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from graphkit import Graph
from graphkit.data import card, cards, load
from graphkit.data.raw import Files
from graphkit.data.readers.hypergraph import (
    VAL_OF_TEST,
    read_allset,
    read_benson,
    read_hypergcn,
    read_hypergcn_split,
)
from graphkit.errors import DataError
from graphkit.ops import spmm

HYPERGCN = [this.name for this in cards() if this.reader == "hypergcn"]
OTHERS = [this.name for this in cards() if this.reader in ("allset", "benson")]


def unpickled(path):
    return pickle.loads(path.read_bytes(), encoding="latin1")


def incidences(data):
    return Counter(zip(*data.edge_index.tolist(), strict=True))


def naive(name, folder):
    """Members of each hyperedge, labels from 0 and features, read line by line."""
    this = card(name)
    if this.reader == "benson":
        lines = (folder / f"hyperedges-{name}.txt").read_text().splitlines()
        label = (folder / f"node-labels-{name}.txt").read_text().split()
        members = [{int(node) - 1 for node in line.split(",")} for line in lines]
        return members, [int(y) - 1 for y in label], None
    stem = folder.name
    rows = [line.split() for line in (folder / f"{stem}.content").read_text().splitlines()]
    rows = rows[: this.options["num_nodes"]]
    label = [int(float(row[-1])) for row in rows]
    members = [set() for _ in range(this.counts["hyperedges"])]
    for line in (folder / f"{stem}.edges").read_text().splitlines():
        node, hyperedge = map(int, line.split())
        members[hyperedge - len(rows)].add(node)
    x = torch.tensor([[float(cell) for cell in row[1:-1]] for row in rows])
    return members, [y - min(label) for y in label], x


@pytest.mark.filterwarnings("ignore:.*scipy.sparse.csr.*:DeprecationWarning")
@pytest.mark.parametrize("name", HYPERGCN)
def test_equal_to_a_naive_reading_of_hypergcn(name, local_root):
    folder = local_root / card(name).path
    data = load(name, local_root)
    members = list(unpickled(folder / "hypergraph.pickle").values())
    expected = Counter((int(v), e) for e, nodes in enumerate(members) for v in nodes)
    assert incidences(data) == expected and data.num_hyperedges == len(members)
    assert data.y.tolist() == [int(y) for y in unpickled(folder / "labels.pickle")]
    assert data.y.dtype == data.edge_index.dtype == torch.int64
    if (folder / "features.pickle").exists():
        x = torch.from_numpy(unpickled(folder / "features.pickle").toarray())
        assert data.x.dtype == torch.float32 and torch.equal(data.x, x.float())
    else:
        assert data.x is None and card(name).counts["features"] == 0
    for column, file in enumerate(card(name).splits["hypergcn-val-of-test"].files):
        parts = unpickled(folder / file)
        masks = [mask[:, column] for mask in (data.train_mask, data.val_mask, data.test_mask)]
        assert masks[0].nonzero().view(-1).tolist() == sorted(map(int, parts["train"]))
        held = masks[1] | masks[2]
        assert held.nonzero().view(-1).tolist() == sorted(map(int, parts["test"]))
        assert int(masks[1].sum()) == round(VAL_OF_TEST * len(parts["test"]))
        assert not (masks[1] & masks[2]).any()


@pytest.mark.parametrize("name", OTHERS)
def test_equal_to_a_naive_reading_of_text(name, local_root):
    data = load(name, local_root)
    members, label, x = naive(name, local_root / card(name).path)
    assert incidences(data) == Counter((v, e) for e, nodes in enumerate(members) for v in nodes)
    assert data.y.tolist() == label
    assert data.x is None if x is None else torch.equal(data.x, x)


@pytest.mark.parametrize("name", HYPERGCN + OTHERS)
def test_every_split_has_the_sizes_of_its_card(name, local_root):
    for split, sizes in card(name).splits.items():
        data = load(name, local_root, split=split)
        masks = torch.stack([data.train_mask, data.val_mask, data.test_mask]).reshape(3, -1)
        assert (masks.sum(0) <= 1).all()
        each = data.train_mask.reshape(len(data.y), -1).sum(0).unique().tolist()
        assert each == [sizes.train]


def test_the_seed_draws_validation_from_the_test_part_only(local_root):
    first, other = (load("cocitation-cora", local_root, seed=seed) for seed in (1, 2))
    assert torch.equal(first.train_mask, other.train_mask)
    assert not torch.equal(first.val_mask, other.val_mask)
    assert torch.equal(first.val_mask | first.test_mask, other.val_mask | other.test_mask)
    again = load("cocitation-cora", local_root, seed=1)
    assert torch.equal(first.val_mask, again.val_mask)


@pytest.mark.parametrize("name", ["zoo", "cocitation-cora", "house-committees"])
def test_the_incidences_are_a_bipartite_graph(name, local_root):
    """Destinations are nodes, sources hyperedges: two products are HGNN up to scales."""
    data = load(name, local_root)
    num_nodes = len(data.y)
    graph = Graph.from_edge_index(
        data.edge_index.flip(0), num_src=data.num_hyperedges, num_dst=num_nodes
    )
    assert torch.equal(graph.in_degree(), torch.bincount(data.edge_index[0], minlength=num_nodes))
    assert torch.equal(graph.out_degree(), torch.bincount(data.edge_index[1]))
    assert graph.num_edges == card(name).counts["incidences"]
    incidence = torch.zeros(num_nodes, data.num_hyperedges)
    incidence[tuple(data.edge_index)] = 1
    x = torch.randn(num_nodes, 3)
    out = spmm(graph, spmm(graph.t(), x))
    torch.testing.assert_close(out, incidence @ (incidence.t() @ x), rtol=1e-4, atol=1e-3)


NODES = 6
MEMBERS = st.lists(
    st.lists(st.integers(0, NODES - 1), min_size=1, max_size=5), min_size=1, max_size=6
)


@settings(max_examples=30)
@given(MEMBERS, st.lists(st.integers(1, 3), min_size=NODES, max_size=NODES))
def test_the_three_forms_of_one_hypergraph_read_alike(members, label):
    pairs = sorted(
        {(v, e) for e, nodes in enumerate(members) for v in nodes}, key=lambda p: p[::-1]
    )
    expected = torch.tensor(pairs).t()
    y = torch.tensor(label) - min(label)
    lines = "\n".join(",".join(str(v + 1) for v in nodes) for nodes in members)
    benson = read_benson(
        {
            "hyperedges-a.txt": lines.encode(),
            "node-labels-a.txt": "\n".join(map(str, label)).encode(),
        }
    )
    edges = "\n".join(f"{v}\t{NODES + e}" for v, e in reversed(pairs))
    rows = [f"{v}\t{v / 2}\t{c}" for v, c in enumerate(label)]
    rows += [f"{NODES + e}\t9\t9" for e in range(len(members))]
    allset = read_allset(
        {"a.edges": edges.encode(), "a.content": "\n".join(rows).encode()}, num_nodes=NODES
    )
    hypergcn = read_hypergcn(
        {
            "hypergraph.pickle": pickle.dumps({f"{e}": set(m) for e, m in enumerate(members)}),
            "labels.pickle": pickle.dumps([np.int64(c) for c in label]),
            "features.pickle": pickle.dumps(csr_matrix(np.arange(NODES)[:, None] / 2)),
        }
    )
    for raw in (benson, allset, hypergcn):
        assert torch.equal(raw.tensors["hyperedge_index"], expected)
        assert torch.equal(raw.tensors["y"], y)
        assert raw.meta == {"num_nodes": NODES, "num_hyperedges": len(members)}
    for raw in (allset, hypergcn):
        assert torch.equal(raw.tensors["x"], torch.arange(NODES)[:, None] / 2)


GRAPH, LABELS = pickle.dumps({"a": [0, 1]}), pickle.dumps([0, 1])
FEATURES = pickle.dumps(csr_matrix(np.eye(3)))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"hypergraph.pickle": b"\x80\x04"}, "hypergraph.pickle: not a readable pickle"),
        ({"hypergraph.pickle": pickle.dumps([1])}, "expected a dict with a list or set"),
        ({"hypergraph.pickle": pickle.dumps({1: 2})}, "expected a dict with a list or set"),
        ({"hypergraph.pickle": pickle.dumps({1: [0.5]})}, "list of whole numbers, got float64"),
        ({"hypergraph.pickle": pickle.dumps({1: [[1], 2]})}, "expected a list of whole numbers"),
        ({"hypergraph.pickle": pickle.dumps({1: [2]})}, "node numbers.* 0 to 1, got 2 to 2"),
        ({"hypergraph.pickle": pickle.dumps({})}, "list of whole numbers, got float64"),
        ({"labels.pickle": pickle.dumps("ab")}, "labels.pickle: expected a list of whole numbers"),
        ({"labels.pickle": pickle.dumps(3)}, "labels.pickle: expected a list of whole numbers"),
        ({"features.pickle": FEATURES}, "expected numbers in 2 rows, one per label, got .* in 3"),
        ({"features.pickle": pickle.dumps([1])}, "features.pickle: not a csr matrix"),
    ],
)
def test_damaged_pickles(files, message):
    with pytest.raises(DataError, match=message):
        read_hypergcn({"hypergraph.pickle": GRAPH, "labels.pickle": LABELS, **files})


@pytest.mark.parametrize("name", ["hypergraph.pickle", "labels.pickle", "features.pickle"])
def test_a_hostile_pickle_does_not_run(name, hostile):
    data, canary = hostile
    with pytest.raises(DataError, match=rf"{name}: the pickle asks for (posix|nt)\.system"):
        read_hypergcn({"hypergraph.pickle": GRAPH, "labels.pickle": LABELS, name: data})
    assert not canary.exists()


def test_a_pickle_without_a_digest_is_not_read(tmp_path):
    (tmp_path / "hypergraph.pickle").write_bytes(GRAPH)
    path = {"hypergraph.pickle": tmp_path / "hypergraph.pickle"}
    files = Files(path, {"hypergraph.pickle": ""}, "toy", "nowhere")
    with pytest.raises(DataError, match=r"hypergraph\.pickle: a pickle is read only where"):
        read_hypergcn(files)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([0, 1], "expected a dict of train and test"),
        ({"train": [0]}, "expected a dict of train and test"),
        ({"train": [0], "test": [0, 1]}, "train and test share nodes"),
        ({"train": [0], "test": [2]}, "1.pickle: test must be node numbers in 0 to 1, got 2 to 2"),
        ({"train": [-1], "test": [1]}, "1.pickle: train must be node numbers in 0 to 1, got -1"),
        ({"train": [], "test": [1]}, "1.pickle: train: expected a list of whole numbers"),
        ({"train": ["a"], "test": [1]}, "1.pickle: train: expected a list of whole numbers"),
    ],
)
def test_damaged_splits(parts, message):
    raw = read_hypergcn({"hypergraph.pickle": GRAPH, "labels.pickle": LABELS})
    with pytest.raises(DataError, match=message):
        read_hypergcn_split({"1.pickle": pickle.dumps(parts)}, raw, 0)


CONTENT, EDGES = b"0 1 2 0\n1 1 2 1\n2 0 0 0\n", b"0 2\n1 2\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.content": b""}, "a.content: the file is empty"),
        ({"a.content": b"0 1 2 0\n1 1 1\n"}, "a.content: not a table of numbers"),
        ({"a.content": b"0 1 cat 0\n1 1 2 1\n"}, "a.content: not a table of numbers"),
        ({"a.content": GRAPH}, "a.content: not a table of numbers"),
        ({"a.content": b"1 1 2 0\n0 1 2 1\n"}, "a.content: expected rows numbered 0, 1, 2"),
        ({"a.content": b"0 1 2 0\n"}, "at least 2 nodes, got 1 rows"),
        ({"a.content": b"0 1 2 0.5\n1 1 2 1\n"}, "a.content: the last column must hold classes"),
        ({"a.content": b"0 nan 2 0\n1 1 2 1\n"}, "a.content: holds values of 2.*, or NaN"),
        ({"a.edges": b"0 2 1\n1 2 1\n"}, "a.edges: expected 2 columns, got 3"),
        ({"a.edges": b"0 2\n5 2\n"}, "a.edges: node numbers.* 0 to 1, got 0 to 5"),
        ({"a.edges": b"0 1\n1 2\n"}, "a.edges: hyperedge numbers.* 0 to 0, got -1 to 0"),
        (
            {"b.edges": b""},
            r"One file with '\.edges' in its name is needed, got a\.edges, b\.edges",
        ),
    ],
)
def test_damaged_tables(files, message):
    with pytest.raises(DataError, match=message):
        read_allset({"a.content": CONTENT, "a.edges": EDGES, **files}, num_nodes=2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"hyperedges-a.txt": b"1,2\n1,,2\n"}, "hyperedges-a.txt: a line has an empty place"),
        ({"hyperedges-a.txt": b"1,2\n1,x\n"}, "hyperedges-a.txt: not a table of numbers"),
        ({"hyperedges-a.txt": b"0,1\n"}, "hyperedges-a.txt: node numbers.* got -1 to 0"),
        ({"hyperedges-a.txt": b"1,3\n"}, "hyperedges-a.txt: node numbers.* 0 to 1, got 0 to 2"),
        ({"hyperedges-a.txt": b"\n"}, "hyperedges-a.txt: the file is empty"),
        ({"node-labels-a.txt": b"1,2\n3\n"}, "node-labels-a.txt: not a table of numbers"),
        ({"node-labels-a.txt": b"1 2\n3 1\n"}, "node-labels-a.txt: expected 1 columns, got 2"),
    ],
)
def test_damaged_lists(files, message):
    with pytest.raises(DataError, match=message):
        read_benson({"hyperedges-a.txt": b"1,2\n", "node-labels-a.txt": b"1\n2\n", **files})
