"""The models of the recipe ``link`` that read neighbours, and what the recipe does for them."""

from __future__ import annotations

import gc
import inspect
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import Digests, check_resumed, check_same_bits, make_cliques
from torch import Tensor
from torch_geometric.data import Data

from graphkit import metrics
from graphkit.cli import main
from graphkit.data import heart_negatives
from graphkit.errors import ConfigError, DataError, StoreError
from graphkit.graph import Graph
from graphkit.nn import NCNCPredictor, NCNEncoder, NCNPredictor, own_options
from graphkit.recipes import leaderboard, link, link_plots, predict
from graphkit.recipes.link import begin_with, logits, problem
from graphkit.recipes.link_mini import Neighborhoods, all_vectors
from graphkit.recipes.link_plots import hits_curve
from graphkit.recipes.linknet import ENCODERS, HEURISTICS, LINK_MODELS, link_net
from graphkit.recipes.links import (
    Division,
    NonEdges,
    count_oddities,
    joined_again,
    read_links,
)
from graphkit.store import load_tensors, save_tensors
from graphkit.structure import (
    estimated_counts,
    heuristics,
    sketch_neighborhoods,
    with_normalized,
    without_edges,
)

CPU = torch.device("cpu")
DRAW = link_plots.score_figure
QUICK: dict[str, Any] = dict(hidden=16, num_layers=1, epochs=4, batch_size=128, quiet=True)


def whole(data: Data) -> Data:
    """All links of ``data``, none held out."""
    out = joined_again(data)
    assert not hasattr(out, "split_edge")
    return out


def net(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return link_net(name, 60, None, 16, 1, 0.0, options).eval()


# what the models are


@pytest.mark.parametrize("name", LINK_MODELS)
def test_every_model_scores_pairs_of_any_shape_alike_in_both_orders(
    cliques: Data, name: str
) -> None:
    links = read_links(cliques, CPU, False)
    model = net(name)
    pairs = torch.randint(0, 60, (3, 5, 2))
    with torch.no_grad():
        h = model(None, links.graph)
        out, turned = (model.score(h, of, links.graph) for of in (pairs, pairs.flip(-1)))
        one = model.score(h, pairs[1, 2], links.graph)
        none = model.score(h, pairs[:0], links.graph)
    assert out.shape == (3, 5) and out.dtype == torch.float32 and none.shape == (0, 5)
    torch.testing.assert_close(out, turned)
    torch.testing.assert_close(one, out[1, 2])


@pytest.mark.parametrize("name", HEURISTICS)
def test_heuristics_are_their_formulas(cliques: Data, name: str) -> None:
    links = read_links(cliques, CPU, False)
    a = torch.zeros(60, 60, dtype=torch.float64)
    a[tuple(links.graph.edge_index())] = 1
    degree = a.sum(dim=0)
    weight = {"cn": torch.ones(60), "aa": 1 / degree.log(), "ra": 1 / degree}
    if name == "katz":
        dense = torch.stack([0.005**n * torch.matrix_power(a, n) for n in (1, 2, 3)]).sum(dim=0)
    elif name == "ppr":
        walks = torch.eye(60) - 0.85 * (a / degree.view(-1, 1))
        dense = 0.15 * torch.linalg.inv(walks)
        dense = dense + dense.t()
    else:
        dense = a @ torch.diag(weight[name].double()) @ a
    pairs = torch.combinations(torch.arange(60))
    got = net(name).score(torch.empty(60, 0), pairs, links.graph)
    # what is pushed misses 1e-5 times the degrees of both ends, which are up to 14
    bound = 2.8e-4 if name == "ppr" else 1e-6
    torch.testing.assert_close(got.double(), dense[tuple(pairs.t())], rtol=bound, atol=bound)


def test_a_dot_product_and_an_mlp_on_the_product() -> None:
    h, pairs = torch.randn(60, 16), torch.randint(0, 60, (9, 2))
    dot = net("gae").score(h, pairs)
    torch.testing.assert_close(dot, (h[pairs[:, 0]] * h[pairs[:, 1]]).sum(dim=1))
    mlp = net("gae", decoder="mlp")
    assert mlp.predictor is not None and net("gcn", decoder="dot").predictor is None
    torch.testing.assert_close(
        mlp.score(h, pairs), mlp.predictor(h[pairs[:, 0]] * h[pairs[:, 1]]).squeeze(1)
    )


def test_ncn_is_its_encoder_and_predictor(cliques: Data) -> None:
    links, pairs = read_links(cliques, CPU, False), torch.randint(0, 60, (20, 2))
    for name, kind in (("ncn", NCNPredictor), ("ncnc", NCNCPredictor)):
        model = net(name, use_xlin=True, predictor_dropout=0.3, predictor_edge_dropout=0.2)
        assert type(model.predictor) is kind and model.predictor.edge_dropout == 0.2
        h = model(None, links.graph)
        torch.testing.assert_close(h, model.encoder(None, links.graph))
        expected = model.predictor(h, links.graph, pairs.t())
        torch.testing.assert_close(model.score(h, pairs, links.graph), expected)
    # without neighbours it knows the product of the two vectors alone
    blind, h = net("ncn", neighbors=False), torch.randn(60, 16)
    other = Graph.from_edge_index(torch.randint(0, 60, (2, 900)), 60)
    assert torch.equal(blind.score(h, pairs, links.graph), blind.score(h, pairs, other))


@pytest.mark.parametrize("featured", [True, False])
@pytest.mark.parametrize("normalized", [True, False])
def test_buddy_is_its_encoder_and_predictor(
    cliques: Data, featured: bool, normalized: bool
) -> None:
    graph, x = read_links(cliques, CPU, False).graph, torch.randn(60, 16)
    own = {"normalized": normalized, "K": 2, "hops": 3}
    model = link_net("buddy", 60, 16 if featured else None, 16, 1, 0.0, own).eval()
    pairs = torch.randint(0, 60, (2, 20))
    counts = estimated_counts(sketch_neighborhoods(graph, hops=3), pairs)
    counts = with_normalized(counts, graph, pairs) if normalized else counts
    given = x if featured else model.vectors.weight
    z = model.encoder(model.encoder.precompute(given, graph))
    # the second time by what was kept
    for _ in range(2):
        out = model.score(model(x if featured else None, graph), pairs.t(), graph)
        torch.testing.assert_close(out, model.predictor(z, counts, pairs))


def test_buddy_reads_the_features_that_it_is_given(cliques: Data) -> None:
    """Two on one graph, one that changed in place, and nothing that nobody else holds."""
    graph, model = read_links(cliques, CPU, False).graph, link_net("buddy", 60, 16, 16, 1, 0.0)
    model = model.eval()
    first, second = torch.randn(60, 16), torch.randn(60, 16)

    def check(x: Tensor) -> None:
        expected = model.encoder(model.encoder.precompute(x, graph))
        for _ in range(2):
            assert torch.equal(model(x, graph), expected)

    for x in (first, second, first):
        check(x)
    first.mul_(2)
    check(first)
    with torch.inference_mode():
        check(torch.randn(60, 16))
    other = Graph.from_edge_index(graph.edge_index()[:, ::2], 60)
    assert not torch.equal(model(first, graph), model(first, other))
    gone = weakref.ref(second)
    del second, x
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("name", "kind"), [("ncn", NCNPredictor), ("ncnc", NCNCPredictor)], ids=["ncn", "ncnc"]
)
def test_options_of_ncn_begin_as_those_of_its_parts(name: str, kind: type[Any]) -> None:
    """Each option of the encoder and of the predictor is one of the model's, but for dropout."""
    given = own_options(name, LINK_MODELS)
    ours = {option: p.default for option, p in given.items()}
    shared = {"dropout": "predictor_dropout", "edge_dropout": "predictor_edge_dropout"}
    shared["layer_norm"] = "predictor_norm"
    settled = {"self", "in_channels", "hidden_channels", "num_layers", "num_embeddings"}
    seen = {"one_hot", "neighbors"}
    for part, names in ((NCNEncoder, {}), (kind, shared)):
        for option, p in inspect.signature(part.__init__).parameters.items():
            if option in settled or (part is NCNEncoder and option == "dropout"):
                continue
            own = names.get(option, option)
            assert ours[own] == p.default, own
            seen.add(own)
    assert set(ours) <= seen


