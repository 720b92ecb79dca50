"""Attention over each destination's edges: scores, softmax and weighted sum in one op.

Shapes: D destinations, S sources, E edges, H heads, C channels, n = min(S, D) self-loops. Scores
are kept in the accumulator's dtype: float32, float64 for float64.
"""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, pad

from ..errors import ConfigError, GraphError
from ..graph import Csr, Graph, missing_transpose
from .check import check_nodes, check_transpose, check_values
from .random import draw_seed, keep_below, random_bits
from .sddmm import sddmm
from .segment import gather, segment_reduce
from .spmm import accumulator

_SCHEMA = (
    "Tensor ptr, Tensor idx, Tensor? eid, Tensor? tptr, Tensor? tidx, Tensor? teid, Tensor h, "
    "Tensor? src, Tensor? dst, Tensor? edge, Tensor? loop, Tensor? right, Tensor? att, bool loops, "
    "float slope, float p, Tensor? seed"
)
_FIRST, _LAST = 6, 13
"""Where the inputs that have gradients begin and end."""


class Inputs(NamedTuple):
    """What the op is called with.

    GAT scores an edge by ``src [S, H] + dst [D, H] + edge [E, H]`` under a LeakyReLU, GATv2 by
    ``att [H, C]`` times the LeakyReLU of ``h + right [D, H, C]``. With ``loops``, ``loop [n, H]``
    is what ``edge`` is for the self-loops. ``seed`` is given where there is dropout.
    """

    ptr: Tensor
    idx: Tensor
    eid: Tensor | None
    tptr: Tensor | None
    tidx: Tensor | None
    teid: Tensor | None
    h: Tensor
    src: Tensor | None
    dst: Tensor | None
    edge: Tensor | None
    loop: Tensor | None
    right: Tensor | None
    att: Tensor | None
    loops: bool
    slope: float
    p: float
    seed: Tensor | None

    @property
    def graph(self) -> Graph:
        by_src = None
        if self.tptr is not None and self.tidx is not None:
            by_src = Csr(self.tptr, self.tidx, self.teid)
        by_dst = Csr(self.ptr, self.idx, self.eid)
        return Graph(by_dst, by_src, self.ptr.size(0) - 1, self.h.size(0))

    @property
    def num_loops(self) -> int:
        return min(self.h.size(0), self.ptr.size(0) - 1) if self.loops else 0


