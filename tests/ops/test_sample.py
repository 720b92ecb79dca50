"""Sampled neighbourhoods: laws, the same bits everywhere, probabilities, time, bad input."""

from __future__ import annotations

import itertools
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from ways import SETS, WAYS, served

from graphkit import ConfigError, Csr, Graph, GraphError, ops
from graphkit.ops.random import below, random_word, random_words
from graphkit.ops.sample import HeteroSampled, Sampled
from graphkit.testing import graphs

# the package's attribute of that name is the function
module = sys.modules["graphkit.ops.sample"]


def homogeneous(*args: Any, **options: Any) -> Sampled:
    found = ops.sample(*args, **options)
    assert isinstance(found, Sampled)
    return found


def heterogeneous(*args: Any, **options: Any) -> HeteroSampled:
    found = ops.sample(*args, **options)
    assert isinstance(found, HeteroSampled)
    return found


def random_graph(num_nodes: int = 300, num_edges: int = 6000, seed: int = 0) -> Graph:
    """Unordered rows with parallel edges and loops; the first nodes have the most edges."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.rand(2, num_edges, generator=generator) ** 4 * num_nodes
    return Graph.from_edge_index(ends.long(), num_nodes)


def stars(copies: int, degree: int) -> Graph:
    """``copies`` separate nodes, the first ones, each with ``degree`` sources of its own."""
    src = torch.arange(copies * degree) + copies
    dst = torch.arange(copies).repeat_interleave(degree)
    return Graph.from_edge_index(torch.stack([src, dst]), copies * (degree + 1))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Csr):
        return same(a.indptr, b.indptr) and same(a.indices, b.indices)
    if isinstance(a, Graph):
        sides = zip((a.by_dst.indptr, a.by_dst.indices), (b.by_dst.indptr, b.by_dst.indices),
                    strict=True)  # fmt: skip
        return (a.num_dst, a.num_src) == (b.num_dst, b.num_src) and all(
            same(x, y) for x, y in sides
        )
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    if isinstance(a, (Sampled, HeteroSampled)):
        return all(same(value, getattr(b, name)) for name, value in vars(a).items())
    return a == b


OPTIONS: dict[str, Any] = {
    "plain": {},
    "replace": {"replace": True},
    "weighted": {"edge_weight": "weight"},
    "weighted replace": {"edge_weight": "weight", "replace": True},
    "labor": {"method": "labor"},
    "labor layers": {"method": "labor", "layer_dependency": True},
    "edge time": {"edge_time": "edges"},
    "edge time replace": {"edge_time": "float edges", "replace": True},
    "last": {"edge_time": "edges", "temporal_strategy": "last"},
    "node time": {"node_time": "nodes"},
    "weighted time": {"edge_time": "edges", "edge_weight": "weight"},
    "disjoint": {"disjoint": True},
    "induced": {"subgraph_type": "induced"},
    "induced time": {"subgraph_type": "induced", "edge_time": "edges"},
}


def options_of(name: str, graph: Graph, seed: int = 0) -> dict[str, Any]:
    """The options with tensors drawn for the graph; some weights are 0, no row's are all."""
    random = torch.Generator().manual_seed(seed)
    times = torch.randint(100, (graph.num_edges,), generator=random)
    weight = torch.rand(graph.num_edges, generator=random) + 0.01
    eid = graph.by_dst.eid
    first = graph.by_dst.indptr[:-1][graph.in_degree() > 0]
    weight[torch.rand(graph.num_edges, generator=random) < 0.2] = 0
    weight[first if eid is None else eid.long()[first]] = 0.5
    drawn = {
        "weight": weight,
        "edges": times,
        "float edges": times.double() - 50.25,
        "nodes": torch.randint(100, (graph.num_src,), generator=random),
    }
    return {
        option: drawn[value] if isinstance(value, str) and value in drawn else value
        for option, value in OPTIONS[name].items()
    }


def seed_time_of(options: dict[str, Any], count: int) -> Tensor | None:
    time = options.get("edge_time")
    if time is None:
        return None
    drawn = torch.randint(100, (count,), generator=torch.Generator().manual_seed(5))
    return drawn if time.dtype == torch.int64 else drawn.double() - 50


# -- laws ------------------------------------------------------------------------------------------


