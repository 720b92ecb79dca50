"""Builders of deep models: those of ``MODELS`` whose depth is hops, or layers past a few."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from ..errors import ConfigError
from .decoupled import HopMLP, Precomputed, ResMLP, check_temperature, node_smoothing, smooth
from .decoupled import hops as hops_of
from .gcn2 import GCNII
from .gen import DeeperGCN
from .propagate import APPNP, AdaptivePropagation, PropagatedMLP, check_hops


def _refuse_norm(model: str, norm: str | None) -> None:
    if norm is not None:
        raise ConfigError(
            f"Model {model!r} has no norm, but norm={norm!r} was asked for. Leave it at None."
        )


def _sgc(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    hops: int = 2,
) -> Precomputed:
    # one linear map, whatever the number of layers and the hidden width are
    _refuse_norm("sgc", norm)
    propagation = partial(smooth, K=check_hops("sgc", hops, "hops"))
    head = nn.Linear(widths[0], widths[-1])
    return Precomputed(widths[0], propagation, head, dropout if drop_input else 0.0)


def _sign(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    hops: int = 3,
) -> Precomputed:
    propagation = partial(hops_of, K=check_hops("sign", hops, "hops"))
    head = HopMLP(widths[0], hops + 1, widths[1:], dropout, norm)
    return Precomputed(widths[0], propagation, head, dropout if drop_input else 0.0)


def _dgmlp(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    hops: int = 10,
    temperature: float = 0.1,
) -> Precomputed:
    hops = check_hops("dgmlp", hops, "hops")
    temperature = check_temperature("dgmlp", temperature)
    propagation = partial(node_smoothing, K=hops, temperature=temperature)
    head = ResMLP(widths, dropout, norm)
    return Precomputed(widths[0], propagation, head, dropout if drop_input else 0.0)


def _appnp(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    hops: int = 10,
    alpha: float = 0.1,
    edge_dropout: float = 0.0,
) -> PropagatedMLP:
    propagation = APPNP(check_hops("appnp", hops, "hops"), alpha, edge_dropout)
    return PropagatedMLP(widths, propagation, dropout, norm, drop_input)


def _dagnn(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    hops: int = 10,
) -> PropagatedMLP:
    propagation = AdaptivePropagation(widths[-1], check_hops("dagnn", hops, "hops"))
    return PropagatedMLP(widths, propagation, dropout, norm, drop_input)


def _gcnii(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    alpha: float = 0.1,
    theta: float = 0.5,
    shared_weights: bool = True,
    lin_decay: float | None = None,
) -> GCNII:
    _refuse_norm("gcnii", norm)
    return GCNII(
        widths[0],
        widths[1],
        widths[-1],
        len(widths) - 1,
        dropout,
        alpha,
        theta,
        shared_weights,
        drop_input,
        lin_decay,
    )


def _resgcn(
    widths: list[int],
    dropout: float,
    norm: str | None = None,
    drop_input: bool = True,
    *,
    aggr: Literal["softmax", "softmax_sg", "powermean", "add", "mean", "max"] = "softmax",
    t: float = 1.0,
    learn_t: bool = True,
    p: float = 1.0,
    learn_p: bool = False,
    msg_norm: bool = False,
    learn_msg_scale: bool = False,
    mlp_layers: int = 2,
) -> DeeperGCN:
    return DeeperGCN(
        widths[0],
        widths[1],
        widths[-1],
        len(widths) - 1,
        dropout,
        "layer" if norm is None else "batch",
        drop_input,
        aggr,
        t,
        learn_t,
        p,
        learn_p,
        msg_norm,
        learn_msg_scale,
        mlp_layers,
    )


DEEP: dict[str, Callable[..., nn.Module]] = {
    "appnp": _appnp,
    "dagnn": _dagnn,
    "dgmlp": _dgmlp,
    "gcnii": _gcnii,
    "resgcn+": _resgcn,
    "sgc": _sgc,
    "sign": _sign,
}
"""Deep models by name. The depth of those with an option ``hops`` is that; of the others it is the
number of layers: of convolutions, to which GCNII and ResGCN+ add a linear map at both ends."""
