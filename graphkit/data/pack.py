"""Batches sampled before training, and their features packed on disk: DiskGNN's way.

pack(store.column("x"), graph, train_ids, [15, 10, 5], "packs", memory="4GB", cache="2GB")
rows = PackFile("packs")
for epoch in range(epochs):
    batches = stored(rows, seed=0, epoch=epoch)
    batches = fetch(batches, rows, y)
    for batch in prefetch(batches): ...
"""

# pyright: strict

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError, GraphError, nearest
from ..graph import Csr, Graph
from ..ops import Key, Sampled, Sampler
from ..store.direct import Disk
from ..store.engines import Engine
from ..store.packed import PackFile
from ..store.packing import Wish, build
from ..store.packs import WAYS, Record, open_stored
from ..store.plan import Prediction, choose, reason
from ..store.reader import FeatureFile
from ..store.sealed import digest
from .batch import Batch
from .chunked import parse_bytes
from .progress import Meter
from .stages import Chain, order_of, seeds

_NARROW = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
Narrow = Literal["bfloat16", "float16", "float32"]
Asked = Literal["auto", "rows", "blocks", "packs", "segments"]


@dataclass(frozen=True)
class Packed:
    """What :func:`pack` made: its folder, what was predicted of every way, and the one taken."""

    path: Path
    predictions: list[Prediction]
    way: str
    why: str
    about: dict[str, Any]


