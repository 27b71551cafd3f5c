"""Brings a queue's messages to a function, as Lambda's mapping of an SQS queue does.

Messages that the function doesn't manage show up again when their visibility timeout is over; the queue's redrive
policy moves them to its dead-letter queue after too many receives.
Source: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shoal.local.compute.errors import LambdaError, ServiceStopped
from shoal.local.queues import Queues
from shoal.local.streaming.mappings import (
    MAX_EVENT_BYTES,
    RECORD_OVERHEAD_BYTES,
    EventSourceMapping,
    Invoker,
    failed_ids,
    sqs_event,
)

# Lambda begins with five batches of a queue at a time.
CONCURRENCY = 5
_IDLE_SECONDS = 0.2
_RECEIVED_AT_ONCE = 10
_log = logging.getLogger(__name__)


class QueuePoller:
    """One mapping of a queue.

    Args:
        mapping: The mapping.
        queues: SQS.
        service: Lambda.
    """

    def __init__(self, mapping: EventSourceMapping, queues: Queues, service: Invoker) -> None:
        self._mapping = mapping
        self._queues = queues
        self._service = service
        self._stopped = threading.Event()
        most = mapping.max_concurrency or CONCURRENCY
        self._free = threading.Semaphore(most)
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=f"{mapping.source_name}-batches")
        self._thread = threading.Thread(target=self._run, name=f"{mapping.source_name}-poller", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; messages on their way stay in the queue."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait for its end, shortly."""
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._free.acquire()
                messages = self._gather()
                if messages and not self._stopped.is_set():
                    self._pool.submit(self._deliver, messages)
                else:
                    self._free.release()
            except Exception:  # noqa: BLE001 - a poller must outlive whatever one batch meets
                self._free.release()
                _log.exception("Polling queue %s failed; it goes on.", self._mapping.source_name)
                self._stopped.wait(1.0)

    def _gather(self) -> list[dict[str, Any]]:
        """The next batch: full, or what came within the window; empty when nothing came for a while."""
        messages: list[dict[str, Any]] = []
        size, deadline = 0, time.monotonic() + _IDLE_SECONDS
        while len(messages) < self._mapping.batch_size and size < MAX_EVENT_BYTES // 2 and not self._stopped.is_set():
            wanted = min(_RECEIVED_AT_ONCE, self._mapping.batch_size - len(messages))
            found = self._queues.receive(self._mapping.source_name, wanted)
            if found and not messages:
                deadline = time.monotonic() + self._mapping.window_s
            messages += found
            size += sum(len(str(message["body"])) + RECORD_OVERHEAD_BYTES for message in found)
            if not found:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._stopped.wait(min(left, _IDLE_SECONDS / 4))
        return messages

    def _deliver(self, messages: list[dict[str, Any]]) -> None:
        try:
            result = self._service.invoke(self._mapping.function_name, sqs_event(self._mapping, messages))
            failed = failed_ids(result, [str(message["messageId"]) for message in messages], self._mapping.partial)
            done = [str(each["receiptHandle"]) for each in messages if each["messageId"] not in failed]
            self._queues.delete(self._mapping.source_name, done)
        except ServiceStopped:
            self._stopped.set()
        except LambdaError as error:
            _log.info("%s can't take messages now: %s", self._mapping.function_name, error)
        except Exception:  # noqa: BLE001 - its messages show up again; the others go on
            _log.exception("A batch of queue %s failed inside the embedded cloud.", self._mapping.source_name)
        finally:
            self._free.release()
