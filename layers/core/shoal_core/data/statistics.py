"""Statistics that merge exactly: the same bits for 1 and for 64 shards, in any order.

A 32-bit float (and a uint8) is a whole multiple of 2**-149, and its square of 2**-298, so sums are kept as Python
integers in those units: addition is exact, hence associative and commutative. Only `summary()` rounds, once, by
Python's correctly rounded integer division. (A fixed-point superaccumulator: Kulisch, "Computer Arithmetic and
Validity", 2008.) Quantiles, mode and histogram come from a sketch of counts (`sketches.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.manifest import QUANTILES, CategorySummary, DatasetStatistics, NumberSummary
from shoal_core.data.sketches import Sketch, histogram_of, quantiles_of
from shoal_core.data.spec import PreprocessingSpec, category_columns

_UNIT_BITS = 149
_MANTISSA_BITS = 24
_HALF_BITS = 12
# Sums of 24-bit mantissas, and of products of their halves, stay below 2**53, where float64 counts exactly; squares of
# whole numbers below 2**20 have 40 bits, so that a batch of them fits into int64.
_BATCH = 1 << 22
_SMALL = float(1 << 20)
# So many values, evenly taken, show whether the same ones come again and again.
_PROBE = 4096


class Moments:
    """Count, missing, sum, sum of squares, extremes and a sketch of numbers; NaN counts as missing."""

    def __init__(self) -> None:
        self.count = 0
        self.missing = 0
        self.minimum = math.inf
        self.maximum = -math.inf
        self.sketch = Sketch()
        self._sum = 0
        self._squares = 0

    def add(self, values: NDArray[Any]) -> None:
        """Add values: float32 (finite or NaN) or uint8, any shape."""
        flat = np.ascontiguousarray(values).reshape(-1)
        if flat.dtype == np.uint8:
            self._add_bytes(flat)
            return
        if flat.dtype != np.float32:
            raise TypeError(f"Moments are exact for float32 and uint8, not {flat.dtype}")
        absent = np.isnan(flat)
        present = flat[~absent] if absent.any() else flat
        self.missing += flat.size - present.size
        self.count += present.size
        for start in range(0, present.size, _BATCH):
            self._add_floats(present[start : start + _BATCH])

    def merge(self, other: Moments) -> None:
        """Add what another one has seen."""
        self.count += other.count
        self.missing += other.missing
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.sketch.merge(other.sketch)
        self._sum += other._sum
        self._squares += other._squares

    def state(self) -> dict[str, Any]:
        """All of it, as JSON can hold it; sums are texts of whole numbers, in units of 2**-149 and 2**-298."""
        extremes = [self.minimum, self.maximum] if self.count else []
        sums = [hex(self._sum), hex(self._squares)]
        return {
            "count": self.count,
            "missing": self.missing,
            "extremes": extremes,
            "sums": sums,
            **self.sketch.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Moments:
        """What `state` told."""
        moments = cls()
        moments.count, moments.missing = state["count"], state["missing"]
        if state["extremes"]:
            moments.minimum, moments.maximum = (float(value) for value in state["extremes"])
        moments._sum, moments._squares = (int(text, 16) for text in state["sums"])
        moments.sketch = Sketch.from_state({"bins": state["bins"], "values": state["values"]})
        return moments

    def summary(self) -> NumberSummary:
        """Mean, population standard deviation and the rest, each rounded once; zeros when nothing was present."""
        if not self.count:
            return NumberSummary(count=0, missing=self.missing, mean=0.0, std=0.0, minimum=0.0, maximum=0.0)
        values, counts = self.sketch.points()
        low, high = self.minimum, self.maximum
        return NumberSummary(
            count=self.count,
            missing=self.missing,
            mean=self.mean,
            std=self.std,
            minimum=low,
            maximum=high,
            quantiles=quantiles_of(values, counts, QUANTILES, low, high),
            mode=min(high, max(low, float(values[np.argmax(counts)]))),
            histogram=histogram_of(values, counts, low, high),
        )

    @property
    def mean(self) -> float:
        """The mean, rounded once; 0 when nothing was present."""
        return self._sum / (self.count << _UNIT_BITS) if self.count else 0.0

    @property
    def std(self) -> float:
        """The population's standard deviation; 0 when nothing was present."""
        if not self.count:
            return 0.0
        return math.sqrt((self.count * self._squares - self._sum**2) / (self.count**2 << (2 * _UNIT_BITS)))

    def quantiles(self, *shares: float) -> tuple[float, ...]:
        """Quantiles at any shares; needs at least one value."""
        values, counts = self.sketch.points()
        return quantiles_of(values, counts, shares, self.minimum, self.maximum)

    def _add_bytes(self, flat: NDArray[np.uint8]) -> None:
        if not flat.size:
            return
        counts = np.bincount(flat, minlength=256)
        levels = np.arange(256, dtype=np.int64)
        present = np.flatnonzero(counts)
        self.count += flat.size
        self.minimum = min(self.minimum, float(present[0]))
        self.maximum = max(self.maximum, float(present[-1]))
        self.sketch.add_counts(levels.tolist(), counts.tolist())
        self._sum += int(counts @ levels) << _UNIT_BITS
        self._squares += int(counts @ levels**2) << (2 * _UNIT_BITS)

    def _add_floats(self, values: NDArray[np.float32]) -> None:
        """Add a batch of finite values, each different one once where they are few."""
        values = values + np.float32(0)  # -0.0 and 0.0 are one value
        times = np.ones(1, np.int64)
        if len(np.unique(values[:: max(1, len(values) // _PROBE)])) <= _PROBE // 2:
            values, times = np.unique(values, return_counts=True)
        low, high = float(values.min()), float(values.max())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.sketch.add(values, times)
        if low > -_SMALL and high < _SMALL and (values == np.rint(values)).all():
            whole = values.astype(np.int64)
            self._sum += int((whole * times).sum()) << _UNIT_BITS
            self._squares += int((whole * whole * times).sum()) << (2 * _UNIT_BITS)
        else:
            self._add_mantissas(values, times)

    def _add_mantissas(self, values: NDArray[np.float32], times: NDArray[np.int64]) -> None:
        """Sum mantissas by exponent; squares by halves of the mantissa, so that float64 adds whole numbers exactly."""
        bits = values.view(np.uint32)
        exponents = ((bits >> np.uint32(23)) & np.uint32(0xFF)).astype(np.intp)
        fraction = bits & np.uint32((1 << 23) - 1)
        mantissas = np.where(exponents > 0, fraction | np.uint32(1 << 23), fraction)
        signed = np.where(bits >> np.uint32(31), -mantissas.astype(np.float64), mantissas)
        high = (mantissas >> np.uint32(_HALF_BITS)).astype(np.float64)
        low = (mantissas & np.uint32((1 << _HALF_BITS) - 1)).astype(np.float64)
        sums = np.bincount(exponents, weights=signed * times)
        squares = [np.bincount(exponents, weights=part * times) for part in (high * high, high * low, low * low)]
        for exponent in np.flatnonzero(np.bincount(exponents)).tolist():
            # A float is mantissa * 2**(exponent - 150); subnormal ones have exponent 0 and count as 1.
            shift = max(exponent, 1) - 1
            self._sum += int(sums[exponent]) << shift
            whole, mixed, rest = (int(part[exponent]) for part in squares)
            square = (whole << (2 * _HALF_BITS)) + (mixed << (_HALF_BITS + 1)) + rest
            self._squares += square << (2 * shift)


class StatisticsAccumulator:
    """Statistics of samples encoded with one spec, added batch by batch; `merge` gives the same as adding all."""

    def __init__(self, spec: PreprocessingSpec) -> None:
        self._spec = spec
        table = spec.table
        self.samples = 0
        self.channels = [Moments() for _ in range(spec.image.channels if spec.image else 0)]
        self.numbers = [Moments() for _ in number_names(spec)]
        self.texts = [Moments() for _ in (table.texts if table else ())]
        self.categories = [np.zeros(column.cardinality, np.int64) for column in category_columns(spec)]
        self.target = Moments()
        self.classes = np.zeros(len(spec.target.classes), np.int64)

    def add(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Add a batch: the spec's input tensors and `target`."""
        target = tensors["target"]
        self.samples += len(target)
        for channel, moments in enumerate(self.channels):
            moments.add(tensors["image"][:, channel])
        name = "sequence" if self._spec.sequence else "numbers"
        for column, moments in enumerate(self.numbers):
            moments.add(tensors[name][..., column])
        for column, counts in enumerate(self.categories):
            counts += np.bincount(tensors["categories"][..., column].ravel(), minlength=len(counts))
        self._add_texts(tensors)
        if self._spec.target.task == "regression":
            self.target.add(target)
        elif len(self.classes):
            self.classes += count_classes(target, len(self.classes))

    def merge(self, other: StatisticsAccumulator) -> None:
        """Add what another accumulator of the same spec has seen."""
        self.samples += other.samples
        for mine, theirs in zip(self._moments(), other._moments(), strict=True):
            mine.merge(theirs)
        for counts, more in zip(self.categories, other.categories, strict=True):
            counts += more
        self.classes += other.classes

    def state(self) -> dict[str, Any]:
        """All of it, as JSON can hold it; of categories the [code, count] pairs that occur."""
        pairs = [[[code, int(counts[code])] for code in np.flatnonzero(counts).tolist()] for counts in self.categories]
        return {
            "samples": self.samples,
            "moments": [moments.state() for moments in self._moments()],
            "categories": pairs,
            "classes": self.classes.tolist(),
        }

    @classmethod
    def from_state(cls, spec: PreprocessingSpec, state: Mapping[str, Any]) -> StatisticsAccumulator:
        """What `state` told of samples of the same spec."""
        found = cls(spec)
        found.samples = state["samples"]
        moments = [Moments.from_state(entry) for entry in state["moments"]]
        for group in (found.channels, found.numbers, found.texts):
            group[:] = [moments.pop(0) for _ in group]
        (found.target,) = moments
        for counts, pairs in zip(found.categories, state["categories"], strict=True):
            for code, count in pairs:
                counts[code] = count
        found.classes += np.array(state["classes"], np.int64)
        return found

    def summary(self) -> DatasetStatistics:
        """The statistics as the manifest holds them; `fills` and `bounds` come from the configuration."""
        table = self._spec.table
        categories = category_columns(self._spec)
        texts = table.texts if table else ()
        regression = self._spec.target.task == "regression"
        numbers = zip(number_names(self._spec), self.numbers, strict=True)
        return DatasetStatistics(
            samples=self.samples,
            channels=tuple(moments.summary() for moments in self.channels),
            numbers={name: moments.summary() for name, moments in numbers},
            categories={
                column.name: CategorySummary(cardinality=column.cardinality, counts=tuple(counts.tolist()))
                for column, counts in zip(categories, self.categories, strict=True)
            },
            texts={column.name: moments.summary() for column, moments in zip(texts, self.texts, strict=True)},
            target=self.target.summary() if regression else None,
            classes={} if regression else dict(zip(self._spec.target.classes, self.classes.tolist(), strict=True)),
        )

    def _moments(self) -> list[Moments]:
        return [*self.channels, *self.numbers, *self.texts, self.target]

    def _add_texts(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Lengths in tokens: what isn't padding."""
        start = 0
        for column, moments in zip(self._spec.table.texts if self._spec.table else (), self.texts, strict=True):
            tokens = tensors["tokens"][:, start : start + column.length]
            moments.add((tokens != 0).sum(axis=1).astype(np.float32))
            start += column.length


def number_names(spec: PreprocessingSpec) -> tuple[str, ...]:
    """What the numbers of a table or a sequence are, in the order of the tensor's last axis."""
    source = spec.table or spec.sequence
    return source.number_names if source else ()


def count_classes(target: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Samples per class: of class codes int64 [N], or of labels uint8 [N,classes], where a sample counts in each."""
    if target.ndim == 2:
        labels: NDArray[np.int64] = target.sum(axis=0, dtype=np.int64)
        return labels
    return np.bincount(target, minlength=classes).astype(np.int64)
