"""Rayleigh quotients: how much each feature changes along the edges of each graph of a batch."""

# torch annotates its autograd functions with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, nearest
from ..graph import Adj, Graph, as_graph, batch_offsets, has_values, row_ids
from ..ops import gather, loops, segment_reduce, spmm
from ..ops.check import check_edges, check_nodes, check_transpose
from .normalize import inverse_root, self_loop_mask, weighted_in_degree

RayleighMode = Literal["quotient", "energy"]
RAYLEIGH_MODES = ("quotient", "energy")

_CHUNK = 2**20
"""Numbers of edges and features that are alive at once: 4 MB in float32."""


def rayleigh_quotient(
    x: Tensor,
    edge_index: Adj,
    batch: Tensor | None = None,
    mode: RayleighMode = "quotient",
    *,
    ptr: Tensor | None = None,
    edge_weight: Tensor | None = None,
) -> Tensor:
    r"""How much each column of ``x`` changes along the edges of each graph, ``[B, F]``.

    .. math::
        R(L, x) = \frac{x^\top L x}{x^\top x}, \qquad x^\top L x = \frac12 \sum_{(u, v) \in E}
        w_{uv} \Big( \frac{x_u}{\sqrt{d_u}} - \frac{x_v}{\sqrt{d_v}} \Big)^2

    with the normalised Laplacian :math:`L = I - D^{-1/2} A D^{-1/2}`: from 0, for :math:`\sqrt d`
    on every component, to 2, for alternating signs on a bipartite one. It is the area above the
    curve of the energy of ``x`` accumulated over the eigenvalues of L; `Rayleigh quotient graph
    neural networks for graph-level anomaly detection <https://arxiv.org/abs/2310.02861>`_.

    Args:
        x: ``[N, F]``, floating-point, or whole numbers such as one-hot columns, which are taken as
            floats of torch's default dtype.
        edge_index: undirected: ``[2, E]`` or Graph with both directions of each edge, or one of
            each. Of a directed graph the Laplacian of :math:`(A + A^\top) / 2` is meant, which
            for these two is the same.
        batch: number of each node's graph, ``[N]``, rising; one graph if neither it nor ``ptr`` is
            given.
        mode: ``quotient``, or ``energy`` for :math:`x^\top L x` alone, which grows with the graph
            and is what the official code computes.
        ptr: where the nodes of each graph begin, ``[B + 1]``, in place of ``batch``.
        edge_weight: ``[E]``, at least 0.

    Self-loops are left out. A node without edges adds nothing to the energy: its entry on the
    diagonal of L is 0, as in SciPy and so in the official code, where PyG's ``get_laplacian`` has
    1. A column of zeros has the quotient 0, and so has a graph without nodes.

    The sum runs over edges, a chunk at a time, so that memory is that of ``x``. The same value as a
    sum over nodes of :math:`x_u (x_u - (\hat A x)_u)` costs one product and less time, but is off
    by a rounding of :math:`x^\top x` where values near 0 are what matters, and may be negative;
    squared differences are not, and are exact to the rounding of themselves. The gradient in ``x``
    is that product. Differentiable in ``x`` (twice) and in ``edge_weight``. Sums are in float32
    (float64 for float64). Deterministic.

    Raises :class:`GraphError` for rows, shapes and devices that do not fit, two kinds of nodes, an
    edge from one graph to another, and gradients or weights on a graph built with
    ``transpose=False``; :class:`ConfigError` for an unknown ``mode``.
    """
    name = "rayleigh_quotient"
    if mode not in RAYLEIGH_MODES:
        raise ConfigError(f"{name}: unknown mode {mode!r}. {nearest(str(mode), RAYLEIGH_MODES)}")
    # isinstance guards against arrays, which callers do pass whatever the annotation
    if isinstance(x, Tensor) and not (x.is_floating_point() or x.is_complex()):  # pyright: ignore[reportUnnecessaryIsInstance]
        x = x.to(torch.get_default_dtype())
    rows = x.size(0) if isinstance(x, Tensor) and x.dim() == 2 else -1  # pyright: ignore[reportUnnecessaryIsInstance]
    if rows < 0:
        shape = list(getattr(x, "shape", []))
        raise GraphError(f"{name}: x has shape {shape}, but a tensor [N, F] is expected.")
    graph = as_graph(edge_index, rows, rows, transpose=True)
    check_nodes(name, "x", x, graph, "source")
    check_transpose(name, graph, x)
    ptr = batch_offsets(name, rows, batch, ptr, graph.device)
    if has_values(ptr) and ptr.size(0) > 2:
        _check_apart(graph, ptr)
    dtype = torch.promote_types(x.dtype, torch.float32)
    value = x.to(dtype)
    if edge_weight is not None:
        check_edges(name, "edge_weight", edge_weight, graph)
        edge_weight = edge_weight.reshape(-1).to(dtype)
    energy = _energy(graph, value, ptr, edge_weight)
    if mode == "energy":
        return energy.to(x.dtype)
    size = segment_reduce(value.square(), ptr)
    # not size > 0: what is nan stays so
    empty = size == 0
    return torch.where(empty, 0, energy / torch.where(empty, 1, size)).to(x.dtype)


