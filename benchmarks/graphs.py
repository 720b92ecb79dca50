"""The graphs of the entries: drawn from a fixed seed, or read from $GRAPHKIT_DATA."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import isqrt, log2
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphkit.errors import BackendError, GraphkitError

if TYPE_CHECKING:
    from torch_geometric.data.hypergraph_data import HyperGraphData

    from graphkit.data import GraphSet

# nodes and edges; arxiv and products have those of the data sets of Open Graph Benchmark
SIZES = {
    "arxiv": (169_343, 1_166_243),
    "products": (2_449_029, 61_859_140),
    "rmat": (2**20, 2**24),
}
REAL = ("coauthor-physics", "amazon-photo", "ego-facebook")
HYPERGRAPHS = ("walmart-trips", "cocitation-cora")
# nodes and hyperedges of the hypergraph that is drawn
HYPER = (20_000, 15_000)
# small ones, for what is the same in every call, and for links
SMALL = ("chameleon", "cora", "ogbl-ddi")

# both directions of the edges; the road-like grid and R-MAT as they are drawn
LARGE = {
    "arxiv": (169_343, 2_332_486),
    "products": (2_449_029, 123_718_280),
    "reddit": (232_965, 114_615_892),
    "proteins": (132_534, 79_122_504),
    "road": (2**22, 2**24),
    "rmat": (2**20, 2**24),
}

# the powers by which the expected out- and in-degrees fall with the rank
_POWERS = {"arxiv": (0.35, 2 / 3), "products": (1 / 1.8, 1 / 1.8)}
# of R-MAT's 0.57, 0.19, 0.19, 0.05: the upper half, and the left one given the lower, the upper
_UPPER = np.float32(0.57 + 0.19)
_LEFT = np.float32(0.19 / (0.19 + 0.05)), np.float32(0.57 / (0.57 + 0.19))

Ids = NDArray[np.int64]
Draw = Callable[[int], tuple[Ids, Ids]]


def graph(name: str) -> tuple[Tensor, int]:
    """``edge_index [2, E]``, int64 and in no order, and the number of nodes.

    ``arxiv`` and ``products`` are Chung-Lu's: different edges without loops, ends drawn in
    proportion to weights that fall as powers of the rank. Arxiv's in-degrees (citations) have
    exponent 2.5 and reach about 9,000, its out-degrees (references) fall slowly, up to about 400;
    both degrees of products have exponent 2.8. ``rmat`` is R-MAT's with probabilities 0.57, 0.19,
    0.19, 0.05. In all three nodes have no locality.

    Raises:
        BackendError: the files of a real graph are not on this machine.
    """
    if name in (*REAL, *SMALL):
        return _read(name)
    return _drawn(name, *SIZES[name]), SIZES[name][0]


def hypergraph(name: str) -> tuple[Tensor, int, int]:
    """PyG's ``hyperedge_index [2, nnz]`` in no order, and how many nodes and hyperedges.

    A data set's, or ``drawn``: any nodes, 1 to 13 in each hyperedge, :data:`HYPER` of both.

    Raises:
        BackendError: the files of a real hypergraph are not on this machine.
    """
    generator = torch.Generator().manual_seed(0)
    if name == "drawn":
        num_nodes, num_edges = HYPER
        size = torch.randint(1, 14, (num_edges,), generator=generator)
        edge = torch.repeat_interleave(torch.arange(num_edges), size)
        key = edge * num_nodes + torch.randint(num_nodes, (len(edge),), generator=generator)
        key = torch.unique(key)
        index = torch.stack([key % num_nodes, key // num_nodes])
    else:
        found = _found(name)
        index, num_nodes, num_edges = found.edge_index, len(found.y), found.num_hyperedges
    order = torch.randperm(index.size(1), generator=generator)
    return index[:, order].contiguous(), num_nodes, num_edges


def counts(name: str) -> tuple[int, int]:
    """The numbers of edges and nodes of the graph ``name``."""
    if name not in (*REAL, *SMALL):
        return SIZES[name][1], SIZES[name][0]
    edge_index, num_nodes = graph(name)
    return edge_index.size(1), num_nodes


def forget() -> None:
    """Let go of the graph that was drawn last, which is kept for the next case."""
    _drawn.cache_clear()


def spare(size: float) -> None:
    """Raise :class:`BackendError` unless ``size`` GB of memory are free, where that is known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":") for line in file)
        free = int(lines["MemAvailable"].split()[0]) * 1024 / 1e9
    except (OSError, KeyError):
        return
    if free < size:
        raise BackendError(
            f"This case needs about {size:.0f} GB of memory, but {free:.1f} GB are free."
        )


def _found(name: str) -> Any:
    # what only draws graphs needs NumPy and torch alone
    from graphkit.data import load

    try:
        return load(name, download=False)
    except GraphkitError as error:
        raise BackendError(f"This case needs the data set {name}: {error}") from error


