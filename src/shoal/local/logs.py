"""Function logs: into moto's CloudWatch Logs, so that any client reads them, and into files, so that they stay."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from pathlib import Path

from moto.logs.models import LogsBackend, logs_backends

from shoal.local.compute.spec import LogRecord

EVENTS_PER_GROUP = 10_000
FILE_BYTES = 20 << 20
_PERIOD_SECONDS = 0.2
_QUEUE_LENGTH = 100_000
_log = logging.getLogger(__name__)


class LogCollector:
    """Takes log records without waiting and writes them in batches.

    Args:
        folder: Where `<function>.log` files go; one over 20 MiB is moved to `<function>.log.1`.
        account: Account id.
        region: Region.
        events_per_group: How many events of a log group the API keeps; older ones are only in the files.
        follow: Gets every record after it was written; for `shoal up` in the foreground.
        metrics: Gets every batch of records, for the metrics in them.
    """

    def __init__(
        self,
        folder: Path,
        account: str,
        region: str,
        events_per_group: int = EVENTS_PER_GROUP,
        follow: Callable[[LogRecord], None] | None = None,
        metrics: Callable[[Iterable[LogRecord]], None] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._account, self._region = account, region
        self._events_per_group = events_per_group
        self._follow = follow
        self._metrics = metrics
        self._queue: deque[LogRecord] = deque(maxlen=_QUEUE_LENGTH)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self.flush()

    def add(self, record: LogRecord) -> None:
        """Take a record; returns at once. When writing can't keep up, the oldest waiting records are dropped."""
        self._queue.append(record)

    def flush(self) -> None:
        """Write everything that waits."""
        records: list[LogRecord] = []
        while self._queue:
            records.append(self._queue.popleft())
        if not records:
            return
        by_stream: dict[tuple[str, str], list[LogRecord]] = defaultdict(list)
        by_source: dict[str, list[LogRecord]] = defaultdict(list)
        for record in records:
            by_stream[(record.log_group, record.log_stream)].append(record)
            by_source[record.source].append(record)
        for source, lines in by_source.items():
            self._append(source, lines)
        for (group, stream), lines in by_stream.items():
            self._put(group, stream, lines)
        if self._follow is not None:
            for record in records:
                self._follow(record)
        if self._metrics is not None:
            self._metrics(records)

    def _run(self) -> None:
        while not self._stopped.wait(_PERIOD_SECONDS):
            try:
                self.flush()
            except Exception:  # noqa: BLE001 - the writer must outlive one bad batch
                _log.exception("Function logs couldn't be written.")

    def _append(self, source: str, records: list[LogRecord]) -> None:
        path = self._folder / f"{source}.log"
        if path.exists() and path.stat().st_size > FILE_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{record.message}\n" for record in records)

    def _put(self, group_name: str, stream_name: str, records: list[LogRecord]) -> None:
        backend: LogsBackend = logs_backends[self._account][self._region]
        if group_name not in backend.groups:
            backend.create_log_group(group_name, {})
        group = backend.groups[group_name]
        if stream_name not in group.streams:
            backend.create_log_stream(group_name, stream_name)
        events = [{"timestamp": record.timestamp_ms, "message": record.message} for record in records]
        backend.put_log_events(group_name, stream_name, events)
        self._trim(group)

    def _trim(self, group: object) -> None:
        """Drop the oldest events, and streams that have none left, beyond the bound."""
        streams = group.streams  # type: ignore[attr-defined]
        excess = sum(len(stream.events) for stream in streams.values()) - self._events_per_group
        for name in list(streams):
            if excess <= 0:
                return
            stream = streams[name]
            dropped = min(excess, len(stream.events))
            del stream.events[:dropped]
            excess -= dropped
            if not stream.events:
                del streams[name]
