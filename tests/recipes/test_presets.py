from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from graphkit import data
from graphkit.errors import ConfigError
from graphkit.recipes import PRESETS, RECIPES, options, report, rqgnn_settings
from graphkit.recipes.linknet import LINK_MODELS

CARDS = {card.name: card for card in data.cards()}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_what_exists(name: str) -> None:
    preset = PRESETS[name]
    assert preset.name == name and preset.recipe in RECIPES.values()
    assert set(preset.values) <= set(inspect.signature(preset.recipe).parameters)
    models = options.builders(preset.recipe.__name__)
    assert preset.values["model"] in models
    card, split = CARDS[preset.values["data"]], preset.values.get("split")
    assert split is None or split in card.splits
    assert bool(preset.published) == bool(preset.source)
    own = preset.values.get("model_options", "")
    whole = {**report.defaults(preset.recipe), **preset.values}
    assert options.settle(whole, models, preset.recipe.__name__)["model"] in models
    assert own == "" or options.read_model_options(preset.values["model"], own, models)
    # another row of the same table is where it starts from
    for start in (preset.values.get("start"), preset.values.get("teacher_run")):
        assert start is None or PRESETS[start].table == preset.table


def spied(name: str) -> tuple[Any, dict[str, Any]]:
    seen: dict[str, Any] = {}
    recipe = PRESETS[name].recipe

    def record(**options: Any) -> None:
        seen.update(options)

    record.__signature__ = inspect.signature(recipe)  # pyright: ignore[reportFunctionMemberAccess]
    return dataclasses.replace(PRESETS[name], recipe=record), seen


def test_options_override_the_values_and_the_command_says_so() -> None:
    preset, seen = spied("acm-texas")
    preset(lr=0.2, seeds="0-9", undirected=False, out="x")
    assert seen["lr"] == 0.2 and seen["weight_decay"] == 5e-4 and seen["model"] == "acm-gcn"
    assert seen["command"] == "graphkit train acm-texas --lr 0.2 --no-undirected"
    assert "87.84" in seen["note"] and "2210.07606" in seen["note"]


def test_a_preset_without_a_figure_has_no_note() -> None:
    preset, seen = spied("gcn-digits")
    preset()
    assert seen["note"] is None and seen["command"] == "graphkit train gcn-digits"


def test_a_figure_is_not_shown_for_another_model_and_own_data_has_no_command() -> None:
    preset, seen = spied("acm-texas")
    preset(model="gcn", seeds=range(2))
    assert seen["note"] is None
    assert seen["command"] == "graphkit train acm-texas --model gcn --seeds 0,1"
    preset(data=object())
    assert seen["note"] is None and seen["command"] is None


def test_unknown_options_are_named() -> None:
    with pytest.raises(
        ConfigError, match="gcn-cora: unknown option 'epohs'. Did you mean 'epochs'"
    ):
        PRESETS["gcn-cora"](epohs=3)


def test_recipes_document_every_option() -> None:
    for recipe in RECIPES.values():
        doc = inspect.getdoc(recipe) or ""
        for option in report.defaults(recipe):
            assert f"\n    {option}: " in doc, option


def test_acm_tables_have_every_row_on_the_splits_they_are_of() -> None:
    for table, models, split, count in (("acm", 6, "geom-gcn", 1), ("acm-random", 3, "random", 10)):
        rows = [preset for preset in PRESETS.values() if preset.table == table]
        assert len(rows) == 9 * models
        for preset in rows:
            values = preset.values
            assert (values["split"], values.get("num_splits", 1)) == (split, count)
            assert (values["select"], values["patience"], values["epochs"]) == ("loss", 200, 5000)
            # features are scaled but beside a structure channel
            has_structure = "structure=true" in values.get("model_options", "")
            assert values["row_normalize"] is not has_structure


