"""Presets: recipes with named values, and the published figure each is measured against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, nearest
from . import acm_settings, distill_settings, hyper_settings, link_settings, report, rqgnn_settings
from .direction import direction
from .distill import distill
from .graph import graph
from .hyper import hyper
from .link import link
from .node import node
from .node_mini import node_mini

KIPF = "Kipf and Welling 2017, arXiv:1609.02907, table 2"
LUAN = "Luan et al. 2022, arXiv:2210.07606, fixed 48/32/20 splits"
LUAN_RANDOM = "Luan et al. 2022, arXiv:2210.07606, random 60/20/20 splits"
ROSSI = "Rossi et al. 2023, arXiv:2305.10498, settings of the official repository"
ZHANG = "Zhang et al. 2021, arXiv:2102.11391"
TONG = "Tong et al. 2020, NeurIPS, one split of 20 nodes per class"
LIU = "Liu et al. 2020, arXiv:2007.09296, public split"
LIU_ARXIV = "Liu et al., https://github.com/mengliu1998/DeeperGNN"
ZHANG_DGMLP = "Zhang et al. 2021, arXiv:2108.00955, public split"
LUAN_GCNII = "as printed by Luan et al. 2022, arXiv:2210.07606, fixed 48/32/20 splits"
BOARD = "OGB leaderboard, https://ogb.stanford.edu/docs/leader_{}prop/, OGB team's run of {}"


@dataclass(frozen=True)
class Preset:
    """``recipe`` with the options ``values``; call it with the options that differ from those.

    ``published`` is the figure that others report for this experiment, empty if there is none,
    and ``source`` is where they report it. ``table`` names the table of ``graphkit reproduce`` that
    it is a row of, and ``shown`` the further scores of the test part that have a column there.
    """

    name: str
    recipe: Callable[..., report.Record]
    values: Mapping[str, Any]
    published: str = ""
    source: str = ""
    table: str = ""
    shown: tuple[str, ...] = ()

    def __call__(self, **options: Any) -> report.Record:
        """Run the recipe and return its record. ConfigError: the recipe has no such option."""
        values = {**self.values, **options}
        defaults = {**report.defaults(self.recipe), **self.values}
        for name in options:
            if name not in defaults:
                raise ConfigError(
                    f"{self.name}: unknown option {name!r}. {nearest(name, defaults)}"
                )
        same = all(values[name] == self.values[name] for name in ("data", "model"))
        note = f"published: {self.published} ({self.source})" if self.published and same else None
        command = None
        if isinstance(values["data"], str):
            command = report.command(self.name, {**defaults, **options}, defaults)
        return self.recipe(**{"note": note, "command": command, **values})


def _gcn(data: str, published: str) -> Preset:
    values = dict(data=data, model="gcn", hidden=16, epochs=200, patience=10, row_normalize=True)
    return Preset(f"gcn-{data}", node, {**values, "seeds": "0-9"}, published, KIPF)


def _acm(table: str) -> Iterator[Preset]:
    """ACM's table of the fixed splits, ``acm``, or of random ones, ``acm-random``."""
    models, rows = acm_settings.TABLES[table]
    for data, settings in rows.items():
        for model, (lr, weight_decay, dropout, structure, published) in zip(
            models, settings, strict=True
        ):
            values: dict[str, Any] = dict(
                data=data,
                model=model,
                seeds="0-9",
                lr=lr,
                weight_decay=weight_decay,
                dropout=dropout,
                epochs=5000,
                patience=200,
                select="loss",
                # of Planetoid's sets it is not the one that is taken by default
                split="geom-gcn",
                undirected=True,
                # the official code leaves features as they are beside a structure channel
                row_normalize=not structure,
            )
            if "+" in model:
                # there the norm is not reached, as the layer asks for the model by another name
                values["model_options"] = f"layer_norm=false,structure={str(structure).lower()}"
            name, source = f"{model.replace('-gcn', '')}-{data}", LUAN
            if table == "acm-random":
                name, source = f"{name}-random", LUAN_RANDOM
                values |= dict(split="random", num_splits=10)
            yield Preset(name, node, values, published, source, table=table)


