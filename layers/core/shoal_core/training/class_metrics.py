"""What the metrics of one label and of several have in common: counts, ratios and areas by class."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shoal_core.errors import TrainingDiverged
from shoal_core.frozen import Frozen
from shoal_core.training.curves import Area, pr_area, roc_area
from shoal_core.training.tallies import Tally, score_bins, score_bits, score_places

Score = tuple[float, float]
"""Higher is better, compared element by element: the second breaks ties of the first."""


class ClassMetrics(Frozen):
    """Metrics of one class; areas are one-vs-rest, None where there are no samples of the class, or no others."""

    label: str
    precision: float
    recall: float
    f1: float
    samples: int
    roc_auc: float | None = None
    pr_auc: float | None = None


def count_scores(probabilities: NDArray[np.floating], truth: NDArray[np.bool_]) -> Tally:
    """Scores of each class at place (2 class + truth) bins + bin; both [N, C]."""
    classes = probabilities.shape[1]
    bits = score_bits(classes)
    rows = 2 * np.arange(classes) + truth
    return Tally.of((rows * score_bins(bits) + score_places(probabilities, bits)).ravel())


def class_areas(scores: Tally, classes: int) -> tuple[list[Area | None], list[Area | None]]:
    """ROC and precision-recall area of each class, from what `count_scores` counted."""
    bins = score_bins(score_bits(classes))
    roc: list[Area | None] = []
    pr: list[Area | None] = []
    edges = np.searchsorted(scores.places, np.arange(classes + 1) * 2 * bins)
    for index, (start, stop) in enumerate(pairwise(edges.tolist())):
        own = Tally(scores.places[start:stop] - index * 2 * bins, scores.counts[start:stop])
        negative, positive = own.dense(2 * bins).reshape(2, bins)
        roc.append(roc_area(positive, negative))
        pr.append(pr_area(positive, negative))
    return roc, pr


def per_class(
    classes: list[str],
    hits: NDArray[np.int64],
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    areas: tuple[list[Area | None], list[Area | None]],
) -> list[ClassMetrics]:
    """The metrics of each class.

    Args:
        classes: Their names.
        hits: Samples of a class that were predicted as such: [C].
        truth: Samples of a class: [C].
        predicted: Samples predicted as a class: [C].
        areas: As from `class_areas`.
    """
    precision, recall, f1 = (ratio(hits, predicted), ratio(hits, truth), ratio(2 * hits, truth + predicted))
    columns = zip(classes, precision.tolist(), recall.tolist(), f1.tolist(), truth.tolist(), *areas, strict=True)
    return [
        ClassMetrics(label=label, precision=p, recall=r, f1=f, samples=n, roc_auc=value(a), pr_auc=value(b))
        for label, p, r, f, n, a, b in columns
    ]


def value(area: Area | None) -> float | None:
    """An area without its error."""
    return area.value if area else None


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part), np.float64), where=whole > 0)


def mean(values: NDArray[np.float64]) -> float:
    """The mean, 0 of nothing."""
    return math.fsum(values.tolist()) / len(values) if len(values) else 0.0


def require_finite(answers: NDArray[np.floating]) -> None:
    """Raise `TrainingDiverged` when an answer isn't finite."""
    if not np.isfinite(answers).all():
        raise TrainingDiverged(
            "The model's answers contain NaN or infinite numbers.",
            "Lower training.learning_rate in dataset.yaml and upload again.",
        )
