from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Data

from graphkit.data import Batch, NeighborLoader, load
from graphkit.data.buffers import Buffers
from graphkit.data.stages import fetch, move, prefetch, sample, seeds
from graphkit.errors import ConfigError, GraphError
from graphkit.graph import Graph
from graphkit.ops import Key, Sampler, spmm

N = 400
IDS = torch.arange(N)
X = torch.randn(N, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(N) % 7
GRAPH = Graph.from_edge_index(
    torch.randint(0, N, (2, 4000), generator=torch.Generator().manual_seed(2)), N
)
OF_EDGES = torch.randn(4000, 3, generator=torch.Generator().manual_seed(3))
SAMPLER = Sampler(GRAPH, [4, 3])
TYPED = {
    ("a", "to", "b"): Graph.from_edge_index(GRAPH.edge_index(), num_src=N, num_dst=N),
    ("b", "to", "a"): Graph.from_edge_index(GRAPH.edge_index().flip(0), num_src=N, num_dst=N),
}
TYPED_SAMPLER = Sampler(TYPED, [3, 2])


def chain(**options: Any) -> Iterator[Batch]:
    made = sample(seeds(IDS, 32, seed=3, **options), SAMPLER, transpose=True)
    return fetch(made, X, Y, edge_attr=OF_EDGES)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Graph):
        return [t for t in value.parts() if t is not None]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [t for part in parts for t in tensors(part)]


def content(batch: Batch) -> list[Tensor]:
    names = ("seeds", "n_id", "e_id", "blocks", "x", "y", "edge_attr", "extra")
    return [t for name in names for t in tensors(getattr(batch, name))]


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        p.key == q.key and p.number == q.number and all(map(torch.equal, content(p), content(q)))
        for p, q in zip(a, b, strict=True)
    )


def ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("graphkit-prefetch")]


def gone(within: float = 5.0) -> bool:
    """No thread of ours is left, or soon will be."""
    end = time.monotonic() + within
    while ours() and time.monotonic() < end:
        time.sleep(0.005)
    return not ours()


# --- what a batch is ---


@given(
    count=st.integers(0, 50),
    size=st.integers(1, 20),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 2**40),
    drop_last=st.booleans(),
    data=st.data(),
)
def test_an_epoch_takes_every_seed_once_and_goes_on_anywhere(
    count: int, size: int, seed: int, epoch: int, drop_last: bool, data: st.DataObject
) -> None:
    ids = torch.arange(count) * 3
    given = dict(seed=seed, epoch=epoch, drop_last=drop_last)
    batches = list(seeds(ids, size, **given))
    all_id = torch.cat([b.seeds for b in batches]) if batches else ids[:0]
    if drop_last:
        assert all(len(b.seeds) == size for b in batches) and len(batches) == count // size
        assert len(all_id.unique()) == len(all_id)
    else:
        assert torch.equal(all_id.sort().values, ids)
    assert [b.number for b in batches] == list(range(len(batches)))
    assert all(b.key == Key(seed, epoch, b.number) for b in batches)
    start = data.draw(st.integers(0, len(batches)))
    assert same(batches[start:], list(seeds(ids, size, start=start, **given)))


def test_the_order_is_another_in_every_epoch_and_for_every_seed() -> None:
    orders = {
        tuple(torch.cat([b.seeds for b in seeds(IDS, 64, seed=s, epoch=e)]).tolist())
        for s in range(3)
        for e in range(3)
    }
    assert len(orders) == 9
    plain = torch.cat([b.seeds for b in seeds(IDS, 64, shuffle=False)])
    assert torch.equal(plain, IDS)


def test_every_place_is_as_likely_for_every_node() -> None:
    """4 sigma of the mean place of each of 20 nodes over 4,000 epochs."""
    ids, epochs = torch.arange(20), 4000
    places = torch.zeros(20)
    for epoch in range(epochs):
        (batch,) = seeds(ids, 20, epoch=epoch)
        places[batch.seeds] += torch.arange(20.0)
    sigma = ((20**2 - 1) / 12 / epochs) ** 0.5
    assert (places / epochs - 9.5).abs().max() < 4 * sigma


