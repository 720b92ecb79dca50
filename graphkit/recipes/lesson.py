"""One seed of ``distill``: a teacher, an MLP without one, and the students that it has."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, StoreError
from ..graph import Graph
from ..nn import (
    HYPER_MODELS,
    MLP,
    MODELS,
    GraphTokenizer,
    build_model,
    code_affinity,
    code_divergence,
    code_usage,
    distillation_loss,
    hyperedge_divergence,
    hyperedge_reliability,
    sample_hyperedges,
)
from ..nn.sparse import mapped
from . import memory, report
from .loop import Problem, Training, finite
from .options import read_model_options
from .predictions import Source, node_model
from .staged import Stage, Staged
from .task import Task
from .teaching import Seen, Whole, observe

# what a run that teaches says about its data
_OF_DATA = ("data", "split", "num_splits", "undirected", "row_normalize", "singletons")
_OF_SPLIT = ("train_per_class", "val_per_class", "setting", "hide", "nodes")


class Student(nn.Module):
    """An MLP, and in training the map from its last hidden layer to codes, where there are any."""

    def __init__(self, about: Mapping[str, Any], code_channels: int | None = None) -> None:
        super().__init__()
        self.mlp: MLP = node_model(about)  # pyright: ignore[reportAttributeAccessIssue]
        self.codes = None
        if code_channels is not None:
            # what is drawn afterwards is what a student without codes draws
            with torch.random.fork_rng([]):
                self.codes = nn.Linear(self.mlp.channel_list[-2], code_channels)

    def forward(self, x: Tensor, graph: Graph | None = None) -> Tensor:
        return self.mlp(x, graph)

    def coded(self, x: Tensor, graph: Graph | None = None) -> tuple[Tensor, Tensor]:
        """Logits, and what is compared with the codes."""
        assert self.codes is not None, "a student of codes"
        h = self.mlp.hidden(x, graph)
        return mapped(h, self.mlp.lins[-1]), mapped(h, self.codes)


def student_about(whole: Whole, options: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """What is kept beside the student's weights, in the form of a run of ``node``."""
    norm = None if options["student_norm"] == "none" else options["student_norm"]
    return {
        "model": "mlp",
        "widths": (whole.x.size(1), options["hidden"], task.width),
        "task": asdict(task),
        "num_layers": options["num_layers"],
        "dropout": options["dropout"],
        "norm": norm,
        "drop_input": True,
        "num_nodes": len(whole.y),
        "model_options": {"act_first": norm is not None},
    }


def build_teacher(about: Mapping[str, Any]) -> nn.Module:
    """The teacher that ``about`` describes."""
    if about["kind"] == "tokenizer":
        return GraphTokenizer(**about["tokenizer"])
    settings = {name: about[name] for name in ("num_layers", "dropout", "num_nodes")}
    models = HYPER_MODELS if about["kind"] == "hyper" else MODELS
    settings |= {"models": models, **about["model_options"]}
    return build_model(about["model"], *about["widths"], **settings)


