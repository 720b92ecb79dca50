"""The largest or smallest message of each destination, behind ``spmm(..., reduce="max")``.

Shapes: D destinations, S sources, E edges, H heads, C channels, B bytes of bits.

The gradient goes to the winners, the edges that attain the value, in equal shares. Either the
product notes them, one bit for each channel of an edge, and the gradient follows the edges of each
source; or their messages are computed and compared once more. The two add up the same terms, in
the order of edges or of destinations: their results differ by rounding only.
"""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..graph import row_ids
from .spmm import accumulator, extreme_of_rows, slot_values

_Side = tuple[Tensor, Tensor, Tensor | None]


def spmm_extreme_reference(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    x_SHC: Tensor,
    w_EH: Tensor | None,
    minimum: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    side, messages = (ptr, idx, eid), _messages(idx, eid, x_SHC, w_EH)
    out_DHC = extreme_of_rows(ptr, messages, minimum)
    won_EHB, tied_D = _no_winners(side, x_SHC, keep)
    if keep:
        won_EHC = _attain(ptr, messages, out_DHC)
        won_EHB = won_EHB.copy_(_to_edges(_packed(won_EHC), eid))
        tied_D = tied_D.copy_((_winners(ptr, won_EHC) > 1).flatten(1).any(1))
    return out_DHC, won_EHB, tied_D


spmm_extreme_op = torch.library.custom_op(
    "graphkit::spmm_extreme", spmm_extreme_reference, mutates_args=()
)


@spmm_extreme_op.register_fake
def _(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    x_SHC: Tensor,
    w_EH: Tensor | None,
    minimum: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    out_DHC = x_SHC.new_empty(ptr.size(0) - 1, x_SHC.size(1), x_SHC.size(2))
    return out_DHC, *_no_winners((ptr, idx, eid), x_SHC, keep)


def _no_winners(side: _Side, x_SHC: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """Room for who won: bits, and whether a row has a channel with several winners."""
    if not keep:
        return x_SHC.new_empty(0, dtype=torch.uint8), x_SHC.new_empty(0, dtype=torch.bool)
    num_bytes = (x_SHC.size(2) + 7) // 8
    won_EHB = x_SHC.new_empty(side[1].size(0), x_SHC.size(1), num_bytes, dtype=torch.uint8)
    return won_EHB, x_SHC.new_zeros(side[0].size(0) - 1, dtype=torch.bool)


def _messages(idx: Tensor, eid: Tensor | None, x_SHC: Tensor, w_EH: Tensor | None) -> Tensor:
    messages = x_SHC.index_select(0, idx)
    if w_EH is None:
        return messages
    return messages * slot_values(w_EH, eid).to(x_SHC.dtype).unsqueeze(-1)


def _attain(ptr: Tensor, messages: Tensor, out_DHC: Tensor) -> Tensor:
    best = out_DHC.index_select(0, row_ids(ptr, messages.size(0)))
    return (messages == best) | (messages.isnan() & best.isnan())


def _winners(ptr: Tensor, won_EHC: Tensor) -> Tensor:
    """How many won each channel of each row, int64 ``[D, H, C]``."""
    count = won_EHC.new_zeros(ptr.size(0) - 1, *won_EHC.shape[1:], dtype=torch.int64)
    return count.index_add_(0, row_ids(ptr, won_EHC.size(0)), won_EHC.long())


def _packed(won_EHC: Tensor) -> Tensor:
    """Bit ``c % 8`` of byte ``c // 8`` is channel ``c``."""
    padded = torch.nn.functional.pad(won_EHC.to(torch.uint8), (0, -won_EHC.size(2) % 8))
    eights = padded.view(*padded.shape[:2], padded.size(2) // 8, 8)
    return (eights << torch.arange(8, dtype=torch.uint8, device=eights.device)).sum(-1).byte()


def _unpacked(won_EHB: Tensor, channels: int) -> Tensor:
    bits = torch.arange(8, dtype=torch.uint8, device=won_EHB.device)
    return ((won_EHB.unsqueeze(-1) >> bits) & 1).flatten(2)[..., :channels].bool()


def _to_edges(values: Tensor, eid: Tensor | None) -> Tensor:
    return values if eid is None else torch.empty_like(values).index_copy_(0, eid.long(), values)


def _shares(
    side: _Side,
    like_DHC: Tensor,
    x_SHC: Tensor | None,
    w_EH: Tensor | None,
    out_DHC: Tensor | None,
    won_EHB: Tensor | None,
) -> Tensor:
    """The share of each slot in its row's gradient, ``[E, H, C]``: a constant."""
    ptr, idx, eid = side
    if won_EHB is not None:
        won_EHC = _unpacked(slot_values(won_EHB, eid), like_DHC.size(2))
    else:
        assert x_SHC is not None and out_DHC is not None
        w_const = None if w_EH is None else w_EH.detach()
        won_EHC = _attain(ptr, _messages(idx, eid, x_SHC.detach(), w_const), out_DHC.detach())
    rows = row_ids(ptr, idx.size(0))
    acc = accumulator(like_DHC.dtype)
    return won_EHC.to(acc) / _winners(ptr, won_EHC).clamp(min=1).to(acc).index_select(0, rows)


def _paid(share_EHC: Tensor, *factors: Tensor | float) -> Tensor:
    """Their product where the share is not 0: what did not win may be nan."""
    paid_EHC = share_EHC
    for factor in factors:
        paid_EHC = paid_EHC * factor
    return torch.where(share_EHC > 0, paid_EHC, 0.0)


def _weights(side: _Side, w_EH: Tensor | None) -> Tensor | float:
    return 1.0 if w_EH is None else slot_values(w_EH, side[2]).unsqueeze(-1)


def _by_weight(each_EH: Tensor, weight_heads: int) -> Tensor:
    """Summed over heads where they share a weight."""
    return each_EH if weight_heads == each_EH.size(1) else each_EH.sum(1, keepdim=True)


def spmm_extreme_backward_reference(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    dy_DHC: Tensor,
    x_SHC: Tensor | None,
    w_EH: Tensor | None,
    out_DHC: Tensor | None,
    won_EHB: Tensor | None,
    tied_D: Tensor | None,
    num_src: int,
) -> Tensor:
    side: _Side = (ptr, idx, eid)
    share = _shares(side, dy_DHC, x_SHC, w_EH, out_DHC, won_EHB)
    dy_EHC = dy_DHC.index_select(0, row_ids(ptr, idx.size(0)))
    dx_SHC = share.new_zeros(num_src, *dy_DHC.shape[1:])
    return dx_SHC.index_add_(0, idx, _paid(share, dy_EHC, _weights(side, w_EH))).to(dy_DHC.dtype)


spmm_extreme_backward_op = torch.library.custom_op(
    "graphkit::spmm_extreme_backward", spmm_extreme_backward_reference, mutates_args=()
)


@spmm_extreme_backward_op.register_fake
def _(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    dy_DHC: Tensor,
    x_SHC: Tensor | None,
    w_EH: Tensor | None,
    out_DHC: Tensor | None,
    won_EHB: Tensor | None,
    tied_D: Tensor | None,
    num_src: int,
) -> Tensor:
    return dy_DHC.new_empty(num_src, dy_DHC.size(1), dy_DHC.size(2))


def spmm_extreme_weights_reference(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    dy_DHC: Tensor,
    x_SHC: Tensor,
    w_EH: Tensor,
    out_DHC: Tensor,
) -> Tensor:
    side: _Side = (ptr, idx, eid)
    share = _shares(side, dy_DHC, x_SHC, w_EH, out_DHC, None)
    dy_EHC = dy_DHC.index_select(0, row_ids(ptr, idx.size(0)))
    each_EH = _paid(share, dy_EHC, x_SHC.index_select(0, idx)).sum(-1)
    return _to_edges(_by_weight(each_EH, w_EH.size(1)).to(w_EH.dtype), eid)


spmm_extreme_weights_op = torch.library.custom_op(
    "graphkit::spmm_extreme_weights", spmm_extreme_weights_reference, mutates_args=()
)


@spmm_extreme_weights_op.register_fake
def _(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    dy_DHC: Tensor,
    x_SHC: Tensor,
    w_EH: Tensor,
    out_DHC: Tensor,
) -> Tensor:
    return torch.empty_like(w_EH, memory_format=torch.contiguous_format)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *sides, x_SHC, w_EH, _, keep = inputs
    out_DHC, won_EHB, tied_D = output
    ctx.mark_non_differentiable(won_EHB, tied_D)
    ctx.num_src = x_SHC.size(0)
    if keep and not ctx.needs_input_grad[7]:
        x_SHC = out_DHC = None
    winners = (won_EHB, tied_D) if keep else (None, None)
    ctx.save_for_backward(*sides, x_SHC, w_EH, out_DHC, *winners)


def _backward(ctx: Any, dy_DHC: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    *sides, x_SHC, w_EH, out_DHC, won_EHB, tied_D = ctx.saved_tensors
    dx_SHC = dw_EH = None
    if ctx.needs_input_grad[6]:
        compared = (x_SHC, w_EH, out_DHC) if won_EHB is None else (None, w_EH, None)
        dx_SHC = torch.ops.graphkit.spmm_extreme_backward(
            *sides, dy_DHC, *compared, won_EHB, tied_D, ctx.num_src
        )
    if ctx.needs_input_grad[7]:
        dw_EH = torch.ops.graphkit.spmm_extreme_weights(*sides[:3], dy_DHC, x_SHC, w_EH, out_DHC)
    return *(None,) * 6, dx_SHC, dw_EH, None, None


spmm_extreme_op.register_autograd(_backward, setup_context=_setup)


# Second derivatives: who won is a constant, and what is left is linear in dy and in the other
# factor of a message. They are rare, and by steps.


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3], *inputs[6:11])


def _backward_backward(ctx: Any, ddx_SHC: Tensor) -> tuple[Tensor | None, ...]:
    ptr, idx, eid, dy_DHC, x_SHC, w_EH, out_DHC, won_EHB = ctx.saved_tensors
    side: _Side = (ptr, idx, eid)
    share = _shares(side, dy_DHC, x_SHC, w_EH, out_DHC, won_EHB)
    rows = row_ids(ptr, idx.size(0))
    ddx_EHC = ddx_SHC.index_select(0, idx)
    ddy = torch.zeros_like(dy_DHC, dtype=share.dtype)
    ddy = ddy.index_add(0, rows, _paid(share, ddx_EHC, _weights(side, w_EH))).to(dy_DHC.dtype)
    dw_EH = None
    if w_EH is not None:
        each_EH = _paid(share, ddx_EHC, dy_DHC.index_select(0, rows)).sum(-1)
        dw_EH = _to_edges(_by_weight(each_EH, w_EH.size(1)).to(w_EH.dtype), eid)
    return *(None,) * 6, ddy, None, dw_EH, None, None, None, None


spmm_extreme_backward_op.register_autograd(_backward_backward, setup_context=_backward_setup)


def _weights_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _weights_backward(ctx: Any, ddw_EH: Tensor) -> tuple[Tensor | None, ...]:
    ptr, idx, eid, dy_DHC, x_SHC, w_EH, out_DHC = ctx.saved_tensors
    side: _Side = (ptr, idx, eid)
    share = _shares(side, dy_DHC, x_SHC, w_EH, out_DHC, None)
    rows = row_ids(ptr, idx.size(0))
    ddw = _weights(side, ddw_EH)
    ddy, dx = (torch.zeros_like(t, dtype=share.dtype) for t in (dy_DHC, x_SHC))
    ddy = ddy.index_add(0, rows, _paid(share, ddw, x_SHC.index_select(0, idx))).to(dy_DHC.dtype)
    dx = dx.index_add(0, idx, _paid(share, ddw, dy_DHC.index_select(0, rows))).to(x_SHC.dtype)
    return None, None, None, ddy, dx, None, None


spmm_extreme_weights_op.register_autograd(_weights_backward, setup_context=_weights_setup)
