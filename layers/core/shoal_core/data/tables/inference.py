"""What can be learnt from a table: the target, the task and what every column becomes, from its profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from shoal_core.data.cleaning_config import ColumnConfig, ColumnKind
from shoal_core.data.config import DatasetConfig
from shoal_core.data.report import ColumnReport
from shoal_core.data.spec import (
    CategoryColumn,
    DateColumn,
    DateFeature,
    NumberColumn,
    PreprocessingSpec,
    TableInput,
    TargetSpec,
    TextColumn,
)
from shoal_core.data.tables.goals import choose_anomaly_labels, choose_target, choose_target_spec
from shoal_core.data.tables.profiling import LONG_TEXT, ColumnProfile, Dates, TableProfile
from shoal_core.data.values import sort_naturally
from shoal_core.errors import BadConfig, BadDataset

MAX_VOCABULARY = 1_000
MAX_BUCKETS = 1_000
# Values beyond the vocabulary are hashed when they are at least this share of all.
_RARE_SHARE = 0.05
_TEXT_SHARE = 0.2
_ROW_NUMBER_NAMES = frozenset({"id", "index", "rowid", "row_id", "rownames", "row_names", "row_number", "rownumber"})
Role = Literal["number", "category", "date", "text", "target", "group", "time", "dropped"]


@dataclass(frozen=True)
class InferredTable:
    """The spec of a table, its columns for the report, and the names of settings nobody gave."""

    spec: PreprocessingSpec
    columns: tuple[ColumnReport, ...]
    inferred: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass
class Inputs:
    """Columns by what they become, in the order of the table."""

    numbers: list[NumberColumn] = field(default_factory=list)
    dates: list[DateColumn] = field(default_factory=list)
    categories: list[CategoryColumn] = field(default_factory=list)
    texts: list[TextColumn] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    reports: list[ColumnReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def infer_table(profile: TableProfile, name: str, config: DatasetConfig) -> InferredTable:
    """Choose the target, the task and the columns.

    The target is the one asked for, else a column called target, label, class or y (in that order, in any case), else
    the last. A number target is a classification when all its values are whole and there are at most 20 of them.

    Args:
        profile: The whole table's profile.
        name: The table's name, for errors.
        config: What was asked for.

    Raises:
        BadDataset: No such target, nothing to learn from, or a task that the target doesn't allow.
        BadConfig: Settings of a column that isn't there, or that its values don't allow.
    """
    if not profile.rows:
        raise BadDataset(f"{name!r} has no rows that can be read.", "Add rows under the header, and close its quotes.")
    _check_names(profile, name, config)
    target, found = choose_goal(profile, tuple(profile.columns), name, config)
    inputs = _choose_inputs(profile, target, name, config)
    if found.task == "anomaly" and inputs.texts:
        raise BadConfig(
            f"Column {inputs.texts[0].name!r} of {name!r} holds texts, in which anomalies can't be found.",
            f"Leave it out: `columns: {{{inputs.texts[0].name}: {{type: ignore}}}}`, or set its type to category.",
        )
    table = TableInput(
        numbers=tuple(inputs.numbers),
        dates=tuple(inputs.dates),
        categories=tuple(inputs.categories),
        texts=tuple(inputs.texts),
        ignored=tuple(inputs.ignored),
    )
    if not table.names:
        raise BadDataset(
            f"{name!r} has no column to learn from{f' besides the target {target.name!r}' if target else ''}.",
            "Add columns that vary and aren't row names.",
        )
    inferred = [*(["target"] if config.target is None else []), *(["task"] if config.task is None else [])]
    return InferredTable(
        spec=PreprocessingSpec(kind="table", table=table, target=found),
        columns=tuple(inputs.reports),
        inferred=tuple(sorted(inferred)),
        warnings=tuple(inputs.warnings),
    )


def choose_goal(
    profile: TableProfile, names: Sequence[str], name: str, config: DatasetConfig
) -> tuple[ColumnProfile | None, TargetSpec]:
    """The target's column, one of `names`, and what is predicted; there may be no target where anomalies are sought."""
    if config.finds_anomalies:
        return choose_anomaly_labels({column: profile.columns[column] for column in names}, name, config)
    target = profile.columns[choose_target(names, name, config.target)]
    return target, choose_target_spec(target, name, config)


