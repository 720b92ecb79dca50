"""The grammar of what is searched, and the published grids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit.errors import ConfigError, StoreError
from graphkit.nn import MODELS
from graphkit.recipes import graph, link, node, node_mini
from graphkit.recipes.space import SPACES, Dimension, Space, read_space, usual_space

pytest.importorskip("optuna")


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("lr=0.01,0.05,1", Dimension("lr", (0.01, 0.05, 1.0))),
        ("lr = 1e-3 | 2", Dimension("lr", (1e-3, 2.0))),
        ("hidden = 16, 32", Dimension("hidden", (16, 32))),
        ("num-layers=2,3", Dimension("num_layers", (2, 3))),
        ("norm=null,batch_norm", Dimension("norm", (None, "batch_norm"))),
        ("undirected=true,false", Dimension("undirected", (True, False))),
        ("model=gcn,sage", Dimension("model", ("gcn", "sage"))),
        ("dropout=0:0.4:0.1", Dimension("dropout", (0.0, 0.1, 0.2, 0.3, 0.4), step=0.1)),
        ("dropout = 0 : 0.5 : 0.2", Dimension("dropout", (0.0, 0.2, 0.4), step=0.2)),
        ("hidden=8:20:4", Dimension("hidden", (8, 12, 16, 20), step=4)),
        ("hidden=8..64", Dimension("hidden", low=8, high=64)),
        # in floats 0.03 - 0.01 is less than 0.02
        ("dropout=0.01:0.03:0.02", Dimension("dropout", (0.01, 0.03), step=0.02)),
        ("hidden = 1e1 .. 64 log", Dimension("hidden", low=10, high=64, log=True)),
        ("dropout=0..1", Dimension("dropout", low=0.0, high=1.0)),
        ("weight_decay=1e-6..1e-2 log", Dimension("weight_decay", low=1e-6, high=1e-2, log=True)),
    ],
)
def test_an_entry(entry: str, found: Dimension) -> None:
    (one,) = read_space(entry, node).dimensions
    assert one == found
    assert list(map(type, (*one.choices, one.low))) == list(map(type, (*found.choices, found.low)))


def test_values_with_commas_are_parted_by_bars() -> None:
    (one,) = read_space("fanout = 15,10 | 10,10 | 5", node_mini).dimensions
    assert one.choices == ("15,10", "10,10", "5")
    assert read_space(str(one), node_mini).dimensions == (one,)


def test_a_text_a_file_and_a_mapping_say_the_same(tmp_path: Path) -> None:
    text = "lr=0.01,0.05; dropout=0:0.9:0.1;\nhidden=16..64;"
    path = tmp_path / "space.txt"
    path.write_text("# of the paper\n\nlr = 0.01, 0.05\ndropout=0:0.9:0.1 # all\nhidden=16..64\n")
    mapping = {"lr": [0.01, 0.05], "dropout": "0:0.9:0.1", "hidden": "16..64"}
    assert read_space(text, node) == read_space(path, node) == read_space(str(path), node)
    assert read_space(text, node) == read_space(mapping, node)


@pytest.mark.parametrize(
    ("space", "part"),
    [
        ({}, "space is empty"),
        ("=0.1,0.2", "'=0.1,0.2' is not OPTION=VALUES"),
        ("lr=0.1,0.2; dropout", "'dropout' is not OPTION=VALUES"),
        ("lr=0.1,0.2; lr=1,2", "lr is there twice"),
        ("lr=0.1", "lr has 1 values, but at least two are expected. Give a single one as the"),
        ("lr=", "lr has 0 values"),
        ("lr=0.1,0.2,1e-1", "lr has 0.1 twice"),
        ("lr=0.1,fast", "space: lr is 'fast', but float is expected"),
        ("hidden=16,32.5", "space: hidden is '32.5', but int is expected"),
        ("hidden=16..32.5", "hidden is whole, but 32.5 is among its values"),
        ("hidden=2:4:0.5", "hidden is whole, but 2.5 is among its values"),
        ("undirected=maybe,true", "space: undirected is 'maybe', but bool is expected"),
        ("select=score,best", "space: select is 'best'"),
        ("model=1..2", "model is no number. Name its values"),
        ("norm=1:3:1", "norm is no number"),
        ("lr=0.2..0.1", "lr is '0.2..0.1', but LOW..HIGH rises."),
        ("lr=0..0.1 log", "but LOW..HIGH rises, the first above 0."),
        ("lr=1..2 logarithmic", "space: lr is '1..2 logarithmic'"),
        ("lr=1..1e400", "which no option takes"),
        ("hidden=1..1e999999999", "which no option takes"),
        ("hidden=1:1e999999999:1", "LOW:HIGH:STEP rises in steps"),
        ("dropout=0:1:0", "LOW:HIGH:STEP rises in steps"),
        ("dropout=0:1:1e-999999999", "LOW:HIGH:STEP rises in steps"),
        ("dropout=0.01:0.03:0.021", "LOW:HIGH:STEP rises in steps"),
        ("dropout=1:0:0.1", "LOW:HIGH:STEP rises in steps"),
        ("lr=0:1:1e-9", "LOW:HIGH:STEP rises in steps"),
        ("droput=0.1,0.2", "node has no option 'droput'. Did you mean 'dropout'?"),
        ("droput.x=0.1,0.2", "node has no option 'droput.x'"),
        ("lr.x=0.1,0.2", "node has no option 'lr.x'"),
        ("seeds=0,1", "seeds is not searched, because scores of different ones cannot be"),
        ("data=cora,digits", "data is not searched"),
        ("metric=f1,accuracy", "metric is not searched"),
        ("quiet=true,false", "quiet is not searched"),
        ("model_options.hops=1,2", "gcn has no option 'hops' of its own. It has no options"),
        ("model_options=a,b", "gcn has no option '' of its own"),
        ("model=gcn,sage; model_options.hops=1,2", "is of one model. Give one, instead of"),
        ({"lr": [0.1, object()]}, "lr has the value <object"),
        ({"lr": 0.1}, "lr has 1 values"),
    ],
)
def test_mistakes(space: Any, part: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(part)):
        read_space(space, node, "gcn")


def test_a_recipe_without_options_of_models() -> None:
    def bare(*, lr: float = 0.1) -> None: ...

    with pytest.raises(ConfigError, match="bare has no option 'model_options.hops'"):
        read_space("model_options.hops=1,2", bare, "gin")
    with pytest.raises(ConfigError, match="gin has no option 'hops' of its own. It has no options"):
        read_space("model_options.hops=1,2", graph, "gin")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(StoreError, match="'nowhere.txt', which holds no =, and no such file"):
        read_space("nowhere.txt", node)


def test_own_options_of_a_model_have_its_types(monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(widths: list[int], dropout: float, *, hops: int = 3, alpha: float = 0.1) -> None: ...

    monkeypatch.setitem(MODELS, "deep", deep)
    space = read_space("model_options.hops=5:15:5; model_options.alpha=0.1..1", node, "deep")
    assert space.dimensions[0].choices == (5, 10, 15)
    assert space.dimensions[1].low == 0.1
    with pytest.raises(ConfigError, match="deep has no option 'hopps' of its own. Did you mean"):
        read_space("model_options.hopps=5,10", node, "deep")
    with pytest.raises(ConfigError, match="hops is 'many', but"):
        read_space("model_options.hops=5,many", node, "deep")


_NUMBERS = st.floats(1e-6, 1e3, allow_nan=False).map(lambda x: float(f"{x:.4g}"))
_DIMENSIONS = st.one_of(
    st.lists(_NUMBERS, min_size=2, max_size=6, unique=True).map(
        lambda values: Dimension("lr", tuple(values))
    ),
    st.lists(st.integers(1, 500), min_size=2, max_size=6, unique=True).map(
        lambda values: Dimension("hidden", tuple(values))
    ),
    st.tuples(_NUMBERS, _NUMBERS, st.booleans())
    .filter(lambda drawn: drawn[0] < drawn[1])
    .map(lambda drawn: Dimension("lr", low=drawn[0], high=drawn[1], log=drawn[2])),
    st.tuples(st.integers(0, 30), st.integers(1, 9), st.integers(2, 9)).map(
        lambda drawn: Dimension(
            "hidden", tuple(drawn[0] + drawn[1] * i for i in range(drawn[2])), step=drawn[1]
        )
    ),
    st.tuples(st.integers(0, 30), st.integers(1, 9), st.integers(2, 9)).map(
        lambda drawn: Dimension(
            "lr", tuple((drawn[0] + drawn[1] * i) / 100 for i in range(drawn[2])),
            step=drawn[1] / 100,
        )
    ),
)  # fmt: skip


@settings(max_examples=50)
@given(_DIMENSIONS)
def test_what_is_printed_is_read_as_the_same(one: Dimension) -> None:
    assert read_space(str(one), node).dimensions == (one,)


@settings(max_examples=50)
@given(_DIMENSIONS, st.integers(0, 2**31))
def test_what_optuna_draws_becomes_a_value_as_written(one: Dimension, seed: int) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    value = one.value(study.ask({one.name: one.distribution()}).params[one.name])
    if one.choices:
        assert value in one.choices and isinstance(value, type(one.choices[0]))
    else:
        assert one.low <= value <= one.high


def test_points_are_all_of_them() -> None:
    space = read_space("lr=0.1,0.2; hidden=4..6; norm=null,batch_norm", node)
    points = [tuple(point.items()) for point in space.points(range(12))]
    assert space.size == 12 == len(set(points))
    assert {point[1][1] for point in points} == {4, 5, 6}
    assert read_space("lr=0.1,0.2; dropout=0..1", node).size is None


def test_a_dimension_may_be_fixed() -> None:
    space = read_space("lr=0.1,0.2; hidden=4..6", node)
    assert space.without(["lr", "epochs"]) == Space(space.dimensions[1:])


@pytest.mark.parametrize("model", SPACES)
def test_published_spaces_name_what_exists(model: str) -> None:
    if model not in MODELS:
        pytest.skip(f"{model} is not among the models yet")
    space = usual_space(model, node)
    assert space.dimensions and "arXiv" in space.origin
    for one in space.dimensions:
        assert len(one.choices) > 1 or one.low < one.high


def test_acms_grid_is_that_of_the_authors_code() -> None:
    space = usual_space("acm-gcn", node)
    assert space.size == 3 * 9 * 10
    assert space.dimensions[1].choices == (0, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2)


@pytest.mark.parametrize("recipe", [node, node_mini, link, graph])
def test_a_model_without_a_space_has_the_usual_one(recipe: Any) -> None:
    space = usual_space("gin", recipe)
    names = [one.name for one in space.dimensions]
    more = ["num_layers", "pool", "loss"] if recipe is graph else []
    assert names == ["lr", "weight_decay", "dropout", "hidden", *more]
    assert "graphkit's own" in space.origin


def test_models_of_whole_graphs_have_spaces_of_their_own() -> None:
    space = usual_space("rqgnn", graph)
    names = {one.name for one in space.dimensions}
    assert {"model_options.width", "model_options.depth", "gamma"} <= names
    assert "arXiv:2310.02861" in space.origin
    assert {one.name for one in usual_space("ocgin", graph).dimensions} >= {"hidden", "num_layers"}
    # a model's space of nodes is another one
    assert usual_space("gat", graph).dimensions != usual_space("gat", node).dimensions
    with pytest.raises(ConfigError, match="anomaly is not searched, because scores of different"):
        read_space("anomaly=true,false", graph)
