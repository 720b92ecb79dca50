"""PyG's loaders of subgraphs on our sampler and walks: GraphSAINT, Cluster-GCN and shaDow.

A batch is a function of the seed, the epoch and its number: the same for any number of workers.
Nothing compiled is needed beside graphkit. (opt: torch_geometric)
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader
from torch_geometric.data import Batch, Data
from torch_geometric.loader.utils import filter_data

from ..errors import ConfigError, GraphError
from ..graph import Graph
from ..ops import Key, Sampled, Sampler, Walker
from ..ops.random import as_word, below, draw_seed, random_word, random_words
from ..ops.sample_plan import read_ids, read_key, whole_weights
from ..store import digest, load_tensors, save_tensors, writing
from ..structure import partition
from .progress import Meter

# how many subgraphs are drawn at a time for an estimate, whoever draws them
_AT_A_TIME = 64


class _Keyed(DataLoader):
    """A DataLoader whose batches, and whose order if it shuffles, are a function of seed and epoch.

    Without a ``seed`` torch's generator gives one, once.
    """

    epoch: int
    """The epoch of the next pass; set it to go on where another process stopped."""

    def __init__(self, items: Sequence[int], seed: int | None, options: dict[str, Any]) -> None:
        name = type(self).__name__
        if options.get("persistent_workers"):
            raise ConfigError(
                f"{name}: persistent_workers keep the epoch they were started in, so that every "
                "epoch would draw the same. Leave it out."
            )
        if seed is None:
            seed = int(draw_seed(torch.device("cpu")))
        read_key(Key(seed), of=name)
        # some who wrap a loader hand back what it was made with
        options = {k: v for k, v in options.items() if k not in ("dataset", "collate_fn")}
        self.seed, self.epoch = seed, 0
        self._shuffles = bool(options.get("shuffle"))
        super().__init__(cast(Any, items), collate_fn=partial(self._batch, 0), **options)

    def __iter__(self) -> Iterator[Any]:
        # a pass has a loader of its own: others may begin before it is over
        own: Any = copy.copy(self)
        own.collate_fn = partial(self._batch, self.epoch)
        if self._shuffles:
            order = self._order(self.epoch)
            # torch refuses to replace them after a loader was made, but this one is not used yet
            vars(own)["sampler"] = order
            vars(own)["batch_sampler"] = self.batch_size and BatchSampler(
                order, self.batch_size, self.drop_last
            )
        self.epoch += 1
        return DataLoader.__iter__(own)

    def _order(self, epoch: int) -> list[int]:
        word = read_key(Key(self.seed, epoch, 2**63 - 1))
        words = random_words(as_word(word), torch.arange(len(cast(Any, self.dataset))))
        return torch.sort(words, stable=True).indices.tolist()

    @abstractmethod
    def _batch(self, epoch: int, items: Any) -> Data:
        """The batch of some items of the data set."""


class GraphSAINTSampler(_Keyed):
    r"""GraphSAINT's subgraphs of the nodes that one of its samplers draws, as PyG's class.

    The subgraph of step ``b`` has all edges among the nodes drawn, and with a ``sample_coverage``
    the weights that undo what the sampler prefers (`paper <https://arxiv.org/abs/1907.04931>`_):

    - ``node_norm``: :math:`1 / (N p_v)`, so that the expectation of the sum of
      ``loss * node_norm`` is the mean loss over all nodes.
    - ``edge_norm``: :math:`1 / \alpha_{uv} = p_v / p_{uv}` for an edge from ``u`` to ``v``, so that
      given ``v`` the expectation of its messages, summed with these weights, is their whole sum.

    ``p`` is the probability that a subgraph has the node or edge, estimated from subgraphs that are
    drawn until each node came up ``sample_coverage`` times on average (what came up in none counts
    as once), or exact with ``sample_coverage="exact"`` where there is a formula, that is not for
    walks. ``save_dir`` keeps estimates in a checksummed file for the next time.

    ``data``: a ``Data`` with ``edge_index``. ``batch_size``: how much a sampler draws.
    ``num_steps``: subgraphs in an epoch. ``log``: show how far an estimate is. ``seed``: batches
    are a function of it, of :attr:`epoch` and the step. Other keywords are those of
    ``torch.utils.data.DataLoader``. Batches carry ``n_id`` and ``e_id`` (those of the data, if it
    has them), and have their edges in the order of destinations.

    Unlike PyG's, ``edge_norm`` has the probability of the node that messages arrive at, as in the
    paper; PyG's has that of the other end.

    Raises :class:`GraphError` for data without edges, and :class:`ConfigError` for numbers that are
    not positive and for ``persistent_workers``.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        num_steps: int = 1,
        sample_coverage: int | Literal["exact"] = 0,
        save_dir: str | Path | None = None,
        log: bool = True,
        *,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        self.data, self.graph = data, _graph(name, data, transpose=self._walks)
        if self.graph.num_edges == 0:
            raise GraphError(f"{name}: the graph has no edges, but they say what is drawn.")
        for taken in ("node_norm", "edge_norm"):
            if taken in data:
                raise GraphError(
                    f"{name}: the data has a {taken} already, which batches carry. Delete it."
                )
        _at_least(name, "batch_size", batch_size, 1)
        _at_least(name, "num_steps", num_steps, 1)
        if sample_coverage != "exact":
            _at_least(name, "sample_coverage", sample_coverage, 0)
        self.num_steps, self.budget, self.sample_coverage = num_steps, batch_size, sample_coverage
        self._induced = Sampler(self.graph, [0], subgraph_type="induced")
        self._prepare()
        super().__init__(range(num_steps), seed, {**kwargs, "batch_size": 1})
        if sample_coverage == "exact":
            self.node_norm, self.edge_norm = self._norms(*self.probabilities())
        elif sample_coverage:
            path = None if save_dir is None else Path(save_dir) / f"{name.lower()}.safetensors"
            about = f"{self.graph.num_dst} {self._about()} {sample_coverage}"
            found = _kept(path, data, about, partial(self._estimate, sample_coverage, log))
            self.node_norm, self.edge_norm = found["node_norm"], found["edge_norm"]

    # whether the sampler needs the edges sorted by source as well
    _walks = False

    def _prepare(self) -> None:
        """What a sampler needs to draw."""

    def _about(self) -> str:
        return f"{type(self).__name__} {self.budget}"

    def sample_nodes(self, key: Key) -> Tensor:
        """The nodes drawn for a key, int64; they may repeat."""
        raise ConfigError(
            f"{type(self).__name__}: it does not say which nodes are drawn. Take "
            "GraphSAINTNodeSampler, GraphSAINTEdgeSampler or GraphSAINTRandomWalkSampler, or "
            "define sample_nodes(key) in a class of your own."
        )

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """The probabilities that a subgraph has each node, ``[N]``, and each edge, ``[E]``.

        Float64, the edges in the order of ``edge_index``.
        """
        raise ConfigError(
            f"{type(self).__name__}: there is no formula for the probabilities of its subgraphs. "
            "Pass a number as sample_coverage, such as 50, to estimate them."
        )

    def _subgraph(self, key: Key) -> Sampled:
        nodes = torch.unique(self.sample_nodes(key))
        return cast(Sampled, self._induced(nodes))

    def _batch(self, epoch: int, items: Any) -> Data:
        found = self._subgraph(Key(self.seed, epoch, int(torch.as_tensor(items).reshape(-1)[0])))
        out = _data_of(self.data, found.n_id, found.row, found.col, found.e_id)
        if self.sample_coverage:
            out.node_norm, out.edge_norm = self.node_norm[found.n_id], self.edge_norm[found.e_id]
        return out

    def _norms(self, node: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of nodes and edges by their probabilities, or in proportion for edges."""
        to = self.graph.edge_index()[1]
        return (1 / (node * len(node))).float(), (node[to] / edge).float()

    def _estimate(self, coverage: int, log: bool) -> dict[str, Tensor]:
        num_nodes = self.graph.num_dst
        nodes = torch.zeros(num_nodes, dtype=torch.float64)
        edges = torch.zeros(self.graph.num_edges, dtype=torch.float64)
        # one seed for all estimates, so that they may be kept, and not one that users choose
        seed, drawn, seen = random_word(0, 1) % 2**63, 0, 0
        meter = Meter(f"{type(self).__name__}: estimating norms", not log, "nodes")
        with ThreadPoolExecutor(torch.get_num_threads()) as pool, closing(meter):
            while seen < coverage * num_nodes:
                keys = [Key(seed, 0, drawn + at) for at in range(_AT_A_TIME)]
                for found in pool.map(self._subgraph, keys):
                    nodes[found.n_id] += 1
                    edges[found.e_id] += 1
                    seen += len(found.n_id)
                    meter.show(min(seen, coverage * num_nodes), coverage * num_nodes)
                drawn += _AT_A_TIME
        share = (nodes.clamp(min=1) / drawn, edges.clamp(min=1) / drawn)
        return dict(zip(("node_norm", "edge_norm"), self._norms(*share), strict=True))


class GraphSAINTNodeSampler(GraphSAINTSampler):
    """:class:`GraphSAINTSampler` of ``batch_size`` nodes, each drawn in proportion to out-degree.

    With replacement: the ``n`` draws may name a node more than once. For exact norms
    :math:`p_v = 1 - (1 - d_v / E)^n`, and an edge is there if both of its ends are.
    """

    def _prepare(self) -> None:
        self._source = _edges(self.data)[0]

    def sample_nodes(self, key: Key) -> Tensor:
        word = as_word(read_key(key, of=type(self).__name__))
        words = random_words(word, torch.arange(self.budget))
        return self._source[below(words, torch.tensor(len(self._source)))].long()

    def probabilities(self) -> tuple[Tensor, Tensor]:
        share = torch.bincount(self._source, minlength=self.graph.num_dst).double()
        share /= len(self._source)
        return _both_drawn(share, self.graph.edge_index(), None, self.budget)


class GraphSAINTEdgeSampler(GraphSAINTSampler):
    """:class:`GraphSAINTSampler` of the ends of ``batch_size`` edges, drawn with replacement.

    An edge from ``u`` to ``v`` is drawn in proportion to :math:`1 / d_u + 1 / d_v`, the degree
    being that of both directions. A node is there if one of its edges is drawn, which gives exact
    norms. (PyG draws without replacement and in proportion to :math:`d_u + d_v`.)
    """

    def _prepare(self) -> None:
        self._ends = _edges(self.data).long()
        degree = torch.bincount(self._ends.flatten(), minlength=self.graph.num_dst).double()
        weight = degree.reciprocal()[self._ends].sum(0)
        whole, _ = whole_weights(torch.tensor([0, len(weight)]), weight)
        self._sums = torch.cat([whole.new_zeros(1), whole.cumsum(0)])

    def sample_nodes(self, key: Key) -> Tensor:
        word = as_word(read_key(key, of=type(self).__name__))
        drawn = below(random_words(word, torch.arange(self.budget)), self._sums[-1])
        return self._ends[:, torch.searchsorted(self._sums, drawn, right=True) - 1].flatten()

    def probabilities(self) -> tuple[Tensor, Tensor]:
        src, dst = self._ends
        # whole numbers, so that the share of a node with all edges is 1 and no more
        weight, total = self._sums.diff(), float(self._sums[-1])
        share = weight.new_zeros(self.graph.num_dst)
        share.index_add_(0, src, weight).index_add_(0, dst, torch.where(src == dst, 0, weight))
        # edges with the same two ends, in either direction
        pair = torch.minimum(src, dst) * self.graph.num_dst + torch.maximum(src, dst)
        _, group = torch.unique(pair, return_inverse=True)
        both = weight.new_zeros(len(src)).index_add_(0, group, weight)
        share, both = share.double() / total, both[group].double() / total
        return _both_drawn(share, self._ends, both, self.budget)


class GraphSAINTRandomWalkSampler(GraphSAINTSampler):
    """:class:`GraphSAINTSampler` of the nodes on walks from ``batch_size`` nodes drawn uniformly.

    The walks follow the edges for ``walk_length`` steps, see :func:`graphkit.ops.random_walk`.
    """

    _walks = True

    def __init__(
        self,
        data: Data,
        batch_size: int,
        walk_length: int,
        num_steps: int = 1,
        sample_coverage: int | Literal["exact"] = 0,
        save_dir: str | Path | None = None,
        log: bool = True,
        *,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        _at_least(type(self).__name__, "walk_length", walk_length, 1)
        self.walk_length = walk_length
        super().__init__(
            data, batch_size, num_steps, sample_coverage, save_dir, log, seed=seed, **kwargs
        )

    def _prepare(self) -> None:
        self._walker = Walker(self.graph)

    def _about(self) -> str:
        return f"{super()._about()} {self.walk_length}"

    def sample_nodes(self, key: Key) -> Tensor:
        word = as_word(read_key(key, of=type(self).__name__))
        words = random_words(word, torch.arange(self.budget))
        start = below(words, torch.tensor(self.graph.num_dst))
        return self._walker(start, self.walk_length, key).flatten()


def _both_drawn(
    share: Tensor, ends: Tensor, both: Tensor | None, draws: int
) -> tuple[Tensor, Tensor]:
    """Probabilities of nodes, and that both ends of an edge come up in so many draws.

    ``share``: the probability of each node in one draw; ``both``: that of both ends of an edge at
    once, 0 if None.
    """
    node = -torch.expm1(draws * torch.log1p(-share))
    x, y = share[ends[0]], share[ends[1]]
    neither = (1 - x) * (1 - y)
    apart = torch.zeros_like(x) if both is None else both
    # (1 - x - y + both)^n less (1 - x)^n (1 - y)^n, without the loss of a difference; a node of
    # every draw leaves nothing of either
    ratio = ((apart - x * y) / torch.where(neither > 0, neither, 1)).clamp(min=-1)
    joint = neither**draws * torch.expm1(draws * torch.log1p(ratio))
    edge = node[ends[0]] * node[ends[1]] + torch.where(neither > 0, joint, 0)
    return node, torch.where(ends[0] == ends[1], node[ends[0]], edge)


@dataclass(frozen=True, eq=False)
class Partition:
    """Nodes part by part: those of part ``i`` are ``node_perm[partptr[i]:partptr[i + 1]]``."""

    partptr: Tensor
    node_perm: Tensor


class ClusterData(torch.utils.data.Dataset):
    """A graph in parts with few edges between them, as PyG's class: item ``i`` is part ``i``.

    Parts come from METIS (:func:`graphkit.structure.partition`, with ``recursive``), and hold the
    edges inside them (`paper <https://arxiv.org/abs/1905.07953>`_). ``data``: a ``Data`` with
    ``edge_index``, of any direction. ``save_dir`` and ``filename``: keep the parts in a checksummed
    file for the next time. ``seed``: METIS's. ``log`` and ``sparse_format`` change nothing.
    :attr:`partition` holds which nodes are where; the data keeps its order, unlike PyG's. Parts
    carry ``n_id`` and ``e_id`` (those of the data, if it has them).

    Raises :class:`GraphError` for data without ``edge_index``, and :class:`ConfigError` for
    ``num_parts`` below 1 and for ``keep_inter_cluster_edges``, with which PyG's parts name nodes
    they do not have: :class:`ClusterLoader` keeps the edges among the parts of a batch.
    """

    def __init__(
        self,
        data: Data,
        num_parts: int,
        recursive: bool = False,
        save_dir: str | Path | None = None,
        filename: str | None = None,
        log: bool = True,
        keep_inter_cluster_edges: bool = False,
        sparse_format: str = "csr",
        *,
        seed: int = 0,
    ) -> None:
        if keep_inter_cluster_edges:
            raise ConfigError(
                "ClusterData: keep_inter_cluster_edges would leave edges whose other end is not in "
                "the part. ClusterLoader keeps those among the parts of a batch."
            )
        self.data, self.num_parts, self.recursive = data, num_parts, recursive
        graph = _graph("ClusterData", data, transpose=False)
        path = None
        if save_dir is not None:
            folder = f"part_{num_parts}{'_recursive' if recursive else ''}"
            path = Path(save_dir) / folder / (filename or "metis.safetensors")
        part = _kept(
            path,
            data,
            f"{graph.num_dst} {num_parts} {recursive} {seed}",
            lambda: {"part": partition(graph, num_parts, recursive=recursive, seed=seed)},
        )["part"]
        sizes = torch.bincount(part, minlength=num_parts)
        self.partition = Partition(
            torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]),
            torch.sort(part, stable=True).indices,
        )
        self._induced = Sampler(graph, [0], subgraph_type="induced")

    def __len__(self) -> int:
        return self.num_parts

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"ClusterData: there is no part {index} of {len(self)}.")
        return self.union([index % len(self)])

    def union(self, parts: Sequence[int]) -> Data:
        """The subgraph of some parts, with the edges among them."""
        ptr, nodes = self.partition.partptr, self.partition.node_perm
        ids = torch.cat([nodes[ptr[part] : ptr[part + 1]] for part in parts])
        found = cast(Sampled, self._induced(ids))
        return _data_of(self.data, found.n_id, found.row, found.col, found.e_id)

    def __repr__(self) -> str:
        return f"ClusterData({self.num_parts})"


class ClusterLoader(_Keyed):
    """Batches of several parts of a :class:`ClusterData` and the edges among them, as PyG's class.

    The keywords are those of ``torch.utils.data.DataLoader``: ``batch_size`` parts make a batch.
    With ``shuffle`` the order of the parts is a function of ``seed`` and :attr:`epoch`, which
    counts the passes.
    """

    def __init__(self, cluster_data: ClusterData, *, seed: int | None = None, **kwargs: Any):
        # isinstance guards against PyG's, which has no parts that can be joined here
        if not isinstance(cluster_data, ClusterData):
            raise ConfigError(
                f"ClusterLoader: cluster_data is a {type(cluster_data).__module__} "
                f"{type(cluster_data).__name__}, but graphkit.data.ClusterData is expected."
            )
        self.cluster_data = cluster_data
        super().__init__(range(len(cluster_data)), seed, kwargs)

    def _batch(self, epoch: int, items: Any) -> Data:
        return self.cluster_data.union(torch.as_tensor(items).reshape(-1).tolist())


class ShaDowKHopSampler(_Keyed):
    """Batches of subgraphs around single nodes, each apart from the others, as PyG's class.

    Each node of a batch is the root of a tree of ``depth`` hops with ``num_neighbors`` in-edges
    drawn at each node (-1: all), and gets all edges among the nodes that were found
    (`paper <https://arxiv.org/abs/2201.07858>`_). A batch is a ``Batch`` of these subgraphs, one
    after the other, the root first in each: ``batch``, ``ptr``, ``root_n_id [B]`` (where the
    roots are), ``n_id``, ``e_id``; ``y`` is that of the roots alone, if it has an entry per node.

    ``node_idx``: the roots, as ids or a mask; all by default. ``replace``: as in
    :func:`graphkit.ops.sample`. ``seed``: draws, and the order with ``shuffle``, are a function of
    it, of :attr:`epoch` and of the roots of the batch. Other keywords are those of
    ``torch.utils.data.DataLoader``.

    Raises :class:`GraphError` for data without ``edge_index`` and for ``node_idx`` that are no
    nodes, and :class:`ConfigError` for a ``depth`` below 1 and as :func:`graphkit.ops.sample`.
    """

    def __init__(
        self,
        data: Data,
        depth: int,
        num_neighbors: int,
        node_idx: Tensor | None = None,
        replace: bool = False,
        *,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        graph = _graph(name, data, transpose=False)
        _at_least(name, "depth", depth, 1)
        self.data, self.depth, self.num_neighbors = data, depth, num_neighbors
        self._sampler = Sampler(
            graph, [num_neighbors] * depth, replace=replace, disjoint=True, subgraph_type="induced"
        )
        if node_idx is None:
            node_idx = torch.arange(graph.num_dst)
        elif isinstance(node_idx, Tensor) and node_idx.dtype == torch.bool:
            if node_idx.shape != (graph.num_dst,):
                raise GraphError(
                    f"{name}: node_idx is a mask of shape {list(node_idx.shape)}, but "
                    f"[{graph.num_dst}] is expected, one for each node."
                )
            node_idx = node_idx.nonzero().flatten()
        elif isinstance(node_idx, Tensor):
            node_idx = node_idx.cpu()
        self.node_idx = read_ids("node_idx", node_idx, graph.num_dst, graph.device, of=name)
        super().__init__(self.node_idx.tolist(), seed, kwargs)

    def _batch(self, epoch: int, items: Any) -> Data:
        roots = torch.as_tensor(items).reshape(-1)
        # all roots and their order in one number; the sum wraps around
        words = int(random_words(roots, torch.arange(len(roots))).sum()) % 2**64
        key = Key(self.seed, epoch, random_word(len(roots), words) % 2**63)
        found = cast(Sampled, self._sampler(roots, key))
        tree, order = torch.sort(cast(Tensor, found.batch), stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        row, col = place[found.row], place[found.col]
        col, edges = torch.sort(col, stable=True)
        part = _data_of(self.data, found.n_id[order], row[edges], col, found.e_id[edges])
        sizes = torch.bincount(tree, minlength=len(roots))
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        out = cast(Any, Batch(batch=tree, ptr=ptr))
        out.root_n_id = ptr[:-1]
        for name, value in part.items():
            if name not in ("batch", "ptr"):
                out[name] = value
        y = self.data.get("y")
        if isinstance(y, Tensor) and self.data.is_node_attr("y"):
            out.y = y[roots.to(y.device)]
        return out


def _data_of(data: Data, nodes: Tensor, row: Tensor, col: Tensor, edges: Tensor) -> Data:
    """``data`` with these nodes and edges alone."""
    out = filter_data(data, nodes, row, col, edges)
    out.num_nodes = len(nodes)
    # those that the data has, of a graph it was cut from, are kept as PyG keeps them
    out.n_id = out.get("n_id", nodes)
    out.e_id = out.get("e_id", edges)
    return out


def _graph(name: str, data: Any, transpose: bool) -> Graph:
    if not isinstance(data, Data):
        raise GraphError(
            f"{name}: data is a {type(data).__name__}, but a torch_geometric Data is expected. "
            "Make one of a HeteroData with to_homogeneous()."
        )
    if data.get("edge_index") is None:
        raise GraphError(f"{name}: the data has no edge_index. Set it, also where it has an adj_t.")
    return Graph.from_edge_index(_edges(data), data.num_nodes, transpose=transpose)


def _edges(data: Data) -> Tensor:
    # sampling is the CPU's work, wherever the features lie
    return cast(Tensor, data.edge_index).as_subclass(Tensor).cpu()


def _kept(
    path: Path | None, data: Data, about: str, make: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What ``make`` returns, from the file of an earlier time if it was for the same."""
    if path is None:
        return make()
    text = digest({"edge_index": _edges(data)}, about)
    if path.exists():
        tensors, meta = load_tensors(path)
        if meta.get("of") == text:
            return tensors
    # what takes long is not begun where it could not be kept
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    tensors = make()
    save_tensors(path, tensors, {"of": text})
    return tensors


def _at_least(name: str, option: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(
            f"{name}: {option} is {value!r}, but a whole number of at least {least} is expected."
        )
