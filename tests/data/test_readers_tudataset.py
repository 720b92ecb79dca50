from __future__ import annotations

import dataclasses
import importlib
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.datasets import TUDataset
from torch_geometric.io import read_tu_data

from graphkit.data import GraphSet, card, cards, load
from graphkit.data.cards import cards_folder, parse, tomllib
from graphkit.data.check import check_graphs
from graphkit.data.readers.tudataset import read_tudataset
from graphkit.errors import ConfigError, DataError

# the package binds the function under the module's name
loading = importlib.import_module("graphkit.data.load")

OURS = [this for this in cards() if this.reader == "tudataset"]
# equality with PyG's class takes seconds for these, loading with the card's counts does not
LARGE = ("mutagenicity", "nci1", "nci109")
SMALL = [this.name for this in OURS if any(this.files.values()) and not this.options]


def present(root: Path, name: str) -> None:
    this = card(name)
    if not all((root / this.path / file).is_file() for file in this.files):
        pytest.skip(f"the files of {name} are not below GRAPHKIT_DATA")


def pyg(root: Path, name: str, to: Path, **options: bool) -> TUDataset:
    """PyG's class of a set on a copy of the raw files, because it writes beside them."""
    shutil.copytree(root / "TUDataset" / name / "raw", to / name / "raw")
    return TUDataset(to, name, **options)


def same(ours: GraphSet, theirs: TUDataset) -> None:
    """Tensor for tensor: the blocks, where each graph begins, and single graphs."""
    block, slices = theirs._data, theirs.slices
    for key in ("x", "edge_index", "edge_attr", "y"):
        one, two = getattr(ours, key), getattr(block, key)
        assert (one is None) == (two is None), key
        if two is not None:
            assert one.dtype == two.dtype and torch.equal(one, two), key
    assert torch.equal(ours.edge_ptr, slices["edge_index"])
    assert len(ours) == len(theirs)
    assert ours.node_ptr.diff().tolist() == [graph.num_nodes for graph in theirs]
    for number in (0, len(ours) // 2, -1):
        one, two = ours[number], theirs[number]
        assert set(one.keys()) == set(two.keys()) and one.num_nodes == two.num_nodes
        assert all(torch.equal(one[k], two[k]) for k in two.keys() if k != "num_nodes")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in SMALL],
)
def test_equal_to_the_class_of_pyg(name, local_root, tmp_path):
    present(local_root, name)
    theirs = pyg(local_root, card(name).path.split("/")[1], tmp_path)
    ours = load(name, local_root, cache=False)
    same(ours, theirs)
    assert ours.num_classes == theirs.num_classes
    assert ours.num_features == theirs.num_features
    assert ours.num_edge_features == theirs.num_edge_features


@pytest.mark.parametrize(("name", "width"), [("BZR", 56), ("PROTEINS", 4)])
def test_attributes_come_on_request(name, width, local_root, tmp_path):
    present(local_root, name.lower())
    files = {file: raw(local_root, name, file) for file in card(name).files}
    ours = GraphSet(read_tudataset(files, use_node_attr=True, use_edge_attr=True).tensors)
    same(ours, pyg(local_root, name, tmp_path, use_node_attr=True, use_edge_attr=True))
    assert ours.num_features == width


def raw(root: Path, name: str, file: str) -> bytes:
    return (root / "TUDataset" / name / "raw" / file).read_bytes()


@pytest.mark.parametrize("name", [this.name for this in OURS])
def test_every_split_of_what_is_here_loads(name, local_root):
    present(local_root, name)
    for split in card(name).splits:
        graphs = load(name, local_root, split=split)
        assert check_graphs(graphs) is graphs
        parts = graphs.train_mask.long() + graphs.val_mask + graphs.test_mask
        # the published test set is in no part where the training set alone is divided
        assert parts.max() == 1 and (card(name).splits[split].within or parts.all())
        drawn = graphs.train_mask | graphs.val_mask
        for c in range(graphs.num_classes):
            share = (graphs.y[drawn] == c).double().mean()
            for mask in (graphs.train_mask, graphs.val_mask):
                assert abs((graphs.y[mask] == c).sum() - share * mask.sum()) < 3


