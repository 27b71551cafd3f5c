"""What the labels of an index of files are: one class, several, or a number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shoal_core.data.anomalies import UNLABELLED, column_target, normal_labels
from shoal_core.data.config import DatasetConfig
from shoal_core.data.config_types import Task
from shoal_core.data.spec import TargetSpec
from shoal_core.data.tables.targets import labels_of
from shoal_core.data.values import ValueKind, is_boolean_text, parse_number, parse_text, sort_naturally
from shoal_core.errors import BadConfig, BadDataset

MAX_CLASSES = 1000
MAX_INTEGER_CLASSES = 20
_NUMBER_SHARE = 0.95
_SEPARATORS = "|;,"


def infer_target(
    values: Sequence[object], counts: Sequence[int], column: str, config: DatasetConfig, name: str
) -> TargetSpec:
    """What is predicted, by the rules of tables.

    Args:
        values: Distinct labels, none of them missing: texts, numbers, booleans or lists.
        counts: How many files have each.
        column: The labels' column.
        config: Its `task` and `separator` are used where they are set. Where anomalies are sought, labels that nobody
            pointed at, and of which none is called normal, count for nothing.
        name: What to call the table in errors.

    Raises:
        BadConfig: A regression of labels that aren't numbers, or anomalies without a label that is called normal.
        BadDataset: Fewer than two classes, or too many.
    """
    several = any(isinstance(value, list) for value in values)
    numbers = [_number(value) for value in values]
    numeric = sum(count for number, count in zip(numbers, counts, strict=True) if number is not None)
    kind: ValueKind = "text"
    if values and numeric >= _NUMBER_SHARE * sum(counts):
        kind = "number"
    elif values and all(isinstance(value, bool) or is_boolean_text(str(value).strip()) for value in values):
        kind = "boolean"
    if config.finds_anomalies:
        texts = {text for value in values for text in _labels(value, kind, None)[:1] if not isinstance(value, list)}
        if config.target is None and config.anomaly.normal is None and not normal_labels(texts, config):
            return UNLABELLED
        return column_target(column, kind, texts, config, f"column {column!r} of {name!r}")
    task = config.task or _task(several or config.separator is not None, kind, numbers)
    if task == "regression":
        if kind != "number":
            raise BadConfig(
                f"dataset.yaml: task: the labels {column!r} of {name!r} aren't numbers.", "Use `task: classification`."
            )
        return TargetSpec(task=task, column=column, kind=kind)
    if task == "multilabel":
        kind = "text"
        separator = config.separator or _separator(values)
        classes = {label for value in values for label in _labels(value, kind, separator)}
    else:
        separator = None
        classes = {text for value in values for text in _labels(value, kind, None)[:1] if not isinstance(value, list)}
    _check(classes, column, name)
    return TargetSpec(task=task, column=column, classes=tuple(sort_naturally(classes)), kind=kind, separator=separator)


def _task(several: bool, kind: ValueKind, numbers: Iterable[float | None]) -> Task:
    if several:
        return "multilabel"
    known = {number for number in numbers if number is not None}
    few = len(known) <= MAX_INTEGER_CLASSES and all(number.is_integer() for number in known)
    return "regression" if kind == "number" and not few else "classification"


def _check(classes: set[str], column: str, name: str) -> None:
    if len(classes) < 2:
        raise BadDataset(
            f"The labels {column!r} of {name!r} are of one class only: {', '.join(map(repr, classes)) or 'none'}.",
            "Add images of another class, or name the column of labels as `target` in dataset.yaml.",
        )
    if len(classes) > MAX_CLASSES:
        raise BadDataset(
            f"The labels {column!r} of {name!r} have {len(classes):,} classes.",
            f"At most {MAX_CLASSES:,} are possible. Name another column as `target` in dataset.yaml.",
        )


def _number(value: object) -> float | None:
    try:
        return parse_number(value)
    except ValueError:
        return None


def _labels(value: object, kind: ValueKind, separator: str | None) -> tuple[str, ...]:
    try:
        if separator is None and not isinstance(value, list):
            text = parse_text(value, kind)
            return () if text is None else (text,)
        return labels_of(value, kind, separator) or ()
    except ValueError:
        return ()


def _separator(values: Iterable[object]) -> str | None:
    """Whichever parts the most cells; None when none does."""
    texts = [value for value in values if isinstance(value, str)]
    best = max(_SEPARATORS, key=lambda separator: sum(separator in text for text in texts))
    return best if any(best in text for text in texts) else None