def _dir(
    data: str,
    conv: str,
    published: str = "",
    *,
    alpha: float,
    jk: str = "max",
    normalize: bool = True,
    **values: Any,
) -> Preset:
    """Dir-GNN's best settings; a run per split, chosen and stopped by validation accuracy."""
    own = f"alpha={alpha},jk={jk},normalize={report.word(normalize)}"
    usual = dict(data=data, model=f"dir-{conv}", seeds="0-9", model_options=own)
    usual |= dict(weight_decay=0.0, dropout=0.0, drop_input=False, epochs=10000, stop="best")
    name, source = f"dir-{conv}-{data}", ROSSI if published else ""
    return Preset(name, node, {**usual, **values}, published, source, table="dirgnn")


def _wiki_dir(data: str, published: str = "", **values: Any) -> Preset:
    """Dir-GCN that reads out-neighbours alone, on the pages of Wikipedia."""
    usual = dict(alpha=1.0, hidden=128, patience=400, row_normalize=True)
    return _dir(data, "gcn", published, **{**usual, **values})


def _magnet(data: str, published: str = "", **values: Any) -> Preset:
    """MagNet's protocol; learning rate, width and q are those of the best validation accuracy."""
    usual = dict(data=data, model="magnet", seeds="0-9", drop_input=False, weight_decay=5e-4)
    usual |= dict(epochs=3000, patience=500, stop="best", select="loss")
    source = ZHANG if published else ""
    return Preset(f"magnet-{data}", node, {**usual, **values}, published, source, table="magnet")


def _digcn(model: str, data: str, published: str, **values: Any) -> Preset:
    """Twenty splits of 20 nodes per class, of which the paper has one."""
    usual = dict(data=f"{data}-directed", model=model, seeds="0-19", num_splits=20, epochs=1000)
    usual |= dict(patience=200, stop="best", drop_input=False, row_normalize=True)
    return Preset(f"{model}-{data}-directed", node, {**usual, **values}, published, TONG, "digcn")


def _digcn_rows(data: str, gcn: str, digcn: str, inception: str) -> tuple[Preset, ...]:
    return (
        _digcn("gcn", data, gcn),
        _digcn("digcn", data, digcn, lr=0.05, weight_decay=1e-4),
        _digcn("digcn-ib", data, inception, hidden=32, num_layers=3, dropout=0.6),
    )


def _links(data: str, name: str, **values: Any) -> Preset:
    """MagNet's protocol for links; --task and --model ask for the other tasks and encoders."""
    usual = dict(data=data, model="magnet", seeds="0-9", features="degree", lr=0.001, hidden=64)
    usual |= dict(weight_decay=5e-4, epochs=3000, patience=500, stop="best", select="loss")
    return Preset(f"direction-{name}", direction, {**usual, **values})


def _ogb_node(model: str, data: str, published: str, day: str, **values: Any) -> Preset:
    """Full batch with the settings of OGB's examples, which drop no inputs."""
    usual = dict(hidden=256, num_layers=3, dropout=0.5, drop_input=False, weight_decay=0.0)
    usual |= dict(data=data, model=model, seeds="0-9", lr=0.01, patience=0)
    name, source = f"{model}-{data}", BOARD.format("node", day)
    return Preset(name, node, {**usual, **values}, published, source)


def _mini(data: str, name: str, **values: Any) -> Preset:
    """What full-batch training reaches on these graphs, in mini-batches."""
    usual = dict(data=data, model="sage", seeds="0-4", hidden=64, fanout="15,10", lr=0.01)
    usual |= dict(batch_size=64, weight_decay=5e-4, epochs=100, select="loss")
    return Preset(f"sage-{name}-mini", node_mini, {**usual, **values})


def _full(data: str, name: str, epochs: int) -> Preset:
    """The same in full batch."""
    values = dict(data=data, model="sage", seeds="0-4", epochs=epochs, patience=0, select="loss")
    return Preset(f"sage-{name}", node, values)


def _typed(data: str) -> Preset:
    """Several types of nodes, of one of which 20 of each class are labelled; 50 epochs suffice."""
    return _mini(data, data, fanout="10,10", batch_size=32, epochs=50, select="score")


def _ddi(model: str, published: str) -> Preset:
    """OGB's example scores every fifth epoch, this recipe every one."""
    values = dict(data="ogbl-ddi", model=model, seeds="0-9", hidden=256, num_layers=2)
    values |= dict(dropout=0.5, lr=0.005, batch_size=65536, epochs=200)
    source = BOARD.format("link", "25 June 2020")
    return Preset(f"{model}-ogbl-ddi", link, values, published, source)


