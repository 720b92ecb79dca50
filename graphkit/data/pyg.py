"""PyG's loaders on our sampler, with no compiled package beside it. (opt: torch_geometric)"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from functools import partial
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

from ..errors import ConfigError, GraphError, nearest
from ..graph import Graph
from ..ops import Key, NegativeSampler, Sampled, Sampler
from ..ops.random import as_word, draw_seed, random_word, random_words
from ..store.reader import Store
from .ahead import Kept, may_run_ahead, run_ahead
from .pyg_store import StoreFeatures, StoreGraph, skeleton

_EXCLUDES = ("seed", "seed+reverse")


class GraphkitSampler(BaseSampler):
    """:class:`graphkit.ops.Sampler` as one of PyG's: for ``NodeLoader`` and ``LinkLoader``.

    The arguments are those of PyG's ``NeighborSampler``; ``is_sorted`` and ``share_memory`` change
    nothing. ``data``: a ``Data`` or ``HeteroData`` with ``edge_index`` or ``adj_t``, or a
    :class:`StoreGraph`, whose files are mapped and not read into memory. ``method`` and
    ``layer_dependency``: see :func:`graphkit.ops.sample`.

    ``seed``: batches are a function of it, of :attr:`epoch` and of the batch's ``input_id``,
    negative links included: the same for any number of workers and in any order. Without one,
    every call draws a key from torch's generator, as other loaders do. Nothing else touches
    torch's generators, and calls from several threads run side by side.

    ``exclude``, for batches of links: ``"seed"`` takes no edge between the ends of a link of the
    batch, parallel ones included; ``"seed+reverse"`` none in the other direction either (of several
    relations that of ``rev_`` and the name, as PyG's ``ToUndirected`` calls it). What is left is
    drawn as if these edges did not exist. Batches of nodes are as without it.

    ``check_negatives``: no negative link is an edge of its relation, nor a link of the batch
    (:func:`graphkit.ops.sample_negatives`, which raises where a source of triplets has an edge to
    every node). Links that are held out of ``data`` are no edges here. By default negatives are
    drawn as PyG's, some of them edges.

    Raises :class:`GraphError` and :class:`ConfigError` as :func:`graphkit.ops.sample`.
    """

    epoch: int
    """What batches are drawn for if there is a ``seed``: set it before each pass of PyG's own
    loaders. Ours count for themselves and leave it alone."""

    def __init__(
        self,
        data: Data | HeteroData | StoreGraph | tuple[StoreFeatures, StoreGraph],
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
        exclude: Literal["seed", "seed+reverse"] | None = None,
        check_negatives: bool = False,
    ) -> None:
        store = _store_of(data)
        if store is not None:
            data = skeleton(store, {weight_attr, time_attr})
        if not isinstance(data, (Data, HeteroData)):
            raise GraphError(
                f"GraphkitSampler: data is a {type(data).__name__}, but a torch_geometric Data or "
                "HeteroData, or a StoreGraph, is expected. Collect the edges of another GraphStore "
                "into one."
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
        self.time_attr = time_attr
        self.node_time, edge_time = self._times(data, time_attr)
        self.disjoint = disjoint or time_attr is not None
        self.graphs = self._graphs(data) if store is None else self._mapped(store)
        self.sampler = Sampler(
            self.graphs,
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
        self._words = torch.empty(0, dtype=torch.int64)
        if exclude not in (None, *_EXCLUDES):
            raise ConfigError(
                f"GraphkitSampler: unknown exclude {exclude!r}. {nearest(str(exclude), _EXCLUDES)}"
            )
        if check_negatives and self.node_time is not None:
            raise ConfigError(
                "GraphkitSampler: check_negatives does not go with times of nodes, for which PyG "
                "draws negatives by itself. Give the edges times, or leave it out."
            )
        if exclude == "seed" and self.is_bidirectional:
            raise ConfigError(
                "GraphkitSampler: exclude='seed' does not go with subgraph_type='bidirectional', "
                "which would turn the reverse of a seed link into that link. Pass 'seed+reverse'."
            )
        self.exclude, self.check_negatives = exclude, check_negatives
        # of each type of links what its negatives are drawn with, and the weights it was made for
        self._negatives: dict[Any, tuple[list[Any], NegativeSampler]] = {}

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
        # a class of the user's own draws by itself
        if type(neg_sampling) is NegativeSampling:
            checked = self._checked(neg_sampling, index) if self.check_negatives else None
            neg_sampling = _Negatives(neg_sampling, key, checked, index, self.disjoint)
        elif neg_sampling is not None and self.check_negatives:
            raise ConfigError(
                "GraphkitSampler: check_negatives does not go with neg_sampling of the class "
                f"{type(neg_sampling).__name__}, which draws by itself. Pass a NegativeSampling, "
                "or leave it out."
            )
        exclude = self._excluded(index)
        return edge_sample(
            index,
            lambda seeds, time=None: self._sample(seeds, time, key, exclude),
            self.num_nodes,
            self.disjoint,
            cast(Any, self.node_time),
            neg_sampling,
        )

    def _key(self, input_id: Tensor | None, nodes: Tensor) -> Key:
        if self.seed is None:
            return Key(int(draw_seed(torch.device("cpu"))))
        ids = (nodes if input_id is None else input_id).to(torch.int64)
        words = self._words
        if len(words) < len(ids):
            words = self._words = random_words(as_word(0), torch.arange(len(ids)))
        # all ids and their order in one number, by a random word of each place; the sum wraps
        batch = random_word(len(ids), int(torch.dot(ids, words[: len(ids)])) % 2**64)
        return Key(self.seed, self.epoch, batch % 2**63)

    def _excluded(self, index: EdgeSamplerInput) -> Any:
        """The edges that a batch of links must not see."""
        if self.exclude is None:
            return None
        pairs, kind = torch.stack([index.row, index.col]), index.input_type
        back = pairs.flip(0)
        both = torch.cat([pairs, back], 1)
        is_both = self.exclude == "seed+reverse"
        if not self.is_hetero:
            return both if is_both else pairs
        src, relation, dst = cast(EdgeType, kind)
        turned = relation[4:] if relation.startswith("rev_") else f"rev_{relation}"
        reverse = (dst, turned, src)
        if is_both and src != dst and reverse not in self.edge_types:
            raise ConfigError(
                f"GraphkitSampler: exclude='seed+reverse' looks for edges of type {reverse!r}, "
                "which the data does not have. Name the reverse relation so, or pass 'seed'."
            )
        found = {reverse: back} if is_both else {}
        found[cast(EdgeType, kind)] = both if is_both and src == dst else pairs
        return {name: ends for name, ends in found.items() if name in self.edge_types}

    def _checked(self, given: NegativeSampling, index: EdgeSamplerInput) -> NegativeSampler:
        kind = index.input_type
        graph = self.graphs.get(kind) if self.is_hetero else self.graphs
        if graph is None:
            raise GraphError(
                f"GraphkitSampler: check_negatives needs the edges of {kind!r}, but the data has "
                "none. Add them, or leave it out."
            )
        weights = [_on_cpu(given.src_weight), _on_cpu(given.dst_weight)]
        made_for, made = self._negatives.get(kind, (weights, None))
        # weights may be changed between epochs, also in place
        if made is None or not all(map(_is_same, made_for, weights)):
            made = NegativeSampler(
                graph,
                src_weight=weights[0],
                dst_weight=weights[1],
                loops=kind is not None and kind[0] != kind[2],
            )
            self._negatives[kind] = [copy.deepcopy(weight) for weight in weights], made
        return made

    def _sample(
        self, seeds: Any, time: Any, key: Key, exclude: Any = None
    ) -> SamplerOutput | HeteroSamplerOutput:
        # types that no edge touches are unknown to the sampler
        types, given = self.sampler.plan.types, seeds
        if self.is_hetero:
            seeds = {kind: ids for kind, ids in seeds.items() if kind in types}
            time = time and {kind: times for kind, times in time.items() if kind in types}
        found = self.sampler(seeds, key, seed_time=time, exclude=exclude)
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
        # of them a batch has the seeds, if any
        none = torch.empty(0, dtype=torch.int64)
        alone = {kind: given.get(kind, none) for kind in self.node_types if kind not in types}
        for kind, ids in alone.items():
            _check_ids(f"seeds[{kind!r}]", ids, self.num_nodes[kind])
        batch = found.batch
        if batch is not None and not seeds.keys() >= given.keys():
            # trees are numbered in the order of all seeds
            sizes = [len(ids) for ids in given.values()]
            trees = dict(zip(given, torch.arange(sum(sizes)).split(sizes), strict=True))
            numbers = torch.cat([none, *(trees[kind] for kind in seeds)])
            batch = {kind: numbers[of_kind] for kind, of_kind in batch.items()}
            batch |= {kind: trees.get(kind, none) for kind in alone}
        elif batch is not None:
            batch = {**batch, **alone}
        rest = [0] * self.sampler.plan.hops
        out = HeteroSamplerOutput(
            node={**found.n_id, **alone},
            row=found.row,
            col=found.col,
            edge=cast(Any, found.e_id),
            batch=batch,
            num_sampled_nodes={
                **found.num_sampled_nodes,
                **{kind: [len(ids), *rest] for kind, ids in alone.items()},
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

    def _mapped(self, store: Store) -> Any:
        return store.graphs() if self.is_hetero else store.graph()

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
            return {kind: _on_cpu(data[kind][name]) for kind in self.edge_types}
        return _on_cpu(data[name])

    def _times(self, data: Any, name: str | None) -> tuple[Any, Any]:
        """The times of nodes and of edges, one of them None."""
        if name is None:
            return None, None
        if self.is_hetero:
            touched = {end for kind in self.edge_types for end in (kind[0], kind[2])}
            of_nodes = {k: _on_cpu(data[k].get(name)) for k in self.node_types if k in touched}
            of_edges = {kind: _on_cpu(data[kind].get(name)) for kind in self.edge_types}
            has_nodes, has_edges = (
                any(value is not None for value in found.values()) for found in (of_nodes, of_edges)
            )
        else:
            of_nodes = of_edges = _on_cpu(data.get(name))
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


class _Negatives(NegativeSampling):
    """PyG's negatives from a generator of their own, which the key seeds, or ``checked`` ones."""

    def __init__(
        self,
        given: NegativeSampling,
        key: Key,
        checked: NegativeSampler | None,
        index: EdgeSamplerInput,
        disjoint: bool,
    ) -> None:
        super().__init__(given.mode, given.amount, given.src_weight, given.dst_weight)
        self.key, self.checked, self.index, self.disjoint = key, checked, index, disjoint
        word = random_word(random_word(key.seed, key.epoch), key.batch)
        self.generator = torch.Generator().manual_seed(word % 2**63)

    def sample(
        self, num_samples: int, endpoint: Literal["src", "dst"], num_nodes: int | None = None
    ) -> Tensor:
        if self.checked is not None:
            links = torch.stack([self.index.row, self.index.col])
            if self.is_binary():
                # the same pairs for both ends
                pairs = self.checked(num_samples, self.key, exclude=links)
                return pairs[0 if endpoint == "src" else 1]
            amount = cast(int, self.amount)
            found = self.checked(self.index.row, self.key, amount=amount, exclude=links)
            # PyG reads trees one round of negatives after the other, and else link by link
            return found.t().flatten() if self.disjoint else found.flatten()
        weight = self.src_weight if endpoint == "src" else self.dst_weight
        if weight is None:
            return torch.randint(cast(int, num_nodes), (num_samples,), generator=self.generator)
        if weight.numel() != num_nodes:
            raise GraphError(
                f"GraphkitSampler: {endpoint}_weight of neg_sampling has {weight.numel()} entries, "
                f"but there are {num_nodes} nodes. It needs one for each."
            )
        return torch.multinomial(
            weight.cpu(), num_samples, replacement=True, generator=self.generator
        )


def _store_of(data: Any) -> Store | None:
    """The store whose edges are meant, None for what is in memory."""
    if isinstance(data, tuple) and len(data) == 2:
        data = data[1]
    return data.store if isinstance(data, StoreGraph) else None


def _on_cpu(value: Any) -> Any:
    # sampling is the CPU's work, wherever the features lie
    return value.cpu() if isinstance(value, Tensor) else value


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return a is b


def _check_ids(name: str, ids: Tensor, count: int) -> None:
    bad = (ids < 0) | (ids >= count)
    if bool(bad.any()):
        at = int(bad.nonzero()[0])
        raise GraphError(
            f"GraphkitSampler: {name}[{at}] = {int(ids[at])}, but there are {count} nodes. Drop it."
        )


def _graph(store: Any, num_src: int, num_dst: int) -> Graph:
    if "edge_index" in store:
        return Graph.from_edge_index(
            store["edge_index"].as_subclass(Tensor).cpu(),
            num_src=num_src,
            num_dst=num_dst,
            transpose=False,
        )
    adj: Any = store.get("adj_t")
    if isinstance(adj, Tensor) and adj.layout == torch.sparse_csr:
        return Graph.from_csr(
            adj.crow_indices().cpu(), adj.col_indices().cpu(), num_src=num_src, transpose=False
        )
    # torch_sparse's, without importing it
    if (rows := getattr(adj, "csr", None)) is not None:
        indptr, indices, _ = rows()
        return Graph.from_csr(indptr.cpu(), indices.cpu(), num_src=num_src, transpose=False)
    raise GraphError(
        "GraphkitSampler: the data has neither an edge_index nor an adj_t in compressed rows. Set "
        "data.edge_index."
    )


def _is_from(least: int, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_seed(seed: Any) -> None:
    if not _is_from(0, seed) or seed >= 2**63:
        raise ConfigError(
            f"GraphkitSampler: seed is {seed!r}, but a whole number from 0 to 2**63 - 1, or None, "
            "is expected."
        )


class _Epochs:
    """Gives every pass over a loader the next epoch, and makes its batches ahead of their use."""

    epoch: int
    """The epoch of the next pass; set it to go on where another process stopped."""
    _name: str
    _depth: int
    _budget: int | None
    _kept: Kept
    _working: tuple[Any, Tensor] | None = None
    """The loader that persistent workers were started with, and the epoch that they read."""

    def _start(self, name: str, ahead: int, ahead_bytes: int | None) -> None:
        if not _is_from(0, ahead):
            raise ConfigError(f"ahead is {ahead!r}, but a number of batches from 0 on is expected.")
        if ahead_bytes is not None and not _is_from(1, ahead_bytes):
            raise ConfigError(
                f"ahead_bytes is {ahead_bytes!r}, but a number of bytes from 1 on, or None for no "
                "bound, is expected."
            )
        self.epoch, self._name = 0, name
        self._depth, self._budget, self._kept = ahead, ahead_bytes, Kept()

    def filter_fn(self, out: Any) -> Any:
        """PyG's; of a store the tables of edges as well, which PyG leaves out."""
        data: Any = self.data  # pyright: ignore
        if not isinstance(data, tuple) or not isinstance(data[0], StoreFeatures):
            return super().filter_fn(out)  # pyright: ignore
        bare: Any = copy.copy(self)
        if bare.transform_sampler_output is not None:
            out = bare.transform_sampler_output(out)
        bare.transform_sampler_output = bare.transform = None
        found = super(_Epochs, bare).filter_fn(out)  # pyright: ignore
        is_hetero = data[0].store.layout.is_hetero
        for kind, e_id in (out.edge or {}).items() if is_hetero else [(None, out.edge)]:
            if e_id is not None:
                place: Any = found[kind] if is_hetero else found
                place.update(data[0].edge_tables(kind, e_id))
        return found if self.transform is None else self.transform(found)  # pyright: ignore

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        self.epoch += 1
        if self._working is not None:
            own, shared = self._working
            shared.fill_(epoch)
            return super(_Epochs, own).__iter__()  # pyright: ignore
        # a pass has a loader and a sampler of its own: others may begin before it is over
        own: Any = copy.copy(self)
        sampler = copy.copy(getattr(self, self._name))
        sampler.epoch = epoch
        setattr(own, self._name, sampler)
        own.collate_fn = type(self).collate_fn.__get__(own)  # pyright: ignore
        if own.persistent_workers:
            # they keep what they are started with, so that the epoch is in memory that they share
            shared = torch.tensor(epoch).share_memory_()
            own.collate_fn = partial(_collated, own.collate_fn, sampler, shared)
            self._working = own, shared
        # classes of the user's own, whose code is theirs, make each batch when it is asked for
        ours = type(self) in (NeighborLoader, LinkNeighborLoader)
        ours &= type(sampler) is GraphkitSampler and sampler.seed is not None
        if self._depth and ours and may_run_ahead(own):
            # DataLoader's own draw, so that shuffling after manual_seed gives the order of PyG
            torch.empty((), dtype=torch.int64).random_(generator=own.generator)
            return run_ahead(own, self._depth, self._budget, self._kept)
        return super(_Epochs, own).__iter__()  # pyright: ignore


def _collated(
    collate: Callable[[Any], Any], sampler: GraphkitSampler, epoch: Tensor, ids: Any
) -> Any:
    """In a worker that stays: what ``collate``, which draws by ``sampler``, makes of ``ids``."""
    sampler.epoch = int(epoch)
    return collate(ids)


def _sampler(
    data: Any, num_neighbors: Any, given: Any, directed: bool, options: dict[str, Any]
) -> GraphkitSampler:
    for store in data.edge_stores if isinstance(data, (Data, HeteroData)) else ():
        if isinstance(store.get("adj_t"), Tensor):
            raise GraphError(
                "adj_t is a torch tensor, of which PyG's loaders cannot make batches. Set "
                "data.edge_index and delete adj_t, or make it a torch_sparse.SparseTensor."
            )
    if given is not None:
        if not isinstance(given, GraphkitSampler):
            raise ConfigError(
                f"neighbor_sampler is a {type(given).__name__}, but a GraphkitSampler is expected. "
                "For another one use PyG's NodeLoader or LinkLoader."
            )
        known = inspect.signature(GraphkitSampler).parameters
        beside = [
            name
            for name, value in options.items()
            if getattr(value, "value", value) != known[name].default
            # PyG wants it wherever links have times
            and not (name == "time_attr" and value == given.time_attr)
        ]
        if beside or not directed:
            raise ConfigError(
                f"{(*beside, 'directed')[0]} is given beside neighbor_sampler, which has its own "
                "options. Pass it to GraphkitSampler."
            )
        return given
    if not directed:
        options["subgraph_type"] = "induced"
    if options["seed"] is None:
        options["seed"] = int(draw_seed(torch.device("cpu")))
    return GraphkitSampler(data, num_neighbors, **options)


class NeighborLoader(_Epochs, NodeLoader):
    """PyG's ``NeighborLoader`` with our sampler: the same arguments, the same batches' attributes.

    Five keywords are new: ``method`` and ``layer_dependency`` (:func:`graphkit.ops.sample`),
    ``ahead``, ``ahead_bytes``, and ``seed``, by default drawn from torch's generator once. A batch
    is a function of the seed, the epoch (:attr:`epoch` counts the passes, each of which keeps its
    own) and the batch's ``input_id``, for any number of workers; ``shuffle`` follows torch's
    generator as before. Calling the loader with indices draws for the epoch of its sampler, 0
    unless you set it.

    ``ahead``: so many batches are made before their use, by threads of this process; 0 makes each
    when it is asked for. The batches are the same, but that a table which the loop changes in place
    is read before the change: pass ``ahead=0`` then. It holds without ``num_workers`` and
    ``pin_memory``, for tensors in the host's memory without ``requires_grad``, and where no class
    or function of your own and no ``generator`` of a shuffle takes part; a ``transform`` may, which
    runs in the loop's thread. Features use memory again whose last tensor is gone,
    also that of passes before.

    ``ahead_bytes``: what these batches may hold together, 1 GiB by default, None for no bound. What
    a batch will need is taken from the largest so far; one that needs more is made when it is
    asked for.

    As in PyG, ``persistent_workers`` allow one pass at a time: the next one ends it.

    ``data`` may be ``(StoreFeatures(path), StoreGraph(path))``, of a store on disk.

    Refused: an ``adj_t`` that is a torch tensor; another FeatureStore and GraphStore; options
    beside ``neighbor_sampler``, which has its own; and what :func:`graphkit.ops.sample` refuses,
    such as times in float32.
    """

    def __init__(
        self,
        data: Data | HeteroData | tuple[StoreFeatures, StoreGraph],
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
        ahead: int = 2,
        ahead_bytes: int | None = 2**30,
        **kwargs: Any,
    ) -> None:
        if input_time is not None and time_attr is None and neighbor_sampler is None:
            raise ConfigError("input_time is of no use without time_attr.")
        sampler = _sampler(data, num_neighbors, neighbor_sampler, directed, dict(
            replace=replace, subgraph_type=subgraph_type, disjoint=disjoint,
            temporal_strategy=temporal_strategy, time_attr=time_attr, weight_attr=weight_attr,
            method=method, layer_dependency=layer_dependency, seed=seed,
        ))  # fmt: skip
        self._start("node_sampler", ahead, ahead_bytes)
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
        # before a batch is drawn, and a thread started
        kind, count = self.input_data.input_type, sampler.num_nodes
        name, count = ("seeds", count) if kind is None else (f"seeds[{kind!r}]", count[kind])
        _check_ids(name, self.input_data.node, count)


class LinkNeighborLoader(_Epochs, LinkLoader):
    """PyG's ``LinkNeighborLoader`` with our sampler; see :class:`NeighborLoader`.

    Negative links are drawn as PyG's, but as a function of what the rest of the batch is one of.
    ``exclude`` and ``check_negatives``: see :class:`GraphkitSampler`.
    """

    def __init__(
        self,
        data: Data | HeteroData | tuple[StoreFeatures, StoreGraph],
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
        exclude: Literal["seed", "seed+reverse"] | None = None,
        check_negatives: bool = False,
        ahead: int = 2,
        ahead_bytes: int | None = 2**30,
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
            method=method, layer_dependency=layer_dependency, seed=seed, exclude=exclude,
            check_negatives=check_negatives,
        ))  # fmt: skip
        self._start("link_sampler", ahead, ahead_bytes)
        store = _store_of(data)
        if store is not None and not sampler.is_hetero and not isinstance(edge_label_index, tuple):
            # PyG wants to know a type here, which there is none of
            links = store.graph().edge_index() if edge_label_index is None else edge_label_index
            edge_label_index = (None, links)
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
        kind, count = self.input_data.input_type, sampler.num_nodes
        counts = (count, count) if kind is None else (count[kind[0]], count[kind[-1]])
        for at, ids in enumerate((self.input_data.row, self.input_data.col)):
            _check_ids(f"edge_label_index[{at}]", ids, counts[at])
