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

from ..errors import ConfigError, GraphError
from ..graph import Graph, missing_transpose, row_ids
from .check import check_edges, check_nodes, check_reduce, check_transpose, check_values

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


def reciprocal_length(ptr: Tensor, dtype: torch.dtype) -> Tensor:
    """One over the length of each row, in the accumulator of ``dtype``; 1 for an empty row."""
    return ptr.diff().clamp_(min=1).to(accumulator(dtype)).reciprocal_()


def slot_values(w_EH: Tensor, eid: Tensor | None) -> Tensor:
    """Edge values from the caller's order to slot order."""
    return w_EH if eid is None else w_EH.index_select(0, eid)


def spmm_reference(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    x_SHC: Tensor,
    w_EH: Tensor | None,
    mean: bool,
    left: Tensor | None = None,
    right: Tensor | None = None,
    diagonal: Tensor | None = None,
) -> Tensor:
    # an embedding bag is this product without an [E, C] intermediate, one head at a time
    index = idx.to(torch.int64)
    acc = accumulator(x_SHC.dtype)
    x_acc = x_SHC.to(acc) if right is None else x_SHC.to(acc) * right.view(-1, 1, 1)
    out_DHC = x_acc.new_zeros(ptr.size(0) - 1, x_SHC.size(1), x_SHC.size(2))
    if out_DHC.numel() and index.numel():
        w_slots = None if w_EH is None else slot_values(w_EH, eid).to(acc)
        for h in range(x_SHC.size(1)):
            out_DHC[:, h] = embedding_bag(
                index,
                x_acc[:, h].contiguous(),
                ptr,
                mode="sum",
                per_sample_weights=None if w_slots is None else w_slots[:, h % w_slots.size(1)],
                include_last_offset=True,
            )
    if mean:
        out_DHC /= ptr.diff().clamp(min=1).to(acc).view(-1, 1, 1)
    if diagonal is not None:
        out_DHC += diagonal.view(-1, 1, 1) * x_acc
    if left is not None:
        out_DHC *= left.view(-1, 1, 1)
    return out_DHC.to(x_SHC.dtype)


spmm_op = torch.library.custom_op("graphkit::spmm", spmm_reference, mutates_args=())


@spmm_op.register_fake
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
    left: Tensor | None = None,
    right: Tensor | None = None,
    diagonal: Tensor | None = None,
) -> Tensor:
    return x_SHC.new_empty(ptr.size(0) - 1, x_SHC.size(1), x_SHC.size(2))


def _spmm_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *sides, x_SHC, w_EH, mean, left, right, diagonal = inputs
    ctx.mean = mean
    weight_needs_x = w_EH is not None and ctx.needs_input_grad[7]
    kept = x_SHC if weight_needs_x else None
    ctx.save_for_backward(*sides, kept, w_EH, left, right, diagonal)


def _spmm_backward(ctx: Any, dy_DHC: Tensor) -> tuple[Tensor | None, ...]:
    ptr, idx, eid, tptr, tidx, teid, x_SHC, w_EH, left, right, diagonal = ctx.saved_tensors
    if ctx.mean:
        left = reciprocal_length(ptr, dy_DHC.dtype)
    dx_SHC = dw_EH = None
    if ctx.needs_input_grad[6]:
        if tptr is None:
            raise GraphError(missing_transpose("The gradient of spmm"))
        dx_SHC = torch.ops.graphkit.spmm(
            tptr, tidx, teid, ptr, idx, eid, dy_DHC, w_EH, False, right, left, diagonal
        )
    if x_SHC is not None:
        a_DHC, b_SHC = _scaled(dy_DHC, left), _scaled(x_SHC, right)
        dw_EH = torch.ops.graphkit.sddmm(ptr, idx, eid, tptr, tidx, teid, a_DHC, b_SHC)
        dw_EH = dw_EH.to(w_EH.dtype)
    return None, None, None, None, None, None, dx_SHC, dw_EH, None, None, None, None


def _scaled(x_NHC: Tensor, scale: Tensor | None) -> Tensor:
    return x_NHC if scale is None else x_NHC * scale.view(-1, 1, 1).to(x_NHC.dtype)


spmm_op.register_autograd(_spmm_backward, setup_context=_spmm_setup)


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


