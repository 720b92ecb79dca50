"""What torch.save wrote, read without torch.load."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit.data.raw import unpickle, unpickle_torch
from graphkit.errors import DataError

DTYPES = [torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


def saved(content: object, *, legacy: bool) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


@st.composite
def tensors(draw: Any) -> torch.Tensor:
    """Dense tensors, some of them views with strides and an offset."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    whole = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(0))
    whole = whole.to(draw(st.sampled_from(DTYPES)))
    if whole.dim() > 1 and draw(st.booleans()):
        whole = whole.transpose(0, 1)
    return whole[draw(st.integers(0, 1)) :] if whole.dim() else whole


ITEMS = st.one_of(
    tensors(),
    tensors().map(lambda t: t.contiguous().numpy()),
    st.integers(-5, 5),
    st.text(max_size=4),
    st.none(),
    st.sets(st.integers(0, 3)),
)


def same(ours: object, theirs: object) -> bool:
    if isinstance(theirs, (torch.Tensor, np.ndarray)):
        array = np.asarray(theirs)
        return (
            isinstance(ours, np.ndarray)
            and (ours.dtype, ours.shape) == (array.dtype, array.shape)
            and np.array_equal(ours, array)
        )
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[k], theirs[k]) for k in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


@given(
    content=st.dictionaries(st.text(max_size=3), ITEMS | st.lists(ITEMS, max_size=3), max_size=4)
)
@settings(max_examples=60)
@pytest.mark.parametrize("legacy", [False, True])
def test_equal_to_torch_load(content, legacy):
    data = saved(content, legacy=legacy)
    assert same(unpickle_torch(data, "f"), torch.load(io.BytesIO(data), weights_only=False))


@pytest.mark.parametrize("legacy", [False, True])
def test_other_containers_and_shared_storages(legacy):
    base = torch.arange(6)
    content = {"o": OrderedDict(a=base[1:4], b=base[::2]), "d": defaultdict(list, {0: [1]})}
    out = unpickle_torch(saved(content, legacy=legacy), "f")
    assert type(out["o"]) is OrderedDict and type(out["d"]) is defaultdict
    assert out["o"]["a"].tolist() == [1, 2, 3] and out["o"]["b"].tolist() == [0, 2, 4]
    out["o"]["b"][1] = 7
    assert out["o"]["a"].tolist() == [1, 7, 3]


class Call:
    """Pickles to a call of ``function`` that would create the canary."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def traps(canary: Path) -> list[tuple[Call, str]]:
    return [
        (Call(os.system, f"touch '{canary}'"), r"(posix|nt)\.system"),
        (Call(open, str(canary), "w"), r"io\.open|_io\.open"),
        (Call(eval, f"open({str(canary)!r}, 'w')"), r"builtins\.eval|__builtin__\.eval"),
        (Call(torch.load, str(canary)), r"torch\.serialization\.load"),
        (Call(torch.storage.UntypedStorage.from_file, str(canary), True, 1), "getattr|from_file"),
    ]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_file_does_not_run(number, legacy, tmp_path):
    trap, named = traps(tmp_path / "canary")[number]
    data = saved({"edge": torch.zeros(2), "x": trap}, legacy=legacy)
    with pytest.raises(DataError, match=rf"^split/train\.pt: the pickle asks for .*({named})"):
        unpickle_torch(data, "split/train.pt")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_the_canary_is_a_real_one(legacy, tmp_path):
    trap, _ = traps(tmp_path / "canary")[0]
    torch.load(io.BytesIO(saved({"x": trap}, legacy=legacy)), weights_only=False)
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "content",
    [
        torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True),
        torch.nn.Linear(1, 1),
        torch.zeros(2, dtype=torch.bfloat16),
        torch.nn.Parameter(torch.zeros(1)),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_what_no_data_set_needs_is_refused(content, legacy):
    with pytest.raises(DataError, match="^f: the pickle asks for .*only numpy arrays"):
        unpickle_torch(saved(content, legacy=legacy), "f")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_a_data_error(legacy):
    data = saved({"edge": torch.arange(20), "array": np.arange(3)}, legacy=legacy)
    for size in range(0, len(data), 7):
        with pytest.raises(DataError, match="^f: "):
            unpickle_torch(data[:size], "f")


def rewritten(data: bytes, member: str, content: bytes) -> bytes:
    """The zip with another content of one member."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith(member) else old.read(name))
    return out.getvalue()


