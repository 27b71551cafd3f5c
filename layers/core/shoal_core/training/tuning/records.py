"""What a search keeps: what was asked for, what each trial has come to, and what its states say to each other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field

from shoal_core.data.canonical import canonical_json
from shoal_core.errors import BadInput, NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import TuningKeys
from shoal_core.store import ObjectStore
from shoal_core.training.tuning.halving import Job, Ladder, Score, Standing
from shoal_core.training.tuning.space import nested

MAX_TRIALS = 500
MAX_LANES = 40
DEFAULT_TRIALS = 9
DEFAULT_LANES = 3
_DIGEST_LENGTH = 8

TrialState = Literal["running", "paused", "finished", "failed"]


class Budget(Frozen):
    """When no further job is begun; what is None doesn't limit.

    `minutes` are of work on each of the lanes, by what their functions are billed, so neither a wait nor an
    interruption counts; `dollars` are what the trials cost on AWS, about. A job that is under way comes to its end, and
    the winner's last rounds, its optimisation and its evaluation come on top.
    """

    trials: int | None = Field(default=None, ge=1, le=MAX_TRIALS)
    minutes: float | None = Field(default=None, gt=0, le=100_000, allow_inf_nan=False)
    dollars: float | None = Field(default=None, gt=0, le=100_000, allow_inf_nan=False)

    @property
    def most_trials(self) -> int:
        """How many trials may be begun; with a limit of another kind as many as there can be."""
        if self.trials is not None:
            return self.trials
        return DEFAULT_TRIALS if self.minutes is None and self.dollars is None else MAX_TRIALS

    def spent(self, seconds: float, dollars: float, lanes: int) -> str | None:
        """Which limit is reached, in words; None where none is.

        Args:
            seconds: Billed seconds of all trials.
            dollars: What all trials cost.
            lanes: How many work at the same time.
        """
        if self.minutes is not None and seconds / lanes / 60 >= self.minutes:
            return f"the budget of {self.minutes:g} minutes is spent"
        if self.dollars is not None and dollars >= self.dollars:
            return f"the budget of ${self.dollars:g} is spent"
        return None


class TuningRequest(Frozen):
    """`tunings/<id>/request.json`: what was asked for, written once. `space` None is what suits the data."""

    schema_version: Literal[1] = 1
    dataset: str
    version: str
    space: dict[str, Any] | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    eta: int = Field(default=3, ge=2, le=16)
    rungs: int = Field(default=3, ge=1, le=6)
    lanes: int = Field(default=DEFAULT_LANES, ge=1, le=MAX_LANES)
    budget: Budget = Budget()

    @property
    def ladder(self) -> Ladder:
        """The rungs of the search."""
        return Ladder(self.rungs, self.eta)

    @property
    def tuning_id(self) -> str:
        """The search's id: the same request is the same search."""
        digest = hashlib.sha256(self.encode()).hexdigest()[:_DIGEST_LENGTH]
        return f"{self.dataset}-tuning-{digest}"

    def encode(self) -> bytes:
        """The canonical bytes of the request."""
        return canonical_json(self.model_dump(mode="json"))


METRICS: dict[str, tuple[str, bool]] = {
    "classification": ("accuracy", True),
    "multilabel": ("micro_f1", True),
    "regression": ("rmse", False),
    "anomaly": ("loss", False),
}
"""By task: the validation metric that trials are ranked by, and whether higher is better. It is a run's own: the one
that its best round is chosen by."""


def metric_value(task: str, score: Score) -> float:
    """The metric that a score stands for: a score is always better when it is higher."""
    return score[0] if METRICS[task][1] else -score[0]


class TuningPlan(Frozen):
    """`tunings/<id>/plan.json`: the space that trials are drawn from, and what they are ranked by."""

    schema_version: Literal[1] = 1
    space: dict[str, Any]
    baseline: bool = Field(description="whether trial 0 changes nothing")
    task: str
    split: str = Field(description="the split that trials are scored on; never the test split")


