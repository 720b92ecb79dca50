"""What is to be written to a store: tables in one form, and the checks before the first byte."""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import ConfigError, DataError, GraphError
from ..store.layout import ONE_RELATION, ONE_TYPE, dtype_name
from ..store.topology import check_edges
from .chunked import Table, table
from .graphs import MASKS
from .progress import Meter

EdgeType = tuple[str, str, str]

# tables whose numbers must be finite
_FEATURES = ("x", "edge_attr")


@dataclass(frozen=True)
class Relation:
    """The edges of one relation: their ends, and tables with a row for each."""

    name: EdgeType
    ends: Table
    columns: dict[str, Table]


@dataclass(frozen=True)
class Contents:
    """What is to be written, with every table in one form."""

    is_hetero: bool
    num_nodes: dict[str, int | None]
    columns: dict[str, dict[str, Table]]
    relations: list[Relation]
    splits: dict[str, dict[str, dict[str, Tensor]]]
    about: dict[str, Any]

    def tables(self) -> list[Table]:
        """All tables but those of edges' ends."""
        found = [one for of_type in self.columns.values() for one in of_type.values()]
        return found + [one for r in self.relations for one in r.columns.values()]


def contents_of(
    tables: Mapping[str, Any],
    edge_index: Any,
    of_edges: Mapping[str, Any],
    splits: Mapping[str, Mapping[str, Any]] | None,
    num_nodes: Any,
    num_edges: int | None,
    about: Mapping[str, Any] | None,
) -> Contents:
    """The arguments of :func:`graphkit.data.write_store` in one form."""
    is_hetero = isinstance(edge_index, Mapping)

    by = _by_type if is_hetero else _of_one_type
    columns: dict[str, dict[str, Table]] = {}
    for name, value in tables.items():
        for kind, one in by(ONE_TYPE, name, value).items():
            label = f"{name}[{kind!r}]" if is_hetero else name
            columns.setdefault(kind, {})[name] = table(label, one)
    known: dict[Any, Relation] = {}
    for key, ends in by(ONE_RELATION, "edge_index", edge_index).items():
        label = f"edge_index[{key!r}]" if is_hetero else "edge_index"
        known[key] = Relation(key, _ends(label, key, ends, num_edges), {})
        for kind in (key[0], key[2]):
            columns.setdefault(kind, {})
    for name, value in of_edges.items():
        for key, one in by(ONE_RELATION, name, value).items():
            if key not in known:
                raise DataError(f"{name} has the relation {key!r}, which edge_index does not have.")
            label = f"{name}[{key!r}]" if is_hetero else name
            known[key].columns[name] = table(label, one)
    given = by(ONE_TYPE, "num_nodes", num_nodes)
    if strange := given.keys() - columns.keys():
        raise DataError(f"num_nodes names the types {sorted(strange)}, which no table has.")
    counts = {kind: _agreed(kind, given.get(kind), of_type) for kind, of_type in columns.items()}
    relations = list(known.values())
    return Contents(is_hetero, counts, columns, relations, _parts(splits, by), dict(about or {}))


def _of_one_type(kind: Any, name: str, value: Any) -> dict[Any, Any]:
    return {} if value is None else {kind: value}


