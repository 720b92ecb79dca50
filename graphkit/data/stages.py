"""A loader as a chain of stages, in the order in which it runs.

    batches = seeds(ids, 1024, seed=0, epoch=0)
    batches = sample(batches, Sampler(graph, [15, 10]))
    batches = fetch(batches, x, y)
    batches = move(batches, device)
    for batch in prefetch(batches, depth=4): ...

Every stage takes an iterator of :class:`Batch` and returns one. What a batch holds is a function of
its key alone, so that prefetching, threads and resumption change nothing but the time.
"""

# pyright: strict

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from ..errors import ConfigError, GraphError
from ..ops import Key, Sampler, take_rows
from ..ops.cpu import native
from ..ops.random import as_word, random_word, random_words
from .batch import Batch, EdgeType, mapped
from .buffers import Buffers

Function = Callable[[Batch], Batch]

# sets the numbers of the order apart from those of the samplers
_ORDER = 0x5EED


class Rows(Protocol):
    """A source of rows: a table in memory, on disk, anywhere."""

    @property
    def shape(self) -> torch.Size: ...

    def rows(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        """The rows ``index``, in ``out`` where it is given."""
        ...


@runtime_checkable
class BatchRows(Protocol):
    """A source that knows rows by the batch that wants them, such as packs on disk."""

    dtype: torch.dtype
    device: torch.device

    @property
    def shape(self) -> torch.Size: ...

    def of_batch(self, batch: Batch, out: Tensor | None = None) -> Tensor:
        """The rows of all nodes of ``batch``, in ``out`` where it is given."""
        ...


class Chain(Iterator[Batch]):
    """Batches of a source, each taken through functions that know nothing of the others.

    What is done to one batch is so kept apart from who comes next: threads of :func:`prefetch` take
    the next batch in turn, and work side by side.
    """

    def __init__(
        self, source: Iterator[Batch], work: tuple[Function, ...], ids: Any = None
    ) -> None:
        self.source = source
        self.work = work
        # all seeds of the batches, where they are known before
        self.ids = ids

    def __next__(self) -> Batch:
        batch = next(self.source)
        try:
            for function in self.work:
                batch = function(batch)
        except StopIteration as error:
            # it would end the loop as if there were no more batches
            raise RuntimeError("A stage raised StopIteration.") from error
        return batch


def then(batches: Iterable[Batch], function: Function) -> Iterator[Batch]:
    """A stage: ``function`` applied to each batch."""
    if isinstance(batches, Chain):
        return Chain(batches.source, (*batches.work, function), batches.ids)
    return Chain(iter(batches), (function,))


def seeds(
    ids: Tensor,
    batch_size: int,
    *,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
    drop_last: bool = False,
    start: int = 0,
    kind: str | None = None,
) -> Iterator[Batch]:
    """Batches of ``batch_size`` node ids each, the last one smaller unless ``drop_last``.

    ``shuffle``: in an order that is a function of ``seed`` and ``epoch``; otherwise as they are.
    ``start``: the number of the first batch, to go on with an epoch. ``kind``: the type of the
    nodes, in a graph that has several; the seeds are then a dict.

    Raises :class:`GraphError` if ``ids`` is no integer tensor ``[n]``, and :class:`ConfigError` for
    numbers that are out of range.
    """
    if not isinstance(ids, Tensor) or ids.dim() != 1 or ids.dtype not in (torch.int64, torch.int32):  # pyright: ignore[reportUnnecessaryIsInstance]
        what = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(
            f"seeds: ids is {what}, but a tensor [n] of int64 or int32 node ids is expected. Of a "
            "mask pass mask.nonzero().flatten()."
        )
    _at_least("seeds", "batch_size", batch_size, 1)
    for name, value in (("seed", seed), ("epoch", epoch), ("start", start)):
        _at_least("seeds", name, value, 0)
    count = len(ids) // batch_size if drop_last else -(-len(ids) // batch_size)
    if start > count:
        raise ConfigError(f"seeds: start is {start}, but there are {count} batches.")

    def batches() -> Iterator[Batch]:
        order = ids[order_of(len(ids), seed, epoch).to(ids.device)] if shuffle else ids
        for number in range(start, count):
            # a copy, so that a batch does not hold on to all ids
            part = order[number * batch_size : (number + 1) * batch_size].clone()
            given = part if kind is None else {kind: part}
            yield Batch(number, Key(seed, epoch, number), given)

    return Chain(batches(), (), ids if kind is None else {kind: ids})


def order_of(count: int, seed: int, epoch: int) -> Tensor:
    """The numbers from 0 to ``count - 1``, in the order of a random word of each."""
    word = random_word(random_word(_ORDER, seed), epoch)
    return random_words(as_word(word), torch.arange(count)).argsort(stable=True)


def sample(
    batches: Iterable[Batch], sampler: Sampler, *, transpose: bool = False
) -> Iterator[Batch]:
    """The neighbourhoods of the seeds: ``n_id``, ``e_id`` and ``blocks``.

    ``transpose`` sorts each block by source as well, which gradients with respect to features need.

    Raises what :func:`graphkit.ops.sample` does; for seeds of :func:`seeds` that are out of range
    at once, before a batch is made.
    """
    if isinstance(batches, Chain) and batches.ids is not None:
        sampler.check_seeds(batches.ids)

    def work(batch: Batch) -> Batch:
        began = time.perf_counter()
        found = sampler(batch.seeds, batch.key)
        blocks = found.blocks(transpose=transpose)
        batch = replace(batch, n_id=found.n_id, e_id=found.e_id, blocks=blocks)
        return batch.timed("sample", _since(began))

    return then(batches, work)


def fetch(
    batches: Iterable[Batch],
    x: Rows | BatchRows | Tensor | Mapping[str, Any] | None = None,
    y: Tensor | Rows | Mapping[str, Any] | None = None,
    *,
    edge_attr: Rows | Tensor | Mapping[EdgeType, Any] | None = None,
    pin_memory: bool = False,
    buffers: Buffers | None = None,
    **extra: Any,
) -> Iterator[Batch]:
    """The rows of ``x`` of all nodes of a batch, and those of ``y`` of its seeds.

    ``edge_attr``: the rows of all sampled edges, in the order of the first block's; those of a
    later block are the first ``block.num_edges`` of them.

    A source is a tensor with one row for each node (edge), anything with ``shape`` and
    ``rows(index, out=None)``, or packs of these batches (:class:`BatchRows`); of a graph with
    several types of nodes, a dict of them, from which types (relations) may be missing.
    ``extra``: further columns of all nodes, which come as ``batch.extra[name]``. ``pin_memory``:
    put rows of tensors into page-locked memory, whose copies to a GPU are fast.

    The memory of rows of tensors is used again when the last tensor in it is gone; chains that
    follow each other may share it, as ``buffers``. Ids are checked before anything is written:
    :class:`GraphError`. :class:`ConfigError` for ``edge_attr`` of batches that were not sampled.

    A table with ``requires_grad`` is read where the batch is made, and gets its gradient. Read
    ahead it would be the table before the last steps: :func:`prefetch` refuses its rows.
    """

    memory = Buffers() if buffers is None else buffers

    def rows(source: Any, index: Any) -> Any:
        return rows_of(source, index, None if pin_memory else memory)

    def of_nodes(source: Any, batch: Batch, nodes: Any) -> Any:
        # packs know rows by their batch
        if not isinstance(source, BatchRows):
            return rows(source, nodes)
        shape = (len(nodes), *source.shape[1:])
        is_here = source.device.type == "cpu" and not pin_memory
        return source.of_batch(batch, memory.empty(shape, source.dtype) if is_here else None)

    def work(batch: Batch) -> Batch:
        began = time.perf_counter()
        nodes = batch.seeds if batch.n_id is None else batch.n_id
        columns = {name: of_nodes(source, batch, nodes) for name, source in extra.items()}
        found: dict[str, Any] = {"extra": {**batch.extra, **columns}}
        if x is not None:
            found["x"] = of_nodes(x, batch, nodes)
        if y is not None:
            found["y"] = rows(y, batch.seeds)
        if edge_attr is not None:
            if batch.e_id is None:
                raise ConfigError(
                    "fetch: edge_attr is given, but the batches have no edges yet. Put sample "
                    "before fetch."
                )
            found["edge_attr"] = rows(edge_attr, batch.e_id)
        return replace(batch, **found).timed("gather", _since(began))

    return then(batches, work)


def rows_of(source: Any, index: Any, memory: Buffers | None) -> Any:
    """The rows ``index`` of a source, or of a dict of them; page-locked without a ``memory``."""
    if isinstance(index, Mapping):
        of_types = cast(Mapping[str, Tensor], index)
        tables = cast(Mapping[str, Any], source)
        if not isinstance(source, Mapping):
            # one type of seeds
            tables = dict.fromkeys(of_types, source)
        pairs = ((kind, ids) for kind, ids in of_types.items() if kind in tables)
        return {kind: rows_of(tables[kind], ids, memory) for kind, ids in pairs}
    if not isinstance(source, Tensor):
        return source.rows(index)
    if source.device.type != "cpu" or source.dim() == 0 or source.requires_grad:
        return take_rows(source, index)
    shape = (len(index), *source.shape[1:])
    if memory is not None:
        return take_rows(source, index, memory.empty(shape, source.dtype))
    # torch has a store of such memory itself
    return take_rows(source, index, torch.empty(shape, dtype=source.dtype, pin_memory=True))


def move(batches: Iterable[Batch], device: torch.device | str) -> Iterator[Batch]:
    """Batches with all tensors on ``device``; copies to a GPU run beside its work."""
    place = torch.device(device)
    # where the consumer works, whichever thread copies
    work_stream = torch.cuda.current_stream(place) if place.type == "cuda" else None
    of_thread = threading.local()

    def copied(batch: Batch) -> Batch:
        stream = work_stream
        if stream is None:
            return batch.to(place)
        if not hasattr(of_thread, "stream"):
            of_thread.stream = torch.cuda.Stream(place)
        with torch.cuda.stream(of_thread.stream):
            batch = batch.to(place, non_blocking=True)
        # only this thread waits
        of_thread.stream.synchronize()

        def hold(t: Tensor) -> Tensor:
            t.record_stream(stream)
            return t

        return batch.mapped(hold)

    def work(batch: Batch) -> Batch:
        began = time.perf_counter()
        batch = copied(batch)
        return batch.timed("copy", _since(began))

    return then(batches, work)


def prefetch(
    batches: Iterable[Batch],
    *,
    depth: int = 2,
    max_bytes: int | None = None,
    threads: int = 1,
    expected: int = 0,
) -> Iterator[Batch]:
    """The same batches in the same order, made ahead of their use by threads of this process.

    ``depth``: batches that are ready or in work beside the one in use; 0 works in the caller's
    thread. ``max_bytes``: bytes that they hold together; one is always allowed, and what a batch
    will need is taken from the largest so far. ``expected``: what it is taken from before the first
    one is there; 0 makes that one alone. ``threads``: batches in work at once. Each is worked
    on by one thread, so that together they take ``threads`` cores from the training; the source of
    the chain, and iterators that are no stages, are advanced by one thread at a time.

    An exception is raised in the place of its batch, with its traceback. Ctrl-C, ``close()`` and
    leaving the loop end the threads, after the batch that each is at.

    Raises :class:`ConfigError` for numbers out of range, before a thread starts. In the place of a
    batch whose rows have ``requires_grad``, :class:`GraphError`: they were read before the steps
    that come before theirs, how many depends on the threads.
    """
    _at_least("prefetch", "depth", depth, 0)
    _at_least("prefetch", "threads", threads, 1)
    _at_least("prefetch", "expected", expected, 0)
    if max_bytes is not None:
        _at_least("prefetch", "max_bytes", max_bytes, 1)
    chain = batches if isinstance(batches, Chain) else Chain(iter(batches), ())
    if depth == 0:
        return _waiting(chain)
    return _ahead(_Shared(chain), depth, max_bytes, threads, expected)


def _waiting(chain: Iterator[Batch]) -> Iterator[Batch]:
    """Batches made on demand: the consumer waits for all of it."""
    while True:
        began = time.perf_counter()
        try:
            batch = next(chain)
        except StopIteration:
            return
        yield batch.timed("wait", _since(began))


class _Shared:
    """What the threads of one :func:`prefetch` share: its source, and the places to be filled."""

    def __init__(self, chain: Chain) -> None:
        self.source, self.work = chain.source, chain.work
        self.lock = threading.Lock()
        self.places: deque[Future[Batch | None]] = deque()
        # stopped: nobody wants what is in work; ended: the source has no more
        self.stopped = self.ended = False
        self.workers: set[int] = set()

    def begin(self) -> None:
        """Called once in each thread."""
        self.workers.add(threading.get_ident())
        native.work_alone()

    def fill(self) -> None:
        """Make the next batch, None after the last one, and put it into the next place."""
        # in one step, so that the order of the places is that of the batches
        with self.lock:
            place = self.places.popleft()
            try:
                batch = None if self.stopped or self.ended else next(self.source, None)
            except BaseException as error:
                # batches before it are still to be finished
                self.ended = True
                place.set_exception(error)
                return
        try:
            for function in self.work:
                if batch is None or self.stopped:
                    break
                batch = function(batch)
            if batch is not None:
                mapped((batch.x, batch.y, batch.edge_attr, batch.extra), _refuse_gradient)
            place.set_result(batch)
        except BaseException as error:
            place.set_exception(error)


def _refuse_gradient(rows: Tensor) -> Tensor:
    if rows.requires_grad:
        raise GraphError(
            "prefetch: rows of a batch have requires_grad, but they are read before the steps that "
            "change their table. Read them in the step, as table[batch.n_id], or pass depth=0, or "
            "the table.detach() if no step changes it."
        )
    return rows


def _ahead(
    shared: _Shared, depth: int, max_bytes: int | None, threads: int, largest: int
) -> Iterator[Batch]:
    pool = ThreadPoolExecutor(threads, "graphkit-prefetch", initializer=shared.begin)
    waiting: deque[Future[Batch | None]] = deque()

    def has_room(most: int) -> bool:
        if len(waiting) >= most or max_bytes is None:
            return len(waiting) < most
        made = [place for place in waiting if place.done() and place.exception() is None]
        held = sum(batch.nbytes for place in made if (batch := place.result()) is not None)
        # nothing is known before the first
        unknown = largest or max_bytes
        return held + (len(waiting) - len(made) + 1) * unknown <= max_bytes

    def begin() -> None:
        place: Future[Batch | None] = Future()
        shared.places.append(place)
        waiting.append(place)
        pool.submit(shared.fill)

    try:
        while True:
            # the next one, whatever it needs
            while not waiting or has_room(depth + 1):
                begin()
            began = time.perf_counter()
            batch = waiting.popleft().result()
            if batch is None:
                return
            waited = _since(began)
            if max_bytes is not None:
                largest = max(largest, batch.nbytes)
                # beside this one, whose size may be the first that is known
                while has_room(depth):
                    begin()
            yield batch.timed("wait", waited)
            # the consumer may still hold it, but we do not
            del batch
    finally:
        shared.stopped = True
        # a collector of garbage may close us in one of the threads, which cannot wait for itself
        pool.shutdown(threading.get_ident() not in shared.workers, cancel_futures=True)


def _since(began: float) -> float:
    return time.perf_counter() - began


def _at_least(stage: str, name: str, value: Any, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(
            f"{stage}: {name} is {value!r}, but a whole number from {low} on is expected."
        )
