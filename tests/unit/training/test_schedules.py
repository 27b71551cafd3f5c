"""The learning rate's schedule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.config_types import Schedule
from shoal_core.training.schedules import learning_rate_at


def rates(warmup: int, total: int) -> list[float]:
    return [learning_rate_at(step, peak=0.1, warmup_steps=warmup, total_steps=total) for step in range(total)]


def after_warmup(schedule: Schedule, **arguments: float) -> list[float]:
    return [
        learning_rate_at(step, peak=0.8, warmup_steps=2, total_steps=12, schedule=schedule, **arguments)
        for step in range(12)
    ]


def test_it_warms_up_then_falls_to_nearly_nothing():
    schedule = rates(10, 100)
    assert schedule[0] == pytest.approx(0.01)
    assert schedule[9] == schedule[10] == 0.1
    assert schedule[55] == pytest.approx(0.05)
    assert 0 < schedule[99] < 1e-4


def test_steps_divide_the_rate_by_the_round():
    schedule = after_warmup("step", decay_factor=0.5, decay_steps=4)
    assert schedule == [0.4, 0.8, 0.8, 0.8, *[0.4] * 4, *[0.2] * 4]


@pytest.mark.parametrize("kind", ["constant", "plateau"])
def test_a_constant_rate_only_warms_up(kind):
    assert after_warmup(kind) == [0.4, *[0.8] * 11]


def test_without_warmup_the_first_step_is_at_the_peak():
    for kind in ("cosine", "step", "constant", "plateau"):
        assert learning_rate_at(0, peak=0.8, warmup_steps=0, total_steps=5, schedule=kind) == 0.8


@given(st.integers(1, 50), st.integers(1, 200))
def test_every_step_learns_at_most_the_peak(warmup, total):
    schedule = rates(warmup, total)
    assert all(0 < rate <= 0.1 for rate in schedule)
    assert sorted(schedule[:warmup]) == schedule[:warmup]
    assert sorted(schedule[warmup:], reverse=True) == schedule[warmup:]