def test_one_hot_features_are_numbers_of_learnt_vectors() -> None:
    x = torch.eye(7)[torch.arange(60) % 7]
    model = link_net("ncn", 60, 7, 16, 1, 0.0, {"one_hot": True}).eval()
    graph = Graph.from_edge_index(torch.randint(0, 60, (2, 200)), 60)
    assert torch.equal(model(x, graph), model.encoder(torch.arange(60) % 7, graph))
    with pytest.raises(ConfigError, match="one_hot is for nodes with features"):
        link_net("ncn", 60, None, 16, 1, 0.0, {"one_hot": True})


def test_two_learning_rates(cliques: Data) -> None:
    for rate in (None, 0.5, 0.0):
        model = net("ncn").at_rate(rate)
        first, last = model.parameter_groups(0.0)
        assert first.get("lr") == rate and "lr" not in last
        both = [*first["params"], *last["params"]]
        assert {id(p) for p in both} == {id(p) for p in model.parameters()}
        assert len(both) == len(list(model.parameters()))
        assert {id(p) for p in last["params"]} == {id(p) for p in model.predictor.parameters()}
        assert all(p.requires_grad == (rate != 0) for p in first["params"])
    frozen = link(data=cliques, model="ncn", encoder_lr=0.0, out="frozen", **QUICK)
    kept, _ = load_tensors(Path(frozen.run) / "weights-seed0.safetensors")
    torch.manual_seed(0)
    begun = link_net("ncn", 60, None, 16, 1, 0.5).state_dict()
    same = {name.split(".")[0]: torch.equal(kept[name], begun[name]) for name in kept}
    assert same["encoder"] and not all(torch.equal(kept[n], begun[n]) for n in kept)


# what the recipe does


