"""What the weights of a run say of nodes, of pairs of nodes, of graphs. (opt: pandas)"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data import GraphSet, check_graphs, check_inputs, is_path, load, read_folder
from ..data.graphs import MASKS
from ..data.links import LINK_TASKS, directed_link_label
from ..data.tables import end_columns, node_index
from ..data.targets import drawn_split
from ..errors import ConfigError, DataError, StoreError
from ..graph import Graph
from ..nn import build_model
from ..store import load_tensors
from ..structure import is_symmetric
from .direction import Divided, PairNet, divide, read_whole, undivided
from .direction import logits as class_logits
from .graph import (
    PARTS,
    Whole,
    check_columns,
    featured,
    graph_card,
    marked,
    one_label,
    outputs,
    with_quotients,
    without_edges,
)
from .graphnet import graph_net
from .hyper import find_hyper, read_hyper
from .link import fitting, logits, score, scorer
from .linknet import link_net
from .links import (
    Division,
    Joined,
    find_links,
    is_by_time,
    links_digest,
    read_joined,
    read_links,
)
from .node import Nodes, node_card, nodes_digest, read_nodes
from .options import builders
from .pairs import ENDS, known, read_pair_file
from .report import parse_seeds
from .task import Task, class_names, read_task
from .teaching import read_taught


@dataclass(frozen=True)
class Source:
    """A finished run, the seed whose weights count, and the data that they are applied to.

    ``given`` is an object from Python, None where ``name`` says what to load; ``same``: it says
    what the run says. ``data_digest`` is that of the run's data, None if it was not kept.
    """

    folder: Path
    recipe: str
    options: Mapping[str, Any]
    data_digest: str | None
    seed: int
    device: torch.device
    given: Any
    name: str
    same: bool
    root: str | None
    pairs: Path | None
    top: int | None = None

    @property
    def split(self) -> str | None:
        """The split of the run, where the data is that of the run."""
        return self.options["split"] if self.same else None

    @property
    def path(self) -> str | None:
        """The path of data of the user's own; None for an object and for a data set's name."""
        return self.name if self.given is None and is_path(self.name) else None

    def is_own(self, digest: str) -> bool:
        """Has the data the checksum of that of the run? If that was not kept, its name decides."""
        return self.same if self.data_digest is None else digest == self.data_digest

    def weights(
        self, build: Callable[[Mapping[str, Any]], nn.Module], whose: str = "weights"
    ) -> tuple[Any, Any]:
        """The model that ``build(about)`` makes, with the weights of the seed; and ``about``.

        ``whose`` is ``teacher`` for the other ones that a run of distill keeps.

        Raises:
            StoreError: the weights are absent, damaged, not finite, or of another model.
        """
        path = self.folder / f"{whose}-seed{self.seed}.safetensors"
        weights, about = load_tensors(path)
        try:
            model = build(about)
            model.load_state_dict(weights)
        # a forged description fails in many ways
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise StoreError(
                f"{path} does not hold the weights of a {self.recipe} model ({error}). "
                "Give a run folder of graphkit train as it was written."
            ) from error
        for name, value in weights.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise StoreError(
                    f"{path} is of no use: {name} holds values that are NaN or Inf. Restore it, or "
                    "train again with a lower lr."
                )
        return model.to(self.device).eval(), about


@dataclass(frozen=True)
class Predicted:
    """The columns of a table, the same as numbers alone, and the score of the test part if any.

    ``note`` says why there is no part and no score where the run's own data would have them.
    """

    columns: dict[str, Any]
    values: np.ndarray
    metric: str
    test: float | None
    note: str | None = None


@dataclass(frozen=True)
class NodeModel:
    """The model of a run of nodes, and what it is to be applied to.

    ``about`` is what is kept beside the weights, ``found`` the data as it was read, ``note`` as in
    :class:`Predicted`.
    """

    model: nn.Module
    about: Mapping[str, Any]
    nodes: Nodes
    found: Any
    note: str | None

    def labels(self) -> Tensor | None:
        """The class or other label of each node as the weights number them; None if unknown."""
        names = self.about.get("class_names")
        own = getattr(self.found, "class_names", None)
        return _labels(self.found["y"], Task(**self.about["task"]), own, names)


def node_model(about: Mapping[str, Any], recipe: str = "node") -> nn.Module:
    """The model that ``about`` describes, as a run of a recipe of nodes keeps it beside weights.

    Fails, if only with some error of Python's, where no run described a model so.
    """
    task, names = read_task(about, about["widths"][2]), about.get("class_names")
    if names is not None and class_names(names, task.width) is None:
        raise ValueError(f"class_names {names!r} do not name {task.width} classes")
    kept = ("num_layers", "dropout", "norm", "drop_input", "num_nodes")
    settings = {name: about[name] for name in kept}
    settings["models"] = builders(recipe)
    return build_model(about["model"], *about["widths"], **settings, **about["model_options"])


def applied(source: Source) -> NodeModel:
    """The model and the nodes of ``source``; :class:`DataError` if they do not fit."""
    found = _node_data(source)
    nodes, note = _nodes(found, source)
    model, about = source.weights(partial(node_model, recipe=source.recipe))
    width = about["widths"][0]
    if nodes.x.size(1) != width:
        raise DataError(
            f"The weights expect {width} features for each node, but the data has "
            f"{nodes.x.size(1)}. Give data with the features of the run."
        )
    return NodeModel(model, about, nodes, found, note)


def of_nodes(source: Source) -> Predicted:
    """Predictions for the nodes of one graph."""
    this = applied(source)
    nodes, about = this.nodes, this.about
    with torch.autocast(source.device.type, torch.bfloat16, source.options["amp"] == "bf16"):
        out = this.model(nodes.x, *nodes.over).float()
    columns: dict[str, Any] = {"node": np.arange(len(out))}
    index = None if source.path is None else node_index(source.path)
    columns |= {} if index is None else {"id": index.names}
    task, rows = Task(**about["task"]), nodes.split(source.seed)[1]
    names = about.get("class_names")
    predicted = _predicted(columns, out, task, this.labels(), rows, names)
    return replace(predicted, note=this.note)


def of_students(source: Source) -> Predicted:
    """What the student of a run of distill says of nodes, whose graph it does not look at."""
    model, about = source.weights(node_model)
    named = source.given is None and not is_path(source.name)
    own = source.same and not source.options["train_per_class"]
    count = source.options["num_splits"] if own else 1
    split = source.split if own else None
    if source.given is not None:
        found: Any = source.given
    elif named:
        found = load(source.name, source.root, split=split, num_splits=count)
    else:
        found = load(source.name, allow_nonfinite=source.options["allow_nonfinite"])
    whole = read_taught(found, source.device, source.options)
    width = about["widths"][0]
    if whole.x.size(1) != width:
        raise DataError(
            f"The weights expect {width} features for each node, but the data has "
            f"{whole.x.size(1)}. Give data with the features of the run."
        )
    task = read_task(about, about["widths"][2])
    none, note = torch.empty(0, dtype=torch.int64), None
    rows: Mapping[str, Tensor] = {part: none for part in PARTS}
    if source.is_own(whole.digest()):
        _, rows = whole.rows(source.seed, source.options)
    elif source.same:
        note = f"no part and no test score: {source.name} is not as it was in the run"
    out = model(whole.x, None).float()
    columns: dict[str, Any] = {"node": whole.node_id.cpu().numpy()}
    index = None if source.path is None else node_index(source.path)
    columns |= {} if index is None else {"id": index.names[columns["node"]]}
    names = about.get("class_names")
    labels = _labels(whole.y, task, getattr(found, "class_names", None), names)
    return replace(_predicted(columns, out, task, labels, rows, names), note=note)


def of_graphs(source: Source) -> Predicted:
    """Predictions for the graphs of a set."""
    found = _graph_data(source).to(source.device)

    def build(about: Mapping[str, Any]) -> nn.Module:
        # what has no task are weights of another recipe
        read_task(about, about["net"]["out"])
        return graph_net(**about["net"])

    model, about = source.weights(build)
    if not about.get("edges", True):
        found = without_edges(found)
    task, net, degrees = Task(**about["task"]), about["net"], about.get("degrees", False)
    if degrees != (found.x is None):
        wanted, got = ("in-degrees", "x") if degrees else ("x", "no x")
        raise DataError(
            f"The weights tell nodes apart by {wanted}, but the graphs have {got}. "
            "Give graphs with the features of the run."
        )
    check_columns("in-degree" if degrees else "x", featured(found).x, net["node"])
    check_columns("edge_attr", found.edge_attr, net["edge"])
    none = torch.zeros(len(found), dtype=torch.bool, device=source.device)
    masks = {part: getattr(found, f"{part}_mask") for part in PARTS}
    masks = {part: none if mask is None else mask for part, mask in masks.items()}
    y = found.y
    if about.get("anomaly") is not None:
        y = marked(y, about["anomaly"])
    if task.kind == "labels" and y.dim() == 1 and not y.is_floating_point() and int(y.max()) < 2:
        y = one_label(y)
    whole = Whole(featured(found), y, net["node"], net["edge"], masks, degrees)
    whole = with_quotients(whole, model, source.options["batch_size"])
    rows = whole.split(source.seed)[1]
    rest = torch.ones_like(none).index_fill_(0, torch.cat(list(rows.values())), False)
    out = torch.empty(len(found), task.width, device=source.device)
    # part by part, in the batches that the run scored
    for graph_id in filter(len, (*rows.values(), rest.nonzero().view(-1))):
        out[graph_id] = outputs(model, whole, graph_id, source.options).float()
    labels = _labels(y, task, None, None)
    return _predicted({"graph": np.arange(len(out))}, out, task, labels, rows, None)


def of_links(source: Source) -> Predicted:
    """Scores for the held-out pairs of a graph, for those of a file, or for the best new ones."""
    options = source.options
    root = None if source.path is not None else source.root
    data = find_links(source.name if source.given is None else source.given, root, source.split)
    model, about = source.weights(lambda about: link_net(**about["net"]))
    links, own = _links(data, source)
    _check_vectors(links, about["net"])
    index = None if source.path is None else node_index(source.path)
    if source.top is not None:
        return _best(model, links, options, source.top, index)
    if source.pairs is None:
        found = _held_out(model, links, options, index)
        if own:
            return found
        nowhere = np.full(len(found.values), "", dtype=object)
        note = (
            f"no part and no test score: {source.name} is not the data that the run divided, and "
            "these links may be among those trained on"
        )
        return replace(found, columns=found.columns | {"part": nowhere}, test=None, note=note)
    ends = ENDS if source.path is None else end_columns(source.path)
    pairs = read_pair_file(source.pairs, links.graph.num_dst, index, ends).to(links.graph.device)
    part, label = known(pairs, links)
    (out,) = logits(model, links, [pairs], options, "test")
    return _scored(model, pairs, part, label, out, index, options["metric"], None)


def of_directions(source: Source) -> Predicted:
    """Classes of the pairs that the seed held out, or of those of a file."""
    options = source.options
    root = None if source.path is not None else source.root
    data = find_links(source.name if source.given is None else source.given, root, source.split)
    whole = read_whole(data, source.device, options["features"])

    def build(about: Mapping[str, Any]) -> nn.Module:
        read_task(about, about["net"]["classes"])
        if about["class_names"] != list(LINK_TASKS[options["task"]]):
            raise ValueError(f"class_names {about['class_names']!r} are of another task")
        return PairNet(**about["net"])

    model, about = source.weights(build)
    own = source.is_own(whole.digest())
    if not own and source.pairs is None:
        raise DataError(
            f"{source.name} is not the data that the run divided, so no pairs of it are held out. "
            "Name the pairs to classify with pairs."
        )
    divided = divide(whole, source.seed, options) if own else undivided(whole, options)
    width = about["net"]["in_channels"]
    if divided.x.size(1) != width:
        raise DataError(
            f"The weights expect {width} features for each node, but the data has "
            f"{divided.x.size(1)}. Give data with the features of the run."
        )
    index = None if source.path is None else node_index(source.path)
    if source.pairs is None:
        pairs = torch.cat([divided.pairs[part].edge_index() for part in ("val", "test")], dim=1)
    else:
        ends = ENDS if source.path is None else end_columns(source.path)
        pairs = read_pair_file(source.pairs, whole.num_nodes, index, ends).t().to(source.device)
    rows, label = _asked(pairs, divided, whole.edge_index, options["task"])
    graph = Graph.from_edge_index(pairs, whole.num_nodes)
    out = class_logits(model, divided, graph, options)
    named = pairs.cpu().numpy() if index is None else index.names[pairs.cpu().numpy()]
    columns = dict(zip(ENDS, named, strict=True))
    found = _predicted(columns, out, Task(**about["task"]), label, rows, about["class_names"])  # pyright: ignore[reportArgumentType]
    return found if source.pairs is None else replace(found, test=None)


def _asked(
    pairs: Tensor, divided: Divided, edge_index: Tensor, task: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Which of ``pairs [2, n]`` are in each part, and the class of all, -1 where it is not known.

    That two nodes are not joined is known of those alone that were drawn as such.
    """
    size = divided.graph.num_dst
    key = pairs[0] * size + pairs[1]
    rows = dict.fromkeys(("train", "val", "test"), torch.empty_like(key[:0]))
    for part, held in divided.pairs.items():
        src, dst = held.edge_index()
        rows[part] = torch.isin(key, src * size + dst).nonzero().view(-1)  # pyright: ignore[reportArgumentType]
    label = directed_link_label(pairs, edge_index.to(pairs.device), size, task)
    drawn = torch.zeros_like(label, dtype=torch.bool).index_fill_(0, torch.cat([*rows.values()]), 1)
    if task != "direction":
        label[(label == len(LINK_TASKS[task]) - 1) & ~drawn] = -1
    return rows, label  # pyright: ignore[reportReturnType]


