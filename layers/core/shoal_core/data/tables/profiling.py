"""What the columns of a table are, learnt in one streaming pass, frame by frame.

A column is *number* when at least 95 % of its present values are numbers (rows with another value there are dropped
later, and reported), *boolean* when all are true or false, *date* when at least 95 % are dates, else *category*.
Distinct values are counted up to the row that would bring the 50,001st of them; from there on only numbers are counted.
So a profile depends on the rows and their order alone, not on how they are cut into frames.
"""

from __future__ import annotations

import hashlib
import itertools
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.cleaning_config import TextConfig
from shoal_core.data.tables.cells import NO_INSTANT, TypedValues
from shoal_core.data.tables.dates import DateOrder, DateUnit, feature_values, parse_date, parse_dates, slashed_parts
from shoal_core.data.tables.formats import MAX_COLUMNS
from shoal_core.data.tables.frames import Distinct, Frame, frame_of_rows
from shoal_core.data.tables.leaks import LeakFinder
from shoal_core.data.tables.parsing import Numbers, count_numbers, parse_numbers
from shoal_core.data.tables.rows import TableRow
from shoal_core.data.tables.words import WordCounter
from shoal_core.data.values import MISSING, ValueKind, is_boolean_text, parse_number, parse_text
from shoal_core.errors import BadTable

MAX_DISTINCT = 50_000
NUMBER_SHARE = 0.95
IDENTIFIER_SHARE = 0.9
LONG_TEXT = 256
_MIN_IDENTIFIERS = 10
_DATE_PROBE = 50

_T = TypeVar("_T")
ColumnType = Literal["number", "category", "boolean", "date", "nested", "empty"]


@dataclass(frozen=True)
class Dates:
    """What is known of the counted values that are dates: how they are written, how many there are, what varies."""

    count: int
    ambiguous: bool
    order: DateOrder | None
    unit: DateUnit | None
    varying: tuple[str, ...]


