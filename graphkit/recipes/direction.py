"""The recipe ``direction``: the direction of links, full batch. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from ..data import LINK_TASKS, Card, check_directed_links, directed_link_split
from ..errors import ConfigError, DataError
from ..graph import Graph
from ..nn import MODELS, build_model
from ..ops import dropout as drop
from ..ops import gather
from ..store import digest
from . import memory, plots, report
from .links import both_ways, check_graph, find_links, link_card
from .loop import Problem, finite
from .options import hints, prepare, read_model_options
from .runs import Job, carry_out
from .task import Task, task_of

if TYPE_CHECKING:
    from torch_geometric.data import Data

PARTS = ("train", "val", "test")


class PairNet(nn.Module):
    """An encoder of nodes, and a linear map of two of them: ``classify(h, pairs) [n, C]``.

    ``W [h_u ; h_v] + b`` for the pair (u, v), as the edge heads of MagNet (Zhang et al. 2021) and
    of the methods it is compared with; ``h`` is what a classifier of the model's own would read,
    such as MagNet's [Re ; Im]. The map of two nodes is the sum of a map of each: both are taken of
    the nodes, and only the C classes of each pair are ever in memory. So the logits are of the form
    f(u) + g(v): they tell which nodes links leave and reach, not which nodes belong together, for
    which there is the recipe link. Dropout falls on the vectors of the nodes, where the official
    code drops those of each pair anew.

    Args:
        model: the encoder, one of ``graphkit.nn.MODELS``.
        in_channels: number of features.
        hidden: width of the encoder.
        classes: number of classes.
        num_layers: layers of the encoder.
        dropout: probability between layers, and before the map of pairs.
        norm: as ``graphkit.nn.build_model`` takes it.
        drop_input: the same.
        num_nodes: the same.
        model_options: the model's own options.
    """

    def __init__(
        self,
        model: str,
        in_channels: int,
        hidden: int,
        classes: int,
        *,
        num_layers: int,
        dropout: float,
        norm: str | None,
        drop_input: bool,
        num_nodes: int,
        model_options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.dropout = dropout
        about: dict[str, Any] = dict(norm=norm, drop_input=drop_input, num_nodes=num_nodes)
        about |= dict(num_layers=num_layers, dropout=dropout, **model_options)
        self.encoder = build_model(model, in_channels, hidden, None, **about)
        self.head = nn.Linear(2 * getattr(self.encoder, "out_channels", hidden), classes)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Vectors of the nodes, [N, width]."""
        return self.encoder(x, graph)

    def classify(self, h: Tensor, pairs: Graph) -> Tensor:
        """The logits [n, C] of the pairs that ``pairs`` joins, float32, in their order."""
        h = drop(h, self.dropout, self.training)
        first, second = self.head.weight.chunk(2, dim=1)
        of_first = gather(pairs, functional.linear(h, first), "src")
        of_second = gather(pairs, functional.linear(h, second, self.head.bias), "dst")
        return (of_first + of_second).float()


@dataclass(frozen=True)
class Whole:
    """All edges [2, E] as they were given, on the CPU, and features [N, F] or None for degrees."""

    edge_index: Tensor
    x: Tensor | None
    num_nodes: int
    device: torch.device

    def digest(self) -> str:
        """The checksum of all that a run depends on."""
        tensors = {} if self.x is None else {"x": self.x}
        count = torch.tensor(self.num_nodes)
        return digest({**tensors, "edge_index": self.edge_index, "num_nodes": count})

    def observed(self, messages: Tensor, undirected: bool) -> tuple[Tensor, Graph]:
        """The features [N, F], and the graph, where ``messages [2, E']`` are all one knows of."""
        size, messages = self.num_nodes, messages.to(self.device)
        x = self.x
        if x is None:
            ends = (messages[1], messages[0])
            x = torch.stack([torch.bincount(end, minlength=size) for end in ends], dim=1).float()
        return x, Graph.from_edge_index(both_ways(messages) if undirected else messages, size)


@dataclass(frozen=True)
class Divided:
    """What a seed sees: features, the graph of messages, and of each part the pairs and labels.

    The edges of the graphs ``pairs`` are the ordered pairs to be classified.
    """

    x: Tensor
    graph: Graph
    pairs: Mapping[str, Graph]
    label: Mapping[str, Tensor]


