"""Metrics that merge: counts and exact sums, from which every number is derived once, at the end.

Merging is associative and commutative to the last bit: confusion matrices are integers, and sums of floats are kept
exactly (`ExactSum`). So a metric never depends on how the samples were cut into shards.

Zero-division rules: precision is 0 for a class that was never predicted, recall is 0 for a class without samples,
F1 is 0 where both are 0; macro averages run over the classes that were seen or predicted at least once. R² is 1 for
a perfect prediction of a constant target and 0 for an imperfect one (as scikit-learn has it).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from shoal_core.errors import TrainingDiverged

Score = tuple[float, float]
"""Higher is better, compared element by element: the second breaks ties of the first."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExactSum(_Record):
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


class ClassMetrics(_Record):
    """Metrics of one class."""

    label: str
    precision: float
    recall: float
    f1: float
    samples: int


class ClassificationMetrics(_Record):
    """What a classifier achieved; `precision`, `recall` and `f1` are macro averages, `loss` is mean cross-entropy."""

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

    def score(self) -> Score:
        """Accuracy, ties broken by the lower loss."""
        return self.accuracy, -self.loss


class RegressionMetrics(_Record):
    """What a regressor achieved, in the target's own units."""

    task: Literal["regression"] = "regression"
    samples: int
    mae: float
    rmse: float
    r2: float

    def score(self) -> Score:
        """The lower root mean squared error, ties broken by the lower absolute error."""
        return -self.rmse, -self.mae


Metrics = Annotated[ClassificationMetrics | RegressionMetrics, Field(discriminator="task")]


class ClassificationCounts(_Record):
    """Mergeable counts of a classifier's answers: confusion [C, C] (rows: truth) and the summed cross-entropy."""

    task: Literal["classification"] = "classification"
    confusion: tuple[tuple[int, ...], ...]
    loss: ExactSum = ExactSum()

    @classmethod
    def empty(cls, classes: int) -> Self:
        """No samples yet."""
        return cls(confusion=((0,) * classes,) * classes)

    @classmethod
    def of(cls, probabilities: NDArray[np.floating], target: NDArray[np.integer]) -> Self:
        """Count a batch: probabilities [N, C] that sum to 1 per row, target int64 [N]."""
        _require_finite(probabilities)
        classes = probabilities.shape[1]
        predicted = probabilities.argmax(axis=1)
        pairs = np.bincount(target * classes + predicted, minlength=classes * classes).reshape(classes, classes)
        likelihood = probabilities[np.arange(len(target)), target].astype(np.float64)
        # A float32 probability can underflow to 0; its smallest normal bounds the loss of one sample at 87.3.
        losses = -np.log(np.maximum(likelihood, np.finfo(np.float32).tiny))
        return cls(confusion=tuple(map(tuple, pairs.tolist())), loss=ExactSum.of(losses.tolist()))

    def merge(self, other: ClassificationCounts) -> ClassificationCounts:
        """Counts of both sets of samples together."""
        confusion = np.array(self.confusion, np.int64) + np.array(other.confusion, np.int64)
        return ClassificationCounts(confusion=tuple(map(tuple, confusion.tolist())), loss=self.loss.merge(other.loss))

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return sum(map(sum, self.confusion))

    def metrics(self, classes: list[str]) -> ClassificationMetrics:
        """Derive the metrics; `classes` names the rows in order. All are 0 when nothing was counted."""
        confusion = np.array(self.confusion, np.int64)
        hits = np.diag(confusion)
        truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        precision, recall = _ratio(hits, predicted), _ratio(hits, truth)
        f1 = _ratio(2 * hits, truth + predicted)
        present = (truth + predicted) > 0
        samples = int(truth.sum())
        accuracy = float(hits.sum()) / samples if samples else 0.0
        per_class = [
            ClassMetrics(label=label, precision=p, recall=r, f1=f, samples=n)
            for label, p, r, f, n in zip(
                classes, precision.tolist(), recall.tolist(), f1.tolist(), truth.tolist(), strict=True
            )
        ]
        return ClassificationMetrics(
            samples=samples,
            loss=self.loss.value() / samples if samples else 0.0,
            accuracy=accuracy,
            precision=_mean(precision[present]),
            recall=_mean(recall[present]),
            f1=_mean(f1[present]),
            # With exactly one label per sample every false positive is a false negative, so micro F1 is the accuracy.
            micro_f1=accuracy,
            classes=classes,
            per_class=per_class,
            confusion_matrix=confusion.tolist(),
        )