@dataclass
class ColumnProfile:
    """Counts of one column's values.

    Attributes:
        name: The column.
        present: Values that aren't missing.
        nested: How many of them are lists or objects.
        counts: Text -> how often, in the order of appearance.
        labels: Items of lists -> how often (for several labels a row).
        lists: How many values are lists of single values.
        exact: Whether every distinct value was counted.
        words: Words of texts, where the column looks like texts.
    """

    name: str
    words: WordCounter
    present: int = 0
    nested: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    lists: int = 0
    exact: bool = True
    _rest: Numbers = field(default_factory=Numbers)
    _known: dict[str, object] = field(default_factory=dict)

    def add(self, frame: Frame) -> None:
        """Count a frame's cells."""
        self._known.clear()
        first = 0
        if self.exact:
            found = frame.distinct(self.name)
            overflow = self._overflow(found)
            if overflow is None:
                self._count(found)
                self.words.add(found)
                return
            self._count(frame.distinct(self.name, overflow))
            self.exact = False
            first = overflow
        if self.words.wanted:
            self.words.add(frame.distinct(self.name))
        cells = frame.cells(self.name)
        numbers, wrong = parse_numbers(cells.values)
        counts = cells.counts(first)
        self.present += int(counts[list(wrong)].sum())
        more = count_numbers(numbers, counts)
        self.present += more.count
        self._rest = self._rest.joined(more)

    def _overflow(self, found: Distinct) -> int | None:
        """The row that brings one distinct value too many, if any."""
        room = MAX_DISTINCT - len(self.counts)
        if len(found.values) <= room:
            return None
        # Different values of a typed column are different texts.
        if (isinstance(found.values, TypedValues) and not self.counts) or self._all_new(found.values):
            return int(found.firsts[room])
        fresh: set[str] = set()
        counts = self.counts
        for value, first in zip(found.values, found.firsts.tolist(), strict=True):
            if type(value) is str and value in counts:
                continue
            try:
                text = parse_text(value)
            except ValueError:
                continue
            key = None if text is None else _key(text)
            if key is None or key in counts or key in fresh:
                continue
            if len(fresh) == room:
                return int(first)
            fresh.add(key)
        return None

    def _all_new(self, values: Sequence[object]) -> bool:
        """Whether values are short texts as they are counted, none missing and none counted yet."""
        if not values or set(map(type, values)) != {str}:
            return False
        texts = cast("Sequence[str]", values)
        # A text that is its own key has no spaces around it and isn't long.
        whole = "".join(texts)
        return (
            whole.isascii()
            and max(map(len, texts)) <= LONG_TEXT
            and (not any(space in whole for space in string.whitespace) or all(text.strip() == text for text in texts))
            and self.counts.keys().isdisjoint(texts)
            and MISSING.isdisjoint(texts)
        )

    def _count(self, found: Distinct) -> None:
        counts = self.counts
        values = list(found.values)
        if self._all_new(values):
            self.present += int(found.counts.sum())
            counts.update(zip(cast("list[str]", values), found.counts.tolist(), strict=True))
            return
        for value, times in zip(values, found.counts.tolist(), strict=True):
            # A text that is counted already is its own key.
            if type(value) is str and value in counts:
                self.present += times
                counts[value] += times
                continue
            try:
                text = parse_text(value)
            except ValueError:
                self.present += times
                self.nested += times
                self._count_labels(value, times)
                continue
            if text is not None:
                self.present += times
                key = _key(text)
                counts[key] = counts.get(key, 0) + times

    def _count_labels(self, value: object, times: int) -> None:
        if not isinstance(value, list):
            return
        try:
            labels = {label for label in map(parse_text, value) if label is not None}
        except ValueError:
            return
        self.lists += times
        for label in sorted(labels):
            if label in self.labels or len(self.labels) < MAX_DISTINCT:
                self.labels[label] = self.labels.get(label, 0) + times

    def _once(self, name: str, make: Callable[[], _T]) -> _T:
        """What is made of the counts, once until they change."""
        if name not in self._known:
            self._known[name] = make()
        return cast("_T", self._known[name])

    @property
    def numbers(self) -> Numbers:
        """What is known of the values that are numbers."""
        return self._once("numbers", self._find_numbers)

    def _find_numbers(self) -> Numbers:
        times = np.fromiter(self.counts.values(), np.int64, len(self.counts))
        return self._rest.joined(count_numbers(self._counted_numbers(), times))

    def _counted_numbers(self) -> NDArray[np.float64]:
        """The counted values as numbers; NaN where they aren't."""
        return self._once("floats", lambda: parse_numbers(list(self.counts))[0])

    @property
    def distinct(self) -> int:
        """How many different values of the column's kind were counted."""
        if self.kind != "number":
            return len(self.values())
        numbers = self._counted_numbers()
        return len(np.unique(numbers[~np.isnan(numbers)]))

    @property
    def type(self) -> ColumnType:
        """The column's type by the rule of this module."""
        return self._once("type", self._find_type)

    def _find_type(self) -> ColumnType:
        if not self.present:
            return "empty"
        if self.nested > (1 - NUMBER_SHARE) * self.present:
            return "nested"
        if self.numbers.count >= NUMBER_SHARE * self.present:
            return "number"
        if self.exact and not self.nested and all(is_boolean_text(text) for text in self.counts):
            return "boolean"
        dates = self.dates()
        if dates is not None and not dates.ambiguous:
            return "date"
        return "category"

    @property
    def kind(self) -> ValueKind:
        """How the column's values become texts."""
        found = self.type
        return "number" if found == "number" else "boolean" if found == "boolean" else "text"

    def dates(self) -> Dates | None:
        """The column as dates; None when fewer than 95 % of the counted values are dates."""
        return self._once("dates", self._find_dates)

    def _find_dates(self) -> Dates | None:
        if not self.counts or not _mostly_dates(itertools.islice(self.counts, _DATE_PROBE)):
            return None
        parts = [] if self._all_iso() else [found for text in self.counts if (found := slashed_parts(text))]
        by_day, by_month = any(first > 12 for first, _ in parts), any(second > 12 for _, second in parts)
        ambiguous = bool(parts) and by_day == by_month
        order: DateOrder | None = "day" if by_day and parts else "month" if by_month and parts else None
        return self._dated(order, None, ambiguous)

    def _all_iso(self) -> bool:
        """Whether all counted values are dates of ISO 8601, so that none is slashed."""
        return not (self._counted_instants(None, None) == NO_INSTANT).any()

    def _counted_instants(self, order: DateOrder | None, unit: DateUnit | None) -> NDArray[np.int64]:
        """The counted values as instants; `NO_INSTANT` where they aren't."""
        return self._once(f"instants {order} {unit}", lambda: parse_dates(list(self.counts), order, unit)[0])

    def numeric_dates(self) -> Dates | None:
        """A column of numbers as dates since 1970, in the unit that suits their size; None when it isn't numbers."""
        if self.type != "number":
            return None
        size = max(abs(self.numbers.low), abs(self.numbers.high))
        unit: DateUnit = "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"
        return self._dated(None, unit, False)

    def _dated(self, order: DateOrder | None, unit: DateUnit | None, ambiguous: bool) -> Dates | None:
        instants = self._counted_instants("day" if ambiguous else order, unit)
        known = instants != NO_INSTANT
        times = np.fromiter(self.counts.values(), np.int64, len(self.counts))
        count = int(times[known].sum())
        if count < NUMBER_SHARE * int(times.sum()):
            # Of a slashed column that isn't ambiguous in itself, some values may fit neither order.
            return Dates(count, True, None, unit, ()) if ambiguous else None
        found = instants[known]
        varying = [name for name in ("hour", "weekday", "day", "month") if np.ptp(feature_values(found, name)) > 0]
        elapsed = ["elapsed"] if len(found) and np.ptp(found) > 0 else []
        return Dates(count, ambiguous, order, unit, (*elapsed, *varying))

    def values(self, kind: ValueKind | None = None) -> dict[str, int]:
        """Counted values of the column's kind; texts of the same value (`1` and `1.0`) are one."""
        kind = kind or self.kind
        if kind == "text":
            return dict(self.counts)
        return dict(self._once(f"values {kind}", lambda: self._find_values(kind)))

    def _find_values(self, kind: ValueKind) -> dict[str, int]:
        merged: dict[str, int] = {}
        for text, count in self.counts.items():
            try:
                value = parse_text(text, kind)
            except ValueError:
                continue
            if value is not None:
                merged[value] = merged.get(value, 0) + count
        return merged

    @property
    def identifying(self) -> bool:
        """Whether nearly every value differs from all others."""
        distinct = len(self.counts)
        if self.exact:
            return distinct >= _MIN_IDENTIFIERS and distinct > IDENTIFIER_SHARE * self.present
        once = list(self.counts.values()).count(1)
        return once > IDENTIFIER_SHARE * distinct


