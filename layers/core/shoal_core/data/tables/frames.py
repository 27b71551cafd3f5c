"""Frames: some rows of a table by column, wherever they were read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.rows import TableRow


@dataclass(frozen=True)
class Distinct:
    """The distinct raw values of a column's rows, in the order in which they first appear; missing ones left out.

    `counts` int64 [D] is how often each occurs, `firsts` int64 [D] the row at which it first does.
    """

    values: Sequence[object]
    counts: NDArray[np.int64]
    firsts: NDArray[np.int64]


class Frame(Protocol):
    """Good rows by column, and the bad ones between them."""

    lines: NDArray[np.int64]
    bad: Sequence[TableRow]

    @property
    def names(self) -> Sequence[str]:
        """The columns, in order."""
        ...

    def cells(self, name: str) -> Cells:
        """A column's cells, values in the order in which they first appear; all missing when it isn't there."""
        ...

    def distinct(self, name: str, rows: int | None = None) -> Distinct:
        """A column's distinct raw values, of the first so many rows."""
        ...

    def fingerprints(self, names: Sequence[str]) -> dict[str, object]:
        """Something that is equal for columns that hold the same raw values in every row of this frame."""
        ...

    def pairs(self, name: str, other: str, rows: int | None, limit: int) -> set[tuple[object, object]]:
        """The distinct pairs of raw values that two columns have side by side in the first so many rows, both present.

        Stops at `limit` + 1 of them.
        """
        ...


class CodedFrame:
    """A frame whose columns are read when they are first asked for, and kept.

    Args:
        names: The columns, in order.
        lines: int64 [N], the line of each row.
        bad: Rows that can't be read.
    """

    def __init__(self, names: Sequence[str], lines: NDArray[np.int64], bad: Sequence[TableRow] = ()) -> None:
        self.names: Sequence[str] = tuple(names)
        self.lines = lines
        self.bad = bad
        self._cells: dict[str, Cells] = {}

    def _read(self, name: str) -> Cells:
        """A column that is there; values are in the order in which they first appear."""
        raise NotImplementedError

    def cells(self, name: str) -> Cells:
        """See `Frame`."""
        if name not in self._cells:
            self._cells[name] = self._read(name) if name in self.names else Cells.missing(len(self.lines))
        return self._cells[name]

    def distinct(self, name: str, rows: int | None = None) -> Distinct:
        """See `Frame`."""
        cells = self.cells(name)
        codes = cells.codes[:rows]
        counts = cells.counts(0, rows)
        firsts = np.empty(len(counts), np.int64)
        # Of several rows of one value the last one stays, so the first goes last; missing ones go into no place.
        present = np.flatnonzero(codes >= 0)[::-1]
        firsts[codes[present]] = present
        seen = int(np.count_nonzero(counts))
        return Distinct(cells.values if seen == len(counts) else cells.values[:seen], counts[:seen], firsts[:seen])

    def fingerprints(self, names: Sequence[str]) -> dict[str, object]:
        """See `Frame`."""
        return {name: _Print(self.cells(name)) for name in names}

    def pairs(self, name: str, other: str, rows: int | None, limit: int) -> set[tuple[object, object]]:
        """See `Frame`."""
        left, right = self.cells(name), self.cells(other)
        ours, theirs = left.codes[:rows], right.codes[:rows]
        both = (ours >= 0) & (theirs >= 0)
        width = max(1, len(right.values))
        found: set[tuple[object, object]] = set()
        for pair in np.unique(ours[both].astype(np.int64) * width + theirs[both]).tolist():
            found.add((hashable(left.values[pair // width]), hashable(right.values[pair % width])))
            if len(found) > limit:
                break
        return found


class _Print:
    """A column's cells, equal to those of another column that holds the same raw values in every row."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Print):
            return NotImplemented
        mine, theirs = self._cells, other._cells
        # In Python 1 equals True, which is why types are compared, too.
        return (
            len(mine.values) == len(theirs.values)
            and np.array_equal(mine.codes, theirs.codes)
            and all(type(one) is type(two) and one == two for one, two in zip(mine.values, theirs.values, strict=True))
        )


class ParsedFrame(CodedFrame):
    """Rows that Python parsed: a list of raw values per column."""

    def __init__(
        self, columns: Mapping[str, Sequence[object]], lines: NDArray[np.int64], bad: Sequence[TableRow] = ()
    ) -> None:
        super().__init__(tuple(columns), lines, bad)
        self._columns = columns

    def _read(self, name: str) -> Cells:
        return Cells.of(self._columns[name])


def hashable(value: object) -> object:
    """A raw value that can be in a set."""
    if type(value) is str:
        return value
    return repr(value) if isinstance(value, list | dict) else value


def frame_of_rows(rows: Sequence[TableRow], names: Sequence[str], bad: Sequence[TableRow] = ()) -> ParsedFrame:
    """Parsed rows by column; a key that `names` lacks comes after them, in the order of appearance (JSONL)."""
    keys = dict.fromkeys(names)
    for row in rows:
        for name in row.values:
            keys.setdefault(name)
    values = {name: [row.values.get(name) for row in rows] for name in keys}
    return ParsedFrame(values, np.array([row.line for row in rows], np.int64), bad)
