"""The recipe ``node_mini``: node classification in mini-batches. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console
from torch import Tensor, nn

from ..data import Batch, Card, card, check, is_path, load
from ..data.batch import mapped
from ..data.check import check_types
from ..data.stages import seeds as seeds_of
from ..errors import ConfigError, DataError
from ..graph import Graph
from ..nn import HETERO_MODELS, MODELS, HeteroStack, build_model
from ..ops import Sampler
from ..store import digest
from . import memory, plots, report
from .layerwise import Loading, forward, layerwise
from .loop import Problem, finite
from .node import PARTS, node_card, read_nodes, scaled_rows
from .options import hints, prepare, read_model_options
from .runs import Job, carry_out
from .task import Task, class_names, split_rows, task_of

if TYPE_CHECKING:
    from torch_geometric.data import Data, HeteroData

MB = 10**6
Relation = tuple[str, str, str]


@dataclass(frozen=True)
class Mini:
    """Features, graph, labels and masks in the memory of the host.

    Of a graph with several relations ``x`` and ``graph`` are dicts, ``target`` is the type of the
    labelled nodes and ``num_nodes`` tells the nodes of each type.
    """

    x: Any
    graph: Graph | dict[Relation, Graph]
    y: Tensor
    masks: Mapping[str, Tensor]
    target: str | None = None
    num_nodes: Mapping[str, int] | None = None

    def split(self, seed: int) -> tuple[int | None, dict[str, Tensor]]:
        """The split that ``seed`` uses (None if there is one), and the rows of each part."""
        return split_rows(self.masks, seed)


def node_mini(
    *,
    data: "str | Data | HeteroData" = "digits",
    model: str = "sage",
    seeds: "str | int | Sequence[int]" = "0",
    root: str | None = None,
    out: str | None = None,
    split: str | None = None,
    device: "str | torch.device" = "auto",
    amp: Literal["bf16"] | None = None,
    fanout: "str | Sequence[int]" = "15,10",
    method: Literal["neighbor", "labor"] = "neighbor",
    batch_size: int = 1024,
    chunk: int = 8192,
    hidden: int = 256,
    dropout: float = 0.5,
    norm: Literal["batch_norm"] | None = None,
    drop_input: bool = True,
    model_options: "str | Mapping[str, Any]" = "",
    optimizer: Literal["adam", "adamw"] = "adam",
    lr: float = 0.003,
    weight_decay: float = 0.0,
    epochs: int = 50,
    patience: int = 0,
    select: Literal["score", "loss"] = "score",
    metric: str | None = None,
    undirected: bool = False,
    row_normalize: bool = False,
    allow_nonfinite: bool = False,
    prefetch: int = 4,
    prefetch_mb: float = 1000.0,
    prefetch_threads: int = 1,
    quiet: bool = False,
    resume: "str | None" = None,
    command: "str | None" = None,
    note: "str | None" = None,
) -> report.Record:
    """Node classification in mini-batches of sampled neighbourhoods, homogeneous or not.

    Each step samples the neighbours of a batch of training nodes, a hop for each layer, and runs
    the layers over these blocks while the next batches are made. GCN, GIN and ACM are scaled by
    the degrees of the whole graph, so that the neighbours that were drawn count for all.
    Validation and test nodes are scored exactly: layer by layer over all nodes with all their
    neighbours. Features and graph stay in the memory of the host; the device holds batches and
    model.

    Batches are a function of seed and epoch, whatever is prefetched: a run that is stopped goes on
    with graphkit train --resume and ends with the same bits. metrics.jsonl says what the seconds of
    each epoch went to, breakdown.png draws it.

    Args:
        data: data set of kind node or hetero (see: graphkit data list), or path of your own; in
            Python also a PyG Data or HeteroData with masks
        model: sage, gat, gatv2, gcn, gin, acm-gcn or acmii-gcn
        seeds: seeds to run, such as 0, 0-9 or 0,3,5; of S splits, seed i trains on split i mod S,
            and a split that is drawn is the same for all seeds
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/node_mini-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        amp: bf16 runs the model in bfloat16 where that is safe
        fanout: neighbours that a node draws in each hop from the seeds on, one number for each
            layer; -1 for all
        method: neighbor draws for each node by itself; labor lets nodes share their neighbours
        batch_size: training nodes of one step
        chunk: nodes scored at once, where not all of them fit into prefetch_mb on the CPU
        hidden: width of the hidden layers
        dropout: share of the inputs of each layer dropped in training
        norm: batch_norm puts one behind every layer but the last
        drop_input: drop inputs of the first layer too, not between the layers alone
        model_options: options of the model's own, such as hops=10,alpha=0.1
        optimizer: adam, or adamw, whose decay does not pass through its averages
        lr: learning rate
        weight_decay: L2 penalty, on all parameters where the model does not say otherwise
        epochs: most epochs to train
        patience: stop when the validation loss exceeds its mean over so many epochs before; 0 never
        select: keep the weights of the best validation score, or of the lowest validation loss
        metric: accuracy, rocauc, ap or f1 for classes and labels, rmse or mae for values; the
            data set's own if not given
        undirected: add the reverse of every edge
        row_normalize: scale the features of each node to sum 1
        allow_nonfinite: accept NaN and Inf among the features of data of your own
        prefetch: batches made ahead; 0 makes them between the steps
        prefetch_mb: memory that they, or the scoring of all nodes at once, may take, in MB
        prefetch_threads: batches in work at once
        quiet: print nothing
        resume: folder of a run of these options that was stopped, to go on in
        command: command that repeats the run, where it is not made of these options
        note: line to print under the result

    Raises:
        ConfigError: an option is unknown or out of range, or training diverged.
        DataError: the data set is unknown or malformed, or lacks a split.
        StoreError: the run folder exists or cannot be written.
        BackendError: the device is not there.
    """
    given = {**locals(), "fanout": fanouts(fanout)}
    if isinstance(model, str) and model.lower() in set(MODELS) - set(HETERO_MODELS):
        raise ConfigError(
            f"Model {model!r} does not run on sampled blocks, but {', '.join(HETERO_MODELS)} do. "
            "Take one of these, or graphkit train node, which has all models in full batch."
        )
    settled = prepare(node_mini, given, HETERO_MODELS)
    options, place = settled.options, settled.device
    named = mini_card(data) if isinstance(data, str) else None
    found: Any = data
    if isinstance(data, str):
        found = load(data, root, split=split, allow_nonfinite=allow_nonfinite)
        metric = metric or (named.metric if named else None)
    is_hetero = hasattr(found, "node_types")
    if is_hetero:
        mini = read_hetero(found, undirected, row_normalize, allow_nonfinite)
    else:
        found = found if isinstance(data, str) else check(found, allow_nonfinite=allow_nonfinite)
        mini = read_mini(found, undirected, row_normalize)
    task = task_of(mini.y, metric, getattr(found, "num_classes", None))
    options["metric"] = task.metric
    build, about = _model(mini, options, task.width)
    job = Job(
        task="node_mini",
        title=f"{options['model']} on {options['data']}",
        metric=task.metric,
        higher=task.higher,
        options=options,
        seeds=settled.seeds,
        device=place,
        # the block of the last hop is about the largest layer
        work=batch_size * 16 * hidden * hidden,
        data_digest=_digest(mini, found),
        build=build,
        problem=partial(problem, mini=mini, task=task, options=options, device=place),
        announce=partial(
            _announce, mini=mini, task=task, options=options, seed=settled.seeds[0], device=place
        ),
        about={
            **about,
            "task": asdict(task),
            "class_names": class_names(getattr(found, "class_names", None), task.width),
        },
        defects=named.defects if named is not None else (),
        command=settled.command,
        note=note,
        quiet=quiet,
        closing=lambda record: _hints(record, settled.command, is_hetero),
    )
    return carry_out(job, out, resume)


def fanouts(given: Any) -> str:
    """``given`` in the form 15,10; :class:`ConfigError` if it is no list of fanouts."""
    parts = given.replace(" ", "").split(",") if isinstance(given, str) else given
    try:
        numbers = [int(part) if isinstance(part, str) else part for part in parts]
        whole = all(isinstance(k, int) and not isinstance(k, bool) for k in numbers)
    except (TypeError, ValueError):
        numbers, whole = [], False
    if not numbers or not whole or any(k < -1 or k == 0 for k in numbers):
        raise ConfigError(
            f"fanout is {given!r}, but a number for each layer is expected, 1 or more or -1 for "
            "all neighbours, such as 15,10."
        )
    return ",".join(map(str, numbers))


def mini_card(data: str) -> Card | None:
    """The card of a data set of nodes of one or of several types; None for a path."""
    if not is_path(data):
        named = card(data)
        if named.kind == "hetero":
            return named
    return node_card(data)


def read_mini(data: Any, undirected: bool, row_normalize: bool) -> Mini:
    """A graph of one type of nodes, on the host."""
    nodes = read_nodes(data, torch.device("cpu"), undirected, row_normalize)
    return Mini(nodes.x, nodes.graph, nodes.y, nodes.masks)


def read_hetero(
    data: Any, undirected: bool, row_normalize: bool, allow_nonfinite: bool = False
) -> Mini:
    """A graph of several types of nodes, of which one has labels and masks.

    Raises:
        DataError: no type or several have labels, a mask is missing, an index is out of range, or
            features, labels or masks are not what :func:`graphkit.data.check` asks for.
    """
    labelled = [kind for kind in data.node_types if "y" in data[kind]]
    if len(labelled) != 1:
        raise DataError(
            f"{len(labelled)} types of nodes have labels y ({', '.join(labelled) or 'none'}), but "
            "one is expected. Remove the others."
        )
    target = labelled[0]
    missing = [f"{part}_mask" for part in PARTS if f"{part}_mask" not in data[target]]
    if missing:
        raise DataError(f"data[{target!r}] has no {missing[0]}. Set train, val and test masks.")
    num_nodes = {kind: data[kind].num_nodes for kind in data.node_types}
    graphs: dict[Relation, Graph] = {}
    for relation in data.edge_types:
        src, name, dst = relation
        sizes = {"num_src": num_nodes[src], "num_dst": num_nodes[dst]}
        graph = Graph.from_edge_index(data[relation].edge_index, **sizes)
        graphs[relation] = graph
        base = name.removeprefix("rev_")
        # its reverse may be there under PyG's name, or be what this is the reverse of
        is_there = (
            (dst, f"rev_{name}", src) in data.edge_types
            or (base != name and (dst, base, src) in data.edge_types)
            or (src != dst and (dst, name, src) in data.edge_types)
        )
        if undirected and not is_there:
            turned = data[relation].edge_index.flip(0)
            sizes = {"num_src": num_nodes[dst], "num_dst": num_nodes[src]}
            graphs[dst, f"rev_{name}", src] = Graph.from_edge_index(turned, **sizes)
    x = {kind: data[kind].x.detach().float() for kind in data.node_types if "x" in data[kind]}
    masks = {part: data[target][f"{part}_mask"] for part in PARTS}
    named = {f"{part}_mask": mask for part, mask in masks.items()}
    check_types(x, num_nodes, target, data[target].y, named, allow_nonfinite)
    if row_normalize:
        x = {kind: scaled_rows(rows) for kind, rows in x.items()}
    return Mini(x, graphs, data[target].y, masks, target, num_nodes)


def _digest(mini: Mini, found: Any) -> str:
    """The checksum of all that a run depends on."""
    if isinstance(mini.graph, Graph):
        # as that of the recipe node
        return digest({"x": mini.x, "y": mini.y, "edge_index": found["edge_index"], **mini.masks})
    edges = {"/".join(name): graph.edge_index() for name, graph in mini.graph.items()}
    features = {f"x/{kind}": rows for kind, rows in mini.x.items()}
    return digest({**edges, **features, "y": mini.y, **mini.masks})


def _model(
    mini: Mini, options: Mapping[str, Any], width: int
) -> tuple[Callable[[], nn.Module], dict[str, Any]]:
    """What builds the model, and how ``graphkit predict`` does so again."""
    layers = len(options["fanout"].split(","))
    if isinstance(mini.graph, Graph):
        widths = mini.x.size(1), options["hidden"], width
        kept = {name: options[name] for name in ("dropout", "norm", "drop_input")}
        kept |= {"num_layers": layers, "num_nodes": mini.x.size(0)}
        own = read_model_options(options["model"], options["model_options"])
        about = {"model": options["model"], "widths": widths, **kept, "model_options": own}
        return partial(build_model, options["model"], *widths, **kept, **own), about
    if options["model_options"]:
        raise ConfigError(
            f"model_options is {options['model_options']!r}, which a graph with several types of "
            "nodes does not take. Leave it out."
        )
    if options["norm"] is not None or not options["drop_input"]:
        raise ConfigError(
            "A graph with several types of nodes has no norm and drops its input, but norm is "
            f"{options['norm']!r} and drop_input is {options['drop_input']}. Leave them out."
        )
    assert mini.num_nodes is not None and mini.target is not None
    about = {
        "model": options["model"],
        "relations": [list(name) for name in mini.graph],
        "num_nodes": dict(mini.num_nodes),
        "in_channels": {kind: rows.size(1) for kind, rows in mini.x.items()},
        "hidden_channels": options["hidden"],
        "out_channels": width,
        "target": mini.target,
        "num_layers": layers,
        "dropout": options["dropout"],
    }
    return partial(HeteroStack, **about), {"recipe": "node_mini", "net": about}


class _Clock:
    """Seconds of an epoch by what they were spent on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.last = 0.0

    def begin(self) -> None:
        self.seconds = dict.fromkeys(plots.PARTS, 0.0)
        self.last = time.perf_counter()

    def take(self, batch: Batch) -> None:
        """Add what was measured of a batch; the clock goes on from here."""
        for name, value in batch.timings.items():
            self.seconds[name] += value
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last call to ``name``."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[name] += now - self.last
        self.last = now

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 6) for name, value in self.seconds.items()}


