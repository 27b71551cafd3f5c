"""The Runtime API's connection, byte by byte."""

from __future__ import annotations

import asyncio

import pytest

from shoal.local.compute.runtime_api import RuntimeConnection

POST = b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\nHost: x\r\n"


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed = b"", False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True


class Requests:
    """Remembers what was asked, and answers nothing."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, bytes | None]] = []

    def asked(self, connection: RuntimeConnection, method: str, path: str, body: bytes | None) -> None:
        self.found.append((method, path.rpartition("/")[2], body))


@pytest.fixture
def connected() -> tuple[RuntimeConnection, Requests, Transport]:
    requests, transport = Requests(), Transport()
    connection = RuntimeConnection(requests, limit=10)
    connection.connection_made(transport)
    return connection, requests, transport


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (POST + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
        (POST + b"Content-Length: 0\r\n\r\n", b""),
        (POST + b"Content-Length: 11\r\n\r\nhello world", None),
    ],
    ids=["plain", "chunked", "empty", "over-the-limit"],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_request_is_the_same_however_it_comes(connected, sent, body, step):
    connection, requests, _ = connected
    twice = sent * 2
    for start in range(0, len(twice), step):
        connection.data_received(twice[start : start + step])
    assert requests.found == [("POST", "response", body)] * 2


def test_a_sender_that_waits_to_be_let_is_let(connected):
    connection, requests, transport = connected
    connection.data_received(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert (transport.sent, requests.found) == (b"HTTP/1.1 100 Continue\r\n\r\n", [])
    connection.data_received(b"hello")
    connection.answer(202, b"{}", [("Content-Type", "application/json")])
    assert requests.found == [("POST", "response", b"hello")]
    wanted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
    assert transport.sent.endswith(wanted)


def test_what_is_no_http_ends_the_connection_and_late_answers_go_nowhere(connected):
    connection, requests, transport = connected
    connection.data_received(b"nonsense\r\n\r\n")
    assert transport.closed and not requests.found
    connection.connection_lost(None)
    connection.answer(200, b"late")
    assert transport.sent == b""