def softmax_with_loop(
    graph: Graph, score: Tensor, loop: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Softmax of ``score [E, H]`` over each destination's edges.

    If ``loop [n, H]`` is given it is one more term of the first ``n`` destinations, and the graph's
    own self-loops count for nothing. Returns the softmax of edges and of loops, and of each
    destination the largest score and the sum of exponentials less that score.
    """
    if loop is not None:
        score = score.masked_fill(_own_loops(graph).unsqueeze(1), -torch.inf)
    with torch.no_grad():
        top = segment_reduce(score, graph.by_dst, "max")
        # a row without edges comes out as 0, which is no bound on the loop's score
        top = top.masked_fill((graph.in_degree() == 0).unsqueeze(1), -torch.inf)
        if loop is not None:
            top = torch.cat([torch.maximum(top[: loop.size(0)], loop), top[loop.size(0) :]])
        top = top.masked_fill(top == -torch.inf, 0)
    term = (score - gather(graph, top, "dst")).exp()
    own = None if loop is None else (loop - top[: loop.size(0)]).exp()
    total = _plus(segment_reduce(term, graph.by_dst), own)
    least = total.clamp(min=torch.finfo(total.dtype).tiny)
    own = None if own is None else own / least[: own.size(0)]
    return term / gather(graph, least, "dst"), own, top, total


def _own_loops(graph: Graph) -> Tensor:
    """Which edges lead from a node to itself, bool ``[E]`` in the caller's edge order."""
    loops = graph.by_dst.indices == graph.by_dst.row_ids()
    eid = graph.by_dst.eid
    return loops if eid is None else torch.empty_like(loops).index_copy(0, eid.long(), loops)


def _plus(values: Tensor, first: Tensor | None) -> Tensor:
    """``values`` with ``first`` added to its first rows."""
    if first is None:
        return values
    return values + pad(first, [0, 0] * (first.dim() - 1) + [0, values.size(0) - first.size(0)])


def _weights(given: Inputs, alpha: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Attention after dropout: what an edge keeps is a function of its number, head and seed."""
    if given.seed is None:
        return alpha, own
    num_edges, heads = alpha.shape
    counter = torch.arange((num_edges + given.num_loops) * heads, device=alpha.device)
    kept = random_bits(given.seed, counter) < keep_below(given.p)
    scale = 1 / (1 - given.p) if given.p < 1 else 0.0
    factor = (kept.to(alpha.dtype) * scale).view(-1, heads)
    return alpha * factor[:num_edges], None if own is None else own * factor[num_edges:]


def _scores(given: Inputs) -> tuple[Tensor, Tensor | None]:
    """What stands under the LeakyReLU, of edges and loops: ``[E, H]``, GATv2's ``[E, H, C]``."""
    graph, n, src, dst = given.graph, given.num_loops, given.src, given.dst
    if given.right is not None:
        acc = accumulator(given.h.dtype)
        src, dst = given.h.to(acc), given.right.to(acc)
    assert src is not None, "GAT has scores of sources, GATv2 has right"
    score, own = gather(graph, src, "src"), src[:n]
    if dst is not None:
        score, own = score + gather(graph, dst, "dst"), own + dst[:n]
    score = score if given.edge is None else score + given.edge
    own = own if given.loop is None else own + given.loop
    return score, own if given.loops else None


def _final(given: Inputs, score: Tensor) -> Tensor:
    """The scores that the softmax is taken of."""
    score = leaky_relu(score, given.slope)
    return score if given.att is None else (score * given.att).sum(-1)


def _final_scores(given: Inputs) -> tuple[Tensor, Tensor | None]:
    score, own = _scores(given)
    return _final(given, score), None if own is None else _final(given, own)


def _attend(given: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """What the op returns, in steps that are differentiable as often as one likes."""
    graph = given.graph
    alpha, own, top, total = softmax_with_loop(graph, *_final_scores(given))
    alpha, own = _weights(given, alpha, own)
    h = given.h.to(alpha.dtype)
    own = None if own is None else own.unsqueeze(-1) * h[: own.size(0)]
    # not the public function, whose result may be a view: layers write into this one
    out = torch.ops.graphkit.spmm(*graph.parts(), h, alpha, False)
    return _plus(out, own).to(given.h.dtype), top, total


def attention_reference(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _attend(Inputs(*inputs))


attention_op = torch.library.custom_op(
    "graphkit::attention",
    attention_reference,
    mutates_args=(),
    schema=f"({_SCHEMA}) -> (Tensor, Tensor, Tensor)",
)


@attention_op.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    given = Inputs(*inputs)
    rows, heads, channels = given.ptr.size(0) - 1, given.h.size(1), given.h.size(2)
    top = given.h.new_empty(rows, heads, dtype=accumulator(given.h.dtype))
    return given.h.new_empty(rows, heads, channels), top, torch.empty_like(top)


def score_gradients(
    given: Inputs, top: Tensor, total: Tensor, dy: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The gradients of the final scores of edges and loops, and of ``h`` as what is summed up."""
    graph, n = given.graph, given.num_loops
    score, own = _final_scores(given)
    h = given.h.to(score.dtype)
    scale = torch.where(total == 0, 0, 1 / total)
    alpha = (score - gather(graph, top, "dst")).exp() * gather(graph, scale, "dst")
    own_dot = d_loop = None
    if own is not None:
        alpha = alpha.masked_fill(_own_loops(graph).unsqueeze(1), 0)
        own = (own - top[:n]).exp() * scale[:n]
        own_dot = (dy[:n] * h[:n]).sum(-1)
    weight, own_weight = _weights(given, alpha, own)
    pull = weight * sddmm(graph, dy, h)
    delta = segment_reduce(pull, graph.by_dst)
    dh = torch.ops.graphkit.spmm(*graph.t().parts(), dy, weight, False)
    if own is not None and own_weight is not None and own_dot is not None:
        d_loop = own_weight * own_dot
        delta = _plus(delta, d_loop)
        d_loop = d_loop - own * delta[:n]
        dh = _plus(dh, own_weight.unsqueeze(-1) * dy[:n])
    return pull - alpha * gather(graph, delta, "dst"), d_loop, dh


def attention_backward_reference(*inputs: Any) -> list[Tensor]:
    *first, top, total, dy = inputs
    given = Inputs(*first)
    d_edge, d_loop, dh = score_gradients(given, top, total, dy.to(top.dtype))
    score, own = _scores(given)
    d_att = d_right = None
    if given.att is not None:
        d_edge = d_edge.unsqueeze(-1)
        d_att = (d_edge * leaky_relu(score, given.slope)).sum(0)
        if own is not None and d_loop is not None:
            d_loop = d_loop.unsqueeze(-1)
            d_att += (d_loop * leaky_relu(own, given.slope)).sum(0)
            d_loop = d_loop * given.att
        d_edge = d_edge * given.att
    d_edge = torch.where(score > 0, d_edge, d_edge * given.slope)
    if own is not None and d_loop is not None:
        d_loop = torch.where(own > 0, d_loop, d_loop * given.slope)
    d_src = _plus(segment_reduce(d_edge, given.graph.t().by_dst), d_loop)
    d_dst = _plus(segment_reduce(d_edge, given.graph.by_dst), d_loop)
    if given.att is not None:
        dh, d_src, d_right = dh + d_src, None, d_dst
    found = (dh, d_src, d_dst, d_edge, d_loop, d_right, d_att)
    # what the caller left out has no gradient, and an op returns tensors only
    return [
        top.new_empty(0) if old is None or new is None else new.to(old.dtype)
        for old, new in zip(first[_FIRST:_LAST], found, strict=True)
    ]


attention_backward_op = torch.library.custom_op(
    "graphkit::attention_backward",
    attention_backward_reference,
    mutates_args=(),
    schema=f"({_SCHEMA}, Tensor top, Tensor total, Tensor dy) -> Tensor[]",
)


@attention_backward_op.register_fake
def _(*inputs: Any) -> list[Tensor]:
    first, top = inputs[:-3], inputs[-3]
    return [
        top.new_empty(0) if old is None else old.new_empty(old.shape) for old in first[_FIRST:_LAST]
    ]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    given = Inputs(*inputs)
    ctx.options = given.loops, given.slope, given.p
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs[:_LAST], given.seed, *output[1:])


def _backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    *tensors, seed, top, total = ctx.saved_tensors
    inputs = (*tensors, *ctx.options, seed)
    given = Inputs(*inputs)
    if given.tptr is None:
        raise GraphError(missing_transpose("The gradient of attention"))
    wanted = [i for i in range(_FIRST, _LAST) if ctx.needs_input_grad[i]]
    grads: list[Tensor | None] = [None] * len(inputs)
    if torch.is_grad_enabled():
        # to be differentiated again: through steps that are
        y = _attend(given)[0]
        chosen = [inputs[i] for i in wanted]
        found = torch.autograd.grad(y, chosen, dy, create_graph=True, allow_unused=True)
    else:
        every = torch.ops.graphkit.attention_backward(*inputs, top, total, dy)
        found = [every[i - _FIRST] for i in wanted]
    for i, grad in zip(wanted, found, strict=True):
        grads[i] = grad
    return tuple(grads)


attention_op.register_autograd(_backward, setup_context=_setup)


def gat_attention(
    graph: Graph,
    h: Tensor,
    score_src: Tensor,
    score_dst: Tensor | None = None,
    score_edge: Tensor | None = None,
    score_loop: Tensor | None = None,
    *,
    loops: bool = False,
    negative_slope: float = 0.2,
    dropout: float = 0.0,
) -> Tensor:
    """``out[i] = sum of alpha[e] * h[j]`` over the edges ``e = (j -> i)``, for each head, with

    ``alpha[e] = softmax over i's edges of LeakyReLU(score_src[j] + score_dst[i] + score_edge[e])``
    (`Graph attention networks <https://arxiv.org/abs/1710.10903>`_).

    ``h``: ``[num_src, H, C]``. Scores: ``[num_src, H]``, ``[num_dst, H]``, ``[E, H]`` in the
    caller's edge order, in any float dtype. Returns ``[num_dst, H, C]`` in the dtype of ``h``;
    destinations without edges get 0.

    With ``loops`` the first ``n = min(num_src, num_dst)`` destinations also attend to themselves,
    with ``score_loop [n, H]`` in place of ``score_edge``, and the graph's own self-loops count for
    nothing. ``dropout`` drops coefficients; its seed is drawn from torch's generator.

    Differentiable twice. Nothing of size E is kept. Cost: E x H x C reads, three times that with
    gradients. Deterministic on the CPU, and on GPUs where triton is installed.

    Raises :class:`GraphError` for shapes, dtypes or devices that do not fit the graph, and
    :class:`ConfigError` for a ``dropout`` outside 0 to 1.
    """
    name = "gat_attention"
    _check_heads(name, "h", h, graph, "source")
    n, heads = min(graph.num_src, graph.num_dst), h.size(1)
    wanted = {
        "score_src": (score_src, graph.num_src),
        "score_dst": (score_dst, graph.num_dst),
        "score_edge": (score_edge, graph.num_edges),
        "score_loop": (score_loop, n),
    }
    acc = accumulator(h.dtype)
    scores: list[Tensor | None] = []
    for label, (score, rows) in wanted.items():
        if score is not None:
            check_values(name, label, score, graph.device)
            if score.shape != (rows, heads):
                raise GraphError(
                    f"{name}: {label} has shape {list(score.shape)}, but [{rows}, {heads}] is "
                    "expected: one number for each head."
                )
        scores.append(None if score is None else score.to(acc))
    if score_loop is not None and not loops:
        raise ConfigError(f"{name}: score_loop is given, but loops is False. Pass loops=True.")
    check_transpose(name, graph, h, *scores)
    seed = _seed(name, dropout, graph)
    return torch.ops.graphkit.attention(
        *graph.parts(), h, *scores, None, None, loops, negative_slope, dropout, seed
    )[0]


def gatv2_attention(
    graph: Graph,
    left: Tensor,
    right: Tensor,
    att: Tensor,
    *,
    loops: bool = False,
    negative_slope: float = 0.2,
    dropout: float = 0.0,
) -> Tensor:
    """``out[i] = sum of alpha[e] * left[j]`` over the edges ``e = (j -> i)``, for each head, with

    ``alpha[e] = softmax over i's edges of <att, LeakyReLU(left[j] + right[i])>``
    (`How attentive are graph attention networks? <https://arxiv.org/abs/2105.14491>`_).

    ``left``: ``[num_src, H, C]``, ``right``: ``[num_dst, H, C]``, ``att``: ``[H, C]``. Everything
    else as for :func:`gat_attention`.
    """
    name = "gatv2_attention"
    _check_heads(name, "left", left, graph, "source")
    _check_heads(name, "right", right, graph, "destination")
    check_values(name, "att", att, graph.device)
    if left.shape[1:] != right.shape[1:] or left.dtype != right.dtype:
        raise GraphError(
            f"{name}: left is {left.dtype} with rows of shape {list(left.shape[1:])} and right is "
            f"{right.dtype} with {list(right.shape[1:])}, but their rows must agree to be added."
        )
    if att.shape != left.shape[1:]:
        raise GraphError(
            f"{name}: att has shape {list(att.shape)}, but {list(left.shape[1:])} is expected, as "
            "the rows of left."
        )
    check_transpose(name, graph, left, right, att)
    seed = _seed(name, dropout, graph)
    att = att.to(accumulator(left.dtype))
    scores = (None, None, None, None, right, att)
    return torch.ops.graphkit.attention(
        *graph.parts(), left, *scores, loops, negative_slope, dropout, seed
    )[0]


def _check_heads(op: str, name: str, h: Tensor, graph: Graph, side: str) -> None:
    check_nodes(op, name, h, graph, side)
    if h.dim() != 3:
        raise GraphError(
            f"{op}: {name} has shape {list(h.shape)}, but [N, heads, channels] is expected. "
            f"Pass {name}.unsqueeze(1) for one head."
        )


def _seed(op: str, dropout: float, graph: Graph) -> Tensor | None:
    if not 0 <= dropout <= 1:
        raise ConfigError(f"{op}: dropout is {dropout}, but a probability from 0 to 1 is expected.")
    return draw_seed(graph.device) if dropout > 0 else None
