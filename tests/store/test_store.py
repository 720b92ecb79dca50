from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from graphkit.errors import StoreError
from graphkit.store import atomic, digest, load_tensors, save_tensors

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32]
DTYPES += [torch.uint8, torch.bool]


def sample() -> dict[str, torch.Tensor]:
    tensors = {str(dtype): (torch.randn(3, 5) * 9).to(dtype) for dtype in DTYPES}
    view = torch.arange(20).view(4, 5)
    return tensors | {"empty": torch.empty(0, 4), "one": torch.tensor(3.5), "view": view[1:3, ::2]}


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensors, meta = sample(), {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    save_tensors(tmp_path / "deep" / "t.safetensors", tensors, meta)
    back, about = load_tensors(tmp_path / "deep" / "t.safetensors")
    assert about == meta and back.keys() == tensors.keys()
    for name, value in tensors.items():
        assert back[name].dtype == value.dtype and torch.equal(back[name], value)
    assert digest(back) == digest(tensors)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["t.safetensors"]


def test_what_is_done_to_loaded_tensors_stays_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_tensors(path, {"a": torch.ones(1000)}, {})
    load_tensors(path)[0]["a"].zero_()
    assert load_tensors(path)[0]["a"].sum() == 1000


def test_one_number_of_any_stride_has_its_digest() -> None:
    """A part of another tensor, which torch calls contiguous whatever its stride."""
    one = torch.arange(12).view(3, 4)[1:2, 2:3]
    assert digest({"a": one}) == digest({"a": torch.tensor([[6]])})


@settings(max_examples=20)
@given(st.data())
def test_any_change_of_content_changes_the_digest(data: st.DataObject) -> None:
    tensors = sample()
    name = data.draw(st.sampled_from([key for key in tensors if tensors[key].numel()]))
    flat = tensors[name].contiguous().view(-1)
    raw = flat.view(torch.uint8).clone()
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1
    changed = raw.view(flat.dtype).view(tensors[name].shape) if flat.dtype != torch.bool else ~flat
    assert digest({**tensors, name: changed}) != digest(tensors)
    assert digest(tensors, "x") != digest(tensors)
    renamed = {("other" if key == name else key): value for key, value in tensors.items()}
    assert digest(renamed) != digest(tensors)


def test_200_flipped_bits_and_100_truncations_are_all_found(tmp_path: Path) -> None:
    path, broken = tmp_path / "t.safetensors", tmp_path / "broken.safetensors"
    save_tensors(path, sample(), {"reader": "x", "counts": {"nodes": 5}})
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    bits = torch.randperm(8 * len(whole), generator=generator)[:200].tolist()
    # every byte of the header's length, and of its beginning, too
    for bit in [*range(0, 8 * 16, 3), *bits]:
        bad = bytearray(whole)
        bad[bit // 8] ^= 1 << bit % 8
        broken.write_bytes(bad)
        with pytest.raises(StoreError, match=r"broken\.safetensors"):
            load_tensors(broken)
    for length in torch.randint(0, len(whole), (100,), generator=generator).tolist():
        broken.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"broken\.safetensors"):
            load_tensors(broken)


class Hostile:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path, canary = tmp_path / "w.safetensors", tmp_path / "canary"
    with pytest.raises(StoreError, match=r"w\.safetensors cannot be read: No such file"):
        load_tensors(path)
    for write in (
        lambda: path.write_bytes(pickle.dumps(Hostile(canary))),
        lambda: torch.save({"a": torch.ones(2)}, path),
    ):
        write()
        with pytest.raises(StoreError, match="is a pickle or a zip archive of torch.save"):
            load_tensors(path)
    assert not canary.exists()
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(StoreError, match="carries no checksum"):
        load_tensors(path)
    path.write_text("hello, this is no tensor file at all")
    with pytest.raises(StoreError, match="is damaged or no safetensors file"):
        load_tensors(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as side:
        side.write_text("new")
        raise ZeroDivisionError
    with pytest.raises(StoreError, match="a cannot be written: No space left"), atomic(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a"]
    with atomic(path) as side:
        side.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        save_tensors(tmp_path / "file" / "t", {"a": torch.ones(1)}, {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/shm with a limit")
def test_a_file_size_limit_is_a_store_error(tmp_path: Path) -> None:
    """A limit of the process stands for a full disk."""
    code = (
        "import resource, signal, sys, torch\n"
        "from graphkit.store import save_tensors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "save_tensors(sys.argv[1], {'a': torch.zeros(10)}, {})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))\n"
        "try: save_tensors(sys.argv[1], {'a': torch.zeros(10**6)}, {})\n"
        "except OSError as error: print(type(error).__name__, error)\n"
    )
    path = tmp_path / "t.safetensors"
    line = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith(f"StoreError {path} cannot be written: "), done.stderr
    assert load_tensors(path)[0]["a"].numel() == 10
    assert [p.name for p in tmp_path.iterdir()] == ["t.safetensors"]


def test_readers_beside_a_writer_see_one_whole_file(tmp_path: Path) -> None:
    path, stop = tmp_path / "t.safetensors", threading.Event()
    save_tensors(path, {"a": torch.zeros(20_000)}, {"n": 0})
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            tensors, meta = load_tensors(path)
            if not (tensors["a"] == meta["n"]).all():
                wrong.append(meta)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 40):
        save_tensors(path, {"a": torch.full((20_000,), float(number))}, {"n": number})
    stop.set()
    reader.join()
    assert not wrong and json.loads(json.dumps(load_tensors(path)[1])) == {"n": 39}