def times_of(graph: Graph, seeds: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
    """The time of every edge and of every seed."""
    if "edge_time" in options:
        now = seed_time_of(options, len(seeds))
        assert now is not None
        return options["edge_time"], now
    if "node_time" in options:
        time = options["node_time"]
        return time[graph.edge_index()[0]], time[seeds.long()]
    return None


def allowed_edges(graph: Graph, found: Sampled, local: int, times: Any) -> list[int]:
    """The edges to a node that its tree's time does not forbid."""
    node, side = int(found.n_id[local]), graph.by_dst
    every = torch.arange(int(side.indptr[node]), int(side.indptr[node + 1]))
    every = every if side.eid is None else side.eid.long()[every]
    if times is not None:
        assert found.batch is not None
        every = every[times[0][every] <= times[1][found.batch[local]]]
    return every.tolist()


def edges_of(found: Sampled, local: int) -> list[int]:
    ptr = found.graph.by_dst.indptr
    return found.e_id[ptr[local] : ptr[local + 1]].tolist()


def check_nodes(graph: Graph, seeds: Tensor, found: Sampled) -> None:
    """The seeds first, every node once (in its tree), new ones in the order of discovery."""
    assert torch.equal(found.n_id[: len(seeds)], seeds.long())
    assert found.num_sampled_nodes[0] == len(seeds)
    assert sum(found.num_sampled_nodes) == len(found.n_id) == found.graph.num_dst
    trees = torch.zeros_like(found.n_id) if found.batch is None else found.batch
    keys = trees * graph.num_src + found.n_id
    new = keys[len(seeds) :]
    assert len(new.unique()) == len(new) and not torch.isin(new, keys[: len(seeds)]).any()
    if found.batch is not None:
        assert torch.equal(found.batch[: len(seeds)], torch.arange(len(seeds)))
        assert torch.equal(found.batch[found.row], found.batch[found.col])
    if found.num_sampled_edges is not None:
        assert sum(found.num_sampled_edges) == len(found.e_id)
        seen = dict.fromkeys(found.row[found.row >= len(seeds)].tolist())
        assert list(seen) == list(range(len(seeds), len(found.n_id)))


def check_draw(mine: list[int], allowed: list[int], k: int, options: dict[str, Any]) -> None:
    """So many edges, each once without replacement, and none without weight."""
    weight = options.get("edge_weight")
    if weight is not None and k != -1:
        allowed = [e for e in allowed if weight[e] > 0]
    assert set(mine) <= set(allowed)
    if k == -1:
        assert sorted(mine) == sorted(allowed)
    elif options.get("replace"):
        assert len(mine) == (k if allowed else 0)
    elif options.get("method") != "labor":
        assert len(mine) == len(set(mine)) == min(k, len(allowed))
    elif len(allowed) <= k:
        assert sorted(mine) == sorted(allowed)
    left = set(allowed) - set(mine)
    if options.get("temporal_strategy") == "last" and mine and left:
        time = options["edge_time"]
        assert max(int(time[e]) for e in left) <= min(int(time[e]) for e in mine)


def check_laws(
    graph: Graph, seeds: Tensor, fanout: list[int], options: dict[str, Any], found: Sampled
) -> None:
    check_nodes(graph, seeds, found)
    src, dst = graph.edge_index()
    assert torch.equal(found.n_id[found.row], src[found.e_id])
    assert torch.equal(found.n_id[found.col], dst[found.e_id])
    times = times_of(graph, seeds, options)
    trees = [0] * len(found.n_id) if found.batch is None else found.batch.tolist()
    known = set(zip(trees, found.n_id.tolist(), strict=True))
    ends = torch.tensor(found.num_sampled_nodes).cumsum(0).tolist()
    for local in range(len(found.n_id)):
        mine, allowed = edges_of(found, local), allowed_edges(graph, found, local, times)
        if found.num_sampled_edges is None:
            want = [e for e in allowed if (trees[local], int(src[e])) in known]
            assert sorted(mine) == sorted(want)
        else:
            hop = next(at for at, end in enumerate(ends) if local < end)
            # the nodes of the last hop draw nothing
            check_draw(mine, allowed, fanout[hop], options) if hop < len(fanout) else None
            assert hop < len(fanout) or not mine


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("fanout", [[4, 3], [-1, 2], [70, 1, 2]], ids=str)
def test_laws(by: str, name: str, fanout: list[int]) -> None:
    graph = random_graph(120, 900)
    options = options_of(name, graph)
    seeds = torch.tensor([5, 0, 119, 5, 33, 7])
    found = homogeneous(
        graph, seeds, fanout, (1, 2, 3), seed_time=seed_time_of(options, 6), **options
    )
    check_laws(graph, seeds, fanout, options, found)


@settings(max_examples=60)
@given(
    graphs(bipartite=False, max_edges=40),
    st.sampled_from(sorted(OPTIONS)),
    st.lists(st.sampled_from([-1, 1, 2, 5]), min_size=1, max_size=3),
    st.integers(0, 2**30),
)
def test_laws_on_any_graph(graph: Graph, name: str, fanout: list[int], seed: int) -> None:
    options = options_of(name, graph, seed)
    random = torch.Generator().manual_seed(seed)
    count = int(torch.randint(5, (), generator=random)) if graph.num_dst else 0
    seeds = torch.randint(max(1, graph.num_dst), (count,), generator=random)
    results: list[Sampled] = []
    for way in WAYS:
        with served(way):
            found = homogeneous(graph, seeds, fanout, (seed, 0, 0),
                                seed_time=seed_time_of(options, count), **options)  # fmt: skip
            results.append(found)
    check_laws(graph, seeds, fanout, options, results[0])
    assert all(same(results[0], other) for other in results[1:])


# -- the same bits ---------------------------------------------------------------------------------


def batches(graph: Graph, count: int = 5, size: int = 40) -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    return [torch.randint(graph.num_dst, (size,), generator=random) for _ in range(count)]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_bits_everywhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph()
    wide = replace(graph.by_dst, indices=graph.by_dst.indices.long())
    of_int64 = Graph(wide, None, graph.num_dst, graph.num_src)
    options, seeds = options_of(name, graph), batches(graph)
    time = seed_time_of(options, 40)
    for fanout in ([15, 10], [100, 3, 3], [-1, 5]):
        with served("torch"):
            sampler = ops.Sampler(graph, fanout, **options)
            want = [sampler(some, (0, 1, at), seed_time=time) for at, some in enumerate(seeds)]
        for way in SETS:
            with served(way):
                sampler = ops.Sampler(graph, fanout, **options)

                def one(at: int, sampler: ops.Sampler = sampler) -> Any:
                    return sampler(seeds[at], (0, 1, at), seed_time=time)

                for threads in (1, 2, 3):
                    torch.set_num_threads(threads)
                    with ThreadPoolExecutor(threads) as pool:
                        got = list(pool.map(one, range(len(seeds))))
                    assert same(dict(enumerate(want)), dict(enumerate(got))), (way, threads)
                other = ops.Sampler(of_int64, fanout, **options)
                assert same(want[0], other(seeds[0], (0, 1, 0), seed_time=time))
                with monkeypatch.context() as patch:
                    patch.setattr("graphkit.ops.cpu.sample.DENSE_NODES", 0)
                    hashed = ops.Sampler(graph, fanout, **options)
                for at in (0, 1, 0):
                    assert same(want[at], hashed(seeds[at], (0, 1, at), seed_time=time))


@pytest.mark.parametrize("name", OPTIONS)
def test_many_batches_are_those_of_single_calls(by: str, name: str) -> None:
    graph = random_graph()
    options, seeds = options_of(name, graph), batches(graph, 7)
    # of unlike sizes, one of them empty
    seeds = [some[: 40 - 10 * (at % 5)] for at, some in enumerate(seeds)]
    keys = [ops.Key(0, 1, at) for at in range(7)]
    times = [seed_time_of(options, len(some)) for some in seeds]
    sampler = ops.Sampler(graph, [15, 10], **options)
    want = [
        sampler(some, key, seed_time=time)
        for some, key, time in zip(seeds, keys, times, strict=True)
    ]
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        got = sampler.many(seeds, keys, seed_time=times)
        assert same(dict(enumerate(want)), dict(enumerate(got))), threads


def test_many_batches_of_several_relations(by: str) -> None:
    sampler = ops.Sampler(academic(), [3, 2])
    seeds = [{"paper": torch.arange(at, 40)} for at in range(4)]
    keys = [(0, 0, at) for at in range(4)]
    want = [sampler(some, key) for some, key in zip(seeds, keys, strict=True)]
    got = sampler.many(seeds, keys)
    assert same(dict(enumerate(want)), dict(enumerate(got)))
    assert sampler.many([], []) == []


def test_what_was_drawn_stays_as_it_is(by: str) -> None:
    """Arrays of batches are used again only when nobody holds them, or a part of them."""
    graph = random_graph()
    sampler = ops.Sampler(graph, [15, 10])
    seeds = batches(graph)
    first = sampler(seeds[0], (0, 0, 0))
    assert isinstance(first, Sampled)
    copies = [first.n_id.clone(), first.e_id.clone(), first.by_dst.indices.clone()]
    parts: list[tuple[Tensor, Tensor]] = []
    for at in range(30):
        # large and small ones in turn
        found = sampler(seeds[at % 5][: 40 if at % 2 else 2], (0, 1, at))
        assert isinstance(found, Sampled)
        parts.append((found.e_id[1:], found.e_id[1:].clone()))
        sampler.many(seeds[:2], [(0, 2, at), (0, 3, at)])
    assert all(map(torch.equal, copies, [first.n_id, first.e_id, first.by_dst.indices]))
    assert all(torch.equal(*pair) for pair in parts)
    last = parts[-1]
    del sampler, found, first
    assert torch.equal(*last)
    # and they are tensors like others
    last[0].add_(1)
    assert torch.equal(torch.cat([last[0], last[0]])[: len(last[1])], last[1] + 1)


def test_seeds_are_not_what_is_returned(by: str) -> None:
    relation = ("author", "writes", "paper")
    graph = {relation: Graph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), num_src=2, num_dst=3)}
    seeds = torch.tensor([2, 1])
    found = heterogeneous(graph, {"paper": seeds}, [2])
    seeds.zero_()
    assert found.n_id["paper"].tolist() == [2, 1]