def _ncn() -> Iterator[Preset]:
    """NCN's table, ``ncn``, and the same models on graphs without features, ``ncn-small``."""
    for name, data, options, published in link_settings.rows():
        source = link_settings.WANG if published else ""
        usual = {"data": data, "seeds": "0-9"}
        yield Preset(name, link, {**usual, **options}, published, source, "ncn")
    for name, data, options in link_settings.small_rows():
        yield Preset(name, link, {"data": data, "seeds": "0-9", **options}, table="ncn-small")


def _molhiv(name: str, model: str, published: str, virtual_node: bool = False) -> Preset:
    values = dict(data="ogbg-molhiv", model=model, seeds="0-9", hidden=300, num_layers=5)
    values |= dict(dropout=0.5, lr=0.001, batch_size=32, epochs=100, virtual_node=virtual_node)
    source = BOARD.format("graph", "1 May 2020")
    return Preset(f"{name}-ogbg-molhiv", graph, values, published, source)


def _gin(data: str) -> Preset:
    # the figures in the literature are of ten folds, most chosen on the fold that is reported
    values = dict(data=data, model="gin", seeds="0-9", hidden=32, pool="sum", lr=0.01)
    return Preset(f"gin-{data}", graph, values)


def _molecules(data: str) -> Preset:
    """The recipe's own defaults on a small set of OGB's, published split."""
    values = dict(data=data, model="gin", seeds="0-9")
    return Preset(f"gin-{data}", graph, values, table="molecules")


def _rqgnn() -> Iterator[Preset]:
    """RQGNN's tables, ``rqgnn``, ``rqgnn-tuned`` and ``rqgnn-ablation``, and presets of none."""
    for name, values in rqgnn_settings.rows():
        yield Preset(name, graph, values, table="rqgnn")
    for name, values in rqgnn_settings.tuned_rows():
        yield Preset(name, graph, values, table="rqgnn-tuned")
    for name, values in rqgnn_settings.ablation_rows():
        yield Preset(name, graph, values, table="rqgnn-ablation")
    for name, values in rqgnn_settings.plain_rows():
        yield Preset(name, graph, values)


def _hyper() -> Iterator[Preset]:
    """The tables of hypergraphs, ``hyper``, and with few labels, ``hyper-few``."""
    for name, values, published, source in hyper_settings.rows():
        yield Preset(name, hyper, values, published, source, "hyper")
    for name, values in hyper_settings.few_label_rows():
        yield Preset(name, hyper, values, table="hyper-few")


def _distill() -> Iterator[Preset]:
    """Students: tables ``lighthgnn``, ``vqgraph`` with GLNN, and ``vqgraph-sweep``."""
    shown = ("teacher", "mlp")
    for name, values in distill_settings.lighthgnn_rows():
        yield Preset(name, distill, values, table="lighthgnn", shown=shown)
    for name, values, published in distill_settings.vqgraph_rows():
        about = published, distill_settings.YANG, "vqgraph", shown
        yield Preset(name, distill, values, *about)
    for name, values in distill_settings.sweep_rows():
        yield Preset(name, distill, values, table="vqgraph-sweep", shown=shown)


# tables with a row for each pair of many data sets and models, which the help lists by model
MANY = ("acm", "acm-random", "ncn", "ncn-small", "rqgnn", "rqgnn-tuned")
MANY += ("rqgnn-ablation", "hyper", "hyper-few", "lighthgnn", "vqgraph", "vqgraph-sweep")


def _public(model: str, data: str, published: str, source: str, **values: Any) -> Preset:
    """The public split of a citation graph; the epoch is the one of the lowest validation loss."""
    usual = dict(data=data, model=model, seeds="0-9", select="loss", row_normalize=True)
    table = "" if not published else "dagnn" if model == "dagnn" else "dgmlp"
    return Preset(f"{model}-{data}", node, {**usual, **values}, published, source, table)


def _dagnn(data: str, hops: int, weight_decay: float, dropout: float, published: str) -> Preset:
    """As its code: stopping early is looked at in the second half of the epochs alone."""
    rule = dict(epochs=1000, patience=100, min_epochs=500)
    values = dict(model_options=f"hops={hops}", weight_decay=weight_decay, dropout=dropout, **rule)
    return _public("dagnn", data, published, LIU, **values)


def _short(model: str, data: str, published: str, **values: Any) -> Preset:
    """As PyG's benchmark of citation graphs: 200 epochs, of which the last 100 may be left out."""
    rule = dict(epochs=200, patience=10, min_epochs=100)
    return _public(model, data, published, ZHANG_DGMLP, **rule, **values)


