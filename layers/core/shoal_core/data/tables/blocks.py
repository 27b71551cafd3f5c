"""Blocks of a text table: runs of rows that are provably plain, found by looking at bytes, and the rest row by row.

A run of CSV is plain when every quote stands where RFC 4180 puts it (at the ends of a cell, or doubled inside), every
carriage return stands before a line break or inside quotes, and no cell can be longer than the csv module takes. Then
rows, cells and lines follow from the positions of the delimiter, the quote and the line break alone, which numpy finds
at the speed of memory, and any CSV reader reads the same. Rows that have too many or too few cells are told here, and
left out of the run. Where a run ends at something that isn't plain, `rows.read_rows` goes on for a while.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.formats import BOM, TableFormat
from shoal_core.data.tables.rows import MAX_CELL, TableRow, ragged_row, read_rows

BLOCK_BYTES = 8 * 1024**2
_ODD_BYTES = 256 * 1024
_JSON_BYTES = 4 * 1024**2
_MAX_RAW = 64 * 1024
_LINE_BREAK, _RETURN = 10, 13


@dataclass
class Block:
    """Rows of a table in order: either the `text` of plain rows (UTF-8, without header) or `rows` that were parsed.

    Attributes:
        start: Byte offset at which it begins.
        stop: Byte offset after its last row.
        line: Lines before it.
        last_line: Lines before its stop.
        lines: int64 [N], the first line of each good row.
        text: The good rows of a plain run of CSV; None when `rows` has them.
        rows: The good rows.
        bad: The rows that can't be read, in order.
        cuts: Places between rows, as (byte offset, lines before it), at least `step` bytes apart.
        marks: int64 [N * cells], where the cells of `text` end, in order; None where that isn't known yet.
    """

    start: int
    stop: int
    line: int
    last_line: int
    lines: NDArray[np.int64]
    text: bytes | None = None
    rows: list[TableRow] = field(default_factory=list)
    bad: list[TableRow] = field(default_factory=list)
    cuts: list[tuple[int, int]] = field(default_factory=list)
    marks: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        """Number of good rows."""
        return len(self.lines)


@dataclass
class _Rows:
    """Where rows of a plain run are: first and last byte (of the line break), cells, and the line breaks before.

    `marks` are the places of all delimiters and line breaks that end a cell.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    cells: NDArray[np.int64]
    breaks: NDArray[np.int64]
    marks: NDArray[np.int64]


def read_blocks(
    stream: BinaryIO,
    name: str,
    form: TableFormat,
    start: int = 0,
    stop: int | None = None,
    line: int = 0,
    first: bool | None = None,
    block_bytes: int = BLOCK_BYTES,
    step: int = BLOCK_BYTES,
) -> Iterator[Block]:
    """Blocks of a byte range, in order; memory is bounded by the block.

    Args:
        stream: As of `rows.read_rows`, and so are `name`, `form`, `start`, `stop`, `line`, `first` and what is raised.
        name: The table's name.
        form: Its format.
        start: First byte.
        stop: Byte after the last row.
        line: Lines before `start`.
        first: Whether the table begins there.
        block_bytes: About the size of a block.
        step: How close together a block's cuts may be, in bytes.
    """
    begins = start == 0 if first is None else first
    offset = start
    while True:
        block = None
        if form.kind == "csv" and form.newline == "\n":
            size = block_bytes if stop is None else min(block_bytes, stop - offset)
            block = _plain_block(stream, form, offset, size, line, begins, stop, step)
        if block is None:
            limit = _ODD_BYTES if form.kind == "csv" else _JSON_BYTES
            block = _parsed_block(stream, name, form, offset, stop, line, begins, min(limit, block_bytes), step)
        if block is None:
            return
        yield block
        offset, line, begins = block.stop, block.last_line, False


def _parsed_block(
    stream: BinaryIO,
    name: str,
    form: TableFormat,
    start: int,
    stop: int | None,
    line: int,
    first: bool,
    limit: int,
    step: int,
) -> Block | None:
    """About `limit` bytes, row by row; None at the end of the range."""
    good: list[TableRow] = []
    bad: list[TableRow] = []
    last: TableRow | None = None
    begins: list[int] = []
    cuts: list[tuple[int, int]] = []
    for row in read_rows(stream, name, form, start, stop, line, first):
        if row.code:
            begins.append(last.stop if last else start)
        (bad if row.code else good).append(row)
        last = row
        if row.stop - (cuts[-1][0] if cuts else start) >= step:
            cuts.append((row.stop, row.last_line))
        if row.stop - start >= limit:
            break
    if last is None:
        return None
    lines = np.array([row.line for row in good], np.int64)
    told = [replace(row, raw=_read(stream, begin, row.stop)) for begin, row in zip(begins, bad, strict=True)]
    return Block(start, last.stop, line, last.last_line, lines, rows=good, bad=told, cuts=cuts)


def _read(stream: BinaryIO, start: int, stop: int) -> bytes:
    stream.seek(start)
    return stream.read(min(stop - start, _MAX_RAW))


