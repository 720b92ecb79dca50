from __future__ import annotations

import importlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import Digests, check_resumed, check_same_bits, count_tests
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, SAGEConv

from graphkit.cli import main
from graphkit.data import evaluate, load
from graphkit.errors import ConfigError, DataError
from graphkit.graph import Graph
from graphkit.recipes import link, memory
from graphkit.recipes.link import score
from graphkit.recipes.linknet import LinkNet
from graphkit.recipes.links import NonEdges, read_links
from graphkit.recipes.loop import Training

# the package's attribute of this name is the function
MODULE = importlib.import_module("graphkit.recipes.link")
CPU = torch.device("cpu")
QUICK: dict[str, Any] = dict(hidden=16, epochs=6, batch_size=128, quiet=True)


def many(data: Data) -> Data:
    """The same with negatives of its own for each held-out link, in the form of ogbl-citation2."""
    parts: dict[str, dict[str, Tensor]] = {}
    for part, of in data.split_edge.items():
        source, target = of["edge"].t()
        parts[part] = {"source_node": source, "target_node": target}
        if part != "train":
            other = (source // 15 + 1 + torch.randint(0, 3, (8, len(source)))) % 4
            chosen = other * 15 + torch.randint(0, 15, other.shape)
            parts[part]["target_node_neg"] = chosen.t().contiguous()
    out = data.clone()
    out.split_edge = parts
    return out


@given(st.integers(2, 7), st.data())
@settings(max_examples=40)
def test_non_edges_are_all_other_pairs_each_once(num_nodes: int, data: st.DataObject) -> None:
    node = st.integers(0, num_nodes - 1)
    edges = data.draw(st.lists(st.tuples(node, node), max_size=12))
    joined = {(a, a) for a in range(num_nodes)} | set(edges) | {(b, a) for a, b in edges}
    expected = {(a, b) for a in range(num_nodes) for b in range(num_nodes)} - joined
    tensor = torch.tensor(edges, dtype=torch.int64).view(-1, 2)
    if not expected:
        with pytest.raises(DataError, match=f"join all pairs of the {num_nodes} nodes"):
            NonEdges(tensor, num_nodes)
        return
    absent = NonEdges(tensor, num_nodes)
    assert absent.free == len(expected)
    pairs = [tuple(pair) for pair in absent.pairs(torch.arange(absent.free)).tolist()]
    assert pairs == sorted(expected)
    assert {tuple(pair) for pair in absent.draw(50).tolist()} <= expected


def test_links_are_learnt_and_the_folder_tells_all(
    cliques: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {**QUICK, "epochs": 40, "quiet": False}
    record = link(data=cliques, seeds="0-1", metric="hits@20", **options)
    assert (record.task, record.data, record.model) == ("link", "custom", "sage")
    assert record.metric == "hits@20" and record.test_mean > 0.9
    config = json.loads((Path(record.run) / "config.json").read_text())
    assert config["recipe"] == "link" and config["options"]["metric"] == "hits@20"
    text = capsys.readouterr().out
    assert "60 nodes, 714 edges to send messages along, learnt vectors" in text
    assert "links: 357 training, 21 validation, 42 test" in text


@pytest.mark.parametrize("name", ["gcn", "gat", "gin", "mlp"])
def test_every_encoder_learns_from_features(cliques: Data, name: str) -> None:
    cliques.x = torch.eye(4)[torch.arange(60) // 15] + 0.1 * torch.randn(60, 4)
    record = link(data=cliques, model=name, **{**QUICK, "epochs": 20, "dropout": 0.0})
    assert record.metric == "rocauc" and record.val_mean > 0.9


def test_same_seed_same_bits_and_the_rest_of_the_program_undisturbed(
    cliques: Data, digests: Digests
) -> None:
    check_same_bits(link, digests, data=cliques, **QUICK)


@pytest.mark.parametrize("epoch", [1, 8])
def test_a_stopped_run_goes_on_with_the_same_bits(
    cliques: Data, epoch: int, digests: Digests
) -> None:
    check_resumed(link, digests, epoch, data=cliques, **QUICK)


def test_test_links_change_nothing_before_they_are_scored(cliques: Data, digests: Digests) -> None:
    first = link(data=cliques, **QUICK)
    test = cliques.split_edge["test"]
    cliques.split_edge["test"] = {key: pairs[::3].clone() for key, pairs in test.items()}
    second = link(data=cliques, **QUICK)
    assert digests(first.run) == digests(second.run)
    assert first.rows[0].val == second.rows[0].val and first.test_mean != second.test_mean


def test_messages_and_negatives_come_from_the_training_part(cliques: Data) -> None:
    links = read_links(cliques, CPU, False)
    messages = set(map(tuple, links.graph.edge_index().t().tolist()))
    train = set(map(tuple, links.positive["train"].tolist()))
    assert messages == train | {(b, a) for a, b in train}
    drawn = set(map(tuple, links.absent.draw(5000).tolist()))
    assert not drawn & messages and all(a != b for a, b in drawn)
    held = {tuple(pair) for part in ("val", "test") for pair in links.positive[part].tolist()}
    assert drawn & held, "leaving the held-out links out would tell them"


def test_the_test_links_are_scored_once_per_seed(
    cliques: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = count_tests(MODULE, monkeypatch)
    link(data=cliques, seeds="0-2", **QUICK)
    assert scored == [(0, None), (1, None), (2, None)]


def test_each_link_among_negatives_of_its_own(cliques: Data) -> None:
    links = read_links(many(cliques), CPU, False)
    assert links.negative["test"].shape == (42, 8, 2)
    assert torch.equal(links.negative["val"][:, 3, 0], links.positive["val"][:, 0])
    model = LinkNet("gcn", 60, None, 16, 2, 0.0)
    options = {**QUICK, "clip": 1.0, "amp": None, "metric": "mrr"}
    problem = MODULE.problem(model, 0, links=links, options=options)
    training = Training(model, epochs=40, patience=0, lr=0.01, weight_decay=0.0)
    with memory.threads(0):
        list(training.run(problem))
    training.finish()
    with torch.no_grad():
        assert problem.test() > 0.9


@given(st.integers(1, 40), st.integers(20, 60), st.integers(0, 2**31))
@settings(max_examples=25)
def test_scores_are_those_of_ogbs_evaluators(links: int, others: int, seed: int) -> None:
    if find_spec("ogb") is None:
        pytest.skip("ogb is not installed")
    generator = torch.Generator().manual_seed(seed)
    # few distinct values, so that some are equal
    positive = torch.randint(0, 12, (links,), generator=generator).float()
    negative = torch.randint(0, 12, (links, others), generator=generator).float()
    named = dict(y_pred_pos=positive, y_pred_neg=negative)
    mrr = evaluate("ogbl-citation2", **named)["mrr"]
    assert score("mrr", positive, negative) == pytest.approx(mrr, rel=1e-6)
    shared = dict(y_pred_pos=positive, y_pred_neg=negative[0])
    hits = evaluate("ogbl-ddi", **shared)["hits@20"]
    assert score("hits@20", positive, negative[0]) == pytest.approx(hits, rel=1e-6)
    vessel = evaluate("ogbl-vessel", **shared)["rocauc"]
    assert score("rocauc", positive, negative[0]) == pytest.approx(vessel, rel=1e-6)


@pytest.mark.parametrize(("name", "layer"), [("gcn", GCNConv), ("sage", SAGEConv)])
def test_the_model_is_that_of_ogbs_example(name: str, layer: Any) -> None:
    """PyG's layers and a plain MLP on the product of two nodes, under the same weights."""
    model = LinkNet(name, 20, None, 8, 2, 0.5).eval()
    edge_index = torch.randint(0, 20, (2, 60))
    assert model.vectors is not None
    x: Tensor = model.vectors.weight
    for number in range(2):
        theirs = layer(8, 8)
        theirs.load_state_dict(model.encoder.get_submodule(f"convs.{number}").state_dict())
        x = theirs(x.relu() if number else x, edge_index)
    first, last = (model.predictor.get_submodule(f"lins.{number}") for number in range(2))
    pairs = torch.randint(0, 20, (30, 2))
    expected = last(first(x[pairs[:, 0]] * x[pairs[:, 1]]).relu()).squeeze(1)
    h = model(None, Graph.from_edge_index(edge_index, 20))
    torch.testing.assert_close(model.score(h, pairs), expected)


@given(st.lists(st.floats(-8, 8), min_size=1, max_size=9), st.floats(-8, 8))
@settings(max_examples=30)
def test_the_loss_is_that_of_ogbs_example(logits: list[float], other: float) -> None:
    positive, negative = torch.tensor(logits).double(), torch.tensor([other]).double()
    right = positive.sigmoid().log().mean() + (1 - negative.sigmoid()).log().mean()
    torch.testing.assert_close(MODULE._loss(positive, negative), -right)


def test_gradients_are_clipped_part_by_part(cliques: Data) -> None:
    norms: list[list[float]] = []

    class Watch(torch.optim.SGD):
        def step(self, *args: Any, **options: Any) -> Any:
            parts = [[p.grad.norm() for p in m.parameters() if p.grad is not None] for m in model]
            norms.append([torch.stack(part).norm().item() for part in parts])
            return super().step(*args, **options)

    net = LinkNet("sage", 60, None, 8, 2, 0.0)
    model = list(net.children())
    links = read_links(cliques, CPU, False)
    for clip in (0.0, 1e-5):
        options = {"batch_size": 357, "clip": clip, "amp": None, "metric": "rocauc"}
        problem = MODULE.problem(net, 0, links=links, options=options)
        problem.train(Watch(net.parameters(), lr=0.0), 0)
    assert all(norm > 2e-5 for norm in norms[0])
    assert norms[1] == pytest.approx([1e-5] * 3, rel=0.2)


def test_the_options_of_a_step(cliques: Data, digests: Digests) -> None:
    runs = [{}, {"amp": "bf16"}, {"batch_size": 64}, {"clip": 1e-4}, {"weight_decay": 0.1}]
    seen = [tuple(digests(link(data=cliques, **{**QUICK, **o}).run).values()) for o in runs]
    assert len(set(seen)) == len(runs)
    one_way: Any = cliques.clone()
    one_way.edge_index = one_way.edge_index[:, one_way.edge_index[0] < one_way.edge_index[1]]
    both = read_links(one_way, CPU, True).graph
    assert both.num_edges == 2 * one_way.edge_index.size(1)


def test_one_graph_without_links_to_hold_out_is_divided(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = load("digits")
    assert main(["train", "link", "--epochs", "2", "--hidden", "8", "--seeds", "0-1"]) == 0
    text = capsys.readouterr().out
    assert "digits: 1,797 nodes" in text and "rocauc" in text
    assert "repeat:      graphkit train link --seeds 0-1 --hidden 8 --epochs 2\n" in text
    links = read_links(whole, CPU, False)
    total = sum(len(pairs) for pairs in links.positive.values())
    assert links.graph.num_edges < whole.num_edges <= 2 * total


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"model": "acm-gcn"}, ConfigError, "Unknown model 'acm-gcn'. Did you mean 'gcn'"),
        ({"batch_size": 1}, ConfigError, "batch_size is 1, but at least 2"),
        ({"clip": -1.0}, ConfigError, "clip is -1.0, but 0 or more"),
        ({"metric": "hits@0"}, ConfigError, "metric is 'hits@0', but hits@K, mrr, rocauc or ap"),
        ({"metric": "accuracy"}, ConfigError, "metric is 'accuracy'"),
        ({"metric": "hits@999"}, ConfigError, "there are 21 pairs without a link .* smaller K"),
        ({"metric": "mrr"}, ConfigError, "all links share theirs here. Use hits@K"),
        ({"root": "x"}, ConfigError, "root is 'x', but it is for data sets given by name"),
        ({"data": "mutag"}, DataError, "mutag is for graph-classification"),
        ({"submission": "form.md"}, ConfigError, "'custom' has no OGB leaderboard"),
    ],
)
def test_what_is_refused_before_anything_is_written(
    cliques: Data, options: dict[str, Any], error: type[Exception], part: str
) -> None:
    with pytest.raises(error, match=part):
        link(**{**QUICK, "data": cliques, **options})
    assert not Path("runs").exists()


def test_data_that_cannot_be_measured_on_is_refused(cliques: Data) -> None:
    leaky: Any = cliques.clone()
    held = leaky.split_edge["test"]["edge"].t()
    leaky.edge_index = torch.cat([leaky.edge_index, held, held.flip(0)], dim=1)
    with pytest.raises(DataError, match="test.*shares 42 pairs with edge_index"):
        link(data=leaky, **QUICK)
    with pytest.raises(DataError, match="no edge_index, or no nodes"):
        link(data=Data(num_nodes=3), **QUICK)
    relations = cliques.clone()
    relations.split_edge = {p: {"head": torch.ones(3)} for p in ("train", "valid", "test")}
    with pytest.raises(DataError, match="Edges with relations are not learnt"):
        read_links(relations, CPU, False)
    bare = many(cliques)
    del bare.split_edge["test"]["target_node_neg"]
    with pytest.raises(DataError, match=r"split_edge\['test'\] has no edge_neg"):
        read_links(bare, CPU, False)


def test_ogbs_drugs(local_data: Path) -> None:
    if not (local_data / "ogb" / "ogbl_ddi").is_dir():
        pytest.skip("GRAPHKIT_DATA holds no ogb/ogbl_ddi")
    links = read_links(load("ogbl-ddi", local_data), CPU, False)
    src, dst = links.graph.edge_index()
    there = torch.zeros(4267, 4267, dtype=torch.bool)
    there[src, dst] = True
    assert torch.equal(there, there.t()) and int(there.sum()) == 2_135_822
    assert links.absent.free == 4267 * 4266 - 2_135_822
    drawn, held = links.absent.draw(100_000), links.positive["test"]
    assert not there[drawn[:, 0], drawn[:, 1]].any() and not there[held[:, 0], held[:, 1]].any()
