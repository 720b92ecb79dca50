from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ogb.io.read_graph_raw import read_csv_graph_raw
from scipy.io import savemat
from torch_geometric.data import Data
from torch_geometric.datasets import (
    Amazon,
    CitationFull,
    Coauthor,
    HeterophilousGraphDataset,
    LINKXDataset,
    Planetoid,
    PolBlogs,
    SNAPDataset,
    WebKB,
    WikipediaNetwork,
)
from torch_geometric.io import read_npz
from torch_geometric.utils import coalesce, remove_self_loops, to_undirected

from graphkit.data import card, cards, load
from graphkit.data.readers import READERS

MASKS = ("train_mask", "val_mask", "test_mask")
HETEROPHILOUS = "HeterophilousGraphDataset/minesweeper/raw/minesweeper.npz"


def full(name: str, undirected: bool = True):
    return lambda root: CitationFull(f"{root}/CitationFull", name, to_undirected=undirected)


def linkx(name: str):
    return lambda root: LINKXDataset(f"{root}/LINKXDataset", name)


def heterophilous(root: Path):
    return HeterophilousGraphDataset(f"{root}/HeterophilousGraphDataset", "Minesweeper")


# for each card: PyG's class, and where it looks for the file if not at the card's place
PYG = {
    "amazon-photo": (lambda root: Amazon(f"{root}/Amazon", "Photo"), None),
    "amherst41": (linkx("amherst41"), None),
    "chameleon-filtered": (heterophilous, HETEROPHILOUS),
    "citeseer-full": (full("CiteSeer"), None),
    "citeseer-full-directed": (full("CiteSeer", False), None),
    "cora-ml": (full("Cora_ML"), None),
    "cora-ml-directed": (full("Cora_ML", False), None),
    "cornell": (lambda root: WebKB(f"{root}/WebKB", "cornell"), None),
    "cornell-corrected": (heterophilous, HETEROPHILOUS),
    "dblp": (full("DBLP"), None),
    "johnshopkins55": (linkx("johnshopkins55"), None),
    "minesweeper": (heterophilous, None),
    "reed98": (linkx("reed98"), None),
    "texas-4-classes": (heterophilous, HETEROPHILOUS),
    "wiki-vote": (lambda root: SNAPDataset(root, "wiki-vote"), "wiki-vote/raw/wiki-Vote.txt"),
}
LARGE = {
    "coauthor-cs": (lambda root: Coauthor(f"{root}/Coauthor", "CS"), None),
    "coauthor-physics": (lambda root: Coauthor(f"{root}/Coauthor", "Physics"), None),
}
CASES = [*PYG, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


def equal(ours: Data, theirs: Any) -> None:
    """Every tensor of PyG's object is in ours, the same in dtype, order and value."""
    assert ours.num_nodes == theirs.num_nodes
    for key, value in theirs.to_dict().items():
        if isinstance(value, torch.Tensor):
            assert ours[key].dtype == value.dtype and torch.equal(ours[key], value), key


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_class_of_pyg(name, local_root, tmp_path):
    build, place = {**PYG, **LARGE}[name]
    folder = card(name).path
    if place is None:
        shutil.copytree(local_root / folder, tmp_path / folder)
    else:
        (tmp_path / place).parent.mkdir(parents=True)
        (file,) = card(name).files
        shutil.copy(local_root / folder / file, tmp_path / place)
    equal(load(name, local_root, cache=False), build(tmp_path)[0])


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
def test_polblogs_equals_pyg_on_the_same_graph_as_tables(local_root, tmp_path):
    ours = load("polblogs", local_root, cache=False)
    (tmp_path / "raw").mkdir()
    lines = [f"{src}\t{dst}\t1\n" for src, dst in ours.edge_index.t().tolist()]
    (tmp_path / "raw/adjacency.tsv").write_text("".join(lines))
    (tmp_path / "raw/labels.tsv").write_text("".join(f"{label}\n" for label in ours.y.tolist()))
    equal(ours, PolBlogs(tmp_path)[0])
    archive = np.load(local_root / "directed/polblogs/raw/polblogs.npz")
    where = sp.csr_matrix(tuple(archive[f"adj_{key}"] for key in ("data", "indices", "indptr")))
    assert np.array_equal(ours.edge_index, np.stack(where.nonzero()))


def test_citeseer_directed_equals_pyg_but_for_its_self_loops(local_root):
    ours = load("citeseer-directed", local_root, cache=False)
    theirs = read_npz(str(local_root / "directed/citeseer_npz/raw/citeseer.npz"), False)
    assert torch.equal(ours.x, theirs.x) and torch.equal(ours.y, theirs.y)
    assert torch.equal(remove_self_loops(ours.edge_index)[0], theirs.edge_index)
    assert int((ours.edge_index[0] == ours.edge_index[1]).sum()) == 124


def test_chameleon_is_the_same_from_both_sources(local_root):
    equal(
        load("chameleon-directed", local_root, cache=False),
        load("chameleon", local_root, cache=False),
    )
    one = load("chameleon-filtered", local_root, cache=False)
    two = load("chameleon-filtered-directed", local_root, cache=False)
    pairs = remove_self_loops(two.edge_index)[0]
    assert torch.equal(to_undirected(pairs), one.edge_index) and torch.equal(one.x, two.x)


def test_cornell_is_what_its_card_says(local_root):
    texas, cornell = (
        load("texas", local_root, cache=False),
        load("cornell", local_root, cache=False),
    )
    corrected = load("cornell-corrected", local_root, cache=False)
    assert torch.equal(cornell.x, texas.x) and torch.equal(cornell.y, texas.y)
    assert not torch.equal(corrected.y, texas.y)
    pairs = to_undirected(remove_self_loops(cornell.edge_index)[0])
    degrees = [torch.bincount(e[0]).sort().values for e in (pairs, corrected.edge_index)]
    assert torch.equal(*degrees)
    both = torch.cat([pairs, corrected.edge_index], dim=1)
    assert both.size(1) - len(both.unique(dim=1)[0]) == 2 * 5
    assert torch.equal(cornell.train_mask, corrected.train_mask)


@pytest.mark.parametrize("name", [this.name for this in cards() if this.path == "snap"])
def test_structures_have_the_counts_of_their_cards(name, local_root):
    data = load(name, local_root, cache=False)
    assert data.edge_index.unique().tolist() == list(range(data.num_nodes))
    assert torch.equal(data.edge_index, coalesce(data.edge_index))


def test_twitch_equals_a_plain_reading(local_root):
    ours = load("twitch-engb", local_root, cache=False)
    stem = local_root / "musae_twitch/ENGB/musae_ENGB"
    rows = list(csv.DictReader(Path(f"{stem}_target.csv").read_text().splitlines()))
    x = torch.zeros(len(rows), 3170)
    for node, marks in json.loads(Path(f"{stem}_features.json").read_text()).items():
        x[int(node), marks] = 1
    assert torch.equal(ours.x, x[:, x.sum(0) != 0])
    assert all(int(ours.y[int(row["new_id"])]) == (row["mature"] == "True") for row in rows)
    lines = Path(f"{stem}_edges.csv").read_text().splitlines()[1:]
    pairs = torch.tensor([list(map(int, line.split(","))) for line in lines]).t()
    assert torch.equal(ours.edge_index, to_undirected(pairs))


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def csr_parts(kind: str, matrix: sp.csr_matrix) -> dict[str, object]:
    return {
        f"{kind}_data": matrix.data,
        f"{kind}_indices": matrix.indices,
        f"{kind}_indptr": matrix.indptr,
        f"{kind}_shape": np.array(matrix.shape),
    }


@st.composite
def matrices(draw: st.DrawFn, rows: int, columns: int) -> sp.csr_matrix:
    """Rows in any order and with repeated columns, as files hold them."""
    sizes = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    count = sum(sizes)
    column = draw(st.lists(st.integers(0, columns - 1), min_size=count, max_size=count))
    value = draw(st.lists(st.sampled_from([-1.0, 0.5, 1.0, 7.0]), min_size=count, max_size=count))
    pointer = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    parts = (np.array(value, np.float32), np.array(column, np.int32), pointer)
    return sp.csr_matrix(parts, shape=(rows, columns))


@settings(max_examples=40)
@given(st.data(), st.integers(1, 6), st.booleans())
def test_csr_archives_equal_the_reading_of_pyg(tmp_path, data, num_nodes, undirected):
    parts = {
        **csr_parts("adj", data.draw(matrices(num_nodes, num_nodes))),
        **csr_parts("attr", data.draw(matrices(num_nodes, 3))),
        "labels": np.arange(num_nodes, dtype=np.int8),
    }
    file = tmp_path / "graph.npz"
    file.write_bytes(npz(**parts))
    ours = READERS["csr-npz"]({"graph.npz": file.read_bytes()}, undirected=undirected)
    equal(Data(**ours.tensors), read_npz(str(file), undirected))


pairs_of = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 5)), min_size=1)


