"""Metrics of several labels against hand-worked values, and merging against the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.errors import TrainingDiverged
from shoal_core.training.metrics import RegressionCounts, add_counts, merge_counts, metrics_of, summary
from shoal_core.training.multilabel import MultilabelCounts, MultilabelMetrics
from shoal_core.training.scoring import sigmoid

NAMES = ["a", "b", "c"]
TRUTH = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], np.uint8)
ANSWERS = np.array([[0.9, 0.6, 0.1], [0.8, 0.7, 0.2], [0.5, 0.4, 0.3], [0.1, 0.2, 0.05]])


def test_metrics_by_hand():
    metrics = MultilabelCounts.of(ANSWERS, TRUTH).metrics(NAMES)
    # Label a: 2 right, 3 predicted, 2 wanted; b: 1 right, 2 predicted, 2 wanted; c: never wanted nor predicted.
    assert [entry.precision for entry in metrics.per_class] == pytest.approx([2 / 3, 1 / 2, 0])
    assert [entry.recall for entry in metrics.per_class] == pytest.approx([1, 1 / 2, 0])
    assert [entry.f1 for entry in metrics.per_class] == pytest.approx([4 / 5, 1 / 2, 0])
    assert [entry.samples for entry in metrics.per_class] == [2, 2, 0]
    assert (metrics.precision, metrics.recall, metrics.f1) == pytest.approx((7 / 12, 3 / 4, 13 / 20))
    assert (metrics.micro_precision, metrics.micro_recall) == pytest.approx((3 / 5, 3 / 4))
    assert metrics.micro_f1 == pytest.approx(2 * 3 / (5 + 4))
    assert (metrics.subset_accuracy, metrics.hamming_loss) == pytest.approx((2 / 4, 3 / 12))
    right = np.where(TRUTH, ANSWERS, 1 - ANSWERS)
    assert metrics.loss == pytest.approx(-np.log(right).mean())
    # a is ranked without a fault; of b's four pairs one is wrong; c has no sample.
    assert [entry.roc_auc for entry in metrics.per_class] == [1.0, 0.75, None]
    assert metrics.roc_auc == pytest.approx(0.875)
    assert metrics.score() == (metrics.micro_f1, -metrics.loss)


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 60), st.integers(0, 5))
def test_merging_equals_the_whole(samples, classes, cut, seed):
    random = np.random.default_rng(seed)
    answers = random.random((samples, classes)).astype(np.float32)
    truth = random.integers(0, 2, (samples, classes)).astype(np.uint8)
    parts = [MultilabelCounts.of(answers[part], truth[part]) for part in (slice(cut, None), slice(cut))]
    whole = MultilabelCounts.of(answers, truth)
    assert merge_counts(parts) == add_counts(whole, MultilabelCounts.empty(classes)) == whole
    assert MultilabelCounts.model_validate_json(whole.model_dump_json()) == whole
    names = [str(label) for label in range(classes)]
    metrics = metrics_of(whole, names)
    assert isinstance(metrics, MultilabelMetrics)
    assert metrics.subset_accuracy == pytest.approx(((answers >= 0.5) == truth).all(axis=1).mean())
    assert metrics.hamming_loss == pytest.approx(((answers >= 0.5) != truth).mean())


def test_no_samples_give_zeros():
    metrics = MultilabelCounts.empty(2).metrics(["a", "b"])
    assert (metrics.samples, metrics.loss, metrics.micro_f1, metrics.roc_auc) == (0, 0.0, 0.0, None)
    assert "roc_auc" not in summary(metrics) and summary(metrics)["subset_accuracy"] == 0.0


def test_certain_wrong_answers_cost_a_finite_loss():
    metrics = MultilabelCounts.of(np.array([[0.0, 1.0]]), np.array([[1, 0]])).metrics(["a", "b"])
    assert math.isfinite(metrics.loss) and metrics.loss > 80


def test_answers_that_are_not_numbers_and_other_tasks_are_refused():
    with pytest.raises(TrainingDiverged):
        MultilabelCounts.of(np.array([[np.nan]]), np.array([[1]]))
    with pytest.raises(TypeError, match="multilabel"):
        add_counts(MultilabelCounts.empty(1), RegressionCounts())


def test_sigmoid_is_exact_at_both_ends():
    np.testing.assert_allclose(sigmoid(np.float32([-800, -2, 0, 2, 800])), [0, 0.1192029, 0.5, 0.8807971, 1], rtol=1e-6)
