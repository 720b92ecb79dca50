from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader as TorchLoader
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from graphkit.data import GraphSet
from graphkit.data.check import check_graphs
from graphkit.errors import DataError

pace = settings(max_examples=30)


def data_list(sizes: list[tuple[int, int]], seed: int = 0, extras: bool = True) -> list[Data]:
    """Random graphs of so many nodes and edges; with ``extras`` also rarer attributes."""
    rng = torch.Generator().manual_seed(seed)
    out = []
    for nodes, edges in sizes:
        graph = Data(
            x=torch.randn(nodes, 3, generator=rng),
            edge_index=torch.randint(max(nodes, 1), (2, edges if nodes else 0), generator=rng),
            y=torch.randint(3, (1,), generator=rng),
        )
        graph.edge_attr = torch.randn(graph.edge_index.size(1), 2, generator=rng)
        if extras:
            graph.pos = torch.randn(nodes, 2, generator=rng)
            graph.atom = torch.randint(9, (nodes,), generator=rng)
            graph.rq = torch.randn(1, 4, generator=rng)
        out.append(graph)
    return out


shapes = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=6)


def same(ours: Data, theirs: Data) -> None:
    assert set(ours.keys()) == set(theirs.keys())
    assert type(ours) is type(theirs) and ours.num_nodes == theirs.num_nodes
    for key in theirs.keys():
        one, two = ours[key], theirs[key]
        if isinstance(two, torch.Tensor):
            assert one.dtype == two.dtype and torch.equal(one, two), key
        else:
            assert one == two, key


def same_sets(ours: GraphSet, theirs: GraphSet) -> None:
    assert len(ours) == len(theirs) and ours.levels == theirs.levels
    assert set(ours.tensors) == set(theirs.tensors)
    for key, value in theirs.tensors.items():
        assert torch.equal(ours.tensors[key], value), key


@pytest.fixture
def graphs() -> GraphSet:
    """Seven graphs, one without nodes and one without edges, with masks."""
    sizes = [(3, 4), (0, 0), (5, 0), (1, 2), (4, 9), (2, 1), (6, 6)]
    out = GraphSet.from_list(data_list(sizes), "seven", 3)
    part = torch.arange(7) % 3
    masks = {f"{name}_mask": part == k for k, name in enumerate(("train", "val", "test"))}
    return GraphSet({**out.tensors, **masks}, "seven", 3, out.levels)


@pace
@given(shapes, st.booleans())
def test_a_list_and_back(sizes, extras):
    theirs = data_list(sizes, extras=extras)
    ours = GraphSet.from_list(theirs, "name", 3)
    assert len(ours) == len(theirs) and (ours.name, ours.num_classes) == ("name", 3)
    for one, two in zip(ours, theirs, strict=True):
        same(one, two)
    same_sets(GraphSet.from_list(list(ours)), ours)


@pace
@given(shapes, st.booleans(), st.data())
def test_batch_is_that_of_pyg(sizes, extras, draw):
    theirs = data_list(sizes, extras=extras)
    ids = draw.draw(st.lists(st.integers(-len(theirs), len(theirs) - 1), min_size=1, max_size=8))
    batch = GraphSet.from_list(theirs).batch(ids)
    expected = Batch.from_data_list([theirs[k] for k in ids])
    same(batch, expected)
    assert batch.num_graphs == len(batch) == len(ids)
    for one, two in zip(batch.to_data_list(), expected.to_data_list(), strict=True):
        same(one, two)
    same(batch[len(ids) - 1], theirs[ids[-1]])
    again = pickle.loads(pickle.dumps(batch))
    same(again, expected)
    same(again[0], theirs[ids[0]])


def test_batch_without_features_is_that_of_pyg():
    theirs = data_list([(3, 4), (2, 0), (5, 6)], extras=False)
    for graph in theirs:
        graph.num_nodes = graph.num_nodes
        del graph.x
    ours = GraphSet.from_list(theirs)
    for one, two in zip(ours, theirs, strict=True):
        same(one, two)
    batch, expected = ours.batch([2, 0]), Batch.from_data_list([theirs[2], theirs[0]])
    same(batch, expected)
    assert batch.num_nodes == 8 and batch._num_nodes == expected._num_nodes
    for one, two in zip(batch.to_data_list(), expected.to_data_list(), strict=True):
        same(one, two)