def test_tables_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashed numbers of many nodes, in the first batch and in those after it."""
    if not SETS:
        pytest.skip("the reference has no tables")
    graph = random_graph(20_000, 80_000)
    seeds = batches(graph, 3, 3000)
    dense = ops.Sampler(graph, [5, 5])
    monkeypatch.setattr("graphkit.ops.cpu.sample.DENSE_NODES", 0)
    hashed = ops.Sampler(graph, [5, 5])
    for at, some in enumerate([seeds[0][:50], *seeds]):
        assert same(dense(some, (0, 0, at)), hashed(some, (0, 0, at)))


def test_a_batch_is_a_function_of_its_key(by: str) -> None:
    sampler = ops.Sampler(random_graph(), [5, 5])
    seeds = torch.arange(30)
    first = sampler(seeds, ops.Key(1, 2, 3))
    assert same(first, sampler(seeds, (1, 2, 3)))
    for other in ((0, 2, 3), (1, 3, 2), (1, 2, 4), (3, 2, 1)):
        assert not same(first, sampler(seeds, other))


def test_these_draws_are_for_ever(by: str) -> None:
    """Seeds that were published must draw the same in every later version."""
    at = torch.arange(600)
    graph = Graph.from_edge_index(torch.stack([(at * at // 7 + 17 * at) % 53, at % 53]), 53)
    weight = (at % 7 + 1).float()
    drawn: dict[str, dict[str, Any]] = {
        "plain": {},
        "replace": {"replace": True},
        "weighted": {"edge_weight": weight},
        "weighted replace": {"edge_weight": weight, "replace": True},
        "labor": {"method": "labor"},
        "disjoint": {"disjoint": True},
    }
    for name, options in drawn.items():
        found = homogeneous(graph, torch.tensor([0, 1]), [4, 2], (7, 1, 0), **options)
        assert found.e_id[:8].tolist() == GOLDEN[name], name


GOLDEN: dict[str, list[int]] = {
    "plain": [159, 318, 424, 0, 425, 372, 107, 584],
    "replace": [212, 424, 424, 0, 531, 425, 107, 425],
    "weighted": [53, 530, 477, 212, 478, 319, 54, 160],
    "weighted replace": [212, 424, 424, 53, 531, 478, 160, 425],
    "labor": [53, 159, 212, 318, 424, 530, 583, 54],
    "disjoint": [0, 477, 106, 159, 160, 107, 54, 372],
}


def test_words_are_those_of_the_reference() -> None:
    for seed in (0, 1, 2**63, 2**64 - 1):
        signed = torch.tensor(seed - 2**64 if seed >= 2**63 else seed)
        for counter in (0, 5, 2**40):
            word = int(random_words(signed, torch.tensor(counter)))
            assert word % 2**64 == random_word(seed, counter)


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**62 - 1))
def test_below_is_the_upper_word_of_the_product(word: int, count: int) -> None:
    signed = torch.tensor(word - 2**64 if word >= 2**63 else word)
    assert int(below(signed, torch.tensor(count))) == word * count >> 64


# -- probabilities ---------------------------------------------------------------------------------

COPIES, DEGREE, DRAWS = 1000, 12, 100_000


def picks(sampler: ops.Sampler, seed_time: Tensor | None = None) -> Tensor:
    """How often each of DEGREE edges is drawn in each of DRAWS draws, ``[DRAWS, DEGREE]``."""
    parts: list[Tensor] = []
    for at in range(DRAWS // COPIES):
        found = sampler(torch.arange(COPIES), (11, 0, at), seed_time=seed_time)
        assert isinstance(found, Sampled)
        parts.append(torch.bincount(found.e_id, minlength=COPIES * DEGREE).view(COPIES, DEGREE))
    return torch.cat(parts).double()


def within_4_sigma(values: Tensor, mean: Tensor | float, deviation: Tensor | float) -> bool:
    return bool(((values - mean).abs() <= 4 * deviation / sqrt(DRAWS)).all())


def test_uniform_without_replacement(by: str) -> None:
    for k in (1, 5, 11):
        drawn = picks(ops.Sampler(stars(COPIES, DEGREE), [k]))
        p = k / DEGREE
        assert within_4_sigma(drawn.mean(0), p, sqrt(p * (1 - p)))
        # of pairs as well
        pairs = drawn.t() @ drawn / DRAWS
        p = k * (k - 1) / (DEGREE * (DEGREE - 1))
        off = ~torch.eye(DEGREE, dtype=torch.bool)
        assert within_4_sigma(pairs[off], p, sqrt(p * (1 - p)))


@pytest.mark.parametrize(("degree", "k"), [(100, 3), (100, 64), (100, 70)])
def test_uniform_in_long_rows(by: str, degree: int, k: int) -> None:
    """Rows whose picks are compared with one another, and marked in a table."""
    counts = torch.zeros(degree)
    sampler = ops.Sampler(stars(200, degree), [k])
    for at in range(25):
        found = sampler(torch.arange(200), (0, 0, at))
        assert isinstance(found, Sampled)
        counts += torch.bincount(found.e_id % degree, minlength=degree)
    p = k / degree
    assert ((counts / 5000 - p).abs() <= 4 * sqrt(p * (1 - p) / 5000)).all()


def test_uniform_with_replacement(by: str) -> None:
    drawn = picks(ops.Sampler(stars(COPIES, DEGREE), [5], replace=True))
    assert torch.equal(drawn.sum(1), torch.full((DRAWS,), 5.0).double())
    p = 1 / DEGREE
    assert within_4_sigma(drawn.mean(0), 5 * p, sqrt(5 * p * (1 - p)))
    # two draws are independent
    covariance = (drawn[:, 0] * drawn[:, 1]).mean()
    assert abs(float(covariance) - 20 * p * p) < 4 * sqrt(20 * p * p) / sqrt(DRAWS)


WEIGHTS = torch.tensor([0.0, 1, 2, 3, 4, 5, 0.5, 8, 0, 1, 1e-12, 2])


def test_weighted_with_replacement(by: str) -> None:
    weight = WEIGHTS.repeat(COPIES)
    drawn = picks(ops.Sampler(stars(COPIES, DEGREE), [4], edge_weight=weight, replace=True))
    p = WEIGHTS.double() / WEIGHTS.sum()
    assert within_4_sigma(drawn.mean(0), 4 * p, (4 * p * (1 - p)).sqrt() + 1e-3)
    assert not drawn[:, WEIGHTS == 0].any()


def test_weights_that_are_a_column(by: str) -> None:
    """Rows in order and float64: the weights are used as they are."""
    graph = Graph.from_csr(torch.tensor([0, 5, 5, 5, 5, 5]), torch.arange(5), num_src=5)
    table = torch.ones(5, 3, dtype=torch.float64)
    table[:, 0] = torch.tensor([0, 0, 0, 1, 0])
    for replaced in (False, True):
        sampler = ops.Sampler(graph, [1], edge_weight=table[:, 0], replace=replaced)
        for at in range(9):
            found = sampler(torch.tensor([0]), (0, 0, at))
            assert isinstance(found, Sampled) and found.e_id.tolist() == [3]


def test_weighted_without_replacement(by: str) -> None:
    weight = WEIGHTS.repeat(COPIES)
    drawn = picks(ops.Sampler(stars(COPIES, DEGREE), [2], edge_weight=weight))
    want = torch.zeros(DEGREE, dtype=torch.float64)
    total = float(WEIGHTS.sum())
    for first, second in itertools.permutations(range(DEGREE), 2):
        a, b = float(WEIGHTS[first]), float(WEIGHTS[second])
        chance = a / total * b / (total - a)
        want[first] += chance
        want[second] += chance
    assert within_4_sigma(drawn.mean(0), want, (want * (1 - want)).sqrt() + 1e-3)
    assert int(drawn.max()) == 1 and not drawn[:, WEIGHTS == 0].any()


def test_labor(by: str) -> None:
    k = 5
    drawn = picks(ops.Sampler(stars(COPIES, DEGREE), [k], method="labor"))
    p = k / DEGREE
    assert within_4_sigma(drawn.mean(0), p, sqrt(p * (1 - p)))
    # the mean of x over neighbours, each weighted by 1 / p: no bias, and LABOR's variance
    x = torch.linspace(-1, 3, DEGREE, dtype=torch.float64)
    estimate = drawn @ x / (p * DEGREE)
    variance = float((x**2).sum()) * (1 / p - 1) / DEGREE**2
    assert abs(float(estimate.mean() - x.mean())) < 4 * sqrt(variance / DRAWS)
    fourth = float(((estimate - estimate.mean()) ** 4).mean())
    spread = sqrt((fourth - variance**2) / DRAWS)
    assert abs(float(estimate.var()) - variance) < 4 * spread
    # of values around 0 it is that of k different neighbours but for (d - 1) / d
    around = x - x.mean()
    labor = drawn @ around / k
    uniform = picks(ops.Sampler(stars(COPIES, DEGREE), [k])) @ around / k
    errors = [sqrt(float((some**4).mean() - some.var() ** 2) / DRAWS) for some in (labor, uniform)]
    share = (DEGREE - 1) / DEGREE
    difference = float(labor.var()) - share * float(uniform.var())
    assert abs(difference) < 4 * sqrt(errors[0] ** 2 + (share * errors[1]) ** 2)


def test_labor_shares_its_numbers(by: str) -> None:
    """Nodes with the same neighbours take the same ones, in all hops if layers depend."""
    src = torch.arange(40).repeat(3) + 3
    dst = torch.arange(3).repeat_interleave(40)
    # 43 to 45 have the same sources, and are reached one hop later from 46
    late = torch.stack([torch.tensor([43]), torch.tensor([46])])
    edges = torch.cat([torch.stack([src, dst]), torch.stack([src, dst + 43]), late], 1)
    graph = Graph.from_edge_index(edges, 47)
    shared: list[bool] = []
    for at in range(20):
        found = homogeneous(graph, torch.tensor([0, 1, 46]), [10, 10], (0, 0, at), method="labor",
                            layer_dependency=at >= 10)  # fmt: skip
        ptr, idx = found.graph.by_dst.indptr, found.graph.by_dst.indices
        lists = [set(idx[ptr[i] : ptr[i + 1]].tolist()) for i in range(len(found.n_id))]
        assert lists[0] == lists[1]
        of_late = (found.n_id == 43).nonzero().flatten().tolist()
        shared.append(lists[of_late[0]] == lists[0])
    assert not any(shared[:10]) and all(shared[10:])


@pytest.mark.parametrize("depends", [False, True])
def test_labor_has_its_probabilities_in_every_hop(by: str, depends: bool) -> None:
    """And in two hops at once: the same number of a source decides both, or two do."""
    # a seed with DEGREE sources, and another one whose only source has the same ones a hop later
    copies, (first, later) = COPIES // 2, (3, 6)
    unit = torch.arange(copies).unsqueeze(1) * (DEGREE + 3)
    source = (unit + torch.arange(DEGREE) + 3).flatten()
    early, middle, other = (unit + at for at in range(3))
    edges = [torch.stack([source, dst.repeat_interleave(DEGREE)]) for dst in (early, middle)]
    edges.append(torch.cat([middle, other], 1).t())
    graph = Graph.from_edge_index(torch.cat(edges, 1), copies * (DEGREE + 3))
    sampler = ops.Sampler(graph, [first, later], method="labor", layer_dependency=depends)
    seeds, size = torch.cat([early, other]).flatten(), copies * DEGREE
    parts: list[Tensor] = []
    for at in range(DRAWS // copies):
        found = sampler(seeds, (11, 0, at))
        assert isinstance(found, Sampled)
        taken = torch.zeros(graph.num_edges, dtype=torch.float64)
        taken[found.e_id] = 1
        assert taken[2 * size :].all()
        parts.append(taken[: 2 * size].view(2, copies, DEGREE))
    hops = torch.cat(parts, 1)
    p, q = first / DEGREE, later / DEGREE
    for drawn, share in zip(hops, (p, q), strict=True):
        assert within_4_sigma(drawn.mean(0), share, sqrt(share * (1 - share)))
    both = min(p, q) if depends else p * q
    assert within_4_sigma((hops[0] * hops[1]).mean(0), both, sqrt(both * (1 - both)))
    # sources are independent of one another
    off = ~torch.eye(DEGREE, dtype=torch.bool)
    for a, b, share in ((0, 0, p * p), (1, 1, q * q), (0, 1, p * q)):
        pairs = hops[a].t() @ hops[b] / DRAWS
        assert within_4_sigma(pairs[off], share, sqrt(share * (1 - share)))


def test_labor_needs_fewer_nodes() -> None:
    graph = random_graph(2000, 60_000)
    seeds = torch.arange(500)
    sizes = {
        method: len(homogeneous(graph, seeds, [5, 5], method=method).n_id)
        for method in ("neighbor", "labor")
    }
    assert sizes["labor"] < 0.9 * sizes["neighbor"]


# -- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fanout", [[4, 3], [3, 2, 2], [-1]], ids=str)
def test_blocks_compute_what_the_whole_computes(by: str, fanout: list[int]) -> None:
    graph = random_graph(120, 900)
    found = homogeneous(graph, torch.tensor([5, 0, 119, 5]), fanout)
    x = torch.randn(120, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = x[found.n_id]
    for _ in fanout:
        whole = whole + ops.spmm(found.graph, whole, reduce="mean")
    leaf = x.clone().requires_grad_()
    part = leaf[found.n_id]
    blocks = found.blocks(transpose=True)
    sizes = [b.num_edges for b in blocks]
    assert sizes == [sum(found.num_sampled_edges or []) for _ in blocks[:1]] + sizes[1:]
    for block in blocks:
        # nothing that the next layer does not need
        assert int(block.by_dst.indices.max()) < block.num_src == len(part)
        weight = torch.ones(block.num_edges, dtype=torch.float64)
        part = part[: block.num_dst] + ops.spmm(block, part, weight, reduce="mean")
    assert block.num_dst == 4
    torch.testing.assert_close(part, whole[:4])
    part.sum().backward()
    assert leaf.grad is not None and bool(leaf.grad.any())
    for lean, full in zip(found.blocks(), blocks, strict=True):
        assert lean.by_src is None and same(lean, full)
        assert full.by_src is not None and same(full.edge_index(), full.t().edge_index().flip(0))


def test_blocks_of_induced_subgraphs_are_whole(by: str) -> None:
    found = homogeneous(random_graph(120, 900), torch.arange(4), [2, 2], subgraph_type="induced")
    assert found.num_sampled_edges is None
    assert [same(block, found.graph) for block in found.blocks()] == [True, True]


def test_pyg_trims_to_layers(by: str) -> None:
    nn = pytest.importorskip("torch_geometric.nn")
    trim = pytest.importorskip("torch_geometric.utils").trim_to_layer
    graph = random_graph(200, 2000)
    found = homogeneous(graph, torch.tensor([3, 0, 150, 99, 3]), [4, 3, 2])
    layers = [nn.SAGEConv(5, 5) for _ in range(3)]
    x = torch.randn(200, 5)[found.n_id]
    edge_index = torch.stack([found.row, found.col])
    whole, part, edges = x, x, edge_index
    for layer in layers:
        whole = layer(whole, edge_index).relu()
    for at, layer in enumerate(layers):
        part, edges, _ = trim(at, found.num_sampled_nodes, found.num_sampled_edges, part, edges)
        part = layer(part, edges).relu()
    torch.testing.assert_close(part[:5], whole[:5])


# -- time ------------------------------------------------------------------------------------------


def test_rows_in_any_order_of_time_draw_alike(by: str) -> None:
    """Sorted by the caller or here, equal times apart, the same edges are drawn."""
    graph = random_graph(50, 800)
    random = torch.Generator().manual_seed(0)
    time = torch.randperm(800, generator=random)
    order = time.argsort()
    ordered = Graph.from_edge_index(graph.edge_index()[:, order], 50)
    seeds, now = torch.arange(50), torch.randint(800, (50,), generator=random)
    for strategy in ("uniform", "last"):
        a = homogeneous(graph, seeds, [5, 5], edge_time=time, seed_time=now,
                        temporal_strategy=strategy)  # fmt: skip
        b = homogeneous(ordered, seeds, [5, 5], edge_time=time[order], seed_time=now,
                        temporal_strategy=strategy)  # fmt: skip
        assert torch.equal(a.n_id, b.n_id) and torch.equal(a.e_id, order[b.e_id])


@pytest.mark.parametrize("of", ["edges", "nodes"])
@pytest.mark.parametrize("again", [False, True])
def test_what_is_not_later_is_drawn_uniformly(by: str, of: str, again: bool) -> None:
    """Rows whose times are in no order; half of the seeds look at 9 edges, half of them at 5."""
    graph, k = stars(COPIES, DEGREE), 3
    row = torch.tensor([7, 1, 9, 3, 5, 2, 8, 1, 4, 9, 6, 3])
    now = torch.where(torch.arange(COPIES) % 2 == 0, 7, 3)
    time = row.repeat(COPIES)
    # the sources of a row come after all seeds
    times = {"edge_time": time} if of == "edges" else {"node_time": torch.cat([now, time])}
    sampler = ops.Sampler(graph, [k], replace=again, temporal_strategy="uniform", **times)
    drawn = picks(sampler, now).view(-1, 2, DEGREE)
    for at, latest in enumerate((7, 3)):
        allowed = (row <= latest).double()
        p = 1 / float(allowed.sum())
        variance = k * p * (1 - p if again else 1 - k * p)
        # half of the draws each
        half = sqrt(2 * variance)
        assert within_4_sigma(drawn[:, at].mean(0), k * p * allowed, half * allowed)
        pairs = drawn[:, at].t() @ drawn[:, at] / (DRAWS / 2)
        joint = k * (k - 1) * (p * p if again else p / (1 / p - 1))
        off = torch.outer(allowed, allowed).bool() & ~torch.eye(DEGREE, dtype=torch.bool)
        spread = float((drawn[:, at, 1] * drawn[:, at, 7]).std())
        assert within_4_sigma(pairs[off], joint, sqrt(2) * spread)


def test_weights_of_the_past_are_resolved_by_those_of_the_future(by: str) -> None:
    """As documented: with replacement to 2**-31 of the largest, without to the last bit."""
    graph = stars(COPIES, 3)
    time = torch.tensor([0, 0, 9]).repeat(COPIES)
    now = torch.zeros(COPIES, dtype=torch.int64)
    for tiny, chances in ((1e-3, (0.75, 0.75)), (1e-12, (0.5, 0.75))):
        weight = torch.tensor([3 * tiny, tiny, 1.0], dtype=torch.float64).repeat(COPIES)
        for again, chance in zip((True, False), chances, strict=True):
            options: dict[str, Any] = {"edge_weight": weight, "edge_time": time, "replace": again}
            found = homogeneous(graph, torch.arange(COPIES), [1], seed_time=now, **options)
            assert (time[found.e_id] == 0).all() and len(found.e_id) == COPIES
            first = float((found.e_id % 3 == 0).double().mean())
            assert abs(first - chance) < 4 * sqrt(chance * (1 - chance) / COPIES)


def test_seconds_of_today_are_told_apart(by: str) -> None:
    """Times that float32 could not hold; a second decides."""
    now = 1_790_000_001
    graph = Graph.from_edge_index(torch.tensor([[1, 2, 3], [0, 0, 0]]), 4)
    for dtype in (torch.int64, torch.float64):
        time = torch.tensor([now - 1, now, now + 1], dtype=dtype)
        for at, want in ((now - 2, []), (now - 1, [0]), (now, [0, 1]), (now + 1, [0, 1, 2])):
            seed_time = torch.tensor([at], dtype=dtype)
            found = homogeneous(graph, torch.tensor([0]), [5], edge_time=time, seed_time=seed_time)
            assert sorted(found.e_id.tolist()) == want


def test_negative_and_infinite_times(by: str) -> None:
    graph = Graph.from_edge_index(torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0]]), 5)
    time = torch.tensor([float("-inf"), -2.5, -0.0, 3.0], dtype=torch.float64)
    for now, count in ((-3.0, 1), (-2.5, 2), (-1.0, 2), (0.0, 3), (float("inf"), 4)):
        seed_time = torch.tensor([now], dtype=torch.float64)
        found = homogeneous(graph, torch.tensor([0]), [5], edge_time=time, seed_time=seed_time)
        assert len(found.e_id) == count


# -- edges that are left out -----------------------------------------------------------------------


def left_out(graph: Graph, seed: int = 0) -> Tensor:
    """Pairs with one edge, with several and with none, some of them twice."""
    random = torch.Generator().manual_seed(seed)
    count = min(graph.num_edges, 50)
    some = graph.edge_index()[:, torch.randperm(graph.num_edges, generator=random)[:count]]
    others = torch.randint(max(1, graph.num_dst), (2, 20 if graph.num_dst else 0), generator=random)
    return torch.cat([some, some[:, :9], others], 1)


def rest_of(graph: Graph, pairs: Tensor) -> Tensor:
    """The edges between other pairs."""
    keys = (pairs[0] * graph.num_dst + pairs[1]).unique()
    src, dst = graph.edge_index()
    return (~torch.isin(src * graph.num_dst + dst, keys)).nonzero().flatten()


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "weighted replace"])
@pytest.mark.parametrize("fanout", [[4, 3], [-1, 2], [70, 1, 2]], ids=str)
def test_left_out_edges_might_as_well_not_exist(by: str, name: str, fanout: list[int]) -> None:
    graph = random_graph(120, 900)
    pairs = left_out(graph)
    rest = rest_of(graph, pairs)
    options = options_of(name, graph)
    if "edge_weight" in options:
        # a row of which nothing is left but zeros is refused
        options["edge_weight"] = options["edge_weight"] + 0.01
    fewer = {
        option: value[rest] if option.startswith("edge") else value
        for option, value in options.items()
    }
    seeds = torch.cat([pairs[1, :20], torch.tensor([5, 0, 119, 5, 33, 7])])
    time = seed_time_of(options, len(seeds))
    lean = Graph.from_edge_index(graph.edge_index()[:, rest], 120)
    want = homogeneous(lean, seeds, fanout, (1, 2, 3), seed_time=time, **fewer)
    found = homogeneous(graph, seeds, fanout, (1, 2, 3), seed_time=time, exclude=pairs, **options)
    assert torch.equal(found.e_id, rest[want.e_id]) and torch.equal(found.n_id, want.n_id)
    assert same(found.by_dst, want.by_dst) and same(found.batch, want.batch)
    assert found.num_sampled_nodes == want.num_sampled_nodes
    assert found.num_sampled_edges == want.num_sampled_edges
    wide = Graph(replace(graph.by_dst, indices=graph.by_dst.indices.long()), None, 120, 120)
    other = homogeneous(wide, seeds, fanout, (1, 2, 3), seed_time=time, exclude=pairs, **options)
    assert same(other, found)
    # of another call nothing is left out
    sampler = ops.Sampler(graph, fanout, **options)
    none = torch.empty(2, 0, dtype=torch.int64)
    sampler(seeds, seed_time=time, exclude=pairs)
    whole = sampler(seeds, seed_time=time)
    assert same(whole, sampler(seeds, seed_time=time, exclude=none))
    lists: dict[str, Any] = {"seed_time": [time] * 2, "exclude": [pairs.int(), None]}
    both = sampler.many([seeds] * 2, [(1, 2, 3), (0, 0, 0)], **lists)
    assert same(both[0], found) and same(both[1], whole)


@settings(max_examples=40)
@given(
    graphs(bipartite=False, max_edges=40),
    st.sampled_from(sorted(OPTIONS)),
    st.lists(st.sampled_from([-1, 1, 2, 5]), min_size=1, max_size=3),
    st.integers(0, 2**30),
)
def test_left_out_edges_of_any_graph(graph: Graph, name: str, fanout: list[int], seed: int) -> None:
    options, pairs = options_of(name, graph, seed), left_out(graph, seed)
    seeds = pairs[1, :4]
    results: list[Sampled] = []
    for way in WAYS:
        with served(way):
            found = homogeneous(graph, seeds, fanout, (seed, 0, 0), exclude=pairs,
                                seed_time=seed_time_of(options, len(seeds)), **options)  # fmt: skip
            results.append(found)
    assert torch.isin(results[0].e_id, rest_of(graph, pairs)).all()
    assert all(same(results[0], other) for other in results[1:])


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "weighted replace"])
def test_a_hub_without_many_of_its_edges(by: str, name: str) -> None:
    random = torch.Generator().manual_seed(0)
    # parallel edges as well
    ends = torch.stack([torch.randint(700, (1000,), generator=random), torch.zeros(1000).long()])
    graph = Graph.from_edge_index(ends, 700)
    for count in (64, 65, 400):
        # each pair twice
        pairs = torch.stack([torch.randperm(700, generator=random)[:count], torch.zeros(count)])
        pairs = torch.cat([pairs, pairs], 1).long()
        rest, options = rest_of(graph, pairs), options_of(name, graph)
        fewer = {
            option: value[rest] if option.startswith("edge") else value
            for option, value in options.items()
        }
        seeds = torch.tensor([0, 3])
        time = seed_time_of(options, 2)
        lean = Graph.from_edge_index(ends[:, rest], 700)
        want = homogeneous(lean, seeds, [90], (0, 0, 1), seed_time=time, **fewer)
        found = homogeneous(graph, seeds, [90], (0, 0, 1), seed_time=time, exclude=pairs, **options)
        assert len(found.e_id) and torch.equal(found.e_id, rest[want.e_id])
        assert torch.equal(found.n_id, want.n_id) and same(found.by_dst, want.by_dst)


@pytest.mark.parametrize("replaced", [False, True])
def test_probabilities_without_the_heaviest_edge(by: str, replaced: bool) -> None:
    graph, heaviest = stars(COPIES, DEGREE), int(WEIGHTS.argmax())
    dst = torch.arange(COPIES)
    pairs = torch.stack([COPIES + dst * DEGREE + heaviest, dst])
    sampler = ops.Sampler(graph, [1], edge_weight=WEIGHTS.repeat(COPIES), replace=replaced)
    counts = torch.zeros(DEGREE, dtype=torch.float64)
    for at in range(DRAWS // COPIES):
        found = sampler(dst, (5, 0, at), exclude=pairs)
        assert isinstance(found, Sampled)
        counts += torch.bincount(found.e_id % DEGREE, minlength=DEGREE)
    p = WEIGHTS.double().index_fill(0, torch.tensor([heaviest]), 0)
    p = p / p.sum()
    assert counts[heaviest] == 0 and counts.sum() == DRAWS
    assert within_4_sigma(counts / DRAWS, p, (p * (1 - p)).sqrt() + 1e-3)


def test_as_many_are_drawn_as_are_left(by: str) -> None:
    graph = stars(3, 15)
    pairs = torch.stack([torch.tensor([3, 18, 19]), torch.tensor([0, 1, 1])])
    for k, want in ((20, [14, 13, 15]), (14, [14, 13, 14]), (13, [13, 13, 13]), (-1, [14, 13, 15])):
        found = homogeneous(graph, torch.arange(3), [k], exclude=pairs)
        assert found.by_dst.indptr.diff().tolist() == want
    every = torch.stack([torch.arange(15) + 3, torch.zeros(15, dtype=torch.int64)])
    options: list[dict[str, Any]] = [
        {}, {"replace": True}, {"method": "labor"}, {"edge_weight": torch.ones(45)},
        {"edge_weight": torch.ones(45), "replace": True}, {"subgraph_type": "induced"},
    ]  # fmt: skip
    for option in options:
        assert not len(homogeneous(graph, torch.tensor([0]), [5], exclude=every, **option).e_id)


def test_left_out_edges_of_several_relations(by: str) -> None:
    graph = academic()
    ends = graph[WRITES].edge_index()
    seeds = {"paper": ends[1, :30], "author": ends[0, :30]}
    exclude = {WRITES: ends[:, :30], OF: ends[:, :30].flip(0)}
    found = heterogeneous(graph, seeds, [-1, -1], exclude=exclude)
    for relation, part in graph.items():
        pairs = exclude.get(relation)
        rest = torch.arange(part.num_edges) if pairs is None else rest_of(part, pairs)
        assert torch.isin(found.e_id[relation], rest).all()
        ptr = found.by_dst[relation].indptr
        rows = found.n_id[relation[2]][: len(ptr) - 1]
        want = torch.bincount(part.edge_index()[1, rest], minlength=part.num_dst)
        assert torch.equal(ptr.diff(), want[rows])
    assert len(found.e_id[WRITES]) and len(found.e_id[OF])


# -- several relations -----------------------------------------------------------------------------

CITES, WRITES, OF = ("paper", "cites", "paper"), ("author", "writes", "paper"), (
    "paper", "by", "author",
)  # fmt: skip


def academic() -> dict[tuple[str, str, str], Graph]:
    random = torch.Generator().manual_seed(0)

    def drawn(src: int, dst: int, count: int) -> Graph:
        ends = torch.stack(
            [torch.randint(max(1, n), (count,), generator=random) for n in (src, dst)]
        )
        return Graph.from_edge_index(ends, num_src=src, num_dst=dst)

    return {
        CITES: drawn(200, 200, 2000),
        WRITES: drawn(80, 200, 900),
        OF: drawn(200, 80, 900),
        ("venue", "has", "paper"): drawn(0, 200, 0),
    }


HETERO: dict[str, Any] = {
    "plain": {},
    "disjoint": {"disjoint": True},
    "labor": {"method": "labor"},
    "induced": {"subgraph_type": "induced"},
    "replace": {"replace": True},
}


@pytest.mark.parametrize("name", HETERO)
def test_several_relations(name: str) -> None:
    graph, options = academic(), HETERO[name]
    lists = {CITES: [3, 2], WRITES: [2, 0], OF: [0, 4], ("venue", "has", "paper"): [1, 1]}
    seeds = {"author": torch.tensor([3, 3, 79]), "paper": torch.tensor([1, 199])}
    for fanout in (lists, [3, -1]):
        results: list[HeteroSampled] = []
        for way in WAYS:
            with served(way):
                results.append(heterogeneous(graph, seeds, fanout, (0, 1, 2), **options))
        found = results[0]
        assert all(same(found, other) for other in results[1:])
        assert list(found.n_id) == ["paper", "author", "venue"] and len(found.n_id["venue"]) == 0
        for kind, ids in found.n_id.items():
            given_seeds = seeds.get(kind, torch.empty(0, dtype=torch.int64))
            assert torch.equal(ids[: len(given_seeds)], given_seeds)
            assert found.num_sampled_nodes[kind][0] == len(given_seeds)
            assert sum(found.num_sampled_nodes[kind]) == len(ids)
        for relation, part in graph.items():
            ends, local = part.edge_index(), found.e_id[relation]
            sub = found.graph[relation]
            assert (sub.num_src, sub.num_dst) == tuple(
                len(found.n_id[relation[end]]) for end in (0, 2)
            )
            assert torch.equal(found.n_id[relation[0]][found.row[relation]], ends[0][local])
            assert torch.equal(found.n_id[relation[2]][found.col[relation]], ends[1][local])
            if found.num_sampled_edges is not None:
                assert sum(found.num_sampled_edges[relation]) == len(local)
        if isinstance(fanout, dict) and found.num_sampled_edges is not None:
            assert found.num_sampled_edges[OF][0] == 0 == found.num_sampled_edges[WRITES][1]
        if found.batch is not None:
            # trees are numbered in the order of the dict of seeds
            assert found.batch["author"][:3].tolist() == [0, 1, 2]
            assert found.batch["paper"][:2].tolist() == [3, 4]
        blocks = found.blocks(transpose=True)
        assert len(blocks) == 2
        if name != "induced":
            assert blocks[1][CITES].num_dst == 2 and blocks[1][OF].num_dst == 3


def test_one_relation_in_a_dict_draws_as_without(by: str) -> None:
    graph = random_graph()
    seeds = torch.arange(20)
    alone = homogeneous(graph, seeds, [5, 5])
    relation = ("node", "to", "node")
    inside = heterogeneous({relation: graph}, {"node": seeds}, [5, 5])
    assert torch.equal(inside.n_id["node"], alone.n_id)
    assert same(inside.graph[relation], alone.graph)


def test_times_of_several_relations(by: str) -> None:
    graph = academic()
    random = torch.Generator().manual_seed(1)
    year = torch.randint(1990, 2020, (200,), generator=random)
    node_time = {"paper": year, "author": None, "venue": None}
    seeds = {"paper": torch.arange(40), "author": torch.arange(5)}
    seed_time = {"author": torch.full((5,), 2005)}
    found = heterogeneous(graph, seeds, [4, 4, 4], node_time=node_time, seed_time=seed_time)
    assert found.batch is not None
    now = torch.cat([year[:40], seed_time["author"]])
    assert (year[found.n_id["paper"]] <= now[found.batch["paper"]]).all()
    assert len(found.n_id["paper"]) > 100
    edge_time: dict[Any, Any] = dict.fromkeys(graph)
    edge_time[CITES] = torch.randint(100, (2000,), generator=random)
    late = heterogeneous(graph, {"paper": torch.arange(9)}, [5, 5], edge_time=edge_time,
                         seed_time={"paper": torch.full((9,), 40)})  # fmt: skip
    assert (edge_time[CITES][late.e_id[CITES]] <= 40).all()
    assert len(late.e_id[CITES]) and len(late.e_id[WRITES])


# -- sizes and bad input ---------------------------------------------------------------------------


def test_empty_seeds_and_lonely_nodes(by: str) -> None:
    graph = Graph.from_edge_index(torch.tensor([[0], [1]]), 5)
    none = homogeneous(graph, torch.empty(0, dtype=torch.int64), [3, 3])
    assert (len(none.n_id), len(none.e_id), none.num_sampled_nodes) == (0, 0, [0, 0, 0])
    assert [block.num_edges for block in none.blocks(transpose=True)] == [0, 0]
    alone = homogeneous(graph, torch.tensor([4, 1], dtype=torch.int32), [3, 3], replace=True)
    assert alone.n_id.tolist() == [4, 1, 0] and alone.num_sampled_edges == [3, 0]
    assert alone.graph.by_dst.indptr.tolist() == [0, 0, 3, 3]


def test_equal_seeds_are_kept_and_draw_alike(by: str) -> None:
    found = homogeneous(random_graph(), torch.tensor([0, 1, 0]), [5])
    ptr, idx = found.graph.by_dst.indptr, found.graph.by_dst.indices
    assert idx[ptr[0] : ptr[1]].tolist() == idx[ptr[2] : ptr[3]].tolist()
    apart = homogeneous(random_graph(), torch.tensor([0, 1, 0]), [5], disjoint=True)
    assert apart.batch is not None
    first, last = (apart.e_id[apart.batch[apart.col] == tree].tolist() for tree in (0, 2))
    assert first != last


def test_hops_that_draw_nothing(by: str) -> None:
    found = homogeneous(random_graph(), torch.arange(20), [3, 0, 5])
    assert found.num_sampled_edges is not None and found.num_sampled_edges[0] > 0
    assert found.num_sampled_edges[1:] == [0, 0] and found.num_sampled_nodes[2:] == [0, 0]
    none = homogeneous(random_graph(), torch.arange(20), [0])
    assert none.n_id.tolist() == list(range(20)) and not len(none.e_id)


def test_fan_outs_beyond_every_row(by: str) -> None:
    """What is set aside follows the rows, and draws with replacement are counted."""
    graph, weight = random_graph(50, 400), torch.ones(400)
    weighted = homogeneous(graph, torch.arange(50), [2**31 - 1], edge_weight=weight)
    assert sorted(weighted.e_id.tolist()) == list(range(400))
    for options in ({}, {"edge_weight": weight}):
        for seeds, k in ((1, 2**31 - 1), (9, 2**30)):
            with pytest.raises(GraphError, match="a hop draws more than .* edges .* replacement"):
                ops.sample(graph, torch.arange(seeds), [k], replace=True, **options)


@pytest.mark.parametrize("name", ["plain", "weighted", "edge time"])
def test_samplers_can_be_pickled(by: str, name: str) -> None:
    graph = random_graph()
    options, seeds = options_of(name, graph), torch.arange(30)
    sampler, time = ops.Sampler(graph, [5, 5], **options), seed_time_of(options, 30)
    other = pickle.loads(pickle.dumps(sampler))
    assert same(sampler(seeds, seed_time=time), other(seeds, seed_time=time))


def test_offsets_beyond_32_bits(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows after the 2**31st slot of columns that are a file with a hole."""
    # the check of the range would read the hole
    monkeypatch.setattr("graphkit.ops.sample_plan.check_range", lambda *_: None)
    start, degree = 2**31 + 5, 40
    with open(tmp_path / "columns", "wb") as file:
        file.truncate(4 * (start + degree))
        file.seek(4 * start)
        file.write(torch.arange(degree, dtype=torch.int32).numpy().tobytes())
    columns = torch.from_file(str(tmp_path / "columns"), size=start + degree, dtype=torch.int32)
    # node 0 would have all that is in the hole, which is too many for a row: it is shared by two
    indptr = torch.tensor([0, 2**30, start, start + degree, *[start + degree] * 37])
    graph = Graph(Csr(indptr, columns), None, 40, 40)
    for fanout in ([10], [-1], [10, 3]):
        for options in ({}, {"replace": True}, {"method": "labor"}):
            found = homogeneous(graph, torch.tensor([2]), fanout, **options)
            mine = found.e_id[found.col == 0] - start
            assert len(mine) and torch.equal(found.n_id[found.row[found.col == 0]], mine)


