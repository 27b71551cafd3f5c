"""The pools of workers, one per function, under one bound on all of them.

An event waits in its function's queue until a worker polls for it. Queues are served oldest event first. A function
starts another worker while its queue is longer than the workers about to become free; when the total is reached, the
idle worker that has waited longest goes to make room.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from shoal.local.compute import reports
from shoal.local.compute.errors import TooManyRequests
from shoal.local.compute.logs import WorkerLog
from shoal.local.compute.memory import children_bytes, resident_bytes
from shoal.local.compute.spec import FunctionSpec, LogRecord
from shoal.local.compute.worker import Invocation, Worker, WorkerState

MAX_QUEUED = 1_000
_SAMPLE_SECONDS = 0.02
_CHILDREN_EVERY = 10


class FunctionPool:
    """One function's workers and the events that wait for them."""

    def __init__(self, spec: FunctionSpec, limit: int) -> None:
        self.spec = spec
        self.limit = limit if spec.reserved_concurrency is None else min(limit, spec.reserved_concurrency)
        self.workers: set[Worker] = set()
        self.queue: deque[Invocation] = deque()
        # The next start gets the function's whole timeout: the one before it took longer than the init phase may.
        self.long_init = False

    def idle(self) -> list[Worker]:
        """Workers that wait for an event, the most recently used last."""
        return sorted(
            (worker for worker in self.workers if worker.state is WorkerState.IDLE and not worker.doomed),
            key=lambda worker: worker.idle_since,
        )

    def hand_out(self) -> None:
        """Give waiting events to idle workers, the most recently used first."""
        while self.queue and self.queue[0].future.done():
            self.queue.popleft()
        if not self.queue:
            return
        idle = self.idle()
        while self.queue and idle:
            invocation = self.queue.popleft()
            if not invocation.future.done():
                idle.pop().assign(invocation)

    def wants_worker(self) -> bool:
        """Whether the queue is longer than the workers about to become free, and another is allowed."""
        soon = sum(
            not worker.doomed and worker.state in (WorkerState.STARTING, WorkerState.ANSWERED)
            for worker in self.workers
        )
        return len(self.queue) > soon and len(self.workers) < self.limit


