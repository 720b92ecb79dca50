"""The recipe ``link``: links predicted, in full batch or mini-batches. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from .. import metrics
from ..errors import ConfigError, StoreError
from ..store import load_tensors
from ..structure import without_edges
from . import link_plots, plots, report
from .link_mini import Neighborhoods, all_vectors, read_fanout, score_rows
from .linknet import BY_NEIGHBORS, HEURISTICS, LINK_MODELS, link_net
from .links import (
    PARTS,
    Division,
    Joined,
    Links,
    count_oddities,
    find_links,
    is_by_time,
    link_card,
    links_digest,
    read_links,
)
from .loop import Problem, finite
from .options import hints, prepare, read_model_options
from .runs import Job, carry_out

if TYPE_CHECKING:
    from torch_geometric.data import Data


def link(
    *,
    data: "str | Data" = "digits",
    model: str = "sage",
    seeds: "str | int | Sequence[int]" = "0",
    root: str | None = None,
    out: str | None = None,
    split: str | None = None,
    device: "str | torch.device" = "auto",
    amp: Literal["bf16"] | None = None,
    num_val: float = 0.05,
    num_test: float = 0.1,
    val_negatives: float = 1.0,
    resplit: bool = False,
    valid_edges: bool = False,
    heart: int = 0,
    hidden: int = 256,
    num_layers: int = 2,
    dropout: float = 0.5,
    model_options: "str | Mapping[str, Any]" = "",
    start: str | None = None,
    lr: float = 0.005,
    encoder_lr: float | None = None,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    batch_size: int = 65536,
    drop_last: bool = False,
    fanout: "str | Sequence[int] | None" = None,
    targets: Literal["auto", "keep", "remove"] = "auto",
    negatives: Literal["pairs", "targets"] = "pairs",
    epochs: int = 100,
    patience: int = 0,
    select: Literal["score", "loss"] = "score",
    metric: str | None = None,
    undirected: bool = False,
    quiet: bool = False,
    submission: str | None = None,
    resume: "str | None" = None,
    command: "str | None" = None,
    note: "str | None" = None,
) -> report.Record:
    """Link prediction: an encoder of the training graph, a predictor of pairs of nodes.

    Each step encodes all nodes from the training edges, or with --fanout those of a batch from
    sampled neighbourhoods, and tells a batch of these edges from as many pairs without one, drawn
    anew; an epoch takes every training edge once. Nodes without
    features get a learnt vector. The epoch is chosen by the validation links alone, the test links
    are scored once for each seed, after training. Folder, record and resuming are as for node;
    scores.png shows the scores of the first seed's test links and of the pairs without one.

    The encoders gcn to mlp have an MLP on the product of two nodes, gae is a GCN with the product
    alone. ncn and ncnc read the neighbours that two nodes share, ncnc those that they might share
    too, buddy how far their neighbourhoods overlap. cn, aa, ra, katz and ppr learn nothing and are
    scored once.

    A data set that comes without links to hold out (one graph, such as digits or cora) is divided
    at random, 85, 5 and 10 % of its edges, the same way for all seeds. An edge and its reverse stay
    together where all edges go both ways, or are made to by --undirected. No link that is held out
    is among the edges that messages run on, or the data is refused; where links are held out by
    time, as in ogbl-collab, one may have been a link before, and the run says how many were.

    Beside the metric the result has Hits@20, @50 and @100 of the test links, MRR where each link is
    ranked among pairs of its own, and ties: the share of test links that score exactly as a pair
    they are ranked among.

    Args:
        data: data set to train on (see: graphkit data list); in Python also a PyG Data, with or
            without split_edge
        model: gcn, sage, gat, gatv2, gin, mlp, gae, buddy, ncn, ncnc, cn, aa, ra, katz or ppr
        seeds: seeds to run, such as 0, 0-9 or 0,3,5
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/link-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        amp: bf16 runs the model in bfloat16 where that is safe
        num_val: share of the edges held out for validation, where links are divided here
        num_test: share held out for the test
        val_negatives: pairs without an edge for each validation link, where links are divided here
        resplit: divide the links anew for every seed
        valid_edges: send messages along the validation links too when the test links are scored
        heart: rank each held-out link among so many hard pairs of its own, as HeaRT does with 500:
            half of them keep its source, half its target; 0 for the pairs of the division
        hidden: width of the learnt vectors and all layers
        num_layers: number of layers of the encoder, and of the MLP on pairs
        dropout: share of the inputs of each layer but the first dropped in training
        model_options: options of the model's own, such as conv=gcn,jk=true for ncn
        start: run folder of link, whose weights of the same seed training starts from
        lr: learning rate of Adam
        encoder_lr: that of all but the predictor, 0 to leave it as it is (default: lr)
        weight_decay: L2 penalty of Adam, on all parameters
        clip: largest norm of the gradient of learnt vectors, of encoder and of MLP; 0 for any
        batch_size: training edges of one step
        drop_last: leave out the last batch of an epoch where it is smaller, unless it is the only
        fanout: neighbours that a node of a batch draws in each hop, one number for each layer, such
            as 15,10; -1 for all (default: no sampling, all nodes are encoded in every step)
        targets: keep the edges of a batch in the graph that it is scored on, or remove them; auto
            removes them for ncn and ncnc
        negatives: pairs of training without an edge are any, or, by targets, begin where the edges
            do and end in any node
        epochs: most epochs to train
        patience: stop when the validation loss exceeds its mean over so many epochs before; 0 never
        select: keep the weights of the best validation score, or of the lowest validation loss
        metric: hits@K (such as hits@20), mrr, rocauc or ap; if not given mrr with heart, the data
            set's own, or rocauc
        undirected: send messages along the reverse of every edge too
        quiet: print nothing
        submission: file to write the form of OGB's leaderboard to; must not exist
        resume: folder of a run of these options that was stopped, to go on in
        command: command that repeats the run, where it is not made of these options
        note: line to print under the result

    Raises:
        ConfigError: an option is unknown or out of range, or training diverged.
        DataError: the data set is unknown or malformed, or not one graph.
        StoreError: the run folder exists or cannot be written.
        BackendError: the device is not there.
    """
    settled = prepare(link, locals(), LINK_MODELS)
    options, place = settled.options, settled.device
    options["fanout"] = read_fanout(fanout, options["model"], options)
    # what is sampled from stays in the memory of the host
    home = place if fanout is None else torch.device("cpu")
    named = link_card(data) if isinstance(data, str) else None
    if options["heart"]:
        check_heart(options["heart"], submission)
        metric = metric or "mrr"
    if named is not None and named.kind == "link":
        metric = metric or named.metric
    if options["targets"] == "auto":
        options["targets"] = "remove" if options["model"] in BY_NEIGHBORS else "keep"
    if options["model"] in HEURISTICS:
        # there is nothing to learn
        options["epochs"] = 1
    found, division = find_links(data, root, split), Division.of(options)
    read = partial(read_links, found, home, undirected, division, by_time=is_by_time(data, split))
    # what cannot be divided is refused before there is a folder
    links = read(seed=settled.seeds[0])
    options["metric"] = fitting(metric or "rocauc", links.negative)
    about = {
        "model": options["model"],
        "num_nodes": links.graph.num_dst,
        "in_channels": None if links.x is None else links.x.size(1),
        **{name: options[name] for name in ("hidden", "num_layers", "dropout")},
        "model_options": read_model_options(
            options["model"], options["model_options"], LINK_MODELS
        ),
    }
    if start is not None:
        options["start"] = str(Path(start).absolute())
        check_start(options["start"], settled.seeds, link_net(**about))
    title = f"{options['model']} on {options['data']}"
    scores: dict[int, tuple[Tensor, Tensor]] = {}
    job = Job(
        task="link",
        title=title,
        metric=options["metric"],
        options=options,
        seeds=settled.seeds,
        device=place,
        work=max(links.graph.num_dst, 2 * batch_size) * hidden * hidden,
        data_digest=links_digest(links),
        build=partial(_build, about, encoder_lr),
        problem=partial(problem, links=read if resplit else links, options=options, scores=scores),
        announce=partial(_announce, links=links, options=options),
        about={"recipe": "link", "net": about},
        command=settled.command,
        note=note,
        quiet=quiet,
        submission=submission,
        on_board=not options["heart"],
        defects=named.defects if named is not None else (),
        closing=lambda record: hints(record, settled.command, LINK_MODELS),
        pictures=lambda folder: link_plots.first_scores(
            folder, scores, title=title, metric=options["metric"]
        ),
    )
    return carry_out(job, out, resume)


def check_heart(count: int, submission: Any) -> None:
    """Raise :class:`ConfigError` unless so many hard pairs can be had, and no board is meant."""
    if count % 2:
        raise ConfigError(
            f"heart is {count}, but an even number is expected: half of the pairs replace either "
            f"end of a link. Use {count + 1}."
        )
    if submission is not None:
        raise ConfigError(
            "submission is for scores among OGB's own pairs, and heart ranks links among others. "
            "Leave out one of them."
        )


def _build(about: Mapping[str, Any], encoder_lr: float | None) -> nn.Module:
    return link_net(**about).at_rate(encoder_lr)


def check_start(folder: str, seeds: Sequence[int], model: nn.Module) -> None:
    """Raise unless ``folder`` has weights that fit ``model`` for each of ``seeds``."""
    for seed in seeds:
        begin_with(model, folder, seed)


def begin_with(model: nn.Module, folder: str, seed: int) -> None:
    """Give ``model`` all that a run kept of its ``seed``: parameters, and what is none.

    Raises:
        StoreError: there are no such weights.
        ConfigError: they are of a model with other names or shapes; nothing is changed then.
    """
    path = Path(folder) / f"weights-seed{seed}.safetensors"
    if not path.is_file():
        raise StoreError(
            f"start: {path} is not there, but the weights of each seed are expected. Give the "
            "folder of a run of link with the same seeds."
        )
    weights, _ = load_tensors(path)
    own = model.state_dict()
    for name in sorted({*own, *weights}):
        wanted, got = (_shape(of.get(name)) for of in (own, weights))
        if wanted != got:
            raise ConfigError(
                f"start: {path} has {got} for {name}, but {wanted} is expected. Start from a run "
                "of a model with the same options."
            )
    model.load_state_dict(weights)


def _shape(value: Tensor | None) -> str:
    return "nothing" if value is None else f"a tensor {list(value.shape)}"


def fitting(metric: str, negative: Mapping[str, Tensor]) -> str:
    """``metric`` in lower case, if it can be taken of these negatives; else ConfigError."""
    name = metric.lower()
    hits = re.fullmatch(r"hits@([1-9][0-9]{0,8})", name)
    if hits is None and name not in ("mrr", "rocauc", "ap"):
        raise ConfigError(f"metric is {metric!r}, but hits@K, mrr, rocauc or ap is expected.")
    own = all(pairs.dim() == 3 for pairs in negative.values())
    if name == "mrr" and not own:
        raise ConfigError(
            "metric is 'mrr', which ranks each link among pairs of its own, but all links share "
            "theirs here. Use hits@K or rocauc."
        )
    fewest = min(pairs.size(-2) for pairs in negative.values())
    if hits and int(hits[1]) > fewest:
        raise ConfigError(
            f"metric is {metric!r}, but there are {fewest} pairs without a link to rank among. "
            "Use a smaller K."
        )
    return name


def score(metric: str, positive: Tensor, negative: Tensor) -> float:
    """The ``metric`` of logits ``positive [n]`` of links and ``negative [m]`` or [n, K] of none."""
    if metric == "mrr":
        return metrics.mrr(positive, negative)
    if metric.startswith("hits@"):
        return metrics.hits_at(positive, negative, int(metric[5:]))
    negative = negative.reshape(-1)
    y = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)])
    return metrics.score(metric)(torch.cat([positive, negative]), y)


def beside(metric: str, positive: Tensor, negative: Tensor) -> dict[str, float]:
    """What these logits say beside ``metric``: MRR and hits at 20, 50 and 100, as far as there are
    pairs for them, and ``ties``, how much of it hangs on how equal scores are counted."""
    names = ["mrr"] if negative.dim() == 2 else []
    names += [f"hits@{k}" for k in (20, 50, 100) if k <= negative.size(-1)]
    found = {name: score(name, positive, negative) for name in names if name != metric}
    return {**found, "ties": metrics.tie_fraction(positive, negative)}


def scorer(
    model: Any, links: Joined, options: Mapping[str, Any], part: str
) -> Callable[[Tensor], Tensor]:
    """A function of pairs [..., 2] to their scores [...], the nodes encoded once for all calls.

    Messages run on the graph that is known when the pairs of ``part`` are scored.
    """
    graph, sampled = links.seen(part), bool(options.get("fanout"))
    with _cast(links, options):
        h = all_vectors(model, links, part) if sampled else model(links.x, graph)

    def of(pairs: Tensor) -> Tensor:
        some = pairs.reshape(-1, 2).split(model.at_once or options["batch_size"])
        with _cast(links, options):
            scores = [
                score_rows(model, h, batch) if sampled else model.score(h, batch, graph)
                for batch in some
            ]
        return torch.cat(scores).view(pairs.shape[:-1])

    return of


def logits(
    model: Any,
    links: Joined,
    groups: Sequence[Tensor],
    options: Mapping[str, Any],
    part: str = "val",
) -> list[Tensor]:
    """The scores [...] of each group of pairs [..., 2], as :func:`scorer` gives them."""
    of = scorer(model, links, options, part)
    return [of(pairs) for pairs in groups]


def _cast(links: Joined, options: Mapping[str, Any]) -> torch.autocast:
    return torch.autocast(
        links.graph.device.type, dtype=torch.bfloat16, enabled=options["amp"] == "bf16"
    )


def _loss(positive: Tensor, negative: Tensor) -> Tensor:
    """-log sigmoid of the logits of links, and of minus those of no links; means, added."""
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def _batches(edges: Tensor, options: Mapping[str, Any]) -> Iterator[Tensor]:
    """The ``edges [n, 2]`` in random order, in batches; of a short last one the options decide."""
    size = options["batch_size"]
    order = torch.randperm(len(edges), device=edges.device)
    if options.get("drop_last") and len(edges) > size:
        order = order[: len(edges) // size * size]
    for rows in order.split(size):
        yield edges[rows]


def problem(
    model: Any,
    seed: int,
    *,
    links: Links | Callable[..., Links],
    options: Mapping[str, Any],
    scores: dict[int, tuple[Tensor, Tensor]] | None = None,
) -> Problem:
    """Steps on batches of training edges; held-out pairs are read by ``validate`` and ``test``.

    ``links`` are those of all seeds, or a function of the ``seed`` that divides anew. ``scores``
    is given those of the test links and of the pairs without one if it is empty: of the first seed.
    """
    number = None if isinstance(links, Links) else seed
    divided = links if isinstance(links, Links) else links(seed=seed)
    clip, removed = options["clip"], options.get("targets") == "remove"
    if options.get("start"):
        begin_with(model, options["start"], seed)
    near = Neighborhoods(model, divided, options["fanout"], seed) if options.get("fanout") else None

    def step(pairs: Tensor, epoch: int, number: int) -> Tensor:
        absent = divided.absent.beside(pairs, options.get("negatives", "pairs"))
        asked, graph = torch.cat([pairs, absent]), divided.graph
        with _cast(divided, options):
            if near is not None:
                h, asked = near.encode(model, asked, epoch, number, pairs if removed else None)
            else:
                graph = without_edges(graph, pairs.t()) if removed else graph
                h = model(divided.x, graph)
            groups = [asked] if model.is_joint else asked.split(len(pairs))
            out = torch.cat([model.score(h, some, graph) for some in groups])
        return _loss(*out.split(len(pairs)))

    def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
        total, taken = 0.0, 0
        for number, pairs in enumerate(_batches(divided.positive["train"], options)):
            optimizer.zero_grad()
            loss = step(pairs, epoch, number)
            loss.backward()
            if clip:
                for part in model.children():
                    nn.utils.clip_grad_norm_(part.parameters(), clip)
            optimizer.step()
            total, taken = total + loss.item() * len(pairs), taken + len(pairs)
        return total / taken

    others: dict[str, float] = {}

    def outputs(part: str) -> list[Tensor]:
        groups = divided.positive[part], divided.negative[part]
        return logits(model, divided, groups, options, part)

    def validate() -> tuple[float, float]:
        positive, negative = outputs("val")
        loss = finite(_loss(positive, negative)) if model.is_logit else 0.0
        return loss, score(options["metric"], positive, negative)

    def test() -> float:
        positive, negative = outputs("test")
        # those of the first seed are drawn, and others would take memory to the end of the run
        if scores is not None and not scores:
            scores[seed] = positive.float().cpu(), negative.float().cpu()
        others.update(beside(options["metric"], positive, negative))
        return score(options["metric"], positive, negative)

    learns = any(p.requires_grad for p in model.parameters())
    epoch = train if learns else lambda *_: 0.0
    return Problem(number, epoch, validate, test, beside=lambda: others)


def _announce(
    console: Console, model: nn.Module, *, links: Links, options: Mapping[str, Any]
) -> None:
    """Say what is about to be trained on what."""
    num_nodes, weights = links.graph.num_dst, sum(p.numel() for p in model.parameters())
    later = "" if links.later is None else f", {links.later.num_edges:,} for the test links"
    features = "learnt vectors" if links.x is None else f"{links.x.size(1):,} features"
    sizes = ", ".join(
        f"{len(links.positive[part]):,} {name}"
        for part, name in zip(PARTS, ("training", "validation", "test"), strict=True)
    )
    for line in (
        f"{options['data']}: {num_nodes:,} nodes, {links.graph.num_edges:,} edges to send messages "
        f"along{later}, {features}",
        f"links: {sizes}",
        *(f"{what}: {count:,}" for what, count in count_oddities(links).items()),
        f"{options['model']}: {weights:,} parameters on {links.positive['train'].device}",
    ):
        plots.say(console, line)
