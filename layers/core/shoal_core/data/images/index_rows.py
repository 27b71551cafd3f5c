"""The rows of an index of files, whatever table it is: CSV, JSONL and JSON, also packed, UTF-16, and Parquet."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import BinaryIO, Literal, cast

from shoal_core.data.tables.formats import Encoding, TableFormat
from shoal_core.data.tables.packed import Window, plain_chunks, without_mark
from shoal_core.data.tables.parquet import read_footer
from shoal_core.data.tables.reading import TableReader
from shoal_core.data.tables.rows import TableRow, read_rows
from shoal_core.data.tables.scanning import plain_form, sniff_stream

# What is kept of a table that can't be read from the middle, in bytes.
_KEPT = 1024**2


class IndexRows:
    """A table that can be read row by row, as often as it is asked for; memory is bounded by a row, or a row group.

    Args:
        stream: The table, seekable.
        name: Its name in the set.
        encoding: Its encoding, where that is known better than from its first bytes.

    Raises:
        BadTable: It isn't a table.
        UnicodeDecodeError: The header isn't UTF-8.
    """

    def __init__(self, stream: BinaryIO, name: str, encoding: Encoding | None = None) -> None:
        self._stream = stream
        self._name = name
        self._size = stream.seek(0, io.SEEK_END)
        self._form: TableFormat = sniff_stream(stream, name, self._size, encoding)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns; none of JSON, whose rows have them."""
        return self._form.columns

    @property
    def unit(self) -> Literal["line", "row"]:
        """What `TableRow.line` counts."""
        return self._form.unit

    def __iter__(self) -> Iterator[TableRow]:
        """All rows, in order. Raises `BadTable`, or `UnicodeDecodeError` where they aren't in the encoding."""
        if self._form.kind == "parquet":
            return self._parquet_rows()
        if self._form.divisible:
            return read_rows(self._stream, self._name, self._form)
        return self._stream_rows()

    def head(self, rows: int) -> list[TableRow]:
        """The first rows."""
        with closing(cast("Generator[TableRow, None, None]", iter(self))) as found:
            return [row for row, _ in zip(found, range(rows), strict=False)]

    def _stream_rows(self) -> Iterator[TableRow]:
        window = Window(without_mark(plain_chunks(self._stream, self._name, self._form)))
        kept = 0
        for row in read_rows(cast("BinaryIO", window), self._name, plain_form(self._form), first=True):
            if row.stop - kept > _KEPT:
                window.keep_from(row.stop)
                kept = row.stop
            yield row

    def _parquet_rows(self) -> Iterator[TableRow]:
        footer = read_footer(self._stream, self._name, self._size)
        with TableReader() as reader:
            for frame in reader.parquet_frames(self._stream, footer, 0, len(footer.groups), 0):
                columns = {name: frame.cells(name) for name in frame.names}
                for row, line in enumerate(frame.lines.tolist()):
                    yield TableRow(line, line, 0, {name: cells.raw(row) for name, cells in columns.items()})
