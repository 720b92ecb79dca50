"""A trained MLP as files that need neither graphkit nor a graph. (opt: onnx, onnxruntime)"""

# annotations are evaluated here: the command line takes its types from them
import io
import json
import logging
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from .. import __version__
from ..errors import BackendError, need
from ..store import atomic_folder, save_tensors
from . import latency as latency_of
from . import memory, plots, report, student
from .predict import source_of

PROGRAM, ONNX, README, LATENCY = "model.pt2", "model.onnx", "README.md", "latency.json"
# of the largest output: what sums in another order may differ by
_TOLERANCE = 1e-4
# what turns the outputs into what they mean
_MEANING = {
    "classes": (".softmax(dim=1)", "the probability of each class"),
    "labels": (".sigmoid()", "the probability of each label"),
    "values": ("", "the values"),
}


def export(
    run: str,
    *,
    out: str | None = None,
    seed: int | None = None,
    onnx: bool = False,
    latency: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """A run's model of features alone, as a folder from which torch alone predicts.

    For runs whose model is an MLP: of the recipe node with --model mlp, and of distill, where it
    was taught what a graph network knows. Writes model.pt2 (torch.export, any number of rows),
    model.safetensors (the weights), model.json (widths, classes and their names, where it comes
    from, versions, the sha256 of every file) and README.md, which shows how to load and predict.
    What the recipe did to the features of a row, such as scaling them to sum 1, is part of the
    program: raw rows go in. Outputs are logits of classes and labels, or values, in float32.

    Everything is compared with the model of the run on drawn rows before the folder takes its name.
    graphkit predict FOLDER --rows FILE predicts from it too.

    Args:
        run: run folder that graphkit train named
        out: folder to make; must not exist (default: export in the run folder)
        seed: whose weights to take (default: the seed with the best validation score)
        onnx: write model.onnx too, and compare what onnxruntime makes of it
        latency: measure p50, p99 and throughput by batch size: latency.json, latency.png
        quiet: print nothing

    Raises:
        ConfigError: the run's model needs a graph, or the run has no such seed.
        StoreError: the run or its weights are absent, damaged or foreign, or the folder exists or
            cannot be written.
        BackendError: a package that --onnx needs is not installed, or what was written does not
            compute what the model does.
    """
    folder = Path(run)
    config = report.read_config(folder, own_data=True)
    student.check_recipe(folder, config["recipe"])
    if onnx:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            need(package, "onnx")
    source, unfinished = source_of(folder, config, None, None, seed, "cpu", with_data=False)
    this = student.of_run(source)
    this.rows.requires_grad_(False)
    notes = [] if unfinished is None else [unfinished]
    if source.options.get("amp") is not None:
        notes.append("the run computed in bfloat16, the exported model in float32")
    target = Path(out) if out is not None else folder / "export"
    console = Console(file=sys.stdout, quiet=quiet)
    about = _about(this, config, source, notes)
    with atomic_folder(target) as side:
        with console.status("exporting"):
            calls = _write_models(side, this, about, onnx)
        times = _write_latency(side, calls, about, quiet) if latency else None
        (side / README).write_text(_readme(about), encoding="utf-8")
        names = sorted(path.name for path in side.iterdir())
        about["files"] = {name: student.fingerprint(side / name) for name in names}
        about["seal"] = student.seal(about)
        text = json.dumps(about, indent=2, allow_nan=False) + "\n"
        (side / student.ABOUT).write_text(text, encoding="utf-8")
    told = {"run": str(folder), "seed": source.seed, "folder": str(target)}
    told |= {"files": sorted([*about["files"], student.ABOUT])}
    told |= {"differences": about["differences"], "latency": times, "notes": notes}
    if not quiet:
        _tell(console, told, about)
    return told


def _about(
    this: student.Student, config: Mapping[str, Any], source: Any, notes: list[str]
) -> dict[str, Any]:
    """What ``model.json`` says, but for the files."""
    task, options = this.task, source.options
    preprocessing = ["row_normalize"] if this.rows.row_normalize else []
    # a path is of this machine
    data = Path(options["data"]).name
    return {
        "format": student.FORMAT,
        "model": {"name": this.about["model"], "widths": list(this.about["widths"])},
        "input": {"name": "x", "dtype": "float32", "shape": ["rows", this.width]},
        "output": {"dtype": "float32", "shape": ["rows", task.width], "becomes": _becomes(task)},
        "task": asdict(task),
        "class_names": this.class_names,
        "preprocessing": preprocessing,
        "source": {
            "run": source.folder.resolve().name,
            "recipe": config["recipe"],
            "seed": source.seed,
            "data": data,
            "data_digest": source.data_digest,
        },
        "versions": {
            "graphkit": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "notes": notes,
        "differences": {},
    }


def _becomes(task: Any) -> str:
    call, meaning = _MEANING[task.kind]
    return f"{meaning}, by {call[1:]}" if call else meaning


def _write_models(
    side: Path, this: student.Student, about: dict[str, Any], onnx: bool
) -> dict[str, latency_of.Call]:
    """Write the model in every form, compare each with the run's; what serves rows, by name."""
    program = _program(this)
    torch.export.save(program, side / PROGRAM)
    # what is read again is what was written a moment ago
    read = torch.export.load(io.BytesIO((side / PROGRAM).read_bytes()))
    calls: dict[str, latency_of.Call] = {f"torch, {PROGRAM}": read.module()}
    beside = {"recipe": about["source"]["recipe"], "row_normalize": this.rows.row_normalize}
    save_tensors(side / student.WEIGHTS, this.rows.model.state_dict(), {**this.about, **beside})
    if onnx:
        with _silent():
            torch.onnx.export(
                program,
                f=side / ONNX,
                input_names=["x"],
                output_names=["out"],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        calls[f"onnxruntime, {ONNX}"] = _session(side / ONNX)
    for name, call in calls.items():
        about["differences"][name] = difference(this, call, name)
    return calls


def _program(this: student.Student) -> torch.export.ExportedProgram:
    """The model as torch's own ops, for any number of rows."""
    rows = torch.export.Dim("rows", min=1)
    example = torch.zeros(2, this.width)
    with torch.no_grad():
        program = torch.export.export(
            this.rows, (example,), dynamic_shapes={"x": {0: rows}}, strict=False
        )
    for node in program.graph.nodes:
        # where the sources of this machine lie
        node.meta.pop("stack_trace", None)
        space = getattr(node.target, "namespace", "aten")
        if node.op == "call_function" and space != "aten":
            raise BackendError(
                f"The model calls {node.target}, which torch alone does not have. Report this."
            )
    return program


@torch.no_grad()
def difference(this: student.Student, call: latency_of.Call, name: str) -> float:
    """How far ``call`` is off the model at most, on drawn rows, one of them 0, in three batches.

    Raises :class:`BackendError` beyond what rounding explains.
    """
    generator, worst, largest = torch.Generator().manual_seed(0), 0.0, 0.0
    for batch in (1, 2, 257):
        x = torch.randn(batch, this.width, generator=generator)
        x[-1] = 0
        want, got = this.rows(x), torch.as_tensor(call(x))
        worst = max(worst, float((got - want).abs().max()))
        largest = max(largest, float(want.abs().max()))
    # also where it is NaN
    if not worst <= _TOLERANCE * max(largest, 1.0):
        raise BackendError(
            f"{name} computes something else than the model: {worst:.3g} off outputs of up to "
            f"{largest:.3g}. Nothing was written; try another version of torch."
        )
    return worst


def _session(path: Path) -> latency_of.Call:
    """``model.onnx`` as a call that takes and gives tensors, on as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def call(x: Tensor) -> Any:
        return torch.from_numpy(session.run(["out"], {"x": x.numpy()})[0])

    return call


@contextmanager
def _silent() -> Iterator[None]:
    """Inside, torch's exporter tells nobody of packages it does without and of its own future."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _write_latency(
    side: Path, calls: Mapping[str, latency_of.Call], about: Mapping[str, Any], quiet: bool
) -> list[dict[str, Any]]:
    rows = latency_of.measure(calls, about["input"]["shape"][1], quiet=quiet)
    machine = memory.environment(torch.device("cpu"))
    content = {**machine, "widths": about["model"]["widths"], "rows": rows}
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    (side / LATENCY).write_text(text, encoding="utf-8")
    widths = " - ".join(map(str, about["model"]["widths"]))
    threads = machine["threads"]
    counted = f"{threads} thread{'s' if threads != 1 else ''}"
    latency_of.draw(side, rows, f"MLP of widths {widths}, {counted}")
    return rows


def _readme(about: Mapping[str, Any]) -> str:
    """How to load and predict, with torch alone."""
    source, task, width = about["source"], about["task"], about["input"]["shape"][1]
    call, meaning = _MEANING[task["kind"]]
    said = [f"It gives {meaning}, a row for each row. Neither a graph nor graphkit is needed."]
    if about["class_names"]:
        said.append(f"The classes are, in this order: {', '.join(about['class_names'])}.")
    if about["preprocessing"]:
        said.append("Each row is first scaled to sum 1, inside the model: give it as it is.")
    others = [f"`{student.WEIGHTS}` holds the weights alone, `{student.ABOUT}` what they are,"]
    others.append("where they come from and the sha256 of every file.")
    if any(ONNX in name for name in about["differences"]):
        others.append(f"`{ONNX}` is the same for onnxruntime: input `x`, output `out`.")
    return f"""# {about["model"]["name"]} on {source["data"]}, seed {source["seed"]}

```python
import torch

model = torch.export.load("{PROGRAM}").module()
rows = torch.zeros(3, {width})  # yours: float32, {width} features each, as in the data
print(model(rows){call})
```

{" ".join(said)}

{" ".join(others)}

`{PROGRAM}` was written by torch {torch.__version__}, for versions near it. Such a file can run code
when it is loaded: load it where you trust who gave it to you. `graphkit predict` never opens it and
takes the weights from `{student.WEIGHTS}`.
"""


def _tell(console: Console, told: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    widths = " - ".join(map(str, about["model"]["widths"]))
    lines = [f"seed {told['seed']}, widths {widths}: {', '.join(told['files'])}"]
    for name, worst in told["differences"].items():
        lines.append(f"{name}: at most {worst:.2g} off the model of the run, on drawn rows")
    for line in [*lines, *told["notes"]]:
        plots.say(console, line)
    if told["latency"]:
        plots.show_rows([_shown(row) for row in told["latency"]])
        threads = torch.get_num_threads()
        plots.say(console, f"torch's threads: {threads}. Drawn in latency.png")
    plots.say(console, f"folder: {told['folder']}")
    plots.say(console, f"next:   graphkit predict {told['folder']} --rows FILE")


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Figures in as many digits as they are worth."""
    times = {f"{name} ms": f"{row[f'{name}_ms']:.3g}" for name in ("p50", "p99")}
    first = {name: row[name] for name in ("served by", "batch", "calls")}
    return first | times | {"rows a second": round(row["rows_per_s"])}
