"""What is decided at the end of a round: whether the run goes on, and how fast it learns then.

A callback is a pure function of the recorded history, so a merge that is repeated decides the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from shoal_core.training.history import History, best_round

LEAST_SCALE = 1e-3
"""How far a plateau may lower the learning rate, as a share of what it was."""


@dataclass(frozen=True)
class Decision:
    """What to do after a round.

    Args:
        stop: Why the run ends here; None when it goes on.
        learning_rate_scale: What the schedule's learning rate is multiplied by in the next round.
    """

    stop: str | None = None
    learning_rate_scale: float = 1.0


class Callback(Protocol):
    """Something that decides after each round."""

    def after_round(self, history: History) -> Decision:
        """Decide from the results of all rounds up to now, the newest last; at least one."""
        ...


@dataclass(frozen=True)
class LastRound:
    """Ends the run when all its rounds are done."""

    rounds: int

    def after_round(self, history: History) -> Decision:
        """See `Callback.after_round`."""
        return Decision(f"all {self.rounds} rounds are done" if history[-1].round >= self.rounds else None)


@dataclass(frozen=True)
class EarlyStopping:
    """Ends the run when the score hasn't been better than the best for `patience` rounds after the round `since`."""

    patience: int
    split: str = "validation"
    since: int = 0

    def after_round(self, history: History) -> Decision:
        """See `Callback.after_round`."""
        stale = history[-1].round - max(best_round(history), self.since)
        if stale >= self.patience:
            return Decision(f"no better {self.split} score for {self.patience} rounds")
        return Decision()


@dataclass(frozen=True)
class ReduceOnPlateau:
    """Multiplies the learning rate by `factor` whenever the score hasn't been better for `patience` rounds.

    The count starts again with every better score and every reduction. The learning rate never falls below `least` of
    what it was.
    """

    factor: float
    patience: int
    least: float = LEAST_SCALE

    def after_round(self, history: History) -> Decision:
        """See `Callback.after_round`."""
        scale, stale, best = 1.0, 0, None
        for result in history:
            if best is None or result.score > best:
                best, stale = result.score, 0
                continue
            stale += 1
            if stale == self.patience:
                scale, stale = max(self.least, scale * self.factor), 0
        return Decision(learning_rate_scale=scale)


@dataclass(frozen=True)
class StopOnDivergence:
    """Ends the run when the training loss runs away, so that the best checkpoint is kept instead of waiting for NaN.

    A loss has run away when it rose in `rounds` rounds in a row and was in each of them more than `factor` times
    `chance`, the loss of an answer that doesn't look at its input.
    """

    chance: float
    factor: float = 10.0
    rounds: int = 2

    def after_round(self, history: History) -> Decision:
        """See `Callback.after_round`."""
        losses = [result.loss for result in history[-self.rounds - 1 :]]
        rising = all(later > earlier for earlier, later in pairwise(losses))
        away = all(loss > self.factor * self.chance for loss in losses[1:])
        if len(losses) <= self.rounds or not rising or not away:
            return Decision()
        return Decision(
            f"the training loss runs away: {losses[-1]:.4g} after {losses[0]:.4g} {self.rounds} rounds before; "
            "lower training.learning_rate"
        )


def decide(callbacks: Iterable[Callback], history: History) -> Decision:
    """What all callbacks decide together: the first reason to stop, and the product of the scales."""
    stop, scale = None, 1.0
    for callback in callbacks:
        decision = callback.after_round(history)
        stop = stop or decision.stop
        scale *= decision.learning_rate_scale
    return Decision(stop, scale)
