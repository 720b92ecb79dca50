"""The native walks and pushes behind ``graphkit.ops.random_walk`` and ``graphkit.ops.ppr``."""

# pyright: strict

from __future__ import annotations

import torch
from torch import Tensor

from ...graph import Csr
from ..walk import Starts, Ways, register_native
from . import native

SERVED = ("random_walk", "importance_neighbors", "ppr")


def walk(ways: Ways, starts: Starts, edges: bool) -> tuple[Tensor, Tensor | None]:
    back, near, far = ways.chance
    bias = native.kernels.WalkBias(ways.second, ways.weight[0], ways.weight[2], back, near, far)
    count, length = len(starts.node), starts.length
    node = torch.empty(count, length + 1, dtype=torch.int64)
    edge = torch.empty(count, length, dtype=torch.int64) if edges else None
    native.kernels.walk(
        [native.side(side.ptr, side.idx, side.eid) for side in ways.sides],
        [native.address(side.sums) for side in ways.sides],
        bias,
        starts.node.data_ptr(),
        starts.number.data_ptr(),
        count,
        length,
        starts.word,
        starts.ends,
        starts.stop,
        node.data_ptr(),
        native.address(edge),
        native.threads(),
    )
    return node, edge


def push(of: Csr, seeds: Tensor, alpha: int, least: int, top: int) -> tuple[Tensor, Tensor, Tensor]:
    node, mass = (torch.zeros(len(seeds), top, dtype=torch.int64) for _ in range(2))
    count = torch.zeros(len(seeds), dtype=torch.int64)
    is_done = native.kernels.push(
        native.side(of.indptr, of.indices, None),
        seeds.data_ptr(),
        len(seeds),
        alpha,
        least,
        top,
        node.data_ptr(),
        mass.data_ptr(),
        count.data_ptr(),
        native.threads(),
    )
    if not is_done:
        raise MemoryError("ppr: there is not enough memory for 49 bytes for each node and thread.")
    return node, mass, count


register_native(walk, push)
