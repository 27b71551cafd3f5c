"""One worker: an `awslambdaric` process, and the Runtime API that it polls.

Each worker has a Runtime API on a loopback port of its own, since the runtime's requests carry nothing else that tells
who asks. Source of the API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

A worker's `TMPDIR` is a folder of its own. `/tmp` itself is the machine's: without a container it can't be private.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import math
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shoal.local.compute import reports
from shoal.local.compute.environment import worker_environment
from shoal.local.compute.logs import WorkerLog
from shoal.local.compute.memory import peak_bytes
from shoal.local.compute.reports import Failure
from shoal.local.compute.runtime_api import RuntimeConnection
from shoal.local.compute.spec import MAX_SYNC_BYTES, VERSION, FunctionSpec, InvokeResult

_LAUNCHER = Path(__file__).with_name("launcher.py")
_RUNTIME = "/2018-06-01/runtime"
_JSON = (("Content-Type", "application/json"),)
_MEBIBYTE = 1 << 20
# Room above the function's memory for what is reserved but never touched, before RLIMIT_DATA refuses.
_RESERVED_MB = 1_024


class WorkerState(enum.Enum):
    """Where a worker stands."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ANSWERED = "answered"
    DEAD = "dead"


@dataclass(eq=False, slots=True)
class Invocation:
    """One event on its way through a worker; `future` gets the result."""

    request_id: str
    payload: bytes
    trace: str
    future: asyncio.Future[InvokeResult]
    client_context: str | None = None
    queued_at: float = field(default_factory=time.monotonic)


class WorkerOwner(Protocol):
    """Who hears of a worker's changes; called on the loop's thread."""

    def worker_idle(self, worker: Worker) -> None:
        """The worker polls for its next event."""
        ...

    def worker_exited(self, worker: Worker, *, init_failed: bool) -> None:
        """The worker is gone; `init_failed` when it never got as far as its first poll."""
        ...