class RungResult(Frozen):
    """What a trial has come to at the end of a rung: its best round so far."""

    rung: int
    round: int
    score: Score
    metric: float


class CurvePoint(Frozen):
    """One round of a trial: training loss, and the metric that trials are ranked by."""

    round: int
    loss: float
    metric: float


class TrialFailure(Frozen):
    """Why a trial failed, and what to do."""

    stage: str
    error: str
    reason: str
    fix: str


class Trial(Frozen):
    """One trial.

    `values` are the fields of dataset.yaml that it varies, by their dotted names; `rung` the one that it trains for, or
    came to; `rounds` those that its run has in all; `seconds` are billed ones.
    """

    number: int
    run_id: str
    values: dict[str, Any]
    state: TrialState
    rung: int
    lane: int
    results: tuple[RungResult, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    recipe: str | None = None
    rounds: int | None = None
    seconds: float = 0.0
    gb_seconds: float = 0.0
    cost_usd: float = 0.0
    failure: TrialFailure | None = None

    @property
    def standing(self) -> Standing:
        """What the ladder needs to know."""
        scores = {result.rung: result.score for result in self.results}
        return Standing(scores, self.state == "failed", self.rung if self.state == "running" else None)

    @property
    def job(self) -> Job | None:
        """What is under way."""
        return Job(self.number, self.rung) if self.state == "running" else None

    def encode(self) -> str:
        """The trial as the catalog keeps it."""
        return canonical_json(self.model_dump(mode="json")).decode()


class LaneJob(Frozen):
    """A job in the states of a lane."""

    trial: int
    rung: int


def overrides_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial's run lays over dataset.yaml: what it varies; one worker of a lane, a fresh start, and a recipe."""
    overrides = nested({"training.warm_start": False, "training.script": None, **values})
    return overrides | {"workers": 1, "budget": None, "compute": "lambda"}


class Aim(Frozen):
    """Where a job begins and where its rung ends, in rounds."""

    model_config = ConfigDict(extra="ignore")

    begun: int
    until: int


class RoundReached(Frozen):
    """Where a run is: see `shoal_core.training.states.RoundState`."""

    model_config = ConfigDict(extra="ignore")

    round: int


class LaneTask(Frozen):
    """What Advance Tuning is told by a lane: what it did last, and how that ended.

    `events` are those of the lane's history so far, about; `waits` how often it has waited in a row; `aim` and `state`
    say how many rounds the job took.
    """

    model_config = ConfigDict(extra="ignore")

    tuning_id: str
    attempt: int
    lane: int
    job: LaneJob | None = None
    failure: dict[str, Any] | None = None
    events: int = 0
    waits: int = 0
    aim: Aim | None = None
    state: RoundReached | None = None

    @property
    def trained(self) -> int:
        """Rounds of the job, or one more where the run is finished."""
        return self.state.round - self.aim.begun + 1 if self.state and self.aim else 0


class EndTask(Frozen):
    """What Conclude Tuning is told: how the lanes' Map ended, where it failed as a whole."""

    model_config = ConfigDict(extra="ignore")

    tuning_id: str
    attempt: int
    failure: dict[str, Any] | None = None


def tuning_request(artifacts: ObjectStore, tuning_id: str) -> TuningRequest:
    """What was asked for. Raises `NotFound`, or `BadInput` when it can't be read."""
    key = TuningKeys(tuning_id).request
    try:
        return TuningRequest.model_validate_json(artifacts.read(key))
    except ValueError as error:
        raise BadInput(f"The request {key!r} can't be read: {error}.", "Ask for the search again.") from error


def tuning_plan(artifacts: ObjectStore, tuning_id: str) -> TuningPlan | None:
    """How a search was planned; None where it isn't yet. Raises `BadInput` when it can't be read."""
    key = TuningKeys(tuning_id).plan
    try:
        data = artifacts.read(key)
    except NotFound:
        return None
    try:
        return TuningPlan.model_validate_json(data)
    except ValueError as error:
        raise BadInput(f"The plan {key!r} can't be read: {error}.", "Delete it and resume the search.") from error
