"""Sets in OGB's raw layouts, read here and by ogb itself."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ogb
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ogb.graphproppred import PygGraphPropPredDataset
from ogb.io.read_graph_raw import read_csv_graph_raw
from ogb.linkproppred import PygLinkPropPredDataset
from ogb.nodeproppred import PygNodePropPredDataset
from ogb_sets import (
    ARRAYS,
    PARTS,
    files_of,
    table,
    write_link,
    write_mag,
    write_npz,
    write_split,
)

from graphkit.data import card, cards, load
from graphkit.data.assemble import assemble
from graphkit.data.readers import READERS
from graphkit.data.readers.ogb import read_ogb_graph, read_ogb_link, read_ogb_node
from graphkit.data.readers.ogb_hetero import read_ogb_hetero
from graphkit.data.readers.ogb_npz import read_ogb_npz

# ogb gives torch what pandas marks as read-only, and sets InMemoryDataset.data
pytestmark = [
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable"),
    pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"),
    pytest.mark.filterwarnings("ignore:It is not recommended to directly access"),
]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    # ogb 1.3.6 cannot read its own processed files with torch's default since 2.6
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


def meta(root: Path, **changes: str) -> dict[str, str]:
    """What ogb's classes are told about a set that is not theirs."""
    (root / "RELEASE_v1.txt").write_text("")
    return {
        **{"dir_path": str(root), "version": "1", "download_name": "tiny", "url": ""},
        **{"num tasks": "1", "num classes": "3", "eval metric": "acc", "binary": "False"},
        **{"task type": "multiclass classification", "is hetero": "False", "split": "time"},
        **{"additional node files": "None", "additional edge files": "None"},
        **{"has_node_attr": "False", "has_edge_attr": "False", "add_inverse_edge": "False"},
        **changes,
    }


