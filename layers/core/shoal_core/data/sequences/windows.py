"""Windows of rows to tensors: the one way for `write_shard`, which cuts series, and for `predict`, which gets rows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import Cells
from shoal_core.data.tables.columns import Encoded, Problem, encode_categories, list_problems
from shoal_core.data.tables.targets import describe_problem
from shoal_core.data.values import is_boolean_text, parse_number
from shoal_core.errors import BadTable

if TYPE_CHECKING:
    from shoal_core.data.spec import PreprocessingSpec, SequenceInput

ROWS = "rows"
"""The one field of an instance: its rows, oldest first."""
_NUMBER_FIX = "Send a number, true or false, or leave the column out where the value is missing."

_Value = TypeVar("_Value", bound=np.generic)


def sequence_number(value: object) -> float | None:
    """A cell as a number, None when missing; true and false are 1 and 0.

    Raises:
        ValueError: It is neither a number that a 32-bit float can hold nor a boolean.
    """
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and is_boolean_text(value.strip()):
        return float(value.strip().casefold() == "true")
    return parse_number(value)


def sequence_numbers(cells: Cells, wrong: dict[int, str]) -> NDArray[np.float32]:
    """Cells as numbers: float32 [N], NaN where missing or wrong; `wrong` takes why, by code."""
    values = np.full(len(cells.values), np.nan)
    for code, value in enumerate(cells.values):
        try:
            number = sequence_number(value)
        except ValueError as error:
            wrong[code] = str(error)
            continue
        if number is not None:
            values[code] = number
    return cells.spread(values, np.nan).astype(np.float32)


def encode_instances(spec: PreprocessingSpec, instances: Sequence[Mapping[str, object]]) -> dict[str, NDArray[Any]]:
    """Encode what a caller wants predictions for.

    Args:
        spec: A spec of kind `sequence`.
        instances: Each `{"rows": [{column: value, ...}, ...]}`, oldest row first; the last `window` rows count. The
            time, the id, the target and ignored columns may be there and aren't read (the target is, where its past is
            an input).

    Returns:
        `sequence` float32 [N, window, F], NaN for missing, and `categories` int64 [N, window, K], those that there are.

    Raises:
        BadTable: Too few rows, an unknown column, or a value that its column can't hold (instance, row and column are
            named).
    """
    form = _input(spec)
    numbers = np.empty((len(instances), form.window, len(form.numbers)), np.float32)
    codes = np.empty((len(instances), form.window, len(form.categories)), np.int64)
    known = _known_columns(spec, form)
    for number, instance in enumerate(instances, 1):
        rows = _rows(instance, number, form)
        first = len(rows) - form.window
        for place, row in enumerate(rows[first:], first + 1):
            if not row.keys() <= known:
                _refuse_unknown(row, f"Instance {number}, row {place}", known, form)
        problems = _encode_window(form, rows[first:], numbers[number - 1], codes[number - 1])
        if problems:
            place_name = f"Instance {number}, row {first + problems[0].row + 1}"
            raise BadTable(describe_problem(problems[0], place_name), problems[0].fix)
    return {name: array for name, array in (("sequence", numbers), ("categories", codes)) if array.shape[2]}


def _encode_window(
    form: SequenceInput, rows: Sequence[Mapping[str, object]], numbers: NDArray[np.float32], codes: NDArray[np.int64]
) -> list[Problem]:
    """Fill in the window of some rows: numbers [T, F] and codes [T, K]; tells what is wrong with them."""
    done = Encoded({}, [], {})
    for index, name in enumerate(form.number_names):
        cells = Cells.of([row.get(name) for row in rows])
        wrong: dict[int, str] = {}
        numbers[:, index] = sequence_numbers(cells, wrong)
        done.problems += list_problems(name, cells, wrong, _NUMBER_FIX)
    for index, column in enumerate(form.categories):
        codes[:, index] = encode_categories(column, Cells.of([row.get(column.name) for row in rows]), done, False)
    return done.problems


def count_windows(rows: NDArray[np.int64], form: SequenceInput) -> NDArray[np.int64]:
    """How many windows series of that many rows have: int64 [S]."""
    return np.maximum(0, (rows - form.window - form.horizon) // form.stride + 1)


def cut_windows(rows: NDArray[_Value], starts: NDArray[np.int64], window: int) -> NDArray[_Value]:
    """The windows of a series [rows, columns] that begin at `starts`: [N, window, columns]."""
    views = np.lib.stride_tricks.sliding_window_view(rows, window, axis=0)[starts]
    return np.ascontiguousarray(views.transpose(0, 2, 1))


def _input(spec: PreprocessingSpec) -> SequenceInput:
    if spec.sequence is None:
        raise BadTable(f"The model takes a {spec.kind}, not windows of rows.", "Send what it was trained on.")
    return spec.sequence


def _rows(instance: Mapping[str, object], number: int, form: SequenceInput) -> Sequence[Mapping[str, object]]:
    rows = instance.get(ROWS) if isinstance(instance, Mapping) else None
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        raise BadTable(
            f"Instance {number} has no list of rows.",
            f'Send {{"rows": [{{column: value, ...}}, ...]}} with {form.window} rows, oldest first.',
        )
    if len(rows) < form.window:
        raise BadTable(
            f"Instance {number} has {len(rows)} rows, and the model looks at {form.window}.",
            f"Send the last {form.window} rows or more, oldest first.",
        )
    return rows


def _known_columns(spec: PreprocessingSpec, form: SequenceInput) -> frozenset[str]:
    others = (form.time, form.id, spec.target.column)
    return frozenset((*form.names, *form.ignored, *(name for name in others if name is not None)))


def _refuse_unknown(row: Mapping[str, object], place: str, known: frozenset[str], form: SequenceInput) -> None:
    unknown = sorted(str(name) for name in row.keys() - known)
    near = difflib.get_close_matches(unknown[0], sorted(known), n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(repr(name) for name in form.names[:20])
    raise BadTable(f"{place} has the unknown column {unknown[0]!r}.", f"{hint}The model reads {shown}.")
