"""Frames: some rows of a table by column, wherever they were read from."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.formats import TableFormat
from shoal_core.data.tables.rows import TableRow

Reading = Literal["any", "number", "date"]
"""What a column's cells are wanted for: `number` and `date` allow arrays of those where they are provably right."""


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

    def cells(self, name: str, reading: Reading = "any") -> Cells:
        """A column's cells; all missing when the frame hasn't the column."""
        ...

    def distinct(self, name: str, rows: int | None = None) -> Distinct:
        """A column's distinct raw values, of the first so many rows."""
        ...

    def prepare(self, wanted: Mapping[str, Reading]) -> None:
        """Make several columns ready at once, where that is faster."""
        ...

    def fingerprints(self, names: Sequence[str]) -> dict[str, object]:
        """Something that is equal for columns that hold the same raw values in every row of this frame."""
        ...

    def pairs(self, name: str, other: str, rows: int | None, limit: int) -> set[tuple[object, object]]:
        """The distinct pairs of raw values that two columns have side by side in the first so many rows, both present.

        Stops at `limit` + 1 of them.
        """
        ...


@dataclass
class ParsedFrame:
    """Rows that Python parsed: a list of raw values per column."""

    columns: Mapping[str, Sequence[object]]
    lines: NDArray[np.int64]
    bad: Sequence[TableRow] = ()
    _cells: dict[str, Cells] = field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        """The columns, in order."""
        return tuple(self.columns)

    def cells(self, name: str, reading: Reading = "any") -> Cells:
        """See `Frame`."""
        del reading
        if name not in self._cells:
            values = self.columns.get(name)
            self._cells[name] = Cells.missing(len(self.lines)) if values is None else Cells.of(values)
        return self._cells[name]

    def distinct(self, name: str, rows: int | None = None) -> Distinct:
        """See `Frame`."""
        cells = self.cells(name)
        codes = cells.codes[:rows]
        present = np.flatnonzero(codes >= 0)
        # Codes count up in the order of appearance.
        found, firsts, counts = np.unique(codes[present], return_index=True, return_counts=True)
        values = [cells.values[code] for code in found.tolist()]
        return Distinct(values, counts.astype(np.int64), present[firsts].astype(np.int64))

    def prepare(self, wanted: Mapping[str, Reading]) -> None:
        """See `Frame`."""

    def fingerprints(self, names: Sequence[str]) -> dict[str, object]:
        """See `Frame`."""
        # In Python 1 equals True, which is why types are compared, too.
        return {name: [(type(value), value) for value in self.columns.get(name, ())] for name in names}

    def pairs(self, name: str, other: str, rows: int | None, limit: int) -> set[tuple[object, object]]:
        """See `Frame`."""
        found: set[tuple[object, object]] = set()
        for pair in itertools.islice(zip(self.columns.get(name, ()), self.columns.get(other, ()), strict=False), rows):
            if pair[0] is not None and pair[1] is not None:
                found.add((hashable(pair[0]), hashable(pair[1])))
                if len(found) > limit:
                    break
        return found


def hashable(value: object) -> object:
    """A raw value that can be in a set."""
    return repr(value) if isinstance(value, list | dict) else value


def frame_of_rows(rows: Sequence[TableRow], names: Sequence[str], bad: Sequence[TableRow] = ()) -> ParsedFrame:
    """Parsed rows by column; a key that `names` lacks comes after them, in the order of appearance (JSONL)."""
    keys = dict.fromkeys(names)
    for row in rows:
        for name in row.values:
            keys.setdefault(name)
    values = {name: [row.values.get(name) for row in rows] for name in keys}
    return ParsedFrame(values, np.array([row.line for row in rows], np.int64), bad)


def frame_of_text(
    text: bytes, form: TableFormat, lines: NDArray[np.int64], bad: Sequence[TableRow] = ()
) -> ParsedFrame:
    """A plain run of CSV, parsed by Python."""
    source = iter(text.decode().split("\n"))
    reader = csv.reader((f"{line}\n" for line in source), delimiter=form.delimiter, quotechar=form.quote)
    cells = [row for row in reader if row]
    columns = list(zip(*cells, strict=True)) if cells else [()] * len(form.columns)
    return ParsedFrame(dict(zip(form.columns, columns, strict=True)), lines, bad)
