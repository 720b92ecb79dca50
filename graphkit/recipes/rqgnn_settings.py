"""Settings of RQGNN's tables: anomalies among graphs, by data set and model.

Those of RQGNN are the one command that the official code publishes, for MCF-7; for its other nine
sets none were found, nor could the table of the paper be read again, so no row has a published
figure. Its code leaves the Chebyshev filters as they are drawn and takes the energy for the
quotient: ``rqgnn-released`` is that, ``rqgnn`` is what the paper describes.

Settings that ``graphkit tune`` chose by validation alone are in ``rqgnn_tuned.json``, each with
its search; ``python benchmarks/tuned.py`` writes them there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# the ten sets of the paper, and those that lie about in copies
CANCER = (
    *("mcf-7", "molt-4", "pc-3", "sw-620", "nci-h23"),
    *("ovcar-8", "p388", "sf-295", "sn12c", "uacc257"),
)
FIGURES = ("tox21-hse", "aids", "bzr", "cox2", "dhfr", "ptc-mr", "mutagenicity", "nci1")
OTHERS = ("mutag", "nci109", "proteins")

# the epoch of the best macro-F1 and that of the best AUC are kept, the later of equal ones;
# training stops when the former is more than 50 epochs old
PROTOCOL: dict[str, Any] = dict(
    **dict(anomaly=True, num_splits=10, seeds="0-9", lr=0.005, batch_size=512, epochs=100),
    **dict(patience=51, stop="best", select="latest", hidden=64, dropout=0.4),
)
# atoms alone, as RQGNN reads them
BASELINE: dict[str, Any] = dict(num_layers=3, pool="sum", edge_features=False)
MODELS: dict[str, dict[str, Any]] = {
    "rqgnn": dict(model="rqgnn"),
    "rqgnn-released": dict(model="rqgnn", model_options="train_filters=false,rq_mode=energy"),
    **{model: dict(model=model, **BASELINE) for model in ("gin", "gcn", "gat", "cheb", "bern")},
    "gin-attention": dict(model="gin", **BASELINE | {"pool": "attention"}),
    "gin-virtual": dict(model="gin", **BASELINE, virtual_node=True),
    # its distances have no other readout than the sum
    "ocgin": dict(model="ocgin", num_layers=4, hidden=32),
}
ABLATION: dict[str, str] = {
    "no-rql": "use_rql=false",
    "no-pooling": "use_pooling=false",
    "frozen": "train_filters=false",
    "energy": "rq_mode=energy",
}


def rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of each preset of the table ``rqgnn``, and its options."""
    for data in (*FIGURES, *OTHERS, *CANCER):
        for name, options in MODELS.items():
            # without the suffix these would be presets of classification
            suffix = "" if name.startswith("rqgnn") else "-anomaly"
            yield f"{name}-{data}{suffix}", {"data": data, **PROTOCOL, **options}


def tuned() -> Mapping[str, Mapping[str, Any]]:
    """By preset of the table ``rqgnn``: the ``options`` that a search chose, and that search."""
    return json.loads(Path(__file__).with_name("rqgnn_tuned.json").read_text(encoding="utf-8"))


def tuned_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """The same presets with the settings of their searches."""
    found = dict(rows())
    for name, search in tuned().items():
        values = found[name]
        yield f"{name.removesuffix('-anomaly')}-tuned", values | search["options"]


def ablation_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """The same of the table ``rqgnn-ablation``: RQGNN without one of its parts."""
    for data in FIGURES:
        for name, options in ABLATION.items():
            values = {"data": data, "model": "rqgnn", **PROTOCOL, "model_options": options}
            yield f"rqgnn-{name}-{data}", values


def plain_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """RQGNN where no class is rarer, or labels and values are what is learnt: no table."""
    usual = {name: value for name, value in PROTOCOL.items() if name != "anomaly"}
    for data in ("enzymes", "imdb-binary"):
        yield f"rqgnn-{data}", {"data": data, "model": "rqgnn", **usual}
    # the published splits
    usual = {name: value for name, value in usual.items() if name != "num_splits"}
    for data in ("ogbg-molbace", "ogbg-molhiv", "ogbg-molesol", "ogbg-molfreesolv"):
        yield f"rqgnn-{data}", {"data": data, "model": "rqgnn", **usual}
