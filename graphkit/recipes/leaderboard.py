"""The form of OGB's leaderboards: what its rules ask of a result, filled in as far as known.

The fields are those of https://ogb.stanford.edu/docs/leader_overview/: scores as fractions with
the unbiased standard deviation over the seeds 0 to 9 (ogbn-papers100M: three seeds). Scores are
those of :mod:`graphkit.metrics`, which agree with OGB's evaluators.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError, StoreError
from ..store import atomic
from .memory import environment
from .report import Record, result

OGB = ("ogbn-", "ogbl-", "ogbg-")
OPEN = "TO BE FILLED IN"
TUNED = f"{OPEN}, such as: lr: [0.001*, 0.01], dropout: [0*, 0.5], with * at what was selected"


def on_board(data: str) -> bool:
    """Is the data set ``data`` one of OGB's?"""
    return data.startswith(OGB)


def check_target(path: str | os.PathLike[str], data: str) -> None:
    """Refuse a form that could not be written after training.

    Raises:
        ConfigError: the data set is not one of OGB's.
        StoreError: there is something at ``path``.
    """
    if not on_board(data):
        raise ConfigError(
            f"submission is {str(path)!r}, but the data set {data!r} has no OGB leaderboard: one "
            f"of {', '.join(OGB)} is expected. Leave submission out."
        )
    if Path(path).exists():
        raise StoreError(
            f"The form {str(path)!r} exists already, and what was filled in is never overwritten. "
            "Choose another --submission, or remove it."
        )


def hardware(device: torch.device) -> str:
    """The name of the machine's GPU with its memory, or of its processor."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"{torch.cuda.get_device_name(device)} ({total / 2**30:.0f}GB GPU)"
    return f"{environment(device)['cpu']} (CPU)"


def entry(record: Record, device: torch.device) -> dict[str, str]:
    """The fields of the form in OGB's order, ready to copy; open ones say so."""
    return {
        "OGB version": _ogb_version(),
        "Dataset": record.data,
        "Method": record.model,
        "External data": "No",
        f"Test {record.metric}": _spread(record.test_mean, record.test_std),
        f"Validation {record.metric}": _spread(record.val_mean, record.val_std),
        "#Params": OPEN if record.num_params is None else f"{record.num_params:,}",
        "Hardware": hardware(device),
        "Seeds": f"{len(record.seeds)} ({', '.join(map(str, record.seeds))})",
    }


def missing(record: Record) -> str | None:
    """What the seeds of ``record`` lack to be accepted; None if nothing."""
    wanted = 3 if record.data.lower() == "ogbn-papers100m" else 10
    if record.seeds == list(range(wanted)):
        return None
    return (
        f"OGB asks for the {wanted} seeds 0 to {wanted - 1}, this run has {len(record.seeds)}: "
        f"not for submission"
    )


def lines(record: Record, device: torch.device) -> list[str]:
    """The entry as lines to print; none for other data sets and for a single seed."""
    if not on_board(record.data) or len(record.seeds) < 2:
        return []
    fields = entry(record, device)
    width = max(map(len, fields)) + 1
    told = [f"  {name + ':':<{width}} {value}" for name, value in fields.items()]
    lack = missing(record)
    return ["OGB leaderboard:", *told, *([f"  {lack}"] if lack else []), ""]


def write(
    path: str | os.PathLike[str],
    record: Record,
    device: torch.device,
    options: Mapping[str, Any],
    command: str | None,
) -> None:
    """Write the form as Markdown: a table, what is left to do, and all of it as JSON.

    Raises:
        StoreError: there is something at ``path``, or it cannot be written.
    """
    check_target(path, record.data)
    fields = entry(record, device) | {
        "Tuned hyper-parameters": TUNED,
        "Contact (name, email)": OPEN,
        "Code (public repository)": OPEN,
        "Paper (link)": OPEN,
        "Official or unofficial": OPEN,
    }
    values = {
        **{key: value for key, value in result(record).items() if key != "run"},
        "hardware": fields["Hardware"],
        "ogb_version": fields["OGB version"],
        "command": command,
        "options": dict(options),
    }
    rows = [f"| {name} | {value} |" for name, value in fields.items()]
    text = "\n".join(
        [
            f"# OGB leaderboard: {record.model} on {record.data}",
            "",
            "| Field | Value |",
            "|---|---|",
            *rows,
            "",
            missing(record) or "The seeds are those that OGB asks for.",
            f"Command: `{command or 'none: the run was started from Python'}`",
            "",
            "```json",
            json.dumps(values, indent=2, allow_nan=False, default=str),
            "```",
            "",
        ]
    )
    with atomic(path) as side:
        side.write_text(text, encoding="utf-8")


def _spread(mean: float, std: float | None) -> str:
    return f"{mean:.4f} ± " + ("unknown (one seed)" if std is None else f"{std:.4f}")


def _ogb_version() -> str:
    try:
        return metadata.version("ogb")
    except metadata.PackageNotFoundError:
        return f"{OPEN} (ogb is not installed)"
