"""What the columns of a table are, learnt in one streaming pass, and what can be learnt from them.

A column is *number* when at least 95 % of its present values are numbers (rows with another value there are dropped
later, and reported), *boolean* when all are true or false, else *category*. Distinct values are counted exactly up to
`MAX_DISTINCT`; of a column with more, values first seen later aren't counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from shoal_core.data.config_types import Task
from shoal_core.data.report import ColumnReport
from shoal_core.data.spec import CategoryColumn, NumberColumn, PreprocessingSpec, TableInput, TargetSpec
from shoal_core.data.tables.formats import MAX_COLUMNS
from shoal_core.data.values import ValueKind, is_boolean_text, parse_number, parse_text, sort_naturally
from shoal_core.errors import BadConfig, BadDataset, BadTable

MAX_DISTINCT = 50_000
MAX_VOCABULARY = 1_000
MAX_CLASSES = 1_000
MAX_INTEGER_CLASSES = 20
NUMBER_SHARE = 0.95
IDENTIFIER_SHARE = 0.9
_MIN_IDENTIFIERS = 10
_LONG_TEXT = 256
_TARGET_NAMES = ("target", "label", "class", "y")
_ROW_NUMBER_NAMES = frozenset({"id", "index", "rowid", "row_id", "rownames", "row_names", "row_number", "rownumber"})

ColumnType = Literal["number", "category", "boolean", "nested", "empty"]


@dataclass
class _Numbers:
    """How many values are numbers, how many of those are whole, and their range."""

    count: int = 0
    whole: int = 0
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, text: str, times: int) -> None:
        try:
            number = parse_number(text)
        except ValueError:
            return
        if number is not None:
            self.count += times
            self.whole += times * number.is_integer()
            self.low = min(self.low, number)
            self.high = max(self.high, number)


class ColumnProfile:
    """Counts of one column's values."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.present = 0
        self.nested = 0
        self.counts: dict[str, int] = {}
        self.uncounted = 0
        self._uncounted_numbers = _Numbers()
        self._numbers: _Numbers | None = None

    def add(self, value: object) -> None:
        """Count one cell."""
        self._numbers = None
        try:
            text = parse_text(value)
        except ValueError:
            self.present += 1
            self.nested += 1
            return
        if text is None:
            return
        self.present += 1
        key = text if len(text) <= _LONG_TEXT else _long_key(text)
        if key in self.counts:
            self.counts[key] += 1
        elif len(self.counts) < MAX_DISTINCT:
            self.counts[key] = 1
        else:
            self.uncounted += 1
            self._uncounted_numbers.add(text, 1)

    @property
    def numbers(self) -> _Numbers:
        """What is known of the values that are numbers; counted values are parsed once, not cell by cell."""
        if self._numbers is None:
            found = replace(self._uncounted_numbers)
            for text, count in self.counts.items():
                found.add(text, count)
            self._numbers = found
        return self._numbers

    @property
    def exact(self) -> bool:
        """Whether every distinct value was counted."""
        return self.uncounted == 0

    @property
    def type(self) -> ColumnType:
        """The column's type by the rule of this module."""
        if not self.present:
            return "empty"
        if self.nested > (1 - NUMBER_SHARE) * self.present:
            return "nested"
        if self.numbers.count >= NUMBER_SHARE * self.present:
            return "number"
        if self.exact and not self.nested and all(is_boolean_text(text) for text in self.counts):
            return "boolean"
        return "category"

    @property
    def kind(self) -> ValueKind:
        """How the column's values become texts."""
        if self.type in ("number", "boolean"):
            return "number" if self.type == "number" else "boolean"
        return "text"

    def values(self) -> dict[str, int]:
        """Counted values of the column's kind; texts of the same value (`1` and `1.0`) are one."""
        merged: dict[str, int] = {}
        for text, count in self.counts.items():
            try:
                value = parse_text(text, self.kind)
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
        once = sum(count == 1 for count in self.counts.values())
        return once > IDENTIFIER_SHARE * distinct


