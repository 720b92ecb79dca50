"""The recipe ``graph``: classification and regression of whole graphs. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console
from torch import Tensor, nn

from ..data import Card, GraphSet, card, check_graphs, is_path, load
from ..errors import ConfigError, DataError
from ..graph import as_graph
from ..store import digest
from . import graph_plots, plots, report
from .graph_scores import Held, others_of
from .graphnet import GRAPH_MODELS, WITH_EDGES, Columns, OneClass, RQNet, graph_net
from .loop import Problem, finite
from .options import hints, prepare, read_model_options
from .runs import Job, carry_out
from .task import Task, loss_of, split_rows, task_of

if TYPE_CHECKING:
    from torch_geometric.data import Data

PARTS = ("train", "val", "test")
# of the columns of OGB's molecules: ogb.utils.features, get_atom_feature_dims and ..._bond_...
ATOMS = (119, 5, 12, 12, 10, 6, 6, 2, 2)
BONDS = (5, 6, 2)


@dataclass(frozen=True)
class Whole:
    """Graphs with x, the labels ``y`` in the form of the task, and the masks of the parts.

    ``node`` and ``edge`` say what x and edge_attr hold; ``degrees``: x was made of in-degrees;
    ``anomaly`` is the class of the data that became class 1, None where classes are as they were.
    """

    graphs: GraphSet
    y: Tensor
    node: Columns
    edge: Columns | None
    masks: Mapping[str, Tensor]
    degrees: bool
    anomaly: int | None = None

    def split(self, seed: int) -> tuple[int | None, dict[str, Tensor]]:
        """The split that ``seed`` uses (None if there is one), and the graphs of each part."""
        return split_rows(self.masks, seed)


def graph(
    *,
    data: "str | GraphSet | Sequence[Data]" = "mutag",
    model: str = "gin",
    seeds: "str | int | Sequence[int]" = "0",
    root: str | None = None,
    out: str | None = None,
    split: str | None = None,
    num_splits: int = 1,
    anomaly: bool = False,
    device: "str | torch.device" = "auto",
    amp: Literal["bf16"] | None = None,
    hidden: int = 64,
    num_layers: int = 5,
    dropout: float = 0.5,
    pool: Literal["mean", "sum", "attention"] = "mean",
    virtual_node: bool = False,
    edge_features: bool = True,
    model_options: "str | Mapping[str, Any]" = "",
    loss: Literal["auto", "plain", "balanced", "focal"] = "auto",
    beta: float = 0.999,
    gamma: float = 1.5,
    lr: float = 0.001,
    weight_decay: float = 0.0,
    batch_size: int = 32,
    epochs: int = 100,
    patience: int = 0,
    stop: Literal["mean", "best"] = "mean",
    select: Literal["score", "loss", "latest"] = "score",
    metric: str | None = None,
    allow_nonfinite: bool = False,
    quiet: bool = False,
    submission: str | None = None,
    resume: "str | None" = None,
    command: "str | None" = None,
    note: "str | None" = None,
) -> report.Record:
    """Classification and regression of whole graphs, and anomalies among them, in mini-batches.

    Integer columns of nodes and edges (atoms and bonds of OGB's molecules) are categories, each
    with a learnt vector (rqgnn and ocgin: one-hot); numbers go through a linear layer; nodes
    without features are told apart by their in-degree. The epoch is chosen by the validation graphs
    alone, the test graphs are scored once for each seed, after training. Folder, record and
    resuming are as for node.

    Of two classes all of macro-F1, rocauc, ap and precision@rate are reported, the last one among
    as many graphs as there are of class 1. The scores of the validation and test graphs are in
    scores-seedN.csv, ROC and precision-recall curves in roc.png. With anomaly, class 1 is the rarer
    class of the data, the usual split is the one called anomaly (70, 15 and 15 % of each class,
    within a graph), and there are two results: of the epoch of the best validation macro-F1, and of
    that of the best rocauc; the metric says which of them is the run's.

    Args:
        data: data set to train on (see: graphkit data list); in Python also a GraphSet or a list
            of PyG's Data, with masks
        model: gin, gcn, gat, cheb, bern, rqgnn, or ocgin, which sees normal graphs alone
        seeds: seeds to run, such as 0, 0-9 or 0,3,5; of S splits, seed i trains on split i mod S,
            and a split that is drawn once is the same for all seeds
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/graph-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds
        num_splits: number of splits to draw, where the split is drawn and not published
        anomaly: the rarer of two classes is the anomaly, class 1
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        amp: bf16 runs the model in bfloat16 where that is safe
        hidden: width of the layers
        num_layers: number of convolutions; rqgnn has its own
        dropout: share of the outputs of each convolution dropped in training, of rqgnn that before
            its last map; ocgin has none
        pool: what a graph is of its nodes, their mean, their sum, or their mean weighed by
            attention; rqgnn and ocgin have their own
        virtual_node: add a node to each graph that exchanges messages with all others
        edge_features: let the models that read edge features (gin, gcn) have them
        model_options: options of the model itself, such as K=5,heads=4 or train_filters=false
        loss: plain cross-entropy or squared errors; balanced, weighed by how rare the classes are;
            focal, weighed by their effective numbers and by how uncertain a graph is; auto is focal
            for rqgnn on classes and plain for others; ocgin has its own
        beta: of the focal loss, from 0, where all classes weigh the same, to below 1
        gamma: of the focal loss, how much less certain graphs count
        lr: learning rate of Adam
        weight_decay: L2 penalty of Adam, on all parameters
        batch_size: graphs of one step, at least 2
        epochs: most epochs to train
        patience: epochs of the rule that stops training early; 0 never
        stop: mean stops when the validation loss exceeds its mean over patience epochs before,
            best when the epoch that is kept is so many epochs old
        select: keep the weights of the best validation score, and of equal ones those of the lower
            loss, or latest, those of the later epoch; or of the lowest validation loss
        metric: accuracy, rocauc, ap, f1 or precision@rate for classes and labels, rmse or mae for
            values; the data set's own if not given, f1 of anomalies
        allow_nonfinite: accept NaN and Inf among the features of graphs given from Python
        quiet: print nothing
        submission: file to write the form of OGB's leaderboard to; must not exist
        resume: folder of a run of these options that was stopped, to go on in
        command: command that repeats the run, where it is not made of these options
        note: line to print under the result

    Raises:
        ConfigError: an option is unknown or out of range, or training diverged.
        DataError: the data set is unknown or malformed, has no split, or is one graph; with
            anomaly, it has other than two classes, or a part of a split lacks one of them.
        StoreError: the run folder exists or cannot be written.
        BackendError: the device is not there.
    """
    if anomaly is True and split is None and isinstance(data, str):
        split = "anomaly" if "anomaly" in graph_card(data).splits else None
    settled = prepare(graph, locals(), GRAPH_MODELS)
    options, place = settled.options, settled.device
    named = None
    if isinstance(data, str):
        named = graph_card(data)
        found, metric = (
            load(data, root, split=split, num_splits=num_splits),
            metric or (None if anomaly else named.metric),
        )
    elif num_splits > 1:
        raise ConfigError(
            f"num_splits is {num_splits}, but it is for data sets given by name. Give data masks "
            "of shape [G, S] for S splits."
        )
    else:
        found = check_graphs(data, allow_nonfinite=allow_nonfinite)
    unused = found.edge_attr is not None and not (edge_features and options["model"] in WITH_EDGES)
    found = found.to(place)
    whole, task = read_graphs(without_edges(found) if unused else found, metric, anomaly=anomaly)
    options["metric"] = task.metric
    about = {"node": whole.node, "edge": whole.edge, "out": task.width}
    kept = ("model", "hidden", "num_layers", "dropout", "pool", "virtual_node")
    about |= {name: options[name] for name in kept}
    about["model_options"] = read_model_options(
        options["model"], options["model_options"], GRAPH_MODELS
    )
    build = partial(graph_net, **about)
    with torch.random.fork_rng(devices=[]):
        # what does not go together is refused before there is a folder
        sample = build()
    if options["model"] == "ocgin" and options["loss"] != "auto":
        raise ConfigError(f"loss is {loss!r}, but ocgin has its own. Leave it at auto.")
    usual = "focal" if options["model"] == "rqgnn" and task.kind == "classes" else "plain"
    kind = usual if options["loss"] == "auto" else options["loss"]
    weigh = partial(loss_of, task, kind, beta=beta, gamma=gamma)
    weigh(y=whole.y[whole.split(settled.seeds[0])[1]["train"]])
    own_digest = digest(whole.graphs.tensors)
    whole = with_quotients(whole, sample, batch_size)
    nodes = whole.graphs.node_ptr[-1].item() * batch_size // len(whole.graphs)
    title = f"{options['model']} on {options['data']}"
    job = Job(
        task="graph",
        title=title,
        metric=task.metric,
        higher=task.higher,
        options=options,
        seeds=settled.seeds,
        device=place,
        work=int(nodes) * hidden * hidden * 2,
        data_digest=own_digest,
        build=build,
        problem=partial(problem, whole=whole, task=task, options=options, weigh=weigh),
        announce=partial(
            _announce,
            whole=whole,
            task=task,
            options=options,
            seed=settled.seeds[0],
            unused=unused,
            loss=kind,
        ),
        about={
            **{"recipe": "graph", "net": about, "task": asdict(task), "degrees": whole.degrees},
            **{"anomaly": whole.anomaly, "edges": not unused},
        },
        command=settled.command,
        note=note,
        quiet=quiet,
        submission=submission,
        defects=named.defects if named is not None else (),
        closing=lambda record: hints(record, settled.command, ("gin", "gcn")),
        pictures=lambda folder: graph_plots.of_run(
            folder, settled.seeds, title=title, metric=task.metric
        ),
        loss=_loss_name(sample, kind, task),
    )
    return carry_out(job, out, resume)


def _loss_name(model: nn.Module, kind: str, task: Task) -> str | None:
    """What pictures call the loss; None where the metric says it."""
    if isinstance(model, OneClass):
        return "squared distance of normal graphs"
    names = {"focal": "focal loss", "balanced": "cross-entropy, classes balanced (nats)"}
    return names.get(kind)


def graph_card(data: str) -> Card:
    """The card of a set of graphs; :class:`DataError` for a path or another kind of data."""
    if is_path(data):
        raise DataError(
            f"{data} is a path, and what is read from paths is one graph, but this recipe "
            "learns whole graphs. Give a list of PyG's Data from Python."
        )
    named = card(data)
    if named.kind != "graph":
        raise DataError(
            f"{named.name} is for {named.task}, but this recipe learns whole graphs. "
            "See graphkit data list --kind graph for sets of them."
        )
    return named


def read_graphs(
    found: GraphSet, metric: str | None, *, anomaly: bool = False
) -> tuple[Whole, Task]:
    """The graphs with x, the size of their columns, labels and masks; and the task they pose.

    ``anomaly`` renames the rarer class 1.
    """
    masks = {part: getattr(found, f"{part}_mask") for part in PARTS}
    for part, mask in masks.items():
        if mask is None:
            raise DataError(
                f"The graphs have no {part}_mask. Set train_mask, val_mask and test_mask, which "
                "graphkit.data.random_split makes."
            )
    fewest = int(masks["train"].reshape(len(found), -1).sum(dim=0).min())
    if fewest < 2:
        raise DataError(f"train_mask selects {fewest} graph, but at least 2 are needed.")
    y, classes, degrees = found.y, found.num_classes, found.x is None
    found = featured(found)
    rare = None
    if anomaly:
        y, rare = anomalies(y, masks)
        classes, metric = 2, metric or "f1"
    elif y.dim() == 1 and not y.is_floating_point() and metric in ("rocauc", "ap"):
        # a score of one class is one number, as on OGB's leaderboards
        y = one_label(y) if (classes or int(y.max()) + 1) == 2 else y
    task = task_of(y, metric, classes)
    molecules = found.name.startswith("ogbg-mol")
    node = _columns("x", found.x, ATOMS if molecules else ())
    edge = found.edge_attr
    if edge is not None:
        edge = _columns("edge_attr", edge, BONDS if molecules else ())
    return Whole(found, y, node, edge, masks, degrees, rare), task


def anomalies(y: Tensor, masks: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """1 for graphs of the rarer of two classes, 0 for others, -1 for unknown; and which it is.

    Of classes of one size the anomaly is 1.

    Raises :class:`DataError` for other labels than 0, 1 and, for unknown ones, -1 or NaN, and where
    a part of a split lacks one of the two.
    """
    flat = y.reshape(-1)
    if flat.is_floating_point():
        flat = flat.nan_to_num(-1.0)
    found = sorted(flat[flat != -1].unique().tolist())
    if found != [0, 1] or y.numel() != len(y):
        held = f"{y.size(1)} labels each" if y.numel() != len(y) else f"the labels {_few(found)}"
        raise DataError(
            f"Anomalies are the rarer of two classes, but the graphs have {held}. Give y of 0 and "
            "1, and -1 where it is not known."
        )
    counts = torch.bincount(flat[flat >= 0].long(), minlength=2)
    rare = int(counts[0] >= counts[1])
    y = marked(y, rare)
    for part, mask in masks.items():
        for number, column in enumerate(mask.reshape(len(mask), -1).t()):
            held = torch.bincount(y[column & (y >= 0)], minlength=2).tolist()
            if 0 in held:
                missing = ("normal graph", "anomaly")[held.index(0)]
                raise DataError(
                    f"{part}_mask of split {number} has no {missing}, but {max(held)} of the "
                    "other class. Divide anew, stratified: graphkit.data.random_split."
                )
    return y, rare


def marked(y: Tensor, rare: int) -> Tensor:
    """1 for graphs of the class ``rare``, 0 for others, -1 for those without a label: int64 [G]."""
    flat = y.reshape(-1)
    if flat.is_floating_point():
        flat = flat.nan_to_num(-1.0)
    return torch.where(flat < 0, -1, (flat == rare).long())


def _few(values: Sequence[float]) -> str:
    words = [f"{value:g}" for value in values[:4]]
    return ", ".join(words) + (", ..." if len(values) > 4 else "") if words else "of no graph"


def without_edges(found: GraphSet) -> GraphSet:
    """The graphs without edge_attr."""
    kept = {name: value for name, value in found.tensors.items() if name != "edge_attr"}
    return GraphSet(kept, found.name, found.num_classes, found.levels)


def with_quotients(whole: Whole, model: nn.Module, batch_size: int) -> Whole:
    """With ``rq [G, F]`` for :class:`RQNet`, computed once; for other models ``whole`` itself."""
    if not isinstance(model, RQNet):
        return whole
    found, held = whole.graphs, list[Tensor]()
    with torch.no_grad():
        for graph_id in torch.arange(len(found), device=found.device).split(batch_size):
            batch: Any = found.batch(graph_id)
            x = _floats(batch.x)
            held.append(model.quotients(x, as_graph(batch.edge_index, len(x), len(x)), batch.ptr))
    tensors, levels = {**found.tensors, "rq": torch.cat(held)}, {**found.levels, "rq": "graph"}
    return replace(whole, graphs=GraphSet(tensors, found.name, found.num_classes, levels))


def _floats(values: Tensor) -> Tensor:
    """Rows of numbers in float32, or of categories as they are."""
    values = values.reshape(len(values), -1)
    return values.float() if values.is_floating_point() else values


def one_label(y: Tensor) -> Tensor:
    """The classes 0 and 1 in ``y [G]`` as labels, float32 [G, 1]; NaN for -1."""
    return torch.where(y < 0, torch.nan, y.float()).unsqueeze(1)


def featured(found: GraphSet) -> GraphSet:
    """The graphs with x: where there is none, the in-degree of each node, int64 [N, 1]."""
    if found.x is not None:
        return found
    begin = torch.repeat_interleave(found.node_ptr[:-1], found.edge_ptr.diff())
    target, count = found.edge_index[1] + begin, int(found.node_ptr[-1])
    x = torch.bincount(target, minlength=count).unsqueeze(1)
    return GraphSet({**found.tensors, "x": x}, found.name, found.num_classes, found.levels)


def _columns(name: str, values: Tensor, known: Sequence[int]) -> Columns:
    """What ``values`` hold; categories are counted, or ``known`` where they fit into those."""
    values = values.reshape(len(values), -1)
    if values.is_floating_point():
        return values.size(1)
    low, high = values.amin(dim=0).tolist(), values.amax(dim=0).tolist()
    if min(low) < 0:
        raise DataError(
            f"{name} holds the integer {min(low)}, but integers are categories and count from 0. "
            f"Use {name}.float() if they are quantities."
        )
    if len(known) == len(high) and all(a < b for a, b in zip(high, known, strict=True)):
        return list(known)
    return [top + 1 for top in high]


def check_columns(name: str, values: Tensor | None, columns: Columns | None) -> None:
    """Raise :class:`DataError` unless ``values`` hold what weights for ``columns`` take."""
    held = values.unsqueeze(1) if values is not None and values.dim() == 1 else values
    if held is None and columns is None:
        return
    kind = None if held is None else (held.size(1), held.is_floating_point())
    wanted = (columns, True) if isinstance(columns, int) else (len(columns or ()), False)
    if held is None or columns is None or kind != wanted:
        words = [
            f"{count} columns of {'numbers' if numbers else 'categories'}"
            for count, numbers in (wanted, kind or wanted)
        ]
        expected = "none" if columns is None else words[0]
        raise DataError(
            f"The weights expect {expected} as {name}, but the graphs have "
            f"{'none' if held is None else words[1]}. Give graphs with the features of the run."
        )
    if isinstance(columns, int):
        return
    top = torch.tensor(columns, device=held.device)
    bad = ((held < 0) | (held >= top)).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"{name}[{row}, {column}] is {int(held[row, column])}, but the weights know the "
            f"categories 0 to {columns[column] - 1} there. Leave out the graphs that hold others."
        )


def batches(graph_id: Tensor, size: int) -> list[Tensor]:
    """``graph_id`` in runs of ``size``; a single one left over joins those before it.

    A batch norm has no spread to divide by in a batch of one.
    """
    parts = list(graph_id.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def outputs(model: nn.Module, whole: Whole, graph_id: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The outputs of the graphs ``graph_id``, taken batch by batch: [graphs, width]."""
    parts = graph_id.split(options["batch_size"])
    return torch.cat([_apply(model, whole, part, options["amp"]) for part in parts])


def _apply(model: nn.Module, whole: Whole, graph_id: Tensor, amp: str | None) -> Tensor:
    """The outputs of one batch."""
    batch: Any = whole.graphs.batch(graph_id)
    x = _floats(batch.x)
    edge_attr = None if batch.edge_attr is None else _floats(batch.edge_attr)
    joined = as_graph(batch.edge_index, len(x), len(x))
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=amp == "bf16"):
        return model(x, joined, edge_attr, batch.ptr, batch.get("rq"))


