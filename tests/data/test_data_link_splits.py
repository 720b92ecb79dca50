from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphkit.data import check_messages, random_link_split, time_link_split
from graphkit.errors import ConfigError, DataError, GraphError


def ring(size: int) -> Tensor:
    node = torch.arange(size)
    return torch.stack([node, (node + 1) % size])


def both(edge_index: Tensor) -> Tensor:
    return torch.cat([edge_index, edge_index.flip(0)], dim=1)


def keys(pairs: Tensor) -> set[tuple[int, ...]]:
    return set(map(tuple, pairs.tolist()))


@given(st.floats(0.3, 3.0), st.floats(0.3, 3.0), st.booleans(), st.integers(0, 9))
@settings(max_examples=30)
def test_as_many_negatives_as_asked_for(val: float, test: float, undirected: bool, seed: int):
    edges = both(ring(40)) if undirected else ring(40)
    options: dict[str, Any] = dict(fractions=(0.6, 0.2, 0.2), seed=seed)
    messages, split = random_link_split(edges, 40, negatives=(val, test), **options)
    plain, usual = random_link_split(edges, 40, **options)
    # links are held out in the same way, however many negatives there are
    assert torch.equal(messages, plain)
    for part in split:
        assert torch.equal(split[part]["edge"], usual[part]["edge"])
    assert len(split["valid"]["edge_neg"]) == round(8 * val)
    assert len(split["test"]["edge_neg"]) == round(8 * test)
    apart = torch.cat([split[part]["edge_neg"] for part in ("valid", "test")])
    assert len(keys(apart)) == len(apart) and not keys(apart) & keys(edges.t())


def test_protocol_of_70_10_20():
    """What Planetoid's graphs are divided by, twice as many negatives in validation."""
    edges = both(ring(100))
    messages, split = random_link_split(
        edges, 100, fractions=(0.7, 0.1, 0.2), negatives=(2.0, 1.0), seed=3
    )
    sizes = {part: {key: len(of) for key, of in some.items()} for part, some in split.items()}
    assert sizes == {
        "train": {"edge": 70},
        "valid": {"edge": 10, "edge_neg": 20},
        "test": {"edge": 20, "edge_neg": 20},
    }
    assert messages.size(1) == 140


@pytest.mark.parametrize("negatives", [(0.0, 1.0), (1.0, -1.0), (1.0,), (1.0, float("inf"))])
def test_bad_numbers_of_negatives(negatives: tuple[float, ...]):
    with pytest.raises(ConfigError, match="two numbers above 0 are expected"):
        random_link_split(both(ring(30)), 30, negatives=negatives, seed=0)  # pyright: ignore[reportArgumentType]


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=30, max_size=60), st.data()
)
@settings(max_examples=40)
def test_the_last_links_are_held_out_and_repeats_count_at_their_first_time(edges, data):
    """By hand: the first time of each pair decides, and later parts have later times."""
    two_way = data.draw(st.booleans())
    edge_index = torch.tensor(edges).t()
    time = torch.tensor(
        data.draw(st.lists(st.integers(0, 9), min_size=len(edges), max_size=len(edges)))
    )
    if two_way:
        edge_index, time = both(edge_index), time.repeat(2)
    pairs = [(a, b) for a, b in edge_index.t().tolist()]
    symmetric = {(a, b) for a, b in pairs if a != b} == {(b, a) for a, b in pairs if a != b}
    first: dict[Any, int] = {}
    for (a, b), t in zip(pairs, time.tolist(), strict=True):
        if a != b:
            key = (min(a, b), max(a, b)) if symmetric else (a, b)
            first[key] = min(t, first[key]) if key in first else t
    try:
        messages, split = time_link_split(edge_index, time, 9, fractions=(0.5, 0.25, 0.25))
    except DataError as error:
        known = ("none may be empty", "pairs without an edge are needed", "are too few")
        assert any(part in str(error) for part in known)
        return
    parts = [keys(split[part]["edge"]) for part in ("train", "valid", "test")]
    assert set.union(*parts) == set(first) and sum(map(len, parts)) == len(first)
    times = [[first[pair] for pair in part] for part in parts]
    assert max(times[0]) < min(times[1]) and max(times[1]) < min(times[2])
    expected = parts[0] | ({(b, a) for a, b in parts[0]} if symmetric else set())
    assert keys(messages.t()) == expected
    for part in ("valid", "test"):
        assert not keys(split[part]["edge_neg"]) & {
            *first,
            *((b, a) for a, b in first if symmetric),
        }


def test_times_that_cannot_divide():
    edges = both(ring(20))
    with pytest.raises(DataError, match=r"time has shape \[3\], but one for each of the 40 edges"):
        time_link_split(edges, torch.arange(3), 20)
    with pytest.raises(DataError, match="give parts of .* none may be empty"):
        time_link_split(edges, torch.zeros(40), 20)
    with pytest.raises(DataError, match="got torch.int16"):
        time_link_split(edges, torch.zeros(40, dtype=torch.int16), 20)
    with pytest.raises(DataError, match="0 edges without self-loops are too few"):
        time_link_split(torch.empty(2, 0, dtype=torch.int64), torch.zeros(0), 20)
    with pytest.raises(GraphError, match="has 10 nodes"):
        time_link_split(edges, torch.arange(40), 10)


@given(st.integers(0, 99), st.booleans())
@settings(max_examples=25)
def test_no_division_lets_a_held_out_link_into_the_messages(seed: int, undirected: bool):
    edges = torch.randint(0, 25, (2, 120), generator=torch.Generator().manual_seed(seed))
    edges = both(edges) if undirected else edges
    messages, split = random_link_split(edges, 25, fractions=(0.6, 0.2, 0.2), seed=seed)
    held = {part: split[part]["edge"] for part in ("valid", "test")}
    check_messages(messages, 25, held)
    # one of them in the messages, in the other direction too where these go both ways
    leak = held["test"][1:2]
    if undirected:
        leak = torch.cat([leak, leak.flip(1)])
    first, second = held["test"][1].tolist()
    with pytest.raises(
        DataError, match=f"1 of {len(held['test'])} links of test .* {first} to {second}:"
    ):
        check_messages(torch.cat([messages, leak.t()], dim=1), 25, held)
    flipped = {"test": held["test"].flip(1)}
    if undirected:
        with pytest.raises(DataError, match=f"example {second} to {first}"):
            check_messages(torch.cat([messages, leak.t()], dim=1), 25, flipped)


def test_nothing_held_out_and_no_messages_are_fine():
    none = torch.empty(2, 0, dtype=torch.int64)
    check_messages(none, 5, {"test": torch.tensor([[0, 1]])})
    check_messages(both(ring(5)), 5, {"test": none.t()})
    with pytest.raises(DataError, match="2 of 2 links of val"):
        check_messages(ring(5), 5, {"val": torch.tensor([[0, 1], [1, 2]])})
    # in a graph of one-way edges the reverse is another link
    check_messages(ring(5), 5, {"val": torch.tensor([[1, 0]])})
