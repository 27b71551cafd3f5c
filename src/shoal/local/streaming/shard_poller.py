"""Brings a shard's records to a function, as Lambda's mapping of a Kinesis stream does: in order, retried, halved.

Source: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html and the pages beside it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shoal.local.compute.errors import LambdaError, ServiceStopped
from shoal.local.compute.spec import InvokeResult
from shoal.local.streaming.mappings import (
    MAX_EVENT_BYTES,
    RECORD_OVERHEAD_BYTES,
    EventSourceMapping,
    Invoker,
    SendToQueue,
    failed_ids,
    given_up,
    kinesis_event,
)
from shoal.local.streaming.records import RecordLog, StreamRecord

_IDLE_SECONDS = 1.0
# Lambda's waits between retries aren't documented; they grow, and a laptop's are short.
RETRY_SECONDS = (0.1, 10.0)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FunctionRole:
    """What an event says of the function: its ARN and its role's."""

    arn: str
    role_arn: str


@dataclass
class _Batch:
    records: list[StreamRecord]
    attempts: int = 0


class ShardPoller:
    """One lane of one shard: at any moment at most one batch of it is with the function.

    Args:
        mapping: The mapping.
        shard: Id of the shard.
        lane: Which part of the keys, from 0; there are `mapping.parallelization`.
        log: The records.
        function: The function's ARNs.
        service: Lambda.
        send: Puts a message into a queue.
        retry_seconds: The first and the longest wait before a retry.
    """

    def __init__(
        self,
        mapping: EventSourceMapping,
        shard: str,
        lane: int,
        log: RecordLog,
        function: FunctionRole,
        service: Invoker,
        send: SendToQueue,
        retry_seconds: tuple[float, float] = RETRY_SECONDS,
    ) -> None:
        self._mapping = mapping
        self._shard, self._lane = shard, lane
        self._records = log
        self._function = function
        self._service = service
        self._send = send
        self._retry_seconds = retry_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{mapping.source_name}-{shard}-{lane}", daemon=True)
        self._after = 0

    def start(self) -> None:
        """Begin where the last time ended, or where the mapping says."""
        found = self._records.checkpoint(self._mapping.id, self._mapping.source_name, self._shard, self._lane)
        if found is None:
            found = self._beginning()
            self._note(found)
        self._after = found
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; what isn't checkpointed is delivered again at the next start."""
        self._stopped.set()

    def join(self) -> None:
        """Wait for its end, shortly."""
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _beginning(self) -> int:
        stream = self._mapping.source_name
        if self._mapping.start == "LATEST":
            return self._records.last(stream, self._shard)
        if self._mapping.start == "AT_TIMESTAMP":
            return self._records.last(stream, self._shard, self._mapping.start_at)
        return 0

    def _note(self, number: int) -> None:
        self._after = number
        self._records.set_checkpoint(self._mapping.id, self._mapping.source_name, self._shard, self._lane, number)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                records = self._gather()
                if records:
                    self._deliver(records)
            except ServiceStopped:
                return
            except Exception:  # noqa: BLE001 - a poller must outlive whatever one batch meets
                _log.exception("Polling %s of %s failed; it goes on.", self._shard, self._mapping.source_name)
                self._stopped.wait(_IDLE_SECONDS)

    def _gather(self) -> list[StreamRecord]:
        """The next batch: full, or what came within the window; empty when nothing came for a while."""
        deadline: float | None = None
        while not self._stopped.is_set():
            puts = self._records.puts
            read = self._records.read(self._mapping.source_name, self._shard, self._after, self._mapping.batch_size)
            records = bounded([record for record in read if self._is_ours(record)], self._mapping.batch_size)
            if read and not records:  # all of other lanes
                self._note(read[-1].number)
                continue
            full = len(read) == self._mapping.batch_size or len(records) < len(read)
            deadline = deadline or (time.monotonic() + self._mapping.window_s if records else None)
            if records and (full or time.monotonic() >= (deadline or 0.0)):
                return records
            left = _IDLE_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            self._records.wait(puts, min(left, _IDLE_SECONDS))
        return []

    def _is_ours(self, record: StreamRecord) -> bool:
        lanes = self._mapping.parallelization
        return lanes == 1 or hashlib.sha256(record.key.encode()).digest()[0] % lanes == self._lane

    def _deliver(self, records: list[StreamRecord]) -> None:
        """Bring a batch to its end: managed or given up, in order."""
        waiting = deque([_Batch(records)])
        while waiting and not self._stopped.is_set():
            batch = waiting.popleft()
            old = self._aged(batch.records)
            if old:
                self._give_up(batch.records[:old], "RecordAgeExceeded", batch.attempts, None)
                batch.records = batch.records[old:]
                if not batch.records:
                    continue
            result = self._invoke(batch.records)
            if result is None:
                waiting.appendleft(batch)
                continue
            waiting.extendleft(reversed(self._left(batch, result)))

    def _aged(self, records: Sequence[StreamRecord]) -> int:
        """How many of the first records are too old."""
        if self._mapping.max_age_s is None:
            return 0
        oldest = time.time() - self._mapping.max_age_s
        return next((place for place, record in enumerate(records) if record.arrived >= oldest), len(records))

    def _invoke(self, records: Sequence[StreamRecord]) -> InvokeResult | None:
        """The function's answer; None when Lambda couldn't take the batch, which isn't an attempt."""
        event = kinesis_event(self._mapping, self._shard, records, self._function.role_arn)
        try:
            return self._service.invoke(self._mapping.function_name, event)
        except ServiceStopped:
            raise
        except LambdaError as error:
            _log.info("%s waits: %s", self._mapping.function_name, error)
            self._stopped.wait(_IDLE_SECONDS)
            return None

    def _left(self, batch: _Batch, result: InvokeResult) -> list[_Batch]:
        """What is left of a batch after the function's answer, in order."""
        failed = failed_ids(result, [record.sequence for record in batch.records], self._mapping.partial)
        first = next((place for place, each in enumerate(batch.records) if each.sequence in failed), len(batch.records))
        if first:
            self._note(batch.records[first - 1].number)
        rest = batch.records[first:]
        if not rest:
            return []
        if self._mapping.bisect and result.function_error is not None and len(rest) > 1:
            # Halving doesn't count against the retries.
            middle = len(rest) // 2
            return [_Batch(rest[:middle], batch.attempts), _Batch(rest[middle:], batch.attempts)]
        attempts = 1 if first else batch.attempts + 1
        if self._mapping.max_retries is not None and attempts > self._mapping.max_retries:
            self._give_up(rest, "RetryAttemptsExhausted", attempts, result)
            return []
        shortest, longest = self._retry_seconds
        self._stopped.wait(min(longest, shortest * 2.0 ** min(attempts - 1, 20)))
        return [_Batch(rest, attempts)]

    def _give_up(
        self,
        records: Sequence[StreamRecord],
        condition: Literal["RetryAttemptsExhausted", "RecordAgeExceeded"],
        attempts: int,
        result: InvokeResult | None,
    ) -> None:
        if self._mapping.on_failure is not None:
            queue = self._mapping.on_failure.rpartition(":")[2]
            arn = self._function.arn
            self._send(queue, given_up(self._mapping, arn, self._shard, records, condition, attempts, result))
        self._note(records[-1].number)


def bounded(records: Sequence[StreamRecord], most: int) -> list[StreamRecord]:
    """The first records that fit into one event."""
    size = 0
    for count, record in enumerate(records):
        size += len(record.data) * 4 // 3 + len(record.key) + RECORD_OVERHEAD_BYTES
        if count == most or (count and size > MAX_EVENT_BYTES):
            return list(records[:count])
    return list(records)
