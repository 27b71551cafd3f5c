"""What a lane does next: its last job is written down, and it gets another one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from shoal_core.errors import BadInput
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.requests import RunRequest
from shoal_core.training.settings import TrainingSettings
from shoal_core.training.states import last_round, read_round
from shoal_core.training.tuning.books import Book, Change, TuningRecords
from shoal_core.training.tuning.failures import failure_caught
from shoal_core.training.tuning.halving import Job, Ladder, may_follow, next_job, rounds_until
from shoal_core.training.tuning.records import (
    CurvePoint,
    LaneTask,
    RungResult,
    Trial,
    TuningRequest,
    metric_value,
    overrides_of,
)
from shoal_core.training.tuning.sampling import Sampler

MAX_EVENTS = 15_000
"""A lane ends after so many events of its history, of which there may be 25,000, and another one takes its place: room
for one more job of 500 rounds, and for retries."""
_ADVANCE_EVENTS, _JOB_EVENTS, _ROUND_EVENTS, _WAIT_EVENTS = 7, 9, 12, 2
_LONGEST_WAIT = 30
MAX_POINTS = 50
"""Rounds that a trial's curve tells, about: an answer of the API holds those of 500 trials."""


@dataclass(frozen=True)
class LaneStep:
    """One decision about a lane, on one state of the catalog.

    Args:
        artifacts: Where runs are.
        records: The catalog.
        request: What was asked for.
        sampler: What trials try.
        book: The state of the catalog.
        task: What the lane tells.
    """

    artifacts: ObjectStore
    records: TuningRecords
    request: TuningRequest
    sampler: Sampler
    book: Book
    task: LaneTask

    def decide(self) -> tuple[Change, dict[str, Any]]:
        """What changes, and the lane's next state; the request of a new trial's run is written before it."""
        if self.task.attempt != self.book.attempt:  # a lane of an execution that was given up
            return Change(), {**self._lane(), "next": "end"}
        lost = [trial for trial in self.book.given_up() if trial.lane != self.task.lane]
        book = self.book.changed([*self._ended(), *(failed(self.records, trial) for trial in lost)])
        trial, answer = self._next(book)
        after = book.changed([trial] if trial is not None else [])
        known = self.book.trials
        changed = (entry for entry in after.trials if entry.number >= len(known) or entry != known[entry.number])
        return Change(tuple(changed)), answer

    def _ended(self) -> list[Trial]:
        """The lane's last job, unless it is written down already: this call may be a repeated or a late one."""
        job = self.task.job
        if job is None or job.trial >= len(self.book.trials):
            return []
        trial = self.book.trials[job.trial]
        if trial.job != Job(job.trial, job.rung) or trial.lane != self.task.lane:
            return []
        if self.task.failure is not None:
            told = failure_caught("Trial", self.task.failure)
            return [failed(self.records, trial.model_copy(update={"failure": told}))]
        return [trained(self.artifacts, self.records, trial, job.rung, self.request.ladder)]

    def _next(self, book: Book) -> tuple[Trial | None, dict[str, Any]]:
        events = self.task.events + _ADVANCE_EVENTS + (_JOB_EVENTS if self.task.job else 0)
        events += self.task.trained * _ROUND_EVENTS
        lane = {**self._lane(), "events": events + _WAIT_EVENTS}
        over = book.status != "running" or events > MAX_EVENTS or self.task.lane in book.lost
        trial = None if over else self._own(book) or self._begun(book)
        if trial is not None:
            return trial, lane | self._job(trial)
        if over or book.spent() is not None or not may_follow(self.request.ladder, book.standings):
            return None, lane | {"next": "end"}
        waits = self.task.waits + 1
        return None, lane | {"next": "wait", "seconds": min(_LONGEST_WAIT, waits), "waits": waits}

    def _lane(self) -> dict[str, Any]:
        return {"tuning_id": self.task.tuning_id, "attempt": self.task.attempt, "lane": self.task.lane}

    def _own(self, book: Book) -> Trial | None:
        """What the lane has under way: it asks again, or a lane that isn't there any more had it."""
        own = [trial for trial in book.trials if trial.state == "running" and trial.lane == self.task.lane]
        left = [trial for trial in book.trials if trial.state == "running" and trial.lane >= book.lanes]
        for trial in [*own, *left]:
            return trial.model_copy(update={"lane": self.task.lane})
        return None

    def _begun(self, book: Book) -> Trial | None:
        """The next job, if the budget allows one."""
        if book.spent() is not None:
            return None
        most = self.sampler.most(book.budget.most_trials)
        job = next_job(self.request.ladder, book.standings, most)
        if job is None:
            return None
        if job.trial < len(book.trials):
            changes = {"state": "running", "rung": job.rung, "lane": self.task.lane}
            return book.trials[job.trial].model_copy(update=changes)
        values = self.sampler(job.trial) or {}
        trial = Trial(
            number=job.trial,
            run_id=f"{self.task.tuning_id}-{job.trial:03d}",
            values=values,
            state="running",
            rung=0,
            lane=self.task.lane,
        )
        run = RunRequest(
            dataset=self.request.dataset,
            version=self.request.version,
            overrides=overrides_of(values),
            tuning=self.task.tuning_id,
        )
        self.artifacts.write_new(RunKeys(trial.run_id).request, run.encode(), "application/json")
        return trial

    def _job(self, trial: Trial) -> dict[str, Any]:
        return {
            "next": "train",
            "run_id": trial.run_id,
            "dataset": self.request.dataset,
            "version": self.request.version,
            "job": {"trial": trial.number, "rung": trial.rung},
            "part": self.request.ladder.part(trial.rung),
        }


