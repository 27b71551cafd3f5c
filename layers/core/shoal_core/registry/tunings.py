"""Searches: begun, stopped, resumed and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from shoal_core.errors import Conflict
from shoal_core.keys import TuningKeys
from shoal_core.registry.audit import AuditLog, Caller
from shoal_core.registry.requesting import committed_version, version_config
from shoal_core.registry.tuning_page import render_tuning
from shoal_core.registry.tuning_records import Tuning, tuning_view
from shoal_core.registry.views import run_view
from shoal_core.store import ObjectStore
from shoal_core.training.tuning.records import Budget, TuningRequest, tuning_plan
from shoal_core.training.tuning.space import check_space, parse_space


class RunsCatalog(Protocol):
    """What searches need of the catalog of datasets and runs."""

    def dataset_items(self, dataset: str) -> list[dict[str, Any]]:
        """See `shoal_core.aws.catalog.Catalog.dataset_items`."""

    def run_items(self, run_id: str, with_rounds: bool = True) -> list[dict[str, Any]]:
        """See `shoal_core.aws.catalog.Catalog.run_items`."""


class SearchCatalog(Protocol):
    """What searches need of their own catalog."""

    def begin(self, request: TuningRequest) -> bool:
        """See `shoal_core.aws.tuning_catalog.TuningCatalog.begin`."""

    def items(self, tuning_id: str) -> list[dict[str, Any]]:
        """See `shoal_core.aws.tuning_catalog.TuningCatalog.items`."""

    def stop(self, tuning_id: str) -> bool:
        """See `shoal_core.aws.tuning_catalog.TuningCatalog.stop`."""

    def resume(self, tuning_id: str, attempt: int, lanes: int, budget: Budget) -> None:
        """See `shoal_core.aws.tuning_catalog.TuningCatalog.resume`."""


@dataclass(frozen=True)
class Searches:
    """The searches of one cloud.

    Args:
        artifacts: The artifacts bucket.
        tunings: The catalog of searches.
        runs: The catalog of datasets and runs.
        start: Starts an attempt of a search; a second time nothing happens.
        under_way: Whether the execution of an attempt runs.
        audit: Where it is kept who asked for what.
        architecture: Of the functions, for what they cost.
        clock: Gives the current time.
    """

    artifacts: ObjectStore
    tunings: SearchCatalog
    runs: RunsCatalog
    start: Callable[[str, int], None]
    under_way: Callable[[str, int], bool]
    audit: AuditLog
    architecture: str
    clock: Callable[[], str]

    def begin(self, dataset: str, version: str | None, asked: Mapping[str, Any], caller: Caller) -> Tuning:
        """Record a search and start it; the same one again is the one that there is.

        Args:
            dataset: Name of the dataset.
            version: Its version; the newest committed one when None.
            asked: Fields of `TuningRequest`: space, seed, eta, rungs, lanes, budget.
            caller: Who asks.

        Raises:
            NotFound, Conflict: No such dataset, or the version isn't committed.
            BadConfig: The space asks for something that dataset.yaml doesn't take either.
            Unavailable: The audit record can't be written; nothing is started then.
        """
        chosen = committed_version(self.runs, dataset, version)
        request = TuningRequest(dataset=dataset, version=chosen, **asked)
        if request.space is not None:
            check_space(parse_space(request.space), version_config(self.artifacts, dataset, chosen))
        tuning_id = request.tuning_id
        self.artifacts.write_new(TuningKeys(tuning_id).request, request.encode(), "application/json")
        self.tunings.begin(request)
        details = request.model_dump(mode="json", exclude={"schema_version", "space"})
        self.audit.record("tuning.begun", tuning_id, caller.who, caller.source, details, once=f"tuning {tuning_id}")
        found = self.show(tuning_id)
        if found.status == "running" and found.attempt == 1:
            self.start(tuning_id, 1)
        return found

    def stop(self, tuning_id: str, caller: Caller) -> Tuning:
        """Begin no further job; those that are under way come to the ends of their rungs.

        Raises:
            NotFound: No such search.
            Conflict: It has ended, or its winner is trained to its end already.
        """
        if not self.tunings.stop(tuning_id):
            found = self.show(tuning_id)
            if found.status == "stopping":
                return found
            what = f"has {found.status}" if found.winner is None else "has found its winner"
            raise Conflict(f"Search {tuning_id!r} {what}: there is nothing to stop.", "See it: `shoal tunings`.")
        self.audit.record("tuning.stopped", tuning_id, caller.who, caller.source)
        return self.show(tuning_id)

    def resume(self, tuning_id: str, budget: Mapping[str, Any], lanes: int | None, caller: Caller) -> Tuning:
        """Go on with a search that was stopped, failed or interrupted, or with a larger budget than it had.

        Args:
            tuning_id: The search.
            budget: Fields of `Budget` that are other than they were.
            lanes: How many jobs at the same time; None for as many as before.
            caller: Who asks.

        Raises:
            NotFound: No such search.
            Conflict: It is under way, or it has all that its budget allows.
        """
        found = self.show(tuning_id, with_trials=False)
        if found.status in ("running", "stopping") and self.under_way(tuning_id, found.attempt):
            raise Conflict(f"Search {tuning_id!r} is under way.", f"See it: `shoal tunings {tuning_id}`.")
        if found.status == "succeeded" and not budget:
            raise Conflict(
                f"Search {tuning_id!r} has succeeded: {found.reason}.",
                "Give it a larger budget to go on with: --trials, --minutes or --dollars.",
            )
        merged = Budget.model_validate({**found.budget.model_dump(), **budget})
        self.tunings.resume(tuning_id, found.attempt, lanes or found.lanes, merged)
        details = {"attempt": found.attempt + 1, "budget": merged.model_dump(mode="json")}
        self.audit.record("tuning.resumed", tuning_id, caller.who, caller.source, details)
        self.start(tuning_id, found.attempt + 1)
        return self.show(tuning_id)

    def show(self, tuning_id: str, with_trials: bool = True) -> Tuning:
        """One search. Raises `NotFound`."""
        items = self.tunings.items(tuning_id)
        record = next(item for item in items if item["sk"] == "TUNING")
        run = None
        if "winner" in record:
            run_items = self.runs.run_items(f"{tuning_id}-{record['winner']:03d}", with_rounds=False)
            run = run_view(run_items, self.architecture).model_dump(mode="json")
        plan = tuning_plan(self.artifacts, tuning_id)
        return tuning_view(items, plan, run, self.architecture, self.clock(), with_trials)

    def page(self, tuning_id: str) -> str:
        """A search as one page for people. Raises `NotFound`."""
        return render_tuning(self.show(tuning_id)).decode()

    def write_report(self, tuning_id: str) -> Tuning:
        """Keep what a search has come to among its artifacts."""
        tuning = self.show(tuning_id)
        keys = TuningKeys(tuning_id)
        self.artifacts.write(keys.report("json"), tuning.model_dump_json().encode(), "application/json")
        self.artifacts.write(keys.report("html"), render_tuning(tuning), "text/html; charset=utf-8")
        return tuning