class RegressionCounts(_Record):
    """Mergeable sums of a regressor's errors, in the target's own units.

    The squares of a float32 target are exact in float64, so R² suffers no cancellation however far the mean is from 0.
    """

    task: Literal["regression"] = "regression"
    samples: int = 0
    absolute: ExactSum = ExactSum()
    squared: ExactSum = ExactSum()
    target: ExactSum = ExactSum()
    target_squared: ExactSum = ExactSum()

    @classmethod
    def of(cls, prediction: NDArray[np.floating], target: NDArray[np.floating]) -> Self:
        """Sum up a batch: prediction [N] or [N, 1], target float32 [N]."""
        _require_finite(prediction)
        truth = target.astype(np.float64).ravel()
        error = prediction.astype(np.float64).ravel() - truth
        return cls(
            samples=len(truth),
            absolute=ExactSum.of(np.abs(error).tolist()),
            squared=ExactSum.of((error * error).tolist()),
            target=ExactSum.of(truth.tolist()),
            target_squared=ExactSum.of((truth * truth).tolist()),
        )

    def merge(self, other: RegressionCounts) -> RegressionCounts:
        """Sums over both sets of samples together."""
        return RegressionCounts(
            samples=self.samples + other.samples,
            absolute=self.absolute.merge(other.absolute),
            squared=self.squared.merge(other.squared),
            target=self.target.merge(other.target),
            target_squared=self.target_squared.merge(other.target_squared),
        )

    def metrics(self) -> RegressionMetrics:
        """Derive the metrics. All are 0 when nothing was counted."""
        if not self.samples:
            return RegressionMetrics(samples=0, mae=0.0, rmse=0.0, r2=0.0)
        residual = self.squared.exact()
        spread = self.target_squared.exact() - self.target.exact() ** 2 / self.samples
        r2 = float(1 - residual / spread) if spread else float(not residual)
        return RegressionMetrics(
            samples=self.samples,
            mae=self.absolute.value() / self.samples,
            rmse=math.sqrt(self.squared.value() / self.samples),
            r2=r2,
        )


AnyCounts = ClassificationCounts | RegressionCounts
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
        case RegressionCounts(), RegressionCounts():
            return left.merge(right)
    raise TypeError(f"Can't merge counts of {left.task} with counts of {right.task}.")


def metrics_of(counts: AnyCounts, classes: list[str]) -> Metrics:
    """The metrics of counts of either task; `classes` is ignored for regression."""
    return counts.metrics(classes) if isinstance(counts, ClassificationCounts) else counts.metrics()


def summary(metrics: Metrics) -> dict[str, float]:
    """The metrics that fit on a line, by name."""
    names = (
        ("loss", "accuracy", "precision", "recall", "f1")
        if isinstance(metrics, ClassificationMetrics)
        else ("mae", "rmse", "r2")
    )
    return {name: getattr(metrics, name) for name in names}


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part), np.float64), where=whole > 0)


def _mean(values: NDArray[np.float64]) -> float:
    return math.fsum(values.tolist()) / len(values) if len(values) else 0.0


def _require_finite(answers: NDArray[np.floating]) -> None:
    if not np.isfinite(answers).all():
        raise TrainingDiverged(
            "The model's answers contain NaN or infinite numbers.",
            "Lower training.learning_rate in dataset.yaml and upload again.",
        )
