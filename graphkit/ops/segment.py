"""Between nodes and edges: gather, and reductions and softmax inside each row.

Shapes: R rows, E slots or edges, K values of each. Inside the ops values are ``[E, K]``.
"""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, nearest
from ..graph import Csr, Graph, check_indptr, row_ids
from .check import check_nodes, check_reduce, check_transpose, check_values
from .spmm import Reduce, accumulator, divide_rows, extreme_of_rows, share_among_equals, slot_values

_REDUCES = ("sum", "mean", "max", "min")


def _to_edges(values_EK: Tensor, eid: Tensor | None) -> Tensor:
    if eid is None:
        return values_EK
    out_EK = values_EK.new_empty(values_EK.shape)
    return out_EK.index_copy_(0, eid.to(torch.int64), values_EK)


def gather_reference(ptr: Tensor, eid: Tensor | None, x_RK: Tensor, num_edges: int) -> Tensor:
    return _to_edges(x_RK.index_select(0, row_ids(ptr, num_edges)), eid)


gather_op = torch.library.custom_op("graphkit::gather", gather_reference, mutates_args=())


@gather_op.register_fake
def _(ptr: Tensor, eid: Tensor | None, x_RK: Tensor, num_edges: int) -> Tensor:
    return x_RK.new_empty(num_edges, x_RK.size(1))


def _gather_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])


def _gather_backward(ctx: Any, dout_EK: Tensor) -> tuple[Tensor | None, ...]:
    ptr, eid = ctx.saved_tensors
    return None, None, torch.ops.graphkit.segment_reduce(ptr, eid, dout_EK, False), None


gather_op.register_autograd(_gather_backward, setup_context=_gather_setup)


def segment_reduce_reference(ptr: Tensor, eid: Tensor | None, v_EK: Tensor, mean: bool) -> Tensor:
    check_indptr(ptr, v_EK.size(0))
    acc = accumulator(v_EK.dtype)
    rows = row_ids(ptr, v_EK.size(0)).unsqueeze(1).expand(-1, v_EK.size(1))
    out = torch.zeros(ptr.size(0) - 1, v_EK.size(1), dtype=acc, device=v_EK.device)
    out.scatter_add_(0, rows, slot_values(v_EK, eid).to(acc))
    if mean:
        out /= ptr.diff().clamp(min=1).unsqueeze(1)
    return out.to(v_EK.dtype)


segment_reduce_op = torch.library.custom_op(
    "graphkit::segment_reduce", segment_reduce_reference, mutates_args=()
)


@segment_reduce_op.register_fake
def _(ptr: Tensor, eid: Tensor | None, v_EK: Tensor, mean: bool) -> Tensor:
    return v_EK.new_empty(ptr.size(0) - 1, v_EK.size(1))


def _reduce_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ptr, eid, v_EK, ctx.mean = inputs
    ctx.num_edges = v_EK.size(0)
    ctx.save_for_backward(ptr, eid)


def _reduce_backward(ctx: Any, dy_RK: Tensor) -> tuple[Tensor | None, ...]:
    ptr, eid = ctx.saved_tensors
    if ctx.mean:
        dy_RK = divide_rows(dy_RK, ptr)
    return None, None, torch.ops.graphkit.gather(ptr, eid, dy_RK, ctx.num_edges), None


segment_reduce_op.register_autograd(_reduce_backward, setup_context=_reduce_setup)


def segment_extreme_reference(
    ptr: Tensor, eid: Tensor | None, v_EK: Tensor, minimum: bool
) -> Tensor:
    check_indptr(ptr, v_EK.size(0))
    return extreme_of_rows(ptr, slot_values(v_EK, eid), minimum)


segment_extreme_op = torch.library.custom_op(
    "graphkit::segment_extreme", segment_extreme_reference, mutates_args=()
)


@segment_extreme_op.register_fake
def _(ptr: Tensor, eid: Tensor | None, v_EK: Tensor, minimum: bool) -> Tensor:
    return v_EK.new_empty(ptr.size(0) - 1, v_EK.size(1))


def _extreme_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ptr, eid, v_EK, _ = inputs
    ctx.save_for_backward(ptr, eid, v_EK, output)


def _extreme_backward(ctx: Any, dy_RK: Tensor) -> tuple[Tensor | None, ...]:
    ptr, eid, v_EK, out_RK = ctx.saved_tensors
    # which values won is a constant
    dv_EK = torch.ops.graphkit.segment_share(ptr, eid, v_EK.detach(), out_RK.detach(), dy_RK)
    return None, None, dv_EK, None


segment_extreme_op.register_autograd(_extreme_backward, setup_context=_extreme_setup)


