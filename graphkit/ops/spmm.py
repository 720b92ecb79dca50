"""Neighbourhood aggregation: sparse matrix times dense matrix.

Shapes: N nodes (D destinations, S sources), E edges, H heads, C channels. Inside the op node
tensors are always ``[N, H, C]`` and weights ``[E, H]``.
"""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ..errors import GraphError
from ..graph import Graph, missing_transpose, row_ids
from .check import check_edges, check_nodes, check_reduce, check_transpose

Reduce = Literal["sum", "mean", "max", "min"]
_REDUCES = ("sum", "mean", "max", "min")


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are kept in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def divide_rows(values: Tensor, ptr: Tensor) -> Tensor:
    """``values [R, ...]`` over the lengths of the rows; float16 cannot hold a length of 65,520."""
    acc = accumulator(values.dtype)
    length = ptr.diff().clamp(min=1).to(acc).view(-1, *[1] * (values.dim() - 1))
    return (values.to(acc) / length).to(values.dtype)


def slot_values(w_EH: Tensor, eid: Tensor | None) -> Tensor:
    """Edge values from the caller's order to slot order."""
    return w_EH if eid is None else w_EH.index_select(0, eid)


@torch.library.custom_op("graphkit::spmm", mutates_args=())
def _spmm(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    x_SHC: Tensor,
    w_EH: Tensor | None,
    mean: bool,
) -> Tensor:
    # an embedding bag is this product without an [E, C] intermediate, one head at a time
    index = idx.to(torch.int64)
    acc = accumulator(x_SHC.dtype)
    out_DHC = x_SHC.new_zeros(ptr.size(0) - 1, x_SHC.size(1), x_SHC.size(2))
    if out_DHC.numel() == 0 or index.numel() == 0:
        return out_DHC
    scale = ptr.diff().clamp(min=1).to(acc).unsqueeze(1) if mean else None
    w_slots = None if w_EH is None else slot_values(w_EH, eid).to(acc)
    for h in range(x_SHC.size(1)):
        head = embedding_bag(
            index,
            x_SHC[:, h].to(acc).contiguous(),
            ptr,
            mode="sum",
            per_sample_weights=None if w_slots is None else w_slots[:, h].contiguous(),
            include_last_offset=True,
        )
        out_DHC[:, h] = head if scale is None else head / scale
    return out_DHC


@_spmm.register_fake
def _(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    x_SHC: Tensor,
    w_EH: Tensor | None,
    mean: bool,
) -> Tensor:
    return x_SHC.new_empty(ptr.size(0) - 1, x_SHC.size(1), x_SHC.size(2))


def _spmm_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ptr, idx, eid, tptr, tidx, teid, x_SHC, w_EH, mean = inputs
    ctx.mean = mean
    weight_needs_x = w_EH is not None and ctx.needs_input_grad[7]
    ctx.save_for_backward(ptr, idx, eid, tptr, tidx, teid, x_SHC if weight_needs_x else None, w_EH)


def _spmm_backward(ctx: Any, dy_DHC: Tensor) -> tuple[Tensor | None, ...]:
    ptr, idx, eid, tptr, tidx, teid, x_SHC, w_EH = ctx.saved_tensors
    if ctx.mean:
        dy_DHC = divide_rows(dy_DHC, ptr)
    dx_SHC = dw_EH = None
    if ctx.needs_input_grad[6]:
        if tptr is None:
            raise GraphError(missing_transpose("The gradient of spmm"))
        dx_SHC = torch.ops.graphkit.spmm(tptr, tidx, teid, ptr, idx, eid, dy_DHC, w_EH, False)
    if x_SHC is not None:
        dw_EH = torch.ops.graphkit.sddmm(ptr, idx, eid, tptr, tidx, teid, dy_DHC, x_SHC)
        dw_EH = dw_EH.to(w_EH.dtype)
    return None, None, None, None, None, None, dx_SHC, dw_EH, None


_spmm.register_autograd(_spmm_backward, setup_context=_spmm_setup)


@torch.library.custom_op("graphkit::spmm_extreme", mutates_args=())
def _spmm_extreme(
    ptr: Tensor, idx: Tensor, eid: Tensor | None, x_SHC: Tensor, w_EH: Tensor | None, minimum: bool
) -> Tensor:
    return extreme_of_rows(ptr, _messages(idx, eid, x_SHC, w_EH), minimum)


@_spmm_extreme.register_fake
def _(
    ptr: Tensor, idx: Tensor, eid: Tensor | None, x_SHC: Tensor, w_EH: Tensor | None, minimum: bool
) -> Tensor:
    return x_SHC.new_empty(ptr.size(0) - 1, x_SHC.size(1), x_SHC.size(2))


def _messages(idx: Tensor, eid: Tensor | None, x_SHC: Tensor, w_EH: Tensor | None) -> Tensor:
    messages = x_SHC.index_select(0, idx)
    if w_EH is None:
        return messages
    return messages * slot_values(w_EH, eid).to(x_SHC.dtype).unsqueeze(-1)


