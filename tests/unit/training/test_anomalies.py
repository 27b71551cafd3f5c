"""Scores of anomalies as metrics: exact in any order of merging, and equal to what a plain reading gives."""

import numpy as np
import pytest

from shoal_core.errors import TrainingDiverged
from shoal_core.training.anomalies import AnomalyCounts, scored
from shoal_core.training.metrics import add_counts, merge_counts, metrics_of, summary

RANDOM = np.random.default_rng(3)
NORMAL = RANDOM.gamma(2, 0.2, 900)
STRANGE = RANDOM.gamma(4, 0.4, 100)
SCORES = np.concatenate([NORMAL, STRANGE]).astype(np.float32)
TARGET = np.repeat([0, 1], [900, 100])


def counts(rows=slice(None), threshold=1.0) -> AnomalyCounts:
    called = (threshold < SCORES).astype(np.float32)
    return AnomalyCounts.of(np.stack([SCORES, called], axis=1)[rows], TARGET[rows])


def areas() -> tuple[float, float]:
    """ROC and precision-recall area by their definitions."""
    wins = (STRANGE.astype(np.float32)[:, None] > NORMAL.astype(np.float32)).mean()
    order = np.argsort(-SCORES)
    hits = np.cumsum(TARGET[order])
    return float(wins), float((hits / np.arange(1, 1001))[TARGET[order] == 1].mean())


def test_metrics_equal_a_plain_reading():
    found = counts().metrics(1.0)
    roc, pr = areas()
    assert found.samples == 1000
    assert found.anomalies == 100
    assert found.loss == pytest.approx(NORMAL.astype(np.float32).astype(np.float64).mean(), rel=1e-12)
    assert abs(found.roc_auc - roc) <= found.roc_auc_error + 1e-12
    assert abs(found.pr_auc - pr) <= found.pr_auc_error + 1e-12
    assert found.roc_auc_error < 0.002
    raised, hit = int((NORMAL > 1).sum()), int((STRANGE > 1).sum())
    assert found.flagged == (raised + hit) / 1000
    assert found.precision == hit / (raised + hit)
    assert found.recall == hit / 100
    for share, value in found.score_quantiles.items():
        assert value == pytest.approx(np.quantile(NORMAL, float(share), method="inverted_cdf"), rel=0.005)


def test_counts_merge_exactly_in_any_order():
    parts = [counts(slice(first, None, 7)) for first in range(7)]
    assert (
        merge_counts(parts) == merge_counts(parts[::-1]) == add_counts(merge_counts(parts[:3]), merge_counts(parts[3:]))
    )
    assert merge_counts(parts) == counts()
    read = AnomalyCounts.model_validate_json(counts().model_dump_json())
    assert read == counts()


def test_the_threshold_is_a_quantile_of_the_normal_scores():
    found = add_counts(AnomalyCounts(quantile=0.9), AnomalyCounts.of(SCORES[:, None], TARGET))
    metrics = metrics_of(found, [])
    assert metrics.threshold == pytest.approx(np.quantile(NORMAL, 0.9, method="inverted_cdf"), rel=0.005)
    assert metrics.precision is None
    assert set(summary(metrics)) == {"loss", "threshold", "roc_auc", "pr_auc"}
    assert metrics.score() == (-metrics.loss, -metrics.threshold)


def test_without_labels_there_are_no_areas():
    found = AnomalyCounts.of(SCORES, np.zeros(1000, np.int64)).metrics(1.0)
    assert (found.roc_auc, found.pr_auc, found.recall) == (None, None, None)
    assert AnomalyCounts().metrics().samples == 0


def test_scores_that_are_no_numbers_end_the_run():
    with pytest.raises(TrainingDiverged):
        AnomalyCounts.of(np.float32([1, np.nan]), np.array([0, 0]))


def test_an_exported_models_two_outputs_are_one_array():
    found = scored({"score": np.float32([0.5, 2]), "anomalous": np.array([False, True])})
    assert found.tolist() == [[0.5, 0], [2, 1]]
    assert found.dtype == np.float32