def problem(
    model: Any,
    seed: int,
    *,
    mini: Mini,
    task: Task,
    options: Mapping[str, Any],
    device: torch.device,
) -> Problem:
    """Steps over sampled blocks, scores by exact inference; the test rows are read by ``test``."""
    split, rows = mini.split(seed)
    loading = loading_of(options, device)
    sampler, whole = _sampler(mini, options), model.of_whole(mini.graph)
    clock = _Clock(device)
    at_once = _fits(mini, options, device)
    with_bf16 = partial(
        torch.autocast, device.type, dtype=torch.bfloat16, enabled=options["amp"] == "bf16"
    )

    def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
        clock.begin()
        given = {"seed": seed, "epoch": epoch, "kind": mini.target}
        ids = seeds_of(rows["train"], options["batch_size"], **given)
        batches = loading.batches(ids, sampler, mini.x, mini.y, whole, transpose=True)
        total = torch.zeros((), device=device)
        for batch in batches:
            clock.take(batch)
            optimizer.zero_grad()
            with with_bf16():
                out = forward(model, batch)
            y = batch.y if mini.target is None else batch.y[mini.target]
            loss = task.loss(out, y)
            clock.lap("forward")
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(y)
            clock.lap("backward")
        return total.item() / len(rows["train"])

    def outputs(part: str) -> tuple[Tensor, Tensor]:
        with with_bf16():
            out = layerwise(
                model,
                mini.x,
                mini.graph,
                loading,
                chunk=options["chunk"],
                whole=whole,
                num_nodes=mini.num_nodes,
                at_once=at_once,
            )
        return out[rows[part]].float(), mini.y[rows[part]]

    def validate() -> tuple[float, float]:
        clock.last = time.perf_counter()
        out, y = outputs("val")
        found = finite(task.loss(out, y)), task.score(out, y)
        clock.lap("evaluate")
        return found

    return Problem(
        split, train, validate, lambda: task.score(*outputs("test")), seconds=clock.rounded
    )


