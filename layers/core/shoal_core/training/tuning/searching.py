"""The states of a search: its plan, its lanes, and what becomes of the best trial.

Every decision is a function of what the catalog holds and is committed there by one conditional write, together with
the trials that it concerns. A call that is repeated, late, or made twice at once finds it made and answers the same.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shoal_core.data.canonical import canonical_json
from shoal_core.data.manifest import Manifest
from shoal_core.data.map_items import write_map_items
from shoal_core.errors import BadInput, SearchFailed, Unavailable
from shoal_core.keys import DatasetKeys, TuningKeys
from shoal_core.store import ObjectStore
from shoal_core.training.recipes import require_recipe
from shoal_core.training.tuning.books import Book, Change, TuningRecords
from shoal_core.training.tuning.defaults import default_space
from shoal_core.training.tuning.failures import failure_caught
from shoal_core.training.tuning.halving import best_trial, next_job
from shoal_core.training.tuning.lanes import LaneStep, failed, trained_to_the_end
from shoal_core.training.tuning.records import (
    EndTask,
    LaneTask,
    Trial,
    TuningPlan,
    TuningRequest,
    tuning_plan,
    tuning_request,
)
from shoal_core.training.tuning.sampling import Sampler
from shoal_core.training.tuning.space import check_space, parse_space

_ATTEMPTS = 30
_LONGEST_PAUSE = 1.0
_LONGEST_WAIT = 60
# The winner's run is looked at after an eighth more of the time that it has taken.
_WAIT_PART = 8


@dataclass(frozen=True)
class Search:
    """One search's states.

    Args:
        artifacts: The artifacts bucket.
        records: The catalog.
        start: Starts the training state machine for (run, dataset, version); a second time nothing happens.
    """

    artifacts: ObjectStore
    records: TuningRecords
    start: Callable[[str, str, str], None]

    def plan(self, tuning_id: str) -> dict[str, Any]:
        """Decide what is drawn from, once, and write the list of lanes.

        Returns:
            What the Map reads of its input: `items_key` and `at_once`.

        Raises:
            NotFound: The dataset version isn't committed.
            BadConfig: The space doesn't fit the data.
        """
        request = tuning_request(self.artifacts, tuning_id)
        if tuning_plan(self.artifacts, tuning_id) is None:
            data = canonical_json(plan_search(self.artifacts, request).model_dump(mode="json"))
            self.artifacts.write_new(TuningKeys(tuning_id).plan, data, "application/json")
        lanes = [{"lane": lane} for lane in range(self.records.book(tuning_id).lanes)]
        return write_map_items(self.artifacts, TuningKeys(tuning_id).lanes, lanes)

    def advance(self, task: LaneTask) -> dict[str, Any]:
        """Write down what a lane's job came to, and give it the next one.

        Returns:
            The lane's next state: `next` is `train` (with the run, the job, and by what its rounds are divided for the
            rung), `wait` (with seconds) or `end`.

        Raises:
            Unavailable: Other lanes wrote at the same time, again and again.
        """
        request = tuning_request(self.artifacts, task.tuning_id)
        sampler = self._sampler(request)
        for attempt in range(_ATTEMPTS):
            book = self.records.book(task.tuning_id)
            change, answer = LaneStep(self.artifacts, self.records, request, sampler, book, task).decide()
            if change.is_empty or self.records.commit(task.tuning_id, request, book, change):
                return answer
            _pause(attempt)
        raise _too_many(task.tuning_id)

    def conclude(self, task: EndTask) -> dict[str, Any]:
        """After the lanes: have the best trial trained to its end, evaluated and registered.

        Returns:
            `next` is `search` (there is work left), `wait` (with seconds, for the winner's run), `end`, or
            `superseded` for an execution that was given up: another one goes on with the search.

        Raises:
            SearchFailed: No trial came to an end, or all lanes were lost.
            Unavailable: As `advance`.
        """
        request = tuning_request(self.artifacts, task.tuning_id)
        for attempt in range(_ATTEMPTS):
            book = self.records.book(task.tuning_id)
            change, step = self._end(request, book, task)
            if not change.is_empty and not self.records.commit(task.tuning_id, request, book, change):
                _pause(attempt)
            elif step is not None:
                seconds = max(1, min(_LONGEST_WAIT, int(book.since_winner / _WAIT_PART)))
                return {"tuning_id": task.tuning_id, "attempt": task.attempt, "next": step, "seconds": seconds}
        raise _too_many(task.tuning_id)

    def _end(self, request: TuningRequest, book: Book, task: EndTask) -> tuple[Change, str | None]:
        """What changes, and the next step; None to look again after the change."""
        if task.attempt != book.attempt:
            return Change(), "superseded"
        given_up = [failed(self.records, trial) for trial in book.given_up()]
        if given_up:
            return Change(tuple(given_up)), None
        if book.winner is not None:
            return self._winner(request, book, book.trials[book.winner])
        self._require_lanes(book, task)
        if book.status != "running":
            return Change(status="stopped"), "end"
        reason = self._reason(request, book)
        if reason is None:
            return Change(), "search"
        return Change(winner=_best(request, book), reason=reason), None

    def _require_lanes(self, book: Book, task: EndTask) -> None:
        """Raise `SearchFailed` where there is no lane to go on with."""
        told = None
        if task.failure is not None:
            told = failure_caught("Search", task.failure)
        elif len(book.lost) >= book.lanes:
            told = book.lost[min(book.lost)]
        if told is not None:
            raise SearchFailed(
                f"The lanes of search {task.tuning_id!r} were lost, by {told.error}: {told.reason}",
                f"{told.fix} Then go on with it: `shoal tune --resume {task.tuning_id}`.",
            )

    def _winner(self, request: TuningRequest, book: Book, trial: Trial) -> tuple[Change, str | None]:
        """What has become of the run of the best trial; where it failed, the next best one has its turn."""
        end = self.records.run_end(trial.run_id)
        if end.status == "succeeded":
            ended = trained_to_the_end(self.artifacts, self.records, trial, request.ladder)
            return Change((ended,), status="succeeded"), "end"
        if end.status == "failed":
            lost = failed(self.records, trial.model_copy(update={"failure": end.failure}))
            return Change((lost,), winner=_best(request, book.changed([lost]))), None
        self.start(trial.run_id, request.dataset, request.version)
        return Change(), "wait"

    def _reason(self, request: TuningRequest, book: Book) -> str | None:
        """Why no further job is begun; None where there is one, or one under way."""
        spent = book.spent()
        if spent is not None:
            return spent
        wanted = book.budget.most_trials
        most = self._sampler(request).most(wanted)
        under_way = any(trial.state == "running" for trial in book.trials)
        if under_way or next_job(request.ladder, book.standings, most) is not None:
            return None
        return f"all {most} trials are done" if most == wanted else f"the space has {most} different trials, no more"

    def _sampler(self, request: TuningRequest) -> Sampler:
        plan = tuning_plan(self.artifacts, request.tuning_id)
        if plan is None:
            raise BadInput(f"Search {request.tuning_id!r} isn't planned.", "Resume it: `shoal tune --resume`.")
        return Sampler(parse_space(plan.space), request.seed, plan.baseline)


def plan_search(artifacts: ObjectStore, request: TuningRequest) -> TuningPlan:
    """What trials are drawn from, and scored on.

    Raises:
        NotFound: The dataset version isn't committed.
        BadConfig: The space doesn't fit the data.
    """
    manifest = Manifest.decode(artifacts.read(DatasetKeys(request.dataset, request.version).manifest))
    space = parse_space(request.space) if request.space is not None else default_space(manifest, manifest.config)
    check_space(space, manifest.config)
    for recipe in set(space.recipes) - {"auto"}:
        require_recipe(recipe, manifest.spec)  # type: ignore[arg-type]
    return TuningPlan(
        space=space.document(),
        baseline=request.space is None,
        task=manifest.spec.target.task,
        split="validation" if manifest.validation else "train",
    )


def _best(request: TuningRequest, book: Book) -> int:
    best = best_trial(book.standings)
    if best is not None:
        return best
    told = [(trial.number, trial.failure) for trial in book.trials if trial.failure is not None]
    if not told:
        raise SearchFailed(
            f"Search {request.tuning_id!r} ended before a trial came to its first rung.", "Give it a larger budget."
        )
    number, first = told[0]
    raise SearchFailed(
        f"No trial of search {request.tuning_id!r} came to an end; {len(told)} failed, trial {number} by "
        f"{first.error}: {first.reason}",
        first.fix,
    )


def _too_many(tuning_id: str) -> Unavailable:
    return Unavailable(f"Search {tuning_id!r} is written by too many at once.", "Nothing to do: it is retried.")


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.01 * 2**attempt)))
