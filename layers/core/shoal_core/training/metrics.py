"""Metrics that merge: counts and exact sums, from which every number is derived once, at the end.

Merging is associative and commutative to the last bit: confusion matrices are integers, and sums of floats are kept
exactly (`ExactSum`). So a metric never depends on how the samples were cut into shards.

Zero-division rules: precision is 0 for a class that was never predicted, recall is 0 for a class without samples,
F1 is 0 where both are 0; macro averages run over the classes that were seen or predicted at least once. R² is 1 for
a perfect prediction of a constant target and 0 for an imperfect one (as scikit-learn has it).

ROC-AUC and PR-AUC come from binned scores: 32 bins per octave of p (below 1/2) or of 1 - p (above), 8 above 32 classes
and 2 above 256. Each comes with `…_error`, which the exact area differs by at most. Quantiles of absolute errors come
from 128 bins per octave, so they are within 0.4 %. Confidences are summed in units of 2**-32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shoal_core.frozen import Frozen
from shoal_core.training.anomalies import AnomalyCounts, AnomalyMetrics
from shoal_core.training.class_metrics import (
    ClassMetrics,
    Score,
    class_areas,
    count_scores,
    mean,
    per_class,
    ratio,
    require_finite,
    value,
)
from shoal_core.training.curves import calibration_error, error_quantile, mean_area
from shoal_core.training.exact_sums import ExactSum
from shoal_core.training.multilabel import MultilabelCounts, MultilabelMetrics
from shoal_core.training.tallies import Tally, TallyField, error_places

CALIBRATION_BINS = 15
TOP_K = (3, 5)
ERROR_QUANTILES = (0.5, 0.9, 0.95, 0.99)
_CONFIDENCE_UNIT = 2**32


class ClassificationMetrics(Frozen):
    """What a classifier achieved; `precision`, `recall` and `f1` are macro averages, `loss` is mean cross-entropy.

    `roc_auc` and `pr_auc` (average precision) are those of the second class where there are two, else means over the
    classes, one-vs-rest. `calibration_error` is the expected one, over 15 bins. `top_3_accuracy` and `top_5_accuracy`
    are None where there are no more classes than that.
    """

    task: Literal["classification"] = "classification"
    samples: int
    loss: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    micro_f1: float
    classes: list[str]
    per_class: list[ClassMetrics]
    confusion_matrix: list[list[int]] = Field(description="Rows are the truth, columns the prediction.")
    roc_auc: float | None = None
    roc_auc_error: float | None = None
    pr_auc: float | None = None
    pr_auc_error: float | None = None
    calibration_error: float | None = None
    top_3_accuracy: float | None = None
    top_5_accuracy: float | None = None

    def score(self) -> Score:
        """Accuracy, ties broken by the lower loss."""
        return self.accuracy, -self.loss


class RegressionMetrics(Frozen):
    """What a regressor achieved, in the target's own units.

    `absolute_error_quantiles` are by share ("0.9": nine of ten errors are no larger), to 0.4 %.
    """

    task: Literal["regression"] = "regression"
    samples: int
    mae: float
    rmse: float
    r2: float
    median_absolute_error: float | None = None
    absolute_error_quantiles: dict[str, float] = Field(default={})

    def score(self) -> Score:
        """The lower root mean squared error, ties broken by the lower absolute error."""
        return -self.rmse, -self.mae


Metrics = Annotated[
    ClassificationMetrics | MultilabelMetrics | RegressionMetrics | AnomalyMetrics, Field(discriminator="task")
]


class ClassificationCounts(Frozen):
    """Mergeable counts of a classifier's answers.

    `confusion` is [C, C] (rows: truth), `loss` the summed cross-entropy. `scores` counts the probabilities of each
    class, one-vs-rest, at place (2 class + truth) bins + bin; `calibration` counts samples, right answers and summed
    confidence (in units of 2**-32) by bin of confidence, at place 15 row + bin; `top` how often the truth was among
    the 3 and 5 most likely classes.
    """

    task: Literal["classification"] = "classification"
    confusion: tuple[tuple[int, ...], ...]
    loss: ExactSum = ExactSum()
    scores: TallyField = Tally()
    calibration: TallyField = Tally()
    top: tuple[int, ...] = (0,) * len(TOP_K)

    @classmethod
    def empty(cls, classes: int) -> Self:
        """No samples yet."""
        return cls(confusion=((0,) * classes,) * classes)

    @classmethod
    def of(cls, probabilities: NDArray[np.floating], target: NDArray[np.integer]) -> Self:
        """Count a batch: probabilities [N, C] that sum to 1 per row, target int64 [N]."""
        require_finite(probabilities)
        classes = probabilities.shape[1]
        predicted = probabilities.argmax(axis=1)
        pairs = np.bincount(target * classes + predicted, minlength=classes * classes).reshape(classes, classes)
        chosen = probabilities[np.arange(len(target)), target]
        # A float32 probability can underflow to 0; its smallest normal bounds the loss of one sample at 87.3.
        losses = -np.log(np.maximum(chosen.astype(np.float64), np.finfo(np.float32).tiny))
        # Of equally likely classes the first ones are on top, as argmax has it.
        ahead = probabilities > chosen[:, None]
        ahead |= (probabilities == chosen[:, None]) & (np.arange(classes) < target[:, None])
        rank = ahead.sum(axis=1)
        return cls(
            confusion=tuple(map(tuple, pairs.tolist())),
            loss=ExactSum.of(losses.tolist()),
            scores=count_scores(probabilities, np.arange(classes) == target[:, None]),
            calibration=_count_confidence(probabilities.max(axis=1), predicted == target),
            top=tuple(int((rank < k).sum()) for k in TOP_K),
        )

    def merge(self, other: ClassificationCounts) -> ClassificationCounts:
        """Counts of both sets of samples together."""
        confusion = np.array(self.confusion, np.int64) + np.array(other.confusion, np.int64)
        return ClassificationCounts(
            confusion=tuple(map(tuple, confusion.tolist())),
            loss=self.loss.merge(other.loss),
            scores=self.scores.merge(other.scores),
            calibration=self.calibration.merge(other.calibration),
            top=tuple(mine + theirs for mine, theirs in zip(self.top, other.top, strict=True)),
        )

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return sum(map(sum, self.confusion))

    def metrics(self, classes: list[str]) -> ClassificationMetrics:
        """Derive the metrics; `classes` names the rows in order. All are 0 or None when nothing was counted."""
        confusion = np.array(self.confusion, np.int64)
        hits = np.diag(confusion)
        truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        precision, recall = ratio(hits, predicted), ratio(hits, truth)
        f1 = ratio(2 * hits, truth + predicted)
        present = (truth + predicted) > 0
        samples = int(truth.sum())
        accuracy = float(hits.sum()) / samples if samples else 0.0
        roc, pr = areas = class_areas(self.scores, len(confusion))
        overall = slice(1, 2) if len(classes) == 2 else slice(None)
        roc_auc = mean_area([area for area in roc[overall] if area])
        pr_auc = mean_area([area for area in pr[overall] if area])
        ranked = dict(zip(TOP_K, self.top, strict=True)) if self.calibration.total else {}
        top = {k: count / samples for k, count in ranked.items() if len(classes) > k}
        return ClassificationMetrics(
            samples=samples,
            loss=self.loss.value() / samples if samples else 0.0,
            accuracy=accuracy,
            precision=mean(precision[present]),
            recall=mean(recall[present]),
            f1=mean(f1[present]),
            # With exactly one label per sample every false positive is a false negative, so micro F1 is the accuracy.
            micro_f1=accuracy,
            classes=classes,
            per_class=per_class(classes, hits, truth, predicted, areas),
            confusion_matrix=confusion.tolist(),
            roc_auc=value(roc_auc),
            roc_auc_error=roc_auc.error if roc_auc else None,
            pr_auc=value(pr_auc),
            pr_auc_error=pr_auc.error if pr_auc else None,
            calibration_error=self._calibration_error(),
            top_3_accuracy=top.get(3),
            top_5_accuracy=top.get(5),
        )

    def calibration_bins(self) -> list[tuple[int, float, float]]:
        """(samples, mean confidence, share of right answers) of each of the bins that hold samples."""
        if not self.calibration.total:
            return []
        samples, right, confidence = self.calibration.dense(3 * CALIBRATION_BINS).reshape(3, CALIBRATION_BINS)
        return [
            (int(count), float(sure) / _CONFIDENCE_UNIT / int(count), float(hits) / int(count))
            for count, hits, sure in zip(samples, right, confidence, strict=True)
            if count
        ]

    def _calibration_error(self) -> float | None:
        if not self.calibration.total:
            return None
        samples, right, confidence = self.calibration.dense(3 * CALIBRATION_BINS).reshape(3, CALIBRATION_BINS)
        return calibration_error(samples, right, confidence / _CONFIDENCE_UNIT)


class RegressionCounts(Frozen):
    """Mergeable sums of a regressor's errors, in the target's own units.

    The squares of a float32 target are exact in float64, so R² suffers no cancellation however far the mean is from 0.
    `errors` counts the absolute errors by bin.
    """

    task: Literal["regression"] = "regression"
    samples: int = 0
    absolute: ExactSum = ExactSum()
    squared: ExactSum = ExactSum()
    target: ExactSum = ExactSum()
    target_squared: ExactSum = ExactSum()
    errors: TallyField = Tally()

    @classmethod
    def of(cls, prediction: NDArray[np.floating], target: NDArray[np.floating]) -> Self:
        """Sum up a batch: prediction [N] or [N, 1], target float32 [N]."""
        require_finite(prediction)
        truth = target.astype(np.float64).ravel()
        error = prediction.astype(np.float64).ravel() - truth
        return cls(
            samples=len(truth),
            absolute=ExactSum.of(np.abs(error).tolist()),
            squared=ExactSum.of((error * error).tolist()),
            target=ExactSum.of(truth.tolist()),
            target_squared=ExactSum.of((truth * truth).tolist()),
            errors=Tally.of(error_places(np.abs(error))),
        )

    def merge(self, other: RegressionCounts) -> RegressionCounts:
        """Sums over both sets of samples together."""
        return RegressionCounts(
            samples=self.samples + other.samples,
            absolute=self.absolute.merge(other.absolute),
            squared=self.squared.merge(other.squared),
            target=self.target.merge(other.target),
            target_squared=self.target_squared.merge(other.target_squared),
            errors=self.errors.merge(other.errors),
        )

    def metrics(self) -> RegressionMetrics:
        """Derive the metrics. All are 0 when nothing was counted."""
        if not self.samples:
            return RegressionMetrics(samples=0, mae=0.0, rmse=0.0, r2=0.0)
        residual = self.squared.exact()
        spread = self.target_squared.exact() - self.target.exact() ** 2 / self.samples
        r2 = float(1 - residual / spread) if spread else float(not residual)
        shares = ERROR_QUANTILES if self.errors.total else ()
        quantiles = {str(share): error_quantile(self.errors, share) for share in shares}
        return RegressionMetrics(
            samples=self.samples,
            mae=self.absolute.value() / self.samples,
            rmse=math.sqrt(self.squared.value() / self.samples),
            r2=r2,
            median_absolute_error=quantiles.get("0.5"),
            absolute_error_quantiles=quantiles,
        )


AnyCounts = ClassificationCounts | MultilabelCounts | RegressionCounts | AnomalyCounts
Counts = Annotated[AnyCounts, Field(discriminator="task")]


def merge_counts(counts: Iterable[AnyCounts]) -> AnyCounts:
    """Merge the counts of one task; at least one must be given."""
    first, *rest = counts
    total = first
    for other in rest:
        total = add_counts(total, other)
    return total


def add_counts(left: AnyCounts, right: AnyCounts) -> AnyCounts:
    """Merge two counts of the same task."""
    match left, right:
        case ClassificationCounts(), ClassificationCounts():
            return left.merge(right)
        case MultilabelCounts(), MultilabelCounts():
            return left.merge(right)
        case RegressionCounts(), RegressionCounts():
            return left.merge(right)
        case AnomalyCounts(), AnomalyCounts():
            return left.merge(right)
    raise TypeError(f"Can't merge counts of {left.task} with counts of {right.task}.")


def metrics_of(counts: AnyCounts, classes: list[str]) -> Metrics:
    """The metrics of counts of any task; `classes` is ignored for regression and anomalies."""
    return counts.metrics() if isinstance(counts, RegressionCounts | AnomalyCounts) else counts.metrics(classes)


_SUMMARY: dict[str, tuple[str, ...]] = {
    "classification": (
        "loss", "accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc", "calibration_error",
        "top_3_accuracy", "top_5_accuracy",
    ),
    "multilabel": (
        "loss", "subset_accuracy", "hamming_loss", "micro_f1", "precision", "recall", "f1", "roc_auc", "pr_auc",
    ),
    "regression": ("mae", "rmse", "r2", "median_absolute_error"),
    "anomaly": ("loss", "threshold", "flagged", "roc_auc", "pr_auc", "precision", "recall", "f1"),
}  # fmt: skip


def summary(metrics: Metrics) -> dict[str, float]:
    """The metrics that fit on a line, by name; without those that the samples don't define."""
    values = ((name, getattr(metrics, name)) for name in _SUMMARY[metrics.task])
    return {name: value for name, value in values if value is not None}


def _count_confidence(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> Tally:
    """Samples, right answers and summed confidence at place 15 row + bin; bins are open below, closed above."""
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    units = np.rint(confidence.astype(np.float64) * _CONFIDENCE_UNIT).astype(np.int64)
    places = np.concatenate([bins, bins + CALIBRATION_BINS, bins + 2 * CALIBRATION_BINS])
    return Tally.of(places, np.concatenate([np.ones_like(bins), right.astype(np.int64), units]))
