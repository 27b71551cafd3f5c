"""Lambda's control and invoke API for the rest of the embedded cloud: thread-safe, on one loop in one thread."""

from __future__ import annotations

import asyncio
import atexit
import base64
import binascii
import dataclasses
import json
import shutil
import sys
import tempfile
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from shoal.local.compute.environment import check_environment
from shoal.local.compute.errors import BadInvocation, FunctionNotFound, RequestTooLarge, ServiceStopped
from shoal.local.compute.events import EventQueue
from shoal.local.compute.fleet import Fleet
from shoal.local.compute.pending import PendingEvents
from shoal.local.compute.reports import trace_header
from shoal.local.compute.sampling import Sampler
from shoal.local.compute.spec import (
    INIT_SECONDS,
    MAX_ASYNC_BYTES,
    MAX_SYNC_REQUEST_BYTES,
    FailedEvent,
    FunctionSpec,
    InvocationType,
    InvokeResult,
    LogRecord,
    check_spec,
)
from shoal.local.compute.worker import Invocation

_R = TypeVar("_R")
_BLOCKING_THREADS = 4


class LambdaService:
    """Runs deployed functions in worker processes.

    Its event loop runs on a thread of its own, so every method may be called from any thread, `ainvoke` from any event
    loop. Differences from AWS, on purpose: a synchronous call that finds all workers busy waits in a bounded queue
    instead of being throttled at once, and an idle worker isn't frozen.

    Args:
        python: The interpreter for workers; it must have `awslambdaric`.
        log_sink: Gets every log record, in order per worker. Called on the loop's thread: it mustn't wait.
        pending: Where asynchronous events are kept until they're settled. Called on threads of its own.
        on_failure: Gets the events that are given up, of functions with an `on_failure` queue. Called on threads of
            its own; when it raises, it's called again later.
        max_workers_per_function: The bound per function; a smaller reserved concurrency takes precedence.
        max_workers_total: The bound on all workers together.
        idle_seconds: How long an idle worker is kept.
        init_seconds: How long a cold start may take (AWS: 10 s).
        retry_time_scale: What AWS's waits before a retry (60 s, then 120 s) are multiplied by.
        scratch: A folder for workers' temporary folders, emptied at start; a new one by default.
    """

    def __init__(
        self,
        *,
        python: str = sys.executable,
        log_sink: Callable[[LogRecord], None],
        pending: PendingEvents,
        on_failure: Callable[[FunctionSpec, FailedEvent], None],
        max_workers_per_function: int,
        max_workers_total: int,
        idle_seconds: float,
        init_seconds: float = INIT_SECONDS,
        retry_time_scale: float = 1 / 60,
        scratch: Path | None = None,
    ) -> None:
        self._python = python
        self._log_sink = log_sink
        self._pending = pending
        self._on_failure = on_failure
        self._max_per_function = max_workers_per_function
        self._max_total = max_workers_total
        self._idle_seconds = idle_seconds
        self._init_seconds = init_seconds
        self._retry_time_scale = retry_time_scale
        self._scratch = scratch
        self._specs: dict[str, FunctionSpec] = {}
        self._samplers: defaultdict[str, Sampler] = defaultdict(Sampler)
        self._waiting: set[asyncio.Future[InvokeResult]] = set()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._folder = Path()
        self._executor: ThreadPoolExecutor | None = None
        self._fleet: Fleet | None = None
        self._events: EventQueue | None = None

    @property
    def functions(self) -> Mapping[str, FunctionSpec]:
        """The deployed functions by name: a copy."""
        return dict(self._specs)

    @property
    def running(self) -> bool:
        """Whether `start` was called and `close` wasn't."""
        return self._fleet is not None

    def start(self) -> None:
        """Start the loop's thread and deliver what's pending."""
        with self._lock:
            if self._thread is not None:
                return
            if self._scratch is None:
                self._folder = Path(tempfile.mkdtemp(prefix="shoal-lambda-"))
            else:
                shutil.rmtree(self._scratch, ignore_errors=True)
                self._scratch.mkdir(parents=True)
                self._folder = self._scratch
            self._loop = uvloop.new_event_loop()
            self._executor = ThreadPoolExecutor(_BLOCKING_THREADS, thread_name_prefix="shoal-lambda-io")
            self._thread = threading.Thread(target=self._loop.run_forever, name="shoal-lambda", daemon=True)
            self._thread.start()
            atexit.register(self.close)
            self.run(self._start(self._executor))

    def close(self) -> None:
        """Kill all workers, stop the loop. Callers that wait get `ServiceStopped`; pending events stay pending."""
        with self._lock:
            if self._thread is None or self._loop is None or self._executor is None:
                return
            self.run(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._thread = self._loop = self._executor = None
            shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)

    def run(self, work: Coroutine[Any, Any, _R]) -> _R:
        """Run a coroutine on the service's loop and wait for its result; not from that loop's own thread."""
        if self._loop is None:
            work.close()
            raise ServiceStopped("The Lambda service isn't running.", "Start it first.")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def deploy(self, spec: FunctionSpec) -> None:
        """Create or replace a function; before or after `start`. Workers of the old one finish their work and go.

        Raises:
            BadFunction: AWS would refuse it.
        """
        check_spec(spec)
        check_environment(spec)
        self._specs[spec.name] = spec
        if self.running:
            self.run(self._deploy(spec))

    def invoke(
        self,
        name: str,
        payload: bytes,
        *,
        invocation_type: InvocationType = "RequestResponse",
        log_tail: bool = False,
        client_context: str | None = None,
    ) -> InvokeResult:
        """Invoke a function and wait: for its answer, or (`Event`) until the event is kept.

        Args:
            name: The function's name or ARN, with or without `$LATEST`.
            payload: JSON; nothing at all counts as `{}`.
            invocation_type: As in `X-Amz-Invocation-Type`.
            log_tail: Whether to give back the last 4 KB of its log.
            client_context: Base64 of JSON, as in `X-Amz-Client-Context`.

        Raises:
            FunctionNotFound: No such function.
            RequestTooLarge: Over 6 MB, or 1 MB for an `Event`.
            BadInvocation: Not JSON.
            TooManyRequests: Too many wait already.
            ServiceStopped: The service isn't running, or is stopped while the caller waits.
        """
        return self.run(self._invoke(name, payload, invocation_type, log_tail, client_context))

    async def ainvoke(
        self,
        name: str,
        payload: bytes,
        *,
        invocation_type: InvocationType = "RequestResponse",
        log_tail: bool = False,
        client_context: str | None = None,
    ) -> InvokeResult:
        """As `invoke`, without blocking the caller's event loop."""
        work = self._invoke(name, payload, invocation_type, log_tail, client_context)
        if self._loop is None or self._loop is asyncio.get_running_loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _start(self, executor: ThreadPoolExecutor) -> None:
        self._fleet = Fleet(
            python=self._python,
            log_sink=self._log_sink,
            scratch=self._folder,
            max_per_function=self._max_per_function,
            max_total=self._max_total,
            idle_seconds=self._idle_seconds,
            init_seconds=self._init_seconds,
        )
        for spec in self._specs.values():
            self._fleet.deploy(spec)
        self._events = EventQueue(
            invoke=self._run_function,
            spec_of=self._specs.get,
            limit_of=lambda name: self._fleet.pools[name].limit if self._fleet else 0,
            pending=self._pending,
            on_failure=self._on_failure,
            time_scale=self._retry_time_scale,
            executor=executor,
        )
        await self._events.restore()

    async def _deploy(self, spec: FunctionSpec) -> None:
        if self._fleet is not None and self._events is not None:
            self._fleet.deploy(spec)
            self._events.deployed(spec.name)

    async def _close(self) -> None:
        fleet, events = self._fleet, self._events
        self._fleet = self._events = None
        stopped = ServiceStopped("The Lambda service was stopped.", "Start it and invoke again.")
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(stopped)
        if events is not None:
            await events.close()
        if fleet is not None:
            await fleet.close()

    async def _invoke(
        self, name: str, payload: bytes, invocation_type: str, log_tail: bool, client_context: str | None
    ) -> InvokeResult:
        spec = self._spec(name)
        payload = payload or b"{}"
        _check_payload(payload, invocation_type)
        request_id = str(uuid.uuid4())
        if invocation_type == "DryRun":
            return InvokeResult(204, b"", request_id=request_id)
        if invocation_type == "Event":
            if self._events is None:
                raise ServiceStopped("The Lambda service isn't running.", "Start it first.")
            await self._events.accept(request_id, spec.name, payload)
            return InvokeResult(202, b"", request_id=request_id)
        result = await self._run_function(spec.name, payload, request_id, _client_context(client_context))
        return result if log_tail else dataclasses.replace(result, log_tail=None)

    async def _run_function(
        self, name: str, payload: bytes, request_id: str, client_context: str | None = None
    ) -> InvokeResult:
        if self._fleet is None:
            raise ServiceStopped("The Lambda service isn't running.", "Start it first.")
        future: asyncio.Future[InvokeResult] = asyncio.get_running_loop().create_future()
        trace = trace_header(self._specs[name].tracing and self._samplers[name].takes_next())
        self._waiting.add(future)
        try:
            self._fleet.submit(name, Invocation(request_id, payload, trace, future, client_context))
            # Shielded: on AWS too, a function runs on when its caller hangs up.
            return await asyncio.shield(future)
        finally:
            self._waiting.discard(future)

    def _spec(self, name: str) -> FunctionSpec:
        parts = name.split(":")
        plain = parts[parts.index("function") + 1] if "function" in parts[:-1] else parts[0]
        if plain not in self._specs:
            raise FunctionNotFound(f"Function not found: {name}", "Check the name, or deploy it.")
        return self._specs[plain]