def segment_share_reference(
    ptr: Tensor, eid: Tensor | None, v_EK: Tensor, best_RK: Tensor, x_RK: Tensor
) -> Tensor:
    check_indptr(ptr, v_EK.size(0))
    return _to_edges(share_among_equals(ptr, slot_values(v_EK, eid), best_RK, x_RK), eid)


segment_share_op = torch.library.custom_op(
    "graphkit::segment_share", segment_share_reference, mutates_args=()
)
"""``x`` of each row, split evenly among the row's values that equal ``best``; 0 for the others."""


@segment_share_op.register_fake
def _(ptr: Tensor, eid: Tensor | None, v_EK: Tensor, best_RK: Tensor, x_RK: Tensor) -> Tensor:
    return x_RK.new_empty(v_EK.shape)


def _share_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _share_backward(ctx: Any, dout_EK: Tensor) -> tuple[Tensor | None, ...]:
    ptr, eid, v_EK, best_RK, x_RK = ctx.saved_tensors
    ones = torch.ones_like(x_RK)
    each = torch.ops.graphkit.segment_share(ptr, eid, v_EK, best_RK, ones)
    dx_RK = torch.ops.graphkit.segment_reduce(ptr, eid, each * dout_EK, False)
    return None, None, None, None, dx_RK


segment_share_op.register_autograd(_share_backward, setup_context=_share_setup)


def segment_softmax_reference(ptr: Tensor, eid: Tensor | None, v_EK: Tensor) -> Tensor:
    check_indptr(ptr, v_EK.size(0))
    if v_EK.numel() == 0:
        return v_EK.new_empty(v_EK.shape)
    v = slot_values(v_EK, eid).to(accumulator(v_EK.dtype))
    rows = row_ids(ptr, v.size(0))
    top = extreme_of_rows(ptr, v, False)
    # a row of -inf only has no largest finite value to subtract; its softmax is 0 everywhere
    top = top.masked_fill(top == -torch.inf, 0)
    exp = (v - top[rows]).exp()
    total = torch.zeros_like(top).scatter_add_(0, rows.unsqueeze(1).expand_as(exp), exp)
    y = exp / total.clamp(min=torch.finfo(v.dtype).tiny)[rows]
    return _to_edges(y.to(v_EK.dtype).contiguous(), eid)


segment_softmax_op = torch.library.custom_op(
    "graphkit::segment_softmax", segment_softmax_reference, mutates_args=()
)


@segment_softmax_op.register_fake
def _(ptr: Tensor, eid: Tensor | None, v_EK: Tensor) -> Tensor:
    return v_EK.new_empty(v_EK.shape)


def _softmax_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1], output)


def _softmax_backward(ctx: Any, dy_EK: Tensor) -> tuple[Tensor | None, ...]:
    ptr, eid, y_EK = ctx.saved_tensors
    return None, None, torch.ops.graphkit.segment_softmax_backward(ptr, eid, y_EK, dy_EK)


segment_softmax_op.register_autograd(_softmax_backward, setup_context=_softmax_setup)


def segment_softmax_backward_reference(
    ptr: Tensor, eid: Tensor | None, y_EK: Tensor, dy_EK: Tensor
) -> Tensor:
    y, dy = (t.to(accumulator(y_EK.dtype)) for t in (y_EK, dy_EK))
    dot_RK = segment_reduce_reference(ptr, eid, y * dy, False)
    dv = y * (dy - gather_reference(ptr, eid, dot_RK, y_EK.size(0)))
    return dv.to(y_EK.dtype).contiguous()


segment_softmax_backward_op = torch.library.custom_op(
    "graphkit::segment_softmax_backward", segment_softmax_backward_reference, mutates_args=()
)
"""``y * (dy - sum of y * dy over the row)``."""


@segment_softmax_backward_op.register_fake
def _(ptr: Tensor, eid: Tensor | None, y_EK: Tensor, dy_EK: Tensor) -> Tensor:
    return y_EK.new_empty(y_EK.shape)


def _twice_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _twice_backward(ctx: Any, g_EK: Tensor) -> tuple[Tensor | None, ...]:
    ptr, eid, y_EK, dy_EK = ctx.saved_tensors

    def dot(a_EK: Tensor, b_EK: Tensor) -> Tensor:
        dot_RK = torch.ops.graphkit.segment_reduce(ptr, eid, a_EK * b_EK, False)
        return torch.ops.graphkit.gather(ptr, eid, dot_RK, y_EK.size(0))

    of_y = g_EK * (dy_EK - dot(y_EK, dy_EK)) - dy_EK * dot(y_EK, g_EK)
    # in dy the formula is linear, and its own adjoint
    of_dy = torch.ops.graphkit.segment_softmax_backward(ptr, eid, y_EK, g_EK)
    return None, None, of_y, of_dy


