"""Rows of CSV and JSONL, one by one: the reference that says what a table holds, and the reader of whatever is odd.

Faster ways (`blocks`, `plain`) read what they can prove to read alike. Memory is bounded by one row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from shoal_core.data.tables.formats import BOM, MAX_LINE_BYTES, TableFormat, check_header
from shoal_core.errors import BadTable

MAX_CELL = 131_072
"""Characters of one cell: the csv module's own limit, which tells an open quote from a long text."""


@dataclass(frozen=True)
class TableRow:
    """One row, or one that was dropped (`code` set).

    `line` and `last_line` are its first and last physical line, counted from 1; `stop` is the byte offset after the
    row: a place to cut. `raw` are the bytes of a dropped row, where a block reader has them.
    """

    line: int
    last_line: int
    stop: int
    values: dict[str, object]
    code: str = ""
    reason: str = ""
    fix: str = ""
    raw: bytes = b""


def read_header(stream: BinaryIO, name: str, form: TableFormat) -> TableFormat:
    """The format with the CSV header's column names. JSONL comes back as it is. Raises `BadTable`."""
    if form.kind != "csv":
        return form
    source = _Lines(stream, name, form, 0, None)
    try:
        cells = next((row for row in _csv_reader(source, form) if row), [])
    except csv.Error as error:
        raise BadTable(f"{name!r}: the header row can't be read: {error}.", "Close every quote in it.") from error
    columns = tuple(cell.strip() for cell in cells)
    check_header(name, columns)
    return form.model_copy(update={"columns": columns})


def read_rows(
    stream: BinaryIO,
    name: str,
    form: TableFormat,
    start: int = 0,
    stop: int | None = None,
    line: int = 0,
    first: bool | None = None,
) -> Iterator[TableRow]:
    """Rows in a byte range that begins and ends between rows.

    Args:
        stream: The table, seekable.
        name: Its name, for errors.
        form: Its format, with the columns of a CSV.
        start: First byte.
        stop: Byte after the last row; None is the end.
        line: Lines before `start`.
        first: Whether the table begins there: a byte order mark and the header of a CSV are skipped. None: at byte 0.

    Raises:
        BadTable: A line longer than `MAX_LINE_BYTES`.
        UnicodeDecodeError: The bytes aren't in the format's encoding.
    """
    begins = start == 0 if first is None else first
    source = _Lines(stream, name, form, start, stop, line, begins)
    if form.kind == "csv":
        yield from _csv_rows(source, form, skip_header=begins)
    else:
        yield from _json_rows(source, form.unit)


class _Lines:
    """Decoded physical lines of a byte range, counting lines and bytes."""

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        form: TableFormat,
        start: int,
        stop: int | None,
        line: int = 0,
        first: bool = True,
    ) -> None:
        stream.seek(start)
        self._stream = stream
        self._name = name
        self._encoding = "cp1252" if form.encoding == "cp1252" else "utf-8"
        self._errors = "replace" if form.encoding == "cp1252" else "strict"
        self._separator = form.newline.encode()
        self._rest = b""
        self._stop = stop
        self._first = first
        self.line = line
        self.offset = start

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        data = self._read_line()
        if not data:
            raise StopIteration
        self.offset += len(data)
        if self._first:
            self._first = False
            data = data.removeprefix(BOM)
        self.line += 1
        return data.decode(self._encoding, self._errors)

    def _read_line(self) -> bytes:
        if self._stop is not None and self.offset >= self._stop:
            return b""
        if self._separator == b"\n":
            data = self._stream.readline(MAX_LINE_BYTES + 1)
        else:
            data = self._read_carriage_return_line()
        if len(data) > MAX_LINE_BYTES:
            raise BadTable(
                f"{self._name!r}: line {self.line + 1} has more than {MAX_LINE_BYTES:,} bytes.",
                "Check that rows end with line breaks.",
            )
        return data

    def _read_carriage_return_line(self) -> bytes:
        while b"\r" not in self._rest and len(self._rest) <= MAX_LINE_BYTES:
            more = self._stream.read(64 * 1024)
            if not more:
                break
            self._rest += more
        line, separator, self._rest = self._rest.partition(b"\r")
        return line + separator


def _csv_reader(source: Iterator[str], form: TableFormat) -> Iterator[list[str]]:
    return csv.reader(source, delimiter=form.delimiter, quotechar=form.quote)


def _csv_rows(source: _Lines, form: TableFormat, skip_header: bool) -> Iterator[TableRow]:
    width = len(form.columns)
    skip = skip_header
    reader = _csv_reader(source, form)
    while True:
        line = source.line + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The reader's state is undefined after an error; a new one goes on with the next line.
            reader = _csv_reader(source, form)
            code, reason, fix = _unreadable(error)
            yield TableRow(line, source.line, source.offset, {}, code, reason, fix)
            continue
        if not cells:
            continue
        if skip:
            skip = False
        elif len(cells) != width:
            yield ragged_row(line, source.line, source.offset, len(cells), width)
        else:
            yield TableRow(line, source.line, source.offset, dict(zip(form.columns, cells, strict=True)))


def _unreadable(error: csv.Error) -> tuple[str, str, str]:
    """Code, reason and fix of a row that the csv module refuses."""
    if "field limit" in str(error):
        reason = f"a cell has more than {MAX_CELL:,} characters, or a quote is never closed"
        return "long_cell", reason, "Close every quote, and write tables with longer texts as JSONL or Parquet."
    fix = "Close every quote, and double the quotes inside quoted cells."
    return "broken_quoting", f"the row can't be parsed: {error}", fix


def ragged_row(line: int, last_line: int, stop: int, cells: int, width: int) -> TableRow:
    """A row that hasn't as many cells as the header."""
    reason = f"it has {cells} cells, the header has {width}"
    return TableRow(line, last_line, stop, {}, "ragged_row", reason, "Quote cells that hold the delimiter.")


def _json_rows(source: _Lines, unit: str) -> Iterator[TableRow]:
    for text in source:
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = f"it isn't JSON: {str(error)[:100]}"
            fix = "Write one JSON object per line."
            yield TableRow(source.line, source.line, source.offset, {}, "bad_json", reason, fix)
            continue
        if not isinstance(value, dict):
            reason = f"it is a JSON {type(value).__name__}, not an object"
            fix = f'Write one object per {unit}, like {{"column": value}}.'
            yield TableRow(source.line, source.line, source.offset, {}, "not_an_object", reason, fix)
        else:
            yield TableRow(source.line, source.line, source.offset, value)
