from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch_geometric.data import Data, HeteroData

from graphkit import recipes
from graphkit.errors import ConfigError, DataError, GraphError
from graphkit.graph import Graph
from graphkit.nn import HETERO_MODELS, HeteroStack, SAGEConv, build_model
from graphkit.nn.inputs import with_first_rows
from graphkit.ops import Key, Sampler, spmm
from graphkit.recipes import node_mini, predict
from graphkit.recipes.layerwise import Loading, layerwise

# the package's attribute of this name is the function
MODULE = importlib.import_module("graphkit.recipes.node_mini")
CPU = torch.device("cpu")
QUICK: dict[str, Any] = dict(epochs=4, hidden=16, batch_size=16, fanout="4,3", quiet=True)
Digests = Callable[[str], dict[str, str]]


def typed() -> HeteroData:
    """Papers, whose groups their authors show, and venues without features."""
    data = HeteroData()
    y = torch.arange(90) % 3
    data["paper"].x, data["paper"].y = torch.randn(90, 5), y
    data["author"].x = torch.eye(3)[torch.arange(60) % 3] + torch.randn(60, 3) / 2
    data["venue"].num_nodes = 4
    paper, author = torch.randint(0, 90, (800,)), torch.randint(0, 60, (800,))
    kept = y[paper] == author % 3
    pairs = torch.stack([author[kept], paper[kept]])
    data["author", "writes", "paper"].edge_index = pairs
    data["paper", "by", "author"].edge_index = pairs.flip(0)
    data["venue", "prints", "paper"].edge_index = torch.stack(
        [torch.randint(0, 4, (90,)), torch.arange(90)]
    )
    part = torch.randperm(90) % 3
    for number, name in enumerate(("train", "val", "test")):
        data["paper"][f"{name}_mask"] = part == number
    return data


def weights(run: str) -> dict[str, torch.Tensor]:
    (path,) = Path(run).glob("weights-seed0.safetensors")
    return load_file(path)


def lines(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def scores(run: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines(run)]


# --- blocks and inference ---


@pytest.fixture(scope="module")
def graph() -> Graph:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(0, 150, (2, 1200), generator=generator)
    edges[:, :40] = edges[:1, :40]
    # a few nodes have no edges
    return Graph.from_edge_index(edges.unique(dim=1), 155)


@pytest.mark.parametrize("norm", [None, "batch_norm"])
@pytest.mark.parametrize("name", HETERO_MODELS)
def test_blocks_of_all_neighbours_give_the_full_forward(
    graph: Graph, name: str, norm: str | None
) -> None:
    if norm and name.startswith("acm"):
        return
    x = torch.randn(155, 12)
    model = build_model(name, 12, 16, 5, num_layers=3, norm=norm).eval()
    whole = model.of_whole(graph)
    want = model(x, graph)
    seeds = torch.randperm(155)[:30]
    found = Sampler(graph, [-1, -1, -1])(seeds)
    known = None if whole is None else whole[found.n_id]
    out = model(x[found.n_id], found.blocks(transpose=True), whole=known)
    torch.testing.assert_close(out, want[seeds], rtol=1e-4, atol=1e-5)
    out = layerwise(model, x, graph, Loading(CPU), chunk=1, whole=whole, at_once=True)
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)
    # and so do the layers one by one, in chunks of any size
    for chunk in (1, 50, 1000):
        loading = Loading(CPU, depth=2, threads=2)
        out = layerwise(model, x, graph, loading, chunk=chunk, whole=whole)
        torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)