def test_bad_graphs_and_options(by: str) -> None:
    graph, seeds = random_graph(10, 40), torch.tensor([1])
    bipartite = Graph.from_edge_index(torch.tensor([[0], [0]]), num_src=3, num_dst=2)
    weight, time = torch.ones(40), torch.arange(40)
    bad: list[tuple[type[Exception], Any, Any, dict[str, Any], str]] = [
        (GraphError, graph.edge_index(), [2], {}, "graph is a Tensor, but a graphkit.Graph"),
        (GraphError, bipartite, [2], {}, "3 sources and 2 destinations, but one set of nodes"),
        (GraphError, {}, [2], {}, "the dict of graphs is empty"),
        (GraphError, {"a": graph}, [2], {}, r"has the key 'a', but \(source type, relation"),
        (ConfigError, graph, [], {}, "fanout is empty, but one hop at least"),
        (ConfigError, graph, 5, {}, r"fanout is 5, but a list with a number for each hop"),
        (ConfigError, graph, [2, 2**31], {}, r"fanout\[1\] = 2147483648, but a number of neigh"),
        (ConfigError, graph, [-2], {}, r"fanout\[0\] = -2, but"),
        (ConfigError, graph, [2.0], {}, r"fanout\[0\] is 2.0, but a whole number"),
        (ConfigError, graph, {CITES: [2]}, {}, "fanout is a dict, but the graph has no relations"),
        (ConfigError, graph, [2], {"method": "labour"}, "unknown method 'labour'. Did you mean '"),
        (ConfigError, graph, [2], {"subgraph_type": "all"}, "unknown subgraph_type 'all'"),
        (ConfigError, graph, [2], {"temporal_strategy": "x"}, "unknown temporal_strategy 'x'"),
        (ConfigError, graph, [2], {"temporal_strategy": "last"}, "'last' needs node_time or edge"),
        (ConfigError, graph, [2], {"method": "labor", "replace": True}, "'labor' does not go wit"),
        (ConfigError, graph, [2], {"method": "labor", "disjoint": True}, "not go with disjoint"),
        (ConfigError, graph, [2], {"method": "labor", "edge_weight": weight}, "with edge_weight"),
        (ConfigError, graph, [2], {"layer_dependency": True}, "is an option of method='labor'"),
        (ConfigError, graph, [2],
         {"edge_time": time, "temporal_strategy": "last", "replace": True}, "have no meaning"),
        (ConfigError, graph, [2], {"edge_time": time, "node_time": time[:10]}, "got node_time an"),
        (GraphError, graph, [2], {"edge_weight": weight[1:]}, "edge_weight has 39 entries, but t"),
        (GraphError, graph, [2], {"edge_weight": [1.0]}, "edge_weight is not a one-dimensional"),
        (GraphError, graph, [2], {"edge_weight": weight * torch.nan}, r"edge_weight\[0\] = nan,"),
        (GraphError, graph, [2], {"edge_weight": -weight}, r"edge_weight\[0\] = -1.0, but"),
        (GraphError, graph, [2], {"edge_weight": weight * torch.inf}, r"edge_weight\[0\] = inf,"),
        (GraphError, graph, [2], {"edge_weight": weight * 0}, "all edges to node 0 have edge_wei"),
        (GraphError, graph, [2], {"edge_time": time[1:]}, "edge_time has 39 entries, but there a"),
        (GraphError, graph, [2], {"edge_time": time.float()}, "float32, which cannot tell seconds"),
        (GraphError, graph, [2], {"edge_time": list(range(40))}, "edge_time is not a one-dimensi"),
        (GraphError, graph, [2], {"edge_time": time.double() * torch.nan}, r"edge_time\[0\] is n"),
        (GraphError, graph, [2], {"node_time": time}, "node_time has 40 entries, but there are 10"),
        (GraphError, graph, [2], {"edge_time": time}, "seed_time is missing, and these seeds hav"),
        (GraphError, graph, [2], {"edge_time": {CITES: time}}, "edge_time is a dict, but"),
        (GraphError, graph, [2], {"edge_time": time.to("meta")}, "edge_time is on meta but the gr"),
        (GraphError, graph, [2], {"node_time": time[:10].to("meta")}, "node_time is on meta but"),
        (GraphError, graph, [2], {"edge_weight": {CITES: weight}}, "edge_weight is a dict, but"),
    ]  # fmt: skip
    for error, given_graph, fanout, options, message in bad:
        with pytest.raises(error, match=message):
            ops.sample(given_graph, seeds, fanout, **options)


