from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit.data import download, progress, web
from graphkit.data.download import fetch
from graphkit.data.web import Patience
from graphkit.errors import DataError, StoreError

BODY = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(connect=5.0, stall=5.0, pauses=(0.0, 0.0, 0.0))


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # a client that is gone is what some of the tests are about
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Site:
    """A web server whose answers are made by ``answer``, and which keeps the requests."""

    def __init__(self) -> None:
        self.body = BODY
        self.etag: str | None = '"one"'
        self.answer: Callable[[Handler], None] = Handler.serve
        self.seen: list[dict[str, str]] = []
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.site = self  # type: ignore[attr-defined]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/file.bin"

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.seen]

    def in_turn(self, *answers: Callable[[Handler], None]) -> None:
        """Each request gets the next answer, and the last one ever after."""
        left = list(answers)
        self.answer = lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def site(self) -> Site:
        return self.server.site  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.site.seen.append(dict(self.headers))
        self.site.answer(self)

    def start(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def whole(self) -> tuple[int, dict[str, object]]:
        """Where the body starts, after the head of a 200 or 206 was chosen."""
        start, total = 0, len(self.site.body)
        same = self.headers.get("If-Range") in (None, self.site.etag)
        if same and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        head: dict[str, object] = {"Content_Length": total - start}
        if self.site.etag:
            head["ETag"] = self.site.etag
        if start:
            head["Content_Range"] = f"bytes {start}-{total - 1}/{total}"
        return start, head

    def serve(self, count: int | None = None, **headers: object) -> None:
        """The body as a good server sends it, but for ``headers``, cut after ``count`` bytes."""
        start, head = self.whole()
        self.start(206 if start else 200, **{**head, **headers})
        self.wfile.write(self.site.body[start:][:count])
        if count is not None:
            self.close_connection = True

    def ignore_range(self, count: int | None = None) -> None:
        del self.headers["Range"]
        self.serve(count)

    def chunked(self, count: int | None = None) -> None:
        self.start(200, Transfer_Encoding="chunked", ETag=self.site.etag)
        body = self.site.body[:count]
        for at in range(0, len(body), 50_000):
            piece = body[at : at + 50_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if count is None:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def reset(self, count: int = 100_000) -> None:
        """Part of the body, then a hard reset of the connection."""
        start, head = self.whole()
        self.start(206 if start else 200, **head)
        self.wfile.write(self.site.body[start:][:count])
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def status(code: int, **headers: object) -> Callable[[Handler], None]:
    return lambda handler: handler.start(code, Content_Length=0, **headers)


def cut(count: int) -> Callable[[Handler], None]:
    return lambda handler: handler.serve(count)


def page(text: bytes, kind: str = "text/html; charset=utf-8") -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.start(200, Content_Length=len(text), Content_Type=kind)
        handler.wfile.write(text)

    return answer


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def get(site: Site, target: Path, **options: Any) -> Path:
    given = {"sha256": SHA256, "patience": QUICK, "progress": False, **options}
    return fetch(site.url, target, **given)


def names(folder: Path) -> set[str]:
    """What lies in the folder, but for the hidden lock."""
    return {path.name for path in folder.iterdir()} - {".f.lock"}


def test_a_file_is_downloaded_byte_for_byte_and_nothing_else_is_left(site, tmp_path):
    target = tmp_path / "new" / "raw" / "f"
    assert get(site, target, size=len(BODY)) == target
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["f"]
    assert site.seen[0]["Accept-Encoding"] == "identity"


@given(body=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=3))
@settings(max_examples=10)
def test_any_body_arrives_whole_over_any_broken_connections(body, cuts):
    with contextlib.closing(Site()) as site, tmp_folder() as folder:
        site.body = body
        site.in_turn(*(cut(count) for count in cuts), Handler.serve)
        get(site, folder / "f", sha256=None)
        assert (folder / "f").read_bytes() == body
        assert names(folder) == {"f"}


@contextlib.contextmanager
def tmp_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_file_that_is_there_is_checked_and_not_asked_for(site, tmp_path):
    target = tmp_path / "f"
    target.write_bytes(BODY)
    assert get(site, target, size=len(BODY)) == target
    assert site.seen == []
    with pytest.raises(DataError, match="f is there already with size 300000, expected 7"):
        get(site, target, size=7)
    target.write_bytes(b"mine")
    match = "is there already with sha256 .*, expected .*: remove it, and fetch it again from"
    with pytest.raises(DataError, match=match):
        get(site, target)
    assert target.read_bytes() == b"mine" and site.seen == []


def test_a_folder_in_the_target_s_place_is_refused(site, tmp_path):
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        get(site, tmp_path, sha256=None)


def test_a_cut_body_is_continued_where_it_broke_off(site, tmp_path):
    site.in_turn(cut(100_000), cut(50_000), Handler.serve)
    get(site, tmp_path / "f")
    assert site.ranges() == [None, "bytes=100000-", "bytes=150000-"]
    assert site.seen[1]["If-Range"] == '"one"'
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_reset_connection_is_tried_again(site, tmp_path):
    site.in_turn(Handler.reset, Handler.serve)
    get(site, tmp_path / "f")
    assert len(site.seen) == 2 and (tmp_path / "f").read_bytes() == BODY


def test_a_body_that_is_always_cut_leaves_the_part_for_the_next_call(site, tmp_path):
    site.in_turn(cut(70_000), cut(0))
    with pytest.raises(StoreError) as caught:
        get(site, tmp_path / "f")
    assert names(tmp_path) == {"f.part", "f.part.json"}
    kept = (tmp_path / "f.part").read_bytes()
    assert kept == BODY[:70_000] and len(site.seen) == 4
    text = str(caught.value)
    assert "the last of 4 attempts" in text and f"70000 bytes are kept in {tmp_path}/f.part" in text
    assert f"call again to go on, or place the file by hand at {tmp_path}/f." in text

    site.answer = Handler.serve
    get(site, tmp_path / "f")
    assert site.ranges()[-1] == "bytes=70000-"
    assert names(tmp_path) == {"f"} and (tmp_path / "f").read_bytes() == BODY


def test_progress_earns_new_attempts(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "STEP", 20_000)
    site.answer = cut(30_000)
    get(site, tmp_path / "f")
    assert len(site.seen) == 10


def test_a_server_that_ignores_ranges_is_asked_from_the_beginning(site, tmp_path):
    site.in_turn(cut(1000), Handler.ignore_range)
    get(site, tmp_path / "f")
    assert site.ranges() == [None, "bytes=1000-"]
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_server_that_ignores_ranges_and_always_cuts_does_not_go_on_for_ever(site, tmp_path):
    site.answer = lambda handler: handler.ignore_range(200_000)
    with pytest.raises(StoreError, match="the last of 4 attempts"):
        get(site, tmp_path / "f")


OTHER = BODY[::-1]


def change(site: Site) -> None:
    site.body, site.etag = OTHER, '"two"'


@pytest.mark.parametrize("obeys", [True, False])
def test_a_file_that_changes_between_attempts_is_begun_anew(site, tmp_path, obeys):
    def second(handler: Handler) -> None:
        change(site)
        if not obeys:
            # a range of the new file, as if there were no If-Range
            del handler.headers["If-Range"]
        handler.serve()

    site.in_turn(cut(1000), second, Handler.serve)
    get(site, tmp_path / "f", sha256=None)
    assert (tmp_path / "f").read_bytes() == OTHER


def test_a_changed_file_of_another_size_is_begun_anew_without_any_etag(site, tmp_path):
    site.etag = None

    def second(handler: Handler) -> None:
        site.body = OTHER + b"more"
        handler.serve()

    site.in_turn(cut(1000), second, Handler.serve)
    get(site, tmp_path / "f", sha256=hashlib.sha256(OTHER + b"more").hexdigest())
    assert site.ranges() == [None, "bytes=1000-", None]


def test_a_part_that_is_longer_than_the_new_file_is_begun_anew(site, tmp_path):
    site.in_turn(cut(1000), status(416), Handler.serve)
    get(site, tmp_path / "f")
    assert site.ranges() == [None, "bytes=1000-", None]


def test_without_etag_and_sha256_a_part_is_not_continued(site, tmp_path):
    site.etag = None
    site.in_turn(cut(1000), Handler.serve)
    get(site, tmp_path / "f", sha256=None)
    assert site.ranges() == [None, None]


def test_a_weak_etag_does_not_name_a_version(site, tmp_path):
    site.etag = 'W/"one"'
    dated = {"Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    site.in_turn(lambda handler: handler.serve(1000, **dated), Handler.serve)
    get(site, tmp_path / "f")
    assert site.seen[1]["If-Range"] == dated["Last_Modified"]
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_part_that_was_damaged_on_the_disk_is_begun_anew(site, tmp_path):
    site.in_turn(cut(1000), cut(0))
    with pytest.raises(StoreError):
        get(site, tmp_path / "f")
    (tmp_path / "f.part").write_bytes(bytes(1000))
    site.answer = Handler.serve
    get(site, tmp_path / "f")
    assert site.ranges()[-2:] == ["bytes=1000-", None]
    assert (tmp_path / "f").read_bytes() == BODY


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 1}', None])
def test_a_part_without_a_readable_note_is_begun_anew(site, tmp_path, note):
    (tmp_path / "f.part").write_bytes(b"from somewhere")
    if note is not None:
        (tmp_path / "f.part.json").write_text(note)
    get(site, tmp_path / "f")
    assert site.ranges() == [None] and names(tmp_path) == {"f"}


def test_a_part_of_another_address_is_begun_anew(site, tmp_path):
    (tmp_path / "f.part").write_bytes(BODY[:10])
    note = {"url": "http://elsewhere/f", "validator": '"one"', "size": len(BODY)}
    (tmp_path / "f.part.json").write_text(json.dumps(note))
    get(site, tmp_path / "f")
    assert site.ranges() == [None]


def test_a_complete_part_is_verified_and_renamed_without_a_request(site, tmp_path):
    (tmp_path / "f.part").write_bytes(BODY)
    note = {"url": site.url, "validator": '"one"', "size": len(BODY)}
    (tmp_path / "f.part.json").write_text(json.dumps(note))
    get(site, tmp_path / "f")
    assert site.seen == [] and names(tmp_path) == {"f"}


def test_a_wrong_sha256_is_named_and_the_part_removed(site, tmp_path):
    with pytest.raises(DataError) as caught:
        get(site, tmp_path / "f", sha256="0" * 64)
    text = str(caught.value)
    assert f"{site.url} has sha256 {SHA256}, expected {'0' * 64}. It was removed" in text
    assert names(tmp_path) == set() and len(site.seen) == 1


def test_a_server_with_another_size_is_refused_before_a_byte_is_written(site, tmp_path):
    with pytest.raises(DataError, match=r"has 300000 bytes, expected 7\. Nothing was written"):
        get(site, tmp_path / "f", size=7)
    assert names(tmp_path) == set()


def test_a_length_that_is_too_large_is_a_cut_body(site, tmp_path):
    site.answer = lambda handler: handler.serve(len(BODY), Content_Length=len(BODY) + 5)
    with pytest.raises(StoreError, match="300000 bytes are kept"):
        get(site, tmp_path / "f", patience=Patience(connect=5.0, pauses=()))
    assert names(tmp_path) == {"f.part", "f.part.json"}


def test_a_length_that_is_too_small_gives_another_sha256(site, tmp_path):
    site.answer = lambda handler: handler.serve(len(BODY), Content_Length=1000)
    with pytest.raises(DataError, match="has sha256"):
        get(site, tmp_path / "f")
    assert names(tmp_path) == set()


def test_a_body_of_unknown_length_is_taken_to_its_end(site, tmp_path):
    site.answer = Handler.chunked
    get(site, tmp_path / "f", sha256=None)
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_body_of_unknown_length_that_is_cut_is_noticed(site, tmp_path):
    site.answer = lambda handler: handler.chunked(100_000)
    with pytest.raises(StoreError, match="the connection broke off.*100000 bytes are kept"):
        get(site, tmp_path / "f", sha256=None)
    assert names(tmp_path) == {"f.part", "f.part.json"}


def test_a_body_longer_than_the_known_size_is_removed(site, tmp_path):
    site.answer = Handler.chunked
    with pytest.raises(DataError, match="sends more than the 1000 bytes expected. What came was"):
        get(site, tmp_path / "f", size=1000)
    assert names(tmp_path) == set()


def test_an_ended_body_shorter_than_the_known_size_is_cut(site, tmp_path):
    site.answer = Handler.chunked
    with pytest.raises(StoreError, match="was cut short at 300000 of 300001 bytes"):
        get(site, tmp_path / "f", size=300_001)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_missing_file_is_not_tried_again(site, tmp_path, code):
    site.answer = status(code)
    with pytest.raises(StoreError, match=rf"the server answers {code} .*\. Nothing was written"):
        get(site, tmp_path / "f")
    assert len(site.seen) == 1 and names(tmp_path) == set()


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_server_s_trouble_is_tried_again(site, tmp_path, code):
    site.in_turn(status(code), status(code), Handler.serve)
    get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY

    site.answer = status(code)
    with pytest.raises(StoreError, match=f"answers {code} .*, the last of 4 attempts"):
        get(site, tmp_path / "g")


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """The pauses made, none of which is waited for."""
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    return pauses


def test_retry_after_is_waited_for(site, tmp_path, slept):
    old = "Thu, 01 Jan 2015 00:00:00 GMT"
    answers = [status(429, Retry_After=value) for value in (7, old, "soon")]
    site.in_turn(*answers, Handler.serve)
    get(site, tmp_path / "f", patience=Patience(connect=5.0, pauses=(1.0, 2.0, 4.0)))
    assert slept == [7.0, 2.0, 4.0]


def test_a_server_that_asks_for_too_long_a_wait_is_left(site, tmp_path, slept):
    site.answer = status(503, Retry_After=3600)
    with pytest.raises(StoreError, match="answers 503 .* and asks to wait 3600 s"):
        get(site, tmp_path / "f")
    assert slept == []


def test_a_server_that_stalls_is_left_and_asked_for_the_rest(site, tmp_path):
    gone = threading.Event()

    def stall(handler: Handler) -> None:
        start, head = handler.whole()
        handler.start(200, **head)
        handler.wfile.write(site.body[: web.CHUNK + 10])
        handler.wfile.flush()
        gone.wait(10)
        handler.close_connection = True

    site.in_turn(stall, Handler.serve)
    get(site, tmp_path / "f", patience=Patience(connect=5.0, stall=0.2, pauses=(0.0,)))
    gone.set()
    assert site.ranges() == [None, f"bytes={web.CHUNK}-"]
    assert (tmp_path / "f").read_bytes() == BODY


PAGES = [
    b"<!DOCTYPE html><title>Log in</title>",
    b"\n  <html lang='en'>",
    b"\xef\xbb\xbf<!doctype  html >",
]


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("text", PAGES)
def test_a_web_page_is_no_data(site, tmp_path, text, kind):
    site.answer = page(text, kind)
    with pytest.raises(DataError, match="answers with a web page, expected the file f.* log-in"):
        get(site, tmp_path / "f", sha256=None)
    assert names(tmp_path) == set() and len(site.seen) == 1


def test_any_text_html_is_a_page_unless_a_page_is_wanted(site, tmp_path):
    site.answer = page(b"please log in")
    with pytest.raises(DataError, match="answers with a web page"):
        get(site, tmp_path / "f", sha256=None)
    get(site, tmp_path / "f.html", sha256=None)
    assert (tmp_path / "f.html").read_bytes() == b"please log in"


def test_a_page_does_not_destroy_the_part(site, tmp_path):
    site.in_turn(cut(1000), page(PAGES[0]))
    with pytest.raises(DataError, match="answers with a web page"):
        get(site, tmp_path / "f")
    assert (tmp_path / "f.part").read_bytes() == BODY[:1000]


def test_packing_on_the_way_is_refused_but_for_files_that_are_packed(site, tmp_path):
    site.answer = lambda handler: handler.serve(Content_Encoding="gzip")
    with pytest.raises(DataError, match="answers with gzip packing, expected the file as it is"):
        get(site, tmp_path / "f")
    get(site, tmp_path / "f.gz")
    assert (tmp_path / "f.gz").read_bytes() == BODY


def test_a_redirect_is_followed(site, tmp_path):
    site.in_turn(status(302, Location="/elsewhere"), Handler.serve)
    get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/f", "http://[::1/f"])
def test_a_redirect_to_another_scheme_is_refused(site, tmp_path, where):
    site.answer = status(302, Location=where)
    with pytest.raises(DataError, match="redirects to .*, but only http and https are followed"):
        get(site, tmp_path / "f")
    assert names(tmp_path) == set() and len(site.seen) == 1


def test_a_redirect_from_https_to_http_is_refused():
    response = requests.Response()
    response.status_code, response.url = 302, "https://example.org/f"
    response.headers["Location"] = "http://example.org/f"
    with pytest.raises(DataError, match=r"https://example\.org/f redirects to 'http://example"):
        web._Session(QUICK).get_redirect_target(response)


def test_redirects_without_end_are_left(site, tmp_path):
    site.answer = status(302, Location="/again")
    with pytest.raises(StoreError, match="the request fails .*30 redirects"):
        get(site, tmp_path / "f")


def test_a_redirect_to_nowhere_is_not_tried_again(site, tmp_path):
    site.answer = status(302, Location=f"http://127.0.0.1:{free_port()}/f")
    with pytest.raises(StoreError, match="127.0.0.1: Connection refused"):
        get(site, tmp_path / "f")
    assert len(site.seen) == 1


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/f", "/f", "host/f", "http://", "http://[::1", ""]
)
def test_only_addresses_of_the_web_are_taken(tmp_path, url):
    with pytest.raises(DataError, match="is not an address that can be downloaded from"):
        fetch(url, tmp_path / "f", sha256=None)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("sha256", ["", "0" * 63, "A" * 64, f"{'0' * 64}\n"])
