"""Saved weights applied to data: predictions as a table. (opt: pandas)"""

# annotations are evaluated here: the command line takes its types from them
import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from ..data import check_inputs, load, read_folder
from ..errors import ConfigError, DataError, StoreError
from ..metrics import LOWER_IS_BETTER
from ..nn import build_model
from ..store import atomic, load_tensors
from . import memory, plots, report
from .node import PARTS, Nodes, node_card, read_nodes
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

    Writes a table with a row for each node: its number, its part of the split, its class where it
    is known, the predicted one, and the probability of every class (or one column for each label
    or value). An ``.npy`` file holds the probabilities or values alone, float32 [N, C]. Data to
    predict needs neither labels nor a split.

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
    path = folder / f"weights-seed{number}.safetensors"
    outputs, task, names = _apply(path, nodes)
    labels = _labels(found, task, names)
    _write(target, _columns(outputs, task, nodes, number, labels, names))
    count = f"{len(outputs):,} predictions"
    lines = [f"{options['model']} of seed {number} on {name}: {count} in {target}"]
    told = {"run": str(folder), "seed": number, "data": name, "rows": len(outputs)}
    told |= {"file": str(target), "metric": task.metric, "test": None}
    told["test"] = _test_score(outputs, labels, nodes.split(number)[1]["test"], task)
    if told["test"] is not None:
        lines.append(f"test {task.metric}: {told['test']:.4f}")
    reader = {".csv": "pandas.read_csv", ".npy": "numpy.load"}.get(target.suffix)
    lines.append(f"next: {reader or 'pandas.read_parquet'}({str(target)!r})")
    console = Console(file=sys.stdout, quiet=quiet)
    for line in lines:
        plots.say(console, line)
    return told


def _seed(folder: Path, seed: int | None) -> int:
    """The seed asked for, or the one with the best validation score."""
    if not (folder / report.RESULT).exists():
        raise ConfigError(
            f"No seed of the run in {folder} is finished. Go on with it: "
            f"{report.resume_command(folder)}"
        )
    result = report.read_json(folder / report.RESULT)
    try:
        rows = {row["seed"]: row["val"] for row in result["rows"]}
        higher = result["metric"] not in LOWER_IS_BETTER
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / report.RESULT} is not the result of a run: {error!r}. Restore it."
        ) from error
    if seed is not None and seed not in rows:
        known = ", ".join(map(str, rows))
        raise ConfigError(f"seed is {seed}, but {folder} holds the seeds {known}.")
    if seed is not None:
        return seed
    return (max if higher else min)(rows, key=rows.__getitem__)


def _data(options: dict[str, Any], data: Any, root: str | None) -> tuple[Any, str]:
    """The data to predict, its labels and masks filled in where it has none; and its name."""
    given = None if data is None or isinstance(data, str) else data
    name: str = "custom" if given is not None else data or options["data"]
    if given is None and name == "custom":
        raise ConfigError(
            "The run was trained on a Data object, which only Python can give again: "
            "graphkit.recipes.predict(run, data=...)."
        )
    nonfinite = options["allow_nonfinite"]
    if given is not None:
        found: Any = copy.copy(check_inputs(given, allow_nonfinite=nonfinite))
    elif node_card(name) is None:
        # the run's own data has the split that was drawn for it
        same = str(Path(name).absolute()) == options["data"]
        found = read_folder(name, allow_nonfinite=nonfinite, labelled=same)
    else:
        same = name.lower() == options["data"]
        found = load(name, root or options["root"], split=options["split"] if same else None)
    size = found["x"].size(0)
    for key in (f"{part}_mask" for part in PARTS):
        if getattr(found, key, None) is None:
            found[key] = torch.zeros(size, dtype=torch.bool)
    if getattr(found, "y", None) is None:
        found.y = torch.full((size,), -1)
    return found, name


def _apply(path: Path, nodes: Nodes) -> tuple[Tensor, Task, list[str] | None]:
    """The outputs [N, width] of the saved weights, their task, and the names of its classes."""
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
        return model(nodes.x, nodes.graph).float(), task, about.get("class_names")


def _labels(found: Any, task: Task, names: list[str] | None) -> Tensor | None:
    """The labels in the numbering of the weights; None if they are of another task, or unknown."""
    y = found["y"]
    if task.kind != "classes":
        return y if y.is_floating_point() and y.numel() == len(y) * task.width else None
    if y.is_floating_point() or y.dim() != 1 or bool((y < 0).all()):
        return None
    own = getattr(found, "class_names", None)
    if own != names:
        # what is numbered by name in one place only, or by other names, cannot be compared
        if not own or not names or not set(own) <= set(names):
            return None
        place = torch.tensor([names.index(name) for name in own])
        y = torch.where(y < 0, -1, place[y.clamp(min=0)])
    return y if int(y.max()) < task.width else None


def _test_score(outputs: Tensor, y: Tensor | None, rows: Tensor, task: Task) -> float | None:
    """The score of the test rows, None where there is none to give."""
    if y is None or not len(rows):
        return None
    try:
        return task.score(outputs[rows], y.to(outputs.device)[rows])
    except DataError:
        return None


def _columns(
    outputs: Tensor,
    task: Task,
    nodes: Nodes,
    seed: int,
    labels: Tensor | None,
    names: list[str] | None,
) -> dict[str, Any]:
    """The table: number, part of the split, label, prediction, and a column for each output."""
    part = np.full(len(outputs), "", dtype=object)
    for name, rows in nodes.split(seed)[1].items():
        part[rows.cpu().numpy()] = name
    columns: dict[str, Any] = {"node": np.arange(len(outputs)), "part": part}
    values, name = outputs, "value"
    if task.kind == "classes":
        if labels is not None:
            columns["label"] = labels.cpu().numpy()
        columns["prediction"] = outputs.argmax(dim=1).cpu().numpy()
        if names is not None:
            columns["class"] = np.array(names, dtype=object)[columns["prediction"]]
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