def test_a_batch_holds_the_rows_of_its_nodes() -> None:
    for batch in chain():
        found = SAMPLER(batch.seeds, batch.key)
        assert torch.equal(batch.n_id, found.n_id) and torch.equal(batch.x, X[found.n_id])
        assert torch.equal(batch.y, Y[batch.seeds]) and torch.equal(batch.n_id[:5], batch.seeds[:5])
        assert [b.num_dst for b in batch.blocks][-1] == len(batch.seeds) == batch.num_seeds
        assert set(batch.timings) == {"sample", "gather"} and min(batch.timings.values()) > 0
    assert "2 blocks" in repr(batch) and "not sampled" in repr(next(seeds(IDS, 4)))
    with pytest.raises(AttributeError):
        batch.x = None  # type: ignore[misc]


@pytest.mark.parametrize("induced", [False, True])
def test_edges_of_every_block_have_their_numbers_and_rows(induced: bool) -> None:
    kind: Any = "induced" if induced else "directional"
    sampler = Sampler(GRAPH, [4, 3, 2], subgraph_type=kind)
    made = fetch(sample(seeds(IDS, 32, seed=3), sampler), X, edge_attr=OF_EDGES)
    for batch in prefetch(made, depth=2):
        assert isinstance(batch.n_id, Tensor) and isinstance(batch.e_id, Tensor)
        assert len(batch.e_id) == batch.blocks[0].num_edges == len(batch.edge_attr)
        assert torch.equal(batch.edge_attr, OF_EDGES[batch.e_id])
        for block in batch.blocks:
            mine = batch.e_id[: block.num_edges]
            assert torch.equal(batch.n_id[block.edge_index()], GRAPH.edge_index()[:, mine])
    # from anything that has rows
    halves = fetch(sample(seeds(IDS, 32, seed=3), sampler), edge_attr=Halved(OF_EDGES))
    for batch in halves:
        assert torch.equal(batch.edge_attr, OF_EDGES[batch.e_id] / 2)


def test_weights_of_edges_on_blocks_are_those_of_the_whole_graph() -> None:
    """With all neighbours, two weighted sums over blocks equal those over the graph."""
    weight, x = OF_EDGES[:, 0].double(), X.double()
    whole = spmm(GRAPH, spmm(GRAPH, x, weight), weight)
    made = sample(seeds(IDS, 100, seed=3), Sampler(GRAPH, [-1, -1]))
    for batch in fetch(made, x, edge_attr=weight):
        out = batch.x
        for block in batch.blocks:
            out = spmm(block, out, batch.edge_attr[: block.num_edges])
        torch.testing.assert_close(out, whole[batch.seeds])


def test_rows_of_edges_need_edges() -> None:
    with pytest.raises(ConfigError, match="edge_attr is given, .* Put sample before fetch"):
        next(fetch(seeds(IDS, 32), edge_attr=OF_EDGES))
    with pytest.raises(GraphError, match="but x has 100 rows"):
        list(fetch(sample(seeds(IDS, 64), SAMPLER), edge_attr=OF_EDGES[:100]))


