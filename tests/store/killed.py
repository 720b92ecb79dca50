"""Children that are killed at a chosen moment, for the tests of what is left behind."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable

import torch

EVENTS = ("fsync", "rename", "replace", "mkdir", "unlink")
"""Calls of the system between which what is on the disk changes."""


def in_child(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> int:
    """Run ``work`` in a forked process; its exit code, minus the signal if one killed it."""
    with warnings.catch_warnings():
        # what the child calls has no threads
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            # threads of OpenMP's pool are not there in a child, which would wait for them
            torch.set_num_threads(1)
            before()
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killing_at(number: int) -> Callable[[], None]:
    """Make this process kill itself before its ``number``-th event."""
    seen = 0

    def watched(call: Callable[..., object]) -> Callable[..., object]:
        def before(*args: object, **options: object) -> object:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return before

    def begin() -> None:
        for name in EVENTS:
            setattr(os, name, watched(getattr(os, name)))

    return begin
