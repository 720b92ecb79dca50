"""PyG's loaders on our sampler: what is in a batch, training, links, time, several relations."""

from __future__ import annotations

import inspect
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.loader import LinkLoader, NodeLoader
from torch_geometric.loader import LinkNeighborLoader as PyGLinkLoader
from torch_geometric.loader import NeighborLoader as PyGNeighborLoader
from torch_geometric.nn import SAGEConv, to_hetero
from torch_geometric.sampler import (
    EdgeSamplerInput,
    NegativeSampling,
    NodeSamplerInput,
    NumNeighbors,
)
from torch_geometric.utils import trim_to_layer

import graphkit as gk
from graphkit import ConfigError, GraphError
from graphkit.data import GraphkitSampler, LinkNeighborLoader, NeighborLoader


def small(num_nodes: int = 60, num_edges: int = 500) -> Data:
    random = torch.Generator().manual_seed(0)
    edge_index = torch.randint(num_nodes, (2, num_edges), generator=random)
    return Data(
        x=torch.randn(num_nodes, 8, generator=random),
        edge_index=edge_index,
        edge_attr=torch.arange(num_edges, dtype=torch.float32).unsqueeze(1),
        y=torch.arange(num_nodes),
        weight=torch.rand(num_edges, generator=random) + 0.1,
        edge_time=torch.randint(100, (num_edges,), generator=random),
        num_nodes=num_nodes,
    )


def academic() -> HeteroData:
    random = torch.Generator().manual_seed(0)
    data = HeteroData()
    for kind, count in (("paper", 80), ("author", 40), ("venue", 3)):
        data[kind].x = torch.randn(count, 6, generator=random)
        data[kind].time = torch.randint(100, (count,), generator=random)
    for kind, count in (
        (("paper", "cites", "paper"), 600),
        (("author", "writes", "paper"), 300),
        (("paper", "rev_writes", "author"), 300),
    ):
        sizes = data[kind[0]].num_nodes, data[kind[2]].num_nodes
        ends = [torch.randint(size, (count,), generator=random) for size in sizes]
        data[kind].edge_index = torch.stack(ends)
        data[kind].weight = torch.rand(count, generator=random) + 0.1
    return data


def without_weight(store: Any) -> None:
    """Weight 0 for most edges, but not for all of a node."""
    order = store.edge_index[1].argsort(stable=True)
    col = store.edge_index[1, order]
    later = order[1:][col[1:] == col[:-1]]
    store.weight[later[torch.arange(len(later)) % 4 > 0]] = 0


def check_batch(data: Data, batch: Any) -> None:
    """Rows and edges are those of the whole graph; the seeds come first."""
    assert torch.equal(batch.n_id[: batch.batch_size], batch.input_id)
    assert torch.equal(batch.x, data.x[batch.n_id]) and torch.equal(batch.y, batch.n_id)
    assert torch.equal(batch.n_id[batch.edge_index], data.edge_index[:, batch.e_id])
    assert torch.equal(batch.edge_attr[:, 0], batch.e_id.float())
    assert batch.num_sampled_nodes[0] == batch.batch_size


def same(a: list[Any], b: list[Any]) -> bool:
    names = ("n_id", "e_id", "edge_index", "input_id")
    pairs = zip(a, b, strict=True)
    return all(torch.equal(x[name], y[name]) for x, y in pairs for name in names)


class Sage(torch.nn.Module):
    def __init__(self, *widths: int) -> None:
        super().__init__()
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = torch.nn.ModuleList(SAGEConv(a, b) for a, b in pairs)

    def forward(self, batch: Any, trim: bool = True) -> Tensor:
        x, edge_index = batch.x, batch.edge_index
        for at, layer in enumerate(self.layers):
            if trim:
                x, edge_index, _ = trim_to_layer(
                    at, batch.num_sampled_nodes, batch.num_sampled_edges, x, edge_index
                )
            x = layer(x, edge_index)
            x = x.relu() if at + 1 < len(self.layers) else x
        return x[: batch.batch_size]


# -- nodes -----------------------------------------------------------------------------------------


def test_batches_of_nodes() -> None:
    data = small()
    loader = NeighborLoader(data, [4, 3], batch_size=16, seed=1)
    batches = list(loader)
    assert [batch.batch_size for batch in batches] == [16, 16, 16, 12]
    for batch in batches:
        check_batch(data, batch)
        assert sum(batch.num_sampled_nodes) == batch.num_nodes
        assert sum(batch.num_sampled_edges) == batch.num_edges
        model = Sage(8, 8, 8)
        torch.testing.assert_close(model(batch), model(batch, trim=False))
    mask = torch.zeros(60, dtype=torch.bool)
    mask[[3, 50]] = True
    (only,) = NeighborLoader(data, [4, 3], input_nodes=mask, batch_size=16)
    assert only.n_id[:2].tolist() == [3, 50]
    check_batch(data, NeighborLoader(data, [4, 3])(torch.tensor([5, 7])))


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    data = small()

    def loader(**options: Any) -> NeighborLoader:
        return NeighborLoader(data, [2, 2], batch_size=16, **options)

    one, two = loader(seed=1), loader(seed=1, num_workers=2)
    first, second = list(one), list(one)
    assert not same(first, second)
    # worker processes see the epoch as well
    assert same(first, list(two)) and same(second, list(two))
    # going on where another process stopped
    later = loader(seed=1)
    later.epoch = 1
    assert same(second, list(later))
    assert not same(first, list(loader(seed=2)))
    torch.manual_seed(5)
    drawn = list(loader())
    torch.manual_seed(5)
    assert same(drawn, list(loader()))


