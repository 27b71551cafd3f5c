"""Which trial trains on: asynchronous successive halving, with results counted in the order of the trials.

A trial trains up to its first rung, a small part of its rounds, and pauses there. After every `eta` results of a rung
the best trial that is left there is promoted: it trains on to the next rung. Nobody waits for a rung to fill up
(L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934).

The paper counts results as they come in, so its promotions depend on who is faster, and a late good result makes them
more than one of `eta`. Here a result counts when those of all trials before it in the rung are there, too: what is
promoted follows from the results alone, whatever the number of lanes, their speed, or the interruptions. A slow trial
holds back the promotions after it, never the start of new ones.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Score = tuple[float, float]
"""Higher is better, compared element by element; see `shoal_core.training.class_metrics.Score`."""


@dataclass(frozen=True)
class Ladder:
    """The rungs of a search.

    Args:
        rungs: How many; the last one is the end of a trial's rounds.
        eta: One of so many trials is promoted, and a rung takes so many times the rounds of the one before.
    """

    rungs: int
    eta: int

    @property
    def top(self) -> int:
        """The last rung."""
        return self.rungs - 1

    def part(self, rung: int) -> int:
        """A trial's rounds are divided by this number, to say where a rung ends."""
        return int(self.eta ** (self.top - rung))


def rounds_until(rounds: int, part: int) -> int:
    """The round after which a rung ends: one of `part` parts of a trial's rounds, at least one round."""
    return max(1, math.ceil(rounds / part))


@dataclass(frozen=True)
class Standing:
    """What is known of a trial.

    Attributes:
        scores: Of the rungs that it has reached, from the first one on.
        failed: Whether it ended in a failure; what it reached before counts.
        running: The rung that it trains for now; None where it doesn't.
    """

    scores: Mapping[int, Score] = field(default_factory=dict)
    failed: bool = False
    running: int | None = None


@dataclass(frozen=True, order=True)
class Job:
    """Train a trial up to the end of a rung; both are counted from 0."""

    trial: int
    rung: int


def members(ladder: Ladder, trials: Sequence[Standing]) -> list[list[int]]:
    """By rung: the trials that belong there, in the order in which they came.

    More results only ever add to the ends of these lists.

    Args:
        ladder: The search's rungs.
        trials: Every trial that was started, by its number.
    """
    found = [list(range(len(trials)))]
    for rung in range(ladder.top):
        found.append(_promoted(ladder, rung, found[rung], trials))
    return found


def _promoted(ladder: Ladder, rung: int, entered: Sequence[int], trials: Sequence[Standing]) -> list[int]:
    """After every `eta` results the best trial that wasn't promoted before: it is among the best one of `eta`, too."""
    waiting: list[tuple[float, float, int]] = []
    chosen: list[int] = []
    results = 0
    for number in entered:
        score = trials[number].scores.get(rung)
        if score is None:
            if trials[number].failed:
                continue
            break
        bisect.insort(waiting, (-score[0], -score[1], number))
        results += 1
        if results % ladder.eta == 0:
            chosen.append(waiting.pop(0)[2])
    return chosen


def next_job(ladder: Ladder, trials: Sequence[Standing], most: int) -> Job | None:
    """What to do next: a promotion to the highest rung there is, else a new trial; None where there is neither.

    Args:
        ladder: The search's rungs.
        trials: Every trial that was started, by its number.
        most: How many trials may be started in all.
    """
    rungs = members(ladder, trials)
    for rung in range(ladder.top, -1, -1):
        for number in rungs[rung]:
            trial = trials[number]
            if rung not in trial.scores and not trial.failed and trial.running is None:
                return Job(number, rung)
    return Job(len(trials), 0) if len(trials) < most else None


def may_follow(ladder: Ladder, trials: Sequence[Standing]) -> bool:
    """Whether the end of a job that is under way may make another one possible."""
    return any(trial.running is not None and trial.running < ladder.top for trial in trials)


def best_trial(trials: Sequence[Standing]) -> int | None:
    """The trial with the best score so far, of equals the one that trained for longer, then the first; None of none.

    Failed trials don't count: there is no model of theirs to be had.
    """
    ranked = [
        (trial.scores[max(trial.scores)], max(trial.scores), -number)
        for number, trial in enumerate(trials)
        if trial.scores and not trial.failed
    ]
    return -max(ranked)[2] if ranked else None
