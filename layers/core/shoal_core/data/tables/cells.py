"""The cells of one column of many rows, in the form in which they are cheapest to work on.

What a cell means is decided by `data.values`, on distinct values only: a column of a million cells that holds twenty
different texts is understood by twenty calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

NO_INSTANT = np.int64(np.iinfo(np.int64).min)
_TOLD = 8192


@dataclass
class Cells:
    """One column of N rows.

    Attributes:
        codes: int32 [N]; row i holds the raw value `values[codes[i]]`, and is missing where it is -1.
        values: Raw values in the order in which they first appear (CSV text, or what JSON's and Parquet's values are in
            Python); lists and objects may be repeated.
        absent: The raw value of a missing cell: an empty text in CSV.
        numbers: What `parsing.parse_numbers` gives for the values, once it has been asked.
    """

    codes: NDArray[np.int32]
    values: Sequence[Any] = field(default_factory=list)
    absent: str | None = None
    numbers: tuple[NDArray[np.float64], dict[int, str]] | None = None

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
        """The raw value of one row."""
        code = int(self.codes[row])
        return self.values[code] if code >= 0 else self.absent

    def take(self, chosen: NDArray[Any]) -> Cells:
        """The cells of the chosen rows."""
        return Cells(self.codes[chosen], self.values, self.absent)

    def spread(self, of_values: NDArray[Any], rest: float | np.int64) -> NDArray[Any]:
        """One entry per row: that of its value, or `rest` where it is missing."""
        ended = np.empty((len(of_values) + 1, *of_values.shape[1:]), of_values.dtype)
        ended[:-1] = of_values
        ended[-1] = rest
        # The code -1 is the last entry.
        return ended[self.codes] if ended.ndim > 1 else ended.take(self.codes)

    def counts(self, first: int = 0, last: int | None = None) -> NDArray[np.int64]:
        """How often each value occurs in the rows first..last (exclusive): int64 [values]."""
        codes = self.codes[first:last]
        return np.bincount(codes + 1, minlength=len(self.values) + 1)[1:]


class TypedValues(Sequence[Any]):
    """Values of a typed column, as Python sees them: whole numbers, floats, or ISO 8601 texts of instants.

    Args:
        array: int64, float64, datetime64[us] or (days) datetime64[D] [N].
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @property
    def instants(self) -> NDArray[np.int64]:
        """Microseconds since 1970 (UTC), of instants and days."""
        return self.array.astype("M8[us]").view(np.int64)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self.array), _TOLD):
            yield from _python(self.array[start : start + _TOLD])

    @overload
    def __getitem__(self, index: int) -> object: ...
    @overload
    def __getitem__(self, index: slice) -> list[object]: ...

    def __getitem__(self, index: int | slice) -> object:
        if isinstance(index, slice):
            return _python(self.array[index])
        return _python(self.array[index : index + 1])[0]


def _python(array: NDArray[Any]) -> list[Any]:
    shown = np.datetime_as_string(array) if array.dtype.kind == "M" else array
    found: list[Any] = shown.tolist()
    return found