class TableProfile:
    """Profiles of all columns of a table, filled row by row."""

    def __init__(self, columns: tuple[str, ...] = ()) -> None:
        self.rows = 0
        self.columns = {name: ColumnProfile(name) for name in columns}

    def add(self, row: Mapping[str, object]) -> None:
        """Count one row; a key never seen before becomes a column (JSONL)."""
        self.rows += 1
        for name, value in row.items():
            column = self.columns.get(name)
            if column is None:
                if len(self.columns) >= MAX_COLUMNS:
                    raise BadTable(f"The table has more than {MAX_COLUMNS:,} columns.", "Remove some.")
                column = self.columns[name] = ColumnProfile(name)
            column.add(value)


@dataclass(frozen=True)
class InferredTable:
    """The spec of a table, its columns for the report, and the names of settings nobody gave."""

    spec: PreprocessingSpec
    columns: tuple[ColumnReport, ...]
    inferred: tuple[str, ...]
    warnings: tuple[str, ...]


def infer_table(profile: TableProfile, name: str, target: str | None, task: Task | None) -> InferredTable:
    """Choose the target, the task and the columns.

    The target is the one asked for, else a column called target, label, class or y (in that order, in any case), else
    the last. A number target is a classification when all its values are whole and there are at most 20 of them.

    Args:
        profile: The whole table's profile.
        name: The table's name, for errors.
        target: The target asked for.
        task: The task asked for.

    Raises:
        BadDataset: No such target, nothing to learn from, or a task that the target doesn't allow.
    """
    if not profile.rows:
        raise BadDataset(f"{name!r} has no rows that can be read.", "Add rows under the header, and close its quotes.")
    column = profile.columns[_choose_target(profile, name, target)]
    found = _choose_target_spec(column, name, task)
    table, reports, warnings = _choose_inputs(profile, column, found)
    if not table.names:
        raise BadDataset(
            f"{name!r} has no column to learn from besides the target {column.name!r}.",
            "Add columns that vary and aren't row names.",
        )
    spec = PreprocessingSpec(kind="table", table=table, target=found)
    inferred = [*(["target"] if target is None else []), *(["task"] if task is None else [])]
    return InferredTable(spec, tuple(reports), tuple(inferred), tuple(warnings))


def _choose_target(profile: TableProfile, name: str, target: str | None) -> str:
    names = list(profile.columns)
    if target is not None:
        if target in profile.columns:
            return target
        shown = ", ".join(repr(column) for column in names[:50])
        raise BadDataset(f"{name!r} has no column {target!r}.", f"Set `target` to one of: {shown}.")
    for wanted in _TARGET_NAMES:
        for column in names:
            if column.casefold() == wanted:
                return column
    return names[-1]


def _choose_target_spec(column: ColumnProfile, name: str, task: Task | None) -> TargetSpec:
    quoted = f"the target {column.name!r} of {name!r}"
    if not column.present:
        raise BadDataset(f"All values of {quoted} are missing.", "Set `target` in dataset.yaml to another column.")
    if column.type == "nested":
        raise BadDataset(f"Values of {quoted} are lists or objects.", "Set `target` to a column of single values.")
    values = column.values()
    distinct = len(values) if column.exact else max(len(values), MAX_DISTINCT)
    if distinct < 2:
        raise BadDataset(
            f"All rows have the same value {next(iter(values), '')!r} in {quoted}.",
            "Add rows of another class, or set `target` to another column.",
        )
    if (task or _infer_task(column, distinct)) == "regression":
        if column.type != "number":
            example = next((text for text in values if not _numeric(text)), next(iter(values)))
            raise BadConfig(
                f"A regression needs numbers, and {quoted} has texts such as {example[:80]!r}.",
                "Set `task: classification` in dataset.yaml, or `target` to a column of numbers.",
            )
        if distinct == 2:
            raise BadConfig(
                f"A regression was asked for, and {quoted} has only 2 classes: {', '.join(sort_naturally(values))}.",
                "Set `task: classification` in dataset.yaml.",
            )
        return TargetSpec(task="regression", column=column.name, kind="number")
    if distinct > MAX_CLASSES or (column.type == "category" and column.identifying):
        raise BadDataset(
            f"A classification needs few classes, and {quoted} has {distinct:,} different values.",
            "Set `target` in dataset.yaml to the column to predict, or `task: regression` for numbers.",
        )
    classes = tuple(sort_naturally(values))
    return TargetSpec(task="classification", column=column.name, classes=classes, kind=column.kind)