def test_of_several_types() -> None:
    tables = {"a": X, "b": X.double()}
    degrees = {"b": Y}
    of_edges = {("a", "to", "b"): OF_EDGES}
    ids = seeds(IDS, 50, seed=3, kind="b")
    found = list(fetch(sample(ids, TYPED_SAMPLER), tables, Y, edge_attr=of_edges, degree=degrees))
    assert same(
        found,
        list(
            prefetch(
                fetch(
                    sample(seeds(IDS, 50, seed=3, kind="b"), TYPED_SAMPLER),
                    tables,
                    {"b": Y},
                    edge_attr=of_edges,
                    degree=degrees,
                ),
                threads=2,
            )
        ),
    )
    for batch in found:
        assert batch.seeds.keys() == {"b"} and batch.num_seeds == 50
        for kind, table in tables.items():
            assert torch.equal(batch.x[kind], table[batch.n_id[kind]])
        assert torch.equal(batch.y["b"], Y[batch.seeds["b"]])
        assert torch.equal(batch.extra["degree"]["b"], Y[batch.n_id["b"]])
        assert "a" not in batch.extra["degree"]
        assert batch.e_id.keys() == TYPED.keys() and batch.edge_attr.keys() == of_edges.keys()
        mine = batch.e_id["a", "to", "b"]
        assert torch.equal(batch.edge_attr["a", "to", "b"], OF_EDGES[mine])
        src, dst = batch.blocks[0]["a", "to", "b"].edge_index()
        ends = torch.stack([batch.n_id["a"][src], batch.n_id["b"][dst]])
        assert torch.equal(ends, GRAPH.edge_index()[:, mine])
        assert batch.blocks[-1]["a", "to", "b"].num_dst == 50


class Halved:
    def __init__(self, table: Tensor) -> None:
        self.table, self.shape = table, table.shape

    def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        return self.table[index] / 2


def test_any_source_of_rows() -> None:
    for batch in fetch(sample(seeds(IDS, 100), SAMPLER), Halved(X), Y):
        assert torch.equal(batch.x, X[batch.n_id] / 2)
    # without sampling the rows are those of the seeds
    for batch in fetch(seeds(IDS, 100), X):
        assert torch.equal(batch.x, X[batch.seeds]) and batch.y is None


def test_the_bytes_of_a_batch_count_shared_memory_once() -> None:
    batch = next(chain())
    alone = sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
                 for t in content(batch)}.values())  # fmt: skip
    assert batch.nbytes == alone
    assert replace(batch, extra={"again": batch.x}).nbytes == batch.nbytes
    assert replace(batch, extra={"more": batch.x.clone()}).nbytes == batch.nbytes + batch.x.nbytes


def test_move_takes_everything_along() -> None:
    for batch in move(chain(), "meta"):
        assert {t.device.type for t in content(batch)} == {"meta"} and "copy" in batch.timings
    assert same(list(move(chain(), "cpu")), list(chain()))


# --- prefetch ---


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("depth", [0, 1, 4, 100])
@pytest.mark.parametrize("max_bytes", [None, 1, 50_000])
def test_prefetch_changes_nothing(threads: int, depth: int, max_bytes: int | None) -> None:
    found = list(prefetch(chain(), depth=depth, threads=threads, max_bytes=max_bytes))
    assert same(found, list(chain())) and gone()
    assert all("wait" in batch.timings for batch in found)
    rest = list(prefetch(chain(start=5), depth=depth, threads=threads, max_bytes=max_bytes))
    assert same(rest, found[5:])


def test_a_table_that_is_trained_is_read_in_the_step() -> None:
    """Read ahead it would be the table before the last steps, how far before a matter of luck."""
    table = torch.zeros(N, 2, requires_grad=True)
    made = 0
    for batch in prefetch(fetch(seeds(IDS, 100), table), depth=0):
        # what the steps before have made of it
        assert torch.equal(batch.x, table[batch.seeds])
        batch.x.sum().backward()
        with torch.no_grad():
            table += 1
        made += 1
    assert made == 4 and bool((table.grad == 1).all())
    tables: list[dict[str, Any]] = [{name: table} for name in ("x", "y", "more")]
    tables.append({"x": {"a": table}})
    of_edges = OF_EDGES.clone().requires_grad_()
    with pytest.raises(GraphError, match="requires_grad.*depth=0"):
        next(prefetch(fetch(sample(seeds(IDS, 100), SAMPLER), edge_attr=of_edges)))
    for columns in tables:
        kind = "a" if isinstance(columns.get("x"), dict) else None
        with pytest.raises(GraphError, match="requires_grad.*depth=0"):
            next(prefetch(fetch(seeds(IDS, 100, kind=kind), **columns)))
    assert len(list(prefetch(fetch(seeds(IDS, 100), table.detach())))) == 4 and gone()