def test_passes_may_overlap() -> None:
    data = small()
    sampler = GraphkitSampler(data, [2, 2], seed=1)

    def loader() -> NeighborLoader:
        return NeighborLoader(data, [2, 2], batch_size=16, neighbor_sampler=sampler)

    apart = loader()
    first, second = list(apart), list(apart)
    both, other = loader(), loader()
    pairs = list(zip(both, both, strict=True))
    assert same(first, [a for a, _ in pairs]) and same(second, [b for _, b in pairs])
    # nor does a second loader on the same sampler
    assert same(first, list(other)) and both.epoch == 2 and other.epoch == 1 and sampler.epoch == 0


def test_every_id_of_a_batch_counts() -> None:
    sampler = GraphkitSampler(small(), [2, 2], seed=1)

    def drawn(*ids: int) -> Any:
        nodes = torch.arange(20)
        return sampler.sample_from_nodes(NodeSamplerInput(torch.tensor(ids), nodes)).edge

    assert torch.equal(drawn(3, 4, 5), drawn(3, 4, 5))
    for ids in ((3, 4, 6), (3, 5, 4), (3, 4), (3, 4, 5, 0)):
        assert not torch.equal(drawn(3, 4, 5), drawn(*ids))


@pytest.mark.parametrize("kind", [NeighborLoader, LinkNeighborLoader])
def test_workers_that_are_started_afresh(kind: Any, capfd: pytest.CaptureFixture[str]) -> None:
    data = small()
    options: dict[str, Any] = {"batch_size": 30, "seed": 1}
    if kind is LinkNeighborLoader:
        options |= {"exclude": "seed", "neg_sampling_ratio": 1.0, "check_negatives": True}
        options["edge_label_index"] = data.edge_index[:, :60]
    # each takes seconds to begin: several of them share batches out in other tests
    afresh = kind(data, [2, 2], num_workers=1, multiprocessing_context="spawn", **options)
    assert same(list(kind(data, [2, 2], **options)), list(afresh))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "start"), [(NeighborLoader, "fork"), (LinkNeighborLoader, "spawn")]
)
def test_workers_that_stay(kind: Any, start: str) -> None:
    """The processes of the first pass draw for every epoch, also after one that was left."""
    data = small()
    options: dict[str, Any] = {"batch_size": 30, "seed": 1}
    if kind is LinkNeighborLoader:
        options |= {"edge_label_index": data.edge_index[:, :90], "neg_sampling_ratio": 1.0}
    stays = {"num_workers": 1, "multiprocessing_context": start, "persistent_workers": True}
    loader, plain = kind(data, [2, 2], **options, **stays), kind(data, [2, 2], **options)

    wanted = [list(plain) for _ in range(4)]
    assert not same(*wanted[:2])
    assert same(list(loader), wanted[0])
    workers = {worker.pid for worker in multiprocessing.active_children()}
    assert same(list(loader), wanted[1])
    next(iter(loader))
    assert same(list(loader), wanted[3])
    loader.epoch = 1
    assert same(list(loader), wanted[1])
    assert workers and {worker.pid for worker in multiprocessing.active_children()} == workers


@pytest.mark.parametrize(
    ("ours", "theirs"), [(NeighborLoader, PyGNeighborLoader), (LinkNeighborLoader, PyGLinkLoader)]
)
def test_arguments_are_pygs(ours: Any, theirs: Any) -> None:
    """All of them, in PyG's order and with its defaults; what is new only by name."""
    mine, pygs = (list(inspect.signature(some).parameters.values()) for some in (ours, theirs))
    assert [p.name for p in pygs][-1] == "kwargs" and len(pygs) > 15
    for given, wanted in zip(mine, pygs[:-1], strict=False):
        both = [(some.name, some.default, some.kind) for some in (given, wanted)]
        assert both[0] == both[1]
    new = mine[len(pygs) - 1 :]
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in new)
    assert new[-1].name == "kwargs"


def test_pygs_own_loader_takes_the_sampler() -> None:
    data = small()
    sampler = GraphkitSampler(data, [4, 3], seed=1)
    loader = NodeLoader(data, sampler, input_nodes=torch.arange(30), batch_size=10)
    first = list(loader)
    for batch in first:
        check_batch(data, batch)
    assert same(first, list(loader))
    sampler.epoch = 1
    assert not same(first, list(loader))
    # without a seed torch's generator rules, and no two passes are alike
    free = NodeLoader(data, GraphkitSampler(data, [2, 2]), batch_size=10)
    torch.manual_seed(3)
    passes = list(free), list(free)
    assert not same(*passes)
    torch.manual_seed(3)
    assert same(passes[0], list(free))


@pytest.mark.parametrize("form", ["weight", "labor", "replace", "induced", "bidirectional", "time"])
def test_options_of_pyg(form: str) -> None:
    data = small()
    if form == "weight":
        without_weight(data)
    repeats = 0
    options: dict[str, Any] = {
        "weight": {"weight_attr": "weight"},
        "labor": {"method": "labor"},
        "replace": {"replace": True},
        "induced": {"subgraph_type": "induced"},
        "bidirectional": {"subgraph_type": "bidirectional"},
        "time": {"time_attr": "edge_time", "input_time": torch.full((60,), 50)},
    }[form]
    for batch in NeighborLoader(data, [4, 3], batch_size=20, **options):
        if form == "bidirectional":
            ends = set(map(tuple, batch.edge_index.t().tolist()))
            assert ends == {(b, a) for a, b in ends} and "num_sampled_edges" not in batch
            continue
        check_batch(data, batch)
        counts = (
            torch.bincount(batch.edge_index[1, : batch.num_sampled_edges[0]])
            if form != "induced"
            else batch.e_id
        )
        repeats += len(batch.e_id) - len(batch.e_id.unique())
        if form == "weight":
            assert (data.weight[batch.e_id] > 0).all()
        if form == "labor":
            # by chance more than the fan-out
            assert int(counts.max()) > 4
        assert ("num_sampled_edges" in batch) == (form != "induced")
        if form == "time":
            assert (data.edge_time[batch.e_id] <= 50).all()
            assert torch.equal(batch.batch[:20], torch.arange(20))
    assert (repeats > 0) == (form in ("replace", "time")), repeats


