"""Models from shallow to deep on the same data: accuracy and over-smoothing. (opt: matplotlib)"""

# annotations are evaluated here: the command line takes its types from them
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ..data import load
from ..errors import ConfigError
from ..metrics import LOWER_IS_BETTER
from ..nn import own_options
from ..store import atomic, load_tensors
from ..structure import dirichlet_energy, mad_gap
from . import memory, plots, report
from .node import Nodes, node, node_card, read_nodes
from .options import read_model_options, settle
from .predictions import node_model
from .presets import PRESETS
from .reproduce import run_in


@dataclass(frozen=True)
class Point:
    """One model of one depth: the mean over seeds, with unbiased deviations.

    ``score`` is the test score in percent (errors in the unit of the labels) at the epoch chosen by
    validation. ``energy`` and ``gap`` are of its outputs: the Dirichlet energy relative to their
    size and MADGap, None where no node has a remote one. ``why`` says what kept a model from being
    trained.
    """

    model: str
    depth: int
    metric: str = ""
    score: float | None = None
    std: float | None = None
    val: float | None = None
    energy: float | None = None
    gap: float | None = None
    seconds: float | None = None
    run: str = ""
    why: str = ""


def sweep_depth(
    *,
    data: str = "digits",
    models: "str | Sequence[str]" = "gcn,gcnii,dagnn,sgc,resgcn+",
    depths: "str | Sequence[int]" = "2,4,8,16,32,64",
    seeds: str = "0-2",
    root: str | None = None,
    out: str | None = None,
    split: str | None = None,
    device: str = "auto",
    hidden: int | None = None,
    dropout: float | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    quiet: bool = False,
) -> list[Point]:
    """Train models from shallow to deep, and draw accuracy and over-smoothing against depth.

    The depth of models with an option hops (sgc, sign, appnp, dagnn, dgmlp) is that; of all others
    it is the number of layers. A model is trained with the settings of its preset for the data, or
    with those of the recipe node where there is none; options given here go before either. How much
    alike the outputs of neighbours are is measured by their Dirichlet energy, relative to their
    size, and how much more alike than remote nodes by MADGap: both are near 0 if over-smoothed. A
    model that is too deep to be trained may have outputs near 0, of any energy, instead.

    A sweep that is stopped goes on where it was when the same command is given again.

    Args:
        data: data set (see: graphkit data list), or path of your own
        models: models of the recipe node, such as gcn,dagnn
        depths: depths, such as 2,4,8
        seeds: seeds to run, such as 0-2; of S splits, seed i trains on split i mod S
        root: folder of downloaded data sets
        out: folder of the table, the picture and the runs (default: runs/sweep-depth-DATA)
        split: split of the data set, where it has several kinds
        device: auto, cpu, cuda or cuda:N
        hidden: width of the hidden layers
        dropout: share of the inputs of each layer dropped in training
        lr: learning rate
        weight_decay: L2 penalty
        epochs: most epochs to train
        patience: epochs of the rule that stops training early; 0 never
        quiet: print nothing

    Raises:
        ConfigError: a model, a depth or an option is unknown or out of range.
        DataError: the data set is unknown, not here, or not one of nodes.
        StoreError: a run with other options lies in the folder, or it cannot be written.
    """
    names, numbers = _models(models), _depths(depths)
    named, place = node_card(data), memory.find_device(device)
    title = Path(data).stem if named is None else named.name
    given: dict[str, Any] = dict(hidden=hidden, dropout=dropout, lr=lr, weight_decay=weight_decay)
    given |= dict(epochs=epochs, patience=patience, split=split)
    given = {name: value for name, value in given.items() if value is not None}
    given |= {"data": data, "seeds": seeds, "device": str(place)}
    settings = {model: {**_preset(model, title, split), **given, "model": model} for model in names}
    for options in settings.values():
        settle({**report.defaults(node), **options})
    report.parse_seeds(seeds)
    folder = Path(out or f"runs/sweep-depth-{title}")
    console = Console(quiet=quiet)
    found = load(data, root, split=split)
    points: list[Point] = []
    features = Point("features", 0)
    for model, options in settings.items():
        prepared = (options.get(name, False) for name in ("undirected", "row_normalize"))
        nodes = read_nodes(found, place, *prepared)
        if features.energy is None:
            energy, gap = _smoothness(nodes, [nodes.x])
            features = replace(features, energy=energy, gap=gap)
        for depth in numbers:
            told = f"{model}, depth {depth} ({len(points) + 1} of {len(names) * len(numbers)})"
            with console.status(told):
                point = _point(model, depth, options, root, folder, nodes)
            points.append(point)
            plots.say(console, f"{told}: {_line(point)}")
            # what is there is of use before the last one is
            _write(folder, title, features, points)
    plots.depth_curves(folder, [asdict(p) for p in points], asdict(features), title=title)
    _show(console, title, points)
    lines = [
        f"trained:     {len(names)} models of {len(numbers)} depths on {title}, seeds {seeds}",
        f"table:       {folder / 'depth.md'} and depth.json",
        f"picture:     {folder / 'depth.png'} and depth.svg; the runs lie beside them",
        f"try next:    graphkit predict {folder / _name(points[0].model, points[0].depth)}",
    ]
    plots.say(console, "\n".join(lines))
    return points


