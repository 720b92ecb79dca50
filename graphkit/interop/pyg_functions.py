"""PyG's own functions on graphkit's kernels, for as long as one likes. (opt: torch_geometric)"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..errors import GraphError, need
from ..graph import Csr, Graph
from ..ops import segment_reduce, segment_softmax, spmm
from ..ops.scatter import csr_reduce, largest, offsets, pick, reduce

need("torch_geometric")

from torch_geometric import typing as pyg_typing  # noqa: E402
from torch_geometric import utils as pyg_utils  # noqa: E402
from torch_geometric.nn import MessagePassing  # noqa: E402

__all__ = ["PygFunctions", "use_in_pyg"]

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_PLAIN = (Tensor, torch.nn.Parameter)
# messages of fewer numbers are made: to put them off costs more
_FEW = 1 << 14
# graphs and orders that are kept at most
_KEPT = 32

# a class that cannot be made where torch_sparse is not installed
_SparseTensor: Any = vars(pyg_typing)["SparseTensor"]

_original: dict[str, Callable[..., Any]] = {}


def _plain(*tensors: Any) -> bool:
    """Tensors of torch's own class on the CPU, called by hand: what the kernels take."""
    for t in tensors:
        if type(t) not in _PLAIN or not t.is_cpu or t.layout != torch.strided:
            return False
    return not (torch.compiler.is_compiling() or torch._C._is_tracing())


# -- orders that are found once --------------------------------------------------------------------


def _owner(index: Tensor) -> Tensor:
    """The tensor that keeps the memory of ``index``: itself, or what it is a view of."""
    base = index._base
    return index if base is None else base


def _key(index: Tensor) -> tuple[Any, ...]:
    # the version counts the changes in place; views share it
    at = (index.storage_offset(), index.numel(), index.stride(0))
    return (id(_owner(index)), index._version, *at)


