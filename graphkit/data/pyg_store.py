"""A store on disk as PyG's FeatureStore and GraphStore. (opt: torch_geometric)"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch_geometric.data import Data, EdgeAttr, FeatureStore, GraphStore, HeteroData, TensorAttr
from torch_geometric.data.graph_store import EdgeLayout

from ..errors import StoreError
from ..store.reader import Access, FeatureFile, Store, open_store


class StoreFeatures(FeatureStore):
    """The tables of a store, by PyG's protocol: rows come from the disk, whatever asks for them.

    ``store``: its path, or a store that is open. ``access`` and ``verify``: see
    :class:`graphkit.store.FeatureFile`. The group of a table is the type of its nodes, None where
    there is one, or the relation of its edges; PyG's loaders fetch those of nodes. An index is a
    tensor, an array, a slice or a number; None reads the whole table into memory.

    Raises :class:`StoreError` for a table that is not there, for damage, and for every change: a
    store is read-only.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | Store,
        *,
        access: Access = "map",
        verify: bool = True,
    ) -> None:
        super().__init__()
        self.store = store if isinstance(store, Store) else open_store(store)
        self._how: dict[str, Any] = {"access": access, "verify": verify}
        self._files: dict[tuple[Any, str], FeatureFile] = {}

    def get_all_tensor_attrs(self) -> list[TensorAttr]:
        """The tables of nodes."""
        is_hetero = self.store.layout.is_hetero
        return [
            TensorAttr(kind if is_hetero else None, name)
            for kind, nodes in self.store.layout.nodes.items()
            for name in nodes.columns
        ]

    def edge_tables(self, kind: Any, e_id: Tensor) -> dict[str, Tensor]:
        """The rows of all tables of a relation's edges."""
        known = {edges.name: edges for edges in self.store.layout.edges}
        edges = known[kind] if self.store.layout.is_hetero else self.store.layout.edges[0]
        return {name: self._file(edges.name, name).rows(e_id) for name in edges.columns}

    def _file(self, group: Any, name: str) -> FeatureFile:
        if (group, name) not in self._files:
            read: Any = self.store.edge_column if isinstance(group, tuple) else self.store.column
            self._files[group, name] = read(name, group, **self._how)
        return self._files[group, name]

    def _get_tensor(self, attr: TensorAttr) -> Tensor:
        file, index = self._file(attr.group_name, str(attr.attr_name)), attr.index
        if index is None:
            return file.span(0, len(file))
        if isinstance(index, slice):
            start, stop, step = index.indices(len(file))
            if step == 1:
                return file.span(start, max(start, stop))
            index = torch.arange(start, stop, step)
        index = torch.as_tensor(index)
        if index.dtype == torch.bool:
            index = index.nonzero().flatten()
        return file.rows(index) if index.dim() else file.rows(index[None])[0]

    def _get_tensor_size(self, attr: TensorAttr) -> tuple[int, ...]:
        return tuple(self._file(attr.group_name, str(attr.attr_name)).shape)

    def _put_tensor(self, tensor: Any, attr: TensorAttr) -> bool:
        _refuse(self.store)

    def _remove_tensor(self, attr: TensorAttr) -> bool:
        _refuse(self.store)


class StoreGraph(GraphStore):
    """The edges of a store, by PyG's protocol, each relation in compressed columns.

    ``store``: its path, or a store that is open. :class:`GraphkitSampler` works on the mapped
    files; PyG's own samplers want indices of 64 bits, which are made in memory where the store has
    those of 32, below 2**31 nodes.

    Raises :class:`StoreError` as :class:`StoreFeatures`.
    """

    def __init__(self, store: str | os.PathLike[str] | Store) -> None:
        super().__init__()
        self.store = store if isinstance(store, Store) else open_store(store)

    def get_all_edge_attrs(self) -> list[EdgeAttr]:
        """The relations."""
        layout = self.store.layout
        sizes = {
            edges.name: (layout.nodes[edges.source].count, layout.nodes[edges.target].count)
            for edges in layout.edges
        }
        return [
            EdgeAttr(name if layout.is_hetero else None, EdgeLayout.CSC, size=size)  # pyright: ignore[reportArgumentType]
            for name, size in sizes.items()
        ]

    def _get_edge_index(self, edge_attr: EdgeAttr) -> tuple[Tensor, Tensor] | None:
        if edge_attr.layout != EdgeLayout.CSC:
            return None
        side = self.store.graph(edge_attr.edge_type).by_dst
        return side.indices.long(), side.indptr

    def _edge_to_layout(self, attr: EdgeAttr, layout: EdgeLayout, store: bool = False) -> Any:
        row, col, permutation = super()._edge_to_layout(attr, layout, store)
        eid = self.store.graph(attr.edge_type).by_dst.eid
        if eid is None or layout == EdgeLayout.COO:
            return row, col, permutation
        # PyG takes the slots for the edges' numbers
        return row, col, eid.long() if permutation is None else eid.long()[permutation]

    def _put_edge_index(self, edge_index: Any, edge_attr: EdgeAttr) -> bool:
        _refuse(self.store)

    def _remove_edge_index(self, edge_attr: EdgeAttr) -> bool:
        _refuse(self.store)


def skeleton(store: Store, names: Collection[str | None]) -> Data | HeteroData:
    """The types and counts of a store, and the tables called so, as what PyG has in memory."""
    layout = store.layout
    data: Any = HeteroData() if layout.is_hetero else Data()
    for kind, nodes in layout.nodes.items():
        one = data[kind] if layout.is_hetero else data
        one.num_nodes = nodes.count
        for name in nodes.columns.keys() & names:
            one[name] = _all(store.column(name, kind))
    for edges in layout.edges:
        one = data[edges.name] if layout.is_hetero else data
        for name in edges.columns.keys() & names:
            one[name] = _all(store.edge_column(name, edges.name))
    return data


def _all(file: FeatureFile) -> Tensor:
    return file.span(0, len(file))


def _refuse(store: Store) -> NoReturn:
    raise StoreError(f"{store.path} is read-only. Write another store with write_store.")
