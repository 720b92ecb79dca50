"""Packs: the rows of stored batches are those of the table, whatever was kept where, and nothing
that was changed, cut short or killed is taken for them."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphkit.data import stages, write_store
from graphkit.data.pack import Packed, pack, stored
from graphkit.errors import ConfigError, DataError, GraphError, StoreError
from graphkit.graph import Graph
from graphkit.ops import Sampler
from graphkit.store import packing
from graphkit.store.build import alone
from graphkit.store.demand import place_hottest, shared_of
from graphkit.store.direct import PAGE, Disk
from graphkit.store.engines import Threads
from graphkit.store.packed import PackFile
from graphkit.store.packs import WAYS, block_ranges, row_ranges, row_sums
from graphkit.store.plan import choose, reason
from graphkit.store.reader import open_store

NODES, EDGES, BATCH, FANOUT = 1200, 7000, 60, [4, 3]
SPEED = Disk(1e9, 1e5)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packs ü")


class Case:
    """A store, and the batches in memory that its packs must equal."""

    def __init__(self, folder: Path, x: Tensor) -> None:
        torch.manual_seed(5)
        self.x, self.folder = x, folder
        edge_index = torch.randint(NODES, (2, EDGES))
        # some nodes are wanted much more than others
        edge_index[0] = (edge_index[0] * torch.rand(EDGES) ** 2).long()
        self.store = write_store(folder / "store", x=x, edge_index=edge_index)
        self.graph = Graph.from_edge_index(edge_index, NODES)
        self.ids = torch.randperm(NODES)[:400]
        self.row = x[0].numel() * x.element_size()

    def pack(self, out: Path | str, **options: Any) -> Packed:
        given: dict[str, Any] = dict(
            batch_size=BATCH, seed=3, epoch=2, memory="24MB", cache=0, way="packs", speed=SPEED
        )
        features = self.store.column("x")
        out = self.folder / out
        return pack(features, self.graph, self.ids, FANOUT, out, **{**given, **options})

    def memory(self) -> dict[int, Any]:
        batches = stages.seeds(self.ids, BATCH, seed=3, epoch=2)
        batches = stages.fetch(stages.sample(batches, Sampler(self.graph, FANOUT)), self.x)
        return {batch.key.batch: batch for batch in batches}

    def check(self, packs: PackFile, **options: Any) -> None:
        """All batches of an epoch equal those of memory, bit for bit."""
        want, seen = self.memory(), set[int]()
        batches = stages.fetch(stored(packs, seed=1, **options), packs)
        for place, batch in enumerate(stages.prefetch(batches, threads=2)):
            one = want[batch.key.batch]
            assert batch.number == place and batch.key == one.key
            for name in ("seeds", "n_id"):
                assert torch.equal(getattr(batch, name), getattr(one, name))
            assert batch.x.dtype == one.x.dtype
            assert torch.equal(batch.x.view(torch.uint8), one.x.view(torch.uint8))
            for block, other in zip(batch.blocks, one.blocks, strict=True):
                assert (block.num_src, block.num_dst) == (other.num_src, other.num_dst)
                for field in ("indptr", "indices"):
                    mine, its = getattr(block.by_dst, field), getattr(other.by_dst, field)
                    assert mine.dtype == its.dtype and torch.equal(mine, its)
            seen.add(batch.key.batch)
        assert seen == want.keys()


@pytest.fixture(scope="module")
def case(base: Path) -> Case:
    return Case(base, torch.randn(NODES, 45).bfloat16())


@pytest.fixture
def many_slabs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(packing._Build, "_slab_rows", lambda self, stride: 350)  # pyright: ignore
    return


WIDTHS = {64: 16, 400: 100, 512: 128, 1536: 384, 4096: 1024, 6144: 1536}


@pytest.mark.parametrize("row", WIDTHS)
def test_rows_of_any_size_are_those_of_the_table(
    tmp_path: Path, row: int, many_slabs: None
) -> None:
    """Every way, without a cache and with one; what is read is what was predicted, to the byte."""
    case = Case(tmp_path, torch.randn(NODES, WIDTHS[row]))
    assert case.row == row
    for way in WAYS:
        for cache in (0, 130 * row):
            out = f"{way} {cache}"
            packed = case.pack(out, way=way, cache=cache)
            assert packed.way == way
            packs = PackFile(tmp_path / out, verify=False)
            before = read_bytes()
            case.check(packs, epoch=1)
            about, counts = packed.about, packs.counts
            assert (counts.device, counts.reads) == (about["epoch_bytes"], about["epoch_reads"])
            assert counts.useful <= about["cold"] * row
            assert packs.requested - packs.hits == about["cold"]
            if packs._cold.direct and packs._samples.direct and before is not None:  # pyright: ignore
                moved = counts.device + packs._samples.counts.device + packs._index.counts.device  # pyright: ignore
                assert read_bytes() - before == moved  # pyright: ignore
            # and once more, every part held against its checksum
            case.check(PackFile(tmp_path / out))


def read_bytes() -> int | None:
    try:
        rows = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return int(dict(row.split(": ") for row in rows)["read_bytes"])


def test_the_gather_of_pages_moves_eight_times_what_it_wants(tmp_path: Path) -> None:
    """512-byte rows at 4096-byte pages, without page sharing: 8.0, as derived."""
    case = Case(tmp_path, torch.randn(NODES, 128))
    rows, packs = (case.pack(way, way=way) for way in ("rows", "packs"))
    cold = rows.about["cold"]
    assert rows.about["epoch_bytes"] == cold * 4096
    assert packs.about["epoch_bytes"] - cold * 512 < PAGE * 7
    of_batches = PackFile(packs.path)._tables["pack_rows"]  # pyright: ignore
    assert packs.about["epoch_bytes"] == sum(-(-int(m) * 512 // 4096) * 4096 for m in of_batches)


@settings(max_examples=15)
@given(st.data())
def test_cache_sizes_change_speed_never_values(case: Case, data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(WAYS))
    memory_rows, device_rows = (data.draw(st.integers(0, NODES)) for _ in range(2))
    slab = data.draw(st.integers(100, 2 * NODES))
    out = case.folder / "drawn"
    shutil.rmtree(out, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing._Build, "_slab_rows", lambda self, stride: min(slab, NODES))  # pyright: ignore
        sizes = dict(cache=memory_rows * case.row, device_cache=device_rows * case.row)
        packed = case.pack(out, way=way, **sizes)
    case.check(PackFile(out))
    # the split path of a device, here on the CPU
    case.check(PackFile(out, device="cpu"))
    held = PackFile(out).layout.cache
    assert held[0] <= device_rows and held[1] <= memory_rows
    assert packed.about["cold"] + PackFile(out).hits <= packed.about["requested"]


@pytest.mark.parametrize("way", ["packs", "segments"])
def test_threads_and_engines_leave_the_same_bytes(case: Case, way: str, many_slabs: None) -> None:
    found: list[dict[str, bytes]] = []
    threads = torch.get_num_threads()
    try:
        for number, (count, engine) in enumerate([(1, Threads(threads=1)), (2, None), (4, None)]):
            torch.set_num_threads(count)
            out = case.folder / f"same {way} {number}"
            case.pack(out, way=way, cache=case.row * 100, engine=engine, edge_ids=True)
            found.append({p.name: p.read_bytes() for p in sorted(out.iterdir())})
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]
    names = {"store.json", "plan.json", "tables.safetensors", "samples.bin", "index.bin"}
    assert found[0].keys() == names | {"cache.bin", "packs.bin"}


def test_edge_ids_are_kept_on_request(case: Case) -> None:
    packs = PackFile(case.pack("edges", edge_ids=True).path)
    want = case.memory()
    for batch in stored(packs, shuffle=False):
        assert torch.equal(batch.e_id, want[batch.key.batch].e_id)  # pyright: ignore
    assert next(stored(PackFile(case.pack("no edges").path))).e_id is None


def test_other_shapes_dtypes_and_samplers(tmp_path: Path) -> None:
    for number, x in enumerate(
        [torch.randn(NODES, 3, 7, dtype=torch.float64), torch.randint(-9, 9, (NODES, 13)).char()]
    ):
        (tmp_path / str(number)).mkdir()
        case = Case(tmp_path / str(number), x)
        for way in WAYS:
            packs = PackFile(case.pack(way, way=way, cache=case.row * 20).path)
            case.check(packs)
            assert packs.shape == x.shape
    packs = PackFile(case.pack("labor", method="labor").path)  # pyright: ignore
    assert packs.num_batches == 7


def test_an_epoch_is_a_permutation_and_can_be_gone_on_with(case: Case) -> None:
    packs = PackFile(case.pack("order").path)
    orders = [[b.key.batch for b in stored(packs, seed=s, epoch=e)] for s in (0, 1) for e in (0, 1)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    rest = [b.key.batch for b in stored(packs, seed=0, epoch=1, start=4)]
    assert rest == orders[1][4:]
    assert [b.key.batch for b in stored(packs, shuffle=False)] == list(range(7))
    with pytest.raises(ConfigError, match="start is 8, but 0 to 7"):
        stored(packs, start=8)


def test_batches_that_were_sampled_in_memory_find_their_rows(case: Case) -> None:
    """Packs know a batch by its key and its nodes, and refuse one that is another."""
    packs = PackFile(case.pack("of memory").path)
    sampler = Sampler(case.graph, FANOUT)
    batches = stages.sample(stages.seeds(case.ids, BATCH, seed=3, epoch=2), sampler)
    for batch in stages.fetch(batches, packs):
        assert torch.equal(batch.x, case.x[batch.n_id])
    other = stages.sample(stages.seeds(case.ids, BATCH, seed=3, epoch=1), sampler)
    with pytest.raises(GraphError, match="of seed 3, epoch 2, but this one is of seed 3, epoch 1"):
        next(stages.fetch(other, packs))
    wrong = stages.sample(stages.seeds(case.ids, BATCH, seed=3, epoch=2), Sampler(case.graph, [2]))
    with pytest.raises(GraphError, match="not the nodes of the stored batch 0"):
        next(stages.fetch(wrong, packs))
    with pytest.raises(GraphError, match="no batch 7, but those from 0 to 6"):
        packs.record(7)


def test_narrow_rows_report_their_largest_error(tmp_path: Path, many_slabs: None) -> None:
    case = Case(tmp_path, torch.randn(NODES, 20))
    for dtype in ("bfloat16", "float16"):
        kind: torch.dtype = getattr(torch, dtype)
        packed = case.pack(dtype, dtype=dtype, cache=100 * 40)
        packs = PackFile(packed.path)
        narrow = Case.__new__(Case)
        narrow.__dict__.update(case.__dict__, x=case.x.to(kind))
        narrow.check(packs)
        wanted = torch.cat([b.n_id for b in case.memory().values()]).unique()  # pyright: ignore
        error = (case.x - case.x.to(kind).float()).abs()
        # of rows that no batch wants none was looked at, unless it is wanted
        assert packed.about["largest_error"] == pytest.approx(float(error[wanted].max()))
    x = case.x.clone()
    x[case.ids[0], 3] = 1e6
    (tmp_path / "large").mkdir()
    large = Case(tmp_path / "large", x)
    with pytest.raises(DataError, match="values beyond the range of float16. Pack in bfloat16"):
        large.pack("p", dtype="float16")


# --- what is refused ---


def test_options_are_refused_before_anything_is_written(case: Case) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        (dict(way="pack"), "unknown way 'pack'. Did you mean 'packs'"),
        (dict(dtype="int8"), "unknown dtype 'int8'"),
        (dict(dtype="float32"), "wider than the table's torch.bfloat16"),
        (dict(way="rows", dtype="float16"), "reads rows out of the table"),
        (dict(cache="1GB"), "cache is 1,073,741,824 bytes, but memory only 25,165,824"),
        (dict(memory="1MB"), "16MB at least"),
        (dict(memory="lots"), "memory is 'lots', but bytes such as"),
        (dict(disk=1000), "disk is 1,000 bytes, but packs need"),
        (dict(epochs=0), "epochs is 0"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(subgraph_type="induced"), "induced subgraphs"),
        (dict(disjoint=True), "disjoint trees are not packed"),
        (dict(node_time=torch.arange(NODES)), "seeds with times"),
        (dict(batch_size=500, drop_last=True), "400 seeds make no batch of 500"),
    ]
    for options, said in refused:
        with pytest.raises(ConfigError, match=said):
            case.pack("refused", **options)
    graph, features = case.graph, case.store.column("x")
    small = Graph.from_edge_index(torch.tensor([[0], [1]]), 5)
    for error, said, args in [
        (GraphError, "5 nodes, but the table 1200 rows", (features, small, case.ids)),
        (GraphError, "= 1200, but there are 1200 nodes", (features, graph, torch.tensor([1200]))),
        (GraphError, "ids is a list", (features, graph, [1, 2])),
        (DataError, "features is a Tensor, but a table on disk", (case.x, graph, case.ids)),
        (ConfigError, "Graphs of several relations", (features, {"a": graph}, case.ids)),
    ]:
        with pytest.raises(error, match=said):
            pack(*args, FANOUT, case.folder / "refused")  # type: ignore[arg-type]
    assert not list(case.folder.glob("refused*"))


def test_memory_that_cannot_suffice_says_how_much_would(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_LEAST", 1 << 30)
    with pytest.raises(ConfigError, match=r"memory is 25,165,824 .* needs at least 1,07\d,\d\d\d"):
        case.pack("small")


def test_packs_that_are_there_are_taken_or_refused(case: Case) -> None:
    first = case.pack("twice", cache=case.row * 10)
    stamp = {p.name: p.stat().st_mtime_ns for p in first.path.iterdir()}
    again = case.pack("twice", cache=case.row * 10)
    assert again == first
    assert stamp == {p.name: p.stat().st_mtime_ns for p in first.path.iterdir()}
    with pytest.raises(StoreError, match="holds packs of cache"):
        case.pack("twice", cache=case.row * 11)
    with pytest.raises(StoreError, match="is not a finished graphkit packs|format is"):
        pack(case.store.column("x"), case.graph, case.ids, FANOUT, case.folder / "store")


def test_a_second_builder_is_told_who_builds(case: Case) -> None:
    with alone(case.folder / "locked"):
        with pytest.raises(StoreError, match=f"another process: process {os.getpid()} on"):
            case.pack("locked")
    # a lock whose holder is gone holds nobody up
    case.check(PackFile(case.pack("locked").path))


def test_want_of_room_is_told_before_anything_is_written(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10_000

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)  # pyright: ignore
    with pytest.raises(StoreError, match=r"would not fit .* needs [\d,]+ bytes .* 10,000 are free"):
        case.pack("no room")
    folder = next(case.folder.glob("no room.packing-*"))
    assert sum(p.stat().st_size for p in folder.iterdir() if p.name == "samples.bin") == 0


def test_a_disk_that_fills_up_is_gone_on_with_when_there_is_room(
    case: Case, many_slabs: None
) -> None:
    """A limit on the size of files at every file that is written; then the same bytes."""
    case.pack("room", way="segments", cache=case.row * 100)
    want = {p.name: p.read_bytes() for p in (case.folder / "room").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = sorted({len(data) for data in want.values()})
    told = 0
    for limit in [size - 1 for size in sizes] + [100, 5000]:
        out = case.folder / f"limit {limit}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            case.pack(out, way="segments", cache=case.row * 100)
        except StoreError as error:
            told += 1
            assert "File too large" in str(error) and str(out) in str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        case.pack(out, way="segments", cache=case.row * 100)
        assert {p.name: p.read_bytes() for p in out.iterdir()} == want
    assert told == len(sizes) + 2


def test_processes_killed_at_every_step_leave_the_same_bytes(tmp_path: Path) -> None:
    """One killed at each step that others go on from, and 25 and more at random moments."""
    # what is synced costs nothing in memory
    shm = Path("/dev/shm")
    base = shm / f"graphkit-{os.getpid()}" if os.access(shm, os.W_OK) else tmp_path / "killed"
    base.mkdir()
    try:
        script = Path(__file__).with_name("packs_killed.py")
        done = subprocess.run(
            [sys.executable, str(script), str(base), "0", "10"],
            capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(base)
    assert told["wrong"] == []
    assert told["points"] > 40 and told["deaths"] > told["points"]


# --- what was damaged ---


def used(folder: Path) -> None:
    """Open packs and use all that is in them."""
    packs = PackFile(folder)
    for batch in stages.fetch(stored(packs), packs):
        assert batch.x is not None


@pytest.fixture(scope="module")
def whole(case: Case) -> Path:
    return case.pack("damaged", way="segments", cache=case.row * 100, edge_ids=True).path


def damaged(whole: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    return copy


FILES = ("store.json", "tables.safetensors", "samples.bin", "index.bin", "cache.bin", "packs.bin")


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_and_truncations_are_found_before_use(
    whole: Path, tmp_path: Path, name: str
) -> None:
    draw = random.Random(name)
    copy = damaged(whole, tmp_path)
    used(copy)
    data = (copy / name).read_bytes()
    for _ in range(34):
        at = draw.randrange(len(data))
        changed = bytearray(data)
        changed[at] ^= 1 << draw.randrange(8)
        (copy / name).write_bytes(changed)
        if name == "packs.bin" and is_filling(whole, at):
            continue
        with pytest.raises(StoreError, match=str(copy / name).replace(".", r"\.")):
            used(copy)
    for _ in range(17):
        (copy / name).write_bytes(data[: draw.randrange(len(data))])
        with pytest.raises(StoreError, match=str(copy / name).replace(".", r"\.")):
            used(copy)
    (copy / name).unlink()
    with pytest.raises(StoreError):
        used(copy)


def is_filling(whole: Path, at: int) -> bool:
    """Whether a byte of packs.bin fills a page behind the shared rows of a segment up."""
    packs = PackFile(whole)
    stride = packs.row_bytes + 8
    starts, rows = packs._tables["segment_at"], packs._tables["segment_rows"]  # pyright: ignore
    ends = starts + rows * stride
    return any(end <= at < -(-end // PAGE) * PAGE for end in ends.tolist() if end > starts.min())


@pytest.mark.parametrize("name", FILES[2:])
def test_pages_that_changed_places_are_found(whole: Path, tmp_path: Path, name: str) -> None:
    draw = random.Random(name)
    copy = damaged(whole, tmp_path)
    data = (copy / name).read_bytes()
    pages = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    for _ in range(13):
        one, two = draw.sample(range(len(pages)), 2)
        if pages[one] == pages[two]:
            continue
        changed = list(pages)
        changed[one], changed[two] = pages[two], pages[one]
        (copy / name).write_bytes(b"".join(changed))
        with pytest.raises(StoreError, match=f"{name}, .*bytes [0-9]+ to [0-9]+"):
            used(copy)


def test_files_of_other_packs_are_refused(case: Case, whole: Path, tmp_path: Path) -> None:
    other = case.pack("of others", way="segments", cache=case.row * 100, edge_ids=True, seed=9)
    copy = damaged(whole, tmp_path)
    shutil.copy(other.path / "tables.safetensors", copy)
    with pytest.raises(StoreError, match=r"tables.safetensors does not belong to store.json"):
        PackFile(copy)


def test_packs_may_move_and_be_read_only(case: Case, whole: Path, tmp_path: Path) -> None:
    copy = damaged(whole, tmp_path).rename(tmp_path / "moved here")
    for file in copy.iterdir():
        file.chmod(0o444)
    copy.chmod(0o555)
    try:
        # packs hold all rows that their batches want; rows of the table do not
        case.check(PackFile(copy))
    finally:
        copy.chmod(0o755)
    rows = damaged(case.pack("by rows", way="rows").path, tmp_path)
    with pytest.raises(StoreError, match="Pass it as features"):
        PackFile(rows)
    case.check(PackFile(rows, case.store.column("x")))


def test_a_table_that_was_changed_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    case = Case(tmp_path, torch.randn(NODES, 30))
    packs = case.pack("packs").path
    array = case.store.layout.nodes["node"].columns["x"]
    file = tmp_path / "store" / array.file
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="block 0 .* changed or damaged"):
        PackFile(packs)
    with pytest.raises(StoreError, match="block 0 .* changed or damaged"):
        case.pack("new")
    shutil.rmtree(tmp_path / "store")
    write_store(tmp_path / "store", x=case.x + 1, edge_index=torch.tensor([[0], [1]]))
    with pytest.raises(StoreError, match="of another table: .* has sums"):
        PackFile(packs, open_store(tmp_path / "store").column("x"))


# --- the parts ---


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 30), st.integers(0, 30))
def test_the_hottest_nodes_are_cached_ties_by_id(counts: list[int], far: int, near: int) -> None:
    places = np.array(counts, dtype=np.int32)
    held = place_hottest(places, far, near)
    wanted = sorted((v for v in range(len(counts)) if counts[v]), key=lambda v: (-counts[v], v))
    inner, outer = sorted(wanted[:far]), sorted(wanted[far : far + near])
    assert held == (len(inner), len(outer))
    want = {v: at for at, v in enumerate(inner + outer)}
    assert places.tolist() == [want.get(v, -1) for v in range(len(counts))]


@given(
    st.lists(st.integers(0, 200), max_size=30, unique=True), st.sampled_from([8, 400, 4096, 5000])
)
def test_ranges_cover_rows_and_only_pages_that_they_touch(ids: list[int], row: int) -> None:
    size = 201 * row
    wanted = np.array(sorted(ids), dtype=np.int64)
    pages = [set(range(i * row // PAGE, -(-(i * row + row) // PAGE))) for i in wanted.tolist()]
    begin, end = row_ranges(wanted, row, row, size)
    assert [set(range(a // PAGE, b // PAGE)) for a, b in zip(begin, end, strict=True)] == pages
    begin, end = block_ranges(wanted * row, row, size)
    found = [page for a, b in zip(begin, end, strict=True) for page in range(a // PAGE, b // PAGE)]
    assert found == sorted(set().union(*pages))
    # neighbours are one read
    assert all(b < a for a, b in zip(begin[1:], end[:-1], strict=True))


@given(
    st.lists(st.lists(st.integers(0, 20), max_size=12), min_size=1, max_size=6), st.integers(0, 9)
)
def test_shared_rows_are_those_that_two_batches_want(cold: list[list[int]], seed: int) -> None:
    words = [np.array(sorted(ids), dtype=np.int64) for ids in cold]
    found = shared_of(words, 0, seed).tolist()
    count = {v: sum(v in ids for ids in cold) for v in range(21)}
    assert sorted(found) == [v for v in range(21) if count[v] > 1]


def test_rows_of_the_same_batches_stand_together() -> None:
    even, odd = np.arange(0, 200, 2), np.arange(1, 200, 2)
    for seed in range(10):
        found = shared_of([even, odd, even, odd], 0, seed)
        assert sorted(found.tolist()) == list(range(200))
        assert int((np.diff(found % 2) != 0).sum()) == 1


@given(st.integers(1, 40), st.integers(0, 2**32), st.data())
def test_the_sum_of_a_row_knows_its_bytes_and_place(width: int, seed: int, data: Any) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, (5, width)).astype(np.uint8)
    place = np.arange(5) * (width + 8)
    sums = row_sums(rows, place)
    i, at, bit = (data.draw(st.integers(0, high)) for high in (4, width - 1, 7))
    changed = rows.copy()
    changed[i, at] ^= 1 << bit
    other = row_sums(changed, place)
    assert (other != sums).tolist() == [k == i for k in range(5)]
    assert (row_sums(rows, place + 8) != sums).all()


# --- the planner ---


def plans(case: Case, tmp_path: Path, **options: Any) -> Packed:
    return case.pack(tmp_path / "p", way="auto", **options)


def test_the_planner_takes_what_ends_first_and_says_why(tmp_path: Path) -> None:
    case = Case(tmp_path, torch.randn(NODES, 512))
    slow = Disk(bandwidth=1e6, iops=1e9)
    many = plans(case, tmp_path / "many", epochs=50, speed=slow)
    assert many.way == "packs" and many.why.startswith("Packing pays: 50 epochs end")
    best = {p.way: p for p in many.predictions}
    total = best["packs"].packing + 50 * best["packs"].seconds
    assert best["packs"].total == pytest.approx(total)
    after = best["packs"].break_even
    assert after is not None
    plain = best["blocks"]

    def ends(way: Any, epochs: int) -> float:
        return way.packing + epochs * way.seconds

    assert ends(best["packs"], after) <= ends(plain, after)
    assert after == 1 or ends(best["packs"], after - 1) > ends(plain, after - 1)

    one = plans(case, tmp_path / "one", epochs=1, speed=slow)
    assert one.way in ("rows", "blocks") and "Packing is not worth it" in one.why
    assert "it would pay after" in one.why and "1 are planned" in one.why
    all_held = plans(case, tmp_path / "held", cache=case.row * NODES, speed=slow)
    assert all_held.way == "rows" and "the cache holds 100.0 %" in all_held.why
    assert all_held.about["epoch_bytes"] == 0
    case.check(PackFile(all_held.path))
    need = best["packs"].disk
    little = plans(case, tmp_path / "disk", epochs=50, speed=slow, disk=need * 4 // 5)
    assert little.way == "segments"
    assert sum(p.stat().st_size for p in little.path.glob("*.bin")) <= need * 4 // 5
    case.check(PackFile(little.path))
    none = plans(case, tmp_path / "none", epochs=50, speed=slow, disk=need // 3)
    assert none.way in ("rows", "blocks") and "do not fit on the disk" in none.why


def test_rows_that_fill_pages_are_not_packed(tmp_path: Path) -> None:
    case = Case(tmp_path, torch.randn(NODES, 1024))
    packed = plans(case, tmp_path / "p", epochs=3, speed=Disk(1e8, 1e9))
    assert packed.way in ("rows", "blocks") and "rows of 4096 bytes fill whole pages" in packed.why
    disks = {p.way: p.disk for p in packed.predictions}
    assert disks["rows"] < disks["packs"]
    assert reason(choose(packed.predictions), packed.predictions, 4096, 3) == packed.why


def test_disk_use_is_predicted_to_the_byte(case: Case) -> None:
    for way in WAYS:
        packed = case.pack(f"disk {way}", way=way, cache=case.row * 77)
        found = sum(p.stat().st_size for p in packed.path.glob("*.bin"))
        assert next(p.disk for p in packed.predictions if p.way == way) == found


MEMORY = """
import sys, torch
from pathlib import Path
from graphkit.data import open_store, pack
from graphkit.store.direct import Disk

store = open_store(sys.argv[1])
graph, features = store.graph(), store.column("x")
ids = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10

for number, count in enumerate((1, 1, 10)):
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    out = Path(sys.argv[1]).parent / f"packs {number}"
    made = pack(features, graph, ids[: 2000 * count], [10, 5], out, batch_size=500, cache=0,
                memory="40MB", way="packs", speed=Disk(1e9, 1e5))
    print(peak() - before, made.about["cold"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no peak to set back")
def test_memory_stays_within_the_budget_while_cold_rows_grow(tmp_path: Path) -> None:
    edge_index = torch.randint(100_000, (2, 800_000))
    write_store(tmp_path / "store", x=torch.randn(100_000, 256), edge_index=edge_index)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "store")],
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # what is made once in a process is in the first
    _, (few, cold), (many, more) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert more > 9 * cold
    assert max(few, many) < (40 << 20) + (64 << 20)
    assert abs(many - few) < 16 << 20
