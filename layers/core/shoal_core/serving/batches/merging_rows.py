"""Good and bad rows of a block in the order in which they were sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from shoal_core.data.tables.rows import TableRow
from shoal_core.serving.batches.answering import Answer
from shoal_core.serving.batches.tally import RecordError

Good = TypeVar("Good")


def bad_row(row: TableRow, unit: str) -> RecordError:
    """Why a row that can't be read has no answer."""
    return RecordError(row.code, f"{unit.capitalize()} {row.line}: {row.reason}.", row.fix)


def places_of(lines: Sequence[int], bad: Sequence[TableRow]) -> Iterator[int | TableRow]:
    """Numbers of good rows, by the lines at which they begin, and bad rows between them."""
    left = iter(bad)
    waiting = next(left, None)
    for number, line in enumerate(lines):
        while waiting is not None and waiting.line < line:
            yield waiting
            waiting = next(left, None)
        yield number
    while waiting is not None:
        yield waiting
        waiting = next(left, None)


def in_order(
    rows: Sequence[TableRow], outcomes: Sequence[Answer | RecordError], bad: Sequence[TableRow], unit: str
) -> Iterator[tuple[TableRow, Answer | RecordError]]:
    """All rows of a block with what came of them."""
    for place in places_of([row.line for row in rows], bad):
        if isinstance(place, TableRow):
            yield place, bad_row(place, unit)
        else:
            yield rows[place], outcomes[place]
