"""Values reduced by the row of each: the ops that ``graphkit.scatter`` is made of.

Shapes: ``src [*B, E, *K]`` with ``dim`` = the number of B's dimensions, results ``[*B, R, *K]``.
``index`` is ``[E]``, shared by all batches, or has the shape of ``src``; ``ptr`` is ``[R + 1]``, or
has batches of its own, ``[*B, R + 1]``. Any dtype but bool and complex.

Unlike the other ops these have two ways: the custom ops, which serve every device and
``torch.compile``, and, for plain tensors on the CPU, the kernel called at once. Small inputs take a
few microseconds, of which a custom op would be most.
"""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import GraphError

DTYPES = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.int8,
    torch.int16,
)
"""What is reduced; their places are the kernels' codes, which narrow whole numbers do without."""


class Kernels(Protocol):
    """What ``ops/cpu/scatter.py`` provides; the functions below say what each returns."""

    def reduce(self, src: Tensor, index: Tensor, dim: int, rows: int, reduce: str) -> Tensor: ...
    def best(
        self, src: Tensor, index: Tensor, dim: int, rows: int, minimum: bool
    ) -> tuple[Tensor, Tensor]: ...
    def pick(self, x: Tensor, index: Tensor, dim: int) -> Tensor: ...
    def put(self, x: Tensor, arg: Tensor, dim: int, size: int) -> Tensor: ...
    def csr_reduce(self, src: Tensor, ptr: Tensor, reduce: str) -> Tensor: ...
    def csr_best(self, src: Tensor, ptr: Tensor, minimum: bool) -> tuple[Tensor, Tensor]: ...
    def csr_spread(self, x: Tensor, ptr: Tensor, size: int) -> Tensor: ...
    def largest(self, index: Tensor) -> int: ...
    def offsets(self, index: Tensor, rows: int) -> tuple[Tensor, Tensor | None]: ...


native: Kernels | None = None
"""The kernels, where they were built."""

FEW = 1 << 17
"""Single numbers that torch's own functions, which cost less beside their work, are quicker on."""

_EXACT = (torch.float32, torch.float64)
_PLAIN = (Tensor, torch.nn.Parameter)


def _at_once(x: Tensor) -> Kernels | None:
    """The kernels, if they may be called on ``x`` without a custom op between."""
    if native is None or type(x) not in _PLAIN or not x.is_cpu or torch.compiler.is_compiling():
        return None
    return native


def register_native(kernels: Kernels) -> None:
    """Let the kernels serve tensors on the CPU (``ops/cpu/scatter.py``)."""
    global native
    native = kernels


# -- conditions on values --------------------------------------------------------------------------


def check_rows(index: Tensor, rows: int) -> None:
    """Raise :class:`GraphError` naming the first entry of ``index`` outside 0 ... ``rows - 1``."""
    if index.numel() == 0:
        return
    low, high = torch.aminmax(index)
    if int(low) >= 0 and int(high) < rows:
        return
    where = tuple(map(int, ((index < 0) | (index >= rows)).nonzero()[0]))
    valid = f"0 to {rows - 1}" if rows else "none"
    raise GraphError(
        f"index{list(where)} = {int(index[where])}, but there are {rows} rows (valid: {valid}). "
        "Pass a larger dim_size or out, or drop the entry."
    )


@contextmanager
def in_range(index: Tensor, rows: int) -> Generator[None]:
    """Names the entry of ``index`` that torch's own functions find beyond ``rows``."""
    try:
        yield
    except (IndexError, RuntimeError):
        check_rows(index, rows)
        raise


def check_ptr(ptr: Tensor, size: int) -> None:
    """Raise :class:`GraphError` unless ``ptr`` starts at 0, never falls, and ends by ``size``."""
    first, last = ptr[..., 0], ptr[..., -1]
    if bool((first == 0).all()) and bool((last <= size).all()):
        if not bool((ptr.diff(dim=-1) < 0).any()):
            return
    falls = (ptr.diff(dim=-1) < 0).nonzero()
    fall = f", and falls after position {falls[0].tolist()[-1]}" if falls.numel() else ""
    raise GraphError(
        f"indptr starts at {first.flatten().tolist()[0]} and ends at {last.flatten().tolist()[-1]}"
        f"{fall}, but it must start at 0, never fall, and end at {size} at most, the size of src."
    )