def test_a_stage_of_ones_own() -> None:
    """A generator function anywhere in the chain: stages before and after it are still stages."""

    def doubled(batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            time.sleep(0.001)
            yield replace(batch, x=2 * batch.x)

    def whole() -> Iterator[Batch]:
        return move(doubled(chain()), "cpu")

    plain = list(whole())
    assert torch.equal(plain[0].x, 2 * next(chain()).x)
    for threads in (1, 4):
        assert same(list(prefetch(whole(), depth=5, threads=threads)), plain) and gone()
    assert list(prefetch(iter(()))) == [] and list(prefetch([])) == []


def test_memory_is_used_again_but_never_while_somebody_holds_it() -> None:
    """Whether he holds the tensor itself, a view of it, or a graph of autograd that needs it."""
    buffers, shape = Buffers(), (1000, 100)
    places: set[int] = set()
    for _ in range(50):
        some = buffers.empty(shape, torch.float32)
        assert some.data_ptr() % 64 == 0
        places.add(some.data_ptr())
        del some
    assert len(places) == 1
    held = buffers.empty(shape, torch.float32).fill_(1.0)[10:20, :3]
    weight = torch.ones(100, 2, requires_grad=True)
    product = buffers.empty(shape, torch.float32).fill_(2.0) @ weight
    for _ in range(5):
        buffers.empty(shape, torch.float32).fill_(7.0)
        buffers.empty((900, 100), torch.float32).fill_(7.0)
    product.sum().backward()
    assert bool((held == 1).all()) and bool((weight.grad == 2000).all())
    # of every dtype, and small ones as well
    for dtype in (torch.bool, torch.bfloat16, torch.int64):
        assert buffers.empty(shape, dtype).dtype == dtype
        assert buffers.empty((0, 3), dtype).shape == (0, 3)


def test_what_a_loader_held_is_free_when_it_ends() -> None:
    """Without the help of the collector, which may not come by for many epochs."""
    gc.disable()
    try:
        buffers = Buffers()
        gone_ = weakref.ref(buffers)
        wide = torch.ones(N, 1000)
        for _ in prefetch(fetch(seeds(IDS, 100), {"a": wide}["a"], buffers=buffers)):
            pass
        del _, buffers
        assert gone_() is None
    finally:
        gc.enable()


def test_threads_never_get_the_same_memory() -> None:
    wide = torch.arange(N).float().unsqueeze(1).expand(N, 1000).contiguous()
    kept: list[Batch] = []
    for batch in prefetch(fetch(seeds(IDS.repeat(20), 100), wide), depth=4, threads=4):
        kept = [*kept[-3:], batch]
        for some in kept:
            assert torch.equal(some.x[:, 0], some.seeds.float())
            assert torch.equal(some.x[:, -1], some.seeds.float())


class Counting:
    """Rows, and how many batches are between being made and being taken."""

    shape = X.shape

    def __init__(self, seconds: float = 0.0) -> None:
        self.lock = threading.Lock()
        self.made = self.taken = self.most = self.at_once = self.most_at_once = 0
        self.seconds = seconds

    def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        with self.lock:
            self.made += 1
            self.at_once += 1
            self.most = max(self.most, self.made - self.taken)
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.seconds)
        with self.lock:
            self.at_once -= 1
        return X[index]


@pytest.mark.parametrize("threads", [1, 3])
def test_depth_and_threads_bound_what_is_ahead(threads: int) -> None:
    rows = Counting(0.002)
    for _ in prefetch(fetch(seeds(IDS, 10), rows), depth=4, threads=threads):
        time.sleep(0.001)
        with rows.lock:
            rows.taken += 1
    assert rows.made == 40
    # one in the hands of the consumer
    assert rows.most <= 4 + 1
    assert rows.most_at_once == threads


