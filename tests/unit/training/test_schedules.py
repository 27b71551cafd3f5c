"""The learning rate's schedule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.training.schedules import learning_rate_at


def rates(warmup: int, total: int) -> list[float]:
    return [learning_rate_at(step, peak=0.1, warmup_steps=warmup, total_steps=total) for step in range(total)]


def test_it_warms_up_then_falls_to_nearly_nothing():
    schedule = rates(10, 100)
    assert schedule[0] == pytest.approx(0.01)
    assert schedule[9] == schedule[10] == 0.1
    assert schedule[55] == pytest.approx(0.05)
    assert 0 < schedule[99] < 1e-4


@given(st.integers(1, 50), st.integers(1, 200))
def test_every_step_learns_at_most_the_peak(warmup, total):
    schedule = rates(warmup, total)
    assert all(0 < rate <= 0.1 for rate in schedule)
    assert sorted(schedule[:warmup]) == schedule[:warmup]
    assert sorted(schedule[warmup:], reverse=True) == schedule[warmup:]
