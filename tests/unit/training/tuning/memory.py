"""The catalog of one search in memory: what most tests of decisions need, without a database's time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from shoal_core.training.tuning.books import Book, Change, RunEnd, Usage
from shoal_core.training.tuning.records import Budget, TuningRequest


@dataclass
class MemoryRecords:
    """Implements `TuningRecords`, and what begins, stops and resumes a search."""

    held: Book = field(default_factory=lambda: Book(0, "running", 1, 1, Budget()))
    reason: str = ""
    used: dict[str, float] = field(default_factory=dict)
    ended: dict[str, RunEnd] = field(default_factory=dict)

    def begin(self, request: TuningRequest) -> bool:
        self.held = replace(self.held, lanes=request.lanes, budget=request.budget)
        return True

    def book(self, tuning_id: str) -> Book:
        return self.held

    def commit(self, tuning_id: str, request: TuningRequest, book: Book, change: Change) -> bool:
        if book.revision != self.held.revision:
            return False
        known: dict[str, Any] = {name: value for name, value in vars(change).items() if value is not None}
        self.reason = known.get("reason", self.reason)
        state = {name: known[name] for name in ("status", "winner") if name in known}
        self.held = replace(self.held.changed(change.trials), revision=book.revision + 1, **state)
        return True

    def usage(self, run_id: str) -> Usage:
        seconds = self.used.get(run_id, 0.0)
        return Usage(seconds, seconds * 1769 / 1024, seconds * 4e-5)

    def run_end(self, run_id: str) -> RunEnd:
        return self.ended.get(run_id, RunEnd("running"))

    def stop(self, tuning_id: str) -> bool:
        stops = self.held.status == "running" and self.held.winner is None
        if stops:
            self.held = replace(self.held, status="stopping", revision=self.held.revision + 1)
        return stops

    def resume(self, tuning_id: str, attempt: int, lanes: int, budget: Budget) -> None:
        self.held = replace(
            self.held, status="running", attempt=attempt + 1, lanes=lanes, budget=budget, winner=None, lost={}
        )
