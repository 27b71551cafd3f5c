"""Canaries that are under way: looked at every minute and whenever an alarm goes off."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from shoal_core.aws.audit import Audit
from shoal_core.aws.catalog import Catalog
from shoal_core.aws.clients import client, service_errors
from shoal_core.aws.config import environment
from shoal_core.aws.events import publish
from shoal_core.aws.version_statistics import served_since
from shoal_core.registry.canaries import Verdict, apply, judge
from shoal_core.registry.routing import Aliases, Canary, percent

_ACTIONS = {"advance": "canary.advanced", "finish": "canary.finished", "roll back": "canary.rolled_back"}


class Canaries:
    """Moves canaries on, or takes them back."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def review(self, moment: datetime, crashed: str | None = None) -> list[dict[str, Any]]:
        """Judge every canary that is under way, and do what follows. Safe to run twice and at once.

        Args:
            moment: Now, in UTC.
            crashed: Why all of them are taken back without a look: requests died, and nobody can tell whose they were.

        Returns:
            What was done: model, version, step and reason.
        """
        done = []
        for model in self._catalog.models_with_canary():
            outcome = self._step(model, moment, crashed)
            if outcome is not None:
                done.append(outcome)
        if not self._catalog.models_with_canary():
            self._sleep()
        return done

    def wake(self) -> None:
        """Look after canaries from now on."""
        with service_errors("EventBridge"):
            client("events").enable_rule(Name=environment().canary_rule)

    def _sleep(self) -> None:
        """Nothing runs when nothing happens; a canary that began just now is looked after all the same."""
        with service_errors("EventBridge"):
            client("events").disable_rule(Name=environment().canary_rule)
        if self._catalog.models_with_canary():
            self.wake()

    def _step(self, model: str, moment: datetime, crashed: str | None) -> dict[str, Any] | None:
        aliases = self._catalog.aliases(model)
        canary = aliases.canary
        if canary is None:
            # Something else ended it; this takes it out of the index.
            self._catalog.clear_canary_mark(model, aliases.revision)
            return None
        verdict = Verdict("roll back", crashed) if crashed else self._judged(model, aliases, canary, moment)
        stamp = moment.isoformat(timespec="milliseconds")

        def change(now: Aliases) -> Aliases:
            # A verdict is on what was seen; after another change it is for the next look to say.
            return apply(now, verdict, stamp) if now.revision == aliases.revision else now

        before, after = self._catalog.change_aliases(model, change)
        outcome = {"model": model, "version": canary.version, "step": verdict.step, "reason": verdict.reason}
        if before != after:
            self._tell(outcome, before, after)
        return outcome

    def _judged(self, model: str, aliases: Aliases, canary: Canary, moment: datetime) -> Verdict:
        since = datetime.fromisoformat(canary.step_at)
        its = served_since(model, canary.version, since, moment)
        others = served_since(model, aliases.production, since, moment)
        return judge(canary, its, others, moment)

    def _tell(self, outcome: dict[str, Any], before: Aliases, after: Aliases) -> None:
        share = percent(after.canary.weight) if after.canary else (100.0 if outcome["step"] == "finish" else 0.0)
        details = {
            "version": outcome["version"],
            "reason": outcome["reason"],
            "percent": share,
            "production": after.production,
            "before": before.production,
        }
        Audit().record(_ACTIONS[outcome["step"]], f"{outcome['model']}/canary", "canary", "events", details)
        if outcome["step"] != "advance":
            name = "CanaryFinished" if outcome["step"] == "finish" else "CanaryRolledBack"
            publish(name, {"model": outcome["model"], **details})


def now_utc() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def statistics(model: str, aliases: Aliases, moment: datetime) -> dict[str, Any]:
    """What a canary and production answered since the canary's step began; empty without a canary."""
    if aliases.canary is None:
        return {}
    since = datetime.fromisoformat(aliases.canary.step_at)
    versions = {"canary": aliases.canary.version, "production": aliases.production}
    return {name: dataclasses.asdict(served_since(model, version, since, moment)) for name, version in versions.items()}
