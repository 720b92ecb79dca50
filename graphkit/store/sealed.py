"""Named tensors and their description in one safetensors file that carries its own checksum.

The checksum (xxh3, 128 bits) covers the description and the name, dtype, shape and bytes of every
tensor, so that a flipped bit anywhere in the file is found, in the header by its parser.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import StoreError
from .files import atomic

_KEY = "graphkit"


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> None:
    """Write ``tensors`` and ``meta`` (what JSON holds) to ``path``, whole or not at all.

    Raises:
        StoreError: the place cannot be written, or the disk is full.
    """
    # safetensors wants every tensor whole and in memory of its own
    kept = {name: _own(value) for name, value in tensors.items()}
    text = json.dumps(meta, sort_keys=True, allow_nan=False)
    with atomic(path) as side:
        mode = side.stat().st_mode & 0o777
        try:
            # one entry: safetensors writes several in an order of its own each time
            seal = json.dumps({"xxh3_128": digest(kept, text), "meta": text})
            save_file(kept, side, {_KEY: seal})
        except SafetensorError as error:
            raise OSError(str(error)) from error
        # save_file makes a file that only its owner can read, whatever the umask
        os.chmod(side, mode)


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description that :func:`save_tensors` wrote, after their checksum.

    The tensors are mapped from the file: what is not used is not read again.

    Raises:
        StoreError: the file is absent, damaged, cut short, or was not written by graphkit.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (SafetensorError, UnicodeDecodeError, RuntimeError, ValueError) as error:
        if _looks_pickled(path):
            raise StoreError(
                f"{path} is a pickle or a zip archive of torch.save, which can run code when it "
                "is opened and is never read. Give a safetensors file that graphkit wrote."
            ) from error
        raise StoreError(
            f"{path} is damaged or no safetensors file ({error}). Restore it or make it again."
        ) from error
    try:
        seal = json.loads(about[_KEY])
        text, expected = seal["meta"], seal["xxh3_128"]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} carries no checksum: it is damaged or was not written by graphkit. "
            "Give a file that graphkit wrote."
        ) from error
    if digest(tensors, text) != expected:
        raise StoreError(
            f"{path} is damaged: its content does not have the checksum that was written with it. "
            "Restore it or make it again."
        )
    return tensors, json.loads(text)


def _looks_pickled(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _own(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    whole = value.untyped_storage().nbytes() == value.nbytes
    return value if whole else value.clone()


def digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """The checksum (xxh3, 128 bits, hexadecimal) of named tensors and of a text beside them."""
    state = xxhash.xxh3_128(text.encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        state.update(f"\n{name} {value.dtype} {list(value.shape)}\n".encode())
        if value.numel():
            # the stride of a tensor of one number may be any
            flat = value.as_strided((value.numel(),), (1,))
            raw: Any = flat.view(torch.uint8).numpy()
            state.update(raw)
    return state.hexdigest()