def test_tox21_is_the_published_pair(local_root, tmp_path):
    present(local_root, "tox21-hse")
    graphs = load("tox21-hse", local_root)
    tested = graphs[graphs.test_mask]
    theirs = pyg(local_root, "Tox21_HSE_testing", tmp_path)
    assert len(tested) == len(theirs) == 267 and graphs.test_mask[-267:].all()
    narrow = theirs._data.x.size(1)
    # labels start at 0 in both sets, so a column is the same atom in both
    assert torch.equal(tested.x[:, :narrow], theirs._data.x)
    assert narrow == 51 and tested.num_features == 54 and not tested.x[:, narrow:].any()
    for key in ("edge_index", "edge_attr", "y"):
        assert torch.equal(getattr(tested, key), theirs._data[key])
    other = load("tox21-hse", local_root, seed=1)
    assert torch.equal(other.test_mask, graphs.test_mask)
    assert not torch.equal(other.val_mask, graphs.val_mask)


@pytest.mark.slow
def test_anomalies_are_divided_anew_by_seed_within_the_training_file(local_root):
    present(local_root, "tox21-hse")
    graphs = load("tox21-hse", local_root, split="anomaly", num_splits=3)
    known = load("tox21-hse", local_root)
    parts = torch.stack([graphs.train_mask, graphs.val_mask, graphs.test_mask])
    assert parts.shape == (3, 8417, 3) and torch.equal(parts.sum(0).amax(1) == 1, ~known.test_mask)
    assert bool((parts.sum(0).amax(1) == parts.sum(0).amin(1)).all())
    share = (parts * graphs.y[None, :, None]).sum(1) / parts.sum(1)
    torch.testing.assert_close(share, torch.full((3, 3), 428 / 8150), atol=1e-3, rtol=0)
    assert not torch.equal(graphs.train_mask[:, 0], graphs.train_mask[:, 1])
    one = load("tox21-hse", local_root, split="anomaly", seed=2)
    assert torch.equal(one.val_mask, graphs.val_mask[:, 2])


def test_tox21_s_training_set_is_that_of_pyg(local_root, tmp_path):
    present(local_root, "tox21-hse")
    graphs = load("tox21-hse", local_root)
    graphs = graphs[~graphs.test_mask]
    same(graphs, pyg(local_root, "Tox21_HSE_training", tmp_path))


def test_downloads_are_those_of_pyg():
    for this in OURS:
        names = this.options.get("parts") or [this.path.split("/")[1]]
        assert [d.url for d in this.downloads] == [f"{TUDataset.url}/{n}.zip" for n in names]
        assert [d.unpack for d in this.downloads] == [f"{n}/" for n in names]


def test_the_ten_cancer_sets_have_cards():
    unseen = [this for this in OURS if not any(this.files.values())]
    assert len(unseen) == 10
    for this in unseen:
        name = this.path.split("/")[1]
        kinds = {file.removeprefix(f"{name}_").removesuffix(".txt") for file in this.files}
        assert kinds == {"A", "graph_indicator", "graph_labels", "node_labels", "edge_labels"}
        for split in this.splits.values():
            assert split.train + split.val + split.test == this.counts["graphs"]
            assert split.stratified


def lines(rows: list[list[object]]) -> bytes:
    return "".join(", ".join(map(str, row)) + "\n" for row in rows).encode()


small = st.integers(-3, 4)
decimals = st.floats(-1e3, 1e3, width=32)


