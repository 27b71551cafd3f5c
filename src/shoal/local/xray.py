"""A small X-Ray daemon: takes segments over UDP from the functions and gives them to the local X-Ray service.

Source: https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html: a datagram is a header line
`{"format": "json", "version": 1}`, a newline, and one segment document.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import urllib.request

HOST = "127.0.0.1"
DATAGRAM_BYTES = 64 * 1024
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
        while not self._stopped.is_set():
            try:
                datagram = self._socket.recv(DATAGRAM_BYTES)
            except TimeoutError:
                continue
            document = read_segment(datagram)
            if document is None:
                continue
            try:
                self._forward(document)
            except OSError as error:
                _log.debug("A trace segment wasn't taken: %s", error)

    def _forward(self, document: str) -> None:
        body = json.dumps({"TraceSegmentDocuments": [document]}).encode()
        url = f"{self._endpoint}/TraceSegments"
        request = urllib.request.Request(url, data=body, headers=_HEADERS)  # noqa: S310 - our own loopback endpoint
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310
            return
