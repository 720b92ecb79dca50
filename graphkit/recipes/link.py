"""The recipe ``link``: full-batch link prediction. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from .. import metrics
from ..errors import ConfigError
from ..graph import Graph
from ..nn import MLP, build_model
from ..nn.linear import glorot_
from . import plots, report
from .links import PARTS, Joined, Links, find_links, link_card, links_digest, read_links
from .loop import Problem, finite
from .options import hints, prepare
from .runs import Job, carry_out

if TYPE_CHECKING:
    from torch_geometric.data import Data

# the models whose dropout can leave the learnt vectors whole, as OGB's examples do
ENCODERS = ("gcn", "sage", "gat", "gatv2", "gin", "mlp")


class LinkNet(nn.Module):
    """An encoder of nodes, and an MLP on the product of two of them: ``score(h, pairs) [...]``.

    Args:
        model: the encoder, one of ``graphkit.nn.MODELS``.
        num_nodes: number of nodes, each of which has a learnt vector where ``in_channels`` is None.
        in_channels: number of features.
        hidden: width of the learnt vectors, the encoder and the predictor.
        num_layers: layers of the encoder, and of the predictor.
        dropout: probability between layers; features and learnt vectors are not dropped.
    """

    def __init__(
        self,
        model: str,
        num_nodes: int,
        in_channels: int | None,
        hidden: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vectors = None
        if in_channels is None:
            self.vectors = nn.Embedding(num_nodes, hidden)
            glorot_(self.vectors.weight)
        widths = in_channels or hidden, hidden, hidden
        about: dict[str, Any] = dict(num_layers=num_layers, dropout=dropout, drop_input=False)
        self.encoder = build_model(model, *widths, **about)
        self.predictor = MLP([hidden] * num_layers + [1], dropout=dropout, norm=None)

    def forward(self, x: Tensor | None, graph: Graph) -> Tensor:
        """Vectors of the nodes, [N, hidden]."""
        return self.encoder(x if self.vectors is None else self.vectors.weight, graph)

    def score(self, h: Tensor, pairs: Tensor) -> Tensor:
        """The logit of a link for each of ``pairs [..., 2]``, float32 [...]."""
        product = h[pairs[..., 0]] * h[pairs[..., 1]]
        return self.predictor(product).squeeze(-1).float()


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
    hidden: int = 256,
    num_layers: int = 2,
    dropout: float = 0.5,
    lr: float = 0.005,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    batch_size: int = 65536,
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
    """Full-batch link prediction: an encoder of the training graph, an MLP on pairs of nodes.

    Each step encodes all nodes from the training edges, and tells a batch of these edges from as
    many pairs without one, drawn anew; an epoch takes every training edge once. Nodes without
    features get a learnt vector. The epoch is chosen by the validation links alone, the test links
    are scored once for each seed, after training. Folder, record and resuming are as for node.

    A data set that comes without links to hold out (one graph, such as digits or cora) is divided
    at random, 85, 5 and 10 % of its edges, the same way for all seeds. An edge and its reverse stay
    together where all edges go both ways, or are made to by --undirected.

    Args:
        data: data set to train on (see: graphkit data list); in Python also a PyG Data, with or
            without split_edge
        model: encoder: gcn, sage, gat, gatv2, gin or mlp
        seeds: seeds to run, such as 0, 0-9 or 0,3,5
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/link-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        amp: bf16 runs the model in bfloat16 where that is safe
        hidden: width of the learnt vectors and all layers
        num_layers: number of layers of the encoder, and of the MLP on pairs
        dropout: share of the inputs of each layer but the first dropped in training
        lr: learning rate of Adam
        weight_decay: L2 penalty of Adam, on all parameters
        clip: largest norm of the gradient of learnt vectors, of encoder and of MLP; 0 for any
        batch_size: training edges of one step
        epochs: most epochs to train
        patience: stop when the validation loss exceeds its mean over so many epochs before; 0 never
        select: keep the weights of the best validation score, or of the lowest validation loss
        metric: hits@K (such as hits@20), mrr, rocauc or ap; the data set's own if not given, else
            rocauc
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
    settled = prepare(link, locals(), ENCODERS)
    options, place = settled.options, settled.device
    named = link_card(data) if isinstance(data, str) else None
    if named is not None and named.kind == "link":
        metric = metric or named.metric
    links = read_links(find_links(data, root, split), place, undirected)
    options["metric"] = fitting(metric or "rocauc", links.negative)
    about = {
        "model": options["model"],
        "num_nodes": links.graph.num_dst,
        "in_channels": None if links.x is None else links.x.size(1),
        **{name: options[name] for name in ("hidden", "num_layers", "dropout")},
    }
    job = Job(
        task="link",
        title=f"{options['model']} on {options['data']}",
        metric=options["metric"],
        options=options,
        seeds=settled.seeds,
        device=place,
        work=max(links.graph.num_dst, 2 * batch_size) * hidden * hidden,
        data_digest=links_digest(links),
        build=partial(LinkNet, **about),
        problem=partial(problem, links=links, options=options),
        announce=partial(_announce, links=links, options=options),
        about={"recipe": "link", "net": about},
        command=settled.command,
        note=note,
        quiet=quiet,
        submission=submission,
        defects=named.defects if named is not None else (),
        closing=lambda record: hints(record, settled.command, ENCODERS),
    )
    return carry_out(job, out, resume)


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
    fewest = min(pairs[..., 0].numel() for pairs in negative.values())
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
    negative = negative.reshape(-1)
    if metric.startswith("hits@"):
        return metrics.hits_at(positive, negative, int(metric[5:]))
    y = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)])
    return metrics.score(metric)(torch.cat([positive, negative]), y)


