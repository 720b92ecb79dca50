from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix

from graphkit.data import card, cards, load
from graphkit.data.check_kinds import check_links
from graphkit.data.links import random_link_split, time_split
from graphkit.data.readers.links import read_sparse_mat
from graphkit.errors import ConfigError, DataError, GraphError

SEAL = [this.name for this in cards() if this.reader == "sparse-mat"]


@pytest.mark.parametrize("name", SEAL)
def test_equal_to_the_matrix_that_scipy_reads(name, local_root):
    (file,) = card(name).files
    matrix = loadmat(local_root / card(name).path / file)["net"].tocsr()
    row, column = matrix.nonzero()
    raw = read_sparse_mat({file: (local_root / card(name).path / file).read_bytes()})
    assert torch.equal(raw.tensors["edge_index"], torch.tensor(np.stack([row, column])).long())
    data = check_links(load(name, local_root))
    assert data.num_nodes == matrix.shape[0]
    edge = torch.cat([part["edge"] for part in data.split_edge.values()])
    both = torch.cat([edge, edge.flip(1)]).t()
    loops = row[row == column]
    found = csc_matrix(
        (np.ones(both.size(1) + len(loops)), np.hstack([both.numpy(), [loops, loops]])),
        shape=matrix.shape,
    )
    # every edge is in exactly one part, and nothing is in the parts but edges
    assert (found != matrix).nnz == 0


def mat(**variables):
    buffer = io.BytesIO()
    savemat(buffer, variables)
    return buffer.getvalue()


CELL = np.empty(1, dtype=object)
CELL[0] = csc_matrix(np.eye(2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.mat: not a Matlab file of version 5"),
        (b"\x80\x04K\x01.", "a.mat: not a Matlab file of version 5"),
        (mat(net=csc_matrix(np.eye(3)))[:150], "a.mat: not a Matlab file of version 5"),
        (mat(other=csc_matrix(np.eye(2))), "a.mat: net missing in the Matlab file"),
        (mat(net=CELL), "net is of class 1, not an array of numbers"),
        (mat(net={"a": 1}), "net is of class 2, not an array of numbers"),
        (mat(net=np.eye(2)), "sparse matrix 'net', got a dense one"),
        (
            mat(net=csc_matrix(np.ones((2, 3)))),
            r"sparse matrix 'net', got a sparse one of shape \[2, 3\]",
        ),
        (mat(net=csc_matrix(2 * np.eye(2))), "'net' must hold ones, got values of float64"),
        (mat(net=csc_matrix(1j * np.eye(2))), "'net' must hold ones, got values of complex128"),
    ],
)
def test_damaged_matrices(data, message):
    with pytest.raises(DataError, match=message):
        read_sparse_mat({"a.mat": data})


@settings(max_examples=15)
@given(st.data())
def test_a_broken_file_is_only_ever_a_data_error(data):
    good = mat(net=csc_matrix(np.ones((4, 4))))
    bad = bytearray(good)
    for place in data.draw(st.lists(st.integers(128, len(good) - 1), min_size=1, max_size=6)):
        bad[place] = data.draw(st.integers(0, 255))
    try:
        raw = read_sparse_mat({"a.mat": bytes(bad)})
    except DataError as error:
        assert "a.mat" in str(error)
    else:
        assert int(raw.tensors["edge_index"].max()) < raw.meta["num_nodes"]


def graph(num_nodes, num_edges, seed, undirected):
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, num_edges), generator=generator)
    return torch.cat([edge_index, edge_index.flip(0)], dim=1) if undirected else edge_index


def pairs(edge):
    return set(map(tuple, edge.tolist()))


@settings(max_examples=60)
@given(
    st.integers(5, 40), st.integers(12, 80), st.integers(0, 99), st.booleans(), st.integers(0, 9)
)
def test_laws_of_a_link_split(num_nodes, num_edges, graph_seed, undirected, seed):
    edge_index = graph(num_nodes, num_edges, graph_seed, undirected)
    every = {(a, b) for a, b in edge_index.t().tolist() if a != b}
    fractions = (0.6, 0.2, 0.2)
    free = num_nodes * (num_nodes - 1) - len(every)
    if len(every) < 12 or free < len(every):
        return
    messages, split = random_link_split(edge_index, num_nodes, fractions=fractions, seed=seed)
    symmetric = every == {(b, a) for a, b in every}
    once = {(a, b) for a, b in every if a < b} if symmetric else every
    parts = {name: pairs(part["edge"]) for name, part in split.items()}
    assert set.union(*parts.values()) == once
    assert sum(len(part["edge"]) for part in split.values()) == len(once)
    for name, fraction in zip(("train", "valid", "test"), fractions, strict=True):
        assert abs(len(parts[name]) - fraction * len(once)) <= 1
    expected = parts["train"] | ({(b, a) for a, b in parts["train"]} if symmetric else set())
    assert list(map(tuple, messages.t().tolist())) == sorted(expected)
    negative = torch.cat([split["valid"]["edge_neg"], split["test"]["edge_neg"]])
    assert len(pairs(negative)) == len(negative) == len(parts["valid"]) + len(parts["test"])
    assert not pairs(negative) & every and (negative[:, 0] != negative[:, 1]).all()
    assert not symmetric or (negative[:, 0] < negative[:, 1]).all()
    again, same = random_link_split(edge_index, num_nodes, fractions=fractions, seed=seed)
    assert torch.equal(again, messages)
    for name in split:
        assert all(torch.equal(same[name][key], split[name][key]) for key in split[name])