def test_graphs_put_together_by_hand_are_checked(by: str) -> None:
    good = random_graph(10, 40).by_dst
    eid = torch.arange(40)
    ptr = good.indptr.clone()
    ptr[3], ptr[4] = 30, 2
    wrong = {at: good.indices.clone().index_fill_(0, torch.tensor([7]), at) for at in (-1, 10)}
    for side, message in (
        (Csr(good.indptr, wrong[10]), r"graph: indices\[7\] = 10, but the graph has 10 sources"),
        (Csr(good.indptr, wrong[-1]), r"indices\[7\] = -1, but"),
        (Csr(good.indptr, good.indices.float()), "indices is torch.float32 of shape"),
        (Csr(good.indptr.int(), good.indices), "indptr is torch.int32 of shape"),
        (Csr(good.indptr + 1, good.indices), "indptr starts at 1 and ends at 41"),
        (Csr(ptr, good.indices), "falls after position 3"),
        (Csr(good.indptr[1:], good.indices), "indptr has 10 entries, but 10 destinations need 11"),
        (Csr(good.indptr, good.indices, eid[1:]), "eid has 39 entries, not 40"),
    ):
        with pytest.raises(GraphError, match=message):
            ops.Sampler(Graph(side, None, 10, 10), [2])
    named = {CITES: Graph(Csr(good.indptr, wrong[10]), None, 10, 10)}
    with pytest.raises(GraphError, match=r"graph\[\('paper', 'cites', 'paper'\)\]: indices"):
        ops.Sampler(named, [2])


