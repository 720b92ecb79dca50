"""torch_scatter's functions, forward and with gradient, of values by sorted and unsorted indices.

On a graph of ogbn-arxiv's size, values at the edges reduced at their destinations, and on 10,000
segments of five values on average, where what a call costs beside its work shows. Values are
float32. ``torch`` is what torch itself has: ``scatter_reduce`` with an expanded index, which gives
no places, ``index_select``, and functions made of them. (opt: torch_scatter)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import graphkit.scatter
from benchmarks import graphs
from benchmarks.entry import Call
from benchmarks.passes import PASSES, alone, passes
from graphkit.errors import need

TITLE = "torch_scatter's functions, float32"
BASELINE = "graphkit"
TESTS = ("tests/ops/test_scatter.py", "-k", "dtype or many or gradients")

NAMES = ("graph", "function", "order", "passes", "width")
REDUCES = ("sum", "mean", "mul", "min", "max")
COMPOSITES = ("std", "logsumexp", "softmax", "log_softmax")
BY_OFFSETS = ("sum", "mean", "min", "max")
FUNCTIONS = (
    *(f"scatter_{name}" for name in (*REDUCES, *COMPOSITES)),
    *(f"segment_{name}_{by}" for by in ("csr", "coo") for name in BY_OFFSETS),
    "gather_csr",
    "gather_coo",
)
WIDTHS = (1, 16, 64, 256)
NUM_SEGMENTS = 10_000
# values, results, places and gradients of the widest case, and the reference's in float64
WIDEST_MEMORY = 24


def tolerance(function: str, width: int, **_: Any) -> float:
    """Of the largest value. A deviation is the root of a sum of squares: near 0 half of its digits
    are gone, and all of those of its gradient. Products lose a digit with each factor."""
    return 2e-3 if function == "scatter_std" else 1e-4 if "mul" in function else 2e-5


TOLERANCE = tolerance


def cases(quick: bool) -> list[dict[str, Any]]:
    if quick:
        chosen = [("segments", "scatter_sum", "unsorted", p, 16) for p in PASSES]
        chosen += [("segments", "scatter_max", "sorted", p, 16) for p in PASSES]
        chosen += [("segments", "scatter_softmax", "unsorted", PASSES[0], 16)]
        chosen += [("segments", "segment_mean_csr", "sorted", PASSES[1], 1)]
    else:
        chosen = [
            (graph, function, order, p, width)
            for graph in ("segments", "arxiv")
            for function in FUNCTIONS
            # segments are sorted by definition
            for order in (("unsorted", "sorted") if "scatter" in function else ("sorted",))
            for p in PASSES
            # the root of a row of one value has no gradient
            if not (function == "scatter_std" and "backward" in p)
            for width in WIDTHS
        ]
    return [dict(zip(NAMES, values, strict=True)) for values in chosen]


@dataclass(frozen=True)
class Problem:
    function: str
    index: Tensor
    ptr: Tensor
    rows: int
    x: Tensor
    dy: Tensor | None

    def run(self, function: Callable[[Tensor], Tensor]) -> Call:
        return passes(function, [self.x], self.dy)


def _sizes(graph: str) -> tuple[int, int]:
    return (5 * NUM_SEGMENTS, NUM_SEGMENTS) if graph == "segments" else graphs.counts(graph)


def problem(graph: str, function: str, order: str, passes: str, width: int) -> Problem:
    graphs.spare(WIDEST_MEMORY * width / 256 if graph == "arxiv" else 0)
    generator = torch.Generator().manual_seed(1)
    num_values, rows = _sizes(graph)
    if graph == "segments":
        index = torch.randint(rows, (num_values,), generator=generator)
    else:
        index = graphs.graph(graph)[0][1]
    index = index.sort().values if order == "sorted" else index.contiguous()
    ptr = torch.zeros(rows + 1, dtype=torch.int64)
    ptr[1:] = torch.bincount(index, minlength=rows).cumsum(0)
    gathers = function.startswith("gather")
    size = (rows if gathers else num_values, *([width] if width > 1 else []))
    x = torch.randn(size, generator=generator)
    if "mul" in function:
        # products of some thousand factors stay in range
        x = 1 + x / 100
    dy = None
    if "backward" in passes:
        like = num_values if gathers or "softmax" in function else rows
        dy = torch.randn((like, *size[1:]), generator=generator)
    return Problem(function, index, ptr, rows, x, dy)


def bytes_moved(graph: str, function: str, order: str, passes: str, width: int) -> int:
    """Values read or written once each way, results and an int64 index."""
    num_values, rows = _sizes(graph)
    places = 8 * rows * width if function.endswith(("min", "max", "_csr", "_coo")) else 0
    once = 4 * width * (num_values + rows) + 8 * num_values + places
    return once * (2 if "backward" in passes else 1)


# -- the reference ---------------------------------------------------------------------------------


def reference(p: Problem) -> tuple[Tensor, ...]:
    """On sorted values in float64, by ``torch.segment_reduce`` and autograd."""
    dy = None if p.dy is None else p.dy.double()
    return passes(lambda x: _exact(p, x), [p.x.double()], dy)()


def _exact(p: Problem, x: Tensor) -> Tensor:
    kind = next(name for name in p.function.split("_")[::-1] if name not in ("csr", "coo"))
    kind = "logsumexp" if p.function == "scatter_logsumexp" else kind
    if kind == "gather":
        return x[p.index]
    order = p.index.argsort(stable=True)
    place = p.index[order]
    length = p.ptr.diff()
    v = x[order]

    def rows(values: Tensor, how: str) -> Tensor:
        found = torch.segment_reduce(values, how, lengths=length, axis=0, unsafe=True)
        none = (length == 0).view(-1, *[1] * (values.dim() - 1))
        return found.masked_fill(none, 1.0 if how == "prod" else 0.0)

    def back(values: Tensor) -> Tensor:
        return values[torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))]

    if kind in ("sum", "mean", "min", "max"):
        return rows(v, kind)
    if kind == "mul":
        return rows(v, "prod")
    if kind == "std":
        count = (length - 1).clamp(min=1).view(-1, *[1] * (x.dim() - 1))
        return (rows((v - rows(v, "mean")[place]).square(), "sum") / (count + 1e-6)).sqrt()
    top = rows(v.detach(), "max")
    total = rows((v - top[place]).exp(), "sum")
    if kind == "logsumexp":
        found = (total + 1e-12).log() + top
        return found.masked_fill((length == 0).view(-1, *[1] * (x.dim() - 1)), 0)
    if p.function == "scatter_log_softmax":
        return back(v - top[place] - total[place].log())
    return back((v - top[place]).exp() / total[place])


# -- the contenders --------------------------------------------------------------------------------


def _of(library: Any, p: Problem) -> Call:
    """A function of a library with torch_scatter's names."""
    function = getattr(library, p.function)
    if p.function.endswith("_csr"):
        call = lambda x: function(x, p.ptr)  # noqa: E731
    elif p.function == "gather_coo":
        call = lambda x: function(x, p.index)  # noqa: E731
    elif p.function.endswith("_coo"):
        call = lambda x: function(x, p.index, None, p.rows)  # noqa: E731
    else:
        call = lambda x: function(x, p.index, dim=0, dim_size=p.rows)  # noqa: E731
    if p.function.replace("_csr", "").replace("_coo", "").endswith(("_min", "_max")):
        return p.run(lambda x: call(x)[0])
    return p.run(call)


