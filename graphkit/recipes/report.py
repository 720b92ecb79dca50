"""What a run leaves behind: its record, its folder, and the command that repeats it."""

from __future__ import annotations

import inspect
import json
import operator
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ..errors import ConfigError, StoreError
from .loop import Epoch

# options that say how a run is shown and kept, not what it computes
_ASIDE = ("out", "quiet", "command", "note")


@dataclass(frozen=True)
class Row:
    """One seed's result; ``val`` and ``test`` are fractions at epoch ``best_epoch``."""

    seed: int
    split: int | None
    best_epoch: int
    epochs: int
    val: float
    test: float
    seconds: float


@dataclass(frozen=True)
class Record:
    """The result of a run: scores are fractions in [0, 1], ``test_std`` is None for one seed."""

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

    def to_json(self) -> str:
        """One line of JSON with every field but ``rows``."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows"}
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
) -> Record:
    """The record of ``rows``: means, and the unbiased standard deviation of the test scores."""
    test = torch.tensor([row.test for row in rows], dtype=torch.float64)
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
    )


def parse_seeds(seeds: str | int | Sequence[int]) -> list[int]:
    """The seeds that ``0``, ``0-9`` or ``0,3,5-7`` name; a number or a sequence is taken as it is.

    Raises:
        ConfigError: another form, none, one twice, or one that is not in 0 ... 2**32 - 1.
    """
    wanted = "0, 0-9 or 0,3,5 is the form expected."
    try:
        text = seeds if isinstance(seeds, str) else _word(seeds)
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
    """A folder that appears under its name only when it is complete.

    ``path`` is a hidden sibling of ``target``, made on entry so that a place that cannot be written
    is found before training, and renamed on a clean exit; on an exception it is removed.

    Raises:
        StoreError: the target exists, or its parent cannot be written.
    """

    def __init__(self, out: str | os.PathLike[str] | None, name: str) -> None:
        self.target = Path(out) if out is not None else _free(Path("runs"), name)
        self.path = self.target.parent / f".{self.target.name}.partial-{os.getpid()}"

    def __enter__(self) -> RunFolder:
        if self.target.exists() or self.target.is_symlink():
            raise StoreError(
                f"The run folder {str(self.target)!r} exists already, and runs are never "
                "overwritten. Choose another --out, or remove it."
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir()
        except OSError as error:
            raise StoreError(
                f"The run folder {str(self.target)!r} cannot be written: {error.strerror}. "
                "Choose a place you may write to with --out."
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        for file in [*self.path.iterdir(), self.path]:
            _sync(file)
        try:
            self.path.rename(self.target)
        except OSError as error:
            raise StoreError(
                f"The run folder {str(self.target)!r} cannot be created: {error.strerror}. "
                f"The finished run is kept in {str(self.path)!r}."
            ) from error
        _sync(self.target.parent)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``content`` to the file ``name`` as indented JSON."""
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        (self.path / name).write_text(text, encoding="utf-8")

    def write_config(self, recipe: str, options: Mapping[str, Any], command: str | None) -> None:
        """Write ``config.json``, from which ``graphkit train --config`` repeats the run."""
        kept = {name: value for name, value in options.items() if name not in _ASIDE}
        self.write("config.json", {"recipe": recipe, "command": command, "options": kept})

    def add_seed(self, seed: int, weights: dict[str, Tensor], epochs: Sequence[Epoch]) -> None:
        """Write the weights of ``seed``, and append one line per epoch to ``metrics.jsonl``."""
        # save_file would make a file that only its owner can read, whatever the umask
        (self.path / f"weights-seed{seed}.safetensors").write_bytes(save(weights))
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps({"seed": seed, **asdict(e)}) + "\n" for e in epochs)


def defaults(recipe: Callable[..., Record]) -> dict[str, Any]:
    """The options of ``recipe`` and their default values."""
    return {p.name: p.default for p in inspect.signature(recipe).parameters.values()}


def command(target: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The shell command that repeats a run: ``target`` and the options that are not default."""
    words = ["graphkit", "train", target]
    for name, value in options.items():
        if name in _ASIDE or _word(value) == _word(defaults[name]):
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", _word(value)]
    return shlex.join(words)


def amend(command: str, name: str, value: str) -> str:
    """``command`` with the option ``name`` set to ``value``, whether it was there or not."""
    words, option = shlex.split(command), f"--{name}"
    if option in words:
        at = words.index(option)
        del words[at : at + 2]
    return shlex.join([*words, option, value])


def read_config(path: Path) -> dict[str, Any]:
    """The content of a ``config.json``, given by its own path or by that of its run folder."""
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"--config: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"--config: {path} is not JSON: {error}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("options"), dict):
        raise ConfigError(f"--config: {path} is not the config.json of a run folder.")
    if config["options"].get("data") == "custom":
        raise ConfigError(f"--config: {path} trained on a Data object. Repeat it from Python.")
    return config


def _word(value: Any) -> str:
    """``value`` as the command line takes it."""
    if value is None or isinstance(value, (bool, float)):
        return json.dumps(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(str(operator.index(item)) for item in value)
    return str(value)


def _free(parent: Path, name: str) -> Path:
    """``parent/name``, or with -2, -3, ... if it, or an unfinished run of that name, is there."""
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        if not path.exists() and not any(parent.glob(f".{path.name}.partial-*")):
            return path
        number += 1


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