def _links(data: Any, source: Source) -> tuple[Joined, bool]:
    """The links of ``data``, and whether their parts are those of the run or the data's own.

    Where they are neither, and it is not those parts that are scored, nothing is held out.
    """
    options, brought = source.options, hasattr(data, "split_edge")
    undirected, division = options["undirected"], Division.of(options)
    held_out = source.pairs is None and source.top is None
    if brought:
        division = replace(division, resplit=False)
    named = source.name if source.given is None else source.given
    # what was trained on sampled neighbourhoods is encoded from the memory of the host
    place = torch.device("cpu") if options.get("fanout") else source.device
    about = data, place, undirected, division
    try:
        links = read_links(*about, source.seed, is_by_time(named, source.split))
        own = brought
        if not own:
            # the digest of a run is that of its first seed
            first = parse_seeds(options["seeds"])[0]
            same = not division.resplit or first == source.seed
            own = source.is_own(links_digest(links if same else read_links(*about, first)))
        if own or held_out:
            return links, own
    except DataError:
        # too small or too dense to be what the run divided; what is malformed is refused below
        if brought or held_out:
            raise
    return read_joined(data, place, undirected), False


def _held_out(model: Any, links: Joined, options: Mapping[str, Any], index: Any) -> Predicted:
    """The scores of the pairs of validation and test, links before others."""
    named, found = list[tuple[str, Tensor]](), list[Tensor]()
    for part in ("val", "test"):
        groups = links.positive[part], links.negative[part]
        named += [(part, pairs) for pairs in groups]
        found += logits(model, links, groups, options, part)
    flat = [pairs.reshape(-1, 2) for _, pairs in named]
    sizes = [len(pairs) for pairs in flat]
    part = np.repeat(np.array([name for name, _ in named], dtype=object), sizes)
    label = np.repeat([1, 0, 1, 0], sizes)
    try:
        test = score(fitting(options["metric"], links.negative), found[2], found[3])
    except (ConfigError, DataError):
        test = None
    out = torch.cat([one.view(-1) for one in found])
    return _scored(model, torch.cat(flat), part, label, out, index, options["metric"], test)