def test_all_pairs_without_an_edge_can_be_negatives():
    """A nearly complete graph: rejection would hardly end, and here all free pairs are needed."""
    every = torch.combinations(torch.arange(20)).t()
    free = torch.arange(190)[::10]
    kept = torch.ones(190, dtype=torch.bool).index_fill(0, free, 0)
    edge_index = torch.cat([every[:, kept], every[:, kept].flip(0)], dim=1)
    fractions = (1 - 19 / 171, 10 / 171, 9 / 171)
    _, split = random_link_split(edge_index, 20, fractions=fractions, seed=0)
    negative = pairs(split["valid"]["edge_neg"]) | pairs(split["test"]["edge_neg"])
    assert negative == pairs(every[:, ~kept].t())


@pytest.mark.parametrize("undirected", [True, False])
def test_negatives_are_uniform(undirected):
    """Over 800 seeds each free pair is drawn about equally often (six standard deviations)."""
    ring = torch.stack([torch.arange(7), torch.arange(1, 8) % 7])
    edge_index = torch.cat([ring, ring.flip(0)], dim=1) if undirected else ring
    count = torch.zeros(7, 7)
    for seed in range(800):
        _, split = random_link_split(edge_index, 7, fractions=(0.6, 0.2, 0.2), seed=seed)
        for part in ("valid", "test"):
            count[tuple(split[part]["edge_neg"].t())] += 1
    free = 14 if undirected else 35
    drawn = count[count > 0]
    expected = int(count.sum()) / free
    assert len(drawn) == free and ((drawn - expected).abs() < 6 * expected**0.5).all()


def test_a_split_depends_on_the_seed_and_keeps_the_device_and_the_global_state():
    edge_index = graph(30, 100, 0, True)
    state = torch.get_rng_state()
    first, split = random_link_split(edge_index.int(), 30, seed=1)
    other, _ = random_link_split(edge_index, 30, seed=2)
    assert not torch.equal(first, other) and first.dtype == torch.int64
    assert torch.equal(torch.get_rng_state(), state)
    assert split["test"]["edge"].device == edge_index.device


def test_bad_link_splits():
    edge_index = graph(30, 100, 0, True)
    with pytest.raises(GraphError, match=r"edge_index has shape \[3\]"):
        random_link_split(torch.arange(3), 5, seed=0)
    with pytest.raises(GraphError, match=r"the graph has 10 nodes"):
        random_link_split(edge_index, 10, seed=0)
    with pytest.raises(ConfigError, match="fractions must be three numbers"):
        random_link_split(edge_index, 30, fractions=(0.9, 0.2, 0.1), seed=0)
    with pytest.raises(ConfigError, match="seed must lie in"):
        random_link_split(edge_index, 30, seed=-1)
    with pytest.raises(DataError, match="1 edges without self-loops and duplicates are too few"):
        random_link_split(torch.tensor([[0, 1, 1], [1, 0, 1]]), 3, seed=0)
    with pytest.raises(DataError, match="0 edges without self-loops"):
        random_link_split(torch.empty(2, 0, dtype=torch.int64), 0, seed=0)
    complete = torch.combinations(torch.arange(8)).t()
    with pytest.raises(DataError, match="pairs without an edge are needed.*but the graph has 0"):
        random_link_split(torch.cat([complete, complete.flip(0)], dim=1), 8, seed=0)


def test_bad_time_splits():
    t = torch.arange(10)
    with pytest.raises(ConfigError, match=r"three positive numbers with sum 1, got \(0.5, 0.2"):
        time_split(t, fractions=(0.5, 0.2, 0.2))
    with pytest.raises(ConfigError, match="three positive numbers"):
        time_split(t, fractions=(0.5, 0.5, 0.0))
    with pytest.raises(DataError, match=r"got torch.int64 of shape \[2, 5\]"):
        time_split(t.view(2, 5))
    with pytest.raises(DataError, match="got torch.bool of shape"):
        time_split(t > 3)
    with pytest.raises(DataError, match=r"give parts of \[10, 0, 0\] events"):
        time_split(torch.zeros(10))