def direction(
    *,
    data: "str | Data" = "cora-ml-directed",
    task: Literal["direction", "existence", "three-class"] = "direction",
    model: str = "dir-sage",
    seeds: "str | int | Sequence[int]" = "0",
    root: str | None = None,
    out: str | None = None,
    split: str | None = None,
    device: "str | torch.device" = "auto",
    amp: Literal["bf16"] | None = None,
    features: Literal["own", "degree"] | None = None,
    num_val: float = 0.05,
    num_test: float = 0.15,
    keep_connected: bool = True,
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
    select: Literal["score", "loss"] = "score",
    metric: str | None = None,
    undirected: bool = False,
    quiet: bool = False,
    resume: "str | None" = None,
    command: "str | None" = None,
    note: "str | None" = None,
) -> report.Record:
    """The direction of links, or whether there are any, in a directed graph.

    An encoder of the training edges, and a linear map of the vectors of two nodes. The tasks:
    direction tells the edge u to v from its reverse; existence tells links from pairs of nodes that
    no edge joins; three-class tells forward, backward and no link. Classes are equally large.

    Every seed divides the graph anew: 80, 5 and 15 % of the joined pairs of nodes. What joins two
    nodes, in either direction, is in one part; a spanning forest stays in training. Nothing of a
    held-out pair is in the graph that messages run on, and the degrees are of that graph: this is
    checked in every run. The epoch is chosen by the validation pairs alone, the test pairs are
    scored once for each seed, after training. Folder, record and resuming are as for node.

    Args:
        data: directed graph to train on (see: graphkit data list), or path of your own; in Python
            also a PyG Data
        task: what to tell of a pair of nodes: direction, existence or three-class
        model: encoder, any model of the recipe node
        seeds: seeds to run, such as 0, 0-9 or 0,3,5; each divides the graph anew
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/direction-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds; edges are divided all the same
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        amp: bf16 runs the model in bfloat16 where that is safe
        features: own, those of the data, or degree, in- and out-degree among the training edges
            (default: own, degree where the data has none)
        num_val: share of the joined pairs of nodes held out for validation
        num_test: share held out for the test
        keep_connected: keep a spanning forest in training, so that no component falls apart
        hidden: width of the layers and of the vectors of nodes
        num_layers: number of layers of the encoder
        dropout: share of the inputs of each layer dropped in training, and of the vectors of nodes
        norm: batch_norm puts one behind every layer but the last
        drop_input: drop features too, not between the layers alone
        model_options: options of the model's own, such as q=0.1
        optimizer: adam, or adamw, whose decay does not pass through its averages
        lr: learning rate
        weight_decay: L2 penalty, on all parameters
        epochs: most epochs to train
        patience: stop when the validation loss exceeds its mean over so many epochs before; 0 never
        stop: mean for that rule; best stops when the epoch that is kept is patience epochs old
        select: keep the weights of the best validation score, or of the lowest validation loss
        metric: accuracy, f1 (macro), rocauc or ap; accuracy if not given
        undirected: send messages along the reverse of every training edge too
        quiet: print nothing
        resume: folder of a run of these options that was stopped, to go on in
        command: command that repeats the run, where it is not made of these options
        note: line to print under the result

    Raises:
        ConfigError: an option is unknown or out of range, or training diverged.
        DataError: the data set is unknown or malformed, is not one graph, is symmetric where
            directions are asked for, or is too small to be divided.
        StoreError: the run folder exists or cannot be written.
        BackendError: the device is not there.
    """
    settled = prepare(direction, locals(), MODELS)
    options, place = settled.options, settled.device
    named = directed_card(data) if isinstance(data, str) else None
    found = find_links(data, root, split)
    whole = read_whole(found, place, features)
    options["features"] = "degree" if whole.x is None else "own"
    # what cannot be divided is refused before there is a folder
    first = divide(whole, settled.seeds[0], options)
    names = list(LINK_TASKS[task])
    asked = task_of(first.label["train"], metric, len(names))
    options["metric"] = asked.metric
    about = {
        "model": options["model"],
        "in_channels": first.x.size(1),
        "classes": len(names),
        **{name: options[name] for name in ("hidden", "num_layers", "dropout")},
        **{name: options[name] for name in ("norm", "drop_input")},
        "num_nodes": whole.num_nodes,
        "model_options": read_model_options(options["model"], options["model_options"]),
    }
    unused = [key for key in ("edge_weight", "edge_attr") if getattr(found, key, None) is not None]
    job = Job(
        task="direction",
        title=f"{options['model']} on {options['data']}: {task}",
        metric=asked.metric,
        options=options,
        seeds=settled.seeds,
        device=place,
        work=first.x.numel() * hidden,
        data_digest=whole.digest(),
        build=partial(PairNet, **about),
        problem=partial(problem, whole=whole, task=asked, options=options),
        announce=partial(
            _announce,
            whole=whole,
            first=first,
            task=asked,
            options=options,
            unused=unused,
            featured=getattr(found, "x", None) is not None,
        ),
        about={"recipe": "direction", "net": about, "task": asdict(asked), "class_names": names},
        command=settled.command,
        note=note,
        quiet=quiet,
        defects=named.defects if named is not None else (),
        closing=lambda record: hints(record, settled.command, MODELS),
    )
    return carry_out(job, out, resume)


def directed_card(data: str) -> Card | None:
    """The card of a data set of one graph to be divided, None for a path; else DataError."""
    named = link_card(data)
    if named is not None and named.kind == "link":
        raise DataError(_own_links(named.name))
    return named


