"""Statistics that merge exactly: the same bits for 1 and for 64 shards, in any order.

A 32-bit float (and a uint8) is a whole multiple of 2**-149, and its square of 2**-298, so sums are kept as Python
integers in those units: addition is exact, hence associative and commutative. Only `summary()` rounds, once, by
Python's correctly rounded integer division. (A fixed-point superaccumulator: Kulisch, "Computer Arithmetic and
Validity", 2008.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.manifest import CategorySummary, DatasetStatistics, NumberSummary
from shoal_core.data.spec import PreprocessingSpec

_UNIT_BITS = 149
_MANTISSA_BITS = 24
# Squares of 24-bit mantissas have 48 bits: 2**14 of them fit into int64.
_BATCH = 1 << 14


class Moments:
    """Count, missing, sum, sum of squares, minimum and maximum of numbers; NaN counts as missing."""

    def __init__(self) -> None:
        self.count = 0
        self.missing = 0
        self.minimum = math.inf
        self.maximum = -math.inf
        self._sum = 0
        self._squares = 0

    def add(self, values: NDArray[Any]) -> None:
        """Add values: float32 (finite or NaN) or uint8, any shape."""
        flat = values.reshape(-1)
        if flat.dtype == np.uint8:
            self._add_bytes(flat)
            return
        if flat.dtype != np.float32:
            raise TypeError(f"Moments are exact for float32 and uint8, not {flat.dtype}")
        present = flat[~np.isnan(flat)]
        self.missing += flat.size - present.size
        self.count += present.size
        if present.size:
            self.minimum = min(self.minimum, float(present.min()))
            self.maximum = max(self.maximum, float(present.max()))
        for start in range(0, present.size, _BATCH):
            self._add_floats(present[start : start + _BATCH].astype(np.float64))

    def merge(self, other: Moments) -> None:
        """Add what another one has seen."""
        self.count += other.count
        self.missing += other.missing
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self._sum += other._sum
        self._squares += other._squares

    def summary(self) -> NumberSummary:
        """Mean, population standard deviation and the rest, each rounded once; zeros when nothing was present."""
        if not self.count:
            return NumberSummary(count=0, missing=self.missing, mean=0.0, std=0.0, minimum=0.0, maximum=0.0)
        mean = self._sum / (self.count << _UNIT_BITS)
        variance = (self.count * self._squares - self._sum**2) / (self.count**2 << (2 * _UNIT_BITS))
        return NumberSummary(
            count=self.count,
            missing=self.missing,
            mean=mean,
            std=math.sqrt(variance),
            minimum=self.minimum,
            maximum=self.maximum,
        )

    def _add_bytes(self, flat: NDArray[np.uint8]) -> None:
        if not flat.size:
            return
        counts = np.bincount(flat, minlength=256)
        levels = np.arange(256, dtype=np.int64)
        self.count += flat.size
        self.minimum = min(self.minimum, float(flat.min()))
        self.maximum = max(self.maximum, float(flat.max()))
        self._sum += int(counts @ levels) << _UNIT_BITS
        self._squares += int(counts @ levels**2) << (2 * _UNIT_BITS)

    def _add_floats(self, values: NDArray[np.float64]) -> None:
        fractions, exponents = np.frexp(values)
        mantissas = np.ldexp(fractions, _MANTISSA_BITS).astype(np.int64)
        for exponent in np.unique(exponents).tolist():
            chosen = mantissas[exponents == exponent]
            shift = exponent - _MANTISSA_BITS + _UNIT_BITS
            self._sum += _scale(int(chosen.sum()), shift)
            self._squares += _scale(int((chosen * chosen).sum()), 2 * shift)


def _scale(value: int, shift: int) -> int:
    """value * 2**shift; subnormal floats have spare zero bits, so a right shift loses nothing."""
    return value << shift if shift >= 0 else value >> -shift


class StatisticsAccumulator:
    """Statistics of samples encoded with one spec, added batch by batch; `merge` gives the same as adding all."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        self._spec = spec
        table = spec.table
        self.samples = 0
        self.channels = [Moments() for _ in range(spec.image.channels if spec.image else 0)]
        self.numbers = [Moments() for _ in (table.numbers if table else ())]
        self.categories = [np.zeros(column.cardinality, np.int64) for column in (table.categories if table else ())]
        self.target = Moments()
        self.classes = np.zeros(len(spec.target.classes), np.int64)

    def add(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Add a batch: the spec's input tensors and `target`."""
        target = tensors["target"]
        self.samples += len(target)
        for channel, moments in enumerate(self.channels):
            moments.add(tensors["image"][:, channel])
        for column, moments in enumerate(self.numbers):
            moments.add(tensors["numbers"][:, column])
        for column, counts in enumerate(self.categories):
            counts += np.bincount(tensors["categories"][:, column], minlength=len(counts))
        if self._spec.target.task == "regression":
            self.target.add(target)
        else:
            self.classes += np.bincount(target, minlength=len(self.classes))

    def merge(self, other: StatisticsAccumulator) -> None:
        """Add what another accumulator of the same spec has seen."""
        self.samples += other.samples
        for mine, theirs in zip(
            (*self.channels, *self.numbers, self.target), (*other.channels, *other.numbers, other.target), strict=True
        ):
            mine.merge(theirs)
        for counts, more in zip(self.categories, other.categories, strict=True):
            counts += more
        self.classes += other.classes

    def summary(self) -> DatasetStatistics:
        """The statistics as the manifest holds them."""
        table = self._spec.table
        names = [column.name for column in table.numbers] if table else []
        categories = table.categories if table else ()
        regression = self._spec.target.task == "regression"
        return DatasetStatistics(
            samples=self.samples,
            channels=tuple(moments.summary() for moments in self.channels),
            numbers={name: moments.summary() for name, moments in zip(names, self.numbers, strict=True)},
            categories={
                column.name: CategorySummary(cardinality=column.cardinality, counts=tuple(counts.tolist()))
                for column, counts in zip(categories, self.categories, strict=True)
            },
            target=self.target.summary() if regression else None,
            classes={} if regression else dict(zip(self._spec.target.classes, self.classes.tolist(), strict=True)),
        )
