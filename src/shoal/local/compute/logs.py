"""A worker's log: from its pipe, line by line, to the sink, with the tail that Invoke can ask for."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shoal.local.compute.spec import LOG_TAIL_BYTES, FunctionSpec, LogRecord

_logger = logging.getLogger(__name__)

_READ_BYTES = 65_536
# CloudWatch's limit on one event; a longer line is cut.
_LINE_BYTES = 262_144
_DRAIN_BYTES = 8 << 20


class WorkerLog:
    """Turns what a worker writes into `LogRecord`s, in order.

    The worker's output comes through a pipe that's read without blocking, so `drain` takes exactly what was written
    before an answer: the handler's lines stand between its START and END lines.

    Args:
        spec: The function.
        stream: The log stream's name.
        sink: Who gets the records; called on the loop's thread, so it mustn't wait for anything slow.
    """

    def __init__(self, spec: FunctionSpec, stream: str, sink: Callable[[LogRecord], None]) -> None:
        self.stream = stream
        self._spec = spec
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._reader: int | None = None
        self._partial = b""
        self._request_id: str | None = None
        self._tail = bytearray()

    @contextmanager
    def open(self) -> Iterator[int]:
        """The write end of the pipe, for the worker to inherit; the own copy is closed on leaving."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self._reader = reader
        self._loop.add_reader(reader, self._read)
        try:
            yield writer
        finally:
            os.close(writer)

    def begin(self, request_id: str, *, keep: bool) -> None:
        """Start an invocation: its lines carry its id. `keep` leaves the cold start's lines in the tail."""
        self.drain()
        self._request_id = request_id
        if not keep:
            self._tail.clear()

    def end(self) -> bytes:
        """End an invocation; its last 4 KB."""
        tail = bytes(self._tail[-LOG_TAIL_BYTES:])
        self._tail.clear()
        self._request_id = None
        return tail

    def write(self, line: str) -> None:
        """Write a line of Lambda's own."""
        self._emit(line)

    def drain(self) -> None:
        """Take all that the worker has written so far, its last unfinished line too."""
        taken = 0
        while taken < _DRAIN_BYTES and (size := self._read()):
            taken += size
        if self._partial:
            partial, self._partial = self._partial, b""
            self._emit(partial.decode(errors="replace"))

    def close(self) -> None:
        """Close the pipe."""
        if self._reader is not None:
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            self._reader = None

    def _read(self) -> int:
        if self._reader is None:
            return 0
        chunk = b""
        with suppress(BlockingIOError):
            chunk = os.read(self._reader, _READ_BYTES)
            if not chunk:
                self._loop.remove_reader(self._reader)
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            self._emit(line.decode(errors="replace"))
        if len(self._partial) > _LINE_BYTES:
            partial, self._partial = self._partial, b""
            self._emit(partial.decode(errors="replace"))
        return len(chunk)

    def _emit(self, line: str) -> None:
        # The runtime joins the lines of one traceback by carriage returns, so that it stays one event.
        message = line.rstrip("\r").replace("\r", "\n")
        self._tail += message.encode() + b"\n"
        if len(self._tail) > 4 * LOG_TAIL_BYTES:
            del self._tail[:-LOG_TAIL_BYTES]
        record = LogRecord(
            log_group=self._spec.log_group,
            log_stream=self.stream,
            timestamp_ms=time.time_ns() // 1_000_000,
            message=message,
            request_id=self._request_id,
            source=self._spec.name,
        )
        try:
            self._sink(record)
        except Exception:
            # A log that can't be kept mustn't fail the invocation that wrote it.
            _logger.exception("A log record of %s was lost.", self._spec.name)