def _by_type(kind: Any, name: str, value: Any) -> dict[Any, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise DataError(
            f"{name} is one table, but edge_index has several relations. Pass a dict by type."
        )
    return dict(cast(Mapping[Any, Any], value or {}))


def _ends(label: str, key: Any, given: Any, count: int | None) -> Table:
    if not (isinstance(key, tuple) and len(cast(Any, key)) == 3):
        raise GraphError(f"edge_index: {key!r} is not (source, relation, target).")
    ends = table(label, given, axis=1, count=count)
    if ends.width != (2,) or ends.dtype not in (torch.int64, torch.int32):
        raise GraphError(
            f"{label} is {ends.dtype} with {list(ends.width)} ends for each edge, but int64 or "
            "int32 [2, E] is expected: row 0 sources, row 1 targets."
        )
    return ends


def of_data(data: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Tables of nodes, ``edge_index``, tables of edges, splits and counts of a PyG ``Data``."""
    is_hetero = hasattr(data, "node_types")
    if not is_hetero and not hasattr(data, "is_node_attr"):
        raise DataError(
            f"write_store: data is a {type(data).__name__}, but a torch_geometric Data or "
            "HeteroData is expected."
        )
    tables: dict[str, dict[Any, Tensor]] = {}
    of_edges: dict[str, dict[Any, Tensor]] = {}
    splits: dict[str, dict[str, dict[str, Tensor]]] = {}
    ends: dict[Any, Tensor] = {}
    counts: dict[str, int] = {}
    for kind in data.node_types if is_hetero else [ONE_TYPE]:
        store = data[kind] if is_hetero else data
        counts[kind] = int(store.num_nodes)
        _read_nodes(store, kind, tables, splits)
    for kind in data.edge_types if is_hetero else [ONE_RELATION]:
        store = data[kind] if is_hetero else data
        if "edge_index" not in store:
            raise DataError(f"write_store: {kind} has no edge_index. Set it, in place of adj_t.")
        for name, value in _tensors(store):
            if name == "edge_index":
                ends[kind] = value
            elif store.is_edge_attr(name):
                of_edges.setdefault(name, {})[kind] = value
    if is_hetero:
        return tables, ends, of_edges, splits, counts
    return (
        {name: value[ONE_TYPE] for name, value in tables.items()},
        ends[ONE_RELATION],
        {name: value[ONE_RELATION] for name, value in of_edges.items()},
        {
            name: {part: ids[ONE_TYPE] for part, ids in parts.items()}
            for name, parts in splits.items()
        },
        counts[ONE_TYPE],
    )


def _read_nodes(store: Any, kind: str, tables: Any, splits: Any) -> None:
    for name, value in _tensors(store):
        if name in MASKS and value.dtype == torch.bool:
            for split, mask in _columns_of(value):
                splits.setdefault(split, {}).setdefault(name[:-5], {})[kind] = mask
        elif store.is_node_attr(name):
            tables.setdefault(name, {})[kind] = value


def _tensors(store: Any) -> Iterator[tuple[str, Tensor]]:
    return ((k, v) for k, v in store.to_dict().items() if isinstance(v, Tensor))


def _columns_of(mask: Tensor) -> list[tuple[str, Tensor]]:
    """A mask [N], or each of several splits [N, S], by name."""
    if mask.dim() == 1:
        return [("masks", mask)]
    return [(f"masks-{at}", column) for at, column in enumerate(mask.unbind(1))]


def _agreed(kind: str, count: int | None, columns: Mapping[str, Table]) -> int | None:
    """The number of nodes that all tables have."""
    for name, one in columns.items():
        if one.count is None:
            continue
        if count is not None and one.count != count:
            raise DataError(
                f"{one.label} has {one.count} rows, but there are {count} nodes"
                f"{'' if kind == ONE_TYPE else f' of type {kind!r}'}. {name} needs one for each."
            )
        count = one.count
    return count


def _parts(splits: Any, by: Callable[..., dict[Any, Any]]) -> dict[str, Any]:
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    for name, parts in cast(Mapping[str, Any], splits or {}).items():
        if not isinstance(parts, Mapping):
            raise DataError(
                f"splits[{name!r}] is a {type(parts).__name__}, but a dict of parts is expected, "
                "such as {'standard': {'train': ids, 'val': ids, 'test': ids}}."
            )
        found[name] = {}
        for part, given in cast(Mapping[str, Any], parts).items():
            of_types = by(ONE_TYPE, f"splits[{name!r}][{part!r}]", given)
            label = f"splits[{name!r}][{part!r}]"
            found[name][part] = {kind: _ids(label, ids) for kind, ids in of_types.items()}
    return found


def _ids(label: str, given: Any) -> Tensor:
    ids = torch.as_tensor(given).detach().cpu()
    if ids.dim() == 1 and ids.dtype == torch.bool:
        # kept as it is until the number of nodes is known
        return ids
    if ids.dim() != 1 or ids.dtype not in (torch.int64, torch.int32, torch.uint8, torch.int16):
        raise DataError(
            f"{label} is {ids.dtype} of shape {list(ids.shape)}, but a mask [N] of bool or ids [n] "
            "of whole numbers are expected."
        )
    return ids.to(torch.int64)


def checked(contents: Contents, chunk: int, allow_nonfinite: bool, quiet: bool) -> Contents:
    """``contents`` after all checks that need no writing; ``chunk``: bytes that are read at once.

    Raises as :func:`graphkit.data.write_store`.
    """
    counts = dict(contents.num_nodes)
    for kind, of_type in contents.columns.items():
        if counts[kind] is None and not of_type:
            counts[kind] = _largest(contents, kind, chunk)
    for relation in contents.relations:
        _check_relation(relation, counts, chunk, quiet)
    for one in contents.tables():
        # refuses what no store holds
        dtype_name(one.dtype)
        if one.again and is_feature(one) and not allow_nonfinite:
            rows = 0
            with meter(f"checking {one.label}", quiet, "rows") as show:
                for part in one.chunks(chunk):
                    check_finite(one.label, part, rows)
                    rows += len(part)
                    show(rows, one.count)
    for name, parts in contents.splits.items():
        for part, of_types in parts.items():
            for kind, ids in of_types.items():
                check_part(f"splits[{name!r}][{part!r}]", kind, ids, counts)
    return replace(contents, num_nodes=counts)


def _check_relation(
    relation: Relation, counts: Mapping[str, int | None], chunk: int, quiet: bool
) -> None:
    ends, src, dst = relation.ends, counts[relation.name[0]], counts[relation.name[2]]
    if ends.again and src is not None and dst is not None:
        first = 0
        with meter(f"checking {ends.label}", quiet, "edges") as show:
            for part in ends.chunks(chunk):
                check_edges(ends.label, part, first, src, dst)
                first += part.size(1)
                show(first, ends.count)
    for one in relation.columns.values():
        if None not in (one.count, ends.count) and one.count != ends.count:
            raise DataError(
                f"{one.label} has {one.count} rows, but there are {ends.count} edges. It needs one "
                "for each."
            )


def _largest(contents: Contents, kind: str, chunk: int) -> int:
    """The largest id of a type among the ends of all edges, plus one."""
    found = 0
    for relation in contents.relations:
        rows = [at for at, end in ((0, relation.name[0]), (1, relation.name[2])) if end == kind]
        if rows and not relation.ends.again:
            raise ConfigError(
                f"write_store: {relation.ends.label} is an iterator, so that the number of nodes "
                "is not known before all is read. Pass num_nodes."
            )
        for ends in relation.ends.chunks(chunk) if rows else ():
            found = max(found, *(int(ends[at].max()) + 1 for at in rows if ends.numel()), 0)
    return found


def check_part(label: str, kind: str, ids: Tensor, counts: Mapping[str, int | None]) -> None:
    if kind not in counts:
        raise DataError(f"{label} names the type {kind!r}, which no table has.")
    count = counts[kind]
    if count is None:
        return
    if ids.dtype == torch.bool:
        if len(ids) != count:
            raise DataError(f"{label} is a mask of {len(ids)}, but there are {count} nodes.")
        return
    bad = (ids < 0) | (ids >= count)
    if bool(bad.any()):
        at = int(bad.nonzero()[0])
        raise DataError(
            f"{label}[{at}] = {int(ids[at])}, but there are {count} nodes. Drop it, or correct the "
            "split."
        )
    if len(torch.unique(ids)) < len(ids):  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        raise DataError(f"{label} names a node twice. Give each once.")


def is_feature(one: Table) -> bool:
    return one.label.partition("[")[0] in _FEATURES and one.dtype.is_floating_point


def check_finite(label: str, rows: Tensor, first: int) -> None:
    """Raise :class:`DataError` for a value that is NaN or infinite."""
    bad = ~rows.isfinite()
    if bool(bad.any()):
        place = cast(list[int], bad.nonzero()[0].tolist())  # pyright: ignore[reportUnknownMemberType]
        value = float(rows[tuple(place)])
        place[0] += first
        raise DataError(
            f"{label}{place} is {value}, but features must be finite. Fill it, or pass "
            "allow_nonfinite=True."
        )


@contextmanager
def meter(label: str, quiet: bool, unit: str) -> Generator[Any]:
    meter = Meter(label, quiet, unit)
    try:
        yield meter.show
    finally:
        meter.close()
