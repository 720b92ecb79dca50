"""Where the energy of features lies in the spectrum of graphs, anomalies against others.
(opt: matplotlib, torch_geometric)
"""

# annotations are evaluated here: the command line takes its types from them
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ..data import load
from ..errors import ConfigError, StoreError
from ..graph import Graph
from ..structure import rayleigh_quotient
from . import plots
from .graph import Whole, graph_card, read_graphs
from .graphnet import one_hot

# eigenvalues of the normalised Laplacian lie in [0, 2]
POINTS = 401
# a dense eigendecomposition takes a second at this size, and grows with its third power
LARGEST = 2000
NAMES = {0: ("normal", plots.TRAIN), 1: ("anomalies", plots.VAL)}


def grid() -> Tensor:
    """The eigenvalues at which curves are drawn. No constant: torch reads its settings with the
    first tensor."""
    return torch.linspace(0, 2, POINTS, dtype=torch.float64)


@dataclass(frozen=True)
class Energies:
    """Of the two classes: curves [graphs, POINTS] of some, quotients [graphs] of all.

    ``skipped`` counts graphs that were drawn and are too large to be taken apart.
    """

    curves: Mapping[int, Tensor]
    quotients: Mapping[int, Tensor]
    skipped: int


def energy(
    data: str,
    *,
    graphs: int = 300,
    seed: int = 0,
    root: str | None = None,
    out: str = "energy.svg",
    quiet: bool = False,
) -> Energies:
    """Draw the spectral energy that features of graphs accumulate, anomalies against others.

    On the left, the share of the energy of the features at eigenvalues of the normalised Laplacian
    up to each value: the mean over graphs of a class, and the band of the middle half of them. The
    area above a curve is the Rayleigh quotient of the features, whose distribution over all graphs
    of the classes stands on the right. Graphs are taken apart by dense eigendecompositions, which
    nothing but this picture needs: some graphs of each class are drawn, and those of more than
    2,000 nodes left out.

    Args:
        data: data set of graphs of two classes; the rarer one is the anomaly
        graphs: graphs of each class to take apart, at most
        seed: which ones
        root: folder of downloaded data sets
        out: svg, png or pdf to write
        quiet: print nothing

    Raises:
        ConfigError: graphs is below 1.
        DataError: the data set is unknown, not here, or not one of graphs of two classes.
        StoreError: the picture cannot be written.
    """
    if graphs < 1:
        raise ConfigError(f"graphs is {graphs}, but at least 1 is expected.")
    named = graph_card(data)
    whole, _ = read_graphs(load(named.name, root), None, anomaly=True)
    console = Console(quiet=quiet)
    found = energies_of(whole, graphs, seed, console)
    path = Path(out)
    try:
        draw(path, found, title=named.name)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be written: {error}.") from error
    rows = [
        {
            "graphs": name,
            "all": len(found.quotients[label]),
            "taken apart": len(found.curves[label]),
            "mean quotient": found.quotients[label].mean().item(),
            "std": found.quotients[label].std().item(),
        }
        for label, (name, _) in NAMES.items()
    ]
    if not quiet:
        plots.show_rows(rows)
    if found.skipped:
        plots.say(console, f"{found.skipped} graphs of more than {LARGEST:,} nodes were left out.")
    plots.say(console, f"Plot: {out}")
    plots.say(console, f"Next: graphkit train graph --data {named.name} --model rqgnn --anomaly")
    return found


def energies_of(whole: Whole, most: int, seed: int, console: Console) -> Energies:
    """Curves of at most ``most`` graphs of each class, and the quotients of all."""
    generator = torch.Generator().manual_seed(seed)
    curves: dict[int, Tensor] = {}
    quotients: dict[int, Tensor] = {}
    skipped = 0
    sizes = whole.graphs.node_ptr.diff()
    for label, (name, _) in NAMES.items():
        every = (whole.y == label).nonzero().view(-1)
        quotients[label] = torch.cat(
            [_quotients(*_batch(whole, part)) for part in every.split(1024)]
        )
        drawn = every[torch.randperm(len(every), generator=generator)][:most]
        small = drawn[sizes[drawn] <= LARGEST]
        skipped += len(drawn) - len(small)
        lines: list[Tensor] = []
        with console.status(f"{name}: graph 0 of {len(small)}") as status:
            for x, graph, _ in (_batch(whole, number.view(1)) for number in small):
                lines.append(accumulated_energy(x, graph, grid()))
                status.update(f"{name}: graph {len(lines)} of {len(small)}")
        curves[label] = torch.stack(lines) if lines else torch.empty(0, POINTS)
    return Energies(curves, quotients, skipped)


