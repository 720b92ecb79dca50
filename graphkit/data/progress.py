"""How far a long job is, on stderr: a bar on a terminal, else a line now and then. (opt: rich)"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

# seconds until a job shows itself, and between two lines, and between two steps of the bar
SHOW_AFTER = 2.0
LINE_EVERY = 10.0
STEP_EVERY = 0.1


class Meter:
    """Shows nothing in the first two seconds, and nothing at all if ``quiet``.

    Counts bytes, or whatever else ``unit`` names.
    """

    def __init__(self, label: str, quiet: bool = False, unit: str = "") -> None:
        self.label, self.quiet, self.unit = label, quiet, unit
        self.due = time.monotonic() + SHOW_AFTER
        self.bar: Any = None

    def show(self, done: int, total: int | None) -> None:
        """``done`` of ``total``, None if that is not known; cheap enough for every chunk."""
        now = time.monotonic()
        if self.quiet or sys.stderr is None or now < self.due:
            return
        if sys.stderr.isatty():
            self._step(done, total)
            self.due = now + STEP_EVERY
        else:
            scale, unit = (1, self.unit) if self.unit else (1e6, "MB")
            count = "{:,.0f}" if self.unit else "{:.1f}"
            share = f" of {count.format(total / scale)}" if total else ""
            share += f" {unit}" + (f" ({done / total:.0%})" if total else "")
            self.line(f"{count.format(done / scale)}{share}")
            self.due = now + LINE_EVERY

    def line(self, text: str) -> None:
        """Say ``text`` after the label; a console that fails ends no download."""
        if not self.quiet and sys.stderr is not None:
            with suppress(OSError, ValueError):
                print(f"{self.label}: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _step(self, done: int, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        if self.bar is None:
            counts = (DownloadColumn(), TransferSpeedColumn())
            counts = (MofNCompleteColumn(),) if self.unit else counts
            columns = (BarColumn(), *counts, TimeRemainingColumn())
            text = TextColumn("{task.description}", markup=False)
            self.bar = Progress(text, *columns, console=Console(stderr=True), transient=True)
            self.bar.add_task(self.label, total=total, completed=done)
            self.bar.start()
        self.bar.update(self.bar.task_ids[0], completed=done, total=total)