def test_gradients_over_blocks_are_those_of_the_graph(graph: Graph) -> None:
    x = torch.randn(155, 6, dtype=torch.float64)
    seeds = torch.arange(40)
    found = Sampler(graph, [-1, -1])(seeds)
    for name in HETERO_MODELS:
        # the spread of a batch norm is that of the rows it sees
        model = build_model(name, 6, 8, 3, dropout=0.0).double().eval()
        whole = model.of_whole(graph)
        model(x, graph)[seeds].square().sum().backward()
        want = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        known = None if whole is None else whole[found.n_id]
        out = model(x[found.n_id], found.blocks(transpose=True), whole=known)
        out.square().sum().backward()
        for p, grad in zip(model.parameters(), want, strict=True):
            torch.testing.assert_close(p.grad, grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("aggr", ["mean", "max"])
def test_the_first_rows_of_a_block_get_their_gradient(graph: Graph, aggr: str) -> None:
    found = Sampler(graph, [-1])(torch.arange(40))
    block = found.blocks(transpose=True)[0]
    conv = SAGEConv(6, 5, aggr=aggr).double()
    inputs = torch.randn(block.num_src, 6, dtype=torch.float64, requires_grad=True)

    def gradients(pair: Any) -> list[Tensor]:
        x_src, x_dst = pair(inputs * 2)
        loss = conv((x_src, x_dst), block).square().sum() + x_src.sum()
        (dx,) = torch.autograd.grad(loss, inputs, create_graph=True)
        return [dx, *torch.autograd.grad(dx.square().sum(), [inputs, *conv.parameters()])]

    # through a copy there are no first rows to be seen
    want = gradients(lambda x: (x, x[:40].clone()))
    for got, expected in zip(gradients(lambda x: (x, x[:40])), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)

    def once(pair: Any) -> Tensor:
        conv(pair(inputs * 2), block).square().sum().backward()
        found, inputs.grad = inputs.grad, None
        return found

    want = once(lambda x: (x, x[:40].clone()))
    torch.testing.assert_close(once(lambda x: (x, x[:40])), want, rtol=1e-12, atol=1e-12)


def test_what_only_looks_like_first_rows_keeps_its_own_gradient(graph: Graph) -> None:
    block = Sampler(graph, [-1])(torch.arange(40)).blocks(transpose=True)[0]
    inputs = torch.randn(block.num_src, 6, dtype=torch.float64, requires_grad=True)
    x = inputs * 2
    first = with_first_rows(x, x[:40])[1]
    assert first is not None and type(first.grad_fn).__name__ == "_WithFirstRowsBackward"
    others = (x.detach()[:40], x[:80:2], x.view_as(x)[:40], x[1:41], x[:40, :5], (x * 1)[:40])
    for other in others:
        assert with_first_rows(x, other)[1] is other
    conv = SAGEConv(6, 5).double()
    (through,) = torch.autograd.grad(conv((x, x.detach()[:40]), block).sum(), inputs)
    dy = torch.ones(40, 5, dtype=torch.float64) @ conv.lin_l.weight
    degree = block.in_degree().clamp(min=1).unsqueeze(1)
    torch.testing.assert_close(through, 2 * spmm(block.t(), dy / degree))


@pytest.mark.parametrize("name", ["gcn", "gin"])
def test_sampled_sums_are_unbiased(graph: Graph, name: str) -> None:
    """4 sigma of the mean over 2,000 draws, for every node and feature."""
    x = torch.randn(155, 3, dtype=torch.float64)
    model: Any = build_model(name, 3, 8, 4, num_layers=2)
    conv = model.convs[0]
    if name == "gin":
        # the network behind the sum is not linear
        conv.nn = torch.nn.Identity()
    conv = conv.double()
    whole = conv.of_whole(graph).double()
    draws, seeds = 2000, torch.arange(155)
    sampler = Sampler(graph, [3])
    with torch.no_grad():
        want = conv(x, graph)
        total, squares = torch.zeros_like(want), torch.zeros_like(want)
        for batch in range(draws):
            found = sampler(seeds, Key(0, 0, batch))
            h = x[found.n_id]
            out = conv((h, h[:155]), found.blocks()[0], whole=whole[found.n_id])
            total, squares = total + out, squares + out * out
    mean = total / draws
    sigma = ((squares / draws - mean * mean).clamp(min=0) / draws).sqrt()
    # of 620 numbers at 4 sigma none is expected beyond, at 4.5 surely none
    assert bool(((mean - want).abs() <= 4.5 * sigma + 1e-6).all())


@pytest.mark.parametrize("name", HETERO_MODELS)
def test_typed_blocks_of_all_neighbours_give_one_result(name: str) -> None:
    mini = MODULE.read_hetero(typed(), False, False)
    widths = {kind: rows.size(1) for kind, rows in mini.x.items()}
    model = HeteroStack(
        name, list(mini.graph), mini.num_nodes, widths, 16, 3, "paper", num_layers=2
    ).eval()
    whole = model.of_whole(mini.graph)
    sampler = Sampler(mini.graph, [-1, -1])

    def outputs(seeds: torch.Tensor) -> torch.Tensor:
        found = sampler({"paper": seeds})
        x = {kind: rows[found.n_id[kind]] for kind, rows in mini.x.items()}
        known = whole and {kind: rows[found.n_id[kind]] for kind, rows in whole.items()}
        return model(x, found.blocks(transpose=True), found.n_id, known)

    want = outputs(torch.arange(90))
    some = torch.tensor([80, 3, 41])
    torch.testing.assert_close(outputs(some), want[some], rtol=1e-4, atol=1e-5)
    for chunk in (7, 500, None):
        loading, given = Loading(CPU, depth=2), {"whole": whole, "num_nodes": mini.num_nodes}
        given |= {"chunk": chunk or 1, "at_once": chunk is None}
        out = layerwise(model, mini.x, mini.graph, loading, **given)
        torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)
    # every parameter is of use
    grads = torch.autograd.grad(want.square().sum(), list(model.parameters()), allow_unused=True)
    assert all(grad is not None for grad in grads)


