"""Linear maps with PyG's parameter names and initialisations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..graph import Graph


def glorot_(tensor: Tensor) -> Tensor:
    """``tensor`` filled from U(-a, a), a = sqrt(6 / (sum of its last two sizes))."""
    bound = math.sqrt(6.0 / (tensor.size(-2) + tensor.size(-1)))
    with torch.no_grad():
        return tensor.uniform_(-bound, bound)


class GlorotLinear(nn.Linear):
    """:class:`torch.nn.Linear` with Glorot weights and zero bias."""

    def reset_parameters(self) -> None:
        glorot_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class LazyGlorotLinear(nn.LazyLinear):
    """:class:`GlorotLinear` whose input width is read off the first input."""

    cls_to_become = GlorotLinear  # pyright: ignore[reportAssignmentType]

    def reset_parameters(self) -> None:
        # torch calls this once before and once after the weight has a shape
        if not self.has_uninitialized_params() and self.in_features != 0:  # pyright: ignore
            GlorotLinear.reset_parameters(self)  # pyright: ignore[reportArgumentType]


def linear(in_channels: int, out_channels: int, bias: bool = True, *, glorot: bool) -> nn.Linear:
    """A linear layer; ``in_channels=-1`` reads the width off the first input, as in PyG."""
    if in_channels < 0:
        return (LazyGlorotLinear if glorot else nn.LazyLinear)(out_channels, bias=bias)
    return (GlorotLinear if glorot else nn.Linear)(in_channels, out_channels, bias=bias)


def is_built(lin: nn.Linear) -> bool:
    """Whether the width of the input of ``lin`` is known by now."""
    return not isinstance(lin.weight, nn.parameter.UninitializedParameter)


def aggregate_first(x: Tensor, lin: nn.Linear, graph: Graph) -> bool:
    """Whether summing over neighbours before the map ``lin`` moves fewer numbers than behind it.

    A gradient goes back through the sum behind the map always, through the one before it only if
    somebody asks for that of ``x``. In a block the sources, which the map has to read if it comes
    first, are several times as many as the destinations.
    """
    if not is_built(lin):
        return True
    before, after, passes = lin.in_features, lin.out_features, 1
    mapped = before + after
    if torch.is_grad_enabled():
        # the map goes forward, back to its weights and back to what it was given
        before, after, passes = before * (1 + x.requires_grad), 2 * after, 3
    more = (graph.num_src - graph.num_dst) * passes * mapped
    return graph.num_edges * before < graph.num_edges * after + more


def batch_normed(norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(x)``; of one row alone, as a last batch may be, by the running mean and variance."""
    if isinstance(norm, nn.BatchNorm1d) and len(x) == 1:
        # one row has no spread to divide by
        mean, var = norm.running_mean, norm.running_var
        return functional.batch_norm(x, mean, var, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)


def reset(module: nn.Module) -> None:
    """Reset ``module``, or the parts of it that know how to."""
    known = getattr(module, "reset_parameters", None)
    if callable(known):
        known()
        return
    for child in module.children():
        reset(child)