def test_batch_reads_no_other_data_of_the_set(graphs):
    batch = graphs.batch(slice(4, 6))
    assert batch.x.untyped_storage().nbytes() == batch.x.nbytes


@pace
@given(shapes, st.data())
def test_subsets_hold_what_a_list_would(sizes, draw):
    theirs = data_list(sizes)
    ours = GraphSet.from_list(theirs)
    bound = st.none() | st.integers(-8, 8)
    step = st.none() | st.sampled_from([-3, -2, -1, 1, 2, 3])
    cut = slice(draw.draw(bound), draw.draw(bound), draw.draw(step))
    mask = draw.draw(st.lists(st.booleans(), min_size=len(theirs), max_size=len(theirs)))
    kept = [graph for graph, keep in zip(theirs, mask, strict=True) if keep]
    for part, expected in (
        (ours[cut], theirs[cut]),
        (ours[mask], kept),
        (ours[::-1], theirs[::-1]),
    ):
        assert isinstance(part, GraphSet) and len(part) == len(expected)
        for one, two in zip(part, expected, strict=True):
            same(one, two)
    turned = list(range(len(theirs)))[cut][::-1]
    same_sets(ours[cut][::-1], ours[turned])


@pytest.mark.parametrize(
    "which",
    [
        [True, False, False, True, False, False, True],
        torch.tensor([True, False, False, True, False, False, True]),
        np.array([True, False, False, True, False, False, True]),
        [0, 3, 6],
        (0, 3, -1),
        torch.tensor([0, 3, 6], dtype=torch.int32),
        torch.tensor([-7, -4, -1]),
        np.array([0, 3, 6], dtype=np.uint8),
        range(0, 7, 3),
        slice(None, None, 3),
    ],
    ids=lambda which: f"{type(which).__name__} {getattr(which, 'dtype', '')}",
)
def test_every_way_to_name_three_graphs(graphs, which):
    same_sets(graphs[which], graphs[[0, 3, 6]])


def test_masks_follow_their_graphs(graphs):
    part = graphs[graphs.train_mask]
    assert len(part) == 3 and part.train_mask.all() and not part.test_mask.any()
    same_sets(part[1:], graphs[[3, 6]])
    assert "train_mask" not in part[0] and "train_mask" not in part.batch([0, 1])
    assert (part.name, part.num_classes) == ("seven", 3)


@pytest.mark.parametrize("one", [4, -3, np.int64(4), np.uint8(4), torch.tensor(4), np.array(-3)])
def test_every_way_to_name_one_graph(graphs, one):
    same(graphs[one], list(graphs)[4])


@pytest.mark.parametrize("empty", [[], (), torch.tensor([]), np.array([]), slice(9, None)])
def test_an_empty_subset_is_a_set(graphs, empty):
    part = graphs[empty]
    assert len(part) == 0 and list(part) == [] and part.edge_index.shape == (2, 0)
    assert part.num_features == 3 and len(part[:]) == 0
    with pytest.raises(DataError, match="a batch needs at least one"):
        graphs.batch(empty)


def test_one_graph_of_the_set_shares_its_memory(graphs):
    graphs[4].x[0, 0] = 7.0
    assert graphs[4].x[0, 0] == 7.0


def test_numbers_outside_raise_index_errors(graphs):
    for bad in (7, -8, [0, 7], torch.tensor([-8])):
        with pytest.raises(IndexError, match="holds 7 graphs, got number"):
            graphs[bad]
    with pytest.raises(IndexError, match="got number 9"):
        graphs.batch([9])


@pytest.mark.parametrize("bad", [1.0, [0.5, 1.0], "x", None, [[0, 1]], {1: 2}, [[0], [1, 2]]])
def test_what_is_no_number_is_refused(graphs, bad):
    with pytest.raises(DataError, match="takes a number, a slice, a mask or numbers"):
        graphs[bad]


def test_masks_of_another_length_are_refused(graphs):
    with pytest.raises(DataError, match=r"a mask must have shape \[7\], got \[6\]"):
        graphs[[True] * 6]
    with pytest.raises(DataError, match=r"got \[7, 2\]. Take one column"):
        graphs[torch.ones(7, 2, dtype=torch.bool)]