def test_bytes_bound_what_is_ahead() -> None:
    rows = Counting()
    (size,) = {b.nbytes for b in fetch(seeds(IDS, 10, drop_last=True), X)}
    for _ in prefetch(fetch(seeds(IDS, 10), rows), depth=20, max_bytes=3 * size + 1):
        time.sleep(0.002)
        with rows.lock:
            rows.taken += 1
    assert 2 <= rows.most <= 3 + 1


@pytest.mark.parametrize("expected", [0, 1])
def test_what_is_begun_before_a_size_is_known(expected: int) -> None:
    """One batch, or as many as there is room for if each has the bytes expected."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    class Held:
        shape = X.shape

        def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
            begun.release()
            assert go_on.wait(30)
            return X[index]

    (size,) = {b.nbytes for b in fetch(seeds(IDS, 10, drop_last=True), X)}
    batches = prefetch(
        fetch(seeds(IDS, 10), Held()), depth=9, threads=9, max_bytes=4 * size,
        expected=expected * size,
    )  # fmt: skip
    first: list[Batch] = []
    loop = threading.Thread(target=lambda: first.append(next(batches)))
    loop.start()
    for _ in range(4 if expected else 1):
        assert begun.acquire(timeout=30)
    # nothing more comes
    assert not begun.acquire(timeout=0.2)
    go_on.set()
    loop.join()
    assert torch.equal(first[0].x, X[first[0].seeds])
    # once a size is known the next ones are begun, before they are asked for
    for _ in range(1 if expected else 4):
        assert begun.acquire(timeout=30)
    batches.close()


class Broken(Exception):
    pass


def failing(at: int) -> Any:
    class Rows:
        shape = X.shape
        calls = 0

        def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
            if index[0] == IDS[at * 32]:
                raise Broken(f"at {at}")
            return X[index]

    return fetch(seeds(IDS, 32, shuffle=False), Rows())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("depth", [0, 1, 6])
def test_an_exception_comes_in_the_place_of_its_batch(threads: int, depth: int) -> None:
    got: list[int] = []
    with pytest.raises(Broken, match="at 4") as caught:
        for batch in prefetch(failing(4), depth=depth, threads=threads):
            got.append(batch.number)
    assert got == [0, 1, 2, 3] and gone()
    # where it was raised is there to be read
    assert "raise Broken" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_of_the_source(threads: int) -> None:
    def source() -> Iterator[Batch]:
        yield from seeds(IDS, 100, shuffle=False)
        raise Broken("the source")

    got: list[int] = []
    with pytest.raises(Broken, match="the source"):
        for batch in prefetch(fetch(source(), X), depth=8, threads=threads):
            got.append(batch.number)
    assert got == [0, 1, 2, 3] and gone()


@pytest.mark.parametrize("threads", [1, 3])
def test_nothing_is_left_by_a_loop_that_is_left(threads: int) -> None:
    for batch in prefetch(chain(), depth=5, threads=threads):
        if batch.number == 2:
            assert 1 <= len(ours()) <= threads
            break
    assert gone()

    open_ = prefetch(chain(), depth=5, threads=threads)
    next(open_)
    open_.close()
    assert not ours()

    def fails() -> None:
        for _ in prefetch(chain(), depth=5, threads=threads):
            raise Broken

    with pytest.raises(Broken):
        fails()
    assert gone()

    # never begun
    prefetch(chain(), threads=threads)
    assert not ours()


def test_a_cycle_that_only_the_collector_finds() -> None:
    class Holder:
        pass

    holder = Holder()
    holder.batches, holder.itself = prefetch(chain(), depth=3, threads=2), holder  # type: ignore[attr-defined]
    next(holder.batches)  # type: ignore[attr-defined]
    del holder
    gc.collect()
    assert gone()


def test_batches_before_an_error_of_the_source_are_finished() -> None:
    def source() -> Iterator[Batch]:
        yield from seeds(IDS, 100, shuffle=False)
        raise OSError("no more")

    class Slow:
        shape = X.shape

        def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
            time.sleep(0.1)
            return X[index]

    made = fetch(fetch(source(), Slow()), extra=Slow())
    seen = []
    with pytest.raises(OSError, match="no more"):
        for batch in prefetch(made, depth=6, threads=3):
            seen.append(batch.number)
            assert torch.equal(batch.x, X[batch.seeds])
            assert torch.equal(batch.extra["extra"], X[batch.seeds])
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("depth", [0, 2])
def test_a_stage_that_runs_out_of_something_does_not_end_the_epoch(depth: int) -> None:
    class Exhausted:
        shape = X.shape

        def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
            return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(prefetch(fetch(seeds(IDS, 100), Exhausted()), depth=depth))


def test_collected_by_a_thread_of_its_own() -> None:
    """Nobody can wait for himself: the threads then end by themselves."""
    kept: dict[str, Any] = {}
    let_go = threading.Event()

    class Rows:
        shape = X.shape

        def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
            if let_go.is_set():
                kept.clear()
            return X[index]

    kept["batches"] = prefetch(fetch(seeds(IDS, 1), Rows()), depth=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(kept["batches"])
        let_go.set()
        try:
            batches = kept["batches"]
            next(batches)
            del batches
        except (KeyError, StopIteration):
            pass
        assert gone()


INTERRUPTED = """
import os, signal, threading, time
import torch
from graphkit.data.stages import fetch, prefetch, seeds

