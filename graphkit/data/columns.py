"""One csv or parquet file of a user as columns of texts and numbers. (opt: pandas, pyarrow)

A csv file is UTF-8 with commas, ``"`` around what holds a comma, and as many fields in every row.
Nothing is guessed from its content: the caller says which columns are texts, and those come back
letter by letter, so that the node ``007`` stays that and a node may be called ``NA``.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, StoreError, need

MISSING = ("", "nan", "NaN")
"""What stands for a number or a label that is not known."""

Columns = tuple[dict[str, np.ndarray], np.ndarray]


def find(folder: Path, stem: str, suffixes: Sequence[str]) -> Path | None:
    """The file ``stem`` with one of ``suffixes``, None if there is none; :class:`DataError` if two.

    Case counts, so that the same folder is read on every system.
    """
    here = {path.name for path in folder.iterdir()}
    names = [stem + suffix for suffix in suffixes if stem + suffix in here]
    if len(names) > 1:
        raise DataError(
            f"{folder} has {' and '.join(names)}, but only one of them can be meant. Remove the "
            "others."
        )
    return folder / names[0] if names else None


def content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        StoreError: it cannot be read.
        DataError: it is empty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}. Check what it is and who may read it."
        ) from error
    if not data:
        raise DataError(f"{path} is empty: 0 bytes. Write the file again.")
    return data


class Csv:
    """The rows of a csv file; without ``header`` its columns are called ``0``, ``1``, ...

    ``blanks``: where there is one column, an empty line is a row whose field is empty.

    Raises:
        StoreError: the file cannot be read.
        DataError: it is not text in UTF-8, has no rows, a row of another length than the first, an
            unclosed quote, or a column without a name or called like another.
    """

    def __init__(self, path: Path, header: bool = True, blanks: bool = False) -> None:
        need("pandas")
        self.path, self._header = path, header
        whole = _decode(path, content(path))
        self._text = (_filled(whole) if blanks else whole).rstrip("\r\n")
        if not self._text:
            raise DataError(f"{path} is empty: nothing but line ends. Write the file again.")
        self.names = self._check_rows()

    def place(self, row: int) -> str:
        """Where a row of data stands, for messages."""
        return f"line {self._line(row + self._header)}"

    def read(
        self, texts: Sequence[str], numbers: Sequence[str], remedy: str = "", flags: bool = True
    ) -> Columns:
        """Columns of texts, each object [R], and the others together, float64 [R, K].

        What is missing is "" or NaN; True and False are numbers if ``flags``.

        Raises :class:`DataError`, which ends with ``remedy``, for a value among ``numbers`` that is
        not a number.
        """
        import pandas as pd

        frame = pd.read_csv(
            io.StringIO(self._text, newline=""),
            header=0 if self._header else None,
            names=self.names,
            usecols=[*texts, *numbers],
            # as an object, True is a text like any other
            dtype=dict.fromkeys(texts if flags else [*texts, *numbers], object),
            keep_default_na=False,
            na_values={name: list(MISSING) for name in numbers},
            # as csv.reader, which counted the fields
            skip_blank_lines=False,
            index_col=False,
            low_memory=False,
        )
        for name in numbers:
            if frame[name].dtype.kind not in "iufb":
                frame[name] = self._numbers(name, frame[name].astype(object), remedy or NUMBERS)
        values = frame[list(numbers)].to_numpy(np.float64)
        return {name: frame[name].to_numpy(object) for name in texts}, values

    def _numbers(self, name: str, column: Any, remedy: str) -> Any:
        """A column that pandas found not to be of numbers; some of these are, as True and nothing.

        Raises :class:`DataError` for the first text in it.
        """
        import pandas as pd

        found: Any = pd.to_numeric(column, errors="coerce")
        bad = np.flatnonzero((found.isna() & column.notna()).to_numpy())
        if len(bad):
            raise DataError(
                f"{self.path}, {self.place(int(bad[0]))}, column {name!r}: "
                f"{column.iloc[bad[0]]!r} is not a number. {remedy}"
            )
        return found.astype(np.float64)

    def _reader(self) -> Any:
        return csv.reader(io.StringIO(self._text, newline=""), strict=True)

    def _line(self, row: int | None) -> int:
        """The line in which a row begins, None: the first that is not csv; fields may hold some."""
        reader, line = self._reader(), 1
        for number in itertools.count():
            if number == row:
                break
            try:
                next(reader)
            except csv.Error:
                break
            line = reader.line_num + 1
        return line

    def _check_rows(self) -> list[str]:
        reader = self._reader()
        try:
            first = next(reader)
            widths = np.fromiter(map(len, reader), np.int64)
        except csv.Error as error:
            raise DataError(
                f"{self.path}, line {self._line(None)}: not a row of csv ({error}). Put fields "
                'with quotes or commas between ", and double the " inside.'
            ) from None
        ragged = np.flatnonzero(widths != len(first))
        if len(ragged):
            raise DataError(
                f"{self.path}, line {self._line(int(ragged[0]) + 1)}: {widths[ragged[0]]} fields, "
                f"but the first line has {len(first)}. Give every row the same fields, with "
                '" around those that hold a comma.'
            )
        if not self._header:
            return [str(number) for number in range(len(first))]
        _check_names(self.path, first)
        if not len(widths):
            raise DataError(f"{self.path} has a header and no rows. Write the file again.")
        return first


class Parquet:
    """The rows of a parquet file, like :class:`Csv`; integers are taken as texts too."""

    def __init__(self, path: Path) -> None:
        need("pyarrow", "parquet")
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        data = content(path)
        try:
            table: Any = pq.ParquetFile(pa.BufferReader(data)).read()
        # damaged files raise several types of pyarrow's and of Python's
        except Exception as error:
            raise DataError(
                f"{path} is not a readable parquet file ({error}). Write it again."
            ) from error
        # pandas keeps the numbers of rows that were left over from a larger frame
        kept = [name for name in table.column_names if not name.startswith("__index_level_")]
        _check_names(path, kept)
        self._table, self.names = table.select(kept), kept
        if not table.num_rows:
            raise DataError(f"{path} has columns and no rows. Write the file again.")

    def place(self, row: int) -> str:
        """Where a row of data stands, for messages; they count from 0."""
        return f"row {row}"

    def read(
        self, texts: Sequence[str], numbers: Sequence[str], remedy: str = "", flags: bool = True
    ) -> Columns:
        """As :meth:`Csv.read`."""
        values = np.empty((self._table.num_rows, len(numbers)))
        for k, name in enumerate(numbers):
            values[:, k] = self._numbers(name, remedy or NUMBERS, flags)
        return {name: self._texts(name) for name in texts}, values

    def _numbers(self, name: str, remedy: str, flags: bool) -> np.ndarray:
        import pyarrow as pa

        column = self._table[name]
        kind = column.type
        fits = [pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean][: 2 + flags]
        if not any(is_kind(kind) for is_kind in fits):
            raise DataError(
                f"{self.path}, column {name!r}: {kind} is not a type of numbers. {remedy}"
            )
        return column.cast(pa.float64(), safe=False).to_numpy()

    def _texts(self, name: str) -> np.ndarray:
        import pyarrow as pa

        column = self._table[name]
        kind = column.type
        if pa.types.is_floating(kind):
            # as Python writes them: 1.0 must not become a whole number
            found = ["" if value is None else repr(value) for value in column.to_pylist()]
            return np.array(found, dtype=object)
        if pa.types.is_boolean(kind):
            column = column.cast(pa.int8())
        try:
            column = column.cast(pa.string())
        except pa.ArrowException:
            raise DataError(
                f"{self.path}, column {name!r}: {kind} can be neither a name nor a number. Write "
                "texts or whole numbers."
            ) from None
        return column.fill_null("").to_numpy().astype(object)


Table = Csv | Parquet

NUMBERS = (
    "Encode texts as numbers (pandas.get_dummies), or list the columns to use under [columns] in "
    "graph.toml."
)


def open_table(folder: Path, stem: str) -> Table | None:
    """The table ``stem.csv`` or ``stem.parquet`` of a folder; None if there is none."""
    path = find(folder, stem, (".csv", ".parquet"))
    if path is None:
        return None
    return Csv(path) if path.suffix == ".csv" else Parquet(path)


class NodeIndex:
    """The row of each node (or ``what`` it is) by its id, a text; without ids the row is the id.

    ``names [N]`` are the ids, object, in the order of the rows.
    """

    def __init__(
        self, nodes: Table, ids: np.ndarray | None, count: int, what: str = "node"
    ) -> None:
        import pandas as pd

        self.size, self._nodes, self._given, self._what = count, nodes, ids is not None, what
        names = np.array([str(row) for row in range(count)], object) if ids is None else ids
        self.names = names
        self._index = pd.Index(names, dtype=object)
        if not self._index.is_unique:
            row = int(self._index.duplicated().argmax())
            raise DataError(
                f"{nodes.path}, {nodes.place(row)}: the id {names[row]!r} was there before, in "
                f"{nodes.place(int((names == names[row]).argmax()))}. Give every {what} one row."
            )
        if ids is not None and (ids == "").any():
            row = int((ids == "").argmax())
            raise DataError(f"{nodes.path}, {nodes.place(row)}: no id. Give every {what} one.")

    def rows(self, table: Table, column: str, ids: np.ndarray) -> np.ndarray:
        """The rows, int64, of the nodes in a column of ``table``."""
        rows = self._index.get_indexer(ids)
        if (rows < 0).any():
            row = int((rows < 0).argmax())
            known = f"in {self._nodes.path.name}"
            if not self._given:
                known = (
                    f"{known}, which has no column id, so that its {self.size} rows count from 0"
                )
            raise DataError(
                f"{table.path}, {table.place(row)}, column {column!r}: the {self._what} "
                f"{ids[row]!r} is "
                f"not {known}. Add it there, or leave out what names it."
            )
        return rows.astype(np.int64)


def _filled(text: str) -> str:
    """``text`` with "" in its empty lines, if all others hold one field; broken csv as it is."""
    lines = list(io.StringIO(text, newline=""))
    reader, start = csv.reader(lines, strict=True), 0
    filled = lines.copy()
    try:
        for row in reader:
            if len(row) > 1:
                return text
            if not row:
                filled[start] = f'""{lines[start]}'
            start = reader.line_num
    except csv.Error:
        return text
    return "".join(filled) if any(map(str.strip, lines)) else text


def _decode(path: Path, data: bytes) -> str:
    if b"\0" in data and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{path}, line {data.count(10, 0, data.index(0)) + 1}: a zero byte, so this is not a "
            "text file. Write it as csv, or call it by the name of what it is."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte {data[error.start]:#04x} is not UTF-8. Save the file in "
            "the encoding UTF-8."
        ) from None


def _check_names(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name:
            raise DataError(
                f"{path}: column {number + 1} of {len(names)} has no name. Name it, or leave it "
                "out: pandas writes its row numbers so without index=False."
            )
        if name in seen:
            raise DataError(f"{path}: two columns are called {name!r}. Rename one of them.")
        seen.add(name)