segment_softmax_backward_op.register_autograd(_twice_backward, setup_context=_twice_setup)


def gather(graph: Graph, x: Tensor, side: Literal["src", "dst"]) -> Tensor:
    """``x`` of the source (or destination) of every edge, in the caller's edge order.

    ``x``: ``[num_src, F]`` or ``[num_src, H, C]`` (``num_dst`` for ``side="dst"``). Returns
    ``[E, F]`` or ``[E, H, C]``. Gradient: :func:`segment_reduce` with ``sum``. Deterministic.

    Raises :class:`GraphError` for rows, shapes, dtypes or devices that do not fit, and
    :class:`ConfigError` for an unknown ``side``.
    """
    if side not in ("src", "dst"):
        raise ConfigError(f"gather: unknown side {side!r}. {nearest(str(side), ('src', 'dst'))}")
    check_nodes("gather", "x", x, graph, "source" if side == "src" else "destination")
    if side == "src":
        check_transpose("gather", graph, x)
    rows = graph.by_dst if side == "dst" else graph.by_src
    if rows is None:
        return _to_edges(x.index_select(0, graph.by_dst.indices), graph.by_dst.eid)
    x_RK = x.reshape(x.size(0), x.shape[1:].numel())
    out = torch.ops.graphkit.gather(rows.indptr, rows.eid, x_RK, graph.num_edges)
    return out.reshape(graph.num_edges, *x.shape[1:])


def segment_reduce(values: Tensor, rows: Csr | Tensor, reduce: Reduce = "sum") -> Tensor:
    """``values`` reduced inside each row.

    ``values``: ``[E, ...]``. ``rows``: a :class:`Csr` (``graph.by_dst`` reduces edge values, in the
    caller's order, at their destinations) or offsets ``ptr [R + 1]`` into ``values`` (pooling of
    PyG's batches). Returns ``[R, ...]``; rows without values get 0.

    Gradient: :func:`gather`; ``max`` and ``min`` split it evenly among the values that attain it.
    Accumulates in float32 (float64 for float64). Deterministic on the CPU, and on GPUs where triton
    is installed.

    Raises :class:`GraphError` if values and rows do not fit, :class:`ConfigError` for an unknown
    ``reduce``.
    """
    check_reduce("segment_reduce", reduce, _REDUCES)
    ptr, eid = _rows_of("segment_reduce", values, rows)
    flat = values.reshape(values.size(0), values.shape[1:].numel())
    if reduce in ("sum", "mean"):
        out = torch.ops.graphkit.segment_reduce(ptr, eid, flat, reduce == "mean")
    else:
        out = torch.ops.graphkit.segment_extreme(ptr, eid, flat, reduce == "min")
    return out.reshape(ptr.size(0) - 1, *values.shape[1:])


def segment_softmax(values: Tensor, rows: Csr | Tensor) -> Tensor:
    """``exp(v[e]) / sum of exp(v) over the row of e``, shaped and ordered like ``values [E, ...]``.

    ``rows`` as in :func:`segment_reduce`. The largest value of each row is subtracted first; a row
    that holds only -inf gives 0. Differentiable twice. Deterministic on the CPU, and on GPUs where
    triton is installed.

    Raises :class:`GraphError` if values and rows do not fit.
    """
    ptr, eid = _rows_of("segment_softmax", values, rows)
    flat = values.reshape(values.size(0), values.shape[1:].numel())
    return torch.ops.graphkit.segment_softmax(ptr, eid, flat).reshape(values.shape)


def _rows_of(op: str, values: Tensor, rows: Csr | Tensor) -> tuple[Tensor, Tensor | None]:
    if isinstance(rows, Csr):
        ptr, eid, expected = rows.indptr, rows.eid, rows.num_edges
    elif not isinstance(rows, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(
            f"{op}: rows is a {type(rows).__name__}, but a Csr such as graph.by_dst or offsets "
            "[rows + 1] are expected."
        )
    else:
        ptr, eid, expected = rows, None, None
        if ptr.dim() != 1 or ptr.dtype not in (torch.int64, torch.int32) or ptr.numel() == 0:
            raise GraphError(
                f"{op}: rows is {ptr.dtype} of shape {list(ptr.shape)}, but offsets [rows + 1] of "
                "dtype int64 or a Csr such as graph.by_dst is expected."
            )
    check_values(op, "values", values, ptr.device)
    if values.dim() == 0 or (expected is not None and values.size(0) != expected):
        raise GraphError(
            f"{op}: values has shape {list(values.shape)}, but the rows hold {expected} edges. "
            "It needs one row for each column of edge_index, in the same order."
        )
    return ptr.to(torch.int64), eid
