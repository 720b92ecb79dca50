"""What readers are given and what they return: verified files, named tensors.

Pickled upstream files are read by :func:`unpickle` and :func:`unpickle_torch` alone, whose
allow-lists stand here. They build arrays and containers and can call nothing else, so they are
safe on a file of unknown sha256 too.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import DataError, StoreError

_CHUNK = 1 << 24


@dataclass(frozen=True)
class Raw:
    """Named tensors, and what JSON holds besides them, as :mod:`graphkit.data.assemble` takes them.

    These are also what the processed form of a set keeps.
    """

    tensors: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)


class Files(Mapping[str, bytes]):
    """The raw files of a set by name: their bytes, after their sha256 was found to be the card's.

    :meth:`path` is for what is too large to hold in memory. A digest of "" is not known: it passes.

    Raises:
        StoreError: a file cannot be read.
        DataError: a file has another sha256.
    """

    def __init__(
        self, paths: Mapping[str, Path], digests: Mapping[str, str], name: str, source: str
    ) -> None:
        self._paths, self._digests = dict(paths), dict(digests)
        self._name, self._source = name, source
        self._verified: set[str] = set()

    def __getitem__(self, name: str) -> bytes:
        data = self._read(lambda path: path.read_bytes(), name)
        self._verify(name, hashlib.sha256(data).hexdigest())
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, name: str) -> Path:
        """Where the file ``name`` lies, after a check of its sha256 in pieces."""
        if name not in self._verified and self._digests[name]:
            self._verify(name, self._read(_sha256, name))
            self._verified.add(name)
        return self._paths[name]

    def known(self, name: str) -> bool:
        """Is the sha256 of the file on the card? Without, no plain pickle in it is read."""
        return bool(self._digests[name])

    def only(self, names: Iterable[str]) -> Files:
        """The files ``names`` of these."""
        paths = {name: self._paths[name] for name in names}
        return Files(paths, self._digests, self._name, self._source)

    def where(self, names: Iterable[str]) -> list[Path]:
        """Where files lie, or should lie; nothing is read."""
        return [self._paths[name] for name in names]

    def stamps(self, names: Iterable[str]) -> dict[str, list[int]]:
        """Size and time of change of the files that are here and have no known sha256."""
        here = [name for name in names if not self._digests[name] and self._paths[name].is_file()]
        status = {name: self._paths[name].stat() for name in here}
        return {name: [at.st_size, at.st_mtime_ns] for name, at in status.items()}

    def _read(self, read: Any, name: str) -> Any:
        try:
            return read(self._paths[name])
        except OSError as error:
            raise StoreError(
                f"{self._name}: {self._paths[name]} cannot be read: {error}."
            ) from error

    def _verify(self, name: str, found: str) -> None:
        expected = self._digests[name]
        if expected and found != expected:
            raise DataError(
                f"{self._name}: {self._paths[name]} has sha256 {found}, expected {expected}. It is "
                "damaged or another version and was not parsed: replace it by the file from "
                f"{self._source}."
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class _Latin1:
    """Makes the bytes that old protocols write as text; ``codecs.encode`` itself runs any codec."""

    # no function: a pickle can set the attributes of one for the whole process
    __slots__ = ()

    def __call__(self, text: str = "", encoding: str = "latin1") -> bytes:
        if encoding != "latin1":
            raise DataError(f"the pickle asks for the codec {encoding!r}. Only latin1 is allowed.")
        return text.encode("latin1")


# asked of numpy itself, because the function's module has another name in numpy 1 and 2
_ARRAY = np.empty(0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _Latin1(),
    # empty ones are written as a call without arguments
    ("__builtin__", "bytes"): _Latin1(),
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    # not scipy's class: a pickle can set attributes of a Python class for the whole process
    ("scipy.sparse.csr", "csr_matrix"): SimpleNamespace,
    ("scipy.sparse._csr", "csr_matrix"): SimpleNamespace,
}


class _Unpickler(pickle.Unpickler):
    allowed = _ALLOWED

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise DataError(
                f"the pickle asks for {module}.{name}, but only numpy arrays, scipy csr matrices, "
                "plain torch tensors, lists, sets and dicts are loaded. Do not open this file by "
                "other means."
            ) from None


def unpickle(data: bytes, name: str) -> Any:
    """The object in a pickle of arrays, lists and dicts; any other content is a :class:`DataError`.

    A scipy csr matrix comes back as a namespace with ``data``, ``indices``, ``indptr``, ``_shape``.
    ``name`` is the file's name, for the message.
    """
    return _guarded(lambda: _Unpickler(io.BytesIO(data), encoding="latin1").load(), name)


def unpickle_torch(data: bytes, name: str) -> Any:
    """What ``torch.save`` wrote, in both its formats, tensors as numpy arrays.

    Numbers, texts, lists, sets, dicts, numpy arrays and dense tensors on any device are read; any
    other content is a :class:`DataError`. ``name`` is the file's name, for the message.
    """
    read = _torch_zip if data.startswith(b"PK") else _torch_legacy
    return _guarded(lambda: read(data), name)


def _guarded(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    # malformed pickles raise nearly any type, from EOFError to AttributeError
    except Exception as error:
        raise DataError(
            f"{name}: not a readable pickle ({error}). Fetch the file again."
        ) from error


class _Tensor:
    """Makes the dense array that a pickled tensor describes, as a view of its storage."""

    __slots__ = ()

    def __call__(
        self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> np.ndarray:
        if not isinstance(storage, np.ndarray) or math.prod(size) > storage.size:
            raise DataError("a tensor in the pickle exceeds its storage. Fetch the file again.")
        if 0 in size:
            return np.empty(size, storage.dtype)
        step = storage.itemsize
        # numpy refuses what lies outside of the buffer
        return np.ndarray(
            size, storage.dtype, storage, offset * step, [step * number for number in stride]
        )


_STORAGES = {
    **{"DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BoolStorage": "?"},
    **{"LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1"},
    "ByteStorage": "u1",
}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _TorchUnpickler(_Unpickler):
    """Storages come from ``storage(dtype, key, count)``, which the file's format decides on."""

    # a storage's class is a text here: the pickle can neither call nor change it
    allowed = {
        **_ALLOWED,
        **{("torch", name): dtype for name, dtype in _STORAGES.items()},
        ("torch._utils", "_rebuild_tensor"): _Tensor(),
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor(),
    }

    def __init__(self, file: io.BytesIO, storage: Callable[[np.dtype, str, int], np.ndarray]):
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _device, count, *view = pid
        if kind != "storage" or dtype not in _STORAGES.values() or any(view):
            raise DataError(f"the pickle refers to {pid!r}, which is not a plain storage.")
        return self._storage(np.dtype(dtype), key, count)


