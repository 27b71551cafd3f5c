"""The cells of one column of many rows, in the form in which they are cheapest to work on.

What a cell means is decided by `data.values`, on distinct values only: a column of a million cells that holds twenty
different texts is understood by twenty calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_INSTANT = np.int64(np.iinfo(np.int64).min)


@dataclass
class Cells:
    """One column of N rows.

    Attributes:
        codes: int32 [N]; row i holds the raw value `values[codes[i]]`, or what the arrays below say where it is -1.
        values: Raw values (CSV text, or what JSON's and Parquet's values are in Python); equal ones may be repeated.
        numbers: float64 [N], NaN where missing: what `parse_number` gives for the cells of code -1. None: those are
            missing.
        instants: int64 [N], microseconds since 1970 (UTC), `NO_INSTANT` where missing: the same for `parse_date`.
    """

    codes: NDArray[np.int32]
    values: Sequence[Any] = field(default_factory=list)
    numbers: NDArray[np.float64] | None = None
    instants: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of(cls, values: Sequence[object]) -> Cells:
        """Cells of Python values, equal ones of one type found once; None is missing."""
        index: dict[object, int] = {}
        found: list[object] = []
        codes = np.empty(len(values), np.int32)
        for row, value in enumerate(values):
            if value is None:
                codes[row] = -1
                continue
            # 1, 1.0 and True are one key in a dictionary, and so are 0.0 and -0.0; here they are different values.
            key: object = value if type(value) is str else (type(value), value if value else str(value))
            try:
                code = index.get(key, -1)
            except TypeError:
                codes[row] = len(found)
                found.append(value)
                continue
            if code < 0:
                code = index[key] = len(found)
                found.append(value)
            codes[row] = code
        return cls(codes, found)

    @classmethod
    def missing(cls, rows: int) -> Cells:
        """A column that a file doesn't have."""
        return cls(np.full(rows, -1, np.int32))

    @classmethod
    def constant(cls, value: object, rows: int) -> Cells:
        """A column that has one value, such as the key of a partition."""
        return cls(np.zeros(rows, np.int32), [value])

    def raw(self, row: int) -> object:
        """The raw value of one row, as near as it is still known."""
        code = int(self.codes[row])
        if code >= 0:
            return self.values[code]
        if self.instants is not None and self.instants[row] != NO_INSTANT:
            return str(np.datetime64(int(self.instants[row]), "us"))
        if self.numbers is not None and not np.isnan(self.numbers[row]):
            return float(self.numbers[row])
        return None

    def take(self, chosen: NDArray[Any]) -> Cells:
        """The cells of the chosen rows."""
        return Cells(
            self.codes[chosen],
            self.values,
            None if self.numbers is None else self.numbers[chosen],
            None if self.instants is None else self.instants[chosen],
        )

    def spread(self, of_values: NDArray[Any], rest: NDArray[Any] | float) -> NDArray[Any]:
        """One entry per row: that of its value, or `rest` where the code is -1."""
        result = np.empty((len(self.codes), *of_values.shape[1:]), of_values.dtype)
        result[:] = rest
        known = self.codes >= 0
        if known.all():
            return of_values[self.codes]
        result[known] = of_values[self.codes[known]]
        return result