@pytest.mark.filterwarnings("ignore:Sparse")
def test_compressed_rows_in_place_of_an_edge_index() -> None:
    data = small()
    order = (data.edge_index[1] * 60 + data.edge_index[0]).argsort()
    ordered = data.edge_index[:, order]
    ptr = torch.zeros(61, dtype=torch.int64)
    ptr[1:] = torch.bincount(ordered[1], minlength=60).cumsum(0)
    adj = torch.sparse_csr_tensor(
        ptr, ordered[0], torch.ones(500), (60, 60), check_invariants=False
    )
    lean = Data(x=data.x, adj_t=adj, num_nodes=60)
    same_edges = Data(x=data.x, edge_index=ordered, num_nodes=60)
    a, b = (GraphkitSampler(form, [3], seed=0).sampler for form in (lean, same_edges))
    found, want = a(torch.arange(60)), b(torch.arange(60))
    assert isinstance(found, gk.ops.Sampled) and isinstance(want, gk.ops.Sampled)
    assert torch.equal(found.n_id, want.n_id) and torch.equal(found.e_id, want.e_id)
    # which PyG's loaders can make batches of as a SparseTensor alone
    with pytest.raises(GraphError, match="adj_t is a torch tensor, of which PyG's loaders cannot"):
        NeighborLoader(lean, [3])
    sparse = pytest.importorskip("torch_sparse").SparseTensor
    lean.adj_t = sparse(rowptr=ptr, col=ordered[0], sparse_sizes=(60, 60))
    (batch,) = NeighborLoader(lean, [3], batch_size=60, seed=0)
    (other,) = NeighborLoader(same_edges, [3], batch_size=60, seed=0)
    assert torch.equal(batch.n_id, other.n_id) and torch.equal(batch.e_id, other.e_id)
    row, col, _ = batch.adj_t.t().coo()
    ends = {tuple(pair) for pair in torch.stack([row, col]).t().tolist()}
    assert ends == {tuple(pair) for pair in other.edge_index.t().tolist()}


