from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from graphkit.data import LINK_TASKS, check_directed_links, directed_link_split
from graphkit.data.links import directed_link_label
from graphkit.errors import ConfigError, DataError, GraphError

# the first call of a torch function may take longer than hypothesis allows
pace = settings(deadline=None, max_examples=60)
SHARES: dict[str, float] = dict(num_val=0.1, num_test=0.2)


def graph(num_nodes: int, num_edges: int, seed: int, two_way: float) -> Tensor:
    """Random edges, a share of them with their reverse; some repeated, some self-loops."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, num_nodes, (2, num_edges), generator=generator)
    back = torch.rand(num_edges, generator=generator) < two_way
    return torch.cat([edges, edges[:, back].flip(0), edges[:, :3]], dim=1)


def pairs(index: Tensor) -> list[tuple[int, int]]:
    return [(a, b) for a, b in index.t().tolist()]


def unordered(index: Tensor) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in pairs(index)}


def of_class(part: dict[str, Tensor], label: int) -> list[tuple[int, int]]:
    return pairs(part["edge_label_index"][:, part["edge_label"] == label])


def components(edges: Tensor, num_nodes: int) -> int:
    ends = edges.numpy()
    matrix = coo_array(([1] * ends.shape[1], ends), shape=(num_nodes, num_nodes))
    return connected_components(matrix, directed=False)[0]


@pace
@given(
    st.integers(12, 40),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.booleans(),
    st.integers(0, 2**63 - 1),
)
def test_laws_of_a_division(
    num_nodes: int, graph_seed: int, two_way: float, connected: bool, seed: int
) -> None:
    """By sets of Python: parts, messages, labels, negatives, balance, bits."""
    edge_index = graph(num_nodes, 3 * num_nodes, graph_seed, two_way)
    every = {(a, b) for a, b in pairs(edge_index) if a != b}
    joined = {frozenset(pair) for pair in every}
    one_way = {(a, b) for a, b in every if (b, a) not in every}
    options: dict[str, Any] = {**SHARES, "keep_connected": connected, "seed": seed}
    found = {}
    for task in LINK_TASKS:
        try:
            found[task] = directed_link_split(edge_index, num_nodes, task=task, **options)
        except DataError:
            # a part without a one-way edge; the forest leaves enough of three edges a node
            assume(False)
    for task, (messages, split) in found.items():
        assert list(split) == ["train", "val", "test"]
        # messages are the training edges alone, in the order of their nodes
        sent = pairs(messages)
        assert sent == sorted(set(sent)) and set(sent) <= every
        held = joined - unordered(messages)
        sizes = [round(SHARES[name] * len(joined)) for name in ("num_val", "num_test")]
        assert len(held) == sum(sizes)
        assert set(sent) == {pair for pair in every if frozenset(pair) not in held}
        # of two nodes all that is asked is in one part, and what is held out is not sent along
        asked = {name: unordered(part["edge_label_index"]) for name, part in split.items()}
        assert not asked["train"] & (asked["val"] | asked["test"])
        assert not asked["val"] & asked["test"]
        assert not (asked["val"] | asked["test"]) & unordered(messages)
        assert (asked["val"] | asked["test"]) & joined <= held
        # every edge that the task asks about is asked once
        links = [pair for part in split.values() for pair in of_class(part, 0)]
        assert sorted(links) == sorted(every if task == "existence" else one_way)
        for part in split.values():
            whole = pairs(part["edge_label_index"])
            assert len(set(whole)) == len(whole)
            sizes = [len(of_class(part, label)) for label in range(len(LINK_TASKS[task]))]
            assert len(set(sizes)) == 1 and sum(sizes) == len(whole) > 0
            if task != "existence":
                # the label is antisymmetric: the reverse of forward is backward
                turned = [(b, a) for a, b in of_class(part, 1)]
                assert turned == of_class(part, 0)
        if task != "direction":
            none = len(LINK_TASKS[task]) - 1
            absent = [pair for part in split.values() for pair in of_class(part, none)]
            assert not {frozenset(pair) for pair in absent} & joined
            assert all(a != b for a, b in absent)
            assert len({frozenset(pair) for pair in absent}) == len(absent)
        if connected:
            assert components(messages, num_nodes) == components(edge_index, num_nodes)
        check_directed_links(edge_index, num_nodes, messages, split, task)
        # the division is that of the edges, whatever the task, their order and their number
        assert torch.equal(messages, found["direction"][0])
        mixed = edge_index[:, torch.randperm(edge_index.size(1))].repeat(1, 2)
        again, same = directed_link_split(mixed, num_nodes, task=task, **options)
        assert torch.equal(again, messages)
        for name, part in split.items():
            assert all(torch.equal(same[name][key], part[key]) for key in part)


@pace
@given(st.integers(2, 9), st.integers(0, 10**6), st.sampled_from(list(LINK_TASKS)))
def test_the_class_of_any_pair(num_nodes: int, seed: int, task: str) -> None:
    edge_index = graph(num_nodes, 2 * num_nodes, seed, 0.3)
    every = set(pairs(edge_index))
    all_pairs = torch.cartesian_prod(torch.arange(num_nodes), torch.arange(num_nodes)).t()
    label = directed_link_label(all_pairs, edge_index, num_nodes, task)
    names = {-1: None, **dict(enumerate(LINK_TASKS[task]))}
    for (a, b), number in zip(pairs(all_pairs), label.tolist(), strict=True):
        forward, backward = (a, b) in every, (b, a) in every
        if a == b:
            wanted = None
        elif task == "existence":
            wanted = "link" if forward else None if backward else "no link"
        elif forward != backward:
            wanted = "forward" if forward else "backward"
        else:
            wanted = "no link" if task == "three-class" and not forward else None
        assert names[number] == wanted
    if task != "existence":
        # swapping the pair swaps the classes of the direction, and leaves the others
        swapped = directed_link_label(all_pairs.flip(0), edge_index, num_nodes, task)
        wanted = torch.where(label == 0, 1, torch.where(label == 1, 0, label))
        assert torch.equal(swapped, wanted)


def test_any_pair_on_a_cycle_may_be_held_out_and_a_bridge_never() -> None:
    """Two rings of five, and one edge between them."""
    node = torch.arange(10)
    ring = torch.stack([node, torch.where(node % 5 == 4, node - 4, node + 1)])
    bridge = torch.tensor([[0], [5]])
    edge_index = torch.cat([ring, bridge], dim=1)
    options: dict[str, Any] = dict(num_val=0.1, num_test=0.1)
    for connected in (True, False):
        held: set[frozenset[int]] = set()
        for seed in range(100):
            messages, _ = directed_link_split(
                edge_index, 10, **options, keep_connected=connected, seed=seed
            )
            held |= unordered(edge_index) - unordered(messages)
        assert held == unordered(ring if connected else edge_index)


def test_pairs_without_an_edge_are_drawn_alike() -> None:
    """Each in both orders, over 200 seeds equally often (six standard deviations)."""
    node = torch.arange(9)
    edge_index = torch.cat([torch.stack([node, (node + 1) % 9]), torch.tensor([[0], [4]])], dim=1)
    count = torch.zeros(9, 9)
    shares: dict[str, float] = dict(num_val=0.1, num_test=0.1)
    for seed in range(200):
        _, split = directed_link_split(edge_index, 9, task="three-class", **shares, seed=seed)
        for part in split.values():
            drawn = part["edge_label_index"][:, part["edge_label"] == 2]
            count.index_put_(tuple(drawn), torch.ones(()), accumulate=True)
    drawn, expected = count[count > 0], float(count.sum()) / 52
    assert len(drawn) == 52 and ((drawn - expected).abs() < 6 * expected**0.5).all()


def test_a_division_depends_on_the_seed_and_leaves_the_global_state() -> None:
    edge_index = graph(30, 100, 0, 0.1)
    state = torch.get_rng_state()
    first, split = directed_link_split(edge_index.int(), 30, seed=1)
    other, _ = directed_link_split(edge_index, 30, seed=2)
    assert not torch.equal(first, other) and first.dtype == torch.int64
    assert split["val"]["edge_label_index"].dtype == split["val"]["edge_label"].dtype == torch.int64
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("task", LINK_TASKS)
def test_the_check_names_what_is_wrong(task: str) -> None:
    edge_index = graph(30, 120, 3, 0.2)
    every = set(pairs(edge_index))
    messages, split = directed_link_split(edge_index, 30, task=task, **SHARES, seed=0)

    def refused(text: str, sent: Tensor = messages, **changes: dict[str, Tensor]) -> None:
        with pytest.raises(DataError, match=text):
            check_directed_links(edge_index, 30, sent, {**split, **changes}, task)

    test, val = split["test"], split["val"]
    pair = next(p for p in of_class(test, 0) if (p[1], p[0]) not in every)
    a, b = min(pair), max(pair)
    leak = rf"split\['test'\] shares .* with the messages, for example {a} and {b}\."
    refused(leak, torch.cat([messages, torch.tensor([pair]).t()], dim=1))
    src, dst = pair[::-1]
    backward = torch.cat([messages, torch.tensor([[src], [dst]])], dim=1)
    refused(f"1 edges that are not in edge_index, for example from {src} to {dst}", backward)
    # the reverse of an edge held out is held out too
    whole = torch.cat([edge_index, torch.tensor([[src], [dst]])], dim=1)
    with pytest.raises(DataError, match=leak):
        check_directed_links(whole, 30, backward, split, task)
    turned = {key: value.flip(0) if value.dim() == 2 else value for key, value in val.items()}
    refused(r"split\['test'\] shares \d+ pairs with split\['val'\], for example", test=turned)
    refused(
        r"split\['val'\] shares \d+ pairs with split\['train'\], for example",
        train={key: torch.cat([split["train"][key], val[key]], dim=-1) for key in val},
    )
    first, second = LINK_TASKS[task][:2]
    wrong = {**val, "edge_label": val["edge_label"].clone()}
    wrong["edge_label"][0] = 1
    src, dst = val["edge_label_index"][:, 0].tolist()
    refused(
        rf"split\['val'\] says of {src} and {dst} '{second}', but .* are '{first}'; 1 p", val=wrong
    )
    refused(r"split\['val'\] has \[", val={key: value[..., 1:] for key, value in val.items()})
    refused(r"split\['val'\] has \[0, ", val={key: value[..., :0] for key, value in val.items()})
    if task != "direction":
        # no link, but there is one: in the other direction, which is none to see in one alone
        lied = {**test, "edge_label": test["edge_label"].clone()}
        at = pairs(test["edge_label_index"]).index(pair)
        lied["edge_label_index"] = test["edge_label_index"].clone()
        lied["edge_label_index"][:, at] = torch.tensor(pair[::-1])
        lied["edge_label"][at] = len(LINK_TASKS[task]) - 1
        refused(rf"split\['test'\] says of {pair[1]} and {pair[0]} 'no link', but", test=lied)


def test_bad_graphs_and_options() -> None:
    edge_index = graph(30, 100, 0, 0.0)
    with pytest.raises(GraphError, match=r"edge_index has shape \[3\]"):
        directed_link_split(torch.arange(3), 5, seed=0)
    with pytest.raises(GraphError, match="the graph has 10 nodes"):
        directed_link_split(edge_index, 10, seed=0)
    with pytest.raises(ConfigError, match="Unknown task 'directon'. Did you mean 'direction'"):
        directed_link_split(edge_index, 30, task="directon", seed=0)
    with pytest.raises(ConfigError, match="num_val and num_test are 0.5 and 0.5, but two numbers"):
        directed_link_split(edge_index, 30, num_val=0.5, num_test=0.5, seed=0)
    with pytest.raises(ConfigError, match="seed must lie in"):
        directed_link_split(edge_index, 30, seed=-1)
    for few, size in (([[0, 0, 1], [1, 1, 1]], 1), ([[0, 0], [0, 0]], 0), ([[], []], 0)):
        edges = torch.tensor(few, dtype=torch.int64)
        with pytest.raises(
            DataError, match=f"^{size} pairs of nodes joined by an edge are too few"
        ):
            directed_link_split(edges, max(size, 1) + 1, seed=0)
    with pytest.raises(DataError, match="^0 pairs of nodes joined by an edge are too few"):
        directed_link_split(torch.empty(2, 0, dtype=torch.int64), 0, seed=0)


@pytest.mark.parametrize("task", ["direction", "three-class"])
def test_a_symmetric_graph_has_no_direction(task: str) -> None:
    edges = graph(30, 60, 0, 0.0)
    symmetric = torch.cat([edges, edges.flip(0)], dim=1)
    with pytest.raises(DataError, match="Every edge has its reverse: .* Use task existence"):
        directed_link_split(symmetric, 30, task=task, seed=0)
    messages, split = directed_link_split(symmetric, 30, task="existence", **SHARES, seed=0)
    sent = set(pairs(messages))
    assert sent == {(b, a) for a, b in sent}
    assert all(len(of["edge_label"]) % 4 == 0 for of in split.values())
    # one edge of many: it can be in one part only
    nearly = torch.cat([symmetric, torch.tensor([[30], [0]])], dim=1)
    with pytest.raises(DataError, match="1 of .* one direction alone, and none of these is in"):
        directed_link_split(nearly, 31, task=task, seed=0)


def test_what_cannot_be_held_out_and_what_cannot_be_drawn() -> None:
    path = torch.stack([torch.arange(20), torch.arange(1, 21)])
    with pytest.raises(DataError, match="A spanning forest keeps 20 of 20 .* 4 are to be held out"):
        directed_link_split(path, 21, seed=0)
    messages, _ = directed_link_split(path, 21, keep_connected=False, seed=0)
    assert messages.size(1) == 16
    complete = torch.combinations(torch.arange(8)).t()
    assert directed_link_split(complete, 8, seed=0)[0].size(1) == 23
    with pytest.raises(
        DataError, match="28 pairs of nodes without an edge are needed.* has 0. Use"
    ):
        directed_link_split(complete, 8, task="existence", seed=0)