def test_bad_seeds(by: str) -> None:
    graph, time = random_graph(10, 40), torch.arange(40)
    for seeds, message in (
        ([1], "seeds has list, but a one-dimensional"),
        (torch.tensor([[1]]), r"seeds has shape \[1, 1\]"),
        (torch.tensor([1.0]), r"seeds has dtype torch.float32.*seeds.long\(\)"),
        (torch.tensor([True]), "dtype torch.bool.*mask.nonzero"),
        (torch.tensor([0, 10]), r"seeds\[1\] = 10, but there are 10 nodes \(valid: 0 to 9\)"),
        (torch.tensor([3, 2, -1]), r"seeds\[2\] = -1, but"),
        (torch.tensor([1], device="meta"), "seeds is on meta but the graph is on cpu"),
        ({"node": torch.tensor([1])}, "seeds is a dict, but the graph has one type"),
    ):
        with pytest.raises(GraphError, match=message):
            ops.sample(graph, seeds, [2])  # pyright: ignore[reportArgumentType]
    one = torch.tensor([1])
    for key in (3, (1, 2), (1, 2, -1), (1, 2, 0.5), (1, 2, 2**63), (True, 0, 0)):
        with pytest.raises(ConfigError, match="key is|of key is"):
            ops.sample(graph, one, [2], key)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="seed_time is of no use"):
        ops.sample(graph, one, [2], seed_time=one)
    for now, message in (
        (torch.tensor([1, 2]), "seed_time has 2 entries, but there are 1 seeds"),
        (torch.tensor([1.0], dtype=torch.float64), "the times of the graph are whole numbers"),
        (torch.tensor([1.0]), "seed_time has dtype torch.float32, which cannot tell seconds"),
        (torch.tensor([1], device="meta"), "seed_time is on meta but the graph is on cpu"),
    ):
        with pytest.raises(GraphError, match=message):
            ops.sample(graph, one, [2], edge_time=time, seed_time=now)


