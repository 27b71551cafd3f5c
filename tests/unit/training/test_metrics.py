"""Metrics against hand-worked values, and merging against the whole."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.errors import TrainingDiverged
from shoal_core.training.exact_sums import ExactSum
from shoal_core.training.metrics import (
    ClassificationCounts,
    RegressionCounts,
    add_counts,
    merge_counts,
    summary,
)

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def counts_of(truth: list[int], predicted: list[int], classes: int) -> ClassificationCounts:
    return ClassificationCounts.of(np.eye(classes)[predicted], np.array(truth, np.int64))


@given(st.lists(st.floats(-1e300, 1e300)), st.integers(0, 20))
def test_exact_sum_is_exact_and_canonical_however_it_is_cut(values, cut):
    whole = ExactSum.of(values)
    merged = ExactSum.of(values[cut:]).merge(ExactSum.of(values[:cut]))
    assert merged == whole
    assert whole.exact() == sum((Fraction(value) for value in values), Fraction(0))
    assert whole.value() == math.fsum(values)


def test_classification_metrics_by_hand():
    counts = counts_of([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 1], 3)
    metrics = counts.metrics(["a", "b", "c"])
    assert metrics.confusion_matrix == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert metrics.samples == 6
    assert metrics.accuracy == metrics.micro_f1 == 3 / 6
    assert [entry.precision for entry in metrics.per_class] == [2 / 3, 1 / 3, 0.0]
    assert [entry.recall for entry in metrics.per_class] == [2 / 3, 1 / 2, 0.0]
    assert [entry.f1 for entry in metrics.per_class] == pytest.approx([2 / 3, 2 / 5, 0.0])
    assert metrics.precision == pytest.approx(1 / 3)
    assert metrics.recall == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert metrics.f1 == pytest.approx((2 / 3 + 2 / 5) / 3)
    assert [entry.samples for entry in metrics.per_class] == [3, 2, 1]


def test_a_class_neither_seen_nor_predicted_stays_out_of_the_averages():
    metrics = counts_of([0, 1], [0, 1], 3).metrics(["a", "b", "c"])
    assert (metrics.precision, metrics.recall, metrics.f1) == (1.0, 1.0, 1.0)


def test_no_samples_give_zeros():
    assert set(summary(ClassificationCounts.empty(2).metrics(["a", "b"])).values()) == {0.0}
    assert set(summary(RegressionCounts().metrics()).values()) == {0.0}


def test_cross_entropy_is_the_mean_and_bounded():
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0]], np.float32)
    metrics = ClassificationCounts.of(probabilities, np.array([0, 1])).metrics(["a", "b"])
    assert metrics.loss == pytest.approx((math.log(2) - math.log(np.finfo(np.float32).tiny)) / 2)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.floats(0.015625, 1, width=32), min_size=3, max_size=3)),
             min_size=1, max_size=30),
    st.sets(st.integers(1, 29)),
)  # fmt: skip
def test_classification_merging_over_any_chunking_equals_the_whole(samples, cuts):
    target = np.array([truth for truth, _ in samples], np.int64)
    probabilities = np.array([row for _, row in samples])
    edges = [0, *sorted(cut for cut in cuts if cut < len(samples)), len(samples)]
    parts = [ClassificationCounts.of(probabilities[start:stop], target[start:stop]) for start, stop in pairwise(edges)]
    whole = ClassificationCounts.of(probabilities, target)
    assert merge_counts(parts) == whole
    assert merge_counts(reversed(parts)) == whole


@given(
    st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=30),
    st.sets(st.integers(1, 29)),
)
def test_regression_merging_over_any_chunking_equals_the_whole(samples, cuts):
    prediction, target = np.array(samples, np.float32).T
    edges = [0, *sorted(cut for cut in cuts if cut < len(samples)), len(samples)]
    parts = [RegressionCounts.of(prediction[start:stop], target[start:stop]) for start, stop in pairwise(edges)]
    whole = RegressionCounts.of(prediction, target)
    assert merge_counts(parts) == whole
    assert merge_counts(reversed(parts)) == whole


def test_counts_survive_json():
    counts = ClassificationCounts.of(np.array([[0.1, 0.9], [0.7, 0.3]]), np.array([1, 1]))
    assert ClassificationCounts.model_validate_json(counts.model_dump_json()) == counts
    sums = RegressionCounts.of(np.array([0.1, 0.2]), np.array([0.3, 1e30]))
    assert RegressionCounts.model_validate_json(sums.model_dump_json()) == sums


def test_regression_metrics_by_hand():
    metrics = RegressionCounts.of(np.array([[2.0], [5.0], [4.0]]), np.array([1.0, 5.0, 6.0])).metrics()
    assert metrics.mae == pytest.approx(1.0)
    assert metrics.rmse == pytest.approx(math.sqrt(5 / 3))
    assert metrics.r2 == pytest.approx(1 - 5 / 14)


def test_r2_survives_a_target_far_from_zero():
    target = np.array([1e7, 1e7 + 1, 1e7 + 2], np.float32)
    prediction = target.astype(np.float64) + np.array([0.5, 0.0, -0.5])
    assert RegressionCounts.of(prediction, target).metrics().r2 == 1 - 0.5 / 2


def test_r2_of_a_constant_target():
    constant = np.full(4, 3.0)
    assert RegressionCounts.of(constant, constant).metrics().r2 == 1.0
    assert RegressionCounts.of(constant + 1, constant).metrics().r2 == 0.0


def test_scores_order_models():
    better = counts_of([0, 1, 1], [0, 1, 1], 2).metrics(["a", "b"])
    worse = counts_of([0, 1, 1], [0, 1, 0], 2).metrics(["a", "b"])
    assert better.score() > worse.score()
    unsure = ClassificationCounts.of(np.array([[0.6, 0.4]]), np.array([0])).metrics(["a", "b"])
    sure = ClassificationCounts.of(np.array([[0.9, 0.1]]), np.array([0])).metrics(["a", "b"])
    assert sure.accuracy == unsure.accuracy and sure.score() > unsure.score()
    near = RegressionCounts.of(np.array([1.1]), np.array([1.0])).metrics()
    far = RegressionCounts.of(np.array([2.0]), np.array([1.0])).metrics()
    assert near.score() > far.score()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_not_finite_are_refused(bad):
    with pytest.raises(TrainingDiverged, match="NaN or infinite"):
        RegressionCounts.of(np.array([bad]), np.array([1.0]))
    with pytest.raises(TrainingDiverged, match="NaN or infinite"):
        ClassificationCounts.of(np.array([[bad, 0.0]]), np.array([0]))


def test_counts_of_different_tasks_do_not_merge():
    with pytest.raises(TypeError, match="regression"):
        add_counts(ClassificationCounts.empty(2), RegressionCounts())


def probable(samples: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that lean towards the truth: float32 [N, C], and the truth int64 [N]."""
    generator = np.random.default_rng(seed)
    target = generator.integers(0, classes, samples)
    logits = generator.normal(size=(samples, classes)) + 1.5 * np.eye(classes)[target]
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32), target


