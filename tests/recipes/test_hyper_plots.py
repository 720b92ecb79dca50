"""The picture of sizes and degrees, and what data info says of hypergraphs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphkit import cli
from graphkit.data import info, synthetic_hypergraph, write_hypergraph
from graphkit.data.describe import hyperedge_facts
from graphkit.errors import StoreError
from graphkit.recipes import hyper_plots
from graphkit.structure import from_members, to_hyperedge_index

SPREAD = {"size": {0: 2, 1: 5, 3: 700}, "degree": {1: 90_000, 2: 40, 6000: 1}}


@given(st.dictionaries(st.integers(0, 5000), st.integers(1, 9), max_size=8))
def test_every_value_is_in_a_bar(counts: dict[int, int]) -> None:
    ends, often = hyper_plots.bars(counts)
    assert (np.diff(ends) > 0).all() and len(ends) == len(often) + 1 and ends[0] > 0
    assert (2 * ends % 2 == 1).all()
    for low, high, count in zip(ends, ends[1:], often, strict=False):
        assert count == sum(n for value, n in counts.items() if low < value < high)
    assert often.sum() == sum(n for value, n in counts.items() if value)


def test_a_picture_of_every_kind(tmp_path: Path, drawn: None) -> None:
    for name in ("one.svg", "two.svg", "one.png", "one.pdf"):
        hyper_plots.draw(tmp_path / name, SPREAD, "made")
        assert (tmp_path / name).stat().st_size > 5000
    # the same figures are the same file
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    with pytest.raises(StoreError, match="cannot be written"):
        hyper_plots.draw(tmp_path / "one.txt", SPREAD, "made")
    with pytest.raises(StoreError, match="cannot be written"):
        hyper_plots.draw(tmp_path / "none" / "one.svg", SPREAD, "made")


def test_axes_are_logarithmic_where_numbers_are_wide() -> None:
    from matplotlib.figure import Figure

    left, right = Figure().subplots(1, 2)
    hyper_plots._panel(left, SPREAD["size"], "hyperedges", "members", "empty", "black")
    hyper_plots._panel(right, SPREAD["degree"], "nodes", "hyperedges", "in none", "black")
    assert (left.get_xscale(), left.get_yscale()) == ("linear", "log")
    assert (right.get_xscale(), right.get_yscale()) == ("log", "log")
    assert left.get_title("left") == "707 hyperedges, 2 of them empty"
    assert right.get_title("left") == "90,041 nodes"


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=6))
def test_facts_against_python(members: list[list[int]]) -> None:
    h = from_members(members, 6)
    found = hyperedge_facts(to_hyperedge_index(h), 6, h.num_src)
    sets = [frozenset(one) for one in members]
    size = sorted(map(len, sets))
    degree = sorted(sum(node in one for one in sets) for node in range(6))
    for name, of in (("hyperedge_sizes", size), ("node_degrees", degree)):
        middle = of[(len(of) - 1) // 2]
        mean = pytest.approx(sum(of) / len(of))
        assert found[name] == {"min": of[0], "median": middle, "mean": mean, "max": of[-1]}
    assert found["distributions"] == {"size": dict(Counter(size)), "degree": dict(Counter(degree))}
    assert found["empty_hyperedges"] == size.count(0) and found["singletons"] == size.count(1)
    assert found["duplicate_hyperedges"] == len(sets) - len(set(sets))
    assert found["nodes_in_none"] == degree.count(0) == 6 * found["share_in_none"]


def test_data_info_of_a_hypergraph(tmp_path: Path, capsys: Any, drawn: None) -> None:
    data = synthetic_hypergraph(40, 30, mean_size=3, num_classes=2, num_features=2)
    data.edge_index = data.edge_index[:, data.edge_index[0] != 7]
    alone = 40 - len(data.edge_index[0].unique())
    write_hypergraph(data, tmp_path / "made")
    assert cli.main(["data", "info", str(tmp_path / "made")]) == 0
    out = capsys.readouterr().out
    assert f"share in none: {2.5 * alone:.1f} % of the nodes" in out and alone > 0
    assert f"nodes in none: {alone}" in out
    assert "hyperedge sizes: min" in out and "Plot: made-sizes.svg" in out
    assert Path("made-sizes.svg").stat().st_size > 5000
    assert cli.main(["data", "info", str(tmp_path / "made"), "--out", "other.png"]) == 0
    assert "Plot: other.png" in capsys.readouterr().out and Path("other.png").is_file()


def test_info_of_a_path_to_a_graph(tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text("x0,y,split\n1,a,train\n2,b,val\n3,a,test\n")
    (tmp_path / "edges.csv").write_text("source,target\n0,1\n1,0\n")
    found = info(str(tmp_path))["found"]
    assert (found["nodes"], found["edges"], found["isolated_nodes"]) == (3, 2, 1)
    assert found["homophily"]["stored"]["edge"] == 0 and not found["directed"]


@pytest.mark.parametrize("name", ["zoo", "cocitation-cora"])
def test_info_of_a_card(name: str, local_data: Path) -> None:
    told = info(name, local_data)
    found = told["found"]
    assert found["hyperedges"] == told["counts"]["hyperedges"]
    assert found["nodes_in_none"] == {"zoo": 0, "cocitation-cora": 1274}[name]
    assert found["duplicate_hyperedges"] == {"zoo": 2, "cocitation-cora": 96}[name]
    assert sum(v * n for v, n in found["distributions"]["size"].items()) == found["incidences"]
    assert torch.tensor(told["splits"]["allset"]["train"]) == found["nodes"] // 2