def train(data: Any, epochs: int, classes: int) -> float:
    """Test accuracy of GraphSAGE after training by mini-batches."""
    torch.manual_seed(0)
    model = Sage(data.num_features, 64, classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    loader = NeighborLoader(
        data, [10, 10], input_nodes=data.train_mask, batch_size=64, shuffle=True, seed=0
    )
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            out = model(batch)
            torch.nn.functional.cross_entropy(out, batch.y[: batch.batch_size]).backward()
            optimizer.step()
    hits = total = 0
    with torch.no_grad():
        for batch in NeighborLoader(data, [-1, -1], input_nodes=data.test_mask, batch_size=512):
            hits += int((model(batch).argmax(1) == batch.y[: batch.batch_size]).sum())
            total += batch.batch_size
    return hits / total


def test_sage_learns_digits_by_mini_batches() -> None:
    assert train(gk.data.load("digits"), 10, 10) > 0.9


def test_sage_learns_cora_by_mini_batches(local_data: Path) -> None:
    assert train(gk.data.load("cora", root=local_data), 20, 7) > 0.75


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("disjoint", [False, True])
def test_batches_of_links(disjoint: bool) -> None:
    data = small()

    def loader() -> LinkNeighborLoader:
        return LinkNeighborLoader(
            data, [4, 3], edge_label_index=data.edge_index, batch_size=50,
            neg_sampling_ratio=1.0, disjoint=disjoint, seed=1,
        )  # fmt: skip

    batches = list(loader())
    assert len(batches) == 10
    for batch in batches:
        assert torch.equal(batch.edge_label, torch.cat([torch.ones(50), torch.zeros(50)]))
        links = batch.n_id[batch.edge_label_index]
        assert torch.equal(links[:, :50], data.edge_index[:, batch.input_id])
        assert torch.equal(batch.n_id[batch.edge_index], data.edge_index[:, batch.e_id])
        if disjoint:
            ends = batch.batch[batch.edge_label_index]
            assert torch.equal(ends[0] % 50, ends[1] % 50)
    # negatives follow the seed too
    for batch, other in zip(batches, loader(), strict=True):
        assert torch.equal(batch.n_id, other.n_id)
        assert torch.equal(batch.edge_label_index, other.edge_label_index)


def test_torchs_generators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small()
    sampler = GraphkitSampler(data, [4, 3], seed=1)
    links = EdgeSamplerInput(torch.arange(5), data.edge_index[0, :5], data.edge_index[1, :5])
    before = torch.get_rng_state()
    # nor set for a while, which other threads and devices would notice
    for name in ("manual_seed", "set_rng_state"):
        monkeypatch.setattr(torch, name, None)
        monkeypatch.setattr(torch.random, name, None)
    sampler.sample_from_edges(links, NegativeSampling("binary", 1.0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", ["binary", "triplet"])
def test_negatives_are_drawn_as_pygs(mode: str) -> None:
    data = small()
    sampler = GraphkitSampler(data, [4, 3], seed=1)
    links = EdgeSamplerInput(torch.arange(50), data.edge_index[0, :50], data.edge_index[1, :50])
    src_weight, dst_weight = torch.zeros(60), torch.zeros(60)
    src_weight[:2], dst_weight[7:9] = 1, 1

    def drawn(amount: int, *weights: Tensor) -> Any:
        return sampler.sample_from_edges(links, NegativeSampling(mode, amount, *weights))

    def ends(out: Any) -> tuple[Tensor, Tensor]:
        if mode == "binary":
            src, dst = out.node[out.metadata[1][:, 50:]]
            return src, dst
        return out.node[out.metadata[1]], out.node[out.metadata[3]].flatten()

    src, dst = ends(drawn(3, src_weight, dst_weight))
    assert len(dst) == 150 and set(dst.tolist()) == {7, 8}
    assert mode == "triplet" or set(src.tolist()) == {0, 1}
    src, dst = ends(drawn(3))
    assert len(dst.unique()) > 30
    assert torch.equal(dst, ends(drawn(3))[1])
    with pytest.raises(GraphError, match="dst_weight of neg_sampling has 59 entries, but there ar"):
        drawn(1, src_weight, dst_weight[1:])


def test_triplets_of_links() -> None:
    data = small()
    sampler = GraphkitSampler(data, [4, 3], seed=1)
    loader = LinkLoader(data, sampler, data.edge_index, neg_sampling="triplet", batch_size=50)
    for batch in loader:
        links = torch.stack([batch.n_id[batch.src_index], batch.n_id[batch.dst_pos_index]])
        assert torch.equal(links, data.edge_index[:, batch.input_id])
        assert batch.dst_neg_index.shape == (50,)


def test_links_in_time() -> None:
    data = small()
    loader = LinkNeighborLoader(
        data, [4, 3], edge_label_index=data.edge_index, edge_label_time=data.edge_time - 1,
        time_attr="edge_time", temporal_strategy="last", batch_size=50, neg_sampling_ratio=1.0,
    )  # fmt: skip
    for batch in loader:
        now = (data.edge_time - 1)[batch.input_id]
        tree = batch.batch[batch.edge_index[1]]
        assert (data.edge_time[batch.e_id] <= now[tree]).all()


def keys(ends: Tensor, num_dst: int = 60) -> Tensor:
    return ends[0] * num_dst + ends[1]


@pytest.mark.parametrize("exclude", [None, "seed", "seed+reverse"])
@pytest.mark.parametrize(
    "form", ["plain", "labor", "weight", "time", "induced", "replace", "bidirectional"]
)
def test_links_do_not_see_themselves(exclude: Any, form: str) -> None:
    data = small()
    # parallel edges and both directions of many
    data.edge_index[:, 250:] = data.edge_index[:, :250].flip(0)
    data.edge_index[:, 400:] = data.edge_index[:, :100]
    options: dict[str, Any] = {
        "plain": {},
        "labor": {"method": "labor"},
        "weight": {"weight_attr": "weight"},
        "time": {"time_attr": "edge_time", "edge_label_time": torch.full((500,), 90)},
        "induced": {"subgraph_type": "induced"},
        "replace": {"replace": True},
        "bidirectional": {"subgraph_type": "bidirectional"},
    }[form]
    if form == "bidirectional" and exclude == "seed":
        pytest.skip("refused, as it would bring them back")
    seen = back = 0
    for batch in LinkNeighborLoader(
        data, [20, 20], edge_label_index=data.edge_index, batch_size=25, exclude=exclude,
        neg_sampling_ratio=1.0, **options,
    ):  # fmt: skip
        links = data.edge_index[:, batch.input_id]
        edges = batch.n_id[batch.edge_index]
        seen += int(torch.isin(keys(edges), keys(links)).sum())
        back += int(torch.isin(keys(edges), keys(links.flip(0))).sum())
        assert len(batch.e_id) > 100
        if form != "bidirectional":
            assert torch.equal(edges, data.edge_index[:, batch.e_id])
    assert (seen > 0) == (exclude is None)
    assert (back > 0) == (exclude != "seed+reverse")


@pytest.mark.parametrize(
    "kind",
    [
        ("author", "writes", "paper"),
        ("paper", "rev_writes", "author"),
        ("paper", "cites", "paper"),
        ("paper", "new", "author"),
    ],
)
def test_links_of_several_relations_do_not_see_themselves(kind: tuple[str, str, str]) -> None:
    data = academic()
    both = data["author", "writes", "paper"].edge_index
    data["paper", "rev_writes", "author"].edge_index = both.flip(0)
    cites = data["paper", "cites", "paper"].edge_index
    cites[:, 300:] = cites[:, :300].flip(0)
    ends = both if kind[0] == "author" else both.flip(0) if kind[2] == "author" else cites
    turned = {
        "writes": ("paper", "rev_writes", "author"),
        "rev_writes": ("author", "writes", "paper"),
        "cites": kind,
        "new": None,
    }[kind[1]]
    for exclude in (None, "seed", "seed+reverse"):
        loader = LinkNeighborLoader(
            data, [20, 20], edge_label_index=(kind, ends), batch_size=50, exclude=exclude
        )
        if kind[1] == "new":
            if exclude == "seed+reverse":
                with pytest.raises(ConfigError, match="looks for edges of type .*'rev_new'"):
                    next(iter(loader))
            else:
                assert len(next(iter(loader))["author", "writes", "paper"].e_id)
            continue
        seen = back = 0
        for batch in loader:
            links = keys(ends[:, batch[kind].input_id], 80)
            edges = data[kind].edge_index[:, batch[kind].e_id]
            seen += int(torch.isin(keys(edges, 80), links).sum())
            other = data[turned].edge_index[:, batch[turned].e_id]
            back += int(torch.isin(keys(other.flip(0), 80), links).sum())
        assert (seen > 0) == (exclude is None)
        assert (back > 0) == (exclude != "seed+reverse")


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("mode", ["binary", "triplet"])
def test_checked_negatives_are_no_edges(mode: str, disjoint: bool) -> None:
    data = small()
    # links that are no edges of the graph
    links = torch.stack([torch.arange(40), torch.arange(40).flip(0)])
    dst_weight = torch.ones(60)
    dst_weight[:5] = 0
    negatives = NegativeSampling(mode, 3, torch.ones(60), dst_weight)
    for check in (True, False):
        wrong = 0
        loader = LinkNeighborLoader(
            data, [2], edge_label_index=links, batch_size=20, seed=4, neg_sampling=negatives,
            check_negatives=check, disjoint=disjoint,
        )  # fmt: skip
        for batch, again in zip(loader, loader, strict=True):
            if mode == "binary":
                pairs = batch.n_id[batch.edge_label_index[:, 20:]]
                other = again.n_id[again.edge_label_index[:, 20:]]
                assert not batch.edge_label[20:].any()
            else:
                assert batch.dst_neg_index.shape == (20, 3)
                sources = batch.n_id[batch.src_index].unsqueeze(1).expand(20, 3)
                pairs = torch.stack([sources, batch.n_id[batch.dst_neg_index]]).flatten(1)
                other = again.n_id[again.dst_neg_index]
                if disjoint:
                    trees = batch.batch[batch.dst_neg_index]
                    assert torch.equal(trees, torch.arange(20).unsqueeze(1).expand(20, 3))
            assert pairs.shape == (2, 60) and int(pairs[1].min()) >= 5
            # every pass is another epoch
            assert not torch.equal(pairs[1], other[1] if mode == "binary" else other.flatten())
            taken = torch.cat([keys(data.edge_index), keys(links[:, batch.input_id])])
            wrong += int(torch.isin(keys(pairs), taken).sum()) + int((pairs[0] == pairs[1]).sum())
        assert (wrong == 0) == check


def test_checked_negatives_follow_their_weights() -> None:
    data = small()
    links, weight = data.edge_index[:, :40], torch.ones(60)
    negatives = NegativeSampling("triplet", 2, dst_weight=weight)
    loader = LinkNeighborLoader(
        data, [2], edge_label_index=links, batch_size=20, neg_sampling=negatives,
        check_negatives=True,
    )  # fmt: skip

    def drawn() -> Tensor:
        return torch.cat([batch.n_id[batch.dst_neg_index].flatten() for batch in loader])

    assert int(drawn().min()) < 10
    weight[:20] = 0
    assert int(drawn().min()) >= 20
    negatives.dst_weight = torch.ones(60).index_fill(0, torch.arange(40), 0)
    assert int(drawn().min()) >= 40
    negatives.dst_weight = None
    assert int(drawn().min()) < 10


class OfTheirOwn(NegativeSampling):
    """Negatives of a class that users wrote."""


def test_checked_negatives_are_ours_alone() -> None:
    data = small()
    loader = LinkNeighborLoader(
        data, [2], edge_label_index=data.edge_index, batch_size=20, check_negatives=True,
        neg_sampling=OfTheirOwn("binary", 1),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="check_negatives does not go with .* class OfTheirOwn"):
        next(iter(loader))


def test_checked_negatives_of_several_relations() -> None:
    data = academic()
    kind = ("author", "writes", "paper")
    ends = data[kind].edge_index
    loader = LinkNeighborLoader(
        data, [3], edge_label_index=(kind, ends), batch_size=60, neg_sampling_ratio=2.0,
        check_negatives=True, num_workers=1,
    )  # fmt: skip
    for batch in loader:
        src, dst = batch[kind].edge_label_index[:, 60:]
        pairs = torch.stack([batch["author"].n_id[src], batch["paper"].n_id[dst]])
        assert pairs.shape == (2, 120)
        assert not torch.isin(keys(pairs, 80), keys(ends, 80)).any()
        # of two types, equal ids are nothing special
        assert int((pairs[0] < 40).sum()) == 120
    unknown = LinkNeighborLoader(
        data, [3], edge_label_index=(("author", "x", "paper"), ends), batch_size=60,
        neg_sampling_ratio=2.0, check_negatives=True,
    )  # fmt: skip
    with pytest.raises(GraphError, match="check_negatives needs the edges of .*'x'.* has none"):
        next(iter(unknown))


# -- ahead of their use ----------------------------------------------------------------------------


def everything(batch: Any) -> list[tuple[Any, Any]]:
    """All that a batch holds, in its order."""
    return [item for store in batch.stores for item in store.items()]


def assert_equal_batches(ours: Any, others: Any) -> None:
    for one, other in zip(ours, others, strict=True):
        pairs = list(zip(everything(one), everything(other), strict=True))
        assert len(pairs) > 5
        for (name, value), (other_name, other_value) in pairs:
            assert name == other_name and type(value) is type(other_value)
            if isinstance(value, Tensor):
                assert value.dtype == other_value.dtype and torch.equal(value, other_value)
            else:
                assert value == other_value


@pytest.mark.parametrize("kind", ["nodes", "times", "links", "several relations", "venue"])
def test_ahead_changes_nothing(kind: str) -> None:
    data: Any = small() if kind in ("nodes", "times", "links") else academic()
    data["image"] = None
    if kind == "nodes":
        data.image, data.half = torch.arange(60 * 4).view(60, 2, 2), data.x.half()
        # as long as there are nodes, but cut otherwise
        data.face = torch.zeros(3, 60, dtype=torch.int64)

    def loader(ahead: int) -> Any:
        options: dict[str, Any] = dict(batch_size=16, shuffle=True, ahead=ahead)
        if kind == "links":
            return LinkNeighborLoader(data, [2, 2], neg_sampling_ratio=1.0, **options)
        if kind == "times":
            options |= dict(time_attr="edge_time", input_time=torch.full((60,), 50))
        elif kind == "several relations":
            options |= dict(input_nodes="paper")
        elif kind == "venue":
            options |= dict(input_nodes="venue")
        return NeighborLoader(data, [2, 2], **options)

    found = []
    for ahead in (0, 1, 5):
        torch.manual_seed(3)
        batches = loader(ahead)
        passes = [*batches, *batches]
        # neither is torch's generator
        found.append((passes, torch.rand(1)))
    for passes, number in found[1:]:
        assert_equal_batches(passes, found[0][0])
        assert torch.equal(number, found[0][1])


def test_ahead_is_done_by_threads_that_end() -> None:
    data = small()
    before, seen = threading.active_count(), []
    loader = NeighborLoader(data, [2, 2], batch_size=2)

    def note(batch: Any) -> Any:
        seen.append(threading.current_thread())
        return batch

    for _ in loader:
        assert threading.active_count() > before
        break
    assert threading.active_count() == before
    # what is the user's runs in the thread of the loop, and sees the features
    apart = NeighborLoader(data, [2, 2], batch_size=20, transform=note)
    for batch in apart:
        assert torch.equal(batch.x, data.x[batch.n_id])
    assert seen == [threading.main_thread()] * 3


@pytest.mark.parametrize("kind", [NeighborLoader, LinkNeighborLoader])
@pytest.mark.parametrize("batches", [None, 3, 0.1])
def test_bytes_bound_what_is_ahead(
    kind: Any, batches: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many batches' bytes, beside the one in use; in the second pass their size is known."""
    ring = torch.arange(400)
    data = Data(
        x=torch.randn(400, 50), edge_index=torch.stack([ring, (ring + 1) % 400]),
        whole=torch.zeros(1, 10**6),
    )  # fmt: skip
    name = "sample_from_nodes" if kind is NeighborLoader else "sample_from_edges"
    draw, lock = getattr(GraphkitSampler, name), threading.Lock()
    made = taken = most = 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal made, most
        with lock:
            made += 1
            most = max(most, made - taken)
        return draw(*args, **options)

    def loader(ahead_bytes: int | None) -> Any:
        options: dict[str, Any] = {} if kind is NeighborLoader else {"edge_label_index": None}
        options |= {"batch_size": 10, "ahead": 8, "ahead_bytes": ahead_bytes}
        return kind(data, [0], **options)

    def size(batch: Any) -> int:
        # what belongs to the user is not counted
        values = [value for name, value in everything(batch) if name != "whole"]
        return sum(v.nbytes for v in values if isinstance(v, Tensor))

    bound = None if batches is None else int(batches * size(next(iter(loader(None)))) * 1.05)
    monkeypatch.setattr(GraphkitSampler, name, counted)
    loaded = loader(bound)
    for passed in range(2):
        made = taken = most = 0
        for batch in loaded:
            time.sleep(0.002)
            with lock:
                taken += 1
            assert torch.equal(batch.x, data.x[batch.n_id])
        assert made == taken == 40
        room = 8 if batches is None else int(batches)
        assert most <= room + 1 and (most > 2 or not room), (passed, most)


def test_passes_use_the_memory_of_those_before() -> None:
    data = small()
    data.x = torch.randn(60, 5000)
    loader = NeighborLoader(data, [2], batch_size=20)

    def places() -> set[int]:
        found = set()
        for batch in loader:
            assert torch.equal(batch.x, data.x[batch.n_id])
            found.add(batch.x.data_ptr())
        return found

    first = places()
    assert places() & first
    kept = [batch.x for batch in loader]
    assert len({x.data_ptr() for x in kept}) == 3


@pytest.mark.parametrize("ahead", [0, 2])
def test_ids_are_checked_before_a_thread_starts(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr("threading.Thread.start", started.append)
    wrong = torch.tensor([*range(8), 60])
    options: dict[str, Any] = dict(batch_size=2, ahead=ahead)
    with pytest.raises(GraphError, match=r"seeds\[8\] = 60, but there are 60 nodes"):
        NeighborLoader(small(), [2], input_nodes=wrong, **options)
    with pytest.raises(GraphError, match=r"seeds\['paper'\]\[0\] = -1, but there are 80 nodes"):
        NeighborLoader(academic(), [2], input_nodes=("paper", torch.tensor([-1])), **options)
    links = torch.stack([torch.zeros(9, dtype=torch.int64), wrong])
    with pytest.raises(GraphError, match=r"edge_label_index\[1\]\[8\] = 60, but there are 60"):
        LinkNeighborLoader(small(), [2], edge_label_index=links, **options)
    kind = ("author", "writes", "paper")
    with pytest.raises(GraphError, match=r"edge_label_index\[0\]\[8\] = 60, but there are 40"):
        LinkNeighborLoader(academic(), [2], edge_label_index=(kind, links.flip(0)), **options)
    assert not started
    monkeypatch.undo()
    # none at all
    none = torch.empty(0, dtype=torch.int64)
    assert list(NeighborLoader(small(), [2], input_nodes=none, **options)) == []


def test_ahead_is_left_where_it_would_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small()

    def by_threads(kind: Any = NeighborLoader, **options: Any) -> bool:
        loader: Any = kind(options.pop("data", data), [2, 2], batch_size=30, **options)
        used = []
        monkeypatch.setattr("graphkit.data.ahead.prefetch", lambda *a, **b: used.append(1) or [])
        for _ in loader:
            pass
        return bool(used)

    assert by_threads() and by_threads(shuffle=True) and by_threads(transform=lambda batch: batch)
    assert not by_threads(ahead=0)
    assert not by_threads(transform_sampler_output=lambda out: out)
    # draws its key from torch's generator
    assert not by_threads(neighbor_sampler=GraphkitSampler(data, [2, 2]))
    assert by_threads(neighbor_sampler=GraphkitSampler(data, [2, 2], seed=0))
    learnt = small()
    learnt.x.requires_grad_()
    assert not by_threads(data=learnt)

    class Mine(torch.utils.data.SequentialSampler):
        pass

    assert not by_threads(sampler=Mine(range(60)))
    # it draws once more when the pass ends
    assert not by_threads(shuffle=True, generator=torch.Generator())

    class Owned(Data):
        pass

    class Sampling(GraphkitSampler):
        pass

    class Negatives(NegativeSampling):
        pass

    class Loading(NeighborLoader):
        pass

    assert not by_threads(data=Owned(**data.to_dict()))
    assert not by_threads(neighbor_sampler=Sampling(data, [2, 2], seed=0))
    assert not by_threads(Loading)
    assert by_threads(LinkNeighborLoader, neg_sampling=NegativeSampling("binary"))
    assert not by_threads(LinkNeighborLoader, neg_sampling=Negatives("binary"))
    for ahead in (-1, True, 1.5):
        with pytest.raises(ConfigError, match="ahead is"):
            NeighborLoader(data, [2], ahead=ahead)  # pyright: ignore[reportArgumentType]


def test_features_use_memory_again() -> None:
    data = small(4_000, 20_000)
    data.x = torch.randn(4_000, 64)
    places, kept = set(), []
    for batch in NeighborLoader(data, [5, 5], batch_size=400, ahead=1):
        assert torch.equal(batch.x, data.x[batch.n_id])
        places.add(batch.x.data_ptr())
        kept.append(batch.x[:1].clone())
    assert len(places) < len(kept) == 10
    # what is held is not
    held = [(batch.n_id, batch.x) for batch in NeighborLoader(data, [5, 5], batch_size=400)]
    assert all(torch.equal(x, data.x[n_id]) for n_id, x in held)


# -- several relations -----------------------------------------------------------------------------


def test_batches_of_several_relations() -> None:
    data = academic()
    loader = NeighborLoader(data, [4, 3], input_nodes=("paper", torch.arange(50)), batch_size=20)
    for batch in loader:
        assert batch["paper"].batch_size == len(batch["paper"].input_id)
        assert batch["venue"].num_nodes == 0
        for kind in data.edge_types:
            src, dst = batch[kind].edge_index
            ends = torch.stack([batch[kind[0]].n_id[src], batch[kind[2]].n_id[dst]])
            assert torch.equal(ends, data[kind].edge_index[:, batch[kind].e_id])
            assert torch.equal(batch[kind].weight, data[kind].weight[batch[kind].e_id])
            assert sum(batch.num_sampled_edges_dict[kind]) == len(src)
    fanout = NumNeighbors({("paper", "cites", "paper"): [5, 0]}, default=[2, 2])
    (batch,) = NeighborLoader(data, fanout, input_nodes="paper", batch_size=80)
    assert batch.num_sampled_edges_dict["paper", "cites", "paper"][1] == 0


def test_a_model_of_several_relations_is_trimmed() -> None:
    data = academic()
    # PyG's zero-copy conversion of a model knows the types that edges touch
    del data["venue"]

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = SAGEConv((-1, -1), 6), SAGEConv((-1, -1), 6)

        def forward(self, x: Any, edge_index: Any) -> Any:
            return self.second(self.first(x, edge_index).relu(), edge_index)

    model = to_hetero(Net(), data.metadata())
    (batch,) = NeighborLoader(
        data, [-1, -1], input_nodes=("paper", torch.arange(20)), batch_size=20
    )
    got = model(batch.x_dict, batch.edge_index_dict)["paper"][:20]
    want = model(data.x_dict, data.edge_index_dict)["paper"][:20]
    torch.testing.assert_close(got, want)


def test_seeds_of_a_type_that_no_edge_touches() -> None:
    data = academic()
    (batch,) = NeighborLoader(data, [2, 2], input_nodes="venue", batch_size=3)
    assert batch["venue"].n_id.tolist() == [0, 1, 2] and batch["paper"].num_nodes == 0
    assert torch.equal(batch["venue"].x, data["venue"].x)
    assert batch["venue"].num_sampled_nodes == [3, 0, 0]
    seeds = ("venue", torch.tensor([0, 3]))
    with pytest.raises(GraphError, match=r"seeds\['venue'\]\[1\] = 3, but there are 3 nodes"):
        list(NeighborLoader(data, [2], input_nodes=seeds, batch_size=2))
    # links from such a type, each with a tree of its own
    ends = torch.tensor([[0, 1, 2, 2], [5, 6, 7, 8]])
    kind = ("venue", "prints", "paper")
    sampler = GraphkitSampler(data, [2, 2], disjoint=True)
    links = EdgeSamplerInput(torch.arange(4), ends[0], ends[1], input_type=kind)
    out = sampler.sample_from_edges(links)
    assert out.node["venue"].tolist() == [0, 1, 2, 2] and out.batch["venue"].tolist() == [
        0,
        1,
        2,
        3,
    ]
    assert out.node["paper"][:4].tolist() == [5, 6, 7, 8]
    assert out.batch["paper"][:4].tolist() == [0, 1, 2, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_data_on_a_gpu() -> None:
    data = small().cuda()
    loader = NeighborLoader(
        data, [4, 3], time_attr="edge_time", weight_attr="weight", batch_size=20,
        input_nodes=torch.arange(40, device="cuda"),
        input_time=torch.full((40,), 50, device="cuda"),
    )  # fmt: skip
    for batch in loader:
        assert batch.x.is_cuda and (batch.edge_time <= 50).all()


def test_time_and_weights_of_several_relations() -> None:
    data = academic()
    for kind in data.edge_types:
        without_weight(data[kind])
    taken = 0
    loader = NeighborLoader(
        data, [4, 3], input_nodes="paper", time_attr="time", weight_attr="weight", batch_size=40
    )
    for batch in loader:
        now = data["paper"].time[batch["paper"].input_id]
        for kind in ("paper", "author"):
            assert (batch[kind].time <= now[batch[kind].batch]).all()
        for kind in data.edge_types:
            assert (data[kind].weight[batch[kind].e_id] > 0).all()
            taken += len(batch[kind].e_id)
    assert taken > 100


def test_links_of_several_relations() -> None:
    data = academic()
    kind = ("author", "writes", "paper")
    loader = LinkNeighborLoader(
        data, [3, 3], edge_label_index=(kind, data[kind].edge_index), batch_size=60,
        neg_sampling_ratio=2.0, seed=3,
    )  # fmt: skip
    for batch in loader:
        src, dst = batch[kind].edge_label_index[:, : len(batch[kind].input_id)]
        ends = torch.stack([batch["author"].n_id[src], batch["paper"].n_id[dst]])
        assert torch.equal(ends, data[kind].edge_index[:, batch[kind].input_id])


# -- bad input -------------------------------------------------------------------------------------


def test_bad_input() -> None:
    data, hetero = small(), academic()
    lonely = Data(x=data.x)
    late = data.clone()
    late.edge_time = data.edge_time.float()
    bad: list[tuple[type[Exception], Any, dict[str, Any], str]] = [
        (GraphError, [data], {}, "data is a list, but a torch_geometric Data or HeteroData"),
        (GraphError, lonely, {}, "neither an edge_index nor an adj_t"),
        (GraphError, data, {"weight_attr": "w"}, "weight_attr is 'w', but data has no such"),
        (GraphError, hetero, {"weight_attr": "w"}, r"weight_attr is 'w', but .*cites"),
        (GraphError, data, {"time_attr": "t"}, "'t', but neither nodes nor edges have it"),
        (GraphError, late, {"time_attr": "edge_time"}, "cannot tell seconds apart"),
        (ConfigError, data, {"subgraph_type": "all"}, "unknown subgraph_type 'all'"),
        (ConfigError, data, {"seed": -1}, "seed is -1, but a whole number from 0"),
        (ConfigError, data, {"exclude": "sead"}, "unknown exclude 'sead'. Did you mean 'seed'"),
        (
            ConfigError,
            data,
            {"exclude": "seed", "subgraph_type": "bidirectional"},
            "exclude='seed' does not go with subgraph_type='bidirectional'",
        ),
        (
            ConfigError,
            hetero,
            {"time_attr": "time", "check_negatives": True},
            "check_negatives does not go with times of nodes",
        ),
    ]
    for error, given, options, message in bad:
        with pytest.raises(error, match=message):
            GraphkitSampler(given, [2], **options)
    hetero["paper", "cites", "paper"].time = torch.arange(600)
    with pytest.raises(GraphError, match="both nodes and edges have it"):
        GraphkitSampler(hetero, [2], time_attr="time")
    with pytest.raises(ConfigError, match="input_time is of no use without time_attr"):
        NeighborLoader(data, [2], input_time=torch.arange(60))
    with pytest.raises(ConfigError, match="edge_label_time and time_attr belong together"):
        LinkNeighborLoader(data, [2], edge_label_time=torch.arange(500))
    # torch's own words
    with pytest.raises(ValueError, match="persistent_workers option needs num_workers > 0"):
        NeighborLoader(data, [2], persistent_workers=True)
    for wrong in (0, -1, 0.5, True, "1 GB"):
        with pytest.raises(ConfigError, match="ahead_bytes is .*, but a number of bytes from 1 on"):
            NeighborLoader(data, [2], ahead_bytes=wrong)  # pyright: ignore[reportArgumentType]
    ours = GraphkitSampler(data, [2], time_attr="edge_time")
    beside: list[dict[str, Any]] = [
        {"seed": 1}, {"method": "labor"}, {"weight_attr": "weight"}, {"directed": False},
        {"subgraph_type": "induced"}, {"time_attr": "weight"},
    ]  # fmt: skip
    for options in beside:
        with pytest.raises(ConfigError, match=f"{[*options][0]} is given beside neighbor_sampler"):
            NeighborLoader(data, [2], neighbor_sampler=ours, **options)
    NeighborLoader(data, [2], neighbor_sampler=ours, time_attr="edge_time")
    with pytest.raises(ConfigError, match="neighbor_sampler is a str, but a GraphkitSampler"):
        NeighborLoader(data, [2], neighbor_sampler="x")  # pyright: ignore[reportArgumentType]
    with pytest.raises(GraphError, match="seeds.1. = 60, but there are 60 nodes"):
        next(iter(NeighborLoader(data, [2], input_nodes=torch.tensor([0, 60]), batch_size=2)))
    with pytest.raises(AttributeError, match="no attribute 'NeighbourLoader'"):
        gk.data.NeighbourLoader  # noqa: B018
