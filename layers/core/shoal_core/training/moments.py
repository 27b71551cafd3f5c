"""Mean and deviation of columns as a network sees them, for its scale and for noise in units of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shoal_core.data.manifest import QUANTILES, Manifest, NumberSummary
from shoal_core.errors import BadDataset


def column_summaries(manifest: Manifest, names: Sequence[str]) -> list[NumberSummary]:
    """The statistics of columns of numbers. Raises `BadDataset` where they are missing."""
    statistics = manifest.statistics
    return [statistics.numbers.get(name) or missing_summary(manifest, f"column {name!r}") for name in names]


def column_moments(manifest: Manifest, names: Sequence[str]) -> list[tuple[float, float]]:
    """Mean and standard deviation of columns of numbers, clipped as the network clips them.

    Raises:
        BadDataset: A column's statistics are missing.
    """
    summaries = column_summaries(manifest, names)
    bounds = [manifest.statistics.bounds.get(name) for name in names]
    return [clipped_moments(summary, pair) for summary, pair in zip(summaries, bounds, strict=True)]


def clipped_moments(summary: NumberSummary, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """Mean and standard deviation of a column as the network sees it: clipped to its bounds.

    Without bounds, or where no value lies beyond them, they are the column's own, which are exact. Else they are those
    of the quantile function, drawn as straight lines between the summary's quantiles and cut at the bounds: a few
    outliers that are clipped away no longer decide the scale of all the rest.
    """
    exact = summary.mean, summary.std
    if bounds is None or len(summary.quantiles) != len(QUANTILES):
        return exact
    low, high = bounds
    if low <= summary.minimum and summary.maximum <= high:
        return exact
    shares = (0.0, *QUANTILES, 1.0)
    values = [min(max(v, low), high) for v in (summary.minimum, *summary.quantiles, summary.maximum)]
    pieces = [
        (stop - start, left, right)
        for start, stop, left, right in zip(shares, shares[1:], values, values[1:], strict=False)
    ]
    mean = math.fsum(share * (left + right) / 2 for share, left, right in pieces)
    parts = [(share, left - mean, right - mean) for share, left, right in pieces]
    variance = math.fsum(share * (left * left + left * right + right * right) / 3 for share, left, right in parts)
    return (mean, math.sqrt(variance)) if variance > 0 else exact


def missing_summary(manifest: Manifest, what: str) -> NumberSummary:
    """Raise `BadDataset`: a statistic that the network needs isn't there."""
    raise BadDataset(
        f"The manifest of dataset {manifest.dataset!r} version {manifest.version} has no statistics of {what}.",
        "Upload the data again.",
    )
