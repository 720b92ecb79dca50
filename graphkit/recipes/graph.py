"""The recipe ``graph``: classification and regression of whole graphs. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console
from torch import Tensor, nn

from ..data import Card, GraphSet, card, check_graphs, is_path, load
from ..errors import DataError
from ..graph import as_graph
from ..store import digest
from . import plots, report
from .graphnet import Columns, GraphNet
from .loop import Problem, finite
from .options import hints, prepare
from .runs import Job, carry_out
from .task import Task, split_rows, task_of

if TYPE_CHECKING:
    from torch_geometric.data import Data

LAYERS = ("gin", "gcn")
PARTS = ("train", "val", "test")
# of the columns of OGB's molecules: ogb.utils.features, get_atom_feature_dims and ..._bond_...
ATOMS = (119, 5, 12, 12, 10, 6, 6, 2, 2)
BONDS = (5, 6, 2)


@dataclass(frozen=True)
class Whole:
    """Graphs with x, the labels ``y`` in the form of the task, and the masks of the parts.

    ``node`` and ``edge`` say what x and edge_attr hold; ``degrees``: x was made of in-degrees.
    """

    graphs: GraphSet
    y: Tensor
    node: Columns
    edge: Columns | None
    masks: Mapping[str, Tensor]
    degrees: bool

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
    device: "str | torch.device" = "auto",
    amp: Literal["bf16"] | None = None,
    hidden: int = 64,
    num_layers: int = 5,
    dropout: float = 0.5,
    pool: Literal["mean", "sum"] = "mean",
    virtual_node: bool = False,
    lr: float = 0.001,
    weight_decay: float = 0.0,
    batch_size: int = 32,
    epochs: int = 100,
    patience: int = 0,
    select: Literal["score", "loss"] = "score",
    metric: str | None = None,
    allow_nonfinite: bool = False,
    quiet: bool = False,
    submission: str | None = None,
    resume: "str | None" = None,
    command: "str | None" = None,
    note: "str | None" = None,
) -> report.Record:
    """Classification and regression of whole graphs with GIN or GCN, in mini-batches.

    Integer columns of nodes and edges (atoms and bonds of OGB's molecules) are categories, each
    with a learnt vector; numbers go through a linear layer; nodes without features are told apart
    by their in-degree. The epoch is chosen by the validation graphs alone, the test graphs are
    scored once for each seed, after training. Folder, record and resuming are as for node.

    Args:
        data: data set to train on (see: graphkit data list); in Python also a GraphSet or a list
            of PyG's Data, with masks
        model: gin or gcn
        seeds: seeds to run, such as 0, 0-9 or 0,3,5; of S splits, seed i trains on split i mod S,
            and a split that is drawn is the same for all seeds
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/graph-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        amp: bf16 runs the model in bfloat16 where that is safe
        hidden: width of the layers
        num_layers: number of convolutions
        dropout: share of the outputs of each convolution dropped in training
        pool: what a graph is of its nodes, their mean or their sum
        virtual_node: add a node to each graph that exchanges messages with all others
        lr: learning rate of Adam
        weight_decay: L2 penalty of Adam, on all parameters
        batch_size: graphs of one step, at least 2
        epochs: most epochs to train
        patience: stop when the validation loss exceeds its mean over so many epochs before; 0 never
        select: keep the weights of the best validation score, or of the lowest validation loss
        metric: accuracy, rocauc, ap or f1 for classes and labels, rmse or mae for values; the
            data set's own if not given
        allow_nonfinite: accept NaN and Inf among the features of graphs given from Python
        quiet: print nothing
        submission: file to write the form of OGB's leaderboard to; must not exist
        resume: folder of a run of these options that was stopped, to go on in
        command: command that repeats the run, where it is not made of these options
        note: line to print under the result

    Raises:
        ConfigError: an option is unknown or out of range, or training diverged.
        DataError: the data set is unknown or malformed, has no split, or is one graph.
        StoreError: the run folder exists or cannot be written.
        BackendError: the device is not there.
    """
    settled = prepare(graph, locals(), LAYERS)
    options, place = settled.options, settled.device
    named = None
    if isinstance(data, str):
        named = graph_card(data)
        found, metric = load(data, root, split=split), metric or named.metric
    else:
        found = check_graphs(data, allow_nonfinite=allow_nonfinite)
    whole, task = read_graphs(found.to(place), metric)
    options["metric"] = task.metric
    about = {"node": whole.node, "edge": whole.edge, "out": task.width}
    kept = ("model", "hidden", "num_layers", "dropout", "pool", "virtual_node")
    about |= {name: options[name] for name in kept}
    nodes = whole.graphs.node_ptr[-1].item() * batch_size // len(whole.graphs)
    job = Job(
        task="graph",
        title=f"{options['model']} on {options['data']}",
        metric=task.metric,
        higher=task.higher,
        options=options,
        seeds=settled.seeds,
        device=place,
        work=int(nodes) * hidden * hidden * 2,
        data_digest=digest(whole.graphs.tensors),
        build=partial(GraphNet, **about),
        problem=partial(problem, whole=whole, task=task, options=options),
        announce=partial(_announce, whole=whole, task=task, options=options, seed=settled.seeds[0]),
        about={"recipe": "graph", "net": about, "task": asdict(task), "degrees": whole.degrees},
        command=settled.command,
        note=note,
        quiet=quiet,
        submission=submission,
        defects=named.defects if named is not None else (),
        closing=lambda record: hints(record, settled.command, LAYERS),
    )
    return carry_out(job, out, resume)


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


def read_graphs(found: GraphSet, metric: str | None) -> tuple[Whole, Task]:
    """The graphs with x, the size of their columns, labels and masks; and the task they pose."""
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
    if y.dim() == 1 and not y.is_floating_point() and metric in ("rocauc", "ap"):
        # a score of one class is one number, as on OGB's leaderboards
        y = one_label(y) if (classes or int(y.max()) + 1) == 2 else y
    task = task_of(y, metric, classes)
    molecules = found.name.startswith("ogbg-mol")
    node = _columns("x", found.x, ATOMS if molecules else ())
    edge = found.edge_attr
    if edge is not None:
        edge = _columns("edge_attr", edge, BONDS if molecules else ())
    return Whole(found, y, node, edge, masks, degrees), task


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
    x = batch.x.reshape(len(batch.x), -1)
    x = x.float() if x.is_floating_point() else x
    edge_attr = batch.edge_attr
    if edge_attr is not None:
        edge_attr = edge_attr.reshape(len(edge_attr), -1)
        edge_attr = edge_attr.float() if edge_attr.is_floating_point() else edge_attr
    joined = as_graph(batch.edge_index, len(x), len(x))
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=amp == "bf16"):
        return model(x, joined, edge_attr, batch.ptr)


def problem(
    model: nn.Module, seed: int, *, whole: Whole, task: Task, options: Mapping[str, Any]
) -> Problem:
    """One seed: shuffled batches of its training graphs; test graphs are read by ``test`` alone."""
    split, rows = whole.split(seed)
    device = whole.graphs.device

    def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
        order = rows["train"][torch.randperm(len(rows["train"]), device=device)]
        total = 0.0
        for graph_id in batches(order, options["batch_size"]):
            optimizer.zero_grad()
            loss = task.loss(_apply(model, whole, graph_id, options["amp"]), whole.y[graph_id])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(graph_id)
        return total / len(order)

    def judged(part: str) -> tuple[Tensor, Tensor]:
        return outputs(model, whole, rows[part], options), whole.y[rows[part]]

    def validate() -> tuple[float, float]:
        out, y = judged("val")
        return finite(task.loss(out, y)), task.score(out, y)

    return Problem(split, train, validate, lambda: task.score(*judged("test")))


def _announce(
    console: Console,
    model: nn.Module,
    *,
    whole: Whole,
    task: Task,
    options: Mapping[str, Any],
    seed: int,
) -> None:
    """Say what is about to be trained on what."""
    rows, weights = whole.split(seed)[1], sum(p.numel() for p in model.parameters())
    sizes = ", ".join(
        f"{len(rows[part]):,} {name}"
        for part, name in zip(PARTS, ("training", "validation", "test"), strict=True)
    )
    nodes, edges = int(whole.graphs.node_ptr[-1]), int(whole.graphs.edge_ptr[-1])
    for line in (
        f"{options['data']}: {len(whole.graphs):,} graphs, {nodes:,} nodes, {edges:,} edges, "
        f"{task.width} {task.kind}",
        f"split: {sizes}",
        f"{options['model']}: {weights:,} parameters on {whole.graphs.device}",
    ):
        plots.say(console, line)
