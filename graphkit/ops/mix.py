"""Channels of each node mixed by weights that those channels decide, as ACM's layers do.

Shapes: N nodes, F features of a channel, K channels: low-pass, high-pass, identity, and where it is
given the structure channel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from ..errors import GraphError
from .check import check_values
from .spmm import accumulator


def _channels(low: Tensor, rest: Tensor, structure: Tensor | None, relu: bool) -> list[Tensor]:
    """The channels ``[N, F]`` in the accumulator."""
    acc = accumulator(low.dtype)
    low_pass, smooth = low.to(acc).chunk(2, dim=1)
    high, own = rest.to(acc).chunk(2, dim=1)
    channels = [low_pass, high - smooth, own]
    channels = [channel.relu() for channel in channels] if relu else channels
    return channels if structure is None else [*channels, structure.to(acc).relu()]


def _normed(channels: list[Tensor], eps: float) -> list[Tensor]:
    if eps < 0:
        return channels
    return [layer_norm(channel, channel.shape[1:], eps=eps) for channel in channels]


def _weigh(
    normed: list[Tensor], att: Tensor, shift: Tensor | None, mix: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights and gates ``[N, K]``."""
    # no matrix products: autocast would round what goes into them
    pairs = zip(normed, att, strict=True)
    scores = torch.stack([(channel * vector).sum(1) for channel, vector in pairs], dim=1)
    gates = (scores if shift is None else scores + shift).sigmoid()
    return (gates.unsqueeze(2) * mix).sum(1).softmax(dim=1), gates


def _mixed(weights: Tensor, channels: list[Tensor]) -> Tensor:
    pairs = zip(weights.split(1, dim=1), channels, strict=True)
    return sum((weight * channel for weight, channel in pairs), torch.zeros_like(channels[0]))


