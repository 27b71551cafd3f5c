"""The catalog of searches.

```
pk            sk               what
TUNING#<id>   TUNING           one search: status, revision, budget, lanes, winner, outcome
              TRIAL#<number>   one trial: what it tries, what it has come to
              LANE#<attempt>#<lane>   why a lane was lost (statemachines/tuning.asl.yaml)
              STAGE#<name>     what the search's own function used
```
A trial's run is a `RUN#<id>` like any other, which no list of runs shows until the search has chosen it. `revision`
counts the search's decisions: each is one transaction that holds only while the revision is the one it was made on.
"""

from __future__ import annotations

import json
from typing import Any

from shoal_core.aws.clock import now
from shoal_core.aws.config import environment
from shoal_core.aws.stages import StageBook
from shoal_core.aws.table import Item, Table, document, update_arguments
from shoal_core.errors import Conflict, NotFound, Unavailable
from shoal_core.registry.pricing import STATE_TRANSITION, lambda_cost
from shoal_core.registry.views import seconds_between
from shoal_core.training.tuning.books import Book, Change, RunEnd, Usage
from shoal_core.training.tuning.failures import failure_caught, failure_of_run
from shoal_core.training.tuning.records import Budget, Trial, TuningRequest, overrides_of

_KIND = "TUNING"
_STATUS = {"#status": "status"}
# Of the states of a job's way through a lane beside Start Training, and of a round's beside its two tasks.
_JOB_TRANSITIONS, _ROUND_TRANSITIONS = 4, 1
_RUN_STATUS = {"running": "running", "paused": "paused", "finished": "paused", "failed": "failed"}


class TuningCatalog:
    """Reads and writes the catalog of searches. Raises `NotFound` and `Unavailable`."""

    def __init__(self, table: Table | None = None) -> None:
        self._table = table or Table()

    def stages(self, tuning_id: str) -> StageBook:
        """What the search's own states used."""
        return StageBook(self._table, _pk(tuning_id), _KIND)

    def begin(self, request: TuningRequest) -> bool:
        """Record a search; False when the same one was there."""
        moment = now()
        return self._table.put_new(
            {
                "pk": _pk(request.tuning_id),
                "sk": _KIND,
                "kind": _KIND,
                "sort": f"{moment}#{request.tuning_id}",
                "tuning_id": request.tuning_id,
                "request": request.encode().decode(),
                "status": "running",
                "stage": "Plan Tuning",
                "created_at": moment,
                "updated_at": moment,
                "begun_at": moment,
                "revision": 0,
                "attempt": 1,
                "lanes": request.lanes,
                "budget": request.budget.model_dump_json(),
            }
        )

    def items(self, tuning_id: str) -> list[dict[str, Any]]:
        """A search's record, trials and stages. Raises `NotFound`."""
        items = list(self._table.query(_pk(tuning_id)))
        if not any(item["sk"] == _KIND for item in items):
            raise _missing(tuning_id)
        return items

    def newest(self, dataset: str | None = None, limit: int = 100) -> list[str]:
        """Ids of the newest searches, the newest first."""
        found: list[str] = []
        for item in self._table.newest(_KIND):
            if dataset is None or json.loads(item["request"])["dataset"] == dataset:
                found.append(str(item["tuning_id"]))
            if len(found) == limit:
                break
        return found

    def book(self, tuning_id: str) -> Book:
        """A search as its states see it. Raises `NotFound`."""
        # The revision first: a query is no snapshot, and one that is read after the trials may be newer than they are.
        record = self._table.get(_pk(tuning_id), _KIND)
        if record is None:
            raise _missing(tuning_id)
        items = list(self._table.query(_pk(tuning_id)))
        prefix = f"LANE#{record['attempt']}#"
        lost = {
            int(item["sk"].removeprefix(prefix)): failure_caught(
                "Advance Tuning", json.loads(item["failure"])["failure"]
            )
            for item in items
            if item["sk"].startswith(prefix)
        }
        winner_at = record.get("winner_at")
        return Book(
            revision=record["revision"],
            status=record["status"],
            attempt=record["attempt"],
            lanes=record["lanes"],
            budget=Budget.model_validate_json(record["budget"]),
            trials=tuple(
                Trial.model_validate_json(item["document"]) for item in items if item["sk"].startswith("TRIAL#")
            ),
            winner=record.get("winner"),
            since_winner=seconds_between(winner_at, now()) if winner_at else 0.0,
            lost=lost,
        )

    def commit(self, tuning_id: str, request: TuningRequest, book: Book, change: Change) -> bool:
        """Write one decision with the trials and runs that it concerns; False when another one was first."""
        updates = [self._header(tuning_id, book, change)]
        for trial in change.trials:
            sort_key = f"TRIAL#{trial.number:04d}"
            updates.append(
                update_arguments(_pk(tuning_id), sort_key, "SET document = :trial", {":trial": trial.encode()})
            )
            # A winner's run ends by itself, and a search that goes on may find it so.
            if self._run_status(trial.run_id) != "succeeded":
                updates.append(_run_update(tuning_id, request, trial))
        if change.winner is not None:
            run_id = book.trials[change.winner].run_id
            if self._run_status(run_id) not in ("succeeded", "failed"):
                updates.append(_listed(run_id))
        try:
            return self._table.put_all_new([], *updates)
        except Unavailable:
            return False  # another transaction is under way on the same items

    def _header(self, tuning_id: str, book: Book, change: Change) -> Item:
        expression = "SET revision = :next, updated_at = :now"
        values: dict[str, Any] = {":next": book.revision + 1, ":revision": book.revision, ":now": now()}
        names: dict[str, str] = {}
        if change.winner is not None:
            expression += ", winner = :winner, winner_at = :now"
            values[":winner"] = change.winner
        if change.reason is not None:
            expression += ", reason = :reason"
            values[":reason"] = change.reason
        if change.status is not None:
            expression += ", #status = :status, finished_at = :now"
            values[":status"], names = change.status, _STATUS
        return update_arguments(_pk(tuning_id), _KIND, expression, values, "revision = :revision", names)

    def stop(self, tuning_id: str) -> bool:
        """Begin no further job; False where the search is at its end, or has a winner already."""
        self.items(tuning_id)
        return self._table.update(
            _pk(tuning_id),
            _KIND,
            "SET #status = :stopping, updated_at = :now, revision = revision + :one",
            {":stopping": "stopping", ":running": "running", ":now": now(), ":one": 1},
            condition="#status = :running AND attribute_not_exists(winner)",
            names=_STATUS,
        )

    def resume(self, tuning_id: str, attempt: int, lanes: int, budget: Budget) -> None:
        """Let a search that has ended, or whose execution has, go on as its next attempt.

        Raises:
            Conflict: Somebody else was first.
        """
        done = self._table.update(
            _pk(tuning_id),
            _KIND,
            "SET #status = :running, attempt = :attempt, lanes = :lanes, budget = :budget, stage = :stage, "
            "updated_at = :now, begun_at = :now, revision = revision + :one "
            "REMOVE winner, winner_at, reason, finished_at, #error, cause",
            {
                ":running": "running",
                ":attempt": attempt + 1,
                ":before": attempt,
                ":lanes": lanes,
                ":budget": budget.model_dump_json(),
                ":stage": "Plan Tuning",
                ":now": now(),
                ":one": 1,
            },
            condition="attempt = :before",
            names={**_STATUS, "#error": "error"},
        )
        if not done:
            raise Conflict(f"Search {tuning_id!r} was resumed by somebody else.", "See it: `shoal tunings`.")

    def usage(self, run_id: str) -> Usage:
        """What a trial's run has used so far."""
        stages = [item for item in self._table.query(f"RUN#{run_id}", "STAGE#") if "invocations" in item]
        megabyte_ms = sum(item["megabyte_ms"] for item in stages)
        invocations = {item["name"]: item["invocations"] for item in stages}
        gb_seconds = megabyte_ms / 1024 / 1000
        transitions = (
            sum(invocations.values())
            + _JOB_TRANSITIONS * invocations.get("Start Training", 0)
            + _ROUND_TRANSITIONS * invocations.get("Merge Round", 0)
        )
        cost = lambda_cost(gb_seconds, sum(invocations.values()), environment().architecture)
        return Usage(
            seconds=round(megabyte_ms / environment().training_memory / 1000, 3),
            gb_seconds=round(gb_seconds, 3),
            cost_usd=cost + transitions * STATE_TRANSITION,
        )

    def _run_status(self, run_id: str) -> str | None:
        run = self._table.get(f"RUN#{run_id}", "RUN")
        return run["status"] if run else None

    def run_end(self, run_id: str) -> RunEnd:
        """How a trial's run stands. Raises `NotFound`."""
        run = self._table.get(f"RUN#{run_id}", "RUN")
        if run is None:
            raise NotFound(f"Run {run_id!r} doesn't exist.", "Resume the search.")
        return RunEnd(run["status"], failure_of_run(run))