def roc_by_pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    return float((np.sign(scores[positive][:, None] - scores[~positive][None, :]).mean() + 1) / 2)


def test_areas_of_two_classes_are_those_of_the_second():
    probabilities, target = probable(500, 2)
    metrics = ClassificationCounts.of(probabilities, target).metrics(["a", "b"])
    assert metrics.roc_auc is not None and metrics.roc_auc_error is not None
    assert metrics.roc_auc == metrics.per_class[1].roc_auc
    assert metrics.pr_auc == metrics.per_class[1].pr_auc
    assert abs(metrics.roc_auc - roc_by_pairs(probabilities[:, 1], target == 1)) <= metrics.roc_auc_error < 0.01


@pytest.mark.parametrize("classes", [3, 40])
def test_areas_of_many_classes_are_means_one_vs_rest(classes):
    probabilities, target = probable(600, classes)
    metrics = ClassificationCounts.of(probabilities, target).metrics([str(index) for index in range(classes)])
    exact = [roc_by_pairs(probabilities[:, index], target == index) for index in range(classes)]
    assert metrics.roc_auc is not None and metrics.roc_auc_error is not None
    assert abs(metrics.roc_auc - np.mean(exact)) <= metrics.roc_auc_error < 0.03
    assert metrics.roc_auc == pytest.approx(np.mean([entry.roc_auc for entry in metrics.per_class]))
    assert metrics.pr_auc == pytest.approx(np.mean([entry.pr_auc for entry in metrics.per_class]))