def ours(p: Problem) -> Call:
    return _of(graphkit.scatter, p)


def one_thread(p: Problem) -> Call:
    return alone(ours(p))


def torch_scatter(p: Problem) -> Call:
    need("torch_scatter")
    import torch_scatter as library  # pyright: ignore[reportMissingImports]

    return _of(library, p)


def plain(p: Problem) -> Call:
    """Sums, means, products and extremes by ``scatter_reduce``, the others made of these."""
    names = {"sum": "sum", "mean": "mean", "mul": "prod", "min": "amin", "max": "amax"}

    def spread(x: Tensor) -> Tensor:
        return p.index.view(-1, *[1] * (x.dim() - 1)).expand_as(x)

    def rows(x: Tensor, how: str) -> Tensor:
        start = x.new_full((p.rows, *x.shape[1:]), 1.0 if how == "mul" else 0.0)
        return start.scatter_reduce(0, spread(x), x, names[how], include_self=how == "mul")

    def call(x: Tensor) -> Tensor:
        if p.function.startswith("gather"):
            return x.index_select(0, p.index)
        kind = p.function.removeprefix("scatter_").removeprefix("segment_")
        kind = kind.removesuffix("_csr").removesuffix("_coo")
        if kind in names:
            return rows(x, kind)
        if kind == "std":
            mean = rows(x, "mean").index_select(0, p.index)
            count = (p.ptr.diff() - 1).clamp(min=1).view(-1, *[1] * (x.dim() - 1))
            return (rows((x - mean).square(), "sum") / (count + 1e-6)).sqrt()
        top = rows(x.detach(), "max")
        centred = x - top.index_select(0, p.index)
        total = rows(centred.exp(), "sum")
        if kind == "logsumexp":
            found = (total + 1e-12).log() + top
            return found.masked_fill((p.ptr.diff() == 0).view(-1, *[1] * (x.dim() - 1)), 0)
        if kind == "softmax":
            return centred.exp() / total.index_select(0, p.index)
        return centred - (total + 1e-12).log().index_select(0, p.index)

    return p.run(call)


CONTENDERS = {
    "graphkit": ours,
    "graphkit, 1 thread": one_thread,
    "torch_scatter": torch_scatter,
    "torch": plain,
}
