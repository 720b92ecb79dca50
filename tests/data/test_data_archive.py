from __future__ import annotations

import gzip
import io
import random
import re
import shutil
import struct
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit.data.archive import MANY, SMALL, TAR_HEADERS, unpack
from graphkit.errors import ConfigError, DataError, StoreError

# the ending of a tar -> how it is packed
TARS = {
    ".tar": "",
    **dict.fromkeys((".tar.gz", ".tgz"), "gz"),
    **dict.fromkeys((".tar.bz2", ".tbz2"), "bz2"),
    **dict.fromkeys((".tar.xz", ".txz"), "xz"),
}
KINDS = (".zip", *TARS)
ROOM = 10_000_000


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    """An archive of ``files`` by the standard library, of the kind that ``path`` ends in."""
    kind = path.name[path.name.index(".") :]
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, content in files.items():
                file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return path
    mode: Any = f"w:{TARS[kind]}"
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def tar_of(path: Path, *infos: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refused(archive: Path, match: str, **options) -> None:
    """``unpack`` raises a DataError, and neither the folder nor its surroundings got a file."""
    folder = archive.parent / "out"
    before = tree(archive.parent)
    with pytest.raises(DataError, match=match):
        unpack(archive, folder, **{"max_bytes": ROOM, **options})
    assert tree(archive.parent) == before
    assert not any(folder.iterdir()) if folder.exists() else True


# names that are free of case and folder clashes by construction: numbered
contents = st.lists(st.binary(max_size=3000), max_size=5)
folders = st.sampled_from(["", "raw/", "raw/A/", "é/", "raw/b c/"])


@pytest.mark.parametrize("kind", KINDS)
@given(contents=contents, data=st.data())
@settings(max_examples=6)
def test_what_was_packed_comes_out_and_equals_extractall(kind, contents, data):
    files = {f"{data.draw(folders)}f{i}.txt": content for i, content in enumerate(contents)}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        archive = pack(home / f"a{kind}", files)
        out = unpack(archive, home / "ours", max_bytes=ROOM)
        shutil.unpack_archive(archive, home / "theirs", **named(kind))
        assert tree(home / "ours") == tree(home / "theirs") == files
        assert out == [home / "ours" / name for name in files]


def named(kind: str) -> dict[str, Any]:
    """How shutil calls this kind, whose own guess does not know all the endings."""
    if kind == ".zip":
        return {"format": "zip"}
    packing = {"": "tar", "gz": "gztar", "bz2": "bztar", "xz": "xztar"}[TARS[kind]]
    return {"format": packing, "filter": "data"}


@given(contents=contents, chosen=st.sets(st.integers(0, 4)))
@settings(max_examples=10)
def test_only_wanted_members_are_extracted_in_the_order_asked_for(contents, chosen):
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        names = [f"d/f{i}" for i in range(len(contents))]
        wanted = {names[i]: f"new/{i}.txt" for i in reversed(sorted(chosen)) if i < len(names)}
        for kind in (".zip", ".tar.gz"):
            archive = pack(home / f"a{kind}", dict(zip(names, contents, strict=True)))
            out = unpack(archive, home / kind, members=wanted, max_bytes=ROOM)
            expected = {f"new/{i}.txt": contents[i] for i in chosen if i < len(names)}
            assert tree(home / kind) == expected
            assert out == [home / kind / path for path in wanted.values()]


@given(content=st.binary(max_size=5000))
@settings(max_examples=10)
def test_a_plain_gz_is_one_file_of_the_name_before_the_end(content):
    with tempfile.TemporaryDirectory() as name:
        archive = Path(name) / "edges.csv.gz"
        archive.write_bytes(gzip.compress(content))
        assert unpack(archive, Path(name) / "out", max_bytes=ROOM) == [
            Path(name) / "out" / "edges.csv"
        ]
        out = unpack(archive, Path(name), members={"edges.csv": "raw/e.csv"}, max_bytes=ROOM)
        assert [path.read_bytes() for path in out] == [content]


def test_names_that_begin_with_a_dot_are_the_same_names(tmp_path):
    archive = pack(tmp_path / "a.tar", {"./raw/x": b"1"})
    assert tree_of(archive, members=None) == {"raw/x": b"1"}
    assert tree_of(archive, members={"raw/x": "y"}) == {"y": b"1"}
    assert tree_of(archive, members={"./raw/x": "y"}) == {"y": b"1"}


def tree_of(archive: Path, **options) -> dict[str, bytes]:
    out = Path(tempfile.mkdtemp(dir=archive.parent))
    unpack(archive, out, **{"max_bytes": ROOM, **options})
    return tree(out)


def test_empty_archives_and_folders_give_nothing(tmp_path):
    for kind in KINDS:
        assert unpack(pack(tmp_path / f"a{kind}", {}), tmp_path / "out", max_bytes=1) == []
    archive = pack(tmp_path / "b.zip", {"folder/": b""})
    assert unpack(archive, tmp_path / "out", max_bytes=1) == []
    archive = tar_of(tmp_path / "b.tar", member("folder", tarfile.DIRTYPE))
    assert unpack(archive, tmp_path / "out", max_bytes=1) == []
    assert tree(tmp_path / "out") == {}


def test_many_small_files_come_out_too(tmp_path):
    files = {f"d{i % 7}/{i}": b"%d" % i for i in range(2 * MANY)}
    assert tree_of(pack(tmp_path / "a.zip", files)) == files


def test_a_file_that_is_there_is_replaced_and_others_stay(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "y").write_bytes(b"other")
    archive = pack(tmp_path / "a.zip", {"x": b"new"})
    unpack(archive, tmp_path, max_bytes=ROOM)
    assert tree(tmp_path) == {"x": b"new", "y": b"other", "a.zip": archive.read_bytes()}


UNSAFE = ("/etc/x", "//x", "../x", "a/../../x", "a/..", "C:/x", "c:x", "a/C:x", "a\nb", ".")


@pytest.mark.parametrize("kind", [".zip", ".tar"])
@pytest.mark.parametrize("name", [*UNSAFE, "..\\x", "\\x", "a\\b"])
def test_unsafe_names_are_refused(tmp_path, kind, name):
    archive = pack(tmp_path / f"a{kind}", {"good": b"1", name: b"2"})
    refused(archive, r"is not the name of a file below a folder|has a backslash")
    assert tree_of(archive, members={"good": "good"}) == {"good": b"1"}


def test_a_surrogate_in_a_name_is_refused(tmp_path):
    refused(pack(tmp_path / "a.tar", {"a\udcff": b"1"}), r"'a\\udcff' is not the name of a file")


@pytest.mark.parametrize("path", [*UNSAFE, "a\\b", ""])
def test_unsafe_paths_in_members_are_refused(tmp_path, path):
    archive = pack(tmp_path / "a.zip", {"x": b"1"})
    refused(archive, "is not the name of a file below a folder", members={"x": path})


def test_a_zero_in_a_name_is_refused(tmp_path):
    archive = pack(tmp_path / "a.zip", {"good.txt_evil": b"1"})
    archive.write_bytes(archive.read_bytes().replace(b"good.txt_evil", b"good.txt\0evil"))
    refused(archive, "has a backslash or a zero in its name")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (tarfile.SYMTYPE, "is a link to '/etc/passwd'"),
        (tarfile.LNKTYPE, "is a link to '/etc/passwd'"),
        (tarfile.CHRTYPE, "is a device or a pipe"),
        (tarfile.BLKTYPE, "is a device or a pipe"),
        (tarfile.FIFOTYPE, "is a device or a pipe"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind, says):
    archive = tar_of(tmp_path / "a.tar", member("good", size=3), member("x", kind, "/etc/passwd"))
    refused(archive, rf"a\.tar: member 'x' {says}\. Nothing was extracted; do not unpack")
    assert tree_of(archive, members={"good": "good"}) == {"good": b"xxx"}


def test_a_file_with_holes_is_refused(tmp_path):
    info = member("x")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0,9000000,0",
        "GNU.sparse.size": "9000000",
    }
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    refused(tmp_path / "a.tar", "member 'x' is a file with holes")