def _torch_zip(data: bytes) -> Any:
    """The format since torch 1.6: a zip of the pickle and one member per storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        (pickled,) = [name for name in names if name.endswith("/data.pkl")]
        home = pickled.removesuffix("data.pkl")
        if home + "byteorder" in names and archive.read(home + "byteorder") != b"little":
            raise DataError("written on a big-endian machine. Save it again on another one.")
        loaded: dict[str, np.ndarray] = {}

        def storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
            if key not in loaded:
                member = bytearray(archive.read(f"{home}data/{key}"))
                loaded[key] = np.frombuffer(member, dtype, count)
            return loaded[key]

        return _TorchUnpickler(io.BytesIO(archive.read(pickled)), storage).load()


def _torch_legacy(data: bytes) -> Any:
    """The format before torch 1.6: five pickles one after the other, then the storages."""
    file = io.BytesIO(data)
    loaded: dict[str, np.ndarray] = {}

    def storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
        if key not in loaded:
            # the content stands behind the pickle, so that a count too high is a lie
            if dtype.itemsize * count > len(data):
                raise DataError("a storage in the pickle is larger than the file. It is damaged.")
            loaded[key] = np.zeros(count, dtype)
        return loaded[key]

    magic, protocol, system, content, keys = (
        _TorchUnpickler(file, storage).load() for _ in range(5)
    )
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not system["little_endian"]:
        raise DataError("not a file of torch.save, or of a big-endian machine. Fetch it again.")
    for key in keys:
        array = loaded[key]
        count = int.from_bytes(file.read(8), "little")
        if count != array.size:
            raise DataError(f"storage {key!r} has {count} numbers, expected {array.size}.")
        array[:] = np.frombuffer(file.read(array.nbytes), array.dtype, count)
    return content