def extreme_of_rows(ptr: Tensor, values: Tensor, minimum: bool) -> Tensor:
    """The largest (smallest) value of each row's slots, nan if there is one; 0 for empty rows."""
    out = values.new_zeros(ptr.size(0) - 1, *values.shape[1:])
    if values.numel() == 0 or out.numel() == 0:
        return out
    rows = row_ids(ptr, values.size(0)).view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    kind = "amin" if minimum else "amax"
    return out.scatter_reduce_(0, rows, values, kind, include_self=False)


def share_among_equals(ptr: Tensor, values: Tensor, out: Tensor, dy: Tensor) -> Tensor:
    """The gradient of :func:`extreme_of_rows`: ``dy`` split evenly among a row's winners."""
    rows = row_ids(ptr, values.size(0))
    best = out.index_select(0, rows)
    won = ((values == best) | (values.isnan() & best.isnan())).to(accumulator(dy.dtype))
    at = rows.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    winners = won.new_zeros(out.shape).scatter_add(0, at, won).clamp(min=1)
    return ((dy / winners).index_select(0, rows) * won).to(dy.dtype)


def _extreme_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ptr, idx, eid, x_SHC, w_EH, _ = inputs
    ctx.save_for_backward(ptr, idx, eid, x_SHC, w_EH, output)


def _extreme_backward(ctx: Any, dy_DHC: Tensor) -> tuple[Tensor | None, ...]:
    ptr, idx, eid, x_SHC, w_EH, out_DHC = ctx.saved_tensors
    # which edges won is a constant: only dy and the other factor of a message are differentiated
    x_const, w_const = x_SHC.detach(), None if w_EH is None else w_EH.detach()
    messages = _messages(idx, eid, x_const, w_const)
    dm_EHC = share_among_equals(ptr, messages, out_DHC.detach(), dy_DHC)
    dx_SHC = dw_EH = None
    if ctx.needs_input_grad[3]:
        each = dm_EHC if w_EH is None else dm_EHC * slot_values(w_EH, eid).unsqueeze(-1)
        dx_SHC = torch.zeros_like(x_SHC).index_add(0, idx, each.to(x_SHC.dtype))
    if w_EH is not None and ctx.needs_input_grad[4]:
        each = (dm_EHC * x_SHC.index_select(0, idx)).sum(-1).to(w_EH.dtype)
        dw_EH = each if eid is None else torch.zeros_like(w_EH).index_copy(0, eid.long(), each)
    return None, None, None, dx_SHC, dw_EH, None


_spmm_extreme.register_autograd(_extreme_backward, setup_context=_extreme_setup)


def spmm(graph: Graph, x: Tensor, w: Tensor | None = None, *, reduce: Reduce = "sum") -> Tensor:
    """Messages ``w[e] * x[j]`` of all edges ``e = (j -> i)``, reduced at each destination ``i``.

    ``x``: ``[num_src, F]`` or ``[num_src, H, C]``. ``w``: None (all ones), ``[E]``, or ``[E, H]``
    with one weight for each head, in the caller's edge order. Returns ``[num_dst, F]`` or
    ``[num_dst, H, C]`` in the dtype of ``x``. ``mean`` divides by the number of edges, whatever
    their weights; destinations without edges get 0 under every ``reduce``.

    Gradients: with respect to ``x`` the same product on ``graph.t()``, with respect to ``w`` an
    :func:`sddmm`; both differentiable again. ``max`` and ``min`` split the gradient evenly among
    the edges that attain the value, as torch's own do. Cost: E x F reads. Deterministic on the CPU.

    Raises :class:`GraphError` for rows, shapes, dtypes or devices that do not fit the graph, and
    :class:`ConfigError` for an unknown ``reduce``.
    """
    check_reduce("spmm", reduce, _REDUCES)
    check_nodes("spmm", "x", x, graph, "source")
    if reduce in ("sum", "mean"):
        check_transpose("spmm", graph, x)
    x_SHC, w_EH = x, None
    if w is not None:
        check_edges("spmm", "w", w, graph)
        w_EH = _weights_by_head(x, w)
    if x.dim() == 2 or w_EH is None or w_EH.size(1) == 1:
        x_SHC = x.reshape(x.size(0), 1, x.shape[1:].numel())
    if reduce in ("sum", "mean"):
        out = torch.ops.graphkit.spmm(*graph.parts(), x_SHC, w_EH, reduce == "mean")
    else:
        fwd = graph.by_dst
        out = torch.ops.graphkit.spmm_extreme(
            fwd.indptr, fwd.indices, fwd.eid, x_SHC, w_EH, reduce == "min"
        )
    return out.reshape(graph.num_dst, *x.shape[1:])


def _weights_by_head(x: Tensor, w: Tensor) -> Tensor:
    heads = x.size(1) if x.dim() == 3 else 1
    w_EH = w.unsqueeze(1) if w.dim() == 1 else w
    if w_EH.dim() != 2 or w_EH.size(1) not in (1, heads):
        raise GraphError(
            f"spmm: w has shape {list(w.shape)}, but [E] or [E, {heads}] is expected for x of "
            f"shape {list(x.shape)}. Weights for each head need x as [N, heads, channels]."
        )
    return w_EH.to(x.dtype)