def trained(artifacts: ObjectStore, records: TuningRecords, trial: Trial, rung: int, ladder: Ladder) -> Trial:
    """A trial at the end of a rung: its best round so far, its curve, and what it has used.

    Raises:
        BadInput: Its run has no round.
    """
    settings = TrainingSettings.decode(artifacts.read(RunKeys(trial.run_id).settings))
    # A run that is trained to its end may have gone on since; what a rung came to stays.
    reached = min(last_round(artifacts, trial.run_id), rounds_until(settings.rounds, ladder.part(rung)))
    if not reached:
        raise BadInput(f"Run {trial.run_id!r} has no round.", "Resume the search.")
    record = read_round(artifacts, trial.run_id, reached)
    best = max(record.history, key=lambda result: result.score)
    every = math.ceil(reached / MAX_POINTS)
    result = RungResult(rung=rung, round=reached, score=best.score, metric=metric_value(settings.task, best.score))
    results = {entry.rung: entry for entry in trial.results} | {rung: result}
    return trial.model_copy(
        update={
            "state": "finished" if record.finished else "paused",
            "rung": rung,
            "results": tuple(results[known] for known in sorted(results)),
            "curve": tuple(
                CurvePoint(round=entry.round, loss=entry.loss, metric=metric_value(settings.task, entry.score))
                for entry in record.history
                if entry.round % every == 0 or entry.round in (1, reached)
            ),
            "recipe": settings.recipe,
            "rounds": settings.rounds,
            **vars(records.usage(trial.run_id)),
        }
    )


def trained_to_the_end(artifacts: ObjectStore, records: TuningRecords, trial: Trial, ladder: Ladder) -> Trial:
    """A trial whose run has ended, at every rung that it hadn't been looked at: it has no job left."""
    known = {result.rung for result in trial.results}
    for rung in range(ladder.rungs):
        if rung not in known or rung == ladder.top:
            trial = trained(artifacts, records, trial, rung, ladder)
    return trial


def failed(records: TuningRecords, trial: Trial) -> Trial:
    """A trial that ended in its failure, with what it has used."""
    return trial.model_copy(update={"state": "failed", **vars(records.usage(trial.run_id))})