def accumulated_energy(x: Tensor, graph: Graph, grid: Tensor) -> Tensor:
    r"""The share of the energy of ``x [N, F]`` at eigenvalues up to each of ``grid [T]``: [T].

    .. math::
        \eta(t) = \sum_{\lambda_k \le t} \|u_k^\top X\|^2 / \|X\|_F^2

    with the eigenvectors of the normalised Laplacian of :math:`(A + A^\top) / 2`, whose entry for a
    node without edges is 0. All columns together; 1 throughout if ``x`` is 0.
    """
    a = torch.zeros(graph.num_dst, graph.num_src, dtype=torch.float64)
    src, dst = graph.edge_index()
    a.index_put_((dst, src), torch.ones(len(src), dtype=torch.float64), accumulate=True)
    a = ((a + a.t()) / 2).fill_diagonal_(0)
    degree = a.sum(dim=1)
    scale = torch.where(degree > 0, degree, torch.inf).rsqrt()
    laplacian = torch.diag((degree > 0).double()) - scale[:, None] * a * scale
    values, vectors = torch.linalg.eigh(laplacian)
    held = (vectors.t() @ x.double()).square().sum(dim=1)
    total = held.sum()
    if total == 0:
        return torch.ones_like(grid)
    # eigenvalues that are equal but for rounding are one step
    at = torch.searchsorted((values - 1e-9).contiguous(), grid, right=True)
    return torch.cat([held.new_zeros(1), held.cumsum(dim=0)])[at] / total


def _batch(whole: Whole, graph_id: Tensor) -> tuple[Tensor, Graph, Tensor]:
    batch: Any = whole.graphs.batch(graph_id)
    x = one_hot(batch.x.reshape(len(batch.x), -1), whole.node)
    return x, Graph.from_edge_index(batch.edge_index, len(x)), batch.ptr


def _quotients(x: Tensor, graph: Graph, ptr: Tensor) -> Tensor:
    """The Rayleigh quotient of all columns of each graph together; 0 where they are 0."""
    x = x.double()
    form = rayleigh_quotient(x, graph, mode="energy", ptr=ptr).sum(dim=1)
    sizes = torch.stack([part.square().sum() for part in x.split(ptr.diff().tolist())])
    return torch.where(sizes > 0, form / sizes.clamp(min=1e-300), 0)


def draw(path: Path, found: Energies, *, title: str) -> None:
    """Write the picture to ``path`` (svg, png or pdf)."""
    # the object-oriented interface: pyplot would keep global state and choose a window system
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.4), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    every = torch.cat(list(found.quotients.values()))
    edges = torch.linspace(0, max(float(every.max()), 1e-9), 41, dtype=torch.float64)
    for label, curves, values, (name, color) in _classes(found):
        x = grid().tolist()
        left.plot(x, curves.mean(dim=0).tolist(), color=color, linewidth=1.6, label=name)
        low, high = curves.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64), dim=0)
        left.fill_between(x, low.tolist(), high.tolist(), color=color, alpha=0.18, linewidth=0)
        share = torch.histogram(values.clamp(0, float(edges[-1])), edges).hist / len(values)
        look: dict[str, Any] = dict(color=color, alpha=0.5, linewidth=0, zorder=2 + label)
        centres, width = (edges[1:] + edges[:-1]) / 2, float(edges[1] - edges[0])
        text = f"{name}, mean {values.mean():.3f}"
        right.bar(centres.tolist(), share.tolist(), width, label=text, **look)
        right.axvline(float(values.mean()), color=color, linewidth=1.2, linestyle="--")
    left.set(title="Energy accumulated up to an eigenvalue", xlabel="eigenvalue", xlim=(0, 2))
    left.set(ylabel="share of the energy of the features", ylim=(0, 1.02))
    right.set(
        title="Rayleigh quotient, the area above", xlabel="quotient", ylabel="share of graphs"
    )
    # room for the legend
    right.set_ylim(0, 1.25 * right.get_ylim()[1])
    for panel in (left, right):
        panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        panel.grid(color="#e4e4e4", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    count = ", ".join(f"{len(c)} {n}" for _, c, _, (n, _) in _classes(found))
    figure.suptitle(f"{title}: {count} on the left", x=0.01, ha="left", fontweight="bold")
    # a plot of the same figures is the same file
    with matplotlib.rc_context({"svg.hashsalt": "graphkit"}):
        is_svg = path.suffix.lower() == ".svg"
        figure.savefig(path, dpi=160, metadata={"Date": None} if is_svg else None)


def _classes(found: Energies) -> Iterator[tuple[int, Tensor, Tensor, tuple[str, str]]]:
    for label, about in NAMES.items():
        if len(found.curves[label]):
            yield label, found.curves[label], found.quotients[label], about
