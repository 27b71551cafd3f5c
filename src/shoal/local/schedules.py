"""The timer: EventBridge rules with a schedule invoke their functions while they are enabled."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

from moto.events.models import Rule, events_backends

from shoal.local.compute.errors import LambdaError
from shoal.local.deploy.deployment import Schedule
from shoal.local.state import StateStore

_SETTING = "rules"
_TICK_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Invoker(Protocol):
    """What the timer needs of Lambda."""

    def invoke(self, name: str, payload: bytes, *, invocation_type: Literal["Event"]) -> object:
        """Accept an asynchronous invocation."""


class ScheduleTimer:
    """Fires schedules, and keeps over a restart which rules are enabled.

    Args:
        schedules: What the deployment made.
        service: Lambda.
        store: Keeps the rules' states.
        account: Account id.
        region: Region.
        period: Seconds between two firings instead of the rules' own; 0 for those.
    """

    def __init__(
        self,
        schedules: Sequence[Schedule],
        service: Invoker,
        store: StateStore,
        account: str,
        region: str,
        period: float = 0.0,
    ) -> None:
        self._period = period
        self._schedules = schedules
        self._service = service
        self._store = store
        self._account, self._region = account, region
        self._kept: dict[str, str] = store.setting(_SETTING) or {}
        # EventBridge counts a rate from when the rule was enabled; here, from the first look at it.
        self._due: dict[str, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedules", daemon=True)

    def start(self) -> None:
        """Give rules their kept states, and begin."""
        rules = self._rules()
        for schedule in self._schedules:
            state = self._kept.get(schedule.rule)
            if state in ("ENABLED", "DISABLED") and schedule.rule in rules:
                rules[schedule.rule].state = state
        if self._schedules:
            self._thread.start()

    def stop(self) -> None:
        """Fire nothing more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _rules(self) -> dict[str, Rule]:
        bus = events_backends[self._account][self._region].event_buses["default"]
        return {rule.name: rule for rule in bus.rules.values()}

    def _run(self) -> None:
        while not self._stopped.wait(_TICK_SECONDS):
            try:
                self.tick(time.time())
            except Exception:  # noqa: BLE001 - the timer must outlive whatever one tick meets
                _log.exception("A tick of the schedules failed.")

    def tick(self, now: float) -> list[str]:
        """Invoke what is due at `now` (seconds since the epoch); the names of the rules that fired."""
        rules, fired = self._rules(), []
        states = {name: str(rule.state) for name, rule in rules.items()}
        wanted = {schedule.rule: states.get(schedule.rule, "") for schedule in self._schedules}
        if wanted != self._kept:
            self._store.set_setting(_SETTING, wanted)
            self._kept = wanted
        for schedule in self._schedules:
            if wanted[schedule.rule] != "ENABLED":
                self._due.pop(schedule.rule, None)
                continue
            seconds = self._period or schedule.seconds
            due = self._due.setdefault(schedule.rule, now + seconds)
            if now >= due:
                self._due[schedule.rule] = now + seconds
                self._fire(schedule, now)
                fired.append(schedule.rule)
        return fired

    def _fire(self, schedule: Schedule, now: float) -> None:
        payload = schedule.payload or json.dumps(
            {
                "version": "0",
                "id": str(uuid.uuid4()),
                "detail-type": "Scheduled Event",
                "source": "aws.events",
                "account": self._account,
                "time": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "region": self._region,
                "resources": [f"arn:aws:events:{self._region}:{self._account}:rule/{schedule.rule}"],
                "detail": {},
            }
        )
        try:
            self._service.invoke(schedule.function_name, payload.encode(), invocation_type="Event")
        except LambdaError as error:
            _log.warning("The schedule %s couldn't invoke %s: %s", schedule.rule, schedule.function_name, error)