def problem(
    model: nn.Module,
    seed: int,
    *,
    whole: Whole,
    task: Task,
    options: Mapping[str, Any],
    weigh: Callable[..., Callable[[Tensor, Tensor], Tensor]] | None = None,
) -> Problem:
    """One seed: shuffled batches of its training graphs; test graphs are read by ``test`` alone.

    ``weigh(y=...)`` is the loss for training graphs of these labels, that of the task if not given.
    """
    split, rows = whole.split(seed)
    device, amp = whole.graphs.device, options["amp"]
    known = rows["train"]
    criterion = task.loss if weigh is None else weigh(y=whole.y[known])
    rate = 0.0
    if isinstance(model, OneClass):
        rate = float((whole.y[known] == 1).double().mean())
        known, criterion = known[whole.y[known] == 0], model.loss
    held = Held(partial(outputs, model, whole, options=options), rows, whole.y, task)
    seen: dict[str, float] = {}

    def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
        if isinstance(model, OneClass) and epoch == 0:
            _fit_centre(model, whole, known, options)
        order = known[torch.randperm(len(known), device=device)]
        total = 0.0
        for graph_id in batches(order, options["batch_size"]):
            optimizer.zero_grad()
            loss = criterion(_apply(model, whole, graph_id, amp), whole.y[graph_id])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(graph_id)
        if isinstance(model, OneClass):
            model.eval()
            with torch.no_grad():
                model.fit_threshold(outputs(model, whole, known, options), rate)
        return total / len(order)

    def validate() -> tuple[float, float]:
        out, y = outputs(model, whole, rows["val"], options), whole.y[rows["val"]]
        if whole.anomaly is not None:
            seen.update(others_of(task, out, y))
        return finite(criterion(out, y)), task.score(out, y)

    kept: dict[str, Any] = dict(scores=held.scores, keep=partial(held.write, seed))
    return Problem(split, train, validate, held.test, others=lambda: dict(seen), **kept)


