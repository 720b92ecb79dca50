"""The native sampler behind ``graphkit.ops.sample``."""

# pyright: strict

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import GraphError
from ..sample import TOO_MANY_DRAWS, Found, Run, Seeds, register_native
from ..sample_plan import Plan
from . import native

SERVED = ("sample",)

# the most nodes of a graph for which each working space has a table with a place for every one
DENSE_NODES = 2**25


def run(plan: Plan) -> Run:
    """What samples ``plan``, from several threads at once if need be."""
    kernels: Any = native.kernels
    described = [
        (
            native.side(of.ptr, of.idx, of.eid),
            native.address(of.time),
            native.address(of.sums),
            native.address(of.weight),
            of.src,
            of.dst,
        )
        for of in plan.relations
    ]
    fanout = [number for hop in plan.fanout for number in hop]
    is_dense = not plan.disjoint and max(plan.num_nodes) <= DENSE_NODES
    flags = [plan.replace, plan.labor, plan.layer_dependency, plan.disjoint, plan.induced]
    flags += [plan.last, is_dense]
    ready = kernels.SamplePlan(described, list(plan.num_nodes), fanout, plan.hops, flags)
    # working spaces that no call is using; append and pop of a list are atomic
    idle: list[Any] = []
    hops, rows_of = plan.hops, [of.dst for of in plan.relations]

    def sample(seeds: Seeds) -> Found:
        try:
            room = idle.pop()
        except IndexError:
            room = kernels.SampleRoom(ready)
        status, nodes, in_hops, edges = kernels.sample(
            ready,
            room,
            [ids.data_ptr() for ids in seeds.ids],
            [len(ids) for ids in seeds.ids],
            seeds.first,
            native.address(seeds.time),
            seeds.key,
        )
        if status == 1:
            raise MemoryError("sample: there is not enough memory for this batch.")
        if status == 3:
            raise GraphError(TOO_MANY_DRAWS)
        if status:
            raise GraphError(
                "sample: the batch has more than 2**31 - 2 nodes, which local numbers cannot tell "
                "apart. Pass fewer seeds or a smaller fanout."
            )
        num_nodes = [nodes[at : at + hops + 1] for at in range(0, len(nodes), hops + 1)]
        num_edges = [in_hops[at : at + hops] for at in range(0, len(in_hops), hops)]
        sizes = [sum(counts) for counts in num_nodes]
        drawing = sizes if plan.induced else [sum(counts[:-1]) for counts in num_nodes]
        ids = [torch.empty(size, dtype=torch.int64) for size in sizes]
        trees: list[Tensor | None] = [
            torch.empty(size, dtype=torch.int64) if plan.disjoint else None for size in sizes
        ]
        found = [
            (
                torch.empty(drawing[dst] + 1, dtype=torch.int64),
                torch.empty(count, dtype=torch.int32),
                torch.empty(count, dtype=torch.int64),
            )
            for dst, count in zip(rows_of, edges, strict=True)
        ]
        kernels.sampled(
            ready,
            room,
            [native.address(t) for pair in zip(ids, trees, strict=True) for t in pair],
            [t.data_ptr() for arrays in found for t in arrays],
        )
        idle.append(room)
        return Found(ids, trees, num_nodes, found, num_edges)

    return sample


register_native(run)