@settings(max_examples=40)
@given(pairs_of, st.booleans(), st.sampled_from(["# a comment\n", ""]))
def test_edge_lists_equal_the_functions_of_pyg(rows, undirected, comment):
    text = comment + "".join(f"{a * 3} {b * 3}\t{w}\r\n" for a, b, w in rows)
    ours = READERS["edge-list"]({"e.txt": text.encode()}, undirected=undirected, weighted=True)
    table = torch.tensor(rows)
    ids, pairs = torch.unique(table[:, :2], return_inverse=True)
    function = to_undirected if undirected else coalesce
    edge_index, weight = function(pairs.t(), table[:, 2].float(), len(ids), reduce="add")
    assert torch.equal(ours.tensors["edge_index"], edge_index)
    assert torch.equal(ours.tensors["edge_attr"], weight)
    assert ours.meta["num_nodes"] == len(ids)


@settings(max_examples=30)
@given(pairs_of)
def test_metis_gives_back_the_graph_that_was_written(rows):
    pairs = remove_self_loops(to_undirected(torch.tensor(rows)[:, :2].t(), num_nodes=10))[0]
    lines = [" ".join(str(int(n) + 1) for n in pairs[1][pairs[0] == row]) for row in range(10)]
    text = f"% a comment\n10 {pairs.size(1) // 2} 000\n" + "\n".join(lines) + "\n"
    ours = READERS["metis"]({"g.graph": text.encode()})
    assert torch.equal(ours.tensors["edge_index"], pairs) and ours.meta["num_nodes"] == 10