def check_products(product: Tensor, exact: Tensor) -> None:
    """Raise :class:`GraphError` where products of whole numbers are none, their dtype being full.

    ``exact`` holds them in float64."""
    limits = torch.iinfo(product.dtype)
    # the first number that does not fit is a power of two, which float64 has exactly
    over = (exact >= limits.max + 1) | (exact < limits.min)
    if bool(over.any()):
        where = tuple(map(int, over.nonzero()[0]))
        raise GraphError(
            f"the product at {list(where)} is {float(exact[where]):.6g}, but {product.dtype} ends "
            f"at {limits.max}. Pass src.double(), or a wider dtype."
        )


def around(shape: torch.Size, dim: int) -> tuple[int, int, int]:
    """How many batches there are, the size along ``dim``, and how many columns."""
    return shape[:dim].numel(), shape[dim], shape[dim + 1 :].numel()


# -- additions in any order ------------------------------------------------------------------------

# entered by any thread: what adds to a list and takes from it is whole
_open: list[None] = []


@contextmanager
def atomic() -> Generator[None]:
    """Sums and means of floats on CUDA by atomic additions, without a sort: the order, and so the
    last bits, differ from run to run.

    For all threads while it is open; gradients are sums too, so that it has to be open where they
    are computed. Not inside what ``torch.compile`` compiles, but around the call. It changes
    nothing on other devices, for other reductions, for values that stand in order
    (``segment_csr``), for whole numbers, and under ``torch.use_deterministic_algorithms(True)``.
    """
    _open.append(None)
    try:
        yield
    finally:
        _open.pop()


def atomics() -> bool:
    """Whether :func:`atomic` holds."""
    return bool(_open) and not torch.are_deterministic_algorithms_enabled()


# -- references ------------------------------------------------------------------------------------


def _spread_index(index: Tensor, dim: int, shape: torch.Size) -> Tensor:
    """``index`` at every number of a tensor of ``shape``, whose size along ``dim`` is its own."""
    if index.dim() == 1:
        index = index.view(*[1] * dim, -1, *[1] * (len(shape) - dim - 1))
    return index.expand(shape)


