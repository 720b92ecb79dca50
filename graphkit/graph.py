"""The graph structure: two sorted sides of integers, frozen, shared by everything above.

Edges point from a source (row 0 of ``edge_index``) to a destination (row 1), as in PyG. A
:class:`Graph` holds the edges sorted by destination, and by source unless that was declined. It
never holds features, labels or weights: tensors with one entry per edge stay in the caller's order
everywhere, and ``eid`` is how kernels find them.
"""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import GraphError

_INT32_MAX = 2**31 - 1
_INDEX_DTYPES = (torch.int32, torch.int64)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Csr:
    """One sorted side of a graph.

    ``indptr [rows + 1]`` int64: the slots of row ``r`` are ``indptr[r]`` to ``indptr[r + 1]``.
    ``indices [E]`` int32 (int64 from 2**31 columns on): the column of each slot.
    ``eid [E]`` or None: the caller's edge number of each slot; None if slots are in that order.
    """

    indptr: Tensor
    indices: Tensor
    eid: Tensor | None = None

    @property
    def num_rows(self) -> int:
        return self.indptr.size(0) - 1

    @property
    def num_edges(self) -> int:
        return self.indices.size(0)

    def row_ids(self) -> Tensor:
        """The row of each slot, int64 ``[E]``."""
        return row_ids(self.indptr, self.indices.size(0))

    def degree(self) -> Tensor:
        """The number of slots in each row, int64 ``[rows]``."""
        return self.indptr[1:] - self.indptr[:-1]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Csr:
        def move(t: Tensor) -> Tensor:
            return t.to(device, non_blocking=non_blocking)

        eid = None if self.eid is None else move(self.eid)
        return Csr(move(self.indptr), move(self.indices), eid)

    def __repr__(self) -> str:
        size = f"num_rows={self.num_rows}, num_edges={self.num_edges}"
        return f"Csr({size}, device='{self.indptr.device}')"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Graph:
    """A directed, possibly bipartite graph: ``num_edges`` edges from sources to destinations.

    Build it with :meth:`from_edge_index`, :meth:`from_csr` or :func:`as_graph`, which validate
    once; put together by hand it is trusted. ``by_dst`` has destinations as rows (forward
    aggregation), ``by_src`` has sources as rows (gradients, and messages against the direction) and
    is None when it was declined.
    """

    by_dst: Csr
    by_src: Csr | None
    num_dst: int
    num_src: int

    @staticmethod
    def from_edge_index(
        edge_index: Tensor,
        num_nodes: int | None = None,
        *,
        num_src: int | None = None,
        num_dst: int | None = None,
        transpose: bool = True,
    ) -> Graph:
        """The graph of a PyG ``edge_index [2, E]`` (int32 or int64, row 0 sources, row 1 targets).

        ``num_nodes`` sets both sides; ``num_src`` and ``num_dst`` set them apart for bipartite
        graphs. What is left open becomes the largest index plus one. ``transpose=False`` skips
        ``by_src``: half the time and memory, and no gradients with respect to features.

        Raises :class:`GraphError` for a wrong shape, dtype or layout and for indices out of range.
        """
        check_edge_index(edge_index)
        if num_nodes is not None and (num_src is not None or num_dst is not None):
            raise GraphError(
                f"Graph.from_edge_index: got num_nodes={num_nodes} together with num_src={num_src} "
                f"and num_dst={num_dst}. Pass num_nodes for a square graph, or the other two."
            )
        if num_nodes is None and num_src is None and num_dst is None:
            num_nodes = _count("num_nodes", None, edge_index)
        src_count = _count("num_src", num_src if num_nodes is None else num_nodes, edge_index[0])
        dst_count = _count("num_dst", num_dst if num_nodes is None else num_nodes, edge_index[1])
        ptr, idx, eid, tptr, tidx, teid, in_order = torch.ops.graphkit.coo_to_csr(
            edge_index, src_count, dst_count, transpose
        )
        by_dst = _drop_identity(Csr(ptr, idx, eid), in_order[0])
        by_src = _drop_identity(Csr(tptr, tidx, teid), in_order[1]) if transpose else None
        return Graph(by_dst, by_src, dst_count, src_count)

    @staticmethod
    def from_csr(
        indptr: Tensor,
        indices: Tensor,
        eid: Tensor | None = None,
        *,
        num_src: int | None = None,
        transpose: bool = True,
    ) -> Graph:
        """The graph whose destination ``r`` receives from ``indices[indptr[r]:indptr[r + 1]]``.

        ``eid [E]`` gives each slot's number in the caller's edge tensors (None: slots are in that
        order). ``num_src`` defaults to the larger of the rows and the largest index plus one.

        Raises :class:`GraphError` if the arrays are not a valid compressed row structure.
        """
        _check_csr(indptr, indices, eid)
        num_dst = indptr.size(0) - 1
        if num_src is None:
            num_src = max(num_dst, int(indices.max()) + 1 if indices.numel() else 0)
        check_range(indices, num_src, "indices", "sources")
        by_dst = Csr(
            indptr.to(torch.int64).contiguous(),
            indices.to(index_dtype(num_src)).contiguous(),
            None if eid is None else eid.to(index_dtype(indices.numel())).contiguous(),
        )
        graph = Graph(by_dst, None, num_dst, num_src)
        if not transpose:
            return graph
        # with its ends exchanged, so that the side that is there is not sorted again
        turned = graph.edge_index().flip(0)
        other = Graph.from_edge_index(turned, num_src=num_dst, num_dst=num_src, transpose=False)
        return replace(graph, by_src=other.by_dst)

    @property
    def num_edges(self) -> int:
        return self.by_dst.indices.size(0)

    @property
    def device(self) -> torch.device:
        return self.by_dst.indptr.device

    def t(self) -> Graph:
        """The graph with every edge turned around; costs nothing and shares all memory."""
        if self.by_src is None:
            raise GraphError(missing_transpose("Graph.t()"))
        return Graph(self.by_src, self.by_dst, self.num_src, self.num_dst)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Graph:
        """This graph on ``device``."""
        by_src = None if self.by_src is None else self.by_src.to(device, non_blocking)
        return Graph(self.by_dst.to(device, non_blocking), by_src, self.num_dst, self.num_src)

    def parts(
        self,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """The arrays of both sides in the order in which the ops take them."""
        fwd, bwd = self.by_dst, self.by_src
        if bwd is None:
            return fwd.indptr, fwd.indices, fwd.eid, None, None, None
        return fwd.indptr, fwd.indices, fwd.eid, bwd.indptr, bwd.indices, bwd.eid

    def in_degree(self) -> Tensor:
        """Edges arriving at each destination, int64 ``[num_dst]``."""
        return self.by_dst.degree()

    def out_degree(self) -> Tensor:
        """Edges leaving each source, int64 ``[num_src]``."""
        if self.by_src is not None:
            return self.by_src.degree()
        return torch.bincount(self.by_dst.indices, minlength=self.num_src)

    def edge_index(self) -> Tensor:
        """PyG's ``edge_index [2, E]``, int64, in the caller's edge order."""
        slots = torch.stack([self.by_dst.indices.to(torch.int64), self.by_dst.row_ids()])
        if self.by_dst.eid is None:
            return slots
        return torch.empty_like(slots).index_copy_(1, self.by_dst.eid.to(torch.int64), slots)

    def __repr__(self) -> str:
        return (
            f"Graph(num_dst={self.num_dst}, num_src={self.num_src}, num_edges={self.num_edges}, "
            f"transpose={self.by_src is not None}, device='{self.device}')"
        )


Adj = Tensor | Graph
"""What layers take as ``edge_index``: PyG's tensor ``[2, E]``, or a Graph."""


def as_graph(edge_index: Adj, num_src: int, num_dst: int, transpose: bool | None = None) -> Graph:
    """``edge_index`` as a :class:`Graph` with ``num_src`` sources and ``num_dst`` destinations.

    Free for a Graph, whose sizes are compared. A tensor is validated and sorted (linear in the
    edges), so convert once where a graph is used more than once. Its transposed side is built if
    gradients are on, or as ``transpose`` says.
    """
    if isinstance(edge_index, Graph):
        if edge_index.num_src != num_src or edge_index.num_dst != num_dst:
            side = "source" if edge_index.num_src != num_src else "destination"
            want = edge_index.num_src if side == "source" else edge_index.num_dst
            got = num_src if side == "source" else num_dst
            raise GraphError(
                f"x has {got} {side} rows but the graph has {want} {side}s. "
                "Pass num_nodes (or num_src and num_dst) when building the graph if the last "
                "nodes are isolated."
            )
        return edge_index
    if transpose is None:
        transpose = torch.is_grad_enabled()
    return Graph.from_edge_index(edge_index, num_src=num_src, num_dst=num_dst, transpose=transpose)


def row_ids_reference(indptr: Tensor, num_edges: int) -> Tensor:
    rows = torch.arange(indptr.size(0) - 1, device=indptr.device)
    return torch.repeat_interleave(rows, indptr.diff(), output_size=num_edges)


row_ids_op = torch.library.custom_op("graphkit::row_ids", row_ids_reference, mutates_args=())


@row_ids_op.register_fake
def _(indptr: Tensor, num_edges: int) -> Tensor:
    return indptr.new_empty(num_edges, dtype=torch.int64)


def row_ids(indptr: Tensor, num_edges: int) -> Tensor:
    """The row of each of ``num_edges`` slots, int64 ``[E]``."""
    if torch.compiler.is_compiling():
        # torch fuses what it knows
        return row_ids_reference(indptr, num_edges)
    return torch.ops.graphkit.row_ids(indptr, num_edges)


def has_values(t: Tensor) -> bool:
    """Whether the numbers of ``t`` may be looked at: not under ``torch.compile``, not on meta."""
    return not torch.compiler.is_compiling() and t.device.type != "meta"


def batch_offsets(
    what: str,
    num_nodes: int,
    batch: Tensor | None,
    ptr: Tensor | None,
    device: torch.device,
    num_graphs: int | None = None,
) -> Tensor:
    """Where the nodes of each graph of a batch begin, int64 ``[B + 1]``.

    Of PyG's ``batch [N]`` (the number of each node's graph, rising) or ``ptr [B + 1]``; of one
    graph if neither is given. Without ``num_graphs`` the last graph of ``batch`` is the last that
    has nodes. Raises :class:`GraphError` for anything else.
    """
    given = ptr if batch is None else batch
    if given is None:
        if num_graphs not in (None, 1):
            raise GraphError(f"{what}: got no batch and no ptr for {num_graphs} graphs. Pass one.")
        return torch.tensor([0, num_nodes], device=device)
    if batch is not None and ptr is not None:
        raise GraphError(f"{what}: got both batch and ptr. Pass one of them.")
    _check_graph_numbers(what, "ptr" if batch is None else "batch", given, device)
    given = given.to(torch.int64)
    if batch is None:
        if num_graphs is not None and given.size(0) != num_graphs + 1:
            raise GraphError(
                f"{what}: ptr has {given.size(0)} offsets, but {num_graphs + 1} are expected for "
                f"{num_graphs} graphs."
            )
        if has_values(given):
            check_indptr(given, num_nodes, f"{what}: ptr", "nodes")
        return given
    if given.size(0) != num_nodes:
        raise GraphError(
            f"{what}: batch has {given.size(0)} entries, but there are {num_nodes} nodes. "
            "Pass offsets as ptr=."
        )
    if num_graphs is None:
        num_graphs = int(given[-1]) + 1 if num_nodes else 0
    if has_values(given) and num_nodes:
        low, high = int(given[0]), int(given[-1])
        if low < 0 or high >= num_graphs or bool((given.diff() < 0).any()):
            raise GraphError(
                f"{what}: batch begins with {low} and ends with {high}, but it must rise, from 0 "
                f"on, to at most {num_graphs - 1}: the nodes of a graph stand together. Sort the "
                "nodes by graph."
            )
    return torch.searchsorted(given, torch.arange(num_graphs + 1, device=device))


def _check_graph_numbers(what: str, name: str, given: Tensor, device: torch.device) -> None:
    # isinstance guards against lists, which callers do pass whatever the annotation
    is_tensor = isinstance(given, Tensor)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_tensor or given.dim() != 1 or given.dtype not in _INDEX_DTYPES:
        kind = f"{given.dtype} of shape {list(given.shape)}" if is_tensor else type(given).__name__
        raise GraphError(f"{what}: {name} is {kind}, but int64 numbers in one row are expected.")
    if given.device != device:
        raise GraphError(
            f"{what}: {name} is on {given.device} but the nodes are on {device}. Move one of them."
        )


def missing_transpose(what: str) -> str:
    """The sentence for a graph that lacks its transposed side."""
    return (
        f"{what} needs the graph sorted by source as well, but this graph was built with "
        "transpose=False. Build it with transpose=True."
    )


def coo_to_csr_reference(
    edge_index: Tensor, num_src: int, num_dst: int, transpose: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    # ranges are checked here and not by the caller, so that the check also runs inside a
    # compiled graph, where a condition on values would break the graph
    check_range(edge_index[0], num_src, "edge_index[0]", "sources")
    check_range(edge_index[1], num_dst, "edge_index[1]", "destinations")
    in_order = (edge_index.diff() >= 0).all(1).flip(0)
    forward = _sort_side(edge_index[1], edge_index[0], num_dst, num_src)
    if transpose:
        return *forward, *_sort_side(edge_index[0], edge_index[1], num_src, num_dst), in_order
    empty = edge_index.new_empty(0, dtype=torch.int64)
    return *forward, empty, empty.clone(), empty.clone(), in_order


coo_to_csr_op = torch.library.custom_op(
    "graphkit::coo_to_csr", coo_to_csr_reference, mutates_args=()
)
"""Both sides, offsets, columns and edge numbers of each (empty ones for a declined transpose), and
bool ``[2]``: whether the edges already are in the order of the first side, of the second."""


@coo_to_csr_op.register_fake
def _(
    edge_index: Tensor, num_src: int, num_dst: int, transpose: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    num_edges = edge_index.size(1)
    eid = edge_index.new_empty(num_edges, dtype=index_dtype(num_edges))
    sides: list[Tensor] = []
    for rows, columns in ((num_dst, num_src), (num_src, num_dst)):
        if sides and not transpose:
            sides += [edge_index.new_empty(0, dtype=torch.int64) for _ in range(3)]
            break
        sides.append(edge_index.new_empty(rows + 1, dtype=torch.int64))
        sides.append(edge_index.new_empty(num_edges, dtype=index_dtype(columns)))
        sides.append(torch.empty_like(eid))
    a, b, c, d, e, f = sides
    return a, b, c, d, e, f, edge_index.new_empty(2, dtype=torch.bool)


def _sort_side(
    rows: Tensor, columns: Tensor, num_rows: int, num_columns: int
) -> tuple[Tensor, Tensor, Tensor]:
    order = torch.sort(rows, stable=True).indices
    indptr = torch.zeros(num_rows + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=num_rows), 0, out=indptr[1:])
    indices = columns[order].to(index_dtype(num_columns))
    return indptr, indices, order.to(index_dtype(order.numel()))


def _drop_identity(side: Csr, in_order: Tensor) -> Csr:
    """``side`` without ``eid`` where it would be 0, 1, 2, ...: a quarter to half of the memory."""
    if torch.compiler.is_compiling() or in_order.device.type == "meta":
        return side
    return Csr(side.indptr, side.indices) if bool(in_order) else side


def index_dtype(count: int) -> torch.dtype:
    """The dtype of numbers below ``count``."""
    return torch.int32 if count <= _INT32_MAX else torch.int64


def _count(name: str, count: int | None, index: Tensor) -> int:
    if count is None:
        return max(0, int(index.max()) + 1) if index.numel() else 0
    if not isinstance(count, (int, torch.SymInt)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(f"{name} is {count!r}, but a whole number is expected.")
    if count < 0:
        raise GraphError(f"{name} = {count}, but a graph has at least 0 nodes.")
    return count


def check_edge_index(edge_index: Tensor) -> None:
    """Raise :class:`GraphError` unless ``edge_index`` is a dense integer tensor ``[2, E]``."""
    # isinstance guards against lists and arrays, which callers do pass whatever the annotation
    if not isinstance(edge_index, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(
            f"edge_index is a {type(edge_index).__name__}, but a torch.Tensor [2, E] or a "
            "graphkit.Graph is expected. Wrap it with torch.as_tensor(...)."
        )
    if edge_index.layout != torch.strided:
        raise GraphError(
            f"edge_index has layout {edge_index.layout}, but a dense tensor [2, E] is expected. "
            "For a sparse adjacency A pass A.t().to_sparse_coo().coalesce().indices()."
        )
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        hint = (
            "Did you transpose it? Pass edge_index.t()."
            if _is_transposed(edge_index)
            else ("Stack sources and targets: torch.stack([src, dst]).")
        )
        raise GraphError(
            f"edge_index has shape {list(edge_index.shape)}, but [2, E] is expected. {hint}"
        )
    if edge_index.dtype not in _INDEX_DTYPES:
        raise GraphError(
            f"edge_index has dtype {edge_index.dtype}, but torch.int64 or torch.int32 is "
            "expected. Convert it with edge_index.long() if its values are whole numbers."
        )


def _is_transposed(edge_index: Tensor) -> bool:
    return edge_index.dim() == 2 and edge_index.size(1) == 2


def check_range(
    index: Tensor,
    count: int,
    name: str,
    side: str,
    remedy: str = "Pass a larger num_nodes, or drop the edge.",
) -> None:
    """Raise :class:`GraphError` naming the first entry outside 0 ... ``count - 1``."""
    if index.numel() == 0:
        return
    low, high = torch.aminmax(index)
    if int(low) >= 0 and int(high) < count:
        return
    position = int(((index < 0) | (index >= count)).nonzero()[0])
    where = f"{name[:-1]}, {position}]" if name.endswith("]") else f"{name}[{position}]"
    valid = f"0 to {count - 1}" if count else "none"
    raise GraphError(
        f"{where} = {int(index[position])}, but the graph has {count} {side} (valid: {valid}). "
        f"{remedy}"
    )


def _check_csr(indptr: Tensor, indices: Tensor, eid: Tensor | None) -> None:
    arrays = {"indptr": indptr, "indices": indices} | ({} if eid is None else {"eid": eid})
    for name, array in arrays.items():
        if array.dim() != 1 or array.dtype not in _INDEX_DTYPES:
            raise GraphError(
                f"{name} is {array.dtype} of shape {list(array.shape)}, but a one-dimensional "
                "int64 or int32 tensor is expected."
            )
        if array.device != indptr.device:
            raise GraphError(
                f"{name} is on {array.device} and indptr on {indptr.device}. "
                f"Move them together: {name}.to({str(indptr.device)!r})."
            )
    check_indptr(indptr, indices.numel())
    if eid is None:
        return
    if eid.numel() != indices.numel():
        raise GraphError(f"eid has {eid.numel()} entries, but there are {indices.numel()} edges.")
    check_range(eid, indices.numel(), "eid", "edges")
    if torch.bincount(eid, minlength=indices.numel()).ne(1).any():
        raise GraphError("eid names an edge twice, but it must hold each edge number once.")


def check_indptr(
    indptr: Tensor, num_slots: int, name: str = "indptr", slots: str = "edges"
) -> None:
    """Raise :class:`GraphError` unless ``indptr`` cuts ``num_slots`` slots into rows."""
    if indptr.numel() == 0:
        raise GraphError(f"{name} is empty, but it needs rows + 1 entries, the first of them 0.")
    first, last = int(indptr[0]), int(indptr[-1])
    # of one byte for each row: a graph may lie in files that are larger than memory
    falling = indptr[1:] < indptr[:-1]
    if first == 0 and last == num_slots and not bool(falling.any()):
        return
    falls = falling.nonzero()
    fall = f", and falls after position {int(falls[0])}" if falls.numel() else ""
    raise GraphError(
        f"{name} starts at {first} and ends at {last}{fall}, but it must start at 0, never fall, "
        f"and end at {num_slots}, the number of {slots}."
    )