class _Orders:
    """Orders of indices, for as long as their tensors live and are not changed in place."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: OrderedDict[Any, tuple[tuple[weakref.ref[Tensor], ...], Any]] = OrderedDict()

    def find(self, owners: tuple[Tensor, ...], key: Any, make: Callable[[], Any]) -> Any:
        with self.lock:
            entry = self.held.get(key)
            # another tensor may have got the number of one that is gone
            if entry is not None and all(
                ref() is owner for ref, owner in zip(entry[0], owners, strict=True)
            ):
                self.held.move_to_end(key)
                return entry[1]
        made = make()
        refs = tuple(weakref.ref(owner, lambda _: self.held.pop(key, None)) for owner in owners)
        with self.lock:
            self.held[key] = refs, made
            while len(self.held) > _KEPT:
                self.held.popitem(last=False)
        return made

    def clear(self) -> None:
        with self.lock:
            self.held.clear()


_orders = _Orders()


def _remembers(*indices: Tensor) -> bool:
    """Whether versions are counted: not for tensors of inference mode."""
    return not any(index.is_inference() for index in indices)


def _rows_of(index: Tensor, rows: int) -> tuple[Tensor, Tensor | None]:
    """Where the rows of ``index`` begin, and its order where it is not sorted."""
    if not _remembers(index):
        return offsets(index, rows)
    key = ("rows", rows, _key(index))
    return _orders.find((_owner(index),), key, lambda: offsets(index, rows))


def _graph_of(src: Tensor, dst: Tensor, num_src: int, num_dst: int) -> Graph:
    """The graph of edges from ``src`` to ``dst``."""
    both = torch.is_grad_enabled()

    def make() -> Graph:
        edges = _pair(src, dst)
        return Graph.from_edge_index(edges, num_src=num_src, num_dst=num_dst, transpose=both)

    if not _remembers(src, dst):
        return make()
    key = ("graph", num_src, num_dst, both, _key(src), _key(dst))
    return _orders.find((_owner(src), _owner(dst)), key, make)


def _pair(src: Tensor, dst: Tensor) -> Tensor:
    base = src._base
    if base is not None and base is dst._base and base.dim() == 2 and base.size(0) == 2:
        first, second = base[0], base[1]
        if _key(first) == _key(src) and _key(second) == _key(dst):
            return base
    return torch.stack([src, dst])


# -- messages that are not made --------------------------------------------------------------------


class _Message(Tensor):
    """``w[e] * x[index[e]]`` for every edge e, made only if somebody looks at it.

    ``x [N, F]`` or ``[N, H, C]``, ``w`` None, ``[E]`` or ``[E, H]``. Multiplied by weights of edges
    it stays one; added up at ``index`` it becomes a product without messages. Whatever else is done
    with it is done with the messages, which are then made, with their gradients.
    """

    x: Tensor
    index: Tensor
    w: Tensor | None
    version: int
    made: Tensor | None

    @staticmethod
    def of(x: Tensor, index: Tensor, w: Tensor | None = None) -> Tensor:
        return cast(Tensor, _Lift.apply(x, index, w))

    def now(self) -> Tensor:
        if self.made is None:
            if self.x._version != self.version:
                raise GraphError(
                    "use_in_pyg: the features of the nodes were changed in place while messages "
                    "were made of them. Work on a copy of them."
                )
            found = pick(self.x, self.index, 0)
            self.made = found if self.w is None else found * _beside(self.w, found)
        return self.made

    def times(self, factor: Any) -> Tensor | None:
        """The product with weights of edges, or None where ``factor`` is something else."""
        # x, in place of the message, so that no property goes through torch's dispatch
        dims = self.x.dim()
        if not _plain(factor) or factor.dtype != self.x.dtype or factor.dim() != dims:
            return None
        heads = self.x.size(1) if dims == 3 else 1
        want = (self.index.size(0), heads, 1) if dims == 3 else (self.index.size(0), 1)
        if tuple(factor.shape) not in (want, (want[0], *[1] * (dims - 1))):
            return None
        w = factor.squeeze(-1)
        if w.dim() == 2 and w.size(1) == 1:
            w = w.squeeze(1)
        if self.w is not None:
            w = w * self.w if w.dim() == self.w.dim() else None
        return None if w is None else _Message.of(self.x, self.index, w)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func in _LOOKS:
                return func(*args, **(kwargs or {}))
            if func in _PRODUCTS and len(args) == 2 and not kwargs:
                one, two = args
                message, factor = (one, two) if isinstance(one, _Message) else (two, one)
                if message.made is None and (found := message.times(factor)) is not None:
                    return found
        return func(*_made(args), **_made(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # only what goes around torch's functions comes here, its gradient being that of _Lift
        with torch.no_grad():
            return func(*_made(args), **_made(kwargs or {}))


def _made(value: Any) -> Any:
    """``value`` with messages made, in lists and dicts as well."""
    if isinstance(value, _Message):
        return value.now()
    if isinstance(value, (list, tuple)):
        made = [_made(item) for item in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    if isinstance(value, dict):
        return {key: _made(item) for key, item in value.items()}
    return value


def _beside(w: Tensor, message: Tensor) -> Tensor:
    return w.view(*w.shape, *[1] * (message.dim() - w.dim()))


class _Lift(torch.autograd.Function):
    """The message that is not made, as torch's graph of gradients sees it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, w: Tensor | None) -> Tensor:
        shape = (index.size(0), *x.shape[1:])
        message = Tensor._make_wrapper_subclass(_Message, shape, dtype=x.dtype, device=x.device)
        message = cast(_Message, message)
        message.x, message.index, message.w = x, index, w
        message.version, message.made = x._version, None
        ctx.save_for_backward(x, index, w)
        return message

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, index, w = ctx.saved_tensors
        dy = grads[0]
        weighted = dy if w is None else dy * _beside(w, dy)
        dx = reduce(weighted.contiguous(), index, 0, x.size(0), "sum")
        dw = None
        if w is not None:
            dw = (dy * pick(x, index, 0)).sum(dim=tuple(range(w.dim(), dy.dim())))
        return dx, None, dw


_PRODUCTS = (Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.mul, torch.multiply)
_LOOKS = (
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.__len__,
    Tensor.is_floating_point,
    Tensor.is_complex,
    *(
        getattr(Tensor, name).__get__
        for name in (
            "shape", "ndim", "dtype", "device", "layout", "requires_grad", "is_cpu", "is_cuda",
            "is_sparse", "is_quantized", "is_meta",
        )
    ),
)  # fmt: skip


def _lift(self: MessagePassing, src: Tensor, index: Tensor) -> Tensor:
    """PyG's ``MessagePassing._index_select_safe``: the features at one end of every edge."""
    if not _plain(src, index) or index.dtype != torch.int64 or index.dim() != 1:
        return _original["_index_select_safe"](self, src, index)
    dims = src.dim()
    dim = self.node_dim + dims if self.node_dim < 0 else self.node_dim
    if not 0 <= dim < dims or src.dtype not in _FLOATS:
        return _original["_index_select_safe"](self, src, index)
    wide = dims > 1 and src.shape[1:].numel() * index.size(0) >= _FEW
    if dim or dims not in (2, 3) or not wide:
        return pick(src, index, dim)
    return _Message.of(src, index)


