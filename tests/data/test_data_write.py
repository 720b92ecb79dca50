from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ogb_sets import files_of, write_node, write_npz
from torch import Tensor
from torch_geometric.data import Data, HeteroData
from torch_geometric.loader import NeighborLoader as PygNeighborLoader
from torch_geometric.loader import NodeLoader

from graphkit import Graph, cli
from graphkit.data import (
    GraphkitSampler,
    LinkNeighborLoader,
    NeighborLoader,
    StoreFeatures,
    StoreGraph,
    load,
    open_store,
    stages,
    stored_tables,
    write_store,
)
from graphkit.data.chunked import parse_bytes, table
from graphkit.data.readers.ogb import read_ogb_node
from graphkit.data.readers.ogb_npz import read_ogb_npz
from graphkit.data.sources import _ogb_arrays, _ogb_tables
from graphkit.errors import ConfigError, DataError, GraphError, StoreError
from graphkit.ops import Sampler
from graphkit.store import Store

NODES, EDGES = 300, 2500


def sample() -> Data:
    return Data(
        x=torch.randn(NODES, 33),
        edge_index=torch.randint(NODES, (2, EDGES)),
        y=torch.randint(5, (NODES,)),
        year=torch.arange(NODES, dtype=torch.int32),
        edge_attr=torch.randn(EDGES, 3).bfloat16(),
        train_mask=torch.rand(NODES) < 0.5,
        val_mask=torch.rand(NODES) < 0.2,
        test_mask=torch.rand(NODES) < 0.2,
    )


def hetero() -> HeteroData:
    data = HeteroData()
    data["paper"].x = torch.randn(60, 8)
    data["paper"].y = torch.randint(3, (60,))
    data["paper"].train_mask = torch.rand(60) < 0.5
    data["author"].x = torch.randn(40, 5)
    data["venue"].num_nodes = 4
    for name, count in (
        (("author", "writes", "paper"), 200),
        (("paper", "cites", "paper"), 300),
        (("paper", "in", "venue"), 60),
    ):
        ends = [data[name[0]].num_nodes, data[name[2]].num_nodes]
        data[name].edge_index = torch.stack([torch.randint(n, (count,)) for n in ends])
    data["paper", "cites", "paper"].edge_attr = torch.randn(300, 2)
    return data


def in_chunks(values: Any, step: int = 97, axis: int = 0) -> Iterator[Any]:
    for start in range(0, values.shape[axis], step):
        yield values[(slice(None),) * axis + (slice(start, start + step),)]


def all_rows(store: Store, name: str, **place: Any) -> Tensor:
    file = store.column(name, **place)
    return file.rows(torch.arange(len(file)))


def test_a_data_comes_back_from_the_disk(tmp_path: Path) -> None:
    data = sample()
    store = write_store(tmp_path / "a", data, about={"name": "sample"})
    assert store.layout.about == {"name": "sample"} and store.num_nodes == NODES
    for name in ("x", "y", "year"):
        assert torch.equal(all_rows(store, name), data[name])
    assert torch.equal(store.edge_column().rows(torch.arange(EDGES)), data.edge_attr)
    assert torch.equal(store.graph().edge_index(), data.edge_index)
    parts = store.split()
    for part in ("train", "val", "test"):
        assert torch.equal(parts[part], data[f"{part}_mask"].nonzero().flatten())


def test_splits_of_several_columns_have_numbers(tmp_path: Path) -> None:
    data = sample()
    masks = torch.rand(NODES, 3) < 0.5
    for part in ("train", "val", "test"):
        data[f"{part}_mask"] = masks
    store = write_store(tmp_path / "a", data)
    assert list(store.layout.splits) == ["masks-0", "masks-1", "masks-2"]
    assert torch.equal(store.split("masks-2")["val"], masks[:, 2].nonzero().flatten())
    with pytest.raises(StoreError, match="no split 'None'"):
        store.split()