class Slow:
    shape = (1000, 1)
    def rows(self, index, out=None):
        time.sleep(fetching)
        return index

def soon():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)

# a shell that started us in the background has it ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
# it comes while a batch is waited for, and in the body
for fetching, body in ((0.2, 0), (0, 30)):
    threading.Thread(target=soon, daemon=True).start()
    began = time.monotonic()
    try:
        for batch in prefetch(fetch(seeds(torch.arange(1000), 1), Slow()), depth=3, threads=2):
            time.sleep(body)
    except KeyboardInterrupt:
        left = [t.name for t in threading.enumerate() if t.name.startswith("graphkit")]
        print("interrupted", left, time.monotonic() - began < 5)
"""


def test_ctrl_c_stops_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == 2 * "interrupted [] True\n", done.stdout + done.stderr
    assert done.returncode == 0


ABANDONED = """
import torch
from graphkit.data.stages import fetch, prefetch, seeds
batches = prefetch(fetch(seeds(torch.arange(1000), 1), torch.ones(1000, 1)), depth=3, threads=2)
next(batches)
print("left open", flush=True)
"""


def test_a_program_ends_with_a_loader_open() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABANDONED], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "left open\n", "")


def test_no_process_and_no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise AssertionError("a fork")

    monkeypatch.setattr(os, "fork", refuse)
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    for _ in prefetch(chain(), threads=2):
        if before:
            assert set(os.listdir("/dev/shm")) <= before


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def staged(x: Tensor, ids: Tensor) -> Iterator[Batch]:
    batches = fetch(sample(seeds(ids, 4), SAMPLER, transpose=True), x, Y)
    return prefetch(batches, depth=4, threads=2, max_bytes=10**7)


def loaded(x: Tensor, ids: Tensor) -> Iterator[Data]:
    data = Data(x=x, y=Y, edge_index=GRAPH.edge_index())
    return iter(NeighborLoader(data, [4, 3], input_nodes=ids, batch_size=4, seed=0, ahead=2))


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")
@pytest.mark.parametrize("batches", [staged, loaded])
def test_memory_is_flat(batches: Callable[[Tensor, Tensor], Iterator[Any]]) -> None:
    """Less than 1 kB for each of 10,000 batches, by least squares over all but the first sixth.

    The rows of a batch are wide enough for the memory that is used again, and come back in it.
    """
    x, ids, count = X[:, :1].repeat(1, 4096), torch.arange(40_000) % N, 10_000
    held: list[int] = []
    places: set[int] = set()
    for number, batch in enumerate(batches(x, ids)):
        assert batch.x.nbytes >= 2**18
        places.add(batch.x.data_ptr())
        if number % 10 == 0:
            held.append(resident())
    assert len(held) == count // 10 and len(places) < 100
    used = torch.tensor(held[len(held) // 6 :], dtype=torch.float64)
    at = torch.arange(len(used), dtype=torch.float64) * 10
    slope = ((at - at.mean()) * (used - used.mean())).sum() / (at - at.mean()).square().sum()
    assert slope < 1000


# --- bad input ---


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: seeds(IDS > 3, 4), GraphError, r"ids is torch.bool \[400\].*nonzero"),
        (lambda: seeds([1], 4), GraphError, "ids is list"),  # type: ignore[arg-type]
        (lambda: seeds(IDS.view(2, -1), 4), GraphError, r"ids is torch.int64 \[2, 200\]"),
        (lambda: seeds(IDS, 0), ConfigError, "batch_size is 0, but a whole number from 1 on"),
        (lambda: seeds(IDS, 4, seed=-1), ConfigError, "seed is -1"),
        (lambda: seeds(IDS, 4, epoch=True), ConfigError, "epoch is True"),
        (lambda: seeds(IDS, 4, start=101), ConfigError, "start is 101, but there are 100 batches"),
        (lambda: prefetch([], depth=-1), ConfigError, "depth is -1, but a whole number from 0"),
        (lambda: prefetch([], threads=0), ConfigError, "threads is 0"),
        (lambda: prefetch([], max_bytes=0.5), ConfigError, "max_bytes is 0.5"),  # type: ignore[arg-type]
        (lambda: prefetch([], expected=-1), ConfigError, "expected is -1"),
    ],
)
def test_bad_options_are_told_at_once(make: Any, error: type[Exception], message: str) -> None:
    """When the chain is written, before anything runs."""
    with pytest.raises(error, match=message):
        make()


def test_ids_beyond_a_table() -> None:
    with pytest.raises(GraphError, match="but x has 100 rows"):
        list(prefetch(fetch(sample(seeds(IDS, 64), SAMPLER), X[:100])))
    assert gone()


def test_seeds_out_of_range_are_told_before_a_thread_starts() -> None:
    for ids in (IDS + 5, IDS - 1):
        with pytest.raises(GraphError, match=r"sample: seeds\[\d+\] = (400|-1), but there are 400"):
            sample(seeds(ids, 64), SAMPLER)
    with pytest.raises(GraphError, match="dict, but the graph has one type"):
        sample(seeds(IDS, 64, kind="paper"), SAMPLER)


def test_a_million_nodes_of_molecules_as_one_graph(local_root: Path) -> None:
    """molhiv as one block-diagonal graph: every node once, nothing from one molecule to another."""
    graphs = load("ogbg-molhiv", str(local_root))
    whole = graphs.batch(range(len(graphs)))
    size, molecule = whole.num_nodes, whole.batch
    assert size > 10**6
    sampler = Sampler(Graph.from_edge_index(whole.edge_index, size), [-1, 2])
    seen = torch.zeros(size, dtype=torch.int64)
    made = fetch(sample(seeds(torch.arange(size), 2**16, seed=0), sampler), whole.x)
    for batch in prefetch(made):
        seen[batch.seeds] += 1
        src, dst = batch.n_id[batch.blocks[0].edge_index()]
        assert torch.equal(molecule[src], molecule[dst])
        assert torch.equal(batch.x, whole.x[batch.n_id])
    assert (seen == 1).all()