def test_bad_lists_of_batches(by: str) -> None:
    sampler, one = ops.Sampler(random_graph(10, 40), [2]), torch.tensor([1])
    with pytest.raises(ConfigError, match="keys has 1 entries, but there are 2 batches of seeds"):
        sampler.many([one, one], [(0, 0, 0)])
    keys = [(0, 0, 0), (0, 0, 1)]
    with pytest.raises(ConfigError, match="seed_time has 1 entries, but there are 2 batches"):
        sampler.many([one, one], keys, seed_time=[None])
    with pytest.raises(ConfigError, match="exclude has 3 entries, but there are 2 batches"):
        sampler.many([one, one], keys, exclude=[None] * 3)
    with pytest.raises(GraphError, match=r"seeds\[0\] = 11, but there are 10 nodes"):
        sampler.many([one, one + 10], keys)
    again = ops.Sampler(random_graph(10, 40), [2**31 - 1], replace=True)
    with pytest.raises(GraphError, match="a hop draws more than"):
        again.many([torch.empty(0, dtype=torch.int64), one], keys)


def test_bad_pairs_to_leave_out(by: str) -> None:
    sampler, one = ops.Sampler(random_graph(10, 40), [2]), torch.tensor([1])
    for pairs, message in (
        ([[0], [1]], r"exclude has list, but a torch.Tensor \[2, m\] of sources and dest"),
        (torch.tensor([0, 1]), r"exclude has shape \[2\]"),
        (torch.zeros(3, 2, dtype=torch.int64), r"exclude has shape \[3, 2\]"),
        (torch.zeros(2, 3), r"exclude\[0\] has dtype torch.float32"),
        (torch.tensor([[0, 10], [1, 1]]), r"exclude\[0\]\[1\] = 10, but there are 10 nodes"),
        (torch.tensor([[0], [-1]]), r"exclude\[1\]\[0\] = -1, but"),
        (torch.zeros(2, 1, dtype=torch.int64, device="meta"), "is on meta but the graph is on cpu"),
        ({CITES: torch.tensor([[0], [1]])}, "exclude is a dict, but the graph has no relations"),
    ):
        with pytest.raises(GraphError, match=message):
            sampler(one, exclude=pairs)  # pyright: ignore[reportArgumentType]
    several, seeds = ops.Sampler(academic(), [2]), {"paper": one}
    with pytest.raises(GraphError, match="exclude is a Tensor, but a dict from relations"):
        several(seeds, exclude=torch.tensor([[0], [1]]))
    with pytest.raises(ConfigError, match="exclude names the relation .'a', 'b', 'c'.*Did you|exc"):
        several(seeds, exclude={("a", "b", "c"): torch.tensor([[0], [1]])})
    with pytest.raises(GraphError, match=r"exclude\[.*writes.*\]\[0\]\[0\] = 80, but there are 80"):
        several(seeds, exclude={WRITES: torch.tensor([[80], [1]])})


