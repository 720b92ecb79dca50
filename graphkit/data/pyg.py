"""PyG's loaders on our sampler, with no compiled package beside it. (opt: torch_geometric)"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.loader import LinkLoader, NodeLoader
from torch_geometric.sampler import (
    BaseSampler,
    EdgeSamplerInput,
    HeteroSamplerOutput,
    NegativeSampling,
    NodeSamplerInput,
    NumNeighbors,
    SamplerOutput,
)
from torch_geometric.sampler.neighbor_sampler import edge_sample, node_sample
from torch_geometric.typing import EdgeType

from ..errors import ConfigError, GraphError
from ..graph import Graph
from ..ops import Key, Sampled, Sampler
from ..ops.random import draw_seed, random_word

# negatives are drawn from torch's one generator, which is set for the while
_DRAWING = threading.Lock()


class GraphkitSampler(BaseSampler):
    """:class:`graphkit.ops.Sampler` as one of PyG's: for ``NodeLoader`` and ``LinkLoader``.

    The arguments are those of PyG's ``NeighborSampler``; ``is_sorted`` and ``share_memory`` change
    nothing. ``data``: a ``Data`` or ``HeteroData`` with ``edge_index`` or ``adj_t``. ``method`` and
    ``layer_dependency``: see :func:`graphkit.ops.sample`.

    ``seed``: batches are a function of it, of :attr:`epoch` and of the batch's first ``input_id``,
    negative links included: the same for any number of workers and in any order. Without one,
    every call draws from torch's generator, as other loaders do.

    Raises :class:`GraphError` and :class:`ConfigError` as :func:`graphkit.ops.sample`.
    """

    epoch: int
    """What the next batches are drawn for: set it before each pass if there is a ``seed``."""

    def __init__(
        self,
        data: Data | HeteroData,
        num_neighbors: Any,
        subgraph_type: Any = "directional",
        replace: bool = False,
        disjoint: bool = False,
        temporal_strategy: Literal["uniform", "last"] = "uniform",
        time_attr: str | None = None,
        weight_attr: str | None = None,
        is_sorted: bool = False,
        share_memory: bool = False,
        *,
        method: Literal["neighbor", "labor"] = "neighbor",
        layer_dependency: bool = False,
        seed: int | None = None,
    ) -> None:
        if not isinstance(data, (Data, HeteroData)):
            raise GraphError(
                f"GraphkitSampler: data is a {type(data).__name__}, but a torch_geometric Data or "
                "HeteroData is expected. Collect the edges of a GraphStore into one."
            )
        self.is_hetero = isinstance(data, HeteroData)
        self.edge_types: list[EdgeType] = data.edge_types if self.is_hetero else []
        self.node_types: list[str] = data.node_types if self.is_hetero else []
        self.num_nodes: Any = {kind: data[kind].num_nodes for kind in self.node_types}
        if not self.is_hetero:
            self.num_nodes = data.num_nodes
        # an enumeration of PyG's, or its name
        subgraph = str(getattr(subgraph_type, "value", subgraph_type))
        self.is_bidirectional = subgraph == "bidirectional"
        self.node_time, edge_time = self._times(data, time_attr)
        self.disjoint = disjoint or time_attr is not None
        self.sampler = Sampler(
            self._graphs(data),
            self._fanout(num_neighbors),
            replace=replace,
            method=method,
            layer_dependency=layer_dependency,
            edge_weight=self._collect(data, weight_attr),
            node_time=self.node_time,
            edge_time=edge_time,
            temporal_strategy=temporal_strategy,
            disjoint=disjoint,
            subgraph_type=cast(Any, "directional" if self.is_bidirectional else subgraph),
        )
        if seed is not None:
            _check_seed(seed)
        self.seed, self.epoch = seed, 0

    @property
    def edge_permutation(self) -> None:
        """None: edges keep the numbers they have in ``data``."""
        return None

    def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: Any) -> Any:
        """The neighbourhood of a batch of nodes."""
        key = self._key(index.input_id, index.node)
        return node_sample(index, lambda seeds, time: self._sample(seeds, time, key))

    def sample_from_edges(
        self, index: EdgeSamplerInput, neg_sampling: NegativeSampling | None = None
    ) -> Any:
        """The neighbourhood of both ends of a batch of links, and of negative ones."""
        key = self._key(index.input_id, index.row)

        def drawn() -> Any:
            return edge_sample(
                index,
                lambda seeds, time=None: self._sample(seeds, time, key),
                self.num_nodes,
                self.disjoint,
                cast(Any, self.node_time),
                neg_sampling,
            )

        if neg_sampling is None:
            return drawn()
        word = random_word(random_word(key.seed, key.epoch), key.batch)
        with _DRAWING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(word % 2**63)
            return drawn()

    def _key(self, input_id: Tensor | None, nodes: Tensor) -> Key:
        if self.seed is None:
            return Key(int(draw_seed(torch.device("cpu"))))
        first = nodes if input_id is None else input_id
        return Key(self.seed, self.epoch, int(first[0]) if len(first) else 0)

    def _sample(self, seeds: Any, time: Any, key: Key) -> SamplerOutput | HeteroSamplerOutput:
        found = self.sampler(seeds, key, seed_time=time)
        if isinstance(found, Sampled):
            out = SamplerOutput(
                node=found.n_id,
                row=found.row,
                col=found.col,
                edge=found.e_id,
                batch=found.batch,
                num_sampled_nodes=found.num_sampled_nodes,
                num_sampled_edges=found.num_sampled_edges,
            )
            return out.to_bidirectional() if self.is_bidirectional else out
        # types that no edge touches have no nodes in a batch
        hops = self.sampler.plan.hops
        alone = [kind for kind in self.node_types if kind not in found.n_id]
        none = torch.empty(0, dtype=torch.int64)
        batch = found.batch
        out = HeteroSamplerOutput(
            node={**found.n_id, **dict.fromkeys(alone, none)},
            row=found.row,
            col=found.col,
            edge=cast(Any, found.e_id),
            batch=None if batch is None else {**batch, **dict.fromkeys(alone, none)},
            num_sampled_nodes={
                **found.num_sampled_nodes,
                **{kind: [0] * (hops + 1) for kind in alone},
            },
            num_sampled_edges=found.num_sampled_edges,
        )
        return cast(Any, out.to_bidirectional() if self.is_bidirectional else out)

    def _fanout(self, given: Any) -> Any:
        if isinstance(given, NumNeighbors):
            return given.get_values(self.edge_types if self.is_hetero else None)
        return given

    def _graphs(self, data: Any) -> Any:
        if self.is_hetero:
            return {
                kind: _graph(data[kind], self.num_nodes[kind[0]], self.num_nodes[kind[2]])
                for kind in self.edge_types
            }
        return _graph(data, self.num_nodes, self.num_nodes)

    def _collect(self, data: Any, name: str | None) -> Any:
        """The attribute ``name`` of the edges."""
        if name is None:
            return None
        stores = [data[kind] for kind in self.edge_types] if self.is_hetero else [data]
        for store in stores:
            if name not in store:
                where = getattr(store, "_key", None) or "data"
                raise GraphError(
                    f"GraphkitSampler: weight_attr is {name!r}, but {where} has no such attribute. "
                    "Give every kind of edges one."
                )
        if self.is_hetero:
            return {kind: data[kind][name] for kind in self.edge_types}
        return data[name]

    def _times(self, data: Any, name: str | None) -> tuple[Any, Any]:
        """The times of nodes and of edges, one of them None."""
        if name is None:
            return None, None
        if self.is_hetero:
            touched = {end for kind in self.edge_types for end in (kind[0], kind[2])}
            of_nodes = {kind: data[kind].get(name) for kind in self.node_types if kind in touched}
            of_edges = {kind: data[kind].get(name) for kind in self.edge_types}
            has_nodes, has_edges = (
                any(value is not None for value in found.values()) for found in (of_nodes, of_edges)
            )
        else:
            of_nodes = of_edges = data.get(name)
            has_nodes = of_nodes is not None and data.is_node_attr(name)
            has_edges = of_edges is not None and not has_nodes
        if has_nodes == has_edges:
            found = (
                "both nodes and edges have it" if has_nodes else "neither nodes nor edges have it"
            )
            raise GraphError(
                f"GraphkitSampler: time_attr is {name!r}, but {found}. Name an attribute of one of "
                "them."
            )
        return (of_nodes, None) if has_nodes else (None, of_edges)


def _graph(store: Any, num_src: int, num_dst: int) -> Graph:
    if "edge_index" in store:
        return Graph.from_edge_index(
            store["edge_index"].as_subclass(Tensor),
            num_src=num_src,
            num_dst=num_dst,
            transpose=False,
        )
    adj: Any = store.get("adj_t")
    if isinstance(adj, Tensor) and adj.layout == torch.sparse_csr:
        return Graph.from_csr(
            adj.crow_indices(), adj.col_indices(), num_src=num_src, transpose=False
        )
    # torch_sparse's, without importing it
    if (rows := getattr(adj, "csr", None)) is not None:
        indptr, indices, _ = rows()
        return Graph.from_csr(indptr, indices, num_src=num_src, transpose=False)
    raise GraphError(
        "GraphkitSampler: the data has neither an edge_index nor an adj_t in compressed rows. Set "
        "data.edge_index."
    )


def _check_seed(seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ConfigError(
            f"GraphkitSampler: seed is {seed!r}, but a whole number from 0 to 2**63 - 1, or None, "
            "is expected."
        )


class _Epochs:
    """Gives every pass over a loader the next epoch."""

    epoch: int
    """The epoch of the next pass; set it to go on where another process stopped."""
    _of: GraphkitSampler

    def _start(self, sampler: GraphkitSampler, loader: Mapping[str, Any]) -> None:
        if loader.get("persistent_workers"):
            raise ConfigError(
                "persistent_workers keep the sampler of the first epoch, so that every epoch would "
                "draw the same. Leave it out; our sampler needs no workers."
            )
        self.epoch, self._of = 0, sampler

    def __iter__(self) -> Iterator[Any]:
        self._of.epoch = self.epoch
        self.epoch += 1
        return super().__iter__()  # pyright: ignore


def _sampler(
    data: Any, num_neighbors: Any, given: Any, directed: bool, options: dict[str, Any]
) -> GraphkitSampler:
    if given is not None:
        if not isinstance(given, GraphkitSampler):
            raise ConfigError(
                f"neighbor_sampler is a {type(given).__name__}, but a GraphkitSampler is expected. "
                "For another one use PyG's NodeLoader or LinkLoader."
            )
        return given
    if not directed:
        options["subgraph_type"] = "induced"
    if options["seed"] is None:
        options["seed"] = int(draw_seed(torch.device("cpu")))
    return GraphkitSampler(data, num_neighbors, **options)


class NeighborLoader(_Epochs, NodeLoader):
    """PyG's ``NeighborLoader`` with our sampler: the same arguments, the same batches' attributes.

    Two keywords are new: ``method`` and ``layer_dependency`` (:func:`graphkit.ops.sample`), and
    ``seed``, by default drawn from torch's generator once. A batch is a function of the seed, the
    epoch (:attr:`epoch` counts the passes) and the batch's first ``input_id``, for any number of
    workers; ``shuffle`` follows torch's generator as before.
    """

    def __init__(
        self,
        data: Data | HeteroData,
        num_neighbors: Any,
        input_nodes: Any = None,
        input_time: Tensor | None = None,
        replace: bool = False,
        subgraph_type: Any = "directional",
        disjoint: bool = False,
        temporal_strategy: Literal["uniform", "last"] = "uniform",
        time_attr: str | None = None,
        weight_attr: str | None = None,
        transform: Callable[..., Any] | None = None,
        transform_sampler_output: Callable[..., Any] | None = None,
        is_sorted: bool = False,
        filter_per_worker: bool | None = None,
        neighbor_sampler: GraphkitSampler | None = None,
        directed: bool = True,
        *,
        method: Literal["neighbor", "labor"] = "neighbor",
        layer_dependency: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if input_time is not None and time_attr is None and neighbor_sampler is None:
            raise ConfigError("input_time is of no use without time_attr.")
        sampler = _sampler(data, num_neighbors, neighbor_sampler, directed, dict(
            replace=replace, subgraph_type=subgraph_type, disjoint=disjoint,
            temporal_strategy=temporal_strategy, time_attr=time_attr, weight_attr=weight_attr,
            method=method, layer_dependency=layer_dependency, seed=seed,
        ))  # fmt: skip
        self._start(sampler, kwargs)
        super().__init__(
            data=data,
            node_sampler=sampler,
            input_nodes=input_nodes,
            input_time=input_time,
            transform=transform,
            transform_sampler_output=transform_sampler_output,
            filter_per_worker=filter_per_worker,
            **kwargs,
        )


class LinkNeighborLoader(_Epochs, LinkLoader):
    """PyG's ``LinkNeighborLoader`` with our sampler; see :class:`NeighborLoader`.

    Negative links are PyG's, drawn by the same formula as the rest of the batch.
    """

    def __init__(
        self,
        data: Data | HeteroData,
        num_neighbors: Any,
        edge_label_index: Any = None,
        edge_label: Tensor | None = None,
        edge_label_time: Tensor | None = None,
        replace: bool = False,
        subgraph_type: Any = "directional",
        disjoint: bool = False,
        temporal_strategy: Literal["uniform", "last"] = "uniform",
        neg_sampling: Any = None,
        neg_sampling_ratio: float | None = None,
        time_attr: str | None = None,
        weight_attr: str | None = None,
        transform: Callable[..., Any] | None = None,
        transform_sampler_output: Callable[..., Any] | None = None,
        is_sorted: bool = False,
        filter_per_worker: bool | None = None,
        neighbor_sampler: GraphkitSampler | None = None,
        directed: bool = True,
        *,
        method: Literal["neighbor", "labor"] = "neighbor",
        layer_dependency: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if (edge_label_time is None) != (time_attr is None) and neighbor_sampler is None:
            raise ConfigError(
                "edge_label_time and time_attr belong together: the time of every link, and the "
                "attribute that holds the times of the graph. Pass both or none."
            )
        sampler = _sampler(data, num_neighbors, neighbor_sampler, directed, dict(
            replace=replace, subgraph_type=subgraph_type, disjoint=disjoint,
            temporal_strategy=temporal_strategy, time_attr=time_attr, weight_attr=weight_attr,
            method=method, layer_dependency=layer_dependency, seed=seed,
        ))  # fmt: skip
        self._start(sampler, kwargs)
        super().__init__(
            data=data,
            link_sampler=sampler,
            edge_label_index=edge_label_index,
            edge_label=edge_label,
            edge_label_time=edge_label_time,
            neg_sampling=neg_sampling,
            neg_sampling_ratio=neg_sampling_ratio,
            transform=transform,
            transform_sampler_output=transform_sampler_output,
            filter_per_worker=filter_per_worker,
            **kwargs,
        )
