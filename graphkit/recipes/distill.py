"""The recipe ``distill``: an MLP learns what a model of graphs knows. (opt: torch_geometric)"""

# annotations are evaluated here: the command line takes its types from them, and knows those that
# stay strings as being for Python callers
import json
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console
from torch import Tensor, nn

from ..data import card, is_path, load
from ..data import check as check_data
from ..data.hyper_tables import is_hypergraph
from ..errors import ConfigError, DataError, nearest
from ..nn import HYPER_MODELS, MODELS
from ..store import atomic, save_tensors
from . import distill_plots, memory, plots, report
from .lesson import Lesson, Taught, student_about
from .loop import Problem
from .options import METHODS, locate, prepare
from .runs import Job, carry_out
from .staged import Staged
from .task import class_names, task_of
from .teaching import read_taught, reads_hypergraphs

if TYPE_CHECKING:
    from torch_geometric.data import Data

# what is not given, as the papers' code has it: on graphs, on hypergraphs, of the tokenizer
_GRAPH: dict[str, Any] = dict(
    singletons="isolated",
    teacher="sage",
    val_per_class=30,
    hide=0.2,
    nodes="largest",
    student_batch=512,
    student_norm="none",
    dropout=0.6,
    weight_decay=0.005,
    epochs=500,
    patience=50,
    teacher_hidden=128,
    teacher_dropout=0.0,
    teacher_weight_decay=5e-4,
    teacher_epochs=500,
    teacher_patience=50,
)
_HYPER: dict[str, Any] = dict(
    singletons="isolated",
    teacher="hgnn",
    val_per_class=100,
    hide=0.9,
    nodes="all",
    student_batch=0,
    student_norm="batch_norm",
    dropout=0.5,
    weight_decay=5e-4,
    epochs=200,
    patience=0,
    teacher_hidden=32,
    teacher_dropout=0.5,
    teacher_weight_decay=5e-4,
    teacher_epochs=200,
    teacher_patience=0,
)
# its code drops 0.8, with which validation on Cora is 0.8 points lower
_TOKENIZER: dict[str, Any] = dict(teacher="gcn", teacher_dropout=0.5, teacher_weight_decay=1e-3)


