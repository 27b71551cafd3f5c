"""Sparse counts: merging, JSON, and the bins of floats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from shoal_core.training.tallies import Tally, TallyField, error_at, error_places, score_bins, score_bits, score_places


class Holder(BaseModel):
    tally: TallyField = Tally()


PLACES = st.lists(st.integers(0, 50), max_size=40)


@given(PLACES, PLACES, PLACES)
def test_merging_is_associative_and_commutative(one, two, three):
    a, b, c = (Tally.of(np.array(places, np.int64)) for places in (one, two, three))
    whole = Tally.of(np.array([*one, *two, *three], np.int64))
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == c.merge(b).merge(a) == whole
    assert hash(a.merge(b).merge(c)) == hash(whole)
    assert whole.total == len(one) + len(two) + len(three)
    assert whole.dense(51).tolist() == np.bincount([*one, *two, *three], minlength=51).tolist()


@given(PLACES)
def test_it_survives_json_and_python(places):
    holder = Holder(tally=Tally.of(np.array(places, np.int64)))
    assert Holder.model_validate_json(holder.model_dump_json()) == holder
    assert Holder.model_validate(holder.model_dump()) == holder
    assert Holder.model_validate(holder.model_dump(mode="json")) == holder


def test_amounts_are_counted_and_nothing_leaves_no_trace():
    tally = Tally.of(np.array([3, 1, 3]), np.array([2, 0, 5]))
    assert Holder(tally=tally).model_dump(mode="json") == {"tally": [[3, 7]]}
    assert repr(tally) == "Tally([[3, 7]])"
    assert tally != Tally() and tally != "Tally"


@pytest.mark.parametrize("bad", ['{"tally": [[1]]}', '{"tally": [[-1, 2]]}', '{"tally": [["a", 2]]}', '{"tally": 3}'])
def test_damaged_counts_are_refused(bad):
    with pytest.raises(ValidationError):
        Holder.model_validate_json(bad)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=50))
def test_error_bins_are_in_order_and_near_their_values(values):
    errors = np.sort(np.array(values))
    places = error_places(errors)
    assert (np.diff(places) >= 0).all()
    for error, place in zip(errors.tolist(), places.tolist(), strict=True):
        middle = error_at(place)
        if error < 1e-300:  # denormal numbers have fewer bits
            assert middle < 1e-299
        else:
            assert abs(middle - error) <= error / 256


def test_error_bins_at_the_ends():
    assert error_at(int(error_places(np.array([0.0]))[0])) == 0.0
    assert np.isfinite(error_at(int(error_places(np.array([1.7e308]))[0])))


@pytest.mark.parametrize(("classes", "bits"), [(2, 5), (32, 5), (33, 3), (256, 3), (257, 1), (1000, 1)])
def test_score_bins_are_in_order_within_their_range_and_symmetric(classes, bits):
    assert score_bits(classes) == bits
    p = np.unique(np.concatenate([np.linspace(0, 1, 9001), 2.0 ** -np.arange(0, 40), 1 - 2.0 ** -np.arange(1, 30)]))
    places = score_places(p, bits)
    assert (np.diff(places) >= 0).all()
    assert (places[0], places[-1]) == (0, score_bins(bits) - 1)
    off = p[p != 0.5]
    mirrored = score_bins(bits) - 1 - score_places(1 - off, bits)
    # 1 - p rounds where p is tiny, which moves it by at most one bin.
    assert np.abs(score_places(off, bits) - mirrored).max() <= 1
    inside = (p > 2.0**-20) & (p < 0.5)
    assert len(np.unique(places[inside])) > 5 * 2**bits


def test_float32_and_float64_of_the_same_number_share_a_bin():
    p = np.random.default_rng(0).uniform(size=1000).astype(np.float32)
    assert score_places(p, 5).tolist() == score_places(p.astype(np.float64), 5).tolist()
