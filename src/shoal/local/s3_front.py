"""What the embedded cloud does around moto's S3: atomic conditions, durable writes, one event a write, cheap ranges."""

from __future__ import annotations

import base64
import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import BinaryIO
from xml.etree import ElementTree

from moto.s3.models import FakeDeleteMarker, FakeKey
from werkzeug.formparser import parse_form_data

from shoal.local.aws_request import AwsRequest
from shoal.local.aws_response import AwsResponse, WsgiApp, call, error_response
from shoal.local.cloud_state import CloudState
from shoal.local.delivery import Accepted, EventDelivery
from shoal.local.s3_events import ObjectWrite, created_event
from shoal.local.s3_state import BodyFile, MotoVersion, Written

_STRIPES = 64
_PIECE = 1 << 20
_FORM = "application/x-www-form-urlencoded"
_SUBRESOURCES = ("tagging", "acl", "retention", "legal-hold")
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")
_PLAIN_READ = {"versionId", "x-id"}


class S3Front:
    """Answers S3 requests through moto.

    Args:
        app: Moto's WSGI application.
        state: Where finished writes are recorded.
        delivery: Takes the event of every finished write.
    """

    def __init__(self, app: WsgiApp, state: CloudState, delivery: EventDelivery) -> None:
        self._app = app
        self._state = state
        self._delivery = delivery
        self._locks = [threading.RLock() for _ in range(_STRIPES)]

    def answer(self, request: AwsRequest) -> AwsResponse:
        """Answer one request; a write is durable, and its event accepted, before this returns."""
        if request.method in ("GET", "HEAD"):
            return self._read(request)
        if not request.key:
            return self._change_bucket(request)
        if "partNumber" in request.query or "uploads" in request.query:
            return self._forward(request)
        return self._change(request, [request.key])

    def _change(self, request: AwsRequest, keys: list[str]) -> AwsResponse:
        response_ids = (uuid.uuid4().hex[:16].upper(), base64.b64encode(uuid.uuid4().bytes * 3).decode())
        with self._locked(request.bucket, keys):
            refused = self._check_conditions(request, keys[0]) if len(keys) == 1 else None
            if refused is not None:
                return refused
            response = self._forward(request)
            if not response.ok or self._holds_error(request, response):
                return response
            accepted: list[Accepted] = []
            for key in keys:
                self._state.s3.keep_bodies(request.bucket, key)
            with self._state.store.transaction():
                for key in keys:
                    written = self._state.s3.record_key(request.bucket, key)
                    event = self._event_name(request, written)
                    if written is not None and event:
                        write = self._describe(request, key, written, event, response_ids)
                        accepted += self._delivery.accept(write)
        self._delivery.deliver(accepted)
        response.set_header("x-amz-request-id", response_ids[0])
        response.set_header("x-amz-id-2", response_ids[1])
        return response

    def _change_bucket(self, request: AwsRequest) -> AwsResponse:
        if request.method == "POST" and "delete" in request.query:
            return self._change(request, _keys_to_delete(request.body))
        if request.method == "POST":
            key = _form_key(request)
            return self._change(request, [key]) if key else self._forward(request)
        response = self._forward(request)
        if response.ok and request.bucket:
            self._state.s3.record_bucket(request.bucket)
        return response

    def _forward(self, request: AwsRequest) -> AwsResponse:
        """Moto's answer. It takes a form-encoded body for a form and loses it, so it is told another type."""
        content_type = request.header("Content-Type")
        is_form = content_type.startswith(_FORM)
        if is_form:
            request.environ["CONTENT_TYPE"] = "binary/octet-stream"
        for name in ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"):
            if request.method not in ("GET", "HEAD"):
                request.environ.pop(name, None)
        request.rewind()
        response = call(self._app, request.environ)
        if is_form and response.ok and request.method == "PUT" and request.key:
            newest = self._state.s3.newest(request.bucket, request.key)
            if isinstance(newest, FakeKey):
                newest.set_metadata({"Content-Type": content_type})
        return response

    @contextmanager
    def _locked(self, bucket: str, keys: Iterable[str]) -> Iterator[None]:
        with ExitStack() as stack:
            for index in sorted({hash((bucket, key)) % _STRIPES for key in keys}):
                stack.enter_context(self._locks[index])
            yield

    def _check_conditions(self, request: AwsRequest, key: str) -> AwsResponse | None:
        """The refusal of a conditional write or delete whose condition doesn't hold. Atomic: the key is locked."""
        none_match, match = request.header("If-None-Match"), request.header("If-Match")
        if not none_match and not match:
            return None
        newest = self._state.s3.newest(request.bucket, key)
        present = isinstance(newest, FakeKey)
        failed = "At least one of the pre-conditions you specified did not hold"
        if none_match:
            if none_match != "*":
                message = "A header you provided implies functionality that is not implemented."
                return error_response(request, "NotImplemented", message, 501)
            return error_response(request, "PreconditionFailed", failed, 412) if present else None
        if not present:
            return error_response(request, "NoSuchKey", "The specified key does not exist.", 404)
        if match != "*" and newest.etag.strip('"') != match.strip('"'):
            return error_response(request, "PreconditionFailed", failed, 412)
        return None

    def _holds_error(self, request: AwsRequest, response: AwsResponse) -> bool:
        """Whether a completion answered 200 with an error inside, as S3 may."""
        return "uploadId" in request.query and b"<Error>" in b"".join(response.body)

    def _event_name(self, request: AwsRequest, written: Written | None) -> str:
        if written is None or any(name in request.query for name in _SUBRESOURCES):
            return ""
        if written.marker:
            return "ObjectRemoved:DeleteMarkerCreated"
        if written.deleted or request.method == "DELETE":
            return "ObjectRemoved:Delete"
        return created_event(
            request.method, multipart="uploadId" in request.query, copy=bool(request.header("x-amz-copy-source"))
        )

    def _describe(
        self, request: AwsRequest, key: str, written: Written, event: str, response_ids: tuple[str, str]
    ) -> ObjectWrite:
        bucket = self._state.s3.bucket(request.bucket)
        return ObjectWrite(
            event=event,
            bucket=request.bucket,
            key=key,
            region=bucket.region_name if bucket else "us-east-1",
            version=written.version,
            sequence=written.sequence,
            size=written.size,
            etag=written.etag,
            principal=request.access_key or "anonymous",
            source_ip=str(request.environ.get("REMOTE_ADDR", "127.0.0.1")),
            request_id=response_ids[0],
            host_id=response_ids[1],
        )

    def _read(self, request: AwsRequest) -> AwsResponse:
        """GET and HEAD. A plain GET of an object, whole or a range, is read from its file piece by piece."""
        version = self._plain_version(request)
        if version is None:
            return self._head(request) if request.method == "HEAD" else self._forward(request)
        request.environ["REQUEST_METHOD"] = "HEAD"
        wanted = request.environ.pop("HTTP_RANGE", "")
        response = self._head(request)
        request.environ["REQUEST_METHOD"] = "GET"
        if response.status != 200:
            request.environ["HTTP_RANGE"] = wanted
            return self._forward(request)  # moto's GET has the error's body
        return _send_file(request, response, version, wanted)

    def _head(self, request: AwsRequest) -> AwsResponse:
        """Moto's answer to HEAD, with the checksum of a multipart object marked as one of its parts' checksums.

        Moto marks it in GET only; a client that takes it for the whole object's refuses the object.
        """
        response = self._forward(request)
        found = self._state.s3.version(request.bucket, request.key, request.query.get("versionId", ""))
        if isinstance(found, FakeKey) and found.checksum_type == "COMPOSITE" and found.checksum_algorithm:
            name = f"x-amz-checksum-{found.checksum_algorithm.lower()}"
            if response.header(name) == found.checksum_value:
                response.set_header(name, f"{found.checksum_value}-{found.checksum_parts}")
                response.set_header("x-amz-checksum-type", found.checksum_type)
        return response

    def _plain_version(self, request: AwsRequest) -> FakeKey | None:
        names = {name for name in request.query if not name.startswith("X-Amz-")}
        conditional = any(name.startswith("HTTP_IF_") for name in request.environ)
        if request.method != "GET" or not request.key or names - _PLAIN_READ or conditional:
            return None
        found = self._state.s3.version(request.bucket, request.key, request.query.get("versionId", ""))
        if isinstance(found, FakeDeleteMarker) or not isinstance(getattr(found, "_value_buffer", None), BodyFile):
            return None
        return found if isinstance(found, FakeKey) else None