def _infer_task(column: ColumnProfile, distinct: int) -> Task:
    if column.type != "number":
        return "classification"
    whole = column.numbers.whole == column.numbers.count
    return "classification" if whole and distinct <= MAX_INTEGER_CLASSES else "regression"


def _choose_inputs(
    profile: TableProfile, target: ColumnProfile, found: TargetSpec
) -> tuple[TableInput, list[ColumnReport], list[str]]:
    numbers: list[NumberColumn] = []
    categories: list[CategoryColumn] = []
    ignored: list[str] = []
    reports: list[ColumnReport] = []
    warnings: list[str] = []
    for column in profile.columns.values():
        if column is target:
            reports.append(_report(column, profile.rows, "target"))
            continue
        reason = _reason_to_drop(column)
        if reason:
            ignored.append(column.name)
            reports.append(_report(column, profile.rows, "dropped", reason))
        elif column.type == "number":
            numbers.append(NumberColumn(name=column.name))
            reports.append(_report(column, profile.rows, "number"))
        else:
            vocabulary = _vocabulary(column)
            categories.append(CategoryColumn(name=column.name, categories=vocabulary, kind=column.kind))
            reports.append(_report(column, profile.rows, "category"))
            if len(vocabulary) < len(column.counts) and column.type == "category":
                warnings.append(
                    f"Column {column.name!r} has more than {len(vocabulary):,} categories; the most frequent "
                    f"{len(vocabulary):,} are told apart, the rest count as unknown."
                )
    return TableInput(numbers=tuple(numbers), categories=tuple(categories), ignored=tuple(ignored)), reports, warnings


def _reason_to_drop(column: ColumnProfile) -> str:
    kind = column.type
    if kind == "empty":
        return "every value is missing"
    if kind == "nested":
        return "its values are lists or objects"
    if kind == "number":
        found = column.numbers
        if found.low == found.high:
            return "it has the same value in every row"
        row_numbers = column.present - 1 == found.high - found.low and found.whole == found.count
        if column.name.casefold() in _ROW_NUMBER_NAMES and row_numbers and column.identifying:
            return "it numbers the rows"
        return ""
    if len(column.values()) == 1 and column.exact:
        return "it has the same value in every row"
    if kind == "category" and column.identifying:
        return "nearly every value is different: it identifies rows"
    return ""


def _vocabulary(column: ColumnProfile) -> tuple[str, ...]:
    """The most frequent values by count, then by text, in natural order."""
    values = {text: count for text, count in column.values().items() if len(text) <= _LONG_TEXT}
    frequent = sorted(values, key=lambda text: (-values[text], text))[:MAX_VOCABULARY]
    return tuple(sort_naturally(frequent))


def _report(
    column: ColumnProfile, rows: int, role: Literal["number", "category", "target", "dropped"], reason: str = ""
) -> ColumnReport:
    return ColumnReport(
        name=column.name,
        role=role,
        type=column.type,
        missing=rows - column.present,
        distinct=len(column.values()) if column.type != "nested" else 0,
        distinct_exact=column.exact,
        reason=reason,
    )


def _numeric(text: str) -> bool:
    try:
        return parse_number(text) is not None
    except ValueError:
        return False


def _long_key(text: str) -> str:
    """A stand-in for a long text that is itself too long for the vocabulary, so memory stays bounded."""
    return text[:_LONG_TEXT] + "#" + hashlib.sha256(text.encode()).hexdigest()[:16]