def _check_payload(payload: bytes, invocation_type: str) -> None:
    """Refuse what Invoke refuses, in its words."""
    if invocation_type not in ("RequestResponse", "Event", "DryRun"):
        raise BadInvocation(
            f"Invocation type {invocation_type!r} doesn't exist.", "Use RequestResponse, Event or DryRun."
        )
    if invocation_type == "Event" and len(payload) > MAX_ASYNC_BYTES:
        raise RequestTooLarge(
            f"{len(payload)} byte payload is too large for the Event invocation type (limit {MAX_ASYNC_BYTES} bytes)",
            "Put the data into S3 and send its key.",
        )
    if len(payload) > MAX_SYNC_REQUEST_BYTES:
        raise RequestTooLarge(
            f"Request must be smaller than {MAX_SYNC_REQUEST_BYTES} bytes for the InvokeFunction operation",
            "Put the data into S3 and send its key.",
        )
    try:
        json.loads(payload)
    except ValueError as error:
        raise BadInvocation(f"Could not parse request body into json: {error}", "Send JSON.") from error


def _client_context(encoded: str | None) -> str | None:
    """The client context as a header of the Runtime API: JSON in ASCII."""
    if encoded is None:
        return None
    try:
        return json.dumps(json.loads(base64.b64decode(encoded, validate=True)))
    except (ValueError, binascii.Error) as error:
        raise BadInvocation("Client context must be a valid Base64-encoded JSON object.", "Encode it so.") from error
