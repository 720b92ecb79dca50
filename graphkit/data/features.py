"""Features for the nodes of hypergraphs that bring none."""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..graph import Graph
from ..ops import spmm
from ..structure import as_hypergraph
from .splits import check_seed

Features = Literal["auto", "own", "structural", "label-noise"]

STRUCTURAL = (
    *("degree", "log degree", "in none", "size mean", "size min", "size max", "size std"),
    *("log size mean", "sum of 1 / size", "degree of members, mean", "degree of members, max"),
)
"""The columns of :func:`structural_features`."""


def with_features(
    data: Any, features: Features = "auto", *, std: float = 1.0, dim: int = 100, seed: int = 0
) -> tuple[Any, str]:
    """PyG's ``HyperGraphData`` with an ``x``, and a sentence that says what it is.

    ``data`` is not changed. The sentence is empty where the features are the data's own.

    Args:
        features: ``own``: those of the data. ``structural``: :func:`structural_features`. ``auto``:
            its own if it has some, else structural ones. ``label-noise``:
            :func:`label_noise_features`, in which the label of every node can be read, test nodes
            included: only to compare with published figures that were made with them.
        std, dim, seed: of ``label-noise``.

    Raises:
        ConfigError: ``features`` is unknown.
        DataError: ``own`` where there are none, or ``label-noise`` without labels.
    """
    if features not in ("auto", "own", "structural", "label-noise"):
        raise ConfigError(
            f"features is {features!r}, but auto, own, structural or label-noise is expected."
        )
    has = isinstance(getattr(data, "x", None), Tensor)
    if features == "own" and not has:
        raise DataError(
            "The hypergraph has no features x, but its own are asked for. Set data.x, or take "
            "structural ones, which are made of degrees and sizes."
        )
    if features == "own" or (features == "auto" and has):
        return data, ""
    if features == "label-noise":
        y = getattr(data, "y", None)
        if not isinstance(y, Tensor):
            raise DataError("label-noise features are made of labels, but data.y is missing.")
        x = label_noise_features(y, std=std, dim=dim, seed=seed)
        said = (
            "Features: label-derived. They are the one-hot label of every node, test nodes "
            f"included, with Gaussian noise (std {std:g}) on {dim} columns."
        )
    else:
        num_nodes = data["num_nodes"] if "num_nodes" in data else len(data.x)
        count = getattr(data, "num_hyperedges", None)
        x = structural_features(as_hypergraph(data.edge_index, num_nodes, count))
        why = "" if features == "structural" else ", as the data has none of its own"
        said = f"Features: {x.size(1)} structural ones, degrees and sizes of hyperedges{why}."
    out = data.clone()
    # PyG's clone leaves out what is not in its stores
    vars(out).update({key: value for key, value in vars(data).items() if key not in vars(out)})
    out.x = x
    return out, said


def structural_features(hypergraph: Graph) -> Tensor:
    """What a hypergraph alone says of each node: float32 ``[N, 11]``, columns ``STRUCTURAL``.

    Its degree and the logarithm of 1 plus it; whether it is in no hyperedge; of the sizes of its
    hyperedges the mean, least, largest, standard deviation, mean logarithm, and sum of inverses;
    of the members' mean degrees of its hyperedges the mean; the largest degree of a member. What
    does not exist is 0. Every column is then standardised over all nodes: mean 0 and variance 1, or
    0 if it is constant. No label is looked at.
    """
    degree = hypergraph.in_degree().to(torch.float64)
    size = hypergraph.out_degree().to(torch.float64)[:, None]
    # hyperedges without members reach no node
    safe = size.clamp(min=1)
    members = spmm(hypergraph.t(), degree[:, None], reduce="mean")
    largest = spmm(hypergraph.t(), degree[:, None], reduce="max")
    told = torch.cat([size, size.square(), safe.log(), 1 / safe, members], dim=1)
    mean, square, log, inverse, near = spmm(hypergraph, told, reduce="mean").unbind(1)
    x = torch.stack(
        [
            degree,
            degree.log1p(),
            (degree == 0).to(torch.float64),
            mean,
            spmm(hypergraph, size, reduce="min").squeeze(1),
            spmm(hypergraph, size, reduce="max").squeeze(1),
            (square - mean.square()).clamp(min=0).sqrt(),
            log,
            inverse * degree,
            near,
            spmm(hypergraph, largest, reduce="max").squeeze(1),
        ],
        dim=1,
    )
    x = x - x.mean(dim=0)
    spread = x.square().mean(dim=0).sqrt()
    # of a constant column, rounding is all that is left
    x = torch.where(spread < 1e-6, 0, x / spread.clamp(min=1e-6))
    return x.to(torch.float32)


def label_noise_features(y: Tensor, *, std: float, dim: int = 100, seed: int = 0) -> Tensor:
    """One-hot labels in the first of ``dim`` columns, Gaussian noise on all: float32 ``[N, dim]``.

    The features that AllSet and ED-HNN give house-committees and walmart-trips (``std`` 0.6 or 1).
    They are derived from the labels of all nodes, test nodes included. A label of -1 leaves the row
    to the noise.

    Raises :class:`ConfigError` for a negative ``std`` or fewer columns than classes, and
    :class:`DataError` for labels that are no class numbers.
    """
    check_seed(seed)
    if y.dim() != 1 or y.dtype != torch.int64:
        raise DataError(
            f"label_noise_features: y is {y.dtype} {list(y.shape)}, but int64 [N] is expected."
        )
    label = y.cpu()
    count = int(label.max()) + 1 if len(label) else 0
    if not 0 <= std < float("inf") or dim < count:
        raise ConfigError(
            f"label_noise_features: std is {std} and dim {dim}, but std must be at least 0 and dim "
            f"at least {count}, the number of classes."
        )
    x = torch.randn(len(label), dim, generator=torch.Generator().manual_seed(seed)) * std
    known = (label >= 0).nonzero().squeeze(1)
    x[known, label[known]] += 1
    return x.to(y.device)
