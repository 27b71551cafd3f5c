"""Asynchronous invocations: accepted durably, delivered at least once, retried, given up with a record.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from shoal.local.compute.errors import ServiceStopped, TooManyRequests
from shoal.local.compute.pending import PendingEvents
from shoal.local.compute.spec import Condition, FailedEvent, FunctionSpec, InvokeResult

_R = TypeVar("_R")
_logger = logging.getLogger(__name__)

# What AWS waits before the first and the second retry, and at most after a throttled one, in seconds.
RETRY_SECONDS = (60.0, 120.0)
THROTTLE_SECONDS = (1.0, 300.0)


@dataclass(slots=True)
class _Event:
    id: str
    function: str
    payload: bytes
    attempt: int
    accepted: float
    throttled: int = 0


class EventQueue:
    """Delivers asynchronous events of all functions; lives on the service's loop.

    Args:
        invoke: Invokes a function with (name, payload, request id) and gives the result.
        spec_of: The deployed function of a name, None when there's none.
        limit_of: How many of a function's events may be on their way at once.
        pending: Where events are kept until they're settled; its calls and `on_failure` run on `executor`.
        on_failure: Gets every event that's given up, of functions that have an `on_failure` queue. When it raises,
            the event is kept and delivered again later.
        time_scale: What AWS's waiting times are multiplied by.
        executor: Threads for what may block.
    """

    def __init__(
        self,
        *,
        invoke: Callable[[str, bytes, str], Awaitable[InvokeResult]],
        spec_of: Callable[[str], FunctionSpec | None],
        limit_of: Callable[[str], int],
        pending: PendingEvents,
        on_failure: Callable[[FunctionSpec, FailedEvent], None],
        time_scale: float,
        executor: Executor,
    ) -> None:
        self._invoke = invoke
        self._spec_of = spec_of
        self._limit_of = limit_of
        self._pending = pending
        self._on_failure = on_failure
        self._scale = time_scale
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._ready: dict[str, deque[_Event]] = {}
        self._running: dict[str, int] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def restore(self) -> None:
        """Take up every event that's kept from before. Their age counts from when they were due."""
        for kept in await self._block(self._pending.all):
            event = _Event(kept.id, kept.function, kept.payload, kept.attempt, min(kept.due, time.time()))
            self._later(event, kept.due - time.time())

    async def accept(self, id: str, function: str, payload: bytes) -> None:
        """Keep an event, then deliver it."""
        now = time.time()
        await self._block(self._pending.add, id, function, payload, 0, now)
        self._later(_Event(id, function, payload, 0, now), 0.0)

    def deployed(self, function: str) -> None:
        """A function is there now: deliver what waited for it."""
        self._deliver(function)

    async def close(self) -> None:
        """Stop delivering. What isn't settled stays kept."""
        self._closed = True
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _later(self, event: _Event, seconds: float) -> None:
        if self._closed:
            return
        if seconds <= 0:
            self._put(event)
            return

        def due() -> None:
            self._timers.discard(timer)
            self._put(event)

        timer = self._loop.call_later(seconds, due)
        self._timers.add(timer)

    def _put(self, event: _Event) -> None:
        self._ready.setdefault(event.function, deque()).append(event)
        self._deliver(event.function)

    def _deliver(self, function: str) -> None:
        """Send as many of a function's events on their way as it may run at once; the rest wait here, so that they
        don't fill the queue that synchronous callers need."""
        ready = self._ready.get(function)
        spec = self._spec_of(function)
        while ready and spec is not None and not self._closed:
            running = self._running.get(function, 0)
            # One may always try: a function without concurrency throttles it.
            if running >= max(1, self._limit_of(function)):
                return
            self._running[function] = running + 1
            task = self._loop.create_task(self._run(spec, ready.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, spec: FunctionSpec, event: _Event) -> None:
        try:
            await self._attempt(spec, event)
        except ServiceStopped:
            _logger.info("Event %s of %s is kept until the next start.", event.id, event.function)
        finally:
            self._running[event.function] -= 1
            self._deliver(event.function)

    async def _attempt(self, spec: FunctionSpec, event: _Event) -> None:
        if time.time() - event.accepted > spec.max_event_age_s:
            await self._give_up(spec, event, "EventAgeExceeded", None)
            return
        try:
            result = await self._invoke(event.function, event.payload, event.id)
        except TooManyRequests:
            first, most = THROTTLE_SECONDS
            self._later(event, min(first * 2.0**event.throttled, most) * self._scale)
            event.throttled += 1
            return
        if result.function_error is None:
            await self._block(self._pending.remove, event.id)
        elif event.attempt >= spec.max_retry_attempts:
            await self._give_up(spec, event, "RetriesExhausted", result)
        else:
            seconds = RETRY_SECONDS[min(event.attempt, len(RETRY_SECONDS) - 1)] * self._scale
            event.attempt += 1
            due = time.time() + seconds
            await self._block(self._pending.add, event.id, event.function, event.payload, event.attempt, due)
            self._later(event, seconds)

    async def _give_up(
        self, spec: FunctionSpec, event: _Event, condition: Condition, result: InvokeResult | None
    ) -> None:
        """Hand the event to `on_failure` until that succeeds, then forget it."""
        attempts = event.attempt + (result is not None)
        failed = FailedEvent(event.id, event.payload, condition, attempts, result)
        first, most = THROTTLE_SECONDS
        wait = first
        while spec.on_failure is not None:
            try:
                await self._block(self._on_failure, spec, failed)
                break
            except Exception:
                _logger.exception("The failed event %s of %s couldn't be handed over.", event.id, event.function)
            await asyncio.sleep(wait * self._scale)
            wait = min(2 * wait, most)
        await self._block(self._pending.remove, event.id)

    async def _block(self, call: Callable[..., _R], *args: object) -> _R:
        return await self._loop.run_in_executor(self._executor, call, *args)
