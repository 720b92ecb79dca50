"""Packs of a store's training nodes, planned, made and tried. (opt: rich)"""

# annotations are evaluated here: the command line takes its types from them
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..data import open_store, stages
from ..data.pack import Packed, pack, stored
from ..errors import ConfigError, nearest
from ..store.packed import PackFile
from ..store.plan import NAMES, told
from . import plots
from .node_mini import fanouts


def pack_store(
    store: str,
    *,
    out: str | None = None,
    fanout: "str | Sequence[int]" = "15,10",
    split: str | None = None,
    part: str = "train",
    batch_size: int = 1024,
    seed: int = 0,
    epoch: int = 0,
    memory: str = "4GB",
    cache: str | None = None,
    device_cache: str = "0",
    disk: str | None = None,
    way: Literal["auto", "rows", "blocks", "packs", "segments"] = "auto",
    dtype: Literal["bfloat16", "float16"] | None = None,
    epochs: int = 10,
    train_seconds: float = 0.0,
    edge_ids: bool = False,
    measure: bool = False,
    quiet: bool = False,
) -> Packed:
    """Sample an epoch of a store's nodes before training, their features together on disk.

    What every way of reading the features will cost is counted and shown: rows or pages out of the
    table, a pack for each batch, packs that share rows. The one that ends first is taken, and the
    table says after which epoch packing has paid. Memory stays within what is given. A build that
    was killed goes on when the same command is given again, and ends with the same bytes.

    Args:
        store: folder of a store (see: graphkit data store)
        out: folder to write (default: the store's name and .packs, beside it)
        fanout: neighbours that a node draws in each hop from the seeds on, such as 15,10,5
        split: split of the store, where it has several
        part: part of the split whose nodes are the seeds
        batch_size: seeds of a batch
        seed: seed of the batches
        epoch: epoch whose batches they are
        memory: bytes that packing may use, and the most of the cache, such as 8GB
        cache: bytes of the cache in memory when training (default: half of memory)
        device_cache: bytes of the cache on the device
        disk: bytes that all files may take (default: no limit)
        way: how rows that no cache holds are read; auto is the fastest
        dtype: keep rows in fewer bits; the largest error is told
        epochs: epochs that the packs are made for
        train_seconds: seconds of an epoch's training, beside which reading runs
        edge_ids: keep the numbers of the edges, 8 bytes each, for features of edges
        measure: read one epoch afterwards, and show the prediction beside what was measured
        quiet: print nothing
    """
    opened = open_store(store)
    place = Path(out) if out is not None else Path(f"{Path(store).absolute()}.packs")
    parts = opened.split(split)
    if part not in parts:
        raise ConfigError(f"part is {part!r}, which the split lacks. {nearest(part, parts)}")
    packed = pack(
        opened.column("x"),
        opened.graph(),
        parts[part],
        [int(k) for k in fanouts(fanout).split(",")],
        place,
        batch_size=batch_size,
        seed=seed,
        epoch=epoch,
        memory=memory,
        cache=cache,
        device_cache=device_cache,
        disk=disk,
        way=way,
        dtype=dtype,
        edge_ids=edge_ids,
        epochs=epochs,
        train_seconds=train_seconds,
        quiet=quiet,
    )
    if not quiet:
        show(packed, way == "auto")
    if measure:
        rows = compare(packed)
        if not quiet:
            plots.show_rows(rows)
    return packed


def show(packed: Packed, is_timed: bool) -> None:
    """Print what was predicted of every way, and what was made."""
    rows: list[Mapping[str, Any]] = [one.row() for one in packed.predictions]
    if not is_timed:
        # the disk was not measured
        timed = ("epoch s", "pack s", "pays at")
        rows = [{k: v for k, v in row.items() if k not in timed} for row in rows]
    plots.show_rows(rows)
    for one in packed.predictions:
        print(f"{one.way}: {NAMES[one.way]}")
    print("bytes and reads are those of an epoch; packing pays at so many epochs")
    if packed.why:
        print(packed.why)
    if (error := packed.about["largest_error"]) > 0:
        print(f"The widest of all values is off by {error:.3g}.")
    print(f"Packs: {packed.path} ({packed.way})")
    print(f'Next: graphkit.data.stored(PackFile("{packed.path}")), as docs/packs.md shows')


def compare(packed: Packed) -> list[dict[str, Any]]:
    """One epoch read: what was predicted of it, and what was measured."""
    packs = PackFile(packed.path, verify=False)
    began = time.perf_counter()
    spent = 0.0
    for batch in stages.fetch(stored(packs), packs):
        spent += batch.timings["gather"]
    whole = time.perf_counter() - began
    about = packed.about
    one = next(p for p in packed.predictions if p.way == packed.way)
    hits = packs.hits / packs.requested if packs.requested else 1.0
    packs.close()
    return [
        _beside("hits", f"{100 * one.hit_rate:.2f} %", f"{100 * hits:.2f} %"),
        _beside("bytes read", f"{about['epoch_bytes']:,}", f"{packs.counts.device:,}"),
        _beside("reads", f"{about['epoch_reads']:,}", f"{packs.counts.reads:,}"),
        _beside("seconds of reading", f"{one.seconds:.3g}", f"{spent:.3g} with the gather"),
        _beside("seconds, samples too", "-", f"{whole:.3g}"),
        _beside("useful bytes", "-", told(packs.counts.useful)),
    ]


def _beside(what: str, predicted: str, measured: str) -> dict[str, Any]:
    return {"": what, "predicted": predicted, "measured": measured}