def spmm(
    graph: Graph,
    x: Tensor,
    w: Tensor | None = None,
    *,
    reduce: Reduce = "sum",
    left: Tensor | None = None,
    right: Tensor | None = None,
    diagonal: Tensor | None = None,
) -> Tensor:
    """Messages ``w[e] * x[j]`` of all edges ``e = (j -> i)``, reduced at each destination ``i``.

    ``x``: ``[num_src, F]`` or ``[num_src, H, C]``. ``w``: None (all ones), ``[E]``, or ``[E, H]``
    with one weight for each head, in the caller's edge order. Returns ``[num_dst, F]`` or
    ``[num_dst, H, C]`` in the dtype of ``x``. ``mean`` divides by the number of edges, whatever
    their weights; destinations without edges get 0 under every ``reduce``.

    A normalised sum is one product, with neither weighted nor self-looped edges:
    ``left[i] * (sum of w[e] * right[j] * x[j], + diagonal[i] * right[i] * x[i])``, for ``left
    [num_dst]``, ``right [num_src]`` and, where there is one set of nodes, ``diagonal [num_dst]``,
    each left out where it is None.

    Gradients: with respect to ``x`` the same product on ``graph.t()``, with respect to ``w`` an
    :func:`sddmm`; both differentiable again. ``max`` and ``min`` split the gradient evenly among
    the edges that attain the value, as torch's own do. Cost: E x F reads. Deterministic on the CPU,
    and on GPUs where triton is installed.

    Raises :class:`GraphError` for rows, shapes, dtypes or devices that do not fit the graph, and
    :class:`ConfigError` for an unknown ``reduce``, or scales with another than ``sum``.
    """
    check_reduce("spmm", reduce, _REDUCES)
    check_nodes("spmm", "x", x, graph, "source")
    if reduce in ("sum", "mean"):
        check_transpose("spmm", graph, x)
    scales = {"left": left, "right": right, "diagonal": diagonal}
    if any(scale is not None for scale in scales.values()):
        _check_scales(graph, reduce, scales)
        if torch.is_grad_enabled() and any(
            scale is not None and scale.requires_grad for scale in scales.values()
        ):
            return _spmm_of_scales(graph, x, w, left, right, diagonal)
    x_SHC, w_EH = x, None
    if w is not None:
        check_edges("spmm", "w", w, graph)
        w_EH = _weights_by_head(x, w)
    if x.dim() == 2 or w_EH is None or w_EH.size(1) == 1:
        x_SHC = x.reshape(x.size(0), 1, x.shape[1:].numel())
    if reduce in ("sum", "mean"):
        given = (_accumulated(scale, x.dtype) for scale in scales.values())
        out = torch.ops.graphkit.spmm(*graph.parts(), x_SHC, w_EH, reduce == "mean", *given)
    else:
        keep = _keeps_winners(graph, x)
        out, _, _ = torch.ops.graphkit.spmm_extreme(
            *graph.parts(), x_SHC, w_EH, reduce == "min", keep
        )
    return out.reshape(graph.num_dst, *x.shape[1:])


def _keeps_winners(graph: Graph, x: Tensor) -> bool:
    """Whether ``max`` notes who won: for a gradient, and in no more memory than its result."""
    if not (torch.is_grad_enabled() and x.requires_grad) or graph.by_src is None:
        return False
    return graph.num_edges <= 8 * x.element_size() * graph.num_dst


def _check_scales(graph: Graph, reduce: Reduce, scales: dict[str, Tensor | None]) -> None:
    if reduce != "sum":
        raise ConfigError(
            f"spmm: scales of nodes need reduce='sum', but reduce is {reduce!r}. Leave left, right "
            "and diagonal out, or scale x and the result yourself."
        )
    for name, scale in scales.items():
        if scale is None:
            continue
        check_values("spmm", name, scale, graph.device)
        want = graph.num_src if name == "right" else graph.num_dst
        if scale.dim() != 1 or scale.size(0) != want:
            raise GraphError(
                f"spmm: {name} has shape {list(scale.shape)}, but [{want}] is expected, one number "
                f"for each {'source' if name == 'right' else 'destination'}."
            )
    if scales["diagonal"] is not None and graph.num_src != graph.num_dst:
        raise GraphError(
            f"spmm: diagonal needs one set of nodes, but the graph has {graph.num_src} sources and "
            f"{graph.num_dst} destinations. Add the term yourself."
        )


def _accumulated(scale: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if scale is None else scale.detach().to(accumulator(dtype)).contiguous()


def _spmm_of_scales(
    graph: Graph,
    x: Tensor,
    w: Tensor | None,
    left: Tensor | None,
    right: Tensor | None,
    diagonal: Tensor | None,
) -> Tensor:
    """The scaled sum by steps, for gradients with respect to the scales."""

    def scaled(value: Tensor, scale: Tensor | None) -> Tensor:
        if scale is None:
            return value
        return value * scale.view(-1, *[1] * (value.dim() - 1)).to(value.dtype)

    x = scaled(x, right)
    out = spmm(graph, x, w)
    out = out if diagonal is None else out + scaled(x, diagonal)
    return scaled(out, left)


def _weights_by_head(x: Tensor, w: Tensor) -> Tensor:
    heads = x.size(1) if x.dim() == 3 else 1
    w_EH = w.unsqueeze(1) if w.dim() == 1 else w
    if w_EH.dim() != 2 or w_EH.size(1) not in (1, heads):
        raise GraphError(
            f"spmm: w has shape {list(w.shape)}, but [E] or [E, {heads}] is expected for x of "
            f"shape {list(x.shape)}. Weights for each head need x as [N, heads, channels]."
        )
    return w_EH.to(x.dtype)