class Fleet:
    """All workers of the embedded cloud. Lives on one event loop; nothing here is thread-safe.

    Args:
        python: The interpreter for workers.
        log_sink: Who gets their log records.
        scratch: The folder that holds their temporary folders.
        max_per_function: The bound per function, besides its reserved concurrency.
        max_total: The bound on all workers together.
        idle_seconds: How long an idle worker is kept.
        init_seconds: How long a start may take (10 s on AWS).
    """

    def __init__(
        self,
        *,
        python: str,
        log_sink: Callable[[LogRecord], None],
        scratch: Path,
        max_per_function: int,
        max_total: int,
        idle_seconds: float,
        init_seconds: float,
    ) -> None:
        self.pools: dict[str, FunctionPool] = {}
        self._python = python
        self._log_sink = log_sink
        self._scratch = scratch
        self._max_per_function = max_per_function
        self._max_total = max_total
        self._idle_seconds = idle_seconds
        self._init_seconds = init_seconds
        self._workers: set[Worker] = set()
        self._retired: dict[Worker, FunctionPool] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count()
        self._active = asyncio.Event()
        self._closed = False
        self._tasks = [asyncio.create_task(self._sample_memory()), asyncio.create_task(self._reap_idle())]

    def deploy(self, spec: FunctionSpec) -> None:
        """Take a new or changed function. Workers of the old one finish what they do and go; its queue stays."""
        pool = FunctionPool(spec, self._max_per_function)
        if old := self.pools.get(spec.name):
            pool.queue = old.queue
            for worker in old.workers:
                self._retired[worker] = old
                if worker.state is not WorkerState.BUSY:
                    worker.kill()
        self.pools[spec.name] = pool
        self.pump()

    def submit(self, name: str, invocation: Invocation) -> None:
        """Queue an event for a function. Raises `TooManyRequests`."""
        pool = self.pools[name]
        if pool.limit == 0:
            raise TooManyRequests(
                f"Function {name!r} has a reserved concurrency of 0.",
                "Raise it or remove it.",
                "ReservedFunctionConcurrentInvocationLimitExceeded",
            )
        if len(pool.queue) >= MAX_QUEUED:
            raise TooManyRequests(
                f"Function {name!r} has all {pool.limit} workers busy and {len(pool.queue)} invocations waiting.",
                "Invoke it less often, or retry with a delay.",
            )
        pool.queue.append(invocation)
        pool.hand_out()
        if pool.queue:
            self.pump()
        self._watch_memory()

    def pump(self) -> None:
        """Serve the queues, oldest event first: idle workers take events, missing workers are started."""
        if self._closed:
            return
        waiting = [pool for pool in self.pools.values() if pool.queue]
        waiting.sort(key=lambda pool: pool.queue[0].queued_at)
        for pool in waiting:
            pool.hand_out()
            while pool.wants_worker() and self._make_room(pool):
                self._start_worker(pool)
        self._watch_memory()

    def _watch_memory(self) -> None:
        """Wake the memory watch, which sleeps while no worker starts or works."""
        if not self._active.is_set() and self._any_watched():
            self._active.set()

    def _any_watched(self) -> bool:
        return any(worker.watched or worker.state is WorkerState.STARTING for worker in self._workers)

    def _make_room(self, pool: FunctionPool) -> bool:
        """Whether a worker may start now. When all places are taken, an idle worker of another function is killed; its
        end pumps again."""
        if len(self._workers) < self._max_total:
            return True
        if any(worker.doomed for worker in self._workers):
            return False
        spare = [
            worker
            for other in self.pools.values()
            if other is not pool and (not other.queue or not pool.workers)
            for worker in other.idle()
        ]
        if spare:
            min(spare, key=lambda worker: worker.idle_since).kill()
        return False

    def _start_worker(self, pool: FunctionPool) -> None:
        spec = pool.spec
        retry, pool.long_init = pool.long_init, False
        worker = Worker(
            spec,
            python=self._python,
            scratch=self._scratch / f"{spec.name}-{next(self._numbers)}",
            log=WorkerLog(spec, reports.log_stream_name(), self._log_sink),
            owner=self,
            init_seconds=spec.timeout_s if retry else self._init_seconds,
            retry=retry,
        )
        pool.workers.add(worker)
        self._workers.add(worker)
        task = asyncio.create_task(worker.start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    def worker_idle(self, worker: Worker) -> None:
        """A worker polls for its next event."""
        if worker in self._retired:
            worker.kill()
        else:
            self.pump()

    def worker_exited(self, worker: Worker, *, init_failed: bool) -> None:
        """A worker is gone. When its start failed, the oldest waiting event is told why, unless another try is due."""
        self._workers.discard(worker)
        retired = self._retired.pop(worker, None)
        pool = retired or self.pools.get(worker.spec.name)
        if pool is not None:
            pool.workers.discard(worker)
        if init_failed and pool is not None and retired is None and not self._closed:
            self._init_failed(pool, worker)
        self.pump()

    def _init_failed(self, pool: FunctionPool, worker: Worker) -> None:
        """As on AWS, a start that took too long is tried again with the function's timeout; others aren't."""
        if worker.init_timed_out and not worker.retry:
            pool.long_init = True
            return
        while pool.queue:
            invocation = pool.queue.popleft()
            if not invocation.future.done():
                worker.fail(invocation)
                return

    async def close(self) -> None:
        """Kill every worker and wait until they're gone; events that wait are left unanswered."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._starting, return_exceptions=True)
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(worker.wait() for worker in workers)), 5.0)

    async def _sample_memory(self) -> None:
        for tick in itertools.count():
            watched = {worker.pid: worker for worker in self._workers if worker.watched}
            if not self._any_watched():
                self._active.clear()
                await self._active.wait()
                continue
            if tick % _CHILDREN_EVERY == 0:
                _observe_children(watched.values(), children_bytes(watched))
            for pid, worker in watched.items():
                worker.observe_memory(resident_bytes(pid) + worker.children_held)
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _reap_idle(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, max(0.05, self._idle_seconds / 4)))
            oldest = time.monotonic() - self._idle_seconds
            for pool in self.pools.values():
                for worker in pool.idle():
                    if worker.idle_since < oldest:
                        worker.kill()


def _observe_children(workers: Iterable[Worker], held: dict[int, int]) -> None:
    for worker in workers:
        worker.children_held = held.get(worker.pid, 0)
