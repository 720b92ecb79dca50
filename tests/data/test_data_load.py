from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch_geometric.datasets import Actor, Planetoid, WebKB, WikipediaNetwork
from torch_geometric.utils import homophily

from graphkit.data import available, card, cards, check, data_root, get, info, is_path, load
from graphkit.errors import ConfigError, DataError, StoreError

# the package binds the function under the module's name
loading = importlib.import_module("graphkit.data.load")

PYG = {
    "cora": ("Planetoid/Cora/raw", None, lambda r: Planetoid(f"{r}/Planetoid", "Cora")),
    "cora geom-gcn": (
        "Planetoid/Cora/geom-gcn/raw",
        "geom-gcn",
        lambda r: Planetoid(f"{r}/Planetoid", "Cora", split="geom-gcn"),
    ),
    "citeseer": ("Planetoid/CiteSeer/raw", None, lambda r: Planetoid(f"{r}/Planetoid", "CiteSeer")),
    "citeseer geom-gcn": (
        "Planetoid/CiteSeer/geom-gcn/raw",
        "geom-gcn",
        lambda r: Planetoid(f"{r}/Planetoid", "CiteSeer", split="geom-gcn"),
    ),
    "texas": ("WebKB/texas/raw", None, lambda r: WebKB(f"{r}/WebKB", "texas")),
    "wisconsin": ("WebKB/wisconsin/raw", None, lambda r: WebKB(f"{r}/WebKB", "wisconsin")),
    "chameleon": (
        "WikipediaNetwork/chameleon/geom_gcn/raw",
        None,
        lambda r: WikipediaNetwork(f"{r}/WikipediaNetwork", "chameleon"),
    ),
    "actor": ("Actor/raw", None, lambda r: Actor(f"{r}/Actor")),
}


# over a gigabyte of features; a parse of 41,127 molecules by RDKit, which may be absent
LARGE = ("coauthor-physics", "coauthor-cs", "moleculenet-hiv")


@pytest.fixture
def texas(local_root: Path, tmp_path: Path) -> Path:
    """A root that holds a copy of Texas only."""
    shutil.copytree(local_root / "WebKB/texas/raw", tmp_path / "root/WebKB/texas/raw")
    return tmp_path / "root"


@pytest.mark.filterwarnings("ignore:.*scipy.sparse.csr.*:DeprecationWarning")
@pytest.mark.parametrize("case", PYG)
def test_equal_to_the_class_of_pyg(case, local_root, tmp_path):
    """Loaded from the very copy PyG used, so a root with only its geom-gcn folder is enough too."""
    folder, split, build = PYG[case]
    shutil.copytree(local_root / folder, tmp_path / folder)
    theirs = build(tmp_path)[0]
    ours = load(case.split()[0], tmp_path, split=split)
    assert torch.equal(ours.x, theirs.x) and ours.x.dtype == torch.float32
    assert (ours.name, ours.num_classes) == (case.split()[0], int(theirs.y.max()) + 1)
    assert torch.equal(ours.y, theirs.y) and ours.y.dtype == torch.int64
    assert torch.equal(ours.edge_index, theirs.edge_index) and ours.edge_index.is_contiguous()
    for name in ("train_mask", "val_mask", "test_mask"):
        assert ours[name].dtype == torch.bool
        # PyG leaves CiteSeer's geom-gcn masks as uint8
        assert torch.equal(ours[name], theirs[name].bool())