def _with(shape: torch.Size, dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def scatter_reduce_reference(
    src: Tensor, index: Tensor, dim: int, rows: int, reduce: str
) -> Tensor:
    check_rows(index, rows)
    full, shape = _spread_index(index, dim, src.shape), _with(src.shape, dim, rows)
    values = src.to(_accumulator(src.dtype))
    if reduce == "mul":
        out = values.new_ones(shape).scatter_reduce_(dim, full, values, "prod").to(src.dtype)
        if not src.is_floating_point():
            exact = torch.ones(shape, dtype=torch.float64, device=src.device)
            check_products(out, exact.scatter_reduce_(dim, full, src.double(), "prod"))
        return out
    if reduce == "top":
        out = values.new_full(shape, -torch.inf)
        values = values.masked_fill(values.isnan(), -torch.inf)
        return out.scatter_reduce_(dim, full, values, "amax").to(src.dtype)
    out = values.new_zeros(shape).scatter_add_(dim, full, values)
    if reduce == "mean":
        ones = torch.ones_like(index)
        count = ones.new_zeros(rows if index.dim() == 1 else shape)
        count.scatter_add_(0 if index.dim() == 1 else dim, index, ones)
        out = divided(out, _spread_index(count.clamp_(min=1), dim, out.shape))
    return out.to(src.dtype)


scatter_reduce_op = torch.library.custom_op(
    "graphkit::scatter_reduce", scatter_reduce_reference, mutates_args=()
)
"""``out[.., r, ..] = sum`` (mean, product) of ``src[.., e, ..]`` over all e with index r; ``top``
is the largest, -inf in an empty row, and has no gradient."""


@scatter_reduce_op.register_fake
def _(src: Tensor, index: Tensor, dim: int, rows: int, reduce: str) -> Tensor:
    return src.new_empty(_with(src.shape, dim, rows))


def scatter_best_reference(
    src: Tensor, index: Tensor, dim: int, rows: int, minimum: bool
) -> tuple[Tensor, Tensor]:
    check_rows(index, rows)
    full, shape, size = (
        _spread_index(index, dim, src.shape),
        _with(src.shape, dim, rows),
        src.size(dim),
    )
    values = src
    if src.is_floating_point():
        # a nan never wins
        values = src.masked_fill(src.isnan(), torch.inf if minimum else -torch.inf)
    best = values.new_zeros(shape)
    best.scatter_reduce_(dim, full, values, "amin" if minimum else "amax", include_self=False)
    position = torch.arange(size, device=src.device)
    place = _spread_index(position, dim, src.shape).masked_fill(src != best.gather(dim, full), size)
    arg = full.new_full(shape, size).scatter_reduce_(dim, full, place, "amin")
    return best.masked_fill_(arg == size, 0), arg


scatter_best_op = torch.library.custom_op(
    "graphkit::scatter_best", scatter_best_reference, mutates_args=()
)
"""The largest (smallest) value of each row and its number along ``dim``: of equals the first, 0 and
the size of ``src`` in an empty row. A nan never wins."""


@scatter_best_op.register_fake
def _(src: Tensor, index: Tensor, dim: int, rows: int, minimum: bool) -> tuple[Tensor, Tensor]:
    shape = _with(src.shape, dim, rows)
    return src.new_empty(shape), src.new_empty(shape, dtype=torch.int64)


def scatter_pick_reference(x: Tensor, index: Tensor, dim: int) -> Tensor:
    check_rows(index, x.size(dim))
    return x.index_select(dim, index) if index.dim() == 1 else x.gather(dim, index)


scatter_pick_op = torch.library.custom_op(
    "graphkit::scatter_pick", scatter_pick_reference, mutates_args=()
)
"""``out[.., e, ..] = x[.., index[e], ..]``."""


@scatter_pick_op.register_fake
def _(x: Tensor, index: Tensor, dim: int) -> Tensor:
    return x.new_empty(_with(x.shape, dim, index.size(0) if index.dim() == 1 else index.size(dim)))


def scatter_put_reference(x: Tensor, arg: Tensor, dim: int, size: int) -> Tensor:
    # one place more, for the rows that nothing won
    out = x.new_zeros(_with(x.shape, dim, size + 1)).scatter_(dim, arg, x)
    return out.narrow(dim, 0, size).contiguous()


scatter_put_op = torch.library.custom_op(
    "graphkit::scatter_put", scatter_put_reference, mutates_args=()
)
"""``out[.., arg[.., r, ..], ..] = x[.., r, ..]``, and 0 elsewhere."""


@scatter_put_op.register_fake
def _(x: Tensor, arg: Tensor, dim: int, size: int) -> Tensor:
    return x.new_empty(_with(x.shape, dim, size))


def _index_of(ptr: Tensor, size: int, shape: torch.Size) -> Tensor:
    """The row of each of ``size`` places; behind the last row it is the number of rows."""
    place = torch.arange(size, device=ptr.device)
    if ptr.dim() > 1:
        place = place.expand(*ptr.shape[:-1], size).contiguous()
    index = torch.searchsorted(ptr[..., 1:].contiguous(), place, right=True)
    if ptr.dim() == 1:
        return index
    return index.view(*index.shape, *[1] * (len(shape) - ptr.dim())).expand(shape)


def csr_reduce_reference(src: Tensor, ptr: Tensor, reduce: str) -> Tensor:
    dim = ptr.dim() - 1
    check_ptr(ptr, src.size(dim))
    if reduce == "mean" and not src.is_floating_point():
        total = csr_reduce_reference(src, ptr, "sum")
        return divided(total, row_lengths(ptr, src.dim()), "trunc")
    index, rows = _index_of(ptr, src.size(dim), src.shape), ptr.size(-1)
    out = scatter_reduce_reference(src, index, dim, rows, reduce)
    return out.narrow(dim, 0, rows - 1).contiguous()


csr_reduce_op = torch.library.custom_op(
    "graphkit::csr_reduce", csr_reduce_reference, mutates_args=()
)
"""``out[.., r, ..] = sum`` (mean) of ``src[.., e, ..]`` for e from ``ptr[r]`` to ``ptr[r + 1]``.

As in torch_scatter the mean of whole numbers rounds towards 0, that of ``scatter_reduce`` down."""


@csr_reduce_op.register_fake
def _(src: Tensor, ptr: Tensor, reduce: str) -> Tensor:
    return src.new_empty(_with(src.shape, ptr.dim() - 1, ptr.size(-1) - 1))


def csr_best_reference(src: Tensor, ptr: Tensor, minimum: bool) -> tuple[Tensor, Tensor]:
    dim = ptr.dim() - 1
    check_ptr(ptr, src.size(dim))
    index, rows = _index_of(ptr, src.size(dim), src.shape), ptr.size(-1)
    out, arg = scatter_best_reference(src, index, dim, rows, minimum)
    return out.narrow(dim, 0, rows - 1).contiguous(), arg.narrow(dim, 0, rows - 1).contiguous()


csr_best_op = torch.library.custom_op("graphkit::csr_best", csr_best_reference, mutates_args=())


@csr_best_op.register_fake
def _(src: Tensor, ptr: Tensor, minimum: bool) -> tuple[Tensor, Tensor]:
    shape = _with(src.shape, ptr.dim() - 1, ptr.size(-1) - 1)
    return src.new_empty(shape), src.new_empty(shape, dtype=torch.int64)


def csr_spread_reference(x: Tensor, ptr: Tensor, size: int) -> Tensor:
    dim = ptr.dim() - 1
    check_ptr(ptr, size)
    index = _index_of(ptr, size, torch.Size(_with(x.shape, dim, size)))
    # what lies behind the last row gets 0
    more = torch.cat([x, x.new_zeros(_with(x.shape, dim, 1))], dim)
    return scatter_pick_reference(more, index, dim)


csr_spread_op = torch.library.custom_op(
    "graphkit::csr_spread", csr_spread_reference, mutates_args=()
)
"""``out[.., e, ..] = x[.., r, ..]`` for e from ``ptr[r]`` to ``ptr[r + 1]``, 0 behind the last."""


@csr_spread_op.register_fake
def _(x: Tensor, ptr: Tensor, size: int) -> Tensor:
    return x.new_empty(_with(x.shape, ptr.dim() - 1, size))


# -- gradients: one set of rules for both ways -----------------------------------------------------


def divided(x: Tensor, count: Tensor, rounding: str = "floor") -> Tensor:
    """``x`` over whole numbers, with ``rounding`` if it is some; float16 cannot hold 65,520."""
    if not x.is_floating_point():
        return x.div(count, rounding_mode=rounding).to(x.dtype)
    return (x.to(_accumulator(x.dtype)) / count).to(x.dtype)


def row_counts(index: Tensor, dim: int, rows: int, dims: int) -> Tensor:
    """How many numbers each row has, at least 1, to be divided by in ``dims`` dimensions."""
    if index.dim() > 1:
        return reduce(torch.ones_like(index), index, dim, rows, "sum").clamp_(min=1)
    count = reduce(torch.ones_like(index), index, 0, rows, "sum").clamp_(min=1)
    return count.view(*[1] * dim, -1, *[1] * (dims - dim - 1))


def row_lengths(ptr: Tensor, dims: int) -> Tensor:
    """:func:`row_counts` of the rows of ``ptr``."""
    count = ptr.diff(dim=-1).clamp_(min=1)
    return count.view(*count.shape, *[1] * (dims - count.dim()))


def _reduce_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    src, index, ctx.dim, ctx.rows, ctx.reduce = inputs
    ctx.save_for_backward(index, *((src, output) if ctx.reduce == "mul" else ()))


def _reduce_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    index, *rest = ctx.saved_tensors
    if ctx.reduce == "mul":
        return _product_gradient(dy, index, ctx.dim, ctx.rows, *rest), None, None, None, None
    if ctx.reduce == "mean":
        dy = divided(dy, row_counts(index, ctx.dim, ctx.rows, dy.dim()))
    return pick(dy, index, ctx.dim), None, None, None, None


def _product_gradient(
    dy: Tensor, index: Tensor, dim: int, rows: int, src: Tensor, out: Tensor
) -> Tensor:
    """The product of a row without the value: the whole over it, where it is not 0."""
    if _at_once(src) is not None and bool(src.all()):
        return pick(dy * out, index, dim) / src
    zero = src == 0
    ratio = pick(dy * out, index, dim) / src.masked_fill(zero, 1)
    others = src.masked_fill(zero, 1)
    # the only zero of its row has the product of the others
    rest = reduce(others, index, dim, rows, "mul")
    zeros = reduce(zero.to(torch.int64), index, dim, rows, "sum")
    alone = zero & (pick(zeros, index, dim) == 1)
    return torch.where(zero, (pick(dy * rest, index, dim) * alone), ratio)


def _best_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    src, _, ctx.dim, *_ = inputs
    ctx.size = src.size(ctx.dim)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def _best_backward(ctx: Any, dy: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    (arg,) = ctx.saved_tensors
    return None if dy is None else put(dy, arg, ctx.dim, ctx.size), None, None, None, None


def _pick_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, index, ctx.dim = inputs
    ctx.rows = x.size(ctx.dim)
    ctx.save_for_backward(index)


def _pick_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    (index,) = ctx.saved_tensors
    return reduce(dy, index, ctx.dim, ctx.rows, "sum"), None, None


def _put_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, arg, ctx.dim, ctx.size = inputs
    ctx.save_for_backward(arg)


def _put_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    (arg,) = ctx.saved_tensors
    more = torch.cat([dy, dy.new_zeros(_with(dy.shape, ctx.dim, 1))], ctx.dim)
    return more.gather(ctx.dim, arg), None, None, None


def _csr_reduce_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    src, ptr, ctx.reduce = inputs
    ctx.size = src.size(ptr.dim() - 1)
    ctx.save_for_backward(ptr)


def _csr_reduce_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    (ptr,) = ctx.saved_tensors
    if ctx.reduce == "mean":
        dy = divided(dy, row_lengths(ptr, dy.dim()))
    return csr_spread(dy, ptr, ctx.size), None, None


def _csr_best_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    src, ptr, _ = inputs
    ctx.dim = ptr.dim() - 1
    ctx.size = src.size(ctx.dim)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def _csr_best_backward(ctx: Any, dy: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    (arg,) = ctx.saved_tensors
    return None if dy is None else put(dy, arg, ctx.dim, ctx.size), None, None


def _csr_spread_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _csr_spread_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    (ptr,) = ctx.saved_tensors
    return csr_reduce(dy, ptr, "sum"), None, None


_RULES = {
    "reduce": (scatter_reduce_op, _reduce_setup, _reduce_backward),
    "best": (scatter_best_op, _best_setup, _best_backward),
    "pick": (scatter_pick_op, _pick_setup, _pick_backward),
    "put": (scatter_put_op, _put_setup, _put_backward),
    "csr_reduce": (csr_reduce_op, _csr_reduce_setup, _csr_reduce_backward),
    "csr_best": (csr_best_op, _csr_best_setup, _csr_best_backward),
    "csr_spread": (csr_spread_op, _csr_spread_setup, _csr_spread_backward),
}


def _function(kernel: str, setup: Any, backward: Any) -> Any:
    """The autograd function of a kernel that is called at once."""

    def forward(*args: Any) -> Any:
        return getattr(native, kernel)(*args)

    methods = {"forward": forward, "setup_context": setup, "backward": backward}
    made = {name: staticmethod(method) for name, method in methods.items()}
    return type(f"Scatter_{kernel}", (torch.autograd.Function,), made)


_FUNCTIONS: dict[str, Any] = {}
for _name, (_op, _setup, _backward) in _RULES.items():
    _op.register_autograd(_backward, setup_context=_setup)
    _FUNCTIONS[_name] = _function(_name, _setup, _backward)


def _call(name: str, x: Tensor, *rest: Any) -> Any:
    kernels = _at_once(x)
    if kernels is None:
        # by name, for torch.compile
        family = "" if name.startswith("csr") else "scatter_"
        return getattr(torch.ops.graphkit, family + name)(x, *rest)
    if x.requires_grad and torch.is_grad_enabled():
        return _FUNCTIONS[name].apply(x, *rest)
    return getattr(kernels, name)(x, *rest)


# -- what the rooms above call; shapes, dtypes and devices were checked ----------------------------


def reduce(src: Tensor, index: Tensor, dim: int, rows: int, reduce: str) -> Tensor:
    """The sum, mean or product (``"mul"``) of each row; 0 (1 under a product) for an empty one."""
    if reduce == "sum" and src.requires_grad and src.dim() == 1 and torch.is_grad_enabled():
        # of few numbers an autograd function takes longer than their sum; the order is the same
        if src.numel() < FEW and src.dtype in _EXACT and _at_once(src) is not None:
            with in_range(index, rows):
                return src.new_zeros(rows).index_add(0, index, src)
    return _call("reduce", src, index, dim, rows, reduce)


def best(src: Tensor, index: Tensor, dim: int, rows: int, minimum: bool) -> tuple[Tensor, Tensor]:
    """The largest (smallest) value of each row, and its number along ``dim``."""
    return _call("best", src, index, dim, rows, minimum)


def pick(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """``x`` at ``index`` along ``dim``: the gradient of a sum, and its inverse on rows."""
    return _call("pick", x, index, dim)


def put(x: Tensor, arg: Tensor, dim: int, size: int) -> Tensor:
    """``x`` at the places ``arg`` of ``size`` along ``dim``: the gradient of :func:`best`."""
    return _call("put", x, arg, dim, size)


def csr_reduce(src: Tensor, ptr: Tensor, reduce: str) -> Tensor:
    """:func:`reduce` (sum, mean) where values stand in the order of their rows."""
    return _call("csr_reduce", src, ptr, reduce)


def csr_best(src: Tensor, ptr: Tensor, minimum: bool) -> tuple[Tensor, Tensor]:
    """:func:`best` where values stand in the order of their rows."""
    return _call("csr_best", src, ptr, minimum)


def csr_spread(x: Tensor, ptr: Tensor, size: int) -> Tensor:
    """The value of each row at all of its places."""
    return _call("csr_spread", x, ptr, size)


def offsets(index: Tensor, rows: int) -> tuple[Tensor, Tensor | None]:
    """Where the rows of ``index [E]`` begin, and its order, or None where it is sorted."""
    kernels = _at_once(index)
    if kernels is not None:
        return kernels.offsets(index, rows)
    both = torch.stack([index, index])
    ptr, _, eid, *_, is_sorted = torch.ops.graphkit.coo_to_csr(both, rows, rows, False)
    if torch.compiler.is_compiling() or index.is_meta or not bool(is_sorted[0]):
        return ptr, eid
    return ptr, None


def softmax(src: Tensor, index: Tensor, dim: int, rows: int) -> Tensor:
    """``exp(src) / sum of exp(src) over the row`` for an ``index [E]``."""
    ptr, eid = offsets(index, rows)
    values = src if dim == 0 else src.movedim(dim, 0)
    flat = values.reshape(values.size(0), values.shape[1:].numel())
    found = torch.ops.graphkit.segment_softmax(ptr, eid, flat).reshape(values.shape)
    return found if dim == 0 else found.movedim(0, dim)


def largest(index: Tensor) -> int:
    """The largest entry of an index, -1 for an empty one."""
    if index.numel() == 0:
        return -1
    kernels = _at_once(index)
    return int(index.max()) if kernels is None else kernels.largest(index)


def shared(index: Tensor, dim: int) -> Tensor:
    """``index``, shaped like the values; ``[E]`` where all batches and columns have the same."""
    for at, (size, stride) in enumerate(zip(index.shape, index.stride(), strict=True)):
        if at != dim and size != 1 and stride != 0:
            return index
    for at in range(index.dim() - 1, -1, -1):
        if at != dim:
            if index.size(at) == 0:
                return index
            index = index.select(at, 0)
    return index