def test_writing_through_a_link_of_the_same_tar_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = member("way", tarfile.SYMTYPE, "../elsewhere")
    refused(tar_of(tmp_path / "a.tar", link, member("way/x", size=1)), "is a link to")


@pytest.mark.parametrize("mode", [0o120777, 0o060644, 0o010644])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, mode):
    info = zipfile.ZipInfo("x")
    info.create_system, info.external_attr = 3, mode << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("good", b"1")
        file.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", r"member 'x' is a link or a device\. Nothing was extracted")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", [".zip", ".tar"])
@pytest.mark.parametrize(
    ("one", "two"),
    [("x", "x"), ("x", "./x"), ("x", "X"), ("a/x", "A/X"), ("e\u0301", "\u00e9"), ("x", "x/y")],
)
def test_two_members_that_may_be_one_file_are_refused(tmp_path, kind, one, two):
    for first, second in ((one, two), (two, one)):
        path = tmp_path / f"a{kind}"
        if kind == ".zip":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr(zipfile.ZipInfo(first), b"1")
                file.writestr(zipfile.ZipInfo(second), b"2")
        else:
            tar_of(path, member(first, size=1), member(second, size=1))
        refused(path, re.escape(f"members {first!r} and {second!r} would be one file"))


def test_two_wanted_members_cannot_share_a_path(tmp_path):
    archive = pack(tmp_path / "a.zip", {"x": b"1", "y": b"2"})
    refused(archive, "members 'x' and 'y' would be one file", members={"x": "n", "y": "N"})