def test_several_types_come_back_from_the_disk(tmp_path: Path) -> None:
    data = hetero()
    store = write_store(tmp_path / "a", data)
    assert store.num_nodes == {"paper": 60, "author": 40, "venue": 4}
    assert torch.equal(all_rows(store, "x", kind="author"), data["author"].x)
    for name, graph in store.graphs().items():
        assert torch.equal(graph.edge_index(), data[name].edge_index)
    assert torch.equal(
        store.split()["train"]["paper"], data["paper"].train_mask.nonzero().flatten()
    )
    with pytest.raises(ConfigError, match="name the type of nodes"):
        store.column("x")


def test_what_is_given_makes_no_difference(tmp_path: Path) -> None:
    """Tensors, arrays, files, memory maps, chunks of any size, of any memory: the same bytes."""
    data = sample()
    arrays = {name: data[name].numpy() for name in ("x", "edge_index", "y", "year")}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        array.tofile(tmp_path / f"{name}.raw")
    splits = {"masks": {p: data[f"{p}_mask"] for p in ("train", "val", "test")}}
    ways: dict[str, Callable[[str], Any]] = {
        "tensors": lambda name: data[name],
        "arrays": lambda name: arrays[name],
        "big-endian": lambda name: arrays[name].astype(arrays[name].dtype.newbyteorder(">")),
        "columns first": lambda name: np.asfortranarray(arrays[name]),
        "npy": lambda name: tmp_path / f"{name}.npy",
        "map": lambda name: np.memmap(
            tmp_path / f"{name}.raw", arrays[name].dtype, "r", shape=arrays[name].shape
        ),
        "chunks": lambda name: in_chunks(data[name], 97, int(name == "edge_index")),
        "one": lambda name: in_chunks(arrays[name], 10_000, int(name == "edge_index")),
    }
    digests = {write_store(tmp_path / "data", data).digest}
    for way, take in ways.items():
        store = write_store(
            tmp_path / way,
            x=take("x"),
            edge_index=take("edge_index"),
            y=take("y"),
            columns={"year": take("year")},
            edge_attr=in_chunks(data.edge_attr),
            splits=splits,
            num_nodes=NODES,
            memory="16MB" if way == "chunks" else 2**40,
        )
        digests.add(store.digest)
    assert len(digests) == 1


