"""What a run survives: a console that fails, and a signal that comes at the wrong moment."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, where :func:`terminable` turns it into an exception."""


class Steady:
    """A text stream that goes quiet when it fails, so that a closed pipe ends no training.

    ``error`` is what failed, None so far; a stream that is None (closed at start) is quiet.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(lambda: self.stream.flush())

    def settle(self) -> None:
        """Flush; what a stream that failed still holds must not fail again when Python exits."""
        self.flush()
        if self.error is None:
            return
        with suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stream.fileno())
            os.close(null)

    def _try(self, action: Callable[[], Any]) -> None:
        if self.stream is None or self.error is not None:
            return
        try:
            action()
        except UnicodeError:
            raise
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.error = error


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM raises :class:`Terminated`, so that what is under way can be kept."""

    def stop(number: int, frame: object) -> None:
        raise Terminated

    with _handled({signal.SIGTERM: stop}):
        yield


class Patient:
    """Inside, the first Ctrl-C or SIGTERM is noted, for :meth:`obey` to raise where it suits.

    A second one raises at once.
    """

    def __init__(self, console: Any) -> None:
        self._console = console
        self._came: int | None = None
        self._stack = ExitStack()

    @property
    def asked(self) -> bool:
        """Did a signal come?"""
        return self._came is not None

    def obey(self) -> None:
        """Raise the KeyboardInterrupt, or :class:`Terminated`, of a signal that came."""
        if self._came is not None:
            raise Terminated if self._came == signal.SIGTERM else KeyboardInterrupt

    def __enter__(self) -> Patient:
        self._stack.enter_context(_handled(dict.fromkeys(SIGNALS, self._note)))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _note(self, number: int, frame: object) -> None:
        if self._came is not None:
            self._came = number
            self.obey()
        self._came = number
        self._console.print("stopping after this epoch; Ctrl-C again stops at once", style="bold")


@contextmanager
def deferred(deliver: bool = True) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM wait; one that came is delivered after, or else dropped."""
    came: list[int] = []
    with _handled(dict.fromkeys(SIGNALS, lambda number, frame: came.append(number))):
        yield
    for number in came[:1] if deliver else ():
        signal.raise_signal(number)


@contextmanager
def _handled(handlers: dict[signal.Signals, Callable[[int, Any], Any]]) -> Iterator[None]:
    # Python delivers signals to the main thread, and only it may set handlers
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