def loading_of(options: Mapping[str, Any], device: torch.device) -> Loading:
    """How the options say that batches are to be made."""
    return Loading(
        device,
        options["prefetch"],
        max(1, int(options["prefetch_mb"] * MB)),
        options["prefetch_threads"],
    )


def _sampler(mini: Mini, options: Mapping[str, Any]) -> Sampler:
    numbers = [int(k) for k in options["fanout"].split(",")]
    return Sampler(mini.graph, numbers, method=options["method"])


def _hints(record: report.Record, command: str | None, is_hetero: bool) -> list[str]:
    lines = hints(record, command, HETERO_MODELS)
    # predict knows graphs of one type of nodes
    return [line for line in lines if not (is_hetero and line.startswith("predict"))]


def _announce(
    console: Console,
    model: Any,
    *,
    mini: Mini,
    task: Task,
    options: Mapping[str, Any],
    seed: int,
    device: torch.device,
) -> None:
    """Say what is about to be trained on what, and the memory that will take."""
    rows = mini.split(seed)[1]
    weights = sum(p.numel() for p in model.parameters())
    sizes = ", ".join(
        f"{len(rows[part]):,} {name}"
        for part, name in zip(PARTS, ("training", "validation", "test"), strict=True)
    )
    if isinstance(mini.graph, Graph):
        made = " (made undirected)" if options["undirected"] else ""
        what = f"{mini.x.size(0):,} nodes, {mini.graph.num_edges:,} edges{made}, "
        what += f"{mini.x.size(1):,} features"
    else:
        assert mini.num_nodes is not None
        counts = ", ".join(f"{count:,} {kind}" for kind, count in mini.num_nodes.items())
        edges = sum(graph.num_edges for graph in mini.graph.values())
        what = f"{counts}; {edges:,} edges of {len(mini.graph)} relations"
    steps = -(-len(rows["train"]) // options["batch_size"])
    predicted, batch = _predict(model, mini, task, options, rows["train"], device)
    for line in (
        f"{options['data']}: {what}, {task.width} {task.kind}",
        f"split: {sizes}",
        f"batches: {steps:,} of up to {options['batch_size']:,} nodes, fanout {options['fanout']}; "
        f"the first has {_num_nodes(batch):,} nodes in {batch.nbytes / MB:,.1f} MB",
        f"{options['model']}: {weights:,} parameters on {device}",
        f"predicted peak memory: {predicted or 'unknown (an op has no shape function)'}",
    ):
        plots.say(console, line)


def _predict(
    model: Any,
    mini: Mini,
    task: Task,
    options: Mapping[str, Any],
    train_id: Tensor,
    device: torch.device,
) -> tuple[memory.Prediction | None, Batch]:
    """The peak of a step on the first batch and those ahead of it, and that batch."""
    whole = model.of_whole(mini.graph)
    ids = seeds_of(train_id, options["batch_size"], seed=0, kind=mini.target)
    loading = replace(loading_of(options, torch.device("cpu")), depth=0)
    found = loading.batches(ids, _sampler(mini, options), mini.x, mini.y, whole, True)
    batch = next(iter(found), None)
    if batch is None:
        raise DataError("The split has no training nodes.")

    def step(shapes: nn.Module) -> Tensor:
        some = batch.to("meta")
        y = some.y if mini.target is None else some.y[mini.target]
        return task.loss(forward(shapes, some), y)

    predicted = memory.predict_step(model, step, device)
    scoring = memory.most_bytes(
        model, partial(_rehearse, mini=mini, options=options, whole=whole, device=device), device
    )
    if predicted is None or scoring is None:
        return None, batch
    # the weights' gradients, moments and best values are there while nodes are scored
    scoring += 4 * sum(p.nbytes for p in model.parameters())
    largest = batch.nbytes
    if not _fits(mini, options, device) and len(mini.y) > options["chunk"]:
        all_id = torch.arange(len(mini.y))
        ids = seeds_of(all_id, options["chunk"], shuffle=False, kind=mini.target)
        chunk = next(loading.batches(ids, Sampler(mini.graph, [-1]), None, whole=whole))
        # between the layers nodes of several types have the hidden width
        width = max(options["hidden"], mini.x.size(1) if mini.target is None else 0)
        largest = max(largest, chunk.nbytes + 4 * width * _num_nodes(chunk))
    ahead = min(options["prefetch"] * largest, int(options["prefetch_mb"] * MB))
    return replace(predicted, step=max(predicted.step, scoring) + ahead), batch


def _num_nodes(batch: Batch) -> int:
    """The nodes of a sampled batch, of all types together."""
    nodes = batch.n_id if isinstance(batch.n_id, dict) else {"": batch.n_id}
    return sum(len(ids) for ids in nodes.values() if ids is not None)


def _rehearse(
    shapes: nn.Module,
    *,
    mini: Mini,
    options: Mapping[str, Any],
    whole: Any,
    device: torch.device,
) -> Tensor:
    """The scoring of all nodes, for the memory that it takes."""
    meta, at_once = torch.device("meta"), _fits(mini, options, device)
    given = mini.x, mini.graph, whole
    if at_once:
        given = mapped(given, lambda t: t.to(meta))
    x, graph, whole = given
    return layerwise(
        shapes.eval(),
        x,
        graph,
        replace(loading_of(options, meta), depth=0),
        chunk=options["chunk"],
        whole=whole,
        num_nodes=mini.num_nodes,
        at_once=at_once,
    )


def _fits(mini: Mini, options: Mapping[str, Any], device: torch.device) -> bool:
    """Whether all nodes are scored at once."""
    count = sum(mini.num_nodes.values()) if mini.num_nodes else len(mini.y)
    # a layer needs a few times its output beside it
    needed = 4 * count * options["hidden"] * 4
    return device.type == "cpu" and needed <= options["prefetch_mb"] * MB
