"""Saved weights applied to data: predictions as a table. (opt: pandas)"""

# annotations are evaluated here: the command line takes its types from them
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console

from ..checkpoint import load_state
from ..data import GraphSet, is_path
from ..data.tables import read_rows
from ..errors import ConfigError, StoreError
from ..metrics import LOWER_IS_BETTER
from ..store import atomic
from . import memory, plots, report, student
from .direction import direction
from .distill import distill
from .graph import graph
from .hyper import hyper
from .link import link
from .node import node
from .node_mini import node_mini
from .options import builders, locate, settle
from .pairs import check_format
from .predictions import (
    Predicted,
    Source,
    of_directions,
    of_graphs,
    of_links,
    of_nodes,
    of_students,
    read_outputs,
)

if TYPE_CHECKING:
    from torch_geometric.data import Data

FORMATS = (".parquet", ".csv", ".npy")
# data that are named and not read
_UNREAD = {"given": None, "same": True, "root": None}
READERS = {
    "node": (node, of_nodes),
    "node_mini": (node_mini, of_nodes),
    "hyper": (hyper, of_nodes),
    "link": (link, of_links),
    "direction": (direction, of_directions),
    "graph": (graph, of_graphs),
    "distill": (distill, of_students),
}


def predict(
    run: str,
    *,
    data: "str | Data | GraphSet | Sequence[Data] | None" = None,
    root: str | None = None,
    seed: int | None = None,
    pairs: str | None = None,
    top: int | None = None,
    rows: str | None = None,
    batch_size: int = 4096,
    out: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Predictions of a run's finished seeds for every row of its data, or of other data.

    Of a run of node, node_mini (on nodes of one type), hyper, distill or graph, writes a table with
    a row for each node or graph: its number, its part of the split, its label where it is known,
    the predicted class, and the probability of every class (or one column for each label or value).
    An .npy file holds the probabilities or values alone, float32 [N, C]. Data to predict needs
    neither labels nor a split.

    Of a run of link, a row for each pair of nodes held out for validation or test, or for each of
    your own: source, target, part, label (1 a link, 0 none) and score, the probability of a link
    (of cn, aa, ra, katz and ppr the score itself); an .npy file holds the scores alone, float32
    [N]. Messages are sent along the training edges, as in the run; in other data that comes without
    links to hold out, along all edges for your own pairs. With top K instead, a row for each of the
    K best new links from each node, no edges of the data and no self-pairs: source, target, rank
    from 1, score.

    Of a run of direction, the same rows, of the division of that seed, with the columns of a run of
    node: label, prediction, class and a probability of each class. The label of pairs of your own
    is what all edges say; that two nodes are not joined is known of those alone that the seed drew.

    Where a split was drawn and not brought by the data, part and test score are given for the data
    of the run as it was then, wherever it lies now; for any other data a line says why they are
    left out, because what was trained on could count as held out.

    With rows, of a folder of graphkit export or of a run whose model is an MLP, a row for each row
    of features in a file, with no graph: its number, its id where the file has a column id, and the
    columns of a run of node from the predicted class on. The columns of a file are read as those of
    nodes in data of your own: labels and parts of a split in it are passed over.

    Args:
        run: run folder that graphkit train named, or folder that graphkit export wrote
        data: data set to predict, or path of your own; in Python also a PyG Data, or a GraphSet or
            list of Data for whole graphs (default: that of the run)
        root: folder of downloaded data sets
        seed: whose weights to apply (default: the seed with the best validation score)
        pairs: for runs of link and direction, file of pairs: .csv or .parquet with columns source
            and target (or called as in the edges of the data) that name nodes as the data does, or
            .npy of node numbers [n, 2]
        top: for runs of link, how many of the best new links to give from each node
        rows: file of features alone, .npy [N, F], .csv or .parquet
        batch_size: how many of the rows are served at a time
        out: file to write, .parquet, .csv or .npy (default: predictions.parquet in the run folder)
        device: auto, cpu, cuda or cuda:N
        quiet: print nothing

    Raises:
        ConfigError: the run has no such seed, or an option does not fit it.
        StoreError: the run, its weights or the place to write to are absent, damaged or foreign.
        DataError: the data has other features than the weights expect, or pairs of other nodes.
    """
    folder = Path(run)
    if rows is not None or student.is_export(folder):
        beside = {"data": data, "root": root, "pairs": pairs, "top": top}
        _check_rows(folder, rows, seed, beside)
        target = _target(folder, out, rows, "rows")
        found, told = _of_rows(folder, Path(str(rows)), seed, batch_size, device, quiet)
        return _tell(folder, target, found, told, quiet)
    config = report.read_config(folder, own_data=True)
    name = config["recipe"]
    if name not in READERS:
        raise ConfigError(f"{folder} is a run of {name!r}, but predict knows {', '.join(READERS)}.")
    if pairs is not None and name not in ("link", "direction"):
        raise ConfigError(
            f"pairs is for runs of link and direction, but {folder} is a run of {name!r}."
        )
    if top is not None:
        _check_top(folder, name, top, pairs)
    target = _target(folder, out, pairs, "pairs")
    source, unfinished = source_of(folder, config, data, root, seed, device, pairs, top)
    with torch.no_grad(), memory.threads(_threads(folder) * memory.WORK_PER_THREAD):
        found = READERS[name][1](source)
    told = {"seed": source.seed, "data": source.name, "model": source.options["model"]}
    told["notes"] = [note for note in (unfinished, found.note) if note is not None]
    return _tell(folder, target, found, told, quiet)


def _target(folder: Path, out: str | None, read: str | None, what: str) -> Path:
    """The file to write, which is not the one that is ``read`` for ``what`` it holds."""
    target = Path(out) if out is not None else folder / "predictions.parquet"
    if target.suffix not in FORMATS:
        raise ConfigError(
            f"out is {str(target)!r}, but a file ending in one of {', '.join(FORMATS)} is expected."
        )
    if read is not None and target.resolve() == Path(read).resolve():
        raise ConfigError(f"out is {str(target)!r}, which holds the {what}. Give another file.")
    return target


def _tell(
    folder: Path, target: Path, found: Predicted, about: Mapping[str, Any], quiet: bool
) -> dict[str, Any]:
    """Write what was ``found``; what is told of it, which ``about`` begins."""
    _write(target, found)
    told = {"run": str(folder), "seed": about["seed"], "data": about["data"]}
    told |= {"rows": len(found.values), "file": str(target), "metric": found.metric}
    told |= {"test": found.test, "notes": about["notes"]}
    console = Console(file=sys.stdout, quiet=quiet)
    for line in _lines(told, about["model"], target.suffix):
        plots.say(console, line)
    return told


def _check_rows(
    folder: Path, rows: str | None, seed: int | None, beside: Mapping[str, Any]
) -> None:
    """Raise :class:`ConfigError` unless the options are those of rows alone."""
    if rows is None:
        raise ConfigError(
            f"{folder} is an exported model, which predicts rows of features. Name a file of them "
            "with rows."
        )
    if Path(rows).suffix not in FORMATS:
        raise ConfigError(
            f"rows is {rows!r}, but a file ending in one of {', '.join(FORMATS)} is expected."
        )
    for name, value in beside.items():
        if value is not None:
            raise ConfigError(f"rows need no graph and no data set, so leave {name} out.")
    if seed is not None and student.is_export(folder):
        raise ConfigError(f"{folder} is an exported model, of one seed. Leave seed out.")


def _of_rows(
    folder: Path, rows: Path, seed: int | None, batch_size: int, device: str, quiet: bool
) -> tuple[Predicted, dict[str, Any]]:
    """Predictions for the rows of a file, and what is told of them."""
    unfinished = None
    if student.is_export(folder):
        this, about = student.of_export(folder)
        seed = about["source"]["seed"]
    else:
        config = report.read_config(folder, own_data=True)
        student.check_recipe(folder, config["recipe"])
        source, unfinished = source_of(folder, config, None, None, seed, device, with_data=False)
        this, seed = student.of_run(source), source.seed
    x, ids = read_rows(rows)
    out = student.serve(this, x, batch_size, memory.find_device(device), quiet)
    columns: dict[str, Any] = {"row": np.arange(len(out))} | ({} if ids is None else {"id": ids})
    more, values = read_outputs(out, this.task, this.class_names)
    told = {"seed": seed, "data": str(rows), "model": this.about["model"]}
    told["notes"] = [] if unfinished is None else [unfinished]
    return Predicted(columns | more, values, this.task.metric, None), told


def source_of(
    folder: Path,
    config: Mapping[str, Any],
    data: Any,
    root: str | None,
    seed: int | None,
    device: str,
    pairs: str | None = None,
    top: int | None = None,
    with_data: bool = True,
) -> tuple[Source, str | None]:
    """What the weights of the run in ``folder`` are to be applied to, and what is not finished.

    ``with_data=False`` is for who needs the weights alone: of a run on a Data object too.
    """
    recipe, _ = READERS[config["recipe"]]
    options = _options(folder, recipe, {**report.defaults(recipe), **config["options"]})
    chosen, unfinished = _seed(folder, seed, options)
    source = Source(
        folder=folder,
        recipe=config["recipe"],
        options=options,
        data_digest=config.get("data_digest"),
        seed=chosen,
        device=memory.find_device(device),
        pairs=None if pairs is None else check_format(Path(pairs)),
        top=top,
        **(_named(options, data, root) if with_data else _UNREAD | {"name": options["data"]}),
    )
    return source, unfinished


def _check_top(folder: Path, recipe: str, top: Any, pairs: str | None) -> None:
    if recipe != "link":
        raise ConfigError(f"top is for runs of link, but {folder} is a run of {recipe!r}.")
    if pairs is not None:
        raise ConfigError("top and pairs ask for different pairs. Give one of them.")
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise ConfigError(f"top is {top!r}, but a whole number, at least 1, is expected.")


def _options(folder: Path, recipe: Any, options: dict[str, Any]) -> dict[str, Any]:
    """``options`` of the run; :class:`StoreError` if no run was written with these."""
    try:
        for name in ("data", "metric"):
            if not isinstance(options[name], str):
                raise ConfigError(f"{name} is {options[name]!r}, but text is expected.")
        return settle(options, builders(recipe.__name__), recipe.__name__)
    except ConfigError as error:
        raise StoreError(f"{folder / 'config.json'} is damaged: {error} Restore it.") from None


def _seed(folder: Path, seed: int | None, options: Mapping[str, Any]) -> tuple[int, str | None]:
    """The seed asked for, or that of the best validation score; and what is not finished.

    A run that was killed has no result yet, but its checkpoint tells of the seeds it finished.
    """
    path, state = folder / report.CHECKPOINT, folder / report.RESULT
    finished = not path.is_file()
    rows, metric = _result(state) if finished else _kept(path, options)
    go_on = f"Go on with it: {report.resume_command(folder)}"
    if not rows:
        raise ConfigError(f"No seed of the run in {folder} is finished. {go_on}")
    known = ", ".join(map(str, rows))
    if seed is not None and seed not in rows:
        raise ConfigError(f"seed is {seed}, but {folder} holds the seeds {known}.")
    best = (min if metric in LOWER_IS_BETTER else max)(rows, key=rows.__getitem__)
    note = None if finished else f"the run is not finished, only its seeds {known}. {go_on}"
    return best if seed is None else seed, note


def _kept(path: Path, options: Mapping[str, Any]) -> tuple[dict[int, float], str]:
    """The validation score of each finished seed in a checkpoint, and the metric."""
    try:
        rows = [report.Row(*values) for values in load_state(path)["rows"]]
        return {int(row.seed): float(row.val) for row in rows}, options["metric"]
    except (LookupError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} is not the checkpoint of a run: {error!r}. Restore it."
        ) from error


def _result(path: Path) -> tuple[dict[int, float], str]:
    """The validation score of each seed in a result, and the metric; none where there is none."""
    if not path.exists():
        return {}, ""
    result = report.read_json(path)
    try:
        rows = {int(row["seed"]): float(row["val"]) for row in result["rows"]}
        if not rows or not isinstance(result["metric"], str):
            raise ValueError(f"{len(rows)} seeds, metric {result['metric']!r}")
    except (LookupError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not the result of a run: {error!r}. Restore it.") from error
    return rows, result["metric"]


def _named(options: dict[str, Any], data: Any, root: str | None) -> dict[str, Any]:
    """What is to be predicted, as :class:`Source` holds it."""
    given = None if data is None or isinstance(data, str) else data
    if given is not None:
        return {"given": given, "name": "custom", "same": False, "root": None}
    if data is None and options["data"] == "custom":
        raise ConfigError(
            "The run was trained on a Data object, which only Python can give again: "
            "graphkit.recipes.predict(run, data=...)."
        )
    name, kept = options["data"] if data is None else data, options["data"]
    found = locate(name, None, None)["data"]
    same = found == kept
    if is_path(name) and Path(kept).is_absolute():
        same = Path(found).resolve() == Path(kept).resolve()
    return {"given": None, "name": name, "same": same, "root": root or options["root"]}


def _threads(folder: Path) -> int:
    """How many threads the run had: with another number sums may round otherwise."""
    path = folder / "environment.json"
    kept = report.read_json(path) if path.exists() else None
    threads = kept.get("threads") if isinstance(kept, dict) else None
    return threads if isinstance(threads, int) else torch.get_num_threads()


def _lines(told: dict[str, Any], model: str, suffix: str) -> list[str]:
    """What was written where, how good it is, and how to read it."""
    count = f"{told['rows']:,} predictions"
    lines = [f"{model} of seed {told['seed']} on {told['data']}: {count} in {told['file']}"]
    if told["test"] is not None:
        lines.append(f"test {told['metric']}: {told['test']:.4f}")
    lines += told["notes"]
    call = {".csv": "pandas.read_csv", ".npy": "numpy.load"}.get(suffix, "pandas.read_parquet")
    return [*lines, f"next: {call}({told['file']!r})"]


def _write(target: Path, found: Predicted) -> None:
    import pandas as pd

    with atomic(target) as side:
        if target.suffix == ".csv":
            pd.DataFrame(found.columns).to_csv(side, index=False)
        elif target.suffix == ".parquet":
            pd.DataFrame(found.columns).to_parquet(side, index=False)
        else:
            with side.open("wb") as file:
                np.save(file, found.values)