def _check_names(profile: TableProfile, name: str, config: DatasetConfig) -> None:
    wanted: list[tuple[str, str | None]] = [("columns", column) for column in config.columns]
    wanted += [("split.group", config.split.group), ("split.time", config.split.time)]
    for setting, column in wanted:
        if column is not None and column not in profile.columns:
            shown = ", ".join(repr(known) for known in list(profile.columns)[:50])
            raise BadConfig(
                f"dataset.yaml: {setting}: {name!r} has no column {column!r}.", f"Use one of its columns: {shown}."
            )


def _choose_inputs(profile: TableProfile, target: ColumnProfile | None, name: str, config: DatasetConfig) -> Inputs:
    inputs = Inputs()
    same = profile.leaks.twins(target.name) if target else ()
    determining = profile.leaks.determining() if target and profile.leaks.target == target.name else ()
    kept: set[str] = set()
    for column in profile.columns.values():
        settings = config.columns.get(column.name, ColumnConfig())
        if column is target:
            inputs.reports.append(report_column(column, profile.rows, "target"))
            continue
        role = _split_role(column.name, config)
        if role is not None:
            inputs.ignored.append(column.name)
            inputs.reports.append(report_column(column, profile.rows, role))
            continue
        twin = next((other for other in profile.leaks.twins(column.name) if other in kept), None)
        reason = "dataset.yaml says so" if settings.type == "ignore" else ""
        if not reason and target is not None and column.name in same:
            reason = f"it equals the target {target.name!r} in every row: it would give the answer away"
        reason = reason or reason_to_drop(column, settings.type or ("category" if settings.buckets else None))
        if reason:
            inputs.ignored.append(column.name)
            inputs.reports.append(report_column(column, profile.rows, "dropped", reason))
            continue
        kept.add(column.name)
        if twin is not None:
            inputs.warnings.append(f"Column {column.name!r} equals column {twin!r} in every row; one is enough.")
        if target is not None and column.name in determining and target.type != "number":
            inputs.warnings.append(
                f"Column {column.name!r} determines the target {target.name!r}: each of its values goes with one class "
                "only, and the other way round. Unless it is known when predicting, set its type to ignore."
            )
        _add_input(inputs, column, profile.rows, name, settings)
    return inputs


def _split_role(name: str, config: DatasetConfig) -> Role | None:
    if name == config.split.group:
        return "group"
    return "time" if name == config.split.time else None


def _add_input(inputs: Inputs, column: ColumnProfile, rows: int, name: str, settings: ColumnConfig) -> None:
    """Make a feature of a column: what the settings say, else what its values are."""
    wanted = settings.type
    if wanted == "text" or (wanted is None and column.type == "category" and settings.buckets is None):
        text = text_column(column, wanted is not None)
        if text is not None:
            inputs.texts.append(text)
            inputs.reports.append(report_column(column, rows, "text"))
            return
    if wanted == "date" or (wanted is None and column.type == "date"):
        dates = _dates(column, name, wanted is not None)
        if dates is not None:
            features: tuple[DateFeature, ...] = dates.varying or ("elapsed",)  # type: ignore[assignment]
            inputs.dates.append(DateColumn(name=column.name, features=features, unit=dates.unit, order=dates.order))
            inputs.reports.append(report_column(column, rows, "date"))
            return
    if wanted == "number" or (wanted is None and column.type == "number" and settings.buckets is None):
        _check_numbers(column, name)
        inputs.numbers.append(NumberColumn(name=column.name))
        inputs.reports.append(report_column(column, rows, "number"))
        return
    add_category(inputs, column, rows, settings)
    dates = column.dates() if column.type == "category" else None
    if dates is not None and dates.ambiguous:
        inputs.warnings.append(
            f"Column {column.name!r} could be read day first or month first, so its values count as categories; "
            "write dates as in 2026-01-31."
        )


