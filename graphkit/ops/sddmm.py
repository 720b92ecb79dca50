"""Products of the two ends of every edge: sampled dense-dense matrix product.

Shapes: D destinations, S sources, E edges, H heads, C channels.
"""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import GraphError
from ..graph import Graph, row_ids
from .check import check_nodes, check_transpose

_CHUNK = 2**22
"""Elements of the reference's temporaries: 16 MB in float32."""


def sddmm_reference(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    a_DHC: Tensor,
    b_SHC: Tensor,
) -> Tensor:
    acc = torch.float64 if a_DHC.dtype == torch.float64 else torch.float32
    rows = row_ids(ptr, idx.size(0))
    out_EH = a_DHC.new_empty(idx.size(0), a_DHC.size(1))
    # a chunk at a time, so that no [E, H, C] array is ever alive
    step = max(1, _CHUNK // max(1, a_DHC.size(1) * a_DHC.size(2)))
    for at in range(0, idx.size(0), step):
        chunk = slice(at, at + step)
        a_chunk = a_DHC.index_select(0, rows[chunk]).to(acc)
        b_chunk = b_SHC.index_select(0, idx[chunk]).to(acc)
        out_EH[chunk] = (a_chunk * b_chunk).sum(-1)
    return out_EH if eid is None else torch.empty_like(out_EH).index_copy_(0, eid.long(), out_EH)


sddmm_op = torch.library.custom_op("graphkit::sddmm", sddmm_reference, mutates_args=())


@sddmm_op.register_fake
def _(
    ptr: Tensor,
    idx: Tensor,
    eid: Tensor | None,
    tptr: Tensor | None,
    tidx: Tensor | None,
    teid: Tensor | None,
    a_DHC: Tensor,
    b_SHC: Tensor,
) -> Tensor:
    return a_DHC.new_empty(idx.size(0), a_DHC.size(1))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *arrays, a_DHC, b_SHC = inputs
    keep_a = a_DHC if ctx.needs_input_grad[7] else None
    keep_b = b_SHC if ctx.needs_input_grad[6] else None
    ctx.save_for_backward(*arrays, keep_a, keep_b)


def _backward(ctx: Any, dout_EH: Tensor) -> tuple[Tensor | None, ...]:
    ptr, idx, eid, tptr, tidx, teid, a_DHC, b_SHC = ctx.saved_tensors
    fwd, bwd = (ptr, idx, eid), (tptr, tidx, teid)
    da = db = None
    if b_SHC is not None:
        da = torch.ops.graphkit.spmm(*fwd, *bwd, b_SHC, dout_EH, False)
    if a_DHC is not None:
        db = torch.ops.graphkit.spmm(*bwd, *fwd, a_DHC, dout_EH, False)
    return None, None, None, None, None, None, da, db


sddmm_op.register_autograd(_backward, setup_context=_setup)


def sddmm(graph: Graph, a: Tensor, b: Tensor) -> Tensor:
    """``out[e] = <a[i], b[j]>`` for every edge ``e = (j -> i)``, in the caller's edge order.

    ``a``: ``[num_dst, F]`` or ``[num_dst, H, C]``; ``b``: ``[num_src, F]`` or ``[num_src, H, C]``.
    Returns ``[E]``, or ``[E, H]`` with one product for each head, in the dtype of ``a``.

    Gradients: two :func:`spmm`, differentiable again. Cost: 2 E x F reads. Deterministic.

    Raises :class:`GraphError` for rows, shapes, dtypes or devices that do not fit.
    """
    check_nodes("sddmm", "a", a, graph, "destination")
    check_nodes("sddmm", "b", b, graph, "source")
    if a.shape[1:] != b.shape[1:] or a.dtype != b.dtype:
        raise GraphError(
            f"sddmm: a is {a.dtype} with rows of shape {list(a.shape[1:])} and b is {b.dtype} with "
            f"{list(b.shape[1:])}, but their rows must agree to be multiplied."
        )
    check_transpose("sddmm", graph, b)
    if a.dim() == 3:
        return torch.ops.graphkit.sddmm(*graph.parts(), a, b)
    return torch.ops.graphkit.sddmm(*graph.parts(), a.unsqueeze(1), b.unsqueeze(1)).squeeze(1)
