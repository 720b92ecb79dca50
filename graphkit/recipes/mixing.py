"""How the layers of a run mix their channels, for each class. (opt: matplotlib)"""

# annotations are evaluated here: the command line takes its types from them
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from torch import Tensor

from ..errors import ConfigError, DataError, StoreError
from . import memory, plots, report
from .predict import source_of
from .predictions import applied

if TYPE_CHECKING:
    from torch_geometric.data import Data

CHANNELS = ("low-pass", "high-pass", "identity", "structure")
COLORS = ("#4477aa", "#cc6633", "#228833", "#aa3377")


def mixing(
    run: str,
    *,
    data: "str | Data | None" = None,
    root: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Draw the mean mixing weights of a finished run, for each layer and class.

    The weights of one seed are applied to the data, and the means are over all nodes with a label,
    whatever their part of the split. Writes mixing.png and mixing.svg into the run folder and
    prints the means. Classes that no node has are left out.

    Args:
        run: run folder that graphkit train named, of a model that mixes channels
        data: data set to look at, or path of your own; in Python also a PyG Data (default: that of
            the run)
        root: folder of downloaded data sets
        seed: whose weights to apply (default: the seed with the best validation score)
        device: auto, cpu, cuda or cuda:N
        quiet: print nothing

    Raises:
        ConfigError: the run's model mixes no channels, or the run has no such seed.
        StoreError: the run or its weights are absent, damaged or foreign, or the picture cannot be
            written.
        DataError: the data of the run are not here, or have no classes.
    """
    folder = Path(run)
    config = report.read_config(folder, own_data=True)
    model_name = config["options"].get("model")
    if config["recipe"] not in ("node", "node_mini"):
        raise ConfigError(
            f"{folder} is a run of {config['recipe']!r}, but only models of nodes mix channels. "
            "Give a run of graphkit train node --model acm-gcn."
        )
    source, unfinished = source_of(folder, config, data, root, seed, device)
    with torch.no_grad(), memory.threads(torch.get_num_threads() * memory.WORK_PER_THREAD):
        this = applied(source)
        if "return_weights" not in inspect.signature(this.model.forward).parameters:
            raise ConfigError(
                f"{folder} is a run of the model {model_name!r}, which mixes no channels. Give a "
                "run of one that does, such as acm-gcn."
            )
        _, weights = this.model(this.nodes.x, this.nodes.graph, return_weights=True)
    y = this.labels()
    classes = [] if y is None else [c for c in y.unique().tolist() if c >= 0]
    if y is None or not classes or this.about["task"]["kind"] != "classes":
        raise DataError(
            f"{source.name} has no classes of nodes to take means over. Give a run on data whose "
            "nodes have a class each."
        )
    known = this.about.get("class_names") or [str(c) for c in range(this.about["widths"][2])]
    names = [known[c] for c in classes]
    means = [by_class(alpha.double().cpu(), y.cpu(), classes) for alpha in weights]
    title = f"{model_name} on {Path(source.name).stem}, seed {source.seed}"
    files = draw(folder, means, names, title)
    told = {"run": str(folder), "seed": source.seed, "files": files, "classes": list(names)}
    told["channels"] = list(CHANNELS[: means[0][0].size(1)])
    told["means"] = [mean.tolist() for mean, _, _ in means]
    told["notes"] = [] if unfinished is None else [unfinished]
    if not quiet:
        _tell(told)
    return told


Means = tuple[Tensor, Tensor, Tensor]
"""Mean ``[C, K]``, deviation ``[C, K]`` and number ``[C]`` of the nodes of each class."""


def by_class(weights: Tensor, y: Tensor, classes: Sequence[int]) -> Means:
    """The weights ``[N, K]`` of nodes with the labels ``y``, by class; each has a node at least."""
    rows = [weights[y == c] for c in classes]
    means = torch.stack([of.mean(0) for of in rows])
    spreads = torch.stack([of.std(0, correction=0) for of in rows])
    return means, spreads, torch.tensor([len(of) for of in rows])


def draw(folder: Path, means: Sequence[Means], names: Sequence[str], title: str) -> list[str]:
    """Write ``mixing.png`` and ``mixing.svg``: a panel for each layer, bars for each class."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes, channels = means[0][0].shape
    width = min(3.0 + 0.62 * classes * channels / 3, 16.0)
    figure = Figure(figsize=(max(width, 6.4), 0.9 + 2.5 * len(means)), facecolor="white")
    figure.set_layout_engine("constrained", h_pad=0.1)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(means), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    step = 0.8 / channels
    for number, (panel, (mean, spread, _)) in enumerate(zip(panels, means, strict=True), 1):
        panel.axhline(
            1 / channels, color=plots.MARK, linewidth=0.9, linestyle=":", zorder=1, label="equal"
        )
        for k in range(channels):
            at = [c + (k - (channels - 1) / 2) * step for c in range(classes)]
            panel.bar(
                at,
                mean[:, k].tolist(),
                step * 0.92,
                yerr=spread[:, k].tolist(),
                color=COLORS[k],
                label=CHANNELS[k],
                error_kw={"elinewidth": 0.9, "ecolor": plots.MARK},
                zorder=2,
            )
        panel.set_title(f"Layer {number}", loc="left", fontsize=10)
        panel.set_ylabel("mean weight ± std")
        panel.set_xlim(-0.6, classes - 0.4)
        panel.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    counts = means[0][2].tolist()
    if max(map(len, names)) > 12 or classes > 10:
        # aslant there is room for one line each
        slant: dict[str, Any] = dict(rotation=60, ha="right", rotation_mode="anchor")
        panels[-1].set_xticks(range(classes), list(names), fontsize=9, **slant)
    else:
        labels = [
            f"{name}\n{count:,} node{'s' if count != 1 else ''}"
            for name, count in zip(names, counts, strict=True)
        ]
        panels[-1].set_xticks(range(classes), labels, fontsize=9)
    if not any(mark.isalpha() for name in names for mark in name):
        panels[-1].set_xlabel("class")
    panels[0].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    heading = f"Mixing weights: {title}"
    figure.suptitle(heading, x=0.01, ha="left", fontweight="bold")
    files = [str(folder / f"mixing.{kind}") for kind in ("png", "svg")]
    try:
        figure.savefig(files[0], dpi=160)
        # else the identifiers in the file are drawn anew each time
        with matplotlib.rc_context({"svg.hashsalt": "graphkit"}):
            figure.savefig(files[1], metadata={"Date": None})
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written to: {error}. Copy the run to where it can."
        ) from error
    return files


def _tell(told: dict[str, Any]) -> None:
    console = Console(file=sys.stdout)
    plots.show_rows(
        [
            {"layer": layer, "class": name}
            | {channel: float(value) for channel, value in zip(told["channels"], row, strict=True)}
            for layer, means in enumerate(told["means"], 1)
            for name, row in zip(told["classes"], means, strict=True)
        ]
    )
    lines = [f"mean mixing weights of seed {told['seed']}: {', '.join(told['files'])}"]
    for line in [*lines, *told["notes"]]:
        plots.say(console, line)
