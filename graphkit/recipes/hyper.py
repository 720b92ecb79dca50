"""The recipe ``hyper``: full-batch node classification on hypergraphs. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..data import check, check_hypergraph, check_inputs, load
from ..errors import ConfigError, DataError
from ..nn import HYPER_MODELS
from ..structure import add_singletons, as_hypergraph, check_hyperedge_weight
from . import report
from .node import PARTS, Nodes, carry_nodes, node_card, scaled_rows
from .options import prepare
from .task import task_of

if TYPE_CHECKING:
    from torch_geometric.data.hypergraph_data import HyperGraphData

_KIND = "hypergraph", "hypergraph"
_NO_EDGES = torch.empty(2, 0, dtype=torch.int64)
# in the official codes these take hypergraphs as they are, the others get singletons
_AS_IT_IS = ("cegat", "cegcn", "hypergcn", "mlp")


def hyper(
    *,
    data: "str | HyperGraphData" = "zoo",
    model: str = "hgnn",
    seeds: "str | int | Sequence[int]" = "0",
    root: str | None = None,
    out: str | None = None,
    split: str | None = None,
    num_splits: int = 1,
    device: "str | torch.device" = "auto",
    amp: Literal["bf16"] | None = None,
    compile: bool = False,
    singletons: Literal["auto", "all", "isolated", "none"] = "auto",
    hidden: int = 64,
    num_layers: int = 2,
    dropout: float = 0.5,
    norm: Literal["batch_norm"] | None = None,
    drop_input: bool = False,
    model_options: "str | Mapping[str, Any]" = "",
    optimizer: Literal["adam", "adamw"] = "adam",
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    epochs: int = 300,
    patience: int = 100,
    stop: Literal["mean", "best"] = "mean",
    min_epochs: int = 0,
    select: Literal["score", "loss"] = "score",
    metric: str | None = None,
    row_normalize: bool = False,
    quiet: bool = False,
    resume: "str | None" = None,
    command: "str | None" = None,
    note: "str | None" = None,
) -> report.Record:
    """Full-batch node classification on hypergraphs.

    Returns the record of the run and leaves a folder with its configuration, curves, scores and
    weights, as the recipe node does: the epoch is chosen and training is stopped by the validation
    nodes alone, the test nodes are scored once for each seed, and a run that is stopped goes on
    with graphkit train --resume and ends with the same bits.

    Args:
        data: data set (see: graphkit data list --kind hypergraph); in Python also a HyperGraphData
        model: hgnn, hgnn+, hypergcn, hnhn, unigcn, unigat, unigin, unisage, unigcnii, alldeepsets,
            allsettransformer or edhnn; cegcn and cegat by clique expansion; mlp
        seeds: seeds to run, such as 0, 0-9 or 0,3,5; of S splits, seed i trains on split i mod S
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/hyper-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds
        num_splits: number of splits to draw, where the split is drawn and not published
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        amp: bf16 runs the model in bfloat16 where that is safe
        compile: compile the model with torch.compile
        singletons: hyperedges of one member to add: all, for each node that has none; isolated, for
            nodes in no hyperedge; none; auto is all, but none for hypergcn, cegcn, cegat and mlp
        hidden: width of the hidden layers
        num_layers: number of convolutions
        dropout: share of the inputs of each layer dropped in training
        norm: batch_norm puts one behind every layer but the last
        drop_input: drop the features too, not between the layers alone
        model_options: options of the model's own, such as heads=4,input_dropout=0.2
        optimizer: adam, or adamw, whose decay does not pass through its averages
        lr: learning rate
        weight_decay: L2 penalty, on all parameters where the model does not say otherwise
        epochs: most epochs to train
        patience: stop when the validation loss exceeds its mean over so many epochs before; 0 never
        stop: mean for that rule; best stops when the epoch that is kept is patience epochs old
        min_epochs: epochs after which stopping early is looked at first
        select: keep the weights of the best validation score, or of the lowest validation loss
        metric: accuracy, rocauc, ap or f1; the data set's own if not given
        row_normalize: scale the features of each node to sum 1
        quiet: print nothing
        resume: folder of a run of these options that was stopped, to go on in
        command: command that repeats the run, where it is not made of these options
        note: line to print under the result

    Raises:
        ConfigError: an option is unknown or out of range, or training diverged.
        DataError: the data set is unknown or malformed, or lacks a split or features.
        StoreError: the run folder exists or cannot be written.
        BackendError: the device is not there.
    """
    given = locals()
    settled = prepare(hyper, given, HYPER_MODELS)
    named = node_card(data, *_KIND) if isinstance(data, str) else None
    found = find_hyper(data, root, split, num_splits)
    metric = metric or (named.metric if named else None)
    settled.options["singletons"] = settle_singletons(singletons, settled.options["model"])
    nodes, added = read_hyper(found, settled.device, settled.options)
    more = f", {added:,} of them added for single nodes" if added else ""
    said = [f"{nodes.graph.num_src:,} hyperedges of {nodes.graph.num_edges:,} members{more}"]
    task = task_of(nodes.y, metric, getattr(found, "num_classes", None))
    return carry_nodes(hyper, settled, nodes, task, found, named, said=said, notes=(), given=given)


def settle_singletons(asked: str, model: str) -> str:
    """What ``auto`` means for ``model``."""
    if asked != "auto":
        return asked
    return "none" if model in _AS_IT_IS else "all"


def find_hyper(
    data: Any, root: str | None, split: str | None, num_splits: int, labelled: bool = True
) -> Any:
    """The ``HyperGraphData`` of a name, or a user's own with features, checked.

    ``labelled``: also with labels and masks.

    Raises:
        DataError: it is unknown, malformed, or lacks something.
    """
    if isinstance(data, str):
        node_card(data, *_KIND)
        return load(data, root, split=split, num_splits=num_splits)
    if num_splits > 1:
        raise ConfigError(
            f"num_splits is {num_splits}, but it is for data sets given by name. Give data masks "
            "of shape [N, S] for S splits."
        )
    from torch_geometric.data import Data

    check_hypergraph(data)
    names = ("x", "y", *(f"{part}_mask" for part in PARTS))
    kept = {name: data[name] for name in names if name in data}
    # the same doors as for the nodes of a graph
    (check if labelled else check_inputs)(Data(edge_index=_NO_EDGES, **kept))
    return data


def read_hyper(data: Any, device: torch.device, options: Mapping[str, Any]) -> tuple[Nodes, int]:
    """Features, hypergraph, labels and masks of ``data`` on ``device``, and how many hyperedges
    were added, as ``options`` ask."""
    if getattr(data, "x", None) is None:
        raise DataError(
            f"{getattr(data, 'name', 'data')} has no node features x, which this recipe needs."
        )
    x, y = data["x"].detach().float(), data["y"]
    x = scaled_rows(x) if options["row_normalize"] else x
    graph = as_hypergraph(data["edge_index"], x.size(0), num_hyperedges(data))
    weight = getattr(data, "hyperedge_weight", None)
    if weight is not None:
        weight = check_hyperedge_weight(weight, graph).float()
    before = graph.num_src
    if options["singletons"] != "none":
        graph = add_singletons(graph, isolated_only=options["singletons"] == "isolated")
    added = graph.num_src - before
    if weight is not None:
        weight = torch.cat([weight, weight.new_ones(added)]).to(device)
    masks = {part: data[f"{part}_mask"].to(device) for part in PARTS}
    return Nodes(x.to(device), graph.to(device), y.to(device), masks, weight), added


def num_hyperedges(data: Any) -> int:
    """How many hyperedges ``data`` says it has, else the largest number plus one."""
    said = getattr(data, "num_hyperedges", None)
    index = data["edge_index"]
    return int(index[1].max()) + 1 if said is None and index.numel() else int(said or 0)