def write(root: Path, name: str, files: dict[str, bytes]) -> Path:
    """The folder of the card ``name`` below ``root``, with ``files`` in it."""
    for file, data in files.items():
        place = root / card(name).path / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return root


def pairs_npz(**changes: object) -> bytes:
    random = np.random.default_rng(0)
    masks = np.eye(3, dtype=bool)[random.permutation(12) % 3]
    parts = {
        "node_features": random.random((12, 4), np.float32),
        "node_labels": random.integers(0, 3, 12),
        "edges": random.integers(0, 12, (20, 2)),
        **{
            f"{p}_masks": np.stack([masks[:, k]] * 2)
            for k, p in enumerate(("train", "val", "test"))
        },
    }
    return npz(**{**parts, **changes})


def test_roman_empire_of_twelve_nodes_equals_pyg(tmp_path):
    write(tmp_path, "roman-empire", {"roman_empire.npz": pairs_npz()})
    ours = load("roman-empire", tmp_path, check=False)
    equal(
        ours, HeterophilousGraphDataset(f"{tmp_path}/HeterophilousGraphDataset", "Roman-empire")[0]
    )


def test_squirrel_of_four_nodes_equals_pyg(tmp_path):
    nodes = "".join(f"{k}\t{k},0,1\t{k % 2}\n" for k in range(4))
    mask = {key: np.eye(3, 4, dtype=np.uint8)[row] for row, key in enumerate(MASKS)}
    files = {
        "out1_node_feature_label.txt": f"node_id\tfeature\tlabel\n{nodes}".encode(),
        "out1_graph_edges.txt": b"node_id\tnode_id\n3\t1\n0\t2\n3\t1\n1\t1\n",
        **dict.fromkeys(card("squirrel").splits["geom-gcn"].files, npz(**mask)),
    }
    root = write(tmp_path, "squirrel", files)
    theirs = WikipediaNetwork(f"{root}/WikipediaNetwork", "squirrel")[0]
    equal(load("squirrel", root, check=False), theirs)