def _models(given: Any) -> list[str]:
    names = given.replace(" ", "").lower().split(",") if isinstance(given, str) else list(given)
    for name in names:
        # an unknown name is told with the nearest one
        own_options(str(name))
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"models is {given!r}, but different models are expected.")
    return names


def _depths(given: Any) -> list[int]:
    try:
        parts = given.split(",") if isinstance(given, str) else given
        numbers = [int(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    if not numbers or min(numbers) < 1 or len(set(numbers)) != len(numbers):
        raise ConfigError(
            f"depths is {given!r}, but different whole numbers from 1 on are expected, such as "
            "2,4,8."
        )
    return sorted(numbers)


def _preset(model: str, data: str, split: str | None) -> dict[str, Any]:
    """The settings that ``model`` has on ``data`` in a preset of node, empty without one."""
    for preset in PRESETS.values():
        values = preset.values
        fits = preset.recipe is node and (values["model"], values["data"]) == (model, data)
        if fits and values.get("split") == split:
            return dict(values)
    return {}


def _point(
    model: str,
    depth: int,
    options: Mapping[str, Any],
    root: str | None,
    folder: Path,
    nodes: Nodes,
) -> Point:
    values = dict(options)
    if "hops" in own_options(model):
        own = read_model_options(model, values.get("model_options", ""))
        values["model_options"] = {**own, "hops": depth}
    else:
        values["num_layers"] = depth
    path = folder / _name(model, depth)
    begin = partial(node, **values, root=root, out=str(path), quiet=True)
    try:
        record = run_in(path, node, values, begin, quiet=True)
    except ConfigError as error:
        return Point(model, depth, why=str(error))
    outputs = []
    for row in record["rows"]:
        weights, about = load_tensors(path / f"weights-seed{row['seed']}.safetensors")
        net = node_model(about).to(nodes.x.device).eval()
        net.load_state_dict(weights)
        with torch.no_grad():
            outputs.append(net(nodes.x, nodes.graph))
    scale = 1 if record["metric"] in LOWER_IS_BETTER else 100
    energy, gap = _smoothness(nodes, outputs)
    return Point(
        model,
        depth,
        record["metric"],
        scale * record["test_mean"],
        None if record["test_std"] is None else scale * record["test_std"],
        scale * record["val_mean"],
        energy,
        gap,
        record["seconds"],
        str(path),
    )


def _smoothness(nodes: Nodes, outputs: Sequence[Tensor]) -> tuple[float, float | None]:
    """The mean energy and gap of the outputs of some seeds."""
    energies = [dirichlet_energy(nodes.graph, out, relative=True) for out in outputs]
    gap = sum(mad_gap(nodes.graph, out) for out in outputs) / len(outputs)
    return sum(energies) / len(energies), None if math.isnan(gap) else gap


def _name(model: str, depth: int) -> str:
    return f"{model}-{depth}"


def _line(point: Point) -> str:
    if point.score is None:
        return point.why
    gap = "-" if point.gap is None else f"{point.gap:.3f}"
    return f"{_figure(point)}, energy {point.energy:.3g}, gap {gap}, {point.seconds:.0f} s"


def _figure(point: Point) -> str:
    if point.score is None:
        return "-"
    return f"{point.score:.2f}" + ("" if point.std is None else f" ± {point.std:.2f}")


def _tables(points: Sequence[Point]) -> dict[str, list[dict[str, str]]]:
    """For each measure a row for each model and a column for each depth, as text."""
    metric = next((p.metric for p in points if p.metric), "score")
    unit = "" if metric in LOWER_IS_BETTER else ", %"
    measures = {
        f"Test {metric}{unit}": _figure,
        "Dirichlet energy of the outputs, relative to their size": lambda p: _number(p.energy),
        "MADGap of the outputs": lambda p: _number(p.gap),
    }
    models = dict.fromkeys(p.model for p in points)
    return {
        title: [
            {"model": model, **{str(p.depth): text(p) for p in points if p.model == model}}
            for model in models
        ]
        for title, text in measures.items()
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _write(folder: Path, title: str, features: Point, points: Sequence[Point]) -> None:
    """Write ``depth.json`` and ``depth.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"data": title, "features": asdict(features), "points": [asdict(p) for p in points]}
    with atomic(folder / "depth.json") as side:
        side.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    text = [f"# {title}: accuracy and over-smoothing against depth"]
    depths = dict.fromkeys(str(p.depth) for p in points)
    for heading, rows in _tables(points).items():
        text += [
            "",
            heading,
            "",
            f"| model | {' | '.join(depths)} |",
            "|" + "---|" * (len(depths) + 1),
        ]
        for row in rows:
            cells = [row["model"], *(row.get(depth, "") for depth in depths)]
            text.append(f"| {' | '.join(cells)} |")
    known = f"{_number(features.energy)}, MADGap {_number(features.gap)}"
    text += ["", f"Of the features themselves: energy {known}."]
    text += [f"{p.model}, depth {p.depth}: {p.why}" for p in points if p.why]
    with atomic(folder / "depth.md") as side:
        side.write_text("\n".join(text) + "\n", encoding="utf-8")


def _show(console: Console, title: str, points: Sequence[Point]) -> None:
    if console.quiet:
        return
    for heading, rows in _tables(points).items():
        console.print(f"\n{title}: {heading}", style="bold", highlight=False)
        plots.show_rows(rows)
