"""Expectations that are checked row by row while rows are encoded, tallied so that any cut gives the same result.

A list entry of `expect` may hold several conditions; each is one *clause*. Missing values break `max_missing` alone:
the other conditions are about the values that are there. `unique` is settled over the whole set (`uniqueness`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.cleaning_config import Expectation
from shoal_core.data.quality.findings import MAX_BROKEN_ROWS, BrokenRow, Rule, broken_row
from shoal_core.data.quality.matching import match_all
from shoal_core.data.quality.uniqueness import ValueHashes
from shoal_core.data.tables.cells import Cells
from shoal_core.data.values import is_missing, number_text, parse_number, parse_text
from shoal_core.frozen import Frozen

_ROW_RULES: tuple[Rule, ...] = ("min", "max", "values", "pattern")
_COLUMN_RULES: tuple[Rule, ...] = (*_ROW_RULES, "unique", "max_missing")
_SET_RULES: tuple[Rule, ...] = ("min_per_class", "min_samples")


@dataclass(frozen=True)
class Clause:
    """One condition of one expectation."""

    index: int
    rule: Rule
    column: str | None
    bound: Any

    @property
    def what(self) -> str:
        """The condition in words."""
        column = f"{self.column}: " if self.column is not None else ""
        if self.rule == "values":
            shown = ", ".join(_text(value) for value in self.bound[:10])
            more = f" and {len(self.bound) - 10:,} more" if len(self.bound) > 10 else ""
            return f"{column}one of {shown}{more}"
        if self.rule == "pattern":
            return f"{column}matches {self.bound}"
        if self.rule == "unique":
            return f"{column}every value once"
        if self.rule == "max_missing":
            return f"{column}at most {self.bound * 100:.10g} % missing"
        bound = f"{self.bound:,}" if isinstance(self.bound, int) else f"{self.bound:,.15g}"
        most = "most" if self.rule == "max" else "least"
        kind = {"min_per_class": " samples per class", "min_samples": " samples"}.get(self.rule, "")
        return f"{column}at {most} {bound}{kind}"


def clauses_of(expect: Iterable[Expectation]) -> tuple[Clause, ...]:
    """Every condition of a list of expectations, in order. `unique: false` expects nothing."""
    found: list[Clause] = []
    for index, expectation in enumerate(expect):
        for rule in (*_COLUMN_RULES, *_SET_RULES):
            bound = getattr(expectation, rule)
            if bound is not None and bound is not False:
                found.append(Clause(index, rule, expectation.column, bound))
    return tuple(found)


class ClauseTally(Frozen):
    """What one work item found about one clause: rows looked at, rows that broke it, and the first of those."""

    clause: int
    checked: int = 0
    broken: int = 0
    examples: tuple[BrokenRow, ...] = ()


class Checks(Frozen):
    """What one work item found about all clauses that rows can break."""

    rows: int = 0
    clauses: tuple[ClauseTally, ...] = ()


@dataclass
class _Counter:
    clause: Clause
    checked: int = 0
    broken: int = 0
    examples: list[BrokenRow] = field(default_factory=list)


class CheckTally:
    """Checks batches of raw rows against expectations; memory doesn't grow with the rows, but for `unique` columns.

    Args:
        expect: The expectations of `dataset.yaml`.
    """

    def __init__(self, expect: Iterable[Expectation]) -> None:
        self._counters = [_Counter(clause) for clause in clauses_of(expect)]
        self._conditions = {
            number: _condition(counter.clause)
            for number, counter in enumerate(self._counters)
            if counter.clause.rule in _ROW_RULES
        }
        self.rows = 0
        self.hashes = {
            number: ValueHashes() for number, counter in enumerate(self._counters) if counter.clause.rule == "unique"
        }

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that something is expected of."""
        return frozenset(counter.clause.column for counter in self._counters if counter.clause.column is not None)

    def add(self, file: str, columns: Mapping[str, Cells | Sequence[object]], places: Sequence[object]) -> None:
        """Check a batch of rows.

        Args:
            file: Name of the file that they are from.
            columns: Column -> raw cells, [N] each: texts, JSON values or `Cells`. A column that isn't here is missing
                in every row; columns that nothing is expected of aren't read.
            places: Where each row stands in the file, [N], for example `line 7`.

        Raises:
            BadConfig: A pattern takes too long.
        """
        first = self.rows
        self.rows += len(places)
        found: dict[str, _Column] = {}
        for number, counter in enumerate(self._counters):
            name = counter.clause.column
            if name is None:
                continue
            if name not in found:
                found[name] = _Column(_cells(columns.get(name), len(places)))
            column = found[name]
            absent = int(column.is_missing.sum())
            if number in self.hashes:
                counter.checked += len(places) - absent
                self.hashes[number].add(file, places, column.texts(), first)
                continue
            of_missing = counter.clause.rule == "max_missing"
            broken = np.flatnonzero(column.is_missing) if of_missing else column.broken(self._conditions[number])
            counter.checked += len(places) - (0 if of_missing else absent)
            counter.broken += len(broken)
            for row in broken[: MAX_BROKEN_ROWS - len(counter.examples)].tolist():
                counter.examples.append(broken_row(file, str(places[row]), column.shown(row)))

    def total(self) -> Checks:
        """What was found so far."""
        return Checks(
            rows=self.rows,
            clauses=tuple(
                ClauseTally(
                    clause=number, checked=counter.checked, broken=counter.broken, examples=tuple(counter.examples)
                )
                for number, counter in enumerate(self._counters)
                if counter.clause.column is not None
            ),
        )