def _check_apart(graph: Graph, ptr: Tensor) -> None:
    number = row_ids(ptr, graph.num_dst)
    rows = graph.by_dst.row_ids()
    astray = number[rows] != number[graph.by_dst.indices]
    if bool(astray.any()):
        slot = int(astray.nonzero()[0])
        ends = int(graph.by_dst.indices[slot]), int(rows[slot])
        raise GraphError(
            f"rayleigh_quotient: the edge from node {ends[0]} to {ends[1]} leads from graph "
            f"{int(number[ends[0]])} to {int(number[ends[1]])}, but graphs of a batch are apart. "
            "Correct batch or ptr."
        )


def _energy(graph: Graph, x: Tensor, ptr: Tensor, w: Tensor | None) -> Tensor:
    """The quadratic form of each column and graph, ``[B, F]``."""
    own = None
    if w is None:
        # a loop is in both degrees
        own = loops.count_self_loops(graph.by_dst).to(x.dtype)
        degree = (graph.in_degree() + graph.out_degree()).to(x.dtype) - 2 * own
    else:
        w = torch.where(self_loop_mask(graph), 0, w)
        degree = weighted_in_degree(graph, w, x.dtype) + weighted_in_degree(graph.t(), w, x.dtype)
    scale = inverse_root(degree / 2)
    if not has_values(x) or (w is not None and w.requires_grad):
        z = x * scale.unsqueeze(1)
        change = (gather(graph, z, "dst") - gather(graph, z, "src")).square()
        change = change if w is None else change * w.unsqueeze(1)
        return segment_reduce(segment_reduce(change, graph.by_dst), ptr) / 2
    return cast(Tensor, _Energy.apply(x, graph, ptr, w, scale, own))


class _Energy(torch.autograd.Function):
    """The sum over edges; its gradient is a product with the Laplacian."""

    @staticmethod
    def forward(
        x: Tensor, graph: Graph, ptr: Tensor, w: Tensor | None, scale: Tensor, own: Tensor | None
    ) -> Tensor:
        return _of_edges(graph, x * scale.unsqueeze(1), ptr, w) / 2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.graph, ptr, w, scale, own = inputs
        ctx.save_for_backward(x, ptr, w, scale, own)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (dy,) = grad_outputs
        x, ptr, w, scale, own = ctx.saved_tensors
        diagonal = None if own is None else -own
        near = sum(
            spmm(side, x, w, left=scale, right=scale, diagonal=diagonal)
            for side in (ctx.graph, ctx.graph.t())
        )
        lx = 2 * x * (scale > 0).unsqueeze(1) - near
        return lx * dy.index_select(0, row_ids(ptr, x.size(0))), None, None, None, None, None


def _of_edges(graph: Graph, z: Tensor, ptr: Tensor, w: Tensor | None) -> Tensor:
    """Squared differences of ``z`` along the edges of each graph, summed up: ``[B, F]``."""
    rows, eid = graph.by_dst.row_ids(), graph.by_dst.eid
    out = z.new_zeros(ptr.size(0) - 1, z.size(1))
    edge_ptr = graph.by_dst.indptr[ptr]
    step = max(1, _CHUNK // max(1, z.size(1)))
    begins = torch.arange(0, graph.num_edges, step, device=z.device)
    first = torch.searchsorted(edge_ptr, begins, right=True) - 1
    last = torch.searchsorted(edge_ptr, (begins + step).clamp(max=graph.num_edges))
    cuts = cast(list[list[int]], torch.stack([begins, first, last], 1).tolist())
    for begin, low, high in cuts:
        chunk = slice(begin, min(begin + step, graph.num_edges))
        change = z.index_select(0, rows[chunk])
        change.sub_(z.index_select(0, graph.by_dst.indices[chunk])).square_()
        if w is not None:
            edges = w[chunk] if eid is None else w.index_select(0, eid[chunk])
            change.mul_(edges.unsqueeze(1))
        of_chunk = edge_ptr[low : high + 1].clamp(chunk.start, chunk.stop) - begin
        out[low:high] += segment_reduce(change, of_chunk)
    return out