@settings(max_examples=25)
@given(st.data())
def test_any_dtype_width_and_size(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Rows of 1 to 6,000 bytes, which need not divide a page, in their place or aligned."""
    dtypes = [torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.bool]
    dtype, label = (data.draw(st.sampled_from(dtypes)) for _ in range(2))
    width, nodes = data.draw(st.sampled_from([1, 3, 25, 100, 750])), data.draw(st.integers(0, 30))
    edges = data.draw(st.integers(0, 40)) if nodes else 0
    x, y = (torch.randn(nodes, width) * 9).to(dtype), (torch.randn(nodes, 2) * 9).to(label)
    ends = torch.randint(max(nodes, 1), (2, edges))
    path = tmp_path_factory.mktemp("stores") / "a"
    store = write_store(path, x=x, edge_index=ends, y=y, align=data.draw(st.booleans()))
    assert torch.equal(all_rows(store, "x"), x) and torch.equal(all_rows(store, "y"), y)
    assert torch.equal(store.graph().edge_index(), ends)
    stride = store.layout.nodes["node"].columns["x"].stride
    assert stride in (width * dtype.itemsize, -(-width * dtype.itemsize // 512) * 512)
    store.verify()


def test_aligned_rows_cross_no_more_blocks_than_they_must(tmp_path: Path) -> None:
    for width, stride in ((100, 512), (128, 512), (64, 256), (1024, 4096), (1100, 4608)):
        x, ends = torch.randn(3, width), torch.zeros(2, 1, dtype=torch.int64)
        store = write_store(tmp_path / str(width), x=x, edge_index=ends, align=True)
        assert store.layout.nodes["node"].columns["x"].stride == stride


# bad input


def given_to(**changes: Any) -> dict[str, Any]:
    data = sample()
    base = {"x": data.x, "edge_index": data.edge_index, "y": data.y, "edge_attr": data.edge_attr}
    return base | changes


def with_value(values: Tensor, place: tuple[int, ...], value: float) -> Tensor:
    values = values.clone()
    values[place] = value
    return values


EDGE = torch.randint(NODES, (2, EDGES))
BAD: list[tuple[str, Callable[[], dict[str, Any]], type[Exception], str]] = [
    ("nan", lambda: given_to(x=with_value(torch.ones(NODES, 3), (7, 2), float("nan"))),
     DataError, r"x\[7, 2\] is nan, but features must be finite"),
    ("inf", lambda: given_to(edge_attr=with_value(torch.ones(EDGES), (9,), float("inf"))),
     DataError, r"edge_attr\[9\] is inf"),
    ("rows", lambda: given_to(y=torch.ones(NODES - 1)),
     DataError, "y has 299 rows, but there are 300 nodes"),
    ("edge rows", lambda: given_to(edge_attr=torch.ones(5)),
     DataError, "edge_attr has 5 rows, but there are 2500 edges"),
    ("id", lambda: given_to(edge_index=with_value(EDGE, (1, 70), NODES)),
     GraphError, r"edge_index\[1, 70\] = 300, but there are 300 destinations"),
    ("below", lambda: given_to(edge_index=with_value(EDGE, (0, 3), -1)),
     GraphError, r"edge_index\[0, 3\] = -1"),
    ("turned", lambda: given_to(edge_index=EDGE.t()), GraphError, r"\[2500\] ends for each edge"),
    ("float", lambda: given_to(edge_index=EDGE.float()), GraphError, "int64 or int32"),
    ("complex", lambda: given_to(x=torch.ones(NODES, 2, dtype=torch.complex64)),
     StoreError, "A store holds no complex64"),
    ("text", lambda: given_to(y=np.array(["a"] * NODES)), DataError, "y is <U1, but numbers"),
    ("kind", lambda: given_to(x=5), DataError, "x is a int, but a tensor"),
    ("flat", lambda: given_to(x=torch.tensor(5)), DataError, r"x has shape \[\]"),
    ("empty", lambda: given_to(x=iter([])), DataError, "an iterable without a chunk"),
    ("split", lambda: given_to(splits={"a": {"train": torch.tensor([0, NODES])}}),
     DataError, r"splits\['a'\]\['train'\]\[1\] = 300"),
    ("twice", lambda: given_to(splits={"a": {"train": [1, 1]}}), DataError, "names a node twice"),
    ("mask", lambda: given_to(splits={"a": {"train": torch.ones(5, dtype=torch.bool)}}),
     DataError, "a mask of 5, but there are 300 nodes"),
    ("ids", lambda: given_to(splits={"a": {"train": [0.5]}}), DataError, "a mask .* or ids"),
    ("nested", lambda: given_to(splits={"train": [1]}), DataError, "a dict of parts is expected"),
    ("file", lambda: given_to(x="/nowhere/x.npy"), StoreError, "cannot be read"),
    ("no edges", lambda: {"x": torch.ones(3)}, ConfigError, "edge_index is missing"),
    ("both", lambda: {"data": sample(), "x": torch.ones(3)}, ConfigError, "got data beside x"),
    ("what", lambda: {"data": 5}, DataError, "data is a int"),
    ("memory", lambda: given_to(memory="1KB"), ConfigError, "16MB at least"),
    ("unit", lambda: given_to(memory="1 wagon"), ConfigError, "bytes such as 512MB"),
    ("count", lambda: {"edge_index": iter([EDGE])}, ConfigError, "Pass num_nodes"),
    ("kinds", lambda: given_to(edge_index={("a", "b", "c"): EDGE}), DataError, "one table, but"),
    ("key", lambda: {"edge_index": {"a": EDGE}}, GraphError, "'a' is not .source, relation"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "kind", "words"), [pytest.param(*r[1:], id=r[0]) for r in BAD])
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, given: Callable[[], dict[str, Any]], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        write_store(tmp_path / "a", **given())
    assert list(tmp_path.iterdir()) == []


LATE: list[tuple[str, Callable[[], dict[str, Any]], type[Exception], str]] = [
    ("width", lambda: {"x": iter([torch.ones(200, 3), torch.ones(100, 4)])},
     DataError, "chunk at row 200"),
    ("dtype", lambda: {"x": iter([torch.ones(200, 3), torch.ones(100, 3).half()])},
     DataError, "float16"),
    ("rows", lambda: {"x": iter([torch.ones(200, 3)]), "num_nodes": NODES},
     DataError, "200 rows, but"),
    ("nan", lambda: {"x": iter([torch.ones(299, 1), torch.full((1, 1), torch.nan)])}, DataError,
     r"x\[299, 0\] is nan"),
    ("id", lambda: {"edge_index": iter([EDGE, EDGE + 1])},
     GraphError, r"edge_index\[., \d+\] = 300"),
    ("edges", lambda: {"edge_index": iter([EDGE]), "num_edges": 7, "edge_attr": None},
     DataError, "2500 rows, but 7"),
    ("edge rows", lambda: {"edge_attr": iter([torch.ones(7)])},
     DataError, "7 rows, but there are 2500"),
]  # fmt: skip


@pytest.mark.parametrize("case", LATE, ids=lambda case: case[0])
def test_bad_chunks_leave_nothing(
    tmp_path: Path, case: tuple[str, Callable[[], dict[str, Any]], type[Exception], str]
) -> None:
    _, changes, kind, words = case
    with warnings.catch_warnings(), pytest.raises(kind, match=words):
        write_store(tmp_path / "a", **given_to(**changes()))
    assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]


def test_what_is_not_finite_may_be_allowed(tmp_path: Path) -> None:
    x = with_value(torch.ones(NODES, 3), (7, 2), float("nan"))
    store = write_store(tmp_path / "a", **given_to(x=x), allow_nonfinite=True)
    assert torch.equal(all_rows(store, "x").isnan(), x.isnan())
    # labels that are not known need no leave
    write_store(tmp_path / "b", **given_to(y=x[:, 2]))


def test_chunks_are_as_small_as_the_memory(tmp_path: Path) -> None:
    """No chunk is larger than asked, whatever it is cut from."""
    x = torch.randn(1000, 10)
    np.save(tmp_path / "x.npy", x)
    for one in (x, tmp_path / "x.npy", in_chunks(x, 700), x.numpy()):
        chunks = list(table("x", one).chunks(4000))
        assert max(chunk.nbytes for chunk in chunks) <= 4000
        assert torch.equal(torch.cat(chunks), x)
    assert parse_bytes("1.5GB") == 3 * 2**29 and parse_bytes("20 MiB") == 20 * 2**20


# files


def test_ogbs_tables_are_those_of_their_reader(tmp_path: Path) -> None:
    write_node(tmp_path / "raw files")
    for inverse in (False, True):
        files = files_of(tmp_path / "raw files")
        theirs = read_ogb_node(files, inverse_edges=inverse)
        tables = _ogb_tables(files, inverse_edges=inverse)
        store = write_store(tmp_path / f"{inverse}", **tables, memory="16MB")
        compare_with(store, theirs.tensors)


@pytest.mark.parametrize("packed", [False, True])
def test_ogbs_arrays_are_those_of_their_reader(tmp_path: Path, packed: bool) -> None:
    write_npz(tmp_path / "papers", packed)
    files = files_of(tmp_path / "papers")
    theirs = read_ogb_npz(files).tensors
    compare_with(write_store(tmp_path / "a", **_ogb_arrays(files)), theirs)


def compare_with(store: Store, tensors: dict[str, Tensor]) -> None:
    assert torch.equal(store.graph().edge_index(), tensors["edge_index"])
    columns = store.layout.nodes["node"].columns
    edges = store.layout.edges[0].columns
    parts = store.split()
    for name, value in tensors.items():
        if name.endswith("_mask"):
            assert torch.equal(parts[name[:-5]], value.nonzero().flatten())
        elif name != "edge_index":
            read = store.column if name in columns else store.edge_column
            file = read(name)
            # features are read as float32, also where all of them are whole
            assert torch.equal(file.span(0, len(file)).to(value.dtype), value)
    names = {"edge_index", "train_mask", "val_mask", "test_mask", *columns, *edges}
    assert names == set(tensors)


def test_files_of_many_kinds_are_one_store(tmp_path: Path) -> None:
    x, edges = torch.randn(NODES, 4), torch.randint(NODES, (EDGES, 2)).numpy()
    y = np.arange(NODES) % 4
    digests = set()
    for kind in ("npy", "csv", "tsv", "parquet", "csv.gz", "txt", "lists", "npz", "pairs"):
        home = tmp_path / kind
        home.mkdir()
        if kind == "npy":
            np.save(home / "x.npy", x)
            np.save(home / "edge_index.npy", edges.T)
            np.save(home / "y.npy", y)
        elif kind in ("npz", "pairs"):
            # column by column, or source by source and then target by target
            ends = edges.T if kind == "pairs" else edges.T.copy()
            np.savez_compressed(home / "a.npz", x=x, edge_index=ends, y=y)
            home = home / "a.npz"
        elif kind in ("parquet", "lists"):
            frame = pd.DataFrame(x.numpy(), columns=list("abcd"))
            frame = pd.DataFrame({"x": list(x.numpy())}) if kind == "lists" else frame
            frame.to_parquet(home / "x.parquet")
            pd.DataFrame(edges, columns=["source", "target"]).to_parquet(
                home / "edge_index.parquet", row_group_size=100
            )
            pd.DataFrame({"y": y}).to_parquet(home / "y.parquet")
        else:
            comma = "," if "csv" in kind else "\t"
            # a line of names is optional, and SNAP's files begin with remarks
            head = {"header": "source target"} if kind == "txt" else {}
            np.savetxt(home / f"edge_index.{kind}", edges, "%d", comma, **head)
            pd.DataFrame(x.double().numpy(), columns=list("abcd")).to_csv(
                home / f"x.{kind}", sep=comma, index=False, header=kind == "tsv"
            )
            np.savetxt(home / f"y.{kind}", y, "%d")
        digests.add(write_store(tmp_path / f"{kind} store", **stored_tables(str(home))).digest)
    assert len(digests) == 1


def test_a_file_of_edges_alone(tmp_path: Path) -> None:
    edges = torch.randint(50, (2, 300))
    np.savetxt(tmp_path / "web.csv", edges.t().numpy(), "%d", ",", header="source,target")
    store = write_store(tmp_path / "a", **stored_tables(str(tmp_path / "web.csv")))
    assert torch.equal(store.graph().edge_index(), edges)
    assert store.num_nodes == int(edges.max()) + 1


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("edge_index.csv", "0,1\n1,x\n", "text among the numbers"),
        ("edge_index.csv", "0,1\n1,0.5\n", "two whole numbers"),
        ("edge_index.csv", "0\n1\n", "two whole numbers"),
        ("edge_index.csv", "", "not a table of numbers"),
        ("edge_index.csv", "0,1\n1,2,3,4\n", "not a table of numbers"),
        ("edge_index.npy", "0", "not an npy file"),
        ("edge_index.parquet", "0", "not a readable parquet file"),
    ],
)
def test_files_of_another_kind_are_refused(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        write_store(tmp_path / "a", **stored_tables(str(tmp_path)))


# training from it


def assert_same(ours: Any, theirs: Any, without: tuple[str, ...] = ()) -> None:
    """All batches, bit for bit; PyG adds num_nodes to those of stores."""
    count = 0
    for a, b in zip(ours, theirs, strict=True):
        count += 1
        a, b = a.to_dict(), b.to_dict()
        for place in [a, b, *(v for one in (a, b) for v in one.values() if isinstance(v, dict))]:
            for name in ("num_nodes", *without):
                place.pop(name, None)
        assert_equal(a, b)
    assert count > 1


def assert_equal(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_equal(a[name], b[name])
    elif isinstance(a, Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    else:
        assert a == b


@pytest.fixture
def data() -> Data:
    whole = sample()
    # masks are splits of a store, and no tables
    del whole.train_mask, whole.val_mask, whole.test_mask
    return whole


@pytest.mark.parametrize("access", ["map", "read"])
def test_stages_make_the_batches_that_they_make_in_memory(
    tmp_path: Path, data: Data, access: Any
) -> None:
    store = write_store(tmp_path / "a", data)

    def batches(graph: Graph, x: Any, y: Any, edge_attr: Any) -> Iterator[Any]:
        found = stages.seeds(torch.arange(NODES), 64, seed=3)
        found = stages.sample(found, Sampler(graph, [5, 4]), transpose=True)
        return stages.prefetch(stages.fetch(found, x, y, edge_attr=edge_attr), threads=2)

    memory = batches(Graph.from_edge_index(data.edge_index, NODES), data.x, data.y, data.edge_attr)
    disk = batches(
        store.graph(),
        store.column("x", access=access),
        store.column("y", access=access),
        store.edge_column(access=access),
    )
    for a, b in zip(memory, disk, strict=True):
        for name in ("seeds", "n_id", "e_id", "x", "y", "edge_attr"):
            assert_equal(getattr(a, name), getattr(b, name))
        for one, other in zip(a.blocks, b.blocks, strict=True):
            assert torch.equal(one.edge_index(), other.edge_index())


def pair(path: Path, **options: Any) -> tuple[StoreFeatures, StoreGraph]:
    return StoreFeatures(path, **options), StoreGraph(path)


@pytest.mark.parametrize("options", [{}, {"ahead": 0}, {"num_workers": 2}], ids=str)
def test_loaders_make_the_batches_that_they_make_in_memory(
    tmp_path: Path, data: Data, options: dict[str, Any]
) -> None:
    write_store(tmp_path / "a", data)
    given = {"batch_size": 64, "input_nodes": torch.arange(0, NODES, 2), "seed": 1, **options}

    def told(batch: Data) -> Data:
        return batch.update({"seen": batch.edge_attr.float().sum()})

    ours = NeighborLoader(pair(tmp_path / "a"), [5, 4], transform=told, shuffle=False, **given)
    assert_same(ours, NeighborLoader(data, [5, 4], transform=told, **given))
    if "num_workers" not in options:
        links = {"edge_label_index": data.edge_index[:, :200], "neg_sampling": "binary", "seed": 2}
        both = [
            LinkNeighborLoader(one, [5], batch_size=50, **links)
            for one in (pair(tmp_path / "a", access="read"), data)
        ]
        assert_same(*both)
        del links["edge_label_index"]
        whole = [
            LinkNeighborLoader(one, [2], batch_size=500, **links)
            for one in (pair(tmp_path / "a"), data)
        ]
        assert_same(*whole)


def test_loaders_of_several_types_read_from_disk(tmp_path: Path) -> None:
    data = hetero()
    write_store(tmp_path / "a", data)
    del data["paper"].train_mask
    given = {"batch_size": 20, "input_nodes": ("paper", torch.arange(60)), "seed": 1}
    ours = NeighborLoader(pair(tmp_path / "a"), [5, 4], **given)
    # in memory a batch names nodes without tables in another order
    assert_same(ours, NeighborLoader(data, [5, 4], **given))


def test_pygs_node_loader_reads_from_disk_by_our_sampler(tmp_path: Path, data: Data) -> None:
    write_store(tmp_path / "a", data)
    seeds = {"input_nodes": torch.arange(100), "batch_size": 30}
    ours = NodeLoader(
        pair(tmp_path / "a"), GraphkitSampler(StoreGraph(tmp_path / "a"), [5, 4], seed=1), **seeds
    )
    theirs = NodeLoader(data, GraphkitSampler(data, [5, 4], seed=1), **seeds)
    # PyG fetches no features of edges from stores
    assert_same(ours, theirs, without=("edge_attr",))


def test_samplers_read_weights_and_times_of_a_store(tmp_path: Path, data: Data) -> None:
    data.weight, data.time = torch.rand(EDGES), torch.randint(100, (NODES,))
    write_store(tmp_path / "a", data)
    given = {"batch_size": 64, "input_nodes": torch.arange(NODES), "seed": 1}
    for options in ({"weight_attr": "weight"}, {"time_attr": "time"}):
        ours = NeighborLoader(pair(tmp_path / "a"), [5, 4], **options, **given)
        assert_same(ours, NeighborLoader(data, [5, 4], **options, **given))
    with pytest.raises(GraphError, match="weight_attr is 'w'"):
        GraphkitSampler(StoreGraph(tmp_path / "a"), [5], weight_attr="w")


@pytest.mark.filterwarnings("ignore:Using 'NeighborSampler' without")
def test_pygs_own_neighbor_loader_reads_from_disk(tmp_path: Path, data: Data) -> None:
    pytest.importorskip("torch_sparse")
    write_store(tmp_path / "a", data)
    loader = PygNeighborLoader(
        pair(tmp_path / "a"), [5, 4], input_nodes=torch.arange(100), batch_size=30
    )
    for batch in loader:
        assert torch.equal(batch.x, data.x[batch.n_id])
        assert torch.equal(batch.n_id[batch.edge_index], data.edge_index[:, batch.e_id])
    assert len(loader) == 4


def test_a_store_by_pygs_protocols(tmp_path: Path, data: Data) -> None:
    write_store(tmp_path / "a", data)
    features, graph = pair(tmp_path / "a")
    assert {attr.attr_name for attr in features.get_all_tensor_attrs()} == {"x", "y", "year"}
    for at in (slice(None), slice(3, 9), slice(5, 2), torch.tensor([4, 2]), np.array([1])):
        found = features.get_tensor(group_name=None, attr_name="x", index=at)
        assert torch.equal(found, data.x[at])
    assert torch.equal(features.get_tensor(None, "x", None), data.x)
    assert torch.equal(features.get_tensor(None, "x", slice(9, 3, -2)), data.x[[9, 7, 5]])
    assert torch.equal(features.get_tensor(None, "x", 5), data.x[5])
    assert torch.equal(features.get_tensor(None, "x", data.y == 1), data.x[data.y == 1])
    assert features.get_tensor_size(group_name=None, attr_name="x", index=None) == (NODES, 33)
    row, col, _ = graph.coo()
    side = Graph.from_edge_index(data.edge_index, NODES).by_dst
    assert torch.equal(torch.stack([row, col]), torch.stack([side.indices.long(), side.row_ids()]))
    colptr, _, order = graph.csr()
    sources = data.edge_index[0][order]
    assert torch.equal(colptr.diff(), torch.bincount(sources, minlength=NODES))
    assert bool((sources.diff() >= 0).all())
    for change in (
        lambda: features.put_tensor(data.x, group_name=None, attr_name="x", index=None),
        lambda: features.remove_tensor(group_name=None, attr_name="x", index=None),
        lambda: graph.put_edge_index((row, col), edge_type=None, layout="coo"),
        lambda: graph.remove_edge_index(edge_type=None, layout="csc"),
    ):
        with pytest.raises(StoreError, match="is read-only"):
            change()


# the command line


def run(*words: str) -> int:
    return cli.main(["data", *words])


def test_commands_write_and_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("store", "digits", "--out", "my digits", "--memory", "64MB") == 0
    told = capsys.readouterr()
    store = open_store("my digits")
    assert "x.bin" in told.out and store.digest in told.out
    assert "Next: graphkit data verify 'my digits'" in told.out
    digits = load("digits")
    assert torch.equal(all_rows(store, "x"), digits.x)
    assert torch.equal(store.split()["train"], digits.train_mask.nonzero().flatten())
    assert run("verify", "my digits") == 0
    assert "Every block has the checksum" in capsys.readouterr().out
    path = tmp_path / "my digits" / "y.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    assert run("verify", "my digits") == 1
    assert "y.bin, block 0" in capsys.readouterr().err
    assert run("store", "digits", "--out", "my digits") == 1
    assert "never overwritten" in capsys.readouterr().err
    assert run("store", "digits", "--out", "b", "--memory", "lots") == 2
    assert run("store", "digits") == 2


def test_a_store_says_what_wrote_it(tmp_path: Path) -> None:
    write_store(tmp_path / "a", sample(), about={"num_classes": 5})
    content = json.loads((tmp_path / "a" / "store.json").read_text())
    assert content["about"] == {"num_classes": 5} and content["writer"].startswith("graphkit ")