def _sgc(data: str, hops: int, weight_decay: float, published: str) -> Preset:
    """Features as they are: of rows of sum 1 the map does not grow large enough in 200 epochs."""
    values = dict(lr=0.1, dropout=0.0, weight_decay=weight_decay, row_normalize=False)
    return _short("sgc", data, published, model_options=f"hops={hops}", **values)


def _gcnii(
    name: str, data: str, layers: int, options: str, published: str = "", **values: Any
) -> Preset:
    """As its code: 1,500 epochs, or until 100 have found no lower validation loss."""
    usual = dict(data=data, model="gcnii", seeds="0-9", num_layers=layers, model_options=options)
    usual |= dict(epochs=1500, patience=100, stop="best", select="loss", row_normalize=True)
    source, table = (LUAN_GCNII, "gcnii") if published else ("", "")
    return Preset(f"gcnii-{name}", node, {**usual, **values}, published, source, table)


# the maps at both ends decay by less than the layers
GCNII = "lin_decay=0.0005"
GCNII_CITESEER: dict[str, Any] = dict(hidden=256, dropout=0.7, weight_decay=0.01)
FIXED: dict[str, Any] = dict(split="geom-gcn")
ARXIV: dict[str, Any] = dict(epochs=500, undirected=True, norm="batch_norm")

# five splits of 50, 25 and 25 %, as the published files have
FIVE: dict[str, Any] = dict(num_splits=5, seeds="0-4", patience=200)
ARXIV_YEAR: dict[str, Any] = dict(FIVE, lr=0.005, hidden=256, num_layers=6)
PATENTS: dict[str, Any] = dict(FIVE, lr=0.01, hidden=32, num_layers=5)

