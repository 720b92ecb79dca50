from __future__ import annotations

import copy
import importlib
import re

import pytest

from graphkit.data import Card, card, cards
from graphkit.data.cards import cards_folder, parse
from graphkit.data.readers import READERS
from graphkit.errors import DataError

# the package binds the function under the module's name
cards_module = importlib.import_module("graphkit.data.cards")

GOOD = {
    "title": "t",
    "task": "node-classification",
    "reader": "geom-gcn",
    "path": "A/raw",
    "licence": "MIT",
    "source": "s",
    "citation": "c",
    "metric": "accuracy",
    "default_split": "one",
    "defects": ["d"],
    "counts": {"nodes": 5, "edges": 4, "features": 3, "classes": 2, "directed": True},
    "files": {"a.txt": "0" * 64},
    "splits": {
        "one": {"train": [1, 2], "val": 1, "test": 1, "files": {"b": "1" * 64, "c": "2" * 64}}
    },
    "baselines": [{"method": "m", "split": "one", "value": 50.0, "reference": "r"}],
}


@pytest.mark.parametrize("this", cards(), ids=lambda this: this.name)
def test_every_card_in_the_folder_is_sound(this: Card):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", this.name)
    assert this.reader in READERS
    assert this.citation and this.source and this.licence
    assert this.files or this.reader == "digits"
    assert bool(this.splits) == (this.task != "structure")
    items = {"graph": "graphs", "link": "edges", "temporal": "events"}.get(this.kind, "nodes")
    count = this.counts[items]
    most = sum(count.values()) if isinstance(count, dict) else count
    for split in this.splits.values():
        sizes = (split.train, split.val, split.test)
        num_columns = max(len(s) if isinstance(s, tuple) else 1 for s in sizes)
        columns = [s if isinstance(s, tuple) else (s,) * num_columns for s in sizes]
        # the edges of a link set's graph may be its training edges alone
        extra = 2 if this.kind == "link" else 1
        assert all(0 < sum(parts) <= extra * most for parts in zip(*columns, strict=True))


def test_the_promised_sets_have_cards():
    names = {"digits", "cora", "citeseer", "texas", "wisconsin", "chameleon", "actor"}
    assert names <= {this.name for this in cards()}


def test_names_match_in_any_case():
    assert card("CiteSeer") == card("citeseer")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(DataError, match="Unknown data set 'coar'. Did you mean 'cora'"):
        card("coar")


def test_a_name_is_not_a_path():
    with pytest.raises(DataError, match="Unknown data set"):
        card("../datasets/cora")


def test_a_good_table_parses():
    this = parse("x", copy.deepcopy(GOOD))
    assert (this.counts["nodes"], this.counts["directed"]) == (5, True)
    assert this.splits["one"].train == (1, 2)
    assert this.baselines[0].value == 50.0


def test_downloads_and_options_parse():
    table = copy.deepcopy(GOOD) | {
        "options": {"key": 3},
        "downloads": [{"url": "https://a/b.zip", "unpack": "b/", "size": 5, "sha256": "0" * 64}],
    }
    this = parse("x", table)
    assert (this.kind, this.options) == ("node", {"key": 3})
    only = this.downloads[0]
    assert (only.unpack, only.size, only.file) == ("b/", 5, "")


def test_parse_leaves_its_input_alone():
    table = copy.deepcopy(GOOD)
    parse("x", table)
    assert table == GOOD


def bad(*path_and_value):
    """GOOD with the entry at a path replaced, or removed if the value is ``...``."""
    *path, last, value = path_and_value
    table = copy.deepcopy(GOOD)
    inner = table
    for key in path:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return table


