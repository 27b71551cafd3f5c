"""Answers of the embedded cloud that don't come from moto: in the form that the service itself would use."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

from shoal.local.aws_request import AwsRequest, Environ

StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_JSON_PREFIXES = {
    "dynamodb": "com.amazonaws.dynamodb.v20120810#",
    "sqs": "com.amazonaws.sqs#",
}
_JSON_SERVICES = {"dynamodb", "sqs", "states", "events", "ssm", "secretsmanager", "logs", "kms", "kinesis"}


@dataclass
class AwsResponse:
    """One whole answer: status, headers, and the body in pieces."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: Iterable[bytes] = ()

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.status < 400

    def header(self, name: str) -> str:
        """A response header's value, or the empty string."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def set_header(self, name: str, value: str) -> None:
        """Set a response header, in place of any of the same name."""
        self.headers = [(key, old) for key, old in self.headers if key.lower() != name.lower()]
        self.headers.append((name, value))

    def send(self, start_response: StartResponse) -> Iterable[bytes]:
        """Give the answer to a WSGI server."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        start_response(f"{self.status} {phrase}", self.headers)
        return self.body


def call(app: WsgiApp, environ: Environ) -> AwsResponse:
    """Run a WSGI application to its end and hold its answer."""
    kept: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], None]:
        kept["status"], kept["headers"] = int(status.split(" ", 1)[0]), list(headers)
        return lambda data: None

    answer = app(environ, start_response)
    try:
        body = b"".join(answer)
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    return AwsResponse(kept["status"], kept["headers"], [body])


def json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> AwsResponse:
    """A JSON answer with a request id."""
    fields = {"Content-Type": "application/json"} | dict(headers or {})
    return bytes_response(status, json.dumps(value, separators=(",", ":")).encode(), fields)


def bytes_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> AwsResponse:
    """An answer with its length and a request id."""
    fields = [("Content-Length", str(len(body))), ("x-amzn-RequestId", str(uuid.uuid4())), *(headers or {}).items()]
    return AwsResponse(status, fields, [body])


def error_response(request: AwsRequest, code: str, message: str, status: int = 400) -> AwsResponse:
    """An error in the requested service's own format: S3's XML, JSON 1.0/1.1, Lambda's REST JSON or the Query API's."""
    if request.service == "s3":
        return _s3_error(request, code, message, status)
    if request.service == "lambda":
        return json_response(
            status,
            {"Type": "User" if status < 500 else "Service", "Message": message, "message": message},
            {"x-amzn-ErrorType": code},
        )
    if request.service in _JSON_SERVICES or request.header("X-Amz-Target"):
        value = {"__type": _JSON_PREFIXES.get(request.service, "") + code, "message": message, "Message": message}
        content_type = request.header("Content-Type") or "application/x-amz-json-1.0"
        headers = {"Content-Type": content_type, "x-amzn-ErrorType": code}
        if request.service == "sqs":
            headers["x-amzn-query-error"] = f"{code};Sender"
        return bytes_response(status, json.dumps(value).encode(), headers)
    text = (
        f'<?xml version="1.0"?><ErrorResponse><Error><Type>Sender</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    )
    return bytes_response(status, text.encode(), {"Content-Type": "text/xml"})


def _s3_error(request: AwsRequest, code: str, message: str, status: int) -> AwsResponse:
    request_id = uuid.uuid4().hex[:16].upper()
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        f"<Resource>{escape(request.path)}</Resource><RequestId>{request_id}</RequestId></Error>"
    )
    body = b"" if request.method == "HEAD" else text.encode()
    return AwsResponse(
        status,
        [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), ("x-amz-request-id", request_id)],
        [body],
    )
