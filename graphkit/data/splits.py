"""Seeded splits of labelled nodes into train, validation and test masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ConfigError, DataError

Masks = tuple[Tensor, Tensor, Tensor]


def _shuffled(node_id: Tensor, seed: int) -> Tensor:
    """``node_id`` in an order that depends on the seed alone, never on torch's global state."""
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed must lie in 0 .. 2**63 - 1, got {seed}.")
    generator = torch.Generator().manual_seed(seed)
    return node_id[torch.randperm(len(node_id), generator=generator)]


def _labelled(y: Tensor) -> Tensor:
    if y.dim() != 1 or y.dtype != torch.int64:
        raise DataError(
            f"y must be int64 of shape [num_nodes], got {y.dtype} of shape {list(y.shape)}. "
            "Use y.long().view(-1) if it holds one class number per node."
        )
    return (y.cpu() >= 0).nonzero().view(-1)


def _mask(num_nodes: int, node_id: Tensor, device: torch.device) -> Tensor:
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[node_id] = True
    return mask.to(device)


def per_class_split(y: Tensor, *, train_per_class: int, num_val: int, seed: int) -> Masks:
    """Bool [N] masks: so many training nodes of each class, ``num_val`` others, and all the rest.

    Nodes labelled -1 are in no mask. Raises :class:`DataError` if a class or the rest is too small.
    """
    if train_per_class < 1 or num_val < 1:
        raise ConfigError(
            f"train_per_class and num_val must be at least 1, got {train_per_class} and {num_val}."
        )
    order = _shuffled(_labelled(y), seed)
    label = y.cpu()[order]
    count = torch.bincount(label).tolist()
    short = {c: n for c, n in enumerate(count) if n < train_per_class}
    if short or not count:
        found = ", ".join(f"class {c} has {n}" for c, n in short.items()) or "no node has a label"
        raise DataError(
            f"per_class_split needs {train_per_class} training nodes of each class, but {found}. "
            "Lower train_per_class, or merge or drop the small classes."
        )
    train_id = torch.cat([order[label == c][:train_per_class] for c in range(len(count))])
    train = _mask(len(y), train_id, y.device)
    rest = order[~train.cpu()[order]]
    if len(rest) <= num_val:
        raise DataError(
            f"{len(rest)} labelled nodes remain after {len(train_id)} training nodes, so {num_val} "
            "for validation leave none for the test. Lower num_val or train_per_class."
        )
    val, test = _mask(len(y), rest[:num_val], y.device), _mask(len(y), rest[num_val:], y.device)
    return train, val, test


def random_split(
    y: Tensor | int, *, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2), seed: int
) -> Masks:
    """Bool [N] masks over the labelled nodes of ``y``, or over ``y`` nodes if it is a number.

    Each part is within one node of its fraction of the labelled nodes; if the fractions sum to less
    than one, some nodes are in no mask. Raises :class:`DataError` if a part would be empty.
    """
    if len(fractions) != 3 or not all(0 < f < 1 for f in fractions) or sum(fractions) > 1 + 1e-6:
        raise ConfigError(
            f"fractions must be three numbers between 0 and 1 with a sum of at most 1, "
            f"got {fractions}."
        )
    size, device = (y, torch.device("cpu")) if isinstance(y, int) else (len(y), y.device)
    order = _shuffled(torch.arange(max(y, 0)) if isinstance(y, int) else _labelled(y), seed)
    ends = [round(math.fsum(fractions[: k + 1]) * len(order)) for k in range(3)]
    parts = [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    if not all(len(part) for part in parts):
        raise DataError(
            f"{len(order)} labelled nodes split by {fractions} give parts of "
            f"{[len(part) for part in parts]} nodes, and none may be empty. Use other fractions."
        )
    train, val, test = (_mask(size, part, device) for part in parts)
    return train, val, test
