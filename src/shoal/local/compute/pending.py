"""The durable queue of asynchronous invocations, as `LambdaService` sees it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An asynchronous invocation that was accepted and isn't settled.

    Attributes:
        id: The request id, which every attempt of the event keeps.
        function: The function's name.
        payload: The event, JSON.
        attempt: How often the function has failed on it so far.
        due: When the next attempt is due, in seconds since the epoch.
    """

    id: str
    function: str
    payload: bytes
    attempt: int
    due: float


class PendingEvents(Protocol):
    """Keeps accepted events until they're settled. Called from several threads; `add` returns once it's durable."""

    def add(self, id: str, function: str, payload: bytes, attempt: int, due: float) -> None:
        """Keep an event; one that is kept under the same id is replaced."""
        ...

    def remove(self, id: str) -> None:
        """Forget an event; unknown ids are fine."""
        ...

    def all(self) -> Sequence[PendingEvent]:
        """Every event that is kept, oldest `due` first."""
        ...


class MemoryPending:
    """Implements `PendingEvents` in memory: for tests, and for a cloud that needs no durability."""

    def __init__(self) -> None:
        self._events: dict[str, PendingEvent] = {}
        self._lock = threading.Lock()

    def add(self, id: str, function: str, payload: bytes, attempt: int, due: float) -> None:
        """Keep an event."""
        with self._lock:
            self._events[id] = PendingEvent(id, function, payload, attempt, due)

    def remove(self, id: str) -> None:
        """Forget an event."""
        with self._lock:
            self._events.pop(id, None)

    def all(self) -> list[PendingEvent]:
        """Every event that is kept, oldest `due` first."""
        with self._lock:
            return sorted(self._events.values(), key=lambda event: event.due)
