"""Scores of anomalies as metrics that merge exactly, as those in `metrics` do.

Samples that aren't known as anomalies count as normal: the loss, the quantiles and the threshold are theirs. Areas say
how well scores part the two; their scores are counted in 128 bins per octave.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shoal_core.data.shards import Tensors
from shoal_core.frozen import Frozen
from shoal_core.training.class_metrics import Score, require_finite, value
from shoal_core.training.curves import error_quantile, pr_area, roc_area
from shoal_core.training.exact_sums import ExactSum
from shoal_core.training.tallies import Tally, TallyField, error_places

SCORE, ANOMALOUS = "score", "anomalous"
SCORE_QUANTILES = (0.5, 0.9, 0.95, 0.99)
DEFAULT_QUANTILE = 0.99


class AnomalyMetrics(Frozen):
    """How unusual samples were found.

    `loss` is the mean score of the normal samples (1 is what answering the training data's means scores, about), and
    `score_quantiles` are theirs by share ("0.9": nine of ten scores are no higher), to 0.4 %. `threshold` is the score
    above which a sample is called an anomaly, `flagged` the share of all samples of which that is so (None where these
    samples gave the threshold); `anomalies` how many are known as such. `roc_auc`, `pr_auc`, `precision`, `recall` and
    `f1` (at the threshold) are None where none is, or all are.
    """

    task: Literal["anomaly"] = "anomaly"
    samples: int
    loss: float
    threshold: float
    flagged: float | None = None
    anomalies: int = 0
    score_quantiles: dict[str, float] = Field(default={})
    roc_auc: float | None = None
    roc_auc_error: float | None = None
    pr_auc: float | None = None
    pr_auc_error: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None

    def score(self) -> Score:
        """The lower loss: what is rebuilt best is known best. Ties broken by the lower threshold."""
        return -self.loss, -self.threshold


class AnomalyCounts(Frozen):
    """Mergeable counts of scores.

    `normal` and `anomalous` count scores by bin, of samples that aren't and that are known as anomalies; `raised` and
    `found` how many of each were called one. `quantile` of the normal scores is the threshold.
    """

    task: Literal["anomaly"] = "anomaly"
    quantile: float = DEFAULT_QUANTILE
    loss: ExactSum = ExactSum()
    normal: TallyField = Tally()
    anomalous: TallyField = Tally()
    raised: int = 0
    found: int = 0

    @classmethod
    def of(cls, answers: NDArray[np.floating], target: NDArray[np.integer]) -> Self:
        """Count a batch.

        Args:
            answers: Scores [N] or [N, 1], or beside them whether each was called an anomaly, [N, 2].
            target: int64 [N], 1 for a known anomaly.
        """
        require_finite(answers)
        wide = answers.astype(np.float64).reshape(len(answers), -1)
        scores, known = wide[:, 0], target != 0
        called = wide[:, 1] != 0 if wide.shape[1] > 1 else np.zeros(len(wide), np.bool_)
        return cls(
            loss=ExactSum.of(scores[~known].tolist()),
            normal=Tally.of(error_places(scores[~known])),
            anomalous=Tally.of(error_places(scores[known])),
            raised=int((called & ~known).sum()),
            found=int((called & known).sum()),
        )

    def merge(self, other: AnomalyCounts) -> AnomalyCounts:
        """Counts of both sets of samples together."""
        return AnomalyCounts(
            quantile=self.quantile,
            loss=self.loss.merge(other.loss),
            normal=self.normal.merge(other.normal),
            anomalous=self.anomalous.merge(other.anomalous),
            raised=self.raised + other.raised,
            found=self.found + other.found,
        )

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return self.normal.total + self.anomalous.total

    def metrics(self, threshold: float | None = None) -> AnomalyMetrics:
        """Derive the metrics; `threshold` is the one that samples were called anomalies by, None to learn it here."""
        normal, anomalies = self.normal.total, self.anomalous.total
        negative, positive = _aligned(self.normal, self.anomalous)
        roc, pr = roc_area(positive, negative), pr_area(positive, negative)
        known = threshold is not None and normal > 0 and anomalies > 0
        called = self.raised + self.found
        precision = self.found / called if called else 0.0
        recall = self.found / anomalies if anomalies else 0.0
        learned = error_quantile(self.normal, self.quantile)
        return AnomalyMetrics(
            samples=self.samples,
            loss=self.loss.value() / normal if normal else 0.0,
            threshold=learned if threshold is None else threshold,
            flagged=called / self.samples if threshold is not None and self.samples else None,
            anomalies=anomalies,
            score_quantiles={str(share): error_quantile(self.normal, share) for share in SCORE_QUANTILES if normal},
            roc_auc=value(roc),
            roc_auc_error=roc.error if roc else None,
            pr_auc=value(pr),
            pr_auc_error=pr.error if pr else None,
            precision=precision if known else None,
            recall=recall if known else None,
            f1=(2 * precision * recall / (precision + recall) if self.found else 0.0) if known else None,
        )


def scored(outputs: Tensors) -> NDArray[Any]:
    """An exported model's scores and whether each is above the threshold: float32 [N, 2]."""
    scores = outputs[SCORE]
    return np.stack([scores, outputs[ANOMALOUS].astype(scores.dtype)], axis=1)


def _aligned(normal: Tally, anomalous: Tally) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of both at the places that either has, in their order."""
    places = np.union1d(normal.places, anomalous.places)
    counts = []
    for tally in (normal, anomalous):
        dense = np.zeros(len(places), np.int64)
        dense[np.searchsorted(places, tally.places)] = tally.counts
        counts.append(dense)
    return counts[0], counts[1]