def test_ncns_table_has_the_published_settings() -> None:
    """By the commands of the official code: one value of each group for every data set."""
    wanted = {
        "cora": (256, 1, 0.05, 1152, 100, 0.0043, 0.0024),
        "citeseer": (256, 1, 0.75, 384, 100, 0.0085, 0.0078),
        "pubmed": (256, 1, 0.1, 2048, 100, 0.0097, 0.002),
        "ogbl-collab": (64, 1, 0.1, 65536, 100, 0.0082, 0.0037),
        "ogbl-ppa": (64, 3, 0.0, 16384, 25, None, 0.0013),
        "ogbl-citation2": (64, 3, 0.2, 32768, 20, 0.0088, 0.0058),
        "ogbl-ddi": (224, 1, 0.4, 24576, 100, 0.0021, 0.0018),
    }
    names = ("hidden", "num_layers", "dropout", "batch_size", "epochs", "encoder_lr", "lr")
    for name, values in wanted.items():
        ncn, ncnc = (PRESETS[f"{model}-{name}"] for model in ("ncn", "ncnc"))
        assert tuple(ncn.values.get(option) for option in names) == values
        assert ncn.published and ncnc.published and ncn.values["drop_last"]
        assert (ncn.values["targets"] == "keep") is (name == "ogbl-citation2")
        own = options.read_model_options("ncnc", ncnc.values["model_options"], LINK_MODELS)
        assert own["depth"] == 1 and {"scale", "offset", "pt", "alpha"} <= set(own)
        assert own["use_xlin"] is (name != "ogbl-ppa") and own["tail_act"] is (name != "ogbl-ddi")
        assert ("start" in ncnc.values) is (name in ("ogbl-citation2", "ogbl-ddi"))
    # the defaults of OGB's examples, which clip no gradients on citation2
    examples = {"ogbl-collab": (0.001, 400, 1.0), "ogbl-ppa": (0.01, 20, 1.0)}
    examples["ogbl-citation2"] = (0.0005, 50, 0.0)
    for name, (lr, epochs, clip) in examples.items():
        wanted = dict(lr=lr, epochs=epochs, clip=clip, hidden=256, num_layers=3, dropout=0.0)
        for model in ("gcn", "sage"):
            values = PRESETS[f"{model}-{name}"].values
            assert values.items() >= {**wanted, "batch_size": 64 * 1024}.items()
    for name in ("ncn-cora", "ncnc-pubmed", "cn-citeseer", "gcn-cora-link", "buddy-cora"):
        values = PRESETS[name].values
        assert (values["num_val"], values["num_test"], values["val_negatives"]) == (0.1, 0.2, 2.0)
        assert values["resplit"] and values["metric"] == "hits@100" and values["seeds"] == "0-9"
    small = [preset for preset in PRESETS.values() if preset.table == "ncn-small"]
    assert len(small) == 7 * 11 and not any(preset.published for preset in small)


def test_rqgnns_tables_have_every_set_and_one_protocol() -> None:
    rows = [preset for preset in PRESETS.values() if preset.table == "rqgnn"]
    ablation = [preset for preset in PRESETS.values() if preset.table == "rqgnn-ablation"]
    assert len(rows) == 21 * 10 and len(ablation) == 8 * 4
    seen = set()
    for preset in (*rows, *ablation):
        values = preset.values
        card = data.card(values["data"])
        assert values["anomaly"] and "anomaly" in card.splits and card.counts["classes"] == 2
        protocol = ("num_splits", "seeds", "epochs", "patience", "stop", "select", "batch_size")
        assert tuple(values[name] for name in protocol) == (
            10,
            "0-9",
            100,
            51,
            "best",
            "latest",
            512,
        )
        assert not preset.published
        seen.add(values["data"])
    here = {card.name for card in data.cards() if "anomaly" in card.splits}
    assert seen == here and sum(not any(data.card(name).files.values()) for name in seen) == 10
    own = options.builders("graph")
    released = PRESETS["rqgnn-released-mcf-7"].values["model_options"]
    chosen = options.read_model_options("rqgnn", released, own)
    assert (chosen["train_filters"], chosen["rq_mode"]) == (False, "energy")
    assert (chosen["width"], chosen["depth"], chosen["batch_norm"]) == (4, 6, True)


def test_tuned_rows_differ_from_those_of_rqgnns_table_in_what_was_searched() -> None:
    for name, search in rqgnn_settings.tuned().items():
        plain = PRESETS[name]
        tuned = PRESETS[f"{name.removesuffix('-anomaly')}-tuned"]
        assert (plain.table, tuned.table) == ("rqgnn", "rqgnn-tuned")
        assert tuned.values == {**plain.values, **search["options"]}
        searched = {entry.split(" = ")[0].split(".")[0] for entry in search["space"].split("; ")}
        assert set(search["options"]) == searched
        assert search["command"].startswith(f"graphkit tune {name} --trials=30")
        assert sum(search["trials"].values()) == 30