def teacher_about(whole: Whole, options: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The description of the teacher that ``options`` ask for."""
    widths = whole.x.size(1), options["teacher_hidden"], task.width
    if options["model"] == "vqgraph":
        names = ("num_codes", "recon")
        tokenizer = {name: options[name] for name in names}
        ends = zip(("in_channels", "hidden_channels", "out_channels"), widths, strict=True)
        tokenizer |= dict(ends) | {"conv": options["teacher"]}
        tokenizer |= {"dropout": options["teacher_dropout"]}
        tokenizer |= {"code_channels": options["code_channels"] or None}
        samples = options["edge_samples"]
        tokenizer |= {"edge_samples": None if samples < 0 else samples}
        return {"kind": "tokenizer", "model": options["teacher"], "tokenizer": tokenizer}
    models = HYPER_MODELS if whole.hyper else MODELS
    own = read_model_options(options["teacher"], options["teacher_options"], models)
    return {
        "kind": "hyper" if whole.hyper else "graph",
        "model": options["teacher"],
        "widths": widths,
        "num_layers": options["teacher_layers"],
        "dropout": options["teacher_dropout"],
        "num_nodes": len(whole.y),
        "model_options": own,
    }


@dataclass(frozen=True)
class Taught:
    """A finished run whose models teach: its folder, its recipe, its options."""

    folder: Path
    recipe: str
    options: Mapping[str, Any]
    data_digest: str | None

    @staticmethod
    def read(folder: Path) -> Taught:
        """The run in ``folder``; ConfigError for one of other recipes, StoreError for no run."""
        config = report.read_config(folder, own_data=True)
        recipe = config["recipe"]
        if recipe not in ("node", "hyper", "distill"):
            raise ConfigError(
                f"teacher_run: {folder} is a run of {recipe!r}, but one of node, hyper or distill "
                "is expected."
            )
        if not report.is_finished(folder):
            raise StoreError(
                f"teacher_run: the run in {folder} is not finished. Go on with it: "
                f"{report.resume_command(folder)}"
            )
        return Taught(folder, recipe, config["options"], config.get("data_digest"))

    @property
    def name(self) -> str:
        """The model that teaches."""
        return self.options["teacher" if self.recipe == "distill" else "model"]

    def inherited(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options about data and split, which are those of the run.

        Raises :class:`ConfigError` where others are given.
        """
        own = {name: self.options[name] for name in _OF_DATA if name in self.options}
        if self.recipe == "distill":
            own |= {name: self.options[name] for name in _OF_SPLIT}
        else:
            own |= dict(train_per_class=0, nodes="all", setting="transductive")
        if own["data"] == "custom":
            if given["data"] is None or isinstance(given["data"], str):
                raise ConfigError(
                    f"teacher_run: {self.folder} learnt from an object, which only Python can give "
                    "again, as data."
                )
            own["data"] = given["data"]
        elif given["data"] is not None and given["data"] != own["data"]:
            raise ConfigError(
                f"data is {given['data']!r}, but teacher_run learnt {own['data']!r}. Leave it out."
            )
        if given["setting"] not in (own["setting"], "transductive"):
            raise ConfigError(
                f"setting is {given['setting']!r}, but the teacher of {self.folder} saw all nodes. "
                "Leave out one of setting and teacher_run."
            )
        return own

    def check(self, whole: Whole, seeds: list[int], task: Task) -> None:
        """Raise unless the run has a model of each seed, for these features and classes."""
        if self.recipe == "distill" and self.data_digest != whole.digest():
            raise ConfigError(
                f"teacher_run: {self.folder} learnt from other data. Give that of the run."
            )
        record = report.read_record(self.folder)
        missing = [seed for seed in seeds if seed not in record.seeds]
        if missing:
            raise ConfigError(
                f"teacher_run: {self.folder} has the seeds {record.seeds}, but {missing} are asked "
                "for too. Run these, or leave them out."
            )
        for seed in seeds[:1]:
            _, about = self.model(seed, whole.x.device)
            found = about["tokenizer"] if about.get("kind") == "tokenizer" else about
            ends = (found["in_channels"], found["out_channels"]) if "conv" in found else None
            ends = (found["widths"][0], found["widths"][2]) if ends is None else ends
            if ends != (whole.x.size(1), task.width):
                raise ConfigError(
                    f"teacher_run: the teacher maps {ends[0]} features to {ends[1]} classes, but "
                    f"the data has {whole.x.size(1)} and {task.width}."
                )

    def model(self, seed: int, device: torch.device) -> tuple[nn.Module, Mapping[str, Any]]:
        """The teacher of ``seed`` with its weights, in evaluation mode, and what it is."""
        about: dict[str, Any] = dict(folder=self.folder, recipe=self.recipe, options=self.options)
        about |= dict(seed=seed, device=device, name=self.options["data"], same=True)
        # what it is applied to is not read by it
        about |= dict.fromkeys(("data_digest", "given", "root", "pairs"))
        source = Source(**about)
        if self.recipe == "distill":
            return source.weights(build_teacher, "teacher")
        model, about = source.weights(partial(node_model, recipe=self.recipe))
        return model, {**about, "kind": "hyper" if self.recipe == "hyper" else "graph"}


class Lesson:
    """What ``seed`` is to learn, and what came of it: ``results`` by who was scored.

    Those are ``teacher``, ``mlp``, ``student``, and ``student-W`` for each width of ``widths``:
    accuracies ``val`` and ``test``, in production ``observed`` and ``hidden`` too, the epoch, the
    number of parameters, and ``ms``, the median time for all nodes of the data at once.
    """

    def __init__(
        self,
        seed: int,
        *,
        whole: Whole,
        options: Mapping[str, Any],
        task: Task,
        taught: Taught | None,
    ) -> None:
        self.seed, self.whole, self.options, self.task = seed, whole, options, task
        self.taught = taught
        self.split = whole.rows(seed, options)[0]
        self.seen: Seen = observe(whole, seed, options)
        self.results: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, Any] | None = None
        self.teacher: Any = None
        self.about: Mapping[str, Any] = {}
        self.logits = torch.empty(0)
        # of a tokenizer: what its codes were chosen for, and the codes
        self.h = self.codebook = torch.empty(0)
        self.final: Student | None = None

    @staticmethod
    def student(about: Mapping[str, Any]) -> Student:
        """A student that is not to learn codes."""
        return Student(about)

    def staged(self) -> Staged:
        """The trainings of the seed, one after another."""
        widths = dict.fromkeys(
            int(width) for width in self.options["widths"].replace(" ", "").split(",") if width
        )
        stages: list[Stage] = []
        if self.taught is None:
            stages.append(Stage("teacher", self._begin_teacher, self._teacher_done))
        else:
            with memory.seeded(self.seed, self.whole.x.device), torch.no_grad():
                self.teacher, self.about = self.taught.model(self.seed, self.whole.x.device)
                self._learnt(None)
        hidden = self.options["hidden"]
        stages.append(self._of_student("mlp", hidden))
        stages += [self._of_student(f"student-{w}", w) for w in widths if w != hidden]
        stages.append(self._of_student("student", hidden))
        return Staged(stages, self.seed)

    def told(self) -> dict[str, Any]:
        """What ``distill-seedN.json`` holds."""
        found = {"seed": self.seed, "threads": torch.get_num_threads(), **self.results}
        return found if self.codes is None else {**found, "codes": self.codes}

    def beside(self) -> dict[str, float]:
        """What the test shows beside the student's score."""
        found = {name: self.results[name]["test"] for name in ("teacher", "mlp")}
        own = self.results["student"]
        return found | {name: own[name] for name in ("observed", "hidden") if name in own}

    def scores(self, by: str) -> dict[str, float]:
        """With ``test_chosen`` the student's test score as it is now, under the name ``by``."""
        if not self.options["test_chosen"] or self.final is None:
            return {}
        return {by: self._scored(self.final.eval())["test"]}

    def teacher_weights(self) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
        """The teacher's weights, and what it is."""
        return dict(self.teacher.state_dict()), {**self.about, "seed": self.seed}

    def size_of_teacher(self) -> tuple[int, memory.Prediction | None]:
        """Its number of parameters, and the peak memory of its training."""
        if self.taught is not None:
            model, _ = self.taught.model(self.seed, self.whole.x.device)
            return _count(model), None
        model = build_teacher(teacher_about(self.whole, self.options, self.task))
        x, y = self.seen.x.to("meta"), self.seen.y.to("meta")
        over = [part.to("meta") for part in self.seen.over]
        rows = self.seen.rows["train"].to("meta")

        def step(shapes: nn.Module) -> Tensor:
            return self._teacher_loss(shapes, x, over, y, rows)

        return _count(model), memory.predict_step(model, step, self.seen.x.device)

    # the teacher

    def _begin_teacher(self) -> tuple[Training, Problem]:
        seen, options = self.seen, self.options
        self.about = teacher_about(self.whole, options, self.task)
        model = build_teacher(self.about).to(seen.x.device)
        self.teacher = model

        def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
            optimizer.zero_grad()
            loss = self._teacher_loss(model, seen.x, seen.over, seen.y, seen.rows["train"])
            loss.backward()
            optimizer.step()
            return loss.item()

        problem = self._problem(train, lambda: model(seen.x, *seen.over))
        return self._training(model, "teacher_"), problem

    def _teacher_loss(
        self, model: nn.Module, x: Tensor, over: Sequence[Any], y: Tensor, rows: Tensor
    ) -> Tensor:
        if isinstance(model, GraphTokenizer):
            tokens, graph = model.tokens(x, over[0]), over[0]
            return self.task.loss(tokens.logits[rows], y[rows]) + model.auxiliary(tokens, x, graph)
        return self.task.loss(model(x, *over)[rows], y[rows])

    def _teacher_done(self, training: Training) -> None:
        self._learnt(training)

    def _learnt(self, training: Training | None) -> None:
        """Take from the teacher what the students need, and score it."""
        model, seen, whole = self.teacher, self.seen, self.whole
        if isinstance(model, GraphTokenizer):
            tokens = model.tokens(seen.x, seen.graph)
            self.logits, self.h = tokens.logits, tokens.h
            self.codebook = model.quantize.get_buffer("codebook")
            usage = code_usage(tokens.index, model.quantize.num_codes)
            counts = usage.counts.sort(descending=True).values
            self.codes = {"share": usage.share, "perplexity": usage.perplexity}
            self.codes |= {"counts": counts[counts > 0].tolist(), "of": len(counts)}
        else:
            self.logits = model(seen.x, *seen.over)
        after = model(whole.x, *whole.over) if len(seen.hidden) else None
        found = self._accuracies(self.logits, None if after is None else after[seen.hidden])
        self._note("teacher", found, training, model, lambda: model(whole.x, *whole.over))

    # the students

    def _of_student(self, name: str, width: int) -> Stage:
        begin, done = partial(self._begin_student, name, width), partial(self._student_done, name)
        return Stage(name, begin, done)

    def _begin_student(self, name: str, width: int) -> tuple[Training, Problem]:
        seen, options = self.seen, self.options
        about = student_about(self.whole, {**options, "hidden": width}, self.task)
        coded = options["model"] == "vqgraph" and name != "mlp"
        model = Student(about, self.codebook.size(1) if coded else None).to(seen.x.device)
        if name == "student":
            self.final = model
        loss = self._loss_without(model) if name == "mlp" else self._loss(model)
        size, count = options["student_batch"], len(seen.y)
        batches = 1 if name == "mlp" or not size else max(1, count // size)

        def train(optimizer: torch.optim.Optimizer, epoch: int) -> float:
            total = 0.0
            # with less than two batches no node is left out
            order = torch.randperm(count)[: batches * size].chunk(batches) if batches > 1 else ()
            for rows in order or (None,):
                optimizer.zero_grad()
                value = loss(None if rows is None else rows.to(seen.x.device), epoch)
                value.backward()
                optimizer.step()
                total += value.item()
            return total / batches

        outputs = partial(model, seen.x, seen.graph)
        return self._training(model, ""), self._problem(train, outputs, name == "student")

    def _loss_without(self, model: Student) -> Callable[[Tensor | None, int], Tensor]:
        seen = self.seen
        rows = seen.rows["train"]
        x, y = seen.x[rows], seen.y[rows]
        return lambda batch, epoch: self.task.loss(model(x), y)

    def _loss(self, model: Student) -> Callable[[Tensor | None, int], Tensor]:
        """The loss of a batch of nodes, or of all, in an epoch."""
        seen, options = self.seen, self.options
        form = options["divergence"]
        plain: dict[str, Any] = dict(lam=options["lam"], tau=options["tau"], divergence=form)
        reliability = None
        if options["model"] == "lighthgnn+":
            draw = torch.Generator().manual_seed(self.seed)
            weight = seen.over[1:]
            teacher = partial(_weighted, self.teacher, weight)
            reliability = hyperedge_reliability(teacher, seen.x, seen.graph, draw, options["noise"])

        def loss(batch: Tensor | None, epoch: int) -> Tensor:
            rows: Any = slice(None) if batch is None else batch
            given = (seen.x, seen.graph) if batch is None else (seen.x[rows], None)
            teacher, y, mask = self.logits[rows], seen.y[rows], seen.mask[rows]
            if options["model"] == "vqgraph":
                out, own = model.coded(*given)
                value = distillation_loss(out, teacher, y, mask, **plain)
                if not options["token_weight"]:
                    return value
                of_student = code_affinity(own, self.codebook, options["token_metric"])
                of_teacher = code_affinity(self.h[rows], self.codebook)
                codes = code_divergence(of_student, of_teacher, options["token_tau"], form)
                return value + options["token_weight"] * codes
            out, beyond = model(*given), None
            if reliability is not None:
                # a function of seed and epoch, so that a run goes on with the same draws
                draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                chosen = sample_hyperedges(reliability, draw)
                about = out, teacher, seen.graph, chosen, options["tau"], form
                beyond = hyperedge_divergence(*about)
            return distillation_loss(out, teacher, y, mask, **plain, beyond=beyond)

        return loss

    def _student_done(self, name: str, training: Training) -> None:
        model: Any = training.model
        whole = self.whole
        self._note(
            name, self._scored(model), training, model.mlp, lambda: model(whole.x, whole.graph)
        )

    # what all have

    def _training(self, model: nn.Module, whose: str) -> Training:
        names = ("epochs", "patience", "lr", "weight_decay")
        return Training(model, **{name: self.options[whose + name] for name in names}, stop="best")

    def _problem(
        self,
        train: Callable[[torch.optim.Optimizer, int], float],
        outputs: Callable[[], Tensor],
        last: bool = False,
    ) -> Problem:
        seen, task, options = self.seen, self.task, self.options
        rows, watched = seen.rows["val"], last and options["test_chosen"]
        found: dict[str, float] = {}

        def validate() -> tuple[float, float]:
            out = outputs()
            if watched:
                test = seen.rows["test"]
                found["test-chosen"] = task.score(out[test], seen.y[test])
            return finite(task.loss(out[rows], seen.y[rows])), task.score(out[rows], seen.y[rows])

        return Problem(self.split, train, validate, lambda: 0.0, others=lambda: dict(found))

    def _scored(self, model: Student) -> dict[str, float]:
        seen, whole = self.seen, self.whole
        hidden = model(whole.x[seen.hidden]) if len(seen.hidden) else None
        return self._accuracies(model(seen.x, seen.graph), hidden)

    def _accuracies(self, out: Tensor, hidden: Tensor | None) -> dict[str, float]:
        """Of outputs for what was seen and for what was not; ``test`` is of all test nodes."""
        seen, score = self.seen, self.task.score
        rows = seen.rows["test"]
        found = {"val": score(out[seen.rows["val"]], seen.y[seen.rows["val"]])}
        if hidden is None:
            return found | {"test": score(out[rows], seen.y[rows])}
        later = self.whole.y[seen.hidden]
        both = torch.cat([out[rows], hidden]), torch.cat([seen.y[rows], later])
        found |= {"test": score(*both)}
        return found | {"observed": score(out[rows], seen.y[rows]), "hidden": score(hidden, later)}

    def _note(
        self,
        name: str,
        found: Mapping[str, float],
        training: Training | None,
        model: nn.Module,
        run: Callable[[], Any],
    ) -> None:
        best = None if training is None or training.best is None else training.best.epoch
        about = {"epoch": best, "params": _count(model), "ms": milliseconds(run)}
        self.results[name] = {**found, **about}


def milliseconds(run: Callable[[], Any], seconds: float = 0.3, most: int = 30) -> float:
    """The median time of ``run()`` in ms, after three calls: up to ``most``, or so many seconds."""

    def timed() -> float:
        began = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - began)

    for _ in range(3):
        timed()
    times: list[float] = []
    while len(times) < most and (len(times) < 3 or sum(times) < 1000 * seconds):
        times.append(timed())
    return statistics.median(times)


def _weighted(model: nn.Module, weight: Sequence[Tensor], x: Tensor, hypergraph: Graph) -> Tensor:
    return model(x, hypergraph, *weight)


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
