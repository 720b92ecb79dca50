"""Mini-batches of hypergraphs: hyperedges of seed nodes and members of these, drawn layer by layer.

It is :class:`graphkit.ops.Sampler` on the two relations of a hypergraph, from hyperedges to nodes
and back, which take turns: two hops are a layer.
"""

# pyright: strict

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from torch import Tensor

from ..errors import ConfigError, GraphError
from ..graph import Graph
from ..ops import HeteroSampled, Key, Sampler

_TO_NODES = ("hyperedge", "has", "node")
_TO_EDGES = ("node", "in", "hyperedge")
_NO_KEY = Key()


class HyperBlock(NamedTuple):
    """What one layer runs on: from its nodes ``to_edges``, and from these ``to_nodes``, the first
    ``to_nodes.num_dst`` of the nodes."""

    to_edges: Graph
    to_nodes: Graph


@dataclass(frozen=True, eq=False, repr=False)
class SampledHyperedges:
    """The part of a hypergraph that a batch of seeds was given.

    ``n_id [n]``, ``hyperedge_id [m]`` int64: the node and the hyperedge of each local number, the
    seeds first, then in the order of discovery. ``blocks``: the first layer's first; ``x[n_id]``
    goes in and the rows of the seeds come out of the last. ``to_edges_id`` and ``to_nodes_id``
    int64: for each edge of the first block's graphs the incidence, in the caller's order; later
    blocks have prefixes of them, ``[: block.to_edges.num_edges]``.
    """

    n_id: Tensor
    hyperedge_id: Tensor
    to_edges_id: Tensor
    to_nodes_id: Tensor
    blocks: list[HyperBlock]

    def __repr__(self) -> str:
        return (
            f"SampledHyperedges(nodes={len(self.n_id)}, hyperedges={len(self.hyperedge_id)}, "
            f"layers={len(self.blocks)})"
        )


class HyperedgeSampler:
    """Draws what layers over a hypergraph need for a batch of nodes.

    ``fanout``: for each layer, the last one first, how many hyperedges each node draws and how many
    members each of these, -1 for all; a single number stands for both. A node or hyperedge draws
    once, in the layer after the one that discovered it. With -1 throughout, the members of every
    hyperedge and the hyperedges of every node that a layer reads are all there, and means over them
    are those of the whole hypergraph; scales from degrees of nodes are to be taken from the whole,
    at ``n_id``.

    ``replace`` and ``method`` are those of :func:`graphkit.ops.sample`, and so are cost and
    determinism: equal keys (seed, epoch, batch) draw the same for any number of threads.

    Raises:
        ConfigError: no layer, or a fan-out that is no number from -1 on.
        GraphError: the hypergraph has no transposed side, or seeds out of range.
    """

    def __init__(
        self,
        hypergraph: Graph,
        fanout: Sequence[int | tuple[int, int]],
        *,
        replace: bool = False,
        method: Literal["neighbor", "labor"] = "neighbor",
    ) -> None:
        pairs = [_pair(one) for one in fanout]
        if not pairs:
            raise ConfigError(
                "HyperedgeSampler: fanout is empty, but at least a layer is expected."
            )
        nodes = [number for pair in pairs for number in (pair[0], 0)]
        edges = [number for pair in pairs for number in (0, pair[1])]
        self.num_layers = len(pairs)
        self._sampler = Sampler(
            {_TO_NODES: hypergraph, _TO_EDGES: hypergraph.t()},
            {_TO_NODES: nodes, _TO_EDGES: edges},
            replace=replace,
            method=method,
        )

    def __call__(
        self,
        seeds: Tensor,
        key: Key | tuple[int, int, int] = _NO_KEY,
        *,
        transpose: bool = False,
    ) -> SampledHyperedges:
        """What was drawn for ``seeds``, int64 or int32 node numbers.

        ``transpose`` sorts each block by source as well, which gradients with respect to features
        need.
        """
        if not isinstance(seeds, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise GraphError(
                f"HyperedgeSampler: seeds is a {type(seeds).__name__}, but a tensor of node "
                "numbers is expected."
            )
        found = cast(HeteroSampled, self._sampler({"node": seeds}, key))
        hops = found.blocks(transpose=transpose)
        blocks = [
            HyperBlock(hops[2 * layer][_TO_EDGES], hops[2 * layer + 1][_TO_NODES])
            for layer in range(self.num_layers)
        ]
        return SampledHyperedges(
            found.n_id["node"],
            found.n_id["hyperedge"],
            found.e_id[_TO_EDGES],
            found.e_id[_TO_NODES],
            blocks,
        )


def _pair(given: int | tuple[int, int]) -> tuple[int, int]:
    pair = given if isinstance(given, (tuple, list)) else (given, given)
    if len(pair) != 2 or any(type(one) is not int or one < -1 for one in pair):
        raise ConfigError(
            f"HyperedgeSampler: fanout has {given!r}, but a whole number from -1 on, or two of "
            "them (hyperedges of a node, members of a hyperedge), are expected for each layer."
        )
    return pair[0], pair[1]