PRESETS = {
    preset.name: preset
    for preset in (
        *(
            Preset(f"{model}-digits", node, {"data": "digits", "model": model})
            for model in ("gcn", "sage", "gat", "mlp")
        ),
        _gcn("cora", "81.5"),
        _gcn("citeseer", "70.3"),
        *_acm("acm"),
        *_acm("acm-random"),
        _wiki_dir("chameleon", "79.71 ± 1.26", lr=0.005, num_layers=5),
        _wiki_dir("chameleon-filtered-directed", lr=0.005, num_layers=5),
        _wiki_dir("squirrel", "75.31 ± 1.92", lr=0.01, num_layers=4),
        _dir(
            "arxiv-year", "gcn", "64.08 ± 0.26", alpha=0.5, jk="cat", normalize=False, **ARXIV_YEAR
        ),
        _dir("snap-patents", "gcn", "73.95 ± 0.05", alpha=0.5, **PATENTS),
        _magnet("texas", "83.3"),
        _magnet("wisconsin"),
        _magnet("cora-ml-directed", num_splits=10),
        _magnet("citeseer-directed", num_splits=10),
        *_digcn_rows("cora-ml", "53.11 ± 0.8", "77.01 ± 0.4", "80.28 ± 0.5"),
        *_digcn_rows("citeseer", "54.36 ± 0.5", "64.92 ± 0.3", "66.11 ± 0.7"),
        _links("cora-ml-directed", "cora-ml"),
        _links("citeseer-directed", "citeseer"),
        _links("chameleon-directed", "chameleon"),
        _links("texas", "texas"),
        _links("wisconsin", "wisconsin"),
        _links("polblogs", "polblogs"),
        _links("wiki-vote", "wiki-vote", epochs=1000),
        _links("p2p-gnutella31", "gnutella", epochs=1000),
        _dagnn("cora", 10, 0.005, 0.8, "84.4 ± 0.5"),
        _dagnn("citeseer", 10, 0.02, 0.5, "73.3 ± 0.6"),
        _dagnn("pubmed", 20, 0.005, 0.8, "80.5 ± 0.5"),
        Preset(
            "dagnn-ogbn-arxiv",
            node,
            dict(
                **dict(data="ogbn-arxiv", model="dagnn", model_options="hops=16", seeds="0-9"),
                **dict(hidden=256, dropout=0.2, norm="batch_norm", drop_input=False),
                **dict(lr=0.005, weight_decay=0.0, epochs=1000, patience=0, undirected=True),
            ),
            "72.09 ± 0.25",
            LIU_ARXIV,
            "dagnn",
        ),
        _sgc("cora", 3, 5e-4, "81.0 ± 0.2"),
        _sgc("citeseer", 2, 5e-3, "71.3 ± 0.5"),
        _short("appnp", "cora", "83.3 ± 0.5", model_options="hops=10,alpha=0.1"),
        _short("appnp", "citeseer", "71.8 ± 0.5", model_options="hops=10,alpha=0.1"),
        # the public split, on which no figure of GCNII is in our sources
        _gcnii("cora", "cora", 64, GCNII, dropout=0.6, weight_decay=0.01),
        _gcnii("citeseer", "citeseer", 32, f"{GCNII},theta=0.6", **GCNII_CITESEER),
        _gcnii("cora-fixed", "cora", 64, "alpha=0.2", "88.37 ± 1.25", **FIXED, weight_decay=1e-4),
        _gcnii(
            *("citeseer-fixed", "citeseer", 64, "alpha=0.5", "77.33 ± 1.48"),
            **FIXED,
            weight_decay=5e-6,
        ),
        _gcnii(
            *("pubmed-fixed", "pubmed", 64, "alpha=0.1", "90.15 ± 0.43"), **FIXED, weight_decay=5e-6
        ),
        _gcnii(
            *("chameleon", "chameleon", 8, "alpha=0.2,theta=1.5", "63.86 ± 3.04"),
            undirected=True,
            weight_decay=5e-4,
        ),
        _gcnii(
            *("texas", "texas", 32, "alpha=0.5,theta=1.5", "77.57 ± 3.83"),
            undirected=True,
            weight_decay=1e-4,
        ),
        _gcnii(
            *("wisconsin", "wisconsin", 16, "alpha=0.5,theta=1.0", "80.39 ± 3.40"),
            undirected=True,
            weight_decay=5e-4,
        ),
        _ogb_node("gcn", "ogbn-arxiv", "71.74 ± 0.29", "1 May 2020", **ARXIV),
        _ogb_node("sage", "ogbn-arxiv", "71.49 ± 0.27", "1 May 2020", **ARXIV),
        _ogb_node("gcn", "ogbn-products", "75.64 ± 0.21", "20 June 2020", epochs=300),
        _ogb_node("sage", "ogbn-products", "78.50 ± 0.14", "20 June 2020", epochs=300),
        # the validation loss of Physics is lowest after 4 epochs
        _full("coauthor-physics", "physics", epochs=20),
        _full("amazon-photo", "photo", epochs=100),
        _mini("coauthor-physics", "physics", epochs=20),
        _mini("amazon-photo", "photo"),
        _typed("acm-heco"),
        _typed("imdb-meow"),
        _ddi("gcn", "37.07 ± 5.07"),
        _ddi("sage", "53.90 ± 4.74"),
        *_ncn(),
        _molhiv("gin", "gin", "75.58 ± 1.40"),
        _molhiv("gcn", "gcn", "76.06 ± 0.97"),
        _molhiv("gin-virtual", "gin", "77.07 ± 1.49", virtual_node=True),
        *map(_molecules, ("ogbg-molbace", "ogbg-molesol", "ogbg-molfreesolv")),
        _gin("mutag"),
        _gin("proteins"),
        *_rqgnn(),
        *_hyper(),
        *_distill(),
    )
}


def listing(recipes: Mapping[str, Callable[..., report.Record]]) -> str:
    """The recipes and presets, for the help of the command line."""
    lines, width = ["recipes:"], max(map(len, PRESETS)) + 2
    for name, recipe in recipes.items():
        lines.append(f"  {name:<{width}}{(recipe.__doc__ or '').partition('.')[0]}")
    lines += ["", "presets, whose values are defaults that options override:"]
    many: dict[tuple[str, str], list[Preset]] = {}
    for name, preset in PRESETS.items():
        what = f"{preset.values['model']} on {preset.values['data']}"
        figure = f"published {preset.published}" if preset.published else ""
        line = f"  {name:<{width}}{what:<26}{figure}".rstrip()
        if preset.table in MANY:
            # one line for all data sets of a model
            key = preset.table, name.replace(preset.values["data"], "DATA")
            many.setdefault(key, []).append(preset)
        else:
            lines.append(line)
    for (table, name), rows in many.items():
        data = ", ".join(preset.values["data"] for preset in rows)
        lines.append(f"  {name:<{width}}{rows[0].values['model']}, table {table}: {data}")
    return "\n".join(lines)
