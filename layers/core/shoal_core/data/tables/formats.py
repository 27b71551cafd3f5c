"""CSV and JSONL tables as a stream of rows, with the byte offsets at which a table can be cut.

CSV: RFC 4180 and its relatives; the delimiter is one of comma, semicolon, tab and bar; quoted cells may hold line
breaks. Text is UTF-8 (with or without a byte order mark), else Windows-1252. Memory is bounded by one row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict

from shoal_core.data.values import parse_number
from shoal_core.errors import BadTable

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
DELIMITERS = ",;\t|"
MAX_LINE_BYTES = 16 * 1024**2
MAX_COLUMNS = 5_000
_HEAD_BYTES = 256 * 1024
_SNIFF_ROWS = 50
_BOM = b"\xef\xbb\xbf"


class TableFormat(BaseModel):
    """How to read one table; `columns` are the CSV header's names, or the JSONL keys in order of appearance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["csv", "jsonl"]
    delimiter: str = ","
    encoding: Literal["utf-8", "cp1252"] = "utf-8"
    newline: Literal["\n", "\r"] = "\n"
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableRow:
    """One row, or one that was dropped (`code` set).

    `line` and `last_line` are its first and last physical line, counted from 1; `stop` is the byte offset after the
    row: a place to cut.
    """

    line: int
    last_line: int
    stop: int
    values: dict[str, object]
    code: str = ""
    reason: str = ""
    fix: str = ""


def sniff_table(stream: BinaryIO, name: str) -> TableFormat:
    """Find the format by the first 256 KB; the encoding is UTF-8 until a reader finds otherwise.

    Raises:
        BadTable: Empty, not text, UTF-16, or a header that isn't one (numbers, duplicate or empty names).
    """
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadTable(f"{name!r} is UTF-16 text.", "Save it as UTF-8.")
    if b"\0" in head:
        raise BadTable(f"{name!r} isn't text.", "Upload CSV with a header row, or JSONL.")
    if not head.removeprefix(_BOM).strip():
        raise BadTable(f"{name!r} is empty.", "Upload CSV with a header row, or JSONL with one object per line.")
    newline: Literal["\n", "\r"] = "\r" if b"\r" in head and b"\n" not in head else "\n"
    if name.casefold().endswith((".jsonl", ".ndjson")):
        return TableFormat(kind="jsonl", newline=newline)
    text = _decode_head(head)
    delimiter = "\t" if name.casefold().endswith(".tsv") else _sniff_delimiter(text)
    return TableFormat(kind="csv", delimiter=delimiter, newline=newline)


def read_header(stream: BinaryIO, name: str, form: TableFormat) -> TableFormat:
    """The format with the CSV header's column names. JSONL comes back as it is. Raises `BadTable`."""
    if form.kind == "jsonl":
        return form
    source = _Lines(stream, name, form, 0, None)
    try:
        cells = next((row for row in csv.reader(source, delimiter=form.delimiter) if row), [])
    except csv.Error as error:
        raise BadTable(f"{name!r}: the header row can't be read: {error}.", "Close every quote in it.") from error
    columns = tuple(cell.strip() for cell in cells)
    _check_header(name, columns)
    return form.model_copy(update={"columns": columns})


def read_rows(
    stream: BinaryIO, name: str, form: TableFormat, start: int = 0, stop: int | None = None, line: int = 0
) -> Iterator[TableRow]:
    """Rows in a byte range that begins and ends between rows.

    Args:
        stream: The table, seekable.
        name: Its name, for errors.
        form: Its format, with the columns of a CSV.
        start: First byte; 0 reads (and skips) the header of a CSV.
        stop: Byte after the last row; None is the end.
        line: Lines before `start`.

    Raises:
        BadTable: A line longer than `MAX_LINE_BYTES`.
        UnicodeDecodeError: The bytes aren't in the format's encoding.
    """
    source = _Lines(stream, name, form, start, stop, line)
    if form.kind == "jsonl":
        yield from _json_rows(source)
    else:
        yield from _csv_rows(source, form, skip_header=start == 0)