class Worker:
    """One worker process of a function.

    Args:
        spec: The function.
        python: The interpreter to run it with; it must have `awslambdaric`.
        scratch: A folder that doesn't exist yet, for the worker's temporary files.
        log: Where its lines go.
        owner: Who hears of its changes.
        init_seconds: How long its start may take.
        retry: Whether it's the second try after a start that took too long.
    """

    def __init__(
        self,
        spec: FunctionSpec,
        *,
        python: str,
        scratch: Path,
        log: WorkerLog,
        owner: WorkerOwner,
        init_seconds: float,
        retry: bool = False,
    ) -> None:
        self.spec = spec
        self.state = WorkerState.STARTING
        self.doomed = False
        self.init_timed_out = False
        self.retry = retry
        self.idle_since = 0.0
        self.children_held = 0
        self.pid = 0
        self.log = log
        self._python = python
        self._scratch = scratch
        self._owner = owner
        self._init_seconds = init_seconds
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._exited: asyncio.Task[None] | None = None
        self._poll: RuntimeConnection | None = None
        self._current: Invocation | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = time.perf_counter()
        self._init_ms: float | None = None
        self._init_error: bytes | None = None
        self._returncode = 0
        self._out_of_memory = False
        self._peak = 0

    async def start(self) -> None:
        """Start the process. The owner hears of its first poll, or of its end."""
        self._began = time.perf_counter()
        self._timer = self._loop.call_later(self._init_seconds, self._init_timeout)
        try:
            process = await self._spawn()
        except OSError as error:
            message = json.dumps({"errorType": "Runtime.InvalidEntrypoint", "errorMessage": f"No worker: {error}"})
            self._init_error = message.encode()
            self._end()
            return
        self.pid = process.pid
        self._exited = self._loop.create_task(self._watch(process))
        if self.doomed:
            self.kill()

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._scratch.mkdir(parents=True)
        self._server = await self._loop.create_server(lambda: RuntimeConnection(self, MAX_SYNC_BYTES), "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.log.write(reports.init_start_line())
        data_bytes = (self.spec.memory_mb + _RESERVED_MB) * _MEBIBYTE
        with self.log.open() as output:
            # fmt: off
            return await asyncio.create_subprocess_exec(
                self._python, "-P", "-s", str(_LAUNCHER), str(os.getpid()), str(data_bytes), self.spec.handler,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.spec.code,
                env=worker_environment(self.spec, f"127.0.0.1:{port}", self._scratch, self.log.stream),
                start_new_session=True,
            )
            # fmt: on

    def assign(self, invocation: Invocation) -> None:
        """Hand an event to the idle worker."""
        poll, self._poll = self._poll, None
        if poll is None or self.state is not WorkerState.IDLE:
            raise RuntimeError(f"worker {self.pid} of {self.spec.name!r} isn't idle")
        self.state = WorkerState.BUSY
        self._current = invocation
        self._began = time.perf_counter()
        self._timer = self._loop.call_later(self.spec.timeout_s, self._timeout)
        self.log.begin(invocation.request_id, keep=self._init_ms is not None)
        self.log.write(reports.start_line(invocation.request_id))
        poll.answer(200, invocation.payload, self._headers(invocation))

    def kill(self) -> None:
        """Kill the worker with every process it started; a process that isn't there yet dies when it is."""
        self.doomed = True
        if self.pid and self.state is not WorkerState.DEAD:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> None:
        """Wait until the process is gone and everything of it is cleared away."""
        if self._exited is not None:
            await asyncio.shield(self._exited)

    def observe_memory(self, held: int) -> None:
        """Take a sample of the memory that the worker holds, in bytes; over the function's memory it's killed."""
        self._peak = max(self._peak, held)
        if held > self.spec.memory_mb * _MEBIBYTE and not self.doomed:
            self._out_of_memory = True
            self.kill()

    @property
    def watched(self) -> bool:
        """Whether its memory counts now: while it starts and while it works."""
        return self.pid > 0 and self.state in (WorkerState.STARTING, WorkerState.BUSY)

    # The Runtime API

    def asked(self, connection: RuntimeConnection, method: str, path: str, body: bytes | None) -> None:
        """Answer the runtime; a poll, when there is an event."""
        path = path.removeprefix(_RUNTIME)
        if method == "GET" and path == "/invocation/next":
            self._polled(connection)
        elif method != "POST":
            connection.answer(404)
        elif path == "/init/error":
            self._init_error = body
            connection.answer(202)
        else:
            self._answered(connection, *path.removeprefix("/invocation/").partition("/")[::2], body)

    def _polled(self, connection: RuntimeConnection) -> None:
        if self.state not in (WorkerState.STARTING, WorkerState.ANSWERED) or self.doomed:
            connection.answer(410)
            return
        if self.state is WorkerState.STARTING:
            self._init_ms = (time.perf_counter() - self._began) * 1000
            self._cancel_timer()
            self.log.drain()
        self._poll = connection
        self.state = WorkerState.IDLE
        self.idle_since = time.monotonic()
        self._owner.worker_idle(self)

    def _answered(self, connection: RuntimeConnection, request_id: str, kind: str, body: bytes | None) -> None:
        current = self._current
        if current is None or request_id != current.request_id or kind not in ("response", "error"):
            connection.answer(400, b'{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}', _JSON)
        elif body is None:
            self._finish(b"", reports.response_too_large())
            connection.answer(413, b'{"errorType":"RequestEntityTooLarge"}', _JSON)
        else:
            self._finish(body, None, failed=kind == "error")
            connection.answer(202, b'{"status":"OK"}', _JSON)

    def _headers(self, invocation: Invocation) -> list[tuple[str, str]]:
        headers = [
            *_JSON,
            ("Lambda-Runtime-Aws-Request-Id", invocation.request_id),
            ("Lambda-Runtime-Deadline-Ms", str(int((time.time() + self.spec.timeout_s) * 1000))),
            ("Lambda-Runtime-Invoked-Function-Arn", self.spec.arn),
            ("Lambda-Runtime-Trace-Id", invocation.trace),
        ]
        if invocation.client_context is not None:
            headers.append(("Lambda-Runtime-Client-Context", invocation.client_context))
        return headers

    # The end of an invocation, and of the worker

    def _finish(self, payload: bytes, failure: Failure | None, *, failed: bool = False) -> None:
        """Settle the current invocation: with the runtime's answer, or with a failure of Lambda's own."""
        invocation, self._current = self._current, None
        if invocation is None:
            return
        duration_ms = (time.perf_counter() - self._began) * 1000
        self._cancel_timer()
        self.log.drain()
        if self.state is WorkerState.BUSY:
            self.state = WorkerState.ANSWERED
            if failure is None:
                failure = self._overuse(invocation.request_id)
        result = self._result(invocation, payload, failure, failed=failed, duration_ms=duration_ms)
        self._init_ms = None
        if not invocation.future.done():
            invocation.future.set_result(result)

    def _overuse(self, request_id: str) -> Failure | None:
        """What the worker used too much of, unseen until now; it's recycled then."""
        self._peak = max(self._peak, peak_bytes(self.pid))
        used = _folder_bytes(self._scratch)
        failure = None
        if self._peak > self.spec.memory_mb * _MEBIBYTE:
            failure = reports.exited(request_id, -signal.SIGKILL, out_of_memory=True)
        elif used > self.spec.ephemeral_mb * _MEBIBYTE:
            failure = reports.storage_full(math.ceil(used / _MEBIBYTE), self.spec.ephemeral_mb)
        if failure is not None:
            self.kill()
        return failure

    def _result(
        self, invocation: Invocation, payload: bytes, failure: Failure | None, *, failed: bool, duration_ms: float
    ) -> InvokeResult:
        used_mb = min(math.ceil(self._peak / _MEBIBYTE), self.spec.memory_mb)
        if failure is not None:
            payload, failed = failure.payload, True
            for line in failure.line.splitlines():
                self.log.write(line)
        self.log.write(reports.end_line(invocation.request_id))
        self.log.write(
            reports.report_line(
                invocation.request_id,
                duration_ms=duration_ms,
                init_ms=self._init_ms,
                memory_mb=self.spec.memory_mb,
                used_mb=used_mb,
                failure=failure,
            )
        )
        return InvokeResult(
            status=200,
            payload=payload,
            function_error="Unhandled" if failed else None,
            log_tail=self.log.end(),
            executed_version=VERSION,
            request_id=invocation.request_id,
            duration_ms=duration_ms,
            init_ms=self._init_ms,
            billed_ms=reports.billed_ms(duration_ms, self._init_ms),
            memory_mb=used_mb,
        )

    def fail(self, invocation: Invocation) -> None:
        """Settle an event that this worker would have taken, had its start not failed."""
        self._current = invocation
        self._began = time.perf_counter()
        self.log.begin(invocation.request_id, keep=True)
        self.log.write(reports.start_line(invocation.request_id))
        self._finish(b"", self._init_failure(invocation.request_id))

    def _timeout(self) -> None:
        if self._current is not None:
            request_id = self._current.request_id
            self.kill()
            self._finish(b"", reports.timed_out(request_id, self.spec.timeout_s))

    def _init_timeout(self) -> None:
        self.init_timed_out = True
        self.kill()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        self._returncode = await process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._end()

    def _end(self) -> None:
        """Settle what the process left open and clear away what it had."""
        self.log.drain()
        init_failed = self.state is WorkerState.STARTING
        self.state = WorkerState.DEAD
        self.doomed = True
        self._cancel_timer()
        if self._current is not None:
            request_id = self._current.request_id
            self._finish(b"", reports.exited(request_id, self._returncode, out_of_memory=self._out_of_memory))
        if init_failed:
            self._init_ms = (time.perf_counter() - self._began) * 1000
            failure = self._init_failure("")
            self.log.write(reports.init_report_line(self._init_ms, failure.status, failure.error_type))
        if self._poll is not None:
            self._poll.answer(410)
        self._owner.worker_exited(self, init_failed=init_failed)
        self.log.close()
        if self._server is not None:
            self._server.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _init_failure(self, request_id: str) -> Failure:
        if self.init_timed_out:
            return reports.timed_out(request_id, self._init_seconds)
        if self._init_error is not None:
            return reports.init_failed(self._init_error)
        return reports.exited(request_id, self._returncode, out_of_memory=self._out_of_memory)


def _folder_bytes(folder: str | Path) -> int:
    """What the files under a folder take on disk, in bytes; what goes meanwhile takes nothing."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _folder_bytes(entry.path)
            else:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total
