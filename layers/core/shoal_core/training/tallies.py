"""Sparse counts that merge exactly, and the bins that turn floats into places in them.

Bins are cut from the bits of the float64: the exponent, and the leading bits of the mantissa. So a float's bin is the
same on every machine, and bins have constant relative width.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PlainSerializer, PlainValidator, TypeAdapter

_MANTISSA_BITS = 52

ERROR_BITS = 7
"""Bins of an error: 128 per octave, so that a bin's middle is at most 1/256 (0.4 %) away from any value in it."""

# Doubts below 2**-24 can't be told from 0: a float32 probability next to 1 is that far from it.
_OCTAVES = 23


class Tally:
    """Counts at places, int64, most of them 0: immutable, equal for equal counts, merged by adding."""

    __slots__ = ("counts", "places")

    def __init__(self, places: NDArray[np.int64] | None = None, counts: NDArray[np.int64] | None = None) -> None:
        self.places = np.zeros(0, np.int64) if places is None else places
        self.counts = np.zeros(0, np.int64) if counts is None else counts

    @classmethod
    def of(cls, places: NDArray[np.integer], amounts: NDArray[np.integer] | None = None) -> Self:
        """Count places, each once or as often as `amounts` says; both [N], any order."""
        unique, inverse = np.unique(places.astype(np.int64), return_inverse=True)
        counts = np.zeros(len(unique), np.int64)
        np.add.at(counts, inverse, 1 if amounts is None else amounts.astype(np.int64))
        kept = counts != 0
        return cls(unique[kept], counts[kept])

    def merge(self, other: Tally) -> Tally:
        """The counts of both."""
        return Tally.of(np.concatenate([self.places, other.places]), np.concatenate([self.counts, other.counts]))

    def dense(self, size: int) -> NDArray[np.int64]:
        """All counts of places 0 to size - 1: [size]."""
        counts = np.zeros(size, np.int64)
        counts[self.places] = self.counts
        return counts

    @property
    def total(self) -> int:
        """The sum of all counts."""
        return int(self.counts.sum())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tally):
            return NotImplemented
        return np.array_equal(self.places, other.places) and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash((self.places.tobytes(), self.counts.tobytes()))

    def __repr__(self) -> str:
        return f"Tally({_pairs(self)})"


_PAIRS = TypeAdapter(list[tuple[NonNegativeInt, NonNegativeInt]])


def _pairs(tally: Tally) -> list[list[int]]:
    return np.stack([tally.places, tally.counts], axis=1).tolist() if len(tally.places) else []


def _read(value: object) -> Tally:
    if isinstance(value, Tally):
        return value
    pairs = np.array(_PAIRS.validate_python(value), np.int64).reshape(-1, 2)
    return Tally.of(pairs[:, 0], pairs[:, 1])


TallyField = Annotated[Tally, PlainValidator(_read), PlainSerializer(_pairs, when_used="json")]
"""A tally in a record; in JSON `[[place, count], ...]`, in order of the places."""


def error_places(errors: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bins of errors >= 0: 0 holds 0 itself, larger errors have larger bins."""
    bits = np.ascontiguousarray(errors, np.float64).view(np.int64)
    return bits >> (_MANTISSA_BITS - ERROR_BITS)


def error_at(place: int) -> float:
    """The middle of an error's bin."""
    if place == 0:
        return 0.0
    edges = np.array([place, place + 1], np.int64) << (_MANTISSA_BITS - ERROR_BITS)
    low, high = edges.view(np.float64)
    return float(low + (high - low) / 2) if np.isfinite(high) else float(low)


def score_bits(classes: int) -> int:
    """How fine the bins of scores are, in bits per octave: with many classes coarser, so that the counts stay small."""
    return 5 if classes <= 32 else 3 if classes <= 256 else 1


def score_bins(bits: int) -> int:
    """How many bins a score has."""
    return 2 * (_OCTAVES << bits)


def score_places(scores: NDArray[np.floating], bits: int) -> NDArray[np.int64]:
    """The bins of probabilities, in their order: 2**bits per octave of p below 1/2, and of 1 - p above it."""
    p = np.ascontiguousarray(scores, np.float64)
    half = score_bins(bits) // 2
    low = p < 0.5
    doubt = np.clip(np.where(low, p, 1 - p), 2.0 ** -(_OCTAVES + 1), 0.5)
    shift = _MANTISSA_BITS - bits
    least = np.float64(2.0 ** -(_OCTAVES + 1)).view(np.int64) >> shift
    place = np.minimum((doubt.view(np.int64) >> shift) - least, half - 1)
    places: NDArray[np.int64] = np.where(low, place, 2 * half - 1 - place)
    return places
