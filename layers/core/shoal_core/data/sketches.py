"""A mergeable sketch of numbers: exact value counts while there are few, counts in fixed logarithmic bins beyond that.

The bins are a 32-bit float's upper 16 bits (sign, exponent, 7 bits of mantissa): 128 of equal width per octave, so the
middle of a bin is within 1/256 (0.4 %) of every value in it. They are fixed, so counts add up to the same
whatever the sharding. (The idea of fixed bins with a relative bound: Masson, Rim, Lee, "DDSketch", VLDB 2019.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_VALUES = 256
"""So many different values are counted one by one; a column with more has bins alone, however it was cut."""
RELATIVE_ERROR = 1 / 256
HISTOGRAM_BINS = 20
_BINS = 1 << 16
_SIGN = np.uint16(1 << 15)
# Before all values are sorted to count them, so many show whether there are too many different ones.
_PROBE = 4096


class Sketch:
    """Counts of finite float32 values; `merge` gives the same as adding all values to one."""

    def __init__(self) -> None:
        self._bins: NDArray[np.int64] | None = None
        self._values: dict[float, int] | None = {}

    def add(self, values: NDArray[np.float32], times: NDArray[np.int64] | None = None) -> None:
        """Add finite values, float32 [N]: each once, or so many times as int64 [N] (or [1], which is for all) says."""
        if not values.size:
            return
        values = values + np.float32(0)  # -0.0 and 0.0 are one value
        weighted = times is not None and len(times) == len(values)
        counts = np.bincount(_bin_of(values), weights=times if weighted else None, minlength=_BINS).astype(np.int64)
        self._bins = counts if self._bins is None else self._bins + counts
        if self._values is None or self._too_many(values):
            self._values = None
            return
        if times is None or not weighted:
            values, times = np.unique(values, return_counts=True)
        self._count(zip(values.tolist(), times.tolist(), strict=True))

    def add_counts(self, values: Sequence[float], counts: Sequence[int]) -> None:
        """Add values that were counted elsewhere, each exactly representable in float32."""
        present = [(float(value), int(count)) for value, count in zip(values, counts, strict=True) if count]
        if not present:
            return
        self._bins = np.zeros(_BINS, np.int64) if self._bins is None else self._bins.copy()
        places = _bin_of(np.array([value for value, _ in present], np.float32))
        np.add.at(self._bins, places, [count for _, count in present])
        if self._values is not None:
            self._count(present)

    def merge(self, other: Sketch) -> None:
        """Add what another one has seen."""
        if other._bins is not None:
            self._bins = other._bins.copy() if self._bins is None else self._bins + other._bins
        if other._values is None:
            self._values = None
        elif self._values is not None:
            self._count(other._values.items())

    def state(self) -> dict[str, list[list[int]] | None]:
        """All of it as integers: [bin, count] pairs, and [bits of a float32, count] pairs while values are counted."""
        values = None
        if self._values is not None:
            keys = sorted(self._values)
            bits = np.array(keys, np.float32).view(np.uint32).tolist()
            values = [[bit, self._values[key]] for bit, key in zip(bits, keys, strict=True)]
        places = np.flatnonzero(self._bins) if self._bins is not None else np.empty(0, np.int64)
        counts = self._bins[places].tolist() if self._bins is not None else []
        return {"bins": [list(pair) for pair in zip(places.tolist(), counts, strict=True)], "values": values}

    @classmethod
    def from_state(cls, state: dict[str, list[list[int]] | None]) -> Sketch:
        """What `state` told."""
        sketch = cls()
        pairs = state["bins"] or []
        if pairs:
            sketch._bins = np.zeros(_BINS, np.int64)
            table = np.array(pairs, np.int64)
            sketch._bins[table[:, 0]] = table[:, 1]
        values = state["values"]
        if values is None:
            sketch._values = None
        elif values:
            keys = np.array([bits for bits, _ in values], np.uint32).view(np.float32).tolist()
            sketch._values = dict(zip(keys, (count for _, count in values), strict=True))
        return sketch

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(values, counts) in rising order: the exact ones, or the bins' middles."""
        if self._values is not None:
            keys = sorted(self._values)
            return np.array(keys, np.float64), np.array([self._values[key] for key in keys], np.int64)
        if self._bins is None:
            return np.empty(0), np.empty(0, np.int64)
        places = np.flatnonzero(self._bins)
        return _middle_of(places), self._bins[places]

    def _too_many(self, values: NDArray[np.float32]) -> bool:
        probe = values[:_PROBE]
        return len(np.unique(probe)) > MAX_VALUES

    def _count(self, pairs: Iterable[tuple[float, int]]) -> None:
        if self._values is None:
            return
        for value, count in pairs:
            self._values[value] = self._values.get(value, 0) + count
        if len(self._values) > MAX_VALUES:
            self._values = None


def quantiles_of(
    values: NDArray[np.float64], counts: NDArray[np.int64], shares: Sequence[float], low: float, high: float
) -> tuple[float, ...]:
    """The smallest value with at least each share of all values at or below it, within [low, high].

    This is numpy's `inverted_cdf`, exact for exact values, else within `RELATIVE_ERROR`.
    """
    sums = np.cumsum(counts)
    total = int(sums[-1])
    ranks = [min(total, max(1, math.ceil(share * total))) for share in shares]
    found = values[np.searchsorted(sums, ranks)]
    return tuple(min(high, max(low, float(value))) for value in found)


def histogram_of(values: NDArray[np.float64], counts: NDArray[np.int64], low: float, high: float) -> tuple[int, ...]:
    """Counts in bins of equal width from low to high; a sketch's bin counts where its middle lies."""
    width = (high - low) / HISTOGRAM_BINS
    if width <= 0:
        return (int(counts.sum()), *(0 for _ in range(HISTOGRAM_BINS - 1)))
    places = np.clip(((np.clip(values, low, high) - low) / width).astype(np.int64), 0, HISTOGRAM_BINS - 1)
    return tuple(np.bincount(places, weights=counts, minlength=HISTOGRAM_BINS).astype(np.int64).tolist())


def _bin_of(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bin of each value; bins are in the order of their values."""
    upper = (np.ascontiguousarray(values).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return np.where(upper & _SIGN, ~upper, upper | _SIGN)


def _middle_of(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    places = bins.astype(np.uint16)
    upper = np.where(places & _SIGN, places ^ _SIGN, ~places).astype(np.uint32)
    low = (upper << np.uint32(16)).view(np.float32).astype(np.float64)
    high = ((upper << np.uint32(16)) | np.uint32(0xFFFF)).view(np.float32).astype(np.float64)
    # The bin next to zero holds zero: nothing else would be within a share of it.
    return np.where(upper & 0x7FFF == 0, 0.0, (low + high) / 2)