# -- the functions ---------------------------------------------------------------------------------


def _scatter(
    src: Tensor,
    index: Tensor,
    dim: int = 0,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> Tensor:
    """PyG's ``scatter``."""
    kind = "sum" if reduce == "add" else reduce
    message = src if isinstance(src, _Message) and src.made is None else None
    values = message.x if message is not None else _made(src)
    known = kind in ("sum", "mean", "mul", "min", "max")
    if not (known and _plain(values, index) and values.dtype in _FLOATS and values.dim()):
        return _original["scatter"](_made(src), index, dim, dim_size, reduce)
    dim = dim + values.dim() if dim < 0 else dim
    count = index.size(0) if index.dim() == 1 else -1
    size = message.index.size(0) if message is not None else None
    fits = 0 <= dim < values.dim() and count == (values.size(dim) if size is None else size)
    if not fits or index.dtype != torch.int64:
        return _original["scatter"](_made(src), index, dim, dim_size, reduce)
    rows = max(0, largest(index) + 1) if dim_size is None else dim_size
    if message is not None and dim == 0 and kind != "mul":
        if message.x._version == message.version:
            graph = _graph_of(message.index, index, message.x.size(0), rows)
            return spmm(graph, message.x, message.w, reduce=cast(Any, kind))
    return _reduced(_made(src), index, dim, rows, kind)


def _reduced(src: Tensor, index: Tensor, dim: int, rows: int, kind: str) -> Tensor:
    if kind in ("sum", "mean", "mul"):
        return reduce(src, index, dim, rows, kind)
    # equals share the gradient, as in PyG
    ptr, eid = _rows_of(index, rows)
    return _along(src, dim, lambda v: _by_rows(v, ptr, eid, cast(Any, kind)))


def _by_rows(
    v: Tensor, ptr: Tensor, eid: Tensor | None, kind: Literal["sum", "mean", "max", "min"]
) -> Tensor:
    if eid is None:
        return segment_reduce(v, ptr, kind)
    return segment_reduce(v, Csr(ptr, eid, eid), kind)


def _along(src: Tensor, dim: int, body: Callable[[Tensor], Tensor]) -> Tensor:
    return body(src) if dim == 0 else body(src.movedim(dim, 0)).movedim(0, dim)


def _segment(src: Tensor, ptr: Tensor, reduce: str = "sum") -> Tensor:
    """PyG's ``segment``."""
    src = _made(src)
    served = _plain(src, ptr) and ptr.dtype == torch.int64 and src.dtype in _FLOATS
    dim = ptr.dim() - 1
    fits = served and 0 <= dim < src.dim() and ptr.size(-1) > 0
    flat = fits and all(size == 1 for size in ptr.shape[:-1])
    if not flat or reduce not in ("sum", "mean", "min", "max"):
        return _original["segment"](src, ptr, reduce)
    ptr = ptr.flatten()
    if dim == 0 and reduce in ("sum", "mean"):
        return csr_reduce(src, ptr, reduce)
    return _along(src, dim, lambda v: segment_reduce(v, ptr, cast(Any, reduce)))


def _softmax(
    src: Tensor,
    index: Tensor | None = None,
    ptr: Tensor | None = None,
    num_nodes: int | None = None,
    dim: int = 0,
) -> Tensor:
    """PyG's ``softmax``."""
    src = _made(src)
    by = ptr if ptr is not None and ptr.dim() == 1 else index
    served = by is not None and _plain(src, by) and src.dtype in _FLOATS
    at = dim + src.dim() if dim < 0 else dim
    if not served or not 0 <= at < src.dim() or by is None or by.dtype != torch.int64:
        return _original["softmax"](src, index, ptr, num_nodes, dim)
    if by is ptr:
        return _along(src, at, lambda v: segment_softmax(v, by))
    if by.dim() != 1 or by.size(0) != src.size(at):
        return _original["softmax"](src, index, ptr, num_nodes, dim)
    rows = max(0, largest(by) + 1) if num_nodes is None else num_nodes
    starts, eid = _rows_of(by, rows)
    sides = starts if eid is None else Csr(starts, eid, eid)
    return _along(src, at, lambda v: segment_softmax(v, sides))


def _spmm(src: Any, other: Tensor, reduce: str = "sum") -> Tensor:
    """PyG's ``spmm``."""
    kind = "sum" if reduce == "add" else reduce
    other = _made(other)
    served = _plain(other) and other.dim() == 2 and other.dtype in _FLOATS
    parts = _csr_of(src) if served and kind in ("sum", "mean", "min", "max") else None
    if parts is None:
        return _original["spmm"](src, other, reduce)
    graph, w = parts
    if w is not None and w.dtype != other.dtype:
        w = w.to(other.dtype)
    return spmm(graph, other, w, reduce=cast(Any, kind))


def _csr_of(adj: Any) -> tuple[Graph, Tensor | None] | None:
    """The graph and weights of a sparse matrix on the CPU, or None where PyG's way is kept."""
    both = torch.is_grad_enabled()
    if isinstance(adj, _SparseTensor):
        rowptr, col, value = adj.csr()
        if not _plain(rowptr, col) or (value is not None and value.dim() != 1):
            return None
        columns = adj.sparse_size(1)
        owners, key = (rowptr, col), ("csr", columns, both, _key(rowptr), _key(col))
    elif (
        isinstance(adj, Tensor)
        and adj.layout == torch.sparse_csr
        and adj.device.type == "cpu"
        and adj.dim() == 2
        and not adj.requires_grad
        and not torch.compiler.is_compiling()
    ):
        rowptr, col, value = adj.crow_indices(), adj.col_indices(), adj.values()
        columns = adj.size(1)
        owners, key = (adj,), ("csr", columns, both, id(adj), adj._version)
    else:
        return None

    def make() -> Graph:
        return Graph.from_csr(rowptr, col, num_src=columns, transpose=both)

    return _orders.find(owners, key, make), value


# -- in PyG's place --------------------------------------------------------------------------------

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "scatter": _scatter,
    "segment": _segment,
    "softmax": _softmax,
    "spmm": _spmm,
}
_uses = 0
_guard = threading.RLock()


