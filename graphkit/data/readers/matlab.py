"""Variables of Matlab's files of version 5, checked before scipy reads them. (opt: scipy)

scipy trusts the type numbers in a file: a damaged one can end the process instead of raising.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from ...errors import DataError

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_INT8, _INT32, _UINT32 = 1, 5, 6
# element types of numbers and of text
_PLAIN = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18}
_SPARSE = 5
# array classes: sparse, double, single and the whole numbers
_ARRAYS = range(_SPARSE, 16)
_COMPLEX = 1 << 11


def read_mat(name: str, data: bytes, keys: tuple[str, ...]) -> dict[str, Any]:
    """The arrays and sparse matrices ``keys`` in ``data``, the Matlab file ``name``.

    Raises :class:`DataError` for another kind of file, a damaged one, or one without these.
    """
    from scipy.io import loadmat

    try:
        _check(data, {key.encode() for key in keys})
        found = loadmat(io.BytesIO(data), variable_names=keys)
        for value in found.values():
            # indices are the file's word, which scipy does not compare with the shape
            if hasattr(value, "check_format"):
                value.check_format(full_check=True)
    # scipy raises nearly any type on a damaged file, from TypeError to zlib.error
    except Exception as error:
        raise DataError(
            f"{name}: not a Matlab file of version 5 with plain arrays ({error}). "
            "Fetch the file again."
        ) from error
    missing = [key for key in keys if key not in found]
    if missing:
        raise DataError(
            f"{name}: {', '.join(missing)} missing in the Matlab file. Fetch the file again."
        )
    return found


def _check(data: bytes, keys: set[bytes]) -> None:
    """Raise ValueError unless all variables are whole, and those of ``keys`` arrays of numbers."""
    mark = data[_HEADER - 2 : _HEADER]
    if mark not in (b"IM", b"MI"):
        raise ValueError("it does not begin like one")
    order = "<" if mark == b"IM" else ">"
    for kind, body in _elements(memoryview(data)[_HEADER:], order):
        if kind == _COMPRESSED:
            inner = _elements(memoryview(zlib.decompress(body)), order)
            kind, body = next(inner, (0, memoryview(b"")))
            if next(inner, None):
                raise ValueError("two variables were compressed as one")
        if kind != _MATRIX:
            raise ValueError(f"a variable has type {kind}")
        _check_variable(body, order, keys)


def _elements(view: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The type and the content of each element."""
    at = 0
    while at < len(view):
        if at + 8 > len(view):
            raise ValueError("it ends within a tag")
        kind, size = struct.unpack_from(f"{order}II", view, at)
        small = kind >> 16
        start = at + (4 if small else 8)
        kind, size = (kind & 0xFFFF, small) if small else (kind, size)
        if start + size > len(view) or small > 4:
            raise ValueError("it ends within an element")
        yield kind, view[start : start + size]
        # all but compressed ones end at a multiple of 8
        at = start + size + (0 if kind == _COMPRESSED else -(start + size - at) % 8)


def _check_variable(body: memoryview, order: str, keys: set[bytes]) -> None:
    """Raise ValueError unless ``body`` is a variable, and one of numbers if it is in ``keys``."""
    elements = _elements(body, order)
    head = [next(elements, (0, memoryview(b""))) for _ in range(3)]
    (_, flags), (_, dims), (_, label) = head
    kinds = [kind for kind, _ in head]
    if kinds != [_UINT32, _INT32, _INT8] or len(flags) != 8 or len(dims) < 8 or len(dims) % 4:
        raise ValueError("a variable has no flags, size and name")
    if bytes(label) not in keys:
        return
    (flag,) = struct.unpack_from(f"{order}I", flags)
    array, parts = flag & 0xFF, [kind for kind, _ in elements]
    if array not in _ARRAYS:
        raise ValueError(f"{bytes(label).decode()} is of class {array}, not an array of numbers")
    expected = (3 if array == _SPARSE else 1) + bool(flag & _COMPLEX)
    if len(parts) != expected or not set(parts) <= _PLAIN:
        raise ValueError(f"{bytes(label).decode()} has elements of types {parts}")
