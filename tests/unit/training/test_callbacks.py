"""What each callback decides on recorded curves."""

from __future__ import annotations

import math

import pytest

from shoal_core.training.callbacks import (
    Decision,
    EarlyStopping,
    LastRound,
    ReduceOnPlateau,
    StopOnDivergence,
    decide,
)
from shoal_core.training.checkpoints import Progress
from shoal_core.training.history import RoundResult, best_round

# Accuracy and validation loss by round: of a run that converges, then overfits.
OVERFITS = [(0.50, 1.0), (0.70, 0.7), (0.80, 0.5), (0.85, 0.45), (0.85, 0.45), (0.84, 0.5), (0.85, 0.46), (0.83, 0.6)]
IMPROVES = [(0.1 * round_, 1.0) for round_ in range(1, 9)]
# The same accuracy for ever: ties are broken by the loss.
CREEPS = [(0.9, 0.5 - 0.01 * round_) for round_ in range(8)]


def recorded(scores, losses=None) -> list[RoundResult]:
    losses = losses or [1.0] * len(scores)
    return [
        RoundResult(round=round_, loss=loss, score=(accuracy, -validation_loss))
        for round_, ((accuracy, validation_loss), loss) in enumerate(zip(scores, losses, strict=True), 1)
    ]


def curve(*losses: float) -> list[RoundResult]:
    return recorded([(0.5, 1.0)] * len(losses), list(losses))


def decisions(callback, history) -> list[Decision]:
    """After each round, as the merges see it."""
    return [callback.after_round(history[:count]) for count in range(1, len(history) + 1)]


def first_stop(callback, history) -> int | None:
    return next((round_ for round_, decision in enumerate(decisions(callback, history), 1) if decision.stop), None)


def test_the_last_round_ends_the_run():
    history = recorded(IMPROVES)
    assert first_stop(LastRound(5), history) == 5
    assert LastRound(5).after_round(history[:5]).stop == "all 5 rounds are done"
    assert first_stop(LastRound(9), history) is None


@pytest.mark.parametrize(
    ("scores", "patience", "stops"),
    [(OVERFITS, 1, 5), (OVERFITS, 2, 6), (OVERFITS, 4, 8), (OVERFITS, 5, None), (IMPROVES, 1, None), (CREEPS, 1, None)],
)
def test_early_stopping(scores, patience, stops):
    assert first_stop(EarlyStopping(patience), recorded(scores)) == stops


def test_early_stopping_says_why():
    decision = EarlyStopping(2, "train").after_round(recorded(OVERFITS)[:6])
    assert decision == Decision("no better train score for 2 rounds")


@pytest.mark.parametrize("scores", [OVERFITS, IMPROVES, CREEPS])
def test_the_best_round_is_the_checkpoints(scores):
    history, progress = recorded(scores), Progress()
    for result in history:
        progress = progress.after(result.round, result.score)
        assert best_round(history[: result.round]) == progress.best_round
    assert best_round([]) == 0


@pytest.mark.parametrize(
    ("scores", "patience", "scales"),
    [
        (OVERFITS, 2, [1, 1, 1, 1, 1, 0.5, 0.5, 0.25]),
        (OVERFITS, 1, [1, 1, 1, 1, 0.5, 0.25, 0.125, 0.0625]),
        (OVERFITS, 3, [1, 1, 1, 1, 1, 1, 0.5, 0.5]),
        (IMPROVES, 1, [1] * 8),
    ],
)
def test_reduce_on_plateau(scores, patience, scales):
    found = decisions(ReduceOnPlateau(0.5, patience), recorded(scores))
    assert [decision.learning_rate_scale for decision in found] == scales
    assert all(decision.stop is None for decision in found)


def test_a_better_score_ends_the_plateau_but_keeps_the_reduction():
    scores = [(0.5, 1.0), (0.4, 1.0), (0.4, 1.0), (0.6, 1.0), (0.5, 1.0), (0.5, 1.0)]
    found = decisions(ReduceOnPlateau(0.1, 2), recorded(scores))
    assert [decision.learning_rate_scale for decision in found] == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.01])


def test_a_plateau_never_lowers_the_rate_to_nothing():
    scale = ReduceOnPlateau(0.1, 1).after_round(recorded([(0.5, 1.0)] * 40)).learning_rate_scale
    assert scale == 1e-3


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ((1.0, 0.8, 0.6, 0.5), None),
        ((1.0, 2.0, 50.0, 900.0), 4),
        ((50.0, 900.0, 1e9), 3),
        # High, but it comes down again: a bad start.
        ((900.0, 100.0, 30.0, 5.0, 1.0), None),
        ((0.5, 40.0, 35.0, 60.0, 50.0), None),
        # It rises, but a guess isn't much better.
        ((0.1, 0.5, 2.0, 9.0), None),
        ((30.0, 40.0), None),
    ],
)
def test_stop_on_divergence(losses, stops):
    assert first_stop(StopOnDivergence(chance=1.0), curve(*losses)) == stops


def test_stop_on_divergence_knows_how_hard_the_task_is():
    losses = (4.0, 12.0, 15.0)
    assert first_stop(StopOnDivergence(chance=math.log(3)), curve(*losses)) == 3
    assert first_stop(StopOnDivergence(chance=math.log(1000)), curve(*losses)) is None


def test_stop_on_divergence_says_what_happened():
    reason = StopOnDivergence(1.0).after_round(curve(1.0, 50.0, 900.0)).stop
    assert reason == "the training loss runs away: 900 after 1 2 rounds before; lower training.learning_rate"


def test_callbacks_decide_together():
    history = recorded(OVERFITS)
    callbacks = [LastRound(8), EarlyStopping(2), ReduceOnPlateau(0.5, 2), ReduceOnPlateau(0.1, 2)]
    assert decide(callbacks, history[:5]) == Decision()
    assert decide(callbacks, history[:6]) == Decision("no better validation score for 2 rounds", 0.05)
    assert decide(callbacks, history).stop == "all 8 rounds are done"
    assert decide([], history) == Decision()


def test_the_same_history_decides_the_same():
    history = recorded(OVERFITS)
    callback = ReduceOnPlateau(0.5, 1)
    assert decisions(callback, history) == decisions(callback, history)