def test_what_a_set_tells(graphs):
    assert (graphs.num_features, graphs.num_node_features, graphs.num_edge_features) == (3, 3, 2)
    assert graphs.device == torch.device("cpu") and repr(graphs) == "GraphSet('seven', 7 graphs)"
    bare = GraphSet({key: graphs.tensors[key] for key in ("node_ptr", "edge_ptr", "edge_index")})
    assert (bare.num_features, bare.num_edge_features) == (0, 0)
    assert bare.x is None and bare.y is None and bare.train_mask is None
    with pytest.raises(AttributeError, match="GraphSet has no 'z'; it has node_ptr"):
        _ = bare.z


def test_integer_features_of_one_dimension_stay_integers(graphs):
    ours = GraphSet({**graphs.tensors, "x": torch.arange(21)}, levels=graphs.levels)
    assert ours.num_features == 1 and ours[6].x.tolist() == list(range(15, 21))
    same(ours.batch([0, 6]), Batch.from_data_list([ours[0], ours[6]]))


def test_moving_keeps_everything(graphs):
    same_sets(graphs.to("cpu"), graphs)


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same(graphs):
    there = graphs.to("cuda")
    same_sets(there[[5, -1]][::-1].to("cpu"), graphs[[6, 5]])
    batch = there.batch(torch.tensor([4, 1]))
    assert all(value.is_cuda for value in (batch.x, batch.batch, batch.ptr, batch.edge_index))
    same(batch.cpu(), graphs.batch([4, 1]))


@pytest.mark.parametrize(
    "copier", [copy.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))]
)
def test_copies_are_the_same(graphs, copier):
    same_sets(copier(graphs), graphs)
    same(copier(graphs)[4], graphs[4])


def batches(loader) -> list[Batch]:
    torch.manual_seed(3)
    return list(loader)


def test_pyg_s_loader_takes_it_as_a_list(graphs):
    options = {"batch_size": 3, "shuffle": True}
    ours, theirs = (
        batches(DataLoader(graphs, **options)),
        batches(DataLoader(list(graphs), **options)),
    )
    assert [len(batch) for batch in ours] == [3, 3, 1]
    for one, two in zip(ours, theirs, strict=True):
        same(one, two)


def test_torch_s_loader_over_numbers_gives_pyg_s_batches(graphs):
    fast = TorchLoader(range(len(graphs)), 3, shuffle=True, collate_fn=graphs.batch)
    ours, theirs = batches(fast), batches(DataLoader(graphs, 3, shuffle=True))
    for one, two in zip(ours, theirs, strict=True):
        same(one, two)


def test_numbers_of_a_graph_become_a_tensor():
    theirs = data_list([(2, 1), (3, 0)], extras=False)
    for k, graph in enumerate(theirs):
        graph.weight, graph.y = 0.5 * k, torch.tensor(k)
    ours = GraphSet.from_list(theirs)
    assert ours.weight.tolist() == [0.0, 0.5] and ours.y.tolist() == [0, 1]
    assert torch.equal(ours.batch([0, 1]).weight, Batch.from_data_list(theirs).weight)


def test_targets_of_nodes_and_of_many_tasks_are_told_apart():
    theirs = data_list([(2, 1), (3, 0)], extras=False)
    for graph in theirs:
        graph.y = torch.arange(graph.num_nodes)
    assert GraphSet.from_list(theirs).levels["y"] == "node"
    for graph in theirs:
        graph.y = torch.ones(1, 5)
    assert GraphSet.from_list(theirs).y.shape == (2, 5)


def test_text_is_left_out_on_request():
    theirs = data_list([(2, 1), (3, 0)], extras=False)
    for graph in theirs:
        graph.smiles = "CC"
    with pytest.raises(
        DataError, match=r"smiles of graph 0 is str.*pass exclude_keys=\['smiles'\]"
    ):
        GraphSet.from_list(theirs)
    assert "smiles" not in GraphSet.from_list(theirs, exclude_keys=["smiles"]).tensors


def odd(**values):
    """A change of the second of three graphs."""
    return lambda theirs: [setattr(theirs[1], key, value) for key, value in values.items()]


