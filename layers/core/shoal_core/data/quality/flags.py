"""Columns to look at: they hold one value, equal the target, or equal each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.quality.findings import ColumnFlag
from shoal_core.data.report import ColumnReport
from shoal_core.data.shards import Tensors
from shoal_core.data.spec import PreprocessingSpec
from shoal_core.data.tables.coding import number_keys

# With fewer samples, a column may equal the target by chance.
MIN_SAMPLES = 20
LEAK_REASON = "equals the target"
"""What planning says of a column that it left out since it holds the answer."""


def find_flags(spec: PreprocessingSpec, columns: Sequence[ColumnReport], tensors: Tensors) -> tuple[ColumnFlag, ...]:
    """Flag columns, in the order of the report's.

    Args:
        spec: What the tensors mean.
        columns: What planning told of every column.
        tensors: Training samples to compare columns in; what is found is told with their number.
    """
    flags = {
        column.name: ColumnFlag(column=column.name, kind="constant", reason="It holds one value only.")
        for column in columns
        if column.distinct == 1 and column.distinct_exact and not column.missing and column.role != "target"
    }
    flags |= {
        column.name: ColumnFlag(column=column.name, kind="leaking", reason=f"Left out: {column.reason}.")
        for column in columns
        if column.role == "dropped" and LEAK_REASON in column.reason
    }
    samples = len(tensors["target"]) if tensors else 0
    if samples >= MIN_SAMPLES:
        patterns = {name: _pattern(values) for name, values in _columns(spec, tensors).items()}
        told = tensors["target"].ndim == 1 and spec.target.source != "none"
        answer = _pattern(tensors["target"]) if told else None
        target = spec.target.column or "the class"
        first: dict[_Pattern, str] = {}
        for name, pattern in patterns.items():
            if pattern is None:
                continue
            twin = first.setdefault(pattern, name)
            if pattern == answer:
                reason = f"{pattern.told(samples, target)} It may not be known when a prediction is asked for."
                flags[name] = ColumnFlag(column=name, kind="leaking", reason=reason)
            elif twin != name:
                flags[name] = ColumnFlag(column=name, kind="duplicate", reason=pattern.told(samples, twin))
    order = {column.name: place for place, column in enumerate(columns)}
    return tuple(sorted(flags.values(), key=lambda flag: (order.get(flag.column, len(order)), flag.column)))


@dataclass(frozen=True)
class _Pattern:
    """What two columns that tell the same have in common: which samples are equal, or the order of the samples."""

    is_order: bool
    data: bytes

    def told(self, samples: int, twin: str) -> str:
        if self.is_order:
            return f"It orders all of {samples:,} training samples as {twin!r} does."
        return f"It tells the same as {twin!r} in all of {samples:,} training samples."


def _pattern(values: NDArray[Any]) -> _Pattern | None:
    """A column's pattern; None when it holds one value only.

    Few values are numbered as they appear, so that any renaming is found. Where most values differ, that would say
    nothing: there the order counts, either way round.
    """
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    # One bit pattern per number: 0.0 for -0.0, and one NaN.
    words = np.where(missing, np.nan, values.astype(np.float64) + 0.0).view(np.uint64)
    codes, firsts = number_keys([words], None, len(values))
    if len(firsts) < 2:
        return None
    if 2 * len(firsts) <= len(values):
        return _Pattern(False, codes.tobytes())
    rising = np.where(missing, -1, np.unique(values, return_inverse=True)[1].reshape(-1))
    falling = np.where(missing, -1, rising.max() - rising)
    return _Pattern(True, min(rising.tobytes(), falling.tobytes()))


def _columns(spec: PreprocessingSpec, tensors: Tensors) -> dict[str, NDArray[Any]]:
    """Raw columns of a table; features of dates and texts are left out: they aren't columns of the user."""
    if spec.table is None:
        return {}
    found: dict[str, NDArray[Any]] = {}
    for index, number in enumerate(spec.table.numbers):
        found[number.name] = tensors["numbers"][:, index]
    for index, category in enumerate(spec.table.categories):
        found[category.name] = tensors["categories"][:, index]
    return found
