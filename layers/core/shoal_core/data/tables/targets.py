"""Targets to tensors: class indices, numbers, or several labels a row."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.columns import Problem, list_problems, numbers_of
from shoal_core.data.values import ValueKind, is_missing, parse_text
from shoal_core.errors import BadTable

if TYPE_CHECKING:
    from shoal_core.data.spec import TargetSpec

_FIX = "Correct the value or remove the row."


def labels_of(value: object, kind: ValueKind, separator: str | None) -> tuple[str, ...] | None:
    """The labels of one cell, each once, in order; None when missing. A list has its items, a text is parted.

    Raises:
        ValueError: A label can't be of its kind.
    """
    if isinstance(value, list | tuple):
        parts: Sequence[object] = value
    elif is_missing(value):
        return None
    elif isinstance(value, str) and separator is not None:
        parts = value.split(separator)
    else:
        parts = [value]
    labels = (parse_text(part, kind) for part in parts)
    return tuple(dict.fromkeys(label for label in labels if label is not None))


def encode_targets(target: TargetSpec, cells: Cells, codes: Mapping[str, int]) -> tuple[NDArray[Any], list[Problem]]:
    """Encode targets: int64 [N] (of anomalies 1, else 0), float32 [N] (regression) or uint8 [N,classes] (multilabel).

    Args:
        target: What is predicted.
        cells: The target's column, or the class folders.
        codes: Class -> index.

    Returns:
        The tensor, and what couldn't be encoded: a problem with the value None is a missing target.
    """
    name = target.column or "class"
    wrong: dict[int, str] = {}
    if target.task == "regression":
        numbers = numbers_of(cells, wrong)
        problems = list_problems(name, cells, wrong, _FIX)
        bad = {problem.row for problem in problems}
        lost = [row for row in np.flatnonzero(np.isnan(numbers)).tolist() if row not in bad]
        return numbers.astype(np.float32), _with_missing(problems, lost, name)
    if target.task == "anomaly":
        anomalous = _encode_anomalies(target, cells, wrong)
        return cells.spread(anomalous, 0), list_problems(name, cells, wrong, _FIX)
    unknown: dict[int, str] = {}
    encoded: NDArray[Any]
    if target.task == "multilabel":
        encoded, known = _encode_labels(target, cells, codes, wrong, unknown)
    else:
        encoded, known = _encode_classes(target, cells, codes, wrong, unknown)
    present = cells.spread(known, False)
    problems = list_problems(name, cells, wrong, _FIX)
    problems += list_problems(name, cells, unknown, f"Use one of {shorten(target.classes)}.")
    return cells.spread(encoded, 0), _with_missing(problems, np.flatnonzero(~present).tolist(), name)


def _encode_classes(
    target: TargetSpec, cells: Cells, codes: Mapping[str, int], wrong: dict[int, str], unknown: dict[int, str]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Class index per distinct value, and whether it is there at all."""
    encoded = np.zeros(len(cells.values), np.int64)
    known = np.ones(len(cells.values), np.bool_)
    for code, value in enumerate(cells.values):
        try:
            # A class folder may be called `NA`; a cell with that text is missing.
            text = parse_text(value, target.kind) if target.column else str(value)
        except ValueError as error:
            wrong[code] = str(error)
            continue
        if text is None:
            known[code] = False
        elif text not in codes:
            unknown[code] = "it isn't one of the classes"
        else:
            encoded[code] = codes[text]
    return encoded, known


def _encode_anomalies(target: TargetSpec, cells: Cells, wrong: dict[int, str]) -> NDArray[np.int64]:
    """1 per distinct value that isn't a normal one. Where there are no labels, nothing is known to be an anomaly."""
    encoded = np.zeros(len(cells.values), np.int64)
    if not target.classes:
        return encoded
    for code, value in enumerate(cells.values):
        try:
            text = parse_text(value, target.kind) if target.column else str(value)
        except ValueError as error:
            wrong[code] = str(error)
            continue
        encoded[code] = text is not None and text not in target.normal
    return encoded


def _encode_labels(
    target: TargetSpec, cells: Cells, codes: Mapping[str, int], wrong: dict[int, str], unknown: dict[int, str]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A row of 0 and 1 per distinct value, and whether it is there at all. An empty list has no label."""
    encoded = np.zeros((len(cells.values), len(target.classes)), np.uint8)
    known = np.ones(len(cells.values), np.bool_)
    for code, value in enumerate(cells.values):
        try:
            labels = labels_of(value, target.kind, target.separator)
        except ValueError as error:
            wrong[code] = str(error)
            continue
        if labels is None:
            known[code] = False
            continue
        strange = next((label for label in labels if label not in codes), None)
        if strange is not None:
            unknown[code] = f"{strange!r} isn't one of the classes"
            continue
        encoded[code, [codes[label] for label in labels]] = 1
    return encoded, known


def _with_missing(problems: list[Problem], lost: list[int], name: str) -> list[Problem]:
    reason = f"the target {name!r} is missing"
    missing = (Problem(row, name, None, reason, "Fill it in or remove the row.") for row in lost)
    return sorted((*problems, *missing), key=lambda problem: problem.row)


def raise_problem(problem: Problem, place: str) -> None:
    """Raise the `BadTable` of one problem; `place` is what to call the row, such as `Row 7`."""
    raise BadTable(describe_problem(problem, place), problem.fix)


def describe_problem(problem: Problem, place: str) -> str:
    """One sentence: place, column, value and why."""
    if problem.value is None:
        return f"{place}: {problem.reason}."
    return f"{place}, column {problem.column!r}: {reprlib.repr(problem.value)}: {problem.reason}."


def shorten(names: Sequence[str]) -> str:
    """Names for a message, twenty at most."""
    shown = ", ".join(repr(name) for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