def test_a_sha256_that_is_none_is_refused(tmp_path, sha256):
    with pytest.raises(DataError, match="64 hexadecimal digits in lower case are expected"):
        fetch("http://127.0.0.1/f", tmp_path / "f", sha256=sha256)


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return line.getsockname()[1]


def unreachable(url: str, tmp_path: Path, reason: str, slept: list[float], **options: Any) -> None:
    target = tmp_path / "data" / "f"
    with pytest.raises(StoreError) as caught:
        fetch(url, target, sha256=None, **options)
    text = str(caught.value)
    assert f"{url} cannot be downloaded: {reason}" in text
    assert "Nothing was written: check the address and the network, or place the file" in text
    assert f"by hand at {target}." in text
    # not even a folder, and not a second attempt
    assert list(tmp_path.iterdir()) == [] and slept == []


def test_a_refused_connection_is_one_error(tmp_path, slept):
    unreachable(f"http://127.0.0.1:{free_port()}/f", tmp_path, "127.0.0.1: Connection ref", slept)


def test_a_name_that_is_not_known_is_one_error(tmp_path, slept, monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(web.socket, "getaddrinfo", unknown)
    unreachable("https://nowhere.invalid/f", tmp_path, "nowhere.invalid: Name or service", slept)


def test_a_name_server_that_never_answers_is_not_waited_for(tmp_path, slept, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(web.socket, "getaddrinfo", lambda *_, **__: over.wait(30) and [])
    reason = "nowhere.invalid does not answer within 0.1 s"
    unreachable("http://nowhere.invalid/f", tmp_path, reason, slept, patience=Patience(connect=0.1))
    # the look-up is still under way: nobody waited for it
    assert not over.is_set()
    over.set()


def test_one_dead_address_of_two_does_not_hide_the_other(site, tmp_path, monkeypatch):
    real = socket.getaddrinfo

    def two(host: str, port: int, *more: Any, **options: Any) -> list[Any]:
        found = real(host, port, *more, **options)
        return [(*found[0][:4], ("127.0.0.1", free_port())), *found]

    monkeypatch.setattr(web.socket, "getaddrinfo", two)
    get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY


def test_the_proxy_is_reached_and_asked_instead_of_the_host(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", site.url.removesuffix("/file.bin"))
    monkeypatch.setenv("no_proxy", "")
    fetch("http://nowhere.invalid/f", tmp_path / "f", sha256=SHA256, patience=QUICK)
    assert (tmp_path / "f").read_bytes() == BODY and site.seen[0]["Host"] == "nowhere.invalid"


def test_a_network_that_goes_away_leaves_the_part(site, tmp_path):
    site.answer = cut(1000)
    with pytest.raises(StoreError):
        get(site, tmp_path / "f", patience=Patience(connect=5.0, pauses=()))
    gone = f"http://127.0.0.1:{free_port()}/f"
    with pytest.raises(StoreError, match="refused. 1000 bytes are kept in .*: call again to go on"):
        fetch(gone, tmp_path / "f", sha256=SHA256, patience=QUICK)
    assert (tmp_path / "f.part").read_bytes() == BODY[:1000]


def test_a_file_larger_than_the_disk_is_refused_before_a_byte_is_written(site, tmp_path):
    site.answer = lambda handler: handler.serve(1000, Content_Length=2**60)
    match = rf"f needs {2**60} bytes more and {download.MARGIN} to spare, but \d+ are free"
    with pytest.raises(StoreError, match=match):
        get(site, tmp_path / "f")
    assert names(tmp_path) == set()
    site.answer = Handler.chunked
    with pytest.raises(StoreError, match=f"needs {2**60} bytes more"):
        get(site, tmp_path / "f", size=2**60)
    assert names(tmp_path) == set()


def test_a_body_of_unknown_length_stops_before_the_disk_is_full(site, tmp_path, monkeypatch):
    site.answer = Handler.chunked
    left = [download.MARGIN + 1, download.MARGIN + 1, download.MARGIN - 1]

    def usage(_: Path) -> Any:
        return type("Usage", (), {"free": left.pop(0)})

    monkeypatch.setattr(download.shutil, "disk_usage", usage)
    with pytest.raises(StoreError, match="are free on the disk"):
        get(site, tmp_path / "f", sha256=None)
    assert (tmp_path / "f.part").read_bytes() == BODY[:50_000]


def test_a_disk_that_fills_up_is_a_store_error_and_keeps_the_part(site, tmp_path):
    resource = pytest.importorskip("resource", reason="limits are set through Unix's resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        with pytest.raises(StoreError, match=r"f\.part cannot be written: File too large"):
            get(site, tmp_path / "f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = (tmp_path / "f.part").read_bytes()
    assert kept and BODY.startswith(kept)
    get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_place_that_cannot_be_written_is_a_store_error(site, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written: .*choose another place"):
        get(site, tmp_path / "file" / "sub" / "f")
    assert site.seen == []


def test_the_target_is_never_seen_in_part(site, tmp_path):
    seen: list[set[str]] = []

    def watched(handler: Handler) -> None:
        start, head = handler.whole()
        handler.start(200, **head)
        for at in range(0, len(BODY), 50_000):
            handler.wfile.write(BODY[at : at + 50_000])
            seen.append(names(tmp_path))

    site.answer = watched
    get(site, tmp_path / "f")
    assert seen and not any("f" in step for step in seen)


# the folders are named as packages without their __init__, which would load torch
CHILD = """
import sys, types
for name in ("graphkit", "graphkit.data", "graphkit.store"):
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = [f"{sys.argv[1]}/{name.replace('.', '/')}"]
from graphkit.data.download import fetch
from graphkit.data.web import Patience
print("ready", flush=True)
sys.stdin.readline()
_, _, url, target, sha256 = sys.argv
fetch(url, target, sha256=sha256, progress=False, patience=Patience(connect=5.0))
"""


def child(site: Site, target: Path) -> subprocess.Popen[str]:
    """A process that is ready to fetch ``target`` as soon as it is told :func:`go`."""
    root = str(Path(download.__file__).parent.parent.parent)
    command = [sys.executable, "-c", CHILD, root, site.url, str(target), SHA256]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin and process.stdout
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_that_fetch_one_target_download_it_once(site, tmp_path):
    both = threading.Event()

    def slowly(handler: Handler) -> None:
        # until the other process was told to go, too
        both.wait(60)
        handler.serve()

    site.answer = slowly
    jobs = [child(site, tmp_path / "f") for _ in range(3)]
    for job in jobs:
        go(job)
    both.set()
    for job in jobs:
        _, problems = job.communicate(timeout=60)
        assert (job.returncode, problems) == (0, "")
    assert len(site.seen) == 1 and names(tmp_path) == {"f"}
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_killed_process_leaves_what_the_next_one_continues(site, tmp_path):
    killed = threading.Event()

    def hang(handler: Handler) -> None:
        _, head = handler.whole()
        handler.start(200, **head)
        handler.wfile.write(BODY[:200_000])
        handler.wfile.flush()
        killed.wait(60)
        handler.close_connection = True

    site.in_turn(hang, Handler.serve)
    job = child(site, tmp_path / "f")
    go(job)
    # the client writes in blocks: the first one on the disk is all that is waited for
    while not (tmp_path / "f.part").exists() or not (tmp_path / "f.part").stat().st_size:
        assert job.poll() is None
        time.sleep(0.01)
    job.kill()
    job.communicate(timeout=60)
    killed.set()
    assert names(tmp_path) == {"f.part", "f.part.json"}
    kept = (tmp_path / "f.part").stat().st_size
    get(site, tmp_path / "f")
    assert site.ranges() == [None, f"bytes={kept}-"]
    assert names(tmp_path) == {"f"} and (tmp_path / "f").read_bytes() == BODY


def test_a_second_download_says_that_it_waits_for_the_first(site, tmp_path):
    said, held = threading.Event(), threading.Event()

    class Console(io.StringIO):
        def write(self, text: str) -> int:
            said.set()
            return super().write(text)

    def first() -> None:
        with FileLock(tmp_path / ".f.lock"):
            held.set()
            said.wait(60)
            (tmp_path / "f").write_bytes(BODY)

    other = threading.Thread(target=first)
    other.start()
    held.wait(60)
    console = Console()
    with contextlib.redirect_stderr(console):
        get(site, tmp_path / "f", progress=True)
    other.join()
    assert console.getvalue() == (
        f"f: waiting for another process that downloads {tmp_path / 'f'}\n"
    )
    assert site.seen == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(site: Site, target: Path, console: io.StringIO | None, **options: Any) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(console):
        get(site, target, **{"progress": True, **options})
    # stdout belongs to the result
    assert out.getvalue() == ""
    return console.getvalue() if console else ""


def test_a_short_download_is_silent(site, tmp_path):
    for console in (io.StringIO(), Terminal()):
        assert shown(site, tmp_path / str(id(console)), console) == ""


def test_a_long_download_shows_lines_or_a_bar(site, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SHOW_AFTER", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    lines = shown(site, tmp_path / "1", io.StringIO(), label="cora").splitlines()
    assert len(lines) >= 4 and lines[-1] == "cora: 0.3 of 0.3 MB (100%)"
    assert "\x1b" not in "".join(lines)
    bar = shown(site, tmp_path / "2", Terminal(), label="[cora]")
    assert "[cora]" in bar and "kB" in bar and "\x1b" in bar
    assert shown(site, tmp_path / "3", io.StringIO(), progress=False) == ""
    site.answer = Handler.chunked
    lines = shown(site, tmp_path / "4", io.StringIO()).splitlines()
    assert lines[-1] == "4: 0.3 MB"


def test_a_console_that_fails_or_is_missing_ends_no_download(site, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SHOW_AFTER", 0.0)
    closed = io.StringIO()
    closed.isatty = lambda: False  # type: ignore[method-assign]
    closed.close()
    with contextlib.redirect_stderr(closed):
        get(site, tmp_path / "1", progress=True)
    shown(site, tmp_path / "2", None)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == BODY


def test_nothing_is_ever_asked_of_the_user(site, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    get(site, tmp_path / "f")
    site.answer = status(401, WWW_Authenticate="Basic")
    with pytest.raises(StoreError, match="the server answers 401"):
        get(site, tmp_path / "g")
    assert not os.path.exists(tmp_path / "g")
