"""What one HTTP request to the embedded cloud is: which service, which operation, on what, by whose key."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

Environ = dict[str, Any]

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/(\d+)/([^/]+)/([^/]+)/aws4_request")
_BUCKET_HOST = re.compile(r"^(?P<bucket>[a-z0-9][a-z0-9.-]+)\.(?:s3[.-].*amazonaws\.com|s3\.localhost.*|localhost)$")
_TARGETS = {
    "DynamoDB_20120810": "dynamodb",
    "DynamoDBStreams_20120810": "dynamodbstreams",
    "AmazonSQS": "sqs",
    "AWSStepFunctions": "states",
    "AWSEvents": "events",
    "AmazonSSM": "ssm",
    "secretsmanager": "secretsmanager",
    "Kinesis_20131202": "kinesis",
    "Logs_20140328": "logs",
    "AWSLambda": "lambda",
    "SageMaker": "sagemaker",
}
_CHUNK = 1 << 20


@dataclass
class AwsRequest:
    """One request, its body read.

    Attributes:
        environ: The WSGI environment; `wsgi.input` is at the body's start.
        method: HTTP method.
        path: Path, percent-decoded, as text.
        query: Query parameters; a parameter without a value is the empty string.
        body: The whole body.
        service: Signing name of the service (`s3`, `dynamodb`, `states` …).
        operation: Name after the dot of X-Amz-Target, the Query API's Action, or empty.
        access_key: Access key that signed it, or empty.
        bucket: S3 bucket, or empty.
        key: S3 key, or empty.
    """

    environ: Environ
    method: str
    path: str
    query: dict[str, str]
    body: bytes
    service: str
    operation: str
    access_key: str
    bucket: str = ""
    key: str = ""
    _json: Any = field(default=None, repr=False)

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one when it isn't."""
        if self._json is None:
            try:
                value = json.loads(self.body or b"{}")
            except ValueError:
                value = {}
            self._json = value if isinstance(value, dict) else {}
        result: dict[str, Any] = self._json
        return result

    def header(self, name: str) -> str:
        """A request header's value, or the empty string."""
        key = name.upper().replace("-", "_")
        return str(self.environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", ""))

    @property
    def headers(self) -> dict[str, str]:
        """All request headers, names in lower case with dashes."""
        found = {k[5:].lower().replace("_", "-"): str(v) for k, v in self.environ.items() if k.startswith("HTTP_")}
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if self.environ.get(name):
                found[name.lower().replace("_", "-")] = str(self.environ[name])
        return found

    def replace_body(self, body: bytes) -> None:
        """Make `body` what the services read."""
        self.body, self._json = body, None
        self.rewind()

    def rewind(self) -> None:
        """Put `wsgi.input` at the body's start."""
        self.environ["wsgi.input"] = io.BytesIO(self.body)
        self.environ["wsgi.input_terminated"] = True
        self.environ["CONTENT_LENGTH"] = str(len(self.body))


def read_request(environ: Environ) -> AwsRequest:
    """Read a WSGI request to its end and tell what it is."""
    path = environ.get("PATH_INFO", "/").encode("latin-1").decode("utf-8", "replace")
    query = {k: v[0] for k, v in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).items()}
    body = b"".join(_body_parts(environ))
    access_key, service = _signer(environ, query)
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    prefix, _, operation = target.rpartition(".")
    if not service:
        service = _TARGETS.get(prefix, "lambda" if path.startswith("/2015-03-31/") else "s3")
    request = AwsRequest(environ, environ["REQUEST_METHOD"], path, query, body, service, operation, access_key)
    request.rewind()
    if service == "s3":
        request.bucket, request.key = _bucket_and_key(environ, path)
    elif not operation:
        request.operation = query.get("Action", "") or _form_action(body)
    return request


def _body_parts(environ: Environ) -> Iterable[bytes]:
    """The body in pieces, whether its length is told or it comes chunked."""
    stream = environ["wsgi.input"]
    if not environ.get("wsgi.input_terminated"):
        left = int(environ.get("CONTENT_LENGTH") or 0)
        while left > 0:
            data = stream.read(min(left, _CHUNK))
            if not data:
                return
            left -= len(data)
            yield data
        return
    while data := stream.read(_CHUNK):
        yield data


def _signer(environ: Environ, query: dict[str, str]) -> tuple[str, str]:
    """Access key and service of a SigV4 signature, in the header or presigned; empty strings without one."""
    text = str(environ.get("HTTP_AUTHORIZATION", ""))
    if not text and "X-Amz-Credential" in query:
        text = f"Credential={query['X-Amz-Credential']}"
    found = _CREDENTIAL.search(unquote(text))
    if found:
        return found[1], found[4].lower()
    return query.get("AWSAccessKeyId", ""), ""


def _bucket_and_key(environ: Environ, path: str) -> tuple[str, str]:
    host = str(environ.get("HTTP_HOST", "")).split(":")[0]
    virtual = _BUCKET_HOST.match(host)
    if virtual:
        return virtual["bucket"], path[1:]
    bucket, _, key = path[1:].partition("/")
    return bucket, key


def _form_action(body: bytes) -> str:
    if len(body) > _CHUNK or b"Action=" not in body:
        return ""
    return parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[0]
