"""Searches as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from shoal_core.errors import NotFound
from shoal_core.frozen import Frozen
from shoal_core.registry.pricing import STATE_TRANSITION
from shoal_core.registry.records import Failure, ModelReference, StageUsage
from shoal_core.registry.views import failure_view, seconds_between, stage_view
from shoal_core.training.tuning.halving import best_trial, members
from shoal_core.training.tuning.records import METRICS, Budget, Trial, TuningPlan, TuningRequest

Item = Mapping[str, Any]
# A lane's Advance and choice; the states around the lanes are few.
_TRANSITIONS = 2
STAGES = {"Plan Tuning": "planning", "Advance Tuning": "searching", "Conclude Tuning": "finishing"}


class TuningWinner(Frozen):
    """The best trial, whose run is trained to its end and registered."""

    trial: int
    run_id: str
    status: str = Field(description="of its run")
    metrics: dict[str, Any] = Field(
        default_factory=dict, description="on the test split, which no other trial has seen"
    )
    model: ModelReference | None = None


class Tuning(Frozen):
    """One search: trials over recipes and hyperparameters, of which the better ones train on."""

    tuning_id: str
    dataset: str
    version: str
    status: Literal["running", "stopping", "stopped", "succeeded", "failed"]
    stage: str = Field(description="planning, searching or finishing")
    created_at: str
    updated_at: str
    finished_at: str | None = None
    attempt: int = Field(description="how often it was begun or resumed")
    seed: int
    eta: int = Field(description="one of so many trials of a rung trains on to the next one")
    rungs: list[int] = Field(description="trials that are, or were, in each rung; the first has all")
    done: list[int] = Field(description="trials that came to the end of each rung")
    parts: list[int] = Field(description="by what a trial's rounds are divided for each rung")
    lanes: int
    budget: Budget
    space: dict[str, Any] = Field(default_factory=dict)
    metric: str = Field(default="", description="what trials are ranked by, on `split`")
    higher_is_better: bool = True
    split: str = ""
    trials: list[Trial] = Field(default_factory=list)
    trials_begun: int = 0
    trials_failed: int = 0
    best: int | None = Field(default=None, description="the best trial so far")
    best_metric: float | None = None
    winner: TuningWinner | None = None
    reason: str | None = Field(default=None, description="why no further trial is begun")
    stages: list[StageUsage] = Field(default_factory=list, description="of the search itself, beside its trials")
    seconds: float = Field(description="since it was begun or resumed last, wall clock")
    seconds_left: float | None = Field(default=None, description="of its lanes, by the pace so far; None when unknown")
    worked_seconds: float = Field(description="billed seconds of all trials")
    gb_seconds: float
    cost_usd: float = Field(description="estimated cost on AWS so far, US dollars")
    failure: Failure | None = None


class Tunings(Frozen):
    """The newest searches first, without their trials."""

    tunings: list[Tuning]


def tuning_view(
    items: Iterable[Item],
    plan: TuningPlan | None,
    winner_run: Mapping[str, Any] | None,
    architecture: str,
    moment: str,
    with_trials: bool = True,
) -> Tuning:
    """A search from its record, its trials and its stages.

    Args:
        items: What the catalog holds of it.
        plan: How it was planned; None before that.
        winner_run: The run of its winner, as the API shows it; None where there is none yet.
        architecture: Of the functions.
        moment: Now.
        with_trials: Whether the trials are told one by one.

    Raises:
        NotFound: There is no record among the items.
    """
    items = list(items)
    record = next((item for item in items if item["sk"] == "TUNING"), None)
    if record is None:
        raise NotFound("There is no such search.", "See GET /tunings for those that there are.")
    request = TuningRequest.model_validate_json(record["request"])
    budget = Budget.model_validate_json(record["budget"])
    trials = [Trial.model_validate_json(item["document"]) for item in items if item["sk"].startswith("TRIAL#")]
    standings = [trial.standing for trial in trials]
    stages = [
        stage_view(item, architecture) for item in items if item["sk"].startswith("STAGE#") and "invocations" in item
    ]
    best = best_trial(standings)
    finished_at = record.get("finished_at")
    seconds = seconds_between(record["begun_at"], finished_at or moment)
    own = sum(stage.cost_usd + _TRANSITIONS * stage.invocations * STATE_TRANSITION for stage in stages)
    return Tuning(
        tuning_id=record["tuning_id"],
        dataset=request.dataset,
        version=request.version,
        status=record["status"],
        stage=STAGES.get(str(record["stage"]), str(record["stage"])),
        created_at=record["created_at"],
        updated_at=finished_at or record["updated_at"],
        finished_at=finished_at,
        attempt=record["attempt"],
        seed=request.seed,
        eta=request.eta,
        rungs=[len(rung) for rung in members(request.ladder, standings)],
        done=[sum(rung in trial.scores for trial in standings) for rung in range(request.rungs)],
        parts=[request.ladder.part(rung) for rung in range(request.rungs)],
        lanes=record["lanes"],
        budget=budget,
        space=plan.space if plan is not None and with_trials else {},
        metric=METRICS[plan.task][0] if plan is not None else "",
        higher_is_better=METRICS[plan.task][1] if plan is not None else True,
        split=plan.split if plan is not None else "",
        trials=trials if with_trials else [],
        trials_begun=len(trials),
        trials_failed=sum(trial.state == "failed" for trial in trials),
        best=best,
        best_metric=trials[best].results[-1].metric if best is not None else None,
        winner=_winner(record, trials, winner_run),
        reason=record.get("reason"),
        stages=sorted(stages, key=lambda stage: (stage.started_at, stage.name)) if with_trials else [],
        seconds=seconds,
        seconds_left=_seconds_left(record, request, budget, trials),
        worked_seconds=round(sum(trial.seconds for trial in trials), 3),
        gb_seconds=round(sum(trial.gb_seconds for trial in trials) + sum(stage.gb_seconds for stage in stages), 3),
        cost_usd=sum(trial.cost_usd for trial in trials) + own,
        failure=failure_view(record),
    )


def _winner(record: Item, trials: list[Trial], run: Mapping[str, Any] | None) -> TuningWinner | None:
    if "winner" not in record:
        return None
    trial = trials[record["winner"]]
    told = run or {}
    return TuningWinner(
        trial=trial.number,
        run_id=trial.run_id,
        status=told.get("status", "running"),
        metrics=told.get("metrics", {}),
        model=told.get("model"),
    )


def _seconds_left(record: Item, request: TuningRequest, budget: Budget, trials: list[Trial]) -> float | None:
    """What is left for each lane: of its jobs, if each round takes as long as the mean one so far, or of its budget."""
    begun = [trial for trial in trials if trial.curve and trial.rounds]
    rounds = sum(trial.curve[-1].round for trial in begun)
    if record["status"] != "running" or "winner" in record or not rounds:
        return None
    worked, cost = sum(trial.seconds for trial in begun), sum(trial.cost_usd for trial in begun)
    usual = sum(trial.rounds or 0 for trial in begun) / len(begun)
    to_train, entered = 0.0, budget.most_trials
    for rung in range(request.rungs):
        reached = sum(rung in trial.standing.scores for trial in trials)
        share = 1 / request.ladder.part(rung) - (1 / request.ladder.part(rung - 1) if rung else 0)
        to_train += max(0, entered - reached) * share * usual
        entered //= request.eta
    left: list[float] = [to_train * worked / rounds]
    if budget.minutes is not None:
        left.append(budget.minutes * 60 * record["lanes"] - worked)
    if budget.dollars is not None and cost:
        left.append((budget.dollars - cost) * worked / cost)
    return round(max(0.0, min(left)) / int(record["lanes"]), 1)
