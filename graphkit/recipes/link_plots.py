"""A picture of a run of ``link``: the scores of pairs, and hits at any K. (opt: matplotlib)"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .plots import MARK, TRAIN, VAL

# bars of the histograms, and points of the curve
BARS, POINTS = 60, 64


def first_scores(
    folder: Path, scores: Mapping[int, tuple[Tensor, Tensor]], *, title: str, metric: str
) -> None:
    """:func:`score_figure` of the first seed of ``scores``; nothing where there is none."""
    for seed, (positive, negative) in scores.items():
        title = f"{title}, test links of seed {seed}"
        score_figure(folder, positive, negative, title=title, metric=metric)
        return


def hits_curve(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Hits@K of ``positive [n]`` among ``negative [m]`` or [n, m], for K from 1 to m: K and hits.

    The K are at most so many as can be told apart in a picture, evenly in their logarithm. Of
    negatives that all share, Hits@K is the share of links that score above the K-th best of them
    (:func:`graphkit.metrics.hits_at`); of negatives of its own, a link is a hit if fewer than K of
    these score as high as it.
    """
    most = negative.size(-1)
    steps = torch.logspace(0, torch.tensor(float(most)).log10().item(), POINTS)
    k = steps.round().long().clamp(1, most).unique()
    if negative.dim() == 1:
        bars = negative.sort(descending=True).values[k - 1]
        above = (positive.view(-1, 1) > bars).double().mean(dim=0)
        return k, above
    rank = (negative >= positive.view(-1, 1)).sum(dim=1)
    return k, (rank.view(-1, 1) < k).double().mean(dim=0)


def score_figure(
    folder: Path, positive: Tensor, negative: Tensor, *, title: str, metric: str
) -> None:
    """Write ``scores.svg`` and ``scores.png``: how links and no links score, and Hits@K over K.

    Args:
        folder: where the two files go.
        positive: scores [n] of links.
        negative: scores [m] or [n, K] of pairs without one.
        title: the heading.
        metric: what the run is measured by; the K of hits@K is marked.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.0), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    every = torch.cat([positive, negative.flatten()]).double()
    low, high = every.min().item(), every.max().item()
    # equal scores have a bar too
    edges = torch.linspace(low, high if high > low else low + 1, BARS + 1, dtype=torch.float64)
    centres, width = ((edges[1:] + edges[:-1]) / 2).tolist(), (edges[1] - edges[0]).item()
    for name, values, color in (("no links", negative, VAL), ("links", positive, TRAIN)):
        place = torch.bucketize(values.flatten().double(), edges[1:-1], right=True)
        share = torch.bincount(place, minlength=BARS).double() / max(1, len(place))
        left.bar(centres, share.tolist(), width, color=color, alpha=0.6, label=name, linewidth=0)
    left.set(title="Scores", xlabel="score", ylabel="share of the pairs")
    k, hits = hits_curve(positive, negative)
    right.plot(k.tolist(), hits.tolist(), color=TRAIN, linewidth=1.6)
    if metric.startswith("hits@"):
        right.axvline(int(metric[5:]), color=MARK, linewidth=1, linestyle=":", label=metric)
        right.legend(frameon=False)
    right.set(title="Hits@K", xlabel="K", xscale="log", ylim=(0, 1.02))
    for panel in (left, right):
        panel.grid(color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    left.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    right.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    left.legend(frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.savefig(folder / "scores.png", dpi=160)
    figure.savefig(folder / "scores.svg", metadata={"Date": None})
