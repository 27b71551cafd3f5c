"""The connection over which a worker's runtime asks: HTTP/1.1, one request at a time, answered whenever it can be.

An invocation crosses it twice, so it does without a task, a stream or a request object per request. Its only peer is
`awslambdaric`, on a loopback port that is told to nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol, cast

import httptools

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class RuntimeRequests(Protocol):
    """Who answers."""

    def asked(self, connection: RuntimeConnection, method: str, path: str, body: bytes | None) -> None:
        """A whole request has come; `body` is None when it was over the limit. The answer may be given later."""
        ...


class RuntimeConnection(asyncio.Protocol):
    """One connection.

    Args:
        requests: Who answers.
        limit: How large a body may be, in bytes; what is larger is read and dropped.
    """

    def __init__(self, requests: RuntimeRequests, limit: int) -> None:
        self._requests = requests
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body: list[bytes] = []
        self._size = 0
        self._continue = False

    def answer(self, status: int, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> None:
        """Answer the request that came last; nobody hears it when the runtime has hung up."""
        if self._transport is None:
            return
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody hears an answer any more."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Parse what came; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.close()

    # The parser's side

    def on_message_begin(self) -> None:
        """A request begins."""
        self._path, self._body, self._size, self._continue = b"", [], 0, False

    def on_url(self, url: bytes) -> None:
        """A part of its path."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header: of them all, only Expect matters."""
        if name.lower() == b"expect":
            self._continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """Let a large body come, if its sender waits to be let."""
        if self._continue and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._size += len(body)
        if self._size <= self._limit:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        body = b"".join(self._body) if self._size <= self._limit else None
        self._body = []
        self._requests.asked(self, self._parser.get_method().decode(), self._path.decode("latin-1"), body)
