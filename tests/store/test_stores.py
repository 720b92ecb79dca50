from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from killed import in_child, killing_at

from graphkit import Graph
from graphkit.data import write_store
from graphkit.errors import ConfigError, GraphError, StoreError
from graphkit.store import FeatureFile, Store, open_store
from graphkit.store import build as build_module
from graphkit.store.build import ArrayWriter, building
from graphkit.store.layout import BLOCK, STORE, _sealed
from graphkit.store.topology import TopologyWriter

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
DTYPES += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
NODES, EDGES = 9000, 4000


def content() -> dict[str, Any]:
    """Three blocks of features, one of each other table."""
    source = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(NODES, 70, generator=source),
        "edge_index": torch.randint(NODES, (2, EDGES), generator=source),
        "y": torch.randint(5, (NODES,), generator=source),
        "edge_attr": torch.randn(EDGES, 3, generator=source),
        "splits": {"a": {"train": torch.arange(50), "val": torch.arange(50, 70)}},
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "a"
    write_store(path, **content())
    return path


@pytest.fixture
def store(written: Path, tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return Path(shutil.copytree(written, tmp_path / "a"))


def read_all(path: Path) -> None:
    """Use everything, by the ways that hand it out."""
    opened = open_store(path)
    for name in ("x", "y"):
        opened.column(name).rows(torch.arange(NODES))
    opened.edge_column().rows(torch.arange(EDGES))
    opened.graph()
    opened.split()


def bytes_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


# rows


@settings(max_examples=40)
@given(st.data())
def test_rows_are_those_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any dtype, width and stride, rows over several blocks among them, in any pieces."""
    dtype = data.draw(st.sampled_from(DTYPES))
    width = data.draw(st.sampled_from([(), (1,), (3,), (100,), (7, 5), (1100,), (0,)]))
    count = data.draw(st.integers(0, 40))
    x = (torch.randn(count, *width) * 9).to(dtype)
    size = dtype.itemsize
    stride = data.draw(st.sampled_from([None, 512 * size * 5]))
    stride = stride if stride is None or stride >= x[:0].numel() and width != (1100,) else None
    folder = tmp_path_factory.mktemp("rows")
    writer = ArrayWriter(folder, "x.bin", dtype, width, stride, block=4096)
    for part in x.split(data.draw(st.integers(1, 50))) if count else ():
        writer.write(part)
    array = writer.close()
    assert (folder / "x.bin").stat().st_size == array.bytes and array.bytes % 4096 == 0
    index = torch.tensor(data.draw(st.lists(st.integers(0, count - 1)) if count else st.just([])))
    index = index.to(data.draw(st.sampled_from([torch.int64, torch.int32])))
    for access in ("map", "read"):
        file = FeatureFile(folder, array, 4096, access)
        assert file.shape == x.shape and file.dtype == dtype
        assert torch.equal(file.rows(index), x[index.long()])
        out = torch.empty(len(index), *width, dtype=dtype)
        assert file.rows(index, out) is out and torch.equal(out, x[index.long()])
        start = data.draw(st.integers(0, count))
        assert torch.equal(file.span(start, count), x[start:])


def test_rows_refuse_what_is_no_number_of_a_row(written: Path) -> None:
    for access in ("map", "read"):
        x = open_store(written).column("x", access=access)
        with pytest.raises(GraphError, match=rf"x\.bin: index\[1\] = {NODES}, but x has {NODES}"):
            x.rows(torch.tensor([0, NODES]))
        with pytest.raises(GraphError, match=r"index\[0\] = -1"):
            x.rows(torch.tensor([-1]))
        with pytest.raises(GraphError, match="int64 or torch.int32"):
            x.rows(torch.tensor([0.5]))
        with pytest.raises(GraphError, match="out is"):
            x.rows(torch.tensor([1]), torch.empty(1, 3))
        with pytest.raises(ConfigError, match="are not a part of the 9000 rows"):
            x.span(5, NODES + 1)
    with pytest.raises(ConfigError, match="unknown access 'mmap'"):
        open_store(written).column(access="mmap")


def test_a_store_says_what_it_has(written: Path) -> None:
    opened = open_store(written)
    for ask, words in (
        (lambda: opened.column("z"), "no table 'z'. Known: x, y."),
        (lambda: opened.edge_column("z"), "no table of edges 'z'"),
        (lambda: opened.column("x", "paper"), "no type of nodes 'paper'"),
        (lambda: opened.split("b"), "no split 'b'"),
        (lambda: opened.graph(("a", "b", "c")), "no relation"),
    ):
        with pytest.raises(StoreError, match=words):
            ask()


def test_nothing_is_read_but_what_is_asked_for(store: Path) -> None:
    """A damaged block ends the use of its rows, and not of others."""
    opened, row = open_store(store), BLOCK // (70 * 4)
    damage(store / "x.bin", BLOCK + BLOCK // 2)
    x = opened.column()
    x.rows(torch.arange(row - 5))
    with pytest.raises(StoreError, match=r"x\.bin, block 1 \(bytes 1048576 to 2097151\)"):
        x.rows(torch.tensor([row + 5]))
    assert opened.column(verify=False).rows(torch.tensor([row + 5])).shape == (1, 70)


# the graph


@settings(max_examples=40)
@given(st.data())
def test_edges_are_sorted_as_in_memory(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever fits into memory: all of them, parts, not even the edges of one destination."""
    nodes = data.draw(st.sampled_from([1, 2, 40, 500]))
    count = data.draw(st.sampled_from([0, 1, 300, 3000]))
    edges = torch.randint(nodes, (2, count))
    if data.draw(st.booleans()):
        # a hub
        edges[1, : count // 2] = nodes - 1
    if data.draw(st.booleans()):
        edges = edges[:, edges[1].argsort(stable=True)]
    memory = data.draw(st.sampled_from([10**7, 100_000, 20_000, 3_000]))
    known = data.draw(st.sampled_from([count, None]))
    folder = tmp_path_factory.mktemp("edges")
    writer = TopologyWriter(folder, ("p", "i", "e"), nodes, nodes, memory, known, block=4096)
    chunks = edges.split(data.draw(st.sampled_from([1000, 77])), 1)
    total, *arrays = writer.write("edge_index", chunks)
    side = Graph.from_edge_index(edges, nodes, transpose=False).by_dst
    expected = [side.indptr, side.indices, side.eid]
    assert total == count
    for array, values in zip(arrays, expected, strict=True):
        assert (array is None) == (values is None)
        if array is not None:
            file = FeatureFile(folder, array, 4096)
            assert file.dtype == values.dtype
            assert torch.equal(file.span(0, len(file)), values)
    kept = 2 * sum(array is not None for array in arrays)
    assert len(list(folder.iterdir())) == kept


def test_a_graph_over_files_is_the_one_in_memory(written: Path) -> None:
    edges = content()["edge_index"]
    ours, theirs = open_store(written).graph(), Graph.from_edge_index(edges, NODES)
    assert ours.by_src is None and ours.num_src == NODES
    for name in ("indptr", "indices", "eid"):
        a, b = getattr(ours.by_dst, name), getattr(theirs.by_dst, name)
        assert a.dtype == b.dtype and torch.equal(a, b)
    both = open_store(written).graph(transpose=True)
    assert torch.equal(both.by_src.indices, theirs.by_src.indices)
    assert torch.equal(both.edge_index(), edges)


def test_mapped_files_are_not_in_memory(written: Path) -> None:
    """They lie in mappings of the files, which the kernel may drop, and not in memory of ours."""
    graph = open_store(written).graph()
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not list what a process has mapped")
    lines = [line.split() for line in maps.read_text().splitlines() if "indices.bin" in line]
    start, end = (int(part, 16) for part in lines[0][0].split("-"))
    assert start <= graph.by_dst.indices.data_ptr() < end
    assert lines[0][1].startswith("r--")


# what is wrong is not served


def damage(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        value = file.read(1)
        file.seek(place)
        file.write(bytes([value[0] ^ 4]))


@pytest.fixture
def more(request: pytest.FixtureRequest) -> int:
    """How often harm is done, by the number that the tests of every day take."""
    return 10 if request.config.getoption("--slow") else 1


def test_every_flipped_bit_is_found(store: Path, more: int) -> None:
    draw, before, times = random.Random(0), bytes_of(store), 10 * more
    assert len(before) == 17
    for name, data in before.items():
        # 204 of them
        places = [0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(times))]
        for place in places:
            damage(store / name, place)
            with pytest.raises(StoreError) as caught:
                read_all(store)
            assert name in str(caught.value)
            if name.endswith(".bin"):
                assert f"block {place // BLOCK} " in str(caught.value)
            (store / name).write_bytes(data)
    read_all(store)


def test_every_truncation_is_found(store: Path, more: int) -> None:
    draw, before = random.Random(1), bytes_of(store)
    for name, data in before.items():
        drawn = (draw.randrange(len(data)) for _ in range(3 * more))
        for length in {0, len(data) - 1, len(data) // 2, *drawn}:
            (store / name).write_bytes(data[:length])
            with pytest.raises(StoreError, match=name):
                read_all(store)
        (store / name).write_bytes(data + bytes(4096))
        with pytest.raises(StoreError, match=name):
            read_all(store)
        (store / name).unlink()
        with pytest.raises(StoreError, match=name):
            read_all(store)
        (store / name).write_bytes(data)
    read_all(store)


def test_blocks_that_changed_places_are_found(tmp_path: Path, more: int) -> None:
    """Two of nine blocks, which are taken for whole ones of the same file."""
    x = torch.arange(9 * BLOCK // 8)
    writer = ArrayWriter(tmp_path, "x.bin", x.dtype)
    writer.write(x)
    array, path, draw = writer.close(), tmp_path / "x.bin", random.Random(3)
    data = path.read_bytes()
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    for _ in range(50 * more):
        a, b = sorted(draw.sample(range(9), 2))
        with path.open("r+b") as file:
            for place, one in ((a, b), (b, a)):
                file.seek(place * BLOCK)
                file.write(blocks[one])
            file.flush()
            with pytest.raises(StoreError, match=rf"x\.bin, block {a} "):
                FeatureFile(tmp_path, array, BLOCK).rows(torch.arange(len(x)))
            for place in (a, b):
                file.seek(place * BLOCK)
                file.write(blocks[place])
    assert torch.equal(FeatureFile(tmp_path, array, BLOCK).span(0, len(x)), x)


def test_files_that_changed_names_are_found(store: Path) -> None:
    # of one size, and with their checksums
    for suffix in ("", ".xxh3"):
        a, b = store / f"split.a.train.bin{suffix}", store / f"split.a.val.bin{suffix}"
        a.rename(store / "aside")
        b.rename(a)
        (store / "aside").rename(b)
    with pytest.raises(StoreError, match=r"split\.a\.train\.bin"):
        read_all(store)


def test_a_feature_file_that_was_written_anew_is_refused(store: Path) -> None:
    other = content()["x"] + 1
    with (store / "x.bin").open("r+b") as file:
        file.write(other.numpy().tobytes())
    with pytest.raises(StoreError, match=r"x\.bin, block 0 .* changed or damaged"):
        open_store(store)


def test_equal_blocks_have_their_own_checksums(tmp_path: Path) -> None:
    """Zeros everywhere: it is the place that tells blocks and files apart."""
    found = set()
    for name in ("a.bin", "b.bin"):
        writer = ArrayWriter(tmp_path, name, torch.uint8, (), block=4096)
        writer.write(torch.zeros(4 * 4096, dtype=torch.uint8))
        writer.close()
        sums = (tmp_path / f"{name}.xxh3").read_bytes()
        found |= {sums[at : at + 8] for at in range(0, len(sums), 8)}
    assert len(found) == 8


Change = Callable[[dict[str, Any]], Any]
LAYOUTS: list[tuple[str, Change, str]] = [
    ("version", lambda c: c.update(version=2), "version is 2, but this graphkit reads 1"),
    ("format", lambda c: c.update(format="other"), "format is 'other'"),
    ("endian", lambda c: c.update(endian="big"), "endian is 'big'"),
    ("missing", lambda c: c.pop("edges"), "field 'edges' is missing"),
    ("unknown", lambda c: c.update(extra=1), "field 'extra' is unknown"),
    ("kind", lambda c: c.update(block="x"), "block is 'x', but a whole number"),
    ("small", lambda c: c.update(block=1), "block is 1, but at least 4096"),
    ("list", lambda c: c.update(edges={}), "edges is {}, but a list"),
    ("object", lambda c: c.update(nodes=[]), r"nodes is \[\], but an object"),
    ("inner", lambda c: x_of(c).pop("dtype"), "field 'nodes.node.columns.x.dtype' is missing"),
    ("dtype", lambda c: x_of(c).update(dtype="f8"), "x.bin: dtype is 'f8'"),
    ("shape", lambda c: x_of(c).update(shape=[5, 70]), "x.bin: bytes"),
    ("true", lambda c: x_of(c).update(shape=[True, 70]), r"shape\[0\] is True"),
    ("stride", lambda c: x_of(c).update(stride=4), "x.bin: stride is 4, but 280 or more"),
    ("length", lambda c: x_of(c).update(bytes=4096), "x.bin: bytes is 4096"),
    ("place", lambda c: x_of(c).update(file="../x.bin"), r"file is '../x.bin'"),
    ("rows", lambda c: c["nodes"]["node"].update(count=3), r"columns.x.shape is \(9000, 70\)"),
    ("edges", lambda c: c["edges"][0].update(count=3), r"edges\[0\].indices.shape"),
    ("ends", lambda c: c["edges"][0].update(source="a"), "types of nodes that are there"),
    ("eid", lambda c: c["edges"][0]["eid"].update(dtype="int16", stride=4), "eid.dtype is 'int16'"),
]


def x_of(content: dict[str, Any]) -> dict[str, Any]:
    return content["nodes"]["node"]["columns"]["x"]


@pytest.mark.parametrize(("change", "words"), [pytest.param(*r[1:], id=r[0]) for r in LAYOUTS])
def test_a_field_that_does_not_fit_is_named(store: Path, change: Change, words: str) -> None:
    content = json.loads((store / STORE).read_text())
    del content["xxh3_128"]
    change(content)
    (store / STORE).write_text(_sealed(content))
    with pytest.raises(StoreError, match=words):
        open_store(store)


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not the folder of a store"):
        open_store(tmp_path / "none")
    with pytest.raises(StoreError, match=r"not a finished graphkit store: it has no store\.json"):
        open_store(tmp_path)
    (tmp_path / STORE).write_text("[" * 100_000)
    with pytest.raises(StoreError, match="damaged"):
        open_store(tmp_path)


def test_reads_that_go_wrong(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, read = open_store(written).column(access="read"), os.preadv
    expected = content()["x"][:2000]

    def short(handle: int, views: list[memoryview], offset: int) -> int:
        if calls.pop() % 3 == 0:
            raise InterruptedError
        return read(handle, [views[0][:1000]], offset)

    calls = list(range(100_000))
    monkeypatch.setattr(os, "preadv", short)
    assert torch.equal(x.rows(torch.arange(2000)), expected)

    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(StoreError, match=r"x\.bin cannot be read at byte 0: Input/output error"):
        x.rows(torch.arange(3))
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with pytest.raises(StoreError, match=r"x\.bin is truncated: 840 bytes from byte 0 on"):
        x.rows(torch.arange(3))


def test_a_store_may_be_moved_and_read_only(store: Path, tmp_path: Path) -> None:
    place = tmp_path / "mit Leerzeichen" / "größer als Speicher 図"
    place.parent.mkdir()
    before_that = open_store(store).column()
    store.rename(place)
    for file in [*place.iterdir(), place]:
        file.chmod(0o555 if file.is_dir() else 0o444)
    before = {file.name: file.stat().st_mtime_ns for file in [*place.iterdir(), place]}
    read_all(place)
    open_store(place).verify()
    assert torch.equal(before_that.rows(torch.tensor([7])), content()["x"][7:8])
    after = {file.name: file.stat().st_mtime_ns for file in [*place.iterdir(), place]}
    assert before == after
    place.chmod(0o755)


def test_verify_tells_how_far_it_is(written: Path) -> None:
    told: list[tuple[int, int]] = []
    open_store(written).verify(lambda done, total: told.append((done, total)))
    size = sum(f.stat().st_size for f in written.glob("*.bin"))
    assert told[-1] == (size, size) and [done for done, _ in told] == sorted({d for d, _ in told})


# writers


def write(path: Path) -> None:
    write_store(path, **content())


def left(place: Path) -> list[str]:
    return sorted(file.name for file in place.iterdir())


def test_a_kill_between_any_calls_leaves_nothing_or_all(tmp_path: Path) -> None:
    small = {"x": torch.ones(9, 2), "edge_index": torch.tensor([[0, 1, 2], [2, 1, 0]])}
    small |= {"splits": {"a": {"train": torch.arange(5)}}}
    expected = write_store(tmp_path / "whole" / "a", **small).digest
    path, number = tmp_path / "a", 0
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        code = in_child(partial(write_store, path, **small), killing_at(number))
        if path.exists():
            assert open_store(path).digest == expected
            shutil.rmtree(path)
        else:
            with pytest.raises(StoreError, match="not the folder of a store"):
                open_store(path)
            for part in tmp_path.glob("a.building-*"):
                if not (part / STORE).exists():
                    with pytest.raises(StoreError, match=r"has no store\.json"):
                        open_store(part)
    assert code == 0 and number > 20
    write_store(path, **small)
    assert bytes_of(path) == bytes_of(tmp_path / "whole" / "a")
    assert left(tmp_path) == [".a.lock", "a", "whole"]


def test_a_kill_at_any_time_leaves_nothing_or_all(written: Path, tmp_path: Path, more: int) -> None:
    draw, path = random.Random(2), tmp_path / "a"
    for _ in range(25 * more):
        seconds = draw.uniform(0.0005, 0.08)
        # ends the child as SIGKILL does, whatever it is at
        begin = partial(signal.setitimer, signal.ITIMER_REAL, seconds)
        assert in_child(partial(write, path), begin) in (0, -signal.SIGALRM)
        assert not path.exists() or open_store(path).digest == open_store(written).digest
        shutil.rmtree(path, ignore_errors=True)
    write(path)
    assert bytes_of(path) == bytes_of(written) and left(tmp_path) == [".a.lock", "a"]


def test_a_full_disk_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2_600_000)
    monkeypatch.setattr(build_module.shutil, "disk_usage", lambda path: usage)
    needed = r"needs 2,[0-9]{3},[0-9]{3} bytes .* 2,600,000 are free"
    with pytest.raises(StoreError, match=f"would not fit .*{needed}.* Nothing was written"):
        write(tmp_path / "a")
    assert left(tmp_path) == [".a.lock"]


@pytest.mark.parametrize("limit", [20, 1000, 40_000, BLOCK, 2 * BLOCK + 5000])
def test_a_disk_that_fills_up_leaves_what_was_there(
    written: Path, tmp_path: Path, limit: int
) -> None:
    """At every size at which a file may end: the limit of file sizes does as a full disk."""
    old = Path(shutil.copytree(written, tmp_path / "old"))

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            write(tmp_path / "a")
        except StoreError as error:
            assert "a cannot be written: File too large" in str(error), error
            assert "are free" in str(error) and "no other store was touched" in str(error)
            return
        raise AssertionError("it was written")

    assert in_child(work) == 0
    assert [name for name in left(tmp_path) if not name.startswith(".a.")] == ["old"]
    assert bytes_of(old) == bytes_of(written)
    write(tmp_path / "a")
    assert open_store(tmp_path / "a").digest == open_store(written).digest


def test_the_second_writer_is_told_of_the_first(tmp_path: Path) -> None:
    with building(tmp_path / "a", 0):
        with pytest.raises(StoreError, match=rf"written by another process: process {os.getpid()}"):
            write(tmp_path / "a")
        write(tmp_path / "b")
    assert left(tmp_path) == [".a.lock", ".b.lock", "b"]


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    def work() -> None:
        with building(tmp_path / "a", 0) as folder:
            (folder / "x.bin").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL
    assert ".a.writer" in left(tmp_path)
    # of another store, which has a name that begins alike
    (tmp_path / "a.b.building-1").mkdir()
    write(tmp_path / "a")
    assert left(tmp_path) == [".a.lock", "a", "a.b.building-1"]


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    for make in (Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")):
        path = tmp_path / f"a{time.monotonic_ns()}"
        make(path)
        with pytest.raises(StoreError, match="exists already, and a store is never overwritten"):
            write(path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        write(tmp_path / "file" / "a")


def test_a_store_travels_to_other_processes(written: Path) -> None:
    import pickle

    opened: Store = pickle.loads(pickle.dumps(open_store(written)))
    x: FeatureFile = pickle.loads(pickle.dumps(opened.column(access="read")))
    assert torch.equal(x.rows(torch.tensor([3])), content()["x"][3:4])
    assert x.access == "read"
