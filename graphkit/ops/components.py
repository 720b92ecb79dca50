"""Connected components of a graph whose edges count in both directions."""

# torch annotates its library decorators with bare callables
# pyright: strict, reportUnknownMemberType=false

from __future__ import annotations

import torch
from torch import Tensor

from ..graph import Graph, row_ids
from .check import check_square


def components_reference(ptr: Tensor, idx: Tensor) -> Tensor:
    src, dst = idx.to(torch.int64), row_ids(ptr, idx.size(0))
    root = torch.arange(ptr.size(0) - 1, device=ptr.device)
    while True:
        # the roots at both ends of an edge become one: the smaller
        least = torch.minimum(root[src], root[dst])
        joined = root.scatter_reduce(0, root[src], least, "amin")
        joined = joined.scatter_reduce(0, root[dst], least, "amin")
        while not torch.equal(joined, further := joined[joined]):
            joined = further
        if torch.equal(joined, root):
            return joined
        root = joined


components_op = torch.library.custom_op(
    "graphkit::components", components_reference, mutates_args=()
)


@components_op.register_fake
def _(ptr: Tensor, idx: Tensor) -> Tensor:
    return ptr.new_empty(ptr.size(0) - 1)


def components(graph: Graph) -> Tensor:
    """The smallest node of each node's connected component, int64 ``[N]``.

    Edges count in both directions; an isolated node is a component of its own. Cost: some passes
    over the edges, about as many as the logarithm of the nodes. Deterministic.

    Raises :class:`GraphError` for a graph with two kinds of nodes.
    """
    check_square("components", graph)
    return torch.ops.graphkit.components(graph.by_dst.indptr, graph.by_dst.indices)
