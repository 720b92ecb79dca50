"""One answer of a web server: the host reached, redirects checked, the body piece by piece."""

from __future__ import annotations

import queue
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import requests
from requests.utils import get_environ_proxies, select_proxy
from urllib3 import Retry
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Url, parse_url

from ..errors import DataError

CHUNK = 1 << 16
PORTS = {"http": 80, "https": 443}
# the answers that another attempt may better: time-outs, too many requests, a server's own trouble
PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """Seconds: to connect, for the next byte, before each further attempt, and if asked to wait."""

    connect: float = 0.8
    stall: float = 30.0
    pauses: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    asked: float = 60.0


PATIENT = Patience()


class Passing(Exception):
    """A failure that another attempt may get over, ``wait`` seconds from now at the earliest."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


class Changed(Passing):
    """The server has another version of the file than the one that was begun."""


class Lasting(Exception):
    """A failure that no further attempt gets over."""


@dataclass(frozen=True)
class Answer:
    """A body that begins at byte ``start`` of a file of ``total`` bytes, None if not told.

    ``validator`` names the version of the file; ``packing`` is how the server packed it, "" if not.
    """

    start: int
    total: int | None
    validator: str | None
    type: str
    packing: str
    pieces: Iterator[bytes]


def check_address(url: str) -> None:
    """Raise :class:`DataError` unless ``url`` is a complete http or https address."""
    at = _parsed(url)
    if at is None or at.scheme not in PORTS or not at.host:
        raise DataError(
            f"{url!r} is not an address that can be downloaded from, which begins with http:// or "
            "https:// and a host. Correct it, or place the file by hand."
        )


def reach(url: str, seconds: float) -> None:
    """Raise :class:`Lasting` unless the host of ``url``, or its proxy, takes a connection in time.

    Asked in threads of its own, because the look-up of a name takes no time limit, and because a
    host with one dead address of several is reached by the others.
    """
    proxy = select_proxy(url, get_environ_proxies(url, no_proxy=None))
    at = _parsed(proxy or url)
    if at is None or not at.host:
        raise Lasting(f"the address {proxy or url!r} cannot be understood")
    address = (at.host.strip("[]"), at.port or PORTS.get(at.scheme or "", 80))
    answers: queue.SimpleQueue[int | str] = queue.SimpleQueue()
    _knock(address, seconds, answers)
    end, tried, failed = time.monotonic() + seconds, 1, 0
    reason = f"{address[0]} does not answer within {seconds:g} s"
    while failed < tried:
        try:
            answer = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        if answer == 0:
            return
        if isinstance(answer, int):
            tried = answer
        else:
            failed, reason = failed + 1, answer
    raise Lasting(reason)


def _knock(address: tuple[str, int], seconds: float, answers: queue.SimpleQueue[int | str]) -> None:
    """Puts how many addresses the host has, then for each 0 if it answers, else what is wrong."""

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answers.put(f"{address[0]}: {getattr(error, 'strerror', None) or error}")
            return
        answers.put(len(found))
        for family, kind, number, _, place in found:
            job = (family, kind, number, place)
            threading.Thread(target=connect, args=job, daemon=True).start()

    def connect(family: int, kind: int, number: int, place: tuple[Any, ...]) -> None:
        try:
            with socket.socket(family, kind, number) as line:
                line.settimeout(seconds)
                line.connect(place)
            answers.put(0)
        except OSError as error:
            answers.put(f"{address[0]}: {error.strerror or error}")

    threading.Thread(target=look_up, daemon=True).start()


@contextmanager
def ask(url: str, have: int, validator: str | None, patience: Patience) -> Iterator[Answer]:
    """The answer to a request for ``url``, from byte ``have`` on if the server can do that.

    Raises:
        Passing, Changed, Lasting: no answer with the file.
        DataError: a redirect that is not followed.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": "graphkit"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    with _Session(patience) as session, _get(session, url, headers) as response:
        _check_status(response)
        start, total = _extent(response)
        if start != have and start:
            raise Changed(f"the server answers from byte {start} on, not {have}")
        yield Answer(
            start,
            total,
            _validator(response),
            response.headers.get("Content-Type", ""),
            response.headers.get("Content-Encoding", "").replace("identity", ""),
            _pieces(response),
        )


class _Session(requests.Session):
    """A session that looks at every redirect before it follows it."""

    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self.patience = patience

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where ``resp`` redirects to, or None; :class:`DataError` if that is unsafe."""
        target = super().get_redirect_target(resp)
        if target is None:
            return None
        at = _parsed(target, resp.url)
        safe = resp.url.startswith("https:")
        if at is None or at.scheme not in PORTS or (safe and at.scheme != "https"):
            raise DataError(
                f"{resp.url} redirects to {target!r}, but only http and https are followed, and "
                "from https only https. Correct the address, or place the file by hand."
            )
        reach(at.url, self.patience.connect)
        return target


def _get(session: _Session, url: str, headers: dict[str, str]) -> requests.Response:
    # the host was reached a moment ago, so that a slow one may take its time now
    wait = (max(5.0, session.patience.connect), session.patience.stall)
    try:
        return session.get(url, headers=headers, stream=True, timeout=wait)
    except (requests.exceptions.SSLError, requests.exceptions.ProxyError) as error:
        raise Lasting(f"no connection can be made ({error})") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Passing(f"the connection broke off before an answer came ({error})") from error
    except requests.RequestException as error:
        raise Lasting(f"the request fails ({error})") from error


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    what = f"the server answers {status} {response.reason}"
    # nothing is left after the part, which is as long as the file or longer
    if status == 416:
        raise Changed(what)
    if status in PASSING:
        raise Passing(what, _retry_after(response))
    if status not in (200, 206):
        raise Lasting(what)


def _retry_after(response: requests.Response) -> float:
    try:
        return Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except InvalidHeader:
        return 0.0


def _extent(response: requests.Response) -> tuple[int, int | None]:
    """Where the body starts in the file, and the size of the file if the server tells."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found:
            raise Changed("the server sends a range without saying which")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _validator(response: requests.Response) -> str | None:
    """The name of the file's version that If-Range takes: a strong ETag, else the date."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    try:
        # as it came: decoding would make other bytes than the ones that were counted
        yield from response.raw.stream(CHUNK, decode_content=False)
    except (HTTPError, OSError) as error:
        raise Passing(f"the connection broke off ({error})") from error


def _parsed(url: str, base: str = "") -> Url | None:
    """``url``, which may be relative to ``base``, in its parts; None if it has none."""
    try:
        return parse_url(urljoin(base, url))
    # both libraries' own errors are ValueErrors
    except ValueError:
        return None
