"""Hands accepted S3 events to Lambda: durable first, then invoked, with faults where a test asks for them."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from shoal.local.cloud_state import SqlitePending
from shoal.local.compute.errors import LambdaError
from shoal.local.compute.service import LambdaService
from shoal.local.faults import EventFaults, FaultPlan
from shoal.local.s3_events import NotificationLike, ObjectWrite, events_for

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accepted:
    """An event that is kept and not yet given to Lambda; `wait` is in seconds."""

    function: str
    payload: bytes
    wait: float


class EventDelivery:
    """Delivers S3's events as asynchronous invocations.

    `accept` is called inside the transaction that records the write, so an event exists exactly when its write does;
    `deliver` is called after the commit. What isn't delivered when the process dies is delivered at the next start.
    """

    def __init__(self, pending: SqlitePending, service: LambdaService, faults: EventFaults) -> None:
        self._pending = pending
        self._service = service
        self._plan = FaultPlan(faults)
        self.notifications: Sequence[NotificationLike] = ()

    def accept(self, write: ObjectWrite) -> list[Accepted]:
        """Keep the events of a finished write; returns what to `deliver`."""
        accepted = []
        for function, event in events_for(self.notifications, write):
            payload = json.dumps(event, separators=(",", ":")).encode()
            for wait in self._plan.deliveries():
                self._pending.accept(function, payload, time.time() + wait)
                accepted.append(Accepted(function, payload, wait))
        return accepted

    def deliver(self, events: Sequence[Accepted]) -> None:
        """Give accepted events to Lambda."""
        for event in events:
            if event.wait > 0:
                timer = threading.Timer(event.wait, self._invoke, [event])
                timer.daemon = True
                timer.start()
            else:
                self._invoke(event)

    def _invoke(self, event: Accepted) -> None:
        try:
            self._service.invoke(event.function, event.payload, invocation_type="Event")
        except LambdaError as error:
            _log.warning("An S3 event for %s is kept until the next start: %s", event.function, error)
