"""Areas, calibration and quantiles against sample-by-sample formulas, and the bounds that are stated for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.training.curves import (
    Area,
    calibration_error,
    error_quantile,
    mean_area,
    pr_area,
    roc_area,
)
from shoal_core.training.tallies import Tally, error_places, score_bins, score_places

SAMPLES = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=2, max_size=60)


def binned(scores, truth, bits=5):
    places, size = score_places(scores, bits), score_bins(bits)
    return np.bincount(places[truth], minlength=size), np.bincount(places[~truth], minlength=size)


def exact_roc(scores, truth):
    pairs = np.sign(scores[truth][:, None] - scores[~truth][None, :])
    return (pairs + 1).mean() / 2


def exact_pr(scores, truth):
    """Precision at the threshold of each distinct score, weighted by the recall that it gains."""
    area = 0.0
    for threshold in np.unique(scores):
        chosen = scores >= threshold
        area += truth[chosen].mean() * (truth & (scores == threshold)).sum() / truth.sum()
    return area


@pytest.mark.parametrize("bits", [1, 3, 5])
@given(samples=SAMPLES)
def test_the_exact_area_is_within_the_stated_error(bits, samples):
    scores = np.array([score for score, _ in samples], np.float64)
    truth = np.array([positive for _, positive in samples])
    roc, pr = roc_area(*binned(scores, truth, bits)), pr_area(*binned(scores, truth, bits))
    if truth.all() or not truth.any():
        assert roc is None and pr is None
        return
    assert roc is not None and pr is not None
    assert abs(roc.value - exact_roc(scores, truth)) <= roc.error + 1e-12
    assert abs(pr.value - exact_pr(scores, truth)) <= pr.error + 1e-12


def test_many_samples_leave_little_error():
    generator = np.random.default_rng(0)
    truth = generator.uniform(size=20_000) < 0.3
    scores = 1 / (1 + np.exp(-generator.normal(loc=2.0 * truth - 1, scale=1.5)))
    roc, pr = roc_area(*binned(scores, truth)), pr_area(*binned(scores, truth))
    assert roc is not None and pr is not None
    assert roc.error < 0.005 and pr.error < 0.01
    assert roc.value == pytest.approx(exact_roc(scores, truth), abs=1e-4)
    assert pr.value == pytest.approx(exact_pr(scores, truth), abs=2e-3)


def test_areas_by_hand():
    # From the lowest bin up: a negative, a positive, a negative, two positives.
    positive, negative = np.array([0, 1, 0, 2]), np.array([1, 0, 1, 0])
    assert roc_area(positive, negative) == Area(5 / 6, 0.0)
    assert pr_area(positive, negative) == Area(pytest.approx((2 * 1 + 3 / 4) / 3), 0.0)
    # All in one bin: nothing is known about their order.
    roc, pr = roc_area(np.array([2]), np.array([2])), pr_area(np.array([2]), np.array([2]))
    assert roc == Area(0.5, 0.5)
    assert pr == Area(0.5, pytest.approx(0.5))


def test_the_mean_of_areas():
    assert mean_area([Area(0.5, 0.1), Area(1.0, 0.0)]) == Area(0.75, 0.05)
    assert mean_area([]) is None


def test_calibration_by_hand():
    # Ten answers at 0.8, of which six are right; five at 1.0, all right.
    error = calibration_error(np.array([10, 5]), np.array([6, 5]), np.array([8.0, 5.0]))
    assert error == pytest.approx(2 / 15)
    assert calibration_error(np.array([0]), np.array([0]), np.array([0.0])) == 0.0


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_are_within_their_bound(values, share):
    errors = np.sort(np.array(values, np.float64))
    exact = float(np.quantile(errors, share, method="inverted_cdf"))
    found = error_quantile(Tally.of(error_places(errors)), share)
    assert abs(found - exact) <= exact / 256


def test_the_quantile_of_nothing_is_zero():
    assert error_quantile(Tally(), 0.5) == 0.0
