"""Reading a work item of a table as frames, by the fastest way that reads it right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.blocks import Block, read_blocks
from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.frames import Distinct, Frame, frame_of_rows, hashable
from shoal_core.data.tables.parquet import Footer, spool_groups
from shoal_core.data.tables.plain import PlainFrame
from shoal_core.data.tables.rows import TableRow
from shoal_core.errors import BadTable

if TYPE_CHECKING:
    from shoal_core.data.tables.engine import Engine

PARQUET_ROWS = 524_288
_PARQUET_BYTES = 32 * 1024**2


class TableReader:
    """Reads parts of tables; holds the engine for as long as it is entered, once Parquet needs it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._engine: Engine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._engine = None
        self._stack.close()

    @property
    def engine(self) -> Engine:
        """DuckDB, started when first needed."""
        if self._engine is None:
            from shoal_core.data.tables.engine import Engine

            self._engine = self._stack.enter_context(Engine())
        return self._engine

    def frame(self, block: Block, form: TableFormat) -> Frame:
        """A block's rows by column."""
        if block.text is None:
            return frame_of_rows(block.rows, form.columns if form.kind == "csv" else (), block.bad)
        return PlainFrame(block, form)

    def text_frames(
        self, stream: BinaryIO, name: str, form: TableFormat, start: int, stop: int | None, line: int
    ) -> Iterator[Frame]:
        """Frames of a byte range of CSV or JSONL. Raises `BadTable`."""
        for block in read_blocks(stream, name, form, start, stop, line, first=start == 0 and line == 0):
            yield self.frame(block, form)

    def parquet_frames(self, stream: BinaryIO, footer: Footer, first: int, last: int, row: int) -> Iterator[Frame]:
        """Frames of the row groups first..last (exclusive); `row` rows lie before them. Raises `BadTable`."""
        import duckdb

        path = self.engine.folder / "groups.parquet"
        for number in range(first, last):
            group = footer.groups[number]
            rows = spool_groups(stream, footer, number, number + 1, path)
            width = max(8 * len(footer.columns), group.unpacked // max(1, rows))
            step = max(1, min(PARQUET_ROWS, _PARQUET_BYTES // width))
            for begin in range(0, rows, step):
                try:
                    found = self.engine.read_parquet(path, begin, min(rows, begin + step), row)
                except duckdb.Error as error:
                    raise BadTable(
                        f"Row group {number} of {footer.name!r} can't be read: {str(error).splitlines()[0][:200]}.",
                        "Write the file again, and upload it.",
                    ) from error
                yield found
            row += rows
            path.unlink()


class PartitionFrame:
    """See `Frame`: a frame with columns more that have one value, the keys of its file's partition."""

    def __init__(self, frame: Frame, partition: Mapping[str, str | None]) -> None:
        self._frame = frame
        self._partition = partition
        self.names: Sequence[str] = (*(name for name in frame.names if name not in partition), *partition)
        self.lines: NDArray[np.int64] = frame.lines
        self.bad: Sequence[TableRow] = frame.bad

    def cells(self, name: str) -> Cells:
        """See `Frame`."""
        if name not in self._partition:
            return self._frame.cells(name)
        value = self._partition[name]
        return Cells.missing(len(self.lines)) if value is None else Cells.constant(value, len(self.lines))

    def distinct(self, name: str, rows: int | None = None) -> Distinct:
        """See `Frame`."""
        if name not in self._partition:
            return self._frame.distinct(name, rows)
        value = self._partition[name]
        count = len(self.lines) if rows is None else min(rows, len(self.lines))
        values = [] if value is None or not count else [value]
        return Distinct(values, np.array([count] * len(values), np.int64), np.zeros(len(values), np.int64))

    def fingerprints(self, names: Sequence[str]) -> dict[str, object]:
        """See `Frame`."""
        found = self._frame.fingerprints([name for name in names if name not in self._partition])
        return found | {name: ("constant", self._partition[name]) for name in names if name in self._partition}

    def pairs(self, name: str, other: str, rows: int | None, limit: int) -> set[tuple[object, object]]:
        """See `Frame`."""
        if name not in self._partition and other not in self._partition:
            return self._frame.pairs(name, other, rows, limit)
        known = self._partition.get(name), self._partition.get(other)
        if name in self._partition and other in self._partition:
            return set() if None in known else {known}
        free = other if name in self._partition else name
        value = known[0] if name in self._partition else known[1]
        if value is None:
            return set()
        texts = [hashable(found) for found in self.distinct(free, rows).values[: limit + 1]]
        return {(value, text) if name in self._partition else (text, value) for text in texts}


def with_partition(frame: Frame, partition: Mapping[str, str | None]) -> Frame:
    """The frame, with the keys of its file's partition as columns."""
    return PartitionFrame(frame, partition) if partition else frame