@pytest.mark.parametrize("large", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_card_whose_files_are_here_loads(large, local_root):
    """With each of its splits; the counts of the card are compared by ``load``."""
    chosen, loaded = [this for this in cards() if (this.name in LARGE) is large], set()
    for this in chosen:
        for split in this.splits or ("",):
            paths = loading._paths(this, loading._split(this, split), local_root)
            if all(path.is_file() for path in paths.values()):
                load(this.name, local_root, split=split or None, cache=False)
                loaded.add(this.name)
    names = {this.name for this in chosen}
    here = {row["name"] for row in available(local_root) if row["present"]} & names
    assert loaded == here and ("digits" in loaded) is not large


def test_digits_need_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHKIT_DATA", str(tmp_path / "nowhere"))
    data = load("Digits")
    assert check(data) is data and data.name == "digits"
    assert torch.bincount(data.y[data.train_mask]).tolist() == [20] * 10
    assert [int(data[m].sum()) for m in ("val_mask", "test_mask")] == [300, 1297]
    assert not (tmp_path / "nowhere").exists()


def test_digits_are_the_same_bits_everywhere():
    data = load("digits")
    digest = hashlib.sha256(data.edge_index.numpy().tobytes()).hexdigest()
    assert digest == "d5876446889a5facea2bcb3e7b9762955ad918395895454f54102cbfc629e0d5"


def test_the_seed_draws_the_split_and_nothing_else():
    first, again, other = load("digits", seed=1), load("digits", seed=1), load("digits", seed=2)
    assert torch.equal(first.train_mask, again.train_mask)
    assert not torch.equal(first.train_mask, other.train_mask)
    assert torch.equal(first.edge_index, other.edge_index)
    with pytest.raises(ConfigError, match="seed must lie in"):
        load("digits", seed=-1)


def test_several_splits_are_those_of_the_seeds_from_the_first_on():
    several = load("digits", seed=3, num_splits=4)
    for column in range(4):
        one = load("digits", seed=3 + column)
        for part in ("train_mask", "val_mask", "test_mask"):
            assert torch.equal(several[part][:, column], one[part])
    assert check(several) is several
    for number in (0, True, 2.0):
        with pytest.raises(ConfigError, match=f"num_splits is {number}, but a whole number"):
            load("digits", num_splits=number)
    with pytest.raises(ConfigError, match="texas: num_splits is 2, but split 'geom-gcn' is not"):
        load("texas", num_splits=2)
    with pytest.raises(ConfigError, match="ego-facebook: num_splits is 2"):
        load("ego-facebook", num_splits=2)
    with pytest.raises(ConfigError, match="root, split and num_splits have no meaning"):
        load("./here", num_splits=2)


def test_a_graph_helps_on_digits():
    """Label spreading over the graph beats the nearest class mean of the pixels by far."""
    data = load("digits")
    train, test = data.train_mask, data.test_mask
    label = torch.nn.functional.one_hot(data.y, 10).double() * train[:, None]
    mean = (label.t() @ data.x.double()) / label.sum(0)[:, None]
    by_pixels = (torch.cdist(data.x.double(), mean).argmin(1) == data.y)[test].double().mean()
    src, dst = data.edge_index
    degree = torch.bincount(dst, minlength=len(data.y)).double()
    state = label
    for _ in range(50):
        state = 0.9 * torch.zeros_like(state).index_add(0, dst, state[src]) / degree[:, None]
        state = state + label
    by_graph = (state.argmax(1) == data.y)[test].double().mean()
    assert by_graph > 0.95 and by_graph > by_pixels + 0.04


def test_unknown_names_and_splits():
    with pytest.raises(DataError, match="Unknown data set 'digitz'. Did you mean 'digits'"):
        load("digitz")
    with pytest.raises(DataError, match="cora has no split 'publik'. Did you mean 'public'"):
        load("cora", split="publik")


def test_missing_files_say_which_and_what_to_do(tmp_path):
    with pytest.raises(DataError) as caught:
        load("texas", tmp_path, cache=False, download=False)
    message = str(caught.value)
    first = tmp_path / "WebKB/texas/raw/out1_node_feature_label.txt"
    for part in ("texas: ", f"{first} and 11 more files", card("texas").source, "GRAPHKIT_DATA"):
        assert part in message


def test_one_missing_file_is_the_one_named(texas):
    (texas / "WebKB/texas/raw/texas_split_0.6_0.2_3.npz").unlink()
    with pytest.raises(DataError, match=r"texas_split_0\.6_0\.2_3\.npz not found"):
        load("texas", texas, download=False)


def test_the_root_is_only_read(texas):
    def listing():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in texas.rglob("*")}

    before = listing()
    load("texas", texas)
    info("texas", texas)
    available(texas)
    assert listing() == before


def test_a_changed_file_is_refused_before_it_is_parsed(texas, monkeypatch):
    path = texas / "WebKB/texas/raw/out1_graph_edges.txt"
    path.write_bytes(path.read_bytes() + b"1\t2\n")
    readers = {"geom-gcn": lambda files: [files[name] for name in files]}
    monkeypatch.setattr(loading, "READERS", readers)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = card("texas").files[path.name]
    with pytest.raises(DataError, match=f"has sha256 {found}, expected {expected}.*was not parsed"):
        load("texas", texas, check=False, cache=False)


def test_a_hostile_file_under_a_right_name_is_refused_by_its_sha256(hostile, tmp_path):
    data, canary = hostile
    folder = tmp_path / "Planetoid/Cora/raw"
    folder.mkdir(parents=True)
    for name in card("cora").files:
        (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=r"ind\.cora\.\w+ has sha256"):
        load("cora", tmp_path, cache=False)
    assert not canary.exists()


