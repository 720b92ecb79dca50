"""The recipe ``node``: full-batch node classification and regression. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console
from torch import Tensor, nn

from ..data import Card, card, check, is_path, load
from ..errors import ConfigError, DataError
from ..graph import Graph
from ..nn import MODELS, build_model
from ..store import digest
from . import memory, plots, report
from .loop import Problem, finite
from .options import Settled, builders, hints, prepare, read_model_options
from .runs import Job, carry_out
from .task import Task, class_names, split_rows, task_of

if TYPE_CHECKING:
    from torch_geometric.data import Data

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Nodes:
    """Features ``x [N, F]``, graph, labels ``y``, and masks of the three parts, on one device.

    Of a hypergraph ``graph`` leads from hyperedges to nodes, and ``weight [M]`` is of hyperedges.
    """

    x: Tensor
    graph: Graph
    y: Tensor
    masks: Mapping[str, Tensor]
    weight: Tensor | None = None

    @property
    def over(self) -> tuple[Graph] | tuple[Graph, Tensor]:
        """What a model takes beside the features."""
        return (self.graph,) if self.weight is None else (self.graph, self.weight)

    def split(self, seed: int) -> tuple[int | None, dict[str, Tensor]]:
        """The split that ``seed`` uses (None if there is one), and the rows of each part."""
        return split_rows(self.masks, seed)


def node(
    *,
    data: "str | Data" = "digits",
    model: str = "gcn",
    seeds: "str | int | Sequence[int]" = "0",
    root: str | None = None,
    out: str | None = None,
    split: str | None = None,
    num_splits: int = 1,
    device: "str | torch.device" = "auto",
    amp: Literal["bf16"] | None = None,
    compile: bool = False,
    hidden: int = 64,
    num_layers: int = 2,
    dropout: float = 0.5,
    norm: Literal["batch_norm"] | None = None,
    drop_input: bool = True,
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
    undirected: bool = False,
    row_normalize: bool = False,
    allow_nonfinite: bool = False,
    quiet: bool = False,
    submission: str | None = None,
    resume: "str | None" = None,
    command: "str | None" = None,
    note: "str | None" = None,
) -> report.Record:
    """Full-batch node classification or regression with any model.

    Returns the record of the run and leaves a folder with its configuration, curves, scores and
    weights. The epoch is chosen and training is stopped by the validation nodes alone; the test
    nodes are scored once for each seed, after training.

    A run that is stopped, by Ctrl-C, SIGTERM or a kill, goes on with graphkit train --resume and
    ends with the same bits. After Ctrl-C and SIGTERM result.json names the finished seeds and says
    "interrupted": true, and KeyboardInterrupt tells the command that goes on.

    Args:
        data: data set (see: graphkit data list), or path of your own; in Python also a PyG Data
        model: gcn, sage, gat, gatv2, gin, mlp, acm-gcn, acmii-gcn, sgc, sign, appnp, gcnii,
            resgcn+, dagnn or dgmlp
        seeds: seeds to run, such as 0, 0-9 or 0,3,5; of S splits, seed i trains on split i mod S
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/node-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds
        num_splits: number of splits to draw, where the split is drawn and not published
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        amp: bf16 runs the model in bfloat16 where that is safe
        compile: compile the model with torch.compile
        hidden: width of the hidden layers
        num_layers: number of layers
        dropout: share of the inputs of each layer dropped in training
        norm: batch_norm puts one behind every layer but the last
        drop_input: drop inputs of the first layer too, not between the layers alone
        model_options: options of the model's own, such as hops=10,alpha=0.1
        optimizer: adam, or adamw, whose decay does not pass through its averages
        lr: learning rate
        weight_decay: L2 penalty, on all parameters where the model does not say otherwise
        epochs: most epochs to train
        patience: stop when the validation loss exceeds its mean over so many epochs before; 0 never
        stop: mean for that rule; best stops when the epoch that is kept is patience epochs old
        min_epochs: epochs after which stopping early is looked at first
        select: keep the weights of the best validation score, or of the lowest validation loss
        metric: accuracy, rocauc, ap or f1 for classes and labels, rmse or mae for values; the
            data set's own if not given
        undirected: add the reverse of every edge
        row_normalize: scale the features of each node to sum 1
        allow_nonfinite: accept NaN and Inf among the features of data of your own
        quiet: print nothing
        submission: file to write the form of OGB's leaderboard to; must not exist
        resume: folder of a run of these options that was stopped, to go on in
        command: command that repeats the run, where it is not made of these options
        note: line to print under the result

    Raises:
        ConfigError: an option is unknown or out of range, or training diverged.
        DataError: the data set is unknown or malformed, or lacks a split.
        StoreError: the run folder exists or cannot be written.
        BackendError: the device is not there.
    """
    given = locals()
    settled = prepare(node, given, MODELS)
    place, named = settled.device, None
    if isinstance(data, str):
        named = node_card(data)
        drawn: dict[str, Any] = dict(split=split, num_splits=num_splits)
        found = load(data, root, **drawn, allow_nonfinite=allow_nonfinite)
        metric = metric or (named.metric if named else None)
    elif num_splits > 1:
        raise ConfigError(
            f"num_splits is {num_splits}, but it is for data sets given by name. Give data masks "
            "of shape [N, S] for S splits."
        )
    else:
        found = check(data, allow_nonfinite=allow_nonfinite)
    nodes = read_nodes(found, place, undirected, row_normalize)
    unused = [key for key in ("edge_weight", "edge_attr") if getattr(found, key, None) is not None]
    made = " (made undirected)" if undirected else ""
    said = [f"{nodes.graph.num_edges:,} edges{made}"]
    notes = ["edge_weight and edge_attr are not used by this recipe"] if unused else []
    about = nodes, task_of(nodes.y, metric, getattr(found, "num_classes", None)), found, named
    return carry_nodes(node, settled, *about, said=said, notes=notes, given=given)


def carry_nodes(
    recipe: Callable[..., report.Record],
    settled: Settled,
    nodes: Nodes,
    task: Task,
    found: Any,
    named: Card | None,
    *,
    said: Sequence[str],
    notes: Sequence[str],
    given: Mapping[str, Any],
) -> report.Record:
    """The record of full-batch training on ``nodes``, read from ``found``, by a recipe of nodes.

    ``said`` is what the line on the data says of its structure, ``notes`` are lines of their own;
    ``given`` are the arguments of ``recipe`` that say how the run is kept and told.
    """
    options, models = {**settled.options, "metric": task.metric}, builders(recipe.__name__)
    widths = nodes.x.size(1), options["hidden"], task.width
    kept = {name: options[name] for name in ("num_layers", "dropout", "norm", "drop_input")}
    kept["num_nodes"] = nodes.x.size(0)
    own = read_model_options(options["model"], options["model_options"], models)
    first = settled.seeds[0]
    job = Job(
        task=recipe.__name__,
        title=f"{options['model']} on {options['data']}",
        metric=task.metric,
        higher=task.higher,
        options=options,
        seeds=settled.seeds,
        device=settled.device,
        work=nodes.x.numel() * options["hidden"],
        data_digest=nodes_digest(nodes, found["edge_index"]),
        build=partial(build_model, options["model"], *widths, models=models, **kept, **own),
        problem=partial(problem, nodes=nodes, task=task, amp=options["amp"]),
        announce=partial(
            _announce, nodes=nodes, task=task, options=options, said=said, notes=notes, seed=first
        ),
        about={
            **{"model": options["model"], "widths": widths, "task": asdict(task), **kept},
            "model_options": own,
            "class_names": class_names(getattr(found, "class_names", None), task.width),
        },
        defects=named.defects if named is not None else (),
        command=settled.command,
        note=given["note"],
        quiet=given["quiet"],
        submission=given.get("submission"),
        closing=lambda record: hints(record, settled.command, models),
    )
    return carry_out(job, given["out"], given["resume"])


def node_card(data: str, kind: str = "node", of: str = "graph") -> Card | None:
    """The card of a data set of nodes, None for a path; :class:`DataError` for another kind."""
    if is_path(data):
        return None
    named = card(data)
    if named.kind != kind:
        raise DataError(
            f"{named.name} is for {named.task}, but this recipe learns the nodes of one {of}. "
            f"See graphkit data list --kind {kind} for those."
        )
    return named


def read_nodes(data: "Data", device: torch.device, undirected: bool, row_normalize: bool) -> Nodes:
    """Features, graph, labels and masks of ``data``, prepared as asked for, on ``device``."""
    if getattr(data, "x", None) is None:
        raise DataError(
            f"{getattr(data, 'name', 'data')} has no node features x, which this recipe needs. "
            "Give it some, such as one-hot degrees: torch_geometric.transforms.OneHotDegree."
        )
    # weights of another model, such as embeddings, are given features here
    x, edge_index, y = data["x"].detach().float(), data["edge_index"], data["y"]
    if row_normalize:
        x = scaled_rows(x)
    if undirected:
        from torch_geometric.utils import to_undirected

        edge_index = to_undirected(edge_index, num_nodes=x.size(0))
    graph = Graph.from_edge_index(edge_index, num_nodes=x.size(0))
    masks = {part: data[f"{part}_mask"].to(device) for part in PARTS}
    return Nodes(x.to(device), graph.to(device), y.to(device), masks)


def scaled_rows(x: Tensor) -> Tensor:
    """``x [N, F]``, each row over the sum of its absolute values; a row of zeros stays as it is."""
    sums = x.abs().sum(dim=1, keepdim=True)
    return x / torch.where(sums > 0, sums, 1.0)


def nodes_digest(nodes: Nodes, edge_index: Tensor) -> str:
    """The checksum of all that a run on ``nodes`` depends on; ``edge_index`` is as it was given."""
    weight = {} if nodes.weight is None else {"hyperedge_weight": nodes.weight}
    return digest({"x": nodes.x, "y": nodes.y, "edge_index": edge_index, **nodes.masks, **weight})


@torch.no_grad()
def precomputed(model: Any, nodes: Nodes, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``model`` maps for the ``rows`` of each part without the graph.

    Of a model whose propagation learns and drops nothing; nothing of any other.
    """
    if not hasattr(model, "precompute"):
        return {}
    found = model.precompute(nodes.x, nodes.graph)
    return {part: found[index] for part, index in rows.items()}


