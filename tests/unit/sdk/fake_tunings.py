"""Searches as Shoal's API tells them: begun, looked at, stopped and resumed."""

from __future__ import annotations

from typing import Any

TUNING = "digits-tuning-0a1b2c3d"


def trial(number: int, metric: float, **changes: Any) -> dict[str, Any]:
    """A trial that has come to its first rung."""
    return {
        "number": number,
        "run_id": f"{TUNING}-{number:03d}",
        "values": {"recipe": "mlp", "training.learning_rate": 0.0012345, "network.hidden": [64, 32]},
        "state": "paused",
        "rung": 0,
        "lane": 0,
        "results": [{"rung": 0, "round": 1, "score": [metric, -0.1], "metric": metric}],
        "curve": [{"round": 1, "loss": 0.5, "metric": metric}],
        "recipe": "mlp",
        "rounds": 9,
        "seconds": 1.5,
        "gb_seconds": 2.6,
        "cost_usd": 4e-5,
        "failure": None,
        **changes,
    }


class FakeTunings:
    """One search; tests set the steps of its script, of which each look takes one."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.document: dict[str, Any] = {}
        failure = {"stage": "Trial", "error": "TrainingDiverged", "reason": "It diverged.", "fix": "Lower it."}
        values: dict[str, Any] = {"values": {}, "results": [], "curve": [], "state": "failed", "failure": failure}
        trials = [trial(0, 0.91), trial(1, 0.95), trial(2, 0.0, **values)]
        running = {"trials": trials, "trials_begun": 3, "trials_failed": 1, "rungs": [3, 1, 0], "done": [2, 0, 0]}
        running |= {"best": 1, "best_metric": 0.95, "seconds_left": 12.0, "stage": "searching"}
        winner = {"trial": 1, "run_id": f"{TUNING}-001", "status": "succeeded", "metrics": {"accuracy": 0.94}}
        winner |= {"model": {"name": "digits", "version": 2}}
        ended = {"status": "succeeded", "winner": winner, "reason": "all 3 trials are done", "seconds_left": None}
        self.script: list[dict[str, Any]] = [running, running | {"seconds_left": 11.0}, running | ended]

    def begin(self, dataset: str, asked: dict[str, Any]) -> dict[str, Any]:
        """A search that has just begun."""
        self.asked.append(asked)
        budget = {name: asked.get(name) for name in ("trials", "minutes", "dollars")}
        self.document = {
            "tuning_id": TUNING, "dataset": dataset, "version": "v1", "status": "running", "stage": "planning",
            "created_at": "2026-11-21T08:00:00Z", "updated_at": "2026-11-21T08:00:00Z", "attempt": 1, "budget": budget,
            "rungs": [0, 0, 0], "done": [0, 0, 0], "parts": [9, 3, 1], "lanes": asked.get("lanes", 3), "trials": [],
            "trials_begun": 0, "trials_failed": 0, "metric": "accuracy", "split": "validation", "best": None,
            "best_metric": None, "winner": None, "reason": None, "seconds": 3.5, "seconds_left": None,
            "cost_usd": 0.00012, "failure": None,
        }  # fmt: skip
        return self.document

    def answer(self, parts: list[str], asked: dict[str, Any], dataset: str | None) -> Any:
        """One request below `/tunings`; None where there is nothing."""
        if not parts:
            found = [self.document] if self.document and dataset in (None, self.document["dataset"]) else []
            return 200, "application/json", {"tunings": found}
        if parts[0] != TUNING or not self.document:
            return None
        match parts[1:]:
            case ["report.html"]:
                return 200, "text/html", b"<!doctype html><title>search</title>"
            case ["stop"]:
                self.document |= {"status": "stopping"}
                self.script = [{"status": "stopped"}]
            case ["resume"]:
                self.asked.append(asked)
                self.document |= {"status": "running", "attempt": 2}
            case []:
                if self.document["status"] in ("running", "stopping"):
                    self.document |= self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return 200, "application/json", self.document