def test_a_file_that_cannot_be_read(texas, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StoreError, match="texas: .* cannot be read: .*Permission denied"):
        load("texas", texas, cache=False)


def with_card(monkeypatch, **changes):
    """Let the loader see the digits card with some fields changed."""
    digits = card("digits")
    counts = {name: changes.pop(name) for name in list(changes) if name in digits.counts}
    changed = dataclasses.replace(digits, counts={**digits.counts, **counts}, **changes)
    monkeypatch.setattr(loading, "card", lambda name: changed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": 1798}, "digits: nodes is 1798 in the card but 1797 in the data"),
        ({"edges": 1}, "digits: edges is 1 in the card"),
        ({"features": 65}, "digits: features is 65 in the card but 64"),
        ({"classes": 9}, "digits: classes is 9 in the card but 10"),
        ({"directed": True}, "digits: directed is True in the card but False"),
    ],
)
def test_counts_unlike_the_card(monkeypatch, changes, message):
    with_card(monkeypatch, **changes)
    with pytest.raises(DataError, match=message):
        load("digits")
    assert load("digits", check=False).num_nodes == 1797


def test_split_sizes_unlike_the_card(monkeypatch):
    split = dataclasses.replace(card("digits").splits["per-class"], test=1000)
    with_card(monkeypatch, splits={"per-class": split})
    with pytest.raises(
        DataError, match=r"splits\.per-class\.test is 1000 in the card but \[1297\]"
    ):
        load("digits")


def test_cards_that_name_the_wrong_reader(monkeypatch):
    with_card(monkeypatch, reader="digit")
    with pytest.raises(DataError, match="no reader 'digit'. Did you mean 'digits'"):
        load("digits")
    with_card(monkeypatch, reader="planetoid")
    with pytest.raises(DataError, match="reader 'planetoid' cannot make sense of the files"):
        load("digits")
    split = dataclasses.replace(card("digits").splits["per-class"], train_per_class=None)
    with_card(monkeypatch, splits={"per-class": split})
    with pytest.raises(DataError, match="split 'per-class' has neither files nor train_per_class"):
        load("digits")


def test_root_is_argument_then_variable_then_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHKIT_DATA", str(tmp_path / "variable"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root(tmp_path / "argument") == tmp_path / "argument"
    assert data_root() == tmp_path / "variable"
    monkeypatch.delenv("GRAPHKIT_DATA")
    assert data_root() == tmp_path / "cache" / "graphkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert data_root() == tmp_path / "home" / ".cache" / "graphkit"


