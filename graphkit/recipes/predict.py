"""Saved weights applied to data: predictions as a table. (opt: pandas)"""

# annotations are evaluated here: the command line takes its types from them
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from ..data import check, load
from ..errors import ConfigError, DataError, StoreError
from ..metrics import LOWER_IS_BETTER
from ..nn import build_model
from ..store import atomic, load_tensors
from . import memory, plots, report
from .node import Nodes, read_nodes
from .task import Task

if TYPE_CHECKING:
    from torch_geometric.data import Data

FORMATS = (".parquet", ".csv", ".npy")


def predict(
    run: str,
    *,
    data: "str | Data | None" = None,
    root: str | None = None,
    seed: int | None = None,
    out: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Predictions of a finished run for every row of its data, or of other data.

    Writes a table with a row for each node: its number, its part of the split, its class and the
    predicted one, and the probability of every class (or one column for each label or value). An
    ``.npy`` file holds the probabilities or values alone, float32 [N, C].

    Args:
        run: run folder that graphkit train named
        data: data set to predict; in Python also a PyG Data (default: that of the run)
        root: folder of downloaded data sets
        seed: whose weights to apply (default: the seed with the best validation score)
        out: file to write, .parquet, .csv or .npy (default: predictions.parquet in the run folder)
        device: auto, cpu, cuda or cuda:N
        quiet: print nothing

    Raises:
        ConfigError: the run has no such seed, or the file's ending is unknown.
        StoreError: the run, its weights or the place to write to are absent, damaged or foreign.
        DataError: the data has another number of features than the weights expect.
    """
    folder = Path(run)
    config = report.read_config(folder, own_data=True)
    if config["recipe"] != "node":
        raise ConfigError(f"{folder} is a run of {config['recipe']!r}, but predict knows node.")
    target = Path(out) if out is not None else folder / "predictions.parquet"
    if target.suffix not in FORMATS:
        raise ConfigError(
            f"out is {str(target)!r}, but a file ending in one of {', '.join(FORMATS)} is expected."
        )
    number, options = _seed(folder, seed), config["options"]
    place = memory.find_device(device)
    found, name = _data(options, data, root)
    nodes = read_nodes(found, place, options["undirected"], options["row_normalize"])
    outputs, task = _apply(folder / f"weights-seed{number}.safetensors", nodes)
    columns = _columns(outputs, task, nodes, number)
    _write(target, columns)
    count = f"{len(outputs):,} predictions"
    lines = [f"{options['model']} of seed {number} on {name}: {count} in {target}"]
    told = {"run": str(folder), "seed": number, "data": name, "rows": len(outputs)}
    told |= {"file": str(target), "metric": task.metric, "test": None}
    test = nodes.split(number)[1]["test"]
    if _fits(nodes.y, task):
        told["test"] = task.score(outputs[test], nodes.y[test])
        lines.append(f"test {task.metric}: {told['test']:.4f}")
    reader = {".csv": "pandas.read_csv", ".npy": "numpy.load"}.get(target.suffix)
    lines.append(f"next: {reader or 'pandas.read_parquet'}({str(target)!r})")
    console = Console(file=sys.stdout, quiet=quiet)
    for line in lines:
        plots.say(console, line)
    return told


def _seed(folder: Path, seed: int | None) -> int:
    """The seed asked for, or the one with the best validation score."""
    result = report.read_json(folder / report.RESULT)
    rows = {row["seed"]: row["val"] for row in result["rows"]}
    if seed is not None and seed not in rows:
        known = ", ".join(map(str, rows))
        raise ConfigError(f"seed is {seed}, but {folder} holds the seeds {known}.")
    if seed is not None:
        return seed
    best = max if result["metric"] not in LOWER_IS_BETTER else min
    return best(rows, key=rows.__getitem__)


def _data(options: dict[str, Any], data: Any, root: str | None) -> tuple[Any, str]:
    """The data to predict, and what it is called."""
    if data is not None and not isinstance(data, str):
        return check(data, allow_nonfinite=options["allow_nonfinite"]), "custom"
    name = data or options["data"]
    if name == "custom":
        raise ConfigError(
            "The run was trained on a Data object, which only Python can give again: "
            "graphkit.recipes.predict(run, data=...)."
        )
    same = name.lower() == options["data"]
    return load(name, root or options["root"], split=options["split"] if same else None), name


def _apply(path: Path, nodes: Nodes) -> tuple[Tensor, Task]:
    """The outputs [N, width] of the saved weights, and the task that they were trained for."""
    weights, about = load_tensors(path)
    try:
        task, widths = Task(**about["task"]), about["widths"]
        names = ("num_layers", "dropout", "norm", "drop_input")
        model = build_model(about["model"], *widths, **{name: about[name] for name in names})
        model.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise StoreError(
            f"{path} does not hold the weights of a node model ({error}). "
            "Give a run folder of graphkit train as it was written."
        ) from error
    if nodes.x.size(1) != widths[0]:
        raise DataError(
            f"The weights expect {widths[0]} features for each node, but the data has "
            f"{nodes.x.size(1)}. Give data with the features of the run."
        )
    model = model.to(nodes.x.device).eval()
    with torch.no_grad():
        return model(nodes.x, nodes.graph).float(), task


def _fits(y: Tensor, task: Task) -> bool:
    """Are these labels of the task that the weights were trained for?"""
    if task.kind == "classes":
        return not y.is_floating_point() and y.dim() == 1 and int(y.max()) < task.width
    return y.numel() == len(y) * task.width


def _columns(outputs: Tensor, task: Task, nodes: Nodes, seed: int) -> dict[str, Any]:
    """The table: number, part of the split, label, prediction, and a column for each output."""
    part = np.full(len(outputs), "", dtype=object)
    for name, rows in nodes.split(seed)[1].items():
        part[rows.cpu().numpy()] = name
    columns: dict[str, Any] = {"node": np.arange(len(outputs)), "part": part}
    values, name = outputs, "value"
    if task.kind == "classes":
        columns["label"] = nodes.y.cpu().numpy()
        columns["prediction"] = outputs.argmax(dim=1).cpu().numpy()
        values, name = outputs.softmax(dim=1), "probability"
    elif task.kind == "labels":
        values, name = outputs.sigmoid(), "probability"
    for number, column in enumerate(values.t().cpu().numpy()):
        columns[f"{name}{number}"] = column
    return columns


def _write(target: Path, columns: dict[str, Any]) -> None:
    import pandas as pd

    table = pd.DataFrame(columns)
    with atomic(target) as side:
        if target.suffix == ".csv":
            table.to_csv(side, index=False)
        elif target.suffix == ".parquet":
            table.to_parquet(side, index=False)
        else:
            values = [name for name in columns if name[-1].isdigit()]
            with side.open("wb") as file:
                np.save(file, table[values].to_numpy(np.float32))