BAD = [
    (bad("licens", "x"), "unknown field 'licens'. Did you mean 'licence'"),
    (bad("counts", "node", 3), "unknown field 'counts.node'. Did you mean 'nodes'"),
    (bad("splits", "one", "vla", 3), "unknown field 'splits.one.vla'. Did you mean 'val'"),
    (bad("baselines", 0, "metod", "x"), "unknown field 'baselines.metod'"),
    (bad("licence", ...), "field 'licence' is missing"),
    (bad("counts", "edges", ...), "field 'counts.edges' is missing"),
    (bad("splits", "one", "test", ...), "field 'splits.one.test' is missing"),
    (bad("counts", "nodes", "5"), "field 'counts.nodes' must be int, got str '5'"),
    (bad("counts", "nodes", True), "field 'counts.nodes' must be int, got bool True"),
    (bad("counts", "directed", 1), "field 'counts.directed' must be bool, got int 1"),
    (bad("counts", 3), "field 'counts' must be dict, got int 3"),
    (bad("splits", "one", 3), "field 'splits.one' must be dict, got int 3"),
    (bad("defects", [1]), "field 'defects' must be str, got int 1"),
    (
        bad("splits", "one", "train", [1, 2.0]),
        "field 'splits.one.train' must be int, got float 2.0",
    ),
    (bad("splits", "one", "train", [1]), "field 'splits.one.train' lists 1 sizes for 2 files"),
    (bad("splits", "one", "val", 0.2), "field 'splits.one.val' must be int or list, got float 0.2"),
    (bad("task", "node-clasification"), "Did you mean 'node-classification'"),
    (bad("metric", "acuracy"), "field 'metric' is 'acuracy'. Did you mean 'accuracy'"),
    (bad("default_split", "two"), "field 'default_split' is 'two'"),
    (bad("baselines", 0, "split", "two"), "field 'baselines.split' is 'two'"),
    (bad("path", "/etc"), "field 'path' must be a folder below the data root"),
    (bad("path", "a/../../b"), "field 'path' must be a folder below the data root"),
    (bad("splits", "one", "path", "../b"), "field 'splits.one.path' must be a folder below"),
    (bad("files", {"../a": "0" * 64}), "'../a', which is not a file name below"),
    (bad("files", {"a": "0" * 63}), "'files.a' must be a sha256"),
    (bad("files", {"a": "G" * 64}), "'files.a' must be a sha256"),
    (bad("downloads", [{"url": "ftp://a/b", "file": "a.txt"}]), "'downloads.url' must begin with"),
    (bad("downloads", [{"url": "https://a/b"}]), "needs 'file', the raw file it is, or 'unpack'"),
    (bad("downloads", [{"url": "https://a", "file": "b.txt"}]), "'downloads.file' is 'b.txt'"),
    (
        bad("downloads", [{"url": "https://a", "unpack": "", "sha256": "x"}]),
        "'downloads.sha256' must be a sha256",
    ),
    (bad("splits", "one", "fractions", [0.5, 0.5]), "'splits.one.fractions' must be three"),
    (bad("splits", "one", "balanced", True), "'splits.one.balanced' needs 'splits.one.fractions'"),
    (bad("splits", "one", "within", "train"), "'splits.one.within' needs 'splits.one.stratified'"),
    (bad("splits", "one", "within", "all"), "field 'splits.one.within' is 'all'"),
    (bad("counts", "hyperedges", 3), "unknown field 'counts.hyperedges'"),
    (bad("splits", "one", "files", {"b": 3, "c": "2" * 64}), "'splits.one.files.b' must be str"),
]


@pytest.mark.parametrize(("table", "fragment"), BAD, ids=[fragment for _, fragment in BAD])
def test_a_bad_table_is_refused_by_card_and_field(table, fragment):
    with pytest.raises(DataError, match=re.escape(fragment)) as caught:
        parse("mine", table)
    assert "card 'mine'" in str(caught.value)


def test_a_file_that_is_not_toml(tmp_path):
    (tmp_path / "mine.toml").write_text("title = ")
    with pytest.raises(DataError, match="card 'mine': .* is not valid TOML"):
        card("mine", tmp_path)


def test_cards_lie_inside_a_wheel_or_beside_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "graphkit"
    monkeypatch.setattr(cards_module, "__file__", str(package / "data" / "cards.py"))
    with pytest.raises(DataError, match="The data set cards are neither in"):
        cards_folder()
    (tmp_path / "datasets").mkdir()
    assert cards_folder() == tmp_path / "datasets"
    (package / "datasets").mkdir(parents=True)
    assert cards_folder() == package / "datasets"


def test_the_folder_of_cards_is_no_package():
    assert not (cards_folder() / "__init__.py").exists()