def merge_checks(parts: Iterable[Checks]) -> Checks:
    """What several work items found, in their order: the same as one item that had all their rows."""
    rows = 0
    merged: dict[int, ClauseTally] = {}
    for part in parts:
        rows += part.rows
        for tally in part.clauses:
            known = merged.get(tally.clause, ClauseTally(clause=tally.clause))
            merged[tally.clause] = ClauseTally(
                clause=tally.clause,
                checked=known.checked + tally.checked,
                broken=known.broken + tally.broken,
                examples=(*known.examples, *tally.examples)[:MAX_BROKEN_ROWS],
            )
    return Checks(rows=rows, clauses=tuple(merged[number] for number in sorted(merged)))


def _cells(column: Cells | Sequence[object] | None, rows: int) -> Cells:
    if column is None:
        return Cells.missing(rows)
    return column if isinstance(column, Cells) else Cells.of(column)


class _Column:
    """One column of a batch: what a condition says of it is asked once per different value, not once per row."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        absent = np.array([is_missing(value) for value in cells.values], bool)
        self.is_missing: NDArray[np.bool_] = cells.spread(absent, True)

    def broken(self, breaks: _Breaks) -> NDArray[np.int64]:
        """Rows with a value that breaks a condition; missing ones don't."""
        broken = self._cells.spread(np.array(breaks(self._cells.values), bool), False)
        return np.flatnonzero(broken & ~self.is_missing)

    def texts(self) -> list[tuple[int, str]]:
        """(row, text of its value), of the rows that have one."""
        cells = self._cells
        known = [_text(value) for value in cells.values]
        rows = np.flatnonzero(~self.is_missing).tolist()
        codes = cells.codes.tolist()
        return [(row, known[codes[row]]) for row in rows]

    def shown(self, row: int) -> str:
        """A cell for people."""
        value = self._cells.raw(row)
        return "" if value is None else value if isinstance(value, str) else _text(value)


def _text(value: object) -> str:
    """A cell's text: the same for CSV and JSON."""
    if isinstance(value, float):
        return number_text(value) if np.isfinite(value) else repr(value)
    try:
        return parse_text(value) or ""
    except ValueError:
        return repr(value)


_Breaks = Callable[[Sequence[object]], list[bool]]
"""Which of many raw values break a clause. What it says of missing values doesn't count."""


def _condition(clause: Clause) -> _Breaks:
    if clause.rule in ("min", "max"):
        return _range_condition(float(clause.bound), is_min=clause.rule == "min")
    if clause.rule == "values":
        allowed = {_text(value) for value in clause.bound}
        numbers = {float(value) for value in clause.bound if not isinstance(value, str)}
        return lambda values: [_text(value) not in allowed and not _is_one_of(value, numbers) for value in values]
    pattern = re.compile(clause.bound)
    return lambda values: [
        not matches for matches in match_all(pattern, ["" if is_missing(value) else _text(value) for value in values])
    ]


def _range_condition(bound: float, is_min: bool) -> _Breaks:
    def breaks(value: object) -> bool:
        try:
            number = parse_number(value)
        except ValueError:
            return True  # what isn't a number isn't in the range either
        return number is not None and (number < bound if is_min else number > bound)

    return lambda values: [breaks(value) for value in values]


def _is_one_of(value: object, numbers: set[float]) -> bool:
    """Whether a cell is one of the numbers, however it is written: `1.0` is 1."""
    try:
        return bool(numbers) and parse_number(value) in numbers
    except ValueError:
        return False
