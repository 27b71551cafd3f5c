"""What a canary does next: go on, wait, take over or be taken back. A pure rule over what was measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shoal_core.registry.routing import Aliases, Canary

Step = Literal["wait", "advance", "finish", "roll back"]
SLACK_MS = 1.0
"""Differences of latency under this are the machine's, not the model's."""


@dataclass(frozen=True)
class Served:
    """What a version answered in a span of time: requests, failures of its own, mean milliseconds of an answer."""

    requests: int = 0
    errors: int = 0
    mean_ms: float | None = None

    @property
    def error_share(self) -> float:
        """Failures per request."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Verdict:
    """What to do with a canary, and why."""

    step: Step
    reason: str


def judge(canary: Canary, its: Served, others: Served, moment: datetime) -> Verdict:
    """What a canary does next.

    Errors end it at any time: one is enough where the requests are few, for nobody can tell yet how many there would
    be. All else waits until the step has lasted, and had requests enough to say something.

    Args:
        canary: The canary.
        its: What it answered since its step began.
        others: What the version in production answered meanwhile.
        moment: Now, in UTC.
    """
    limits = canary.limits
    if its.errors and its.error_share > limits.max_errors:
        return Verdict(
            "roll back",
            f"{its.errors} of its {its.requests} requests failed; {limits.max_errors:.2%} are allowed",
        )
    if its.requests < max(1, limits.min_requests):
        wanted = f"it needs {limits.min_requests} requests for a step and had {its.requests}"
        if limits.min_requests or not _lasted(canary, moment):
            return Verdict("wait", wanted)
    slow = _slowness(canary, its, others)
    if slow:
        return Verdict("roll back", slow)
    if not _lasted(canary, moment):
        return Verdict("wait", f"a step lasts {canary.every} s")
    held = f"{its.requests} requests, {its.errors} failed"
    if canary.step + 2 >= len(canary.steps):
        return Verdict("finish", held)
    return Verdict("advance", held)


def _lasted(canary: Canary, moment: datetime) -> bool:
    return (moment - datetime.fromisoformat(canary.step_at)).total_seconds() >= canary.every


def _slowness(canary: Canary, its: Served, others: Served) -> str:
    """Why its latency ends it; empty where it doesn't."""
    limits = canary.limits
    if its.mean_ms is None or its.requests < max(1, limits.min_requests):
        return ""
    if limits.max_latency_ms is not None and its.mean_ms > limits.max_latency_ms:
        return f"it took {its.mean_ms:.1f} ms on average; {limits.max_latency_ms:g} ms are allowed"
    if others.mean_ms is None or others.requests < max(1, limits.min_requests):
        return ""
    if its.mean_ms > limits.max_slowdown * others.mean_ms + SLACK_MS:
        return (
            f"it took {its.mean_ms:.1f} ms on average, the version in production {others.mean_ms:.1f} ms; "
            f"{limits.max_slowdown:g} times that are allowed"
        )
    return ""


def apply(aliases: Aliases, verdict: Verdict, moment: str) -> Aliases:
    """The aliases after a verdict; the same ones where it waits."""
    canary = aliases.canary
    if canary is None or verdict.step == "wait":
        return aliases
    if verdict.step == "advance":
        return dataclasses.replace(aliases, canary=dataclasses.replace(canary, step=canary.step + 1, step_at=moment))
    if verdict.step == "finish":
        return aliases.with_production(canary.version)
    return dataclasses.replace(aliases, canary=None)
