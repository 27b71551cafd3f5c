"""How a run has done so far: one result per round, from which every decision follows."""

from __future__ import annotations

from collections.abc import Sequence

from shoal_core.frozen import Frozen
from shoal_core.training.class_metrics import Score


class RoundResult(Frozen):
    """One round: mean training loss, and the validation score (higher is better)."""

    round: int
    loss: float
    score: Score


History = Sequence[RoundResult]
"""The results of rounds 1, 2, ..., in order."""


def best_round(history: History) -> int:
    """The round with the best score, the first one of equals; 0 when there is none."""
    best: RoundResult | None = None
    for result in history:
        if best is None or result.score > best.score:
            best = result
    return best.round if best else 0