@st.composite
def tiny(draw: Any, graphs: int = 1) -> dict[str, Any]:
    """Graphs of random sizes, with any of the tables that OGB's sets have."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    nodes = rng.integers(1, 7, graphs)
    edges = rng.integers(0 if graphs > 1 else 1, 9, graphs)
    edges[0] = max(edges[0], 1)
    return {
        "num-node-list": nodes,
        "num-edge-list": edges,
        "edge": rng.integers(0, np.repeat(nodes, edges)[:, None], (edges.sum(), 2)),
        **{
            name: draw(st.sampled_from([kind, None]))
            for name, kind in (
                ("node-feat", rng.normal(size=(nodes.sum(), 3))),
                ("edge-feat", rng.integers(0, 5, (edges.sum(), 2))),
                ("node_year", rng.integers(1990, 2020, (nodes.sum(), 1))),
                ("edge_weight", rng.random((edges.sum(), 1))),
            )
        },
    }


def write(root: Path, content: dict[str, Any]) -> dict[str, str]:
    """The tables below raw/, and what ogb is told about them."""
    given = {name: rows for name, rows in content.items() if rows is not None}
    for name, rows in given.items():
        table(root, f"raw/{name}.csv.gz", rows)
    return meta(
        root,
        **{
            "has_node_attr": str("node-feat" in given),
            "has_edge_attr": str("edge-feat" in given),
            "additional node files": "node_year" if "node_year" in given else "None",
            "additional edge files": "edge_weight" if "edge_weight" in given else "None",
        },
    )


def same_fields(ours: Any, theirs: Any, *fields: str) -> None:
    for field in fields:
        mine, other = ours.get(field), theirs.get(field)
        assert (mine is None) == (other is None), field
        if other is not None:
            assert mine.dtype == other.dtype and torch.equal(mine, other), field


def masks_equal(ours: Any, index: dict[str, torch.Tensor]) -> None:
    for part, key in PARTS.items():
        assert torch.equal(ours[f"{part}_mask"].nonzero().view(-1), index[key].unique())


@given(content=tiny(), inverse=st.booleans(), seed=st.integers(0, 99), gaps=st.booleans())
@settings(max_examples=12)
def test_node_sets_are_those_of_ogb(content, inverse, seed, gaps):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        told = write(root, content) | {"add_inverse_edge": str(inverse)}
        count = int(content["num-node-list"][0])
        y = rng.integers(0, 3, (count, 1)).astype(float if gaps else int)
        if gaps:
            y[0] = np.nan
        table(root, "raw/node-label.csv.gz", y if gaps else y.astype(int))
        write_split(root, count, rng)
        raw = read_ogb_node(files_of(root), inverse_edges=inverse)
        ours = assemble("node", raw, "tiny", None)
        dataset = PygNodePropPredDataset("ogbn-tiny", meta_dict=told)
        theirs = dataset[0]
        fields = ("x", "edge_index", "edge_attr", "node_year", "edge_weight")
        same_fields(ours, theirs, *fields)
        assert all(value.is_contiguous() for value in raw.tensors.values())
        assert ours.num_nodes == theirs.num_nodes == count
        assert ours.y.dtype == torch.int64
        assert torch.equal(ours.y, theirs.y.nan_to_num(-1).long().view(-1))
        masks_equal(ours, dataset.get_idx_split())


def test_many_labels_of_nodes_stay_as_in_ogb(tmp_path):
    for number, gap in enumerate((False, True)):
        root = tmp_path / str(number)
        told = write(root, {"num-node-list": [3], "num-edge-list": [1], "edge": [[0, 2]]})
        y = np.array([[0, 1], [1, 1], [0, 0]], dtype=float if gap else int)
        if gap:
            y[1, 0] = np.nan
        table(root, "raw/node-label.csv.gz", y)
        write_split(root, 3, np.random.default_rng(0))
        theirs = PygNodePropPredDataset("ogbn-tiny", meta_dict=told)[0].y
        ours = read_ogb_node(files_of(root)).tensors["y"]
        assert ours.dtype == theirs.dtype == (torch.float32 if gap else torch.int64)
        assert torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7))


@given(
    content=tiny(graphs=5),
    inverse=st.booleans(),
    seed=st.integers(0, 99),
    task=st.sampled_from(["binary classification", "many", "many with gaps", "regression"]),
)
@settings(max_examples=12)
def test_graph_sets_are_those_of_ogb(content, inverse, seed, task):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (5, 3 if "many" in task else 1)).astype(float)
    if task == "regression":
        y = rng.normal(size=(5, 1))
    if "gaps" in task:
        y[1:3, 0] = np.nan
    whole = task not in ("regression", "many with gaps")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        told = write(root, content) | {"add_inverse_edge": str(inverse)}
        told["task type"] = task if task == "regression" else "binary classification"
        table(root, "raw/graph-label.csv.gz", y.astype(int) if whole else y)
        write_split(root, 5, rng)
        regression = task == "regression"
        raw = read_ogb_graph(files_of(root), inverse_edges=inverse, regression=regression)
        ours = assemble("graph", raw, "tiny", None)
        dataset = PygGraphPropPredDataset("ogbg-tiny", meta_dict=told)
        assert len(ours) == len(dataset) == 5
        for mine, other in zip(ours, dataset, strict=True):
            same_fields(mine, other, "x", "edge_index", "edge_attr", "node_year", "edge_weight")
            assert mine.num_nodes == other.num_nodes
            label = other.y.view(-1) if task == "binary classification" else other.y
            assert mine.y.dtype == label.dtype and mine.y.shape == label.shape
            assert torch.equal(mine.y.nan_to_num(7), label.nan_to_num(7))
        masks_equal(ours.tensors, dataset.get_idx_split())


@given(
    content=tiny(),
    inverse=st.booleans(),
    legacy=st.booleans(),
    numpy=st.booleans(),
    citations=st.booleans(),
)
@settings(max_examples=12)
def test_link_sets_are_those_of_ogb(content, inverse, legacy, numpy, citations):
    count, rng = int(content["num-node-list"][0]), np.random.default_rng(0)
    parts = {}
    for part, size in (("train", 4), ("valid", 2), ("test", 3)):
        arrays = {"edge": rng.integers(0, count, (size, 2)), "year": np.full(size, 2019)}
        if part != "train":
            arrays["edge_neg"] = rng.integers(0, count, (5, 2))
        if citations:
            arrays = {
                "source_node": rng.integers(0, count, size),
                "target_node": rng.integers(0, count, size),
                "target_node_neg": rng.integers(0, count, (size, 6)),
            }
        parts[part] = {key: a if numpy else torch.from_numpy(a) for key, a in arrays.items()}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        told = write(root, content) | {"add_inverse_edge": str(inverse), "task type": "link"}
        write_link(root, parts, legacy)
        raw = read_ogb_link(files_of(root), inverse_edges=inverse)
        ours = assemble("link", raw, "tiny", None)
        dataset = PygLinkPropPredDataset("ogbl-tiny", meta_dict=told)
        theirs = dataset[0]
        same_fields(ours, theirs, "x", "edge_index", "edge_attr", "node_year", "edge_weight")
        assert ours.num_nodes == theirs.num_nodes
        split = dataset.get_edge_split()
        assert list(ours.split_edge) == list(split)
        for part, arrays in split.items():
            assert list(ours.split_edge[part]) == list(arrays)
            same_fields(ours.split_edge[part], arrays, *arrays)


def test_a_heterogeneous_set_is_that_of_ogb(tmp_path):
    write_mag(tmp_path, np.random.default_rng(0))
    extra = {"additional node files": "node_year", "additional edge files": "edge_reltype"}
    dataset = PygNodePropPredDataset(
        "ogbn-tiny", meta_dict=meta(tmp_path, **{"is hetero": "True"}, **extra)
    )
    theirs, ours = dataset[0], assemble("hetero", read_ogb_hetero(files_of(tmp_path)), "t", None)
    assert {kind: ours[kind].num_nodes for kind in ours.node_types} == theirs.num_nodes_dict
    assert ours.edge_types == list(theirs.edge_index_dict)
    for kind in ours.edge_types:
        for field in ("edge_index", "edge_reltype"):
            other = theirs[f"{field}_dict" if field == "edge_index" else field][kind]
            same_fields(ours[kind], {field: other}, field)
    paper = {"x": theirs.x_dict["paper"], "node_year": theirs.node_year["paper"]}
    same_fields(ours["paper"], paper, *paper)
    assert torch.equal(ours["paper"].y, theirs.y_dict["paper"].view(-1))
    assert "x" not in ours["author"]
    index = {part: ids["paper"] for part, ids in dataset.get_idx_split().items()}
    masks_equal(ours["paper"], index)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_binary_set_is_that_of_ogb(packed, order, tmp_path):
    arrays = {key: np.asarray(value, order=order) for key, value in ARRAYS.items()}
    write_npz(tmp_path, packed, **arrays)
    before = (tmp_path / "raw/data.npz").read_bytes()
    raw = read_ogb_npz(files_of(tmp_path))
    ours = assemble("node", raw, "tiny", None)
    dataset = PygNodePropPredDataset("ogbn-tiny", meta_dict=meta(tmp_path, binary="True"))
    theirs = dataset[0]
    for field, mine in (("edge_index", ours.edge_index), ("x", ours.x)):
        assert mine.dtype == theirs[field].dtype and torch.equal(mine, theirs[field])
    # ogb reads node_year only to drop it
    assert ours.node_year.tolist() == ARRAYS["node_year"].tolist()
    assert ours.y.tolist() == [1, -1, 0, 2]
    assert torch.equal(ours.y, theirs.y.nan_to_num(-1).long().view(-1))
    masks_equal(ours, dataset.get_idx_split())
    ours.x.zero_()
    assert (tmp_path / "raw/data.npz").read_bytes() == before


def test_half_precision_features_become_single_ones(tmp_path):
    write_npz(tmp_path, node_feat=ARRAYS["node_feat"].astype(np.float16))
    x = read_ogb_npz(files_of(tmp_path)).tensors["x"]
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.from_numpy(ARRAYS["node_feat"]).half().float())


def test_what_an_npz_does_not_pack_is_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(np.lib.format, "read_array", lambda *a, **k: pytest.fail("was read"))
    write_npz(tmp_path)
    assert read_ogb_npz(files_of(tmp_path)).tensors["x"].shape == (4, 2)


REAL = ("ogbg-molbace", "ogbg-molesol", "ogbg-molfreesolv", "ogbg-molhiv")


@pytest.mark.parametrize("name", REAL)
def test_real_molecules_are_those_of_ogbs_reader(name, local_root):
    if not (local_root / card(name).path).is_dir():
        pytest.skip(f"GRAPHKIT_DATA has no {name}")
    home = local_root / card(name).path
    ours, theirs = load(name, local_root, cache=False), read_csv_graph_raw(home / "raw", True)
    for key, field in (("x", "node_feat"), ("edge_attr", "edge_feat")):
        assert np.array_equal(ours.tensors[key], np.concatenate([g[field] for g in theirs]))
    edge_index = np.concatenate([g["edge_index"] for g in theirs], axis=1)
    assert np.array_equal(ours.edge_index, edge_index)
    sizes = [(g["num_nodes"], g["edge_index"].shape[1]) for g in theirs]
    found = zip(ours.node_ptr.diff().tolist(), ours.edge_ptr.diff().tolist(), strict=True)
    assert list(found) == sizes
    y = np.loadtxt(home / "raw/graph-label.csv.gz", ndmin=2)
    assert torch.equal(ours.y.double().view(-1, 1), torch.from_numpy(y).to(ours.y.dtype).double())
    for part, stem in PARTS.items():
        ids = np.loadtxt(home / f"split/scaffold/{stem}.csv.gz", dtype=int)
        assert np.array_equal(ours.tensors[f"{part}_mask"].nonzero().view(-1), np.sort(ids))


def test_the_real_drug_interactions_are_those_of_ogb(local_root):
    home = local_root / card("ogbl-ddi").path
    if not home.is_dir():
        pytest.skip("GRAPHKIT_DATA has no ogbl-ddi")
    ours = load("ogbl-ddi", local_root, cache=False)
    (theirs,) = read_csv_graph_raw(home / "raw", True)
    assert np.array_equal(ours.edge_index, theirs["edge_index"]) and ours.num_nodes == 4267
    for part in PARTS.values():
        # the digests of two of these files were compared by load, the third is local
        arrays = torch.load(home / f"split/target/{part}.pt", weights_only=False)
        assert list(ours.split_edge[part]) == list(arrays)
        for key, value in arrays.items():
            assert torch.equal(ours.split_edge[part][key], torch.as_tensor(value))


def test_every_card_of_ogb_agrees_with_ogbs_own_list():
    rooms = {"ogbn": "nodeproppred", "ogbl": "linkproppred", "ogbg": "graphproppred"}
    metric = {"acc": "accuracy"}
    own = [this for this in cards() if this.name.startswith("ogb")]
    assert len(own) == 15
    for this in own:
        path = Path(ogb.__file__).parent / rooms[this.name[:4]] / "master.csv"
        master = pandas.read_csv(path, index_col=0, keep_default_na=False)
        entry = master[this.name.replace("100m", "100M")]
        assert this.metric == metric.get(entry["eval metric"], entry["eval metric"])
        assert this.downloads[0].url == entry["url"]
        assert this.downloads[0].unpack == f"{entry['download_name']}/"
        assert list(this.splits) == [entry["split"]]
        assert str(this.options.get("inverse_edges", False)) == entry["add_inverse_edge"]
        expected = {f"raw/{f}.csv.gz" for key in ("node", "edge") for f in listed(entry, key)}
        flat = this.kind != "hetero"
        assert not flat or expected - set(this.files) == set()
        assert ("raw/node-feat.csv.gz" in this.files) == (
            entry["has_node_attr"] == "True" and flat and entry["binary"] == "False"
        )
        assert this.counts.get("classes", 0) in (0, int(entry.get("num classes", 0)))
        assert this.reader in READERS and this.path == f"ogb/{entry_folder(this.name)}"


def listed(entry: Any, kind: str) -> list[str]:
    names = entry[f"additional {kind} files"].split(",")
    return [] if names == ["None"] or entry["binary"] == "True" else names


def entry_folder(name: str) -> str:
    return name.replace("-", "_").replace("100m", "100M")