def _plain_block(
    stream: BinaryIO, form: TableFormat, start: int, size: int, line: int, first: bool, stop: int | None, step: int
) -> Block | None:
    """A plain run of up to `size` bytes from `start`; None when not even the first row is plain, or nothing is left."""
    if size <= 0:
        return None
    stream.seek(start)
    data = stream.read(size)
    at_end = len(data) < size or (stop is not None and start + len(data) >= stop)
    skipped = len(BOM) if first and data.startswith(BOM) else 0
    text = data[skipped:]
    if at_end and text and not text.endswith(b"\n"):
        text += b"\n"
    array = np.frombuffer(text, np.uint8)
    found = _plain_rows(array, form)
    if not found.ends.size:
        return None
    used = int(found.ends[-1]) + 1
    begins = found.starts
    blank = found.ends - begins == (array[begins] == _RETURN)
    chosen = ~blank
    if first:
        header = np.flatnonzero(chosen)[:1]
        if not header.size:
            return None
        chosen[header] = False
    width = len(form.columns)
    ragged = chosen & (found.cells != width)
    good = chosen & ~ragged
    stops = np.minimum(found.ends + 1 + skipped, len(data)) + start
    bad: list[TableRow] = []
    for row in np.flatnonzero(ragged).tolist():
        lines_of = line + int(found.breaks[row]) + 1, line + _last_break(found, row)
        told = ragged_row(*lines_of, int(stops[row]), int(found.cells[row]), width)
        bad.append(replace(told, raw=text[int(found.starts[row]) : int(found.ends[row]) + 1][:_MAX_RAW]))
    lines = line + found.breaks[:-1][good] + 1
    rows = text[:used] if good.all() else _joined(text, found.starts, found.ends, good)
    encoded = rows.decode("cp1252", "replace").encode() if form.encoding == "cp1252" else _checked(rows, text[:used])
    last_line = line + _last_break(found, len(found.ends) - 1)
    cuts = _cuts(found, stops, start, line, step)
    marks = found.marks if encoded is rows and len(rows) == used else None
    return Block(start, int(stops[-1]), line, last_line, lines, text=encoded, bad=bad, cuts=cuts, marks=marks)


def _cuts(rows: _Rows, stops: NDArray[np.int64], start: int, line: int, step: int) -> list[tuple[int, int]]:
    """Places after rows that are at least `step` bytes apart."""
    cuts: list[tuple[int, int]] = []
    place = start
    while (row := int(stops.searchsorted(place + step))) < len(stops):
        place = int(stops[row])
        cuts.append((place, line + _last_break(rows, row)))
    return cuts


def _last_break(rows: _Rows, row: int) -> int:
    """The lines up to and with a row's last one."""
    return int(rows.breaks[row + 1])


def _checked(rows: bytes, used: bytes) -> bytes:
    """Rows that are UTF-8. Raises `UnicodeDecodeError`, also for what was left out."""
    if not used.isascii():
        used.decode("utf-8")
    return rows


def _joined(text: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], good: NDArray[np.bool_]) -> bytes:
    """The good rows; neighbours are copied together."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], good.astype(np.int8), [0]))))
    runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return b"".join(text[int(starts[first]) : int(ends[stop - 1]) + 1] for first, stop in runs)


def _plain_rows(array: NDArray[np.uint8], form: TableFormat) -> _Rows:
    """Rows up to the first thing that isn't plain; a row is whole only with its line break."""
    marks, quotes = find_marks(array, form)
    limit = _first_odd(array, quotes, form)
    last = np.flatnonzero(array[marks] == _LINE_BREAK)
    ends = marks[last]
    whole = int(np.searchsorted(ends, limit))
    ends, last = ends[:whole], last[:whole]
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1)) if ends.size else ends
    long = np.flatnonzero(ends - starts >= MAX_CELL)
    if long.size:
        ends, starts, last = ends[: long[0]], starts[: long[0]], last[: long[0]]
    cells = np.diff(last, prepend=-1)
    # Line breaks before each row, and as one entry more those up to the end of the last.
    breaks = np.arange(len(ends) + 1)
    if quotes.size:
        line_breaks = np.flatnonzero(array == _LINE_BREAK)
        breaks = np.searchsorted(line_breaks, np.append(starts, ends[-1] + 1 if ends.size else 0))
    return _Rows(starts, ends, cells, breaks, marks[: last[-1] + 1] if last.size else marks[:0])


def find_marks(array: NDArray[np.uint8], form: TableFormat) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where cells of a plain run end, and where its quotes are."""
    marks = np.flatnonzero((array == ord(form.delimiter)) | (array == _LINE_BREAK))
    quotes = np.flatnonzero(array == ord(form.quote))
    if quotes.size:
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    return marks, quotes


def _first_odd(array: NDArray[np.uint8], quotes: NDArray[np.int64], form: TableFormat) -> int:
    """The position of the first quote or carriage return that isn't plain, or of a zero byte; else the end."""
    limit = len(array)
    allowed = np.zeros(256, np.bool_)
    allowed[[_LINE_BREAK, ord(form.delimiter)]] = True
    if quotes.size:
        # The even ones open a cell or are the second of a doubled quote, the odd ones close it or are the first.
        before = allowed[array[quotes - 1]]
        before[0] |= quotes[0] == 0
        near = np.diff(quotes) == 1
        opens, closes = quotes[::2], quotes[1::2]
        opening = before[::2].copy()
        opening[1:] |= near[1::2][: len(opening) - 1]
        after = closes + 1 < len(array)
        allowed[_RETURN] = True
        closing = ~after | allowed[array[np.minimum(closes + 1, len(array) - 1)]]
        doubled = near[1::2]
        closing[: len(doubled)] |= doubled
        for wrong in (opens[~opening], closes[~closing]):
            if wrong.size:
                limit = min(limit, int(wrong[0]))
    returns = np.flatnonzero(array == _RETURN)
    if returns.size:
        lone = returns[array[np.minimum(returns + 1, len(array) - 1)] != _LINE_BREAK]
        if quotes.size:
            lone = lone[np.searchsorted(quotes, lone) % 2 == 0]
        if lone.size:
            limit = min(limit, int(lone[0]))
    if not array.all():
        limit = min(limit, int(np.argmin(array)))
    return limit