def distill(
    *,
    data: "str | Data | None" = None,
    model: Literal["glnn", "vqgraph", "lighthgnn", "lighthgnn+"] = "glnn",
    teacher: str | None = None,
    teacher_run: str | None = None,
    seeds: "str | int | Sequence[int]" = "0",
    root: str | None = None,
    out: str | None = None,
    split: str | None = None,
    num_splits: int = 1,
    train_per_class: int = 20,
    val_per_class: int | None = None,
    setting: Literal["transductive", "production"] = "transductive",
    hide: float | None = None,
    nodes: Literal["auto", "largest", "all"] = "auto",
    undirected: bool = False,
    row_normalize: bool = False,
    singletons: Literal["auto", "all", "isolated", "none"] = "auto",
    features: Literal["auto", "own", "structural"] = "auto",
    device: "str | torch.device" = "auto",
    lam: float = 0.0,
    tau: float = 1.0,
    divergence: Literal["correct", "official"] = "correct",
    noise: float = 1.0,
    token_weight: float = 1.0,
    token_tau: float = 0.1,
    token_metric: Literal["cosine", "euclidean"] = "cosine",
    num_codes: int = 1024,
    code_channels: int = 256,
    recon: Literal["official", "paper"] = "official",
    edge_samples: int = -1,
    hidden: int = 128,
    widths: str = "",
    num_layers: int = 2,
    student_norm: Literal["auto", "none", "batch_norm"] = "auto",
    dropout: float | None = None,
    lr: float = 0.01,
    weight_decay: float | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    student_batch: int | None = None,
    teacher_hidden: int | None = None,
    teacher_layers: int = 2,
    teacher_dropout: float | None = None,
    teacher_options: "str | Mapping[str, Any]" = "",
    teacher_lr: float = 0.01,
    teacher_weight_decay: float | None = None,
    teacher_epochs: int | None = None,
    teacher_patience: int | None = None,
    test_chosen: bool = False,
    metric: str | None = None,
    allow_nonfinite: bool = False,
    quiet: bool = False,
    resume: "str | None" = None,
    command: "str | None" = None,
    note: "str | None" = None,
) -> report.Record:
    """Teach an MLP what a model of a graph or hypergraph knows; then no graph is needed any more.

    For each seed a teacher is trained, then an MLP on the labels alone, then the student, an MLP of
    the same shape and the same first weights that learns from the teacher. Of all three the epoch
    is chosen by the validation nodes, and the test nodes are scored once. Accuracies and latencies
    of the three stand side by side in distill-seedN.json, distill.png and below the result. The
    weights in the run folder are the student's, in the form of those of graphkit train node --model
    mlp; the teacher's are in teacher-seedN.safetensors.

    Nodes are divided anew by every seed, 20 of each class for training and 30 for validation (100
    on hypergraphs), graphs cut to their largest component. What is not given here has the value of
    the published code, on graphs that of GLNN and VQGraph, on hypergraphs that of LightHGNN. In
    the setting production a share of the test nodes is hidden while teacher and student learn; the
    result counts all test nodes, observed and hidden say how each of them fare.

    Args:
        data: data set of nodes of a graph or hypergraph (see: graphkit data list), or path of your
            own; in Python also a PyG Data or HyperGraphData (default: cora, or that of teacher_run)
        model: what the student learns, glnn, soft labels; vqgraph, codes for the structure around
            a node beside them; lighthgnn, soft labels of a model of hypergraphs; lighthgnn+, what
            reliable hyperedges say beside them
        teacher: any model of the recipe node, or of hypergraphs such as hgnn; of vqgraph gcn or
            sage, the convolutions of its tokenizer (default: sage; gcn for vqgraph, hgnn on
            hypergraphs)
        teacher_run: finished run of node, hyper or distill whose models teach, on its data and its
            splits; seeds must be among its seeds
        seeds: seeds to run, such as 0, 0-9 or 0,3,5
        root: folder of downloaded data sets
        out: run folder to make; must not exist (default: runs/distill-DATA-MODEL-TIME)
        split: split of the data set, where it has several kinds; counts with train_per_class 0
        num_splits: number of splits to draw, where the split is drawn and not published
        train_per_class: training nodes of each class; 0 takes the split of the data
        val_per_class: validation nodes of each class
        setting: transductive sees all nodes, production hides a share of the test nodes
        hide: that share (default: 0.2 on graphs, 0.9 on hypergraphs)
        nodes: largest learns on the largest connected component alone; auto is that on graphs, and
            all on hypergraphs
        undirected: add the reverse of every edge
        row_normalize: scale the features of each node to sum 1
        singletons: hyperedges of one member to add, all, for each node that has none; isolated, for
            nodes in no hyperedge; none; auto is isolated
        features: of a hypergraph, own, or structural ones of degrees and sizes; auto takes its own
            if it has some
        device: auto, cpu, cuda or cuda:N; auto takes cuda if there is one
        lam: weight of the labels, from 0, where the teacher alone teaches, to 1
        tau: temperature of the soft labels
        divergence: correct, or official, the defective form of LightHGNN's and VQGraph's code
        noise: of lighthgnn+, the noise on features under which predictions waver
        token_weight: of vqgraph, weight of the codes; its code has 1e-8
        token_tau: of vqgraph, temperature of the codes; its code has 4
        token_metric: of vqgraph, how the student's vectors are compared with codes; its code
            compares them by distances and the teacher's by cosines
        num_codes: of vqgraph, number of codes; its code has 5000
        code_channels: of vqgraph, width of the codes; 0 for that of the features, as in its code
        recon: of vqgraph, what codes are to bring back, as its code or its paper has it
        edge_samples: of vqgraph, edges that are looked at in a step, 0 for all pairs of nodes; -1
            for all pairs of up to 4096 nodes, else 65536 edges
        hidden: width of the student's hidden layers
        widths: further widths of students, such as 16,32,64; the narrowest that is within 0.5
            points of the best on the validation nodes is named
        num_layers: layers of the student
        student_norm: none, or batch_norm, which stands behind the activation; auto is none on
            graphs, batch_norm on hypergraphs
        dropout: share of the student's hidden units dropped in training
        lr: learning rate of the student
        weight_decay: L2 penalty of the student
        epochs: most epochs of the student
        patience: stop when the epoch that is kept is so many epochs old; 0 never
        student_batch: nodes of one step of the student, 0 for all
        teacher_hidden: width of the teacher's hidden layers
        teacher_layers: layers of the teacher
        teacher_dropout: share of the inputs of each layer of the teacher dropped in training
        teacher_options: options of the teacher's own, such as hops=10,alpha=0.1
        teacher_lr: learning rate of the teacher
        teacher_weight_decay: L2 penalty of the teacher
        teacher_epochs: most epochs of the teacher
        teacher_patience: as patience, of the teacher
        test_chosen: report too what the epoch of the best test score gives, as the official code of
            VQGraph; nothing else looks at it
        metric: accuracy
        allow_nonfinite: accept NaN and Inf among the features of data of your own
        quiet: print nothing
        resume: folder of a run of these options that was stopped, to go on in
        command: command that repeats the run, where it is not made of these options
        note: line to print under the result

    Raises:
        ConfigError: an option is unknown or out of range, or training diverged.
        DataError: the data set is unknown or malformed, or a class has too few nodes.
        StoreError: the run folder exists or cannot be written, or teacher_run is no such run.
        BackendError: the device is not there.
    """
    given = dict(locals())
    taught = None if teacher_run is None else Taught.read(Path(teacher_run))
    given = settings(given, taught)
    settled = prepare(distill, given, METHODS)
    options, place = settled.options, settled.device
    check_options(options)
    found, defects = _read(given["data"], root, options, allow_nonfinite)
    whole = read_taught(found, place, options)
    task = task_of(whole.y, metric, getattr(found, "num_classes", None))
    if task.metric != "accuracy":
        raise ConfigError(f"metric is {metric!r}, but students are compared by accuracy.")
    options["metric"] = task.metric
    names = class_names(getattr(found, "class_names", None), task.width)
    if taught is not None:
        taught.check(whole, settled.seeds, task)
    lesson = partial(Lesson, whole=whole, options=options, task=task, taught=taught)
    about = student_about(whole, options, task)
    students = 1 + len(width_list(options))
    teaching = 0 if taught is not None else options["teacher_epochs"]
    job = Job(
        task="distill",
        title=f"{options['model']} on {options['data']}",
        metric=task.metric,
        higher=True,
        options=options,
        seeds=settled.seeds,
        device=place,
        work=whole.x.numel() * max(options["hidden"], options["teacher_hidden"]),
        data_digest=whole.digest(),
        build=lambda: Lesson.student(about),
        problem=_no_problem,
        stages=lambda seed: _stages(lesson(seed)),
        all_epochs=teaching + (1 + students) * options["epochs"],
        weights=plain_weights,
        announce=partial(_announce, lesson=lesson, seed=settled.seeds[0], options=options),
        about={**about, "class_names": names},
        defects=defects,
        command=settled.command,
        note=note,
        quiet=quiet,
        on_board=False,
        loss="loss (nats)",
        closing=lambda record: _closing(record, options, settled.command),
        pictures=partial(distill_plots.of_run, seeds=settled.seeds, title=options["data"]),
    )
    return carry_out(job, out, resume)