@st.composite
def tu_sets(draw: st.DrawFn) -> dict[str, bytes]:
    """The files of two to four graphs, with self-loops and double edges, and tables at will."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    edges: list[list[object]] = []
    first = 1
    for size in sizes:
        node = st.integers(first, first + size - 1)
        pairs = draw(st.lists(st.tuples(node, node), min_size=2, max_size=6))
        edges += [list(pair) for pair in pairs]
        first += size
    indicator = [[graph] for graph, size in enumerate(sizes, 1) for _ in range(size)]
    files = {"A": edges, "graph_indicator": indicator}
    rows = {"node": len(indicator), "edge": len(edges), "graph": len(sizes)}
    columns = {"labels": (small, st.integers(1, 2)), "attributes": (decimals, st.integers(1, 3))}
    for of, count in rows.items():
        for kind, (values, widths) in columns.items():
            width = 1 if of == "graph" else draw(widths)
            table = [[draw(values) for _ in range(width)] for _ in range(count)]
            if draw(st.booleans()):
                files[f"{of}_{kind}"] = table
    return {f"S_{kind}.txt": lines(table) for kind, table in files.items()}


@settings(max_examples=60)
@given(tu_sets(), st.booleans(), st.booleans())
def test_any_set_is_read_as_by_pyg(files, use_node_attr, use_edge_attr):
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        block, slices, sizes = read_tu_data(folder, "S")
    ours = read_tudataset(files, use_node_attr=use_node_attr, use_edge_attr=use_edge_attr).tensors
    x, edge_attr = block.x, block.edge_attr
    if x is not None and not use_node_attr:
        x = x[:, sizes["num_node_attributes"] :]
    if edge_attr is not None and not use_edge_attr:
        edge_attr = edge_attr[:, sizes["num_edge_attributes"] :]
    for key, two in {"x": x, "edge_attr": edge_attr, "y": block.y}.items():
        assert (key in ours) == (two is not None), key
        if two is not None:
            assert ours[key].dtype == two.dtype and torch.equal(ours[key], two), key
    assert torch.equal(ours["edge_index"], block.edge_index)
    found = slices["edge_index"]
    # PyG's list ends with the last graph that has an edge
    assert torch.equal(ours["edge_ptr"][: len(found)], found)
    assert (ours["edge_ptr"][len(found) :] == found[-1]).all()
    if "x" in slices:
        assert torch.equal(ours["node_ptr"], slices["x"])


def tiny(name: str = "S", **changes: bytes | None) -> dict[str, bytes]:
    """Two graphs, of three nodes and of one, with some files changed or left out."""
    files = {
        "A": b"1, 2\n2, 1\n2, 3\n3, 2\n",
        "graph_indicator": b"1\n1\n1\n2\n",
        "graph_labels": b"5\n-1\n",
        "node_labels": b"7\n9\n7\n7\n",
        "edge_labels": b"0\n0\n1\n1\n",
        "node_attributes": b"0.5\n1\n2\n3\n",
        **changes,
    }
    return {f"{name}_{kind}.txt": data for kind, data in files.items() if data is not None}


def test_a_set_by_hand():
    found = read_tudataset(tiny()).tensors
    assert found["node_ptr"].tolist() == [0, 3, 4] and found["edge_ptr"].tolist() == [0, 4, 4]
    assert found["edge_index"].tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert found["x"].tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert found["y"].tolist() == [1, 0]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n", "\n  \n"])
def test_the_end_of_a_line_does_not_matter(end):
    files = {name: data.strip().replace(b"\n", b"\r\n") for name, data in tiny().items()}
    files = {name: data + end.encode() for name, data in files.items()}
    for key, value in read_tudataset(tiny()).tensors.items():
        assert torch.equal(read_tudataset(files).tensors[key], value)


def test_files_that_are_not_needed_are_not_read():
    class Watched(dict):
        def __getitem__(self, name):
            assert "attributes" not in name
            return super().__getitem__(name)

    assert read_tudataset(Watched(tiny())).tensors["x"].shape == (4, 3)


def test_two_sets_share_their_labels():
    one, two = tiny("one"), tiny("two", node_labels=b"6\n6\n6\n8\n", graph_labels=b"5\n8\n")
    both = read_tudataset({**one, **two}, parts=["one", "two"]).tensors
    assert both["node_ptr"].tolist() == [0, 3, 4, 7, 8]
    assert both["x"].argmax(1).tolist() == [1, 3, 1, 1, 0, 0, 0, 2] and both["x"].size(1) == 4
    assert both["y"].tolist() == [1, 0, 1, 2]
    assert both["train_mask"].tolist() == [True, True, False, False]
    assert torch.equal(both["test_mask"], ~both["train_mask"])
    alone = read_tudataset(one).tensors
    assert torch.equal(both["edge_index"], alone["edge_index"].repeat(1, 2))


HOSTILE = b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94"
BAD = {
    "no A": ({"A": None}, "needs one file NAME_A.txt, got S_graph_indicator.txt"),
    "no indicator": ({"graph_indicator": None}, "S_graph_indicator.txt is not among the files"),
    "empty": ({"A": b" \n"}, "S_A.txt: the file is empty"),
    "text": ({"A": b"1, 2\n2, one\n"}, "S_A.txt: not a table of whole numbers (could not convert"),
    "ragged": ({"A": b"1, 2\n2\n"}, "S_A.txt: not a table of whole numbers (the number of columns"),
    "columns": ({"A": b"1, 2, 3\n"}, "S_A.txt: 3 columns, but 2 are expected"),
    "decimals": ({"node_labels": b"1\n2\n3.5\n4\n"}, "S_node_labels.txt: not a table of whole"),
    "too large": ({"node_labels": b"9" * 30 + b"\n1\n1\n1\n"}, "S_node_labels.txt: not a table of"),
    "binary": ({"A": HOSTILE}, "S_A.txt: not a table of whole numbers"),
    "not ascii": ({"A": b"1, 2\n\xff, 1\n"}, "S_A.txt: not a table of whole numbers"),
    "node 0": ({"A": b"1, 2\n0, 1\n"}, "S_A.txt: row 2 is [0, 1], but nodes count from 1 to 4"),
    "node 5": ({"A": b"1, 5\n"}, "S_A.txt: row 1 is [1, 5], but nodes count from 1 to 4"),
    "across": ({"A": b"1, 2\n3, 4\n2, 1\n1, 1\n"}, "edge 2 goes from graph 1 to graph 2"),
    "short labels": ({"node_labels": b"1\n2\n"}, "S_node_labels.txt: 2 rows, but 4 are expected"),
    "long labels": ({"edge_labels": b"1\n" * 9}, "9 rows, but 4 are expected, one for each edge"),
    "wide labels": ({"node_labels": b"0\n1\n1\n100000\n"}, "labels go from 0 to 100000"),
    "truncated": ({"graph_indicator": b"1\n1\n1\n"}, "the last graph is 1, but 2 graphs are"),
    "graph 0": ({"graph_indicator": b"0\n1\n1\n2\n"}, "row 1 is 0, but graphs count from 1"),
    "disorder": ({"graph_indicator": b"1\n2\n1\n2\n"}, "row 3 is 1, but graphs count from 1 and"),
    "huge graph": ({"graph_indicator": b"1\n1\n1\n999999999999\n"}, "graph is 999999999999, but 2"),
    "huge, unlabelled": (
        {"graph_indicator": b"1\n1\n1\n999999999999\n", "graph_labels": None},
        "the last graph is 999999999999, but 4 graphs are expected",
    ),
    "attributes": (
        {"node_attributes": b"1\nx\n3\n4\n"},
        "S_node_attributes.txt: not a table of num",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_files_are_refused_by_name(case):
    changes, message = BAD[case]
    with pytest.raises(DataError) as caught:
        read_tudataset(tiny(**changes), use_node_attr=True)
    assert message in str(caught.value)


def test_two_sets_of_other_columns_are_no_pair():
    files = {**tiny("one"), **tiny("two", node_labels=b"1, 1\n" * 4)}
    with pytest.raises(DataError, match=r"one and two have \[1, 2\] columns"):
        read_tudataset(files, parts=["one", "two"])
    with pytest.raises(DataError, match="needs one file NAME_A.txt, got one_A.txt"):
        read_tudataset(files)
    with pytest.raises(DataError, match="three_graph_indicator.txt is not among the files"):
        read_tudataset(files, parts=["one", "three"])


def test_a_test_part_of_the_data_is_asked_for_where_there_is_none(local_root, monkeypatch):
    present(local_root, "mutag")
    this = card("mutag")
    split = dataclasses.replace(this.splits["random"], fractions=(0.9, 0.1, 0.0))
    changed = dataclasses.replace(this, splits={"random": split})
    monkeypatch.setattr(loading, "card", lambda name: changed)
    with pytest.raises(ConfigError, match="fractions must be three numbers"):
        load("mutag", local_root)


def test_a_stratified_split_on_a_card_needs_fractions():
    table = tomllib.loads((cards_folder() / "mutag.toml").read_text("utf-8"))
    del table["splits"]["random"]["fractions"]
    with pytest.raises(
        DataError, match="'splits.random.stratified' needs 'splits.random.fractions'"
    ):
        parse("mutag", table)
