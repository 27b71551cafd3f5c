"""What a canary does next, by what was measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.registry.canaries import Served, apply, judge
from shoal_core.registry.routing import Aliases, Limits, start_canary

BEGAN = datetime(2026, 11, 21, 8, tzinfo=UTC)
OLD = Served(1000, 0, 10.0)


def started(**limits):
    return start_canary(Aliases(1), 2, [5, 50, 100], 60, Limits(**limits), BEGAN.isoformat())


def verdict(its, others=OLD, seconds=61.0, **limits):
    return judge(started(**limits).canary, its, others, BEGAN + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("its", "seconds", "step", "reason"),
    [
        (Served(), 0, "wait", "needs 20 requests"),
        (Served(19, 0, 10), 600, "wait", "had 19"),
        (Served(50, 0, 10), 30, "wait", "lasts 60 s"),
        (Served(50, 0, 10), 61, "advance", "50 requests, 0 failed"),
        (Served(1, 1, None), 0, "roll back", "1 of its 1 requests failed"),
        (Served(100, 2, 10), 5, "roll back", "2 of its 100"),
        (Served(1000, 9, 10), 61, "advance", "9 failed"),
        (Served(50, 0, 21.5), 5, "roll back", "2 times"),
        (Served(50, 0, 20.9), 61, "advance", ""),
        (Served(19, 0, 500), 61, "wait", "needs 20"),
    ],
)
def test_a_step(its, seconds, step, reason):
    found = verdict(its, seconds=seconds)
    assert found.step == step
    assert reason in found.reason


def test_a_latency_of_its_own_and_none_to_compare_with():
    assert verdict(Served(50, 0, 10), max_latency_ms=9).step == "roll back"
    assert verdict(Served(50, 0, 500), others=Served(3, 0, 1.0)).step == "advance"
    assert verdict(Served(0, 0, None), min_requests=0).step == "advance"
    assert verdict(Served(0, 0, None), min_requests=0, seconds=5).step == "wait"


def test_from_the_first_step_to_production():
    state, moment = started(), BEGAN
    for expected in ("advance", "finish"):
        moment += timedelta(seconds=61)
        found = judge(state.canary, Served(50, 0, 10), OLD, moment)
        assert found.step == expected
        state = apply(state, found, moment.isoformat())
    assert (state.production, state.canary, state.served_before) == (2, None, 1)
    assert apply(state, found, "") == state


def test_back_leaves_production_where_it_is():
    state = apply(started(), verdict(Served(10, 10, None)), "")
    assert (state.production, state.canary) == (1, None)


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0, 1000), st.floats(0, 400))
def test_it_never_goes_on_with_too_many_errors_or_too_early(requests, errors, mean, seconds):
    its = Served(requests, min(errors, requests), mean if requests else None)
    found = verdict(its, seconds=seconds)
    if found.step in ("advance", "finish"):
        assert its.error_share <= 0.01
        assert seconds >= 60 and requests >= 20
        assert mean <= 2 * 10 + 1
