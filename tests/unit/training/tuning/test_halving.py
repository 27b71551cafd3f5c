"""Successive halving: what is promoted follows from the results alone, whoever is faster."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from shoal_core.training.tuning.halving import (
    Job,
    Ladder,
    Standing,
    best_trial,
    may_follow,
    members,
    next_job,
    rounds_until,
)

LADDER = Ladder(rungs=3, eta=3)


def reached(*scores: float | None) -> list[Standing]:
    """Trials with a score at the first rung; None is still running."""
    return [Standing(running=0) if score is None else Standing({0: (score, 0.0)}) for score in scores]


def search(
    ladder: Ladder, trials: int, lanes: int, order: random.Random, fails: Sequence[tuple[int, int]] = ()
) -> list[Standing]:
    """A whole search whose jobs end in a random order: the trials as they are at the end."""
    state: list[Standing] = []
    busy: dict[int, Job] = {}
    waiting = set(range(lanes))
    while True:
        for lane in sorted(waiting):
            job = next_job(ladder, state, trials)
            if job is None:
                assert may_follow(ladder, state) or all(job.rung == ladder.top for job in busy.values())
                break
            started = state[job.trial] if job.trial < len(state) else Standing()
            state[job.trial : job.trial + 1] = [replace(started, running=job.rung)]
            busy[lane] = job
            waiting.remove(lane)
        if not busy:
            return state
        lane = order.choice(sorted(busy))
        job = busy.pop(lane)
        waiting.add(lane)
        quality = random.Random(f"{job.trial}").random() + job.rung / 100
        before = replace(state[job.trial], running=None)
        if (job.trial, job.rung) in fails:
            state[job.trial] = replace(before, failed=True)
        else:
            state[job.trial] = replace(before, scores={**before.scores, job.rung: (quality, 0.0)})


def test_rungs_divide_the_rounds_of_a_trial() -> None:
    assert [LADDER.part(rung) for rung in range(3)] == [9, 3, 1]
    assert [rounds_until(10, LADDER.part(rung)) for rung in range(3)] == [2, 4, 10]
    assert [rounds_until(1, LADDER.part(rung)) for rung in range(3)] == [1, 1, 1]


def test_one_of_three_is_promoted_as_soon_as_three_have_come() -> None:
    assert next_job(LADDER, reached(0.5, 0.9), 9) == Job(2, 0)
    assert next_job(LADDER, reached(0.5, 0.9, 0.1), 9) == Job(1, 1)
    assert members(LADDER, reached(0.5, 0.9, 0.1, 0.3, 0.4, 0.8)) == [[0, 1, 2, 3, 4, 5], [1, 5], []]
    # The second best of the first three has its turn when the next three are worse.
    assert members(LADDER, reached(0.5, 0.9, 0.1, 0.3, 0.4, 0.2))[1] == [1, 0]


def test_a_promoted_trial_is_not_promoted_again_and_new_trials_go_on() -> None:
    trials = reached(0.5, 0.9, 0.1)
    trials[1] = Standing({0: (0.9, 0.0)}, running=1)
    assert next_job(LADDER, trials, 9) == Job(3, 0)
    assert next_job(LADDER, trials, 3) is None
    assert may_follow(LADDER, trials)


def test_the_highest_rung_goes_first() -> None:
    trials = reached(*[index / 10 for index in range(9)])
    assert next_job(LADDER, trials, 27) == Job(2, 1)
    for number in (2, 5, 8):
        trials[number] = Standing({0: (number / 10, 0.0), 1: (number / 10, 0.0)})
    assert next_job(LADDER, trials, 27) == Job(8, 2)


def test_a_slow_trial_holds_back_promotions_not_new_trials() -> None:
    assert next_job(LADDER, reached(None, 0.9, 0.1, 0.2), 9) == Job(4, 0)
    assert next_job(LADDER, reached(None, 0.9, 0.1, 0.2), 4) is None
    assert may_follow(LADDER, reached(None, 0.9, 0.1, 0.2))


def test_a_failed_trial_is_left_out_and_holds_nothing_back() -> None:
    trials = [Standing(failed=True), *reached(0.9, 0.1, 0.2)]
    assert next_job(LADDER, trials, 4) == Job(1, 1)
    trials[1] = Standing({0: (0.9, 0.0)}, failed=True)
    assert next_job(LADDER, trials, 4) is None


def test_equal_scores_are_told_apart_by_their_second_number_and_then_by_who_came_first() -> None:
    trials = [Standing({0: (0.5, -1.0)}), Standing({0: (0.5, -0.2)}), Standing({0: (0.5, -0.2)})]
    assert members(LADDER, trials)[1] == [1]


def test_the_best_trial_is_the_one_with_the_best_score_and_failed_ones_have_none() -> None:
    assert best_trial([]) is None
    assert best_trial([Standing(running=0), Standing({0: (0.9, 0.0)}, failed=True)]) is None
    trials = [Standing({0: (0.8, 0.0)}), Standing({0: (0.5, 0.0), 1: (0.8, 0.0)}), Standing({0: (0.7, 0.0)})]
    assert best_trial(trials) == 1
    assert best_trial([*trials, Standing({0: (0.85, 0.0)})]) == 3


@pytest.mark.parametrize("eta", [2, 3, 4])
@pytest.mark.parametrize("rungs", [1, 2, 3, 4])
def test_lanes_and_their_speed_change_nothing(eta: int, rungs: int) -> None:
    ladder, trials = Ladder(rungs, eta), 30
    alone = search(ladder, trials, 1, random.Random(0))
    counts = [sum(rung in trial.scores for trial in alone) for rung in range(rungs)]
    assert counts[0] == trials
    assert all(after == before // eta for before, after in pairwise(counts))
    for seed in range(8):
        assert search(ladder, trials, 2 + seed, random.Random(seed)) == alone


@pytest.mark.parametrize("fails", [[(0, 0)], [(3, 0), (4, 0)], [(5, 1)], [(number, 0) for number in range(20)]])
def test_neither_do_they_when_trials_fail(fails: list[tuple[int, int]]) -> None:
    alone = search(LADDER, 20, 1, random.Random(0), fails)
    for seed in range(8):
        assert search(LADDER, 20, 2 + seed, random.Random(seed), fails) == alone


def test_more_trials_go_on_where_fewer_ended() -> None:
    few, many = search(LADDER, 9, 3, random.Random(1)), search(LADDER, 30, 3, random.Random(2))
    for before, after in zip(few, many, strict=False):
        assert before.scores.items() <= after.scores.items()