def test_a_class_without_samples_has_no_area_and_stays_out_of_the_mean():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    metrics = ClassificationCounts.of(probabilities, np.array([0, 1, 0])).metrics(["a", "b", "c"])
    assert [entry.roc_auc for entry in metrics.per_class] == [1.0, 1.0, None]
    assert (metrics.roc_auc, metrics.pr_auc) == (1.0, 1.0)
    only = ClassificationCounts.of(probabilities, np.array([0, 0, 0])).metrics(["a", "b", "c"])
    assert (only.roc_auc, only.roc_auc_error, only.pr_auc) == (None, None, None)
    assert "roc_auc" not in summary(only)


@pytest.mark.parametrize(("classes", "shown"), [(3, set()), (4, {3}), (5, {3}), (6, {3, 5})])
def test_top_k_accuracy(classes, shown):
    probabilities, target = probable(400, classes)
    metrics = ClassificationCounts.of(probabilities, target).metrics([str(index) for index in range(classes)])
    ranks = (-probabilities).argsort(axis=1, kind="stable")
    for k, found in ((3, metrics.top_3_accuracy), (5, metrics.top_5_accuracy)):
        expected = (ranks[:, :k] == target[:, None]).any(axis=1).mean() if k in shown else None
        assert found == (pytest.approx(expected) if expected is not None else None)
        assert (f"top_{k}_accuracy" in summary(metrics)) == (k in shown)


def test_ties_for_the_top_go_to_the_first_classes():
    even = np.full((4, 4), 0.25)
    metrics = ClassificationCounts.of(even, np.array([0, 0, 1, 3])).metrics(list("abcd"))
    assert (metrics.accuracy, metrics.top_3_accuracy) == (0.5, 0.75)


def test_calibration_error_by_its_definition():
    probabilities, target = probable(700, 4)
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == target
    expected = 0.0
    for low in np.arange(15) / 15:
        chosen = (confidence > low) & (confidence <= low + 1 / 15 + 1e-12)
        if chosen.any():
            expected += chosen.mean() * abs(right[chosen].mean() - confidence[chosen].mean())
    metrics = ClassificationCounts.of(probabilities, target).metrics(list("abcd"))
    assert metrics.calibration_error == pytest.approx(expected, abs=1e-6)
    sure = ClassificationCounts.of(np.eye(2)[[0, 1, 1]], np.array([0, 1, 1])).metrics(["a", "b"])
    assert sure.calibration_error == 0.0


def test_quantiles_of_absolute_errors():
    generator = np.random.default_rng(0)
    target = generator.normal(1000, 50, 3000).astype(np.float32)
    prediction = target + generator.standard_t(3, 3000)
    metrics = RegressionCounts.of(prediction, target).metrics()
    errors = np.abs(prediction - target.astype(np.float64))
    for share in (0.5, 0.9, 0.95, 0.99):
        exact = np.quantile(errors, share, method="inverted_cdf")
        assert metrics.absolute_error_quantiles[str(share)] == pytest.approx(exact, rel=1 / 256)
    assert metrics.median_absolute_error == metrics.absolute_error_quantiles["0.5"]
    perfect = RegressionCounts.of(target, target).metrics()
    assert set(perfect.absolute_error_quantiles.values()) == {0.0}


@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.sets(st.integers(1, 79), max_size=8))
def test_every_metric_is_the_same_bytes_whatever_the_sharding(seed, classes, cuts):
    probabilities, target = probable(80, classes, seed)
    labels = [str(index) for index in range(classes)]
    edges = [0, *sorted(cuts), 80]
    parts = [ClassificationCounts.of(probabilities[a:b], target[a:b]) for a, b in pairwise(edges)]
    whole = ClassificationCounts.of(probabilities, target).metrics(labels).model_dump_json()
    sent = [ClassificationCounts.model_validate_json(part.model_dump_json()) for part in reversed(parts)]
    merged = merge_counts(sent)
    assert isinstance(merged, ClassificationCounts)
    assert merged.metrics(labels).model_dump_json() == whole


def test_metrics_of_before_are_read():
    old = {"confusion": (3 * np.eye(4, dtype=int)).tolist(), "loss": {"parts": [1.5]}}
    metrics = ClassificationCounts.model_validate(old).metrics(list("abcd"))
    assert (metrics.accuracy, metrics.roc_auc, metrics.calibration_error, metrics.top_3_accuracy) == (
        1,
        None,
        None,
        None,
    )