def pack(
    features: FeatureFile,
    graph: Graph,
    ids: Tensor,
    fanout: Sequence[int],
    out: str | Path,
    *,
    batch_size: int = 1024,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    memory: int | str = "4GB",
    cache: int | str | None = None,
    device_cache: int | str = 0,
    disk: int | str | None = None,
    way: Asked = "auto",
    dtype: Narrow | None = None,
    edge_ids: bool = False,
    epochs: int = 10,
    train_seconds: float = 0.0,
    speed: Disk | None = None,
    engine: Engine | None = None,
    quiet: bool = True,
    **options: Any,
) -> Packed:
    """Sample an epoch's batches, and bring the rows of each together on disk.

    The batches are those of ``sample(seeds(ids, batch_size, seed=seed, epoch=epoch), Sampler(graph,
    fanout, **options))``. Rows that most batches want are kept for a cache in memory, and for one
    on the device; those that no cache holds are read from disk in every epoch, by the way that ends
    first: row by row or page by page out of the table, from a pack for each batch (one read), or
    from packs beside rows that the batches of a segment share (`DiskGNN
    <https://doi.org/10.1145/3709738>`_). Every number behind that choice is counted.

    Args:
        features: the table, ``open_store(path).column("x")``.
        graph: with ``by_dst``; that of the store may exceed memory.
        ids: the seeds, integers ``[n]``.
        fanout: how many in-edges in each hop, as for :class:`graphkit.ops.Sampler`.
        out: the folder to write; a build of it that was killed is gone on with.
        batch_size, seed, epoch, shuffle, drop_last: as for :func:`graphkit.data.stages.seeds`.
        memory: the bytes that packing may use beside the graph, the sampler's working space
            (8 bytes a node for each thread) and one batch; also the most of ``cache``.
        cache: bytes of the cache in memory; half of ``memory`` if None.
        device_cache: bytes of the cache on the device.
        disk: bytes that all files may take; no limit if None.
        way: ``rows``, ``blocks``, ``packs`` or ``segments``; ``auto`` takes the fastest.
        dtype: keep rows in ``bfloat16`` or ``float16``, which halves what is read; the largest
            error is reported. None keeps them as they are.
        edge_ids: keep ``e_id``, at 8 bytes an edge.
        epochs: for how many the packs are made, which decides whether they pay.
        train_seconds: of an epoch's training, beside which reading runs.
        speed: of the disk; None measures it for two seconds where ``way`` is ``auto``.
        engine: what reads, by default the fastest that the kernel has.
        quiet: show no progress.

    The same arguments give the same bytes, for any number of threads. Deviations from DiskGNN's
    code: no GPU is needed, memory is bounded by slabs and notes on disk, ties go by id, any row
    size, checksums of everything, and it may be killed at any moment.

    Raises:
        ConfigError: an option is out of range, or the memory or disk given is too small.
        GraphError: the graph, the seeds and the table do not go together.
        StoreError: something else is at ``out``, the disk is full, or the table was changed.
    """
    _check(features, graph, ids, options, way, dtype)
    sampler = Sampler(graph, fanout, **options)
    sampler.check_seeds(ids)
    of_seeds = dict(shuffle=shuffle, seed=seed, epoch=epoch, drop_last=drop_last)
    row = features.file.array.row_bytes
    kind = features.dtype if dtype is None else _NARROW[dtype]
    kept = row // features.dtype.itemsize * kind.itemsize
    limit = parse_bytes(memory)
    held = limit // 2 if cache is None else parse_bytes(cache, "cache", 0)
    far = parse_bytes(device_cache, "device_cache", 0)
    if held > limit:
        raise ConfigError(f"cache is {held:,} bytes, but memory only {limit:,}. Give it less.")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(f"{name} is {value}, but at least 1 is expected.")
    count = len(ids) // batch_size if drop_last else -(-len(ids) // batch_size)
    if count == 0:
        raise ConfigError(f"pack: {len(ids)} seeds make no batch of {batch_size}. Give more seeds.")

    def draw(first: int, many: int) -> list[Record]:
        given = seeds(ids, batch_size, start=first, **cast(Any, of_seeds))
        taken = [next(given) for _ in range(many)]
        found = sampler.many([cast(Tensor, b.seeds) for b in taken], [b.key for b in taken])
        return [_record(cast(Sampled, one), edge_ids) for one in found]

    recipe = {
        "graph": _digest_of_graph(graph),
        "ids": digest({"ids": ids}),
        "fanout": list(fanout),
        "options": {name: _told(value) for name, value in sorted(options.items())},
        "batch_size": batch_size,
        "epoch": epoch,
        "shuffle": shuffle,
        "drop_last": drop_last,
    }
    no_probe = Disk(1e9, 1e5) if way != "auto" and speed is None else speed
    wish = Wish(
        features=features,
        recipe=recipe,
        draw=draw,
        num_batches=count,
        hops=len(fanout),
        has_edge_ids=edge_ids,
        seed=seed,
        memory=limit,
        cache=(far // kept if kept else 0, held // kept if kept else 0),
        disk=None if disk is None else parse_bytes(disk, "disk", 0),
        way=None if way == "auto" else way,
        dtype=kind,
        epochs=epochs,
        train_seconds=train_seconds,
        speed=no_probe,
        writer=_writer(),
    )
    meter = Meter(f"pack {Path(out).name}", quiet, "batches")
    phase = ""

    def show(name: str, done: int, total: int) -> None:
        nonlocal meter, phase
        if name != phase:
            meter.close()
            unit = "slabs" if name == "packing" else "batches"
            meter, phase = Meter(f"pack {Path(out).name}: {name}", quiet, unit), name
        meter.show(done, total)

    try:
        predictions = build(Path(out), wish, show, engine)
    finally:
        meter.close()
    layout = open_stored(out).layout
    why = reason(choose(predictions), predictions, kept, epochs) if way == "auto" else ""
    return Packed(Path(out), predictions, layout.way, why, layout.about)


def stored(
    packs: PackFile,
    *,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    start: int = 0,
    transpose: bool = False,
) -> Iterator[Batch]:
    """The stored batches in the order of an epoch: the first stage of a chain.

    The order is a function of ``seed`` and ``epoch``, so that training can go on with an epoch at
    its batch ``start``. A batch is the one that was sampled: ``key`` is the key that it was drawn
    with, ``number`` its place in this epoch. ``transpose`` as for
    :func:`graphkit.data.stages.sample`.

    Raises :class:`ConfigError` for numbers out of range, and :class:`StoreError` in the place of a
    batch that was damaged.
    """
    count = packs.num_batches
    for name, value, high in (
        ("seed", seed, 2**63),
        ("epoch", epoch, 2**63),
        ("start", start, count),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"stored: {name} is {value!r}, but 0 to {high} is expected.")
    order = order_of(count, seed, epoch) if shuffle else torch.arange(count)
    recipe = packs.layout.recipe

    def batches() -> Iterator[Batch]:
        for place in range(start, count):
            key = Key(recipe["seed"], recipe["epoch"], int(order[place]))
            # what the batch holds is read by whoever works on it
            yield Batch(place, key, torch.empty(0, dtype=torch.int64))

    def read(batch: Batch) -> Batch:
        began = time.perf_counter()
        found = _sampled(packs.record(batch.key.batch))
        nodes = found.num_sampled_nodes[0]
        full = Batch(
            batch.number,
            batch.key,
            found.n_id[:nodes].clone(),
            found.n_id,
            found.blocks(transpose=transpose),
            e_id=found.e_id if packs.layout.has_edge_ids else None,
        )
        return full.timed("sample", time.perf_counter() - began)

    return Chain(batches(), (read,))


def _writer() -> str:
    try:
        return f"graphkit {version('graphkit')}"
    except PackageNotFoundError:
        return "graphkit"


def _record(found: Sampled, edge_ids: bool) -> Record:
    assert found.num_sampled_edges is not None
    words = [found.n_id, found.by_dst.indptr, found.by_dst.indices, found.e_id]
    n_id, indptr, indices, e_id = (cast(Any, word).numpy() for word in words)
    return Record(
        n_id,
        indptr,
        indices.astype(np.int32, copy=False),
        e_id if edge_ids else None,
        np.array(found.num_sampled_nodes, dtype=np.int64),
        np.array(found.num_sampled_edges, dtype=np.int64),
    )


def _sampled(record: Record) -> Sampled:
    """As the sampler gave it; ``e_id`` is empty where it was not kept."""

    def tensor(words: Any, dtype: torch.dtype) -> Tensor:
        return torch.tensor(words, dtype=dtype)

    e_id = np.empty(0, dtype=np.int64) if record.e_id is None else record.e_id
    side = Csr(tensor(record.indptr, torch.int64), tensor(record.indices, torch.int32))
    nodes, edges = record.nodes.tolist(), record.edges.tolist()
    return Sampled(
        tensor(record.n_id, torch.int64), tensor(e_id, torch.int64), side, None, nodes, edges
    )


def _check(
    features: Any, graph: Any, ids: Any, options: dict[str, Any], way: str, dtype: str | None
) -> None:
    if not isinstance(features, FeatureFile):
        raise DataError(
            f"pack: features is a {type(features).__name__}, but a table on disk is expected. "
            'Write one with graphkit.data.write_store and pass open_store(path).column("x").'
        )
    if not isinstance(graph, Graph):
        raise ConfigError(
            f"pack: graph is a {type(graph).__name__}, but a Graph is expected. Graphs of several "
            "relations are not packed yet: train on them with NeighborLoader."
        )
    if graph.num_src != len(features) or graph.num_dst != len(features):
        raise GraphError(
            f"pack: the graph has {graph.num_dst} nodes, but the table {len(features)} rows. It "
            "needs one for each."
        )
    if not isinstance(ids, Tensor):
        raise GraphError(f"pack: ids is a {type(ids).__name__}, but a tensor is expected.")
    if options.get("subgraph_type", "directional") != "directional" or options.get("disjoint"):
        raise ConfigError(
            "pack: induced subgraphs and disjoint trees are not packed. Leave these options out."
        )
    if options.get("node_time") is not None or options.get("edge_time") is not None:
        raise ConfigError("pack: batches of seeds with times are not packed. Leave times out.")
    for name, given, known in (("way", way, ("auto", *WAYS)), ("dtype", dtype, tuple(_NARROW))):
        if given is not None and given not in known:
            raise ConfigError(f"pack: unknown {name} {given!r}. {nearest(str(given), known)}")
    if dtype is not None and not features.dtype.is_floating_point:
        raise ConfigError(f"pack: dtype is {dtype!r}, but the table holds {features.dtype}.")
    if dtype is not None and _NARROW[dtype].itemsize > features.dtype.itemsize:
        raise ConfigError(f"pack: dtype is {dtype!r}, wider than the table's {features.dtype}.")
    if way in ("rows", "blocks") and dtype is not None and _NARROW[dtype] != features.dtype:
        raise ConfigError(
            f"pack: way {way!r} reads rows out of the table, which has {features.dtype}. Leave "
            "dtype out, or take packs."
        )


def _told(value: Any) -> Any:
    return digest({"value": value}) if isinstance(value, Tensor) else value


def _digest_of_graph(graph: Graph) -> str:
    side = graph.by_dst
    named = {"indptr": side.indptr, "indices": side.indices}
    return digest(named if side.eid is None else {**named, "eid": side.eid})