@pytest.mark.filterwarnings("ignore:.*scipy.sparse.csr.*:DeprecationWarning")
def test_pubmed_of_few_nodes_equals_pyg(tmp_path):
    random = np.random.default_rng(0)
    train, known, test = 6, 510, 8
    order = random.permutation(test) + known

    def features(rows: int) -> Any:
        return sp.random(rows, 5, 0.4, "csr", np.float32, rng=random)

    allx, ally = features(known), np.eye(3, dtype=np.int32)[random.integers(0, 3, known)]
    graph = {k: random.integers(0, known + test, 3).tolist() for k in range(known + test)}
    parts = {
        "x": allx[:train],
        "tx": features(test),
        "allx": allx,
        "y": ally[:train],
        "ty": np.eye(3, dtype=np.int32)[random.integers(0, 3, test)],
        "ally": ally,
        "graph": graph,
    }
    files = {f"ind.pubmed.{key}": pickle.dumps(value) for key, value in parts.items()}
    files["ind.pubmed.test.index"] = "".join(f"{node}\n" for node in order).encode()
    assert set(files) == set(card("pubmed").files)
    root = write(tmp_path, "pubmed", files)
    ours = READERS["planetoid"](Known(files))
    equal(Data(**ours.tensors), Planetoid(f"{root}/Planetoid", "PubMed")[0])


class Known(dict):
    """Files whose sha256 is on the card."""

    def known(self, name: str) -> bool:
        return name in self


def fifth(year: float, years: list[float]) -> int:
    """LINKX's class of a year, from its words: at or above how many of four quantiles?"""
    cuts = [np.nanquantile(years, k / 5) for k in range(1, 5)]
    return -1 if np.isnan(year) else sum(year >= cut for cut in cuts)


def patents(years: list[float], **changes: object) -> bytes:
    out = io.BytesIO()
    count = len(years)
    parts = {
        "edge_index": np.array([[count - 1, 0, count - 1], [0, 0, 0]]),
        "node_feat": sp.csc_matrix(np.arange(2 * count).reshape(count, 2) % 3),
        "num_nodes": count,
        "years": np.array(years),
    }
    savemat(out, {**parts, **changes})
    return out.getvalue()


years_of = st.lists(st.one_of(st.integers(1963, 1970).map(float), st.just(np.nan)), min_size=1)


@settings(max_examples=40)
@given(years_of.filter(lambda years: not np.isnan(years).all()))
def test_snap_patents_has_the_arrays_of_its_file_and_fifths_of_the_years(years):
    ours = READERS["snap-patents"]({"snap_patents.mat": patents(years)}).tensors
    count = len(years)
    assert ours["y"].tolist() == [fifth(year, years) for year in years]
    assert torch.equal(ours["x"], torch.arange(2.0 * count).reshape(count, 2) % 3)
    assert ours["edge_index"].tolist() == [[count - 1, 0, count - 1], [0, 0, 0]]


def test_snap_patents_is_loaded_by_its_card(tmp_path):
    years = [float(year) for year in range(1960, 1980)]
    root = write(tmp_path, "snap-patents", {"snap_patents.mat": patents(years)})
    data = load("snap-patents", root, check=False)
    assert data.y.bincount().tolist() == [4] * 5 and data.train_mask.sum() == 10


def test_arxiv_year_equals_ogb_and_has_fifths_of_the_years(tmp_path):
    years = [2005, 2010, 2010, 2015, 2016, 2017, 2019, 2019]
    values = np.random.default_rng(0).normal(size=(8, 3)).astype(str)
    tables = {
        "node-feat": [",".join(row) for row in values.tolist()],
        "edge": ["7,0", "1,0", "7,0", "3,3"],
        "node_year": [str(year) for year in years],
        "num-node-list": ["8"],
    }
    files = {f"raw/{k}.csv.gz": gzip.compress("\n".join(v).encode()) for k, v in tables.items()}
    assert set(files) == set(card("arxiv-year").files)
    root = write(tmp_path, "arxiv-year", files)
    folder = root / card("arxiv-year").path / "raw"
    (folder / "num-edge-list.csv.gz").write_bytes(gzip.compress(b"4\n"))
    (theirs,) = read_csv_graph_raw(str(folder), additional_node_files=["node_year"])
    ours = load("arxiv-year", root, check=False)
    equal(
        ours,
        Data(x=torch.tensor(theirs["node_feat"]), edge_index=torch.tensor(theirs["edge_index"])),
    )
    assert ours.y.tolist() == [fifth(year, list(theirs["node_year"][:, 0])) for year in years]
    assert ours.y.tolist() == [0, 1, 1, 2, 2, 3, 4, 4]