def problem(
    model: nn.Module, seed: int, *, nodes: Nodes, task: Task, amp: Literal["bf16"] | None
) -> Problem:
    """One seed: full-batch steps on its training rows; the test rows are read by ``test`` alone."""
    split, rows = nodes.split(seed)
    ready = precomputed(model, nodes, rows)

    def outputs(part: str) -> tuple[Tensor, Tensor]:
        with torch.autocast(nodes.x.device.type, dtype=torch.bfloat16, enabled=amp == "bf16"):
            if ready:
                return model(ready[part]), nodes.y[rows[part]]
            out = model(nodes.x, *nodes.over)
        return out[rows[part]], nodes.y[rows[part]]

    def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
        optimizer.zero_grad()
        loss = task.loss(*outputs("train"))
        loss.backward()
        optimizer.step()
        return loss.item()

    def validate() -> tuple[float, float]:
        out, y = outputs("val")
        return finite(task.loss(out, y)), task.score(out, y)

    return Problem(split, train, validate, lambda: task.score(*outputs("test")))


def _announce(
    console: Console,
    model: nn.Module,
    *,
    nodes: Nodes,
    task: Task,
    options: Mapping[str, Any],
    said: Sequence[str],
    notes: Sequence[str],
    seed: int,
) -> None:
    """Say what is about to be trained on what, and the memory that will take."""
    rows = nodes.split(seed)[1]
    weights = sum(p.numel() for p in model.parameters())
    predicted = _predict(model, nodes, task, rows)
    sizes = ", ".join(
        f"{len(rows[part]):,} {name}"
        for part, name in zip(PARTS, ("training", "validation", "test"), strict=True)
    )
    lines = [
        f"{options['data']}: {nodes.x.size(0):,} nodes, {', '.join(said)}, "
        f"{nodes.x.size(1):,} features, {task.width} {task.kind}",
        f"split: {sizes}",
        f"{options['model']}: {weights:,} parameters on {nodes.x.device}",
        f"predicted peak memory: {predicted or 'unknown (an op has no shape function)'}",
    ]
    for line in [*lines, *notes]:
        plots.say(console, line)


def _predict(
    model: nn.Module, nodes: Nodes, task: Task, rows: Mapping[str, Tensor]
) -> memory.Prediction | None:
    """The peak memory of training on the training rows."""
    ready = precomputed(model, nodes, rows)
    if not ready:
        about = nodes.x, nodes.graph, nodes.y, rows["train"], task.loss, nodes.weight
        return memory.predict(model, *about)
    x, y = ready["train"].to("meta"), nodes.y[rows["train"]].to("meta")
    found = memory.predict_step(model, lambda shapes: task.loss(shapes(x), y), nodes.x.device)
    # what the step finds there
    kept = sum(part.nbytes for part in ready.values())
    return None if found is None else replace(found, step=found.step + kept)
