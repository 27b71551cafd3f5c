"""Areas under ROC and precision-recall curves, calibration and quantiles, from binned counts.

Samples in one bin count as ties. What the order within the bins could change at most is known from the counts, and is
returned beside each area: the exact area of the unbinned scores is no further away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shoal_core.training.tallies import Tally, error_at


@dataclass(frozen=True)
class Area:
    """An area under a curve, and how far the exact one may be away."""

    value: float
    error: float


def roc_area(positive: NDArray[np.int64], negative: NDArray[np.int64]) -> Area | None:
    """Area under the ROC curve: how often a positive sample scores above a negative one, ties counting half.

    Args:
        positive: Positive samples by bin of their score, ascending: [B].
        negative: Negative ones: [B].

    Returns:
        The area; None without a positive or without a negative sample.
    """
    pairs = int(positive.sum()) * int(negative.sum())
    if not pairs:
        return None
    below = np.cumsum(negative) - negative
    above, tied = int(np.dot(positive, below)), int(np.dot(positive, negative))
    return Area((2 * above + tied) / (2 * pairs), tied / (2 * pairs))


def pr_area(positive: NDArray[np.int64], negative: NDArray[np.int64]) -> Area | None:
    """Average precision: the area under the steps of the precision-recall curve, as scikit-learn defines it.

    Args:
        positive: Positive samples by bin of their score, ascending: [B].
        negative: Negative ones: [B].

    Returns:
        The area; None without a positive or without a negative sample.
    """
    total = int(positive.sum())
    if not total or not negative.sum():
        return None
    bins = np.flatnonzero(positive + negative)[::-1]
    hits, misses = positive[bins], negative[bins]
    all_hits, all_misses = np.cumsum(hits), np.cumsum(misses)
    tied = math.fsum((hits * (all_hits / (all_hits + all_misses))).tolist()) / total
    # At best a bin's positive samples share its highest score; at worst each comes alone, after all negative ones.
    best = math.fsum((hits * (all_hits / np.maximum(1, all_hits + all_misses - misses))).tolist()) / total
    rank = np.arange(1, total + 1)
    worst = math.fsum((rank / (rank + np.repeat(all_misses, hits))).tolist()) / total
    return Area(tied, max(best - tied, tied - worst))


def mean_area(areas: list[Area]) -> Area | None:
    """The mean of areas, and of their errors; None of no areas."""
    if not areas:
        return None
    return Area(
        math.fsum(area.value for area in areas) / len(areas), math.fsum(area.error for area in areas) / len(areas)
    )


def calibration_error(samples: NDArray[np.int64], hits: NDArray[np.int64], confidence: NDArray[np.float64]) -> float:
    """Expected calibration error (C. Guo et al., 2017): how far confidence is from accuracy, weighted by samples.

    Args:
        samples: By bin of confidence: [B].
        hits: Right answers among them: [B].
        confidence: The sum of their confidences: [B].
    """
    total = int(samples.sum())
    return math.fsum(np.abs(hits - confidence).tolist()) / total if total else 0.0


def error_quantile(errors: Tally, share: float) -> float:
    """The least error that at least `share` of the samples don't exceed, to 0.4 %; 0 without samples."""
    if not errors.total:
        return 0.0
    wanted = max(1, math.ceil(share * errors.total))
    return error_at(int(errors.places[np.searchsorted(np.cumsum(errors.counts), wanted)]))