def settings(given: Mapping[str, Any], taught: Taught | None) -> dict[str, Any]:
    """The options ``given``, what is left open filled in, and the command that repeats the run."""
    options = dict(given)
    model = str(given["model"]).lower()
    data = given["data"] if given["data"] is not None else "cora"
    if taught is not None:
        options |= taught.inherited(given)
        data = options["data"]
    hyper = model.startswith("lighthgnn")
    if isinstance(data, str) and not is_path(data):
        hyper |= card(data).kind == "hypergraph"
    elif isinstance(data, str):
        hyper |= is_hypergraph(data)
    else:
        hyper |= type(data).__name__ == "HyperGraphData"
    usual = dict(_HYPER if hyper else _GRAPH)
    usual |= _TOKENIZER if model == "vqgraph" else {}
    if taught is not None:
        usual["teacher"] = taught.name
    for name, value in usual.items():
        options[name] = value if options.get(name) in (None, "auto") else options[name]
    options["data"] = data
    if options["command"] is None and isinstance(data, str):
        asked = {**given, "data": locate(data, given["root"], given["split"])["data"]}
        options["command"] = report.command("distill", asked, report.defaults(distill))
    return options


def check_options(options: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` for options that do not go together."""
    model, teacher = options["model"], options["teacher"]
    known = [*MODELS, *HYPER_MODELS]
    if options["teacher_run"] is None:
        if teacher not in known:
            raise ConfigError(f"teacher is {teacher!r}. {nearest(str(teacher), known)}")
        if model == "vqgraph" and teacher not in ("gcn", "sage"):
            raise ConfigError(
                f"teacher is {teacher!r}, but that of vqgraph is its tokenizer, whose convolutions "
                "are gcn or sage. Name one of these, or another model than vqgraph."
            )
    if model.startswith("lighthgnn") and not reads_hypergraphs(teacher):
        raise ConfigError(
            f"teacher is {teacher!r}, but {model} learns from a model of hypergraphs. "
            f"{nearest(str(teacher), HYPER_MODELS)}"
        )
    if model == "lighthgnn+" and options["student_batch"]:
        raise ConfigError(
            f"student_batch is {options['student_batch']}, but lighthgnn+ compares whole "
            "hyperedges. Leave it at 0."
        )
    width_list(options)


def width_list(options: Mapping[str, Any]) -> list[int]:
    """The widths beside ``hidden``; :class:`ConfigError` if they are no list of numbers."""
    text = str(options["widths"]).replace(" ", "")
    parts = [part for part in text.split(",") if part]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"widths is {text!r}, but widths such as 16,32,64 are expected.")
    return [width for width in dict.fromkeys(map(int, parts)) if width != options["hidden"]]


def plain_weights(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the MLP among those of a student."""
    start = "mlp."
    return {name[len(start) :]: value for name, value in kept.items() if name.startswith(start)}


def _read(
    data: Any, root: str | None, options: Mapping[str, Any], allow_nonfinite: bool
) -> tuple[Any, Sequence[str]]:
    """The data, and the known defects of its card."""
    if not isinstance(data, str):
        if type(data).__name__ != "HyperGraphData" and not options["train_per_class"]:
            check_data(data, allow_nonfinite=allow_nonfinite)
        return data, ()
    if is_path(data):
        return load(data, allow_nonfinite=allow_nonfinite), ()
    this = card(data)
    if this.kind not in ("node", "hypergraph"):
        raise DataError(
            f"{this.name} is for {this.task}, but this recipe learns the nodes of one graph or "
            "hypergraph. See graphkit data list --kind node for those."
        )
    # the split of the data is read where no other is drawn
    own = {} if options["train_per_class"] else {"split": options["split"]}
    count = {} if options["train_per_class"] else {"num_splits": options["num_splits"]}
    return load(data, root, **own, **count), this.defects


def _no_problem(model: nn.Module, seed: int) -> Problem:
    raise AssertionError("a seed has stages")


def _stages(lesson: Lesson) -> tuple[Staged, Problem]:
    """The trainings of a seed, and what it leaves behind."""
    staged = lesson.staged()

    def keep(folder: Path) -> None:
        with atomic(folder / f"distill-seed{lesson.seed}.json") as side:
            text = json.dumps(lesson.told(), indent=1, allow_nan=False)
            side.write_text(text + "\n", encoding="utf-8")
        weights, about = lesson.teacher_weights()
        save_tensors(folder / f"teacher-seed{lesson.seed}.safetensors", weights, about)

    problem = Problem(
        lesson.split,
        # each of the trainings has its own
        train=lambda optimizer, epoch: 0.0,
        validate=lambda: (0.0, 0.0),
        test=lambda: lesson.results["student"]["test"],
        beside=lesson.beside,
        scores=lesson.scores,
        keep=keep,
    )
    return staged, problem


def _announce(
    console: Console,
    model: nn.Module,
    *,
    lesson: Any,
    seed: int,
    options: Mapping[str, Any],
) -> None:
    """Say who is about to teach whom on what."""
    with memory.seeded(seed, torch.device(options["device"])):
        this: Lesson = lesson(seed)
        weights, predicted = this.size_of_teacher()
    whole, seen = this.whole, this.seen
    what = "incidences" if whole.hyper else "edges"
    sizes = ", ".join(
        f"{len(seen.rows[part]):,} {name}"
        for part, name in (("train", "training"), ("val", "validation"), ("test", "test"))
    )
    sizes += f", {len(seen.hidden):,} of the test hidden" if len(seen.hidden) else ""
    lines = [
        f"{options['data']}: {len(whole.y):,} nodes, {whole.graph.num_edges:,} {what}, "
        f"{whole.x.size(1):,} features, {this.task.width} classes",
        f"split of seed {seed}: {sizes}",
        f"teacher {options['teacher']}: {weights:,} parameters on {whole.x.device}; student, an "
        f"MLP: {sum(p.numel() for p in model.parameters()):,}",
        f"predicted peak memory: {predicted or 'unknown (an op has no shape function)'}",
    ]
    lines += [whole.told] if whole.told else []
    for line in lines:
        plots.say(console, line)


def _closing(record: report.Record, options: Mapping[str, Any], command: str | None) -> list[str]:
    """Teacher, student and MLP side by side, widths, codes; and what to do next."""
    told = distill_plots.read_told(Path(record.run), record.seeds)
    lines = distill_plots.table(told)
    if options["widths"]:
        lines += _narrowest(told, options, command)
    if told and "codes" in told[0]:
        share = sum(one["codes"]["share"] for one in told) / len(told)
        perplexity = sum(one["codes"]["perplexity"] for one in told) / len(told)
        lines.append(
            f"codes:       {100 * share:.1f} % of {options['num_codes']:,} in use, perplexity "
            f"{perplexity:.0f}; codes.png"
        )
    if command is None:
        return lines
    lines += [
        f"picture:     {Path(record.run) / 'distill.png'}",
        f"predict:     graphkit predict {shlex.quote(record.run)}",
        f"repeat:      {command}",
    ]
    more = report.amend(command, "seeds", "0-9")
    if len(record.rows) > 1:
        more = report.amend(command, "widths", "16,32,64,128")
    return [*lines, f"try next:    {more}"]


def _narrowest(
    told: Sequence[Mapping[str, Any]], options: Mapping[str, Any], command: str | None
) -> list[str]:
    """All widths, and the narrowest that validation finds as good as the best."""
    found = distill_plots.by_width(told, options["hidden"])
    width = distill_plots.narrowest(found)
    lines = [
        f"width {w:>6}: validation {v['val']:.2f}, test {v['test']:.2f}, {v['ms']:.2f} ms"
        for w, v in found.items()
    ]
    text = f"narrowest:   {width}, within {distill_plots.WITHIN} points of the best by validation"
    if command is not None and width != options["hidden"]:
        text += f": {report.amend(report.amend(command, 'widths', ''), 'hidden', str(width))}"
    return [*lines, text]