def _best(model: Any, links: Joined, options: Mapping[str, Any], top: int, index: Any) -> Predicted:
    """The ``top`` best new links from each node: no edges, held out or not, and no self-pairs.

    So many sources at a time that their pairs with all nodes are scored in one call. Of equal
    scores the smaller target comes first.
    """
    size, graph = links.graph.num_dst, links.seen("test")
    at_once = model.at_once or options["batch_size"]
    edges = torch.cat([graph.edge_index().t(), *links.positive.values()])
    if is_symmetric(graph):
        edges = torch.cat([edges, edges.flip(1)])
    taken = (edges[:, 0] * size + edges[:, 1]).unique()
    of, node = scorer(model, links, options, "test"), torch.arange(size, device=taken.device)
    pairs, scores, ranks = list[Tensor](), list[Tensor](), list[Tensor]()
    for sources in node.split(max(1, at_once // max(1, size))):
        out = of(torch.stack(torch.meshgrid(sources, node, indexing="ij"), dim=-1))
        _check_scores(out)
        start = int(sources[0]) * size
        low, high = torch.searchsorted(taken, taken.new_tensor([start, start + out.numel()]))
        out.view(-1)[taken[low:high] - start] = -torch.inf
        out[torch.arange(len(sources), device=node.device), sources] = -torch.inf
        best, place = out.sort(dim=1, descending=True, stable=True)
        row, rank = (best[:, :top] > -torch.inf).nonzero(as_tuple=True)
        pairs.append(torch.stack([sources[row], place[row, rank]], dim=1))
        scores.append(best[row, rank])
        ranks.append(rank + 1)
    ends = torch.cat(pairs).t().cpu().numpy()
    named = ends if index is None else index.names[ends]
    values = _shown(model, torch.cat(scores))
    columns = dict(zip(ENDS, named, strict=True))
    columns |= {"rank": torch.cat(ranks).cpu().numpy(), "score": values}
    return Predicted(columns, values, options["metric"], None)


def _check_scores(out: Tensor) -> None:
    """Raise :class:`DataError` where a score is NaN, which ranks nowhere."""
    if bool(out.isnan().any()):
        raise DataError(
            f"{int(out.isnan().sum())} of {out.numel()} scores are NaN. Give features without NaN "
            "and Inf, or train again with a lower lr."
        )


def _shown(model: Any, out: Tensor) -> np.ndarray:
    """Logits as probabilities of a link; other scores as they are."""
    return (out.sigmoid() if model.is_logit else out).cpu().numpy()


def _scored(
    model: Any,
    pairs: Tensor,
    part: np.ndarray,
    label: np.ndarray,
    out: Tensor,
    index: Any,
    metric: str,
    test: float | None,
) -> Predicted:
    _check_scores(out)
    ends = pairs.t().cpu().numpy()
    named = ends if index is None else index.names[ends]
    values = _shown(model, out)
    columns = dict(zip(ENDS, named, strict=True))
    columns |= {"part": part, "label": _known(label), "score": values}
    return Predicted(columns, values, metric, test)


def _check_vectors(links: Joined, net: Mapping[str, Any]) -> None:
    """Raise :class:`DataError` unless the nodes have the features that the weights expect."""
    width, num_nodes = None if links.x is None else links.x.size(1), links.graph.num_dst
    if width != net["in_channels"]:
        said = [
            "no features" if count is None else f"{count} features for each node"
            for count in (net["in_channels"], width)
        ]
        raise DataError(
            f"The weights expect {said[0]}, but the data has {said[1]}. "
            "Give data with the features of the run."
        )
    if width is None and num_nodes != net["num_nodes"]:
        raise DataError(
            f"The weights hold a learnt vector for each of {net['num_nodes']} nodes, but the data "
            f"has {num_nodes} nodes. Give the nodes of the run, or train on features."
        )


def _node_data(source: Source) -> Any:
    """The data to predict, its labels filled in where it has none."""
    nonfinite = source.options["allow_nonfinite"]
    # runs before there was the option have one
    number = source.options.get("num_splits", 1) if source.same else 1
    if source.recipe == "hyper":
        given = source.name if source.given is None else copy.copy(source.given)
        place = source.root, source.split, number if source.path is None else 1
        found = find_hyper(given, *place, labelled=False, allow_nonfinite=nonfinite)
    elif source.given is not None:
        found: Any = copy.copy(check_inputs(source.given, allow_nonfinite=nonfinite))
    elif node_card(source.name) is None:
        found = read_folder(source.name, allow_nonfinite=nonfinite, labelled=False)
    else:
        found = load(source.name, source.root, split=source.split, num_splits=number)
    if getattr(found, "y", None) is None:
        # what HyperGraphData.num_nodes returns is a guess in PyG 2.8
        count = found["num_nodes"] if "num_nodes" in found else len(found["x"])
        found.y = torch.full((count,), -1)
    return found


def _nodes(found: Any, source: Source) -> tuple[Nodes, str | None]:
    """The nodes of ``found``, and why they have no split where the run's own would have one.

    A path without one has that which was drawn for the run, if it still holds what it held then.
    """
    options = source.options
    brought = [found[key] for key in MASKS if getattr(found, key, None) is not None]
    none = torch.zeros(brought[0].shape if brought else len(found["y"]), dtype=torch.bool)
    masks = {key: none if getattr(found, key, None) is None else found[key] for key in MASKS}
    drawn = None
    if not brought and source.path is not None:
        # what cannot be divided is not what the run divided
        with contextlib.suppress(DataError):
            drawn = drawn_split(found["y"], 0, source.name, quiet=True)
            masks = dict(zip(MASKS, drawn, strict=True))
    found.update(masks)
    if source.recipe == "hyper":
        nodes = read_hyper(found, source.device, options)[0]
    else:
        nodes = read_nodes(found, source.device, options["undirected"], options["row_normalize"])
    if brought or source.path is None:
        return nodes, None
    if drawn is not None and source.is_own(nodes_digest(nodes, found["edge_index"])):
        return nodes, None
    note = (
        f"no part and no test score: {source.name} is not as it was in the run, and a split drawn "
        "from it now would mix with the nodes trained on"
    )
    nowhere = dict.fromkeys(nodes.masks, none.to(source.device))
    return replace(nodes, masks=nowhere), note if source.same else None


def _graph_data(source: Source) -> GraphSet:
    """The graphs to predict; where they have no labels, -1 for each."""
    if source.given is None:
        # runs before there was the option have one
        number = source.options.get("num_splits", 1) if source.same else 1
        name = graph_card(source.name).name
        return load(name, source.root, split=source.split, num_splits=number)
    nonfinite = source.options["allow_nonfinite"]
    found = check_graphs(source.given, allow_nonfinite=nonfinite, labelled=False)
    if found.y is not None:
        return found
    y = torch.full((len(found),), -1, device=found.device)
    return GraphSet({**found.tensors, "y": y}, found.name, levels=found.levels)


def _labels(y: Tensor, task: Task, own: Any, names: list[str] | None) -> Tensor | None:
    """The labels in the numbering of the weights; None if they are of another task, or unknown.

    ``own`` are the names of the classes in the data, ``names`` those of the weights.
    """
    if task.kind != "classes":
        known = y[~y.isnan()]
        fits = (y.is_floating_point() or y.dim() == 2) and y.numel() == len(y) * task.width
        fits &= task.kind == "values" or bool(((known == 0) | (known == 1)).all())
        return y.float().reshape(len(y), task.width) if fits and len(known) else None
    if y.is_floating_point() or y.dim() != 1 or bool((y < 0).all()):
        return None
    own = class_names(own, int(y.max()) + 1)
    if own != names:
        # what is numbered by name in one place only, or by other names, cannot be compared
        if not own or not names or not set(own) <= set(names):
            return None
        place = torch.tensor([names.index(name) for name in own])
        y = torch.where(y < 0, -1, place[y.clamp(min=0)])
    return y if int(y.max()) < task.width else None


def _predicted(
    columns: dict[str, Any],
    out: Tensor,
    task: Task,
    y: Tensor | None,
    rows: Mapping[str, Tensor],
    names: list[str] | None,
) -> Predicted:
    """``columns``, and the part, label, prediction and all outputs ``out [N, C]`` of each row."""
    columns["part"] = np.full(len(out), "", dtype=object)
    for name, some in rows.items():
        columns["part"][some.cpu().numpy()] = name
    if y is not None:
        label = y.cpu().numpy()
        columns |= {"label": _known(label)} if task.kind == "classes" else _numbered("label", label)
    more, array = read_outputs(out, task, names)
    test = _test_score(out, y, rows["test"], task)
    return Predicted(columns | more, array, task.metric, test)


def read_outputs(
    out: Tensor, task: Task, names: Sequence[str] | None
) -> tuple[dict[str, Any], np.ndarray]:
    """The columns that say what the outputs ``out [N, C]`` mean, and their numbers float32 [N, C].

    Of classes the predicted one, its name if there are ``names``, and all probabilities; of labels
    the probabilities, of values the outputs themselves.
    """
    columns, values, name = dict[str, Any](), out, "value"
    if task.kind == "classes":
        columns["prediction"] = out.argmax(dim=1).cpu().numpy()
        if names is not None:
            columns["class"] = np.array(names, dtype=object)[columns["prediction"]]
        values, name = out.softmax(dim=1), "probability"
    elif task.kind == "labels":
        values, name = out.sigmoid(), "probability"
    array = values.cpu().numpy()
    return columns | _numbered(name, array), array


def _numbered(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}{number}": column for number, column in enumerate(values.T)}


def _known(label: np.ndarray) -> Any:
    """``label`` as it is, or, where one is -1 for not known, with nothing in these places."""
    import pandas as pd

    return label if (label >= 0).all() else pd.arrays.IntegerArray(label, label < 0)


def _test_score(out: Tensor, y: Tensor | None, rows: Tensor, task: Task) -> float | None:
    """The score of the test rows, None where there is none to give."""
    if y is None:
        return None
    y = y.to(out.device)
    # a part may hold rows without a label
    known = y >= 0 if task.kind == "classes" else ~y.isnan().all(dim=1)
    rows = rows[known[rows]]
    try:
        return task.score(out[rows], y[rows]) if len(rows) else None
    except DataError:
        return None