def _send_file(request: AwsRequest, response: AwsResponse, version: MotoVersion, wanted: str) -> AwsResponse:
    size: int = version.contentsize
    start, end = 0, size
    if wanted:
        span = parse_range(wanted, size)
        if span is None:
            refused = error_response(request, "InvalidRange", "The requested range is not satisfiable", 416)
            refused.set_header("Content-Range", f"bytes */{size}")
            return refused
        start, end = span
        response.status = 206 if (start, end) != (0, size) or _RANGE.match(wanted) else 200
        if response.status == 206:
            response.set_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            # The kept checksum is the whole object's; a client that compares it with the part would refuse the part.
            response.headers = [each for each in response.headers if not each[0].lower().startswith("x-amz-checksum")]
    response.set_header("Content-Length", str(end - start))
    response.set_header("Accept-Ranges", "bytes")
    # Opened now, not when the server asks: the object may be overwritten meanwhile, and its reader keeps what it saw.
    response.body = _pieces(version._value_buffer.path.open("rb"), start, end - start)
    return response


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of a Range header; the whole where S3 ignores it; None where it can't be satisfied."""
    found = _RANGE.match(text.strip())
    if found is None or (not found[1] and not found[2]):
        return 0, size
    if not found[1]:
        return (max(0, size - int(found[2])), size) if int(found[2]) and size else None
    start = int(found[1])
    if start >= size:
        return None
    end = min(size, int(found[2]) + 1) if found[2] else size
    return (start, end) if end > start else (0, size)


def _pieces(file: BinaryIO, start: int, left: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while left > 0:
            data = file.read(min(left, _PIECE))
            if not data:
                return
            left -= len(data)
            yield data


def _keys_to_delete(body: bytes) -> list[str]:
    """Keys of a DeleteObjects request."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - local only, and expat of every supported Python bounds entities
    except ElementTree.ParseError:
        return []
    keys = [each.text or "" for each in root.iter() if each.tag.rpartition("}")[2] == "Key"]
    return sorted(set(keys))


def _form_key(request: AwsRequest) -> str:
    """The key that a browser-style POST upload writes; `${filename}` stands for the file's name.

    Moto takes the key literally, so the form is given to it with the name filled in.
    """
    environ = dict(request.environ)
    environ["wsgi.input"] = BytesIO(request.body)
    _, form, files = parse_form_data(environ)
    key = str(form.get("key", ""))
    if "${filename}" in key and "file" in files:
        name = files["file"].filename or ""
        request.replace_body(request.body.replace(b"${filename}", name.encode(), 1))
        key = key.replace("${filename}", name)
    return key
