"""Hypergraphs of one's own, made ones, and features for those that bring none."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data.hypergraph_data import HyperGraphData

import graphkit as gk
from graphkit.data import (
    check_hypergraph,
    label_noise_features,
    read_hypergraph,
    structural_features,
    synthetic_hypergraph,
    with_features,
    write_hypergraph,
)
from graphkit.data.features import STRUCTURAL
from graphkit.errors import ConfigError, DataError
from graphkit.interop import from_hypergraph_data, to_hypergraph_data
from graphkit.structure import from_members, to_hyperedge_index, to_members

ROOT = Path(__file__).parents[2]
TENSORS = ("x", "edge_index", "y", "train_mask", "val_mask", "test_mask", "hyperedge_weight")


def same(got: Any, want: Any) -> None:
    assert got["num_nodes"] == want["num_nodes"] and got.num_hyperedges == want.num_hyperedges
    for name in TENSORS:
        one, other = getattr(got, name, None), getattr(want, name, None)
        assert (one is None) == (other is None), name
        assert one is None or (one.dtype == other.dtype and torch.equal(one, other)), name


# --- made ones ---


def test_a_made_hypergraph_is_what_was_asked_for() -> None:
    data = synthetic_hypergraph(3000, 2000, mean_size=6, num_classes=5, num_features=20, seed=3)
    assert check_hypergraph(data, labelled=True) is data
    node, hyperedge = data.edge_index
    size = torch.bincount(hyperedge, minlength=2000)
    # geometric: mean 6, variance 6 * 5, of 2000
    assert (size.double().mean() - 6).abs() < 4 * (30 / 2000) ** 0.5
    assert abs(float((size == 1).double().mean()) - 1 / 6) < 4 * (5 / 36 / 2000) ** 0.5
    assert torch.bincount(data.y).tolist() == [600] * 5
    # four in five members are of the hyperedge's class, and a fifth of the others
    most = torch.zeros(2000, 5).index_put_((hyperedge, data.y[node]), torch.ones(1), True)
    inside = most.amax(1)[size >= 8].sum() / size[size >= 8].sum()
    assert 0.8 < inside < 0.9
    centre = torch.stack([data.x[data.y == c].mean(0) for c in range(5)])
    nearest = torch.cdist(data.x, centre).argmin(1)
    assert 0.5 < (nearest == data.y).double().mean() < 1
    parts = [int(data[f"{part}_mask"].sum()) for part in ("train", "val", "test")]
    assert parts == [1500, 750, 750] and data.num_classes == 5


def test_the_same_arguments_make_the_same_bits() -> None:
    one, same_, other = (synthetic_hypergraph(200, seed=s, num_features=4) for s in (1, 1, 2))
    same(one, same_)
    assert not torch.equal(one.edge_index, other.edge_index) and one.num_hyperedges == 200
    bare = synthetic_hypergraph(200, seed=1, num_features=0)
    assert "x" not in bare and torch.equal(bare.edge_index, one.edge_index)


@settings(max_examples=25)
@given(st.integers(4, 12), st.integers(1, 12), st.data())
def test_members_differ_however_large_hyperedges_are(nodes: int, edges: int, drawn: Any) -> None:
    mean = drawn.draw(st.floats(1, nodes))
    classes = drawn.draw(st.integers(1, nodes))
    pure = drawn.draw(st.sampled_from([0.0, 0.5, 1.0]))
    data = synthetic_hypergraph(
        nodes, edges, mean_size=mean, num_classes=classes, homophily=pure, num_features=0
    )
    pairs = data.edge_index.t().tolist()
    assert len({tuple(pair) for pair in pairs}) == len(pairs)
    assert torch.bincount(data.edge_index[1], minlength=edges).min() >= 1
    assert int(data.edge_index[0].max()) < nodes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_nodes": 3}, "num_nodes is 3, but 4 or more"),
        ({"num_edges": 0}, "num_edges is 0, but 1 or more"),
        ({"mean_size": 0.5}, "mean_size is 0.5, but 1 to 50"),
        ({"num_classes": 51}, "num_classes is 51, but 1 to 50"),
        ({"homophily": 1.5}, "homophily is 1.5, but 0 to 1"),
        ({"num_features": -1}, "num_features is -1"),
        ({"seed": -1}, "seed must lie in"),
    ],
)
def test_numbers_out_of_range(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        synthetic_hypergraph(**{"num_nodes": 50, **options})


def test_the_script_writes_what_is_read(tmp_path: Path, capsys: Any) -> None:
    main = runpy.run_path(str(ROOT / "datasets" / "make" / "hypergraph.py"))["main"]
    options = {"num_nodes": 60, "num_edges": 20, "num_features": 3, "num_classes": 2, "seed": 5}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    main([str(tmp_path / "made"), *words])
    assert "60 nodes, 20 hyperedges" in capsys.readouterr().out
    same(gk.data.load(str(tmp_path / "made")), synthetic_hypergraph(**options))


# --- features ---


def test_structural_features_against_python() -> None:
    members = [[0, 1, 2], [1], [1, 2, 3, 4], [], [0, 2]]
    count = 7
    degree = [sum(node in one for one in members) for node in range(count)]
    rows = []
    for node in range(count):
        mine = [one for one in members if node in one]
        size = torch.tensor([len(one) for one in mine], dtype=torch.float64)
        near = [[degree[other] for other in one] for one in mine]
        told = [degree[node], torch.tensor(degree[node]).double().log1p(), not mine]
        told += [size.mean(), size.min(), size.max(), size.std(correction=0)] if mine else [0] * 4
        told += [size.log().mean() if mine else 0, sum(1 / s for s in size)]
        told += [sum(sum(one) / len(one) for one in near) / len(near) if near else 0]
        told += [max(max(one) for one in near) if near else 0]
        rows.append([float(value) for value in told])
    table = torch.tensor(rows, dtype=torch.float64)
    want = (table - table.mean(0)) / table.std(0, correction=0)
    got = structural_features(from_members(members, count))
    assert got.dtype == torch.float32 and got.shape == (count, len(STRUCTURAL))
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-5)


def test_structural_features_know_no_names() -> None:
    """Other numbers of nodes permute the rows, and labels are not looked at."""
    data = synthetic_hypergraph(60, 40, num_features=0, num_classes=3)
    order = torch.randperm(60)
    moved = HyperGraphData(
        edge_index=torch.stack([order[data.edge_index[0]], data.edge_index[1]]), num_nodes=60
    )
    ours, said = with_features(data)
    theirs, _ = with_features(moved)
    torch.testing.assert_close(theirs.x[order], ours.x)
    assert "structural" in said and "none of its own" in said
    assert "x" not in data and ours.num_hyperedges == 40 and torch.equal(ours.y, data.y)
    # constant columns are 0
    regular = structural_features(from_members([[0, 1], [2, 3]]))
    assert torch.equal(regular, torch.zeros(4, len(STRUCTURAL)))


def test_features_of_ones_own_stay() -> None:
    data = synthetic_hypergraph(20, num_features=3, num_classes=2)
    for how in ("auto", "own"):
        assert with_features(data, how) == (data, "")
    forced, said = with_features(data, "structural")
    assert forced.x.size(1) == len(STRUCTURAL) and "none of its own" not in said
    with pytest.raises(DataError, match="has no features x"):
        with_features(HyperGraphData(edge_index=data.edge_index, num_nodes=20), "own")
    with pytest.raises(ConfigError, match="features is 'labels'"):
        with_features(data, "labels")  # pyright: ignore[reportArgumentType]


def test_label_noise_is_called_label_derived() -> None:
    y = torch.tensor([1, 0, -1, 2] * 500)
    x = label_noise_features(y, std=0.5, dim=6, seed=4)
    assert torch.equal(x, label_noise_features(y, std=0.5, dim=6, seed=4))
    hot = torch.zeros(2000, 6)
    hot[y >= 0, y[y >= 0]] = 1
    noise = x - hot
    assert abs(float(noise.mean())) < 0.02 and abs(float(noise.std()) - 0.5) < 0.02
    data = synthetic_hypergraph(20, num_features=3, num_classes=2)
    noisy, said = with_features(data, "label-noise", std=0.6)
    assert noisy.x.shape == (20, 100) and "label-derived" in said and "std 0.6" in said


@pytest.mark.parametrize(
    ("y", "options", "error", "message"),
    [
        (torch.tensor([0, 5]), {"std": 1, "dim": 5}, ConfigError, "dim at least 6"),
        (torch.tensor([0, 1]), {"std": -1}, ConfigError, "std is -1"),
        (torch.tensor([0.0, 1]), {"std": 1}, DataError, r"y is torch.float32 \[2\]"),
    ],
)
def test_label_noise_out_of_range(y: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        label_noise_features(y, **options)


# --- files ---


@st.composite
def hypergraphs(draw: Any) -> HyperGraphData:
    """Nodes with two classes, and maybe features, weights, masks, hyperedges without members."""
    count = draw(st.integers(4, 7))
    member = st.lists(st.integers(0, count - 1), max_size=4)
    # a csv table has at least one row
    members = draw(st.lists(member, min_size=1, max_size=5).filter(any))
    h = from_members(members, count)
    data = HyperGraphData(edge_index=to_hyperedge_index(h), num_nodes=count)
    vars(data)["num_hyperedges"] = h.num_src
    rest = draw(st.lists(st.integers(-1, 1), min_size=count - 3, max_size=count - 3))
    data.y = torch.tensor([0, 1, 0, *rest])
    number = st.floats(-9, 9, width=32)
    if draw(st.booleans()):
        cells = draw(st.lists(number, min_size=2 * count, max_size=2 * count))
        data.x = torch.tensor(cells).reshape(count, 2)
    if draw(st.booleans()):
        weight = draw(st.lists(number, min_size=h.num_src, max_size=h.num_src))
        data.hyperedge_weight = torch.tensor(weight).abs()
    part = torch.tensor([0, 1, 2, *(at % 3 if y >= 0 else -1 for at, y in enumerate(rest))])
    for at, name in enumerate(("train_mask", "val_mask", "test_mask")):
        data[name] = part == at
    return data


@settings(max_examples=30)
@given(hypergraphs())
def test_files_give_the_same_hypergraph(tmp_path_factory: Any, data: HyperGraphData) -> None:
    folder = tmp_path_factory.mktemp("own")
    for place in (folder / "tables", folder / "one.json"):
        write_hypergraph(data, place)
        got = gk.data.load(str(place))
        same(got, data)
        assert got.name in ("tables", "one") and got.num_classes == 2


@given(hypergraphs())
def test_to_graphs_and_back(data: HyperGraphData) -> None:
    del vars(data)["num_hyperedges"]
    item = from_hypergraph_data(data)
    again = from_hypergraph_data(to_hypergraph_data(item))
    assert to_members(again.graph) == to_members(item.graph)
    index = to_hyperedge_index(item.graph)
    assert torch.equal(index, data.edge_index)
    assert torch.equal(to_hypergraph_data(item).edge_index, data.edge_index)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name.replace('_', '.', 1)}").write_text(text, encoding="utf-8")
    return folder


NODES = "id,age,y,split\nann,3,yes,train\nbob,4,no,train\ncyd,5,yes,val\ndan,6,no,test\n"


def test_tables_with_names(tmp_path: Path) -> None:
    place = write(
        tmp_path,
        nodes_csv=NODES,
        members_csv="hyperedge,node\nclub,ann\nclub,bob\nclub,ann\nband,cyd\n",
    )
    data = gk.data.load(str(place))
    assert data.node_names == ["ann", "bob", "cyd", "dan"]
    assert data.hyperedge_names == ["club", "band"] and data.class_names == ["no", "yes"]
    assert data.edge_index.tolist() == [[0, 1, 2], [0, 0, 1]] and data.y.tolist() == [1, 0, 1, 0]
    assert data.x.tolist() == [[3], [4], [5], [6]]
    (tmp_path / "hyperedges.csv").write_text("id,weight\nduo,2\nband,0.5\nclub,1\n")
    (tmp_path / "graph.toml").write_text('[columns]\nhyperedge = "hyperedge"\n')
    data = gk.data.load(str(place))
    assert data.hyperedge_names == ["duo", "band", "club"] and data.num_hyperedges == 3
    assert data.hyperedge_weight.tolist() == [2, 0.5, 1]
    again = tmp_path / "again"
    write_hypergraph(data, again)
    same(gk.data.load(str(again)), data)
    unlabelled = read_hypergraph(place, labelled=None)
    assert unlabelled.y.tolist() == [-1] * 4 and "train_mask" not in unlabelled


def test_json_as_lists_of_members(tmp_path: Path) -> None:
    place = tmp_path / "trips.json"
    y = [0, 1] * 5
    place.write_text(json.dumps({"hyperedges": [[0, 1], [], [9]], "y": y, "weights": [1, 2, 3]}))
    data = gk.data.load(str(place))
    assert data.num_hyperedges == 3 and data.edge_index.tolist() == [[0, 1, 9], [0, 0, 2]]
    assert int(data.train_mask.sum()) == 6 and "x" not in data
    place.write_text(json.dumps([[0, 1], [2]]))
    bare = read_hypergraph(place, labelled=False)
    assert bare["num_nodes"] == 3 and bare.num_hyperedges == 2
    place.write_text(json.dumps({"hyperedges": {"a": [0], "b": [1]}, "num_nodes": 4}))
    named = read_hypergraph(place, labelled=False)
    assert named["num_nodes"] == 4 and named.hyperedge_names == ["a", "b"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"members_csv": "node,hyperedge\n0,0\n"}, "must hold nodes and members"),
        ({"nodes_csv": NODES, "members_csv": "node,hyperedge\neve,a\n"}, "line 2, column 'node'"),
        ({"nodes_csv": NODES, "members_csv": "node,group\nann,a\n"}, "no column 'hyperedge'"),
        ({"nodes_csv": NODES, "members_csv": "node,hyperedge\nann,\n"}, "line 2: no hyperedge"),
        ({"nodes_csv": NODES, "members_csv": "node,hyperedge\nann\n"}, "line 2: 1 fields"),
        (
            {
                **{"nodes_csv": NODES, "members_csv": "node,hyperedge\nann,b\n"},
                "hyperedges_csv": "id\na\n",
            },
            "the hyperedge 'b' is not in hyperedges.csv",
        ),
        (
            {
                **{"nodes_csv": NODES, "members_csv": "node,hyperedge\nann,a\n"},
                "hyperedges_csv": "id,weight\na,-1\n",
            },
            r"hyperedge_weight\[0\] = -1.0",
        ),
        (
            {
                **{"nodes_csv": NODES, "members_csv": "node,hyperedge\nann,a\n"},
                "hyperedges_csv": "id\na\na\n",
            },
            "Give every hyperedge one row",
        ),
    ],
)
def test_bad_tables(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        gk.data.load(str(write(tmp_path, **files)))


HIF = {"incidences": [{"node": 0, "edge": "a"}], "nodes": [{"node": 0}, {"node": 1}]}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("[", "is not valid JSON"),
        ({"edges": []}, "expected an object with 'hyperedges'"),
        ({"hyperedges": []}, "no hyperedge in members"),
        ([], "no hyperedge in members"),
        ({"hyperedges": [[0, 1], [0.5]]}, r"members\[1\] is \[0.5\]"),
        ({"hyperedges": [[0, 4]], "num_nodes": 4}, "= 4, but the graph has 4 nodes"),
        ({"hyperedges": [[0, -1]]}, "= -1, but"),
        ({"hyperedges": [[0]], "weight": [1]}, "unknown key 'weight'"),
        ({"hyperedges": [[0]], "weights": [1, 2]}, "a weight for each of 1 hyperedges"),
        ({"hyperedges": [[0]], "weights": [-1], "num_nodes": 9}, r"\[0\] = -1.0"),
        ({"hyperedges": [[0]], "y": [0, 1], "num_nodes": 4}, "'y' has 2 entries, but there are 4"),
        ({"hyperedges": [[0]], "x": [[1], [1, 2]]}, "'x' must be a list of numbers"),
        ({"hyperedges": [[0]], "x": 3}, "'x', 'y' and 'split' must be lists"),
        ({"hyperedges": [[0]], "split": ["best"]}, "in the part 'best'"),
        ({"hyperedges": 3}, "'hyperedges' must be a list"),
        ({"incidences": []}, "there is no hyperedge"),
        ({"incidences": [{"node": 0}]}, r"incidences\[0\] must have a 'node' and an 'edge'"),
        ({"incidences": 3}, "'incidences' must be a list"),
        ({**HIF, "network-type": "directed"}, "is directed"),
        ({**HIF, "edges": [{"edge": "b"}]}, "names 'a', which is not among the edges"),
        ({**HIF, "nodes": [{"node": 1}, {"node": 1}]}, r"nodes\[1\] must have a 'node' of its own"),
    ],
)
def test_bad_json(tmp_path: Path, found: Any, message: str) -> None:
    place = tmp_path / "one.json"
    place.write_text(found if isinstance(found, str) else json.dumps(found))
    with pytest.raises(DataError, match=message):
        read_hypergraph(place, labelled=False)


def test_json_has_no_place_for_several_splits(tmp_path: Path) -> None:
    data = synthetic_hypergraph(20, num_features=0, num_classes=2)
    for name in ("train_mask", "val_mask", "test_mask"):
        data[name] = data[name][:, None].repeat(1, 2)
    with pytest.raises(DataError, match="Write tables"):
        write_hypergraph(data, tmp_path / "one.json")
    write_hypergraph(data, tmp_path / "tables")
    same(gk.data.load(str(tmp_path / "tables")), data)


# --- the door ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(3, 1)}, "x has 3 rows, but there are 4 nodes"),
        ({"x": torch.tensor([[1.0], [torch.nan], [1], [1]])}, "NaN or Inf"),
        ({"y": torch.zeros(3).long()}, r"y must have shape \[4\]"),
        ({"hyperedge_weight": torch.ones(1)}, r"but floating-point \[2\] is expected"),
        ({"hyperedge_weight": torch.tensor([1.0, -1])}, "weights are finite and at least 0"),
        ({"num_hyperedges": 1}, "num_hyperedges is 1, but edge_index names 2"),
        ({"train_mask": torch.ones(4)}, "train_mask"),
    ],
)
def test_what_is_beside_the_incidences_is_checked(change: dict[str, Any], message: str) -> None:
    data = HyperGraphData(edge_index=torch.tensor([[0, 1, 2], [0, 0, 1]]), num_nodes=4)
    assert check_hypergraph(data) is data
    for name, value in change.items():
        data[name] = value
    with pytest.raises(DataError, match=message):
        check_hypergraph(data)


def test_a_hypergraph_needs_a_hyperedge_and_may_have_empty_ones() -> None:
    data = HyperGraphData(edge_index=torch.empty(2, 0).long(), num_nodes=4)
    for count in (None, 0):
        vars(data)["num_hyperedges"] = count
        with pytest.raises(DataError, match="no member|at least one"):
            check_hypergraph(data)
    vars(data)["num_hyperedges"] = 2
    assert check_hypergraph(data) is data
