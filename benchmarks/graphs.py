"""The graphs of the entries: drawn from a fixed seed, or read from $GRAPHKIT_DATA."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import log2

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphkit.data import load
from graphkit.errors import BackendError, GraphkitError

# nodes and edges; arxiv and products have those of the data sets of Open Graph Benchmark
SIZES = {
    "arxiv": (169_343, 1_166_243),
    "products": (2_449_029, 61_859_140),
    "rmat": (2**20, 2**24),
}
REAL = ("coauthor-physics", "amazon-photo", "ego-facebook")

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
    if name in REAL:
        return _read(name)
    return _drawn(name, *SIZES[name]), SIZES[name][0]


def counts(name: str) -> tuple[int, int]:
    """The numbers of edges and nodes of the graph ``name``."""
    if name not in REAL:
        return SIZES[name][1], SIZES[name][0]
    edge_index, num_nodes = graph(name)
    return edge_index.size(1), num_nodes


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


@lru_cache(maxsize=1)
def _read(name: str) -> tuple[Tensor, int]:
    try:
        found = load(name, download=False)
    except GraphkitError as error:
        raise BackendError(f"This case needs the data set {name}: {error}") from error
    order = torch.randperm(found.num_edges, generator=torch.Generator().manual_seed(0))
    return found.edge_index[:, order].contiguous(), found.num_nodes


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