def test_bad_relations(by: str) -> None:
    graph = academic()
    seeds = {"paper": torch.tensor([1])}
    other = {**graph, ("paper", "x", "paper"): random_graph(10, 4)}
    lists = {name: [2] for name in graph}
    some_time = {"paper": torch.arange(200)}
    of_edges = {name: part.by_dst.indices.long() for name, part in graph.items()}
    bad: list[tuple[type[Exception], Any, Any, Any, dict[str, Any], str]] = [
        (GraphError, other, seeds, [2], {}, "10 nodes of type 'paper', but a relation before it"),
        (ConfigError, graph, seeds, {**lists, ("a", "b", "c"): [2]}, {}, "fanout names the relat"),
        (ConfigError, graph, seeds, {CITES: [2]}, {}, "fanout lacks the relation .'author'"),
        (ConfigError, graph, seeds, {**lists, OF: [2, 2]}, {}, "the lists of fanout differ in le"),
        (GraphError, graph, seeds["paper"], [2], {}, "seeds is a Tensor, but a dict from types"),
        (GraphError, graph, {"papers": seeds["paper"]}, [2], {}, "names the type 'papers'.*Did y"),
        (GraphError, graph, {"venue": torch.tensor([0])}, [2], {}, r"0 nodes \(valid: none\)"),
        (GraphError, graph, seeds, [2], {"node_time": some_time}, "node_time lacks the type 'aut"),
        (GraphError, graph, seeds, [2], {"node_time": some_time["paper"]}, "node_time must be a"),
        (ConfigError, graph, seeds, [2], {"node_time": {"x": None}}, "node_time names the type '"),
        (GraphError, graph, seeds, [2], {"edge_time": {CITES: None}}, "edge_time lacks the relat"),
        (GraphError, graph, seeds, [2], {"edge_weight": torch.ones(3)}, "edge_weight must be a d"),
        (ConfigError, graph, seeds, [2], {"edge_weight": {("a", "b", "c"): 1}}, "names the relat"),
        (GraphError, graph, seeds, [2],
         {"edge_time": {**of_edges, CITES: torch.zeros(2000, dtype=torch.float64)}},
         "some times are whole numbers and others floating-point"),
    ]  # fmt: skip
    for error, given_graph, given_seeds, fanout, options, message in bad:
        with pytest.raises(error, match=message):
            ops.sample(given_graph, given_seeds, fanout, **options)
