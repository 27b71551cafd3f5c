"""The target of a table: which column it is, and what there is to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shoal_core.data.anomalies import LABEL_COLUMNS, UNLABELLED, column_target, normal_labels
from shoal_core.data.config import DatasetConfig
from shoal_core.data.config_types import Task
from shoal_core.data.spec import TargetSpec
from shoal_core.data.tables.profiling import MAX_DISTINCT, ColumnProfile, number_of
from shoal_core.data.values import is_missing, sort_naturally
from shoal_core.errors import BadConfig, BadDataset

MAX_CLASSES = 1_000
MAX_INTEGER_CLASSES = 20
SEPARATORS = ("|", ";", ",")
_TARGET_NAMES = ("target", "label", "class", "y")
_MOSTLY = 0.95


def choose_target(names: Sequence[str], name: str, target: str | None) -> str:
    """The target's column: the one asked for, else by name, else the last. Raises `BadDataset`."""
    if target is not None:
        if target in names:
            return target
        shown = ", ".join(repr(column) for column in names[:50])
        raise BadDataset(f"{name!r} has no column {target!r}.", f"Set `target` to one of: {shown}.")
    for wanted in _TARGET_NAMES:
        for column in names:
            if column.casefold() == wanted:
                return column
    return names[-1]


def choose_target_spec(column: ColumnProfile, name: str, config: DatasetConfig) -> TargetSpec:
    """What is to be predicted. Raises `BadDataset` or `BadConfig` where that can't be learnt."""
    task = config.task
    quoted = f"the target {column.name!r} of {name!r}"
    if not column.present:
        raise BadDataset(f"All values of {quoted} are missing.", "Set `target` in dataset.yaml to another column.")
    if column.type == "nested":
        return _choose_lists(column, quoted, task)
    if task == "multilabel":
        return _choose_labels(column, quoted, config.separator)
    values = column.values()
    distinct = len(values) if column.exact else max(len(values), MAX_DISTINCT)
    if distinct < 2:
        raise BadDataset(
            f"All rows have the same value {next(iter(values), '')!r} in {quoted}.",
            "Add rows of another class, or set `target` to another column.",
        )
    if (task or _infer_task(column, distinct)) == "regression":
        return _choose_number(column, quoted, values, distinct)
    if distinct > MAX_CLASSES or (column.type == "category" and column.identifying):
        raise BadDataset(
            f"A classification needs few classes, and {quoted} has {distinct:,} different values.",
            "Set `target` in dataset.yaml to the column to predict, or `task: regression` for numbers.",
        )
    classes = tuple(sort_naturally(values))
    return TargetSpec(task="classification", column=column.name, classes=classes, kind=column.kind)


def choose_anomaly_labels(
    columns: Mapping[str, ColumnProfile], name: str, config: DatasetConfig
) -> tuple[ColumnProfile | None, TargetSpec]:
    """The column that says which rows are known anomalies, and what its values mean; None where there is none.

    Without a `target` a column is taken that is called like one and has a value that is called normal.

    Raises:
        BadDataset: There is no such column, or it has too many values.
        BadConfig: Which of its values are normal isn't known.
    """
    if config.target is None:
        called = {column.casefold(): column for column in columns}
        for wanted in LABEL_COLUMNS:
            column = columns[called[wanted]] if wanted in called else None
            if column is None or not column.exact or column.type == "nested":
                continue
            values = column.values()
            if 1 < len(values) <= MAX_CLASSES and normal_labels(values, config):
                return column, column_target(column.name, column.kind, values, config, f"column {column.name!r}")
        return None, UNLABELLED
    column = columns[choose_target(tuple(columns), name, config.target)]
    quoted = f"column {column.name!r} of {name!r}"
    if column.type == "nested" or not column.exact or len(column.values()) > MAX_CLASSES:
        raise BadDataset(f"{quoted} doesn't hold labels.", "Set `target` to a column of few values, or leave it out.")
    return column, column_target(column.name, column.kind, column.values(), config, quoted)


def _choose_number(column: ColumnProfile, quoted: str, values: dict[str, int], distinct: int) -> TargetSpec:
    if column.type != "number":
        example = next((text for text in values if number_of(text) is None), next(iter(values)))
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


def _choose_lists(column: ColumnProfile, quoted: str, task: Task | None) -> TargetSpec:
    """A target of JSON lists: several labels a row."""
    if task not in (None, "multilabel") or column.lists < _MOSTLY * column.nested:
        raise BadDataset(f"Values of {quoted} are lists or objects.", "Set `target` to a column of single values.")
    return _multilabel(column, quoted, column.labels, None)


def _choose_labels(column: ColumnProfile, quoted: str, separator: str | None) -> TargetSpec:
    """A target of texts that hold several labels each: the separator asked for, else the one that parts most cells."""
    parted = {mark: sum(mark in text for text in column.counts) for mark in SEPARATORS}
    found = separator or max(parted, key=lambda mark: (parted[mark], -SEPARATORS.index(mark)))
    labels: dict[str, int] = {}
    for text, count in column.counts.items():
        for label in dict.fromkeys(part.strip() for part in text.split(found)):
            if label:
                labels[label] = labels.get(label, 0) + count
    return _multilabel(column, quoted, labels, found)


def _multilabel(column: ColumnProfile, quoted: str, labels: dict[str, int], separator: str | None) -> TargetSpec:
    classes = tuple(sort_naturally(label for label in labels if not is_missing(label)))
    if len(classes) < 2:
        raise BadDataset(
            f"All rows have at most the one label {next(iter(classes), '')!r} in {quoted}.",
            "Add rows with other labels, or set `target` to another column.",
        )
    if len(classes) > MAX_CLASSES or not column.exact:
        raise BadDataset(
            f"Several labels a row need few labels, and {quoted} has {len(classes):,} different ones.",
            "Set `separator` in dataset.yaml to what parts the labels, or `target` to another column.",
        )
    return TargetSpec(task="multilabel", column=column.name, classes=classes, separator=separator)


def _infer_task(column: ColumnProfile, distinct: int) -> Task:
    if column.type != "number":
        return "classification"
    whole = column.numbers.whole == column.numbers.count
    return "classification" if whole and distinct <= MAX_INTEGER_CLASSES else "regression"