def add_category(inputs: Inputs, column: ColumnProfile, rows: int, settings: ColumnConfig) -> None:
    """Make a category of a column."""
    kind = "text" if settings.type == "category" and column.type == "date" else column.kind
    values = column.values(kind)
    vocabulary = _vocabulary(values)
    buckets = settings.buckets or _buckets(column, values, vocabulary)
    inputs.categories.append(CategoryColumn(name=column.name, categories=vocabulary, kind=kind, buckets=buckets))
    inputs.reports.append(report_column(column, rows, "category"))
    if len(vocabulary) < len(values) and not buckets:
        inputs.warnings.append(
            f"Column {column.name!r} has more than {len(vocabulary):,} categories; the most frequent "
            f"{len(vocabulary):,} are told apart, the rest count as unknown."
        )
    elif len(vocabulary) < len(values):
        inputs.warnings.append(
            f"Column {column.name!r} has more than {len(vocabulary):,} categories; the most frequent "
            f"{len(vocabulary):,} are told apart, the rest by {buckets:,} hashed buckets."
        )


def _buckets(column: ColumnProfile, values: dict[str, int], vocabulary: Sequence[str]) -> int:
    """Buckets for values beyond the vocabulary, where those are many; 0 where they aren't."""
    known = sum(values[text] for text in vocabulary)
    rare = sum(values.values()) - known
    if len(values) <= 2 * MAX_VOCABULARY and column.exact:
        return 0
    return MAX_BUCKETS if rare >= _RARE_SHARE * (rare + known) else 0


def text_column(column: ColumnProfile, asked: bool) -> TextColumn | None:
    """The column as a text, where it is one: its values are long, and many are different."""
    found = column.words.column(column.name)
    if found is None or asked:
        return found
    return found if not column.exact or len(column.counts) >= _TEXT_SHARE * column.present else None


def _dates(column: ColumnProfile, name: str, asked: bool) -> Dates | None:
    found = column.dates() or column.numeric_dates()
    if asked and (found is None or found.ambiguous):
        example = next(iter(column.counts), "")
        why = "could be day first or month first" if found is not None else f"holds values such as {example[:80]!r}"
        raise BadConfig(
            f"dataset.yaml: columns: {column.name!r} of {name!r} {why}, and its type is to be date.",
            "Write dates as in 2026-01-31 or 2026-01-31T12:30:00Z.",
        )
    return found if found is not None and not found.ambiguous else None


def _check_numbers(column: ColumnProfile, name: str) -> None:
    if not column.numbers.count:
        example = next(iter(column.counts), "")
        raise BadConfig(
            f"dataset.yaml: columns: {column.name!r} of {name!r} holds no numbers, but values such as "
            f"{example[:80]!r}, and its type is to be number.",
            "Set its type to category, or leave it out.",
        )


def reason_to_drop(column: ColumnProfile, wanted: ColumnKind | None) -> str:
    """Why a column carries nothing, '' when it does; `wanted` is the type that the settings give it."""
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
        if wanted is None and column.name.casefold() in _ROW_NUMBER_NAMES and row_numbers and column.identifying:
            return "it numbers the rows"
        return ""
    if len(column.values()) == 1 and column.exact:
        return "it has the same value in every row"
    if kind == "category" and wanted is None and column.identifying and text_column(column, asked=False) is None:
        return "nearly every value is different: it identifies rows"
    return ""


def _vocabulary(values: dict[str, int]) -> tuple[str, ...]:
    """The most frequent values by count, then by text, in natural order."""
    known = {text: count for text, count in values.items() if len(text) <= LONG_TEXT}
    frequent = sorted(known, key=lambda text: (-known[text], text))[:MAX_VOCABULARY]
    return tuple(sort_naturally(frequent))


def report_column(column: ColumnProfile, rows: int, role: Role, reason: str = "") -> ColumnReport:
    """What the report tells about a column."""
    kind: Literal["number", "category", "boolean", "date", "text", "nested", "empty"] = column.type
    return ColumnReport(
        name=column.name,
        role=role,
        type="text" if role == "text" else kind,
        missing=rows - column.present,
        distinct=column.distinct if kind != "nested" else 0,
        distinct_exact=column.exact,
        reason=reason,
    )
