from __future__ import annotations

import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import TemporalData
from torch_geometric.datasets import BitcoinOTC
from torch_geometric.loader import TemporalDataLoader

from graphkit.data import load
from graphkit.data.check_kinds import check_events
from graphkit.data.links import time_split
from graphkit.data.readers.temporal import read_events
from graphkit.errors import DataError

MASKS = ("train_mask", "val_mask", "test_mask")


def test_bitcoin_equals_the_class_of_pyg(local_root, tmp_path):
    """A window of one time step cuts PyG's snapshots into all events, each once, in order."""
    shutil.copytree(local_root / "temporal/BitcoinOTC/raw", tmp_path / "raw")
    theirs = BitcoinOTC(str(tmp_path), edge_window_size=1)
    data = check_events(load("bitcoin-otc", local_root))
    assert torch.equal(data.edge_index, torch.cat([step.edge_index for step in theirs], dim=1))
    rating = torch.cat([step.edge_attr for step in theirs])
    assert torch.equal(data.msg, rating.float()[:, None]) and data.num_nodes == theirs.num_nodes
    lines = (tmp_path / "raw/soc-sign-bitcoinotc.csv").read_text().splitlines()
    assert data.t.tolist() == [int(float(line.split(",")[3])) for line in lines]


def test_collegemsg_equals_a_naive_reading(local_root):
    data = check_events(load("collegemsg", local_root))
    lines = (local_root / "temporal/CollegeMsg/raw/CollegeMsg.txt").read_text().splitlines()
    rows = torch.tensor([[int(cell) for cell in line.split()] for line in lines])
    assert torch.equal(data.edge_index, rows[:, :2].t() - 1) and torch.equal(data.t, rows[:, 2])
    assert "msg" not in data and data.name == "collegemsg"


@pytest.mark.parametrize("name", ["bitcoin-otc", "collegemsg"])
def test_parts_follow_one_another_in_time(name, local_root):
    data = load(name, local_root)
    parts = [data[getattr(data, mask)] for mask in MASKS]
    assert sum(len(part) for part in parts) == len(data)
    assert parts[0].t.max() < parts[1].t.min() and parts[1].t.max() < parts[2].t.min()
    batch = next(iter(TemporalDataLoader(parts[0], batch_size=200)))
    assert torch.equal(batch.src, data.src[:200]) and len(batch.t) == 200


@settings(max_examples=50)
@given(st.lists(st.integers(0, 2**20), min_size=20, max_size=60))
def test_a_split_by_time_equals_that_of_pyg(times):
    t = torch.tensor(sorted(times))
    data = TemporalData(src=t, dst=t, t=t)
    theirs = [len(part) for part in data.train_val_test_split(0.15, 0.15)]
    if not all(theirs):
        with pytest.raises(DataError, match="none may be empty"):
            time_split(t)
        return
    masks = time_split(t)
    assert masks.sum(1).tolist() == theirs and (masks.sum(0) == 1).all()
    assert torch.equal(masks.int().argmax(0), masks.int().argmax(0).sort().values)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(3, 9), st.integers(3, 9), st.integers(-5, 5), st.integers(0, 20)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([(None, " "), (None, "\t"), (",", ",")]),
)
def test_events_come_in_the_order_of_their_times(events, form):
    delimiter, sign = form
    text = "\n".join(sign.join(map(str, event)) for event in events)
    tensors = read_events({"a.txt": text.encode()}, delimiter=delimiter).tensors
    lowest = min(node for event in events for node in event[:2])
    ordered = sorted(events, key=lambda event: event[3])
    assert tensors["src"].tolist() == [event[0] - lowest for event in ordered]
    assert tensors["dst"].tolist() == [event[1] - lowest for event in ordered]
    assert tensors["msg"].tolist() == [[event[2]] for event in ordered]
    assert tensors["t"].tolist() == [event[3] for event in ordered]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.txt: not a table of numbers .the file is empty"),
        (b"1 2 3\n1 2\n", "a.txt: not a table of numbers"),
        (b"1 two 3\n", "a.txt: not a table of numbers"),
        (b"\x80\x04K\x01.", "a.txt: not a table of numbers"),
        (b"1,2,3\n", "a.txt: not a table of numbers"),
        (b"1 2\n", "a.txt: expected lines of source, target.* got 2 columns"),
        (b"1 2 nan\n", "a.txt: expected lines of source, target.*all below"),
        (b"1 2 3\n1.5 2 4\n", r"node numbers of 0 or more, got \[1.5, 2.0\] in line 2"),
        (b"1 -2 3\n", r"node numbers of 0 or more, got \[1.0, -2.0\] in line 1"),
        (b"1 2 1e300\n", r"expected lines of source, target.*3 columns up to 1e\+300"),
    ],
)
def test_damaged_tables(data, message):
    with pytest.raises(DataError, match=message):
        read_events({"a.txt": data})
