"""The native sampler behind ``graphkit.ops.sample``."""

# pyright: strict

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.dlpack import from_dlpack

from ...errors import GraphError
from ..sample import register_native
from ..sample_plan import Plan
from ..sample_reference import TOO_MANY_DRAWS, Found, Run, Seeds
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
    hops, types = plan.hops, len(plan.types)

    def sample(batches: Sequence[Seeds]) -> list[Found]:
        asked = [
            (
                [ids.data_ptr() for ids in seeds.ids],
                [len(ids) for ids in seeds.ids],
                seeds.first,
                native.address(seeds.time),
                seeds.key,
                [native.address(pairs) for pairs in seeds.gone],
                [0 if pairs is None else pairs.size(1) for pairs in seeds.gone],
            )
            for seeds in batches
        ]
        return [found(*answer) for answer in kernels.sample(ready, asked, native.threads())]

    def found(status: int, nodes: list[int], edges: list[int], arrays: list[Any]) -> Found:
        if status == 1:
            raise MemoryError("sample: there is not enough memory for this batch.")
        if status == 3:
            raise GraphError(TOO_MANY_DRAWS)
        if status:
            raise GraphError(
                "sample: the batch has more than 2**31 - 2 nodes, which local numbers cannot tell "
                "apart. Pass fewer seeds or a smaller fanout."
            )
        made: list[Any] = [array if array is None else from_dlpack(array) for array in arrays]
        of_edges = made[2 * types :]
        return Found(
            made[: 2 * types : 2],
            made[1 : 2 * types : 2],
            [nodes[at : at + hops + 1] for at in range(0, len(nodes), hops + 1)],
            list(zip(of_edges[::3], of_edges[1::3], of_edges[2::3], strict=True)),
            [edges[at : at + hops] for at in range(0, len(edges), hops)],
        )

    return sample


register_native(run)