class _Lines:
    """Decoded physical lines of a byte range, counting lines and bytes."""

    def __init__(
        self, stream: BinaryIO, name: str, form: TableFormat, start: int, stop: int | None, line: int = 0
    ) -> None:
        stream.seek(start)
        self._stream = stream
        self._name = name
        self._encoding = form.encoding
        self._errors = "strict" if form.encoding == "utf-8" else "replace"
        self._separator = form.newline.encode()
        self._rest = b""
        self._stop = stop
        self.line = line
        self.offset = start

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        data = self._read_line()
        if not data:
            raise StopIteration
        if self.offset == 0:
            self.offset = len(data)
            data = data.removeprefix(_BOM)
        else:
            self.offset += len(data)
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


def _csv_rows(source: _Lines, form: TableFormat, skip_header: bool) -> Iterator[TableRow]:
    width = len(form.columns)
    skip = skip_header
    reader = csv.reader(source, delimiter=form.delimiter)
    while True:
        line = source.line + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The reader's state is undefined after an error; a new one goes on with the next line.
            reader = csv.reader(source, delimiter=form.delimiter)
            fix = "Close every quote, and double the quotes inside quoted cells."
            yield TableRow(
                line, source.line, source.offset, {}, "broken_quoting", f"the row can't be parsed: {error}", fix
            )
            continue
        if not cells:
            continue
        if skip:
            skip = False
        elif len(cells) != width:
            reason = f"it has {len(cells)} cells, the header has {width}"
            yield TableRow(
                line, source.line, source.offset, {}, "ragged_row", reason, "Quote cells that hold the delimiter."
            )
        else:
            yield TableRow(line, source.line, source.offset, dict(zip(form.columns, cells, strict=True)))


def _json_rows(source: _Lines) -> Iterator[TableRow]:
    for text in source:
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = f"it isn't JSON: {str(error)[:100]}"
            yield TableRow(
                source.line, source.line, source.offset, {}, "bad_json", reason, "Write one JSON object per line."
            )
            continue
        if not isinstance(value, dict):
            reason = f"it is a JSON {type(value).__name__}, not an object"
            fix = 'Write one object per line, like {"column": value}.'
            yield TableRow(source.line, source.line, source.offset, {}, "not_an_object", reason, fix)
        else:
            yield TableRow(source.line, source.line, source.offset, value)


def _decode_head(head: bytes) -> str:
    # Cut at the last line break, so that no character or row is cut in two.
    end = max(head.rfind(b"\n"), head.rfind(b"\r"))
    whole = head[: end + 1] if len(head) == _HEAD_BYTES and end >= 0 else head
    try:
        return whole.decode("utf-8-sig")
    except UnicodeDecodeError:
        return whole.decode("cp1252", "replace")


def _sniff_delimiter(text: str) -> str:
    """The delimiter that gives most rows the header's number of cells (two or more); comma when none does."""
    lines = text.splitlines(keepends=True)
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        rows: list[list[str]] = []
        try:
            for row in csv.reader(iter(lines), delimiter=delimiter):
                if row:
                    rows.append(row)
                if len(rows) > _SNIFF_ROWS:
                    break
        except csv.Error:
            continue
        if not rows or len(rows[0]) < 2:
            continue
        width = len(rows[0])
        score = (sum(len(row) == width for row in rows) / len(rows), width)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _check_header(name: str, columns: tuple[str, ...]) -> None:
    fix = "Make the first row the column names."
    if len(columns) > MAX_COLUMNS:
        raise BadTable(f"{name!r} has {len(columns):,} columns.", f"Keep it to {MAX_COLUMNS:,}.")
    for column in columns:
        if column and _is_number(column):
            raise BadTable(f"{name!r} has no header row: its first row holds the number {column!r}.", fix)
    if "" in columns:
        place = columns.index("") + 1
        raise BadTable(
            f"{name!r}: column {place} of the header has no name.",
            "Name every column (pandas: `to_csv(..., index=False)`), or remove it.",
        )
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise BadTable(f"{name!r} has two columns named {column!r}.", "Give every column its own name.")
        seen.add(column)


def _is_number(cell: str) -> bool:
    try:
        return parse_number(cell) is not None
    except ValueError:
        return False