def _run_update(tuning_id: str, request: TuningRequest, trial: Trial) -> Item:
    """A trial's run as the catalog of runs has it; made where it isn't there yet."""
    moment = now()
    expression = (
        "SET run_id = :run, dataset = :dataset, version = :version, #source = :source, #request = :request, "
        "trial_of = :tuning, "
        "#status = :status, stage = if_not_exists(stage, :stage), updated_at = :now, "
        "created_at = if_not_exists(created_at, :now)"
    )
    values: dict[str, Any] = {
        ":run": trial.run_id,
        ":dataset": request.dataset,
        ":version": request.version,
        ":source": document([]),
        ":tuning": tuning_id,
        ":request": document({"overrides": overrides_of(trial.values), "tuning": tuning_id}),
        ":status": _RUN_STATUS[trial.state],
        ":stage": "Start Training",
        ":now": moment,
    }
    names = {**_STATUS, "#source": "source", "#request": "request"}
    if trial.failure is not None:
        expression += ", #error = :error, cause = :cause, finished_at = :now"
        names["#error"] = "error"
        values[":error"] = trial.failure.error
        values[":cause"] = f"{trial.failure.reason} Fix: {trial.failure.fix}"
    return update_arguments(f"RUN#{trial.run_id}", "RUN", expression, values, names=names)


def _listed(run_id: str) -> Item:
    """The winner's run is shown among the others, and goes on."""
    moment = now()
    return update_arguments(
        f"RUN#{run_id}",
        "RUN",
        "SET kind = :kind, sort = :sort, #status = :running, updated_at = :now",
        {":kind": "RUN", ":sort": f"{moment}#{run_id}", ":running": "running", ":now": moment},
        names=_STATUS,
    )


def _pk(tuning_id: str) -> str:
    return f"TUNING#{tuning_id}"


def _missing(tuning_id: str) -> NotFound:
    return NotFound(f"Search {tuning_id!r} doesn't exist.", "See GET /tunings for those that do.")
