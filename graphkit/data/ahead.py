"""PyG's loaders, their batches made by threads before they are asked for. (opt: torch_geometric)"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch_geometric.data import Data, HeteroData
from torch_geometric.sampler import NegativeSampling

from ..ops import Key
from .batch import Batch
from .buffers import Buffers
from .pyg_store import StoreFeatures, StoreGraph
from .stages import prefetch, rows_of, then

# they take all that they need from torch's generator at their first number
_ORDERS = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def may_run_ahead(loader: Any) -> bool:
    """Whether batches that are made earlier, in other threads, are those made here and then.

    What draws from the user's or torch's generators, reads a table with a gradient, or is code of
    the user, stays in the thread and the order of the loop. That the loop changes a table in place
    cannot be seen from here.
    """
    batches, data = loader.batch_sampler, loader.data
    on_disk = is_on_disk(data)
    negatives = getattr(loader, "neg_sampling", None)
    # a subclass is code of the user
    ours = (
        (on_disk or type(data) in (Data, HeteroData))
        and type(batches) is BatchSampler
        and type(batches.sampler) in _ORDERS
        and (negatives is None or type(negatives) is NegativeSampling)
    )
    if not ours or (type(batches.sampler) is RandomSampler and batches.sampler.generator):
        # that order draws once more from its generator when the pass ends
        return False
    stores = () if on_disk else data.stores
    values = (value for store in stores for value in store.values())
    return (
        loader.num_workers == 0
        and not loader.pin_memory
        and bool(loader.filter_per_worker)
        and loader.transform_sampler_output is None
        and not any(isinstance(v, Tensor) and (v.requires_grad or not v.is_cpu) for v in values)
    )


def is_on_disk(data: Any) -> bool:
    """Whether ``data`` are the features and the graph of a store on disk, in our own classes."""
    return isinstance(data, tuple) and list(map(type, data)) == [StoreFeatures, StoreGraph]


class Kept:
    """What a loader has from one pass to the next."""

    def __init__(self) -> None:
        self.largest = 0
        """The bytes of the largest batch so far: what is expected of others."""
        self.memory = Buffers()
        """Of the rows of batches that are gone."""

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        # a worker process that is started afresh has none of it
        return Kept, ()


def run_ahead(loader: Any, depth: int, max_bytes: int | None, kept: Kept) -> Iterator[Any]:
    """The batches of a pass of ``loader``, which is this pass's own.

    ``depth`` are made ahead, of ``max_bytes`` together. The user's transform is applied in the
    thread of the loop.
    """
    transform, loader.transform = loader.transform, None
    users: set[int] = set()
    tables: dict[Any, dict[str, Tensor]] = {}
    if not isinstance(loader.data, tuple):
        # a batch may hold them as they are
        users = {t.untyped_storage().data_ptr() for t in _tensors(loader.data)}
        tables, loader.data = _apart(loader.data)
    numbers = iter(loader.batch_sampler)
    # here, because this draws from torch's generator
    first = list(itertools.islice(numbers, 1))
    none = torch.empty(0, dtype=torch.int64)

    def made(batch: Batch) -> Batch:
        data = loader.collate_fn(batch.extra["numbers"])
        for kind, of_kind in tables.items():
            store = data if kind is None else data[kind]
            for name, table in of_kind.items():
                store[name] = rows_of(table, store.n_id, kept.memory)
        own = [t for t in _tensors(data) if t.untyped_storage().data_ptr() not in users]
        # by these the batch knows its bytes
        return replace(batch, extra={"data": data, "tensors": own})

    def places() -> Iterator[Batch]:
        for number, ids in enumerate(itertools.chain(first, numbers)):
            yield Batch(number, Key(0), none, extra={"numbers": ids})

    threads = min(depth, torch.get_num_threads())
    limits = {"depth": depth, "max_bytes": max_bytes, "expected": kept.largest}
    for batch in prefetch(then(places(), made), threads=threads, **cast(Any, limits)):
        kept.largest = max(kept.largest, batch.nbytes)
        held = cast(dict[str, Any], batch.extra)
        # out of it, so that the loop alone holds the data
        del held["tensors"]
        yield held.pop("data") if transform is None else transform(held.pop("data"))


def _tensors(data: Any) -> list[Tensor]:
    """The dense tensors among the attributes of ``data``."""
    values = (value for store in data.stores for value in store.values())
    return [v for v in values if isinstance(v, Tensor) and v.layout == torch.strided]


def _apart(data: Any) -> tuple[dict[Any, dict[str, Tensor]], Any]:
    """The tables of nodes by type that our gather takes rows of, and ``data`` with them empty.

    They keep their places in it, and so in every batch.
    """
    lean, tables = copy.copy(data), {}
    for kind in data.node_types if isinstance(data, HeteroData) else [None]:
        store: Any
        place: Any
        store, place = (data, lean) if kind is None else (data[kind], lean[kind])
        fits = {
            name: value
            for name, value in store.to_dict().items()
            if type(value) is Tensor
            and value.layout == torch.strided
            and value.dim() > 1
            # by which a batch says what its rows are
            and "n_id" not in store
            and store.is_node_attr(name)
            and data.__cat_dim__(name, value, store) == 0
        }
        for name, value in fits.items():
            place[name] = value.new_empty(len(value), 0)
        tables[kind] = fits
    return tables, lean
