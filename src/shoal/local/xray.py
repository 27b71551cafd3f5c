"""A small X-Ray daemon: takes segments over UDP from the functions and gives them to the local X-Ray service.

As AWS's daemon, it sends what came within a second at once, and 50 segments at most.

Source: https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html: a datagram is a header line
`{"format": "json", "version": 1}`, a newline, and one segment document.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
import urllib.request
from collections.abc import Sequence

HOST = "127.0.0.1"
DATAGRAM_BYTES = 64 * 1024
SEND_SECONDS = 1.0
MAX_SEGMENTS = 50
_HEADERS = {
    "Content-Type": "application/x-amz-json-1.1",
    "Authorization": "AWS4-HMAC-SHA256 Credential=xray/20200101/us-east-1/xray/aws4_request, SignedHeaders=host, "
    "Signature=0",
}
_log = logging.getLogger(__name__)


def read_segment(datagram: bytes) -> str | None:
    """The segment document of a datagram, or None when it isn't one."""
    header, newline, document = datagram.partition(b"\n")
    try:
        if not newline or json.loads(header).get("format") != "json":
            return None
        json.loads(document)
        return document.decode()
    except (ValueError, AttributeError):
        return None


class XRayDaemon:
    """Forwards trace segments to the embedded cloud's `PutTraceSegments`.

    Args:
        endpoint: The AWS endpoint of the embedded cloud.
        port: UDP port; 0 takes a free one.
    """

    def __init__(self, endpoint: str, port: int = 0) -> None:
        self._endpoint = endpoint
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, port))
        self._socket.settimeout(0.5)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="x-ray", daemon=True)

    @property
    def address(self) -> str:
        """`host:port`, for AWS_XRAY_DAEMON_ADDRESS."""
        return f"{HOST}:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)
        self._socket.close()

    def _run(self) -> None:
        documents: list[str] = []
        due = 0.0
        while not self._stopped.is_set():
            try:
                document = read_segment(self._socket.recv(DATAGRAM_BYTES))
            except TimeoutError:
                document = None
            if document is not None:
                due = due if documents else time.monotonic() + SEND_SECONDS
                documents.append(document)
            if documents and (len(documents) == MAX_SEGMENTS or time.monotonic() >= due):
                self._forward(documents)
                documents = []

    def _forward(self, documents: Sequence[str]) -> None:
        body = json.dumps({"TraceSegmentDocuments": documents}).encode()
        url = f"{self._endpoint}/TraceSegments"
        request = urllib.request.Request(url, data=body, headers=_HEADERS)  # noqa: S310 - our own loopback endpoint
        try:
            with urllib.request.urlopen(request, timeout=5):  # noqa: S310
                return
        except OSError as error:
            _log.debug("%d trace segments weren't taken: %s", len(documents), error)
