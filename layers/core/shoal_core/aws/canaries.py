"""Canaries that are under way: looked at every minute and whenever an alarm goes off."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from shoal_core.aws.audit import Audit
from shoal_core.aws.catalog import Catalog
from shoal_core.aws.clients import client, service_errors
from shoal_core.aws.config import environment
from shoal_core.aws.events import publish
from shoal_core.aws.table import Item
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

        Raises:
            ExceptionGroup: What was wrong with some; all others were reviewed.
        """
        done, wrong = [], {}
        for model in self._catalog.models_with_canary():
            try:
                outcome = self._step(model, moment, crashed)
            except Exception as error:  # noqa: BLE001 - whatever it is, other models' canaries must not wait for it
                wrong[model] = error
                continue
            if outcome is not None:
                done.append(outcome)
        if wrong:
            reasons = "; ".join(f"{model!r}: {error}" for model, error in wrong.items())
            raise ExceptionGroup(f"Some canaries couldn't be reviewed. {reasons}", list(wrong.values()))
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

        def commit(before: Aliases, after: Aliases, updates: Sequence[Item]) -> bool:
            details = _details(canary, verdict, before, after)
            action = _ACTIONS[verdict.step]
            return Audit().record_with(updates, action, f"{model}/canary", "canary", "events", details)

        before, after = self._catalog.change_aliases(model, change, commit)
        if before != after and verdict.step != "advance":
            name = "CanaryFinished" if verdict.step == "finish" else "CanaryRolledBack"
            publish(name, {"model": model, **_details(canary, verdict, before, after)})
        return {"model": model, "version": canary.version, "step": verdict.step, "reason": verdict.reason}

    def _judged(self, model: str, aliases: Aliases, canary: Canary, moment: datetime) -> Verdict:
        since = datetime.fromisoformat(canary.step_at)
        its = served_since(model, canary.version, since, moment)
        others = served_since(model, aliases.production, since, moment)
        return judge(canary, its, others, moment)


def _details(canary: Canary, verdict: Verdict, before: Aliases, after: Aliases) -> dict[str, Any]:
    """What the audit record and the event tell of a step."""
    share = percent(after.canary.weight) if after.canary else (100.0 if verdict.step == "finish" else 0.0)
    return {
        "version": canary.version,
        "reason": verdict.reason,
        "percent": share,
        "production": after.production,
        "before": before.production,
    }


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
