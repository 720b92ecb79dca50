"""What a run leaves behind: its record, its folder, and the command that repeats it."""

from __future__ import annotations

import inspect
import json
import operator
import os
import re
import shlex
import shutil
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..errors import ConfigError, StoreError
from ..store import atomic, save_tensors
from .loop import Epoch

if TYPE_CHECKING:
    from typing_extensions import Self

RESULT, CHECKPOINT, LOCK = "result.json", "checkpoint.safetensors", ".lock"

# options that say how a run is shown and kept, not what it computes
_ASIDE = ("out", "quiet", "command", "note", "resume")
# nor does a form that is there already belong into the command that repeats the run
_FILES = (*_ASIDE, "submission")


@dataclass(frozen=True)
class Row:
    """One seed's result; ``val`` and ``test`` are fractions at epoch ``best_epoch``.

    ``beside`` are further scores of the test part, by name.
    ``checkpoints`` has, by the validation score that chose an epoch, its number (``epoch``), that
    score (``val``), and all test scores there; empty where a recipe has one score.
    """

    seed: int
    split: int | None
    best_epoch: int
    epochs: int
    val: float
    test: float
    seconds: float
    beside: Mapping[str, float] = field(default_factory=dict)
    checkpoints: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """The result of a run: scores are fractions in [0, 1], or errors in the unit of the labels.

    The standard deviations are unbiased, None for one seed; ``num_params`` counts the parameters
    of the model, None where that is not known.
    """

    task: str
    data: str
    model: str
    metric: str
    test_mean: float
    test_std: float | None
    val_mean: float
    seeds: list[int]
    seconds: float
    peak_mb: float
    run: str
    rows: tuple[Row, ...]
    val_std: float | None = None
    num_params: int | None = None

    def to_json(self) -> str:
        """One line of JSON with the fields from ``task`` to ``run``."""
        aside = ("rows", "val_std", "num_params")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in aside}
        return json.dumps(values, allow_nan=False)


def record(
    task: str,
    data: str,
    model: str,
    metric: str,
    rows: Sequence[Row],
    seconds: float,
    peak_mb: float,
    run: Path,
    num_params: int | None = None,
) -> Record:
    """The record of ``rows``: means and unbiased standard deviations of their scores."""
    test = torch.tensor([row.test for row in rows], dtype=torch.float64)
    val = torch.tensor([row.val for row in rows], dtype=torch.float64)
    return Record(
        task=task,
        data=data,
        model=model,
        metric=metric,
        test_mean=test.mean().item(),
        test_std=test.std(correction=1).item() if len(rows) > 1 else None,
        val_mean=sum(row.val for row in rows) / len(rows),
        seeds=[row.seed for row in rows],
        seconds=round(seconds, 3),
        peak_mb=round(peak_mb, 1),
        run=str(run),
        rows=tuple(rows),
        val_std=val.std(correction=1).item() if len(rows) > 1 else None,
        num_params=num_params,
    )


def checkpoint_scores(rows: Sequence[Row]) -> dict[str, dict[str, tuple[float, float | None]]]:
    """By what chose the epochs of ``rows``: the mean and unbiased deviation of each test score."""
    found: dict[str, dict[str, tuple[float, float | None]]] = {}
    for by in rows[0].checkpoints if rows else ():
        found[by] = {}
        for name in filter(lambda name: name not in ("epoch", "val"), rows[0].checkpoints[by]):
            values = [row.checkpoints[by][name] for row in rows]
            std = statistics.stdev(values) if len(values) > 1 else None
            found[by][name] = statistics.fmean(values), std
    return found


def parse_seeds(seeds: str | int | Sequence[int]) -> list[int]:
    """The seeds that ``0``, ``0-9`` or ``0,3,5-7`` name; a number or a sequence is taken as it is.

    Raises:
        ConfigError: another form, none, one twice, or one that is not in 0 ... 2**32 - 1.
    """
    wanted = "0, 0-9 or 0,3,5 is the form expected."
    try:
        text = seeds if isinstance(seeds, str) else word(seeds)
    except TypeError:
        raise ConfigError(f"seeds is {seeds!r}, but {wanted}") from None
    numbers: list[int] = []
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        # int() would take the digits of every script, and fails at thousands of them
        if not all(re.fullmatch("[0-9]{1,20}", word) for word in (first, last)):
            raise ConfigError(f"seeds is {text!r}, but {wanted}")
        low, high = int(first), int(last)
        if not low <= high < 2**32 or high - low >= 10_000:
            raise ConfigError(
                f"seeds: {part!r} is not a rising range of at most 10000 seeds below 2**32."
            )
        numbers += range(low, high + 1)
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"seeds is {text!r}, which names a seed twice. Name each one once.")
    return numbers