@lru_cache(maxsize=1)
def _read(name: str) -> tuple[Tensor, int]:
    found = _found(name)
    order = torch.randperm(found.num_edges, generator=torch.Generator().manual_seed(0))
    return found.edge_index[:, order].contiguous(), found.num_nodes


def whole_graphs(name: str) -> GraphSet:
    """The set of graphs ``name``, read from the files.

    Raises:
        BackendError: they are not on this machine.
    """
    return _found(name)


def hyper_data(name: str, num_nodes: int) -> HyperGraphData:
    """The hypergraph ``name``, read, or ``communities``: drawn with as many hyperedges as nodes.

    Its sizes are geometric with mean 10, and it has 500 features and 10 classes.

    Raises:
        BackendError: the files are not on this machine.
    """
    from graphkit.data import synthetic_hypergraph

    if name in HYPERGRAPHS:
        return _found(name)
    return synthetic_hypergraph(num_nodes)


@lru_cache(maxsize=1)
def _drawn(name: str, num_nodes: int, num_edges: int) -> Tensor:
    random = np.random.default_rng(0)
    draw = rmat(random, num_nodes) if name == "rmat" else _chung_lu(random, num_nodes, name)
    keys = np.empty(0, dtype=np.int64)
    while keys.size < num_edges:
        src, dst = draw(num_edges - keys.size)
        # sorted by hand: np.unique hashes, which takes ten times as long here
        keys = np.sort(np.append(keys, (src * num_nodes + dst)[src != dst]))
        keys = keys[np.diff(keys, prepend=-1) > 0]
    keys = random.permutation(keys)
    return torch.from_numpy(np.stack([keys // num_nodes, keys % num_nodes]))


def _chung_lu(random: np.random.Generator, num_nodes: int, name: str) -> Draw:
    rank = np.arange(num_nodes) + 0.5
    ends = [np.cumsum(random.permutation(rank**-power)) for power in _POWERS[name]]

    def draw(count: int) -> tuple[Ids, Ids]:
        points = random.random((2, count))
        draws = [np.searchsorted(c, u * c[-1], "right") for c, u in zip(ends, points, strict=True)]
        src, dst = (np.minimum(draw, num_nodes - 1) for draw in draws)
        return src, dst

    return draw


def rmat(random: np.random.Generator, num_nodes: int) -> Draw:
    """A function that draws so many edges of R-MAT's, loops and repetitions among them."""
    label = random.permutation(num_nodes)

    def draw(count: int) -> tuple[Ids, Ids]:
        src, dst = (np.zeros(count, dtype=np.int64) for _ in range(2))
        for _ in range(int(log2(num_nodes))):
            # the lower half of the sources, and given that half the one of the destinations
            down = random.random(count, dtype=np.float32) >= _UPPER
            right = random.random(count, dtype=np.float32) >= np.where(down, *_LEFT)
            src, dst = 2 * src + down, 2 * dst + right
        return label[src], label[dst]

    return draw


def on_device(name: str, device: torch.device, shrink: int = 1) -> tuple[Tensor, int]:
    """``edge_index`` of a graph of the size ``LARGE[name] / shrink``, drawn on ``device``.

    ``road`` is a grid whose nodes have up to four neighbours and are numbered row by row; the
    others have Chung-Lu's or R-MAT's degrees as in :func:`graph`, no locality, and parallel edges
    where the same ends were drawn twice.
    """
    num_nodes, num_edges = (max(64, size // shrink) for size in LARGE[name])
    generator = torch.Generator(device).manual_seed(0)
    if name == "road":
        side = isqrt(num_nodes)
        at = torch.arange(side * side, device=device).view(side, side)
        pairs = [(at[:, 1:], at[:, :-1]), (at[1:], at[:-1])]
        ends = torch.cat([torch.stack([a.flatten(), b.flatten()]) for a, b in pairs], 1)
        return torch.cat([ends, ends.flip(0)], 1), side * side
    if name == "rmat":
        ends = torch.zeros(2, num_edges, dtype=torch.int64, device=device)
        for _ in range(num_nodes.bit_length() - 1):
            down, right = torch.rand(2, num_edges, generator=generator, device=device)
            low = down >= float(_UPPER)
            left = torch.where(low, float(_LEFT[0]), float(_LEFT[1]))
            ends = 2 * ends + torch.stack([low, right >= left])
        label = torch.randperm(num_nodes, generator=generator, device=device)
        return label[ends], num_nodes
    rank = torch.arange(num_nodes, dtype=torch.float64, device=device) + 0.5
    sides = []
    for power in _POWERS.get(name, _POWERS["products"]):
        label = torch.randperm(num_nodes, generator=generator, device=device)
        below = (rank**-power)[label].cumsum(0)
        point = torch.rand(num_edges, dtype=torch.float64, generator=generator, device=device)
        sides.append(torch.searchsorted(below, point * below[-1], right=True))
    return torch.stack(sides).clamp_(max=num_nodes - 1), num_nodes