def test_a_zip_that_contradicts_itself():
    data = saved(torch.arange(20), legacy=False)
    cases = {
        "byteorder": (b"big", "big-endian"),
        "data/0": (b"short", "not a readable pickle"),
        "data.pkl": (b"", "not a readable pickle"),
    }
    for member, (content, message) in cases.items():
        with pytest.raises(DataError, match=message):
            unpickle_torch(rewritten(data, member, content), "f")
    with pytest.raises(DataError, match="not a readable pickle"):
        unpickle_torch(b"PK" + data[2:100], "f")


def test_a_tensor_larger_than_its_storage():
    """With a stride of 0, a few bytes would claim any amount of memory."""
    data = saved(torch.arange(3), legacy=False)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
        pickled = archive.read(name)
    # BININT1 3, TUPLE1 is the size, BININT1 1, TUPLE1 the stride
    for size, stride, message in ((99, 0, "exceeds its storage"), (3, 9, "not a readable pickle")):
        changed = pickled.replace(b"K\x03\x85", bytes([75, size, 133]))
        changed = changed.replace(b"K\x01\x85", bytes([75, stride, 133]))
        assert changed != pickled
        with pytest.raises(DataError, match=message):
            unpickle_torch(rewritten(data, "data.pkl", changed), "f")


def legacy_file(magic: int, system: object, content: bytes, keys: list[str], tail: bytes) -> bytes:
    head = [pickle.dumps(part, protocol=2) for part in (magic, 1001, system)]
    return b"".join([*head, content, pickle.dumps(keys, protocol=2), tail])


def storage_of(kind: str, count: int) -> bytes:
    """A pickle of a storage, referred to as torch does."""
    return (
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuJ" + count.to_bytes(4, "little") + b"NtQ."
    )


def test_an_old_file_that_contradicts_itself():
    magic, little = 0x1950A86A20F9469CFC6C, {"little_endian": True}
    good = storage_of("LongStorage", 2)
    two = (2).to_bytes(8, "little") + np.array([5, 6]).tobytes()
    assert unpickle_torch(legacy_file(magic, little, good, ["0"], two), "f").tolist() == [5, 6]
    huge = storage_of("LongStorage", 2**30)
    cases = [
        (legacy_file(1, little, good, ["0"], two), "not a file of torch.save"),
        (legacy_file(magic, {"little_endian": False}, good, ["0"], two), "big-endian"),
        (legacy_file(magic, little, huge, ["0"], two), "larger than the file"),
        (legacy_file(magic, little, good, ["0"], b"\x03" + two[1:]), "has 3 numbers, expected 2"),
        (legacy_file(magic, little, good, ["1"], two), "not a readable pickle"),
        (legacy_file(magic, little, storage_of("LongStorage", 2).replace(b"stor", b"stol"), ["0"],
                     two), "not a plain storage"),
        (pickle.dumps({"edge": [1]}), "not a readable pickle"),
        (b"", "not a readable pickle"),
    ]  # fmt: skip
    for data, message in cases:
        with pytest.raises(DataError, match=f"^f: .*{message}"):
            unpickle_torch(data, "f")


def test_no_codec_but_the_one_of_old_arrays():
    call = b"\x80\x02c_codecs\nencode\n(Va\nV%s\ntR."
    assert unpickle(call % b"latin1", "f") == b"a"
    with pytest.raises(DataError, match="f: the pickle asks for the codec 'zlib'. Only latin1"):
        unpickle(call % b"zlib", "f")


@pytest.mark.parametrize("what", [b"_codecs\nencode", b"torch._utils\n_rebuild_tensor_v2"])
def test_a_pickle_cannot_change_what_it_may_call(what):
    """BUILD sets attributes, and those of a function would stay for the whole process."""
    state = pickle.dumps((None, {"__doc__": "x"}), protocol=2)[2:-1]
    system = pickle.dumps(0, protocol=2)
    with pytest.raises(DataError, match="not a readable pickle"):
        unpickle_torch(system * 3 + b"\x80\x02c" + what + b"\n" + state + b"b.", "f")
    state = pickle.dumps({"x": 1}, protocol=2)[2:-1]
    with pytest.raises(DataError, match="not a readable pickle"):
        unpickle_torch(system * 3 + b"\x80\x02c" + what + b"\n" + state + b"b.", "f")