def join(seeds: Sequence[int]) -> str:
    """``seeds`` in the form that :func:`parse_seeds` reads."""
    return ",".join(map(str, seeds))


class RunFolder:
    """The folder of one run, held by one process at a time; its files appear whole or not at all.

    It is made on entry, so that a place that cannot be written is found before training. When the
    block raises before a checkpoint or a finished seed was written, the folder is removed again.

    Args:
        out: the folder to make; None makes ``runs/<name>``, with -2, -3, ... if that is there.
        resume: the folder of a run that was stopped, to go on in.

    Raises:
        StoreError: the folder exists, or cannot be written; with ``resume``: there is no such run,
            another process is at work in it, or it is finished.
    """

    # its configuration, and the command that made it
    CONFIG, VERB = "config.json", "train"

    def __init__(
        self,
        out: str | os.PathLike[str] | None,
        name: str,
        resume: str | os.PathLike[str] | None = None,
    ) -> None:
        self.resumed = resume is not None
        where = resume if resume is not None else out
        self.path = Path(where) if where is not None else _free(Path("runs"), name)
        self._lock = FileLock(self.path / LOCK, blocking=False)

    def __enter__(self) -> Self:
        if self.resumed:
            self._reopen()
            return self
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir()
        except OSError as error:
            if self.path.exists() or self.path.is_symlink():
                raise StoreError(
                    f"The run folder {str(self.path)!r} exists already, and runs are never "
                    f"overwritten. Choose another --out, or remove it; graphkit {self.VERB} "
                    "--resume goes on with one that was stopped."
                ) from error
            raise StoreError(
                f"The run folder {str(self.path)!r} cannot be written: {error.strerror}. "
                "Choose a place you may write to with --out."
            ) from error
        self._lock.acquire()
        return self

    def _reopen(self) -> None:
        if not (self.path / self.CONFIG).is_file():
            raise StoreError(
                f"{str(self.path)!r} is not the folder of a run: it holds no {self.CONFIG}. "
                f"Give the folder that graphkit {self.VERB} named."
            )
        try:
            self._lock.acquire()
        except Timeout as error:
            raise StoreError(
                f"The run in {str(self.path)!r} is at work in another process. "
                "Wait for it, or stop it."
            ) from error
        except OSError as error:
            raise StoreError(
                f"The run folder {str(self.path)!r} cannot be written: {error.strerror}."
            ) from error
        # what a killed process was writing
        for stale in self.path.glob(".*.tmp"):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)
        if is_finished(self.path):
            self._lock.release()
            raise StoreError(
                f"The run in {str(self.path)!r} is finished: there is nothing to resume. "
                "Its scores are in result.json."
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        kept = self.worth_keeping()
        # its file stays: who removes it lets two processes hold two locks of one name
        self._lock.release(force=True)
        if kind is not None and not kept and not self.resumed:
            shutil.rmtree(self.path, ignore_errors=True)

    def worth_keeping(self) -> bool:
        """Does it hold anything to go on with?"""
        return self.checkpoint.is_file() or (self.path / RESULT).is_file()

    @property
    def checkpoint(self) -> Path:
        """The file of the state that :func:`graphkit.checkpoint.save_state` writes."""
        return self.path / CHECKPOINT

    def read(self, name: str) -> Any:
        """The content of the JSON file ``name``; :class:`StoreError` if it cannot be read."""
        return read_json(self.path / name)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``content`` to the file ``name`` as indented JSON."""
        self.write_text(name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write ``text`` to the file ``name``."""
        with atomic(self.path / name) as side:
            side.write_text(text, encoding="utf-8")

    def write_config(self, recipe: str, options: Mapping[str, Any], **about: str | None) -> None:
        """Write ``config.json``, from which ``graphkit train --config`` repeats the run."""
        self.write("config.json", {"recipe": recipe, "options": kept_options(options), **about})

    def write_metrics(self, histories: Mapping[int, Sequence[Epoch]]) -> None:
        """Write ``metrics.jsonl``: one line for each epoch of each seed."""
        with atomic(self.path / "metrics.jsonl") as side, side.open("w", encoding="utf-8") as file:
            for seed, epochs in histories.items():
                for epoch in epochs:
                    line = {"seed": seed, **asdict(epoch)}
                    for name in ("seconds", "others"):
                        if not line[name]:
                            del line[name]
                    file.write(json.dumps(line) + "\n")

    def write_weights(
        self, seed: int, weights: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> None:
        """Write the weights of ``seed``, a safetensors file with a checksum, and what they are."""
        save_tensors(self.path / f"weights-seed{seed}.safetensors", weights, about)


def result(record: Record) -> dict[str, Any]:
    """``record`` as ``result.json`` holds it."""
    content = asdict(record)
    for row in content["rows"]:
        for name in ("beside", "checkpoints"):
            if not row[name]:
                del row[name]
    return content


def beside(record: Record) -> list[str]:
    """A line of the further scores of the test part, means over the seeds; none where none are."""
    scores = [row.beside for row in record.rows]
    told = list[str]()
    for name in scores[0]:
        values = 100 * torch.tensor([of[name] for of in scores], dtype=torch.float64)
        spread = f" ± {values.std(correction=1).item():.2f}" if len(scores) > 1 else ""
        told.append(f"{name} {values.mean().item():.2f}{spread}")
    return [f"test too, %: {', '.join(told)}"] if told else []


def is_finished(path: Path) -> bool:
    """Did the run in the folder ``path`` come to its end?"""
    return (path / RESULT).is_file() and not (path / CHECKPOINT).is_file()


def read_record(path: Path) -> Record:
    """The record that a finished run left in its folder; :class:`StoreError` if it is damaged."""
    content = read_json(path / RESULT)
    try:
        rows = tuple(Row(**row) for row in content["rows"])
        return Record(**{**content, "rows": rows, "run": str(path)})
    except (LookupError, TypeError) as error:
        raise StoreError(
            f"{path / RESULT} is not the result of a run: {error!r}. Restore it."
        ) from error


def kept_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say what a run computes, as ``config.json`` gives them back."""
    kept = {name: value for name, value in options.items() if name not in _ASIDE}
    return json.loads(json.dumps(kept))


def defaults(recipe: Callable[..., Any]) -> dict[str, Any]:
    """The options of ``recipe`` and their default values."""
    return {p.name: p.default for p in inspect.signature(recipe).parameters.values()}


def command(target: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The shell command that repeats a run: ``target`` and the options that are not default."""
    words = ["graphkit", "train", target]
    for name, value in options.items():
        if name in _FILES or word(value) == word(defaults[name]):
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", word(value)]
    return shlex.join(words)


def amend(command: str, name: str, value: str) -> str:
    """``command`` with the option ``name`` set to ``value``, whether it was there or not."""
    words, option = shlex.split(command), f"--{name}"
    if option in words:
        at = words.index(option)
        del words[at : at + 2]
    return shlex.join([*words, option, value])


def resume_command(path: Path, verb: str = "train") -> str:
    """The shell command that goes on with the run in ``path``."""
    return shlex.join(["graphkit", verb, "--resume", str(path)])


def read_json(path: Path) -> Any:
    """The content of a JSON file; :class:`StoreError` if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}. Restore it.") from error


def read_config(path: Path, own_data: bool = False) -> dict[str, Any]:
    """The content of a ``config.json``, given by its own path or by that of its run folder.

    ``own_data``: also of a run on a Data object, which no command line can give.
    """
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from error
    whole = isinstance(config, dict) and isinstance(config.get("recipe"), str)
    if not whole or not isinstance(config.get("options"), dict):
        raise ConfigError(f"{path} is not the config.json of a run folder.")
    if not own_data and config["options"].get("data") == "custom":
        raise ConfigError(f"{path} trained on a Data object. Repeat it from Python.")
    return config


def word(value: Any) -> str:
    """``value`` as the command line takes it."""
    if value is None or isinstance(value, (bool, float)):
        return json.dumps(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(str(operator.index(item)) for item in value)
    return str(value)


def _free(parent: Path, name: str) -> Path:
    """``parent/name``, or with -2, -3, ... if that is there."""
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            return path
        number += 1
