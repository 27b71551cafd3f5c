"""Sums of floats that don't depend on the order of the summands."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Self

from shoal_core.frozen import Frozen


class ExactSum(Frozen):
    """A sum of float64 values without rounding, in canonical form.

    The exact value is the sum of `parts`, where each part is the correctly rounded float64 of what the parts before
    it leave over. Two sums of the same values are equal, whatever the order and grouping (J. R. Shewchuk, "Adaptive
    Precision Floating-Point Arithmetic", 1997, by way of `math.fsum`).
    """

    parts: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The exact sum of finite values."""
        rest = list(values)
        parts: list[float] = []
        while part := math.fsum(rest):
            parts.append(part)
            rest.append(-part)
        return cls(parts=tuple(parts))

    def merge(self, other: ExactSum) -> ExactSum:
        """The exact sum of both."""
        return ExactSum.of((*self.parts, *other.parts))

    def exact(self) -> Fraction:
        """The value as a fraction."""
        return sum((Fraction(part) for part in self.parts), Fraction(0))

    def value(self) -> float:
        """The value, correctly rounded to float64."""
        return self.parts[0] if self.parts else 0.0
