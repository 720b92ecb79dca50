"""The recipe ``node``: full-batch node classification. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import torch
from rich.console import Console
from torch import Tensor, nn

from ..data import check, load
from ..graph import Graph
from ..nn import build_model
from . import memory, plots, report
from .loop import Epoch, Inputs, evaluate, fit
from .options import locate, settle
from .steady import Steady, deferred

if TYPE_CHECKING:
    from torch_geometric.data import Data

PARTS = ("train", "val", "test")


def node(
    *,
    data: "str | Data" = "digits",
    model: str = "gcn",
    seeds: "str | int | Sequence[int]" = "0",
    root: str | None = None,
    out: str | None = None,
    split: str | None = None,
    device: "str | torch.device" = "auto",
    amp: Literal["bf16"] | None = None,
    compile: bool = False,
    hidden: int = 64,
    num_layers: int = 2,
    dropout: float = 0.5,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    epochs: int = 300,
    patience: int = 100,
    select: Literal["score", "loss"] = "score",
    undirected: bool = False,
    row_normalize: bool = False,
    allow_nonfinite: bool = False,
    quiet: bool = False,
    command: "str | None" = None,
    note: "str | None" = None,
) -> report.Record:
    """Full-batch node classification with any model.

    Returns the record of the run and leaves a folder with its configuration, curves, scores and
    weights. The epoch is chosen and training is stopped by the validation nodes alone; the test
    nodes are scored once for each seed, after training.

    Ctrl-C and SIGTERM keep the seeds that are finished: the folder is left as usual, result.json
    names those seeds and says "interrupted": true, and KeyboardInterrupt tells how to run the rest.

    Args:
        data: data set to train on (see: graphkit data list); in Python also a PyG Data
        model: gcn, sage, gat, gatv2, gin, mlp, acm-gcn or acmii-gcn
        seeds: seeds to run, such as 0, 0-9 or 0,3,5; of S splits, seed i trains on split i mod S
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/node-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        amp: bf16 runs the model in bfloat16 where that is safe
        compile: compile the model with torch.compile
        hidden: width of the hidden layers
        num_layers: number of layers
        dropout: share of the inputs of each layer dropped in training
        lr: learning rate of Adam
        weight_decay: L2 penalty of Adam, on all parameters
        epochs: most epochs to train
        patience: stop when the validation loss exceeds its mean over so many epochs before; 0 never
        select: keep the weights of the best validation score, or of the lowest validation loss
        undirected: add the reverse of every edge
        row_normalize: scale the features of each node to sum 1
        allow_nonfinite: accept NaN and Inf among the features of a Data object
        quiet: print nothing
        command: command that repeats the run, where it is not made of these options
        note: line to print under the result

    Raises:
        ConfigError: an option is unknown or out of range, or training diverged.
        DataError: the data set is unknown or malformed, or lacks a split.
        StoreError: the run folder exists or cannot be written.
        BackendError: the device is not there.
    """
    options = settle(locals())
    numbers, place = report.parse_seeds(seeds), memory.find_device(options["device"])
    options["seeds"] = (seeds if isinstance(seeds, str) else report.join(numbers)).replace(" ", "")
    if isinstance(data, str):
        named = locate(data, root, split)
        options["data"] = named["data"]
        command = command or report.command("node", options, report.defaults(node))
        if named["root"] and (root or os.environ.get("GRAPHKIT_DATA")):
            command = report.amend(command, "root", named["root"])
        nodes = load(data, root, split=split)
    else:
        named, nodes = {"data": "custom"}, check(data, allow_nonfinite=allow_nonfinite)
    options |= {**named, "device": str(place)}
    title = f"{options['model']} on {options['data']}"
    console = Console(file=cast(IO[str], Steady(sys.stdout)), quiet=quiet)
    inputs, masks = _read(nodes, place, undirected, row_normalize)
    given = getattr(nodes, "num_classes", None)
    widths = inputs.x.size(1), hidden, int(inputs.y.max()) + 1 if given is None else int(given)
    build = partial(build_model, options["model"], *widths, num_layers=num_layers, dropout=dropout)
    memory.reset_peak(place)
    rows: list[report.Row] = []
    histories: dict[int, list[Epoch]] = {}
    stopped = None
    started = f"{datetime.now():%Y%m%d-%H%M%S}"
    folder = report.RunFolder(out, f"node-{options['data']}-{options['model']}-{started}")
    with ExitStack() as late, folder as run, memory.threads(inputs.x.numel() * hidden):
        run.write_config("node", options, command)
        run.write("environment.json", memory.environment(place))
        if any(getattr(nodes, key, None) is not None for key in ("edge_weight", "edge_attr")):
            plots.say(console, "edge_weight and edge_attr are not used by this recipe")
        with memory.seeded(numbers[0], place):
            _announce(console, options, build().to(place), inputs, _split(masks, numbers[0]))
        began = time.perf_counter()
        try:
            with plots.Progress(console, numbers, epochs) as progress:
                for seed in numbers:
                    with memory.seeded(seed, place):
                        net = build().to(place)
                        row, history = _train(net, inputs, masks, seed, options, progress)
                    # a seed is kept whole or not at all
                    with deferred():
                        run.add_seed(seed, net.state_dict(), history)
                        rows.append(row)
                        histories[seed] = history
                    progress.finish(row)
        except KeyboardInterrupt as error:
            stopped = error
            if not rows:
                raise
        # until the folder has its name: a second Ctrl-C must not take away what is finished
        late.enter_context(deferred(deliver=stopped is None))
        most, seconds = memory.peak(place) / memory.MB, time.perf_counter() - began
        about = "node", options["data"], options["model"], "accuracy"
        record = report.record(*about, rows, seconds, most, run.target)
        cut = {"interrupted": True} if len(rows) < len(numbers) else {}
        run.write("result.json", asdict(record) | cut)
        chosen = {row.seed: row.best_epoch for row in rows}
        plots.curves(run.path, histories, chosen, title=title, metric="accuracy")
    plots.show(console, record, _closing(record, command, note))
    if stopped is not None:
        raise type(stopped)(_rest(record, numbers, command)) from None
    return record


def _read(
    data: "Data", device: torch.device, undirected: bool, row_normalize: bool
) -> tuple[Inputs, dict[str, Tensor]]:
    """Features, graph and labels on ``device``, and the masks of the three parts."""
    x, edge_index, y = data["x"].float(), data["edge_index"], data["y"]
    if row_normalize:
        sums = x.abs().sum(dim=1, keepdim=True)
        x = x / torch.where(sums > 0, sums, 1.0)
    if undirected:
        from torch_geometric.utils import to_undirected

        edge_index = to_undirected(edge_index, num_nodes=x.size(0))
    graph = Graph.from_edge_index(edge_index, num_nodes=x.size(0))
    masks = {part: data[f"{part}_mask"].to(device) for part in PARTS}
    return Inputs(x.to(device), graph.to(device), y.to(device)), masks


def _split(masks: Mapping[str, Tensor], seed: int) -> tuple[int | None, Tensor, Tensor, Tensor]:
    """The number of the split that ``seed`` uses (None if there is one) and its three parts."""
    columns = [masks[part].reshape(len(masks[part]), -1) for part in PARTS]
    count = columns[0].size(1)
    train_id, val_id, test_id = (mask[:, seed % count].nonzero().squeeze(1) for mask in columns)
    return seed % count if count > 1 else None, train_id, val_id, test_id


def _announce(
    console: Console,
    options: Mapping[str, Any],
    net: nn.Module,
    inputs: Inputs,
    split: tuple[int | None, Tensor, Tensor, Tensor],
) -> None:
    """Say what is about to be trained on what, and the memory that will take."""
    _, train_id, val_id, test_id = split
    made = " (made undirected)" if options["undirected"] else ""
    weights = sum(p.numel() for p in net.parameters())
    predicted = memory.predict(net, inputs, train_id)
    lines = (
        f"{options['data']}: {inputs.x.size(0):,} nodes, {inputs.graph.num_edges:,} edges{made}, "
        f"{inputs.x.size(1):,} features, {int(inputs.y.max()) + 1} classes",
        f"split: {len(train_id):,} training, {len(val_id):,} validation, {len(test_id):,} test",
        f"{options['model']}: {weights:,} parameters on {inputs.x.device}",
        f"predicted peak memory: {predicted or 'unknown (an op has no shape function)'}",
    )
    for line in lines:
        plots.say(console, line)


def _train(
    net: nn.Module,
    inputs: Inputs,
    masks: Mapping[str, Tensor],
    seed: int,
    options: Mapping[str, Any],
    progress: plots.Progress,
) -> tuple[report.Row, list[Epoch]]:
    """Fit ``net`` on the seed's split, then score its test nodes: the only look at them."""
    began = time.perf_counter()
    split, train_id, val_id, test_id = _split(masks, seed)
    if options["compile"]:
        net.compile()
    names = ("epochs", "patience", "lr", "weight_decay", "select", "amp")
    best, history = fit(
        net, inputs, train_id, val_id, progress=progress, **{name: options[name] for name in names}
    )
    test = evaluate(net, inputs, test_id, amp=options["amp"])[1]
    seconds = time.perf_counter() - began
    row = report.Row(seed, split, best.epoch, len(history), best.val_score, test, seconds)
    return row, history


def _closing(record: report.Record, command: str | None, note: str | None) -> list[str]:
    """The lines under the table: where the run is, how to repeat it, what to try next."""
    lines = [note] if note else []
    lines += [f"peak memory: {record.peak_mb:,.0f} MB", f"run folder:  {record.run}"]
    if command is None:
        return lines
    hint = report.amend(command, "seeds", "0-9")
    if len(record.rows) > 1:
        other = "acm-gcn" if record.model != "acm-gcn" else "gcn"
        hint = report.amend(command, "model", other)
    return [*lines, f"repeat:      {command}", f"try next:    {hint}"]


def _rest(record: report.Record, seeds: Sequence[int], command: str | None) -> str:
    """What an interrupted run kept, and how to run the seeds that it did not."""
    missing = report.join([seed for seed in seeds if seed not in record.seeds])
    if not missing:
        return f"Interrupted: all {len(seeds)} seeds are kept in {record.run}."
    todo = f"seeds {missing}" if command is None else report.amend(command, "seeds", missing)
    return (
        f"Interrupted: {len(record.seeds)} of {len(seeds)} seeds are kept in {record.run}. "
        f"The others: {todo}"
    )
