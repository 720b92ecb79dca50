"""Parts of a graph with few edges between them. (opt: pymetis)"""

# pymetis has no types
# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError, need
from ..graph import Graph
from ..ops.check import check_square


def partition(
    graph: Graph,
    num_parts: int,
    *,
    recursive: bool = False,
    node_weight: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    r"""The part of each node, int64 ``[N]`` from 0 to ``num_parts - 1``: METIS's partition.

    Parts are about equally large and few edges lead from one to another (`paper
    <https://doi.org/10.1137/S1064827595287997>`_): multilevel k-way, or bisection again and again
    if ``recursive``. Edges count in both directions and parallel ones as often as they occur;
    self-loops do not count. No part is empty as long as there are nodes; with more parts than
    nodes, each node has a part of its own.

    ``graph``: square. ``node_weight [N]``: whole numbers of at least 0, by whose sums parts are
    made equal, such as ``graph.in_degree()``. ``seed``: the same parts for the same seed on every
    machine with the same METIS.

    Cost: sorting the edges, then METIS's on one thread, some microseconds for each edge.

    Raises :class:`GraphError` for a graph with two kinds of nodes and for malformed weights,
    :class:`ConfigError` for ``num_parts`` or ``seed`` out of range, and :class:`BackendError`
    without ``pymetis``.
    """
    check_square("partition", graph)
    _check_number("num_parts", num_parts, 1)
    _check_number("seed", seed, 0)
    num_nodes = graph.num_dst
    weight = None if node_weight is None else _node_weight(node_weight, num_nodes)
    if num_parts == 1 or num_nodes == 0:
        return torch.zeros(num_nodes, dtype=torch.int64)
    if num_parts >= num_nodes:
        return torch.arange(num_nodes)
    need("pymetis")
    import pymetis

    ptr, idx, count = _undirected(graph)
    metis = cast(Any, pymetis)
    found = metis.part_graph(
        num_parts,
        metis.CSRAdjacency(ptr.numpy(), idx.numpy()),
        vweights=None if weight is None else weight.numpy(),
        eweights=None if bool((count == 1).all()) else count.numpy(),
        recursive=recursive,
        options=metis.Options(seed=seed),
    )
    return _without_empty(torch.as_tensor(found.vertex_part, dtype=torch.int64), num_parts)


def _undirected(graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets, neighbours in rising order, and how many edges join each pair; no loops."""
    num_nodes = graph.num_dst
    src, dst = graph.by_dst.indices.long().cpu(), graph.by_dst.row_ids().cpu()
    is_loop = src == dst
    src, dst = src[~is_loop], dst[~is_loop]
    keys = torch.sort(torch.cat([src * num_nodes + dst, dst * num_nodes + src])).values
    is_first = torch.ones_like(keys, dtype=torch.bool)
    is_first[1:] = keys[1:] != keys[:-1]
    first = is_first.nonzero().flatten()
    count = torch.cat([first, first.new_full((1,), len(keys))]).diff()
    heads = torch.arange(num_nodes + 1) * num_nodes
    return torch.searchsorted(keys[first], heads), keys[first] % num_nodes, count


def _without_empty(part: Tensor, num_parts: int) -> Tensor:
    """Gives each part that METIS left empty the last node of the largest one."""
    sizes = torch.bincount(part, minlength=num_parts)
    for empty in (sizes == 0).nonzero().flatten():
        largest = int(sizes.argmax())
        part[(part == largest).nonzero()[-1]] = empty
        sizes[largest] -= 1
        sizes[empty] = 1
    return part


def _node_weight(weight: Any, num_nodes: int) -> Tensor:
    if not isinstance(weight, Tensor) or weight.dtype not in (torch.int64, torch.int32):
        kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise GraphError(
            f"partition: node_weight is {kind}, but a torch.Tensor of whole numbers is expected. "
            "Scale and round them: (weight * 1000).long()."
        )
    if weight.shape != (num_nodes,):
        raise GraphError(
            f"partition: node_weight has shape {list(weight.shape)}, but [{num_nodes}] is "
            "expected, one for each node."
        )
    if num_nodes and int(weight.min()) < 0:
        at = int((weight < 0).nonzero()[0])
        raise GraphError(
            f"partition: node_weight[{at}] = {int(weight[at])}, but weights must be at least 0."
        )
    return weight.to("cpu", torch.int64).contiguous()


def _check_number(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise ConfigError(
            f"partition: {name} is {value!r}, but a whole number from {least} to 2**31 - 1 is "
            "expected."
        )