def test_the_mean_over_relations_by_hand() -> None:
    """R-GCN: the mean over the neighbours of each relation, and the node's own term."""
    mini = MODULE.read_hetero(typed(), False, False)
    widths = {kind: rows.size(1) for kind, rows in mini.x.items()}
    model: Any = HeteroStack("gcn", list(mini.graph), mini.num_nodes, widths, 8, 3, "paper", 1)
    model.eval()
    with torch.no_grad():
        h = model.embed(mini.x, {kind: torch.arange(n) for kind, n in mini.num_nodes.items()})
        h = {kind: rows.relu() for kind, rows in h.items()}
        at = str(model.types.index("paper"))
        want = model.roots[0][at](h["paper"])
        for number, (relation, graph) in enumerate(mini.graph.items()):
            if relation[2] != "paper":
                continue
            dense = torch.zeros(graph.num_dst, graph.num_src)
            src, dst = graph.edge_index()
            dense.index_put_((dst, src), torch.ones(graph.num_edges), accumulate=True)
            mean = dense @ h[relation[0]] / dense.sum(1, keepdim=True).clamp(min=1)
            want = want + model.convs[0][str(number)].lin_l(mean)
        out = layerwise(model, mini.x, mini.graph, Loading(CPU), chunk=50, num_nodes=mini.num_nodes)
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)


# --- the recipe ---


@pytest.mark.usefixtures("drawn")
def test_digits_are_learnt_and_the_folder_tells_all(capsys: pytest.CaptureFixture[str]) -> None:
    record = node_mini(epochs=40, seeds="0-1", hidden=64, batch_size=64, fanout=(10, 5))
    assert record.test_mean > 0.85 and record.task == "node_mini" and record.model == "sage"
    run = Path(record.run)
    for name in ("breakdown.png", "breakdown.svg", "curves.png", "weights-seed1.safetensors"):
        assert (run / name).stat().st_size > 1000
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"] == "node_mini" and config["options"]["fanout"] == "10,5"
    parts = {"wait", "forward", "backward", "evaluate", "sample", "gather", "copy"}
    for line in lines(record.run):
        assert line["seconds"].keys() == parts and min(line["seconds"].values()) >= 0
        assert line["seconds"]["forward"] > 0 and line["seconds"]["sample"] > 0
    text = capsys.readouterr().out
    for part in (
        "batches: 4 of up to 64 nodes, fanout 10,5",
        "predicted peak memory: ",
        "seconds of an epoch",
        "gather (ahead)",
        "graphkit train node_mini --seeds 0-1 --fanout 10,5 --batch-size 64 --hidden 64",
    ):
        assert part in text
    told = predict(record.run, quiet=True)
    assert told["test"] == pytest.approx(max(record.rows, key=lambda row: row.val).test, abs=2e-3)


@pytest.mark.parametrize("name", HETERO_MODELS)
def test_every_model_trains(own: Data, name: str) -> None:
    record = node_mini(data=own, model=name, **QUICK)
    losses = [line["train_loss"] for line in lines(record.run)]
    assert losses[-1] < losses[0]
    record = node_mini(data=typed(), model=name, **{**QUICK, "epochs": 15, "lr": 0.01})
    losses = [line["train_loss"] for line in lines(record.run)]
    assert losses[-1] < 0.9 * losses[0]