def read_whole(
    data: "Data", device: torch.device, features: Literal["own", "degree"] | None
) -> Whole:
    """The edges of ``data``, and its features on ``device`` unless degrees stand for them."""
    if getattr(data, "split_edge", None) is not None:
        raise DataError(_own_links(getattr(data, "name", "data")))
    edge_index, x, num_nodes = check_graph(data)
    if features == "own" and x is None:
        raise ConfigError(
            "features is 'own', but the data has no x. Use degree, or give every node a row of x."
        )
    if features == "degree":
        x = None
    edges = edge_index.detach().cpu().long()
    return Whole(edges, None if x is None else x.detach().float().to(device), num_nodes, device)


def undivided(whole: Whole, options: Mapping[str, Any]) -> Divided:
    """``whole`` with messages along all its edges and nothing held out."""
    edges = whole.edge_index[:, whole.edge_index[0] != whole.edge_index[1]].unique(dim=1)
    return Divided(*whole.observed(edges, options["undirected"]), {}, {})


def divide(whole: Whole, seed: int, options: Mapping[str, Any]) -> Divided:
    """What ``seed`` sees of ``whole``, found to hold nothing of the pairs held out."""
    named = ("task", "num_val", "num_test", "keep_connected")
    about = {name: options[name] for name in named}
    messages, split = directed_link_split(whole.edge_index, whole.num_nodes, **about, seed=seed)
    check_directed_links(whole.edge_index, whole.num_nodes, messages, split, task=options["task"])
    x, graph = whole.observed(messages, options["undirected"])
    pairs, label = {}, {}
    for part, of in split.items():
        index = of["edge_label_index"].to(whole.device)
        pairs[part] = Graph.from_edge_index(index, whole.num_nodes)
        label[part] = of["edge_label"].to(whole.device)
    return Divided(x, graph, pairs, label)


def logits(model: Any, divided: Divided, pairs: Graph, options: Mapping[str, Any]) -> Tensor:
    """The logits [n, C] of ``pairs``, float32."""
    kind, bf16 = divided.graph.device.type, options["amp"] == "bf16"
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16):
        return model.classify(model(divided.x, divided.graph), pairs)


def problem(
    model: nn.Module, seed: int, *, whole: Whole, task: Task, options: Mapping[str, Any]
) -> Problem:
    """One seed on its own division; the test pairs are read by ``test`` alone."""
    divided = divide(whole, seed, options)

    def outputs(part: str) -> tuple[Tensor, Tensor]:
        return logits(model, divided, divided.pairs[part], options), divided.label[part]

    def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
        optimizer.zero_grad()
        loss = task.loss(*outputs("train"))
        loss.backward()
        optimizer.step()
        return loss.item()

    def validate() -> tuple[float, float]:
        out, label = outputs("val")
        return finite(task.loss(out, label)), task.score(out, label)

    return Problem(seed, train, validate, lambda: task.score(*outputs("test")))


def _own_links(name: str) -> str:
    return (
        f"{name} comes with links to hold out, but this recipe divides a graph by itself, so that "
        "nothing of a pair is in two parts. Use the recipe link, or a Data without split_edge."
    )


def _announce(
    console: Console,
    model: nn.Module,
    *,
    whole: Whole,
    first: Divided,
    task: Task,
    options: Mapping[str, Any],
    unused: Sequence[str],
    featured: bool,
) -> None:
    """Say what is about to be trained on what, and the memory that will take."""
    loops = whole.edge_index[0] == whole.edge_index[1]
    src, dst = edges = whole.edge_index[:, ~loops].unique(dim=1)
    key = src * whole.num_nodes + dst
    two_way = int(torch.isin(dst * whole.num_nodes + src, key).sum())
    left_out = int(loops.sum()), whole.edge_index.size(1) - int(loops.sum()) - edges.size(1)
    features = f"{first.x.size(1):,} of the data"
    if options["features"] == "degree":
        why = "" if featured else " (the data has no x)"
        features = f"in- and out-degree among the training edges{why}"
    sizes = ", ".join(
        f"{len(first.label[part]):,} {name}"
        for part, name in zip(PARTS, ("training", "validation", "test"), strict=True)
    )
    made = " (made undirected)" if options["undirected"] else ""
    weights = sum(p.numel() for p in model.parameters())
    x, graph, label = (t.to("meta") for t in (first.x, first.graph, first.label["train"]))
    pairs = first.pairs["train"].to("meta")
    predicted = memory.predict_step(
        model,
        lambda shapes: task.loss(shapes.classify(shapes(x, graph), pairs), label),
        first.x.device,
    )
    lines = [
        f"{options['data']}: {whole.num_nodes:,} nodes, {len(src):,} edges, {two_way:,} of them "
        "with their reverse",
        f"features: {features}",
        f"{options['task']}: {', '.join(LINK_TASKS[options['task']])}",
        f"pairs of the first seed: {sizes}; messages along {first.graph.num_edges:,} edges{made}",
        f"{options['model']}: {weights:,} parameters on {whole.device}",
        f"predicted peak memory: {predicted or 'unknown (an op has no shape function)'}",
    ]
    if any(left_out):
        lines.insert(1, "left out: {:,} self-loops, {:,} repeated edges".format(*left_out))
    if unused:
        lines.append("edge_weight and edge_attr are not used by this recipe")
    for line in lines:
        plots.say(console, line)