def test_names_that_differ_by_case_can_be_given_other_paths(tmp_path):
    archive = pack(tmp_path / "a.zip", {"x": b"1", "X": b"2"})
    assert tree_of(archive, members={"x": "low", "X": "up"}) == {"low": b"1", "up": b"2"}


def noise(count: int) -> bytes:
    return random.Random(0).randbytes(count)


@pytest.mark.parametrize("kind", [*KINDS, ".csv.gz"])
def test_max_bytes_is_the_exact_bound(tmp_path, kind):
    archive = tmp_path / f"a{kind}"
    if kind == ".csv.gz":
        archive.write_bytes(gzip.compress(noise(5000)))
    else:
        pack(archive, {"x": noise(2000), "y": noise(3000)})
    match = "unpacks to more bytes than the limit of 4999, because max_bytes is 4999"
    refused(archive, match, max_bytes=4999)
    assert sum(map(len, tree_of(archive, max_bytes=5000).values())) == 5000


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz", ".csv.gz"])
def test_a_bomb_stops_at_a_thousand_times_its_size(tmp_path, kind):
    archive, zeros = tmp_path / f"a{kind}", bytes(30 * SMALL)
    if kind == ".csv.gz":
        archive.write_bytes(gzip.compress(zeros))
    else:
        pack(archive, {"good": b"1", "x": zeros})
    grown = 1000 * archive.stat().st_size
    match = rf"limit of {max(SMALL, grown)}, because \d+ bytes may grow 1000 times, or to 1000000"
    refused(archive, match, max_bytes=10**12)


def patched_size(archive: Path, size: int) -> None:
    """Make both headers of the only member of a zip state ``size`` bytes."""
    data = bytearray(archive.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x03\x04") + 22, size)
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, size)
    archive.write_bytes(data)


@pytest.mark.parametrize("says", [0, 100, 2**31])
def test_a_zip_bomb_with_a_lying_header_is_refused(tmp_path, says):
    archive = pack(tmp_path / "a.zip", {"x": bytes(5 * SMALL)})
    patched_size(archive, says)
    refused(archive, "is damaged|unpacks to more", max_bytes=SMALL)


def test_a_zip_that_states_too_much_is_damaged(tmp_path):
    archive = pack(tmp_path / "a.zip", {"x": b"abc"})
    patched_size(archive, 5)
    refused(archive, "is damaged: member 'x' has 3 bytes, expected 5")


def test_a_gz_bomb_with_a_lying_trailer_is_refused(tmp_path):
    archive = tmp_path / "x.gz"
    archive.write_bytes(gzip.compress(bytes(5 * SMALL))[:-4] + struct.pack("<I", 3))
    refused(archive, "unpacks to more bytes than the limit of 1000000", max_bytes=SMALL)


def test_a_tar_bomb_in_a_member_nobody_wants_is_refused(tmp_path):
    archive = pack(tmp_path / "a.tar.gz", {"big": bytes(5 * SMALL), "good": b"1"})
    refused(archive, "unpacks to more", members={"good": "good"}, max_bytes=SMALL)


def test_a_tar_bomb_in_a_header_is_refused_before_it_fills_memory(tmp_path):
    info = member("x" * (50 * TAR_HEADERS))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(info)
    del info
    tracemalloc.start()
    try:
        refused(tmp_path / "a.tar.gz", "unpacks to more", max_bytes=10**12)
        assert tracemalloc.get_traced_memory()[1] < 10 * TAR_HEADERS
    finally:
        tracemalloc.stop()


def test_a_tar_of_too_many_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("graphkit.data.archive.MAX_MEMBERS", 3)
    files = dict.fromkeys("abcd", b"")
    refused(pack(tmp_path / "a.tar", files), "has more than 3 members. Nothing was extracted")
    files.popitem()
    assert tree_of(pack(tmp_path / "b.tar", files)) == files