def test_several_types_are_learnt(capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = dict(epochs=30, hidden=16, batch_size=10, fanout="8,4", lr=0.01)
    record = node_mini(data=typed(), **options)
    assert record.test_mean > 0.7
    text = capsys.readouterr().out
    assert "90 paper, 60 author, 4 venue" in text and "3 relations" in text
    assert "graphkit predict" not in text


LEAST = {"acm-heco": 0.8, "imdb-meow": 0.34}
# each model once, each set more than once; what takes longest goes with the smaller set
PAPERS_AND_MOVIES = [
    *(("acm-heco", name) for name in ("acm-gcn", "gat", "sage")),
    *(("imdb-meow", name) for name in ("gcn", "gin")),
]


@pytest.mark.parametrize(("data", "name"), PAPERS_AND_MOVIES)
def test_papers_and_movies_are_learnt(local_data: Path, data: str, name: str) -> None:
    """Macro F1 of three classes, from 60 labels; one class for all has less than 0.25."""
    values = {**recipes.PRESETS[f"sage-{data}-mini"].values, "model": name, "seeds": "0"}
    record = node_mini(**values | {"epochs": 20}, root=str(local_data), quiet=True)
    assert record.metric == "f1" and record.test_mean > LEAST[data]


def test_features_may_be_weights_of_another_model(own: Data) -> None:
    for data in (own, typed()):
        want = scores(node_mini(data=data, **QUICK).run)
        for store in data.node_stores:
            if "x" in store:
                store.x = torch.nn.Parameter(store.x)
        assert scores(node_mini(data=data, **QUICK).run) == want


def test_bf16(own: Data) -> None:
    for data in (own, typed()):
        options = {**QUICK, "epochs": 15, "lr": 0.01}
        plain, half = node_mini(data=data, **options), node_mini(data=data, **options, amp="bf16")
        assert scores(plain.run) != scores(half.run)
        for run in (plain.run, half.run):
            losses = [line["train_loss"] for line in lines(run)]
            assert losses[-1] < 0.9 * losses[0]
        # what is kept is in full
        assert {value.dtype for value in weights(half.run).values()} == {torch.float32}


def test_the_bits_do_not_depend_on_what_is_prefetched(own: Data) -> None:
    kept = []
    for prefetch, threads, megabytes in ((0, 1, 1000.0), (1, 1, 1000.0), (6, 3, 0.01)):
        how = dict(prefetch=prefetch, prefetch_threads=threads, prefetch_mb=megabytes)
        for data in (own, typed()) if prefetch else (own,):
            record = node_mini(data=data, **QUICK, **how)
            if data is own:
                kept.append((weights(record.run), scores(record.run)))
    for some, rows in kept[1:]:
        # scores of other chunks may differ by a rounding
        assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in kept[0][1]]
        assert all(torch.equal(some[name], value) for name, value in kept[0][0].items())
    assert not [t for t in threading.enumerate() if t.name.startswith("graphkit-prefetch")]


