"""Seeded splits of labelled nodes into train, validation and test masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ConfigError, DataError

Masks = tuple[Tensor, Tensor, Tensor]


def check_seed(seed: int) -> None:
    """Raise :class:`ConfigError` unless a split can be drawn from ``seed``."""
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed must lie in 0 .. 2**63 - 1, got {seed}.")


def _shuffled(node_id: Tensor, seed: int) -> Tensor:
    """``node_id`` in an order that depends on the seed alone, never on torch's global state."""
    check_seed(seed)
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


def per_class_split(
    y: Tensor,
    *,
    train_per_class: int,
    num_val: int | None = None,
    val_per_class: int | None = None,
    seed: int,
) -> Masks:
    """Bool [N] masks: so many training nodes of each class, so many others, and all the rest.

    The validation nodes are ``num_val`` of the others, or ``val_per_class`` of each class. Nodes
    labelled -1 are in no mask. Raises :class:`DataError` if a class or the rest is too small.
    """
    if (num_val is None) == (val_per_class is None):
        raise ConfigError("per_class_split: give num_val or val_per_class, one of the two.")
    val = num_val if val_per_class is None else val_per_class
    if train_per_class < 1 or val is None or val < 1:
        name = "num_val" if val_per_class is None else "val_per_class"
        raise ConfigError(
            f"train_per_class and {name} must be at least 1, got {train_per_class} and {val}."
        )
    order = _shuffled(_labelled(y), seed)
    label = y.cpu()[order]
    count = torch.bincount(label).tolist()
    need = train_per_class + (val_per_class or 0)
    short = {c: n for c, n in enumerate(count) if n < need}
    if short or not count:
        found = ", ".join(f"class {c} has {n}" for c, n in short.items()) or "no node has a label"
        raise DataError(
            f"per_class_split needs {need} training nodes of each class, but {found}. "
            "Lower train_per_class, or merge or drop the small classes."
        )
    by_class = [order[label == c] for c in range(len(count))]
    train = _mask(len(y), torch.cat([ids[:train_per_class] for ids in by_class]), y.device)
    rest = order[~train.cpu()[order]]
    chosen = rest[:val]
    if val_per_class is not None:
        chosen = torch.cat([ids[train_per_class:need] for ids in by_class])
    if len(rest) <= len(chosen):
        raise DataError(
            f"{len(rest)} labelled nodes remain after {int(train.sum())} training nodes, so "
            f"{len(chosen)} for validation leave none for the test. Lower it or train_per_class."
        )
    validation = _mask(len(y), chosen, y.device)
    test = _mask(len(y), rest, y.device) & ~validation
    return train, validation, test


def random_split(
    y: Tensor | int,
    *,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int,
    stratified: bool = False,
    test_mask: Tensor | None = None,
) -> Masks:
    """Bool [N] masks over the labelled nodes (or graphs) of ``y``, or over ``y`` of them.

    Each part is within one of its fraction of the labelled nodes; if the fractions sum to less than
    one, some are in no mask. ``stratified`` keeps these sizes and gives every part the classes in
    proportion, within a few nodes. With ``test_mask`` that is the test part, the third fraction is
    0 and the others divide the rest.

    Raises :class:`DataError` if a part, or with ``stratified`` a class in a part, would be empty.
    """
    _check_fractions(fractions, test_mask is not None)
    if stratified and isinstance(y, int):
        raise ConfigError(f"random_split: stratified needs the labels y, got their number {y}.")
    size, device = (y, torch.device("cpu")) if isinstance(y, int) else (len(y), y.device)
    free = torch.arange(max(y, 0)) if isinstance(y, int) else _labelled(y)
    if test_mask is not None:
        _check_test_mask(test_mask, size)
        free = free[~test_mask.cpu()[free]]
    order = _shuffled(free, seed)
    label = y.cpu()[order] if stratified and isinstance(y, Tensor) else None
    order = order if label is None else order[_interleaved(label)]
    ends = [round(math.fsum(fractions[: k + 1]) * len(order)) for k in range(3)]
    parts = [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    if test_mask is not None:
        parts[2] = test_mask.cpu().nonzero().view(-1)
    if not all(len(part) for part in parts):
        raise DataError(
            f"{len(order)} labelled nodes split by {fractions} give parts of "
            f"{[len(part) for part in parts]} nodes, and none may be empty. Use other fractions."
        )
    if isinstance(y, Tensor) and stratified:
        _check_classes(y.cpu(), parts[: 2 if test_mask is not None else 3])
    train, val, test = (_mask(size, part, device) for part in parts)
    return train, val, test


def _check_fractions(fractions: tuple[float, float, float], test_is_given: bool) -> None:
    drawn = fractions[:2] if test_is_given else fractions
    fits = len(fractions) == 3 and all(0 < f < 1 for f in drawn) and sum(fractions) <= 1 + 1e-6
    if not fits or (test_is_given and fractions[2] != 0):
        third = ", the third 0 beside a test_mask" if test_is_given else ""
        raise ConfigError(
            f"fractions must be three numbers between 0 and 1 with a sum of at most 1{third}, "
            f"got {fractions}."
        )


def _check_test_mask(test_mask: Tensor, size: int) -> None:
    if test_mask.dtype != torch.bool or list(test_mask.shape) != [size]:
        raise DataError(
            f"test_mask must be bool of shape [{size}], got {test_mask.dtype} of shape "
            f"{list(test_mask.shape)}. Take one column of masks with several splits."
        )


def _interleaved(label: Tensor) -> Tensor:
    """An order in which every stretch has the classes in proportion; within a class it is kept."""
    by_class = torch.argsort(label, stable=True)
    count = torch.bincount(label)
    first = count.cumsum(0) - count
    rank = torch.empty(len(label), dtype=torch.float64)
    position = torch.arange(len(label)) - first[label[by_class]]
    rank[by_class] = (position.double() + 0.5) / count[label[by_class]]
    return torch.argsort(rank, stable=True)


def _check_classes(y: Tensor, parts: list[Tensor]) -> None:
    for c in y[y >= 0].unique().tolist():
        found = [int((y[part] == c).sum()) for part in parts]
        if not all(found):
            raise DataError(
                f"class {c} has {int((y == c).sum())} labelled nodes, too few for each part: they "
                f"would get {found}. Merge or drop the class, or split without stratified."
            )