class TableProfile:
    """Profiles of all columns of a table, filled frame by frame.

    Args:
        columns: The columns known from the start.
        text: How texts become tokens.
        texts: Columns that are texts because the settings say so.
        target: The target, where it is known from the start: columns are compared with it.
    """

    def __init__(
        self,
        columns: Iterable[str] = (),
        text: TextConfig | None = None,
        texts: frozenset[str] = frozenset(),
        target: str | None = None,
    ) -> None:
        self.rows = 0
        self._text = text or TextConfig()
        self._texts = texts
        self.columns: dict[str, ColumnProfile] = {}
        self.leaks = LeakFinder(target)
        self.know(columns)

    def know(self, columns: Iterable[str]) -> None:
        """Make columns known before any row has them."""
        for name in columns:
            self._column(name)

    def _column(self, name: str) -> ColumnProfile:
        if name not in self.columns:
            if len(self.columns) >= MAX_COLUMNS:
                raise BadTable(f"The table has more than {MAX_COLUMNS:,} columns.", "Remove some.")
            self.columns[name] = ColumnProfile(name, WordCounter(self._text, name in self._texts))
        return self.columns[name]

    def add_frame(self, frame: Frame) -> None:
        """Count a frame; a name never seen before becomes a column."""
        rows = len(frame.lines)
        if not rows:
            return
        for name in frame.names:
            self._column(name).add(frame)
        self.leaks.add(frame, tuple(self.columns), self.rows)
        self.rows += rows

    def add(self, row: Mapping[str, object]) -> None:
        """Count one row."""
        self.add_rows([row])

    def add_rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Count rows that are mappings."""
        self.add_frame(frame_of_rows([TableRow(0, 0, 0, dict(row)) for row in rows], ()))


def number_of(text: str) -> float | None:
    """A text as a number, None when it isn't one."""
    try:
        return parse_number(text)
    except ValueError:
        return None


def _mostly_dates(texts: Iterable[str]) -> bool:
    found = [slashed_parts(text) is not None or _is_iso(text) for text in texts]
    return sum(found) >= 0.9 * len(found)


def _is_iso(text: str) -> bool:
    try:
        return parse_date(text) is not None
    except ValueError:
        return False


def _key(text: str) -> str:
    """The text, or a stand-in for one that is too long for the vocabulary, so that memory stays bounded."""
    return text if len(text) <= LONG_TEXT else text[:LONG_TEXT] + "#" + hashlib.sha256(text.encode()).hexdigest()[:16]
