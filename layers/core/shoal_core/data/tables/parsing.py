"""Many cells as numbers at once: what `values.parse_number` gives for each of them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.tables.cells import TypedValues
from shoal_core.data.values import FLOAT32_MAX, MISSING, parse_number

_WRONG = "it isn't a number"
_BEGINNINGS = frozenset("0123456789.-+")
_LETTERS = frozenset(string.ascii_letters)
# What `float` takes, and what counts as missing: `parse_number` says what those are.
_WORDS = frozenset({"inf", "infinity", *(text.casefold() for text in MISSING)})


@dataclass
class Numbers:
    """How many values are numbers, how many of those are whole, and their range."""

    count: int = 0
    whole: int = 0
    low: float = float("inf")
    high: float = float("-inf")

    def joined(self, other: Numbers) -> Numbers:
        """These and others together."""
        return Numbers(
            self.count + other.count, self.whole + other.whole, min(self.low, other.low), max(self.high, other.high)
        )


def parse_numbers(values: Sequence[Any]) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Values as numbers: float64 [N], NaN where missing or wrong, -0.0 as 0.0; and why those are wrong, by place."""
    wrong: dict[int, str] = {}
    if not isinstance(values, TypedValues):
        found = _floats(values, wrong)
    elif values.array.dtype.kind == "M":
        return np.full(len(values), np.nan), dict.fromkeys(range(len(values)), _WRONG)
    else:
        found = values.array.astype(np.float64)
    with np.errstate(invalid="ignore"):
        strange = np.flatnonzero(~(np.abs(found) <= FLOAT32_MAX)).tolist()
    # What isn't plainly a number is looked at alone.
    for place in strange:
        found[place] = np.nan
        if place in wrong:
            continue
        try:
            number = parse_number(values[place])
        except ValueError as error:
            wrong[place] = str(error)
            continue
        if number is not None:
            found[place] = number
    # Adding zero turns -0.0 into 0.0: equal numbers have equal tensors and hashes.
    found += 0.0
    return found, wrong


def _floats(values: Sequence[Any], wrong: dict[int, str]) -> NDArray[np.float64]:
    """Texts as numbers, where Python's `float` and `parse_number` agree; NaN where that isn't sure."""
    found = np.full(len(values), np.nan)
    if set(map(type, values)) != {str}:
        return found
    plain = "_" not in "".join(values)
    if plain:
        try:
            return np.array(list(map(float, values)), np.float64)
        except ValueError:
            pass
    for place, value in enumerate(values):
        first = value[:1]
        if first in _BEGINNINGS and (plain or "_" not in value):
            try:
                found[place] = float(value)
            except ValueError:
                wrong[place] = _WRONG
        elif first in _LETTERS and value.strip().casefold() not in _WORDS:
            wrong[place] = _WRONG
    return found


def count_numbers(numbers: NDArray[np.float64], times: NDArray[np.int64]) -> Numbers:
    """Numbers that each occur so many times; NaN isn't one."""
    known = ~np.isnan(numbers) & (times > 0)
    if not known.any():
        return Numbers()
    numbers, times = numbers[known], times[known]
    whole = int(times[numbers == np.floor(numbers)].sum())
    return Numbers(int(times.sum()), whole, float(numbers.min()), float(numbers.max()))