def _fit_centre(
    model: OneClass, whole: Whole, graph_id: Tensor, options: Mapping[str, Any]
) -> None:
    """Set the centre by the weights before training, with norms as in the steps to come."""

    def vectors() -> Iterator[Tensor]:
        for part in batches(graph_id, options["batch_size"]):
            batch: Any = whole.graphs.batch(part)
            x = _floats(batch.x)
            yield model.embed(x, as_graph(batch.edge_index, len(x), len(x)), batch.ptr)

    with torch.no_grad():
        model.net.fit_centre(vectors())


def _announce(
    console: Console,
    model: nn.Module,
    *,
    whole: Whole,
    task: Task,
    options: Mapping[str, Any],
    seed: int,
    unused: bool,
    loss: str,
) -> None:
    """Say what is about to be trained on what."""
    rows, weights = whole.split(seed)[1], sum(p.numel() for p in model.parameters())
    sizes = ", ".join(
        f"{len(rows[part]):,} {name}"
        for part, name in zip(PARTS, ("training", "validation", "test"), strict=True)
    )
    nodes, edges = int(whole.graphs.node_ptr[-1]), int(whole.graphs.edge_ptr[-1])
    lines = [
        f"{options['data']}: {len(whole.graphs):,} graphs, {nodes:,} nodes, {edges:,} edges, "
        f"{task.width} {task.kind}",
        f"split: {sizes}",
    ]
    if whole.anomaly is not None:
        held = [int((whole.y[rows[part]] == 1).sum()) for part in PARTS]
        share = 100 * held[0] / len(rows["train"])
        now = "" if whole.anomaly else ", now class 1"
        lines.append(
            f"anomalies: class {whole.anomaly} of the data{now}; {held[0]:,} of training "
            f"({share:.1f} %), {held[1]:,} of validation, {held[2]:,} of test"
        )
    if isinstance(model, OneClass):
        lines.append("trained on normal graphs alone; the others set the threshold by their share")
    elif loss != "plain":
        lines.append(f"loss: {loss}, for classes that are not equally large")
    if unused:
        lines.append("edge_attr is not used")
    lines.append(f"{options['model']}: {weights:,} parameters on {whole.graphs.device}")
    for line in lines:
        plots.say(console, line)
