"""What the catalog holds of a search, what a decision changes of it, and what the search needs of the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from shoal_core.training.tuning.halving import Standing
from shoal_core.training.tuning.records import Budget, Trial, TrialFailure, TuningRequest

Status = Literal["running", "stopping", "stopped", "succeeded", "failed"]


@dataclass(frozen=True)
class Usage:
    """What a run used: billed seconds, memory-time, and about how many dollars on AWS."""

    seconds: float
    gb_seconds: float
    cost_usd: float


@dataclass(frozen=True)
class RunEnd:
    """How a run stands: `running`, `paused`, `succeeded` or `failed`, and why it failed."""

    status: str
    failure: TrialFailure | None = None


@dataclass(frozen=True)
class Book:
    """One state of a search.

    Attributes:
        revision: Of this state; a commit names it.
        status: Of the search.
        attempt: Which of its executions it is in, from 1.
        lanes: How many work at the same time.
        budget: What limits it.
        trials: All that were begun, by number.
        winner: The trial that is trained to its end; None while the search goes on.
        since_winner: Seconds since it was chosen.
        lost: Why lanes of this attempt ended, by lane.
    """

    revision: int
    status: Status
    attempt: int
    lanes: int
    budget: Budget
    trials: tuple[Trial, ...] = ()
    winner: int | None = None
    since_winner: float = 0.0
    lost: Mapping[int, TrialFailure] = field(default_factory=dict)

    @property
    def standings(self) -> list[Standing]:
        """What the ladder needs to know of every trial."""
        return [trial.standing for trial in self.trials]

    def spent(self) -> str | None:
        """Which limit of the budget is reached, in words; None where none is."""
        seconds = sum(trial.seconds for trial in self.trials)
        return self.budget.spent(seconds, sum(trial.cost_usd for trial in self.trials), self.lanes)

    def changed(self, trials: Iterable[Trial]) -> Book:
        """The same with some trials changed or new."""
        known = {trial.number: trial for trial in self.trials} | {trial.number: trial for trial in trials}
        return replace(self, trials=tuple(known[number] for number in sorted(known)))

    def given_up(self) -> list[Trial]:
        """What lanes that were lost had under way, with what ended the lane."""
        return [
            trial.model_copy(update={"failure": self.lost[trial.lane]})
            for trial in self.trials
            if trial.state == "running" and trial.lane in self.lost
        ]


@dataclass(frozen=True)
class Change:
    """What a decision changes: trials, and the search's own status, winner and why it ended (None: as they are)."""

    trials: tuple[Trial, ...] = ()
    status: Status | None = None
    winner: int | None = None
    reason: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self == Change()


class TuningRecords(Protocol):
    """What a search needs of the catalog."""

    def book(self, tuning_id: str) -> Book:
        """See `shoal_core.aws.tuning_catalog.TuningCatalog.book`."""

    def commit(self, tuning_id: str, request: TuningRequest, book: Book, change: Change) -> bool:
        """See `shoal_core.aws.tuning_catalog.TuningCatalog.commit`."""

    def usage(self, run_id: str) -> Usage:
        """See `shoal_core.aws.tuning_catalog.TuningCatalog.usage`."""

    def run_end(self, run_id: str) -> RunEnd:
        """See `shoal_core.aws.tuning_catalog.TuningCatalog.run_end`."""