def logits(
    model: Any, links: Joined, groups: Sequence[Tensor], options: Mapping[str, Any]
) -> list[Tensor]:
    """The logits [...] of each group of pairs [..., 2], the nodes encoded once for all."""
    with _cast(links, options):
        h = model(links.x, links.graph)

        def of(pairs: Tensor) -> Tensor:
            some = pairs.view(-1, 2).split(options["batch_size"])
            return torch.cat([model.score(h, part) for part in some]).view(pairs.shape[:-1])

        return [of(pairs) for pairs in groups]


def _cast(links: Joined, options: Mapping[str, Any]) -> torch.autocast:
    return torch.autocast(
        links.graph.device.type, dtype=torch.bfloat16, enabled=options["amp"] == "bf16"
    )


def _loss(positive: Tensor, negative: Tensor) -> Tensor:
    """-log sigmoid of the logits of links, and of minus those of no links; means, added."""
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def problem(model: Any, seed: int, *, links: Links, options: Mapping[str, Any]) -> Problem:
    """Steps on batches of training edges; held-out pairs are read by ``validate`` and ``test``."""
    size, clip, device = options["batch_size"], options["clip"], links.graph.device

    def step(pairs: Tensor) -> Tensor:
        with _cast(links, options):
            h = model(links.x, links.graph)
            return _loss(model.score(h, pairs), model.score(h, links.absent.draw(len(pairs))))

    def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
        edges, total = links.positive["train"], 0.0
        for rows in torch.randperm(len(edges), device=device).split(size):
            optimizer.zero_grad()
            loss = step(edges[rows])
            loss.backward()
            if clip:
                for part in model.children():
                    nn.utils.clip_grad_norm_(part.parameters(), clip)
            optimizer.step()
            total += loss.item() * len(rows)
        return total / len(edges)

    def outputs(part: str) -> list[Tensor]:
        return logits(model, links, (links.positive[part], links.negative[part]), options)

    def validate() -> tuple[float, float]:
        positive, negative = outputs("val")
        loss = finite(_loss(positive, negative))
        return loss, score(options["metric"], positive, negative)

    return Problem(None, train, validate, lambda: score(options["metric"], *outputs("test")))


def _announce(
    console: Console, model: nn.Module, *, links: Links, options: Mapping[str, Any]
) -> None:
    """Say what is about to be trained on what."""
    num_nodes, weights = links.graph.num_dst, sum(p.numel() for p in model.parameters())
    features = "learnt vectors" if links.x is None else f"{links.x.size(1):,} features"
    sizes = ", ".join(
        f"{len(links.positive[part]):,} {name}"
        for part, name in zip(PARTS, ("training", "validation", "test"), strict=True)
    )
    for line in (
        f"{options['data']}: {num_nodes:,} nodes, {links.graph.num_edges:,} edges to send messages "
        f"along, {features}",
        f"links: {sizes}",
        f"{options['model']}: {weights:,} parameters on {links.positive['train'].device}",
    ):
        plots.say(console, line)
