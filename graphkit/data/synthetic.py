"""Made hypergraphs of any size, whose communities, sizes and features are known."""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .assemble import MASKS, assemble
from .raw import Raw
from .splits import check_seed, random_split

# draws for members that are still wanted, before the rest is filled from all nodes
_ROUNDS = 32


def synthetic_hypergraph(
    num_nodes: int,
    num_edges: int | None = None,
    *,
    mean_size: float = 10.0,
    num_classes: int = 10,
    homophily: float = 0.8,
    num_features: int = 500,
    signal: float = 1.0,
    seed: int = 0,
) -> Any:
    """A hypergraph with communities as PyG's ``HyperGraphData``, as :func:`graphkit.data.load` has.

    Sizes of hyperedges are geometric from 1 on, with mean ``mean_size`` (at most ``num_nodes``).
    Each hyperedge belongs to a class; a member is drawn from it with probability ``homophily``,
    else from all nodes, and all members of a hyperedge differ. The classes ``y`` are of equal size
    to within one. ``x`` is ``signal`` times the unit vector of the class plus noise of variance
    1 / ``num_features`` in each column, so that noise has length 1 as well; ``num_features=0``
    makes none. Masks are a random 50/25/25.

    The same arguments make the same bits. Time and memory are linear in incidences and features.

    Args:
        num_nodes, num_edges: N, and M (N if not given).
        seed: of all that is drawn.

    Raises:
        ConfigError: a number out of its range.
    """
    num_edges = num_nodes if num_edges is None else num_edges
    check_seed(seed)
    _check(num_nodes, num_edges, mean_size, num_classes, homophily, num_features)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(num_nodes, generator=generator)
    y = torch.empty(num_nodes, dtype=torch.int64)
    y[order] = torch.arange(num_nodes) % num_classes
    size = _sizes(num_edges, mean_size, num_nodes, generator)
    index = _members(size, y, num_classes, homophily, generator)
    tensors: dict[str, Tensor] = {"hyperedge_index": index, "y": y}
    if num_features:
        centre = torch.randn(num_classes, num_features, generator=generator)
        centre = torch.nn.functional.normalize(centre) * signal
        x = torch.randn(num_nodes, num_features, generator=generator)
        tensors["x"] = x.div_(num_features**0.5).add_(centre[y])
    masks = random_split(y, fractions=(0.5, 0.25, 0.25), seed=seed)
    tensors |= dict(zip(MASKS, masks, strict=True))
    meta = {"num_nodes": num_nodes, "num_hyperedges": num_edges}
    return assemble("hypergraph", Raw(tensors, meta), "synthetic", num_classes)


def _sizes(count: int, mean: float, most: int, generator: torch.Generator) -> Tensor:
    """Geometric sizes from 1 on: the number of trials up to the first of probability 1 / mean."""
    if mean == 1:
        return torch.ones(count, dtype=torch.int64)
    uniform = torch.rand(count, dtype=torch.float64, generator=generator)
    stop = torch.tensor(1 / mean, dtype=torch.float64)
    tries = torch.log1p(-uniform) / torch.log1p(-stop)
    return 1 + tries.floor().clamp(max=most - 1).to(torch.int64)


def _members(
    size: Tensor, y: Tensor, num_classes: int, homophily: float, generator: torch.Generator
) -> Tensor:
    """PyG's ``hyperedge_index`` with ``size [M]`` different members each, sorted by hyperedge."""
    num_nodes, num_edges = len(y), len(size)
    by_class = torch.argsort(y, stable=True)
    count = torch.bincount(y, minlength=num_classes)
    first = count.cumsum(0) - count
    home = torch.randint(num_classes, (num_edges,), generator=generator)
    key = torch.empty(0, dtype=torch.int64)
    wanted = size
    for _ in range(_ROUNDS):
        hyperedge = torch.repeat_interleave(torch.arange(num_edges), wanted)
        if not len(hyperedge):
            break
        among = home[hyperedge]
        draw = torch.rand(len(hyperedge), dtype=torch.float64, generator=generator)
        inside = by_class[first[among] + (draw * count[among]).to(torch.int64)]
        anywhere = (draw * num_nodes).to(torch.int64)
        stays = torch.rand(len(hyperedge), generator=generator) < homophily
        drawn = hyperedge * num_nodes + torch.where(stays, inside, anywhere)
        key = torch.cat([key, drawn]).unique()
        wanted = size - torch.bincount(key // num_nodes, minlength=num_edges)
    # a hyperedge as large as its class, and the like
    for hyperedge in wanted.nonzero().view(-1).tolist():
        free = torch.ones(num_nodes, dtype=torch.bool)
        free[key[key // num_nodes == hyperedge] % num_nodes] = False
        left = free.nonzero().view(-1)
        some = torch.randperm(len(left), generator=generator)[: int(wanted[hyperedge])]
        key = torch.cat([key, hyperedge * num_nodes + left[some]])
    key = key.sort().values
    return torch.stack([key % num_nodes, key // num_nodes])


def _check(
    num_nodes: int, num_edges: int, mean: float, num_classes: int, homophily: float, features: int
) -> None:
    for name, value, low, high in (
        # a split in three parts of which the least is a quarter needs so many
        ("num_nodes", num_nodes, 4, float("inf")),
        ("num_edges", num_edges, 1, float("inf")),
        ("mean_size", mean, 1, num_nodes),
        ("num_classes", num_classes, 1, num_nodes),
        ("homophily", homophily, 0, 1),
        ("num_features", features, 0, float("inf")),
    ):
        if not low <= value <= high:
            upper = "" if high == float("inf") else f" to {high}"
            raise ConfigError(
                f"synthetic_hypergraph: {name} is {value}, but {low}{upper or ' or more'} is "
                "expected."
            )