@pytest.mark.parametrize("make", ["one type", "several"])
def test_a_run_that_is_stopped_goes_on_with_the_same_batches(
    own: Data, make: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = own if make == "one type" else typed()
    options = {**QUICK, "epochs": 6, "seeds": "0-1"}
    whole = node_mini(data=data, out="whole", **options)

    runs = importlib.import_module("graphkit.recipes.runs")
    monkeypatch.setattr(runs, "INTERVAL", 0.0)
    loop = importlib.import_module("graphkit.recipes.loop")
    run, ran = loop.Training.run, []

    def stopping(self: Any, problem: Any) -> Any:
        for epoch in run(self, problem):
            yield epoch
            ran.append(epoch.epoch)
            if len(ran) == 9:
                raise KeyboardInterrupt

    monkeypatch.setattr(loop.Training, "run", stopping)
    with pytest.raises(KeyboardInterrupt, match="1 of 2 seeds"):
        node_mini(data=data, out="stopped", **options)
    monkeypatch.setattr(loop.Training, "run", run)
    record = node_mini(data=data, resume="stopped", **options)
    assert scores("stopped") == scores("whole") and record.test_mean == whole.test_mean
    for seed in (0, 1):
        one, two = (load_file(f"{run}/weights-seed{seed}.safetensors") for run in
                    ("whole", "stopped"))  # fmt: skip
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_labor_and_all_neighbours(own: Data) -> None:
    drawn = {
        method: scores(node_mini(data=own, **QUICK, method=method).run)
        for method in ("neighbor", "labor")
    }
    assert drawn["neighbor"] != drawn["labor"]
    node_mini(data=own, **{**QUICK, "fanout": [-1]})


MEASURE = """
import sys, torch
from torch_geometric.data import Data, HeteroData
from graphkit.recipes import node_mini

def make(nodes):
    number = torch.arange(nodes)
    parts = {"train_mask": number < 100, "val_mask": number >= 200, "test_mask": number == 150}
    given = {"x": torch.randn(nodes, 16), "y": number % 5, **parts}
    edges = torch.randint(0, nodes, (2, 8 * nodes))
    if sys.argv[1] == "one type":
        return Data(**given, edge_index=edges)
    data = HeteroData({"a": given, "b": {"num_nodes": nodes}})
    data["a", "to", "b"].edge_index, data["b", "of", "a"].edge_index = edges, edges.flip(0)
    return data

options = dict(fanout="2,2", batch_size=20, epochs=1, hidden=128, chunk=4096)
options["prefetch_mb"] = float(sys.argv[2])
# the first run ever loads code
node_mini(data=make(500), quiet=True, **options)
print("peak", node_mini(data=make(60_000), **options).peak_mb)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the peak of a process is not known here")
@pytest.mark.parametrize(
    ("make", "megabytes"),
    [
        ("one type", "1000"),
        ("several", "20"),
        # processes that take seconds to begin
        pytest.param("one type", "20", marks=pytest.mark.slow),
        pytest.param("several", "1000", marks=pytest.mark.slow),
    ],
)
def test_the_predicted_memory_holds_the_scoring(make: str, megabytes: str) -> None:
    """Of all nodes, at once or in chunks, which takes far more than a step of 20 nodes."""
    line = [sys.executable, "-c", MEASURE, make, megabytes]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    found = re.search(r"process ([\d,]+) MB \+ step ([\d,]+) MB", " ".join(done.stdout.split()))
    assert done.returncode == 0 and found, done.stdout + done.stderr
    held, step = (int(text.replace(",", "")) for text in found.groups())
    grown = float(done.stdout.split("peak ")[-1]) - held
    assert 0.5 < grown / step < 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fanout": "15;10"}, "fanout is '15;10', but a number for each layer"),
        ({"fanout": "5,0"}, "fanout is '5,0'"),
        ({"fanout": ""}, "fanout is ''"),
        ({"fanout": [5, -2]}, "fanout is .5, -2."),
        ({"fanout": [True]}, "fanout is .True."),
        ({"fanout": 3}, "fanout is 3"),
        ({"model": "sagee"}, "Unknown model 'sagee'. Did you mean 'sage'"),
        ({"model": "dagnn"}, "Model 'dagnn' does not run on sampled blocks, but acm-gcn"),
        ({"method": "random"}, "method is 'random', but"),
        ({"chunk": 0}, "chunk is 0, but at least 1"),
        ({"prefetch": -1}, "prefetch is -1"),
        ({"prefetch_threads": 0}, "prefetch_threads is 0"),
        ({"prefetch_mb": 0.0}, "prefetch_mb is 0.0, but a number above 0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        node_mini(**options)
    assert not Path("runs").exists()


def test_bad_graphs_of_several_types() -> None:
    def refused(match: str, error: type[Exception] = DataError, **options: Any) -> None:
        with pytest.raises(error, match=match):
            node_mini(data=data, **{**QUICK, **options})
        assert not list(Path("runs").glob("*"))

    data = typed()
    refused("no norm and drops its input", ConfigError, norm="batch_norm")
    data["author"].y = torch.zeros(60)
    refused("2 types of nodes have labels y .paper, author.")
    data = typed()
    del data["paper"].val_mask
    refused("data.'paper'. has no val_mask")
    data = typed()
    data["author", "writes", "paper"].edge_index[1, 5] = 90
    refused(r"edge_index\[1, 5\] = 90, but the graph has 90 destinations", GraphError)
    data = typed()
    for relation in [r for r in data.edge_types if r[2] == "paper"]:
        del data[relation]
    refused("No relation leads to nodes of the type 'paper'", GraphError)
    data = typed()
    data["paper"].train_mask[:] = False
    refused("train_mask selects no node")


def test_the_recipe_is_on_the_command_line() -> None:
    assert recipes.RECIPES["node_mini"] is node_mini
    for name in ("sage-physics-mini", "sage-photo-mini", "sage-acm-heco-mini"):
        assert recipes.PRESETS[name].recipe is node_mini


def test_wrong_blocks(graph: Graph) -> None:
    model = build_model("gcn", 4, 8, 2)
    found = Sampler(graph, [2, 2])(torch.arange(5))
    x, whole = torch.randn(155, 4)[found.n_id], model.of_whole(graph)[found.n_id]
    with pytest.raises(GraphError, match="got 1 blocks for 2 layers"):
        model(x, found.blocks()[:1], whole=whole)
    with pytest.raises(GraphError, match=r"block 0 has \d+ sources, but there are 3 rows"):
        model(x[:3], found.blocks(), whole=whole)
    with pytest.raises(GraphError, match="x is a pair.*pass whole for a sampled block"):
        model(x, found.blocks())
    with pytest.raises(GraphError, match=r"whole has shape .*\], but \[\d+, 3\] is expected"):
        model(x, found.blocks(), whole=whole[:, :2])


# --- several types of nodes, checked ---


def _overlap(data: HeteroData) -> None:
    data["paper"].test_mask = data["paper"].train_mask.clone()


def _numbers(data: HeteroData) -> None:
    data["paper"].train_mask = torch.tensor([10, 20, 30])


def _nothing(data: HeteroData) -> None:
    data["paper"].val_mask = torch.zeros(90, dtype=torch.bool)


def _nan(data: HeteroData) -> None:
    data["author"].x[3, 1] = float("nan")


def _unlabelled(data: HeteroData) -> None:
    data["paper"].y[data["paper"].val_mask] = -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_overlap, r"data\['paper'\]: train_mask and test_mask share"),
        (_numbers, r"data\['paper'\]: train_mask must be bool"),
        (_nothing, r"data\['paper'\]: val_mask"),
        (_nan, r"data\['author'\]: x .*nan"),
        (_unlabelled, r"data\['paper'\]: .*val_mask"),
    ],
)
def test_data_of_several_types_is_checked(
    change: Callable[[HeteroData], None], message: str, tmp_path: Path
) -> None:
    data = typed()
    change(data)
    with pytest.raises(DataError, match=message):
        node_mini(data=data, out=str(tmp_path / "run"), **QUICK)
    assert not (tmp_path / "run").exists()


def test_reverses_are_added_once() -> None:
    data = typed()
    cites = torch.randint(0, 90, (2, 50))
    data["paper", "cites", "paper"].edge_index = cites
    data["paper", "rev_prints", "venue"].edge_index = data[
        "venue", "prints", "paper"
    ].edge_index.flip(0)
    made = MODULE.read_hetero(data, True, False).graph
    assert set(made) - set(data.edge_types) == {
        ("paper", "rev_cites", "paper"),
        ("paper", "rev_writes", "author"),
        ("author", "rev_by", "paper"),
    }
    turned = made["paper", "rev_cites", "paper"].edge_index()
    assert torch.equal(turned.unique(dim=1), cites.flip(0).unique(dim=1))


def test_types_without_nodes_pass_through_the_layers_in_chunks() -> None:
    data = typed()
    data["journal"].num_nodes = 0
    data["journal", "holds", "paper"].edge_index = torch.empty((2, 0), dtype=torch.int64)
    data["paper", "in", "journal"].edge_index = torch.empty((2, 0), dtype=torch.int64)
    mini = MODULE.read_hetero(data, False, False)
    widths = {kind: rows.size(1) for kind, rows in mini.x.items()}
    model = HeteroStack("sage", list(mini.graph), mini.num_nodes, widths, 16, 3, "paper").eval()
    whole = model.of_whole(mini.graph)
    options = dict(chunk=7, whole=whole, num_nodes=mini.num_nodes)
    parts = layerwise(model, mini.x, mini.graph, Loading(CPU), **options)
    at_once = layerwise(model, mini.x, mini.graph, Loading(CPU), at_once=True, **options)
    torch.testing.assert_close(parts, at_once)


def test_a_last_batch_of_one_node_has_a_batch_norm() -> None:
    edges = torch.stack([torch.arange(1, 65), torch.arange(64)])
    model = build_model("sage", 5, 16, 3, num_layers=2, norm="batch_norm").train()
    # node 64 has no in-edges: both blocks have one row
    batch = Sampler(Graph.from_edge_index(edges, 65), [3, 3])(torch.tensor([64]), Key())
    out = model(torch.randn(1, 5), batch.blocks(transpose=True))
    assert out.shape == (1, 3) and bool(out.isfinite().all())
