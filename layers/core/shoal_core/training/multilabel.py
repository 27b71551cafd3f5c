"""Metrics of several labels at once; they merge exactly, as those in `metrics` do.

A label is predicted where its probability is at least 1/2. Zero-division rules and areas are as in `metrics`; areas are
one label against its absence.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from shoal_core.frozen import Frozen
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
from shoal_core.training.curves import mean_area
from shoal_core.training.exact_sums import ExactSum
from shoal_core.training.tallies import Tally, TallyField

THRESHOLD = 0.5
"""A label applies from this probability on."""


class MultilabelMetrics(Frozen):
    """What a network of several labels achieved.

    `loss` is the mean over samples and labels of the sigmoid cross-entropy; `subset_accuracy` the share of samples with
    every label right, `hamming_loss` the share of wrong labels; `precision`, `recall` and `f1` are macro averages,
    `micro_...` those of all labels counted together. `roc_auc` and `pr_auc` are means over the labels that have both
    samples with and without them.
    """

    task: Literal["multilabel"] = "multilabel"
    samples: int
    loss: float
    subset_accuracy: float
    hamming_loss: float
    precision: float
    recall: float
    f1: float
    micro_precision: float
    micro_recall: float
    micro_f1: float
    classes: list[str]
    per_class: list[ClassMetrics]
    roc_auc: float | None = None
    roc_auc_error: float | None = None
    pr_auc: float | None = None
    pr_auc_error: float | None = None

    def score(self) -> Score:
        """Micro F1, ties (a network that predicts no label yet) broken by the lower loss."""
        return self.micro_f1, -self.loss


class MultilabelCounts(Frozen):
    """Mergeable counts of a network's answers: by label those that were right, wanted and predicted.

    `exact` counts the samples with every label right; `scores` as in `ClassificationCounts`.
    """

    task: Literal["multilabel"] = "multilabel"
    samples: int = 0
    hits: tuple[int, ...]
    wanted: tuple[int, ...]
    predicted: tuple[int, ...]
    exact: int = 0
    loss: ExactSum = ExactSum()
    scores: TallyField = Tally()

    @classmethod
    def empty(cls, classes: int) -> Self:
        """No samples yet."""
        none = (0,) * classes
        return cls(hits=none, wanted=none, predicted=none)

    @classmethod
    def of(cls, probabilities: NDArray[np.floating], target: NDArray[np.integer]) -> Self:
        """Count a batch: probabilities [N, C], target [N, C], 1 where a label applies."""
        require_finite(probabilities)
        truth = target != 0
        answer = probabilities >= THRESHOLD
        right = np.where(truth, probabilities, 1 - probabilities).astype(np.float64)
        # As in classification: what underflows to 0 counts as the smallest normal float32.
        losses = -np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean(axis=1)
        return cls(
            samples=len(target),
            hits=_counts(truth & answer),
            wanted=_counts(truth),
            predicted=_counts(answer),
            exact=int((truth == answer).all(axis=1).sum()),
            loss=ExactSum.of(losses.tolist()),
            scores=count_scores(probabilities, truth),
        )

    def merge(self, other: MultilabelCounts) -> MultilabelCounts:
        """Counts of both sets of samples together."""
        return MultilabelCounts(
            samples=self.samples + other.samples,
            hits=_added(self.hits, other.hits),
            wanted=_added(self.wanted, other.wanted),
            predicted=_added(self.predicted, other.predicted),
            exact=self.exact + other.exact,
            loss=self.loss.merge(other.loss),
            scores=self.scores.merge(other.scores),
        )

    def metrics(self, classes: list[str]) -> MultilabelMetrics:
        """Derive the metrics; `classes` names the labels in order. All are 0 or None when nothing was counted."""
        hits, wanted, predicted = (np.array(counts, np.int64) for counts in (self.hits, self.wanted, self.predicted))
        areas = class_areas(self.scores, len(classes))
        roc_auc, pr_auc = (mean_area([area for area in kind if area]) for kind in areas)
        present = (wanted + predicted) > 0
        total = [counts.sum(keepdims=True) for counts in (hits, wanted, predicted)]
        wrong = int((wanted + predicted - 2 * hits).sum())
        samples = max(1, self.samples)
        return MultilabelMetrics(
            samples=self.samples,
            loss=self.loss.value() / samples,
            subset_accuracy=self.exact / samples,
            hamming_loss=wrong / (samples * max(1, len(classes))),
            precision=mean(ratio(hits, predicted)[present]),
            recall=mean(ratio(hits, wanted)[present]),
            f1=mean(ratio(2 * hits, wanted + predicted)[present]),
            micro_precision=float(ratio(total[0], total[2])[0]),
            micro_recall=float(ratio(total[0], total[1])[0]),
            micro_f1=float(ratio(2 * total[0], total[1] + total[2])[0]),
            classes=classes,
            per_class=per_class(classes, hits, wanted, predicted, areas),
            roc_auc=value(roc_auc),
            roc_auc_error=roc_auc.error if roc_auc else None,
            pr_auc=value(pr_auc),
            pr_auc_error=pr_auc.error if pr_auc else None,
        )


def _counts(flags: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(flags.sum(axis=0).tolist())


def _added(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(mine + theirs for mine, theirs in zip(left, right, strict=True))