def _exchange(pairs: list[tuple[Any, Any]]) -> None:
    """In every module that is loaded, the second of each pair in place of the first."""
    by = {id(old): new for old, new in pairs}
    wanted = set(by)
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict) or module is sys.modules[__name__]:
            continue
        # almost every module holds none, which is found out in one call
        if wanted.isdisjoint(map(id, list(names.values()))):
            continue
        for name, value in list(names.items()):
            if type(value) is FunctionType and id(value) in by:
                names[name] = by[id(value)]


class PygFunctions:
    """PyG on graphkit's kernels, from :func:`use_in_pyg` on until :meth:`restore`."""

    def __init__(self) -> None:
        global _uses
        self._on = True
        with _guard:
            _uses += 1
            if _uses > 1:
                return
            for name in _FUNCTIONS:
                _original[name] = getattr(pyg_utils, name)
            _original["_index_select_safe"] = MessagePassing._index_select_safe
            _exchange([(_original[name], new) for name, new in _FUNCTIONS.items()])
            MessagePassing._index_select_safe = _lift

    def restore(self) -> None:
        """PyG's own functions again, in every module; a second call does nothing."""
        global _uses
        with _guard:
            if not self._on:
                return
            self._on = False
            _uses -= 1
            if _uses:
                return
            _exchange([(new, _original[name]) for name, new in _FUNCTIONS.items()])
            MessagePassing._index_select_safe = _original["_index_select_safe"]
            _orders.clear()

    def __enter__(self) -> PygFunctions:
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()


def use_in_pyg() -> PygFunctions:
    """Let PyG's ``scatter``, ``segment``, ``softmax`` and ``spmm`` run on graphkit's kernels.

    In every module that is loaded, and in those that are loaded later, until ``restore()`` of what
    is returned; ``with use_in_pyg():`` does that at the end of the block. Layers and models of PyG
    run as they are, and so do your own that are made of it. Calls may be nested.

    The features that a layer's ``message`` gets for its edges are not made until somebody looks at
    them: multiplied by a weight of each edge (or not) and added up, they are one product with the
    graph, without a tensor of messages. The order of an index is kept while its tensor lives and is
    not changed in place through torch.

    What the kernels do not take goes PyG's way, as before: other devices, whole numbers,
    ``torch.compile``, ``torch.jit.trace``. Script models before, with ``torch.jit.script``. Results
    differ from PyG's in the last digits; and under ``max`` and ``min`` PyG loses part of the
    gradient where the result is 0.

    Raises what PyG raises, but :class:`GraphError`, which is a ValueError, for an index that is
    negative or beyond the rows.
    """
    return PygFunctions()