def mix_reference(
    low: Tensor,
    rest: Tensor,
    structure: Tensor | None,
    att: Tensor,
    shift: Tensor | None,
    mix: Tensor,
    eps: float,
    relu: bool,
    final_relu: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    channels = _channels(low, rest, structure, relu)
    weights, gates = _weigh(_normed(channels, eps), att, shift, mix)
    out = _mixed(weights, channels)
    out = scale * (out.relu() if final_relu else out)
    return out.to(low.dtype), weights, gates


mix_op = torch.library.custom_op("graphkit::mix", mix_reference, mutates_args=())


@mix_op.register_fake
def _(
    low: Tensor,
    rest: Tensor,
    structure: Tensor | None,
    att: Tensor,
    shift: Tensor | None,
    mix: Tensor,
    eps: float,
    relu: bool,
    final_relu: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    rows, width = low.size(0), att.size(1)
    weights = att.new_empty(rows, att.size(0))
    return low.new_empty(rows, width), weights, torch.empty_like(weights)


def mix_backward_reference(
    dy: Tensor,
    dweights: Tensor | None,
    low: Tensor,
    rest: Tensor,
    structure: Tensor | None,
    att: Tensor,
    shift: Tensor | None,
    mix: Tensor,
    weights: Tensor,
    gates: Tensor,
    eps: float,
    relu: bool,
    final_relu: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    channels = _channels(low, rest, structure, relu)
    normed = _normed(channels, eps)
    # again, so that this can be differentiated
    weights, gates = _weigh(normed, att, shift, mix)
    slope = scale * dy.to(att.dtype)
    if final_relu:
        slope = torch.where(_mixed(weights, channels) <= 0, 0, slope)
    to_weights = torch.stack([(slope * channel).sum(1) for channel in channels], dim=1)
    if dweights is not None:
        to_weights = to_weights + dweights
    to_logits = weights * (to_weights - (weights * to_weights).sum(1, keepdim=True))
    to_scores = (to_logits.unsqueeze(1) * mix).sum(2) * gates * (1 - gates)
    found: list[Tensor] = []
    for k, channel in enumerate(channels):
        step = to_scores[:, k : k + 1]
        d = step * att[k]
        if eps >= 0:
            z = normed[k]
            by = (channel.var(1, correction=0, keepdim=True) + eps).rsqrt()
            d = by * (d - d.mean(1, keepdim=True) - z * (d * z).mean(1, keepdim=True))
        d = weights[:, k : k + 1] * slope + d
        found.append(torch.where(channel <= 0, 0, d) if relu or k == 3 else d)
    pairs = zip(to_scores.split(1, dim=1), normed, strict=True)
    empty = low.new_empty(0)
    return (
        torch.cat([found[0], -found[1]], dim=1).to(low.dtype),
        torch.cat([found[1], found[2]], dim=1).to(low.dtype),
        empty if structure is None else found[3].to(low.dtype),
        torch.stack([(step * z).sum(0) for step, z in pairs]),
        torch.empty_like(att[:, 0]) if shift is None else to_scores.sum(0),
        (gates.unsqueeze(2) * to_logits.unsqueeze(1)).sum(0),
    )


mix_backward_op = torch.library.custom_op(
    "graphkit::mix_backward", mix_backward_reference, mutates_args=()
)
"""The gradients of ``low``, ``rest``, ``structure``, ``att``, ``shift`` and ``mix``; of what is
None an empty or uninitialised tensor."""


@mix_backward_op.register_fake
def _(
    dy: Tensor,
    dweights: Tensor | None,
    low: Tensor,
    rest: Tensor,
    structure: Tensor | None,
    att: Tensor,
    shift: Tensor | None,
    mix: Tensor,
    weights: Tensor,
    gates: Tensor,
    eps: float,
    relu: bool,
    final_relu: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        low.new_empty(low.shape),
        low.new_empty(low.shape),
        low.new_empty(0) if structure is None else low.new_empty(structure.shape),
        torch.empty_like(att),
        att.new_empty(att.size(0)),
        torch.empty_like(mix),
    )


def _mix_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *given, ctx.eps, ctx.relu, ctx.final_relu, ctx.scale = inputs
    _, weights, gates = output
    ctx.mark_non_differentiable(gates)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*given, weights, gates)


def _mix_backward(
    ctx: Any, dy: Tensor | None, dweights: Tensor | None, _: Any
) -> tuple[Tensor | None, ...]:
    low, _, structure, att, shift, *_ = ctx.saved_tensors
    if dy is None:
        dy = low.new_zeros(low.size(0), att.size(1))
    how = ctx.eps, ctx.relu, ctx.final_relu, ctx.scale
    found = torch.ops.graphkit.mix_backward(dy, dweights, *ctx.saved_tensors, *how)
    dlow, drest, dstructure, datt, dshift, dmix = found
    dstructure = None if structure is None else dstructure
    dshift = None if shift is None else dshift
    return dlow, drest, dstructure, datt, dshift, dmix, None, None, None, None


mix_op.register_autograd(_mix_backward, setup_context=_mix_setup)


def _again_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *given, ctx.eps, ctx.relu, ctx.final_relu, ctx.scale = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*given)


def _again_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    given = ctx.saved_tensors
    how = ctx.eps, ctx.relu, ctx.final_relu, ctx.scale
    with torch.enable_grad():
        # weights and gates are functions of the others, and are computed from them again
        leaves = [None if t is None else t.detach().requires_grad_() for t in given[:8]]
        found = mix_backward_reference(*leaves, *given[8:], *how)  # pyright: ignore
        asked = [(out, g) for out, g in zip(found, grads, strict=True) if g is not None]
        asked = [(out, g) for out, g in asked if out.requires_grad]
        wanted = [leaf for leaf in leaves if leaf is not None]
        outs, slopes = [out for out, _ in asked], [g for _, g in asked]
        some = torch.autograd.grad(outs, wanted, slopes, allow_unused=True) if asked else ()
    rest = iter(some or [None] * len(wanted))
    return *(None if leaf is None else next(rest) for leaf in leaves), *[None] * 6


mix_backward_op.register_autograd(_again_backward, setup_context=_again_setup)


def mix_channels(
    low: Tensor,
    rest: Tensor,
    att: Tensor,
    mix: Tensor,
    *,
    structure: Tensor | None = None,
    shift: Tensor | None = None,
    eps: float | None = None,
    relu: bool = True,
    final_relu: bool = True,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Each node's channels :math:`c_k`, mixed by :math:`\alpha = \mathrm{softmax}(g\,M)` with the
    gates :math:`g_k = \sigma(\langle c_k, a_k \rangle + b_k)`, and these weights.

    ``low [N, 2F]`` is what a filter made of the inputs of the low-pass and of the high-pass
    channel, ``rest [N, 2F]`` the inputs of the high-pass and of the identity channel themselves:
    the channels are ``low[:, :F]``, ``rest[:, :F] - low[:, F:]``, ``rest[:, F:]`` and, if given,
    ``structure [N, F]``. With ``relu`` they are cut off at 0 first, the last one always. ``att
    [K, F]`` are :math:`a`, ``shift [K]`` is :math:`b`, ``mix [K, K]`` is :math:`M`. With ``eps``
    the gates see each channel with mean 0 and variance 1.

    Returns the sum over channels ``[N, F]``, cut off at 0 with ``final_relu``, times ``scale``; and
    the weights ``[N, K]``, in float32 (float64 for float64).

    Gradients: of all tensors, by the weights too; differentiable again. Nothing of the size of the
    channels is stored. Cost: one pass over memory, two back. Deterministic.

    Raises :class:`GraphError` for shapes or dtypes that do not fit.
    """
    width, count = att.size(-1), 3 if structure is None else 4
    wanted: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
    wanted |= {"low": (low, (len(low), 2 * width)), "rest": (rest, (len(low), 2 * width))}
    wanted |= {"att": (att, (count, width)), "mix": (mix, (count, count))}
    if structure is not None:
        wanted["structure"] = structure, (len(low), width)
    if shift is not None:
        wanted["shift"] = shift, (count,)
    for name, (value, shape) in wanted.items():
        check_values("mix_channels", name, value, low.device)
        if value.shape != shape:
            raise GraphError(
                f"mix_channels: {name} has shape {list(value.shape)}, but {list(shape)} is "
                f"expected for {len(low)} nodes and {count} channels of {width} features."
            )
    acc = accumulator(low.dtype)
    structure = None if structure is None else structure.to(low.dtype)
    shift = None if shift is None else shift.to(acc)
    norm = -1.0 if eps is None else float(eps)
    out, weights, _ = torch.ops.graphkit.mix(
        *(low, rest.to(low.dtype), structure, att.to(acc), shift, mix.to(acc)),
        *(norm, relu, final_relu, float(scale)),
    )
    return out, weights