def test_the_processed_form_is_the_same_and_needs_no_raw_files(texas, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = load("texas", texas)
    (kept,) = (tmp_path / "cache/graphkit/processed").iterdir()
    assert re.fullmatch(r"texas-[0-9a-f]{16}\.safetensors", kept.name)
    for name in card("texas").files:
        (texas / "WebKB/texas/raw" / name).unlink()
    again = load("texas", texas)
    assert again.keys() == first.keys()
    for key, value in first.to_dict().items():
        same = torch.equal(again[key], value) if torch.is_tensor(value) else again[key] == value
        assert same, key
    again.x.zero_()
    assert load("texas", texas).x.any()
    with pytest.raises(DataError, match="not found"):
        load("texas", texas, cache=False, download=False)


def test_damage_of_the_processed_form_is_found_and_named(texas, tmp_path, monkeypatch):
    """100 flipped bits, half of them in its header, and 50 cuts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load("texas", texas)
    (kept,) = (tmp_path / "cache/graphkit/processed").iterdir()
    whole = kept.read_bytes()
    bits = [torch.randint(0, 8 * size, (50,)) for size in (len(whole), 1000)]
    damaged = [whole[:end] for end in torch.randint(0, len(whole), (50,)).tolist()]
    for number in torch.cat(bits).tolist():
        bad = bytearray(whole)
        bad[number // 8] ^= 1 << number % 8
        damaged.append(bytes(bad))
    for content in damaged:
        kept.write_bytes(content)
        with pytest.raises(StoreError, match=f"{kept.name}.* remove it, and it is made again"):
            load("texas", texas)


def test_get_names_the_folder_that_holds_the_files(texas, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert get("Texas", texas) == texas / "WebKB/texas/raw"
    # the processed form alone is not the files
    with pytest.raises(StoreError, match="texas: .*cannot be downloaded"):
        get("texas", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_a_cache_that_cannot_be_written_is_told_and_done_without(
    texas, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load("texas", texas).num_nodes == 183
    assert "texas: the processed form was not kept." in caplog.text


@pytest.mark.parametrize("this", cards(), ids=lambda this: this.name)
def test_a_set_that_is_not_here_is_one_line_without_a_network(this, tmp_path, monkeypatch):
    """The name of every host leads nowhere."""

    def nowhere(*args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if not this.files:
        return
    with pytest.raises((DataError, StoreError)) as caught:
        load(this.name, tmp_path / "root")
    message = str(caught.value)
    assert message.startswith(f"{this.name}: ") and "\n" not in message
    assert str(tmp_path / "root" / this.path) in message
    assert not (tmp_path / "root").exists()


def test_a_set_is_downloaded_where_it_is_missing(local_root, tmp_path, monkeypatch):
    """From a server of our own: texas file by file, mutag as an archive."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site = tmp_path / "site"
    shutil.copytree(local_root / "WebKB/texas/raw", site)
    with zipfile.ZipFile(site / "MUTAG.zip", "w") as archive:
        for file in (local_root / "TUDataset/MUTAG/raw").iterdir():
            archive.write(file, f"MUTAG/{file.name}")
    handler = partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}/"
        original = card

        def local(name):
            this = original(name)
            moved = [
                dataclasses.replace(one, url=base + one.url.rsplit("/", 1)[-1])
                for one in this.downloads
            ]
            return dataclasses.replace(this, downloads=tuple(moved))

        monkeypatch.setattr(loading, "card", local)
        ours, theirs = load("texas", tmp_path / "root"), load("texas", local_root, cache=False)
        assert torch.equal(ours.x, theirs.x) and torch.equal(ours.train_mask, theirs.train_mask)
        assert len(load("mutag", tmp_path / "root")) == 188
        left = [p.name for p in (tmp_path / "root").rglob("*") if p.is_file()]
        assert not [name for name in left if name.endswith((".zip", ".part", ".json", ".lock"))]
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_path_is_read_as_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cora").mkdir()
    node = "".join(
        f"n{i},{i},{i % 2},{part}\n" for i, part in enumerate(["train", "val", "test"] * 4)
    )
    (tmp_path / "cora/nodes.csv").write_text(f"id,a,y,split\n{node}")
    (tmp_path / "cora/edges.csv").write_text("source,target\nn0,n1\nn5,n2\n")
    data = load("./cora")
    assert data.edge_index.tolist() == [[0, 5], [1, 2]] and data.num_classes == 2
    assert is_path(str(tmp_path)) and is_path("cora/") and not is_path("Cora")
    for options in ({"root": tmp_path}, {"split": "public"}):
        with pytest.raises(
            ConfigError, match="is a path, for which root, split and num_splits have no meaning"
        ):
            load("./cora", **options)
    with pytest.raises(DataError, match="nowhere"):
        load("./nowhere")


def test_available_has_a_row_per_card(tmp_path):
    rows = available(tmp_path)
    assert [row["name"] for row in rows] == [this.name for this in cards()]
    assert {row["name"] for row in rows if row["present"]} == {"digits"}


def test_info_counts_what_is_there(tmp_path):
    row = info("digits", tmp_path)
    assert row["location"] == "embedded in scikit-learn" and row["counts"]["nodes"] == 1797
    found, data = row["found"], load("digits")
    assert found["directed"] is False and found["isolated_nodes"] == found["self_loops"] == 0
    stored = found["homophily"]["stored"]
    assert stored["edge"] == pytest.approx(homophily(data.edge_index, data.y))
    assert (found["train"], found["val"], found["test"]) == ([200], [300], [1297])


def test_info_of_real_sets(local_root):
    found = info("citeseer", local_root)["found"]
    assert (found["isolated_nodes"], found["self_loops"], found["duplicate_edges"]) == (48, 0, 0)
    found = info("texas", local_root)["found"]
    assert (found["isolated_nodes"], found["self_loops"], found["directed"]) == (0, 16, True)
    assert found["class_sizes"] == [33, 1, 18, 101, 30]


def test_info_without_files_says_where_they_belong(tmp_path):
    row = info("cora", tmp_path)
    assert row["found"] is None and row["location"] == str(tmp_path / "Planetoid/Cora/raw")


def test_importing_the_package_loads_nothing_heavy():
    script = "import sys, graphkit.data; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["torch_geometric", "sklearn", "scipy"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    out = subprocess.run(
        [sys.executable, "-c", script, *heavy],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert out.stdout.strip() == "[]"