LISTS = {
    "empty": (lambda theirs: theirs.clear(), "the list is empty"),
    "no data": (lambda theirs: theirs.append("x"), "graph 3 is a str, but a torch_geometric"),
    "no edges": (odd(edge_index=None), "graph 1: has no edge_index"),
    "transposed": (
        odd(edge_index=torch.zeros(5, 2).long()),
        "graph 1: edge_index has shape [5, 2]",
    ),
    "other keys": (
        odd(z=torch.ones(1)),
        "graph 1 has edge_attr, x, y, z, but graph 0 has edge_attr",
    ),
    "dtype": (odd(x=torch.ones(2, 3).double()), "x of graph 1 is torch.float64 of shape [2, 3]"),
    "width": (odd(x=torch.ones(2, 4)), "x of graph 1 is torch.float32 of shape [2, 4], but of"),
    "length": (odd(y=torch.ones(3).long()), "y of graph 1 has shape [3], which is a row neither"),
    "sparse": (odd(x=torch.eye(2, 3).to_sparse()), "x of graph 1 is torch.sparse_coo"),
    "index": (
        lambda theirs: [setattr(g, "pair_index", torch.zeros(2, 1).long()) for g in theirs],
        "PyG renumbers 'pair_index' in a batch",
    ),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists_that_are_no_set(case):
    change, message = LISTS[case]
    theirs = data_list([(3, 2), (2, 1), (1, 0)], extras=False)
    change(theirs)
    with pytest.raises(DataError) as caught:
        GraphSet.from_list(theirs)
    assert message in str(caught.value) and str(caught.value).startswith("GraphSet.from_list: ")


BLOCKS = {
    "missing": ({"edge_ptr": None}, "edge_ptr is missing, got node_ptr"),
    "dtype": ({"node_ptr": torch.tensor([0, 3, 5]).int()}, "node_ptr must be int64"),
    "no entry": ({"node_ptr": torch.zeros(0).long()}, "must be int64 of shape [graphs + 1]"),
    "start": ({"node_ptr": torch.tensor([1, 3, 5])}, "start at 0 and never fall, got node_ptr[0]"),
    "fall": ({"node_ptr": torch.tensor([0, 6, 5])}, "never fall, got node_ptr[2] = 5"),
    "graphs": ({"edge_ptr": torch.tensor([0, 3])}, "node_ptr tells of 2 graphs and edge_ptr of 1"),
    "edges": ({"edge_index": torch.zeros(2, 4).long()}, "has shape [2, 4], but edge_ptr"),
    "rows": ({"x": torch.zeros(4, 2)}, "x has shape [4, 2], but there are 5 nodes"),
    "targets": ({"y": torch.tensor(1)}, "y has shape [], but there are 2 graphs"),
}


@pytest.mark.parametrize("case", BLOCKS)
def test_tensors_that_do_not_fit_together(case):
    change, message = BLOCKS[case]
    tensors = {
        "node_ptr": torch.tensor([0, 3, 5]),
        "edge_ptr": torch.tensor([0, 2, 3]),
        "edge_index": torch.zeros(2, 3).long(),
        "x": torch.zeros(5, 2),
        "y": torch.zeros(2).long(),
    }
    assert len(GraphSet(tensors)) == 2
    tensors = {k: v for k, v in {**tensors, **change}.items() if v is not None}
    with pytest.raises(DataError) as caught:
        GraphSet(tensors)
    assert message in str(caught.value)


def good() -> GraphSet:
    """Six graphs that pass, with masks."""
    out = GraphSet.from_list(data_list([(3, 4), (5, 0), (1, 2), (4, 9), (2, 1), (6, 6)]))
    part = torch.arange(6) % 3
    masks = {f"{name}_mask": part == k for k, name in enumerate(("train", "val", "test"))}
    return GraphSet({**out.tensors, **masks, "y": part}, levels=out.levels)


def changed(graphs: GraphSet, **tensors: torch.Tensor | None) -> GraphSet:
    kept = {k: v for k, v in {**graphs.tensors, **tensors}.items() if v is not None}
    return GraphSet(kept, graphs.name, graphs.num_classes, graphs.levels)


LAWFUL = {
    "as it is": {},
    "no split": {"train_mask": None, "val_mask": None, "test_mask": None},
    "no features": {"x": None, "edge_attr": None},
    "integers": {"x": torch.ones(21, 2).long()},
    "regression": {"y": torch.randn(6)},
    "many tasks": {"y": torch.tensor([[1.0, float("nan")]] * 6)},
    "bits": {"y": torch.ones(6, 2).long()},
}


@pytest.mark.parametrize("case", LAWFUL)
def test_good_graphs_come_back_themselves(case):
    graphs = changed(good(), **LAWFUL[case])
    assert check_graphs(graphs) is graphs


def test_a_good_list_comes_back_as_a_set():
    theirs = data_list([(3, 4), (5, 0)])
    same_sets(check_graphs(theirs), GraphSet.from_list(theirs))


def poked(name: str, place: tuple[int, ...] | int, value: float) -> torch.Tensor:
    tensor = good().tensors[name].clone()
    tensor[place] = value
    return tensor


NAN = float("nan")
BAD = {
    "edge beyond": (
        {"edge_index": poked("edge_index", (1, 7), 4)},
        "edge_index[1, 1] of graph 3 is 4, but the graph has 4 nodes (valid: 0 to 3)",
    ),
    "edge negative": (
        {"edge_index": poked("edge_index", (0, 0), -1)},
        "edge_index[0, 0] of graph 0 is -1, but the graph has 3 nodes",
    ),
    "edge float": ({"edge_index": torch.zeros(2, 22)}, "dtype torch.float32, but torch.int64"),
    "x nan": (
        {"x": poked("x", (9, 1), NAN)},
        "x has 1 values that are NaN or Inf, the first is x[0, 1] = nan of graph 3. Replace",
    ),
    "edge_attr inf": (
        {"edge_attr": poked("edge_attr", (21, 0), float("inf"))},
        "the first is edge_attr[5, 0] = inf of graph 5",
    ),
    "x 1-D": ({"x": torch.ones(21)}, "x must have two dimensions"),
    "y missing": ({"y": None}, "GraphSet has no y"),
    "y int32": ({"y": torch.zeros(6).int()}, "y must be int64 class numbers, got torch.int32"),
    "y negative": ({"y": poked("y", 4, -2)}, "y[4] = -2, but classes count from 0"),
    "y identifiers": ({"y": 900 * torch.arange(6)}, "y has 6 distinct labels up to 4500"),
    "y inf": ({"y": torch.tensor([0.0, 1, 2, 3, float("inf"), 5])}, "the first in graph 4"),
    "y 3-D": ({"y": torch.zeros(6, 2, 2)}, "y must have shape [6] or [6, targets]"),
    "one mask": ({"val_mask": None}, "GraphSet has no val_mask, but another mask"),
    "mask empty": ({"val_mask": torch.zeros(6).bool()}, "val_mask selects no graph"),
    "mask shared": (
        {"test_mask": torch.ones(6).bool()},
        "train_mask and test_mask share 2 graphs, for example graph 0",
    ),
    "mask unlabelled": (
        {"y": poked("y", 3, -1)},
        "train_mask selects 1 graphs without a label, for example graph 3",
    ),
    "mask without numbers": (
        {"y": torch.tensor([1.0, 1, 1, NAN, 1, 1])},
        "train_mask selects 1 graphs without a label, for example graph 3",
    ),
    "mask integer": ({"val_mask": torch.ones(6).long()}, "val_mask must be bool, got torch.int64"),
}


@pytest.mark.parametrize("case", BAD)
def test_graphs_nothing_can_be_learned_from(case):
    change, message = BAD[case]
    with pytest.raises(DataError) as caught:
        check_graphs(changed(good(), **change))
    assert message in str(caught.value)


def test_classes_beyond_the_declared_ones():
    graphs = good()
    graphs.num_classes = 2
    with pytest.raises(DataError, match=r"y\[2\] = 2, but there are 2 classes"):
        check_graphs(graphs)


def test_y_of_nodes_is_not_of_graphs():
    theirs = data_list([(2, 1), (3, 0)], extras=False)
    for graph in theirs:
        graph.y = torch.arange(graph.num_nodes)
    with pytest.raises(DataError, match=r"got \[5\] with a row per node"):
        check_graphs(theirs)


def test_graphs_without_nodes():
    with pytest.raises(DataError, match="graph 1 has no nodes, but every graph needs a node"):
        check_graphs(data_list([(2, 1), (0, 0)]))
    with pytest.raises(DataError, match="there are no graphs"):
        check_graphs(good()[[]])


def test_nonfinite_features_can_be_allowed():
    graphs = changed(good(), x=poked("x", (9, 1), NAN))
    assert check_graphs(graphs, allow_nonfinite=True) is graphs


def test_two_devices():
    graphs = changed(good(), x=torch.ones(21, 2, device="meta"))
    with pytest.raises(DataError, match=r"on one device, got .*x on meta. Use graphs.to\(device\)"):
        check_graphs(graphs)