def test_a_batch_norm_sees_links_and_no_links_together(cliques: Data) -> None:
    """Apart from each other it makes them alike, and BUDDY learnt nothing that holds later."""
    options: dict[str, Any] = {**QUICK, "epochs": 40, "lr": 0.02}
    record = link(data=cliques, model="buddy", dropout=0.0, **options)
    assert record.test_mean > 0.9


def test_ncn_learns_and_resumes_with_the_same_bits(cliques: Data, digests: Digests) -> None:
    options: dict[str, Any] = {**QUICK, "model": "ncn", "data": cliques}
    record = link(**{**options, "epochs": 30}, metric="hits@20", dropout=0.0)
    assert record.test_mean > 0.9
    check_resumed(link, digests, 2, **options)
    check_same_bits(link, digests, **options, model_options="edge_dropout=0.2")


def test_targets_are_not_among_the_messages_that_score_them(
    cliques: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = read_links(cliques, CPU, False)
    model = net("ncn")
    seen: list[tuple[set[Any], set[Any], set[Any]]] = []
    score = model.score

    def spy(h: Tensor, pairs: Tensor, graph: Graph) -> Tensor:
        sent, asked = (set(map(tuple, t.tolist())) for t in (graph.edge_index().t(), pairs))
        # links are the first half of those that are scored together
        links = set(map(tuple, pairs[: len(pairs) // 2].tolist()))
        seen.append((sent, links, asked - links))
        return score(h, pairs, graph)

    monkeypatch.setattr(model, "score", spy)
    options: dict[str, Any] = {**QUICK, "clip": 0.0, "amp": None, "metric": "rocauc"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    every = set(map(tuple, links.graph.edge_index().t().tolist()))
    for targets in ("remove", "keep"):
        problem(model, 0, links=links, options={**options, "targets": targets}).train(optimizer, 0)
        for edges, pairs, absent in seen:
            own = pairs | {(b, a) for a, b in pairs}
            assert pairs <= every and edges == (every - own if targets == "remove" else every)
            assert not absent & every
        assert len(seen) == 3
        seen.clear()


@pytest.mark.parametrize(("size", "sizes"), [(100, [100, 100, 100]), (357, [357]), (5000, [357])])
def test_the_last_batch_is_dropped_unless_it_is_the_only_one(
    cliques: Data, size: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    links, model = read_links(cliques, CPU, False), net("gae")
    lengths: list[int] = []
    score = model.score
    monkeypatch.setattr(model, "score", lambda h, p, g: lengths.append(len(p)) or score(h, p, g))
    options: dict[str, Any] = {"clip": 0.0, "amp": None, "metric": "rocauc", "drop_last": True}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    problem(model, 0, links=links, options={**options, "batch_size": size}).train(optimizer, 0)
    assert lengths[::2] == lengths[1::2] == sizes


def test_each_seed_divides_anew_and_predict_knows_which_was_whose(cliques: Data) -> None:
    graph = whole(cliques)
    division: dict[str, Any] = dict(resplit=True, num_val=0.1, num_test=0.2, val_negatives=2.0)
    record = link(data=graph, model="cn", seeds="3-5", metric="hits@10", **division, **QUICK)
    assert [row.split for row in record.rows] == [3, 4, 5]
    held: list[Any] = []
    table: Any = None
    for row in record.rows:
        told = predict(record.run, data=graph, seed=row.seed, out="p.csv", quiet=True)
        assert told["test"] == row.test and told["notes"] == []
        table = pd.read_csv("p.csv")
        sizes = table.groupby(["part", "label"]).size()
        assert sizes["val", 1] == 42 and sizes["val", 0] == 84 and sizes["test", 1] == 84
        held.append(set(map(tuple, table[table["label"] == 1][["source", "target"]].to_numpy())))
    assert held[0] != held[1] != held[2]
    # by the scores of the file: raw ones, as a heuristic has no probabilities
    assert (table["score"] > 1).any()
    test = table[table["part"] == "test"]
    pos, neg = (torch.tensor(test[test["label"] == n]["score"].to_numpy()) for n in (1, 0))
    assert metrics.hits_at(pos, neg, 10) == pytest.approx(record.rows[-1].test)


def test_without_resplit_all_seeds_have_one_division(cliques: Data) -> None:
    graph = whole(cliques)
    record = link(data=graph, model="aa", seeds="0-2", **QUICK)
    assert len({(row.val, row.test) for row in record.rows}) == 1
    assert all(row.split is None and row.epochs == 1 for row in record.rows)
    assert record.num_params == 0


def test_validation_links_are_messages_when_test_links_are_scored(cliques: Data) -> None:
    before = read_links(cliques, CPU, False)
    links = read_links(cliques, CPU, False, Division(valid_edges=True))
    sent = [set(map(tuple, links.seen(p).edge_index().t().tolist())) for p in ("val", "test")]
    valid = set(map(tuple, links.positive["val"].tolist()))
    assert sent[0] == set(map(tuple, before.graph.edge_index().t().tolist()))
    assert sent[1] == sent[0] | valid | {(b, a) for a, b in valid}
    pairs = links.positive["test"]
    by_hand = net("cn").score(torch.empty(60, 0), pairs, links.seen("test"))
    (got,) = logits(net("cn"), links, [pairs], {**QUICK, "amp": None}, "test")
    assert torch.equal(got, by_hand)
    edges = torch.randint(0, 60, (2, 400))
    graph = Data(edge_index=torch.cat([edges, edges.flip(0)], dim=1), num_nodes=60)
    plain = link(data=graph, model="cn", out="a", **QUICK)
    more = link(data=graph, model="cn", valid_edges=True, out="b", **QUICK)
    assert plain.val_mean == more.val_mean and plain.test_mean != more.test_mean
    assert predict("b", data=graph, quiet=True)["test"] == more.test_mean
    one_way = cliques.clone()
    one_way.edge_index = cliques.split_edge["train"]["edge"].t()
    later = read_links(one_way, CPU, False, Division(valid_edges=True)).later
    assert later is not None and later.num_edges == 357 + 21


def test_training_goes_on_from_the_weights_of_another_run(cliques: Data) -> None:
    options: dict[str, Any] = {**QUICK, "data": cliques, "seeds": "0-1"}
    first = link(model="ncn", out="first", **options)
    still: dict[str, Any] = dict(lr=1e-12, encoder_lr=0.0, start="first")
    second = link(model="ncnc", out="second", model_options="alpha=0.0", **still, **options)
    for one, other in zip(first.rows, second.rows, strict=True):
        # with alpha 0 NCNC is NCN
        assert one.test == pytest.approx(other.test, abs=1e-6)
    assert json.loads(Path("second/config.json").read_text())["options"]["start"].endswith("first")
    with pytest.raises(StoreError, match="weights-seed7.* is not there"):
        link(model="ncn", start="first", out="x", **{**options, "seeds": "7"})
    with pytest.raises(ConfigError, match=r"has a tensor \[60, 16\] for .*, but a tensor \[60"):
        link(model="ncn", start="first", out="x", **{**options, "hidden": 8})
    with pytest.raises(ConfigError, match="has nothing for predictor.xlin"):
        link(model="ncn", start="first", out="x", model_options="use_xlin=true", **options)
    assert not Path("x").exists()


def test_a_start_is_the_whole_state_of_a_model(cliques: Data) -> None:
    """What is no parameter too, such as the means of a batch norm."""
    run = link(data=cliques, model="buddy", **QUICK).run
    path = Path(run) / "weights-seed0.safetensors"
    weights, about = load_tensors(path)
    model = link_net(**about["net"])
    assert len(weights) > len(list(model.parameters()))
    begin_with(model, run, 0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    mean = next(name for name in weights if name.endswith("running_mean"))
    fewer = {name: value for name, value in weights.items() if name != mean}
    for changed, part in (
        (fewer, f"has nothing for {mean}, but"),
        ({**weights, mean: torch.zeros(3)}, rf"has a tensor \[3\] for {mean}, but"),
        (
            {**weights, "more": torch.zeros(3)},
            r"has a tensor \[3\] for more, but nothing is",
        ),
    ):
        save_tensors(path, changed, about)
        before = [value.clone() for value in model.state_dict().values()]
        with pytest.raises(ConfigError, match=part):
            begin_with(model, run, 0)
        assert all(map(torch.equal, before, model.state_dict().values()))


def test_negatives_by_targets_keep_their_source() -> None:
    links = torch.randint(0, 50, (4000, 2))
    absent = NonEdges(links, 50)
    drawn = absent.beside(links, "targets")
    assert torch.equal(drawn[:, 0], links[:, 0])
    count = torch.bincount(drawn[:, 1], minlength=50)
    assert ((count - 80).abs() < 6 * 80**0.5).all()
    joined = set(map(tuple, links.tolist()))
    assert joined & set(map(tuple, drawn.tolist())), "a target may be a link"
    few = NonEdges(torch.tensor([[0, 1]]), 50)
    assert not {(0, 1), (1, 0)} & set(map(tuple, few.beside(links, "pairs").tolist()))


# sampled neighbourhoods


@pytest.mark.parametrize("model", ["gcn", "sage", "gat", "gin", "gae"])
@pytest.mark.parametrize("featured", [True, False])
def test_with_all_neighbors_drawn_a_batch_is_the_full_pass(
    cliques: Data, model: str, featured: bool
) -> None:
    cliques.x = torch.randn(60, 5) if featured else None
    links = read_links(cliques, CPU, False)
    torch.manual_seed(0)
    made = link_net(model, 60, 5 if featured else None, 16, 2, 0.0).eval()
    near = Neighborhoods(made, links, "-1,-1", 0)
    pairs = torch.randint(0, 60, (30, 2))
    h, rows = near.encode(made, pairs, 0, 0, None)
    whole = made(links.x, links.graph)
    torch.testing.assert_close(made.score(h, rows), made.score(whole, pairs))
    torch.testing.assert_close(all_vectors(made, links, "val"), whole)
    options = {**QUICK, "amp": None}
    expected = logits(made, links, [pairs], options)[0]
    got = logits(made, links, [pairs], {**options, "fanout": "3,3"})[0]
    torch.testing.assert_close(got, expected)
    # the gradients too, of everything that is learnt
    learnt = list(made.parameters())
    grads = [
        torch.autograd.grad(value.square().sum(), learnt)
        for value in (made.score(h, rows), made.score(whole, pairs))
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_sampled_messages_leave_out_the_targets(cliques: Data) -> None:
    """Vectors of SAGE from one hop with all neighbours are those of the graph without the pairs."""
    links, made = read_links(cliques, CPU, False), net("sage")
    near = Neighborhoods(made, links, "-1", 0)
    pairs = links.positive["train"][:40]
    h, rows = near.encode(made, pairs, 0, 0, pairs)
    expected = made(None, without_edges(links.graph, pairs.t()))
    torch.testing.assert_close(h[rows], expected[pairs])
    kept, rows = near.encode(made, pairs, 0, 0, None)
    assert not torch.allclose(kept[rows], expected[pairs])


def test_a_sampled_run_learns_resumes_and_predicts(cliques: Data, digests: Digests) -> None:
    options = {**QUICK, "num_layers": 2, "data": cliques, "model": "sage", "fanout": "4,3"}
    options |= dict(targets="remove", dropout=0.0)
    record = link(**{**options, "epochs": 40}, metric="hits@20", lr=0.01)
    assert record.test_mean > 0.8
    assert predict(record.run, data=cliques, quiet=True)["test"] == record.test_mean
    assert predict(record.run, data=cliques, top=2, quiet=True)["rows"] == 120
    check_resumed(link, digests, 2, **options)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (dict(fanout="4,3"), "fanout is 4,3, but num_layers is 1"),
        (dict(fanout="0"), "fanout is '0', but a number for each layer"),
        (dict(fanout="4", model="ncn"), "ncn is not run on sampled neighbourhoods. Use one of gcn"),
        (dict(fanout="4", model="mlp"), "mlp is not run on sampled neighbourhoods"),
    ],
)
def test_fanouts_that_do_not_fit(cliques: Data, change: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        link(**{**QUICK, "data": cliques, **change})


# what links are ranked among


def test_other_scores_stand_beside_the_metric(
    cliques: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {**QUICK, "quiet": False, "resplit": True, "num_test": 0.3}
    record = link(data=whole(cliques), model="cn", seeds="0-1", metric="hits@20", **options)
    content = json.loads((Path(record.run) / "result.json").read_text())
    for row, kept in zip(record.rows, content["rows"], strict=True):
        assert list(row.beside) == ["hits@50", "hits@100", "ties"] and kept["beside"] == row.beside
        predict(record.run, data=whole(cliques), seed=row.seed, out="p.csv", quiet=True)
        table = pd.read_csv("p.csv")
        test = table[table["part"] == "test"]
        pos, neg = (torch.tensor(test[test["label"] == n]["score"].to_numpy()) for n in (1, 0))
        assert row.test == pytest.approx(metrics.hits_at(pos, neg, 20))
        for k in (50, 100):
            assert row.beside[f"hits@{k}"] == pytest.approx(metrics.hits_at(pos, neg, k))
        assert row.beside["ties"] == metrics.tie_fraction(pos, neg)
    ties = torch.tensor([100 * row.beside["ties"] for row in record.rows]).double()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "test too, %" in line]
    assert line.startswith("test too, %: hits@50 ")
    assert f", ties {ties.mean().item():.2f} ± {ties.std().item():.2f}" in line
    # as many as there are pairs for
    few = link(data=cliques, model="cn", **QUICK)
    assert list(few.rows[0].beside) == ["hits@20", "ties"]


@pytest.mark.parametrize("valid_edges", [False, True])
def test_hard_pairs_are_those_of_heart(cliques: Data, valid_edges: bool) -> None:
    cliques.x = torch.randn(60, 4)
    graph = whole(cliques)
    division = Division(heart=20, valid_edges=valid_edges)
    links = read_links(graph, CPU, False, division)
    for part in ("val", "test"):
        known = links.positive["val"].t() if part == "test" else None
        options: dict[str, Any] = dict(num_negatives=20, known=known)
        expected = heart_negatives(links.seen(part), links.positive[part], links.x, **options)
        assert torch.equal(links.negative[part], expected)
    # what comes divided is ranked by the graph alone, as OGB's sets are
    cliques.x = None
    bare = read_links(cliques, CPU, False, division)
    cliques.x = torch.randn(60, 4)
    featured = read_links(cliques, CPU, False, division)
    assert torch.equal(bare.negative["val"], featured.negative["val"])
    # a seed draws its own where it divides anew
    for resplit in (False, True):
        drawn = Division(heart=20, valid_edges=valid_edges, resplit=resplit)
        other = read_links(graph, CPU, False, drawn, seed=1)
        assert torch.equal(other.negative["val"], links.negative["val"]) is not resplit


def test_hard_pairs_of_links_by_time_may_be_links(cliques: Data) -> None:
    """Who was linked may be so again, so that all but the partner is asked about."""
    links = read_links(cliques, CPU, False, Division(heart=20), by_time=True)
    expected = heart_negatives(
        links.graph, links.positive["test"], num_negatives=20, allow_edges=True
    )
    assert torch.equal(links.negative["test"], expected)
    assert count_oddities(links)["negatives that are links"] > 0


def test_links_are_ranked_among_hard_pairs(cliques: Data) -> None:
    record = link(data=cliques, model="cn", heart=20, out="hard", **QUICK)
    easy = link(data=cliques, model="cn", metric="rocauc", **QUICK)
    assert record.metric == "mrr" and list(record.rows[0].beside) == ["hits@20", "ties"]
    negative = read_links(cliques, CPU, False, Division(heart=20)).negative["test"]
    told = predict("hard", data=cliques, out="p.csv", quiet=True)
    table = pd.read_csv("p.csv")
    test = table[table["part"] == "test"]
    pos, neg = (torch.tensor(test[test["label"] == n]["score"].to_numpy()) for n in (1, 0))
    got = torch.tensor(test[test["label"] == 0][["source", "target"]].to_numpy())
    assert torch.equal(got, negative.view(-1, 2))
    assert told["test"] == record.test_mean == pytest.approx(metrics.mrr(pos, neg.view(42, 20)))
    among = link(data=cliques, model="cn", heart=20, metric="hits@3", **QUICK)
    assert among.test_mean == pytest.approx(metrics.hits_at(pos, neg.view(42, 20), 3))
    hard = link(data=cliques, model="cn", heart=20, metric="rocauc", **QUICK)
    assert hard.test_mean < easy.test_mean


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (dict(heart=3), "heart is 3, but an even number is expected: .* Use 4"),
        (dict(heart=-2), "heart is -2, but at least 0"),
        (dict(heart=20, metric="hits@30"), "there are 20 pairs without a link .* smaller K"),
        (dict(heart=20, data="ogbl-ddi", submission="f.md"), "heart ranks links among others"),
    ],
)
def test_hard_pairs_that_do_not_fit(cliques: Data, change: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        link(**{"data": cliques, **QUICK, **change})
    assert not Path("runs").exists()


def test_hard_pairs_need_both_directions(cliques: Data) -> None:
    one_way: Any = whole(cliques)
    one_way.edge_index = one_way.edge_index[:, one_way.edge_index[0] < one_way.edge_index[1]]
    with pytest.raises(DataError, match="graph has directions, .*Add the reverse of every edge"):
        link(data=one_way, model="cn", heart=20, **QUICK)
    link(data=one_way, model="cn", heart=20, undirected=True, **QUICK)


def test_scores_that_are_not_ogbs_are_not_put_into_its_form(
    cliques: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leaderboard, "on_board", lambda data: True)
    told = []
    for heart in (0, 20):
        link(data=cliques, model="cn", heart=heart, seeds="0-1", **{**QUICK, "quiet": False})
        told.append("OGB leaderboard" in capsys.readouterr().out)
    assert told == [True, False]


# what is refused or counted


def test_oddities_are_counted(cliques: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert count_oddities(read_links(cliques, CPU, False)) == {}
    odd: Any = cliques.clone()
    parts = {part: dict(of) for part, of in cliques.split_edge.items()}
    train = parts["train"]["edge"]
    parts["train"]["edge"] = torch.cat([train, train[:4], torch.tensor([[5, 5]])])
    parts["test"]["edge_neg"] = torch.cat([parts["test"]["edge_neg"], train[:3].flip(1)])
    odd.split_edge = parts
    assert count_oddities(read_links(odd, CPU, False)) == {
        "negatives that are links": 3,
        "training links that repeat others": 4,
        "links of a node to itself": 1,
    }
    # a user's own data with negatives that are links is refused, with the count
    with pytest.raises(DataError, match=r"\['test'\]\['edge_neg'\] shares 3 pairs with"):
        link(data=odd, **QUICK)
    parts["test"]["edge_neg"] = cliques.split_edge["test"]["edge_neg"]
    link(data=odd, model="cn", **{**QUICK, "quiet": False})
    text = capsys.readouterr().out
    assert "training links that repeat others: 4" in text and "to itself: 1" in text
    assert "negatives that are links" not in text


@given(st.integers(0, 41), st.booleans())
@settings(max_examples=10, deadline=None)
def test_a_held_out_link_among_the_messages_is_refused(number: int, turned: bool) -> None:
    data: Any = make_cliques()
    pair = data.split_edge["test"]["edge"][number]
    edge = torch.stack([pair, pair.flip(0)], dim=1)
    data.edge_index = torch.cat([data.edge_index, edge], dim=1)
    first, second = pair.tolist()
    with pytest.raises(DataError, match=f"1 of 42 links of test .*example {first} to {second}:"):
        read_links(data, CPU, False)
    # of links by time, those that were links before are counted
    links = read_links(data, CPU, False, by_time=True)
    assert count_oddities(links)["held-out links that are messages, in either direction"] == 1


@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        (dict(num_val=0.6, num_test=0.5), ConfigError, "num_val and num_test are 0.6 and 0.5, but"),
        (dict(num_val=0.0001), DataError, "420 edges .* are too few for parts of"),
        (dict(val_negatives=0.0), ConfigError, "val_negatives is 0.0, but a number above 0"),
        (dict(val_negatives=1e4), DataError, "pairs without an edge are needed as negatives"),
        (dict(encoder_lr=-1.0), ConfigError, "encoder_lr is -1.0, but 0 or more"),
        (dict(targets="hide"), ConfigError, "targets is 'hide', but auto or keep or remove"),
        (dict(negatives="all"), ConfigError, "negatives is 'all', but pairs or targets"),
        (dict(resplit=1), ConfigError, "resplit is 1, but True or False"),
        (dict(model="ncn", model_options="depth=1"), ConfigError, "ncn has no option 'depth'"),
        (dict(model="ncnc", model_options="depth=x"), ConfigError, "depth of ncnc is 'x', but int"),
        (dict(model="cn", model_options="a=1"), ConfigError, "It has no options of its own"),
        (dict(model="ncn", model_options="conv=gat"), ConfigError, "conv of ncn is 'gat'"),
    ],
)
def test_options_out_of_place(
    cliques: Data, change: dict[str, Any], error: type[Exception], part: str
) -> None:
    with pytest.raises(error, match=part):
        link(**{**QUICK, "data": whole(cliques), **change})
    assert not Path("runs").exists()


def test_links_that_come_divided_are_not_divided_anew(cliques: Data) -> None:
    with pytest.raises(ConfigError, match="comes with the links to hold out.* Leave resplit out"):
        link(data=cliques, resplit=True, **QUICK)


def test_pairs_out_of_range_and_graphs_too_small(cliques: Data) -> None:
    far: Any = cliques.clone()
    far.split_edge = {part: dict(of) for part, of in cliques.split_edge.items()}
    far.split_edge["test"]["edge_neg"] = far.split_edge["test"]["edge_neg"] + 30
    with pytest.raises(DataError, match="pairs of test name nodes outside 0 to 59, the first is"):
        read_links(far, CPU, False)
    for edges in (torch.empty(2, 0, dtype=torch.int64), torch.tensor([[0, 1], [1, 0]])):
        with pytest.raises(DataError, match="edges without self-loops and duplicates are too few"):
            link(data=Data(edge_index=edges, num_nodes=60), model="ncn", **QUICK)


def test_a_graph_without_messages_is_scored(cliques: Data) -> None:
    """Links to learn from, and no edge to send messages along."""
    cliques.edge_index = torch.empty(2, 0, dtype=torch.int64)
    for model in ("ncn", "ncnc", "cn", "gae", "buddy"):
        record = link(data=cliques, model=model, out=model, **QUICK)
        assert predict(model, data=cliques, quiet=True)["test"] == record.test_mean
        # nothing has a neighbour in common with anything
        assert model != "cn" or record.test_mean == 0.5


def test_scores_that_are_nan_are_refused(cliques: Data) -> None:
    record = link(data=cliques, model="ncn", **QUICK)
    path = Path(record.run) / "weights-seed0.safetensors"
    weights, about = load_tensors(path)
    weights["encoder.vectors.weight"] = torch.full_like(weights["encoder.vectors.weight"], 3e38)
    save_tensors(path, weights, about)
    with pytest.raises(DataError, match="scores are NaN"):
        predict(record.run, data=cliques, top=1, quiet=True)


# pictures and the best new links


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.lists(st.integers(0, 9), min_size=1, max_size=50),
)
@settings(max_examples=40)
def test_the_curve_is_hits_at_each_k(positive: list[int], negative: list[int]) -> None:
    pos, neg = torch.tensor(positive).float(), torch.tensor(negative).float()
    k, hits = hits_curve(pos, neg)
    assert k[0] == 1 and k[-1] == len(neg) and (k.diff() > 0).all()
    for at, share in zip(k.tolist(), hits.tolist(), strict=True):
        assert share == pytest.approx(metrics.hits_at(pos, neg, at))
    own = neg.expand(len(pos), -1)
    for at, share in zip(*(t.tolist() for t in hits_curve(pos, own)), strict=True):
        high = (own >= pos.view(-1, 1)).sum(dim=1)
        assert share == pytest.approx((high < at).double().mean().item())


@pytest.mark.parametrize("own", [False, True])
def test_scores_are_drawn(tmp_path: Path, own: bool) -> None:
    negative = torch.randn(40, 9) if own else torch.randn(200)
    DRAW(tmp_path, torch.randn(40) + 1, negative, title="ncn on x", metric="hits@5")
    assert (tmp_path / "scores.png").stat().st_size > 10_000
    text = (tmp_path / "scores.svg").read_text()
    assert text.count("<path") > 20


def test_scores_of_the_first_seed_alone_are_kept(cliques: Data) -> None:
    links, kept = read_links(cliques, CPU, False), dict[int, tuple[Tensor, Tensor]]()
    options = {**QUICK, "clip": 0.0, "amp": None, "metric": "rocauc"}
    for seed in (4, 5):
        problem(net("cn"), seed, links=links, options=options, scores=kept).test()
    assert list(kept) == [4]


def test_scores_that_are_all_equal_are_drawn(tmp_path: Path) -> None:
    DRAW(tmp_path, torch.zeros(3), torch.zeros(4), title="cn on x", metric="mrr")
    assert (tmp_path / "scores.png").is_file()


def test_a_run_leaves_the_scores_of_its_first_seed(
    cliques: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(link_plots, "score_figure", lambda *args, **o: drawn.append((args, o)))
    record = link(data=cliques, model="ra", seeds="4-5", **QUICK)
    (((folder, positive, negative), about),) = drawn
    assert str(folder) == record.run and len(positive) == len(negative) == 42
    assert about == {"title": "ra on custom, test links of seed 4", "metric": "rocauc"}
    y = torch.cat([torch.ones(42), torch.zeros(42)])
    assert metrics.rocauc(torch.cat([positive, negative]), y) == record.test_mean


@pytest.mark.parametrize("model", ["gae", "ncn", *HEURISTICS])
@pytest.mark.parametrize("batch_size", [128, 4096])
def test_the_best_new_links_are_those_of_all_pairs(
    cliques: Data, model: str, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = link(data=cliques, model=model, **{**QUICK, "batch_size": batch_size})
    starts: list[int] = []
    push = heuristics.ppr

    def count(walker: Any, nodes: Tensor, **options: Any) -> Any:
        starts.extend(nodes.tolist())
        return push(walker, nodes, **options)

    monkeypatch.setattr(heuristics, "ppr", count)
    told = predict(record.run, data=cliques, top=3, quiet=True)
    # each node is walked from once, whatever a batch is
    assert starts == (list(range(60)) if model == "ppr" else [])
    table = pd.read_parquet(told["file"])
    assert list(table.columns) == ["source", "target", "rank", "score"]
    assert told["rows"] == len(table) == 180 and told["test"] is None
    links = read_links(cliques, CPU, False)
    weights, about = load_tensors(Path(record.run) / "weights-seed0.safetensors")
    net = link_net(**about["net"]).eval()
    net.load_state_dict(weights)
    every = torch.cartesian_prod(torch.arange(60), torch.arange(60))
    with torch.no_grad():
        out = net.score(net(None, links.graph), every, links.graph)
    scores = (out.sigmoid() if net.is_logit else out).view(60, 60).numpy().copy()
    known = np.eye(60, dtype=bool)
    for pairs in (links.graph.edge_index().t(), *links.positive.values()):
        known[pairs[:, 0], pairs[:, 1]] = known[pairs[:, 1], pairs[:, 0]] = True
    scores[known] = -np.inf
    best = -np.sort(-scores, axis=1)[:, :3]
    got = table["score"].to_numpy().reshape(60, 3)
    np.testing.assert_allclose(got, best, rtol=1e-4, atol=1e-6)
    assert (table["source"].to_numpy().reshape(60, 3) == np.arange(60)[:, None]).all()
    assert not known[table["source"], table["target"]].any()
    assert (table["rank"].to_numpy().reshape(60, 3) == [1, 2, 3]).all()
    ends = table["source"].to_numpy(), table["target"].to_numpy()
    np.testing.assert_allclose(scores[ends], table["score"], rtol=1e-4, atol=1e-6)


def test_fewer_new_links_than_asked_for_and_what_does_not_fit(cliques: Data) -> None:
    run = link(data=cliques, model="cn", **QUICK).run
    told = predict(run, data=cliques, top=100, out="p.csv", quiet=True)
    # each node is joined to the 14 others of its group
    assert told["rows"] == 60 * 45
    with pytest.raises(ConfigError, match="top is 0, but a whole number, at least 1"):
        predict(run, data=cliques, top=0, quiet=True)
    with pytest.raises(ConfigError, match="top and pairs ask for different pairs"):
        predict(run, data=cliques, top=1, pairs="p.csv", quiet=True)
    np.save("none.npy", np.empty((0, 2), dtype=np.int64))
    Path("none.csv").write_text("source,target\n")
    Path("self.csv").write_text("source,target\n3,3\n3,3\n")
    options: dict[str, Any] = dict(data=cliques, out="q.csv", quiet=True)
    assert predict(run, pairs="none.npy", **options)["rows"] == 0
    with pytest.raises(DataError, match="none.csv has a header and no rows"):
        predict(run, pairs="none.csv", **options)
    assert predict(run, pairs="self.csv", **options)["rows"] == 2


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "link", "--model", "gae", "--epochs", "1", "--hidden", "8", "--resplit"]
    words += ["--model-options", "decoder=mlp", "--encoder-lr", "0.01", "--out", "run"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "--resplit" in text and "--model-options decoder=mlp" in text
    assert main(["predict", "run", "--top", "2", "--out", "p.csv"]) == 0
    assert pd.read_csv("p.csv")["rank"].max() == 2
    more = {"gae", "buddy", "ncn", "ncnc"}
    assert set(ENCODERS) | set(HEURISTICS) | more == set(LINK_MODELS)