def test_a_tar_with_a_negative_size_is_damaged(tmp_path):
    data = bytearray(tar_of(tmp_path / "a.tar", member("x", size=700)).read_bytes())
    data[124:136] = b"\xff" * 10 + b"\xfe\x00"
    header = data[:148] + b" " * 8 + data[156:512]
    data[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(data)
    refused(tmp_path / "a.tar", "is damaged")


@pytest.mark.parametrize("kind", [*KINDS, ".csv.gz"])
def test_a_truncated_archive_is_damaged_wherever_it_ends(tmp_path, kind):
    archive = tmp_path / f"a{kind}"
    if kind == ".csv.gz":
        archive.write_bytes(gzip.compress(noise(3000)))
    else:
        pack(archive, {"x": noise(2000), "y": noise(1000), "z": b""})
    whole = archive.read_bytes()
    # a plain tar is complete with the first of its closing zero blocks
    end = 512 + 2048 + 512 + 1024 + 512 if kind == ".tar" else len(whole) - 1
    for cut in {0, 1, 100, 512, 700, 2560, 2561, end // 2, end - 8, end}:
        if cut <= end:
            archive.write_bytes(whole[:cut])
            refused(archive, rf"a{re.escape(kind)} is damaged or not what its name says")


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tar.xz", ".tar.bz2", ".csv.gz"])
def test_a_flipped_byte_never_gives_other_content(tmp_path, kind):
    archive = tmp_path / f"a{kind}"
    if kind == ".csv.gz":
        archive.write_bytes(gzip.compress(noise(300)))
    else:
        pack(archive, {"x": noise(200), "y": noise(100)})
    whole = archive.read_bytes()
    expected = tree_of(archive).values()
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = tree_of(archive)
        except DataError:
            continue
        assert list(found.values()) == list(expected)


def test_a_damaged_header_in_a_tar_does_not_end_it(tmp_path):
    archive = pack(tmp_path / "a.tar", {"x": noise(600), "y": noise(600)})
    data = bytearray(archive.read_bytes())
    data[1536 + 5] ^= 1
    archive.write_bytes(data)
    # the standard library stops there without a word
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["x"]
    refused(archive, "is damaged or not what its name says: a header that is none")


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = pack(tmp_path / "a.zip", {"x": b"secret"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    refused(archive, "member 'x' is encrypted. Nothing was extracted: unpack it by hand with its")


def test_a_method_that_zipfile_does_not_know_is_refused(tmp_path):
    archive = pack(tmp_path / "a.zip", {"x": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x03\x04") + 8] = 99
    data[data.index(b"PK\x01\x02") + 10] = 99
    archive.write_bytes(data)
    refused(archive, "is damaged or not what its name says: .*compression")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.tbz2", "a.gz"])
def test_a_web_page_is_no_archive(tmp_path, name):
    (tmp_path / name).write_bytes(b"<!doctype html><html>log in</html>" * 50)
    refused(tmp_path / name, "fetch the file again")


def test_an_unknown_ending_names_the_known_ones(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    refused(tmp_path / "a.rar", r"ends in none of \.zip, \.tar, .*\. Rename it")


def test_a_missing_member_is_named_and_the_others_are_not_written(tmp_path):
    archive = pack(tmp_path / "a.zip", {"x": b"1"})
    match = "has no member 'y', and lacks 1 of the 2 wanted. Nothing was extracted"
    refused(archive, match, members={"x": "x", "y": "y"})


def test_an_archive_that_is_not_there_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match=r"a\.zip cannot be read: No such file"):
        unpack(tmp_path / "a.zip", tmp_path / "out", max_bytes=1)


@pytest.mark.parametrize("bound", [0, -1])
def test_max_bytes_must_be_positive(tmp_path, bound):
    with pytest.raises(ConfigError, match=f"max_bytes is {bound}, but a positive number"):
        unpack(tmp_path / "a.zip", tmp_path / "out", max_bytes=bound)


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path):
    archive = pack(tmp_path / "a.zip", {"x": b"1"})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file.* cannot be written: .*choose another place"):
        unpack(archive, tmp_path / "file", max_bytes=ROOM)
    (tmp_path / "out" / "x").mkdir(parents=True)
    with pytest.raises(StoreError, match="x cannot be written"):
        unpack(archive, tmp_path / "out", max_bytes=ROOM)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_a_full_disk_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource", reason="limits are set through Unix's resource")
    archive = pack(tmp_path / "a.zip", {"small": b"1", "x": noise(300_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreError, match="cannot be written: File too large"):
            unpack(archive, tmp_path / "out", max_bytes=ROOM)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not any((tmp_path / "out").iterdir())
