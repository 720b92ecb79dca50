from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch_geometric.datasets import MoleculeNet

from graphkit.data import GraphSet, card, load
from graphkit.data.check import check_graphs
from graphkit.data.readers.moleculenet import read_moleculenet
from graphkit.errors import BackendError, DataError

HIV = {"smiles": 0, "targets": [2]}
# charges, rings, stereo bonds, chirality, a dative bond, an isotope, a salt, one atom
MOLECULES = (
    *("CCO", "c1ccccc1O", "[O-][N+](=O)c1ccccc1", "F/C=C/F", "F/C=C\\F", "C[C@H](N)C(=O)O"),
    *("C[C@@H](N)C(=O)O", "N#N", "[Na+].[Cl-]", "[13CH4]", "C", "O=S(=O)(O)O", "FS(F)(F)(F)(F)F"),
    *("[NH3]->[Cu]", "C1CC1C#N", "[CH2]", "BrP(Br)(Br)(Br)Br", "c1ccc2ccccc2c1"),
)
REFUSED = "O=C1O[Al]23(OC1=O)(OC(=O)C(=O)O2)OC(=O)C(=O)O3"


@pytest.fixture(autouse=True)
def _rdkit() -> None:
    pytest.importorskip("rdkit")


def table(rows: list[str], header: str = "smiles,activity,HIV_active") -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def same(ours: GraphSet, theirs: MoleculeNet) -> None:
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        assert set(two.keys()) - set(one.keys()) == {"smiles"}
        for key in one.keys():
            if key == "y":
                assert torch.equal(one.y.nan_to_num(-7), two.y.nan_to_num(-7))
            else:
                assert one[key].dtype == two[key].dtype and torch.equal(one[key], two[key]), key


def pyg(root: Path, name: str, file: str, data: bytes) -> MoleculeNet:
    (root / name / "raw").mkdir(parents=True)
    (root / name / "raw" / file).write_bytes(data)
    return MoleculeNet(root, name)


def test_molecules_are_those_of_pyg(tmp_path):
    data = table([f"{text},CI,{k % 2}" for k, text in enumerate(MOLECULES)])
    ours = GraphSet(read_moleculenet({"HIV.csv": data}, **HIV).tensors)
    same(ours, pyg(tmp_path, "hiv", "HIV.csv", data))
    assert check_graphs(ours) is ours and ours.edge_attr.size(1) == 3
    assert ours.y.tolist() == [[float(k % 2)] for k in range(len(MOLECULES))]


def test_many_targets_with_gaps_and_quotes_are_those_of_pyg(tmp_path):
    cells = [f"{k % 2}" if k % 3 else "" for k in range(12)]
    rows = [",".join([*cells, '"a, name"', text]) for text in ("CCO", "C#N")]
    data = table(rows, ",".join("abcdefghijklmn"))
    ours = GraphSet(read_moleculenet({"t.csv": data}, smiles=-1, targets=range(12)).tensors)
    same(ours, pyg(tmp_path, "tox21", "tox21.csv", data))
    assert ours.y.shape == (2, 12) and int(ours.y.isnan().sum()) == 8


@pytest.mark.filterwarnings("ignore:Skipping molecule")
def test_what_rdkit_refuses_is_left_out_as_in_pyg(tmp_path, caplog):
    data = table(["CCO,CI,0", f"{REFUSED},CI,1", "no molecule,CI,1", ",CI,1", "CC,CI,0"])
    ours = GraphSet(read_moleculenet({"HIV.csv": data}, **HIV).tensors)
    same(ours, pyg(tmp_path, "hiv", "HIV.csv", data))
    assert len(ours) == 2
    assert [f"line {k} is left out" in caplog.text for k in (2, 3, 4, 5, 6)] == [0, 1, 1, 1, 0]


def test_lenient_keeps_a_molecule_of_odd_valence():
    data = table(["CCO,CI,0", f"{REFUSED},CI,1", "C1CC,CI,1"])
    ours = GraphSet(read_moleculenet({"HIV.csv": data}, **HIV, lenient=True).tensors)
    # its atoms and bonds can be counted by hand, the ring that never closes is still refused
    assert [(g.num_nodes, g.num_edges) for g in ours] == [(3, 4), (19, 42)]


def test_the_first_rows_of_hiv(local_root, tmp_path):
    data = hiv(local_root)
    part = b"\n".join([*data.split(b"\n")[:120], b""])
    ours = GraphSet(read_moleculenet({"HIV.csv": part}, **card("moleculenet-hiv").options).tensors)
    assert len(ours) == 119
    same(ours, pyg(tmp_path, "hiv", "HIV.csv", part))


def hiv(root: Path) -> bytes:
    path = root / "MoleculeNet/hiv/raw/HIV.csv"
    if not path.is_file():
        pytest.skip("HIV.csv is not below GRAPHKIT_DATA")
    return path.read_bytes()


@pytest.mark.slow
def test_the_whole_of_hiv(local_root):
    hiv(local_root)
    graphs = load("moleculenet-hiv", local_root)
    assert check_graphs(graphs) is graphs and int(graphs.y.sum()) == 1443
    assert [int(graphs.y[mask].sum()) for mask in (graphs.train_mask, graphs.val_mask)] == [
        1154,
        145,
    ]


def test_the_download_is_that_of_pyg():
    this = card("moleculenet-hiv")
    assert [d.url for d in this.downloads] == [MoleculeNet.url.format("HIV.csv")]


BAD = {
    "not text": (b"smiles,a,b\nC\xff,CI,0\n", "HIV.csv: not a table of comma-separated text"),
    "quote": (b'smiles,a,b\n"C,CI,0\n', "HIV.csv: not a table of comma-separated text"),
    "nothing": (b"smiles,a,b\n", "HIV.csv: 1 lines, but a header and rows are expected"),
    "short row": (b"smiles,a,b\nC,CI,0\nCC,CI\n", "HIV.csv: line 3 has no SMILES in column 0"),
    "no number": (b"smiles,a,b\nC,CI,active\n", "HIV.csv: line 2 has no SMILES in column 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_tables_are_refused_by_name(case):
    data, message = BAD[case]
    with pytest.raises(DataError) as caught:
        read_moleculenet({"HIV.csv": data}, **HIV)
    assert message in str(caught.value)


def test_two_tables_are_one_too_many():
    with pytest.raises(DataError, match=r"needs one table, got a.csv, b.csv"):
        read_moleculenet({"a.csv": b"", "b.csv": b""}, **HIV)


def test_without_rdkit_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="needs the package 'rdkit'.*pip install rdkit"):
        read_moleculenet({"HIV.csv": table(["C,CI,0"])}, **HIV)
